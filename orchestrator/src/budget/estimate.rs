//! What a call may cost, before it is made: never less than it will.

use rmcp::model::{JsonObject, Tool};
use serde_json::Value;
use tollgate_shared::money::Money;
use tollgate_shared::price::{PRICE_META_KEY, PriceList, Sku};

use crate::config::ServerSpec;

/// Most files that one call of Ralph's looks at.
const RALPH_FILES_MAX: u64 = 5_000;

/// What a call may cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// The least that is worth beginning with.
    pub least: Money,
    /// The most that it can cost. Where `least` is less, the server itself stops at what is set aside.
    pub most: Money,
}

impl Estimate {
    fn exactly(amount: Money) -> Self {
        Self { least: amount, most: amount }
    }

    /// Estimates a call of `tool`, which its server listed like this, with `arguments`.
    #[must_use]
    pub fn of(
        spec: &ServerSpec,
        tool: &str,
        listed: Option<&Tool>,
        arguments: &JsonObject,
        prices: &PriceList,
    ) -> Self {
        if !spec.own {
            return Self::exactly(spec.price.most(spec, tool, arguments, prices));
        }
        let price = listed.and_then(|listed| listed.meta.as_ref()).and_then(|meta| meta.get(PRICE_META_KEY));
        let Some(price) = price else { return Self::default() };
        let sum = |table: &str| -> Money { amounts(&price[table]).sum() };
        if price.get("metered").is_none() {
            return Self::exactly(sum("per_call"));
        }
        match (spec.name.as_str(), tool) {
            ("deploy", _) => {
                let rollback = if tool == "rollback" { "rollback." } else { "" };
                Self::exactly(arguments.get("environment").and_then(Value::as_str).map_or_else(
                    || amounts(&price["metered"]).max().unwrap_or_default(),
                    |environment| prices.price(&Sku::from(format!("deploy.{rollback}{environment}"))),
                ))
            }
            // How many files there are is known only when they were looked for; Ralph stops at what is set aside.
            ("ralph", "verify_batch" | "verify_changes") => {
                let named = arguments.get("paths").and_then(Value::as_array).map(|paths| paths.len() as u64);
                let globs = arguments.get("globs").and_then(Value::as_array).is_some_and(|globs| !globs.is_empty());
                let files = if globs { None } else { named };
                Self { least: sum("metered"), most: sum("metered").times(files.unwrap_or(RALPH_FILES_MAX).max(1)) }
            }
            _ => Self::exactly(sum("metered")),
        }
    }
}

fn amounts(table: &Value) -> impl Iterator<Item = Money> {
    table.as_object().into_iter().flat_map(|table| table.values()).filter_map(|price| price.as_str()?.parse().ok())
}
