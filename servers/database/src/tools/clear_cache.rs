//! `clear_cache`: forget the answers that are kept.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Database;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Its name; all when left out.
    database: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Cleared {
    /// How many answers were forgotten.
    cleared: usize,
}

pub(super) fn tool() -> Defined<Database> {
    Tool::new(
        "clear_cache",
        "Clear the cache",
        "Forget cached answers, so that the next query reads anew.",
        Effect::Reads,
        Price::Free,
    )
    .handler(run)
}

async fn run(server: Arc<Database>, request: Request, _: Call) -> Result<Answer<Cleared>, Refusal> {
    let cleared = match request.database.as_deref() {
        Some(name) => server.connections.pick(Some(name))?.clear_cache(),
        None => server.connections.iter().map(crate::connection::Connection::clear_cache).sum(),
    };
    Ok(Answer::new(Cleared { cleared }))
}
