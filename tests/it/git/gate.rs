//! The gate of a protected branch that takes merges of verified content.

use std::fs;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollgate_shared::audit::AuditEntry;
use tollgate_shared::config::Settings;
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::identity::Agent;
use tollgate_shared::ids::EntryId;
use tollgate_shared::ledger::verified::{VERIFIED, VerifiedTree};
use tollgate_shared::ledger::{Ledger, NewEntry};
use tollgate_shared::money::Currency;
use tollgate_shared::receipt::{Outcome, Receipt};
use tollgate_shared::state_dir::StateDir;

use super::world::{World, commit_file};

const CONFIGURATION: &str = "[git.branches.main]\nallow = [\"merge\"]\nrequire = [\"ralph\"]\n";

#[derive(Default, Serialize, Deserialize, JsonSchema)]
struct Nothing {}

/// The digest of `[ralph]` as the servers compute it from `text`.
fn configuration(text: &str) -> ContentHash {
    let path = std::path::Path::new("/tollgate.toml");
    Settings::<Nothing>::parse("ralph", text, path, "/".into(), &|_| None).unwrap().ralph_rules
}

/// A repository whose `main` is checked out, with a branch `work` that is one commit ahead.
fn gated(configuration: &str) -> World {
    let world = World::new();
    fs::write(world.work().join(".git/info/exclude"), "tollgate.toml\n.tollgate\n").unwrap();
    world.file("tollgate.toml", configuration);
    world.git(&["checkout", "-q", "-b", "work", "main"]);
    commit_file(&world.repository(), "code.py", "x = 1\n", "code");
    world.git(&["checkout", "-q", "main"]);
    world
}

fn tree(world: &World, revision: &str) -> String {
    world.repository().revparse_single(revision).unwrap().peel_to_tree().unwrap().id().to_string()
}

fn verdict(world: &World) -> VerifiedTree {
    VerifiedTree {
        repository: world.work().join(".git").display().to_string(),
        tree: tree(world, "work"),
        base: Some(tree(world, "main")),
        verdict: "pass".into(),
        checks: vec!["security".into(), "syntax".into()],
        rules: ContentHash::of(b"rules"),
        configuration: configuration(""),
    }
}

/// Writes what mcp-ralph would have written.
async fn record(world: &World, verdict: &VerifiedTree, server: &str, outcome: Outcome) {
    let agent = Agent { name: "tester".into(), role: None };
    let receipt = Receipt {
        id: EntryId::generate(),
        server: server.into(),
        tool: "verify_changes".into(),
        amount: Default::default(),
        currency: Currency::Usd,
        lines: vec![],
        cached: false,
        saved: Default::default(),
        outcome,
        code: None,
        duration_ms: 1,
        agent: agent.clone(),
        task_id: None,
        call_id: None,
        started_at: "2026-11-21T08:00:00Z".parse().unwrap(),
    };
    let decision = AuditEntry {
        id: EntryId::generate(),
        at: receipt.started_at,
        action: VERIFIED.into(),
        server: server.into(),
        tool: "verify_changes".into(),
        code: None,
        reason: "verified".into(),
        agent,
        task_id: None,
        receipt_id: receipt.id,
        detail: verdict.detail(),
    };
    let ledger = Ledger::new(StateDir::choose(None, &world.work()));
    ledger.append(vec![NewEntry::audit(&decision).unwrap(), NewEntry::receipt(&receipt).unwrap()]).await.unwrap();
}

