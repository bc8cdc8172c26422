//! Agents: an agent says what it wants to do next; who asked it does that and shows the agent what came of it.

pub mod acp;
mod model;
pub mod reference;
pub mod script;
pub mod scripted;
pub mod spec;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
pub(crate) use model::REQUESTS_MAX;
use serde::Serialize;
use serde_json::{Value, json};
pub use spec::{AgentSpec, AnyAgent};
use tollgate_shared::costs::CostReport;
use tollgate_shared::error_chain::Chain;
use tollgate_shared::identity::Identity;
use tollgate_shared::ids::EntryId;
use tollgate_shared::ledger::LedgerError;
use tollgate_shared::receipt::Outcome;

use crate::catalogue::{BUILT_IN, COST_REPORT, Catalogue};
use crate::fleet::{Called, Fleet, failure};
use crate::session::{History, Said};
use crate::task::TaskCore;
use script::Expectation;
use scripted::ScriptedAgent;

/// Most turns of one run; an agent that needs more is going in circles.
pub const TURNS_MAX: usize = 1_000;

/// One thing that an agent wants to do.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The name under which later turns refer to the answer.
    pub id: Option<String>,
    /// What the agent says about it, for people.
    pub say: Option<String>,
    /// The tool's name in the catalogue.
    pub tool: String,
    /// Its arguments.
    pub arguments: Value,
    /// What should come of it.
    pub expect: Expectation,
}

/// What came of a turn.
#[derive(Clone, Debug, Serialize)]
pub struct TurnResult {
    /// The turn's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The tool's name in the catalogue.
    pub tool: String,
    /// The arguments, with references replaced.
    pub arguments: Value,
    /// The structured answer.
    pub answer: Value,
    /// The receipt; absent for a call that reached no server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<tollgate_shared::receipt::Receipt>,
    /// What was different from what was expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub surprise: Option<String>,
}

impl TurnResult {
    /// Returns how the call ended.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match &self.receipt {
            Some(receipt) => receipt.outcome,
            None if self.answer.get("error").is_some() => Outcome::Failed,
            None => Outcome::Ok,
        }
    }
}

/// Something that does a task by calling tools.
///
/// It remembers nothing that is not in the conversation, so that another process can go on in its place.
pub trait Agent: Send {
    /// Returns what the agent says to everything so far: a reply, or a summary that takes the place of everything before
    /// it, after which it is asked again. A reply without calls says that it is done, which counts for nothing until it is
    /// verified.
    ///
    /// # Errors
    ///
    /// [`AgentError`], why the agent cannot go on.
    fn reply(&mut self, conversation: Conversation<'_>) -> impl Future<Output = Result<Said, AgentError>> + Send;
}

/// What an agent knows.
#[derive(Clone, Copy)]
pub struct Conversation<'a> {
    /// Everything that was said and done.
    pub history: &'a History,
    /// On whose behalf it spends money.
    pub identity: &'a Identity,
    /// What its requests are called in the ledger: [`EntryId::attempt`] of this.
    pub request_id: EntryId,
    /// How long it may take.
    pub time_left: Duration,
    /// What it can call, and where what it spends is set aside and recorded.
    pub(crate) core: &'a Arc<TaskCore>,
}

/// Why an agent cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct AgentError {
    /// Whether the money is not there.
    pub is_budget: bool,
    /// In a sentence.
    pub reason: String,
    /// What it cost to find out.
    pub receipts: Vec<tollgate_shared::receipt::Receipt>,
}

impl AgentError {
    /// Says that something does not work, which cost nothing.
    #[must_use]
    pub fn failed(reason: impl Into<String>) -> Self {
        Self { is_budget: false, reason: reason.into(), receipts: Vec::new() }
    }
}

/// Hears about each turn as it happens.
pub trait Progress {
    /// A turn is about to be carried out.
    fn begins(&mut self, number: usize, turn: &Turn);
    /// A turn was carried out.
    fn ended(&mut self, number: usize, result: &TurnResult);
}

