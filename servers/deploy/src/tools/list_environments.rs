//! `list_environments`: where a release can go, in order, and what it needs there.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::price::Sku;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Deploy;
use crate::health::Health;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {}

#[derive(Serialize, JsonSchema)]
struct Listed {
    /// In the order in which a release goes through them.
    environments: Vec<EnvironmentView>,
}

#[derive(Serialize, JsonSchema)]
struct EnvironmentView {
    /// Its name.
    name: String,
    /// How a release gets there.
    target: &'static str,
    /// Where the same files must have been live and healthy first.
    requires: Vec<String>,
    /// For how many minutes.
    #[serde(skip_serializing_if = "is_zero")]
    bake_minutes: u32,
    /// The forms of versions that are taken; without any, all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    versions: Vec<String>,
    /// When nothing is deployed there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    freeze: Vec<String>,
    /// Whether that is now.
    frozen: bool,
    /// How many people must approve.
    approvals: u32,
    /// How a release is found to be healthy: `command`, `http`, `tcp` or `none`.
    health: &'static str,
    /// How many releases are kept.
    keep: usize,
    /// What a deployment costs, in US dollars.
    price_usd: String,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

pub(super) fn tool() -> Defined<Deploy> {
    Tool::new(
        "list_environments",
        "List environments",
        "List the environments in order, with their gates and the price of a deployment.",
        Effect::Reads,
        Price::Free,
    )
    .handler(run)
}

async fn run(server: Arc<Deploy>, _: Request, call: Call) -> Result<Answer<Listed>, Refusal> {
    let now = Timestamp::now();
    let environments = server
        .environments
        .iter()
        .map(|environment| EnvironmentView {
            name: environment.name.clone(),
            target: environment.effect.name(),
            requires: environment.requires.clone(),
            bake_minutes: environment.bake_minutes,
            versions: environment.versions.iter().map(|pattern| pattern.glob().glob().to_owned()).collect(),
            freeze: environment.freeze.iter().map(ToString::to_string).collect(),
            frozen: environment.freeze.iter().any(|window| window.contains(now)),
            approvals: environment.approvals,
            health: environment.health.as_ref().map_or("none", Health::kind),
            keep: environment.keep,
            price_usd: call.house().prices.price(&Sku::from(format!("deploy.{}", environment.name))).to_string(),
        })
        .collect();
    Ok(Answer::new(Listed { environments }))
}
