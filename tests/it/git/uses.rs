//! What an agent does on an ordinary day.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::world::{World, commit_file};

#[tokio::test]
async fn day_of_an_agent() {
    let world = World::new();
    let repository = world.repository();
    repository.set_head("refs/heads/main").unwrap();
    let server =
        world.start_as(&[("TOLLGATE_AGENT", "bugfix-1"), ("TOLLGATE_ROLE", "bugfix"), ("TOLLGATE_TASK", "TASK-7")]);
    let status = server.ok("git_status", json!({})).await;
    assert_eq!(
        (&status["clean"], &status["branch"], &status["protected"]),
        (&json!(true), &json!("main"), &json!(true))
    );

    world.file("README.md", "hello\nworld\n");
    world.file("src/new.rs", "fn main() {}\n");
    let status = server.ok("git_status", json!({})).await;
    assert_eq!(status["unstaged"], json!([{"path": "README.md", "status": "modified"}]));
    assert_eq!(status["untracked"], json!(["src/"]));
    let diff = server.call("git_diff", json!({})).await;
    assert_eq!(diff.structured["files"][0]["additions"], 1);
    assert!(diff.text.contains("+world\n") && diff.text.contains("--- a/README.md"), "{}", diff.text);

    let added = server.ok("git_add", json!({"files": ["README.md", "src"]})).await;
    assert_eq!(added["staged_total"], 2);
    let error = server.refused("git_commit", json!({"message": "Straight onto main"})).await;
    assert_eq!(error["code"], "protected_branch");
    // What was staged stays so, and comes along.
    let staged = server.ok("git_status", json!({})).await["staged"].clone();
    assert_eq!(staged, json!([{"path": "README.md", "status": "modified"}, {"path": "src/new.rs", "status": "added"}]));
    server.ok("git_create_branch", json!({"branch_name": "fix/bulk-discount"})).await;
    assert_eq!(world.head(), "refs/heads/main", "creating a branch does not switch to it");
    let switched = server.ok("git_checkout", json!({"branch_name": "fix/bulk-discount"})).await;
    assert_eq!((&switched["previous"], &switched["protected"]), (&json!("main"), &json!(false)));
    assert_eq!(server.ok("git_status", json!({})).await["staged"], staged);
    let called = server.call("git_commit", json!({"message": "Greet the world\n\nIt was left out."})).await;
    assert!(!called.is_error);
    let committed = called.structured;
    assert_eq!((&committed["branch"], &committed["files_changed"]), (&json!("fix/bulk-discount"), &json!(2)));

    let commit = repository.find_commit(committed["commit"].as_str().unwrap().parse().unwrap()).unwrap();
    assert_eq!(
        commit.message().unwrap(),
        format!(
            "Greet the world\n\nIt was left out.\n\nAgent: bugfix-1\nAgent-Role: bugfix\nTask: TASK-7\nTollgate-Receipt: {}\n",
            called.receipt.id
        )
    );
    assert_eq!(commit.tree().unwrap().iter().count(), 2);
    assert_eq!(world.tip("main"), commit.parent_id(0).unwrap().to_string());
    assert_eq!(server.ok("git_status", json!({})).await["clean"], true);

    let log = server.ok("git_log", json!({})).await;
    assert_eq!(log["commits"].as_array().unwrap().len(), 2);
    assert_eq!(log["commits"][0]["summary"], "Greet the world");
    let diff = server.ok("git_diff", json!({"target": "main...fix/bulk-discount"})).await;
    assert_eq!(diff["files_total"], 2);
    let switched = server.ok("git_checkout", json!({"branch_name": "main"})).await;
    assert_eq!(switched["protected"], true);
    assert_eq!(world.read("README.md"), "hello\n");
    assert!(!world.work().join("src").exists());
    let error = server.refused("git_commit", json!({"message": "x"})).await;
    assert_eq!(error["code"], "protected_branch");
}

#[tokio::test]
async fn calls_are_charged_by_kind() {
    let world = World::new();
    world.file("new.txt", "new\n");
    let server = world.start();
    for (tool, arguments, skus) in [
        ("git_status", json!({}), "git.read"),
        ("git_log", json!({}), "git.read"),
        ("git_diff", json!({}), "git.read"),
        ("git_add", json!({"files": ["new.txt"]}), "git.stage"),
        ("git_commit", json!({"message": "x"}), "git.commit"),
        ("git_create_branch", json!({"branch_name": "topic"}), "git.branch_create"),
        ("git_checkout", json!({"branch_name": "topic"}), "git.switch"),
        ("git_commit", json!({"message": "x"}), ""),
    ] {
        let receipt = server.call(tool, arguments).await.receipt;
        let charged: Vec<String> = receipt.lines.iter().map(|line| line.sku.to_string()).collect();
        assert_eq!(charged.join(" "), skus, "{tool}");
    }
}

