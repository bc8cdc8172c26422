//! `orchestrator run`.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use tollgate_shared::identity::Identity;
use tollgate_shared::money::Money;

use super::{EXIT_NOT_AS_EXPECTED, print};
use crate::agent::script::Script;
use crate::agent::scripted::ScriptedAgent;
use crate::agent::{self, Progress, Turn, TurnResult};
use crate::catalogue::Catalogue;
use crate::config::House;
use crate::fleet::Fleet;
use crate::report::run::{LiveProgress, run_table};
use crate::telemetry;

#[derive(clap::Args)]
pub(super) struct RunArguments {
    /// The script, in YAML or JSON (its schema is schemas/script.json)
    #[arg(conflicts_with_all = ["task", "resume"])]
    script: Option<PathBuf>,
    #[command(flatten)]
    answer: super::AnswerArguments,
    #[command(flatten)]
    task: super::task::TaskArguments,
    /// How to write what happened
    #[arg(long, value_enum, default_value_t)]
    format: RunFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum RunFormat {
    /// Each turn as it happens, then a table
    #[default]
    Text,
    /// One JSON object a line: each turn as it happens, then the total
    Json,
}

pub(super) async fn run(house: &House, arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    let Some(script) = &arguments.script else {
        anyhow::ensure!(!arguments.answer.is_given(), "`--answer` is for a script; a task's agents are asked nothing");
        return super::task::run(house, &arguments.task, arguments.format).await;
    };
    let script = Script::read(script)?;
    anyhow::ensure!(script.then.is_empty(), "`then` is for a task: `run --task TEXT --agent scripted:FILE`");
    let identity = Identity { agent: script.agent.clone(), task_id: script.task_id.clone(), call_id: None };
    let fleet = Fleet::new(house)?.answered_by(arguments.answer.answers());
    let catalogue = Catalogue::merge(fleet.list().await, &house.prices);
    for unavailable in &catalogue.unavailable {
        eprintln!("orchestrator: {} has no tools: {}", unavailable.server, unavailable.reason);
    }
    let turns = script.turns.len();
    if arguments.format == RunFormat::Text {
        let title = script.title.as_deref().unwrap_or("a script");
        let agent = &script.agent.name;
        let task = script.task_id.as_deref().map_or_else(String::new, |task| format!(" on {task}"));
        print(&format!("{agent}{task}: {title}\n"));
    }
    let mut scripted = ScriptedAgent::new(script);
    let mut told = Told::default();
    let span = telemetry::task::script(&identity);
    let history = match arguments.format {
        RunFormat::Text => {
            let mut live = Both(LiveProgress::new(std::io::stdout(), turns), &mut told);
            telemetry::within(span.as_ref(), agent::run(&mut scripted, &fleet, &catalogue, &identity, &mut live)).await
        }
        RunFormat::Json => {
            let mut lines = Both(JsonLines, &mut told);
            telemetry::within(span.as_ref(), agent::run(&mut scripted, &fleet, &catalogue, &identity, &mut lines)).await
        }
    };
    drop(span);
    fleet.close().await;
    let complete = history.is_ok() && told.0.len() == turns && told.0.iter().all(|turn| turn.surprise.is_none());
    let total: Money = told.0.iter().filter_map(|turn| turn.receipt.as_ref()).map(|receipt| receipt.amount).sum();
    match arguments.format {
        RunFormat::Text => print(&format!("\n{}", run_table(&told.0))),
        RunFormat::Json => {
            print(&format!("{}\n", json!({ "event": "end", "as_expected": complete, "cost_usd": total })));
        }
    }
    if let Err(error) = history {
        eprintln!("orchestrator: {}", tollgate_shared::error_chain::Chain(error.as_ref()));
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOT_AS_EXPECTED) })
}

/// Remembers every turn, also those before an error.
#[derive(Default)]
struct Told(Vec<TurnResult>);

struct Both<'a, P>(P, &'a mut Told);

struct JsonLines;

impl<P: Progress> Progress for Both<'_, P> {
    fn begins(&mut self, number: usize, turn: &Turn) {
        self.0.begins(number, turn);
    }

    fn ended(&mut self, number: usize, result: &TurnResult) {
        self.0.ended(number, result);
        self.1.0.push(result.clone());
    }
}

impl Progress for JsonLines {
    fn begins(&mut self, _: usize, _: &Turn) {}

    fn ended(&mut self, number: usize, result: &TurnResult) {
        print(&format!("{}\n", json!({ "event": "turn", "number": number, "turn": result })));
    }
}
