//! `describe_table`: the columns, keys and indexes of one table.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Database;
use crate::mask::quoted;
use crate::rows::Rows;
use crate::schema::TableSchema;
use crate::statement::Syntax;

/// How many rows are shown as a sample at most.
const SAMPLE_MAX: usize = 20;

/// How many columns are described at most.
const COLUMNS_MAX: usize = 400;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Its name; may be left out when there is one.
    database: Option<String>,
    /// As list_tables has it.
    table: String,
    /// How many rows to show, at most 20; default none.
    sample: Option<usize>,
}

#[derive(Serialize, JsonSchema)]
struct Described {
    /// The name of the database.
    database: String,
    #[serde(flatten)]
    table: TableSchema,
    /// Some rows, with `***` for what is masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<Rows>,
    /// What was left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

pub(super) fn tool() -> Defined<Database> {
    Tool::new(
        "describe_table",
        "Describe a table",
        "Columns, keys, indexes, foreign keys, comments and about how many rows; with sample, some rows too.",
        Effect::Reads,
        Price::PerCall("database.schema"),
    )
    .handler(run)
}

async fn run(server: Arc<Database>, request: Request, call: Call) -> Result<Answer<Described>, Refusal> {
    let connection = server.connections.pick(request.database.as_deref())?;
    let mut table = connection.describe(&call, request.table).await?;
    let rows = request.sample.unwrap_or(0).min(SAMPLE_MAX);
    let sample = if rows == 0 {
        None
    } else {
        // As any query: what is hidden from one is hidden here.
        let syntax = connection.syntax();
        let name = match syntax {
            Syntax::Sqlite => quoted(&table.name, syntax),
            Syntax::Postgres | Syntax::Mysql => {
                format!("{}.{}", quoted(&table.schema, syntax), quoted(&table.name, syntax))
            }
        };
        let sql = format!("SELECT * FROM {name} LIMIT {rows}");
        let queried = connection.query(&call, sql, Vec::new(), rows, None).await?;
        Some(Arc::unwrap_or_clone(queried.rows))
    };
    let note = (table.columns.len() > COLUMNS_MAX)
        .then(|| format!("the first {COLUMNS_MAX} of {} columns are here", table.columns.len()));
    table.columns.truncate(COLUMNS_MAX);
    Ok(Answer::new(Described { database: connection.name.clone(), table, sample, note }))
}
