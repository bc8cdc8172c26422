//! Which commit each line of a file comes from.
//!
//! libgit2 can tell, and cannot be stopped: a long history of a long file takes it minutes. This walks by itself,
//! asks `patience` at each commit, and says which lines it did not come to the end of. Renames are followed.

use std::collections::{BTreeMap, BinaryHeap};

use git2::{Commit, Delta, DiffFindOptions, DiffOptions, Oid, Patch, Repository};
use tollgate_shared::refusal::Refusal;

use super::paths::os_path;
use crate::git_error::failed;
use crate::patience::Patience;

/// How many files of one commit are looked at to find where a file came from: the work grows with the square.
const RENAMES_MAX: usize = 200;

/// Some lines that one commit brought in, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The commit.
    pub commit: Oid,
    /// The path of the file there.
    pub path: Vec<u8>,
    /// The first of the lines, as the file is now, from 1.
    pub line: usize,
    /// The first of the lines, as the commit has it, from 1.
    pub original_line: usize,
    /// How many lines.
    pub lines: usize,
    /// Whether the commit is as far as the search came: the lines may be older.
    pub unfinished: bool,
}

/// A line on its way back through history: where it is in the version at hand, and where in the file as it is now.
type Line = (usize, usize);

/// Changed lines of two versions: where they are in the old one and how many, and the same in the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hunk {
    old_start: usize,
    old_lines: usize,
    new_start: usize,
    new_lines: usize,
}

/// Returns where the lines `first..=last`, from 1, of the file at `path` in `commit` come from.
///
/// # Errors
///
/// When libgit2 cannot read the history.
pub fn blame(
    git: &Repository,
    commit: &Commit<'_>,
    path: &[u8],
    first: usize,
    last: usize,
    patience: &Patience,
) -> Result<Vec<Origin>, Refusal> {
    let mut waiting: BTreeMap<(Oid, Vec<u8>), Vec<Line>> = BTreeMap::new();
    let mut order: BinaryHeap<(i64, Oid, Vec<u8>)> = BinaryHeap::new();
    let mut found: Vec<(usize, Line, Oid, Vec<u8>, bool)> = Vec::new();
    order.push((commit.time().seconds(), commit.id(), path.to_vec()));
    waiting.insert((commit.id(), path.to_vec()), (first..=last).map(|line| (line, line)).collect());
    // The newest first, so that lines that come to a commit by several ways are there before it is looked at.
    while let Some((_, id, path)) = order.pop() {
        let Some(lines) = waiting.remove(&(id, path.clone())) else { continue };
        let over = patience.is_over();
        let left = if over {
            lines
        } else {
            let commit = git.find_commit(id).map_err(failed("read a commit"))?;
            let (left, passed) = pass_back(git, &commit, &path, lines).map_err(failed("compare a commit"))?;
            for (parent, path, lines) in passed {
                order.push((parent.time().seconds(), parent.id(), path.clone()));
                waiting.entry((parent.id(), path)).or_default().extend(lines);
            }
            left
        };
        found.extend(left.into_iter().map(|line| (line.1, line, id, path.clone(), over)));
    }
    found.sort_by_key(|(now, ..)| *now);
    let mut origins: Vec<Origin> = Vec::new();
    for (now, (there, _), commit, path, unfinished) in found {
        match origins.last_mut() {
            Some(last)
                if last.commit == commit
                    && last.path == path
                    && last.line + last.lines == now
                    && last.original_line + last.lines == there =>
            {
                last.lines += 1;
            }
            _ => origins.push(Origin { commit, path, line: now, original_line: there, lines: 1, unfinished }),
        }
    }
    Ok(origins)
}

type Passed<'repository> = Vec<(Commit<'repository>, Vec<u8>, Vec<Line>)>;

/// Splits `lines` of the file at `path` in `commit` into those that it brought in and those that a parent had.
fn pass_back<'repository>(
    git: &'repository Repository,
    commit: &Commit<'repository>,
    path: &[u8],
    lines: Vec<Line>,
) -> Result<(Vec<Line>, Passed<'repository>), git2::Error> {
    let blob = |commit: &Commit<'_>, path: &[u8]| {
        commit.tree().ok().and_then(|tree| tree.get_path(os_path(path)).ok()).map(|entry| entry.id())
    };
    let Some(own) = blob(commit, path) else { return Ok((lines, Vec::new())) };
    let mut parents = Vec::new();
    // A parent beyond the edge of a shallow clone is not there.
    for parent in commit.parents() {
        let found = match blob(&parent, path) {
            Some(id) => Some((path.to_vec(), id)),
            None => renamed_from(git, commit, &parent, path)?,
        };
        if let Some((path, id)) = found {
            if id == own {
                return Ok((Vec::new(), vec![(parent, path, lines)]));
            }
            parents.push((parent, path, id));
        }
    }
    let mut left = lines;
    let mut passed = Vec::new();
    for (parent, path, id) in parents {
        if left.is_empty() {
            break;
        }
        let Some(hunks) = hunks(git, id, own)? else { continue };
        left.sort_unstable();
        let (mine, theirs) = split(&left, &hunks);
        left = mine;
        if !theirs.is_empty() {
            passed.push((parent, path, theirs));
        }
    }
    Ok((left, passed))
}

