use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::language::Language;

const LIMITS: Limits = Limits { bytes_max: 2 * 1024 * 1024, duration_max: Duration::from_secs(60) };

/// Each with the name of the file that its cases are checked as.
const CORPORA: &[(&str, &str)] = &[
    ("case.py", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/python.txt"))),
    ("case.tsx", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/javascript.txt"))),
    ("case.go", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/go.txt"))),
    ("case.java", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/java.txt"))),
    ("case.rs", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/rust.txt"))),
    ("case.php", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/php.txt"))),
    ("case.rb", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/ruby.txt"))),
    ("case.c", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/c.txt"))),
    ("case.sh", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/bash.txt"))),
    ("case.txt", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/secrets.txt"))),
];

/// One case: a secret's names the file that it is in.
struct Case<'c> {
    file: &'c str,
    must_flag: bool,
    category: &'c str,
    name: &'c str,
    text: String,
}

fn cases() -> Vec<Case<'static>> {
    let mut cases = Vec::new();
    for (file, corpus) in CORPORA {
        let corpus = corpus.strip_prefix("=== ").unwrap();
        for part in corpus.split("\n=== ") {
            let (head, text) = part.split_once('\n').unwrap();
            let mut words = head.splitn(3, ' ');
            let must_flag = match words.next().unwrap() {
                "flag" => true,
                "pass" => false,
                other => panic!("{file}: {other}"),
            };
            let category = words.next().unwrap();
            let name = words.next().unwrap_or_default();
            let file = name
                .split_once(": ")
                .filter(|(file, _)| file.contains('.') && !file.contains(' '))
                .map_or(*file, |(file, _)| file);
            // Keeps what looks like a secret from being one in the file of the corpus itself.
            cases.push(Case { file, must_flag, category, name, text: text.replace("{+}", "") });
        }
    }
    cases
}

fn run(file: &str, text: &str) -> CheckResult {
    let source = SourceType::of(std::path::Path::new(file), text.as_bytes());
    check(source, &Trees::new(text.as_bytes()), LIMITS, &|| false)
}

#[test]
fn corpus_is_told_apart() {
    let mut table: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut totals = [0_usize; 4];
    for case in cases() {
        let result = run(case.file, &case.text);
        assert_ne!(result.verdict, Verdict::Inconclusive, "{}: {}", case.file, case.name);
        let rules: Vec<&str> = result.findings.iter().map(|finding| finding.rule.as_str()).collect();
        let found = rules.iter().any(|rule| {
            rule.ends_with(&format!(".{}", case.category)) || case.category == "secret" && rule.starts_with("secret.")
        });
        let place = match (case.must_flag, found, rules.is_empty()) {
            (true, true, _) => 0,
            (true, false, _) => 1,
            (false, _, false) => 2,
            (false, _, true) => 3,
        };
        if matches!(place, 1 | 2) {
            wrong.push(format!("{} {} ({}): found {rules:?}", case.file, case.name, case.category));
        }
        table.entry(case.category).or_default()[place] += 1;
        totals[place] += 1;
    }
    println!(
        "{:28} {:>5} {:>6} {:>5} {:>6} {:>7} {:>9}",
        "category", "found", "missed", "false", "silent", "recall", "precision"
    );
    for (category, row) in &table {
        println!(
            "{category:28} {:5} {:6} {:5} {:6} {:>6}% {:>8}%",
            row[0],
            row[1],
            row[2],
            row[3],
            percent(row[0], row[1]),
            percent(row[0], row[2])
        );
    }
    println!(
        "{:28} {:5} {:6} {:5} {:6} {:>6}% {:>8}%",
        "all",
        totals[0],
        totals[1],
        totals[2],
        totals[3],
        percent(totals[0], totals[1]),
        percent(totals[0], totals[2])
    );
    for line in &wrong {
        println!("WRONG {line}");
    }
    assert!(percent(totals[0], totals[1]) >= 95, "recall");
    assert!(percent(totals[0], totals[2]) >= 97, "precision");
}

fn percent(part: usize, other: usize) -> usize {
    (part * 100).checked_div(part + other).unwrap_or(100)
}

#[test]
fn depth_is_bounded() {
    // Within what a larger stack holds, code that is nested deep is seen; beyond that, nothing is passed.
    let nested = |depth: usize| format!("def f(x):\n    y = {}eval(x){}\n", "(".repeat(depth), ")".repeat(depth));
    for depth in [50, 150, 1_000] {
        assert_eq!(run("a.py", &nested(depth)).verdict, Verdict::Blocked, "{depth}");
    }
    assert_ne!(run("a.py", &nested(100_000)).verdict, Verdict::Pass);
}

#[test]
fn comments_for_other_tools_give_no_permission() {
    for comment in ["# nosec", "# noqa: S307", "# ast-grep-ignore", "# nosemgrep", "# type: ignore"] {
        assert_eq!(
            run("a.py", &format!("{comment}\ndef f(x):\n    return eval(x)  {comment}\n")).verdict,
            Verdict::Blocked
        );
    }
}

#[test]
fn only_warnings_fail_and_errors_block() {
    assert_eq!(run("a.c", "void f(char *s) { char b[16]; strcpy(b, s); }\n").verdict, Verdict::Fail);
    assert_eq!(run("a.c", "int main(void) { char b[16]; scanf(\"%d\", b); return 0; }\n").verdict, Verdict::Pass);
}

#[test]
fn what_is_not_wanted_any_more_stops() {
    let text = format!("def f(x):\n    eval('1')\n{}", "    g(x + x)\n".repeat(50_000));
    let result = check(Some(Language::Python.into()), &Trees::new(text.as_bytes()), LIMITS, &|| true);
    assert_eq!(result.verdict, Verdict::Inconclusive);
}

#[test]
fn excerpt_shows_no_secret_that_stands_beside_a_finding() {
    let token = ["ghp_", "x7Kq2mZr8LpW4tYb7NcJ1sHd6GfA3eUoR5iT"].concat();
    let result = run("a.py", &format!("def f(x):\n    eval(x + '{token}')\n"));
    assert_eq!(result.findings.len(), 2, "{result:?}");
    assert!(!format!("{result:?}").contains(&token[6..]));
}

proptest::proptest! {
    #[test]
    fn any_text_gets_a_verdict(text in "[a-z(){}\\[\\]\"'`$.,:;=+#<>|&\n -]{0,200}", place in 0..10_usize) {
        let file = CORPORA[place].0;
        let result = run(file, &text);
        proptest::prop_assert!(result.findings.len() <= FINDINGS_MAX);
    }
}

#[test]
fn both_trees_of_python_lead_to_the_same() {
    let always = || true;
    for case in cases().iter().filter(|case| case.file == "case.py") {
        let trees = Trees::new(case.text.as_bytes());
        let lowered = lower::python::lower(trees.python(), &case.text, lower::DEPTH_USUAL);
        let Ok(Some((ir, root))) = lowered else { continue };
        let exact = Engine::new(Dialect::Python, &ir, &case.text, &always).run(root).0;
        let tree = trees.grammar(Language::Python, &always).unwrap();
        let (ir, root) = lower::lower(Dialect::Python, &tree, &case.text, lower::DEPTH_MAX).unwrap();
        let other = Engine::new(Dialect::Python, &ir, &case.text, &always).run(root).0;
        let ids = |hits: &[Hit]| hits.iter().map(|hit| rule_id(Dialect::Python, *hit)).collect::<Vec<_>>();
        assert_eq!(ids(&exact), ids(&other), "{}: {}", case.category, case.name);
    }
}

#[test]
fn both_trees_of_javascript_lead_to_the_same() {
    let always = || true;
    for case in cases().iter().filter(|case| case.file == "case.tsx") {
        let trees = Trees::new(case.text.as_bytes());
        let lowered = lower::script::lower(&trees.script(Language::Tsx.into()), &case.text, lower::DEPTH_USUAL);
        let Ok(Some((ir, root))) = lowered else { continue };
        let exact = Engine::new(Dialect::Tsx, &ir, &case.text, &always).run(root).0;
        let tree = trees.grammar(Language::Tsx, &always).unwrap();
        let (ir, root) = lower::lower(Dialect::Tsx, &tree, &case.text, lower::DEPTH_MAX).unwrap();
        let other = Engine::new(Dialect::Tsx, &ir, &case.text, &always).run(root).0;
        assert_eq!(exact, other, "{}: {}", case.category, case.name);
    }
}

#[test]
fn what_a_pattern_takes_out_of_a_request_came_with_it() {
    let text = "import os\nfrom flask import request\n\ndef run():\n    match request.args.get('x'):\n        case str() as command:\n            \
                os.system(command)\n";
    assert_eq!(run("a.py", text).verdict, Verdict::Blocked);
}

#[test]
fn letters_that_only_look_otherwise_hide_nothing() {
    for text in [
        "def f(x):\n    return ｅｖａｌ(x)\n",
        "def f(x):\n    return 𝐞𝐯𝐚𝐥(x)\n",
        "import os\ndef f(x):\n    os.ｓｙｓｔｅｍ('a ' + x)\n",
    ] {
        assert_eq!(run("a.py", text).verdict, Verdict::Blocked, "{text}");
    }
    assert_eq!(run("a.py", "größe = 1\nprint('ｅｖａｌ(x)')\n").verdict, Verdict::Pass);
}

#[test]
fn what_only_the_exact_tree_of_javascript_shows_is_seen() {
    for text in [
        // A module that is loaded where it is needed.
        "export async function f(x) {\n  (await import('child_process')).exec('ls ' + x);\n}\n",
        "const f = async (x) => { const { exec } = await import('node:child_process'); exec(`ls ${x}`); };\n",
        // A default runs like everything else.
        "import { exec } from 'child_process';\nexport function f(x, y = exec('ls ' + x)) { return y; }\n",
        "import { exec } from 'child_process';\nexport const f = ({ a, b = exec('ls ' + a) }) => b;\n",
        // So does what a class is made from.
        "export const f = (x) => class extends eval(x) {};\n",
        // A name that is written otherwise than it is read.
        "export function f(x) { return \\u0065val(x); }\n",
        "import { exec as run } from 'child_process';\nexport const f = (x) => run(\"\\x6cs \" + x);\n",
    ] {
        assert_eq!(run("a.mjs", text).verdict, Verdict::Blocked, "{text}");
        assert_eq!(run("a.tsx", text).verdict, Verdict::Blocked, "{text}");
    }
    for text in [
        "export async function f() { (await import('./a.js')).exec('ls'); }\n",
        "import { exec } from 'child_process';\nexport function f(x, y = exec('ls')) { return y; }\n",
        "export const f = (x) => class extends mixed(x) {};\n",
    ] {
        assert_eq!(run("a.mjs", text).verdict, Verdict::Pass, "{text}");
    }
}

#[test]
fn javascript_that_nests_deep_or_cannot_be_parsed_is_seen() {
    let nested = |depth: usize| format!("function f(x) {{ {}eval(x){}; }}\n", "(".repeat(depth), ")".repeat(depth));
    for depth in [50, 95, 150, 1_000] {
        assert_eq!(run("a.js", &nested(depth)).verdict, Verdict::Blocked, "{depth}");
    }
    let chained = format!("function f(x) {{ return g{}.then(() => eval(x)); }}\n", ".a()".repeat(300));
    assert_eq!(run("a.ts", &chained).verdict, Verdict::Blocked);
    assert_eq!(run("a.js", "function f(x) { return eval(x) }\nlet = = 1;\n").verdict, Verdict::Blocked);
}
