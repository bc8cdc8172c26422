//! The whole bundle, driven from outside over stdio.
#![allow(clippy::unwrap_used, reason = "a panic is a failure")]

mod answers;
mod budgets;
mod commands;
mod database;
mod deploy;
mod gateway;
mod git;
mod hosts;
mod house;
mod ledger;
mod oauth;
mod orchestrator;
mod protocol;
mod questions;
mod queue;
mod ralph;
mod readme;
mod sandbox;
mod schemas;
mod task;
mod telemetry;
mod terminal;
mod worker;
