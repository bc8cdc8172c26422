//! The table `[deploy]` of `tollgate.toml`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What may be deployed, and where to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeployConfig {
    /// The folders in which an artifact may lie, relative to the workspace.
    pub artifacts: Vec<String>,
    /// The environments by name, in the order in which a release goes through them.
    pub environments: IndexMap<String, EnvironmentConfig>,
}

/// One environment and its gates.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EnvironmentConfig {
    /// How a release gets there.
    pub target: TargetKind,
    /// The folder of a service, with `{service}` as one of its names; it holds `releases/` and the link `current`.
    /// Relative to the workspace, in which no link is followed.
    /// Default: `environments/<environment>/{service}` in the state folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Environments, listed before this one, in which the same files must have been live and healthy first.
    pub requires: Vec<String>,
    /// How many people must approve. Default: 1 for `prod` and `production`, otherwise 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approvals: Option<u32>,
    /// How a release is found to be healthy; without it, every release is taken to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthConfig>,
    /// How many releases are kept, with the current one; 2 to 1000. Default: 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
}

/// How a release gets to an environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKind {
    /// A folder of releases on this machine, with a link to the current one.
    #[default]
    ReleaseDirectory,
}

/// How a release is found to be healthy: by a command or over HTTP.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthConfig {
    /// A program and its arguments, run without a shell; `{release}` is the release's folder, `{service}` the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// An address (`http://`) that answers with a status of 200 to 299; `{service}` is the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// How long one check may take, in milliseconds; 1 to 300000. Default: 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How many checks in a row must pass; 1 to 100. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// How long to wait between two checks, in milliseconds; up to 60000. Default: 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
}

impl Default for DeployConfig {
    fn default() -> Self {
        let environment = |requires: &[&str], approvals| EnvironmentConfig {
            requires: requires.iter().map(|name| (*name).to_owned()).collect(),
            approvals: Some(approvals),
            ..EnvironmentConfig::default()
        };
        Self {
            artifacts: vec![".".to_owned()],
            environments: IndexMap::from([
                ("dev".to_owned(), environment(&[], 0)),
                ("staging".to_owned(), environment(&["dev"], 0)),
                ("prod".to_owned(), environment(&["staging"], 1)),
            ]),
        }
    }
}
