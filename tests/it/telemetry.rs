//! OpenTelemetry: what a collector is told of tasks, of calls through the gateway, and what it is never told.

mod collector;
mod gateway;
mod trouble;

use std::fs;

use serde_json::{Value, json};
use tollgate_shared::money::Money;
use tollgate_tests::provider::{KEY, Provider, Turn};
use tollgate_tests::world::program;

use crate::task::world::World;
use collector::{Collector, Mood, Span};

const RIGHT: &str = "def add(a, b):\n    return a + b\n";
const BROKEN: &str = "def add(a, b):\n    return a +\n";

/// What is told to the model, written to files and sent to the collector as a password, and must be nowhere else.
const PROMPT: &str = "Make sevenfold addition work";
const WRITTEN: &str = "hunter2_in_a_file";
const TOKEN: &str = "token-of-the-collector";

/// Kinds of spans on the wire.
const INTERNAL: i32 = 1;
const CLIENT: i32 = 3;

fn money(text: &str) -> Money {
    text.parse().unwrap()
}

/// Adds to the configuration of a world.
fn configure(world: &World, more: &str) {
    let path = world.path().join("tollgate.toml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(path, format!("{config}\n{more}\n")).unwrap();
}

fn configure_without_secret(world: &World) {
    let path = world.path().join("tollgate.toml");
    let config = fs::read_to_string(&path).unwrap();
    let kept: Vec<&str> = config.lines().filter(|line| !line.contains("COLLECTOR_TOKEN")).collect();
    fs::write(path, kept.join("\n")).unwrap();
}

fn to(collector: &Collector) -> String {
    format!("[telemetry]\nendpoint = \"{}\"\n", collector.url())
}

fn write(path: &str, content: &str) -> Value {
    json!({"tool": "tollgate__write_file", "arguments": {"path": path, "content": content}})
}

/// What everything cost, by the ledger.
fn total(world: &World) -> Money {
    let costs = world.json(&["costs", "--by", "tool", "--format", "json"]);
    money(costs["total"]["amount"].as_str().unwrap())
}

fn children<'a>(spans: &'a [Span], parent: &Span) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.parent == parent.id).collect()
}

