//! What would take for ever or everything, and how the server goes on.

use std::time::Duration;

use serde_json::{Map, json};
use sqlx::Row;

use super::{World, rows};
use crate::database::world::{bounded, peak_kib, until};

const SLOW: &str = "SELECT count(*) FROM generate_series(1, 100000000000) a";

/// How many queries of agents the server works on.
async fn at_work(world: &World) -> i64 {
    let mut connection = world.connect().await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tollgate' AND state = 'active' AND datname = current_database()";
    sqlx::query(sql).fetch_one(&mut connection).await.unwrap().get(0)
}

/// Waits until the server works on something.
async fn begun(world: &World) {
    until(Duration::from_secs(20), "the query does not begin", async || at_work(world).await > 0).await;
}

/// Waits until the server works on nothing, and returns how long that was.
async fn at_rest(world: &World) -> Duration {
    let why = "a query goes on without anybody who waits for it";
    until(Duration::from_secs(10), why, async || at_work(world).await == 0).await
}

#[tokio::test]
async fn expensive_statements_are_bounded_and_the_server_goes_on() {
    let Some(world) = World::with("timeout_ms = 1000\n").await else { return };
    let server = world.start();
    let wide = vec!["repeat('x', 1000000)"; 100].join(", ");
    for (sql, codes) in [
        (SLOW.to_owned(), &["timeout"][..]),
        (
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c".to_owned(),
            &["timeout"],
        ),
        ("SELECT g, repeat('x', 10000) FROM generate_series(1, 1000000) g".to_owned(), &["ok"]),
        ("SELECT repeat('x', 100000000)".to_owned(), &["ok", "timeout"]),
        (format!("SELECT {wide} FROM generate_series(1, 100)"), &["ok", "timeout"]),
        ("SELECT regexp_replace(repeat('a', 100000), '(a+)+b', 'x')".to_owned(), &["ok", "timeout"]),
        (
            "SELECT string_agg(repeat('x', 1000), '') FROM generate_series(1, 10000000)".to_owned(),
            &["timeout", "value_too_large", "memory_limit"],
        ),
        (format!("SELECT {}", vec!["1"; 501].join(", ")), &["too_many_columns"]),
    ] {
        bounded(&server, &sql, codes).await;
    }
    at_rest(&world).await;
    let peak = peak_kib(&server);
    assert!(peak < 150 * 1024, "{peak} KiB");
}

#[tokio::test]
async fn cancelled_query_stops_on_the_server() {
    let Some(world) = World::with("timeout_ms = 50000\n").await else { return };
    let server = world.start();
    server.ok("list_tables", json!({})).await;
    let cancelled = async {
        begun(&world).await;
        let notification = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2, "reason": "enough"}});
        server.write(format!("{notification}\n").as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    tokio::select! {
        _ = server.try_call("query", json!({"sql": SLOW}), Map::new()) => {}
        () = cancelled => {}
    }
    assert!(at_rest(&world).await < Duration::from_secs(2));
    assert_eq!(rows(&server, "SELECT 1", json!([])).await, json!([[1]]));
}

#[tokio::test]
async fn killed_server_leaves_no_query_behind() {
    let Some(world) = World::with("timeout_ms = 50000\n").await else { return };
    let server = world.start();
    server.ok("list_tables", json!({})).await;
    let slow = server.try_call("query", json!({"sql": SLOW}), Map::new());
    let killed = async {
        begun(&world).await;
    };
    tokio::select! {
        _ = slow => {}
        () = killed => {}
    }
    drop(server);
    assert!(at_rest(&world).await < Duration::from_secs(5));
}

