//! For whom work is done: a call of the server, or the command line, which no agent pays for.

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tollgate_shared::price::Sku;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::Call;

/// For whom work is done.
pub enum Client<'c> {
    /// A call, with its receipt.
    Call(&'c Call),
    /// The command line, with what stops it.
    CommandLine(CancellationToken),
}

impl Client<'_> {
    /// The command line, which nothing stops.
    #[must_use]
    pub fn command_line() -> Self {
        Self::CommandLine(CancellationToken::new())
    }

    /// Returns what says that the answer is no longer wanted.
    #[must_use]
    pub fn cancelled(&self) -> &CancellationToken {
        match self {
            Self::Call(call) => call.cancelled(),
            Self::CommandLine(token) => token,
        }
    }

    /// Counts `quantity` of `sku`: as answered from a cache where `is_cached` says so, as used otherwise.
    pub fn count(&self, sku: &'static str, quantity: u64, is_cached: bool) {
        let Self::Call(call) = self else { return };
        let sku = Sku::from(sku);
        if is_cached { call.save(sku, quantity) } else { call.charge(sku, quantity) }
    }

    /// Records a decision, where there is a receipt for it to stand beside.
    pub fn decide(&self, action: &str, reason: &str, detail: Value) {
        if let Self::Call(call) = self {
            call.decide(action, reason, detail);
        }
    }

    /// Says that `done` of `total` steps are done.
    pub fn progress(&self, done: usize, total: usize, message: impl FnOnce() -> String) {
        if let Self::Call(call) = self {
            call.progress(done, total, message);
        }
    }

    /// Runs `work` where blocking is allowed.
    ///
    /// # Errors
    ///
    /// What `work` returns, or `internal_error` when it panics.
    pub async fn blocking<T, F>(&self, work: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Refusal> + Send + 'static,
    {
        match self {
            Self::Call(call) => call.blocking(work).await,
            Self::CommandLine(_) => tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
                Err(Refusal::failed("internal_error", error.to_string(), "report this as a bug"))
            }),
        }
    }
}
