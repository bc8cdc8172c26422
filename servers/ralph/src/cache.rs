//! What checks found before, by the hash of what they depend on; shared by all processes of a state folder.
//!
//! The cache makes answers cheaper and never decides one: an entry that is damaged, unreadable or missing is a
//! check that runs.

use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteSynchronous;
use sqlx::{Connection, Row, SqliteConnection};
use tokio::sync::Mutex;
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::error_chain::Chain;
use tollgate_shared::sqlite;
use tollgate_shared::state_dir::StateDir;

use crate::check::{CheckResult, Verdict};

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// The name of the file in the state folder.
const FILE_NAME: &str = "ralph-cache.db";

/// Use is noted this often, in seconds: a hit should not cost a write.
const USE_NOTED_EVERY_S: i64 = 3600;

/// Writes between two looks at how many entries there are.
const WRITES_PER_TRIM: u32 = 500;

/// The results of one state folder; opened by the first call that needs it.
pub struct ResultCache {
    state_dir: StateDir,
    entries_max: u32,
    connection: Mutex<Option<Open>>,
}

struct Open {
    database: SqliteConnection,
    writes: u32,
}

impl ResultCache {
    /// Names the cache of `state_dir`; nothing is opened or made yet.
    #[must_use]
    pub fn new(state_dir: StateDir, entries_max: u32) -> Self {
        Self { state_dir, entries_max, connection: Mutex::default() }
    }

    /// Returns what was found before under `key`; `None` when nothing was, or nothing that can be relied on.
    pub async fn get(&self, key: &ContentHash) -> Option<CheckResult> {
        if self.entries_max == 0 {
            return None;
        }
        let mut slot = self.connection.lock().await;
        let found = match self.open(&mut slot).await {
            Ok(open) => look_up(&mut open.database, key).await,
            Err(error) => Err(error),
        };
        found.unwrap_or_else(|error| {
            unusable(&error);
            None
        })
    }

    /// Remembers what was found under `key`; an inconclusive result, which may be another next time, is not.
    pub async fn put(&self, key: &ContentHash, result: &CheckResult) {
        if self.entries_max == 0 || matches!(result.verdict, Verdict::Inconclusive | Verdict::Skipped) {
            return;
        }
        let mut slot = self.connection.lock().await;
        let written = match self.open(&mut slot).await {
            Ok(open) => write(open, key, result, self.entries_max).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            unusable(&error);
        }
    }

    /// Forgets everything and returns how much that was.
    ///
    /// # Errors
    ///
    /// Why the cache cannot be written.
    pub async fn clear(&self) -> anyhow::Result<u64> {
        let mut slot = self.connection.lock().await;
        let open = self.open(&mut slot).await?;
        Ok(sqlx::query("DELETE FROM result").execute(&mut open.database).await?.rows_affected())
    }

    async fn open<'slot>(&self, slot: &'slot mut Option<Open>) -> anyhow::Result<&'slot mut Open> {
        // A file that was deleted or replaced under us would take writes that nobody ever reads.
        let path = self.state_dir.create()?.join(FILE_NAME);
        if slot.is_some() && !path.exists() {
            *slot = None;
        }
        match slot {
            Some(open) => Ok(open),
            None => {
                let database = sqlite::open(&path, &MIGRATOR, SqliteSynchronous::Normal).await?;
                Ok(slot.insert(Open { database, writes: 0 }))
            }
        }
    }
}

