//! `orchestrator costs`.

use std::process::ExitCode;

use jiff::Timestamp;
use tollgate_shared::ledger::Ledger;

use super::{parse_since, print};
use crate::config::House;
use crate::report::costs::{Costs, GroupBy, ReportFormat};

#[derive(clap::Args)]
pub(super) struct CostsArguments {
    /// What to group by
    #[arg(long, value_enum, default_value_t)]
    by: GroupBy,
    /// From when on: an instant, a date, or how long ago (`24h`, `7d`)
    #[arg(long, value_parser = parse_since)]
    since: Option<Timestamp>,
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    format: ReportFormat,
}

pub(super) async fn run(house: &House, arguments: &CostsArguments) -> anyhow::Result<ExitCode> {
    let ledger = Ledger::new(house.state_dir.clone());
    let costs = Costs::read(&ledger, arguments.by, arguments.since).await?;
    print(&costs.render(arguments.format)?);
    Ok(ExitCode::SUCCESS)
}
