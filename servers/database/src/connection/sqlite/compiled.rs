//! Statements that stay compiled while the file is kept open.
//!
//! To compile a statement, and again to count its calls, takes longer than to run most. SQLite asks the authorizer while it compiles: so what
//! stays is of the session in which it was asked, for a file in the very same state, and never a statement of our own.

use std::cell::RefCell;
use std::collections::HashMap;

use rusqlite::{CachedStatement, StatementStatus};

/// How many statements stay compiled.
pub(super) const KEPT_MAX: usize = 8;

/// How many bytes of memory a statement takes that stays compiled, at most.
const KEPT_BYTES_MAX: i32 = 64 * 1024;

/// What is known of the statements of a session that may stay compiled.
#[derive(Debug, Default)]
pub(super) struct Compiled(RefCell<HashMap<String, usize>>);

impl Compiled {
    /// Returns in how many places a statement calls functions, if that is known.
    pub(super) fn calls(&self, text: &str) -> Option<usize> {
        self.0.borrow().get(text).copied()
    }

    /// Has a statement stay compiled, unless it is large.
    pub(super) fn keep(&self, text: &str, mut compiled: CachedStatement<'_>, calls: usize) {
        // The values of this call are not what it takes.
        compiled.clear_bindings();
        if compiled.get_status(StatementStatus::MemUsed) > KEPT_BYTES_MAX {
            compiled.discard();
            return;
        }
        let mut known = self.0.borrow_mut();
        if known.len() >= KEPT_MAX {
            known.clear();
        }
        known.insert(text.to_owned(), calls);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rusqlite::Connection;
    use serde_json::json;
    use tempfile::TempDir;
    use tollgate_shared::refusal::Refusal;

    use super::*;
    use crate::connection::Page;
    use crate::connection::sqlite::SqliteFile;
    use crate::connection::sqlite::watch::Watch;
    use crate::mask::Protection;
    use crate::parameters::Parameter;
    use crate::rows::Rows;
    use crate::statement::ReadStatement;

    fn watch() -> Watch {
        Watch::new(Duration::from_secs(5), tokio_util::sync::CancellationToken::new())
    }

    fn query(file: &SqliteFile, sql: &str, parameters: &[Parameter]) -> Result<Rows, Refusal> {
        file.query(&ReadStatement::unchecked(sql), parameters, Page { rows_max: 10, offset: 0 }, &watch())
    }

    /// A file that was not changed for so long that it is kept open, with tables of which only `t` may be read.
    fn at_rest() -> (TempDir, SqliteFile) {
        let folder = TempDir::new().unwrap();
        let sql = "CREATE TABLE t (a, b); CREATE INDEX i ON t (a); INSERT INTO t VALUES (1, 'x'), (2, 'y');
             CREATE TABLE hidden (a); INSERT INTO hidden VALUES (7); ANALYZE;";
        Connection::open(folder.path().join("shop.db")).unwrap().execute_batch(sql).unwrap();
        let protection = Protection::new(&[], &["t".to_owned()], &[]).unwrap();
        let file = SqliteFile::new("sqlite:shop.db", folder.path(), Arc::new(protection)).unwrap();
        std::thread::sleep(Duration::from_millis(3_200));
        (folder, file)
    }

    #[test]
    fn what_stays_compiled_is_asked_again_with_what_it_is_asked_now() {
        let (_folder, file) = at_rest();
        let known = |sql: &str| {
            let idle = file.idle.take().unwrap();
            let calls = idle.compiled.calls(sql);
            file.idle.keep(idle);
            calls
        };
        let sql = "SELECT abs(a) + ?1, ?2 FROM t ORDER BY a";
        for (number, text) in [(10, Some("x")), (20, None), (30, Some("y"))] {
            let text = text.map_or(Parameter::Null, |text| Parameter::Text(text.to_owned()));
            let rows = query(&file, sql, &[Parameter::Integer(number), text.clone()]).unwrap();
            let text = json!(if let Parameter::Text(text) = text { Some(text) } else { None });
            assert_eq!(json!(rows.rows), json!([[number + 1, text], [number + 2, text]]));
            assert_eq!(known(sql), Some(1));
        }
        // A value that is not given is not the last one's.
        assert_eq!(query(&file, sql, &[Parameter::Integer(1)]).unwrap_err().code, "invalid_arguments");
        // More of them than stay, and one that is cut off in the middle of its rows.
        for round in 0..2 {
            for number in 0..2 * KEPT_MAX {
                let sql = format!("SELECT a + {number} FROM t ORDER BY a");
                let page = Page { rows_max: 1, offset: round };
                let rows = file.query(&ReadStatement::unchecked(&sql), &[], page, &watch()).unwrap();
                let first = number as u64 + round + 1;
                assert_eq!((json!(rows.rows), rows.truncated), (json!([[first]]), round == 0), "{sql}");
            }
        }
        let large = format!("SELECT {} FROM t", vec!["abs(a) || abs(a)"; 400].join(", "));
        for _ in 0..2 {
            query(&file, &large, &[]).unwrap();
            assert_eq!(known(&large), None);
        }
    }

    #[test]
    fn what_we_ask_the_catalogue_ourselves_stays_out_of_reach() {
        let (_folder, file) = at_rest();
        // The very texts of describe.rs.
        let attacks = [
            "SELECT stat FROM main.sqlite_stat1 WHERE tbl = ?1 LIMIT 1",
            "SELECT name FROM pragma_table_xinfo(?1, 'main')",
        ];
        for _ in 0..2 {
            query(&file, "SELECT a FROM t", &[]).unwrap();
            assert_eq!(file.tables("", 10, "", &watch()).unwrap().len(), 2);
            assert_eq!(file.tables("", 10, "a", &watch()).unwrap().len(), 2);
            assert!(file.describe_table("t", &watch()).unwrap().estimated_rows.is_some());
            for sql in attacks {
                assert!(include_str!("describe.rs").contains(sql), "{sql}");
                let idle = file.idle.take().unwrap();
                assert!(idle.connection.prepare_cached(sql).is_err(), "{sql}");
                file.idle.keep(idle);
                let answer = query(&file, sql, &[Parameter::Text("hidden".to_owned())]);
                assert_eq!(answer.unwrap_err().code, "table_not_allowed", "{sql}");
                query(&file, "SELECT a FROM t", &[]).unwrap();
            }
        }
    }
}
