//! The first lock: what a statement is, decided from its text alone.
//!
//! The text is cut into tokens by the engine's own rules ([`lexer`]), parsed, and its whole tree walked ([`tree`]). Only
//! what is known to be a read of one statement passes; a [`ReadStatement`] is the proof, and the connection takes
//! nothing else.

#[cfg(test)]
#[path = "../../../fuzz/agreement.rs"]
mod agreement;
mod depth;
mod dialect;
mod expansion;
pub mod functions;
mod handed;
mod lexer;
pub mod mentions;
#[cfg(test)]
#[path = "../../../fuzz/pieces.rs"]
mod pieces;
mod signals;
mod tree;
mod words;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use sqlparser::ast::{Query, Statement};
use sqlparser::dialect::{Dialect, MySqlDialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use tollgate_shared::refusal::Refusal;

use dialect::{Plain, Sqlite};
use lexer::{Malformed, STATEMENT_BYTES_MAX, Tokens};
use mentions::Mentions;
pub use signals::Warning;

/// Whose SQL a statement is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// MySQL and MariaDB.
    Mysql,
}

/// What a statement is judged by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The engine's syntax.
    pub syntax: Syntax,
    /// Functions of the database itself that the operator allows: `name` or `schema.name`.
    pub functions: BTreeSet<String>,
}

impl Rules {
    /// The rules of an engine alone.
    #[must_use]
    pub fn of(syntax: Syntax) -> Self {
        Self { syntax, functions: BTreeSet::new() }
    }

    /// Whether the operator allows this function.
    fn allows(&self, schema: Option<&str>, name: &str) -> bool {
        match schema {
            Some(schema) => self.functions.contains(&format!("{schema}.{name}")),
            None => self.functions.iter().any(|known| known.rsplit('.').next() == Some(name)),
        }
    }
}

/// Proof that a text is one statement that only reads; [`ReadStatement::check`] alone makes one.
#[derive(Clone, Debug)]
pub struct ReadStatement {
    text: String,
    kind: &'static str,
    tables: BTreeSet<String>,
    functions: BTreeSet<String>,
    relations: BTreeSet<(Option<String>, String)>,
    attributes: BTreeSet<String>,
    fields: BTreeSet<String>,
    types: BTreeSet<String>,
    operators: BTreeSet<String>,
    parameters: Vec<(usize, String)>,
    named: Arc<Named>,
    warnings: Arc<[Warning]>,
    sorted: bool,
}

/// What a statement names and where, which few ask.
#[derive(Debug)]
enum Named {
    /// It was collected where there is stack for it.
    Known(Mentions),
    /// It is collected when it is asked for or the statement is kept, of one that is small.
    Later { query: Box<Query>, text: String, syntax: Syntax, found: OnceLock<Mentions> },
}

/// Words that begin statements which do something: their refusal says so even where the parser knows no more.
const VERBS: &[&str] = &[
    "ALTER",
    "ANALYZE",
    "ATTACH",
    "BEGIN",
    "CALL",
    "COMMENT",
    "COMMIT",
    "COPY",
    "CREATE",
    "DELETE",
    "DETACH",
    "DO",
    "DROP",
    "END",
    "EXECUTE",
    "EXPLAIN",
    "GRANT",
    "INSERT",
    "KILL",
    "LOAD",
    "LOCK",
    "MERGE",
    "PRAGMA",
    "PREPARE",
    "REINDEX",
    "RELEASE",
    "RENAME",
    "REPLACE",
    "REVOKE",
    "ROLLBACK",
    "SAVEPOINT",
    "SET",
    "START",
    "TRUNCATE",
    "UPDATE",
    "USE",
    "VACUUM",
];

/// How deep the parser descends: enough for the parentheses that [`lexer`] lets through.
const RECURSION_MAX: usize = 100;

/// How much of what the caller wrote a message repeats.
const SHOWN_CHARACTERS: usize = 200;

/// How long a statement is at most that is judged where it is, and how deep: within some hundred microseconds, and on any
/// stack. What the parser tries in several ways takes twice as long with every parenthesis, so there are few.
const SMALL_BYTES_MAX: usize = 8 * 1024;
const SMALL_PARENTHESES_MAX: usize = 4;
const SMALL_DEPTH_MAX: usize = 64;
const SMALL_TRIED_MAX: usize = 8;

/// A text that was cut into the tokens of one statement and is still to be judged.
#[derive(Debug)]
pub struct Cut {
    sql: String,
    tokens: Tokens,
}

