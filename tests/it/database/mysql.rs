//! MariaDB: a real server, with a role that could do anything.

mod limits;

use std::time::{Duration, Instant};

use serde_json::{Map, json};
use tollgate_tests::corpus::MYSQL;
use tollgate_tests::shop::MysqlShop as World;

use super::corpora;
use super::world::rows;

const SLOW: &str =
    "SELECT count(*) FROM information_schema.COLUMNS a, information_schema.COLUMNS b, information_schema.COLUMNS c";

#[tokio::test]
async fn attacks_are_refused_by_a_role_that_could_do_anything() {
    let Some(world) = World::with("timeout_ms = 3000\n").await else { return };
    let server = world.start();
    let before = world.state().await;
    let wrong = corpora::not_refused(&server, &MYSQL.refused).await;
    assert_eq!(world.state().await, before);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), MYSQL.refused.len(), wrong.join("\n"));
    assert!(server.pollution().is_empty());
}

#[tokio::test]
async fn honest_statements_run_and_leave_nothing() {
    let Some(world) = World::with("timeout_ms = 3000\n").await else { return };
    let server = world.start();
    let before = world.state().await;
    let wrong = corpora::not_allowed(&server, &MYSQL.allowed).await;
    assert_eq!(world.state().await, before);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), MYSQL.allowed.len(), wrong.join("\n"));
}

#[tokio::test]
async fn query_answers_without_loss() {
    let Some(world) = World::with("timeout_ms = 3000\n").await else { return };
    let server = world.start();
    assert_eq!(server.ok("list_databases", json!({})).await["databases"][0]["engine"], "mysql");
    let all = server.ok("list_tables", json!({"limit": 2})).await;
    let listed =
        all["tables"].as_array().unwrap().iter().map(|table| json!([table["name"], table["kind"], table["columns"]]));
    assert_eq!(listed.collect::<Vec<_>>(), [json!(["accounts", "view", 2]), json!(["book", "table", 4])]);
    let expected = json!([
        [-128, 255, 32767, -8_388_608, 4_294_967_295_u64, "-9223372036854775808", "18446744073709551615", 0.1, 2.5, "-12345678901234567890.12", {"base64": "BQ=="},
         "2024-02-29", "-838:59:59.500000", "2024-02-29 23:59:59.123456", "2024-01-02 03:04:05", 2024, "é'\\", "x", {"base64": "AP8="}, "b", "a,c", "{\"a\": 1}"],
        [null, null, null, null, null, null, null, null, null, null, null, "0000-00-00", "00:00:00", "0000-00-00 00:00:00", null, null, null, null, null, null, null, null],
    ]);
    assert_eq!(rows(&server, "SELECT * FROM kinds ORDER BY tiny IS NULL", json!([])).await, expected);
    let values = json!([null, true, -7, 1.5, "'; DROP TABLE book; --\\", {"base64": "AP8="}]);
    let bound = rows(&server, "SELECT ? IS NULL, ?, ?, ?, ?, HEX(?)", values).await;
    assert_eq!(bound, json!([[1, 1, -7, 1.5, "'; DROP TABLE book; --\\", "00FF"]]));
    assert_eq!(rows(&server, "SELECT title FROM book WHERE id = ?", json!([1])).await, json!([["Emma"]]));
    assert_eq!(
        rows(&server, "SELECT 'a\\'b\\\\', \"it's\", 'x' LIKE '\\_'", json!([])).await,
        json!([["a'b\\", "it's", 0]])
    );
    assert_eq!(server.refused("query", json!({"sql": "SELECT ?"})).await["code"], "invalid_arguments");
    let cut = server.ok("query", json!({"sql": "SELECT id FROM orders ORDER BY id", "max_rows": 2})).await;
    assert_eq!((&cut["rows"], &cut["truncated"]), (&json!([[1], [2]]), &json!(true)));
    let validated = server.ok("validate_query", json!({"sql": "SELECT upper(title) FROM sold WHERE copies > ?"})).await;
    assert_eq!(
        (&validated["verdict"], &validated["tables"]),
        (&json!("allowed"), &json!(["book", "orders", "sold"])),
        "{validated}"
    );
}

