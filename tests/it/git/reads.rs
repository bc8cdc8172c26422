//! What an agent looks at: differences, commits, branches, origins of lines, what was done before.

use serde_json::{Value, json};

use super::world::{World, commit_file};

#[tokio::test]
async fn staged_and_unstaged_changes_are_told_apart() {
    let world = World::new();
    let server = world.start();
    for tool in ["git_diff_unstaged", "git_diff_staged"] {
        assert_eq!(server.call(tool, json!({})).await.text, "no differences\n");
    }
    world.file("README.md", "hello\nstaged\n");
    world.file("new.txt", "new\n");
    server.ok("git_add", json!({"files": ["."]})).await;
    world.file("README.md", "hello\nstaged\nunstaged\n");
    world.file("untracked.txt", "x\n");

    let staged = server.call("git_diff_staged", json!({})).await;
    assert_eq!(staged.structured["files_total"], 2);
    assert!(staged.text.contains("+staged\n") && !staged.text.contains("unstaged"), "{}", staged.text);
    assert_eq!(staged.text, world.git(&["diff", "--cached"]));
    let unstaged = server.call("git_diff_unstaged", json!({})).await;
    assert_eq!(unstaged.structured["files_total"], 1);
    assert_eq!(unstaged.text, world.git(&["diff"]));
    let narrow = server.call("git_diff_unstaged", json!({"context_lines": 0})).await;
    assert_eq!(narrow.text, world.git(&["diff", "-U0"]));
    let one = server.ok("git_diff_staged", json!({"path": "new.txt"})).await;
    assert_eq!(one["files"], json!([{"path": "new.txt", "status": "added", "additions": 1, "deletions": 0}]));
    let cut = server.ok("git_diff_staged", json!({"max_bytes": 10})).await;
    assert_eq!(cut["truncated"], true);
    // A file that has gone, and one that is a link now.
    std::fs::remove_file(world.work().join("new.txt")).unwrap();
    std::fs::remove_file(world.work().join("README.md")).unwrap();
    std::os::unix::fs::symlink("../outside/secret.txt", world.work().join("README.md")).unwrap();
    let unstaged = server.call("git_diff_unstaged", json!({})).await;
    assert!(unstaged.text.contains("deleted file") && !unstaged.text.contains("secret\n"), "{}", unstaged.text);
}

#[tokio::test]
async fn staged_changes_of_an_unborn_branch_are_shown() {
    let world = World::empty();
    world.file("a", "a\n");
    let server = world.start();
    server.ok("git_add", json!({"files": ["a"]})).await;
    assert_eq!(server.ok("git_diff_staged", json!({})).await["files"][0]["status"], "added");
    assert_eq!(server.ok("git_diff_unstaged", json!({})).await["files_total"], 0);
    assert_eq!(server.ok("git_branch", json!({})).await["branches"], json!([]));
    assert_eq!(server.refused("git_show", json!({"revision": "HEAD"})).await["code"], "unknown_revision");
    assert_eq!(server.refused("git_blame", json!({"path": "a"})).await["code"], "unknown_revision");
}

