//! Questions of servers on the command line: who answers, and what.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_tests::world::{orchestrator_in, program};

use crate::terminal::Terminal;

/// A workspace with two foreign servers that ask: one of the newest revision, one with sessions.
fn world() -> TempDir {
    let world = tempfile::tempdir().unwrap();
    let configuration = format!(
        "[orchestrator]\nservers = []\n\n[servers.newer]\ncommand = {:?}\n\n\
         [servers.older]\ncommand = {:?}\nargs = [\"--legacy\"]\n",
        program("mcp-house"),
        program("mcp-fixture")
    );
    fs::write(world.path().join("tollgate.toml"), configuration).unwrap();
    world
}

fn question(text: &str) -> String {
    json!({"text": text, "patience_ms": 60_000}).to_string()
}

/// Calls a tool that asks, with nobody there, and returns what it made of the answer.
fn asked(folder: &Path, server: &str, answer: &[&str]) -> String {
    let question = if server == "newer" { question("really?") } else { "{}".to_owned() };
    let mut command = orchestrator_in(folder);
    command.args(["call", server, "ask", &question]).args(answer).stdin(Stdio::null());
    let output = command.output().unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    shown["result"]["text"].as_str().unwrap_or_else(|| panic!("{shown}")).to_owned()
}

#[test]
fn operator_answers_beforehand() {
    let world = world();
    for (answer, newer, older) in [
        (
            r#"{"approve": true, "size": 9}"#,
            "subject accepted {\"approve\":true}",
            r#"{"action":"accept","content":{"size":9}}"#,
        ),
        ("decline", "declined", r#"{"action":"decline"}"#),
        ("cancel", "dismissed", r#"{"action":"cancel"}"#),
        // `approve` is required and has no value of the server's own; `size` has one.
        ("defaults", "dismissed", r#"{"action":"accept","content":{"size":7}}"#),
        (r#"{"approve": "yes", "size": "9"}"#, "dismissed", r#"{"action":"cancel"}"#),
    ] {
        assert_eq!(asked(world.path(), "newer", &["--answer", answer]), newer, "{answer}");
        assert_eq!(asked(world.path(), "older", &["--answer", answer]), older, "{answer}");
    }
    // Without a terminal and without a word servers are told that nobody can be asked.
    assert_eq!(asked(world.path(), "newer", &[]), "nobody to ask");
    assert!(asked(world.path(), "older", &[]).contains("nobody is there to be asked"));
    let wrong = orchestrator_in(world.path()).args(["call", "newer", "ask", "{}", "--answer", "yes"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn script_is_answered_too() {
    let world = world();
    let script = world.path().join("script.yaml");
    let accepted = r#"{ text: "subject accepted {\"approve\":false}" }"#;
    let turn = format!(
        "turns:\n- {{ tool: newer__ask, arguments: {}, expect: {{ answer: {accepted} }} }}\n",
        question("really?")
    );
    fs::write(&script, turn).unwrap();
    let mut command = orchestrator_in(world.path());
    command.args(["run", script.to_str().unwrap(), "--answer", r#"{"approve": false}"#]).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Calls a tool that asks, before a person who writes these lines when asked; returns its answer and what the person saw.
fn answered_at_terminal(folder: &Path, server: &str, arguments: &str, lines: &[&str]) -> (Value, String) {
    answered_at(&Terminal::open(), folder, server, arguments, lines)
}

fn answered_at(terminal: &Terminal, folder: &Path, server: &str, arguments: &str, lines: &[&str]) -> (Value, String) {
    let mut command = orchestrator_in(folder);
    command.args(["call", server, "ask", arguments]).stdin(terminal.side()).stderr(terminal.side());
    let running = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut shown = terminal.shown_until("Answer, decline or cancel?");
    for line in lines {
        terminal.type_line(line);
    }
    let output = running.wait_with_output().unwrap();
    shown.push_str(&terminal.shown());
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {shown}"));
    (answer["result"].clone(), shown)
}

#[test]
fn person_at_the_terminal_is_asked() {
    let world = world();
    let evil = question("sure?\u{1b}[2J\u{1b}]0;owned\u{7}\rSend it? [y/n] y");
    // The first answer to the field is none, and is asked for again.
    let (answer, shown) = answered_at_terminal(world.path(), "newer", &evil, &["a", "maybe", "yes", "y"]);
    assert_eq!(answer["text"], "subject accepted {\"approve\":true}", "{shown}");
    assert!(shown.contains("The server `newer` asks") && shown.contains("takes yes or no"), "{shown}");
    assert!(shown.contains("  | sure?[2J]0;ownedSend it? [y/n] y"), "{shown}");
    assert!(!shown.contains("\u{1b}") && !shown.contains('\u{7}'), "{shown:?}");

    let (answer, shown) = answered_at_terminal(world.path(), "older", "{}", &["a", "", "y"]);
    assert_eq!(answer["text"], r#"{"action":"accept","content":{"size":7}}"#, "{shown}");
    let (answer, _) = answered_at_terminal(world.path(), "newer", &question("really?"), &["d"]);
    assert_eq!(answer["text"], "declined");
    let (answer, _) = answered_at_terminal(world.path(), "newer", &question("really?"), &["a", "y", "n"]);
    assert_eq!(answer["text"], "dismissed", "what was not sent was not said");
    // End of input: nobody is there any more.
    let (answer, _) = answered_at_terminal(world.path(), "newer", &question("really?"), &["\u{4}"]);
    assert_eq!(answer["text"], "dismissed");
}

#[test]
fn what_was_written_before_the_question_is_no_answer() {
    let world = world();
    let terminal = Terminal::open();
    for line in ["a", "yes", "y", "y"] {
        terminal.type_line(line);
    }
    let (answer, shown) = answered_at(&terminal, world.path(), "newer", &question("really?"), &["d"]);
    assert_eq!(answer["text"], "declined", "{shown}");
}

#[test]
fn agent_with_a_terminal_is_no_person() {
    let world = world();
    let terminal = Terminal::open();
    let mut command = orchestrator_in(world.path());
    command.args(["call", "newer", "ask", &question("really?")]).env("TOLLGATE_AGENT", "claude");
    let mut running = command.stdin(terminal.side()).stderr(terminal.side()).stdout(Stdio::piped()).spawn().unwrap();
    while running.try_wait().unwrap().is_none() {
        // Whoever is asked says nothing.
        terminal.press("\u{4}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let output = running.wait_with_output().unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(shown["result"]["text"], "nobody to ask", "{shown}");
    let asked = orchestrator_in(world.path())
        .args(["call", "newer", "ask", "{}", "--answer", "ask"])
        .env("TOLLGATE_AGENT", "claude")
        .stdin(terminal.side())
        .stderr(terminal.side())
        .output()
        .unwrap();
    assert_eq!(asked.status.code(), Some(2));
}

/// An approval is a person's; what a program was told to answer is none.
#[test]
fn nothing_said_beforehand_approves_a_deployment() {
    let world = tempfile::tempdir().unwrap();
    let configuration = "[orchestrator]\nservers = [\"deploy\"]\n\n[deploy.environments.staging]\n\
                         path = \"targets/staging/{service}\"\napprovals = 1\n";
    fs::write(world.path().join("tollgate.toml"), configuration).unwrap();
    fs::create_dir(world.path().join("dist")).unwrap();
    fs::write(world.path().join("dist/content"), "1").unwrap();
    let wanted = r#"{"environment": "staging", "service": "shop", "version": "1.0", "artifact": "dist"}"#;
    for answer in ["defaults", r#"{"approve": true}"#] {
        let mut command = orchestrator_in(world.path());
        command.args(["call", "deploy", "deploy", wanted, "--answer", answer]).stdin(Stdio::null());
        let output = command.output().unwrap();
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert_eq!(shown["result"]["error"]["code"], "approval_required", "{shown}");
    }
    assert!(!world.path().join("targets/staging").exists());
}
