//! The folders that repositories may be in.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use tollgate_shared::refusal::Refusal;

use crate::branch_name::quoted;
use crate::repository::confine::Fingerprint;
use crate::repository::kept::Handles;

/// Longest path that is looked at: what Linux takes.
pub const PATH_BYTES_MAX: usize = 4096;

/// How many git directories are remembered; fleets have tens.
const CHECKED_MAX: usize = 256;

/// The folders that the operator opened to agents; nothing outside them is read or written.
#[derive(Debug)]
pub struct Roots {
    workspace: PathBuf,
    configured: Vec<PathBuf>,
    /// Resolved once: a root that somebody replaces with a symbolic link afterwards leads nowhere new.
    resolved: Vec<OnceLock<PathBuf>>,
    /// Git directories in which nothing leads anywhere, and what they looked like then.
    checked: Mutex<HashMap<PathBuf, Fingerprint>>,
    handles: Handles,
}

/// A folder that exists, without symbolic links, at or below a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderInRoot {
    path: PathBuf,
    root: PathBuf,
}

impl Roots {
    /// Takes the roots as configured, relative to `workspace`; looks at none of them yet.
    #[must_use]
    pub fn new(workspace: PathBuf, configured: &[String]) -> Self {
        let configured: Vec<PathBuf> = configured.iter().map(|root| workspace.join(root)).collect();
        let resolved = configured.iter().map(|_| OnceLock::new()).collect();
        Self { workspace, configured, resolved, checked: Mutex::default(), handles: Handles::default() }
    }

    /// Resolves the folder that a caller named, relative to the workspace; the first root when none was named.
    ///
    /// # Errors
    ///
    /// `path_outside_root`, also for what does not exist outside: what is there is nobody's business.
    pub fn resolve(&self, written: Option<&str>) -> Result<FolderInRoot, Refusal> {
        let wanted = match written {
            Some(text) if text.is_empty() || text.len() > PATH_BYTES_MAX || text.contains('\0') => {
                return Err(Refusal::refused(
                    "invalid_path",
                    format!("`repo_path` {} is not a path", quoted(text)),
                    "give the path of a repository, or leave `repo_path` out",
                ));
            }
            Some(text) => self.workspace.join(text),
            None => self.configured.first().cloned().unwrap_or_else(|| self.workspace.clone()),
        };
        let shown = written.unwrap_or(".");
        let Ok(path) = fs::canonicalize(&wanted) else {
            return Err(if self.reads_as_inside(&wanted) {
                Refusal::refused(
                    "not_a_repository",
                    format!("{} does not exist", quoted(shown)),
                    "give the path of a folder with a git repository, or leave `repo_path` out",
                )
            } else {
                self.outside(shown)
            });
        };
        let root = self.root_of(&path).ok_or_else(|| self.outside(shown))?.to_owned();
        Ok(FolderInRoot { path, root })
    }

    /// Returns whether `path` exists and, with every symbolic link followed, is at or below a root.
    #[must_use]
    pub fn contain(&self, path: &Path) -> bool {
        fs::canonicalize(path).is_ok_and(|path| self.root_of(&path).is_some())
    }

