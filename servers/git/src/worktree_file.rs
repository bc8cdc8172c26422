//! Reading and writing a file of the working tree without following any symbolic link.
//!
//! A path is opened one name at a time, each relative to the folder before it: whoever exchanges a folder for a link
//! while the file is being staged gets an error, not the link's target into the repository.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use git2::{IndexEntry, IndexTime, ObjectType, Oid, Repository};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, readlinkat, renameat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

/// Largest file that is staged: what the large hosting services take.
pub const FILE_BYTES_MAX: u64 = 100 * 1024 * 1024;

/// The mode of a file that is not executable.
pub const MODE_FILE: u32 = 0o100_644;
/// The mode of a file that is.
const MODE_EXECUTABLE: u32 = 0o100_755;

/// The mode of a symbolic link.
pub const MODE_LINK: u32 = 0o120_000;

/// The mode of a submodule, which is no file.
pub const MODE_COMMIT: u32 = 0o160_000;

/// Where the entry of an index says that a sparse checkout leaves the file out.
const SKIP_WORKTREE: u16 = 1 << 14;

/// Returns whether the file of `entry` is left out of the working tree, so that its absence is no deletion.
#[must_use]
pub fn is_left_out(entry: &IndexEntry) -> bool {
    entry.flags_extended & SKIP_WORKTREE != 0
}

/// The name of a file that is being written, beside its place: there it can be moved from in one step.
const UNFINISHED: &[u8] = b".tollgate-unfinished";

/// A file of the working tree that cannot be taken into the index.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is not there.
    #[error("does not exist")]
    Missing,
    /// A folder on the way is a symbolic link.
    #[error("is beyond a symbolic link")]
    BeyondLink,
    /// It is a folder, a pipe, a socket or a device.
    #[error("is neither a file nor a symbolic link")]
    Special,
    /// It is too large.
    #[error("is too large")]
    TooLarge,
    /// Something else.
    #[error("cannot be read: {0}")]
    Failed(String),
}

/// What stands at a path of the working tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file or a symbolic link.
    File,
    /// A folder.
    Folder,
}

/// Returns what stands at `path` (relative to `worktree`, names separated by `/`).
///
/// # Errors
///
/// [`Unreadable`].
pub fn kind(worktree: &Path, path: &[u8]) -> Result<Kind, Unreadable> {
    let (folder, name) = parent(worktree, path)?;
    let stat = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(unreadable)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Symlink => Ok(Kind::File),
        FileType::Directory => Ok(Kind::Folder),
        _ => Err(Unreadable::Special),
    }
}

/// Stores the file at `path` and returns its entry for the index.
///
/// Line endings are converted as git's own attributes say; no external filter is run.
///
/// # Errors
///
/// [`Unreadable`].
pub fn store(
    repository: &Repository,
    worktree: &Path,
    path: &[u8],
    known_mode: Option<u32>,
) -> Result<IndexEntry, Unreadable> {
    match open(worktree, path)? {
        (Opened::Link(target), stat) => {
            let id = repository.blob(&target).map_err(|error| failed(&error.message()))?;
            Ok(entry(path, id, MODE_LINK, &stat))
        }
        (Opened::File(file), stat) => {
            refuse_large(&stat, FILE_BYTES_MAX)?;
            let id = store_content(repository, path, file, FILE_BYTES_MAX)?;
            Ok(entry(path, id, mode(repository, &stat, known_mode), &stat))
        }
    }
}

/// Returns an entry for the file at `path` as it would be stored, of at most `bytes_max`; its content goes to where
/// `repository` writes objects.
///
/// For a repository that writes them to memory: unlike [`store`] this makes no temporary file, unless line endings
/// have to be converted.
///
/// # Errors
///
/// [`Unreadable`].
pub fn peek(
    repository: &Repository,
    worktree: &Path,
    path: &[u8],
    known_mode: Option<u32>,
    bytes_max: u64,
) -> Result<IndexEntry, Unreadable> {
    let (opened, stat) = open(worktree, path)?;
    let (content, mode) = match opened {
        Opened::Link(target) => (target, MODE_LINK),
        Opened::File(file) => {
            refuse_large(&stat, bytes_max)?;
            let mut content = Vec::new();
            file.take(bytes_max + 1).read_to_end(&mut content).map_err(|error| failed(&error))?;
            (content, mode(repository, &stat, known_mode))
        }
    };
    if content.len() as u64 > bytes_max {
        return Err(Unreadable::TooLarge);
    }
    let id = if mode != MODE_LINK && is_convertible(&content) {
        store_content(repository, path, &*content, bytes_max)?
    } else {
        repository.blob(&content).map_err(|error| failed(&error.message()))?
    };
    Ok(entry(path, id, mode, &stat))
}

