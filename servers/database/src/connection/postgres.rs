//! PostgreSQL, read only.
//!
//! What an agent wrote reaches the server in the extended protocol only, which takes one statement, and only as a
//! subquery of ours, which can be nothing but a read: no COMMIT, SET, COPY, CALL or EXPLAIN fits there, nor a WITH
//! that changes rows. It runs in a transaction that is read only, isolated and always rolled back, in a session whose
//! settings come with the connection. What a statement names is resolved in the catalogue first ([`resolve`]),
//! since views, operators, casts and `t.f` call functions that its text does not show.

#[cfg(test)]
mod alone;
mod clock;
mod describe;
mod masks;
mod resolve;
mod session;
mod values;
mod wire;

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use futures::TryStreamExt;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow, PgTypeInfo};
use sqlx::{AssertSqlSafe, Column as _, ConnectOptions, Either, Executor, Row, Statement as _, TypeInfo, ValueRef};
use tokio::sync::OwnedSemaphorePermit;
use tollgate_shared::refusal::Refusal;

use super::ahead::Waiting;
use super::early::{Leased, end_later};
use super::fresh::Fresh;
use super::lease;
use super::role::Role;
use super::{Inspected, Limits, NOT_UNDERSTOOD, Page, ServerConnections, timed_out, unavailable};
use crate::base64;
use crate::config::ConnectionConfig;
use crate::mask::{self, Protection};
use crate::parameters::Parameter;
use crate::rows::{COLUMNS_MAX, More, Rows, RowsBuilder};
use crate::statement::{ReadStatement, Rules, Syntax};
use masks::KnownMasks;
use resolve::{Known, Resolution};
use wire::Wire;

/// What the session is told with the connection, beside its times and schemas. Such settings win over those of the
/// role and the database.
const SETTINGS: [(&str, &str); 10] = [
    ("default_transaction_read_only", "on"),
    ("standard_conforming_strings", "on"),
    ("backslash_quote", "off"),
    ("bytea_output", "hex"),
    ("IntervalStyle", "postgres"),
    ("row_security", "on"),
    ("check_function_bodies", "on"),
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "1"),
    ("client_min_messages", "error"),
];

/// Longest wait for a lock that somebody holds, in milliseconds.
const LOCK_MS_MAX: u64 = 1_000;

/// How many statements a connection keeps prepared.
const STATEMENTS_MAX: usize = 32;

/// How long a plan is good, beyond what is known of the statement.
const PLANNED_MAX: Duration = Duration::from_millis(100);

/// A connection in a transaction that only reads.
pub(super) type Lease = lease::Lease<Postgres>;

/// A PostgreSQL server as the operator named it.
#[derive(Debug)]
pub struct Postgres {
    options: PgConnectOptions,
    rules: Rules,
    limits: Limits,
    waiting: Arc<Waiting<Self>>,
    role: Role,
    known: Known,
    masks: KnownMasks,
    protection: Arc<Protection>,
    described: Fresh<String, Described>,
    type_names: Mutex<HashMap<u32, String>>,
    opened: AtomicU64,
}

impl Postgres {
    /// Reads a URL: `postgres://user:password@host/database`.
    ///
    /// # Errors
    ///
    /// A sentence that does not repeat the URL, which may hold a password.
    pub fn new(config: &ConnectionConfig, limits: Limits, protection: Arc<Protection>) -> anyhow::Result<Self> {
        let schemas: Vec<&str> = match config.schemas.as_slice() {
            [] => vec!["public"],
            schemas => schemas.iter().map(String::as_str).collect(),
        };
        ensure!(
            schemas.iter().all(|schema| !schema.is_empty() && !schema.starts_with("pg_") && !schema.contains('\0')),
            "`schemas` has a name that is empty or begins with `pg_`"
        );
        let options = PgConnectOptions::from_str(&config.url)
            .map_err(|_| anyhow!("`url` is no `postgres://user:password@host/database`"))?;
        let path: Vec<String> = schemas.iter().map(|schema| format!("\"{}\"", schema.replace('"', "\"\""))).collect();
        let timeout_ms = limits.timeout.as_millis();
        let times = [
            ("search_path", format!("pg_catalog, {}, pg_temp", path.join(", "))),
            ("statement_timeout", timeout_ms.to_string()),
            ("lock_timeout", timeout_ms.min(u128::from(LOCK_MS_MAX)).to_string()),
            ("idle_in_transaction_session_timeout", (timeout_ms + 1_000).to_string()),
        ];
        let options = options
            .options(SETTINGS)
            .options(times)
            .application_name(session::APPLICATION)
            // What the server keeps of ours says of what types its columns are, and is asked anew when they change.
            .statement_cache_capacity(STATEMENTS_MAX)
            .disable_statement_logging();
        let functions = config.allowed_functions.iter().cloned().collect();
        Ok(Self {
            options,
            rules: Rules { syntax: Syntax::Postgres, functions },
            limits,
            waiting: Arc::default(),
            role: Role::new(config.require_read_only_role),
            known: Known::default(),
            masks: KnownMasks::default(),
            protection,
            described: Fresh::default(),
            type_names: Mutex::default(),
            opened: AtomicU64::new(0),
        })
    }

