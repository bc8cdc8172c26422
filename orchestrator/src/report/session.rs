//! Sessions as people read them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::table::{shorten, table};
use super::task::acceptance;
use crate::session::{CallRecord, History, Phase, Said, slot};
use crate::task::OF_AGENT;

/// Returns one session in a few fields.
#[must_use]
pub fn summary(history: &History) -> Value {
    let session = &history.session;
    let reason = match &session.phase {
        Phase::Ended { reason, .. } => Some(reason),
        _ => None,
    };
    json!({ "id": session.id, "task": session.task, "agent": session.agent.label(), "phase": session.phase.as_str(),
        "reason": reason, "iteration": session.iteration, "calls": history.tool_calls().count(), "cost_usd": history.cost(),
        "branch": session.branch, "worktree": session.worktree, "commit": session.commit,
        "created_at": session.created_at, "archived": session.archived })
}

/// Returns a table of sessions.
#[must_use]
pub fn list_table(histories: &[History]) -> String {
    let rows: Vec<Vec<String>> = histories
        .iter()
        .map(|history| {
            let session = &history.session;
            vec![
                session.id.clone(),
                session.phase.as_str().to_owned(),
                session.iteration.to_string(),
                history.tool_calls().count().to_string(),
                format!("${}", history.cost().normalized()),
                session.agent.label(),
                shorten(session.task.lines().next().unwrap_or_default(), 60),
            ]
        })
        .collect();
    table(&["session", "state", "iteration", "calls", "cost", "agent", "task"], &[2, 3, 4], &rows)
}

/// Returns everything that happened in a session, in order.
#[must_use]
pub fn replay(history: &History) -> String {
    let session = &history.session;
    let mut text = format!("{} · {} · {}\n", session.id, session.agent.label(), session.phase.as_str());
    if let Phase::Ended { reason, .. } = &session.phase {
        text.push_str(&format!("{reason}\n"));
    }
    for (name, value) in [
        ("branch", Some(session.branch.clone())),
        ("base", session.base_commit.clone()),
        ("commit", session.commit.clone()),
        ("worktree", session.worktree.as_ref().map(|path| path.display().to_string())),
    ] {
        text.push_str(&value.map(|value| format!("{name} {value}\n")).unwrap_or_default());
    }
    text.push_str(&format!(
        "${} of ${} · {} calls · {} s\n",
        history.cost().normalized(),
        session.budget_usd.normalized(),
        history.tool_calls().count(),
        session.worked_ms / 1000
    ));
    let mut verdicts = history.verdicts.iter();
    let mut turn_began = Timestamp::MIN;
    for message in &history.messages {
        match &message.said {
            Said::Task { text: task } => text.push_str(&format!("\ntask\n{}\n", indented(task))),
            Said::Findings { text: findings } => {
                text.push_str(&verdicts.next().map(verdict).unwrap_or_default());
                text.push_str(&format!("\niteration {}\n{}\n", message.iteration, indented(findings)));
            }
            Said::Summary { text: summary, .. } => text.push_str(&format!("\nsummary\n{}\n", indented(summary))),
            Said::Agent(reply) => {
                if let Some(said) = &reply.text {
                    text.push_str(&format!("\nagent\n{}\n", indented(said)));
                }
                let own = history.calls.iter().filter(|call| call.slot.starts_with(OF_AGENT));
                let of_turn = own.filter(|call| call.begun_at > turn_began && call.begun_at <= message.at);
                text.push_str(&of_turn.map(call).collect::<String>());
                for index in 0..reply.calls.len() {
                    text.push_str(&history.call(&slot(message.number, index)).map(call).unwrap_or_default());
                }
            }
        }
        turn_began = message.at;
    }
    text.push_str(&verdicts.map(verdict).collect::<String>());
    let last = history.calls.iter().filter(|call| call.slot.starts_with("stage") || call.slot.starts_with("commit"));
    text.push_str(&last.map(call).collect::<String>());
    text
}

fn verdict(verdict: &crate::session::VerdictRecord) -> String {
    let commands = acceptance(&verdict.acceptance);
    format!("\nverdict {}: {}\n{commands}", verdict.verdict, verdict.decision)
}

fn call(call: &CallRecord) -> String {
    let (outcome, answer, cost) = call.answer.as_ref().map_or(("unknown", String::new(), String::new()), |answer| {
        let cost = answer.receipt.as_ref().map(|receipt| format!("  ${}", receipt.amount.normalized()));
        (answer.outcome.as_str(), answer.structured.to_string(), cost.unwrap_or_default())
    });
    let arguments = shorten(&call.arguments.to_string(), 200);
    format!("  {} {arguments}\n    {outcome}{cost}  {}\n", call.tool, shorten(&answer, 300))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
