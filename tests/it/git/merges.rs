//! Merging, deleting branches, unstaging: what works, and what is refused and changes nothing.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use super::world::{World, commit_file};

/// `feature` and `topic`, both one commit after `main`: one changes `a`, the other `b`, and both `both` where asked.
fn parted(conflicting: bool) -> World {
    let world = World::new();
    let repository = world.repository();
    commit_file(&repository, "both", "one\ntwo\nthree\n", "base");
    world.git(&["branch", "topic"]);
    commit_file(&repository, "a", "a\n", "ours");
    if conflicting {
        commit_file(&repository, "both", "one\nours\nthree\n", "ours too");
    }
    world.git(&["checkout", "-q", "topic"]);
    commit_file(&repository, "b", "b\n", "theirs");
    if conflicting {
        commit_file(&repository, "both", "one\ntheirs\nthree\n", "theirs too");
    }
    world.git(&["checkout", "-q", "feature"]);
    world
}

/// Everything that a refused call must leave as it was: refs, files, index, what is in progress.
fn everything(world: &World) -> (BTreeMap<String, String>, String, String, String) {
    let files = world.git(&["ls-files", "--stage"]);
    let content: String = fs::read_dir(world.work())
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().is_file())
        .map(|entry| format!("{:?} {:?}\n", entry.file_name(), fs::read(entry.path()).unwrap()))
        .collect();
    (world.refs(), files, content, world.git(&["status", "--porcelain=v2", "--branch"]))
}

#[tokio::test]
async fn merge_is_fast_forward_where_it_can_be() {
    let world = World::new();
    let repository = world.repository();
    world.git(&["checkout", "-qb", "topic"]);
    let ahead = commit_file(&repository, "new.txt", "new\n", "ahead").to_string();
    world.git(&["checkout", "-q", "feature"]);
    let server = world.start();
    let preview = server.ok("git_merge_preview", json!({"source": "topic"})).await;
    assert_eq!((&preview["result"], &preview["commits"]), (&json!("fast_forward"), &json!(1)));
    assert_eq!(preview["files"][0]["path"], "new.txt");
    assert!(!world.work().join("new.txt").exists());
    world.file("local.txt", "mine\n");
    let merged = server.ok("git_merge", json!({"source": "topic"})).await;
    assert_eq!((&merged["result"], &merged["commit"]), (&json!("fast_forward"), &json!(ahead)));
    assert_eq!(
        (world.tip("feature"), world.read("new.txt"), world.read("local.txt")),
        (ahead, "new\n".into(), "mine\n".into())
    );
    assert_eq!(server.ok("git_status", json!({})).await["totals"]["untracked"], 1);
    assert_eq!(server.ok("git_merge", json!({"source": "topic"})).await["result"], "up_to_date");
    world.fsck();
}

#[tokio::test]
async fn merge_makes_a_commit_that_says_who_merged() {
    let world = parted(false);
    let server = world.start_as(&[("TOLLGATE_AGENT", "merger"), ("TOLLGATE_TASK", "T-1")]);
    let preview = server.ok("git_merge_preview", json!({"source": "topic"})).await;
    assert_eq!((&preview["result"], &preview["files_total"]), (&json!("merge"), &json!(1)));
    assert_eq!(
        server.refused("git_merge", json!({"source": "topic", "mode": "ff_only"})).await["code"],
        "not_fast_forward"
    );
    let called = server.call("git_merge", json!({"source": "topic"})).await;
    assert_eq!(called.structured["result"], "merge", "{}", called.structured);
    let text = world.git(&["log", "-1", "--format=%B%P"]);
    assert!(text.starts_with("Merge topic into feature\n\nAgent: merger\nTask: T-1\nTollgate-Receipt: "), "{text}");
    assert_eq!(text.lines().last().unwrap().split(' ').count(), 2);
    assert_eq!((world.read("a"), world.read("b")), ("a\n".into(), "b\n".into()));
    assert_eq!(server.ok("git_status", json!({})).await["clean"], true);
    assert_eq!(called.receipt.lines[0].sku.to_string(), "git.merge");
    world.fsck();
}

