//! Sessions as people read them.

use jiff::Timestamp;
use serde_json::{Value, json};
use tollgate_shared::money::Money;

use super::table::{printable, shorten, table};
use super::task::acceptance;
use crate::session::{CallRecord, History, Phase, Said, slot};
use crate::task::OF_AGENT;
use crate::team::Team;

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
        text.push_str(&format!("{}\n", printable(reason)));
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
        history.total_cost().normalized(),
        session.budget_usd.normalized(),
        history.tool_calls().count(),
        session.worked_ms / 1000
    ));
    if let Some(team) = &session.team {
        text.push_str(&team_table(history, team));
    }
    let mut verdicts = history.verdicts.iter();
    let mut turn_began = Timestamp::MIN;
    for message in &history.messages {
        match &message.said {
            Said::Task { text: task } => text.push_str(&format!("\ntask\n{}\n", indented(task))),
            Said::Findings { text: findings } => {
                text.push_str(&verdicts.next().map(verdict).unwrap_or_default());
                text.push_str(&format!("\niteration {}\n{}\n", message.iteration, indented(findings)));
            }
            Said::Team { text: told } => text.push_str(&format!("\nteam\n{}\n", indented(told))),
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

/// Returns who did which part of a team's task, and what dividing it, each part and putting it together cost.
fn team_table(history: &History, team: &Team) -> String {
    let costs = TeamCosts::of(history);
    let usd = |amount: Money| format!("${}", amount.normalized());
    let row = |part: &str, role: &str, state: &str, iterations: String, cost: Money, each: String, session: &str| {
        vec![part.to_owned(), role.to_owned(), state.to_owned(), iterations, usd(cost), each, session.to_owned()]
    };
    let none = String::new;
    let mut rows = vec![row("analysis", &team.lead.name, "", none(), costs.analysis, none(), "")];
    for member in &team.members {
        let each = usd(member.cost_usd.average_over(u64::from(member.iterations)));
        let state = json!(member.state);
        let state = state.as_str().unwrap_or_default();
        let iterations = member.iterations.to_string();
        rows.push(row(&member.id, &member.role.name, state, iterations, member.cost_usd, each, &member.session));
    }
    let iterations = history.session.iteration;
    let each = usd(costs.synthesis.average_over(u64::from(iterations)));
    let iterations = iterations.to_string();
    let name = if team.fallback.is_some() { "one agent" } else { "synthesis" };
    rows.push(row(name, &team.lead.name, "", iterations, costs.synthesis, each, ""));
    let mut text = format!(
        "\n{}",
        table(&["part", "role", "state", "iterations", "cost", "per iteration", "session"], &[3, 4, 5], &rows)
    );
    for (what, reason) in [("the usual parts", &team.default_reason), ("one agent did it", &team.fallback)] {
        text.push_str(&reason.as_ref().map(|reason| format!("{what}: {}\n", printable(reason))).unwrap_or_default());
    }
    text
}

/// What the parts of a lead's work cost.
struct TeamCosts {
    /// Dividing the task.
    analysis: Money,
    /// Merging, putting it together and verifying the whole.
    synthesis: Money,
}

impl TeamCosts {
    fn of(history: &History) -> Self {
        let first = history.messages.iter().find(|message| message.iteration > 0).map(|message| message.at);
        let before = |at: Timestamp| first.is_none_or(|first| at < first);
        let of_messages =
            history.messages.iter().filter(|message| message.iteration == 0).flat_map(|message| match &message.said {
                Said::Agent(reply) => reply.receipts.iter(),
                Said::Summary { receipts, .. } => receipts.iter(),
                _ => [].iter(),
            });
        let of_merging = |call: &&CallRecord| call.slot.starts_with("merge.") || call.slot.starts_with("conflict.");
        let of_calls =
            history.calls.iter().filter(|call| before(call.begun_at) && !of_merging(call)).flat_map(|call| {
                call.lost.iter().chain(call.answer.as_ref().and_then(|answer| answer.receipt.as_ref()))
            });
        let analysis = of_messages.chain(of_calls).map(|receipt| receipt.amount).sum();
        Self { analysis, synthesis: history.cost().left_after(analysis) }
    }
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
    text.lines().map(|line| format!("  {}", printable(line))).collect::<Vec<_>>().join("\n")
}
