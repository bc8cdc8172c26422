//! `--agent acp:NAME`: an agent of somebody else's, confined, with the task's tools.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Signal, kill_process, test_kill_process};
use serde_json::Value;
use tollgate_shared::money::Money;
use tollgate_tests::provider::KEY;
use tollgate_tests::world::program;

use super::killed::processes_of_agent;
use super::world::World;

const RIGHT: &str = "def add(a, b):\n    return a + b\n";

fn agent(world: &World, mode: &str, more: &str) {
    let config = format!(
        "[orchestrator]\nservers = [\"git\", \"ralph\"]\n\n[agents.fixture]\ncommand = \"{}\"\nenv = {{ ACP_FIXTURE = \"{mode}\" }}\n\
         env_pass = [\"FAKE_KEY\"]\n{more}\n",
        program("acp-fixture").display()
    );
    fs::write(world.path().join("tollgate.toml"), config).unwrap();
}

fn run(world: &World, arguments: &[&str]) -> (Vec<Value>, i32) {
    let mut command = world.command(&["run", "--format", "json", "--agent", "acp:fixture", "--task", "Make add work"]);
    world.events_of(command.args(arguments).env("FAKE_KEY", KEY).env("NOT_PASSED", "x"))
}

fn said(events: &[Value]) -> String {
    events.iter().filter(|event| event["event"] == "said").map(|event| event["text"].as_str().unwrap()).collect()
}

