//! What everything cost, grouped.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use tollgate_shared::costs::Total;
use tollgate_shared::ledger::{Ledger, LedgerError};
use tollgate_shared::money::Money;
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
    /// The repository that the task was done in: its name in `[queue.projects]`, else that of its folder.
    Project,
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
    /// The same of the time before, as long as this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<Costs>>,
    /// Of each group: its share of everything, and what became of it since the time before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trend: Option<BTreeMap<String, Trend>>,
    #[serde(skip)]
    projects: Projects,
}

/// Where each task was done, by its name.
pub type Projects = Arc<HashMap<String, String>>;

/// What became of a group since the time before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trend {
    /// Its share of everything, in tenths of a per cent.
    pub share_permille: u64,
    /// By how many per cent it costs more than before; absent where it cost nothing then.
    pub change_percent: Option<i64>,
}

impl Costs {
    fn new(by: GroupBy, since: Option<Timestamp>, projects: &Projects) -> Self {
        let (groups, total, projects) = (BTreeMap::new(), Total::default(), Arc::clone(projects));
        Self { by, since, groups, total, before: None, trend: None, projects }
    }

    /// Adds up every receipt in `ledger` of a call that began at `since` or later; with `trend`, also those of the time before
    /// `since` that is as long as the time since then.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn read(
        ledger: &Ledger,
        by: GroupBy,
        since: Option<Timestamp>,
        trend: bool,
        projects: &Projects,
    ) -> Result<Self, LedgerError> {
        let mut costs = Self::new(by, since, projects);
        let mut before = since.filter(|_| trend).map(|since| {
            let length = Timestamp::now().duration_since(since);
            let start = since.checked_sub(length).unwrap_or(Timestamp::MIN);
            (since, Box::new(Self::new(by, Some(start), projects)))
        });
        if let Some(mut reader) = ledger.reader().await? {
            let from = before.as_ref().map_or(since, |(_, before)| before.since);
            let mut receipts = pin!(reader.receipts(from));
            while let Some(receipt) = receipts.next().await {
                let receipt = receipt?;
                match &mut before {
                    Some((since, before)) if receipt.started_at < *since => before.add(&receipt),
                    _ => costs.add(&receipt),
                }
            }
        }
        if let Some((_, before)) = before {
            costs.trend = Some(costs.trend_since(&before));
            costs.before = Some(before);
        }
        Ok(costs)
    }

    /// Compares each group of now or before.
    fn trend_since(&self, before: &Self) -> BTreeMap<String, Trend> {
        let names: BTreeSet<&String> = self.groups.keys().chain(before.groups.keys()).collect();
        let of = |costs: &Self, name: &str| costs.groups.get(name).map_or(Money::ZERO, |total| total.amount);
        names
            .into_iter()
            .map(|name| {
                let (now, then) = (of(self, name), of(before, name));
                let share_permille = now.times(1000).quantity_at(self.total.amount).unwrap_or_default();
                (name.clone(), Trend { share_permille, change_percent: change_percent(now, then) })
            })
            .collect()
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
            GroupBy::Project => {
                let project = receipt.task_id.as_ref().and_then(|task| self.projects.get(task));
                project.map_or("(no project)", String::as_str).to_owned()
            }
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
            GroupBy::Project => "project",
            GroupBy::Day => "day",
        }
    }

    /// Returns every group by its name, those that only were before included, and everything at the end.
    fn rows(&self) -> Vec<(&str, Total, Option<(String, String, String)>)> {
        let mut names: BTreeSet<&str> = self.groups.keys().map(String::as_str).collect();
        names.extend(self.trend.iter().flat_map(BTreeMap::keys).map(String::as_str));
        let before = |name: &str| {
            let before = self.before.as_ref()?.groups.get(name);
            Some(before.map_or(Money::ZERO, |total| total.amount))
        };
        let mut rows: Vec<_> = names
            .into_iter()
            .map(|name| {
                let trend =
                    self.trend.as_ref().and_then(|trend| trend.get(name)).zip(before(name)).map(|(trend, before)| {
                        let share = format!("{}.{} %", trend.share_permille / 10, trend.share_permille % 10);
                        let is_new = self.before.as_ref().is_some_and(|before| !before.groups.contains_key(name));
                        (share, before.normalized().to_string(), changed(trend.change_percent, is_new))
                    });
                (name, self.groups.get(name).cloned().unwrap_or_default(), trend)
            })
            .collect();
        let all = self.before.as_ref().map(|before| {
            let amount = before.total.amount;
            let change = changed(change_percent(self.total.amount, amount), before.total.calls == 0);
            ("100.0 %".to_owned(), amount.normalized().to_string(), change)
        });
        rows.push(("total", self.total.clone(), all));
        rows
    }

    fn table(&self) -> String {
        let rows: Vec<Vec<String>> = self
            .rows()
            .into_iter()
            .map(|(name, total, trend)| {
                let mut row = vec![
                    name.to_owned(),
                    total.calls.to_string(),
                    total.refused.to_string(),
                    total.failed.to_string(),
                    total.cached.to_string(),
                    format!("{} ms", total.average_ms),
                    format!("${}", total.saved.normalized()),
                    format!("${}", total.amount.normalized()),
                ];
                row.extend(trend.into_iter().flat_map(|(share, before, change)| [share, format!("${before}"), change]));
                row
            })
            .collect();
        let mut head = vec![self.heading(), "calls", "refused", "failed", "cached", "average", "saved", "cost"];
        if self.trend.is_some() {
            head.extend(["share", "before", "change"]);
        }
        let right: Vec<usize> = (1..head.len()).collect();
        table(&head, &right, &rows)
    }

    fn csv(&self) -> String {
        let more = if self.trend.is_some() { ",share,before_usd,change" } else { "" };
        let mut text = format!("{},calls,refused,failed,cached,average_ms,saved_usd,cost_usd{more}\n", self.heading());
        for (name, total, trend) in self.rows() {
            let name = csv_field(name);
            text.push_str(&format!(
                "{name},{},{},{},{},{},{},{}",
                total.calls, total.refused, total.failed, total.cached, total.average_ms, total.saved, total.amount
            ));
            text.push_str(
                &trend.map(|(share, before, change)| format!(",{share},{before},{change}")).unwrap_or_default(),
            );
            text.push('\n');
        }
        text
    }
}

/// Returns by how many per cent `now` is more than `then`.
fn change_percent(now: Money, then: Money) -> Option<i64> {
    let percent = now.times(100).quantity_at(then)?;
    Some(i64::try_from(percent).unwrap_or(i64::MAX).saturating_sub(100))
}

fn changed(percent: Option<i64>, is_new: bool) -> String {
    match percent {
        Some(percent) => format!("{percent:+} %"),
        None if is_new => "new".to_owned(),
        // It cost nothing before.
        None => "—".to_owned(),
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
    fn changes_are_against_the_time_before() {
        let usd = |text: &str| text.parse::<Money>().unwrap();
        assert_eq!(change_percent(usd("3"), usd("2")), Some(50));
        assert_eq!(change_percent(usd("0"), usd("2")), Some(-100));
        assert_eq!(change_percent(usd("1"), usd("0")), None);
        assert_eq!((changed(Some(50), false), changed(Some(-7), true)), ("+50 %".into(), "-7 %".into()));
        assert_eq!((changed(None, true), changed(None, false)), ("new".into(), "—".into()));
    }

    #[test]
    fn fields_are_quoted_and_formulas_defused() {
        assert_eq!(csv_field("plain"), "plain");
        assert_eq!(csv_field("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(csv_field("=1+1"), "'=1+1");
    }
}
