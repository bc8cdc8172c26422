//! Keeping a file open from one call to the next.
//!
//! To open a file, lock the session down and read the schema takes longer than most queries. So the connection of a file [at rest](super::source::Rest) is kept
//! for the next call, which takes it only if the file is still in the very same state, and closed after a moment without one: nothing is locked
//! meanwhile, and a file that was taken away is soon gone.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::authorizer::Authorizer;
use super::compiled::Compiled;
use super::source::Rest;

/// How long a connection is kept that nobody uses.
const IDLE_MAX: Duration = Duration::from_secs(2);

/// A connection that waits for the next call.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) connection: Connection,
    pub(super) authorizer: Authorizer,
    pub(super) compiled: Compiled,
    /// What the file was when it was read last.
    pub(super) rest: Rest,
    since: Instant,
}

/// Where a connection waits.
#[derive(Debug, Default)]
pub(super) struct Place(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    idle: Option<Idle>,
    /// Whether somebody closes it in time.
    is_watched: bool,
}

impl Idle {
    pub(super) fn new(connection: Connection, authorizer: Authorizer, compiled: Compiled, rest: Rest) -> Self {
        Self { connection, authorizer, compiled, rest, since: Instant::now() }
    }
}

impl Place {
    /// Takes the connection that waits, if one does.
    pub(super) fn take(&self) -> Option<Idle> {
        self.lock().idle.take()
    }

    /// Has a connection wait for the next call.
    pub(super) fn keep(&self, idle: Idle) {
        let before = self.lock().idle.replace(idle);
        // Closed where nobody waits for the place.
        drop(before);
    }

    /// Returns whether a connection waits that nobody closes in time; then the caller must do it from now on, with
    /// [`Self::close_in_time`].
    pub(super) fn begin_watch(&self) -> bool {
        let mut state = self.lock();
        state.idle.is_some() && !std::mem::replace(&mut state.is_watched, true)
    }

    /// Waits until the connection was not used for [`IDLE_MAX`], and closes it.
    pub(super) async fn close_in_time(&self) {
        while let Some(left) = self.left() {
            tokio::time::sleep(left).await;
        }
    }

    /// Returns how long the connection may wait still; closes one that may not, and then nobody watches the place any more.
    fn left(&self) -> Option<Duration> {
        let mut state = self.lock();
        let left = state.idle.as_ref().map(|idle| IDLE_MAX.saturating_sub(idle.since.elapsed()));
        if left.is_some_and(|left| !left.is_zero()) {
            return left;
        }
        state.is_watched = false;
        let old = state.idle.take();
        drop(state);
        drop(old);
        None
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