#[tokio::test]
async fn first_commit_of_a_repository_is_allowed() {
    let world = World::empty();
    let server = world.start();
    let status = server.ok("git_status", json!({})).await;
    assert_eq!((&status["unborn"], &status["branch"]), (&json!(true), &json!("main")));
    assert_eq!(server.refused("git_create_branch", json!({"branch_name": "x"})).await["code"], "no_commits");
    assert_eq!(server.refused("git_commit", json!({"message": "x"})).await["code"], "nothing_to_commit");
    assert_eq!(server.ok("git_log", json!({})).await["commits"], json!([]));
    world.file("a", "a\n");
    server.ok("git_add", json!({"files": ["a"]})).await;
    let committed = server.ok("git_commit", json!({"message": "first"})).await;
    assert_eq!(committed["parents"], json!([]));
    world.file("a", "b\n");
    server.ok("git_add", json!({"files": ["a"]})).await;
    assert_eq!(server.refused("git_commit", json!({"message": "second"})).await["code"], "protected_branch");
}

#[tokio::test]
async fn operator_says_who_commits() {
    let world = World::new();
    fs::write(
        world.work().join("tollgate.toml"),
        "[git]\nprotected_branches = [\"feature\"]\nauthor = { name = \"Agents\", email = \"agents@example.com\" }\n",
    )
    .unwrap();
    let server = world.start();
    server.ok("git_add", json!({"files": ["tollgate.toml"]})).await;
    assert_eq!(server.refused("git_commit", json!({"message": "x"})).await["code"], "protected_branch");
    // Which branches are protected is the operator's word alone.
    server.ok("git_checkout", json!({"branch_name": "main"})).await;
    server.ok("git_commit", json!({"message": "x"})).await;
    let log = server.ok("git_log", json!({})).await;
    assert_eq!(
        (&log["commits"][0]["author"], &log["commits"][0]["email"]),
        (&json!("Agents"), &json!("agents@example.com"))
    );
}

#[tokio::test]
async fn commit_without_a_name_is_refused() {
    let world = World::new();
    let mut config = world.repository().config().unwrap();
    config.remove("user.name").unwrap();
    config.remove("user.email").unwrap();
    world.file("a", "a\n");
    let server = world.start();
    server.ok("git_add", json!({"files": ["a"]})).await;
    assert_eq!(server.refused("git_commit", json!({"message": "x"})).await["code"], "identity_missing");
    server.ok("git_checkout", json!({"branch_name": "main"})).await;
}

#[tokio::test]
async fn log_is_read_page_by_page() {
    let world = World::new();
    let repository = world.repository();
    for number in 0..25 {
        commit_file(
            &repository,
            if number % 5 == 0 { "five" } else { "other" },
            &number.to_string(),
            &number.to_string(),
        );
    }
    let server = world.start();
    let mut seen: Vec<String> = Vec::new();
    let mut arguments = json!({"max_count": 7});
    loop {
        let page = server.ok("git_log", arguments.clone()).await;
        seen.extend(
            page["commits"].as_array().unwrap().iter().map(|commit| commit["oid"].as_str().unwrap().to_owned()),
        );
        match page.get("cursor") {
            Some(cursor) => arguments["cursor"] = cursor.clone(),
            None => break,
        }
    }
    assert_eq!(seen.len(), 26);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 26);
    let of_one = server.ok("git_log", json!({"path": "five"})).await;
    assert_eq!(of_one["commits"].as_array().unwrap().len(), 5);
    let beyond =
        server.ok("git_log", json!({"cursor": format!("{}.18446744073709551615", world.tip("feature"))})).await;
    assert_eq!(beyond["commits"], json!([]));
    let old = server.ok("git_log", json!({"end_timestamp": "2001-01-01"})).await;
    assert_eq!(old["commits"], json!([]));
}

