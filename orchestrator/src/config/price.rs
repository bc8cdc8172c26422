//! What the calls of a foreign server cost, as the operator says.

use std::time::Duration;

use rmcp::model::JsonObject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::money::Money;
use tollgate_shared::price::{PriceList, Sku};
use tollgate_shared::receipt::{Outcome, ReceiptLine};

use super::ServerSpec;
use crate::fleet::bytes_of;

/// `[servers.<name>.price]`, in US dollars. A tool's own price is in `[prices]`, as `"<name>.<tool>"`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ForeignPrice {
    /// Of a call that succeeds, where `[prices]` has none for its tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_call_usd: Option<Money>,
    /// Of each byte of arguments and answer, as compact JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_byte_usd: Option<Money>,
    /// Of each second that has begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second_usd: Option<Money>,
}

impl ForeignPrice {
    /// Returns the most that a call can cost; [`lines`](Self::lines) never come to more.
    pub(crate) fn most(&self, spec: &ServerSpec, tool: &str, arguments: &JsonObject, prices: &PriceList) -> Money {
        let bytes = || bytes_of(arguments).saturating_add(spec.answer_bytes_max);
        let lines = self.lines(spec, tool, Outcome::Ok, bytes, spec.call_timeout, prices);
        lines.iter().map(|line| line.amount).sum()
    }

    /// Returns what a call costs. One that failed costs its bytes and its time, since they were used.
    pub(crate) fn lines(
        &self,
        spec: &ServerSpec,
        tool: &str,
        outcome: Outcome,
        bytes: impl FnOnce() -> u64,
        elapsed: Duration,
        prices: &PriceList,
    ) -> Vec<ReceiptLine> {
        let mut lines = Vec::new();
        let mut sell = |sku: String, quantity: u64, unit_price: Money| {
            if !unit_price.is_zero() && quantity > 0 {
                lines.push(ReceiptLine {
                    sku: Sku::from(sku),
                    quantity,
                    unit_price,
                    amount: unit_price.times(quantity),
                });
            }
        };
        let name = format!("{}.{tool}", spec.name);
        if outcome == Outcome::Ok {
            let of_the_tool = prices.price(&Sku::from(name.clone()));
            let otherwise = self.per_call_usd.unwrap_or_default();
            sell(name.clone(), 1, if of_the_tool.is_zero() { otherwise } else { of_the_tool });
        }
        if matches!(outcome, Outcome::Ok | Outcome::Failed) {
            if let Some(price) = self.per_byte_usd {
                sell(format!("{name}.bytes"), bytes(), price);
            }
            if let Some(price) = self.per_second_usd {
                let begun = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
                sell(format!("{name}.seconds"), begun(elapsed.min(spec.call_timeout)), price);
            }
        }
        lines
    }
}
