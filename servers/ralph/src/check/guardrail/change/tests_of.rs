//! The tests in a file, and what each asserts.

use std::collections::BTreeSet;

use tree_sitter::Node;

use super::assertion::{self, Assertion};
use crate::baseline::normal;
use crate::check::guardrail::is_test_path;
use crate::check::guardrail::names::{Names, constant, is_script};
use crate::check::guardrail::source::{self, Source};
use crate::language::Language;

/// One function of a file: a test, or one that might be.
#[derive(Clone, Debug, Default)]
pub struct TestCase {
    /// Its name, behind those of what it is in.
    pub name: String,
    /// Its own name.
    pub bare: String,
    /// What its name is bound in, and its name.
    place: String,
    /// Where it begins, counted from 1.
    pub line: usize,
    /// Whether a test framework would run it.
    pub collected: bool,
    /// Whether a failure is what makes it pass.
    pub expects_failure: bool,
    /// Whether it is run with several sets of values.
    pub with_parameters: bool,
    /// Whether its body does nothing.
    pub empty: bool,
    /// Its body, without layout.
    pub body: String,
    /// What it asserts.
    pub assertions: Vec<Assertion>,
    /// The names in it.
    pub words: BTreeSet<String>,
    /// The constants in it.
    pub literals: BTreeSet<String>,
    /// What it puts something else in the place of.
    pub replaced: BTreeSet<String>,
}

impl TestCase {
    /// Returns the assertions that count.
    pub fn live(&self) -> impl Iterator<Item = &Assertion> {
        self.assertions.iter().filter(|assertion| assertion.fault.is_none())
    }
}

/// Returns the functions of a file that are tests, or might be; none where the language's tests are not known.
#[must_use]
pub fn of(source: &Source<'_>) -> Vec<TestCase> {
    let names = Names::of(source);
    let mut cases = Vec::new();
    let Some(tree) = &source.tree else { return cases };
    source::walk(tree.root_node(), &mut |node| {
        if let Some(head) = head(source, &names, node) {
            cases.push(case(source, &names, node, head));
            // A test may have others in it only where they are calls.
            return is_script(source.language);
        }
        true
    });
    if source.language == Some(Language::Python) {
        taken_back(source, &mut cases);
    }
    cases
}

/// Finds the tests whose name stands for something else once the module is loaded: a later function of the same name,
/// another value, nothing.
fn taken_back(source: &Source<'_>, cases: &mut [TestCase]) {
    let mut later: Vec<(String, usize)> = Vec::new();
    source.walk(|node| {
        let name = match node.kind() {
            "function_definition" => node.child_by_field_name("name"),
            "assignment" => {
                let value = node.child_by_field_name("right").map(|value| source.of(value)).unwrap_or_default();
                // `test_a = slow(test_a)` is still that test.
                node.child_by_field_name("left").filter(|left| !value.contains(source.of(*left)))
            }
            "delete_statement" => node.named_child(0),
            "class_definition" | "module" | "block" | "decorated_definition" | "expression_statement" => return true,
            _ => return false,
        };
        if let Some(name) = name {
            later.push((format!("{}{}", prefix(source, node), source.of(name)), node.start_position().row + 1));
        }
        false
    });
    for case in cases {
        let is_taken = later.iter().any(|(name, line)| *name == case.place && *line > case.line);
        case.collected &= !is_taken;
    }
}

/// Returns where a name of Python is bound: the same for all that can take its place.
fn prefix(source: &Source<'_>, node: Node<'_>) -> String {
    let mut prefix = String::new();
    let mut above = node.parent();
    while let Some(outer) = above {
        if outer.kind() == "class_definition" {
            let name = outer.child_by_field_name("name").map(|name| source.of(name)).unwrap_or_default();
            prefix = format!("{name}.{prefix}");
        }
        above = outer.parent();
    }
    prefix
}

