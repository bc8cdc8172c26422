//! What mcp-database costs beside the engine: the guard's time for a statement of 1 KB, and a query of 1 and of 1,000 rows
//! beside the same query through sqlx and a bare stdio round trip, all in one run.
//!
//! `cargo bench -p tollgate-tests --bench database`; the figures of record are in docs/benchmarks.md. PostgreSQL and MariaDB
//! are started from what is installed. With `TOLLGATE_PEER_DBHUB` (`@bytebase/dbhub`'s program) and
//! `TOLLGATE_PEER_POSTGRES` (`@modelcontextprotocol/server-postgres`'s) the ratio to them is printed, too.
//! `TOLLGATE_BENCH_ROUNDS` sets how often each is measured.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::float_arithmetic, reason = "a benchmark prints ratios")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use mcp_database::connection::STACK_BYTES;
use mcp_database::statement::{ReadStatement, Rules, Syntax};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection, Row, SqliteConnection};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tollgate_tests::database_servers::{DatabaseServer, own_mysql, own_tcp_postgres};
use tollgate_tests::measured::Measured;
use tollgate_tests::world::program;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many statements the guard judges in each dialect.
const JUDGED: usize = 20_000;
/// How often each query is measured unless the environment says otherwise, in turns, so that a busy moment of the
/// machine hits all alike.
const ROUNDS: usize = 1_000;
/// The first rounds, which open connections and prepare statements, are not counted.
const WARM_UP: usize = 20;
/// Rows of the table.
const ROWS: usize = 2_000;

/// A table as they are: a key, texts, a decimal, a time, and something that may be missing.
const TABLE: &str = "CREATE TABLE item (id INTEGER PRIMARY KEY, name VARCHAR(40) NOT NULL, price NUMERIC(10,2) NOT NULL, made_at TIMESTAMP NOT NULL, note VARCHAR(40))";

struct Server(Measured);

impl Server {
    /// Starts a server and greets it as a client of 2025-06-18 does, which all of them know.
    fn start(mut command: Command, folder: &Path) -> Self {
        let mut server = Self(Measured::start(&mut command, folder));
        let client = json!({"name": "bench", "version": "1"});
        let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client});
        server.send(&json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}));
        server.0.write(&format!("{}\n", json!({"jsonrpc": "2.0", "method": "notifications/initialized"})));
        server
    }

    fn send(&mut self, request: &Value) -> String {
        self.0.write(&format!("{request}\n"));
        loop {
            let line = self.0.read();
            // What it says by itself is no answer.
            if !line.contains("\"method\"") || line.contains("\"result\"") {
                return line.to_owned();
            }
        }
    }

    /// Calls a tool, whose answer must have `marker` in it, and returns how long that took and how long the answer was.
    fn answer(&mut self, tool: &str, arguments: &Value, marker: &str) -> (Duration, usize) {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}});
        let begun = Instant::now();
        let answer = self.send(&request);
        let took = begun.elapsed();
        assert!(answer.contains(marker) && !answer.contains("\"isError\":true"), "{tool}: {answer:.500}");
        (took, answer.len())
    }

    /// Calls a tool, whose answer must have `marker` in it, and returns how long that took.
    fn call(&mut self, tool: &str, arguments: &Value, marker: &str) -> Duration {
        self.answer(tool, arguments, marker).0
    }
}

/// The same query by the client library alone.
enum Direct {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    Mysql(MySqlConnection),
}

/// Asks for every row and looks at every value, and returns how long that took.
macro_rules! fetched {
    ($connection:expr, $sql:expr) => {{
        let begun = Instant::now();
        let rows = sqlx::query(AssertSqlSafe($sql.to_owned())).fetch_all($connection).await.unwrap();
        let mut bytes = 0;
        for row in &rows {
            for index in 0..row.len() {
                bytes += row.try_get_raw(index).map(|value| usize::from(!sqlx::ValueRef::is_null(&value))).unwrap();
            }
        }
        assert!(bytes >= rows.len());
        begun.elapsed()
    }};
}

impl Direct {
    async fn run(&mut self, sql: &str) -> Duration {
        match self {
            Self::Sqlite(connection) => fetched!(connection, sql),
            Self::Postgres(connection) => fetched!(connection, sql),
            Self::Mysql(connection) => fetched!(connection, sql),
        }
    }
}

fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort();
    times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e3
}

/// In milliseconds.
#[derive(Clone, Copy)]
struct Took {
    p50: f64,
    p99: f64,
}