    /// Returns what statements are judged by.
    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Runs `statement`, as it was `planned` if it was.
    pub(super) async fn query(
        &self,
        mut lease: Lease,
        statement: &ReadStatement,
        parameters: &[Parameter],
        page: Page,
        planned: Option<Planned>,
    ) -> Result<Rows, Refusal> {
        // Unless the connection was waited for: what the catalogue said is relied on for a moment only.
        let planned = planned.filter(|planned| planned.at.elapsed() < PLANNED_MAX);
        if lease.is_ahead() && !planned.as_ref().is_some_and(|planned| planned.is_timeless) {
            lease = lease.begin_now().await?;
        }
        let mut answer = match planned {
            Some(planned) => self.send(&mut lease, planned, parameters).await,
            None => self.read(&mut lease, statement, parameters, page).await,
        };
        if answer.as_ref().is_err_and(|refusal| lease.was_closed(refusal)) {
            lease = lease.again().await?;
            answer = self.read(&mut lease, statement, parameters, page).await;
        }
        if answer.is_ok() {
            lease.went_well();
        }
        end_later(lease);
        answer
    }

    /// Returns what is sent to the server for `statement`, if there is nothing that it has to be asked before.
    pub(super) fn plan_known(
        &self,
        statement: &ReadStatement,
        parameters: &[Parameter],
        page: Page,
    ) -> Option<Planned> {
        let resolution = self.known.get(statement)?;
        let is_timeless = clock::is_timeless(statement, &resolution, parameters);
        let tables = self.masks.get(statement, &self.protection)?;
        let statement = mask::masked(statement, &tables, Syntax::Postgres).ok()?;
        let described = self.described.get(statement.text())?;
        let types = self.known_type_names(&described.parameters)?;
        Some(Planned { is_timeless, ..Planned::new(&statement, described, &types, page) })
    }

    /// Has the server compile `statement`, and says what it would read.
    pub(super) async fn inspect(
        self: Arc<Self>,
        slot: OwnedSemaphorePermit,
        statement: &ReadStatement,
    ) -> Result<Inspected, Refusal> {
        let mut lease = Arc::clone(&self).begin(slot).await?;
        let inspected = async {
            let resolution = self.resolve(&mut lease, statement).await?;
            let masked = self.permitted(&mut lease, statement).await?;
            let described = self.describe(&mut lease, &masked).await?;
            Ok(Inspected {
                kind: statement.kind(),
                tables: resolution.tables.clone(),
                columns: statement.mentions().columns_named(),
                functions: statement.functions().iter().cloned().collect(),
                parameters: described.parameters.len(),
                warnings: statement.warnings().to_vec(),
            })
        }
        .await;
        lease.end().await;
        inspected
    }

    /// Returns whether a connection waits for a query.
    pub(super) fn has_idle(&self) -> bool {
        self.waiting.len() > 0
    }

    /// Opens a transaction that only reads, in a session of a role that may be used.
    pub(super) async fn begin(self: Arc<Self>, slot: OwnedSemaphorePermit) -> Result<Lease, Refusal> {
        self.role.permit(Lease::begin(&self, slot, ()).await?).await
    }

    /// Opens one for [`Self::query`], or takes one that was begun ahead.
    pub(super) async fn begin_query(self: Arc<Self>, slot: OwnedSemaphorePermit) -> Result<Lease, Refusal> {
        self.role.permit(Lease::take_or_begin(&self, slot, ()).await?).await
    }

