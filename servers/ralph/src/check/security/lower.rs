//! From a language's own tree to the form that rules know.
//!
//! The grammars name most things alike, so one function lowers all of them; what a grammar names otherwise
//! is told apart in [`shape`]. What is unknown keeps its parts, so that nothing in it goes unseen.

mod imports;
mod macros;
pub mod python;
pub mod script;
mod shape;
mod string;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock, PoisonError};

use tree_sitter::{Node, Tree};

use super::dialect::Dialect;
use super::ir::{Function, Id, Ir, Kind, Node as IrNode, Parameter};
use shape::Shape;

pub use imports::script_module;

/// How deep a file may nest before it is lowered on a thread with a larger stack.
pub const DEPTH_USUAL: usize = 90;

/// How deep a file may nest at all.
pub const DEPTH_MAX: usize = 4_000;

/// The file nests deeper than was allowed.
#[derive(Debug)]
pub struct TooDeep;

/// Lowers `tree`, which is that of `source`.
///
/// # Errors
///
/// [`TooDeep`] when it nests deeper than `depth_max`.
pub fn lower<'s>(dialect: Dialect, tree: &Tree, source: &'s str, depth_max: usize) -> Result<(Ir<'s>, Id), TooDeep> {
    let mut lower =
        Lower { dialect, source, shapes: shapes(dialect), ir: Ir::default(), depth: 0, depth_max, too_deep: false };
    let root = lower.node(tree.root_node());
    if lower.too_deep { Err(TooDeep) } else { Ok((lower.ir, root)) }
}

/// The shape of each kind of node, by the grammar's number for it.
fn shapes(dialect: Dialect) -> &'static [Shape] {
    static TABLES: [OnceLock<Vec<Shape>>; Dialect::ALL.len()] = [const { OnceLock::new() }; Dialect::ALL.len()];
    TABLES[dialect as usize].get_or_init(|| {
        let grammar = dialect.grammar();
        (0..grammar.node_kind_count())
            .map(|id| {
                let id = u16::try_from(id).unwrap_or(u16::MAX);
                if !grammar.node_kind_is_named(id) {
                    return Shape::Skip;
                }
                grammar.node_kind_for_id(id).map_or(Shape::Other, |kind| shape::of(dialect, kind))
            })
            .collect()
    })
}

struct Lower<'s> {
    dialect: Dialect,
    source: &'s str,
    shapes: &'static [Shape],
    ir: Ir<'s>,
    depth: usize,
    depth_max: usize,
    too_deep: bool,
}

impl<'s> Lower<'s> {
    fn shape(&self, node: Node<'_>) -> Shape {
        self.shapes.get(usize::from(node.kind_id())).copied().unwrap_or(Shape::Other)
    }

