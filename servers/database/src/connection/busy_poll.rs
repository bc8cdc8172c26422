//! Waiting for an engine without going to sleep.
//!
//! An engine on the same machine often answers in less time than a processor that has gone to sleep takes to go on. So in the first two
//! milliseconds of a call the runtime looks for the answer again and again, as `SO_BUSY_POLL` has a socket do; whatever else is ready
//! runs in between. That takes the time of one processor: it is bounded, and rare where the engine needs longer.

use std::num::NonZero;
use std::pin::pin;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use tokio::task::yield_now;

/// How long the answer to one call is looked for.
const LOOKED_MAX: Duration = Duration::from_millis(2);

/// After so many calls in vain in a row, only one of 32 is looked for.
const IN_VAIN_MAX: u32 = 5;

/// Whether an engine's answers are looked for.
#[derive(Debug, Default)]
pub(super) struct BusyPoll {
    /// How many calls wait for an answer.
    waiting: AtomicUsize,
    /// How many calls in a row were looked for in vain, up to [`IN_VAIN_MAX`].
    in_vain: AtomicU32,
    /// How many of the next calls are slept for.
    left_alone: AtomicU32,
}

impl BusyPoll {
    /// Waits for `work`, and while no other call does, looks for its end.
    pub(super) async fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        // An engine that shares the only processor would wait for whoever looks.
        static HAS_PROCESSORS: LazyLock<bool> =
            LazyLock::new(|| available_parallelism().is_ok_and(|processors| processors > NonZero::<usize>::MIN));
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waits = Waits(&self.waiting);
        if !*HAS_PROCESSORS || !self.is_alone() || !self.is_due() {
            return work.await;
        }
        let mut work = pin!(work);
        let started = Instant::now();
        let mut had_to_look = false;
        let looking = async {
            had_to_look = true;
            while started.elapsed() < LOOKED_MAX && self.is_alone() {
                // Has the runtime ask for events without waiting for one.
                yield_now().await;
                // The engine may have been given this very processor.
                std::thread::yield_now();
            }
        };
        tokio::select! {
            biased;
            done = &mut work => {
                // Not where the engine was not asked: what is refused, or known already.
                if had_to_look {
                    self.found();
                }
                return done;
            }
            () = looking => {}
        }
        if started.elapsed() >= LOOKED_MAX {
            self.missed();
        }
        work.await
    }

    /// Whether no other call waits, whose engine could do with this processor.
    fn is_alone(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) <= 1
    }

    /// Whether the answer to this call is looked for.
    fn is_due(&self) -> bool {
        self.left_alone.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }

    /// Looks for the next answers too.
    fn found(&self) {
        self.in_vain.store(0, Ordering::Relaxed);
    }

    /// Leaves calls alone: twice as many for each one that was looked for in vain.
    fn missed(&self) {
        let in_vain = self.in_vain.load(Ordering::Relaxed).saturating_add(1).min(IN_VAIN_MAX);
        self.in_vain.store(in_vain, Ordering::Relaxed);
        self.left_alone.store((1 << in_vain) - 1, Ordering::Relaxed);
    }
}

/// A call that waits.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_for_in_vain_is_soon_left_alone() {
        let poll = BusyPoll::default();
        let looked = |calls: u32, answered: bool| {
            let mut looked = 0;
            for _ in 0..calls {
                if poll.is_due() {
                    looked += 1;
                    if answered { poll.found() } else { poll.missed() }
                }
            }
            looked
        };
        assert_eq!(looked(100, true), 100);
        assert_eq!(looked(2 + 4 + 8 + 16, false), 4);
        assert_eq!(looked(3_200, false), 100);
        // One that is answered in time is enough.
        assert!(looked(33, true) >= 2);
        assert_eq!(looked(100, true), 100);
    }

    #[tokio::test]
    async fn whoever_waits_holds_up_nobody_and_gets_the_answer() {
        let poll = BusyPoll::default();
        assert_eq!(poll.wait(async { 7 }).await, 7);
        let (sender, answer) = tokio::sync::oneshot::channel();
        // In the same thread: it runs while the answer is looked for.
        let other = tokio::spawn(async move {
            yield_now().await;
            sender.send(8)
        });
        assert_eq!(poll.wait(answer).await, Ok(8));
        assert_eq!(other.await.unwrap(), Ok(()));
        // What is there at once says nothing of the engine, and what is given up waits no more.
        poll.missed();
        poll.left_alone.store(0, Ordering::Relaxed);
        poll.wait(async {}).await;
        assert_eq!(poll.in_vain.load(Ordering::Relaxed), 1);
        let never = poll.wait(std::future::pending::<()>());
        assert!(tokio::time::timeout(2 * LOOKED_MAX, never).await.is_err());
        assert_eq!(poll.waiting.load(Ordering::Relaxed), 0);
        // Two at once leave the processor to their engine.
        poll.found();
        poll.left_alone.store(0, Ordering::Relaxed);
        let never = || tokio::time::timeout(3 * LOOKED_MAX, poll.wait(std::future::pending::<()>()));
        let (one, two) = tokio::join!(never(), never());
        assert!(one.is_err() && two.is_err() && poll.in_vain.load(Ordering::Relaxed) == 0);
        let late = poll.wait(tokio::time::sleep(10 * LOOKED_MAX));
        assert!(tokio::time::timeout(Duration::from_secs(60), late).await.is_ok());
    }
}
