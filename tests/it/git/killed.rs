//! Two processes at work on one repository at once, killed at random points again and again.
//!
//! `TOLLGATE_GIT_ROUNDS` says how many rounds (500 are the measure of record), `TOLLGATE_GIT_SEED` repeats a run.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use git2::{Oid, Repository};
use serde_json::{Map, Value, json};
use tollgate_tests::mcp_process::McpProcess;

use super::world::{World, refs};

/// Rounds without a number given: as many as fit, at least and at most.
const ROUNDS_MIN: usize = 6;
const ROUNDS_MAX: usize = 40;
const ROUNDS_FOR: Duration = Duration::from_secs(12);

/// How often git itself checks all objects; the last round is always checked.
const FSCK_EVERY: usize = 10;

/// What a call may be told because of the other process, or of one that was killed.
const EXPLAINED: &[&str] =
    &["branch_moved", "index_locked", "reference_locked", "repository_busy", "files_changed", "would_overwrite"];

/// Numbers that a seed repeats.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, max: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % max.max(1)
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Commit,
    Merge,
    Push,
}

/// One process, its working tree and branch, and what it was told is done.
struct Worker {
    server: McpProcess,
    repo_path: &'static str,
    branch: &'static str,
    other: &'static str,
    files: usize,
    committed: Vec<(Oid, String)>,
    pushed: Option<Oid>,
    /// How long a step takes on this machine at this time.
    step_takes: Duration,
}

impl Worker {
    fn new(world: &World, repo_path: &'static str, branch: &'static str, other: &'static str) -> Self {
        Self {
            server: world.start(),
            repo_path,
            branch,
            other,
            files: 0,
            committed: Vec::new(),
            pushed: None,
            step_takes: Duration::from_millis(50),
        }
    }

    /// Makes a call; returns its answer, or the code with which it was refused, or nothing when the server is gone.
    async fn call(&self, tool: &str, mut arguments: Value) -> Option<Result<Value, String>> {
        arguments["repo_path"] = json!(self.repo_path);
        let called = self.server.try_call(tool, arguments, Map::new()).await?;
        let code = called.structured["error"]["code"].as_str().unwrap_or_default().to_owned();
        Some(if called.is_error { Err(code) } else { Ok(called.structured) })
    }

    async fn step(&mut self, step: Step, work: &Path) -> Option<()> {
        let accepted = |code: &str, others: &[&str]| {
            assert!(EXPLAINED.contains(&code) || others.contains(&code), "{step:?} of {}: {code}", self.branch);
        };
        match step {
            Step::Commit => {
                self.files += 1;
                let name = format!("{}-{}", self.branch, self.files);
                fs::write(work.join(self.repo_path).join(&name), &name).unwrap();
                match self.call("git_add", json!({"files": [&name]})).await? {
                    Ok(_) => {}
                    Err(code) => {
                        accepted(&code, &["operation_in_progress"]);
                        return Some(());
                    }
                }
                match self.call("git_commit", json!({"message": &name})).await? {
                    Ok(answer) => self.committed.push((answer["commit"].as_str().unwrap().parse().unwrap(), name)),
                    Err(code) => accepted(&code, &["nothing_to_commit", "operation_in_progress"]),
                }
            }
            Step::Merge => match self.call("git_merge", json!({"source": self.other})).await? {
                Ok(answer) => self.committed.push((answer["commit"].as_str().unwrap().parse().unwrap(), String::new())),
                Err(code) => accepted(&code, &[]),
            },
            Step::Push => match self.call("git_push", json!({"branch": self.branch})).await? {
                Ok(answer) => self.pushed = Some(answer["new"].as_str().unwrap().parse().unwrap()),
                Err(code) => accepted(&code, &[]),
            },
        }
        Some(())
    }

    /// Takes `steps`, and is killed after `kill`; returns whether it was.
    async fn round(&mut self, world: &World, steps: Vec<Step>, kill: Option<Duration>) -> bool {
        let work = world.work();
        let started = Instant::now();
        let count = u32::try_from(steps.len()).unwrap();
        let killed = {
            let all = async {
                for step in steps {
                    self.step(step, &work).await.expect("nobody else kills it");
                }
            };
            tokio::select! {
                () = all => false,
                () = tokio::time::sleep(kill.unwrap_or(Duration::MAX / 4)) => true,
            }
        };
        if killed {
            self.server.kill().await;
            self.server = world.start();
        } else {
            self.step_takes = (self.step_takes * 3 + started.elapsed() / count) / 4;
        }
        killed
    }

    /// Goes on after a kill: whatever is in the way is explained, and gone at the next try.
    async fn settle(&mut self) -> u32 {
        let mut explained = 0;
        loop {
            let status = self.call("git_status", json!({})).await.unwrap();
            status.unwrap_or_else(|code| panic!("status of {} after a kill: {code}", self.branch));
            let added = self.call("git_add", json!({"files": ["."]})).await.unwrap();
            let done = match added {
                Ok(_) => self.call("git_commit", json!({"message": format!("{} settles", self.branch)})).await.unwrap(),
                Err(code) => Err(code),
            };
            match done {
                Ok(answer) => {
                    self.committed.push((answer["commit"].as_str().unwrap().parse().unwrap(), String::new()));
                    return explained;
                }
                Err(code) if code == "nothing_to_commit" => return explained,
                Err(code) if EXPLAINED.contains(&&*code) && explained < 3 => {
                    explained += 1;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                Err(code) => panic!("{} is stuck: {code}", self.branch),
            }
        }
    }
}

/// Every lock in a git directory.
fn locks(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|extension| extension == "lock") {
                // libgit2 gives each pack that it writes a name of its own: nobody waits for what is left of one.
                if !entry.file_name().to_string_lossy().starts_with("pack_git2_") {
                    found.push(entry.path());
                }
            }
        }
    }
    found
}

