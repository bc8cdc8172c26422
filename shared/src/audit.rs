//! Decisions worth remembering: refusals, approvals, rollbacks, changes of protected things.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::identity::Agent;
use crate::ids::EntryId;

/// One decision, in the ledger beside the receipts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// Made by the server that took the decision.
    pub id: EntryId,
    /// When it was taken.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// What happened: `refused`, `committed`, `branch_created`, `deployed`, `rolled_back`, …
    pub action: String,
    /// The server's short name.
    pub server: String,
    /// The tool that was called.
    pub tool: String,
    /// The stable code of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why, one sentence.
    pub reason: String,
    /// On whose behalf.
    pub agent: Agent,
    /// For which task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// The receipt of the call in which it happened.
    pub receipt_id: EntryId,
    /// What it was about: old and new object ids, the environment, the release.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}
