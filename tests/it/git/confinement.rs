//! Repositories that lead out of the roots: nothing outside is read or written, whatever in them points there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::world::{World, commit_file, init};

/// What every tool says to the repository at `path`, and that it says so.
async fn refused_everywhere(world: &World, path: &str, code: &str) {
    let server = world.start();
    for (tool, mut arguments) in [
        ("git_status", json!({})),
        ("git_log", json!({})),
        ("git_diff", json!({})),
        ("git_add", json!({"files": ["."]})),
        ("git_commit", json!({"message": "x"})),
        ("git_create_branch", json!({"branch_name": "x"})),
        ("git_checkout", json!({"branch_name": "feature"})),
        ("git_diff_unstaged", json!({})),
        ("git_diff_staged", json!({})),
        ("git_show", json!({"revision": "HEAD"})),
        ("git_branch", json!({})),
        ("git_blame", json!({"path": "secret.txt"})),
        ("git_reset", json!({})),
        ("git_delete_branch", json!({"branch_name": "x", "force": true})),
        ("git_merge", json!({"source": "main"})),
        ("git_merge_preview", json!({"source": "main"})),
        ("git_worktree_add", json!({"path": "tree", "branch_name": "x"})),
        ("git_worktree_list", json!({})),
        ("git_worktree_remove", json!({"name": "x"})),
        ("git_fetch", json!({})),
        ("git_pull", json!({})),
        ("git_push", json!({})),
    ] {
        arguments["repo_path"] = json!(path);
        let error = server.refused(tool, arguments).await;
        assert_eq!(error["code"], code, "{tool}: {error}");
        assert!(!error.to_string().contains("secret\n"), "{error}");
    }
}

/// Everything below `folder`: names and contents.
fn snapshot(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path.clone());
            }
            found.push((path.display().to_string(), fs::read(&path).unwrap_or_default()));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn git_files_that_point_outside_are_refused() {
    let world = World::new();
    let outside = world.path("outside").join(".git");
    let before = snapshot(&world.path("outside"));
    for (name, content) in [
        ("absolute", format!("gitdir: {}\n", outside.display())),
        ("relative", "gitdir: ../../outside/.git\n".to_owned()),
        ("missing", "gitdir: /nonexistent/.git\n".to_owned()),
    ] {
        world.file(&format!("{name}/.git"), &content);
        refused_everywhere(&world, name, "path_outside_root").await;
    }
    for (name, content) in [("empty", ""), ("garbage", "gitdir:\n"), ("no", "hello\n")] {
        world.file(&format!("{name}/.git"), content);
        refused_everywhere(&world, name, "not_a_repository").await;
    }
    fs::create_dir(world.work().join("link")).unwrap();
    symlink(&outside, world.work().join("link/.git")).unwrap();
    refused_everywhere(&world, "link", "path_outside_root").await;
    symlink(world.path("outside"), world.work().join("folder")).unwrap();
    refused_everywhere(&world, "folder", "path_outside_root").await;
    assert_eq!(snapshot(&world.path("outside")), before);
}

