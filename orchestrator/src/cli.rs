//! The commands.

mod audit;
mod bridge;
mod call;
mod costs;
mod hosts;
mod login;
mod queue;
mod route;
mod run;
mod serve;
mod sessions;
mod task;
mod tools;
mod watch;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use jiff::{Span, Timestamp, Zoned};
use tollgate_shared::error_chain::Chain;
use tollgate_shared::serve::{CommonArguments, EXIT_USAGE, log_to_stderr};

use crate::config::House;
use crate::fleet::Answers;
use crate::telemetry;

/// Exit code of a call that was refused or failed, of a run that did not come out as expected, and of a ledger that is not whole.
pub const EXIT_NOT_AS_EXPECTED: u8 = 1;

/// The part of rmcp that handles logins.
const OAUTH_TARGET: &str = "rmcp::transport::auth";

/// The MCP client over the Tollgate servers and any others.
#[derive(Parser)]
#[command(name = "orchestrator", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
    /// A file with `mcpServers`, as other hosts have them, whose servers are used too
    #[arg(long, global = true, value_name = "FILE")]
    mcp_json: Vec<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Show every tool of every server, with its price and what its schema costs per turn
    Tools(tools::ToolsArguments),
    /// Call one tool and show its answer and receipt
    Call(call::CallArguments),
    /// Run the turns of a script, or have an agent do a task in a working tree of its own
    Run(run::RunArguments),
    /// Look at tasks: under way, interrupted, done
    #[command(subcommand)]
    Sessions(sessions::SessionsCommand),
    /// Hand over a backlog: import, look at, change what waits to be done
    #[command(subcommand)]
    Queue(Box<queue::QueueCommand>),
    /// Do the tasks of the queue, until it is stopped
    Worker(worker::WorkerArguments),
    /// Tell what happens to the tasks of the queue, as it happens
    Watch(watch::WatchArguments),
    /// Show who would do a task, and why; nothing is run
    Route(route::RouteArguments),
    /// Be all servers as one MCP server, for any host
    Serve(serve::ServeArguments),
    /// Write this into the configuration of Claude Code, Codex, Cursor, VS Code, Goose, …
    #[command(subcommand)]
    Hosts(hosts::HostsCommand),
    /// Log in at a remote server that wants it
    Login(login::LoginArguments),
    /// End the login at a remote server
    Logout(login::LogoutArguments),
    /// Show what everything cost
    Costs(costs::CostsArguments),
    /// Look at the ledger's decisions, or verify that nobody tampered with it
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Be the MCP server of an agent that takes none over HTTP; `run` tells the agent to start it
    #[command(hide = true)]
    Bridge,
}

/// Who answers when a server asks.
#[derive(clap::Args)]
struct AnswerArguments {
    /// What to answer when a server asks: ask (the person at the terminal), decline, cancel, defaults (the server's own
    /// values), or a JSON object with values of the form's fields. Without it the person is asked, where there is a
    /// terminal, and else servers are told that nobody can be. Servers of the house, which ask for approvals, take only
    /// a person's answer
    #[arg(long, value_name = "ANSWER")]
    answer: Option<Answers>,
}

impl AnswerArguments {
    fn answers(&self) -> Option<Answers> {
        self.answer.clone().or_else(Answers::present)
    }

    fn is_given(&self) -> bool {
        self.answer.is_some()
    }
}

/// Parses the arguments and carries out the command.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What rmcp says of logins below a warning has codes and tokens in it.
    let log = format!("{},{OAUTH_TARGET}=warn", arguments.common.log);
    if let Err(reason) = log_to_stderr(&log) {
        eprintln!("orchestrator: {reason}");
        return ExitCode::from(EXIT_USAGE);
    }
    // Where an agent is confined there is no configuration to load.
    if matches!(arguments.command, Some(Command::Bridge)) {
        return bridge::run();
    }
    let runtime = match runtime(&arguments).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("orchestrator: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        let done = Box::pin(carry_out(arguments)).await;
        if telemetry::is_on() {
            // While the runtime still works, which carries what is sent.
            let _ = tokio::task::spawn_blocking(telemetry::stop).await;
        }
        done
    });
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("orchestrator: {}", Chain(error.as_ref()));
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Between a host and a server nothing computes for long, and each hand-over to another thread costs more than what it hands over.
fn runtime(arguments: &Arguments) -> tokio::runtime::Builder {
    match &arguments.command {
        Some(Command::Serve(serve)) if serve.is_stdio() => tokio::runtime::Builder::new_current_thread(),
        _ => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(2);
            runtime
        }
    }
}

async fn carry_out(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let house = House::load(&arguments.common, &arguments.mcp_json)?;
    if arguments.common.check_config {
        print(&house.description);
        return Ok(ExitCode::SUCCESS);
    }
    if matches!(arguments.command, Some(Command::Call(_) | Command::Run(_) | Command::Worker(_) | Command::Serve(_))) {
        telemetry::start(&house.telemetry)?;
    }
    match arguments.command {
        Some(Command::Tools(arguments)) => tools::run(&house, &arguments).await,
        Some(Command::Call(arguments)) => call::run(&house, arguments).await,
        Some(Command::Run(arguments)) => run::run(&house, &arguments).await,
        Some(Command::Sessions(command)) => sessions::run(&house, &command).await,
        Some(Command::Queue(command)) => queue::run(&house, *command).await,
        Some(Command::Worker(arguments)) => worker::run(&house, &arguments).await,
        Some(Command::Watch(arguments)) => watch::run(&house, &arguments).await,
        Some(Command::Route(arguments)) => route::run(&house, &arguments).await,
        Some(Command::Serve(arguments)) => serve::run(&house, arguments).await,
        Some(Command::Hosts(command)) => hosts::run(&house, command),
        Some(Command::Login(arguments)) => login::run(&house, &arguments).await,
        Some(Command::Logout(arguments)) => login::end(&house, &arguments).await,
        Some(Command::Costs(arguments)) => costs::run(&house, &arguments).await,
        Some(Command::Audit(command)) => audit::run(&house, &command).await,
        // Carried out before anything is loaded.
        Some(Command::Bridge) => Ok(bridge::run()),
        None => anyhow::bail!("no command; see `orchestrator --help`"),
    }
}

/// Writes to stdout, where a reader that went away (`| head`) is no error.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Reads an instant, a date in UTC, or how long ago: `2026-11-21T08:00:00Z`, `2026-11-21`, `24h`, `7d`.
fn parse_since(text: &str) -> Result<Timestamp, String> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    if let Ok(date) = text.parse::<jiff::civil::Date>() {
        return date
            .to_zoned(jiff::tz::TimeZone::UTC)
            .map(|start| start.timestamp())
            .map_err(|error| error.to_string());
    }
    let ago: Span = text.parse().map_err(|_| {
        format!("`{text}` is neither an instant (2026-11-21T08:00:00Z), a date (2026-11-21) nor a time ago (24h, 7d)")
    })?;
    Zoned::now().checked_sub(ago.abs()).map(|then| then.timestamp()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_instants_dates_and_durations() {
        assert_eq!(parse_since("2026-11-21T08:00:00Z").unwrap().to_string(), "2026-11-21T08:00:00Z");
        assert_eq!(parse_since("2026-11-21").unwrap().to_string(), "2026-11-21T00:00:00Z");
        assert!(parse_since("24h").unwrap() < Timestamp::now());
        assert!(parse_since("7d").unwrap() < parse_since("24h").unwrap());
        assert!(parse_since("yesterday-ish").is_err());
    }
}
