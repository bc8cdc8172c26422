//! The tools, one file each.

pub mod cancel;
pub mod deploy;
pub mod history;
pub mod list_environments;
pub mod plan;
pub mod rollback;
pub mod status;

use tollgate_shared::serve::tool::Toolbox;

use crate::Deploy;

/// Returns every tool, in the order in which they are listed.
#[must_use]
pub fn toolbox() -> Toolbox<Deploy> {
    Toolbox::new(vec![
        list_environments::tool(),
        plan::validate_tool(),
        plan::plan_tool(),
        deploy::tool(),
        status::tool(),
        history::tool(),
        rollback::tool(),
        cancel::tool(),
    ])
}
