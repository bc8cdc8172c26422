//! What agents do all day: beside the attacks, each of these works, and says what it did.

use std::fs;

use serde_json::{Value, json};
use tollgate_tests::mcp_process::McpProcess;

use super::world::{World, commit_file};

/// A call that succeeds, and what its answer has at some place.
type Use = (&'static str, &'static str, Value, &'static str, Value);

/// Makes the calls in turn; an expectation of `null` is that nothing is there.
async fn check(server: &McpProcess, uses: Vec<Use>) -> usize {
    let count = uses.len();
    let mut wrong = Vec::new();
    for (name, tool, arguments, place, expected) in uses {
        let answer = server.call(tool, arguments.clone()).await;
        let found = answer.structured.pointer(place).cloned().unwrap_or_default();
        if answer.is_error || found != expected {
            wrong.push(format!("{name}: {tool} {arguments}: {place} is not {expected} in {}", answer.structured));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    count
}

#[tokio::test]
async fn looking_works() {
    let world = World::new();
    let repository = world.repository();
    commit_file(&repository, "src/a.rs", "fn a() {}\nfn b() {}\n", "Add a");
    commit_file(&repository, "src/a.rs", "fn a() {}\nfn c() {}\n", "Change a\n\nBecause b was wrong.");
    commit_file(&repository, "ünïcode/日本 語.txt", "hello\n", "Names in other languages");
    world.git(&["tag", "v1"]);
    world.git(&["tag", "-a", "v2", "-m", "annotated", "HEAD~1"]);
    world.git(&["update-ref", "refs/remotes/origin/feature", "HEAD~1"]);
    world.git(&["config", "branch.feature.remote", "origin"]);
    world.git(&["config", "branch.feature.merge", "refs/heads/feature"]);
    world.git(&["config", "remote.origin.url", "./nowhere"]);
    world.git(&["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"]);
    world.file("src/a.rs", "fn a() {}\nfn d() {}\n");
    world.file("untracked/x", "x\n");
    let server = world.start();
    let short = world.tip("feature")[..8].to_owned();
    let uses: Vec<Use> = vec![
        ("status", "git_status", json!({}), "/branch", json!("feature")),
        ("status of a subfolder", "git_status", json!({"repo_path": "src"}), "/branch", json!("feature")),
        ("status by a whole path", "git_status", json!({"repo_path": world.work()}), "/detached", json!(false)),
        ("what changed", "git_status", json!({}), "/unstaged/0/path", json!("src/a.rs")),
        ("what is new", "git_status", json!({}), "/untracked/0", json!("untracked/")),
        ("ahead of the upstream", "git_status", json!({}), "/upstream/ahead", json!(1)),
        ("a short status", "git_status", json!({"limit": 0}), "/truncated", json!(true)),
        ("the log", "git_log", json!({}), "/commits/0/summary", json!("Names in other languages")),
        ("one commit", "git_log", json!({"max_count": 1}), "/commits/1", Value::Null),
        ("the log of a file", "git_log", json!({"path": "src/a.rs"}), "/commits/1/summary", json!("Add a")),
        ("the log of a folder", "git_log", json!({"path": "src"}), "/commits/2", Value::Null),
        ("the log of a branch", "git_log", json!({"revision": "main"}), "/commits/0/summary", json!("first")),
        ("the log of a tag", "git_log", json!({"revision": "v2"}), "/commits/0/summary", json!("Change a")),
        (
            "the log of an id",
            "git_log",
            json!({"revision": short}),
            "/commits/0/summary",
            json!("Names in other languages"),
        ),
        (
            "the log of a remote branch",
            "git_log",
            json!({"revision": "origin/feature"}),
            "/commits/0/summary",
            json!("Change a"),
        ),
        ("the log since", "git_log", json!({"start_timestamp": "1 hour ago"}), "/commits/3/summary", json!("first")),
        ("the log until", "git_log", json!({"end_timestamp": "2001-01-01"}), "/commits/0", Value::Null),
        ("a body", "git_log", json!({"revision": "HEAD~1"}), "/commits/0/body", json!("Because b was wrong.")),
        ("the diff", "git_diff", json!({}), "/files/0/path", json!("src/a.rs")),
        ("the diff with a branch", "git_diff", json!({"target": "main"}), "/files_total", json!(2)),
        ("the diff of a range", "git_diff", json!({"target": "main..feature"}), "/files_total", json!(2)),
        ("the diff since parting", "git_diff", json!({"target": "main...feature"}), "/files_total", json!(2)),
        ("the diff of a folder", "git_diff", json!({"target": "main..HEAD", "path": "src"}), "/files_total", json!(1)),
        ("the diff without context", "git_diff", json!({"context_lines": 0}), "/files/0/additions", json!(1)),
        ("a short diff", "git_diff", json!({"max_bytes": 10}), "/truncated", json!(true)),
        ("unstaged", "git_diff_unstaged", json!({}), "/files/0/deletions", json!(1)),
        ("staged", "git_diff_staged", json!({}), "/files_total", json!(0)),
        ("a commit", "git_show", json!({"revision": "HEAD"}), "/changes/files/0/path", json!("ünïcode/日本 語.txt")),
        ("a first commit", "git_show", json!({"revision": "main"}), "/changes/files/0/status", json!("added")),
        (
            "a file as it was",
            "git_show",
            json!({"revision": "v2:src/a.rs"}),
            "/content",
            json!("fn a() {}\nfn c() {}\n"),
        ),
        ("a folder as it was", "git_show", json!({"revision": "HEAD:"}), "/entries/0", json!("README.md")),
        (
            "a file of another language",
            "git_show",
            json!({"revision": "HEAD:ünïcode/日本 語.txt"}),
            "/content",
            json!("hello\n"),
        ),
        ("branches", "git_branch", json!({}), "/total", json!(4)),
        (
            "branches of remotes",
            "git_branch",
            json!({"branch_type": "remote"}),
            "/branches/0/name",
            json!("origin/feature"),
        ),
        ("all branches", "git_branch", json!({"branch_type": "all"}), "/total", json!(5)),
        ("branches with a commit", "git_branch", json!({"contains": "v1"}), "/total", json!(1)),
        ("branches without", "git_branch", json!({"not_contains": "v1"}), "/total", json!(3)),
        ("lines", "git_blame", json!({"path": "src/a.rs"}), "/truncated", json!(false)),
        ("a preview of nothing", "git_merge_preview", json!({"source": "main"}), "/result", json!("up_to_date")),
        (
            "a preview",
            "git_merge_preview",
            json!({"source": "feature", "target": "main"}),
            "/result",
            json!("fast_forward"),
        ),
        ("worktrees", "git_worktree_list", json!({}), "/worktrees", json!([])),
        ("the trail", "git_audit_trail", json!({}), "/entries", json!([])),
    ];
    println!("{} uses", check(&server, uses).await);
    world.fsck();
}

#[tokio::test]
async fn working_works() {
    let world = World::new();
    let server = world.start();
    let file = |name: &str, content: &str| world.file(name, content);
    let mut uses = 0;
    let add = |files: Value, place: &'static str, expected: Value| {
        ("add", "git_add", json!({"files": files}), place, expected)
    };
    let commit = |message: &str, place: &'static str, expected: Value| {
        ("commit", "git_commit", json!({"message": message}), place, expected)
    };
    let create = |name: &str, place: &'static str, expected: Value| {
        ("create", "git_create_branch", json!({"branch_name": name}), place, expected)
    };
    let checkout = |name: &str, place: &'static str, expected: Value| {
        ("checkout", "git_checkout", json!({"branch_name": name}), place, expected)
    };
    for name in
        ["a.txt", "b c.txt", "-option.txt", "deep/er/x.txt", "main", "HEAD", "größe.txt", "*.txt", ":(top)", ".hidden"]
    {
        file(name, "new\n");
    }
    uses += check(
        &server,
        vec![
            create("fix/typo", "/branch", json!("fix/typo")),
            create("maintenance", "/branch", json!("maintenance")),
            create(
                "dependabot/npm_and_yarn/left-pad-1.2.3",
                "/branch",
                json!("dependabot/npm_and_yarn/left-pad-1.2.3"),
            ),
            create("größe", "/branch", json!("größe")),
            create("release-notes", "/branch", json!("release-notes")),
            create("user/main", "/branch", json!("user/main")),
            (
                "from a tag's commit",
                "git_create_branch",
                json!({"branch_name": "t", "base_branch": "HEAD"}),
                "/branch",
                json!("t"),
            ),
            (
                "from a protected branch",
                "git_create_branch",
                json!({"branch_name": "p", "base_branch": "main"}),
                "/branch",
                json!("p"),
            ),
            checkout("fix/typo", "/previous", json!("feature")),
            add(json!(["a.txt"]), "/staged/0/status", json!("added")),
            add(json!(["a.txt"]), "/staged_total", json!(0)),
            add(json!(["b c.txt", "-option.txt"]), "/staged_total", json!(2)),
            add(json!(["deep"]), "/staged/0/path", json!("deep/er/x.txt")),
            add(json!(["main", "HEAD"]), "/staged_total", json!(2)),
            add(json!(["*.txt"]), "/staged/0/path", json!("*.txt")),
            add(json!([":(top)"]), "/staged/0/path", json!(":(top)")),
            ("unstage one", "git_reset", json!({"files": ["a.txt"]}), "/unstaged", json!(1)),
            ("unstage a folder", "git_reset", json!({"files": ["deep"]}), "/unstaged", json!(1)),
            ("unstage all", "git_reset", json!({}), "/unstaged", json!(6)),
            add(json!(["."]), "/staged_total", json!(10)),
            commit("Add files", "/files_changed", json!(10)),
        ],
    )
    .await;
    file("a.txt", "changed\n");
    fs::remove_file(world.work().join("b c.txt")).unwrap();
    fs::rename(world.work().join("deep/er/x.txt"), world.work().join("moved.txt")).unwrap();
    uses += check(
        &server,
        vec![
            add(json!(["b c.txt"]), "/staged/0/status", json!("deleted")),
            commit("Remove b\n\nNobody used it.\n\nFixes: #12", "/branch", json!("fix/typo")),
            add(json!(["."]), "/staged_total", json!(3)),
            ("a rename is seen", "git_status", json!({}), "/staged/1/from", json!("deep/er/x.txt")),
            commit("feat(core)!: größer – 日本語 🎉", "/summary", json!("feat(core)!: größer – 日本語 🎉")),
            checkout("main", "/protected", json!(true)),
            checkout("fix/typo", "/protected", json!(false)),
            checkout("feature", "/branch", json!("feature")),
            ("fast-forward", "git_merge", json!({"source": "fix/typo"}), "/result", json!("fast_forward")),
            ("nothing to merge", "git_merge", json!({"source": "main"}), "/result", json!("up_to_date")),
            checkout("p", "/branch", json!("p")),
            (
                "a commit without need",
                "git_merge",
                json!({"source": "fix/typo", "mode": "no_ff"}),
                "/result",
                json!("merge"),
            ),
            checkout("t", "/branch", json!("t")),
            (
                "a squash",
                "git_merge",
                json!({"source": "fix/typo", "mode": "squash", "message": "All of it"}),
                "/result",
                json!("squash"),
            ),
            (
                "delete what is merged",
                "git_delete_branch",
                json!({"branch_name": "maintenance"}),
                "/branch",
                json!("maintenance"),
            ),
            (
                "delete what is not",
                "git_delete_branch",
                json!({"branch_name": "p", "force": true}),
                "/branch",
                json!("p"),
            ),
            (
                "a worktree",
                "git_worktree_add",
                json!({"path": "tree", "branch_name": "in-tree"}),
                "/created",
                json!(true),
            ),
            ("status there", "git_status", json!({"repo_path": "tree"}), "/branch", json!("in-tree")),
            ("the list", "git_worktree_list", json!({}), "/worktrees/0/branch", json!("in-tree")),
            ("its end", "git_worktree_remove", json!({"name": "tree"}), "/was_missing", json!(false)),
            (
                "the trail",
                "git_audit_trail",
                json!({"operation": "committed"}),
                "/entries/2/action",
                json!("committed"),
            ),
        ],
    )
    .await;
    // A remote.
    world.git(&["init", "-q", "--bare", "remote.git"]);
    world.git(&["remote", "add", "origin", "./remote.git"]);
    world.file(".git/info/exclude", "remote.git\n");
    uses += check(
        &server,
        vec![
            ("push", "git_push", json!({}), "/branch", json!("t")),
            ("push again", "git_push", json!({}), "/forced", json!(false)),
            ("push another", "git_push", json!({"branch": "fix/typo"}), "/remote", json!("origin")),
            ("fetch", "git_fetch", json!({}), "/updated_total", json!(0)),
            ("fetch one", "git_fetch", json!({"branch": "t"}), "/remote", json!("origin")),
            ("pull", "git_pull", json!({}), "/result", json!("up_to_date")),
            ("fetch and forget", "git_fetch", json!({"prune": true}), "/updated_total", json!(0)),
        ],
    )
    .await;
    println!("{uses} uses");
    world.fsck();
}
