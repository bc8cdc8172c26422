//! `orchestrator`: the MCP client over the Tollgate servers and any others.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Acceptance commands are confined by this program, started once more.
    if let Some(code) = tollgate_shared::sandbox::divert() {
        return code;
    }
    orchestrator::cli::main()
}
