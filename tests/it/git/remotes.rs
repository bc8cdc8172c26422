//! Fetching from, pulling from and pushing to real repositories.

use std::fs;

use git2::Repository;
use serde_json::{Value, json};

use super::world::{World, commit_file};

/// A world whose `origin` is a bare repository, which the operator has named, with all its branches.
fn with_origin() -> (World, Repository) {
    let world = World::new();
    let origin = world.path("origin.git");
    world.git(&["clone", "-q", "--bare", ".", origin.to_str().unwrap()]);
    world.git(&["remote", "add", "origin", &format!("file://{}", origin.display())]);
    fs::write(world.work().join(".git/info/exclude"), "tollgate.toml\n.tollgate\nagent\n").unwrap();
    world.file("tollgate.toml", &format!("[git]\nremotes = [\"{}\"]\n", origin.display()));
    let repository = Repository::open_bare(origin).unwrap();
    (world, repository)
}

fn tip(remote: &Repository, branch: &str) -> Option<String> {
    remote.refname_to_id(&format!("refs/heads/{branch}")).ok().map(|id| id.to_string())
}

fn fsck(remote: &Repository) {
    let output = std::process::Command::new("git").args(["fsck", "--strict"]).current_dir(remote.path()).output();
    assert!(output.unwrap().status.success());
}

