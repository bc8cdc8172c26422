//! `orchestrator run --task`: an agent in a working tree of its own, whose word counts for nothing.

mod acp;
pub(crate) mod killed;
mod model;
mod team;
pub(crate) mod world;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};
use tollgate_shared::money::Money;

use tollgate_tests::world::program;
use world::World;

const BROKEN: &str = "def add(a, b):\n    return a +\n";
const RIGHT: &str = "def add(a, b):\n    return a + b\n";

fn write(path: &str, content: &str) -> Value {
    json!({"tool": "tollgate__write_file", "arguments": {"path": path, "content": content}})
}

#[test]
fn findings_go_back_until_it_is_done_and_the_commit_says_how() {
    let world = World::new();
    world.script(&json!({
        "agent": {"name": "fixer-1", "role": "bugfix"},
        "turns": [write("calc.py", BROKEN)],
        "then": [[write("calc.py", "def add(a, b):\n    return a - b\n")], [write("calc.py", RIGHT)]],
    }));
    let before = world.checkout();
    let accept = "sh -c 'grep -q \"a + b\" calc.py || { echo wrong sum; exit 1; }'";
    let (events, code) = world.run(&["--task", "Make add work\n\nIt must add.", "--accept", accept]);
    assert_eq!(code, 0, "{events:#?}");
    let verdicts: Vec<&Value> = events.iter().filter(|event| event["event"] == "verdict").collect();
    let decisions: Vec<&str> = verdicts.iter().map(|event| event["verdict"]["decision"].as_str().unwrap()).collect();
    assert_eq!(decisions, ["again", "again", "done"]);
    let findings = verdicts[0]["verdict"]["findings"].to_string();
    assert!(findings.contains("calc.py:2: syntax"), "{findings}");
    assert!(verdicts[1]["verdict"]["findings"].to_string().contains("wrong sum"), "{}", verdicts[1]);

    let end = events.last().unwrap();
    let (commit, branch) = (end["commit"].as_str().unwrap(), end["branch"].as_str().unwrap());
    assert_eq!(world.git(&["rev-parse", branch]).trim(), commit);
    assert_eq!(world.git(&["show", &format!("{commit}:calc.py")]), RIGHT);
    let message = world.git(&["log", "-1", "--format=%B", commit]);
    let id = world.sessions()[0]["id"].as_str().unwrap().to_owned();
    for trailer in ["Agent: fixer-1", "Agent-Role: bugfix", &format!("Task: {id}"), "Tollgate-Iterations: 3"] {
        assert!(message.contains(trailer), "{trailer} is not in {message}");
    }
    assert!(message.starts_with("Make add work\n\nIt must add."), "{message}");
    assert_eq!(world.checkout(), before, "the user's own checkout changed");

    // What the session says it cost is what the ledger says.
    let costs = world.json(&["costs", "--by", "task", "--format", "json"]);
    assert_eq!(costs["groups"][&id]["amount"], end["cost_usd"], "{costs}");
    assert!(end["cost_usd"].as_str().unwrap().parse::<Money>().unwrap() > Money::ZERO);
    let shown = world.text(&["sessions", "show", &id]);
    for part in ["wrong sum", "tollgate__write_file", "verdict pass: done", commit] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    let exported = world.json(&["sessions", "export", &id]);
    assert_eq!(exported["verdicts"].as_array().unwrap().len(), 3);
    assert_eq!(exported["session"]["base_commit"], world.git(&["rev-parse", "HEAD"]).trim());
    world.text(&["sessions", "archive", &id]);
    assert!(world.sessions().is_empty());
    assert!(!world.command(&["run", "--resume", &id]).output().unwrap().status.success(), "it is done");
}

#[test]
fn claims_count_for_nothing_and_the_same_findings_three_times_are_stuck() {
    let world = World::new();
    world.script(&json!({"turns": [write("calc.py", BROKEN)]}));
    let (events, code) = world.run(&["--task", "x"]);
    let end = events.last().unwrap();
    assert_eq!((end["ending"].as_str(), code), (Some("stuck"), 1), "{end}");
    assert_eq!(end["commit"], Value::Null);
    assert_eq!(events.iter().filter(|event| event["event"] == "verdict").count(), 3);

    // Having done nothing is not done either.
    world.script(&json!({"turns": [{"tool": "git__git_status"}]}));
    let (events, _) = world.run(&["--task", "x", "--accept", "true", "--iterations", "2"]);
    assert_eq!(events.last().unwrap()["ending"], "iterations", "{events:#?}");
}

