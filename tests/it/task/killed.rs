//! `kill -9` at random points of a task of thirty calls: what is resumed ends as if nothing had happened.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tollgate_shared::money::Money;

use tollgate_tests::world::program;

use super::world::World;

/// Rounds when nothing is said; `TOLLGATE_KILL_ROUNDS=300` is the long run.
const ROUNDS_DEFAULT: u64 = 4;

/// Longest that it takes when nobody is killed any more, however busy the machine is.
const LEFT_ALONE: Duration = Duration::from_secs(120);

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

/// The children of `parent` that run now: of an orchestrator its servers, and what keeps its agent.
fn children(parent: u32) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let of_threads = std::fs::read_dir(format!("/proc/{parent}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let all: Vec<String> = of_threads.chain([children]).collect();
    let all = all.iter().flat_map(|text| text.split_whitespace()).filter_map(|pid| pid.parse().ok());
    all.collect::<BTreeSet<i32>>().into_iter().collect()
}

/// The processes of the agent of `orchestrator` that run now: its program first, then the bridge to its tools, if it
/// started one.
pub fn processes_of_agent(orchestrator: u32) -> Vec<Pid> {
    let of = |pid: i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        if arguments[0].ends_with(b"/acp-fixture") {
            Some((0, pid))
        } else if arguments.get(1) == Some(&b"bridge".as_slice()) {
            Some((1, pid))
        } else {
            None
        }
    };
    let mut below = children(orchestrator);
    let mut found = Vec::new();
    while let Some(pid) = below.pop() {
        found.extend(of(pid));
        below.extend(children(u32::try_from(pid).unwrap()));
    }
    found.sort_unstable();
    found.into_iter().filter_map(|(_, pid)| Pid::from_raw(pid)).collect()
}

/// Who is killed.
enum Victim {
    Orchestrator,
    /// One of its servers, or of what else it started itself.
    Server(u64),
    /// A process of its agent's.
    Agent(u64),
}

impl Victim {
    fn number(&self) -> usize {
        match self {
            Self::Orchestrator => 0,
            Self::Server(_) => 1,
            Self::Agent(_) => 2,
        }
    }

    /// Kills it; whether it was there.
    fn kill(&self, orchestrator: &Child) -> bool {
        let (which, candidates) = match self {
            Self::Orchestrator => (0, vec![Pid::from_child(orchestrator)]),
            Self::Server(which) => {
                (*which, children(orchestrator.id()).into_iter().filter_map(Pid::from_raw).collect())
            }
            Self::Agent(which) => (*which, processes_of_agent(orchestrator.id())),
        };
        let victim = candidates.get(usize::try_from(which).unwrap() % candidates.len().max(1));
        victim.is_some_and(|pid| kill_process(*pid, Signal::KILL).is_ok())
    }
}

