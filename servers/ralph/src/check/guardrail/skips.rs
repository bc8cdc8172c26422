//! Tests that are left out, or that leave all others out.

use tree_sitter::Node;

use super::names::{Names, constant, is_script};
use super::source::Source;
use super::{Mark, Rule, is_test_path};
use crate::language::Language;

/// The functions that make a test in JavaScript.
const SCRIPT_TESTS: &[&str] =
    &["it", "test", "describe", "context", "suite", "specify", "bench", "Scenario", "Feature"];

/// Their forms in one word, each with what it does.
const SCRIPT_WORDS: &[(&str, Rule)] = &[
    ("xit", Rule::TestSkipped),
    ("xtest", Rule::TestSkipped),
    ("xdescribe", Rule::TestSkipped),
    ("xcontext", Rule::TestSkipped),
    ("xspecify", Rule::TestSkipped),
    ("xsuite", Rule::TestSkipped),
    ("fit", Rule::TestFocused),
    ("ftest", Rule::TestFocused),
    ("fdescribe", Rule::TestFocused),
    ("fcontext", Rule::TestFocused),
    ("fspecify", Rule::TestFocused),
];

/// What test frameworks of JavaScript are imported from.
const SCRIPT_FRAMEWORKS: &[&str] = &[
    "vitest",
    "@jest/globals",
    "test",
    "bun:test",
    "mocha",
    "@playwright/test",
    "ava",
    "tape",
    "jasmine",
    "jest",
    "uvu",
    "tap",
    "@std/testing",
    "cypress",
    "qunit",
];

const PYTHON: &[(&str, Rule)] = &[
    ("pytest.mark.skip", Rule::TestSkipped),
    ("pytest.mark.skipif", Rule::TestSkippedSometimes),
    ("pytest.mark.xfail", Rule::TestSkipped),
    ("pytest.skip", Rule::TestSkipped),
    ("pytest.xfail", Rule::TestSkipped),
    ("pytest.importorskip", Rule::TestSkippedSometimes),
    ("_pytest.outcomes.skip", Rule::TestSkipped),
    ("_pytest.outcomes.Skipped", Rule::TestSkipped),
    ("pytest.skip.Exception", Rule::TestSkipped),
    ("unittest.skip", Rule::TestSkipped),
    ("unittest.skipIf", Rule::TestSkippedSometimes),
    ("unittest.skipUnless", Rule::TestSkippedSometimes),
    ("unittest.expectedFailure", Rule::TestSkipped),
    ("unittest.SkipTest", Rule::TestSkipped),
    ("unittest.case.SkipTest", Rule::TestSkipped),
    ("unittest.case.skip", Rule::TestSkipped),
    ("nose.SkipTest", Rule::TestSkipped),
    ("nose.plugins.skip.SkipTest", Rule::TestSkipped),
];

/// Annotations of Java, Kotlin and C#.
const ANNOTATIONS: &[(&str, Rule)] = &[
    ("Disabled", Rule::TestSkipped),
    ("Ignore", Rule::TestSkipped),
    ("DisabledIf", Rule::TestSkippedSometimes),
    ("EnabledIf", Rule::TestSkippedSometimes),
    ("DisabledOnOs", Rule::TestSkippedSometimes),
    ("EnabledOnOs", Rule::TestSkippedSometimes),
    ("DisabledOnJre", Rule::TestSkippedSometimes),
    ("DisabledIfSystemProperty", Rule::TestSkippedSometimes),
    ("DisabledIfEnvironmentVariable", Rule::TestSkippedSometimes),
    ("EnabledIfEnvironmentVariable", Rule::TestSkippedSometimes),
    ("EnabledIfSystemProperty", Rule::TestSkippedSometimes),
];

/// Words without which no test is skipped.
pub const HINTS: &[&str] = &[
    "skip",
    "xfail",
    "expectedFailure",
    "__test__",
    "pytest_collection_modifyitems",
    "collect_ignore",
    ".only",
    "only:",
    "'only'",
    "\"only\"",
    ".todo",
    "todo:",
    ".fixme",
    ".fails",
    ".failing",
    "xit",
    "xtest",
    "xdescribe",
    "xcontext",
    "xspecify",
    "xsuite",
    "fit(",
    "ftest(",
    "fdescribe",
    "fcontext",
    "fspecify",
    "pending",
    "ignore",
    "Ignore",
    "Disabled",
    "EnabledIf",
    "EnabledOn",
    "assumeTrue",
    "assumeFalse",
    "focus",
    "_exit",
    "exit(",
    "Exit(",
    "runIf",
    "DISABLED_",
    "Inconclusive",
    "markTestIncomplete",
    "disabled(",
    "getattr",
    "cfg(any())",
    "cfg(false)",
    "+SKIP",
    "XCTSkip",
];

