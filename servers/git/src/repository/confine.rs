//! Where a repository really is, and that none of it is outside the roots.
//!
//! `.git` files, linked worktrees, alternates, links in the git directory and the configuration can each point
//! anywhere. All of it is looked at before libgit2 opens anything, and what libgit2 opened is compared afterwards.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use git2::Repository;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use tollgate_shared::refusal::Refusal;

use super::config_paths;
use super::not_a_repository;
use crate::roots::{PATH_BYTES_MAX, Roots};

/// Longest `.git` or `commondir` file: one path with a word before it.
const POINTER_BYTES_MAX: u64 = PATH_BYTES_MAX as u64 + 64;

/// Longest `objects/info/alternates` that is read; real ones have a line or two.
const ALTERNATES_BYTES_MAX: u64 = 64 * 1024;

/// How many object folders refer to one another at most; libgit2 itself follows five in a row.
const ALTERNATES_MAX: usize = 64;

/// How many names are looked at in one folder of packs: more than any repository that is ever repacked has.
const PACK_NAMES_MAX: usize = 100_000;

/// Longest configuration that is read; real ones have a page.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// Largest index and list of packed refs, which libgit2 holds in memory: those of a million files and as many refs.
const DATA_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Longest text that git reads by itself: real lists of patterns have a page or ten, and each file is compared with all.
const TEXT_BYTES_MAX: u64 = 1024 * 1024;

/// How many configuration files include one another at most; libgit2 itself stops at a depth of ten.
const CONFIGS_MAX: usize = 64;

/// What in a git directory is read or written by name; a link there may not lead out of the roots.
const GIT_FILES: &[&str] = &[
    "config",
    "config.worktree",
    "packed-refs",
    "shallow",
    "objects",
    "objects/info",
    "objects/pack",
    "refs",
    "refs/heads",
    "refs/remotes",
    "refs/tags",
    "refs/tollgate",
    "refs/tollgate/stash",
    "logs",
    "logs/refs",
    "logs/refs/heads",
    "info",
    "info/exclude",
    "info/attributes",
    "worktrees",
];

/// What git replaces or appends to by name, and libgit2 writes through a link to: never a link at all.
const OWN_FILES: &[&str] = &["HEAD", "index", "logs/HEAD", "MERGE_HEAD", "commondir", "gitdir"];

/// What git reads from the root of a working tree by itself.
const WORKTREE_FILES: &[&str] = &[".gitignore", ".gitattributes", ".gitmodules"];

/// How long ago a file must have changed for its time of change to tell it from a later state: clocks of file systems tick
/// in milliseconds.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// What would differ if objects or configuration led somewhere else than before: of each file and folder that says so,
/// which it is, how large, and when it changed. Nobody but the system sets that time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(Vec<Option<(u64, u64, u64, i64, i64)>>);

impl Fingerprint {
    fn take(own: &Path, common: &Path) -> Self {
        let objects = common.join("objects");
        let (info, packs, alternates) = (objects.join("info"), objects.join("pack"), objects.join("info/alternates"));
        let configuration = [common.join("config"), own.join("config.worktree"), common.join("config.worktree")];
        let files = [objects, info, packs, alternates, common.join("shallow")].into_iter().chain(configuration);
        let of = |path: PathBuf| {
            let found = fs::symlink_metadata(path).ok()?;
            Some((found.dev(), found.ino(), found.len(), found.ctime(), found.ctime_nsec()))
        };
        Self(files.map(of).collect())
    }

    /// Returns whether all of it is old enough to be told from what comes later.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let limit = i64::try_from(now.saturating_sub(SETTLED_AFTER).as_secs()).unwrap_or_default();
        self.0.iter().flatten().all(|(.., changed_at, _)| *changed_at < limit)
    }
}