/// Returns the names of what `source` defines.
#[must_use]
pub fn definitions(source: &Source<'_>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    source.walk(|node| {
        let kind = node.kind();
        let defines = kind.ends_with("_definition")
            || kind.ends_with("_declaration")
            || kind.ends_with("_item")
            || kind.ends_with("_declarator")
            || matches!(
                kind,
                "method"
                    | "class"
                    | "module"
                    | "type_spec"
                    | "function_signature_item"
                    | "method_spec"
                    | "singleton_method"
                    | "enum_variant"
            );
        if defines && let Some(name) = node.child_by_field_name("name") {
            let name = source.of(name);
            if name.len() > 2 {
                found.insert(name.to_owned());
            }
        }
        true
    });
    found
}

/// Returns the names of the modules of tests that a file of Rust declares and that are files of their own.
#[must_use]
pub fn modules(source: &Source<'_>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    source.walk(|node| {
        if node.kind() == "mod_item" && node.child_by_field_name("body").is_none() {
            let name = node.child_by_field_name("name").map(|name| source.of(name)).unwrap_or_default();
            let above = node.prev_sibling().filter(|sibling| sibling.kind() == "attribute_item");
            let for_tests = above.is_some_and(|attribute| source.of(attribute).contains("test"));
            if for_tests || name.starts_with("test") {
                found.insert(name.to_owned());
            }
        }
        true
    });
    found
}

/// What makes a node a test.
struct Head<'t> {
    bare: String,
    body: Node<'t>,
    collected: bool,
    expects_failure: bool,
    with_parameters: bool,
}

fn head<'t>(source: &Source<'_>, names: &Names, node: Node<'t>) -> Option<Head<'t>> {
    match source.language? {
        Language::Python => python(source, node),
        Language::Rust => rust(source, node),
        Language::Go => go(source, node),
        Language::Java | Language::Kotlin | Language::CSharp | Language::Php => annotated(source, node),
        Language::Ruby => ruby(source, node),
        language if is_script(Some(language)) => script(source, names, node),
        _ => None,
    }
}

fn python<'t>(source: &Source<'_>, node: Node<'t>) -> Option<Head<'t>> {
    if node.kind() != "function_definition" || !is_test_path(source.path) {
        return None;
    }
    let bare = source.of(node.child_by_field_name("name")?).to_owned();
    let body = node.child_by_field_name("body")?;
    let decorators = decorators(source, node);
    if decorators.contains("fixture") {
        return None;
    }
    let stem = source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".py");
    let in_file = stem.starts_with("test_") || stem.ends_with("_test") || matches!(stem, "test" | "tests");
    let mut collected = in_file && bare.starts_with("test");
    let mut above = node.parent();
    while let Some(outer) = above {
        match outer.kind() {
            "class_definition" => {
                let name = outer.child_by_field_name("name").map(|name| source.of(name)).unwrap_or_default();
                let bases = outer.child_by_field_name("superclasses").map(|bases| source.of(bases)).unwrap_or_default();
                let has_init =
                    outer.child_by_field_name("body").is_some_and(|body| source.of(body).contains("def __init__("));
                collected &= bases.contains("Test") || name.starts_with("Test") && !has_init;
            }
            // A function within a function is not collected.
            "function_definition" => return None,
            "if_statement" => {
                let condition =
                    outer.child_by_field_name("condition").map(|condition| source.of(condition)).unwrap_or_default();
                collected &= assertion::constant_truth(condition) != Some(false);
            }
            _ => {}
        }
        above = outer.parent();
    }
    Some(Head {
        bare,
        body,
        collected,
        expects_failure: decorators.contains("xfail") || decorators.contains("expectedFailure"),
        with_parameters: decorators.contains("parametrize")
            || decorators.contains("parameterized")
            || source.of(body).contains("subTest("),
    })
}

fn decorators(source: &Source<'_>, node: Node<'_>) -> String {
    let Some(parent) = node.parent().filter(|parent| parent.kind() == "decorated_definition") else {
        return String::new();
    };
    parent
        .named_children(&mut parent.walk())
        .filter(|child| child.kind() == "decorator")
        .map(|child| source.of(child))
        .collect()
}

