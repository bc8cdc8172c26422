use std::time::Duration;

use super::*;

const LIMITS: Limits = Limits { bytes_max: 2 * 1024 * 1024, duration_max: Duration::from_secs(60) };

fn rules(path: &str, text: &str) -> Vec<&'static str> {
    marks(path, text, &|| true).unwrap().into_iter().map(|mark| mark.rule.id()).collect()
}

#[test]
fn corpus_is_told_apart() {
    let corpus = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/guardrail.txt"));
    let (mut flagged, mut passed, mut wrong) = (0, 0, Vec::new());
    for part in corpus.strip_prefix("=== ").unwrap().split("\n=== ") {
        let (head, text) = part.split_once('\n').unwrap();
        let mut words = head.splitn(4, ' ');
        let (verb, rule, file) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let found = rules(file.trim_end_matches(':'), text);
        let right = match verb {
            "flag" => {
                flagged += 1;
                !found.is_empty() && found.iter().all(|found| *found == rule)
            }
            "pass" => {
                passed += 1;
                found.is_empty()
            }
            other => panic!("{other}"),
        };
        if !right {
            wrong.push(format!("{head}: {found:?}"));
        }
    }
    println!("guardrails of one file: {flagged} to flag, {passed} look-alikes, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn without_a_base_nothing_blocks() {
    let text = b"import os  # noqa\n";
    let verdict = |base: Option<&[u8]>| check("a.py", &Trees::new(text), base, LIMITS, &|| false).verdict;
    assert_eq!(verdict(None), Verdict::Fail);
    assert_eq!(verdict(Some(b"import os\n")), Verdict::Blocked);
    assert_eq!(verdict(Some(text)), Verdict::Pass);
}

#[test]
fn what_stood_before_is_counted_apart() {
    let before = b"import os  # noqa\nx = 1\n";
    let after = b"x = 1\n\n\nimport os  # noqa\nimport re  # noqa\n";
    let result = check("a.py", &Trees::new(after), Some(before), LIMITS, &|| false);
    assert_eq!((result.verdict, result.existing, result.findings.len()), (Verdict::Blocked, 1, 1));
    assert_eq!(result.findings[0].line, 5);
}

#[test]
fn what_cannot_be_looked_at_is_no_pass() {
    assert_eq!(
        check("a.py", &Trees::new(b"x = '\xff'  # noqa"), None, LIMITS, &|| false).verdict,
        Verdict::Inconclusive
    );
    assert_eq!(check("a.py", &Trees::new(b"x = 1  # noqa\n"), None, LIMITS, &|| true).verdict, Verdict::Inconclusive);
    let many = "x = 1  # noqa\n".repeat(MARKS_MAX + 1);
    assert_eq!(check("a.py", &Trees::new(many.as_bytes()), None, LIMITS, &|| false).verdict, Verdict::Inconclusive);
}

#[test]
fn test_files_are_known_by_their_paths() {
    for path in [
        "tests/a.py",
        "test_a.py",
        "a_test.go",
        "src/a.test.ts",
        "a.spec.js",
        "src/__tests__/a.js",
        "spec/a_spec.rb",
        "src/test/java/ATest.java",
        "ATests.cs",
        "conftest.py",
        "a/tests.rs",
    ] {
        assert!(is_test_path(path), "{path}");
    }
    for path in ["src/a.py", "contest.py", "latest.js", "src/attestation.go", "Greatest.java", "protest/a.py", "a.rs"] {
        assert!(!is_test_path(path), "{path}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_gets_a_verdict(
        text in "(# noqa|@ts-ignore|//|/\\*|\\*/|<!--|git commit -n|it\\.skip|#\\[allow\\(|<<<<<<< |[a-z(){}\\[\\]\"'`$.,:;=\\n -]){0,40}",
        place in 0..12_usize,
    ) {
        let names = ["a.py", "a.test.ts", "a.rs", "a_test.go", "ATest.java", "a.rb", "a.php", "a.c", "a.sh", "a.yml", "a.vue", "a.sql"];
        let result = check(names[place], &Trees::new(text.as_bytes()), Some(text.as_bytes()), LIMITS, &|| false);
        // What did not change is never new.
        proptest::prop_assert_eq!(result.verdict, Verdict::Pass);
    }
}
