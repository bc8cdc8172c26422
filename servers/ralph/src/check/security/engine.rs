//! One walk over a file in the order in which it runs, with what is known of its names.

mod calls;
mod evaluate;
mod guards;
mod matching;

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::dialect::Dialect;
use super::ir::{Function, Id, Ir, Kind};
use super::rules::{self, Category, Index};
use super::value::Value;

/// Names of one function that are remembered; the rest is unknown.
const NAMES_MAX: usize = 20_000;

/// How deep an expression is evaluated; what is deeper is unknown.
const EVALUATION_DEPTH_MAX: usize = 48;

/// Steps of evaluation in one file, so that no file takes for ever.
const STEPS_PER_NODE: usize = 60;

/// Something found: what, and the bytes that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    /// The first byte.
    pub start: usize,
    /// What.
    pub category: Category,
}

/// A name, and what is known of it.
#[derive(Clone, Debug)]
struct Binding {
    value: Rc<Value>,
    /// How many branches deep it was made: one that is deeper does not replace it for good.
    branch: usize,
}

/// The names of a function.
#[derive(Debug, Default)]
struct Scope<'s> {
    names: HashMap<&'s str, Binding>,
    function: Option<&'s str>,
}

/// The walk.
pub struct Engine<'a, 's> {
    dialect: Dialect,
    ir: &'a Ir<'s>,
    source: &'s str,
    index: &'static Index,
    scopes: Vec<Scope<'s>>,
    /// What functions of the file return, by their names.
    returns: HashMap<&'s str, Value>,
    /// Modules of which everything is imported.
    wildcards: Vec<String>,
    branch: usize,
    /// The name that the expression at hand is put into.
    target: &'s str,
    steps: usize,
    evaluation: usize,
    hits: BTreeSet<Hit>,
    in_time: &'a dyn Fn() -> bool,
    /// The time was up, or the steps were.
    pub gave_up: bool,
}

impl<'a, 's> Engine<'a, 's> {
    /// Prepares the walk over `ir`, which is that of `source`.
    pub fn new(dialect: Dialect, ir: &'a Ir<'s>, source: &'s str, in_time: &'a dyn Fn() -> bool) -> Self {
        Self {
            dialect,
            ir,
            source,
            index: rules::of(dialect),
            scopes: vec![Scope::default()],
            returns: HashMap::new(),
            wildcards: Vec::new(),
            branch: 0,
            target: "",
            steps: ir.nodes.len().saturating_mul(STEPS_PER_NODE).saturating_add(10_000),
            evaluation: 0,
            hits: BTreeSet::new(),
            in_time,
            gave_up: false,
        }
    }

    /// Walks from `root` and returns what was found, in order.
    pub fn run(mut self, root: Id) -> (Vec<Hit>, bool) {
        self.visit(root);
        (self.hits.into_iter().collect(), self.gave_up)
    }

