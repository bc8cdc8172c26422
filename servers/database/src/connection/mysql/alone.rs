//! Each lock alone, with the other two switched off, against the corpus. What each misses is listed in docs/security.md;
//! `TOLLGATE_LONG_TESTS=1 cargo test -p mcp-database --lib alone -- --nocapture` prints it.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tollgate_tests::corpus::{MYSQL, some};
use tollgate_tests::shop::MysqlShop;

use super::*;
use crate::config::DatabaseConfig;

/// Long enough for what is quick, on a busy machine too.
const TIMEOUT_MS: u32 = 1_000;

fn server(url: &str) -> Arc<Mysql> {
    let text = format!("[connections.shop]\nurl = '{url}'\ntimeout_ms = {TIMEOUT_MS}\n");
    let config: DatabaseConfig = toml::from_str(&text).unwrap();
    let limits = Limits { timeout: Duration::from_millis(u64::from(TIMEOUT_MS)) };
    Arc::new(Mysql::new(&config.connections["shop"], limits, Arc::default()).unwrap())
}

async fn slot() -> OwnedSemaphorePermit {
    Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap()
}

/// Tries every statement of `corpus` and returns those that ran, and of these those that changed what stays.
async fn tried<'a>(
    shop: &MysqlShop,
    corpus: &[&'a str],
    run: impl AsyncFn(&str) -> bool,
) -> (Vec<&'a str>, Vec<&'a str>) {
    let mut observer = shop.connect().await;
    let mut before = shop.state_by(&mut observer).await;
    let (mut ran, mut changed) = (Vec::new(), Vec::new());
    for sql in corpus {
        if run(sql).await {
            ran.push(*sql);
        }
        let after = shop.state_by(&mut observer).await;
        if after != before {
            changed.push(*sql);
            before = after;
        }
    }
    (ran, changed)
}

/// A connection of nobody's care: one statement, or several.
async fn bare(url: &str, sql: &str) -> bool {
    let options = MySqlConnectOptions::from_str(url).unwrap().disable_statement_logging();
    let Ok(mut connection) = options.connect().await else { return false };
    sqlx::raw_sql("SET SESSION max_statement_time = 0.2").execute(&mut connection).await.unwrap();
    let ran = timeout(Duration::from_secs(5), sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection));
    let ran = matches!(ran.await, Ok(Ok(_)));
    let _ = timeout(Duration::from_secs(1), connection.close()).await;
    ran
}

fn report(lock: &str, all: usize, ran: &[&str], changed: &[&str]) {
    println!("{lock} alone: of {all} attacks {} ran, {} changed what stays", ran.len(), changed.len());
    println!("  ran: {ran:#?}\n  changed: {changed:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lock_alone() {
    let Some(shop) = MysqlShop::with("").await else { return };
    let attacks = &some(&MYSQL.refused);
    let honest = &some(&MYSQL.allowed);

    // The text and the views behind it, on root's connection that writes what it is told to.
    let url = shop.url();
    let first = server(&url);
    let text = async |sql: &str| {
        let Ok(statement) = ReadStatement::check(sql, first.rules()) else { return false };
        let mut lease = Lease::begin(&first, slot().await, 10).await.unwrap();
        let permitted = first.permitted(&mut lease, &statement).await.is_ok();
        lease.end().await;
        permitted && bare(&url, statement.text()).await
    };
    let (ran, changed) = tried(&shop, attacks, text).await;
    report("the text", attacks.len(), &ran, &changed);
    assert!(ran.is_empty() && changed.is_empty(), "{ran:#?}");
    let (ran, changed) = tried(&shop, honest, text).await;
    assert!(changed.is_empty(), "{changed:#?}");
    let missing: Vec<_> = honest.iter().filter(|sql| !ran.contains(sql)).collect();
    assert!(missing.is_empty(), "{missing:#?}");

    // The session, with root's role.
    let second = server(&url);
    let session = async |sql: &str| {
        let Ok(mut lease) = Lease::take_or_begin(&second, slot().await, 10).await else { return false };
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
    assert!(changed.is_empty(), "{changed:#?}");
    let writes = |sql: &&str| WRITES.iter().any(|verb| sql.starts_with(verb));
    assert!(!ran.iter().any(writes), "{ran:#?}");

    // The role, on a connection of its own that is told nothing.
    let reader = shop.reader().await;
    let (ran, changed) = tried(&shop, attacks, async |sql: &str| bare(&reader, sql).await).await;
    report("the role", attacks.len(), &ran, &changed);
    // Views do what their maker may.
    assert!(changed.iter().all(|sql| sql.contains("touching") || sql.contains("stepping")), "{changed:#?}");
}

/// What begins statements that no session of ours takes.
const WRITES: [&str; 13] = [
    "INSERT", "UPDATE", "DELETE", "DROP", "CREATE", "ALTER", "TRUNCATE", "LOAD", "COMMIT", "ROLLBACK", "SET", "CALL",
    "REPLACE",
];
