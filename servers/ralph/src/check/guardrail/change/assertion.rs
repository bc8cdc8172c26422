//! Assertions: what each is about, how much it demands, and whether it is ever made.

mod flow;
mod go;
mod named;
mod python;
mod rust;
mod script;
mod tolerance;

use std::collections::HashMap;

use tree_sitter::Node;

use crate::baseline::normal;
use crate::check::guardrail::names::{Names, is_script};
use crate::check::guardrail::source::{self, Source};
use crate::language::Language;
use flow::{leaves, swallows, yields};
use tolerance::tolerance;

pub use flow::constant_truth;

/// Nothing.
pub const NOTHING: u8 = 0;
/// That there is something, or that it is true.
pub const TRUTH: u8 = 2;
/// That it is one of several, contains something, or is another than something.
pub const PART: u8 = 3;
/// That it is this.
pub const EQUAL: u8 = 5;

/// Why an assertion does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It stands behind a `return`.
    BehindReturn,
    /// It stands under a condition that never holds.
    NeverReached,
    /// It holds whatever happens.
    Constant,
    /// Its failure is caught and dropped.
    Swallowed,
}

/// One assertion.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    /// All of it, without layout.
    pub text: String,
    /// What it is about, without layout, names of variables replaced by what they stand for.
    pub subject: String,
    /// How much it demands.
    pub strength: u8,
    /// By how much a number may differ; the larger the looser.
    pub tolerance: Option<f64>,
    /// Where, counted from 1.
    pub line: usize,
    /// Why it does not count.
    pub fault: Option<Fault>,
    /// The function of the file that makes it, when the test does not itself.
    pub through: Option<String>,
}

struct Reader<'r, 's> {
    source: &'r Source<'s>,
    names: &'r Names,
    /// What each variable of the test was first assigned.
    values: HashMap<String, String>,
    found: Vec<Assertion>,
    /// The functions of the file that are being read because the test calls them.
    inside: Vec<String>,
}

/// How deep functions that the test calls are followed.
const HELPERS_DEEP: usize = 3;

/// Assertions of one test that are looked at; more say nothing more.
const ASSERTIONS_MAX: usize = 2_000;

/// Returns what is asserted in `body`, in order.
#[must_use]
pub fn of(source: &Source<'_>, names: &Names, body: Node<'_>) -> Vec<Assertion> {
    let mut reader = Reader { source, names, values: HashMap::new(), found: Vec::new(), inside: Vec::new() };
    reader.assigned(body);
    // Nobody runs the generator that a function with `yield` gives back.
    let generates = source.language == Some(Language::Python) && yields(body);
    reader.block(body, generates.then_some(Fault::NeverReached), 0);
    reader.found
}

impl Reader<'_, '_> {
    /// Notes what variables are assigned, the first time.
    fn assigned(&mut self, body: Node<'_>) {
        let mut twice = Vec::new();
        let mut values = HashMap::new();
        source::walk(body, &mut |node| {
            let pair = match node.kind() {
                "assignment" => (node.child_by_field_name("left"), node.child_by_field_name("right")),
                "variable_declarator" => (node.child_by_field_name("name"), node.child_by_field_name("value")),
                "let_declaration" => (node.child_by_field_name("pattern"), node.child_by_field_name("value")),
                "short_var_declaration" => (node.child_by_field_name("left"), node.child_by_field_name("right")),
                _ => return true,
            };
            if let (Some(name), Some(value)) = pair {
                let name = self.source.of(name).trim();
                if name.chars().all(|c| c.is_alphanumeric() || c == '_')
                    && values.insert(name.to_owned(), normal(self.source.of(value))).is_some()
                {
                    twice.push(name.to_owned());
                }
            }
            true
        });
        for name in twice {
            values.remove(&name);
        }
        self.values = values;
    }

    /// Reads what is in `node`; `fault` is why nothing in it counts.
    fn block(&mut self, node: Node<'_>, fault: Option<Fault>, depth: usize) {
        if depth > 120 {
            return;
        }
        let mut fault = fault;
        for child in node.named_children(&mut node.walk()) {
            self.statement(child, fault, depth);
            if fault.is_none() && leaves(self.source, child) {
                fault = Some(Fault::BehindReturn);
            }
        }
    }

