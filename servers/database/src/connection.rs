//! The databases that agents may read, each by its name.
//!
//! A [`Connection`] bounds how many queries run at once and how long. SQLite works on a thread of its own for each
//! query, servers are asked over the network: an answer comes even while an engine is still busy giving up.

pub mod mysql;
pub mod postgres;
pub mod sqlite;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::Call;

use crate::config::{ConnectionConfig, DatabaseConfig};
use crate::parameters::Parameter;
use crate::rows::Rows;
use crate::statement::{ReadStatement, Rules, Syntax};
use mysql::Mysql;
use postgres::Postgres;
use sqlite::SqliteFile;
use sqlite::watch::Watch;

/// How many queries of one database run at once: enough to go on working while one is slow, few enough for their
/// memory to be bounded.
const QUERIES_MAX: usize = 4;

/// Stack of the thread that judges and runs a statement. Trees as deep as the lexer lets through need a part of it;
/// only what is used is ever taken.
pub const STACK_BYTES: usize = 16 * 1024 * 1024;

/// How long an engine has to notice that its time is up.
const GRACE: Duration = Duration::from_millis(500);

const NAME_BYTES_MAX: usize = 64;
const ROWS_MAX: u32 = 10_000;
const TIMEOUT_MS_MAX: u32 = 50_000;

/// The databases by name.
#[derive(Debug)]
pub struct Connections(BTreeMap<String, Arc<Connection>>);

/// One database with its limits.
#[derive(Debug)]
pub struct Connection {
    /// The name that agents use.
    pub name: String,
    /// How many rows an answer has at most.
    pub max_rows: usize,
    /// How long a query may run.
    pub timeout: Duration,
    engine: Arc<Engine>,
    slots: Arc<Semaphore>,
}

/// The engines that can be read.
#[derive(Debug)]
enum Engine {
    Sqlite(SqliteFile),
    Postgres(Arc<Postgres>),
    Mysql(Arc<Mysql>),
}

/// How much a query may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long it may run.
    pub timeout: Duration,
}

/// A table or view.
#[derive(Debug)]
pub struct TableEntry {
    /// Its name.
    pub name: String,
    /// `table`, `view` or `virtual`.
    pub kind: String,
    /// How many columns it has.
    pub columns: usize,
}

/// What an engine says of a statement that it has compiled and not run.
#[derive(Debug)]
pub struct Inspected {
    /// `select` or `values`.
    pub kind: &'static str,
    /// The tables that are read, those behind views too.
    pub tables: Vec<String>,
    /// The functions that are called, those in views too.
    pub functions: Vec<String>,
    /// How many values it takes.
    pub parameters: usize,
}

impl Connections {
    /// Turns the configuration into databases; opens none of them.
    ///
    /// # Errors
    ///
    /// Names the key that cannot be relied on, and never repeats a URL.
    pub fn new(config: &DatabaseConfig, workspace: &Path) -> anyhow::Result<Self> {
        let mut connections = BTreeMap::new();
        for (name, connection) in &config.connections {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            ensure!(
                !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(plain),
                "`database.connections` has a name other than 1 to {NAME_BYTES_MAX} letters, digits, `_` and `-`"
            );
            let made = Connection::new(name, connection, workspace)
                .with_context(|| format!("`database.connections.{name}` cannot be used"))?;
            connections.insert(name.clone(), Arc::new(made));
        }
        Ok(Self(connections))
    }

    /// Returns the databases in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.0.values().map(AsRef::as_ref)
    }

    /// Returns the database `name`, or the only one when there is no name.
    ///
    /// # Errors
    ///
    /// `no_database` when none is configured, `unknown_database` when the name does not say which.
    pub fn pick(&self, name: Option<&str>) -> Result<Arc<Connection>, Refusal> {
        if self.0.is_empty() {
            return Err(Refusal::refused(
                "no_database",
                "no database is configured",
                "have the operator add [database.connections.<name>] with a url to tollgate.toml",
            ));
        }
        let names = || self.0.keys().take(20).map(String::as_str).collect::<Vec<_>>().join(", ");
        match name {
            Some(name) => self.0.get(name).map(Arc::clone).ok_or_else(|| {
                let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
                Refusal::refused(
                    "unknown_database",
                    format!("there is no database {shown:?}"),
                    format!("there are: {}", names()),
                )
            }),
            None => match self.0.values().collect::<Vec<_>>().as_slice() {
                [only] => Ok(Arc::clone(only)),
                _ => Err(Refusal::refused(
                    "unknown_database",
                    "there are several databases, and `database` does not say which",
                    format!("pass `database`: {}", names()),
                )),
            },
        }
    }
}

