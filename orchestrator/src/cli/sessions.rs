//! `orchestrator sessions`.

use std::process::ExitCode;

use anyhow::Context;

use super::print;
use crate::config::House;
use crate::report::session::{list_table, replay};
use crate::session::History;
use crate::session::store::Store;

#[derive(clap::Subcommand)]
pub(super) enum SessionsCommand {
    /// Show every task: what came of it, and what it cost
    List {
        /// Archived ones too
        #[arg(long)]
        all: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Replay one session readably
    Show {
        /// The session
        id: String,
    },
    /// Write everything about one session as JSON
    Export {
        /// The session
        id: String,
    },
    /// Leave a session out of the list, and those of its team; working trees and branches stay
    Archive {
        /// The session
        id: String,
        /// Put it back into the list
        #[arg(long)]
        undo: bool,
    },
}

pub(super) async fn run(house: &House, command: &SessionsCommand) -> anyhow::Result<ExitCode> {
    let store = Store::open(&house.state_dir).await?;
    match command {
        SessionsCommand::List { all, json } => {
            let sessions = store.list(*all).await?;
            let mut histories = Vec::new();
            for session in &sessions {
                histories.extend(store.load(&session.id).await?);
            }
            if *json {
                let rows: Vec<serde_json::Value> = histories.iter().map(crate::report::session::summary).collect();
                print(&format!("{}\n", serde_json::to_string_pretty(&rows)?));
            } else {
                print(&list_table(&histories));
            }
        }
        SessionsCommand::Show { id } => print(&replay(&load(&store, id).await?)),
        SessionsCommand::Export { id } => {
            print(&format!("{}\n", serde_json::to_string_pretty(&load(&store, id).await?)?));
        }
        SessionsCommand::Archive { id, undo } => {
            let session = load(&store, id).await?.session;
            let members = session.team.map(|team| team.members).unwrap_or_default();
            let ids = members.into_iter().map(|member| member.session).chain([id.clone()]).collect();
            store.archive(ids, !undo).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn load(store: &Store, id: &str) -> anyhow::Result<History> {
    let history = store.load(id).await?;
    history.with_context(|| format!("there is no session {id}; see `orchestrator sessions list --all`"))
}
