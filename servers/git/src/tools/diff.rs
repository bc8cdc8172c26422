//! `git_diff`: the working tree against a commit, or one commit against another.

use std::sync::Arc;

use git2::{Delta, Diff, DiffDelta, DiffFindOptions, DiffLine, DiffOptions, Index, IndexEntry, Patch, Repository};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Git;
use crate::git_error::failed;
use crate::patience::Patience;
use crate::repository::OpenRepository;
use crate::repository::paths::{os_path, shown};
use crate::repository::revision::Comparison;
use crate::worktree_file::{self, MODE_FILE, Unreadable};
use crate::worktree_path::WorktreePath;

/// Context lines by default, as git has it, and at most: a screen.
const CONTEXT_DEFAULT: u32 = 3;
const CONTEXT_MAX: u32 = 100;

/// How much diff an answer has by default: it goes out twice, as text and as a field, and hosts cut at about 100 KB.
const DIFF_BYTES_DEFAULT: usize = 50_000;

/// How much diff an answer has at most: some hosts take more.
const DIFF_BYTES_MAX: usize = 400_000;

/// How many files are listed with their numbers; further ones are only counted.
const FILES_MAX: usize = 500;

/// Largest file that is compared line by line: larger ones are data, and libgit2 holds both sides in memory.
const FILE_BYTES_MAX: i64 = 5 * 1024 * 1024;

/// How much of the working tree is held in memory for one answer, far more than any answer shows.
const MEMORY_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Before all other places that objects are written to: those have single digits.
const MEMORY_PRIORITY: i32 = 1000;

/// How many files are looked at to find renames: the work grows with the square.
const RENAMES_MAX: usize = 200;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Path of the repository; default: the configured one.
    repo_path: Option<String>,
    /// Branch, tag or commit to compare the working tree with, or a range `a..b` or `a...b`; default: HEAD.
    target: Option<String>,
    /// Lines around each change, at most 100; default 3.
    context_lines: Option<u32>,
    /// Only this file or folder.
    path: Option<String>,
    /// Bytes of diff, at most 400000; default 50000.
    max_bytes: Option<usize>,
}

#[derive(Serialize, JsonSchema)]
struct Difference {
    /// The root of the working tree.
    repository: String,
    /// The changed files.
    files: Vec<ChangedFile>,
    /// How many files differ; more than `files` has when that is cut.
    files_total: usize,
    /// The unified diff.
    diff: String,
    /// Whether the diff or the list of files is cut.
    truncated: bool,
}

#[derive(Serialize, JsonSchema)]
struct ChangedFile {
    /// Relative to the root; bytes that are not UTF-8 are written `\xNN`.
    path: String,
    /// `added`, `modified`, `deleted`, `renamed`, `copied`, `typechange` or `conflicted`.
    status: &'static str,
    /// The path before a rename.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// Lines added.
    additions: usize,
    /// Lines deleted.
    deletions: usize,
    /// Not compared line by line: binary, or larger than 5 MiB.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    binary: bool,
}

/// A unified diff that stops growing at a limit.
struct DiffText {
    text: String,
    bytes_max: usize,
    truncated: bool,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_diff",
        "Diff",
        "Show what tracked files of the working tree change against a commit, or what one commit changes against \
         another. Untracked files are in git_status.",
        Effect::Reads,
        Price::PerCall("git.read"),
    )
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Difference>, Refusal> {
    let patience = Patience::of(&call);
    let difference = call.blocking(move || difference(&server, &request, &patience)).await?;
    let mut text = difference.diff.clone();
    if text.is_empty() && !difference.truncated {
        text.push_str("no differences\n");
    }
    if difference.truncated {
        let (listed, total) = (difference.files.len(), difference.files_total);
        text.push_str(&format!(
            "[cut; {total} files differ, {listed} are listed: ask for one `path`, or more `max_bytes`]\n"
        ));
    }
    Ok(Answer::with_text(difference, text))
}

