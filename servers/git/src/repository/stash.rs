//! Local changes, put away as commits.
//!
//! Git keeps one list of stashes per repository, in the log of one ref, where each is named by its place: with several
//! agents at work, `stash@{0}` is whatever somebody put away last. Here each has a ref of its own, named by its commit,
//! which is made and removed by compare-and-swap and says whose it is. The commits have git's own form, so that a person
//! can `git stash apply` them by id.

use git2::{Commit, Delta, Index, IndexEntry, Oid, Repository, Status, StatusOptions, Tree};
use schemars::JsonSchema;
use serde::Serialize;
use tollgate_shared::identity::Identity;
use tollgate_shared::refusal::Refusal;

use super::OpenRepository;
use super::advance::refuse_unready;
use super::files::{self, Strangers};
use super::head::Head;
use super::lock::ChangeLock;
use super::logged::rfc3339;
use super::merge::{conflicts, options};
use super::paths::{cut, os_path, shown};
use super::refs::{begin, branch_moved};
use super::remote::point;
use crate::Git;
use crate::branch_name::quoted;
use crate::commit_message::{CommitMessage, one_line};
use crate::git_error::{failed, index_locked};
use crate::tools::add::{Skip, fingerprint, stage_file};
use crate::worktree_file::blank_entry;

/// Where stashes are.
pub const STASH_PREFIX: &str = "refs/tollgate/stash/";

/// How many stashes a repository has at most: more are forgotten ones.
const STASHES_MAX: usize = 200;

/// How many changed files one stash takes: as many as one call stages.
const FILES_MAX: usize = 10_000;

/// Longest word on what a stash is.
const MESSAGE_BYTES_MAX: usize = 500;

/// The fewest digits that name a stash.
const DIGITS_MIN: usize = 7;

/// Local changes that were put away.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Stash {
    /// Names it in further calls.
    pub id: String,
    /// What it is.
    pub message: String,
    /// Who put it away.
    pub agent: String,
    /// Whether that was you: only then it can be popped or dropped.
    pub mine: bool,
    /// The worktree that it is from; `.` is the repository's first one.
    pub worktree: String,
    /// Whether that is this one.
    pub here: bool,
    /// The commit that it starts from.
    pub base: String,
    /// When it was put away.
    pub at: String,
    #[serde(skip)]
    oid: Oid,
    /// The receipt of the call: ids of receipts sort by time, also within a second.
    #[serde(skip)]
    receipt: String,
}

impl Stash {
    /// Returns the full name of its ref.
    #[must_use]
    pub fn ref_name(&self) -> String {
        format!("{STASH_PREFIX}{}", self.oid)
    }

    fn read(git: &Repository, commit: &Commit<'_>, identity: &Identity) -> Option<Self> {
        // As git has it: what it starts from, what was staged, and what git did not know.
        if !(2..=3).contains(&commit.parent_count()) {
            return None;
        }
        let text = String::from_utf8_lossy(commit.message_bytes()).into_owned();
        // The last of each, which only this server writes.
        let trailer =
            |key: &str| text.lines().rev().find_map(|line| line.strip_prefix(key)).map(|it| it.trim().to_owned());
        let agent = trailer("Agent:").unwrap_or_default();
        let worktree = trailer("Worktree:").unwrap_or_default();
        Some(Self {
            id: commit.id().to_string(),
            message: cut(text.lines().next().unwrap_or_default(), MESSAGE_BYTES_MAX).to_owned(),
            mine: agent == one_line(&identity.agent.name),
            here: worktree == worktree_name(git),
            agent,
            worktree,
            base: commit.parent_id(0).ok()?.to_string(),
            at: rfc3339(commit.time()),
            oid: commit.id(),
            receipt: trailer("Tollgate-Receipt:").unwrap_or_default(),
        })
    }
}

