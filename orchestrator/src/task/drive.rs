//! Doing one step after the other in this process, until the task ends or somebody wants it to stop.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use super::{TaskError, TaskRun, Watch};
use crate::telemetry::task::Traced;

/// How a run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The task ended.
    Ended,
    /// Somebody wanted it to stop after the step that was under way.
    Between,
    /// Somebody wanted it to stop at once.
    Now,
}

/// Tells a run to stop: the first time after the step that is under way, the second time at once.
#[derive(Clone, Default)]
pub struct Stop(Arc<Flags>);

#[derive(Default)]
struct Flags {
    soon: AtomicBool,
    now: AtomicBool,
    changed: Notify,
}

impl Stop {
    /// Wants the run to stop.
    pub fn stop(&self) {
        if self.0.soon.swap(true, Ordering::SeqCst) {
            self.0.now.store(true, Ordering::SeqCst);
            // Everybody in a team hears of it.
            self.0.changed.notify_waiters();
        }
    }

    /// Waits until somebody wants the run to stop at once.
    async fn wanted_now(&self) {
        loop {
            let mut changed = pin!(self.0.changed.notified());
            changed.as_mut().enable();
            if self.0.now.load(Ordering::SeqCst) {
                return;
            }
            changed.await;
        }
    }

    /// Whether anybody else has it.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Whether somebody wants it to stop.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.0.soon.load(Ordering::SeqCst)
    }
}

/// Does the steps of `run` until there is no further one, or `stop` says so. Whatever it is, it can be resumed.
///
/// # Errors
///
/// [`TaskError`], when the session or the ledger cannot be used.
pub async fn drive(run: &mut TaskRun, stop: &Stop, watch: &mut dyn Watch) -> Result<Stopped, TaskError> {
    run.stop = stop.clone();
    let mut watch = Traced::new(run, watch).await?;
    loop {
        if stop.is_wanted() {
            return Ok(Stopped::Between);
        }
        let here = watch.here();
        tokio::select! {
            goes_on = here.within(run.advance(&mut watch)) => {
                if !goes_on? {
                    return Ok(Stopped::Ended);
                }
            }
            () = stop.wanted_now() => return Ok(Stopped::Now),
        }
    }
}
