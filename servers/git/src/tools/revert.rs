//! `git_revert`: a commit that takes another one back.

use std::sync::Arc;

use git2::{Commit, MergeOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use super::merge::no_commits;
use crate::Git;
use crate::commit_message::CommitMessage;
use crate::git_error::failed;
use crate::repository::OpenRepository;
use crate::repository::advance::{advance_with_files, refuse_unready};
use crate::repository::files::refuse_deep;
use crate::repository::head::Head;
use crate::repository::lock::ChangeLock;
use crate::repository::merge::{conflicts, options};
use crate::repository::revision::Revision;
use crate::repository::write_commit::write_commit;
use crate::watch::bounded;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// The commit to take back.
    commit: String,
    /// Of a merge: which parent's side stays, from 1.
    mainline: Option<u32>,
    /// Default: which commit it reverts.
    message: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Reverted {
    /// The root of the working tree.
    repository: String,
    /// The branch that moved.
    branch: String,
    /// The commit that was taken back.
    reverted: String,
    /// The commit of the branch before.
    previous: String,
    /// The new commit.
    commit: String,
    /// How many files it changes.
    files_changed: usize,
    /// Whether the new commit is signed.
    signed: bool,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_revert",
        "Revert",
        "Make a commit on the current branch that takes another one back. Refuses protected branches and conflicts.",
        Effect::Adds,
        Price::PerCall("git.commit"),
    )
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Reverted>, Refusal> {
    let working = call.clone();
    let reverted = bounded(&call, move || revert(&server, &request, &working)).await?;
    call.decide(
        "reverted",
        format!("{} on {}", reverted.reverted, reverted.branch),
        json!({
            "repository": reverted.repository,
            "branch": reverted.branch,
            "old": reverted.previous,
            "new": reverted.commit,
            "reverted": reverted.reverted,
        }),
    );
    Ok(Answer::new(reverted))
}

fn revert(server: &Git, request: &Request, call: &Call) -> Result<Reverted, Refusal> {
    let revision = Revision::parse(&request.commit)?;
    let message = request.message.as_deref().map(CommitMessage::parse).transpose()?;
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let git = &repository.git;
    let lock = ChangeLock::acquire(git)?;
    let head = Head::resolve(git)?;
    let branch = server.permit_head(git, &head)?;
    refuse_unready(&repository)?;
    let ours = head.commit().ok_or_else(no_commits)?;
    let ours = git.find_commit(ours).map_err(failed("read HEAD"))?;
    let commit = revision.commit(git)?;
    let mainline = mainline(&commit, request.mainline)?;
    let options: MergeOptions = options();
    let mut index = git.revert_commit(&commit, &ours, mainline, Some(&options)).map_err(failed("revert"))?;
    refuse_deep(&index)?;
    if index.has_conflicts() {
        let (listed, total) = conflicts(git, &index)?;
        return Err(Refusal::refused(
            "merge_conflicts",
            format!("{total} files have changed since, where the commit changed them"),
            "nothing was changed; change the files by hand, then commit",
        )
        .with_detail("conflicts", listed)
        .with_detail("conflicts_total", total));
    }
    let tree = index.write_tree_to(git).map_err(failed("write the tree"))?;
    if tree == ours.tree_id() {
        return Err(Refusal::refused(
            "nothing_to_commit",
            "nothing of what the commit changed is there any more",
            "git_log shows whether it was taken back already",
        ));
    }
    let message = match message {
        Some(message) => message,
        None => default_message(&commit)?,
    };
    let tree = git.find_tree(tree).map_err(failed("read the tree"))?;
    let before = ours.tree().map_err(failed("read HEAD"))?;
    let files_changed =
        git.diff_tree_to_tree(Some(&before), Some(&tree), None).map_err(failed("compare with HEAD"))?.deltas().len();
    let text = message.signed_off(call.identity(), call.receipt_id());
    let new = write_commit(server, git, &text, &tree, &[&ours])?;
    let log = format!("revert: {}", message.summary());
    advance_with_files(server, &repository, &branch, &head, new.id, &log, &lock)?;
    Ok(Reverted {
        repository: repository.shown(),
        branch: branch.branch().name().to_owned(),
        reverted: commit.id().to_string(),
        previous: ours.id().to_string(),
        commit: new.id.to_string(),
        files_changed,
        signed: new.signed,
    })
}

/// Returns which parent of `commit` it is compared with, as libgit2 counts: 0 where there is no choice.
fn mainline(commit: &Commit<'_>, wanted: Option<u32>) -> Result<u32, Refusal> {
    let parents = commit.parent_count();
    match wanted {
        None if parents < 2 => Ok(0),
        None => Err(Refusal::refused(
            "mainline_needed",
            "the commit is a merge: which of its sides is to stay must be said",
            "give `mainline`: 1 takes back what was merged",
        )),
        Some(wanted) if parents > 1 && (1..=parents).contains(&(wanted as usize)) => Ok(wanted),
        Some(_) => Err(Refusal::invalid_arguments(
            format!("`mainline` is not one of the parents of a merge; the commit has {parents}"),
            "leave it out, or give 1 for a merge",
        )),
    }
}

fn default_message(commit: &Commit<'_>) -> Result<CommitMessage, Refusal> {
    let id = commit.id();
    let subject = commit.summary_bytes().map(String::from_utf8_lossy).unwrap_or_default().replace('"', "'");
    CommitMessage::parse(&format!("Revert \"{subject}\"\n\nThis reverts commit {id}."))
        // What the other commit says need not be what a message may say.
        .or_else(|_| CommitMessage::parse(&format!("Revert {id}")))
}
