//! The operator's commands behind mcp-ralph: what is a pass, what is none, and what an agent's files cannot do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;
use tollgate_tests::mcp_process::McpProcess;

/// A workspace with a command that is a script of the operator's, outside of it.
struct World {
    folder: TempDir,
}

impl World {
    fn new(script: &str, settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = Self { folder };
        fs::create_dir_all(world.path("workspace/src")).unwrap();
        fs::create_dir_all(world.path("tools")).unwrap();
        let tool = world.path("tools/tool");
        fs::write(&tool, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        let tool = tool.display();
        world.write(
            "tollgate.toml",
            &format!(
                "[ralph.commands.tool]\ncheck = \"linting\"\nlanguages = [\"python\"]\nparse = \"regex\"\n\
                 pattern = '^(?P<path>[^:]+):(?P<line>\\d+): (?P<message>.+)$'\nrun = [\"{tool}\", \"{{path}}\"]\n{settings}"
            ),
        );
        world.write("src/a.py", "x = 1\n");
        world.write("src/b.py", "y = 2\n");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path("workspace").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn start(&self) -> McpProcess {
        McpProcess::start("mcp-ralph", &self.path("workspace"), &[], &[])
    }
}

const GREP: &str = r#"found=0
for file in "$@"; do grep -n TODO "$file" | sed "s|^\([0-9]*\):.*|$file:\1: a task is left|" && grep -q TODO "$file" && found=1; done
exit $found"#;

fn linting(answer: &Value) -> &Value {
    answer["checks"].as_array().unwrap().iter().find(|check| check["check"] == "linting").unwrap()
}

#[tokio::test]
async fn findings_of_a_command_are_those_of_its_check() {
    let world = World::new(GREP, "");
    world.write("src/b.py", "# TODO\n");
    let ralph = world.start();
    let clean = ralph.ok("verify_file", json!({"path": "src/a.py"})).await;
    assert_eq!((&clean["verdict"], &linting(&clean)["verdict"]), (&json!("pass"), &json!("pass")), "{clean}");
    assert_eq!(clean["cost_usd"], "0.0022");
    let again = ralph.ok("verify_file", json!({"path": "src/a.py"})).await;
    assert_eq!((&again["cached"], &again["cost_usd"]), (&json!(true), &json!("0")), "{again}");
    let found = ralph.ok("verify_file", json!({"path": "src/b.py", "checks": ["linting"]})).await;
    assert_eq!(found["verdict"], "fail", "{found}");
    assert_eq!(linting(&found)["findings"][0]["line"], 1);
    assert_eq!(found["cost_usd"], "0.0013");
    // What is about to be written, not what is there.
    let given = ralph.ok("verify_file", json!({"path": "src/b.py", "content": "z = 3\n"})).await;
    assert_eq!(given["verdict"], "pass", "{given}");
    let given = ralph.ok("verify_file", json!({"path": "src/new/c.py", "content": "\n# TODO\n"})).await;
    assert_eq!((&given["verdict"], &linting(&given)["findings"][0]["line"]), (&json!("fail"), &json!(2)), "{given}");
    let batch = ralph.ok("verify_batch", json!({"globs": ["**/*.py"]})).await;
    assert_eq!((&batch["verdict"], &batch["counts"]), (&json!("fail"), &json!({"fail": 1, "pass": 1})), "{batch}");
}

#[tokio::test]
async fn what_cannot_be_relied_on_is_inconclusive_and_not_remembered() {
    for (script, settings) in [
        ("exit 3", ""),
        ("echo 'src/a.py:1: bad'; exit 0", ""),
        ("kill -9 $$", ""),
        ("sleep 60", "timeout_ms = 500\n"),
        ("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done", ""),
    ] {
        let world = World::new(script, settings);
        let ralph = world.start();
        for _ in 0..2 {
            let answer = ralph.ok("verify_file", json!({"path": "src/a.py", "checks": ["linting"]})).await;
            assert_eq!(answer["verdict"], "inconclusive", "{script}: {answer}");
            assert_eq!(answer["cached"], false, "{script}: {answer}");
        }
    }
    let world = World::new("exit 0", "");
    fs::remove_file(world.path("tools/tool")).unwrap();
    let answer = world.start().ok("verify_file", json!({"path": "src/a.py"})).await;
    assert_eq!(answer["verdict"], "inconclusive", "{answer}");
}

#[tokio::test]
async fn command_sees_a_copy_and_nothing_else() {
    let script = r#"for target in "$HOME_OF_OPERATOR" /root/.ssh /etc/shadow; do cat "$target"/* "$target" 2>/dev/null && echo "$1:1: read $target"; done
ls .tollgate >/dev/null 2>&1 && echo "$1:2: the state is here"
[ -f ignored/secret ] && echo "$1:3: an ignored file is here"
[ -f "$2" ] || true
echo changed > "$1" || echo "$1:4: the copy cannot be written"
echo escaped > "$ORIGINAL/src/a.py" && echo "$1:5: the original was written"
exit 0"#;
    let world = World::new(script, "");
    let original = world.path("workspace");
    let settings = fs::read_to_string(original.join("tollgate.toml")).unwrap();
    let settings = format!("{settings}environment = {{ ORIGINAL = \"{}\" }}\n", original.display());
    world.write("tollgate.toml", &settings);
    world.write(".gitignore", "ignored\n");
    world.write("ignored/secret", "SECRET");
    let answer = world.start().ok("verify_file", json!({"path": "src/a.py"})).await;
    assert_eq!(answer["verdict"], "pass", "{answer}");
    assert_eq!(fs::read_to_string(original.join("src/a.py")).unwrap(), "x = 1\n");
}

#[tokio::test]
async fn paths_are_never_options() {
    let world = World::new(
        "for argument in \"$@\"; do case \"$argument\" in -*) echo \"$argument:1: an option\"; exit 1;; esac; done",
        "",
    );
    world.write("--fix.py", "x = 1\n");
    world.write("-rf", "x");
    let answer = world.start().ok("verify_batch", json!({"globs": ["*.py"]})).await;
    assert_eq!(answer["verdict"], "pass", "{answer}");
}

#[tokio::test]
async fn results_depend_on_what_the_command_depends_on() {
    let world = World::new(GREP, "");
    let ralph = world.start();
    let path = json!({"path": "src/a.py", "checks": ["linting"]});
    assert_eq!(ralph.ok("verify_file", path.clone()).await["cached"], false);
    assert_eq!(ralph.ok("verify_file", path.clone()).await["cached"], true);
    // Another file of the project, which this command may look at.
    world.write("setup.cfg", "[x]\n");
    assert_eq!(ralph.ok("verify_file", path.clone()).await["cached"], false);
    // Another version of the tool.
    let tool = world.path("tools/tool");
    let text = fs::read_to_string(&tool).unwrap();
    fs::write(&tool, format!("{text}\n# another\n")).unwrap();
    assert_eq!(ralph.ok("verify_file", path).await["cached"], false);
}

#[tokio::test]
async fn wrong_settings_are_refused_at_the_start() {
    for (settings, reason) in [
        ("[ralph.commands.x]\npreset = \"rufff\"\n", "did you mean `ruff`"),
        ("[ralph.commands.x]\ncheck = \"linting\"\n", "what to run"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tollgate.toml"), settings).unwrap();
        let output = std::process::Command::new(tollgate_tests::world::program("mcp-ralph"))
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(reason), "{output:?}");
    }
}

/// Makes a repository of the world, with everything that lies there as the commit of `main`, and starts a branch.
fn repository(world: &World) -> git2::Repository {
    let repository = git2::Repository::init(world.path("workspace")).unwrap();
    repository.set_head("refs/heads/main").unwrap();
    world.write(".gitignore", ".tollgate\n");
    let tree = staged(&repository);
    let who = git2::Signature::now("a", "a@example.invalid").unwrap();
    let first = {
        let tree = repository.find_tree(tree).unwrap();
        repository.commit(Some("HEAD"), &who, &who, "first", &tree, &[]).unwrap()
    };
    repository.branch("feature", &repository.find_commit(first).unwrap(), false).unwrap();
    repository.set_head("refs/heads/feature").unwrap();
    repository
}

fn staged(repository: &git2::Repository) -> git2::Oid {
    let mut index = repository.index().unwrap();
    index.add_all(["*"], git2::IndexAddOption::DEFAULT, None).unwrap();
    index.update_all(["*"], None).unwrap();
    index.write().unwrap();
    index.write_tree().unwrap()
}

/// The findings of the commands: those that a change adds, and how many it found.
fn of_commands(answer: &Value) -> (Vec<String>, usize) {
    let linting = |list: &str| {
        let found = answer[list].as_array().unwrap().iter().filter(|found| found["check"] == "linting");
        found.map(|found| format!("{}:{}", found["path"].as_str().unwrap(), found["finding"]["line"])).collect()
    };
    let existing: Vec<String> = linting("existing");
    (linting("findings"), existing.len())
}

#[tokio::test]
async fn change_answers_for_what_it_adds_to_what_commands_found_before() {
    let world = World::new(GREP, "");
    world.write("src/old.py", "# TODO one\nx = 1\n");
    let repository = repository(&world);
    let ralph = world.start();
    let verify = async || ralph.ok("verify_changes", json!({})).await;

    world.write("src/old.py", "y = 2\n\n# TODO one\nx = 1\n");
    let fine = verify().await;
    assert_eq!((&fine["verdict"], &fine["safe_to_merge"]), (&json!("pass"), &json!(true)), "{fine}");
    assert_eq!(of_commands(&fine), (vec![], 1), "{fine}");
    assert_eq!(fine["existing"][0]["finding"]["excerpt"], "# TODO one");

    world.write("src/a.py", "x = 1\n# TODO two\n");
    let worse = verify().await;
    assert_eq!((&worse["verdict"], &worse["safe_to_merge"]), (&json!("fail"), &json!(false)), "{worse}");
    assert_eq!(of_commands(&worse), (vec!["src/a.py:2".to_owned()], 1), "{worse}");
    let sarif = ralph.ok("verify_changes", json!({"format": "sarif"})).await;
    let states = sarif["sarif"]["runs"][0]["results"].as_array().unwrap().iter();
    let states: Vec<&str> = states.map(|result| result["baselineState"].as_str().unwrap()).collect();
    assert_eq!(states, ["new", "unchanged"], "{sarif}");

    // What a commit would take is run as well, whatever lies there instead.
    staged(&repository);
    world.write("src/a.py", "x = 1\n");
    let hidden = verify().await;
    assert_eq!(of_commands(&hidden).0, ["src/a.py:2"], "{hidden}");

    // Not asked for is not safe.
    staged(&repository);
    let some = ralph.ok("verify_changes", json!({"checks": ["syntax", "security", "guardrail"]})).await;
    assert_eq!((&some["verdict"], &some["safe_to_merge"]), (&json!("pass"), &json!(false)), "{some}");
    assert_eq!(verify().await["safe_to_merge"], true);
}

#[tokio::test]
async fn command_of_the_whole_project_sees_the_change_as_git_would_keep_it() {
    let script = "found=0; grep -rl BAD . | sed 's|$|:1: it is bad|' | grep . && found=1; exit $found";
    let world = World::new(script, "scope = \"project\"\n");
    let toml = fs::read_to_string(world.path("workspace/tollgate.toml")).unwrap();
    world.write("tollgate.toml", &toml.replace(", \"{path}\"", ""));
    world.write("data.txt", "good\n");
    world.write("kept.txt", "good\n");
    let _repository = repository(&world);
    let ralph = world.start();
    world.write("src/a.py", "x = 2\n");
    let fine = ralph.ok("verify_changes", json!({})).await;
    assert_eq!((&fine["verdict"], &fine["safe_to_merge"]), (&json!("pass"), &json!(true)), "{fine}");
    // A file of another language, and one that git keeps although it is told to ignore it.
    world.write("data.txt", "BAD\n");
    world.write("kept.txt", "BAD\n");
    world.write(".gitignore", ".tollgate\nkept.txt\n");
    let worse = ralph.ok("verify_changes", json!({"checks": ["linting"]})).await;
    assert_eq!(of_commands(&worse), (vec!["data.txt:1".to_owned(), "kept.txt:1".to_owned()], 0), "{worse}");
    // Neither `.ignore` nor the exclusions of one clone hide anything.
    world.write(".ignore", "data.txt\n");
    world.write(".git/info/exclude", "data.txt\n");
    let hidden = ralph.ok("verify_changes", json!({"checks": ["linting"]})).await;
    assert_eq!(of_commands(&hidden).0, ["data.txt:1", "kept.txt:1"], "{hidden}");
}

#[tokio::test]
async fn command_that_cannot_tell_is_no_pass_of_a_change() {
    let world = World::new("exit 3", "");
    let _repository = repository(&world);
    world.write("src/a.py", "x = 2\n");
    let answer = world.start().ok("verify_changes", json!({})).await;
    assert_eq!((&answer["verdict"], &answer["safe_to_merge"]), (&json!("inconclusive"), &json!(false)), "{answer}");
}

#[tokio::test]
async fn verified_tree_is_of_the_tools_that_verified_it() {
    let world = World::new(GREP, "");
    let repository = repository(&world);
    world.write("src/a.py", "x = 2\n");
    staged(&repository);
    let ralph = world.start();
    let rules = async || {
        let ledger = world.path("workspace/.tollgate/ledger.db");
        let mut open = SqliteConnectOptions::new().filename(ledger).read_only(true).connect().await.unwrap();
        let sql = "SELECT body FROM entry WHERE kind = 'audit' ORDER BY seq DESC LIMIT 1";
        let body: String = sqlx::query_scalar(sql).fetch_one(&mut open).await.unwrap();
        let entry: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(entry["detail"]["verdict"], "pass", "{entry}");
        assert!(entry["detail"]["checks"].as_array().unwrap().contains(&json!("linting")), "{entry}");
        entry["detail"]["rules"].clone()
    };
    ralph.ok("verify_changes", json!({})).await;
    let before = rules().await;
    ralph.ok("verify_changes", json!({})).await;
    assert_eq!(before, rules().await);
    let tool = world.path("tools/tool");
    fs::write(&tool, format!("{}\n# another\n", fs::read_to_string(&tool).unwrap())).unwrap();
    ralph.ok("verify_changes", json!({})).await;
    assert_ne!(before, rules().await);
}

/// A small crate with the three presets of a Rust machine.
fn rust_world(library: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("src")).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("Cargo.toml", "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
    write("src/lib.rs", library);
    write(
        "tollgate.toml",
        "[ralph.commands.clippy]\npreset = \"clippy\"\n[ralph.commands.rustfmt]\npreset = \"rustfmt\"\n\
         [ralph.commands.tests]\npreset = \"cargo-test\"\n",
    );
    folder
}

async fn rust_verdicts(library: &str) -> Value {
    let world = rust_world(library);
    let ralph = McpProcess::start("mcp-ralph", world.path(), &[], &[]);
    let checks = json!(["formatting", "linting", "tests"]);
    let answer = ralph.ok("verify_file", json!({"path": "src/lib.rs", "checks": checks})).await;
    let verdict = |check: &Value| (check["check"].as_str().unwrap().to_owned(), check["verdict"].clone());
    let verdicts = answer["checks"].as_array().unwrap().iter().map(verdict).collect::<serde_json::Map<_, _>>();
    assert_eq!(verdicts.len(), 3, "{answer}");
    if verdicts.values().all(|verdict| verdict == "inconclusive") {
        panic!("nothing ran: {answer}");
    }
    Value::Object(verdicts)
}

#[tokio::test]
async fn clippy_rustfmt_and_cargo_test_judge_a_crate() {
    let good = "/// Doubles.\npub fn double(number: u32) -> u32 {\n    number * 2\n}\n\n#[test]\nfn doubles() {\n    assert_eq!(double(2), 4);\n}\n";
    assert_eq!(rust_verdicts(good).await, json!({"formatting": "pass", "linting": "pass", "tests": "pass"}));
    let bad = "/// Doubles.\npub fn double(number: u32) -> u32 {\n    return number * 3;\n}\n#[test]\nfn doubles()  {\n    assert_eq!(double(2), 4);\n}\n";
    assert_eq!(rust_verdicts(bad).await, json!({"formatting": "fail", "linting": "fail", "tests": "fail"}));
    let untested = "/// Doubles.\npub fn double(number: u32) -> u32 {\n    number * 2\n}\n";
    assert_eq!(rust_verdicts(untested).await["tests"], "inconclusive");
    let broken = "pub fn double(number: u32) -> u32 {\n    numbr * 2\n}\n";
    assert_eq!(rust_verdicts(broken).await["tests"], "fail");
}
