//! Arguments that must not get through, and what is left as it was afterwards.

use serde_json::{Value, json};

use super::world::{World, commit_file};

/// Calls that are refused whatever the state of the repository.
fn hostile_calls() -> Vec<(&'static str, Value, &'static str)> {
    let mut calls = Vec::new();
    let long = "x".repeat(10 * 1024 * 1024);
    for name in [
        "refs/heads/main",
        "refs/heads/x",
        "heads/main",
        "-f",
        "--force",
        "a..b",
        "HEAD",
        "@{-1}",
        "@",
        "a\0b",
        "a b",
        "a\nb",
        "ma\u{200b}in",
        "feature\u{202e}",
        "x.lock",
        "",
        "0123456789012345678901234567890123456789",
        &long,
    ] {
        calls.push(("git_create_branch", json!({"branch_name": name}), "invalid_branch_name"));
        calls.push(("git_checkout", json!({"branch_name": name}), "invalid_branch_name"));
    }
    for name in ["main", "Main", "MASTER", "release/9", "Release/9", "release", "main/x", "ｍａｉｎ", "production/x"]
    {
        calls.push(("git_create_branch", json!({"branch_name": name}), "protected_branch"));
    }
    for revision in [
        "-p",
        "--output=pwned",
        ":/first",
        "main:README.md",
        "@{-1}",
        "HEAD^{/first}",
        "HEAD~4294967295",
        "a\0b",
        &long,
    ] {
        calls.push(("git_create_branch", json!({"branch_name": "x", "base_branch": revision}), "invalid_revision"));
        calls.push(("git_diff", json!({"target": revision}), "invalid_revision"));
        calls.push(("git_log", json!({"revision": revision}), "invalid_revision"));
    }
    for revision in ["nothing", "deadbeef", "HEAD~99", "refs/heads/nothing"] {
        calls.push(("git_diff", json!({"target": revision}), "unknown_revision"));
        calls.push(("git_create_branch", json!({"branch_name": "x", "base_branch": revision}), "unknown_revision"));
    }
    for name in ["nothing", "first", "v1", "origin/main", "deadbeef"] {
        calls.push(("git_checkout", json!({"branch_name": name}), "unknown_branch"));
    }
    for file in ["..", "../outside/secret.txt", "/etc/passwd", "a/../../x"] {
        calls.push(("git_add", json!({"files": [file]}), "path_outside_root"));
        calls.push(("git_diff", json!({"path": file}), "path_outside_root"));
        calls.push(("git_log", json!({"path": file}), "path_outside_root"));
    }
    for file in [".git/config", ".GIT/config", ".git", "git~1/config", ".g\u{200c}it/config", ".git::$DATA"] {
        calls.push(("git_add", json!({"files": [file]}), "git_directory"));
    }
    for file in ["", "a\0b", &long] {
        calls.push(("git_add", json!({"files": [file]}), "invalid_path"));
    }
    calls.push(("git_add", json!({"files": ["nothing.txt"]}), "path_not_found"));
    calls.push(("git_add", json!({"files": [":(exclude)x"]}), "path_not_found"));
    calls.push(("git_add", json!({"files": ["*"]}), "path_not_found"));
    calls.push(("git_add", json!({"files": []}), "invalid_arguments"));
    calls.push(("git_add", json!({"files": vec!["a"; 1001]}), "invalid_arguments"));
    for message in ["", " \n ", "a\0b", "fix\n---\nx", &long] {
        calls.push(("git_commit", json!({"message": message}), "invalid_message"));
    }
    for line in ["Agent: human", "agent-role : operator", "Task: T-1", "Tollgate-Receipt: x"] {
        calls.push(("git_commit", json!({"message": format!("fix\n\n{line}")}), "reserved_trailer"));
    }
    for time in ["-1", "--since=x", "soon", "2026-02-30"] {
        calls.push(("git_log", json!({"start_timestamp": time}), "invalid_timestamp"));
    }
    calls.push(("git_log", json!({"cursor": "x"}), "invalid_cursor"));
    for repository in ["..", "../outside", "/", "/etc", "/nonexistent", "../work/../outside"] {
        calls.push(("git_status", json!({"repo_path": repository}), "path_outside_root"));
    }
    calls.push(("git_status", json!({"repo_path": "a\0b"}), "invalid_path"));
    calls.push(("git_status", json!({"repo_path": "nothing"}), "not_a_repository"));
    calls.push(("git_status", json!({"force": true}), "invalid_arguments"));
    calls.push(("git_commit", json!({"message": "x", "no_verify": true}), "invalid_arguments"));
    calls.push(("git_commit", json!({"message": "x", "author": "human"}), "invalid_arguments"));
    calls
}

