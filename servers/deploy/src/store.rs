//! The history of deployments: what a restart completes or undoes unfinished work from.

use std::path::PathBuf;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteRow, SqliteSynchronous};
use sqlx::{Connection, Row, Sqlite, SqliteConnection, Transaction};
use tokio::sync::{Mutex, MutexGuard};
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::error_chain::Chain;
use tollgate_shared::ids::EntryId;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::sqlite::{self, OpenError};
use tollgate_shared::state_dir::{StateDir, StateDirError};

use crate::deployment::{DeploymentEvent, DeploymentState, IllegalEvent};
use crate::names::{ReleaseName, ServiceName, Version};

pub mod approvals;
pub mod questions;

static MIGRATOR: Migrator = sqlx::migrate!();

/// The name of the file in the state folder.
const FILE_NAME: &str = "deploy.db";

/// Most requests that may wait for approval in one environment: an agent must not bury a person in them.
pub const AWAITING_MAX: i64 = 100;

/// Why a deployment is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To release an artifact.
    Deploy,
    /// To go back to an earlier release.
    Rollback,
}

/// A deployment that is to be recorded.
#[derive(Clone, Debug)]
pub struct NewDeployment {
    /// Why.
    pub kind: Kind,
    /// Where.
    pub environment: String,
    /// Of what.
    pub service: ServiceName,
    /// As which version.
    pub version: Version,
    /// With which content, the configuration with it.
    pub digest: ContentHash,
    /// The content of the artifact alone.
    pub artifact_digest: ContentHash,
    /// SHA-256 of the configuration.
    pub configuration: Option<ContentHash>,
    /// The folder it is released to.
    pub folder: String,
    /// The release that is current before.
    pub previous: Option<ReleaseName>,
    /// On whose behalf.
    pub agent: String,
    /// For which task.
    pub task_id: Option<String>,
}

/// A recorded deployment.
#[derive(Clone, Debug)]
pub struct Record {
    /// The order in which deployments were begun.
    pub number: i64,
    /// Its identifier.
    pub id: String,
    /// Why it was done.
    pub kind: Kind,
    /// Where.
    pub environment: String,
    /// Of what.
    pub service: ServiceName,
    /// As which version.
    pub version: Version,
    /// With which content, the configuration with it.
    pub digest: ContentHash,
    /// The content of the artifact alone.
    pub artifact_digest: ContentHash,
    /// The name of its release.
    pub release: ReleaseName,
    /// The folder it is released to.
    pub folder: String,
    /// The release that was current before.
    pub previous: Option<ReleaseName>,
    /// Where it stands.
    pub state: DeploymentState,
    /// On whose behalf.
    pub agent: String,
    /// For which task.
    pub task_id: Option<String>,
    /// When it was asked for.
    pub requested_at: String,
    /// When its state was reached.
    pub updated_at: String,
    /// What the last transition said.
    pub reason: Option<String>,
}

/// One step of a deployment, as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// What happened.
    pub event: String,
    /// The state that it led to.
    pub state: String,
    /// When.
    pub at: String,
    /// Why.
    pub detail: Option<String>,
}

/// Which deployments are asked for; `None` means all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this one.
    pub id: Option<String>,
    /// Only there.
    pub environment: Option<String>,
    /// Only of this.
    pub service: Option<String>,
}

/// The right to write about one service in one environment until somebody else takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence(i64);

impl Fence {
    /// Returns its number, which is larger than that of everybody who had the right before.
    #[must_use]
    pub fn number(self) -> i64 {
        self.0
    }
}

