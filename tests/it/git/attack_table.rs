//! Attacks, each on a repository of its own: from the published vulnerabilities of git MCP servers, and from git itself.
//!
//! Each is refused with the code that stands beside it, or (`contained`) may go through and does no harm. After each,
//! `git fsck` finds nothing that it did not find before, every protected ref here and at the remote is where it was, the
//! neighbouring repository is untouched, and no program has run.

mod branch_names;
mod heads;
mod layouts;
mod programs;
mod published;
mod remotes;
mod trees;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use git2::Repository;
use serde_json::{Value, json};

use super::world::{World, commit_file, refs};

/// What must come of a call.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// It is refused with this code.
    Refused(&'static str),
    /// It is refused, or does something harmless.
    Contained,
}
use Outcome::{Contained, Refused};

type Call = (&'static str, Value, Outcome);

struct Attack {
    name: &'static str,
    prepare: fn(&World),
    calls: Vec<Call>,
}

fn attack(name: &'static str, prepare: fn(&World), calls: Vec<Call>) -> Attack {
    Attack { name, prepare, calls }
}

fn nothing(_: &World) {}

fn dot_git(world: &World) -> std::path::PathBuf {
    world.work().join(".git")
}

fn write_git(world: &World, name: &str, content: &str) {
    let path = dot_git(world).join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn configure(world: &World, text: &str) {
    let path = dot_git(world).join("config");
    let before = fs::read_to_string(&path).unwrap();
    fs::write(path, format!("{before}{text}\n")).unwrap();
}

fn stage(world: &World) {
    world.file("staged.txt", "staged\n");
    world.git(&["add", "staged.txt"]);
}

/// HEAD as written, with something staged.
fn head(world: &World, content: &str) {
    stage(world);
    write_git(world, "HEAD", content);
}

/// A program that says that it ran.
fn program(world: &World) -> String {
    let path = world.path("program");
    fs::write(&path, format!("#!/bin/sh\ntouch {}\ncat 2>/dev/null\n", world.path("pwned").display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// A bare remote with every branch, beside which `feature` here has one commit more.
fn remote(world: &World) -> Repository {
    let path = world.work().join("remote.git");
    world.git(&["clone", "-q", "--bare", ".", "remote.git"]);
    configure(world, "[remote \"origin\"]\n\turl = ./remote.git");
    write_git(world, "info/exclude", "remote.git\n.tollgate\n");
    commit_file(&world.repository(), "more.txt", "more\n", "more");
    Repository::open_bare(path).unwrap()
}

fn remote_with(world: &World, configuration: &str) {
    remote(world);
    configure(world, configuration);
}

/// A branch `hostile` with a tree that git itself would not make.
fn hostile_tree(world: &World, name: &str, mode: &str) {
    let repository = world.repository();
    let odb = repository.odb().unwrap();
    let blob = repository.blob(b"../../outside/secret.txt").unwrap();
    let inner = odb.write(git2::ObjectType::Tree, &[b"100644 config\0", blob.as_bytes()].concat()).unwrap();
    let id = if mode == "40000" { inner } else { blob };
    let tree = [format!("{mode} {name}\0").as_bytes(), id.as_bytes()].concat();
    let tree = odb.write(git2::ObjectType::Tree, &tree).unwrap();
    let parent = repository.refname_to_id("refs/heads/feature").unwrap();
    let who = "author A <a@example.com> 1700000000 +0000\ncommitter A <a@example.com> 1700000000 +0000";
    let commit = format!("tree {tree}\nparent {parent}\n{who}\n\nhostile\n");
    let commit = odb.write(git2::ObjectType::Commit, commit.as_bytes()).unwrap();
    repository.reference("refs/heads/hostile", commit, true, "").unwrap();
}

/// An index with one entry more, whose name no git would put there: of the length of `name`, written over afterwards.
fn hostile_index(world: &World, name: &str) {
    let stand_in = "Q".repeat(name.len());
    let id = world.git(&["rev-parse", "HEAD:README.md"]);
    world.git(&["update-index", "--add", "--cacheinfo", &format!("100644,{},{stand_in}", id.trim())]);
    let path = dot_git(world).join("index");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(name.len()).position(|part| part == stand_in.as_bytes()).unwrap();
    bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
    bytes.truncate(bytes.len() - 20);
    fs::write(&path, &bytes).unwrap();
    let sum = Command::new("sha1sum").arg(&path).output().unwrap().stdout;
    let sum = String::from_utf8(sum).unwrap();
    let sum = (0..20).map(|byte| u8::from_str_radix(&sum[byte * 2..byte * 2 + 2], 16).unwrap());
    bytes.extend(sum);
    fs::write(path, bytes).unwrap();
}

fn worktree(world: &World, name: &str) -> std::path::PathBuf {
    let folder = world.work().join("tree");
    world.git(&["worktree", "add", "-q", "-b", name, "tree"]);
    folder
}

fn commit(outcome: Outcome) -> Call {
    ("git_commit", json!({"message": "x"}), outcome)
}

fn checkout(branch: &str, outcome: Outcome) -> Call {
    ("git_checkout", json!({"branch_name": branch}), outcome)
}

fn push(branch: &str, outcome: Outcome) -> Call {
    ("git_push", json!({"branch": branch}), outcome)
}

/// Everything that reads the files of the working tree and of commits, and writes them.
fn daily() -> Vec<Call> {
    vec![
        ("git_status", json!({}), Contained),
        ("git_diff", json!({}), Contained),
        ("git_add", json!({"files": ["."]}), Contained),
        ("git_diff_staged", json!({}), Contained),
        commit(Contained),
        ("git_show", json!({"revision": "HEAD"}), Contained),
        ("git_create_branch", json!({"branch_name": "t", "base_branch": "main"}), Contained),
        checkout("t", Contained),
        ("git_merge", json!({"source": "feature", "mode": "no_ff"}), Contained),
    ]
}

/// As [`stage`], in a repository that git itself does not open.
fn stage_without_git(world: &World) {
    world.file("staged.txt", "staged\n");
}

/// A commit at the remote that is nowhere else.
fn commit_to(bare: &Repository, branch: &str) {
    let tip = bare.find_reference(&format!("refs/heads/{branch}")).unwrap().peel_to_commit().unwrap();
    let who = git2::Signature::now("Other", "other@example.com").unwrap();
    let id = bare.commit(None, &who, &who, "at the remote", &tip.tree().unwrap(), &[&tip]).unwrap();
    bare.reference(&format!("refs/heads/{branch}"), id, true, "").unwrap();
}

/// What git finds wrong with a repository, without the names of what dangles.
fn fsck(folder: &Path) -> Vec<String> {
    if !folder.exists() {
        return Vec::new();
    }
    let output = Command::new("git").args(["fsck", "--no-dangling", "--no-progress"]).current_dir(folder).output();
    let output = output.unwrap();
    let text = [output.stdout, output.stderr].concat();
    let mut lines: Vec<String> =
        String::from_utf8_lossy(&text).lines().filter(|line| !line.starts_with("notice:")).map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The protected branches of the repository at `folder`, by every spelling.
fn protected(folder: &Path) -> BTreeMap<String, String> {
    let Ok(repository) = Repository::open(folder) else { return BTreeMap::new() };
    let is_protected = |name: &str| {
        let name = name.trim_start_matches("refs/heads/").to_lowercase();
        matches!(&*name, "main" | "production") || name.starts_with("release/")
    };
    refs(&repository).into_iter().filter(|(name, _)| is_protected(name)).collect()
}

/// The files of the neighbour, git's own too.
fn neighbour(world: &World) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![world.path("outside")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(entry.path().display().to_string(), fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

async fn check(attacks: Vec<Attack>) {
    // All that is wrong at once: each attack stands alone.
    let mut wrong = Vec::new();
    for attack in attacks {
        let world = World::new();
        (attack.prepare)(&world);
        let folders = [world.work(), world.work().join("remote.git")];
        let state = || (folders.each_ref().map(|folder| protected(folder)), neighbour(&world));
        let (before, found) = (state(), folders.each_ref().map(|folder| fsck(folder)));
        // Git itself may have fallen into the trap while it was laid.
        let _ = fs::remove_file(world.path("pwned"));
        let server = world.start();
        for (tool, arguments, outcome) in &attack.calls {
            let called = server.call(tool, arguments.clone()).await;
            let answer = called.structured.to_string();
            let code = called.structured["error"]["code"].as_str().unwrap_or("ok");
            let as_expected = match outcome {
                Refused("invalid_branch_name_or_fine") => matches!(code, "ok" | "invalid_branch_name"),
                Refused(expected) => code == *expected,
                Contained => code != "internal_error",
            };
            if !as_expected || answer.contains("hunter2") || answer.contains("secret\\n") {
                wrong.push(format!("{}: {tool} {arguments}: not {outcome:?} but {answer}", attack.name));
            }
        }
        if state() != before {
            wrong.push(format!("{}: a protected branch or the neighbour changed", attack.name));
        }
        if world.path("pwned").exists() || world.work().join("pwned").exists() {
            wrong.push(format!("{}: a program ran", attack.name));
        }
        let now = folders.each_ref().map(|folder| fsck(folder));
        for (now, before) in now.iter().zip(&found) {
            let new: Vec<_> = now.iter().filter(|line| !before.contains(line)).collect();
            if !new.is_empty() {
                wrong.push(format!("{}: fsck finds {new:?}", attack.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_are_at_least_eighty() {
    let all = [
        published::published(),
        branch_names::names_of_branches(),
        heads::heads_and_refs(),
        layouts::layouts(),
        programs::programs(),
        trees::indexes_and_trees(),
        remotes::remotes(),
    ];
    let names: std::collections::BTreeSet<_> = all.iter().flatten().map(|attack| attack.name).collect();
    println!("{} attacks, {} calls", names.len(), all.iter().flatten().map(|attack| attack.calls.len()).sum::<usize>());
    assert!(names.len() >= 80, "{}", names.len());
    assert_eq!(names.len(), all.iter().flatten().count());
}

macro_rules! tables {
    ($($name:ident = $table:path;)+) => {
        $(#[tokio::test]
        async fn $name() {
            check($table()).await;
        })+
    };
}

tables! {
    published_vulnerabilities_are_none_here = published::published;
    names_that_mean_a_protected_branch_do_not_reach_it = branch_names::names_of_branches;
    heads_and_refs_that_lead_astray_are_seen_through = heads::heads_and_refs;
    repositories_that_lead_outside_are_refused = layouts::layouts;
    programs_that_a_repository_names_are_not_run = programs::programs;
    hostile_indexes_and_trees_do_no_harm = trees::indexes_and_trees;
    remotes_cannot_be_turned_against_a_protected_branch = remotes::remotes;
}
