//! `git_pull`: a branch of a remote into the current one.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use super::fetch::REMOTE_DEFAULT;
use super::merge::{Merged, Wish, merge};
use crate::Git;
use crate::branch_name::BranchName;
use crate::repository::OpenRepository;
use crate::repository::gate::Gate;
use crate::repository::head::Head;
use crate::repository::lock::ChangeLock;
use crate::repository::refs::branch_tip;
use crate::repository::remote::{Remote, unknown_branch};
use crate::watch::bounded;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// Default: `origin`.
    remote: Option<String>,
    /// The remote's branch; default: of the current one's name.
    branch: Option<String>,
    /// Refuse to make a merge commit.
    ff_only: Option<bool>,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_pull",
        "Pull",
        "Fetch a branch of a remote and merge it into the current one.",
        Effect::Adds,
        Price::PerCall("git.pull"),
    )
    .open_world()
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Merged>, Refusal> {
    let working = call.clone();
    let merged = bounded(&call, move || pull(&server, &request, &working)).await?;
    merged.decide(&call);
    Ok(Answer::new(merged))
}

fn pull(server: &Git, request: &Request, call: &Call) -> Result<Merged, Refusal> {
    let branch = request.branch.as_deref().map(BranchName::parse).transpose()?;
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let git = &repository.git;
    // Before anything is fetched: what cannot be merged need not be.
    let current = Gate::of_head(server, git, &Head::resolve(git)?)?;
    let branch = branch.map_or_else(|| current.branch().name().to_owned(), |branch| branch.to_string());
    let mut remote = Remote::open(server, &repository, request.remote.as_deref().unwrap_or(REMOTE_DEFAULT), call)?;
    remote.bring(Some(&branch))?;
    let lock = ChangeLock::acquire(git)?;
    remote.fetch(git, Some(&branch), false, &lock)?;
    // What was fetched: the remote's branch may have moved on since.
    let theirs = branch_tip(git, &remote.tracking(&branch))?.ok_or_else(|| unknown_branch(&remote.name, &branch))?;
    let source = format!("{}/{branch}", remote.name);
    merge(server, &repository, &Wish::plain(&source, theirs, request.ff_only == Some(true)), call, &lock)
}