#[tokio::test]
async fn working_tree_is_compared_as_git_does() {
    let world = World::new();
    let repository = world.repository();
    for (name, content) in
        [("text", "one\ntwo\n"), ("gone", "x\n"), ("moved", "a\nb\nc\nd\ne\n"), ("crlf", "a\nb\n"), ("dir/f", "x\n")]
    {
        commit_file(&repository, name, content, name);
    }
    let server = world.start();
    world.file(".gitattributes", "crlf text\n");
    world.file("text", "one\n2\n");
    world.file("crlf", "a\r\nb\r\n");
    fs::remove_file(world.work().join("gone")).unwrap();
    fs::rename(world.work().join("moved"), world.work().join("here")).unwrap();
    fs::remove_dir_all(world.work().join("dir")).unwrap();
    std::os::unix::fs::symlink("elsewhere", world.work().join("dir")).unwrap();
    world.file("image", "\0\u{1}\0");
    server.ok("git_add", json!({"files": ["here", "moved", "image"]})).await;
    let diff = server.call("git_diff", json!({})).await;
    let files: Vec<(&Value, &Value)> =
        diff.structured["files"].as_array().unwrap().iter().map(|file| (&file["path"], &file["status"])).collect();
    let expected =
        [("dir/f", "deleted"), ("gone", "deleted"), ("image", "added"), ("here", "renamed"), ("text", "modified")];
    let mut expected = expected.map(|(path, status)| (json!(path), json!(status))).to_vec();
    let mut files: Vec<_> = files.into_iter().map(|(path, status)| (path.clone(), status.clone())).collect();
    let key = |entry: &(Value, Value)| entry.0.to_string();
    expected.sort_by_key(key);
    files.sort_by_key(key);
    assert_eq!(files, expected, "{}", diff.text);
    assert!(
        diff.text.contains("-two\n+2\n") && diff.text.contains("rename from moved\nrename to here\n"),
        "{}",
        diff.text
    );
    assert!(diff.text.contains("new file mode 100644") && diff.text.contains("Binary files"), "{}", diff.text);
    assert_eq!(server.ok("git_diff", json!({"path": "gone"})).await["files_total"], 1);
    let wide = server.call("git_diff", json!({"path": "text", "context_lines": 0})).await;
    assert!(!wide.text.contains("\n one\n") && diff.text.contains("\n one\n"));
    // Looking writes nothing.
    let count = |folder: &str| walk(&world.work().join(folder));
    let before = count(".git/objects");
    world.file("text", "never stored\n");
    server.ok("git_diff", json!({})).await;
    assert_eq!(count(".git/objects"), before);
}

fn walk(folder: &std::path::Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { walk(&path) } else { 1 }).sum()
}

