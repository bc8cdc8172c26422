//! The databases that agents may read, each by its name.
//!
//! A [`Connection`] bounds how many queries run at once and how long. SQLite works on a thread of its own for each
//! query, servers are asked over the network: an answer comes even while an engine is still busy giving up.

pub mod mysql;
pub mod postgres;
pub mod sqlite;

mod ahead;
mod busy_poll;
mod digits;
mod early;
mod fresh;
mod judging;
mod lease;
mod prepare;
mod role;
mod statistics;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::Call;

use crate::cache::Cache;
use crate::config::{ConnectionConfig, DatabaseConfig};
use crate::mask::Protection;
use crate::parameters::Parameter;
use crate::rows::Rows;
use crate::schema::{Plan, TableEntry, TableSchema};
use crate::statement::{Rules, Syntax, Warning};
use busy_poll::BusyPoll;
use early::{Early, Leased};
pub use judging::STACK_BYTES;
use judging::{Judge, judged, on_deep_stack};
use mysql::Mysql;
use postgres::Postgres;
use prepare::{Prepare, Ready};
use sqlite::SqliteFile;
use sqlite::watch::Watch;
use statistics::Counters;
pub use statistics::{PoolStatistics, ServerConnections};
use tollgate_shared::content_hash::ContentHash;

/// How many queries of one database run at once: enough to go on working while one is slow, few enough for their
/// memory to be bounded.
const QUERIES_MAX: usize = 4;

/// How long an engine has to notice that its time is up.
const GRACE: Duration = Duration::from_millis(500);

/// Why a database cannot be read whose server answers otherwise than its protocol has it.
const NOT_UNDERSTOOD: &str = "what the server answers is not understood";

/// Longest that an answer is given again.
const CACHE_MS_MAX: u32 = 600_000;

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
    protection: Arc<Protection>,
    cache: Arc<Cache<Rows>>,
    counters: Counters,
    busy_poll: BusyPoll,
    judge: Arc<Judge>,
}

/// The engines that can be read.
#[derive(Debug)]
enum Engine {
    Sqlite(Arc<SqliteFile>),
    Postgres(Arc<Postgres>),
    Mysql(Arc<Mysql>),
}

/// How much a query may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long it may run.
    pub timeout: Duration,
}

/// Which of its rows a query answers with.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// How many at most.
    pub rows_max: usize,
    /// How many are left out before.
    pub offset: u64,
}

impl Page {
    /// Returns how many rows the engine has to find: those before, those of the page, and one to see whether there are more.
    fn end(self) -> usize {
        self.rows_max.saturating_add(1).saturating_add(usize::try_from(self.offset).unwrap_or(usize::MAX))
    }
}

/// Turns the digest of a statement and its values into the position where its answer begins.
pub type Position = Box<dyn FnOnce(&ContentHash) -> Result<u64, Refusal> + Send>;

/// What a query answers.
#[derive(Debug)]
pub struct Queried {
    /// The rows.
    pub rows: Arc<Rows>,
    /// Whether they were there already.
    pub cached: bool,
    /// What in the statement looks as if it was put together from values.
    pub warnings: Vec<Warning>,
    /// Whether the statement says in which order its rows come.
    pub is_sorted: bool,
    /// Identifies the statement and its values.
    pub digest: ContentHash,
    /// How many rows were left out before.
    pub offset: u64,
}

/// What an engine says of a statement that it has compiled and not run.
#[derive(Debug)]
pub struct Inspected {
    /// `select` or `values`.
    pub kind: &'static str,
    /// The tables that are read, those behind views too.
    pub tables: Vec<String>,
    /// The columns that the statement names, as it writes them.
    pub columns: Vec<String>,
    /// The functions that are called, those in views too.
    pub functions: Vec<String>,
    /// How many values it takes.
    pub parameters: usize,
    /// What in it looks as if it was put together from values.
    pub warnings: Vec<Warning>,
}

