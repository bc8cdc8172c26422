//! Who has which task: claims with a lease and a token, and the writes that only whoever has the latest token may make.

use std::time::Duration;

use serde_json::Value;
use tollgate_shared::money::Money;

use super::store::{COLUMNS, Entry, Queue, QueueError, entry, note_down};

/// A task that is claimed: for as long as the lease is renewed, and nobody claims it again.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The task as it was when it was claimed.
    pub entry: Entry,
    /// Until when, in milliseconds since 1970 by the queue's clock.
    pub until_ms: i64,
}

/// What becomes of a task whose worker is done with it.
#[derive(Clone, Debug)]
pub enum Settlement {
    /// Done and verified.
    Completed {
        /// Where what came of it is.
        branch: String,
        /// What came of it.
        commit: String,
    },
    /// Cannot go on.
    Blocked(String),
    /// Waits for a person.
    NeedsPerson(String),
    /// Is to be tried once more, from the beginning.
    Again(String),
    /// Whoever comes next goes on where this worker was.
    Released,
    /// The same, but not before so many milliseconds.
    Deferred(i64, String),
}

impl Settlement {
    /// Returns it in a line.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Completed { branch, commit } => format!("completed: {commit} on {branch}"),
            Self::Blocked(reason) => format!("blocked: {reason}"),
            Self::NeedsPerson(reason) => format!("waits for a person: {reason}"),
            Self::Again(reason) => format!("to be tried again: {reason}"),
            Self::Released => "given back; whoever claims it goes on from here".to_owned(),
            Self::Deferred(_, reason) => format!("put off: {reason}"),
        }
    }
}

