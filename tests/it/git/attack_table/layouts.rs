//! Repositories whose parts lie elsewhere.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::{
    Attack, Contained, Refused, attack, commit, configure, dot_git, nothing, program, stage_without_git, worktree,
    write_git,
};
use crate::git::world::init;

pub(super) fn layouts() -> Vec<Attack> {
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
