//! One turn at a time: the right to work on one service in one environment.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tollgate_shared::error_chain::Chain;
use tollgate_shared::refusal::Refusal;

use crate::blocking::blocking;
use crate::environment::Environment;
use crate::names::ServiceName;
use crate::store::{Fence, Store, in_progress};
use crate::target::release_directory::{LockedDirectory, ReleaseDirectory, TargetError};
use crate::tree::TreeError;

/// How long a call waits for another that is about to end; a deployment takes longer, so it is refused then.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// The right to work on one service in one environment; ends when dropped, and by the system on a crash.
///
/// The lock on the folder keeps other processes out; the fence keeps a process whose lock was lost from writing.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Where.
    pub environment: Environment,
    /// On what.
    pub service: ServiceName,
    /// Its folder.
    pub directory: Arc<LockedDirectory>,
    /// Its right to write history.
    pub fence: Fence,
    /// How many things the target was told so far.
    told: Arc<AtomicI64>,
}

/// How many things a target is told in one turn at most: a few for what is unfinished, and a few for what is new.
const TOLD_MAX: i64 = 1_000;

impl Turn {
    /// Returns a number for the next thing that the target is told, larger than all before, in this turn and in others.
    #[must_use]
    pub fn next_number(&self) -> i64 {
        let told = self.told.fetch_add(1, Ordering::Relaxed).min(TOLD_MAX - 1);
        self.fence.number().saturating_mul(TOLD_MAX).saturating_add(told)
    }

    /// Takes the turn, with the folder made where it is missing.
    ///
    /// # Errors
    ///
    /// `deployment_in_progress`, `target_failed`, `history_unavailable`.
    pub async fn take(store: &Store, environment: &Environment, service: &ServiceName) -> Result<Self, Refusal> {
        let (folder, named) = (environment.folder.clone(), service.clone());
        let directory = blocking(move || {
            ReleaseDirectory::create(&folder, &named)
                .and_then(|opened| opened.lock(PATIENCE))
                .map_err(|error| refused(&error))
        })
        .await?;
        Self::with(store, environment, service, directory).await
    }

    /// Takes the turn where a folder is there and nobody has the turn.
    ///
    /// # Errors
    ///
    /// `target_failed`, `history_unavailable`.
    pub async fn take_if_free(
        store: &Store,
        environment: &Environment,
        service: &ServiceName,
    ) -> Result<Option<Self>, Refusal> {
        let (folder, named) = (environment.folder.clone(), service.clone());
        let directory = blocking(move || {
            let Some(opened) = ReleaseDirectory::open(&folder, &named).map_err(|error| refused(&error))? else {
                return Ok(None);
            };
            match opened.lock(Duration::ZERO) {
                Ok(locked) => Ok(Some(locked)),
                Err(TargetError::Busy(_)) => Ok(None),
                Err(error) => Err(refused(&error)),
            }
        })
        .await?;
        match directory {
            Some(directory) => Self::with(store, environment, service, directory).await.map(Some),
            None => Ok(None),
        }
    }

    async fn with(
        store: &Store,
        environment: &Environment,
        service: &ServiceName,
        directory: LockedDirectory,
    ) -> Result<Self, Refusal> {
        let fence = store.take_fence(&environment.name, service).await?;
        let (environment, service, directory) = (environment.clone(), service.clone(), Arc::new(directory));
        Ok(Self { environment, service, directory, fence, told: Arc::default() })
    }

    /// Runs `work` on the folder where blocking is allowed; the turn lasts at least as long.
    ///
    /// # Errors
    ///
    /// What `work` returns, or `internal_error` when it panics.
    pub async fn blocking<T, F>(&self, work: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&LockedDirectory) -> Result<T, Refusal> + Send + 'static,
    {
        let directory = Arc::clone(&self.directory);
        blocking(move || work(&directory)).await
    }
}

/// The answer to a call whose target cannot be worked on.
#[must_use]
pub fn refused(error: &TargetError) -> Refusal {
    match error {
        TargetError::Busy(_) => in_progress(error),
        TargetError::Tree(TreeError::Stopped) => Refusal::cancelled(),
        TargetError::Tree(TreeError::Changed { .. }) | TargetError::Changed(_) => crate::artifact::changed(error),
        TargetError::Taken(_) => Refusal::refused(
            "artifact_not_plain",
            error.to_string(),
            "leave that name out of the artifact: it leads to a folder that outlives releases",
        ),
        TargetError::Tree(_) | TargetError::Io { .. } => {
            tracing::error!(error = %Chain(error), "a target cannot be worked on");
            Refusal::failed(
                "target_failed",
                Chain(error).to_string(),
                "have the operator look at the environment's folder: it must be writable and have free space",
            )
        }
    }
}
