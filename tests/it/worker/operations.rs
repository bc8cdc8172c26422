//! docs/operations.md: every command in it, in order, as its reader would type it.

use std::process::Command;

use serde_json::Value;
use tollgate_tests::world::{orchestrator, orchestrator_in, repository_root};

use super::backlog::Shop;

#[test]
fn every_command_of_the_operators_guide_works() {
    let shop = Shop::new();
    std::fs::copy(repository_root().join("examples/backlog/backlog.json"), shop.path().join("backlog.json")).unwrap();
    let guide = std::fs::read_to_string(repository_root().join("docs/operations.md")).unwrap();
    let mut commands = Vec::new();
    for block in guide.split("```sh\n").skip(1) {
        commands.extend(block.split("```").next().unwrap().lines().map(str::to_owned));
    }
    assert!(commands.len() > 25, "{commands:?}");
    for line in commands {
        let line = if line.contains("SESSION") { line.replace("SESSION", &session(&shop)) } else { line };
        let programs = orchestrator().parent().unwrap().display().to_string();
        let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command.args(["-c", &line]).current_dir(shop.path()).env("PATH", path);
        for variable in ["TOLLGATE_CONFIG", "TOLLGATE_STATE_DIR", "TOLLGATE_AGENT", "TOLLGATE_ROLE", "TOLLGATE_TASK"] {
            command.env_remove(variable);
        }
        let output = command.output().unwrap();
        // A worker says with 1 that something is left for a person.
        let expected: &[i32] = if line.contains("worker") { &[0, 1] } else { &[0] };
        let code = output.status.code().unwrap();
        assert!(expected.contains(&code), "{line}: {code}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn session(shop: &Shop) -> String {
    let output = orchestrator_in(&shop.path()).args(["sessions", "list", "--json"]).output().unwrap();
    let sessions: Value = serde_json::from_slice(&output.stdout).unwrap();
    sessions[0]["id"].as_str().unwrap().to_owned()
}
