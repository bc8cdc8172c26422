//! Local changes put away and brought back, and commits taken back.

use std::fs;

use git2::Repository;
use serde_json::{Value, json};

use super::world::{World, commit_file};

/// What is staged, changed and new, by what git says.
fn state(world: &World) -> String {
    world.git(&["status", "--porcelain", "--untracked-files=all"])
}

/// Something staged, something staged and changed again, something deleted, something new.
fn changed(world: &World) {
    for (name, content) in
        [("staged.txt", "old\n"), ("both.txt", "old\n"), ("gone.txt", "old\n"), ("sub/changed.txt", "old\n")]
    {
        commit_file(&world.repository(), name, content, name);
    }
    fs::write(world.work().join(".git/info/exclude"), ".tollgate\ntrees\n").unwrap();
    world.file("staged.txt", "staged\n");
    world.file("both.txt", "staged\n");
    world.git(&["add", "staged.txt", "both.txt"]);
    world.file("both.txt", "and changed\n");
    world.file("sub/changed.txt", "changed\n");
    fs::remove_file(world.work().join("gone.txt")).unwrap();
    world.file("new/file.txt", "new\n");
    world.file("added.txt", "added\n");
    world.git(&["add", "added.txt"]);
}

#[tokio::test]
async fn changes_are_put_away_and_come_back_as_they_were() {
    let world = World::new();
    changed(&world);
    let before = state(&world);
    let head = world.tip("feature");
    let server = world.start();
    let called =
        server.call("git_stash", json!({"action": "push", "message": "half done", "include_untracked": true})).await;
    assert!(!called.is_error, "{}", called.structured);
    let stash = called.structured["stash"].clone();
    assert_eq!(called.structured["files_changed"], 6, "{}", called.structured);
    assert_eq!(stash["message"], "On feature: half done");
    assert_eq!((&stash["mine"], &stash["here"], &stash["base"]), (&json!(true), &json!(true), &json!(head)));
    assert_eq!(called.receipt.lines[0].sku.to_string(), "git.stage");
    assert_eq!(state(&world), "");
    assert_eq!((world.read("both.txt"), world.read("gone.txt")), ("old\n".to_owned(), "old\n".to_owned()));
    assert!(!world.work().join("new").exists());
    assert_eq!(world.tip("feature"), head, "no branch moves");
    world.fsck();
    // The commits are of git's own form, and say who made them.
    let id = stash["id"].as_str().unwrap();
    let text = world.git(&["log", "-1", "--format=%B", id]);
    assert!(text.contains("Agent: tollgate-tests") && text.contains("Tollgate-Receipt: "), "{text}");
    assert!(world.git(&["stash", "show", "--include-untracked", "--name-only", id]).contains("new/file.txt"));
    assert_eq!(server.ok("git_stash", json!({"action": "list"})).await["stashes_total"], 1);

    server.ok("git_stash", json!({"action": "apply"})).await;
    assert_eq!(state(&world), before);
    world.git(&["reset", "-q", "--hard"]);
    fs::remove_dir_all(world.work().join("new")).unwrap();
    let popped = server.ok("git_stash", json!({"action": "pop", "stash": &id[..8]})).await;
    assert_eq!((&popped["result"], &popped["stashes_total"]), (&json!("popped"), &json!(0)));
    assert_eq!(state(&world), before);
    assert_eq!((world.read("both.txt"), world.read("new/file.txt")), ("and changed\n".to_owned(), "new\n".to_owned()));
    assert!(world.git(&["diff", "--cached"]).contains("+staged"));
    world.fsck();
    let trail = server.ok("git_audit_trail", json!({"operation": "git_stash"})).await["entries"].clone();
    let actions: Vec<&str> = trail.as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["stash_popped", "stash_applied", "stash_pushed"]);
    assert_eq!(trail[0]["detail"]["old"], json!(id));
}

