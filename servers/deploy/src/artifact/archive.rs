//! Archives: unpacked into a folder of our own, where they are an artifact like any other.
//!
//! Only plain files and folders are taken, under plain names, each once, and only so much of them. Every name is opened
//! below the open folder before it, so that nothing in an archive leads out.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use rustix::fs::{CWD, FileType, Mode, OFlags, fchmod, fstat, mkdirat, openat};
use rustix::io::Errno;
use tar::{Archive, EntryType};
use tollgate_shared::ids::EntryId;
use tollgate_shared::state_dir::StateDir;

use crate::names::shown;
use crate::tree::{self, BYTES_MAX, DEPTH_MAX, ENTRIES_MAX, FOLDER, Stop};

/// The folder in the state folder in which archives are unpacked.
const UNPACKED: &str = "unpacked";

/// How many times larger than the archive its content may be; text compresses to a tenth, and a bomb to a thousandth.
const RATIO_MAX: u64 = 200;

/// What every archive may have unpacked, however small it is.
const BYTES_FREE: u64 = 64 * 1024 * 1024;

/// Longest name, from the archive's beginning.
const PATH_BYTES_MAX: usize = 4096;

/// After how many seconds a folder that nobody has locked was left behind, and is not one that is just being made.
const LEFT_AFTER_SECS: u64 = 60;

/// An archive that was unpacked; removed when dropped, and by a later one when its process died.
#[derive(Debug)]
pub struct Unpacked {
    path: PathBuf,
    /// Locked as long as it is needed.
    folder: File,
}

/// An archive that is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Something that is neither a plain file nor a folder, or has no plain name.
    #[error("in the archive, {path} {what}")]
    NotPlain {
        /// Where.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// More than is taken.
    #[error("it has {0}")]
    TooLarge(&'static str),
    /// Not an archive, or half of one.
    #[error("the archive cannot be read")]
    Broken(#[source] io::Error),
    /// The system says no.
    #[error("the archive cannot be unpacked")]
    Io(#[source] io::Error),
    /// Nobody wants it any more.
    #[error("stopped")]
    Stopped,
}

/// Whether a path names an archive.
#[must_use]
pub fn is_archive(path: &str) -> bool {
    [".tar.gz", ".tgz"].iter().any(|end| path.len() > end.len() && path.ends_with(end))
}

/// Opens the plain file `name` in the open folder `parent`.
///
/// # Errors
///
/// What the system says; `INVAL` for what is no plain file.
pub fn open(parent: impl AsFd, name: &str) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file: OwnedFd = openat(parent, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    Ok(File::from(file))
}

impl Unpacked {
    /// Unpacks `archive` into a new folder of the state folder.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`]; then nothing is left.
    pub fn new(state_dir: &StateDir, archive: File, stop: Stop<'_>) -> Result<Self, ArchiveError> {
        let all = state_dir.create().map_err(|error| ArchiveError::Io(io::Error::other(error)))?.join(UNPACKED);
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&all).map_err(ArchiveError::Io)?;
        clear_leftovers(&all);
        let path = all.join(EntryId::generate().to_string());
        builder.recursive(false).create(&path).map_err(ArchiveError::Io)?;
        let folder = openat(CWD, &path, FOLDER, Mode::empty()).map_err(|error| ArchiveError::Io(error.into()))?;
        let unpacked = Self { path, folder: File::from(folder) };
        unpacked.folder.try_lock().map_err(|error| ArchiveError::Io(error.into()))?;
        let size = archive.metadata().map_err(ArchiveError::Broken)?.len();
        let bytes_max = BYTES_MAX.min(size.saturating_mul(RATIO_MAX).max(BYTES_FREE));
        unpack(archive, unpacked.folder(), bytes_max, stop)?;
        Ok(unpacked)
    }

    /// Returns the folder.
    #[must_use]
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!(%error, "an unpacked archive could not be removed");
        }
    }
}

