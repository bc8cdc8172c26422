//! What came of each task of the queue, as people read it.

use serde::Serialize;
use tollgate_shared::money::Money;

use super::table::{shorten, table};
use crate::queue::store::{Checkpoint, Entry};
use crate::queue::task::Status;

/// What came of one task.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The task.
    pub id: String,
    /// Who did it: `single`, `team`, `human`, or `team, then single` where the team could not; empty before it is routed.
    pub decision: String,
    /// Which rule of the router decided.
    pub rule: String,
    /// Where it is.
    pub status: Status,
    /// What verification said, in order; with the name of its part where a team's member was judged.
    pub verdicts: Vec<String>,
    /// How often it was begun again.
    pub retries: i64,
    /// How often the work of a team's member conflicted with another's.
    pub conflicts: usize,
    /// What it cost, in US dollars.
    pub cost_usd: Money,
    /// The same for each time that an agent, or a member of a team, said that it is done; 0 when nobody did.
    pub cost_per_iteration_usd: Money,
    /// What it is worth, in US dollars.
    pub value_usd: Money,
    /// Why it is where it is.
    pub reason: String,
}

impl Outcome {
    /// Reads it from what is in the queue.
    #[must_use]
    pub fn of(entry: &Entry, checkpoints: &[Checkpoint]) -> Self {
        let text = |name: &str| {
            let routing = entry.routing.as_ref();
            routing.and_then(|routing| routing[name].as_str()).unwrap_or_default().to_owned()
        };
        let is_fallback = entry.routing.as_ref().is_some_and(|routing| routing["fallback"] == true);
        let fell_back = is_fallback && text("decision") == "team";
        let decision = if fell_back { format!("{}, then single", text("decision")) } else { text("decision") };
        let verdicts = checkpoints.iter().filter_map(|point| match point.what.as_str() {
            "verdict" => Some(verdict(&point.note)),
            "specialist" => {
                let (part, verdict) = point.note.split_once(": verdict ")?;
                Some(format!("{part} {}", self::verdict(verdict)))
            }
            _ => None,
        });
        let verdicts: Vec<String> = verdicts.collect();
        Self {
            id: entry.task.id.clone(),
            decision,
            rule: text("rule"),
            status: entry.status,
            retries: (entry.attempts - 1).max(0),
            conflicts: checkpoints.iter().filter(|point| point.what == "conflict").count(),
            cost_usd: entry.cost_usd,
            cost_per_iteration_usd: entry.cost_usd.average_over(verdicts.len() as u64),
            value_usd: entry.task.estimated_value_usd.0.0,
            reason: entry.reason.clone(),
            verdicts,
        }
    }
}

/// Returns what verification said, and what followed where that is not that it is done.
fn verdict(note: &str) -> String {
    note.strip_suffix(": done").unwrap_or(note).to_owned()
}

/// Returns a table of outcomes, and under it what completed tasks are worth and what everything cost.
#[must_use]
pub fn outcome_table(outcomes: &[Outcome]) -> String {
    let rows: Vec<Vec<String>> = outcomes
        .iter()
        .map(|outcome| {
            let rule = if outcome.rule.is_empty() { String::new() } else { format!(" ({})", outcome.rule) };
            let conflicts = match outcome.conflicts {
                0 => String::new(),
                1 => "1 conflict; ".to_owned(),
                count => format!("{count} conflicts; "),
            };
            vec![
                outcome.id.clone(),
                format!("{}{rule}", outcome.decision),
                outcome.status.to_string(),
                shorten(&outcome.verdicts.join(", "), 60),
                outcome.retries.to_string(),
                format!("${}", outcome.cost_usd.normalized()),
                format!("${}", outcome.value_usd.normalized()),
                shorten(format!("{conflicts}{}", outcome.reason).trim_end_matches("; "), 70),
            ]
        })
        .collect();
    let head = ["task", "decision", "outcome", "verdicts", "retries", "cost", "worth", "why"];
    let done = |outcome: &&Outcome| outcome.status.is_done();
    let cost: Money = outcomes.iter().map(|outcome| outcome.cost_usd).sum();
    let worth: Money = outcomes.iter().filter(done).map(|outcome| outcome.value_usd).sum();
    let completed = outcomes.iter().filter(done).count();
    let efficiency = match worth.quantity_at(cost) {
        Some(times) if completed > 0 => {
            format!(
                ", ${} for each completed one; worth {times} times that",
                cost.average_over(completed as u64).normalized()
            )
        }
        _ => String::new(),
    };
    format!(
        "{}{completed} of {} completed, worth ${}; everything cost ${}{efficiency}\n",
        table(&head, &[4, 5, 6], &rows),
        outcomes.len(),
        worth.normalized(),
        cost.normalized()
    )
}
