//! Attacks beside uses of mcp-deploy.

mod abuse;
mod approvals;
mod attacks;
mod cluster;
mod compose;
mod crash;
mod docker;
mod gates;
mod host;
mod kubernetes;
mod matrix;
mod once;
mod people;
mod service;
mod sshd;
mod targets;
mod trouble;
mod uses;
mod world;
