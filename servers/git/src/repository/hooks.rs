//! The hooks that a repository has for commits, which are never run.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::OpenRepository;
use crate::Git;

/// What git itself would run before it commits.
const HOOKS: &[&str] = &["pre-commit", "commit-msg"];

/// Returns `not_allowed` when the repository has a hook that git would have run, else `none`.
#[must_use]
pub fn of(server: &Git, repository: &OpenRepository) -> &'static str {
    let configured = repository.git.config().and_then(|config| config.get_string("core.hookspath")).ok();
    let folder = match configured {
        Some(path) => repository.worktree.join(path),
        None => repository.git.commondir().join("hooks"),
    };
    // Of what is outside, not even whether it is there is told.
    let is_hook = |name: &&str| {
        let path = folder.join(name);
        server.roots.contain(&path)
            && fs::metadata(&path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if HOOKS.iter().any(is_hook) { "not_allowed" } else { "none" }
}
