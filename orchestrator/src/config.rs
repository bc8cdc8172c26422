//! Which servers there are and how they are started.

mod price;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::config::{Settings, did_you_mean, nearest};
use tollgate_shared::price::PriceList;
use tollgate_shared::serve::CommonArguments;
use tollgate_shared::state_dir::StateDir;

pub use price::ForeignPrice;

use crate::agent::acp::config::AgentsConfig;
use crate::budget::BudgetConfig;
use crate::fleet::UNAVAILABLE_HINT;
use crate::gateway::policy::GatewayConfig;
use crate::model::ModelsConfig;
use crate::oauth::{Access, OAuthConfig, Refusal};
use crate::queue::config::QueueConfig;
use crate::router::RouterConfig;
use crate::team::TeamConfig;
use crate::telemetry::TelemetryConfig;

/// The servers of the house, by short name; each program is `mcp-<name>`.
pub const OWN_SERVERS: &[&str] = &["ralph", "git", "database", "deploy"];

/// Largest `.mcp.json` that is read.
const MCP_JSON_BYTES_MAX: u64 = 1024 * 1024;

/// The table `[orchestrator]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OrchestratorConfig {
    /// Which of the servers of the house to use; found beside this program, else on PATH.
    pub servers: Vec<String>,
    /// Files with `mcpServers`, as other hosts have them, whose servers are used too. None is read unless
    /// it is named here or with `--mcp-json`: an agent could write one.
    pub mcp_json: Vec<PathBuf>,
    /// How long one call may take, in milliseconds, unless its server has a limit of its own.
    pub call_timeout_ms: u64,
}

impl Default for OrchestratorConfig {
    fn default() -> Self {
        Self {
            servers: OWN_SERVERS.iter().map(|name| (*name).to_owned()).collect(),
            mcp_json: Vec::new(),
            call_timeout_ms: 300_000,
        }
    }
}

/// The tables `[servers.<name>]`: other MCP servers, over stdio or Streamable HTTP.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ForeignServers(pub BTreeMap<String, ForeignServer>);

/// One table `[servers.<name>]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForeignServer {
    /// The program, of a server over stdio.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub command: String,
    /// The address, of a server over Streamable HTTP: `https://example.com/mcp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Headers of every request to `url`, such as `Authorization`; secrets as `${NAME}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// How a login at `url` is got, where the server wants one and `orchestrator login NAME` needs to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OAuthConfig>,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment variables it gets besides PATH, HOME, LANG, LOGNAME, SHELL, TERM, TMPDIR and USER.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Its working directory, from the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// How long one call may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_timeout_ms: Option<u64>,
    /// What its calls cost.
    #[serde(default)]
    pub price: ForeignPrice,
    /// Largest answer, in bytes, 8 MiB when left out; a larger one fails its call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_bytes_max: Option<u64>,
    /// Its tools, prompts and resources keep their names in the gateway, where no server before it has the same.
    #[serde(default)]
    pub plain_names: bool,
}

/// Largest answer of a foreign server when nothing is said.
const ANSWER_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Everything that the orchestrator may rely on.
#[derive(Clone, Debug)]
pub struct House {
    /// Every server, own ones first.
    pub servers: Vec<ServerSpec>,
    /// The prices in force.
    pub prices: PriceList,
    /// Where relative paths start.
    pub workspace: PathBuf,
    /// What every program of the house is given, to find one ledger and one configuration.
    pub common_arguments: Vec<String>,
    /// What the gateway shows.
    pub gateway: GatewayConfig,
    /// What may be spent.
    pub budget: BudgetConfig,
    /// Models under names of the operator's own.
    pub models: ModelsConfig,
    /// Agents that speak the Agent Client Protocol.
    pub agents: AgentsConfig,
    /// Where the queue is, and who does what is in it.
    pub queue: QueueConfig,
    /// When a team or a person does a task.
    pub router: RouterConfig,
    /// Who is in a team.
    pub team: TeamConfig,
    /// Where traces and metrics go.
    pub telemetry: TelemetryConfig,
    /// Where everything is recorded.
    pub state_dir: StateDir,
    /// What is in force, secrets masked.
    pub description: String,
}