/// The history cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No folder to hold it.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The file cannot be opened or brought up to date.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Reading or writing failed.
    #[error("cannot use the history of deployments")]
    Sql(#[from] sqlx::Error),
    /// A row is not what this program writes.
    #[error("deployment {id} of the history has a wrong {column}")]
    Malformed {
        /// Which row.
        id: String,
        /// Which column.
        column: &'static str,
    },
    /// Not what may happen now.
    #[error(transparent)]
    Illegal(#[from] IllegalEvent),
    /// Another process took over.
    #[error("another process took over")]
    Fenced,
    /// The approval was used, taken back or voided meanwhile.
    #[error("the approval of deployment {0} cannot be used any more")]
    ApprovalGone(String),
    /// Too many wait for approval.
    #[error("{AWAITING_MAX} deployments to {0} wait for approval")]
    TooManyAwaiting(String),
}

/// The history in one state folder; opened by the first call that needs it.
#[derive(Debug)]
pub struct Store {
    state_dir: StateDir,
    connection: Mutex<Option<SqliteConnection>>,
}

/// The open connection, for one piece of work.
struct Open<'a>(MutexGuard<'a, Option<SqliteConnection>>);

impl Store {
    /// Names the history of `state_dir`; nothing is opened or made yet.
    #[must_use]
    pub fn new(state_dir: StateDir) -> Self {
        Self { state_dir, connection: Mutex::default() }
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.state_dir.path().join(FILE_NAME)
    }

    /// Returns the folder that holds it.
    #[must_use]
    pub fn state_dir(&self) -> &StateDir {
        &self.state_dir
    }

