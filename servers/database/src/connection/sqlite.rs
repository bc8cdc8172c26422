//! SQLite files, read only.
//!
//! A file is opened for a call and closed after it, or [kept](idle) open for a moment while it is at rest: others may replace it, write it or
//! take it away meanwhile, and nothing of theirs is held up by us. The connection is the second lock: the file is opened for reading, the
//! session is set to read and to trust nothing in the schema, and SQLite asks [`authorizer`] about every table and
//! function that it compiles, those in views too.

mod authorizer;
mod compiled;
mod describe;
mod idle;
mod masks;
mod source;
pub(super) mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{bail, ensure};
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, Error, ErrorCode, OpenFlags, Statement};
use tollgate_shared::refusal::Refusal;

use super::{Inspected, Page, timed_out, unavailable};
use crate::mask::{self, Protection};
use crate::parameters::Parameter;
use crate::rows::{COLUMNS_MAX, Cell, More, Rows, RowsBuilder};
use crate::statement::{ReadStatement, Syntax};
use authorizer::{Authorizer, Denied};
use compiled::Compiled;
use idle::{Idle, Place};
use masks::Masks;
use source::Source;
use watch::{STEPS, Stop, Watch};

/// Largest text, blob or row that SQLite makes or reads; less where a statement is [large](Weight).
const VALUE_BYTES_MAX: i32 = 1024 * 1024;

/// Memory of all of SQLite in this process, the ledger's too: out of reach while [`watch`] does its work, and the
/// bound where the system does not tell how much memory is used.
const HEAP_BYTES_MAX: i64 = 512 * 1024 * 1024;

/// What the engine allows, beside what is fixed when it is compiled.
const LIMITS: [(Limit, i32); 8] = [
    (Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, VALUE_BYTES_MAX),
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
    (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 1),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 1000),
    (Limit::SQLITE_LIMIT_VDBE_OP, 250_000),
    // A pattern is compared at every place of a text, and cannot be stopped meanwhile.
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 200),
];

