//! `orchestrator hosts`.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::{EXIT_NOT_AS_EXPECTED, print};
use crate::config::{House, OWN_SERVERS, ServerSpec};
use crate::hosts::Host;
use crate::hosts::edit::Entry;

#[derive(clap::Subcommand)]
pub(super) enum HostsCommand {
    /// Add the gateway, or servers of the house, to a host's own configuration; shows the change first
    Install(InstallArguments),
    /// Take the last change of a host's configuration back
    Undo {
        /// The host
        #[arg(value_enum)]
        host: Host,
    },
}

#[derive(clap::Args)]
pub(super) struct InstallArguments {
    /// The host
    #[arg(value_enum)]
    host: Host,
    /// These servers of the house, each by itself: ralph,git
    #[arg(long, value_delimiter = ',', value_name = "NAMES", conflicts_with = "gateway")]
    servers: Vec<String>,
    /// All servers as one, which is also what happens without --servers
    #[arg(long)]
    gateway: bool,
    /// Another file than the host's usual one
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(house: &House, command: HostsCommand) -> anyhow::Result<ExitCode> {
    match command {
        HostsCommand::Install(arguments) => install(house, &arguments),
        HostsCommand::Undo { host } => {
            let path = host.undo(&house.state_dir)?;
            print(&format!("{} is as it was\n", path.display()));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn install(house: &House, arguments: &InstallArguments) -> anyhow::Result<ExitCode> {
    let entries = entries(house, &arguments.servers)?;
    let plan = arguments.host.plan(arguments.file.as_deref(), &house.workspace, &house.state_dir, &entries)?;
    if plan.changes_nothing() {
        print(&format!("{} has it already\n", plan.path.display()));
        return Ok(ExitCode::SUCCESS);
    }
    print(&plan.diff());
    if !arguments.yes && !agreed()? {
        print("nothing was written; `--yes` writes it\n");
        return Ok(ExitCode::from(EXIT_NOT_AS_EXPECTED));
    }
    plan.apply(&house.state_dir)?;
    print(&format!("written to {}; `orchestrator hosts undo` takes it back\n", plan.path.display()));
    Ok(ExitCode::SUCCESS)
}

fn agreed() -> anyhow::Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(false);
    }
    print("write this? [y/N] ");
    let mut line = String::new();
    stdin.lock().read_line(&mut line).context("cannot read the answer")?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// Returns what the host is to start: by full paths, since hosts do not have the PATH of a terminal.
fn entries(house: &House, servers: &[String]) -> anyhow::Result<Vec<Entry>> {
    let text = |path: PathBuf| {
        path.into_os_string().into_string().map_err(|path| anyhow::anyhow!("{} is not UTF-8", path.display()))
    };
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    // What the servers get to find one ledger and one configuration, the gateway needs too.
    let common = |spec: &ServerSpec| spec.arguments.clone();
    if servers.is_empty() {
        let mut args = vec!["serve".to_owned()];
        args.extend(house.common_arguments.iter().cloned());
        return Ok(vec![Entry { name: "tollgate".to_owned(), command: text(own)?, args }]);
    }
    servers
        .iter()
        .map(|name| {
            let Some(spec) = house.servers.iter().find(|spec| spec.own && spec.name == *name) else {
                bail!("`{name}` is not a server of the house in use; there are {}", OWN_SERVERS.join(", "));
            };
            Ok(Entry { name: name.clone(), command: text(spec.program.clone())?, args: common(spec) })
        })
        .collect()
}
