//! `orchestrator call`.

use std::io::Read;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Map, Value, json};
use tollgate_shared::identity::{Agent, Identity};

use super::{AnswerArguments, EXIT_NOT_AS_EXPECTED, print};
use crate::agent::cost_report;
use crate::catalogue::{BUILT_IN, COST_REPORT};
use crate::config::House;
use crate::fleet::Fleet;

/// Largest arguments that are read from stdin; a server reads no larger line.
const STDIN_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[derive(clap::Args)]
pub(super) struct CallArguments {
    /// The server: `git`
    server: String,
    /// The tool: `git_status`
    tool: String,
    /// Its arguments as a JSON object; `-` reads them from stdin
    #[arg(default_value = "{}")]
    arguments: String,
    /// On whose behalf
    #[arg(long, env = "TOLLGATE_AGENT", default_value = "orchestrator")]
    agent: String,
    /// In which role
    #[arg(long, env = "TOLLGATE_ROLE")]
    role: Option<String>,
    /// For which task
    #[arg(long, env = "TOLLGATE_TASK")]
    task: Option<String>,
    #[command(flatten)]
    answer: AnswerArguments,
}

pub(super) async fn run(house: &House, arguments: CallArguments) -> anyhow::Result<ExitCode> {
    let text = if arguments.arguments == "-" { read_stdin()? } else { arguments.arguments };
    let tool_arguments: Map<String, Value> =
        serde_json::from_str(&text).context("the tool's arguments are not a JSON object")?;
    let identity = Identity {
        agent: Agent { name: arguments.agent, role: arguments.role },
        task_id: arguments.task,
        call_id: None,
    };
    let fleet = Fleet::new(house)?.answered_by(arguments.answer.answers());
    if arguments.server == BUILT_IN && arguments.tool == COST_REPORT {
        let report = cost_report(&fleet, &Value::Object(tool_arguments)).await;
        let failed = report.get("error").is_some();
        print(&format!("{}\n", serde_json::to_string_pretty(&json!({ "result": report }))?));
        return Ok(if failed { ExitCode::from(EXIT_NOT_AS_EXPECTED) } else { ExitCode::SUCCESS });
    }
    let called = fleet.call(&arguments.server, &arguments.tool, tool_arguments, &identity).await;
    fleet.close().await;
    let called = called?;
    let shown = json!({ "result": called.structured, "receipt": called.receipt });
    print(&format!("{}\n", serde_json::to_string_pretty(&shown)?));
    Ok(if called.is_error { ExitCode::from(EXIT_NOT_AS_EXPECTED) } else { ExitCode::SUCCESS })
}

fn read_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().take(STDIN_BYTES_MAX + 1).read_to_string(&mut text).context("cannot read stdin")?;
    anyhow::ensure!(text.len() as u64 <= STDIN_BYTES_MAX, "more than 16 MiB of arguments");
    Ok(text)
}
