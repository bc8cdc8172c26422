//! Whole corpora, run on a server.

use serde_json::json;
use sqlx::sqlite::SqliteJournalMode;
use tollgate_tests::corpus::{MYSQL, POSTGRES, REFUSALS, SQLITE, SQLITE_SHOP};
use tollgate_tests::mcp_process::McpProcess;

use super::world::World;

/// Returns which of these a rule did not refuse, or `validate_query` would not.
pub async fn not_refused(server: &McpProcess, statements: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for sql in statements {
        let called = server.call("query", json!({"sql": sql})).await;
        let code = called.structured["error"]["code"].as_str().unwrap_or("ok").to_owned();
        if !REFUSALS.contains(&code.as_str()) {
            wrong.push(format!("{sql}: {}", called.structured));
        }
        let validated = server.call("validate_query", json!({"sql": sql})).await;
        if validated.structured["verdict"] != "refused" {
            wrong.push(format!("validated: {sql}: {}", validated.structured));
        }
    }
    wrong
}

/// Returns which of these did not run.
pub async fn not_allowed(server: &McpProcess, statements: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for sql in statements {
        let called = server.call("query", json!({"sql": sql, "params": parameters(sql)})).await;
        if called.is_error {
            wrong.push(format!("{sql}: {}", called.structured));
        }
    }
    wrong
}

/// The values of a statement of a corpus: one of SQLite's takes one.
fn parameters(sql: &str) -> Vec<i64> {
    if sql.contains("?1") { vec![1] } else { Vec::new() }
}

#[test]
fn corpora_are_large_enough() {
    for (engine, corpus) in [("sqlite", &SQLITE), ("postgres", &POSTGRES), ("mysql", &MYSQL)] {
        println!("{engine}: {} refused, {} allowed", corpus.refused.len(), corpus.allowed.len());
        assert!(corpus.refused.len() >= 350 && corpus.allowed.len() >= 120, "{engine}");
    }
}

#[tokio::test]
async fn attacks_are_refused_and_honest_statements_run() {
    let world = World::new().await;
    std::fs::remove_file(world.path("data/shop.db")).unwrap();
    world.run(SqliteJournalMode::Delete, SQLITE_SHOP).await;
    let server = world.start();
    server.ok("list_tables", json!({})).await;
    let before = world.files();
    let mut wrong = not_refused(&server, &SQLITE.refused).await;
    wrong.extend(not_allowed(&server, &SQLITE.allowed).await);
    assert_eq!(world.files(), before);
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