/// The two folders that a repository consists of, without symbolic links: the same unless it is a linked worktree.
#[derive(Debug, PartialEq, Eq)]
pub struct GitDirectories {
    /// What one worktree has for itself: HEAD, index.
    own: PathBuf,
    /// What all worktrees share: objects, branches, configuration.
    common: PathBuf,
    /// What they look like, where nothing in them leads anywhere and that was so for a while.
    looked: Option<Fingerprint>,
}

impl GitDirectories {
    /// Finds the git directories of the working tree `worktree` and checks all that they refer to.
    ///
    /// # Errors
    ///
    /// `path_outside_root`, `not_a_repository`.
    pub fn find(worktree: &Path, roots: &Roots) -> Result<Self, Refusal> {
        let dot_git = worktree.join(".git");
        let is_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
        // A link is not followed even to look: what is outside is not opened at all. The working tree is resolved
        // already, so a folder in it is where it says.
        let resolved = if is_folder(&dot_git) { dot_git.clone() } else { inside(&dot_git, roots)? };
        let own = if is_folder(&resolved) {
            resolved
        } else {
            let text = read(&resolved, POINTER_BYTES_MAX)?.unwrap_or_default();
            let target = text
                .strip_prefix(b"gitdir:")
                .map(<[u8]>::trim_ascii)
                .filter(|target| !target.is_empty() && !target.contains(&0))
                .ok_or_else(|| not_a_repository(&dot_git.display().to_string(), "it is no git directory"))?;
            inside(&worktree.join(OsStr::from_bytes(target)), roots)?
        };
        refuse_links(&own, roots)?;
        let common = match read(&own.join("commondir"), POINTER_BYTES_MAX)? {
            Some(text) => inside(&own.join(OsStr::from_bytes(text.trim_ascii())), roots)?,
            None => own.clone(),
        };
        if common != own {
            refuse_links(&common, roots)?;
        }
        refuse_grafts(&common)?;
        for name in WORKTREE_FILES {
            refuse_link_outside(&worktree.join(name), roots)?;
        }
        let looked = check_contents(&own, &common, roots)?;
        Ok(Self { own, common, looked })
    }

    /// Checks the git directory at `path`, which has no working tree that matters, and all that it refers to.
    ///
    /// # Errors
    ///
    /// `path_outside_root`, `not_a_repository`.
    pub fn find_remote(path: &Path, roots: &Roots) -> Result<Self, Refusal> {
        let own = inside(path, roots)?;
        refuse_links(&own, roots)?;
        // A linked worktree is no place to fetch from.
        if fs::symlink_metadata(own.join("commondir")).is_ok() || !own.join("HEAD").is_file() {
            return Err(not_a_repository(&path.display().to_string(), "it is no git directory"));
        }
        refuse_grafts(&own)?;
        let looked = check_contents(&own, &own, roots)?;
        Ok(Self { common: own.clone(), own, looked })
    }

    /// Returns both folders.
    #[must_use]
    pub fn folders(&self) -> [&Path; 2] {
        [&self.own, &self.common]
    }

    /// Returns what one worktree has for itself.
    #[must_use]
    pub fn own(&self) -> &PathBuf {
        &self.own
    }

    /// Returns what both look like, where all that they hold is known to come from inside.
    #[must_use]
    pub fn looked(&self) -> Option<&Fingerprint> {
        self.looked.as_ref()
    }

    /// Returns what one worktree has for itself, and what it looks like.
    #[must_use]
    pub fn into_own(self) -> (PathBuf, Option<Fingerprint>) {
        (self.own, self.looked)
    }

    /// Returns what all worktrees share.
    #[must_use]
    pub fn common(&self) -> &Path {
        &self.common
    }

