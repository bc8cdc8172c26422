//! `list_databases`: which databases there are.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Database;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {}

#[derive(Serialize, JsonSchema)]
struct Databases {
    /// In the order of their names.
    databases: Vec<Entry>,
}

#[derive(Serialize, JsonSchema)]
struct Entry {
    /// What `database` takes.
    name: String,
    /// `sqlite`, `postgresql` or `mysql`: whose SQL it takes.
    engine: &'static str,
    /// How many rows an answer has at most.
    max_rows: usize,
    /// How long a query may run.
    timeout_ms: u64,
}

pub(super) fn tool() -> Defined<Database> {
    Tool::new(
        "list_databases",
        "Databases",
        "List the databases that can be read, with their engine and limits.",
        Effect::Reads,
        Price::PerCall("database.schema"),
    )
    .handler(run)
}

async fn run(server: Arc<Database>, _: Request, _: Call) -> Result<Answer<Databases>, Refusal> {
    let entry = |connection: &crate::connection::Connection| Entry {
        name: connection.name.clone(),
        engine: connection.engine(),
        max_rows: connection.max_rows,
        timeout_ms: u64::try_from(connection.timeout.as_millis()).unwrap_or(u64::MAX),
    };
    Ok(Answer::new(Databases { databases: server.connections.iter().map(entry).collect() }))
}
