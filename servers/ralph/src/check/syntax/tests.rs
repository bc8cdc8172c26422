use proptest::prelude::*;

use super::*;
use crate::language::Language;

const LIMITS: Limits = Limits { bytes_max: 2 * 1024 * 1024, duration_max: Duration::from_secs(30) };

fn run(language: Language, text: &str) -> CheckResult {
    with_stack(|| check(language.into(), &Trees::new(text.as_bytes()), LIMITS, &|| false))
}

/// Runs `work` on a thread like those that checks run on.
fn with_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        std::thread::Builder::new().stack_size(64 * 1024 * 1024).spawn_scoped(scope, work).unwrap().join().unwrap()
    })
}

#[test]
fn every_language_tells_good_from_bad_and_where() {
    let cases: &[(Language, &str, &str, usize, usize)] = &[
        (Language::Python, "def f(x):\n    return x\n", "def f(x:\n    return x\n", 2, 5),
        (Language::Python, "", "x = (1,\n", 2, 1),
        (Language::Python, "match x:\n    case [1, *_]: pass\n", "print 'x'\n", 1, 7),
        (Language::Python, "type X = int\n", "if x:\ny = 1\n", 2, 1),
        (Language::JavaScript, "const x = () => <b>{1}</b>;\n", "const x = [1, 2;\n", 1, 16),
        (Language::JavaScript, "a?.b ?? c;\n", "let a;\nlet a;\n", 1, 5),
        (Language::TypeScript, "export function f<T>(x: T): T { return x }\n", "interface A {\n  x: number\n", 3, 1),
        (Language::TypeScript, "let x = <number>y;\n", "let x: = 1;\n", 1, 8),
        (Language::Tsx, "const x: number = <b/>;\n", "const x = <b>;\n", 1, 14),
        (Language::Rust, "fn f() -> u8 { 1 }\n", "fn f() -> u8 {\n    if true { 1 else { 2 }\n}\n", 1, 14),
        (Language::Rust, "async fn f() { x.await?; }\n", "fn f( { }\n", 1, 5),
        (Language::Go, "package a\n\nfunc f() {}\n", "package a\n\nfunc f( {}\n", 3, 8),
        (Language::Java, "class A { int x = 1; }\n", "class A {\n  int x = 1\n}\n", 2, 12),
        (Language::C, "int f(void) { return 1; }\n", "int f(void) { return 1 }\n", 1, 23),
        (Language::Cpp, "template <class T> T f() { return {}; }\n", "class A { int x }\n", 1, 1),
        (Language::CSharp, "class A { int X => 1; }\n", "class A { int x = ; }\n", 1, 17),
        (Language::Ruby, "def f\n  1\nend\n", "def f\n  1\n", 1, 1),
        (Language::Php, "<?php echo 1;\n", "<?php if (1 { }\n", 1, 12),
        (Language::Kotlin, "fun f(): Int = 1\n", "fun f(: Int = 1\n", 1, 6),
        (Language::Swift, "func f() -> Int { return 1 }\n", "func f( -> Int { }\n", 1, 8),
        (Language::Bash, "if true; then echo; fi\n", "if true; then echo\n", 2, 1),
        (Language::Html, "<p>a<br>b</p>\n", "<p>a</b>\n", 1, 1),
        (Language::Css, "a { color: red }\n", "a { color: red\n", 1, 3),
        (Language::Json, "{\"a\": [1, 2.5e3, null]}\n", "{\"a\": [1, 2,]}\n", 1, 13),
        (Language::Yaml, "a: [1, 2]\nb: &x {c: d}\n", "a: [1, 2\nb: 3\n", 2, 2),
        (Language::Toml, "a = 1\n[b]\nc = \"d\"\n", "a = 1\nb = \n", 2, 5),
        (
            Language::Sql,
            "SELECT a FROM b WHERE c = $1;\nCREATE TABLE d (e INT);\n",
            "SELECT a FROM b;\nCREATE TABL d (e INT);\n",
            2,
            8,
        ),
    ];
    let mut wrong = Vec::new();
    for (language, good, bad, line, column) in cases {
        let result = run(*language, good);
        if result.verdict != Verdict::Pass {
            wrong.push(format!("{language:?} does not take {good:?}: {:?}", result.findings));
        }
        let result = run(*language, bad);
        let place = result.findings.first().map(|first| (first.line, first.column));
        if result.verdict != Verdict::Fail || place != Some((*line, *column)) {
            wrong.push(format!("{language:?} {bad:?} at {line}:{column}: {result:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let tried: std::collections::HashSet<Language> = cases.iter().map(|case| case.0).collect();
    assert_eq!(tried.len(), Language::ALL.len());
}

#[test]
fn how_a_file_is_loaded_decides_what_it_may_say() {
    let parses = |path: &str, text: &str| {
        let source = SourceType::of(std::path::Path::new(path), b"").unwrap();
        check(source, &Trees::new(text.as_bytes()), LIMITS, &|| false).verdict == Verdict::Pass
    };
    assert!(parses("a.mjs", "await f();\n") && !parses("a.cjs", "await f();\n"));
    assert!(parses("a.cjs", "return 1;\n") && !parses("a.mjs", "return 1;\n"));
    assert!(parses("a.d.ts", "declare function f(): void;\n") && !parses("a.d.ts", "const x = 1 + 1;\nf();\n"));
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
    let result = check(Language::Python.into(), &Trees::new(b"x = '\xff'\n"), LIMITS, &|| false);
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
    let text = format!("class A {{ {} }}", "int x = 1;\n".repeat(20_000));
    assert_eq!(
        check(Language::Java.into(), &Trees::new(text.as_bytes()), limits, &|| false).verdict,
        Verdict::Inconclusive
    );
    // The parser of this thread is fit for the next file.
    assert_eq!(run(Language::Java, "class A {}\n").verdict, Verdict::Pass);
}

#[test]
fn parse_that_is_not_wanted_any_more_stops() {
    let text = format!("class A {{ {} }}", "int x = 1;\n".repeat(20_000));
    assert_eq!(
        check(Language::Java.into(), &Trees::new(text.as_bytes()), LIMITS, &|| true).verdict,
        Verdict::Inconclusive
    );
}

#[test]
fn depth_does_not_exhaust_the_stack() {
    let limits = Limits { duration_max: Duration::from_millis(250), ..LIMITS };
    for language in Language::ALL {
        for deep in ["(", "[", "{", "if (", "x(", "a.b(", "`${", "$(", "<a>", "/*", "\"", "'", "-", "!", "    if x:\n"]
        {
            let text = deep.repeat(20_000);
            with_stack(|| check(language.into(), &Trees::new(text.as_bytes()), limits, &|| false));
        }
        let indented: String = (0..1_500).map(|depth| format!("{}if x:\n", " ".repeat(depth))).collect();
        with_stack(|| check(language.into(), &Trees::new(indented.as_bytes()), limits, &|| false));
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
        prop_assert!(matches!(result.verdict, Verdict::Pass | Verdict::Fail) || language == Language::Sql || language == Language::Json, "{:?}", result);
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
