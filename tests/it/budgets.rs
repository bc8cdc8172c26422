//! Budgets over real processes: what does not fit is refused before anything happens.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_shared::money::Money;
use tollgate_tests::world::{orchestrator_in, program};

/// A workspace with ralph and four foreign servers that note what they do; `prices` of a note at each.
fn world(budget: &str, prices: [&str; 4]) -> TempDir {
    let world = tempfile::tempdir().unwrap();
    let mut config = format!("[orchestrator]\nservers = [\"ralph\"]\n\n[budget]\n{budget}\n\n[prices]\n");
    for (number, price) in prices.iter().enumerate() {
        config.push_str(&format!("\"f{number}.note\" = \"{price}\"\n"));
    }
    for number in 0..4 {
        config.push_str(&format!(
            "\n[servers.f{number}]\ncommand = {:?}\ncall_timeout_ms = 20000\nenv = {{ NOTE_FILE = {:?} }}\n",
            program("mcp-fixture"),
            world.path().join("notes")
        ));
    }
    fs::write(world.path().join("tollgate.toml"), config).unwrap();
    world
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    orchestrator_in(folder).args(arguments).output().unwrap()
}

fn json_of(folder: &Path, arguments: &[&str]) -> Value {
    let output = run(folder, arguments);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn notes(folder: &Path) -> usize {
    fs::read_to_string(folder.join("notes")).map_or(0, |notes| notes.lines().count())
}

fn usd(value: &Value) -> Money {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn refused_call_has_no_effect_one_receipt_and_one_decision() {
    let world = world("per_call_usd = \"0.5\"\nper_task_usd = \"0.9\"", ["0.5", "0.51", "0.4", "0.1"]);
    let call = |server: &str| json_of(world.path(), &["call", server, "note", r#"{"text": "x"}"#, "--task", "T-1"]);
    let refused = call("f1");
    assert_eq!(refused["result"]["error"]["code"], "budget_exceeded", "{refused}");
    assert_eq!((&refused["receipt"]["outcome"], &refused["receipt"]["amount"]), (&json!("refused"), &json!("0")));
    assert!(refused["result"]["error"]["hint"].as_str().unwrap().contains("budget.per_call_usd"), "{refused}");
    assert_eq!(notes(world.path()), 0);
    assert_eq!(call("f0")["receipt"]["amount"], "0.5");
    assert_eq!(call("f2")["receipt"]["amount"], "0.4");
    let refused = call("f3");
    assert_eq!(refused["result"]["budget"]["scope"], "task", "{refused}");
    assert_eq!(refused["result"]["budget"]["spent_usd"], "0.9");
    assert_eq!(notes(world.path()), 2);
    // Another task has a budget of its own.
    assert!(run(world.path(), &["call", "f3", "note", r#"{"text": "x"}"#, "--task", "T-2"]).status.success());
    let decisions = json_of(world.path(), &["audit", "list", "--format", "json"]);
    let of = |action: &str| decisions.as_array().unwrap().iter().filter(|entry| entry["action"] == action).count();
    assert_eq!((of("refused"), of("budget_warning")), (2, 1), "{decisions}");
    assert!(run(world.path(), &["audit", "verify"]).status.success());
}

#[test]
fn sixteen_agents_at_once_spend_no_cent_too_much() {
    let limit = "1.37";
    let world = world(&format!("per_day_usd = \"{limit}\""), ["0.013", "0.029", "0.07", "0.0411"]);
    for agent in 0..16 {
        let turns: Vec<Value> = (0..12)
            .map(|turn| json!({"tool": format!("f{}__note", (agent * 7 + turn * 5) % 4), "arguments": {"text": format!("{agent}.{turn}")}}))
            .collect();
        let script = json!({"agent": {"name": format!("agent-{agent}")}, "turns": turns});
        fs::write(world.path().join(format!("{agent}.json")), script.to_string()).unwrap();
    }
    let running: Vec<_> = (0..16)
        .map(|agent| {
            let mut command = orchestrator_in(world.path());
            command.args(["run", &format!("{agent}.json"), "--format", "json"]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    let mut refused = 0;
    for agent in running {
        let output = agent.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        // One that began early may get through.
        let whole = said.contains("\"as_expected\":true");
        assert!(whole || said.contains("budget_exceeded"), "{said}{}", String::from_utf8_lossy(&output.stderr));
        refused += usize::from(!whole);
    }
    assert!(refused >= 8, "{refused}");
    let costs = json_of(world.path(), &["costs", "--by", "agent", "--format", "json"]);
    let (spent, limit) = (usd(&costs["total"]["amount"]), limit.parse::<Money>().unwrap());
    assert!(spent <= limit && spent.times(10) > limit.times(9), "{spent} of {limit}");
    let carried_out = costs["total"]["calls"].as_u64().unwrap() - costs["total"]["refused"].as_u64().unwrap();
    assert_eq!(notes(world.path()) as u64, carried_out, "a refused call had an effect");
    assert!(run(world.path(), &["audit", "verify"]).status.success());
}

#[test]
fn killed_caller_does_not_hold_the_money_for_ever() {
    let world = world("per_day_usd = \"1\"", ["0", "0", "0", "0.8"]);
    let config = fs::read_to_string(world.path().join("tollgate.toml")).unwrap();
    fs::write(world.path().join("tollgate.toml"), config.replace("\"f3.note\"", "\"f3.sleep\"")).unwrap();
    let mut asleep = orchestrator_in(world.path()).args(["call", "f3", "sleep", r#"{"ms": 15000}"#]).spawn().unwrap();
    let call = || json_of(world.path(), &["call", "f3", "sleep", r#"{"ms": 1}"#]);
    // Until it has set its money aside, ours still fits.
    let begun = std::time::Instant::now();
    let refused = loop {
        let written = fs::read(world.path().join(".tollgate/budget.db-wal")).unwrap_or_default();
        if written.windows(7).any(|bytes| bytes == b"f3sleep") {
            break call();
        }
        assert!(begun.elapsed().as_secs() < 10, "no reservation");
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert_eq!(refused["result"]["error"]["code"], "budget_exceeded", "{refused}");
    assert_eq!(refused["result"]["budget"]["reserved_usd"], "0.8");
    asleep.kill().unwrap();
    asleep.wait().unwrap();
    let answered = call();
    assert_eq!(answered["receipt"]["amount"], "0.8", "{answered}");
    let costs = json_of(world.path(), &["costs", "--format", "json"]);
    assert_eq!((&costs["total"]["calls"], &costs["total"]["failed"]), (&json!(3), &json!(1)), "{costs}");
}

#[test]
fn metered_call_stops_at_what_is_left_and_costs_nothing() {
    let world = world("per_day_usd = \"0.02\"", ["0", "0", "0", "0"]);
    for number in 0..30 {
        fs::write(world.path().join(format!("{number}.py")), format!("x = {number}\n")).unwrap();
    }
    let batch =
        |globs: &str| json_of(world.path(), &["call", "ralph", "verify_batch", &json!({"globs": [globs]}).to_string()]);
    let few = batch("[1-4].py");
    assert_eq!((&few["result"]["verdict"], &few["receipt"]["amount"]), (&json!("pass"), &json!("0.0076")), "{few}");
    let many = batch("*.py");
    assert_eq!(many["result"]["error"]["code"], "budget_exceeded", "{many}");
    assert_eq!((&many["receipt"]["server"], &many["receipt"]["amount"]), (&json!("ralph"), &json!("0")));
    // Files of which the call that was stopped cannot have got to any.
    for number in 0..2 {
        fs::write(world.path().join(format!("later{number}.py")), format!("later = {number}\n")).unwrap();
    }
    assert_eq!(batch("later*.py")["receipt"]["amount"], "0.0038");
}

#[test]
fn bytes_and_seconds_of_a_foreign_server_are_paid_for() {
    let world = world("per_call_usd = \"0.25\"", ["0", "0", "0", "0"]);
    let config = fs::read_to_string(world.path().join("tollgate.toml")).unwrap();
    let price = "price = { per_call_usd = \"0.01\", per_byte_usd = \"0.0001\", per_second_usd = \"0.001\" }\nanswer_bytes_max = 1000\n";
    fs::write(world.path().join("tollgate.toml"), config.replace("[servers.f0]\n", &format!("[servers.f0]\n{price}")))
        .unwrap();
    let call = |text: String| json_of(world.path(), &["call", "f0", "echo", &json!({ "text": text }).to_string()]);
    let answered = call("hello".into());
    let lines = answered["receipt"]["lines"].as_array().unwrap();
    let skus: Vec<&str> = lines.iter().map(|line| line["sku"].as_str().unwrap()).collect();
    assert_eq!(skus, ["f0.echo", "f0.echo.bytes", "f0.echo.seconds"], "{answered}");
    assert!(lines[1]["quantity"].as_u64().unwrap() > 16, "{answered}");
    assert_eq!(lines[2]["quantity"], 1);
    // What may cost more than a call may is not begun, and an answer larger than was reckoned with is not taken.
    assert_eq!(call("x".repeat(1500))["result"]["error"]["code"], "budget_exceeded");
    assert_eq!(call("x".repeat(1100))["result"]["error"]["code"], "answer_too_large");
}
