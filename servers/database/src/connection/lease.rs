//! One connection to a server in the hands of one query, and what becomes of it.
//!
//! A query that is given up, because its time is over or its call was taken back, is stopped on the server. Only a
//! connection whose transaction was ended goes back to the others.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};
use tollgate_shared::refusal::Refusal;

use super::ahead::Waiting;
use super::early::Leased;

/// Why a database cannot be read whose server has closed the connection, or cannot be reached.
pub(super) const GONE: &str = "the server cannot be reached, or has gone away";

/// Longest that stopping a query on the server may take, and ending its transaction.
pub(super) const CANCEL_MAX: Duration = Duration::from_secs(2);

/// How often a server is asked at least whether it still works on a query that was stopped.
const BUSY_EVERY_MAX: Duration = Duration::from_secs(10);

/// Longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How soon a query fails on a connection that was closed before it.
const CLOSED_MAX: Duration = Duration::from_millis(50);

/// A server that answers over a connection, in transactions that only read.
pub(super) trait Server: Send + Sync + Sized + 'static {
    type Connection: Send + 'static;

    /// What the server calls a connection by.
    type Number: Copy + Send + 'static;

    /// What is told to the server with the beginning of a transaction.
    type Purpose: Copy + PartialEq + Send + 'static;

    /// Returns the connections that wait.
    fn waiting(&self) -> &Arc<Waiting<Self>>;

    /// Returns how long a query may take.
    fn timeout(&self) -> Duration;

    /// Opens a connection.
    fn connect(&self) -> impl Future<Output = Result<Session<Self>, sqlx::Error>> + Send;

    /// Asks what the role can do beside reading.
    fn powers(connection: &mut Self::Connection) -> impl Future<Output = Result<Vec<String>, sqlx::Error>> + Send;

    /// Begins a transaction, on a connection whose last one was for `before`; in place of one in which nothing was done if it
    /// `is_begun`.
    fn begin(
        connection: &mut Self::Connection,
        purpose: Self::Purpose,
        before: Option<Self::Purpose>,
        is_begun: bool,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Ends the transaction and whatever it leaves in the session, and begins the `next` one.
    fn end(
        connection: &mut Self::Connection,
        next: Option<Self::Purpose>,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Ends a transaction in which nothing was done.
    fn roll_back(connection: &mut Self::Connection) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Stops what the connection of this number is busy with. It may fail: the server's own timeout is left then.
    fn stop(&self, number: Self::Number) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Whether a connection of ours that was closed is still at work.
    fn is_busy(&self, number: Self::Number) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Says what went wrong, without where the server is and who asks.
    fn refused(&self, error: &sqlx::Error) -> Refusal;
}

/// A connection and its number.
pub(super) struct Session<S: Server> {
    pub(super) connection: S::Connection,
    pub(super) number: S::Number,
}

/// What is to happen to a connection when its query is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It waits for the next query.
    Wait,
    /// It waits in the next one's transaction.
    BeginNext,
    /// It is closed, and the query stopped: the rest of an answer is not wanted.
    Stop,
}

/// A connection in a transaction that only reads.
pub(super) struct Lease<S: Server> {
    session: Option<Session<S>>,
    purpose: S::Purpose,
    server: Arc<S>,
    slot: Option<OwnedSemaphorePermit>,
    /// Since when its transaction is there, if that was begun ahead and nothing was done in it.
    untouched: Option<Instant>,
    /// When it was taken, if its transaction was begun ahead.
    taken: Option<Instant>,
    /// Whether the last query was just before.
    is_soon: bool,
    then: Then,
}

impl<S: Server> Lease<S> {
    /// Begins a transaction, on a connection that waited or a new one.
    pub(super) async fn begin(
        server: &Arc<S>,
        slot: OwnedSemaphorePermit,
        purpose: S::Purpose,
    ) -> Result<Self, Refusal> {
        Self::open(server, slot, purpose, false).await
    }

    /// Takes a transaction that was begun ahead, or begins one.
    pub(super) async fn take_or_begin(
        server: &Arc<S>,
        slot: OwnedSemaphorePermit,
        purpose: S::Purpose,
    ) -> Result<Self, Refusal> {
        Self::open(server, slot, purpose, true).await
    }

