//! Paths of files in a working tree.

use std::path::{Component, Path, PathBuf};

use tollgate_shared::refusal::Refusal;

use crate::branch_name::quoted;
use crate::fold::folded;
use crate::roots::PATH_BYTES_MAX;

/// A path relative to the root of a working tree, which no name in it leads out of and which is not git's own.
///
/// Empty for the root itself. Says nothing about symbolic links: those are looked at where a file is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorktreePath(String);

impl WorktreePath {
    /// Reads a path that a caller gave: relative to `worktree`, or absolute inside it.
    ///
    /// # Errors
    ///
    /// `invalid_path`, `path_outside_root`, `git_directory`.
    pub fn parse(text: &str, worktree: &Path) -> Result<Self, Refusal> {
        let invalid = |fault: &str| {
            Refusal::refused(
                "invalid_path",
                format!("{} is not the path of a file: {fault}", quoted(text)),
                "give paths relative to the root of the repository",
            )
        };
        if text.is_empty() {
            return Err(invalid("it is empty"));
        }
        if text.len() > PATH_BYTES_MAX {
            return Err(invalid("it is longer than 4096 bytes"));
        }
        if text.contains('\0') {
            return Err(invalid("it has a NUL character"));
        }
        let outside = || {
            Refusal::refused(
                "path_outside_root",
                format!("{} leads out of the repository", quoted(text)),
                "give paths relative to the root of the repository, without `..`",
            )
        };
        let path = Path::new(text);
        let path = if path.is_absolute() { path.strip_prefix(worktree).map_err(|_| outside())? } else { path };
        let mut parts = Vec::new();
        for component in path.components() {
            match component {
                Component::CurDir => {}
                Component::Normal(part) => parts.push(part.to_str().ok_or_else(|| invalid("it is not UTF-8"))?),
                // Even where it would lead back inside: what `a/..` is depends on what `a` links to.
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(outside()),
            }
        }
        if parts.iter().any(|part| is_git_directory(part)) {
            return Err(Refusal::refused(
                "git_directory",
                format!("{} is in git's own directory", quoted(text)),
                "leave everything below `.git` alone",
            ));
        }
        Ok(Self(parts.join("/")))
    }

    /// Returns the path with `/` between its names; empty for the root.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the path below `worktree`.
    #[must_use]
    pub fn below(&self, worktree: &Path) -> PathBuf {
        worktree.join(&self.0)
    }

    /// Returns whether this is the root of the working tree.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

/// Returns whether some file system takes `name` for `.git`: by case, invisible characters, trailing dots and blanks,
/// streams (`.git::$INDEX_ALLOCATION`), backslashes or the short name `GIT~1`.
#[must_use]
pub fn is_git_directory(name: &str) -> bool {
    name.split('\\').any(|part| {
        let part = folded(part);
        let part = part.split(':').next().unwrap_or_default().trim_end_matches(['.', ' ']);
        let short = part.strip_prefix("git~").or_else(|| part.strip_prefix(".git~"));
        part == ".git" || short.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<WorktreePath, Refusal> {
        WorktreePath::parse(text, Path::new("/work/tree"))
    }

    #[test]
    fn paths_that_lead_outside_are_refused() {
        for path in
            ["..", "../x", "a/../../x", "a/../b", "/etc/passwd", "/", "/work", "/work/tree/../x", "/work/treehouse"]
        {
            assert_eq!(parse(path).unwrap_err().code, "path_outside_root", "{path}");
        }
    }

    #[test]
    fn the_git_directory_is_refused_however_it_is_spelt() {
        let paths = [
            ".git",
            ".git/config",
            ".GIT/hooks/pre-commit",
            ".Git",
            "sub/.git/HEAD",
            ".g\u{200c}it/config",
            "git~1",
            "GIT~1/config",
            ".git./x",
            ".git /x",
            ".git...",
            ".git::$INDEX_ALLOCATION/x",
            "a\\.git\\config",
            ".ｇit",
            "./.git",
            "/work/tree/.git/config",
            ".git:x",
        ];
        for path in paths {
            assert_eq!(parse(path).unwrap_err().code, "git_directory", "{path:?}");
        }
    }

    #[test]
    fn paths_that_are_none_are_refused() {
        let long = "x/".repeat(2049);
        for path in ["", "a\0b", &long] {
            assert_eq!(parse(path).unwrap_err().code, "invalid_path");
        }
    }

    #[test]
    fn ordinary_paths_are_taken() {
        for (path, expected) in [
            (".", ""),
            ("./", ""),
            ("a", "a"),
            ("./a//b/", "a/b"),
            ("/work/tree/a", "a"),
            ("/work/tree", ""),
            (".gitignore", ".gitignore"),
            (".github/workflows/x.yml", ".github/workflows/x.yml"),
            ("-f", "-f"),
            ("a b", "a b"),
            ("git", "git"),
            ("*.rs", "*.rs"),
            (":(top)x", ":(top)x"),
            ("ä\n", "ä\n"),
            (".gitmodules", ".gitmodules"),
            ("..a", "..a"),
            ("a..b", "a..b"),
        ] {
            assert_eq!(parse(path).unwrap().as_str(), expected, "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_stays_inside(text in "\\PC{0,30}|[./a-zA-Z~\\\\]{0,30}") {
            if let Ok(path) = parse(&text) {
                prop_assert!(path.as_str().split('/').all(|part| part != ".." && part != "."));
                prop_assert!(!path.as_str().starts_with('/'));
                prop_assert!(!path.as_str().to_lowercase().split('/').any(|part| part == ".git"));
            }
        }
    }
}