    /// Checks that `git` is what was looked at: nobody exchanged anything meanwhile, and `core.worktree` does not make
    /// another folder's files the repository's own.
    ///
    /// # Errors
    ///
    /// `path_outside_root`, `not_a_repository`.
    pub fn check_opened(&self, git: &Repository, worktree: &Path, roots: &Roots) -> Result<(), Refusal> {
        let Some(workdir) = git.workdir() else {
            return Err(not_a_repository(&worktree.display().to_string(), "it has no working tree"));
        };
        for (path, expected) in [(git.path(), &*self.own), (git.commondir(), &*self.common), (workdir, worktree)] {
            // libgit2 resolves all but the last name itself; most often that is all there is to see.
            let is_itself = path.components().eq(expected.components())
                && fs::symlink_metadata(expected).is_ok_and(|found| found.is_dir());
            if !is_itself && fs::canonicalize(path).ok().as_deref() != Some(expected) {
                return Err(outside(path, roots));
            }
        }
        Ok(())
    }
}

/// Checks that objects and configuration come from inside, and returns what they look like where nothing in them leads
/// anywhere.
///
/// Where nothing that could lead anywhere has changed since the last time, this was found out before.
fn check_contents(own: &Path, common: &Path, roots: &Roots) -> Result<Option<Fingerprint>, Refusal> {
    let before = Fingerprint::take(own, common);
    if roots.is_checked(own, &before) {
        return Ok(Some(before));
    }
    let plain_objects = check_objects(&common.join("objects"), roots)?;
    let plain_configuration = check_configuration(own, common, roots)?;
    if !plain_objects || !plain_configuration || !before.is_settled() {
        return Ok(None);
    }
    roots.note_checked(own, before.clone());
    Ok(Some(before))
}

/// Resolves `path`, which must exist inside the roots.
fn inside(path: &Path, roots: &Roots) -> Result<PathBuf, Refusal> {
    fs::canonicalize(path).ok().filter(|path| roots.contain(path)).ok_or_else(|| outside(path, roots))
}

fn outside(path: &Path, roots: &Roots) -> Refusal {
    roots.outside(&path.display().to_string())
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

/// Refuses `path` where it is a link to outside; a dangling one too: writing through it would make its target.
fn refuse_link_outside(path: &Path, roots: &Roots) -> Result<(), Refusal> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.is_symlink() {
        return refuse_special(path, &found);
    }
    if !roots.contain(path) {
        return Err(outside(path, roots));
    }
    fs::metadata(path).map_or(Ok(()), |target| refuse_special(path, &target))
}

/// Refuses a pipe or a device, for which libgit2 would wait for ever, and what is too large for it to hold in memory.
fn refuse_special(path: &Path, found: &fs::Metadata) -> Result<(), Refusal> {
    if found.is_dir() {
        return Ok(());
    }
    let refused = |why| Err(not_a_repository(&path.display().to_string(), why));
    if !found.is_file() {
        return refused("it is neither a file nor a folder");
    }
    let bytes_max = match path.file_name().map(OsStrExt::as_bytes) {
        Some(b"index" | b"packed-refs") => DATA_BYTES_MAX,
        // Appended to for years, and not read as a whole.
        Some(b"HEAD") if path.parent().is_some_and(|folder| folder.ends_with("logs")) => u64::MAX,
        _ => TEXT_BYTES_MAX,
    };
    if found.len() > bytes_max { refused("it is too large") } else { Ok(()) }
}

fn refuse_links(folder: &Path, roots: &Roots) -> Result<(), Refusal> {
    for name in OWN_FILES {
        let path = folder.join(name);
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.is_symlink() {
            let what = path.display().to_string();
            return Err(not_a_repository(&what, "it is a symbolic link, and what writes it would write another file"));
        }
        refuse_special(&path, &found)?;
    }
    GIT_FILES.iter().try_for_each(|name| refuse_link_outside(&folder.join(name), roots))
}

/// Refuses parents that commits do not have: what is before what decides whether a branch may be moved.
fn refuse_grafts(common: &Path) -> Result<(), Refusal> {
    let grafts = common.join("info/grafts");
    match fs::metadata(&grafts) {
        Ok(found) if !found.is_file() || found.len() > 0 => {
            Err(not_a_repository(&grafts.display().to_string(), "it gives commits other parents than they have"))
        }
        _ => Ok(()),
    }
}

