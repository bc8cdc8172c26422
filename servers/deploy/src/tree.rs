//! Trees of plain files: read into a digest, copied, removed.
//!
//! Every name is opened relative to the open folder before it and never through a symbolic link, so whoever exchanges
//! a folder for a link meanwhile gets an error, not a way out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, fchmod, fstat, fsync, mkdirat, openat, readlinkat, statat, unlinkat,
};
use rustix::io::Errno;
use tollgate_shared::content_hash::{ContentHash, HashBuilder};

/// Most files and folders of a tree: more than a large web application with its dependencies.
pub const ENTRIES_MAX: u64 = 100_000;

/// Most bytes of a tree: the copy is made while a caller waits.
pub const BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// Most folders inside each other.
pub const DEPTH_MAX: usize = 64;

/// How a folder is opened: never through a link.
pub const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// What a released file or folder may have: nobody but its owner writes it.
const MODE_MASK: u32 = 0o755;

/// What a file has that is not in the artifact.
const GIVEN_MODE: u32 = 0o644;

/// Identifies a folder whatever its name.
pub type FolderId = (u64, u64);

/// Asked now and then whether to stop.
pub type Stop<'a> = &'a dyn Fn() -> bool;

/// A tree as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// SHA-256 over every entry's kind, path, mode and content, in the order of names.
    pub digest: ContentHash,
    /// How many files it has.
    pub files: u64,
    /// How many bytes they have together.
    pub bytes: u64,
    root: Folder,
}

/// What tells one file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// Its permission bits.
    pub mode: u32,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content.
    pub digest: ContentHash,
}

type Folder = BTreeMap<String, Entry>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    File {
        mode: u32,
        bytes: u64,
        digest: ContentHash,
    },
    /// A file that is not in the artifact: its content.
    Given(Vec<u8>),
    Folder {
        mode: u32,
        entries: Folder,
    },
}

/// Whose modes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modes {
    /// An artifact's: what nobody but an owner needs is left out.
    Artifact,
    /// A release's: every bit counts.
    Release,
}