#[tokio::test]
async fn commits_files_and_folders_are_shown() {
    let world = World::new();
    let repository = world.repository();
    commit_file(&repository, "src/a.rs", "fn a() {}\n", "Add a\n\nIt was missing.");
    commit_file(&repository, "src/data.bin", "a\0b", "data");
    let server = world.start();
    let shown = server.call("git_show", json!({"revision": "HEAD~1"})).await;
    let commit = &shown.structured["commit"];
    assert_eq!((&commit["summary"], &commit["body"]), (&json!("Add a"), &json!("It was missing.")));
    assert_eq!(shown.structured["changes"]["files"][0]["path"], "src/a.rs");
    assert!(shown.text.contains("\nAuthor: Test <test@example.com>\nDate:   ") && shown.text.contains("+fn a() {}"));
    let first = server.ok("git_show", json!({"revision": "main"})).await;
    assert_eq!(first["changes"]["files"][0]["status"], "added");
    let file = server.call("git_show", json!({"revision": "feature:src/a.rs"})).await;
    assert_eq!((file.text.as_str(), &file.structured["kind"]), ("fn a() {}\n", &json!("file")));
    for revision in ["HEAD:src", "HEAD:src/"] {
        assert_eq!(server.ok("git_show", json!({"revision": revision})).await["entries"], json!(["a.rs", "data.bin"]));
    }
    assert_eq!(server.call("git_show", json!({"revision": "HEAD:"})).await.text, "README.md\nsrc/");
    let binary = server.ok("git_show", json!({"revision": "HEAD:src/data.bin"})).await;
    assert_eq!((&binary["size"], binary.get("content")), (&json!(3), None));
    let blob = world.git(&["rev-parse", "HEAD:src/a.rs"]);
    assert_eq!(server.call("git_show", json!({"revision": blob.trim()})).await.text, "fn a() {}\n");
    for (revision, code) in [
        ("HEAD:nothing", "path_not_found"),
        ("HEAD:../outside/secret.txt", "path_outside_root"),
        ("HEAD:.git/config", "git_directory"),
        (":README.md", "invalid_revision"),
        ("--output=pwned", "invalid_revision"),
        ("nothing", "unknown_revision"),
    ] {
        assert_eq!(server.refused("git_show", json!({"revision": revision})).await["code"], code, "{revision}");
    }
}

