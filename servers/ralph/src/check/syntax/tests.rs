use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { bytes_max: 2 * 1024 * 1024, duration_max: Duration::from_secs(30) };

fn run(language: Language, text: &str) -> CheckResult {
    check(language, text.as_bytes(), LIMITS, &|| false)
}

/// Checks that `good` passes, and that `bad` fails with its first finding at `line` and `column`.
#[track_caller]
fn check_both(language: Language, good: &str, bad: &str, line: usize, column: usize) {
    let result = run(language, good);
    assert_eq!(result.verdict, Verdict::Pass, "{result:?}");
    let result = run(language, bad);
    assert_eq!(result.verdict, Verdict::Fail, "{bad}");
    let first = &result.findings[0];
    assert_eq!((first.line, first.column), (line, column), "{result:?}");
}

#[test]
fn python() {
    check_both(Language::Python, "def f(x):\n    return x\n", "def f(x:\n    return x\n", 1, 6);
    check_both(Language::Python, "", "x = (1,\n", 1, 5);
}

#[test]
fn javascript() {
    check_both(Language::JavaScript, "const x = () => <b>{1}</b>;\n", "const x = [1, 2;\n", 1, 16);
}

#[test]
fn typescript() {
    let good = "export function f<T>(x: T): T { return x }\n";
    check_both(Language::TypeScript, good, "interface A {\n  x: number\n", 2, 12);
    check_both(Language::Tsx, "const x: number = <b/>;\n", "const x = <b>;\n", 1, 1);
}

#[test]
fn rust() {
    check_both(Language::Rust, "fn f() -> u8 { 1 }\n", "fn f() -> u8 {\n    if true { 1 else { 2 }\n}\n", 2, 16);
}

#[test]
fn go() {
    check_both(Language::Go, "package a\n\nfunc f() {}\n", "package a\n\nfunc f( {}\n", 3, 8);
}

#[test]
fn java() {
    check_both(Language::Java, "class A { int x = 1; }\n", "class A {\n  int x = 1\n}\n", 2, 12);
}

#[test]
fn bash() {
    check_both(Language::Bash, "if true; then echo; fi\n", "if true; then echo\n", 2, 1);
}

#[test]
fn what_stands_behind_a_nul_is_not_passed_over() {
    let result = run(Language::Rust, "fn f() {}\n\0 fn (((");
    assert_eq!(result.verdict, Verdict::Fail);
    assert_eq!(
        (result.findings[0].rule.as_str(), result.findings[0].line, result.findings[0].column),
        ("syntax.nul", 2, 1)
    );
}

#[test]
fn what_is_not_utf8_is_no_pass() {
    let result = check(Language::Python, b"x = '\xff'\n", LIMITS, &|| false);
    assert_eq!(result.verdict, Verdict::Inconclusive);
}

#[test]
fn column_counts_characters() {
    let result = run(Language::JavaScript, "let s = 'äöü€😀'; let = [;\n");
    assert_eq!(result.findings[0].line, 1);
    assert!(result.findings[0].column < 30, "{result:?}");
    let nul = run(Language::JavaScript, "'äöü€😀'\0");
    assert_eq!(nul.findings[0].column, 8);
}

/// Tree-sitter says that this tree has an error, and no node in it is one.
#[test]
fn failure_always_has_a_finding() {
    assert_eq!(run(Language::Go, "fn<<EOF\nfn").findings.len(), 1);
}

#[test]
fn findings_are_bounded() {
    let result = run(Language::Python, &"x = = 1\n".repeat(500));
    assert_eq!(result.findings.len(), FINDINGS_MAX);
    assert!(result.findings_omitted > 0);
}

#[test]
fn excerpt_is_shortened_around_the_column() {
    let result = run(Language::JavaScript, &format!("let x = [{} ;", "1, ".repeat(5000)));
    for finding in &result.findings {
        assert!(finding.excerpt.len() <= EXCERPT_BYTES + 6, "{finding:?}");
    }
}

#[test]
fn parse_that_takes_too_long_is_no_pass() {
    let limits = Limits { duration_max: Duration::ZERO, ..LIMITS };
    let text = "let x = [1, 2, 3];\n".repeat(20_000);
    assert_eq!(check(Language::JavaScript, text.as_bytes(), limits, &|| false).verdict, Verdict::Inconclusive);
    // The parser of this thread is fit for the next file.
    assert_eq!(run(Language::JavaScript, "let x;\n").verdict, Verdict::Pass);
}

#[test]
fn parse_that_is_not_wanted_any_more_stops() {
    let text = "let x = [1, 2, 3];\n".repeat(20_000);
    assert_eq!(check(Language::JavaScript, text.as_bytes(), LIMITS, &|| true).verdict, Verdict::Inconclusive);
}

#[test]
fn depth_does_not_exhaust_the_stack() {
    let limits = Limits { duration_max: Duration::from_millis(250), ..LIMITS };
    for language in Language::ALL {
        for deep in ["(", "[", "{", "if (", "x(", "a.b(", "`${", "$(", "<a>", "/*", "\"", "'", "-", "!", "    if x:\n"]
        {
            let text = deep.repeat(20_000);
            check(language, text.as_bytes(), limits, &|| false);
        }
        let indented: String = (0..1_500).map(|depth| format!("{}if x:\n", " ".repeat(depth))).collect();
        check(language, indented.as_bytes(), limits, &|| false);
    }
}

#[test]
fn tool_names_the_versions_that_are_built_in() {
    let lock = include_str!("../../../../../Cargo.lock");
    for language in Language::ALL {
        let words: Vec<&str> = tool(language).split(' ').collect();
        for pair in words.chunks(2) {
            let entry = format!("name = \"{}\"\nversion = \"{}\"", pair[0], pair[1]);
            assert!(lock.contains(&entry), "{entry} is not in Cargo.lock: bring `tool` up to date");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever it is given, a check ends with a verdict and positions inside the text.
    #[test]
    fn any_text_gets_a_verdict(language in prop::sample::select(Language::ALL.to_vec()), text in "(?s)([a-z(){}\\[\\]<>;:,.'\"`$#/*\\\\ \n\t=äöü😀\0]|if|for|fn|def |class |<<EOF\n|\r\n){0,200}") {
        let result = run(language, &text);
        prop_assert!(matches!(result.verdict, Verdict::Pass | Verdict::Fail), "{:?}", result);
        prop_assert_eq!(result.verdict == Verdict::Fail, !result.findings.is_empty());
        let lines: Vec<&str> = text.split('\n').collect();
        for finding in result.findings {
            prop_assert!(finding.line <= lines.len());
            prop_assert!(finding.column <= lines[finding.line - 1].chars().count() + 1);
        }
    }

    /// The same content gets the same result, whichever parse ran before it.
    #[test]
    fn result_depends_on_content_alone(first in "[a-z(){};= \n]{0,80}", second in "[a-z(){};= \n]{0,80}") {
        let alone = std::thread::spawn({ let second = second.clone(); move || run(Language::Rust, &second) }).join().unwrap();
        run(Language::Python, &first);
        run(Language::Rust, &first);
        prop_assert_eq!(run(Language::Rust, &second), alone);
    }
}
