//! The files of one commit in the place of another's.
//!
//! libgit2 can do this, and opens the files by their paths: whoever exchanges a folder for a link meanwhile chooses
//! what is written where. Here every folder is opened without following links, each file comes into its place whole,
//! and one that is neither the old nor the new version is left alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use git2::{Diff, DiffOptions, Index, IndexEntry, Oid, Repository, Tree};
use tollgate_shared::refusal::Refusal;

use super::line_endings;
use super::paths::{os_path, shown};
use crate::fold::folded;
use crate::git_error::failed;
use crate::roots::PATH_BYTES_MAX;
use crate::worktree_file::{self, Identified, Kind, MODE_COMMIT, MODE_FILE, MODE_LINK, Unreadable};
use crate::worktree_path::is_git_directory;

/// How many paths in the way a refusal names: enough to see what it is about.
const PATHS_SHOWN_MAX: usize = 50;

/// How many files are looked at in a folder that stands where a file is to be.
const FOLDER_FILES_MAX: usize = 10_000;

/// A file as a commit has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    id: Oid,
    mode: u32,
}

/// A path that two commits have differently.
#[derive(Clone, Debug)]
pub struct Change {
    path: Vec<u8>,
    old: Option<Version>,
    new: Option<Version>,
}

/// Whether a file that is neither version stops a change, or is left out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strangers {
    /// The change stops.
    Stop,
    /// The file stays as it is.
    Keep,
}

/// What stands at a path of the working tree.
enum Found {
    Missing,
    /// Nothing, and nothing can, since this path above it is no folder.
    Blocked(Vec<u8>),
    Folder,
    File(Identified),
    Unreadable,
}

/// Returns what differs between two commits.
///
/// # Errors
///
/// `unsafe_path` when one of them has a name that is not to be written.
pub fn changes(git: &Repository, from: Option<&Tree<'_>>, to: &Tree<'_>) -> Result<Vec<Change>, Refusal> {
    let mut options = DiffOptions::new();
    options.include_typechange(true);
    read(&git.diff_tree_to_tree(from, Some(to), Some(&mut options)).map_err(failed("compare the branches"))?)
}

/// Returns what is staged over `from`, both sides of a conflict included.
///
/// # Errors
///
/// As [`changes`].
pub fn staged(git: &Repository, from: Option<&Tree<'_>>, index: &Index) -> Result<Vec<Change>, Refusal> {
    let mut options = DiffOptions::new();
    options.include_typechange(true);
    read(&git.diff_tree_to_index(from, Some(index), Some(&mut options)).map_err(failed("compare with HEAD"))?)
}

fn read(diff: &Diff<'_>) -> Result<Vec<Change>, Refusal> {
    let mut changes = Vec::new();
    for delta in diff.deltas() {
        let version = |file: git2::DiffFile<'_>| {
            // Trees of long ago have a mode that git has dropped since.
            let mode = Some(u32::from(file.mode())).filter(|mode| *mode != 0o100_664).unwrap_or(MODE_FILE);
            let version = Version { id: file.id(), mode };
            (!file.id().is_zero() && file.exists()).then_some(version)
        };
        let (old, new) = (version(delta.old_file()), version(delta.new_file()));
        let Some(path) = delta.new_file().path_bytes().or_else(|| delta.old_file().path_bytes()) else { continue };
        let is_link = new.is_some_and(|new| new.mode == MODE_LINK);
        if path.len() > PATH_BYTES_MAX || !is_safe(path) || (is_link && is_read_by_git(path)) {
            return Err(Refusal::refused(
                "unsafe_path",
                format!("the switch concerns a file of the name {}", crate::branch_name::quoted(&shown(path))),
                "have a human look at how it came there",
            ));
        }
        changes.push(Change { path: path.to_vec(), old, new });
    }
    Ok(changes)
}

