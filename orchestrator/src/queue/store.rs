//! The queue in its database: what people add, look at and change.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tollgate_shared::money::Money;
use tollgate_shared::state_dir::StateDir;

use super::alarm::AlertConfig;
use super::config::QueueConfig;
use super::database::{Changes, Columns, Database};
use super::event::{NOTE_LENGTH_MAX, News};
use super::file::{self, Batch, Item};
use super::task::{Status, Task};
use super::webhook::Webhooks;

/// The name of the file in the state folder.
const FILE_NAME: &str = "queue.db";

/// The queue cannot do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Its database cannot be opened.
    #[error("cannot use the queue at {place}: {reason}")]
    Unavailable {
        /// Where it is.
        place: String,
        /// Why not.
        reason: String,
    },
    /// A statement failed.
    #[error("the queue cannot be read or written: {0}")]
    Statement(String),
    /// Somebody else has the task by now, or a person took it away.
    #[error("the lease of {id} is lost: it was claimed again, or a person took the task away")]
    LeaseLost {
        /// The task.
        id: String,
    },
    /// There is no such task.
    #[error("there is no task {0}; see `orchestrator queue list --all`")]
    Unknown(String),
    /// What is asked cannot be done.
    #[error("{0}")]
    Refused(String),
}

impl From<sqlx::Error> for QueueError {
    fn from(error: sqlx::Error) -> Self {
        Self::Statement(tollgate_shared::error_chain::Chain(&error).to_string())
    }
}

/// The queue.
#[derive(Clone, Debug)]
pub struct Queue {
    pub(super) database: Database,
    pub(super) alerts: AlertConfig,
    pub(super) webhooks: Arc<Webhooks>,
}

/// A task in the queue.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As it was written.
    pub body: Map<String, Value>,
    /// What of that is understood.
    pub task: Task,
    /// The feature that it is under.
    pub feature: Option<Value>,
    /// Where it is.
    pub status: Status,
    /// Since when it waits.
    pub created_at: Timestamp,
    /// How many tasks have to be completed before.
    pub open_dependencies: i64,
    /// How often it was tried.
    pub attempts: i64,
    /// Why it is where it is.
    pub reason: String,
    /// The session of the last attempt, and the state folder that has it.
    pub session: String,
    /// See `session`.
    pub place: String,
    /// Of the last claim.
    pub token: i64,
    /// Who has it.
    pub worker: String,
    /// Until when, in milliseconds since 1970; 0 when nobody has.
    pub lease_until: i64,
    /// How often in this attempt a lease ran out.
    pub lost: i64,
    /// What it cost altogether.
    pub cost_usd: Money,
    /// What it cost since it was last given new attempts.
    pub spent_usd: Money,
    /// Where what came of it is.
    pub branch: String,
    /// What came of it.
    pub commit: String,
    /// What the router decided.
    pub routing: Option<Value>,
    /// Whether a person let it run.
    pub released: bool,
    /// With which import it came.
    pub import: String,
}

/// The columns of an [`Entry`], in the order of [`entry`].
pub(super) const COLUMNS: &str = "body, feature, status, created_at, open_dependencies, attempts, reason, session, place, \
     token, worker, lease_until, lost, cost_usd, spent_usd, branch, commit_id, routing, released, import";

pub(super) fn entry(row: &dyn Columns) -> Result<Entry, sqlx::Error> {
    let broken = |what: &str| sqlx::Error::Decode(format!("a task's {what} cannot be read").into());
    let body: Map<String, Value> = serde_json::from_str(&row.text(0)?).map_err(|_| broken("body"))?;
    let task = file::task_of(&body).map_err(|_| broken("body"))?;
    let money = |column| row.text(column)?.parse::<Money>().map_err(|_| broken("cost"));
    Ok(Entry {
        task,
        body,
        feature: serde_json::from_str(&row.text(1)?).ok(),
        status: Status::parse(&row.text(2)?).ok_or_else(|| broken("status"))?,
        created_at: Timestamp::from_millisecond(row.whole(3)?).map_err(|_| broken("age"))?,
        open_dependencies: row.whole(4)?,
        attempts: row.whole(5)?,
        reason: row.text(6)?,
        session: row.text(7)?,
        place: row.text(8)?,
        token: row.whole(9)?,
        worker: row.text(10)?,
        lease_until: row.whole(11)?,
        lost: row.whole(12)?,
        cost_usd: money(13)?,
        spent_usd: money(14)?,
        branch: row.text(15)?,
        commit: row.text(16)?,
        routing: serde_json::from_str(&row.text(17)?).ok(),
        released: row.whole(18)? != 0,
        import: row.text(19)?,
    })
}

