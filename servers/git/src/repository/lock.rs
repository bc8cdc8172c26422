//! One change at a time.

use std::fs::{File, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use git2::Repository;
use tollgate_shared::refusal::Refusal;

/// How long a change waits for another: longer than a commit takes, shorter than the 60 s after which hosts give up.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// How often a waiting change looks again: unnoticeable beside a commit.
const POLL: Duration = Duration::from_millis(10);

/// Proof that no other Tollgate process changes the repository; released when dropped, and by the system on a crash.
///
/// libgit2 locks the index only while it writes it, so two processes that stage at once would each write what they
/// read and one would be lost. Git's own lock files guard against other git programs, this against each other.
#[derive(Debug)]
pub struct ChangeLock(#[expect(dead_code, reason = "holds the lock")] File);

impl ChangeLock {
    /// Waits for the lock of `repository`, which all its worktrees share.
    ///
    /// # Errors
    ///
    /// `repository_busy` when it is not free in time.
    pub fn acquire(repository: &Repository) -> Result<Self, Refusal> {
        let unusable = |error: std::io::Error| {
            Refusal::failed(
                "git_failed",
                format!("cannot lock the repository: {error}"),
                "use a file system that has locks",
            )
        };
        // The folder itself is locked: nothing has to be made, so nothing can be a link to elsewhere.
        let folder = File::open(repository.commondir()).map_err(unusable)?;
        let started = Instant::now();
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(Self(folder)),
                Err(TryLockError::Error(error)) => return Err(unusable(error)),
                Err(TryLockError::WouldBlock) if started.elapsed() > WAIT_MAX => {
                    return Err(Refusal::failed(
                        "repository_busy",
                        "other calls are changing the repository",
                        "call again in a moment",
                    ));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(POLL),
            }
        }
    }
}
