//! Assertions: what each is about, how much it demands, and whether it is ever made.

use std::collections::HashMap;

use tree_sitter::Node;

use crate::baseline::normal;
use crate::check::guardrail::names::{Names, is_script};
use crate::check::guardrail::source::{self, Source};
use crate::language::Language;

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

/// Returns whether the function with `body` is a generator.
fn yields(body: Node<'_>) -> bool {
    let mut found = false;
    source::walk(body, &mut |node| {
        found |= node.kind() == "yield";
        !found && !matches!(node.kind(), "function_definition" | "lambda" | "class_definition")
    });
    found
}

/// Returns whether the condition `text` always or never holds.
#[must_use]
pub fn constant_truth(text: &str) -> Option<bool> {
    let bare: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let bare = bare.trim_start_matches('(').trim_end_matches(')');
    match bare {
        "True" | "true" | "1" | "notFalse" | "!false" | "1==1" | "!0" => Some(true),
        "False" | "false" | "0" | "None" | "null" | "nil" | "notTrue" | "!true" | "1==0" | "0==1" | "1==2" | "!1"
        | "\"\"" | "''" | "[]" => Some(false),
        _ if bare.starts_with("False and")
            || bare.starts_with("Falseand")
            || bare.starts_with("false&&")
            || bare.ends_with("andFalse")
            || bare.ends_with("&&false") =>
        {
            Some(false)
        }
        _ if bare.ends_with("orTrue") || bare.ends_with("||true") => Some(true),
        _ => None,
    }
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

    fn python(&self, node: Node<'_>) -> Option<(String, u8, bool)> {
        match node.kind() {
            "assert_statement" => {
                let condition = node.named_child(0)?;
                // `assert (x == 1, "message")` is a tuple, which is true.
                if condition.kind() == "tuple" {
                    return Some((self.source.of(condition).to_owned(), NOTHING, true));
                }
                Some(self.condition(condition))
            }
            "call" => {
                let function = node.child_by_field_name("function")?;
                let name = self.source.of(function).rsplit('.').next().unwrap_or_default();
                if matches!(name, "raises" | "assertRaises" | "assertRaisesRegex" | "warns" | "assertWarns") {
                    return Some(self.raises(node));
                }
                self.call(node)
            }
            "with_statement" => {
                let mut found = None;
                let body = node.child_by_field_name("body").map_or(node.end_byte(), |body| body.start_byte());
                source::walk(node, &mut |inner| {
                    if inner.start_byte() >= body || found.is_some() {
                        return false;
                    }
                    if inner.kind() == "call" {
                        let function = inner
                            .child_by_field_name("function")
                            .map(|function| self.source.of(function))
                            .unwrap_or_default();
                        if matches!(
                            function.rsplit('.').next(),
                            Some("raises" | "assertRaises" | "assertRaisesRegex" | "warns" | "assertWarns")
                        ) {
                            found = Some(self.raises(inner));
                        }
                    }
                    true
                });
                found
            }
            _ => None,
        }
    }

    fn raises(&self, call: Node<'_>) -> (String, u8, bool) {
        let arguments = call.child_by_field_name("arguments");
        let first = arguments
            .and_then(|arguments| arguments.named_child(0))
            .map(|first| self.source.of(first))
            .unwrap_or_default();
        let text = arguments.map(|arguments| self.source.of(arguments)).unwrap_or_default();
        let broad = matches!(first.rsplit('.').next(), Some("Exception" | "BaseException" | "Error" | "Throwable"));
        let exact = text.contains("match=") || self.source.of(call).contains("Regex");
        ("raises".to_owned(), if broad { TRUTH } else { EQUAL - u8::from(!exact) }, false)
    }

    /// Reads a condition: what it is about, how much it demands, whether it always holds.
    fn condition(&self, node: Node<'_>) -> (String, u8, bool) {
        let text = self.source.of(node);
        match node.kind() {
            "parenthesized_expression" => match node.named_child(0) {
                Some(inner) => self.condition(inner),
                None => (text.to_owned(), TRUTH, false),
            },
            "boolean_operator" | "binary_expression" if is_or(self.source, node) => {
                let parts: Vec<_> = node.named_children(&mut node.walk()).map(|part| self.condition(part)).collect();
                let constant = parts.iter().any(|part| part.2);
                let subject = parts.into_iter().next().map(|part| part.0).unwrap_or_default();
                (subject, if constant { NOTHING } else { TRUTH }, constant)
            }
            "boolean_operator" => {
                let parts: Vec<_> = node.named_children(&mut node.walk()).map(|part| self.condition(part)).collect();
                let constant = parts.iter().all(|part| part.2);
                parts
                    .into_iter()
                    .max_by_key(|part| part.1)
                    .map_or((text.to_owned(), TRUTH, false), |best| (best.0, best.1, constant))
            }
            "comparison_operator" | "binary_expression" => self.comparison(node),
            "not_operator" | "unary_expression" => {
                let never = constant_truth(text) == Some(true);
                (
                    node.named_child(0).map(|inner| self.source.of(inner)).unwrap_or_default().to_owned(),
                    if never { NOTHING } else { TRUTH },
                    never,
                )
            }
            "true" | "integer" | "string" | "float" | "boolean_literal" | "list" | "dictionary" => {
                (text.to_owned(), NOTHING, constant_truth(text) != Some(false))
            }
            "call" | "call_expression" => {
                let arguments = node.child_by_field_name("arguments");
                let first = arguments.and_then(|arguments| arguments.named_child(0)).map(|first| self.source.of(first));
                let function =
                    node.child_by_field_name("function").map(|function| self.source.of(function)).unwrap_or_default();
                if matches!(function, "isinstance" | "hasattr" | "callable" | "len" | "bool") {
                    let always = function == "isinstance" && text.replace(' ', "").ends_with(",object)");
                    return (first.unwrap_or(text).to_owned(), if always { NOTHING } else { TRUTH }, always);
                }
                let strength =
                    if matches!(function.rsplit('.').next(), Some("startswith" | "endswith" | "issubset" | "contains"))
                    {
                        PART
                    } else {
                        TRUTH
                    };
                let object =
                    node.child_by_field_name("function").and_then(|function| function.child_by_field_name("object"));
                let about = if strength == PART { object.map(|object| self.source.of(object)) } else { None };
                (about.unwrap_or(text).to_owned(), strength, false)
            }
            _ => (
                text.to_owned(),
                TRUTH,
                constant_truth(self.values.get(text).map_or(text, String::as_str)) == Some(true),
            ),
        }
    }

    fn comparison(&self, node: Node<'_>) -> (String, u8, bool) {
        let text = self.source.of(node);
        let parts: Vec<Node<'_>> = node.named_children(&mut node.walk()).collect();
        let (Some(left), Some(right)) = (parts.first(), parts.last()) else { return (text.to_owned(), TRUTH, false) };
        let operator = self
            .source
            .text
            .get(left.end_byte()..right.start_byte())
            .unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let (left, right) = (self.source.of(*left), self.source.of(*right));
        let wraps = |text: &str| {
            ["len(", "type(", "bool(", "str("]
                .iter()
                .find_map(|word| text.strip_prefix(word))
                .map(|rest| rest.trim_end_matches(')').to_owned())
        };
        match operator.as_str() {
            "==" | "===" | "is" => {
                let same = self.same(left, right);
                let any = right.contains("mock.ANY") || right == "ANY";
                let strength = if same {
                    NOTHING
                } else if any {
                    PART
                } else {
                    EQUAL
                };
                match wraps(left) {
                    Some(inner) => (inner, strength.min(PART), same),
                    None => (left.to_owned(), strength, same),
                }
            }
            "is not" | "!=" | "!==" => {
                let nothing = matches!(right, "None" | "null" | "undefined" | "nil");
                (left.to_owned(), if nothing { TRUTH } else { PART }, false)
            }
            ">=" | ">" | "<" | "<=" => {
                let always = operator == ">=" && right.trim() == "0" && left.starts_with("len(");
                (wraps(left).unwrap_or_else(|| left.to_owned()), if always { NOTHING } else { PART }, always)
            }
            // `x in y`: what is looked for, or what is looked in, may be what it was about.
            "in" => (left.to_owned(), PART, false),
            "not in" => (right.to_owned(), PART, false),
            _ => (left.to_owned(), TRUTH, false),
        }
    }

    fn rust(&self, node: Node<'_>) -> Option<(String, u8, bool)> {
        if node.kind() != "macro_invocation" {
            return None;
        }
        let name = self.source.of(node.child_by_field_name("macro")?).rsplit("::").next().unwrap_or_default();
        let tokens = node.named_children(&mut node.walk()).find(|child| child.kind() == "token_tree")?;
        // One bracket on each side: the last argument may end with others.
        let whole = self.source.of(tokens);
        let inner = whole.get(1..whole.len().saturating_sub(1)).unwrap_or_default();
        let arguments = split(inner);
        let first = arguments.first().copied().unwrap_or_default();
        let second = arguments.get(1).copied().unwrap_or_default();
        let bare = name.trim_start_matches("debug_").trim_start_matches("prop_");
        match bare {
            "assert_eq" => {
                let same = self.same(first, second);
                Some((first.to_owned(), if same { NOTHING } else { EQUAL }, same))
            }
            "assert_ne" => Some((first.to_owned(), PART, false)),
            "assert" => {
                let (left, right) =
                    first.split_once("==").map_or((first, ""), |(left, right)| (left.trim(), right.trim()));
                let constant = constant_truth(first) == Some(true) || !right.is_empty() && self.same(left, right);
                let object = ["is_ok()", "is_some()", "is_err()", "is_none()", "is_empty()"]
                    .iter()
                    .find_map(|end| left.strip_suffix(end))
                    .map(|object| object.trim_end_matches('.'));
                let strength = if constant {
                    NOTHING
                } else if !right.is_empty() {
                    EQUAL
                } else if first.contains("matches!")
                    || first.contains(".contains(")
                    || first.contains("starts_with(")
                    || first.contains("!=")
                {
                    PART
                } else {
                    TRUTH
                };
                let about = first
                    .split(".contains(")
                    .next()
                    .filter(|_| first.contains(".contains("))
                    .or(object)
                    .unwrap_or(left);
                Some((about.trim_start_matches('!').to_owned(), strength, constant))
            }
            "panic" | "unreachable" => Some(("panic".to_owned(), EQUAL, false)),
            _ if bare.starts_with("assert") => Some((first.to_owned(), EQUAL, false)),
            _ => None,
        }
    }

    fn go(&self, node: Node<'_>) -> Option<(String, u8, bool)> {
        if node.kind() != "call_expression" {
            return None;
        }
        let function =
            node.child_by_field_name("function").filter(|function| function.kind() == "selector_expression")?;
        let operand = self.source.of(function.child_by_field_name("operand")?);
        let field = self.source.of(function.child_by_field_name("field")?);
        if matches!(field, "Error" | "Errorf" | "Fatal" | "Fatalf" | "Fail" | "FailNow")
            && !matches!(operand, "fmt" | "errors" | "log" | "status")
            && operand.len() <= 4
        {
            // What it is about stands in the condition around it.
            let mut above = node.parent();
            while let Some(outer) = above {
                if outer.kind() == "if_statement" {
                    let condition = outer
                        .child_by_field_name("condition")
                        .map(|condition| self.source.of(condition))
                        .unwrap_or_default();
                    let constant = condition.split_once("!=").is_some_and(|(left, right)| self.same(left, right));
                    let strength = if constant {
                        NOTHING
                    } else if condition.contains("!=") && !condition.contains("nil")
                        || condition.contains("DeepEqual")
                        || condition.contains("cmp.")
                    {
                        EQUAL
                    } else {
                        PART
                    };
                    let subject = condition.split("!=").next().unwrap_or(condition);
                    return Some((subject.to_owned(), strength, constant));
                }
                above = outer.parent();
            }
            return Some((field.to_owned(), EQUAL, false));
        }
        if matches!(operand, "assert" | "require" | "is" | "qt" | "c" | "suite" | "s") {
            return self.named(field, node, 1);
        }
        None
    }

    fn script(&self, node: Node<'_>) -> Option<(String, u8, bool)> {
        if node.kind() != "call_expression" {
            return None;
        }
        let function = node.child_by_field_name("function")?;
        let text = self.source.of(function);
        if matches!(text, "expect" | "expect.soft" | "chai.expect") && is_left_alone(self.source, node) {
            let arguments = node.child_by_field_name("arguments");
            let subject = arguments.and_then(|arguments| arguments.named_child(0)).map(|first| self.source.of(first));
            return Some((subject.unwrap_or_default().to_owned(), NOTHING, true));
        }
        let Some(inner) = expected(self.source, node) else {
            let path = self.names.path(self.source, function)?;
            let mut words = path.split('.');
            let (first, last) = (words.next()?, path.rsplit('.').next()?);
            if matches!(first, "assert" | "t" | "chai") || path.contains("assert") {
                return self.named(last, node, 0);
            }
            if text.contains(".should.") {
                return Some((text.split(".should.").next()?.to_owned(), EQUAL, false));
            }
            return self.call(node);
        };
        let subject = inner
            .child_by_field_name("arguments")
            .and_then(|arguments| arguments.named_child(0))
            .map(|first| self.source.of(first))
            .unwrap_or_default();
        let matcher = text.rsplit('.').next().unwrap_or_default();
        let negated = text.contains(".not.");
        let arguments = node.child_by_field_name("arguments");
        let first = arguments
            .and_then(|arguments| arguments.named_child(0))
            .map(|first| self.source.of(first))
            .unwrap_or_default();
        let loose = ["expect.anything", "expect.any(", "objectContaining", "arrayContaining", "stringContaining"]
            .iter()
            .any(|word| first.contains(word));
        let same = !negated
            && matches!(matcher, "toBe" | "toEqual" | "toStrictEqual" | "equal" | "eql" | "equals")
            && self.same(subject, first);
        let truthy = matches!(matcher, "toBeTruthy" | "toBeDefined")
            && (constant_truth(subject) == Some(true) || subject.starts_with(['"', '\'']));
        let strength = match matcher {
            _ if same || truthy => NOTHING,
            _ if negated => {
                if matches!(matcher, "toBeNull" | "toBeUndefined" | "toThrow") {
                    TRUTH
                } else {
                    PART
                }
            }
            "toBe"
            | "toEqual"
            | "toStrictEqual"
            | "equal"
            | "eql"
            | "equals"
            | "toHaveBeenCalledWith"
            | "toHaveBeenLastCalledWith"
            | "toHaveBeenNthCalledWith"
            | "toBeCloseTo"
            | "toMatchSnapshot"
            | "toMatchInlineSnapshot"
            | "toBeNull"
            | "toBeUndefined"
            | "toBeNaN" => {
                if loose {
                    PART
                } else {
                    EQUAL
                }
            }
            "toThrow" | "toThrowError" | "rejects" | "throw" => {
                if first.is_empty() || first == "Error" {
                    PART
                } else {
                    EQUAL
                }
            }
            "toBeTruthy" | "toBeFalsy" | "toBeDefined" | "toBeInstanceOf" | "toHaveBeenCalled" | "ok" | "exist" => {
                TRUTH
            }
            "toContain"
            | "toMatch"
            | "toMatchObject"
            | "toContainEqual"
            | "toHaveProperty"
            | "toHaveLength"
            | "toBeGreaterThan"
            | "toBeLessThan"
            | "toBeGreaterThanOrEqual"
            | "toBeLessThanOrEqual"
            | "include"
            | "contain"
            | "toHaveBeenCalledTimes" => PART,
            _ => EQUAL,
        };
        Some((subject.to_owned(), strength, same || truthy))
    }

    /// Reads a call whose name says that it asserts.
    fn call(&self, node: Node<'_>) -> Option<(String, u8, bool)> {
        let function = match node.kind() {
            "call" | "call_expression" => node
                .child_by_field_name("function")
                .or_else(|| node.child_by_field_name("method"))
                .or_else(|| node.named_child(0)),
            "method_invocation" | "member_call_expression" | "scoped_call_expression" | "function_call_expression" => {
                node.child_by_field_name("name").or_else(|| node.child_by_field_name("function"))
            }
            "invocation_expression" => node.child_by_field_name("function"),
            _ => None,
        }?;
        let name = self.source.of(function).rsplit(['.', ':', '>']).next().unwrap_or_default();
        // RSpec: `expect(x).to eq(1)`.
        let whole = self.source.of(node);
        if matches!(name, "to" | "not_to" | "to_not") && whole.starts_with("expect") {
            let subject =
                whole.split_once('(').map(|(_, rest)| rest.split(").").next().unwrap_or(rest)).unwrap_or_default();
            let matcher = whole.rsplit(".to ").next().unwrap_or_default();
            let strength = if name != "to" || matcher.starts_with("include") || matcher.starts_with("match") {
                PART
            } else if matcher.starts_with("be_truthy")
                || matcher.starts_with("be_present")
                || matcher.starts_with("be_a")
                || matcher.starts_with("be(")
            {
                TRUTH
            } else {
                EQUAL
            };
            return Some((subject.to_owned(), strength, false));
        }
        self.named(name, node, 0)
    }

    /// Reads a call of the assertion `name`; the first `skip` arguments are no values.
    fn named(&self, name: &str, node: Node<'_>, skip: usize) -> Option<(String, u8, bool)> {
        let lower = name.to_ascii_lowercase().replace('_', "");
        let is_plain =
            ["assert", "expect", "verify", "check", "ensure", "fail", "require", "must", "should", "validate"]
                .iter()
                .any(|word| lower.starts_with(word));
        let in_library = skip > 0 || self.source.of(node).to_ascii_lowercase().contains("assert");
        if !is_plain && !in_library {
            return None;
        }
        let arguments = node
            .child_by_field_name("arguments")
            .or_else(|| node.named_children(&mut node.walk()).find(|child| child.kind().contains("argument")));
        let values: Vec<&str> = arguments
            .map(|arguments| {
                arguments.named_children(&mut arguments.walk()).skip(skip).map(|value| self.source.of(value)).collect()
            })
            .unwrap_or_default();
        let (first, second) = (values.first().copied().unwrap_or_default(), values.get(1).copied().unwrap_or_default());
        let bare = lower.trim_start_matches("assert").trim_start_matches("that");
        let negated = bare.starts_with("not")
            && !bare.starts_with("notnull")
            && !bare.starts_with("notnil")
            && !bare.starts_with("notempty");
        let strength = if negated
            || [
                "in",
                "contains",
                "match",
                "regex",
                "greater",
                "less",
                "subset",
                "count",
                "len",
                "startswith",
                "stringcontains",
            ]
            .iter()
            .any(|word| bare.starts_with(word))
                && !bare.starts_with("instance")
                && !bare.starts_with("indelta")
        {
            PART
        } else if [
            "true",
            "false",
            "isnotnone",
            "isnone",
            "notnull",
            "notnil",
            "nil",
            "null",
            "isinstance",
            "instanceof",
            "ok",
            "exists",
            "notempty",
            "empty",
        ]
        .iter()
        .any(|word| bare.starts_with(word))
            || bare.is_empty() && values.len() <= 2 && lower == "assert"
        {
            TRUTH
        } else if bare.starts_with("raises") || bare.starts_with("throws") {
            let broad = matches!(
                first.trim_end_matches(".class").trim_end_matches("::class").rsplit('.').next(),
                Some("Exception" | "BaseException" | "Throwable" | "RuntimeException")
            );
            return Some(("raises".to_owned(), if broad { TRUTH } else { EQUAL - 1 }, false));
        } else {
            EQUAL
        };
        let equal = strength == EQUAL && (bare.contains("eq") || bare.contains("same") || matches!(bare, "is"));
        let same = equal && !second.is_empty() && self.same(first, second);
        let constant = same
            || (bare.starts_with("true") || bare.is_empty() || bare == "ok") && constant_truth(first) == Some(true)
            || bare.starts_with("false") && constant_truth(first) == Some(false);
        // JUnit and testify put what is expected first.
        let expected_first = matches!(
            self.source.language,
            Some(Language::Java | Language::Kotlin | Language::CSharp | Language::Php | Language::Go | Language::Ruby)
        ) && values.len() > 1;
        let subject = if expected_first && strength >= PART { second } else { first };
        // `assertTrue(a == b)` demands what it compares.
        let (subject, strength) = match subject.split_once("==") {
            Some((left, _)) if strength == TRUTH => (left.trim(), EQUAL),
            _ => (subject, strength),
        };
        Some((subject.to_owned(), if constant { NOTHING } else { strength }, constant))
    }
}