#[tokio::test]
async fn merge_can_be_a_commit_without_need_or_one_commit_alone() {
    let world = parted(false);
    let server = world.start();
    server.ok("git_create_branch", json!({"branch_name": "more", "base_branch": "topic"})).await;
    let squashed =
        server.ok("git_merge", json!({"source": "topic", "mode": "squash", "message": "All of topic"})).await;
    assert_eq!(squashed["result"], "squash");
    assert!(world.git(&["log", "-1", "--format=%s %P"]).starts_with("All of topic "));
    assert_eq!(world.git(&["log", "-1", "--format=%P"]).trim().len(), 40);
    assert_eq!(world.read("b"), "b\n");
    server.ok("git_create_branch", json!({"branch_name": "next"})).await;
    server.ok("git_checkout", json!({"branch_name": "next"})).await;
    world.file("c", "c\n");
    server.ok("git_add", json!({"files": ["c"]})).await;
    server.ok("git_commit", json!({"message": "c"})).await;
    server.ok("git_checkout", json!({"branch_name": "feature"})).await;
    let merged = server.ok("git_merge", json!({"source": "next", "mode": "no_ff"})).await;
    assert_eq!(merged["result"], "merge");
    assert_eq!(world.git(&["log", "-1", "--format=%P"]).trim().len(), 81);
    world.fsck();
}

#[tokio::test]
async fn conflicts_are_shown_and_change_nothing() {
    let world = parted(true);
    let server = world.start();
    let before = everything(&world);
    let preview = server.ok("git_merge_preview", json!({"source": "topic"})).await;
    assert_eq!((&preview["result"], &preview["conflicts_total"]), (&json!("conflicts"), &json!(1)));
    assert_eq!(
        preview["conflicts"],
        json!([{"path": "both", "kind": "both_modified", "hunks": [{"ours": "ours\n", "theirs": "theirs\n"}]}])
    );
    let called = server.call("git_merge", json!({"source": "topic"})).await;
    assert_eq!(called.structured["error"]["code"], "merge_conflicts");
    assert_eq!(called.structured["conflicts"], preview["conflicts"]);
    assert_eq!(
        server.refused("git_merge", json!({"source": "topic", "mode": "ff_only"})).await["code"],
        "not_fast_forward"
    );
    assert_eq!(everything(&world), before);
    world.fsck();
}

#[tokio::test]
async fn kept_conflicts_are_resolved_or_given_up() {
    let world = parted(true);
    let server = world.start();
    let before = everything(&world);
    world.file("staged", "x\n");
    server.ok("git_add", json!({"files": ["staged"]})).await;
    let keep = json!({"source": "topic", "keep_conflicts": true});
    assert_eq!(server.refused("git_merge", keep.clone()).await["code"], "would_overwrite");
    server.ok("git_reset", json!({})).await;
    fs::remove_file(world.work().join("staged")).unwrap();
    assert_eq!(everything(&world), before);

    let merged = server.ok("git_merge", keep.clone()).await;
    assert_eq!((&merged["result"], &merged["conflicts"][0]["path"]), (&json!("conflicts"), &json!("both")));
    assert_eq!(world.read("both"), "one\n<<<<<<< feature\nours\n=======\ntheirs\n>>>>>>> topic\nthree\n");
    assert_eq!(world.git(&["status", "--porcelain"]), "A  b\nUU both\n");
    let status = server.ok("git_status", json!({})).await;
    assert_eq!((&status["operation"], &status["conflicted"]), (&json!("merge"), &json!(["both"])));
    for (tool, arguments, code) in [
        ("git_commit", json!({"message": "x"}), "conflicted"),
        ("git_merge", keep.clone(), "operation_in_progress"),
        ("git_reset", json!({}), "operation_in_progress"),
        ("git_checkout", json!({"branch_name": "topic"}), "operation_in_progress"),
    ] {
        assert_eq!(server.refused(tool, arguments).await["code"], code, "{tool}");
    }
    assert!(server.call("git_diff_unstaged", json!({})).await.text.contains("+theirs"));
    let aborted = server.ok("git_merge", json!({"abort": true})).await;
    assert_eq!(aborted["result"], "aborted");
    assert_eq!(everything(&world), before);
    assert_eq!(server.refused("git_merge", json!({"abort": true})).await["code"], "nothing_to_abort");

    server.ok("git_merge", keep).await;
    world.file("both", "one\nresolved\nthree\n");
    server.ok("git_add", json!({"files": ["both"]})).await;
    let committed = server.ok("git_commit", json!({"message": "Merge topic"})).await;
    assert_eq!(committed["parents"].as_array().unwrap().len(), 2);
    assert_eq!(server.ok("git_status", json!({})).await["operation"], Value::Null);
    assert_eq!(world.git(&["status", "--porcelain"]), "");
    world.fsck();
}

