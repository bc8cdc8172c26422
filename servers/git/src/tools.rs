//! The tools, one file each.

pub mod add;
pub mod audit_trail;
pub mod blame;
pub mod branch;
pub mod checkout;
pub mod commit;
pub mod create_branch;
pub mod delete_branch;
pub mod diff;
pub mod diff_staged;
pub mod diff_unstaged;
pub mod fetch;
pub mod log;
pub mod merge;
pub mod merge_preview;
pub mod pull;
pub mod push;
pub mod reset;
pub mod revert;
pub mod show;
pub mod stash;
pub mod status;
pub mod worktree_add;
pub mod worktree_list;
pub mod worktree_remove;

use tollgate_shared::serve::tool::Toolbox;

use crate::Git;

/// Returns every tool, in the order in which they are listed.
#[must_use]
pub fn toolbox() -> Toolbox<Git> {
    Toolbox::new(vec![
        status::tool(),
        log::tool(),
        diff::tool(),
        diff_unstaged::tool(),
        diff_staged::tool(),
        show::tool(),
        branch::tool(),
        blame::tool(),
        audit_trail::tool(),
        add::tool(),
        commit::tool(),
        create_branch::tool(),
        checkout::tool(),
        reset::tool(),
        revert::tool(),
        stash::tool(),
        delete_branch::tool(),
        merge_preview::tool(),
        merge::tool(),
        fetch::tool(),
        pull::tool(),
        push::tool(),
        worktree_add::tool(),
        worktree_list::tool(),
        worktree_remove::tool(),
    ])
}
