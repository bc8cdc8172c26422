//! The program `mcp-git`: git under protected-branch rules, as an MCP server over stdio.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = tollgate_shared::sandbox::divert() {
        return code;
    }
    mcp_git::memory::bound();
    tollgate_shared::serve::run::<mcp_git::Git>(env!("CARGO_PKG_VERSION"))
}
