//! What a merge would come to, without touching anything.

use git2::{Commit, Index, IndexEntry, MergeFileInput, MergeFileOptions, MergeOptions, Oid, Repository, merge_file};
use schemars::JsonSchema;
use serde::Serialize;
use tollgate_shared::refusal::Refusal;

use super::ancestry::is_before;
use super::files::refuse_deep;
use super::paths::{cut, os_path, shown};
use crate::git_error::failed;
use crate::worktree_file::MODE_FILE;

/// How many files are looked at to find renames: the work grows with the square.
const RENAMES_MAX: u32 = 200;

/// How many merge bases that have to be merged themselves are: real histories have one or two.
const RECURSION_MAX: u32 = 8;

/// How many conflicts are listed with their parts; further ones are only counted.
pub const CONFLICTS_MAX: usize = 50;

/// How many parts of one file are shown, and how much of each side.
const HUNKS_MAX: usize = 10;
const SIDE_BYTES_MAX: usize = 1500;

/// How much text all conflicts have together.
const TEXT_BYTES_MAX: usize = 40_000;

/// Largest file whose two sides are compared.
const FILE_BYTES_MAX: usize = 5 * 1024 * 1024;

/// Longer than any that a file is likely to have.
const MARKER: usize = 47;

/// What a merge comes to.
pub enum Attempt {
    /// There is nothing to merge.
    UpToDate,
    /// Our side has nothing of its own.
    FastForward,
    /// Both sides fit together, in this tree.
    Clean(Oid),
    /// They do not; the index has what does, and the sides of what does not.
    Conflicts(Box<Index>),
}

/// A file that two sides have changed differently.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Conflict {
    /// Relative to the root; bytes that are not UTF-8 are written `\xNN`.
    path: String,
    /// `both_modified`, `both_added`, `deleted_by_us`, `deleted_by_them` or `renamed`.
    kind: &'static str,
    /// Where the two sides differ; empty for a binary file, or one that a side has deleted.
    hunks: Vec<ConflictHunk>,
    /// Whether parts are left out or cut.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

/// One place where two sides differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ConflictHunk {
    /// Our lines.
    ours: String,
    /// Their lines.
    theirs: String,
}

/// Returns how trees are merged.
#[must_use]
pub fn options() -> MergeOptions {
    let mut options = MergeOptions::new();
    options.find_renames(true).target_limit(RENAMES_MAX).recursion_limit(RECURSION_MAX);
    options
}

/// Merges `theirs` into `ours`, in memory but for the objects of a clean result.
///
/// # Errors
///
/// `no_merge_base`, `unsafe_path`.
pub fn attempt(git: &Repository, ours: &Commit<'_>, theirs: &Commit<'_>) -> Result<Attempt, Refusal> {
    let base = git.merge_base(ours.id(), theirs.id()).map_err(|_| {
        Refusal::refused(
            "no_merge_base",
            "the two have no history in common",
            "have a human join histories that are not related",
        )
    })?;
    if base == theirs.id() {
        return Ok(Attempt::UpToDate);
    }
    if base == ours.id() && is_before(git, ours.id(), theirs.id()).map_err(failed("compare histories"))? {
        return Ok(Attempt::FastForward);
    }
    let mut index = git.merge_commits(ours, theirs, Some(&options())).map_err(failed("merge"))?;
    refuse_deep(&index)?;
    if index.has_conflicts() {
        return Ok(Attempt::Conflicts(Box::new(index)));
    }
    Ok(Attempt::Clean(index.write_tree_to(git).map_err(failed("write the merged tree"))?))
}

/// The three versions of a conflict; at least one is there.
pub struct Sides {
    /// Before both.
    pub base: Option<IndexEntry>,
    /// Ours.
    pub ours: Option<IndexEntry>,
    /// Theirs.
    pub theirs: Option<IndexEntry>,
}

