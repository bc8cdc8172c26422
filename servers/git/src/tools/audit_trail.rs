//! `git_audit_trail`: what was done and refused, and on whose behalf.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use jiff::{Timestamp, Zoned};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tollgate_shared::audit::AuditEntry;
use tollgate_shared::error_chain::Chain;
use tollgate_shared::ledger::LedgerError;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Server, Tool};

use crate::Git;
use crate::branch_name::quoted;
use crate::moment::{self, Boundary};
use crate::patience::Patience;

/// How many entries an answer has by default, and at most.
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 500;

/// How much text an answer has at most: what hosts pass on to a model without cutting it themselves.
const ANSWER_BYTES_MAX: usize = 80_000;

/// How often the clock is looked at while the ledger is read.
const LOOKED_EVERY: usize = 1000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Of this agent.
    agent: Option<String>,
    /// A tool or an action: `git_commit`, `committed`, `refused`.
    operation: Option<String>,
    /// About this branch.
    branch: Option<String>,
    /// `2026-01-31`, RFC 3339 or `2 days ago`.
    since: Option<String>,
    /// Same forms.
    until: Option<String>,
    /// Entries; default 50.
    limit: Option<usize>,
    /// From the previous answer.
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Trail {
    /// Newest first.
    entries: Vec<Entry>,
    /// Pass it to see older ones; left out at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Entry {
    /// The id of the entry in the ledger.
    id: String,
    /// When it happened, RFC 3339.
    at: String,
    /// What happened: `committed`, `branch_created`, `refused`, …
    action: String,
    /// The tool that was called.
    tool: String,
    /// The code of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// What was done, or why it was refused.
    reason: String,
    /// The agent's name.
    agent: String,
    /// Its role.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    /// Its task.
    #[serde(skip_serializing_if = "Option::is_none")]
    task_id: Option<String>,
    /// The receipt of the call.
    receipt_id: String,
    /// Repository, branch, old and new commit.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    detail: Value,
}

/// Which entries are wanted.
struct Filter {
    agent: Option<String>,
    operation: Option<String>,
    branch: Option<String>,
    until: Option<Timestamp>,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_audit_trail",
        "Audit trail",
        "List what agents did with git and what was refused, newest first, from the ledger.",
        Effect::Reads,
        Price::PerCall("git.read"),
    )
    .handler(run)
}

async fn run(_: Arc<Git>, request: Request, call: Call) -> Result<Answer<Trail>, Refusal> {
    let now = Zoned::now();
    let moment = |text: &Option<String>, boundary| {
        let seconds = text.as_deref().map(|text| moment::parse(text, boundary, &now)).transpose()?;
        Ok::<_, Refusal>(seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()))
    };
    let since = moment(&request.since, Boundary::Start)?;
    // To the end of that second.
    let until = moment(&request.until, Boundary::End)?
        .and_then(|until| until.checked_add(jiff::SignedDuration::from_millis(999)).ok());
    let filter = Filter { agent: request.agent, operation: request.operation, branch: request.branch, until };
    let limit = request.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let patience = Patience::of(&call);
    let failed = |error: LedgerError| Refusal::failed("ledger_unavailable", Chain(&error).to_string(), "try again");

    // The ledger is read forward, so the newest are what is left at the end.
    let mut found: VecDeque<AuditEntry> = VecDeque::new();
    let mut more = false;
    let mut arrived = request.cursor.is_none();
    if let Some(mut reader) = call.house().ledger.reader().await.map_err(failed)? {
        let mut decisions = pin!(reader.decisions(since));
        let mut read = 0;
        while let Some(decision) = decisions.next().await {
            let decision = decision.map_err(failed)?;
            read += 1;
            if read % LOOKED_EVERY == 0 && patience.is_over() {
                return Err(Refusal::failed(
                    "history_too_long",
                    "the ledger has too many entries to be read in time",
                    "give `since`",
                ));
            }
            if request.cursor.as_deref() == Some(&*decision.id.to_string()) {
                arrived = true;
                break;
            }
            if !filter.wants(&decision) {
                continue;
            }
            if found.len() == limit {
                found.pop_front();
                more = true;
            }
            found.push_back(decision);
        }
    }
    if !arrived {
        return Err(Refusal::refused(
            "invalid_cursor",
            format!("{} is no cursor of git_audit_trail", quoted(request.cursor.as_deref().unwrap_or_default())),
            "pass `cursor` as the previous answer had it, with the same other arguments",
        ));
    }
    let mut trail = Trail { entries: Vec::new(), cursor: None };
    let mut bytes = 0;
    for decision in found.into_iter().rev() {
        let entry = Entry::from(decision);
        bytes += 400 + entry.reason.len() + entry.detail.to_string().len();
        if bytes > ANSWER_BYTES_MAX && !trail.entries.is_empty() {
            more = true;
            break;
        }
        trail.entries.push(entry);
    }
    trail.cursor = trail.entries.last().map(|entry| entry.id.clone()).filter(|_| more);
    Ok(Answer::new(trail))
}

impl Filter {
    fn wants(&self, decision: &AuditEntry) -> bool {
        let is =
            |wanted: &Option<String>, values: &[&str]| wanted.as_deref().is_none_or(|wanted| values.contains(&wanted));
        decision.server == Git::NAME
            && self.until.is_none_or(|until| decision.at <= until)
            && is(&self.agent, &[&decision.agent.name])
            && is(&self.operation, &[&decision.tool, &decision.action])
            && self.branch.as_deref().is_none_or(|branch| concerns(decision, branch))
    }
}

/// Returns whether `decision` is about `branch`: what was done says so by itself, a refusal in its words.
fn concerns(decision: &AuditEntry, branch: &str) -> bool {
    let named = ["branch", "previous", "source"];
    named.iter().any(|name| decision.detail.get(name).and_then(Value::as_str) == Some(branch))
        || (decision.code.is_some() && decision.reason.contains(&format!("`{branch}`")))
}

impl From<AuditEntry> for Entry {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id.to_string(),
            at: entry.at.to_string(),
            action: entry.action,
            tool: entry.tool,
            code: entry.code,
            reason: entry.reason,
            agent: entry.agent.name,
            role: entry.agent.role,
            task_id: entry.task_id,
            receipt_id: entry.receipt_id.to_string(),
            detail: entry.detail,
        }
    }
}
