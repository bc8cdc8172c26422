//! The queue as people read it.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::table::{printable, shorten, table};
use crate::queue::store::{Checkpoint, Entry};
use crate::queue::task::Status;

/// Returns a task with where it is.
#[must_use]
pub fn entry_json(entry: &Entry) -> Value {
    json!({ "task": entry.exported(), "id": entry.task.id, "status": entry.status, "reason": entry.reason,
        "attempts": entry.attempts, "open_dependencies": entry.open_dependencies, "session": entry.session,
        "worker": entry.worker, "token": entry.token, "lease_until_ms": entry.lease_until, "cost_usd": entry.cost_usd,
        "branch": entry.branch, "commit": entry.commit, "routing": entry.routing, "feature": entry.feature,
        "created_at": entry.created_at, "import": entry.import })
}

/// Returns a table of tasks, and under it how many there are of each status.
#[must_use]
pub fn list_table(entries: &[Entry], counts: &HashMap<String, i64>) -> String {
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            let task = &entry.task;
            vec![
                task.id.clone(),
                place(entry),
                task.priority.to_string(),
                task.kind.to_string(),
                entry.attempts.to_string(),
                format!("${}", entry.cost_usd.normalized()),
                shorten(
                    task.title.as_deref().unwrap_or_else(|| task.description.lines().next().unwrap_or_default()),
                    50,
                ),
                shorten(&entry.reason, 70),
            ]
        })
        .collect();
    let mut totals: Vec<String> = Vec::new();
    for status in Status::WORDS {
        totals.extend(counts.get(*status).map(|count| format!("{count} {status}")));
    }
    let head = ["task", "status", "priority", "type", "attempts", "cost", "what", "why"];
    format!("{}{}\n", table(&head, &[4, 5], &rows), totals.join(", "))
}

fn place(entry: &Entry) -> String {
    match entry.open_dependencies {
        open if open > 0 && entry.status == Status::Pending => format!("waits for {open}"),
        _ => entry.status.to_string(),
    }
}

/// Returns one task with everything that happened to it.
#[must_use]
pub fn replay(entry: &Entry, checkpoints: &[Checkpoint]) -> String {
    let task = &entry.task;
    let mut text = format!("{} · {} · {} · {}\n", task.id, place(entry), task.priority, task.kind);
    let routing = entry.routing.as_ref();
    let routed = routing.map(|routing| {
        let text = |name: &str| routing[name].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", text("decision"), text("reason"))
    });
    for (name, value) in [
        ("why", entry.reason.clone()),
        ("waits for", task.depends_on.join(", ")),
        ("routed", routed.unwrap_or_default()),
        ("worker", entry.worker.clone()),
        ("session", entry.session.clone()),
        ("branch", entry.branch.clone()),
        ("commit", entry.commit.clone()),
        ("import", entry.import.clone()),
    ] {
        if !value.is_empty() {
            text.push_str(&format!("{name} {}\n", printable(&value)));
        }
    }
    text.push_str(&format!("${} in {} attempts\n", entry.cost_usd.normalized(), entry.attempts));
    let description: Vec<String> = task.description.lines().map(|line| format!("  {}", printable(line))).collect();
    text.push_str(&format!("\n{}\n\n", description.join("\n")));
    for checkpoint in checkpoints {
        let at = checkpoint.at.strftime("%Y-%m-%dT%H:%M:%SZ");
        text.push_str(&format!("  {at}  {}  {}\n", checkpoint.what, printable(&checkpoint.note)));
    }
    text
}
