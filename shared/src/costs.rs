//! Adding receipts up.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::money::Money;
use crate::receipt::{Outcome, Receipt};

/// What several calls cost together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Total {
    /// How many calls.
    pub calls: u64,
    /// How many of them a cache answered.
    pub cached: u64,
    /// How many of them a rule refused.
    pub refused: u64,
    /// How many of them failed or were cancelled.
    pub failed: u64,
    /// Average wall time, in milliseconds.
    pub average_ms: u64,
    /// What they cost.
    pub amount: Money,
    /// What the cache saved.
    pub saved: Money,
    #[serde(skip)]
    #[schemars(skip)]
    duration_ms: u64,
}

/// What was sold of one sku.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkuTotal {
    /// How many.
    pub quantity: u64,
    /// For how much.
    pub amount: Money,
}

/// Totals over all calls, per tool and per sku.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct CostReport {
    /// Over everything.
    pub total: Total,
    /// By the tool's name.
    pub by_tool: BTreeMap<String, Total>,
    /// By sku.
    pub by_sku: BTreeMap<String, SkuTotal>,
}

impl Total {
    /// Counts one call.
    pub fn add(&mut self, receipt: &Receipt) {
        self.calls += 1;
        self.cached += u64::from(receipt.cached);
        match receipt.outcome {
            Outcome::Ok => {}
            Outcome::Refused => self.refused += 1,
            Outcome::Failed | Outcome::Cancelled => self.failed += 1,
        }
        self.duration_ms += receipt.duration_ms;
        self.average_ms = self.duration_ms / self.calls;
        self.amount += receipt.amount;
        self.saved += receipt.saved;
    }
}

impl CostReport {
    /// Counts one call.
    pub fn add(&mut self, receipt: &Receipt) {
        self.total.add(receipt);
        self.by_tool.entry(receipt.tool.clone()).or_default().add(receipt);
        for line in &receipt.lines {
            let sold = self.by_sku.entry(line.sku.to_string()).or_default();
            sold.quantity += line.quantity;
            sold.amount += line.amount;
        }
    }
}
