//! Attacks beside uses of mcp-git.

mod attacks;
mod confinement;
mod endless;
mod gate;
mod git_servers;
mod history;
mod merges;
mod network;
mod programs;
mod races;
mod reads;
mod remotes;
mod signing;
mod stashes;
mod uses;
mod worktrees;
mod world;
