//! Attacks beside uses of mcp-database.

mod attacks;
mod limits;
mod mysql;
mod postgres;
mod uses;
mod world;
