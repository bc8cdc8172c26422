//! `git_blame`: which commit each line of a file comes from.

use std::collections::BTreeMap;
use std::sync::Arc;

use git2::Oid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Git;
use crate::branch_name::quoted;
use crate::git_error::failed;
use crate::patience::Patience;
use crate::repository::OpenRepository;
use crate::repository::blame::{Origin, blame};
use crate::repository::logged::rfc3339;
use crate::repository::paths::{cut, os_path, shown};
use crate::repository::revision::Revision;
use crate::watch::bounded;
use crate::worktree_path::WorktreePath;

/// How many lines one answer has: some pages, with their text.
const LINES_MAX: usize = 500;

/// Largest file that is looked at line by line.
const FILE_BYTES_MAX: usize = 5 * 1024 * 1024;

/// How much of one line is shown, and how much text in all.
const LINE_BYTES_MAX: usize = 500;
const TEXT_BYTES_MAX: usize = 60_000;

/// Longest author and summary that are shown.
const NAME_BYTES_MAX: usize = 100;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// The file.
    path: String,
    /// Branch, tag or commit; default: HEAD.
    revision: Option<String>,
    /// First line, from 1.
    start_line: Option<usize>,
    /// Last line; at most 500 in all.
    end_line: Option<usize>,
}

#[derive(Serialize, JsonSchema)]
struct Blamed {
    /// The root of the working tree.
    repository: String,
    /// The commit whose file it is.
    revision: String,
    /// How many lines the file has.
    lines_total: usize,
    /// Lines in order, those that one commit brought in together.
    hunks: Vec<BlamedLines>,
    /// Whether there are lines after these.
    truncated: bool,
}

#[derive(Serialize, JsonSchema)]
struct BlamedLines {
    /// The first line, from 1.
    line: usize,
    /// The lines; long ones are cut.
    text: Vec<String>,
    /// The commit that brought them in.
    commit: String,
    /// Its author's name.
    author: String,
    /// When it was written, RFC 3339.
    date: String,
    /// The first line of its message.
    summary: String,
    /// The path of the file there, when it was another.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// The time was up: the lines are from this commit or from an earlier one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unfinished: bool,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_blame",
        "Blame",
        "Show which commit and author each line of a file comes from. Renames are followed.",
        Effect::Reads,
        Price::PerCall("git.read"),
    )
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Blamed>, Refusal> {
    let patience = Patience::of(&call);
    bounded(&call, move || blamed(&server, &request, &patience)).await.map(Answer::new)
}

fn blamed(server: &Git, request: &Request, patience: &Patience) -> Result<Blamed, Refusal> {
    let revision = Revision::parse(request.revision.as_deref().unwrap_or("HEAD"))?;
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let git = &repository.git;
    let path = WorktreePath::parse(&request.path, &repository.worktree)?;
    let commit = revision.commit(git)?;
    let entry = commit.tree().and_then(|tree| tree.get_path(os_path(path.as_str().as_bytes())));
    let blob = entry.ok().and_then(|entry| {
        let (size, kind) = git.odb().ok()?.read_header(entry.id()).ok()?;
        (kind == git2::ObjectType::Blob && size <= FILE_BYTES_MAX).then(|| git.find_blob(entry.id()).ok())?
    });
    let blob = blob.filter(|blob| !blob.is_binary()).ok_or_else(|| {
        Refusal::refused(
            "path_not_found",
            format!("{} has no text file {} of at most 5 MiB", quoted(revision.as_str()), quoted(path.as_str())),
            "only what is committed has an origin; list the folder with git_show `revision:folder`",
        )
    })?;
    let content = String::from_utf8_lossy(blob.content());
    let lines: Vec<&str> = content.lines().collect();
    let first = request.start_line.unwrap_or(1).max(1);
    let asked = request.end_line.unwrap_or(lines.len()).min(lines.len());
    if (first > lines.len() && !lines.is_empty()) || request.end_line.is_some_and(|last| last < first) {
        return Err(Refusal::invalid_arguments(
            format!("there are no lines {first} to {asked}: the file has {}", lines.len()),
            "give `start_line` and `end_line` inside the file",
        ));
    }
    let last = asked.min(first + LINES_MAX - 1);
    let origins = blame(git, &commit, path.as_str().as_bytes(), first, last, patience)?;
    let mut blamed = Blamed {
        repository: repository.shown(),
        revision: commit.id().to_string(),
        lines_total: lines.len(),
        hunks: Vec::new(),
        truncated: last < asked,
    };
    let mut known: BTreeMap<Oid, (String, String, String)> = BTreeMap::new();
    let mut bytes = 0;
    for origin in origins {
        if bytes > TEXT_BYTES_MAX {
            blamed.truncated = true;
            break;
        }
        let (author, date, summary) = match known.get(&origin.commit) {
            Some(commit) => commit.clone(),
            None => {
                let commit = git.find_commit(origin.commit).map_err(failed("read a commit"))?;
                let text = |bytes: &[u8]| cut(&String::from_utf8_lossy(bytes), NAME_BYTES_MAX).to_owned();
                let summary = text(commit.summary_bytes().unwrap_or_default());
                let author = text(commit.author().name_bytes());
                let shown = (author, rfc3339(commit.author().when()), summary);
                known.insert(origin.commit, shown.clone());
                shown
            }
        };
        let Origin { line, lines: count, .. } = origin;
        let text: Vec<String> =
            lines.iter().skip(line - 1).take(count).map(|line| cut(line, LINE_BYTES_MAX).to_owned()).collect();
        bytes += 200 + summary.len() + text.iter().map(|line| line.len() + 3).sum::<usize>();
        blamed.hunks.push(BlamedLines {
            line,
            text,
            commit: origin.commit.to_string(),
            author,
            date,
            summary,
            path: (origin.path != path.as_str().as_bytes()).then(|| shown(&origin.path)),
            unfinished: origin.unfinished,
        });
    }
    Ok(blamed)
}
