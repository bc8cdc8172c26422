//! HEAD and refs that lead astray.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::{Attack, Contained, Refused, attack, checkout, commit, dot_git, head, push, remote, stage, write_git};
use crate::git::world::{World, commit_file};

pub(super) fn heads_and_refs() -> Vec<Attack> {
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
