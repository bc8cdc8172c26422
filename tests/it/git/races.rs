//! Several at once, and one that is killed.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tollgate_tests::mcp_process::McpProcess;

use super::world::{World, commit_file};

/// What whoever comes second may be told: it can try again, or has nothing left to do.
const LATER: &[&str] = &[
    "branch_moved",
    "index_locked",
    "reference_locked",
    "repository_busy",
    "nothing_to_commit",
    "operation_in_progress",
];

/// Every file and the number of commits that `feature` has.
fn history(world: &World) -> (BTreeSet<String>, usize) {
    let repository = world.repository();
    let commit = repository.find_reference("refs/heads/feature").unwrap().peel_to_commit().unwrap();
    let mut files = BTreeSet::new();
    commit
        .tree()
        .unwrap()
        .walk(git2::TreeWalkMode::PreOrder, |folder, entry| {
            files.insert(format!("{folder}{}", entry.name().unwrap_or_default()));
            git2::TreeWalkResult::Ok
        })
        .unwrap();
    let mut walk = repository.revwalk().unwrap();
    walk.push(commit.id()).unwrap();
    (files, walk.count())
}

/// Asks git, where it is installed, and libgit2 otherwise whether the repository is whole.
fn check(world: &World) {
    let repository = world.repository();
    match Command::new("git").args(["fsck", "--full", "--strict"]).current_dir(world.work()).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && !text.contains("error"), "{text}");
        }
        Err(_) => {
            for reference in repository.references().unwrap() {
                reference.unwrap().peel_to_commit().unwrap().tree().unwrap();
            }
        }
    }
}

async fn stage_and_commit(server: &McpProcess, file: &str) -> usize {
    for _ in 0..20 {
        let added = server.call("git_add", json!({"files": [file]})).await;
        let code = added.structured["error"]["code"].as_str().unwrap_or_default().to_owned();
        if added.is_error {
            assert!(LATER.contains(&&*code), "{code}");
            continue;
        }
        let committed = server.call("git_commit", json!({"message": file})).await;
        if !committed.is_error {
            return 1;
        }
        let code = committed.structured["error"]["code"].as_str().unwrap_or_default();
        assert!(LATER.contains(&code), "{}", committed.structured);
        // Whoever commits takes along what others have staged.
        if code == "nothing_to_commit" {
            return 0;
        }
    }
    panic!("{file} was never committed");
}

#[tokio::test]
async fn commits_of_two_processes_lose_nothing() {
    let world = World::new();
    let servers = [world.start(), world.start()];
    let work = servers.iter().enumerate().map(|(number, server)| {
        let world = &world;
        async move {
            let mut commits = 0;
            for file in 0..15 {
                let name = format!("{number}-{file}");
                world.file(&name, &name);
                commits += stage_and_commit(server, &name).await;
            }
            commits
        }
    });
    let mut work = work.collect::<Vec<_>>().into_iter();
    let (first, second) = tokio::join!(work.next().unwrap(), work.next().unwrap());
    let (files, commits) = history(&world);
    assert_eq!(files.len(), 31, "{files:?}");
    // Every commit that was reported is there, on one line.
    assert_eq!(commits, 1 + first + second);
    check(&world);
}

#[tokio::test]
async fn commits_beside_another_git_program_lose_nothing() {
    let world = World::new();
    let server = world.start();
    let work = world.work();
    let other = std::thread::spawn(move || {
        let mut made = 0;
        for number in 0..20 {
            let commit = Command::new("git")
                .args(["-c", "user.name=o", "-c", "user.email=o@example.com", "commit", "--allow-empty", "-qm"])
                .arg(format!("other {number}"))
                .current_dir(&work)
                .output();
            match commit {
                Ok(output) => made += usize::from(output.status.success()),
                Err(_) => return 0,
            }
        }
        made
    });
    let mut commits = 0;
    for file in 0..15 {
        let name = format!("file-{file}");
        world.file(&name, &name);
        commits += stage_and_commit(&server, &name).await;
    }
    let others = other.join().unwrap();
    // git itself reads the index before it locks it, and may write back one without what was staged meanwhile: that is
    // still in the working tree.
    let added = server.ok("git_add", json!({"files": ["."]})).await;
    if !server.call("git_commit", json!({"message": "what git took out"})).await.is_error {
        println!("git took {} files out of the index", added["staged_total"]);
        commits += 1;
    }
    let (files, found) = history(&world);
    assert_eq!(files.len(), 16, "{files:?}");
    assert_eq!(found, 1 + commits + others);
    check(&world);
}

#[tokio::test]
async fn one_of_many_creates_a_branch() {
    let world = World::new();
    let servers = [world.start(), world.start()];
    for number in 0..10 {
        let arguments = || json!({"branch_name": format!("topic/{number}")});
        let (first, second) = tokio::join!(
            servers[0].call("git_create_branch", arguments()),
            servers[1].call("git_create_branch", arguments())
        );
        let refused: Vec<&Value> = [&first, &second]
            .into_iter()
            .filter(|called| called.is_error)
            .map(|called| &called.structured["error"]["code"])
            .collect();
        assert_eq!(refused, ["branch_exists"]);
    }
}

