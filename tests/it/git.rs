//! Attacks beside uses of mcp-git.

mod attacks;
mod confinement;
mod programs;
mod races;
mod uses;
mod world;
