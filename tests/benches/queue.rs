//! The queue on SQLite and PostgreSQL: what adding, claiming and completing a task takes, with few and many tasks waiting,
//! beside the three bare statements that any queue in a table needs, and beside apalis.
//!
//! apalis hands tasks to a worker as it likes, so of it only adding is timed alone: what is left of its time for a task is for
//! claiming and completing it, by one worker that claims one at a time, as ours do, and by one that claims a hundred.
//!
//! `cargo bench -p tollgate-tests --bench queue`; the figures of record are in docs/benchmarks.md.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::float_arithmetic, reason = "a benchmark prints ratios")]

use std::time::{Duration, Instant};

use apalis_core::backend::TaskSink;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_core::worker::context::WorkerContext;
use apalis_postgres::PostgresStorage;
use apalis_sqlite::SqliteStorage;
use orchestrator::queue::config::QueueConfig;
use orchestrator::queue::file::{Batch, Item};
use orchestrator::queue::lease::Settlement;
use orchestrator::queue::store::{ImportOrder, Queue};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection};
use tempfile::TempDir;
use tollgate_shared::money::Money;
use tollgate_shared::state_dir::StateDir;
use tollgate_tests::database_servers;

/// How many tasks wait.
const WAITING: [i64; 3] = [10, 10_000, 1_000_000];

/// How many tasks are added, claimed and completed with each.
const ROUNDS: usize = 300;

const LEASE: Duration = Duration::from_secs(600);

/// What three steps take, each time.
#[derive(Default)]
struct Times([Vec<Duration>; 3]);

impl Times {
    fn median(&mut self, step: usize) -> Duration {
        self.0[step].sort_unstable();
        self.0[step][self.0[step].len() / 2]
    }
}

fn body(id: &str) -> Value {
    json!({ "id": id, "description": format!("do {id}"), "status": "pending", "priority": "P2", "type": "chore" })
}

async fn add(queue: &Queue, id: &str) {
    let body = body(id).as_object().unwrap().clone();
    let task = serde_json::from_value(Value::Object(body.clone())).unwrap();
    let batch = Batch { items: vec![Item { task, body, feature: None }], ..Batch::default() };
    let import = format!("import-{id}");
    let order = ImportOrder { id: &import, source: "bench", backup: "", changes: false, try_only: false };
    queue.import(&batch, &order).await.unwrap();
}

/// Returns the statement that lets `count` tasks wait, all at once, which are older than every other.
fn filling(count: i64, series: &str) -> String {
    format!(
        "INSERT INTO queue_task SELECT 'w-' || n, n, '{{\"id\": \"w-' || n || '\", \"description\": \"x\", \"status\": \"pending\", \
         \"priority\": \"P2\", \"type\": \"chore\"}}', '', 'pending', 2, n, 0, 0, '', '', '', 0, '', 0, 0, '0', '0', '', '', '', 0, '', n \
         FROM {series} WHERE n <= {count}"
    )
}

async fn measure(queue: &Queue) -> Times {
    let mut times = Times::default();
    for round in 0..ROUNDS {
        let id = format!("b-{round}");
        let begun = Instant::now();
        add(queue, &id).await;
        times.0[0].push(begun.elapsed());
        let begun = Instant::now();
        let lease = queue.claim("bench", "here", LEASE).await.unwrap().unwrap();
        times.0[1].push(begun.elapsed());
        let done = Settlement::Completed { branch: "b".to_owned(), commit: "c".to_owned() };
        let begun = Instant::now();
        queue.settle(&lease, &done, Money::ZERO).await.unwrap();
        times.0[2].push(begun.elapsed());
    }
    times
}

/// The statements that a queue in a table cannot do without.
const BARE: [&str; 4] = [
    "CREATE TABLE bare (id TEXT PRIMARY KEY, status TEXT NOT NULL, at BIGINT NOT NULL)",
    "INSERT INTO bare VALUES ($1, 'pending', $2)",
    "UPDATE bare SET status = 'running' WHERE id = (SELECT id FROM bare WHERE status = 'pending' ORDER BY at LIMIT 1 SKIPPING) RETURNING id",
    "UPDATE bare SET status = 'done' WHERE id = $1",
];

