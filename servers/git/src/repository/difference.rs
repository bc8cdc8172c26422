//! What differs, as an answer has it: the files, and the unified diff up to a limit.

use git2::{Delta, Diff, DiffDelta, DiffFindOptions, DiffLine, DiffOptions, Index, IndexEntry, Patch, Repository};
use schemars::JsonSchema;
use serde::Serialize;
use tollgate_shared::refusal::Refusal;

use super::OpenRepository;
use super::paths::{os_path, shown};
use crate::git_error::failed;
use crate::patience::Patience;
use crate::worktree_file::{self, MODE_FILE, Unreadable, is_left_out};
use crate::worktree_path::WorktreePath;

/// Context lines by default, as git has it, and at most: a screen.
const CONTEXT_DEFAULT: u32 = 3;
const CONTEXT_MAX: u32 = 100;

/// How much diff an answer has by default: it goes out twice, as text and as a field, and hosts cut at about 100 KB.
pub const DIFF_BYTES_DEFAULT: usize = 50_000;

/// How much diff an answer has at most: some hosts take more.
pub const DIFF_BYTES_MAX: usize = 400_000;

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

/// What differs between two states of a repository.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Difference {
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

/// One file that differs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ChangedFile {
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
    /// How many words still fit.
    words_left: usize,
    truncated: bool,
}

/// How a difference is looked for and shown.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Lines around each change.
    pub context_lines: Option<u32>,
    /// Only this file or folder.
    pub path: Option<WorktreePath>,
    /// Bytes of diff.
    pub bytes_max: Option<usize>,
    /// Words of diff: what blanks separate, as they are counted in a context window.
    pub words_max: Option<usize>,
}

impl Wanted {
    /// Returns what libgit2 is to do.
    #[must_use]
    pub fn options(&self) -> DiffOptions {
        let mut options = DiffOptions::new();
        options
            .context_lines(self.context_lines.unwrap_or(CONTEXT_DEFAULT).min(CONTEXT_MAX))
            .max_size(FILE_BYTES_MAX)
            .include_typechange(true)
            .disable_pathspec_match(true);
        if let Some(path) = self.path.as_ref().filter(|path| !path.is_root()) {
            options.pathspec(path.as_str());
        }
        options
    }
}

impl Difference {
    /// Reads `diff`, besides which `left_out` files were not looked at.
    ///
    /// # Errors
    ///
    /// When libgit2 cannot read it.
    pub fn read(
        repository: &OpenRepository,
        mut diff: Diff<'_>,
        left_out: usize,
        wanted: &Wanted,
        patience: &Patience,
    ) -> Result<Self, Refusal> {
        diff.find_similar(Some(DiffFindOptions::new().renames(true).rename_limit(RENAMES_MAX)))
            .map_err(failed("look for renames"))?;
        let bytes_max = wanted.bytes_max.unwrap_or(DIFF_BYTES_DEFAULT).min(DIFF_BYTES_MAX);
        let words_left = wanted.words_max.unwrap_or(usize::MAX);
        let mut text = DiffText { text: String::new(), bytes_max, words_left, truncated: false };
        let (files, files_total) = read(&diff, &mut text, patience)?;
        let files_total = files_total + left_out;
        Ok(Self {
            repository: repository.shown(),
            truncated: text.truncated || files.len() < files_total,
            files,
            files_total,
            diff: text.text,
        })
    }

    /// Returns the changed files, and how many there are in all.
    #[must_use]
    pub fn into_files(self) -> (Vec<ChangedFile>, usize) {
        (self.files, self.files_total)
    }

    /// Returns whether the diff or the list of files is cut.
    #[must_use]
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// Returns the diff as text for a person, with a word on what is cut.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.diff.clone();
        if text.is_empty() && !self.truncated {
            text.push_str("no differences\n");
        }
        if self.truncated {
            let (listed, total) = (self.files.len(), self.files_total);
            text.push_str(&format!(
                "[cut; {total} files differ, {listed} are listed: ask for one `path`, or more `max_bytes` or `max_words`]\n"
            ));
        }
        text
    }
}

/// Two indexes, in memory, that have nothing but what differs between them.
pub struct Staged {
    /// As staged.
    pub before: Index,
    /// As in the working tree.
    pub after: Index,
    /// How many files of the working tree were not looked at any more.
    pub left_out: usize,
}

/// Compares the files of the working tree that `changed` names with what is staged.
///
/// # Errors
///
/// When libgit2 fails.
pub fn against_staged(
    repository: &OpenRepository,
    staged: &Index,
    changed: &Diff<'_>,
    patience: &Patience,
) -> Result<Staged, Refusal> {
    let mut before = Index::new().map_err(failed("compare"))?;
    let mut after = Index::new().map_err(failed("compare"))?;
    for delta in changed.deltas().filter(|delta| delta.status() != Delta::Unmodified) {
        let Some(path) = delta.new_file().path_bytes().or_else(|| delta.old_file().path_bytes()) else { continue };
        // Of a conflict, our own side.
        let entry = staged.get_path(os_path(path), 0).or_else(|| staged.get_path(os_path(path), 2));
        if let Some(mut entry) = entry {
            entry.flags = 0;
            before.add(&entry).map_err(failed("compare"))?;
            after.add(&entry).map_err(failed("compare"))?;
        }
    }
    let left_out = read_worktree(repository, &mut after, changed, patience)?;
    Ok(Staged { before, after, left_out })
}

/// Returns an index, in memory, that has the `changed` files of the working tree as they are now.
///
/// libgit2 would read them by name, wherever the name leads by then; this follows no link.
///
/// # Errors
///
/// When libgit2 fails.
pub fn as_if_staged(
    repository: &OpenRepository,
    tree: &git2::Tree<'_>,
    changed: &Diff<'_>,
    patience: &Patience,
) -> Result<(Index, usize), Refusal> {
    let mut index = Index::new().map_err(failed("compare"))?;
    index.read_tree(tree).map_err(failed("read a tree"))?;
    let left_out = read_worktree(repository, &mut index, changed, patience)?;
    Ok((index, left_out))
}

/// Has what `git` writes from here on, for this call, go to memory.
///
/// # Errors
///
/// When libgit2 fails.
pub fn write_to_memory(git: &Repository) -> Result<(), Refusal> {
    let odb = git.odb().map_err(failed("compare"))?;
    odb.add_new_mempack_backend(MEMORY_PRIORITY).map(drop).map_err(failed("compare"))
}

/// Puts the `changed` files of the working tree, as they are now, into `index`; returns how many were left out.
fn read_worktree(
    repository: &OpenRepository,
    index: &mut Index,
    changed: &Diff<'_>,
    patience: &Patience,
) -> Result<usize, Refusal> {
    let git = &repository.git;
    write_to_memory(git)?;
    let staged = git.index().map_err(failed("read the index"))?;
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
            Err(Unreadable::Missing) if staged.get_path(os_path, 0).is_some_and(|entry| is_left_out(&entry)) => {
                continue;
            }
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
    Ok(left_out)
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
        let words = if self.words_left == usize::MAX { 0 } else { content.split_whitespace().count() };
        if self.text.len() + content.len() + 1 > self.bytes_max || words > self.words_left {
            self.truncated = true;
            return false;
        }
        self.words_left -= words;
        self.text.extend(origin);
        self.text.push_str(&content);
        true
    }
}
