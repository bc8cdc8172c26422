//! How a call that does not succeed is answered.

use serde_json::{Map, Value};

use crate::receipt::Outcome;

/// The answer to a call that a rule refuses or that fails.
///
/// Reaches the caller as `structuredContent.error = {code, message, hint}` with `isError`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// [`Outcome::Refused`] when a rule said no, [`Outcome::Failed`] when the work went wrong.
    pub outcome: Outcome,
    /// A stable snake_case word, listed in the README section of the server.
    pub code: &'static str,
    /// What was wrong, one sentence.
    pub message: String,
    /// What to do instead, one sentence.
    pub hint: String,
    /// Further fields of the structured answer, beside `error`.
    pub detail: Map<String, Value>,
}

impl Refusal {
    /// A rule says no; nothing was done and nothing is charged.
    pub fn refused(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { outcome: Outcome::Refused, code, message: message.into(), hint: hint.into(), detail: Map::new() }
    }

    /// The work was allowed and went wrong.
    pub fn failed(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failed, ..Self::refused(code, message, hint) }
    }

    /// The arguments do not have the form that the tool's input schema describes.
    pub fn invalid_arguments(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::refused("invalid_arguments", message, hint)
    }

    /// The client cancelled the call before it had an effect.
    pub fn cancelled() -> Self {
        Self {
            outcome: Outcome::Cancelled,
            ..Self::refused("cancelled", "the client cancelled the call", "call again if the answer is still wanted")
        }
    }

    /// Adds a field to the structured answer.
    #[must_use]
    pub fn with_detail(mut self, name: &str, value: impl serde::Serialize) -> Self {
        if let Ok(value) = serde_json::to_value(value) {
            self.detail.insert(name.to_owned(), value);
        }
        self
    }
}
