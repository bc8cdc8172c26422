//! The `[ralph]` table of `tollgate.toml`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The configuration of mcp-ralph.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RalphConfig {
    /// The folders that files may be in, relative to the workspace.
    pub roots: Vec<String>,
    /// Largest file that is checked, in bytes; a larger one is `inconclusive`.
    #[schemars(range(min = 1, max = 67_108_864))]
    pub file_bytes_max: usize,
    /// Longest that one file is parsed, in milliseconds; then it is `inconclusive`.
    #[schemars(range(min = 1, max = 600_000))]
    pub parse_timeout_ms: u64,
    /// How many results are remembered; those used least recently go first. 0 remembers none.
    pub cache_entries_max: u32,
}

impl Default for RalphConfig {
    fn default() -> Self {
        Self {
            roots: vec![".".to_owned()],
            file_bytes_max: 2 * 1024 * 1024,
            parse_timeout_ms: 5_000,
            cache_entries_max: 100_000,
        }
    }
}
