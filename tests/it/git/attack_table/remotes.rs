//! Remotes turned against a protected branch.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::{Attack, Contained, Refused, attack, commit_to, configure, push, remote, remote_with, write_git};
use crate::git::world::commit_file;

pub(super) fn remotes() -> Vec<Attack> {
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
