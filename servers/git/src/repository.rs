//! One repository, opened for one call.

pub mod head;
pub mod lock;
pub mod paths;
pub mod refs;
pub mod revision;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use git2::{ErrorCode, Repository, RepositoryOpenFlags, RepositoryState};
use tollgate_shared::refusal::Refusal;

use crate::git_error::failed;
use crate::roots::{FolderInRoot, PATH_BYTES_MAX, Roots};

/// Longest `objects/info/alternates` that is read; real ones have a line or two.
const ALTERNATES_BYTES_MAX: u64 = 64 * 1024;

/// What in a git directory is read or written by name; none of it may lead out of the roots.
const GIT_FILES: &[&str] = &[
    "HEAD",
    "index",
    "config",
    "packed-refs",
    "objects",
    "objects/info",
    "objects/pack",
    "refs",
    "refs/heads",
    "logs",
    "logs/HEAD",
    "info",
];

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
    /// `path_outside_root`, `invalid_path`, `not_a_repository`, `repository_not_owned`.
    pub fn open(roots: &Roots, written: Option<&str>) -> Result<Self, Refusal> {
        let folder = roots.resolve(written)?;
        let shown = written.unwrap_or(".");
        let worktree = nearest(&folder).ok_or_else(|| not_a_repository(shown, "there is no `.git` in it"))?;
        // A link is not followed even to look: what is outside is not opened at all.
        let dot_git = worktree.join(".git");
        if !roots.contain(&dot_git) {
            return Err(roots.outside(&dot_git.display().to_string()));
        }
        // No search: libgit2 would go upward out of the root. The environment's GIT_DIR is not looked at either.
        let none: [&Path; 0] = [];
        let git = Repository::open_ext(&worktree, RepositoryOpenFlags::NO_SEARCH, none).map_err(|error| {
            if error.code() == ErrorCode::NotFound {
                not_a_repository(shown, error.message())
            } else {
                failed("open the repository")(error)
            }
        })?;
        confine(&git, &worktree, roots)?;
        Ok(Self { git, worktree })
    }

    /// Returns the operation that waits to be finished, as git calls it.
    #[must_use]
    pub fn operation(&self) -> Option<&'static str> {
        match self.git.state() {
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

/// The refusal of what must wait until `operation` is finished.
pub fn operation_in_progress(operation: &str) -> Refusal {
    Refusal::refused(
        "operation_in_progress",
        format!("a {operation} is in progress in this repository"),
        "have a human finish or abort it first",
    )
}

/// Returns the nearest folder upward with a `.git`, which may be a folder, a file or a link.
fn nearest(folder: &FolderInRoot) -> Option<PathBuf> {
    folder.upward().find(|folder| fs::symlink_metadata(folder.join(".git")).is_ok()).map(Path::to_owned)
}

/// Checks where the repository really is: `.git` files, `core.worktree`, linked worktrees, alternates and links in
/// the git directory can all point anywhere.
fn confine(git: &Repository, worktree: &Path, roots: &Roots) -> Result<(), Refusal> {
    let outside = |path: &Path| roots.outside(&path.display().to_string());
    let Some(workdir) = git.workdir() else {
        return Err(not_a_repository(&worktree.display().to_string(), "it has no working tree"));
    };
    for path in [workdir, git.path(), git.commondir()] {
        if !roots.contain(path) {
            return Err(outside(path));
        }
    }
    // With `core.worktree` a repository can take another folder's files for its own, even inside the roots.
    if fs::canonicalize(workdir).ok().as_deref() != Some(worktree) {
        return Err(outside(workdir));
    }
    for folder in [git.path(), git.commondir()] {
        for name in GIT_FILES {
            let path = folder.join(name);
            // A dangling link counts: writing through it would make what it points to.
            if fs::symlink_metadata(&path).is_ok() && !roots.contain(&path) {
                return Err(outside(&path));
            }
        }
    }
    for path in alternates(&git.commondir().join("objects"))? {
        if !roots.contain(&path) {
            return Err(outside(&path));
        }
    }
    Ok(())
}

/// Returns the further object folders that the one at `objects` refers to.
fn alternates(objects: &Path) -> Result<Vec<PathBuf>, Refusal> {
    let path = objects.join("info/alternates");
    let Ok(file) = fs::File::open(&path) else {
        return Ok(Vec::new());
    };
    let mut text = Vec::new();
    let read = file.take(ALTERNATES_BYTES_MAX + 1).read_to_end(&mut text);
    if read.is_err() || text.len() as u64 > ALTERNATES_BYTES_MAX {
        return Err(not_a_repository(&path.display().to_string(), "it cannot be read"));
    }
    use std::os::unix::ffi::OsStrExt;
    Ok(text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty() && !line.starts_with(b"#") && line.len() <= PATH_BYTES_MAX)
        .map(|line| objects.join(std::ffi::OsStr::from_bytes(line)))
        .collect())
}

fn not_a_repository(shown: &str, why: &str) -> Refusal {
    Refusal::refused(
        "not_a_repository",
        format!("{} is not a git repository that can be used: {why}", crate::branch_name::quoted(shown)),
        "give the path of a folder with a working tree, or leave `repo_path` out",
    )
}
