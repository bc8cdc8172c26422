//! The first lock: what a statement is, decided from its text alone.
//!
//! The text is cut into tokens by the engine's own rules ([`lexer`]), parsed, and its whole tree walked ([`tree`]). Only
//! what is known to be a read of one statement passes; a [`ReadStatement`] is the proof, and the connection takes
//! nothing else.

#[cfg(test)]
#[path = "../../../fuzz/agreement.rs"]
mod agreement;
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
    /// It is collected when it is asked for, of a statement that is small.
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
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use proptest::prelude::*;
    use proptest::test_runner::TestCaseError;
    use rusqlite::Connection;
    use tempfile::TempDir;
    use tollgate_tests::corpus::{MYSQL, POSTGRES, REFUSALS, SQLITE};

    use super::*;

    fn check(sql: &str) -> Result<ReadStatement, Refusal> {
        ReadStatement::check(sql, &Rules::of(Syntax::Sqlite))
    }

    fn code(sql: &str) -> &'static str {
        check(sql).map_or_else(|refusal| refusal.code, |_| "ok")
    }

    #[test]
    fn attacks_are_refused_by_their_text_alone() {
        let passes = |sql: &&String| code(sql) == "ok";
        let passed: Vec<_> = SQLITE.refused.iter().filter(passes).collect();
        // What stands behind a view only the engine knows.
        assert!(passed.iter().all(|sql| ["version", "loading"].iter().any(|view| sql.contains(view))), "{passed:#?}");
        assert!(SQLITE.refused.iter().all(|sql| passed.contains(&sql) || REFUSALS.contains(&code(sql))));
        let of_mysql = |sql: &str| ReadStatement::check(sql, &Rules::of(Syntax::Mysql)).is_ok();
        let passed: Vec<_> = MYSQL.refused.iter().filter(|sql| of_mysql(sql)).collect();
        let views = ["touching", "sleeping", "reading_files", "stepping", "accounts"];
        assert!(passed.iter().all(|sql| views.iter().any(|view| sql.contains(view))), "{passed:#?}");
    }

    #[test]
    fn honest_statements_pass() {
        for sql in &SQLITE.allowed {
            let refusal = check(sql).err();
            assert!(refusal.is_none(), "{sql}: {refusal:?}");
        }
        for sql in &MYSQL.allowed {
            let refusal = ReadStatement::check(sql, &Rules::of(Syntax::Mysql)).err();
            assert!(refusal.is_none(), "{sql}: {refusal:?}");
        }
    }

    #[test]
    fn words_of_the_engine_are_no_tables() {
        let postgres = |sql: &str| ReadStatement::check(sql, &Rules::of(Syntax::Postgres)).is_ok();
        assert!(postgres("SELECT * FROM \"only\" x") && postgres("SELECT * FROM only_once only_this"));
        for sql in ["SELECT * FROM ONLY x", "SELECT * FROM Only x", "SELECT * FROM t, only x", "SELECT * FROM t only"] {
            assert!(!postgres(sql), "{sql}");
        }
    }

    #[test]
    fn what_a_statement_names_is_known() {
        let sql = "WITH c AS (SELECT upper(title) AS t FROM Book) SELECT count(*), lower(t) FROM c, main.orders";
        let statement = check(sql).unwrap();
        assert_eq!(statement.tables().iter().collect::<Vec<_>>(), ["Book", "orders"]);
        assert_eq!(statement.functions().iter().collect::<Vec<_>>(), ["count", "lower", "upper"]);
        assert_eq!(statement.kind(), "select");
        assert_eq!(check("VALUES (1)").unwrap().kind(), "values");
    }

    #[test]
    fn parser_that_sees_other_strings_is_not_believed() {
        let tokens = |quoted: &str| Tokens {
            text: "SELECT N'a', 'b'".to_owned(),
            quoted: [quoted, "b"].map(|text| ('\'', text.to_owned())).to_vec(),
            first_word: "SELECT".to_owned(),
            operators: BTreeSet::new(),
            parameters: Vec::new(),
            pieces: Vec::new(),
            parentheses: 0,
            depth: 0,
            tried: 0,
        };
        // SQLite has a name and a string where the parser has one string of its own kind.
        assert_eq!(parse(&tokens("a"), Syntax::Sqlite).unwrap_err().code, "not_parsed");
        let agreed = lexer::tokens("SELECT N'a', 'b'", Syntax::Sqlite).unwrap();
        assert_eq!(agreed.text, "SELECT N 'a', 'b'");
        assert!(parse(&agreed, Syntax::Sqlite).is_ok());
    }

    /// Reads `sql` as the parser's own tokenizer and dialects do and as ours, and compares the trees.
    fn compare_trees(sql: &str, syntax: Syntax) -> Result<(), String> {
        let (Ok(tokens), Ok(mut long)) = (lexer::tokens(sql, syntax), lexer::tokens(sql, syntax)) else {
            return Ok(());
        };
        long.pieces.clear();
        let own: &dyn Dialect = match syntax {
            Syntax::Sqlite => &Sqlite(SQLiteDialect {}),
            Syntax::Postgres => &PostgreSqlDialect {},
            Syntax::Mysql => &MySqlDialect {},
        };
        match (parse_as(&long, syntax, own), parse(&tokens, syntax)) {
            (Ok(own), Ok(ours)) if format!("{own:?}") == format!("{ours:?}") => Ok(()),
            (Err(_), Err(_)) => Ok(()),
            (own, ours) => Err(format!("{sql}: {own:?} and {ours:?}")),
        }
    }

    #[test]
    fn plain_names_make_the_same_trees() {
        for (corpus, syntax) in [(&SQLITE, Syntax::Sqlite), (&POSTGRES, Syntax::Postgres), (&MYSQL, Syntax::Mysql)] {
            for sql in corpus.allowed.iter().chain(&corpus.refused) {
                compare_trees(sql, syntax).unwrap();
            }
        }
        for sql in [
            "SELECT name, id.status, value FROM key WHERE type = 1 AND \"date\" > '2024-01-01' AND size IN (1, 2)",
            "SELECT date '2024-01-01', interval '1' day, a.b.c, x::text, a[1], f(a)[1], name(1), CAST(a AS int[])",
            "SELECT a ARRAY, b.c ARRAY[1] 'x', level + 1 owner, id*2, language||'x'",
            "SELECT name language FROM t ORDER BY size DESC, status LIMIT 1",
        ] {
            for syntax in [Syntax::Sqlite, Syntax::Postgres, Syntax::Mysql] {
                compare_trees(sql, syntax).unwrap();
            }
        }
    }

    #[test]
    fn small_statements_are_few_steps() {
        let small = |sql: &str| Cut::of(sql.to_owned(), Syntax::Postgres).unwrap().is_small();
        assert!(small("SELECT upper(name) FROM t WHERE (a = 1 OR b IN (SELECT max(c) FROM u)) ORDER BY 1"));
        assert!(!small(&format!("SELECT {}1{}", "(".repeat(5), ")".repeat(5))));
        assert!(!small(&format!("SELECT 1{}", "+1".repeat(65))));
        // As long as a page, and as analysts write them.
        let long = format!("SELECT a FROM t WHERE b IN (1, 2){} ORDER BY a", " AND c <> 'x'".repeat(25));
        assert!(small(&long));
        assert!(!small(&format!("SELECT '{}'", "x".repeat(SMALL_BYTES_MAX))));
    }

    #[test]
    fn messages_stay_short() {
        let long = "x".repeat(90_000);
        for sql in [
            long.clone(),
            format!("SELECT {long}()"),
            format!("SELECT * FROM pragma_{long}"),
            format!("SELECT '{long}' '{long}'"),
        ] {
            let refusal = check(&sql).err();
            assert!(refusal.is_none_or(|refusal| refusal.message.len() < 500), "{}", &sql[..40]);
        }
    }

    /// What stands where a name or a literal does, and behind it.
    const WORDS: &[&str] = &[
        " name",
        " a",
        " \"b\"",
        " id",
        " date",
        " text",
        " interval",
        " array",
        " xml",
        " null",
        " not",
        " case",
        " end",
        " as",
        " from t",
        " where",
        " and",
        " in",
        " is",
        " like",
        " collate",
        " 'x'",
        " 1",
        " 1.5",
        ".",
        ",",
        "(",
        ")",
        "[1]",
        "::",
        " = ",
        " + ",
        " || ",
        "*",
        " -",
        " ->> ",
        "$1",
        " count(",
        " f(",
    ];

    /// A file that a connection could write, with everything in it that a statement might change.
    struct Writable {
        dir: TempDir,
        connection: Connection,
    }

    impl Writable {
        fn new() -> Self {
            let dir = TempDir::new().unwrap();
            let connection = Connection::open(dir.path().join("shop.db")).unwrap();
            connection
                .execute_batch(
                    "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y');
                     CREATE VIEW v AS SELECT a FROM t; CREATE TABLE u (c); INSERT INTO u VALUES (x'00');",
                )
                .unwrap();
            connection.progress_handler(100_000, Some(|| true)).unwrap();
            Self { dir, connection }
        }

        /// Every file in the folder with its content, and the settings that a pragma could change.
        fn state(&self) -> (Vec<(String, Vec<u8>)>, Vec<i64>) {
            let content = |path: &Path| fs::read(path).unwrap();
            let mut files: Vec<_> = fs::read_dir(self.dir.path())
                .unwrap()
                .map(|entry| entry.unwrap())
                .map(|entry| (entry.file_name().into_string().unwrap(), content(&entry.path())))
                .collect();
            files.sort();
            let settings = ["query_only", "foreign_keys", "user_version", "writable_schema", "recursive_triggers"]
                .map(|name| self.connection.pragma_query_value(None, name, |row| row.get(0)).unwrap());
            (files, settings.to_vec())
        }

        /// Runs every row of `sql`, whatever comes of it.
        fn run(&self, sql: &str) {
            if let Ok(mut statement) = self.connection.prepare(sql) {
                let mut rows = statement.raw_query();
                while let Ok(Some(_)) = rows.next() {}
            }
        }
    }

    /// The parser alone: what it lets through changes nothing on a connection that could.
    fn changes_nothing(writable: &Writable, sql: &str) -> Result<(), TestCaseError> {
        let Ok(statement) = check(sql) else { return Ok(()) };
        let before = writable.state();
        writable.run(statement.text());
        prop_assert_eq!(writable.state(), before, "{}", sql);
        // It still can be written: the check above could fail.
        prop_assert!(writable.connection.is_autocommit());
        prop_assert!(!writable.connection.is_readonly("main").unwrap());
        Ok(())
    }

    #[test]
    fn what_passes_changes_nothing_on_a_writable_file() {
        let writable = Writable::new();
        let before = writable.state();
        writable.run("DELETE FROM u");
        assert_ne!(writable.state(), before, "a change would be seen");
        for sql in SQLITE.allowed.iter().chain(&SQLITE.refused) {
            changes_nothing(&writable, sql).unwrap();
        }
    }

    #[test]
    fn judging_is_quick_and_needs_little_stack() {
        let nested =
            |open: &str, middle: &str, close: &str| format!("SELECT {}{middle}{}", open.repeat(19), close.repeat(19));
        let statements = [
            nested("(", "1", ")"),
            nested("abs(", "1", ")"),
            nested("1 IN (SELECT ", "1", ")"),
            nested("* FROM (SELECT ", "1", ")"),
            nested("position(", "1", ")"),
            nested("* FROM in (SELECT -", "1", ")"),
            nested("CASE WHEN 1 THEN ", "1", " END"),
            format!("SELECT 1{}", "+1".repeat(490)),
            format!("SELECT 1{}", " OR 1".repeat(490)),
            format!("SELECT 1{}", " UNION SELECT 1".repeat(240)),
            format!("SELECT {}", "a ".repeat(45_000)),
            format!("SELECT {}1", "- ".repeat(45_000)),
            format!("SELECT {}1", "NOT ".repeat(20_000)),
            format!("SELECT a{}", ".a".repeat(45_000)),
            "(".repeat(90_000),
            "/**/".repeat(20_000),
            // What is read twice, in itself, and what is copied for every operator behind it.
            format!("SELECT {}{}1{}", "position(".repeat(19), "1,".repeat(2_000), ")".repeat(19)),
            format!("SELECT {}{}1{}", "position(1 IN ".repeat(19), "1,".repeat(2_000), ")".repeat(19)),
            format!("SELECT (a IN ({}1)){}", "1,".repeat(40_000), " ISNULL".repeat(480)),
            format!("SELECT (a IN ({}1)){}", "1,".repeat(40_000), " NOT GLOB 1".repeat(240)),
            format!("SELECT (a IN ({}1)){}", "1,".repeat(40_000), " DIV 1".repeat(480)),
        ];
        for sql in statements {
            judged_in_time(&sql, crate::connection::STACK_BYTES);
        }
    }

    /// Judges `sql` in every syntax on a stack of so many bytes; beyond it, this process would end.
    fn judged_in_time(sql: &str, stack: usize) {
        for syntax in [Syntax::Sqlite, Syntax::Postgres, Syntax::Mysql] {
            let (done, answer) = std::sync::mpsc::channel();
            let (shown, sql) = (sql[..sql.len().min(60)].to_owned(), sql.to_owned());
            std::thread::Builder::new()
                .stack_size(stack)
                .spawn(move || done.send(ReadStatement::check(&sql, &Rules::of(syntax)).is_ok()))
                .unwrap();
            assert!(answer.recv_timeout(Duration::from_secs(20)).is_ok(), "{syntax:?}: {shown}");
        }
    }

    /// Everything known that makes a tree deeper by being written once more: what stands before, what is repeated, what stands behind.
    const CHAINS: [(&str, &str, &str); 43] = [
        ("SELECT CAST(a AS int", "[]", ")"),
        ("SELECT a::int", "[]", ""),
        ("SELECT a", "[1]", ""),
        ("SELECT 1", " OVERLAPS 1", ""),
        ("SELECT a", " AT TIME ZONE 'x'", ""),
        ("SELECT a", " ILIKE a", ""),
        ("SELECT a", " DIV a", ""),
        ("SELECT a", " XOR a", ""),
        ("SELECT a", " SIMILAR TO a", ""),
        ("SELECT a", " RLIKE a", ""),
        ("SELECT a", " GLOB a", ""),
        ("SELECT a", " MEMBER OF(a)", ""),
        ("SELECT a", " OPERATOR(pg_catalog.+) a", ""),
        ("SELECT a", " IN (1)", ""),
        ("SELECT a", " BETWEEN 1 AND 2", ""),
        ("SELECT a", " COLLATE c", ""),
        ("SELECT a", " IS NULL", ""),
        ("SELECT a", " ISNULL", ""),
        ("SELECT a", " NOTNULL", ""),
        ("SELECT a", "::int", ""),
        ("SELECT a", " -> 'b'", ""),
        ("SELECT 1", " !", ""),
        ("SELECT ", "! ", "1"),
        ("SELECT ", "~ ", "1"),
        ("SELECT ", "interval ", "'1'"),
        ("SELECT ", "date ", "'x'"),
        ("SELECT ", "BINARY ", "1"),
        ("SELECT ", "PRIOR ", "1"),
        ("SELECT ", "EXISTS ", "1"),
        ("SELECT ", "CASE WHEN ", "1"),
        ("SELECT a = ", "ANY ", "1"),
        ("SELECT sum(a)", " OVER ()", ""),
        ("SELECT sum(a)", " FILTER (WHERE a)", ""),
        ("SELECT 1", " MINUS SELECT 1", ""),
        ("SELECT 1", " UNION SELECT 1,1", ""),
        ("SELECT * ", "minus select*,* ", "minus select*"),
        ("SELECT position(1 IN 1)", " + position(1 IN 1)", ""),
        ("SELECT 1 FROM t", " PIVOT(sum(a) FOR b IN (1))", ""),
        ("SELECT 1 FROM t", " CROSS JOIN t", ""),
        ("SELECT 1 FROM ", "t JOIN ", "t"),
        ("SELECT 1 FROM ", "LATERAL ", "t"),
        ("SELECT CAST(a AS ", "SETOF ", "int)"),
        ("", "EXPLAIN ", "SELECT 1"),
    ];

    #[test]
    fn what_would_be_copied_too_often_is_refused() {
        let cut = |word: &str, times: usize, syntax| {
            let sql = format!("SELECT (a IN ({}1)){}", "1,".repeat(40_000), word.repeat(times));
            Cut::of(sql, syntax).is_ok()
        };
        for (word, syntax) in [(" ISNULL", Syntax::Sqlite), (" IS 1", Syntax::Sqlite), (" DIV 1", Syntax::Mysql)] {
            assert!(cut(word, 20, syntax) && !cut(word, 480, syntax), "{word}");
        }
        assert!(cut(" ISNULL", 480, Syntax::Postgres));
    }

    #[test]
    fn what_people_repeat_is_not_deep() {
        let repeated = |before: &str, part: &str, between: &str, times: usize, behind: &str| {
            format!("{before}{}{behind}", vec![part; times].join(between))
        };
        let month = "SELECT count(*) FROM t WHERE at >= date '2024-01-01' + interval '1 month' AND at < date '2024-01-01' + interval '2 month'";
        let range = "t.at BETWEEN now() - INTERVAL '1 day' AND now() - INTERVAL '2 day'";
        let bucket = "WHEN now() - t.at < interval '1 days' THEN 1";
        for (syntax, sql) in [
            (Syntax::Postgres, repeated("", month, " UNION ALL ", 48, "")),
            (Syntax::Postgres, repeated("SELECT * FROM t WHERE ", range, " OR ", 90, "")),
            (Syntax::Postgres, repeated("SELECT CASE ", bucket, " ", 200, " END FROM t")),
            (Syntax::Postgres, repeated("SELECT * FROM t WHERE ", "x ILIKE 'a%'", " OR ", 240, "")),
            (Syntax::Postgres, repeated("SELECT ", "m[1][2]", ", ", 500, " FROM t")),
            (Syntax::Mysql, repeated("SELECT * FROM t WHERE ", "BINARY a = 'x'", " OR ", 40, "")),
            (Syntax::Sqlite, repeated("SELECT * FROM t WHERE ", "a = 'x' COLLATE BINARY", " OR ", 160, "")),
            (Syntax::Sqlite, repeated("SELECT * FROM t WHERE ", "a IS NOT 1", " OR ", 150, "")),
        ] {
            let judging = std::thread::Builder::new().stack_size(crate::connection::STACK_BYTES);
            let judged = judging.spawn(move || ReadStatement::check(&sql, &Rules::of(syntax)).map(drop)).unwrap();
            let refused = judged.join().unwrap().err();
            assert!(refused.is_none(), "{syntax:?}: {refused:?}");
        }
    }

    #[test]
    fn no_chain_is_deeper_than_the_stack() {
        for (before, repeated, behind) in CHAINS {
            let chain = |times: usize| format!("{before}{}{behind}", repeated.repeat(times));
            let most = (STATEMENT_BYTES_MAX - before.len() - behind.len()) / repeated.len();
            judged_in_time(&chain(most), crate::connection::STACK_BYTES);
            // What is judged where it is has the stack of any thread; without optimisation it takes several times as much.
            let stack = if cfg!(debug_assertions) { 8 } else { 1 } * 1024 * 1024;
            let is_small = |times: &usize| {
                let cut = |syntax| Cut::of(chain(*times), syntax).is_ok_and(|cut| cut.is_small());
                [Syntax::Sqlite, Syntax::Postgres, Syntax::Mysql].into_iter().any(cut)
            };
            let times: Vec<usize> = (1..=SMALL_BYTES_MAX / repeated.len()).collect();
            judged_in_time(&chain(times.partition_point(is_small)), stack);
        }
    }

    /// How many cases are tried: more with `TOLLGATE_LONG_TESTS=1`.
    fn cases(few: u32) -> u32 {
        if std::env::var_os("TOLLGATE_LONG_TESTS").is_some() { few * 50 } else { few }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases(1_000)))]

        #[test]
        fn no_arrangement_of_words_makes_another_tree(picks in prop::collection::vec(0..WORDS.len(), 1..12)) {
            let sql: String = picks.iter().map(|pick| WORDS[*pick]).collect();
            for syntax in [Syntax::Sqlite, Syntax::Postgres, Syntax::Mysql] {
                compare_trees(&format!("SELECT {sql}"), syntax).map_err(TestCaseError::fail)?;
            }
        }

        #[test]
        fn no_arrangement_of_pieces_changes_anything(picks in prop::collection::vec(0..pieces::PIECES.len(), 1..14)) {
            thread_local! {
                static WRITABLE: Writable = Writable::new();
            }
            let sql: String = picks.iter().map(|pick| pieces::PIECES[*pick]).collect();
            WRITABLE.with(|writable| {
                changes_nothing(writable, &sql)?;
                changes_nothing(writable, &format!("SELECT {sql}"))
            })?;
        }

        #[test]
        fn sqlite_agrees_that_what_passes_is_a_read(
            picks in prop::collection::vec(0..pieces::PIECES.len(), 1..14),
            select in select(),
        ) {
            thread_local! {
                static COPY: agreement::Copy = agreement::Copy::new();
            }
            COPY.with(|copy| {
                copy.check(&pieces::text(picks.into_iter()));
                copy.check(&select);
            });
        }
    }

    /// Expressions as people write them, and what must not be among them.
    fn expression() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec![
            "1",
            "a",
            "t.a",
            "b",
            "'x'",
            "NULL",
            "x'00'",
            "?",
            "$1",
            "count(*)",
            "random()",
            "\"a\"",
            "'it''s'",
            "1.5e3",
            "CURRENT_DATE",
            "load_extension('x')",
            "changes()",
        ])
        .prop_map(str::to_owned);
        leaf.prop_recursive(4, 24, 3, |inner| {
            let two = (inner.clone(), inner.clone());
            let operator = prop::sample::select(vec![
                "+", "-", "||", "=", "<>", "AND", "OR", "IS", "IS NOT", "LIKE", "NOT LIKE", "GLOB", "NOT GLOB", "<<",
                "&", "%", "->>", "COLLATE", ",", "::", "@", ";",
            ]);
            prop_oneof![
                (two.clone(), operator).prop_map(|((left, right), operator)| format!("{left} {operator} {right}")),
                (inner.clone(), prop::sample::select(vec!["NOT", "-", "~", "EXISTS"]))
                    .prop_map(|(value, word)| format!("{word} ({value})")),
                (
                    inner.clone(),
                    prop::sample::select(vec!["abs", "coalesce", "sum", "lower", "json", "eval", "total_changes"])
                )
                    .prop_map(|(value, name)| format!("{name}({value})")),
                two.clone().prop_map(|(when, then)| format!("CASE WHEN {when} THEN {then} END")),
                two.prop_map(|(value, list)| format!("{value} IN ({list})")),
                inner.clone().prop_map(|value| format!("(SELECT {value} FROM t)")),
                inner.clone().prop_map(|value| format!("sum({value}) OVER (PARTITION BY {value})")),
                inner.prop_map(|value| format!("CAST({value} AS TEXT)")),
            ]
        })
    }

    /// Statements that are nearly right, and some that are no reads.
    fn select() -> impl Strategy<Value = String> {
        let from = prop::sample::select(vec![
            "t",
            "v",
            "u",
            "t JOIN u ON a = c",
            "t, u",
            "main.t",
            "temp.t",
            "pragma_table_info('t')",
            "pragma_database_list",
            "sqlite_master",
            "(SELECT a, b FROM t)",
            "(DELETE FROM t RETURNING a)",
            "json_each('[1]')",
            "ONLY t",
        ]);
        let end = prop::sample::select(vec![
            "",
            " GROUP BY a",
            " ORDER BY 1",
            " LIMIT 1",
            " UNION SELECT 1",
            " FOR UPDATE",
            " INTO w",
            "; DROP TABLE t",
            " -- x",
            " RETURNING a",
            " EXCEPT DELETE FROM t",
        ]);
        let start = prop::sample::select(vec![
            "",
            "",
            "",
            "WITH c AS (SELECT 1) ",
            "WITH c AS MATERIALIZED (SELECT 1) ",
            "WITH c AS (DELETE FROM t RETURNING a) ",
            "EXPLAIN ",
            "INSERT INTO t (b) ",
            "CREATE TABLE w AS ",
            "/* x */ ",
        ]);
        (start, expression(), from, expression(), end).prop_map(|(start, value, from, condition, end)| {
            format!("{start}SELECT {value} FROM {from} WHERE {condition}{end}")
        })
    }
}
