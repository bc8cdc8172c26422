//! The program `mcp-database`: read-only guarded queries, as an MCP server over stdio.

use std::process::ExitCode;

/// A parser makes many small things.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tollgate_shared::serve::run::<mcp_database::Database>(env!("CARGO_PKG_VERSION"))
}
