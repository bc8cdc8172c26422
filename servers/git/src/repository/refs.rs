//! Moving refs, one at a time, under git's own locks.

use std::fs;
use std::thread;
use std::time::Duration;

use git2::{ErrorCode, Oid, Repository, Signature, Transaction};
use tollgate_shared::refusal::Refusal;

use crate::branch_name::{BRANCH_PREFIX, quoted};
use crate::git_error::{failed, reference_locked};
use crate::protect::WritableBranch;
use crate::repository::head::Head;
use crate::repository::lock::{Announced, ChangeLock};

/// How often a locked ref is tried again, and how long after: other git programs hold these locks for milliseconds.
const LOCK_TRIES: u32 = 40;
const LOCK_POLL: Duration = Duration::from_millis(50);

/// Moves the branch that HEAD leads to from `expected` to `new`, if HEAD still leads there and nobody moved it.
///
/// # Errors
///
/// `branch_moved`, `reference_locked`.
pub fn advance_head(
    repository: &Repository,
    branch: &WritableBranch,
    expected: &Head,
    new: Oid,
    signature: &Signature<'_>,
    log: &str,
    lock: &ChangeLock,
) -> Result<(), Refusal> {
    let full = branch.branch().full();
    let mut locked = begin(repository, &["HEAD", full], &[], lock)?;
    // Under the locks nobody who keeps to them can move HEAD or the branch any more; a symbolic ref between the two
    // may still be turned elsewhere, but what is written is the branch that was permitted.
    if Head::resolve(repository)? != *expected {
        return Err(branch_moved(branch.branch().name()));
    }
    locked.transaction.set_target(full, new, Some(signature), log).map_err(failed("move the branch"))?;
    locked.transaction.commit().map_err(failed("move the branch"))?;
    // What libgit2 reports as done is looked at: a commit that no branch leads to would be lost.
    let tip = branch_tip(repository, full)?;
    let led_to = |tip| tip == new || repository.graph_descendant_of(tip, new).unwrap_or(false);
    if tip.is_some_and(led_to) { Ok(()) } else { Err(branch_moved(branch.branch().name())) }
}

/// Creates a branch at `target`, if there is none of its name and none in its way.
///
/// # Errors
///
/// `branch_exists`, `branch_in_the_way`, `reference_locked`.
pub fn create_branch(
    repository: &Repository,
    branch: &WritableBranch,
    target: Oid,
    log: &str,
    lock: &ChangeLock,
) -> Result<(), Refusal> {
    let full = branch.branch().full();
    // Looked at before locking, since the lock would make the folders that a name needs, and again under the lock.
    refuse_taken(repository, branch)?;
    let mut locked = begin(repository, &[full], &[], lock)?;
    refuse_taken(repository, branch)?;
    locked.transaction.set_target(full, target, None, log).map_err(failed("create the branch"))?;
    locked.transaction.commit().map_err(failed("create the branch"))
}

/// Deletes a branch that is at `expected`, and its log.
///
/// # Errors
///
/// `branch_moved`, `reference_locked`.
pub fn delete_branch(
    repository: &Repository,
    branch: &WritableBranch,
    expected: Oid,
    lock: &ChangeLock,
) -> Result<(), Refusal> {
    let full = branch.branch().full();
    let mut locked = begin(repository, &[full], &["packed-refs"], lock)?;
    if branch_tip(repository, full)? != Some(expected) {
        return Err(branch_moved(branch.branch().name()));
    }
    locked.transaction.remove(full).map_err(failed("delete the branch"))?;
    locked.transaction.commit().map_err(failed("delete the branch"))?;
    // As git does: the log's file would be in the way of a branch below this name.
    let _ = repository.reflog_delete(full);
    Ok(())
}

/// Refs under git's own locks; to be kept whole, so that the announcement outlives them.
pub struct Locked<'repository, 'lock> {
    /// What changes them; dropped, it releases the locks.
    pub transaction: Transaction<'repository>,
    /// The announcement of the locks, dropped after them: fields are dropped in order.
    pub announced: Announced<'lock>,
}