impl Entry {
    /// Returns the task as it is written to files: as it came, with what changed since.
    #[must_use]
    pub fn exported(&self) -> Map<String, Value> {
        let mut body = self.body.clone();
        let mut set = |name: &str, value: Value, differs: bool| {
            if differs {
                body.insert(name.to_owned(), value);
            }
        };
        let task = &self.task;
        set("status", json!(self.status), self.status != task.status);
        set("attempts", json!(self.attempts), self.attempts != i64::from(task.attempts));
        let is_new = |new: &str, old: &Option<String>| !new.is_empty() && old.as_deref() != Some(new);
        set("branch", json!(self.branch), is_new(&self.branch, &task.branch));
        let verified = self.status.is_done() && !self.commit.is_empty();
        set("passes", json!(true), verified && task.passes != Some(true));
        let routed = self.routing.as_ref().and_then(|routing| routing["reason"].as_str()).unwrap_or_default();
        set("routing_reason", json!(routed), is_new(routed, &task.routing_reason));
        body
    }
}

/// Something that happened to a task.
#[derive(Clone, Debug, Serialize)]
pub struct Checkpoint {
    /// Its number, from 1.
    pub number: i64,
    /// When.
    pub at: Timestamp,
    /// Under which claim.
    pub token: i64,
    /// The session, where there was one.
    pub session: String,
    /// In a word.
    pub what: String,
    /// In a sentence.
    pub note: String,
}

/// What an import did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Names the import; empty when nothing was added.
    pub id: String,
    /// How many tasks are new.
    pub added: usize,
    /// How many were there already, with the same content.
    pub unchanged: usize,
    /// How many were there and say something else now; `sync` only.
    pub changed: usize,
    /// How many came from an old queue, with complexity and value inferred.
    pub upgraded: usize,
}

/// How tasks are added.
#[derive(Clone, Copy, Debug)]
pub struct ImportOrder<'a> {
    /// What the import is called.
    pub id: &'a str,
    /// Where the tasks come from.
    pub source: &'a str,
    /// Where the files lie as they were.
    pub backup: &'a str,
    /// Whether tasks that nobody works on may say something else than they did.
    pub changes: bool,
    /// Whether to look only.
    pub try_only: bool,
}

impl Queue {
    /// Opens the queue that `config` names, else `queue.db` in the state folder.
    ///
    /// # Errors
    ///
    /// [`QueueError::Unavailable`], or [`QueueError::Refused`] with what is wrong with a webhook.
    pub async fn open(config: &QueueConfig, state_dir: &StateDir) -> Result<Self, QueueError> {
        let webhooks = Arc::new(Webhooks::read(&config.webhooks)?);
        let database = match &config.url {
            Some(url) => Database::postgres(url).await?,
            None => {
                let failed = |reason: String| QueueError::Unavailable { place: FILE_NAME.to_owned(), reason };
                let state_dir = state_dir.clone();
                let made = tokio::task::spawn_blocking(move || state_dir.create().map(Path::to_owned)).await;
                let folder = made.map_err(|error| failed(error.to_string()))?;
                let folder = folder.map_err(|error| failed(error.to_string()))?;
                Database::sqlite(&folder.join(FILE_NAME)).await?
            }
        };
        Ok(Self { database, alerts: config.alerts.clone(), webhooks })
    }