#[tokio::test]
async fn git_directories_whose_parts_are_outside_are_refused() {
    let outside_git = |world: &World| world.path("outside").join(".git");
    type Spoil = fn(&Path, &Path);
    let replaced = |name: &'static str| -> Box<dyn Fn(&Path, &Path)> {
        Box::new(move |git, outside| {
            let path = git.join(name);
            if path.is_dir() {
                fs::remove_dir_all(&path).unwrap();
            } else {
                fs::remove_file(&path).ok();
            }
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(outside.join(name), path).unwrap();
        })
    };
    let spoilt: [(&str, Spoil); 4] = [
        ("alternates", |git, outside| {
            fs::create_dir_all(git.join("objects/info")).unwrap();
            fs::write(git.join("objects/info/alternates"), format!("# x\n{}\n", outside.join("objects").display()))
                .unwrap();
        }),
        ("alternates of alternates", |git, outside| {
            let second = git.join("second");
            fs::create_dir_all(second.join("info")).unwrap();
            fs::create_dir_all(git.join("objects/info")).unwrap();
            fs::write(git.join("objects/info/alternates"), format!("{}\n", second.display())).unwrap();
            fs::write(second.join("info/alternates"), format!("{}\n", outside.join("objects").display())).unwrap();
        }),
        ("a pack", |git, outside| {
            symlink(outside.join("x.pack"), git.join("objects/pack/pack-x.pack")).unwrap();
        }),
        ("commondir", |git, outside| {
            fs::write(git.join("commondir"), format!("{}\n", outside.display())).unwrap();
        }),
    ];
    let links = [
        "objects",
        "objects/pack",
        "objects/info",
        "refs",
        "refs/heads",
        "config",
        "packed-refs",
        "logs",
        "logs/refs/heads",
        "info",
        "info/exclude",
        "info/attributes",
        "config.worktree",
    ];
    let links = links.map(|name| (name, replaced(name), "path_outside_root"));
    let own = ["index", "HEAD", "logs/HEAD"].map(|name| (name, replaced(name), "not_a_repository"));
    let spoilt = spoilt.map(|(name, spoil)| -> (&str, Box<dyn Fn(&Path, &Path)>, &str) {
        (name, Box::new(spoil), "path_outside_root")
    });
    for (name, spoil, code) in links.into_iter().chain(own).chain(spoilt) {
        let world = World::new();
        let before = snapshot(&world.path("outside"));
        spoil(&world.work().join(".git"), &outside_git(&world));
        refused_everywhere(&world, ".", code).await;
        assert_eq!(snapshot(&world.path("outside")), before, "{name}");
    }
}

#[tokio::test]
async fn configuration_that_reads_files_outside_is_refused() {
    let world = World::new();
    let secret = world.path("outside.config");
    fs::write(&secret, "[user]\nname = outsider\n").unwrap();
    fs::write(world.work().join(".git/inner.config"), "[include]\npath = ../../outside.config\n").unwrap();
    let config = world.work().join(".git/config");
    let original = fs::read_to_string(&config).unwrap();
    for addition in [
        format!("[include]\n\tpath = {}\n", secret.display()),
        "[include]\n\tpath = ../../outside.config\n".to_owned(),
        "[INCLUDE] PATH=\"../../outside.config\"\n".to_owned(),
        "[includeIf \"gitdir:**\"]\n\tpath = ../../outside.config\n".to_owned(),
        "[include]\n\tpath = ~/.netrc\n".to_owned(),
        "[include]\n\tpath = inner.config\n".to_owned(),
        "[include]\n\tpath = ../../outside\\\n.config\n".to_owned(),
        format!("[core]\n\texcludesFile = {}\n", secret.display()),
        format!("[core]\n\tattributesFile = {}\n", secret.display()),
        format!("[core]\n\tworktree = {}\n", world.path("outside").display()),
    ] {
        fs::write(&config, format!("{original}{addition}")).unwrap();
        refused_everywhere(&world, ".", "path_outside_root").await;
    }
    fs::write(&config, format!("{original}[extensions]\nworktreeConfig = true\n")).unwrap();
    let of_worktree = world.work().join(".git/config.worktree");
    fs::write(&of_worktree, format!("[include]\npath = {}\n", secret.display())).unwrap();
    refused_everywhere(&world, ".", "path_outside_root").await;
    fs::remove_file(of_worktree).unwrap();

    // What is not there is not read, but where a link waits for its target somebody may make one.
    let missing = world.path("missing.config");
    let addition = format!("[include]\npath = {}\npath = missing.config\n", missing.display());
    fs::write(&config, format!("{original}{addition}")).unwrap();
    world.start().ok("git_status", json!({})).await;
    symlink(&missing, world.work().join(".git/missing.config")).unwrap();
    refused_everywhere(&world, ".", "path_outside_root").await;
    fs::remove_file(world.work().join(".git/missing.config")).unwrap();

    // Inside, it is followed.
    fs::write(&config, format!("{original}[include]\npath = ../shared.config\n")).unwrap();
    world.file("shared.config", "[user]\nname = Insider\n");
    let server = world.start();
    server.ok("git_add", json!({"files": ["shared.config"]})).await;
    server.ok("git_commit", json!({"message": "x"})).await;
    assert_eq!(server.ok("git_log", json!({"max_count": 1})).await["commits"][0]["author"], "Insider");
}

