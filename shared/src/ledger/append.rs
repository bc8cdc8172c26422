//! The hot end of the ledger: appending, in the calling thread where nobody is in the way.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::chain::{Head, NewEntry};
use super::store::LedgerError;
use crate::error_chain::Chain;

/// How long an append waits for other processes once it is off the runtime's threads.
const BUSY_TIMEOUT: Duration = Duration::from_secs(15);

/// Entries between two checkpoints: some megabytes of write-ahead log, as SQLite's own default has it. Ours are
/// made beside the calls, because one waits for the disk. Ids are indexed as often.
const CHECKPOINT_ENTRIES: usize = 1_000;

/// Attempts to find a moment in which nobody writes or reads; without one the log is begun anew after the next checkpoint.
const RESTARTS_MAX: usize = 20;

/// Between two attempts: some commits long.
const RESTART_PAUSE: Duration = Duration::from_millis(1);

const INSERT: &str = "INSERT INTO entry (seq, id, kind, body, prev, hash) VALUES (?, ?, ?, ?, ?, ?)";

/// Appends for every task of this process, several at once with one commit.
pub(super) struct Appender {
    path: PathBuf,
    queue: Mutex<Vec<Pending>>,
    writer: Mutex<Option<Writer>>,
    /// Device and inode of the file that `writer` writes.
    open_file: Mutex<Option<(u64, u64)>>,
    since_checkpoint: AtomicUsize,
}

struct Pending {
    entries: Vec<NewEntry>,
    done: oneshot::Sender<Result<(), LedgerError>>,
}

/// Whether to wait for other processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Give up at once: the thread is one of the runtime's.
    None,
    /// Wait up to [`BUSY_TIMEOUT`].
    Busy,
}

/// What became of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// Everything was written, or somebody is at it who will look at the queue again.
    Done,
    /// Another process is writing; the queue is as it was.
    Contended,
}

struct Writer {
    connection: Connection,
    head: Head,
    /// Entries whose ids were not indexed when the file was opened.
    unindexed: usize,
}

impl Appender {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            queue: Mutex::default(),
            writer: Mutex::default(),
            open_file: Mutex::default(),
            since_checkpoint: AtomicUsize::new(0),
        }
    }

    /// Whether a file is open, be it still the one at the path or not.
    pub(super) fn has_writer(&self) -> bool {
        lock(&self.open_file).is_some()
    }

    /// Whether the file that is open is still the one at the path: whoever replaces it must not get entries
    /// written into nowhere.
    pub(super) fn is_open(&self) -> bool {
        let open = *lock(&self.open_file);
        open.is_some() && open == identity(&self.path)
    }

    /// Opens the file, which exists and is up to date.
    pub(super) fn open(&self) -> Result<(), LedgerError> {
        let writer = Writer::open(&self.path).map_err(|error| append_error(&error))?;
        let file = identity(&self.path);
        // What many short processes wrote is indexed by the next one.
        self.since_checkpoint.store(writer.unindexed, Ordering::Relaxed);
        *lock(&self.writer) = Some(writer);
        *lock(&self.open_file) = file;
        self.serve_latecomers();
        Ok(())
    }

    /// Writes for those who came while the writer was held for something else and so rely on its holder.
    fn serve_latecomers(&self) {
        self.drain(Patience::Busy);
    }

    /// Puts entries in line; the answer comes when they are written.
    pub(super) fn enqueue(&self, entries: Vec<NewEntry>) -> oneshot::Receiver<Result<(), LedgerError>> {
        let (done, written) = oneshot::channel();
        lock(&self.queue).push(Pending { entries, done });
        written
    }

    /// Writes what is in line, unless somebody else is at it.
    pub(super) fn drain(&self, patience: Patience) -> Drained {
        loop {
            let mut slot = match self.writer.try_lock() {
                Ok(slot) => slot,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // The holder looks at the queue again after letting go, and our entries are in it already.
                Err(TryLockError::WouldBlock) => return Drained::Done,
            };
            let batch = std::mem::take(&mut *lock(&self.queue));
            if batch.is_empty() {
                return Drained::Done;
            }
            let result = match slot.as_mut() {
                Some(writer) => writer.append(&batch, patience),
                None => Err(Failure::Other("the ledger was closed after an earlier failure".to_owned())),
            };
            match result {
                Ok(()) => answer(batch, &Ok(())),
                Err(Failure::Contended) if patience == Patience::None => {
                    lock(&self.queue).splice(0..0, batch);
                    return Drained::Contended;
                }
                Err(failure) => {
                    // The connection may be in any state; the next append opens a new one.
                    *slot = None;
                    *lock(&self.open_file) = None;
                    answer(batch, &Err(failure.to_string()));
                }
            }
        }
    }

    /// Appends `entry` unless its id is there already; returns whether it was new. Waits.
    pub(super) fn append_once(&self, entry: &NewEntry) -> Result<bool, LedgerError> {
        let mut slot = lock(&self.writer);
        let writer = slot.as_mut().ok_or_else(|| LedgerError::Append("the ledger is closed".to_owned()))?;
        let new = writer.append_once(entry);
        if new.is_err() {
            *slot = None;
            *lock(&self.open_file) = None;
        }
        drop(slot);
        self.serve_latecomers();
        new.map_err(|error| append_error(&error))
    }

    /// Counts what was appended; returns whether the write-ahead log should be written back.
    pub(super) fn wants_checkpoint(&self, entries: usize) -> bool {
        let before = self.since_checkpoint.fetch_add(entries, Ordering::Relaxed);
        before + entries >= CHECKPOINT_ENTRIES && self.since_checkpoint.swap(0, Ordering::Relaxed) >= CHECKPOINT_ENTRIES
    }
}

