//! One change at a time, and what a change that was killed left behind.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use git2::Repository;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat, unlinkat};
use tollgate_shared::refusal::Refusal;

use super::switch;
use crate::{watch, worktree_file};

/// The file in the git directory that is locked, and that says which of git's own locks the holder takes.
const FILE: &str = "tollgate-change";

/// How long a change waits for another: longer than a commit takes, shorter than the 60 s after which hosts give up.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// How often a waiting change looks again: unnoticeable beside a commit.
const POLL: Duration = Duration::from_millis(10);

/// How old a lock that a killed change may have left must be before it is removed: other git programs, which may have
/// taken it since, hold theirs for milliseconds.
const LEFT_AGE: Duration = Duration::from_secs(2);

/// Longest announcement that is read: three paths.
const ANNOUNCED_BYTES_MAX: u64 = 16 * 1024;

/// Proof that no other Tollgate process changes the repository; released when dropped, and by the system on a crash.
///
/// libgit2 locks the index only while it writes it, so two processes that stage at once would each write what they
/// read and one would be lost. Git's own lock files guard against other git programs, this against each other.
#[derive(Debug)]
pub struct ChangeLock {
    file: File,
    /// The git directory that all worktrees share.
    folder: PathBuf,
}

/// Git's own locks are announced; dropping it takes the announcement back, so it must outlive them.
#[derive(Debug)]
pub struct Announced<'lock>(&'lock File);

impl ChangeLock {
    /// Waits for the lock of `repository`, which all its worktrees share, and tidies up after a holder that was killed.
    ///
    /// # Errors
    ///
    /// `repository_busy` when it is not free in time.
    pub fn acquire(repository: &Repository) -> Result<Self, Refusal> {
        let folder = fs::canonicalize(repository.commondir()).map_err(|error| unusable(&error))?;
        let started = Instant::now();
        loop {
            let file = open(&folder.join(FILE))?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &folder.join(FILE)) => {
                    let lock = Self { file, folder };
                    lock.remove_left_locks().map_err(|error| unusable(&error))?;
                    switch::undo_interrupted(repository, &lock)?;
                    return Ok(lock);
                }
                // Somebody removed the file while it was waited for: the next holder would lock another one.
                Ok(()) if started.elapsed() <= WAIT_MAX => {}
                Err(TryLockError::WouldBlock) if started.elapsed() <= WAIT_MAX => thread::sleep(POLL),
                Err(TryLockError::Error(error)) => return Err(unusable(&error)),
                Ok(()) | Err(TryLockError::WouldBlock) => {
                    return Err(Refusal::failed(
                        "repository_busy",
                        "other calls are changing the repository",
                        "call again in a moment",
                    ));
                }
            }
        }
    }

    /// Announces that git's locks of `names` (`HEAD`, `index`, `packed-refs`, full names of branches) are about to be taken.
    ///
    /// A killed process leaves them behind; whoever changes the repository next knows from this whose they were.
    ///
    /// # Errors
    ///
    /// When it cannot be written; `timeout` when the call was given up.
    pub fn announce(&self, repository: &Repository, names: &[&str]) -> Result<Announced<'_>, Refusal> {
        watch::writes()?;
        let own = fs::canonicalize(repository.path()).map_err(|error| unusable(&error))?;
        let locks: Vec<String> = names
            .iter()
            .map(|name| {
                if name.starts_with("refs/") || *name == "packed-refs" {
                    self.folder.join(name)
                } else {
                    own.join(name)
                }
            })
            // A worktree's own folder is below the shared one, unless somebody arranged it by hand.
            .filter_map(|path| Some(format!("{}.lock", path.strip_prefix(&self.folder).ok()?.to_str()?)))
            .collect();
        self.write(serde_json::json!(locks).to_string().as_bytes()).map_err(|error| unusable(&error))?;
        Ok(Announced(&self.file))
    }

    fn write(&self, content: &[u8]) -> std::io::Result<()> {
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(content)
    }

    /// Removes the locks that the last holder announced and did not live to release.
    fn remove_left_locks(&self) -> std::io::Result<()> {
        let mut text = Vec::new();
        (&self.file).take(ANNOUNCED_BYTES_MAX).read_to_end(&mut text)?;
        if text.is_empty() {
            return Ok(());
        }
        let announced_at = self.file.metadata()?.modified()?;
        let names: Vec<String> = serde_json::from_slice(&text).unwrap_or_default();
        for name in names.iter().filter(|name| is_lock_name(name)) {
            remove_left_lock(&self.folder, name.as_bytes(), announced_at);
        }
        self.write(b"")
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        // Left as it is, it makes the next holder look for locks that are not there.
        let _ = self.0.set_len(0);
    }
}

fn unusable(error: &std::io::Error) -> Refusal {
    Refusal::failed(
        "git_failed",
        format!("cannot lock the repository: {error}"),
        "make the git directory writable, on a file system that has locks",
    )
}

fn open(path: &Path) -> Result<File, Refusal> {
    // Never through a link, which could lead anywhere; not blocking, in case somebody put a pipe there.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::from_raw_mode(0o644)).map_err(|error| unusable(&error.into()))?;
    let file = File::from(file);
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        _ => Err(unusable(&std::io::Error::other(format!("`{FILE}` in the git directory is no file")))),
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let opened = file.metadata().map(identity).ok();
    opened.is_some() && opened == fs::symlink_metadata(path).map(identity).ok()
}

