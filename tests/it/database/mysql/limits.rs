//! What would take for ever or everything, and how the server goes on.

use std::time::Duration;

use serde_json::{Map, json};
use sqlx::{AssertSqlSafe, Row};

use super::{SLOW, World, rows};
use crate::database::world::{bounded, peak_kib, until};

/// Waits until the server works on nothing of this database's, and returns how long that was.
async fn at_rest(world: &World) -> Duration {
    let why = "a query goes on without anybody who waits for it";
    until(Duration::from_secs(10), why, async || world.at_work().await == 0).await
}

/// Waits until the server works on something of this database's.
pub(super) async fn begun(world: &World) {
    until(Duration::from_secs(20), "the query does not begin", async || world.at_work().await > 0).await;
}

/// Ends connections to this database behind the server's back: all of them, or those at work.
async fn end_connections(world: &World, which: &str) {
    let mut connection = world.connect().await;
    let sql = format!(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND ID <> CONNECTION_ID() {which}"
    );
    let mut found = Vec::new();
    // What tests asked before may still be on its way out.
    for _ in 0..500 {
        found = sqlx::raw_sql(AssertSqlSafe(sql.clone())).fetch_all(&mut connection).await.unwrap();
        if !found.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for row in &found {
        let id: i64 = row.get(0);
        // One may be gone by now.
        let _ = sqlx::raw_sql(AssertSqlSafe(format!("KILL CONNECTION {id}"))).execute(&mut connection).await;
    }
    assert!(!found.is_empty(), "there are none");
}

#[tokio::test]
async fn expensive_statements_are_bounded_and_the_server_goes_on() {
    let Some(world) = World::with("timeout_ms = 1000\n").await else { return };
    let server = world.start();
    let digits = "(SELECT 0 AS d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)";
    let many = |count: usize| (0..count).map(|index| format!("{digits} t{index}")).collect::<Vec<_>>().join(", ");
    let wide = vec!["repeat('x', 1000000)"; 100].join(", ");
    for (sql, codes) in [
        (SLOW.to_owned(), &["timeout"][..]),
        (
            "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c".to_owned(),
            &["timeout", "ok", "query_failed", "memory_limit"],
        ),
        // Ten gigabytes, of which an answer takes what it needs.
        (format!("SELECT t0.d, repeat('x', 10000) FROM {}", many(6)), &["ok"]),
        ("SELECT repeat('x', 10000000)".to_owned(), &["ok"]),
        ("SELECT repeat('x', 100000000)".to_owned(), &["ok", "timeout", "query_failed"]),
        (format!("SELECT {wide} FROM {}", many(2)), &["ok", "timeout", "query_failed"]),
        (format!("SELECT count(*) FROM {} WHERE concat(t0.d, t1.d) REGEXP '(1+)+2'", many(9)), &["timeout"]),
        (
            format!("SELECT group_concat(repeat('x', 1000)) FROM {}", many(7)),
            &["ok", "timeout", "memory_limit", "query_failed"],
        ),
        (format!("SELECT {}", vec!["1"; 501].join(", ")), &["too_many_columns"]),
    ] {
        bounded(&server, &sql, codes).await;
    }
    at_rest(&world).await;
    let peak = peak_kib(&server);
    assert!(peak < 400 * 1024, "{peak} KiB");
}

#[tokio::test]
async fn killed_server_leaves_no_query_behind() {
    let Some(world) = World::with("timeout_ms = 5000\n").await else { return };
    let mut server = world.start();
    server.ok("list_tables", json!({})).await;
    {
        let slow = server.try_call("query", json!({"sql": SLOW}), Map::new());
        tokio::select! {
            called = slow => panic!("it ended: {called:?}"),
            () = begun(&world) => {}
        }
    }
    server.kill().await;
    // Nobody is left to cancel it: the time limit of the session is the server's own.
    assert!(at_rest(&world).await < Duration::from_secs(8));
}

#[tokio::test]
async fn slow_queries_leave_room_for_others_and_no_connection_leaks() {
    let Some(world) = World::with("timeout_ms = 1500\n").await else { return };
    let server = world.start();
    let calls = (0..64).map(|index| {
        let sql = if index < 4 { SLOW } else { "SELECT count(*) FROM orders" };
        server.call("query", json!({"sql": sql}))
    });
    for called in futures::future::join_all(calls).await {
        if let Some(code) = called.structured["error"]["code"].as_str() {
            assert!(["timeout", "database_busy"].contains(&code), "{}", called.structured);
        }
    }
    for _ in 0..20 {
        assert_eq!(rows(&server, "SELECT 1", json!([])).await, json!([[1]]));
    }
    at_rest(&world).await;
    let mut connection = world.connect().await;
    let sql = "SELECT count(*) FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND ID <> CONNECTION_ID()";
    // Those that this test looked with may still be on their way out; one that leaked stays.
    let mut open = i64::MAX;
    for _ in 0..500 {
        open = sqlx::query(sql).fetch_one(&mut connection).await.unwrap().get(0);
        if open <= 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(open <= 4, "{open} connections");
}

#[tokio::test]
async fn query_that_the_server_does_not_stop_keeps_its_place() {
    let Some(world) = World::with("timeout_ms = 300\ncache_ms = 0\n").await else { return };
    let server = world.start();
    // Compared byte by byte for seconds, in one row: killed or not.
    let calls = (0..4).map(|number| {
        let sql = format!("SELECT LOCATE(CONCAT(REPEAT('a', 120000), 'b'), REPEAT('a', 240000)), {number}");
        server.call("query", json!({"sql": sql}))
    });
    for called in futures::future::join_all(calls).await {
        assert_eq!(called.structured["error"]["code"], "timeout", "{}", called.structured);
    }
    assert_eq!(server.refused("query", json!({"sql": "SELECT 1"})).await["code"], "database_busy");
    // Every place is free again once they have ended.
    until(Duration::from_secs(60), "a place is lost", async || {
        let calls = (0..4).map(|number| server.call("query", json!({"sql": format!("SELECT {number}")})));
        futures::future::join_all(calls).await.iter().all(|called| called.structured["rows"].is_array())
    })
    .await;
}

#[tokio::test]
async fn connections_that_the_server_closes_are_made_again() {
    let Some(world) = World::with("timeout_ms = 20000\ncache_ms = 0\n").await else { return };
    let server = world.start();
    assert_eq!(rows(&server, "SELECT 1", json!([])).await, json!([[1]]));
    end_connections(&world, "").await;
    assert_eq!(rows(&server, "SELECT 1", json!([])).await, json!([[1]]));
    // In the middle of many, where the next transaction is begun already, be it for as many rows as are wanted or not.
    for number in 0..40 {
        let rows_max = if number % 7 == 6 { 2 } else { 3 };
        let arguments = json!({"sql": "SELECT 1 UNION SELECT 2 UNION SELECT 3 ORDER BY 1", "max_rows": rows_max});
        let called = server.call("query", arguments).await;
        assert_eq!(called.structured["row_count"], rows_max, "{number}: {}", called.structured);
        assert_eq!(called.structured["truncated"], rows_max == 2, "{number}: {}", called.structured);
        if number % 5 == 4 {
            end_connections(&world, "").await;
        }
    }
    let killed = async {
        begun(&world).await;
        end_connections(&world, "AND COMMAND IN ('Query', 'Execute')").await;
    };
    let (called, ()) = tokio::join!(server.call("query", json!({"sql": SLOW})), killed);
    assert_eq!(called.structured["error"]["code"], "database_unavailable", "{}", called.structured);
    assert_eq!(rows(&server, "SELECT 1", json!([])).await, json!([[1]]));
}