#[tokio::test]
async fn branch_goes_out_and_comes_back() {
    let (world, origin) = with_origin();
    let server = world.start();
    world.file("new.txt", "new\n");
    server.ok("git_add", json!({"files": ["new.txt"]})).await;
    let committed = server.ok("git_commit", json!({"message": "new"})).await["commit"].clone();
    let called = server.call("git_push", json!({})).await;
    assert!(!called.is_error, "{}", called.structured);
    assert_eq!((&called.structured["branch"], &called.structured["new"]), (&json!("feature"), &committed));
    assert_eq!(called.receipt.lines[0].sku.to_string(), "git.push");
    assert_eq!(json!(tip(&origin, "feature")), committed);
    assert_eq!(server.ok("git_push", json!({})).await["old"], committed);
    server.ok("git_create_branch", json!({"branch_name": "topic/one"})).await;
    server.ok("git_push", json!({"branch": "topic/one", "remote": "origin"})).await;
    assert_eq!(json!(tip(&origin, "topic/one")), committed);
    fsck(&origin);

    // Somebody else pushes with git.
    let other = world.path("other");
    world.git(&["clone", "-q", origin.path().to_str().unwrap(), other.to_str().unwrap()]);
    let theirs = {
        let other = Repository::open(&other).unwrap();
        let run = |arguments: &[&str]| {
            let done = std::process::Command::new("git").args(arguments).current_dir(other.workdir().unwrap()).output();
            assert!(done.unwrap().status.success(), "{arguments:?}");
        };
        run(&["checkout", "-q", "feature"]);
        let theirs = commit_file(&other, "theirs.txt", "theirs\n", "theirs").to_string();
        run(&["push", "-q", "origin", "feature", "feature:fresh"]);
        run(&["push", "-q", "origin", ":topic/one"]);
        theirs
    };
    let fetched = server.ok("git_fetch", json!({"prune": true})).await;
    let names: Vec<&str> =
        fetched["updated"].as_array().unwrap().iter().map(|moved| moved["name"].as_str().unwrap()).collect();
    for name in ["origin/feature", "origin/fresh", "origin/main", "origin/topic/one"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert_eq!(server.ok("git_fetch", json!({})).await["updated_total"], 0);
    assert_eq!(json!(world.tip("feature")), committed, "no local branch moves");
    let pulled = server.ok("git_pull", json!({"ff_only": true})).await;
    assert_eq!((&pulled["result"], &pulled["commit"]), (&json!("fast_forward"), &json!(theirs)));
    assert_eq!(world.read("theirs.txt"), "theirs\n");
    assert_eq!(server.ok("git_pull", json!({"branch": "fresh"})).await["result"], "up_to_date");
    assert_eq!(server.ok("git_status", json!({})).await["clean"], true);
    world.fsck();
}

#[tokio::test]
async fn push_never_replaces_what_was_not_seen() {
    let (world, origin) = with_origin();
    let server = world.start();
    server.ok("git_fetch", json!({})).await;
    commit_file(&world.repository(), "ours", "ours\n", "ours");
    // Somebody else moves the branch at the remote.
    let before = origin.refname_to_id("refs/heads/feature").unwrap();
    let commit = origin.find_commit(before).unwrap();
    let signature = git2::Signature::now("o", "o@example.com").unwrap();
    let theirs = origin
        .commit(Some("refs/heads/feature"), &signature, &signature, "theirs", &commit.tree().unwrap(), &[&commit])
        .unwrap()
        .to_string();
    for arguments in [json!({}), json!({"force_with_lease": true})] {
        assert_eq!(server.refused("git_push", arguments).await["code"], "not_fast_forward");
    }
    assert_eq!(tip(&origin, "feature").unwrap(), theirs);
    assert_eq!(server.refused("git_pull", json!({"ff_only": true})).await["code"], "not_fast_forward");
    // Now it was seen.
    let pushed = server.ok("git_push", json!({"force_with_lease": true})).await;
    assert_eq!((&pushed["forced"], &pushed["old"]), (&json!(true), &json!(theirs)));
    assert_eq!(tip(&origin, "feature").unwrap(), world.tip("feature"));
    fsck(&origin);
}

#[tokio::test]
async fn no_push_writes_a_protected_branch() {
    let (world, origin) = with_origin();
    commit_file(&world.repository(), "ours", "ours\n", "ours");
    world.git(&["branch", "-f", "main", "feature"]);
    world.git(&["branch", "release/9", "feature"]);
    world.git(&["branch", "sly", "feature"]);
    let refs = |remote: &Repository| super::world::refs(remote);
    // Other names for a branch, on both sides, and a configuration that sends one branch to another.
    world.repository().reference_symbolic("refs/heads/alias", "refs/heads/main", false, "").unwrap();
    origin.reference_symbolic("refs/heads/sly", "refs/heads/main", false, "").unwrap();
    for (name, value) in [
        ("remote.origin.push", "refs/heads/feature:refs/heads/main"),
        ("remote.origin.pushurl", "/nonexistent"),
        ("branch.feature.merge", "refs/heads/main"),
        ("branch.feature.remote", "origin"),
        ("push.default", "upstream"),
        ("remote.origin.mirror", "true"),
        ("url./nonexistent.insteadOf", "file://"),
    ] {
        world.git(&["config", name, value]);
    }
    let server = world.start();
    let before = refs(&origin);
    for (arguments, code) in [
        (json!({"branch": "main"}), "protected_branch"),
        (json!({"branch": "Main"}), "protected_branch"),
        (json!({"branch": "release/9"}), "protected_branch"),
        (json!({"branch": "main", "force_with_lease": true}), "protected_branch"),
        (json!({"branch": "sly"}), "symbolic_branch"),
        (json!({"branch": "sly", "force_with_lease": true}), "symbolic_branch"),
        (json!({"branch": "feature:main"}), "invalid_branch_name"),
        (json!({"branch": "+feature"}), "unknown_branch"),
        (json!({"branch": "refs/heads/feature"}), "invalid_branch_name"),
        (json!({"branch": "*"}), "invalid_branch_name"),
        (json!({"branch": ":main"}), "invalid_branch_name"),
        (json!({"branch": "--mirror"}), "invalid_branch_name"),
        (json!({"branch": "HEAD"}), "invalid_branch_name"),
        (json!({"branch": "nothing"}), "unknown_branch"),
        (json!({"remote": "nothing"}), "unknown_remote"),
        (json!({"remote": "--receive-pack=x"}), "invalid_branch_name"),
        (json!({"remote": "file:///tmp/x"}), "invalid_branch_name"),
        (json!({"remote": "../origin.git"}), "invalid_branch_name"),
        (json!({"force": true}), "invalid_arguments"),
        (json!({"refspec": "feature:main"}), "invalid_arguments"),
    ] {
        let error = server.refused("git_push", arguments.clone()).await;
        assert_eq!(error["code"], code, "{arguments}: {error}");
    }
    assert_eq!(refs(&origin), before);
    // `feature` goes to `feature`, whatever the configuration says.
    server.ok("git_push", json!({})).await;
    assert_eq!(tip(&origin, "feature").unwrap(), world.tip("feature"));
    assert_eq!(json!(tip(&origin, "main")), json!(before["refs/heads/main"]));
    for branch in ["main", "alias"] {
        world.repository().set_head(&format!("refs/heads/{branch}")).unwrap();
        for (tool, arguments) in [("git_pull", json!({"branch": "feature"})), ("git_push", json!({}))] {
            assert_eq!(server.refused(tool, arguments).await["code"], "protected_branch", "{tool} {branch}");
        }
    }
    fsck(&origin);
}

#[tokio::test]
async fn remotes_are_folders_that_may_be_used() {
    let (world, _origin) = with_origin();
    let server = world.start();
    let outside = world.path("outside");
    for (url, code) in [
        (outside.display().to_string(), "path_outside_root"),
        (format!("file://{}", outside.display()), "path_outside_root"),
        ("../outside".to_owned(), "path_outside_root"),
        ("/nonexistent".to_owned(), "path_outside_root"),
        ("ext::sh -c touch% pwned".to_owned(), "unsupported_remote"),
        ("git://localhost/x".to_owned(), "unsupported_remote"),
        ("https://user:hunter2@localhost/x".to_owned(), "unsupported_remote"),
        ("ssh://-oProxyCommand=x/y".to_owned(), "unsupported_remote"),
        ("localhost:x".to_owned(), "remote_not_allowed"),
        ("./README.md".to_owned(), "not_a_repository"),
    ] {
        world.git(&["config", "remote.bad.url", &url]);
        for tool in ["git_fetch", "git_pull", "git_push"] {
            let error = server.refused(tool, json!({"remote": "bad"})).await;
            assert_eq!(error["code"], code, "{tool} {url}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
    assert!(!world.work().join("pwned").exists());
    // One inside that leads outside.
    let inner = world.work().join("agent");
    super::world::init(&inner);
    fs::create_dir_all(inner.join(".git/objects/info")).unwrap();
    fs::write(inner.join(".git/objects/info/alternates"), format!("{}/.git/objects\n", outside.display())).unwrap();
    world.git(&["config", "remote.bad.url", "./agent"]);
    assert_eq!(server.refused("git_fetch", json!({"remote": "bad"})).await["code"], "path_outside_root");
    fs::remove_file(inner.join(".git/objects/info/alternates")).unwrap();
    commit_file(&Repository::open(&inner).unwrap(), "a", "a\n", "inner");
    let fetched = server.ok("git_fetch", json!({"remote": "bad"})).await;
    assert_eq!(fetched["updated"][0]["name"], "bad/main");
    // The branch that is checked out there is not pulled from under its files.
    Repository::open(&inner).unwrap().set_head("refs/heads/feature").unwrap();
    assert_eq!(server.refused("git_push", json!({"remote": "bad"})).await["code"], "branch_checked_out");
    assert_eq!(server.refused("git_pull", json!({"remote": "bad", "branch": "main"})).await["code"], "no_merge_base");
}

#[tokio::test]
async fn pushes_of_two_processes_lose_nothing() {
    let (world, origin) = with_origin();
    let clone = |name: &str| {
        let path = world.work().join(name);
        world.git(&["clone", "-q", "-b", "feature", &origin.path().display().to_string(), path.to_str().unwrap()]);
        world.git(&["-C", path.to_str().unwrap(), "config", "user.name", name]);
        world.git(&["-C", path.to_str().unwrap(), "config", "user.email", "x@example.com"]);
    };
    clone("first");
    clone("second");
    let servers = [("first", world.start()), ("second", world.start())];
    let work = servers.iter().map(|(name, server)| {
        let world = &world;
        async move {
            for number in 0..5 {
                let file = format!("{name}-{number}");
                world.file(&format!("{name}/{file}"), &file);
                server.ok("git_add", json!({"repo_path": name, "files": [&file]})).await;
                server.ok("git_commit", json!({"repo_path": name, "message": &file})).await;
                for attempt in 0.. {
                    assert!(attempt < 20, "{name} never gets through");
                    let pushed = server.call("git_push", json!({"repo_path": name})).await;
                    if !pushed.is_error {
                        break;
                    }
                    let code = pushed.structured["error"]["code"].as_str().unwrap().to_owned();
                    assert!(matches!(&*code, "not_fast_forward" | "branch_moved" | "reference_locked"), "{code}");
                    server.ok("git_pull", json!({"repo_path": name})).await;
                }
            }
        }
    });
    let mut work = work.collect::<Vec<_>>().into_iter();
    tokio::join!(work.next().unwrap(), work.next().unwrap());
    let commit = origin.find_reference("refs/heads/feature").unwrap().peel_to_commit().unwrap();
    let names: Vec<Value> = commit.tree().unwrap().iter().map(|entry| json!(entry.name().unwrap())).collect();
    assert_eq!(names.len(), 11, "{names:?}");
    fsck(&origin);
}
