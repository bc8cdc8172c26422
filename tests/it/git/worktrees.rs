//! One working tree per agent.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::world::World;

#[tokio::test]
async fn agents_work_in_worktrees_of_their_own() {
    let world = World::new();
    world.git(&["commit", "-q", "--allow-empty", "-m", "more"]);
    let server = world.start();
    let added = server.ok("git_worktree_add", json!({"path": "trees-one", "branch_name": "one"})).await;
    assert_eq!((&added["created"], &added["commit"]), (&json!(true), &json!(world.tip("feature"))));
    assert_eq!(world.read("trees-one/README.md"), "hello\n");
    let tree = added["worktree"].as_str().unwrap();
    let status = server.ok("git_status", json!({"repo_path": tree})).await;
    assert_eq!((&status["branch"], &status["clean"]), (&json!("one"), &json!(true)));
    world.file("trees-one/new.txt", "new\n");
    server.ok("git_add", json!({"repo_path": tree, "files": ["new.txt"]})).await;
    let committed = server.ok("git_commit", json!({"repo_path": tree, "message": "from a worktree"})).await;
    assert_eq!(
        (committed["branch"].as_str(), world.tip("one").as_str()),
        (Some("one"), committed["commit"].as_str().unwrap())
    );
    // A protected branch can be looked at there, and not committed to.
    server.ok("git_worktree_add", json!({"path": "trees-main", "branch_name": "main"})).await;
    world.file("trees-main/new.txt", "new\n");
    server.ok("git_add", json!({"repo_path": "trees-main", "files": ["new.txt"]})).await;
    for (tool, arguments) in [
        ("git_commit", json!({"repo_path": "trees-main", "message": "sneak in"})),
        ("git_merge", json!({"repo_path": "trees-main", "source": "one"})),
    ] {
        assert_eq!(server.refused(tool, arguments).await["code"], "protected_branch", "{tool}");
    }
    let listed = server.ok("git_worktree_list", json!({})).await["worktrees"].clone();
    let names: Vec<&str> = listed.as_array().unwrap().iter().map(|tree| tree["branch"].as_str().unwrap()).collect();
    assert_eq!(names, ["main", "one"]);
    assert!(world.git(&["worktree", "list"]).contains("[one]"));
    world.git(&["worktree", "prune"]);

    assert_eq!(server.refused("git_worktree_remove", json!({"name": "trees-main"})).await["code"], "worktree_in_use");
    server.ok("git_worktree_remove", json!({"name": "trees-one"})).await;
    assert!(!world.work().join("trees-one").exists());
    assert_eq!(world.tip("one"), committed["commit"].as_str().unwrap());
    // A folder that somebody else has removed.
    fs::remove_dir_all(world.work().join("trees-main")).unwrap();
    assert_eq!(server.ok("git_worktree_list", json!({})).await["worktrees"][0]["missing"], true);
    assert_eq!(server.ok("git_worktree_remove", json!({"name": "trees-main"})).await["was_missing"], true);
    assert_eq!(server.ok("git_worktree_list", json!({})).await["worktrees"], json!([]));
    world.fsck();
}

#[tokio::test]
async fn worktrees_stay_inside_and_change_nothing_else() {
    let world = World::new();
    fs::create_dir(world.work().join("folder")).unwrap();
    symlink("../outside", world.work().join("out")).unwrap();
    let server = world.start();
    let before = (world.refs(), world.git(&["worktree", "list"]));
    let add = |path: &str, branch: &str| json!({"path": path, "branch_name": branch});
    let mut calls: Vec<(Value, &str)> = vec![
        (add("../tree", "x"), "path_outside_root"),
        (add("/tmp/tree", "x"), "path_outside_root"),
        (add("out/tree", "x"), "path_outside_root"),
        (add("folder/../../tree", "x"), "path_outside_root"),
        (add("missing/tree", "x"), "not_a_repository"),
        (add("folder", "x"), "path_taken"),
        (add("out", "x"), "path_taken"),
        (add(".git/tree", "x"), "git_directory"),
        (add(".git/worktrees/x", "x"), "not_a_repository"),
        (add("folder/.GIT", "x"), "git_directory"),
        (add("folder/..", "x"), "invalid_path"),
        (add("", "x"), "invalid_path"),
        (add("tree\n", "x"), "invalid_path"),
        (add("tree", "-b"), "invalid_branch_name"),
        (add("tree", "release/9"), "protected_branch"),
        (add("tree", "feature"), "branch_checked_out"),
    ];
    calls.push((json!({"path": "tree", "branch_name": "x", "base_branch": "nothing"}), "unknown_revision"));
    calls.push((json!({"path": "tree", "branch_name": "production", "base_branch": "main"}), "branch_exists"));
    calls.push((json!({"path": "tree", "branch_name": "x", "force": true}), "invalid_arguments"));
    for (arguments, code) in calls {
        let error = server.refused("git_worktree_add", arguments.clone()).await;
        assert_eq!(error["code"], code, "{arguments}: {error}");
    }
    assert_eq!((world.refs(), world.git(&["worktree", "list"])), before);
    assert!(!world.path("tree").exists() && !world.path("outside/tree").exists());
    assert_eq!(server.refused("git_worktree_remove", json!({"name": "nothing"})).await["code"], "unknown_worktree");
    assert_eq!(server.refused("git_worktree_remove", json!({"name": "../x"})).await["code"], "unknown_worktree");
}

