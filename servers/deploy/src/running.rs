//! The rollouts that this process is carrying out, so that another call can take one back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tollgate_shared::serve::Call;

use crate::rollout::{Caller, STEPS};

/// Which deployments this process is at work on, and which of them are to stop.
#[derive(Clone, Debug, Default)]
pub struct Running(Arc<Mutex<HashMap<String, bool>>>);

/// One rollout in the hands of this process, until it is dropped.
#[derive(Debug)]
pub struct Carried {
    running: Running,
    id: String,
}

/// The call that asked for a rollout, which may be answered before the rollout ends.
pub struct Asked {
    call: Call,
    carried: Carried,
    /// Whether the answer has left: then nobody can take the call back, and what it costs is charged already.
    is_answered: bool,
}

impl Running {
    /// Notes that the rollout of the deployment `id` is carried out here.
    #[must_use]
    pub fn carry(&self, id: &str) -> Carried {
        self.lock().insert(id.to_owned(), false);
        Carried { running: self.clone(), id: id.to_owned() }
    }

    /// Asks the rollout of the deployment `id` to stop; returns whether it is carried out here.
    #[must_use]
    pub fn stop(&self, id: &str) -> bool {
        self.lock().get_mut(id).map(|stops| *stops = true).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Carried {
    fn stops(&self) -> bool {
        self.running.lock().get(&self.id).copied().unwrap_or_default()
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.running.lock().remove(&self.id);
    }
}

impl Asked {
    /// Ties `call` to the rollout `carried`.
    #[must_use]
    pub fn new(call: Call, carried: Carried, is_answered: bool) -> Self {
        Self { call, carried, is_answered }
    }
}

impl Caller for Asked {
    fn is_cancelled(&self) -> bool {
        self.carried.stops() || (!self.is_answered && self.call.cancelled().is_cancelled())
    }

    fn progress(&self, step: usize, what: &str) {
        if !self.is_answered {
            self.call.progress(step, STEPS, || what.to_owned());
        }
    }

    fn charge(&self, sku: String) {
        if !self.is_answered {
            self.call.charge(sku, 1);
        }
    }

    fn decide(&self, action: &str, reason: &str, detail: Value) {
        self.call.decide(action, reason, detail);
    }
}
