//! `git_reset`: what is staged back to what HEAD has; no file changes.

use std::path::Path;
use std::sync::Arc;

use git2::{Index, Tree};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use super::add::fingerprint;
use crate::Git;
use crate::git_error::{failed, index_locked};
use crate::repository::files;
use crate::repository::head::Head;
use crate::repository::lock::ChangeLock;
use crate::repository::{OpenRepository, operation_in_progress};
use crate::watch::bounded;
use crate::worktree_path::WorktreePath;

/// How many paths one call names at most.
const PATHS_MAX: usize = 1000;

/// How often it starts again because another git program wrote the index meanwhile.
const TRIES_MAX: u32 = 3;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// Only these files or folders; default: everything.
    files: Option<Vec<String>>,
}

#[derive(Serialize, JsonSchema)]
struct Reset {
    /// The root of the working tree.
    repository: String,
    /// How many files were staged and are no more.
    unstaged: usize,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_reset",
        "Unstage",
        "Unstage changes. Files and branches stay as they are.",
        Effect::Replaces,
        Price::PerCall("git.stage"),
    )
    .idempotent()
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Reset>, Refusal> {
    let reset = bounded(&call, move || reset(&server, &request)).await?;
    call.decide(
        "unstaged",
        format!("{} files", reset.unstaged),
        json!({ "repository": reset.repository, "files": reset.unstaged }),
    );
    Ok(Answer::new(reset))
}

fn reset(server: &Git, request: &Request) -> Result<Reset, Refusal> {
    let files = request.files.as_deref();
    if files.is_some_and(|files| files.is_empty() || files.len() > PATHS_MAX) {
        return Err(Refusal::invalid_arguments(
            format!("`files` is empty or has more than {PATHS_MAX} paths"),
            "leave it out to unstage everything",
        ));
    }
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let git = &repository.git;
    let parse = |path: &String| WorktreePath::parse(path, &repository.worktree);
    let paths = files.map(|files| files.iter().map(parse).collect::<Result<Vec<_>, _>>()).transpose()?;
    let lock = ChangeLock::acquire(git)?;
    // The sides of a conflict would be lost, and with them what is to be resolved.
    if let Some(operation) = repository.operation() {
        return Err(operation_in_progress(operation));
    }
    let tree = |id| git.find_commit(id).and_then(|commit| commit.tree()).map_err(failed("read HEAD"));
    let head = Head::resolve(git)?.commit().map(tree).transpose()?;
    let mut index = git.index().map_err(failed("read the index"))?;
    for _ in 0..TRIES_MAX {
        let before = fingerprint(&index);
        index.read(true).map_err(failed("read the index"))?;
        let staged = files::staged(git, head.as_ref(), &index)?;
        let staged: Vec<_> = staged.iter().filter(|change| is_named(change.path(), paths.as_deref())).collect();
        for change in &staged {
            unstage(&mut index, head.as_ref(), change.path())?;
        }
        // libgit2 would write over what another git program staged since the index was read.
        if fingerprint(&index) == before {
            if !staged.is_empty() {
                let _announced = lock.announce(git, &["index"])?;
                index.write().map_err(failed("write the index"))?;
            }
            return Ok(Reset { repository: repository.shown(), unstaged: staged.len() });
        }
    }
    Err(index_locked())
}

fn is_named(path: &[u8], named: Option<&[WorktreePath]>) -> bool {
    let covers = |named: &WorktreePath| {
        let rest = path.strip_prefix(named.as_str().as_bytes());
        named.is_root() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    named.is_none_or(|named| named.iter().any(covers))
}

fn unstage(index: &mut Index, head: Option<&Tree<'_>>, path: &[u8]) -> Result<(), Refusal> {
    let os_path: &Path = crate::repository::paths::os_path(path);
    index.remove_path(os_path).map_err(failed("change the index"))?;
    if let Some(entry) = head.and_then(|head| head.get_path(os_path).ok()) {
        let mode = u32::from_ne_bytes(entry.filemode().to_ne_bytes());
        let entry = crate::worktree_file::blank_entry(path, entry.id(), mode);
        index.add(&entry).map_err(failed("change the index"))?;
    }
    Ok(())
}
