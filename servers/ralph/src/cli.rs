//! The program's commands: without one it serves MCP; `verify` is the same law for git hooks, CI and agents' hooks.

mod report;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use tollgate_shared::config::Settings;
use tollgate_shared::error_chain::Chain;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::{CommonArguments, EXIT_USAGE, Server, Startup, log_to_stderr, serve};
use tollgate_shared::state_dir::StateDir;

use crate::Ralph;
use crate::check::{Check, Verdict};
use crate::client::Client;
use crate::command::files::{self, Judged};
use crate::config::RalphConfig;
use crate::roots::{self, Place};
use crate::tools::verify_changes;
use crate::verify::{self, FileReport, Order, Subject};
use report::{Format, Summary};

/// Exit code of findings that can be fixed.
const EXIT_FAIL: u8 = 1;

/// Exit code of everything else that is no pass: a human decides, or nothing was verified.
const EXIT_BLOCKED: u8 = 2;

/// Most findings of a change that are printed.
const FINDINGS_MAX: usize = 500;

/// Most files of one run.
const FILES_MAX: usize = 200_000;

/// Verifies code: an MCP server over stdio; with `verify`, a check for git hooks, CI and agents' hooks
#[derive(Parser)]
#[command(name = "mcp-ralph", version)]
struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Verify files; exit code 0: pass, 1: fail, 2: blocked, not verified, or not run
    Verify(VerifyArguments),
}