/// Kills the server some time after it got a call; returns whether it still answered.
async fn killed_after(world: &World, delay: Duration, tool: &str, arguments: Value) -> bool {
    let mut server = world.start();
    server.ok("git_status", json!({})).await;
    let answered = {
        let call = server.try_call(tool, arguments, Map::new());
        tokio::select! {
            called = call => called.is_some_and(|called| !called.is_error),
            () = tokio::time::sleep(delay) => false,
        }
    };
    server.kill().await;
    answered
}

#[tokio::test]
async fn killed_commit_happened_once_or_not_at_all() {
    let world = World::new();
    let mut answered = 0;
    for number in 0..24_u64 {
        let name = format!("file-{number}");
        world.file(&name, &name);
        world.start().ok("git_add", json!({"files": [&name]})).await;
        let delay = Duration::from_micros(number * 400);
        answered += usize::from(killed_after(&world, delay, "git_commit", json!({"message": &name})).await);
        check(&world);
        // The retry commits what the killed one did not.
        let server = world.start();
        let called = server.call("git_commit", json!({"message": &name})).await;
        let code = called.structured["error"]["code"].as_str().unwrap_or_default();
        assert!(matches!(code, "" | "nothing_to_commit"), "{}", called.structured);
        let (files, commits) = history(&world);
        assert!(files.contains(&name));
        assert_eq!(commits as u64, number + 2, "each once");
        assert_eq!(server.ok("git_status", json!({})).await["clean"], true);
    }
    println!("{answered} of 24 answered before they were killed");
}

#[tokio::test]
async fn killed_switch_is_undone_and_can_be_repeated() {
    let world = World::new();
    let repository = world.repository();
    let content = |number: usize, branch: &str| format!("{branch} {number}\n").repeat(200);
    // `feature` and `topic` differ in every way: changed, added, deleted, a folder for a file and the other way round.
    for number in 0..300 {
        world.file(&format!("both/{number}"), &content(number, "feature"));
        world.file(&format!("feature/{number}"), &content(number, "feature"));
    }
    world.file("file-or-folder", "file\n");
    world.file("folder-or-file/a/b", "file\n");
    let server = world.start();
    server.ok("git_add", json!({"files": ["."]})).await;
    server.ok("git_commit", json!({"message": "feature"})).await;
    server.ok("git_create_branch", json!({"branch_name": "topic"})).await;
    server.ok("git_checkout", json!({"branch_name": "topic"})).await;
    fs::remove_dir_all(world.work().join("feature")).unwrap();
    fs::remove_dir_all(world.work().join("folder-or-file")).unwrap();
    fs::remove_file(world.work().join("file-or-folder")).unwrap();
    for number in 0..300 {
        world.file(&format!("both/{number}"), &content(number, "topic"));
        world.file(&format!("topic/{number}"), &content(number, "topic"));
    }
    world.file("file-or-folder/c/d", "folder\n");
    world.file("folder-or-file", "folder\n");
    server.ok("git_add", json!({"files": ["."]})).await;
    server.ok("git_commit", json!({"message": "topic"})).await;
    server.ok("git_checkout", json!({"branch_name": "feature"})).await;
    drop(server);

    let mut half_way = 0;
    // How long a switch takes depends on what else this machine does.
    for number in 0..40_u64 {
        if number >= 8 && half_way > 0 {
            break;
        }
        world.file("local.txt", "mine\n");
        let delay = Duration::from_millis(2 + number * 15);
        killed_after(&world, delay, "git_checkout", json!({"branch_name": "topic"})).await;
        check(&world);
        let server = world.start();
        let status = server.ok("git_status", json!({})).await;
        half_way += usize::from(status["operation"] == "switch");
        let switched = server.ok("git_checkout", json!({"branch_name": "topic"})).await;
        assert_eq!(switched["branch"], "topic");
        assert!(!world.work().join(".git/tollgate-switch").exists());
        let status = server.ok("git_status", json!({})).await;
        assert_eq!(status["untracked"], json!(["local.txt"]), "{status}");
        assert_eq!(status["totals"], json!({"staged": 0, "unstaged": 0, "untracked": 1, "conflicted": 0}));
        server.ok("git_checkout", json!({"branch_name": "feature"})).await;
        assert_eq!(world.read("both/7"), content(7, "feature"));
        assert!(!world.work().join("topic/7").exists());
    }
    println!("{half_way} were killed half way");
    assert!(half_way > 0, "no kill came in time");
    assert!(repository.find_reference("refs/heads/topic").is_ok());
}