/// Why a tree cannot be read or copied.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Something that is neither a plain file nor a folder, or has no plain name.
    #[error("{path:?} {what}")]
    NotPlain {
        /// Where.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// More than is taken.
    #[error("it has {0}")]
    TooLarge(&'static str),
    /// It is not what it was when it was read.
    #[error("{path:?} changed meanwhile")]
    Changed {
        /// Where.
        path: String,
    },
    /// The system says no.
    #[error("cannot read or write {path:?}")]
    Io {
        /// Where.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Nobody wants it any more.
    #[error("stopped")]
    Stopped,
}

/// Returns what identifies the open folder `folder`.
///
/// # Errors
///
/// What the system says.
pub fn folder_id(folder: impl AsFd) -> io::Result<FolderId> {
    let stat = fstat(folder)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Reads the tree in the open folder `folder`, in which none of `forbidden` may be.
///
/// # Errors
///
/// [`TreeError`].
pub fn read(folder: impl AsFd, modes: Modes, forbidden: &[FolderId], stop: Stop<'_>) -> Result<Tree, TreeError> {
    let mut reader = Reader { modes, forbidden, stop, entries: 0, files: 0, bytes: 0 };
    let root = reader.folder(folder, "", 0)?;
    let digest = digest_of("", &root, ContentHash::builder("tollgate.release.1")).finish();
    Ok(Tree { digest, files: reader.files, bytes: reader.bytes, root })
}

impl Tree {
    /// Returns the tree with one more file; `None` where the name is taken.
    #[must_use]
    pub fn with_file(&self, name: &str, content: &[u8]) -> Option<Self> {
        let mut root = self.root.clone();
        if root.insert(name.to_owned(), Entry::Given(content.to_vec())).is_some() {
            return None;
        }
        let digest = digest_of("", &root, ContentHash::builder("tollgate.release.1")).finish();
        Some(Self { digest, files: self.files + 1, bytes: self.bytes + content.len() as u64, root })
    }

    /// Returns every file by its path, with what tells it from another.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, FileFacts> {
        fn walk(path: &str, folder: &Folder, files: &mut BTreeMap<String, FileFacts>) {
            for (name, entry) in folder {
                let path = joined(path, name);
                match entry {
                    Entry::File { mode, bytes, digest } => {
                        files.insert(path, FileFacts { mode: *mode, bytes: *bytes, digest: *digest });
                    }
                    Entry::Given(content) => {
                        files.insert(
                            path,
                            FileFacts {
                                mode: GIVEN_MODE,
                                bytes: content.len() as u64,
                                digest: ContentHash::of(content),
                            },
                        );
                    }
                    Entry::Folder { entries, .. } => walk(&path, entries, files),
                }
            }
        }
        let mut files = BTreeMap::new();
        walk("", &self.root, &mut files);
        files
    }
}

/// Copies what `tree` says from the open folder `from` into the open, empty folder `to`, to disk.
///
/// That the copy is what was read is for the caller to find out by reading it.
///
/// # Errors
///
/// [`TreeError::Changed`] where `from` is plainly not what was read.
pub fn copy(tree: &Tree, from: impl AsFd, to: impl AsFd, stop: Stop<'_>) -> Result<(), TreeError> {
    copy_folder(&tree.root, from, to, "", stop)
}

/// Removes whatever is called `name` in the open folder `parent`; nothing is all right too.
///
/// # Errors
///
/// What the system says.
pub fn remove(parent: impl AsFd, name: &str) -> io::Result<()> {
    remove_below(parent.as_fd(), name.as_ref(), 0)
}

struct Reader<'a> {
    modes: Modes,
    forbidden: &'a [FolderId],
    stop: Stop<'a>,
    entries: u64,
    files: u64,
    bytes: u64,
}

impl Reader<'_> {
    fn folder(&mut self, folder: impl AsFd, path: &str, depth: usize) -> Result<Folder, TreeError> {
        if depth > DEPTH_MAX {
            return Err(TreeError::TooLarge("more than 64 folders inside each other"));
        }
        let failed = failed_at(path);
        if self.forbidden.contains(&folder_id(&folder).map_err(&failed)?) {
            return Err(not_plain(path, "is where Tollgate keeps its state or its releases"));
        }
        let mut entries = Folder::new();
        for listed in Dir::read_from(&folder).map_err(|error| failed(error.into()))? {
            let listed = listed.map_err(|error| failed(error.into()))?;
            let bytes = listed.file_name().to_bytes();
            if bytes == b"." || bytes == b".." {
                continue;
            }
            if (self.stop)() {
                return Err(TreeError::Stopped);
            }
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return Err(TreeError::TooLarge("more than 100000 files and folders"));
            }
            let below = joined(path, &String::from_utf8_lossy(bytes));
            let name = std::str::from_utf8(bytes).map_err(|_| not_plain(&below, "has a name that is not UTF-8"))?;
            if name.chars().any(is_unprintable) {
                return Err(not_plain(&below, "has an unprintable character in its name"));
            }
            if depth == 0 && self.modes == Modes::Release && is_shared_link(&folder, name) {
                continue;
            }
            let entry = self.entry(&folder, name, &below, depth)?;
            entries.insert(name.to_owned(), entry);
        }
        Ok(entries)
    }

    fn entry(&mut self, parent: impl AsFd, name: &str, path: &str, depth: usize) -> Result<Entry, TreeError> {
        let failed = failed_at(path);
        // Looked at before it is opened: opening a device may already do something.
        let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| failed(error.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let folder = openat(&parent, name, FOLDER, Mode::empty()).map_err(|error| replaced(path, error))?;
                let mode = mode_bits(fstat(&folder).map_err(|error| failed(error.into()))?.st_mode);
                let mode = if self.modes == Modes::Artifact { mode & MODE_MASK | 0o700 } else { mode };
                Ok(Entry::Folder { mode, entries: self.folder(folder, path, depth + 1)? })
            }
            FileType::RegularFile => {
                let (file, mode) = open_file(&parent, name, path)?;
                let mode = match self.modes {
                    Modes::Artifact if mode & 0o7000 != 0 => {
                        return Err(not_plain(path, "runs with another's rights (setuid, setgid or sticky)"));
                    }
                    Modes::Artifact => mode & MODE_MASK | 0o400,
                    Modes::Release => mode,
                };
                if stat.st_size.unsigned_abs() > BYTES_MAX - self.bytes {
                    return Err(TreeError::TooLarge("more than 2 GiB"));
                }
                let mut counted = Counted { file, bytes: 0, left: BYTES_MAX - self.bytes, stop: self.stop };
                let digest = ContentHash::of_reader(&mut counted);
                let bytes = counted.bytes;
                if bytes > BYTES_MAX - self.bytes {
                    return Err(TreeError::TooLarge("more than 2 GiB"));
                }
                if (self.stop)() {
                    return Err(TreeError::Stopped);
                }
                self.files += 1;
                self.bytes += bytes;
                Ok(Entry::File { mode, bytes, digest: digest.map_err(failed)? })
            }
            FileType::Symlink => Err(not_plain(path, "is a symbolic link")),
            _ => Err(not_plain(path, "is neither a file nor a folder")),
        }
    }
}

