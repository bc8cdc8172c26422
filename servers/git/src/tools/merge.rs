//! `git_merge`: another branch into the current one.

use std::sync::Arc;

use git2::{Commit, Index, Oid, RepositoryState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Git;
use crate::branch_name::quoted;
use crate::commit_message::CommitMessage;
use crate::git_error::failed;
use crate::protect::WritableBranch;
use crate::repository::OpenRepository;
use crate::repository::advance::{advance_with_files, refuse_unready};
use crate::repository::files::{self, Strangers};
use crate::repository::gate::Gate;
use crate::repository::head::Head;
use crate::repository::lock::ChangeLock;
use crate::repository::merge::{Attempt, Conflict, attempt, conflicted_tree, conflicts, put_conflicts};
use crate::repository::refs::{begin, branch_moved};
use crate::repository::revision::Revision;
use crate::repository::switch::{Switch, begin_merge};
use crate::repository::write_commit::write_commit;
use crate::watch::bounded;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// Branch, tag or commit.
    source: Option<String>,
    /// `auto` (default), `ff_only`, `no_ff` or `squash`.
    mode: Option<Mode>,
    /// Default: what is merged.
    message: Option<String>,
    /// Leave conflicts in the files, to be resolved.
    keep_conflicts: Option<bool>,
    /// Instead, give up a merge with conflicts.
    abort: Option<bool>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Auto,
    FfOnly,
    NoFf,
    Squash,
}

/// What came of a merge.
#[derive(Serialize, JsonSchema)]
pub(super) struct Merged {
    /// The root of the working tree.
    pub(super) repository: String,
    /// The current branch.
    pub(super) branch: String,
    /// `up_to_date`, `fast_forward`, `merge`, `squash`, `conflicts` or `aborted`.
    pub(super) result: &'static str,
    /// The commit of the branch before.
    pub(super) previous: String,
    /// The commit of the branch now.
    pub(super) commit: String,
    /// The commit that was merged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source_commit: Option<String>,
    /// Whether the new commit is signed; left out when none was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signed: Option<bool>,
    /// Ralph's verdict in the ledger that opened a protected branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) verdict: Option<String>,
    /// What is to be resolved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) conflicts: Vec<Conflict>,
}

/// What is merged, and how.
pub(super) struct Wish<'text> {
    /// As the caller or git names it.
    pub(super) source: &'text str,
    /// The commit.
    pub(super) theirs: Oid,
    mode: Mode,
    message: Option<CommitMessage>,
    keep_conflicts: bool,
}

impl<'text> Wish<'text> {
    /// Merges as git does by default.
    pub(super) fn plain(source: &'text str, theirs: Oid, ff_only: bool) -> Self {
        let mode = if ff_only { Mode::FfOnly } else { Mode::Auto };
        Self { source, theirs, mode, message: None, keep_conflicts: false }
    }
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_merge",
        "Merge",
        "Merge another branch into the current one. Refuses protected branches, and conflicts unless kept.",
        Effect::Adds,
        Price::PerCall("git.merge"),
    )
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Merged>, Refusal> {
    let working = call.clone();
    let merged = bounded(&call, move || serve(&server, &request, &working)).await?;
    merged.decide(&call);
    Ok(Answer::new(merged))
}

impl Merged {
    /// Records what was done.
    pub(super) fn decide(&self, call: &Call) {
        let action = match self.result {
            "up_to_date" => return,
            "conflicts" => "merge_begun",
            "aborted" => "merge_aborted",
            _ => "merged",
        };
        call.decide(
            action,
            format!("{} into {}: {}", self.source_commit.as_deref().unwrap_or("nothing"), self.branch, self.result),
            json!({
                "repository": self.repository,
                "branch": self.branch,
                "old": self.previous,
                "new": self.commit,
                "source_commit": self.source_commit,
                "result": self.result,
                "verdict": self.verdict,
            }),
        );
    }
}