fn difference(server: &Git, request: &Request, patience: &Patience) -> Result<Difference, Refusal> {
    let comparison = Comparison::parse(request.target.as_deref().unwrap_or("HEAD"))?;
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let path = request.path.as_deref().map(|path| WorktreePath::parse(path, &repository.worktree)).transpose()?;
    let mut options = DiffOptions::new();
    options
        .context_lines(request.context_lines.unwrap_or(CONTEXT_DEFAULT).min(CONTEXT_MAX))
        .max_size(FILE_BYTES_MAX)
        .include_typechange(true)
        .disable_pathspec_match(true);
    if let Some(path) = path.filter(|path| !path.is_root()) {
        options.pathspec(path.as_str());
    }
    let (mut diff, left_out) = compare(&repository, &comparison, &mut options, patience)?;
    diff.find_similar(Some(DiffFindOptions::new().renames(true).rename_limit(RENAMES_MAX)))
        .map_err(failed("look for renames"))?;
    let bytes_max = request.max_bytes.unwrap_or(DIFF_BYTES_DEFAULT).min(DIFF_BYTES_MAX);
    let mut text = DiffText { text: String::new(), bytes_max, truncated: false };
    let (files, files_total) = read(&diff, &mut text, patience)?;
    let files_total = files_total + left_out;
    Ok(Difference {
        repository: repository.shown(),
        truncated: text.truncated || files.len() < files_total,
        files,
        files_total,
        diff: text.text,
    })
}

/// Returns what differs, and how many files of the working tree were not looked at any more.
fn compare<'repository>(
    repository: &'repository OpenRepository,
    comparison: &Comparison,
    options: &mut DiffOptions,
    patience: &Patience,
) -> Result<(Diff<'repository>, usize), Refusal> {
    let git = &repository.git;
    let tree = |commit: &git2::Commit<'repository>| commit.tree().map_err(failed("read a tree"));
    let between = |from: &git2::Commit<'repository>, to: &git2::Commit<'repository>, options: &mut DiffOptions| {
        let diff = git.diff_tree_to_tree(Some(&tree(from)?), Some(&tree(to)?), Some(options));
        diff.map(|diff| (diff, 0)).map_err(failed("compare"))
    };
    match comparison {
        Comparison::WorkingTree(target) => {
            // A submodule is another repository, which may be anywhere.
            options.ignore_submodules(true);
            let tree = tree(&target.commit(git)?)?;
            let changed = git.diff_tree_to_workdir_with_index(Some(&tree), Some(options)).map_err(failed("compare"))?;
            let (index, left_out) = as_if_staged(repository, &tree, &changed, patience)?;
            let diff = git.diff_tree_to_index(Some(&tree), Some(&index), Some(options)).map_err(failed("compare"))?;
            Ok((diff, left_out))
        }
        Comparison::Between(from, to) => between(&from.commit(git)?, &to.commit(git)?, options),
        Comparison::SinceParting(from, to) => {
            let (from, to) = (from.commit(git)?, to.commit(git)?);
            let base = git.merge_base(from.id(), to.id()).map_err(|_| {
                Refusal::refused(
                    "no_merge_base",
                    "the two commits have no history in common",
                    "compare them with `a..b`",
                )
            })?;
            between(&git.find_commit(base).map_err(failed("read a commit"))?, &to, options)
        }
    }
}

/// Returns an index, in memory, that has the `changed` files of the working tree as they are now.
///
/// libgit2 would read them by name, wherever the name leads by then; this follows no link.
fn as_if_staged(
    repository: &OpenRepository,
    tree: &git2::Tree<'_>,
    changed: &Diff<'_>,
    patience: &Patience,
) -> Result<(Index, usize), Refusal> {
    let git = &repository.git;
    // What is written from here on, for this call, goes to memory.
    let odb = git.odb().map_err(failed("compare"))?;
    odb.add_new_mempack_backend(MEMORY_PRIORITY).map_err(failed("compare"))?;
    let mut index = Index::new().map_err(failed("compare"))?;
    index.read_tree(tree).map_err(failed("read a tree"))?;
    let mut bytes = 0;
    let mut done = 0;
    let mut left_out = 0;
    for delta in changed.deltas().filter(|delta| delta.status() != Delta::Unmodified) {
        let Some(path) = delta.new_file().path_bytes().or_else(|| delta.old_file().path_bytes()) else { continue };
        if done >= FILES_MAX || bytes > MEMORY_BYTES_MAX || (done > 0 && patience.is_over()) {
            left_out += 1;
            continue;
        }
        done += 1;
        let os_path = os_path(path);
        let known = index.get_path(os_path, 0);
        let read = worktree_file::peek(
            git,
            &repository.worktree,
            path,
            known.as_ref().map(|entry| entry.mode),
            FILE_BYTES_MAX.unsigned_abs(),
        );
        let entry = match read {
            Ok(entry) => Some(entry),
            Err(Unreadable::Missing | Unreadable::BeyondLink) => None,
            // A folder where a file was: what is in it is not tracked, or listed by itself.
            Err(Unreadable::Special) if delta.status() == Delta::Deleted => None,
            Err(Unreadable::Special | Unreadable::TooLarge | Unreadable::Failed(_)) => {
                Some(unread(git, path, known.as_ref()).map_err(failed("compare"))?)
            }
        };
        match entry {
            Some(entry) => {
                bytes += u64::from(entry.file_size);
                index.add(&entry).map_err(failed("compare"))?;
            }
            None => index.remove_path(os_path).map_err(failed("compare"))?,
        }
    }
    Ok((index, left_out))
}

