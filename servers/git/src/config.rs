//! The table `[git]` of `tollgate.toml`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where agents may use git, and which branches they may not write.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GitConfig {
    /// The folders that repositories may be in, relative to the workspace; nothing outside them is opened.
    pub repositories: Vec<String>,
    /// Names and globs of the branches that no tool writes; `*` does not cross a `/`. Compared without regard to case.
    pub protected_branches: Vec<String>,
    /// What single protected branches still take, by name or glob.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub branches: BTreeMap<String, BranchConfig>,
    /// Where may be fetched from and pushed to besides `repositories`: folders, and addresses such as `https://host/org`
    /// or `git@host:org`, with all that is below them.
    pub remotes: Vec<String>,
    /// A file of ssh host keys besides the user's own; hosts in neither are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<String>,
    /// Whether the pre-commit and commit-msg hooks in `.git/hooks` are run before git_commit: in a sandbox, without the
    /// network, writing nothing of the repository.
    pub hooks: bool,
    /// A folder of the operator's with the hooks to run instead of the repository's, relative to the workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks_folder: Option<String>,
    /// How long the hooks of one commit may take; 45,000 by default, at most 600,000.
    pub hooks_timeout_ms: u64,
    /// Whose name stands on commits; without it, the `user.name` and `user.email` of git's own configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<AuthorConfig>,
}

/// What a protected branch still takes.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BranchConfig {
    /// `merge`: git_merge and git_pull may write it; nothing else may.
    pub allow: Vec<Allowed>,
    /// `ralph`: only where the exact tree to be written has passed mcp-ralph's verify_changes.
    pub require: Vec<Required>,
}

/// What may be done to a protected branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Allowed {
    /// Another branch may be merged into it.
    Merge,
}

/// What must be shown before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Required {
    /// A verdict `pass` of Ralph, in the ledger.
    Ralph,
}

/// Whose name stands on commits.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthorConfig {
    /// The name, without `<` and `>`.
    pub name: String,
    /// The address, without `<` and `>`.
    pub email: String,
}

impl Default for GitConfig {
    fn default() -> Self {
        let protected = ["main", "master", "develop", "staging", "production", "release/*"];
        Self {
            repositories: vec![".".to_owned()],
            protected_branches: protected.map(str::to_owned).to_vec(),
            branches: BTreeMap::new(),
            remotes: Vec::new(),
            known_hosts: None,
            hooks: false,
            hooks_folder: None,
            hooks_timeout_ms: 45_000,
            author: None,
        }
    }
}