/// How one server is started.
#[derive(Clone, Debug)]
pub struct ServerSpec {
    /// Its short name: the first half of its tools' names in the catalogue.
    pub name: String,
    /// Whether it is one of the house, whose receipts are believed.
    pub own: bool,
    /// Where it is, when it is not started but reached over HTTP.
    pub url: Option<String>,
    /// What is sent to it with every request.
    pub headers: BTreeMap<String, String>,
    /// The login there, when it is reached over HTTP and the headers have none.
    pub access: Option<Arc<Access>>,
    /// The program; a name without a slash is looked up on PATH.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Environment variables it gets on top.
    pub variables: BTreeMap<String, String>,
    /// Its working directory.
    pub folder: PathBuf,
    /// How long one call may take.
    pub call_timeout: Duration,
    /// What its calls cost, when it is a foreign one.
    pub price: ForeignPrice,
    /// Largest answer, in bytes.
    pub answer_bytes_max: u64,
    /// Whether its names stay as they are in the gateway.
    pub plain_names: bool,
}

impl ServerSpec {
    /// Returns why the server refused the last request, if it did for want of a login.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.access.as_ref()?.refusal()
    }

    /// Returns the code and the hint of a call that cannot be made because the server is down.
    pub(crate) fn why_down(&self) -> (&'static str, String) {
        match self.refusal() {
            Some(refusal) => (refusal.code(), refusal.hint(&self.name)),
            None => ("server_unavailable", UNAVAILABLE_HINT.to_owned()),
        }
    }
}

impl House {
    /// Reads the configuration; `mcp_json` names further files with `mcpServers`.
    ///
    /// # Errors
    ///
    /// A sentence that names the file and the key.
    pub fn load(arguments: &CommonArguments, mcp_json: &[PathBuf]) -> anyhow::Result<Self> {
        let settings = Settings::<OrchestratorConfig>::load("orchestrator", arguments.config.as_deref())?;
        let foreign = Settings::<ForeignServers>::load("servers", arguments.config.as_deref())?;
        let budget = Settings::<BudgetConfig>::load("budget", arguments.config.as_deref())?;
        let gateway = Settings::<GatewayConfig>::load("gateway", arguments.config.as_deref())?;
        let agents = Settings::<AgentsConfig>::load("agents", arguments.config.as_deref())?;
        let models = Settings::<ModelsConfig>::load("models", arguments.config.as_deref())?;
        let queue = Settings::<QueueConfig>::load("queue", arguments.config.as_deref())?;
        let router = Settings::<RouterConfig>::load("router", arguments.config.as_deref())?;
        let team = Settings::<TeamConfig>::load("team", arguments.config.as_deref())?;
        let telemetry = Settings::<TelemetryConfig>::load("telemetry", arguments.config.as_deref())?;
        let workspace = settings.workspace.clone();
        let state_dir = StateDir::choose(arguments.state_dir.as_deref(), &workspace);
        let timeout = Duration::from_millis(settings.own.call_timeout_ms.max(1));

        let mut servers = Vec::new();
        for name in &settings.own.servers {
            servers.push(own_server(name, &settings, &state_dir, timeout)?);
        }
        let mut add = |name: &str, server: &ForeignServer, origin: &str| {
            foreign_server(name, server, &workspace, &state_dir, timeout)
                .with_context(|| format!("server `{name}` of {origin}"))
                .and_then(|spec| {
                    let taken = servers.iter().any(|known: &ServerSpec| known.name == spec.name);
                    ensure!(!taken, "there is already a server of the name `{name}` ({origin})");
                    servers.push(spec);
                    Ok(())
                })
        };
        for (name, server) in &foreign.own.0 {
            add(name, server, "[servers]")?;
        }
        for path in settings.own.mcp_json.iter().map(|path| workspace.join(path)).chain(mcp_json.iter().cloned()) {
            let origin = path.display().to_string();
            for (name, server) in read_mcp_json(&path)? {
                add(&name, &server, &origin)?;
            }
        }
        let common_arguments = common_arguments(&settings, &state_dir)?;
        let description = [
            settings.describe(),
            tables_only(&foreign.describe()),
            tables_only(&budget.describe()),
            tables_only(&gateway.describe()),
            tables_only(&models.describe()),
            tables_only(&agents.describe()),
            tables_only(&queue.describe()),
            tables_only(&router.describe()),
            tables_only(&team.describe()),
            tables_only(&telemetry.describe()),
        ]
        .concat();
        Ok(Self {
            servers,
            prices: settings.prices,
            workspace,
            common_arguments,
            gateway: gateway.own,
            budget: budget.own,
            models: models.own,
            agents: agents.own,
            queue: queue.own,
            router: router.own,
            team: team.own,
            telemetry: telemetry.own,
            state_dir,
            description,
        })
    }
}

