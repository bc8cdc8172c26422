//! MySQL and MariaDB, read only.
//!
//! What an agent wrote reaches the server as a prepared statement only, which is one statement; before it runs, the
//! server has to take it as a subquery too, which only a read can be. The session reads only, as does its
//! transaction, which is always rolled back. Views are taken apart and judged as statements are, since they call
//! functions that a statement does not show.

#[cfg(test)]
mod alone;
mod describe;
mod masks;
mod session;
mod values;

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{anyhow, ensure};
use futures::TryStreamExt;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError};
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions, Connection as _, Either, Executor, SqlSafeStr, Statement as _, TypeInfo,
};
use tokio::sync::OwnedSemaphorePermit;
use tollgate_shared::refusal::Refusal;

use super::ahead::Waiting;
use super::early::{Leased, end_later};
use super::fresh::Fresh;
use super::lease;
use super::role::Role;
use super::{Inspected, Limits, NOT_UNDERSTOOD, Page, ServerConnections, timed_out, unavailable};
use crate::config::ConnectionConfig;
use crate::mask::{self, MaskedTables, Protection};
use crate::parameters::Parameter;
use crate::rows::{COLUMNS_MAX, More, Rows, RowsBuilder};
use crate::statement::{Cut, ReadStatement, Rules, Syntax};
use masks::Behind;

/// How strings and names are quoted has to be what the first lock takes it for.
const SQL_MODE: &str = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,IGNORE_SPACE";

/// How many statements a connection keeps prepared.
const STATEMENTS_MAX: usize = 32;

/// How many views lie behind the tables of a statement at most.
const VIEWS_MAX: usize = 100;

/// Engines that keep rows themselves; others open connections or files when they are read.
const ENGINES: [&str; 8] = ["aria", "archive", "innodb", "memory", "myisam", "myrocks", "ndbcluster", "rocksdb"];

/// A connection in a transaction that only reads.
pub(super) type Lease = lease::Lease<Mysql>;

type Query<'a> = sqlx::query::Query<'a, sqlx::MySql, sqlx::mysql::MySqlArguments>;

/// Gives a query its values.
fn bound<'a>(mut query: Query<'a>, parameters: &[Parameter]) -> Query<'a> {
    for parameter in parameters {
        query = match parameter {
            Parameter::Null => query.bind(None::<String>),
            Parameter::Boolean(value) => query.bind(*value),
            Parameter::Integer(integer) => query.bind(*integer),
            Parameter::Real(real) => query.bind(*real),
            Parameter::Text(text) => query.bind(text.clone()),
            Parameter::Blob(bytes) => query.bind(bytes.clone()),
        };
    }
    query
}

/// Makes sure that every parameter has its value.
fn takes(count: usize, parameters: &[Parameter]) -> Result<(), Refusal> {
    if count == parameters.len() {
        return Ok(());
    }
    Err(Refusal::invalid_arguments(
        format!("the statement takes {count} values, and `params` has {}", parameters.len()),
        "pass one value in `params` for each `?`, in order",
    ))
}

/// A MySQL or MariaDB server as the operator named it.
#[derive(Debug)]
pub struct Mysql {
    options: MySqlConnectOptions,
    rules: Rules,
    limits: Limits,
    waiting: Arc<Waiting<Self>>,
    role: Role,
    protection: Arc<Protection>,
    known: Fresh<BTreeSet<(Option<String>, String)>, (MaskedTables, BTreeSet<String>)>,
    described: Fresh<String, (usize, Vec<(String, String)>)>,
    /// A stored function among those that a statement calls.
    stored: Fresh<BTreeSet<String>, Option<String>>,
    opened: AtomicU64,
}

