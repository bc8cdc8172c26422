//! `orchestrator tools`.

use std::process::ExitCode;

use super::print;
use crate::catalogue::{Catalogue, CatalogueFormat};
use crate::config::House;
use crate::fleet::Fleet;
use crate::report::tools::catalogue_table;

#[derive(clap::Args)]
pub(super) struct ToolsArguments {
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    format: CatalogueFormat,
}

pub(super) async fn run(house: &House, arguments: &ToolsArguments) -> anyhow::Result<ExitCode> {
    let fleet = Fleet::new(house)?;
    let catalogue = Catalogue::merge(fleet.list().await, &house.prices);
    fleet.close().await;
    match arguments.format {
        CatalogueFormat::Table => print(&catalogue_table(&catalogue)),
        format => print(&format!("{}\n", serde_json::to_string_pretty(&catalogue.to_json(format))?)),
    }
    for unavailable in &catalogue.unavailable {
        if arguments.format != CatalogueFormat::Table {
            eprintln!("orchestrator: {}: {}", unavailable.server, unavailable.reason);
        }
    }
    Ok(ExitCode::SUCCESS)
}
