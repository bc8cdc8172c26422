//! The work queue: tasks that wait to be done, who holds which, and what became of them.
//!
//! What a task does is a session's ([`crate::task`]); here is only who drives it, so that something else can.

pub mod alarm;
pub mod check;
pub mod config;
mod database;
mod decide;
pub mod event;
pub mod file;
pub mod lease;
mod lines;
pub mod overview;
pub mod store;
pub mod task;
pub mod template;
pub mod upgrade;
pub mod webhook;
