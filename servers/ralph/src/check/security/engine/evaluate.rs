//! What an expression is: constant, built, from outside, and by which path it is reached.

use std::rc::Rc;

use super::{EVALUATION_DEPTH_MAX, Engine};
use crate::check::security::dialect::Dialect;
use crate::check::security::ir::{Id, Kind};
use crate::check::security::lower::script_module;
use crate::check::security::value::{HOLE, Value};

/// Longest path; a longer chain of calls is cut at its front.
const PATH_MAX: usize = 160;

impl<'s> Engine<'_, 's> {
    /// Returns what is known of the value of `id`.
    pub(super) fn value(&mut self, id: Id) -> Value {
        if self.evaluation >= EVALUATION_DEPTH_MAX || self.steps == 0 {
            return Value::unknown();
        }
        self.steps -= 1;
        self.evaluation += 1;
        let mut value = self.evaluated(id);
        self.evaluation -= 1;
        self.mark_source(&mut value);
        value
    }

    /// Marks a value whose path is one that a request decides.
    pub(super) fn mark_source(&self, value: &mut Value) {
        if !value.tainted && value.dynamic && value.path.as_deref().is_some_and(|path| self.is_source(path)) {
            value.tainted = true;
        }
    }

    fn is_source(&self, path: &str) -> bool {
        let path = path.trim_start_matches('?');
        let Some(sources) = &self.index.sources else { return false };
        sources.find_overlapping_iter(path).any(|found| {
            let source = self.index.table.sources[found.pattern().as_usize()];
            let before = path[..found.start()].chars().next_back();
            let after = path[found.end()..].chars().next();
            (source.contains('.') || found.start() == 0)
                && before.is_none_or(|c| matches!(c, '.' | '/' | '(' | ')' | '?'))
                && after.is_none_or(|c| matches!(c, '.' | '(' | ')' | '['))
        })
    }

    fn evaluated(&mut self, id: Id) -> Value {
        let ir = self.ir;
        match ir.kind(id) {
            Kind::Text(text) => Value::constant(text),
            Kind::Literal(text) => Value::constant(text),
            Kind::Template(parts) => {
                let parts: Vec<Value> = parts.iter().map(|part| self.value(*part)).collect();
                Value::concatenated(parts)
            }
            Kind::Binary(operator, parts) => self.operation(operator, parts),
            Kind::Unary(_, inner) => {
                let inner = self.value(*inner);
                // A sign, a negation: no text.
                Value { text: inner.text, ..Value::safe() }
            }
            Kind::Choice(parts) => {
                let mut parts = parts.iter().map(|part| self.value(*part)).collect::<Vec<_>>().into_iter();
                let mut value = parts.next().unwrap_or_default();
                parts.for_each(|part| value.or(&part));
                value
            }
            Kind::Name(name) => match self.lookup(name) {
                Some(binding) => {
                    let mut value = (*binding.value).clone();
                    if value.path.is_none() {
                        value.path = Some(format!("?{name}").into());
                    }
                    value
                }
                None => Value { path: self.path(id), ..Value::unknown() },
            },
            Kind::Member(object, name) => {
                if let Some(key) = self.key(id)
                    && let Some(binding) = self.lookup(key)
                {
                    let mut value = (*binding.value).clone();
                    if value.path.is_none() {
                        value.path = Some(format!("?{key}").into());
                    }
                    return value;
                }
                let object_value = self.value(*object);
                // An entry of a constant map is constant.
                if !object_value.dynamic && object_value.node.is_some() {
                    return self.entry(&object_value, name);
                }
                Value { path: self.path(id), tainted: object_value.tainted, ..Value::unknown() }
            }
            Kind::Index(object, _) => {
                let object = self.value(*object);
                if object.dynamic {
                    let path = object.path.map(|path| format!("{path}[]").into());
                    Value { tainted: object.tainted, path, ..Value::unknown() }
                } else {
                    Value { node: None, ..object }
                }
            }
            Kind::Call { callee, arguments } => self.call_value(id, *callee, arguments),
            Kind::Pair(_, value) | Kind::Spread(value) => self.value(*value),
            Kind::List(parts) | Kind::Map(parts) => {
                let mut value = Value::default();
                for part in parts.iter().take(200) {
                    let part = self.value(*part);
                    value.dynamic |= part.dynamic;
                    value.built |= part.built;
                    value.tainted |= part.tainted;
                    if value.text.len() < 300 {
                        value.text.push_str(&part.text);
                        value.text.push(' ');
                    }
                }
                value.node = Some(id);
                value
            }
            Kind::Function(_) => Value { node: Some(id), ..Value::safe() },
            Kind::Each(element, _) => {
                let value = self.value(*element);
                Value { node: None, path: None, ..value }
            }
            Kind::Last(parts) => parts.last().map_or_else(Value::default, |last| self.value(*last)),
            Kind::Block(parts) => match parts[..] {
                [] => Value::safe(),
                [only] => self.value(only),
                _ => {
                    let mut value = Value::unknown();
                    for part in parts.iter().take(20) {
                        value.tainted |= self.value(*part).tainted;
                    }
                    value
                }
            },
            Kind::Assign { value, .. } => self.value(*value),
            Kind::Return(_) | Kind::Leave(_) | Kind::Import { .. } => Value::safe(),
            Kind::Branch { bodies, .. } => {
                let mut bodies = bodies.iter().map(|body| self.value(*body)).collect::<Vec<_>>().into_iter();
                let mut value = bodies.next().unwrap_or_default();
                bodies.for_each(|body| value.or(&body));
                value
            }
        }
    }

    fn entry(&mut self, object: &Value, name: &str) -> Value {
        let ir = self.ir;
        if let Some(Kind::Map(entries)) = object.node.map(|node| ir.kind(node)) {
            for entry in entries {
                if let Kind::Pair(key, value) = ir.kind(*entry)
                    && key == name
                {
                    return self.value(*value);
                }
            }
        }
        Value { node: None, path: None, ..object.clone() }
    }

    fn operation(&mut self, operator: &str, parts: &[Id]) -> Value {
        match operator {
            "+" | "." | ".." | "<<" => {
                let parts: Vec<Value> = parts.iter().map(|part| self.value(*part)).collect();
                Value::concatenated(parts)
            }
            "%" => {
                let Some((format, rest)) = parts.split_first() else { return Value::safe() };
                let format = self.value(*format);
                if format.text.trim_matches(HOLE).is_empty() || !format.text.contains('%') {
                    // A remainder.
                    return Value { path: None, ..format };
                }
                let mut values = Vec::new();
                for part in rest {
                    self.spread_values(*part, &mut values);
                }
                formatted(&format, &values, '%')
            }
            "*" => {
                // A text repeated: `"?, " * n`.
                let parts: Vec<Value> = parts.iter().map(|part| self.value(*part)).collect();
                let texts = parts
                    .iter()
                    .find(|part| !part.dynamic && part.text.parse::<f64>().is_err() && !part.text.is_empty());
                texts.cloned().unwrap_or_else(|| Value { text: HOLE.to_string(), ..Value::safe() })
            }
            "/" if self.dialect == Dialect::Python => {
                // Parts of a path.
                let parts: Vec<Value> = parts.iter().map(|part| self.value(*part)).collect();
                let mut result = Value::default();
                for (place, part) in parts.iter().enumerate() {
                    if place > 0 {
                        result.text.push('/');
                    }
                    result.add(part);
                }
                result
            }
            "," => parts.last().map_or_else(Value::default, |last| self.value(*last)),
            // Comparisons and arithmetic.
            _ => Value { text: HOLE.to_string(), ..Value::safe() },
        }
    }

    /// Collects the values of a list apart, or of anything else as one.
    pub(super) fn spread_values(&mut self, id: Id, values: &mut Vec<Value>) {
        let ir = self.ir;
        match ir.kind(id) {
            Kind::List(parts) | Kind::Map(parts) => {
                for part in parts.iter().take(100) {
                    values.push(self.value(*part));
                }
            }
            _ => values.push(self.value(id)),
        }
    }

    /// Returns the path by which `id` is reached; that of a name of the file's own begins with `?`.
    pub(super) fn path(&mut self, id: Id) -> Option<Rc<str>> {
        if self.evaluation >= EVALUATION_DEPTH_MAX || self.steps == 0 {
            return None;
        }
        self.steps -= 1;
        self.evaluation += 1;
        let path = self.path_of(id);
        self.evaluation -= 1;
        path.map(|path| match path.len() > PATH_MAX {
            true => path[path.ceil_char_boundary(path.len() - PATH_MAX)..].into(),
            false => path.into(),
        })
    }

    fn path_of(&mut self, id: Id) -> Option<String> {
        let ir = self.ir;
        match ir.kind(id) {
            Kind::Name(name) => Some(match self.lookup(name) {
                Some(binding) => match &binding.value.path {
                    Some(path) => path.to_string(),
                    None => format!("?{name}"),
                },
                None => match self.dialect {
                    Dialect::Php => name.trim_start_matches('\\').to_ascii_lowercase(),
                    _ => (*name).to_owned(),
                },
            }),
            Kind::Member(object, name) => {
                if let Some(binding) = self.key(id).and_then(|key| self.lookup(key))
                    && let Some(path) = &binding.value.path
                {
                    return Some(path.to_string());
                }
                let object = self.path(*object).unwrap_or_else(|| "?".into());
                if self.dialect.is_script() && name == "default" {
                    return Some(object.to_string());
                }
                Some(format!("{object}.{name}"))
            }
            Kind::Index(object, key) => {
                // `module["ev" + "al"]`.
                let key = self.value(*key);
                let object = self.path(*object)?;
                match key.dynamic || key.text.is_empty() || key.text.contains(HOLE) {
                    true => Some(format!("{object}[]")),
                    false => Some(format!("{object}.{}", key.text)),
                }
            }
            Kind::Call { callee, arguments } => self.path_of_call(*callee, arguments),
            Kind::Text(_) | Kind::Template(_) | Kind::Binary(..) => Some("\"\"".to_owned()),
            Kind::Choice(parts) => parts.first().and_then(|first| self.path(*first)).map(|path| path.to_string()),
            Kind::Last(parts) => parts.last().and_then(|last| self.path(*last)).map(|path| path.to_string()),
            Kind::Spread(inner) | Kind::Pair(_, inner) => self.path(*inner).map(|path| path.to_string()),
            Kind::Block(parts) => match parts[..] {
                [only] => self.path(only).map(|path| path.to_string()),
                _ => None,
            },
            Kind::Assign { value, .. } => self.path(*value).map(|path| path.to_string()),
            _ => None,
        }
    }

    fn path_of_call(&mut self, callee: Id, arguments: &[Id]) -> Option<String> {
        let path = self.path(callee)?;
        match &*path {
            "require" | "import" if self.dialect.is_script() => {
                let module = self.value(*arguments.first()?);
                return (!module.dynamic).then(|| script_module(&module.text));
            }
            "__import__" | "importlib.import_module" => {
                let module = self.value(*arguments.first()?);
                return (!module.dynamic).then_some(module.text);
            }
            "getattr" | "Reflect.get" => {
                let (object, name) = (self.path(*arguments.first()?)?, self.value(*arguments.get(1)?));
                return (!name.dynamic).then(|| format!("{object}.{}", name.text));
            }
            "util.promisify" | "promisify" | "functools.partial" | "es6-promisify" => {
                return self.path(*arguments.first()?).map(|path| path.to_string());
            }
            _ if path.ends_with(".bind") => return Some(path.trim_end_matches(".bind").to_owned()),
            _ => {}
        }
        // Which algorithm, which program: a short word says more than the name of the function.
        let word = match arguments.first() {
            Some(first) => self.value(*first),
            None => Value::safe(),
        };
        let says = !word.dynamic
            && (1..=16).contains(&word.text.len())
            && word.text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        Some(if says { format!("{path}({})", word.text.to_ascii_lowercase()) } else { format!("{path}()") })
    }
}

