//! Statements and arguments that must not get through, and what is left as it was afterwards.

use serde_json::{Value, json};
use sqlx::sqlite::SqliteJournalMode;

use super::world::World;

fn hostile_statements() -> Vec<(&'static str, &'static str)> {
    vec![
        ("DROP TABLE orders", "not_read_only"),
        ("-- SELECT\nDROP TABLE orders", "not_read_only"),
        ("/* SELECT */ DELETE FROM orders", "not_read_only"),
        ("INSERT INTO orders VALUES (9, 9, 9) RETURNING id", "not_read_only"),
        ("UPDATE orders SET copies = 0", "not_read_only"),
        ("REPLACE INTO orders VALUES (1, 1, 1)", "not_read_only"),
        ("CREATE TABLE x AS SELECT 1", "not_read_only"),
        ("CREATE TEMP TABLE x (a)", "not_read_only"),
        ("ALTER TABLE orders RENAME TO x", "not_read_only"),
        ("PRAGMA user_version = 7", "not_read_only"),
        ("PRAGMA query_only = 0", "not_read_only"),
        ("PRAGMA database_list", "not_read_only"),
        ("PRAGMA wal_checkpoint(TRUNCATE)", "not_read_only"),
        ("ATTACH DATABASE 'pwned.db' AS x", "not_read_only"),
        ("VACUUM INTO 'pwned.db'", "not_read_only"),
        ("BEGIN EXCLUSIVE", "not_read_only"),
        ("COMMIT", "not_read_only"),
        ("REINDEX", "not_read_only"),
        ("ANALYZE", "not_read_only"),
        ("EXPLAIN SELECT 1", "not_read_only"),
        ("WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x", "not_read_only"),
        ("WITH x AS (SELECT 1) DELETE FROM orders", "not_read_only"),
        ("SELECT * INTO x FROM orders", "not_read_only"),
        ("SELECT * FROM orders FOR UPDATE", "not_read_only"),
        ("SELECT 1; DROP TABLE orders", "multiple_statements"),
        ("SELECT 'a\\'; DROP TABLE orders; --'", "multiple_statements"),
        ("SELECT [;]; DELETE FROM orders", "multiple_statements"),
        ("SELECT /* /* */ 1; DROP TABLE orders /* */ */", "multiple_statements"),
        ("COMMIT; DROP TABLE orders", "multiple_statements"),
        ("SELECT 1\0; DROP TABLE orders", "not_parsed"),
        ("SELECT 1 /* ; DROP TABLE orders", "not_parsed"),
        ("SELECT 'a", "not_parsed"),
        ("SELECT\u{a0}1", "not_parsed"),
        ("\u{feff}SELECT 1", "not_parsed"),
        ("", "not_parsed"),
        ("please drop the table", "not_parsed"),
        ("SELECT load_extension('./pwned')", "function_not_allowed"),
        ("SELECT \"load_extension\"('./pwned')", "function_not_allowed"),
        ("SELECT writefile('pwned', 'x')", "function_not_allowed"),
        ("SELECT readfile('/etc/passwd')", "function_not_allowed"),
        ("SELECT fts3_tokenizer('simple')", "function_not_allowed"),
        ("SELECT optimize(search) FROM search", "function_not_allowed"),
        ("SELECT * FROM pragma_database_list()", "function_not_allowed"),
        ("SELECT * FROM pragma_user_version(7)", "function_not_allowed"),
        ("SELECT * FROM fsdir('/')", "function_not_allowed"),
        ("SELECT file FROM pragma_database_list", "table_not_allowed"),
        ("SELECT * FROM dbstat", "table_not_allowed"),
        ("SELECT * FROM nothing", "query_failed"),
        ("SELECT \"no such column\"", "query_failed"),
        ("SELECT json('{')", "query_failed"),
        ("SELECT abs(-9223372036854775808)", "query_failed"),
    ]
}

/// What no answer may tell: where the file is.
fn leaks(world: &World, answer: &Value) -> bool {
    let text = answer.to_string();
    text.contains("shop.db") || text.contains(&world.path("data").display().to_string())
}

