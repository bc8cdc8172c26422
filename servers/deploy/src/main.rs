//! `mcp-deploy`: gated deployments over MCP, and the desk of those who approve them.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_deploy::cli::main()
}