impl Sides {
    /// Returns the path, ours where the sides differ in it.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        let entry = self.ours.as_ref().or(self.theirs.as_ref()).or(self.base.as_ref());
        entry.map_or(&[][..], |entry| &entry.path)
    }

    fn kind(&self) -> &'static str {
        match (&self.base, &self.ours, &self.theirs) {
            (Some(_), Some(_), Some(_)) => "both_modified",
            (None, Some(_), Some(_)) => "both_added",
            (Some(_), None, Some(_)) => "deleted_by_us",
            (Some(_), Some(_), None) => "deleted_by_them",
            _ => "renamed",
        }
    }
}

/// Returns the conflicts of `index`, at most `max`, and how many there are.
///
/// # Errors
///
/// When libgit2 cannot read them.
pub fn sides(index: &Index, max: usize) -> Result<(Vec<Sides>, usize), Refusal> {
    let mut all = Vec::new();
    let mut total = 0;
    for conflict in index.conflicts().map_err(failed("read the conflicts"))? {
        let conflict = conflict.map_err(failed("read the conflicts"))?;
        total += 1;
        if all.len() < max {
            all.push(Sides { base: conflict.ancestor, ours: conflict.our, theirs: conflict.their });
        }
    }
    Ok((all, total))
}

/// Returns the conflicts of `index` for an answer, and how many there are.
///
/// # Errors
///
/// When libgit2 cannot read them.
pub fn conflicts(git: &Repository, index: &Index) -> Result<(Vec<Conflict>, usize), Refusal> {
    let (all, total) = sides(index, CONFLICTS_MAX)?;
    let mut room = TEXT_BYTES_MAX;
    let listed = all.iter().map(|sides| {
        let (hunks, truncated) = if room == 0 { (Vec::new(), true) } else { hunks(git, sides) };
        let bytes: usize = hunks.iter().map(|hunk| hunk.ours.len() + hunk.theirs.len()).sum();
        room = room.saturating_sub(bytes);
        Conflict { path: shown(sides.path()), kind: sides.kind(), hunks, truncated }
    });
    Ok((listed.collect(), total))
}

fn hunks(git: &Repository, sides: &Sides) -> (Vec<ConflictHunk>, bool) {
    let Some(content) = marked(git, sides, MARKER, "", "") else { return (Vec::new(), false) };
    let (mut hunks, mut truncated) = (Vec::new(), false);
    for (ours, theirs) in parts(&String::from_utf8_lossy(&content)) {
        if hunks.len() == HUNKS_MAX {
            truncated = true;
            break;
        }
        truncated |= ours.len().max(theirs.len()) > SIDE_BYTES_MAX;
        hunks.push(ConflictHunk {
            ours: cut(&ours, SIDE_BYTES_MAX).to_owned(),
            theirs: cut(&theirs, SIDE_BYTES_MAX).to_owned(),
        });
    }
    (hunks, truncated)
}

/// Returns the file with markers around what differs; `None` when a side is missing, binary or large.
#[must_use]
pub fn marked(git: &Repository, sides: &Sides, marker: usize, ours: &str, theirs: &str) -> Option<Vec<u8>> {
    let content = |entry: &IndexEntry| {
        let (size, kind) = git.odb().ok()?.read_header(entry.id).ok()?;
        if kind != git2::ObjectType::Blob || size > FILE_BYTES_MAX || entry.mode & 0o170_000 != MODE_FILE & 0o170_000 {
            return None;
        }
        let blob = git.find_blob(entry.id).ok()?;
        (!blob.is_binary()).then(|| blob.content().to_vec())
    };
    let base = match &sides.base {
        Some(base) => Some(content(base)?),
        None => None,
    };
    let (our_content, their_content) = (content(sides.ours.as_ref()?)?, content(sides.theirs.as_ref()?)?);
    let mut options = MergeFileOptions::new();
    options.our_label(ours).their_label(theirs).marker_size(u16::try_from(marker).ok()?).style_standard(true);
    let input = |content| {
        let mut input = MergeFileInput::new();
        input.content(content);
        input
    };
    // Of what both have added, all is new.
    let base = base.unwrap_or_default();
    let merged = merge_file(&input(&base), &input(&our_content), &input(&their_content), Some(&mut options)).ok()?;
    Some(merged.content().to_vec())
}

