//! Names that mean a protected branch.

use serde_json::json;

use super::{Attack, Contained, Refused, attack, checkout, commit, nothing, push, remote, stage, write_git};
use crate::git::world::commit_file;

pub(super) fn names_of_branches() -> Vec<Attack> {
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
                create("maın", "protected_branch"),
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
