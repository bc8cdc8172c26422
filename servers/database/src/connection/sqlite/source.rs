//! The file behind a connection, and whether it can be read without leaving anything beside it.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tollgate_shared::refusal::Refusal;

use crate::connection::unavailable;

/// How old the last change must be for the next one to be seen by its time: file systems count in steps, of two
/// seconds at worst.
const SETTLED: Duration = Duration::from_secs(2);

/// Where SQLite keeps the versions of the file's format for writing and reading; 2 is a write-ahead log.
const FORMAT_VERSIONS: std::ops::Range<usize> = 18..20;

/// Who reads which file in this process.
///
/// Whoever closes a file lets go of all locks that its process has on it (POSIX, `fcntl`), those of a query that still runs too. So what we
/// open beside SQLite, which minds that itself, stays open until nobody reads the file.
static READERS: LazyLock<Mutex<HashMap<PathBuf, Readers>>> = LazyLock::new(Mutex::default);

/// The readers of one file.
#[derive(Debug, Default)]
struct Readers {
    count: usize,
    /// What we have open beside SQLite.
    beside: Vec<Arc<File>>,
}

/// One who reads a file.
pub(super) struct Reader(PathBuf);

impl Drop for Reader {
    fn drop(&mut self) {
        let mut readers = readers();
        let Some(these) = readers.get_mut(&self.0) else { return };
        these.count -= 1;
        if these.count == 0 {
            readers.remove(&self.0);
        }
    }
}

fn readers() -> MutexGuard<'static, HashMap<PathBuf, Readers>> {
    READERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that exists.
pub(super) struct Source {
    path: PathBuf,
    metadata: Metadata,
}

/// Proof that the file was at rest: not changed just now, and where it is in WAL mode, with nothing in its log.
///
/// To read a file in WAL mode by its locks, SQLite makes `-wal` and `-shm` files beside it, which a reader cannot take away
/// again, and which cannot be made at all in a folder that is read-only. So it is read without locks. Whatever is known of a file at rest, an
/// answer too, counts only if the file is the same afterwards.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rest {
    state: State,
    mode: Mode,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// By a write-ahead log.
    Log,
    /// In place, with a journal of what was there.
    Journal,
}

/// What changes when somebody writes a file or puts another in its place.
#[derive(Debug, PartialEq, Eq)]
struct State {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Source {
    /// Finds the file at `path`, links followed.
    pub(super) fn find(path: &Path) -> Result<Self, Refusal> {
        let path = fs::canonicalize(path).map_err(|error| {
            tracing::debug!(%error, "no database file");
            unavailable("there is no such file, or it is out of reach")
        })?;
        let metadata = fs::metadata(&path).map_err(|_| unavailable("there is no such file, or it is out of reach"))?;
        // Opening a pipe would wait for somebody to write to it.
        if !metadata.is_file() {
            return Err(unavailable("it is not a file"));
        }
        Ok(Self { path, metadata })
    }

    /// Counts one who reads the file, as long as that one is held: whenever SQLite has it open for a query.
    pub(super) fn reader(&self) -> Reader {
        readers().entry(self.path.clone()).or_default().count += 1;
        Reader(self.path.clone())
    }

    /// Returns the path, absolute and without links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the proof that the file is at rest, if it is; `known` is what was known of it last. For a [`Reader`].
    pub(super) fn rest(&self, known: Option<&Rest>) -> Option<Rest> {
        let settled = |time: std::io::Result<SystemTime>| time.ok()?.elapsed().ok().filter(|age| *age > SETTLED);
        settled(self.metadata.modified())?;
        let changed = u64::try_from(self.metadata.ctime()).ok()?;
        settled(Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(changed)))?;
        let state = State::of(&self.metadata);
        let mode = match known {
            Some(known) if known.state == state => known.mode,
            _ => self.mode()?,
        };
        (mode == Mode::Journal || self.log_is_empty()).then_some(Rest { state, mode })
    }

    /// Returns the file as a URI that has SQLite read it without locks.
    pub(super) fn lockless_uri(&self) -> String {
        use std::fmt::Write;
        use std::os::unix::ffi::OsStrExt;
        let mut uri = "file:".to_owned();
        for byte in self.path.as_os_str().as_bytes() {
            match byte {
                b'/' | b'.' | b'_' | b'-' => uri.push(char::from(*byte)),
                byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
                byte => drop(write!(uri, "%{byte:02X}")),
            }
        }
        uri.push_str("?immutable=1");
        uri
    }

    /// Reads from the file how it is written; nothing where it is no database.
    fn mode(&self) -> Option<Mode> {
        let mut header = [0; FORMAT_VERSIONS.end];
        self.beside()?.read_exact_at(&mut header, 0).ok()?;
        let log = header[FORMAT_VERSIONS].contains(&2);
        header.starts_with(b"SQLite format 3\0").then_some(if log { Mode::Log } else { Mode::Journal })
    }

    /// Opens the file beside SQLite, until nobody reads it.
    fn beside(&self) -> Option<Arc<File>> {
        let is_this =
            |file: &&Arc<File>| file.metadata().is_ok_and(|found| State::of(&found).is_file_of(&self.metadata));
        if let Some(file) = readers().get(&self.path)?.beside.iter().find(is_this) {
            return Some(Arc::clone(file));
        }
        let file = Arc::new(File::open(&self.path).ok()?);
        readers().get_mut(&self.path)?.beside.push(Arc::clone(&file));
        Some(file)
    }

    fn log_is_empty(&self) -> bool {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        match fs::metadata(&log) {
            Ok(metadata) => metadata.len() == 0,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }
}

impl Rest {
    /// Returns whether the file is read without locks.
    pub(super) fn is_lockless(&self) -> bool {
        self.mode == Mode::Log
    }

    /// Returns whether the file is still the same, so that what was read is one state of it.
    pub(super) fn still_holds(&self, source: &Source) -> bool {
        fs::metadata(&source.path).is_ok_and(|metadata| State::of(&metadata) == self.state)
    }
}

impl State {
    /// Whether this is of the same file, be it changed or not.
    fn is_file_of(&self, metadata: &Metadata) -> bool {
        self.device == metadata.dev() && self.inode == metadata.ino()
    }

    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn query_that_runs_keeps_its_lock_whatever_is_looked_at_beside_it() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("shop.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)").unwrap();
        std::thread::sleep(Duration::from_millis(3_200));
        let source = Source::find(&path).unwrap();
        let is_locked = || {
            let inode = format!(":{} ", source.metadata.ino());
            fs::read_to_string("/proc/locks").unwrap().lines().any(|lock| lock.contains(&inode))
        };
        let reader = source.reader();
        let mut statement = connection.prepare("SELECT a FROM t").unwrap();
        let mut rows = statement.query([]).unwrap();
        assert!(rows.next().unwrap().is_some() && is_locked());
        for _ in 0..3 {
            let other = source.reader();
            assert!(source.rest(None).is_some());
            drop(other);
            assert!(is_locked());
        }
        assert_eq!(readers().get(&source.path).map(|these| these.beside.len()), Some(1));
        drop(rows);
        drop(reader);
        assert!(!readers().contains_key(&source.path));
    }
}
