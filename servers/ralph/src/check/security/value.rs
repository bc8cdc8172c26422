//! What is known of the value of an expression.

use std::rc::Rc;

use super::ir::Id;

/// Constant text that is kept of a value; enough to tell SQL from prose.
const TEXT_MAX: usize = 400;

/// Stands in a text for what is not constant.
pub const HOLE: char = '\u{1}';

/// What is known of a value.
#[derive(Clone, Debug, Default)]
pub struct Value {
    /// Part of it is not known: a parameter, a result.
    pub dynamic: bool,
    /// It is constant text with something unknown put in.
    pub built: bool,
    /// Somebody outside decides part of it: a request.
    pub tainted: bool,
    /// The constant parts, with [`HOLE`] for the others.
    pub text: String,
    /// What it is, as a path: `sqlite3.connect()`.
    pub path: Option<Rc<str>>,
    /// The expression, when it is a list, a map or a function.
    pub node: Option<Id>,
}

impl Value {
    /// A value that is known to do no harm.
    #[must_use]
    pub fn safe() -> Self {
        Self::default()
    }

    /// A constant.
    #[must_use]
    pub fn constant(text: &str) -> Self {
        let mut value = Self::default();
        value.add_text(text);
        value
    }

    /// A value of which nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self { dynamic: true, text: HOLE.to_string(), ..Self::default() }
    }

    fn add_text(&mut self, text: &str) {
        let room = TEXT_MAX.saturating_sub(self.text.len());
        self.text.push_str(&text[..text.floor_char_boundary(room.min(text.len()))]);
    }

    /// Puts `next` behind this one.
    pub fn add(&mut self, next: &Self) {
        let had_text = self.text.chars().any(|c| c != HOLE);
        let adds_text = next.text.chars().any(|c| c != HOLE);
        self.built |= next.built || (self.dynamic && adds_text) || (next.dynamic && had_text);
        self.dynamic |= next.dynamic;
        self.tainted |= next.tainted;
        self.add_text(&next.text);
    }

    /// Returns `parts` one behind the other.
    #[must_use]
    pub fn concatenated(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut result = Self::default();
        for part in parts {
            result.add(&part);
        }
        result
    }

    /// Makes this what holds for either of both.
    pub fn or(&mut self, other: &Self) {
        self.built |= other.built;
        self.dynamic |= other.dynamic;
        self.tainted |= other.tainted;
        if self.text != other.text {
            self.add_text(" ");
            self.add_text(&other.text);
        }
        if self.path.is_none() {
            self.path = other.path.clone();
        }
        self.node = self.node.or(other.node);
    }
}
