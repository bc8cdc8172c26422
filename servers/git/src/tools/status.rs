//! `git_status`: where HEAD is and what has changed.

use std::sync::Arc;

use git2::{BranchType, Repository, Status, StatusEntry, StatusOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Git;
use crate::git_error::failed;
use crate::repository::OpenRepository;
use crate::repository::head::Head;
use crate::repository::paths::{os_path, shown};
use crate::watch::bounded;
use crate::worktree_file::is_left_out;

/// How many paths each list has by default: what a context window holds beside other things.
const LIMIT_DEFAULT: usize = 200;

/// How many paths each list has at most: keeps the answer under 1 MB.
const LIMIT_MAX: usize = 2000;

/// How much text the four lists have at most by default, and for each path that is asked for: hosts cut at about 100 KB,
/// and paths can be long.
const BYTES_DEFAULT: usize = 40_000;
const BYTES_PER_PATH: usize = 200;

/// How many staged files are compared to find renames: the work grows with the square.
const RENAMES_MAX: usize = 400;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// Paths per list; default 200.
    limit: Option<usize>,
}

#[derive(Serialize, JsonSchema)]
struct StatusReport {
    /// The root of the working tree.
    repository: String,
    /// The current branch, symbolic refs followed; left out when HEAD is detached.
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    /// Whether commits to the current branch are refused.
    protected: bool,
    /// Whether HEAD is at a commit instead of a branch.
    detached: bool,
    /// Whether the current branch has no commit yet.
    unborn: bool,
    /// The current commit; left out when there is none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<String>,
    /// The branch that the current one follows, as last fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<Upstream>,
    /// What waits to be finished: `merge`, `rebase`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'static str>,
    /// Whether all four lists are empty.
    clean: bool,
    /// What the next commit will change.
    staged: Vec<Change>,
    /// What has changed and is not staged.
    unstaged: Vec<Change>,
    /// What git does not know; a folder of which git knows nothing ends with `/`.
    untracked: Vec<String>,
    /// What is in conflict.
    conflicted: Vec<String>,
    /// How many there are of each, whatever the limit.
    totals: Totals,
    /// Whether a list is cut.
    truncated: bool,
}

#[derive(Serialize, JsonSchema)]
struct Upstream {
    /// Such as `origin/main`.
    name: String,
    /// Commits that the upstream lacks.
    ahead: usize,
    /// Commits that the branch lacks.
    behind: usize,
}

