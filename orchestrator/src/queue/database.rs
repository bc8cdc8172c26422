//! One way to ask two engines: SQL that SQLite and PostgreSQL both read, with numbered parameters, text and whole numbers.
//!
//! sqlx has `Any` for this, which can open a SQLite file neither with a journal mode nor with a time to wait for others.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Pool, Postgres, Row, Sqlite, Transaction};

use super::store::QueueError;

static MIGRATOR: Migrator = sqlx::migrate!("./migrations/queue");

/// How long a statement waits for a connection, or for others to be done with the file.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How long PostgreSQL keeps a transaction open whose client says nothing.
const IDLE_MAX: &str = "30s";

/// How long a statement waits for others' rows in PostgreSQL.
const LOCK_WAIT_MAX: &str = "30s";

/// Most connections of one process: a worker's tasks write a few rows a minute.
const CONNECTIONS_MAX: u32 = 4;

/// The queue's tables.
#[derive(Clone, Debug)]
pub(super) enum Database {
    Sqlite(Pool<Sqlite>),
    Postgres(Pool<Postgres>),
}

/// Several statements, all of which count or none.
pub(super) enum Changes {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// A value for a parameter.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Whole(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Whole(number)
    }
}

/// One row of an answer.
pub(super) trait Columns {
    fn text(&self, column: usize) -> Result<String, sqlx::Error>;
    fn whole(&self, column: usize) -> Result<i64, sqlx::Error>;
}

impl Columns for SqliteRow {
    fn text(&self, column: usize) -> Result<String, sqlx::Error> {
        self.try_get(column)
    }

    fn whole(&self, column: usize) -> Result<i64, sqlx::Error> {
        self.try_get(column)
    }
}

impl Columns for PgRow {
    fn text(&self, column: usize) -> Result<String, sqlx::Error> {
        self.try_get(column)
    }

    fn whole(&self, column: usize) -> Result<i64, sqlx::Error> {
        self.try_get(column)
    }
}

/// Writes `parameters` into a query.
macro_rules! bound {
    ($sql:expr, $parameters:expr) => {{
        let mut query = sqlx::query(AssertSqlSafe($sql.to_owned()));
        for parameter in $parameters {
            query = match parameter {
                Value::Text(text) => query.bind(text.clone()),
                Value::Whole(number) => query.bind(*number),
            };
        }
        query
    }};
}

impl Database {
    /// Opens the file at `path`, made where it is missing.
    pub(super) async fn sqlite(path: &Path) -> Result<Self, QueueError> {
        let failed = |reason: String| QueueError::Unavailable { place: path.display().to_string(), reason };
        let migrated = tollgate_shared::sqlite::open(path, &MIGRATOR, SqliteSynchronous::Full).await;
        let migrated = migrated.map_err(|error| failed(tollgate_shared::error_chain::Chain(&error).to_string()))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(WAIT_MAX)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .optimize_on_close(false, None)
            .disable_statement_logging();
        let pool = PoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(WAIT_MAX);
        let pool = pool.connect_with(options).await.map_err(|error| failed(error.to_string()))?;
        // Kept until another is open: the last one to close a file in WAL mode takes its log away.
        drop(migrated);
        Ok(Self::Sqlite(pool))
    }

    /// Opens the database at `url`, whose secrets are in no error.
    pub(super) async fn postgres(url: &str) -> Result<Self, QueueError> {
        let options = PgConnectOptions::from_str(url).map_err(|_| QueueError::Unavailable {
            place: "[queue] url".to_owned(),
            reason: "it is no postgres://… URL".to_owned(),
        })?;
        // Whoever reads events looks back only so far: a transaction whose client is gone does not end long after.
        let limits = [("idle_in_transaction_session_timeout", IDLE_MAX), ("lock_timeout", LOCK_WAIT_MAX)];
        let options = options.application_name("tollgate-queue").options(limits).disable_statement_logging();
        let place = format!("the database {}", options.get_database().unwrap_or_default());
        let failed = |error: &dyn std::error::Error| QueueError::Unavailable {
            place: place.clone(),
            reason: tollgate_shared::error_chain::Chain(error).to_string(),
        };
        let pool = PoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(WAIT_MAX);
        let pool: Pool<Postgres> = pool.connect_with(options).await.map_err(|error| failed(&error))?;
        let mut connection = pool.acquire().await.map_err(|error| failed(&error))?;
        let mut migrator = sqlx::migrate!("./migrations/queue");
        // The database may be somebody's who has migrations of their own.
        migrator.dangerous_set_table_name("queue_migrations");
        migrator.run_direct(None, &mut *connection, false).await.map_err(|error| failed(&error))?;
        drop(connection);
        Ok(Self::Postgres(pool))
    }

