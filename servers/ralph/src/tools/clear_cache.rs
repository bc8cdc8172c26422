//! `clear_cache`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Ralph;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ClearCacheRequest {}

#[derive(Serialize, JsonSchema)]
struct Cleared {
    /// Results forgotten
    entries: usize,
}

pub(crate) fn tool() -> Defined<Ralph> {
    Tool::new(
        "clear_cache",
        "Clear the cache",
        "Forget every cached result, so that the next verification of each file runs its checks again and is paid for. \
         Never needed for correctness: results belong to content.",
        Effect::Replaces,
        Price::Free,
    )
    .idempotent()
    .handler(run)
}

async fn run(server: Arc<Ralph>, _: ClearCacheRequest, call: Call) -> Result<Answer<Cleared>, Refusal> {
    server.cache.try_open().await.map_err(|error| unavailable(&error))?;
    let entries = call.blocking(move || server.cache.clear().map_err(|error| unavailable(&error))).await?;
    call.decide("cache_cleared", "asked for", json!({ "entries": entries }));
    Ok(Answer::new(Cleared { entries }))
}

fn unavailable(error: &anyhow::Error) -> Refusal {
    Refusal::failed(
        "cache_unavailable",
        format!("the cache cannot be cleared: {error:#}"),
        "have the operator look at the state folder; verification works without a cache",
    )
}