/// Has everything that is compared take its turn in each round: every other time in the opposite order, since a call is quicker
/// after one that had the engine at work.
fn measured<const N: usize>(rounds: usize, mut call: impl FnMut(usize) -> Duration) -> [Took; N] {
    let mut times: [Vec<Duration>; N] = std::array::from_fn(|_| Vec::with_capacity(rounds));
    for round in 0..rounds + WARM_UP {
        for turn in 0..N {
            let which = if round % 2 == 0 { turn } else { N - 1 - turn };
            let took = call(which);
            if round >= WARM_UP {
                times[which].push(took);
            }
        }
    }
    times.map(|mut times| Took { p50: percentile(&mut times, 50), p99: percentile(&mut times, 99) })
}

/// A statement of about 1 KB, as an analyst writes them.
fn one_kilobyte() -> String {
    let mut sql = "WITH recent AS (SELECT o.id, o.customer_id, o.total, o.created_at FROM orders o WHERE o.created_at >= '2024-01-01' AND o.status IN ('paid', 'sent')), \
        per_customer AS (SELECT customer_id, count(*) AS orders, sum(total) AS total FROM recent GROUP BY customer_id HAVING count(*) > 1) \
        SELECT c.id, c.name, c.country, p.orders, p.total, CASE WHEN p.total > 1000 THEN 'large' WHEN p.total > 100 THEN 'medium' ELSE 'small' END AS size, \
        row_number() OVER (PARTITION BY c.country ORDER BY p.total DESC) AS place FROM per_customer p JOIN customers c ON c.id = p.customer_id \
        LEFT JOIN regions r ON r.country = c.country WHERE (c.name LIKE 'A%' OR c.name LIKE 'B%') AND coalesce(r.name, '') <> 'none'".to_owned();
    let mut number = 0;
    while sql.len() < 1_000 {
        number += 1;
        sql += &format!(" AND c.id <> {number}");
    }
    sql + " ORDER BY p.total DESC, c.id LIMIT 100"
}

fn guard() {
    println!("\nguard, {JUDGED} statements of {} bytes each", one_kilobyte().len());
    for (name, syntax) in [("SQLite", Syntax::Sqlite), ("PostgreSQL", Syntax::Postgres), ("MySQL", Syntax::Mysql)] {
        let judging = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            let (sql, rules) = (one_kilobyte(), Rules::of(syntax));
            let judge = || ReadStatement::check(&sql, &rules).unwrap_or_else(|refusal| panic!("{}", refusal.message));
            let mut times: Vec<Duration> = (0..JUDGED)
                .map(|_| {
                    let begun = Instant::now();
                    // What is dropped only when the call is answered is part of its price.
                    drop(judge());
                    begun.elapsed()
                })
                .collect();
            (percentile(&mut times, 50) * 1e3, percentile(&mut times, 99) * 1e3)
        });
        let (p50, p99) = judging.unwrap().join().unwrap();
        println!("  {name:<12} p50 {p50:>6.1} µs   p99 {p99:>6.1} µs   (aim: p99 under 100 µs)");
    }
}

/// Fills the table.
fn rows() -> String {
    let values: Vec<String> = (1..=ROWS)
        .map(|id| {
            let note = if id % 3 == 0 { "NULL".to_owned() } else { format!("'note {id}'") };
            format!(
                "({id}, 'item {id}', {}.{:02}, '2024-01-{:02} 12:{:02}:00', {note})",
                id % 900,
                id % 100,
                id % 28 + 1,
                id % 60
            )
        })
        .collect();
    format!("INSERT INTO item VALUES {}", values.join(", "))
}

/// One engine: where it is, and a connection to it.
struct Engine {
    name: &'static str,
    url: String,
    direct: Direct,
    _server: Option<DatabaseServer>,
    _folder: Option<TempDir>,
}

async fn sqlite() -> Engine {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}", folder.path().join("shop.db").display());
    let mut direct = SqliteConnection::connect(&format!("{url}?mode=rwc")).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("{TABLE}; {}", rows()))).execute(&mut direct).await.unwrap();
    Engine { name: "SQLite", url, direct: Direct::Sqlite(direct), _server: None, _folder: Some(folder) }
}

async fn postgres() -> Option<Engine> {
    let server = own_tcp_postgres()?;
    let url = server.url("postgres");
    let mut direct = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("{TABLE}; {}; ANALYZE", rows()))).execute(&mut direct).await.unwrap();
    Some(Engine { name: "PostgreSQL", url, direct: Direct::Postgres(direct), _server: Some(server), _folder: None })
}