/// What the session may do. Texts in double quotes are names only, as the parser of the first lock has them.
const SETTINGS: [(DbConfig, bool); 8] = [
    (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
    (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
    (DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, false),
    (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
    (DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
    (DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true),
    (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
    (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
];

/// A SQLite file as the operator named it.
#[derive(Debug)]
pub struct SqliteFile {
    path: PathBuf,
    protection: Arc<Protection>,
    idle: Place,
}

impl SqliteFile {
    /// Reads a URL: `sqlite:` and a path, which starts at `workspace` when it is relative.
    ///
    /// # Errors
    ///
    /// A sentence that does not repeat the URL, which may hold a password.
    pub fn new(url: &str, workspace: &Path, protection: Arc<Protection>) -> anyhow::Result<Self> {
        let Some(path) = url.strip_prefix("sqlite:") else {
            bail!("`url` must begin with `sqlite:`, `postgres://` or `mysql://`");
        };
        let path = path.strip_prefix("//").unwrap_or(path);
        let path = path.strip_suffix("?mode=ro").unwrap_or(path);
        ensure!(!path.is_empty() && !path.contains('\0'), "`url` has no path after `sqlite:`");
        ensure!(!path.contains('?'), "`url` has options; none but `?mode=ro` is taken, and files are always opened so");
        ensure!(path != ":memory:", "`url` names a database in memory, which would be empty");
        Ok(Self { path: workspace.join(path), protection, idle: Place::default() })
    }

    /// Runs `statement`.
    pub(super) fn query(
        &self,
        statement: &ReadStatement,
        parameters: &[Parameter],
        page: Page,
        watch: &Watch,
    ) -> Result<Rows, Refusal> {
        self.read(watch, |session| session.query(statement, parameters, page))
    }

    /// Compiles `statement` and says what it would read.
    pub(super) fn inspect(&self, statement: &ReadStatement, watch: &Watch) -> Result<Inspected, Refusal> {
        self.read(watch, |session| session.inspect(statement))
    }

    /// Returns whether the caller must [close it in time](Self::close_when_idle) from now on: `true` once, until that is done.
    pub(super) fn begin_watch(&self) -> bool {
        self.idle.begin_watch()
    }

    /// Closes the file once nobody has asked for a while.
    pub(super) async fn close_when_idle(&self) {
        self.idle.close_in_time().await;
    }

    /// Opens the file, does `work`, and does it again where what was known of the file at rest holds no more.
    fn read<T>(&self, watch: &Watch, work: impl Fn(&Session<'_>) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let source = Source::find(&self.path)?;
        let _reader = source.reader();
        let idle = self.idle.take();
        if let Some(rest) = source.rest(idle.as_ref().map(|idle| &idle.rest)) {
            let kept = idle.filter(|idle| idle.rest == rest).map(|idle| Session::again(idle, &source, watch));
            let session = match kept {
                Some(session) => session,
                None => Session::open(&source, rest.is_lockless(), watch, &self.protection),
            };
            let result = session.and_then(|session| work(&session).map(|done| (done, session)));
            if rest.still_holds(&source) {
                // After anything but an answer it is not looked at what state the connection is in.
                let (done, session) = result?;
                // The views that may read masked columns have a name that nobody knows; it is another one for each call.
                if self.protection.masks_nothing() {
                    self.idle.keep(session.rest(rest));
                }
                return Ok(done);
            }
        }
        Session::open(&source, false, watch, &self.protection).and_then(|session| work(&session))
    }
}

/// An open file that can only be read.
struct Session<'a> {
    connection: Connection,
    authorizer: Authorizer,
    compiled: Compiled,
    watch: &'a Watch,
    path: String,
}

impl<'a> Session<'a> {
    fn open(source: &Source, lockless: bool, watch: &'a Watch, protection: &Arc<Protection>) -> Result<Self, Refusal> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = if lockless {
            Connection::open_with_flags(source.lockless_uri(), flags | OpenFlags::SQLITE_OPEN_URI)
        } else {
            Connection::open_with_flags(source.path(), flags)
        };
        let connection = connection.map_err(|error| {
            tracing::debug!(%error, "cannot open a database");
            unavailable("the file cannot be opened")
        })?;
        let path = source.path().display().to_string();
        let session =
            Self { connection, authorizer: Authorizer::default(), compiled: Compiled::default(), watch, path };
        session.lock_down(protection).map_err(|error| session.refusal(error))?;
        Ok(session)
    }

    /// Goes on with a connection that is locked down already.
    fn again(idle: Idle, source: &Source, watch: &'a Watch) -> Result<Self, Refusal> {
        let Idle { connection, authorizer, compiled, .. } = idle;
        authorizer.forget();
        let session = Self { connection, authorizer, compiled, watch, path: source.path().display().to_string() };
        let begun =
            session.connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX).and_then(|_| session.watched());
        begun.map_err(|error| session.refusal(error))?;
        Ok(session)
    }

    /// Gives the connection back, for the next call.
    fn rest(self, rest: source::Rest) -> Idle {
        Idle::new(self.connection, self.authorizer, self.compiled, rest)
    }

    /// Has SQLite ask the watch of this call whether to go on.
    fn watched(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(self.watch.left())?;
        let mut handler = self.watch.handler();
        self.connection.progress_handler(STEPS, Some(move || handler.must_stop()))
    }

    fn lock_down(&self, protection: &Arc<Protection>) -> rusqlite::Result<()> {
        let connection = &self.connection;
        connection.set_prepared_statement_cache_capacity(compiled::KEPT_MAX);
        // First: what follows may wait for a lock already.
        self.watched()?;
        for (limit, value) in LIMITS {
            connection.set_limit(limit, value)?;
        }
        for (setting, value) in SETTINGS {
            connection.set_db_config(setting, value)?;
        }
        connection.execute_batch(
            "PRAGMA trusted_schema = 0; PRAGMA cell_size_check = 1; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;
             PRAGMA cache_size = -4000;",
        )?;
        connection.execute_batch(&format!("PRAGMA hard_heap_limit = {HEAP_BYTES_MAX}"))?;
        // The one thing that is written, to memory, before the session is closed to all writing.
        let masks = Masks::install(connection, protection)?;
        connection.execute_batch("PRAGMA query_only = 1")?;
        self.authorizer.guard(connection, masks, Arc::clone(protection))
    }

    fn query(&self, statement: &ReadStatement, parameters: &[Parameter], page: Page) -> Result<Rows, Refusal> {
        let mut compiled = self.compiled_before(statement)?;
        let places = Places::of(&compiled)?;
        places.check(parameters)?;
        if compiled.column_count() > COLUMNS_MAX {
            return Err(Refusal::refused(
                "too_many_columns",
                format!("the answer has {} columns; at most {COLUMNS_MAX} are shown", compiled.column_count()),
                "name the columns that are needed",
            ));
        }
        let known = self.compiled.calls(statement.text());
        let calls = known.map_or_else(|| self.calls(statement), Ok)?;
        let weight = Weight { columns: compiled.column_count(), calls };
        self.connection
            .set_limit(Limit::SQLITE_LIMIT_LENGTH, weight.value_bytes_max())
            .map_err(|error| self.refusal(error))?;
        let columns = compiled.columns();
        let mut answer =
            RowsBuilder::new(columns.iter().map(|column| (column.name(), column.decl_type())), page.rows_max);
        let width = columns.len();
        drop(columns);
        places.bind(&mut compiled, parameters).map_err(|error| self.refusal(error))?;
        let mut rows = compiled.raw_query();
        let mut before = page.offset;
        while let Some(row) = rows.next().map_err(|error| self.refusal(error))? {
            if before > 0 {
                before -= 1;
                continue;
            }
            let more = answer.row(|values| {
                (0..width).try_for_each(|column| {
                    values.cell(cell(row.get_ref(column)?));
                    Ok(())
                })
            });
            if more.map_err(|error: Error| self.refusal(error))? == More::Full {
                break;
            }
        }
        drop(rows);
        if known.is_none() {
            self.compiled.keep(statement.text(), compiled, calls);
        }
        Ok(answer.finish())
    }

    fn inspect(&self, statement: &ReadStatement) -> Result<Inspected, Refusal> {
        let compiled = self.compile(statement)?;
        let places = Places::of(&compiled)?;
        let seen = self.authorizer.seen();
        let union = |named: &std::collections::BTreeSet<String>, seen: std::collections::BTreeSet<String>| {
            named.iter().cloned().chain(seen).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
        };
        Ok(Inspected {
            kind: statement.kind(),
            tables: union(statement.tables(), seen.tables),
            columns: statement.mentions().columns_named(),
            functions: union(statement.functions(), seen.functions),
            parameters: places.count,
            warnings: statement.warnings().to_vec(),
        })
    }

    /// Compiles a statement.
    fn compile(&self, statement: &ReadStatement) -> Result<Statement<'_>, Refusal> {
        self.permit(statement)?;
        let compiled = self.connection.prepare(statement.text()).map_err(|error| self.refusal(error))?;
        check_reads(&compiled).map(|()| compiled)
    }

    /// Returns a statement as it was compiled for a call before, when SQLite asked about all that is in it, or compiles it.
    fn compiled_before(&self, statement: &ReadStatement) -> Result<CachedStatement<'_>, Refusal> {
        self.permit(statement)?;
        let compiled = self.connection.prepare_cached(statement.text()).map_err(|error| self.refusal(error))?;
        check_reads(&compiled).map(|()| compiled)
    }

    /// Makes sure that `statement` reads nothing that is masked, and has the authorizer know what it names.
    fn permit(&self, statement: &ReadStatement) -> Result<(), Refusal> {
        let masked = self.authorizer.of(statement)?;
        mask::permit(statement.mentions(), &masked, Syntax::Sqlite)
    }

    /// Counts what calls functions in the compiled statement.
    ///
    /// Counted in SQLite's program, not in the text: what a subquery computes once may be computed again wherever
    /// its column is used, and again for each level of subqueries.
    fn calls(&self, statement: &ReadStatement) -> Result<usize, Refusal> {
        let calls = || -> rusqlite::Result<usize> {
            let mut program = self.connection.prepare(&format!("EXPLAIN {}", statement.text()))?;
            let mut steps = program.raw_query();
            let mut calls = 0;
            while let Some(step) = steps.next()? {
                let operation = step.get_ref(1)?.as_bytes().unwrap_or_default();
                if matches!(operation, b"Function" | b"PureFunc" | b"Concat" | b"Cast") {
                    let called = step.get_ref(5)?.as_bytes().unwrap_or_default();
                    let is_patch = [&b"json_patch("[..], b"jsonb_patch("].iter().any(|name| called.starts_with(name));
                    calls += if is_patch { PATCH_CALLS } else { 1 };
                }
            }
            Ok(calls)
        };
        let calls = calls().map_err(|error| self.refusal(error))?;
        if calls > CALLS_MAX {
            return Err(Refusal::refused(
                "too_complex",
                format!("the statement calls functions in {calls} places; at most {CALLS_MAX} are allowed"),
                "compute less at once: columns of subqueries are computed again wherever they are used",
            ));
        }
        Ok(calls)
    }

    /// Says what went wrong, without the path of the file.
    fn refusal(&self, error: Error) -> Refusal {
        if let Some(denied) = self.authorizer.denied() {
            return match denied {
                Denied::Function(name) => Refusal::refused(
                    "function_not_allowed",
                    format!("the function `{name}` is not on the list of those that only compute"),
                    "do without it, and without views that call it",
                ),
                Denied::Table(name) => Refusal::refused(
                    "table_not_allowed",
                    format!("`{name}` is not a table of this database"),
                    "use list_tables for the tables that there are",
                ),
                Denied::Hidden(refusal) => refusal,
                Denied::Other => not_a_read("the statement does more than read"),
            };
        }
        if matches!(error, Error::MultipleStatement) {
            return not_a_read("there is more than one statement");
        }
        let code = error.sqlite_error_code().unwrap_or(ErrorCode::Unknown);
        let message = self.scrubbed(&match error {
            Error::SqliteFailure(_, Some(message)) => message,
            other => other.to_string(),
        });
        match (self.watch.stopped(), code) {
            (Some(Stop::Cancelled), ErrorCode::OperationInterrupted) => Refusal::cancelled(),
            (Some(Stop::Memory), ErrorCode::OperationInterrupted) | (_, ErrorCode::OutOfMemory) => Refusal::failed(
                "memory_limit",
                "the query needs more memory than a query may have",
                "sort, group or join fewer rows at once",
            ),
            (_, ErrorCode::OperationInterrupted) => timed_out(self.watch.limit),
            (_, ErrorCode::TooBig) => Refusal::failed(
                "value_too_large",
                format!("a value or a row has more than {} bytes", self.value_bytes_max()),
                "leave it out, or take its length() only; with fewer columns and functions, values may be larger",
            ),
            (_, ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
                unavailable("another process holds it locked")
            }
            (_, ErrorCode::NotADatabase) => unavailable("the file is not a SQLite database"),
            (_, ErrorCode::DatabaseCorrupt) => unavailable("the file is damaged"),
            (_, ErrorCode::ReadOnly) => {
                unavailable("an interrupted write has to be undone first, which only a writer can do")
            }
            (_, ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::SystemIoFailure) => {
                unavailable("the file cannot be read")
            }
            // Of a view or a column: SQLite's own distrust, before it asks the authorizer.
            _ if message.starts_with("unsafe use of") => {
                Refusal::refused("function_not_allowed", message, "read the tables themselves instead")
            }
            _ => Refusal::failed("query_failed", message, "correct the statement; list_tables shows the tables"),
        }
    }

    fn value_bytes_max(&self) -> i32 {
        self.connection.limit(Limit::SQLITE_LIMIT_LENGTH).unwrap_or(VALUE_BYTES_MAX)
    }

    fn scrubbed(&self, message: &str) -> String {
        message.replace(&self.path, "the database").chars().take(300).collect()
    }
}

/// How many calls one counts for that looks for every key of a value among all keys of another, however short they are: a minute for
/// a megabyte.
const PATCH_CALLS: usize = 64;

/// How many calls of functions a compiled statement has at most; people write dozens.
const CALLS_MAX: usize = 5_000;

/// How much a statement can do before SQLite looks at the watch, which it does between rows and in loops only.
///
/// For one row it computes every column and every call, each with values of the largest size. Some functions compare
/// every byte of one value with every byte of another (`instr`, `replace`: six seconds for a megabyte). So values
/// may be the smaller the more there are of them.
struct Weight {
    columns: usize,
    calls: usize,
}

impl Weight {
    /// Returns how large a value may be.
    fn value_bytes_max(&self) -> i32 {
        // All values of a row together, and all that are compared with each other.
        const ROW_BYTES_MAX: usize = 32 * 1024 * 1024;
        const CALLS_BYTES_MAX: usize = 8 * 1024 * 1024;
        const VALUE_BYTES_MIN: i32 = 4 * 1024;
        let bytes = (ROW_BYTES_MAX / (self.columns + self.calls).max(1)).min(CALLS_BYTES_MAX / self.calls.max(1));
        i32::try_from(bytes).unwrap_or(VALUE_BYTES_MAX).clamp(VALUE_BYTES_MIN, VALUE_BYTES_MAX)
    }
}

/// Where the values of a statement go: SQLite's place of each, and the value that it takes, both from 1.
struct Places {
    taken: Vec<(usize, usize)>,
    count: usize,
}

impl Places {
    fn of(statement: &Statement<'_>) -> Result<Self, Refusal> {
        let mut taken = Vec::new();
        let mut dollars = 0;
        for place in 1..=statement.parameter_count() {
            // SQLite takes `$2` for a name, and numbers names in the order in which it meets them.
            let dollar = statement.parameter_name(place).and_then(|name| name.strip_prefix('$'));
            let value = match dollar.map(str::parse::<usize>) {
                None => place,
                Some(Ok(number)) if (1..=1000).contains(&number) => {
                    dollars += 1;
                    number
                }
                Some(_) => return Err(mismatch("parameters are numbered from `$1` to `$1000`".to_owned())),
            };
            taken.push((place, value));
        }
        if dollars > 0 && dollars < taken.len() {
            return Err(mismatch("`$1` and `?` are mixed, so their order is not clear".to_owned()));
        }
        let count = taken.iter().map(|(_, value)| *value).max().unwrap_or(0);
        Ok(Self { taken, count })
    }

    /// Makes sure that every place has its value; a missing one would be NULL to SQLite, and no error.
    fn check(&self, parameters: &[Parameter]) -> Result<(), Refusal> {
        if self.count == parameters.len() {
            return Ok(());
        }
        Err(mismatch(format!("the statement takes {} values, and `params` has {}", self.count, parameters.len())))
    }

    fn bind(&self, statement: &mut Statement<'_>, parameters: &[Parameter]) -> rusqlite::Result<()> {
        for (place, value) in &self.taken {
            let value = parameters.get(value - 1).map_or(ToSqlOutput::Borrowed(ValueRef::Null), bound);
            statement.raw_bind_parameter(*place, value)?;
        }
        Ok(())
    }
}

/// Makes sure that SQLite takes a compiled statement for a read.
fn check_reads(compiled: &Statement<'_>) -> Result<(), Refusal> {
    if !compiled.readonly() || compiled.is_explain() != 0 || compiled.column_count() == 0 {
        return Err(not_a_read("SQLite does not take the statement for a read"));
    }
    Ok(())
}

fn bound(parameter: &Parameter) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match parameter {
        Parameter::Null => ValueRef::Null,
        Parameter::Boolean(value) => ValueRef::Integer(i64::from(*value)),
        Parameter::Integer(integer) => ValueRef::Integer(*integer),
        Parameter::Real(real) => ValueRef::Real(*real),
        Parameter::Text(text) => ValueRef::Text(text.as_bytes()),
        Parameter::Blob(bytes) => ValueRef::Blob(bytes),
    })
}

