//! Handles of repositories that calls which only read leave to the next such call.
//!
//! Opening a repository reads its configuration, its lists of packs and references; a short call would spend more on
//! that than on its answer. Every check of what the repository is and refers to is made for each call all the same: what
//! is spared is libgit2's own opening, and only while all that it would find looks as it did.

use std::collections::HashMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use git2::Repository;

use super::OpenRepository;
use super::confine::Fingerprint;

/// How many handles wait at most: a fleet's repositories that are asked about at the same time.
const HANDLES_MAX: usize = 16;

/// How many calls use one handle: it remembers the objects that it has read.
const USES_MAX: u32 = 200;

/// The handles that wait for the next call, by git directory.
#[derive(Default)]
pub struct Handles(Mutex<HashMap<PathBuf, Handle>>);

struct Handle {
    git: Repository,
    looked: Fingerprint,
    uses: u32,
}

/// A repository for one call that only reads.
pub struct KeptRepository<'handles> {
    /// There until it is dropped.
    opened: Option<OpenRepository>,
    back: Option<Back<'handles>>,
}

/// Where a handle goes after the call.
struct Back<'handles> {
    handles: &'handles Handles,
    own: PathBuf,
    looked: Fingerprint,
    uses: u32,
}

impl Handles {
    /// Returns the handle of the git directory `own` that was opened when it looked like `looked`, and how often it was
    /// used. One that was opened when it looked otherwise is let go.
    pub(super) fn take(&self, own: &PathBuf, looked: Option<&Fingerprint>) -> Option<(Repository, u32)> {
        let handle = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(own)?;
        (Some(&handle.looked) == looked).then_some((handle.git, handle.uses))
    }

    fn put(&self, own: PathBuf, handle: Handle) {
        let mut handles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if handles.len() >= HANDLES_MAX {
            handles.clear();
        }
        handles.insert(own, handle);
    }
}

impl std::fmt::Debug for Handles {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Handles").finish_non_exhaustive()
    }
}

impl<'handles> KeptRepository<'handles> {
    /// Takes `opened` for one call; where the git directory `own` is known to look like `looked`, its handle is kept
    /// afterwards.
    pub(super) fn new(
        opened: OpenRepository,
        handles: &'handles Handles,
        own: PathBuf,
        looked: Option<Fingerprint>,
        uses: u32,
    ) -> Self {
        let back = looked.map(|looked| Back { handles, own, looked, uses: uses + 1 });
        Self { opened: Some(opened), back: back.filter(|back| back.uses < USES_MAX) }
    }

    /// Lets the handle go after this call, which had it read much.
    pub fn let_go(&mut self) {
        self.back = None;
    }
}

impl Deref for KeptRepository<'_> {
    type Target = OpenRepository;

    #[expect(clippy::expect_used, reason = "taken out only by drop")]
    fn deref(&self) -> &OpenRepository {
        self.opened.as_ref().expect("there until it is dropped")
    }
}

impl Drop for KeptRepository<'_> {
    fn drop(&mut self) {
        if let (Some(opened), Some(Back { handles, own, looked, uses })) = (self.opened.take(), self.back.take())
            && !std::thread::panicking()
        {
            handles.put(own, Handle { git: opened.git, looked, uses });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::roots::Roots;

    fn kept(roots: &Roots) -> usize {
        roots.handles().0.lock().unwrap().len()
    }

    #[test]
    fn handle_is_used_again_while_nothing_changed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(dir.path()).unwrap();
        Repository::init(&folder).unwrap();
        let roots = Roots::new(folder.clone(), &[".".into()]);
        drop(OpenRepository::open_to_read(&roots, None).unwrap());
        assert_eq!(kept(&roots), 0, "what has just changed may change again unseen");
        std::thread::sleep(Duration::from_millis(2100));

        drop(OpenRepository::open_to_read(&roots, None).unwrap());
        assert_eq!(kept(&roots), 1);
        let first = OpenRepository::open_to_read(&roots, None).unwrap();
        assert_eq!((kept(&roots), first.back.as_ref().map(|back| back.uses)), (0, Some(2)));
        // Another call at the same time has one of its own.
        let mut second = OpenRepository::open_to_read(&roots, None).unwrap();
        assert_eq!(second.back.as_ref().map(|back| back.uses), Some(1));
        second.let_go();
        drop(second);
        assert_eq!(kept(&roots), 0);
        drop(first);
        assert_eq!(kept(&roots), 1);

        fs::write(folder.join(".git/config"), "[core]\n\tbare = false\n").unwrap();
        drop(OpenRepository::open_to_read(&roots, None).unwrap());
        assert_eq!(kept(&roots), 0, "the configuration is another");
    }
}