    fn text(&self, id: Id) -> &'s str {
        let node = &self.ir.nodes[id];
        self.source.get(node.start..node.end).unwrap_or_default()
    }

    fn hit(&mut self, id: Id, category: Category) {
        self.hits.insert(Hit { start: self.ir.nodes[id].start, category });
    }

    fn lookup(&self, name: &str) -> Option<&Binding> {
        self.scopes.iter().rev().find_map(|scope| scope.names.get(name))
    }

    fn bind(&mut self, name: &'s str, value: Value) {
        let branch = self.branch;
        let Some(scope) = self.scopes.last_mut() else { return };
        let value = match scope.names.get(name) {
            // In a branch that may not be taken, what was there may still be.
            Some(before) if branch > before.branch => {
                let mut both = value;
                both.or(&before.value);
                scope.names.insert(name, Binding { value: Rc::new(both), branch: before.branch });
                return;
            }
            _ => value,
        };
        if scope.names.len() < NAMES_MAX {
            scope.names.insert(name, Binding { value: Rc::new(value), branch });
        }
    }

    /// Changes what is known of `name` where it is.
    fn update(&mut self, name: &'s str, change: impl FnOnce(&mut Value)) {
        for scope in self.scopes.iter_mut().rev() {
            if let Some(binding) = scope.names.get_mut(name) {
                let mut value = (*binding.value).clone();
                change(&mut value);
                binding.value = Rc::new(value);
                return;
            }
        }
        let mut value = Value::default();
        change(&mut value);
        self.bind(name, value);
    }

    /// Returns the name under which the value of `id` is remembered: a name, or a field of the object itself.
    fn key(&self, id: Id) -> Option<&'s str> {
        match self.ir.kind(id) {
            Kind::Name(name) => Some(name),
            Kind::Member(object, _) => match self.ir.kind(*object) {
                Kind::Name(_) => Some(self.text(id)).filter(|text| text.len() < 100 && !text.contains('\n')),
                _ => None,
            },
            _ => None,
        }
    }

    fn visit_all(&mut self, ids: &[Id]) {
        for id in ids {
            self.visit(*id);
        }
    }

    fn visit(&mut self, id: Id) {
        if self.gave_up {
            return;
        }
        if self.steps == 0 || (id.is_multiple_of(1024) && !(self.in_time)()) {
            self.gave_up = true;
            return;
        }
        let ir = self.ir;
        match ir.kind(id) {
            Kind::Name(_) | Kind::Text(_) | Kind::Literal(_) => {}
            Kind::Member(object, _) | Kind::Spread(object) | Kind::Unary(_, object) => self.visit(*object),
            Kind::Index(object, key) => {
                self.visit(*object);
                self.visit(*key);
            }
            Kind::Call { callee, arguments } => {
                self.visit(*callee);
                self.visit_all(arguments);
                self.call(id, *callee, arguments);
            }
            Kind::Pair(name, value) => {
                self.visit(*value);
                self.setting(id, name, *value);
            }
            Kind::Template(parts)
            | Kind::Choice(parts)
            | Kind::List(parts)
            | Kind::Map(parts)
            | Kind::Block(parts)
            | Kind::Last(parts) => {
                self.visit_all(parts);
            }
            Kind::Binary(operator, parts) => {
                self.visit_all(parts);
                // Ruby's and C++'s `target << more`.
                if *operator == "<<"
                    && let [target, rest @ ..] = &parts[..]
                    && let Some(name) = self.key(*target)
                {
                    let more: Vec<Value> = rest.iter().map(|part| self.value(*part)).collect();
                    self.update(name, |value| more.iter().for_each(|more| value.add(more)));
                }
            }
            Kind::Each(element, clauses) => {
                self.visit_all(clauses);
                self.visit(*element);
            }
            Kind::Import { local, path } => {
                if *local == "*" {
                    self.wildcards.push(path.clone());
                } else {
                    let value = Value { path: Some(path.as_str().into()), ..Value::unknown() };
                    self.bind(local, value);
                }
            }
            Kind::Assign { target, value, adds, declared } => self.assign(id, *target, *value, *adds, *declared),
            Kind::Function(function) => self.function(id, function),
            Kind::Return(value) => {
                if let Some(value) = value {
                    self.visit(*value);
                    self.returned(*value);
                }
            }
            Kind::Leave(value) => {
                if let Some(value) = value {
                    self.visit(*value);
                }
            }
            Kind::Branch { condition, bodies } => self.branch(*condition, bodies),
        }
    }

    fn returned(&mut self, id: Id) {
        let Some(name) = self.scopes.last().and_then(|scope| scope.function) else { return };
        let value = self.value(id);
        self.html_returned(id, &value);
        match self.returns.get_mut(name) {
            Some(before) => before.or(&value),
            None => {
                self.returns.insert(name, value);
            }
        }
    }

    fn assign(&mut self, id: Id, target: Id, value: Id, adds: bool, declared: Option<&'s str>) {
        let outer = self.target;
        let key = self.key(target);
        self.target = key.unwrap_or_default();
        self.visit(value);
        let ir = self.ir;
        // What a field is set to is a setting, as a named argument is.
        if let Kind::Member(object, name) = ir.kind(target) {
            self.visit(*object);
            self.setting(id, name, value);
        } else if let (Kind::Name(name), false) = (ir.kind(target), adds) {
            self.setting_of_name(id, name, value);
        }
        let mut known = self.value(value);
        self.target = outer;
        if let Some(declared) = declared {
            if is_number(declared) {
                known = Value { path: known.path, ..Value::safe() };
            } else if known.path.as_deref().is_none_or(|path| path.starts_with('?')) {
                known.path = Some(self.type_path(declared).into());
            }
        }
        if let Some(key) = key {
            if adds {
                self.update(key, |value| value.add(&known));
            } else {
                self.bind(key, known);
            }
        } else {
            self.take_apart(target, &known);
        }
    }

    /// Binds the names in a pattern.
    fn take_apart(&mut self, pattern: Id, value: &Value) {
        let ir = self.ir;
        match ir.kind(pattern) {
            Kind::Name(name) => self.bind(name, value.clone()),
            Kind::Map(entries) => {
                for entry in entries {
                    match ir.kind(*entry) {
                        Kind::Pair(name, target) => {
                            let part = self.part_of(value, name);
                            self.take_apart(*target, &part);
                        }
                        _ => self.take_apart(*entry, value),
                    }
                }
            }
            // The first of several results is the one that matters: `value, error`.
            Kind::List(parts) | Kind::Block(parts) => {
                for (place, part) in parts.iter().enumerate() {
                    let mut of_part = value.clone();
                    of_part.node = None;
                    if place > 0 {
                        of_part.path = None;
                    }
                    self.take_apart(*part, &of_part);
                }
            }
            Kind::Spread(inner) => self.take_apart(*inner, value),
            Kind::Call { arguments, .. } => {
                for argument in arguments {
                    self.take_apart(*argument, value);
                }
            }
            Kind::Pair(_, inner) => self.take_apart(*inner, value),
            Kind::Assign { target, .. } => self.take_apart(*target, value),
            _ => {}
        }
    }

    fn part_of(&mut self, value: &Value, name: &str) -> Value {
        let path: Option<Rc<str>> = value.path.as_ref().map(|path| format!("{path}.{name}").into());
        let mut part = Value { path, node: None, built: false, ..value.clone() };
        self.mark_source(&mut part);
        part
    }

    fn function(&mut self, id: Id, function: &'a Function<'s>) {
        if let Some(name) = function.name {
            let value = Value { path: Some(format!("?{name}").into()), node: Some(id), ..Value::safe() };
            // A method is no name of its own.
            if self
                .lookup(name)
                .is_none_or(|before| before.value.path.as_deref().is_none_or(|path| path.starts_with('?')))
            {
                self.bind(name, value);
            }
        }
        if let Some(name) = function.name {
            // A method that overrides a check and does nothing.
            self.setting(id, name, id);
        }
        let handles = !function.decorators.is_empty()
            && self.index.table.handlers.iter().any(|handler| function.decorators.contains(handler));
        let name = function.name.or_else(|| Some(self.target).filter(|target| !target.is_empty()));
        self.scopes.push(Scope { function: name, ..Scope::default() });
        let branch = std::mem::take(&mut self.branch);
        for parameter in &function.parameters {
            let mut value = Value::unknown();
            let own = self.index.table.handlers.iter().any(|handler| parameter.declaration.contains(handler));
            value.tainted = (handles || own) && !is_self(self.text(parameter.target));
            if let Some(declared) = parameter.declared {
                if is_number(declared) {
                    value = Value::safe();
                }
                value.path = Some(self.type_path(declared).into());
            }
            self.take_apart(parameter.target, &value);
        }
        let outer = std::mem::take(&mut self.target);
        if let Some(body) = function.body {
            self.visit(body);
            if function.is_expression {
                self.returned(body);
            }
        }
        self.target = outer;
        self.branch = branch;
        self.scopes.pop();
    }

    fn branch(&mut self, condition: Option<Id>, bodies: &[Id]) {
        let guards = match condition {
            Some(condition) => {
                self.visit(condition);
                let mut guards = Vec::new();
                self.guards(condition, true, &mut guards);
                guards
            }
            None => Vec::new(),
        };
        self.branch += 1;
        for (place, body) in bodies.iter().enumerate() {
            // What was checked is safe where the check said so.
            let mut before = Vec::new();
            for (name, says_yes) in &guards {
                if *says_yes == (place == 0)
                    && let Some(binding) = self.lookup(name).cloned()
                {
                    before.push((*name, binding));
                    self.make_safe(name);
                }
            }
            self.visit(*body);
            for (name, binding) in before {
                self.restore(name, binding);
            }
        }
        self.branch -= 1;
        if bodies.first().is_some_and(|body| self.leaves(*body)) {
            for (name, says_yes) in guards {
                if !says_yes {
                    self.make_safe(name);
                }
            }
        }
    }

    fn make_safe(&mut self, name: &'s str) {
        if self.lookup(name).is_some() {
            self.update(name, |value| {
                value.dynamic = false;
                value.built = false;
                value.tainted = false;
            });
        } else {
            self.bind(name, Value::safe());
        }
    }

    fn restore(&mut self, name: &'s str, before: Binding) {
        for scope in self.scopes.iter_mut().rev() {
            if let Some(binding) = scope.names.get_mut(name) {
                *binding = before;
                return;
            }
        }
    }

    /// Returns the path of a declared type, with what it is imported as.
    fn type_path(&self, declared: &str) -> String {
        let (first, rest) = declared.split_once(['.', ':', '\\']).unwrap_or((declared, ""));
        let rest = rest.trim_start_matches(':').replace("::", ".").replace('\\', ".");
        let first = match self.lookup(first).and_then(|binding| binding.value.path.clone()) {
            Some(path) if !path.starts_with('?') => path.to_string(),
            _ => first.to_owned(),
        };
        if rest.is_empty() { first } else { format!("{first}.{rest}") }
    }
}

