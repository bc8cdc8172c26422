//! Statements to try the database server with, from `tests/it/database/corpus`: one a line, for three engines.

use std::sync::LazyLock;

/// Returns all of `statements` with `TOLLGATE_LONG_TESTS=1`, and otherwise every seventh: where each costs its time.
pub fn some(statements: &[String]) -> Vec<&str> {
    let step = if std::env::var_os("TOLLGATE_LONG_TESTS").is_some() { 1 } else { 7 };
    statements.iter().step_by(step).map(String::as_str).collect()
}

/// The statements for one engine, each once.
pub struct Corpus {
    /// None of these may run.
    pub refused: Vec<String>,
    /// What analysts write.
    pub allowed: Vec<String>,
}

/// SQLite's.
pub static SQLITE: LazyLock<Corpus> = LazyLock::new(|| Corpus::read(include_str!("../it/database/corpus/sqlite.sql")));

/// PostgreSQL's.
pub static POSTGRES: LazyLock<Corpus> =
    LazyLock::new(|| Corpus::read(include_str!("../it/database/corpus/postgres.sql")));

/// MySQL's and MariaDB's.
pub static MYSQL: LazyLock<Corpus> = LazyLock::new(|| Corpus::read(include_str!("../it/database/corpus/mysql.sql")));

/// The tables of SQLite's.
pub const SQLITE_SHOP: &str = include_str!("../it/database/corpus/sqlite-shop.sql");

/// The tables of PostgreSQL's.
pub const POSTGRES_SHOP: &str = include_str!("../it/database/corpus/postgres-shop.sql");

/// The tables of MySQL's.
pub const MYSQL_SHOP: &str = include_str!("../it/database/corpus/mysql-shop.sql");

/// What a rule says no with; `query_failed` is the engine's own no, and neither a rule nor a proof of anything.
pub const REFUSALS: [&str; 6] =
    ["not_read_only", "multiple_statements", "not_parsed", "function_not_allowed", "table_not_allowed", "too_complex"];

impl Corpus {
    /// Reads lines: `-- == refused` and `-- == allowed` begin a part, a line in double quotes is a JSON string.
    fn read(text: &str) -> Self {
        let mut corpus = Self { refused: Vec::new(), allowed: Vec::new() };
        let mut part: Option<&mut Vec<String>> = None;
        for line in text.split('\n') {
            if let Some(header) = line.strip_prefix("-- == ") {
                part = Some(match header.split(':').next() {
                    Some("refused") => &mut corpus.refused,
                    Some("allowed") => &mut corpus.allowed,
                    _ => panic!("{line} begins no part"),
                });
                continue;
            }
            let Some(part) = part.as_mut().filter(|_| !line.is_empty()) else { continue };
            let statement = if line.starts_with('"') {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
            } else {
                line.to_owned()
            };
            if !part.contains(&statement) {
                part.push(statement);
            }
        }
        corpus
    }
}