/// Checks that every change of `changes` can be made without a loss.
///
/// # Errors
///
/// `would_overwrite` names the paths in the way.
pub fn check(git: &Repository, worktree: &Path, index: &Index, changes: &[Change]) -> Result<(), Refusal> {
    let leaving: BTreeSet<&[u8]> =
        changes.iter().filter(|change| change.new.is_none()).map(|change| &*change.path).collect();
    let mut in_the_way = Vec::new();
    for change in changes {
        if !(is_index_ready(index, change) && is_place_ready(git, worktree, change, &leaving)) {
            in_the_way.push(shown(&change.path));
            if in_the_way.len() >= PATHS_SHOWN_MAX {
                break;
            }
        }
    }
    if in_the_way.is_empty() {
        return Ok(());
    }
    Err(Refusal::refused(
        "would_overwrite",
        format!("switching would overwrite local changes in {}", in_the_way.join(", ")),
        "commit them with git_add and git_commit first, or have a human put them away",
    )
    .with_detail("paths", &in_the_way))
}

/// Refuses an index with paths that no system could write; libgit2 goes through their folders by recursion.
///
/// # Errors
///
/// `unsafe_path`.
pub fn refuse_deep(index: &Index) -> Result<(), Refusal> {
    match index.iter().find(|entry| entry.path.len() > PATH_BYTES_MAX) {
        Some(entry) => Err(Refusal::refused(
            "unsafe_path",
            format!("there is a file with a path of {} bytes", entry.path.len()),
            "have a human look at how it came there",
        )),
        None => Ok(()),
    }
}

/// Makes `changes` in the files and in the index.
///
/// # Errors
///
/// `files_changed` when somebody wrote one of the files since they were checked.
pub fn apply(
    git: &Repository,
    worktree: &Path,
    index: &mut Index,
    changes: &[Change],
    strangers: Strangers,
) -> Result<(), Refusal> {
    let stranger = |change: &Change| match strangers {
        Strangers::Stop => Err(Refusal::failed(
            "files_changed",
            format!(
                "{} was written by somebody else during the switch",
                crate::branch_name::quoted(&shown(&change.path))
            ),
            "look at git_status, then call again",
        )),
        Strangers::Keep => Ok(()),
    };
    // What goes makes room for what comes: a file in the place of a folder, and the other way round.
    let (going, mut coming): (Vec<&Change>, Vec<&Change>) = changes.iter().partition(|change| change.new.is_none());
    for change in going {
        match look(git, worktree, change) {
            Found::File(found) if is_meanwhile(&found, change.old_file()) => {
                worktree_file::remove(worktree, &change.path).map_err(|error| unwritable(change, &error))?;
            }
            Found::Missing | Found::Blocked(_) => {}
            Found::Folder if change.old_file().is_none() => {}
            Found::Folder | Found::File(_) | Found::Unreadable => {
                stranger(change)?;
                continue;
            }
        }
        index.remove_path(os_path(&change.path)).map_err(failed("change the index"))?;
    }
    // The attributes come first: they say how the other files are to be written.
    coming.sort_by_key(|change| !change.path.ends_with(b".gitattributes"));
    for change in coming {
        let Some(new) = change.new else { continue };
        let entry = match (look(git, worktree, change), change.new_file()) {
            (Found::File(found), Some(new)) if is_meanwhile(&found, change.new_file()) => {
                IndexEntry { id: new.id, ..found.entry }
            }
            (Found::File(found), Some(new)) if is_meanwhile(&found, change.old_file()) => {
                write(git, worktree, change, new)?
            }
            (Found::Missing, Some(new)) => write(git, worktree, change, new)?,
            (Found::Folder, Some(new)) if worktree_file::remove_empty_folder(worktree, &change.path).is_ok() => {
                write(git, worktree, change, new)?
            }
            // A submodule is a folder, which stays as it is.
            (found, None) => {
                if let Found::File(found) = found
                    && is_meanwhile(&found, change.old_file())
                {
                    worktree_file::remove(worktree, &change.path).map_err(|error| unwritable(change, &error))?;
                }
                worktree_file::blank_entry(&change.path, new.id, new.mode)
            }
            _ => {
                stranger(change)?;
                continue;
            }
        };
        index.remove_path(os_path(&change.path)).map_err(failed("change the index"))?;
        index.add(&entry).map_err(failed("change the index"))?;
    }
    index.write().map_err(failed("write the index"))
}

