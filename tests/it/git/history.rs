//! What git_log finds.

use serde_json::json;

use super::world::{World, commit_file};

#[tokio::test]
async fn commits_are_found_by_author_words_and_range() {
    let world = World::new();
    commit_file(&world.repository(), "a.txt", "a\n", "Fix the Parser");
    world.file("b.txt", "b\n");
    world.git(&["add", "b.txt"]);
    world.git(&["commit", "-q", "-m", "second\n\nsays why: [the parser]*"]);
    let server = world.start();
    for (arguments, expected) in [
        (json!({"author": "OTHER@example"}), vec!["second"]),
        (json!({"author": "test"}), vec!["Fix the Parser", "first"]),
        (json!({"grep": "the parser"}), vec!["second", "Fix the Parser"]),
        (json!({"grep": "[the parser]*"}), vec!["second"]),
        (json!({"grep": ".*"}), vec![]),
        (json!({"grep": "parser", "author": "other"}), vec!["second"]),
        (json!({"revision": "main..feature"}), vec!["second", "Fix the Parser"]),
        (json!({"revision": "main.."}), vec!["second", "Fix the Parser"]),
        (json!({"revision": "feature..main"}), vec![]),
        (json!({"revision": "main..feature", "path": "b.txt"}), vec!["second"]),
    ] {
        let log = server.ok("git_log", arguments.clone()).await;
        let found: Vec<&str> =
            log["commits"].as_array().unwrap().iter().map(|commit| commit["summary"].as_str().unwrap()).collect();
        assert_eq!(found, expected, "{arguments}");
    }
    let first = server.ok("git_log", json!({"revision": "main..feature", "max_count": 1})).await;
    let next = server.ok("git_log", json!({"revision": "main..feature", "cursor": first["cursor"]})).await;
    assert_eq!(next["commits"][0]["summary"], "Fix the Parser");
    assert_eq!(next["commits"].as_array().unwrap().len(), 1);
    for (arguments, code) in [
        (json!({"author": ""}), "invalid_arguments"),
        (json!({"grep": "x".repeat(501)}), "invalid_arguments"),
        (json!({"revision": "main...feature"}), "invalid_revision"),
        (json!({"revision": "--all..main"}), "invalid_revision"),
        (json!({"revision": "nothing..main"}), "unknown_revision"),
    ] {
        assert_eq!(server.refused("git_log", arguments.clone()).await["code"], code, "{arguments}");
    }
}