fn rust<'t>(source: &Source<'_>, node: Node<'t>) -> Option<Head<'t>> {
    if node.kind() != "function_item" {
        return None;
    }
    let mut attributes = String::new();
    let mut before = node.prev_sibling();
    while let Some(sibling) =
        before.filter(|sibling| matches!(sibling.kind(), "attribute_item" | "line_comment" | "block_comment"))
    {
        if sibling.kind() == "attribute_item" {
            attributes.extend(source.of(sibling).chars().filter(|c| !c.is_whitespace()));
        }
        before = sibling.prev_sibling();
    }
    let is_test = attributes.split("#[").any(|attribute| {
        let path = attribute.split(['(', ']', '=']).next().unwrap_or_default();
        let last = path.rsplit("::").next().unwrap_or_default();
        matches!(
            last,
            "test" | "rstest" | "test_case" | "wasm_bindgen_test" | "quickcheck" | "test_log" | "traced_test"
        )
    });
    // What is in a module of tests, and takes nothing, was a test or will be one.
    let bare = source.of(node.child_by_field_name("name")?).to_owned();
    let takes_nothing =
        node.child_by_field_name("parameters").is_some_and(|parameters| parameters.named_child_count() == 0);
    let in_tests = is_test_path(source.path) || {
        let mut above = node.parent();
        std::iter::from_fn(|| {
            let outer = above?;
            above = outer.parent();
            Some(outer)
        })
        .any(|outer| {
            outer.kind() == "mod_item"
                && outer.child_by_field_name("name").is_some_and(|name| source.of(name).starts_with("test"))
        })
    };
    let may_be_one = is_test || in_tests && takes_nothing;
    if !may_be_one {
        return None;
    }
    Some(Head {
        bare,
        body: node.child_by_field_name("body")?,
        collected: is_test && !attributes.contains("cfg(any())") && !attributes.contains("cfg(not(test))"),
        expects_failure: attributes.contains("should_panic"),
        with_parameters: attributes.contains("rstest")
            || attributes.contains("test_case")
            || attributes.contains("[case"),
    })
}

fn go<'t>(source: &Source<'_>, node: Node<'t>) -> Option<Head<'t>> {
    if node.kind() != "function_declaration" || !source.path.ends_with("_test.go") {
        return None;
    }
    let bare = source.of(node.child_by_field_name("name")?).to_owned();
    let parameters = node.child_by_field_name("parameters").map(|parameters| source.of(parameters)).unwrap_or_default();
    if !parameters.contains("testing.T") || parameters.contains(',') {
        return None;
    }
    let collected = bare.strip_prefix("Test").is_some_and(|rest| !rest.starts_with(|c: char| c.is_lowercase()));
    let body = node.child_by_field_name("body")?;
    Some(Head { bare, body, collected, expects_failure: false, with_parameters: source.of(body).contains("range ") })
}

fn annotated<'t>(source: &Source<'_>, node: Node<'t>) -> Option<Head<'t>> {
    if !matches!(node.kind(), "method_declaration" | "function_declaration") || !is_test_path(source.path) {
        return None;
    }
    let name = node.child_by_field_name("name").or_else(|| {
        node.named_children(&mut node.walk()).find(|child| matches!(child.kind(), "identifier" | "simple_identifier"))
    })?;
    let bare = source.of(name).to_owned();
    let body = node.child_by_field_name("body").or_else(|| {
        node.named_children(&mut node.walk()).find(|child| matches!(child.kind(), "function_body" | "block"))
    })?;
    let top = source.text.get(node.start_byte()..name.start_byte()).unwrap_or_default();
    let before = node.prev_named_sibling().map(|sibling| source.of(sibling)).unwrap_or_default();
    let marks = [
        "@Test",
        "@ParameterizedTest",
        "@RepeatedTest",
        "@TestFactory",
        "[Fact",
        "[Theory",
        "[Test",
        "[TestMethod",
        "#[Test",
        "@Property",
    ];
    let annotated = marks.iter().any(|mark| top.contains(mark)) || before.contains("@test") && before.starts_with("/*");
    let by_name = source.language == Some(Language::Php) && bare.starts_with("test");
    let parameters = node.child_by_field_name("parameters").map_or(0, |parameters| parameters.named_child_count());
    if !annotated
        && !by_name
        && (parameters > 0
            || top.contains("@Before")
            || top.contains("@After")
            || top.contains("[SetUp")
            || top.contains("Override"))
    {
        return None;
    }
    let with_parameters = top.contains("Parameterized") || top.contains("[Theory") || top.contains("DataProvider");
    let expects_failure = top.contains("expected") && top.contains("@Test(");
    Some(Head { bare, body, collected: annotated || by_name, expects_failure, with_parameters })
}