impl Queue {
    /// Claims the next task: one whose worker is gone, to go on where that was; else of those whose dependencies are done the
    /// most urgent, of these the oldest. `place` is the state folder with the sessions that this worker can go on with.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn claim(&self, worker: &str, place: &str, lease: Duration) -> Result<Option<Lease>, QueueError> {
        let now = self.now_ms().await?;
        let until_ms = now.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
        let values = [worker.into(), until_ms.into(), now.into(), place.into()];
        let skipping = self.database.skipping_locked();
        // `lost` counts leases that ran out, not those that were given back.
        let resumable = format!(
            "UPDATE queue_task SET token = token + 1, worker = $1, lease_until = $2, updated_at = $3,
                 lost = lost + CASE WHEN lease_until > 0 THEN 1 ELSE 0 END
             WHERE id = (SELECT id FROM queue_task
                         WHERE status = 'in_progress' AND lease_until <= $3 AND (place = '' OR place = $4)
                         ORDER BY priority, created_at, position LIMIT 1 {skipping})
             RETURNING {COLUMNS}"
        );
        if let Some(entry) = self.database.fetch(&resumable, &values, entry).await?.pop() {
            return Ok(Some(Lease { entry, until_ms }));
        }
        let ready = format!(
            "UPDATE queue_task SET status = 'in_progress', token = token + 1, worker = $1, lease_until = $2, updated_at = $3,
                 lost = 0, session = '', place = ''
             WHERE id = (SELECT id FROM queue_task WHERE status = 'pending' AND open_dependencies = 0
                         ORDER BY priority, created_at, position LIMIT 1 {skipping})
             RETURNING {COLUMNS}"
        );
        Ok(self.database.fetch(&ready, &values[..3], entry).await?.pop().map(|entry| Lease { entry, until_ms }))
    }

    /// Renews a lease; returns until when it lasts.
    ///
    /// # Errors
    ///
    /// [`QueueError::LeaseLost`], when somebody else has the task by now.
    pub async fn renew(&self, id: &str, token: i64, lease: Duration) -> Result<i64, QueueError> {
        let now = self.now_ms().await?;
        let until_ms = now.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
        let sql = "UPDATE queue_task SET lease_until = $3 WHERE id = $1 AND token = $2 AND status = 'in_progress'";
        let renewed = self.database.execute(sql, &[id.into(), token.into(), until_ms.into()]).await?;
        if renewed == 0 { Err(QueueError::LeaseLost { id: id.to_owned() }) } else { Ok(until_ms) }
    }

    /// Writes down, before a new attempt begins, in which session it will be: from here on whoever claims the task goes on
    /// with that one.
    ///
    /// # Errors
    ///
    /// [`QueueError::LeaseLost`].
    pub async fn attach(&self, lease: &Lease, session: &str, place: &str) -> Result<(), QueueError> {
        let sql = "UPDATE queue_task SET session = $3, place = $4, attempts = attempts + 1, lost = 0, updated_at = $5
                   WHERE id = $1 AND token = $2 AND status = 'in_progress'";
        let more = [session.into(), place.into()];
        self.write(lease, sql, &more, "attempt", session).await
    }

    /// Writes down what the router decided.
    ///
    /// # Errors
    ///
    /// [`QueueError::LeaseLost`].
    pub async fn route(&self, lease: &Lease, routing: &Value) -> Result<(), QueueError> {
        let sql = "UPDATE queue_task SET routing = $3, updated_at = $4 WHERE id = $1 AND token = $2 AND status = 'in_progress'";
        let note = routing["reason"].as_str().unwrap_or_default().to_owned();
        self.write(lease, sql, &[routing.to_string().into()], "routed", &note).await
    }

    /// Writes down how far a task is.
    ///
    /// # Errors
    ///
    /// [`QueueError::LeaseLost`].
    pub async fn checkpoint(&self, lease: &Lease, what: &str, note: &str) -> Result<(), QueueError> {
        let sql = "UPDATE queue_task SET updated_at = $3 WHERE id = $1 AND token = $2 AND status = 'in_progress'";
        self.write(lease, sql, &[], what, note).await
    }

    /// Ends a lease, with what the attempts cost so far since the last time this was said.
    ///
    /// # Errors
    ///
    /// [`QueueError::LeaseLost`]; then nothing is changed.
    pub async fn settle(&self, lease: &Lease, settlement: &Settlement, cost: Money) -> Result<(), QueueError> {
        let before = &lease.entry;
        let (status, reason, what) = match settlement {
            Settlement::Completed { .. } => ("completed", "", "completed"),
            Settlement::Blocked(reason) => ("blocked", reason.as_str(), "blocked"),
            Settlement::NeedsPerson(reason) => ("needs_person", reason.as_str(), "needs_person"),
            Settlement::Again(reason) => ("pending", reason.as_str(), "failed"),
            Settlement::Released => ("in_progress", "", "released"),
            Settlement::Deferred(_, reason) => ("in_progress", reason.as_str(), "deferred"),
        };
        let (branch, commit) = match settlement {
            Settlement::Completed { branch, commit } => (branch.as_str(), commit.as_str()),
            _ => (before.branch.as_str(), before.commit.as_str()),
        };
        let now = self.now_ms().await?;
        // Being put off is nobody's death: the count that the next claim makes is taken back beforehand.
        let (lease_until, lost) = match settlement {
            Settlement::Deferred(ms, _) => (now.saturating_add(*ms), -1),
            _ => (0, 0),
        };
        let mut step = self.database.begin().await?;
        let sql = "UPDATE queue_task SET status = $3, reason = $4, branch = $5, commit_id = $6, cost_usd = $7, spent_usd = $8,
                       worker = '', lease_until = $9, lost = lost + $10, updated_at = $11
                   WHERE id = $1 AND token = $2 AND status = 'in_progress'";
        let values = [
            before.task.id.as_str().into(),
            before.token.into(),
            status.into(),
            reason.into(),
            branch.into(),
            commit.into(),
            (before.cost_usd + cost).to_string().into(),
            (before.spent_usd + cost).to_string().into(),
            lease_until.into(),
            lost.into(),
            now.into(),
        ];
        if step.execute(sql, &values).await? == 0 {
            return Err(QueueError::LeaseLost { id: before.task.id.clone() });
        }
        let note = if commit.is_empty() || !reason.is_empty() { reason } else { commit };
        note_down(&mut step, &before.task.id, now, what, note).await?;
        if let Settlement::Completed { .. } = settlement {
            let sql = "UPDATE queue_task SET open_dependencies = open_dependencies - 1
                       WHERE id IN (SELECT task FROM queue_dependency WHERE depends_on = $1)";
            step.execute(sql, &[before.task.id.as_str().into()]).await?;
        }
        step.commit().await
    }

    /// Carries out `sql`, whose first parameters are the task and the token and whose last is the instant.
    async fn write(
        &self,
        lease: &Lease,
        sql: &str,
        more: &[super::database::Value],
        what: &str,
        note: &str,
    ) -> Result<(), QueueError> {
        let id = lease.entry.task.id.as_str();
        let now = self.now_ms().await?;
        let mut step = self.database.begin().await?;
        let mut values: Vec<super::database::Value> = vec![id.into(), lease.entry.token.into()];
        values.extend(more.iter().cloned());
        values.push(now.into());
        if step.execute(sql, &values).await? == 0 {
            return Err(QueueError::LeaseLost { id: id.to_owned() });
        }
        note_down(&mut step, id, now, what, note).await?;
        step.commit().await
    }
}
