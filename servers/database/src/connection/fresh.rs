//! Answers of an engine that are relied on for a moment.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long: an agent repeats itself within seconds, and only people change the schema.
const FRESH: Duration = Duration::from_secs(2);

/// How many are kept.
const KEPT_MAX: usize = 256;

/// What an engine said, by what it was asked; forgotten after two seconds.
#[derive(Debug)]
pub(super) struct Fresh<K, V>(Mutex<HashMap<K, (Instant, Arc<V>)>>);

impl<K, V> Default for Fresh<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V> Fresh<K, V> {
    /// Returns the answer, if it is fresh.
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<Arc<V>>
    where
        K: std::borrow::Borrow<Q>,
    {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).filter(|(at, _)| at.elapsed() < FRESH).map(|(_, answer)| Arc::clone(answer))
    }

    /// Keeps an answer while there is room, and returns it.
    pub(super) fn keep(&self, key: K, answer: V) -> Arc<V> {
        let answer = Arc::new(answer);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.retain(|_, (at, _)| at.elapsed() < FRESH);
        }
        if kept.len() < KEPT_MAX {
            kept.insert(key, (Instant::now(), Arc::clone(&answer)));
        }
        answer
    }

    /// Forgets an answer that turned out to be wrong.
    pub(super) fn forget<Q: Eq + Hash + ?Sized>(&self, key: &Q)
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}
