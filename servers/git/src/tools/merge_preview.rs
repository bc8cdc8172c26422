//! `git_merge_preview`: what a merge would come to.

use std::sync::Arc;

use git2::Commit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Git;
use crate::git_error::failed;
use crate::patience::Patience;
use crate::repository::OpenRepository;
use crate::repository::difference::{ChangedFile, Difference, Wanted, write_to_memory};
use crate::repository::merge::{Attempt, Conflict, attempt, conflicts};
use crate::repository::revision::Revision;
use crate::watch::bounded;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// Branch, tag or commit.
    source: String,
    /// Branch, tag or commit to merge into; default: HEAD.
    target: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Preview {
    /// The root of the working tree.
    repository: String,
    /// `up_to_date`, `fast_forward`, `merge` or `conflicts`.
    result: &'static str,
    /// The commit that would be merged.
    source_commit: String,
    /// The commit that it would be merged into.
    target_commit: String,
    /// Commits that the target lacks.
    commits: usize,
    /// What would change in the target; empty when there are conflicts.
    files: Vec<ChangedFile>,
    /// How many files would change.
    files_total: usize,
    /// What does not fit together.
    conflicts: Vec<Conflict>,
    /// How many files do not.
    conflicts_total: usize,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_merge_preview",
        "Preview merge",
        "Show what a merge would change and which files would conflict, without touching anything.",
        Effect::Reads,
        Price::PerCall("git.read"),
    )
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Preview>, Refusal> {
    let patience = Patience::of(&call);
    bounded(&call, move || preview(&server, &request, &patience)).await.map(Answer::new)
}

fn preview(server: &Git, request: &Request, patience: &Patience) -> Result<Preview, Refusal> {
    let source = Revision::parse(&request.source)?;
    let target = Revision::parse(request.target.as_deref().unwrap_or("HEAD"))?;
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let git = &repository.git;
    write_to_memory(git)?;
    let (theirs, ours) = (source.commit(git)?, target.commit(git)?);
    let (_, commits) = git.graph_ahead_behind(ours.id(), theirs.id()).map_err(failed("count commits"))?;
    let mut preview = Preview {
        repository: repository.shown(),
        result: "up_to_date",
        source_commit: theirs.id().to_string(),
        target_commit: ours.id().to_string(),
        commits,
        files: Vec::new(),
        files_total: 0,
        conflicts: Vec::new(),
        conflicts_total: 0,
    };
    let tree = |commit: &Commit<'_>| commit.tree_id();
    let merged = match attempt(git, &ours, &theirs)? {
        Attempt::UpToDate => return Ok(preview),
        Attempt::FastForward => {
            preview.result = "fast_forward";
            tree(&theirs)
        }
        Attempt::Clean(merged) => {
            preview.result = "merge";
            merged
        }
        Attempt::Conflicts(index) => {
            preview.result = "conflicts";
            (preview.conflicts, preview.conflicts_total) = conflicts(git, &index)?;
            return Ok(preview);
        }
    };
    let tree = |id| git.find_tree(id).map_err(failed("read a tree"));
    let wanted = Wanted { bytes_max: Some(0), ..Wanted::default() };
    let diff = git
        .diff_tree_to_tree(Some(&tree(ours.tree_id())?), Some(&tree(merged)?), Some(&mut wanted.options()))
        .map_err(failed("compare"))?;
    (preview.files, preview.files_total) = Difference::read(&repository, diff, 0, &wanted, patience)?.into_files();
    Ok(preview)
}