/// Carries out a script until it is done, a turn does not come out as expected, or [`TURNS_MAX`] is reached.
///
/// # Errors
///
/// What the agent or the ledger fails with; what happened until then has been told to `progress`.
pub async fn run(
    agent: &mut ScriptedAgent,
    fleet: &Fleet,
    catalogue: &Catalogue,
    identity: &Identity,
    progress: &mut impl Progress,
) -> anyhow::Result<Vec<TurnResult>> {
    let mut history = Vec::new();
    while let Some(turn) = agent.next_turn(&history)? {
        anyhow::ensure!(history.len() < TURNS_MAX, "the agent did not finish within {TURNS_MAX} turns");
        progress.begins(history.len() + 1, &turn);
        let called = call(fleet, catalogue, &turn, identity).await?;
        let result = match called {
            CallResult::Called(called) => TurnResult {
                surprise: turn.expect.surprise(&called.structured, called.receipt.outcome, Some(called.receipt.cached)),
                id: turn.id,
                tool: turn.tool,
                arguments: turn.arguments,
                answer: called.structured,
                receipt: Some(called.receipt),
            },
            CallResult::BuiltIn(answer) => TurnResult {
                surprise: answer.get("error").map(|error| format!("failed: {}", error["message"])),
                id: turn.id,
                tool: turn.tool,
                arguments: turn.arguments,
                answer,
                receipt: None,
            },
        };
        progress.ended(history.len() + 1, &result);
        let surprised = result.surprise.is_some();
        history.push(result);
        if surprised {
            break;
        }
    }
    Ok(history)
}

enum CallResult {
    Called(Box<Called>),
    BuiltIn(Value),
}

async fn call(
    fleet: &Fleet,
    catalogue: &Catalogue,
    turn: &Turn,
    identity: &Identity,
) -> Result<CallResult, LedgerError> {
    let Some(tool) = catalogue.find(&turn.tool) else {
        let known = tollgate_shared::config::nearest(&turn.tool, catalogue.tools.iter().map(|tool| tool.name.as_str()));
        let hint = tollgate_shared::config::did_you_mean(known);
        return Ok(CallResult::BuiltIn(failure(
            "unknown_tool",
            &format!("there is no tool `{}`{hint}", turn.tool),
            "see `orchestrator tools`",
        )));
    };
    if tool.server == BUILT_IN && tool.tool == COST_REPORT {
        return Ok(CallResult::BuiltIn(cost_report(fleet, &turn.arguments).await));
    }
    let arguments = match &turn.arguments {
        Value::Object(arguments) => arguments.clone(),
        Value::Null => serde_json::Map::new(),
        _ => {
            let message = "the arguments of a tool are an object";
            return Ok(CallResult::BuiltIn(failure("invalid_arguments", message, "write `arguments: {name: value}`")));
        }
    };
    fleet.call(&tool.server, &tool.tool, arguments, identity).await.map(|called| CallResult::Called(Box::new(called)))
}

/// Answers the orchestrator's own tool from the ledger.
pub async fn cost_report(fleet: &Fleet, arguments: &Value) -> Value {
    let since = match arguments.get("since").and_then(Value::as_str).map(str::parse) {
        None => None,
        Some(Ok(instant)) => Some(instant),
        Some(Err(error)) => {
            let message = format!("`since`: {error}");
            return failure("invalid_arguments", &message, "write an instant such as 2026-11-21T08:00:00Z");
        }
    };
    let mut report = CostReport::default();
    let read = async {
        if let Some(mut reader) = fleet.ledger().reader().await? {
            let mut receipts = pin!(reader.receipts(since));
            while let Some(receipt) = receipts.next().await {
                let mut receipt = receipt?;
                receipt.tool = format!("{}__{}", receipt.server, receipt.tool);
                report.add(&receipt);
            }
        }
        Ok::<(), LedgerError>(())
    };
    match read.await {
        Ok(()) => json!(report),
        Err(error) => failure("ledger_unavailable", &Chain(&error).to_string(), "run `orchestrator audit verify`"),
    }
}
