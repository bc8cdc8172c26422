//! Who is at work on what, across processes: each piece of work is done once, however many ask for it.
//!
//! A claim is a lock on one of a fixed number of files, which the work's hash chooses. The kernel lets go of it when its
//! holder ends, however it ends, so no claim outlives a killed process and none has to expire. Locks belong to the
//! open file, not to the process, so that two threads keep each other out too.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tollgate_shared::content_hash::ContentHash;

/// How many files there are: two works of one file wait for each other, which should be rare among some hundreds.
const SLOTS: u16 = 4096;

/// The claims of one group of work; all are given back when it is dropped.
pub struct Claims {
    folder: PathBuf,
    /// What is held, and for how many works.
    held: RefCell<HashMap<u16, (File, usize)>>,
}

impl Claims {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned(), held: RefCell::default() })
    }

    /// Claims the work `key`; returns whether nobody else has it.
    ///
    /// A file system without locks leaves everybody to their own work: dearer, never wrong.
    #[must_use]
    pub fn take(&self, key: &ContentHash) -> bool {
        let slot = slot(key);
        let mut held = self.held.borrow_mut();
        if let Some((_, works)) = held.get_mut(&slot) {
            *works += 1;
            return true;
        }
        let path = self.folder.join(format!("{slot:03x}"));
        let Ok(file) = File::options().create(true).truncate(false).write(true).open(path) else { return true };
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return false;
        }
        held.insert(slot, (file, 1));
        true
    }

    /// Gives the work `key` back.
    pub fn give_back(&self, key: &ContentHash) {
        let mut held = self.held.borrow_mut();
        if let Some((_, works)) = held.get_mut(&slot(key)) {
            *works -= 1;
            if *works == 0 {
                held.remove(&slot(key));
            }
        }
    }
}

fn slot(key: &ContentHash) -> u16 {
    let [first, second, ..] = *key.as_bytes();
    u16::from_be_bytes([first, second]) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_claimed_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("claims");
        let (one, other) = (Claims::open(&path).unwrap(), Claims::open(&path).unwrap());
        let (a, b) = (ContentHash::of(b"a"), ContentHash::of(b"b"));
        assert!(one.take(&a) && one.take(&a));
        assert!(!other.take(&a));
        assert!(other.take(&b) && !one.take(&b));
        one.give_back(&a);
        assert!(!other.take(&a), "taken twice, given back once");
        one.give_back(&a);
        assert!(other.take(&a));
        drop(other);
        assert!(one.take(&a) && one.take(&b));
    }
}
