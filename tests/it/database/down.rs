//! Servers that are not there yet, die in the middle of a query, and come back: without a restart of ours.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Row};
use tempfile::TempDir;
use tollgate_tests::database_servers::{DatabaseServer, own_mysql, own_postgres};
use tollgate_tests::mcp_process::McpProcess;

use super::world::until;

/// One server that a test may end, with what is different about it.
struct Engine {
    server: DatabaseServer,
    /// Where it listens, in its folder.
    socket: &'static str,
    /// The URL of a socket at this path.
    url: fn(&Path) -> String,
    slow: &'static str,
    database: &'static str,
}

fn postgres() -> Option<Engine> {
    Some(Engine {
        server: own_postgres()?,
        socket: ".s.PGSQL.5432",
        url: |socket| format!("postgres://owner@localhost:5432/postgres?host={}", socket.parent().unwrap().display()),
        slow: "SELECT count(*) FROM generate_series(1, 100000000000) a",
        database: "postgres",
    })
}

fn mysql() -> Option<Engine> {
    Some(Engine {
        server: own_mysql()?,
        socket: "socket",
        url: |socket| format!("mysql://root@localhost/mysql?socket={}", socket.display()),
        slow: "SELECT count(*) FROM information_schema.COLUMNS a, information_schema.COLUMNS b, information_schema.COLUMNS c",
        database: "mysql",
    })
}

impl Engine {
    /// How many queries it works on beside this one.
    async fn at_work(&self) -> i64 {
        let url = self.server.url(self.database);
        if self.socket == "socket" {
            let mut connection = sqlx::MySqlConnection::connect(&url).await.unwrap();
            let sql = "SELECT count(*) FROM information_schema.PROCESSLIST WHERE COMMAND IN ('Query', 'Execute') AND ID <> CONNECTION_ID()";
            return sqlx::raw_sql(sql).fetch_one(&mut connection).await.unwrap().get(0);
        }
        let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tollgate' AND state = 'active'";
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap()
    }
}

async fn check(engine: Engine) {
    let folder = TempDir::with_prefix_in("tollgate-", "/tmp").unwrap();
    let socket = folder.path().join(engine.socket);
    let text =
        format!("[database.connections.shop]\nurl = '{}'\ntimeout_ms = 20000\ncache_ms = 0\n", (engine.url)(&socket));
    fs::write(folder.path().join("tollgate.toml"), text).unwrap();
    let server = McpProcess::start("mcp-database", folder.path(), &[], &[]);
    let one = json!({"sql": "SELECT 1"});

    // Nobody listens there yet: every tool says so, at once, and none is left hanging.
    for (tool, arguments) in [
        ("query", one.clone()),
        ("validate_query", one.clone()),
        ("explain", one.clone()),
        ("list_tables", json!({})),
        ("describe_table", json!({"table": "x"})),
    ] {
        let began = Instant::now();
        let called = server.call(tool, arguments).await;
        let code = called.structured["error"]["code"].as_str().or(called.structured["reasons"][0]["code"].as_str());
        assert_eq!(code, Some("database_unavailable"), "{tool}: {}", called.structured);
        assert!(called.receipt.amount.is_zero() || tool == "validate_query", "{tool}: {}", called.receipt.amount);
        assert!(began.elapsed() < Duration::from_secs(6), "{tool}");
        assert!(!called.structured.to_string().contains("tollgate-"), "where it is: {}", called.structured);
    }
    for tool in ["list_databases", "pool_stats"] {
        server.ok(tool, json!({})).await;
    }
    symlink(engine.server.folder().unwrap().join(engine.socket), &socket).unwrap();
    assert_eq!(server.ok("query", one.clone()).await["rows"], json!([[1]]), "it is there now");

    // It dies in the middle of a query, as a crash has it.
    let dies = async {
        until(Duration::from_secs(20), "the query does not begin", async || engine.at_work().await > 0).await;
        engine.server.crash();
    };
    let began = Instant::now();
    let (called, ()) = tokio::join!(server.call("query", json!({"sql": engine.slow})), dies);
    assert_eq!(called.structured["error"]["code"], "database_unavailable", "{}", called.structured);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    for _ in 0..3 {
        assert_eq!(server.refused("query", one.clone()).await["code"], "database_unavailable");
    }

    // And comes back.
    engine.server.start_again();
    for _ in 0..10 {
        assert_eq!(server.ok("query", one.clone()).await["rows"], json!([[1]]));
    }
    assert_eq!(engine.at_work().await, 0);
    let statistics = server.ok("pool_stats", json!({})).await;
    assert_eq!(statistics["databases"][0]["running"], 0, "{statistics}");
}

#[tokio::test]
async fn postgres_may_come_late_and_die() {
    let Some(engine) = postgres() else { return };
    check(engine).await;
}

#[tokio::test]
async fn mariadb_may_come_late_and_die() {
    let Some(engine) = mysql() else { return };
    check(engine).await;
}
