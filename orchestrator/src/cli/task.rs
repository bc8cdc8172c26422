//! `orchestrator run --task` and `orchestrator run --resume`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tollgate_shared::money::Money;
use tollgate_shared::sandbox::Setting;

use super::EXIT_NOT_AS_EXPECTED;
use super::run::RunFormat;
use crate::agent::AgentSpec;
use crate::config::House;
use crate::report::task::{JsonEvents, Lines};
use crate::session::{Ending, Phase};
use crate::task::drive::{Stop, Stopped, drive};
use crate::task::start::{More, Order};
use crate::task::{TaskRun, Watch};

/// What a task may cost when nothing is said, in US dollars.
const BUDGET_DEFAULT: &str = "5";

/// How often an agent may say that it is done when nothing is said.
const ITERATIONS_DEFAULT: u32 = 10;

/// How long a task may take when nothing is said.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60 * 60);

#[derive(clap::Args)]
pub(super) struct TaskArguments {
    /// What is to be done, in words: in a working tree and a branch of its own; what passes verification is committed there
    #[arg(long, value_name = "TEXT", conflicts_with = "resume", requires = "agent")]
    pub(super) task: Option<String>,
    /// Go on with this session, exactly where it was
    #[arg(long, value_name = "SESSION", conflicts_with_all = ["agent", "repo", "accept"])]
    pub(super) resume: Option<String>,
    /// Who does it: model:NAME, acp:NAME or scripted:FILE
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// The repository; the workspace when left out
    #[arg(long, value_name = "FOLDER")]
    repo: Option<PathBuf>,
    /// A command that must succeed, confined, on a copy of the working tree; repeatable
    #[arg(long, value_name = "COMMAND")]
    accept: Vec<String>,
    /// What it may cost altogether, in US dollars; 5 when left out
    #[arg(long, value_name = "USD")]
    budget: Option<Money>,
    /// How often the agent may say that it is done; 10 when left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    iterations: Option<u32>,
    /// How long it may work altogether, such as 30m or 2h; 1h when left out
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,
    /// Have a team do it: its lead divides the task, and these roles do it when it does not; without names the usual ones
    #[arg(long, value_name = "ROLES", num_args = 0..=1, value_delimiter = ',', default_missing_value = "codequality,testwriter",
        conflicts_with = "resume")]
    team: Option<Vec<String>>,
    /// How acceptance commands are confined; `none` only where nothing works, and nobody else's code is run
    #[arg(long, value_enum, default_value = "auto")]
    sandbox: SandboxSetting,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum SandboxSetting {
    Auto,
    None,
}

pub(super) async fn run(house: &House, arguments: &TaskArguments, format: RunFormat) -> anyhow::Result<ExitCode> {
    let sandbox = match arguments.sandbox {
        SandboxSetting::Auto => Setting::Auto,
        SandboxSetting::None => Setting::None,
    };
    let stop = Stop::default();
    listen(stop.clone());
    let mut run = match (&arguments.task, &arguments.resume) {
        (Some(task), _) => {
            let order = Order {
                id: None,
                task: task.clone(),
                agent: AgentSpec::parse(arguments.agent.as_deref().unwrap_or_default())?,
                repository: arguments.repo.clone().unwrap_or_else(|| house.workspace.clone()),
                accept: arguments.accept.clone(),
                budget_usd: arguments.budget.map_or_else(|| BUDGET_DEFAULT.parse(), Ok)?,
                iterations: arguments.iterations.unwrap_or(ITERATIONS_DEFAULT),
                timeout: arguments.timeout.unwrap_or(TIMEOUT_DEFAULT),
                team: arguments.team.clone(),
                member: None,
            };
            TaskRun::begin(house, sandbox, order).await?
        }
        (None, Some(id)) => {
            let more =
                More { budget_usd: arguments.budget, iterations: arguments.iterations, timeout: arguments.timeout };
            TaskRun::resume(house, sandbox, id, more).await?
        }
        (None, None) => anyhow::bail!("nothing to run: give a script, --task or --resume"),
    };
    let history = run.history().await?;
    let mut watch: Box<dyn Watch> = match format {
        RunFormat::Text => Box::new(Lines::new(&history, std::io::stdout())),
        RunFormat::Json => Box::new(JsonEvents::new(&history)),
    };
    let stopped = drive(&mut run, &stop, watch.as_mut()).await;
    if matches!(stopped, Ok(Stopped::Now)) {
        // Whatever a server is at it finishes by itself, or is killed with its work undone; resuming finds out.
        eprintln!("orchestrator: stopped; go on with `orchestrator run --resume {}`", run.id());
        return Ok(ExitCode::from(EXIT_NOT_AS_EXPECTED));
    }
    run.close().await;
    if let Stopped::Between = stopped? {
        eprintln!("orchestrator: stopped; go on with `orchestrator run --resume {}`", run.id());
    }
    let done = matches!(run.history().await?.session.phase, Phase::Ended { ending: Ending::Done, .. });
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOT_AS_EXPECTED) })
}

/// Once: stop after the call that is under way. Twice: stop now.
fn listen(stop: Stop) {
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if !stop.is_wanted() {
                eprintln!("orchestrator: stopping after this step; press Ctrl-C again to stop now");
            }
            stop.stop();
        }
    });
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text.parse().map_err(|_| format!("`{text}` is no time such as 90s, 30m or 2h"))?;
    Duration::try_from(span).map_err(|_| format!("`{text}` is negative")).and_then(|time| {
        Some(time).filter(|time| !time.is_zero()).context("no time at all").map_err(|error| error.to_string())
    })
}
