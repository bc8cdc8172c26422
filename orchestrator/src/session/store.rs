//! `sessions.db`: every session, saved step by step; what was saved outlives a power cut.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::de::DeserializeOwned;
use tollgate_shared::state_dir::StateDir;

use super::{CallRecord, History, Message, Session, VerdictRecord};

/// The name of the file in the state folder.
pub(crate) const FILE_NAME: &str = "sessions.db";

/// How long one process waits for the others.
const BUSY_TIMEOUT: Duration = Duration::from_secs(15);

const SCHEMA: &str = "
    -- One task each; `body` is the whole of it as JSON, the other columns are what lists need.
    CREATE TABLE IF NOT EXISTS session (
        id TEXT PRIMARY KEY, archived INTEGER NOT NULL, updated_at TEXT NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
    -- What was said, by its number.
    CREATE TABLE IF NOT EXISTS message (
        session TEXT NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (session, number)) WITHOUT ROWID;
    -- Tool calls by their place; `position` keeps the order in which they began.
    CREATE TABLE IF NOT EXISTS call (
        position INTEGER PRIMARY KEY, session TEXT NOT NULL, slot TEXT NOT NULL, call_id TEXT NOT NULL, body TEXT NOT NULL,
        UNIQUE (session, slot));
    -- What verification found, once for each iteration.
    CREATE TABLE IF NOT EXISTS verdict (
        session TEXT NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (session, number)) WITHOUT ROWID;
";

/// The sessions cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}: {reason}", .path.display())]
pub struct StoreError {
    path: PathBuf,
    reason: String,
}

/// Something to save.
#[derive(Clone, Debug)]
pub enum Change {
    /// The session itself.
    Session(Box<Session>),
    /// A new message.
    Message(Box<Message>),
    /// A call that begins, or that ended.
    Call(Box<CallRecord>),
    /// What was found.
    Verdict(Box<VerdictRecord>),
}

/// One process's connection to the file.
#[derive(Clone)]
pub struct Store {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
}

impl Store {
    /// Opens the file, made where it is missing.
    ///
    /// # Errors
    ///
    /// [`StoreError`] with the path and why not.
    pub async fn open(state_dir: &StateDir) -> Result<Self, StoreError> {
        let path = state_dir.path().join(FILE_NAME);
        let (at, state_dir) = (path.clone(), state_dir.clone());
        let opened = tokio::task::spawn_blocking(move || {
            state_dir.create().map_err(|error| error.to_string())?;
            open(&at).map_err(|error| error.to_string())
        });
        match opened.await {
            Ok(Ok(connection)) => Ok(Self { path, connection: Arc::new(Mutex::new(connection)) }),
            Ok(Err(reason)) => Err(StoreError { path, reason }),
            Err(error) => Err(StoreError { path, reason: error.to_string() }),
        }
    }

    /// Saves `changes` of the session `id`, all or none; durable when this returns.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then nothing of it is saved.
    pub async fn save(&self, id: &str, changes: Vec<Change>) -> Result<(), StoreError> {
        self.save_all(vec![(id.to_owned(), changes)]).await
    }

    /// Saves changes of several sessions, all or none; durable when this returns.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then nothing of it is saved.
    pub async fn save_all(&self, sessions: Vec<(String, Vec<Change>)>) -> Result<(), StoreError> {
        self.with(move |connection| {
            let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (id, changes) in &sessions {
                for change in changes {
                    save(&step, id, change)?;
                }
            }
            step.commit().map_err(Failure::from)
        })
        .await
    }

    /// Saves a session that is new; `false` when there is one of its id already.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn create(&self, session: Session) -> Result<bool, StoreError> {
        self.with(move |connection| {
            let added = connection.execute(
                "INSERT OR IGNORE INTO session VALUES (?, ?, ?, ?)",
                params![session.id, session.archived, session.updated_at.to_string(), json(&session)?],
            )?;
            Ok(added == 1)
        })
        .await
    }

    /// Returns everything about the session `id`; `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load(&self, id: &str) -> Result<Option<History>, StoreError> {
        let id = id.to_owned();
        self.with(move |connection| {
            // One look at everything, although others write.
            let step = connection.transaction()?;
            let body: Option<String> =
                step.query_row("SELECT body FROM session WHERE id = ?", [&id], |row| row.get(0)).optional()?;
            let Some(body) = body else { return Ok(None) };
            Ok(Some(History {
                session: parse(&body)?,
                messages: bodies(&step, "SELECT body FROM message WHERE session = ? ORDER BY number", &id)?,
                calls: bodies(&step, "SELECT body FROM call WHERE session = ? ORDER BY position", &id)?,
                verdicts: bodies(&step, "SELECT body FROM verdict WHERE session = ? ORDER BY number", &id)?,
            }))
        })
        .await
    }

    /// Returns every session, the newest first; archived ones when `archived` says so.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list(&self, archived: bool) -> Result<Vec<Session>, StoreError> {
        self.with(move |connection| {
            let mut query = connection
                .prepare("SELECT body FROM session WHERE archived = 0 OR ? ORDER BY updated_at DESC, id LIMIT 1000")?;
            let rows = query.query_map([archived], |row| row.get::<_, String>(0))?;
            rows.map(|body| parse(&body?)).collect()
        })
        .await
    }

    /// Returns in which repository each session is, archived ones included.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn repositories(&self) -> Result<Vec<(String, PathBuf)>, StoreError> {
        self.with(|connection| {
            let mut query = connection.prepare("SELECT id, json_extract(body, '$.repository') FROM session")?;
            let rows = query.query_map([], |row| {
                let path: Option<String> = row.get(1)?;
                Ok((row.get(0)?, PathBuf::from(path.unwrap_or_default())))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Leaves sessions out of lists, or puts them back; nothing else about them changes, whoever works on them meanwhile.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn archive(&self, ids: Vec<String>, archived: bool) -> Result<(), StoreError> {
        self.with(move |connection| {
            let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for id in &ids {
                step.execute(
                    "UPDATE session SET archived = ?1, body = json_set(body, '$.archived', json(?2)) WHERE id = ?3",
                    params![archived, if archived { "true" } else { "false" }, id],
                )?;
            }
            step.commit().map_err(Failure::from)
        })
        .await
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.connection);
        let done =
            tokio::task::spawn_blocking(move || work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner)));
        let failed = |reason| StoreError { path: self.path.clone(), reason };
        match done.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(Failure(reason))) => Err(failed(reason)),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

struct Failure(String);

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

fn open(path: &Path) -> Result<Connection, Box<dyn std::error::Error>> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Two processes that turn a new file into WAL at once are in each other's way: whoever comes second waits here.
    let lock = std::fs::File::options().create(true).append(true).open(path.with_extension("lock"))?;
    lock.lock()?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // A call is written down before it is made; a power cut must not take that back.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

fn save(step: &Transaction<'_>, id: &str, change: &Change) -> Result<(), Failure> {
    match change {
        Change::Session(session) => step.execute(
            "UPDATE session SET archived = ?, updated_at = ?, body = ? WHERE id = ?",
            params![session.archived, Timestamp::now().to_string(), json(session)?, id],
        ),
        Change::Message(message) => {
            step.execute("INSERT INTO message VALUES (?, ?, ?)", params![id, message.number, json(message)?])
        }
        Change::Call(call) => step.execute(
            "INSERT INTO call (session, slot, call_id, body) VALUES (?, ?, ?, ?)
             ON CONFLICT (session, slot) DO UPDATE SET call_id = excluded.call_id, body = excluded.body",
            params![id, call.slot, call.call_id, json(call)?],
        ),
        Change::Verdict(verdict) => step.execute(
            "INSERT INTO verdict SELECT ?1, count(*), ?2 FROM verdict WHERE session = ?1",
            params![id, json(verdict)?],
        ),
    }?;
    Ok(())
}

fn bodies<T: DeserializeOwned>(step: &Transaction<'_>, query: &str, id: &str) -> Result<Vec<T>, Failure> {
    let mut query = step.prepare_cached(query)?;
    let rows = query.query_map([id], |row| row.get::<_, String>(0))?;
    rows.map(|body| parse(&body?)).collect()
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure(error.to_string()))
}

fn parse<T: DeserializeOwned>(body: &str) -> Result<T, Failure> {
    serde_json::from_str(body).map_err(|error| Failure(format!("a row cannot be read: {error}")))
}
