//! Connections that wait for the next query, some in a transaction that was begun ahead of it.
//!
//! To begin a transaction takes a round trip before every query. So where queries come one right after another, the end of one's transaction begins
//! the next one's. Nothing is done in it while it waits: it has no snapshot and no lock, and it is ended after a moment without a query.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::lease::{CANCEL_MAX, Server, Session};

/// How long an unused connection is kept: longer than an agent thinks, shorter than firewalls do.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// How long a transaction waits that was begun ahead, and how soon after another a query must come to have one.
const AHEAD_MAX: Duration = Duration::from_millis(500);

/// A connection that waited.
pub(super) struct Waited<S: Server> {
    pub(super) session: Session<S>,
    /// What its last transaction was begun for.
    pub(super) purpose: S::Purpose,
    /// Since when it is in a transaction, if it is.
    pub(super) begun: Option<Instant>,
    since: Instant,
}

impl<S: Server> Waited<S> {
    /// Whether the last query was just before.
    pub(super) fn is_soon(&self) -> bool {
        self.since.elapsed() < AHEAD_MAX
    }

    /// Since when it is in a transaction that still may be used for this.
    pub(super) fn ahead(&self, purpose: S::Purpose) -> Option<Instant> {
        self.begun.filter(|begun| begun.elapsed() < AHEAD_MAX && self.purpose == purpose)
    }
}

/// The connections of a server that wait.
pub(super) struct Waiting<S: Server>(Mutex<State<S>>);

struct State<S: Server> {
    /// In the order in which they began to wait.
    waiting: Vec<Waited<S>>,
    /// Whether somebody ends the transactions in time.
    is_watched: bool,
}

impl<S: Server> Default for Waiting<S> {
    fn default() -> Self {
        Self(Mutex::new(State { waiting: Vec::new(), is_watched: false }))
    }
}

