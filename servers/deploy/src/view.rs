//! Deployments as they are answered.

use schemars::JsonSchema;
use serde::Serialize;

use crate::deployment::DeploymentState;
use crate::store::Record;

/// How much of a reason is shown in a list.
const REASON_CHARS_MAX: usize = 300;

/// One deployment.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DeploymentView {
    /// Its identifier.
    pub id: String,
    /// `deploy` or `rollback`.
    pub kind: &'static str,
    /// Where.
    pub environment: String,
    /// Of what.
    pub service: String,
    /// As which version.
    pub version: String,
    /// The folder in `releases/`.
    pub release: String,
    /// SHA-256 over the released files.
    pub digest: String,
    /// Where it stands.
    pub state: DeploymentState,
    /// The release that was current before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// On whose behalf.
    pub agent: String,
    /// For which task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// When it was asked for.
    pub requested_at: String,
    /// When its state was reached.
    pub updated_at: String,
    /// Why it is in its state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Returns the beginning of `reason`.
#[must_use]
pub fn cut(mut reason: String) -> String {
    if let Some((end, _)) = reason.char_indices().nth(REASON_CHARS_MAX) {
        reason.truncate(end);
        reason.push('…');
    }
    reason
}

impl DeploymentView {
    /// Shows `record`, with the beginning of its reason.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let mut view = Self::whole(record);
        view.reason = view.reason.map(cut);
        view
    }

    /// Shows `record`, with all of its reason.
    #[must_use]
    pub fn whole(record: &Record) -> Self {
        Self {
            id: record.id.clone(),
            kind: record.kind.as_str(),
            environment: record.environment.clone(),
            service: record.service.to_string(),
            version: record.version.to_string(),
            release: record.release.to_string(),
            digest: record.digest.to_string(),
            state: record.state,
            previous: record.previous.as_ref().map(ToString::to_string),
            agent: record.agent.clone(),
            task_id: record.task_id.clone(),
            requested_at: record.requested_at.clone(),
            updated_at: record.updated_at.clone(),
            reason: record.reason.clone(),
        }
    }
}