#[test]
fn guardrails_stop_the_task_for_a_person() {
    let world = World::new();
    world.script(&json!({"turns": [
        {"tool": "tollgate__delete_file", "arguments": {"path": "tests/test_calc.py"}}, write("calc.py", RIGHT)]}));
    let (events, _) = world.run(&["--task", "x", "--accept", "true"]);
    let end = events.last().unwrap();
    assert_eq!(end["ending"], "blocked", "{end}");
    assert!(end["reason"].as_str().unwrap().contains("test_calc.py"), "{end}");
}

#[test]
fn task_stays_in_its_worktree_and_its_tools() {
    let world = World::new();
    let refused = |tool: &str, arguments: Value, outcome: &str, code: &str| json!({"tool": tool, "arguments": arguments, "expect": {"outcome": outcome, "code": code}});
    let main = world.path().display().to_string();
    world.script(&json!({"turns": [
        refused("git__git_push", json!({}), "refused", "unknown_tool"),
        refused("git__git_checkout", json!({"branch_name": "main"}), "refused", "unknown_tool"),
        refused("deploy__deploy", json!({}), "refused", "unknown_tool"),
        refused("git__git_commit", json!({"repo_path": main, "message": "x"}), "refused", "outside_worktree"),
        refused("ralph__verify_file", json!({"path": "../../../calc.py"}), "refused", "outside_worktree"),
        refused("tollgate__read_file", json!({"path": "../../ledger.db"}), "failed", "outside_worktree"),
        refused("tollgate__write_file", json!({"path": ".git", "content": "gitdir: /"}), "failed", "outside_worktree"),
        write("calc.py", RIGHT),
        {"tool": "ralph__verify_file", "arguments": {"path": "calc.py"}, "expect": {"answer": {"verdict": "pass"}}},
        {"tool": "git__git_status"},
    ]}));
    let before = world.checkout();
    let (events, code) = world.run(&["--task", "x", "--accept", "sh -c 'test ! -e .git'"]);
    assert_eq!(code, 0, "{events:#?}");
    let status = events.iter().find(|event| event["call"]["tool"] == "git__git_status").unwrap();
    let repository = status["call"]["answer"]["structured"]["repository"].as_str().unwrap();
    assert!(repository.contains(".tollgate/worktrees/task-"), "{status}");
    assert_eq!(world.checkout(), before);
}

