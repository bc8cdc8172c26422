//! `git_worktree_list`: the working trees of a repository.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Git;
use crate::branch_name::BRANCH_PREFIX;
use crate::repository::OpenRepository;
use crate::repository::worktrees::linked;
use crate::watch::bounded;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Worktrees {
    /// Linked ones by name; the main one is not among them.
    worktrees: Vec<Worktree>,
}

#[derive(Serialize, JsonSchema)]
struct Worktree {
    /// Its name in the repository.
    name: String,
    /// Its folder; left out when it is outside the folders that this server may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// Its branch; left out when its HEAD is detached.
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    /// Whether it is the one that was asked.
    current: bool,
    /// Whether its folder is gone: git_worktree_remove tidies up after it.
    missing: bool,
    /// Whether a person asked for it to be kept.
    locked: bool,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_worktree_list",
        "List worktrees",
        "List the linked working trees and their branches.",
        Effect::Reads,
        Price::PerCall("git.read"),
    )
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Worktrees>, Refusal> {
    bounded(&call, move || list(&server, &request)).await.map(Answer::new)
}

fn list(server: &Git, request: &Request) -> Result<Worktrees, Refusal> {
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let is_same = |a: &Path, b: &Path| fs::canonicalize(a).is_ok_and(|a| fs::canonicalize(b).is_ok_and(|b| a == b));
    let worktrees = linked(repository.git.commondir()).into_iter().map(|linked| {
        let inside = server.roots.contain(&linked.folder);
        // Of what is outside, not even whether it is there is told.
        let missing = !inside && linked.folder.parent().is_some_and(|parent| server.roots.contain(parent));
        Worktree {
            path: (inside || missing).then(|| linked.folder.display().to_string()),
            branch: linked
                .head
                .strip_prefix("ref: ")
                .and_then(|name| name.strip_prefix(BRANCH_PREFIX))
                .map(str::to_owned),
            current: is_same(&linked.admin, repository.git.path()),
            missing,
            locked: linked.locked,
            name: linked.name,
        }
    });
    Ok(Worktrees { worktrees: worktrees.collect() })
}
