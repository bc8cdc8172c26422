//! The append-only, hash-chained record of every call and every decision.
//!
//! One SQLite file, written by several processes at once. [`chain`] says how entries hang
//! together, [`store`] appends and reads them, [`verify`] finds what was tampered with,
//! [`verified`] what Ralph said about a tree.

mod append;
pub mod chain;
pub mod store;
pub mod verified;
pub mod verify;

pub use chain::{Head, NewEntry, StoredEntry};
pub use store::{Ledger, LedgerError};
pub use verify::{Fault, Verification, verify};

#[cfg(test)]
mod tests;
