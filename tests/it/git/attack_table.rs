//! Attacks, each on a repository of its own: from the published vulnerabilities of git MCP servers, and from git itself.
//!
//! Each is refused with the code that stands beside it, or (`contained`) may go through and does no harm. After each,
//! `git fsck` finds nothing that it did not find before, every protected ref here and at the remote is where it was, the
//! neighbouring repository is untouched, and no program has run.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use git2::Repository;
use serde_json::{Value, json};

use super::world::{World, commit_file, init, refs};

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

fn published() -> Vec<Attack> {
    vec![
        attack(
            "CVE-2025-68144: an option as the target of a diff",
            nothing,
            vec![("git_diff", json!({"target": "--output=../pwned"}), Refused("invalid_revision"))],
        ),
        attack(
            "CVE-2025-68144: an option as the branch of a checkout",
            nothing,
            vec![checkout("--orphan=x", Refused("invalid_branch_name"))],
        ),
        attack(
            "CVE-2025-68144 with a ref of that name",
            |world| {
                let id = world.tip("feature");
                write_git(world, "refs/heads/--output=pwned", &format!("{id}\n"));
            },
            vec![
                ("git_diff", json!({"target": "--output=pwned"}), Refused("invalid_revision")),
                checkout("--output=pwned", Refused("invalid_branch_name")),
                ("git_merge", json!({"source": "--output=pwned"}), Refused("invalid_revision")),
            ],
        ),
        attack(
            "CVE-2025-68145: a repository beside the one that is allowed",
            nothing,
            vec![("git_log", json!({"repo_path": "../outside"}), Refused("path_outside_root"))],
        ),
        attack(
            "CVE-2025-68145 through a link",
            |world| symlink("../outside", world.work().join("in")).unwrap(),
            vec![
                ("git_log", json!({"repo_path": "in"}), Refused("path_outside_root")),
                ("git_log", json!({"repo_path": "in/."}), Refused("path_outside_root")),
            ],
        ),
        attack(
            "CVE-2025-68143: a repository made where secrets are",
            nothing,
            vec![
                (
                    "git_worktree_add",
                    json!({"path": "../outside/tree", "branch_name": "x"}),
                    Refused("path_outside_root"),
                ),
                ("git_status", json!({"repo_path": "/etc"}), Refused("path_outside_root")),
            ],
        ),
        attack(
            "CVE-2026-27735: staging of files outside",
            nothing,
            vec![
                ("git_add", json!({"files": ["../outside/secret.txt"]}), Refused("path_outside_root")),
                ("git_add", json!({"files": ["x/../../outside/secret.txt"]}), Refused("path_outside_root")),
            ],
        ),
        attack(
            "CVE-2026-27735 through a link",
            |world| symlink("../outside", world.work().join("o")).unwrap(),
            vec![("git_add", json!({"files": ["o/secret.txt"]}), Refused("beyond_symlink"))],
        ),
        attack(
            "CVE-2025-53107: a shell in a branch's name",
            nothing,
            vec![
                ("git_create_branch", json!({"branch_name": "x;touch${IFS}pwned"}), Contained),
                ("git_create_branch", json!({"branch_name": "$(touch pwned)"}), Refused("invalid_branch_name")),
                ("git_create_branch", json!({"branch_name": "`touch${IFS}pwned`"}), Contained),
            ],
        ),
        attack(
            "CVE-2025-53107: a shell in a message and a path",
            stage,
            vec![
                ("git_commit", json!({"message": "x\"; touch pwned; #$(touch pwned)`touch pwned`"}), Contained),
                ("git_add", json!({"files": ["x; touch pwned"]}), Refused("path_not_found")),
                ("git_blame", json!({"path": "$(touch pwned)"}), Contained),
            ],
        ),
        attack(
            "servers 604: the whole disk is a repository path",
            nothing,
            vec![
                ("git_status", json!({"repo_path": "/"}), Refused("path_outside_root")),
                ("git_status", json!({"repo_path": "~"}), Refused("not_a_repository")),
            ],
        ),
        attack(
            "servers 3545: options as times and filters",
            nothing,
            vec![
                ("git_log", json!({"start_timestamp": "--output=pwned"}), Refused("invalid_timestamp")),
                ("git_log", json!({"end_timestamp": "-1"}), Refused("invalid_timestamp")),
                ("git_branch", json!({"contains": "--format=x"}), Refused("invalid_revision")),
                ("git_branch", json!({"not_contains": "-d"}), Refused("invalid_revision")),
                ("git_show", json!({"revision": "--textconv"}), Refused("invalid_revision")),
            ],
        ),
        attack(
            "a worktree whose `.git` was turned to another repository",
            |world| {
                let folder = worktree(world, "x");
                fs::write(folder.join(".git"), format!("gitdir: {}\n", world.path("outside/.git").display())).unwrap();
            },
            vec![("git_status", json!({"repo_path": "tree"}), Refused("path_outside_root"))],
        ),
        attack(
            "a message that is a trailer of somebody else",
            stage,
            vec![
                ("git_commit", json!({"message": "x\n\nAgent: human"}), Refused("reserved_trailer")),
                ("git_commit", json!({"message": "x", "author": "human"}), Refused("invalid_arguments")),
                ("git_commit", json!({"message": "x", "no_verify": true}), Refused("invalid_arguments")),
            ],
        ),
    ]
}