    /// Returns the roots that exist, without symbolic links.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        self.resolved().map(Path::to_owned).collect()
    }

    /// Returns whether the git directory `own` looks as it did when nothing in it led anywhere.
    #[must_use]
    pub fn is_checked(&self, own: &Path, now: &Fingerprint) -> bool {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).get(own) == Some(now)
    }

    /// Notes that nothing in the git directory `own` leads anywhere while it looks like `now`.
    pub fn note_checked(&self, own: &Path, now: Fingerprint) {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.len() >= CHECKED_MAX {
            checked.clear();
        }
        checked.insert(own.to_owned(), now);
    }

    /// Returns the handles that wait for the next call that only reads.
    #[must_use]
    pub fn handles(&self) -> &Handles {
        &self.handles
    }

    /// The refusal of a path, named `what`, that is outside every root.
    #[must_use]
    pub fn outside(&self, what: &str) -> Refusal {
        let roots: Vec<String> = self.configured.iter().map(|root| root.display().to_string()).collect();
        Refusal::refused(
            "path_outside_root",
            format!("{} is outside the folders that this server may use", quoted(what)),
            format!("use a repository below {}, or have the operator extend `git.repositories`", roots.join(", ")),
        )
    }

    /// Returns the root that the resolved path `path` is in.
    fn root_of(&self, path: &Path) -> Option<&Path> {
        self.resolved().find(|root| path.starts_with(root))
    }

    fn resolved(&self) -> impl Iterator<Item = &Path> {
        self.configured.iter().zip(&self.resolved).filter_map(|(configured, resolved)| match resolved.get() {
            Some(path) => Some(path.as_path()),
            None => {
                let path = fs::canonicalize(configured).ok()?;
                Some(resolved.get_or_init(|| path).as_path())
            }
        })
    }

    fn reads_as_inside(&self, path: &Path) -> bool {
        path.components().all(|component| component != Component::ParentDir)
            && self
                .configured
                .iter()
                .map(PathBuf::as_path)
                .chain(self.resolved())
                .any(|root| path.starts_with(root.components().as_path()))
    }
}

impl FolderInRoot {
    /// Returns the folder and those above it, up to and with its root.
    pub fn upward(&self) -> impl Iterator<Item = &Path> {
        self.path.ancestors().take_while(|folder| folder.starts_with(&self.root))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn world() -> (TempDir, Roots) {
        let dir = TempDir::new().unwrap();
        for folder in ["work/a/b", "work/c", "outside/x", "workshop"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        symlink("../outside", dir.path().join("work/link")).unwrap();
        symlink("a", dir.path().join("work/inner")).unwrap();
        let roots = Roots::new(dir.path().join("work"), &[".".into()]);
        (dir, roots)
    }

    #[test]
    fn paths_that_lead_outside_are_refused() {
        let (dir, roots) = world();
        let absolute = dir.path().join("outside").display().to_string();
        let paths = [
            "..",
            "../outside",
            "a/../../outside",
            "link",
            "link/x",
            "/",
            "/etc",
            "/nonexistent",
            "../workshop",
            "../nonexistent",
            "a/../../nonexistent",
            "inner/../../outside",
            &absolute,
        ];
        for path in paths {
            assert_eq!(roots.resolve(Some(path)).unwrap_err().code, "path_outside_root", "{path}");
        }
    }

    #[test]
    fn paths_inside_are_resolved() {
        let (dir, roots) = world();
        let real = fs::canonicalize(dir.path()).unwrap().join("work");
        let absolute = real.join("c").display().to_string();
        for (path, expected) in [
            (None, ""),
            (Some("."), ""),
            (Some("a/b"), "a/b"),
            (Some("inner/b"), "a/b"),
            (Some("a/.."), ""),
            (Some("../work/c"), "c"),
            (Some(&*absolute), "c"),
        ] {
            let expected = if expected.is_empty() { real.clone() } else { real.join(expected) };
            assert_eq!(roots.resolve(path).unwrap().path, expected, "{path:?}");
        }
    }

    #[test]
    fn paths_that_are_none_are_refused() {
        let (_dir, roots) = world();
        let long = "x".repeat(PATH_BYTES_MAX + 1);
        for path in ["", "a\0b", &long] {
            assert_eq!(roots.resolve(Some(path)).unwrap_err().code, "invalid_path");
        }
        assert_eq!(roots.resolve(Some("nothing")).unwrap_err().code, "not_a_repository");
    }

    #[test]
    fn root_replaced_by_a_link_leads_nowhere_new() {
        let (dir, roots) = world();
        roots.resolve(None).unwrap();
        fs::rename(dir.path().join("work"), dir.path().join("moved")).unwrap();
        symlink("outside", dir.path().join("work")).unwrap();
        assert_eq!(roots.resolve(None).unwrap_err().code, "path_outside_root");
    }

    #[test]
    fn search_upward_ends_at_the_root() {
        let (_dir, roots) = world();
        let folder = roots.resolve(Some("a/b")).unwrap();
        assert_eq!(folder.upward().count(), 3);
    }
}
