//! `verify_changes` over stdio: real repositories, before and after.

use std::fs;
use std::path::{Path, PathBuf};

use git2::{Commit, IndexAddOption, Oid, Repository, Signature};
use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_shared::config::Settings;
use tollgate_shared::ledger::verified::{TreeQuery, TreeVerdict, look_up};
use tollgate_tests::mcp_process::McpProcess;

const SHOP: &str = "def total(prices):\n    return sum(prices)\n";
const TESTS: &str = "from shop import total\n\n\ndef test_total():\n    assert total([1, 2]) == 3\n";

/// A workspace that is a repository with code and a test on `main`, at the branch `feature`.
struct World {
    folder: TempDir,
    repository: Repository,
}

impl World {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let work = folder.path().join("work");
        fs::create_dir_all(&work).unwrap();
        let repository = Repository::init(&work).unwrap();
        repository.set_head("refs/heads/main").unwrap();
        let world = Self { folder, repository };
        world.write("tollgate.toml", "[ralph]\nroots = [\".\"]\n");
        world.write(".gitignore", ".tollgate/\n");
        world.write("shop.py", SHOP);
        world.write("tests/test_shop.py", TESTS);
        let first = world.commit();
        world.repository.branch("feature", &world.repository.find_commit(first).unwrap(), false).unwrap();
        world.repository.set_head("refs/heads/feature").unwrap();
        world
    }

    fn work(&self) -> PathBuf {
        fs::canonicalize(self.folder.path()).unwrap().join("work")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.work().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn stage(&self) -> Oid {
        let mut index = self.repository.index().unwrap();
        index.add_all(["*"], IndexAddOption::DEFAULT, None).unwrap();
        index.update_all(["*"], None).unwrap();
        index.write().unwrap();
        index.write_tree().unwrap()
    }

    fn commit(&self) -> Oid {
        let tree = self.repository.find_tree(self.stage()).unwrap();
        let who = Signature::now("a", "a@example.invalid").unwrap();
        let parent = self.repository.head().ok().and_then(|head| head.peel_to_commit().ok());
        let parents: Vec<&Commit<'_>> = parent.iter().collect();
        self.repository.commit(Some("HEAD"), &who, &who, "change", &tree, &parents).unwrap()
    }

    fn tree(&self, revision: &str) -> String {
        self.repository.revparse_single(revision).unwrap().peel_to_tree().unwrap().id().to_string()
    }

    fn start(&self) -> McpProcess {
        McpProcess::start("mcp-ralph", &self.work(), &[], &[])
    }

    /// What a merge gate would be told of putting `tree` in the place of `replaces`.
    fn gate(&self, tree: &str, replaces: &str) -> TreeVerdict {
        let text = fs::read_to_string(self.work().join("tollgate.toml")).unwrap();
        let path = self.work().join("tollgate.toml");
        let settings: Settings<Empty> = Settings::parse("git", &text, &path, self.work(), &|_| None).unwrap();
        let query = TreeQuery {
            repository: self.work().join(".git").to_str().unwrap().to_owned(),
            tree: tree.to_owned(),
            replaces: vec![replaces.to_owned()],
            configuration: settings.ralph_rules,
        };
        look_up(&self.work().join(".tollgate/ledger.db"), &query, &|| false).unwrap()
    }
}

#[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
struct Empty {}