/// Returns the stashes of a repository, the newest first.
///
/// # Errors
///
/// When the refs cannot be read.
pub fn all(git: &Repository, identity: &Identity) -> Result<Vec<Stash>, Refusal> {
    let mut all = Vec::new();
    let names = git.references_glob(&format!("{STASH_PREFIX}*")).map_err(failed("list the stashes"))?;
    for reference in names.take(STASHES_MAX * 2) {
        let reference = reference.map_err(failed("list the stashes"))?;
        // What somebody put there by hand under another name is none.
        let Some(oid) = reference.target() else { continue };
        if reference.name_bytes() != format!("{STASH_PREFIX}{oid}").as_bytes() {
            continue;
        }
        all.extend(git.find_commit(oid).ok().and_then(|commit| Stash::read(git, &commit, identity)));
    }
    all.sort_by_key(|stash: &Stash| (std::cmp::Reverse(stash.receipt.clone()), stash.id.clone()));
    Ok(all)
}

/// Returns the stash that `wanted` names, at least by its first seven digits; the caller's newest here when nothing does.
///
/// # Errors
///
/// `unknown_stash`.
pub fn find(git: &Repository, wanted: Option<&str>, identity: &Identity) -> Result<Stash, Refusal> {
    let all = all(git, identity)?;
    let unknown =
        |message: String| Refusal::refused("unknown_stash", message, "`list` shows the stashes and their ids");
    let Some(wanted) = wanted else {
        let own = all.into_iter().find(|stash| stash.mine && stash.here);
        return own.ok_or_else(|| unknown("you have put nothing away in this worktree".to_owned()));
    };
    let mut named = all.into_iter().filter(|stash| wanted.len() >= DIGITS_MIN && stash.id.starts_with(wanted));
    match (named.next(), named.next()) {
        (Some(stash), None) => Ok(stash),
        (Some(_), Some(_)) => Err(unknown(format!("{} names several stashes", quoted(wanted)))),
        (None, _) => Err(unknown(format!("{} names no stash", quoted(wanted)))),
    }
}

/// Puts the local changes of `repository` away: files and index are HEAD's afterwards.
///
/// The stash is there before the first file changes: whoever is killed in between loses nothing.
///
/// # Errors
///
/// `nothing_to_stash`, `cannot_stage`, `conflicted`, `too_many_stashes`, `files_changed`.
pub fn push(
    server: &Git,
    repository: &OpenRepository,
    message: Option<&str>,
    untracked: bool,
    (identity, receipt): (&Identity, tollgate_shared::ids::EntryId),
    lock: &ChangeLock,
) -> Result<Stash, Refusal> {
    let git = &repository.git;
    refuse_unready(repository)?;
    if all(git, identity)?.len() >= STASHES_MAX {
        return Err(Refusal::refused(
            "too_many_stashes",
            format!("the repository has {STASHES_MAX} stashes"),
            "pop or drop some of yours; `list` shows them",
        ));
    }
    let head = Head::resolve(git)?;
    let base = head.commit().ok_or_else(|| {
        Refusal::refused("no_commits", "the current branch has no commit yet", "make the first one with git_commit")
    })?;
    let base = git.find_commit(base).map_err(failed("read HEAD"))?;
    let base_tree = base.tree().map_err(failed("read HEAD"))?;
    let mut index = git.index().map_err(failed("read the index"))?;
    index.read(true).map_err(failed("read the index"))?;
    if index.has_conflicts() {
        return Err(Refusal::refused(
            "conflicted",
            "there are unresolved conflicts",
            "resolve them in the files, then stage those with git_add",
        ));
    }
    let read_index = fingerprint(&index);
    let staged = index.write_tree().and_then(|id| git.find_tree(id)).map_err(failed("write what is staged"))?;
    let (files, unknown) = local_changes(repository, &staged, untracked)?;
    if staged.id() == base_tree.id() && files.id() == base_tree.id() && unknown.is_none() {
        return Err(Refusal::refused(
            "nothing_to_stash",
            "nothing has changed",
            "git_status shows what has; `include_untracked` takes new files too",
        ));
    }
    let whole = match &unknown {
        Some(unknown) => joined(git, &files, unknown)?,
        None => files.clone(),
    };
    // Everything that could refuse did: now the commits.
    let text = stash_message(git, &head, message)?.signed_off(identity, receipt);
    let signature = server.signature(git)?;
    let commit = |text: &str, tree: &Tree<'_>, parents: &[&Commit<'_>]| {
        let made = git.commit(None, &signature, &signature, text, tree, parents);
        made.and_then(|id| git.find_commit(id)).map_err(failed("write the stash"))
    };
    let staged = commit("what was staged\n", &staged, &[&base])?;
    let unknown = unknown.map(|tree| commit("what git did not know\n", &tree, &[])).transpose()?;
    let parents: Vec<&Commit<'_>> = [&base, &staged].into_iter().chain(&unknown).collect();
    let stash = commit(&text, &files, &parents)?;
    let stash = Stash::read(git, &stash, identity).ok_or_else(index_locked)?;
    {
        let full = stash.ref_name();
        let mut locked = begin(git, &["HEAD", &full], &[], lock)?;
        if Head::resolve(git)? != head {
            return Err(branch_moved("HEAD"));
        }
        if fingerprint(&index) != read_index {
            return Err(index_locked());
        }
        locked.transaction.set_target(&full, stash.oid, None, "stash").map_err(failed("write the stash"))?;
        locked.transaction.commit().map_err(failed("write the stash"))?;
    }
    let changes = files::changes(git, Some(&whole), &base_tree)?;
    for change in files::staged(git, Some(&base_tree), &index)? {
        set_index(&mut index, change.path(), version_in(&base_tree, change.path()))?;
    }
    let _announced = lock.announce(git, &["index"])?;
    files::apply(git, &repository.worktree, &mut index, &changes, Strangers::Stop).map_err(|refusal| Refusal {
        hint: format!("everything is in the stash {}; git_status shows what was not reset", stash.id),
        ..refusal
    })?;
    Ok(stash)
}