/// What a file is to git, and would be under other attributes.
#[derive(Debug)]
pub struct Identified {
    /// As the attributes are now.
    pub entry: IndexEntry,
    /// The same content as it is, and with the line endings that git stores.
    pub otherwise: [Oid; 2],
}

/// Returns what the file at `path` is without storing it, unless line endings have to be converted.
///
/// # Errors
///
/// [`Unreadable`].
pub fn identify(
    repository: &Repository,
    worktree: &Path,
    path: &[u8],
    known_mode: Option<u32>,
) -> Result<Identified, Unreadable> {
    let (opened, stat) = open(worktree, path)?;
    let hash = |content: &[u8]| Oid::hash_object(ObjectType::Blob, content).map_err(|error| failed(&error.message()));
    let file = match opened {
        Opened::Link(target) => {
            let id = hash(&target)?;
            return Ok(Identified { entry: entry(path, id, MODE_LINK, &stat), otherwise: [id, id] });
        }
        Opened::File(file) => file,
    };
    refuse_large(&stat, FILE_BYTES_MAX)?;
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content).map_err(|error| failed(&error))?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(Unreadable::TooLarge);
    }
    let mode = mode(repository, &stat, known_mode);
    let raw = hash(&content)?;
    if !is_convertible(&content) {
        return Ok(Identified { entry: entry(path, raw, mode, &stat), otherwise: [raw, raw] });
    }
    let id = store_content(repository, path, &*content, FILE_BYTES_MAX)?;
    let mut unix = Vec::with_capacity(content.len());
    for (index, byte) in content.iter().enumerate() {
        if *byte != b'\r' || content.get(index + 1) != Some(&b'\n') {
            unix.push(*byte);
        }
    }
    Ok(Identified { entry: entry(path, id, mode, &stat), otherwise: [raw, hash(&unix)?] })
}

/// Returns whether git may store `content` other than it is.
fn is_convertible(content: &[u8]) -> bool {
    content.contains(&b'\r') || content.windows(4).any(|bytes| bytes == b"$Id:")
}

/// Writes the file at `path`, in the place of a file or a link that may be there, and returns its entry.
///
/// Whoever looks sees the old file or the new one, whole. Folders on the way are made where they are missing.
///
/// # Errors
///
/// [`Unreadable`].
pub fn write(worktree: &Path, path: &[u8], content: &[u8], mode: u32, id: Oid) -> Result<IndexEntry, Unreadable> {
    make_folders(worktree, path)?;
    let (folder, name) = parent(worktree, path)?;
    // Left by a process that was killed.
    let _ = unlinkat(&folder, UNFINISHED, AtFlags::empty());
    if mode == MODE_LINK {
        symlinkat(content, &folder, UNFINISHED).map_err(unreadable)?;
    } else {
        let permissions = if mode == MODE_EXECUTABLE { 0o777 } else { 0o666 };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&folder, UNFINISHED, flags, Mode::from_raw_mode(permissions)).map_err(unreadable)?;
        let written = File::from(file).write_all(content);
        if let Err(error) = written {
            let _ = unlinkat(&folder, UNFINISHED, AtFlags::empty());
            return Err(failed(&error));
        }
    }
    if let Err(error) = renameat(&folder, UNFINISHED, &folder, name) {
        let _ = unlinkat(&folder, UNFINISHED, AtFlags::empty());
        return Err(unreadable(error));
    }
    let stat = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(unreadable)?;
    Ok(entry(path, id, mode, &stat))
}

/// Removes what a killed process may have left beside the file at `path`.
pub fn remove_unfinished(worktree: &Path, path: &[u8]) {
    if let Ok((folder, _)) = parent(worktree, path) {
        let _ = unlinkat(&folder, UNFINISHED, AtFlags::empty());
    }
}