/// What was found harmless before is looked at again when it changes, whatever times files are given.
#[tokio::test]
async fn what_changes_after_it_was_checked_is_checked_again() {
    let secret = "[user]\nname = outsider\n";
    for spoil in ["config", "alternates", "pack"] {
        let world = World::new();
        fs::write(world.path("outside.config"), secret).unwrap();
        let git = world.work().join(".git");
        fs::create_dir_all(git.join("objects/info")).unwrap();
        tokio::time::sleep(Duration::from_millis(2100)).await;
        let server = world.start();
        for _ in 0..3 {
            server.ok("git_status", json!({})).await;
        }
        let config = git.join("config");
        let times = fs::metadata(&config).unwrap().modified().unwrap();
        match spoil {
            "config" => {
                let text = fs::read_to_string(&config).unwrap();
                fs::write(&config, format!("{text}[include]\npath = ../../outside.config\n")).unwrap();
                fs::File::options().write(true).open(&config).unwrap().set_modified(times).unwrap();
            }
            "alternates" => {
                let objects = world.path("outside/.git/objects");
                fs::write(git.join("objects/info/alternates"), format!("{}\n", objects.display())).unwrap();
            }
            _ => symlink(world.path("outside.config"), git.join("objects/pack/pack-x.pack")).unwrap(),
        }
        assert_eq!(server.refused("git_status", json!({})).await["code"], "path_outside_root", "{spoil}");
    }
}

#[tokio::test]
async fn root_files_of_the_working_tree_that_are_links_outside_are_refused() {
    for name in [".gitignore", ".gitattributes", ".gitmodules"] {
        let world = World::new();
        fs::write(world.path("patterns"), "secret-pattern\n").unwrap();
        symlink("../patterns", world.work().join(name)).unwrap();
        refused_everywhere(&world, ".", "path_outside_root").await;
    }
}

#[tokio::test]
async fn pipes_are_not_waited_for() {
    for name in [
        ".git",
        ".git/HEAD",
        ".git/index",
        ".git/config",
        ".git/info/exclude",
        ".git/packed-refs",
        ".gitignore",
        ".gitattributes",
    ] {
        let world = World::new();
        let path = world.work().join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        } else {
            fs::remove_file(&path).ok();
        }
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        if made.is_ok_and(|status| status.success()) {
            refused_everywhere(&world, ".", "not_a_repository").await;
        }
    }
}

