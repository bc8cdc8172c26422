//! `mcp-ralph`: the verifier as an MCP server over stdio.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = tollgate_shared::sandbox::divert() {
        return code;
    }
    tollgate_shared::serve::run::<mcp_ralph::Ralph>(env!("CARGO_PKG_VERSION"))
}
