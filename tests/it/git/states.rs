//! Repositories that are not like most: each has a sensible answer.
//!
//! With `TOLLGATE_HEAVY=1` also one of a hundred thousand files.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::world::{World, commit_file};

async fn refused(world: &World, tool: &str, arguments: Value) -> Value {
    world.start().refused(tool, arguments).await
}

#[tokio::test]
async fn unborn_branch_has_a_status_and_a_first_commit() {
    let world = World::empty();
    let server = world.start();
    let status = server.ok("git_status", json!({})).await;
    assert_eq!((&status["unborn"], &status["branch"]), (&json!(true), &json!("main")));
    assert_eq!(server.ok("git_log", json!({})).await["commits"], json!([]));
    assert_eq!(server.ok("git_branch", json!({})).await["total"], 0);
    assert_eq!(server.ok("git_diff_staged", json!({})).await["files_total"], 0);
    for (tool, arguments, code) in [
        ("git_show", json!({"revision": "HEAD"}), "unknown_revision"),
        ("git_diff", json!({}), "unknown_revision"),
        ("git_create_branch", json!({"branch_name": "x"}), "no_commits"),
        ("git_merge", json!({"source": "x"}), "unknown_revision"),
        ("git_commit", json!({"message": "x"}), "nothing_to_commit"),
    ] {
        assert_eq!(server.refused(tool, arguments).await["code"], code, "{tool}");
    }
    world.file("a", "a\n");
    server.ok("git_add", json!({"files": ["a"]})).await;
    assert_eq!(server.ok("git_commit", json!({"message": "x"})).await["parents"], json!([]));
    world.fsck();
}

#[tokio::test]
async fn bare_repository_is_told_from_the_one_around_it() {
    let world = World::new();
    world.git(&["clone", "-q", "--bare", ".", "bare.git"]);
    for path in ["bare.git", "bare.git/refs", "bare.git/objects"] {
        let error = refused(&world, "git_status", json!({"repo_path": path})).await;
        assert_eq!(error["code"], "not_a_repository", "{error}");
        assert!(error["message"].as_str().unwrap().contains("bare"), "{error}");
    }
    world.start().ok("git_status", json!({})).await;
    world.git(&["config", "core.bare", "true"]);
    assert_eq!(refused(&world, "git_status", json!({})).await["code"], "not_a_repository");
}

#[tokio::test]
async fn linked_worktree_has_a_branch_of_its_own() {
    let world = World::new();
    world.git(&["worktree", "add", "-q", "-b", "topic", "tree"]);
    let server = world.start();
    assert_eq!(server.ok("git_status", json!({"repo_path": "tree"})).await["branch"], "topic");
    world.file("tree/a", "a\n");
    server.ok("git_add", json!({"repo_path": "tree", "files": ["a"]})).await;
    server.ok("git_commit", json!({"repo_path": "tree", "message": "a"})).await;
    assert_eq!(server.ok("git_status", json!({})).await["branch"], "feature");
    assert_eq!(world.head(), "refs/heads/feature");
    world.fsck();
}

#[tokio::test]
async fn detached_head_can_be_looked_at_and_left() {
    let world = World::new();
    commit_file(&world.repository(), "a", "a\n", "a");
    world.git(&["checkout", "-q", "--detach", "HEAD~1"]);
    let server = world.start();
    assert_eq!(server.ok("git_status", json!({})).await["detached"], true);
    assert_eq!(server.ok("git_log", json!({})).await["commits"].as_array().unwrap().len(), 1);
    assert_eq!(server.refused("git_commit", json!({"message": "x"})).await["code"], "detached_head");
    server.ok("git_create_branch", json!({"branch_name": "rescue"})).await;
    assert_eq!(server.ok("git_checkout", json!({"branch_name": "rescue"})).await["branch"], "rescue");
}