impl<S: Server> std::fmt::Debug for Waiting<S> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Waiting").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<S: Server> Waiting<S> {
    /// Returns how many wait.
    pub(super) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Takes the one that waits for the shortest time.
    pub(super) fn take(&self) -> Option<Waited<S>> {
        self.lock().waiting.pop().filter(|waited| waited.since.elapsed() < IDLE_MAX)
    }

    /// Closes all: what is wrong with one of them is so with the others.
    pub(super) fn clear(&self) {
        let closed = std::mem::take(&mut self.lock().waiting);
        drop(closed);
    }

    /// Has a connection wait, which is in a transaction since `begun` if it is in one.
    pub(super) fn keep(self: &Arc<Self>, session: Session<S>, purpose: S::Purpose, begun: Option<Instant>) {
        let mut state = self.lock();
        state.waiting.push(Waited { session, purpose, begun, since: Instant::now() });
        if begun.is_none() || state.is_watched {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            state.is_watched = true;
            runtime.spawn(Arc::clone(self).end_in_time());
        }
    }

    /// Ends the transactions that nobody came for, until there are none.
    async fn end_in_time(self: Arc<Self>) {
        while let Some(left) = self.left() {
            sleep(left).await;
            // At once: one whose server does not answer holds up no other.
            join_all(self.late().into_iter().map(|late| self.end(late))).await;
        }
    }

    async fn end(&self, mut late: Waited<S>) {
        let ended = timeout(CANCEL_MAX, S::roll_back(&mut late.session.connection)).await;
        if matches!(ended, Ok(Ok(()))) {
            late.begun = None;
            let mut state = self.lock();
            let place = state.waiting.partition_point(|waited| waited.since <= late.since);
            state.waiting.insert(place, late);
        }
    }

    /// Returns how long the oldest transaction may wait; without one nobody watches any more.
    fn left(&self) -> Option<Duration> {
        let mut state = self.lock();
        let oldest = state.waiting.iter().filter_map(|waited| waited.begun).min();
        state.is_watched = oldest.is_some();
        oldest.map(|begun| AHEAD_MAX.saturating_sub(begun.elapsed()))
    }

    /// Takes those whose transactions have waited for too long.
    fn late(&self) -> Vec<Waited<S>> {
        let is_late = |waited: &mut Waited<S>| waited.begun.is_some_and(|begun| begun.elapsed() >= AHEAD_MAX);
        self.lock().waiting.extract_if(.., is_late).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tollgate_shared::refusal::Refusal;

    use super::*;

    /// A server that nobody asks for more than the end of a transaction.
    struct Counting;

    struct Counted {
        ended: Arc<AtomicUsize>,
        is_alive: bool,
    }

    impl Server for Counting {
        type Connection = Counted;
        type Number = ();
        type Purpose = usize;

        fn waiting(&self) -> &Arc<Waiting<Self>> {
            unreachable!("only connections are asked")
        }

        fn timeout(&self) -> Duration {
            unreachable!("only connections are asked")
        }

        async fn connect(&self) -> Result<Session<Self>, sqlx::Error> {
            unreachable!("only connections are asked")
        }

        async fn powers(_: &mut Counted) -> Result<Vec<String>, sqlx::Error> {
            unreachable!("only connections are asked")
        }

        async fn begin(_: &mut Counted, _: usize, _: Option<usize>, _: bool) -> Result<(), sqlx::Error> {
            unreachable!("only connections are asked")
        }

        async fn end(_: &mut Counted, _: Option<usize>) -> Result<(), sqlx::Error> {
            unreachable!("only connections are asked")
        }

        async fn roll_back(connection: &mut Counted) -> Result<(), sqlx::Error> {
            connection.ended.fetch_add(1, Ordering::Relaxed);
            if connection.is_alive { Ok(()) } else { Err(sqlx::Error::WorkerCrashed) }
        }

        async fn stop(&self, (): ()) -> Result<(), sqlx::Error> {
            unreachable!("only connections are asked")
        }

        async fn is_busy(&self, (): ()) -> Result<bool, sqlx::Error> {
            unreachable!("only connections are asked")
        }

        fn refused(&self, _: &sqlx::Error) -> Refusal {
            unreachable!("only connections are asked")
        }
    }

    #[tokio::test]
    async fn transaction_that_nobody_came_for_is_ended() {
        let ended = Arc::new(AtomicUsize::new(0));
        let session = |is_alive| Session { connection: Counted { ended: Arc::clone(&ended), is_alive }, number: () };
        let waiting = Arc::new(Waiting::<Counting>::default());
        for _ in 0..2 {
            waiting.keep(session(true), 1, None);
            assert!(!waiting.lock().is_watched);
            waiting.keep(session(true), 1, Some(Instant::now()));
            waiting.keep(session(false), 1, Some(Instant::now()));
            waiting.keep(session(true), 1, Some(Instant::now()));
            let used = waiting.take().unwrap();
            assert!(used.ahead(1).is_some() && used.is_soon() && waiting.lock().is_watched);
            // One that was begun for something else.
            assert!(used.ahead(2).is_none());
            sleep(AHEAD_MAX / 2).await;
            assert_eq!((ended.load(Ordering::Relaxed), waiting.len()), (0, 3));
            while waiting.lock().is_watched {
                sleep(Duration::from_millis(10)).await;
            }
            // The one that was of no more use is gone, the others wait on.
            assert_eq!((ended.swap(0, Ordering::Relaxed), waiting.len()), (2, 2));
            let order: Vec<_> = waiting.lock().waiting.iter().map(|waited| waited.since).collect();
            assert!(order.is_sorted());
            let late = waiting.take().unwrap();
            assert!(late.begun.is_none() && !late.is_soon());
            // Nor is one taken that nobody has ended yet.
            let old = Waited::<Counting> { begun: Instant::now().checked_sub(AHEAD_MAX), ..late };
            assert!(old.ahead(1).is_none());
            waiting.clear();
            assert!(waiting.take().is_none());
        }
    }
}