/// Brings the changes of `stash` back into the files, and what was staged into the index where HEAD still has the same content.
///
/// # Errors
///
/// `merge_conflicts`, `would_overwrite`; then nothing was changed.
pub fn apply(repository: &OpenRepository, stash: &Stash, lock: &ChangeLock) -> Result<(), Refusal> {
    let git = &repository.git;
    refuse_unready(repository)?;
    let read = failed("read the stash");
    let commit = git.find_commit(stash.oid).map_err(&read)?;
    let tree = |number: usize| commit.parent(number).and_then(|parent| parent.tree()).map_err(&read);
    let (base, staged, files) = (tree(0)?, tree(1)?, commit.tree().map_err(&read)?);
    let unknown = if commit.parent_count() > 2 { Some(tree(2)?) } else { None };
    let head = Head::resolve(git)?;
    let ours = head.commit().ok_or_else(|| {
        Refusal::refused("no_commits", "the current branch has no commit yet", "make the first one with git_commit")
    })?;
    let ours = git.find_commit(ours).and_then(|commit| commit.tree()).map_err(failed("read HEAD"))?;
    let mut merged = git.merge_trees(&base, &ours, &files, Some(&options())).map_err(failed("merge the stash"))?;
    files::refuse_deep(&merged)?;
    if merged.has_conflicts() {
        let (listed, total) = conflicts(git, &merged)?;
        return Err(Refusal::refused(
            "merge_conflicts",
            format!("{total} files have changed since, where the stash changes them"),
            "nothing was changed and the stash is kept; apply it on the commit that it starts from",
        )
        .with_detail("conflicts", listed)
        .with_detail("conflicts_total", total));
    }
    let target = merged.write_tree_to(git).and_then(|id| git.find_tree(id)).map_err(failed("merge the stash"))?;
    let whole = match &unknown {
        Some(unknown) => joined(git, &target, unknown)?,
        None => target,
    };
    let changes = files::changes(git, Some(&ours), &whole)?;
    let as_staged = if base.id() == ours.id() { files::changes(git, Some(&ours), &staged)? } else { Vec::new() };
    let mut index = git.index().map_err(failed("read the index"))?;
    index.read(true).map_err(failed("read the index"))?;
    files::check(git, &repository.worktree, &index, &changes)?;
    let only_staged: Vec<_> = as_staged
        .iter()
        .filter(|staged| !changes.iter().any(|change| change.path() == staged.path()))
        .cloned()
        .collect();
    files::check(git, &repository.worktree, &index, &only_staged)?;
    let _announced = lock.announce(git, &["index"])?;
    files::apply(git, &repository.worktree, &mut index, &changes, Strangers::Stop)?;
    for change in &changes {
        let path = change.path();
        let version = if as_staged.iter().any(|staged| staged.path() == path) {
            version_in(&staged, path)
        } else if version_in(&files, path).is_some() && version_in(&ours, path).is_none() && base.id() != ours.id() {
            // A new file stays known to git, as git itself has it.
            version_in(&files, path)
        } else {
            version_in(&ours, path)
        };
        set_index(&mut index, path, version)?;
    }
    for change in &only_staged {
        set_index(&mut index, change.path(), version_in(&staged, change.path()))?;
    }
    index.write().map_err(failed("write the index"))
}