#[tokio::test]
async fn slow_queries_stop_on_the_server() {
    let Some(world) = World::with("timeout_ms = 1000\n").await else { return };
    let server = world.start();
    let started = Instant::now();
    assert_eq!(server.refused("query", json!({"sql": SLOW})).await["code"], "timeout");
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!(rows(&server, "SELECT 1", json!([])).await, json!([[1]]));
    world.configure(&world.server.url(&world.database), "timeout_ms = 50000\n");
    let server = world.start();
    server.ok("list_tables", json!({})).await;
    let cancelled = async {
        limits::begun(&world).await;
        let notification = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2, "reason": "enough"}});
        server.write(format!("{notification}\n").as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    tokio::select! {
        _ = server.try_call("query", json!({"sql": SLOW}), Map::new()) => {}
        () = cancelled => {}
    }
    let stopped = Instant::now();
    while world.at_work().await > 0 {
        assert!(stopped.elapsed() < Duration::from_secs(3), "a query goes on without anybody who waits for it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(rows(&server, "SELECT 1", json!([])).await, json!([[1]]));
}

#[tokio::test]
async fn server_that_cannot_be_reached_says_so_without_its_address() {
    let Some(world) = World::with("").await else { return };
    let good = world.server.url(&world.database);
    for url in [
        "mysql://someone:hunter2@127.0.0.1:1/shop".to_owned(),
        good.replace(&world.database, "missing_database"),
        good.replace("root@", "nobody_of_this_name:hunter2@"),
    ] {
        world.configure(&url, "timeout_ms = 2000\n");
        let server = world.start();
        let error = server.refused("query", json!({"sql": "SELECT 1"})).await;
        assert_eq!(error["code"], "database_unavailable", "{url}: {error}");
        for secret in ["hunter2", "127.0.0.1", "someone", "nobody_of"] {
            assert!(!error.to_string().contains(secret) && !server.stderr().contains("hunter2"), "{url}: {error}");
        }
    }
    world.configure(&good, "require_read_only_role = true\n");
    assert_eq!(world.start().refused("query", json!({"sql": "SELECT 1"})).await["code"], "role_can_write");
}

/// A connection keeps statements prepared; neither how many rows they were asked for nor the columns of that time stay with them.
#[tokio::test]
async fn prepared_statements_answer_as_if_they_were_new() {
    let Some(world) = World::with("timeout_ms = 3000\ncache_ms = 0\n").await else { return };
    world.run("CREATE TABLE kept (id INT, value INT); INSERT INTO kept VALUES (1, 10), (2, 20), (3, 30)").await;
    let server = world.start();
    let sql = "SELECT * FROM kept ORDER BY id";
    for (max_rows, count) in [(1, 1), (100, 3), (2, 2), (3, 3), (100, 3)] {
        let answer = server.ok("query", json!({"sql": sql, "max_rows": max_rows})).await;
        assert_eq!((&answer["row_count"], &answer["truncated"]), (&json!(count), &json!(count < 3)), "{answer}");
    }
    let paged = server.ok("query", json!({"sql": sql, "max_rows": 2})).await;
    let next = server.ok("query", json!({"sql": sql, "max_rows": 2, "cursor": paged["cursor"]})).await;
    assert_eq!(next["rows"], json!([[3, 30]]));
    world.run("ALTER TABLE kept MODIFY value VARCHAR(20); UPDATE kept SET value = 'x'").await;
    assert_eq!(server.ok("query", json!({"sql": sql, "max_rows": 1})).await["rows"], json!([[1, "x"]]));
    // More columns than were described are told as a change, until the description is old.
    world.run("ALTER TABLE kept ADD more INT").await;
    let begun = Instant::now();
    let rows = loop {
        let answer = server.call("query", json!({"sql": sql, "max_rows": 1})).await.structured;
        if answer["rows"].is_array() || begun.elapsed() > Duration::from_secs(10) {
            break answer["rows"].clone();
        }
    };
    assert_eq!(rows, json!([[1, "x", null]]));
}
