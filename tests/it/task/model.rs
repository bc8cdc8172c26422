//! `--agent model:NAME` against a provider that fails in every way that providers do.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_shared::money::Money;
use tollgate_tests::provider::{Counted, KEY, Provider, Turn};

use super::world::World;

const RIGHT: &str = "def add(a, b):\n    return a + b\n";
const PRICES: [(&str, &str); 4] = [("input", "3"), ("output", "15"), ("cache_read", "0.30"), ("cache_write", "3.75")];

fn money(text: &str) -> Money {
    text.parse().unwrap()
}

/// Lets the world use the model `fake` at `provider`, in one of its formats.
fn model(world: &World, provider: &Provider, format: &str, more: &str) {
    let prices: Vec<String> = PRICES.iter().map(|(kind, price)| format!("{kind} = \"{price}\"")).collect();
    let config = format!(
        "[orchestrator]\nservers = [\"git\", \"ralph\"]\n\n[models.fake]\nprovider = \"{format}\"\nmodel = \"fake-1\"\n\
         base_url = \"{}\"\napi_key_env = \"FAKE_KEY\"\nprice = {{ {} }}\nretry_delay_ms = 5\n{more}\n",
        provider.url(),
        prices.join(", ")
    );
    fs::write(world.path().join("tollgate.toml"), config).unwrap();
}

const ROOM: &str = "context_tokens = 200000";

fn run(world: &World, arguments: &[&str]) -> (Vec<Value>, i32) {
    let mut command = world.command(&["run", "--format", "json", "--agent", "model:fake"]);
    world.events_of(command.args(arguments).env("FAKE_KEY", KEY))
}

fn resume(world: &World, id: &str, arguments: &[&str]) -> (Vec<Value>, i32) {
    let mut command = world.command(&["run", "--format", "json", "--resume", id]);
    world.events_of(command.args(arguments).env("FAKE_KEY", KEY))
}

fn write(content: &str) -> (&'static str, Value) {
    ("tollgate__write_file", json!({ "path": "calc.py", "content": content }))
}

fn read(path: &str) -> (&'static str, Value) {
    ("tollgate__read_file", json!({ "path": path }))
}

/// What the provider's count comes to at its prices.
fn cost(counted: &Counted) -> Money {
    let per = |kind: &str| {
        let (_, price) = PRICES.iter().find(|(name, _)| *name == kind).unwrap();
        money(price).per_million()
    };
    per("input").times(counted.input)
        + per("cache_read").times(counted.cache_read)
        + per("cache_write").times(counted.cache_write)
        + per("output").times(counted.output + counted.reasoning)
}

/// The amount of every sku of models in the ledger whose name ends like this.
fn by_sku(world: &World, is_wanted: impl Fn(&str) -> bool) -> Money {
    let costs = world.json(&["costs", "--by", "sku", "--format", "json"]);
    let groups = costs["groups"].as_object().unwrap();
    let wanted = groups.iter().filter(|(sku, _)| sku.starts_with("model.") && is_wanted(sku));
    wanted.map(|(_, total)| money(total["amount"].as_str().unwrap())).sum()
}

#[test]
fn task_is_done_whatever_the_provider_goes_through_and_costs_what_it_counted() {
    for format in ["anthropic", "openai", "openai_resp"] {
        for stream in [true, false] {
            let world = World::new();
            let provider = Provider::start([
                Turn::Status(429, Some(20), "slow down"),
                Turn::Status(500, None, "oops"),
                Turn::Drop,
                Turn::Answer(
                    "I look first.",
                    vec![read("calc.py"), read("tests/test_calc.py"), ("git__git_status", json!({}))],
                ),
                Turn::Malformed,
                Turn::BreakOff,
                Turn::Overloaded,
                Turn::RawCall("tollgate__write_file", "{\"path\": \"calc.py\", \"content\": "),
                Turn::Answer(
                    "",
                    vec![("tollgate__no_such_tool", json!({})), write("def add(a, b):\n    return a +\n")],
                ),
                Turn::Answer("Now it adds.", vec![]),
                Turn::Answer("I see.", vec![write(RIGHT)]),
                Turn::Answer("", vec![]),
            ]);
            model(&world, &provider, format, &format!("{ROOM}\nstream = {stream}\nretries = 6"));
            let before = world.checkout();
            let (events, code) = run(&world, &["--task", "Make add work", "--accept", "grep -q 'a + b' calc.py"]);
            let named = format!("{format}, stream {stream}");
            assert_eq!(code, 0, "{named}: {events:#?}");
            let end = events.last().unwrap();
            assert_eq!(world.git(&["show", &format!("{}:calc.py", end["commit"].as_str().unwrap())]), RIGHT, "{named}");
            assert_eq!(world.checkout(), before, "{named}");
            assert_eq!(provider.complaints(), Vec::<String>::new(), "{named}");
            let counted = provider.counted();
            assert_eq!(counted.answers, 6, "{named}");

            // What was counted is charged to the last digit; what was never counted stands by itself.
            let reported = by_sku(&world, |sku| !sku.ends_with("_unreported"));
            assert_eq!(reported, cost(&counted), "{named}");
            let unreported = by_sku(&world, |sku| sku.ends_with("_unreported"));
            assert!(unreported > Money::ZERO, "{named}: nothing for answers that broke off");
            let costs = world.json(&["costs", "--by", "model", "--format", "json"]);
            let of_model = &costs["groups"][format!("{format}/fake-1")];
            assert_eq!(money(of_model["amount"].as_str().unwrap()), reported + unreported, "{named}: {costs}");
            let id = world.sessions()[0]["id"].as_str().unwrap().to_owned();
            let by_task = world.json(&["costs", "--by", "task", "--format", "json"]);
            assert_eq!(by_task["groups"][&id]["amount"], end["cost_usd"], "{named}");

            // The last request holds the whole conversation, and the key is nowhere.
            let requests = provider.requests();
            let last = requests.last().unwrap().to_string();
            for part in ["Make add work", "grep -q", "no_such_tool", "syntax"] {
                assert!(last.contains(part), "{named}: {part} is not in {last}");
            }
            // What was no JSON is told back as such, where the client library gives it and does not fail.
            assert!(last.contains("malformed_arguments") || (format != "anthropic" && !stream), "{named}: {last}");
            for text in [world.text(&["sessions", "export", &id]), format!("{events:?}"), last] {
                assert!(!text.contains(KEY), "{named}: the key is told");
            }
        }
    }
}

