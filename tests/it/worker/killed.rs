//! `kill -9` of workers at random: every task ends exactly once.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_shared::money::Money;

use super::{import, task, world, write};
use crate::queue::engines::postgres_url;
use crate::task::killed::Random;
use crate::task::world::World;

/// Tasks when nothing is said; `TOLLGATE_QUEUE_TASKS=200` is the long run.
const TASKS_DEFAULT: u64 = 12;

/// Workers at a time.
const WORKERS: usize = 3;

/// Two commits of the agent's own, and calls that would show if they were made twice.
fn script() -> Value {
    let mut turns = vec![write("log.py", "LOG = [\n]\n")];
    for number in 0..2 {
        let edit = json!({"path": "log.py", "old": "]\n", "new": format!("    {number},\n]\n")});
        turns.push(json!({"tool": "tollgate__edit_file", "arguments": edit}));
        turns.push(json!({"tool": "git__git_add", "arguments": {"files": ["log.py"]}}));
        turns.push(json!({"tool": "git__git_commit", "arguments": {"message": format!("step {number}")}}));
    }
    turns.push(write("end.py", "END = True\n"));
    json!({ "turns": turns })
}

/// The day (UTC).
fn today() -> jiff::civil::Date {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date()
}

fn usd(task: &Value) -> Money {
    task["cost_usd"].as_str().unwrap().parse().unwrap()
}

/// An attempt that kills its worker too often is given up, for what its session says that it cost: the queue knows of it only
/// what was written down every few seconds.
#[test]
fn attempt_whose_worker_is_gone_too_often_costs_what_its_session_cost() {
    let turns: Vec<Value> = (0..400).map(|_| json!({"tool": "git__git_status"})).collect();
    let world = world("resumes_max = 0", &json!({ "turns": turns }));
    import(&world, &[task("long", json!({}))]);
    let mut first = worker(&world);
    let began = Instant::now();
    while world.sessions().first().and_then(|session| session["calls"].as_u64()) < Some(20) {
        assert!(began.elapsed() < Duration::from_secs(120), "it does not begin");
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let show = || super::show(&world, "long");
    while show()["status"] == "in_progress" {
        assert!(began.elapsed() < Duration::from_secs(120), "{:#}", show());
        world.command(&["worker", "--once"]).output().unwrap();
    }
    let task = show();
    assert_eq!(task["status"], "blocked", "{task:#}");
    assert!(task["reason"].as_str().unwrap().contains("its worker was gone 1 times"), "{task:#}");
    assert_eq!(task["cost_usd"], world.sessions()[0]["cost_usd"], "{task:#}");
    assert!(usd(&task) > Money::ZERO);
}

fn worker(world: &World) -> Child {
    world.command(&["worker"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn killed_workers_on_sqlite_leave_every_task_done_exactly_once() {
    every_task_ends_once(None);
}

#[tokio::test]
async fn killed_workers_on_postgres_leave_every_task_done_exactly_once() {
    if let Some(url) = postgres_url().await {
        tokio::task::spawn_blocking(move || every_task_ends_once(Some(&url))).await.unwrap();
    }
}

fn every_task_ends_once(url: Option<&str>) {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let tasks = variable("TOLLGATE_QUEUE_TASKS").unwrap_or(TASKS_DEFAULT);
    let seed = variable("TOLLGATE_KILL_SEED").unwrap_or(1);
    let mut random = Random(seed);
    let url = url.map(|url| format!("url = \"{url}\"\n")).unwrap_or_default();
    let world = world(&format!("{url}resumes_max = 1000\n"), &script());
    let (before, day) = (world.checkout(), today());
    let of = |number: u64| {
        let on: Vec<String> = (number % 4 == 3).then(|| format!("t-{}", number - 1)).into_iter().collect();
        task(&format!("t-{number}"), json!({ "depends_on": on }))
    };
    import(&world, &(0..tasks).map(of).collect::<Vec<_>>());

    let mut workers: Vec<Child> = (0..WORKERS).map(|_| worker(&world)).collect();
    let (began, limit) = (Instant::now(), Duration::from_secs(300 + 30 * tasks));
    let mut kills = 0;
    loop {
        std::thread::sleep(Duration::from_millis(200 + random.below(2_500)));
        let listed = world.json(&["queue", "list", "--all", "--json"]);
        let is_open = |task: &&Value| matches!(task["status"].as_str(), Some("pending" | "in_progress"));
        if listed.as_array().unwrap().iter().filter(is_open).count() == 0 {
            break;
        }
        assert!(began.elapsed() < limit, "seed {seed}, {kills} kills: {}", world.text(&["queue", "list", "--all"]));
        // After as many kills as tasks they are left alone.
        if kills < tasks {
            let which = usize::try_from(random.below(WORKERS as u64)).unwrap();
            workers[which].kill().unwrap();
            workers[which].wait().unwrap();
            workers[which] = worker(&world);
            kills += 1;
        }
    }
    for worker in &mut workers {
        worker.kill().unwrap();
        worker.wait().unwrap();
    }

    let sessions = world.sessions();
    let costs = world.json(&["costs", "--by", "task", "--format", "json"]);
    let listed = world.json(&["queue", "list", "--all", "--json"]);
    assert_eq!(listed.as_array().unwrap().len() as u64, tasks);
    let mut known = BTreeSet::new();
    for task in listed.as_array().unwrap() {
        let told = format!("seed {seed}: {task:#}\n{}", world.text(&["queue", "show", task["id"].as_str().unwrap()]));
        assert_eq!(task["status"], "completed", "{told}");
        assert_eq!(
            (&task["worker"], &task["lease_until_ms"], &task["attempts"]),
            (&json!(""), &json!(0), &json!(1)),
            "{told}"
        );
        let session = task["session"].as_str().unwrap();
        assert!(known.insert(session.to_owned()), "{told}");
        let of: Vec<&Value> = sessions.iter().filter(|of| of["id"] == session).collect();
        assert_eq!((of.len(), &of[0]["phase"]), (1, &json!("done")), "{told}");
        // The ledger, the session and the queue say one sum.
        assert_eq!(costs["groups"][session]["amount"], of[0]["cost_usd"], "{told}");
        assert_eq!(task["cost_usd"], of[0]["cost_usd"], "{told}");
        assert!(usd(task) > Money::ZERO);
        let branch = task["branch"].as_str().unwrap();
        assert_eq!(world.git(&["rev-parse", branch]).trim(), task["commit"], "{told}");
        let subjects = world.git(&["log", "--format=%s", branch]);
        let expected = format!("do {}\nstep 1\nstep 0\nfirst\n", task["id"].as_str().unwrap());
        assert_eq!(subjects, expected, "{told}");
        assert_eq!(world.git(&["show", &format!("{branch}:log.py")]), "LOG = [\n    0,\n    1,\n]\n", "{told}");
    }
    // What alarms count is what everything cost, however often who counted was killed.
    let sum: Money = listed.as_array().unwrap().iter().map(usd).sum();
    if today() == day {
        let counted = world.json(&["queue", "breaker", "--json"]);
        let counted = counted["spent_today_usd"].as_str().unwrap().parse::<Money>().unwrap();
        assert_eq!(counted, sum, "seed {seed}");
    }
    assert_eq!(sessions.len() as u64, tasks, "a session that the queue does not know");
    assert_eq!(world.checkout(), before);
    assert!(world.command(&["audit", "verify"]).output().unwrap().status.success());
    world.git(&["fsck", "--strict"]);
}
