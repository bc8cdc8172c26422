//! What people use the server for.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::json;
use sqlx::sqlite::SqliteJournalMode;
use tollgate_tests::mcp_process::McpProcess;

use super::world::{World, rows};

#[tokio::test]
async fn tools_are_few_and_small() {
    let world = World::new().await;
    let server = world.start();
    let tools = server.tools().await;
    let names: Vec<&str> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert_eq!(
        names,
        [
            "list_databases",
            "list_tables",
            "describe_table",
            "query",
            "validate_query",
            "explain",
            "pool_stats",
            "clear_cache",
            "cost_report"
        ]
    );
    let bytes: usize = tools
        .iter()
        .map(|tool| json!([tool["name"], tool["description"], tool["inputSchema"]]).to_string().len())
        .sum();
    assert!(bytes < 10_000, "{bytes}");
    for tool in &tools {
        assert_eq!(tool["annotations"]["readOnlyHint"], true, "{tool}");
        assert!(!tool.to_string().contains("$ref"), "{tool}");
    }
}

#[tokio::test]
async fn what_there_is_can_be_listed() {
    let world = World::new().await;
    let server = world.start();
    let databases = server.ok("list_databases", json!({})).await;
    let shop = json!({"name": "shop", "engine": "sqlite", "max_rows": 1000, "timeout_ms": 2000});
    assert_eq!(databases["databases"], json!([shop]));
    let all = server.ok("list_tables", json!({})).await;
    let expected = json!([
        {"name": "book", "kind": "table", "columns": 4},
        {"name": "orders", "kind": "table", "columns": 3},
        {"name": "search", "kind": "virtual", "columns": 3},
        {"name": "sold", "kind": "view", "columns": 2},
    ]);
    assert_eq!(all["tables"], expected);
    assert!(all.get("cursor").is_none());
    let first = server.ok("list_tables", json!({"limit": 3})).await;
    assert_eq!(first["tables"].as_array().unwrap().len(), 3);
    let rest = server.ok("list_tables", json!({"cursor": first["cursor"]})).await;
    assert_eq!(rest["tables"], json!([expected[3]]));
}

#[tokio::test]
async fn query_answers_without_loss() {
    let world = World::new().await;
    let server = world.start();
    let answer = server
        .call("query", json!({"sql": "SELECT id, title, price, cover, 9007199254740993 AS big FROM book ORDER BY id"}))
        .await;
    assert_eq!(answer.receipt.amount.to_string(), "0.0001");
    let expected = json!([
        [1, "Emma", 9.5, {"base64": "AP8="}, "9007199254740993"],
        [2, "Persuasion", 8.0, null, "9007199254740993"],
        [3, "Größe; DROP TABLE book", null, null, "9007199254740993"],
    ]);
    assert_eq!(answer.structured["rows"], expected);
    let columns = json!([
        {"name": "id", "type": "INTEGER"},
        {"name": "title", "type": "TEXT"},
        {"name": "price", "type": "REAL"},
        {"name": "cover", "type": "BLOB", "encodings": ["base64"]},
        {"name": "big", "type": "integer", "encodings": ["integer_as_text"]},
    ]);
    assert_eq!(answer.structured["columns"], columns);
    assert_eq!(answer.structured["truncated"], false);
    assert_eq!(rows(&server, "SELECT 1 AS a, 2 AS a", json!([])).await, json!([[1, 2]]));
    assert_eq!(
        rows(&server, "SELECT 9e999, CAST(x'ff' AS TEXT), 1.0", json!([])).await,
        json!([["Infinity", {"text_base64": "/w=="}, 1.0]])
    );
}

#[tokio::test]
async fn values_are_bound_and_come_back() {
    let world = World::new().await;
    let server = world.start();
    let values =
        json!([null, true, -9_007_199_254_740_991_i64, 1.5, "'; DROP TABLE orders; --", {"base64": "AP8="}, ""]);
    assert_eq!(
        rows(&server, "SELECT ?, ?, ?, ?, ?, ?, ?", values).await,
        json!([[null, 1, -9_007_199_254_740_991_i64, 1.5, "'; DROP TABLE orders; --", {"base64": "AP8="}, ""]])
    );
    assert_eq!(rows(&server, "SELECT $2, $1, $2", json!(["a", "b"])).await, json!([["b", "a", "b"]]));
    assert_eq!(rows(&server, "SELECT ?2, ?1", json!(["a", "b"])).await, json!([["b", "a"]]));
    let sql = "SELECT title, count(*) FROM book JOIN orders ON book_id = book.id WHERE copies = ? GROUP BY title";
    assert_eq!(rows(&server, sql, json!([10])).await, json!([["Emma", 1], ["Persuasion", 1]]));
}

