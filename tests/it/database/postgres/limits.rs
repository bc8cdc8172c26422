//! What would take for ever or everything, and how the server goes on.

use std::time::Duration;

use serde_json::{Map, json};
use sqlx::Row;
use tollgate_tests::mcp_process::McpProcess;

use super::{World, rows};
use crate::database::world::{bounded, peak_kib, until};

const SLOW: &str = "SELECT count(*) FROM generate_series(1, 100000000000) a";

/// How many queries of agents the server works on, beside what it is asked for them.
async fn at_work(world: &World) -> i64 {
    let mut connection = world.connect().await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tollgate' AND state = 'active' AND query LIKE '%generate_series%' AND datname = current_database()";
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
async fn query_that_the_server_does_not_stop_keeps_its_place() {
    let Some(world) = World::with("timeout_ms = 300\ncache_ms = 0\n").await else { return };
    let server = world.start();
    // Every character is looked for among thousands, in one call: cancelled or not.
    let calls = (0..4).map(|number| {
        let sql = format!("SELECT length(translate(repeat('a', 100000), repeat('b', 8000), '')), {number}");
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
    let Some(world) = World::with("cache_ms = 0\n").await else { return };
    let server = world.start();
    assert_eq!(rows(&server, "SELECT 1", json!([])).await, json!([[1]]));
    world.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tollgate' AND datname = current_database()").await;
    assert_eq!(rows(&server, "SELECT 1", json!([])).await, json!([[1]]));
    // In the middle of many, where the next transaction is begun already.
    for number in 0..20 {
        assert_eq!(rows(&server, "SELECT 1", json!([])).await, json!([[1]]));
        if number % 5 == 4 {
            world.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tollgate' AND datname = current_database()").await;
        }
    }
    let slow = server.call("query", json!({"sql": SLOW}));
    let killed = async {
        begun(&world).await;
        world.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tollgate' AND state = 'active' AND datname = current_database()").await;
    };
    let (called, ()) = tokio::join!(slow, killed);
    assert_eq!(called.structured["error"]["code"], "database_unavailable", "{}", called.structured);
    assert_eq!(rows(&server, "SELECT 1", json!([])).await, json!([[1]]));
}

/// How many transactions wait for a query, and how many of them hold up somebody.
async fn waiting(connection: &mut sqlx::PgConnection) -> (i64, i64) {
    let sql = "SELECT count(*), count(backend_xmin) FROM pg_stat_activity WHERE application_name = 'tollgate' AND state = 'idle in transaction' AND datname = current_database()";
    let row = sqlx::query(sql).fetch_one(connection).await.unwrap();
    (row.get(0), row.get(1))
}

/// Asks what is the same at all times until that is answered in a transaction that was begun ahead, and waits until none waits
/// any more.
async fn ahead_and_ended(world: &World, server: &McpProcess, sql: &str) {
    let connection = &tokio::sync::Mutex::new(world.connect().await);
    until(Duration::from_secs(20), "no transaction is begun ahead", async || {
        for _ in 0..3 {
            rows(server, sql, json!([])).await;
        }
        let (waiting, with_snapshot) = waiting(&mut *connection.lock().await).await;
        waiting > 0 && with_snapshot == 0
    })
    .await;
    let why = "a transaction waits for ever";
    until(Duration::from_secs(10), why, async || waiting(&mut *connection.lock().await).await.0 == 0).await;
    // The server would have ended it after some seconds, and the connection with it.
    let sql =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tollgate' AND datname = current_database()";
    let open: i64 = sqlx::query(sql).fetch_one(&mut *connection.lock().await).await.unwrap().get(0);
    assert!(open > 0);
}

#[tokio::test]
async fn transaction_that_is_begun_ahead_is_no_older_than_the_query_for_whatever_asks_the_clock() {
    let Some(world) = World::with("cache_ms = 0\n").await else { return };
    world.run("CREATE TABLE moment (id int, at timestamptz, word text)").await;
    world.run("INSERT INTO moment VALUES (1, '2000-01-01', 'now'), (2, '2999-01-01', 'x')").await;
    world.run("CREATE TABLE spans (span tstzrange, ats timestamptz[])").await;
    world.run("INSERT INTO spans VALUES ('[2000-01-01,)', '{2000-01-01}')").await;
    world.run("CREATE VIEW clock AS SELECT now() AS at, id FROM moment").await;
    let server = world.start();
    ahead_and_ended(&world, &server, "SELECT id FROM moment").await;
    for (sql, params) in [
        ("SELECT now()", json!([])),
        ("SELECT max(at) FROM clock", json!([])),
        ("SELECT CURRENT_TIMESTAMP", json!([])),
        ("SELECT word::timestamptz FROM moment WHERE id = 1", json!([])),
        ("SELECT coalesce(at, 'now') FROM (SELECT NULL::timestamptz AS at) n", json!([])),
        ("SELECT $1::timestamptz", json!(["now"])),
        ("SELECT coalesce(nullif(at, '2000-01-01'), E'no\\w') FROM moment WHERE id = 1", json!([])),
        ("SELECT coalesce(nullif(at, '2000-01-01'), $1) FROM moment WHERE id = 1", json!(["now"])),
        ("SELECT (coalesce(nullif(ats, ats), $1))[1] FROM spans", json!(["{n\\ow}"])),
        ("SELECT lower(span * '[n\"o\"w,)') FROM spans", json!([])),
        ("SELECT lower(span * $1) FROM spans", json!(["[n\"o\"w,)"])),
        ("SELECT (word).timestamptz FROM moment WHERE id = 1", json!([])),
    ] {
        for _ in 0..4 {
            // Begun ahead, and some time ago.
            rows(&server, "SELECT id FROM moment", json!([])).await;
            rows(&server, "SELECT id FROM moment", json!([])).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut connection = world.connect().await;
            let before: String = sqlx::query("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::text")
                .fetch_one(&mut connection)
                .await
                .unwrap()
                .get(0);
            let called = server.call("query", json!({"sql": sql, "params": params})).await;
            let Some(at) = called.structured["rows"][0][0].as_str() else { panic!("{sql}: {}", called.structured) };
            assert!(*at >= *before, "{sql}: {at} is before {before}");
        }
    }
}

#[tokio::test]
async fn transaction_that_is_begun_ahead_has_no_snapshot_and_leaves_nothing_to_the_next() {
    let Some(world) = World::with("cache_ms = 0\n").await else { return };
    world.run("CREATE TABLE counted (id int)").await;
    let server = world.start();
    for count in 0..10 {
        // Whatever was written before a query is in its answer.
        assert_eq!(rows(&server, "SELECT count(*) FROM counted", json!([])).await, json!([[count]]));
        world.run("INSERT INTO counted VALUES (1)").await;
    }
    ahead_and_ended(&world, &server, "SELECT id FROM counted").await;
    // Nothing is in the way of those who change the tables.
    for number in 0..5 {
        rows(&server, "SELECT max(id) FROM counted", json!([])).await;
        rows(&server, "SELECT max(id) FROM counted", json!([])).await;
        world.run(&format!("SET lock_timeout = 1000; ALTER TABLE counted ADD COLUMN more_{number} int")).await;
    }
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
