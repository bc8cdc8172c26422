//! Attacks beside uses of mcp-deploy.

mod approvals;
mod attacks;
mod crash;
mod gates;
mod host;
mod people;
mod targets;
mod uses;
mod world;
