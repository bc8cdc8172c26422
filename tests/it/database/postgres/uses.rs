//! What people use PostgreSQL for.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{World, rows};

#[tokio::test]
async fn what_there_is_can_be_listed() {
    let Some(world) = World::new().await else { return };
    let server = world.start();
    assert_eq!(server.ok("list_databases", json!({})).await["databases"][0]["engine"], "postgresql");
    let all = server.ok("list_tables", json!({})).await;
    let names: Vec<&str> =
        all["tables"].as_array().unwrap().iter().filter_map(|table| table["name"].as_str()).collect();
    let expected = [
        "book",
        "guarded",
        "hosts",
        "locking",
        "orders",
        "outer_touching",
        "over_hosts",
        "over_touchy",
        "passwords",
        "reading_files",
        "sleeping",
        "sold",
        "sold_once",
        "statistics",
        "touched",
        "touching",
        "with_touchy",
    ];
    assert_eq!(names, expected);
    assert_eq!(all["tables"][0], json!({"name": "book", "kind": "table", "columns": 9}));
    let sold_once = all["tables"].as_array().unwrap().iter().find(|table| table["name"] == "sold_once");
    assert_eq!(sold_once.unwrap()["kind"], "materialized view");
    let first = server.ok("list_tables", json!({"limit": 15})).await;
    assert_eq!(server.ok("list_tables", json!({"cursor": first["cursor"]})).await["tables"][0]["name"], "touching");
}

#[tokio::test]
async fn query_answers_without_loss() {
    let Some(world) = World::new().await else { return };
    let server = world.start();
    let answer = server.ok("query", json!({"sql": "SELECT * FROM book ORDER BY id"})).await;
    let expected = json!([
        [1, "Emma", "9.50", {"base64": "AP8="}, "2024-01-02 03:04:05.678901+00", ["novel", "a, b"], "{\"pages\": 474}", "happy", "0198c0de-0000-7000-8000-000000000001"],
        [2, "Persuasion", "8.00", null, null, [], null, "sad", null],
        [3, "Größe; DROP TABLE book", null, null, null, null, "[1, 9007199254740993]", null, null],
    ]);
    assert_eq!(answer["rows"], expected);
    assert_eq!(answer["columns"][2], json!({"name": "price", "type": "numeric", "encodings": ["decimal_as_text"]}));
    let sql = "SELECT 9007199254740993, 'NaN'::float8, '-Infinity'::float4, 0.1::float4, true, ARRAY[1, NULL, 9007199254740993], ARRAY[true], interval '1 day 2 hours', \
        '[1,5)'::int4range, ROW(1, 'a b'), '  x '::char(5), NULL, ROW(NULL, NULL), '10:00'::timetz, '{\"a\":1, \"a\":2}'::json, 'infinity'::timestamptz, ''";
    let expected = json!([[
        "9007199254740993",
        "NaN",
        "-Infinity",
        0.1,
        true,
        [1, null, "9007199254740993"],
        [true],
        "1 day 02:00:00",
        "[1,5)",
        "(1,\"a b\")",
        "  x  ",
        null,
        "(,)",
        "10:00:00+00",
        "{\"a\":1, \"a\":2}",
        "infinity",
        ""
    ]]);
    assert_eq!(rows(&server, sql, json!([])).await, expected);
}

#[tokio::test]
async fn values_are_bound_to_the_types_that_the_statement_needs() {
    let Some(world) = World::new().await else { return };
    let server = world.start();
    for (sql, params, expected) in [
        ("SELECT title FROM book WHERE id = $1", json!([1]), json!([["Emma"]])),
        ("SELECT id FROM book WHERE title = $1", json!(["Größe; DROP TABLE book"]), json!([[3]])),
        ("SELECT id FROM book WHERE price > $1::numeric AND added < $2", json!([9.25, "2025-01-01"]), json!([[1]])),
        ("SELECT id FROM book WHERE id = ANY ($1) ORDER BY id LIMIT $2", json!(["{1,3}", 1]), json!([[1]])),
        ("SELECT id FROM book WHERE cover = $1", json!([{"base64": "AP8="}]), json!([[1]])),
        (
            "SELECT id FROM book WHERE feeling = $1 AND code = $2",
            json!(["happy", "0198c0de-0000-7000-8000-000000000001"]),
            json!([[1]]),
        ),
        ("SELECT $2, $1", json!(["a", "'; DROP TABLE book; --"]), json!([["'; DROP TABLE book; --", "a"]])),
        (
            "SELECT $1::int, $2::boolean, $3::text IS NULL, $1::text",
            json!([7, true, null]),
            json!([[7, true, true, "7"]]),
        ),
        ("SELECT id FROM book WHERE info @> $1", json!(["{\"pages\": 474}"]), json!([[1]])),
    ] {
        assert_eq!(rows(&server, sql, params).await, expected, "{sql}");
    }
    for (params, code) in
        [(json!([]), "invalid_arguments"), (json!([1, 2]), "invalid_arguments"), (json!(["x"]), "query_failed")]
    {
        let error =
            server.refused("query", json!({"sql": "SELECT title FROM book WHERE id = $1", "params": params})).await;
        assert_eq!(error["code"], code, "{error}");
    }
}

