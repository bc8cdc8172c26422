//! The world that the tests of the whole bundle run in.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "this package is test code, where a panic is a failure"
)]

pub mod authority;
pub mod corpus;
pub mod database_servers;
pub mod mcp_process;
pub mod measured;
pub mod provider;
pub mod shop;
pub mod world;
