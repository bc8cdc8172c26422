//! Any text.

#![no_main]

#[path = "../agreement.rs"]
mod agreement;
#[path = "../judge.rs"]
mod judge;

use libfuzzer_sys::fuzz_target;
use mcp_database::statement::{ReadStatement, Rules, Syntax};

fuzz_target!(|text: &str| judge::check(text));