async fn mysql() -> Option<Engine> {
    let server = own_mysql()?;
    let mut direct = MySqlConnection::connect(&server.url("mysql")).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE shop; USE shop; {TABLE}; {}", rows())))
        .execute(&mut direct)
        .await
        .unwrap();
    let url = server.url("shop");
    let direct = MySqlConnection::connect(&url).await.unwrap();
    Some(Engine { name: "MariaDB", url, direct: Direct::Mysql(direct), _server: Some(server), _folder: None })
}

/// Another server for the same database, with its tool.
struct Peer {
    name: &'static str,
    server: Server,
    tool: &'static str,
}

fn peers(url: &str, folder: &Path) -> Vec<Peer> {
    let start = |variable: &str, arguments: &[&str]| {
        let Some(path) = std::env::var_os(variable) else {
            println!("  {variable} is not set: no comparison with it");
            return None;
        };
        let mut command = Command::new(path);
        command.args(arguments);
        Some(Server::start(command, folder))
    };
    let dbhub = start("TOLLGATE_PEER_DBHUB", &["--transport", "stdio", "--dsn", &format!("{url}?sslmode=disable")]);
    let reference = start("TOLLGATE_PEER_POSTGRES", &[url]);
    [("dbhub", dbhub, "execute_sql"), ("reference server", reference, "query")]
        .into_iter()
        .filter_map(|(name, server, tool)| Some(Peer { name, server: server?, tool }))
        .collect()
}

fn main() {
    // Criterion's arguments (`--bench`) come with `cargo bench` and mean nothing here.
    let rounds = std::env::var("TOLLGATE_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    guard();
    let runtime = Runtime::new().unwrap();
    let engines = runtime.block_on(async { [Some(sqlite().await), postgres().await, mysql().await] });
    for mut engine in engines.into_iter().flatten() {
        let folder = TempDir::new().unwrap();
        // Nothing is answered from the cache, and the role may write: neither is what is measured.
        let text = format!("[database.connections.shop]\nurl = '{}'\ncache_ms = 0\n", engine.url);
        std::fs::write(folder.path().join("tollgate.toml"), text).unwrap();
        println!("\n{}, {rounds} calls each", engine.name);
        let mut ours = Server::start(Command::new(program("mcp-database")), folder.path());
        let mut bare = Server::start(Command::new(program("mcp-fixture")), folder.path());
        let mut peers = if engine.name == "PostgreSQL" { peers(&engine.url, folder.path()) } else { Vec::new() };
        for rows in [1, 1_000] {
            let sql = format!("SELECT id, name, price, made_at, note FROM item WHERE id <= {rows} ORDER BY id");
            let (ask, echo, marker) = (json!({"sql": sql}), json!({"text": "hello"}), format!("item {rows}"));
            // What a server that does nothing needs to hand over as much as ours does.
            let (_, bytes) = ours.answer("query", &ask, &marker);
            let fill = json!({ "bytes": bytes });
            let [here, direct, echoed, filled] = measured(rounds, |which| match which {
                0 => ours.call("query", &ask, &marker),
                1 => runtime.block_on(engine.direct.run(&sql)),
                2 => bare.call("echo", &echo, "hello"),
                _ => bare.call("fill", &fill, "xx"),
            });
            println!(
                "  {rows:>5} rows: mcp-database p50 {:.3} ms, p99 {:.3} ms; sqlx {:.3} ms + round trip {:.3} ms: {:.2}×; + a round trip of as many bytes ({bytes}) {:.3} ms: {:.2}× (aim: 1.3×)",
                here.p50,
                here.p99,
                direct.p50,
                echoed.p50,
                here.p50 / (direct.p50 + echoed.p50),
                filled.p50,
                here.p50 / (direct.p50 + filled.p50),
            );
            // In turns of their own: what comes after them waits for what they do when they have answered, such as collecting
            // garbage, and finds the processor's caches full of theirs.
            for peer in &mut peers {
                let [here, there] = measured(rounds, |which| match which {
                    0 => ours.call("query", &ask, &marker),
                    _ => peer.server.call(peer.tool, &ask, &marker),
                });
                println!(
                    "              {:<16} p50 {:.3} ms, p99 {:.3} ms: mcp-database beside it {:.3} ms, {:.2}× of it",
                    peer.name,
                    there.p50,
                    there.p99,
                    here.p50,
                    here.p50 / there.p50
                );
            }
        }
        println!("  resident memory: mcp-database {:.1} MiB (aim: under 40)", ours.0.resident_mib());
        for peer in &peers {
            println!("                   {} {:.1} MiB", peer.name, peer.server.0.resident_mib());
        }
    }
}
