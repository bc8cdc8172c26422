//! Writing a commit, signed where the user's own configuration asks for it.

use git2::{Commit, Oid, Repository, Tree};
use tollgate_shared::refusal::Refusal;

use super::signing::SigningKey;
use crate::Git;
use crate::git_error::failed;

/// A commit that no branch leads to yet.
#[derive(Clone, Copy, Debug)]
pub struct NewCommit {
    /// Its id.
    pub id: Oid,
    /// Whether it is signed.
    pub signed: bool,
}

/// Writes a commit with `message`, `tree` and `parents`, in the name that the operator or the user configured.
///
/// # Errors
///
/// `identity_missing`; `signing_failed` when the user's configuration asks for a signature and there can be none.
pub fn write_commit(
    server: &Git,
    git: &Repository,
    message: &str,
    tree: &Tree<'_>,
    parents: &[&Commit<'_>],
) -> Result<NewCommit, Refusal> {
    let signature = server.signature(git)?;
    let Some(key) = SigningKey::of_user(git, &signature)? else {
        let id =
            git.commit(None, &signature, &signature, message, tree, parents).map_err(failed("write the commit"))?;
        return Ok(NewCommit { id, signed: false });
    };
    let content =
        git.commit_create_buffer(&signature, &signature, message, tree, parents).map_err(failed("write the commit"))?;
    let content = String::from_utf8_lossy(&content).into_owned();
    let signed = key.sign(content.as_bytes())?;
    let id = git.commit_signed(&content, &signed, None).map_err(failed("write the commit"))?;
    Ok(NewCommit { id, signed: true })
}
