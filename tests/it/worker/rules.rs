//! What becomes of each sort of task.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{import, show, task, world, write};
use crate::task::world::World;

fn drain(world: &World) -> (Value, i32) {
    let output = world.command(&["worker", "--once", "--parallel", "2"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let summary = text.lines().last().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (serde_json::from_str(summary).unwrap(), output.status.code().unwrap())
}

#[test]
fn tasks_end_completed_blocked_with_a_reason_or_waiting_for_a_person() {
    let world = world(
        "attempts_max = 2\nagents = { breaker = \"scripted:breaker.json\" }\nprojects = { here = \".\" }",
        &json!({"turns": [write("calc.py", "def add(a, b):\n    return a + b\n")]}),
    );
    let breaker = json!({"turns": [write("calc.py", "def add(a, b):\n    return a +\n")]});
    fs::write(world.path().join(".git/info/exclude"), "breaker.json\n").unwrap();
    fs::write(world.path().join("breaker.json"), breaker.to_string()).unwrap();
    let before = world.checkout();
    import(
        &world,
        &[
            task("good", json!({"acceptance": {"commands": ["grep -q 'a + b' calc.py"], "criteria": ["it adds"]}})),
            task("next", json!({"depends_on": ["good"], "project": "here"})),
            task("broken", json!({"preferred_agents": ["nobody", "breaker"]})),
            task("after-broken", json!({"depends_on": ["broken"]})),
            task("yours", json!({"category": "YOURS"})),
            task("rollout", json!({"type": "deploy"})),
            task("nobody", json!({"agent_type_override": "zz"})),
            task("nowhere", json!({"project": "elsewhere"})),
            task("poor", json!({"budget_usd": "0.00001"})),
            task("tired", json!({"attempts": 2})),
        ],
    );
    let (summary, code) = drain(&world);
    let expected = json!({"completed": 3, "blocked": 5, "needs_person": 1, "failed": 1, "given_back": 0, "fallbacks": 1, "stopped": false});
    assert_eq!((&summary, code), (&expected, 1), "{}", world.text(&["queue", "list", "--all"]));
    for (id, status, reason) in [
        ("good", "completed", ""),
        ("next", "completed", ""),
        ("rollout", "completed", ""),
        ("broken", "blocked", "not done in 2 attempts; the last one stuck"),
        ("after-broken", "pending", ""),
        ("yours", "needs_person", "its category is YOURS"),
        ("nobody", "blocked", "agent_type_override names `zz`"),
        ("nowhere", "blocked", "its project `elsewhere`"),
        ("poor", "blocked", "budget: "),
        ("tired", "blocked", "attempts are used up"),
    ] {
        let shown = show(&world, id);
        assert_eq!(shown["status"], status, "{shown:#}");
        assert!(
            shown["reason"].as_str().unwrap().starts_with(reason) || shown["reason"].as_str().unwrap().contains(reason),
            "{shown:#}"
        );
        assert_eq!((&shown["worker"], &shown["lease_until_ms"]), (&json!(""), &json!(0)), "{shown:#}");
    }
    let good = show(&world, "good");
    assert_eq!(world.git(&["rev-parse", good["branch"].as_str().unwrap()]).trim(), good["commit"]);
    assert_eq!((&good["task"]["passes"], &good["task"]["branch"]), (&json!(true), &good["branch"]));
    let what: Vec<&str> =
        good["checkpoints"].as_array().unwrap().iter().map(|point| point["what"].as_str().unwrap()).collect();
    assert!(what.starts_with(&["routed", "attempt"]) && what.ends_with(&["completed"]), "{what:?}");
    let rollout = show(&world, "rollout");
    assert_eq!(rollout["routing"]["fallback"], true);
    assert!(rollout["task"]["routing_reason"].as_str().unwrap().contains("one agent did it"), "{rollout:#}");
    assert_eq!(world.checkout(), before, "the user's own checkout changed");

    // A person decides: one is let run, one gets new attempts.
    world.text(&["queue", "retry", "yours", "tired"]);
    assert_eq!(
        drain(&world),
        (
            json!({"completed": 2, "blocked": 0, "needs_person": 0, "failed": 0, "given_back": 0, "fallbacks": 0, "stopped": false}),
            0
        )
    );
}

#[test]
fn drained_worker_gives_its_task_back_and_the_next_goes_on_there() {
    let turns: Vec<Value> = (0..40).map(|number| write(&format!("f{number}.py"), "X = 1\n")).collect();
    let world = world("", &json!({"turns": turns}));
    import(&world, &[task("long", json!({})), task("other", json!({}))]);
    let mut worker = world.command(&["worker"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while show(&world, "long")["checkpoints"].as_array().unwrap().iter().all(|point| point["what"] != "prepared") {
        assert!(began.elapsed() < Duration::from_secs(120), "it does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_child(&worker);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(worker.wait().unwrap().code().is_some(), "it was killed instead of ending");
    let shown = show(&world, "long");
    assert_eq!((&shown["status"], &shown["lease_until_ms"]), (&json!("in_progress"), &json!(0)), "{shown:#}");
    assert_eq!(show(&world, "other")["status"], "pending", "nothing more was claimed");
    let session = shown["session"].clone();
    let (summary, code) = drain(&world);
    assert_eq!((&summary["completed"], code), (&json!(2), 0), "{summary}");
    let shown = show(&world, "long");
    assert_eq!((&shown["session"], &shown["attempts"]), (&session, &json!(1)), "{shown:#}");
}

#[test]
fn worker_without_an_agent_does_not_begin_and_routes_are_shown_without_one() {
    let world = World::new();
    import(&world, &[task("a", json!({"estimated_value_usd": "49.99"}))]);
    let output = world.command(&["worker", "--once"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("name an agent as `agent` in [queue]"), "{error}");
    assert_eq!(show(&world, "a")["status"], "pending");

    let routed = world.json(&["route", "a", "--format", "json"]);
    assert_eq!((&routed[0]["decision"], &routed[0]["rule"]), (&json!("single"), &json!("otherwise")));
    let file = world.path().join(".git/route.json");
    fs::write(&file, json!([task("b", json!({"estimated_value_usd": 50, "depends_on": ["x"]}))]).to_string()).unwrap();
    let table = world.text(&["route", file.to_str().unwrap()]);
    assert!(table.contains("it is worth $50, at least $50") && table.contains("bugfix, testwriter"), "{table}");
    assert!(!world.command(&["route", "nope"]).output().unwrap().status.success());
}
