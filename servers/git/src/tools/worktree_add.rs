//! `git_worktree_add`: a further working tree with a branch of its own.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use super::checkout::checked_out_anywhere;
use crate::Git;
use crate::branch_name::{BranchName, quoted};
use crate::repository::OpenRepository;
use crate::repository::head::Head;
use crate::repository::lock::ChangeLock;
use crate::repository::refs::{branch_tip, create_branch};
use crate::repository::revision::Revision;
use crate::repository::worktrees::{self, Place};
use crate::watch::bounded;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// The folder to make.
    path: String,
    /// Its branch; made when missing.
    branch_name: String,
    /// Where a new branch starts; default: HEAD.
    base_branch: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Added {
    /// The root of the new working tree: the `repo_path` of further calls.
    worktree: String,
    /// Its branch.
    branch: String,
    /// Its commit.
    commit: String,
    /// Whether the branch is new.
    created: bool,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_worktree_add",
        "Add worktree",
        "Make a further working tree, on a branch that is checked out nowhere else.",
        Effect::Adds,
        Price::PerCall("git.branch_create"),
    )
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Added>, Refusal> {
    let added = bounded(&call, move || add(&server, &request)).await?;
    call.decide(
        "worktree_added",
        format!("{} on {}", added.worktree, added.branch),
        json!({ "repository": added.worktree, "branch": added.branch, "new": added.commit, "created": added.created }),
    );
    Ok(Answer::new(added))
}

fn add(server: &Git, request: &Request) -> Result<Added, Refusal> {
    let name = BranchName::parse(&request.branch_name)?;
    let base = Revision::parse(request.base_branch.as_deref().unwrap_or("HEAD"))?;
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let git = &repository.git;
    let place = Place::parse(&request.path, &server.roots)?;
    let lock = ChangeLock::acquire(git)?;
    let full = name.full();
    let existing = branch_tip(git, &full)?;
    let commit = match existing {
        Some(tip) => {
            if request.base_branch.is_some() {
                return Err(Refusal::refused(
                    "branch_exists",
                    format!("there is already a branch {}", quoted(name.as_str())),
                    "leave `base_branch` out, or choose another name",
                ));
            }
            if let Some(worktree) = checked_out_anywhere(git, &full) {
                return Err(Refusal::refused(
                    "branch_checked_out",
                    format!("{} is checked out already, {}", quoted(name.as_str()), quoted(&worktree)),
                    "name a new branch",
                ));
            }
            tip
        }
        None => {
            let branch = server.protected.permit_new(&name)?;
            if Head::resolve(git)?.commit().is_none() && request.base_branch.is_none() {
                return Err(Refusal::refused("no_commits", "there is nothing to start from", "commit first"));
            }
            let commit = base.commit(git)?.id();
            create_branch(git, &branch, commit, &format!("branch: Created from {}", base.as_str()), &lock)?;
            commit
        }
    };
    let worktree = worktrees::add(git, &server.roots, &place, &full, commit)?;
    Ok(Added {
        worktree: worktree.display().to_string(),
        branch: name.to_string(),
        commit: commit.to_string(),
        created: existing.is_none(),
    })
}