fn make_folders(worktree: &Path, path: &[u8]) -> Result<(), Unreadable> {
    for end in (0..path.len()).filter(|end| path[*end] == b'/') {
        let (folder, name) = parent(worktree, &path[..end])?;
        match mkdirat(&folder, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    Ok(())
}

/// Returns an entry that says nothing about a file.
#[must_use]
pub fn blank_entry(path: &[u8], id: Oid, mode: u32) -> IndexEntry {
    let zero = IndexTime::new(0, 0);
    IndexEntry {
        ctime: zero,
        mtime: zero,
        dev: 0,
        ino: 0,
        mode,
        uid: 0,
        gid: 0,
        file_size: 0,
        id,
        flags: 0,
        flags_extended: 0,
        path: path.to_vec(),
    }
}

/// What a path leads to, opened.
enum Opened {
    File(File),
    Link(Vec<u8>),
}

fn open(worktree: &Path, path: &[u8]) -> Result<(Opened, Stat), Unreadable> {
    let (folder, name) = parent(worktree, path)?;
    let stat = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(unreadable)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let target = readlinkat(&folder, name, Vec::new()).map_err(unreadable)?;
            Ok((Opened::Link(target.into_bytes()), stat))
        }
        FileType::RegularFile => {
            // Not blocking, so that a pipe that took the file's place does not hold up the call.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = openat(&folder, name, flags, Mode::empty()).map_err(unreadable)?;
            let stat = fstat(&file).map_err(unreadable)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(Unreadable::Special);
            }
            Ok((Opened::File(File::from(file)), stat))
        }
        _ => Err(Unreadable::Special),
    }
}

/// Removes the file at `path`, and the folders that are empty without it.
///
/// # Errors
///
/// [`Unreadable`].
pub fn remove(worktree: &Path, path: &[u8]) -> Result<(), Unreadable> {
    let (folder, name) = parent(worktree, path)?;
    unlinkat(&folder, name, AtFlags::empty()).map_err(unreadable)?;
    let mut path = path;
    while let Some(end) = path.iter().rposition(|byte| *byte == b'/') {
        path = &path[..end];
        if remove_empty_folder(worktree, path).is_err() {
            break;
        }
    }
    Ok(())
}

/// Removes the folder at `path`.
///
/// # Errors
///
/// [`Unreadable`], also when it is not empty.
pub fn remove_empty_folder(worktree: &Path, path: &[u8]) -> Result<(), Unreadable> {
    let (folder, name) = parent(worktree, path)?;
    unlinkat(&folder, name, AtFlags::REMOVEDIR).map_err(unreadable)
}

/// Refuses a file that is too large before any of it is read.
fn refuse_large(stat: &Stat, bytes_max: u64) -> Result<(), Unreadable> {
    if u64::try_from(stat.st_size).is_ok_and(|bytes| bytes > bytes_max) { Err(Unreadable::TooLarge) } else { Ok(()) }
}

fn store_content(repository: &Repository, path: &[u8], content: impl Read, bytes_max: u64) -> Result<Oid, Unreadable> {
    // The path says which attributes apply; libgit2 reads the content from us, not from there.
    let hint = PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()));
    let mut writer = repository.blob_writer(Some(&hint)).map_err(|error| failed(&error.message()))?;
    // One byte more than allowed: the file may grow while it is read.
    let copied = std::io::copy(&mut content.take(bytes_max + 1), &mut writer).map_err(|error| failed(&error))?;
    if copied > bytes_max {
        return Err(Unreadable::TooLarge);
    }
    writer.commit().map_err(|error| failed(&error.message()))
}

fn failed(error: &dyn std::fmt::Display) -> Unreadable {
    Unreadable::Failed(error.to_string())
}

fn mode(repository: &Repository, stat: &Stat, known: Option<u32>) -> u32 {
    let trusted = repository.config().and_then(|config| config.get_bool("core.filemode")).unwrap_or(true);
    match known {
        Some(known @ (MODE_FILE | MODE_EXECUTABLE)) if !trusted => known,
        _ if trusted && stat.st_mode & 0o100 != 0 => MODE_EXECUTABLE,
        _ => MODE_FILE,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::allow_attributes,
    reason = "the index keeps the lower 32 bits of each"
)]
#[allow(clippy::unnecessary_cast, reason = "the types differ between systems")]
fn entry(path: &[u8], id: Oid, mode: u32, stat: &Stat) -> IndexEntry {
    IndexEntry {
        ctime: IndexTime::new(stat.st_ctime as i32, stat.st_ctime_nsec as u32),
        mtime: IndexTime::new(stat.st_mtime as i32, stat.st_mtime_nsec as u32),
        dev: stat.st_dev as u32,
        ino: stat.st_ino as u32,
        mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        file_size: stat.st_size as u32,
        id,
        flags: 0,
        flags_extended: 0,
        path: path.to_vec(),
    }
}