    /// Returns the instant by the queue's clock, in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn now_ms(&self) -> Result<i64, QueueError> {
        self.database.now_ms().await
    }

    /// Returns the ids of all tasks.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn ids(&self) -> Result<HashSet<String>, QueueError> {
        Ok(self.database.fetch("SELECT id FROM queue_task", &[], |row| row.text(0)).await?.into_iter().collect())
    }

    /// Returns the task `id`; `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn find(&self, id: &str) -> Result<Option<Entry>, QueueError> {
        let sql = format!("SELECT {COLUMNS} FROM queue_task WHERE id = $1");
        Ok(self.database.fetch(&sql, &[id.into()], entry).await?.pop())
    }

    /// Returns at most `limit` tasks in the order in which they were added, of `status` or of any.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn list(&self, status: Option<Status>, limit: i64) -> Result<Vec<Entry>, QueueError> {
        let sql =
            format!("SELECT {COLUMNS} FROM queue_task WHERE $1 = '' OR status = $1 ORDER BY position, id LIMIT $2");
        self.database.fetch(&sql, &[status.map_or("", Status::as_str).into(), limit.into()], entry).await
    }

    /// Returns how many tasks there are of each status.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn counts(&self) -> Result<HashMap<String, i64>, QueueError> {
        let sql = "SELECT status, count(*) FROM queue_task GROUP BY status";
        Ok(self.database.fetch(sql, &[], |row| Ok((row.text(0)?, row.whole(1)?))).await?.into_iter().collect())
    }

    /// Returns what happened to the task `id`, in order.
    ///
    /// # Errors
    ///
    /// [`QueueError::Statement`].
    pub async fn checkpoints(&self, id: &str) -> Result<Vec<Checkpoint>, QueueError> {
        let sql = "SELECT number, at, token, session, what, note FROM queue_checkpoint WHERE task = $1 ORDER BY number";
        let read = |row: &dyn Columns| {
            Ok(Checkpoint {
                number: row.whole(0)?,
                at: Timestamp::from_millisecond(row.whole(1)?).unwrap_or_default(),
                token: row.whole(2)?,
                session: row.text(3)?,
                what: row.text(4)?,
                note: row.text(5)?,
            })
        };
        self.database.fetch(sql, &[id.into()], read).await
    }

    /// Adds the tasks of `batch`, all or none; a task that is there already must say the same, unless the order lets tasks
    /// that nobody works on say something else.
    ///
    /// # Errors
    ///
    /// [`QueueError::Refused`] names the tasks that stand against it.
    pub async fn import(&self, batch: &Batch, order: &ImportOrder<'_>) -> Result<Imported, QueueError> {
        let now = self.now_ms().await?;
        let ImportOrder { id, changes, .. } = *order;
        let mut step = self.database.begin().await?;
        let mut imported = Imported { id: id.to_owned(), upgraded: batch.upgraded, ..Imported::default() };
        let mut last = step.fetch("SELECT COALESCE(MAX(position), 0) FROM queue_task", &[], |row| row.whole(0)).await?;
        let mut position = last.pop().unwrap_or_default();
        let statuses: HashMap<&str, Status> =
            batch.items.iter().map(|item| (item.task.id.as_str(), item.task.status)).collect();
        let mut against = Vec::new();
        for item in &batch.items {
            let sql = format!("SELECT {COLUMNS} FROM queue_task WHERE id = $1 {}", step.for_update());
            let existing = step.fetch(&sql, &[item.task.id.as_str().into()], entry).await?.pop();
            match existing {
                Some(existing) if existing.exported() == item.body || existing.body == item.body => {
                    imported.unchanged += 1;
                }
                Some(existing)
                    if changes
                        && matches!(existing.status, Status::Pending | Status::Blocked | Status::NeedsPerson) =>
                {
                    change(&mut step, &existing, item, &statuses, now).await?;
                    imported.changed += 1;
                }
                Some(existing) if changes => against.push(format!("{} ({})", item.task.id, existing.status)),
                Some(_) => against.push(item.task.id.clone()),
                None => {
                    position += 1;
                    insert(&mut step, item, position, &statuses, id, now).await?;
                    imported.added += 1;
                }
            }
        }
        if !against.is_empty() {
            let some: Vec<String> = against.iter().take(10).cloned().collect();
            let hint = if changes {
                "and are not changed any more"
            } else {
                "with other content; `orchestrator queue sync FILE` changes tasks that nobody works on"
            };
            let message =
                format!("nothing was imported: {} tasks are in the queue {hint}: {}", against.len(), some.join(", "));
            return Err(QueueError::Refused(message));
        }
        if changes {
            refuse_circles(&mut step).await?;
        }
        if imported.added + imported.changed == 0 {
            imported.id = String::new();
        } else {
            let values = [id.into(), now.into(), order.source.into(), whole(imported.added), order.backup.into()];
            step.execute("INSERT INTO queue_import VALUES ($1, $2, $3, $4, $5, 0)", &values).await?;
        }
        if !order.try_only {
            if !imported.id.is_empty() {
                let task = if let [item] = batch.items.as_slice() { item.task.id.as_str() } else { "" };
                let note = format!("{} new, {} changed; from {}", imported.added, imported.changed, order.source);
                let data = json!({ "import": id, "added": imported.added, "changed": imported.changed });
                self.publish(&mut step, &[News::of(task, "imported", &note).data(data)]).await?;
            }
            step.commit().await?;
        }
        Ok(imported)
    }

    /// Takes the tasks of an import out again, the last one's where `id` is not given; returns its id and how many they were.
    ///
    /// # Errors
    ///
    /// [`QueueError::Refused`], when a task of it was begun or others depend on one; then all stay.
    pub async fn roll_back_import(&self, id: Option<&str>) -> Result<(String, u64), QueueError> {
        let mut step = self.database.begin().await?;
        let sql =
            "SELECT id FROM queue_import WHERE undone = 0 AND ($1 = '' OR id = $1) ORDER BY at DESC, id DESC LIMIT 1";
        let found = step.fetch(sql, &[id.unwrap_or_default().into()], |row| row.text(0)).await?.pop();
        let Some(import) = found else {
            return Err(QueueError::Refused("there is no such import that is not rolled back".to_owned()));
        };
        let sql = format!(
            "SELECT id FROM queue_task WHERE import = $1 AND token > 0 ORDER BY position LIMIT 10 {}",
            step.for_update()
        );
        let begun = step.fetch(&sql, &[import.as_str().into()], |row| row.text(0)).await?;
        if !begun.is_empty() {
            let message = format!("nothing was rolled back: workers had {} of {import}", begun.join(", "));
            return Err(QueueError::Refused(message));
        }
        let sql = "SELECT d.task FROM queue_dependency d JOIN queue_task o ON o.id = d.depends_on JOIN queue_task t ON t.id = d.task
                   WHERE o.import = $1 AND t.import <> $1 LIMIT 10";
        let dependent = step.fetch(sql, &[import.as_str().into()], |row| row.text(0)).await?;
        if !dependent.is_empty() {
            let message = format!("nothing was rolled back: {} depend on tasks of {import}", dependent.join(", "));
            return Err(QueueError::Refused(message));
        }
        for sql in [
            "DELETE FROM queue_dependency WHERE task IN (SELECT id FROM queue_task WHERE import = $1)",
            "DELETE FROM queue_checkpoint WHERE task IN (SELECT id FROM queue_task WHERE import = $1)",
            "UPDATE queue_import SET undone = 1 WHERE id = $1",
        ] {
            step.execute(sql, &[import.as_str().into()]).await?;
        }
        let removed = step.execute("DELETE FROM queue_task WHERE import = $1", &[import.as_str().into()]).await?;
        let note = format!("{removed} tasks of {import} are out of the queue");
        self.publish(&mut step, &[News::of("", "rolled_back", &note).data(json!({ "import": import }))]).await?;
        step.commit().await?;
        Ok((import, removed))
    }
}