/// Adds what is skipped and focused in `source`.
pub fn find(source: &Source<'_>, marks: &mut Vec<Mark>) {
    match source.language {
        Some(Language::Python) => python(source, marks),
        language if is_script(language) => script(source, marks),
        Some(Language::Rust) => rust(source, marks),
        Some(Language::Go) => go(source, marks),
        Some(Language::Java | Language::Kotlin | Language::CSharp) => annotated(source, marks),
        Some(Language::Ruby) => ruby(source, marks),
        Some(Language::Php) => php(source, marks),
        Some(Language::Swift) => swift(source, marks),
        Some(Language::C | Language::Cpp) => c(source, marks),
        _ => {}
    }
}

fn lookup(table: &[(&str, Rule)], name: &str) -> Option<Rule> {
    table.iter().find(|(known, _)| *known == name).map(|(_, rule)| *rule)
}

fn push(source: &Source<'_>, marks: &mut Vec<Mark>, rule: Rule, node: Node<'_>, subject: &str) {
    marks.push(Mark::new(source, rule, node.byte_range(), subject));
}

fn python(source: &Source<'_>, marks: &mut Vec<Mark>) {
    let names = Names::of(source);
    let in_tests = is_test_path(source.path);
    source.walk(|node| {
        match node.kind() {
            "import_statement" | "import_from_statement" => return false,
            "attribute" | "identifier" | "call" => {
                if let Some(path) = names.path(source, node) {
                    if let Some(rule) = lookup(PYTHON, &path) {
                        let rule = if rule == Rule::TestSkippedSometimes && always(source, node) {
                            Rule::TestSkipped
                        } else {
                            rule
                        };
                        push(source, marks, rule, node, &path);
                        return false;
                    }
                    if path.ends_with(".skipTest") {
                        push(source, marks, Rule::TestSkipped, node, "skipTest");
                        return false;
                    }
                    if node.kind() != "call" && !path.is_empty() {
                        return false;
                    }
                }
                if node.kind() == "call" && in_tests && ends_the_run(source, &names, node) {
                    push(source, marks, Rule::TestRunEnded, node, "exit");
                }
            }
            "assignment" => {
                let name = node.child_by_field_name("left").map(|left| source.of(left)).unwrap_or_default();
                let value = node.child_by_field_name("right").map(|right| source.of(right)).unwrap_or_default();
                let is_off = name.rsplit('.').next() == Some("__test__") && matches!(value, "False" | "0" | "None");
                if is_off || matches!(name, "collect_ignore" | "collect_ignore_glob") && value != "[]" {
                    push(source, marks, Rule::TestSkipped, node, name);
                }
            }
            "function_definition" if takes_tests_out(source, node) => {
                push(source, marks, Rule::TestSkippedSometimes, node, "pytest_collection_modifyitems");
            }
            "string" => {
                let text = source.of(node);
                if text.contains(">>>") && text.contains("doctest: +SKIP") {
                    for (at, _) in text.match_indices("doctest: +SKIP") {
                        let start = node.start_byte() + at;
                        marks.push(Mark::new(source, Rule::TestSkipped, start..start + 14, "doctest: +SKIP"));
                    }
                }
                return false;
            }
            _ => {}
        }
        true
    });
}

/// Returns whether `function` is the hook that takes tests out of the list of those to run.
fn takes_tests_out(source: &Source<'_>, function: Node<'_>) -> bool {
    let name = function.child_by_field_name("name").map(|name| source.of(name)).unwrap_or_default();
    let body = function.child_by_field_name("body").map(|body| source.of(body)).unwrap_or_default();
    let shortens = ["items.remove(", "items.clear(", "items.pop(", "del items"].iter().any(|word| body.contains(word));
    // Another order is no other list.
    name == "pytest_collection_modifyitems" && (shortens || body.contains("items[:] =") && !body.contains("sort"))
}

