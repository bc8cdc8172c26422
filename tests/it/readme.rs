//! What the README says is so: its code comes from files that run here, its demo is run, its codes are those of the source.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tollgate_tests::world::{orchestrator, program, repository_root};

fn read(path: &str) -> String {
    fs::read_to_string(repository_root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns every fenced block: the comment above it, the language, the text.
fn blocks(text: &str) -> Vec<(Option<String>, String, String)> {
    let mut blocks = Vec::new();
    let mut above = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((above.take(), language.to_owned(), format!("{}\n", body.join("\n"))));
        } else {
            above = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->")).map(str::to_owned);
        }
    }
    blocks
}

/// Runs a shell script in `folder` with the programs on PATH.
fn shell(folder: &Path, script: &str) -> Output {
    let programs = orchestrator().parent().unwrap().to_owned();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]).current_dir(folder).env("PATH", path);
    for variable in ["TOLLGATE_CONFIG", "TOLLGATE_STATE_DIR", "TOLLGATE_AGENT", "TOLLGATE_ROLE", "TOLLGATE_TASK"] {
        command.env_remove(variable);
    }
    command.output().unwrap()
}

#[test]
fn every_block_is_a_file_that_runs_or_a_command_of_ci() {
    let ci = read(".ci/run");
    for (above, language, text) in blocks(&read("README.md")) {
        match (above.as_deref(), language.as_str()) {
            (Some("demo" | "demo-queue"), "text") => {}
            (Some(file), _) => assert_eq!(text, read(file), "the README's copy of {file}"),
            (None, "sh") => {
                for line in text.lines() {
                    assert!(ci.contains(line), "CI does not run `{line}`");
                }
            }
            (None, other) => panic!("a block of {other} that no file stands behind:\n{text}"),
        }
    }
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    for document in
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/errors.md", "docs/benchmarks.md", "docs/telemetry.md"]
    {
        let text = read(document);
        let folder = repository_root().join(document).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(link.starts_with("http") || folder.join(link).exists(), "{document} links to {link}");
        }
    }
}

#[test]
fn configuration_of_the_readme_is_taken_by_every_program() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tollgate.toml"), read("examples/tollgate.toml")).unwrap();
    for name in ["mcp-ralph", "mcp-git", "mcp-database", "mcp-deploy", "orchestrator"] {
        let program = if name == "orchestrator" { orchestrator() } else { program(name) };
        let output = Command::new(program).arg("--check-config").current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn orchestrator_commands_of_the_readme_work() {
    let folder = tempfile::tempdir().unwrap();
    let repository = git2::Repository::init(folder.path()).unwrap();
    let signature = git2::Signature::now("Tests", "tests@example.com").unwrap();
    let tree = repository.find_tree(repository.index().unwrap().write_tree().unwrap()).unwrap();
    repository.commit(Some("HEAD"), &signature, &signature, "first", &tree, &[]).unwrap();
    fs::write(folder.path().join("script.yaml"), read("examples/script.yaml")).unwrap();
    let output = shell(folder.path(), &read("examples/orchestrator.sh"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for expected in ["git__git_status", "TASK-1", "unknown_branch", "the ledger is whole"] {
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
}

/// The demo, without building: what it prints at the end is what the README shows, times aside.
#[test]
fn demo_does_what_the_readme_shows() {
    program("mcp-workshop");
    let programs = orchestrator().parent().unwrap().to_owned();
    let output = Command::new(program("xtask"))
        .args(["demo", "--programs"])
        .arg(programs)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let words = |line: &str| -> Vec<String> {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        // The time that a call took, two words before its cost.
        if let Some(at) = words.iter().position(|word| word == "ms") {
            words.drain(at - 1..=at);
        }
        words
    };
    let (_, _, shown) =
        blocks(&read("README.md")).into_iter().find(|(above, ..)| above.as_deref() == Some("demo")).unwrap();
    let printed: Vec<Vec<String>> = said.lines().map(words).collect();
    for line in shown.lines().skip(1) {
        assert!(printed.contains(&words(line)), "the demo does not print `{line}`:\n{said}");
    }
    assert!(said.contains("the ledger is whole"));
}

/// Every code that the source answers with is in docs/errors.md, and none that it does not know.
#[test]
fn codes_are_those_of_the_source() {
    let mut source = String::new();
    for package in ["shared", "orchestrator", "servers/ralph", "servers/git", "servers/database", "servers/deploy"] {
        read_all(&repository_root().join(package).join("src"), &mut source);
    }
    let calls =
        ["Refusal::refused(", "Refusal::failed(", "Self::refused(", "Self::failed(", "unanswered(&call,", "failure("];
    let answered: BTreeSet<&str> = calls
        .iter()
        .flat_map(|call| source.split(call).skip(1))
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .collect();
    let text = read("docs/errors.md");
    let listed: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let missing: Vec<_> = answered.difference(&listed).collect();
    assert!(missing.is_empty(), "not in docs/errors.md: {missing:?}");
    let gone: Vec<_> = listed.iter().filter(|code| !source.contains(&format!("\"{code}\""))).collect();
    assert!(gone.is_empty(), "in docs/errors.md, not in the source: {gone:?}");
}

/// Adds the text of every source file below `folder`, without its tests.
fn read_all(folder: &Path, source: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, source);
        } else if !path.ends_with("tests.rs") {
            source.push_str(fs::read_to_string(&path).unwrap().split("\n#[cfg(test)]\nmod tests {").next().unwrap());
        }
    }
}