#[tokio::test]
async fn rebase_in_progress_is_said_and_left_alone() {
    let world = World::new();
    let repository = world.repository();
    commit_file(&repository, "README.md", "ours\n", "ours");
    world.git(&["checkout", "-q", "-b", "topic", "main"]);
    commit_file(&repository, "README.md", "theirs\n", "theirs");
    let identity = ["-c", "user.name=O", "-c", "user.email=o@example.com"];
    let rebase = Command::new("git").args(identity).args(["rebase", "feature"]).current_dir(world.work()).output();
    assert!(!rebase.unwrap().status.success());
    let before = world.refs();
    let server = world.start();
    let status = server.ok("git_status", json!({})).await;
    assert_eq!((&status["operation"], &status["conflicted"]), (&json!("rebase"), &json!(["README.md"])));
    for (tool, arguments) in [("git_checkout", json!({"branch_name": "main"})), ("git_reset", json!({}))] {
        assert_eq!(server.refused(tool, arguments).await["code"], "operation_in_progress", "{tool}");
    }
    let error = server.refused("git_commit", json!({"message": "x"})).await;
    assert!(matches!(error["code"].as_str(), Some("operation_in_progress" | "detached_head")), "{error}");
    server.ok("git_diff_unstaged", json!({})).await;
    assert_eq!(world.refs(), before);
}

#[tokio::test]
async fn shallow_clone_ends_where_it_ends() {
    let world = World::new();
    for number in 0..5 {
        commit_file(&world.repository(), "a", &format!("{number}\n"), &format!("commit {number}"));
    }
    let url = format!("file://{}", world.work().display());
    world.git(&["clone", "-q", "--depth", "2", "-b", "feature", &url, "clone"]);
    fs::write(world.work().join(".git/info/exclude"), "clone\n").unwrap();
    let server = world.start();
    let here = |mut arguments: Value| {
        arguments["repo_path"] = json!("clone");
        arguments
    };
    assert_eq!(server.ok("git_log", here(json!({}))).await["commits"].as_array().unwrap().len(), 2);
    server.ok("git_status", here(json!({}))).await;
    server.ok("git_show", here(json!({"revision": "HEAD~1"}))).await;
    assert_eq!(server.refused("git_show", here(json!({"revision": "HEAD~2"}))).await["code"], "unknown_revision");
    assert_eq!(server.ok("git_blame", here(json!({"path": "README.md"}))).await["lines_total"], 1);
    server.ok("git_create_branch", here(json!({"branch_name": "topic"}))).await;
    server.ok("git_checkout", here(json!({"branch_name": "topic"}))).await;
    world.file("clone/b", "b\n");
    world.git(&["-C", "clone", "config", "user.name", "A"]);
    world.git(&["-C", "clone", "config", "user.email", "a@example.com"]);
    server.ok("git_add", here(json!({"files": ["b"]}))).await;
    server.ok("git_commit", here(json!({"message": "b"}))).await;
    assert_eq!(server.ok("git_push", here(json!({}))).await["branch"], "topic");
    assert!(world.git(&["log", "--format=%s", "topic"]).starts_with("b\ncommit 4\ncommit 3\n"));
    world.fsck();
}

#[tokio::test]
async fn sparse_checkout_keeps_what_is_not_there() {
    let world = World::new();
    for name in ["kept/a", "left/b", "left/deep/c"] {
        commit_file(&world.repository(), name, "x\n", name);
    }
    world.git(&["sparse-checkout", "set", "--cone", "kept"]);
    assert!(!world.work().join("left").exists());
    let server = world.start();
    let status = server.ok("git_status", json!({})).await;
    assert_eq!(status["clean"], true, "{status}");
    world.file("kept/new", "new\n");
    let added = server.ok("git_add", json!({"files": ["."]})).await;
    assert_eq!(added["staged"], json!([{"path": "kept/new", "status": "added"}]));
    assert_eq!(server.ok("git_commit", json!({"message": "new"})).await["files_changed"], 1);
    assert!(world.git(&["ls-tree", "-r", "--name-only", "HEAD"]).contains("left/deep/c"));
    assert_eq!(world.git(&["status", "--porcelain"]), "");
    assert_eq!(server.ok("git_diff", json!({})).await["files_total"], 0);
    world.fsck();
}

