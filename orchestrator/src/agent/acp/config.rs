//! `[agents.<name>]`: agents that speak the Agent Client Protocol.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::money::Money;

/// The tables `[agents.<name>]`, used as `--agent acp:<name>`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct AgentsConfig(pub BTreeMap<String, AgentConfig>);

/// One table `[agents.<name>]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The program that speaks the Agent Client Protocol over stdio.
    pub command: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment variables it gets besides PATH, language and where toolchains are.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Names of variables that it gets as the orchestrator has them, such as ANTHROPIC_API_KEY.
    #[serde(default)]
    pub env_pass: Vec<String>,
    /// Files and folders that it may read besides the system, toolchains and the working tree.
    #[serde(default)]
    pub readable: Vec<PathBuf>,
    /// Folders that it may write besides the working tree and a home of its own, which is empty at first and deleted
    /// afterwards: where it keeps its login, say.
    #[serde(default)]
    pub writable: Vec<PathBuf>,
    /// What it is permitted when it asks. It works in a sandbox with the working tree alone, whatever it is permitted.
    #[serde(default = "allow_default")]
    pub allow: Vec<Permission>,
    /// The mode of its own that its session is put into, where its own choice is another: one that asks for permission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// What one turn may cost, in US dollars; set aside before, and the turn is cancelled beyond it.
    #[serde(default = "turn_default")]
    pub turn_usd: Money,
    /// The model whose prices hold for the tokens it reports, where it reports no cost: a name that `--agent model:` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Most memory of it and all that it starts, in MiB.
    #[serde(default = "memory_default")]
    pub memory_mib: u64,
}

/// What an agent may ask for, as the protocol tells kinds of calls apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// To read files.
    Read,
    /// To change files.
    Edit,
    /// To delete files.
    Delete,
    /// To move files.
    Move,
    /// To search.
    Search,
    /// To run commands.
    Execute,
    /// To think.
    Think,
    /// To fetch something from elsewhere.
    Fetch,
    /// To change its own mode, such as to one that asks for nothing.
    SwitchMode,
    /// Everything else: the tools of this house among it.
    Other,
}

fn allow_default() -> Vec<Permission> {
    use Permission::{Delete, Edit, Execute, Move, Other, Read, Search, Think};
    vec![Read, Edit, Delete, Move, Search, Execute, Think, Other]
}

fn turn_default() -> Money {
    "2".parse().unwrap_or_default()
}

fn memory_default() -> u64 {
    8 * 1024
}
