//! Writing and reading the ledger.

use std::path::PathBuf;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteSynchronous;
use sqlx::{Connection, Row, SqliteConnection};
use tokio::sync::Mutex as AsyncMutex;

use super::append::{self, Appender, Drained, Patience};
use super::chain::{Head, NewEntry, StoredEntry};
use crate::audit::AuditEntry;
use crate::ids::EntryId;
use crate::receipt::Receipt;
use crate::sqlite::{self, OpenError};
use crate::state_dir::{StateDir, StateDirError};

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
    opening: AsyncMutex<()>,
    shared: Arc<Appender>,
}

impl Ledger {
    /// Names the ledger of `state_dir`; nothing is opened or made yet.
    #[must_use]
    pub fn new(state_dir: StateDir) -> Self {
        let shared = Arc::new(Appender::new(state_dir.ledger()));
        Self { state_dir, opening: AsyncMutex::default(), shared }
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.state_dir.ledger()
    }

    /// Opens the ledger where it is not open yet, so that a call with an effect does not find out afterwards
    /// that it cannot be recorded.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] says why it cannot be opened.
    pub async fn open(&self) -> Result<(), LedgerError> {
        // Whether it was replaced since is looked at where it matters, before entries are written.
        if self.shared.has_writer() {
            return Ok(());
        }
        self.open_current().await
    }

    /// Opens the file that is at the path now, unless it is the one that is open.
    async fn open_current(&self) -> Result<(), LedgerError> {
        if self.shared.is_open() {
            return Ok(());
        }
        let _one_at_a_time = self.opening.lock().await;
        if self.shared.is_open() {
            return Ok(());
        }
        self.state_dir.create()?;
        // Only a power cut can take back the last entries, and takes them from the end, so the chain stays whole.
        sqlite::open(&self.path(), &MIGRATOR, SqliteSynchronous::Normal)
            .await?
            .close()
            .await
            .map_err(LedgerError::Read)?;
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.open()).await
    }

    /// Appends `entries`, in order and without a stranger's entry between them.
    ///
    /// They are visible to every process when this returns and outlive a killed process. Calls that wait at
    /// the same time share one commit: whoever gets the file writes for all.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; then none of `entries` was written.
    pub async fn append(&self, entries: Vec<NewEntry>) -> Result<(), LedgerError> {
        self.open_current().await?;
        let count = entries.len();
        let written = self.shared.enqueue(entries);
        // An uncontended append takes some 20 µs, less than handing it to another thread and back would.
        if self.shared.drain(Patience::None) == Drained::Contended {
            let shared = Arc::clone(&self.shared);
            tokio::task::spawn_blocking(move || shared.drain(Patience::Busy));
        }
        written.await.unwrap_or_else(|_| Err(LedgerError::Append("the writer was stopped".into())))?;
        if self.shared.wants_checkpoint(count) {
            let path = self.path();
            tokio::task::spawn_blocking(move || append::checkpoint(&path));
        }
        Ok(())
    }

    /// Appends `entry` unless its id is there already; returns whether it was new.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; then it was not written.
    pub async fn append_once(&self, entry: NewEntry) -> Result<bool, LedgerError> {
        self.open_current().await?;
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.append_once(&entry)).await
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
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LedgerError> + Send + 'static,
) -> Result<T, LedgerError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(LedgerError::Append(error.to_string())),
    }
}

pub(super) static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

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
        let read = async {
            let row = sqlx::query("SELECT seq, hash FROM head").fetch_one(&mut self.connection).await?;
            let hash: [u8; 32] = row
                .try_get::<Vec<u8>, _>(1)?
                .try_into()
                .map_err(|_| sqlx::Error::Decode("the hash of the head is not 32 bytes".into()))?;
            Ok(Head { seq: row.try_get(0)?, hash: hash.into() })
        };
        read.await.map_err(LedgerError::Read)
    }

    /// Returns the first entry that its id does not lead to, though it should.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Read`].
    pub async fn first_unindexed(&mut self) -> Result<Option<i64>, LedgerError> {
        let seq = sqlx::query_scalar(
            "SELECT min(seq) FROM entry WHERE seq <= (SELECT seq FROM indexed)
             AND NOT EXISTS (SELECT 1 FROM entry_id WHERE entry_id.id = entry.id AND entry_id.seq <= entry.seq)",
        );
        seq.fetch_one(&mut self.connection).await.map_err(LedgerError::Read)
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
        let entries = if first.is_empty() {
            sqlx::query("SELECT seq, body FROM entry WHERE kind = ?1 ORDER BY seq")
        } else {
            sqlx::query(
                "SELECT seq, body FROM entry WHERE kind = ?1 AND id >= ?2
                 AND (seq IN (SELECT seq FROM entry_id WHERE id >= ?2) OR seq > (SELECT seq FROM indexed))
                 ORDER BY seq",
            )
        };
        let entries = if first.is_empty() { entries.bind(kind) } else { entries.bind(kind).bind(first) };
        entries.fetch(&mut self.connection).map(move |row| {
            let row = row.map_err(LedgerError::Read)?;
            let seq = row.try_get(0).map_err(LedgerError::Read)?;
            let body: String = row.try_get(1).map_err(LedgerError::Read)?;
            serde_json::from_str(&body).map_err(|source| LedgerError::Malformed { seq, kind: kind.to_owned(), source })
        })
    }
}
