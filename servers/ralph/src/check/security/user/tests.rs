use super::*;

/// Reads `yaml` as the only file of rules.
fn rules(yaml: &str) -> Result<UserRules, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.yml"), yaml).unwrap();
    UserRules::load(folder.path(), &["mine.yml".to_owned()]).map_err(|error| format!("{error:#}"))
}

fn found(rules: &UserRules, language: Language, path: &str, text: &str) -> Vec<(String, usize)> {
    let hits = rules.find(language, path, &Trees::new(text.as_bytes()), text, &|| true).unwrap();
    hits.into_iter().map(|hit| (hit.message, text[..hit.start].matches('\n').count() + 1)).collect()
}

const C_CALL: &str = "{context: 'void f() { bad($A); }', selector: call_expression}";
const PRINT: &str = "id: no-print\nlanguage: Python\nseverity: warning\nmessage: log $X\nnote: use the logger\nrule:\n  pattern: print($X)\n";

#[test]
fn rule_finds_what_it_is_about_and_nothing_else() {
    let rules = rules(PRINT).unwrap();
    let text = "print('a')\n# print('b')\nlog(\"print('c')\")\nprint ( 'd' )\nprint(1, 2)\n";
    let expected = [("log 'a'".to_owned(), 1), ("log 'd'".to_owned(), 4)];
    assert_eq!(found(&rules, Language::Python, "a.py", text), expected);
    assert!(found(&rules, Language::JavaScript, "a.js", "print('a')").is_empty());
}

#[test]
fn comment_never_blinds_a_rule() {
    let rules = rules(PRINT).unwrap();
    for comment in ["# ast-grep-ignore", "# ast-grep-ignore: no-print", "# ast-grep-ignore\n\n"] {
        assert_eq!(found(&rules, Language::Python, "a.py", &format!("{comment}\nprint(1)\n")).len(), 1, "{comment}");
        assert_eq!(found(&rules, Language::Python, "a.py", &format!("print(1)  {comment}\n")).len(), 1, "{comment}");
    }
}

#[test]
fn rules_work_in_every_language_that_has_a_grammar() {
    for (language, pattern, text) in [
        ("python", "bad($A)", "bad(1)\n"),
        ("javascript", "bad($A)", "bad(1);\n"),
        ("js", "bad($A)", "bad(1);\n"),
        ("TypeScript", "bad($A)", "bad(1 as any);\n"),
        ("tsx", "bad($A)", "bad(<b/>);\n"),
        ("rust", "bad($A)", "fn f() { bad(1); }\n"),
        ("go", "bad($A)", "package p\nfunc f() { bad(1) }\n"),
        ("java", "bad($A)", "class A { void f() { bad(1); } }\n"),
        // At the top of a file a call would be something else there.
        ("c", C_CALL, "void f() { bad(1); }\n"),
        ("cpp", C_CALL, "void f() { bad(1); }\n"),
        ("csharp", "bad($A)", "class A { void F() { bad(1); } }\n"),
        ("ruby", "bad($A)", "bad(1)\n"),
        ("kotlin", "bad($A)", "fun f() { bad(1) }\n"),
        ("swift", "bad($A)", "bad(1)\n"),
        ("bash", "bad $A", "bad 1\n"),
    ] {
        let rules = rules(&format!("id: x\nlanguage: {language}\nrule:\n  pattern: {pattern}\n")).unwrap();
        let kind = rules.rules[0].language;
        assert_eq!(found(&rules, kind, "a", text).len(), 1, "{language}");
        assert!(found(&rules, kind, "a", &text.replace("bad", "good")).is_empty(), "{language}");
    }
}

#[test]
fn rules_of_several_parts_and_of_some_files() {
    let all = rules(
        "id: open\nlanguage: python\nfiles: ['src/**/*.py']\nignores: ['src/gen/**']\nrule:\n  all:\n    - pattern: open($$$A)\n    - \
         not:\n        inside:\n          kind: with_statement\n          stopBy: end\n---\nid: many\nlanguage: python\nseverity: error\nrule:\n  \
         any:\n    - pattern: run($$$A, shell=True)\n    - regex: '^nothing$'\n      kind: identifier\n",
    )
    .unwrap();
    let text = "with open(1) as f:\n    pass\nopen(2)\nrun(a, b, shell=True)\n";
    assert_eq!(found(&all, Language::Python, "src/a.py", text).len(), 2);
    assert_eq!(found(&all, Language::Python, "src/gen/a.py", text).len(), 1);
    assert_eq!(found(&all, Language::Python, "a.py", text).len(), 1);
    // What is remembered of a file depends on the rules that are about it.
    let key = |path: &str| all.key(Some(Language::Python), path);
    assert_eq!(key("src/a.py"), key("src/b.py"));
    assert_ne!(key("src/a.py"), key("a.py"));
    assert_eq!(all.key(Some(Language::Go), "a.go"), None);
    assert_ne!(key("a.py"), rules(PRINT).unwrap().key(Some(Language::Python), "a.py"));
}