    async fn open(&self) -> Result<Open<'_>, StoreError> {
        let mut guard = self.connection.lock().await;
        if guard.is_none() {
            self.state_dir.create()?;
            *guard = Some(sqlite::open(&self.path(), &MIGRATOR, SqliteSynchronous::Full).await?);
        }
        Ok(Open(guard))
    }

    /// Takes the right to write about one service, away from whoever had it.
    ///
    /// Its number is a time at least, since other hosts remember the last one: a history that begins anew must not be behind
    /// the one before.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn take_fence(&self, environment: &str, service: &ServiceName) -> Result<Fence, StoreError> {
        let mut open = self.open().await?;
        let token = sqlx::query_scalar(
            "INSERT INTO fence (environment, service, token) VALUES (?1, ?2, ?3)
             ON CONFLICT (environment, service) DO UPDATE SET token = max(token + 1, ?3) RETURNING token",
        )
        .bind(environment)
        .bind(service.as_str())
        .bind(Timestamp::now().as_second())
        .fetch_one(open.get()?)
        .await?;
        Ok(Fence(token))
    }

    /// Records a new deployment after the events that brought it to where it stands.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then nothing was recorded.
    pub async fn begin(&self, fence: Fence, new: &NewDeployment, reason: &str) -> Result<Record, StoreError> {
        let mut open = self.open().await?;
        let mut transaction = open.begin().await?;
        check_fence(&mut transaction, &new.environment, &new.service, fence).await?;
        let id = EntryId::generate().to_string();
        insert(&mut transaction, &id, new).await?;
        for event in [DeploymentEvent::Validate, DeploymentEvent::Approve] {
            step(&mut transaction, &id, event, None, fence).await?;
        }
        step(&mut transaction, &id, DeploymentEvent::Start, Some(reason), fence).await?;
        let record = by_id(&mut transaction, &id).await?.ok_or(StoreError::Fenced)?;
        transaction.commit().await?;
        Ok(record)
    }

    /// Records an event of a deployment and returns the deployment after it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then nothing was recorded.
    pub async fn step(
        &self,
        fence: Fence,
        record: &Record,
        event: DeploymentEvent,
        reason: Option<&str>,
    ) -> Result<Record, StoreError> {
        let mut open = self.open().await?;
        let mut transaction = open.begin().await?;
        check_fence(&mut transaction, &record.environment, &record.service, fence).await?;
        if event == DeploymentEvent::Pass {
            // One is live at a time: what was, ends in the same instant.
            let before: Option<String> = sqlx::query_scalar(
                "SELECT id FROM deployment WHERE environment = ? AND service = ? AND state = 'live'",
            )
            .bind(&record.environment)
            .bind(record.service.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
            if let Some(before) = before {
                let (event, reason) = match record.kind {
                    Kind::Deploy => (DeploymentEvent::Supersede, format!("{} is live", record.release)),
                    Kind::Rollback => (DeploymentEvent::Withdraw, format!("rolled back to {}", record.release)),
                };
                step(&mut transaction, &before, event, Some(&reason), fence).await?;
            }
        }
        step(&mut transaction, &record.id, event, reason, fence).await?;
        let record = by_id(&mut transaction, &record.id).await?.ok_or(StoreError::Fenced)?;
        transaction.commit().await?;
        Ok(record)
    }

    /// Returns what is live.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn live(&self, environment: &str, service: &ServiceName) -> Result<Option<Record>, StoreError> {
        let mut open = self.open().await?;
        let row = sqlx::query(
            "SELECT * FROM deployment_with_reason WHERE environment = ? AND service = ? AND state = 'live'",
        )
        .bind(environment)
        .bind(service.as_str())
        .fetch_optional(open.get()?)
        .await?;
        row.as_ref().map(record).transpose()
    }

    /// Returns the deployments of `filter` that a process is, or was, at work on.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn under_way(&self, filter: &Filter) -> Result<Vec<Record>, StoreError> {
        let mut open = self.open().await?;
        let rows = sqlx::query(
            "SELECT * FROM deployment_with_reason WHERE state IN ('deploying', 'verifying', 'rolling_back')
             AND (?1 IS NULL OR environment = ?1) AND (?2 IS NULL OR service = ?2) AND (?3 IS NULL OR id = ?3)
             ORDER BY number",
        )
        .bind(&filter.environment)
        .bind(&filter.service)
        .bind(&filter.id)
        .fetch_all(open.get()?)
        .await?;
        rows.iter().map(record).collect()
    }

    /// Returns the digest of another content that was current under this version.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn taken_by(
        &self,
        environment: &str,
        service: &ServiceName,
        version: &Version,
        digest: &ContentHash,
    ) -> Result<Option<String>, StoreError> {
        let mut open = self.open().await?;
        Ok(sqlx::query_scalar(
            "SELECT digest FROM deployment WHERE environment = ? AND service = ? AND version = ? AND digest <> ?
             AND switched_at IS NOT NULL ORDER BY number LIMIT 1",
        )
        .bind(environment)
        .bind(service.as_str())
        .bind(version.as_str())
        .bind(digest.to_string())
        .fetch_optional(open.get()?)
        .await?)
    }

    /// Whether this content is, or last was, live and healthy there, and was not taken back since.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn is_proven(
        &self,
        environment: &str,
        service: &ServiceName,
        digest: &ContentHash,
    ) -> Result<bool, StoreError> {
        let mut open = self.open().await?;
        let state: Option<String> = sqlx::query_scalar(
            "SELECT state FROM deployment WHERE environment = ? AND service = ?
             AND coalesce(artifact_digest, digest) = ? AND state IN ('live', 'superseded', 'rolled_back') ORDER BY number DESC LIMIT 1",
        )
        .bind(environment)
        .bind(service.as_str())
        .bind(digest.to_string())
        .fetch_optional(open.get()?)
        .await?;
        Ok(state.is_some_and(|state| state != DeploymentState::RolledBack.as_str()))
    }

    /// Returns for how long at most this content was live there without a break; what is live is until `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn longest_life(
        &self,
        environment: &str,
        service: &ServiceName,
        digest: &ContentHash,
        now: Timestamp,
    ) -> Result<SignedDuration, StoreError> {
        let mut open = self.open().await?;
        let lives: Vec<(String, String, Option<String>)> = sqlx::query_as(
            "SELECT id, (SELECT at FROM transition WHERE deployment_id = id AND event = 'pass') AS began,
                 CASE WHEN state = 'live' THEN NULL ELSE updated_at END
             FROM deployment WHERE environment = ? AND service = ?
             AND coalesce(artifact_digest, digest) = ? AND state IN ('live', 'superseded', 'rolled_back') AND began IS NOT NULL
             ORDER BY number DESC LIMIT 1000",
        )
        .bind(environment)
        .bind(service.as_str())
        .bind(digest.to_string())
        .fetch_all(open.get()?)
        .await?;
        let mut longest = SignedDuration::ZERO;
        for (id, began, ended) in lives {
            let instant = |text: &str| text.parse::<Timestamp>().map_err(|_| malformed(&id, "at"));
            let ended = ended.map_or(Ok(now), |ended| instant(&ended))?;
            longest = longest.max(ended.duration_since(instant(&began)?));
        }
        Ok(longest)
    }

    /// Returns the last deployment of every release that was ever live and healthy, newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn once_live(&self, environment: &str, service: &ServiceName) -> Result<Vec<Record>, StoreError> {
        let mut open = self.open().await?;
        let rows = sqlx::query(
            "SELECT * FROM deployment_with_reason WHERE number IN (
                 SELECT max(number) FROM deployment WHERE environment = ?1 AND service = ?2
                 AND EXISTS (SELECT 1 FROM transition WHERE deployment_id = deployment.id AND event = 'pass')
                 GROUP BY release)
             ORDER BY number DESC",
        )
        .bind(environment)
        .bind(service.as_str())
        .fetch_all(open.get()?)
        .await?;
        rows.iter().map(record).collect()
    }

    /// Returns every release that the history knows, the one last deployed first.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn releases(&self, environment: &str, service: &ServiceName) -> Result<Vec<ReleaseName>, StoreError> {
        let mut open = self.open().await?;
        let rows: Vec<String> = sqlx::query_scalar(
            "SELECT release FROM deployment WHERE environment = ? AND service = ?
             AND state NOT IN ('requested', 'validated', 'awaiting_approval', 'approved', 'expired')
             GROUP BY release ORDER BY max(number) DESC",
        )
        .bind(environment)
        .bind(service.as_str())
        .fetch_all(open.get()?)
        .await?;
        Ok(rows.iter().filter_map(|release| ReleaseName::parse(release)).collect())
    }

    /// Returns the newest `limit` deployments of `filter`, newest first, and how many there are.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list(&self, filter: &Filter, limit: u32) -> Result<(Vec<Record>, u64), StoreError> {
        self.select(filter, "", limit).await
    }

    /// Returns the newest `limit` deployments of `filter` that were begun before number `before`, with their steps.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn history(
        &self,
        filter: &Filter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<(Record, Vec<Transition>)>, StoreError> {
        let mut open = self.open().await?;
        let mut transaction = open.get()?.begin().await?;
        let rows = sqlx::query(
            "SELECT * FROM deployment_with_reason WHERE (?1 IS NULL OR environment = ?1)
             AND (?2 IS NULL OR service = ?2) AND (?3 IS NULL OR number < ?3) ORDER BY number DESC LIMIT ?4",
        )
        .bind(&filter.environment)
        .bind(&filter.service)
        .bind(before)
        .bind(limit)
        .fetch_all(&mut *transaction)
        .await?;
        let mut page = Vec::with_capacity(rows.len());
        for row in &rows {
            let record = record(row)?;
            let transitions: Vec<(String, String, String, Option<String>)> = sqlx::query_as(
                "SELECT event, state, at, detail FROM transition WHERE deployment_id = ? ORDER BY seq LIMIT 20",
            )
            .bind(&record.id)
            .fetch_all(&mut *transaction)
            .await?;
            let transitions = transitions
                .into_iter()
                .map(|(event, state, at, detail)| Transition { event, state, at, detail })
                .collect();
            page.push((record, transitions));
        }
        Ok(page)
    }

    /// Returns the `limit` live deployments of `filter` that went live last, and how many there are.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_live(&self, filter: &Filter, limit: u32) -> Result<(Vec<Record>, u64), StoreError> {
        self.select(filter, DeploymentState::Live.as_str(), limit).await
    }

    async fn select(&self, filter: &Filter, state: &str, limit: u32) -> Result<(Vec<Record>, u64), StoreError> {
        let mut open = self.open().await?;
        // One snapshot for both questions.
        let mut transaction = open.get()?.begin().await?;
        let rows = sqlx::query(
            "SELECT * FROM deployment_with_reason WHERE (?1 IS NULL OR environment = ?1)
             AND (?2 IS NULL OR service = ?2) AND (?3 IS NULL OR id = ?3) AND (?4 = '' OR state = ?4)
             ORDER BY number DESC LIMIT ?5",
        )
        .bind(&filter.environment)
        .bind(&filter.service)
        .bind(&filter.id)
        .bind(state)
        .bind(limit)
        .fetch_all(&mut *transaction)
        .await?;
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM deployment WHERE (?1 IS NULL OR environment = ?1)
             AND (?2 IS NULL OR service = ?2) AND (?3 IS NULL OR id = ?3) AND (?4 = '' OR state = ?4)",
        )
        .bind(&filter.environment)
        .bind(&filter.service)
        .bind(&filter.id)
        .bind(state)
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let records = rows.iter().map(record).collect::<Result<_, _>>()?;
        Ok((records, u64::try_from(count).unwrap_or_default()))
    }
}

