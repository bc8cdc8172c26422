//! What a release changes against the one before, file by file.

use schemars::JsonSchema;
use serde::Serialize;

use crate::tree::Tree;

/// Most files that are named of each kind.
const NAMED_MAX: usize = 50;

/// The files that differ between two trees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Diff {
    /// Files that are new; at most 50 are named.
    pub added: Vec<String>,
    /// Files with other content or mode.
    pub changed: Vec<String>,
    /// Files that are gone.
    pub removed: Vec<String>,
    /// How many more there are than are named.
    pub left_out: usize,
}

impl Diff {
    /// Compares `after` with what was before; without that, everything is new.
    #[must_use]
    pub fn new(before: Option<&Tree>, after: &Tree) -> Self {
        let before = before.map(Tree::files).unwrap_or_default();
        let after = after.files();
        let mut diff = Self::default();
        for (path, file) in &after {
            match before.get(path) {
                None => diff.added.push(path.clone()),
                Some(other) if other != file => diff.changed.push(path.clone()),
                Some(_) => {}
            }
        }
        diff.removed = before.keys().filter(|path| !after.contains_key(*path)).cloned().collect();
        for names in [&mut diff.added, &mut diff.changed, &mut diff.removed] {
            diff.left_out += names.len().saturating_sub(NAMED_MAX);
            names.truncate(NAMED_MAX);
        }
        diff
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;
    use crate::tree::{Modes, read};

    #[test]
    fn content_and_modes_count() {
        let (before, after) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        for (folder, files) in
            [(&before, ["same", "other", "mode", "gone"]), (&after, ["same", "other", "mode", "new"])]
        {
            fs::create_dir(folder.path().join("d")).unwrap();
            for file in files {
                fs::write(folder.path().join("d").join(file), file).unwrap();
            }
        }
        fs::write(after.path().join("d/other"), "changed").unwrap();
        fs::set_permissions(after.path().join("d/mode"), fs::Permissions::from_mode(0o755)).unwrap();
        let tree = |dir: &TempDir| read(File::open(dir.path()).unwrap(), Modes::Artifact, &[], &|| false).unwrap();
        let diff = Diff::new(Some(&tree(&before)), &tree(&after));
        assert_eq!(
            (diff.added, diff.changed, diff.removed),
            (vec!["d/new".into()], vec!["d/mode".into(), "d/other".into()], vec!["d/gone".into()])
        );
        assert_eq!(Diff::new(None, &tree(&after)).added.len(), 4);
        for number in 0..120 {
            fs::write(after.path().join(format!("{number}")), "").unwrap();
        }
        let many = Diff::new(Some(&tree(&before)), &tree(&after));
        assert_eq!((many.added.len(), many.left_out), (NAMED_MAX, 121 - NAMED_MAX));
    }
}
