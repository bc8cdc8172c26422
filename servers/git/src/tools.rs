//! The tools, one file each.

pub mod add;
pub mod checkout;
pub mod commit;
pub mod create_branch;
pub mod diff;
pub mod log;
pub mod status;

use tollgate_shared::serve::tool::Toolbox;

use crate::Git;

/// Returns every tool, in the order in which they are listed.
#[must_use]
pub fn toolbox() -> Toolbox<Git> {
    Toolbox::new(vec![
        status::tool(),
        log::tool(),
        diff::tool(),
        add::tool(),
        commit::tool(),
        create_branch::tool(),
        checkout::tool(),
    ])
}
