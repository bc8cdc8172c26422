//! Where statements are judged: a small one at once, any other on a thread with room for deep trees, few at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, LazyLock, OnceLock};
use std::thread;

use tokio::sync::{Semaphore, oneshot};
use tollgate_shared::refusal::Refusal;

use super::{busy, stopped};
use crate::statement::{Cut, ReadStatement, Rules};

/// Stack of the thread that judges and runs a statement. Trees as deep as the lexer lets through need a part of it;
/// only what is used is ever taken.
pub const STACK_BYTES: usize = 16 * 1024 * 1024;

/// How many statements are judged at once that are not small: judging cannot be stopped, whoever waits for it.
const JUDGED_MAX: usize = 4;

/// The places of those that are judged.
static JUDGING: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(JUDGED_MAX)));

/// Judges a statement: a small one at once, since to hand it over and back costs as much as to judge it, and any other on a
/// thread whose stack is deep enough for what the lexer lets through.
pub(super) async fn judged(cut: Cut, rules: &Rules) -> Result<ReadStatement, Refusal> {
    // A statement that makes the parser panic ends its own answer, and nothing else.
    let judge = |cut: Cut, rules: &Rules| {
        catch_unwind(AssertUnwindSafe(|| cut.judge(rules))).unwrap_or_else(|_| Err(stopped()))
    };
    if cut.is_small() {
        return judge(cut, rules);
    }
    let place = Arc::clone(&JUDGING).acquire_owned().await.map_err(|_| stopped())?;
    let (done, answer) = oneshot::channel();
    let rules = rules.clone();
    on_deep_stack(Box::new(move || {
        let judged = judge(cut, &rules);
        drop(place);
        let _ = done.send(judged);
    }))?;
    answer.await.unwrap_or_else(|_| Err(stopped()))
}

pub(super) type Work = Box<dyn FnOnce() + Send>;

/// Runs `work` on a thread with [`STACK_BYTES`] of stack: one waits for the next piece, and while it is busy others get
/// threads of their own.
pub(super) fn on_deep_stack(work: Work) -> Result<(), Refusal> {
    let Err(TrySendError::Full(work) | TrySendError::Disconnected(work)) = waiting_thread().try_send(work) else {
        return Ok(());
    };
    let spawned = thread::Builder::new().name("query".to_owned()).stack_size(STACK_BYTES).spawn(work);
    spawned.map(drop).map_err(|error| {
        tracing::error!(%error, "no thread for a statement");
        busy()
    })
}

/// Returns where a thread waits for the next piece of work: starting one costs as much as judging.
fn waiting_thread() -> &'static SyncSender<Work> {
    static THREAD: OnceLock<SyncSender<Work>> = OnceLock::new();
    THREAD.get_or_init(|| {
        let (sender, pieces) = sync_channel::<Work>(0);
        let work = move || {
            for piece in pieces {
                // A panic ends its own answer, and not this thread.
                let _ = catch_unwind(AssertUnwindSafe(piece));
            }
        };
        let spawned = thread::Builder::new().name("query".to_owned()).stack_size(STACK_BYTES).spawn(work);
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for statements");
        }
        sender
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::statement::Syntax;

    #[tokio::test]
    async fn few_statements_are_judged_at_once_unless_they_are_small() {
        let rules = Rules::of(Syntax::Sqlite);
        let judge =
            |sql: String| timeout(Duration::from_millis(200), judged(Cut::of(sql, Syntax::Sqlite).unwrap(), &rules));
        let large = || format!("SELECT 1{}", ", 1".repeat(30_000));
        let places = JUDGING.acquire_many(u32::try_from(JUDGED_MAX).unwrap()).await.unwrap();
        assert!(judge("SELECT 1".to_owned()).await.unwrap().is_ok());
        assert!(judge(large()).await.is_err(), "it had no place");
        drop(places);
        let late = timeout(Duration::from_secs(60), judged(Cut::of(large(), Syntax::Sqlite).unwrap(), &rules)).await;
        assert!(late.unwrap().is_ok());
    }
}
