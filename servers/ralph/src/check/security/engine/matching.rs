//! Whether a call or a setting is one that a rule is about.

use super::Engine;
use crate::check::security::dialect::Dialect;
use crate::check::security::ir::{Id, Kind};
use crate::check::security::rules::{Category, Of, Sink, Test, To, When};
use crate::check::security::text;
use crate::check::security::value::{HOLE, Value};

impl<'s> Engine<'_, 's> {
    /// Takes note of what a call changes, and reports it when a rule says so.
    pub(super) fn call(&mut self, id: Id, callee: Id, arguments: &[Id]) {
        let ir = self.ir;
        let plain = match ir.kind(callee) {
            Kind::Name(name) => *name,
            Kind::Member(_, name) => name.as_ref(),
            _ => "",
        };
        let path = self.path(callee).unwrap_or_else(|| "?".into());
        let last = if plain.is_empty() || matches!(ir.kind(callee), Kind::Name(_)) {
            path.rsplit('.').next().unwrap_or(&path).to_owned()
        } else {
            // What a name of the file's own stands for.
            match path.rsplit_once('.') {
                Some((_, last)) => last.to_owned(),
                None => plain.to_owned(),
            }
        };
        self.effects(&path, &last, callee, arguments);
        let index = self.index;
        let last = last.split('(').next().unwrap_or(&last).to_owned();
        // `(0, eval)(x)`, `eval.call(null, x)`: the last part may be the way of calling.
        let Some(sinks) = index.by_name.get(last.as_str()) else { return };
        let mut seen = Vec::new();
        for (pattern, sink) in sinks {
            if seen.contains(&sink.category) || !self.is_called(&path, pattern) {
                continue;
            }
            if self.has_options(sink, callee, arguments) && self.decides(id, callee, sink, arguments) {
                seen.push(sink.category);
                self.hit(id, sink.category);
            }
        }
    }

    /// Returns whether `path` is what `pattern` names.
    fn is_called(&self, path: &str, pattern: &str) -> bool {
        if let Some(name) = pattern.strip_prefix("*.") {
            return path.rsplit_once('.').is_some_and(|(_, last)| last == name);
        }
        if !pattern.contains('.') {
            return path == pattern || self.wildcards.iter().any(|_| false);
        }
        let ends = |path: &str| {
            path.strip_suffix(pattern)
                .is_some_and(|before| before.is_empty() || before.ends_with(['.', '/', '?']) && before != "?")
        };
        if ends(path) || ends(&without_words(path)) {
            return true;
        }
        // A bare name may come from a module of which everything is imported.
        !path.contains(['.', '?']) && self.wildcards.iter().any(|module| ends(&format!("{module}.{path}")))
    }

    fn has_options(&mut self, sink: &Sink, callee: Id, arguments: &[Id]) -> bool {
        sink.with.iter().all(|(name, test)| match test {
            Test::CalleeNot(words) => !self.says(callee, words),
            Test::At(place, words) => arguments.get(*place).is_some_and(|argument| self.says(*argument, words)),
            Test::AtNot(place, words) => match arguments.get(*place) {
                Some(argument) if !matches!(self.ir.kind(*argument), Kind::Pair(..)) => !self.says(*argument, words),
                _ => true,
            },
            _ => {
                let option = arguments.iter().find_map(|argument| self.option(*argument, name, 0));
                match (test, option) {
                    (Test::Missing, option) => option.is_none(),
                    (Test::True, option) => option.is_some_and(|option| !self.is_false(option)),
                    (Test::False, option) => option.is_some_and(|option| self.is_false(option)),
                    (Test::Says(words), option) => option.is_some_and(|option| self.says(option, words)),
                    (Test::SaysNot(words), option) => option.is_none_or(|option| !self.says(option, words)),
                    _ => true,
                }
            }
        })
    }

    /// Finds the option `name` in an argument: by its name, in a map, in a map that a name stands for.
    fn option(&mut self, argument: Id, name: &str, depth: usize) -> Option<Id> {
        if depth > 4 {
            return None;
        }
        let ir = self.ir;
        match ir.kind(argument) {
            Kind::Pair(key, value) if key == name => Some(*value),
            Kind::Map(entries) => entries.iter().find_map(|entry| self.option(*entry, name, depth + 1)),
            Kind::Spread(inner) => self.option(*inner, name, depth + 1),
            Kind::Name(_) | Kind::Member(..) => {
                let node = self.value(argument).node?;
                matches!(ir.kind(node), Kind::Map(_)).then(|| self.option(node, name, depth + 1)).flatten()
            }
            Kind::Call { callee, arguments } if matches!(ir.kind(*callee), Kind::Name("dict")) => {
                arguments.iter().find_map(|entry| self.option(*entry, name, depth + 1))
            }
            _ => None,
        }
    }

    fn says(&mut self, id: Id, words: &[&str]) -> bool {
        let source = self.text(id);
        if words.iter().any(|word| source.contains(word)) {
            return true;
        }
        let value = self.value(id);
        words
            .iter()
            .any(|word| value.text.contains(word) || value.path.as_deref().is_some_and(|path| path.contains(word)))
    }

    fn is_false(&mut self, id: Id) -> bool {
        let value = self.value(id);
        !value.dynamic
            && matches!(value.text.as_str(), "false" | "False" | "FALSE" | "0" | "None" | "nil" | "null" | "0L" | "")
            && !matches!(
                self.ir.kind(id),
                Kind::Call { .. }
                    | Kind::Binary(..)
                    | Kind::Function(_)
                    | Kind::List(_)
                    | Kind::Map(_)
                    | Kind::Block(_)
            )
    }

    fn is_true(&mut self, id: Id) -> bool {
        let value = self.value(id);
        !value.dynamic && matches!(value.text.as_str(), "true" | "True" | "TRUE" | "1")
    }

    /// Returns whether the arguments are what the rule is about.
    fn decides(&mut self, id: Id, callee: Id, sink: &Sink, arguments: &[Id]) -> bool {
        let ir = self.ir;
        let named = |name: &str| {
            arguments.iter().find(|argument| matches!(ir.kind(**argument), Kind::Pair(key, _) if key == name)).copied()
        };
        let is_positional = |argument: &&Id| !matches!(ir.kind(**argument), Kind::Pair(..));
        let receiver = match ir.kind(callee) {
            Kind::Member(object, _) => Some(*object),
            _ => None,
        };
        let meant: Vec<Id> = match sink.of {
            Of::At(place) => arguments.get(place).copied().into_iter().collect(),
            Of::Named(place, name) => {
                named(name).or_else(|| arguments.iter().filter(is_positional).nth(place).copied()).into_iter().collect()
            }
            Of::Any => arguments.to_vec(),
            Of::From(place) => arguments.get(place..).unwrap_or_default().to_vec(),
            Of::Receiver => receiver.into_iter().collect(),
        };
        match sink.when {
            When::Always => true,
            When::Program => self.is_shell_program(id, callee, arguments),
            When::Password => meant.iter().any(|argument| self.is_password(*argument)),
            When::Sql => {
                meant.iter().any(|argument| {
                    if matches!(ir.kind(*argument), Kind::Function(_) | Kind::Spread(_)) {
                        return false;
                    }
                    let value = self.value(*argument);
                    value.built && text::is_sql(&value.text)
                }) || (meant.first().is_some_and(|first| {
                    let value = self.value(*first);
                    value.tainted
                        && !matches!(ir.kind(*first), Kind::Map(_) | Kind::List(_) | Kind::Pair(..))
                        && self.is_database(receiver)
                }))
            }
            When::Html => meant.iter().any(|argument| {
                let value = self.value(*argument);
                value.tainted && value.built && text::is_html(&value.text)
            }),
            When::Dynamic => meant
                .iter()
                .any(|argument| !matches!(ir.kind(*argument), Kind::Function(_)) && self.value(*argument).dynamic),
            When::Built => meant
                .iter()
                .any(|argument| !matches!(ir.kind(*argument), Kind::Function(_)) && self.value(*argument).built),
            When::Tainted => meant
                .iter()
                .any(|argument| !matches!(ir.kind(*argument), Kind::Function(_)) && self.value(*argument).tainted),
            When::Shell => {
                let Some(first) = meant.first().copied() else { return false };
                let value = self.value(first);
                if let Some(category) = text::harmful_command(&value.text) {
                    self.hit(id, category);
                }
                // With a shell, a list is put together too.
                value.dynamic
            }
            When::SystemFile => meant.iter().any(|argument| {
                let value = self.value(*argument);
                text::is_system_file(&value.text)
            }),
            When::Root => meant.iter().any(|argument| {
                let value = self.value(*argument);
                !value.dynamic && text::is_root(&value.text)
            }),
        }
    }

    /// Returns whether what a query is sent to looks like a database.
    fn is_database(&mut self, receiver: Option<Id>) -> bool {
        let Some(receiver) = receiver else { return false };
        let path = self.path(receiver).unwrap_or_else(|| "".into()).to_ascii_lowercase();
        [
            "db",
            "conn",
            "cursor",
            "cur",
            "client",
            "pool",
            "knex",
            "sequelize",
            "database",
            "session",
            "engine",
            "sql",
            "pg",
            "stmt",
            "statement",
            "mysqli",
            "pdo",
            "tx",
            "jdbc",
        ]
        .iter()
        .any(|word| path.contains(word))
    }

    /// Returns whether a program and its arguments are a shell with a command that is not constant.
    fn is_shell_program(&mut self, id: Id, callee: Id, arguments: &[Id]) -> bool {
        let mut values = Vec::new();
        self.chained(callee, &mut values, 0);
        for argument in arguments {
            if matches!(self.ir.kind(*argument), Kind::Pair(..) | Kind::Map(_)) {
                continue;
            }
            let listed = match self.ir.kind(*argument) {
                Kind::Name(_) => self.value(*argument).node.unwrap_or(*argument),
                _ => *argument,
            };
            self.spread_values(listed, &mut values);
        }
        if let Some(category) = text::harmful_program(&values) {
            self.hit(id, category);
        }
        text::is_shell_program(&values)
    }

    /// Collects what the calls of a chain were given: `Command::new("sh").arg("-c")`.
    fn chained(&mut self, callee: Id, values: &mut Vec<Value>, depth: usize) {
        let ir = self.ir;
        if depth > 30 {
            return;
        }
        if let Kind::Member(object, _) = ir.kind(callee)
            && let Kind::Call { callee, arguments } = ir.kind(*object)
        {
            self.chained(*callee, values, depth + 1);
            for argument in arguments {
                self.spread_values(*argument, values);
            }
        }
    }

    /// Returns whether `id` is a password, by the words around it.
    fn is_password(&mut self, id: Id) -> bool {
        let function = self.scopes.iter().rev().find_map(|scope| scope.function).unwrap_or_default();
        let value = self.value(id);
        if !value.dynamic && !value.text.contains(HOLE) {
            return false;
        }
        text::is_password(self.text(id)) || text::is_password_function(function) || text::is_password(self.target)
    }

    /// Reports a setting: an assignment to a field, a named argument, an entry.
    pub(super) fn setting(&mut self, id: Id, name: &str, value: Id) {
        let Some(settings) = self.index.settings.get(name) else { return };
        for setting in settings {
            let matches = match setting.to {
                To::False => self.is_false(value),
                To::True => self.is_true(value),
                To::Says(word) => self.says(value, &[word]),
                To::Dynamic => {
                    let known = self.value(value);
                    known.dynamic && !matches!(self.ir.kind(value), Kind::Block(parts) if parts.is_empty())
                }
                To::Agreeing => self.agrees(value) && (name != "verify" || self.text(id).contains("SSLSession")),
            };
            if matches {
                self.hit(id, setting.category);
            }
        }
    }

    /// Reports names that are settings by themselves, such as variables of the environment.
    pub(super) fn setting_of_name(&mut self, id: Id, name: &str, value: Id) {
        if name.len() > 12
            && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
            && self.dialect == Dialect::Bash
        {
            self.setting(id, name, value);
        }
    }

    /// Returns whether a function says yes to everything.
    fn agrees(&mut self, id: Id) -> bool {
        let ir = self.ir;
        let Kind::Function(function) = ir.kind(id) else {
            return self.value(id).node.is_some_and(|node| node != id && self.agrees(node));
        };
        let Some(body) = function.body else { return true };
        match ir.kind(body) {
            Kind::Block(parts) if parts.is_empty() => true,
            Kind::Block(_) => false,
            Kind::Return(None) => true,
            Kind::Return(Some(value)) => self.is_nothing_or_true(*value),
            _ => self.is_nothing_or_true(body),
        }
    }

    fn is_nothing_or_true(&mut self, id: Id) -> bool {
        matches!(self.ir.kind(id), Kind::Literal("true" | "null" | "nil" | "True" | "None") | Kind::Name("undefined"))
            || matches!(self.ir.kind(id), Kind::Last(parts) if parts.last().is_some_and(|last| matches!(self.ir.kind(*last), Kind::Literal("true" | "nil" | "null"))))
    }

    /// Reports a page that a handler returns with something of the request in it.
    pub(super) fn html_returned(&mut self, id: Id, value: &Value) {
        if matches!(self.dialect, Dialect::Python | Dialect::Java)
            && value.tainted
            && value.built
            && text::is_html(&value.text)
        {
            self.hit(id, Category::Xss);
        }
    }
}

/// Returns `path` without the words in its calls: `a.b(md5).c` is `a.b().c`.
fn without_words(path: &str) -> String {
    let mut result = String::with_capacity(path.len());
    let mut depth = 0_usize;
    for character in path.chars() {
        match character {
            '(' => {
                depth += 1;
                if depth == 1 {
                    result.push('(');
                }
            }
            ')' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    result.push(')');
                }
            }
            _ if depth == 0 => result.push(character),
            _ => {}
        }
    }
    result
}