#[tokio::test]
async fn large_files_of_lfs_stay_pointers() {
    let world = World::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    world.file(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    world.git(&["add", ".gitattributes"]);
    world.git(&["commit", "-qm", "lfs"]);
    let id = {
        let repository = world.repository();
        repository.blob(pointer.as_bytes()).unwrap().to_string()
    };
    world.git(&["update-index", "--add", "--cacheinfo", &format!("100644,{id},data.bin")]);
    world.git(&["commit", "-qm", "pointer"]);
    world.file("data.bin", pointer);
    let server = world.start();
    assert_eq!(server.ok("git_status", json!({})).await["clean"], true);
    assert_eq!(server.ok("git_show", json!({"revision": "HEAD:data.bin"})).await["content"], pointer);
    world.file("data.bin", "the real content\n");
    let error = server.refused("git_add", json!({"files": ["data.bin"]})).await;
    assert_eq!(error["code"], "cannot_stage", "{error}");
    assert_eq!(server.ok("git_add", json!({"files": ["."]})).await["skipped"][0]["path"], "data.bin");
}

#[tokio::test]
async fn paths_that_are_no_text_are_escaped_and_committed() {
    let world = World::new();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.txt");
    if fs::write(world.work().join(name), "x\n").is_err() {
        return;
    }
    let server = world.start();
    assert_eq!(server.ok("git_status", json!({})).await["untracked"], json!(["caf\\xe9.txt"]));
    assert_eq!(server.ok("git_add", json!({"files": ["."]})).await["staged"][0]["path"], "caf\\xe9.txt");
    server.ok("git_commit", json!({"message": "x"})).await;
    let shown = server.ok("git_show", json!({"revision": "HEAD"})).await;
    assert_eq!(shown["changes"]["files"][0]["path"], "caf\\xe9.txt");
    for branch in ["main", "feature"] {
        server.ok("git_checkout", json!({"branch_name": branch})).await;
    }
    assert_eq!(fs::read(world.work().join(name)).unwrap(), b"x\n");
    assert_eq!(world.git(&["status", "--porcelain"]), "");
    world.fsck();
}

#[tokio::test]
async fn line_endings_are_what_attributes_say() {
    let world = World::new();
    world.file(".gitattributes", "*.txt text eol=crlf\n*.sh text eol=lf\n");
    world.file("a.txt", "one\r\ntwo\r\n");
    world.file("b.sh", "one\r\ntwo\n");
    let server = world.start();
    server.ok("git_add", json!({"files": ["."]})).await;
    server.ok("git_commit", json!({"message": "endings"})).await;
    assert_eq!(world.git(&["show", "HEAD:a.txt"]), "one\ntwo\n");
    assert_eq!(world.git(&["show", "HEAD:b.sh"]), "one\ntwo\n");
    for branch in ["main", "feature"] {
        server.ok("git_checkout", json!({"branch_name": branch})).await;
    }
    assert_eq!(world.read("a.txt"), "one\r\ntwo\r\n");
    assert_eq!(server.ok("git_status", json!({})).await["clean"], true);
    world.file("a.txt", "one\r\nTWO\r\n");
    let diff = server.ok("git_diff", json!({})).await;
    assert_eq!((&diff["files"][0]["additions"], &diff["files"][0]["deletions"]), (&json!(1), &json!(1)), "{diff}");
}

#[tokio::test]
async fn file_of_two_gigabytes_is_seen_and_not_staged() {
    let world = World::new();
    File::create(world.work().join("huge")).unwrap().set_len(2 << 30).unwrap();
    let server = world.start();
    let started = Instant::now();
    assert_eq!(server.ok("git_status", json!({})).await["untracked"], json!(["huge"]));
    let error = server.refused("git_add", json!({"files": ["huge"]})).await;
    assert_eq!(error["code"], "cannot_stage", "{error}");
    let added = server.ok("git_add", json!({"files": ["."]})).await;
    assert_eq!(added["skipped"][0]["path"], "huge");
    // In the place of a file that is tracked.
    File::create(world.work().join("README.md")).unwrap().set_len(2 << 30).unwrap();
    assert_eq!(server.ok("git_status", json!({})).await["unstaged"][0]["path"], "README.md");
    assert_eq!(server.ok("git_diff", json!({})).await["files"][0]["binary"], true);
    println!("two gigabytes: {:?}", started.elapsed());
}

#[tokio::test]
async fn commit_that_changes_nothing_can_be_looked_at() {
    let world = World::new();
    world.git(&["commit", "-q", "--allow-empty", "-m", "empty"]);
    world.git(&["commit", "-q", "--allow-empty", "--allow-empty-message", "-m", ""]);
    let server = world.start();
    let log = server.ok("git_log", json!({})).await;
    assert_eq!((&log["commits"][0]["summary"], &log["commits"][1]["summary"]), (&json!(""), &json!("empty")));
    let shown = server.ok("git_show", json!({"revision": "HEAD~1"})).await;
    assert_eq!(shown["changes"]["files_total"], 0);
    assert_eq!(server.ok("git_diff", json!({"target": "HEAD~1..HEAD"})).await["files_total"], 0);
    assert_eq!(server.ok("git_log", json!({"path": "README.md"})).await["commits"].as_array().unwrap().len(), 1);
    assert_eq!(server.refused("git_commit", json!({"message": "x"})).await["code"], "nothing_to_commit");
}

#[tokio::test]
async fn repository_with_sha256_is_named_as_such() {
    let world = World::new();
    let made =
        Command::new("git").args(["init", "-q", "--object-format=sha256", "other"]).current_dir(world.work()).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: git has no SHA-256");
        return;
    }
    for tool in ["git_status", "git_log", "git_branch"] {
        let error = refused(&world, tool, json!({"repo_path": "other"})).await;
        assert_eq!(error["code"], "unsupported_repository", "{error}");
        assert!(error["message"].as_str().unwrap().contains("sha256"), "{error}");
    }
    let made =
        Command::new("git").args(["init", "-q", "--ref-format=reftable", "tables"]).current_dir(world.work()).output();
    if made.is_ok_and(|output| output.status.success()) {
        let error = refused(&world, "git_status", json!({"repo_path": "tables"})).await;
        assert_eq!(error["code"], "unsupported_repository", "{error}");
    }
}