#[tokio::test]
async fn hostile_arguments_are_refused_and_change_nothing() {
    let world = World::new();
    let repository = world.repository();
    let head = repository.head().unwrap().peel_to_commit().unwrap();
    repository.tag_lightweight("v1", head.as_object(), false).unwrap();
    repository.reference("refs/remotes/origin/main", head.id(), false, "").unwrap();
    world.file("new.txt", "new\n");
    let server = world.start();
    server.ok("git_add", json!({"files": ["new.txt"]})).await;
    let before = (world.refs(), std::fs::read(world.work().join(".git/index")).unwrap());
    let calls = hostile_calls();
    assert!(calls.len() > 90);
    for (tool, arguments, code) in calls {
        let error = server.refused(tool, arguments.clone()).await;
        let shown: String = arguments.to_string().chars().take(200).collect();
        assert_eq!(error["code"], code, "{tool} {shown}: {error}");
        assert!(error.to_string().len() < 2000, "{tool} {shown}");
    }
    assert_eq!((world.refs(), std::fs::read(world.work().join(".git/index")).unwrap()), before);
    assert!(!world.work().join("pwned").exists());
}

#[tokio::test]
async fn commit_on_protected_branch_is_refused() {
    let world = World::new();
    let repository = world.repository();
    let commit = repository.head().unwrap().peel_to_commit().unwrap();
    for branch in ["Main", "release/2/hotfix", "ＭＡＩＮ"] {
        repository.reference(&format!("refs/heads/{branch}"), commit.id(), false, "").unwrap();
    }
    world.file("new.txt", "new\n");
    let server = world.start();
    server.ok("git_add", json!({"files": ["new.txt"]})).await;
    for branch in ["main", "Main", "production", "release/1.2", "release/2/hotfix", "ＭＡＩＮ"] {
        repository.set_head(&format!("refs/heads/{branch}")).unwrap();
        let before = world.refs();
        let error = server.refused("git_commit", json!({"message": "sneak in"})).await;
        assert_eq!(error["code"], "protected_branch", "{branch}");
        assert!(error["message"].as_str().unwrap().contains(branch), "{error}");
        assert!(error["hint"].as_str().unwrap().contains("git_create_branch"), "{error}");
        assert_eq!(world.refs(), before);
    }
}

#[tokio::test]
async fn commit_through_symbolic_refs_is_judged_by_where_they_end() {
    let world = World::new();
    let repository = world.repository();
    repository.reference_symbolic("refs/heads/alias", "refs/heads/main", false, "").unwrap();
    repository.reference_symbolic("refs/heads/alias2", "refs/heads/alias", false, "").unwrap();
    repository.reference_symbolic("refs/heads/harmless", "refs/heads/feature", false, "").unwrap();
    world.file("new.txt", "new\n");
    let server = world.start();
    server.ok("git_add", json!({"files": ["new.txt"]})).await;
    for branch in ["alias", "alias2"] {
        server.ok("git_checkout", json!({"branch_name": branch})).await;
        let before = world.refs();
        let error = server.refused("git_commit", json!({"message": "sneak in"})).await;
        assert_eq!(error["code"], "protected_branch", "{branch}: {error}");
        assert_eq!(world.refs(), before);
        assert_eq!(server.ok("git_status", json!({})).await["branch"], "main");
    }
    server.ok("git_checkout", json!({"branch_name": "harmless"})).await;
    let main = world.tip("main");
    let committed = server.ok("git_commit", json!({"message": "fine"})).await;
    assert_eq!(committed["branch"], "feature");
    assert_eq!(world.tip("main"), main);
    assert_eq!(world.tip("feature"), committed["commit"].as_str().unwrap());
}