impl Mysql {
    /// Reads a URL: `mysql://user:password@host/database`.
    ///
    /// # Errors
    ///
    /// A sentence that does not repeat the URL, which may hold a password.
    pub fn new(config: &ConnectionConfig, limits: Limits, protection: Arc<Protection>) -> anyhow::Result<Self> {
        let options = MySqlConnectOptions::from_str(&config.url)
            .map_err(|_| anyhow!("`url` is no `mysql://user:password@host/database`"))?;
        ensure!(options.get_database().is_some_and(|name| !name.is_empty()), "`url` names no database");
        ensure!(
            config.schemas.is_empty() && config.allowed_functions.is_empty(),
            "`schemas` and `allowed_functions` are PostgreSQL's"
        );
        let options = options
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .timezone(Some("+00:00".to_owned()))
            .statement_cache_capacity(STATEMENTS_MAX)
            .disable_statement_logging();
        Ok(Self {
            options,
            rules: Rules::of(Syntax::Mysql),
            limits,
            waiting: Arc::default(),
            role: Role::new(config.require_read_only_role),
            protection,
            known: Fresh::default(),
            described: Fresh::default(),
            stored: Fresh::default(),
            opened: AtomicU64::new(0),
        })
    }

    /// Returns what statements are judged by.
    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Runs `statement` on a connection that was begun for as many rows as `page` needs.
    pub(super) async fn query(
        &self,
        mut lease: Lease,
        statement: &ReadStatement,
        parameters: &[Parameter],
        page: Page,
    ) -> Result<Rows, Refusal> {
        let mut answer = self.read(&mut lease, statement, parameters, page).await;
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

    async fn read(
        &self,
        lease: &mut Lease,
        statement: &ReadStatement,
        parameters: &[Parameter],
        page: Page,
    ) -> Result<Rows, Refusal> {
        let (statement, _) = self.permitted(lease, statement).await?;
        self.run(lease, &statement, parameters, page).await
    }

    /// Has the server compile `statement`, and says what it would read.
    pub(super) async fn inspect(
        self: Arc<Self>,
        slot: OwnedSemaphorePermit,
        statement: &ReadStatement,
    ) -> Result<Inspected, Refusal> {
        let mut lease = Arc::clone(&self).begin(slot, 1).await?;
        let inspected = async {
            let (masked, tables) = self.permitted(&mut lease, statement).await?;
            let (parameters, _) = self.describe(&mut lease, &masked).await?;
            Ok(Inspected {
                kind: statement.kind(),
                tables: tables.into_iter().collect(),
                columns: statement.mentions().columns_named(),
                functions: statement.functions().iter().cloned().collect(),
                parameters,
                warnings: statement.warnings().to_vec(),
            })
        }
        .await;
        lease.end().await;
        inspected
    }

    /// Returns how many connections there are.
    pub(super) fn connections(&self) -> ServerConnections {
        ServerConnections { idle: self.waiting.len(), opened: self.opened.load(Ordering::Relaxed) }
    }

    /// Returns whether a connection waits for a query.
    pub(super) fn has_idle(&self) -> bool {
        self.waiting.len() > 0
    }

    /// Opens a transaction that only reads, in a session of a role that may be used; no query in it has more rows than these.
    ///
    /// It may have been begun a moment before: here the time of a query is when the query begins.
    pub(super) async fn begin(self: Arc<Self>, slot: OwnedSemaphorePermit, rows_max: usize) -> Result<Lease, Refusal> {
        self.role.permit(Lease::take_or_begin(&self, slot, rows_max).await?).await
    }

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
        let (count, columns) = &*described;
        takes(*count, parameters)?;
        let mut answer =
            RowsBuilder::new(columns.iter().map(|(name, known)| (name.as_str(), Some(known.as_str()))), page.rows_max);
        // Prepared once for each connection: the server prepares it anew when a table is another one meanwhile, and sends the
        // columns with every answer.
        let query = bound(sqlx::query(AssertSqlSafe(statement.text().to_owned())), parameters);
        let mut before = page.offset;
        let mut count = 0;
        let mut full = false;
        let mut kinds = Vec::new();
        let mut written = Vec::new();
        {
            let mut rows = lease.connection().fetch(query);
            while let Some(row) = rows.try_next().await.map_err(|error| self.refusal(&error))? {
                if before > 0 {
                    before -= 1;
                    continue;
                }
                if kinds.is_empty() {
                    kinds = values::Kind::of_row(&row);
                }
                if kinds.len() != columns.len() {
                    self.described.forget(statement.text());
                    return Err(changed());
                }
                count += 1;
                let more = answer.row(|values| {
                    kinds.iter().enumerate().try_for_each(|(index, kind)| {
                        values.cell(values::made(&row, index, *kind, &mut written)?.cell());
                        Ok(())
                    })
                });
                if more.map_err(|error| self.refusal(&error))? == More::Full {
                    // Whatever ends the answer is read, so that the connection can be used again, unless there are more rows: a
                    // LIMIT of the statement's own is not ours.
                    full = count <= page.rows_max
                        || rows.try_next().await.map_err(|error| self.refusal(&error))?.is_some();
                    break;
                }
            }
        }
        if full {
            lease.abandon();
        }
        Ok(answer.finish())
    }

