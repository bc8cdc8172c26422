//! Telling a client how far a call is, when it asked to be told.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rmcp::RoleServer;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::Peer;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Notifications that may wait to be written; beyond these the client reads too slowly, and the next one says more.
const WAITING_MAX: usize = 64;

/// Steps of which each is told; of a call with more, those within [`PAUSE`] of the one before are not.
const EACH_UP_TO: u64 = 100;

/// Least time between two notifications of a long call.
const PAUSE: Duration = Duration::from_millis(50);

/// Longest that an answer waits for what was told before it: a client that is gone reads nothing.
const FLUSH_MAX: Duration = Duration::from_millis(500);

/// The way to whoever asked, for one call.
pub(super) struct Progress(Mutex<State>);

enum State {
    Unasked,
    /// Nothing was told yet, and most calls tell nothing.
    Asked(Peer<RoleServer>, ProgressToken),
    Open(Open),
}

struct Open {
    sender: mpsc::Sender<(u64, u64, String)>,
    written: JoinHandle<()>,
    told: Option<(u64, Instant)>,
}

impl Progress {
    /// A call whose client did not ask.
    pub(super) fn unasked() -> Self {
        Self(Mutex::new(State::Unasked))
    }

    /// A call whose client, at `peer`, asked with `token`.
    pub(super) fn new(peer: Peer<RoleServer>, token: ProgressToken) -> Self {
        Self(Mutex::new(State::Asked(peer, token)))
    }

    /// Says that `done` of `total` steps are done; nothing when nobody asked, or it would be too often.
    pub(super) fn tell(&self, done: u64, total: u64, message: impl FnOnce() -> String) {
        let mut state = self.lock();
        if matches!(*state, State::Asked(..))
            && let State::Asked(peer, token) = std::mem::replace(&mut *state, State::Unasked)
        {
            *state = State::Open(Open::new(peer, token));
        }
        let State::Open(open) = &mut *state else { return };
        // It has to rise from one notification to the next.
        let is_due = open.told.is_none_or(|(before, at)| {
            done > before && (total <= EACH_UP_TO || done >= total || at.elapsed() >= PAUSE)
        });
        if is_due && open.sender.try_send((done, total, message())).is_ok() {
            open.told = Some((done, Instant::now()));
        }
    }

    /// Waits until everything is written: after the answer, a notification has nothing to belong to.
    pub(super) async fn close(&self) {
        let state = std::mem::replace(&mut *self.lock(), State::Unasked);
        if let State::Open(Open { sender, written, .. }) = state {
            drop(sender);
            let stop = written.abort_handle();
            if tokio::time::timeout(FLUSH_MAX, written).await.is_err() {
                stop.abort();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn new(peer: Peer<RoleServer>, token: ProgressToken) -> Self {
        let (sender, mut receiver) = mpsc::channel(WAITING_MAX);
        let written = tokio::spawn(async move {
            while let Some((done, total, message)) = receiver.recv().await {
                let params = ProgressNotificationParam::new(token.clone(), as_float(done))
                    .with_total(as_float(total))
                    .with_message(message);
                if peer.notify_progress(params).await.is_err() {
                    return;
                }
            }
        });
        Self { sender, written, told: None }
    }
}

#[expect(clippy::cast_precision_loss, reason = "the protocol counts in floats; no call has 2^52 steps")]
fn as_float(steps: u64) -> f64 {
    steps as f64
}
