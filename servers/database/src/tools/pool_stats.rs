//! `pool_stats`: how busy the databases are.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Database;
use crate::connection::PoolStatistics;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {}

#[derive(Serialize, JsonSchema)]
struct Pools {
    /// In the order of their names.
    databases: Vec<Entry>,
}

#[derive(Serialize, JsonSchema)]
struct Entry {
    /// The name of the database.
    name: String,
    #[serde(flatten)]
    statistics: PoolStatistics,
}

pub(super) fn tool() -> Defined<Database> {
    Tool::new(
        "pool_stats",
        "Pool statistics",
        "Running queries, connections, outcomes and cache hits of each database, in this process.",
        Effect::Reads,
        Price::Free,
    )
    .handler(run)
}

async fn run(server: Arc<Database>, _: Request, _: Call) -> Result<Answer<Pools>, Refusal> {
    let entry = |connection: &crate::connection::Connection| Entry {
        name: connection.name.clone(),
        statistics: connection.statistics(),
    };
    Ok(Answer::new(Pools { databases: server.connections.iter().map(entry).collect() }))
}