#[tokio::test]
async fn heads_that_lead_to_no_branch_are_refused() {
    let world = World::new();
    let repository = world.repository();
    let commit = repository.head().unwrap().peel_to_commit().unwrap();
    world.file("new.txt", "new\n");
    let server = world.start();
    server.ok("git_add", json!({"files": ["new.txt"]})).await;
    repository.set_head_detached(commit.id()).unwrap();
    assert_eq!(server.refused("git_commit", json!({"message": "x"})).await["code"], "detached_head");
    repository.reference("refs/remotes/origin/main", commit.id(), false, "").unwrap();
    let head = world.work().join(".git/HEAD");
    std::fs::write(&head, "ref: refs/remotes/origin/main\n").unwrap();
    assert_eq!(server.refused("git_commit", json!({"message": "x"})).await["code"], "unsupported_head");
    repository.reference_symbolic("refs/heads/a", "refs/heads/b", false, "").unwrap();
    repository.reference_symbolic("refs/heads/b", "refs/heads/a", false, "").unwrap();
    std::fs::write(&head, "ref: refs/heads/a\n").unwrap();
    assert_eq!(server.refused("git_commit", json!({"message": "x"})).await["code"], "unsupported_head");
}

#[tokio::test]
async fn unborn_protected_branch_beside_others_is_refused() {
    let world = World::new();
    world.file("new.txt", "new\n");
    let server = world.start();
    server.ok("git_add", json!({"files": ["new.txt"]})).await;
    std::fs::write(world.work().join(".git/HEAD"), "ref: refs/heads/release/2.0\n").unwrap();
    assert_eq!(server.refused("git_commit", json!({"message": "x"})).await["code"], "protected_branch");
    assert!(world.repository().find_reference("refs/heads/release/2.0").is_err());
}

#[tokio::test]
async fn branch_file_that_is_a_link_is_not_written_through() {
    let world = World::new();
    let heads = world.work().join(".git/refs/heads");
    std::os::unix::fs::symlink("main", heads.join("sneaky")).unwrap();
    world.file("new.txt", "new\n");
    let server = world.start();
    server.ok("git_add", json!({"files": ["new.txt"]})).await;
    let main = world.tip("main");
    assert_eq!(server.refused("git_checkout", json!({"branch_name": "sneaky"})).await["code"], "linked_branch");
    world.repository().set_head("refs/heads/sneaky").unwrap();
    assert_eq!(server.refused("git_commit", json!({"message": "x"})).await["code"], "linked_branch");
    assert_eq!(world.tip("main"), main);
    std::os::unix::fs::symlink("release", heads.join("rel")).unwrap();
    let error = server.refused("git_create_branch", json!({"branch_name": "rel/9"})).await;
    assert_eq!(error["code"], "linked_branch");
    assert!(!heads.join("release/9").exists());
    // Not even the lock of a ref is made where a link leads.
    let outside = world.path("outside-refs");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, heads.join("out")).unwrap();
    std::fs::write(outside.join("there"), format!("{main}\n")).unwrap();
    for (tool, name) in [("git_create_branch", "out/a/b"), ("git_checkout", "out/there")] {
        assert_eq!(server.refused(tool, json!({"branch_name": name})).await["code"], "linked_branch");
    }
    std::fs::write(world.work().join(".git/HEAD"), "ref: refs/heads/out/there\n").unwrap();
    assert_eq!(server.refused("git_commit", json!({"message": "x"})).await["code"], "linked_branch");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(std::fs::read_to_string(outside.join("there")).unwrap(), format!("{main}\n"));
}

