//! How long a call may read.

use std::time::{Duration, Instant};

use tollgate_shared::serve::Call;

/// How long one call reads before it answers with what it has: well under the 60 s after which hosts give up.
const READ_MAX: Duration = Duration::from_secs(20);

/// Says when a loop over a repository, which can be of any size, is to stop.
pub struct Patience {
    call: Call,
    until: Instant,
}

impl Patience {
    /// Starts now.
    #[must_use]
    pub fn of(call: &Call) -> Self {
        Self { call: call.clone(), until: Instant::now() + READ_MAX }
    }

    /// Returns whether the time is up or the caller no longer wants an answer.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.call.cancelled().is_cancelled() || Instant::now() >= self.until
    }
}