/// Returns where the link `name` of a release leads when its folder is shared by all releases.
#[must_use]
pub fn shared_link(name: &str) -> String {
    format!("../../shared/{name}")
}

/// Whether `name` is a link to the shared folder of that name; its content is no release's.
pub fn is_shared_link(folder: impl AsFd, name: &str) -> bool {
    readlinkat(folder, name, Vec::new()).is_ok_and(|link| link.to_bytes() == shared_link(name).as_bytes())
}

/// Reads a file up to one byte more than may be left, until it is stopped.
struct Counted<'a> {
    file: File,
    bytes: u64,
    left: u64,
    stop: Stop<'a>,
}

impl Read for &mut Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes > self.left || (self.stop)() {
            return Ok(0);
        }
        let count = self.file.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

fn digest_of(path: &str, folder: &Folder, mut builder: HashBuilder) -> HashBuilder {
    for (name, entry) in folder {
        let path = joined(path, name);
        builder = match entry {
            Entry::File { mode, digest, .. } => {
                builder.field(b"file").field(path.as_bytes()).field(&mode.to_be_bytes()).field(digest.as_bytes())
            }
            // As it will be read from the release.
            Entry::Given(content) => builder
                .field(b"file")
                .field(path.as_bytes())
                .field(&GIVEN_MODE.to_be_bytes())
                .field(ContentHash::of(content).as_bytes()),
            Entry::Folder { mode, entries } => {
                let builder = builder.field(b"folder").field(path.as_bytes()).field(&mode.to_be_bytes());
                digest_of(&path, entries, builder)
            }
        };
    }
    builder
}