    async fn read(
        &self,
        lease: &mut Lease,
        statement: &ReadStatement,
        parameters: &[Parameter],
        page: Page,
    ) -> Result<Rows, Refusal> {
        let statement = self.permitted(lease, statement).await?;
        self.run(lease, &statement, parameters, page).await
    }

    /// Asks the catalogue what `statement` calls and reads, and returns it with its masked columns replaced.
    async fn permitted(&self, lease: &mut Lease, statement: &ReadStatement) -> Result<ReadStatement, Refusal> {
        self.resolve(lease, statement).await?;
        let tables = self.masks.of(lease.connection(), statement, &self.protection).await;
        let tables = tables.map_err(|failed| match failed {
            resolve::Failed::Refused(refusal) => refusal,
            resolve::Failed::Engine(error) => self.refusal(&error),
        })?;
        mask::masked(statement, &tables, Syntax::Postgres)
    }

    /// Returns how many connections there are.
    pub(super) fn connections(&self) -> ServerConnections {
        ServerConnections { idle: self.waiting.len(), opened: self.opened.load(Ordering::Relaxed) }
    }

    /// Runs `statement` without asking the catalogue: the second lock alone.
    async fn run(
        &self,
        lease: &mut Lease,
        statement: &ReadStatement,
        parameters: &[Parameter],
        page: Page,
    ) -> Result<Rows, Refusal> {
        let described = match self.described.get(statement.text()) {
            Some(known) => known,
            None => {
                let described = self.describe(lease, statement).await?;
                self.described.keep(statement.text().to_owned(), described)
            }
        };
        described.takes(parameters)?;
        let types = self.type_names(lease, &described.parameters).await?;
        self.send(lease, Planned::new(statement, described, &types, page), parameters).await
    }

    /// Runs what was planned, and forgets what was known of it when that fails.
    async fn send(&self, lease: &mut Lease, planned: Planned, parameters: &[Parameter]) -> Result<Rows, Refusal> {
        planned.described.takes(parameters)?;
        let text = planned.of.clone();
        let answer = self.fetch(lease, planned, parameters).await;
        if let Err(refusal) = &answer {
            self.described.forget(&text);
            // A type may have another name by now.
            self.names_of_types().clear();
            if refusal.message == CHANGED {
                // What connections have prepared is of the table as it was, and described so.
                lease.abandon();
                self.waiting.clear();
            }
        }
        answer
    }

    async fn fetch(&self, lease: &mut Lease, planned: Planned, parameters: &[Parameter]) -> Result<Rows, Refusal> {
        let Planned { has_moment, described, text, mut answer, characters, rows_max, .. } = planned;
        let columns = &described.columns;
        // What is prepared has the `now` of then for the text 'now'.
        let mut query = sqlx::query(AssertSqlSafe(text)).persistent(!has_moment);
        for parameter in parameters {
            query = query.bind(as_text(parameter));
        }
        let mut full = false;
        let mut written = Vec::new();
        {
            let mut rows = lease.connection().fetch_many(query);
            let mut count = 0;
            while let Some(step) = rows.try_next().await.map_err(|error| self.refusal(&error))? {
                let Either::Right(row) = step else { continue };
                count += 1;
                if count == 1 && !columns.iter().zip(row.columns()).all(|(column, found)| column.is(found.type_info()))
                {
                    return Err(changed());
                }
                let more = answer.row(|values| {
                    columns.iter().enumerate().try_for_each(|(index, column)| {
                        values.cell(made(&row, index, column, characters, &mut written)?.cell());
                        Ok(())
                    })
                });
                if more.map_err(|error| self.refusal(&error))? == More::Full {
                    full = count <= rows_max;
                    break;
                }
            }
            if !full {
                // Whatever ends the answer is read, so that the connection can be used again.
                while rows.try_next().await.map_err(|error| self.refusal(&error))?.is_some() {}
            }
        }
        if full {
            lease.abandon();
        }
        Ok(answer.finish())
    }

