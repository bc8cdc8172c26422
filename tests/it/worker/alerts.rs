//! What stops workers, who is told, and what a person sees of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use orchestrator::queue::webhook::Webhooks;
use serde_json::{Value, json};

use super::{import, show, task, world, write};
use crate::terminal::Terminal;

const TAKEN: &str = "204 No Content";

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn right() -> Value {
    json!({"turns": [write("calc.py", "def add(a, b):\n    return a + b\n")]})
}

#[test]
fn workers_stop_when_a_day_costs_too_much_and_go_on_when_a_person_says_so() {
    let world = world("alerts = { day_usd = \"0.0001\" }", &right());
    import(&world, &[task("one", json!({})), task("two", json!({}))]);
    assert_eq!(world.json(&["queue", "breaker", "--json"])["stopped"], false);
    let run = || {
        let output = world.command(&["worker", "--once"]).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
    };
    let (told, code) = run();
    let summary: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!((&summary["completed"], &summary["stopped"], code), (&json!(1), &json!(true), 1), "{told}");
    assert!(told.contains("nothing is claimed: all tasks cost $"), "{told}");
    // Whoever comes next finds it stopped, too.
    assert_eq!(run().1, 1);
    assert_eq!(show(&world, "two")["status"], "pending");

    let output = world.command(&["queue", "breaker"]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("day_cost") && shown.contains("work is stopped"), "{shown}");
    let mut agent = world.command(&["queue", "breaker", "--reset"]);
    let refused = agent.env("TOLLGATE_AGENT", "bugfix-1").output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8(refused.stderr).unwrap().contains("a person"));
    assert_eq!(
        world.command(&["queue", "breaker"]).output().unwrap().status.code(),
        Some(1),
        "an agent resets nothing"
    );

    assert!(world.text(&["queue", "breaker", "--reset"]).contains("work is not stopped"));
    run();
    assert_eq!(show(&world, "two")["status"], "completed");
}

#[test]
fn teams_are_turned_off_when_they_complete_too_little() {
    let alerts = "alerts = { team_success_percent_min = 100, window_min = 1 }";
    // A script without a division: one agent does it after all.
    let world = world(alerts, &right());
    import(&world, &[task("a", json!({"type": "deploy"})), task("b", json!({"type": "deploy", "depends_on": ["a"]}))]);
    assert_eq!(world.json(&["route", "b", "--format", "json"])[0]["decision"], "team");
    assert!(world.text(&["queue", "rollout"]).contains("100 %"));
    world.command(&["worker", "--once"]).output().unwrap();
    let (a, b) = (show(&world, "a"), show(&world, "b"));
    if a["routing"]["fallback"] == json!(true) {
        assert_eq!((&b["routing"]["decision"], &b["status"]), (&json!("single"), &json!("completed")), "{b:#}");
        assert!(b["routing"]["reason"].as_str().unwrap().contains("completed 0 of their last 1"), "{b:#}");
    } else {
        panic!("the team did it: {a:#}");
    }
    assert_eq!(world.command(&["queue", "rollout"]).output().unwrap().status.code(), Some(1));
    assert_eq!(world.json(&["route", "b", "--format", "json"])[0]["decision"], "single");
    world.text(&["queue", "rollout", "--reset"]);
    assert_eq!(world.json(&["route", "b", "--format", "json"])[0]["decision"], "team");
}

/// One event that its receiver dislikes keeps no other from it.
#[test]
fn what_a_receiver_dislikes_holds_nothing_else_up() {
    let (url, messages) = receiver(|_, body| if body.contains("task.imported") { "400 Bad Request" } else { TAKEN });
    let config = format!("[queue.webhooks.ops]\nurl = \"{url}\"\nsecret = \"{SECRET}\"\nevents = [\"task.*\"]");
    let world = world(&config, &right());
    import(&world, &[task("a", json!({"category": "YOURS"})), task("b", json!({"category": "YOURS"}))]);
    world.command(&["worker", "--once"]).output().unwrap();
    let begun = Instant::now();
    let waiting = || world.json(&["queue", "webhooks", "--json"])[0]["waiting"].as_i64().unwrap();
    while waiting() != 1 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} wait", waiting());
        std::thread::sleep(Duration::from_millis(500));
        world.command(&["worker", "--once"]).output().unwrap();
    }
    let messages = messages.lock().unwrap();
    let (disliked, others): (Vec<_>, Vec<_>) = messages.iter().partition(|(_, body)| body.contains("task.imported"));
    let ids: BTreeSet<&String> = others.iter().map(|(headers, _)| &headers["webhook-id"]).collect();
    assert!(disliked.len() < 4 && others.len() >= 4 && ids.len() == others.len(), "each of the others comes once");
}

/// What a receiver was sent: the headers, by name, and the body.
type Messages = Arc<Mutex<Vec<(BTreeMap<String, String>, String)>>>;

/// Receives messages; answers each, by its number and body, as `status` says.
fn receiver(status: impl Fn(usize, &str) -> &'static str + Send + 'static) -> (String, Messages) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let messages = Messages::default();
    let received = Arc::clone(&messages);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut headers = BTreeMap::new();
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap() > 2 {
                if let Some((name, value)) = line.split_once(':') {
                    headers.insert(name.to_lowercase(), value.trim().to_owned());
                }
                line.clear();
            }
            let mut body = vec![0; headers["content-length"].parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            let body = String::from_utf8(body).unwrap();
            let status = status(number, &body);
            received.lock().unwrap().push((headers, body));
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        }
    });
    (url, messages)
}