fn rules(answer: &Value) -> Vec<&str> {
    answer["findings"].as_array().unwrap().iter().map(|found| found["finding"]["rule"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn change_is_told_from_what_stood_before() {
    let world = World::new();
    world.write("old.py", "import os  # noqa\nos.system(input())\n");
    world.commit();
    world
        .repository
        .reference("refs/heads/main", world.repository.head().unwrap().target().unwrap(), true, "")
        .unwrap();
    let ralph = world.start();

    let nothing = ralph.ok("verify_changes", json!({})).await;
    assert_eq!((&nothing["verdict"], &nothing["safe_to_merge"]), (&json!("skipped"), &json!(false)), "{nothing}");

    world.write("old.py", "\"\"\"Old.\"\"\"\n\nimport os  # noqa\nos.system(input())\n");
    world.write("shop.py", "def total(prices):\n    return sum(prices, 0)\n");
    let call = ralph.call("verify_changes", json!({})).await;
    let fine = call.structured;
    assert_eq!((&fine["verdict"], &fine["safe_to_merge"]), (&json!("pass"), &json!(true)), "{fine}");
    assert!(fine["existing"].as_array().unwrap().len() >= 2, "{fine}");
    assert_eq!(fine["files_changed"], 2);
    let skus: Vec<&str> = call.receipt.lines.iter().map(|line| line.sku.as_str()).collect();
    for sku in ["ralph.base", "ralph.check.guardrail", "ralph.check.syntax", "ralph.check.security"] {
        assert!(skus.contains(&sku), "{skus:?}");
    }

    world.write("new.py", "import os\nos.system(input())\n");
    let worse = ralph.ok("verify_changes", json!({})).await;
    assert_eq!((&worse["verdict"], &worse["safe_to_merge"]), (&json!("blocked"), &json!(false)), "{worse}");
    assert_eq!(worse["findings"][0]["path"], "new.py");

    // Only some checks: a pass, and yet not safe to merge.
    let some = ralph.ok("verify_changes", json!({"checks": ["guardrail"]})).await;
    assert_eq!((&some["verdict"], &some["safe_to_merge"]), (&json!("pass"), &json!(false)), "{some}");
    assert!(some["reason"].as_str().unwrap().contains("not every check"), "{some}");
}

#[tokio::test]
async fn evasion_blocks_wherever_it_lies() {
    let evade = |world: &World| {
        world.write("tests/test_shop.py", "from shop import total\n\n\ndef test_total():\n    assert total([1, 2])\n");
    };
    let expect = async |world: &World, what: &str| {
        let ralph = world.start();
        let answer = ralph.ok("verify_changes", json!({})).await;
        assert_eq!(answer["verdict"], "blocked", "{what}: {answer}");
        assert_eq!(answer["safe_to_merge"], false);
        assert_eq!(rules(&answer), ["guardrail.assertion_weakened"], "{what}: {answer}");
    };

    let world = World::new();
    evade(&world);
    expect(&world, "in the working tree").await;

    world.stage();
    expect(&world, "staged").await;

    // A commit would take what is staged, whatever lies there now.
    world.write("tests/test_shop.py", TESTS);
    expect(&world, "staged, and put back in the working tree").await;

    evade(&world);
    world.commit();
    expect(&world, "committed to the branch").await;

    world.write("shop.py", "def total(prices):\n    return sum(prices, 0)\n");
    world.commit();
    expect(&world, "committed before another commit").await;

    // Times and flags that tell git to look away tell nothing here.
    let world = World::new();
    let mut index = world.repository.index().unwrap();
    let mut entry = index.get_path(Path::new("tests/test_shop.py"), 0).unwrap();
    entry.flags |= 0x8000;
    index.add(&entry).unwrap();
    index.write().unwrap();
    evade(&world);
    let ralph = world.start();
    let answer = ralph.ok("verify_changes", json!({})).await;
    let found = rules(&answer);
    assert!(found.contains(&"guardrail.assertion_weakened") && found.contains(&"guardrail.changes_hidden"), "{answer}");
}

#[tokio::test]
async fn base_that_leaves_commits_out_is_not_safe() {
    let world = World::new();
    world.write("tests/test_shop.py", "from shop import total\n");
    world.commit();
    world.write("shop.py", "def total(prices):\n    return sum(prices, 0)\n");
    let ralph = world.start();
    let answer = ralph.ok("verify_changes", json!({"base": "HEAD"})).await;
    assert_eq!((&answer["verdict"], &answer["safe_to_merge"]), (&json!("pass"), &json!(false)), "{answer}");
    for (base, verdict) in
        [("main", "blocked"), ("HEAD~1", "blocked"), ("refs/heads/main", "blocked"), ("HEAD~0", "pass")]
    {
        let answer = ralph.ok("verify_changes", json!({ "base": base })).await;
        assert_eq!(answer["verdict"], verdict, "{base}: {answer}");
    }
    for (arguments, code) in [
        (json!({"base": "no-such"}), "unknown_revision"),
        (json!({"base": "HEAD~99"}), "unknown_revision"),
        (json!({"base": "--help"}), "invalid_arguments"),
        (json!({"base": ""}), "invalid_arguments"),
        (json!({"base": "a\nb"}), "invalid_arguments"),
        (json!({"base": "../../outside"}), "unknown_revision"),
        (json!({"checks": ["none"]}), "unknown_check"),
        (json!({"cursor": "x"}), "invalid_arguments"),
        (json!({"repo_path": ".."}), "path_outside_root"),
        (json!({"repo_path": "/etc"}), "path_outside_root"),
        (json!({"safe": true}), "invalid_arguments"),
    ] {
        assert_eq!(ralph.refused("verify_changes", arguments.clone()).await["code"], code, "{arguments}");
    }
}

#[tokio::test]
async fn verified_tree_is_found_by_a_merge_gate() {
    let world = World::new();
    let ralph = world.start();
    let main = world.tree("main");
    world.write("shop.py", "def total(prices):\n    return sum(prices, 0)\n");
    world.write("shop/a-b.py", "x = 1\n");
    world.write("shop/a/b.py", "x = 1\n");
    let staged = world.stage().to_string();

    // What is not all of the working tree is not recorded.
    world.write("untracked.py", "x = 1\n");
    assert_eq!(ralph.ok("verify_changes", json!({})).await["verdict"], "pass");
    assert_eq!(world.gate(&staged, &main), TreeVerdict::Missing);
    fs::remove_file(world.work().join("untracked.py")).unwrap();
    // Nor what not every check looked at.
    assert_eq!(ralph.ok("verify_changes", json!({"checks": ["guardrail", "syntax"]})).await["verdict"], "pass");
    assert_eq!(world.gate(&staged, &main), TreeVerdict::Missing);

    let answer = ralph.ok("verify_changes", json!({})).await;
    assert_eq!(answer["safe_to_merge"], true, "{answer}");
    assert!(matches!(world.gate(&staged, &main), TreeVerdict::Pass(_)), "{:?}", world.gate(&staged, &main));
    assert_eq!(world.gate(&staged, &"0".repeat(40)), TreeVerdict::OtherBase);
    assert_eq!(world.gate(&main, &main), TreeVerdict::Missing);
    // Git computes the same tree of the commit.
    world.commit();
    assert_eq!(world.tree("HEAD"), staged);

    world.write("tests/test_shop.py", "from shop import total\n");
    world.commit();
    assert_eq!(ralph.ok("verify_changes", json!({})).await["verdict"], "blocked");
    assert_eq!(world.gate(&world.tree("HEAD"), &main), TreeVerdict::NotPass("blocked".to_owned()));
    // The rules that it was verified by are those in force.
    world.write("tollgate.toml", "[ralph]\nroots = [\".\"]\ncache_entries_max = 7\n");
    assert_eq!(world.gate(&staged, &main), TreeVerdict::Outdated);
}
