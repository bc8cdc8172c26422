//! Outputs as the tools print them, and what is read of them.

use proptest::prelude::*;

use super::*;

fn read(format: Format, text: &str) -> Parsed {
    Parser::of(format).read(text.as_bytes(), b"").unwrap()
}

fn first(parsed: &Parsed) -> (Option<&str>, usize, usize, &str, Level) {
    let finding = &parsed.findings[0];
    (finding.path.as_deref(), finding.line, finding.column, &finding.rule, finding.level)
}

#[test]
fn linters_and_type_checkers() {
    let ruff = r#"[{"code":"F401","filename":"/w/a.py","location":{"row":1,"column":8},"message":"unused"}]"#;
    assert_eq!(first(&read(Format::Ruff, ruff)), (Some("/w/a.py"), 1, 8, "F401", Level::Error));
    let mypy = r#"{"file": "a.py", "line": 2, "column": 11, "message": "m", "hint": null, "code": "return-value", "severity": "error"}"#;
    assert_eq!(first(&read(Format::Mypy, mypy)), (Some("a.py"), 2, 12, "return-value", Level::Error));
    let eslint =
        r#"[{"filePath":"/w/a.js","messages":[{"ruleId":"no-undef","severity":1,"message":"m","line":3,"column":4}]}]"#;
    let parsed = read(Format::Eslint, eslint);
    assert_eq!(first(&parsed), (Some("/w/a.js"), 3, 4, "no-undef", Level::Warning));
    assert!(parsed.covered.unwrap().contains("/w/a.js"));
    let shellcheck = r#"{"comments":[{"file":"a.sh","line":2,"column":6,"level":"info","code":2086,"message":"m"}]}"#;
    assert_eq!(first(&read(Format::Shellcheck, shellcheck)), (Some("a.sh"), 2, 6, "SC2086", Level::Warning));
    let pyright = r#"{"generalDiagnostics":[{"file":"/w/a.py","severity":"error","message":"m","range":{"start":{"line":0,"character":4}},"rule":"r"}]}"#;
    assert_eq!(first(&read(Format::Pyright, pyright)), (Some("/w/a.py"), 1, 5, "r", Level::Error));
    let sarif = r#"{"runs":[{"results":[{"ruleId":"R1","level":"error","message":{"text":"m"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"src/a.c"},"region":{"startLine":7,"startColumn":2}}}]}]}]}"#;
    assert_eq!(first(&read(Format::Sarif, sarif)), (Some("src/a.c"), 7, 2, "R1", Level::Error));
    let github = "::error title=lint/x,file=a.ts,line=4,endLine=4,col=3::oh%0Ano";
    assert_eq!(first(&read(Format::Github, github)), (Some("a.ts"), 4, 3, "lint/x", Level::Error));
}

#[test]
fn cargo_says_when_it_is_finished() {
    let message = r#"{"reason":"compiler-message","message":{"code":{"code":"clippy::eq_op"},"level":"error","message":"m","spans":[{"file_name":"src/lib.rs","line_start":2,"column_start":5,"is_primary":true}]}}"#;
    let finished = r#"{"reason":"build-finished","success":false}"#;
    let parsed = read(Format::Cargo, &format!("{message}\n{message}\n{finished}\n"));
    assert_eq!(first(&parsed), (Some("src/lib.rs"), 2, 5, "clippy::eq_op", Level::Error));
    assert_eq!(parsed.findings.len(), 1);
    assert!(Parser::of(Format::Cargo).read(message.as_bytes(), b"").is_err());
    let output = "\nrunning 2 tests\ntest a ... ok\ntest b::c ... FAILED\n\ntest result: FAILED. 1 passed; 1 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
    let parsed = read(Format::CargoTest, &format!("{finished}\n{output}{output}"));
    assert_eq!((parsed.tests_run, parsed.findings.len()), (Some(4), 2));
    assert!(parsed.findings[0].message.starts_with("b::c"));
}

#[test]
fn test_runners_count_what_they_ran() {
    let pytest =
        "F.s\nFAILED test_a.py::test_x - assert 1 == 2\n========= 1 failed, 1 passed, 1 skipped in 0.02s =========\n";
    let parsed = read(Format::Pytest, pytest);
    assert_eq!((parsed.tests_run, first(&parsed).0), (Some(2), Some("test_a.py")));
    assert_eq!(read(Format::Pytest, "no tests ran in 0.01s\n").tests_run, Some(0));
    assert_eq!(read(Format::Pytest, "===== 3 skipped in 0.01s =====\n").tests_run, Some(0));
    assert!(Parser::of(Format::Pytest).read(b"....\n", b"").is_err());
    let jest = r#"noise
{"numPassedTests":1,"numFailedTests":1,"testResults":[{"name":"/w/a.test.js","status":"failed","assertionResults":[{"status":"failed","fullName":"adds","failureMessages":["Error: no\n at x"]}]}]}"#;
    let parsed = read(Format::Jest, jest);
    assert_eq!((parsed.tests_run, parsed.findings[0].message.as_str()), (Some(2), "adds: Error: no"));
    let go =
        "{\"Action\":\"run\",\"Test\":\"TestA\"}\n{\"Action\":\"fail\",\"Test\":\"TestA\"}\n{\"Action\":\"fail\"}\n";
    assert_eq!(read(Format::GoTest, go).tests_run, Some(1));
}

#[test]
fn patterns_read_lines_of_both_outputs() {
    let parser = Parser::regex(r"^(?P<path>[^:]+):(?P<line>\d+): (?P<severity>\w+): (?P<message>.+)$").unwrap();
    let parsed = parser.read(b"a.c:3: warning: x\nnoise\n", b"b.c:4: error: y\n").unwrap();
    assert_eq!(parsed.findings.len(), 2);
    assert_eq!(first(&parsed), (Some("a.c"), 3, 0, "", Level::Warning));
    assert!(Parser::regex("(").is_err() && Parser::regex("x").is_err());
}

proptest! {
    #[test]
    fn nothing_printed_makes_a_parser_panic(text in ".{0,400}", lines in proptest::collection::vec("[{}\\[\\]\":,a-z0-9 =]{0,60}", 0..8)) {
        let lines = lines.join("\n");
        for format in [Format::Sarif, Format::Github, Format::Ruff, Format::Mypy, Format::Pyright, Format::Pytest, Format::Eslint,
                       Format::Jest, Format::Cargo, Format::CargoTest, Format::GoTest, Format::Shellcheck] {
            let _ = Parser::of(format).read(text.as_bytes(), b"");
            let _ = Parser::of(format).read(lines.as_bytes(), b"");
        }
    }
}
