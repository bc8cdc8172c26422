//! Attacks beside uses of mcp-deploy.

mod attacks;
mod crash;
mod uses;
mod world;
