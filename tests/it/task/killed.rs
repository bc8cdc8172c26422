//! `kill -9` at random points of a task of thirty calls: what is resumed ends as if nothing had happened.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_shared::money::Money;

use super::world::World;

/// Rounds when nothing is said; `TOLLGATE_KILL_ROUNDS=300` is the long run.
const ROUNDS_DEFAULT: u64 = 4;

/// Most kills of one round; after them it is left alone.
const KILLS_MAX: usize = 4;

/// Thirty calls, most of which would show if they were made twice, or not at all.
fn script() -> Value {
    let mut turns =
        vec![json!({"tool": "tollgate__write_file", "arguments": {"path": "log.py", "content": "LOG = [\n]\n"}})];
    for number in 0..7 {
        // A line is added: once more would add it twice.
        let edit = json!({"path": "log.py", "old": "]\n", "new": format!("    {number},\n]\n")});
        turns.push(json!({"tool": "tollgate__edit_file", "arguments": edit}));
        turns.push(json!({"tool": "git__git_add", "arguments": {"files": ["log.py"]}}));
        turns.push(json!({"tool": "git__git_commit", "arguments": {"message": format!("step {number}")}}));
        turns.push(json!({"tool": "git__git_status"}));
    }
    turns.push(json!({"tool": "ralph__verify_file", "arguments": {"path": "log.py"}}));
    json!({ "turns": turns })
}

/// Numbers that only depend on the seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// The servers of `parent` that run now.
fn servers(parent: u32) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let of_threads = std::fs::read_dir(format!("/proc/{parent}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let all: Vec<String> = of_threads.chain([children]).collect();
    all.iter().flat_map(|text| text.split_whitespace()).filter_map(|pid| pid.parse().ok()).collect()
}

/// Starts the task or goes on with it, and kills the orchestrator or one of its servers after a while; whether it ended
/// by itself.
fn run_and_kill(world: &World, id: Option<&str>, after: Duration, server: Option<u64>) -> bool {
    let arguments = match id {
        None => vec!["run", "--task", "x", "--agent", "scripted:script.json", "--accept", "true"],
        Some(id) => vec!["run", "--resume", id],
    };
    let mut running = world.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while began.elapsed() < after {
        if running.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    if let Some(which) = server {
        let servers = servers(running.id());
        if let Some(pid) = servers.get(usize::try_from(which).unwrap() % servers.len().max(1)) {
            let pid = rustix::process::Pid::from_raw(*pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        return running.wait().unwrap().success();
    }
    running.kill().unwrap();
    running.wait().unwrap();
    false
}

#[test]
fn killed_and_resumed_task_ends_as_if_nothing_had_happened() {
    let rounds = std::env::var("TOLLGATE_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let first: u64 = std::env::var("TOLLGATE_KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let undisturbed = World::new();
    undisturbed.script(&script());
    let began = Instant::now();
    let (events, code) = undisturbed.run(&["--task", "x", "--accept", "true"]);
    assert_eq!(code, 0, "{events:#?}");
    let took = u64::try_from(began.elapsed().as_millis()).unwrap();
    let expected = outcome(&undisturbed);
    for seed in first..first + rounds.unwrap_or(ROUNDS_DEFAULT) {
        let mut random = Random(seed);
        let world = World::new();
        world.script(&script());
        let mut id: Option<String> = None;
        for kill in 0.. {
            let after = if kill < KILLS_MAX { random.below(took) } else { 120_000 };
            let server = (random.below(3) == 0).then(|| random.below(8));
            let ended = run_and_kill(&world, id.as_deref(), Duration::from_millis(after), server);
            let sessions = world.sessions();
            id = sessions.first().map(|session| session["id"].as_str().unwrap().to_owned());
            if sessions.first().is_some_and(|session| session["phase"] == "done") {
                break;
            }
            assert!(!ended || kill < KILLS_MAX, "seed {seed}: {:#?}", sessions);
        }
        assert_eq!(outcome(&world), expected, "seed {seed}: {}", world.text(&["sessions", "show", &id.unwrap()]));
    }
}

/// What must be the same whatever happened on the way.
fn outcome(world: &World) -> Value {
    let session = world.sessions().remove(0);
    let (id, branch) = (session["id"].as_str().unwrap(), session["branch"].as_str().unwrap());
    let exported = world.json(&["sessions", "export", id]);
    // Verification is made again by each process that goes on; what the agent wanted is not.
    let is_agents = |call: &&Value| call["slot"].as_str().unwrap().starts_with(|first: char| first.is_ascii_digit());
    let calls: Vec<&Value> = exported["calls"].as_array().unwrap().iter().filter(is_agents).collect();
    // The ledger has every receipt that the session has, and no other that cost anything.
    let costs = world.json(&["costs", "--by", "task", "--format", "json"]);
    assert_eq!(costs["groups"][id]["amount"], session["cost_usd"], "{costs}");
    assert!(session["cost_usd"].as_str().unwrap().parse::<Money>().unwrap() > Money::ZERO);
    assert!(world.command(&["audit", "verify"]).output().unwrap().status.success());
    world.git(&["fsck", "--strict"]);
    json!({
        "tree": world.git(&["rev-parse", &format!("{branch}^{{tree}}")]),
        "subjects": world.git(&["log", "--format=%s", branch]),
        "answered": calls.iter().filter(|call| call["answer"]["outcome"] == "ok").count(),
        "calls": calls.len(),
        "main": world.checkout().lines().skip(1).collect::<Vec<_>>(),
    })
}