#[tokio::test]
async fn merge_of_a_verified_tree_passes() {
    for (mode, result) in [("auto", "fast_forward"), ("no_ff", "merge"), ("squash", "squash")] {
        let world = gated(CONFIGURATION);
        let server = world.start();
        let error = server.refused("git_merge", json!({"source": "work", "mode": mode})).await;
        assert_eq!(error["code"], "verdict_required", "{error}");
        record(&world, &verdict(&world), "ralph", Outcome::Ok).await;
        let merged = server.ok("git_merge", json!({"source": "work", "mode": mode})).await;
        assert_eq!((&merged["result"], &merged["branch"]), (&json!(result), &json!("main")));
        assert_eq!(json!(world.tip("main")), merged["commit"]);
        assert_eq!(tree(&world, "main"), tree(&world, "work"));
        assert_eq!(world.read("code.py"), "x = 1\n");
        let trail = server.ok("git_audit_trail", json!({"operation": "merged"})).await["entries"].clone();
        assert_eq!(trail[0]["detail"]["verdict"], merged["verdict"]);
        assert!(merged["verdict"].is_string());
        // Nothing but a merge.
        world.file("code.py", "x = 2\n");
        server.ok("git_add", json!({"files": ["code.py"]})).await;
        for (tool, arguments) in [
            ("git_commit", json!({"message": "sneak in"})),
            ("git_revert", json!({"commit": "HEAD"})),
            ("git_delete_branch", json!({"branch_name": "main", "force": true})),
            ("git_push", json!({"branch": "main"})),
        ] {
            assert_eq!(server.refused(tool, arguments).await["code"], "protected_branch", "{tool}");
        }
        world.fsck();
    }
}

#[tokio::test]
async fn verdict_that_does_not_count_opens_nothing() {
    type Change = fn(&World, &mut VerifiedTree);
    let cases: [(&str, Change, &str, Outcome); 11] = [
        ("another tree", |world, verdict| verdict.tree = tree(world, "main"), "ralph", Outcome::Ok),
        ("another repository", |_, verdict| verdict.repository = "/elsewhere/.git".into(), "ralph", Outcome::Ok),
        ("another state of main", |world, verdict| verdict.base = Some(tree(world, "work")), "ralph", Outcome::Ok),
        ("fail", |_, verdict| verdict.verdict = "fail".into(), "ralph", Outcome::Ok),
        ("skipped", |_, verdict| verdict.verdict = "skipped".into(), "ralph", Outcome::Ok),
        ("inconclusive", |_, verdict| verdict.verdict = "inconclusive".into(), "ralph", Outcome::Ok),
        ("blocked", |_, verdict| verdict.verdict = "blocked".into(), "ralph", Outcome::Ok),
        ("other rules", |_, verdict| verdict.configuration = ContentHash::of(b"other"), "ralph", Outcome::Ok),
        ("no check", |_, verdict| verdict.checks.clear(), "ralph", Outcome::Ok),
        ("another server", |_, _| {}, "git", Outcome::Ok),
        ("a call that failed", |_, _| {}, "ralph", Outcome::Failed),
    ];
    let world = gated(CONFIGURATION);
    let server = world.start();
    let before = world.refs();
    for (case, change, by, outcome) in cases {
        fs::remove_dir_all(world.work().join(".tollgate")).unwrap_or_default();
        let mut verdict = verdict(&world);
        change(&world, &mut verdict);
        record(&world, &verdict, by, outcome).await;
        for mode in ["auto", "no_ff", "squash", "ff_only"] {
            let error = server.refused("git_merge", json!({"source": "work", "mode": mode})).await;
            assert_eq!(error["code"], "verdict_required", "{case}: {error}");
        }
        assert_eq!(world.refs(), before, "{case}");
    }
    // A pass that a later verdict takes back.
    fs::remove_dir_all(world.work().join(".tollgate")).unwrap();
    record(&world, &verdict(&world), "ralph", Outcome::Ok).await;
    record(&world, &VerifiedTree { verdict: "fail".into(), ..verdict(&world) }, "ralph", Outcome::Ok).await;
    assert_eq!(server.refused("git_merge", json!({"source": "work"})).await["code"], "verdict_required");
    // Rules that are newer than the pass.
    fs::remove_dir_all(world.work().join(".tollgate")).unwrap();
    record(&world, &verdict(&world), "ralph", Outcome::Ok).await;
    let newer = VerifiedTree { rules: ContentHash::of(b"newer"), tree: "0".repeat(40), ..verdict(&world) };
    record(&world, &newer, "ralph", Outcome::Ok).await;
    assert_eq!(server.refused("git_merge", json!({"source": "work"})).await["code"], "verdict_required");
    assert_eq!(world.refs(), before);
}