fn copy_folder(folder: &Folder, from: impl AsFd, to: impl AsFd, path: &str, stop: Stop<'_>) -> Result<(), TreeError> {
    for (name, entry) in folder {
        let path = joined(path, name);
        let failed = failed_at(&path);
        match entry {
            Entry::Folder { mode, entries } => {
                let from = openat(&from, name, FOLDER, Mode::empty()).map_err(|error| replaced(&path, error))?;
                mkdirat(&to, name, Mode::RWXU).map_err(|error| failed(error.into()))?;
                let to = openat(&to, name, FOLDER, Mode::empty()).map_err(|error| failed(error.into()))?;
                copy_folder(entries, from, &to, &path, stop)?;
                fchmod(&to, Mode::from_raw_mode(*mode)).map_err(|error| failed(error.into()))?;
                fsync(&to).map_err(|error| failed(error.into()))?;
            }
            Entry::Given(content) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let copy = openat(&to, name, flags, Mode::RUSR | Mode::WUSR).map_err(|error| failed(error.into()))?;
                let mut copy = File::from(copy);
                copy.write_all(content).map_err(&failed)?;
                fchmod(&copy, Mode::from_raw_mode(GIVEN_MODE)).map_err(|error| failed(error.into()))?;
                fsync(&copy).map_err(|error| failed(error.into()))?;
            }
            Entry::File { mode, bytes, .. } => {
                let (mut source, _) = open_file(&from, name, &path)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let copy = openat(&to, name, flags, Mode::RUSR | Mode::WUSR).map_err(|error| failed(error.into()))?;
                let mut copy = File::from(copy);
                let copied = copy_bytes(&mut source, &mut copy, *bytes, stop).map_err(&failed)?;
                if stop() {
                    return Err(TreeError::Stopped);
                }
                if copied != *bytes {
                    return Err(TreeError::Changed { path });
                }
                fchmod(&copy, Mode::from_raw_mode(*mode)).map_err(|error| failed(error.into()))?;
                fsync(&copy).map_err(|error| failed(error.into()))?;
            }
        }
    }
    Ok(())
}

