//! Answers that are given again for a short while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tollgate_shared::content_hash::ContentHash;

/// How many answers of one connection are kept.
const ENTRIES_MAX: usize = 128;

/// How many bytes of JSON all answers of one connection have together, about.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// The answers of one connection.
#[derive(Debug)]
pub struct Cache<T> {
    life: Duration,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    entries: HashMap<ContentHash, Entry<T>>,
    bytes: usize,
    hits: u64,
    misses: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at: Instant,
    bytes: usize,
    answer: Arc<T>,
}

/// What a cache holds and did.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheStatistics {
    /// Answers that are kept, those among them whose time is over.
    pub entries: usize,
    /// Calls that were answered from it.
    pub hits: u64,
    /// Calls that were not.
    pub misses: u64,
}

impl<T> Cache<T> {
    /// Makes a cache whose answers are good for `life`; nothing is kept when it is zero.
    #[must_use]
    pub fn new(life: Duration) -> Self {
        Self { life, state: Mutex::new(State { entries: HashMap::new(), bytes: 0, hits: 0, misses: 0 }) }
    }

    /// Whether it keeps anything.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.life.is_zero()
    }

    /// Returns the answer that is kept under `key`, if it is still good.
    pub fn get(&self, key: &ContentHash) -> Option<Arc<T>> {
        if !self.is_on() {
            return None;
        }
        let mut state = self.lock();
        let answer = state
            .entries
            .get(key)
            .filter(|entry| entry.at.elapsed() < self.life)
            .map(|entry| Arc::clone(&entry.answer));
        match answer {
            Some(_) => state.hits += 1,
            None => state.misses += 1,
        }
        answer
    }

    /// Keeps an answer of about `bytes` bytes, made from what was read at `at`.
    pub fn keep(&self, key: ContentHash, answer: Arc<T>, bytes: usize, at: Instant) {
        if !self.is_on() {
            return;
        }
        let mut state = self.lock();
        if state.entries.len() >= ENTRIES_MAX || state.bytes + bytes > BYTES_MAX {
            state.entries.retain(|_, entry| entry.at.elapsed() < self.life);
            state.bytes = state.entries.values().map(|entry| entry.bytes).sum();
        }
        if state.entries.len() < ENTRIES_MAX && state.bytes + bytes <= BYTES_MAX {
            if let Some(old) = state.entries.insert(key, Entry { at, bytes, answer }) {
                state.bytes -= old.bytes;
            }
            state.bytes += bytes;
        }
    }

    /// Forgets everything, and returns how many answers that were.
    pub fn clear(&self) -> usize {
        let mut state = self.lock();
        let count = state.entries.len();
        state.entries.clear();
        state.bytes = 0;
        count
    }

    /// Returns what it holds and did.
    #[must_use]
    pub fn statistics(&self) -> CacheStatistics {
        let state = self.lock();
        CacheStatistics { entries: state.entries.len(), hits: state.hits, misses: state.misses }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_good_for_a_while_and_bounded() {
        let key = |number: usize| ContentHash::of(&number.to_le_bytes());
        let cache = Cache::new(Duration::from_secs(60));
        assert!(cache.get(&key(1)).is_none());
        cache.keep(key(1), Arc::new("one"), 10, Instant::now());
        assert_eq!(cache.get(&key(1)).as_deref(), Some(&"one"));
        let Some(long_ago) = Instant::now().checked_sub(Duration::from_secs(61)) else { return };
        cache.keep(key(2), Arc::new("two"), 10, long_ago);
        assert!(cache.get(&key(2)).is_none());
        for number in 0..2 * ENTRIES_MAX {
            cache.keep(key(number), Arc::new("x"), 10, Instant::now());
        }
        assert!(cache.statistics().entries <= ENTRIES_MAX);
        cache.keep(key(9999), Arc::new("large"), BYTES_MAX + 1, Instant::now());
        assert!(cache.get(&key(9999)).is_none());
        assert!(cache.clear() > 0 && cache.statistics().entries == 0);
        let off = Cache::new(Duration::ZERO);
        off.keep(key(1), Arc::new("one"), 10, Instant::now());
        assert!(off.get(&key(1)).is_none());
    }
}