/// Checks that no object comes from outside, or goes there; returns whether there is no link and no other folder at all.
fn check_objects(objects: &Path, roots: &Roots) -> Result<bool, Refusal> {
    let mut plain = true;
    let mut folders = vec![objects.to_owned()];
    let mut done = 0;
    while let Some(folder) = folders.get(done).cloned() {
        done += 1;
        for (name, max) in [("", 512), ("info", 512), ("pack", PACK_NAMES_MAX)] {
            let Ok(names) = fs::read_dir(folder.join(name)) else { continue };
            for (index, entry) in names.flatten().enumerate() {
                if index >= max {
                    return Err(not_a_repository(&folder.display().to_string(), "it has too many files"));
                }
                if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                    plain = false;
                    refuse_link_outside(&entry.path(), roots)?;
                }
            }
        }
        for further in alternates(&folder)? {
            let further = inside(&further, roots)?;
            if !folders.contains(&further) {
                folders.push(further);
            }
        }
        if folders.len() > ALTERNATES_MAX {
            return Err(not_a_repository(&objects.display().to_string(), "it refers to too many others"));
        }
    }
    Ok(plain && folders.len() == 1)
}

/// Returns the further object folders that the one at `objects` refers to.
fn alternates(objects: &Path) -> Result<Vec<PathBuf>, Refusal> {
    let text = read(&objects.join("info/alternates"), ALTERNATES_BYTES_MAX)?.unwrap_or_default();
    Ok(text
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
        .map(|line| objects.join(OsStr::from_bytes(line)))
        .collect())
}

/// Checks that the repository's own configuration reads no file outside: not the user's or the system's, which are
/// the operator's. Returns whether it mentions no file at all.
fn check_configuration(own: &Path, common: &Path, roots: &Roots) -> Result<bool, Refusal> {
    let mut plain = true;
    let mut files = vec![common.join("config"), own.join("config.worktree"), common.join("config.worktree")];
    let mut done = 0;
    while let Some(file) = files.get(done).cloned() {
        done += 1;
        let Some(text) = read(&file, CONFIG_BYTES_MAX)? else { continue };
        let folder = file.parent().unwrap_or(common).to_owned();
        for mention in config_paths::mentioned(&text) {
            plain = false;
            let path = folder.join(OsStr::from_bytes(&mention.path));
            // What is not there is not read: a configuration that another machine completes is an ordinary one. Where a
            // link leads nowhere yet, somebody may be about to make its target.
            let is_missing = |path: &Path| {
                fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
            };
            if !mention.path.starts_with(b"~") && is_missing(&path) && !has_link(&path) {
                continue;
            }
            // A home folder is never inside.
            let resolved =
                if mention.path.starts_with(b"~") { Err(outside(&path, roots)) } else { inside(&path, roots) }?;
            if mention.is_configuration && !files.contains(&resolved) {
                files.push(resolved);
            }
        }
        if files.len() > CONFIGS_MAX {
            return Err(not_a_repository(&file.display().to_string(), "it includes too many others"));
        }
    }
    Ok(plain)
}

/// Returns whether a part of `path` that is there is a symbolic link.
fn has_link(path: &Path) -> bool {
    path.ancestors().any(is_link)
}

/// Returns the content of a small file; `None` when there is none.
fn read(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, Refusal> {
    let unreadable = || not_a_repository(&path.display().to_string(), "it cannot be read, or is too large");
    // Not blocking, so that a pipe in the file's place does not hold up the call.
    let opened = openat(CWD, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
    let file = match opened {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(_) => return Err(unreadable()),
    };
    if !fstat(&file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile) {
        return Err(unreadable());
    }
    let mut content = Vec::new();
    let read = File::from(file).take(bytes_max + 1).read_to_end(&mut content);
    if read.is_err() || content.len() as u64 > bytes_max { Err(unreadable()) } else { Ok(Some(content)) }
}