/// Drops the head that the first description already has.
fn tables_only(description: &str) -> String {
    let lines: Vec<&str> = description.lines().filter(|line| !line.starts_with('#')).collect();
    let end = lines.iter().position(|line| line.starts_with("[prices")).unwrap_or(lines.len());
    let text = lines[..end].join("\n");
    if ["[servers]", "[budget]", "[gateway]", "[models]", "[agents]"].contains(&text.trim()) {
        String::new()
    } else {
        format!("\n{text}\n")
    }
}

fn own_server(
    name: &str,
    settings: &Settings<OrchestratorConfig>,
    state_dir: &StateDir,
    call_timeout: Duration,
) -> anyhow::Result<ServerSpec> {
    if !OWN_SERVERS.contains(&name) {
        let nearest = nearest(name, OWN_SERVERS.iter().copied());
        bail!("orchestrator.servers: `{name}` is not a server of the house{}", did_you_mean(nearest));
    }
    let arguments = common_arguments(settings, state_dir)?;
    let program = format!("mcp-{name}");
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join(&program)));
    Ok(ServerSpec {
        name: name.to_owned(),
        own: true,
        url: None,
        headers: BTreeMap::new(),
        access: None,
        program: beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(program)),
        arguments,
        variables: BTreeMap::new(),
        folder: settings.workspace.clone(),
        call_timeout,
        price: ForeignPrice::default(),
        answer_bytes_max: u64::MAX,
        plain_names: false,
    })
}

/// Both sides must write one ledger and read one configuration.
fn common_arguments(settings: &Settings<OrchestratorConfig>, state_dir: &StateDir) -> anyhow::Result<Vec<String>> {
    let mut arguments = vec!["--state-dir".to_owned(), absolute(state_dir.path())?];
    if let Some(file) = &settings.file {
        arguments.extend(["--config".to_owned(), absolute(file)?]);
    }
    Ok(arguments)
}

fn absolute(path: &Path) -> anyhow::Result<String> {
    let path = std::path::absolute(path).with_context(|| format!("cannot tell where {} is", path.display()))?;
    path.into_os_string().into_string().map_err(|path| anyhow::anyhow!("{} is not UTF-8", path.display()))
}

