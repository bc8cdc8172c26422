//! What happened, for whoever watches: written in the transaction in which it happens, and followed without missing any.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollgate_shared::money::Money;

use super::database::{Changes, Columns};
use super::store::{Queue, QueueError};
use super::task::words;
use crate::report::table::shorten;

/// How far a reader looks back, in milliseconds: longer than a transaction lasts after it wrote an event. What is written last
/// in a transaction waits for nothing, and PostgreSQL ends one whose client is gone after half of this.
pub const LOOK_BACK_MS: i64 = 60_000;

/// How many events are read at a time.
const PAGE: usize = 500;

/// How many events are taken out in one transaction, so that workers do not wait for it.
const PRUNED_AT_ONCE: i64 = 5_000;

/// How long a note is at most, in characters.
pub(super) const NOTE_LENGTH_MAX: usize = 2_000;

words! {
    /// Of which kind an event is.
    EventKind {
        /// A task was added, claimed, routed, completed, given back …
        Task = "task",
        /// Something about a member of a team.
        Specialist = "specialist",
        /// An iteration begins.
        Iteration = "iteration",
        /// What was made was looked at.
        Verdict = "verdict",
        /// What an attempt cost so far.
        CostUpdate = "cost_update",
        /// A task's budget is nearly used up.
        CostWarning = "cost_warning",
        /// What an attempt cost that is over.
        CostSummary = "cost_summary",
        /// A person has to decide.
        Escalation = "escalation",
        /// One agent does what was a team's.
        Fallback = "fallback",
        /// Something about all tasks is not as it should be.
        Alert = "alert",
    }
}

impl EventKind {
    /// Returns the kind of what is written down as `what` about the task itself.
    fn of(what: &str) -> Self {
        match what {
            "iteration" => Self::Iteration,
            "verdict" => Self::Verdict,
            "needs_person" | "blocked" => Self::Escalation,
            "fallback" => Self::Fallback,
            _ => Self::Task,
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Names it; as text in the order of time.
    pub id: String,
    /// When, by the database's clock.
    pub at: Timestamp,
    /// The task; empty where it is about none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub task: String,
    /// Who of a team.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub member: String,
    /// Of which kind it is.
    pub kind: EventKind,
    /// In a word.
    pub what: String,
    /// In a sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// What it cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<Money>,
    /// Everything else.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub data: Value,
}

/// What is to be an event.
#[derive(Clone, Debug)]
pub(super) struct News<'a> {
    pub(super) task: &'a str,
    pub(super) member: &'a str,
    pub(super) kind: EventKind,
    pub(super) what: &'a str,
    pub(super) note: &'a str,
    pub(super) cost: Option<Money>,
    pub(super) data: Value,
}

impl<'a> News<'a> {
    /// What is written down as `what` about a task.
    pub(super) fn of(task: &'a str, what: &'a str, note: &'a str) -> Self {
        Self { task, member: "", kind: EventKind::of(what), what, note, cost: None, data: Value::Null }
    }

    pub(super) fn member(self, member: &'a str) -> Self {
        let kind = if member.is_empty() { self.kind } else { EventKind::Specialist };
        Self { member, kind, ..self }
    }

    pub(super) fn kind(self, kind: EventKind) -> Self {
        Self { kind, ..self }
    }

    pub(super) fn cost(self, cost: Money) -> Self {
        Self { cost: Some(cost), ..self }
    }

    pub(super) fn data(self, data: Value) -> Self {
        Self { data, ..self }
    }
}

const COLUMNS: &str = "id, at, task, member, kind, what, note, cost_usd, data";

fn event(row: &dyn Columns) -> Result<Event, sqlx::Error> {
    let kind = row.text(4)?;
    Ok(Event {
        id: row.text(0)?,
        at: Timestamp::from_millisecond(row.whole(1)?).unwrap_or_default(),
        task: row.text(2)?,
        member: row.text(3)?,
        kind: EventKind::parse(&kind).ok_or_else(|| sqlx::Error::Decode(format!("no kind `{kind}`").into()))?,
        what: row.text(5)?,
        note: row.text(6)?,
        cost_usd: row.text(7)?.parse().ok(),
        data: serde_json::from_str(&row.text(8)?).unwrap_or_default(),
    })
}

/// Returns what follows the instant in the id of the next event: of two in one millisecond the later one of this process is
/// behind the earlier.
pub(super) fn id_end() -> Result<String, QueueError> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut random = [0; 5];
    getrandom::fill(&mut random).map_err(|error| QueueError::Statement(error.to_string()))?;
    Ok(format!("-{:06x}{}", COUNT.fetch_add(1, Ordering::Relaxed) & 0x00ff_ffff, hex::encode(random)))
}

/// Returns what is before every id of `ms` and behind every earlier one.
pub(super) fn id_start(ms: i64) -> String {
    format!("{:013}", ms.max(0))
}