impl Cut {
    /// Cuts `sql` into tokens, in a time that grows with its length alone.
    ///
    /// # Errors
    ///
    /// `multiple_statements`, `not_parsed` or `function_not_allowed`.
    pub fn of(sql: String, syntax: Syntax) -> Result<Self, Refusal> {
        if sql.len() > STATEMENT_BYTES_MAX {
            return Err(Refusal::invalid_arguments(
                format!("`sql` is longer than {STATEMENT_BYTES_MAX} bytes"),
                "pass large values as `params`",
            ));
        }
        let tokens = lexer::tokens(&sql, syntax).map_err(malformed)?;
        Ok(Self { sql, tokens })
    }

    /// Returns the text.
    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    /// Returns whether it can be judged without a thread of its own.
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.sql.len() <= SMALL_BYTES_MAX
            && self.tokens.parentheses <= SMALL_PARENTHESES_MAX
            && self.tokens.depth <= SMALL_DEPTH_MAX
            && self.tokens.tried <= SMALL_TRIED_MAX
    }

    /// Judges it by `rules`, which are of the syntax that it was cut by.
    ///
    /// # Errors
    ///
    /// As [`ReadStatement::check`].
    pub fn judge(self, rules: &Rules) -> Result<ReadStatement, Refusal> {
        let (is_small, syntax) = (self.is_small(), rules.syntax);
        let Self { sql, tokens } = self;
        let Statement::Query(query) = parse(&tokens, syntax)? else {
            return Err(not_read_only(&tokens.first_word));
        };
        let (walk, signs) = tree::walk(&query, rules)?;
        let warnings = signs.finish(&query, &sql, &tokens, syntax);
        let sorted = query.order_by.is_some();
        let named = if is_small {
            Named::Later { query, text: tokens.text.clone(), syntax, found: OnceLock::new() }
        } else {
            Named::Known(mentions::collect(&query, &tokens.text, syntax))
        };
        Ok(ReadStatement {
            text: tokens.text,
            kind: walk.kind,
            tables: walk.tables,
            functions: walk.functions,
            relations: walk.relations,
            attributes: walk.attributes,
            fields: walk.fields,
            types: walk.types,
            operators: tokens.operators,
            parameters: tokens.parameters,
            named: Arc::new(named),
            warnings: warnings.into(),
            sorted,
        })
    }
}

impl ReadStatement {
    /// Judges `sql`.
    ///
    /// # Errors
    ///
    /// `multiple_statements`, `not_parsed`, `not_read_only`, `function_not_allowed`, `table_not_allowed` or
    /// `too_complex`.
    pub fn check(sql: &str, rules: &Rules) -> Result<Self, Refusal> {
        Cut::of(sql.to_owned(), rules.syntax)?.judge(rules)
    }

    /// Collects what it names, for the tree to be dropped: that takes a hundred times the memory of the text.
    pub(crate) fn without_tree(mut self) -> Self {
        let named = match Arc::try_unwrap(self.named) {
            Ok(Named::Later { query, text, syntax, found }) => {
                let found = found.into_inner().unwrap_or_else(|| mentions::collect(&query, &text, syntax));
                Arc::new(Named::Known(found))
            }
            Ok(known) => Arc::new(known),
            Err(shared) => shared,
        };
        self.named = named;
        self
    }

