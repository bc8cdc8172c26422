//! The program `mcp-git`: git under protected-branch rules, as an MCP server over stdio.

use std::process::ExitCode;

fn main() -> ExitCode {
    tollgate_shared::serve::run::<mcp_git::Git>(env!("CARGO_PKG_VERSION"))
}