impl Open<'_> {
    fn get(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        self.0.as_mut().ok_or(StoreError::Sql(sqlx::Error::WorkerCrashed))
    }

    /// Begins to write at once: whoever reads first and writes later may find that another was faster.
    async fn begin(&mut self) -> Result<Transaction<'_, Sqlite>, StoreError> {
        Ok(self.get()?.begin_with("BEGIN IMMEDIATE").await?)
    }
}

async fn check_fence(
    transaction: &mut Transaction<'_, Sqlite>,
    environment: &str,
    service: &ServiceName,
    fence: Fence,
) -> Result<(), StoreError> {
    let token: Option<i64> = sqlx::query_scalar("SELECT token FROM fence WHERE environment = ? AND service = ?")
        .bind(environment)
        .bind(service.as_str())
        .fetch_optional(&mut **transaction)
        .await?;
    if token == Some(fence.0) { Ok(()) } else { Err(StoreError::Fenced) }
}

async fn insert(transaction: &mut Transaction<'_, Sqlite>, id: &str, new: &NewDeployment) -> Result<(), StoreError> {
    let now = Timestamp::now().to_string();
    sqlx::query(
        "INSERT INTO deployment (id, kind, environment, service, version, digest, release, folder, previous, state,
             agent, task_id, requested_at, updated_at, artifact_digest)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'requested', ?, ?, ?, ?, ?)",
    )
    .bind(id)
    .bind(new.kind.as_str())
    .bind(&new.environment)
    .bind(new.service.as_str())
    .bind(new.version.as_str())
    .bind(new.digest.to_string())
    .bind(ReleaseName::new(&new.version, &new.digest).as_str())
    .bind(&new.folder)
    .bind(new.previous.as_ref().map(ReleaseName::as_str))
    .bind(&new.agent)
    .bind(&new.task_id)
    .bind(&now)
    .bind(&now)
    .bind(new.artifact_digest.to_string())
    .execute(&mut **transaction)
    .await?;
    append(transaction, id, DeploymentEvent::Request, DeploymentState::Requested, &now, None, Fence(0)).await
}

