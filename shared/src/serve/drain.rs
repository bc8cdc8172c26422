//! Ending without breaking off what is under way.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rmcp::model::RequestId;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long calls in flight may take to finish once the server was told to stop. Hosts that are more
/// impatient kill the process, which every tool must survive anyway.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Knows which requests are not answered yet, and when no more may come.
#[derive(Default)]
pub struct Drain {
    begun: CancellationToken,
    begun_at: Mutex<Option<Instant>>,
    unanswered: Mutex<HashSet<RequestId>>,
    running: AtomicUsize,
    changed: Notify,
}

/// Counts one tool call as running until it is dropped.
pub struct Running<'a>(&'a Drain);

impl Drain {
    /// From now on no request is read; those in flight are answered first.
    pub fn begin(&self) {
        lock(&self.begun_at).get_or_insert_with(Instant::now);
        self.begun.cancel();
    }

    /// Waits until [`begin`](Self::begin) was called.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Notes that a request came in; returns whether its id was free.
    pub fn received(&self, id: &RequestId) -> bool {
        lock(&self.unanswered).insert(id.clone())
    }

    /// Notes that a request was answered, or taken back and so will not be.
    pub fn answered(&self, id: &RequestId) {
        lock(&self.unanswered).remove(id);
        self.changed.notify_waiters();
    }

    /// Notes that a tool call runs; a cancelled one may run on after its request is gone.
    pub fn run(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::AcqRel);
        Running(self)
    }

    /// Waits until nothing is in flight, at most [`DRAIN_MAX`] from the beginning of the drain.
    pub async fn finished(&self) {
        let deadline = lock(&self.begun_at).unwrap_or_else(Instant::now) + DRAIN_MAX;
        let idle = async {
            loop {
                let changed = self.changed.notified();
                if self.running.load(Ordering::Acquire) == 0 && lock(&self.unanswered).is_empty() {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout_at(deadline, idle).await.is_err() {
            tracing::warn!(limit_s = DRAIN_MAX.as_secs(), "calls in flight did not finish; they are cancelled");
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }
}

/// Takes a lock whose holder may have panicked: the sets and options behind it are whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