fn names_of_branches() -> Vec<Attack> {
    let create = |name: &str, code| ("git_create_branch", json!({"branch_name": name}), Refused(code));
    vec![
        attack(
            "full names",
            nothing,
            vec![
                create("refs/heads/main", "invalid_branch_name"),
                create("heads/main", "invalid_branch_name"),
                push("refs/heads/main", Refused("invalid_branch_name")),
            ],
        ),
        attack(
            "refspecs",
            |world| drop(remote(world)),
            vec![
                push("feature:main", Refused("invalid_branch_name")),
                push("+main", Contained),
                push(":main", Refused("invalid_branch_name")),
                push("refs/*:refs/*", Refused("invalid_branch_name")),
                push("*", Refused("invalid_branch_name")),
            ],
        ),
        attack(
            "the log of HEAD",
            |world| {
                world.git(&["checkout", "-q", "main"]);
                world.git(&["checkout", "-q", "feature"]);
                stage(world);
            },
            vec![
                checkout("@{-1}", Refused("invalid_branch_name")),
                checkout("-", Refused("invalid_branch_name")),
                ("git_delete_branch", json!({"branch_name": "@{-1}", "force": true}), Refused("invalid_branch_name")),
                ("git_merge", json!({"source": "@{-1}"}), Refused("invalid_revision")),
                push("@{-1}", Refused("invalid_branch_name")),
            ],
        ),
        attack(
            "case",
            nothing,
            vec![
                create("MAIN", "protected_branch"),
                create("Release/2", "protected_branch"),
                push("Main", Refused("protected_branch")),
            ],
        ),
        attack(
            "Unicode",
            nothing,
            vec![
                create("ｍａｉｎ", "protected_branch"),
                create("ma\u{200d}in", "invalid_branch_name"),
                create("maın", "invalid_branch_name_or_fine"),
                create("pro\u{ad}duction", "invalid_branch_name"),
                create("ⓜain", "protected_branch"),
            ],
        ),
        attack(
            "below and above a protected branch",
            nothing,
            vec![
                create("main/x", "protected_branch"),
                create("release", "protected_branch"),
                create("production/hotfix", "protected_branch"),
            ],
        ),
        attack(
            "names of git's own",
            nothing,
            vec![
                create("HEAD", "invalid_branch_name"),
                create("FETCH_HEAD", "invalid_branch_name"),
                create("MERGE_HEAD", "invalid_branch_name"),
                create("ORIG_HEAD", "invalid_branch_name"),
                create("@", "invalid_branch_name"),
            ],
        ),
        attack(
            "names that are options",
            nothing,
            vec![
                create("-d", "invalid_branch_name"),
                create("--force", "invalid_branch_name"),
                create("-", "invalid_branch_name"),
            ],
        ),
        attack(
            "names that are ids",
            nothing,
            vec![create("0123456789012345678901234567890123456789", "invalid_branch_name")],
        ),
        attack(
            "names that leave their folder",
            nothing,
            vec![
                create("../../HEAD", "invalid_branch_name"),
                create("a/../../main", "invalid_branch_name"),
                create(".git", "invalid_branch_name"),
                create("x.lock", "invalid_branch_name"),
                create("a//b", "invalid_branch_name"),
                create("a\\b", "invalid_branch_name"),
            ],
        ),
        attack(
            "a branch that reads as HEAD",
            |world| {
                let main = world.tip("main");
                write_git(world, "refs/heads/HEAD", &format!("{main}\n"));
                stage(world);
            },
            vec![
                checkout("HEAD", Refused("invalid_branch_name")),
                ("git_delete_branch", json!({"branch_name": "HEAD", "force": true}), Refused("invalid_branch_name")),
            ],
        ),
        attack(
            "a tag of a protected branch's name",
            |world| {
                let second = commit_file(&world.repository(), "b", "b\n", "b").to_string();
                world.git(&["tag", "main", &second]);
                world.git(&["tag", "release/1.2", &second]);
            },
            vec![
                checkout("main", Contained),
                commit(Contained),
                ("git_merge", json!({"source": "tags/main"}), Refused("protected_branch")),
            ],
        ),
        attack(
            "a remote branch of a protected branch's name",
            |world| {
                let second = commit_file(&world.repository(), "b", "b\n", "b");
                world.repository().reference("refs/remotes/origin/main", second, true, "").unwrap();
                world.repository().reference("refs/remotes/main", second, true, "").unwrap();
            },
            vec![
                checkout("origin/main", Refused("unknown_branch")),
                ("git_create_branch", json!({"branch_name": "remotes/origin/x"}), Refused("invalid_branch_name")),
            ],
        ),
    ]
}