#[tokio::test]
async fn linked_worktrees_are_used_when_all_of_them_is_inside() {
    let world = World::new();
    let repository = world.repository();
    let options = |name: &str| {
        let reference = repository.find_reference(&format!("refs/heads/{name}")).unwrap();
        (name.to_owned(), reference)
    };
    let (_, feature) = options("release/1.2");
    let mut add = git2::WorktreeAddOptions::new();
    repository.worktree("inner", &world.work().join("inner"), Some(add.reference(Some(&feature)))).unwrap();
    let (_, production) = options("production");
    let mut add = git2::WorktreeAddOptions::new();
    repository.worktree("far", &world.path("far"), Some(add.reference(Some(&production)))).unwrap();
    let server = world.start();
    assert_eq!(server.ok("git_status", json!({"repo_path": "inner"})).await["branch"], "release/1.2");
    world.file("inner/new.txt", "new\n");
    server.ok("git_add", json!({"repo_path": "inner", "files": ["new.txt"]})).await;
    // A protected branch is protected in every worktree.
    let before = world.refs();
    let error = server.refused("git_commit", json!({"repo_path": "inner", "message": "x"})).await;
    assert_eq!(error["code"], "protected_branch");
    assert_eq!(world.refs(), before);
    let error = server.refused("git_checkout", json!({"branch_name": "release/1.2"})).await;
    assert_eq!(error["code"], "branch_checked_out");
    server.ok("git_create_branch", json!({"repo_path": "inner", "branch_name": "topic"})).await;
    server.ok("git_checkout", json!({"repo_path": "inner", "branch_name": "topic"})).await;
    server.ok("git_commit", json!({"repo_path": "inner", "message": "x"})).await;
    assert_eq!(world.head(), "refs/heads/feature");
    assert!(!world.work().join("new.txt").exists());
    // Its files are outside.
    let error = server.refused("git_status", json!({"repo_path": world.path("far")})).await;
    assert_eq!(error["code"], "path_outside_root");
}

#[tokio::test]
async fn worktree_of_a_repository_outside_is_refused() {
    let world = World::new();
    let outside = git2::Repository::open(world.path("outside")).unwrap();
    outside.worktree("w", &world.work().join("w"), None).unwrap();
    refused_everywhere(&world, "w", "path_outside_root").await;
}

#[tokio::test]
async fn submodules_outside_are_not_looked_into() {
    let world = World::new();
    let repository = world.repository();
    let outside = git2::Repository::open(world.path("outside")).unwrap();
    let head = outside.head().unwrap().target().unwrap();
    world.file(".gitmodules", "[submodule \"s\"]\n\tpath = s\n\turl = ../outside\n");
    symlink(world.path("outside"), world.work().join("s")).unwrap();
    let mut index = repository.index().unwrap();
    index.add_path(Path::new(".gitmodules")).unwrap();
    let entry = git2::IndexEntry {
        ctime: git2::IndexTime::new(0, 0),
        mtime: git2::IndexTime::new(0, 0),
        dev: 0,
        ino: 0,
        mode: 0o160_000,
        uid: 0,
        gid: 0,
        file_size: 0,
        id: head,
        flags: 0,
        flags_extended: 0,
        path: b"s".to_vec(),
    };
    index.add(&entry).unwrap();
    index.write().unwrap();
    let before = snapshot(&world.path("outside"));
    fs::write(world.path("outside").join("more.txt"), "secret\n").unwrap();
    let server = world.start();
    for (tool, arguments) in [("git_status", json!({})), ("git_diff", json!({})), ("git_add", json!({"files": ["."]}))]
    {
        let answer = server.call(tool, arguments).await;
        assert!(!answer.text.contains("secret") && !answer.text.contains("more.txt"), "{}", answer.text);
    }
    assert_eq!(server.refused("git_add", json!({"files": ["s/more.txt"]})).await["code"], "beyond_symlink");
    fs::remove_file(world.path("outside").join("more.txt")).unwrap();
    assert_eq!(snapshot(&world.path("outside")), before);
}

#[tokio::test]
async fn checkout_writes_through_no_link() {
    let world = World::new();
    let repository = world.repository();
    // One branch has a link where another has a folder of the same name.
    symlink("../outside", world.work().join("a")).unwrap();
    let mut index = repository.index().unwrap();
    index.add_path(Path::new("a")).unwrap();
    index.write().unwrap();
    let server = world.start();
    server.ok("git_commit", json!({"message": "a link"})).await;
    server.ok("git_create_branch", json!({"branch_name": "folder", "base_branch": "production"})).await;
    server.ok("git_checkout", json!({"branch_name": "folder"})).await;
    world.file("a/written.txt", "written\n");
    world.file("b/written.txt", "written\n");
    server.ok("git_add", json!({"files": ["a", "b"]})).await;
    server.ok("git_commit", json!({"message": "folders"})).await;
    let before = snapshot(&world.path("outside"));
    server.ok("git_checkout", json!({"branch_name": "feature"})).await;
    assert!(world.work().join("a").is_symlink());
    server.ok("git_checkout", json!({"branch_name": "folder"})).await;
    assert!(!world.work().join("a").is_symlink());
    assert_eq!(world.read("a/written.txt"), "written\n");
    server.ok("git_checkout", json!({"branch_name": "feature"})).await;
    // A link that git does not know of stands in the way.
    symlink("../outside", world.work().join("b")).unwrap();
    let error = server.refused("git_checkout", json!({"branch_name": "folder"})).await;
    assert_eq!(error["code"], "would_overwrite", "{error}");
    assert_eq!(snapshot(&world.path("outside")), before);
    assert_eq!(world.head(), "refs/heads/feature");
}