/// Returns whether the condition that `node` is called with always holds.
fn always(source: &Source<'_>, node: Node<'_>) -> bool {
    let call = match node.kind() {
        "call" => Some(node),
        _ => node.parent().filter(|parent| parent.kind() == "call"),
    };
    let condition =
        call.and_then(|call| call.child_by_field_name("arguments")).and_then(|arguments| arguments.named_child(0));
    condition.is_some_and(|condition| matches!(source.of(condition), "True" | "1" | "true" | "not False"))
}

/// Returns whether a call ends the whole run as if all went well.
fn ends_the_run(source: &Source<'_>, names: &Names, call: Node<'_>) -> bool {
    let Some(function) = call.child_by_field_name("function").and_then(|function| names.path(source, function)) else {
        return false;
    };
    let arguments = call.child_by_field_name("arguments").map(|arguments| source.of(arguments)).unwrap_or_default();
    let arguments: String = arguments.chars().filter(|c| !c.is_whitespace()).collect();
    match function.as_str() {
        "os._exit" | "process.exit" | "Deno.exit" => matches!(arguments.as_str(), "(0)" | "()"),
        "pytest.exit" => arguments.contains("returncode=0"),
        _ => false,
    }
}

fn script(source: &Source<'_>, marks: &mut Vec<Mark>) {
    let names = Names::of(source);
    let imports = SCRIPT_FRAMEWORKS.iter().any(|framework| {
        ["'", "\""].iter().any(|quote| {
            source.text.contains(&format!("{quote}{framework}{quote}"))
                || source.text.contains(&format!("{quote}node:{framework}{quote}"))
        })
    });
    if !imports && !is_test_path(source.path) {
        return;
    }
    source.walk(|node| {
        match node.kind() {
            "import_statement" => return false,
            "member_expression" | "subscript_expression" => {
                if let Some((rule, path)) = script_member(source, &names, node) {
                    push(source, marks, rule, node, &path);
                    return false;
                }
            }
            "call_expression" => script_call(source, &names, node, marks),
            _ => {}
        }
        true
    });
}

/// Returns what `it.skip`, `describe.only` and the like do.
fn script_member(source: &Source<'_>, names: &Names, node: Node<'_>) -> Option<(Rule, String)> {
    let path = names.path(source, node)?;
    let (object, last) = path.rsplit_once('.')?;
    let rule = match last {
        "skip" => Rule::TestSkipped,
        "only" => Rule::TestFocused,
        "todo" | "skipIf" | "runIf" => Rule::TestSkippedSometimes,
        "fixme" | "fails" | "failing" | "fail" => Rule::TestSkipped,
        _ => return None,
    };
    let words: Vec<&str> = object.split('.').collect();
    let is_test = |word: &&str| SCRIPT_TESTS.contains(word);
    let is_framework = |word: &str| SCRIPT_FRAMEWORKS.contains(&word);
    let known = match words.as_slice() {
        [first] => is_test(first) || is_framework(first) && *first != "test",
        // `it.concurrent.skip`, `vitest.it.skip`, `test.describe.only`
        [first, rest @ ..] => {
            is_test(first) || is_framework(first) && rest.iter().any(|word| is_test(word) || *word == "default")
        }
        [] => false,
    };
    // `this.skip()`, `t.skip()`: a test that leaves itself out.
    let leaves = matches!(object, "this" | "t" | "ctx" | "context" | "testInfo" | "task")
        && matches!(last, "skip" | "fixme" | "todo")
        && node.parent().is_some_and(|parent| parent.kind() == "call_expression");
    (known || leaves).then(|| (rule, path.clone()))
}