    /// Returns a text as it is, to try the other locks without this one.
    #[cfg(test)]
    pub(crate) fn unchecked(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            kind: "select",
            tables: BTreeSet::new(),
            functions: BTreeSet::new(),
            relations: BTreeSet::new(),
            attributes: BTreeSet::new(),
            fields: BTreeSet::new(),
            types: BTreeSet::new(),
            operators: BTreeSet::new(),
            parameters: Vec::new(),
            named: Arc::new(Named::Known(Mentions::default())),
            warnings: Arc::new([]),
            sorted: false,
        }
    }

    /// Returns the statement as the engine gets it: what was written, without comments.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns what it is: `select` or `values`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Returns the tables that it names, common table expressions left out.
    #[must_use]
    pub fn tables(&self) -> &BTreeSet<String> {
        &self.tables
    }

    /// Returns the functions that it calls, in lower case.
    #[must_use]
    pub fn functions(&self) -> &BTreeSet<String> {
        &self.functions
    }

    /// Returns the tables as the engine looks for them: schema and name; common table expressions are among them.
    #[must_use]
    pub fn relations(&self) -> &BTreeSet<(Option<String>, String)> {
        &self.relations
    }

    /// Returns what stands after a full stop: columns, and in PostgreSQL functions too.
    #[must_use]
    pub fn attributes(&self) -> &BTreeSet<String> {
        &self.attributes
    }

    /// Returns those of them that may be of a value of any type, not of a row alone: to PostgreSQL `(1.5).pg_sleep` is
    /// `pg_sleep(1.5)`, and so is `s.pg_sleep` where `s` is a function in FROM.
    #[must_use]
    pub fn fields(&self) -> &BTreeSet<String> {
        &self.fields
    }

    /// Returns the types that are not built in.
    #[must_use]
    pub fn types(&self) -> &BTreeSet<String> {
        &self.types
    }

    /// Returns the operators.
    #[must_use]
    pub fn operators(&self) -> &BTreeSet<String> {
        &self.operators
    }

    /// Returns how many values it takes.
    #[must_use]
    pub fn parameters(&self) -> usize {
        let numbers = self.parameters.iter().filter_map(|(_, parameter)| parameter.get(1..)?.parse().ok());
        numbers.max().unwrap_or(self.parameters.len())
    }

    /// Returns where it names what.
    #[must_use]
    pub fn mentions(&self) -> &Mentions {
        match self.named.as_ref() {
            Named::Known(mentions) => mentions,
            Named::Later { query, text, syntax, found } => {
                found.get_or_init(|| mentions::collect(query, text, *syntax))
            }
        }
    }

    /// Returns what in it looks as if it was put together from values.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Returns whether its rows come in an order.
    #[must_use]
    pub fn is_sorted(&self) -> bool {
        self.sorted
    }

    /// Returns the statement with parts of its text replaced, in the order of their places, or nothing when a place is not one.
    pub(crate) fn edited(&self, edits: &[(Range<usize>, String)]) -> Option<Self> {
        let mut text = String::with_capacity(self.text.len() * 2);
        let mut parameters = Vec::with_capacity(self.parameters.len());
        let mut old = self.parameters.iter().peekable();
        let mut at = 0;
        for (place, new) in edits {
            while let Some((start, parameter)) = old.next_if(|(start, _)| *start < place.start) {
                parameters.push((text.len() + start.checked_sub(at)?, parameter.clone()));
            }
            text.push_str(self.text.get(at..place.start)?);
            text.push_str(new);
            at = place.end;
        }
        for (start, parameter) in old {
            parameters.push((text.len() + start.checked_sub(at)?, parameter.clone()));
        }
        text.push_str(self.text.get(at..)?);
        Some(Self { text, parameters, ..self.clone() })
    }

    /// Returns the text with each parameter replaced by what `with` makes of its number, from 1.
    #[must_use]
    pub fn with_parameters(&self, with: impl Fn(usize) -> String) -> String {
        let mut text = String::with_capacity(self.text.len());
        let mut at = 0;
        for (index, (start, parameter)) in self.parameters.iter().enumerate() {
            let number = parameter.get(1..).and_then(|digits| digits.parse().ok()).unwrap_or(index + 1);
            text.push_str(&self.text[at..*start]);
            text.push_str(&with(number));
            at = start + parameter.len();
        }
        text.push_str(&self.text[at..]);
        text
    }
}

fn parse(tokens: &Tokens, syntax: Syntax) -> Result<Statement, Refusal> {
    let dialect: &dyn Dialect = match syntax {
        Syntax::Sqlite => &Plain(Sqlite(SQLiteDialect {})),
        Syntax::Postgres => &Plain(PostgreSqlDialect {}),
        Syntax::Mysql => &Plain(MySqlDialect {}),
    };
    parse_as(tokens, syntax, dialect)
}

fn parse_as(tokens: &Tokens, syntax: Syntax, dialect: &dyn Dialect) -> Result<Statement, Refusal> {
    let unreadable = |reason: &str| match VERBS.contains(&tokens.first_word.as_str()) {
        true => not_read_only(&tokens.first_word),
        false => not_parsed(reason),
    };
    let mut parsed = match handed::tokens(tokens) {
        Some(handed) => handed,
        None => Tokenizer::new(dialect, &tokens.text)
            .tokenize_with_location()
            .map_err(|error| unreadable(&error.message))
            .and_then(|parsed| {
                // The parser must not see other strings or names than the engine would.
                let agrees = quoted(&parsed) == tokens.quoted;
                let reason = "strings and quoted names are not told apart from the rest";
                if agrees { Ok(parsed) } else { Err(unreadable(reason)) }
            })?,
    };
    if syntax == Syntax::Sqlite {
        without_materialized(&mut parsed);
    }
    let mut parser = Parser::new(dialect).with_recursion_limit(RECURSION_MAX).with_tokens_with_locations(parsed);
    let statement = parser.parse_statement().map_err(|error| unreadable(&reason(error)))?;
    let rest = &parser.peek_token_ref().token;
    if *rest != Token::EOF {
        return Err(unreadable(&format!("{rest} is not expected there")));
    }
    Ok(statement)
}

