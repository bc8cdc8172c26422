//! The queue at a glance, for whoever watches.

use jiff::Timestamp;
use serde::Serialize;
use tollgate_shared::money::Money;

use super::database::Columns;
use super::store::{COLUMNS, Entry, Queue, QueueError, entry};

/// How many tasks a forecast looks back on.
const HISTORY_MAX: i64 = 5_000;

/// A task and how far it is.
#[derive(Clone, Debug)]
pub struct Glance {
    /// The task.
    pub entry: Entry,
    /// How far its attempt is, in a few words; empty when none is under way.
    pub phase: String,
    /// What it cost altogether, with what is known of the attempt under way.
    pub cost_usd: Money,
    /// The same since a person last gave it new attempts: what its budget is for.
    pub spent_usd: Money,
    /// When something last happened to it.
    pub updated_at: Timestamp,
}

/// How many tasks there are of each status, and what was spent today.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// By status, those of none left out.
    pub counts: Vec<(String, i64)>,
    /// On this day (UTC).
    pub spent_today_usd: Money,
}

impl Queue {
    /// Returns at most `limit` tasks: first those under way, then those that a person has to look at, then what waits, then
    /// what is over; of each the latest first.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn glance(&self, limit: i64) -> Result<Vec<Glance>, QueueError> {
        let sql = format!(
            "SELECT {COLUMNS}, updated_at, COALESCE(phase, ''), COALESCE(attempt_usd, '0')
             FROM queue_task LEFT JOIN (SELECT task, phase, spent_usd AS attempt_usd FROM queue_progress) AS p ON task = id
             WHERE status <> 'archived'
             ORDER BY CASE status WHEN 'in_progress' THEN 0 WHEN 'needs_person' THEN 1 WHEN 'blocked' THEN 2
                      WHEN 'pending' THEN 3 ELSE 4 END, updated_at DESC, position LIMIT $1"
        );
        let read = |row: &dyn Columns| {
            let entry = entry(row)?;
            let attempt: Money = row.text(22)?.parse().unwrap_or_default();
            Ok(Glance {
                cost_usd: entry.cost_usd + attempt,
                spent_usd: entry.spent_usd + attempt,
                entry,
                updated_at: Timestamp::from_millisecond(row.whole(20)?).unwrap_or_default(),
                phase: row.text(21)?,
            })
        };
        self.database.fetch(&sql, &[limit.into()], read).await
    }

    /// Returns the latest tasks that are over and cost something, for what is to be expected of others.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn history(&self) -> Result<Vec<Entry>, QueueError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM queue_task WHERE status IN ('completed', 'archived', 'blocked', 'cancelled') AND cost_usd <> '0'
             ORDER BY updated_at DESC, position LIMIT $1"
        );
        self.database.fetch(&sql, &[HISTORY_MAX.into()], entry).await
    }

    /// Returns how many tasks there are and what they cost today.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn totals(&self) -> Result<Totals, QueueError> {
        let mut counts: Vec<(String, i64)> = self.counts().await?.into_iter().collect();
        counts.sort();
        Ok(Totals { counts, spent_today_usd: self.spent_today().await? })
    }
}