/// Measures the bare statements on a pool; the engines differ in type and in nothing else.
macro_rules! bare {
    ($pool:expr, $skipping:expr) => {{
        let pool = $pool;
        sqlx::query(BARE[0]).execute(&pool).await.unwrap();
        sqlx::query("CREATE INDEX bare_pending ON bare (at) WHERE status = 'pending'").execute(&pool).await.unwrap();
        let claim = BARE[2].replace("SKIPPING", $skipping);
        let mut times = Times::default();
        for round in 0..ROUNDS {
            let begun = Instant::now();
            let number = i64::try_from(round).unwrap();
            sqlx::query(BARE[1]).bind(format!("b-{round}")).bind(number).execute(&pool).await.unwrap();
            times.0[0].push(begun.elapsed());
            let begun = Instant::now();
            let id: String = sqlx::query_scalar(AssertSqlSafe(claim.clone())).fetch_one(&pool).await.unwrap();
            times.0[1].push(begun.elapsed());
            let begun = Instant::now();
            sqlx::query(BARE[3]).bind(id).execute(&pool).await.unwrap();
            times.0[2].push(begun.elapsed());
        }
        pool.close().await;
        times
    }};
}

/// Measures a storage of apalis, claiming `batch` at a time; the engines differ in type and in nothing else.
macro_rules! apalis {
    ($engine:literal, $storage:ident, $config:path, $pool:expr, $batch:expr, $bare:expr) => {{
        let pool = $pool;
        $storage::setup(&pool).await.unwrap();
        let config = <$config>::default().queue("bench").batch_size($batch);
        let mut storage = $storage::<usize>::new(&pool).with_config(config);
        let mut adding = Vec::new();
        for round in 0..ROUNDS {
            let begun = Instant::now();
            storage.push(round).await.unwrap();
            adding.push(begun.elapsed());
        }
        let left = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(ROUNDS));
        let counted = std::sync::Arc::clone(&left);
        let worker = WorkerBuilder::new("bench").backend(storage).build(move |_: usize, worker: WorkerContext| {
            let counted = std::sync::Arc::clone(&counted);
            async move {
                if counted.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1 {
                    worker.stop()?;
                }
                Ok::<(), apalis_core::error::BoxDynError>(())
            }
        });
        let begun = Instant::now();
        worker.run().await.unwrap();
        let each = begun.elapsed() / u32::try_from(ROUNDS).unwrap();
        assert_eq!(left.load(std::sync::atomic::Ordering::Relaxed), 0);
        adding.sort_unstable();
        let (add, bare): (Duration, &[Duration; 3]) = (adding[ROUNDS / 2], $bare);
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        println!(
            "{:<9} {:<18} add {:>7.0} us  claim and complete {:>16.0} us  {:>6.0} tasks/s  ({:.1}x {:.1}x of plain SQL)",
            $engine,
            format!("apalis, by {}", $batch),
            micros(add),
            micros(each),
            1.0 / (add + each).as_secs_f64(),
            micros(add) / micros(bare[0]),
            micros(each) / micros(bare[1] + bare[2])
        );
        pool.close().await;
    }};
}

fn print(engine: &str, what: &str, times: &mut Times, bare: Option<&[Duration; 3]>) {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let all: [Duration; 3] = [times.median(0), times.median(1), times.median(2)];
    let ratios = bare.map(|bare| {
        let ratio = |step: usize| format!("{:.1}x", micros(all[step]) / micros(bare[step]));
        format!("  ({} {} {} of plain SQL)", ratio(0), ratio(1), ratio(2))
    });
    let each: Duration = all.iter().sum();
    println!(
        "{engine:<9} {what:<18} add {:>7.0} us  claim {:>7.0} us  complete {:>7.0} us  {:>6.0} tasks/s{}",
        micros(all[0]),
        micros(all[1]),
        micros(all[2]),
        1.0 / each.as_secs_f64(),
        ratios.unwrap_or_default()
    );
}

