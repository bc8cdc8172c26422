//! Attacks beside uses of mcp-deploy.

mod approvals;
mod attacks;
mod crash;
mod gates;
mod people;
mod uses;
mod world;