/// How often a list of tables is asked for more when most of them may not be read.
const LISTS_MAX: usize = 20;

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
        ensure!(config.cache_ms <= CACHE_MS_MAX, "`cache_ms` must be at most {CACHE_MS_MAX}");
        let protection = Protection::new(&config.masked_columns, &config.tables.allow, &config.tables.deny)
            .context("`masked_columns` or `tables` cannot be used")?;
        let protection = Arc::new(protection);
        let timeout = Duration::from_millis(u64::from(config.timeout_ms));
        let is_postgres = ["postgres://", "postgresql://"].iter().any(|scheme| config.url.starts_with(scheme));
        let engine = if is_postgres {
            Engine::Postgres(Arc::new(Postgres::new(config, Limits { timeout }, Arc::clone(&protection))?))
        } else if ["mysql://", "mariadb://"].iter().any(|scheme| config.url.starts_with(scheme)) {
            Engine::Mysql(Arc::new(Mysql::new(config, Limits { timeout }, Arc::clone(&protection))?))
        } else {
            ensure!(
                config.allowed_functions.is_empty() && config.schemas.is_empty(),
                "SQLite has no such functions and schemas"
            );
            Engine::Sqlite(Arc::new(SqliteFile::new(&config.url, workspace, Arc::clone(&protection))?))
        };
        let rules = match &engine {
            Engine::Postgres(server) => server.rules().clone(),
            Engine::Mysql(server) => server.rules().clone(),
            Engine::Sqlite(_) => Rules::of(Syntax::Sqlite),
        };
        Ok(Self {
            name: name.to_owned(),
            max_rows: usize::try_from(config.max_rows)?,
            timeout,
            engine: Arc::new(engine),
            slots: Arc::new(Semaphore::new(QUERIES_MAX)),
            protection,
            cache: Arc::new(Cache::new(Duration::from_millis(u64::from(config.cache_ms)))),
            counters: Counters::default(),
            busy_poll: BusyPoll::default(),
            judge: Arc::new(Judge::new(rules)),
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

    /// Returns whose SQL it takes.
    #[must_use]
    pub fn syntax(&self) -> Syntax {
        match *self.engine {
            Engine::Sqlite(_) => Syntax::Sqlite,
            Engine::Postgres(_) => Syntax::Postgres,
            Engine::Mysql(_) => Syntax::Mysql,
        }
    }

    /// Runs `sql` if it is one statement that only reads, and answers from `position` on, or from the first row.
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
        position: Option<Position>,
    ) -> Result<Queried, Refusal> {
        let rows_max = rows_max.min(self.max_rows);
        let result = self.busy_poll.wait(self.queried(call, sql, parameters, rows_max, position)).await;
        self.counters.count(&result);
        result
    }

    async fn queried(
        &self,
        call: &Call,
        sql: String,
        parameters: Vec<Parameter>,
        rows_max: usize,
        position: Option<Position>,
    ) -> Result<Queried, Refusal> {
        let started = Instant::now();
        let prepare = Prepare { name: self.name.clone(), cache: Arc::clone(&self.cache), rows_max, started };
        match &*self.engine {
            Engine::Postgres(server) => {
                self.bounded(async {
                    let text = self.judge.read(sql)?;
                    let begin = |slot| Arc::clone(server).begin_query(slot);
                    let early = self.early(server.has_idle() && text.is_small(), begin).await;
                    let statement = self.judge.judged(text).await?;
                    let ready = prepare.ready(&statement, &parameters, position)?;
                    let Ready::Ask(ask) = ready else { return ready.answer() };
                    // While the transaction begins.
                    let planned = server.plan_known(&statement, &parameters, ask.page);
                    let lease = match early {
                        Some(early) => early.lease().await?,
                        None => Arc::clone(server).begin_query(self.slot().await?).await?,
                    };
                    let rows = server.query(lease, &statement, &parameters, ask.page, planned).await?;
                    Ok(ask.answer(rows))
                })
                .await
            }
            Engine::Mysql(server) => {
                self.bounded(async {
                    let text = self.judge.read(sql)?;
                    // How many rows the server answers with is told at the beginning.
                    let first = Page { rows_max, offset: 0 };
                    let begin = |slot| Arc::clone(server).begin(slot, first.end());
                    let early = self.early(server.has_idle() && position.is_none() && text.is_small(), begin).await;
                    let statement = self.judge.judged(text).await?;
                    let ready = prepare.ready(&statement, &parameters, position)?;
                    let Ready::Ask(ask) = ready else { return ready.answer() };
                    let lease = match early {
                        Some(early) => early.lease().await?,
                        None => Arc::clone(server).begin(self.slot().await?, ask.page.end()).await?,
                    };
                    let rows = server.query(lease, &statement, &parameters, ask.page).await?;
                    Ok(ask.answer(rows))
                })
                .await
            }
            Engine::Sqlite(_) => {
                let judge = Arc::clone(&self.judge);
                self.run(call, move |file, watch| {
                    let statement = judge.judged_here(sql)?;
                    let ready = prepare.ready(&statement, &parameters, position)?;
                    let Ready::Ask(ask) = ready else { return ready.answer() };
                    let rows = file.query(&statement, &parameters, ask.page, watch)?;
                    Ok(ask.answer(rows))
                })
                .await
            }
        }
    }

    /// Judges `sql` and has the engine compile it, without running it.
    ///
    /// # Errors
    ///
    /// What a query would be refused for.
    pub async fn inspect(&self, call: &Call, sql: String) -> Result<Inspected, Refusal> {
        match &*self.engine {
            Engine::Postgres(server) => {
                self.bounded(async {
                    let statement = self.judge.judged(self.judge.read(sql)?).await?;
                    Arc::clone(server).inspect(self.slot().await?, &statement).await
                })
                .await
            }
            Engine::Mysql(server) => {
                self.bounded(async {
                    let statement = self.judge.judged(self.judge.read(sql)?).await?;
                    Arc::clone(server).inspect(self.slot().await?, &statement).await
                })
                .await
            }
            Engine::Sqlite(_) => {
                let judge = Arc::clone(&self.judge);
                self.run(call, move |file, watch| {
                    let statement = judge.judged_here(sql)?;
                    file.inspect(&statement, watch)
                })
                .await
            }
        }
    }

    /// Asks the engine how it would run `sql`, and does not run it.
    ///
    /// # Errors
    ///
    /// What a query would be refused for.
    pub async fn explain(&self, call: &Call, sql: String, parameters: Vec<Parameter>) -> Result<Plan, Refusal> {
        match &*self.engine {
            Engine::Postgres(server) => {
                self.bounded(async {
                    let statement = self.judge.judged(self.judge.read(sql)?).await?;
                    Arc::clone(server).explain(self.slot().await?, &statement, &parameters).await
                })
                .await
            }
            Engine::Mysql(server) => {
                self.bounded(async {
                    let statement = self.judge.judged(self.judge.read(sql)?).await?;
                    Arc::clone(server).explain(self.slot().await?, &statement, &parameters).await
                })
                .await
            }
            Engine::Sqlite(_) => {
                let judge = Arc::clone(&self.judge);
                self.run(call, move |file, watch| {
                    let statement = judge.judged_here(sql)?;
                    file.explain(&statement, &parameters, watch)
                })
                .await
            }
        }
    }

    /// Returns up to `limit` tables and views that may be read, in the order of their names, those after `after`;
    /// with `search`, those that have it in their name, their comment or the name of a column.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn tables(
        &self,
        call: &Call,
        mut after: String,
        limit: usize,
        search: &str,
    ) -> Result<Vec<TableEntry>, Refusal> {
        let mut tables = Vec::new();
        for _ in 0..LISTS_MAX {
            let batch = self.tables_from_engine(call, after.clone(), limit, search.to_owned()).await?;
            let is_last = batch.len() < limit;
            let Some(last) = batch.last() else { break };
            after = last.name.clone();
            tables.extend(batch.into_iter().filter(|table| self.protection.allows(&table.schema, &table.plain_name)));
            if is_last || tables.len() >= limit {
                break;
            }
        }
        tables.truncate(limit);
        Ok(tables)
    }

    async fn tables_from_engine(
        &self,
        call: &Call,
        after: String,
        limit: usize,
        search: String,
    ) -> Result<Vec<TableEntry>, Refusal> {
        match &*self.engine {
            Engine::Postgres(server) => {
                let slot = self.slot().await?;
                self.bounded(Arc::clone(server).tables(slot, &after, limit, &search)).await
            }
            Engine::Mysql(server) => {
                let slot = self.slot().await?;
                self.bounded(Arc::clone(server).tables(slot, &after, limit, &search)).await
            }
            Engine::Sqlite(_) => self.run(call, move |file, watch| file.tables(&after, limit, &search, watch)).await,
        }
    }

    /// Returns what the catalogue says of a table or view.
    ///
    /// # Errors
    ///
    /// `unknown_table`, or `table_not_allowed` where it may not be read.
    pub async fn describe(&self, call: &Call, table: String) -> Result<TableSchema, Refusal> {
        let described = match &*self.engine {
            Engine::Postgres(server) => {
                let slot = self.slot().await?;
                self.bounded(Arc::clone(server).describe_table(slot, &table)).await?
            }
            Engine::Mysql(server) => {
                let slot = self.slot().await?;
                self.bounded(Arc::clone(server).describe_table(slot, &table)).await?
            }
            Engine::Sqlite(_) => self.run(call, move |file, watch| file.describe_table(&table, watch)).await?,
        };
        self.protection.permit_table(&described.schema, &described.name)?;
        Ok(described.hiding(&self.protection))
    }

    /// Forgets the answers that are kept, and returns how many they were.
    pub fn clear_cache(&self) -> usize {
        self.cache.clear()
    }

    /// Returns how busy it is.
    #[must_use]
    pub fn statistics(&self) -> PoolStatistics {
        let server = match &*self.engine {
            Engine::Postgres(server) => Some(server.connections()),
            Engine::Mysql(server) => Some(server.connections()),
            Engine::Sqlite(_) => None,
        };
        self.counters.statistics(
            QUERIES_MAX - self.slots.available_permits(),
            QUERIES_MAX,
            server,
            self.cache.statistics(),
        )
    }

    /// Waits for one of the few places at the engine.
    async fn slot(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        match timeout(self.timeout, Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(busy()),
        }
    }

    /// Begins a transaction while the statement is still judged, which takes as long: where a connection is open already and a
    /// place at the engine is free, so that a statement that is refused then holds up nobody. Not for a statement that may be judged for long.
    ///
    /// Nothing of the statement is in it.
    async fn early<L, Work>(&self, is_open: bool, begin: impl FnOnce(OwnedSemaphorePermit) -> Work) -> Option<Early<L>>
    where
        L: Leased,
        Work: Future<Output = Result<L, Refusal>> + Send + 'static,
    {
        if !is_open {
            return None;
        }
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        Some(Early::start(begin(slot)).await)
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
        let runtime = Handle::current();
        let watch = Watch::new(self.timeout, call.cancelled().clone());
        let handed_over = on_deep_stack(Box::new(move || {
            let Engine::Sqlite(file) = &*engine else { return };
            let result = work(file, &watch);
            // Held until the engine is really done, so that no more than the bound ever run.
            drop(slot);
            let _ = done.send(result);
            // Whether or not anybody waits for the answer still.
            if file.begin_watch() {
                let file = Arc::clone(file);
                runtime.spawn(async move { file.close_when_idle().await });
            }
        }));
        handed_over?;
        match timeout(self.timeout + GRACE, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(timed_out(self.timeout)),
        }
    }
}

fn unknown_table(name: &str) -> Refusal {
    let name: String = name.chars().take(100).collect();
    Refusal::refused(
        "unknown_table",
        format!("there is no table or view {name:?} that may be read"),
        "use list_tables for the names",
    )
}

fn unavailable(reason: &str) -> Refusal {
    Refusal::failed(
        "database_unavailable",
        format!("the database cannot be read: {reason}"),
        "try again later, or have the operator look at it",
    )
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
            masked_columns: Vec::new(),
            tables: crate::config::TablesConfig::default(),
            cache_ms: 0,
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