/// Returns whether nothing is demanded of what the call `node` of `expect` is about: no matcher is called on it.
fn is_left_alone(source: &Source<'_>, node: Node<'_>) -> bool {
    let (mut current, mut last) = (node, "");
    while let Some(outer) = current.parent() {
        match outer.kind() {
            "member_expression"
                if outer.child_by_field_name("object").is_some_and(|object| object.id() == current.id()) =>
            {
                last = outer.child_by_field_name("property").map_or("", |property| source.of(property));
            }
            "call_expression"
                if outer.child_by_field_name("function").is_some_and(|called| called.id() == current.id()) =>
            {
                return false;
            }
            _ => break,
        }
        current = outer;
    }
    // Chai has matchers that are no calls, such as `.to.be.true`.
    let is_matcher = last.strip_prefix("to").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()));
    is_matcher || matches!(last, "" | "not" | "resolves" | "rejects" | "to" | "be" | "have" | "deep")
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

/// Returns the call of `expect` that a chain of matchers begins with.
fn expected<'t>(source: &Source<'_>, node: Node<'t>) -> Option<Node<'t>> {
    let mut current = node.child_by_field_name("function")?;
    for _ in 0..12 {
        match current.kind() {
            "member_expression" => current = current.child_by_field_name("object")?,
            "call_expression" => {
                let function = current.child_by_field_name("function")?;
                if matches!(source.of(function), "expect" | "expect.soft" | "chai.expect" | "expectTypeOf") {
                    return Some(current);
                }
                current = function;
            }
            _ => return None,
        }
    }
    None
}

