//! Writing and reading the ledger.

use std::path::PathBuf;

use futures::{Stream, StreamExt};
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteSynchronous;
use sqlx::{Connection, QueryBuilder, Row, SqliteConnection};
use tokio::sync::{Mutex, oneshot};

use super::chain::{Head, NewEntry, StoredEntry};
use crate::audit::AuditEntry;
use crate::error_chain::Chain;
use crate::ids::EntryId;
use crate::receipt::Receipt;
use crate::sqlite::{self, OpenError};
use crate::state_dir::{StateDir, StateDirError};

/// Entries written by one statement: few enough for SQLite's limit on bound values, enough to share one commit.
const BATCH_ENTRIES_MAX: usize = 64;

const INSERT: &str = "INSERT INTO entry (seq, id, kind, body, prev, hash) VALUES (?, ?, ?, ?, ?, ?)";

/// The ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// No folder to hold it.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The file cannot be opened or brought up to date.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Reading failed.
    #[error("cannot read the ledger")]
    Read(#[source] sqlx::Error),
    /// Writing failed; nothing of the batch was written.
    #[error("cannot append to the ledger: {0}")]
    Append(String),
    /// An entry is not what its kind says.
    #[error("entry {seq} of the ledger is not a {kind}")]
    Malformed {
        /// Which entry.
        seq: i64,
        /// What it should be.
        kind: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// The ledger of one state folder; opened by the first call that needs it.
pub struct Ledger {
    state_dir: StateDir,
    queue: std::sync::Mutex<Vec<Pending>>,
    writer: Mutex<Option<Writer>>,
}

struct Pending {
    entries: Vec<NewEntry>,
    done: oneshot::Sender<Result<(), LedgerError>>,
}

struct Writer {
    connection: SqliteConnection,
    head: Head,
}

impl Ledger {
    /// Names the ledger of `state_dir`; nothing is opened or made yet.
    #[must_use]
    pub fn new(state_dir: StateDir) -> Self {
        Self { state_dir, queue: std::sync::Mutex::default(), writer: Mutex::new(None) }
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.state_dir.ledger()
    }

    /// Appends `entries`, in order and without a stranger's entry between them.
    ///
    /// They are visible to every process when this returns and outlive a killed process. Calls
    /// that wait at the same time share one commit: the first to get the file writes for all.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; then none of `entries` was written.
    pub async fn append(&self, entries: Vec<NewEntry>) -> Result<(), LedgerError> {
        let (done, mut written) = oneshot::channel();
        self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(Pending { entries, done });
        let mut writer = self.writer.lock().await;
        if let Ok(result) = written.try_recv() {
            return result;
        }
        let batch = std::mem::take(&mut *self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let result = match Self::opened(&self.state_dir, &mut writer).await {
            Ok(open) => open.append_all(&batch).await,
            Err(error) => Err(error),
        };
        if result.is_err() {
            // The connection may be in any state; the next append opens a new one.
            *writer = None;
        }
        drop(writer);
        for pending in batch {
            // Whoever waited may be gone; its entries are written all the same.
            let _ = pending.done.send(match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(LedgerError::Append(Chain(error).to_string())),
            });
        }
        written.await.unwrap_or_else(|_| Err(LedgerError::Append("the writer was stopped".into())))
    }

    /// Appends `entry` unless its id is there already; returns whether it was new.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; then it was not written.
    pub async fn append_once(&self, entry: NewEntry) -> Result<bool, LedgerError> {
        let mut writer = self.writer.lock().await;
        let open = Self::opened(&self.state_dir, &mut writer).await?;
        let result = open.append_once(&entry).await;
        if result.is_err() {
            *writer = None;
        }
        result
    }

    /// Opens the ledger now, so that the first call with an effect does not find out afterwards that it cannot be recorded.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] says why it cannot be opened.
    pub async fn open(&self) -> Result<(), LedgerError> {
        let mut writer = self.writer.lock().await;
        Self::opened(&self.state_dir, &mut writer).await.map(|_| ())
    }

    /// Returns a connection that only reads, or `None` where no ledger has been written yet.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Open`].
    pub async fn reader(&self) -> Result<Option<Reader>, LedgerError> {
        let path = self.path();
        if !path.exists() {
            return Ok(None);
        }
        Ok(Some(Reader { connection: sqlite::open_read_only(&path).await? }))
    }

    async fn opened<'a>(state_dir: &StateDir, slot: &'a mut Option<Writer>) -> Result<&'a mut Writer, LedgerError> {
        let writer = match slot.take() {
            Some(writer) => writer,
            None => Writer::open(state_dir).await?,
        };
        Ok(slot.insert(writer))
    }
}

