//! The work queue: files in and out, and one behaviour on two engines.

pub(crate) mod engines;
mod events;
mod files;
mod leases;