/// How many checkpoints of a task are kept: more than its iterations over all attempts, and no history without end.
const CHECKPOINTS_MAX: i64 = 500;

/// Writes down what happened to the task `id`.
pub(super) async fn note_down(
    step: &mut Changes,
    id: &str,
    now: i64,
    what: &str,
    note: &str,
) -> Result<(), QueueError> {
    let sql = "INSERT INTO queue_checkpoint
               SELECT id, (SELECT COALESCE(MAX(number), 0) + 1 FROM queue_checkpoint WHERE task = $1), $2, token, session, $3, $4
               FROM queue_task WHERE id = $1";
    let note = crate::report::table::shorten(note, NOTE_LENGTH_MAX);
    step.execute(sql, &[id.into(), now.into(), what.into(), note.into()]).await?;
    let sql = "DELETE FROM queue_checkpoint WHERE task = $1 AND number <=
               (SELECT MAX(number) FROM queue_checkpoint WHERE task = $1) - $2";
    step.execute(sql, &[id.into(), CHECKPOINTS_MAX.into()]).await?;
    Ok(())
}

fn whole(count: usize) -> super::database::Value {
    i64::try_from(count).unwrap_or(i64::MAX).into()
}

async fn insert(
    step: &mut Changes,
    item: &Item,
    position: i64,
    statuses: &HashMap<&str, Status>,
    import: &str,
    now: i64,
) -> Result<(), QueueError> {
    let task = &item.task;
    let open = depend(step, task, statuses).await?;
    let created_at = task.created_at.map_or(now, Timestamp::as_millisecond);
    let feature = item.feature.as_ref().map(Value::to_string).unwrap_or_default();
    let values = [
        task.id.as_str().into(),
        position.into(),
        Value::Object(item.body.clone()).to_string().into(),
        feature.into(),
        task.status.as_str().into(),
        task.priority.rank().into(),
        created_at.into(),
        open.into(),
        i64::from(task.attempts).into(),
        import.into(),
        now.into(),
    ];
    let sql = "INSERT INTO queue_task VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, '', '', '', 0, '', 0, 0, '0', '0', '', '', '', 0,
               $10, $11)";
    step.execute(sql, &values).await?;
    Ok(())
}