fn ruby<'t>(source: &Source<'_>, node: Node<'t>) -> Option<Head<'t>> {
    if !is_test_path(source.path) {
        return None;
    }
    match node.kind() {
        "method" => {
            let bare = source.of(node.child_by_field_name("name")?).to_owned();
            let collected = bare.starts_with("test_");
            if matches!(bare.as_str(), "setup" | "teardown") || node.child_by_field_name("parameters").is_some() {
                return None;
            }
            Some(Head { bare, body: node, collected, expects_failure: false, with_parameters: false })
        }
        "call" => {
            let method = source.of(node.child_by_field_name("method")?);
            let collected = matches!(method, "it" | "specify" | "example" | "scenario" | "test" | "fit");
            if !collected && !matches!(method, "xit" | "xspecify" | "xscenario")
                || node.child_by_field_name("receiver").is_some()
            {
                return None;
            }
            let block = node.child_by_field_name("block")?;
            let arguments = node.child_by_field_name("arguments");
            let bare = arguments
                .and_then(|list| list.named_child(0))
                .map(|first| source.of(first).trim_matches(['"', '\'']).to_owned());
            Some(Head {
                bare: bare.unwrap_or_default(),
                body: block,
                collected,
                expects_failure: false,
                with_parameters: false,
            })
        }
        _ => None,
    }
}

fn script<'t>(source: &Source<'_>, names: &Names, node: Node<'t>) -> Option<Head<'t>> {
    if node.kind() != "call_expression" || !is_test_path(source.path) {
        return None;
    }
    let function = node.child_by_field_name("function")?;
    // `it.each([…])("name", …)` calls what a call gave back.
    let (callee, with_parameters) = match function.kind() {
        "call_expression" => (function.child_by_field_name("function")?, true),
        _ => (function, false),
    };
    let path = names.path(source, callee)?;
    let mut words =
        path.split('.').skip_while(|word| !matches!(*word, "it" | "test" | "specify" | "xit" | "xtest" | "fit"));
    let first = words.next()?;
    let rest: Vec<&str> = words.collect();
    if rest.iter().any(|word| {
        matches!(*word, "describe" | "beforeEach" | "afterEach" | "beforeAll" | "afterAll" | "use" | "step" | "extend")
    }) {
        return None;
    }
    let arguments = node.child_by_field_name("arguments")?;
    let list: Vec<Node<'t>> = arguments.named_children(&mut arguments.walk()).collect();
    let bare = list.first().and_then(|first| constant(source, *first)).unwrap_or_default().to_owned();
    let body = list
        .iter()
        .find(|argument| matches!(argument.kind(), "arrow_function" | "function_expression" | "function"))?;
    let body = body.child_by_field_name("body").unwrap_or(*body);
    let collected =
        matches!(first, "it" | "test" | "specify" | "fit") && !rest.iter().any(|word| matches!(*word, "skip" | "todo"));
    Some(Head {
        bare,
        body,
        collected,
        expects_failure: rest.iter().any(|word| matches!(*word, "fails" | "failing" | "fail")),
        with_parameters: with_parameters || rest.contains(&"each"),
    })
}