impl Writer {
    async fn open(state_dir: &StateDir) -> Result<Self, LedgerError> {
        state_dir.create()?;
        // Only a power cut can take back the last entries, and takes them from the end, so the chain stays whole.
        let durability = SqliteSynchronous::Normal;
        let mut connection = sqlite::open(&state_dir.ledger(), &MIGRATOR, durability).await?;
        let head = read_head(&mut connection).await.map_err(LedgerError::Read)?;
        Ok(Self { connection, head })
    }

    async fn append_all(&mut self, batch: &[Pending]) -> Result<(), LedgerError> {
        let entries: Vec<&NewEntry> = batch.iter().flat_map(|pending| &pending.entries).collect();
        for entries in entries.chunks(BATCH_ENTRIES_MAX) {
            // Most of the time nobody else wrote since, and one statement is all it takes.
            match insert(&mut self.connection, self.head, entries).await {
                Ok(head) => self.head = head,
                Err(error) if is_constraint(&error) => {
                    self.append_locked(entries).await.map_err(|error| append_error(&error))?;
                }
                Err(error) => return Err(append_error(&error)),
            }
        }
        Ok(())
    }

    /// Appends after whatever other processes wrote, holding them off meanwhile.
    async fn append_locked(&mut self, entries: &[&NewEntry]) -> Result<(), sqlx::Error> {
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        let head = read_head(&mut transaction).await?;
        let head = insert(&mut transaction, head, entries).await?;
        transaction.commit().await?;
        self.head = head;
        Ok(())
    }

    async fn append_once(&mut self, entry: &NewEntry) -> Result<bool, LedgerError> {
        let mut transaction =
            self.connection.begin_with("BEGIN IMMEDIATE").await.map_err(|error| append_error(&error))?;
        let known = sqlx::query("SELECT 1 FROM entry WHERE id = ?")
            .bind(entry.id.to_string())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(|error| append_error(&error))?;
        let mut head = read_head(&mut transaction).await.map_err(|error| append_error(&error))?;
        if known.is_none() {
            head = insert(&mut transaction, head, &[entry]).await.map_err(|error| append_error(&error))?;
        }
        transaction.commit().await.map_err(|error| append_error(&error))?;
        self.head = head;
        Ok(known.is_none())
    }
}

fn append_error(error: &sqlx::Error) -> LedgerError {
    LedgerError::Append(Chain(error).to_string())
}

fn is_constraint(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| {
        // The low byte of SQLite's extended code; 19 is SQLITE_CONSTRAINT, whichever constraint it was.
        code.parse::<i32>().is_ok_and(|code| code & 0xff == 19)
    })
}

