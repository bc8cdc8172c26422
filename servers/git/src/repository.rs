//! One repository, opened for one call.

pub mod advance;
pub mod ancestry;
pub mod blame;
pub mod config_paths;
pub mod confine;
pub mod difference;
pub mod files;
pub mod gate;
pub mod head;
pub mod hooks;
pub mod kept;
pub mod line_endings;
pub mod lock;
pub mod logged;
pub mod merge;
pub mod paths;
pub mod refs;
pub mod remote;
pub mod revision;
pub mod signing;
pub mod stash;
pub mod switch;
pub mod user_settings;
pub mod worktrees;
pub mod write_commit;

use std::fs;
use std::path::{Path, PathBuf};

use git2::{ErrorCode, Repository, RepositoryOpenFlags, RepositoryState};
use tollgate_shared::refusal::Refusal;

use crate::git_error::failed;
use crate::roots::{FolderInRoot, Roots};
use crate::watch;
use confine::GitDirectories;
use kept::KeptRepository;

/// A repository with a working tree; it, its git directory and all that they refer to are inside the roots.
pub struct OpenRepository {
    /// The repository.
    pub git: Repository,
    /// The root of the working tree, without symbolic links.
    pub worktree: PathBuf,
}

impl OpenRepository {
    /// Opens the repository whose working tree `written` names or is in; the first root's when nothing is named.
    ///
    /// # Errors
    ///
    /// `path_outside_root`, `invalid_path`, `not_a_repository`, `unsupported_repository`, `repository_not_owned`.
    pub fn open(roots: &Roots, written: Option<&str>) -> Result<Self, Refusal> {
        let (worktree, directories) = find(roots, written)?;
        let git = open(&worktree, written)?;
        directories.check_opened(&git, &worktree, roots)?;
        Ok(Self { git, worktree })
    }

    /// Opens the repository as [`open`](Self::open) does, for a call that reads little of it and writes nothing.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_to_read<'roots>(
        roots: &'roots Roots,
        written: Option<&str>,
    ) -> Result<KeptRepository<'roots>, Refusal> {
        let (worktree, directories) = find(roots, written)?;
        let kept = roots.handles().take(directories.own(), directories.looked());
        let (git, uses) = match kept {
            Some(kept) => kept,
            None => (open(&worktree, written)?, 0),
        };
        directories.check_opened(&git, &worktree, roots)?;
        let (own, looked) = directories.into_own();
        Ok(KeptRepository::new(Self { git, worktree }, roots.handles(), own, looked, uses))
    }

    /// Returns the operation that waits to be finished, as git calls it.
    #[must_use]
    pub fn operation(&self) -> Option<&'static str> {
        match self.git.state() {
            RepositoryState::Clean if switch::is_interrupted(&self.git) => Some("switch"),
            RepositoryState::Clean => None,
            RepositoryState::Merge => Some("merge"),
            RepositoryState::Revert | RepositoryState::RevertSequence => Some("revert"),
            RepositoryState::CherryPick | RepositoryState::CherryPickSequence => Some("cherry-pick"),
            RepositoryState::Bisect => Some("bisect"),
            RepositoryState::Rebase | RepositoryState::RebaseInteractive | RepositoryState::RebaseMerge => {
                Some("rebase")
            }
            RepositoryState::ApplyMailbox | RepositoryState::ApplyMailboxOrRebase => Some("am"),
        }
    }

    /// Returns the root of the working tree for an answer.
    #[must_use]
    pub fn shown(&self) -> String {
        self.worktree.display().to_string()
    }
}

/// Finds the working tree and the git directories of the repository that `written` names, and checks both.
fn find(roots: &Roots, written: Option<&str>) -> Result<(PathBuf, GitDirectories), Refusal> {
    let folder = roots.resolve(written)?;
    let worktree = nearest(&folder, written.unwrap_or("."))?;
    watch::reads(&[&worktree]);
    let directories = GitDirectories::find(&worktree, roots)?;
    watch::reads(&directories.folders());
    Ok((worktree, directories))
}

fn open(worktree: &Path, written: Option<&str>) -> Result<Repository, Refusal> {
    // No search: libgit2 would go upward out of the root. The environment's GIT_DIR is not looked at either.
    let none: [&Path; 0] = [];
    Repository::open_ext(worktree, RepositoryOpenFlags::NO_SEARCH, none).map_err(|error| {
        if error.code() == ErrorCode::NotFound {
            not_a_repository(written.unwrap_or("."), error.message())
        } else if error.message().starts_with("unsupported") || error.message().starts_with("unknown object format") {
            Refusal::refused(
                "unsupported_repository",
                format!("the repository is of a format that cannot be read: {}", error.message()),
                "have a human use git itself; SHA-1 objects and plain refs can be read",
            )
        } else {
            failed("open the repository")(error)
        }
    })
}

/// The refusal of what must wait until `operation` is finished.
pub fn operation_in_progress(operation: &str) -> Refusal {
    Refusal::refused(
        "operation_in_progress",
        format!("a {operation} is in progress in this repository"),
        "have a human finish or abort it first",
    )
}

/// Returns the nearest folder upward with a `.git`, which may be a folder, a file or a link.
///
/// A bare repository on the way is not taken for the one around it, which it has nothing to do with.
fn nearest(folder: &FolderInRoot, shown: &str) -> Result<PathBuf, Refusal> {
    for folder in folder.upward() {
        if fs::symlink_metadata(folder.join(".git")).is_ok() {
            return Ok(folder.to_owned());
        }
        if ["HEAD", "objects", "refs"].iter().all(|name| fs::symlink_metadata(folder.join(name)).is_ok()) {
            return Err(not_a_repository(shown, "it is bare, or git's own directory, and has no working tree"));
        }
    }
    Err(not_a_repository(shown, "there is no `.git` in it"))
}

fn not_a_repository(shown: &str, why: &str) -> Refusal {
    Refusal::refused(
        "not_a_repository",
        format!("{} is not a git repository that can be used: {why}", crate::branch_name::quoted(shown)),
        "give the path of a folder with a working tree, or leave `repo_path` out",
    )
}
