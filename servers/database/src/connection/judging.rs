//! Where statements are judged: a small one at once, any other on a thread with room for deep trees, few at once; and what passed.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
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

/// How many statements of a connection are known to have passed, and how long each is at most: what one names can take a hundred times
/// the memory of its text.
const PASSED_MAX: usize = 64;
const PASSED_BYTES_MAX: usize = 1024;

/// Judges statements by the rules of one connection, each text once: what comes out depends on nothing else.
#[derive(Debug)]
pub(super) struct Judge {
    rules: Rules,
    /// The small ones, by what was written.
    passed: Mutex<HashMap<String, Arc<ReadStatement>>>,
}

/// A text that is to be judged.
pub(super) enum Unjudged {
    /// It passed before.
    Passed(Arc<ReadStatement>),
    Cut(Cut),
}

impl Unjudged {
    /// Returns whether it is judged in a moment.
    pub(super) fn is_small(&self) -> bool {
        match self {
            Self::Passed(_) => true,
            Self::Cut(cut) => cut.is_small(),
        }
    }
}

impl Judge {
    /// Judges by `rules`.
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, passed: Mutex::default() }
    }

    /// Cuts `sql` into tokens, unless it passed before.
    ///
    /// # Errors
    ///
    /// As [`Cut::of`].
    pub(super) fn read(&self, sql: String) -> Result<Unjudged, Refusal> {
        match self.passed(&sql) {
            Some(statement) => Ok(Unjudged::Passed(statement)),
            None => Cut::of(sql, self.rules.syntax).map(Unjudged::Cut),
        }
    }

    /// Returns the statement, if it passes.
    ///
    /// # Errors
    ///
    /// As [`Cut::judge`].
    pub(super) async fn judged(&self, text: Unjudged) -> Result<Arc<ReadStatement>, Refusal> {
        match text {
            Unjudged::Passed(statement) => Ok(statement),
            Unjudged::Cut(cut) => {
                let kept_as = kept_as(&cut);
                let statement = judged(cut, &self.rules).await?;
                self.keep(kept_as, statement)
            }
        }
    }

    /// Does the same on a thread that has [`STACK_BYTES`] already.
    ///
    /// # Errors
    ///
    /// As [`ReadStatement::check`].
    pub(super) fn judged_here(&self, sql: String) -> Result<Arc<ReadStatement>, Refusal> {
        match self.read(sql)? {
            Unjudged::Passed(statement) => Ok(statement),
            Unjudged::Cut(cut) => {
                let kept_as = kept_as(&cut);
                let statement = cut.judge(&self.rules)?;
                self.keep(kept_as, statement)
            }
        }
    }

    fn keep(&self, sql: Option<String>, statement: ReadStatement) -> Result<Arc<ReadStatement>, Refusal> {
        let Some(sql) = sql else { return Ok(Arc::new(statement)) };
        // As when it is judged.
        let statement = catch_unwind(AssertUnwindSafe(|| statement.without_tree())).map_err(|_| stopped())?;
        let statement = Arc::new(statement);
        let mut passed = self.lock();
        if passed.len() >= PASSED_MAX {
            passed.clear();
        }
        passed.insert(sql, Arc::clone(&statement));
        drop(passed);
        Ok(statement)
    }

    fn passed(&self, sql: &str) -> Option<Arc<ReadStatement>> {
        // Whatever is longer is not hashed either.
        if sql.len() > PASSED_BYTES_MAX {
            return None;
        }
        self.lock().get(sql).map(Arc::clone)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<ReadStatement>>> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the text that a statement is known by when it has passed, if it is to be known.
fn kept_as(cut: &Cut) -> Option<String> {
    (cut.is_small() && cut.sql().len() <= PASSED_BYTES_MAX).then(|| cut.sql().to_owned())
}

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
    use serde_json::json;

    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::statement::Syntax;

    #[tokio::test]
    async fn what_passed_is_known_and_is_the_same() {
        let judge = Judge::new(Rules::of(Syntax::Postgres));
        let judged = async |sql: &str| judge.judged(judge.read(sql.to_owned())?).await;
        let sql = "SELECT t.a, lower(b) FROM shop.t WHERE a = $1 AND b = 'x' OR 1=1";
        let first = judged(sql).await.unwrap();
        assert!(Arc::ptr_eq(&first, &judged(sql).await.unwrap()));
        assert!(Arc::ptr_eq(&first, &judge.judged_here(sql.to_owned()).unwrap()));
        // As if it was judged for the first time, down to what it names.
        let anew = ReadStatement::check(sql, &Rules::of(Syntax::Postgres)).unwrap();
        assert_eq!(format!("{:?}", first.mentions()), format!("{:?}", anew.mentions()));
        assert_eq!((first.text(), json!(first.warnings())), (anew.text(), json!(anew.warnings())));
        // What differs by anything is another one; what is refused is refused again.
        assert!(!Arc::ptr_eq(&first, &judged(&format!("{sql} ")).await.unwrap()));
        for sql in ["DELETE FROM t", "SELECT pg_sleep(1)", "SELECT 1; SELECT 2"] {
            assert_eq!(judged(sql).await.unwrap_err().code, judged(sql).await.unwrap_err().code);
            assert!(judge.passed(sql).is_none());
        }
        // Neither many nor large ones fill the memory.
        for count in [400, 10_000] {
            judged(&format!("SELECT {}", vec!["1"; count].join(", "))).await.unwrap();
        }
        assert_eq!(judge.lock().len(), 2);
        for number in 0..3 * PASSED_MAX {
            judged(&format!("SELECT {number}")).await.unwrap();
            assert!(judge.lock().len() <= PASSED_MAX);
        }
    }

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