fn heads_and_refs() -> Vec<Attack> {
    fn symbolic(world: &World, name: &str, target: &str) {
        write_git(world, &format!("refs/heads/{name}"), &format!("ref: {target}\n"));
    }
    vec![
        attack(
            "HEAD at a protected branch",
            |world| head(world, "ref: refs/heads/main\n"),
            vec![
                commit(Refused("protected_branch")),
                ("git_merge", json!({"source": "feature", "mode": "no_ff"}), Refused("protected_branch")),
                ("git_pull", json!({}), Contained),
            ],
        ),
        attack(
            "HEAD through a symbolic ref",
            |world| {
                symbolic(world, "alias", "refs/heads/main");
                head(world, "ref: refs/heads/alias\n");
            },
            vec![commit(Refused("protected_branch"))],
        ),
        attack(
            "HEAD through two",
            |world| {
                symbolic(world, "a", "refs/heads/b");
                symbolic(world, "b", "refs/heads/release/1.2");
                head(world, "ref: refs/heads/a\n");
            },
            vec![commit(Refused("protected_branch"))],
        ),
        attack(
            "checkout of a symbolic ref, then commit",
            |world| {
                symbolic(world, "alias", "refs/heads/production");
                stage(world);
            },
            vec![checkout("alias", Contained), commit(Refused("protected_branch"))],
        ),
        attack(
            "a push by a symbolic ref",
            |world| {
                remote(world);
                symbolic(world, "alias", "refs/heads/main");
                write_git(world, "HEAD", "ref: refs/heads/alias\n");
            },
            vec![("git_push", json!({}), Refused("protected_branch")), push("alias", Contained)],
        ),
        attack(
            "deletion by a symbolic ref",
            |world| symbolic(world, "alias", "refs/heads/main"),
            vec![
                ("git_delete_branch", json!({"branch_name": "alias", "force": true}), Contained),
                ("git_delete_branch", json!({"branch_name": "main", "force": true}), Refused("protected_branch")),
            ],
        ),
        attack(
            "a symbolic ref to a remote branch and to HEAD",
            |world| {
                symbolic(world, "a", "HEAD");
                symbolic(world, "b", "refs/remotes/origin/x");
                stage(world);
            },
            vec![checkout("a", Contained), checkout("b", Contained), commit(Contained)],
        ),
        attack(
            "symbolic refs in a circle",
            |world| {
                symbolic(world, "a", "refs/heads/b");
                symbolic(world, "b", "refs/heads/a");
                head(world, "ref: refs/heads/a\n");
            },
            vec![commit(Refused("unsupported_head")), ("git_status", json!({}), Contained)],
        ),
        attack("HEAD with dots", |world| head(world, "ref: refs/heads/x/../main\n"), vec![commit(Contained)]),
        attack("HEAD with a slash too many", |world| head(world, "ref: refs/heads//main\n"), vec![commit(Contained)]),
        attack(
            "HEAD outside of refs",
            |world| head(world, "ref: ../../outside/.git/refs/heads/main\n"),
            vec![commit(Contained)],
        ),
        attack(
            "HEAD in upper case",
            |world| head(world, "ref: refs/heads/MAIN\n"),
            vec![commit(Refused("protected_branch"))],
        ),
        attack(
            "HEAD at a tag",
            |world| {
                world.git(&["tag", "t"]);
                head(world, "ref: refs/tags/t\n");
            },
            vec![commit(Refused("unsupported_head"))],
        ),
        attack(
            "HEAD detached",
            |world| {
                let id = world.tip("main");
                head(world, &format!("{id}\n"));
            },
            vec![commit(Refused("detached_head")), ("git_push", json!({}), Refused("detached_head"))],
        ),
        attack(
            "HEAD a link to the branch's file",
            |world| {
                stage(world);
                fs::remove_file(dot_git(world).join("HEAD")).unwrap();
                symlink("refs/heads/main", dot_git(world).join("HEAD")).unwrap();
            },
            vec![commit(Refused("not_a_repository"))],
        ),
        attack(
            "HEAD at a protected branch that is not born",
            |world| head(world, "ref: refs/heads/release/9\n"),
            vec![commit(Refused("protected_branch"))],
        ),
        attack("HEAD that is no ref", |world| head(world, "nonsense\n"), vec![commit(Contained)]),
        attack(
            "a branch's file that is a link to another's",
            |world| {
                symlink("main", dot_git(world).join("refs/heads/sneaky")).unwrap();
                head(world, "ref: refs/heads/sneaky\n");
            },
            vec![commit(Refused("linked_branch"))],
        ),
        attack(
            "a folder of branches that is a link",
            |world| {
                symlink("release", dot_git(world).join("refs/heads/rel")).unwrap();
                stage(world);
            },
            vec![
                ("git_create_branch", json!({"branch_name": "rel/9"}), Refused("linked_branch")),
                checkout("rel/1.2", Refused("linked_branch")),
            ],
        ),
        attack(
            "protected branches in packed-refs alone",
            |world| {
                world.git(&["pack-refs", "--all"]);
                world.git(&["checkout", "-q", "main"]);
                stage(world);
            },
            vec![
                commit(Refused("protected_branch")),
                ("git_create_branch", json!({"branch_name": "main"}), Refused("protected_branch")),
                ("git_delete_branch", json!({"branch_name": "production", "force": true}), Refused("protected_branch")),
                ("git_create_branch", json!({"branch_name": "feature/x"}), Refused("branch_in_the_way")),
            ],
        ),
        attack(
            "packed-refs with two lines of one branch",
            |world| {
                world.git(&["pack-refs", "--all"]);
                let path = dot_git(world).join("packed-refs");
                let text = fs::read_to_string(&path).unwrap();
                let line = text.lines().find(|line| line.ends_with("refs/heads/feature")).unwrap();
                fs::write(&path, format!("{text}{line}\n")).unwrap();
                stage(world);
            },
            vec![commit(Contained)],
        ),
        attack(
            "a lock that somebody left on a protected branch",
            |world| {
                write_git(world, "refs/heads/main.lock", "");
                stage(world);
            },
            vec![commit(Contained), ("git_delete_branch", json!({"branch_name": "main"}), Refused("protected_branch"))],
        ),
        attack(
            "locks announced that are not Tollgate's",
            |world| {
                write_git(world, "tollgate-change", "[\"refs/heads/main\",\"../../outside/secret.txt\",\"config\"]");
                stage(world);
            },
            vec![commit(Contained)],
        ),
        attack(
            "an interrupted switch that never was",
            |world| {
                let id = world.tip("feature");
                write_git(
                    world,
                    "tollgate-switch",
                    &json!({"from": id, "to": id, "target": "refs/heads/main"}).to_string(),
                );
                stage(world);
            },
            vec![commit(Contained), ("git_status", json!({}), Contained)],
        ),
        attack(
            "a rebase whose branch is main",
            |world| {
                write_git(world, "rebase-merge/head-name", "refs/heads/main\n");
                write_git(world, "rebase-merge/onto", &world.tip("feature"));
                stage(world);
            },
            vec![commit(Refused("operation_in_progress")), checkout("main", Refused("operation_in_progress"))],
        ),
        attack(
            "a merge of what nobody has",
            |world| {
                write_git(world, "MERGE_HEAD", "0123456789012345678901234567890123456789\n");
                stage(world);
            },
            vec![commit(Contained), ("git_merge", json!({"abort": true}), Contained)],
        ),
        attack(
            "replaced commits",
            |world| {
                let second = commit_file(&world.repository(), "b", "b\n", "b").to_string();
                world.git(&["replace", "-f", &world.tip("main"), &second]);
                stage(world);
            },
            vec![
                checkout("main", Contained),
                ("git_merge_preview", json!({"source": "main"}), Contained),
                commit(Refused("protected_branch")),
            ],
        ),
        attack(
            "grafts",
            |world| {
                let second = commit_file(&world.repository(), "b", "b\n", "b").to_string();
                write_git(world, "info/grafts", &format!("{} {second}\n", world.tip("main")));
            },
            vec![("git_log", json!({}), Refused("not_a_repository")), push("feature", Refused("not_a_repository"))],
        ),
        attack(
            "a shallow edge that is none",
            |world| {
                remote(world);
                write_git(world, "shallow", &format!("{}\n", world.tip("feature")));
            },
            vec![
                push("feature", Refused("not_fast_forward")),
                ("git_merge", json!({"source": "main"}), Contained),
                ("git_log", json!({}), Contained),
            ],
        ),
    ]
}