async fn change(
    step: &mut Changes,
    existing: &Entry,
    item: &Item,
    statuses: &HashMap<&str, Status>,
    now: i64,
) -> Result<(), QueueError> {
    let task = &item.task;
    step.execute("DELETE FROM queue_dependency WHERE task = $1", &[task.id.as_str().into()]).await?;
    let open = depend(step, task, statuses).await?;
    let feature = item.feature.as_ref().or(existing.feature.as_ref()).map(Value::to_string).unwrap_or_default();
    // Where a task is the queue knows; what it is the file says.
    let values = [
        task.id.as_str().into(),
        Value::Object(item.body.clone()).to_string().into(),
        feature.into(),
        task.priority.rank().into(),
        task.created_at.unwrap_or(existing.created_at).as_millisecond().into(),
        open.into(),
        now.into(),
    ];
    let sql = "UPDATE queue_task SET body = $2, feature = $3, priority = $4, created_at = $5, open_dependencies = $6, updated_at = $7
               WHERE id = $1";
    step.execute(sql, &values).await?;
    Ok(())
}

/// Writes down what `task` depends on; returns how much of that is not done.
async fn depend(step: &mut Changes, task: &Task, statuses: &HashMap<&str, Status>) -> Result<i64, QueueError> {
    let mut open = 0;
    let mut seen = HashSet::new();
    for on in task.depends_on.iter().filter(|on| seen.insert(on.as_str())) {
        // Locked, so that it is not completed between this look and the end: nobody would count down then.
        let sql = format!("SELECT status FROM queue_task WHERE id = $1 {}", step.for_update());
        let there = step.fetch(&sql, &[on.as_str().into()], |row| row.text(0)).await?.pop();
        let status = there.and_then(|status| Status::parse(&status)).or_else(|| statuses.get(on.as_str()).copied());
        open += i64::from(!status.is_some_and(Status::is_done));
        let values = [task.id.as_str().into(), on.as_str().into()];
        step.execute("INSERT INTO queue_dependency VALUES ($1, $2)", &values).await?;
    }
    Ok(open)
}

async fn refuse_circles(step: &mut Changes) -> Result<(), QueueError> {
    let sql = "SELECT task, depends_on FROM queue_dependency ORDER BY task";
    let edges = step.fetch(sql, &[], |row| Ok((row.text(0)?, row.text(1)?))).await?;
    let mut by_task: Vec<(&str, Vec<&str>)> = Vec::new();
    for (task, on) in &edges {
        match by_task.last_mut() {
            Some((last, all)) if *last == task.as_str() => all.push(on),
            _ => by_task.push((task, vec![on])),
        }
    }
    let circular = file::circular(by_task.into_iter());
    if circular.is_empty() {
        return Ok(());
    }
    let some: Vec<&str> = circular.into_iter().take(10).collect();
    Err(QueueError::Refused(format!("nothing was changed: these tasks wait for each other: {}", some.join(", "))))
}
