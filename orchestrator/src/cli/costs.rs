//! `orchestrator costs`.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

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
    /// Write it anew whenever it changes, until interrupted
    #[arg(long)]
    watch: bool,
}

/// How often `--watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(house: &House, arguments: &CostsArguments) -> anyhow::Result<ExitCode> {
    let ledger = Ledger::new(house.state_dir.clone());
    let mut shown = String::new();
    loop {
        let costs = Costs::read(&ledger, arguments.by, arguments.since).await?;
        let rendered = costs.render(arguments.format)?;
        if rendered != shown {
            // A terminal shows the newest alone; a file or a pipe gets one after the other.
            let again = arguments.watch && !shown.is_empty() && std::io::stdout().is_terminal();
            print(&format!("{}{rendered}", if again { "\x1b[2J\x1b[H" } else { "" }));
            shown = rendered;
        }
        if !arguments.watch {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}