async fn insert(connection: &mut SqliteConnection, head: Head, entries: &[&NewEntry]) -> Result<Head, sqlx::Error> {
    if let [entry] = entries {
        let id = entry.id.to_string();
        let next = head.after(&id, entry.kind.as_str(), &entry.body);
        sqlx::query(INSERT)
            .bind(next.seq)
            .bind(id)
            .bind(entry.kind.as_str())
            .bind(&entry.body)
            .bind(head.hash.as_bytes().as_slice())
            .bind(next.hash.as_bytes().as_slice())
            .execute(connection)
            .await?;
        return Ok(next);
    }
    let mut last = head;
    let mut statement = QueryBuilder::new("INSERT INTO entry (seq, id, kind, body, prev, hash) ");
    statement.push_values(entries, |mut row, entry| {
        let id = entry.id.to_string();
        let next = last.after(&id, entry.kind.as_str(), &entry.body);
        row.push_bind(next.seq)
            .push_bind(id)
            .push_bind(entry.kind.as_str())
            .push_bind(&entry.body)
            .push_bind(last.hash.as_bytes().to_vec())
            .push_bind(next.hash.as_bytes().to_vec());
        last = next;
    });
    if !entries.is_empty() {
        statement.build().execute(connection).await?;
    }
    Ok(last)
}

async fn read_head(connection: &mut SqliteConnection) -> Result<Head, sqlx::Error> {
    let row = sqlx::query("SELECT seq, hash FROM head").fetch_one(connection).await?;
    let hash: [u8; 32] = row
        .try_get::<Vec<u8>, _>(1)?
        .try_into()
        .map_err(|_| sqlx::Error::Decode("head hash is not 32 bytes".into()))?;
    Ok(Head { seq: row.try_get(0)?, hash: hash.into() })
}

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// A connection that only reads the ledger.
pub struct Reader {
    connection: SqliteConnection,
}

impl Reader {
    /// Returns the end of the chain, as the ledger itself says.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Read`].
    pub async fn head(&mut self) -> Result<Head, LedgerError> {
        read_head(&mut self.connection).await.map_err(LedgerError::Read)
    }

    /// Returns every entry in the order of the chain, unchecked.
    pub fn entries(&mut self) -> impl Stream<Item = Result<StoredEntry, LedgerError>> {
        sqlx::query_as("SELECT seq, id, kind, body, prev, hash FROM entry ORDER BY seq")
            .fetch(&mut self.connection)
            .map(|row| row.map_err(LedgerError::Read))
    }

    /// Returns every receipt of a call that began at `since` or later, in the order of the chain.
    pub fn receipts(&mut self, since: Option<jiff::Timestamp>) -> impl Stream<Item = Result<Receipt, LedgerError>> {
        self.bodies("receipt", since)
    }

    /// Returns every decision taken at `since` or later, in the order of the chain.
    pub fn decisions(&mut self, since: Option<jiff::Timestamp>) -> impl Stream<Item = Result<AuditEntry, LedgerError>> {
        self.bodies("audit", since)
    }

    /// Returns the receipts of the call that its caller named `call_id`, made at `since` or later.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn receipts_of_call(
        &mut self,
        call_id: &str,
        since: jiff::Timestamp,
    ) -> Result<Vec<Receipt>, LedgerError> {
        let mut found = Vec::new();
        let mut receipts = std::pin::pin!(self.receipts(Some(since)));
        while let Some(receipt) = receipts.next().await {
            let receipt = receipt?;
            if receipt.call_id.as_deref() == Some(call_id) {
                found.push(receipt);
            }
        }
        Ok(found)
    }

    fn bodies<T: serde::de::DeserializeOwned>(
        &mut self,
        kind: &'static str,
        since: Option<jiff::Timestamp>,
    ) -> impl Stream<Item = Result<T, LedgerError>> {
        let first = since.map_or_else(String::new, |instant| EntryId::lower_bound(instant).to_string());
        sqlx::query("SELECT seq, body FROM entry WHERE kind = ? AND id >= ? ORDER BY seq")
            .bind(kind)
            .bind(first)
            .fetch(&mut self.connection)
            .map(move |row| {
                let row = row.map_err(LedgerError::Read)?;
                let seq = row.try_get(0).map_err(LedgerError::Read)?;
                let body: String = row.try_get(1).map_err(LedgerError::Read)?;
                serde_json::from_str(&body).map_err(|source| LedgerError::Malformed {
                    seq,
                    kind: kind.to_owned(),
                    source,
                })
            })
    }
}