/// Puts `values` into `format` where `mark` stands; numbers are harmless.
pub(super) fn formatted(format: &Value, values: &[Value], mark: char) -> Value {
    let mut result = format.clone();
    result.path = None;
    result.node = None;
    let numeric: Vec<bool> = if mark == '%' { numeric_marks(&format.text) } else { Vec::new() };
    for (place, value) in values.iter().enumerate() {
        if numeric.get(place).copied().unwrap_or(false) {
            continue;
        }
        result.dynamic |= value.dynamic;
        result.built |= value.dynamic;
        result.tainted |= value.tainted;
        if !value.dynamic
            && let Some(at) = result.text.find(mark)
        {
            // A constant put into the text belongs to it.
            let end = (at + 2).min(result.text.len());
            if result.text.is_char_boundary(end) && result.text.len() < 1_000 {
                result.text.replace_range(at..end, &value.text);
            }
        }
    }
    result
}

/// Returns for each mark of a format such as `%s` whether only a number can be put there.
fn numeric_marks(format: &str) -> Vec<bool> {
    let mut marks = Vec::new();
    let mut characters = format.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '%' {
            continue;
        }
        for next in characters.by_ref() {
            if next == '%' {
                break;
            }
            if next.is_ascii_alphabetic() && !matches!(next, 'l' | 'h' | 'z' | 'j') {
                marks.push(matches!(next, 'd' | 'i' | 'u' | 'f' | 'x' | 'X' | 'o' | 'e' | 'g' | 't' | 'c'));
                break;
            }
            if !(next.is_ascii_digit()
                || matches!(
                    next,
                    '-' | '+' | '.' | '#' | ' ' | '*' | '$' | '\'' | '(' | ')' | '_' | 'l' | 'h' | 'z' | 'j'
                ))
            {
                break;
            }
        }
    }
    marks
}
