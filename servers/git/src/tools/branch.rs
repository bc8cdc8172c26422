//! `git_branch`: which branches there are.

use std::sync::Arc;

use git2::{BranchType, Oid, Repository};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Git;
use crate::git_error::failed;
use crate::patience::Patience;
use crate::repository::OpenRepository;
use crate::repository::head::Head;
use crate::repository::paths::{cut, shown};
use crate::repository::revision::Revision;
use crate::watch::bounded;

/// How many branches an answer has by default, and at most.
const LIMIT_DEFAULT: usize = 200;
const LIMIT_MAX: usize = 2000;

/// Longest summary that is shown: a line.
const SUMMARY_BYTES_MAX: usize = 100;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// `local` (default), `remote` or `all`.
    branch_type: Option<Kind>,
    /// With this commit.
    contains: Option<String>,
    /// Without it.
    not_contains: Option<String>,
    /// Branches listed; default 200.
    limit: Option<usize>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Local,
    Remote,
    All,
}

#[derive(Serialize, JsonSchema)]
struct Branches {
    /// The root of the working tree.
    repository: String,
    /// Local ones first, each kind by name.
    branches: Vec<Listed>,
    /// How many there are; more than `branches` has when that is cut.
    total: usize,
    /// Whether the list is cut, or not every branch was looked at.
    truncated: bool,
}

#[derive(Serialize, JsonSchema)]
struct Listed {
    /// Without `refs/heads/` or `refs/remotes/`; bytes that are not UTF-8 are written `\xNN`.
    name: String,
    /// Whether it is a branch of a remote, as last fetched.
    remote: bool,
    /// Whether it is the current one.
    current: bool,
    /// Whether no tool writes it.
    protected: bool,
    /// Its commit.
    commit: String,
    /// The first line of the commit's message.
    summary: String,
    /// The branch that it follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_branch",
        "List branches",
        "List branches, optionally those with or without a commit.",
        Effect::Reads,
        Price::PerCall("git.read"),
    )
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Branches>, Refusal> {
    let patience = Patience::of(&call);
    bounded(&call, move || list(&server, &request, &patience)).await.map(Answer::new)
}

fn list(server: &Git, request: &Request, patience: &Patience) -> Result<Branches, Refusal> {
    let revision = |text: &Option<String>| text.as_deref().map(Revision::parse).transpose();
    let (contains, not_contains) = (revision(&request.contains)?, revision(&request.not_contains)?);
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let git = &repository.git;
    let commit = |revision: Option<Revision>| revision.map(|revision| revision.commit(git)).transpose();
    let (contains, not_contains) = (commit(contains)?, commit(not_contains)?);
    let kind = match request.branch_type.unwrap_or_default() {
        Kind::Local => Some(BranchType::Local),
        Kind::Remote => Some(BranchType::Remote),
        Kind::All => None,
    };
    let current = match Head::resolve(git) {
        Ok(Head::Branch { branch, .. }) => Some(branch.name().to_owned()),
        // A list of branches helps out of a HEAD that cannot be used.
        Ok(Head::Detached(_)) | Err(_) => None,
    };
    let mut found = Vec::new();
    for branch in git.branches(kind).map_err(failed("list the branches"))? {
        let (branch, kind) = branch.map_err(failed("list the branches"))?;
        let Ok(tip) = branch.get().peel_to_commit() else { continue };
        let name = branch.name_bytes().map(shown).map_err(failed("list the branches"))?;
        found.push((kind == BranchType::Remote, name, tip.id()));
    }
    found.sort();
    let limit = request.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
    let mut list = Branches { repository: repository.shown(), branches: Vec::new(), total: 0, truncated: false };
    for (remote, name, tip) in found {
        if patience.is_over() && list.total > 0 {
            list.truncated = true;
            break;
        }
        let has = |commit: &git2::Commit<'_>| is_in(git, commit.id(), tip);
        if contains.as_ref().is_some_and(|commit| !has(commit)) || not_contains.as_ref().is_some_and(has) {
            continue;
        }
        list.total += 1;
        if list.branches.len() >= limit {
            list.truncated = true;
            continue;
        }
        let upstream = if remote { None } else { upstream(git, &name) };
        let commit = git.find_commit(tip).map_err(failed("read a commit"))?;
        let summary = String::from_utf8_lossy(commit.summary_bytes().unwrap_or_default()).into_owned();
        list.branches.push(Listed {
            current: !remote && current.as_deref() == Some(&*name),
            protected: !remote && server.protected.protects(&name),
            commit: tip.to_string(),
            summary: cut(&summary, SUMMARY_BYTES_MAX).to_owned(),
            upstream,
            remote,
            name,
        });
    }
    Ok(list)
}

/// Returns whether `commit` is `tip` or one of those before it.
fn is_in(git: &Repository, commit: Oid, tip: Oid) -> bool {
    commit == tip || git.graph_descendant_of(tip, commit).unwrap_or(false)
}

fn upstream(git: &Repository, name: &str) -> Option<String> {
    let upstream = git.find_branch(name, BranchType::Local).ok()?.upstream().ok()?;
    upstream.name_bytes().ok().map(shown)
}
