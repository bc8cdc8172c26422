//! How deep the tree of a statement can be, told from its tokens before it is parsed, and what may stand before a
//! parenthesis.

use super::lexer::{Kind, Malformed, malformed, unexpected};
use super::words::Known;
use super::{Syntax, functions};

/// How deep parentheses and operators may nest: less than SQLite's own limit of 1000, and the parser's tree, which is
/// walked and dropped by recursion, stays well inside the stack of [`crate::connection::STACK_BYTES`].
const DEPTH_MAX: usize = 500;

/// How deep parentheses may nest: deeper than people write. The parser tries some words in several ways, in a time
/// that grows by half or doubles with every level, and cannot be stopped meanwhile.
const PARENTHESES_MAX: usize = 20;

/// Bounds how deep the tree of the statement can be, without making it.
///
/// A chain such as `1 + 1 + …` is as deep as it is long. Within one pair of parentheses, what is between two commas
/// is at most as deep as it has operators, plus the deepest of the parentheses in it; queries that are put together are deeper by
/// one for each, whatever commas are in them.
#[derive(Default)]
pub(super) struct Depth {
    open: Vec<Level>,
    here: Level,
    /// The most that were open at once.
    pub(super) parentheses: usize,
}

#[derive(Default)]
struct Level {
    operators: usize,
    /// What puts queries together is not ended by the commas in them.
    sets: usize,
    below: usize,
    deepest: usize,
    /// The word before the parenthesis, when nobody knows it.
    unknown: Option<String>,
}

impl Level {
    fn end_segment(&mut self) {
        self.deepest = self.deepest.max(self.operators + self.below);
        self.operators = 0;
        self.below = 0;
    }

    /// Ends it, and returns how deep it was.
    fn depth(&mut self) -> usize {
        self.end_segment();
        self.deepest + self.sets
    }
}

impl Depth {
    /// Counts the next token.
    ///
    /// # Errors
    ///
    /// What makes the statement too deep, or closes what is not open, or a function that is not known.
    pub(super) fn count(
        &mut self,
        kind: Kind,
        token: &str,
        known: Known,
        before: &Before<'_>,
    ) -> Result<(), Malformed> {
        match (kind, token.as_bytes()) {
            (Kind::Punctuation, b"(" | b"[") => {
                if token == "("
                    && let Some(unknown) = self.here.unknown.take()
                {
                    return Err(Malformed::Function(unknown));
                }
                // The type of an array of arrays is as deep as it has brackets, one behind the other.
                self.here.operators += usize::from(token == "[");
                self.open.push(std::mem::take(&mut self.here));
                self.here.unknown = (token == "(" && !before.is_known()).then(|| before.word.to_owned());
                self.parentheses = self.parentheses.max(self.open.len());
                if self.parentheses > PARENTHESES_MAX {
                    return Err(too_deep());
                }
            }
            (Kind::Punctuation, b")" | b"]") => {
                let mut outer = self.open.pop().ok_or_else(|| unexpected(token))?;
                outer.below = outer.below.max(self.here.depth() + 1);
                self.here = outer;
            }
            (Kind::Punctuation, b",") => self.here.end_segment(),
            (Kind::Operator, _) => self.here.operators += 1,
            _ => {
                self.here.operators += usize::from(known.is_operator());
                self.here.sets += usize::from(known.is_set_operator());
            }
        }
        let Level { operators, sets, below, .. } = self.here;
        if operators + sets + below > DEPTH_MAX { Err(too_deep()) } else { Ok(()) }
    }

    /// Returns how deep the whole statement can be.
    ///
    /// # Errors
    ///
    /// When that is too deep, or something is not closed.
    pub(super) fn finish(mut self) -> Result<usize, Malformed> {
        let depth = self.here.depth();
        match (self.open.is_empty(), depth > DEPTH_MAX) {
            (false, _) => Err(malformed("`(` is not closed")),
            (true, true) => Err(too_deep()),
            (true, false) => Ok(depth),
        }
    }
}

/// What stands before a parenthesis.
#[derive(Clone, Copy)]
pub(super) struct Before<'a> {
    /// The word, or nothing when it is something else.
    word: &'a str,
    known: Known,
    /// Whether a value or a name stands before that.
    after_operand: bool,
    /// Whether what was last read can be the end of a value or a name.
    is_operand: bool,
    syntax: Syntax,
}

impl<'a> Before<'a> {
    /// Returns what stands before the first token.
    pub(super) fn nothing(syntax: Syntax) -> Self {
        Self { word: "", known: Known::NOTHING, after_operand: false, is_operand: false, syntax }
    }

    /// Returns what stands before a parenthesis that follows `token`.
    pub(super) fn then(self, kind: Kind, token: &'a str, known: Known) -> Self {
        let (word, is_operand) = match kind {
            Kind::Word => (token, known.ends_operand()),
            Kind::Number | Kind::Parameter | Kind::Quoted => ("", true),
            Kind::Punctuation => ("", matches!(token, ")" | "]")),
            Kind::Operator => ("", false),
        };
        // `x NOT IN (`: the operand is that before NOT.
        let negated = self.known.is_not() && self.after_operand;
        Self { word, known, after_operand: self.is_operand || negated, is_operand, syntax: self.syntax }
    }

    /// Whether a string may follow, and be no more than a string.
    pub(super) fn may_precede_string(&self, previous: Kind) -> bool {
        match (self.syntax, previous) {
            (Syntax::Sqlite, _) | (_, Kind::Operator | Kind::Number | Kind::Parameter) => true,
            // `_latin1 'x'` is a string of another kind.
            (Syntax::Mysql, _) => !self.word.starts_with('_'),
            (Syntax::Postgres, Kind::Word) => self.known.may_precede_string(),
            (Syntax::Postgres, Kind::Punctuation) => !self.is_operand,
            (Syntax::Postgres, Kind::Quoted) => false,
        }
    }

    /// Whether the parentheses may have others in them.
    ///
    /// After a word that is neither SQLite's nor an allowed function, there is a list of columns
    /// (`WITH x (a, b) AS`), the length of a type or a function that will be refused. The parser knows functions that
    /// SQLite does not, and reads some of them (`position`) in a time that doubles with every level; so it does with
    /// words in places where they mean nothing (`FROM in (`).
    fn is_known(&self) -> bool {
        self.word.is_empty()
            || self.known.may_precede_parenthesis(self.syntax, self.after_operand)
            || functions::is_allowed(self.syntax, self.word)
            || functions::is_allowed_as_table(self.syntax, self.word)
    }
}

fn too_deep() -> Malformed {
    Malformed::Token(format!("more than {DEPTH_MAX} operators or {PARENTHESES_MAX} parentheses are nested"))
}