/// Brings the deployment `id` to the state after `event`.
async fn step(
    transaction: &mut Transaction<'_, Sqlite>,
    id: &str,
    event: DeploymentEvent,
    reason: Option<&str>,
    fence: Fence,
) -> Result<(), StoreError> {
    let before: String =
        sqlx::query_scalar("SELECT state FROM deployment WHERE id = ?").bind(id).fetch_one(&mut **transaction).await?;
    let before: DeploymentState = before.parse().map_err(|_| malformed(id, "state"))?;
    let after = before.after(event)?;
    let now = Timestamp::now().to_string();
    sqlx::query(
        "UPDATE deployment SET state = ?1, updated_at = ?2, switched_at = CASE WHEN ?3 THEN ?2 ELSE switched_at END
         WHERE id = ?4",
    )
    .bind(after.as_str())
    .bind(&now)
    .bind(event == DeploymentEvent::Switch)
    .bind(id)
    .execute(&mut **transaction)
    .await?;
    append(transaction, id, event, after, &now, reason, fence).await
}

async fn append(
    transaction: &mut Transaction<'_, Sqlite>,
    id: &str,
    event: DeploymentEvent,
    state: DeploymentState,
    now: &str,
    reason: Option<&str>,
    fence: Fence,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO transition (deployment_id, seq, event, state, at, detail, fence)
         SELECT ?1, coalesce(max(seq), 0) + 1, ?2, ?3, ?4, ?5, ?6 FROM transition WHERE deployment_id = ?1",
    )
    .bind(id)
    .bind(event.as_str())
    .bind(state.as_str())
    .bind(now)
    .bind(reason)
    .bind(fence.0)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn by_id(transaction: &mut Transaction<'_, Sqlite>, id: &str) -> Result<Option<Record>, StoreError> {
    let row = sqlx::query("SELECT * FROM deployment_with_reason WHERE id = ?")
        .bind(id)
        .fetch_optional(&mut **transaction)
        .await?;
    row.as_ref().map(record).transpose()
}

