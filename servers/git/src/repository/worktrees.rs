//! Linked worktrees: further folders of one repository, each with a branch of its own.
//!
//! libgit2 can make one, and writes its files by their paths; here they are written as everywhere else.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{Oid, Repository};
use rustix::fs::{CWD, Mode, OFlags, openat};
use tollgate_shared::refusal::Refusal;

use super::files::{self, Strangers};
use super::paths::shown;
use super::{OpenRepository, not_a_repository};
use crate::branch_name::quoted;
use crate::git_error::failed;
use crate::roots::Roots;
use crate::watch;
use crate::worktree_path::is_git_directory;

/// How many worktrees are looked at; fleets have tens.
const WORKTREES_MAX: usize = 1000;

/// How many names are tried for one that is not taken.
const NAMES_MAX: usize = 100;

/// Longest file about a worktree that is read: one path or the name of a branch.
const FILE_BYTES_MAX: u64 = 8192;

/// A linked worktree as the repository knows it.
#[derive(Debug)]
pub struct Linked {
    /// Its name in the repository.
    pub name: String,
    /// The folder in the repository that is about it.
    pub admin: PathBuf,
    /// Its own folder, as written down.
    pub folder: PathBuf,
    /// What its HEAD says.
    pub head: String,
    /// Whether somebody asked for it to be kept.
    pub locked: bool,
}

