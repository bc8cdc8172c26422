//! Who has which task: claims with a lease and a token, and the writes that only whoever has the latest token may make.

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_shared::money::Money;

use super::alarm::{NOTHING_STOPS_WORK, Outcome};
use super::database::Changes;
use super::event::{EventKind, News, costs};
use super::store::{COLUMNS, Entry, Queue, QueueError, entry, note_down};

/// From which part of a task's budget on it is said that it is nearly used up, in per cent.
const WARNING_PERCENT: u64 = 80;

/// How long writing down what was spent waits for others who do.
const SPEND_WAIT_MAX: Duration = Duration::from_secs(2);

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
    /// most urgent, of these the oldest; none while an alarm stops work. `place` is the state folder with the sessions that
    /// this worker can go on with.
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
                         WHERE status = 'in_progress' AND lease_until <= $3 AND (place = '' OR place = $4) AND {NOTHING_STOPS_WORK}
                         ORDER BY priority, created_at, position LIMIT 1 {skipping})
             RETURNING {COLUMNS}"
        );
        let ready = format!(
            "UPDATE queue_task SET status = 'in_progress', token = token + 1, worker = $1, lease_until = $2, updated_at = $3,
                 lost = 0, session = '', place = ''
             WHERE id = (SELECT id FROM queue_task WHERE status = 'pending' AND open_dependencies = 0 AND {NOTHING_STOPS_WORK}
                         ORDER BY priority, created_at, position LIMIT 1 {skipping})
             RETURNING {COLUMNS}"
        );
        let mut step = self.database.begin().await?;
        let mut claimed = step.fetch(&resumable, &values, entry).await?.pop();
        if claimed.is_none() {
            claimed = step.fetch(&ready, &values[..3], entry).await?.pop();
        }
        let Some(entry) = claimed else { return Ok(None) };
        let note = if entry.session.is_empty() { "" } else { "goes on where it was" };
        let data = json!({ "worker": worker, "token": entry.token, "session": entry.session, "lost": entry.lost });
        let news = News::of(&entry.task.id, "claimed", note).data(data);
        self.publish(&mut step, &[news]).await?;
        step.commit().await?;
        Ok(Some(Lease { entry, until_ms }))
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
        let id = lease.entry.task.id.as_str();
        let mut step = self.write(lease, sql, &more, "attempt", session).await?;
        let sql = "INSERT INTO queue_progress VALUES ($1, $2, 'begins', '0', 0)
                   ON CONFLICT (task) DO UPDATE SET session = excluded.session, phase = excluded.phase, spent_usd = '0'";
        step.execute(sql, &[id.into(), session.into()]).await?;
        let data = json!({ "attempt": lease.entry.attempts + 1, "session": session });
        let note = format!("attempt {}", lease.entry.attempts + 1);
        self.publish(&mut step, &[News::of(id, "attempt", &note).data(data)]).await?;
        step.commit().await
    }

    /// Writes down what the router decided.
    ///
    /// # Errors
    ///
    /// [`QueueError::LeaseLost`].
    pub async fn route(&self, lease: &Lease, routing: &Value) -> Result<(), QueueError> {
        let sql = "UPDATE queue_task SET routing = $3, updated_at = $4 WHERE id = $1 AND token = $2 AND status = 'in_progress'";
        let note = routing["reason"].as_str().unwrap_or_default().to_owned();
        let mut step = self.write(lease, sql, &[routing.to_string().into()], "routed", &note).await?;
        let id = lease.entry.task.id.as_str();
        let mut news = vec![News::of(id, "routed", &note).data(routing.clone())];
        if routing["fallback"] == json!(true) {
            news.push(News::of(id, "fallback", &note));
        }
        self.publish(&mut step, &news).await?;
        step.commit().await
    }

    /// Writes down how far a task is; `member` of the team that does it, empty for the task itself.
    ///
    /// # Errors
    ///
    /// [`QueueError::LeaseLost`].
    pub async fn checkpoint(&self, lease: &Lease, member: &str, what: &str, note: &str) -> Result<(), QueueError> {
        let sql = "UPDATE queue_task SET updated_at = $3 WHERE id = $1 AND token = $2 AND status = 'in_progress'";
        let id = lease.entry.task.id.as_str();
        let noted = if member.is_empty() { note.to_owned() } else { format!("{member}: {note}") };
        let mut step = self.write(lease, sql, &[], what, &noted).await?;
        if member.is_empty() {
            let phase = crate::report::table::shorten(&format!("{what} {note}"), PHASE_LENGTH_MAX);
            let sql = "UPDATE queue_progress SET phase = $2 WHERE task = $1";
            step.execute(sql, &[id.into(), phase.into()]).await?;
        }
        self.publish(&mut step, &[News::of(id, what, note).member(member)]).await?;
        step.commit().await
    }

    /// Writes down what the attempt that is under way cost so far, of a task that may cost `budget` altogether.
    ///
    /// # Errors
    ///
    /// [`QueueError::LeaseLost`].
    pub async fn spend(&self, lease: &Lease, cost: Money, budget: Money) -> Result<(), QueueError> {
        let (id, now) = (lease.entry.task.id.as_str(), self.now_ms().await?);
        let mut step = self.database.begin().await?;
        // What is not written down now is the next time; whoever waits here does not renew its lease.
        step.wait_at_most(SPEND_WAIT_MAX).await?;
        let sql = "UPDATE queue_task SET updated_at = $3 WHERE id = $1 AND token = $2 AND status = 'in_progress'";
        self.fence(&mut step, lease, sql, &[now.into()]).await?;
        let Some(progress) = progress(&mut step, id).await? else { return Ok(()) };
        // Whoever goes on with an attempt hears anew of what its members cost.
        let cost = cost.max(progress.spent);
        let task = lease.entry.spent_usd + cost;
        let is_near = task.times(100) >= budget.times(WARNING_PERCENT);
        let sql = "UPDATE queue_progress SET spent_usd = $2, warned = $3 WHERE task = $1";
        let warned = progress.warned || is_near;
        step.execute(sql, &[id.into(), cost.to_string().into(), i64::from(warned).into()]).await?;
        let (before, after) = (lease.entry.cost_usd + progress.spent, lease.entry.cost_usd + cost);
        self.count_cost(&mut step, id, before, after, now).await?;
        let data = costs(cost, task, Some(budget));
        let mut news = vec![News::of(id, "spent", "").kind(EventKind::CostUpdate).cost(cost).data(data.clone())];
        let note = format!("${} of ${} are spent", task.normalized(), budget.normalized());
        if is_near && !progress.warned {
            news.push(News::of(id, "near_budget", &note).kind(EventKind::CostWarning).cost(cost).data(data));
        }
        self.publish(&mut step, &news).await?;
        step.commit().await
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
        let id = before.task.id.as_str();
        let goes_on = matches!(settlement, Settlement::Released | Settlement::Deferred(..));
        let mut step = self.database.begin().await?;
        // Held from here on: whoever of this worker still writes down what it spent is through by then, or refused.
        let sql = format!(
            "SELECT id FROM queue_task WHERE id = $1 AND token = $2 AND status = 'in_progress' {}",
            step.for_update()
        );
        if step.fetch(&sql, &[id.into(), before.token.into()], |row| row.text(0)).await?.is_empty() {
            return Err(QueueError::LeaseLost { id: id.to_owned() });
        }
        let progress = if goes_on { None } else { progress(&mut step, id).await? };
        // Who ends an attempt without having looked at its session knows only what was written down of it.
        let cost = cost.max(progress.as_ref().map_or(Money::ZERO, |progress| progress.spent));
        let sql = "UPDATE queue_task SET status = $3, reason = $4, branch = $5, commit_id = $6, cost_usd = $7, spent_usd = $8,
                       worker = '', lease_until = $9, lost = lost + $10, updated_at = $11
                   WHERE id = $1 AND token = $2 AND status = 'in_progress'";
        let values = [
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
        self.fence(&mut step, lease, sql, &values).await?;
        let note = if commit.is_empty() || !reason.is_empty() { reason } else { commit };
        note_down(&mut step, id, now, what, note).await?;
        if let Settlement::Completed { .. } = settlement {
            let sql = "UPDATE queue_task SET open_dependencies = open_dependencies - 1
                       WHERE id IN (SELECT task FROM queue_dependency WHERE depends_on = $1)";
            step.execute(sql, &[id.into()]).await?;
        }
        let mut news = vec![News::of(id, what, note)];
        let altogether = before.cost_usd + cost;
        let sum = told(cost, altogether);
        if !goes_on {
            let known = progress.as_ref().map_or(Money::ZERO, |progress| progress.spent);
            self.count_cost(&mut step, id, before.cost_usd + known, altogether, now).await?;
            if matches!(what, "completed" | "blocked" | "failed") {
                let (attempts, who) = attempt_of(&mut step, id).await?;
                // Who was never begun with is nobody's failure but the task's.
                let is_attempt = progress.as_ref().is_some_and(|progress| !progress.session.is_empty());
                let who = if is_attempt { who } else { "single" };
                let outcome = Outcome { task: id, what, who, attempts, cost };
                self.count_outcome(&mut step, &outcome, now).await?;
            }
        }
        if let Some(progress) = progress {
            let sql = "UPDATE queue_progress SET session = '', phase = '', spent_usd = '0' WHERE task = $1";
            step.execute(sql, &[id.into()]).await?;
            let mut data = costs(cost, altogether, None);
            data["outcome"] = json!(what);
            data["session"] = json!(progress.session);
            // Without a session no attempt was made.
            if !progress.session.is_empty() {
                news.push(News::of(id, "attempt_ended", &sum).kind(EventKind::CostSummary).cost(cost).data(data));
            }
        }
        self.publish(&mut step, &news).await?;
        step.commit().await
    }

    /// Carries out `sql`, whose first parameters are the task and the token, unless the lease is lost.
    async fn fence(
        &self,
        step: &mut Changes,
        lease: &Lease,
        sql: &str,
        more: &[super::database::Value],
    ) -> Result<(), QueueError> {
        let id = lease.entry.task.id.as_str();
        let mut values: Vec<super::database::Value> = vec![id.into(), lease.entry.token.into()];
        values.extend(more.iter().cloned());
        match step.execute(sql, &values).await? {
            0 => Err(QueueError::LeaseLost { id: id.to_owned() }),
            _ => Ok(()),
        }
    }

    /// Begins with `sql`, whose first parameters are the task and the token and whose last is the instant, and a checkpoint.
    async fn write(
        &self,
        lease: &Lease,
        sql: &str,
        more: &[super::database::Value],
        what: &str,
        note: &str,
    ) -> Result<Changes, QueueError> {
        let now = self.now_ms().await?;
        let mut step = self.database.begin().await?;
        self.fence(&mut step, lease, sql, &[more, &[now.into()]].concat()).await?;
        note_down(&mut step, &lease.entry.task.id, now, what, note).await?;
        Ok(step)
    }
}

