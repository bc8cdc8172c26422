//! Indexes and trees that git itself would not make.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::{Attack, Contained, Refused, attack, checkout, commit, daily, dot_git, hostile_index, hostile_tree, stage};

pub(super) fn indexes_and_trees() -> Vec<Attack> {
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