#[test]
fn what_a_model_needs_is_said_before_anything_is_made() {
    let world = World::new();
    let provider = Provider::start([]);
    model(&world, &provider, "anthropic", ROOM);
    let failed = |agent: &str| {
        let output = world
            .command(&["run", "--task", "x", "--agent", agent])
            .env("FAKE_KEY", KEY)
            .env_remove("ANTHROPIC_API_KEY")
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(
        failed("model:fake-2").contains("describe it as [models.\"fake-2\"] with its price"),
        "{}",
        failed("model:fake-2")
    );
    assert!(failed("model:claude-opus-5-5").contains("set ANTHROPIC_API_KEY"), "{}", failed("model:claude-opus-5-5"));
    assert!(failed("model:").contains("is no agent"));
    let text = fs::read_to_string(world.path().join("tollgate.toml")).unwrap();
    fs::write(world.path().join("tollgate.toml"), text.replace("\"anthropic\"", "\"anthropical\"")).unwrap();
    assert!(failed("model:fake").contains("`anthropical` is no provider"), "{}", failed("model:fake"));
    assert!(world.sessions().is_empty());
    assert!(provider.requests().is_empty());
    assert!(world.git(&["branch", "--list", "tollgate/*"]).is_empty());
}

#[test]
fn faults_that_do_not_pass_are_not_tried_again_and_tell_no_secret() {
    for (status, code) in [(400, "model_request_refused"), (401, "model_unauthorized"), (404, "model_request_refused")]
    {
        let world = World::new();
        let provider = Provider::start([Turn::Status(status, None, "your key sk-test-0123456789 is not known")]);
        model(&world, &provider, "anthropic", ROOM);
        let (events, exit) = run(&world, &["--task", "x"]);
        let end = events.last().unwrap();
        assert_eq!((end["ending"].as_str(), exit), (Some("failed"), 1), "{end}");
        assert_eq!(provider.requests().len(), 1, "{status}");
        let reason = end["reason"].as_str().unwrap();
        assert!(reason.contains("your key *** is not known"), "{reason}");
        assert_eq!(by_sku(&world, |_| true), Money::ZERO);
        let id = world.sessions()[0]["id"].as_str().unwrap().to_owned();
        assert!(world.text(&["sessions", "export", &id]).contains(code), "{status}");
    }
    // An address that sends elsewhere is not followed there, key and all.
    let world = World::new();
    let elsewhere = Provider::start([]);
    let provider = Provider::start([Turn::Status(307, None, "")]);
    model(&world, &provider, "anthropic", ROOM);
    run(&world, &["--task", "x"]);
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn request_that_does_not_fit_the_budget_is_not_made_and_more_money_goes_on() {
    let world = World::new();
    fs::write(world.path().join("long.py"), "# some remark\n".repeat(3_000)).unwrap();
    world.git(&["add", "."]);
    world.git(&["commit", "--quiet", "--message", "long"]);
    let provider = Provider::start([Turn::Answer("", vec![read("long.py")]), Turn::Answer("", vec![write(RIGHT)])]);
    model(&world, &provider, "anthropic", ROOM);
    // Enough for the first request with a short answer, and not for the second with the whole file.
    let (events, code) = run(&world, &["--task", "x", "--budget", "0.045"]);
    let end = events.last().unwrap();
    assert_eq!((end["ending"].as_str(), code), (Some("budget"), 1), "{end}");
    assert_eq!(provider.requests().len(), 1, "{end}");
    // The answer was limited to what the money was enough for.
    let asked = provider.requests()[0]["max_tokens"].as_u64().unwrap();
    assert!((1_000..2_500).contains(&asked), "{asked}");
    assert!(money(end["cost_usd"].as_str().unwrap()) <= money("0.045"));
    let id = end["id"].as_str().map_or_else(|| world.sessions()[0]["id"].as_str().unwrap().to_owned(), str::to_owned);
    let (events, code) = resume(&world, &id, &["--budget", "5"]);
    assert_eq!(code, 0, "{events:#?}");
    let end = events.last().unwrap();
    let by_task = world.json(&["costs", "--by", "task", "--format", "json"]);
    assert_eq!(by_task["groups"][&id]["amount"], end["cost_usd"]);
    assert_eq!(by_sku(&world, |_| true), cost(&provider.counted()));
}

#[test]
fn long_conversation_is_shortened_to_what_matters() {
    let world = World::new();
    let long: String = (0..400).map(|line| format!("# a remark of no consequence, number {line}\n")).collect();
    fs::write(world.path().join("long.py"), &long).unwrap();
    world.git(&["add", "."]);
    world.git(&["commit", "--quiet", "--message", "long"]);
    let mut turns = vec![
        Turn::Answer("", vec![("tollgate__update_plan", json!({ "plan": "1. read\n2. THE-PLAN\n" }))]),
        Turn::Answer("", vec![write("def add(a, b):\n    return a +\n")]),
        Turn::Answer("Done.", vec![]),
    ];
    turns.push(Turn::Answer("Reading.", vec![read("long.py"); 8]));
    // With that it does not fit any more, and is asked for notes first.
    turns.push(Turn::Answer("NOTES-OF-ITS-OWN: long.py is of no consequence", vec![]));
    turns.push(Turn::Answer("", vec![write(RIGHT)]));
    let provider = Provider::start(turns);
    model(&world, &provider, "openai", "context_tokens = 12000\noutput_tokens_max = 1500");
    let (events, code) = run(&world, &["--task", "Make add work: THE-TASK", "--accept", "grep -q 'a + b' calc.py"]);
    assert_eq!(code, 0, "{events:#?}");
    assert_eq!(provider.complaints(), Vec::<String>::new());
    let requests: Vec<String> = provider.requests().iter().map(Value::to_string).collect();
    let notes = requests
        .iter()
        .position(|request| request.contains("Write down what you will need"))
        .expect("no notes were asked for");
    let after = &requests[notes + 1];
    for part in ["THE-TASK", "grep -q", "THE-PLAN", "syntax", "- calc.py", "NOTES-OF-ITS-OWN", "tollgate__read_file"] {
        assert!(after.contains(part), "{part} is not in {after}");
    }
    assert!(!after.contains("no consequence, number 7"), "{after}");
    let end = events.last().unwrap();
    let id = world.sessions()[0]["id"].as_str().unwrap().to_owned();
    let by_task = world.json(&["costs", "--by", "task", "--format", "json"]);
    assert_eq!(by_task["groups"][&id]["amount"], end["cost_usd"], "the notes are paid for");
    assert_eq!(by_sku(&world, |_| true), cost(&provider.counted()));
}

#[test]
fn killed_while_it_waits_for_an_answer_it_asks_again_and_pays_for_each_answer_once() {
    let world = World::new();
    let provider = Provider::start([
        Turn::Answer("", vec![read("calc.py")]),
        Turn::Wait(Duration::from_secs(3)),
        Turn::Answer("", vec![write("lost with the process that wanted it")]),
        Turn::Answer("", vec![write(RIGHT)]),
    ]);
    model(&world, &provider, "anthropic", ROOM);
    let mut running = world
        .command(&["run", "--task", "x", "--agent", "model:fake"])
        .env("FAKE_KEY", KEY)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while provider.counted().answers < 1 {
        assert!(began.elapsed() < Duration::from_secs(60), "no first answer");
        std::thread::sleep(Duration::from_millis(5));
    }
    // The second request is under way once the first call was answered.
    std::thread::sleep(Duration::from_millis(1_500));
    running.kill().unwrap();
    running.wait().unwrap();
    let id = world.sessions()[0]["id"].as_str().unwrap().to_owned();
    let (events, code) = resume(&world, &id, &[]);
    assert_eq!(code, 0, "{events:#?}");
    let end = events.last().unwrap();
    assert_eq!(world.git(&["show", &format!("{}:calc.py", end["commit"].as_str().unwrap())]), RIGHT);
    let by_task = world.json(&["costs", "--by", "task", "--format", "json"]);
    assert_eq!(by_task["groups"][&id]["amount"], end["cost_usd"]);
    assert!(world.text(&["audit", "verify"]).contains("whole"));
}

#[test]
fn team_of_models_divides_a_task_is_told_what_is_wrong_and_puts_it_together() {
    const TWICE: &str = "from calc import add\n\n\ndef test_twice():\n    assert add(2, 2) == 4\n";
    for (format, stream) in [("anthropic", true), ("openai", false), ("openai_resp", true)] {
        let world = World::new();
        let plan = json!({ "parts": [
            { "id": "mend", "role": "bugfix", "description": "Make add in calc.py add.", "acceptance": ["grep -q 'a + b' calc.py"] },
            { "id": "test", "role": "testwriter", "description": "Test add with twice the same number." },
            { "id": "look", "role": "advisor", "description": "Is there a risk?", "depends_on": ["mend", "test"] },
        ]});
        let wrong = json!({ "parts": [{ "id": "all", "role": "everybody", "description": "Do it." }] });
        let test = json!({ "path": "tests/test_twice.py", "content": TWICE });
        let provider = Provider::start_for_team([
            (
                "Your role is lead",
                vec![
                    Turn::Answer("I look first.", vec![read("calc.py"), read("tests/test_calc.py")]),
                    Turn::Status(429, Some(10), "slow down"),
                    Turn::Answer("", vec![("tollgate__plan_team", wrong)]),
                    Turn::Answer("Then so.", vec![("tollgate__plan_team", plan)]),
                    Turn::Answer("I look at the whole.", vec![read("calc.py"), read("tests/test_twice.py")]),
                    Turn::Answer("It fits together.", vec![]),
                ],
            ),
            (
                "Your role is bugfix",
                vec![
                    Turn::Answer("", vec![write("def add(a, b):\n    return a - b\n")]),
                    Turn::Answer("Mended.", vec![]),
                    Turn::Drop,
                    Turn::Answer("I see.", vec![write(RIGHT)]),
                    Turn::Answer("The cause was a wrong sign.", vec![]),
                ],
            ),
            (
                "Your role is testwriter",
                vec![
                    Turn::Answer("", vec![("tollgate__write_file", test)]),
                    Turn::Answer("It is tested with 2 and 2.", vec![]),
                ],
            ),
            ("Your role is advisor", vec![Turn::Answer("calc.py:2: no risk worth a word.", vec![])]),
        ]);
        model(&world, &provider, format, &format!("{ROOM}\nstream = {stream}\nretries = 6"));
        let before = world.checkout();
        let (events, code) =
            run(&world, &["--task", "Make add work and test it", "--team", "--accept", "grep -q 'a + b' calc.py"]);
        let named = format!("{format}, stream {stream}");
        assert_eq!(code, 0, "{named}: {events:#?}");
        assert_eq!((provider.complaints(), provider.left()), (Vec::new(), 0), "{named}");
        let planned = events.iter().find(|event| event["event"] == "planned").unwrap();
        assert!(planned["default_reason"].is_null(), "{planned}");
        // The verdict on a part goes back to who does it, and to nobody else.
        let verdicts: Vec<String> = events
            .iter()
            .filter(|event| event["of"]["event"] == "verdict")
            .map(|event| format!("{}: {}", event["member"], event["of"]["verdict"]["decision"]))
            .collect();
        for expected in ["\"mend\": \"again\"", "\"mend\": \"done\"", "\"test\": \"done\"", "\"look\": \"done\""] {
            assert!(verdicts.iter().any(|verdict| verdict == expected), "{expected} is not in {verdicts:?}");
        }
        let end = events.last().unwrap();
        let commit = end["commit"].as_str().unwrap();
        assert_eq!(world.git(&["show", &format!("{commit}:calc.py")]), RIGHT, "{named}");
        assert_eq!(world.git(&["show", &format!("{commit}:tests/test_twice.py")]), TWICE, "{named}");
        assert_eq!(world.checkout(), before);
        // Whoever puts it together is told what the others reported.
        let of_lead: Vec<String> = provider
            .requests()
            .iter()
            .map(Value::to_string)
            .filter(|text| text.contains("Your role is lead"))
            .collect();
        for told in ["The cause was a wrong sign.", "It is tested with 2 and 2.", "calc.py:2: no risk worth a word."] {
            assert!(of_lead.last().unwrap().contains(told), "{told}");
            assert!(!of_lead[0].contains(told));
        }
        // What all of them cost is what the provider counted, to the last digit.
        let reported = by_sku(&world, |sku| !sku.ends_with("_unreported"));
        assert_eq!(reported, cost(&provider.counted()), "{named}");
    }
}