async fn sqlite() {
    let folder = TempDir::new().unwrap();
    let options = |path: &std::path::Path| {
        SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
    };
    let pool = SqlitePool::connect_with(options(&folder.path().join("bare.db"))).await.unwrap();
    let mut bare = bare!(pool, "");
    let medians = [bare.median(0), bare.median(1), bare.median(2)];
    print("sqlite", "plain SQL", &mut bare, None);
    for batch in [1, 100] {
        let folder = TempDir::new().unwrap();
        let pool = SqlitePool::connect_with(options(&folder.path().join("apalis.db"))).await.unwrap();
        apalis!("sqlite", SqliteStorage, apalis_sqlite::Config, pool, batch, &medians);
    }
    let mut claims = Vec::new();
    for waiting in WAITING {
        let folder = TempDir::new().unwrap();
        let state = StateDir::choose(None, folder.path());
        let queue = Queue::open(&QueueConfig::default(), &state).await.unwrap();
        let pool = SqlitePool::connect_with(options(&state.path().join("queue.db"))).await.unwrap();
        let series = format!(
            "(WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {waiting}) SELECT n FROM s)"
        );
        sqlx::query(AssertSqlSafe(filling(waiting, &series))).execute(&pool).await.unwrap();
        pool.close().await;
        let mut times = measure(&queue).await;
        print("sqlite", &format!("{waiting} waiting"), &mut times, Some(&medians));
        claims.push(times.median(1));
    }
    flat("sqlite", &claims);
}

async fn postgres() {
    let Some(server) = database_servers::postgres() else {
        println!("postgres  left out: there is no server");
        return;
    };
    let create = |name: String| async move {
        let mut connection = PgConnection::connect(&server.url("postgres")).await.unwrap();
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        server.url(&name)
    };
    let url = create(format!("bare_{}", std::process::id())).await;
    let pool = PgPool::connect_with(url.parse::<PgConnectOptions>().unwrap()).await.unwrap();
    let mut bare = bare!(pool, "FOR UPDATE SKIP LOCKED");
    let medians = [bare.median(0), bare.median(1), bare.median(2)];
    print("postgres", "plain SQL", &mut bare, None);
    for batch in [1, 100] {
        let url = create(format!("apalis_{}_{batch}", std::process::id())).await;
        let pool = PgPool::connect_with(url.parse::<PgConnectOptions>().unwrap()).await.unwrap();
        apalis!("postgres", PostgresStorage, apalis_postgres::Config, pool, batch, &medians);
    }
    let mut claims = Vec::new();
    for waiting in WAITING {
        let url = create(format!("bench_{}_{waiting}", std::process::id())).await;
        let folder = TempDir::new().unwrap();
        let config = QueueConfig { url: Some(url.clone()), ..QueueConfig::default() };
        let queue = Queue::open(&config, &StateDir::choose(None, folder.path())).await.unwrap();
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let series = format!("generate_series(1, {waiting}) AS s (n)");
        sqlx::query(AssertSqlSafe(filling(waiting, &series))).execute(&mut connection).await.unwrap();
        // As its own housekeeping would, some minutes later.
        sqlx::query("VACUUM ANALYZE queue_task").execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let mut times = measure(&queue).await;
        print("postgres", &format!("{waiting} waiting"), &mut times, Some(&medians));
        claims.push(times.median(1));
    }
    flat("postgres", &claims);
}

fn flat(engine: &str, claims: &[Duration]) {
    let ratio = claims[claims.len() - 1].as_secs_f64() / claims[0].as_secs_f64();
    println!("{engine:<9} a claim with 1,000,000 waiting takes {ratio:.2}x of one with 10 (aim: at most 1.5x)");
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        sqlite().await;
        postgres().await;
    });
}
