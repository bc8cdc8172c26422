//! `orchestrator`: the MCP client over the Tollgate servers and any others.

use std::process::ExitCode;

fn main() -> ExitCode {
    orchestrator::cli::main()
}
