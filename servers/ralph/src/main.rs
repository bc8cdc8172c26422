//! `mcp-ralph`: the verifier as an MCP server over stdio, and as a command.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = tollgate_shared::sandbox::divert() {
        return code;
    }
    mcp_ralph::cli::main()
}