/// Locks `names` in order, waiting a bounded time for each; `others` are locks that libgit2 will take by itself.
///
/// # Errors
///
/// `reference_locked`, `linked_branch`.
pub fn begin<'repository, 'lock>(
    repository: &'repository Repository,
    names: &[&str],
    others: &[&str],
    lock: &'lock ChangeLock,
) -> Result<Locked<'repository, 'lock>, Refusal> {
    // Before locking too: the lock of a ref below a linked folder would be made where the link leads.
    names.iter().try_for_each(|name| refuse_linked(repository, name))?;
    let announced = lock.announce(repository, &[names, others].concat())?;
    let transaction = repository.transaction().map_err(failed("lock the branch"))?;
    let mut locked = Locked { transaction, announced };
    for name in names {
        let mut tries = 1;
        while let Err(error) = locked.transaction.lock_ref(name) {
            if error.code() != ErrorCode::Locked {
                return Err(failed("lock the branch")(error));
            }
            if tries == LOCK_TRIES {
                return Err(reference_locked(error.message()));
            }
            tries += 1;
            thread::sleep(LOCK_POLL);
        }
    }
    names.iter().try_for_each(|name| refuse_linked(repository, name))?;
    Ok(locked)
}

/// Refuses a branch whose file or log is a symbolic link, or in a folder that is one: writing it would write another.
///
/// # Errors
///
/// `linked_branch`.
pub fn refuse_linked(repository: &Repository, full_name: &str) -> Result<(), Refusal> {
    // HEAD is each worktree's own.
    let folder = if full_name.starts_with("refs/") { repository.commondir() } else { repository.path() };
    for start in ["", "logs"] {
        let mut path = folder.join(start);
        for part in full_name.split('/') {
            path.push(part);
            if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
                return Err(Refusal::refused(
                    "linked_branch",
                    format!("the file of {} in the git directory is, or is below, a symbolic link", quoted(full_name)),
                    "use another branch; have a human replace the link",
                ));
            }
        }
    }
    Ok(())
}

/// The branch is not any more where it was when the call looked.
pub fn branch_moved(name: &str) -> Refusal {
    Refusal::failed(
        "branch_moved",
        format!("{} or HEAD was moved by somebody else during the call", quoted(name)),
        "look at git_status and git_log, then call again",
    )
}

fn refuse_taken(repository: &Repository, branch: &WritableBranch) -> Result<(), Refusal> {
    let full = branch.branch().full();
    let name = branch.branch().name();
    let exists = |name: &str| match repository.find_reference(name) {
        Ok(_) => Ok(true),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(false),
        Err(error) => Err(failed("look for the branch")(error)),
    };
    if exists(full)? {
        return Err(Refusal::refused(
            "branch_exists",
            format!("there is already a branch {}", quoted(name)),
            "switch to it with git_checkout, or choose another name",
        ));
    }
    let in_the_way = |other: &str| {
        Refusal::refused(
            "branch_in_the_way",
            format!("git cannot have the branches {} and {} at once", quoted(name), quoted(other)),
            "choose another name",
        )
    };
    for (end, _) in name.match_indices('/') {
        if exists(&format!("{BRANCH_PREFIX}{}", &name[..end]))? {
            return Err(in_the_way(&name[..end]));
        }
    }
    let below = format!("{full}/");
    for reference in repository.references().map_err(failed("list the branches"))? {
        let reference = reference.map_err(failed("list the branches"))?;
        if reference.name_bytes().starts_with(below.as_bytes()) {
            return Err(in_the_way(reference.shorthand().unwrap_or("below it")));
        }
    }
    Ok(())
}

/// Returns the commit that the branch `full_name` leads to; `None` when there is none.
///
/// # Errors
///
/// When the ref cannot be read.
pub fn branch_tip(repository: &Repository, full_name: &str) -> Result<Option<Oid>, Refusal> {
    let found = match repository.find_reference(full_name) {
        Ok(reference) => reference,
        Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
        Err(error) => return Err(failed("look for the branch")(error)),
    };
    Ok(found.peel_to_commit().ok().map(|commit| commit.id()))
}
