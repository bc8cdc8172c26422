//! `explain`: how the engine would run a statement.

use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::schema::Plan;
use crate::{Database, parameters};

/// How many bytes of a plan are shown.
const PLAN_BYTES_MAX: usize = 40_000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Its name; may be left out when there is one.
    database: Option<String>,
    /// The statement, without EXPLAIN.
    sql: String,
    /// As for query.
    #[schemars(schema_with = "params_schema")]
    params: Option<Vec<Value>>,
}

#[derive(Serialize, JsonSchema)]
struct Explained {
    /// The name of the database.
    database: String,
    #[serde(flatten)]
    plan: Plan,
    /// What was left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

pub(super) fn tool() -> Defined<Database> {
    Tool::new(
        "explain",
        "Explain a query",
        "The engine's plan for a statement with estimated rows and cost; never runs it. Refuses what query refuses.",
        Effect::Reads,
        Price::PerCall("database.validate"),
    )
    .handler(run)
}

async fn run(server: Arc<Database>, request: Request, call: Call) -> Result<Answer<Explained>, Refusal> {
    let connection = server.connections.pick(request.database.as_deref())?;
    let parameters = parameters::parse(request.params.unwrap_or_default())?;
    let mut plan = connection.explain(&call, request.sql, parameters).await?;
    let mut note = None;
    if plan.plan.to_string().len() > PLAN_BYTES_MAX {
        plan.plan = Value::Null;
        note = Some(format!("the structure has more than {PLAN_BYTES_MAX} bytes and is left out"));
    }
    if plan.text.len() > PLAN_BYTES_MAX {
        let end = (0..=PLAN_BYTES_MAX).rev().find(|at| plan.text.is_char_boundary(*at)).unwrap_or(0);
        plan.text.truncate(end);
        note = Some(format!("only {PLAN_BYTES_MAX} bytes of the text are here, and no structure"));
    }
    Ok(Answer::new(Explained { database: connection.name.clone(), plan, note }))
}

/// Any value: a union of types is what some model providers do not take.
fn params_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": {} })
}
