//! The one way in which a server is started and a call is answered.
//!
//! [`run`] reads the arguments and the configuration and serves over [`stdio`]; [`tool`] says what a
//! tool is; [`charge`] is the wrapper around every call that prices it, records it and answers.

pub mod charge;
pub mod drain;
pub mod handler;
pub mod lines;
mod progress;
pub mod question;
mod received;
pub mod report;
pub mod stdio;
mod task;
pub mod tool;
pub mod written;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use rmcp::ServiceExt;
use rmcp::service::ServerInitializeError;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::Settings;
use crate::content_hash::ContentHash;
use crate::error_chain::Chain;
use crate::identity::IdentitySource;
use crate::ledger::Ledger;
use crate::state_dir::StateDir;
use charge::House;
use drain::Drain;
use handler::ToolServer;
use stdio::StdioTransport;

pub use charge::Call;
pub use question::{Question, Replied, Reply};
pub use tool::{Answer, Effect, Price, Tool, Toolbox};

/// Exit code of a configuration or an argument that cannot be used.
pub const EXIT_USAGE: u8 = 2;

/// The arguments that every binary takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CommonArguments {
    /// The configuration file [default: the nearest tollgate.toml from the working directory upward]
    #[arg(long, global = true, value_name = "FILE", env = "TOLLGATE_CONFIG")]
    pub config: Option<PathBuf>,
    /// The folder for ledger, caches and deployments [default: .tollgate in the workspace]
    #[arg(long, global = true, value_name = "DIR", env = "TOLLGATE_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Validate the configuration, print what is in force with secrets masked, and exit
    #[arg(long, global = true)]
    pub check_config: bool,
    /// What to log to stderr: a level, or targets with levels such as `mcp_git=debug,rmcp=info`
    #[arg(long, global = true, value_name = "FILTER", env = "TOLLGATE_LOG", default_value = "warn")]
    pub log: String,
}

/// A server: its name, its configuration, and how its tools are made from it.
pub trait Server: Send + Sync + Sized + 'static {
    /// The short name, as in receipts and in the configuration: `git`.
    const NAME: &'static str;
    /// The program: `mcp-git`.
    const PROGRAM: &'static str;
    /// What a host shows to people.
    const TITLE: &'static str;
    /// What a host tells the model about the server as a whole; a few sentences.
    const INSTRUCTIONS: &'static str;
    /// The server's table in `tollgate.toml`.
    type Config: DeserializeOwned + Serialize + JsonSchema + Default + Send;

    /// Turns the configuration into a server; opens nothing that a first call could open.
    ///
    /// # Errors
    ///
    /// What in the configuration cannot be relied on.
    fn new(config: Self::Config, startup: &Startup) -> anyhow::Result<Self>;

    /// Returns the server's tools, in the order in which they are listed.
    fn tools() -> Toolbox<Self>;
}

/// What a server may rely on when it starts.
#[derive(Clone, Debug)]
pub struct Startup {
    /// The folder that relative paths of the configuration start from.
    pub workspace: PathBuf,
    /// The folder that holds the server's own state; need not exist yet.
    pub state_dir: StateDir,
    /// The digest of the table `[ralph]` in force; whoever relies on a verdict needs it, not only Ralph.
    pub ralph_rules: ContentHash,
    /// What the configuration took from the environment.
    pub secrets: Vec<String>,
}

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
}

/// Runs the server `S`: arguments, configuration, logging to stderr, stdio until stdin closes or a signal comes.
pub fn run<S: Server>(version: &'static str) -> ExitCode {
    let command = <Arguments as clap::CommandFactory>::command()
        .name(S::PROGRAM)
        .version(version)
        .about(format!("{} (MCP server over stdio)", S::TITLE));
    let arguments = match command.try_get_matches() {
        Ok(matches) => <Arguments as clap::FromArgMatches>::from_arg_matches(&matches),
        Err(error) => Err(error),
    };
    let arguments = match arguments {
        Ok(arguments) => arguments.common,
        Err(error) => error.exit(),
    };
    serve::<S>(&arguments, version)
}

