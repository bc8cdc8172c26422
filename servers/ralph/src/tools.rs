//! The tools, one file each.

pub mod clear_cache;
pub mod list_checks;
pub mod verify_batch;
pub mod verify_changes;
pub mod verify_file;