    fn statement(&mut self, node: Node<'_>, fault: Option<Fault>, depth: usize) {
        if let Some(assertion) = self.assertion(node) {
            let fault = fault.or(assertion.fault);
            self.found.push(Assertion { fault, ..assertion });
            // `with pytest.raises(…):` has a body of its own.
            if !matches!(node.kind(), "with_statement") {
                return;
            }
        }
        self.helped(node, fault);
        match node.kind() {
            "if_statement" | "if_expression" | "if" | "unless" | "elif_clause" => self.branch(node, fault, depth),
            "while_statement" | "while_expression" => {
                let condition = node.child_by_field_name("condition").map(|condition| self.source.of(condition));
                let never = condition.and_then(constant_truth) == Some(false);
                self.block(node, fault.or(never.then_some(Fault::NeverReached)), depth + 1);
            }
            "for_statement" | "for_in_statement" | "for_expression" => {
                let over = ["right", "value"]
                    .iter()
                    .find_map(|field| node.child_by_field_name(field))
                    .map(|over| normal(self.source.of(over)));
                let never = over.is_some_and(|over| {
                    matches!(over.as_str(), "[]" | "()" | "{}" | "range(0)" | "set()" | "list()" | "0..0" | "vec![]")
                });
                self.block(node, fault.or(never.then_some(Fault::NeverReached)), depth + 1);
            }
            "try_statement" | "begin" | "rescue_modifier" => {
                let swallows = swallows(self.source, node);
                for child in node.named_children(&mut node.walk()) {
                    // What a handler asserts is made only if something went wrong.
                    let handler = matches!(child.kind(), "except_clause" | "catch_clause" | "rescue");
                    let inner = if swallows && !handler { fault.or(Some(Fault::Swallowed)) } else { fault };
                    self.statement(child, inner, depth + 1);
                }
            }
            "with_statement" => {
                let items: String = node
                    .named_children(&mut node.walk())
                    .filter(|child| child.kind() != "block")
                    .map(|child| normal(self.source.of(child)))
                    .collect();
                let swallows = ["suppress(Exception", "suppress(BaseException", "suppress(AssertionError"]
                    .iter()
                    .any(|word| items.contains(word));
                self.block(node, fault.or(swallows.then_some(Fault::Swallowed)), depth + 1);
            }
            // A function that nobody calls.
            "function_definition" | "function_declaration" | "function_item" => {
                let name = node.child_by_field_name("name").map(|name| self.source.of(name)).unwrap_or_default();
                let around = node.parent().map(|parent| self.source.of(parent)).unwrap_or_default();
                let used = name.is_empty() || around.matches(name).count() > 1;
                self.block(node, fault.or((!used).then_some(Fault::NeverReached)), depth + 1);
            }
            "lambda" | "arrow_function" | "function_expression" => {
                let unused = self.is_unused(node);
                self.block(node, fault.or(unused.then_some(Fault::NeverReached)), depth + 1);
            }
            // What follows a `return` in a block of its own is not made either.
            _ => self.block(node, fault, depth + 1),
        }
    }

    /// Reads what a function of the same file asserts of the values that the call `node` gives it.
    fn helped(&mut self, node: Node<'_>, fault: Option<Fault>) {
        if !matches!(node.kind(), "call" | "call_expression")
            || self.inside.len() >= HELPERS_DEEP
            || self.found.len() >= ASSERTIONS_MAX
        {
            return;
        }
        let Some(function) = node.child_by_field_name("function").filter(|name| name.kind() == "identifier") else {
            return;
        };
        let name = self.source.of(function);
        let Some(tree) = self.source.tree.as_ref().filter(|_| !self.inside.iter().any(|outer| outer == name)) else {
            return;
        };
        let Some(definition) = definition(self.source, tree.root_node(), name) else { return };
        let Some(body) = definition.child_by_field_name("body") else { return };
        let (source, names) = (self.source, self.names);
        let mut inside = self.inside.clone();
        inside.push(name.to_owned());
        let mut reader = Reader { source, names, values: HashMap::new(), found: Vec::new(), inside };
        reader.assigned(body);
        for (parameter, value) in self.given(definition, node) {
            reader.values.entry(parameter).or_insert(value);
        }
        let generates = source.language == Some(Language::Python) && yields(body);
        reader.block(body, fault.or(generates.then_some(Fault::NeverReached)), 0);
        let call = normal(source.of(node));
        self.found.extend(reader.found.into_iter().map(|assertion| Assertion {
            text: format!("{}in{call}", assertion.text),
            through: Some(name.to_owned()),
            line: node.start_position().row + 1,
            ..assertion
        }));
    }

