//! `orchestrator costs`.

use std::collections::{BTreeSet, HashMap};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tollgate_shared::ledger::Ledger;

use super::{parse_since, print};
use crate::config::House;
use crate::queue::store::Queue;
use crate::queue::task::Kind;
use crate::report::costs::{Costs, GroupBy, Projects, ReportFormat};
use crate::report::forecast::Forecast;
use crate::session::store::{FILE_NAME, Store};

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
    /// Show each one's share, and what it cost in the time before, as long as the time since `--since` (7 days when left out)
    #[arg(long)]
    trend: bool,
    /// Show what a task will most likely cost by what those of its type in the queue did cost; of every type, or of one
    #[arg(long, value_name = "TYPE", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["by", "since", "trend"])]
    forecast: Option<String>,
    /// Write it anew whenever it changes, until interrupted
    #[arg(long)]
    watch: bool,
}

/// How often `--watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// What a trend is of when nobody says since when.
const TREND: SignedDuration = SignedDuration::from_hours(7 * 24);

pub(super) async fn run(house: &House, arguments: &CostsArguments) -> anyhow::Result<ExitCode> {
    if let Some(kind) = &arguments.forecast {
        return forecast(house, kind, arguments.format).await;
    }
    let ledger = Ledger::new(house.state_dir.clone());
    let mut shown = String::new();
    let since = match arguments.since {
        None if arguments.trend => Some(Timestamp::now() - TREND),
        since => since,
    };
    loop {
        let projects = if arguments.by == GroupBy::Project { projects(house).await? } else { Projects::default() };
        let costs = Costs::read(&ledger, arguments.by, since, arguments.trend, &projects).await?;
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

async fn forecast(house: &House, kind: &str, format: ReportFormat) -> anyhow::Result<ExitCode> {
    let kind: Option<Kind> =
        if kind.is_empty() { None } else { Some(kind.parse().map_err(|error: String| anyhow::anyhow!(error))?) };
    let queue = Queue::open(&house.queue, &house.state_dir).await?;
    print(&Forecast::of(&queue.history().await?, kind).render(format)?);
    Ok(ExitCode::SUCCESS)
}

/// Returns where each task was done: the name of its repository in `[queue.projects]`, else that of its folder, or the whole
/// path where two folders have one name.
async fn projects(house: &House) -> anyhow::Result<Projects> {
    // Looking makes no file.
    if !house.state_dir.path().join(FILE_NAME).exists() {
        return Ok(Projects::default());
    }
    let store = Store::open(&house.state_dir).await?;
    let sessions = store.repositories().await?;
    let known: HashMap<PathBuf, &String> =
        house.queue.projects.iter().map(|(name, path)| (normal(&house.workspace.join(path)), name)).collect();
    let mut paths_by_name: HashMap<String, BTreeSet<PathBuf>> = HashMap::new();
    let name = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    for (_, path) in &sessions {
        paths_by_name.entry(name(path)).or_default().insert(path.clone());
    }
    let project = |path: &Path| match known.get(&normal(path)) {
        Some(known) => (*known).clone(),
        None if paths_by_name.get(&name(path)).is_some_and(|paths| paths.len() > 1) => path.display().to_string(),
        None => name(path),
    };
    Ok(Arc::new(sessions.iter().map(|(id, path)| (id.clone(), project(path))).collect()))
}

/// Returns a path as the file system knows it, where it does.
fn normal(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
