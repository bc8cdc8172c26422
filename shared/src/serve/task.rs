//! Calls that become tasks: for a client that knows them, work that takes longer than anybody waits for an answer.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rmcp::model::{CallToolResponse, CallToolResult, CreateTaskResult, DetailedTask, ErrorData, InputResponses};
use rmcp::task_manager::{TaskContext, TaskExit, TaskManager, TaskOptions};
use tokio_util::sync::CancellationToken;

/// How long a task may take, and how long its end is kept: longer than any deployment may.
const KEPT: Duration = Duration::from_secs(12 * 60 * 60);

/// How often a client should ask.
const POLL_MS: u64 = 500;

/// Most tasks that are kept; what comes beyond is answered when it is done, as without tasks.
const TASKS_MAX: usize = 500;

/// The tasks of one server.
#[derive(Default)]
pub(super) struct Tasks {
    manager: TaskManager,
    created: Mutex<VecDeque<Instant>>,
}

impl Tasks {
    /// Whether there is room for one more; if so it is taken.
    pub(super) fn admit(&self) -> bool {
        let mut created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        // One is kept for as long again after its end.
        while created.front().is_some_and(|at| at.elapsed() > 2 * KEPT) {
            created.pop_front();
        }
        let admitted = created.len() < TASKS_MAX;
        if admitted {
            created.push_back(Instant::now());
        }
        admitted
    }

    /// Makes a task of `work`, which goes on to its own end whatever becomes of the task.
    pub(super) fn spawn<Work>(
        &self,
        work: impl FnOnce(TaskContext, CancellationToken) -> Work + Send + 'static,
    ) -> CreateTaskResult
    where
        Work: Future<Output = CallToolResponse> + Send + 'static,
    {
        let kept_ms = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
        let options = TaskOptions::new().with_ttl_ms(kept_ms).with_poll_interval_ms(POLL_MS);
        let task = self.manager.spawn(options, move |context| {
            Box::pin(async move {
                let cancelled = CancellationToken::new();
                let mut running = tokio::spawn(work(context.clone(), cancelled.clone()));
                let ended = tokio::select! {
                    ended = &mut running => ended,
                    () = context.cancelled() => {
                        cancelled.cancel();
                        running.await
                    }
                };
                match ended {
                    Ok(CallToolResponse::Complete(result)) if is_cancelled(&result) => Err(TaskExit::Cancelled),
                    Ok(CallToolResponse::Complete(result)) => Ok(result),
                    Ok(_) => Err(failed("the call was not answered")),
                    Err(error) => Err(failed(&error.to_string())),
                }
            })
        });
        CreateTaskResult::new(task)
    }

    pub(super) fn get(&self, id: &str) -> Result<DetailedTask, ErrorData> {
        self.manager.get_task(id)
    }

    pub(super) fn update(&self, id: &str, responses: InputResponses) -> Result<(), ErrorData> {
        self.manager.update_task(id, responses)
    }

    pub(super) fn cancel(&self, id: &str) -> Result<(), ErrorData> {
        self.manager.cancel_task(id)
    }
}

fn is_cancelled(result: &CallToolResult) -> bool {
    result.structured_content.as_ref().is_some_and(|structured| structured["error"]["code"] == "cancelled")
}

fn failed(reason: &str) -> TaskExit {
    TaskExit::Error(ErrorData::internal_error(reason.to_owned(), None))
}
