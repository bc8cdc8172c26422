//! What could go on for ever: every call comes to an end, and the server answers the next one.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::mcp_process::McpProcess;

use super::world::{World, commit_file};

/// Far longer than any call below takes, however busy the machine, and shorter than what hosts wait.
const ANSWER_MAX: Duration = Duration::from_secs(55);

fn pipe(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = fs::remove_file(path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success(), "{path:?}");
}

fn sparse(path: &Path, bytes: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap().set_len(bytes).unwrap();
}

/// Calls that between them read and write every part of a repository, whatever they come to.
fn telling_calls() -> Vec<(&'static str, Value)> {
    vec![
        ("git_status", json!({})),
        ("git_diff", json!({})),
        ("git_branch", json!({"branch_type": "all"})),
        ("git_worktree_list", json!({})),
        ("git_add", json!({"files": ["."]})),
        ("git_commit", json!({"message": "x"})),
        ("git_checkout", json!({"branch_name": "topic"})),
        ("git_push", json!({})),
    ]
}

/// Makes every call, each of which must be answered in time; returns the codes of the answers.
async fn all_end(server: &McpProcess, what: &str, calls: Vec<(&'static str, Value)>) -> Vec<(&'static str, String)> {
    let mut codes = Vec::new();
    for (tool, arguments) in calls {
        let started = Instant::now();
        let called = tokio::time::timeout(ANSWER_MAX, server.call(tool, arguments.clone())).await;
        let called = called.unwrap_or_else(|_| panic!("{what}: {tool} {arguments} does not end"));
        let code = called.structured["error"]["code"].as_str().unwrap_or("ok").to_owned();
        eprintln!("{what}: {tool} {code} {:?}", started.elapsed());
        assert_ne!(code, "internal_error", "{what}: {tool}: {}", called.structured);
        codes.push((tool, code));
    }
    codes
}

/// A world with a subfolder, a remote, and a branch `topic` that differs in both.
fn world() -> World {
    let world = World::new();
    let repository = world.repository();
    commit_file(&repository, "sub/file.txt", "one\ntwo\n", "sub");
    world.git(&["branch", "-q", "topic"]);
    world.git(&["checkout", "-q", "topic"]);
    commit_file(&repository, "sub/other.txt", "topic\n", "topic");
    world.git(&["checkout", "-q", "feature"]);
    commit_file(&repository, "sub/file.txt", "one\ntwo\nthree\n", "more");
    let remote = world.work().join("remote.git");
    git2::Repository::init_bare(&remote).unwrap();
    world.git(&["remote", "add", "origin", "./remote.git"]);
    fs::write(world.work().join(".git/info/exclude"), "remote.git\n.tollgate\n").unwrap();
    world.file("sub/new.txt", "new\n");
    world
}

#[tokio::test]
async fn pipes_in_the_place_of_files_hold_up_no_call() {
    for name in [
        "sub/.gitignore",
        "sub/.gitattributes",
        "sub/.git",
        "sub/file.txt",
        "sub/deep/er/.gitignore",
        ".git/info/attributes",
        ".git/refs/heads/waiting",
        ".git/refs/heads/topic",
        ".git/logs/refs/heads/feature",
        ".git/logs/HEAD",
        ".git/objects/pack/pack-x.idx",
        ".git/MERGE_MSG",
        ".git/tollgate-change",
        ".git/tollgate-switch",
        ".git/index.lock",
        ".git/worktrees/w/HEAD",
        "remote.git/refs/heads/feature",
        "remote.git/config",
    ] {
        let world = world();
        let server = world.start();
        if name == "sub/deep/er/.gitignore" {
            world.file("sub/deep/er/file", "x");
        }
        pipe(&world.work().join(name));
        all_end(&server, name, telling_calls()).await;
        // Without it, all is as before.
        fs::remove_file(world.work().join(name)).unwrap();
        for branch in ["main", "production", "release/1.2"] {
            assert_eq!(world.tip(branch), world.tip("main"), "{name}");
        }
    }
}

#[tokio::test]
async fn pipes_behind_links_hold_up_no_call() {
    let world = world();
    pipe(&world.path("outside-pipe"));
    for number in 0..20 {
        world.file(&format!("many/{number}/file"), "x");
        symlink(world.path("outside-pipe"), world.work().join(format!("many/{number}/.gitignore"))).unwrap();
    }
    let server = world.start();
    all_end(&server, "links to a pipe", telling_calls()).await;
}

#[tokio::test]
async fn files_larger_than_memory_are_errors_of_one_call() {
    const TERABYTE: u64 = 1 << 40;
    for name in [
        ".git/index",
        ".git/config",
        ".git/refs/heads/topic",
        ".git/info/exclude",
        ".git/logs/HEAD",
        "sub/.gitignore",
        "sub/file.txt",
        "sub/new.txt",
        "remote.git/refs/heads/feature",
    ] {
        let world = world();
        let server = world.start();
        let path = world.work().join(name);
        // The largest file of this file system, which may be less.
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = File::create(&path).unwrap();
        if file.set_len(TERABYTE).is_err() {
            file.set_len(64 << 30).unwrap();
        }
        all_end(&server, name, telling_calls()).await;
        fs::remove_file(path).unwrap();
    }
}

#[tokio::test]
async fn packed_refs_of_a_gigabyte_are_refused() {
    let world = world();
    sparse(&world.work().join(".git/packed-refs"), 1 << 30);
    let error = world.start().refused("git_branch", json!({})).await;
    assert_eq!(error["code"], "not_a_repository");
    assert!(error["message"].as_str().unwrap().contains("too large"), "{error}");
}

#[tokio::test]
async fn patterns_without_end_hold_up_no_call() {
    let world = world();
    world.file(".gitignore", &"pattern*\n".repeat(200_000));
    let server = world.start();
    assert_eq!(server.refused("git_status", json!({})).await["code"], "not_a_repository");
    fs::remove_file(world.work().join(".gitignore")).unwrap();
    // What is not seen before it is read ends when the time is over; what changes nothing goes on meanwhile.
    let name = "a".repeat(200);
    for number in 0..20 {
        world.file(&format!("{}{number}/{name}", "a/".repeat(20)), "x");
    }
    world.file("a/.gitattributes", &format!("{}b text\n", "*a".repeat(120)).repeat(7000));
    let added = all_end(&server, "stars", vec![("git_add", json!({"files": ["a"]}))]).await;
    assert!(matches!(&*added[0].1, "timeout" | "ok"), "{added:?}");
    server.ok("git_log", json!({})).await;
    if added[0].1 == "timeout" {
        assert_eq!(world.git(&["diff", "--cached", "--name-only"]), "");
    }
}

#[tokio::test]
async fn loops_of_links_and_configurations_hold_up_no_call() {
    let world = world();
    let work = world.work();
    symlink("b", work.join("a")).unwrap();
    symlink("a", work.join("b")).unwrap();
    symlink(".", work.join("sub/here")).unwrap();
    symlink("..", work.join("sub/up")).unwrap();
    symlink(".gitignore", work.join("sub/.gitignore")).unwrap();
    fs::create_dir(work.join("looped")).unwrap();
    symlink(".git", work.join("looped/.git")).unwrap();
    let server = world.start();
    let codes = all_end(&server, "links", telling_calls()).await;
    assert_eq!(codes[0].1, "ok");
    for path in ["a", "a/x", "looped", "sub/here/here/here/up/up"] {
        all_end(&server, path, vec![("git_status", json!({"repo_path": path}))]).await;
    }
    let config = work.join(".git/config");
    let original = fs::read_to_string(&config).unwrap();
    for addition in ["[include]\npath = config\n", "[include]\npath = one\n[includeIf \"gitdir:**\"]\npath = two\n"] {
        fs::write(&config, format!("{original}{addition}")).unwrap();
        fs::write(work.join(".git/one"), "[include]\npath = two\n").unwrap();
        fs::write(work.join(".git/two"), "[include]\npath = one\npath = config\n").unwrap();
        all_end(&server, "configurations", vec![("git_status", json!({}))]).await;
    }
    let many: String = (0..200).map(|number| format!("[include]\npath = inc{number}\n")).collect();
    for number in 0..200 {
        fs::write(work.join(format!(".git/inc{number}")), "").unwrap();
    }
    fs::write(&config, format!("{original}{many}")).unwrap();
    assert_eq!(server.refused("git_status", json!({})).await["code"], "not_a_repository");
    fs::write(&config, original).unwrap();
    server.ok("git_status", json!({})).await;
}

/// Makes a branch with a file below `depth` folders.
fn deep_branch(world: &World, depth: usize, content: &str, branch: &str) {
    let mut import = Command::new("git")
        .args(["fast-import", "--quiet"])
        .current_dir(world.work())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let tip = world.tip("main");
    let stream = format!(
        "commit refs/heads/{branch}\ncommitter A <a@example.com> 1700000000 +0000\ndata 4\ndeep\nfrom {tip}\n\
         M 100644 inline {}file\ndata {}\n{content}\n",
        "d/".repeat(depth),
        content.len()
    );
    import.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
    assert!(import.wait().unwrap().success());
}

#[tokio::test]
async fn trees_of_any_depth_end_no_server() {
    for depth in [120, 10_000] {
        let world = world();
        deep_branch(&world, depth, "ours\n", "deep");
        deep_branch(&world, depth + 1, "theirs\n", "deeper");
        let server = world.start();
        let calls = vec![
            ("git_log", json!({"revision": "deep", "path": "d/d/d"})),
            ("git_show", json!({"revision": "deep"})),
            ("git_diff", json!({"target": "deep..deeper"})),
            ("git_diff", json!({"target": "deep"})),
            ("git_merge_preview", json!({"source": "deep", "target": "deeper"})),
            ("git_merge_preview", json!({"source": "deep"})),
            ("git_merge", json!({"source": "deep"})),
            ("git_push", json!({"branch": "deep"})),
            ("git_worktree_add", json!({"path": "tree", "branch_name": "deep"})),
            ("git_checkout", json!({"branch_name": "deep"})),
            ("git_status", json!({})),
            ("git_add", json!({"files": ["."]})),
            ("git_commit", json!({"message": "x"})),
            ("git_checkout", json!({"branch_name": "feature"})),
        ];
        all_end(&server, &format!("{depth} folders"), calls).await;
        server.ok("git_log", json!({})).await;
    }
    // Folders that are there, and git knows nothing of.
    let world = world();
    let path = "d/".repeat(1500);
    fs::create_dir_all(world.work().join(&path)).unwrap();
    world.file(&format!("{path}file"), "x");
    let server = world.start();
    all_end(&server, "folders", telling_calls()).await;
}

#[tokio::test]
async fn symbolic_refs_without_end_hold_up_no_call() {
    let world = world();
    let heads = world.work().join(".git/refs/heads");
    for number in 0..2000 {
        fs::write(heads.join(format!("s{number}")), format!("ref: refs/heads/s{}\n", (number + 1) % 2000)).unwrap();
    }
    fs::write(heads.join("self"), "ref: refs/heads/self\n").unwrap();
    fs::write(heads.join("to-head"), "ref: HEAD\n").unwrap();
    let server = world.start();
    let codes = all_end(&server, "symbolic refs", telling_calls()).await;
    assert_eq!(codes[0].1, "ok");
    for branch in ["s0", "self", "to-head"] {
        for (tool, arguments) in [
            ("git_log", json!({"revision": branch})),
            ("git_checkout", json!({"branch_name": branch})),
            ("git_delete_branch", json!({"branch_name": branch, "force": true})),
            ("git_push", json!({"branch": branch})),
        ] {
            all_end(&server, branch, vec![(tool, arguments)]).await;
        }
    }
}