/// Removes what processes that died left: what is old and locked by nobody.
fn clear_leftovers(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let Ok(folder) = openat(CWD, entry.path(), FOLDER, Mode::empty()) else { continue };
        let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let age = modified.and_then(|modified| modified.elapsed().ok());
        if age.is_some_and(|age| age.as_secs() >= LEFT_AFTER_SECS) && File::from(folder).try_lock().is_ok() {
            let _ = remove(&entry.path());
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    tree::remove(openat(CWD, parent, FOLDER, Mode::empty())?, name)
}

fn unpack(archive: File, to: BorrowedFd<'_>, bytes_max: u64, stop: Stop<'_>) -> Result<(), ArchiveError> {
    // Headers count too: each entry has at least one, and one that fills it up.
    let limit = bytes_max + ENTRIES_MAX * 2048;
    let mut archive = Archive::new(GzDecoder::new(archive).take(limit));
    let (mut entries, mut bytes) = (0, 0_u64);
    for entry in archive.entries().map_err(ArchiveError::Broken)? {
        let mut entry = entry.map_err(ArchiveError::Broken)?;
        if stop() {
            return Err(ArchiveError::Stopped);
        }
        entries += 1;
        if entries > ENTRIES_MAX {
            return Err(ArchiveError::TooLarge("more than 100000 files and folders"));
        }
        let path = entry.path_bytes().into_owned();
        let not_plain = |what| ArchiveError::NotPlain { path: shown(&String::from_utf8_lossy(&path)), what };
        let names = names(&path).map_err(not_plain)?;
        let mode = entry.header().mode().map_err(ArchiveError::Broken)?;
        if mode & 0o7000 != 0 {
            return Err(not_plain("runs with another's rights (setuid, setgid or sticky)"));
        }
        match entry.header().entry_type() {
            EntryType::Directory => {
                descend(to, &names).map_err(|error| replaced(error, not_plain))?;
            }
            EntryType::Regular | EntryType::Continuous => {
                let Some((name, parents)) = names.split_last() else { return Err(not_plain("has no name")) };
                let parent = descend(to, parents).map_err(|error| replaced(error, not_plain))?;
                let expected = entry.size();
                bytes = bytes.saturating_add(expected);
                if bytes > bytes_max {
                    return Err(ArchiveError::TooLarge("more than 2 GiB, or 200 times the archive"));
                }
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(&parent, *name, flags, Mode::RUSR | Mode::WUSR)
                    .map_err(|error| replaced(error, not_plain))?;
                let mut file = File::from(file);
                if copy(&mut entry, &mut file, expected, stop)? != expected {
                    return Err(ArchiveError::Broken(io::ErrorKind::UnexpectedEof.into()));
                }
                let mode = Mode::from_raw_mode(mode & 0o755 | 0o600);
                fchmod(&file, mode).map_err(|error| ArchiveError::Io(error.into()))?;
            }
            EntryType::Symlink | EntryType::Link => return Err(not_plain("is a link")),
            // A note about the archive as a whole, such as git's.
            EntryType::XGlobalHeader => {}
            _ => return Err(not_plain("is neither a file nor a folder")),
        }
    }
    Ok(())
}

/// Splits a path into plain names; `./` at its beginning and `/` at its end are how `tar` writes folders.
fn names(path: &[u8]) -> Result<Vec<&str>, &'static str> {
    if path.len() > PATH_BYTES_MAX {
        return Err("has too long a name");
    }
    let path = std::str::from_utf8(path).map_err(|_| "has a name that is not UTF-8")?;
    if path.contains('\0') {
        return Err("has a NUL in its name");
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    let names: Vec<&str> = match path.strip_prefix("./") {
        Some(path) => path.split('/').collect(),
        None if path == "." => Vec::new(),
        None => path.split('/').collect(),
    };
    // An empty first name is the root.
    if names.iter().any(|name| matches!(*name, "" | "." | "..")) {
        return Err("has a name that leads elsewhere");
    }
    if names.len() > DEPTH_MAX {
        return Err("is in more than 64 folders");
    }
    Ok(names)
}

/// Opens the folder `names` below `folder`, made where it is missing.
fn descend(folder: BorrowedFd<'_>, names: &[&str]) -> Result<OwnedFd, Errno> {
    let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
    let mut opened = openat(folder, ".", FOLDER, Mode::empty())?;
    for name in names {
        match mkdirat(&opened, *name, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        opened = openat(&opened, *name, FOLDER, Mode::empty())?;
    }
    Ok(opened)
}

fn replaced(error: Errno, not_plain: impl Fn(&'static str) -> ArchiveError) -> ArchiveError {
    match error {
        Errno::EXIST | Errno::NOTDIR | Errno::ISDIR | Errno::LOOP => not_plain("is in the archive twice"),
        Errno::NAMETOOLONG => not_plain("has too long a name"),
        error => ArchiveError::Io(error.into()),
    }
}

fn copy(from: &mut impl Read, to: &mut File, expected: u64, stop: Stop<'_>) -> Result<u64, ArchiveError> {
    let mut buffer = vec![0; 128 * 1024];
    let mut copied = 0;
    while copied < expected {
        if stop() {
            return Err(ArchiveError::Stopped);
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                to.write_all(&buffer[..count]).map_err(ArchiveError::Io)?;
                copied += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ArchiveError::Broken(error)),
        }
    }
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use tar::{Builder, Header};
    use tempfile::TempDir;

    use super::*;
    use crate::tree::Modes;

    type Entry<'a> = (&'a str, EntryType, u32, &'a [u8]);

    const FILE: EntryType = EntryType::Regular;

    /// Packs entries as they are, also under names that the library would refuse to write.
    fn pack(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
        for (path, kind, mode, content) in entries {
            let mut header = Header::new_gnu();
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            header.set_size(content.len() as u64);
            if kind.is_symlink() || kind.is_hard_link() {
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_cksum();
            builder.append(&header, *content).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    fn outcome(bytes: &[u8]) -> Result<Vec<String>, String> {
        let dir = TempDir::new().unwrap();
        let state = StateDir::choose(Some(&dir.path().join("state")), dir.path());
        let file = dir.path().join("a.tar.gz");
        fs::write(&file, bytes).unwrap();
        let unpacked = Unpacked::new(&state, File::open(&file).unwrap(), &|| false);
        let result = match &unpacked {
            Ok(unpacked) => {
                let tree = tree::read(unpacked.folder(), Modes::Artifact, &[], &|| false).unwrap();
                let shown = |(path, file): (String, tree::FileFacts)| format!("{path} {:o} {}", file.mode, file.bytes);
                Ok(tree.files().into_iter().map(shown).collect())
            }
            Err(error) => Err(error.to_string()),
        };
        drop(unpacked);
        assert_eq!(fs::read_dir(dir.path().join("state/unpacked")).unwrap().count(), 0, "something is left");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "something is outside");
        result
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn archives_as_tar_writes_them() {
        let entries: &[Entry<'_>] = &[
            ("./", EntryType::Directory, 0o755, b""),
            ("./bin/", EntryType::Directory, 0o755, b""),
            ("./bin/shop", FILE, 0o775, b"program"),
            ("data/deep/file", FILE, 0o600, b"1"),
        ];
        assert_eq!(outcome(&pack(entries)).unwrap(), ["bin/shop 755 7", "data/deep/file 600 1"]);
    }

    #[test]
    fn archives_that_are_attacks_are_refused() {
        let folder = EntryType::Directory;
        let cases: &[(&str, &[Entry<'_>])] = &[
            ("root", &[("/etc/x", FILE, 0o644, b"x")]),
            ("up", &[("../x", FILE, 0o644, b"x")]),
            ("up below", &[("a/../../x", FILE, 0o644, b"x")]),
            ("up at the end", &[("a/..", folder, 0o755, b"")]),
            ("dot below", &[("a/./x", FILE, 0o644, b"x")]),
            ("empty name", &[("a//x", FILE, 0o644, b"x")]),
            ("no name", &[("./", FILE, 0o644, b"x")]),
            ("symbolic link", &[("x", EntryType::Symlink, 0o777, b"")]),
            ("hard link", &[("x", EntryType::Link, 0o644, b"")]),
            ("through a link", &[("x", EntryType::Symlink, 0o777, b""), ("x/y", FILE, 0o644, b"y")]),
            ("device", &[("x", EntryType::Char, 0o644, b"")]),
            ("block device", &[("x", EntryType::Block, 0o644, b"")]),
            ("pipe", &[("x", EntryType::Fifo, 0o644, b"")]),
            ("sparse", &[("x", EntryType::GNUSparse, 0o644, b"")]),
            ("unknown kind", &[("x", EntryType::new(b'Z'), 0o644, b"")]),
            ("setuid", &[("x", FILE, 0o4755, b"x")]),
            ("twice", &[("x", FILE, 0o644, b"x"), ("x", FILE, 0o644, b"y")]),
            ("twice by another name", &[("x", FILE, 0o644, b"x"), ("./x", FILE, 0o644, b"y")]),
            ("file as folder", &[("x", FILE, 0o644, b"x"), ("x/y", FILE, 0o644, b"y")]),
            ("folder as file", &[("x/y", FILE, 0o644, b"x"), ("x", FILE, 0o644, b"y")]),
        ];
        for (what, entries) in cases {
            assert!(outcome(&pack(entries)).is_err(), "{what}");
        }
        let good = pack(&[("x", FILE, 0o644, &[7; 10_000])]);
        assert!(outcome(&good).is_ok());
        let text = gzip(b"hello");
        for (what, bytes) in [("half", &good[..good.len() / 2]), ("text", b"hello"), ("gzip of text", &text)] {
            assert!(outcome(bytes).is_err(), "{what}");
        }
    }

    #[test]
    fn bomb_is_refused_before_it_fills_the_disk() {
        let zeros = vec![0; 70 * 1024 * 1024];
        let bomb = pack(&[("x", FILE, 0o644, &zeros)]);
        assert!(bomb.len() < 100 * 1024);
        assert!(outcome(&bomb).unwrap_err().contains("200 times"));
        // A header that promises much, and nothing behind it.
        let mut header = Header::new_gnu();
        header.set_path("x").unwrap();
        header.set_mode(0o644);
        header.set_size(u64::MAX / 2);
        header.set_cksum();
        assert!(outcome(&gzip(header.as_bytes())).is_err());
    }

    proptest! {
        #[test]
        fn names_lead_nowhere(path in "[a./]{0,12}|\\PC{0,12}") {
            if let Ok(names) = names(path.as_bytes()) {
                let plain = |name: &&str| !name.is_empty() && !name.contains('/') && *name != ".." && *name != ".";
                prop_assert!(names.iter().all(plain));
            }
        }
    }
}
