//! `git_commit`: what is staged, onto the branch that HEAD leads to.

use std::path::PathBuf;
use std::sync::Arc;

use git2::{Commit, Index, Oid, Repository, RepositoryState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Git;
use crate::commit_message::CommitMessage;
use crate::git_error::failed;
use crate::protect::WritableBranch;
use crate::repository::files::refuse_deep;
use crate::repository::head::Head;
use crate::repository::hooks::{Hooks, Snapshot, staged_changed};
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
    /// Of the pre-commit and commit-msg hooks: `none`, `ran`, `not_allowed`, or `hooks_path_ignored`: only `core.hooksPath` has some.
    hooks: &'static str,
    /// Which ran.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hooks_ran: Vec<&'static str>,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_commit",
        "Commit",
        "Commit what is staged to the current branch. Refuses protected branches and a detached HEAD. Adds who committed.",
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
            "hooks": committed.hooks,
        }),
    );
    Ok(Answer::new(committed))
}

fn commit(server: &Git, request: &Request, call: &Call) -> Result<Committed, Refusal> {
    let mut message = CommitMessage::parse(&request.message)?;
    let mut ready = Ready::prepare(server, request)?;
    let hooks = Hooks::find(server, &ready.repository)?;
    if let Hooks::Run(found) = &hooks {
        let snapshot = Snapshot::take(&ready.repository, ready.tree)?;
        let Ready { repository, lock, seen, .. } = ready;
        // Hooks take their time, and others have changes to make.
        drop(lock);
        message = snapshot.run(server, &repository, found, message, call)?;
        ready = Ready::prepare(server, request)?;
        if ready.seen != seen {
            return Err(staged_changed());
        }
    }
    ready.commit(server, &message, &hooks, call)
}

/// What a commit is made of, looked at under the lock.
struct Ready {
    repository: OpenRepository,
    lock: ChangeLock,
    branch: WritableBranch,
    seen: Seen,
    tree: Oid,
    files_changed: usize,
}

/// What must not change while hooks look at it.
#[derive(PartialEq, Eq)]
struct Seen {
    worktree: PathBuf,
    head: Head,
    tree: Oid,
    /// What a merge in progress brings in.
    merged: Vec<Oid>,
}

impl Ready {
    fn prepare(server: &Git, request: &Request) -> Result<Self, Refusal> {
        let mut repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
        let lock = ChangeLock::acquire(&repository.git)?;
        let head = Head::resolve(&repository.git)?;
        let branch = server.permit_head(&repository.git, &head)?;
        let merged = merged_heads(&mut repository)?;
        let git = &repository.git;
        server.signature(git)?;
        let mut index = git.index().map_err(failed("read the index"))?;
        index.read(true).map_err(failed("read the index"))?;
        if index.has_conflicts() {
            return Err(conflicted(&index));
        }
        refuse_deep(&index)?;
        let tree = index.write_tree().map_err(failed("write the tree"))?;
        let files_changed = changed(git, head.commit(), tree, !merged.is_empty())?;
        let seen = Seen { worktree: repository.worktree.clone(), head, tree, merged };
        Ok(Self { repository, lock, branch, seen, tree, files_changed })
    }

    fn commit(self, server: &Git, message: &CommitMessage, hooks: &Hooks, call: &Call) -> Result<Committed, Refusal> {
        let git = &self.repository.git;
        let signature = server.signature(git)?;
        let tree = git.find_tree(self.tree).map_err(failed("read the tree"))?;
        let ids = self.seen.head.commit().into_iter().chain(self.seen.merged.iter().copied());
        let parents: Vec<Commit<'_>> =
            ids.map(|id| git.find_commit(id)).collect::<Result<_, _>>().map_err(failed("read the parents"))?;
        let text = message.signed_off(call.identity(), call.receipt_id());
        let parent_references: Vec<&Commit<'_>> = parents.iter().collect();
        let new = write_commit(server, git, &text, &tree, &parent_references)?;
        let kind = match parents.len() {
            0 => "commit (initial)",
            1 => "commit",
            _ => "commit (merge)",
        };
        let log = format!("{kind}: {}", message.summary());
        advance_head(git, &self.branch, &self.seen.head, new.id, &signature, &log, &self.lock)?;
        if git.state() != RepositoryState::Clean {
            // The commit stands; what stays behind is shown by git_status as an operation in progress.
            let _ = git.cleanup_state();
        }
        Ok(Committed {
            repository: self.repository.shown(),
            branch: self.branch.branch().name().to_owned(),
            commit: new.id.to_string(),
            signed: new.signed,
            hooks: hooks.word(),
            hooks_ran: hooks.ran(),
            parents: parents.iter().map(|parent| parent.id().to_string()).collect(),
            summary: message.summary().to_owned(),
            files_changed: self.files_changed,
        })
    }
}

/// Returns how many files of `tree` differ from those of the commit `before`; some do, unless `is_merge`.
fn changed(git: &Repository, before: Option<Oid>, tree: Oid, is_merge: bool) -> Result<usize, Refusal> {
    let tree = git.find_tree(tree).map_err(failed("read the tree"))?;
    let before = before.map(|id| git.find_commit(id).and_then(|commit| commit.tree())).transpose();
    let before = before.map_err(failed("read HEAD"))?;
    let unchanged = before.as_ref().map_or_else(|| tree.is_empty(), |before| before.id() == tree.id());
    if unchanged && !is_merge {
        return Err(Refusal::refused(
            "nothing_to_commit",
            "nothing is staged",
            "stage changes with git_add; git_status shows what has changed",
        ));
    }
    let difference = git.diff_tree_to_tree(before.as_ref(), Some(&tree), None).map_err(failed("compare with HEAD"))?;
    Ok(difference.deltas().len())
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