fn layouts() -> Vec<Attack> {
    vec![
        attack(
            "core.worktree outside",
            |world| {
                configure(world, &format!("[core]\n\tworktree = {}", world.path("outside").display()));
            },
            vec![
                ("git_status", json!({}), Refused("path_outside_root")),
                ("git_add", json!({"files": ["."]}), Refused("path_outside_root")),
            ],
        ),
        attack(
            "core.worktree at another repository inside",
            |world| {
                init(&world.work().join("inner"));
                configure(world, &format!("[core]\n\tworktree = {}", world.work().join("inner").display()));
            },
            vec![("git_status", json!({}), Refused("path_outside_root"))],
        ),
        attack(
            "a `.git` file that leads outside",
            |world| {
                world.file("sub/.git", &format!("gitdir: {}\n", world.path("outside/.git").display()));
            },
            vec![("git_status", json!({"repo_path": "sub"}), Refused("path_outside_root"))],
        ),
        attack(
            "a `.git` link that leads outside",
            |world| {
                fs::create_dir(world.work().join("sub")).unwrap();
                symlink(world.path("outside/.git"), world.work().join("sub/.git")).unwrap();
            },
            vec![("git_log", json!({"repo_path": "sub"}), Refused("path_outside_root"))],
        ),
        attack(
            "commondir outside",
            |world| write_git(world, "commondir", "../../outside/.git\n"),
            vec![("git_log", json!({}), Refused("path_outside_root"))],
        ),
        attack(
            "alternates outside",
            |world| {
                write_git(
                    world,
                    "objects/info/alternates",
                    &format!("{}\n", world.path("outside/.git/objects").display()),
                );
            },
            vec![("git_log", json!({}), Refused("path_outside_root"))],
        ),
        attack(
            "alternates by a relative path",
            |world| {
                write_git(world, "objects/info/alternates", "../../../outside/.git/objects\n");
            },
            vec![("git_log", json!({}), Refused("path_outside_root"))],
        ),
        attack(
            "objects of a link",
            |world| {
                fs::rename(dot_git(world).join("objects"), world.path("objects")).unwrap();
                symlink(world.path("objects"), dot_git(world).join("objects")).unwrap();
            },
            vec![("git_log", json!({}), Refused("path_outside_root"))],
        ),
        attack(
            "a folder of objects that is a link",
            |world| {
                symlink(world.path("outside"), dot_git(world).join("objects/zz")).unwrap();
            },
            vec![("git_log", json!({}), Refused("path_outside_root"))],
        ),
        attack(
            "a configuration outside",
            |world| {
                fs::write(world.path("evil.config"), "[user]\nname = evil\n").unwrap();
                configure(world, "[include]\n\tpath = ../../evil.config");
            },
            vec![("git_log", json!({}), Refused("path_outside_root"))],
        ),
        attack(
            "ignore and attribute files outside",
            |world| {
                fs::write(world.path("evil"), "x\n").unwrap();
                configure(world, "[core]\n\texcludesFile = ../../evil\n\tattributesFile = ../../evil");
            },
            vec![("git_status", json!({}), Refused("path_outside_root"))],
        ),
        attack(
            "a worktree that is registered as somebody else's folder",
            |world| {
                write_git(world, "worktrees/w/gitdir", &format!("{}/.git\n", world.path("outside").display()));
                write_git(world, "worktrees/w/commondir", "../..\n");
                write_git(world, "worktrees/w/HEAD", "ref: refs/heads/x\n");
            },
            vec![("git_worktree_remove", json!({"name": "w"}), Contained)],
        ),
        attack(
            "a worktree whose HEAD is turned to main",
            |world| {
                let folder = worktree(world, "x");
                fs::write(dot_git(world).join("worktrees/tree/HEAD"), "ref: refs/heads/main\n").unwrap();
                fs::write(folder.join("new.txt"), "new\n").unwrap();
            },
            vec![
                ("git_add", json!({"repo_path": "tree", "files": ["new.txt"]}), Contained),
                ("git_commit", json!({"repo_path": "tree", "message": "x"}), Refused("protected_branch")),
            ],
        ),
        attack(
            "a worktree in git's own folder",
            nothing,
            vec![
                ("git_worktree_add", json!({"path": ".git/hooks/x", "branch_name": "x"}), Contained),
                ("git_worktree_add", json!({"path": "x/.GIT", "branch_name": "x"}), Contained),
            ],
        ),
        attack(
            "a bare repository in a subfolder",
            |world| {
                world.git(&["init", "-q", "--bare", "sub/bare"]);
                let program = program(world);
                let path = world.work().join("sub/bare/config");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(&path, format!("{text}[core]\n\tfsmonitor = {program}\n\tworktree = ../..\n")).unwrap();
            },
            vec![
                ("git_status", json!({"repo_path": "sub/bare"}), Contained),
                ("git_add", json!({"files": ["."]}), Contained),
            ],
        ),
        attack(
            "a format that is not known",
            |world| {
                configure(world, "[core]\n\trepositoryformatversion = 99");
            },
            vec![("git_status", json!({}), Contained), commit(Contained)],
        ),
        attack(
            "an extension that is not known",
            |world| {
                configure(world, "[core]\n\trepositoryformatversion = 1\n[extensions]\n\trefStorage = reftable");
                stage_without_git(world);
            },
            vec![("git_status", json!({}), Contained), commit(Contained)],
        ),
        attack(
            "objects that a promisor would have to bring",
            |world| {
                let program = program(world);
                configure(
                    world,
                    &format!(
                        "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tpartialClone = origin\n[remote \"origin\"]\n\turl = ext::{program}\n\tpromisor = true"
                    ),
                );
            },
            vec![
                ("git_show", json!({"revision": "0123456789012345678901234567890123456789"}), Contained),
                ("git_fetch", json!({}), Contained),
            ],
        ),
        attack(
            "the root ignore file is a link outside",
            |world| {
                fs::write(world.path("patterns"), "x\n").unwrap();
                symlink("../patterns", world.work().join(".gitignore")).unwrap();
            },
            vec![("git_status", json!({}), Refused("path_outside_root"))],
        ),
    ]
}