#[derive(Serialize, JsonSchema)]
struct Change {
    /// Relative to the root; bytes that are not UTF-8 are written `\xNN`.
    path: String,
    /// `added`, `modified`, `deleted`, `renamed` or `typechange`.
    status: &'static str,
    /// The path before a rename.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

#[derive(Default, Serialize, JsonSchema)]
struct Totals {
    staged: usize,
    unstaged: usize,
    untracked: usize,
    conflicted: usize,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_status",
        "Status",
        "Show the current branch, its upstream, and staged, unstaged, untracked and conflicted files.",
        Effect::Reads,
        Price::PerCall("git.read"),
    )
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<StatusReport>, Refusal> {
    bounded(&call, move || status(&server, &request)).await.map(Answer::new)
}

fn status(server: &Git, request: &Request) -> Result<StatusReport, Refusal> {
    let limit = request.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let git = &repository.git;
    let head = Head::resolve(git)?;
    let branch = match &head {
        Head::Branch { branch, .. } => Some(branch.name().to_owned()),
        Head::Detached(_) => None,
    };
    let mut report = StatusReport {
        repository: repository.shown(),
        protected: branch.as_deref().is_some_and(|branch| server.protected.protects(branch)),
        detached: branch.is_none(),
        unborn: head.commit().is_none(),
        head: head.commit().map(|id| id.to_string()),
        upstream: branch.as_deref().and_then(|branch| upstream(git, branch)),
        branch,
        operation: repository.operation(),
        clean: true,
        staged: Vec::new(),
        unstaged: Vec::new(),
        untracked: Vec::new(),
        conflicted: Vec::new(),
        totals: Totals::default(),
        truncated: false,
    };
    let mut options = StatusOptions::new();
    // A submodule is another repository, which may be anywhere.
    options.include_untracked(true).exclude_submodules(true);
    let mut statuses = git.statuses(Some(&mut options)).map_err(failed("compare the working tree"))?;
    let moved =
        |status: Status| statuses.iter().filter(|entry| entry.status().contains(status)).take(RENAMES_MAX + 1).count();
    let (added, deleted) = (moved(Status::INDEX_NEW), moved(Status::INDEX_DELETED));
    if added > 0 && deleted > 0 && added + deleted <= RENAMES_MAX {
        options.renames_head_to_index(true);
        statuses = git.statuses(Some(&mut options)).map_err(failed("compare the working tree"))?;
    }
    let mut room = Room { limit, bytes: BYTES_DEFAULT.max(limit * BYTES_PER_PATH), truncated: false };
    let index = git.index().map_err(failed("read the index"))?;
    for entry in statuses.iter() {
        // What a sparse checkout leaves out is not deleted.
        let left_out = entry.status() == Status::WT_DELETED
            && index.get_path(os_path(entry.path_bytes()), 0).is_some_and(|entry| is_left_out(&entry));
        if !left_out {
            report.add(&entry, &mut room);
        }
    }
    report.truncated = room.truncated;
    let totals = &report.totals;
    report.clean = totals.staged + totals.unstaged + totals.untracked + totals.conflicted == 0;
    Ok(report)
}

impl StatusReport {
    fn add(&mut self, entry: &StatusEntry<'_>, room: &mut Room) {
        let status = entry.status();
        let path = || shown(entry.path_bytes());
        if status.is_conflicted() {
            self.totals.conflicted += 1;
            room.push(&mut self.conflicted, path, String::len);
            return;
        }
        if let Some(kind) = staged_kind(status) {
            self.totals.staged += 1;
            let delta = entry.head_to_index();
            let side = |new: bool| {
                let file = delta.as_ref().map(|delta| if new { delta.new_file() } else { delta.old_file() });
                file.and_then(|file| file.path_bytes()).map(shown)
            };
            let renamed = kind == "renamed";
            let change = || Change {
                path: side(true).unwrap_or_else(path),
                status: kind,
                from: if renamed { side(false) } else { None },
            };
            room.push(&mut self.staged, change, Change::bytes);
        }
        if let Some(kind) = unstaged_kind(status) {
            self.totals.unstaged += 1;
            let delta = entry.index_to_workdir();
            let now = || delta.as_ref().and_then(|delta| delta.new_file().path_bytes()).map_or_else(path, shown);
            room.push(&mut self.unstaged, || Change { path: now(), status: kind, from: None }, Change::bytes);
        }
        if status.is_wt_new() {
            self.totals.untracked += 1;
            room.push(&mut self.untracked, path, String::len);
        }
    }
}

impl Change {
    fn bytes(&self) -> usize {
        self.path.len() + self.from.as_ref().map_or(0, String::len)
    }
}

/// What is left of the answer.
struct Room {
    limit: usize,
    bytes: usize,
    truncated: bool,
}

impl Room {
    /// Adds an item to `list` if there is room for it.
    fn push<T>(&mut self, list: &mut Vec<T>, item: impl FnOnce() -> T, bytes: impl FnOnce(&T) -> usize) {
        if list.len() < self.limit && self.bytes > 0 {
            let item = item();
            self.bytes = self.bytes.saturating_sub(bytes(&item));
            list.push(item);
        } else {
            self.truncated = true;
        }
    }
}

fn staged_kind(status: Status) -> Option<&'static str> {
    if status.is_index_renamed() {
        Some("renamed")
    } else if status.is_index_new() {
        Some("added")
    } else if status.is_index_deleted() {
        Some("deleted")
    } else if status.is_index_typechange() {
        Some("typechange")
    } else if status.is_index_modified() {
        Some("modified")
    } else {
        None
    }
}

fn unstaged_kind(status: Status) -> Option<&'static str> {
    if status.is_wt_deleted() {
        Some("deleted")
    } else if status.is_wt_typechange() {
        Some("typechange")
    } else if status.is_wt_modified() {
        Some("modified")
    } else {
        None
    }
}

fn upstream(git: &Repository, branch: &str) -> Option<Upstream> {
    let local = git.find_branch(branch, BranchType::Local).ok()?;
    let upstream = local.upstream().ok()?;
    let (ahead, behind) = git.graph_ahead_behind(local.get().target()?, upstream.get().target()?).ok()?;
    Some(Upstream { name: shown(upstream.name_bytes().ok()?), ahead, behind })
}
