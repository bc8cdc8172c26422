//! The program's commands: without one it serves MCP; with one it is in the hands of a person.

pub mod approve;
pub mod show;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use jiff::Timestamp;
use serde_json::Value;
use tollgate_shared::audit::AuditEntry;
use tollgate_shared::config::Settings;
use tollgate_shared::error_chain::Chain;
use tollgate_shared::identity::Agent;
use tollgate_shared::ids::EntryId;
use tollgate_shared::ledger::{Ledger, NewEntry};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::{CommonArguments, EXIT_USAGE, Server, Startup, log_to_stderr, serve};
use tollgate_shared::state_dir::StateDir;

use crate::Deploy;
use crate::config::DeployConfig;

/// Exit code of what a rule refuses.
const EXIT_REFUSED: u8 = 1;

/// Gated deployments: an MCP server over stdio; with a command, the desk of those who approve
#[derive(Parser)]
#[command(name = "mcp-deploy", version)]
struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// List what waits for approval
    Approvals,
    /// Show one request and sign it with your SSH key
    Approve(approve::ApproveArguments),
    /// Refuse one request
    Deny(approve::DenyArguments),
}

/// What the commands work on.
pub struct Desk {
    /// The server, not serving.
    pub server: Deploy,
    ledger: Ledger,
}

/// Parses the arguments, and serves or carries out the command.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(command) = arguments.command.filter(|_| !arguments.common.check_config) else {
        return serve::<Deploy>(&arguments.common, env!("CARGO_PKG_VERSION"));
    };
    match carry_out(&arguments.common, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Refusal>() {
            Some(refusal) => {
                eprintln!("mcp-deploy: {} ({})\n{}", refusal.message, refusal.code, refusal.hint);
                ExitCode::from(EXIT_REFUSED)
            }
            None => {
                eprintln!("mcp-deploy: {}", Chain(error.as_ref()));
                ExitCode::from(EXIT_USAGE)
            }
        },
    }
}

fn carry_out(common: &CommonArguments, command: Command) -> anyhow::Result<()> {
    log_to_stderr(&common.log).map_err(anyhow::Error::msg)?;
    let settings = Settings::<DeployConfig>::load(Deploy::NAME, common.config.as_deref())?;
    let state_dir = StateDir::choose(common.state_dir.as_deref(), &settings.workspace);
    let startup = Startup {
        workspace: settings.workspace,
        state_dir: state_dir.clone(),
        ralph_rules: settings.ralph_rules,
        secrets: settings.secrets,
    };
    let desk = Desk { server: Deploy::new(settings.own, &startup)?, ledger: Ledger::new(state_dir) };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        match command {
            Command::Approvals => show::list(&desk).await,
            Command::Approve(arguments) => approve::approve(&desk, &arguments).await,
            Command::Deny(arguments) => approve::deny(&desk, &arguments).await,
        }
    })
}

impl Desk {
    /// Makes sure that what is decided can be recorded.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub async fn open_ledger(&self) -> anyhow::Result<()> {
        Ok(self.ledger.open().await?)
    }

    /// Records a decision in the audit trail.
    ///
    /// # Errors
    ///
    /// Why it cannot be recorded.
    pub async fn decide(
        &self,
        command: &str,
        action: &str,
        code: Option<&str>,
        person: &str,
        reason: String,
        detail: Value,
    ) -> anyhow::Result<()> {
        let entry = AuditEntry {
            id: EntryId::generate(),
            at: Timestamp::now(),
            action: action.to_owned(),
            server: Deploy::NAME.to_owned(),
            tool: command.to_owned(),
            code: code.map(str::to_owned),
            reason,
            agent: Agent { name: person.to_owned(), role: Some("approver".to_owned()) },
            task_id: None,
            // A person's decision is no call and has no receipt.
            receipt_id: EntryId::generate(),
            detail,
        };
        Ok(self.ledger.append(vec![NewEntry::audit(&entry)?]).await?)
    }
}

/// Writes to stdout, where a reader that went away is no error.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Returns `text` on one line in which nothing can move the cursor, hide or reorder what is read.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || (!c.is_ascii() && !c.is_alphanumeric()) {
                format!("\\u{{{:x}}}", u32::from(c))
            } else {
                c.to_string()
            }
        })
        .collect()
}
