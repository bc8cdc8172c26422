//! `query`: one statement that only reads.

use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::rows::Rows;
use crate::{Database, parameters};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Its name; may be left out when there is one.
    database: Option<String>,
    /// One SELECT, VALUES or WITH … SELECT.
    sql: String,
    /// The values of `?` (PostgreSQL: `$1`) in order: null, boolean, number, string or {"base64": "…"}.
    #[schemars(schema_with = "params_schema")]
    params: Option<Vec<Value>>,
    /// Rows per answer; default and at most what the operator allows.
    max_rows: Option<usize>,
}

#[derive(Serialize, JsonSchema)]
struct Answered {
    /// The name of the database.
    database: String,
    #[serde(flatten)]
    rows: Rows,
}

pub(super) fn tool() -> Defined<Database> {
    Tool::new(
        "query",
        "Query",
        "Run one read-only SQL statement. Pass values as params, never inside sql. Whatever writes, has effects or is \
         not understood is refused; rows, bytes, time and memory are limited. Integers beyond 2^53 come as text.",
        Effect::Reads,
        Price::PerCall("database.query"),
    )
    .handler(run)
}

async fn run(server: Arc<Database>, request: Request, call: Call) -> Result<Answer<Answered>, Refusal> {
    let connection = server.connections.pick(request.database.as_deref())?;
    let parameters = parameters::parse(request.params.unwrap_or_default())?;
    let rows = connection.query(&call, request.sql, parameters, request.max_rows.unwrap_or(usize::MAX)).await?;
    Ok(Answer::new(Answered { database: connection.name.clone(), rows }))
}

/// Any value: a union of types is what some model providers do not take.
fn params_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": {} })
}