    /// Returns what goes behind a `SELECT` whose rows are about to change: others take those behind instead of waiting.
    pub(super) fn skipping_locked(&self) -> &'static str {
        match self {
            // A writer of SQLite is alone.
            Self::Sqlite(_) => "",
            Self::Postgres(_) => "FOR UPDATE SKIP LOCKED",
        }
    }

    /// Returns the instant by the database's own clock, in milliseconds since 1970: workers on many machines need one.
    pub(super) async fn now_ms(&self) -> Result<i64, QueueError> {
        match self {
            Self::Sqlite(_) => Ok(jiff::Timestamp::now().as_millisecond()),
            Self::Postgres(_) => {
                let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::BIGINT";
                let now = self.fetch(sql, &[], |row| row.whole(0)).await?;
                now.first().copied().ok_or_else(|| QueueError::Statement("the database has no clock".to_owned()))
            }
        }
    }

    /// Carries out one statement; returns how many rows it changed.
    pub(super) async fn execute(&self, sql: &str, parameters: &[Value]) -> Result<u64, QueueError> {
        Ok(match self {
            Self::Sqlite(pool) => bound!(sql, parameters).execute(pool).await?.rows_affected(),
            Self::Postgres(pool) => bound!(sql, parameters).execute(pool).await?.rows_affected(),
        })
    }

    /// Returns what `read` makes of each row.
    pub(super) async fn fetch<T>(
        &self,
        sql: &str,
        parameters: &[Value],
        read: impl Fn(&dyn Columns) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, QueueError> {
        Ok(match self {
            Self::Sqlite(pool) => {
                let rows = bound!(sql, parameters).fetch_all(pool).await?;
                rows.iter().map(|row| read(row)).collect::<Result<_, _>>()?
            }
            Self::Postgres(pool) => {
                let rows = bound!(sql, parameters).fetch_all(pool).await?;
                rows.iter().map(|row| read(row)).collect::<Result<_, _>>()?
            }
        })
    }

    /// Begins several statements.
    pub(super) async fn begin(&self) -> Result<Changes, QueueError> {
        Ok(match self {
            // At once the writer: what is read is not changed by others before it is written.
            Self::Sqlite(pool) => Changes::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(pool) => Changes::Postgres(pool.begin().await?),
        })
    }
}

impl Changes {
    pub(super) async fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, QueueError> {
        Ok(match self {
            Self::Sqlite(step) => bound!(sql, parameters).execute(&mut **step).await?.rows_affected(),
            Self::Postgres(step) => bound!(sql, parameters).execute(&mut **step).await?.rows_affected(),
        })
    }

    pub(super) async fn fetch<T>(
        &mut self,
        sql: &str,
        parameters: &[Value],
        read: impl Fn(&dyn Columns) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, QueueError> {
        Ok(match self {
            Self::Sqlite(step) => {
                let rows = bound!(sql, parameters).fetch_all(&mut **step).await?;
                rows.iter().map(|row| read(row)).collect::<Result<_, _>>()?
            }
            Self::Postgres(step) => {
                let rows = bound!(sql, parameters).fetch_all(&mut **step).await?;
                rows.iter().map(|row| read(row)).collect::<Result<_, _>>()?
            }
        })
    }

    /// Lets the statements from here on wait for others' rows for `most` at most; SQLite's waited for the file already.
    pub(super) async fn wait_at_most(&mut self, most: Duration) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(_) => {
                let sql = format!("SET LOCAL lock_timeout = {}", most.as_millis());
                self.execute(&sql, &[]).await.map(drop)
            }
        }
    }

    /// Returns the same where rows are to stay as they are until the end; a writer of SQLite is alone anyway.
    pub(super) fn for_update(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "",
            Self::Postgres(_) => "FOR UPDATE",
        }
    }

    /// Returns the instant by the database's clock when it is asked, not when the transaction began: milliseconds since 1970,
    /// as SQL.
    pub(super) fn clock(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "CAST(ROUND(unixepoch('subsec') * 1000) AS INTEGER)",
            Self::Postgres(_) => "(extract(epoch FROM clock_timestamp()) * 1000)::BIGINT",
        }
    }

    pub(super) async fn commit(self) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(step) => step.commit().await?,
            Self::Postgres(step) => step.commit().await?,
        }
        Ok(())
    }
}
