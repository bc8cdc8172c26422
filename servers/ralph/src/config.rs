//! The `[ralph]` table of `tollgate.toml`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::sandbox::Setting;

use crate::command::settings::CommandSettings;

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
    /// Files of rules in the format of ast-grep, or folders of them, relative to the workspace; part of `security`.
    pub rules: Vec<String>,
    /// What `verify_changes` compares with: a commit, or a ref in full such as `refs/remotes/origin/main`, of which the
    /// newest commit counts that the change has too. When left out, the default branch as the remote has it.
    pub base: Option<String>,
    /// Formatters, linters, type checkers and tests, each under a name of its own.
    pub commands: BTreeMap<String, CommandSettings>,
    /// How commands are confined: auto, or none.
    pub sandbox: Setting,
    /// Further files and folders that commands may read, such as a toolchain in an unusual place.
    pub readable: Vec<String>,
}

impl Default for RalphConfig {
    fn default() -> Self {
        Self {
            roots: vec![".".to_owned()],
            file_bytes_max: 2 * 1024 * 1024,
            parse_timeout_ms: 5_000,
            cache_entries_max: 100_000,
            rules: Vec::new(),
            base: None,
            commands: BTreeMap::new(),
            sandbox: Setting::Auto,
            readable: Vec::new(),
        }
    }
}
