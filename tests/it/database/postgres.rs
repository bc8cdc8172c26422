//! PostgreSQL: a real server, with a role that could do anything.

mod attacks;
mod limits;
mod uses;

use serde_json::Value;
use tollgate_tests::mcp_process::McpProcess;
pub use tollgate_tests::shop::PostgresShop as World;

/// Runs a query that must succeed and returns its rows.
pub async fn rows(server: &McpProcess, sql: &str, params: Value) -> Value {
    server.ok("query", serde_json::json!({"sql": sql, "params": params})).await["rows"].clone()
}
