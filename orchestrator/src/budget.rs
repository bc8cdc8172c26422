//! Budgets: what may be spent, decided and set aside before anything is.
//!
//! What is set aside for a call stands in `budget.db` of the state folder, for every process that spends from it. It is
//! given up in the same step in which the call's receipt is counted, so at no moment is a call counted not at all.

pub mod estimate;
mod owner;
mod store;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tollgate_shared::identity::{Agent, Identity};
use tollgate_shared::ids::EntryId;
use tollgate_shared::ledger::{Ledger, LedgerError, NewEntry};
use tollgate_shared::money::{Currency, Money};
use tollgate_shared::receipt::{Outcome, Receipt};
use tollgate_shared::state_dir::StateDir;

pub use estimate::Estimate;
pub use owner::OWNER_FILE_VARIABLE;
use store::Store;

/// The stable code of a call that does not fit.
pub const BUDGET_EXCEEDED: &str = "budget_exceeded";

/// The table `[budget]`: what may be spent, in US dollars. What is left out has no limit.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetConfig {
    /// On one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_call_usd: Option<Money>,
    /// On one task, however long it takes; a call without a task has no such limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_task_usd: Option<Money>,
    /// By one agent on one day (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_agent_usd: Option<Money>,
    /// By everybody on one day (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_day_usd: Option<Money>,
}

/// What a limit is about, and what stands against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One call.
    Call,
    /// One task.
    Task,
    /// One agent on one day.
    Agent,
    /// One day.
    Day,
}

/// Which limit a call does not fit, and by how much is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exceeded {
    /// Which limit.
    pub scope: Scope,
    /// Whose: the task, the agent, the day.
    pub name: String,
    /// The limit.
    pub limit_usd: Money,
    /// What was spent.
    pub spent_usd: Money,
    /// What is set aside for calls under way.
    pub reserved_usd: Money,
    /// What this call may cost.
    pub estimate_usd: Money,
}

/// A limit of which four fifths are used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Which limit.
    pub scope: Scope,
    /// Whose.
    pub name: String,
    /// The limit.
    pub limit_usd: Money,
    /// What is spent or set aside.
    pub used_usd: Money,
}

/// What was set aside.
#[derive(Clone, Debug, Default)]
pub struct Reserved {
    /// How much; a metered call may not go beyond it.
    pub amount: Money,
    /// Limits that came near with this call, each told once.
    pub warnings: Vec<Warning>,
}

/// What a call is going to be.
#[derive(Clone, Debug)]
pub struct Intent {
    /// The server.
    pub server: String,
    /// The tool.
    pub tool: String,
    /// On whose behalf; its `call_id` names the reservation and, later, the receipt.
    pub identity: Identity,
    /// When it begins.
    pub started_at: Timestamp,
    /// What it may cost.
    pub estimate: Estimate,
}

/// Why nothing was set aside.
#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    /// It does not fit.
    #[error("{0}")]
    Exceeded(Exceeded),
    /// The state folder cannot be used; without it nothing is spent.
    #[error("cannot use {}: {reason}", .path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The ledger cannot be written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The limits of one configuration over the spending of one state folder.
pub struct Budgets {
    limits: Mutex<BudgetConfig>,
    state_dir: StateDir,
    store: OnceCell<Arc<Store>>,
}

impl BudgetConfig {
    /// Whether there is any limit.
    #[must_use]
    pub fn limits_anything(&self) -> bool {
        [self.per_call_usd, self.per_task_usd, self.per_agent_usd, self.per_day_usd].iter().any(Option::is_some)
    }

    /// Returns every limit that stands against a call of `agent` for `task` on `day`, except that on the call itself.
    fn standing(&self, agent: &str, task: Option<&str>, day: &str) -> Vec<(Scope, String, Money)> {
        let mut limits = Vec::new();
        if let (Some(limit), Some(task)) = (self.per_task_usd, task) {
            limits.push((Scope::Task, task.to_owned(), limit));
        }
        if let Some(limit) = self.per_agent_usd {
            limits.push((Scope::Agent, format!("{day} {agent}"), limit));
        }
        if let Some(limit) = self.per_day_usd {
            limits.push((Scope::Day, day.to_owned(), limit));
        }
        limits
    }
}

impl Scope {
    /// Returns the key of `tollgate.toml` that sets the limit.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Call => "budget.per_call_usd",
            Self::Task => "budget.per_task_usd",
            Self::Agent => "budget.per_agent_usd",
            Self::Day => "budget.per_day_usd",
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Task => "task",
            Self::Agent => "agent",
            Self::Day => "day",
        }
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit_usd, spent_usd, reserved_usd, estimate_usd, .. } = self;
        let (limit, estimate) = (limit_usd.normalized(), estimate_usd.normalized());
        match self.scope {
            Scope::Call => write!(formatter, "the call may cost ${estimate}, and one call may cost ${limit}"),
            scope => write!(
                formatter,
                "the call may cost ${estimate}; of the ${limit} of {} {} ${} are spent and ${} are set aside for calls under way",
                scope.as_str(),
                self.name,
                spent_usd.normalized(),
                reserved_usd.normalized()
            ),
        }
    }
}