fn script_call(source: &Source<'_>, names: &Names, call: Node<'_>, marks: &mut Vec<Mark>) {
    let (Some(function), Some(arguments)) =
        (call.child_by_field_name("function"), call.child_by_field_name("arguments"))
    else {
        return;
    };
    if ends_the_run(source, names, call) {
        push(source, marks, Rule::TestRunEnded, call, "exit");
    }
    let Some(path) = names.path(source, function) else { return };
    let last = path.rsplit('.').next().unwrap_or(&path);
    let begins_with_text =
        arguments.named_child(0).is_some_and(|first| matches!(first.kind(), "string" | "template_string"));
    if let Some(rule) = lookup(SCRIPT_WORDS, last).filter(|_| begins_with_text && arguments.named_child_count() > 1) {
        push(source, marks, rule, function, last);
    }
    if last == "pending" && path == "pending" {
        push(source, marks, Rule::TestSkipped, function, "pending");
    }
    if !SCRIPT_TESTS.contains(&last) || !begins_with_text {
        return;
    }
    // `test('x', { skip: true }, …)` of node:test and others.
    for options in arguments.named_children(&mut arguments.walk()).filter(|argument| argument.kind() == "object") {
        for pair in options.named_children(&mut options.walk()).filter(|pair| pair.kind() == "pair") {
            let key =
                pair.child_by_field_name("key").map(|key| source.of(key).trim_matches(['"', '\''])).unwrap_or_default();
            let value = pair.child_by_field_name("value").map(|value| source.of(value)).unwrap_or_default();
            let rule = match key {
                "skip" | "fails" => Rule::TestSkipped,
                "todo" => Rule::TestSkippedSometimes,
                "only" => Rule::TestFocused,
                _ => continue,
            };
            if !matches!(value, "false" | "undefined" | "null" | "0") {
                push(source, marks, rule, pair, key);
            }
        }
    }
}

fn rust(source: &Source<'_>, marks: &mut Vec<Mark>) {
    source.walk(|node| {
        if !matches!(node.kind(), "attribute_item" | "inner_attribute_item") {
            return true;
        }
        let text: String = source.of(node).chars().filter(|c| !c.is_whitespace()).collect();
        let inner = text.trim_start_matches(['#', '!', '[']).trim_end_matches(']');
        let ignores = inner == "ignore"
            || inner.starts_with("ignore=")
            || inner.starts_with("cfg_attr(")
                && (inner.contains(",ignore)") || inner.contains(",ignore=") || inner.contains(",ignore,"));
        if ignores {
            let sometimes = inner.starts_with("cfg_attr(")
                && !inner.starts_with("cfg_attr(all(),")
                && !inner.starts_with("cfg_attr(true,");
            let rule = if sometimes { Rule::TestSkippedSometimes } else { Rule::TestSkipped };
            push(source, marks, rule, node, "ignore");
        } else if matches!(
            inner,
            "cfg(any())" | "cfg(false)" | "cfg(FALSE)" | "cfg(not(all()))" | "cfg(not(test))" | "cfg(never)"
        ) && (inner != "cfg(not(test))" || is_before_test(source, node))
        {
            push(source, marks, Rule::CodeSwitchedOff, node, inner);
        }
        false
    });
}

/// Returns whether an attribute stands beside `#[test]`.
fn is_before_test(source: &Source<'_>, node: Node<'_>) -> bool {
    let mut next = node.next_named_sibling();
    while let Some(sibling) = next.filter(|sibling| matches!(sibling.kind(), "attribute_item" | "line_comment")) {
        if source.of(sibling).contains("test") && sibling.kind() == "attribute_item" {
            return true;
        }
        next = sibling.next_named_sibling();
    }
    false
}

fn go(source: &Source<'_>, marks: &mut Vec<Mark>) {
    if !source.path.ends_with("_test.go") {
        return;
    }
    source.walk(|node| {
        if node.kind() == "comment" {
            let text: String = source.of(node).chars().filter(|c| !c.is_whitespace()).collect();
            if matches!(text.as_str(), "//go:buildignore" | "//+buildignore" | "//go:buildnever" | "//go:builddisabled")
            {
                push(source, marks, Rule::CodeSwitchedOff, node, "go:build");
            }
            return false;
        }
        if node.kind() == "call_expression"
            && let Some(function) = node.child_by_field_name("function")
            && function.kind() == "selector_expression"
            && let Some(field) = function.child_by_field_name("field")
        {
            let operand = function.child_by_field_name("operand").map(|operand| source.of(operand)).unwrap_or_default();
            if matches!(source.of(field), "Skip" | "Skipf" | "SkipNow")
                && !operand.starts_with(|c: char| c.is_ascii_uppercase())
            {
                let rule = if go_is_conditional(source, node) { Rule::TestSkippedSometimes } else { Rule::TestSkipped };
                push(source, marks, rule, node, source.of(field));
            }
            let arguments =
                node.child_by_field_name("arguments").map(|arguments| source.of(arguments)).unwrap_or_default();
            if operand == "os" && source.of(field) == "Exit" && arguments == "(0)" {
                push(source, marks, Rule::TestRunEnded, node, "os.Exit");
            }
        }
        true
    });
}

