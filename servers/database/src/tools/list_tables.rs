//! `list_tables`: the tables and views of a database.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Database;

/// How many tables an answer has by default: what a context window holds beside other things.
const LIMIT_DEFAULT: usize = 200;

/// How many tables an answer has at most.
const LIMIT_MAX: usize = 1000;

/// Longest cursor: longer than the name of any table that people make.
const CURSOR_BYTES_MAX: usize = 10_000;

/// Longest text to search for.
const SEARCH_BYTES_MAX: usize = 200;

/// How much of a comment is shown.
const COMMENT_CHARACTERS_MAX: usize = 200;

/// How many bytes of names an answer has, about; names can be of any length.
const NAMES_BYTES_MAX: usize = 60_000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Its name; may be left out when there is one.
    database: Option<String>,
    /// Tables per answer, at most 1000; default 200.
    limit: Option<usize>,
    /// Only those with this in their name, comment or a column's name.
    search: Option<String>,
    /// From the previous answer, to go on.
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Tables {
    /// The name of the database.
    database: String,
    /// In the order of their names.
    tables: Vec<Entry>,
    /// Pass it to see more; left out at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Entry {
    /// Its name.
    name: String,
    /// `table`, `view`, `materialized view`, `foreign table` or `virtual`.
    kind: String,
    /// How many columns it has.
    columns: usize,
    /// How many rows it has, about, where the engine has statistics.
    #[serde(skip_serializing_if = "Option::is_none")]
    estimated_rows: Option<u64>,
    /// What people wrote about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    /// The columns with what was searched in their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    matching_columns: Vec<String>,
}

pub(super) fn tool() -> Defined<Database> {
    Tool::new(
        "list_tables",
        "Tables",
        "List the tables and views of a database, or search them by name, comment and column.",
        Effect::Reads,
        Price::PerCall("database.schema"),
    )
    .handler(run)
}

async fn run(server: Arc<Database>, request: Request, call: Call) -> Result<Answer<Tables>, Refusal> {
    let connection = server.connections.pick(request.database.as_deref())?;
    let limit = request.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    if request.cursor.as_ref().is_some_and(|cursor| cursor.len() > CURSOR_BYTES_MAX) {
        return Err(Refusal::refused(
            "invalid_cursor",
            "this is no cursor of list_tables",
            "pass `cursor` as the previous answer had it",
        ));
    }
    let search = request.search.unwrap_or_default();
    if search.len() > SEARCH_BYTES_MAX || search.contains('\0') {
        return Err(Refusal::invalid_arguments("`search` is too long", "search for a part of one name"));
    }
    let found = connection.tables(&call, request.cursor.unwrap_or_default(), limit + 1, &search).await?;
    let mut tables: Vec<Entry> = Vec::with_capacity(limit.min(found.len()));
    let mut cursor = None;
    let mut bytes = 0;
    for table in found {
        let comment = table.comment.map(|comment| comment.chars().take(COMMENT_CHARACTERS_MAX).collect::<String>());
        bytes += table.name.len() + comment.as_ref().map_or(0, String::len);
        bytes += table.matches.iter().map(String::len).sum::<usize>();
        if let Some(last) = tables.last()
            && (tables.len() == limit || bytes > NAMES_BYTES_MAX)
        {
            cursor = Some(last.name.clone());
            break;
        }
        tables.push(Entry {
            name: table.name,
            kind: table.kind,
            columns: table.columns,
            estimated_rows: table.rows,
            comment,
            matching_columns: table.matches,
        });
    }
    Ok(Answer::new(Tables { database: connection.name.clone(), tables, cursor }))
}
