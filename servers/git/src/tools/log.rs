//! `git_log`: commits, newest first.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::path::Path;
use std::sync::Arc;

use git2::{Commit, ErrorCode, Oid, Repository};
use jiff::Zoned;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Git;
use crate::branch_name::quoted;
use crate::git_error::{failed, unknown_revision};
use crate::moment::{self, Boundary};
use crate::patience::Patience;
use crate::repository::OpenRepository;
use crate::repository::head::Head;
use crate::repository::logged::Logged;
use crate::repository::revision::Comparison;
use crate::watch::bounded;
use crate::worktree_path::WorktreePath;

/// How many commits an answer has by default, as in the reference server.
const COUNT_DEFAULT: usize = 10;

/// How many commits an answer has at most.
const COUNT_MAX: usize = 1000;

/// How much text an answer has at most: what hosts pass on to a model without cutting it themselves.
const ANSWER_BYTES_MAX: usize = 80_000;

/// Longest text that is looked for.
const WORDS_BYTES_MAX: usize = 500;

/// How many commits in a row may be older than asked for before the rest is taken to be older too: clocks differ, so
/// the order is not quite that of time.
const OLDER_MAX: usize = 1000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// At most 1000; default 10.
    max_count: Option<usize>,
    /// `2026-01-31`, RFC 3339 or `2 weeks ago`.
    start_timestamp: Option<String>,
    /// Same forms.
    end_timestamp: Option<String>,
    /// Branch, tag or commit to start at, or `a..b`; default: HEAD.
    revision: Option<String>,
    /// Only what changes this file or folder.
    path: Option<String>,
    /// Part of the author's name or address.
    author: Option<String>,
    /// Part of the message, no pattern.
    grep: Option<String>,
    /// From the previous answer.
    cursor: Option<String>,
}

impl Request {
    /// Returns whether more commits may be read than are listed.
    fn reads_much(&self) -> bool {
        let narrowed = [&self.start_timestamp, &self.end_timestamp, &self.path, &self.author, &self.grep, &self.cursor];
        narrowed.iter().any(|text| text.is_some()) || self.revision.as_ref().is_some_and(|text| text.contains(".."))
    }
}

#[derive(Serialize, JsonSchema)]
struct Log {
    /// The root of the working tree.
    repository: String,
    /// Newest first.
    commits: Vec<Logged>,
    /// Pass it to see older commits; left out at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// Where a walk through history is: where it began and how many commits it has seen.
struct Position {
    start: Oid,
    seen: usize,
}

/// Which commits are wanted.
struct Filter {
    not_before: Option<i64>,
    not_after: Option<i64>,
    path: Option<WorktreePath>,
    /// Folded to lower case, as what it is looked for in.
    author: Option<String>,
    grep: Option<String>,
}

impl Filter {
    fn wants_words(&self, commit: &Commit<'_>) -> bool {
        let has = |wanted: &Option<String>, texts: &[&[u8]]| {
            wanted.as_ref().is_none_or(|wanted| {
                texts.iter().any(|text| String::from_utf8_lossy(text).to_lowercase().contains(wanted.as_str()))
            })
        };
        let author = commit.author();
        has(&self.author, &[author.name_bytes(), author.email_bytes()]) && has(&self.grep, &[commit.message_bytes()])
    }
}

/// Reads a text that is looked for.
fn wanted(name: &str, text: Option<&String>) -> Result<Option<String>, Refusal> {
    match text {
        Some(text) if text.is_empty() || text.len() > WORDS_BYTES_MAX => Err(Refusal::invalid_arguments(
            format!("`{name}` is empty or longer than {WORDS_BYTES_MAX} bytes"),
            "leave it out, or give a few words",
        )),
        text => Ok(text.map(|text| text.to_lowercase())),
    }
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_log",
        "Log",
        "List commits, newest first, of a period or of one file.",
        Effect::Reads,
        Price::PerCall("git.read"),
    )
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Log>, Refusal> {
    let patience = Patience::of(&call);
    bounded(&call, move || log(&server, &request, &patience)).await.map(Answer::new)
}

fn log(server: &Git, request: &Request, patience: &Patience) -> Result<Log, Refusal> {
    let mut repository = OpenRepository::open_to_read(&server.roots, request.repo_path.as_deref())?;
    if request.reads_much() {
        repository.let_go();
    }
    let git = &repository.git;
    let now = Zoned::now();
    let moment =
        |text: &Option<String>, boundary| text.as_deref().map(|text| moment::parse(text, boundary, &now)).transpose();
    let filter = Filter {
        not_before: moment(&request.start_timestamp, Boundary::Start)?,
        not_after: moment(&request.end_timestamp, Boundary::End)?,
        path: request.path.as_deref().map(|path| WorktreePath::parse(path, &repository.worktree)).transpose()?,
        author: wanted("author", request.author.as_ref())?,
        grep: wanted("grep", request.grep.as_ref())?,
    };
    let (revision, hidden) = match request.revision.as_deref().map(Comparison::parse).transpose()? {
        None => (None, None),
        Some(Comparison::WorkingTree(revision)) => (Some(revision), None),
        Some(Comparison::Between(from, to)) => (Some(to), Some(from.commit(git)?.id())),
        Some(Comparison::SinceParting(..)) => {
            return Err(Refusal::refused(
                "invalid_revision",
                "`a...b` is not a part of history that is listed",
                "give `a..b`: what b has and a has not",
            ));
        }
    };
    let position = match (&request.cursor, revision) {
        (Some(cursor), _) => Some(Position::parse(cursor)?),
        (None, Some(revision)) => Some(Position { start: revision.commit(git)?.id(), seen: 0 }),
        (None, None) => Head::resolve(git)?.commit().map(|start| Position { start, seen: 0 }),
    };
    let mut log = Log { repository: repository.shown(), commits: Vec::new(), cursor: None };
    if let Some(position) = position {
        let count = request.max_count.unwrap_or(COUNT_DEFAULT).clamp(1, COUNT_MAX);
        walk(git, position, hidden, &filter, count, patience, &mut log)?;
    }
    Ok(log)
}

fn walk(
    git: &Repository,
    mut position: Position,
    hidden: Option<Oid>,
    filter: &Filter,
    count: usize,
    patience: &Patience,
    log: &mut Log,
) -> Result<(), Refusal> {
    let mut commits = History::from(git, position.start, hidden)?;
    let mut bytes = 0;
    let mut older = 0;
    let mut first = true;
    for _ in 0..position.seen {
        if patience.is_over() {
            return Err(Refusal::failed(
                "history_too_long",
                "going on from `cursor` takes too long",
                "start further back: give `revision` the last commit that was listed, or `end_timestamp`",
            ));
        }
        if commits.next().is_none() {
            return Ok(());
        }
    }
    for commit in commits {
        if log.commits.len() >= count || bytes > ANSWER_BYTES_MAX || (!first && patience.is_over()) {
            log.cursor = Some(position.to_string());
            return Ok(());
        }
        first = false;
        let commit = commit.map_err(failed("read a commit"))?;
        position.seen += 1;
        let time = commit.time().seconds();
        if filter.not_before.is_some_and(|start| time < start) {
            older += 1;
            if older > OLDER_MAX {
                return Ok(());
            }
            continue;
        }
        older = 0;
        if filter.not_after.is_some_and(|end| time > end) || !filter.wants_words(&commit) {
            continue;
        }
        if let Some(path) = filter.path.as_ref().filter(|path| !path.is_root())
            && !changes(&commit, Path::new(path.as_str())).map_err(failed("compare a commit with its parents"))?
        {
            continue;
        }
        let logged = Logged::new(&commit);
        bytes += logged.bytes();
        log.commits.push(logged);
    }
    Ok(())
}

/// Commits as git lists them: the newest of those come to, and of one time the one come to first, so a child is before
/// its parents. libgit2 puts a parent before its child when both are of one second.
struct History<'repository> {
    git: &'repository Repository,
    waiting: BinaryHeap<(i64, Reverse<usize>, Oid)>,
    met: HashSet<Oid>,
    /// What is listed at all; everything when it is not limited. Who leads to a listed commit is listed.
    among: Option<HashSet<Oid>>,
}

