//! No program that a repository names is ever run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use super::world::World;

/// Every hook that some command of git runs.
const HOOKS: &[&str] = &[
    "applypatch-msg",
    "pre-applypatch",
    "post-applypatch",
    "pre-commit",
    "pre-merge-commit",
    "prepare-commit-msg",
    "commit-msg",
    "post-commit",
    "pre-rebase",
    "post-checkout",
    "post-merge",
    "pre-push",
    "pre-receive",
    "update",
    "post-receive",
    "post-update",
    "reference-transaction",
    "pre-auto-gc",
    "post-rewrite",
    "sendemail-validate",
    "fsmonitor-watchman",
    "post-index-change",
];

/// A repository that names a program wherever git takes one; the program leaves a file per run.
fn hostile(world: &World) -> PathBuf {
    let runs = world.path("runs");
    fs::create_dir(&runs).unwrap();
    let program = world.path("program");
    fs::write(&program, format!("#!/bin/sh\nmktemp {}/XXXXXX >/dev/null\ncat 2>/dev/null\n", runs.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let hooks = world.work().join(".git/hooks");
    fs::create_dir_all(&hooks).unwrap();
    for hook in HOOKS {
        fs::copy(&program, hooks.join(hook)).unwrap();
    }
    let program = program.display();
    let config = world.work().join(".git/config");
    let mut text = fs::read_to_string(&config).unwrap();
    text.push_str(&format!(
        "[core]\n\tfsmonitor = {program}\n\thooksPath = {hooks}\n\tpager = {program}\n\teditor = {program}\n\
         \tsshCommand = {program}\n\taskPass = {program}\n\tgitProxy = {program}\n\talternateRefsCommand = {program}\n\
         [filter \"x\"]\n\tclean = {program}\n\tsmudge = {program}\n\tprocess = {program}\n\
         [diff]\n\texternal = {program}\n\
         [diff \"x\"]\n\tcommand = {program}\n\ttextconv = {program}\n\
         [merge \"x\"]\n\tdriver = {program}\n\
         [gpg]\n\tprogram = {program}\n[gpg \"ssh\"]\n\tprogram = {program}\n\
         [commit]\n\tgpgSign = true\n[tag]\n\tgpgSign = true\n[user]\n\tsigningKey = x\n\
         [credential]\n\thelper = {program}\n[alias]\n\tstatus = !{program}\n\
         [remote \"origin\"]\n\turl = ext::{program}\n\tuploadpack = {program}\n\
         [trailer \"Agent\"]\n\tcommand = {program}\n\tcmd = {program}\n\
         [uploadpack]\n\tpackObjectsHook = {program}\n[interactive]\n\tdiffFilter = {program}\n",
        hooks = hooks.display(),
    ));
    fs::write(config, text).unwrap();
    world.file(".gitattributes", "* filter=x diff=x merge=x\n");
    runs
}

fn count(runs: &PathBuf) -> usize {
    fs::read_dir(runs).unwrap().count()
}

#[tokio::test]
async fn no_program_is_run() {
    let world = World::new();
    let runs = hostile(&world);
    let server = world.start();
    world.file("new.txt", "new\n");
    world.file("README.md", "changed\n");
    server.ok("git_status", json!({})).await;
    server.ok("git_diff", json!({})).await;
    server.ok("git_add", json!({"files": ["."]})).await;
    server.ok("git_commit", json!({"message": "one"})).await;
    server.ok("git_log", json!({"path": "README.md"})).await;
    server.ok("git_diff", json!({"target": "HEAD~1..HEAD"})).await;
    server.ok("git_create_branch", json!({"branch_name": "topic", "base_branch": "HEAD~1"})).await;
    server.ok("git_checkout", json!({"branch_name": "topic"})).await;
    server.ok("git_checkout", json!({"branch_name": "feature"})).await;
    assert_eq!(world.read("README.md"), "changed\n");
    world.file("README.md", "changed twice\n");
    server.ok("git_diff_unstaged", json!({})).await;
    server.ok("git_add", json!({"files": ["."]})).await;
    server.ok("git_diff_staged", json!({})).await;
    server.ok("git_reset", json!({})).await;
    server.ok("git_show", json!({"revision": "HEAD"})).await;
    server.ok("git_blame", json!({"path": "README.md"})).await;
    world.file("README.md", "changed\n");
    server.ok("git_checkout", json!({"branch_name": "topic"})).await;
    server.ok("git_merge_preview", json!({"source": "feature"})).await;
    server.ok("git_merge", json!({"source": "feature", "mode": "no_ff"})).await;
    server.ok("git_worktree_add", json!({"path": "tree", "branch_name": "in-tree"})).await;
    server.ok("git_worktree_remove", json!({"name": "tree"})).await;
    server.ok("git_delete_branch", json!({"branch_name": "in-tree"})).await;
    for tool in ["git_fetch", "git_pull", "git_push"] {
        assert_eq!(server.refused(tool, json!({})).await["code"], "unsupported_remote", "{tool}");
    }
    assert_eq!(count(&runs), 0);

    // The repository really is a trap: git itself falls into it.
    world.file("README.md", "changed again\n");
    let git = |arguments: &[&str]| {
        let command = Command::new("git").args(arguments).current_dir(world.work()).output();
        command.map(|output| output.status)
    };
    if git(&["add", "README.md"]).is_ok() {
        assert!(count(&runs) > 0, "the trap does not work");
    }
}

#[tokio::test]
async fn file_that_needs_a_program_is_not_staged() {
    let world = World::new();
    let runs = hostile(&world);
    world.file(".gitattributes", "*.secret filter=x\n*.bin filter=lfs\n");
    let config = world.work().join(".git/config");
    let text = fs::read_to_string(&config).unwrap() + "[filter \"x\"]\n\trequired = true\n";
    fs::write(config, text).unwrap();
    for file in ["a.secret", "a.bin", "a.txt"] {
        world.file(file, "plain text\n");
    }
    let server = world.start();
    for file in ["a.secret", "a.bin"] {
        let error = server.refused("git_add", json!({"files": [file]})).await;
        assert_eq!(error["code"], "cannot_stage", "{error}");
    }
    let added = server.ok("git_add", json!({"files": ["."]})).await;
    let skipped: Vec<_> = added["skipped"].as_array().unwrap().iter().map(|file| file["path"].clone()).collect();
    assert_eq!(skipped, ["a.bin", "a.secret"]);
    let index = world.repository().index().unwrap();
    assert!(index.get_path("a.secret".as_ref(), 0).is_none() && index.get_path("a.txt".as_ref(), 0).is_some());
    assert_eq!(count(&runs), 0);
}