/// Reads a row; what is in the file is checked like anything else that comes from outside.
fn record(row: &SqliteRow) -> Result<Record, StoreError> {
    let id: String = row.try_get("id")?;
    let text = |column: &'static str| row.try_get::<String, _>(column);
    let wrong = |column| malformed(&id, column);
    let release = |name: &str| ReleaseName::parse(name);
    let digest: ContentHash = text("digest")?.parse().map_err(|_| wrong("digest"))?;
    let named = release(&text("release")?).filter(|name| name.fits(&digest)).ok_or_else(|| wrong("release"))?;
    let previous: Option<String> = row.try_get("previous")?;
    let artifact: Option<String> = row.try_get("artifact_digest")?;
    let artifact_digest = artifact.map_or(Ok(digest), |text| text.parse().map_err(|_| wrong("artifact_digest")))?;
    Ok(Record {
        number: row.try_get("number")?,
        kind: text("kind")?.parse().map_err(|()| wrong("kind"))?,
        environment: text("environment")?,
        service: ServiceName::parse(&text("service")?).map_err(|_| wrong("service"))?,
        version: Version::parse(&text("version")?).map_err(|_| wrong("version"))?,
        digest,
        artifact_digest,
        release: named,
        folder: text("folder")?,
        previous: previous.map(|name| release(&name).ok_or_else(|| wrong("previous"))).transpose()?,
        state: text("state")?.parse().map_err(|_| wrong("state"))?,
        agent: text("agent")?,
        task_id: row.try_get("task_id")?,
        requested_at: text("requested_at")?,
        updated_at: text("updated_at")?,
        reason: row.try_get("reason")?,
        id: id.clone(),
    })
}

fn malformed(id: &str, column: &'static str) -> StoreError {
    StoreError::Malformed { id: id.to_owned(), column }
}

impl Kind {
    /// Returns the name, as it is stored and answered.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
        }
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Deploy, Self::Rollback].into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let under_way_already = matches!(&error, StoreError::Sql(sqlx::Error::Database(error))
            if error.is_unique_violation());
        match error {
            StoreError::Fenced => in_progress(&error),
            _ if under_way_already => in_progress(&"one is recorded as under way"),
            StoreError::ApprovalGone(_) => {
                Self::refused("approval_void", error.to_string(), "see deployment_status, then call again to ask anew")
            }
            StoreError::TooManyAwaiting(_) => Self::refused(
                "too_many_requests",
                error.to_string(),
                "have the operator decide about those that wait before asking for more",
            ),
            _ => {
                tracing::error!(error = %Chain(&error), "the history of deployments cannot be used");
                Self::failed(
                    "history_unavailable",
                    format!("{}; what was begun is completed or undone by the next call", Chain(&error)),
                    "make the state folder writable and free disk space, then call again",
                )
            }
        }
    }
}

/// The refusal while somebody else is at work.
#[must_use]
pub fn in_progress(reason: &dyn std::fmt::Display) -> Refusal {
    Refusal::refused(
        "deployment_in_progress",
        format!("another deployment of this service to this environment is in progress: {reason}"),
        "wait until deployment_status shows its end, then call again",
    )
}
