//! Cutting a statement into tokens exactly where the engine does.
//!
//! The parser and the engine must not disagree about where a string, a comment or a statement ends: that is how a
//! write hides in something that looks like text. So the text is cut here first, by the engine's own rules and refusing
//! whatever is unusual; comments and odd white space are gone afterwards, and what is left is both what the parser
//! judges and what the engine gets. [`Tokens::quoted`] lets the caller check that the parser cut it alike.
//!
//! PostgreSQL and MySQL have several ways to write a string. Each is decoded here and written again in the one way
//! that every reader understands: `'…'` with doubled quotes, and in MySQL with doubled backslashes.
//!
//! The alternative, to send what the parser prints from its tree, was rejected: a slip of the printer would answer
//! another question than the one asked, and nobody would notice.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Range;

use super::Syntax;
use super::depth::{Before, Depth};
use super::words::Known;

/// Longest statement: more than people write, and quick to judge.
pub const STATEMENT_BYTES_MAX: usize = 100_000;

/// How many tokens the parser may copy, for operators that have it copy all that stands before them: some hundred milliseconds.
const COPIES_MAX: usize = 2_000_000;

/// The tokens of one statement.
#[derive(Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The statement without comments, with single spaces, and without a semicolon at its end.
    pub text: String,
    /// What is quoted, in order: the quote character and the content with doubled quotes resolved.
    pub quoted: Vec<(char, String)>,
    /// The first word, in upper case.
    pub first_word: String,
    /// The operators.
    pub operators: BTreeSet<String>,
    /// Where in `text` each parameter is, and how it is written.
    pub parameters: Vec<(usize, String)>,
    /// Every token, and where in `text` it is.
    pub(super) pieces: Vec<Piece>,
    /// How deep its parentheses nest.
    pub parentheses: usize,
    /// How deep its tree is at most, parentheses and operators together.
    pub depth: usize,
    /// How many words in it take much stack to be parsed.
    pub tried: usize,
}

/// Why a text is not one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Something follows the semicolon at the end of the first statement.
    SecondStatement {
        /// The first word of the first statement, in upper case.
        first_word: String,
    },
    /// There is no statement.
    Empty,
    /// A text that SQLite would not cut into tokens, or that is not accepted here.
    Token(String),
    /// Something that looks like a call of a function that is not allowed.
    Function(String),
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) kind: Kind,
    pub(super) place: Range<usize>,
    /// What is known of it, if it is a word.
    pub(super) known: Known,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    Number,
    Parameter,
    Quoted,
    Operator,
    /// Parentheses, commas and full stops: they keep the distance that they were written with.
    Punctuation,
}

