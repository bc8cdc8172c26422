//! Each lock alone, with the other two switched off, against the corpus. What each misses is listed in docs/security.md;
//! `TOLLGATE_LONG_TESTS=1 cargo test -p mcp-database --lib alone -- --nocapture` prints it.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tollgate_tests::corpus::{POSTGRES, some};
use tollgate_tests::shop::PostgresShop;

use super::*;
use crate::config::DatabaseConfig;

/// Long enough for what is quick, on a busy machine too.
const TIMEOUT_MS: u32 = 1_000;

fn server(url: &str) -> Arc<Postgres> {
    let text = format!("[connections.shop]\nurl = '{url}'\ntimeout_ms = {TIMEOUT_MS}\n");
    let config: DatabaseConfig = toml::from_str(&text).unwrap();
    let limits = Limits { timeout: Duration::from_millis(u64::from(TIMEOUT_MS)) };
    Arc::new(Postgres::new(&config.connections["shop"], limits, Arc::default()).unwrap())
}

async fn slot() -> OwnedSemaphorePermit {
    Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap()
}

/// Tries every statement of `corpus` and returns those that ran, and of these those that changed what stays.
async fn tried<'a>(
    shop: &PostgresShop,
    corpus: &[&'a str],
    run: impl AsyncFn(&str) -> bool,
) -> (Vec<&'a str>, Vec<&'a str>) {
    // Each time by another connection, since there are attacks that end those of others.
    let mut before = shop.state().await;
    let (mut ran, mut changed) = (Vec::new(), Vec::new());
    for sql in corpus {
        if run(sql).await {
            ran.push(*sql);
        }
        let after = shop.state().await;
        if after != before {
            changed.push(*sql);
            before = after;
        }
    }
    (ran, changed)
}

/// A connection of nobody's care: one statement, or several, in the simple protocol.
async fn bare(url: &str, sql: &str) -> bool {
    let options = PgConnectOptions::from_str(url).unwrap();
    let options = options.options([("statement_timeout", "200")]).disable_statement_logging();
    let mut connection: PgConnection = options.connect().await.unwrap();
    let ran = timeout(Duration::from_secs(5), sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection));
    let ran = matches!(ran.await, Ok(Ok(_)));
    let _ = connection.close().await;
    ran
}

fn report(lock: &str, all: usize, ran: &[&str], changed: &[&str]) {
    println!("{lock} alone: of {all} attacks {} ran, {} changed what stays", ran.len(), changed.len());
    println!("  ran: {ran:#?}\n  changed: {changed:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lock_alone() {
    let Some(shop) = PostgresShop::new().await else { return };
    let attacks = &some(&POSTGRES.refused);
    let honest = &some(&POSTGRES.allowed);

    // The text and the catalogue, on a superuser's connection that writes what it is told to.
    let url = shop.url();
    let first = server(&url);
    let text = async |sql: &str| {
        let Ok(statement) = ReadStatement::check(sql, first.rules()) else { return false };
        let mut lease = Lease::begin(&first, slot().await, ()).await.unwrap();
        let resolved = first.resolve(&mut lease, &statement).await.is_ok();
        lease.end().await;
        resolved && bare(&url, statement.text()).await
    };
    let (ran, changed) = tried(&shop, attacks, text).await;
    report("the text", attacks.len(), &ran, &changed);
    assert!(ran.is_empty() && changed.is_empty(), "{ran:#?}");
    let (ran, changed) = tried(&shop, honest, text).await;
    assert!(changed.is_empty() && ran.len() == honest.len(), "{changed:#?}");

    // The session, with a superuser's role.
    let second = server(&url);
    let session = async |sql: &str| {
        let Ok(mut lease) = Lease::take_or_begin(&second, slot().await, ()).await else { return false };
        let statement = ReadStatement::unchecked(sql);
        let page = Page { rows_max: 10, offset: 0 };
        let ran = timeout(Duration::from_secs(5), second.run(&mut lease, &statement, &[], page)).await;
        let ran = matches!(ran, Ok(Ok(_)));
        if ran {
            // So that the next one runs in a transaction that was begun ahead.
            lease.went_well();
        }
        lease.end().await;
        ran
    };
    let (ran, changed) = tried(&shop, attacks, session).await;
    report("the session", attacks.len(), &ran, &changed);
    let reaches_out = |sql: &&str| REACH_OUT.iter().any(|name| sql.contains(name));
    assert!(changed.iter().all(reaches_out), "{changed:#?}");
    let writes = |sql: &&str| WRITES.iter().any(|verb| sql.starts_with(verb));
    assert!(!ran.iter().any(writes), "{ran:#?}");

    // The role, on a connection of its own that is told nothing.
    let reader = shop.reader().await;
    let (ran, changed) = tried(&shop, attacks, async |sql: &str| bare(&reader, sql).await).await;
    report("the role", attacks.len(), &ran, &changed);
    let stays = |sql: &&str| OF_A_READER.iter().any(|name| sql.contains(name));
    assert!(changed.iter().all(stays), "{changed:#?}");
}

/// What a superuser's read can do outside of its transaction.
const REACH_OUT: [&str; 8] =
    ["dblink", "pg_create_", "pg_drop_replication", "replication", "lo_export", "pg_file_write", "pg_stat", "slot"];

/// What begins statements that no session of ours takes.
const WRITES: [&str; 14] = [
    "INSERT", "UPDATE", "DELETE", "DROP", "CREATE", "ALTER", "TRUNCATE", "COPY", "COMMIT", "ROLLBACK", "SET", "DO",
    "CALL", "EXPLAIN",
];

/// What a role with SELECT alone may do all the same.
const OF_A_READER: [&str; 4] = ["lo_", "ALTER ROLE", "ALTER DEFAULT PRIVILEGES", "pg_notify"];
