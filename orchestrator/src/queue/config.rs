//! `[queue]`: where the queue is, and who does what is in it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::money::Money;

use super::alarm::AlertConfig;
use super::webhook::WebhookConfig;

/// The table `[queue]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// A PostgreSQL database, `postgres://…`, for workers on many machines; secrets as `${NAME}`. `queue.db` in the state
    /// folder when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Who does a task that names nobody, as after `run --agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Agents that tasks can name, each as after `run --agent`; relative files start from the workspace.
    pub agents: BTreeMap<String, String>,
    /// Repositories that tasks can name as their `project`, from the workspace; without any, every task is about the
    /// workspace.
    pub projects: BTreeMap<String, PathBuf>,
    /// What a task may cost that has no `budget_usd`, over all its attempts, in US dollars.
    pub budget_usd: Money,
    /// How often a task is begun, before it is blocked.
    pub attempts_max: u32,
    /// How often in one attempt a task is taken up again whose worker was gone: one that kills its worker would for ever.
    pub resumes_max: u32,
    /// How often in one attempt the agent may say that it is done.
    pub iterations: u32,
    /// How long one attempt may work, in milliseconds.
    pub timeout_ms: u64,
    /// How long a worker that is not heard of keeps its task, in milliseconds; it says that it lives three times as often.
    pub lease_ms: u64,
    /// How long a worker that finds nothing waits before it looks again, in milliseconds.
    pub poll_ms: u64,
    /// For how many days events are kept; those of tasks that are under way always are.
    #[schemars(range(min = 1))]
    pub events_days_max: u32,
    /// How many events are kept, besides those of tasks that are under way.
    pub events_max: u64,
    /// From where on something is not as it should be.
    pub alerts: AlertConfig,
    /// Who is told of events.
    pub webhooks: BTreeMap<String, WebhookConfig>,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            url: None,
            agent: None,
            agents: BTreeMap::new(),
            projects: BTreeMap::new(),
            budget_usd: "5".parse().unwrap_or_default(),
            attempts_max: 3,
            resumes_max: 20,
            iterations: 10,
            timeout_ms: 60 * 60 * 1000,
            lease_ms: 60_000,
            poll_ms: 2_000,
            events_days_max: 30,
            events_max: 100_000,
            alerts: AlertConfig::default(),
            webhooks: BTreeMap::new(),
        }
    }
}

impl QueueConfig {
    /// Returns how long a lease lasts: long enough that a slow disk does not lose it.
    #[must_use]
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms.clamp(1_000, 24 * 60 * 60 * 1000))
    }

    /// Returns how long to wait before looking again.
    #[must_use]
    pub fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms.clamp(50, 60_000))
    }
}