/// Returns an entry that stands for a file which cannot be shown: it differs, and is binary.
fn unread(git: &Repository, path: &[u8], known: Option<&IndexEntry>) -> Result<IndexEntry, git2::Error> {
    let mode = known.map_or(MODE_FILE, |entry| entry.mode);
    Ok(worktree_file::blank_entry(path, git.blob(b"\0not read")?, mode))
}

/// Returns the files that differ, and how many there are in all; their patches go to `text`.
fn read(diff: &Diff<'_>, text: &mut DiffText, patience: &Patience) -> Result<(Vec<ChangedFile>, usize), Refusal> {
    let mut files = Vec::new();
    let mut total = 0;
    for (index, delta) in diff.deltas().enumerate() {
        if delta.status() == Delta::Unmodified {
            continue;
        }
        total += 1;
        if files.len() >= FILES_MAX || (!files.is_empty() && patience.is_over()) {
            text.truncated = true;
            continue;
        }
        let mut patch = Patch::from_diff(diff, index).map_err(failed("compare a file"))?;
        let (_, additions, deletions) = match &patch {
            Some(patch) => patch.line_stats().map_err(failed("count lines"))?,
            None => (0, 0, 0),
        };
        // Whether a file is binary is known only after libgit2 has read it.
        let delta = patch.as_ref().map_or(delta, Patch::delta);
        files.push(ChangedFile::new(&delta, additions, deletions));
        if let Some(patch) = &mut patch
            && !text.truncated
        {
            let result = patch.print(&mut |_, _, line| text.push(&line));
            // Stopping is reported as an error.
            if !text.truncated {
                result.map_err(failed("write the diff"))?;
            }
        }
    }
    Ok((files, total))
}

impl ChangedFile {
    fn new(delta: &DiffDelta<'_>, additions: usize, deletions: usize) -> Self {
        let old = delta.old_file().path_bytes().map(shown);
        let new = delta.new_file().path_bytes().map(shown);
        let moved = matches!(delta.status(), Delta::Renamed | Delta::Copied);
        Self {
            path: new.or_else(|| old.clone()).unwrap_or_default(),
            status: match delta.status() {
                Delta::Added | Delta::Untracked => "added",
                Delta::Deleted => "deleted",
                Delta::Renamed => "renamed",
                Delta::Copied => "copied",
                Delta::Typechange => "typechange",
                Delta::Conflicted => "conflicted",
                Delta::Modified | Delta::Unmodified | Delta::Ignored | Delta::Unreadable => "modified",
            },
            from: if moved { old } else { None },
            additions,
            deletions,
            binary: delta.flags().is_binary(),
        }
    }
}

impl DiffText {
    /// Adds a line; returns whether there is room for more.
    fn push(&mut self, line: &DiffLine<'_>) -> bool {
        let content = String::from_utf8_lossy(line.content());
        let origin = Some(line.origin()).filter(|origin| matches!(origin, '+' | '-' | ' '));
        if self.text.len() + content.len() + 1 > self.bytes_max {
            self.truncated = true;
            return false;
        }
        self.text.extend(origin);
        self.text.push_str(&content);
        true
    }
}
