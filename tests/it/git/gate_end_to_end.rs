//! The merge gate with both real servers on one state folder: what mcp-ralph passed, and nothing else, mcp-git merges.

use std::fs;

use serde_json::{Value, json};
use tollgate_tests::mcp_process::McpProcess;

use super::world::{World, commit_file};

const CONFIGURATION: &str = "[git.branches.main]\nallow = [\"merge\"]\nrequire = [\"ralph\"]\n";
const GOOD: &str = "def total(prices):\n    return sum(prices)\n";
const BAD: &str = "import os\nos.system(input())\n";

/// A repository with a gate before `main`, and both servers in it.
struct Gated {
    world: World,
    git: McpProcess,
    ralph: McpProcess,
}

impl Gated {
    fn new() -> Self {
        let world = World::new();
        world.git(&["checkout", "-q", "main"]);
        commit_file(&world.repository(), "tollgate.toml", CONFIGURATION, "the operator's");
        let git = world.start();
        let ralph = McpProcess::start("mcp-ralph", &world.work(), &[], &[]);
        Self { world, git, ralph }
    }

    /// Commits `content` on a new branch, with mcp-git alone.
    async fn branch(&self, name: &str, content: &str) {
        self.git.ok("git_create_branch", json!({"branch_name": name, "base_branch": "main"})).await;
        self.git.ok("git_checkout", json!({"branch_name": name})).await;
        self.commit(content).await;
    }

    async fn commit(&self, content: &str) {
        self.world.file("shop.py", content);
        self.git.ok("git_add", json!({"files": ["shop.py"]})).await;
        self.git.ok("git_commit", json!({"message": "shop"})).await;
    }

    async fn verify(&self) -> Value {
        self.ralph.ok("verify_changes", json!({"base": "main"})).await
    }

    /// Merges into main from main.
    async fn merge(&self, source: &str) -> Value {
        self.git.ok("git_checkout", json!({"branch_name": "main"})).await;
        self.git.call("git_merge", json!({"source": source})).await.structured
    }

    async fn refused(&self, source: &str, case: &str) {
        let before = self.world.tip("main");
        for mode in ["auto", "no_ff", "squash"] {
            self.git.ok("git_checkout", json!({"branch_name": "main"})).await;
            let error = self.git.refused("git_merge", json!({"source": source, "mode": mode})).await;
            assert_eq!(error["code"], "verdict_required", "{case}: {error}");
        }
        assert_eq!(self.world.tip("main"), before, "{case}");
        self.git.ok("git_checkout", json!({"branch_name": source})).await;
    }
}

#[tokio::test]
async fn what_ralph_passed_is_merged_into_the_protected_branch() {
    let gated = Gated::new();
    gated.branch("work", GOOD).await;
    let verdict = gated.verify().await;
    assert_eq!((&verdict["verdict"], &verdict["safe_to_merge"]), (&json!("pass"), &json!(true)), "{verdict}");
    let merged = gated.merge("work").await;
    assert_eq!(merged["result"], "fast_forward", "{merged}");
    assert_eq!(gated.world.tip("main"), gated.world.tip("work"));
    assert_eq!(gated.world.read("shop.py"), GOOD);
    // The next change, on top of it, the same way; this time as one commit.
    gated.git.ok("git_checkout", json!({"branch_name": "work"})).await;
    gated.commit(&GOOD.replace("prices", "amounts")).await;
    gated.commit(&GOOD.replace("prices", "parts")).await;
    gated.refused("work", "not verified yet").await;
    assert_eq!(gated.verify().await["safe_to_merge"], true);
    gated.git.ok("git_checkout", json!({"branch_name": "main"})).await;
    let merged = gated.git.ok("git_merge", json!({"source": "work", "mode": "squash"})).await;
    assert_eq!(merged["result"], "squash");
    // Who verified and who merged is in one ledger.
    let trail = gated.git.ok("git_audit_trail", json!({"operation": "merged"})).await;
    assert_eq!(trail["entries"].as_array().unwrap().len(), 2, "{trail}");
    assert!(trail["entries"].as_array().unwrap().iter().all(|entry| entry["detail"]["verdict"].is_string()));
    gated.world.fsck();
}