/// As [`stage`], in a repository that git itself does not open.
fn stage_without_git(world: &World) {
    world.file("staged.txt", "staged\n");
}

fn programs() -> Vec<Attack> {
    macro_rules! configured {
        ($name:literal, $($line:literal),+) => {
            attack($name, |world| {
                let program = program(world);
                world.file(".gitattributes", "* filter=x diff=x merge=x\n");
                configure(world, &concat!($($line, "\n"),+).replace("PROGRAM", &program));
                world.file("README.md", "changed\n");
            }, daily())
        };
    }
    vec![
        configured!("fsmonitor", "[core]", "fsmonitor = PROGRAM"),
        configured!("filters", "[filter \"x\"]", "clean = PROGRAM", "smudge = PROGRAM"),
        configured!("a filter process", "[filter \"x\"]", "process = PROGRAM"),
        configured!("textconv", "[diff \"x\"]", "textconv = PROGRAM", "cachetextconv = true"),
        configured!("an external diff", "[diff]", "external = PROGRAM", "[diff \"x\"]", "command = PROGRAM"),
        configured!("a merge driver", "[merge \"x\"]", "driver = PROGRAM"),
        configured!("a program that signs", "[commit]", "gpgsign = true", "[gpg]", "program = PROGRAM"),
        configured!(
            "pager, editor and aliases",
            "[core]",
            "pager = PROGRAM",
            "editor = PROGRAM",
            "[alias]",
            "status = !PROGRAM"
        ),
        configured!("trailers by a program", "[trailer \"Agent\"]", "command = PROGRAM", "cmd = PROGRAM"),
        attack(
            "hooks in their folder",
            |world| {
                let source = program(world);
                for hook in [
                    "pre-commit",
                    "commit-msg",
                    "post-commit",
                    "post-checkout",
                    "reference-transaction",
                    "post-index-change",
                    "pre-merge-commit",
                ] {
                    fs::create_dir_all(dot_git(world).join("hooks")).unwrap();
                    fs::copy(&source, dot_git(world).join("hooks").join(hook)).unwrap();
                }
                world.file("README.md", "changed\n");
            },
            daily(),
        ),
        attack(
            "hooks in a folder of the working tree",
            |world| {
                let source = program(world);
                fs::create_dir_all(world.work().join("hooks")).unwrap();
                fs::copy(&source, world.work().join("hooks/pre-commit")).unwrap();
                configure(world, "[core]\n\thooksPath = hooks");
            },
            daily(),
        ),
        attack(
            "a remote by a program",
            |world| {
                let program = program(world);
                configure(
                    world,
                    &format!(
                        "[remote \"origin\"]\n\turl = ext::{program}\n\tuploadpack = {program}\n[core]\n\tsshCommand = {program}"
                    ),
                );
            },
            vec![("git_fetch", json!({}), Contained), push("feature", Contained), ("git_pull", json!({}), Contained)],
        ),
        attack(
            "hooks of the remote",
            |world| {
                let bare = remote(world);
                let source = program(world);
                for hook in ["pre-receive", "update", "post-receive", "post-update"] {
                    fs::create_dir_all(bare.path().join("hooks")).unwrap();
                    fs::copy(&source, bare.path().join("hooks").join(hook)).unwrap();
                }
            },
            vec![push("feature", Contained)],
        ),
    ]
}