#[tokio::test]
async fn branches_are_listed_with_what_they_contain() {
    let world = World::new();
    let repository = world.repository();
    let ahead = commit_file(&repository, "a", "a\n", "ahead").to_string();
    repository.reference("refs/remotes/origin/feature", ahead.parse().unwrap(), false, "").unwrap();
    let server = world.start();
    let names = |listed: &Value| -> Vec<String> {
        listed["branches"]
            .as_array()
            .unwrap()
            .iter()
            .map(|branch| branch["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = server.ok("git_branch", json!({})).await;
    assert_eq!(names(&all), ["feature", "main", "production", "release/1.2"]);
    assert_eq!(all["branches"][0]["current"], true);
    assert_eq!((&all["branches"][0]["protected"], &all["branches"][1]["protected"]), (&json!(false), &json!(true)));
    let remote = server.ok("git_branch", json!({"branch_type": "remote"})).await;
    assert_eq!(names(&remote), ["origin/feature"]);
    assert_eq!(server.ok("git_branch", json!({"branch_type": "all"})).await["total"], 5);
    assert_eq!(names(&server.ok("git_branch", json!({"contains": ahead})).await), ["feature"]);
    assert_eq!(
        names(&server.ok("git_branch", json!({"not_contains": ahead})).await),
        ["main", "production", "release/1.2"]
    );
    let cut = server.ok("git_branch", json!({"limit": 1})).await;
    assert_eq!((&cut["total"], &cut["truncated"], names(&cut).len()), (&json!(4), &json!(true), 1));
    assert_eq!(server.refused("git_branch", json!({"branch_type": "-D"})).await["code"], "invalid_arguments");
    assert_eq!(server.refused("git_branch", json!({"contains": "--format=x"})).await["code"], "invalid_revision");
    assert_eq!(server.refused("git_branch", json!({"not_contains": "nothing"})).await["code"], "unknown_revision");
}

/// A file with a merge, a rename, and lines that come, go and move.
#[tokio::test]
async fn lines_come_from_where_git_says() {
    let world = World::new();
    let repository = world.repository();
    let lines = |range: std::ops::Range<usize>| -> String { range.map(|line| format!("line {line}\n")).collect() };
    commit_file(&repository, "old.txt", &lines(0..30), "one");
    world.git(&["branch", "side"]);
    commit_file(&repository, "old.txt", &format!("top\n{}", lines(0..30)), "two");
    world.git(&["checkout", "-q", "side"]);
    commit_file(&repository, "old.txt", &format!("{}middle\n{}", lines(0..15), lines(18..30)), "three");
    world.git(&["checkout", "-q", "feature"]);
    world.git(&["merge", "-q", "--no-ff", "-m", "four", "side"]);
    world.git(&["mv", "old.txt", "new.txt"]);
    world.git(&["commit", "-qm", "five"]);
    commit_file(&repository, "new.txt", &format!("{}bottom", world.read("new.txt")), "six");

    let server = world.start();
    let expected: Vec<(String, String)> = world
        .git(&["blame", "--porcelain", "new.txt"])
        .lines()
        .fold((Vec::new(), String::new()), |(mut all, mut commit), line| {
            if let Some(text) = line.strip_prefix('\t') {
                all.push((commit.clone(), text.to_owned()));
            } else if line.split(' ').next().is_some_and(|word| word.len() == 40) {
                commit = line[..40].to_owned();
            }
            (all, commit)
        })
        .0;
    let flat = |blamed: &Value| -> Vec<(String, String)> {
        let hunks = blamed["hunks"].as_array().unwrap();
        hunks
            .iter()
            .flat_map(|hunk| {
                let commit = hunk["commit"].as_str().unwrap().to_owned();
                let text = hunk["text"].as_array().unwrap().clone();
                text.into_iter().map(move |line| (commit.clone(), line.as_str().unwrap().to_owned()))
            })
            .collect()
    };
    let blamed = server.ok("git_blame", json!({"path": "new.txt"})).await;
    assert_eq!(flat(&blamed), expected);
    assert_eq!(blamed["hunks"][1]["path"], "old.txt");
    assert_eq!(blamed["lines_total"], expected.len());
    let part = server.ok("git_blame", json!({"path": "new.txt", "start_line": 10, "end_line": 20})).await;
    assert_eq!(flat(&part), expected[9..20]);
    let old = server.ok("git_blame", json!({"path": "old.txt", "revision": "side"})).await;
    assert_eq!(old["lines_total"], 28);
    for (arguments, code) in [
        (json!({"path": "nothing"}), "path_not_found"),
        (json!({"path": "../outside/secret.txt"}), "path_outside_root"),
        (json!({"path": ".git/config"}), "git_directory"),
        (json!({"path": "new.txt", "start_line": 99}), "invalid_arguments"),
        (json!({"path": "new.txt", "start_line": 9, "end_line": 3}), "invalid_arguments"),
        (json!({"path": "new.txt", "revision": "-s"}), "invalid_revision"),
    ] {
        assert_eq!(server.refused("git_blame", arguments.clone()).await["code"], code, "{arguments}");
    }
}

#[tokio::test]
async fn trail_says_who_did_and_tried_what() {
    let world = World::new();
    let first = world.start_as(&[("TOLLGATE_AGENT", "first"), ("TOLLGATE_ROLE", "bugfix"), ("TOLLGATE_TASK", "T-1")]);
    let second = world.start_as(&[("TOLLGATE_AGENT", "second")]);
    first.ok("git_create_branch", json!({"branch_name": "one"})).await;
    first.refused("git_create_branch", json!({"branch_name": "release/9"})).await;
    second.ok("git_create_branch", json!({"branch_name": "two"})).await;
    second.ok("git_checkout", json!({"branch_name": "two"})).await;

    let trail = first.ok("git_audit_trail", json!({})).await;
    let actions: Vec<&str> =
        trail["entries"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["switched", "branch_created", "refused", "branch_created"]);
    let created = &trail["entries"][3];
    assert_eq!(
        (&created["agent"], &created["role"], &created["task_id"]),
        (&json!("first"), &json!("bugfix"), &json!("T-1"))
    );
    assert_eq!(created["detail"]["branch"], "one");
    for (arguments, count) in [
        (json!({"agent": "second"}), 2),
        (json!({"agent": "nobody"}), 0),
        (json!({"operation": "refused"}), 1),
        (json!({"operation": "git_create_branch"}), 3),
        (json!({"branch": "two"}), 2),
        (json!({"branch": "release/9"}), 1),
        (json!({"since": "1 hour ago"}), 4),
        (json!({"until": "1 hour ago"}), 0),
        (json!({"since": "today", "until": "now", "agent": "first", "branch": "one"}), 1),
    ] {
        let trail = second.ok("git_audit_trail", arguments.clone()).await;
        assert_eq!(trail["entries"].as_array().unwrap().len(), count, "{arguments}: {trail}");
    }
    let mut seen = Vec::new();
    let mut arguments = json!({"limit": 1});
    loop {
        let page = first.ok("git_audit_trail", arguments.clone()).await;
        seen.extend(page["entries"].as_array().unwrap().clone());
        match page.get("cursor") {
            Some(cursor) => arguments["cursor"] = cursor.clone(),
            None => break,
        }
    }
    assert_eq!(json!(seen), trail["entries"]);
    assert_eq!(first.refused("git_audit_trail", json!({"cursor": "x"})).await["code"], "invalid_cursor");
    assert_eq!(first.refused("git_audit_trail", json!({"since": "soon"})).await["code"], "invalid_timestamp");
}

#[tokio::test]
async fn diff_is_cut_at_words_and_says_so() {
    let world = World::new();
    world.file("README.md", &"one two three\n".repeat(100));
    let server = world.start();
    for (words, truncated) in [(None, false), (Some(1000), false), (Some(40), true), (Some(0), true)] {
        let called = server.call("git_diff", json!({"max_words": words})).await;
        let diff = called.structured["diff"].as_str().unwrap();
        assert_eq!(called.structured["truncated"], truncated, "{words:?}");
        assert!(words.is_none_or(|words| diff.split_whitespace().count() <= words + diff.lines().count()), "{diff}");
        assert_eq!(called.text.contains("more `max_bytes` or `max_words`"), truncated);
        // How much there is, is said all the same.
        assert_eq!(called.structured["files"][0]["additions"], 100);
    }
    assert_eq!(server.ok("git_show", json!({"revision": "HEAD", "max_words": 1})).await["truncated"], true);
}

#[tokio::test]
async fn handle_that_is_kept_between_calls_sees_what_changed_and_leads_nowhere() {
    let world = World::new();
    world.git(&["gc", "-q"]);
    let server = world.start();
    let messages = async || {
        let log = server.ok("git_log", json!({})).await;
        let commits = log["commits"].as_array().unwrap();
        commits.iter().map(|commit| commit["summary"].as_str().unwrap().trim().to_owned()).collect::<Vec<_>>()
    };
    // What changed within the last second may change again unseen; only what is older is kept.
    let settled = async || tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    settled().await;
    assert_eq!(messages().await, ["first"]);
    commit_file(&world.repository(), "a", "a\n", "second");
    assert_eq!(messages().await, ["second", "first"]);
    world.git(&["commit", "-q", "--amend", "-m", "other second"]);
    world.git(&["gc", "-q", "--prune=now"]);
    assert_eq!(messages().await, ["other second", "first"]);
    settled().await;
    messages().await;
    world.git(&["checkout", "-q", "main"]);
    assert_eq!(messages().await, ["first"]);

    // Anything that leads out is found as if nothing had been opened before.
    let outside = world.path("outside");
    world.git(&["config", "core.worktree", &outside.display().to_string()]);
    assert_eq!(server.refused("git_log", json!({})).await["code"], "path_outside_root");
    world.git(&["config", "--unset", "core.worktree"]);
    settled().await;
    messages().await;
    let objects = world.work().join(".git/objects");
    std::fs::rename(&objects, world.work().join("objects")).unwrap();
    std::os::unix::fs::symlink(outside.join(".git/objects"), &objects).unwrap();
    assert_eq!(server.refused("git_log", json!({})).await["code"], "path_outside_root");
    std::fs::remove_file(&objects).unwrap();
    std::fs::rename(world.work().join("objects"), &objects).unwrap();
    settled().await;
    messages().await;
    std::fs::rename(world.work().join(".git"), world.work().join("git")).unwrap();
    std::fs::write(world.work().join(".git"), format!("gitdir: {}\n", outside.join(".git").display())).unwrap();
    assert_eq!(server.refused("git_log", json!({})).await["code"], "path_outside_root");
}