/// Removes `stash`, if it is still there.
///
/// # Errors
///
/// `not_your_stash`, `branch_moved`.
pub fn remove(git: &Repository, stash: &Stash, lock: &ChangeLock) -> Result<(), Refusal> {
    refuse_foreign(stash)?;
    point(git, &stash.ref_name(), Some(stash.oid), None, "stash: dropped", lock)
}

/// Refuses a stash that another agent has put away.
///
/// # Errors
///
/// `not_your_stash`.
pub fn refuse_foreign(stash: &Stash) -> Result<(), Refusal> {
    if stash.mine {
        return Ok(());
    }
    Err(Refusal::refused(
        "not_your_stash",
        format!("the stash was put away by {}", quoted(&stash.agent)),
        "`apply` brings a copy of it back; only that agent, or a human, removes it",
    ))
}

/// Returns the files as they are, and those that git does not know, as trees.
fn local_changes<'git>(
    repository: &'git OpenRepository,
    staged: &Tree<'_>,
    untracked: bool,
) -> Result<(Tree<'git>, Option<Tree<'git>>), Refusal> {
    let git = &repository.git;
    let mut files = Index::new().map_err(failed("put changes away"))?;
    files.read_tree(staged).map_err(failed("put changes away"))?;
    let mut unknown = Index::new().map_err(failed("put changes away"))?;
    let mut options = StatusOptions::new();
    options.include_untracked(untracked).recurse_untracked_dirs(true).exclude_submodules(true);
    let statuses = git.statuses(Some(&mut options)).map_err(failed("compare the working tree"))?;
    if statuses.len() > FILES_MAX {
        return Err(Refusal::refused(
            "too_many_files",
            format!("{} files have changed; one stash takes at most {FILES_MAX}", statuses.len()),
            "commit them instead, or add to .gitignore what is not to be kept",
        ));
    }
    for entry in statuses.iter() {
        let (path, status) = (entry.path_bytes(), entry.status());
        if status.is_wt_new() {
            // A repository of its own stays where it is.
            if let Err(Skip(reason)) = stage_file(repository, &mut unknown, path)?
                && !path.ends_with(b"/")
            {
                return Err(cannot_stash(path, &reason));
            }
        } else if status.intersects(Status::WT_MODIFIED | Status::WT_DELETED | Status::WT_TYPECHANGE)
            && let Err(Skip(reason)) = stage_file(repository, &mut files, path)?
        {
            return Err(cannot_stash(path, &reason));
        }
    }
    let write = |index: &mut Index| index.write_tree_to(git).and_then(|id| git.find_tree(id));
    let files = write(&mut files).map_err(failed("put changes away"))?;
    let unknown = (!unknown.is_empty()).then(|| write(&mut unknown)).transpose().map_err(failed("put changes away"))?;
    Ok((files, unknown))
}

