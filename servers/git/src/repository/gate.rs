//! The gate of a protected branch that takes merges: only trees that Ralph has passed come through.

use std::fs;

use git2::{Oid, Repository};
use tollgate_shared::ledger::verified::{self, TreeQuery, TreeVerdict};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::Call;

use super::head::Head;
use crate::Git;
use crate::branch_name::quoted;
use crate::git_error::failed;
use crate::patience::Patience;
use crate::protect::{GatedBranch, MergeTarget, ResolvedBranch, TreePass, WritableBranch};

/// A merge's branch, with what still has to be shown before it may be written.
pub struct Gate {
    target: MergeTarget,
}

impl Gate {
    /// Finds out what a merge into the branch that `head` leads to needs.
    ///
    /// # Errors
    ///
    /// `protected_branch`, `detached_head`.
    pub fn of_head(server: &Git, git: &Repository, head: &Head) -> Result<Self, Refusal> {
        if let Head::Branch { branch, tip: Some(_), .. } = head
            && let Some(gated) = server.protected.gated(branch.clone())
        {
            return Ok(Self { target: MergeTarget::Gated(gated) });
        }
        server.permit_head(git, head).map(|branch| Self { target: MergeTarget::Open(branch) })
    }

    /// Returns the branch.
    #[must_use]
    pub fn branch(&self) -> &ResolvedBranch {
        match &self.target {
            MergeTarget::Open(branch) => branch.branch(),
            MergeTarget::Gated(gated) => gated.branch(),
        }
    }

    /// Returns the branch when it is not protected at all.
    ///
    /// # Errors
    ///
    /// `protected_branch`.
    pub fn open(&self) -> Result<WritableBranch, Refusal> {
        match &self.target {
            MergeTarget::Open(branch) => Ok(branch.clone()),
            MergeTarget::Gated(gated) => Err(gated.protected().into()),
        }
    }

    /// Permits the branch for a commit with exactly `tree`, in the place of one with the tree `replaces`.
    ///
    /// Returns what the verdict was in the ledger too, where one was needed.
    ///
    /// # Errors
    ///
    /// `verdict_required`.
    pub fn permit(
        &self,
        server: &Git,
        git: &Repository,
        tree: Oid,
        replaces: Oid,
        call: &Call,
    ) -> Result<(WritableBranch, Option<String>), Refusal> {
        let gated = match &self.target {
            MergeTarget::Open(branch) => return Ok((branch.clone(), None)),
            MergeTarget::Gated(gated) => gated,
        };
        if !gated.needs_verdict() {
            return Ok((gated.permit(None)?, None));
        }
        let query = TreeQuery {
            repository: identity(git)?,
            tree: tree.to_string(),
            replaces: vec![replaces.to_string()],
            configuration: server.ralph_rules,
        };
        let patience = Patience::of(call);
        let verdict = verified::look_up(&call.house().ledger.path(), &query, &|| patience.is_over())
            .map_err(|error| Refusal::failed("ledger_unavailable", error.to_string(), "try again"))?;
        match verdict {
            TreeVerdict::Pass(entry) => {
                let pass = TreePass::of(tree);
                Ok((gated.permit(Some(&pass))?, Some(entry.to_string())))
            }
            other => Err(verdict_required(gated, &other, tree)),
        }
    }
}

/// Returns what tells one repository from another, for all its worktrees: where their common git directory really is.
fn identity(git: &Repository) -> Result<String, Refusal> {
    let path = fs::canonicalize(git.commondir()).map_err(|error| {
        Refusal::failed("git_failed", format!("cannot tell where the repository is: {error}"), "call again")
    })?;
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| failed("tell where the repository is")(git2::Error::from_str("its path is not UTF-8")))
}

fn verdict_required(gated: &GatedBranch, verdict: &TreeVerdict, tree: Oid) -> Refusal {
    let branch = gated.branch().name();
    let why = match verdict {
        TreeVerdict::Pass(_) | TreeVerdict::Missing => "Ralph has not verified it".to_owned(),
        TreeVerdict::NotPass(word) => format!("Ralph's newest verdict on it is {}", quoted(word)),
        TreeVerdict::Outdated => "it passed under rules that are no longer in force".to_owned(),
        TreeVerdict::OtherBase => {
            format!("it was verified against another state than the present one of {}", quoted(branch))
        }
        TreeVerdict::Broken(fault) => format!("the ledger cannot be relied on: {fault}"),
    };
    let hint = match verdict {
        TreeVerdict::Broken(_) => "have a human run `orchestrator audit verify`".to_owned(),
        _ => format!(
            "merge {branch} into your branch, commit everything, call verify_changes of mcp-ralph there with `base` {branch} and \
             all checks, then merge"
        ),
    };
    Refusal::refused(
        "verdict_required",
        format!("{} takes merges of verified content only, and of the tree {tree}: {why}", quoted(branch)),
        hint,
    )
    .with_detail("branch", branch)
    .with_detail("tree", tree.to_string())
}