impl Connection {
    fn new(name: &str, config: &ConnectionConfig, workspace: &Path) -> anyhow::Result<Self> {
        ensure!((1..=ROWS_MAX).contains(&config.max_rows), "`max_rows` must be from 1 to {ROWS_MAX}");
        ensure!((1..=TIMEOUT_MS_MAX).contains(&config.timeout_ms), "`timeout_ms` must be from 1 to {TIMEOUT_MS_MAX}");
        let timeout = Duration::from_millis(u64::from(config.timeout_ms));
        let is_postgres = ["postgres://", "postgresql://"].iter().any(|scheme| config.url.starts_with(scheme));
        let engine = if is_postgres {
            Engine::Postgres(Arc::new(Postgres::new(config, Limits { timeout })?))
        } else if ["mysql://", "mariadb://"].iter().any(|scheme| config.url.starts_with(scheme)) {
            Engine::Mysql(Arc::new(Mysql::new(config, Limits { timeout })?))
        } else {
            ensure!(
                config.allowed_functions.is_empty() && config.schemas.is_empty(),
                "SQLite has no such functions and schemas"
            );
            Engine::Sqlite(SqliteFile::new(&config.url, workspace)?)
        };
        Ok(Self {
            name: name.to_owned(),
            max_rows: usize::try_from(config.max_rows)?,
            timeout,
            engine: Arc::new(engine),
            slots: Arc::new(Semaphore::new(QUERIES_MAX)),
        })
    }

    /// Returns the name of the engine: `sqlite`, `postgresql` or `mysql`.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        match *self.engine {
            Engine::Sqlite(_) => "sqlite",
            Engine::Postgres(_) => "postgresql",
            Engine::Mysql(_) => "mysql",
        }
    }

    /// Runs `sql` if it is one statement that only reads.
    ///
    /// # Errors
    ///
    /// What the statement's text or the engine refuses it for.
    pub async fn query(
        &self,
        call: &Call,
        sql: String,
        parameters: Vec<Parameter>,
        rows_max: usize,
    ) -> Result<Rows, Refusal> {
        let rows_max = rows_max.min(self.max_rows);
        if let Engine::Postgres(server) = &*self.engine {
            let slot = self.slot().await?;
            let server = Arc::clone(server);
            return self
                .bounded(async {
                    let statement = judged(sql, server.rules().clone()).await?;
                    server.query(slot, &statement, &parameters, rows_max).await
                })
                .await;
        }
        if let Engine::Mysql(server) = &*self.engine {
            let slot = self.slot().await?;
            let server = Arc::clone(server);
            return self
                .bounded(async {
                    let statement = judged(sql, server.rules().clone()).await?;
                    server.query(slot, &statement, &parameters, rows_max).await
                })
                .await;
        }
        self.run(call, move |file, watch| {
            let statement = ReadStatement::check(&sql, &Rules::of(Syntax::Sqlite))?;
            file.query(&statement, &parameters, rows_max, watch)
        })
        .await
    }

    /// Judges `sql` and has the engine compile it, without running it.
    ///
    /// # Errors
    ///
    /// What a query would be refused for.
    pub async fn inspect(&self, call: &Call, sql: String) -> Result<Inspected, Refusal> {
        if let Engine::Postgres(server) = &*self.engine {
            let slot = self.slot().await?;
            let server = Arc::clone(server);
            return self
                .bounded(async {
                    let statement = judged(sql, server.rules().clone()).await?;
                    server.inspect(slot, &statement).await
                })
                .await;
        }
        if let Engine::Mysql(server) = &*self.engine {
            let slot = self.slot().await?;
            let server = Arc::clone(server);
            return self
                .bounded(async {
                    let statement = judged(sql, server.rules().clone()).await?;
                    server.inspect(slot, &statement).await
                })
                .await;
        }
        self.run(call, move |file, watch| {
            let statement = ReadStatement::check(&sql, &Rules::of(Syntax::Sqlite))?;
            file.inspect(&statement, watch)
        })
        .await
    }

    /// Returns up to `limit` tables and views in the order of their names, those after `after`.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn tables(&self, call: &Call, after: String, limit: usize) -> Result<Vec<TableEntry>, Refusal> {
        if let Engine::Postgres(server) = &*self.engine {
            let slot = self.slot().await?;
            return self.bounded(Arc::clone(server).tables(slot, &after, limit)).await;
        }
        if let Engine::Mysql(server) = &*self.engine {
            let slot = self.slot().await?;
            return self.bounded(Arc::clone(server).tables(slot, &after, limit)).await;
        }
        self.run(call, move |file, watch| file.tables(&after, limit, watch)).await
    }

    /// Waits for one of the few places at the engine.
    async fn slot(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        match timeout(self.timeout, Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(busy()),
        }
    }

    /// Bounds work at a server, which stops what is given up.
    async fn bounded<T>(&self, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        match timeout(self.timeout + GRACE, work).await {
            Ok(result) => result,
            Err(_) => Err(timed_out(self.timeout)),
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        call: &Call,
        work: impl FnOnce(&SqliteFile, &Watch) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let slot = self.slot().await?;
        let (done, answer) = oneshot::channel();
        let engine = Arc::clone(&self.engine);
        let watch = Watch::new(self.timeout, call.cancelled().clone());
        let spawned = thread::Builder::new().name("query".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            let result = match &*engine {
                Engine::Sqlite(file) => work(file, &watch),
                Engine::Postgres(_) | Engine::Mysql(_) => Err(stopped()),
            };
            // Held until the engine is really done, so that no more than the bound ever run.
            drop(slot);
            let _ = done.send(result);
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for a query");
            return Err(busy());
        }
        match timeout(self.timeout + GRACE, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(timed_out(self.timeout)),
        }
    }
}