/// Returns whether a parameter is the object itself.
fn is_self(name: &str) -> bool {
    matches!(name, "self" | "cls" | "this")
}

/// Returns whether a value of this type can only be a number, a truth value or an instant.
fn is_number(declared: &str) -> bool {
    let last = declared.rsplit(['.', ':', '\\']).next().unwrap_or(declared);
    matches!(
        last,
        "int"
            | "integer"
            | "Integer"
            | "long"
            | "Long"
            | "short"
            | "Short"
            | "byte"
            | "Byte"
            | "float"
            | "Float"
            | "double"
            | "Double"
            | "bool"
            | "boolean"
            | "Boolean"
            | "number"
            | "bigint"
            | "Decimal"
            | "BigDecimal"
            | "BigInteger"
            | "UUID"
            | "Uuid"
            | "int8"
            | "int16"
            | "int32"
            | "int64"
            | "uint"
            | "uint8"
            | "uint16"
            | "uint32"
            | "uint64"
            | "float32"
            | "float64"
            | "i8"
            | "i16"
            | "i32"
            | "i64"
            | "i128"
            | "isize"
            | "u8"
            | "u16"
            | "u32"
            | "u64"
            | "u128"
            | "usize"
            | "f32"
            | "f64"
            | "size_t"
            | "ssize_t"
            | "unsigned"
            | "uint32_t"
            | "uint64_t"
            | "int32_t"
            | "int64_t"
            | "pid_t"
            | "date"
            | "datetime"
            | "LocalDate"
            | "Instant"
            | "time_t"
    )
}