#[tokio::test]
async fn merge_into_a_protected_branch_is_refused_by_any_name() {
    let world = parted(false);
    let repository = world.repository();
    repository.reference_symbolic("refs/heads/alias", "refs/heads/main", false, "").unwrap();
    let server = world.start();
    for branch in ["main", "release/1.2", "alias"] {
        repository.set_head(&format!("refs/heads/{branch}")).unwrap();
        world.git(&["reset", "-q", "--hard"]);
        let before = everything(&world);
        for arguments in [
            json!({"source": "topic"}),
            json!({"source": "topic", "mode": "squash"}),
            json!({"source": "topic", "mode": "no_ff"}),
            json!({"source": "topic", "keep_conflicts": true}),
        ] {
            let error = server.refused("git_merge", arguments.clone()).await;
            assert_eq!(error["code"], "protected_branch", "{branch} {arguments}");
        }
        // Looking is allowed.
        assert_eq!(server.ok("git_merge_preview", json!({"source": "topic"})).await["result"], "fast_forward");
        assert_eq!(everything(&world), before);
    }
    repository.set_head_detached(repository.refname_to_id("refs/heads/feature").unwrap()).unwrap();
    assert_eq!(server.refused("git_merge", json!({"source": "topic"})).await["code"], "detached_head");
    world.fsck();
}

#[tokio::test]
async fn merge_never_costs_a_local_change() {
    let world = parted(false);
    world.file("b", "mine\n");
    let server = world.start();
    let before = everything(&world);
    let error = server.refused("git_merge", json!({"source": "topic"})).await;
    assert_eq!(error["code"], "would_overwrite");
    fs::remove_file(world.work().join("b")).unwrap();
    // Where a link stands in the way, nothing is written through it.
    std::os::unix::fs::symlink("../outside/made", world.work().join("b")).unwrap();
    assert_eq!(server.refused("git_merge", json!({"source": "topic"})).await["code"], "would_overwrite");
    assert!(!world.path("outside/made").exists());
    fs::remove_file(world.work().join("b")).unwrap();
    world.file("b", "mine\n");
    assert_eq!(everything(&world), before);
    for (arguments, code) in [
        (json!({}), "invalid_arguments"),
        (json!({"source": "-X"}), "invalid_revision"),
        (json!({"source": "nothing"}), "unknown_revision"),
        (json!({"source": "topic", "mode": "octopus"}), "invalid_arguments"),
        (json!({"source": "topic", "abort": true}), "invalid_arguments"),
        (json!({"source": "topic", "message": "x\n\nAgent: human"}), "reserved_trailer"),
        (json!({"source": "topic", "strategy": "ours"}), "invalid_arguments"),
    ] {
        assert_eq!(server.refused("git_merge", arguments.clone()).await["code"], code, "{arguments}");
    }
    assert_eq!(everything(&world), before);
}

#[tokio::test]
async fn histories_without_a_common_commit_are_not_merged() {
    let world = World::new();
    world.git(&["checkout", "-q", "--orphan", "island"]);
    world.git(&["commit", "-qm", "island"]);
    world.git(&["checkout", "-q", "feature"]);
    let server = world.start();
    for tool in ["git_merge", "git_merge_preview"] {
        assert_eq!(server.refused(tool, json!({"source": "island"})).await["code"], "no_merge_base");
    }
}