/// Judges a statement on a thread with a stack that is deep enough for any that the lexer lets through.
async fn judged(sql: String, rules: Rules) -> Result<ReadStatement, Refusal> {
    let (done, answer) = oneshot::channel();
    let judge = move || drop(done.send(ReadStatement::check(&sql, &rules)));
    let spawned = thread::Builder::new().name("judge".to_owned()).stack_size(STACK_BYTES).spawn(judge);
    if let Err(error) = spawned {
        tracing::error!(%error, "no thread for a statement");
        return Err(busy());
    }
    answer.await.unwrap_or_else(|_| Err(stopped()))
}

fn stopped() -> Refusal {
    Refusal::failed("internal_error", "the query stopped unexpectedly", "report this as a bug, with the statement")
}

fn busy() -> Refusal {
    Refusal::failed("database_busy", "too many queries of this database are running", "wait until they have finished")
}

fn timed_out(limit: Duration) -> Refusal {
    Refusal::failed(
        "timeout",
        format!("the query was stopped after {} ms", limit.as_millis()),
        "narrow it with WHERE or LIMIT, or read fewer tables at once",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(names: &[&str], url: &str) -> anyhow::Result<Connections> {
        let connection = configured(url, 1, 1);
        let connections = names.iter().map(|name| ((*name).to_owned(), connection.clone())).collect();
        Connections::new(&DatabaseConfig { connections }, Path::new("/work"))
    }

    fn configured(url: &str, max_rows: u32, timeout_ms: u32) -> ConnectionConfig {
        ConnectionConfig {
            url: url.to_owned(),
            max_rows,
            timeout_ms,
            schemas: Vec::new(),
            allowed_functions: Vec::new(),
            require_read_only_role: false,
        }
    }

    fn code(result: Result<Arc<Connection>, Refusal>) -> &'static str {
        result.map_or_else(|refusal| refusal.code, |_| "ok")
    }

    #[test]
    fn the_only_database_needs_no_name() {
        let one = connections(&["shop"], "sqlite:shop.db").unwrap();
        assert_eq!(code(one.pick(None)), "ok");
        assert_eq!(code(one.pick(Some("shop"))), "ok");
        assert_eq!(code(one.pick(Some("Shop"))), "unknown_database");
        let two = connections(&["shop", "stock"], "sqlite:shop.db").unwrap();
        let refusal = two.pick(None).unwrap_err();
        assert_eq!(refusal.code, "unknown_database");
        assert!(refusal.hint.contains("shop, stock"));
        assert_eq!(code(connections(&[], "").unwrap().pick(Some("x"))), "no_database");
    }

    #[test]
    fn configuration_that_cannot_be_relied_on_is_an_error() {
        for url in [
            "",
            "shop.db",
            "postgres://u:hunter2@h:x/d",
            "mysqlx://u:hunter2@h/d",
            "sqlite:",
            "sqlite::memory:",
            "sqlite:a.db?mode=rwc",
            "sqlite:a\0",
        ] {
            let error = format!("{:#}", connections(&["shop"], url).unwrap_err());
            assert!(error.contains("`database.connections.shop`") && !error.contains("hunter2"), "{error}");
        }
        for name in ["", "a b", "a.b", "é", &"x".repeat(65)] {
            assert!(connections(&[name], "sqlite:a.db").is_err(), "{name}");
        }
        let limits = |max_rows, timeout_ms| {
            let config = configured("sqlite:a.db", max_rows, timeout_ms);
            Connection::new("a", &config, Path::new("/work")).is_ok()
        };
        assert!(limits(1, 1) && limits(ROWS_MAX, TIMEOUT_MS_MAX));
        assert!(!limits(0, 1) && !limits(1, 0) && !limits(ROWS_MAX + 1, 1) && !limits(1, TIMEOUT_MS_MAX + 1));
    }
}