/// How much stack a thread has that runs what takes long: libraries go down into what somebody else has nested, and only
/// what is used is taken.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// Serves `S` with arguments that are already parsed, for a program with commands of its own.
pub fn serve<S: Server>(arguments: &CommonArguments, version: &'static str) -> ExitCode {
    if let Err(reason) = log_to_stderr(&arguments.log) {
        eprintln!("{}: {reason}", S::PROGRAM);
        return ExitCode::from(EXIT_USAGE);
    }
    let (server, house) = match start::<S>(arguments) {
        Ok(Started::Ready(server, house)) => (server, house),
        Ok(Started::Checked(description)) => {
            // The only thing a server ever prints that is not the protocol, and then it does not serve.
            #[expect(clippy::print_stdout, reason = "--check-config prints and exits")]
            {
                print!("{description}");
            }
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{}: {}", S::PROGRAM, Chain(error.as_ref()));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    // One thread: waking another for each step of a call costs more than the step. What takes long runs on threads of
    // its own.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = match runtime.enable_all().thread_stack_size(STACK_BYTES).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{}: cannot start: {error}", S::PROGRAM);
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(serve_stdio(ToolServer::new(server, *house, version)));
    // A thread that still waits for a terminal's input would hold up the end for ever.
    runtime.shutdown_background();
    code
}

enum Started<S> {
    Ready(S, Box<House>),
    Checked(String),
}

fn start<S: Server>(arguments: &CommonArguments) -> anyhow::Result<Started<S>> {
    let settings = Settings::<S::Config>::load(S::NAME, arguments.config.as_deref())?;
    let state_dir = StateDir::choose(arguments.state_dir.as_deref(), &settings.workspace);
    let description = arguments.check_config.then(|| settings.describe());
    let startup = Startup {
        workspace: settings.workspace,
        state_dir: state_dir.clone(),
        ralph_rules: settings.ralph_rules,
        secrets: settings.secrets,
    };
    let server = S::new(settings.own, &startup)?;
    if let Some(description) = description {
        return Ok(Started::Checked(description));
    }
    crate::state_dir::hold_owner_file();
    let house = House::new(S::NAME, settings.prices, Ledger::new(state_dir), IdentitySource::from_env());
    Ok(Started::Ready(server, Box::new(house)))
}

/// Sends what is logged to stderr, filtered by `filter`.
///
/// # Errors
///
/// A sentence that says what is wrong with the filter.
pub fn log_to_stderr(filter: &str) -> Result<(), String> {
    let targets: Targets = filter.parse().map_err(|error| format!("--log {filter}: {error}"))?;
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false))
        .with(targets)
        .try_init()
        .map_err(|error| error.to_string())
}

async fn serve_stdio<S: Server>(server: ToolServer<S>) -> ExitCode {
    let drain = server.drain();
    tokio::spawn(drain_on_signal(Arc::clone(&drain)));
    let transport = match StdioTransport::new(drain) {
        Ok(transport) => transport,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "cannot use stdin and stdout");
            return ExitCode::FAILURE;
        }
    };
    match server.serve(transport).await {
        Ok(running) => match running.waiting().await {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!(%error, "the service stopped");
                ExitCode::FAILURE
            }
        },
        // A client that only asks who is there, or goes away at once, is no failure.
        Err(ServerInitializeError::ConnectionClosed(_)) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "the connection could not be set up");
            ExitCode::FAILURE
        }
    }
}

/// The first signal lets calls in flight finish, the second stops at once.
pub async fn drain_on_signal(drain: Arc<Drain>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    let mut signals = 0;
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        signals += 1;
        if signals > 1 {
            std::process::exit(130);
        }
        drain.begin();
    }
}