fn names<'a>(spans: &[&'a Span]) -> Vec<&'a str> {
    let mut names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn task_is_a_tree_of_spans_whose_costs_are_the_ledgers() {
    let (world, collector) = (World::new(), Collector::start(Mood::Takes));
    let file = format!("{RIGHT}# {WRITTEN}\n");
    let provider = Provider::start([
        Turn::Answer(
            "I look.",
            vec![("tollgate__read_file", json!({"path": "calc.py"})), ("git__git_status", json!({}))],
        ),
        Turn::Status(429, Some(20), "slow down"),
        Turn::Answer("", vec![("tollgate__write_file", json!({"path": "calc.py", "content": BROKEN}))]),
        Turn::Answer("Done.", vec![]),
        Turn::Answer("", vec![("tollgate__write_file", json!({"path": "calc.py", "content": file}))]),
        Turn::Answer("Now.", vec![]),
    ]);
    let model = format!(
        "[models.fake]\nprovider = \"anthropic\"\nmodel = \"fake-1\"\nbase_url = \"{}\"\napi_key_env = \"FAKE_KEY\"\nstream = false\n\
         price = {{ input = \"3\", output = \"15\", cache_read = \"0.30\", cache_write = \"3.75\" }}\ncontext_tokens = 200000\nretry_delay_ms = 5\n",
        provider.url()
    );
    let headers = "headers = { Authorization = \"Bearer ${COLLECTOR_TOKEN}\" }\n";
    configure(&world, &format!("{model}\n{}{headers}", to(&collector)));
    let mut command = world.command(&["run", "--format", "json", "--agent", "model:fake", "--task", PROMPT]);
    command.args(["--accept", "grep -q 'a + b' calc.py"]).env("FAKE_KEY", KEY).env("COLLECTOR_TOKEN", TOKEN);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");

    let spans = collector.spans();
    let task = collector.span(|span| span.parent.is_empty());
    let events = String::from_utf8(output.stdout).unwrap();
    let first_event: Value = serde_json::from_str(events.lines().next().unwrap()).unwrap();
    let id = first_event["id"].as_str().unwrap().to_owned();
    // The secret is asked for by whoever reads the configuration.
    configure_without_secret(&world);
    assert!(spans.iter().all(|span| span.trace == task.trace), "{spans:#?}");
    assert_eq!((task.text("gen_ai.operation.name"), task.kind), ("invoke_agent", INTERNAL), "{task:#?}");
    assert!(task.name.starts_with("invoke_agent ") && task.name.ends_with(task.text("gen_ai.agent.name")), "{task:#?}");
    assert_eq!((task.text("gen_ai.conversation.id"), task.text("tollgate.ending")), (id.as_str(), "done"));
    assert_eq!((task.attributes["tollgate.iterations"].as_i64(), task.is_error), (Some(2), false));
    let below = children(&spans, &task);
    assert_eq!(names(&below), ["iteration", "iteration", "tools/call git_worktree_add"]);
    let iteration = |number: i64| {
        below.iter().find(|span| span.attributes.get("tollgate.iteration") == Some(&json!(number))).copied().unwrap()
    };
    assert_eq!(iteration(1).text("tollgate.decision"), "again");
    assert_eq!((iteration(2).text("tollgate.decision"), iteration(2).text("tollgate.verdict")), ("done", "pass"));
    let first = children(&spans, iteration(1));
    let chats = ["chat fake-1"; 4];
    let tools = ["execute_tool tollgate__read_file", "execute_tool tollgate__write_file"];
    let calls = ["tools/call git_status", "tools/call verify_changes"];
    assert_eq!(names(&first), [&chats[..], &tools[..], &calls[..]].concat());
    let second = names(&children(&spans, iteration(2)));
    for call in ["chat fake-1", "tools/call git_add", "tools/call git_commit"] {
        assert!(second.contains(&call), "{call} is not in {second:?}");
    }

    let status = first.iter().find(|span| span.name == "tools/call git_status").unwrap();
    for (key, value) in [
        ("mcp.method.name", json!("tools/call")),
        ("gen_ai.operation.name", json!("execute_tool")),
        ("gen_ai.tool.name", json!("git_status")),
        ("mcp.protocol.version", json!("2026-07-28")),
        ("network.transport", json!("pipe")),
        ("tollgate.server", json!("git")),
        ("tollgate.outcome", json!("ok")),
        ("tollgate.cached", json!(false)),
        ("tollgate.task.id", json!(id)),
    ] {
        assert_eq!(status.attributes.get(key), Some(&value), "{key} of {status:#?}");
    }
    assert_eq!(status.kind, CLIENT);
    assert!(!status.text("jsonrpc.request.id").is_empty() && !status.text("tollgate.receipt.id").is_empty());

    let chats: Vec<&Span> = spans.iter().filter(|span| span.name == "chat fake-1").collect();
    let (good, bad): (Vec<&Span>, Vec<&Span>) = chats.iter().partition(|span| !span.is_error);
    let counted = provider.counted();
    let sum = |key: &str| good.iter().map(|span| span.attributes[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("gen_ai.usage.input_tokens"), counted.input + counted.cache_read + counted.cache_write);
    assert_eq!(sum("gen_ai.usage.output_tokens"), counted.output + counted.reasoning);
    assert_eq!(sum("gen_ai.usage.cache_read.input_tokens"), counted.cache_read);
    assert_eq!(sum("gen_ai.usage.cache_write.input_tokens"), counted.cache_write);
    for (key, value) in [
        ("gen_ai.operation.name", json!("chat")),
        ("gen_ai.provider.name", json!("anthropic")),
        ("gen_ai.request.model", json!("fake-1")),
        ("gen_ai.response.model", json!("fake")),
        ("server.address", json!("127.0.0.1")),
    ] {
        assert_eq!(good[0].attributes.get(key), Some(&value), "{key} of {:#?}", good[0]);
    }
    assert_eq!((bad.len(), bad[0].text("error.type")), (1, "model_rate_limited"));

    // Every receipt is on one span, and all of them together are what the ledger says.
    assert_eq!(collector.cost(|_| true), total(&world));
    assert_eq!(money(task.text("tollgate.task.cost.usd")), total(&world));
    let receipts: Vec<&str> =
        spans.iter().map(|span| span.text("tollgate.receipt.id")).filter(|id| !id.is_empty()).collect();
    assert_eq!(receipts.iter().collect::<std::collections::BTreeSet<_>>().len(), receipts.len());
    let (unit, costs) = collector.metric("tollgate.cost");
    let counted_cost: f64 = costs.iter().map(|point| point.sum).sum();
    let exact: f64 = total(&world).to_string().parse().unwrap();
    assert!((counted_cost - exact).abs() < 1e-9, "{counted_cost} {exact}");
    assert_eq!(unit, "{USD}");
    let of_model =
        costs.iter().find(|point| point.labels.get("gen_ai.request.model") == Some(&json!("fake-1"))).unwrap();
    assert_eq!(of_model.labels["tollgate.server"], "model");

    assert_metrics(&collector, counted.answers, counted.input + counted.cache_read + counted.cache_write);
    assert_eq!(collector.resource()["service.name"], "tollgate");
    assert!(collector.header("authorization").iter().all(|value| *value == format!("Bearer {TOKEN}")));
    assert!(collector.header("content-type").iter().all(|value| value == "application/x-protobuf"));
    // Nothing that was said, written, read or kept secret is told.
    let place = world.path().display().to_string();
    for secret in
        [PROMPT, "sevenfold", WRITTEN, "return a", "calc.py", "I look.", "grep", KEY, TOKEN, "FAKE_KEY", &place]
    {
        assert!(!collector.has_seen(secret), "{secret} was told to the collector");
    }
    assert!(!said.contains(TOKEN), "{said}");
}

/// What is counted has the conventions' names, units and buckets.
fn assert_metrics(collector: &Collector, answers: u64, input: u64) {
    let request = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
    let mcp = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
    for (name, bounds) in [
        ("gen_ai.client.inference.duration", request),
        ("gen_ai.client.operation.duration", request),
        ("mcp.client.operation.duration", mcp),
    ] {
        let (unit, points) = collector.metric(name);
        assert_eq!((unit.as_str(), points[0].bounds.as_slice()), ("s", &bounds[..]), "{name}");
        let models = points.iter().filter(|point| point.labels.contains_key("gen_ai.request.model"));
        if name.starts_with("gen_ai") {
            // The one that was turned away, too.
            assert_eq!(models.map(|point| point.count).sum::<u64>(), answers + 1, "{name}");
        }
    }
    let (unit, points) = collector.metric("gen_ai.client.token.usage");
    let of = |kind: &str| points.iter().find(|point| point.labels["gen_ai.token.type"] == kind).unwrap();
    assert_eq!((unit.as_str(), of("input").count), ("{token}", answers));
    assert_eq!(of("input").bounds.last(), Some(&67_108_864.0));
    let (_, used) = collector.metric("gen_ai.client.inference.usage.input_tokens");
    let (_, sent) = collector.metric("gen_ai.client.inference.operation.input_tokens");
    for sum in [of("input").sum, used[0].sum, sent[0].sum] {
        assert_eq!(sum.to_string(), input.to_string());
    }
    let (_, agents) = collector.metric("gen_ai.invoke_agent.duration");
    assert_eq!(agents.iter().map(|point| point.count).sum::<u64>(), 1);
    let (_, local) = collector.metric("gen_ai.execute_tool.duration");
    assert!(local.iter().all(|point| point.labels["gen_ai.tool.name"].as_str().unwrap().starts_with("tollgate__")));
}

#[test]
fn parts_of_a_team_are_children_of_the_whole() {
    let (world, collector) = (World::new(), Collector::start(Mood::Takes));
    configure(&world, &to(&collector));
    let part =
        |id: &str, role: &str| json!({"id": id, "role": role, "description": format!("Do {id}."), "depends_on": []});
    let plan = json!({"tool": "tollgate__plan_team", "arguments": {"parts": [part("mend", "bugfix"), part("note", "featurebuilder")]}});
    world.script(&json!({
        "agent": {"name": "ann"},
        "analysis": [plan],
        "turns": [{"tool": "git__git_status"}],
        "members": {
            "mend": {"turns": [write("calc.py", RIGHT)]},
            "note": {"turns": [write("notes.py", "NOTE = 1\n")]},
        },
    }));
    let (events, code) = world.run(&["--task", "x", "--team", "--accept", "true"]);
    assert_eq!(code, 0, "{events:#?}");
    let spans = collector.spans();
    let whole = collector.span(|span| span.parent.is_empty());
    let parts: Vec<&Span> =
        spans.iter().filter(|span| span.name.starts_with("invoke_agent ") && !span.parent.is_empty()).collect();
    let mut roles: Vec<&str> = parts.iter().map(|part| part.text("tollgate.agent.role")).collect();
    roles.sort_unstable();
    assert_eq!(roles, ["bugfix", "featurebuilder"], "{parts:#?}");
    for part in parts {
        assert_eq!((part.parent.as_str(), part.trace.as_str()), (whole.id.as_str(), whole.trace.as_str()));
        assert_eq!(part.text("tollgate.team.task.id"), whole.text("tollgate.task.id"));
        assert!(names(&children(&spans, part)).contains(&"iteration"));
    }
    assert_eq!(collector.cost(|_| true), total(&world));
    assert_eq!(money(whole.text("tollgate.task.cost.usd")), total(&world));
}

#[test]
fn attempt_of_a_worker_holds_its_task() {
    let (world, collector) = (World::new(), Collector::start(Mood::Takes));
    configure(&world, &format!("[queue]\nagent = \"scripted:script.json\"\npoll_ms = 100\n\n{}", to(&collector)));
    world.script(&json!({"turns": [write("calc.py", RIGHT)]}));
    let task = json!({"id": "t-1", "description": "do it", "status": "pending", "priority": "P2", "type": "bug",
        "complexity_category": "low", "estimated_value_usd": "10", "acceptance": {"commands": ["true"]}});
    let file = world.path().join(".git/tasks.json");
    fs::write(&file, json!([task]).to_string()).unwrap();
    world.text(&["queue", "import", file.to_str().unwrap()]);
    world.text(&["worker", "--once"]);
    let attempt = collector.span(|span| span.name == "attempt");
    assert_eq!((attempt.text("tollgate.queue.task.id"), &attempt.attributes["tollgate.attempt"]), ("t-1", &json!(1)));
    assert!(attempt.parent.is_empty());
    let spans = collector.spans();
    let below = children(&spans, &attempt);
    assert_eq!((below.len(), below[0].text("tollgate.ending")), (1, "done"), "{below:#?}");
    assert_eq!(collector.cost(|_| true), total(&world));
}

#[test]
fn calls_of_an_agent_of_its_own_are_part_of_its_turn() {
    let (world, collector) = (World::new(), Collector::start(Mood::Takes));
    let agent = format!(
        "[agents.fixture]\ncommand = \"{}\"\nenv = {{ ACP_FIXTURE = \"good\" }}\nenv_pass = [\"FAKE_KEY\"]\n",
        program("acp-fixture").display()
    );
    configure(&world, &format!("{agent}\n{}", to(&collector)));
    let mut command = world.command(&["run", "--format", "json", "--agent", "acp:fixture", "--task", "Make add work"]);
    let (events, code) = world.events_of(command.env("FAKE_KEY", KEY));
    assert_eq!(code, 0, "{events:#?}");
    let spans = collector.spans();
    let turns = spans.iter().filter(|span| span.name == "invoke_agent fixture" && span.kind == CLIENT);
    let calls: Vec<&Span> = turns.flat_map(|turn| children(&spans, turn)).collect();
    assert!(names(&calls).contains(&"execute_tool tollgate__write_file"), "{:?}", names(&calls));
    assert_eq!(spans.iter().filter(|span| span.parent.is_empty()).count(), 1, "{spans:#?}");
    assert_eq!(collector.cost(|_| true), total(&world));
    assert!(!collector.has_seen(KEY));
}

#[test]
fn task_that_is_interrupted_and_gone_on_with_is_counted_once() {
    let world = World::new();
    world.script(&json!({"turns": [write("calc.py", RIGHT)]}));
    let config = fs::read_to_string(world.path().join("tollgate.toml")).unwrap();
    let collectors = [Collector::start(Mood::Takes), Collector::start(Mood::Takes)];
    let told =
        |collector: &Collector| fs::write(world.path().join("tollgate.toml"), format!("{config}\n{}", to(collector)));
    told(&collectors[0]).unwrap();
    let (events, _) = world.run(&["--task", "x", "--accept", "true", "--budget", "0.0004"]);
    assert_eq!(events.last().unwrap()["ending"], "budget", "{events:#?}");
    let stopped = collectors[0].span(|span| span.parent.is_empty());
    assert_eq!((stopped.text("error.type"), stopped.is_error), ("budget", true));
    let (_, refusals) = collectors[0].metric("tollgate.refusals");
    assert_eq!(refusals[0].labels["tollgate.code"], "budget_exceeded", "{refusals:?}");
    told(&collectors[1]).unwrap();
    let (events, code) = world.resume(events[0]["id"].as_str().unwrap(), &["--budget", "1"]);
    assert_eq!(code, 0, "{events:#?}");
    let gone_on = collectors[1].span(|span| span.parent.is_empty());
    assert_eq!(gone_on.text("tollgate.task.id"), stopped.text("tollgate.task.id"));
    let spans = collectors[1].spans();
    let below = children(&spans, &gone_on);
    // In the middle of the iteration in which it stopped; what was before it is not done again.
    assert!(names(&below).contains(&"iteration") && !names(&below).contains(&"tools/call git_worktree_add"));
    assert_eq!(below[0].attributes.get("tollgate.iteration"), Some(&json!(1)), "{below:#?}");
    assert_eq!(collectors[0].cost(|_| true) + collectors[1].cost(|_| true), total(&world));
}
