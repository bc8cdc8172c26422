//! `mcp-deploy`: gated deployments over MCP, and the desk of those who approve them.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = tollgate_shared::sandbox::divert() {
        return code;
    }
    mcp_deploy::cli::main()
}