async fn statements_change_nothing(mode: SqliteJournalMode) {
    let world = World::new().await;
    world.run(mode, "CREATE INDEX copies ON orders (copies)").await;
    let server = world.start();
    server.ok("list_tables", json!({})).await;
    let before = world.files();
    for (sql, code) in hostile_statements() {
        let called = server.call("query", json!({"sql": sql})).await;
        assert_eq!(called.structured["error"]["code"], code, "{sql}: {}", called.structured);
        assert!(called.is_error && called.receipt.amount.is_zero(), "{sql}");
        assert!(!leaks(&world, &called.structured), "{sql}: {}", called.structured);
        let validated = server.ok("validate_query", json!({"sql": sql})).await;
        // What goes wrong only with the data is seen only when it runs.
        if !["SELECT json('{')", "SELECT abs(-9223372036854775808)"].contains(&sql) {
            assert_eq!(validated["verdict"], "refused", "{sql}");
            assert_eq!(validated["reasons"][0]["code"], code, "{sql}");
        }
        assert!(!leaks(&world, &validated), "{sql}: {validated}");
    }
    assert_eq!(world.files(), before);
    assert_eq!(server.ok("query", json!({"sql": "SELECT count(*) FROM orders"})).await["rows"], json!([[3]]));
}

#[tokio::test]
async fn hostile_statements_are_refused_and_change_nothing() {
    statements_change_nothing(SqliteJournalMode::Delete).await;
}

#[tokio::test]
async fn hostile_statements_are_refused_in_wal_mode_too() {
    let world = World::new().await;
    let mut writer = world.writer(SqliteJournalMode::Wal).await;
    sqlx::raw_sql("INSERT INTO orders VALUES (4, 1, 1)").execute(&mut writer).await.unwrap();
    let server = world.start();
    let count = json!({"sql": "SELECT count(*) FROM orders"});
    assert_eq!(server.ok("query", count.clone()).await["rows"], json!([[4]]));
    for (sql, code) in hostile_statements() {
        assert_eq!(server.refused("query", json!({"sql": sql})).await["code"], code, "{sql}");
    }
    assert_eq!(server.ok("query", count).await["rows"], json!([[4]]));
    // The writer was never in anybody's way.
    sqlx::raw_sql("INSERT INTO orders VALUES (5, 1, 1)").execute(&mut writer).await.unwrap();
}

#[tokio::test]
async fn hostile_arguments_are_refused() {
    let world = World::new().await;
    let server = world.start();
    let before = world.files();
    let long = "x".repeat(10 * 1024 * 1024);
    let deep = format!("SELECT {}1{}", "(".repeat(1000), ")".repeat(1000));
    let calls = [
        ("query", json!({"sql": long}), "invalid_arguments"),
        ("query", json!({"sql": deep}), "not_parsed"),
        ("query", json!({}), "invalid_arguments"),
        ("query", json!({"sql": 1}), "invalid_arguments"),
        ("query", json!({"sql": "SELECT 1", "write": true}), "invalid_arguments"),
        ("query", json!({"sql": "SELECT 1", "max_rows": -1}), "invalid_arguments"),
        ("query", json!({"sql": "SELECT 1", "database": "Shop"}), "unknown_database"),
        ("query", json!({"sql": "SELECT 1", "database": "../data/shop.db"}), "unknown_database"),
        ("query", json!({"sql": "SELECT 1", "database": long}), "unknown_database"),
        ("query", json!({"sql": "SELECT ?"}), "invalid_arguments"),
        ("query", json!({"sql": "SELECT ?", "params": [1, 2]}), "invalid_arguments"),
        ("query", json!({"sql": "SELECT ?5", "params": [1]}), "invalid_arguments"),
        ("query", json!({"sql": "SELECT ?, $1", "params": [1, 1]}), "invalid_arguments"),
        ("query", json!({"sql": "SELECT $2000000000", "params": [1]}), "invalid_arguments"),
        ("query", json!({"sql": "SELECT ?", "params": [[1]]}), "invalid_arguments"),
        ("query", json!({"sql": "SELECT ?", "params": [{"sql": "1"}]}), "invalid_arguments"),
        ("query", json!({"sql": "SELECT ?", "params": [long]}), "invalid_arguments"),
        ("query", json!({"sql": "SELECT ?", "params": [u64::MAX]}), "invalid_arguments"),
        ("query", json!({"sql": "SELECT ?", "params": vec![1; 5000]}), "invalid_arguments"),
        ("list_tables", json!({"database": "nothing"}), "unknown_database"),
        ("list_tables", json!({"cursor": long}), "invalid_cursor"),
        ("list_databases", json!({"database": "shop"}), "invalid_arguments"),
        ("validate_query", json!({"sql": "SELECT 1", "database": "nothing"}), "unknown_database"),
    ];
    for (tool, arguments, code) in calls {
        let shown: String = arguments.to_string().chars().take(100).collect();
        let error = server.refused(tool, arguments).await;
        assert_eq!(error["code"], code, "{tool} {shown}: {error}");
        assert!(error.to_string().len() < 2000, "{tool} {shown}");
    }
    // Arguments of the right form whose size means nothing.
    let big = json!({"sql": "SELECT 1", "max_rows": u64::MAX});
    assert_eq!(server.ok("query", big).await["row_count"], 1);
    assert_eq!(server.ok("list_tables", json!({"cursor": "zzz", "limit": u64::MAX})).await["tables"], json!([]));
    assert_eq!(world.files(), before);
}

