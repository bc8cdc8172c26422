//! Conditions that tell what a name can still be.

use super::Engine;
use crate::check::security::ir::{Id, Kind};

/// Methods that compare their receiver or argument with what is allowed.
const CHECKING: &[&str] = &[
    "includes",
    "has",
    "contains",
    "containsKey",
    "include?",
    "key?",
    "member?",
    "indexOf",
    "in_array",
    "array_key_exists",
    "startsWith",
    "startswith",
    "starts_with",
    "start_with?",
    "str_starts_with",
    "HasPrefix",
    "is_relative_to",
    "contains_key",
    "match",
    "matches",
    "fullmatch",
    "test",
    "MatchString",
    "preg_match",
    "is_match",
    "match?",
    "is_numeric",
    "ctype_digit",
    "ctype_alnum",
    "isdigit",
    "isalnum",
    "isidentifier",
    "isInteger",
    "is_safe_path",
    "isdecimal",
    "is_alphanumeric",
    "strcmp",
    "equals",
    "hasOwnProperty",
    "IsLocal",
    "isalpha",
];

/// Words in the name of a function that checks.
const CHECKING_WORDS: &[&str] =
    &["valid", "allowed", "is_safe", "issafe", "permitted", "whitelist", "allowlist", "is_local", "islocal", "within"];

impl<'s> Engine<'_, 's> {
    /// Collects the names that `condition` checks, each with what it says when the check holds.
    pub(super) fn guards(&mut self, condition: Id, says: bool, found: &mut Vec<(&'s str, bool)>) {
        let ir = self.ir;
        match ir.kind(condition) {
            Kind::Unary(operator, inner) if matches!(*operator, "!" | "not") => self.guards(*inner, !says, found),
            Kind::Block(parts) | Kind::Last(parts) | Kind::Choice(parts) => {
                for part in parts {
                    self.guards(*part, says, found);
                }
            }
            Kind::Binary(operator, parts) => self.comparison(operator.trim(), parts, says, found),
            // Go's `if !allowed[name]`.
            Kind::Index(object, key) => {
                if !self.value(*object).dynamic
                    && let Some(name) = self.key(*key)
                {
                    found.push((name, says));
                }
            }
            Kind::Call { callee, arguments } => {
                let name = match ir.kind(*callee) {
                    Kind::Member(_, name) => name.as_ref(),
                    Kind::Name(name) => name,
                    _ => return,
                };
                let lower = name.to_ascii_lowercase();
                if !CHECKING.contains(&name) && !CHECKING_WORDS.iter().any(|word| lower.contains(word)) {
                    return;
                }
                if let Kind::Member(object, _) = ir.kind(*callee) {
                    self.guarded(*object, says, found);
                }
                for argument in arguments {
                    self.guarded(*argument, says, found);
                }
            }
            _ => {}
        }
    }

    fn guarded(&mut self, id: Id, says: bool, found: &mut Vec<(&'s str, bool)>) {
        let ir = self.ir;
        if let Some(name) = self.key(id) {
            found.push((name, says));
        } else if let Kind::Call { callee, arguments } = ir.kind(id) {
            // `str(path).startswith(...)`, `path.toString().startsWith(...)`.
            if let Kind::Member(object, _) = ir.kind(*callee) {
                self.guarded(*object, says, found);
            }
            if let [only] = arguments[..] {
                self.guarded(only, says, found);
            }
        }
    }

    fn comparison(&mut self, operator: &str, parts: &[Id], says: bool, found: &mut Vec<(&'s str, bool)>) {
        let (Some(left), Some(right)) = (parts.first(), parts.last()) else { return };
        let says = match operator {
            "in" => says,
            "not in" | "not" => !says,
            "==" | "===" | "is" | "=~" => says,
            "!=" | "!==" | "is not" | "!~" | "<" => !says,
            _ => return,
        };
        let is_set = matches!(operator, "in" | "not in" | "not");
        // `name in ALLOWED`, `name == "a"`; with a call on one side it is the call that checks: `x.indexOf(y) === -1`.
        for (side, other) in [(left, right), (right, left)] {
            if is_set && side == right {
                continue;
            }
            if let Some(name) = self.key(*side) {
                if is_set || !self.value(*other).dynamic || operator == "=~" {
                    found.push((name, says));
                }
            } else if !is_set || side == left {
                // What is compared with -1, 0 or false says it the other way round.
                let flips = matches!(self.value(*other).text.as_str(), "-1" | "0" | "false" | "1");
                let is_no = flips && self.value(*other).text != "1";
                let mut inner = Vec::new();
                self.guards(*side, if is_no { !says } else { says }, &mut inner);
                if inner.is_empty()
                    && let Kind::Call { callee, arguments } = self.ir.kind(*side)
                {
                    // `os.path.commonpath([base, path]) != base`.
                    let common = self.path(*callee).is_some_and(|path| path.contains("common"));
                    if common
                        && let Some(first) = arguments.first()
                        && let Kind::List(items) = self.ir.kind(*first)
                    {
                        for item in items {
                            self.guarded(*item, says, &mut inner);
                        }
                    }
                }
                found.append(&mut inner);
            }
        }
        if is_set && parts.len() == 2 {
            // `root not in path.parents`.
            if let Kind::Member(object, name) = self.ir.kind(*right)
                && name == "parents"
            {
                self.guarded(*object, says, found);
            }
        }
    }

    /// Returns whether `body` always leaves: an exception, a return, an answer of an error.
    pub(super) fn leaves(&self, body: Id) -> bool {
        match self.ir.kind(body) {
            Kind::Return(_) | Kind::Leave(_) => true,
            Kind::Block(parts) | Kind::Last(parts) => parts.last().is_some_and(|last| self.leaves(*last)),
            Kind::Call { callee, .. } => {
                let name = match self.ir.kind(*callee) {
                    Kind::Member(_, name) => name.as_ref(),
                    Kind::Name(name) => name,
                    _ => return false,
                };
                matches!(
                    name,
                    "abort"
                        | "exit"
                        | "_exit"
                        | "panic"
                        | "panic!"
                        | "die"
                        | "raise"
                        | "fail"
                        | "halt"
                        | "head"
                        | "redirect_to"
                        | "bail!"
                        | "Fatal"
                        | "Fatalf"
                        | "quit"
                        | "throw"
                        | "notFound"
                        | "head!"
                )
            }
            _ => false,
        }
    }
}