/// Returns whether a call is made only under a condition that is not constant.
fn go_is_conditional(source: &Source<'_>, node: Node<'_>) -> bool {
    let mut above = node.parent();
    while let Some(node) = above {
        match node.kind() {
            "if_statement" => {
                let condition = node.child_by_field_name("condition").map(|condition| source.of(condition));
                return !matches!(condition, Some("true" | "!false" | "1 == 1"));
            }
            "function_declaration" | "func_literal" | "method_declaration" => return false,
            _ => {}
        }
        above = node.parent();
    }
    false
}

fn annotated(source: &Source<'_>, marks: &mut Vec<Mark>) {
    let in_tests = is_test_path(source.path);
    source.walk(|node| {
        match node.kind() {
            "marker_annotation" | "annotation" | "attribute" => {
                let text = source.of(node).trim_start_matches(['@', '[']);
                let name = text.split(['(', '<', '[', ' ', ']']).next().unwrap_or_default();
                let name = name.rsplit(['.', ':']).next().unwrap_or_default();
                let flat: String = text.chars().filter(|c| !c.is_whitespace()).collect();
                if let Some(rule) = lookup(ANNOTATIONS, name).filter(|_| in_tests || name != "Ignore") {
                    push(source, marks, rule, node, name);
                } else if matches!(name, "Fact" | "Theory" | "Test" | "TestMethod" | "TestCase" | "SkippableFact")
                    && (flat.contains("Skip=")
                        || flat.contains("Ignore=")
                        || flat.contains("enabled=false")
                        || flat.contains("IgnoreMessage="))
                {
                    push(source, marks, Rule::TestSkipped, node, "Skip");
                } else if name == "Explicit" && in_tests {
                    push(source, marks, Rule::TestSkipped, node, name);
                }
                return false;
            }
            "method_invocation" | "invocation_expression" | "call_expression" if in_tests => {
                let text: String = source.of(node).chars().filter(|c| !c.is_whitespace()).take(80).collect();
                let bare = ["Assumptions.", "Assume.", "Assert."]
                    .iter()
                    .find_map(|prefix| text.strip_prefix(prefix))
                    .unwrap_or(&text);
                if bare.starts_with("assumeTrue(false")
                    || bare.starts_with("assumeFalse(true")
                    || bare.starts_with("Ignore(")
                    || bare.starts_with("Inconclusive(")
                {
                    push(source, marks, Rule::TestSkipped, node, "assume");
                    return false;
                }
                if bare.starts_with("assumeTrue(")
                    || bare.starts_with("assumeFalse(")
                    || bare.starts_with("assumeThat(")
                {
                    push(source, marks, Rule::TestSkippedSometimes, node, "assume");
                    return false;
                }
            }
            _ => {}
        }
        true
    });
}

fn ruby(source: &Source<'_>, marks: &mut Vec<Mark>) {
    if !is_test_path(source.path) {
        return;
    }
    source.walk(|node| {
        match node.kind() {
            "call" | "identifier" => {
                let (name, has_receiver, arguments) = if node.kind() == "call" {
                    let name = node.child_by_field_name("method").map(|method| source.of(method)).unwrap_or_default();
                    (name, node.child_by_field_name("receiver").is_some(), node.child_by_field_name("arguments"))
                } else {
                    // `skip` alone, as a statement.
                    let statement = node.parent().is_some_and(|parent| {
                        matches!(parent.kind(), "body_statement" | "block_body" | "then" | "program")
                    });
                    (if statement { source.of(node) } else { "" }, false, None)
                };
                let rule = match name {
                    "xit" | "xdescribe" | "xcontext" | "xspecify" | "xscenario" | "xexample" | "xfeature" => {
                        Rule::TestSkipped
                    }
                    "fit" | "fdescribe" | "fcontext" | "fspecify" | "fexample" | "focus" | "fscenario" => {
                        Rule::TestFocused
                    }
                    "skip" | "pending" if !has_receiver => Rule::TestSkipped,
                    _ => {
                        if let Some(arguments) = arguments {
                            ruby_options(source, name, arguments, marks);
                        }
                        return true;
                    }
                };
                if !has_receiver {
                    push(source, marks, rule, node, name);
                    return false;
                }
            }
            _ => {}
        }
        true
    });
}