    /// Has the server say what the values and the columns of `statement` are; runs nothing.
    async fn describe(&self, lease: &mut Lease, statement: &ReadStatement) -> Result<Described, Refusal> {
        let text = AssertSqlSafe(statement.text().to_owned());
        let prepared = lease.connection().prepare(sqlx::SqlSafeStr::into_sql_str(text)).await;
        let prepared = prepared.map_err(|error| self.refusal(&error))?;
        let parameters = match prepared.parameters() {
            Some(Either::Left(types)) => types.iter().map(|known| known.oid().unwrap_or(Oid(25))).collect(),
            _ => Vec::new(),
        };
        let mut odd = vec![values::BOX];
        if prepared.columns().iter().any(|column| values::may_be_odd(column.type_info())) {
            const ODD: &str = "SELECT oid FROM pg_catalog.pg_type WHERE typdelim <> ','";
            odd = sqlx::query_scalar(ODD).fetch_all(lease.connection()).await.map_err(|error| self.refusal(&error))?;
        }
        let columns: Vec<Described1> = prepared
            .columns()
            .iter()
            .map(|column| Described1 {
                name: column.name().to_owned(),
                shown: column.type_info().name().to_ascii_lowercase(),
                r#type: values::Type::of(column.type_info(), &odd),
                wire: Wire::of(column.type_info().oid()),
                oid: column.type_info().oid().map_or(0, |oid| oid.0),
            })
            .collect();
        if columns.is_empty() {
            return Err(not_a_read("PostgreSQL does not take the statement for a read, or it has no columns"));
        }
        if columns.len() > COLUMNS_MAX {
            return Err(Refusal::refused(
                "too_many_columns",
                format!("the answer has {} columns; at most {COLUMNS_MAX} are shown", columns.len()),
                "name the columns that are needed",
            ));
        }
        Ok(Described { parameters, columns })
    }

    async fn resolve(&self, lease: &mut Lease, statement: &ReadStatement) -> Result<Arc<Resolution>, Refusal> {
        self.known.resolve(lease.connection(), statement, &self.rules, &self.protection).await.map_err(|failed| {
            match failed {
                resolve::Failed::Refused(refusal) => refusal,
                resolve::Failed::Engine(error) => self.refusal(&error),
            }
        })
    }

    fn names_of_types(&self) -> MutexGuard<'_, HashMap<u32, String>> {
        self.type_names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the names of types as SQL has them, if all are known.
    fn known_type_names(&self, types: &[Oid]) -> Option<Vec<String>> {
        let known = self.names_of_types();
        types.iter().map(|oid| known.get(&oid.0).cloned()).collect()
    }

    /// Returns the names of types as SQL has them.
    async fn type_names(&self, lease: &mut Lease, types: &[Oid]) -> Result<Vec<String>, Refusal> {
        if let Some(known) = self.known_type_names(types) {
            return Ok(known);
        }
        let named: Vec<(Oid, String)> =
            // Without a length of its own, which `character` and `bit` would have: one.
            sqlx::query_as("SELECT oid, format_type(oid, -1) FROM unnest($1::oid[]) AS oid")
                .bind(types)
                .fetch_all(lease.connection())
                .await
                .map_err(|error| self.refusal(&error))?;
        let mut known = self.names_of_types();
        known.extend(named.into_iter().map(|(oid, name)| (oid.0, name)));
        Ok(types.iter().map(|oid| known.get(&oid.0).map_or("text", String::as_str).to_owned()).collect())
    }