#[test]
fn webhooks_are_told_once_signed_and_again_when_they_did_not_listen() {
    let (url, messages) = receiver(|number, _| if number == 0 { "500 Internal Server Error" } else { TAKEN });
    let (gone, refusing) = receiver(|_, _| "410 Gone");
    let config = format!(
        "[queue.webhooks.ops]\nurl = \"{url}\"\nsecret = \"${{HOOK}}\"\n\
         [queue.webhooks.gone]\nurl = \"{gone}\"\nsecret = \"{SECRET}\"\nevents = [\"task.completed\"]\n\
         [queue.webhooks.down]\nurl = \"http://127.0.0.1:9/secret-path\"\nsecret = \"{SECRET}\"\nevents = [\"*\"]"
    );
    let world = world(&config, &right());
    let command = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        command.env("HOOK", SECRET);
        command
    };
    let missing = world.command(&["queue", "list"]).output().unwrap();
    assert!(!missing.status.success() && String::from_utf8_lossy(&missing.stderr).contains("HOOK"));
    let file = world.path().join(".git/tasks.json");
    let tasks = json!([task("good", json!({})), task("yours", json!({"category": "YOURS"}))]);
    std::fs::write(&file, tasks.to_string()).unwrap();
    assert!(command(&["queue", "import", file.to_str().unwrap()]).output().unwrap().status.success());
    let worker = command(&["worker", "--once"]).output().unwrap();
    assert_eq!(worker.status.code(), Some(1));
    let log = String::from_utf8(worker.stderr).unwrap();
    assert!(!log.contains("secret-path") && !log.contains(SECRET), "{log}");

    let states = || -> Value {
        let output = command(&["queue", "webhooks", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let of = |name: &str| states().as_array().unwrap().iter().find(|state| state["name"] == name).unwrap().clone();
    let down = of("down");
    assert!(down["waiting"].as_i64().unwrap() > 5 && down["given_up"] == 0, "{down}");
    assert!(!down["error"].as_str().unwrap().is_empty() && !down.to_string().contains("secret-path"), "{down}");
    assert_eq!((&of("gone")["waiting"], &of("gone")["given_up"]), (&json!(0), &json!(1)));
    assert_eq!(refusing.lock().unwrap().len(), 1, "who wants nothing is asked once");
    let nobody = command(&["queue", "webhooks", "--retry", "nobody"]).output().unwrap();
    assert!(!nobody.status.success() && String::from_utf8_lossy(&nobody.stderr).contains("no webhook `nobody`"));

    // What was not taken comes again, with the same name; nothing else comes twice.
    let begun = Instant::now();
    while of("ops")["waiting"] != json!(0) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", of("ops"));
        std::thread::sleep(Duration::from_millis(500));
        command(&["worker", "--once"]).output().unwrap();
    }
    let messages = messages.lock().unwrap();
    let types: Vec<(String, String)> = messages
        .iter()
        .map(|(_, body)| {
            let body: Value = serde_json::from_str(body).unwrap();
            (body["type"].as_str().unwrap().to_owned(), body["data"]["task"].as_str().unwrap().to_owned())
        })
        .collect();
    let mut once: Vec<_> = types.iter().collect();
    once.sort();
    once.dedup();
    let both =
        [("escalation.needs_person".to_owned(), "yours".to_owned()), ("task.completed".to_owned(), "good".to_owned())];
    assert_eq!(once, [&both[0], &both[1]], "{types:?}");
    assert_eq!(types.len(), 3, "{types:?}");
    let again = messages.iter().filter(|(headers, _)| headers["webhook-id"] == messages[0].0["webhook-id"]);
    assert_eq!(again.count(), 2, "the one that was answered with 500");
    let hook = json!({"ops": {"url": url, "secret": SECRET}});
    let hooks = Webhooks::read(&serde_json::from_value(hook).unwrap()).unwrap();
    let (_, hook) = hooks.iter().next().unwrap();
    for (headers, body) in messages.iter() {
        let timestamp: i64 = headers["webhook-timestamp"].parse().unwrap();
        assert_eq!(headers["webhook-signature"], hook.sign(&headers["webhook-id"], timestamp, body));
        assert_eq!(headers["content-type"], "application/json");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!((&body["data"]["id"], &body["timestamp"]), (&json!(headers["webhook-id"]), &body["data"]["at"]));
    }
}

#[test]
fn watch_shows_the_queue_in_a_terminal_until_q_is_pressed() {
    let world = world("", &right());
    import(&world, &[task("first", json!({"title": "Add \u{1b}]0;x\u{7} up"})), task("other", json!({}))]);
    let terminal = Terminal::sized(120, 30);
    let mut child = world
        .command(&["watch"])
        .stdin(terminal.side())
        .stdout(terminal.side())
        .stderr(terminal.side())
        .env("TERM", "xterm-256color")
        .spawn()
        .unwrap();
    let begun = Instant::now();
    // What is on the screen, not what is written: that is only what changes.
    let mut screen = vt100::Parser::new(30, 120, 0);
    let until = |screen: &mut vt100::Parser, expected: &str| {
        while !screen.screen().contents().contains(expected) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{expected} is not in\n{}", screen.screen().contents());
            std::thread::sleep(Duration::from_millis(50));
            screen.process(terminal.shown().as_bytes());
        }
    };
    until(&mut screen, "first");
    until(&mut screen, "q leaves");
    assert!(screen.screen().alternate_screen(), "it has a screen of its own");
    assert!(screen.screen().contents().contains("Add  ]0;x  up"), "a title sets no title");
    // What workers do appears by itself.
    assert!(world.command(&["worker", "--once"]).output().unwrap().status.success());
    until(&mut screen, "2 completed");
    until(&mut screen, "verdict  pass: done");
    terminal.press("jjk");
    terminal.press("q");
    let status = child.wait().unwrap();
    screen.process(terminal.shown().as_bytes());
    assert!(status.success() && !screen.screen().alternate_screen(), "it leaves the terminal as it was");
}
