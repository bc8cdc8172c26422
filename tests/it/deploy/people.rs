//! People who approve, with real keys, `ssh-keygen`, agents and terminals.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{Command, Output, Stdio};

use futures::TryStreamExt;
use serde_json::Value;
use tempfile::TempDir;
use tollgate_shared::audit::AuditEntry;
use tollgate_shared::ledger::Ledger;
use tollgate_shared::state_dir::StateDir;
use tollgate_tests::mcp_process::McpProcess;
use tollgate_tests::world::program;

use super::world::{World, dist};

/// Production alone, so that a test of approvals need not go through the rest.
pub const PRODUCTION: &str = r#"
[deploy.environments.prod]
path = "targets/prod/{service}"
approvals = 1
approvers = "approvers"
health = { command = ["{release}/check"], timeout_ms = 5000 }
"#;

/// A folder of keys outside the workspace.
pub struct People {
    dir: TempDir,
}

impl People {
    /// Makes a key for each of `names`.
    pub fn new(names: &[&str]) -> Self {
        let people = Self { dir: TempDir::new().unwrap() };
        for name in names {
            people.make_key(name, &["-t", "ed25519"]);
        }
        people
    }

    pub fn make_key(&self, name: &str, kind: &[&str]) {
        let status = Command::new("ssh-keygen")
            .args(kind)
            .args(["-q", "-N", "", "-C", name, "-f"])
            .arg(self.key(name))
            .status()
            .expect("ssh-keygen is there");
        assert!(status.success());
    }

    pub fn key(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn public(&self, name: &str) -> String {
        fs::read_to_string(self.key(&format!("{name}.pub"))).unwrap().trim().to_owned()
    }

    /// Lets `people` approve: each `(principal, key)`.
    pub fn let_approve(&self, world: &World, people: &[(&str, &str)]) {
        let text: String = people.iter().map(|(person, key)| format!("{person} {}\n", self.public(key))).collect();
        fs::write(world.work().join("approvers"), text).unwrap();
    }

    /// Signs as `ssh-keygen` does.
    pub fn sign(&self, key: &str, namespace: &str, text: &[u8]) -> Vec<u8> {
        let mut child = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
            .arg(self.key(key))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    /// Approves the request `id` with the key `key`; panics when that is refused.
    pub fn approve(&self, world: &World, id: &str, key: &str) {
        let terms = terms(world, id);
        let said = self.submit(world, id, &self.sign(key, "tollgate-deploy", &terms));
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }

    /// Gives the signature `signature` of the request `id`.
    pub fn submit(&self, world: &World, id: &str, signature: &[u8]) -> Output {
        desk(world, &["approve", id, "--signature", "-"], signature)
    }
}

/// Runs `mcp-deploy` with a command, as a person without a terminal does.
pub fn desk(world: &World, arguments: &[&str], stdin: &[u8]) -> Output {
    let mut child = Command::new(program("mcp-deploy"))
        .args(arguments)
        .current_dir(world.work())
        .env_remove("TOLLGATE_CONFIG")
        .env_remove("TOLLGATE_STATE_DIR")
        .env_remove("SSH_AUTH_SOCK")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that is refused at once reads nothing.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

/// The bytes to sign.
pub fn terms(world: &World, id: &str) -> Vec<u8> {
    let output = desk(world, &["approve", id, "--print"], b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Asks for a deployment of `dist` to production and returns the request's id.
pub async fn request(server: &McpProcess, version: &str) -> String {
    let refused = server.call("deploy", dist("prod", version)).await;
    assert_eq!(refused.structured["error"]["code"], "approval_required", "{}", refused.structured);
    assert_eq!(refused.structured["state"], "awaiting_approval");
    refused.structured["id"].as_str().unwrap().to_owned()
}

/// Production with one approver, alice, who has approved version 1.0 whose request has the id that comes last.
pub async fn approved() -> (World, People, McpProcess, String) {
    let world = World::configured(PRODUCTION);
    let people = People::new(&["alice"]);
    people.let_approve(&world, &[("alice", "alice")]);
    let server = world.start();
    let id = request(&server, "1.0").await;
    people.approve(&world, &id, "alice");
    (world, people, server, id)
}

/// Every decision in the audit trail, the oldest first.
pub async fn decisions(world: &World) -> Vec<AuditEntry> {
    let ledger = Ledger::new(StateDir::choose(None, &world.work()));
    let mut reader = ledger.reader().await.unwrap().unwrap();
    let all = pin!(reader.decisions(None));
    all.try_collect().await.unwrap()
}

/// The last decision: what was done, and the code of a refusal.
pub async fn last_decision(world: &World) -> (String, Option<String>, Value) {
    let last = decisions(world).await.pop().unwrap();
    (last.action, last.code, last.detail)
}
