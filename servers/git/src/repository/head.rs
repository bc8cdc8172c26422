//! Where HEAD leads.

use git2::{ErrorCode, Oid, ReferenceType, Repository};
use tollgate_shared::refusal::Refusal;

use crate::git_error::failed;
use crate::protect::ResolvedBranch;

/// Longest chain of symbolic refs that is followed; real ones have one link, and libgit2 itself stops at ten.
const HOPS_MAX: usize = 8;

/// Where HEAD leads, with every symbolic ref on the way followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// To a branch.
    Branch {
        /// The names on the way after HEAD, the branch's own last.
        chain: Vec<String>,
        /// The branch at the end.
        branch: ResolvedBranch,
        /// Its commit; `None` when the branch has none yet.
        tip: Option<Oid>,
    },
    /// To a commit.
    Detached(Oid),
}

impl Head {
    /// Follows HEAD of `repository`.
    ///
    /// # Errors
    ///
    /// `unsupported_head` when HEAD leads to something that is no branch, or in a circle.
    pub fn resolve(repository: &Repository) -> Result<Self, Refusal> {
        let mut chain: Vec<String> = Vec::new();
        loop {
            let name = chain.last().map_or("HEAD", String::as_str);
            let tip = match repository.find_reference(name) {
                Ok(reference) if reference.kind() == Some(ReferenceType::Symbolic) => {
                    let target = reference.symbolic_target().ok().flatten();
                    let target = target.ok_or_else(|| unsupported("a name on the way is not UTF-8"))?.to_owned();
                    if chain.len() >= HOPS_MAX {
                        return Err(unsupported("the symbolic refs that it leads through do not end"));
                    }
                    chain.push(target);
                    continue;
                }
                Ok(reference) => reference.target(),
                Err(error) if error.code() == ErrorCode::NotFound => None,
                Err(error) => return Err(failed("follow HEAD")(error)),
            };
            return match (chain.is_empty(), tip) {
                (true, Some(commit)) => Ok(Self::Detached(commit)),
                (true, None) => Err(unsupported("it is missing")),
                (false, tip) => {
                    let branch = ResolvedBranch::at_the_end_of_a_chain(name)
                        .ok_or_else(|| unsupported("it leads to a ref that is no local branch"))?;
                    Ok(Self::Branch { chain, branch, tip })
                }
            };
        }
    }

    /// Returns the commit that HEAD stands for; `None` when there is none yet.
    #[must_use]
    pub fn commit(&self) -> Option<Oid> {
        match self {
            Self::Branch { tip, .. } => *tip,
            Self::Detached(commit) => Some(*commit),
        }
    }
}

/// Checks that HEAD can lead to `full_name`: what that leads to in turn is a branch, and not HEAD again.
///
/// # Errors
///
/// `unsupported_head`.
pub fn refuse_circle(repository: &Repository, full_name: &str) -> Result<(), Refusal> {
    let mut name = full_name.to_owned();
    for _ in 0..HOPS_MAX {
        let Ok(reference) = repository.find_reference(&name) else { return Ok(()) };
        if reference.kind() != Some(ReferenceType::Symbolic) {
            return Ok(());
        }
        let target = reference.symbolic_target().ok().flatten().and_then(ResolvedBranch::at_the_end_of_a_chain);
        name =
            target.ok_or_else(|| unsupported("the branch leads to a ref that is no local branch"))?.full().to_owned();
    }
    Err(unsupported("the symbolic refs that the branch leads through do not end"))
}

fn unsupported(why: &str) -> Refusal {
    Refusal::refused("unsupported_head", format!("HEAD cannot be used: {why}"), "have a human point HEAD at a branch")
}