/// How long a phase is at most, in characters: a column of a table.
const PHASE_LENGTH_MAX: usize = 80;

/// How far an attempt is.
pub(super) struct Progress {
    pub(super) session: String,
    pub(super) spent: Money,
    warned: bool,
}

/// Says what an attempt cost, and its task with it.
pub(super) fn told(attempt: Money, task: Money) -> String {
    format!("the attempt cost ${}, the task so far ${}", attempt.normalized(), task.normalized())
}

/// Returns which attempt of the task `id` it is, and who makes it.
async fn attempt_of(step: &mut Changes, id: &str) -> Result<(i64, &'static str), QueueError> {
    let read = |row: &dyn super::database::Columns| Ok((row.whole(0)?, row.text(1)?));
    let sql = "SELECT attempts, routing FROM queue_task WHERE id = $1";
    let (attempts, routing) = step.fetch(sql, &[id.into()], read).await?.pop().unwrap_or_default();
    let routing: Value = serde_json::from_str(&routing).unwrap_or_default();
    let who = match (routing["decision"] == json!("team"), routing["fallback"] == json!(true)) {
        (true, false) => "team",
        (true, true) => "fallback",
        (false, _) => "single",
    };
    Ok((attempts, who))
}

pub(super) async fn progress(step: &mut Changes, id: &str) -> Result<Option<Progress>, QueueError> {
    let sql = "SELECT session, spent_usd, warned FROM queue_progress WHERE task = $1";
    let read = |row: &dyn super::database::Columns| {
        Ok(Progress {
            session: row.text(0)?,
            spent: row.text(1)?.parse().unwrap_or_default(),
            warned: row.whole(2)? != 0,
        })
    };
    Ok(step.fetch(sql, &[id.into()], read).await?.pop())
}