#[tokio::test]
async fn branches_are_deleted_only_where_nothing_is_lost() {
    let world = parted(false);
    world.git(&["branch", "merged", "feature"]);
    world.git(&["branch", "packed", "feature"]);
    world.git(&["branch", "dir/one", "feature"]);
    let repository = world.repository();
    repository.reference_symbolic("refs/heads/alias", "refs/heads/topic", false, "").unwrap();
    world.git(&["worktree", "add", "-q", world.path("elsewhere").to_str().unwrap(), "-b", "elsewhere"]);
    world.git(&["pack-refs", "--all"]);
    let server = world.start();
    let before = everything(&world);
    for (name, code) in [
        ("main", "protected_branch"),
        ("MAIN", "protected_branch"),
        ("release/1.2", "protected_branch"),
        ("refs/heads/main", "invalid_branch_name"),
        ("feature", "branch_checked_out"),
        ("elsewhere", "branch_checked_out"),
        ("nothing", "unknown_branch"),
        ("topic", "not_merged"),
        ("-D", "invalid_branch_name"),
        ("@{-1}", "invalid_branch_name"),
    ] {
        let error = server.refused("git_delete_branch", json!({"branch_name": name})).await;
        assert_eq!(error["code"], code, "{name}: {error}");
        if code != "not_merged" {
            let error = server.refused("git_delete_branch", json!({"branch_name": name, "force": true})).await;
            assert_eq!(error["code"], code, "{name} by force");
        }
    }
    assert_eq!(everything(&world), before);
    for name in ["merged", "packed", "dir/one"] {
        let deleted = server.ok("git_delete_branch", json!({"branch_name": name})).await;
        assert_eq!(deleted["commit"], world.tip("feature"));
        assert!(repository.find_reference(&format!("refs/heads/{name}")).is_err(), "{name}");
    }
    // The name can be used for a folder of branches now.
    server.ok("git_create_branch", json!({"branch_name": "merged/again"})).await;
    server.ok("git_create_branch", json!({"branch_name": "dir"})).await;
    // An alias goes without what it leads to.
    let topic = world.tip("topic");
    server.ok("git_delete_branch", json!({"branch_name": "alias"})).await;
    assert_eq!(world.tip("topic"), topic);
    let deleted = server.ok("git_delete_branch", json!({"branch_name": "topic", "force": true})).await;
    assert_eq!(deleted["commit"], topic);
    // What is gone can be brought back.
    server.ok("git_create_branch", json!({"branch_name": "topic", "base_branch": topic})).await;
    world.fsck();
}

#[tokio::test]
async fn staged_changes_are_unstaged_and_files_stay() {
    let world = World::new();
    let repository = world.repository();
    commit_file(&repository, "src/a", "a\n", "a");
    commit_file(&repository, "src/b", "b\n", "b");
    world.file("README.md", "changed\n");
    world.file("new.txt", "new\n");
    world.file("src/a", "changed\n");
    fs::remove_file(world.work().join("src/b")).unwrap();
    let server = world.start();
    server.ok("git_add", json!({"files": ["."]})).await;
    let part = server.ok("git_reset", json!({"files": ["src", "new.txt"]})).await;
    assert_eq!(part["unstaged"], 3);
    assert_eq!(world.git(&["diff", "--cached", "--name-only"]), "README.md\n");
    assert_eq!(server.ok("git_reset", json!({})).await["unstaged"], 1);
    assert_eq!(world.git(&["status", "--porcelain"]), " M README.md\n M src/a\n D src/b\n?? new.txt\n");
    assert_eq!(world.read("src/a"), "changed\n");
    assert_eq!(server.ok("git_reset", json!({})).await["unstaged"], 0);
    for (arguments, code) in [
        (json!({"files": []}), "invalid_arguments"),
        (json!({"files": ["../outside"]}), "path_outside_root"),
        (json!({"files": [".git/config"]}), "git_directory"),
        (json!({"hard": true}), "invalid_arguments"),
        (json!({"target": "HEAD~1"}), "invalid_arguments"),
    ] {
        assert_eq!(server.refused("git_reset", arguments.clone()).await["code"], code, "{arguments}");
    }
    // Unstaging what was staged on top of an unborn branch, too.
    let world = World::empty();
    world.file("a", "a\n");
    let server = world.start();
    server.ok("git_add", json!({"files": ["a"]})).await;
    assert_eq!(server.ok("git_reset", json!({})).await["unstaged"], 1);
    assert_eq!(world.git(&["status", "--porcelain"]), "?? a\n");
}
