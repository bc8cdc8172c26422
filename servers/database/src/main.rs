//! The program `mcp-database`: read-only guarded queries, as an MCP server over stdio.

use std::process::ExitCode;

fn main() -> ExitCode {
    tollgate_shared::serve::run::<mcp_database::Database>(env!("CARGO_PKG_VERSION"))
}
