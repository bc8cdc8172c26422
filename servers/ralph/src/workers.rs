//! The threads that checks run on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::oneshot;
use tollgate_shared::refusal::Refusal;

/// Files checked at a time: parsing keeps a core busy, and an agent has other uses for the rest.
const PARALLEL_MAX: usize = 8;

/// Stack of each thread: the exact parsers recurse, by up to 20 KB for each of the levels that
/// `check/syntax/nesting.rs` lets through. Only what is used of it is ever in memory.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Threads with stacks for parsers, started by the first check.
#[derive(Debug, Default)]
pub struct Workers(OnceLock<ThreadPool>);

impl Workers {
    /// Runs `work` as soon as a thread is free; the receiver gets an error when it panics.
    ///
    /// # Errors
    ///
    /// `internal_error` when no thread can be started.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Refusal> {
        let (sender, receiver) = oneshot::channel();
        self.pool()?.spawn_fifo(move || {
            // Nobody waits any more for a call that was taken back.
            if sender.is_closed() {
                return;
            }
            // A panic would end the process.
            match catch_unwind(AssertUnwindSafe(work)) {
                Ok(result) => drop(sender.send(result)),
                Err(_) => tracing::error!("a check panicked"),
            }
        });
        Ok(receiver)
    }

    /// Runs `work` as soon as a thread is free, once [`threads`](Self::threads) has started them.
    pub fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        if let Some(pool) = self.0.get() {
            pool.spawn_fifo(move || {
                if catch_unwind(AssertUnwindSafe(work)).is_err() {
                    tracing::error!("the work on a group of files panicked");
                }
            });
        }
    }

    /// Returns how many threads there are.
    ///
    /// # Errors
    ///
    /// `internal_error` when no thread can be started.
    pub fn threads(&self) -> Result<usize, Refusal> {
        Ok(self.pool()?.current_num_threads())
    }

    fn pool(&self) -> Result<&ThreadPool, Refusal> {
        if let Some(pool) = self.0.get() {
            return Ok(pool);
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(PARALLEL_MAX);
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .stack_size(STACK_BYTES)
            .thread_name(|number| format!("check-{number}"))
            .build()
            .map_err(|error| {
                Refusal::failed(
                    "internal_error",
                    format!("no thread can be started: {error}"),
                    "free memory, then call again",
                )
            })?;
        Ok(self.0.get_or_init(|| pool))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_panics_takes_nothing_with_it() {
        let workers = Workers::default();
        assert!(workers.run(|| -> u8 { panic!("as asked") }).unwrap().await.is_err());
        assert_eq!(workers.run(|| 7).unwrap().await, Ok(7));
    }
}