#[tokio::test]
async fn slow_queries_leave_room_for_others_and_no_connection_leaks() {
    let Some(world) = World::with("timeout_ms = 1500\n").await else { return };
    let server = world.start();
    let calls = (0..64).map(|index| {
        let sql = if index < 4 { SLOW } else { "SELECT count(*) FROM orders" };
        server.call("query", json!({"sql": sql}))
    });
    let mut ok = 0;
    for called in futures::future::join_all(calls).await {
        match called.structured["error"]["code"].as_str() {
            None => ok += 1,
            Some(code) => assert!(["timeout", "database_busy"].contains(&code), "{}", called.structured),
        }
    }
    for _ in 0..20 {
        assert_eq!(rows(&server, "SELECT 1", json!([])).await, json!([[1]]));
    }
    at_rest(&world).await;
    let mut connection = world.connect().await;
    let sql =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tollgate' AND datname = current_database()";
    let open: i64 = sqlx::query(sql).fetch_one(&mut connection).await.unwrap().get(0);
    assert!(open <= 4, "{open} connections, {ok} answers");
}

#[tokio::test]
async fn connections_that_the_server_closes_are_made_again() {
    let Some(world) = World::new().await else { return };
    let server = world.start();
    assert_eq!(rows(&server, "SELECT 1", json!([])).await, json!([[1]]));
    world.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tollgate' AND datname = current_database()").await;
    assert_eq!(rows(&server, "SELECT 1", json!([])).await, json!([[1]]));
    let slow = server.call("query", json!({"sql": SLOW}));
    let killed = async {
        begun(&world).await;
        world.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tollgate' AND state = 'active' AND datname = current_database()").await;
    };
    let (called, ()) = tokio::join!(slow, killed);
    assert_eq!(called.structured["error"]["code"], "database_unavailable", "{}", called.structured);
    assert_eq!(rows(&server, "SELECT 1", json!([])).await, json!([[1]]));
}

#[tokio::test]
async fn server_that_cannot_be_reached_says_so_without_its_address() {
    let Some(world) = World::new().await else { return };
    let good = world.server.url(&world.database);
    for url in [
        "postgres://someone:hunter2@127.0.0.1:1/shop".to_owned(),
        "postgres://someone:hunter2@localhost/shop?host=/nowhere".to_owned(),
        good.replace(&world.database, "missing_database"),
        good.replace("owner@", "nobody_of_this_name:hunter2@"),
    ] {
        world.configure(&url, "timeout_ms = 2000\n");
        let server = world.start();
        let error = server.refused("query", json!({"sql": "SELECT 1"})).await;
        assert_eq!(error["code"], "database_unavailable", "{url}: {error}");
        for secret in ["hunter2", "127.0.0.1", "nowhere", "someone", "nobody_of"] {
            assert!(!error.to_string().contains(secret) && !server.stderr().contains("hunter2"), "{url}: {error}");
        }
    }
}

#[tokio::test]
async fn role_that_could_write_is_told_of_or_refused() {
    let Some(world) = World::new().await else { return };
    let server = world.start();
    assert_eq!(rows(&server, "SELECT 1", json!([])).await, json!([[1]]));
    assert!(server.stderr().contains("superuser"), "{}", server.stderr());
    world.configure(&world.server.url(&world.database), "require_read_only_role = true\n");
    let server = world.start();
    assert_eq!(server.refused("query", json!({"sql": "SELECT 1"})).await["code"], "role_can_write");
    let role = format!("reader_{}", world.database);
    world
        .run(&format!(
            "REVOKE CREATE ON SCHEMA public FROM public; CREATE ROLE {role} LOGIN; GRANT SELECT ON book TO {role}"
        ))
        .await;
    world.configure(&world.server.url_of(&role, &world.database), "require_read_only_role = true\n");
    let server = world.start();
    assert_eq!(rows(&server, "SELECT count(*) FROM book", json!([])).await, json!([[3]]));
    let error = server.refused("query", json!({"sql": "SELECT count(*) FROM orders"})).await;
    assert_eq!(error["code"], "query_failed", "{error}");
    assert_eq!(server.ok("list_tables", json!({})).await["tables"].as_array().unwrap().len(), 1);
}