    /// Says what went wrong, without where the server is and who asks.
    fn refusal(&self, error: &sqlx::Error) -> Refusal {
        let sqlx::Error::Database(database) = error else {
            // What sqlx says of what it cannot read in the catalogue of types: multiranges, and `NULL` as a label of an enum.
            if matches!(error, sqlx::Error::ColumnDecode { .. }) {
                return Refusal::failed(
                    "unsupported_type",
                    "a column is of a type that cannot be read as it is, such as a multirange",
                    "write it as text in the query: `column::text`",
                );
            }
            tracing::debug!(%error, "a database cannot be reached");
            return unavailable(if matches!(error, sqlx::Error::Io(_)) { lease::GONE } else { NOT_UNDERSTOOD });
        };
        let code = database.code().unwrap_or_default();
        let message: String = database.message().chars().take(300).collect();
        match (&code[..code.len().min(2)], code.as_ref()) {
            (_, "57014") => timed_out(self.limits.timeout),
            (_, "55P03") => {
                Refusal::failed("database_busy", "somebody holds a lock on what would be read", "try again later")
            }
            (_, "0A000") if message.starts_with("cached plan") => changed(),
            (_, "25006" | "0A000" | "25001" | "2D000") => {
                not_a_read(&format!("PostgreSQL does not take it for a read: {message}"))
            }
            ("28" | "3D", _) => unavailable("the server does not let this role in"),
            ("08", _) | (_, "57P01" | "57P02" | "25P03" | "25P04") => unavailable(lease::GONE),
            ("57" | "58" | "XX", _) => unavailable("the server is not ready"),
            (_, "53300") => unavailable("the server has too many connections"),
            (_, "53200" | "53100" | "53400") => Refusal::failed(
                "memory_limit",
                "the query needs more memory or space than the server has",
                "sort, group or join fewer rows at once",
            ),
            ("54", _) => Refusal::failed("value_too_large", message, "ask for less at once"),
            // A NUL in a parameter has the same code.
            (_, "22021") if !message.contains("0x00") => Refusal::failed(
                "unsupported_type",
                format!("a text is not UTF-8, in a database without an encoding: {message}"),
                "read its bytes in the query: `convert_to(column, 'SQL_ASCII')`",
            ),
            (_, "42501") => Refusal::failed(
                "query_failed",
                message,
                "the role of this connection may not read it; ask the operator",
            ),
            _ => Refusal::failed(
                "query_failed",
                message,
                "correct the statement; list_tables shows the tables, and values go into `params`",
            ),
        }
    }
}

/// What the server says of a statement.
#[derive(Debug)]
struct Described {
    parameters: Vec<Oid>,
    columns: Vec<Described1>,
}

impl Described {
    /// Makes sure that every parameter has its value.
    fn takes(&self, parameters: &[Parameter]) -> Result<(), Refusal> {
        let count = self.parameters.len();
        if count == parameters.len() {
            return Ok(());
        }
        Err(Refusal::invalid_arguments(
            format!("the statement takes {count} values, and `params` has {}", parameters.len()),
            "pass one value in `params` for each of `$1`, `$2`, …",
        ))
    }
}

/// What the server says of one column.
#[derive(Debug)]
struct Described1 {
    name: String,
    shown: String,
    r#type: values::Type,
    /// The number of the type, where it comes in binary.
    wire: Wire,
    oid: u32,
}

impl Described1 {
    /// Whether a value of the type `found` can be read as one of this column: texts always, bytes only as what they are.
    fn is(&self, found: &PgTypeInfo) -> bool {
        self.wire == Wire::Text || found.oid().is_some_and(|oid| oid.0 == self.oid)
    }
}

/// What is sent to the server for a statement, and how its answer is read.
pub(super) struct Planned {
    /// Whether the answer is the same whenever its transaction began.
    is_timeless: bool,
    /// Whether a text in it may become a time by the clock.
    has_moment: bool,
    /// When what is known of the statement was looked up.
    at: Instant,
    /// The text that was described.
    of: String,
    described: Arc<Described>,
    text: String,
    answer: RowsBuilder,
    characters: usize,
    rows_max: usize,
}

impl Planned {
    /// Plans a page of `statement`, which is `described`, with parameters of these `types`.
    fn new(statement: &ReadStatement, described: Arc<Described>, types: &[String], page: Page) -> Self {
        let Page { rows_max, offset } = page;
        let columns = &described.columns;
        let names = columns.iter().map(|column| (column.name.as_str(), Some(column.shown.as_str())));
        let mut answer = RowsBuilder::new(names, rows_max);
        let characters = answer.cut_before();
        let text = wrapped(&typed(statement, types), columns, characters, rows_max, offset);
        let of = statement.text().to_owned();
        let has_moment = clock::may_be_moment(&of);
        let at = Instant::now();
        Self { is_timeless: false, has_moment, at, of, described, text, answer, characters, rows_max }
    }
}

/// Returns the text of `statement` with parameters that come as text and are of these `types`, which it wants.
fn typed(statement: &ReadStatement, types: &[String]) -> String {
    statement.with_parameters(|number| match types.get(number - 1).map(String::as_str) {
        None | Some("text") => format!("${number}::text"),
        Some(name) => format!("(${number}::text::{name})"),
    })
}

