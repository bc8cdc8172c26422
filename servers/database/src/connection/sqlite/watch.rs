//! The third lock: when a query in the engine has to stop.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// How much a query may add to the memory of the process. Sorting and grouping happen in memory, so this is also
/// what keeps them from filling a disk.
const MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How often the slower questions are asked. Memory must be written to count, so little is added meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How many steps of SQLite's machine lie between two looks at the clock, at least: some microseconds.
pub(super) const STEPS: i32 = 200;

/// Why a query had to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stop {
    Timeout = 1,
    Cancelled = 2,
    Memory = 3,
}

/// What a query is watched by.
#[derive(Debug)]
pub struct Watch {
    /// How long it may run.
    pub(super) limit: Duration,
    deadline: Instant,
    cancelled: CancellationToken,
    stopped: Arc<AtomicU8>,
}

/// The part of a [`Watch`] that the engine asks.
pub(super) struct Handler {
    deadline: Instant,
    cancelled: CancellationToken,
    stopped: Arc<AtomicU8>,
    looked_at: Instant,
    memory: Option<Memory>,
}

struct Memory {
    statistics: &'static File,
    page_bytes: u64,
    at_start: u64,
}

impl Watch {
    /// Starts the clock.
    #[must_use]
    pub fn new(limit: Duration, cancelled: CancellationToken) -> Self {
        Self { limit, deadline: Instant::now() + limit, cancelled, stopped: Arc::default() }
    }

    /// Returns how much time is left.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Returns why the query was stopped, if it was.
    pub(super) fn stopped(&self) -> Option<Stop> {
        match self.stopped.load(Ordering::Relaxed) {
            1 => Some(Stop::Timeout),
            2 => Some(Stop::Cancelled),
            3 => Some(Stop::Memory),
            _ => None,
        }
    }

    /// Returns what the engine asks every [`STEPS`] steps.
    pub(super) fn handler(&self) -> Handler {
        Handler {
            deadline: self.deadline,
            cancelled: self.cancelled.clone(),
            stopped: Arc::clone(&self.stopped),
            looked_at: Instant::now(),
            memory: Memory::new(),
        }
    }
}

impl Handler {
    /// Returns whether the query has to stop.
    pub(super) fn must_stop(&mut self) -> bool {
        let now = Instant::now();
        let reason = if now >= self.deadline {
            Some(Stop::Timeout)
        } else if now - self.looked_at < LOOK_EVERY {
            None
        } else {
            self.looked_at = now;
            if self.cancelled.is_cancelled() {
                Some(Stop::Cancelled)
            } else {
                self.memory.as_ref().and_then(|memory| memory.is_too_much().then_some(Stop::Memory))
            }
        };
        if let Some(reason) = reason {
            self.stopped.store(reason as u8, Ordering::Relaxed);
        }
        reason.is_some()
    }
}

impl Memory {
    /// Where the system does not tell, SQLite's own limit on its heap is left.
    fn new() -> Option<Self> {
        // Says anew each time that it is read how much it is.
        static STATISTICS: OnceLock<File> = OnceLock::new();
        let statistics = match STATISTICS.get() {
            Some(open) => open,
            None => {
                let opened = File::open("/proc/self/statm").ok()?;
                STATISTICS.get_or_init(|| opened)
            }
        };
        let page_bytes = u64::try_from(rustix::param::page_size()).ok()?;
        let mut memory = Self { statistics, page_bytes, at_start: 0 };
        memory.at_start = memory.resident()?;
        Some(memory)
    }

    fn resident(&self) -> Option<u64> {
        let mut buffer = [0; 128];
        let length = self.statistics.read_at(&mut buffer, 0).ok()?;
        let pages: u64 = std::str::from_utf8(&buffer[..length]).ok()?.split(' ').nth(1)?.parse().ok()?;
        pages.checked_mul(self.page_bytes)
    }

    fn is_too_much(&self) -> bool {
        self.resident().is_some_and(|now| now.saturating_sub(self.at_start) > MEMORY_BYTES_MAX)
    }
}
