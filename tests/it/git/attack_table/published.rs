//! Published vulnerabilities of git MCP servers.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::{Attack, Contained, Refused, attack, checkout, nothing, stage, worktree, write_git};

pub(super) fn published() -> Vec<Attack> {
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
