//! `orchestrator route`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};

use super::print;
use crate::config::House;
use crate::queue::file;
use crate::queue::store::Queue;
use crate::queue::task::Task;
use crate::report::table::{shorten, table};
use crate::router::route;

#[derive(clap::Args)]
pub(super) struct RouteArguments {
    /// A task of the queue, or a file of tasks
    task: String,
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    format: RouteFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum RouteFormat {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

pub(super) async fn run(house: &House, arguments: &RouteArguments) -> anyhow::Result<ExitCode> {
    let mut teams_off = None;
    let tasks: Vec<Task> = if Path::new(&arguments.task).exists() {
        let path = Path::new(&arguments.task).to_owned();
        // What a task depends on says nothing about who does it.
        let batch = tokio::task::spawn_blocking(move || file::read(&path, &|_| true)).await??;
        batch.items.into_iter().map(|item| item.task).collect()
    } else {
        let queue = Queue::open(&house.queue, &house.state_dir).await?;
        let entry = queue.find(&arguments.task).await?;
        let missing = || format!("`{}` is neither a task of the queue nor a file", arguments.task);
        teams_off = queue.teams_off().await?;
        vec![entry.with_context(missing)?.task]
    };
    let routed: Vec<(String, Value)> =
        tasks.iter().map(|task| (task.id.clone(), json!(route(task, &house.router, teams_off.as_deref())))).collect();
    if arguments.format == RouteFormat::Json {
        let rows: Vec<Value> = routed
            .into_iter()
            .map(|(id, mut routing)| {
                routing["id"] = json!(id);
                routing
            })
            .collect();
        print(&format!("{}\n", serde_json::to_string_pretty(&rows)?));
        return Ok(ExitCode::SUCCESS);
    }
    let text = |routing: &Value, name: &str| match &routing[name] {
        Value::String(text) => text.clone(),
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    let rows: Vec<Vec<String>> = routed
        .iter()
        .map(|(id, routing)| {
            let of = |name| text(routing, name);
            vec![
                id.clone(),
                of("decision"),
                shorten(&of("reason"), 70),
                of("specialists"),
                format!("${}", of("single_cost_usd")),
                format!("${}", of("team_cost_usd")),
                format!("{} %", of("quality_gain_percent")),
                format!("{} %", of("roi_percent")),
                format!("{} %", of("confidence_percent")),
            ]
        })
        .collect();
    let head = ["task", "who", "why", "team", "one costs", "team costs", "gain", "return", "confidence"];
    print(&table(&head, &[4, 5, 6, 7, 8], &rows));
    Ok(ExitCode::SUCCESS)
}
