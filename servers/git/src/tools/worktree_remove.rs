//! `git_worktree_remove`: a working tree that is no longer needed; its branch stays.

use std::fs;
use std::sync::Arc;

use git2::StatusOptions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Git;
use crate::branch_name::quoted;
use crate::git_error::failed;
use crate::repository::OpenRepository;
use crate::repository::lock::ChangeLock;
use crate::repository::worktrees::{Linked, linked, remove};
use crate::watch::{self, bounded};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// As git_worktree_list has it.
    name: Option<String>,
    /// All without a folder.
    prune: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
struct Removed {
    /// The names of the working trees that are gone.
    removed: Vec<String>,
    /// Whether there were no folders any more.
    was_missing: bool,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_worktree_remove",
        "Remove worktree",
        "Remove a linked working tree unless it has changes; its branch stays.",
        Effect::Replaces,
        Price::PerCall("git.branch_delete"),
    )
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Removed>, Refusal> {
    let removed = bounded(&call, move || serve(&server, &request)).await?;
    for name in &removed.removed {
        call.decide("worktree_removed", name.clone(), json!({ "worktree": name }));
    }
    Ok(Answer::new(removed))
}

fn serve(server: &Git, request: &Request) -> Result<Removed, Refusal> {
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let name = match (&request.name, request.prune) {
        (Some(name), None | Some(false)) => name,
        (None, Some(true)) => return prune(server, &repository),
        _ => {
            return Err(Refusal::invalid_arguments(
                "give either `name` or `prune`",
                "git_worktree_list lists the names",
            ));
        }
    };
    let _lock = ChangeLock::acquire(&repository.git)?;
    let found = linked(repository.git.commondir()).into_iter().find(|linked| linked.name == *name);
    let found = found.ok_or_else(|| {
        Refusal::refused(
            "unknown_worktree",
            format!("there is no linked worktree {}", quoted(name)),
            "git_worktree_list lists them",
        )
    })?;
    if found.locked {
        return Err(Refusal::refused(
            "worktree_in_use",
            format!("{} is locked", quoted(&found.name)),
            "have whoever locked it unlock it",
        ));
    }
    if is_gone(server, &found) {
        remove(&found, None)?;
        return Ok(Removed { removed: vec![found.name], was_missing: true });
    }
    let path = found.folder.to_str().unwrap_or("/");
    let opened = OpenRepository::open(&server.roots, Some(path))?;
    // The folder says the same: it is no other repository that the name leads to.
    if fs::canonicalize(opened.git.path()).ok() != fs::canonicalize(&found.admin).ok() {
        return Err(server.roots.outside(path));
    }
    let mut options = StatusOptions::new();
    options.include_untracked(true).include_ignored(false).exclude_submodules(true);
    let changed = opened.git.statuses(Some(&mut options)).map_err(failed("compare the working tree"))?.len();
    if changed > 0 || opened.operation().is_some() {
        return Err(Refusal::refused(
            "worktree_in_use",
            format!("{} has {changed} changed or untracked files, or something in progress", quoted(&found.name)),
            "commit them there first, or have a human remove it",
        ));
    }
    remove(&found, Some(&opened))?;
    Ok(Removed { removed: vec![found.name], was_missing: false })
}

/// Forgets every working tree whose folder is gone, unless somebody locked it to keep it.
fn prune(server: &Git, repository: &OpenRepository) -> Result<Removed, Refusal> {
    let _lock = ChangeLock::acquire(&repository.git)?;
    watch::writes()?;
    let mut removed = Vec::new();
    for found in linked(repository.git.commondir()) {
        if !found.locked && is_gone(server, &found) {
            remove(&found, None)?;
            removed.push(found.name);
        }
    }
    Ok(Removed { removed, was_missing: true })
}

/// Returns whether the folder is not there any more; of what is outside, not even that is told.
fn is_gone(server: &Git, found: &Linked) -> bool {
    let is_missing =
        fs::symlink_metadata(&found.folder).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    is_missing && found.folder.is_absolute() && found.folder.parent().is_some_and(|parent| server.roots.contain(parent))
}