fn serve(server: &Git, request: &Request, call: &Call) -> Result<Merged, Refusal> {
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    if request.abort == Some(true) {
        if request.source.is_some() {
            return Err(Refusal::invalid_arguments("`abort` takes no `source`", "give one of them"));
        }
        let lock = ChangeLock::acquire(&repository.git)?;
        return abort(server, &repository, &lock);
    }
    let source = request
        .source
        .as_deref()
        .ok_or_else(|| Refusal::invalid_arguments("`source` is missing", "name the branch, tag or commit to merge"))?;
    let revision = Revision::parse(source)?;
    let message = request.message.as_deref().map(CommitMessage::parse).transpose()?;
    let lock = ChangeLock::acquire(&repository.git)?;
    let wish = Wish {
        source,
        theirs: revision.commit(&repository.git)?.id(),
        mode: request.mode.unwrap_or_default(),
        message,
        keep_conflicts: request.keep_conflicts.unwrap_or_default(),
    };
    merge(server, &repository, &wish, call, &lock)
}

/// Merges into the branch that HEAD leads to.
///
/// # Errors
///
/// `protected_branch`, `merge_conflicts`, `not_fast_forward` and what stands in the way of moving the branch.
pub(super) fn merge(
    server: &Git,
    repository: &OpenRepository,
    wish: &Wish<'_>,
    call: &Call,
    lock: &ChangeLock,
) -> Result<Merged, Refusal> {
    let git = &repository.git;
    let head = Head::resolve(git)?;
    let gate = Gate::of_head(server, git, &head)?;
    refuse_unready(repository)?;
    let name = gate.branch().name();
    let ours = head.commit().ok_or_else(no_commits)?;
    let commit = |id| git.find_commit(id).map_err(failed("read a commit"));
    let (ours, theirs) = (commit(ours)?, commit(wish.theirs)?);
    let done = |result, new: Oid| Merged {
        repository: repository.shown(),
        branch: name.to_owned(),
        result,
        previous: ours.id().to_string(),
        commit: new.to_string(),
        source_commit: Some(theirs.id().to_string()),
        signed: None,
        verdict: None,
        conflicts: Vec::new(),
    };
    let permit = |tree: Oid| gate.permit(server, git, tree, ours.tree_id(), call);
    let log = |kind: &str| format!("merge {}: {kind}", wish.source);
    let (tree, fast) = match attempt(git, &ours, &theirs)? {
        Attempt::UpToDate => return Ok(done("up_to_date", ours.id())),
        Attempt::FastForward if matches!(wish.mode, Mode::Auto | Mode::FfOnly) => {
            let (branch, verdict) = permit(theirs.tree_id())?;
            advance_with_files(server, repository, &branch, &head, theirs.id(), &log("Fast-forward"), lock)?;
            return Ok(Merged { verdict, ..done("fast_forward", theirs.id()) });
        }
        Attempt::FastForward => (theirs.tree_id(), true),
        Attempt::Clean(tree) => (tree, false),
        Attempt::Conflicts(index) => {
            if wish.mode == Mode::FfOnly {
                return Err(not_fast_forward(name));
            }
            let (listed, total) = conflicts(git, &index)?;
            if !wish.keep_conflicts || wish.mode == Mode::Squash {
                return Err(Refusal::refused(
                    "merge_conflicts",
                    format!("{total} files have changed differently on both sides"),
                    "nothing was changed; merge with `keep_conflicts` to resolve them here, or make the two sides agree",
                )
                .with_detail("conflicts", listed)
                .with_detail("conflicts_total", total));
            }
            // What is committed then is not what a verdict can be about now.
            keep(server, repository, &gate.open()?, &head, &ours, wish, &index, lock)?;
            return Ok(Merged { conflicts: listed, ..done("conflicts", ours.id()) });
        }
    };
    if wish.mode == Mode::FfOnly && !fast {
        return Err(not_fast_forward(name));
    }
    let (branch, verdict) = permit(tree)?;
    let squash = wish.mode == Mode::Squash;
    let message = match &wish.message {
        Some(message) => message.clone(),
        None => CommitMessage::parse(&subject(wish, name))?,
    };
    let text = message.signed_off(call.identity(), call.receipt_id());
    let parents: Vec<&Commit<'_>> = if squash { vec![&ours] } else { vec![&ours, &theirs] };
    let tree = git.find_tree(tree).map_err(failed("read the merged tree"))?;
    let new = write_commit(server, git, &text, &tree, &parents)?;
    let (kind, result) = if squash { ("Squash", "squash") } else { ("Merge made by Tollgate", "merge") };
    advance_with_files(server, repository, &branch, &head, new.id, &log(kind), lock)?;
    Ok(Merged { signed: Some(new.signed), verdict, ..done(result, new.id) })
}

