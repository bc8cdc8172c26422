//! Attacks beside uses of mcp-deploy.

mod approvals;
mod attacks;
mod crash;
mod gates;
mod host;
mod matrix;
mod people;
mod service;
mod sshd;
mod targets;
mod trouble;
mod uses;
mod world;