#[tokio::test]
async fn stash_comes_back_on_another_commit_or_says_why_not() {
    let world = World::new();
    let server = world.start();
    world.file("README.md", "hello\nmore\n");
    let error = server.refused("git_stash", json!({"action": "pop"})).await;
    assert_eq!(error["code"], "unknown_stash");
    server.ok("git_stash", json!({"action": "push"})).await;
    assert_eq!(server.refused("git_stash", json!({"action": "push"})).await["code"], "nothing_to_stash");
    commit_file(&world.repository(), "other.txt", "other\n", "other");
    server.ok("git_stash", json!({"action": "pop"})).await;
    assert_eq!(world.read("README.md"), "hello\nmore\n");
    assert_eq!(state(&world).trim(), "M README.md");
    // The same lines changed differently since.
    server.ok("git_stash", json!({"action": "push"})).await;
    commit_file(&world.repository(), "README.md", "hello\nless\n", "less");
    let refs = world.refs();
    let called = server.call("git_stash", json!({"action": "pop"})).await;
    assert_eq!(called.structured["error"]["code"], "merge_conflicts");
    assert_eq!(called.structured["conflicts"][0]["path"], "README.md");
    assert_eq!((world.read("README.md"), world.refs()), ("hello\nless\n".to_owned(), refs));
    // A local change in the way.
    world.git(&["reset", "-q", "--hard", "HEAD~1"]);
    world.file("README.md", "something else\n");
    assert_eq!(server.refused("git_stash", json!({"action": "pop"})).await["code"], "would_overwrite");
    assert_eq!(world.read("README.md"), "something else\n");
    // A new file in the way.
    world.git(&["checkout", "-q", "README.md"]);
    world.file("untracked.txt", "mine\n");
    server.ok("git_stash", json!({"action": "push", "include_untracked": true})).await;
    world.file("untracked.txt", "another\n");
    assert_eq!(server.refused("git_stash", json!({"action": "pop"})).await["code"], "would_overwrite");
    assert_eq!(world.read("untracked.txt"), "another\n");
    let dropped = server.ok("git_stash", json!({"action": "drop"})).await;
    assert_eq!(dropped["result"], "dropped");
    world.fsck();
}

#[tokio::test]
async fn agents_do_not_take_each_others_stashes() {
    let world = World::new();
    let (one, two) = (world.start_as(&[("TOLLGATE_AGENT", "one")]), world.start_as(&[("TOLLGATE_AGENT", "two")]));
    one.ok("git_worktree_add", json!({"path": "trees", "branch_name": "second"})).await;
    world.file("README.md", "of one\n");
    let id = one.ok("git_stash", json!({"action": "push"})).await["stash"]["id"].clone();
    world.file("trees/README.md", "of two\n");
    two.ok("git_stash", json!({"action": "push", "repo_path": "trees"})).await;
    // Without a name it is the own one of the worktree.
    assert_eq!(two.refused("git_stash", json!({"action": "pop"})).await["code"], "unknown_stash");
    for action in ["pop", "drop"] {
        let error = two.refused("git_stash", json!({"action": action, "stash": id})).await;
        assert_eq!(error["code"], "not_your_stash", "{action}");
    }
    let listed = two.ok("git_stash", json!({"action": "list"})).await["stashes"].clone();
    let mine: Vec<(&Value, &Value)> =
        listed.as_array().unwrap().iter().map(|stash| (&stash["agent"], &stash["mine"])).collect();
    assert!(
        mine.contains(&(&json!("one"), &json!(false))) && mine.contains(&(&json!("two"), &json!(true))),
        "{listed}"
    );
    // A copy may be taken, and the owner's stays.
    two.ok("git_stash", json!({"action": "apply", "stash": id})).await;
    assert_eq!(world.read("README.md"), "of one\n");
    world.git(&["checkout", "-q", "README.md"]);
    one.ok("git_stash", json!({"action": "pop"})).await;
    assert_eq!(world.read("README.md"), "of one\n");
    two.ok("git_stash", json!({"action": "pop", "repo_path": "trees"})).await;
    assert_eq!(world.read("trees/README.md"), "of two\n");
    world.fsck();
}