fn foreign_server(
    name: &str,
    server: &ForeignServer,
    workspace: &Path,
    state_dir: &StateDir,
    call_timeout: Duration,
) -> anyhow::Result<ServerSpec> {
    let well_formed = !name.is_empty()
        && name.len() <= 32
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        && !name.contains("__");
    ensure!(well_formed, "a name has at most 32 of A-Z a-z 0-9 - _, without two underscores in a row");
    let reserved = OWN_SERVERS.contains(&name) || [crate::catalogue::BUILT_IN, crate::model::SERVER].contains(&name);
    ensure!(!reserved, "the name belongs to the house; choose another");
    match &server.url {
        None => ensure!(!server.command.is_empty(), "it has neither `command` nor `url`"),
        Some(_) if !server.command.is_empty() => bail!("it has both `command` and `url`"),
        Some(url) => ensure!(
            is_safe_url(url, !server.headers.is_empty()),
            "`url` is not http:// or https://, or sends `headers` unencrypted to another machine"
        ),
    }
    Ok(ServerSpec {
        name: name.to_owned(),
        own: false,
        url: server.url.clone(),
        headers: server.headers.clone(),
        access: access(name, server, workspace, state_dir)?,
        program: if server.command.contains('/') { workspace.join(&server.command) } else { (&server.command).into() },
        arguments: server.args.clone(),
        variables: server.env.clone(),
        folder: server.cwd.as_ref().map_or_else(|| workspace.to_owned(), |cwd| workspace.join(cwd)),
        call_timeout: server.call_timeout_ms.map_or(call_timeout, |ms| Duration::from_millis(ms.max(1))),
        price: server.price.clone(),
        answer_bytes_max: server.answer_bytes_max.unwrap_or(ANSWER_BYTES_MAX),
        plain_names: server.plain_names,
    })
}

/// Returns the login at a server over HTTP whose headers have none.
fn access(
    name: &str,
    server: &ForeignServer,
    workspace: &Path,
    state_dir: &StateDir,
) -> anyhow::Result<Option<Arc<Access>>> {
    let in_headers = server.headers.keys().any(|name| name.eq_ignore_ascii_case("authorization"));
    let Some(url) = server.url.as_ref().filter(|url| !in_headers && is_safe_url(url, true)) else {
        ensure!(server.oauth.is_none(), "`oauth` is for a `url` that is https:// or local, without `Authorization`");
        return Ok(None);
    };
    let mut config = server.oauth.clone().unwrap_or_default();
    config.check().map_err(|reason| anyhow::anyhow!("oauth: {reason}"))?;
    config.private_key = config.private_key.map(|path| workspace.join(path));
    Ok(Some(Access::new(name, url, config, state_dir)))
}

/// Whether `url` is one that may be used: where secrets are sent, over TLS or to this machine.
pub(crate) fn is_safe_url(url: &str, sends_secrets: bool) -> bool {
    // To those who send, a backslash is a slash.
    if url.contains('\\') {
        return false;
    }
    let Some(rest) = url.strip_prefix("http://") else { return url.starts_with("https://") };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let local = ["127.0.0.1", "localhost", "[::1]"]
        .iter()
        .any(|name| host.strip_prefix(name).is_some_and(|port| port.is_empty() || port.starts_with(':')));
    local || !sends_secrets
}

/// The part of an `.mcp.json` that says how stdio servers are started. Other hosts put more into it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct McpJson {
    mcp_servers: BTreeMap<String, McpJsonServer>,
}

#[derive(Deserialize)]
struct McpJsonServer {
    #[serde(default)]
    command: Option<String>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    cwd: Option<PathBuf>,
}

fn read_mcp_json(path: &Path) -> anyhow::Result<Vec<(String, ForeignServer)>> {
    let context = || format!("cannot read {}", path.display());
    ensure!(
        std::fs::metadata(path).with_context(context)?.len() <= MCP_JSON_BYTES_MAX,
        "{} is larger than 1 MiB",
        path.display()
    );
    let text = std::fs::read_to_string(path).with_context(context)?;
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    let file: McpJson = serde_path_to_error::deserialize(&mut deserializer).with_context(context)?;
    let mut servers = Vec::new();
    for (name, server) in file.mcp_servers {
        if server.command.is_none() && server.url.is_none() {
            tracing::warn!(server = name, file = %path.display(), "left out: it has neither `command` nor `url`");
            continue;
        }
        let expand =
            |text: &str| expand_variables(text).with_context(|| format!("server `{name}` of {}", path.display()));
        servers.push((
            name.clone(),
            ForeignServer {
                command: expand(&server.command.unwrap_or_default())?,
                url: server.url.as_deref().map(expand).transpose()?,
                headers: expanded(&server.headers, &expand)?,
                args: server.args.iter().map(|text| expand(text)).collect::<Result<_, _>>()?,
                env: expanded(&server.env, &expand)?,
                cwd: server.cwd,
                ..ForeignServer::default()
            },
        ));
    }
    Ok(servers)
}