/// Makes the files of `changes`, and the index, what they were before, whatever is there now.
///
/// # Errors
///
/// When one cannot be written.
pub fn restore(git: &Repository, worktree: &Path, index: &mut Index, changes: &[Change]) -> Result<(), Refusal> {
    for change in changes {
        index.remove_path(os_path(&change.path)).map_err(failed("change the index"))?;
        let entry = match change.old {
            Some(old) if old.mode == MODE_COMMIT => Some(worktree_file::blank_entry(&change.path, old.id, old.mode)),
            Some(old) => Some(write(git, worktree, change, old)?),
            None => {
                match worktree_file::kind(worktree, &change.path) {
                    Ok(Kind::File) => {
                        worktree_file::remove(worktree, &change.path).map_err(|error| unwritable(change, &error))?;
                    }
                    Ok(Kind::Folder) | Err(_) => {}
                }
                None
            }
        };
        if let Some(entry) = entry {
            index.add(&entry).map_err(failed("change the index"))?;
        }
    }
    index.write().map_err(failed("write the index"))
}

/// Removes what a killed process may have left beside the files that it was writing.
pub fn remove_unfinished(worktree: &Path, changes: &[Change]) {
    for change in changes {
        worktree_file::remove_unfinished(worktree, &change.path);
    }
}

impl Change {
    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Returns the change that takes this one back.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { path: self.path, old: self.new, new: self.old }
    }

    /// Returns whether a process that was making this change made it, or came to it at all.
    #[must_use]
    pub fn is_made(&self, git: &Repository, worktree: &Path, index: &Index) -> bool {
        let indexed = index.get_path(os_path(&self.path), 0);
        let in_index = match (&indexed, self.new) {
            (Some(entry), Some(new)) => Version { id: entry.id, mode: entry.mode } == new,
            (None, None) => true,
            _ => false,
        };
        let in_files = match (look(git, worktree, self), self.new_file()) {
            (Found::File(found), Some(_)) => is_meanwhile(&found, self.new_file()),
            (Found::Missing | Found::Blocked(_) | Found::Folder, None) => self.old_file().is_some(),
            _ => false,
        };
        in_files || in_index
    }

    fn old_file(&self) -> Option<Version> {
        self.old.filter(|version| version.mode != MODE_COMMIT)
    }

    fn new_file(&self) -> Option<Version> {
        self.new.filter(|version| version.mode != MODE_COMMIT)
    }
}

/// Returns whether a file that was found is `version`.
fn is(found: &Identified, version: Option<Version>) -> bool {
    version.is_some_and(|version| version == Version { id: found.entry.id, mode: found.entry.mode })
}

/// The same while a change is under way, when attributes may be those of either commit.
fn is_meanwhile(found: &Identified, version: Option<Version>) -> bool {
    is(found, version)
        || version.is_some_and(|version| version.mode == found.entry.mode && found.otherwise.contains(&version.id))
}

/// Names that no git writes, and those that another file system takes for `.git`.
fn is_safe(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').all(|part| {
        !matches!(part, b"" | b"." | b"..") && !part.contains(&0) && !is_git_directory(&String::from_utf8_lossy(part))
    })
}

/// Returns whether git itself reads a file of this name, and would read what a link leads to, wherever that is.
fn is_read_by_git(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    matches!(&*folded(&String::from_utf8_lossy(name)), ".gitignore" | ".gitattributes" | ".gitmodules")
}