fn is_or(source: &Source<'_>, node: Node<'_>) -> bool {
    node.child_by_field_name("operator").is_some_and(|operator| matches!(source.of(operator), "or" | "||"))
}

/// Returns whether nothing behind `node` in the same block is done.
fn leaves(source: &Source<'_>, node: Node<'_>) -> bool {
    match node.kind() {
        "return_statement" | "raise_statement" | "throw_statement" | "continue_statement" | "break_statement"
        | "return" => true,
        // The value of a block in Rust is no return.
        "return_expression" => true,
        "expression_statement" => node.named_child(0).is_some_and(|inner| match inner.kind() {
            "return_expression" | "return" => true,
            "call" | "call_expression" => {
                let function =
                    inner.child_by_field_name("function").map(|function| source.of(function)).unwrap_or_default();
                matches!(function, "sys.exit" | "os._exit" | "process.exit" | "pytest.exit" | "exit" | "quit")
            }
            _ => false,
        }),
        "if_statement" | "if_expression" => {
            let condition =
                node.child_by_field_name("condition").map(|condition| source.of(condition)).unwrap_or_default();
            let consequence = node.child_by_field_name("consequence");
            constant_truth(condition) == Some(true)
                && consequence.is_some_and(|block| {
                    block.named_children(&mut block.walk()).any(|statement| leaves(source, statement))
                })
        }
        _ => false,
    }
}