/// Returns the sides of every marked part of `text`.
fn parts(text: &str) -> Vec<(String, String)> {
    let is = |line: &str, mark: char| line.chars().take_while(|c| *c == mark).count() == MARKER;
    let mut parts = Vec::new();
    let mut current: Option<(String, Option<String>)> = None;
    for line in text.split_inclusive('\n') {
        match &mut current {
            None if is(line, '<') => current = Some((String::new(), None)),
            None => {}
            Some((_, theirs @ None)) if is(line, '=') => *theirs = Some(String::new()),
            Some((ours, None)) => ours.push_str(line),
            Some((ours, Some(theirs))) if is(line, '>') => {
                parts.push((std::mem::take(ours), std::mem::take(theirs)));
                current = None;
            }
            Some((_, Some(theirs))) => theirs.push_str(line),
        }
    }
    parts
}

/// Returns the tree that stands in the working tree while the conflicts of `index` are resolved: markers in the files
/// that have both sides, else the side that there is.
///
/// # Errors
///
/// When it cannot be written.
pub fn conflicted_tree(git: &Repository, index: &Index, ours: &str, theirs: &str) -> Result<Oid, Refusal> {
    let mut tree = Index::new().map_err(failed("merge"))?;
    let (all, _) = sides(index, usize::MAX)?;
    for entry in index.iter().filter(|entry| entry.flags & STAGE_MASK == 0) {
        tree.add(&entry).map_err(failed("merge"))?;
    }
    for sides in &all {
        let Some(side) = sides.ours.as_ref().or(sides.theirs.as_ref()) else { continue };
        let id = match marked(git, sides, 7, ours, theirs) {
            Some(content) => git.blob(&content).map_err(failed("write a conflicted file"))?,
            None => side.id,
        };
        let entry = IndexEntry { id, flags: 0, path: side.path.clone(), ..copied(side) };
        tree.add(&entry).map_err(failed("merge"))?;
    }
    tree.write_tree_to(git).map_err(failed("write the conflicted tree"))
}

/// Where the entry of an index says which side of a conflict it is.
const STAGE_MASK: u16 = 0x3000;
const STAGE_SHIFT: u16 = 12;

/// Puts the sides of the conflicts of `from` into `index`, in the place of what is there.
///
/// # Errors
///
/// When libgit2 does not take one.
pub fn put_conflicts(index: &mut Index, from: &Index) -> Result<(), Refusal> {
    let (all, _) = sides(from, usize::MAX)?;
    for sides in &all {
        for entry in [&sides.base, &sides.ours, &sides.theirs].into_iter().flatten() {
            index.remove_path(os_path(&entry.path)).map_err(failed("change the index"))?;
        }
    }
    for sides in &all {
        for (stage, entry) in (1_u16..).zip([&sides.base, &sides.ours, &sides.theirs]) {
            if let Some(entry) = entry {
                let entry = IndexEntry { flags: stage << STAGE_SHIFT, ..copied(entry) };
                index.add(&entry).map_err(failed("change the index"))?;
            }
        }
    }
    Ok(())
}

/// Returns `entry` without what it says about a file.
fn copied(entry: &IndexEntry) -> IndexEntry {
    crate::worktree_file::blank_entry(&entry.path, entry.id, entry.mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart() {
        let mark = |c: char| c.to_string().repeat(MARKER);
        let (open, middle, end) = (mark('<'), mark('='), mark('>'));
        let text = format!("a\n{open}\nb\n=======\n{middle}\nc\n{end}\nd\n{open} x\n{middle}\ne\n{end} y\n");
        let side = |text: &str| text.to_owned();
        assert_eq!(parts(&text), [(side("b\n=======\n"), side("c\n")), (side(""), side("e\n"))]);
        assert!(parts("<<<<<<< a\nb\n=======\nc\n>>>>>>> d\n").is_empty());
        assert!(parts(&format!("{open}\nb\n")).is_empty());
    }
}
