//! The work queue: files in and out, and one behaviour on two engines.

mod alarms;
pub(crate) mod engines;
mod events;
mod files;
mod leases;
mod webhooks;
