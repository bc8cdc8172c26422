//! The orchestrator as people and programs run it.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_tests::world::{orchestrator_in, program};

/// A workspace with the house's ralph and the fixture as a foreign server, priced by configuration.
fn world() -> TempDir {
    let world = tempfile::tempdir().unwrap();
    fs::write(world.path().join("a.py"), "x = 1\n").unwrap();
    fs::write(
        world.path().join("tollgate.toml"),
        format!(
            "[orchestrator]\nservers = [\"ralph\"]\n\n\
             [prices]\n\"fixture.echo\" = \"0.25\"\n\n\
             [servers.fixture]\ncommand = {:?}\ncall_timeout_ms = 1500\nenv = {{ GIVEN = \"given\" }}\n",
            program("mcp-fixture")
        ),
    )
    .unwrap();
    world
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    orchestrator_in(folder).args(arguments).output().unwrap()
}

/// Runs a command that prints JSON and returns it with the exit code.
fn json_of(folder: &Path, arguments: &[&str]) -> (Value, i32) {
    let output = run(folder, arguments);
    let parsed = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (parsed, output.status.code().unwrap())
}

#[test]
fn call_answers_with_result_and_receipt() {
    let world = world();
    let (own, code) = json_of(
        world.path(),
        &["call", "ralph", "verify_file", r#"{"path": "a.py"}"#, "--agent", "a1", "--task", "T-1"],
    );
    assert_eq!((own["result"]["verdict"].as_str(), code), (Some("pass"), 0));
    assert_eq!(own["receipt"]["amount"], "0.0019");
    assert_eq!(own["receipt"]["agent"]["name"], "a1");
    assert_eq!(own["receipt"]["task_id"], "T-1");

    let (foreign, code) = json_of(world.path(), &["call", "fixture", "echo", r#"{"text": "hi"}"#]);
    assert_eq!((foreign["result"]["text"].as_str(), code), (Some("hi"), 0));
    assert_eq!(foreign["receipt"]["amount"], "0.25");

    let (refused, code) = json_of(world.path(), &["call", "ralph", "verify_file", r#"{"path": "../x.py"}"#]);
    assert_eq!((refused["result"]["error"]["code"].as_str(), code), (Some("path_outside_root"), 1));

    let (costs, _) = json_of(world.path(), &["costs", "--by", "server", "--format", "json"]);
    assert_eq!(costs["total"]["amount"], "0.2519");
    assert_eq!(costs["groups"]["fixture"]["calls"], 1);
    assert_eq!(costs["groups"]["ralph"]["refused"], 1);
    let csv = run(world.path(), &["costs", "--by", "task", "--format", "csv"]);
    assert!(String::from_utf8(csv.stdout).unwrap().contains("T-1,1,0,0,0,"));
    assert!(run(world.path(), &["audit", "verify"]).status.success());
}

#[test]
fn catalogue_has_prices_and_what_schemas_cost_per_turn() {
    let world = world();
    let (tools, _) = json_of(world.path(), &["tools", "--format", "json"]);
    let text = tools.to_string();
    for expected in ["ralph__verify_file", "fixture__echo", "tollgate__cost_report", "0.25", "0.001"] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
    let (openai, _) = json_of(world.path(), &["tools", "--format", "openai"]);
    let first = &openai.as_array().unwrap()[0];
    assert_eq!(first["type"], "function");
    let (anthropic, _) = json_of(world.path(), &["tools", "--format", "anthropic"]);
    for tool in anthropic.as_array().unwrap() {
        let name = tool["name"].as_str().unwrap();
        assert!(
            name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'),
            "{name}"
        );
        assert_eq!(tool["input_schema"]["type"], "object");
    }
    let table = String::from_utf8(run(world.path(), &["tools"]).stdout).unwrap();
    assert!(table.contains("tokens"), "{table}");
}

#[test]
fn foreign_server_gets_only_what_it_was_given() {
    let world = world();
    let variable = |name: &str| {
        let arguments = json!({ "text": name }).to_string();
        let output = orchestrator_in(world.path())
            .args(["call", "fixture", "variable", &arguments])
            .env("SECRET_OF_THE_HOST", "s3cr3t")
            .env("AWS_SECRET_ACCESS_KEY", "s3cr3t")
            .output()
            .unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["result"]["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(variable("GIVEN"), "given");
    for name in ["SECRET_OF_THE_HOST", "AWS_SECRET_ACCESS_KEY", "TOLLGATE_RUN_SECRET"] {
        assert_eq!(variable(name), "(not set)", "{name}");
    }
}

#[test]
fn server_that_hangs_is_bounded_and_one_that_dies_is_started_again() {
    let world = world();
    let script = world.path().join("script.yaml");
    fs::write(
        &script,
        "turns:\n\
         - { tool: fixture__sleep, arguments: { ms: 60000 }, expect: { outcome: failed, code: timeout } }\n\
         - { tool: fixture__echo, arguments: { text: after a hang }, expect: { answer: { text: after a hang } } }\n\
         - { tool: fixture__crash, expect: { outcome: failed, code: server_died } }\n\
         - { tool: fixture__echo, arguments: { text: after a crash }, expect: { answer: { text: after a crash } } }\n\
         - { tool: fixture__crash, expect: { outcome: failed, code: server_died } }\n\
         - { tool: ralph__verify_file, arguments: { path: a.py }, expect: { answer: { verdict: pass } } }\n\
         - { tool: fixture__echo, arguments: { text: again }, expect: { answer: { text: again } } }\n",
    )
    .unwrap();
    let begun = Instant::now();
    let output = run(world.path(), &["run", "script.yaml"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(begun.elapsed() < Duration::from_secs(40));
    let (costs, _) = json_of(world.path(), &["costs", "--format", "json"]);
    assert_eq!((&costs["total"]["calls"], &costs["total"]["failed"]), (&json!(7), &json!(3)));
    assert_eq!(costs["total"]["amount"], "0.7519");
}

#[test]
fn server_that_cannot_start_hides_its_tools_and_the_rest_work() {
    let world = world();
    let config = fs::read_to_string(world.path().join("tollgate.toml")).unwrap();
    fs::write(
        world.path().join("tollgate.toml"),
        format!(
            "{config}\n[servers.broken]\ncommand = \"/no/such/program\"\n\n[servers.silent]\ncommand = \"false\"\n"
        ),
    )
    .unwrap();
    let output = run(world.path(), &["tools", "--format", "json"]);
    let listed = String::from_utf8(output.stdout).unwrap();
    assert!(listed.contains("ralph__verify_file") && listed.contains("fixture__echo"), "{listed}");
    assert!(!listed.contains("broken__"), "{listed}");
    let (answer, code) = json_of(world.path(), &["call", "broken", "x"]);
    assert_eq!((answer["result"]["error"]["code"].as_str(), code), (Some("server_unavailable"), 1));
    let (answer, code) = json_of(world.path(), &["call", "nobody", "x"]);
    assert_eq!((answer["result"]["error"]["code"].as_str(), code), (Some("unknown_server"), 1));
}

#[test]
fn run_stops_at_the_first_turn_that_comes_out_otherwise() {
    let world = world();
    let surprises = [
        "- { tool: ralph__verify_file, arguments: { path: a.py }, expect: { answer: { verdict: fail } } }",
        "- { tool: ralph__verify_file, arguments: { path: a.py }, expect: { outcome: refused } }",
        "- { tool: ralph__verify_file, arguments: { path: ../a.py } }",
        "- { tool: ralph__verify_file, arguments: { path: ../a.py }, expect: { outcome: refused, code: other } }",
        "- { tool: ralph__no_such_tool }",
        "- { tool: ralph__verify_file, arguments: { path: '{{nobody.path}}' } }",
    ];
    for surprise in surprises {
        let after = "- { tool: fixture__echo, arguments: { text: not reached } }";
        fs::write(world.path().join("script.yaml"), format!("turns:\n{surprise}\n{after}\n")).unwrap();
        let output = run(world.path(), &["run", "script.yaml", "--format", "json"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{surprise}: {text}");
        assert!(!text.contains("not reached"), "{surprise}: {text}");
    }
}

#[test]
fn answers_are_referred_to_as_values_and_as_text() {
    let world = world();
    fs::write(
        world.path().join("script.json"),
        json!({"agent": {"name": "s"}, "turns": [
            {"id": "v", "tool": "ralph__verify_file", "arguments": {"path": "a.py"}},
            {"tool": "fixture__echo", "arguments": {"text": "{{v.checks.0.check}} is {{v.verdict}}"},
             "expect": {"answer": {"text": "syntax is pass"}}},
            {"tool": "ralph__verify_batch", "arguments": {"paths": ["{{v.path}}"]}, "expect": {"cached": true}},
        ]})
        .to_string(),
    )
    .unwrap();
    let output = run(world.path(), &["run", "script.json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn wrong_input_is_named_with_its_place() {
    let world = world();
    fs::write(world.path().join("bad.yaml"), "turns:\n- { tool: a__b, argumnets: {} }\n").unwrap();
    fs::write(world.path().join("empty.yaml"), "turns: []\n").unwrap();
    for (arguments, expected) in [
        (&["run", "bad.yaml"][..], "argumnets"),
        (&["run", "empty.yaml"], "no turns"),
        (&["run", "none.yaml"], "none.yaml"),
        (&["call", "ralph", "verify_file", "[1]"], "JSON object"),
        (&["costs", "--since", "whenever"], "whenever"),
        (&["--mcp-json", "none.json", "tools"], "none.json"),
    ] {
        let output = run(world.path(), arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    let config = fs::read_to_string(world.path().join("tollgate.toml")).unwrap();
    fs::write(world.path().join("tollgate.toml"), config.replace("servers = [", "severs = [")).unwrap();
    let output = run(world.path(), &["tools"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("severs") && said.contains("servers"), "{said}");
}

#[test]
fn mcp_json_of_another_host_is_used_when_it_is_named_and_never_unasked() {
    let world = world();
    let servers = json!({"mcpServers": {"other": {"command": program("mcp-fixture"), "args": ["--pipes"]}}});
    fs::write(world.path().join(".mcp.json"), servers.to_string()).unwrap();
    let (unasked, code) = json_of(world.path(), &["call", "other", "echo", r#"{"text": "x"}"#]);
    assert_eq!((unasked["result"]["error"]["code"].as_str(), code), (Some("unknown_server"), 1));
    let (named, code) =
        json_of(world.path(), &["--mcp-json", ".mcp.json", "call", "other", "echo", r#"{"text": "x"}"#]);
    assert_eq!((named["result"]["text"].as_str(), code), (Some("x"), 0));
}
