//! What one call cost.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identity::Agent;
use crate::ids::EntryId;
use crate::money::{Currency, Money};
use crate::price::{PriceList, Sku};

/// The `_meta` key that carries the receipt on every `tools/call` result.
pub const RECEIPT_META_KEY: &str = "io.tollgate/receipt";

/// What one call cost, line by line.
///
/// In the ledger before the answer leaves; refused and failed calls have one too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// Made by the server that did the work. The same id recorded twice counts once.
    pub id: EntryId,
    /// The server's short name, `ralph` for `mcp-ralph`.
    pub server: String,
    /// The tool's name as the server knows it.
    pub tool: String,
    /// The sum of `lines`.
    pub amount: Money,
    /// The unit of every amount of this receipt.
    pub currency: Currency,
    /// What was charged; empty for a refused or cancelled call.
    pub lines: Vec<ReceiptLine>,
    /// Whether the whole answer came from a cache and so cost nothing.
    pub cached: bool,
    /// What the parts that came from a cache would have cost.
    pub saved: Money,
    /// How the call ended.
    pub outcome: Outcome,
    /// The stable code of a call that did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Wall time, in milliseconds.
    pub duration_ms: u64,
    /// On whose behalf.
    pub agent: Agent,
    /// The task that the call belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// The caller's own identifier of the call, by which it finds the receipt of a lost answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// When the call began.
    #[schemars(with = "String")]
    pub started_at: Timestamp,
}

/// One position of a [`Receipt`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiptLine {
    /// What was sold.
    pub sku: Sku,
    /// How many.
    pub quantity: u64,
    /// What one cost when the call was made.
    pub unit_price: Money,
    /// `quantity` times `unit_price`.
    pub amount: Money,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The work was done.
    Ok,
    /// A rule said no.
    Refused,
    /// The work went wrong.
    Failed,
    /// The client took the call back.
    Cancelled,
}

impl Outcome {
    /// Returns the word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Counts what a call uses until its receipt is written.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    charged: Vec<(Sku, u64)>,
    saved: Vec<(Sku, u64)>,
}

impl Meter {
    /// Counts `quantity` of `sku` as used.
    pub fn charge(&mut self, sku: Sku, quantity: u64) {
        Self::add(&mut self.charged, sku, quantity);
    }

    /// Counts `quantity` of `sku` as answered from a cache.
    pub fn save(&mut self, sku: Sku, quantity: u64) {
        Self::add(&mut self.saved, sku, quantity);
    }

    /// Returns the lines to pay and the amount saved, at the prices of `list`.
    #[must_use]
    pub fn settle(&self, list: &PriceList) -> (Vec<ReceiptLine>, Money) {
        let lines = self
            .charged
            .iter()
            .map(|(sku, quantity)| {
                let unit_price = list.price(sku);
                ReceiptLine { sku: sku.clone(), quantity: *quantity, unit_price, amount: unit_price.times(*quantity) }
            })
            .collect();
        let saved = self.saved.iter().map(|(sku, quantity)| list.price(sku).times(*quantity)).sum();
        (lines, saved)
    }

    fn add(counts: &mut Vec<(Sku, u64)>, sku: Sku, quantity: u64) {
        match counts.iter_mut().find(|(known, _)| *known == sku) {
            Some((_, count)) => *count += quantity,
            None => counts.push((sku, quantity)),
        }
    }
}