#[tokio::test]
async fn honest_statements_are_not_mistaken_for_attacks() {
    let world = World::new().await;
    let server = world.start();
    for (sql, expected) in [
        ("SELECT 'DROP TABLE orders; --' -- it is only text", json!([["DROP TABLE orders; --"]])),
        ("/* ; */ SELECT copies FROM orders WHERE id = 1;", json!([[10]])),
        (
            "WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 3) SELECT x FROM c",
            json!([[1], [2], [3]]),
        ),
        ("SELECT title FROM sold ORDER BY copies DESC LIMIT 1", json!([["Emma"]])),
        ("SELECT title FROM search WHERE search MATCH 'emma'", json!([["Emma"]])),
        ("SELECT sum(copies) OVER (ORDER BY id) FROM orders", json!([[10], [13], [23]])),
        ("SELECT name FROM pragma_table_info('orders') ORDER BY cid", json!([["id"], ["book_id"], ["copies"]])),
        ("SELECT json_extract('{\"a\": [1, 2]}', '$.a[1]'), '{\"a\": 1}' ->> 'a'", json!([[2, 1]])),
        ("SELECT \"select\", [from] FROM (SELECT 1 AS \"select\", 2 AS \"from\")", json!([[1, 2]])),
        ("SELECT - -1, 0x10, x'41' = 'A'", json!([[1, 16, 0]])),
        ("VALUES (1, 'a'), (2, 'b')", json!([[1, "a"], [2, "b"]])),
    ] {
        assert_eq!(rows(&server, sql, json!([])).await, expected, "{sql}");
        assert_eq!(server.ok("validate_query", json!({"sql": sql})).await["verdict"], "allowed", "{sql}");
    }
}

#[tokio::test]
async fn validated_statement_names_what_it_reads() {
    let world = World::new().await;
    let server = world.start();
    let sql = "WITH c AS (SELECT upper(title) AS t FROM sold WHERE copies > ?) SELECT t FROM c";
    let validated = server.ok("validate_query", json!({"sql": sql})).await;
    let expected = json!({"database": "shop", "verdict": "allowed", "statement": "select",
        "tables": ["book", "orders", "sold"], "columns": ["copies", "t", "title"], "functions": ["sum", "upper"], "parameters": 1, "reasons": [],
        "cost_usd": "0.00005", "cached": false});
    assert_eq!(validated, expected);
}

#[tokio::test]
async fn answers_are_cut_and_say_so() {
    let world = World::with("[database.connections.shop]\nurl = 'sqlite:../data/shop.db'\nmax_rows = 2\n").await;
    let server = world.start();
    let cut = server.ok("query", json!({"sql": "SELECT id FROM orders ORDER BY id", "max_rows": 100})).await;
    assert_eq!((&cut["rows"], &cut["truncated"]), (&json!([[1], [2]]), &json!(true)));
    assert!(cut["note"].as_str().unwrap().contains("more than 2 rows"), "{cut}");
    let whole = server.ok("query", json!({"sql": "SELECT id FROM orders WHERE id < 3", "max_rows": 2})).await;
    assert_eq!((&whole["row_count"], &whole["truncated"]), (&json!(2), &json!(false)));
    assert!(whole.get("note").is_none());
    let none = server.ok("query", json!({"sql": "SELECT id FROM orders", "max_rows": 0})).await;
    assert_eq!((&none["row_count"], &none["truncated"]), (&json!(0), &json!(true)));
    let long = server.ok("query", json!({"sql": "SELECT hex(zeroblob(20000)) AS x"})).await;
    assert_eq!(long["cut_values"], json!([{"row": 0, "column": 0, "bytes": 40000}]));
    assert_eq!(long["rows"][0][0].as_str().unwrap().len(), 16_000);
}

