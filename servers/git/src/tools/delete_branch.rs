//! `git_delete_branch`: a local branch that is no longer needed.

use std::sync::Arc;

use git2::{Oid, Repository};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use super::checkout::checked_out_elsewhere;
use crate::Git;
use crate::branch_name::{BranchName, quoted};
use crate::git_error::failed;
use crate::protect::ResolvedBranch;
use crate::repository::OpenRepository;
use crate::repository::ancestry::is_before;
use crate::repository::head::Head;
use crate::repository::lock::ChangeLock;
use crate::repository::refs::{branch_tip, delete_branch};
use crate::watch::bounded;

/// How many branches are looked at to find one that has the commits.
const BRANCHES_MAX: usize = 1000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// An existing local branch.
    branch_name: String,
    /// Lose commits that no other branch has.
    force: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
struct Deleted {
    /// The root of the working tree.
    repository: String,
    /// The branch that is gone.
    branch: String,
    /// The commit that it was at: git_create_branch with it brings the branch back.
    commit: String,
    /// A branch that has its commits too.
    #[serde(skip_serializing_if = "Option::is_none")]
    merged_into: Option<String>,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_delete_branch",
        "Delete branch",
        "Delete a local branch. Refuses protected ones, those checked out and, without `force`, those with commits of their own.",
        Effect::Replaces,
        Price::PerCall("git.branch_delete"),
    )
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Deleted>, Refusal> {
    let deleted = bounded(&call, move || delete(&server, &request)).await?;
    call.decide(
        "branch_deleted",
        format!("{} at {}", deleted.branch, deleted.commit),
        json!({
            "repository": deleted.repository,
            "branch": deleted.branch,
            "old": deleted.commit,
            "merged_into": deleted.merged_into,
        }),
    );
    Ok(Answer::new(deleted))
}

fn delete(server: &Git, request: &Request) -> Result<Deleted, Refusal> {
    let name = BranchName::parse(&request.branch_name)?;
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let git = &repository.git;
    let full = name.full();
    // What goes is the file of this name, whatever a symbolic ref in it leads to.
    let branch =
        server.protected.permit(ResolvedBranch::at_the_end_of_a_chain(&full).ok_or_else(|| unknown(&name))?)?;
    let lock = ChangeLock::acquire(git)?;
    let tip = branch_tip(git, &full)?.ok_or_else(|| unknown(&name))?;
    let here = match Head::resolve(git)? {
        Head::Branch { chain, .. } => chain.contains(&full),
        Head::Detached(_) => false,
    };
    let elsewhere = checked_out_elsewhere(git, &full);
    if here || elsewhere.is_some() {
        let place = elsewhere.map_or_else(|| "here".to_owned(), |worktree| format!("in {}", quoted(&worktree)));
        return Err(Refusal::refused(
            "branch_checked_out",
            format!("{} is checked out {place}", quoted(name.as_str())),
            "switch to another branch there first",
        ));
    }
    let merged_into = with_commit(git, &full, tip)?;
    if merged_into.is_none() && request.force != Some(true) {
        return Err(Refusal::refused(
            "not_merged",
            format!("{} has commits that no other branch has", quoted(name.as_str())),
            "merge it first, or give `force` when the work is to be thrown away",
        )
        .with_detail("commit", tip.to_string()));
    }
    delete_branch(git, &branch, tip, &lock)?;
    Ok(Deleted { repository: repository.shown(), branch: name.to_string(), commit: tip.to_string(), merged_into })
}

fn unknown(name: &BranchName) -> Refusal {
    Refusal::refused(
        "unknown_branch",
        format!("there is no local branch {} with a commit", quoted(name.as_str())),
        "git_branch lists the branches",
    )
}

/// Returns a branch other than `full_name`, local or of a remote, that has the commit `tip`.
fn with_commit(git: &Repository, full_name: &str, tip: Oid) -> Result<Option<String>, Refusal> {
    for branch in git.branches(None).map_err(failed("list the branches"))?.take(BRANCHES_MAX) {
        let (branch, _) = branch.map_err(failed("list the branches"))?;
        let reference = branch.get();
        // An alias of the branch goes nowhere without it.
        let is_other = reference.name_bytes() != full_name.as_bytes() && reference.target().is_some();
        let Some(other) = reference.target().filter(|_| is_other) else { continue };
        // What the commit-graph file says is believed only where the commits say the same.
        let has =
            || git.graph_descendant_of(other, tip).unwrap_or(false) && is_before(git, tip, other).unwrap_or(false);
        if other == tip || has() {
            return Ok(Some(reference.shorthand().unwrap_or_default().to_owned()));
        }
    }
    Ok(None)
}
