//! The file behind a connection, and whether it can be read without leaving anything beside it.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tollgate_shared::refusal::Refusal;

use super::unavailable;

/// How old the last change must be for the next one to be seen by its time: file systems count in steps, of two
/// seconds at worst.
const SETTLED: Duration = Duration::from_secs(2);

/// Where SQLite keeps the versions of the file's format for writing and reading; 2 is a write-ahead log.
const FORMAT_VERSIONS: std::ops::Range<usize> = 18..20;

/// A file that exists.
pub(super) struct Source {
    path: PathBuf,
    metadata: Metadata,
}

/// Proof that the file was at rest: in WAL mode, with nothing in its log, and not changed just now.
///
/// To read such a file by its locks, SQLite makes `-wal` and `-shm` files beside it, which a reader cannot take away
/// again, and which cannot be made at all in a folder that is read-only. So it is read without locks, and the answer
/// counts only if the file is the same afterwards.
pub(super) struct Quiet(State);

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

    /// Returns the path, absolute and without links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the proof that the file is at rest, if it is.
    pub(super) fn quiet(&self) -> Option<Quiet> {
        let settled = |time: std::io::Result<SystemTime>| time.ok()?.elapsed().ok().filter(|age| *age > SETTLED);
        settled(self.metadata.modified())?;
        let changed = u64::try_from(self.metadata.ctime()).ok()?;
        settled(Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(changed)))?;
        (self.is_in_wal_mode() && self.log_is_empty()).then(|| Quiet(State::of(&self.metadata)))
    }

    /// Returns the file as a URI that has SQLite read it without locks.
    pub(super) fn quiet_uri(&self) -> String {
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

    fn is_in_wal_mode(&self) -> bool {
        let mut header = [0; FORMAT_VERSIONS.end];
        let read = File::open(&self.path).and_then(|mut file| file.read_exact(&mut header));
        read.is_ok() && header.starts_with(b"SQLite format 3\0") && header[FORMAT_VERSIONS].contains(&2)
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

impl Quiet {
    /// Returns whether the file is still the same, so that what was read is one state of it.
    pub(super) fn still_holds(&self, source: &Source) -> bool {
        fs::metadata(&source.path).is_ok_and(|metadata| State::of(&metadata) == self.0)
    }
}

impl State {
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
