//! `orchestrator bridge`: the task's tools over stdio, for agents that take no MCP servers over HTTP.
//!
//! It runs where the agent does, in the sandbox: it reads no configuration and has nothing but its two variables.

use std::io::{stdin, stdout};
use std::process::ExitCode;

use tollgate_shared::error_chain::Chain;
use tollgate_shared::serve::EXIT_USAGE;

use crate::gateway::lines::{ADDRESS_VARIABLE, TOKEN_VARIABLE, relay};

/// Carries lines until stdin or the run ends.
pub(super) fn run() -> ExitCode {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let Ok(address) = variable(ADDRESS_VARIABLE).parse() else {
        let hint = "agents are given both variables of it by `orchestrator run --agent acp:NAME`";
        eprintln!("orchestrator: bridge: {ADDRESS_VARIABLE} is not set to an address; {hint}");
        return ExitCode::from(EXIT_USAGE);
    };
    match relay(address, &variable(TOKEN_VARIABLE), stdin(), stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orchestrator: bridge: {}: {}; {}", error.code(), Chain(&error), error.hint());
            ExitCode::FAILURE
        }
    }
}
