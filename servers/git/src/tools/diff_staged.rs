//! `git_diff_staged`: the index against HEAD.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Git;
use crate::git_error::failed;
use crate::patience::Patience;
use crate::repository::OpenRepository;
use crate::repository::difference::{Difference, Wanted};
use crate::repository::head::Head;
use crate::watch::bounded;
use crate::worktree_path::WorktreePath;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// Default 3.
    context_lines: Option<u32>,
    /// File or folder.
    path: Option<String>,
    /// Default 50000.
    max_bytes: Option<usize>,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_diff_staged",
        "Diff of staged changes",
        "Show what is staged: what git_commit would commit.",
        Effect::Reads,
        Price::PerCall("git.read"),
    )
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Difference>, Refusal> {
    let patience = Patience::of(&call);
    let difference = bounded(&call, move || difference(&server, &request, &patience)).await?;
    let text = difference.text();
    Ok(Answer::with_text(difference, text))
}

fn difference(server: &Git, request: &Request, patience: &Patience) -> Result<Difference, Refusal> {
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let path = request.path.as_deref().map(|path| WorktreePath::parse(path, &repository.worktree)).transpose()?;
    let wanted = Wanted { context_lines: request.context_lines, path, bytes_max: request.max_bytes, words_max: None };
    let mut options = wanted.options();
    let git = &repository.git;
    let mut index = git.index().map_err(failed("read the index"))?;
    index.read(true).map_err(failed("read the index"))?;
    let tree = |id| git.find_commit(id).and_then(|commit| commit.tree()).map_err(failed("read HEAD"));
    let head = Head::resolve(git)?.commit().map(tree).transpose()?;
    let diff = git.diff_tree_to_index(head.as_ref(), Some(&index), Some(&mut options)).map_err(failed("compare"))?;
    Difference::read(&repository, diff, 0, &wanted, patience)
}
