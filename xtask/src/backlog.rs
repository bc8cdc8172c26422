//! `cargo xtask demo-queue`: a backlog of eight tasks, three workers, and what came of it.

use std::fs;
use std::time::Instant;

use anyhow::{Context, ensure};

use crate::demo::{DemoArguments, Orchestrator, copy_folder, make_history, say};
use tollgate_tests::world::repository_root;

/// How many workers there are; each is a process.
const WORKERS: usize = 3;

/// Builds everything, prepares the service and its backlog in a temporary folder, and lets the workers do it.
pub fn run(arguments: &DemoArguments) -> anyhow::Result<()> {
    let programs = arguments.programs()?;
    let begun = Instant::now();
    let folder = tempfile::Builder::new().prefix("tollgate-demo-").tempdir()?;
    let shop = folder.path().join("bookshop");
    copy_folder(&repository_root().join("examples/bookshop"), &shop)?;
    make_history(&shop)?;
    // What agents do is the operator's, as the configuration is: neither is in the repository.
    let example = repository_root().join("examples/backlog");
    copy_folder(&example.join("agents"), &shop.join(".agents"))?;
    fs::copy(example.join("tollgate.toml"), shop.join("tollgate.toml"))?;
    fs::copy(example.join("backlog.json"), folder.path().join("backlog.json"))?;
    let exclude = shop.join(".git/info");
    fs::create_dir_all(&exclude)?;
    fs::write(exclude.join("exclude"), "/.agents\n")?;
    let orchestrator = Orchestrator { program: programs.join("orchestrator"), shop: &shop };

    say("A backlog of eight tasks on a small service in Rust. What would be imported, and then is:");
    orchestrator.run(&["queue", "import", "../backlog.json", "--dry-run"])?;
    orchestrator.run(&["queue", "import", "../backlog.json"])?;
    say("Who should do one of them, and why (orchestrator route):");
    orchestrator.run(&["route", "FEATURE-3"])?;

    say("Three workers, until nothing is ready (orchestrator worker --once):");
    let workers = (0..WORKERS).map(|_| orchestrator.command(&["worker", "--once"]).spawn());
    let workers: Vec<_> = workers.collect::<Result<_, _>>().context("cannot start a worker")?;
    for mut worker in workers {
        let status = worker.wait()?;
        // 1 says that some tasks wait for a person or are blocked, as three here do.
        ensure!(matches!(status.code(), Some(0 | 1)), "a worker ended with {status}");
    }

    say("What came of it (orchestrator queue report):");
    orchestrator.run(&["queue", "report"])?;
    say("What it cost, by task and by agent's role (orchestrator costs):");
    orchestrator.run(&["costs", "--by", "task"])?;
    orchestrator.run(&["costs", "--by", "role"])?;
    say("Nobody tampered with the ledger (orchestrator audit verify):");
    orchestrator.run(&["audit", "verify"])?;
    arguments.finish(folder, begun);
    Ok(())
}
