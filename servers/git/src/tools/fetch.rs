//! `git_fetch`: what a remote has, into the repository.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Git;
use crate::branch_name::BranchName;
use crate::repository::OpenRepository;
use crate::repository::lock::ChangeLock;
use crate::repository::remote::{Moved, Remote};
use crate::watch::bounded;

/// How many refs an answer lists; further ones are only counted.
const LISTED_MAX: usize = 200;

/// The remote that is meant when none is named.
pub(super) const REMOTE_DEFAULT: &str = "origin";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// Default: `origin`.
    remote: Option<String>,
    /// Only this branch; default: all.
    branch: Option<String>,
    /// Forget branches that the remote has no more.
    prune: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
struct Fetched {
    /// The root of the working tree.
    repository: String,
    /// The remote.
    remote: String,
    /// What moved.
    updated: Vec<Updated>,
    /// How many moved; more than `updated` lists when that is cut.
    updated_total: usize,
}

#[derive(Serialize, JsonSchema)]
struct Updated {
    /// Such as `origin/feature`.
    name: String,
    /// Its commit before; left out when it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<String>,
    /// Its commit now; left out when it is forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<String>,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_fetch",
        "Fetch",
        "Fetch branches of a remote into `remote/branch`. Refuses remotes that the operator does not allow.",
        Effect::Adds,
        Price::PerCall("git.read"),
    )
    .idempotent()
    .open_world()
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Fetched>, Refusal> {
    let working = call.clone();
    let fetched = bounded(&call, move || fetch(&server, &request, &working)).await?;
    call.decide(
        "fetched",
        format!("{} branches of {}", fetched.updated_total, fetched.remote),
        json!({ "repository": fetched.repository, "remote": fetched.remote, "updated": fetched.updated_total }),
    );
    Ok(Answer::new(fetched))
}

fn fetch(server: &Git, request: &Request, call: &Call) -> Result<Fetched, Refusal> {
    let branch = request.branch.as_deref().map(BranchName::parse).transpose()?;
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let name = request.remote.as_deref().unwrap_or(REMOTE_DEFAULT);
    let mut remote = Remote::open(server, &repository, name, call)?;
    remote.bring(branch.as_ref().map(BranchName::as_str))?;
    let lock = ChangeLock::acquire(&repository.git)?;
    let prune = request.prune == Some(true) && branch.is_none();
    let moved = remote.fetch(&repository.git, branch.as_ref().map(BranchName::as_str), prune, &lock)?;
    let updated_total = moved.len();
    let updated = |moved: Moved| Updated {
        name: format!("{name}/{}", moved.branch),
        old: moved.old.map(|id| id.to_string()),
        new: moved.new.map(|id| id.to_string()),
    };
    Ok(Fetched {
        repository: repository.shown(),
        remote: name.to_owned(),
        updated: moved.into_iter().take(LISTED_MAX).map(updated).collect(),
        updated_total,
    })
}