/// Returns whether a failure in a `try` is caught and dropped.
fn swallows(source: &Source<'_>, node: Node<'_>) -> bool {
    node.named_children(&mut node.walk())
        .filter(|child| matches!(child.kind(), "except_clause" | "catch_clause" | "rescue"))
        .any(|clause| {
            let text = source.of(clause);
            let head = text.split(['\n', '{']).next().unwrap_or_default();
            let body = clause
                .child_by_field_name("body")
                .or_else(|| {
                    clause
                        .named_children(&mut clause.walk())
                        .find(|child| matches!(child.kind(), "block" | "statement_block" | "then"))
                })
                .map_or(text, |body| source.of(body));
            let broad = match source.language {
                Some(Language::Python) => {
                    let kind = head.trim_start_matches("except").trim().trim_end_matches(':');
                    kind.is_empty() || kind.contains("Exception") || kind.contains("AssertionError")
                }
                // JavaScript catches everything.
                language if is_script(language) => true,
                _ => {
                    head.contains("Exception")
                        || head.contains("Throwable")
                        || head.contains("AssertionError")
                        || head.contains("Error")
                }
            };
            let passes_on = ["raise", "throw", "fail", "assert", "expect", "reject", "return", "done("]
                .iter()
                .any(|word| body.contains(word));
            broad && !passes_on
        })
}