#[tokio::test]
async fn nothing_else_is_merged() {
    let gated = Gated::new();
    gated.branch("work", GOOD).await;
    gated.refused("work", "nobody looked").await;
    // Some checks are not all.
    gated.ralph.ok("verify_changes", json!({"base": "main", "checks": ["syntax"]})).await;
    gated.refused("work", "one check").await;
    // Another base than main.
    gated.ralph.call("verify_changes", json!({"base": "work"})).await;
    gated.refused("work", "another base").await;
    // A file alone is no tree.
    gated.ralph.ok("verify_file", json!({"path": "shop.py"})).await;
    gated.refused("work", "one file").await;
    // The working tree that was verified is not what is committed.
    gated.world.file("extra.py", GOOD);
    gated.verify().await;
    fs::remove_file(gated.world.work().join("extra.py")).unwrap();
    gated.refused("work", "files beside the commit").await;
    gated.world.file("shop.py", BAD);
    gated.git.ok("git_add", json!({"files": ["shop.py"]})).await;
    gated.git.ok("git_commit", json!({"message": "bad"})).await;
    gated.world.file("shop.py", GOOD);
    gated.verify().await;
    gated.world.git(&["checkout", "-q", "--", "shop.py"]);
    gated.refused("work", "a good file over a bad commit").await;
    // What is bad.
    let verdict = gated.verify().await;
    assert_eq!(verdict["safe_to_merge"], false, "{verdict}");
    gated.refused("work", "a bad verdict").await;
    // A pass, and one change more: of a byte, of a mode, of a name.
    gated.commit(GOOD).await;
    assert_eq!(gated.verify().await["safe_to_merge"], true);
    let changes: [fn(&World); 3] = [
        |world| {
            commit_file(&world.repository(), "shop.py", &format!("{GOOD}\n"), "byte");
        },
        |world| {
            world.git(&["update-index", "--chmod=+x", "shop.py"]);
            world.git(&["commit", "-q", "-m", "mode"]);
            world.git(&["reset", "-q", "--hard"]);
        },
        |world| {
            world.git(&["mv", "shop.py", "store.py"]);
            world.git(&["commit", "-q", "-m", "name"]);
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        change(&gated.world);
        gated.refused("work", &format!("change {number}")).await;
        gated.world.git(&["reset", "-q", "--hard", "HEAD~1"]);
    }
    // Main moves on: what was verified would be merged with what was not.
    let before = gated.world.tip("main");
    gated.git.ok("git_checkout", json!({"branch_name": "main"})).await;
    commit_file(&gated.world.repository(), "other.py", BAD, "by a human");
    gated.git.ok("git_checkout", json!({"branch_name": "work"})).await;
    gated.refused("work", "main moved on").await;
    gated.git.ok("git_checkout", json!({"branch_name": "main"})).await;
    gated.world.git(&["reset", "-q", "--hard", &before]);
    gated.git.ok("git_checkout", json!({"branch_name": "work"})).await;
    // With another state folder nobody has verified anything.
    let elsewhere = gated.world.path("state").display().to_string();
    let stranger = gated.world.start_as(&[("TOLLGATE_STATE_DIR", &elsewhere)]);
    stranger.ok("git_checkout", json!({"branch_name": "main"})).await;
    assert_eq!(stranger.refused("git_merge", json!({"source": "work"})).await["code"], "verdict_required");
    // And the tree that was passed still is.
    assert_eq!(gated.merge("work").await["result"], "fast_forward");
    gated.world.fsck();
}

#[tokio::test]
async fn verdict_that_is_taken_back_closes_the_gate() {
    let gated = Gated::new();
    gated.branch("work", GOOD).await;
    assert_eq!(gated.verify().await["safe_to_merge"], true);
    // The rules change: what passed under the old ones counts no more.
    gated.world.file(
        "tollgate.toml",
        &format!("{CONFIGURATION}[ralph.commands.lint]\nlanguages = [\"python\"]\nrun = [\"false\", \"{{path}}\"]\n"),
    );
    let strict = gated.world.start();
    strict.ok("git_checkout", json!({"branch_name": "main"})).await;
    assert_eq!(strict.refused("git_merge", json!({"source": "work"})).await["code"], "verdict_required");
    gated.world.file("tollgate.toml", CONFIGURATION);
    let merged = gated.git.ok("git_merge", json!({"source": "work"})).await;
    assert_eq!(merged["result"], "fast_forward");
}
