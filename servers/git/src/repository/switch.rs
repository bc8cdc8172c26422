//! A switch of branches or a merge that was interrupted is undone.
//!
//! The files of the new commit are written one by one, then the index; HEAD or its branch moves last. What is killed in between
//! leaves files of both branches. A note in the git directory says that this may be so, until HEAD has moved; whoever
//! changes the repository next puts the files back to where they were.

use std::fs::{self, File};
use std::io::{Read, Write};

use git2::{Oid, Repository, RepositoryState, Tree};
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::{Deserialize, Serialize};
use tollgate_shared::refusal::Refusal;

use super::files::{self, Strangers};
use super::head::Head;
use super::lock::{Announced, ChangeLock};
use crate::git_error::failed;
use crate::watch;

/// The note in a worktree's own git directory.
const FILE: &str = "tollgate-switch";

/// Longest note that is read: two ids and a name.
const NOTE_BYTES_MAX: u64 = 4096;

/// A switch that is under way.
#[derive(Debug, Serialize, Deserialize)]
pub struct Switch {
    /// The commit whose files were there before; none on a branch without a commit.
    from: Option<String>,
    /// The commit whose files are being written.
    to: String,
    /// Where HEAD leads when it is done; none when it is the branch that moves, or a merge that begins.
    target: Option<String>,
}

/// Returns whether a switch is under way, or was interrupted.
#[must_use]
pub fn is_interrupted(git: &Repository) -> bool {
    fs::symlink_metadata(git.path().join(FILE)).is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0)
}

impl Switch {
    /// Notes that the files of `from` are about to become those of `to`, and then HEAD to lead to `target`, or its
    /// branch to be at `to`, or a merge to wait for its conflicts to be resolved.
    ///
    /// # Errors
    ///
    /// When the note cannot be written.
    pub fn begin(
        git: &Repository,
        from: Option<Oid>,
        to: Oid,
        target: Option<&str>,
        _: &ChangeLock,
    ) -> Result<Self, Refusal> {
        watch::writes()?;
        let note = Self { from: from.map(|id| id.to_string()), to: to.to_string(), target: target.map(str::to_owned) };
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        openat(CWD, git.path().join(FILE), flags, Mode::from_raw_mode(0o644))
            .map_err(std::io::Error::from)
            .and_then(|file| File::from(file).write_all(serde_json::json!(note).to_string().as_bytes()))
            .map_err(|error| cannot_note(&error))?;
        Ok(note)
    }

    /// Takes the note back: HEAD has moved, or no file has changed.
    ///
    /// # Errors
    ///
    /// When the note cannot be removed.
    pub fn end(self, git: &Repository) -> Result<(), Refusal> {
        match fs::remove_file(git.path().join(FILE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(cannot_note(&error)),
            _ => Ok(()),
        }
    }

    /// Puts the files and the index back to where they were, with git's lock of the index announced.
    ///
    /// # Errors
    ///
    /// When that fails too; the note stays, and the next change tries again.
    pub fn undo(self, git: &Repository, _: &Announced<'_>) -> Result<(), Refusal> {
        let tree = |id: &str| {
            let commit = id.parse::<Oid>().and_then(|id| git.find_commit(id));
            commit.and_then(|commit| commit.tree()).map_err(failed("read the commits of an interrupted switch"))
        };
        let from = self.from.as_deref().map(tree).transpose()?;
        put_back(git, from.as_ref(), &tree(&self.to)?)?;
        self.end(git)
    }

    fn read(git: &Repository) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(CWD, git.path().join(FILE), flags, Mode::empty()).ok()?);
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut text = Vec::new();
        file.take(NOTE_BYTES_MAX).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// Undoes a switch that whoever began it did not live to finish.
///
/// # Errors
///
/// When the files cannot be put back.
pub fn undo_interrupted(git: &Repository, lock: &ChangeLock) -> Result<(), Refusal> {
    if !is_interrupted(git) {
        return Ok(());
    }
    let Some(switch) = Switch::read(git) else {
        // Nothing that can be read was being done.
        return fs::remove_file(git.path().join(FILE)).map_err(|error| cannot_note(&error));
    };
    let head = Head::resolve(git)?;
    let arrived = match (&head, &switch.target) {
        (Head::Branch { chain, .. }, Some(target)) => chain.first() == Some(target),
        (Head::Detached(_), Some(_)) => false,
        // What begins a merge is written after its files.
        (_, None) => git.state() == RepositoryState::Merge,
    };
    // Where HEAD has moved since, whoever moved it has taken the files for what they are.
    let unmoved = head.commit().map(|id| id.to_string()) == switch.from;
    // A note of commits that are not there was not written here.
    let known = |id: &str| id.parse().is_ok_and(|id| git.find_commit(id).is_ok());
    let known = known(&switch.to) && switch.from.as_deref().is_none_or(known);
    if arrived || !unmoved || !known { switch.end(git) } else { switch.undo(git, &lock.announce(git, &["index"])?) }
}

/// Writes what makes git see a merge of `theirs` in progress: MERGE_HEAD comes last and whole.
///
/// # Errors
///
/// When it cannot be written.
pub fn begin_merge(git: &Repository, theirs: Oid, message: &str) -> Result<(), Refusal> {
    let folder = git.path();
    let write = |name: &str, content: &str| {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        openat(CWD, folder.join(name), flags, Mode::from_raw_mode(0o644))
            .map_err(std::io::Error::from)
            .and_then(|file| File::from(file).write_all(content.as_bytes()))
    };
    write("MERGE_MODE", "")
        .and_then(|()| write("MERGE_MSG", &format!("{message}\n")))
        .and_then(|()| write("MERGE_HEAD.tollgate", &format!("{theirs}\n")))
        .and_then(|()| fs::rename(folder.join("MERGE_HEAD.tollgate"), folder.join("MERGE_HEAD")))
        .map_err(|error| {
            Refusal::failed("git_failed", format!("cannot begin the merge: {error}"), "make the git directory writable")
        })
}

fn cannot_note(error: &std::io::Error) -> Refusal {
    Refusal::failed(
        "git_failed",
        format!("cannot note the switch in the git directory: {error}"),
        "make the git directory writable",
    )
}

/// Makes every file that a switch from `from` to `to` wrote what it was, and leaves what somebody wrote since.
fn put_back(git: &Repository, from: Option<&Tree<'_>>, to: &Tree<'_>) -> Result<(), Refusal> {
    let Some(worktree) = git.workdir() else { return Ok(()) };
    let mut index = git.index().map_err(failed("read the index"))?;
    index.read(true).map_err(failed("read the index"))?;
    let changes = files::changes(git, from, to)?;
    files::remove_unfinished(worktree, &changes);
    let made = changes.into_iter().filter(|change| change.is_made(git, worktree, &index));
    let back: Vec<_> = made.map(files::Change::reversed).collect();
    files::apply(git, worktree, &mut index, &back, Strangers::Keep)
}
