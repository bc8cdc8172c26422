//! Agents that speak the Agent Client Protocol: a program in a sandbox, with the task's tools as its MCP server.

pub mod config;
mod connection;
mod process;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tokio::time::Instant;
use tollgate_shared::config::{did_you_mean, nearest};
use tollgate_shared::error_chain::Chain;
use tollgate_shared::money::Money;
use tollgate_shared::price::Sku;
use tollgate_shared::receipt::{Outcome, Receipt, ReceiptLine};

use super::model::compaction;
use super::{Agent, AgentError, Conversation};
use crate::budget::{BUDGET_EXCEEDED, Estimate};
use crate::config::House;
use crate::fleet::account::{Admitted, PendingCall};
use crate::model::price::Tokens;
use crate::model::{Model, SERVER};
use crate::session::{Reply, Said};
use crate::telemetry;
use config::AgentConfig;
use connection::{Connection, Turn};

/// The least that a turn is worth beginning with.
const TURN_LEAST: &str = "0.01";

/// How the first prompt begins.
const INSTRUCTIONS: &str = include_str!("../../prompts/acp.md");

/// An agent that speaks the Agent Client Protocol.
pub struct AcpAgent {
    name: String,
    config: AgentConfig,
    /// What the tokens cost that it reports.
    model: Option<Model>,
    workspace: PathBuf,
    running: Option<Connection>,
}

impl AcpAgent {
    /// Makes the agent that `[agents.<name>]` of `house` describes; it is started when it is first asked.
    ///
    /// # Errors
    ///
    /// A sentence that says what is missing.
    pub fn new(name: &str, house: &House) -> anyhow::Result<Self> {
        let config = house.agents.0.get(name).with_context(|| {
            let hint = did_you_mean(nearest(name, house.agents.0.keys().map(String::as_str)));
            format!("there is no table [agents.{name}]{hint}: write its `command`, see docs/agents.md")
        })?;
        let model = config.model.as_deref().map(|model| Model::find(model, &house.models)).transpose();
        let model = model.with_context(|| format!("agents.{name}.model"))?;
        for variable in &config.env_pass {
            let is_set = std::env::var_os(variable).is_some();
            anyhow::ensure!(is_set, "agents.{name}.env_pass: the environment variable {variable} is not set");
        }
        let (name, config) = (name.to_owned(), config.clone());
        Ok(Self { name, config, model, workspace: house.workspace.clone(), running: None })
    }

    /// Ends its program, and all that it started.
    pub async fn close(&mut self) {
        if let Some(running) = self.running.take() {
            running.close().await;
        }
    }

    /// Returns what it is told: all of it when it is new, what was found since otherwise.
    fn prompt(&self, conversation: &Conversation<'_>) -> String {
        let history = conversation.history;
        let last = history.messages.last().map(|message| &message.said);
        match (&self.running, last) {
            (Some(_), Some(Said::Findings { text } | Said::Team { text })) => text.clone(),
            _ => {
                let role = history.session.role();
                let role = role.map(|role| format!("\nYour role is {}. {}\n", role.name, role.prompt));
                format!("{INSTRUCTIONS}{}\n{}", role.unwrap_or_default(), compaction::summary(history, None))
            }
        }
    }

    async fn take_turn(&mut self, conversation: &Conversation<'_>, allowance: Option<Money>) -> Result<Turn, String> {
        let prompt = self.prompt(conversation);
        if self.running.is_none() {
            let worktree = conversation.history.session.worktree.clone().unwrap_or_default();
            let started = Connection::start(&self.config, &self.workspace, worktree, conversation.core).await;
            self.running = Some(started?);
        }
        let Some(running) = &mut self.running else { return Err("it is not running".to_owned()) };
        let deadline = Instant::now() + conversation.time_left;
        let turn = running.prompt(prompt, allowance, deadline).await;
        if turn.is_err() {
            self.close().await;
        }
        turn
    }

