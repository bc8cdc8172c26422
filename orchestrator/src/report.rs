//! Tables for people, JSON and CSV for programs.

pub mod costs;
pub mod forecast;
pub mod outcome;
pub mod queue;
pub mod run;
pub mod session;
pub mod table;
pub mod task;
pub mod tools;
