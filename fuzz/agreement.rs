//! What must hold of the guard for any text at all; for the fuzz targets, and for a short run in the tests.
//!
//! It never panics. What it allows, it allows again as the engine gets it. And what it allows of SQLite's, SQLite's own
//! authorizer takes for a read too, on a copy that could be written.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use super::{ReadStatement, Rules, Syntax};

/// The tables of the copy.
pub const SCHEMA: &str = "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y');
    CREATE VIEW v AS SELECT a FROM t; CREATE TABLE u (c); CREATE TABLE orders (id INTEGER, copies INT, note TEXT);";

/// A database in memory, and what its authorizer was asked for beside reads.
pub struct Copy {
    connection: Connection,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Copy {
    /// Makes a copy that can be written.
    pub fn new() -> Self {
        let connection = Connection::open_in_memory().expect("memory");
        connection.execute_batch(SCHEMA).expect("the schema");
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::clone(&asked);
        connection
            .authorizer(Some(move |context: AuthContext<'_>| {
                if !is_read(&context.action) {
                    noted.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{:?}", context.action));
                }
                Authorization::Allow
            }))
            .expect("an authorizer");
        Self { connection, asked }
    }

    /// Checks `sql` in all dialects.
    ///
    /// # Panics
    ///
    /// When the guard allows what it must not.
    pub fn check(&self, sql: &str) {
        for syntax in [Syntax::Sqlite, Syntax::Postgres, Syntax::Mysql] {
            let Ok(statement) = ReadStatement::check(sql, &Rules::of(syntax)) else { continue };
            let again = ReadStatement::check(statement.text(), &Rules::of(syntax));
            let again = again.unwrap_or_else(|refusal| panic!("{syntax:?}: {sql:?} is allowed once: {refusal}"));
            assert_eq!(again.text(), statement.text(), "{syntax:?}: {sql:?}");
            if syntax == Syntax::Sqlite {
                self.agrees(sql, statement.text());
            }
        }
    }

    fn agrees(&self, sql: &str, text: &str) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clear();
        // What SQLite cannot compile does nothing.
        if let Ok(compiled) = self.connection.prepare(text) {
            assert!(compiled.readonly(), "SQLite takes {sql:?} for a write");
            let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            assert!(asked.is_empty(), "SQLite takes {sql:?} for {asked:?}");
        }
    }
}

impl Default for Copy {
    fn default() -> Self {
        Self::new()
    }
}

fn is_read(action: &AuthAction<'_>) -> bool {
    matches!(action, AuthAction::Read { .. } | AuthAction::Select | AuthAction::Recursive | AuthAction::Function { .. })
        || matches!(action, AuthAction::Pragma { pragma_name, .. } if is_description(pragma_name))
}

/// The pragmas that describe the schema.
fn is_description(pragma: &str) -> bool {
    ["table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list"]
        .contains(&pragma.to_ascii_lowercase().as_str())
}
