//! A transaction that is begun while its statement is still judged.

use std::future::{Future, poll_fn, ready};
use std::pin::Pin;
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::time::timeout;
use tollgate_shared::refusal::Refusal;

use super::lease::CANCEL_MAX;

/// A connection in a transaction.
pub(super) trait Leased: Send + 'static {
    /// Ends the transaction, and gives the connection back.
    fn end(self) -> impl Future<Output = ()> + Send;
}

/// Ends the transaction of `lease` without anybody waiting for it: the answer does not, a place at the engine does.
pub(super) fn end_later<L: Leased>(lease: L) {
    tokio::spawn(async {
        // Not before the answer has left, which is written by other tasks that are ready then.
        tokio::task::yield_now().await;
        lease.end().await;
    });
}

type Begin<L> = Pin<Box<dyn Future<Output = Result<L, Refusal>> + Send>>;

/// The beginning of a transaction that is on its way to the server. One that is not wanted then is ended.
pub(super) struct Early<L: Leased>(Option<Begin<L>>);

impl<L: Leased> Early<L> {
    /// Sends what begins it, and does not wait for the answer.
    pub(super) async fn start(begin: impl Future<Output = Result<L, Refusal>> + Send + 'static) -> Self {
        let mut begin: Begin<L> = Box::pin(begin);
        let polled = poll_fn(|context| Poll::Ready(begin.as_mut().poll(context))).await;
        Self(Some(match polled {
            Poll::Ready(begun) => Box::pin(ready(begun)),
            Poll::Pending => begin,
        }))
    }

    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// Why it could not be begun.
    pub(super) async fn lease(mut self) -> Result<L, Refusal> {
        let Some(begin) = self.0.as_mut() else { return Err(super::stopped()) };
        let lease = begin.await;
        self.0 = None;
        lease
    }
}

impl<L: Leased> Drop for Early<L> {
    fn drop(&mut self) {
        let (Some(begin), Ok(runtime)) = (self.0.take(), Handle::try_current()) else { return };
        runtime.spawn(async move {
            // A connection that nobody answers on any more is given up, and its place with it.
            if let Ok(Ok(lease)) = timeout(CANCEL_MAX, begin).await {
                lease.end().await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Counted(Arc<AtomicUsize>);

    impl Leased for Counted {
        async fn end(self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn what_is_not_wanted_is_ended() {
        let ended = Arc::new(AtomicUsize::new(0));
        let begin = |waits: bool| {
            let ended = Arc::clone(&ended);
            async move {
                if waits {
                    tokio::task::yield_now().await;
                }
                Ok(Counted(ended))
            }
        };
        for waits in [false, true] {
            let lease = Early::start(begin(waits)).await.lease().await;
            assert!(lease.is_ok() && ended.load(Ordering::Relaxed) == 0);
        }
        for waits in [false, true] {
            drop(Early::start(begin(waits)).await);
        }
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(ended.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn beginning_that_has_no_end_keeps_nothing() {
        let held = Arc::new(());
        let holds = Arc::clone(&held);
        let begin = async move {
            let _holds = holds;
            std::future::pending::<Result<Counted, Refusal>>().await
        };
        drop(Early::start(begin).await);
        tokio::time::sleep(CANCEL_MAX / 2).await;
        assert_eq!(Arc::strong_count(&held), 2);
        tokio::time::sleep(CANCEL_MAX).await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