#[tokio::test]
async fn without_a_database_everything_says_so() {
    let world = World::with("[git]\n").await;
    let server = world.start();
    for (tool, arguments) in [
        ("query", json!({"sql": "DROP TABLE orders"})),
        ("query", json!({"sql": "SELECT 1", "database": "shop"})),
        ("list_tables", json!({})),
        ("validate_query", json!({"sql": "SELECT 1"})),
    ] {
        assert_eq!(server.refused(tool, arguments).await["code"], "no_database", "{tool}");
    }
    assert_eq!(server.ok("list_databases", json!({})).await["databases"], json!([]));
}

#[tokio::test]
async fn databases_that_cannot_be_read_say_so_without_their_path() {
    let files = ["missing.db", "folder", "text.db", "cut.db", "pipe.db"];
    let configuration: String = files
        .iter()
        .map(|file| format!("[database.connections.{}]\nurl = 'sqlite:../data/{file}'\n", file.replace('.', "-")))
        .collect();
    let world = World::with(&configuration).await;
    std::fs::create_dir(world.path("data/folder")).unwrap();
    std::fs::write(world.path("data/text.db"), "not a database at all, and long enough to be one".repeat(100)).unwrap();
    let whole = std::fs::read(world.path("data/shop.db")).unwrap();
    std::fs::write(world.path("data/cut.db"), &whole[..5000]).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(world.path("data/pipe.db")).status().unwrap();
    assert!(pipe.success());
    let server = world.start();
    for file in files {
        let arguments = json!({"sql": "SELECT count(*) FROM orders", "database": file.replace('.', "-")});
        let error = server.refused("query", arguments).await;
        assert_eq!(error["code"], "database_unavailable", "{file}: {error}");
        assert!(!error.to_string().contains("data/"), "{file}: {error}");
    }
    let error = server.refused("query", json!({"sql": "SELECT 1"})).await;
    assert_eq!(error["code"], "unknown_database");
    assert!(error["hint"].as_str().unwrap().contains("cut-db, folder, missing-db"), "{error}");
    assert!(!world.path("data/missing.db").exists());
}

#[tokio::test]
async fn locked_database_is_unavailable_within_the_time() {
    let world = World::new().await;
    let mut writer = world.writer(SqliteJournalMode::Delete).await;
    sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut writer).await.unwrap();
    let server = world.start();
    let error = server.refused("query", json!({"sql": "SELECT * FROM orders"})).await;
    assert_eq!(error["code"], "database_unavailable", "{error}");
    sqlx::raw_sql("ROLLBACK").execute(&mut writer).await.unwrap();
    assert_eq!(server.ok("query", json!({"sql": "SELECT * FROM orders"})).await["row_count"], 3);
}

#[test]
fn configuration_that_cannot_be_relied_on_is_an_error_at_start() {
    for (configuration, said) in [
        ("[database.connections.a]\nurl = 'oracle://u:hunter2@h/d'", "`url` must begin with `sqlite:`"),
        ("[database.connections.a]\nurl = 'postgres://u:hunter2@h:x/d'", "`url` is no `postgres://"),
        ("[database.connections.a]\nurl = 'sqlite:a.db'\nmax_rows = 0", "`max_rows` must be from 1"),
        ("[database.connections.a]\nurl = 'sqlite:a.db'\ntimeout = 5", "unknown key `database.connections.a.timeout`"),
        ("[database.connections.a]\nmax_rows = 5", "url"),
        ("[database]\nurl = 'sqlite:a.db'", "unknown key `database.url`"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tollgate.toml"), configuration).unwrap();
        let output = std::process::Command::new(tollgate_tests::world::program("mcp-database"))
            .current_dir(folder.path())
            .env_remove("TOLLGATE_CONFIG")
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{configuration}");
        assert!(stderr.contains(said), "{configuration}: {stderr}");
        assert!(!stderr.contains("hunter2") && output.stdout.is_empty(), "{stderr}");
    }
}