#[test]
fn rule_that_cannot_be_used_is_named_with_its_file() {
    let of = |body: &str| format!("id: mine\nlanguage: python\n{body}");
    for (yaml, reason) in [
        ("language: python\nrule: {pattern: a}\n".to_owned(), "has no `id`"),
        (of("rule: {pattern: 'f(('}\n"), "can be parsed"),
        (of("rule: {any: [{pattern: a}, {not: {pattern: 'f(('}}]}\n"), "can be parsed"),
        (of("rule: {pattern: 'f($$$A, x, $$$B)'}\n"), "two `$$$`"),
        (of("rule: {kind: no_such_kind}\n"), "no_such_kind"),
        (of("rule: {patern: a}\n"), "patern"),
        (of("rule: {pattern: a}\nseverty: error\n"), "severty"),
        (of("rule: {pattern: a}\nseverity: grave\n"), "grave"),
        (of("rule: {regex: '('}\n"), "regex"),
        (of("rule: {regex: 'x'}\n"), "kinds"),
        (of("rule: {matches: other}\n"), "other"),
        (of("rule: {pattern: a}\nfiles: ['[']\n"), "`files`"),
        ("id: mine\nlanguage: klingon\nrule: {pattern: a}\n".to_owned(), "klingon"),
        ("id: mine\nlanguage: sql\nrule: {pattern: a}\n".to_owned(), "sql"),
        ("id: 'a b'\nlanguage: python\nrule: {pattern: a}\n".to_owned(), "`id`"),
        (format!("{PRINT}---\n{PRINT}"), "another rule"),
        ("{ no yaml".to_owned(), "document 1"),
        ("- a\n".to_owned(), "has no `id`"),
    ] {
        let error = rules(&yaml).err().unwrap_or_else(|| panic!("{yaml}"));
        assert!(error.contains(reason) && error.contains("mine.yml"), "{yaml}: {error}");
        let has_id = yaml.contains("id: mine") || yaml.contains("id: no-print");
        assert!(!has_id || error.contains("rule mine") || error.contains("rule no-print"), "{yaml}: {error}");
    }
    let missing = UserRules::load(Path::new("/"), &["nowhere.yml".to_owned()]).err().unwrap();
    assert!(format!("{missing:#}").contains("nowhere.yml"));
}

#[test]
fn rule_that_is_off_is_none() {
    let rules = rules(&PRINT.replace("warning", "off")).unwrap();
    assert!(found(&rules, Language::Python, "a.py", "print(1)\n").is_empty());
}

#[test]
fn two_lists_beside_each_other_are_refused_for_they_miss_the_last_argument() {
    let rule = |pattern: &str| rules(&format!("id: x\nlanguage: python\nrule:\n  pattern: '{pattern}'\n"));
    assert!(rule("run($$$A, shell=True, $$$B)").err().unwrap().contains("two `$$$`"));
    rule("run($$$A, shell=True)").unwrap();
    let both = rules(
        "id: x\nlanguage: python\nrule:\n  any:\n    - pattern: run($$$A, shell=True)\n    - pattern: run(shell=True, $$$B)\n",
    );
    let both = both.unwrap();
    for text in ["run(a, shell=True)", "run(shell=True, b=1)", "run(shell=True)", "run(a, b, shell=True)"] {
        assert_eq!(found(&both, Language::Python, "a.py", text).len(), 1, "{text}");
    }
    let js = "id: x\nlanguage: javascript\nrule:\n  pattern: 'function $F($$$A) { $$$B }'\n";
    assert_eq!(found(&rules(js).unwrap(), Language::JavaScript, "a.js", "function f(a, b) { g(); h(); }").len(), 1);
}