/// Returns whether `name` is that of a lock of git's, relative to the git directory: the announcement is a file that
/// others can write too.
fn is_lock_name(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or_default();
    let plain = !name.contains('\0') && name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let below = ["refs/heads/", "refs/remotes/", "refs/tollgate/stash/"];
    let branch =
        below.iter().any(|folder| name.starts_with(folder)) && last.len() > ".lock".len() && last.ends_with(".lock");
    plain && (branch || matches!(last, "HEAD.lock" | "index.lock") || name == "packed-refs.lock")
}

fn remove_left_lock(folder: &Path, name: &[u8], announced_at: SystemTime) {
    let Ok((folder, name)) = worktree_file::parent(folder, name) else { return };
    let look = || {
        let stat = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let seconds = Duration::from_secs(u64::try_from(stat.st_mtime).ok()?);
        let nanoseconds = Duration::from_nanos(stat.st_mtime_nsec);
        regular.then_some((stat.st_ino, SystemTime::UNIX_EPOCH + seconds + nanoseconds))
    };
    // One that was there before belongs to somebody else.
    let Some((found, made_at)) = look().filter(|(_, made_at)| *made_at >= announced_at) else { return };
    let age = made_at.elapsed().unwrap_or_default();
    thread::sleep(LEFT_AGE.saturating_sub(age));
    if look().is_some_and(|(now, _)| now == found) {
        let _ = unlinkat(&folder, name, AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn world() -> (TempDir, Repository) {
        let dir = TempDir::new().unwrap();
        let repository = Repository::init(dir.path()).unwrap();
        (dir, repository)
    }

    /// Leaves what a process leaves that is killed with git's locks in its hands.
    fn killed(repository: &Repository, names: &[&str]) {
        let lock = ChangeLock::acquire(repository).unwrap();
        std::mem::forget(lock.announce(repository, names).unwrap());
    }

    fn lock_file(repository: &Repository, name: &str) -> PathBuf {
        let path = repository.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        path
    }

    #[test]
    fn locks_of_a_killed_change_are_removed() {
        let (_dir, repository) = world();
        killed(&repository, &["HEAD", "index", "refs/heads/a/b"]);
        let left = ["HEAD.lock", "index.lock", "refs/heads/a/b.lock"].map(|name| lock_file(&repository, name));
        let other = lock_file(&repository, "refs/heads/other.lock");
        ChangeLock::acquire(&repository).unwrap();
        assert_eq!(left.map(|path| path.exists()), [false; 3]);
        assert!(other.exists());
        assert_eq!(fs::read(repository.path().join(FILE)).unwrap(), b"");
    }

    #[test]
    fn locks_from_before_a_killed_change_stay() {
        let (_dir, repository) = world();
        let other = lock_file(&repository, "HEAD.lock");
        thread::sleep(Duration::from_millis(50));
        killed(&repository, &["HEAD"]);
        ChangeLock::acquire(&repository).unwrap();
        assert!(other.exists());
    }

    #[test]
    fn locks_after_a_finished_change_stay() {
        let (_dir, repository) = world();
        let lock = ChangeLock::acquire(&repository).unwrap();
        drop(lock.announce(&repository, &["HEAD"]).unwrap());
        drop(lock);
        let other = lock_file(&repository, "HEAD.lock");
        ChangeLock::acquire(&repository).unwrap();
        assert!(other.exists());
    }

    #[test]
    fn forged_announcement_removes_nothing_else() {
        let (dir, repository) = world();
        let outside = TempDir::new().unwrap();
        fs::write(outside.path().join("HEAD.lock"), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), repository.path().join("out")).unwrap();
        std::os::unix::fs::symlink(outside.path(), repository.path().join("refs/heads/out")).unwrap();
        fs::write(dir.path().join("HEAD.lock"), "").unwrap();
        let names = [
            "../HEAD.lock",
            "out/HEAD.lock",
            "refs/heads/out/HEAD.lock",
            "config",
            "refs/heads/../../config",
            "/etc/HEAD.lock",
            "refs/heads/.lock",
            "HEAD",
        ];
        fs::write(repository.path().join(FILE), serde_json::json!(names).to_string()).unwrap();
        thread::sleep(Duration::from_millis(20));
        for path in [outside.path().join("HEAD.lock"), dir.path().join("HEAD.lock")] {
            fs::write(path, "").unwrap();
        }
        ChangeLock::acquire(&repository).unwrap();
        assert!(outside.path().join("HEAD.lock").exists() && dir.path().join("HEAD.lock").exists());
        assert!(repository.path().join("config").exists() && repository.path().join("HEAD").exists());
    }

    #[test]
    fn lock_is_not_made_through_a_link() {
        let (_dir, repository) = world();
        let outside = TempDir::new().unwrap();
        std::os::unix::fs::symlink(outside.path().join("made"), repository.path().join(FILE)).unwrap();
        assert_eq!(ChangeLock::acquire(&repository).unwrap_err().code, "git_failed");
        assert!(!outside.path().join("made").exists());
    }

    #[test]
    fn second_change_waits_for_the_first() {
        let (dir, repository) = world();
        let lock = ChangeLock::acquire(&repository).unwrap();
        let path = dir.path().to_owned();
        let second = thread::spawn(move || ChangeLock::acquire(&Repository::open(path).unwrap()).map(drop));
        thread::sleep(Duration::from_millis(100));
        assert!(!second.is_finished());
        drop(lock);
        second.join().unwrap().unwrap();
    }
}