#[test]
fn server_that_dies_at_its_start_is_started_again_and_one_that_never_lives_is_named() {
    let world = World::new();
    world.script(&json!({"turns": [write("calc.py", RIGHT), {"tool": "late__echo", "arguments": {"text": "here"}}]}));
    let config = world.path().join("tollgate.toml");
    let house = fs::read_to_string(&config).unwrap();
    // The first of its lives ends before it says anything, as if it were killed.
    let lives = format!("mkdir secret 2>/dev/null && exit 1; exec {}", program("mcp-fixture").display());
    fs::write(&config, format!("{house}\n[servers.late]\ncommand = \"sh\"\nargs = [\"-c\", {lives:?}]\n")).unwrap();
    let (events, code) = world.run(&["--task", "x"]);
    assert_eq!(code, 0, "{events:#?}");
    assert!(world.path().join("secret").is_dir(), "it had one life only");

    fs::write(&config, format!("{house}\n[ralph]\nno_such_key = 1\n")).unwrap();
    let output = world.command(&["run", "--task", "x", "--agent", "scripted:script.json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("a task needs the server `ralph`") && said.contains("no_such_key"), "{said}");
}

#[test]
fn what_was_changed_while_nobody_was_at_work_is_verified_before_it_is_committed() {
    let world = World::new();
    world.script(&json!({"turns": [write("calc.py", RIGHT)], "then": [[write("calc.py", RIGHT)]]}));
    // As a process leaves it that is killed after the verdict, and before the commit.
    for phase in ["committing", "verifying"] {
        let (events, _) = world.run(&["--task", "x", "--accept", "true", "--budget", "0.0004"]);
        assert_eq!(events.last().unwrap()["ending"], "budget", "{events:#?}");
        let id = events[0]["id"].as_str().unwrap();
        world.leave_in_phase(id, phase);
        let worktree = world.path().join(".tollgate/worktrees").join(id);
        fs::write(worktree.join("calc.py"), BROKEN).unwrap();
        let (events, code) = world.resume(id, &["--budget", "1"]);
        assert_eq!(code, 0, "{events:#?}");
        let end = events.last().unwrap();
        let verdicts: Vec<&Value> = events.iter().filter(|event| event["event"] == "verdict").collect();
        assert_eq!(verdicts[0]["verdict"]["decision"], "again", "{phase}: {verdicts:#?}");
        assert_eq!(world.git(&["show", &format!("{}:calc.py", end["commit"].as_str().unwrap())]), RIGHT, "{phase}");
    }
}

#[test]
fn budget_stops_before_it_is_overspent_and_more_of_it_goes_on() {
    let world = World::new();
    world.script(&json!({"turns": [
        write("calc.py", RIGHT),
        {"tool": "git__git_add", "arguments": {"files": ["."]}},
        {"tool": "git__git_commit", "arguments": {"message": "add"}},
    ]}));
    let (events, code) = world.run(&["--task", "x", "--budget", "0.0004"]);
    let end = events.last().unwrap();
    assert_eq!((end["ending"].as_str(), code), (Some("budget"), 1), "{end}");
    assert!(end["cost_usd"].as_str().unwrap().parse::<Money>().unwrap() <= "0.0004".parse().unwrap());
    let id = events[0]["id"].as_str().unwrap();
    let (events, code) = world.resume(id, &["--budget", "1"]);
    assert_eq!((events.last().unwrap()["ending"].as_str(), code), (Some("done"), 0), "{events:#?}");
    let commits = world.git(&["log", "--format=%s", events[0]["branch"].as_str().unwrap()]);
    assert_eq!(commits, "add\nfirst\n");
}

#[test]
fn acceptance_commands_see_nothing_but_a_copy() {
    let world = World::new();
    fs::write(world.path().join("secret"), "s3cr3t").unwrap();
    world.script(&json!({"turns": [write("calc.py", RIGHT)]}));
    let secret = world.path().join("secret").display().to_string();
    let accept = format!("sh -c 'touch made && rm calc.py && ! cat {secret} && ! test -e .git'");
    let (events, code) = world.run(&["--task", "x", "--accept", &accept]);
    assert_eq!(code, 0, "{events:#?}");
    let commit = events.last().unwrap()["commit"].as_str().unwrap();
    assert_eq!(world.git(&["show", "--format=", "--name-only", commit]).trim(), "calc.py");
}

#[test]
fn ctrl_c_stops_after_the_step_and_twice_at_once_and_both_can_be_gone_on_with() {
    for presses in [1, 2] {
        let world = World::new();
        world.script(&json!({"turns": [write("calc.py", RIGHT)]}));
        let mut command = world.command(&["run", "--task", "x", "--agent", "scripted:script.json", "--format", "json"]);
        command.args(["--accept", "sh -c 'sleep 3'"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = command.spawn().unwrap();
        let mut events = Vec::new();
        let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
        for line in lines.by_ref() {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let is_verified = event["event"] == "called" && event["call"]["tool"] == "ralph__verify_changes";
            events.push(event);
            // The acceptance command runs now, which belongs to the same step.
            if is_verified {
                break;
            }
        }
        let pid = rustix::process::Pid::from_child(&running);
        for press in 0..presses {
            rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
            if press + 1 < presses {
                // Two signals at once are one.
                std::thread::sleep(std::time::Duration::from_millis(300));
            }
        }
        events.extend(lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()));
        let output = running.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let id = events[0]["id"].as_str().unwrap();
        assert!(said.contains(&format!("orchestrator run --resume {id}")), "{said}");
        // Once: the step was done to its end. Twice: it was not.
        let verdicts = events.iter().filter(|event| event["event"] == "verdict").count();
        assert_eq!(verdicts, if presses == 1 { 1 } else { 0 }, "{events:#?}");
        assert_ne!(events.last().unwrap()["event"], "end");

        let (events, code) = world.resume(id, &[]);
        assert_eq!(code, 0, "{events:#?}");
        let end = events.last().unwrap();
        assert_eq!(
            world.git(&["rev-list", "--count", &format!("main..{}", end["branch"].as_str().unwrap())]).trim(),
            "1"
        );
        let costs = world.json(&["costs", "--by", "task", "--format", "json"]);
        assert_eq!(costs["groups"][id]["amount"], end["cost_usd"], "{costs}");
    }
}