/// What the repository says of a worktree is an agent's word too.
#[tokio::test]
async fn forged_worktree_removes_no_other_folder() {
    let world = World::new();
    let outside = world.path("outside");
    let admin = world.work().join(".git/worktrees/forged");
    let other = world.work().join("other");
    super::world::init(&other);
    fs::create_dir_all(&admin).unwrap();
    fs::write(admin.join("HEAD"), "ref: refs/heads/x\n").unwrap();
    fs::write(admin.join("commondir"), "../..\n").unwrap();
    let server = world.start();
    for folder in [&outside, &other, &world.work(), &world.path("")] {
        fs::write(admin.join("gitdir"), format!("{}/.git\n", folder.display())).unwrap();
        let error = server.refused("git_worktree_remove", json!({"name": "forged"})).await;
        assert!(matches!(error["code"].as_str(), Some("path_outside_root" | "not_a_repository")), "{error}");
        assert!(folder.join(".git").exists() || folder == &world.path(""), "{folder:?}");
    }
    fs::write(admin.join("gitdir"), format!("{}/.git\n", outside.display())).unwrap();
    let listed = server.ok("git_worktree_list", json!({})).await["worktrees"].clone();
    assert!(!listed.to_string().contains("outside"), "{listed}");
    assert!(outside.join("secret.txt").exists() && other.join(".git").exists());
}

#[tokio::test]
async fn worktrees_without_a_folder_are_pruned_and_others_stay() {
    let world = World::new();
    for name in ["gone", "kept", "locked", "here"] {
        world.git(&["worktree", "add", "-q", "-b", name, &format!("trees/{name}")]);
    }
    world.git(&["worktree", "lock", "trees/locked"]);
    world.git(&["worktree", "add", "-q", "-b", "far", world.path("far").to_str().unwrap()]);
    fs::write(world.work().join("trees/here/draft.txt"), "draft\n").unwrap();
    for name in ["trees/gone", "trees/locked"] {
        fs::remove_dir_all(world.work().join(name)).unwrap();
    }
    fs::remove_dir_all(world.path("far")).unwrap();
    let server = world.start();
    for wrong in [json!({}), json!({"name": "gone", "prune": true}), json!({"prune": false})] {
        assert_eq!(server.refused("git_worktree_remove", wrong).await["code"], "invalid_arguments");
    }
    let before = world.refs();
    // A folder outside is nobody's business, not even that it is gone; a lock is somebody's wish.
    let pruned = server.ok("git_worktree_remove", json!({"prune": true})).await;
    assert_eq!((&pruned["removed"], &pruned["was_missing"]), (&json!(["gone"]), &json!(true)));
    assert_eq!(server.ok("git_worktree_remove", json!({"prune": true})).await["removed"], json!([]));
    let left: Vec<_> = fs::read_dir(world.work().join(".git/worktrees")).unwrap().flatten().collect();
    assert_eq!(left.len(), 4, "{left:?}");
    assert!(world.work().join("trees/here/draft.txt").exists() && world.work().join("trees/kept/.git").exists());
    assert_eq!(world.refs(), before);
    let trail = server.ok("git_audit_trail", json!({"operation": "worktree_removed"})).await;
    assert_eq!(trail["entries"].as_array().unwrap().len(), 1, "{trail}");
}