/// Opens the folder that `path` is in and returns it with the last name.
///
/// # Errors
///
/// [`Unreadable`].
pub fn parent<'path>(worktree: &Path, path: &'path [u8]) -> Result<(OwnedFd, &'path [u8]), Unreadable> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = openat(CWD, worktree, flags, Mode::empty()).map_err(unreadable)?;
    let mut parts = path.split(|byte| *byte == b'/');
    let name = parts.next_back().unwrap_or_default();
    for part in parts {
        folder = openat(&folder, part, flags, Mode::empty()).map_err(|error| {
            // The system says the same for a link and for a file.
            let stat = statat(&folder, part, AtFlags::SYMLINK_NOFOLLOW);
            if stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink) {
                Unreadable::BeyondLink
            } else {
                unreadable(error)
            }
        })?;
    }
    Ok((folder, name))
}

fn unreadable(error: Errno) -> Unreadable {
    match error {
        Errno::NOENT | Errno::NOTDIR => Unreadable::Missing,
        Errno::LOOP => Unreadable::BeyondLink,
        other => Unreadable::Failed(std::io::Error::from(other).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn world() -> (TempDir, Repository) {
        let dir = TempDir::new().unwrap();
        let repository = Repository::init(dir.path().join("work")).unwrap();
        fs::create_dir_all(dir.path().join("work/a/b")).unwrap();
        fs::create_dir_all(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("work/a/b/file"), "content\n").unwrap();
        fs::write(dir.path().join("outside/secret"), "secret\n").unwrap();
        symlink("../outside", dir.path().join("work/link")).unwrap();
        symlink("../../outside", dir.path().join("work/a/link")).unwrap();
        symlink("../outside/secret", dir.path().join("work/leaf")).unwrap();
        (dir, repository)
    }

    fn stored(dir: &TempDir, repository: &Repository, path: &str) -> Result<(u32, Vec<u8>), Unreadable> {
        let entry = store(repository, &dir.path().join("work"), path.as_bytes(), None)?;
        Ok((entry.mode, repository.find_blob(entry.id).unwrap().content().to_vec()))
    }

    #[test]
    fn nothing_beyond_a_link_is_stored() {
        let (dir, repository) = world();
        for path in ["link/secret", "a/link/secret"] {
            assert!(matches!(stored(&dir, &repository, path), Err(Unreadable::BeyondLink)), "{path}");
            assert!(matches!(kind(&dir.path().join("work"), path.as_bytes()), Err(Unreadable::BeyondLink)));
        }
    }

    #[test]
    fn link_is_stored_as_a_link() {
        let (dir, repository) = world();
        assert_eq!(stored(&dir, &repository, "leaf").unwrap(), (MODE_LINK, b"../outside/secret".to_vec()));
        assert_eq!(stored(&dir, &repository, "link").unwrap(), (MODE_LINK, b"../outside".to_vec()));
    }

    #[test]
    fn files_are_stored_with_their_mode() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, repository) = world();
        assert_eq!(stored(&dir, &repository, "a/b/file").unwrap(), (MODE_FILE, b"content\n".to_vec()));
        let path = dir.path().join("work/a/b/file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(stored(&dir, &repository, "a/b/file").unwrap().0, MODE_EXECUTABLE);
    }

    #[test]
    fn what_is_no_file_is_not_stored() {
        let (dir, repository) = world();
        rustix::fs::mknodat(CWD, dir.path().join("work/pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        for path in ["pipe", "a"] {
            assert!(matches!(stored(&dir, &repository, path), Err(Unreadable::Special)), "{path}");
        }
        for path in ["nothing", "a/b/file/x", "nothing/x"] {
            assert!(matches!(stored(&dir, &repository, path), Err(Unreadable::Missing)), "{path}");
        }
    }

    #[test]
    fn too_large_file_is_not_stored() {
        let (dir, repository) = world();
        let file = File::create(dir.path().join("work/large")).unwrap();
        file.set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(matches!(stored(&dir, &repository, "large"), Err(Unreadable::TooLarge)));
    }

    #[test]
    fn line_endings_are_converted_as_attributes_say() {
        let (dir, repository) = world();
        fs::write(dir.path().join("work/.gitattributes"), "*.txt text\n").unwrap();
        fs::write(dir.path().join("work/a.txt"), "one\r\ntwo\r\n").unwrap();
        assert_eq!(stored(&dir, &repository, "a.txt").unwrap().1, b"one\ntwo\n");
    }
}
