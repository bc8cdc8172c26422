//! What a person decides about a task.

use serde_json::json;
use tollgate_shared::money::Money;

use super::database::{Columns, Value};
use super::event::{EventKind, News, costs};
use super::lease::{progress, told};
use super::store::{Queue, QueueError, note_down};

impl Queue {
    /// Lets a task run that is blocked, cancelled or waits for a person: with new attempts, and a budget of its own again.
    ///
    /// # Errors
    ///
    /// [`QueueError::Unknown`], or [`QueueError::Refused`] with where the task is.
    pub async fn retry(&self, id: &str) -> Result<(), QueueError> {
        let sql = "UPDATE queue_task SET status = 'pending', attempts = 0, lost = 0, spent_usd = '0', session = '', place = '',
                   reason = '', released = 1, updated_at = $2
                   WHERE id = $1 AND status IN ('blocked', 'cancelled', 'needs_person')";
        self.decide(id, sql, &[], "retried", "a person lets it run", "is blocked, cancelled or waits for a person")
            .await
    }

    /// Blocks a task; a worker that has it stops.
    ///
    /// # Errors
    ///
    /// [`QueueError::Unknown`], or [`QueueError::Refused`] with where the task is.
    pub async fn block(&self, id: &str, reason: &str) -> Result<(), QueueError> {
        self.take_away(id, "blocked", reason).await
    }

    /// Cancels a task; a worker that has it stops.
    ///
    /// # Errors
    ///
    /// [`QueueError::Unknown`], or [`QueueError::Refused`] with where the task is.
    pub async fn cancel(&self, id: &str, reason: &str) -> Result<(), QueueError> {
        self.take_away(id, "cancelled", reason).await
    }

    /// Puts a completed task out of lists.
    ///
    /// # Errors
    ///
    /// [`QueueError::Unknown`], or [`QueueError::Refused`] with where the task is.
    pub async fn archive(&self, id: &str) -> Result<(), QueueError> {
        let sql = "UPDATE queue_task SET status = 'archived', updated_at = $2 WHERE id = $1 AND status = 'completed'";
        self.decide(id, sql, &[], "archived", "", "is completed").await
    }

    async fn take_away(&self, id: &str, status: &str, reason: &str) -> Result<(), QueueError> {
        // The token grows: whatever the worker that has it still writes is refused.
        let sql = "UPDATE queue_task SET status = $3, reason = $4, token = token + 1, worker = '', lease_until = 0, updated_at = $2
                   WHERE id = $1 AND status IN ('pending', 'in_progress', 'blocked', 'needs_person')";
        let open = "is neither completed nor cancelled";
        self.decide(id, sql, &[status.into(), reason.into()], status, reason, open).await
    }

    async fn decide(
        &self,
        id: &str,
        sql: &str,
        more: &[Value],
        what: &str,
        note: &str,
        needed: &str,
    ) -> Result<(), QueueError> {
        let now = self.now_ms().await?;
        let mut step = self.database.begin().await?;
        let mut values: Vec<Value> = vec![id.into(), now.into()];
        values.extend(more.iter().cloned());
        if step.execute(sql, &values).await? == 0 {
            drop(step);
            let entry = self.find(id).await?.ok_or_else(|| QueueError::Unknown(id.to_owned()))?;
            return Err(QueueError::Refused(format!("{id} is {}; this is for a task that {needed}", entry.status)));
        }
        note_down(&mut step, id, now, what, note).await?;
        let sum;
        let mut news = vec![News::of(id, what, note)];
        // Whoever decides about a task decides about its attempt too, which cost what is known of it.
        let attempt = progress(&mut step, id).await?.filter(|attempt| !attempt.session.is_empty());
        step.execute("DELETE FROM queue_progress WHERE task = $1", &[id.into()]).await?;
        if let Some(attempt) = attempt {
            let read = |row: &dyn Columns| Ok((row.text(0)?, row.text(1)?));
            let sql = "SELECT cost_usd, spent_usd FROM queue_task WHERE id = $1";
            let (cost, spent) = step.fetch(sql, &[id.into()], read).await?.pop().unwrap_or_default();
            let altogether = cost.parse().unwrap_or(Money::ZERO) + attempt.spent;
            let spent = spent.parse().unwrap_or(Money::ZERO) + attempt.spent;
            let sql = "UPDATE queue_task SET cost_usd = $2, spent_usd = $3 WHERE id = $1";
            step.execute(sql, &[id.into(), altogether.to_string().into(), spent.to_string().into()]).await?;
            sum = told(attempt.spent, altogether);
            let mut data = costs(attempt.spent, altogether, None);
            data["outcome"] = json!(what);
            data["session"] = json!(attempt.session);
            news.push(News::of(id, "attempt_ended", &sum).kind(EventKind::CostSummary).cost(attempt.spent).data(data));
        }
        self.publish(&mut step, &news).await?;
        step.commit().await
    }
}