    /// Has the server say how many values a statement takes and which columns it has; runs nothing.
    async fn describe(
        &self,
        lease: &mut Lease,
        statement: &ReadStatement,
    ) -> Result<(usize, Vec<(String, String)>), Refusal> {
        // What is kept prepared is described as it was then; the server is asked.
        let cleared = lease.connection().clear_cached_statements().await;
        cleared.map_err(|error| self.refusal(&error))?;
        let subquery = format!("SELECT 1 FROM DUAL WHERE EXISTS (\n{}\n)", statement.text());
        for text in [subquery, statement.text().to_owned()] {
            let prepared = lease.connection().prepare(AssertSqlSafe(text).into_sql_str()).await;
            let prepared = prepared.map_err(|error| self.refusal(&error))?;
            let parameters = match prepared.parameters() {
                Some(Either::Right(count)) => count,
                Some(Either::Left(types)) => types.len(),
                None => 0,
            };
            let columns: Vec<(String, String)> = prepared
                .columns()
                .iter()
                .map(|column| (column.name().to_owned(), column.type_info().name().to_ascii_lowercase()))
                .collect();
            if columns.is_empty() {
                return Err(not_a_read("the server does not take the statement for a read"));
            }
            if columns.len() > COLUMNS_MAX {
                return Err(Refusal::refused(
                    "too_many_columns",
                    format!("the answer has {} columns; at most {COLUMNS_MAX} are shown", columns.len()),
                    "name the columns that are needed",
                ));
            }
            if prepared.sql().as_str() == statement.text() {
                return Ok((parameters, columns));
            }
        }
        Err(not_a_read("the server does not take the statement for a read"))
    }

    /// Takes the views that a statement reads apart; returns it with its masked columns replaced, and every table.
    async fn permitted(
        &self,
        lease: &mut Lease,
        statement: &ReadStatement,
    ) -> Result<(ReadStatement, BTreeSet<String>), Refusal> {
        let known = match self.known.get(statement.relations()) {
            Some(known) => known,
            None => {
                let found = self.looked_up(lease, statement).await?;
                self.known.keep(statement.relations().clone(), found)
            }
        };
        self.permit_functions(lease, statement).await?;
        let masked = mask::masked(statement, &known.0, Syntax::Mysql)?;
        Ok((masked, known.1.clone()))
    }

