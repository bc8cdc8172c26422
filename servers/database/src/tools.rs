//! The tools, one file each.

pub mod clear_cache;
pub mod describe_table;
pub mod explain;
pub mod list_databases;
pub mod list_tables;
pub mod pool_stats;
pub mod query;
pub mod validate_query;

use tollgate_shared::serve::tool::Toolbox;

use crate::Database;

/// Returns every tool, in the order in which they are listed.
#[must_use]
pub fn toolbox() -> Toolbox<Database> {
    Toolbox::new(vec![
        list_databases::tool(),
        list_tables::tool(),
        describe_table::tool(),
        query::tool(),
        validate_query::tool(),
        explain::tool(),
        pool_stats::tool(),
        clear_cache::tool(),
    ])
}
