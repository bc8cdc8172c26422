//! `orchestrator watch`.

mod screen;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::print;
use crate::config::House;
use crate::queue::event::Event;
use crate::queue::store::Queue;
use crate::report::table::printable;

/// How often it looks.
const EVERY: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub(super) struct WatchArguments {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// One line for each event, on a terminal too
    #[arg(long)]
    lines: bool,
    /// From this instant on (RFC 3339, UTC); the last ten minutes when left out
    #[arg(long, value_name = "INSTANT")]
    since: Option<Timestamp>,
    /// End when everything is told that has happened
    #[arg(long)]
    once: bool,
}

pub(super) async fn run(house: &House, arguments: &WatchArguments) -> anyhow::Result<ExitCode> {
    let queue = Queue::open(&house.queue, &house.state_dir).await?;
    let since = arguments.since.unwrap_or_else(|| Timestamp::now() - SignedDuration::from_mins(10));
    let mut follower = queue.follow(since);
    let is_screen = !(arguments.json || arguments.once || arguments.lines) && std::io::stdout().is_terminal();
    if is_screen && std::io::stdin().is_terminal() {
        screen::run(&queue, follower).await?;
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        let events = follower.next().await?;
        let is_all = events.is_empty();
        for event in &events {
            let line = if arguments.json { serde_json::to_string(event)? } else { told(event) };
            print(&format!("{line}\n"));
        }
        if is_all {
            if arguments.once {
                return Ok(ExitCode::SUCCESS);
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
            }
        }
    }
}

fn told(event: &Event) -> String {
    let at = event.at.strftime("%H:%M:%S");
    let member = if event.member.is_empty() { String::new() } else { format!(" [{}]", event.member) };
    let cost = event.cost_usd.map(|cost| format!("  ${}", cost.normalized())).unwrap_or_default();
    printable(&format!("{at}  {}{member}  {}  {}{cost}", event.task, event.what, event.note))
}