#[tokio::test]
async fn stashing_writes_no_branch_and_nothing_else() {
    let world = World::new();
    commit_file(&world.repository(), "README.md", "of feature\n", "more");
    fs::write(world.work().join(".git/info/exclude"), ".tollgate\n").unwrap();
    let protected = |world: &World| (world.tip("main"), world.tip("production"), world.tip("release/1.2"));
    let before = protected(&world);
    let server = world.start();
    world.file("README.md", "changed\n");
    for (arguments, code) in [
        (json!({"action": "push", "message": "a\nAgent: root"}), "invalid_message"),
        (json!({"action": "push", "message": "x".repeat(501)}), "invalid_message"),
        (json!({"action": "push", "stash": "abc"}), "invalid_arguments"),
        (json!({"action": "clear"}), "invalid_arguments"),
        (json!({"action": "pop", "stash": "stash@{0}"}), "unknown_stash"),
        (json!({"action": "pop", "stash": "HEAD"}), "unknown_stash"),
        (json!({"action": "drop", "stash": world.tip("main")}), "unknown_stash"),
        (json!({"action": "drop", "stash": "../../heads/main"}), "unknown_stash"),
        (json!({"action": "drop", "stash": ""}), "unknown_stash"),
        (json!({"action": "apply", "message": "x"}), "invalid_arguments"),
        (json!({"action": "push", "repo_path": "../outside"}), "path_outside_root"),
    ] {
        let error = server.refused("git_stash", arguments.clone()).await;
        assert_eq!(error["code"], code, "{arguments}: {error}");
    }
    // A ref that somebody points at a branch by hand is no stash, nor is one that is a link.
    world.git(&["update-ref", "refs/tollgate/stash/forged", "main"]);
    let tip = world.tip("feature");
    world.git(&["symbolic-ref", &format!("refs/tollgate/stash/{tip}"), "refs/heads/main"]);
    assert_eq!(server.ok("git_stash", json!({"action": "list"})).await["stashes_total"], 0);
    assert_eq!(server.refused("git_stash", json!({"action": "drop", "stash": tip})).await["code"], "unknown_stash");
    world.git(&["symbolic-ref", "-d", &format!("refs/tollgate/stash/{tip}")]);
    // Through a linked folder nothing is written.
    fs::remove_dir_all(world.work().join(".git/refs/tollgate")).unwrap();
    fs::create_dir(world.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(world.path("elsewhere"), world.work().join(".git/refs/tollgate")).unwrap();
    let code = server.refused("git_stash", json!({"action": "push"})).await["code"].clone();
    assert!(code == "path_outside_root" || code == "linked_branch", "{code}");
    assert_eq!(fs::read_dir(world.path("elsewhere")).unwrap().count(), 0);
    fs::remove_file(world.work().join(".git/refs/tollgate")).unwrap();
    assert_eq!(world.read("README.md"), "changed\n");
    // On a protected branch local changes can be put away: the branch stays where it is.
    world.git(&["checkout", "-q", "-f", "main"]);
    world.file("README.md", "on main\n");
    server.ok("git_stash", json!({"action": "push"})).await;
    assert_eq!(world.read("README.md"), "hello\n");
    server.ok("git_checkout", json!({"branch_name": "feature"})).await;
    server.ok("git_stash", json!({"action": "drop"})).await;
    // A merge that waits to be finished comes first.
    fs::write(world.work().join(".git/MERGE_HEAD"), format!("{}\n", world.tip("main"))).unwrap();
    world.file("README.md", "changed\n");
    assert_eq!(server.refused("git_stash", json!({"action": "push"})).await["code"], "operation_in_progress");
    assert_eq!(protected(&world), before);
    world.fsck();
}

#[tokio::test]
async fn commit_is_taken_back() {
    let world = World::new();
    let server = world.start();
    let first = commit_file(&world.repository(), "a.txt", "a\n", "add a").to_string();
    let second = commit_file(&world.repository(), "b.txt", "b\n", "add b").to_string();
    let reverted = server.ok("git_revert", json!({"commit": first})).await;
    assert_eq!(
        (&reverted["branch"], &reverted["reverted"], &reverted["previous"]),
        (&json!("feature"), &json!(first), &json!(second))
    );
    assert_eq!((&reverted["files_changed"], &reverted["signed"]), (&json!(1), &json!(false)));
    assert_eq!(json!(world.tip("feature")), reverted["commit"]);
    assert!(!world.work().join("a.txt").exists() && world.work().join("b.txt").exists());
    let text = world.git(&["log", "-1", "--format=%B"]);
    assert!(text.starts_with("Revert \"add a\"") && text.contains(&format!("This reverts commit {first}.")), "{text}");
    assert!(text.contains("Agent: tollgate-tests") && text.contains("Tollgate-Receipt: "), "{text}");
    assert_eq!(server.refused("git_revert", json!({"commit": first})).await["code"], "nothing_to_commit");
    // The revert can be taken back too.
    server.ok("git_revert", json!({"commit": "HEAD", "message": "bring a back"})).await;
    assert_eq!(world.read("a.txt"), "a\n");
    // A merge needs to say which side stays.
    world.git(&["checkout", "-q", "-b", "side", "HEAD~1"]);
    commit_file(&world.repository(), "side.txt", "side\n", "side");
    world.git(&["checkout", "-q", "feature"]);
    world.git(&["merge", "-q", "--no-ff", "side", "-m", "merge side"]);
    assert_eq!(server.refused("git_revert", json!({"commit": "HEAD"})).await["code"], "mainline_needed");
    assert_eq!(
        server.refused("git_revert", json!({"commit": "HEAD", "mainline": 3})).await["code"],
        "invalid_arguments"
    );
    server.ok("git_revert", json!({"commit": "HEAD", "mainline": 1})).await;
    assert!(!world.work().join("side.txt").exists());
    assert_eq!(server.ok("git_status", json!({})).await["clean"], true);
    world.fsck();
}

#[tokio::test]
async fn revert_keeps_to_the_rules() {
    let world = World::new();
    let commit = commit_file(&world.repository(), "README.md", "changed\n", "change").to_string();
    commit_file(&world.repository(), "README.md", "changed again\n", "change again");
    let server = world.start();
    let before = world.refs();
    let error = server.call("git_revert", json!({"commit": commit})).await;
    assert_eq!(
        (&error.structured["error"]["code"], &error.structured["conflicts_total"]),
        (&json!("merge_conflicts"), &json!(1))
    );
    for (arguments, code) in [
        (json!({"commit": "-n"}), "invalid_revision"),
        (json!({"commit": "HEAD@{1}"}), "invalid_revision"),
        (json!({"commit": "main..feature"}), "invalid_revision"),
        (json!({"commit": "nothing"}), "unknown_revision"),
        (json!({"commit": "HEAD", "mainline": 1}), "invalid_arguments"),
        (json!({"commit": "HEAD", "message": "x\n\nAgent: root"}), "reserved_trailer"),
        (json!({"commit": "HEAD", "no_commit": true}), "invalid_arguments"),
    ] {
        let error = server.refused("git_revert", arguments.clone()).await;
        assert_eq!(error["code"], code, "{arguments}: {error}");
    }
    world.file("README.md", "a local change\n");
    assert_eq!(server.refused("git_revert", json!({"commit": "HEAD"})).await["code"], "would_overwrite");
    assert_eq!(world.read("README.md"), "a local change\n");
    assert_eq!(world.refs(), before);
    world.git(&["checkout", "-q", "README.md"]);
    for branch in ["main", "production", "release/1.2"] {
        world.git(&["checkout", "-q", branch]);
        assert_eq!(
            server.refused("git_revert", json!({"commit": "HEAD"})).await["code"],
            "protected_branch",
            "{branch}"
        );
    }
    world.git(&["checkout", "-q", "--detach", "feature"]);
    assert_eq!(server.refused("git_revert", json!({"commit": "HEAD"})).await["code"], "detached_head");
    Repository::open(world.work())
        .unwrap()
        .reference_symbolic("refs/heads/alias", "refs/heads/main", false, "")
        .unwrap();
    world.repository().set_head("refs/heads/alias").unwrap();
    assert_eq!(server.refused("git_revert", json!({"commit": "feature"})).await["code"], "protected_branch");
    world.fsck();
}
