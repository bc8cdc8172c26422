//! The table `[deploy]` of `tollgate.toml`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::sandbox::Setting;

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
    /// Patterns of which the branch that is checked out where the artifact lies must fit one, such as `release/*`; the
    /// working tree must be as its commit. Without any, an artifact may lie anywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<String>,
    /// Ralph must have passed that commit, and nothing in the working tree may differ from it.
    pub verified: bool,
    /// When nothing is deployed. Going back one step is possible all the same.
    pub freeze: Vec<FreezeConfig>,
    /// How many people must approve. Default: 1 for `prod` and `production`, otherwise 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approvals: Option<u32>,
    /// Who may: a file of people and their SSH keys (`allowed_signers`), relative to the workspace. Without it, nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approvers: Option<String>,
    /// How people approve. Default: `["signature"]`, and for `dev` and `staging` `elicitation` as well. Production always
    /// takes a signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approve_by: Option<Vec<ApproveBy>>,
    /// How long a request may wait and an approval holds, in minutes; 1 to 43200. Default: 1440.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_minutes: Option<u32>,
    /// The person of `deploy.operator` may not approve what is asked for in that session.
    pub forbid_self_approval: bool,
    /// How what serves the releases is told of a new one: a program and its arguments, run after `current` was switched
    /// (`release-directory`; for `ssh` on the other host). `{service}`, `{environment}`, `{version}`, `{release}` and
    /// `{current}` stand for themselves here and in every other command of a target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reload: Option<Vec<String>>,
    /// Commands that must succeed before anything changes, run in the new release's folder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Vec<String>>,
    /// The programs of the target `command`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commands: Option<CommandsConfig>,
    /// The host of the target `ssh`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshConfig>,
    /// The project of the target `docker-compose`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compose: Option<ComposeConfig>,
    /// The cluster of the target `kubernetes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesConfig>,
    /// Environment variables of the target's programs, beside `TOLLGATE_SERVICE`, `TOLLGATE_RELEASE` and the like.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub variables: IndexMap<String, String>,
    /// How long each program of the target may take, in milliseconds; 1 to 3600000. Default: 300000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_timeout_ms: Option<u64>,
    /// Whether `before` and `commands` run in a sandbox, which lets them read the system, the service's folder and
    /// `readable`, write `writable` and a folder of their own, and reach no network. Default: `auto`, which refuses where
    /// no sandbox works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Setting>,
    /// Files and folders that programs in the sandbox may read as well, relative to the workspace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub readable: Vec<String>,
    /// Folders that programs in the sandbox may write, relative to the workspace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub writable: Vec<String>,
    /// Programs in the sandbox have the network of this machine.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub network: bool,
    /// How a release is found to be healthy; without it, every release is taken to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthConfig>,
    /// Names in a release that lead to folders which all releases share (`uploads` leads to `shared/uploads` beside
    /// `releases`); for `release-directory` and `command`. An artifact that has one of these names is refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<String>,
    /// How many releases are kept, with the current one; 2 to 1000. Default: 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
}

/// A way in which people approve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApproveBy {
    /// Signed with an SSH key of the approvers' file, by `mcp-deploy approve`.
    Signature,
    /// In a form that the agent's host shows. The host answers it, so it is no proof that there was a person.
    Elicitation,
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
    /// Programs of the operator's, which are given a folder of the release.
    Command,
    /// A folder of releases on another host.
    Ssh,
    /// Docker Compose.
    DockerCompose,
    /// Kubernetes, by `kubectl`.
    Kubernetes,
}

/// The programs of a target; each may be run again for the same release.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CommandsConfig {
    /// Says whether the release would be taken, and changes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validate: Option<Vec<String>>,
    /// Makes the release in `TOLLGATE_RELEASE` run.
    pub deploy: Vec<String>,
    /// Says whether it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<String>>,
    /// Makes a release run that ran before; with an empty `TOLLGATE_RELEASE`, none. Default: `deploy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Vec<String>>,
}

/// Another host; it needs `sh`, `tar`, `sha256sum`, `find` and `flock`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SshConfig {
    /// The host, or `user@host`.
    pub host: String,
    /// The service's folder there, with `{service}` as one of its names.
    pub path: String,
    /// Default: 22.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The private key, relative to the workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The file of known hosts; a host that is not in it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<String>,
    /// A configuration of ssh's; without it, none is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// The program. Default: `["ssh"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<Vec<String>>,
}

/// A project of Docker Compose.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ComposeConfig {
    /// The program. Default: `["docker", "compose"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<Vec<String>>,
    /// The file in the release. Default: `compose.yaml`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The project. Default: `{service}-{environment}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// A cluster of Kubernetes.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesConfig {
    /// The program. Default: `["kubectl"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<Vec<String>>,
    /// The context of the kubeconfig.
    pub context: String,
    /// The namespace.
    pub namespace: String,
    /// The file or folder of manifests in the release. Default: `manifests`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<String>,
    /// What has to be rolled out before a release is live, such as `deployment/{service}`.
    pub rollout: Vec<String>,
}

/// How a release is found to be healthy: by a command, over HTTP, or by a connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthConfig {
    /// A program and its arguments, run without a shell; `{release}` is the release's folder, `{service}` the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// An address (`http://`) that answers with a status of 200 to 299; `{service}` is the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// A text that the answer over HTTP must contain in its first 64 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// A host and port (`127.0.0.1:5432`) that takes a connection; `{service}` is the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<String>,
    /// How long one check may take, in milliseconds; 1 to 300000. Default: 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How many checks in a row must pass; 1 to 100. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// How long to wait between two checks, in milliseconds; up to 60000. Default: 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// What is current must pass it too, before a new release takes its place. Going back is possible all the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub before: bool,
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
