//! The results that this process used last, in memory.

use std::collections::HashMap;

use tollgate_shared::content_hash::ContentHash;

use super::USE_NOTED_EVERY_S;
use crate::check::CheckResult;

/// Results of one generation; with the one before, 10 MB when each is a pass.
const ENTRIES_MAX: usize = 16_384;

/// Findings of a result that is kept here; one with more is long, and its file will change soon.
const FINDINGS_MAX: usize = 4;

/// Two generations: what was used since the young one began, and what was used before.
#[derive(Default)]
pub(super) struct Front {
    young: HashMap<ContentHash, Entry>,
    old: HashMap<ContentHash, Entry>,
}

struct Entry {
    result: CheckResult,
    /// When the file last learnt that it is used, in seconds since 1970.
    noted_at: i64,
}

impl Front {
    /// Returns what is kept under `key`, unless it is time that the file learns of its use.
    pub(super) fn get(&mut self, key: &ContentHash, now: i64) -> Option<CheckResult> {
        if let Some(entry) = self.young.get(key) {
            return (now - entry.noted_at <= USE_NOTED_EVERY_S).then(|| entry.result.clone());
        }
        let entry = self.old.remove(key)?;
        let result = (now - entry.noted_at <= USE_NOTED_EVERY_S).then(|| entry.result.clone())?;
        self.keep(*key, entry);
        Some(result)
    }

    /// Keeps `result`.
    pub(super) fn put(&mut self, key: ContentHash, result: CheckResult, noted_at: i64) {
        if result.findings.len() <= FINDINGS_MAX {
            self.keep(key, Entry { result, noted_at });
        }
    }

    fn keep(&mut self, key: ContentHash, entry: Entry) {
        if self.young.len() >= ENTRIES_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Check;

    fn key(number: usize) -> ContentHash {
        ContentHash::of(&number.to_be_bytes())
    }

    #[test]
    fn what_was_used_last_stays() {
        let mut front = Front::default();
        for number in 0..3 * ENTRIES_MAX {
            front.put(key(number), CheckResult::inconclusive(Check::Syntax, "x"), 0);
            assert!(front.get(&key(0), 0).is_some(), "used again and again");
        }
        assert!(front.young.len() + front.old.len() <= 2 * ENTRIES_MAX);
        assert!(front.get(&key(1), 0).is_none());
        assert!(front.get(&key(0), USE_NOTED_EVERY_S + 1).is_none(), "the file has to learn of it");
    }
}