#[tokio::test]
async fn trees_with_git_directories_are_not_checked_out() {
    for name in [".git", ".GIT", "..", "."] {
        let world = World::new();
        let repository = world.repository();
        let blob = repository.blob(b"[core]\n\tfsmonitor = touch pwned\n").unwrap();
        // libgit2 refuses to build such a tree, so it is written as bytes.
        let odb = repository.odb().unwrap();
        let tree = |entries: &[(&str, &str, git2::Oid)]| {
            let mut bytes = Vec::new();
            for (mode, name, id) in entries {
                bytes.extend(format!("{mode} {name}\0").bytes());
                bytes.extend(id.as_bytes());
            }
            odb.write(git2::ObjectType::Tree, &bytes).unwrap()
        };
        let tree = tree(&[("40000", name, tree(&[("100644", "config", blob)]))]);
        let head = repository.head().unwrap().target().unwrap();
        let author = "author A <a@example.com> 1700000000 +0000\ncommitter A <a@example.com> 1700000000 +0000";
        let commit = format!("tree {tree}\nparent {head}\n{author}\n\nhostile\n");
        let commit = odb.write(git2::ObjectType::Commit, commit.as_bytes()).unwrap();
        repository.reference("refs/heads/hostile", commit, false, "").unwrap();
        let before = fs::read(world.work().join(".git/config")).unwrap();
        let server = world.start();
        let answer = server.call("git_checkout", json!({"branch_name": "hostile"})).await;
        assert_eq!(answer.structured["error"]["code"], "unsafe_path", "{name}: {}", answer.structured);
        assert_eq!(fs::read(world.work().join(".git/config")).unwrap(), before, "{name}");
        assert_eq!(world.head(), "refs/heads/feature", "{name}");
        assert_eq!(world.read("README.md"), "hello\n");
        assert!(!world.path("config").exists());
        let diff = server.call("git_diff", json!({"target": "feature..hostile"})).await;
        assert!(!diff.structured.to_string().contains("internal_error"));
    }
}

/// Exchanges the folder `work/dir` for a link to `outside/dir` and back, again and again until `until`.
fn exchange(world: &World, until: Instant) -> std::thread::JoinHandle<usize> {
    let [real, link, aside] = ["dir", "link", "aside"].map(|name| world.work().join(name));
    symlink("../outside/dir", &link).unwrap();
    std::thread::spawn(move || {
        let mut count = 0;
        while Instant::now() < until {
            for (from, to) in [(&real, &aside), (&link, &real), (&real, &link), (&aside, &real)] {
                // In the moment in which nothing is there, the server may make the folder itself.
                while fs::rename(from, to).is_err() {
                    let _ = fs::remove_dir_all(to);
                }
                if to == &real {
                    std::thread::sleep(Duration::from_micros(count % 2000));
                }
            }
            count += 1;
        }
        usize::try_from(count).unwrap()
    })
}