#[tokio::test]
async fn functions_that_the_operator_allows_are_called_when_they_are_stable() {
    let Some(world) = World::with("allowed_functions = ['public.tax', 'public.touch', 'public.definer']\n").await
    else {
        return;
    };
    let server = world.start();
    assert_eq!(rows(&server, "SELECT tax(10), public.tax(20)", json!([])).await, json!([["2.0", "4.0"]]));
    for sql in ["SELECT touch(1)", "SELECT definer(1)", "SELECT * FROM touching"] {
        assert_eq!(server.refused("query", json!({"sql": sql})).await["code"], "function_not_allowed", "{sql}");
    }
}

#[tokio::test]
async fn validated_statement_names_what_it_reads() {
    let Some(world) = World::new().await else { return };
    let server = world.start();
    let sql = "WITH c AS (SELECT upper(title) AS t FROM sold WHERE copies > $1) SELECT t FROM c";
    let validated = server.ok("validate_query", json!({"sql": sql})).await;
    assert_eq!(validated["verdict"], "allowed", "{validated}");
    assert_eq!(validated["tables"], json!(["book", "orders", "sold"]));
    assert_eq!((&validated["functions"], &validated["parameters"]), (&json!(["upper"]), &json!(1)));
}

#[tokio::test]
async fn multiranges_are_read_as_text_and_otherwise_said_to_be_unreadable() {
    let Some(world) = World::new().await else { return };
    world.run("CREATE TABLE span (id integer, days int4multirange)").await;
    world.run("INSERT INTO span VALUES (1, '{[1,3),[7,9)}')").await;
    let server = world.start();
    let error = server.refused("query", json!({"sql": "SELECT days FROM span"})).await;
    assert_eq!(error["code"], "unsupported_type", "{error}");
    assert!(error["hint"].as_str().unwrap().contains("::text"), "{error}");
    assert_eq!(rows(&server, "SELECT days::text FROM span", json!([])).await, json!([["{[1,3),[7,9)}"]]));
    assert_eq!(rows(&server, "SELECT id FROM span", json!([])).await, json!([[1]]));
}

/// A connection keeps statements prepared, and numbers come in binary: a column that becomes another one is never read as what
/// it was.
#[tokio::test]
async fn changed_columns_are_read_as_what_they_are() {
    let Some(world) = World::with("timeout_ms = 3000\ncache_ms = 0\n").await else { return };
    world.run("CREATE TABLE kept (value int4); INSERT INTO kept VALUES (1065353216)").await;
    let server = world.start();
    let sql = "SELECT value FROM kept";
    for (r#type, expected) in [
        ("int4", json!([[1_065_353_216]])),
        ("float4", json!([[1_065_353_200.0]])),
        ("int8", json!([[1_065_353_216]])),
        ("numeric(20,2)", json!([["1065353216.00"]])),
        ("text", json!([["1065353216.00"]])),
    ] {
        world.run(&format!("ALTER TABLE kept ALTER value TYPE {type}")).await;
        let mut changes = 0;
        let rows = loop {
            let answer = server.call("query", json!({"sql": sql})).await.structured;
            if answer["rows"].is_array() || changes > 3 {
                break answer["rows"].clone();
            }
            assert_eq!(answer["error"]["code"], "query_failed", "{answer}");
            assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains("changed")), "{answer}");
            changes += 1;
        };
        assert_eq!(rows, expected, "{type}");
    }
}

/// A transaction is begun while the statement is still judged; one that is refused then leaves the connection as it was.
#[tokio::test]
async fn refused_statements_hold_no_connection() {
    let Some(world) = World::with("timeout_ms = 3000\ncache_ms = 0\n").await else { return };
    let server = world.start();
    for _ in 0..20 {
        server.ok("query", json!({"sql": "SELECT 1"})).await;
        server.refused("query", json!({"sql": "SELECT pg_sleep(1)"})).await;
        server.refused("query", json!({"sql": "SELECT FROM WHERE"})).await;
    }
    let begun = Instant::now();
    loop {
        let statistics = server.ok("pool_stats", json!({})).await;
        let database = &statistics["databases"][0];
        let is_idle = database["running"] == 0 && database["idle"] == database["opened"];
        if is_idle && database["opened"].as_u64().is_some_and(|opened| opened <= 4) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{statistics}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn view_that_is_changed_is_judged_anew_within_seconds() {
    let Some(world) = World::new().await else { return };
    world.run("CREATE VIEW shown AS SELECT title FROM book").await;
    let server = world.start();
    let asked = json!({"sql": "SELECT * FROM shown"});
    for _ in 0..3 {
        server.ok("query", asked.clone()).await;
    }
    world.run("CREATE OR REPLACE VIEW shown AS SELECT title FROM book WHERE pg_sleep(0) IS NOT NULL").await;
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    for _ in 0..2 {
        assert_eq!(server.refused("query", asked.clone()).await["code"], "function_not_allowed");
    }
}
