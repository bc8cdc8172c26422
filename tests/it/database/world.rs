//! Databases to try things on.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tempfile::TempDir;
use tollgate_tests::mcp_process::McpProcess;

/// A folder `work` with a `tollgate.toml`, and beside it a folder `data` with `shop.db`.
pub struct World {
    dir: TempDir,
}

pub const SHOP: &str = "
    CREATE TABLE book (id INTEGER PRIMARY KEY, title TEXT NOT NULL, price REAL, cover BLOB);
    INSERT INTO book VALUES (1, 'Emma', 9.5, x'00ff'), (2, 'Persuasion', 8.0, NULL), (3, 'Größe; DROP TABLE book', NULL, NULL);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, book_id INTEGER, copies INTEGER);
    INSERT INTO orders VALUES (1, 1, 10), (2, 1, 3), (3, 2, 10);
    CREATE VIEW sold AS SELECT title, sum(copies) AS copies FROM book JOIN orders ON orders.book_id = book.id GROUP BY title;
    CREATE VIRTUAL TABLE search USING fts5(title);
    INSERT INTO search SELECT title FROM book;";

/// Waits until `is_so`, at most `most` long, and returns how long that was.
pub async fn until(most: Duration, why: &str, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < most, "{why}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    started.elapsed()
}

impl World {
    /// A world with one database `shop` in the default journal mode.
    pub async fn new() -> Self {
        Self::with("[database.connections.shop]\nurl = 'sqlite:../data/shop.db'\ntimeout_ms = 2000\ncache_ms = 0\n")
            .await
    }

    pub async fn with(configuration: &str) -> Self {
        let world = Self { dir: TempDir::new().unwrap() };
        for folder in ["work", "data"] {
            fs::create_dir(world.path(folder)).unwrap();
        }
        fs::write(world.path("work/tollgate.toml"), configuration).unwrap();
        world.run(SqliteJournalMode::Delete, SHOP).await;
        world
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Opens `shop.db` for writing, behind the server's back.
    pub async fn writer(&self, mode: SqliteJournalMode) -> SqliteConnection {
        SqliteConnectOptions::new()
            .filename(self.path("data/shop.db"))
            .create_if_missing(true)
            .journal_mode(mode)
            .connect()
            .await
            .unwrap()
    }

    /// Runs statements on `shop.db` behind the server's back.
    pub async fn run(&self, mode: SqliteJournalMode, sql: &'static str) {
        let mut connection = self.writer(mode).await;
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    pub fn start(&self) -> McpProcess {
        McpProcess::start("mcp-database", &self.path("work"), &[], &[])
    }

    /// Every file in `data` and, without the ledger, in `work`, with its content.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for folder in ["data", "work"] {
            for entry in fs::read_dir(self.path(folder)).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    let name = format!("{folder}/{}", entry.file_name().display());
                    files.insert(name, fs::read(entry.path()).unwrap());
                }
            }
        }
        files
    }
}

/// Runs a query that must succeed and returns its rows.
pub async fn rows(server: &McpProcess, sql: &str, params: Value) -> Value {
    server.ok("query", json!({"sql": sql, "params": params})).await["rows"].clone()
}

/// Asks what would take for ever or everything: it must end with one of `codes` within seconds and in a short answer, and the
/// server must go on.
pub async fn bounded(server: &McpProcess, sql: &str, codes: &[&str]) {
    let started = Instant::now();
    let called = server.call("query", json!({"sql": sql})).await;
    let code = called.structured["error"]["code"].as_str().unwrap_or("ok").to_owned();
    let shown: String = sql.chars().take(80).collect();
    assert!(codes.contains(&code.as_str()), "{shown}: {code} {}", called.structured["error"]);
    assert!(started.elapsed() < Duration::from_secs(5), "{shown}: {:?}", started.elapsed());
    assert!(called.structured.to_string().len() < 130_000, "{shown}");
    assert_eq!(rows(server, "SELECT 1", json!([])).await, json!([[1]]), "after {shown}");
}

/// The most memory that the server has had, in KiB.
pub fn peak_kib(server: &McpProcess) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid().unwrap())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    peak.split_whitespace().nth(1).unwrap().parse().unwrap()
}
