//! What checks found before, by the hash of what they depend on; shared by all processes of a state folder.
//!
//! The cache makes answers cheaper and never decides one: an entry that is damaged, unreadable or missing is a
//! check that runs. Looking up and writing happen in the calling thread, many keys at once: sqlx, which makes and
//! migrates the file, hands every statement to another thread and back, which costs more than SQLite does.

pub mod claims;
mod front;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteSynchronous;
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::error_chain::Chain;
use tollgate_shared::sqlite;
use tollgate_shared::state_dir::StateDir;

use crate::check::{CheckResult, Verdict};
use claims::Claims;
use front::Front;

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// The name of the file in the state folder.
const FILE_NAME: &str = "ralph-cache.db";

/// The folder of files whose locks say who is at work on what.
const CLAIMS_NAME: &str = "ralph-claims";

/// How long a write waits for other processes; longer than any of them writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(15);

/// Use is noted this often, in seconds: a hit should not cost a write.
const USE_NOTED_EVERY_S: i64 = 3600;

/// Writes between two looks at how many entries there are.
const WRITES_PER_TRIM: usize = 500;

/// What SQLite says of a file that is damaged beyond use; it is made anew, for nothing in it cannot be found again.
const CORRUPT: [ErrorCode; 2] = [ErrorCode::NotADatabase, ErrorCode::DatabaseCorrupt];

/// The results of one state folder; opened by the first call that needs it.
pub struct ResultCache {
    state_dir: StateDir,
    entries_max: u32,
    open: Mutex<Option<Open>>,
}

struct Open {
    database: Connection,
    /// Device and inode: who replaces the file must not get entries written into nowhere.
    file: Option<(u64, u64)>,
    front: Front,
    /// Of the file when `front` was filled; another one means that somebody cleared the cache.
    generation: i64,
    writes: usize,
}

impl ResultCache {
    /// Names the cache of `state_dir`; nothing is opened or made yet.
    #[must_use]
    pub fn new(state_dir: StateDir, entries_max: u32) -> Self {
        Self { state_dir, entries_max, open: Mutex::default() }
    }

    /// Makes sure that the file is there, up to date and open; without that, nothing is found and nothing kept.
    pub async fn open(&self) {
        if self.entries_max == 0 {
            return;
        }
        if let Err(error) = self.try_open().await {
            unusable(error.as_ref());
        }
    }

    /// Returns what was found before under each of `keys`; `None` where nothing was that can be relied on.
    #[must_use]
    pub fn get(&self, keys: &[ContentHash]) -> Vec<Option<CheckResult>> {
        let mut slot = lock(&self.open);
        let Some(open) = slot.as_mut() else { return vec![None; keys.len()] };
        open.look_up(keys, now_s()).unwrap_or_else(|error| {
            unusable(&error);
            give_up(&mut slot, &error);
            vec![None; keys.len()]
        })
    }

    /// Remembers what was found; an inconclusive result, which may be another next time, is not.
    pub fn put(&self, results: &[(ContentHash, &CheckResult)]) {
        let kept = |result: &CheckResult| !matches!(result.verdict, Verdict::Inconclusive | Verdict::Skipped);
        let results: Vec<_> = results.iter().filter(|(_, result)| kept(result)).collect();
        let mut slot = lock(&self.open);
        let Some(open) = slot.as_mut().filter(|_| !results.is_empty()) else { return };
        if let Err(error) = open.write(&results, self.entries_max, now_s()) {
            unusable(&error);
            give_up(&mut slot, &error);
        }
    }

    /// Opens what says who is at work on what; nothing when nobody can share anyway.
    #[must_use]
    pub fn claims(&self) -> Option<Claims> {
        if self.entries_max == 0 || lock(&self.open).is_none() {
            return None;
        }
        let claims = Claims::open(&self.state_dir.path().join(CLAIMS_NAME));
        claims.inspect_err(|error| unusable(error)).ok()
    }

