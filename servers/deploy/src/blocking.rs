//! Work that blocks, away from the threads that answer.

use tollgate_shared::refusal::Refusal;

/// Runs `work` where blocking is allowed.
///
/// # Errors
///
/// What `work` returns, or `internal_error` when it panics.
pub async fn blocking<T, F>(work: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Refusal> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "work on a deployment panicked");
        Err(Refusal::failed("internal_error", "the work stopped unexpectedly", "report this as a bug"))
    })
}
