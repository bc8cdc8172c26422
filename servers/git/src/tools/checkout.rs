//! `git_checkout`: switch to a local branch, never at the cost of a local change.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use git2::Repository;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Git;
use crate::branch_name::{BranchName, quoted};
use crate::git_error::{failed, index_locked};
use crate::repository::files::{self, Strangers};
use crate::repository::head::{Head, refuse_circle};
use crate::repository::lock::ChangeLock;
use crate::repository::paths::shown;
use crate::repository::refs::{begin, branch_moved, branch_tip};
use crate::repository::switch::Switch;
use crate::repository::{OpenRepository, operation_in_progress};
use crate::watch::bounded;

/// How many linked worktrees are looked at; fleets have tens.
const WORKTREES_MAX: usize = 1000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// An existing local branch.
    branch_name: String,
}

#[derive(Serialize, JsonSchema)]
struct Switched {
    /// The root of the working tree.
    repository: String,
    /// The branch that is current now.
    branch: String,
    /// Its commit.
    commit: String,
    /// The branch that was current before; left out when HEAD was detached.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<String>,
    /// Whether commits to the branch are refused.
    protected: bool,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_checkout",
        "Switch branch",
        "Switch to a local branch. Refuses to overwrite local changes; takes no commits, tags or files.",
        Effect::Adds,
        Price::PerCall("git.switch"),
    )
    .idempotent()
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Switched>, Refusal> {
    let switched = bounded(&call, move || switch(&server, &request)).await?;
    call.decide(
        "switched",
        format!("to {}", switched.branch),
        json!({
            "repository": switched.repository,
            "branch": switched.branch,
            "previous": switched.previous,
            "commit": switched.commit,
        }),
    );
    Ok(Answer::new(switched))
}

fn switch(server: &Git, request: &Request) -> Result<Switched, Refusal> {
    let name = BranchName::parse(&request.branch_name)?;
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let git = &repository.git;
    let full = name.full();
    let unknown = || {
        Refusal::refused(
            "unknown_branch",
            format!("there is no local branch {} with a commit", quoted(name.as_str())),
            "create it with git_create_branch first",
        )
    };
    let lock = ChangeLock::acquire(git)?;
    branch_tip(git, &full)?.ok_or_else(unknown)?;
    refuse_circle(git, &full)?;
    if let Some(operation) = repository.operation() {
        return Err(operation_in_progress(operation));
    }
    // The index is written last: better to find a lock before the files have changed.
    if fs::symlink_metadata(git.path().join("index.lock")).is_ok() {
        return Err(index_locked());
    }
    if let Some(worktree) = checked_out_elsewhere(git, &full) {
        return Err(Refusal::refused(
            "branch_checked_out",
            format!("{} is checked out in another worktree, {}", quoted(name.as_str()), quoted(&worktree)),
            "work there, or create a branch of your own with git_create_branch",
        ));
    }

    // HEAD and the branch are held from before the files change until HEAD has moved, so that the files are those
    // of the branch afterwards.
    let head = Head::resolve(git)?;
    let mut locked = begin(git, &["HEAD", &full], &["index"], &lock)?;
    if Head::resolve(git)? != head {
        return Err(branch_moved(name.as_str()));
    }
    // Under the lock of the branch once more.
    refuse_circle(git, &full)?;
    let commit = branch_tip(git, &full)?.ok_or_else(unknown)?;
    let (previous, current) = match &head {
        Head::Branch { chain, .. } => (chain.first().map(|first| short(first)), chain.first() == Some(&full)),
        Head::Detached(_) => (None, false),
    };
    if !current {
        let tree =
            |id: git2::Oid| git.find_commit(id).and_then(|commit| commit.tree()).map_err(failed("read the branch"));
        let from = head.commit().map(tree).transpose()?;
        let mut index = git.index().map_err(failed("read the index"))?;
        index.read(true).map_err(failed("read the index"))?;
        let changes = files::changes(git, from.as_ref(), &tree(commit)?)?;
        files::check(git, &repository.worktree, &index, &changes)?;
        let switch = Switch::begin(git, head.commit(), commit, Some(&full), &lock)?;
        if let Err(refusal) = files::apply(git, &repository.worktree, &mut index, &changes, Strangers::Stop) {
            // Where this fails too, the note stays and the next change tries again.
            let _ = switch.undo(git, &locked.announced);
            return Err(refusal);
        }
        let signature = server.signature(git).ok();
        let from = previous.clone().unwrap_or_else(|| head.commit().map_or_else(String::new, |id| id.to_string()));
        let log = format!("checkout: moving from {from} to {name}");
        let moved = locked
            .transaction
            .set_symbolic_target("HEAD", &full, signature.as_ref(), &log)
            .and_then(|()| locked.transaction.commit());
        if let Err(error) = moved {
            let _ = switch.undo(git, &locked.announced);
            return Err(failed("move HEAD")(error));
        }
        // HEAD has arrived: a note that stays behind is seen to be out of date.
        let _ = switch.end(git);
    }
    let protected = match Head::resolve(git)? {
        Head::Branch { branch, .. } => server.protected.protects(branch.name()),
        Head::Detached(_) => return Err(branch_moved(name.as_str())),
    };
    Ok(Switched {
        repository: repository.shown(),
        branch: name.to_string(),
        commit: commit.to_string(),
        previous,
        protected,
    })
}

/// Returns the name of another worktree whose HEAD is at `full_name`.
pub(super) fn checked_out_elsewhere(git: &Repository, full_name: &str) -> Option<String> {
    let common = git.commondir();
    let linked = fs::read_dir(common.join("worktrees")).into_iter().flatten().flatten().take(WORKTREES_MAX);
    let all = linked.map(|entry| entry.path()).chain([common.to_owned()]);
    let expected = format!("ref: {full_name}");
    all.filter(|folder| fs::canonicalize(folder).ok() != fs::canonicalize(git.path()).ok())
        .find(|folder| is_file_with(&folder.join("HEAD"), &expected))
        .map(|folder| folder.file_name().map_or_else(String::new, |name| shown(name.as_encoded_bytes())))
}

/// Returns the name of a worktree, this one too, whose HEAD is at `full_name`.
pub(super) fn checked_out_anywhere(git: &Repository, full_name: &str) -> Option<String> {
    let here = is_file_with(&git.path().join("HEAD"), &format!("ref: {full_name}"));
    if here { Some("here".to_owned()) } else { checked_out_elsewhere(git, full_name) }
}

fn is_file_with(path: &Path, expected: &str) -> bool {
    // Not every HEAD need be a file of forty bytes, if somebody wants it to be something else.
    let size = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file).map_or(0, |metadata| metadata.len());
    let plausible = (1..=4096).contains(&size);
    plausible && fs::read_to_string(path).is_ok_and(|text| text.trim_end() == expected)
}

fn short(full_name: &str) -> String {
    full_name.strip_prefix("refs/heads/").unwrap_or(full_name).to_owned()
}