fn indexes_and_trees() -> Vec<Attack> {
    macro_rules! index {
        ($name:literal, $path:literal) => {
            attack(
                $name,
                |world| hostile_index(world, $path),
                vec![
                    ("git_status", json!({}), Contained),
                    commit(Contained),
                    ("git_reset", json!({}), Contained),
                    checkout("main", Contained),
                ],
            )
        };
    }
    macro_rules! tree {
        ($name:literal, $path:literal, $mode:literal) => {
            attack($name, |world| hostile_tree(world, $path, $mode), vec![
                checkout("hostile", Refused("unsafe_path")),
                ("git_merge", json!({"source": "hostile", "mode": "no_ff"}), Contained),
                ("git_worktree_add", json!({"path": "tree", "branch_name": "hostile"}), Contained),
            ])
        };
    }
    vec![
        index!("an index with `..`", "../outside/evil.txt"),
        index!("an index with an absolute path", "/tmp/evil.txt"),
        index!("an index with `.git`", ".git/hooks/pre-commit"),
        index!("an index with `.GIT`", ".GIT/config"),
        index!("an index with `git~1`", "git~1/config"),
        index!("an index with an empty name", "a//b"),
        attack(
            "an index with a file below a link",
            |world| {
                symlink("../outside", world.work().join("l")).unwrap();
                hostile_index(world, "l/secret.txt");
            },
            vec![
                ("git_diff", json!({}), Contained),
                ("git_add", json!({"files": ["l/secret.txt"]}), Contained),
                ("git_add", json!({"files": ["."]}), Contained),
                commit(Contained),
                checkout("main", Contained),
            ],
        ),
        attack(
            "an index that is cut short",
            |world| {
                stage(world);
                let path = dot_git(world).join("index");
                let bytes = fs::read(&path).unwrap();
                fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            },
            vec![commit(Contained), ("git_status", json!({}), Contained)],
        ),
        attack(
            "an index that claims four thousand million files",
            |world| {
                let mut bytes = fs::read(dot_git(world).join("index")).unwrap();
                bytes[8..12].copy_from_slice(&[0xff; 4]);
                fs::write(dot_git(world).join("index"), bytes).unwrap();
            },
            vec![commit(Contained), ("git_status", json!({}), Contained)],
        ),
        tree!("a tree with `.git`", ".git", "40000"),
        tree!("a tree with `.GiT`", ".GiT", "40000"),
        tree!("a tree with `..`", "..", "40000"),
        tree!("a tree with `git~1` (NTFS)", "git~1", "40000"),
        tree!("a tree with `.g\u{200c}it` (HFS+)", ".g\u{200c}it", "40000"),
        tree!("a tree with `.git ` (NTFS)", ".git ", "40000"),
        tree!("a tree with a stream (NTFS)", ".git::$INDEX_ALLOCATION", "40000"),
        tree!("a tree with a backslash (NTFS)", "a\\.git\\config", "100644"),
        tree!("a tree with `.gitmodules` as a link", ".gitmodules", "120000"),
        tree!("a tree with `.gitattributes` as a link", ".gitattributes", "120000"),
        tree!("a tree with `.gitignore` as a link", ".gitignore", "120000"),
        attack(
            "a submodule whose address is an option",
            |world| {
                world.file(
                    ".gitmodules",
                    "[submodule \"../../hooks\"]\n\tpath = s\n\turl = --upload-pack=touch pwned\n",
                );
                world.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{},s", world.tip("main"))]);
            },
            daily(),
        ),
        attack(
            "a submodule that is a link outside",
            |world| {
                symlink("../outside", world.work().join("s")).unwrap();
                world.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{},s", world.tip("main"))]);
                world.file(".gitmodules", "[submodule \"s\"]\n\tpath = s\n\turl = ../outside\n");
            },
            vec![
                ("git_status", json!({}), Contained),
                ("git_add", json!({"files": ["s/secret.txt"]}), Refused("beyond_symlink")),
                ("git_add", json!({"files": ["."]}), Contained),
                ("git_diff", json!({}), Contained),
            ],
        ),
        attack(
            "attributes that name each other without end",
            |world| {
                world.file(
                    ".gitattributes",
                    "[attr]a b\n[attr]b a\n* a working-tree-encoding=UTF-16 ident export-subst\n",
                );
            },
            daily(),
        ),
        attack(
            "a sparse index",
            |world| {
                world.file("a/b/c.txt", "c\n");
                world.git(&["add", "a"]);
                world.git(&["commit", "-qm", "a"]);
                world.git(&["sparse-checkout", "init", "--cone", "--sparse-index"]);
            },
            vec![
                ("git_status", json!({}), Contained),
                ("git_add", json!({"files": ["."]}), Contained),
                commit(Contained),
            ],
        ),
        attack(
            "an index in two parts",
            |world| {
                stage(world);
                world.git(&["update-index", "--split-index"]);
            },
            vec![("git_status", json!({}), Contained), commit(Contained), ("git_reset", json!({}), Contained)],
        ),
    ]
}