fn expanded(
    values: &BTreeMap<String, String>,
    expand: &dyn Fn(&str) -> anyhow::Result<String>,
) -> anyhow::Result<BTreeMap<String, String>> {
    values.iter().map(|(name, text)| Ok((name.clone(), expand(text)?))).collect()
}

/// Replaces `${NAME}` and `${NAME:-default}` as the hosts that write these files do.
fn expand_variables(text: &str) -> anyhow::Result<String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, reference)) = rest.split_once("${") {
        expanded.push_str(before);
        let (reference, after) = reference.split_once('}').context("`${` without `}`")?;
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (reference, None),
        };
        match (std::env::var(name), default) {
            (Ok(value), _) => expanded.push_str(&value),
            (Err(_), Some(default)) => expanded.push_str(default),
            (Err(_), None) => bail!("the environment variable {name} is not set"),
        }
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str, command: &str) -> anyhow::Result<ServerSpec> {
        let server = ForeignServer { command: command.into(), ..ForeignServer::default() };
        let workspace = Path::new("/w");
        foreign_server(name, &server, workspace, &StateDir::choose(None, workspace), Duration::ZERO)
    }

    #[test]
    fn names_that_would_be_confused_are_refused() {
        for name in ["git", "ralph", "tollgate", "model", "", "a__b", "a b", "ä", &"x".repeat(33)] {
            assert!(made(name, "x").is_err(), "{name}");
        }
        assert!(made("my-server_2", "x").is_ok());
    }

    #[test]
    fn secrets_are_not_sent_in_the_clear_to_other_machines() {
        for url in ["https://example.com/mcp", "http://127.0.0.1:1/mcp", "http://localhost/mcp", "http://[::1]:1"] {
            assert!(is_safe_url(url, true), "{url}");
        }
        for url in
            ["http://example.com", "http://localhost.example.com", "http://127.0.0.1@example.com/", "ftp://127.0.0.1"]
        {
            assert!(!is_safe_url(url, true), "{url}");
        }
    }

    #[test]
    fn relative_programs_start_from_the_workspace_and_names_from_path() {
        let program = |command| made("a", command).unwrap().program;
        assert_eq!(program("npx"), Path::new("npx"));
        assert_eq!(program("bin/x"), Path::new("/w/bin/x"));
        assert_eq!(program("/opt/x"), Path::new("/opt/x"));
    }

    #[test]
    fn mcp_json_of_other_hosts_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".mcp.json");
        std::fs::write(
            &path,
            r#"{"mcpServers": {"a": {"type": "stdio", "command": "x", "args": ["${NOPE_ZZ:-d}"], "env": {"K": "v"}},
                               "web": {"type": "http", "url": "http://127.0.0.1", "headers": {"A": "${NOPE_ZZ:-b}"}},
                               "nothing": {}}, "other": 1}"#,
        )
        .unwrap();
        let servers = read_mcp_json(&path).unwrap();
        assert_eq!(servers.len(), 2);
        assert_eq!((servers[1].1.url.as_deref(), servers[1].1.headers["A"].as_str()), (Some("http://127.0.0.1"), "b"));
        assert_eq!(servers[0].1.args, ["d"]);
        std::fs::write(&path, r#"{"mcpServers": {"a": {"command": 7}}}"#).unwrap();
        let error = format!("{:#}", read_mcp_json(&path).unwrap_err());
        assert!(error.contains("mcpServers.a.command"), "{error}");
    }
}