/// Copies at most one byte more than `expected` and returns how many there were.
fn copy_bytes(from: &mut File, to: &mut File, expected: u64, stop: Stop<'_>) -> io::Result<u64> {
    let mut buffer = vec![0; 128 * 1024];
    let mut copied = 0;
    while copied <= expected && !stop() {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                to.write_all(&buffer[..count])?;
                copied += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(copied)
}

fn open_file(parent: impl AsFd, name: &str, path: &str) -> Result<(File, u32), TreeError> {
    let file: OwnedFd = openat(parent, name, FILE, Mode::empty()).map_err(|error| replaced(path, error))?;
    let stat = fstat(&file).map_err(|error| failed_at(path)(error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(not_plain(path, "is neither a file nor a folder"));
    }
    Ok((File::from(file), mode_bits(stat.st_mode)))
}

fn remove_below(parent: impl AsFd, name: &std::ffi::OsStr, depth: usize) -> io::Result<()> {
    // What was read or written here is at most so deep; what is deeper was put there by somebody else.
    if depth > DEPTH_MAX * 4 {
        return Err(io::Error::other("too many folders inside each other"));
    }
    match unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // POSIX says PERM for a folder, Linux says ISDIR.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let folder = openat(&parent, name, FOLDER, Mode::empty())?;
    // A release's folders may have been made read-only.
    let _ = fchmod(&folder, Mode::RWXU);
    let mut names = Vec::new();
    for listed in Dir::read_from(&folder)? {
        let listed = listed?;
        let bytes = listed.file_name().to_bytes();
        if bytes != b"." && bytes != b".." {
            names.push(std::os::unix::ffi::OsStringExt::from_vec(bytes.to_vec()));
        }
    }
    for name in names {
        let name: std::ffi::OsString = name;
        remove_below(&folder, &name, depth + 1)?;
    }
    match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn mode_bits(mode: u32) -> u32 {
    mode & 0o7777
}

/// Control characters, and those that change how a name reads.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

fn not_plain(path: &str, what: &'static str) -> TreeError {
    TreeError::NotPlain { path: if path.is_empty() { ".".to_owned() } else { path.to_owned() }, what }
}

fn failed_at(path: &str) -> impl Fn(io::Error) -> TreeError + use<> {
    let path = if path.is_empty() { ".".to_owned() } else { path.to_owned() };
    move |source| TreeError::Io { path: path.clone(), source }
}

/// What was a file or a folder a moment ago is something else, or gone.
fn replaced(path: &str, error: Errno) -> TreeError {
    match error {
        Errno::LOOP | Errno::NOTDIR | Errno::NOENT | Errno::ISDIR | Errno::NXIO => {
            TreeError::Changed { path: path.to_owned() }
        }
        other => failed_at(path)(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    const GO_ON: Stop<'static> = &|| false;

    fn open(path: &Path) -> File {
        File::open(path).unwrap()
    }

    fn tree(path: &Path) -> Result<Tree, TreeError> {
        read(open(path), Modes::Artifact, &[], GO_ON)
    }

    fn sample() -> TempDir {
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("bin/empty")).unwrap();
        fs::write(dir.path().join("bin/shop"), "program").unwrap();
        fs::set_permissions(dir.path().join("bin/shop"), fs::Permissions::from_mode(0o775)).unwrap();
        fs::write(dir.path().join("data ä.csv"), "1,2").unwrap();
        dir
    }

    #[test]
    fn copy_has_the_digest_of_its_source() {
        let dir = sample();
        let read_once = tree(dir.path()).unwrap();
        let to = TempDir::new().unwrap();
        copy(&read_once, open(dir.path()), open(to.path()), GO_ON).unwrap();
        let copied = read(open(to.path()), Modes::Release, &[], GO_ON).unwrap();
        assert_eq!(copied.digest, read_once.digest);
        assert_eq!((copied.files, copied.bytes), (2, 10));
        let mode = fs::metadata(to.path().join("bin/shop")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
    }

    #[test]
    fn every_change_changes_the_digest() {
        let base = tree(sample().path()).unwrap().digest;
        let changes: [&dyn Fn(&Path); 7] = [
            &|dir| fs::write(dir.join("bin/shop"), "prograM").unwrap(),
            &|dir| fs::write(dir.join("new"), "").unwrap(),
            &|dir| fs::rename(dir.join("bin/shop"), dir.join("bin/shoq")).unwrap(),
            &|dir| fs::rename(dir.join("bin/shop"), dir.join("binshop")).unwrap(),
            &|dir| fs::remove_dir(dir.join("bin/empty")).unwrap(),
            &|dir| fs::set_permissions(dir.join("bin/shop"), fs::Permissions::from_mode(0o644)).unwrap(),
            &|dir| fs::create_dir(dir.join("folder")).unwrap(),
        ];
        for (number, change) in changes.iter().enumerate() {
            let dir = sample();
            change(dir.path());
            assert_ne!(tree(dir.path()).unwrap().digest, base, "change {number}");
        }
        assert_eq!(tree(sample().path()).unwrap().digest, base);
    }

    #[test]
    fn what_is_not_plain_is_refused() {
        let spoil: [&dyn Fn(&Path); 8] = [
            &|dir| symlink("/etc/passwd", dir.join("link")).unwrap(),
            &|dir| symlink("shop", dir.join("bin/link")).unwrap(),
            &|dir| symlink("nowhere", dir.join("dangling")).unwrap(),
            &|dir| drop(UnixListener::bind(dir.join("socket")).unwrap()),
            &|dir| fs::set_permissions(dir.join("bin/shop"), fs::Permissions::from_mode(0o4755)).unwrap(),
            &|dir| fs::write(dir.join("a\nb"), "").unwrap(),
            &|dir| fs::write(dir.join("a\u{202e}b"), "").unwrap(),
            &|dir| {
                fs::write(dir.join(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(vec![0xff])), "")
                    .unwrap();
            },
        ];
        for (number, spoil) in spoil.iter().enumerate() {
            let dir = sample();
            spoil(dir.path());
            assert!(matches!(tree(dir.path()), Err(TreeError::NotPlain { .. })), "{number}");
        }
        let dir = sample();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(matches!(tree(dir.path()), Err(TreeError::NotPlain { .. })));
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("d/".repeat(DEPTH_MAX + 1))).unwrap();
        assert!(matches!(tree(dir.path()), Err(TreeError::TooLarge(_))));
        let dir = TempDir::new().unwrap();
        // Sparse: it takes no room.
        File::create(dir.path().join("large")).unwrap().set_len(BYTES_MAX + 1).unwrap();
        assert!(matches!(tree(dir.path()), Err(TreeError::TooLarge(_))));
        File::create(dir.path().join("large")).unwrap().set_len(BYTES_MAX).unwrap();
        let tries = std::cell::Cell::new(0);
        let stop = || {
            tries.set(tries.get() + 1);
            tries.get() > 100
        };
        assert!(matches!(read(open(dir.path()), Modes::Artifact, &[], &stop), Err(TreeError::Stopped)));
        assert!(tries.get() < 110, "it goes on after it is stopped");
    }

    #[test]
    fn forbidden_folders_are_found_under_any_name() {
        let dir = sample();
        let id = folder_id(open(&dir.path().join("bin"))).unwrap();
        fs::rename(dir.path().join("bin"), dir.path().join("innocent")).unwrap();
        assert!(matches!(read(open(dir.path()), Modes::Artifact, &[id], GO_ON), Err(TreeError::NotPlain { .. })));
    }

    #[test]
    fn source_that_changes_after_it_was_read_is_noticed() {
        let changes: [&dyn Fn(&Path); 5] = [
            &|dir| fs::write(dir.join("bin/shop"), "program and more").unwrap(),
            &|dir| fs::write(dir.join("bin/shop"), "").unwrap(),
            &|dir| fs::remove_file(dir.join("bin/shop")).unwrap(),
            &|dir| {
                // To a file of the same length, or the length would tell.
                fs::rename(dir.join("bin/shop"), dir.join("bin/shoq")).unwrap();
                symlink("shoq", dir.join("bin/shop")).unwrap();
            },
            &|dir| {
                fs::rename(dir.join("bin"), dir.join("nib")).unwrap();
                symlink("nib", dir.join("bin")).unwrap();
            },
        ];
        for (number, change) in changes.iter().enumerate() {
            let (dir, to) = (sample(), TempDir::new().unwrap());
            let before = tree(dir.path()).unwrap();
            change(dir.path());
            let copied = copy(&before, open(dir.path()), open(to.path()), GO_ON);
            assert!(matches!(copied, Err(TreeError::Changed { .. })), "{number}: {copied:?}");
        }
        // Of the same length: only reading the copy tells.
        let (dir, to) = (sample(), TempDir::new().unwrap());
        let before = tree(dir.path()).unwrap();
        fs::write(dir.path().join("bin/shop"), "PROGRAM").unwrap();
        copy(&before, open(dir.path()), open(to.path()), GO_ON).unwrap();
        assert_ne!(read(open(to.path()), Modes::Release, &[], GO_ON).unwrap().digest, before.digest);
    }

    #[test]
    fn removal_follows_no_link() {
        let (dir, outside) = (sample(), sample());
        symlink(outside.path(), dir.path().join("bin/out")).unwrap();
        fs::set_permissions(dir.path().join("bin"), fs::Permissions::from_mode(0o500)).unwrap();
        remove(open(dir.path()), "bin").unwrap();
        assert!(!dir.path().join("bin").exists());
        remove(open(dir.path()), "bin").unwrap();
        assert!(outside.path().join("bin/shop").exists());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn trees_of_equal_digest_are_equal(
            left in proptest::collection::btree_map("[ab]{1,2}(/[ab]{1,2})?", "[xy]{0,2}", 0..4),
            right in proptest::collection::btree_map("[ab]{1,2}(/[ab]{1,2})?", "[xy]{0,2}", 0..4),
        ) {
            let make = |files: &BTreeMap<String, String>| {
                let dir = TempDir::new().unwrap();
                for (path, content) in files {
                    let path = dir.path().join(path);
                    let _ = fs::create_dir_all(path.parent().unwrap());
                    let _ = fs::write(path, content);
                }
                tree(dir.path()).unwrap()
            };
            let (left, right) = (make(&left), make(&right));
            prop_assert_eq!(left.digest == right.digest, left.root == right.root);
        }
    }
}
