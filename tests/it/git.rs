//! Attacks beside uses of mcp-git.

mod attacks;
mod confinement;
mod merges;
mod programs;
mod races;
mod reads;
mod remotes;
mod uses;
mod worktrees;
mod world;