    fn text(&self, node: Node<'_>) -> &'s str {
        self.source.get(node.byte_range()).unwrap_or_default()
    }

    fn push(&mut self, node: Node<'_>, kind: Kind<'s>) -> Id {
        self.push_at(node.start_byte(), node.end_byte(), kind)
    }

    fn push_at(&mut self, start: usize, end: usize, kind: Kind<'s>) -> Id {
        self.ir.nodes.push(IrNode { start, end, kind });
        self.ir.nodes.len() - 1
    }

    fn nothing(&mut self, node: Node<'_>) -> Id {
        self.push(node, Kind::Block(Vec::new()))
    }

    /// Lowers the named children of `node`, comments left out.
    fn children(&mut self, node: Node<'_>) -> Vec<Id> {
        let mut cursor = node.walk();
        let mut ids = Vec::new();
        if cursor.goto_first_child() {
            loop {
                let child = cursor.node();
                if child.is_named() && self.shape(child) != Shape::Skip {
                    ids.push(self.node(child));
                }
                if !cursor.goto_next_sibling() {
                    break;
                }
            }
        }
        ids
    }

    fn field(&mut self, node: Node<'_>, name: &str) -> Option<Id> {
        node.child_by_field_name(name).map(|child| self.node(child))
    }

    /// Lowers the first of `names` that is a field of `node`.
    fn field_of(&mut self, node: Node<'_>, names: &[&str]) -> Option<Id> {
        names.iter().find_map(|name| self.field(node, name))
    }

    fn fields(&mut self, node: Node<'_>, name: &str) -> Vec<Id> {
        let children: Vec<Node<'_>> = node.children_by_field_name(name, &mut node.walk()).collect();
        children.into_iter().filter(Node::is_named).map(|child| self.node(child)).collect()
    }

    fn node(&mut self, node: Node<'_>) -> Id {
        if self.depth >= self.depth_max {
            self.too_deep = true;
            return self.nothing(node);
        }
        self.depth += 1;
        let id = self.lowered(node);
        self.depth -= 1;
        id
    }

    fn lowered(&mut self, node: Node<'_>) -> Id {
        let kind = match self.shape(node) {
            Shape::Skip => Kind::Block(Vec::new()),
            Shape::Name => Kind::Name(self.text(node)),
            Shape::Literal => Kind::Literal(self.text(node)),
            Shape::Symbol => Kind::Text(Cow::Borrowed(self.text(node).trim_matches([':', '"', '\'']))),
            Shape::Text => return self.string(node),
            Shape::Concat => Kind::Binary("+", self.children(node)),
            Shape::Member => return self.member(node),
            Shape::Index => return self.index(node),
            Shape::Call => return self.call(node),
            Shape::Method => return self.method(node),
            Shape::Construct => return self.construct(node),
            Shape::Macro => return self.macro_call(node),
            Shape::Intrinsic => {
                let word = self.text(node).split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                let callee = self.push_at(node.start_byte(), node.start_byte() + word.len(), Kind::Name(word));
                let arguments = self.children(node);
                Kind::Call { callee, arguments }
            }
            Shape::Shell => {
                let callee = self.push(node, Kind::Name("`"));
                let text = self.string(node);
                Kind::Call { callee, arguments: vec![text] }
            }
            Shape::Pair => return self.pair(node),
            Shape::Attribute => return self.jsx_attribute(node),
            Shape::Shorthand => {
                let name = self.text(node);
                let value = self.push(node, Kind::Name(name));
                Kind::Pair(Cow::Borrowed(name), value)
            }
            Shape::Binary => return self.binary(node),
            Shape::Unary => return self.unary(node),
            Shape::Ternary => return self.ternary(node),
            Shape::List => Kind::List(self.children(node)),
            Shape::Map => Kind::Map(self.children(node)),
            Shape::Composite => return self.composite(node),
            Shape::Spread => {
                let children = self.children(node);
                match children.last() {
                    Some(last) => Kind::Spread(*last),
                    None => Kind::Block(children),
                }
            }
            Shape::Assign => return self.assign(node),
            Shape::Declare => return self.declare(node),
            Shape::Declarations => return self.declarations(node),
            Shape::As => return self.bound_as(node),
            Shape::For => return self.iterate(node),
            Shape::Each => return self.comprehension(node),
            Shape::Import => return self.import(node),
            Shape::Function => return self.function(node, ""),
            Shape::Decorated => return self.decorated(node),
            Shape::Return => {
                let children = self.children(node);
                Kind::Return(self.one(node, children))
            }
            Shape::Leave => {
                let children = self.children(node);
                Kind::Leave(self.one(node, children))
            }
            Shape::If => return self.branch(node),
            Shape::Guard => return self.trailing_if(node),
            Shape::Last => Kind::Last(self.children(node)),
            // A number, whatever it was.
            Shape::Cast if self.is_numeric_cast(node) => {
                let children = self.children(node);
                let value = self.push(node, Kind::Block(children));
                Kind::Unary("(int)", value)
            }
            Shape::Cast => match self.field_of(node, &["value", "operand", "expression", "argument"]) {
                Some(value) => return value,
                None => match self.children(node).first() {
                    Some(first) => return *first,
                    None => Kind::Block(Vec::new()),
                },
            },
            Shape::CastLast => match self.children(node).last() {
                Some(last) => return *last,
                None => Kind::Block(Vec::new()),
            },
            Shape::Class => return self.class(node),
            Shape::Other => {
                let children = self.children(node);
                if let [only] = children[..] {
                    return only;
                }
                Kind::Block(children)
            }
        };
        self.push(node, kind)
    }

    fn is_numeric_cast(&self, node: Node<'_>) -> bool {
        node.kind() == "cast_expression"
            && node.child_by_field_name("type").is_some_and(|of_type| {
                matches!(
                    self.text(of_type),
                    "int"
                        | "integer"
                        | "float"
                        | "double"
                        | "bool"
                        | "boolean"
                        | "long"
                        | "short"
                        | "unsigned"
                        | "size_t"
                )
            })
    }

    fn one(&mut self, node: Node<'_>, mut ids: Vec<Id>) -> Option<Id> {
        if ids.len() > 1 { Some(self.push(node, Kind::Block(ids))) } else { ids.pop() }
    }

    fn member(&mut self, node: Node<'_>) -> Id {
        let fields = ["property", "attribute", "field", "name"];
        let name = fields.iter().find_map(|field| node.child_by_field_name(field));
        let objects = ["object", "value", "operand", "argument", "path", "scope", "package", "receiver"];
        let object = self.field_of(node, &objects);
        match (object, name) {
            (Some(object), Some(name)) => {
                let name = self.text(name).trim_start_matches('#');
                self.push(node, Kind::Member(object, Cow::Borrowed(name)))
            }
            (None, Some(name)) => {
                let name = self.text(name);
                self.push(node, Kind::Name(name))
            }
            // PHP's `A::B` and `A\B` have no field names.
            _ => {
                let children = self.children(node);
                let name = node.named_child(u32::try_from(node.named_child_count().saturating_sub(1)).unwrap_or(0));
                match (children.first(), name) {
                    (Some(object), Some(name)) if children.len() > 1 => {
                        let name = self.text(name);
                        self.push(node, Kind::Member(*object, Cow::Borrowed(name)))
                    }
                    _ => {
                        let name = self.text(node).trim_start_matches('\\');
                        self.push(node, Kind::Name(name))
                    }
                }
            }
        }
    }

    fn index(&mut self, node: Node<'_>) -> Id {
        let object = self.field_of(node, &["object", "value", "operand", "argument", "array"]);
        let key = self.field_of(node, &["index", "subscript", "key"]);
        match (object, key) {
            (Some(object), Some(key)) => {
                if let Kind::Text(text) = self.ir.kind(key) {
                    let name = text.clone();
                    return self.push(node, Kind::Member(object, name));
                }
                self.push(node, Kind::Index(object, key))
            }
            _ => {
                let children = self.children(node);
                match children[..] {
                    [object, key] => {
                        if let Kind::Text(text) = self.ir.kind(key) {
                            let name = text.clone();
                            return self.push(node, Kind::Member(object, name));
                        }
                        self.push(node, Kind::Index(object, key))
                    }
                    _ => self.push(node, Kind::Block(children)),
                }
            }
        }
    }

    fn arguments(&mut self, node: Option<Node<'_>>) -> Vec<Id> {
        let Some(node) = node else { return Vec::new() };
        // A tagged template, a generator expression.
        if matches!(self.shape(node), Shape::Text | Shape::Each) {
            return vec![self.node(node)];
        }
        let mut cursor = node.walk();
        let mut ids = Vec::new();
        for child in node.named_children(&mut cursor) {
            if self.shape(child) == Shape::Skip {
                continue;
            }
            // PHP names an argument in its wrapper.
            if child.kind() == "argument" {
                let children = self.children(child);
                let name = child.child_by_field_name("name").map(|name| self.text(name));
                let Some(value) = children.last().copied() else { continue };
                ids.push(match name {
                    Some(name) => self.push(child, Kind::Pair(Cow::Borrowed(name), value)),
                    None => value,
                });
                continue;
            }
            ids.push(self.node(child));
        }
        ids
    }

    fn call(&mut self, node: Node<'_>) -> Id {
        let callee = match self.field_of(node, &["function", "constructor"]) {
            Some(callee) => callee,
            None => match node.named_child(0) {
                Some(first) => self.node(first),
                None => return self.nothing(node),
            },
        };
        let arguments = node.child_by_field_name("arguments");
        let tagged = arguments.is_some_and(|arguments| arguments.kind() == "template_string");
        let mut arguments = self.arguments(arguments);
        // A tag gets the texts and the values apart, so what it is given is no built string.
        if tagged && let [only] = arguments[..] {
            let spread = self.push(node, Kind::Spread(only));
            arguments = vec![spread];
        }
        self.push(node, Kind::Call { callee, arguments })
    }

    /// Calls whose receiver and name are fields of the call itself.
    fn method(&mut self, node: Node<'_>) -> Id {
        let name = node.child_by_field_name("name").or_else(|| node.child_by_field_name("method"));
        let object = self.field_of(node, &["object", "receiver", "scope"]);
        let Some(name) = name else {
            let children = self.children(node);
            return self.push(node, Kind::Block(children));
        };
        let is_dynamic = self.dialect == Dialect::Php && name.kind() != "name";
        let text = if is_dynamic { "" } else { self.text(name) };
        let end = name.end_byte();
        let callee = match object {
            Some(object) => {
                let start = self.ir.nodes[object].start;
                self.push_at(start, end, Kind::Member(object, Cow::Borrowed(text)))
            }
            None => self.push(name, Kind::Name(text)),
        };
        let list = node.child_by_field_name("arguments");
        let block = node.child_by_field_name("block");
        // In Ruby a call without arguments is how a field is read.
        if list.is_none()
            && block.is_none()
            && self.dialect == Dialect::Ruby
            && !matches!(text, "html_safe" | "constantize")
        {
            return callee;
        }
        let mut arguments = self.arguments(list);
        if let Some(block) = block {
            arguments.push(self.function(block, ""));
        }
        self.push(node, Kind::Call { callee, arguments })
    }

    fn construct(&mut self, node: Node<'_>) -> Id {
        let mut callee = self.field_of(node, &["constructor", "type"]);
        let mut list = node.child_by_field_name("arguments");
        let mut rest = Vec::new();
        let mut cursor = node.walk();
        let named: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        for child in named {
            if child.kind() == "arguments" || child.kind() == "argument_list" {
                list = Some(child);
            } else if callee.is_none() {
                callee = Some(self.node(child));
            } else if child.kind() == "class_body" {
                rest.push(self.node(child));
            }
        }
        let Some(callee) = callee else { return self.nothing(node) };
        let mut arguments = self.arguments(list);
        arguments.extend(rest);
        self.push(node, Kind::Call { callee, arguments })
    }

    fn pair(&mut self, node: Node<'_>) -> Id {
        let key = ["name", "key", "field"].iter().find_map(|field| node.child_by_field_name(field));
        let value = self.field(node, "value");
        let (key, value) = match (key, value) {
            (Some(key), Some(value)) => (Some(key), value),
            (Some(key), None) if self.dialect == Dialect::Ruby => {
                let name = self.text(key);
                (Some(key), self.push(key, Kind::Name(name)))
            }
            _ => {
                let count = node.named_child_count();
                let first = node.named_child(0);
                let last = node.named_child(u32::try_from(count.saturating_sub(1)).unwrap_or(0));
                match (first, last) {
                    (Some(key), Some(value)) if count > 1 => (Some(key), self.node(value)),
                    (_, Some(value)) => return self.node(value),
                    _ => return self.nothing(node),
                }
            }
        };
        let Some(key) = key else { return value };
        let id = self.node(key);
        let name = match self.ir.kind(id) {
            Kind::Text(text) => text.clone(),
            // A name of a constant in PHP, a computed key in JavaScript: by its last part.
            Kind::Member(_, name) => name.clone(),
            _ => Cow::Borrowed(self.text(key).trim_matches(['[', ']', ':', '"', '\''])),
        };
        self.push(node, Kind::Pair(name, value))
    }

    fn jsx_attribute(&mut self, node: Node<'_>) -> Id {
        let name = node.named_child(0).map_or("", |name| self.text(name));
        let value = match node.named_child(1) {
            Some(value) => self.node(value),
            None => self.nothing(node),
        };
        self.push(node, Kind::Pair(Cow::Borrowed(name), value))
    }

    /// Takes the left side of a chain apart in a loop: texts of a hundred lines are added up like that.
    fn binary(&mut self, node: Node<'_>) -> Id {
        let operator_of = |node: Node<'_>| -> &'s str {
            match node.child_by_field_name("operator").or_else(|| node.child_by_field_name("operators")) {
                Some(operator) => self.text(operator),
                None => node.child(1).map_or("", |operator| self.text(operator)),
            }
        };
        let operator = operator_of(node);
        let mut operands = Vec::new();
        let mut left = node;
        loop {
            let right = left.child_by_field_name("right");
            if let Some(right) = right {
                operands.push(right);
            }
            match left.child_by_field_name("left") {
                Some(next) if self.shape(next) == Shape::Binary && operator_of(next) == operator && right.is_some() => {
                    left = next;
                }
                Some(next) => {
                    operands.push(next);
                    break;
                }
                None => break,
            }
        }
        if operands.is_empty() {
            let children = self.children(node);
            return self.push(node, Kind::Binary(operator, children));
        }
        let ids: Vec<Id> = operands.into_iter().rev().map(|operand| self.node(operand)).collect();
        let kind = match operator {
            // One of both is the value.
            "||" | "??" | "or" | "?:" | "&&" | "and" if ids.len() > 1 => Kind::Choice(ids),
            _ => Kind::Binary(operator, ids),
        };
        self.push(node, kind)
    }

    fn unary(&mut self, node: Node<'_>) -> Id {
        let operator =
            node.child_by_field_name("operator").or_else(|| node.child(0)).map_or("", |operator| self.text(operator));
        let value = match self.field_of(node, &["argument", "operand", "value"]) {
            Some(value) => value,
            None => match node.named_child(u32::try_from(node.named_child_count().saturating_sub(1)).unwrap_or(0)) {
                Some(child) => self.node(child),
                None => return self.nothing(node),
            },
        };
        match operator {
            "&" | "*" | "await" | "@" | "+" | "&mut" | "defined?" => value,
            _ => self.push(node, Kind::Unary(operator, value)),
        }
    }

    fn ternary(&mut self, node: Node<'_>) -> Id {
        if let Some(condition) = self.field(node, "condition") {
            let mut bodies = vec![];
            for name in ["consequence", "body", "alternative"] {
                bodies.extend(self.field(node, name));
            }
            let value = self.push(node, Kind::Choice(bodies));
            let asked = self.push(node, Kind::Branch { condition: Some(condition), bodies: vec![] });
            return self.push(node, Kind::Last(vec![asked, value]));
        }
        // Python: value, condition, other value.
        let children = self.children(node);
        match children[..] {
            [value, condition, other] => {
                let asked = self.push(node, Kind::Branch { condition: Some(condition), bodies: vec![] });
                let value = self.push(node, Kind::Choice(vec![value, other]));
                self.push(node, Kind::Last(vec![asked, value]))
            }
            _ => self.push(node, Kind::Block(children)),
        }
    }

    /// A literal of a named type: `tls.Config{...}`, `Config { ... }`.
    fn composite(&mut self, node: Node<'_>) -> Id {
        let body = node.child_by_field_name("body");
        let arguments = body.map(|body| self.children(body)).unwrap_or_default();
        let of_type = node.child_by_field_name("type").or_else(|| node.child_by_field_name("name"));
        match of_type {
            Some(of_type) if matches!(self.shape(of_type), Shape::Name | Shape::Member) => {
                let callee = self.node(of_type);
                self.push(node, Kind::Call { callee, arguments })
            }
            _ if arguments.iter().any(|id| matches!(self.ir.kind(*id), Kind::Pair(..))) => {
                self.push(node, Kind::Map(arguments))
            }
            _ => self.push(node, Kind::List(arguments)),
        }
    }

    fn assign(&mut self, node: Node<'_>) -> Id {
        let (Some(target), Some(value)) = (node.child_by_field_name("left"), node.child_by_field_name("right")) else {
            let children = self.children(node);
            return self.push(node, Kind::Block(children));
        };
        let operator = node.child_by_field_name("operator").map_or("", |operator| self.text(operator));
        let adds = !matches!(operator, "" | "=" | ":=");
        self.put(node, target, value, adds, None)
    }

    /// Puts `value` into `target`; several into several when both are lists of one length.
    fn put(&mut self, node: Node<'_>, target: Node<'_>, value: Node<'_>, adds: bool, declared: Option<&'s str>) -> Id {
        let is_list =
            |node: Node<'_>| matches!(node.kind(), "expression_list" | "pattern_list" | "tuple_pattern" | "tuple");
        if is_list(target) && is_list(value) {
            let mut cursor = target.walk();
            let targets: Vec<Node<'_>> = target.named_children(&mut cursor).collect();
            let mut cursor = value.walk();
            let values: Vec<Node<'_>> = value.named_children(&mut cursor).collect();
            if targets.len() == values.len() {
                let mut ids = Vec::new();
                for (target, value) in targets.into_iter().zip(values) {
                    let (target, value) = (self.node(target), self.node(value));
                    ids.push(self.push(node, Kind::Assign { target, value, adds, declared }));
                }
                return if let [only] = ids[..] { only } else { self.push(node, Kind::Block(ids)) };
            }
        }
        let target = self.node(target);
        let value = self.node(value);
        self.push(node, Kind::Assign { target, value, adds, declared })
    }

    /// A declaration of one name: `let x = 1`, `var x = 1`, `x := 1`.
    fn declare(&mut self, node: Node<'_>) -> Id {
        let target = ["name", "pattern", "declarator"].iter().find_map(|field| node.child_by_field_name(field));
        let own = node.child_by_field_name("type");
        let of_type = own.or_else(|| node.parent().and_then(|parent| parent.child_by_field_name("type")));
        let declared = of_type.and_then(|of_type| type_name(self.text(of_type)));
        let value = node.child_by_field_name("value").or_else(|| node.child_by_field_name("default_value"));
        match (target, value) {
            (Some(target), Some(value)) => {
                let targets: Vec<Node<'_>> = node.children_by_field_name("name", &mut node.walk()).collect();
                if targets.len() > 1 && value.named_child_count() == targets.len() {
                    let mut ids = Vec::new();
                    for (at, target) in targets.into_iter().enumerate() {
                        let Some(value) = value.named_child(u32::try_from(at).unwrap_or(0)) else { continue };
                        ids.push(self.put(node, target, value, false, declared));
                    }
                    return self.push(node, Kind::Block(ids));
                }
                self.put(node, target, value, false, declared)
            }
            (Some(target), None) => {
                let target = self.node(target);
                let value = self.nothing(node);
                self.push(node, Kind::Assign { target, value, adds: false, declared })
            }
            _ => {
                let children = self.children(node);
                self.push(node, Kind::Block(children))
            }
        }
    }

    /// A declaration of several names of one type.
    fn declarations(&mut self, node: Node<'_>) -> Id {
        let declarators: Vec<Node<'_>> = node.children_by_field_name("declarator", &mut node.walk()).collect();
        let of_type = node.child_by_field_name("type").and_then(|of_type| type_name(self.text(of_type)));
        let mut ids = Vec::new();
        for declarator in declarators {
            if matches!(self.shape(declarator), Shape::Declare) {
                ids.push(self.node(declarator));
            } else {
                let target = self.node(declarator);
                let value = self.nothing(declarator);
                ids.push(self.push(declarator, Kind::Assign { target, value, adds: false, declared: of_type }));
            }
        }
        self.push(node, Kind::Block(ids))
    }

    /// `value as name`, `if let pattern = value`.
    fn bound_as(&mut self, node: Node<'_>) -> Id {
        if node.kind() == "as_pattern" {
            let children = self.children(node);
            return match children[..] {
                [value, target] => self.push(node, Kind::Assign { target, value, adds: false, declared: None }),
                _ => self.push(node, Kind::Block(children)),
            };
        }
        match (self.field_of(node, &["pattern", "name"]), self.field(node, "value")) {
            (Some(target), Some(value)) => self.push(node, Kind::Assign { target, value, adds: false, declared: None }),
            _ => {
                let children = self.children(node);
                self.push(node, Kind::Block(children))
            }
        }
    }

    /// A loop over `right` with `left` for each.
    fn iterate(&mut self, node: Node<'_>) -> Id {
        let target = self.field_of(node, &["left", "name", "pattern"]);
        let value = self.field_of(node, &["right", "value"]);
        let body = self.field(node, "body");
        let mut ids = Vec::new();
        if let (Some(target), Some(value)) = (target, value) {
            // One of many: what holds for all of them holds for it.
            let each = self.push(node, Kind::Each(value, Vec::new()));
            ids.push(self.push(node, Kind::Assign { target, value: each, adds: false, declared: None }));
        }
        if body.is_none() && target.is_none() {
            ids.extend(self.children(node));
        }
        if let Some(body) = body {
            if target.is_none() {
                // Go and PHP keep the range apart.
                let mut cursor = node.walk();
                let others: Vec<Node<'_>> = node
                    .named_children(&mut cursor)
                    .filter(|child| child.start_byte() != self.ir.nodes[body].start)
                    .collect();
                let others: Vec<Id> = others.into_iter().map(|child| self.node(child)).collect();
                ids.extend(others);
            }
            ids.push(self.push(node, Kind::Branch { condition: None, bodies: vec![body] }));
        }
        self.push(node, Kind::Block(ids))
    }

    fn comprehension(&mut self, node: Node<'_>) -> Id {
        let body = node.child_by_field_name("body");
        let mut cursor = node.walk();
        let clauses: Vec<Node<'_>> =
            node.named_children(&mut cursor).filter(|child| Some(child.id()) != body.map(|body| body.id())).collect();
        let clauses: Vec<Id> = clauses.into_iter().map(|clause| self.node(clause)).collect();
        match body {
            Some(body) => {
                let body = self.node(body);
                self.push(node, Kind::Each(body, clauses))
            }
            None => self.push(node, Kind::Block(clauses)),
        }
    }

    fn import(&mut self, node: Node<'_>) -> Id {
        let mut found = Vec::new();
        imports::collect(self.dialect, node, self.source, &mut found);
        let ids: Vec<Id> =
            found.into_iter().map(|(local, path)| self.push(node, Kind::Import { local, path })).collect();
        self.push(node, Kind::Block(ids))
    }

    fn function(&mut self, node: Node<'_>, decorators: &'s str) -> Id {
        let mut declarator = node;
        // C keeps name and parameters below the pointers of the result.
        while let Some(inner) = declarator.child_by_field_name("declarator") {
            declarator = inner;
            if declarator.kind() == "function_declarator" {
                break;
            }
        }
        let name = declarator
            .child_by_field_name("name")
            .or_else(|| declarator.child_by_field_name("declarator"))
            .map(|name| self.text(name));
        let mut parameters = Vec::new();
        for field in ["parameters", "parameter"] {
            if let Some(list) = declarator.child_by_field_name(field) {
                self.parameters(list, &mut parameters);
            }
        }
        let body = node.child_by_field_name("body");
        let is_expression = body
            .is_some_and(|body| !matches!(body.kind(), "statement_block" | "block" | "compound_statement"))
            || matches!(self.dialect, Dialect::Rust | Dialect::Ruby);
        let body = body.map(|body| self.node(body));
        let mut decorators = decorators;
        if decorators.is_empty()
            && let Some(modifiers) =
                node.child(0).filter(|child| matches!(child.kind(), "modifiers" | "attribute_list"))
        {
            decorators = self.text(modifiers);
        }
        let function = Function { name, parameters, body, is_expression, decorators };
        self.push(node, Kind::Function(Box::new(function)))
    }

    fn parameters(&mut self, list: Node<'_>, parameters: &mut Vec<Parameter<'s>>) {
        if self.shape(list) == Shape::Name {
            let target = self.node(list);
            parameters.push(Parameter { target, declaration: self.text(list), declared: None });
            return;
        }
        let mut cursor = list.walk();
        for child in list.named_children(&mut cursor) {
            if matches!(self.shape(child), Shape::Skip) {
                continue;
            }
            let declaration = self.text(child);
            let declared = child.child_by_field_name("type").and_then(|of_type| type_name(self.text(of_type)));
            let mut targets: Vec<Node<'_>> = ["name", "pattern", "declarator", "left"]
                .iter()
                .map(|field| child.children_by_field_name(field, &mut child.walk()).collect::<Vec<_>>())
                .find(|found| !found.is_empty())
                .unwrap_or_default();
            if targets.is_empty() {
                let inner = if self.shape(child) == Shape::Name { Some(child) } else { child.named_child(0) };
                // An object that is taken apart is its own pattern.
                let is_pattern = child.kind().ends_with("_pattern") && !child.kind().starts_with("list_splat");
                targets.extend(if is_pattern { Some(child) } else { inner.or(Some(child)) });
            }
            for target in targets {
                let target = self.node(target);
                parameters.push(Parameter { target, declaration, declared });
            }
        }
    }

    fn decorated(&mut self, node: Node<'_>) -> Id {
        let Some(definition) = node.child_by_field_name("definition") else {
            let children = self.children(node);
            return self.push(node, Kind::Block(children));
        };
        let decorators = self.source.get(node.start_byte()..definition.start_byte()).unwrap_or_default();
        let mut cursor = node.walk();
        let others: Vec<Node<'_>> =
            node.named_children(&mut cursor).filter(|child| child.kind() == "decorator").collect();
        let mut ids: Vec<Id> = others.into_iter().map(|child| self.node(child)).collect();
        ids.push(match self.shape(definition) {
            Shape::Function => self.function(definition, decorators),
            _ => self.node(definition),
        });
        self.push(node, Kind::Block(ids))
    }

    fn branch(&mut self, node: Node<'_>) -> Id {
        let mut ids = Vec::new();
        ids.extend(self.field_of(node, &["initializer"]));
        let condition = self.field(node, "condition");
        let mut bodies = Vec::new();
        match self.field_of(node, &["consequence", "body"]) {
            Some(body) => bodies.push(body),
            None => bodies.push(self.nothing(node)),
        }
        bodies.extend(self.fields(node, "alternative"));
        bodies.extend(self.fields(node, "update"));
        let negated = node.kind().starts_with("unless");
        let condition = match condition {
            Some(condition) if negated => Some(self.push(node, Kind::Unary("!", condition))),
            condition => condition,
        };
        let branch = self.push(node, Kind::Branch { condition, bodies });
        if ids.is_empty() {
            return branch;
        }
        ids.push(branch);
        self.push(node, Kind::Block(ids))
    }

    /// Ruby's `leave unless fine?`.
    fn trailing_if(&mut self, node: Node<'_>) -> Id {
        let condition = self.field(node, "condition");
        let body: Vec<Id> = self.field(node, "body").into_iter().collect();
        let condition = match condition {
            Some(condition) if node.kind().starts_with("unless") => Some(self.push(node, Kind::Unary("!", condition))),
            condition => condition,
        };
        self.push(node, Kind::Branch { condition, bodies: body })
    }

    fn class(&mut self, node: Node<'_>) -> Id {
        let children = match node.child_by_field_name("body") {
            Some(body) => vec![self.node(body)],
            None => self.children(node),
        };
        let mut ids = Vec::new();
        for field in ["superclass", "superclasses", "interfaces"] {
            if let Some(parents) = node.child_by_field_name(field) {
                let parents = self.children(parents);
                ids.extend(parents);
            }
        }
        ids.extend(children);
        self.push(node, Kind::Block(ids))
    }
}

/// Returns the name of a type as written: `*http.Request` is `http.Request`, `Vec<u8>` is `Vec`.
fn type_name(text: &str) -> Option<&str> {
    let text = text.trim_start_matches([':', '&', '*', ' ', '?', '\\']);
    let text = text.strip_prefix("mut ").unwrap_or(text);
    let end = text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | ':' | '\\'))).unwrap_or(text.len());
    let name = text[..end].trim_end_matches(':');
    (!name.is_empty()).then_some(name)
}

/// Keeps a name that is written otherwise than it is read, for as long as the program runs; nothing when there are too many.
fn plain_name(id: &str) -> Option<&'static str> {
    /// No honest code has any.
    const NAMES_MAX: usize = 4_096;
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(id) {
        return Some(*known);
    }
    if names.len() >= NAMES_MAX || id.len() > 64 {
        return None;
    }
    let name: &'static str = Box::leak(id.to_owned().into_boxed_str());
    names.insert(name);
    Some(name)
}
