//! What everything cost, grouped.

use std::collections::BTreeMap;
use std::pin::pin;

use futures::StreamExt;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use tollgate_shared::costs::Total;
use tollgate_shared::ledger::{Ledger, LedgerError};
use tollgate_shared::receipt::Receipt;

use super::table::table;

/// What the costs are grouped by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum GroupBy {
    /// The tool, as the catalogue names it.
    #[default]
    Tool,
    /// The server.
    Server,
    /// What was sold.
    Sku,
    /// The model, of requests to models.
    Model,
    /// The agent.
    Agent,
    /// The agent's role.
    Role,
    /// The task.
    Task,
    /// The day, in UTC.
    Day,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ReportFormat {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For spreadsheets.
    Csv,
}

/// Costs by group, and over everything.
#[derive(Clone, Debug, Serialize)]
pub struct Costs {
    /// What they are grouped by.
    pub by: GroupBy,
    /// From when on; absent for everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// In the order of their names.
    pub groups: BTreeMap<String, Total>,
    /// Over everything: the sum of every receipt.
    pub total: Total,
}

impl Costs {
    /// Adds up every receipt in `ledger` of a call that began at `since` or later.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn read(ledger: &Ledger, by: GroupBy, since: Option<Timestamp>) -> Result<Self, LedgerError> {
        let mut costs = Self { by, since, groups: BTreeMap::new(), total: Total::default() };
        if let Some(mut reader) = ledger.reader().await? {
            let mut receipts = pin!(reader.receipts(since));
            while let Some(receipt) = receipts.next().await {
                costs.add(&receipt?);
            }
        }
        Ok(costs)
    }

    fn add(&mut self, receipt: &Receipt) {
        self.total.add(receipt);
        let name = match self.by {
            GroupBy::Tool => format!("{}__{}", receipt.server, receipt.tool),
            GroupBy::Server => receipt.server.clone(),
            GroupBy::Model if receipt.server == crate::model::SERVER => receipt.tool.clone(),
            GroupBy::Model => "(no model)".to_owned(),
            GroupBy::Agent => receipt.agent.name.clone(),
            GroupBy::Role => receipt.agent.role.clone().unwrap_or_else(|| "(no role)".to_owned()),
            GroupBy::Task => receipt.task_id.clone().unwrap_or_else(|| "(no task)".to_owned()),
            GroupBy::Day => receipt.started_at.to_zoned(TimeZone::UTC).date().to_string(),
            GroupBy::Sku => {
                self.add_by_sku(receipt);
                return;
            }
        };
        self.groups.entry(name).or_default().add(receipt);
    }

    /// Counts each line of the receipt under its sku; a call without lines counts as `(nothing charged)`.
    fn add_by_sku(&mut self, receipt: &Receipt) {
        if receipt.lines.is_empty() {
            self.groups.entry("(nothing charged)".to_owned()).or_default().add(receipt);
        }
        for line in &receipt.lines {
            let share = Receipt { amount: line.amount, saved: Default::default(), ..receipt.clone() };
            self.groups.entry(line.sku.to_string()).or_default().add(&share);
        }
    }

    /// Returns the report in `format`.
    ///
    /// # Errors
    ///
    /// What writing JSON fails with.
    pub fn render(&self, format: ReportFormat) -> serde_json::Result<String> {
        Ok(match format {
            ReportFormat::Json => format!("{}\n", serde_json::to_string_pretty(self)?),
            ReportFormat::Csv => self.csv(),
            ReportFormat::Table => self.table(),
        })
    }

    fn heading(&self) -> &'static str {
        match self.by {
            GroupBy::Tool => "tool",
            GroupBy::Server => "server",
            GroupBy::Sku => "sku",
            GroupBy::Model => "model",
            GroupBy::Agent => "agent",
            GroupBy::Role => "role",
            GroupBy::Task => "task",
            GroupBy::Day => "day",
        }
    }

    fn table(&self) -> String {
        let row = |name: &str, total: &Total| {
            vec![
                name.to_owned(),
                total.calls.to_string(),
                total.refused.to_string(),
                total.failed.to_string(),
                total.cached.to_string(),
                format!("{} ms", total.average_ms),
                format!("${}", total.saved.normalized()),
                format!("${}", total.amount.normalized()),
            ]
        };
        let mut rows: Vec<Vec<String>> = self.groups.iter().map(|(name, total)| row(name, total)).collect();
        rows.push(row("total", &self.total));
        let head = [self.heading(), "calls", "refused", "failed", "cached", "average", "saved", "cost"];
        table(&head, &[1, 2, 3, 4, 5, 6, 7], &rows)
    }

    fn csv(&self) -> String {
        let mut text = format!("{},calls,refused,failed,cached,average_ms,saved_usd,cost_usd\n", self.heading());
        for (name, total) in
            self.groups.iter().map(|(name, total)| (name.as_str(), total)).chain([("total", &self.total)])
        {
            let name = csv_field(name);
            text.push_str(&format!(
                "{name},{},{},{},{},{},{},{}\n",
                total.calls, total.refused, total.failed, total.cached, total.average_ms, total.saved, total.amount
            ));
        }
        text
    }
}

/// Quotes a field where needed; a spreadsheet must not take an agent's name for a formula.
fn csv_field(text: &str) -> String {
    let text = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_and_formulas_defused() {
        assert_eq!(csv_field("plain"), "plain");
        assert_eq!(csv_field("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(csv_field("=1+1"), "'=1+1");
    }
}