#[tokio::test]
async fn branch_log_that_is_a_link_is_not_written_through() {
    let world = World::new();
    let target = world.path("outside.log");
    std::fs::write(&target, "").unwrap();
    let log = world.work().join(".git/logs/refs/heads/feature");
    std::fs::remove_file(&log).ok();
    std::fs::create_dir_all(log.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&target, &log).unwrap();
    world.file("new.txt", "new\n");
    let server = world.start();
    server.ok("git_add", json!({"files": ["new.txt"]})).await;
    assert_eq!(server.refused("git_commit", json!({"message": "$(id)"})).await["code"], "linked_branch");
    assert_eq!(std::fs::read_to_string(target).unwrap(), "");
}

#[tokio::test]
async fn ignored_and_nested_files_are_refused() {
    let world = World::new();
    world.file(".gitignore", "*.log\nbuild/\n");
    world.file("debug.log", "x");
    world.file("build/out", "x");
    super::world::init(&world.work().join("vendor/nested"));
    world.file("vendor/nested/file", "x");
    std::os::unix::fs::symlink("..", world.work().join("up")).unwrap();
    std::os::unix::fs::symlink("vendor", world.work().join("inside")).unwrap();
    let server = world.start();
    for (file, code) in [
        ("debug.log", "ignored_path"),
        ("build", "ignored_path"),
        ("build/out", "ignored_path"),
        ("vendor/nested", "nested_repository"),
        ("vendor/nested/file", "nested_repository"),
        ("up/outside/secret.txt", "beyond_symlink"),
        ("inside/nested", "beyond_symlink"),
    ] {
        let error = server.refused("git_add", json!({"files": [".gitignore", file]})).await;
        assert_eq!(error["code"], code, "{file}: {error}");
    }
    assert!(server.ok("git_status", json!({})).await["staged"].as_array().unwrap().is_empty(), "all or nothing");
    let added = server.ok("git_add", json!({"files": ["."]})).await;
    let staged: Vec<_> =
        added["staged"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(staged, [".gitignore", "inside", "up"]);
    assert_eq!(added["skipped"][0]["path"], "vendor/nested/");
}

#[tokio::test]
async fn names_that_are_git_directories_elsewhere_are_left_out() {
    let world = World::new();
    world.file("a/git~1/config", "x");
    world.file("a/.GIT/config", "x");
    world.file("a/ok", "x");
    let server = world.start();
    let added = server.ok("git_add", json!({"files": ["a"]})).await;
    assert_eq!(added["staged"], json!([{"path": "a/ok", "status": "added"}]));
}

#[tokio::test]
async fn checkout_never_costs_a_local_change() {
    let world = World::new();
    let repository = world.repository();
    repository.set_head("refs/heads/main").unwrap();
    commit_file(&repository, "README.md", "changed on main\n", "change");
    commit_file(&repository, "added.txt", "added on main\n", "add");
    commit_file(&repository, "settings.local", "committed by mistake\n", "mistake");
    repository.set_head("refs/heads/feature").unwrap();
    repository.checkout_head(Some(git2::build::CheckoutBuilder::new().force().remove_untracked(true))).unwrap();
    let server = world.start();
    for (file, content) in [("README.md", "my change\n"), ("added.txt", "mine\n"), ("settings.local", "my only copy\n")]
    {
        world.file(".git/info/exclude", "settings.local\n");
        let kept = std::fs::read_to_string(world.work().join(file)).ok();
        world.file(file, content);
        let before = world.refs();
        let called = server.call("git_checkout", json!({"branch_name": "main"})).await;
        assert_eq!(called.structured["error"]["code"], "would_overwrite", "{file}: {}", called.structured);
        assert_eq!(called.structured["paths"], json!([file]));
        assert_eq!(world.read(file), content);
        assert_eq!(world.refs(), before);
        match kept {
            Some(kept) => world.file(file, &kept),
            None => std::fs::remove_file(world.work().join(file)).unwrap(),
        }
    }
    server.ok("git_checkout", json!({"branch_name": "main"})).await;
    assert_eq!(world.read("README.md"), "changed on main\n");
}

#[tokio::test]
async fn conflicts_and_unfinished_operations_are_in_the_way() {
    let world = World::new();
    let repository = world.repository();
    commit_file(&repository, "README.md", "ours\n", "ours");
    let base = repository.find_commit(repository.refname_to_id("refs/heads/production").unwrap()).unwrap();
    repository.branch("other", &base, false).unwrap();
    repository.set_head("refs/heads/other").unwrap();
    repository.checkout_head(Some(git2::build::CheckoutBuilder::new().force())).unwrap();
    commit_file(&repository, "README.md", "theirs\n", "theirs");
    let feature = repository.refname_to_id("refs/heads/feature").unwrap();
    let annotated = repository.find_annotated_commit(feature).unwrap();
    repository.merge(&[&annotated], None, None).unwrap();

    let server = world.start();
    let status = server.ok("git_status", json!({})).await;
    assert_eq!((&status["operation"], &status["conflicted"]), (&json!("merge"), &json!(["README.md"])));
    assert_eq!(server.refused("git_commit", json!({"message": "x"})).await["code"], "conflicted");
    assert_eq!(server.refused("git_checkout", json!({"branch_name": "main"})).await["code"], "operation_in_progress");

    world.file("README.md", "both\n");
    server.ok("git_add", json!({"files": ["README.md"]})).await;
    let committed = server.ok("git_commit", json!({"message": "merge feature"})).await;
    assert_eq!(committed["parents"].as_array().unwrap().len(), 2);
    assert!(server.ok("git_status", json!({})).await.get("operation").is_none());

    std::fs::create_dir(world.work().join(".git/rebase-merge")).unwrap();
    assert_eq!(server.refused("git_commit", json!({"message": "x"})).await["code"], "operation_in_progress");
}

#[tokio::test]
async fn locks_of_other_programs_are_respected_and_explained() {
    let world = World::new();
    world.file("new.txt", "new\n");
    let server = world.start();
    let index_lock = world.work().join(".git/index.lock");
    std::fs::write(&index_lock, "").unwrap();
    let error = server.refused("git_add", json!({"files": ["new.txt"]})).await;
    assert_eq!(error["code"], "index_locked");
    assert!(error["hint"].as_str().unwrap().contains("index.lock"));
    assert_eq!(server.refused("git_checkout", json!({"branch_name": "main"})).await["code"], "index_locked");
    server.ok("git_status", json!({})).await;
    std::fs::remove_file(index_lock).unwrap();

    server.ok("git_add", json!({"files": ["new.txt"]})).await;
    let before = world.refs();
    for lock in ["refs/heads/feature.lock", "HEAD.lock"] {
        let path = world.work().join(".git").join(lock);
        std::fs::write(&path, "").unwrap();
        assert_eq!(server.refused("git_commit", json!({"message": "x"})).await["code"], "reference_locked", "{lock}");
        std::fs::remove_file(path).unwrap();
    }
    assert_eq!(world.refs(), before);
    server.ok("git_commit", json!({"message": "x"})).await;
}

#[tokio::test]
async fn taken_names_are_refused() {
    let world = World::new();
    let server = world.start();
    for (name, code) in [
        ("feature", "branch_exists"),
        ("feature/x", "branch_in_the_way"),
        ("topic/a", ""),
        ("topic", "branch_in_the_way"),
    ] {
        let called = server.call("git_create_branch", json!({"branch_name": name})).await;
        assert_eq!(called.structured["error"]["code"].as_str().unwrap_or_default(), code, "{name}");
    }
    // Also where the ref is only in packed-refs and no file stands in the way.
    let repository = world.repository();
    repository.refdb_compress_for_test();
    assert_eq!(
        server.refused("git_create_branch", json!({"branch_name": "feature/x"})).await["code"],
        "branch_in_the_way"
    );
}

trait Compress {
    fn refdb_compress_for_test(&self);
}

impl Compress for git2::Repository {
    /// Packs every ref, as `git pack-refs --all` does.
    fn refdb_compress_for_test(&self) {
        self.refdb_compress().unwrap();
        assert!(!self.path().join("refs/heads/feature").exists());
    }
}