#[tokio::test]
async fn passed_tree_opens_the_gate_for_itself_alone() {
    let world = gated(CONFIGURATION);
    let server = world.start();
    record(&world, &verdict(&world), "ralph", Outcome::Ok).await;
    // One byte more on the branch, and it is another tree.
    world.git(&["checkout", "-q", "work"]);
    commit_file(&world.repository(), "code.py", "x = 1 \n", "one byte");
    world.git(&["checkout", "-q", "main"]);
    assert_eq!(server.refused("git_merge", json!({"source": "work"})).await["code"], "verdict_required");
    // Main has moved on: what comes of the merge is neither side's tree.
    world.git(&["checkout", "-q", "-B", "work", "work~1"]);
    world.git(&["checkout", "-q", "main"]);
    commit_file(&world.repository(), "other.txt", "other\n", "by a human");
    let before = world.refs();
    assert_eq!(server.refused("git_merge", json!({"source": "work"})).await["code"], "verdict_required");
    // Conflicts are not kept on a branch where nobody may commit.
    world.git(&["checkout", "-q", "work"]);
    commit_file(&world.repository(), "other.txt", "otherwise\n", "conflict");
    world.git(&["checkout", "-q", "main"]);
    let error = server.refused("git_merge", json!({"source": "work", "keep_conflicts": true})).await;
    assert_eq!(error["code"], "protected_branch");
    assert_eq!(world.refs()["refs/heads/main"], before["refs/heads/main"]);
    // Other protected branches take no merge, by whatever name HEAD leads there.
    for branch in ["production", "release/1.2"] {
        world.git(&["checkout", "-q", branch]);
        assert_eq!(
            server.refused("git_merge", json!({"source": "work"})).await["code"],
            "protected_branch",
            "{branch}"
        );
    }
    world.repository().reference_symbolic("refs/heads/alias", "refs/heads/main", false, "").unwrap();
    world.git(&["checkout", "-q", "-f", "main"]);
    world.repository().set_head("refs/heads/alias").unwrap();
    assert_eq!(server.refused("git_merge", json!({"source": "work~1"})).await["code"], "verdict_required");
    world.fsck();
}

#[tokio::test]
async fn ledger_that_was_tampered_with_opens_nothing() {
    let world = gated(CONFIGURATION);
    let server = world.start();
    record(&world, &VerifiedTree { verdict: "fail".into(), ..verdict(&world) }, "ralph", Outcome::Ok).await;
    let path = world.work().join(".tollgate/ledger.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut connection = <sqlx::SqliteConnection as sqlx::Connection>::connect_with(&options).await.unwrap();
    let triggers: Vec<(String,)> = sqlx::query_as("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    for (name,) in triggers {
        sqlx::query(sqlx::AssertSqlSafe(format!("DROP TRIGGER \"{name}\""))).execute(&mut connection).await.unwrap();
    }
    sqlx::query("UPDATE entry SET body = replace(body, '\"fail\"', '\"pass\"')")
        .execute(&mut connection)
        .await
        .unwrap();
    drop(connection);
    let error = server.refused("git_merge", json!({"source": "work"})).await;
    assert_eq!(error["code"], "verdict_required");
    assert!(error["message"].as_str().unwrap().contains("changed after it was written"), "{error}");
}

#[tokio::test]
async fn operator_decides_what_a_branch_takes() {
    // Without `require` a merge is enough, and `allow` says nothing about branches that it does not name.
    let world = gated("[git.branches.main]\nallow = [\"merge\"]\n");
    let server = world.start();
    let merged = server.ok("git_merge", json!({"source": "work"})).await;
    assert_eq!((&merged["result"], &merged["verdict"]), (&json!("fast_forward"), &Value::Null));
    world.file("code.py", "x = 2\n");
    server.ok("git_add", json!({"files": ["."]})).await;
    assert_eq!(server.refused("git_commit", json!({"message": "x"})).await["code"], "protected_branch");
    // Of two rules that name a branch, both hold.
    let both =
        "[git.branches.\"m*\"]\nallow = [\"merge\"]\nrequire = [\"ralph\"]\n[git.branches.main]\nallow = [\"merge\"]\n";
    let world = gated(both);
    assert_eq!(world.start().refused("git_merge", json!({"source": "work"})).await["code"], "verdict_required");
    // `require` alone opens nothing.
    let world = gated("[git.branches.main]\nrequire = [\"ralph\"]\n");
    assert_eq!(world.start().refused("git_merge", json!({"source": "work"})).await["code"], "protected_branch");
}
