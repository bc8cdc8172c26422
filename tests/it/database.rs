//! Attacks beside uses of mcp-database.

mod attacks;
mod limits;
mod uses;
mod world;