    /// Returns the lines of the receipt of a turn: what the agent says it cost, else its tokens at the model's price, else
    /// all that was set aside.
    fn lines(&self, turn: &Result<Turn, String>, set_aside: Money) -> Vec<ReceiptLine> {
        let (cost, tokens) = turn.as_ref().map_or((None, None), |turn| (turn.cost, turn.tokens));
        let line = |kind: &str, amount: Money| {
            let sku = Sku::from(format!("model.acp/{}.{kind}", self.name));
            vec![ReceiptLine { sku, quantity: 1, unit_price: amount, amount }]
        };
        match (cost, &self.model, tokens) {
            (Some(cost), ..) => line("reported", cost),
            (None, Some(model), Some(tokens)) if tokens != Tokens::default() => {
                model.prices.lines(&format!("acp/{}", self.name), &tokens)
            }
            _ => line("unreported", set_aside),
        }
    }
}

impl Agent for AcpAgent {
    async fn reply(&mut self, conversation: Conversation<'_>) -> Result<Said, AgentError> {
        let id = conversation.identity.task_id.as_deref().unwrap_or_default();
        let span = telemetry::model::agent_turn(&self.name, id);
        conversation.core.turn.begins(span.as_ref());
        telemetry::within(span.as_ref(), self.take(conversation)).await
    }
}

impl AcpAgent {
    /// Takes a turn: sets aside what it may cost, and records what it did.
    async fn take(&mut self, conversation: Conversation<'_>) -> Result<Said, AgentError> {
        let account = conversation.core.fleet.account();
        let id = format!("acp/{}", self.name);
        let call = PendingCall::named(conversation.request_id.attempt(0), SERVER, &id, conversation.identity);
        let most = self.config.turn_usd;
        let least = TURN_LEAST.parse::<Money>().unwrap_or_default().min(most);
        let admitted = account.admit_estimated(Estimate { least, most }, call).await;
        let call = match admitted.map_err(|error| AgentError::failed(Chain(&error).to_string()))? {
            Admitted::Yes(call) => call,
            Admitted::No(called) => {
                let error = &called.structured["error"];
                let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
                let reason = format!("a turn of {id} does not fit the budget: {}; {}", text("message"), text("hint"));
                let is_budget = error["code"] == BUDGET_EXCEEDED;
                return Err(AgentError { is_budget, reason, receipts: vec![called.receipt] });
            }
        };
        let set_aside = call.allowance.unwrap_or(most);
        let turn = self.take_turn(&conversation, Some(set_aside)).await;
        if let Some(tokens) = turn.as_ref().ok().and_then(|turn| turn.tokens) {
            telemetry::model::answered(&tokens, None);
        }
        let (outcome, code) = match &turn {
            Ok(turn) if turn.is_over_budget => (Outcome::Failed, Some("agent_over_budget".to_owned())),
            Ok(_) => (Outcome::Ok, None),
            Err(_) => (Outcome::Failed, Some("agent_failed".to_owned())),
        };
        let lines = self.lines(&turn, set_aside);
        let receipt = account.charged(&call, outcome, code, lines).await;
        let receipts: Vec<Receipt> =
            receipt.map(|receipt| vec![receipt]).map_err(|error| AgentError::failed(Chain(&error).to_string()))?;
        match turn {
            Ok(turn) if turn.is_over_budget => {
                let reason = format!(
                    "the turn of {id} was cancelled: it cost more than the ${} set aside for it",
                    set_aside.normalized()
                );
                Err(AgentError { is_budget: true, reason, receipts })
            }
            Ok(turn) => {
                let opaque = Some(json!({ "stop_reason": turn.stop_reason }));
                let text = Some(turn.text).filter(|text| !text.trim().is_empty());
                Ok(Said::Agent(Reply { text, opaque, receipts, ..Reply::default() }))
            }
            Err(reason) => Err(AgentError { is_budget: false, reason: format!("{id}: {reason}"), receipts }),
        }
    }
}

/// How long an agent may take to be ready.
const READY_MAX: Duration = Duration::from_secs(90);
