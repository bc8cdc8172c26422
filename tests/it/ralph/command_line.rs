//! `mcp-ralph verify`: the same law for hooks and CI, by its exit code.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use tollgate_tests::mcp_process::McpProcess;
use tollgate_tests::world::{program, repository_root};

const PASSES: &str = "def f(x):\n    return x\n";
const FAILS: &str = "def f(x:\n    return x\n";
const TEST: &str = "def test_a():\n    assert 1 + 1 == 2\n";
const BLOCKED: &str = "def f(x):\n    return eval(x)\n";

fn world(files: &[(&str, &str)]) -> TempDir {
    let world = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = world.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    world
}

fn verify(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(program("mcp-ralph"))
        .arg("verify")
        .args(arguments)
        .current_dir(folder)
        .env_remove("TOLLGATE_CONFIG")
        .env_remove("TOLLGATE_STATE_DIR")
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn exit_code_is_zero_for_a_pass_alone() {
    let world = world(&[
        ("tollgate.toml", "[ralph]\n"),
        ("ok/a.py", PASSES),
        ("fail/a.py", FAILS),
        ("blocked/a.py", BLOCKED),
        ("blocked/b.py", FAILS),
        ("skipped/blob", "\u{0}\u{1}"),
        ("inconclusive/a.py", "x = 1\n"),
        ("ignored/a.py", FAILS),
        (".gitignore", "ignored/\n"),
    ]);
    fs::write(world.path().join("inconclusive/a.py"), b"x = '\xe9'\n").unwrap();
    fs::create_dir(world.path().join("empty")).unwrap();
    for (arguments, expected) in [
        (&["ok"][..], 0),
        (&["ok/a.py"], 0),
        (&["ok", "ok/a.py", "./ok/../ok"], 0),
        (&["fail"], 1),
        (&["ok", "fail/a.py"], 1),
        (&["blocked"], 2),
        (&["blocked", "--check", "syntax"], 1),
        (&["skipped"], 2),
        (&["skipped", "--allow-skipped"], 0),
        (&["inconclusive", "--allow-skipped"], 2),
        (&["inconclusive"], 2),
        (&["ok", "inconclusive"], 2),
        (&["empty"], 2),
        (&["missing.py"], 2),
        (&["ignored"], 2),
        (&["ignored/a.py"], 1),
        (&["/etc/hostname"], 2),
        (&["../"], 2),
        (&["ok", "--check", "none"], 2),
        (&["ok", "--format", "none"], 2),
        (&["ok", "--no-such-option"], 2),
        (&[], 2),
    ] {
        let output = verify(world.path(), arguments);
        assert_eq!(code(&output), expected, "{arguments:?}: {output:?}");
    }
    // From a folder below, paths are relative to it.
    assert_eq!(code(&verify(&world.path().join("fail"), &["a.py"])), 1);
    assert_eq!(code(&verify(&world.path().join("ok"), &["."])), 0);
}

#[test]
fn text_names_the_place_and_obeys_no_file_name() {
    let world = world(&[("tollgate.toml", ""), ("a\u{1b}[2J.py", FAILS)]);
    let output = verify(world.path(), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(".py:2:5: ") && text.trim_end().ends_with("fail: 1 pass, 1 fail"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn what_was_verified_before_is_taken_from_the_cache_of_the_server() {
    let world = world(&[("tollgate.toml", ""), ("a.py", BLOCKED)]);
    let output = verify(world.path(), &["a.py", "--format", "json"]);
    let first: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&first["verdict"], &first["files"][0]["from_cache"]), (&"blocked".into(), &false.into()));
    let again: Value = serde_json::from_slice(&verify(world.path(), &["a.py", "--format", "json"]).stdout).unwrap();
    assert_eq!(again["files"][0]["from_cache"], true);
    let state = world.path().join(".tollgate");
    fs::write(state.join("ralph-cache.db"), "damaged").unwrap();
    let damaged: Value = serde_json::from_slice(&verify(world.path(), &["a.py", "--format", "json"]).stdout).unwrap();
    assert_eq!(damaged["verdict"], "blocked");
}

/// Checks `log` against the official schema.
#[track_caller]
fn is_sarif(log: &Value) {
    let schema = fs::read(repository_root().join("tests/sarif/sarif-schema-2.1.0.json")).unwrap();
    let mut schema: Value = serde_json::from_slice(&schema).unwrap();
    // This one pattern of the official schema is no regular expression, and no log here names a language.
    for definition in ["run", "toolComponent"] {
        schema["definitions"][definition]["properties"]["language"].as_object_mut().unwrap().remove("pattern").unwrap();
    }
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(log).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{log:#}");
}

#[tokio::test]
async fn sarif_is_what_the_official_schema_says() {
    let token = ["ghp_", "x7Kq2mZr8LpW4tYb7NcJ1sHd6GfA3eUoR5iT"].concat();
    let secret = format!("TOKEN = \"{token}\"\n");
    let world = world(&[
        ("tollgate.toml", ""),
        ("ok.py", PASSES),
        ("a b%.py", FAILS),
        ("é/b.py", BLOCKED),
        ("c.py", &secret),
        ("d.py", ""),
    ]);
    fs::write(world.path().join("d.py"), b"x = '\xe9'\n").unwrap();
    let output = verify(world.path(), &["--format", "sarif"]);
    assert_eq!(code(&output), 2);
    let log: Value = serde_json::from_slice(&output.stdout).unwrap();
    is_sarif(&log);
    let run = &log["runs"][0];
    let results = run["results"].as_array().unwrap();
    let of = |rule: &str| results.iter().find(|result| result["ruleId"] == rule).unwrap_or_else(|| panic!("{log:#}"));
    let location = &of("python.code_injection")["locations"][0]["physicalLocation"];
    assert_eq!(location["artifactLocation"]["uri"], "%C3%A9/b.py");
    assert_eq!(location["region"]["startLine"], 2);
    assert_eq!(of("syntax.unexpected")["level"], "error");
    assert!(!log.to_string().contains(&token[4..]));
    // What could not be verified is said, so that no finding is not taken for a pass.
    assert_eq!(run["invocations"][0]["executionSuccessful"], false);

    let ralph = McpProcess::start("mcp-ralph", world.path(), &[], &[]);
    let batch = ralph.ok("verify_batch", serde_json::json!({"globs": ["**"], "format": "sarif"})).await;
    is_sarif(&batch["sarif"]);
    assert_eq!(batch["verdict"], "blocked");
    assert_eq!(batch["files"], serde_json::json!([]));
    assert_eq!(batch["sarif"]["runs"][0]["results"].as_array().unwrap().len(), results.len());
    let file = ralph.ok("verify_file", serde_json::json!({"path": "é/b.py", "format": "sarif"})).await;
    is_sarif(&file["sarif"]);
    assert_eq!((&file["verdict"], &file["checks"]), (&"blocked".into(), &serde_json::json!([])));
    let unknown = ralph.refused("verify_file", serde_json::json!({"path": "ok.py", "format": "xml"})).await;
    assert_eq!(unknown["code"], "invalid_arguments");
}

/// Runs the script `name` of the examples in a repository, as git, CI or an agent's host does.
fn script(folder: &Path, name: &str) -> Output {
    let path = repository_root().join("examples/hooks").join(name);
    let programs = program("mcp-ralph").parent().unwrap().to_owned();
    Command::new(path)
        .current_dir(folder)
        .env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()))
        .env_remove("CLAUDE_PROJECT_DIR")
        .env_remove("TOLLGATE_CONFIG")
        .env_remove("TOLLGATE_STATE_DIR")
        .output()
        .unwrap()
}

#[track_caller]
fn git(folder: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .args(["-c", "user.name=test", "-c", "user.email=test@localhost"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn documents_show_the_scripts_that_run_here() {
    let shown = fs::read_to_string(repository_root().join("docs/verify.md")).unwrap();
    for name in ["pre-commit", "ci.sh", "stop.sh"] {
        let text = fs::read_to_string(repository_root().join("examples/hooks").join(name)).unwrap();
        assert!(shown.contains(&format!("<!-- examples/hooks/{name} -->\n```sh\n{text}```\n")), "{name}");
    }
}

#[test]
fn git_hook_lets_only_what_passes_be_committed() {
    let world = world(&[("tollgate.toml", ""), ("a b.py", PASSES), ("-x.py", PASSES), ("picture.png", "\u{0}")]);
    let folder = world.path();
    git(folder, &["init", "-q"]);
    git(folder, &["add", "tollgate.toml"]);
    git(folder, &["commit", "-q", "-m", "an operator's"]);
    git(folder, &["add", "--", "picture.png"]);
    assert_eq!(code(&script(folder, "pre-commit")), 0, "no check applies");
    git(folder, &["add", "."]);
    let output = script(folder, "pre-commit");
    assert_eq!(code(&output), 0, "{output:?}");
    for bad in [FAILS, BLOCKED] {
        fs::write(folder.join("a b.py"), bad).unwrap();
        git(folder, &["add", "."]);
        assert_ne!(code(&script(folder, "pre-commit")), 0);
        // The fix has to be staged too.
        fs::write(folder.join("a b.py"), PASSES).unwrap();
        assert_ne!(code(&script(folder, "pre-commit")), 0);
        git(folder, &["add", "."]);
        assert_eq!(code(&script(folder, "pre-commit")), 0);
    }
}

#[test]
fn change_is_held_against_its_base() {
    let world =
        world(&[("tollgate.toml", ""), (".gitignore", ".tollgate\n"), ("old.py", BLOCKED), ("tests/test_a.py", TEST)]);
    let folder = world.path();
    git(folder, &["init", "-q", "-b", "main"]);
    git(folder, &["add", "."]);
    git(folder, &["commit", "-q", "-m", "before"]);
    git(folder, &["checkout", "-q", "-b", "feature"]);
    let verify = |arguments: &[&str]| verify(folder, arguments);
    assert_eq!(code(&verify(&["--base"])), 2, "nothing differs");
    assert_eq!(code(&verify(&["--base", "main", "--allow-skipped"])), 0);
    fs::write(folder.join("old.py"), format!("# more\n{BLOCKED}")).unwrap();
    let output = verify(&["--base", "HEAD"]);
    assert_eq!(code(&output), 0, "what stood before does not count: {output:?}");
    for (base, format) in [("--base", "sarif"), ("--base=main", "sarif"), ("--base=HEAD", "json")] {
        let output = verify(&[base, "--format", format]);
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(code(&output), 0, "{printed}");
        if format == "sarif" {
            is_sarif(&printed);
            assert_eq!(printed["runs"][0]["results"][0]["baselineState"], "unchanged", "{printed}");
        } else {
            assert_eq!(printed["safe_to_merge"], true, "{printed}");
        }
    }
    // What only the comparison shows.
    fs::remove_file(folder.join("tests/test_a.py")).unwrap();
    let output = verify(&["--base"]);
    assert_eq!(code(&output), 2, "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("blocked: "), "{output:?}");
    git(folder, &["commit", "-q", "-a", "-m", "evasion"]);
    assert_eq!(code(&verify(&["--base"])), 2);
    assert_eq!(code(&verify(&["--base", "main"])), 2);
    for wrong in [&["--base", "nowhere"][..], &["--base", "main", "old.py"], &["--base=-x"]] {
        assert_eq!(code(&verify(wrong)), 2, "{wrong:?}");
    }
}

#[test]
fn step_of_ci_fails_with_the_tree_and_leaves_sarif() {
    let world = world(&[("tollgate.toml", ""), ("a.py", PASSES)]);
    assert_eq!(code(&script(world.path(), "ci.sh")), 0);
    fs::write(world.path().join("a.py"), FAILS).unwrap();
    assert_eq!(code(&script(world.path(), "ci.sh")), 1);
    is_sarif(&serde_json::from_slice(&fs::read(world.path().join("ralph.sarif")).unwrap()).unwrap());
}

#[test]
fn stop_hook_sends_the_agent_back_to_what_it_can_fix() {
    let world = world(&[("tollgate.toml", ""), ("a.py", PASSES), ("old.py", FAILS)]);
    let folder = world.path();
    git(folder, &["init", "-q"]);
    git(folder, &["add", "."]);
    git(folder, &["commit", "-q", "-m", "before"]);
    // What the agent did not touch is not its business.
    let output = script(folder, "stop.sh");
    assert_eq!(code(&output), 0, "{output:?}");
    fs::write(folder.join("new file.py"), FAILS).unwrap();
    fs::remove_file(folder.join("a.py")).unwrap();
    let output = script(folder, "stop.sh");
    assert_eq!(code(&output), 2, "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("new file.py:2:5") && !said.contains("old.py"), "{said}");
    fs::write(folder.join("new file.py"), BLOCKED).unwrap();
    let output = script(folder, "stop.sh");
    assert_eq!(code(&output), 0, "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(told["systemMessage"].as_str().unwrap().contains("blocked"));
    fs::write(folder.join("new file.py"), PASSES).unwrap();
    let output = script(folder, "stop.sh");
    assert_eq!((code(&output), output.stdout.len()), (0, 0), "{output:?}");
}
