//! Keeping a file open from one call to the next.
//!
//! To open a file, lock the session down and read the schema takes longer than most queries. So the connection of a file [at rest](super::source::Rest) is kept
//! for the next call, which takes it only if the file is still in the very same state, and closed after a moment without one: nothing is locked
//! meanwhile, and a file that was taken away is soon gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::authorizer::Authorizer;
use super::source::Rest;

/// How long a connection is kept that nobody uses.
const IDLE_MAX: Duration = Duration::from_secs(2);

/// A connection that waits for the next call.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) connection: Connection,
    pub(super) authorizer: Authorizer,
    /// What the file was when it was read last.
    pub(super) rest: Rest,
    since: Instant,
}

/// Where a connection waits.
#[derive(Debug, Default)]
pub(super) struct Place {
    idle: Mutex<Option<Idle>>,
    /// Whether somebody closes it in time.
    is_watched: AtomicBool,
}

impl Idle {
    pub(super) fn new(connection: Connection, authorizer: Authorizer, rest: Rest) -> Self {
        Self { connection, authorizer, rest, since: Instant::now() }
    }
}

impl Place {
    /// Takes the connection that waits, if one does.
    pub(super) fn take(&self) -> Option<Idle> {
        self.lock().take()
    }

    /// Has a connection wait for the next call.
    pub(super) fn keep(&self, idle: Idle) {
        let before = self.lock().replace(idle);
        // Closed where nobody waits for the place.
        drop(before);
    }

    /// Waits until the connection was not used for [`IDLE_MAX`], and closes it; returns at once where somebody waits already.
    pub(super) async fn close_in_time(&self) {
        if self.is_watched.swap(true, Ordering::AcqRel) {
            return;
        }
        while let Some(since) = self.since() {
            let left = IDLE_MAX.saturating_sub(since.elapsed());
            if left.is_zero() {
                drop(self.take_old());
                break;
            }
            tokio::time::sleep(left).await;
        }
        self.is_watched.store(false, Ordering::Release);
    }

    fn since(&self) -> Option<Instant> {
        self.lock().as_ref().map(|idle| idle.since)
    }

    fn take_old(&self) -> Option<Idle> {
        let mut place = self.lock();
        if place.as_ref().is_some_and(|idle| idle.since.elapsed() >= IDLE_MAX) { place.take() } else { None }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