/// Returns the linked worktrees of the repository whose shared folder is `common`.
#[must_use]
pub fn linked(common: &Path) -> Vec<Linked> {
    let mut all: Vec<Linked> = fs::read_dir(common.join("worktrees"))
        .into_iter()
        .flatten()
        .flatten()
        .take(WORKTREES_MAX)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| {
            let admin = entry.path();
            let pointer = small(&admin.join("gitdir"))?;
            Some(Linked {
                name: shown(entry.file_name().as_bytes()),
                folder: Path::new(pointer.trim()).parent()?.to_owned(),
                head: small(&admin.join("HEAD"))?.trim().to_owned(),
                locked: fs::symlink_metadata(admin.join("locked")).is_ok(),
                admin,
            })
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// Returns the content of a small file that is one.
fn small(path: &Path) -> Option<String> {
    let metadata = fs::symlink_metadata(path).ok()?;
    (metadata.is_file() && metadata.len() <= FILE_BYTES_MAX).then(|| fs::read_to_string(path).ok())?
}

/// A place for a new worktree: a name in a folder that is inside the roots, where nothing is yet.
#[derive(Debug)]
pub struct Place(PathBuf);

impl Place {
    /// Reads the path that a caller gave.
    ///
    /// # Errors
    ///
    /// `path_outside_root`, `invalid_path`, `git_directory`, `path_taken`.
    pub fn parse(text: &str, roots: &Roots) -> Result<Self, Refusal> {
        let trimmed = text.trim_end_matches('/');
        let (parent, name) = match trimmed.rsplit_once('/') {
            Some(("", name)) => ("/", name),
            Some((parent, name)) => (parent, name),
            None => (".", trimmed),
        };
        if name.is_empty() || matches!(name, "." | "..") || name.chars().any(char::is_control) || name.len() > 200 {
            return Err(Refusal::refused(
                "invalid_path",
                format!("{} is no place for a worktree", quoted(text)),
                "give the path of a folder that is to be made",
            ));
        }
        let folder = roots.resolve(Some(parent))?;
        let folder = folder.upward().next().unwrap_or(Path::new("/")).to_owned();
        let parts = folder.components().filter_map(|part| part.as_os_str().to_str());
        if parts.chain([name]).any(is_git_directory) {
            return Err(Refusal::refused(
                "git_directory",
                format!("{} is in git's own directory", quoted(text)),
                "give another path",
            ));
        }
        let path = folder.join(name);
        if fs::symlink_metadata(&path).is_ok() {
            return Err(Refusal::refused(
                "path_taken",
                format!("there is something at {} already", quoted(text)),
                "give the path of a folder that is to be made",
            ));
        }
        Ok(Self(path))
    }

    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// Makes a worktree of `git` at `place` with the branch `full_name`, which is at `tip`.
///
/// # Errors
///
/// When it cannot be made; what was made of it is removed.
pub fn add(git: &Repository, roots: &Roots, place: &Place, full_name: &str, tip: Oid) -> Result<PathBuf, Refusal> {
    let failure = |error: std::io::Error| {
        Refusal::failed(
            "git_failed",
            format!("cannot make the worktree: {error}"),
            "look at the folder, then call again",
        )
    };
    watch::writes()?;
    let common = fs::canonicalize(git.commondir()).map_err(failure)?;
    let folder = common.join("worktrees");
    match fs::create_dir(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failure(error)),
        _ => {}
    }
    // Through a link the rest would be made elsewhere.
    if !fs::symlink_metadata(&folder).is_ok_and(|metadata| metadata.is_dir()) {
        return Err(not_a_repository(&folder.display().to_string(), "it is no folder"));
    }
    // Whoever made the folder since it was looked for keeps it.
    fs::create_dir(&place.0).map_err(failure)?;
    let admin = free_name(&folder, &place.0).map_err(|error| {
        let _ = fs::remove_dir(&place.0);
        failure(error)
    })?;
    let made = fill(git, roots, place, &admin, full_name, tip, &failure);
    if made.is_err() {
        let _ = fs::remove_dir_all(&place.0);
        let _ = fs::remove_dir_all(&admin);
    }
    made
}

fn free_name(folder: &Path, place: &Path) -> std::io::Result<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().map(|c| if plain(c) { c } else { '-' }).collect();
    for number in 0..NAMES_MAX {
        let name = if number == 0 { name.clone() } else { format!("{name}{number}") };
        match fs::create_dir(folder.join(&name)) {
            Ok(()) => return Ok(folder.join(name)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(std::io::Error::other("too many worktrees have this name"))
}

fn fill(
    git: &Repository,
    roots: &Roots,
    place: &Place,
    admin: &Path,
    full_name: &str,
    tip: Oid,
    failure: &impl Fn(std::io::Error) -> Refusal,
) -> Result<PathBuf, Refusal> {
    let write = |path: &Path, content: &[u8]| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::from_raw_mode(0o644))
            .map_err(std::io::Error::from)
            .and_then(|file| File::from(file).write_all(content))
            .map_err(failure)
    };
    let line = |path: &Path| [path.as_os_str().as_bytes(), b"\n"].concat();
    write(&admin.join("commondir"), b"../..\n")?;
    write(&admin.join("gitdir"), &line(&place.0.join(".git")))?;
    write(&admin.join("HEAD"), format!("ref: {full_name}\n").as_bytes())?;
    write(&place.0.join(".git"), &[b"gitdir: ", &*line(admin)].concat())?;
    // From here on it is a repository like any other, and looked at like one.
    let path = place.0.to_str().ok_or_else(|| not_a_repository("the worktree", "its path is not UTF-8"))?;
    let opened = OpenRepository::open(roots, Some(path))?;
    if fs::canonicalize(opened.git.path()).ok() != fs::canonicalize(admin).ok() {
        return Err(not_a_repository(path, "it was exchanged while it was made"));
    }
    let tree = git.find_commit(tip).and_then(|commit| commit.tree()).map_err(failed("read the branch"))?;
    let mut index = opened.git.index().map_err(failed("read the index"))?;
    let changes = files::changes(&opened.git, None, &tree)?;
    files::check(&opened.git, &opened.worktree, &index, &changes)?;
    files::apply(&opened.git, &opened.worktree, &mut index, &changes, Strangers::Stop)?;
    Ok(opened.worktree)
}

/// Removes the worktree `linked`, whose folder is gone or `opened`.
///
/// # Errors
///
/// When something of it stays.
pub fn remove(linked: &Linked, opened: Option<&OpenRepository>) -> Result<(), Refusal> {
    watch::writes()?;
    let removed = |path: &Path| match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Refusal::failed(
            "git_failed",
            format!("cannot remove the worktree: {error}"),
            "look at what is left of it, then call again",
        )),
        _ => Ok(()),
    };
    // Neither follows a link.
    if let Some(opened) = opened {
        removed(&opened.worktree)?;
    }
    removed(&linked.admin)
}
