//! What libgit2 says, as a caller can act on it.

use git2::{Error, ErrorClass, ErrorCode};
use tollgate_shared::refusal::Refusal;

use crate::branch_name::quoted;

/// Turns an error of libgit2 into the answer to a call; `doing` is what was being done: "read the index".
pub fn failed(doing: &'static str) -> impl Fn(Error) -> Refusal {
    move |error| match (error.code(), error.class()) {
        (ErrorCode::Locked, ErrorClass::Index) => index_locked(),
        (ErrorCode::Locked, _) => reference_locked(error.message()),
        (ErrorCode::Owner, _) => Refusal::refused(
            "repository_not_owned",
            format!("cannot {doing}: the repository belongs to another user"),
            "have a human change its owner, or add it to git's `safe.directory`",
        ),
        _ => Refusal::failed(
            "git_failed",
            format!("cannot {doing}: {}", error.message()),
            "see git_status for the state of the repository",
        ),
    }
}

/// Somebody else is writing the index, or died while doing so.
pub fn index_locked() -> Refusal {
    Refusal::failed(
        "index_locked",
        "another git process is writing the index, or one crashed and left `index.lock` in the git directory",
        "call again in a few seconds; when no git process is running, have a human remove `index.lock`",
    )
}

/// Somebody else is writing a ref, or died while doing so.
pub fn reference_locked(message: &str) -> Refusal {
    Refusal::failed(
        "reference_locked",
        format!("another git process is writing the branch, or one crashed and left its `.lock` file: {message}"),
        "call again in a few seconds; when no git process is running, have a human remove the `.lock` file",
    )
}

/// No commit has this name.
pub fn unknown_revision(text: &str) -> Refusal {
    Refusal::refused(
        "unknown_revision",
        format!("{} names no commit in this repository", quoted(text)),
        "use a branch, a tag or the id of a commit; git_log lists commits",
    )
}