/// Returns whether nothing is staged at the path of `change` that would be lost.
fn is_index_ready(index: &Index, change: &Change) -> bool {
    let conflicted = (1..=3).any(|stage| index.get_path(os_path(&change.path), stage).is_some());
    let staged = index.get_path(os_path(&change.path), 0).map(|entry| Version { id: entry.id, mode: entry.mode });
    !conflicted && (staged == change.old || staged == change.new)
}

fn is_place_ready(git: &Repository, worktree: &Path, change: &Change, leaving: &BTreeSet<&[u8]>) -> bool {
    match (change.old_file(), change.new_file(), look(git, worktree, change)) {
        (None, None, _) | (Some(_), None, Found::Missing | Found::Blocked(_)) | (None, Some(_), Found::Missing) => true,
        (None, Some(_), Found::Blocked(by)) => leaving.contains(&*by),
        (None, Some(_), Found::Folder) => is_leaving(worktree, &change.path, leaving),
        (old, new, Found::File(found)) => is(&found, old) || is(&found, new),
        (Some(_), _, Found::Folder)
        | (Some(_), Some(_), Found::Missing | Found::Blocked(_))
        | (_, _, Found::Unreadable) => false,
    }
}

/// Returns whether everything in the folder at `path` is about to go.
fn is_leaving(worktree: &Path, path: &[u8], leaving: &BTreeSet<&[u8]>) -> bool {
    let mut folders = vec![path.to_vec()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(worktree.join(os_path(&folder))) else { return false };
        for entry in entries {
            let Ok((entry, kind)) =
                entry.and_then(|entry| Ok((entry.file_type()?, entry))).map(|(kind, entry)| (entry, kind))
            else {
                return false;
            };
            let below = [&*folder, b"/", entry.file_name().as_encoded_bytes()].concat();
            files += 1;
            if kind.is_dir() {
                folders.push(below);
            } else if !leaving.contains(&*below) {
                return false;
            }
            if files > FOLDER_FILES_MAX {
                return false;
            }
        }
    }
    true
}

fn look(git: &Repository, worktree: &Path, change: &Change) -> Found {
    let path = &*change.path;
    match worktree_file::kind(worktree, path) {
        Ok(Kind::Folder) => return Found::Folder,
        Ok(Kind::File) => {}
        Err(Unreadable::Missing | Unreadable::BeyondLink) => {
            let ends = (0..path.len()).filter(|end| path[*end] == b'/');
            for above in ends.map(|end| &path[..end]) {
                match worktree_file::kind(worktree, above) {
                    Ok(Kind::Folder) => {}
                    Err(Unreadable::Missing) => return Found::Missing,
                    _ => return Found::Blocked(above.to_vec()),
                }
            }
            return Found::Missing;
        }
        Err(_) => return Found::Unreadable,
    }
    // Where the file system does not tell, a file keeps the mode that it has in git.
    let known = change.old.or(change.new).map(|version| version.mode);
    match worktree_file::identify(git, worktree, path, known) {
        Ok(found) => Found::File(found),
        Err(Unreadable::Missing) => Found::Missing,
        Err(_) => Found::Unreadable,
    }
}

fn write(git: &Repository, worktree: &Path, change: &Change, new: Version) -> Result<IndexEntry, Refusal> {
    let blob = git.find_blob(new.id).map_err(failed("read a file of the branch"))?;
    let content = line_endings::for_the_working_tree(git, os_path(&change.path), blob.content());
    worktree_file::write(worktree, &change.path, &content, new.mode, new.id).map_err(|error| unwritable(change, &error))
}

fn unwritable(change: &Change, error: &Unreadable) -> Refusal {
    Refusal::failed(
        "git_failed",
        format!("cannot write {}: it {error}", crate::branch_name::quoted(&shown(&change.path))),
        "see git_status for the state of the repository",
    )
}