/// Cuts `sql` into the tokens of one statement.
///
/// # Errors
///
/// [`Malformed`] with a sentence for the caller.
pub fn tokens(sql: &str, syntax: Syntax) -> Result<Tokens, Malformed> {
    if syntax == Syntax::Postgres && sql.contains('\0') {
        return Err(malformed("a NUL is in it, which PostgreSQL takes for the end"));
    }
    let mut lexer = Lexer { sql, at: 0, syntax, decoded: None };
    let mut tokens = Tokens {
        text: String::with_capacity(sql.len()),
        quoted: Vec::new(),
        first_word: String::new(),
        operators: BTreeSet::new(),
        parameters: Vec::new(),
        pieces: Vec::with_capacity(sql.len() / 4),
        parentheses: 0,
        depth: 0,
        tried: 0,
    };
    let mut depth = Depth::default();
    let mut copying = 0;
    let mut previous: Option<Kind> = None;
    let mut after_string = false;
    let mut after_stop = false;
    let mut word = Before::nothing(syntax);
    loop {
        let apart = lexer.skip_space()?;
        let start = lexer.at;
        if lexer.peek(0) == Some(b';') {
            lexer.at += 1;
            lexer.skip_to_end(&tokens.first_word)?;
            break;
        }
        let Some(kind) = lexer.token()? else { break };
        let token = &sql[start..lexer.at];
        let known = if kind == Kind::Word { Known::of(token) } else { Known::NOTHING };
        if kind == Kind::Word && previous.is_none() {
            tokens.first_word = token.to_ascii_uppercase();
        }
        if let Some(previous) = previous
            && (apart || would_merge(previous, kind))
        {
            tokens.text.push(' ');
        }
        let decoded = lexer.decoded.take();
        let is_string = kind == Kind::Quoted && (decoded.is_some() || token.starts_with('\''));
        if syntax != Syntax::Sqlite && is_string && after_string {
            // Engines join them, some only when a line ends between them.
            return Err(malformed("two strings stand side by side"));
        }
        if is_string && previous.is_some_and(|previous| !word.may_precede_string(previous)) {
            // To PostgreSQL that is a value of a type, whose rules may call any function; to the parser an alias.
            return Err(malformed("a string stands behind a name; for a value of a type, write CAST"));
        }
        after_string = is_string;
        if kind == Kind::Parameter {
            tokens.parameters.push((tokens.text.len(), token.to_owned()));
        }
        if kind == Kind::Operator && !tokens.operators.contains(token) {
            tokens.operators.insert(token.to_owned());
        }
        let place = tokens.text.len();
        if let Some(content) = decoded {
            syntax.write_string(&mut tokens.text, &content);
            tokens.quoted.push(('\'', content));
        } else {
            tokens.text.push_str(token);
            if kind == Kind::Quoted {
                tokens.quoted.push(unquote(token));
            } else if kind == Kind::Number && (token.starts_with("0x") || token.starts_with("0X")) {
                // A number to SQLite; the parser has the same token for it as for a blob.
                tokens.quoted.push(('x', token[2..].to_owned()));
            }
        }
        tokens.pieces.push(Piece { kind, place: place..tokens.text.len(), known });
        // What stands behind a full stop is a name.
        let counted = if after_stop { Known::NOTHING } else { known };
        depth.count(kind, token, counted, &word)?;
        tokens.tried += usize::from(counted.is_tried());
        copying += usize::from(counted.is_copying());
        after_stop = kind == Kind::Punctuation && token == ".";
        previous = Some(kind);
        word = word.then(kind, token, known);
    }
    if previous.is_none() {
        return Err(Malformed::Empty);
    }
    if syntax != Syntax::Postgres && copying * tokens.pieces.len() > COPIES_MAX {
        return Err(malformed("it is too long for so many of IS, ISNULL, GLOB, MATCH, REGEXP and DIV"));
    }
    tokens.parentheses = depth.parentheses;
    tokens.depth = depth.finish()?;
    Ok(tokens)
}

/// Whether another reader might take two tokens for one when nothing is between them.
fn would_merge(left: Kind, right: Kind) -> bool {
    left != Kind::Punctuation
        && right != Kind::Punctuation
        && (left == right || left == Kind::Quoted || right == Kind::Quoted)
        || (left == Kind::Operator && right == Kind::Parameter)
}

fn unquote(token: &str) -> (char, String) {
    let quote = token.chars().next().unwrap_or_default();
    let inner = || token.get(1..token.len() - 1).unwrap_or_default();
    match quote {
        '[' => (quote, inner().to_owned()),
        '\'' | '"' | '`' => match inner() {
            inner if inner.contains(quote) => (quote, inner.replace(&format!("{quote}{quote}"), &quote.to_string())),
            inner => (quote, inner.to_owned()),
        },
        // A blob: x'…'.
        _ => ('x', token.get(2..token.len() - 1).unwrap_or_default().to_owned()),
    }
}

struct Lexer<'a> {
    sql: &'a str,
    at: usize,
    syntax: Syntax,
    /// What the string that was just taken says, where it is written again.
    decoded: Option<String>,
}

