//! The configuration that is released with an artifact: names and texts, as one more file of the release.

use std::collections::BTreeMap;

use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::refusal::Refusal;

use crate::artifact::Artifact;
use crate::names::shown;

/// The file that holds it.
pub const FILE_NAME: &str = "tollgate-configuration.json";

/// Most names.
const NAMES_MAX: usize = 100;

/// Longest file.
const BYTES_MAX: usize = 64 * 1024;

/// A configuration, in the one form that its digest is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration(String);

impl Configuration {
    /// Takes what a caller gave.
    ///
    /// # Errors
    ///
    /// `invalid_configuration`.
    pub fn new(given: &BTreeMap<String, String>) -> Result<Self, Refusal> {
        let invalid = |reason: String| {
            Refusal::refused(
                "invalid_configuration",
                reason,
                "use up to 100 names such as `LOG_LEVEL`, 64 KiB together; secrets belong to the operator's environment",
            )
        };
        if given.is_empty() || given.len() > NAMES_MAX {
            return Err(invalid(format!("`configuration` has {} names", given.len())));
        }
        for (name, value) in given {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
            let is_name = name.len() <= 100
                && name.bytes().all(plain)
                && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
            if !is_name {
                return Err(invalid(format!("`configuration` has the impossible name {}", shown(name))));
            }
            if value.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
                return Err(invalid(format!("`configuration.{name}` has a control character")));
            }
        }
        let text = serde_json::to_string_pretty(given).unwrap_or_default() + "\n";
        if text.len() > BYTES_MAX {
            return Err(invalid(format!("`configuration` has {} bytes", text.len())));
        }
        Ok(Self(text))
    }

    /// Takes what was recorded.
    #[must_use]
    pub fn recorded(text: String) -> Self {
        Self(text)
    }

    /// Returns the file's text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Returns its identity.
    #[must_use]
    pub fn digest(&self) -> ContentHash {
        ContentHash::of(self.0.as_bytes())
    }

    /// Makes it a file of what is released.
    ///
    /// # Errors
    ///
    /// `invalid_configuration` where the artifact has such a file already.
    pub fn add_to(&self, artifact: &mut Artifact) -> Result<(), Refusal> {
        artifact.tree = artifact.tree.with_file(FILE_NAME, self.0.as_bytes()).ok_or_else(|| {
            Refusal::refused(
                "invalid_configuration",
                format!("the artifact has a {FILE_NAME} of its own"),
                "leave that file out of the artifact, or `configuration` out of the call",
            )
        })?;
        Ok(())
    }
}
