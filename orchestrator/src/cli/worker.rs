//! `orchestrator worker`.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tollgate_shared::sandbox::Setting;

use super::{EXIT_NOT_AS_EXPECTED, print};
use crate::config::House;
use crate::queue::store::Queue;
use crate::report::table::printable;
use crate::worker::{PARALLEL_MAX, Worker};

#[derive(clap::Args)]
pub(super) struct WorkerArguments {
    /// How many tasks at a time, at most 32
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_parallel)]
    parallel: usize,
    /// End when no task is ready and none is under way
    #[arg(long)]
    once: bool,
    /// Acceptance commands run without a sandbox; only where nothing works, and nobody else's code is run
    #[arg(long)]
    no_sandbox: bool,
}

fn parse_parallel(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=PARALLEL_MAX).contains(count))
        .ok_or_else(|| format!("`{text}` is not 1 to {PARALLEL_MAX}"))
}

pub(super) async fn run(house: &House, arguments: &WorkerArguments) -> anyhow::Result<ExitCode> {
    let sandbox = if arguments.no_sandbox { Setting::None } else { Setting::Auto };
    let queue = Queue::open(&house.queue, &house.state_dir).await?;
    let worker = Arc::new(Worker::new(house.clone(), queue, sandbox).await?);
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listening = Arc::clone(&worker);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = interrupted.recv() => {}
            }
            eprintln!(
                "orchestrator: nothing more is claimed; tasks are given back after this step, after a second signal at once"
            );
            listening.stop();
        }
    });
    let tell = |line: &str| print(&format!("{}\n", printable(line)));
    let summary = worker.run(arguments.parallel, arguments.once, &tell).await?;
    print(&format!("{}\n", serde_json::to_string(&summary)?));
    let all = summary.blocked + summary.needs_person + summary.given_back == 0 && !summary.stopped;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOT_AS_EXPECTED) })
}