fn fsck(folder: &Path) {
    let output = Command::new("git").args(["fsck", "--full", "--strict"]).current_dir(folder).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !text.contains("error"), "{}: {text}", folder.display());
}

/// Checks that no commit that was answered for is lost, here or at the remote.
fn nothing_is_lost(world: &World, remote: &Repository, workers: &[Worker]) {
    let repository = world.repository();
    for worker in workers {
        let tip: Oid = world.tip(worker.branch).parse().unwrap();
        for (commit, _) in &worker.committed {
            assert!(
                tip == *commit || repository.graph_descendant_of(tip, *commit).unwrap(),
                "{commit} of {} is lost",
                worker.branch
            );
        }
        if let Some(pushed) = worker.pushed {
            let there = remote.refname_to_id(&format!("refs/heads/{}", worker.branch)).unwrap();
            assert!(there == pushed || repository.graph_descendant_of(there, pushed).unwrap(), "{pushed} is lost");
        }
        let tree = repository.find_commit(tip).unwrap().tree().unwrap();
        for (_, name) in worker.committed.iter().filter(|(_, name)| !name.is_empty()) {
            assert!(tree.get_name(name).is_some(), "{name} is lost");
        }
    }
}

#[tokio::test]
async fn two_processes_that_are_killed_lose_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("TOLLGATE_GIT_ROUNDS").map(|rounds| usize::try_from(rounds).unwrap());
    let seed = number("TOLLGATE_GIT_SEED").unwrap_or(20_261_128);
    println!("seed {seed}");
    let mut numbers = Numbers(seed);
    let world = World::new();
    world.git(&["worktree", "add", "-q", "-b", "topic", "tree"]);
    world.git(&["clone", "-q", "--bare", ".", "remote.git"]);
    world.git(&["remote", "add", "origin", &world.work().join("remote.git").display().to_string()]);
    fs::write(world.work().join(".git/info/exclude"), "remote.git\ntree\n.tollgate\n").unwrap();
    let remote = Repository::open_bare(world.work().join("remote.git")).unwrap();
    let protected = |repository: &Repository| {
        let mut all = refs(repository);
        all.retain(|name, _| ["refs/heads/main", "refs/heads/production", "refs/heads/release/1.2"].contains(&&**name));
        all
    };
    let before = (protected(&world.repository()), protected(&remote));
    let mut workers = [Worker::new(&world, ".", "feature", "topic"), Worker::new(&world, "tree", "topic", "feature")];
    let started = Instant::now();
    let (mut kills, mut explained, mut round) = (0, 0, 0);
    while round < rounds.unwrap_or(ROUNDS_MAX)
        && (rounds.is_some() || round < ROUNDS_MIN || started.elapsed() < ROUNDS_FOR)
    {
        round += 1;
        let mut plan = |worker: &Worker| {
            let steps: Vec<Step> = (0..=numbers.below(3))
                .map(|_| match numbers.below(5) {
                    0 | 1 => Step::Commit,
                    2 | 3 => Step::Merge,
                    _ => Step::Push,
                })
                .collect();
            let all = worker.step_takes.as_micros() as u64 * steps.len() as u64;
            // One in four is left alone; the others are killed anywhere between the first step and after the last.
            let kill = (numbers.below(4) > 0).then(|| Duration::from_micros(numbers.below(all * 5 / 4)));
            (steps, kill)
        };
        let plans = [plan(&workers[0]), plan(&workers[1])];
        let [first, second] = &mut workers;
        let [(first_steps, first_kill), (second_steps, second_kill)] = plans;
        let (a, b) =
            tokio::join!(first.round(&world, first_steps, first_kill), second.round(&world, second_steps, second_kill));
        kills += usize::from(a) + usize::from(b);
        for worker in &mut workers {
            explained += worker.settle().await;
        }
        nothing_is_lost(&world, &remote, &workers);
        assert_eq!((protected(&world.repository()), protected(&remote)), before, "round {round} of seed {seed}");
        if round % FSCK_EVERY == 0 {
            fsck(&world.work());
            fsck(remote.path());
        }
    }
    // Both push once more: locks that a killed push left at the remote are gone after it.
    for worker in &mut workers {
        for _ in 0..4 {
            worker.step(Step::Push, &world.work()).await.unwrap();
        }
        worker.settle().await;
    }
    let left = [locks(&world.work().join(".git")), locks(remote.path())].concat();
    assert!(left.is_empty(), "{left:?}");
    nothing_is_lost(&world, &remote, &workers);
    fsck(&world.work());
    fsck(remote.path());
    for folder in [world.work(), world.work().join("tree")] {
        let status = Command::new("git").args(["status", "--porcelain"]).current_dir(&folder).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&status.stdout), "", "{}", folder.display());
    }
    let names: Vec<String> =
        world.git(&["log", "--no-merges", "--format=%s", "feature", "topic"]).lines().map(str::to_owned).collect();
    let once: BTreeSet<&String> = names.iter().filter(|name| !name.ends_with("settles")).collect();
    assert_eq!(once.len(), names.iter().filter(|name| !name.ends_with("settles")).count(), "a commit was made twice");
    let commits: usize = workers.iter().map(|worker| worker.committed.len()).sum();
    println!(
        "{round} rounds in {:.0?}: {kills} kills, {commits} commits answered for, {explained} locks explained and resolved",
        started.elapsed()
    );
    assert!(kills > 0 && commits > 0);
}
