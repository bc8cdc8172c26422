//! Which commit an artifact comes from: the repository that it lies in, as it is checked out.
//!
//! What a build made of a commit cannot be proven from here. What is held to is that the working tree has nothing that
//! the commit has not, apart from what git ignores.

use std::path::{Path, PathBuf};

use git2::{BranchType, Repository, Status, StatusOptions};
use serde::Serialize;
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::ledger::verified::{TreeQuery, TreeVerdict, look_up};

/// How far back a tree is looked for that Ralph compared with.
const ANCESTORS_MAX: usize = 10;

/// The commit that is checked out where an artifact lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The git directory that all worktrees share.
    pub repository: PathBuf,
    /// The local branch that is checked out.
    pub branch: Option<String>,
    /// The commit.
    pub commit: String,
    /// Its tree.
    pub tree: String,
    /// The trees of its first parents, the nearest first; for a first commit the empty tree.
    pub before: Vec<String>,
    /// Something that is in the working tree and not in the commit.
    pub uncommitted: Option<String>,
}

impl Source {
    /// Finds the commit of `artifact`, a path below `workspace`; `None` where it is in no repository with a commit.
    ///
    /// # Errors
    ///
    /// What libgit2 says.
    pub fn of(artifact: &Path, workspace: &Path) -> Result<Option<Self>, git2::Error> {
        let above = workspace.parent().unwrap_or(workspace);
        let found = match Repository::discover_path(artifact, [above]) {
            Ok(found) => found,
            Err(error) if error.code() == git2::ErrorCode::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let repository = Repository::open(found)?;
        let head = match repository.head() {
            Ok(head) => head,
            Err(error) if matches!(error.code(), git2::ErrorCode::UnbornBranch | git2::ErrorCode::NotFound) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let commit = head.peel_to_commit()?;
        let branch = head
            .is_branch()
            .then(|| head.shorthand().ok().map(str::to_owned))
            .flatten()
            .filter(|name| repository.find_branch(name, BranchType::Local).is_ok());
        let mut before = Vec::new();
        let mut ancestor = commit.parent(0).ok();
        while let Some(parent) = ancestor.take_if(|_| before.len() < ANCESTORS_MAX) {
            before.push(parent.tree_id().to_string());
            ancestor = parent.parent(0).ok();
        }
        if before.is_empty() {
            before.push(repository.treebuilder(None)?.write()?.to_string());
        }
        Ok(Some(Self {
            repository: std::fs::canonicalize(repository.commondir()).unwrap_or_else(|_| repository.commondir().into()),
            branch,
            commit: commit.id().to_string(),
            tree: commit.tree_id().to_string(),
            before,
            uncommitted: uncommitted(&repository)?,
        }))
    }

    /// Returns what Ralph said about the commit's tree, compared with one before it.
    ///
    /// # Errors
    ///
    /// Why the ledger cannot be read.
    pub fn verdict(
        &self,
        ledger: &Path,
        configuration: ContentHash,
        stop: &dyn Fn() -> bool,
    ) -> Result<TreeVerdict, String> {
        let query = TreeQuery {
            repository: self.repository.to_string_lossy().into_owned(),
            tree: self.tree.clone(),
            replaces: self.before.clone(),
            configuration,
        };
        look_up(ledger, &query, stop).map_err(|error| error.to_string())
    }
}

/// Returns one file that is not as the commit has it, ignored ones left out.
fn uncommitted(repository: &Repository) -> Result<Option<String>, git2::Error> {
    let mut options = StatusOptions::new();
    options.include_untracked(true).include_ignored(false).exclude_submodules(true);
    let statuses = repository.statuses(Some(&mut options))?;
    let dirty = statuses.iter().find(|entry| entry.status() != Status::CURRENT);
    Ok(dirty.map(|entry| String::from_utf8_lossy(entry.path_bytes()).into_owned()))
}
