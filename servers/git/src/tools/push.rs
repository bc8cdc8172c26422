//! `git_push`: one branch to the branch of the same name at a remote.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use super::fetch::REMOTE_DEFAULT;
use crate::Git;
use crate::branch_name::{BranchName, quoted};
use crate::git_error::failed;
use crate::repository::OpenRepository;
use crate::repository::ancestry::is_before;
use crate::repository::head::Head;
use crate::repository::lock::ChangeLock;
use crate::repository::refs::branch_tip;
use crate::repository::remote::{Remote, point};
use crate::watch::bounded;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// Default: `origin`.
    remote: Option<String>,
    /// A local branch; default: the current one.
    branch: Option<String>,
    /// Replace commits that git_fetch has seen.
    force_with_lease: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
struct Pushed {
    /// The root of the working tree.
    repository: String,
    /// The remote.
    remote: String,
    /// The branch, of this name on both sides.
    branch: String,
    /// Its commit at the remote before; left out when it is new there.
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<String>,
    /// Its commit at the remote now.
    new: String,
    /// Whether commits of the remote were replaced.
    forced: bool,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_push",
        "Push",
        "Push a branch to the one of the same name at a remote. Refuses protected branches.",
        Effect::Replaces,
        Price::PerCall("git.push"),
    )
    .idempotent()
    .open_world()
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Pushed>, Refusal> {
    let working = call.clone();
    let pushed = bounded(&call, move || push(&server, &request, &working)).await?;
    call.decide(
        "pushed",
        format!("{} to {} at {}", pushed.new, pushed.branch, pushed.remote),
        json!({
            "repository": pushed.repository,
            "remote": pushed.remote,
            "branch": pushed.branch,
            "old": pushed.old,
            "new": pushed.new,
            "forced": pushed.forced,
        }),
    );
    Ok(Answer::new(pushed))
}

fn push(server: &Git, request: &Request, call: &Call) -> Result<Pushed, Refusal> {
    let named = request.branch.as_deref().map(BranchName::parse).transpose()?;
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let git = &repository.git;
    // The branch that is pushed and the one that is written are of one name, whatever the configuration says. The
    // name in question is the resolved one: an alias of `main` is `main`.
    let name = match (&named, Head::resolve(git)?) {
        (Some(name), _) => name.clone(),
        (None, Head::Branch { branch, .. }) => BranchName::parse(branch.name())?,
        (None, Head::Detached(_)) => {
            return Err(Refusal::refused("detached_head", "HEAD is on no branch", "name one with `branch`"));
        }
    };
    let branch = server.protected.permit_new(&name)?;
    let tip = branch_tip(git, branch.branch().full())?.ok_or_else(|| {
        Refusal::refused(
            "unknown_branch",
            format!("there is no local branch {} with a commit", quoted(name.as_str())),
            "git_branch lists the branches",
        )
    })?;
    let remote_name = request.remote.as_deref().unwrap_or(REMOTE_DEFAULT);
    let remote = Remote::open(server, &repository, remote_name, call)?;
    let old = remote.tip(name.as_str())?;
    let done = |forced| Pushed {
        repository: repository.shown(),
        remote: remote_name.to_owned(),
        branch: name.to_string(),
        old: old.map(|id| id.to_string()),
        new: tip.to_string(),
        forced,
    };
    let tracking = remote.tracking(name.as_str());
    let seen = branch_tip(git, &tracking)?;
    let mut forced = false;
    if let Some(old) = old.filter(|old| *old != tip) {
        let known = git.find_commit(old).is_ok();
        let behind = known && is_before(git, old, tip).map_err(failed("compare with the remote"))?;
        forced = !behind;
        if forced && !(request.force_with_lease == Some(true) && seen == Some(old)) {
            return Err(Refusal::refused(
                "not_fast_forward",
                format!("{} of the remote has commits that the local branch lacks", quoted(name.as_str())),
                "git_pull first; or look at them with git_fetch and give `force_with_lease` to replace them",
            ));
        }
    }
    if old != Some(tip) {
        remote.push(git, &branch, old, tip, "push")?;
    }
    if seen != Some(tip) {
        let lock = ChangeLock::acquire(git)?;
        point(git, &tracking, seen, Some(tip), "update by push", &lock)?;
    }
    Ok(done(forced))
}