fn usd(value: &Value) -> Money {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn another_agent_does_the_task_with_our_tools_until_it_is_verified() {
    does_the_task("good");
}

#[test]
fn agent_that_takes_no_servers_over_http_does_it_with_the_same_tools_over_stdio() {
    does_the_task("good+stdio");
}

fn does_the_task(mode: &str) {
    let world = World::new();
    agent(&world, mode, "");
    let before = world.checkout();
    let (events, code) = run(&world, &["--accept", "grep -q 'a + b' calc.py"]);
    assert_eq!(code, 0, "{events:#?}");
    let end = events.last().unwrap();
    assert_eq!(world.git(&["show", &format!("{}:calc.py", end["commit"].as_str().unwrap())]), RIGHT);
    assert_eq!(world.checkout(), before);
    let said = said(&events);
    for part in [
        "calc.py was \"def add(a, b):\\n    return 0\\n\"",
        "outside: -32602",
        "edit: \"yes\"",
        "fetch: \"no\"",
        "switch_mode: \"no\"",
        "push: \"unknown_tool\"",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    // What it called is written down and charged, and so is what it says it cost itself.
    let calls: Vec<&str> = events.iter().filter_map(|event| event["call"]["tool"].as_str()).collect();
    assert!(calls.contains(&"tollgate__write_file"), "{calls:?}");
    let costs = world.json(&["costs", "--by", "model", "--format", "json"]);
    assert_eq!(usd(&costs["groups"]["acp/fixture"]["amount"]), "0.03".parse().unwrap(), "{costs}");
    let id = world.sessions()[0]["id"].as_str().unwrap().to_owned();
    let by_task = world.json(&["costs", "--by", "task", "--format", "json"]);
    assert_eq!(by_task["groups"][&id]["amount"], end["cost_usd"]);
    let shown = world.text(&["sessions", "show", &id]);
    assert!(shown.contains("tollgate__write_file") && shown.contains("outside: "), "{shown}");
}

#[test]
fn agent_reaches_nothing_but_its_working_tree_and_its_tools() {
    reaches_nothing_else("escape");
}

#[test]
fn agent_with_its_tools_over_stdio_reaches_nothing_else_either() {
    reaches_nothing_else("escape+stdio");
}

fn reaches_nothing_else(mode: &str) {
    let world = World::new();
    agent(&world, mode, "");
    let (events, code) = run(&world, &[]);
    assert_eq!(code, 0, "{events:#?}");
    assert_eq!(said(&events), "succeeded: []");
    assert!(!std::path::Path::new("/var/tmp/acp-fixture-was-here").exists());
    // It said nothing about its cost: all that was set aside for its turn counts.
    let costs = world.json(&["costs", "--by", "sku", "--format", "json"]);
    assert_eq!(usd(&costs["groups"]["model.acp/fixture.unreported"]["amount"]), "2".parse().unwrap(), "{costs}");
}

#[test]
fn bridge_carries_lines_for_whoever_has_the_token_and_holds_none_of_them() {
    let world = World::new();
    agent(&world, "bridges+stdio", "");
    let (events, _) = run(&world, &["--iterations", "1"]);
    let said = said(&events);
    for part in [
        "token on the command line: false. ",
        "no token: Some(1): orchestrator: bridge: wrong_token: ",
        "another token: Some(1): orchestrator: bridge: wrong_token: ",
        "a header for a token: Some(1): orchestrator: bridge: wrong_token: ",
        "no address: Some(2): orchestrator: bridge: TOLLGATE_BRIDGE_ADDRESS is not set",
        "nobody there: Some(1): orchestrator: bridge: tools_unreachable: ",
        "20 MB: -32600: \"the line is longer than 16777216 bytes\". after it: true. it held less than 4 MB more than another: true. \
         its end: Some(0). ",
        "the last answer: \"last\". its end: Some(0). ",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}

#[test]
fn turn_that_costs_too_much_is_cancelled_and_paid_for() {
    let world = World::new();
    agent(&world, "greedy", "turn_usd = \"0.5\"");
    let (events, code) = run(&world, &[]);
    let end = events.last().unwrap();
    assert_eq!((end["ending"].as_str(), code), (Some("budget"), 1), "{end}");
    assert_eq!(usd(&end["cost_usd"]).max("5".parse().unwrap()), usd(&end["cost_usd"]), "{end}");
    // A turn for which there is no money is not begun.
    let (events, _) = run(&world, &["--budget", "0.001"]);
    assert_eq!(events.last().unwrap()["ending"], "budget");
    assert_eq!(said(&events), "");
}

#[test]
fn agent_that_cannot_be_used_says_why_and_tells_no_secret() {
    let world = World::new();
    agent(&world, "dies", "");
    let (events, code) = run(&world, &[]);
    let end = events.last().unwrap();
    assert_eq!((end["ending"].as_str(), code), (Some("failed"), 1), "{end}");
    let reason = end["reason"].as_str().unwrap();
    assert!(reason.contains("exit code 3") && !reason.contains(KEY), "{reason}");
    let world = World::new();
    agent(&world, "good", "");
    let failed = |agent: &str| {
        let output = world.command(&["run", "--task", "x", "--agent", agent]).env("FAKE_KEY", KEY).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(failed("acp:fixtur").contains("did you mean `fixture`"), "{}", failed("acp:fixtur"));
    let output =
        world.command(&["run", "--task", "x", "--agent", "acp:fixture"]).env_remove("FAKE_KEY").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("FAKE_KEY is not set"));
    assert!(world.sessions().is_empty());
}

#[test]
fn killed_with_its_agent_at_work_it_goes_on_when_nothing_of_it_is_left() {
    killed_at_work("endless", |orchestrator| orchestrator.kill().unwrap());
}

#[test]
fn agent_that_is_killed_at_work_ends_the_run_and_the_task_goes_on_with_another() {
    killed_at_work("endless+stdio", |orchestrator| {
        let processes = processes_of_agent(orchestrator.id());
        let [agent, bridge] = processes[..] else { panic!("no agent with a bridge: {processes:?}") };
        kill_process(agent, Signal::KILL).unwrap();
        assert_eq!(orchestrator.wait().unwrap().code(), Some(1));
        assert_eq!(test_kill_process(bridge), Err(Errno::SRCH), "its bridge outlives it");
    });
}

/// Has an agent begin, has `kill` end it or the orchestrator, and goes on.
fn killed_at_work(mode: &str, kill: impl Fn(&mut Child)) {
    let world = World::new();
    agent(&world, mode, "");
    let mut running = world
        .command(&["run", "--task", "Make add work", "--agent", "acp:fixture"])
        .env("FAKE_KEY", KEY)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let worktrees = world.path().join(".tollgate/worktrees");
    let alive = || fs::read_dir(&worktrees).ok()?.flatten().next().map(|entry| entry.path().join("alive"));
    let began = Instant::now();
    while !alive().is_some_and(|alive| alive.exists()) {
        assert!(began.elapsed() < Duration::from_secs(60), "the agent did not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill(&mut running);
    running.wait().unwrap();
    let id = world.sessions()[0]["id"].as_str().unwrap().to_owned();
    let mut command = world.command(&["run", "--format", "json", "--resume", &id]);
    let (events, code) = world.events_of(command.env("FAKE_KEY", KEY));
    assert_eq!(code, 0, "{events:#?}");
    // The daemon that it left would still touch this file.
    let alive = alive().unwrap();
    let modified = || fs::metadata(&alive).unwrap().modified().unwrap();
    let before = modified();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(modified(), before, "something of the agent is still at work");
    let end = events.last().unwrap();
    let by_task = world.json(&["costs", "--by", "task", "--format", "json"]);
    assert_eq!(by_task["groups"][&id]["amount"], end["cost_usd"]);
}
