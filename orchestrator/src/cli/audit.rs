//! `orchestrator audit`.

use std::collections::VecDeque;
use std::pin::pin;
use std::process::ExitCode;

use anyhow::Context;
use futures::StreamExt;
use jiff::Timestamp;
use tollgate_shared::audit::AuditEntry;
use tollgate_shared::ledger::{Head, Ledger, verify};

use super::{EXIT_NOT_AS_EXPECTED, parse_since, print};
use crate::config::House;
use crate::report::table::{shorten, table};

#[derive(clap::Subcommand)]
pub(super) enum AuditCommand {
    /// Verify that no entry of the ledger was changed, dropped or moved
    Verify(VerifyArguments),
    /// List decisions: refusals, commits, deployments, rollbacks
    List(ListArguments),
}

#[derive(clap::Args)]
pub(super) struct VerifyArguments {
    /// A head that an earlier run printed and that was kept elsewhere: `SEQ:HASH`
    #[arg(long, value_parser = parse_head)]
    head: Option<Head>,
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    format: AuditFormat,
}

#[derive(clap::Args)]
pub(super) struct ListArguments {
    /// From when on: an instant, a date, or how long ago (`24h`, `7d`)
    #[arg(long, value_parser = parse_since)]
    since: Option<Timestamp>,
    /// Only decisions of this kind: `refused`, `committed`, `deployed`, …
    #[arg(long)]
    action: Option<String>,
    /// Only decisions about calls of this agent
    #[arg(long)]
    agent: Option<String>,
    /// At most this many, the latest
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    format: AuditFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum AuditFormat {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

pub(super) async fn run(house: &House, command: &AuditCommand) -> anyhow::Result<ExitCode> {
    let ledger = Ledger::new(house.state_dir.clone());
    match command {
        AuditCommand::Verify(arguments) => verify_ledger(&ledger, arguments).await,
        AuditCommand::List(arguments) => list(&ledger, arguments).await,
    }
}

async fn verify_ledger(ledger: &Ledger, arguments: &VerifyArguments) -> anyhow::Result<ExitCode> {
    let found = match verify(ledger, arguments.head).await {
        Ok(found) => found,
        Err(error) => {
            // A file so broken that it cannot be read as a ledger is not whole either.
            eprintln!("orchestrator: {}", tollgate_shared::error_chain::Chain(&error));
            return Ok(ExitCode::from(EXIT_NOT_AS_EXPECTED));
        }
    };
    match arguments.format {
        AuditFormat::Json => print(&format!("{}\n", serde_json::to_string_pretty(&found)?)),
        AuditFormat::Table => {
            let state = if found.is_whole() { "the ledger is whole" } else { "THE LEDGER WAS TAMPERED WITH" };
            print(&format!(
                "{state}: {} entries, {} receipts, {} decisions\nhead {}:{}\n",
                found.head.seq, found.receipts, found.decisions, found.head.seq, found.head.hash
            ));
            for fault in &found.faults {
                print(&format!("  {fault}\n"));
            }
        }
    }
    Ok(if found.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOT_AS_EXPECTED) })
}

async fn list(ledger: &Ledger, arguments: &ListArguments) -> anyhow::Result<ExitCode> {
    let limit = usize::try_from(arguments.limit)?;
    let mut latest: VecDeque<AuditEntry> = VecDeque::new();
    let mut left_out = 0_u64;
    if let Some(mut reader) = ledger.reader().await? {
        let mut decisions = pin!(reader.decisions(arguments.since));
        while let Some(decision) = decisions.next().await {
            let decision = decision?;
            let wanted = arguments.action.as_ref().is_none_or(|action| *action == decision.action)
                && arguments.agent.as_ref().is_none_or(|agent| *agent == decision.agent.name);
            if wanted {
                latest.push_back(decision);
                if latest.len() > limit {
                    latest.pop_front();
                    left_out += 1;
                }
            }
        }
    }
    if arguments.format == AuditFormat::Json {
        print(&format!("{}\n", serde_json::to_string_pretty(&latest)?));
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = latest
        .iter()
        .map(|decision| {
            vec![
                decision.at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
                decision.action.clone(),
                format!("{}__{}", decision.server, decision.tool),
                decision.agent.name.clone(),
                decision.task_id.clone().unwrap_or_default(),
                shorten(
                    &decision
                        .code
                        .as_ref()
                        .map_or_else(|| decision.reason.clone(), |code| format!("{code}: {}", decision.reason)),
                    80,
                ),
            ]
        })
        .collect();
    print(&table(&["at (UTC)", "action", "tool", "agent", "task", "why"], &[], &rows));
    if left_out > 0 {
        print(&format!("\n{left_out} earlier decisions left out; raise --limit to see them\n"));
    }
    Ok(ExitCode::SUCCESS)
}

fn parse_head(text: &str) -> anyhow::Result<Head> {
    let (seq, hash) = text.split_once(':').context("a head is written SEQ:HASH")?;
    Ok(Head { seq: seq.parse()?, hash: hash.parse()? })
}
