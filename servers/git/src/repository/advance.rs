//! Moving the branch that HEAD leads to, with the files and the index.

use std::fs;

use git2::Oid;
use tollgate_shared::refusal::Refusal;

use super::files::{self, Strangers};
use super::head::Head;
use super::lock::ChangeLock;
use super::refs::{begin, branch_moved, branch_tip};
use super::switch::Switch;
use super::{OpenRepository, operation_in_progress};
use crate::Git;
use crate::git_error::{failed, index_locked};
use crate::protect::WritableBranch;

/// Checks that nothing else waits to be finished in `repository` and that its index can be written.
///
/// # Errors
///
/// `operation_in_progress`, `index_locked`.
pub fn refuse_unready(repository: &OpenRepository) -> Result<(), Refusal> {
    if let Some(operation) = repository.operation() {
        return Err(operation_in_progress(operation));
    }
    // The index is written last: better to find a lock before the files have changed.
    if fs::symlink_metadata(repository.git.path().join("index.lock")).is_ok() {
        return Err(index_locked());
    }
    Ok(())
}

/// Makes files and index those of the commit `new` and moves the branch that HEAD leads to there, or does nothing.
///
/// # Errors
///
/// `would_overwrite`, `files_changed`, `branch_moved`, `reference_locked`, `unsafe_path`.
pub fn advance_with_files(
    server: &Git,
    repository: &OpenRepository,
    branch: &WritableBranch,
    head: &Head,
    new: Oid,
    log: &str,
    lock: &ChangeLock,
) -> Result<(), Refusal> {
    let git = &repository.git;
    let full = branch.branch().full();
    let name = branch.branch().name();
    let mut locked = begin(git, &["HEAD", full], &["index"], lock)?;
    // Nobody who keeps to the locks moves HEAD or the branch from here on.
    if Head::resolve(git)? != *head {
        return Err(branch_moved(name));
    }
    let tree = |id: Oid| git.find_commit(id).and_then(|commit| commit.tree()).map_err(failed("read a commit"));
    let from = head.commit().map(tree).transpose()?;
    let mut index = git.index().map_err(failed("read the index"))?;
    index.read(true).map_err(failed("read the index"))?;
    let changes = files::changes(git, from.as_ref(), &tree(new)?)?;
    files::check(git, &repository.worktree, &index, &changes)?;
    let signature = server.signature(git).ok();
    let switch = Switch::begin(git, head.commit(), new, None, lock)?;
    let moved = files::apply(git, &repository.worktree, &mut index, &changes, Strangers::Stop).and_then(|()| {
        let moved = locked
            .transaction
            .set_target(full, new, signature.as_ref(), log)
            .and_then(|()| locked.transaction.commit());
        moved.map_err(failed("move the branch"))
    });
    if let Err(refusal) = moved {
        // Where this fails too, the note stays and the next change tries again.
        let _ = switch.undo(git, &locked.announced);
        return Err(refusal);
    }
    // The branch has arrived: a note that stays behind is seen to be out of date.
    let _ = switch.end(git);
    let led_to = |tip| tip == new || git.graph_descendant_of(tip, new).unwrap_or(false);
    if branch_tip(git, full)?.is_some_and(led_to) { Ok(()) } else { Err(branch_moved(name)) }
}