    /// Pairs the parameters of `definition` with what the call `node` gives for them.
    fn given(&self, definition: Node<'_>, node: Node<'_>) -> Vec<(String, String)> {
        let list = |node: Node<'_>, field: &str| -> Vec<String> {
            let Some(list) = node.child_by_field_name(field) else { return Vec::new() };
            let mut cursor = list.walk();
            let named = list.named_children(&mut cursor).filter(|child| !child.kind().contains("comment"));
            named.map(|child| self.source.of(child).to_owned()).collect()
        };
        let word = |text: &str| -> String {
            let text = text.trim_start_matches(['*', '&', ' ']);
            let text = text.strip_prefix("mut ").unwrap_or(text);
            text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        };
        let parameters: Vec<String> = list(definition, "parameters").iter().map(|text| word(text)).collect();
        let mut pairs = Vec::new();
        for (at, argument) in list(node, "arguments").into_iter().enumerate() {
            let keyword = argument
                .split_once('=')
                .filter(|(name, rest)| parameters.contains(&word(name.trim())) && !rest.starts_with('='));
            match keyword {
                Some((name, value)) => pairs.push((word(name.trim()), self.inlined(value))),
                None => {
                    if let Some(parameter) = parameters.get(at).filter(|name| !name.is_empty()) {
                        pairs.push((parameter.clone(), self.inlined(&argument)));
                    }
                }
            }
        }
        pairs
    }

    /// Returns whether the function `node`, which has no name of its own, is never called: what it is assigned to is
    /// not used, or it is to be called with each value of an empty list.
    fn is_unused(&self, node: Node<'_>) -> bool {
        let Some(parent) = node.parent() else { return false };
        let name = match parent.kind() {
            "assignment" => parent.child_by_field_name("left"),
            "variable_declarator" => parent.child_by_field_name("name"),
            "arguments" => {
                let called = parent.parent().and_then(|call| call.child_by_field_name("function"));
                return called.is_some_and(|called| self.source.of(called).starts_with("[]."));
            }
            _ => None,
        };
        let Some(name) = name.filter(|name| name.kind() == "identifier") else { return false };
        let mut block = parent;
        while let Some(outer) = block.parent().filter(|_| !matches!(block.kind(), "block" | "statement_block")) {
            block = outer;
        }
        let mut uses = 0;
        source::walk(block, &mut |inner| {
            uses += usize::from(inner.kind() == "identifier" && self.source.of(inner) == self.source.of(name));
            true
        });
        uses <= 1
    }

    fn branch(&mut self, node: Node<'_>, fault: Option<Fault>, depth: usize) {
        let condition =
            node.child_by_field_name("condition").map(|condition| self.source.of(condition)).unwrap_or_default();
        let named = self.values.get(condition.trim_matches(['(', ')'])).map(String::as_str);
        let truth = constant_truth(condition).or_else(|| named.and_then(constant_truth));
        for child in node.named_children(&mut node.walk()) {
            let alternative = matches!(child.kind(), "else_clause" | "else" | "elif_clause")
                || node.child_by_field_name("alternative").is_some_and(|other| other.id() == child.id());
            let never = truth == Some(alternative);
            self.statement(child, fault.or(never.then_some(Fault::NeverReached)), depth + 1);
        }
    }

    fn assertion(&self, node: Node<'_>) -> Option<Assertion> {
        let (subject, strength, constant) = match self.source.language? {
            Language::Python => self.python(node)?,
            Language::Rust => self.rust(node)?,
            Language::Go => self.go(node)?,
            language if is_script(Some(language)) => self.script(node)?,
            _ => self.call(node)?,
        };
        let text = normal(&self.head(node));
        Some(Assertion {
            tolerance: tolerance(&text),
            text,
            subject: self.inlined(&subject),
            strength,
            line: node.start_position().row + 1,
            fault: constant.then_some(Fault::Constant),
            through: None,
        })
    }

    /// Returns the text of an assertion without the block that it may have.
    fn head(&self, node: Node<'_>) -> String {
        match node.child_by_field_name("body") {
            Some(body) if node.kind() == "with_statement" => {
                self.source.text.get(node.start_byte()..body.start_byte()).unwrap_or_default().to_owned()
            }
            _ => self.source.of(node).to_owned(),
        }
    }

    /// Replaces the variable that `text` is, or begins with, by what it was assigned.
    fn inlined(&self, text: &str) -> String {
        let mut text = normal(text);
        for _ in 0..3 {
            let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
            let (name, rest) = text.split_at(end);
            match self.values.get(name) {
                Some(value) if value != name && (rest.is_empty() || rest.starts_with(['.', '['])) => {
                    text = format!("{value}{rest}");
                }
                _ => break,
            }
            // A variable that is made of itself would grow.
            if text.len() > 4096 {
                break;
            }
        }
        text
    }

    fn same(&self, left: &str, right: &str) -> bool {
        let (left, right) = (self.inlined(left), self.inlined(right));
        left == right && !left.is_empty()
    }
}

/// Returns the function `name` of the file, as far as it stands by itself.
fn definition<'t>(source: &Source<'_>, root: Node<'t>, name: &str) -> Option<Node<'t>> {
    for child in root.named_children(&mut root.walk()) {
        let inner = match child.kind() {
            "export_statement" => child.child_by_field_name("declaration"),
            "decorated_definition" => child.child_by_field_name("definition"),
            // Rust's tests lie in a module of their own.
            "mod_item" => match child.child_by_field_name("body").and_then(|body| definition(source, body, name)) {
                Some(found) => return Some(found),
                None => None,
            },
            "lexical_declaration" => child.named_child(0),
            _ => Some(child),
        };
        let Some(inner) = inner else { continue };
        if inner.child_by_field_name("name").is_none_or(|named| source.of(named) != name) {
            continue;
        }
        match inner.kind() {
            "function_definition" | "function_declaration" | "function_item" => return Some(inner),
            "variable_declarator" => {
                let value = inner.child_by_field_name("value");
                return value.filter(|value| matches!(value.kind(), "arrow_function" | "function_expression"));
            }
            _ => {}
        }
    }
    None
}