/// `it "x", skip: true do`, `describe "x", :focus do`
fn ruby_options(source: &Source<'_>, name: &str, arguments: Node<'_>, marks: &mut Vec<Mark>) {
    if !matches!(name, "it" | "describe" | "context" | "specify" | "example" | "scenario" | "feature" | "test") {
        return;
    }
    for argument in arguments.named_children(&mut arguments.walk()) {
        let text: String = source.of(argument).chars().filter(|c| !c.is_whitespace()).collect();
        let rule = match text.trim_start_matches(':') {
            "skip" | "pending" if text.starts_with(':') => Rule::TestSkipped,
            "focus" if text.starts_with(':') => Rule::TestFocused,
            other => match other.split_once([':', '=']) {
                Some(("skip" | "pending", value)) if !value.ends_with("false") && !value.ends_with("nil") => {
                    Rule::TestSkipped
                }
                Some(("focus", value)) if !value.ends_with("false") => Rule::TestFocused,
                _ => continue,
            },
        };
        push(source, marks, rule, argument, name);
    }
}

fn php(source: &Source<'_>, marks: &mut Vec<Mark>) {
    source.walk(|node| match node.kind() {
        "member_call_expression" | "scoped_call_expression" => {
            let name = node.child_by_field_name("name").map(|name| source.of(name)).unwrap_or_default();
            let rule = match name {
                "markTestSkipped" | "markTestIncomplete" => Rule::TestSkipped,
                "skip" | "todo"
                    if source.of(node).trim_start().starts_with("it(")
                        || source.of(node).trim_start().starts_with("test(") =>
                {
                    Rule::TestSkipped
                }
                "only"
                    if source.of(node).trim_start().starts_with("it(")
                        || source.of(node).trim_start().starts_with("test(") =>
                {
                    Rule::TestFocused
                }
                _ => return true,
            };
            push(source, marks, rule, node, name);
            false
        }
        _ => true,
    });
}

fn swift(source: &Source<'_>, marks: &mut Vec<Mark>) {
    source.walk(|node| match node.kind() {
        "call_expression" | "attribute" => {
            let text: String = source.of(node).chars().filter(|c| !c.is_whitespace()).take(200).collect();
            if text.starts_with("XCTSkip(")
                || text.starts_with("XCTSkipIf(true")
                || text.starts_with("@Test(.disabled")
                || text.starts_with("@Test(") && text.contains(".disabled(")
                || text.starts_with("@Suite(.disabled")
            {
                push(source, marks, Rule::TestSkipped, node, "XCTSkip");
                return false;
            }
            if text.starts_with("XCTSkipIf(") || text.starts_with("XCTSkipUnless(") {
                push(source, marks, Rule::TestSkippedSometimes, node, "XCTSkipIf");
                return false;
            }
            true
        }
        _ => true,
    });
}

fn c(source: &Source<'_>, marks: &mut Vec<Mark>) {
    source.walk(|node| match node.kind() {
        "call_expression" | "function_definition" | "function_declarator" => {
            let text: String = source.of(node).chars().filter(|c| !c.is_whitespace()).take(200).collect();
            if text.starts_with("GTEST_SKIP(") {
                push(source, marks, Rule::TestSkipped, node, "GTEST_SKIP");
                return false;
            }
            let is_test = ["TEST(", "TEST_F(", "TEST_P(", "TYPED_TEST("].iter().any(|word| text.starts_with(word));
            if is_test && text.split(')').next().is_some_and(|head| head.contains("DISABLED_")) {
                push(source, marks, Rule::TestSkipped, node, "DISABLED_");
                return false;
            }
            true
        }
        _ => true,
    });
}

/// Returns the constant texts among the elements of a list or the arguments of a call.
pub(super) fn constants<'s>(source: &Source<'s>, list: Node<'_>) -> Vec<&'s str> {
    list.named_children(&mut list.walk()).filter_map(|element| constant(source, element)).collect()
}