impl Exceeded {
    /// Returns what to do instead.
    #[must_use]
    pub fn hint(&self) -> String {
        let wait = match self.scope {
            Scope::Call => "ask for less",
            Scope::Task => "finish with what is done",
            Scope::Agent | Scope::Day => "wait for the next day (UTC)",
        };
        format!("{wait}, or have the operator raise {}", self.scope.key())
    }
}

impl Budgets {
    /// Puts `limits` over what the ledger of `state_dir` says was spent; opens nothing yet.
    #[must_use]
    pub fn new(limits: BudgetConfig, state_dir: StateDir) -> Self {
        Self { limits: Mutex::new(limits), state_dir, store: OnceCell::new() }
    }

    /// Returns the limits in force.
    #[must_use]
    pub fn limits(&self) -> BudgetConfig {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another limit over what one task may cost, from the next call on.
    pub(crate) fn limit_task(&self, most: Money) {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner).per_task_usd = Some(most);
    }

    /// Sets aside what the call may cost, or says which limit it does not fit. Durable when this returns.
    ///
    /// What is set aside is given up when a receipt with the `call_id` of `intent` is in the ledger. When this process
    /// and the servers it started are gone without one, whoever needs the money next writes it.
    ///
    /// # Errors
    ///
    /// [`BudgetError`]; then nothing is set aside and nothing may be spent.
    pub async fn reserve(&self, ledger: &Ledger, intent: Intent) -> Result<Reserved, BudgetError> {
        if !self.limits().limits_anything() {
            return Ok(Reserved { amount: intent.estimate.most, warnings: Vec::new() });
        }
        ledger.open().await?;
        let store = self.store().await?;
        let intent = Arc::new(intent);
        let reserved = self.with_store(&store, &intent).await;
        if !matches!(reserved, Err(BudgetError::Exceeded(_))) {
            return reserved;
        }
        self.bury_the_dead(&store, ledger).await?;
        // Whoever buried them: another process may just have done it.
        self.with_store(&store, &intent).await
    }

    async fn with_store(&self, store: &Arc<Store>, intent: &Arc<Intent>) -> Result<Reserved, BudgetError> {
        let (store, intent, limits) = (Arc::clone(store), Arc::clone(intent), self.limits());
        blocking(store.path().to_owned(), move || store.reserve(&limits, &intent)).await
    }

    /// Returns the file that every process of this run holds locked while it may still write receipts.
    ///
    /// # Errors
    ///
    /// [`BudgetError`].
    pub async fn owner_file(&self, ledger: &Ledger) -> Result<Option<PathBuf>, BudgetError> {
        if !self.limits().limits_anything() {
            return Ok(None);
        }
        ledger.open().await?;
        Ok(Some(self.store().await?.owner_file().to_owned()))
    }

    async fn store(&self) -> Result<Arc<Store>, BudgetError> {
        let opened = self.store.get_or_try_init(|| {
            let state_dir = self.state_dir.clone();
            async move {
                let path = state_dir.path().join(store::FILE_NAME);
                blocking(path, move || Store::open(&state_dir).map(Arc::new)).await
            }
        });
        opened.await.map(Arc::clone)
    }

    /// Writes the receipt of every call whose processes are gone without one.
    async fn bury_the_dead(&self, store: &Arc<Store>, ledger: &Ledger) -> Result<(), BudgetError> {
        let orphans = {
            let store = Arc::clone(store);
            blocking(store.path().to_owned(), move || store.orphans()).await?
        };
        for orphan in &orphans {
            let entry = NewEntry::receipt(&orphan.receipt()).map_err(|error| LedgerError::Append(error.to_string()))?;
            ledger.append_once(entry).await?;
            tracing::warn!(
                server = orphan.server,
                tool = orphan.tool,
                "the caller of this call died before its receipt"
            );
        }
        Ok(())
    }
}

/// A call whose processes are gone and that has no receipt.
#[derive(Clone, Debug)]
struct Orphan {
    call_id: EntryId,
    server: String,
    tool: String,
    agent: Agent,
    task_id: Option<String>,
    started_at: Timestamp,
}

impl Orphan {
    /// The same for whoever finds it, so it is in the ledger once.
    fn receipt(&self) -> Receipt {
        Receipt {
            id: self.call_id,
            server: self.server.clone(),
            tool: self.tool.clone(),
            amount: Money::ZERO,
            currency: Currency::Usd,
            lines: Vec::new(),
            cached: false,
            saved: Money::ZERO,
            outcome: Outcome::Failed,
            code: Some("caller_died".to_owned()),
            duration_ms: 0,
            agent: self.agent.clone(),
            task_id: self.task_id.clone(),
            call_id: Some(self.call_id.to_string()),
            started_at: self.started_at,
        }
    }
}

async fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce() -> Result<T, store::Failure> + Send + 'static,
) -> Result<T, BudgetError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(store::Failure::Exceeded(exceeded))) => Err(BudgetError::Exceeded(exceeded)),
        Ok(Err(store::Failure::Other(reason))) => Err(BudgetError::Store { path, reason }),
        Err(error) => Err(BudgetError::Store { path, reason: error.to_string() }),
    }
}

pub(crate) fn day_of(instant: Timestamp) -> String {
    instant.to_zoned(TimeZone::UTC).date().to_string()
}
