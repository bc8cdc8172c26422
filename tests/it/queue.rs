//! The work queue: files in and out, and one behaviour on two engines.

mod engines;
mod files;
mod leases;