/// Makes a hundred thousand files; the time is mostly git's own.
#[tokio::test]
async fn hundred_thousand_files_are_answered_in_part() {
    if !std::env::var("TOLLGATE_HEAVY").is_ok_and(|value| value == "1") {
        println!("skipped: TOLLGATE_HEAVY is not 1");
        return;
    }
    let world = World::new();
    let mut import = Command::new("git")
        .args(["fast-import", "--quiet"])
        .current_dir(world.work())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    {
        let mut stream = std::io::BufWriter::new(import.stdin.take().unwrap());
        let tip = world.tip("feature");
        write!(stream, "blob\nmark :1\ndata 2\nx\n\ncommit refs/heads/large\ncommitter A <a@example.com> 1700000000 +0000\ndata 5\nlarge\nfrom {tip}\n").unwrap();
        for number in 0..100_000 {
            writeln!(stream, "M 100644 :1 d{}/e{}/f{number}", number % 100, number % 1000).unwrap();
        }
        stream.flush().unwrap();
    }
    assert!(import.wait().unwrap().success());
    world.git(&["checkout", "-q", "large"]);
    let server = world.start();
    let timed = async |tool: &str, arguments: Value| {
        let started = Instant::now();
        let called = server.call(tool, arguments.clone()).await;
        println!("{tool} {arguments}: {:?}", started.elapsed());
        assert!(called.text.len() < 1_000_000 && called.structured["error"]["code"] != "timeout", "{tool}");
        called.structured
    };
    assert_eq!(timed("git_status", json!({})).await["clean"], true);
    assert_eq!(timed("git_show", json!({"revision": "large"})).await["truncated"], true);
    assert_eq!(timed("git_diff", json!({"target": "main..large"})).await["files_total"], 100_000);
    assert_eq!(timed("git_log", json!({"path": "d1"})).await["commits"].as_array().unwrap().len(), 1);
    assert_eq!(timed("git_show", json!({"revision": "large:d1/e1"})).await["kind"], "folder");
    for number in 0..20_000 {
        world.file(&format!("d{}/e{}/f{number}", number % 100, number % 1000), "changed\n");
    }
    let status = timed("git_status", json!({})).await;
    assert_eq!((&status["totals"]["unstaged"], &status["truncated"]), (&json!(20_000), &json!(true)));
    assert_eq!(timed("git_add", json!({"files": ["."]})).await["error"]["code"], "too_many_files");
    assert_eq!(timed("git_add", json!({"files": ["d1"]})).await["staged_total"], 200);
    timed("git_commit", json!({"message": "some"})).await;
    world.fsck();
}