#[tokio::test]
async fn changes_of_others_are_seen() {
    let world = World::new().await;
    let server = world.start();
    let count = "SELECT count(*) FROM orders";
    assert_eq!(rows(&server, count, json!([])).await, json!([[3]]));
    world.run(SqliteJournalMode::Delete, "INSERT INTO orders VALUES (4, 1, 1)").await;
    assert_eq!(rows(&server, count, json!([])).await, json!([[4]]));
    // Another file in its place.
    std::fs::remove_file(world.path("data/shop.db")).unwrap();
    world.run(SqliteJournalMode::Delete, "CREATE TABLE orders (id); INSERT INTO orders VALUES (7)").await;
    assert_eq!(rows(&server, count, json!([])).await, json!([[1]]));
}

#[tokio::test]
async fn file_in_wal_mode_is_read_beside_its_writer() {
    let world = World::new().await;
    let mut writer = world.writer(SqliteJournalMode::Wal).await;
    let server = world.start();
    for number in 0..20 {
        let sql = sqlx::AssertSqlSafe(format!("INSERT INTO orders VALUES ({}, 1, 1)", 100 + number));
        sqlx::raw_sql(sql).execute(&mut writer).await.unwrap();
        assert_eq!(rows(&server, "SELECT count(*) FROM orders", json!([])).await, json!([[4 + number]]));
    }
}

#[tokio::test]
async fn file_in_wal_mode_at_rest_is_read_without_leaving_files() {
    let world = World::new().await;
    world.run(SqliteJournalMode::Wal, "INSERT INTO orders VALUES (4, 1, 1)").await;
    let before = world.files();
    assert_eq!(before.keys().filter(|name| name.starts_with("data/")).count(), 1, "{:?}", before.keys());
    // A file that was just changed may change again unnoticed, so it is read with its locks.
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    let server = world.start();
    assert_eq!(rows(&server, "SELECT count(*) FROM orders", json!([])).await, json!([[4]]));
    assert_eq!(world.files(), before);
    // A change is seen nevertheless.
    let mut writer = world.writer(SqliteJournalMode::Wal).await;
    sqlx::raw_sql("INSERT INTO orders VALUES (5, 1, 1)").execute(&mut writer).await.unwrap();
    assert_eq!(rows(&server, "SELECT count(*) FROM orders", json!([])).await, json!([[5]]));
}

#[tokio::test]
async fn file_in_a_folder_that_is_read_only_is_read() {
    let world = World::new().await;
    world.run(SqliteJournalMode::Wal, "INSERT INTO orders VALUES (4, 1, 1)").await;
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    let permissions =
        |mode| std::fs::set_permissions(world.path("data"), std::fs::Permissions::from_mode(mode)).unwrap();
    permissions(0o555);
    let server = world.start();
    assert_eq!(rows(&server, "SELECT count(*) FROM orders", json!([])).await, json!([[4]]));
    permissions(0o755);
    // Whoever runs the tests as root could have written there.
    assert_eq!(world.files().keys().filter(|name| name.starts_with("data/")).count(), 1);
}

/// Files of `data` that the server has open.
fn open_files(world: &World, server: &McpProcess) -> usize {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", server.pid().unwrap())).unwrap();
    let data = world.path("data");
    folder
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|path| path.starts_with(&data))
        .count()
}