impl Queue {
    /// Writes events down. The last thing in a transaction: whoever reads looks back only so far.
    pub(super) async fn publish(&self, step: &mut Changes, news: &[News<'_>]) -> Result<(), QueueError> {
        let clock = step.clock();
        let sql = format!(
            "INSERT INTO queue_event ({COLUMNS})
             SELECT CAST(now AS TEXT) || $1, now, $2, $3, $4, $5, $6, $7, $8 FROM (SELECT {clock} AS now) AS clock
             RETURNING {COLUMNS}"
        );
        for news in news {
            let values = [
                id_end()?.into(),
                news.task.into(),
                news.member.into(),
                news.kind.as_str().into(),
                news.what.into(),
                shorten(news.note, NOTE_LENGTH_MAX).into(),
                news.cost.map(|cost| cost.to_string()).unwrap_or_default().into(),
                news.data.to_string().into(),
            ];
            for event in step.fetch(&sql, &values, event).await? {
                self.post(step, &event).await?;
            }
        }
        Ok(())
    }

    /// Returns the last `limit` events, in order.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn last_events(&self, limit: i64) -> Result<Vec<Event>, QueueError> {
        let sql = format!("SELECT {COLUMNS} FROM queue_event ORDER BY id DESC LIMIT $1");
        let mut events = self.database.fetch(&sql, &[limit.into()], event).await?;
        events.reverse();
        Ok(events)
    }

    /// Returns a reader of everything that happened since `since` and will happen.
    #[must_use]
    pub fn follow(&self, since: Timestamp) -> Follower {
        let cursor = id_start(since.as_millisecond());
        Follower { queue: self.clone(), cursor, seen: BTreeSet::new() }
    }

    /// Takes out events that are older than `days` or more than `count`, never those of tasks that are under way, and what
    /// neither rates nor webhooks need any more; returns how many events.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn prune_events(&self, days: u32, count: u64) -> Result<u64, QueueError> {
        let before = self.now_ms().await?.saturating_sub(i64::from(days) * 24 * 60 * 60 * 1000);
        let sql = "SELECT id FROM queue_event ORDER BY id DESC LIMIT 1 OFFSET $1";
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let surplus = self.database.fetch(sql, &[count.into()], |row| row.text(0)).await?.pop();
        let end = id_start(before).max(surplus.map(|id| format!("{id}~")).unwrap_or_default());
        let sql = "DELETE FROM queue_event WHERE id IN
                   (SELECT e.id FROM queue_event e WHERE e.id < $1
                    AND NOT EXISTS (SELECT 1 FROM queue_task t WHERE t.id = e.task AND t.status = 'in_progress')
                    ORDER BY e.id LIMIT $2)";
        let mut pruned = 0;
        loop {
            let now = self.database.execute(sql, &[end.as_str().into(), PRUNED_AT_ONCE.into()]).await?;
            pruned += now;
            if now < PRUNED_AT_ONCE.unsigned_abs() {
                self.prune_outcomes().await?;
                self.prune_deliveries().await?;
                return Ok(pruned);
            }
        }
    }
}

/// A reader of events.
///
/// Writers on several machines commit in another order than that of their events, so each look goes back by
/// [`LOOK_BACK_MS`], and what was seen is dropped.
#[derive(Clone, Debug)]
pub struct Follower {
    queue: Queue,
    /// Up to here everything was seen.
    cursor: String,
    /// What was seen behind that.
    seen: BTreeSet<String>,
}

impl Follower {
    /// Returns what happened and was not returned yet: some of it, nothing when that is all for now. Mostly in order; what
    /// was written late comes late.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`]; then nothing counts as seen.
    pub async fn next(&mut self) -> Result<Vec<Event>, QueueError> {
        // Before the look: what is written afterwards is younger.
        let settled = id_start(self.queue.now_ms().await?.saturating_sub(LOOK_BACK_MS));
        let sql = format!("SELECT {COLUMNS} FROM queue_event WHERE id > $1 ORDER BY id LIMIT $2");
        let mut at = self.cursor.clone();
        let mut new = Vec::new();
        loop {
            let values = [at.as_str().into(), i64::try_from(PAGE).unwrap_or(i64::MAX).into()];
            let page = self.queue.database.fetch(&sql, &values, event).await?;
            let is_last = page.len() < PAGE;
            if let Some(last) = page.last() {
                at.clone_from(&last.id);
            }
            new.extend(page.into_iter().filter(|event| !self.seen.contains(&event.id)));
            if is_last || new.len() >= PAGE {
                break;
            }
        }
        self.seen.extend(new.iter().map(|event| event.id.clone()));
        // Behind `at` nothing was read, behind `settled` something may still appear.
        self.cursor = at.min(settled).max(std::mem::take(&mut self.cursor));
        let cursor = self.cursor.clone();
        self.seen.retain(|id| *id > cursor);
        Ok(new)
    }
}

/// Returns what an event about costs says besides.
pub(super) fn costs(attempt: Money, task: Money, budget: Option<Money>) -> Value {
    json!({ "attempt_usd": attempt, "task_usd": task, "budget_usd": budget })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_the_order_of_time_as_text() {
        let ids: Vec<String> =
            (0..300).map(|_| format!("{}{}", id_start(1_764_398_865_123), id_end().unwrap())).collect();
        assert!(ids.is_sorted(), "{ids:?}");
        let (before, of, after) = (id_start(999), ids[0].as_str(), id_start(1_764_398_865_124));
        assert!(before.as_str() < of && id_start(1_764_398_865_123).as_str() < of && of < after.as_str());
        assert!(format!("{of}~").as_str() > of && format!("{of}~") < ids[1]);
    }
}
