//! Whether the processes behind a reservation can still write its receipt.
//!
//! A file that the orchestrator and its own servers hold locked while they live. The kernel lets go of the lock when the
//! last of them ends, however it ends; a process id says less, since it is given to somebody else.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

pub use tollgate_shared::state_dir::OWNER_FILE_VARIABLE;

/// The folder of these files in the state folder.
const FOLDER: &str = "owners";

/// This process as one that sets money aside.
pub(super) struct Owner {
    /// Unique, and never used again.
    pub(super) name: String,
    pub(super) path: PathBuf,
    _lock: File,
}

impl Owner {
    pub(super) fn new(state_dir: &Path) -> io::Result<Self> {
        let folder = state_dir.join(FOLDER);
        std::fs::create_dir_all(&folder)?;
        loop {
            let name = Uuid::now_v7().to_string();
            let path = folder.join(&name);
            let lock = File::options().create_new(true).append(true).open(&path)?;
            lock.lock_shared()?;
            // Somebody who tidies up may have been faster than the lock; after it nobody can.
            if path.exists() {
                return Ok(Self { name, path, _lock: lock });
            }
        }
    }
}

/// How often a lock that is held is looked at again, and after how long: who else looks holds it for some microseconds, as does a process
/// that was just started and does not run its program yet.
const LOOKS: usize = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Whether every process of this owner is gone.
pub(super) fn is_gone(state_dir: &Path, name: &str) -> io::Result<bool> {
    let file = match File::options().append(true).open(state_dir.join(FOLDER).join(name)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    is_free(&file, &mut || std::thread::sleep(LOOK_AGAIN))
}

/// Whether nobody holds `file` locked, or nobody any more at one of the looks; `pause` is what is between them.
fn is_free(file: &File, pause: &mut dyn FnMut()) -> io::Result<bool> {
    for look in 1..=LOOKS {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if look < LOOKS => pause(),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(false)
}

/// Removes the files of owners that are gone and have nothing set aside.
pub(super) fn tidy(state_dir: &Path, still_needed: &dyn Fn(&str) -> bool) {
    let Ok(files) = std::fs::read_dir(state_dir.join(FOLDER)) else { return };
    for file in files.flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        if still_needed(&name) {
            continue;
        }
        let Ok(opened) = File::options().append(true).open(file.path()) else { continue };
        if opened.try_lock().is_ok() {
            // Still locked while it goes, so that nobody who just made it believes that it is there.
            let _ = std::fs::remove_file(file.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn who_else_looks_is_not_taken_for_the_owner() {
        let folder = TempDir::new().unwrap();
        let owner = Owner::new(folder.path()).unwrap();
        assert!(!is_gone(folder.path(), &owner.name).unwrap());
        let (name, path) = (owner.name.clone(), owner.path.clone());
        drop(owner);
        let mut looking = Some(File::open(&path).unwrap());
        looking.as_ref().unwrap().lock().unwrap();
        let file = File::options().append(true).open(&path).unwrap();
        assert!(is_free(&file, &mut || drop(looking.take())).unwrap());
        drop(file);
        assert!(is_gone(folder.path(), &name).unwrap());
        // One that lives may be looked at by many at once.
        let alive = Owner::new(folder.path()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!(!is_gone(folder.path(), &alive.name).unwrap()));
            }
        });
    }
}
