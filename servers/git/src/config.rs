//! The table `[git]` of `tollgate.toml`.

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
    /// Folders outside `repositories` with repositories that may be fetched from and pushed to.
    pub remotes: Vec<String>,
    /// Whose name stands on commits; without it, the `user.name` and `user.email` of git's own configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<AuthorConfig>,
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
            remotes: Vec::new(),
            author: None,
        }
    }
}