    /// Forgets everything and returns how much that was; waits for whoever is writing.
    ///
    /// # Errors
    ///
    /// Why the cache cannot be written.
    pub fn clear(&self) -> anyhow::Result<usize> {
        let mut slot = lock(&self.open);
        Ok(slot.as_mut().map_or(Ok(0), Open::clear)?)
    }

    /// Makes sure that the file is there, up to date and open.
    ///
    /// # Errors
    ///
    /// Why it cannot be.
    pub async fn try_open(&self) -> anyhow::Result<()> {
        let path = self.state_dir.create()?.join(FILE_NAME);
        let is_open = {
            let slot = lock(&self.open);
            slot.as_ref().is_some_and(|open| open.file.is_some() && open.file == identity(&path))
        };
        if is_open {
            return Ok(());
        }
        let opened = match self.migrate_and_open(&path).await {
            Err(error) if is_corrupt(&error) => {
                tracing::warn!(path = %path.display(), "the result cache is no database any more; it is made anew");
                remove(&path);
                self.migrate_and_open(&path).await?
            }
            other => other?,
        };
        *lock(&self.open) = Some(opened);
        Ok(())
    }

    async fn migrate_and_open(&self, path: &Path) -> anyhow::Result<Open> {
        // Most of the time there is nothing to migrate, and looking takes a tenth of what sqlx's own look takes.
        if let Ok(open) = Open::new(path)
            && is_current(&open.database).unwrap_or(false)
        {
            return Ok(open);
        }
        drop(sqlite::open(path, &MIGRATOR, SqliteSynchronous::Normal).await?);
        Ok(Open::new(path)?)
    }
}

impl Open {
    fn new(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(path, flags)?;
        database.pragma_update(None, "synchronous", "NORMAL")?;
        database.busy_timeout(BUSY_TIMEOUT)?;
        let generation = generation(&database)?;
        Ok(Self { database, file: identity(path), front: Front::default(), generation, writes: 0 })
    }

    fn look_up(&mut self, keys: &[ContentHash], now: i64) -> rusqlite::Result<Vec<Option<CheckResult>>> {
        let current = generation(&self.database)?;
        if current != self.generation {
            self.front = Front::default();
            self.generation = current;
        }
        let mut found: Vec<Option<CheckResult>> = keys.iter().map(|key| self.front.get(key, now)).collect();
        if found.iter().all(Option::is_some) {
            return Ok(found);
        }
        let mut used = Vec::new();
        {
            // One transaction: one look at what others wrote, not one for each key.
            let transaction = self.database.transaction_with_behavior(TransactionBehavior::Deferred)?;
            let mut select = transaction.prepare_cached("SELECT value, digest, used_at FROM result WHERE key = ?")?;
            for (key, slot) in keys.iter().zip(&mut found).filter(|(_, slot)| slot.is_none()) {
                let row = select
                    .query_row([key.as_bytes().as_slice()], |row| {
                        let intact = row.get_ref(1)?.as_blob()? == digest(key, row.get_ref(0)?.as_str()?).as_bytes();
                        let result = serde_json::from_str(row.get_ref(0)?.as_str()?).ok().filter(|_| intact);
                        Ok((result, row.get::<_, i64>(2)?))
                    })
                    .optional()?;
                let Some((result, used_at)) = row else { continue };
                if result.is_none() {
                    tracing::warn!(%key, "a cached result is damaged and not used");
                    continue;
                }
                let noted_at = if now - used_at > USE_NOTED_EVERY_S { now } else { used_at };
                if noted_at != used_at {
                    used.push(*key);
                }
                *slot = result;
                if let Some(result) = slot {
                    self.front.put(*key, result.clone(), noted_at);
                }
            }
        }
        if !used.is_empty() {
            let transaction = self.database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for key in &used {
                transaction
                    .prepare_cached("UPDATE result SET used_at = ? WHERE key = ?")?
                    .execute(params![now, key.as_bytes()])?;
            }
            transaction.commit()?;
        }
        Ok(found)
    }

