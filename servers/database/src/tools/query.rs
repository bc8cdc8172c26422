//! `query`: one statement that only reads.

use std::sync::Arc;
use std::time::Instant;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::connection::Position;
use crate::cursor::POSITION_MAX;
use crate::rows::Rows;
use crate::statement::Warning;
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
    /// From the previous answer, to go on; with the same other arguments.
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Answered {
    /// The name of the database.
    database: String,
    #[serde(flatten)]
    rows: Rows,
    /// Pass it for the rows that follow; left out at the end. Pages fit together when ORDER BY leaves no two rows equal and
    /// the data stays the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    /// What in the statement looks as if it was put together from values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Warning>,
    /// How long it took, in milliseconds.
    duration_ms: u64,
}

pub(super) fn tool() -> Defined<Database> {
    Tool::new(
        "query",
        "Query",
        "Run one read-only SQL statement. Pass values as params, never inside sql. Whatever writes, has effects or is \
         not understood is refused; rows, bytes, time and memory are limited. Integers beyond 2^53 come as text.",
        Effect::Reads,
        Price::Metered(&["database.query"]),
    )
    .handler(run)
}

async fn run(server: Arc<Database>, request: Request, call: Call) -> Result<Answer<Answered>, Refusal> {
    let connection = server.connections.pick(request.database.as_deref())?;
    let parameters = parameters::parse(request.params.unwrap_or_default())?;
    let identity = call.identity();
    let principal = format!("{}\0{}", identity.agent.name, identity.agent.role.as_deref().unwrap_or_default());
    let started = Instant::now();
    let state = server.state.path().to_owned();
    let position = request.cursor.map(|cursor| -> Position {
        let (server, state, principal) = (Arc::clone(&server), state.clone(), principal.clone());
        Box::new(move |digest| server.seal.position(&state, &principal, digest, &cursor))
    });
    let rows_max = request.max_rows.unwrap_or(usize::MAX);
    let queried = connection.query(&call, request.sql, parameters, rows_max, position).await?;
    if queried.cached {
        call.save("database.query", 1);
    } else {
        call.charge("database.query", 1);
    }
    let next = queried.offset.saturating_add(u64::try_from(queried.rows.row_count).unwrap_or(u64::MAX));
    let more = queried.rows.truncated && queried.rows.row_count > 0 && next <= POSITION_MAX;
    let cursor = match more {
        true => Some(server.seal.cursor(&state, &principal, &queried.digest, next)?),
        false => None,
    };
    Ok(Answer::new(Answered {
        database: connection.name.clone(),
        rows: Arc::unwrap_or_clone(queried.rows),
        cursor,
        warnings: queried.warnings,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    }))
}

/// Any value: a union of types is what some model providers do not take.
fn params_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": {} })
}