    /// Makes sure that no function of `statement` is a stored one: a server calls one where it has none of its own by that name, and
    /// which it has differs from version to version.
    async fn permit_functions(&self, lease: &mut Lease, statement: &ReadStatement) -> Result<(), Refusal> {
        const STORED: &str = "SELECT CAST(ROUTINE_NAME AS CHAR) FROM information_schema.ROUTINES
            WHERE ROUTINE_SCHEMA = DATABASE() AND ROUTINE_TYPE = 'FUNCTION' AND FIND_IN_SET(LOWER(ROUTINE_NAME), LOWER(?)) > 0 LIMIT 1";
        let named = statement.functions();
        if named.is_empty() {
            return Ok(());
        }
        let stored = match self.stored.get(named) {
            Some(known) => known,
            None => {
                let names: Vec<&str> = named.iter().map(String::as_str).collect();
                let asked = sqlx::query_scalar(STORED).bind(names.join(","));
                let found: Option<String> =
                    asked.fetch_optional(lease.connection()).await.map_err(|error| self.refusal(&error))?;
                self.stored.keep(named.clone(), found)
            }
        };
        match stored.as_ref() {
            None => Ok(()),
            Some(name) => Err(Refusal::refused(
                "function_not_allowed",
                format!("the function `{name}` is a stored one, which is not known to do no more than compute"),
                "do without it",
            )),
        }
    }

    /// Asks the catalogue for the tables of a statement, and for those behind its views.
    async fn looked_up(
        &self,
        lease: &mut Lease,
        statement: &ReadStatement,
    ) -> Result<(MaskedTables, BTreeSet<String>), Refusal> {
        const TABLE: &str =
            "SELECT CAST(t.TABLE_SCHEMA AS CHAR), CAST(t.TABLE_NAME AS CHAR), LOWER(t.ENGINE), t.TABLE_TYPE,
                CAST(v.VIEW_DEFINITION AS CHAR)
            FROM information_schema.TABLES t LEFT JOIN information_schema.VIEWS v
                ON v.TABLE_SCHEMA = t.TABLE_SCHEMA AND v.TABLE_NAME = t.TABLE_NAME
            WHERE t.TABLE_SCHEMA = COALESCE(?, DATABASE()) AND t.TABLE_NAME = ?";
        type Found = (String, String, Option<String>, String, Option<String>);
        let named = statement.relations();
        let mut pending: Vec<(Option<String>, String)> = named.iter().cloned().collect();
        let mut seen = BTreeSet::new();
        let mut tables = BTreeSet::new();
        let mut behind_names = Behind::default();
        while let Some(called) = pending.pop() {
            let (schema, name) = called.clone();
            let of_the_server =
                schema.as_deref().is_some_and(|schema| schema.eq_ignore_ascii_case("information_schema"));
            if of_the_server && named.contains(&called) {
                self.protection.permit_catalogue("information_schema", &name)?;
            }
            if of_the_server || !seen.insert(called.clone()) {
                continue;
            }
            if seen.len() > VIEWS_MAX {
                return Err(Refusal::refused(
                    "too_complex",
                    "too many views lie behind it",
                    "read the tables themselves",
                ));
            }
            let found: Option<Found> = sqlx::query_as(TABLE)
                .bind(&schema)
                .bind(&name)
                .fetch_optional(lease.connection())
                .await
                .map_err(|error| self.refusal(&error))?;
            // The name of a common table expression, or one that the server will not find either.
            let Some((schema, name, engine, kind, definition)) = found else { continue };
            let is_named = named.contains(&called);
            if is_named {
                self.protection.permit_table(&schema, &name)?;
            } else {
                self.protection.permit_behind(&schema, &name)?;
            }
            tables.insert(name.clone());
            let key = (schema.clone(), name.clone());
            behind_names
                .note(lease.connection(), is_named.then_some(called), key.clone(), &self.protection)
                .await
                .map_err(|error| self.refusal(&error))?;
            if kind == "VIEW" {
                let view = definition.filter(|text| !text.is_empty()).ok_or_else(|| hidden(&name))?;
                let cut = Cut::of(view, Syntax::Mysql).map_err(|refusal| behind(&name, &refusal))?;
                let view = super::judged(cut, &self.rules).await.map_err(|refusal| behind(&name, &refusal))?;
                let reads: Vec<(String, String)> = view
                    .relations()
                    .iter()
                    .map(|(inner, table)| (inner.clone().unwrap_or_else(|| schema.clone()), table.clone()))
                    .collect();
                pending.extend(reads.iter().map(|(schema, table)| (Some(schema.clone()), table.clone())));
                behind_names.note_view(key, &view, reads);
            } else if !engine.as_deref().is_some_and(|engine| ENGINES.contains(&engine)) {
                return Err(Refusal::refused(
                    "table_not_allowed",
                    format!("`{name}` is kept by an engine that may open a connection or a file when it is read"),
                    "read another table",
                ));
            }
        }
        Ok((behind_names.masked()?, tables))
    }