fn remotes() -> Vec<Attack> {
    vec![
        attack(
            "a push of a protected branch",
            |world| drop(remote(world)),
            vec![
                push("main", Refused("protected_branch")),
                ("git_push", json!({"branch": "main", "force_with_lease": true}), Refused("protected_branch")),
            ],
        ),
        attack(
            "an upstream that is main",
            |world| {
                remote_with(
                    world,
                    "[branch \"feature\"]\n\tremote = origin\n\tmerge = refs/heads/main\n[push]\n\tdefault = upstream",
                );
            },
            vec![("git_push", json!({}), Contained)],
        ),
        attack(
            "a push refspec to main",
            |world| {
                remote_with(world, "[remote \"origin\"]\n\tpush = refs/heads/feature:refs/heads/main\n\tmirror = true");
            },
            vec![push("feature", Contained)],
        ),
        attack(
            "a fetch refspec onto branches",
            |world| {
                let bare = remote(world);
                commit_to(&bare, "main");
                configure(world, "[remote \"origin\"]\n\tfetch = +refs/heads/*:refs/heads/*\n\tprune = true");
            },
            vec![("git_fetch", json!({"prune": true}), Contained), ("git_fetch", json!({"branch": "main"}), Contained)],
        ),
        attack(
            "a remote whose feature is another name for main",
            |world| {
                let bare = remote(world);
                fs::write(bare.path().join("refs/heads/feature"), "ref: refs/heads/main\n").unwrap();
            },
            vec![push("feature", Refused("symbolic_branch"))],
        ),
        attack(
            "a remote whose feature is a link to main",
            |world| {
                let bare = remote(world);
                let heads = bare.path().join("refs/heads");
                fs::write(heads.join("main"), format!("{}\n", world.tip("main"))).unwrap();
                let _ = fs::remove_file(heads.join("feature"));
                symlink("main", heads.join("feature")).unwrap();
            },
            vec![push("feature", Refused("linked_branch"))],
        ),
        attack(
            "a remote outside",
            |world| configure(world, "[remote \"origin\"]\n\turl = ../outside"),
            vec![("git_fetch", json!({}), Refused("path_outside_root")), push("feature", Refused("path_outside_root"))],
        ),
        attack(
            "a remote through a link",
            |world| {
                symlink("../outside", world.work().join("o")).unwrap();
                configure(world, "[remote \"origin\"]\n\turl = ./o");
            },
            vec![("git_fetch", json!({}), Refused("path_outside_root"))],
        ),
        attack(
            "another address for the same remote",
            |world| {
                remote_with(
                    world,
                    &format!(
                        "[url \"{}\"]\n\tinsteadOf = ./remote.git\n\tpushInsteadOf = ./remote.git\n[remote \"origin\"]\n\tpushurl = {}",
                        world.path("outside").display(),
                        world.path("outside").display()
                    ),
                );
            },
            vec![push("feature", Contained)],
        ),
        attack(
            "names of remotes that leave their folder",
            |world| drop(remote(world)),
            vec![
                ("git_fetch", json!({"remote": "../../x"}), Refused("invalid_branch_name")),
                ("git_fetch", json!({"remote": "--upload-pack=x"}), Refused("invalid_branch_name")),
                ("git_fetch", json!({"remote": "./remote.git"}), Refused("invalid_branch_name")),
                ("git_fetch", json!({"remote": "/etc"}), Refused("invalid_branch_name")),
            ],
        ),
        attack(
            "a remote that is this repository",
            |world| configure(world, "[remote \"origin\"]\n\turl = ./.git"),
            vec![push("main", Refused("protected_branch")), ("git_fetch", json!({}), Contained)],
        ),
        attack(
            "a remote that has the branch checked out",
            |world| {
                world.git(&["clone", "-q", ".", "other"]);
                configure(world, "[remote \"origin\"]\n\turl = ./other");
                write_git(world, "info/exclude", "other\n.tollgate\n");
                commit_file(&world.repository(), "more.txt", "more\n", "more");
                fs::write(world.work().join("other/.git/HEAD"), "ref: refs/heads/feature\n").unwrap();
            },
            vec![push("feature", Refused("branch_checked_out"))],
        ),
        attack(
            "a forced push over what nobody has seen",
            |world| {
                let bare = remote(world);
                commit_to(&bare, "feature");
            },
            vec![
                push("feature", Refused("not_fast_forward")),
                ("git_push", json!({"branch": "feature", "force_with_lease": true}), Refused("not_fast_forward")),
            ],
        ),
        attack(
            "a remote with main in upper case",
            |world| {
                let bare = remote(world);
                let id = world.tip("main").parse().unwrap();
                bare.reference("refs/heads/MAIN", id, true, "").unwrap();
                world.repository().reference("refs/heads/MAIN", id, true, "").unwrap();
            },
            vec![push("MAIN", Refused("protected_branch"))],
        ),
        attack(
            "a password in the address",
            |world| {
                configure(world, "[remote \"origin\"]\n\turl = https://user:hunter2@127.0.0.1:1/x.git");
            },
            vec![("git_fetch", json!({}), Contained), push("feature", Contained)],
        ),
    ]
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
    let all =
        [published(), names_of_branches(), heads_and_refs(), layouts(), programs(), indexes_and_trees(), remotes()];
    let names: std::collections::BTreeSet<_> = all.iter().flatten().map(|attack| attack.name).collect();
    println!("{} attacks, {} calls", names.len(), all.iter().flatten().map(|attack| attack.calls.len()).sum::<usize>());
    assert!(names.len() >= 80, "{}", names.len());
    assert_eq!(names.len(), all.iter().flatten().count());
}

macro_rules! tables {
    ($($name:ident = $table:ident;)+) => {
        $(#[tokio::test]
        async fn $name() {
            check($table()).await;
        })+
    };
}

tables! {
    published_vulnerabilities_are_none_here = published;
    names_that_mean_a_protected_branch_do_not_reach_it = names_of_branches;
    heads_and_refs_that_lead_astray_are_seen_through = heads_and_refs;
    repositories_that_lead_outside_are_refused = layouts;
    programs_that_a_repository_names_are_not_run = programs;
    hostile_indexes_and_trees_do_no_harm = indexes_and_trees;
    remotes_cannot_be_turned_against_a_protected_branch = remotes;
}