/// A file at rest stays open from one call to the next: nothing of one call may be left for the next, nothing of an old
/// state of the file may be answered, and nobody else may be held up.
#[tokio::test]
async fn file_at_rest_is_kept_open_for_a_moment_and_no_longer() {
    for mode in [SqliteJournalMode::Delete, SqliteJournalMode::Wal] {
        let world = World::new().await;
        world.run(mode, "INSERT INTO orders VALUES (4, 1, 1)").await;
        let rest = || tokio::time::sleep(Duration::from_millis(3_200));
        rest().await;
        let server = world.start();
        let count = "SELECT count(*) FROM orders";
        assert_eq!(rows(&server, count, json!([])).await, json!([[4]]));
        assert_eq!(open_files(&world, &server), 1, "{mode:?}");
        // Whatever goes wrong in one call is over with it.
        let endless = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c";
        for (sql, code) in [
            ("SELECT * FROM nothing", "query_failed"),
            (count, "ok"),
            ("SELECT * FROM pragma_database_list", "table_not_allowed"),
            (count, "ok"),
            (endless, "timeout"),
            (count, "ok"),
            ("SELECT hex(zeroblob(900000)) || hex(zeroblob(900000))", "value_too_large"),
            ("SELECT length(hex(zeroblob(400000)))", "ok"),
        ] {
            let called = server.call("query", json!({"sql": sql})).await;
            assert_eq!(called.structured["error"]["code"].as_str().unwrap_or("ok"), code, "{sql}");
        }
        // A writer is not held up, and what it wrote is seen.
        world.run(mode, "CREATE TABLE later (id); INSERT INTO later VALUES (1)").await;
        assert_eq!(rows(&server, "SELECT * FROM later", json!([])).await, json!([[1]]), "{mode:?}");
        rest().await;
        assert_eq!(rows(&server, "SELECT * FROM later", json!([])).await, json!([[1]]), "{mode:?}");
        assert_eq!(open_files(&world, &server), 1, "{mode:?}");
        // Another file in its place, as old as this one.
        let path = world.path("data/shop.db");
        std::fs::rename(&path, world.path("shop.db")).unwrap();
        world.run(mode, "CREATE TABLE orders (id)").await;
        assert_eq!(rows(&server, count, json!([])).await, json!([[0]]), "{mode:?}");
        rest().await;
        assert_eq!(rows(&server, count, json!([])).await, json!([[0]]), "{mode:?}");
        rest().await;
        assert_eq!(open_files(&world, &server), 0, "{mode:?}");
    }
}

/// A query of a file that was written just before holds its lock to its end, whatever the next query looks at.
#[tokio::test]
async fn nobody_writes_a_file_in_the_middle_of_a_query() {
    let world =
        World::with("[database.connections.shop]\nurl = 'sqlite:../data/shop.db'\ntimeout_ms = 6000\ncache_ms = 0\n")
            .await;
    let mut writer = world.writer(SqliteJournalMode::Delete).await;
    sqlx::raw_sql("PRAGMA busy_timeout = 0; INSERT INTO orders VALUES (4, 1, 1)").execute(&mut writer).await.unwrap();
    let server = world.start();
    let endless = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*), (SELECT count(*) FROM orders) FROM c";
    let long = server.call("query", json!({"sql": endless}));
    let meanwhile = async {
        // Until the file counts as at rest.
        tokio::time::sleep(Duration::from_millis(3_300)).await;
        assert_eq!(rows(&server, "SELECT count(*) FROM orders", json!([])).await, json!([[4]]));
        let written = sqlx::raw_sql("INSERT INTO orders VALUES (5, 1, 1)").execute(&mut writer).await;
        assert!(written.unwrap_err().to_string().contains("locked"));
    };
    let (called, ()) = tokio::join!(long, meanwhile);
    assert_eq!(called.structured["error"]["code"], "timeout", "{}", called.structured);
    sqlx::raw_sql("INSERT INTO orders VALUES (5, 1, 1)").execute(&mut writer).await.unwrap();
    assert_eq!(rows(&server, "SELECT count(*) FROM orders", json!([])).await, json!([[5]]));
}

/// The views before masked columns are known by a name of which the next call must know nothing.
#[tokio::test]
async fn file_with_masked_columns_is_not_kept_open() {
    let masked =
        "[database.connections.shop]\nurl = 'sqlite:../data/shop.db'\ncache_ms = 0\nmasked_columns = ['orders.id']\n";
    let world = World::with(masked).await;
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    let server = world.start();
    let views = "SELECT name FROM pragma_table_list WHERE \"schema\" = 'temp'";
    let listed = server.call("query", json!({"sql": views})).await;
    assert_eq!(open_files(&world, &server), 0);
    let secret = listed.structured["rows"].as_array().and_then(|rows| {
        rows.iter().find_map(|row| row[0].as_str()?.strip_suffix("orders").filter(|name| name.starts_with("tollgate_")))
    });
    let secret = secret.unwrap_or("tollgate_0_").to_owned();
    let sql = format!("WITH \"{secret}z\" AS (SELECT rowid AS r FROM main.orders) SELECT r FROM \"{secret}z\"");
    let called = server.call("query", json!({"sql": sql})).await;
    assert!(called.is_error, "{}", called.structured);
}
