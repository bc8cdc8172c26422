//! Texts put together from pieces that hide one thing in another: each byte picks one.

#![no_main]

#[path = "../agreement.rs"]
mod agreement;
#[path = "../judge.rs"]
mod judge;
#[path = "../pieces.rs"]
mod pieces;

use libfuzzer_sys::fuzz_target;
use mcp_database::statement::{ReadStatement, Rules, Syntax};

fuzz_target!(|picks: &[u8]| judge::check(&pieces::text(picks.iter().map(|pick| usize::from(*pick)))));