impl Syntax {
    /// Appends `content` as a string that every reader of this syntax understands alike.
    fn write_string(self, text: &mut String, content: &str) {
        text.push('\'');
        for character in content.chars() {
            if character == '\'' || (character == '\\' && self == Self::Mysql) {
                text.push(character);
            }
            text.push(character);
        }
        text.push('\'');
    }
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.sql.as_bytes().get(self.at + ahead).copied()
    }

    fn rest(&self) -> &str {
        &self.sql[self.at..]
    }

    /// Skips white space and comments; returns whether there were any.
    fn skip_space(&mut self) -> Result<bool, Malformed> {
        let start = self.at;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b' ' | b'\t' | b'\n' | b'\r' | b'\x0c'), _) => self.at += 1,
                (Some(b'-'), Some(b'-')) if self.is_line_comment() => self.skip_line(),
                (Some(b'#'), _) if self.syntax == Syntax::Mysql => self.skip_line(),
                (Some(b'/'), Some(b'*')) => self.skip_comment()?,
                _ => return Ok(self.at > start),
            }
        }
    }

    /// To MySQL `--` begins a comment only before a space; before anything else it is two signs.
    fn is_line_comment(&self) -> bool {
        self.syntax != Syntax::Mysql || self.peek(2).is_none_or(|byte| byte <= b' ')
    }

    fn skip_line(&mut self) {
        let ends: &[char] = if self.syntax == Syntax::Postgres { &['\n', '\r'] } else { &['\n'] };
        self.at += self.rest().find(ends).unwrap_or(self.rest().len());
    }

    fn skip_comment(&mut self) -> Result<(), Malformed> {
        let not_closed = || malformed("a comment is not closed");
        if self.syntax == Syntax::Mysql && (self.rest().starts_with("/*!") || self.rest().starts_with("/*M!")) {
            return Err(malformed("a comment that the server runs is not allowed"));
        }
        if self.syntax != Syntax::Postgres {
            // SQLite lets a comment run to the end of the text; neither it nor MySQL nests comments.
            let length = self.rest()[2..].find("*/").ok_or_else(not_closed)?;
            self.at += length + 4;
            return Ok(());
        }
        let mut open = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => {
                    open += 1;
                    self.at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    open -= 1;
                    self.at += 2;
                    if open == 0 {
                        return Ok(());
                    }
                }
                (Some(_), _) => self.at += 1,
                (None, _) => return Err(not_closed()),
            }
        }
    }

    /// Makes sure that nothing but space, comments and semicolons is left.
    fn skip_to_end(&mut self, first_word: &str) -> Result<(), Malformed> {
        loop {
            self.skip_space()?;
            match self.peek(0) {
                Some(b';') => self.at += 1,
                None => return Ok(()),
                Some(_) => return Err(Malformed::SecondStatement { first_word: first_word.to_owned() }),
            }
        }
    }

    /// Takes the next token; `None` at the end.
    fn token(&mut self) -> Result<Option<Kind>, Malformed> {
        let Some(byte) = self.peek(0) else { return Ok(None) };
        let kind = match byte {
            b'(' | b')' | b',' => self.take(1, Kind::Punctuation),
            b'[' | b']' if self.syntax == Syntax::Postgres => self.take(1, Kind::Punctuation),
            b'.' if !self.peek(1).is_some_and(|next| next.is_ascii_digit()) => self.take(1, Kind::Punctuation),
            b'.' | b'0'..=b'9' => self.number()?,
            b'\'' | b'"' if self.syntax == Syntax::Mysql => self.backslashed(0)?,
            b'\'' | b'"' => self.quoted(char::from(byte))?,
            b'`' if self.syntax != Syntax::Postgres => self.quoted('`')?,
            b'e' | b'E' if self.syntax == Syntax::Postgres && self.peek(1) == Some(b'\'') => self.backslashed(1)?,
            b'[' if self.syntax == Syntax::Sqlite => {
                let length = self.rest().find(']').ok_or_else(|| malformed("`[` is not closed"))?;
                self.take(length + 1, Kind::Quoted)
            }
            b'x' | b'X' if self.peek(1) == Some(b'\'') && self.syntax != Syntax::Postgres => self.blob()?,
            b'?' if self.syntax == Syntax::Mysql => self.take(1, Kind::Parameter),
            b'?' if self.syntax == Syntax::Sqlite => {
                let digits = self.digits(1);
                self.take(1 + digits, Kind::Parameter)
            }
            b'$' if self.syntax == Syntax::Postgres && !self.peek(1).is_some_and(|byte| byte.is_ascii_digit()) => {
                self.dollar_quoted()?
            }
            b'$' if self.syntax != Syntax::Mysql => self.dollar()?,
            b'@' | b'#' | b'?' | b':' | b'^' if self.syntax == Syntax::Postgres => self.operator()?,
            b'^' if self.syntax == Syntax::Mysql => self.operator()?,
            b'+' | b'-' | b'*' | b'/' | b'%' | b'=' | b'<' | b'>' | b'!' | b'|' | b'&' | b'~' => self.operator()?,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => self.word()?,
            _ => return Err(unexpected(self.rest())),
        };
        Ok(Some(kind))
    }

    fn take(&mut self, length: usize, kind: Kind) -> Kind {
        self.at += length;
        kind
    }

    fn digits(&self, from: usize) -> usize {
        self.sql.as_bytes()[self.at + from..].iter().take_while(|byte| byte.is_ascii_digit()).count()
    }

    fn quoted(&mut self, quote: char) -> Result<Kind, Malformed> {
        let mut end = 1;
        loop {
            let next = self.rest()[end..].find(quote).ok_or_else(|| malformed(&format!("`{quote}` is not closed")))?;
            end += next + 1;
            if !self.rest()[end..].starts_with(quote) {
                return Ok(self.take(end, Kind::Quoted));
            }
            end += 1;
        }
    }

    /// Takes a string in which a backslash means something; `prefix` is how long what stands before the quote is.
    fn backslashed(&mut self, prefix: usize) -> Result<Kind, Malformed> {
        let rest = self.sql.get(self.at + prefix..).unwrap_or_default();
        let mut characters = rest.char_indices();
        let quote = characters.next().map(|(_, quote)| quote).unwrap_or_default();
        let mut content = String::new();
        let mut characters = characters.peekable();
        let not_closed = || malformed(&format!("`{quote}` is not closed"));
        loop {
            let (at, character) = characters.next().ok_or_else(not_closed)?;
            if character == quote {
                if characters.next_if(|(_, next)| *next == quote).is_none() {
                    self.decoded = Some(content);
                    return Ok(self.take(prefix + at + quote.len_utf8(), Kind::Quoted));
                }
                content.push(quote);
            } else if character == '\\' {
                let (_, escaped) = characters.next().ok_or_else(not_closed)?;
                match (self.syntax, escaped) {
                    (_, 'b') => content.push('\u{8}'),
                    (_, 'n') => content.push('\n'),
                    (_, 'r') => content.push('\r'),
                    (_, 't') => content.push('\t'),
                    (Syntax::Mysql, 'Z') => content.push('\u{1a}'),
                    (Syntax::Mysql, '%' | '_') => content.extend(['\\', escaped]),
                    (Syntax::Postgres, 'f') => content.push('\u{c}'),
                    (Syntax::Postgres, '1'..='7' | 'x' | 'u' | 'U') | (_, '0') => {
                        return Err(malformed("a string has a character written by its number; write it as it is"));
                    }
                    (_, other) => content.push(other),
                }
            } else {
                content.push(character);
            }
        }
    }

    /// Takes `$tag$ … $tag$`.
    fn dollar_quoted(&mut self) -> Result<Kind, Malformed> {
        let rest = self.rest();
        let tag = rest[1..]
            .find(|character: char| !(character.is_ascii_alphanumeric() || character == '_'))
            .map(|length| length + 1)
            .filter(|end| rest[*end..].starts_with('$'))
            .map(|end| &rest[..=end])
            .ok_or_else(|| malformed("a parameter is `$1`, and a string `$$…$$`"))?;
        let length = rest[tag.len()..].find(tag).ok_or_else(|| malformed(&format!("`{tag}` is not closed")))?;
        let content = rest[tag.len()..tag.len() + length].to_owned();
        let all = tag.len() * 2 + length;
        self.decoded = Some(content);
        Ok(self.take(all, Kind::Quoted))
    }

    fn blob(&mut self) -> Result<Kind, Malformed> {
        let digits = self.sql.as_bytes()[self.at + 2..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits % 2 != 0 || self.peek(2 + digits) != Some(b'\'') {
            return Err(malformed("a blob x'…' is an even number of hexadecimal digits"));
        }
        Ok(self.take(digits + 3, Kind::Quoted))
    }

    /// SQLite has `$name::x(y)` too, which is one parameter to it and several tokens to others.
    fn dollar(&mut self) -> Result<Kind, Malformed> {
        let digits = self.digits(1);
        let next = self.peek(1 + digits);
        if digits == 0
            || next.is_some_and(|byte| is_word(byte) || byte == b'(' || (byte == b':' && self.syntax == Syntax::Sqlite))
        {
            return Err(malformed("a parameter is `?`, `?1` or `$1`"));
        }
        Ok(self.take(1 + digits, Kind::Parameter))
    }

    fn number(&mut self) -> Result<Kind, Malformed> {
        let bytes = &self.sql.as_bytes()[self.at..];
        let count = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut length = 0;
        let hexadecimal = self.syntax != Syntax::Postgres;
        if hexadecimal && bytes.len() > 2 && bytes[0] == b'0' && matches!(bytes[1], b'x' | b'X') {
            length = 2 + bytes[2..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        } else {
            length += count(0);
            if bytes.get(length) == Some(&b'.') {
                length += 1;
                length += count(length);
            }
            if matches!(bytes.get(length), Some(b'e' | b'E')) {
                let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
                let exponent = bytes.get(length + 1 + sign..).map_or(0, |_| count(length + 1 + sign));
                if exponent > 0 {
                    length += 1 + sign + exponent;
                }
            }
        }
        // `1a` and `0x` are errors to SQLite, and two tokens to others. `1_000` is left out with them.
        if bytes.get(length).is_some_and(|byte| is_word(*byte)) || matches!(bytes[length - 1], b'x' | b'X') {
            return Err(unexpected(self.rest()));
        }
        Ok(self.take(length, Kind::Number))
    }

    fn operator(&mut self) -> Result<Kind, Malformed> {
        const OPERATORS: [&str; 21] = [
            "->>", "->", "<=", "<>", "<<", ">=", ">>", "==", "!=", "||", "+", "-", "*", "/", "%", "=", "<", ">", "|",
            "&", "~",
        ];
        const OF_POSTGRES: [&str; 58] = [
            "!~~*", "->>", "#>>", "@@@", "||/", "!~*", "~~*", "!~~", "<<=", ">>=", "-|-", "<->", "|>>", "<<|", "&<|",
            "|&>", "->", "#>", "#-", "@>", "<@", "?|", "?&", "@@", "@?", "||", "|/", "&&", "~*", "!~", "~~", "<<",
            ">>", "<=", ">=", "<>", "!=", "&<", "&>", "=>", "::", "?", "&", "|", "#", "~", "=", "<", ">", "+", "-",
            "*", "/", "%", "^", "@", ":", "^@",
        ];
        const OF_MYSQL: [&str; 24] = [
            "->>", "<=>", "->", "<=", "<>", "<<", ">=", ">>", "!=", "||", "&&", "+", "-", "*", "/", "%", "=", "<", ">",
            "|", "&", "~", "^", "!",
        ];
        let operators: &[&str] = match self.syntax {
            Syntax::Sqlite => &OPERATORS,
            Syntax::Postgres => &OF_POSTGRES,
            Syntax::Mysql => &OF_MYSQL,
        };
        let rest = &self.sql.as_bytes()[self.at..];
        let begins = |operator: &&&str| operator.as_bytes()[0] == rest[0] && rest.starts_with(operator.as_bytes());
        match operators.iter().find(begins) {
            Some(operator) => Ok(self.take(operator.len(), Kind::Operator)),
            None => Err(unexpected(self.rest())),
        }
    }

    fn word(&mut self) -> Result<Kind, Malformed> {
        // To SQLite every character beyond ASCII belongs to a word, a no-break space too; to people it does not.
        let rest = self.rest();
        let plain = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        let length = match rest.as_bytes().get(plain) {
            Some(0x80..) => {
                rest.find(|character: char| !(character.is_alphanumeric() || character == '_')).unwrap_or(rest.len())
            }
            _ => plain,
        };
        let next = rest[length..].chars().next();
        if length == 0 || next.is_some_and(|next| next == '$' || !next.is_ascii()) {
            return Err(unexpected(&rest[length..]));
        }
        // To SQLite this is a word and a string; to the others a string of another kind.
        let unicode = next == Some('&') && matches!(self.peek(length + 1), Some(b'\'' | b'"'));
        if self.syntax != Syntax::Sqlite && (matches!(next, Some('\'' | '"')) || unicode) {
            return Err(malformed("a string or name with a prefix is not allowed"));
        }
        Ok(self.take(length, Kind::Word))
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

pub(super) fn malformed(reason: &str) -> Malformed {
    Malformed::Token(reason.to_owned())
}

pub(super) fn unexpected(rest: &str) -> Malformed {
    let character = rest.chars().next().unwrap_or_default();
    if character.is_ascii_graphic() {
        Malformed::Token(format!("`{character}` is not expected there"))
    } else {
        Malformed::Token(format!("the character U+{:04X} is not expected there", u32::from(character)))
    }
}
