//! Attacks beside uses of mcp-database.

mod attacks;
mod corpora;
mod down;
mod limits;
mod masking;
mod mysql;
mod postgres;
mod types;
mod uses;
mod world;