fn subject(wish: &Wish<'_>, into: &str) -> String {
    let verb = if wish.mode == Mode::Squash { "Squash" } else { "Merge" };
    format!("{verb} {} into {into}", wish.source)
}

/// Leaves the conflicts of `merged` in the files and the index, and a merge to be finished with git_commit.
#[expect(clippy::too_many_arguments, reason = "all of one merge")]
fn keep(
    server: &Git,
    repository: &OpenRepository,
    branch: &WritableBranch,
    head: &Head,
    ours: &Commit<'_>,
    wish: &Wish<'_>,
    merged: &Index,
    lock: &ChangeLock,
) -> Result<(), Refusal> {
    let git = &repository.git;
    let name = branch.branch().name();
    let locked = begin(git, &["HEAD", branch.branch().full()], &["index"], lock)?;
    if Head::resolve(git)? != *head {
        return Err(branch_moved(name));
    }
    let before = ours.tree().map_err(failed("read HEAD"))?;
    let mut index = git.index().map_err(failed("read the index"))?;
    index.read(true).map_err(failed("read the index"))?;
    // Giving the merge up takes back whatever is staged then.
    if !files::staged(git, Some(&before), &index)?.is_empty() {
        return Err(Refusal::refused(
            "would_overwrite",
            "something is staged, and a merge with conflicts needs the index for itself",
            "commit it with git_commit, or unstage it with git_reset, first",
        ));
    }
    let tree = conflicted_tree(git, merged, name, wish.source)?;
    let tree = git.find_tree(tree).map_err(failed("read the conflicted tree"))?;
    let changes = files::changes(git, Some(&before), &tree)?;
    files::check(git, &repository.worktree, &index, &changes)?;
    // No branch ever leads to this commit: it says what to take back when this is interrupted.
    let signature = server.signature(git)?;
    let conflicted = git
        .commit(None, &signature, &signature, "files of a merge with conflicts", &tree, &[ours])
        .map_err(failed("note the conflicted files"))?;
    let switch = Switch::begin(git, head.commit(), conflicted, None, lock)?;
    let begun = files::apply(git, &repository.worktree, &mut index, &changes, Strangers::Stop).and_then(|()| {
        put_conflicts(&mut index, merged)?;
        index.write().map_err(failed("write the index"))?;
        begin_merge(git, wish.theirs, &subject(wish, name))
    });
    if let Err(refusal) = begun {
        let _ = switch.undo(git, &locked.announced);
        return Err(refusal);
    }
    let _ = switch.end(git);
    Ok(())
}

/// Takes a merge with conflicts back: files and index are HEAD's again.
fn abort(server: &Git, repository: &OpenRepository, lock: &ChangeLock) -> Result<Merged, Refusal> {
    let git = &repository.git;
    if git.state() != RepositoryState::Merge {
        return Err(Refusal::refused("nothing_to_abort", "no merge is in progress", "git_status shows what is"));
    }
    let head = Head::resolve(git)?;
    let branch = server.permit_head(git, &head)?;
    let ours = head.commit().ok_or_else(no_commits)?;
    let _locked = begin(git, &["HEAD", branch.branch().full()], &["index"], lock)?;
    if Head::resolve(git)? != head {
        return Err(branch_moved(branch.branch().name()));
    }
    let tree = git.find_commit(ours).and_then(|commit| commit.tree()).map_err(failed("read HEAD"))?;
    let mut index = git.index().map_err(failed("read the index"))?;
    index.read(true).map_err(failed("read the index"))?;
    let changes = files::staged(git, Some(&tree), &index)?;
    files::restore(git, &repository.worktree, &mut index, &changes)?;
    git.cleanup_state().map_err(failed("end the merge"))?;
    Ok(Merged {
        repository: repository.shown(),
        branch: branch.branch().name().to_owned(),
        result: "aborted",
        previous: ours.to_string(),
        commit: ours.to_string(),
        source_commit: None,
        signed: None,
        verdict: None,
        conflicts: Vec::new(),
    })
}

fn not_fast_forward(branch: &str) -> Refusal {
    Refusal::refused(
        "not_fast_forward",
        format!("{} has commits of its own", quoted(branch)),
        "merge with another `mode`",
    )
}

pub(super) fn no_commits() -> Refusal {
    Refusal::refused("no_commits", "the current branch has no commit yet", "make the first one with git_commit")
}