/// Splits `lines`, in order, into those inside a change and those outside, which are where the old version has them.
fn split(lines: &[Line], hunks: &[Hunk]) -> (Vec<Line>, Vec<Line>) {
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    let mut hunks = hunks.iter().peekable();
    // How far the end of the last change before a line is in either version.
    let (mut old_end, mut new_end) = (1, 1);
    for (line, now) in lines {
        while let Some(hunk) = hunks.next_if(|hunk| hunk.new_start + hunk.new_lines <= *line) {
            (old_end, new_end) = (hunk.old_start + hunk.old_lines, hunk.new_start + hunk.new_lines);
        }
        if hunks.peek().is_some_and(|hunk| hunk.new_start <= *line) {
            inside.push((*line, *now));
        } else {
            outside.push((line - new_end + old_end, *now));
        }
    }
    (inside, outside)
}

/// Returns the changes between two files in order; `None` when they cannot be compared by lines.
fn hunks(git: &Repository, old: Oid, new: Oid) -> Result<Option<Vec<Hunk>>, git2::Error> {
    let (Ok(old), Ok(new)) = (git.find_blob(old), git.find_blob(new)) else { return Ok(None) };
    if old.is_binary() || new.is_binary() {
        return Ok(None);
    }
    let mut options = DiffOptions::new();
    options.context_lines(0).interhunk_lines(0);
    let patch = Patch::from_blobs(&old, None, &new, None, Some(&mut options))?;
    let mut hunks = Vec::with_capacity(patch.num_hunks());
    for index in 0..patch.num_hunks() {
        let (hunk, _) = patch.hunk(index)?;
        let number = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
        let (old_lines, new_lines) = (number(hunk.old_lines()), number(hunk.new_lines()));
        // Of a side without lines, git names the line before it.
        let old_start = number(hunk.old_start()) + usize::from(old_lines == 0);
        let new_start = number(hunk.new_start()) + usize::from(new_lines == 0);
        hunks.push(Hunk { old_start, old_lines, new_start, new_lines });
    }
    Ok(Some(hunks))
}

/// Returns what the file that `commit` has at `path` was called in `parent`, and its content there.
fn renamed_from(
    git: &Repository,
    commit: &Commit<'_>,
    parent: &Commit<'_>,
    path: &[u8],
) -> Result<Option<(Vec<u8>, Oid)>, git2::Error> {
    let mut diff = git.diff_tree_to_tree(Some(&parent.tree()?), Some(&commit.tree()?), None)?;
    diff.find_similar(Some(DiffFindOptions::new().renames(true).rename_limit(RENAMES_MAX)))?;
    let renamed = diff.deltas().find(|delta| {
        matches!(delta.status(), Delta::Renamed | Delta::Copied) && delta.new_file().path_bytes() == Some(path)
    });
    Ok(renamed.and_then(|delta| Some((delta.old_file().path_bytes()?.to_vec(), delta.old_file().id()))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(lines: &[u8]) -> String {
        lines.iter().map(|line| format!("{}\n", char::from(b'a' + line % 4))).collect()
    }

    proptest! {
        /// Whatever is said to be in the old version is there, letter for letter.
        #[test]
        fn lines_that_are_passed_back_are_the_same(
            old in proptest::collection::vec(0_u8..4, 0..12),
            new in proptest::collection::vec(0_u8..4, 1..12),
        ) {
            let dir = tempfile::TempDir::new().unwrap();
            let git = Repository::init(dir.path()).unwrap();
            let ids = [&old, &new].map(|lines| git.blob(text(lines).as_bytes()).unwrap());
            let hunks = hunks(&git, ids[0], ids[1]).unwrap().unwrap();
            let lines: Vec<Line> = (1..=new.len()).map(|line| (line, line)).collect();
            let (inside, outside) = split(&lines, &hunks);
            prop_assert_eq!(inside.len() + outside.len(), new.len());
            for (there, now) in outside {
                prop_assert_eq!(old[there - 1], new[now - 1]);
            }
            let changed: usize = hunks.iter().map(|hunk| hunk.new_lines).sum();
            prop_assert_eq!(inside.len(), changed);
        }
    }
}