#[tokio::test]
async fn interrupted_switch_keeps_what_was_written_since() {
    let world = World::new();
    let repository = world.repository();
    for name in ["a", "b", "c"] {
        commit_file(&repository, name, "the old content\n", "old");
    }
    let from = world.tip("feature");
    commit_file(&repository, "a", "the new content\n", "new");
    commit_file(&repository, "b", "the new content\n", "new");
    commit_file(&repository, "c", "the new content\n", "new");
    commit_file(&repository, "d", "the new content\n", "new");
    commit_file(&repository, "e", "the new content\n", "new");
    let to = world.tip("feature");
    let commit = repository.find_commit(to.parse().unwrap()).unwrap();
    repository.branch("topic", &commit, false).unwrap();
    repository.reference("refs/heads/feature", from.parse().unwrap(), true, "").unwrap();
    repository.checkout_head(Some(git2::build::CheckoutBuilder::new().force().remove_untracked(true))).unwrap();
    for name in ["d", "e"] {
        fs::remove_file(world.work().join(name)).ok();
    }
    // As a killed switch leaves it; then somebody edits two files.
    fs::write(
        world.work().join(".git/tollgate-switch"),
        json!({"from": from, "to": to, "target": "refs/heads/topic"}).to_string(),
    )
    .unwrap();
    world.file("a", "the new content\n");
    world.file("b", "the new content\n");
    world.file(".tollgate-unfinished", "the new c");
    world.file("c", "my own words\n");
    world.file("d", "the new content\n");
    world.file("e", "my own words\n");
    let server = world.start();
    assert_eq!(server.ok("git_status", json!({})).await["operation"], "switch");
    server.ok("git_create_branch", json!({"branch_name": "x"})).await;
    let status = server.ok("git_status", json!({})).await;
    assert!(status.get("operation").is_none());
    assert_eq!((&status["unstaged"][0]["path"], &status["untracked"]), (&json!("c"), &json!(["e"])));
    let contents = ["a", "b", "c", "e"].map(|name| world.read(name));
    assert_eq!(contents, ["the old content\n", "the old content\n", "my own words\n", "my own words\n"]);
    assert!(!world.work().join("d").exists());
}

#[tokio::test]
async fn forged_note_of_a_switch_is_in_nobodys_way() {
    let world = World::new();
    let server = world.start();
    let head = world.tip("feature");
    for (number, note) in [
        json!({"from": head, "to": "0123456789012345678901234567890123456789", "target": "refs/heads/x"}).to_string(),
        json!({"from": head, "to": "../..", "target": "refs/heads/x"}).to_string(),
        json!({"from": head, "to": head, "target": "refs/heads/main"}).to_string(),
        "x".repeat(100_000),
    ]
    .iter()
    .enumerate()
    {
        let path = world.work().join(".git/tollgate-switch");
        fs::write(&path, note).unwrap();
        server.ok("git_create_branch", json!({"branch_name": format!("b{number}")})).await;
        assert!(!path.exists());
        assert_eq!(server.ok("git_status", json!({})).await["clean"], true);
        assert_eq!(world.head(), "refs/heads/feature");
    }
}

#[tokio::test]
async fn locks_of_a_killed_process_are_removed() {
    let world = World::new();
    world.file("new.txt", "new\n");
    let server = world.start();
    let git = world.work().join(".git");
    let left = ["HEAD.lock", "refs/heads/feature.lock", "index.lock"];
    fs::write(git.join("tollgate-change"), json!(left).to_string()).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    for name in left {
        fs::write(git.join(name), "").unwrap();
    }
    server.ok("git_add", json!({"files": ["new.txt"]})).await;
    server.ok("git_commit", json!({"message": "x"})).await;
    assert!(left.iter().all(|name| !git.join(name).exists()));
}

#[tokio::test]
async fn killed_merge_happened_once_or_not_at_all() {
    let world = World::new();
    let repository = world.repository();
    world.git(&["checkout", "-q", "-b", "topic"]);
    for number in 0..200 {
        world.file(&format!("topic/{number}"), &format!("topic {number}\n").repeat(100));
    }
    world.git(&["add", "."]);
    world.git(&["commit", "-qm", "topic"]);
    world.git(&["checkout", "-q", "feature"]);
    commit_file(&repository, "ours", "ours\n", "ours");
    let start = world.tip("feature");
    let mut half_way = 0;
    for number in 0..40_u64 {
        if number >= 6 && half_way > 0 {
            break;
        }
        let delay = Duration::from_millis(2 + number * 12);
        killed_after(&world, delay, "git_merge", json!({"source": "topic"})).await;
        check(&world);
        let server = world.start();
        half_way += usize::from(server.ok("git_status", json!({})).await["operation"] == "switch");
        let merged = server.ok("git_merge", json!({"source": "topic"})).await;
        assert!(matches!(merged["result"].as_str(), Some("merge" | "up_to_date")), "{merged}");
        let parents = world.git(&["log", "-1", "--format=%P", "feature"]);
        assert_eq!(parents.split_whitespace().collect::<Vec<_>>(), [start.clone(), world.tip("topic")], "once");
        assert_eq!(server.ok("git_status", json!({})).await["clean"], true);
        drop(server);
        world.git(&["reset", "-q", "--hard", &start]);
    }
    println!("{half_way} were killed half way");
    assert!(half_way > 0, "no kill came in time");
}
