//! The MCP client over the Tollgate servers and any others: it merges their tools into one catalogue
//! and their costs into one ledger, and runs an agent over them.

pub mod agent;
pub mod budget;
pub mod catalogue;
pub mod cli;
pub mod config;
pub mod fleet;
pub mod gateway;
pub mod hosts;
pub mod model;
pub mod oauth;
pub mod queue;
pub mod report;
pub mod router;
pub mod session;
pub mod task;
pub mod team;
pub mod telemetry;
pub mod worker;