/// Returns a statement that answers with the rows of `inner`: numbers and times as they are, and everything else as the text
/// that PostgreSQL itself writes.
///
/// What comes as it is has the number of its type in its name, so that a statement which the connection has prepared is
/// another one when the type is.
fn wrapped(inner: &str, columns: &[Described1], characters: usize, rows_max: usize, offset: u64) -> String {
    let names: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| match column.wire {
            Wire::Text => format!("c{index}"),
            _ => format!("c{index}_{}", column.oid),
        })
        .collect();
    let shown: Vec<String> = columns
        .iter()
        .zip(&names)
        .map(|(column, name)| match (column.wire, &column.r#type) {
            (Wire::Text, values::Type::Text) => format!("pg_catalog.\"left\"(q.{name}, {characters})"),
            // The one way to the text of any type: casts change some, and a row of NULLs is NULL to others.
            (Wire::Text, _) => format!(
                "CASE pg_catalog.num_nulls(q.{name}) WHEN 0 THEN pg_catalog.\"left\"(pg_catalog.concat(q.{name}), {characters}) END"
            ),
            _ => format!("q.{name}"),
        })
        .collect();
    format!(
        "SELECT {} FROM (\n{inner}\n) AS q ({}) LIMIT {} OFFSET {offset}",
        shown.join(", "),
        names.join(", "),
        rows_max.saturating_add(1)
    )
}

/// Returns the value of one column of a [`wrapped`] statement.
fn made<'a>(
    row: &'a PgRow,
    index: usize,
    column: &Described1,
    characters: usize,
    written: &'a mut Vec<u8>,
) -> Result<values::Made<'a>, sqlx::Error> {
    // Looked at where it is: to move it costs as much as to write most values.
    let found = row.try_get_raw(index);
    let value = match &found {
        Ok(value) => value,
        Err(_) => return found.map(|_| values::Made::Null),
    };
    if value.is_null() {
        return Ok(values::Made::Null);
    }
    match column.wire {
        Wire::Text if column.r#type == values::Type::Text => {
            Ok(values::Made::Text(value.as_bytes().map_err(sqlx::Error::Decode)?))
        }
        Wire::Text => {
            let text = value.as_str().map_err(sqlx::Error::Decode)?;
            Ok(values::cell(Some(text), &column.r#type, characters))
        }
        wire => {
            let made = wire.made(value.as_bytes().map_err(sqlx::Error::Decode)?, written);
            made.ok_or_else(|| sqlx::Error::Decode("not of the form of its type".into()))
        }
    }
}

/// Returns a value as text that PostgreSQL reads; the statement says what type it is.
fn as_text(parameter: &Parameter) -> Option<String> {
    match parameter {
        Parameter::Null => None,
        Parameter::Boolean(value) => Some(value.to_string()),
        Parameter::Integer(integer) => Some(integer.to_string()),
        Parameter::Real(real) => Some(real.to_string()),
        Parameter::Text(text) => Some(text.clone()),
        Parameter::Blob(bytes) => Some(format!("\\x{}", base64::hex(bytes))),
    }
}

/// Says what the role can do beside reading.
async fn powers(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    const POWERS: &str = "SELECT power FROM pg_roles role, LATERAL (VALUES
            ('it is a superuser', role.rolsuper),
            ('it can make roles or databases', role.rolcreaterole OR role.rolcreatedb),
            ('it can replicate', role.rolreplication),
            ('it can write files or run programs of the server', EXISTS (SELECT FROM pg_roles other
                WHERE other.rolname IN ('pg_write_server_files', 'pg_execute_server_program', 'pg_write_all_data')
                    AND pg_has_role(role.oid, other.oid, 'MEMBER'))),
            ('it can make tables', EXISTS (SELECT FROM pg_namespace
                WHERE nspname NOT LIKE 'pg\\_%' AND has_schema_privilege(role.oid, oid, 'CREATE'))),
            ('it can write tables', EXISTS (SELECT FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'f') AND oid >= 16384
                AND has_table_privilege(role.oid, oid, 'INSERT, UPDATE, DELETE, TRUNCATE')))
        ) AS asked (power, has) WHERE role.rolname = current_user AND has";
    sqlx::query_scalar(POWERS).fetch_all(connection).await
}

const CHANGED: &str = "the table was changed in this moment";

fn changed() -> Refusal {
    Refusal::failed("query_failed", CHANGED, "send the query again")
}

fn not_a_read(message: &str) -> Refusal {
    Refusal::refused("not_read_only", message, "use one plain SELECT; a change is for a person to make")
}