/// Takes `MATERIALIZED` and `NOT MATERIALIZED` out from between `AS` and a parenthesis: the parser knows them of
/// PostgreSQL alone, and they change nothing of what is read.
fn without_materialized(parsed: &mut Vec<TokenWithSpan>) {
    let words: Vec<usize> = (0..parsed.len()).filter(|at| !matches!(parsed[*at].token, Token::Whitespace(_))).collect();
    let keyword = |at: usize| match &parsed[at].token {
        Token::Word(word) => word.keyword,
        _ => Keyword::NoKeyword,
    };
    let mut dropped = Vec::new();
    for window in words.windows(3) {
        let [before, at, after] = *window else { continue };
        if keyword(at) == Keyword::MATERIALIZED && parsed[after].token == Token::LParen {
            match keyword(before) {
                Keyword::AS => dropped.push(at),
                Keyword::NOT => dropped.extend([before, at]),
                _ => {}
            }
        }
    }
    for at in dropped.into_iter().rev() {
        parsed.remove(at);
    }
}

/// Returns what the parser takes for quoted, as [`Tokens::quoted`] has it.
fn quoted(parsed: &[TokenWithSpan]) -> Vec<(char, String)> {
    let content = |token: &TokenWithSpan| match &token.token {
        Token::Word(word) => Some((word.quote_style?, word.value.clone())),
        Token::SingleQuotedString(text) => Some(('\'', text.clone())),
        Token::HexStringLiteral(digits) => Some(('x', digits.clone())),
        // Every other form of quoting, which SQLite does not have.
        Token::DoubleQuotedString(_)
        | Token::TripleSingleQuotedString(_)
        | Token::TripleDoubleQuotedString(_)
        | Token::DollarQuotedString(_)
        | Token::SingleQuotedByteStringLiteral(_)
        | Token::DoubleQuotedByteStringLiteral(_)
        | Token::TripleSingleQuotedByteStringLiteral(_)
        | Token::TripleDoubleQuotedByteStringLiteral(_)
        | Token::SingleQuotedRawStringLiteral(_)
        | Token::DoubleQuotedRawStringLiteral(_)
        | Token::TripleSingleQuotedRawStringLiteral(_)
        | Token::TripleDoubleQuotedRawStringLiteral(_)
        | Token::NationalStringLiteral(_)
        | Token::QuoteDelimitedStringLiteral(_)
        | Token::NationalQuoteDelimitedStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::UnicodeStringLiteral(_) => Some(('\0', String::new())),
        _ => None,
    };
    parsed.iter().filter_map(content).collect()
}

fn reason(error: ParserError) -> String {
    match error {
        // Its place is that in the text without comments, which nobody has seen.
        ParserError::ParserError(reason) | ParserError::TokenizerError(reason) => {
            reason.split(" at Line:").next().unwrap_or_default().to_owned()
        }
        ParserError::RecursionLimitExceeded => "it is nested too deeply".to_owned(),
    }
}

fn malformed(malformed: Malformed) -> Refusal {
    match malformed {
        Malformed::SecondStatement { .. } => Refusal::refused(
            "multiple_statements",
            "there is more than one statement",
            "send one statement per call, without a semicolon inside",
        ),
        Malformed::Empty => not_parsed("there is no statement"),
        Malformed::Token(reason) => not_parsed(&reason),
        Malformed::Function(name) => function_not_allowed(&name),
    }
}

fn function_not_allowed(name: &str) -> Refusal {
    let name: String = name.chars().take(SHOWN_CHARACTERS).collect();
    Refusal::refused(
        "function_not_allowed",
        format!("the function `{name}` is not on the list of those that only compute"),
        "do without it; the engine's own aggregate, text, date, JSON and window functions are allowed",
    )
}

fn not_parsed(reason: &str) -> Refusal {
    let reason: String = reason.chars().take(SHOWN_CHARACTERS).collect();
    Refusal::refused(
        "not_parsed",
        format!("the statement cannot be read: {reason}"),
        "write one plain SELECT in the dialect of the database, with values passed as `params`",
    )
}

fn not_read_only(first_word: &str) -> Refusal {
    let what = match first_word {
        "" => "this statement".to_owned(),
        word => word.chars().take(SHOWN_CHARACTERS).collect(),
    };
    let hint = match first_word {
        "EXPLAIN" | "ANALYZE" => "use the tool `explain`, which does not run the statement",
        "SHOW" | "DESCRIBE" | "DESC" | "PRAGMA" | "USE" => {
            "use the tools list_databases, list_tables and describe_table"
        }
        _ => "use SELECT, VALUES or WITH … SELECT; a change is for a person to make",
    };
    Refusal::refused("not_read_only", format!("{what} is not a SELECT; this connection only reads"), hint)
}

#[cfg(test)]
mod tests;