impl<'repository> History<'repository> {
    /// Begins at `start`, and leaves out what `hidden` leads to.
    fn from(git: &'repository Repository, start: Oid, hidden: Option<Oid>) -> Result<Self, Refusal> {
        let commit = git.find_commit(start).map_err(|_| unknown_revision(&start.to_string()))?;
        let among = hidden.map(|hidden| between(git, hidden, start)).transpose();
        let among = among.map_err(failed("walk through history"))?;
        let mut history = Self { git, waiting: BinaryHeap::new(), met: HashSet::new(), among };
        history.meet(&commit);
        Ok(history)
    }

    fn meet(&mut self, commit: &Commit<'_>) {
        let id = commit.id();
        if self.among.as_ref().is_none_or(|among| among.contains(&id)) && self.met.insert(id) {
            self.waiting.push((commit.time().seconds(), Reverse(self.met.len()), id));
        }
    }
}

impl<'repository> Iterator for History<'repository> {
    type Item = Result<Commit<'repository>, git2::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (_, _, id) = self.waiting.pop()?;
        let commit = match self.git.find_commit(id) {
            Ok(commit) => commit,
            Err(error) => return Some(Err(error)),
        };
        for parent in commit.parents() {
            self.meet(&parent);
        }
        Some(Ok(commit))
    }
}

/// Returns the commits that `to` leads to and `from` does not.
fn between(git: &Repository, from: Oid, to: Oid) -> Result<HashSet<Oid>, git2::Error> {
    let mut commits = git.revwalk()?;
    commits.push(to)?;
    commits.hide(from)?;
    commits.collect()
}

/// Returns whether `commit` has another `path` than every one of its parents.
fn changes(commit: &Commit<'_>, path: &Path) -> Result<bool, git2::Error> {
    let entry = |commit: &Commit<'_>| match commit.tree()?.get_path(path) {
        Ok(entry) => Ok(Some((entry.id(), entry.filemode()))),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let own = entry(commit)?;
    if commit.parent_count() == 0 {
        return Ok(own.is_some());
    }
    for parent in commit.parents() {
        if entry(&parent)? == own {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Position {
    fn parse(cursor: &str) -> Result<Self, Refusal> {
        let position = cursor
            .split_once('.')
            .filter(|(start, _)| start.len() >= 40)
            .and_then(|(start, seen)| Some(Self { start: start.parse().ok()?, seen: seen.parse().ok()? }));
        position.ok_or_else(|| {
            Refusal::refused(
                "invalid_cursor",
                format!("{} is no cursor of git_log", quoted(cursor)),
                "pass `cursor` as the previous answer had it, with the same other arguments",
            )
        })
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.start, self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_back() {
        let cursor = "0123456789012345678901234567890123456789.7";
        assert_eq!(Position::parse(cursor).unwrap().to_string(), cursor);
        for wrong in [
            "",
            "x",
            ".1",
            "01.1",
            "0123456789012345678901234567890123456789",
            "0123456789012345678901234567890123456789.-1",
        ] {
            assert_eq!(Position::parse(wrong).err().map(|refusal| refusal.code), Some("invalid_cursor"), "{wrong}");
        }
    }
}
