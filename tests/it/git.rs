//! Attacks beside uses of mcp-git.

mod attack_table;
mod attacks;
mod confinement;
mod endless;
mod gate;
mod gate_end_to_end;
mod git_servers;
mod history;
mod hooks;
mod killed;
mod merges;
mod network;
mod programs;
mod races;
mod reads;
mod remotes;
mod signing;
mod stashes;
mod states;
mod use_table;
mod uses;
mod worktrees;
mod world;