/// Starts the task or goes on with it, and kills somebody after a while; whether it ended by itself, and whether somebody
/// was killed.
fn run_and_kill(world: &World, agent: &str, id: Option<&str>, after: Duration, victim: &Victim) -> (bool, bool) {
    let arguments = match id {
        None => vec!["run", "--task", "x", "--agent", agent, "--accept", "true"],
        Some(id) => vec!["run", "--resume", id],
    };
    let mut running = world.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while began.elapsed() < after {
        if running.try_wait().unwrap().is_some() {
            return (true, false);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut killed = victim.kill(&running);
    let began = Instant::now();
    loop {
        if let Some(status) = running.try_wait().unwrap() {
            return (status.success(), killed);
        }
        // An agent that is not there yet is killed at its beginning.
        killed = killed || victim.kill(&running);
        assert!(began.elapsed() < LEFT_ALONE, "{id:?} does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn killed_and_resumed_task_ends_as_if_nothing_had_happened() {
    rounds(
        "scripted:script.json",
        |_| {},
        |random| {
            if random.below(3) == 0 { Victim::Server(random.below(8)) } else { Victim::Orchestrator }
        },
    );
}

#[test]
fn task_whose_agent_is_killed_too_ends_as_if_nothing_had_happened() {
    for mode in ["script", "script+stdio"] {
        let configure = |world: &World| another_agent(world, mode);
        let kills = rounds("acp:fixture", configure, |random| match random.below(4) {
            0 => Victim::Orchestrator,
            1 => Victim::Server(random.below(8)),
            _ => Victim::Agent(random.below(2)),
        });
        assert!(kills[2] > 0, "no agent was killed");
    }
}

/// An agent of somebody else's that does the calls of the script itself.
fn another_agent(world: &World, mode: &str) {
    let script = world.path().join("script.json");
    let config = format!(
        "[orchestrator]\nservers = [\"git\", \"ralph\"]\n\n[agents.fixture]\ncommand = \"{}\"\nreadable = [\"script.json\"]\n\
         turn_usd = \"0.02\"\nenv = {{ ACP_FIXTURE = \"{mode}\", ACP_SCRIPT = \"{}\" }}\n",
        program("acp-fixture").display(),
        script.display()
    );
    std::fs::write(world.path().join("tollgate.toml"), config).unwrap();
}

/// Has `agent` do the task undisturbed, and then again and again with whom `victim` chooses killed: it ends the same.
///
/// Returns how many were killed, by who they were.
fn rounds(agent: &str, configure: impl Fn(&World), victim: impl Fn(&mut Random) -> Victim) -> [u32; 3] {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (count, first) = (number("TOLLGATE_KILL_ROUNDS"), number("TOLLGATE_KILL_SEED").unwrap_or(1));
    let begin = || {
        let world = World::new();
        world.script(&script());
        configure(&world);
        world
    };
    let undisturbed = begin();
    let began = Instant::now();
    let output = undisturbed.command(&["run", "--task", "x", "--agent", agent, "--accept", "true"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let took = u64::try_from(began.elapsed().as_millis()).unwrap();
    let expected = outcome(&undisturbed);
    let mut kills = [0; 3];
    for seed in first..first + count.unwrap_or(ROUNDS_DEFAULT) {
        let mut random = Random(seed);
        let world = begin();
        let mut id: Option<String> = None;
        for kill in 0.. {
            let after = if kill < KILLS_MAX { Duration::from_millis(random.below(took)) } else { LEFT_ALONE };
            let victim = victim(&mut random);
            let (ended, killed) = run_and_kill(&world, agent, id.as_deref(), after, &victim);
            kills[victim.number()] += u32::from(killed);
            let sessions = world.sessions();
            id = sessions.first().map(|session| session["id"].as_str().unwrap().to_owned());
            if sessions.first().is_some_and(|session| session["phase"] == "done") {
                break;
            }
            assert!(!ended || kill < KILLS_MAX, "seed {seed}: {:#?}", sessions);
        }
        assert_eq!(outcome(&world), expected, "seed {seed}: {}", world.text(&["sessions", "show", &id.unwrap()]));
    }
    let [orchestrators, servers, agents] = kills;
    eprintln!(
        "{agent}: {} rounds from seed {first}, {orchestrators} orchestrators, {servers} servers and {agents} processes of \
         agents killed, {:?}",
        count.unwrap_or(ROUNDS_DEFAULT),
        began.elapsed()
    );
    kills
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
    // What an agent called itself is in the order of its own going on: no effect was answered for twice.
    let mut effects = BTreeSet::new();
    let by_agent = exported["calls"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|call| call["slot"].as_str().unwrap().starts_with("agent."));
    for call in
        by_agent.filter(|call| ["tollgate__edit_file", "git__git_commit"].contains(&call["tool"].as_str().unwrap()))
    {
        let is_again = call["answer"]["outcome"] == "ok" && !effects.insert(call["arguments"].to_string());
        assert!(!is_again, "carried out twice: {call}");
    }
    json!({
        "tree": world.git(&["rev-parse", &format!("{branch}^{{tree}}")]),
        "subjects": world.git(&["log", "--format=%s", branch]),
        "answered": calls.iter().filter(|call| call["answer"]["outcome"] == "ok").count(),
        "calls": calls.len(),
        "main": world.checkout().lines().skip(1).collect::<Vec<_>>(),
    })
}