/// Returns by how much a number may differ in the assertion `text`.
fn tolerance(text: &str) -> Option<f64> {
    for word in ["abs=", "rel=", "abs_tol=", "rel_tol=", "atol=", "rtol=", "delta=", "epsilon=", "max_relative="] {
        if let Some((_, rest)) = text.split_once(word) {
            return number(rest);
        }
    }
    // Digits: the fewer the looser.
    for word in ["places=", "decimal="] {
        if let Some((_, rest)) = text.split_once(word) {
            return number(rest).map(std::ops::Neg::neg);
        }
    }
    if let Some((_, rest)) = text.split_once("toBeCloseTo(") {
        let arguments = split(rest.trim_end_matches(')'));
        return Some(arguments.get(1).and_then(|digits| number(digits)).map_or(-2.0, std::ops::Neg::neg));
    }
    if text.contains("InDelta(") {
        let arguments = split(text.split_once("InDelta(")?.1.trim_end_matches(')'));
        return arguments.get(3).or_else(|| arguments.get(2)).and_then(|delta| number(delta));
    }
    None
}

fn number(text: &str) -> Option<f64> {
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '-' | '_'))).unwrap_or(text.len());
    text[..end].replace('_', "").parse().ok()
}

/// Splits arguments at the commas between them.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start, mut quote) = (Vec::new(), 0_i32, 0, None);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('"' | '`', None) => quote = Some(c),
            ('(' | '[' | '{', None) => depth += 1,
            (')' | ']' | '}', None) => depth -= 1,
            (',', None) if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        parts.push(last);
    }
    parts
}