    /// Says what went wrong, without where the server is and who asks.
    fn refusal(&self, error: &sqlx::Error) -> Refusal {
        let number = match error {
            sqlx::Error::Database(database) => {
                database.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
            }
            _ => None,
        };
        let (Some(number), sqlx::Error::Database(database)) = (number, error) else {
            tracing::debug!(%error, "a database cannot be reached");
            return unavailable(if matches!(error, sqlx::Error::Io(_)) { lease::GONE } else { NOT_UNDERSTOOD });
        };
        let message: String = database.message().chars().take(300).collect();
        match number {
            1317 | 1969 | 3024 => timed_out(self.limits.timeout),
            1205 | 1213 => {
                Refusal::failed("database_busy", "somebody holds a lock on what would be read", "try again later")
            }
            1290 | 1295 | 1792 => not_a_read(&format!("the server does not take it for a read: {message}")),
            1044 | 1045 | 1049 | 1698 => unavailable("the server does not let this role in"),
            1040 | 1203 | 1226 => unavailable("the server has too many connections"),
            1053 | 1077 => unavailable("the server is not ready"),
            1927 => unavailable(lease::GONE),
            // These name the user and the host.
            1142 | 1143 | 1227 | 1370 => Refusal::failed(
                "query_failed",
                "the role of this connection may not read it",
                "ask the operator, or read another table",
            ),
            1037 | 1038 | 1041 | 1114 => Refusal::failed(
                "memory_limit",
                "the query needs more memory or space than the server has",
                "sort, group or join fewer rows at once",
            ),
            _ => Refusal::failed(
                "query_failed",
                message,
                "correct the statement; list_tables shows the tables, and values go into `params`",
            ),
        }
    }
}

/// Says what the role can do beside reading.
async fn powers(connection: &mut MySqlConnection) -> Result<Vec<String>, sqlx::Error> {
    const POWERS: &str = "SELECT DISTINCT CAST(PRIVILEGE_TYPE AS CHAR) FROM (
            SELECT GRANTEE, PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES
            UNION SELECT GRANTEE, PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES
            UNION SELECT GRANTEE, PRIVILEGE_TYPE FROM information_schema.TABLE_PRIVILEGES) granted
        WHERE GRANTEE = CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''')
            AND PRIVILEGE_TYPE NOT IN ('USAGE', 'SELECT', 'SHOW VIEW', 'SHOW DATABASES', 'PROCESS') ORDER BY 1";
    sqlx::query_scalar(POWERS).fetch_all(connection).await
}

fn changed() -> Refusal {
    Refusal::failed("query_failed", "the table was changed in this moment", "send the query again")
}

fn hidden(view: &str) -> Refusal {
    Refusal::refused(
        "table_not_allowed",
        format!("what lies behind the view `{view}` is not shown to the role of this connection"),
        "read the tables themselves, or have the operator grant SHOW VIEW",
    )
}

fn behind(view: &str, refusal: &Refusal) -> Refusal {
    Refusal::refused(
        refusal.code,
        format!("behind the view `{view}`: {}", refusal.message),
        "read the tables themselves instead",
    )
}

fn not_a_read(message: &str) -> Refusal {
    Refusal::refused("not_read_only", message, "use one plain SELECT; a change is for a person to make")
}