fn cell(value: ValueRef<'_>) -> Cell<'_> {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(integer) => Cell::Integer(integer),
        ValueRef::Real(real) => Cell::Real(real),
        ValueRef::Text(text) => Cell::Text(text),
        ValueRef::Blob(bytes) => Cell::Blob(bytes),
    }
}

fn mismatch(message: String) -> Refusal {
    Refusal::invalid_arguments(message, "pass one value in `params` for each `?`, in order")
}

fn not_a_read(message: &str) -> Refusal {
    Refusal::refused("not_read_only", message, "use one plain SELECT; a change is for a person to make")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::time::Duration;

    use tempfile::TempDir;
    use tollgate_tests::corpus::{SQLITE, SQLITE_SHOP as SCHEMA};

    use super::*;
    use crate::statement::{Rules, Syntax};

    const PAGE: Page = Page { rows_max: 10, offset: 0 };

    struct World {
        dir: TempDir,
        file: SqliteFile,
    }

    impl World {
        fn new(sql: &str) -> Self {
            let dir = TempDir::new().unwrap();
            Connection::open(dir.path().join("shop.db")).unwrap().execute_batch(sql).unwrap();
            let file = SqliteFile::new("sqlite:shop.db", dir.path(), Arc::default()).unwrap();
            Self { dir, file }
        }

        /// Every file in the folder with its content.
        fn files(&self) -> BTreeMap<String, Vec<u8>> {
            let entries = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap());
            entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
        }

        /// Runs `sql` without asking the first lock.
        fn unchecked(&self, sql: &str) -> Result<Rows, Refusal> {
            let watch = Watch::new(Duration::from_secs(2), never());
            self.file.query(&ReadStatement::unchecked(sql), &[], PAGE, &watch)
        }

        fn code(&self, sql: &str) -> &'static str {
            self.unchecked(sql).map_or_else(|refusal| refusal.code, |_| "ok")
        }
    }

    fn never() -> tokio_util::sync::CancellationToken {
        tokio_util::sync::CancellationToken::new()
    }

    /// The second lock alone: what it misses is listed in docs/security.md.
    #[test]
    fn the_engine_alone_changes_nothing() {
        let world = World::new(SCHEMA);
        let before = world.files();
        let mut ran = Vec::new();
        for sql in &SQLITE.refused {
            if world.unchecked(sql).is_ok() {
                ran.push(sql);
            }
            assert_eq!(world.files(), before, "{sql}");
        }
        println!("the session alone runs {} of {}: {ran:#?}", ran.len(), SQLITE.refused.len());
        // What runs only reads, and reads no more than a table of the schema.
        let known = ran.iter().all(|sql| RUN.iter().any(|known| sql.contains(known)));
        assert!(known, "{ran:#?}");
    }

    /// What the engine takes for a plain read.
    const RUN: [&str; 8] = [
        "PRAGMA table_info",
        "SELECT 1 /*",
        "SELECT 1\0",
        "SELECT 1 \0",
        "\u{feff}SELECT 1",
        "WITH c AS (SELECT load_extension('x')) SELECT 1",
        "trim('a'",
        "unhex('00', b)",
    ];

    #[test]
    fn the_engine_alone_refuses_what_does_more_than_read() {
        let world = World::new(SCHEMA);
        for sql in [
            "DELETE FROM t",
            "INSERT INTO u VALUES (1)",
            "UPDATE t SET b = 1 RETURNING a",
            "DROP TABLE t",
            "CREATE TABLE w (a)",
            "CREATE TEMP TABLE w (a)",
            "ATTACH ':memory:' AS m",
            "VACUUM",
            "VACUUM INTO 'z.db'",
            "PRAGMA query_only = 0",
            "PRAGMA user_version = 7",
            "PRAGMA user_version",
            "PRAGMA database_list",
            "PRAGMA journal_mode = WAL",
            "BEGIN",
            "SAVEPOINT x",
            "REINDEX",
            "ANALYZE",
            "EXPLAIN SELECT 1",
            "SELECT 1; SELECT 2",
        ] {
            assert_eq!(world.code(sql), "not_read_only", "{sql}");
        }
        for sql in [
            "SELECT load_extension('x')",
            "SELECT sqlite_version()",
            "SELECT \"changes\"()",
            "SELECT fts3_tokenizer('simple')",
        ] {
            assert_eq!(world.code(sql), "function_not_allowed", "{sql}");
        }
        for sql in ["SELECT * FROM pragma_database_list", "SELECT * FROM pragma_user_version", "SELECT * FROM dbstat"] {
            assert_eq!(world.code(sql), "table_not_allowed", "{sql}");
        }
        assert_eq!(world.code("SELECT * FROM pragma_table_info('t')"), "ok");
    }

    #[test]
    fn honest_statements_run_and_leave_nothing() {
        let world = World::new(SCHEMA);
        let before = world.files();
        for sql in &SQLITE.allowed {
            let statement = ReadStatement::check(sql, &Rules::of(Syntax::Sqlite)).unwrap();
            let parameters = vec![Parameter::Integer(1); usize::from(sql.contains("?1"))];
            let watch = Watch::new(Duration::from_secs(5), never());
            let refusal = world.file.query(&statement, &parameters, PAGE, &watch).err();
            // SQLite as it is built here lacks these functions.
            let missing = refusal.as_ref().is_some_and(|refusal| refusal.message.starts_with("no such function"));
            assert!(refusal.is_none() || missing, "{sql}: {refusal:?}");
        }
        assert_eq!(world.files(), before);
    }

    #[test]
    fn views_and_columns_do_no_more_than_their_readers() {
        let world = World::new(
            "CREATE TABLE t (a); INSERT INTO t VALUES (1);
             CREATE VIEW version AS SELECT sqlite_version() FROM t;
             CREATE VIEW path AS SELECT file FROM pragma_database_list;
             CREATE VIEW outer AS SELECT * FROM path;
             CREATE VIEW fine AS SELECT upper('x') AS x FROM t;
             CREATE TABLE g (a, b AS (a || printf('%.*c', 100000000, 'x')));
             INSERT INTO g VALUES (1);",
        );
        assert_eq!(world.code("SELECT * FROM version"), "function_not_allowed");
        for view in ["path", "outer"] {
            let refusal = world.unchecked(&format!("SELECT * FROM {view}")).unwrap_err();
            // SQLite trusts no schema with this table, and says so before it asks.
            assert!(refusal.message.contains("unsafe use"), "{refusal}");
            assert!(!refusal.message.contains("shop.db"), "{refusal}");
        }
        assert_eq!(world.code("SELECT * FROM fine"), "ok");
        let answer = world.unchecked("SELECT * FROM g");
        assert!(
            answer.is_ok_and(|rows| rows.row_count == 1 && rows.columns.len() == 2)
                || world.code("SELECT * FROM g") == "value_too_large"
        );
    }

    #[test]
    fn calls_are_counted_where_they_are_made() {
        let world = World::new(SCHEMA);
        // Every level doubles the calls of the one below.
        let doubling = (0..14)
            .fold("SELECT hex(b) AS x FROM t".to_owned(), |inner, _| format!("SELECT x || x AS x FROM ({inner})"));
        assert_eq!(world.code(&doubling), "too_complex");
        // What takes a minute for a megabyte may have an eighth of that, and is not to be had by the hundred.
        let patch = |size: usize| format!("SELECT json_patch('{{}}', json_object('a', hex(zeroblob({size} / 2))))");
        assert_eq!((world.code(&patch(100_000)), world.code(&patch(200_000))), ("ok", "value_too_large"));
        let patches = vec!["json_patch(b, b)"; 80].join(", ");
        assert_eq!(world.code(&format!("SELECT {patches} FROM t")), "too_complex");
        let weight = |columns, calls| Weight { columns, calls }.value_bytes_max();
        assert_eq!(weight(1, 0), VALUE_BYTES_MAX);
        assert_eq!(weight(20, 8), VALUE_BYTES_MAX);
        assert_eq!(weight(320, 0), VALUE_BYTES_MAX / 10);
        assert_eq!(weight(1, 80), VALUE_BYTES_MAX / 10);
        assert_eq!(weight(1, CALLS_MAX), 4096);
    }

    #[test]
    fn cancelled_queries_stop() {
        let world = World::new(SCHEMA);
        let token = never();
        token.cancel();
        let watch = Watch::new(Duration::from_secs(30), token);
        let endless = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c";
        let started = std::time::Instant::now();
        let refusal = world.file.query(&ReadStatement::unchecked(endless), &[], PAGE, &watch).unwrap_err();
        assert_eq!(refusal.code, "cancelled");
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