    async fn open(
        server: &Arc<S>,
        slot: OwnedSemaphorePermit,
        purpose: S::Purpose,
        may_be_ahead: bool,
    ) -> Result<Self, Refusal> {
        let mut slot = Some(slot);
        loop {
            let waited = server.waiting().take();
            let is_new = waited.is_none();
            let before = waited.as_ref().map(|waited| waited.purpose);
            let is_begun = waited.as_ref().is_some_and(|waited| waited.begun.is_some());
            let is_soon = waited.as_ref().is_some_and(|waited| waited.is_soon());
            let ahead = waited.as_ref().and_then(|waited| waited.ahead(purpose)).filter(|_| may_be_ahead);
            let session = match waited {
                Some(waited) => waited.session,
                None => connected(&**server).await?,
            };
            let mut lease = Self {
                session: Some(session),
                purpose,
                server: Arc::clone(server),
                slot: slot.take(),
                untouched: ahead,
                taken: ahead.map(|_| Instant::now()),
                is_soon,
                then: Then::Wait,
            };
            if ahead.is_some() {
                return Ok(lease);
            }
            let Err(error) = S::begin(lease.connection(), purpose, before, is_begun).await else { return Ok(lease) };
            // It was closed while it waited, and with it most likely all others.
            slot = lease.lost();
            if is_new {
                return Err(server.refused(&error));
            }
        }
    }

    /// Has a transaction that was begun ahead begin now.
    pub(super) async fn begin_now(mut self) -> Result<Self, Refusal> {
        let purpose = self.purpose;
        if self.taken.take().is_none() || S::begin(self.connection(), purpose, Some(purpose), true).await.is_ok() {
            return Ok(self);
        }
        self.again().await
    }

    /// Whether `refusal` is because its connection was closed while it waited: one that is not begun ahead finds out when it begins.
    pub(super) fn was_closed(&self, refusal: &Refusal) -> bool {
        refusal.message.ends_with(GONE) && self.taken.is_some_and(|taken| taken.elapsed() < CLOSED_MAX)
    }

    /// Begins a transaction on another connection.
    pub(super) async fn again(mut self) -> Result<Self, Refusal> {
        let slot = self.lost().ok_or_else(super::stopped)?;
        Self::begin(&self.server, slot, self.purpose).await
    }

    /// Gives up a connection that is closed already, and those that waited with it; returns the place.
    fn lost(&mut self) -> Option<OwnedSemaphorePermit> {
        self.session = None;
        self.server.waiting().clear();
        self.slot.take()
    }

    /// Returns the server that it is a connection to.
    pub(super) fn server(&self) -> &S {
        &self.server
    }

    /// Whether its transaction was begun ahead.
    pub(super) fn is_ahead(&self) -> bool {
        self.taken.is_some()
    }

    /// Returns the connection, for something to be done in its transaction.
    pub(super) fn connection(&mut self) -> &mut S::Connection {
        self.untouched = None;
        // Taken only by `end` and `drop`, after which nobody has the lease.
        #[expect(clippy::expect_used, reason = "a lease has its connection until it ends")]
        let session = self.session.as_mut().expect("a lease has its connection until it ends");
        &mut session.connection
    }

    /// Notes that the rest of an answer is not wanted.
    pub(super) fn abandon(&mut self) {
        self.then = Then::Stop;
    }

    /// Notes that its query went well: then the next one's transaction may be begun, if that is soon.
    pub(super) fn went_well(&mut self) {
        if self.then == Then::Wait && self.is_soon {
            self.then = Then::BeginNext;
        }
    }
}

/// Opens a connection, within a bound of its own or that of a query.
async fn connected<S: Server>(server: &S) -> Result<Session<S>, Refusal> {
    match timeout(CONNECT_MAX.min(server.timeout()), server.connect()).await {
        Ok(opened) => opened.map_err(|error| server.refused(&error)),
        Err(_) => Err(super::unavailable("the server does not answer")),
    }
}

impl<S: Server> Leased for Lease<S> {
    /// Ends the transaction and gives the connection back; one in doubt is closed.
    async fn end(mut self) {
        let mut begun = self.untouched;
        if begun.is_none() {
            if self.then == Then::Stop {
                return;
            }
            let next = (self.then == Then::BeginNext).then_some(self.purpose);
            if !matches!(timeout(CANCEL_MAX, S::end(self.connection(), next)).await, Ok(Ok(()))) {
                return;
            }
            begun = next.map(|_| Instant::now());
        }
        if let Some(session) = self.session.take() {
            self.server.waiting().keep(session, self.purpose, begun);
        }
    }
}

impl<S: Server> Drop for Lease<S> {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        let (server, slot) = (Arc::clone(&self.server), self.slot.take());
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let _ = timeout(CANCEL_MAX, server.stop(session.number)).await;
                let number = session.number;
                // Held until here, so that its number is not another's.
                drop(session);
                // What a server does not stop in the middle of a row keeps its place, so that no more than the bound ever run.
                let mut pause = CANCEL_MAX / 20;
                while matches!(timeout(CANCEL_MAX, server.is_busy(number)).await, Ok(Ok(true))) {
                    sleep(pause).await;
                    pause = (pause * 2).min(BUSY_EVERY_MAX);
                }
                drop(slot);
            });
        }
    }
}
