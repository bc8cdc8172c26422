//! `git_commit`: what is staged, onto the branch that HEAD leads to.

use std::sync::Arc;

use git2::{Commit, Index, Oid, RepositoryState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Git;
use crate::commit_message::CommitMessage;
use crate::git_error::failed;
use crate::repository::files::refuse_deep;
use crate::repository::head::Head;
use crate::repository::hooks;
use crate::repository::lock::ChangeLock;
use crate::repository::paths::shown;
use crate::repository::refs::advance_head;
use crate::repository::write_commit::write_commit;
use crate::repository::{OpenRepository, operation_in_progress};
use crate::watch::bounded;

/// How many conflicted paths a refusal names: enough to start with.
const CONFLICTS_SHOWN_MAX: usize = 50;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// A subject; after an empty line, why.
    message: String,
}

#[derive(Serialize, JsonSchema)]
struct Committed {
    /// The root of the working tree.
    repository: String,
    /// The branch that moved.
    branch: String,
    /// The new commit.
    commit: String,
    /// Its parents; none for a first commit.
    parents: Vec<String>,
    /// The first line of its message.
    summary: String,
    /// How many files it changes.
    files_changed: usize,
    /// Whether it is signed, as the user's git configuration says.
    signed: bool,
    /// `none`, or `not_allowed`: the repository has a pre-commit or commit-msg hook, which was not run.
    hooks: &'static str,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_commit",
        "Commit",
        "Commit what is staged to the current branch. Refuses protected branches and a detached HEAD. Adds trailers that say who committed.",
        Effect::Adds,
        Price::PerCall("git.commit"),
    )
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Committed>, Refusal> {
    let working = call.clone();
    let committed = bounded(&call, move || commit(&server, &request, &working)).await?;
    call.decide(
        "committed",
        format!("{} on {}: {}", committed.commit, committed.branch, committed.summary),
        json!({
            "repository": committed.repository,
            "branch": committed.branch,
            "old": committed.parents.first(),
            "new": committed.commit,
        }),
    );
    Ok(Answer::new(committed))
}

fn commit(server: &Git, request: &Request, call: &Call) -> Result<Committed, Refusal> {
    let message = CommitMessage::parse(&request.message)?;
    let mut repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let lock = ChangeLock::acquire(&repository.git)?;
    let head = Head::resolve(&repository.git)?;
    let branch = server.permit_head(&repository.git, &head)?;
    let merged = merged_heads(&mut repository)?;
    let signature = server.signature(&repository.git)?;

    let git = &repository.git;
    let mut index = git.index().map_err(failed("read the index"))?;
    index.read(true).map_err(failed("read the index"))?;
    if index.has_conflicts() {
        return Err(conflicted(&index));
    }
    refuse_deep(&index)?;
    let tree = index.write_tree().and_then(|id| git.find_tree(id)).map_err(failed("write the tree"))?;
    let parents: Vec<Commit<'_>> = head
        .commit()
        .into_iter()
        .chain(merged.iter().copied())
        .map(|id| git.find_commit(id))
        .collect::<Result<_, _>>()
        .map_err(failed("read the parents"))?;
    let before = parents.first().map(Commit::tree).transpose().map_err(failed("read HEAD"))?;
    let unchanged = before.as_ref().map_or_else(|| tree.is_empty(), |before| before.id() == tree.id());
    if unchanged && merged.is_empty() {
        return Err(Refusal::refused(
            "nothing_to_commit",
            "nothing is staged",
            "stage changes with git_add; git_status shows what has changed",
        ));
    }
    let files_changed =
        git.diff_tree_to_tree(before.as_ref(), Some(&tree), None).map_err(failed("compare with HEAD"))?.deltas().len();
    let text = message.signed_off(call.identity(), call.receipt_id());
    let parent_references: Vec<&Commit<'_>> = parents.iter().collect();
    let new = write_commit(server, git, &text, &tree, &parent_references)?;
    let kind = match parents.len() {
        0 => "commit (initial)",
        1 => "commit",
        _ => "commit (merge)",
    };
    advance_head(git, &branch, &head, new.id, &signature, &format!("{kind}: {}", message.summary()), &lock)?;
    if git.state() != RepositoryState::Clean {
        // The commit stands; what stays behind is shown by git_status as an operation in progress.
        let _ = git.cleanup_state();
    }
    Ok(Committed {
        repository: repository.shown(),
        branch: branch.branch().name().to_owned(),
        commit: new.id.to_string(),
        signed: new.signed,
        hooks: hooks::of(server, &repository),
        parents: parents.iter().map(|parent| parent.id().to_string()).collect(),
        summary: message.summary().to_owned(),
        files_changed,
    })
}

/// Returns the commits that a merge in progress brings in; none outside a merge.
fn merged_heads(repository: &mut OpenRepository) -> Result<Vec<Oid>, Refusal> {
    match repository.git.state() {
        // One commit ends each of these, as it does for git itself.
        RepositoryState::Clean | RepositoryState::CherryPick | RepositoryState::Revert => Ok(Vec::new()),
        RepositoryState::Merge => {
            let mut heads = Vec::new();
            repository
                .git
                .mergehead_foreach(|id| {
                    heads.push(*id);
                    true
                })
                .map_err(failed("read the merge in progress"))?;
            Ok(heads)
        }
        _ => Err(operation_in_progress(repository.operation().unwrap_or("git operation"))),
    }
}

fn conflicted(index: &Index) -> Refusal {
    let paths: Vec<String> = index
        .conflicts()
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|conflict| conflict.our.or(conflict.their).or(conflict.ancestor))
        .map(|entry| shown(&entry.path))
        .take(CONFLICTS_SHOWN_MAX)
        .collect();
    Refusal::refused(
        "conflicted",
        format!("there are unresolved conflicts, among them in {}", paths.first().map_or("", String::as_str)),
        "resolve them in the files, then stage those with git_add",
    )
    .with_detail("paths", paths)
}