fn case(source: &Source<'_>, names: &Names, node: Node<'_>, head: Head<'_>) -> TestCase {
    let mut outer = Vec::new();
    let mut above = node.parent();
    while let Some(node) = above {
        let name = match node.kind() {
            "class_definition" | "class_declaration" | "mod_item" | "class" | "module" => {
                node.child_by_field_name("name").map(|name| source.of(name).to_owned())
            }
            "call_expression" | "call" => {
                let list = node.child_by_field_name("arguments").and_then(|arguments| arguments.named_child(0));
                list.and_then(|first| constant(source, first)).map(str::to_owned)
            }
            _ => None,
        };
        outer.extend(name);
        above = node.parent();
    }
    outer.reverse();
    outer.push(head.bare.clone());
    let mut words = BTreeSet::new();
    let mut literals = BTreeSet::new();
    // The values of a test with several are in front of it.
    let whole = node.parent().filter(|parent| parent.kind() == "decorated_definition").unwrap_or(node);
    source::walk(whole, &mut |inner| {
        let kind = inner.kind();
        if inner.child_count() == 0 || constant(source, inner).is_some() {
            let text = source.of(inner);
            if kind.contains("string")
                || kind.contains("integer")
                || kind.contains("float")
                || kind.contains("number")
                || kind.contains("int_literal")
                || kind.contains("decimal")
            {
                literals.insert(normal(text.trim_matches(['"', '\'', '`'])));
            } else if kind.contains("identifier") || kind == "constant" || kind == "name" {
                words.insert(text.to_owned());
            }
            return !kind.contains("string");
        }
        true
    });
    TestCase {
        name: outer.join("::"),
        place: format!("{}{}", prefix(source, node), head.bare),
        bare: head.bare,
        line: node.start_position().row + 1,
        collected: head.collected,
        expects_failure: head.expects_failure,
        with_parameters: head.with_parameters,
        empty: is_empty(source, head.body),
        body: normal(source.of(head.body)),
        assertions: assertion::of(source, names, head.body),
        replaced: replaced(source, names, whole),
        words,
        literals,
    }
}

/// Returns whether a body has nothing in it that does anything.
fn is_empty(source: &Source<'_>, body: Node<'_>) -> bool {
    if body.kind() == "method" {
        return body.named_child_count() <= 1;
    }
    body.named_children(&mut body.walk()).all(|statement| {
        let kind = statement.kind();
        let is_constant = kind == "expression_statement"
            && statement.named_child(0).is_some_and(|inner| inner.kind() == "string" || inner.kind() == "ellipsis");
        kind.ends_with("comment") || kind == "pass_statement" || is_constant || source.of(statement).trim() == ";"
    })
}

/// Returns the last names of what is replaced by something that the test made up.
fn replaced(source: &Source<'_>, names: &Names, node: Node<'_>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    source::walk(node, &mut |inner| {
        if !matches!(inner.kind(), "call" | "call_expression") {
            return true;
        }
        let Some(path) = inner.child_by_field_name("function").and_then(|function| names.path(source, function)) else {
            return true;
        };
        let Some(arguments) = inner.child_by_field_name("arguments") else { return true };
        let constants: Vec<&str> = arguments
            .named_children(&mut arguments.walk())
            .take(2)
            .filter_map(|argument| constant(source, argument))
            .collect();
        let target = match path.rsplit('.').next().unwrap_or_default() {
            "patch" => constants.first(),
            "object" if path.ends_with("patch.object") => constants.first(),
            "setattr" if path.starts_with("monkeypatch") => constants.last(),
            // Watching a function is not replacing it.
            "spyOn" if inner.parent().is_some_and(|parent| source.of(parent).contains(".mock")) => constants.first(),
            _ => None,
        };
        if let Some(target) = target {
            found.insert(target.rsplit('.').next().unwrap_or(target).to_owned());
        }
        true
    });
    found
}