#[derive(clap::Args)]
struct VerifyArguments {
    /// Files and folders, relative to the working directory [default: the workspace]; what git ignores does not count
    paths: Vec<String>,
    /// Verify what the working tree changes against this commit, as verify_changes does; without a commit, against where
    /// the branch left the default branch
    #[arg(long, value_name = "REV", num_args = 0..=1, default_missing_value = "", conflicts_with = "paths")]
    base: Option<String>,
    /// A check to run; may be given several times [default: all; without --base, all but the operator's commands]
    #[arg(long = "check", value_name = "CHECK")]
    checks: Vec<String>,
    /// Exit with 0 also when no check applies to any file
    #[arg(long)]
    allow_skipped: bool,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Parses the arguments, and serves or verifies.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(Command::Verify(command)) = arguments.command.filter(|_| !arguments.common.check_config) else {
        return serve::<Ralph>(&arguments.common, env!("CARGO_PKG_VERSION"));
    };
    let allow_skipped = command.allow_skipped;
    match run(&arguments.common, &command) {
        Ok(Verdict::Skipped) if allow_skipped => ExitCode::SUCCESS,
        Ok(verdict) => ExitCode::from(exit_code(verdict)),
        Err(error) => {
            match error.downcast_ref::<Refusal>() {
                Some(refusal) => eprintln!("mcp-ralph: {} ({})\n{}", refusal.message, refusal.code, refusal.hint),
                None => eprintln!("mcp-ralph: {}", Chain(error.as_ref())),
            }
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Returns the exit code of `verdict`: nothing but a pass is 0.
fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => 0,
        Verdict::Fail => EXIT_FAIL,
        Verdict::Blocked | Verdict::Skipped | Verdict::Inconclusive => EXIT_BLOCKED,
    }
}

fn run(common: &CommonArguments, command: &VerifyArguments) -> anyhow::Result<Verdict> {
    log_to_stderr(&common.log).map_err(anyhow::Error::msg)?;
    let settings = Settings::<RalphConfig>::load(Ralph::NAME, common.config.as_deref())?;
    let state_dir = StateDir::choose(common.state_dir.as_deref(), &settings.workspace);
    let startup = Startup {
        workspace: settings.workspace,
        state_dir,
        ralph_rules: settings.ralph_rules,
        secrets: settings.secrets,
    };
    let server = Arc::new(Ralph::new(settings.own, &startup)?);
    let checks = Check::wanted((!command.checks.is_empty()).then_some(command.checks.as_slice()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(base) = &command.base {
        let base = Some(base.clone()).filter(|base| !base.is_empty());
        return runtime.block_on(change(&server, &startup.workspace, base, &checks, command.format));
    }
    let places = places(&server, &startup.workspace, &command.paths)?;
    let named = checks.iter().any(|check| !command.checks.is_empty() && check.is_command());
    let mut summary = Summary::new(command.format);
    if named {
        let reports = runtime.block_on(with_commands(&server, places, checks))?;
        reports.into_iter().for_each(|report| summary.add(report));
    } else {
        let order = Order { checks, stop_on_failure: false, cancelled: Arc::new(|| false) };
        let subjects = places.into_iter().map(Subject::on_disk).collect();
        runtime.block_on(verify::verify_each(&server, order, subjects, |verified| summary.add(verified.report)))?;
    }
    summary.print()?;
    Ok(summary.verdict())
}

/// Verifies the files with the operator's commands, which were asked for by name.
async fn with_commands(
    server: &Arc<Ralph>,
    places: Vec<Place>,
    checks: Vec<Check>,
) -> Result<Vec<FileReport>, Refusal> {
    let client = Client::command_line();
    let mut by_name: BTreeMap<String, Place> =
        places.iter().map(|place| (place.shown.clone(), place.clone())).collect();
    let mut judged = Vec::with_capacity(places.len());
    let subjects = places.into_iter().map(Subject::on_disk).collect();
    verify::verify_each(server, Order::of(&client, &checks), subjects, |verified| {
        let report = verified.report;
        if let Some(place) = by_name.remove(&report.path) {
            judged.push(Judged { place, given: None, report });
        }
    })
    .await?;
    files::complete(server, &client, &mut judged, &checks, true).await?;
    Ok(judged.into_iter().map(|judged| judged.report).collect())
}

/// Verifies a change, of the repository that the working directory is in.
async fn change(
    server: &Arc<Ralph>,
    workspace: &Path,
    base: Option<String>,
    checks: &[Check],
    format: Format,
) -> anyhow::Result<Verdict> {
    let here = std::env::current_dir()?.canonicalize()?;
    // A hook may be started outside the workspace, where the configuration names it.
    let place = match server.roots.place(&here.to_string_lossy()) {
        Ok(place) => place,
        Err(_) => server.roots.place(&workspace.to_string_lossy())?,
    };
    let client = Client::command_line();
    let report = verify_changes::verify(server, &client, place, base, checks, 0, FINDINGS_MAX).await?;
    report::print_change(&report, format)?;
    Ok(report.verdict)
}

/// Finds the files that `paths` name, each once; folders stand for what is in them.
fn places(server: &Ralph, workspace: &Path, paths: &[String]) -> anyhow::Result<Vec<Place>> {
    if paths.is_empty() {
        return Ok(server.roots.find(&roots::globs(&["**".to_owned()])?, FILES_MAX, || false)?);
    }
    let here = std::env::current_dir()?;
    let (mut found, mut folders) = (Vec::new(), Vec::new());
    for path in paths {
        let absolute = here.join(path);
        if absolute.is_dir() {
            folders.push(globset::escape(&inside(workspace, &absolute)?));
        } else {
            found.push(server.roots.place(&absolute.to_string_lossy())?);
        }
    }
    if !folders.is_empty() {
        let globs: Vec<String> =
            folders.iter().map(|folder| if folder.is_empty() { "**".into() } else { format!("{folder}/**") }).collect();
        found.extend(server.roots.find(&roots::globs(&globs)?, FILES_MAX, || false)?);
    }
    found.sort_by(|left, right| left.shown.cmp(&right.shown));
    found.dedup_by(|left, right| left.shown == right.shown);
    Ok(found)
}

/// Names a folder the way that the files in it are named: relative to the workspace where it is inside.
fn inside(workspace: &Path, folder: &Path) -> anyhow::Result<String> {
    let (workspace, folder) = (workspace.canonicalize()?, folder.canonicalize()?);
    Ok(folder.strip_prefix(&workspace).unwrap_or(&folder).to_string_lossy().into_owned())
}
