//! Connections to PostgreSQL, and what begins and ends their transactions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection as _};
use tollgate_shared::refusal::Refusal;

use super::super::ahead::Waiting;
use super::super::lease::{Server, Session};
use super::Postgres;

/// What the server's own lists show of us.
pub(super) const APPLICATION: &str = "tollgate";

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Several statements go in one message, since all are ours.
const BEGIN_ANEW: &str = "ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Locks of the session are the one thing that a rollback leaves.
const END: &str = "ROLLBACK; SELECT pg_catalog.pg_advisory_unlock_all()";

/// After a query that went well, since a failed transaction takes nothing but its end. In this order: what stands before BEGIN in a message, and in no
/// transaction, would be of BEGIN's.
const END_AND_BEGIN: &str =
    "SELECT pg_catalog.pg_advisory_unlock_all(); ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

async fn tell(connection: &mut PgConnection, statements: &'static str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(statements).execute(connection).await.map(drop)
}

impl Server for Postgres {
    type Connection = PgConnection;
    /// Of the process that serves it.
    type Number = i32;
    type Purpose = ();

    fn waiting(&self) -> &Arc<Waiting<Self>> {
        &self.waiting
    }

    fn timeout(&self) -> Duration {
        self.limits.timeout
    }

    async fn connect(&self) -> Result<Session<Self>, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        if connection.server_version_num().is_some_and(|version| version >= 140_000) {
            // So that the server stops a query whose asker was killed.
            sqlx::raw_sql("SET client_connection_check_interval = 1000").execute(&mut connection).await?;
        }
        let number = sqlx::query_scalar("SELECT pg_catalog.pg_backend_pid()").fetch_one(&mut connection).await?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Session { connection, number })
    }

    async fn begin(
        connection: &mut PgConnection,
        (): (),
        _before: Option<()>,
        is_begun: bool,
    ) -> Result<(), sqlx::Error> {
        tell(connection, if is_begun { BEGIN_ANEW } else { BEGIN }).await
    }

    async fn end(connection: &mut PgConnection, next: Option<()>) -> Result<(), sqlx::Error> {
        tell(connection, if next.is_some() { END_AND_BEGIN } else { END }).await
    }

    async fn roll_back(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        tell(connection, "ROLLBACK").await
    }

    async fn stop(&self, process: i32) -> Result<(), sqlx::Error> {
        const STOP: &str = "SELECT pg_catalog.pg_cancel_backend(pid) FROM pg_catalog.pg_stat_activity
            WHERE pid = $1 AND application_name = $2";
        let mut other = self.options.connect().await?;
        sqlx::query(STOP).bind(process).bind(APPLICATION).execute(&mut other).await?;
        other.close().await
    }

    async fn is_busy(&self, process: i32) -> Result<bool, sqlx::Error> {
        const BUSY: &str = "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE pid = $1 AND application_name = $2 AND state = 'active'";
        let mut other = self.options.connect().await?;
        let found: i64 = sqlx::query_scalar(BUSY).bind(process).bind(APPLICATION).fetch_one(&mut other).await?;
        other.close().await?;
        Ok(found > 0)
    }

    async fn powers(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
        super::powers(connection).await
    }

    fn refused(&self, error: &sqlx::Error) -> Refusal {
        self.refusal(error)
    }
}