fn cannot_stash(path: &[u8], reason: &str) -> Refusal {
    Refusal::refused("cannot_stage", format!("{} {reason}", quoted(&shown(path))), "commit or remove it first")
}

/// Returns `tree` with the files of `more`, of which it has none.
fn joined<'git>(git: &'git Repository, tree: &Tree<'_>, more: &Tree<'_>) -> Result<Tree<'git>, Refusal> {
    let doing = failed("join two trees");
    let (mut all, mut further) = (Index::new().map_err(&doing)?, Index::new().map_err(&doing)?);
    all.read_tree(tree).map_err(&doing)?;
    further.read_tree(more).map_err(&doing)?;
    for entry in further.iter() {
        if let Some(known) = all.get_path(os_path(&entry.path), 0) {
            if known.id == entry.id {
                continue;
            }
            return Err(Refusal::refused(
                "would_overwrite",
                format!("the branch has a file {} of its own", quoted(&shown(&entry.path))),
                "nothing was changed and the stash is kept; apply it on the commit that it starts from",
            ));
        }
        all.add(&entry).map_err(&doing)?;
    }
    all.write_tree_to(git).and_then(|id| git.find_tree(id)).map_err(&doing)
}

fn version_in(tree: &Tree<'_>, path: &[u8]) -> Option<IndexEntry> {
    let entry = tree.get_path(os_path(path)).ok()?;
    let mode = u32::from_ne_bytes(entry.filemode().to_ne_bytes());
    Some(blank_entry(path, entry.id(), mode))
}

fn set_index(index: &mut Index, path: &[u8], version: Option<IndexEntry>) -> Result<(), Refusal> {
    let known = index.get_path(os_path(path), 0);
    match version {
        // What is there already also knows how the file looked.
        Some(version) if known.as_ref().is_some_and(|known| known.id == version.id && known.mode == version.mode) => {
            Ok(())
        }
        Some(version) => {
            index.remove_path(os_path(path)).and_then(|()| index.add(&version)).map_err(failed("change the index"))
        }
        None => index.remove_path(os_path(path)).map_err(failed("change the index")),
    }
}

fn stash_message(git: &Repository, head: &Head, message: Option<&str>) -> Result<CommitMessage, Refusal> {
    let message = message.unwrap_or("work in progress");
    if message.len() > MESSAGE_BYTES_MAX || message.chars().any(char::is_control) {
        return Err(Refusal::refused(
            "invalid_message",
            format!("the message of a stash is one line of at most {MESSAGE_BYTES_MAX} bytes"),
            "say in a few words what it is",
        ));
    }
    let branch = match head {
        Head::Branch { branch, .. } => branch.name(),
        Head::Detached(_) => "(no branch)",
    };
    CommitMessage::parse(&format!("On {branch}: {message}\n\nWorktree: {}", worktree_name(git)))
}

/// Returns the name of the worktree that `git` was opened for; `.` for the repository's first one.
fn worktree_name(git: &Repository) -> String {
    if !git.is_worktree() {
        return ".".to_owned();
    }
    git.path().file_name().map_or_else(String::new, |name| one_line(&shown(name.as_encoded_bytes())))
}

/// Returns how many files `stash` changes.
#[must_use]
pub fn files_changed(git: &Repository, stash: &Stash) -> usize {
    let count = || {
        let commit = git.find_commit(stash.oid)?;
        let (base, files) = (commit.parent(0)?.tree()?, commit.tree()?);
        let changed = git.diff_tree_to_tree(Some(&base), Some(&files), None)?;
        let tracked = changed.deltas().filter(|delta| delta.status() != Delta::Unmodified).count();
        let unknown = match commit.parent(2) {
            Ok(unknown) => git.diff_tree_to_tree(None, Some(&unknown.tree()?), None)?.deltas().len(),
            Err(_) => 0,
        };
        Ok::<_, git2::Error>(tracked + unknown)
    };
    count().unwrap_or_default()
}