#[tokio::test]
async fn files_exchanged_for_links_during_a_call_are_not_read() {
    let world = World::new();
    let repository = world.repository();
    for number in 0..100 {
        commit_file(&repository, &format!("dir/{number}.txt"), "harmless\n", "add");
        world.file(&format!("dir/{number}.txt"), "harmless, changed\n");
        world.file(&format!("../outside/dir/{number}.txt"), "top secret, taken\n");
    }
    fs::write(world.work().join(".git/info/exclude"), "link\naside\n").unwrap();
    let server = world.start();
    let mut calls = 0;
    for tool in ["git_diff", "git_add"] {
        let until = Instant::now() + Duration::from_secs(4);
        let exchanged = exchange(&world, until);
        while Instant::now() < until {
            let arguments = if tool == "git_add" { json!({"files": ["dir"]}) } else { json!({}) };
            let answer = server.call(tool, arguments).await;
            assert!(!answer.text.contains("secret"), "after {calls} calls: {}", answer.text);
            calls += 1;
        }
        assert!(exchanged.join().unwrap() > 50 && calls > 10);
        fs::remove_file(world.work().join("link")).unwrap();
    }
    for entry in repository.index().unwrap().iter() {
        assert!(!repository.find_blob(entry.id).unwrap().content().starts_with(b"top"));
    }
}

#[tokio::test]
async fn folders_exchanged_for_links_during_a_switch_are_not_written_through() {
    let world = World::new();
    let repository = world.repository();
    fs::write(world.work().join(".git/info/exclude"), "link\naside\n").unwrap();
    for number in 0..100 {
        world.file(&format!("dir/{number}.txt"), "one\n");
    }
    let mut index = repository.index().unwrap();
    index.add_all(["dir"], git2::IndexAddOption::DEFAULT, None).unwrap();
    index.write().unwrap();
    commit_file(&repository, "one", "one\n", "one");
    let head = repository.head().unwrap().peel_to_commit().unwrap();
    repository.branch("topic", &head, false).unwrap();
    repository.set_head("refs/heads/topic").unwrap();
    for number in 0..100 {
        world.file(&format!("dir/{number}.txt"), "two\n");
        world.file(&format!("dir/deep/{number}.txt"), "two\n");
    }
    index.add_all(["dir"], git2::IndexAddOption::DEFAULT, None).unwrap();
    index.write().unwrap();
    commit_file(&repository, "two", "two\n", "two");
    fs::create_dir_all(world.path("outside/dir/deep")).unwrap();
    for number in 0..100 {
        // What is there is what the branches have, so that nothing seems to be in the way.
        fs::write(world.path(&format!("outside/dir/{number}.txt")), "one\n").unwrap();
    }
    let before = snapshot(&world.path("outside"));
    let server = world.start();
    let until = Instant::now() + Duration::from_secs(5);
    let exchanged = exchange(&world, until);
    let mut answers = std::collections::BTreeMap::new();
    while Instant::now() < until {
        for branch in ["feature", "topic"] {
            let called = server.call("git_checkout", json!({"branch_name": branch})).await;
            let code = called.structured["error"]["code"].as_str().unwrap_or("ok").to_owned();
            *answers.entry(code).or_insert(0) += 1;
        }
    }
    assert!(exchanged.join().unwrap() > 50 && answers.contains_key("ok"), "{answers:?}");
    assert_eq!(snapshot(&world.path("outside")), before);
}

#[tokio::test]
async fn unusable_roots_and_places_are_told_apart() {
    let world = World::new();
    init(&world.work().join("second"));
    fs::create_dir(world.work().join("plain")).unwrap();
    let bare = git2::Repository::init_bare(world.work().join("bare.git")).unwrap();
    drop(bare);
    let server = world.start();
    // A folder inside a repository is that repository.
    assert_eq!(server.ok("git_status", json!({"repo_path": "plain"})).await["branch"], "feature");
    assert_eq!(server.ok("git_status", json!({"repo_path": "second"})).await["unborn"], true);
    let absolute = world.work().join("second");
    assert_eq!(server.ok("git_status", json!({"repo_path": absolute})).await["branch"], "main");
}