async fn look_up(database: &mut SqliteConnection, key: &ContentHash) -> anyhow::Result<Option<CheckResult>> {
    let row = sqlx::query("SELECT value, digest, used_at FROM result WHERE key = ?")
        .bind(key.as_bytes().as_slice())
        .fetch_optional(&mut *database)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let (value, noted): (String, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
    if noted != digest(key, &value).as_bytes() {
        tracing::warn!(%key, "a cached result is damaged and not used");
        return Ok(None);
    }
    let now = now_s();
    if now - row.try_get::<i64, _>(2)? > USE_NOTED_EVERY_S {
        sqlx::query("UPDATE result SET used_at = ? WHERE key = ?")
            .bind(now)
            .bind(key.as_bytes().as_slice())
            .execute(database)
            .await?;
    }
    Ok(serde_json::from_str(&value).ok())
}

async fn write(open: &mut Open, key: &ContentHash, result: &CheckResult, entries_max: u32) -> anyhow::Result<()> {
    let value = serde_json::to_string(result)?;
    let digest = digest(key, &value);
    let mut transaction = open.database.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query("INSERT OR REPLACE INTO result (key, value, digest, used_at) VALUES (?, ?, ?, ?)")
        .bind(key.as_bytes().as_slice())
        .bind(value)
        .bind(digest.as_bytes().as_slice())
        .bind(now_s())
        .execute(&mut *transaction)
        .await?;
    if open.writes.is_multiple_of(WRITES_PER_TRIM) {
        // Down to nine tenths, so that the next trim is not due at once.
        let kept = u64::from(entries_max) * 9 / 10;
        sqlx::query(
            "DELETE FROM result WHERE (SELECT count(*) FROM result) > ?1 AND key IN (
                 SELECT key FROM result ORDER BY used_at DESC LIMIT -1 OFFSET ?2)",
        )
        .bind(i64::from(entries_max))
        .bind(i64::try_from(kept)?)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    open.writes = open.writes.wrapping_add(1);
    Ok(())
}

fn digest(key: &ContentHash, value: &str) -> ContentHash {
    ContentHash::builder("ralph.value").field(key.as_bytes()).field(value.as_bytes()).finish()
}

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn unusable(error: &anyhow::Error) {
    tracing::warn!(error = %Chain(error.as_ref()), "the result cache cannot be used; checks run without it");
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::check::Check;

    fn cache(folder: &TempDir, entries_max: u32) -> ResultCache {
        ResultCache::new(StateDir::choose(None, folder.path()), entries_max)
    }

    fn result(reason: &str, verdict: Verdict) -> CheckResult {
        CheckResult { verdict, ..CheckResult::inconclusive(Check::Syntax, reason) }
    }

    async fn raw(folder: &TempDir, sql: &'static str) -> i64 {
        let path = StateDir::choose(None, folder.path()).path().join(FILE_NAME);
        let mut database = sqlite::open(&path, &MIGRATOR, SqliteSynchronous::Normal).await.unwrap();
        sqlx::query_scalar(sql).fetch_optional(&mut database).await.unwrap().unwrap_or_default()
    }

    #[tokio::test]
    async fn result_is_shared_between_processes() {
        let folder = tempfile::tempdir().unwrap();
        let key = ContentHash::of(b"content");
        cache(&folder, 10).put(&key, &result("x", Verdict::Pass)).await;
        assert_eq!(cache(&folder, 10).get(&key).await, Some(result("x", Verdict::Pass)));
        assert_eq!(cache(&folder, 10).get(&ContentHash::of(b"other")).await, None);
    }

    #[tokio::test]
    async fn inconclusive_is_not_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let key = ContentHash::of(b"content");
        let cache = cache(&folder, 10);
        cache.put(&key, &result("x", Verdict::Inconclusive)).await;
        assert_eq!(cache.get(&key).await, None);
    }

    #[tokio::test]
    async fn changed_value_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let key = ContentHash::of(b"content");
        let cache = cache(&folder, 10);
        cache.put(&key, &result("x", Verdict::Fail)).await;
        raw(&folder, "UPDATE result SET value = replace(value, 'fail', 'pass')").await;
        assert_eq!(cache.get(&key).await, None);
    }

    #[tokio::test]
    async fn entry_under_another_key_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let (key, other) = (ContentHash::of(b"content"), ContentHash::of(b"other"));
        let cache = cache(&folder, 10);
        cache.put(&key, &result("x", Verdict::Pass)).await;
        let path = StateDir::choose(None, folder.path()).path().join(FILE_NAME);
        let mut database = sqlite::open(&path, &MIGRATOR, SqliteSynchronous::Normal).await.unwrap();
        sqlx::query("UPDATE result SET key = ?")
            .bind(other.as_bytes().as_slice())
            .execute(&mut database)
            .await
            .unwrap();
        assert_eq!(cache.get(&other).await, None);
    }

    #[tokio::test]
    async fn entries_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder, 50);
        for number in 0..=2 * WRITES_PER_TRIM {
            cache.put(&ContentHash::of(&number.to_be_bytes()), &result("x", Verdict::Pass)).await;
        }
        let kept = raw(&folder, "SELECT count(*) FROM result").await;
        assert!(kept <= 50, "{kept} entries");
    }

    #[tokio::test]
    async fn unusable_file_is_no_answer_and_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let state_dir = StateDir::choose(None, folder.path());
        std::fs::write(state_dir.create().unwrap().join(FILE_NAME), "this is no database at all").unwrap();
        let cache = cache(&folder, 10);
        let key = ContentHash::of(b"content");
        cache.put(&key, &result("x", Verdict::Pass)).await;
        assert_eq!(cache.get(&key).await, None);
    }

    #[tokio::test]
    async fn deleted_file_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = cache(&folder, 10);
        let key = ContentHash::of(b"content");
        first.put(&key, &result("x", Verdict::Pass)).await;
        for entry in std::fs::read_dir(StateDir::choose(None, folder.path()).path()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        first.put(&key, &result("y", Verdict::Pass)).await;
        assert_eq!(cache(&folder, 10).get(&key).await, Some(result("y", Verdict::Pass)));
    }
}
