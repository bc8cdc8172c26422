//! Commits signed as the user's own git configuration says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;
use tollgate_tests::world::skipped;

use super::world::{World, commit_file};

/// A user whose commits are signed with ssh.
fn with_ssh_key(world: &World) {
    fs::create_dir_all(world.path("home")).unwrap();
    let key = world.path("home/key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap();
    assert!(made.success());
    let public = fs::read_to_string(world.path("home/key.pub")).unwrap();
    fs::write(world.path("home/signers"), format!("test@example.com {public}")).unwrap();
    let configuration =
        format!("[commit]\n\tgpgsign = true\n[gpg]\n\tformat = ssh\n[user]\n\tsigningkey = {}\n", key.display());
    fs::write(world.path("home/.gitconfig"), configuration).unwrap();
}

/// What `git verify-commit` says of `revision`.
fn verified(world: &World, revision: &str) -> (bool, String) {
    let signers = format!("gpg.ssh.allowedSignersFile={}", world.path("home/signers").display());
    // Not with the program that the repository names.
    let programs = ["-c", "gpg.ssh.program=ssh-keygen", "-c", "gpg.program=gpg", "-c", "gpg.format=ssh"];
    let output = Command::new("git")
        .args(["-c", &signers])
        .args(programs)
        .args(["verify-commit", revision])
        .current_dir(world.work())
        .env("HOME", world.path("home"))
        .env("GNUPGHOME", world.path("gnupg"))
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn commits_merges_and_reverts_are_signed_with_the_users_key() {
    let world = World::new();
    with_ssh_key(&world);
    let server = world.start();
    world.file("a.txt", "a\n");
    server.ok("git_add", json!({"files": ["a.txt"]})).await;
    let committed = server.ok("git_commit", json!({"message": "signed"})).await;
    assert_eq!(committed["signed"], true);
    let first = committed["commit"].as_str().unwrap();
    let (good, text) = verified(&world, first);
    assert!(good && text.contains("Good \"git\" signature for test@example.com"), "{text}");
    let reverted = server.ok("git_revert", json!({"commit": first})).await;
    assert!(verified(&world, reverted["commit"].as_str().unwrap()).0);
    world.git(&["branch", "side", "main"]);
    world.git(&["checkout", "-q", "side"]);
    commit_file(&world.repository(), "b.txt", "b\n", "unsigned");
    let merged = server.ok("git_merge", json!({"source": "feature"})).await;
    assert_eq!((&merged["result"], &merged["signed"]), (&json!("merge"), &json!(true)));
    assert!(verified(&world, merged["commit"].as_str().unwrap()).0);
    assert!(!verified(&world, "side~1").0, "verify-commit tells one from the other");
    // The trailers are part of what is signed.
    assert!(world.git(&["log", "-1", "--format=%B", first]).contains("Agent: tollgate-tests"));
    world.fsck();
}

#[tokio::test]
async fn repository_names_neither_the_program_nor_the_key() {
    let world = World::new();
    with_ssh_key(&world);
    let runs = world.path("runs");
    fs::create_dir(&runs).unwrap();
    let program = world.path("program");
    fs::write(&program, format!("#!/bin/sh\nmktemp {}/XXXXXX >/dev/null\nexit 1\n", runs.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let program = program.display().to_string();
    for (name, value) in [
        ("gpg.program", &*program),
        ("gpg.ssh.program", &program),
        ("gpg.openpgp.program", &program),
        ("gpg.ssh.defaultKeyCommand", &program),
        ("gpg.format", "openpgp"),
        ("user.signingkey", "/nonexistent"),
        ("commit.gpgsign", "false"),
    ] {
        world.git(&["config", name, value]);
    }
    let server = world.start();
    world.file("a.txt", "a\n");
    server.ok("git_add", json!({"files": ["a.txt"]})).await;
    assert_eq!(server.ok("git_commit", json!({"message": "signed"})).await["signed"], true);
    assert!(verified(&world, "HEAD").0);
    // A repository does not make anybody sign either.
    fs::write(world.path("home/.gitconfig"), "").unwrap();
    world.git(&["config", "commit.gpgsign", "true"]);
    let server = world.start();
    world.file("a.txt", "b\n");
    server.ok("git_add", json!({"files": ["a.txt"]})).await;
    assert_eq!(server.ok("git_commit", json!({"message": "unsigned"})).await["signed"], false);
    assert_eq!(fs::read_dir(&runs).unwrap().count(), 0);
}

#[tokio::test]
async fn commit_that_cannot_be_signed_is_not_made() {
    let world = World::new();
    with_ssh_key(&world);
    let server = world.start();
    world.file("a.txt", "a\n");
    server.ok("git_add", json!({"files": ["a.txt"]})).await;
    let before = world.refs();
    let key = world.path("home/key").display().to_string();
    for settings in [
        "[gpg]\n\tformat = ssh\n".to_owned(),
        "[gpg]\n\tformat = ssh\n[user]\n\tsigningkey = /nonexistent\n".to_owned(),
        "[gpg]\n\tformat = ssh\n[user]\n\tsigningkey = README.md\n".to_owned(),
        format!("[gpg]\n\tformat = x509\n[user]\n\tsigningkey = {key}\n"),
        format!("[gpg]\n\tformat = ssh\n[gpg \"ssh\"]\n\tprogram = /nonexistent\n[user]\n\tsigningkey = {key}\n"),
        format!("[gpg]\n\tformat = ssh\n[gpg \"ssh\"]\n\tprogram = true\n[user]\n\tsigningkey = {key}\n"),
        format!("[gpg]\n\tformat = ssh\n[user]\n\tsigningkey = {}\n", world.path("home/signers").display()),
        "[gpg]\n\tprogram = false\n".to_owned(),
    ] {
        fs::write(world.path("home/.gitconfig"), format!("[commit]\n\tgpgsign = true\n{settings}")).unwrap();
        let error = server.refused("git_commit", json!({"message": "unsigned"})).await;
        assert_eq!(error["code"], "signing_failed", "{settings}: {error}");
        assert_eq!(world.refs(), before, "{settings}");
    }
    world.fsck();
}

#[tokio::test]
async fn commits_are_signed_with_gpg() {
    if Command::new("gpg").arg("--version").output().is_err() {
        skipped("gpg is not installed");
        return;
    }
    let world = World::new();
    fs::create_dir_all(world.path("home")).unwrap();
    let home = world.path("gnupg");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    let gpg = |arguments: &[&str]| {
        let output = Command::new("gpg").args(arguments).env("GNUPGHOME", &home).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    gpg(&[
        "--batch",
        "--quiet",
        "--passphrase",
        "",
        "--quick-generate-key",
        "Test <test@example.com>",
        "ed25519",
        "sign",
        "never",
    ]);
    fs::write(world.path("home/.gitconfig"), "[commit]\n\tgpgsign = true\n").unwrap();
    let home_text = home.display().to_string();
    let server = world.start_as(&[("GNUPGHOME", &home_text)]);
    world.file("a.txt", "a\n");
    server.ok("git_add", json!({"files": ["a.txt"]})).await;
    let committed = server.ok("git_commit", json!({"message": "signed"})).await;
    assert_eq!(committed["signed"], true);
    let (good, text) = verified(&world, "HEAD");
    assert!(good, "{text}");
    let _ = Command::new("gpgconf").args(["--kill", "all"]).env("GNUPGHOME", &home).status();
}

#[tokio::test]
async fn answer_says_that_a_hook_was_not_run() {
    let world = World::new();
    let server = world.start();
    world.file("a.txt", "a\n");
    server.ok("git_add", json!({"files": ["a.txt"]})).await;
    assert_eq!(server.ok("git_commit", json!({"message": "one"})).await["hooks"], "none");
    let ran = world.path("ran");
    let hook = world.work().join(".git/hooks/pre-commit");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, format!("#!/bin/sh\ntouch {}\nexit 1\n", ran.display())).unwrap();
    for (mode, expected) in [(0o644, "none"), (0o755, "not_allowed")] {
        fs::set_permissions(&hook, fs::Permissions::from_mode(mode)).unwrap();
        world.file("a.txt", expected);
        server.ok("git_add", json!({"files": ["a.txt"]})).await;
        assert_eq!(server.ok("git_commit", json!({"message": "more"})).await["hooks"], expected);
    }
    // Where the repository says that its hooks are elsewhere, too; outside is nobody's business.
    fs::remove_file(&hook).unwrap();
    for (folder, expected) in [("hooks", "not_allowed"), ("../outside", "none")] {
        let path = world.work().join(folder).join("commit-msg");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\ntouch {}\n", ran.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        world.git(&["config", "core.hooksPath", folder]);
        world.file("a.txt", folder);
        server.ok("git_add", json!({"files": ["a.txt"]})).await;
        assert_eq!(server.ok("git_commit", json!({"message": folder})).await["hooks"], expected, "{folder}");
    }
    assert!(!ran.exists());
}
