//! Connections to MySQL and MariaDB, and what begins and ends their transactions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _};
use tollgate_shared::refusal::Refusal;

use super::super::ahead::Waiting;
use super::super::lease::{Server, Session};
use super::{Mysql, SQL_MODE};

/// Locks of the session are what a rollback leaves.
const END: &str = "ROLLBACK; DO RELEASE_ALL_LOCKS()";

/// Returns what begins a transaction in which no query has more rows than these.
fn begin(rows_max: usize) -> String {
    format!("SET SESSION sql_select_limit = {rows_max}; START TRANSACTION READ ONLY")
}

/// All of it is ours, so it goes in one message.
async fn tell(connection: &mut MySqlConnection, statements: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await.map(drop)
}

impl Server for Mysql {
    type Connection = MySqlConnection;
    type Number = u64;
    /// How many rows a query has at most.
    type Purpose = usize;

    fn waiting(&self) -> &Arc<Waiting<Self>> {
        &self.waiting
    }

    fn timeout(&self) -> Duration {
        self.limits.timeout
    }

    async fn connect(&self) -> Result<Session<Self>, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let (version, number): (String, u64) =
            sqlx::query_as("SELECT VERSION(), CONNECTION_ID()").fetch_one(&mut connection).await?;
        let ms = self.limits.timeout.as_millis();
        let longest = if version.contains("MariaDB") {
            format!("max_statement_time = {}.{:03}", ms / 1000, ms % 1000)
        } else {
            format!("max_execution_time = {ms}")
        };
        let settings = format!(
            "SET SESSION sql_mode = '{SQL_MODE}', SESSION {longest}, SESSION lock_wait_timeout = 1,
                SESSION innodb_lock_wait_timeout = 1, SESSION wait_timeout = 120;
             SET SESSION TRANSACTION READ ONLY"
        );
        sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut connection).await?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Session { connection, number })
    }

    async fn begin(
        connection: &mut MySqlConnection,
        rows_max: usize,
        before: Option<usize>,
        is_begun: bool,
    ) -> Result<(), sqlx::Error> {
        // A server may take the limit into what it prepares.
        if before != Some(rows_max) {
            connection.clear_cached_statements().await?;
        }
        let begin = begin(rows_max);
        tell(connection, if is_begun { format!("ROLLBACK; {begin}") } else { begin }).await
    }

    async fn end(connection: &mut MySqlConnection, next: Option<usize>) -> Result<(), sqlx::Error> {
        tell(connection, next.map_or_else(|| END.to_owned(), |rows_max| format!("{END}; {}", begin(rows_max)))).await
    }

    async fn roll_back(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
        tell(connection, "ROLLBACK".to_owned()).await
    }

    async fn stop(&self, id: u64) -> Result<(), sqlx::Error> {
        let mut other = self.options.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(format!("KILL QUERY {id}"))).execute(&mut other).await?;
        other.close().await
    }

    async fn is_busy(&self, id: u64) -> Result<bool, sqlx::Error> {
        const BUSY: &str = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = ?";
        let mut other = self.options.connect().await?;
        let found: i64 = sqlx::query_scalar(BUSY).bind(id).fetch_one(&mut other).await?;
        other.close().await?;
        Ok(found > 0)
    }

    async fn powers(connection: &mut MySqlConnection) -> Result<Vec<String>, sqlx::Error> {
        super::powers(connection).await
    }

    fn refused(&self, error: &sqlx::Error) -> Refusal {
        self.refusal(error)
    }
}
