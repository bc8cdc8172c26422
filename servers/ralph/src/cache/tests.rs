//! What the cache keeps, and what it forgets.

use sqlx::SqliteConnection;
use tempfile::TempDir;

use super::*;
use crate::check::Check;

fn cache(folder: &TempDir, entries_max: u32) -> ResultCache {
    ResultCache::new(StateDir::choose(None, folder.path()), entries_max)
}

fn result(reason: &str, verdict: Verdict) -> CheckResult {
    CheckResult { verdict, ..CheckResult::inconclusive(Check::Syntax, reason) }
}

async fn put(cache: &ResultCache, key: &ContentHash, result: &CheckResult) {
    cache.open().await;
    cache.put(&[(*key, result)]);
}

async fn get(cache: &ResultCache, key: &ContentHash) -> Option<CheckResult> {
    cache.open().await;
    cache.get(&[*key]).remove(0)
}

async fn database(folder: &TempDir) -> SqliteConnection {
    let path = StateDir::choose(None, folder.path()).path().join(FILE_NAME);
    sqlite::open(&path, &MIGRATOR, SqliteSynchronous::Normal).await.unwrap()
}

async fn raw(folder: &TempDir, sql: &'static str) -> i64 {
    let mut database = database(folder).await;
    sqlx::query_scalar(sql).fetch_optional(&mut database).await.unwrap().unwrap_or_default()
}

#[tokio::test]
async fn result_is_shared_between_processes() {
    let folder = tempfile::tempdir().unwrap();
    let key = ContentHash::of(b"content");
    put(&cache(&folder, 10), &key, &result("x", Verdict::Pass)).await;
    assert_eq!(get(&cache(&folder, 10), &key).await, Some(result("x", Verdict::Pass)));
    assert_eq!(get(&cache(&folder, 10), &ContentHash::of(b"other")).await, None);
}

#[tokio::test]
async fn inconclusive_is_not_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let key = ContentHash::of(b"content");
    let cache = cache(&folder, 10);
    put(&cache, &key, &result("x", Verdict::Inconclusive)).await;
    assert_eq!(get(&cache, &key).await, None);
}

#[tokio::test]
async fn changed_value_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let key = ContentHash::of(b"content");
    put(&cache(&folder, 10), &key, &result("x", Verdict::Fail)).await;
    raw(&folder, "UPDATE result SET value = replace(value, 'fail', 'pass')").await;
    assert_eq!(get(&cache(&folder, 10), &key).await, None);
}

#[tokio::test]
async fn entry_under_another_key_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let (key, other) = (ContentHash::of(b"content"), ContentHash::of(b"other"));
    let cache = cache(&folder, 10);
    put(&cache, &key, &result("x", Verdict::Pass)).await;
    let mut database = database(&folder).await;
    sqlx::query("UPDATE result SET key = ?").bind(other.as_bytes().as_slice()).execute(&mut database).await.unwrap();
    assert_eq!(get(&cache, &other).await, None);
}

#[tokio::test]
async fn entries_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(&folder, 50);
    for number in 0..=2 * WRITES_PER_TRIM {
        put(&cache, &ContentHash::of(&number.to_be_bytes()), &result("x", Verdict::Pass)).await;
    }
    let kept = raw(&folder, "SELECT count(*) FROM result").await;
    assert!(kept <= 50, "{kept} entries");
}

#[tokio::test]
async fn those_used_least_recently_go_first() {
    let folder = tempfile::tempdir().unwrap();
    let key = |number: u32| ContentHash::of(&number.to_be_bytes());
    for number in 0..20 {
        put(&cache(&folder, 100), &key(number), &result("x", Verdict::Pass)).await;
    }
    raw(&folder, "UPDATE result SET used_at = used_at - 100000").await;
    // Use is noted, so the first outlives those that came after it.
    assert!(get(&cache(&folder, 100), &key(0)).await.is_some());
    put(&cache(&folder, 10), &key(99), &result("x", Verdict::Pass)).await;
    assert_eq!(raw(&folder, "SELECT count(*) FROM result").await, 9);
    assert!(get(&cache(&folder, 10), &key(0)).await.is_some());
}

#[tokio::test]
async fn file_that_is_no_database_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = StateDir::choose(None, folder.path());
    fs::write(state_dir.create().unwrap().join(FILE_NAME), "this is no database at all".repeat(100)).unwrap();
    let key = ContentHash::of(b"content");
    put(&cache(&folder, 10), &key, &result("x", Verdict::Pass)).await;
    assert!(get(&cache(&folder, 10), &key).await.is_some());
}

#[tokio::test]
async fn folder_that_cannot_hold_a_cache_is_no_answer_and_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = StateDir::choose(None, folder.path());
    fs::create_dir(state_dir.create().unwrap().join(FILE_NAME)).unwrap();
    let (cache, key) = (cache(&folder, 10), ContentHash::of(b"content"));
    put(&cache, &key, &result("x", Verdict::Pass)).await;
    assert_eq!(get(&cache, &key).await, None);
    assert!(cache.claims().is_none());
}

#[tokio::test]
async fn cleared_by_one_is_cleared_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other, key) = (cache(&folder, 10), cache(&folder, 10), ContentHash::of(b"content"));
    put(&one, &key, &result("x", Verdict::Pass)).await;
    assert!(get(&other, &key).await.is_some());
    assert_eq!(other.clear().unwrap(), 1);
    assert_eq!(get(&one, &key).await, None);
}

#[tokio::test]
async fn deleted_file_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = cache(&folder, 10);
    let key = ContentHash::of(b"content");
    put(&first, &key, &result("x", Verdict::Pass)).await;
    for entry in fs::read_dir(StateDir::choose(None, folder.path()).path()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    put(&first, &key, &result("y", Verdict::Pass)).await;
    assert_eq!(get(&cache(&folder, 10), &key).await, Some(result("y", Verdict::Pass)));
}
