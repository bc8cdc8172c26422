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
    /// The person whose session the agents work in, as the approvers' file names people; `"${USER}"` takes it from the
    /// environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Refuse what people must approve while the account that this server runs as could write the policy or the
    /// approvers' file, or read an approver's key. Without it, that is a warning.
    pub strict: bool,
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
    /// For how long the same files must have been live without a break in each of `requires`, in minutes.
    pub bake_minutes: u32,
    /// Patterns of which a version must fit one, such as `[0-9]*.[0-9]*.[0-9]*`; without any, every version is taken.
    pub versions: Vec<String>,
    /// When nothing is deployed. Going back one step is possible all the same.
    pub freeze: Vec<FreezeConfig>,
    /// How many people must approve. Default: 1 for `prod` and `production`, otherwise 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approvals: Option<u32>,
    /// Who may: a file of people and their SSH keys (`allowed_signers`), relative to the workspace. Without it, nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approvers: Option<String>,
    /// How long a request may wait and an approval holds, in minutes; 1 to 43200. Default: 1440.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_minutes: Option<u32>,
    /// The person of `deploy.operator` may not approve what is asked for in that session.
    pub forbid_self_approval: bool,
    /// How a release is found to be healthy; without it, every release is taken to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthConfig>,
    /// How many releases are kept, with the current one; 2 to 1000. Default: 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
}

/// A time in which nothing is deployed: between two points in time, or again and again.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FreezeConfig {
    /// The first moment, as local date or date and time: `2026-12-20`, `2026-12-20T18:00`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The first moment after it; a date alone means that the whole day still belongs to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Minute, hour, day of the month, month and day of the week at which it begins, as in crontab: `0 16 * * 5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// How long it lasts from then on, in minutes; 1 to 44640. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minutes: Option<u32>,
    /// The time zone, such as `Europe/Berlin`. Default: UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
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
            operator: None,
            strict: false,
            environments: IndexMap::from([
                ("dev".to_owned(), environment(&[], 0)),
                ("staging".to_owned(), environment(&["dev"], 0)),
                ("prod".to_owned(), environment(&["staging"], 1)),
            ]),
        }
    }
}