    fn write(&mut self, results: &[&(ContentHash, &CheckResult)], entries_max: u32, now: i64) -> rusqlite::Result<()> {
        let transaction = self.database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (key, result) in results {
            let Ok(value) = serde_json::to_string(result) else { continue };
            transaction
                .prepare_cached("INSERT OR REPLACE INTO result (key, value, digest, used_at) VALUES (?, ?, ?, ?)")?
                .execute(params![key.as_bytes(), value, digest(key, &value).as_bytes(), now])?;
        }
        let before = self.writes;
        self.writes += results.len();
        if before == 0 || before / WRITES_PER_TRIM != self.writes / WRITES_PER_TRIM {
            // Down to nine tenths, so that the next trim is not due at once.
            let kept = u64::from(entries_max) * 9 / 10;
            transaction.execute(
                "DELETE FROM result WHERE (SELECT count(*) FROM result) > ?1 AND key IN (
                     SELECT key FROM result ORDER BY used_at DESC LIMIT -1 OFFSET ?2)",
                params![entries_max, i64::try_from(kept).unwrap_or(i64::MAX)],
            )?;
        }
        transaction.commit()?;
        for (key, result) in results {
            self.front.put(*key, (*result).clone(), now);
        }
        Ok(())
    }

    fn clear(&mut self) -> rusqlite::Result<usize> {
        let transaction = self.database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let entries = transaction.execute("DELETE FROM result", [])?;
        let next = generation(&transaction)?.wrapping_add(1) & i64::from(i32::MAX);
        transaction.pragma_update(None, "user_version", next)?;
        transaction.commit()?;
        self.front = Front::default();
        self.generation = next;
        Ok(entries)
    }
}

/// Whether every migration was made, and no other.
fn is_current(database: &Connection) -> rusqlite::Result<bool> {
    let mut select =
        database.prepare("SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version")?;
    let made = select.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    let made: Vec<(i64, Vec<u8>)> = made.collect::<Result<_, _>>()?;
    let wanted = MIGRATOR.iter().map(|migration| (migration.version, migration.checksum.to_vec()));
    Ok(wanted.eq(made))
}

/// Returns how often the cache was cleared: what a process has in its own memory is cleared with it.
fn generation(database: &Connection) -> rusqlite::Result<i64> {
    database.prepare_cached("PRAGMA user_version")?.query_row([], |row| row.get(0))
}

fn digest(key: &ContentHash, value: &str) -> ContentHash {
    ContentHash::builder("ralph.value").field(key.as_bytes()).field(value.as_bytes()).finish()
}

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn is_corrupt(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let ours = cause.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
        // SQLITE_CORRUPT and SQLITE_NOTADB, as sqlx has them.
        let code = cause.downcast_ref::<sqlx::Error>().and_then(|error| error.as_database_error()?.code());
        ours.is_some_and(|code| CORRUPT.contains(&code)) || code.is_some_and(|code| matches!(&*code, "11" | "26"))
    })
}

/// Removes the file and what SQLite keeps beside it.
fn remove(path: &Path) {
    for end in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        let _ = fs::remove_file(PathBuf::from(name));
    }
}

/// Lets go of a connection that may be in any state; the next call opens another. Others at work are no reason.
fn give_up(slot: &mut Option<Open>, error: &rusqlite::Error) {
    if !matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) {
        if error.sqlite_error_code().is_some_and(|code| CORRUPT.contains(&code))
            && let Some(path) = slot.as_ref().and_then(|open| open.database.path())
        {
            remove(Path::new(path));
        }
        *slot = None;
    }
}

fn unusable(error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(error = %Chain(error), "the result cache cannot be used; checks run without it");
}

/// Takes a lock whose holder may have panicked: a transaction that was not committed is rolled back.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
