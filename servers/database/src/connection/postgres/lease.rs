//! One connection in the hands of one query, and what becomes of it.
//!
//! A query that is given up, because its time is over or its call was taken back, is stopped on the server. Only a
//! connection whose transaction was ended goes back to the others.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection as _};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tollgate_shared::refusal::Refusal;

use super::super::early::Leased;
use super::{CONNECT_MAX, Postgres, unavailable};

/// What the server's own lists show of us.
pub(super) const APPLICATION: &str = "tollgate";

/// How long an unused connection is kept: longer than an agent thinks, shorter than firewalls do.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Longest that stopping a query on the server may take.
const CANCEL_MAX: Duration = Duration::from_secs(2);

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// In one message, since both are ours. Locks of the session are the one thing that a rollback leaves.
const END: &str = "ROLLBACK; SELECT pg_catalog.pg_advisory_unlock_all()";

/// A connection that waits for the next query.
pub(super) struct Idle {
    connection: PgConnection,
    process: i32,
    since: Instant,
}

/// A connection in a transaction that only reads.
pub struct Lease {
    connection: Option<PgConnection>,
    process: i32,
    server: Arc<Postgres>,
    slot: Option<OwnedSemaphorePermit>,
    abandoned: bool,
}

impl fmt::Debug for Idle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Idle").field("process", &self.process).finish_non_exhaustive()
    }
}

impl Lease {
    /// Opens a transaction, on a connection that waited or a new one.
    pub(super) async fn begin(server: &Arc<Postgres>, slot: OwnedSemaphorePermit) -> Result<Self, Refusal> {
        let mut slot = Some(slot);
        loop {
            let waited = lock(&server.idle).pop().filter(|idle| idle.since.elapsed() < IDLE_MAX);
            let fresh = waited.is_none();
            let (connection, process) = match waited {
                Some(idle) => (idle.connection, idle.process),
                None => connect(server).await?,
            };
            let mut lease = Self {
                connection: Some(connection),
                process,
                server: Arc::clone(server),
                slot: slot.take(),
                abandoned: false,
            };
            match sqlx::raw_sql(BEGIN).execute(lease.connection()).await {
                Ok(_) => return Ok(lease),
                Err(error) => {
                    // It was closed while it waited, and with it most likely all others.
                    lease.connection = None;
                    slot = lease.slot.take();
                    if fresh {
                        return Err(server.refusal(&error));
                    }
                    lock(&server.idle).clear();
                }
            }
        }
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        // Taken only by `end` and `drop`, after which nobody has the lease.
        #[expect(clippy::expect_used, reason = "a lease has its connection until it ends")]
        self.connection.as_mut().expect("a lease has its connection until it ends")
    }

    /// Notes that the rest of an answer is not wanted.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
    }
}

impl Leased for Lease {
    /// Ends the transaction and gives the connection back; one in doubt is closed.
    async fn end(mut self) {
        if self.abandoned {
            return;
        }
        let ended = timeout(CANCEL_MAX, sqlx::raw_sql(END).execute(self.connection())).await;
        if !matches!(ended, Ok(Ok(_))) {
            return;
        }
        if let Some(connection) = self.connection.take() {
            let idle = Idle { connection, process: self.process, since: Instant::now() };
            lock(&self.server.idle).push(idle);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let (server, process, slot) = (Arc::clone(&self.server), self.process, self.slot.take());
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let _ = timeout(CANCEL_MAX, cancel(&server, process)).await;
                // Held until here, so that the number is not another process's, and no more than the bound ever run.
                drop(connection);
                drop(slot);
            });
        }
    }
}

async fn connect(server: &Postgres) -> Result<(PgConnection, i32), Refusal> {
    let opened = async {
        let mut connection = server.options.connect().await?;
        if connection.server_version_num().is_some_and(|version| version >= 140_000) {
            // So that the server stops a query whose asker was killed.
            sqlx::raw_sql("SET client_connection_check_interval = 1000").execute(&mut connection).await?;
        }
        let process = sqlx::query_scalar("SELECT pg_catalog.pg_backend_pid()").fetch_one(&mut connection).await?;
        server.opened.fetch_add(1, Ordering::Relaxed);
        Ok((connection, process))
    };
    match timeout(CONNECT_MAX.min(server.limits.timeout), opened).await {
        Ok(opened) => opened.map_err(|error: sqlx::Error| server.refusal(&error)),
        Err(_) => Err(unavailable("the server does not answer")),
    }
}

/// Stops what `process` does. Nothing may go wrong: the server's own timeout is left then.
async fn cancel(server: &Postgres, process: i32) -> Result<(), sqlx::Error> {
    let mut connection = server.options.connect().await?;
    sqlx::query(
        "SELECT pg_catalog.pg_cancel_backend(pid) FROM pg_catalog.pg_stat_activity WHERE pid = $1 AND application_name = $2",
    )
    .bind(process)
    .bind(APPLICATION)
    .execute(&mut connection)
    .await?;
    connection.close().await
}

pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