enum Failure {
    Contended,
    Other(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Contended => {
                write!(formatter, "another process held the ledger for {} s", BUSY_TIMEOUT.as_secs())
            }
            Self::Other(reason) => formatter.write_str(reason),
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Contended,
            _ => Self::Other(Chain(&error).to_string()),
        }
    }
}

impl Writer {
    fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let head = read_head(&connection)?;
        let indexed: i64 = connection.query_row("SELECT seq FROM indexed", [], |row| row.get(0))?;
        connection.busy_timeout(Duration::ZERO)?;
        Ok(Self { connection, head, unindexed: usize::try_from(head.seq - indexed).unwrap_or_default() })
    }

    fn append(&mut self, batch: &[Pending], patience: Patience) -> Result<(), Failure> {
        let entries: Vec<&NewEntry> = batch.iter().flat_map(|pending| &pending.entries).collect();
        if patience == Patience::None
            && let [entry] = entries.as_slice()
        {
            // Most of the time nobody else wrote since, and one statement is all it takes.
            match insert(&self.connection, self.head, entry) {
                Ok(head) => {
                    self.head = head;
                    return Ok(());
                }
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.patiently(patience, |writer| writer.append_locked(&entries)).map_err(Failure::from)
    }

    /// Appends after whatever other processes wrote, holding them off meanwhile.
    fn append_locked(&mut self, entries: &[&NewEntry]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut head = read_head(&transaction)?;
        for entry in entries {
            head = insert(&transaction, head, entry)?;
        }
        transaction.commit()?;
        self.head = head;
        Ok(())
    }

    fn append_once(&mut self, entry: &NewEntry) -> rusqlite::Result<bool> {
        self.patiently(Patience::Busy, |writer| {
            let transaction = writer.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let known = transaction
                .prepare_cached(
                    "SELECT 1 FROM entry_id WHERE id = ?1
                     UNION ALL
                     SELECT 1 FROM entry WHERE seq > (SELECT seq FROM indexed) AND id = ?1",
                )?
                .query_row([entry.id.to_string()], |_| Ok(()))
                .optional()?;
            let mut head = read_head(&transaction)?;
            if known.is_none() {
                head = insert(&transaction, head, entry)?;
            }
            transaction.commit()?;
            writer.head = head;
            Ok(known.is_none())
        })
    }

    fn patiently<T>(
        &mut self,
        patience: Patience,
        work: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if patience == Patience::None {
            return work(self);
        }
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        let result = work(self);
        self.connection.busy_timeout(Duration::ZERO)?;
        result
    }
}

/// Indexes the ids of the latest entries, and writes the write-ahead log back into the file, so that the next entry begins it anew: writing over what is there
/// costs a third of making a file longer, and a log that is never begun anew has no end under steady load.
///
/// What does not succeed now does the next time.
pub(super) fn checkpoint(path: &Path) {
    let result = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).and_then(|mut connection| {
        index_ids(&mut connection)?;
        // The bulk, beside those who write. Only the little that came meanwhile is then written with them held off.
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        connection.busy_timeout(Duration::ZERO)?;
        for _ in 0..RESTARTS_MAX {
            let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(0))?;
            if busy == 0 {
                break;
            }
            std::thread::sleep(RESTART_PAUSE);
        }
        Ok(())
    });
    if let Err(error) = result {
        tracing::debug!(%error, "the ledger's write-ahead log was not written back");
    }
}

/// Indexes the ids of the entries that have none yet.
fn index_ids(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // The first entry with an id is the one that counts.
    transaction.execute(
        "INSERT OR IGNORE INTO entry_id
         SELECT id, seq FROM entry WHERE seq > (SELECT seq FROM indexed) ORDER BY seq",
        [],
    )?;
    transaction.execute("UPDATE indexed SET seq = (SELECT seq FROM head)", [])?;
    transaction.commit()
}

fn insert(connection: &Connection, head: Head, entry: &NewEntry) -> rusqlite::Result<Head> {
    let id = entry.id.to_string();
    let next = head.after(&id, entry.kind.as_str(), &entry.body);
    connection.prepare_cached(INSERT)?.execute(params![
        next.seq,
        id,
        entry.kind.as_str(),
        entry.body,
        head.hash.as_bytes(),
        next.hash.as_bytes()
    ])?;
    Ok(next)
}

fn read_head(connection: &Connection) -> rusqlite::Result<Head> {
    connection
        .prepare_cached("SELECT seq, hash FROM head")?
        .query_row([], |row| Ok(Head { seq: row.get(0)?, hash: row.get::<_, [u8; 32]>(1)?.into() }))
}

fn answer(batch: Vec<Pending>, result: &Result<(), String>) {
    for pending in batch {
        // Whoever waited may be gone; its entries are written all the same.
        let _ = pending.done.send(result.clone().map_err(LedgerError::Append));
    }
}

fn append_error(error: &rusqlite::Error) -> LedgerError {
    LedgerError::Append(Chain(error).to_string())
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Takes a lock whose holder may have panicked: the queue and the writer behind it are whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
