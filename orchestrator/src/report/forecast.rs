//! What a task will most likely cost, by those before it.

use std::collections::BTreeMap;

use serde::Serialize;
use tollgate_shared::money::Money;

use super::costs::ReportFormat;
use super::table::table;
use crate::queue::store::Entry;
use crate::queue::task::{Complexity, Kind};

/// What tasks of each type and complexity did cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// By type, then by complexity.
    pub types: Vec<Expected>,
}

/// What is to be expected of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Expected {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Its complexity.
    pub complexity: Complexity,
    /// Of how many tasks.
    pub tasks: u64,
    /// How many of a hundred were completed.
    pub completed_percent: u64,
    /// The sum divided by the number.
    pub average_usd: Money,
    /// Half of them cost less.
    pub median_usd: Money,
    /// Nine of ten cost at most this.
    pub p90_usd: Money,
    /// The dearest one.
    pub max_usd: Money,
}

impl Forecast {
    /// Looks at `history`, of one type or of all.
    #[must_use]
    pub fn of(history: &[Entry], kind: Option<Kind>) -> Self {
        let mut groups: BTreeMap<(Kind, Complexity), (Vec<Money>, u64)> = BTreeMap::new();
        for entry in history.iter().filter(|entry| kind.is_none_or(|kind| entry.task.kind == kind)) {
            let group = groups.entry((entry.task.kind, entry.task.complexity_category)).or_default();
            group.0.push(entry.cost_usd);
            group.1 += u64::from(entry.status.is_done());
        }
        let expected = |((kind, complexity), (mut costs, completed)): (_, (Vec<Money>, u64))| {
            costs.sort_unstable();
            let tasks = costs.len() as u64;
            // The smallest of which so many per cent are at most that.
            let at = |percent: usize| costs[(costs.len() * percent).div_ceil(100).max(1) - 1];
            Expected {
                kind,
                complexity,
                tasks,
                completed_percent: completed * 100 / tasks,
                average_usd: costs.iter().copied().sum::<Money>().average_over(tasks),
                median_usd: at(50),
                p90_usd: at(90),
                max_usd: at(100),
            }
        };
        Self { types: groups.into_iter().map(expected).collect() }
    }

    /// Returns it in `format`.
    ///
    /// # Errors
    ///
    /// What writing JSON fails with.
    pub fn render(&self, format: ReportFormat) -> serde_json::Result<String> {
        const HEAD: [&str; 8] = ["type", "complexity", "tasks", "completed", "average", "median", "90 %", "most"];
        let usd = |amount: Money| amount.normalized().to_string();
        let rows = self.types.iter().map(|one| {
            let amounts = [one.average_usd, one.median_usd, one.p90_usd, one.max_usd].map(usd);
            (one.kind.to_string(), one.complexity.to_string(), one.tasks.to_string(), one.completed_percent, amounts)
        });
        Ok(match format {
            ReportFormat::Json => format!("{}\n", serde_json::to_string_pretty(self)?),
            ReportFormat::Csv => {
                let line =
                    |(kind, complexity, tasks, completed, amounts): (String, String, String, u64, [String; 4])| {
                        format!("{kind},{complexity},{tasks},{completed},{}\n", amounts.join(","))
                    };
                let head = "type,complexity,tasks,completed_percent,average_usd,median_usd,p90_usd,max_usd\n";
                format!("{head}{}", rows.map(line).collect::<String>())
            }
            ReportFormat::Table => {
                let rows: Vec<Vec<String>> = rows
                    .map(|(kind, complexity, tasks, completed, amounts)| {
                        let amounts = amounts.map(|amount| format!("${amount}"));
                        [vec![kind, complexity, tasks, format!("{completed} %")], amounts.to_vec()].concat()
                    })
                    .collect();
                table(&HEAD, &[2, 3, 4, 5, 6, 7], &rows)
            }
        })
    }
}
