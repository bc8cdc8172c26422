//! Programs that a repository names.

use std::fs;

use serde_json::json;

use super::{Attack, Contained, attack, configure, daily, dot_git, program, push, remote};

pub(super) fn programs() -> Vec<Attack> {
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
