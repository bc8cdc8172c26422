//! `mcp-deploy`: gated deployments over MCP.

use std::process::ExitCode;

fn main() -> ExitCode {
    tollgate_shared::serve::run::<mcp_deploy::Deploy>(env!("CARGO_PKG_VERSION"))
}
