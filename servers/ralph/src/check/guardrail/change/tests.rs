use std::fs;
use std::path::Path;
use std::sync::Arc;

use git2::{IndexAddOption, Repository as Git, Signature};
use tempfile::TempDir;

use super::*;
use crate::changes;
use crate::repository::Repository;
use crate::roots::Roots;

/// A case of the corpus: what is expected, and the files before and after.
struct Case<'c> {
    verb: &'c str,
    rule: &'c str,
    name: &'c str,
    before: Vec<(&'c str, &'c str)>,
    after: Vec<(&'c str, &'c str)>,
}

/// Reads `=== flag RULE name`, then files as `--- before PATH`, `--- after PATH` or `--- both PATH`.
fn cases(corpus: &str) -> Vec<Case<'_>> {
    let parts = corpus.strip_prefix("=== ").expect("a corpus begins with a case").split("\n=== ");
    parts
        .map(|part| {
            let (head, files) = part.split_once('\n').unwrap();
            let mut words = head.splitn(3, ' ');
            let (verb, rule) = (words.next().unwrap(), words.next().unwrap());
            let mut case =
                Case { verb, rule, name: words.next().unwrap_or_default(), before: Vec::new(), after: Vec::new() };
            for file in files.strip_prefix("--- ").unwrap_or_else(|| panic!("{head}")).split("\n--- ") {
                let (head, text) = file.split_once('\n').unwrap_or((file, ""));
                let (side, path) = head.split_once(' ').unwrap();
                if matches!(side, "before" | "both") {
                    case.before.push((path, text));
                }
                if matches!(side, "after" | "both") {
                    case.after.push((path, text));
                }
                assert!(matches!(side, "before" | "after" | "both"), "{head}");
            }
            case
        })
        .collect()
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{}\n", text.trim_end_matches('\n'))).unwrap();
    }
}

/// Commits `before` to a repository, puts `after` in its place, and says what the change adds.
fn found(case: &Case<'_>) -> Findings {
    let folder = TempDir::new().unwrap();
    let git = Git::init(folder.path()).unwrap();
    write(folder.path(), &case.before);
    let mut index = git.index().unwrap();
    index.add_all(["*"], IndexAddOption::FORCE, None).unwrap();
    index.write().unwrap();
    let tree = git.find_tree(index.write_tree().unwrap()).unwrap();
    let who = Signature::now("a", "a@example.invalid").unwrap();
    git.commit(Some("HEAD"), &who, &who, "before", &tree, &[]).unwrap();
    for (path, _) in &case.before {
        fs::remove_file(folder.path().join(path)).unwrap();
    }
    write(folder.path(), &case.after);
    let roots = Arc::new(Roots::new(folder.path(), &[".".to_owned()]).unwrap());
    let repository = Repository::find(&roots, &roots.first().unwrap()).unwrap().unwrap();
    let collected = changes::collect(&roots, &repository, Some(tree.id()), 2 * 1024 * 1024, &|| true).unwrap();
    assert_eq!(collected.incomplete, None);
    check(&collected.working, &|| true)
}

#[test]
fn corpus_of_changes_is_told_apart() {
    let corpora = [
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/changes-tests.txt")),
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/changes-settings.txt")),
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/changes-more.txt")),
    ];
    let (mut flagged, mut passed, mut wrong) = (0, 0, Vec::new());
    for case in corpora.into_iter().flat_map(cases) {
        let findings = found(&case);
        let rules: Vec<&str> =
            findings.added.iter().map(|found| found.finding.rule.trim_start_matches("guardrail.")).collect();
        let right = match case.verb {
            "flag" => {
                flagged += 1;
                !rules.is_empty() && rules.contains(&case.rule)
            }
            "pass" => {
                passed += 1;
                rules.is_empty() && findings.unknown.is_empty()
            }
            other => panic!("{other}"),
        };
        if !right {
            let said: Vec<&String> = findings.added.iter().map(|found| &found.finding.message).collect();
            wrong.push(format!("{} {} {}: {rules:?} {said:?} {:?}", case.verb, case.rule, case.name, findings.unknown));
        }
    }
    println!("guardrails of a change: {flagged} to flag, {passed} legitimate, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
