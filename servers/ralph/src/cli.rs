//! The program's commands: without one it serves MCP; `verify` is the same law for git hooks, CI and agents' hooks.

mod report;

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
use crate::config::RalphConfig;
use crate::roots::{self, Place};
use crate::verify::{self, Order, Subject};
use report::{Format, Summary};

/// Exit code of findings that can be fixed.
const EXIT_FAIL: u8 = 1;

/// Exit code of everything else that is no pass: a human decides, or nothing was verified.
const EXIT_BLOCKED: u8 = 2;

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
    /// A check to run; may be given several times [default: all but the operator's commands]
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
    let startup = Startup { workspace: settings.workspace, state_dir, ralph_rules: settings.ralph_rules };
    let server = Arc::new(Ralph::new(settings.own, &startup)?);
    let checks = Check::wanted((!command.checks.is_empty()).then_some(command.checks.as_slice()))?;
    if let Some(check) = checks.iter().find(|check| !command.checks.is_empty() && check.is_command()) {
        anyhow::bail!("{} is made of the operator's commands, which only the server's tools run", check.name());
    }
    let places = places(&server, &startup.workspace, &command.paths)?;
    let order = Order { checks, stop_on_failure: false, cancelled: Arc::new(|| false) };
    let mut summary = Summary::new(command.format);
    let subjects = places.into_iter().map(Subject::on_disk).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(verify::verify_each(&server, order, subjects, |verified| summary.add(verified.report)))?;
    summary.print()?;
    Ok(summary.verdict())
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
    found.dedup();
    Ok(found)
}

/// Names a folder the way that the files in it are named: relative to the workspace where it is inside.
fn inside(workspace: &Path, folder: &Path) -> anyhow::Result<String> {
    let (workspace, folder) = (workspace.canonicalize()?, folder.canonicalize()?);
    Ok(folder.strip_prefix(&workspace).unwrap_or(&folder).to_string_lossy().into_owned())
}
