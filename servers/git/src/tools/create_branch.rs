//! `git_create_branch`: a new branch, without switching to it.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Git;
use crate::branch_name::BranchName;
use crate::git_error::failed;
use crate::repository::OpenRepository;
use crate::repository::head::Head;
use crate::repository::lock::ChangeLock;
use crate::repository::refs::create_branch;
use crate::repository::revision::Revision;
use crate::watch::bounded;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// Such as `feature/search`.
    branch_name: String,
    /// Branch, tag or commit to start from; default: HEAD.
    base_branch: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Created {
    /// The root of the working tree.
    repository: String,
    /// The new branch.
    branch: String,
    /// The commit it is at.
    commit: String,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_create_branch",
        "Create a branch",
        "Create a branch without switching to it. Refuses protected names.",
        Effect::Adds,
        Price::PerCall("git.branch_create"),
    )
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Created>, Refusal> {
    let created = bounded(&call, move || create(&server, &request)).await?;
    call.decide(
        "branch_created",
        format!("{} at {}", created.branch, created.commit),
        json!({ "repository": created.repository, "branch": created.branch, "new": created.commit }),
    );
    Ok(Answer::new(created))
}

fn create(server: &Git, request: &Request) -> Result<Created, Refusal> {
    let name = BranchName::parse(&request.branch_name)?;
    let base = request.base_branch.as_deref().map(Revision::parse).transpose()?;
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let branch = server.protected.permit_new(&name)?;
    let lock = ChangeLock::acquire(&repository.git)?;
    let (commit, from) = match &base {
        Some(revision) => (revision.commit(&repository.git)?.id(), revision.as_str()),
        None => {
            let id = Head::resolve(&repository.git)?.commit().ok_or_else(no_commits)?;
            (repository.git.find_commit(id).map_err(failed("read HEAD"))?.id(), "HEAD")
        }
    };
    create_branch(&repository.git, &branch, commit, &format!("branch: Created from {from}"), &lock)?;
    Ok(Created { repository: repository.shown(), branch: name.to_string(), commit: commit.to_string() })
}

fn no_commits() -> Refusal {
    Refusal::refused(
        "no_commits",
        "the repository has no commit yet to start from",
        "make the first commit with git_commit",
    )
}