#[tokio::test]
async fn switch_leaves_what_git_calls_clean() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let repository = world.repository();
    let server = world.start();
    server.ok("git_create_branch", json!({"branch_name": "topic"})).await;
    server.ok("git_checkout", json!({"branch_name": "topic"})).await;
    world.file(".gitattributes", "*.bat eol=crlf\n");
    world.file("run.bat", "a\r\nb\r\n");
    world.file("script", "#!/bin/sh\n");
    fs::set_permissions(world.work().join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(world.work().join("README.md")).unwrap();
    std::os::unix::fs::symlink("script", world.work().join("README.md")).unwrap();
    world.file("deep/er/file", "x\n");
    server.ok("git_add", json!({"files": ["."]})).await;
    // A submodule is an entry in the index, and nothing more.
    let mut index = repository.index().unwrap();
    index.read(true).unwrap();
    let mut entry = index.get_path("script".as_ref(), 0).unwrap();
    entry.mode = 0o160_000;
    entry.path = b"module".to_vec();
    entry.id = repository.head().unwrap().target().unwrap();
    index.add(&entry).unwrap();
    index.write().unwrap();
    server.ok("git_commit", json!({"message": "x"})).await;
    fs::create_dir(world.work().join("module")).unwrap();
    let clean = || {
        let git = std::process::Command::new("git")
            .args(["status", "--porcelain", "--ignore-submodules=all"])
            .current_dir(world.work())
            .output();
        git.map_or_else(|_| String::new(), |output| String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(clean(), "");
    for _ in 0..2 {
        server.ok("git_checkout", json!({"branch_name": "feature"})).await;
        assert_eq!((clean().as_str(), world.read("README.md").as_str()), ("", "hello\n"));
        assert!(!world.work().join("deep").exists());
        let mut index = repository.index().unwrap();
        index.read(true).unwrap();
        assert_eq!(index.len(), 1);
        server.ok("git_checkout", json!({"branch_name": "topic"})).await;
        assert_eq!((clean().as_str(), world.read("run.bat").as_str()), ("", "a\r\nb\r\n"));
        assert!(world.work().join("README.md").is_symlink());
        let mode = fs::metadata(world.work().join("script")).unwrap().permissions().mode();
        assert_eq!(mode & 0o100, 0o100);
        index.read(true).unwrap();
        assert_eq!(index.get_path("module".as_ref(), 0).unwrap().mode, 0o160_000);
    }
    // What is there already as the branch has it is in nobody's way; what is staged otherwise is.
    server.ok("git_checkout", json!({"branch_name": "feature"})).await;
    world.file("deep/er/file", "x\n");
    server.ok("git_checkout", json!({"branch_name": "topic"})).await;
    server.ok("git_checkout", json!({"branch_name": "feature"})).await;
    world.file("script", "staged\n");
    server.ok("git_add", json!({"files": ["script"]})).await;
    fs::remove_file(world.work().join("script")).unwrap();
    let called = server.call("git_checkout", json!({"branch_name": "topic"})).await;
    assert_eq!(called.structured["error"]["code"], "would_overwrite");
    assert_eq!(called.structured["paths"], json!(["script"]));
}

#[tokio::test]
async fn answers_are_bounded_and_say_so() {
    let world = World::new();
    let long = "d".repeat(200);
    for number in 0..600 {
        world.file(&format!("{long}/{long}/{number}"), &format!("{number}\n"));
        world.file(&format!("u{number}"), "x\n");
    }
    let server = world.start();
    let added = server.ok("git_add", json!({"files": [&long]})).await;
    assert_eq!((&added["staged_total"], added["staged"].as_array().unwrap().len()), (&json!(600), 200));
    let status = server.call("git_status", json!({})).await;
    assert_eq!(status.structured["totals"]["staged"], 600);
    assert_eq!(status.structured["totals"]["untracked"], 600);
    assert_eq!(status.structured["truncated"], true);
    assert!(status.text.len() < 100_000, "{}", status.text.len());
    let all = server.call("git_status", json!({"limit": 18_446_744_073_709_551_615_u64})).await;
    assert_eq!((&all.structured["truncated"], all.is_error), (&json!(false), false));
    let diff = server.call("git_diff", json!({})).await;
    assert_eq!((&diff.structured["files_total"], &diff.structured["truncated"]), (&json!(600), &json!(true)));
    assert!(diff.structured["diff"].as_str().unwrap().len() <= 50_000);
    assert!(diff.text.contains("[cut; 600 files differ, "), "{}", &diff.text[diff.text.len() - 200..]);
    world.file("large", &"line\n".repeat(2_000_000));
    world.file("largest", "");
    fs::File::options().write(true).open(world.work().join("largest")).unwrap().set_len(200 << 20).unwrap();
    assert_eq!(server.refused("git_add", json!({"files": ["largest"]})).await["code"], "cannot_stage");
    server.ok("git_add", json!({"files": ["large"]})).await;
    let diff = server.ok("git_diff", json!({"path": "large"})).await;
    assert_eq!(diff["files"][0]["binary"], true, "{}", diff["files"]);
    server.ok("git_commit", json!({"message": format!("x\n\n{}", "y".repeat(60_000))})).await;
    let log = server.ok("git_log", json!({"max_count": 99_999_999})).await;
    assert_eq!(log["commits"][0]["body_truncated"], true);
}

#[tokio::test]
async fn large_repository_is_quick() {
    let world = World::new();
    // Two thousand files move to other names with other content, so that all of them look alike.
    let content = |number: usize, salt: &str| format!("{}{number} {salt}\n", "the same line\n".repeat(50));
    for number in 0..2000 {
        world.file(&format!("old/{number}"), &content(number, "old"));
    }
    let server = world.start();
    server.ok("git_add", json!({"files": ["old"]})).await;
    server.ok("git_commit", json!({"message": "x"})).await;
    fs::remove_dir_all(world.work().join("old")).unwrap();
    for number in 0..2000 {
        world.file(&format!("new/{number}"), &content(number, "new"));
    }
    for (tool, arguments) in [
        ("git_add", json!({"files": ["."]})),
        ("git_status", json!({})),
        ("git_diff", json!({})),
        ("git_commit", json!({"message": "moved"})),
        ("git_diff", json!({"target": "HEAD~1..HEAD"})),
        ("git_checkout", json!({"branch_name": "main"})),
        ("git_checkout", json!({"branch_name": "feature"})),
    ] {
        let started = Instant::now();
        server.ok(tool, arguments.clone()).await;
        let took = started.elapsed();
        println!("{tool} {arguments}: {took:?}");
        assert!(took < Duration::from_secs(20), "{tool} {arguments} took {took:?}");
    }
    assert_eq!(server.ok("git_status", json!({})).await["clean"], true);
}

#[tokio::test]
async fn tools_fit_their_token_budget() {
    let world = World::empty();
    let tools = world.start().tools().await;
    let bytes: usize = tools
        .iter()
        .map(|tool| {
            let part = |name: &str| tool[name].to_string().len();
            part("name") + part("description") + part("inputSchema")
        })
        .sum();
    let names: Vec<_> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
    println!("{names:?}: {bytes}");
    assert!(bytes < 12_000, "{bytes}");
    for name in ["git_status", "git_log", "git_diff", "git_add", "git_commit", "git_create_branch", "git_checkout"] {
        assert!(names.contains(&name), "{name}");
    }
}
