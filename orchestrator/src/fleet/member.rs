//! One server of a fleet through all its lives: started when first needed, started again when it died.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tollgate_shared::error_chain::Chain;

use super::Fleet;
use super::child::Child;
use crate::config::ServerSpec;

/// First wait before a server that died is started again; doubles with every death in a row.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// Longest wait: a server that keeps dying costs at most two starts a minute.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Longest that a call waits for a restart before it is answered with `server_unavailable`.
const RESTART_WAIT_MAX: Duration = Duration::from_secs(5);

/// A server that ran this long has recovered; its next death starts at [`BACKOFF_FIRST`] again.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// One server.
pub(crate) struct Member {
    /// How it is started.
    pub(crate) spec: ServerSpec,
    /// Whether clients know that it runs.
    pub(crate) announced: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    child: Option<Arc<Child>>,
    started_at: Option<Instant>,
    deaths: VecDeque<Instant>,
    not_before: Option<Instant>,
}

impl Member {
    pub(super) fn new(spec: ServerSpec) -> Arc<Self> {
        Arc::new(Self { spec, announced: AtomicBool::new(false), state: Mutex::default() })
    }

    /// Ends the server, if it runs.
    pub(super) async fn close(&self) {
        let child = self.state.lock().await.child.take();
        if let Some(child) = child {
            child.close().await;
        }
    }

    /// Returns the server if it runs; notes its death if it ran.
    pub(crate) async fn running(&self) -> Option<Arc<Child>> {
        let mut state = self.state.lock().await;
        if let Some(child) = state.child.as_ref().filter(|child| !child.is_closed()) {
            return Some(Arc::clone(child));
        }
        if let Some(dead) = state.child.take() {
            state.bury(Instant::now());
            tracing::warn!(server = self.spec.name, reason = dead.last_words(), "the server ended");
        }
        None
    }

    /// How long until the server may be started again.
    pub(crate) async fn pause(&self) -> Duration {
        let not_before = self.state.lock().await.not_before;
        not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
    }

    /// Returns the running child, starting it where there is none.
    pub(super) async fn connected(&self, fleet: &Fleet, owner_file: Option<&Path>) -> Result<Arc<Child>, String> {
        let mut state = self.state.lock().await;
        if let Some(child) = state.child.as_ref().filter(|child| !child.is_closed()) {
            return Ok(Arc::clone(child));
        }
        if let Some(dead) = state.child.take() {
            state.bury(Instant::now());
            tracing::warn!(server = self.spec.name, reason = dead.last_words(), "the server ended");
        }
        let wait = state.not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        if wait > RESTART_WAIT_MAX {
            return Err(format!("{} keeps ending; it is started again in {} s", self.spec.name, wait.as_secs() + 1));
        }
        tokio::time::sleep(wait).await;
        // Boxed: it is large, and whoever has a server that runs pays for moving it.
        match Box::pin(Child::start(&self.spec, fleet, owner_file)).await {
            Ok(child) => {
                let child = Arc::new(child);
                state.started_at = Some(Instant::now());
                state.child = Some(Arc::clone(&child));
                Ok(child)
            }
            Err(error) => {
                state.bury(Instant::now());
                Err(format!("{} cannot be started: {}", self.spec.name, Chain(error.as_ref())))
            }
        }
    }

    /// Forgets a child that died, so that the next call starts another.
    pub(crate) async fn died(&self, child: &Arc<Child>) {
        let mut state = self.state.lock().await;
        if state.child.as_ref().is_some_and(|current| Arc::ptr_eq(current, child)) {
            state.child = None;
            state.bury(Instant::now());
        }
    }
}

impl State {
    /// Notes a death and when the next start may be.
    fn bury(&mut self, now: Instant) {
        if self.started_at.take().is_some_and(|at| now.duration_since(at) >= STABLE_AFTER) {
            self.deaths.clear();
        }
        let doublings = u32::try_from(self.deaths.len()).unwrap_or(u32::MAX).min(16);
        self.deaths.push_back(now);
        self.deaths.truncate(16);
        self.not_before = Some(now + BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_double_up_to_a_bound_and_start_over_after_a_stable_run() {
        let now = Instant::now();
        let mut state = State::default();
        let mut waits = Vec::new();
        for _ in 0..12 {
            state.bury(now);
            waits.push(state.not_before.unwrap() - now);
        }
        assert_eq!(waits[..3], [100, 200, 400].map(Duration::from_millis));
        assert_eq!(waits[11], BACKOFF_MAX);
        state.started_at = Some(now);
        state.bury(now + STABLE_AFTER);
        assert_eq!(state.not_before.unwrap() - (now + STABLE_AFTER), BACKOFF_FIRST);
    }
}
