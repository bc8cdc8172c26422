//! Whether one commit comes before another, by what the commits themselves say.
//!
//! libgit2 asks the commit-graph file, which is faster, and which whoever can write it makes say anything: a branch could
//! be moved to where its commits are lost, as if it were moved forward.

use std::collections::{BinaryHeap, HashSet};

use git2::{Oid, Repository};

/// Returns whether `old` is `new` or one of the commits before it.
///
/// # Errors
///
/// When a commit cannot be read; one beyond the edge of a shallow clone is no error.
pub fn is_before(git: &Repository, old: Oid, new: Oid) -> Result<bool, git2::Error> {
    let mut seen = HashSet::from([new]);
    // The newest first: what is looked for is rarely far back.
    let mut waiting = BinaryHeap::from([(i64::MAX, new)]);
    while let Some((_, id)) = waiting.pop() {
        if id == old {
            return Ok(true);
        }
        let commit = match git.find_commit(id) {
            Ok(commit) => commit,
            Err(_) if id != new => continue,
            Err(error) => return Err(error),
        };
        for parent in commit.parent_ids() {
            if seen.insert(parent) {
                let at = git.find_commit(parent).map_or(i64::MIN, |parent| parent.time().seconds());
                waiting.push((at, parent));
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use git2::{Signature, Time};

    use super::*;

    #[test]
    fn commits_come_before_what_is_built_on_them_whatever_their_times() {
        let dir = tempfile::TempDir::new().unwrap();
        let git = Repository::init(dir.path()).unwrap();
        let tree = git.find_tree(git.treebuilder(None).unwrap().write().unwrap()).unwrap();
        let commit = |at: i64, parents: &[Oid]| {
            let who = Signature::new("a", "a@example.com", &Time::new(at, 0)).unwrap();
            let parents: Vec<_> = parents.iter().map(|id| git.find_commit(*id).unwrap()).collect();
            git.commit(None, &who, &who, "x", &tree, &parents.iter().collect::<Vec<_>>()).unwrap()
        };
        let first = commit(500, &[]);
        let left = commit(100, &[first]);
        let right = commit(900, &[first]);
        let merge = commit(50, &[left, right]);
        let other = commit(50, &[]);
        for (old, new, expected) in [
            (first, merge, true),
            (left, merge, true),
            (right, merge, true),
            (merge, merge, true),
            (merge, first, false),
            (left, right, false),
            (other, merge, false),
        ] {
            assert_eq!(is_before(&git, old, new).unwrap(), expected);
        }
    }
}
