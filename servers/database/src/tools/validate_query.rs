//! `validate_query`: whether a statement would be run, and what it reads.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::receipt::Outcome;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Database;
use crate::statement::Warning;

/// How many tables or functions an answer names: more than a statement of people has.
const NAMES_MAX: usize = 200;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Its name; may be left out when there is one.
    database: Option<String>,
    /// The statement.
    sql: String,
}

#[derive(Serialize, JsonSchema)]
struct Validated {
    /// The name of the database.
    database: String,
    /// Whether query would run it.
    verdict: Verdict,
    /// `select` or `values`; left out when it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    statement: Option<&'static str>,
    /// The tables and views that it reads, those behind views too.
    tables: Vec<String>,
    /// The columns that it names.
    columns: Vec<String>,
    /// The functions that it calls.
    functions: Vec<String>,
    /// How many values it takes.
    parameters: usize,
    /// Why it is refused.
    reasons: Vec<Reason>,
    /// What in it looks as if it was put together from values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Warning>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Allowed,
    Refused,
}

#[derive(Serialize, JsonSchema)]
struct Reason {
    /// The code that query would answer with.
    code: &'static str,
    /// What is wrong.
    message: String,
    /// What to do instead.
    hint: String,
}

pub(super) fn tool() -> Defined<Database> {
    Tool::new(
        "validate_query",
        "Validate a query",
        "Say whether query would run a statement, which tables and functions it uses, and why it is refused; does not \
         run it.",
        Effect::Reads,
        Price::PerCall("database.validate"),
    )
    .handler(run)
}

async fn run(server: Arc<Database>, request: Request, call: Call) -> Result<Answer<Validated>, Refusal> {
    let connection = server.connections.pick(request.database.as_deref())?;
    let database = connection.name.clone();
    let shown = |mut names: Vec<String>| {
        names.truncate(NAMES_MAX);
        names
    };
    let validated = match connection.inspect(&call, request.sql).await {
        Ok(inspected) => Validated {
            database,
            verdict: Verdict::Allowed,
            statement: Some(inspected.kind),
            tables: shown(inspected.tables),
            columns: shown(inspected.columns),
            functions: shown(inspected.functions),
            parameters: inspected.parameters,
            reasons: Vec::new(),
            warnings: inspected.warnings,
        },
        // A statement that the rules refuse or the engine cannot compile is what was asked about.
        Err(refusal) if refusal.outcome == Outcome::Refused || refusal.code == "query_failed" => Validated {
            database,
            verdict: Verdict::Refused,
            statement: None,
            tables: Vec::new(),
            columns: Vec::new(),
            functions: Vec::new(),
            parameters: 0,
            reasons: vec![Reason { code: refusal.code, message: refusal.message, hint: refusal.hint }],
            warnings: Vec::new(),
        },
        Err(refusal) => return Err(refusal),
    };
    Ok(Answer::new(validated))
}
