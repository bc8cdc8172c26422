//! How busy a database is.

use std::sync::atomic::{AtomicU64, Ordering};

use schemars::JsonSchema;
use serde::Serialize;
use tollgate_shared::receipt::Outcome;
use tollgate_shared::refusal::Refusal;

use super::Queried;
use crate::cache::CacheStatistics;

/// What became of the queries since the server started.
#[derive(Debug, Default)]
pub(super) struct Counters {
    answered: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
    cancelled: AtomicU64,
}

/// How busy a database is, since the server started.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PoolStatistics {
    /// Queries that run now.
    pub running: usize,
    /// How many run at once at most; others wait.
    pub running_max: usize,
    /// Connections to the server; left out for files, which are opened for each query.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerConnections>,
    /// Queries that were answered.
    pub answered: u64,
    /// Queries that a rule refused.
    pub refused: u64,
    /// Queries that failed otherwise.
    pub failed: u64,
    /// Queries that took too long.
    pub timed_out: u64,
    /// Queries that were answered with rows that were there already.
    pub cache_hits: u64,
    /// Queries that were not.
    pub cache_misses: u64,
    /// Answers that are kept.
    pub cached_answers: usize,
}

/// The connections to a server.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ServerConnections {
    /// Connections that wait for a query.
    pub idle: usize,
    /// Connections opened since the server started.
    pub opened: u64,
}

impl Counters {
    pub(super) fn count(&self, result: &Result<Queried, Refusal>) {
        let counter = match result {
            Ok(_) => &self.answered,
            Err(refusal) if refusal.code == "timeout" => &self.timed_out,
            Err(refusal) => match refusal.outcome {
                Outcome::Refused => &self.refused,
                Outcome::Cancelled => &self.cancelled,
                _ => &self.failed,
            },
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn statistics(
        &self,
        running: usize,
        running_max: usize,
        server: Option<ServerConnections>,
        cache: CacheStatistics,
    ) -> PoolStatistics {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PoolStatistics {
            running,
            running_max,
            server,
            answered: load(&self.answered),
            refused: load(&self.refused),
            failed: load(&self.failed),
            timed_out: load(&self.timed_out),
            cache_hits: cache.hits,
            cache_misses: cache.misses,
            cached_answers: cache.entries,
        }
    }
}