/// Makes a file of two gigabytes, tracked in one branch and in the working tree of the other.
#[tokio::test]
async fn two_gigabytes_in_one_file_are_no_trouble() {
    if !std::env::var("TOLLGATE_HEAVY").is_ok_and(|value| value == "1") {
        println!("skipped: TOLLGATE_HEAVY is not 1");
        return;
    }
    const BYTES: u64 = (2 << 30) + 1;
    let world = World::new();
    let make = |name: &str| File::create(world.work().join(name)).unwrap().set_len(BYTES).unwrap();
    world.git(&["checkout", "-q", "-b", "large"]);
    make("tracked.bin");
    world.git(&["-c", "core.compression=1", "-c", "core.bigFileThreshold=1m", "add", "tracked.bin"]);
    world.git(&["commit", "-q", "-m", "large"]);
    world.file("small.txt", "x\n");
    make("untracked.bin");
    let server = world.start();
    let timed = async |tool: &str, arguments: Value| {
        let started = Instant::now();
        let called = server.call(tool, arguments.clone()).await;
        println!("{tool} {arguments}: {:?}, {}", started.elapsed(), called.structured["error"]["code"]);
        assert!(called.text.len() < 1_000_000 && called.structured["error"]["code"] != "timeout", "{tool}");
        assert_ne!(called.structured["error"]["code"], "internal_error", "{tool}");
        called.structured
    };
    let status = timed("git_status", json!({})).await;
    assert_eq!(status["untracked"], json!(["small.txt", "untracked.bin"]));
    assert_eq!(timed("git_add", json!({"files": ["untracked.bin"]})).await["error"]["code"], "cannot_stage");
    let added = timed("git_add", json!({"files": ["."]})).await;
    assert_eq!((&added["staged_total"], &added["skipped"][0]["path"]), (&json!(1), &json!("untracked.bin")));
    timed("git_commit", json!({"message": "small"})).await["commit"].as_str().unwrap();
    let shown = timed("git_show", json!({"revision": "large:tracked.bin"})).await;
    assert_eq!((&shown["size"], &shown["content"]), (&json!(BYTES), &Value::Null));
    let compared = timed("git_diff", json!({"target": "main..large"})).await;
    assert_eq!(compared["files_total"], 2);
    assert!(compared["files"].as_array().unwrap().iter().any(|file| file["binary"] == true), "{compared}");
    timed("git_blame", json!({"path": "tracked.bin"})).await["error"]["code"].as_str().unwrap();
    fs::OpenOptions::new().write(true).open(world.work().join("tracked.bin")).unwrap().set_len(BYTES + 1).unwrap();
    assert_eq!(timed("git_diff_unstaged", json!({})).await["files_total"], 1);
    fs::OpenOptions::new().write(true).open(world.work().join("tracked.bin")).unwrap().set_len(BYTES).unwrap();
    // Away from it and back: done, or refused with everything as it was.
    for branch in ["feature", "large"] {
        let (head, size) = (world.head(), fs::metadata(world.work().join("tracked.bin")).map(|file| file.len()).ok());
        let answer = timed("git_checkout", json!({"branch_name": branch})).await;
        if answer["error"].is_object() {
            assert_eq!(world.head(), head, "{answer}");
            assert_eq!(fs::metadata(world.work().join("tracked.bin")).map(|file| file.len()).ok(), size);
        }
    }
    assert_eq!(timed("git_merge_preview", json!({"source": "main"})).await["error"], Value::Null);
    world.fsck();
}
