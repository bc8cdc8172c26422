//! One server as a child process.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest, JsonObject, PaginatedRequestParams,
    ProtocolVersion, RequestMetaObject, ServerCapabilities, ServerResult, Tool,
};
use rmcp::service::{
    ClientLifecycleMode, ClientServiceExt, PeerRequestOptions, RoleClient, RunningService, ServiceError,
};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, Transport};
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStderr, Command};
use tokio::sync::{Mutex as AsyncMutex, OnceCell};
use tokio::time::timeout;
use tollgate_shared::identity::RUN_SECRET_VARIABLE;

use super::Fleet;
use super::answer::{Answers, ROUNDS_MAX};
use super::pipes::Pipes;
use super::relay::{Inbox, Relay, Tapped};
use crate::budget::OWNER_FILE_VARIABLE;
use crate::config::ServerSpec;
use crate::oauth::Refusal;
use crate::telemetry;

/// Longest that a server may take from its start to its first answer; interpreters with many imports take seconds.
const START_MAX: Duration = Duration::from_secs(30);

/// Longest that a server may take to list its tools.
const LIST_MAX: Duration = Duration::from_secs(30);

/// Most tools of one server: ten times what any model can choose from.
const TOOLS_MAX: usize = 2_000;

/// Largest definition of one tool, as JSON.
const TOOL_BYTES_MAX: u64 = 256 * 1024;

/// Longest wait for a server to end by itself, and again after it was asked to.
const END_MAX: Duration = Duration::from_secs(3);

/// Longest that it takes to tell a server to stop; one that does not read is not waited for.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(1);

/// Lines of stderr kept to explain a death.
const LAST_WORDS_LINES: usize = 5;

/// What a foreign server sees of the environment; the rest is nobody's business until the operator says so.
const FOREIGN_VARIABLES: &[&str] = &["PATH", "HOME", "LANG", "LOGNAME", "SHELL", "TERM", "TMPDIR", "USER"];

/// A server that runs and is connected.
pub(crate) struct Child {
    service: AsyncMutex<RunningService<RoleClient, Relay>>,
    pub(crate) peer: rmcp::Peer<RoleClient>,
    pub(crate) inbox: Arc<Inbox>,
    process: Option<AsyncMutex<tokio::process::Child>>,
    group: Option<Pid>,
    tools: OnceCell<Vec<Tool>>,
    /// Whether somebody follows its lists already.
    pub(crate) followed: AtomicBool,
    stderr: Arc<Mutex<VecDeque<String>>>,
}

/// Why a call has no answer.
pub(crate) enum CallError {
    /// The server ended.
    Died(String),
    /// The server wants a login, or one that may do more.
    Refused(Refusal),
    /// The server took too long; it was told to stop.
    TimedOut(Duration),
    /// The server answered with a protocol error, or with something that is no answer.
    Protocol(String),
}

impl Child {
    /// Starts the server and connects to it, in the newest revision of the protocol that it speaks.
    pub(super) async fn start(spec: &ServerSpec, fleet: &Fleet, owner_file: Option<&Path>) -> anyhow::Result<Self> {
        let newest = ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: Some(ProtocolVersion::V_2025_11_25),
        };
        // A client of a session gets servers in a session, so that they can ask it; those that know none the newest.
        // Servers built on older SDKs end when they are asked who they are; they get the old greeting.
        let (first, then) = if fleet.facing().legacy {
            (ClientLifecycleMode::Initialize, newest)
        } else {
            (newest, ClientLifecycleMode::Initialize)
        };
        match Self::connect(spec, fleet, owner_file, first).await {
            Ok(child) => Ok(child),
            // Another handshake is refused as well.
            Err(error) if !spec.own && spec.refusal().is_none() => {
                tracing::debug!(server = spec.name, %error, "trying the other handshake");
                Self::connect(spec, fleet, owner_file, then).await.map_err(|other| other.context(error))
            }
            Err(error) => Err(error),
        }
    }

    async fn connect(
        spec: &ServerSpec,
        fleet: &Fleet,
        owner_file: Option<&Path>,
        mode: ClientLifecycleMode,
    ) -> anyhow::Result<Self> {
        if let Some(url) = &spec.url {
            return Self::reach(spec, url, fleet, mode).await;
        }
        let mut command = Command::new(&spec.program);
        command.args(&spec.arguments).current_dir(&spec.folder);
        if spec.own {
            command.env(RUN_SECRET_VARIABLE, fleet.secret.to_hex());
            match owner_file {
                Some(file) => command.env(OWNER_FILE_VARIABLE, file),
                None => command.env_remove(OWNER_FILE_VARIABLE),
            };
            for variable in ["TOLLGATE_CONFIG", "TOLLGATE_STATE_DIR"] {
                command.env_remove(variable);
            }
        } else {
            command.env_clear();
            for name in FOREIGN_VARIABLES {
                if let Some(value) = std::env::var_os(name) {
                    command.env(name, value);
                }
            }
            command.envs(&spec.variables);
        }
        // A group of its own, so that Ctrl-C in the terminal reaches the orchestrator alone, which lets calls finish.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().with_context(|| format!("cannot run {}", spec.program.display()))?;
        let (Some(stdin), Some(stdout), Some(errors)) =
            (process.stdin.take(), process.stdout.take(), process.stderr.take())
        else {
            anyhow::bail!("the pipes to {} are missing", spec.program.display());
        };
        let stderr = Arc::default();
        tokio::spawn(log_stderr(spec.name.clone(), errors, Arc::clone(&stderr)));
        let pipes = Pipes::new(stdout, stdin).context("the pipes to it cannot be used")?;
        match Self::greet(spec, fleet, pipes, mode).await {
            Ok((service, inbox)) => Ok(Self::connected(service, inbox, Some(process), stderr)),
            Err(error) => {
                // Give its last words a moment to arrive.
                let _ = timeout(Duration::from_millis(200), process.wait()).await;
                Err(error.context(format!("it does not speak MCP{}", last_words(&stderr))))
            }
        }
    }

    /// Connects to a server that somebody else runs.
    async fn reach(spec: &ServerSpec, url: &str, fleet: &Fleet, mode: ClientLifecycleMode) -> anyhow::Result<Self> {
        // One provider for the whole program; whoever comes second finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = StreamableHttpClientTransportConfig::with_uri(url).custom_headers(headers_of(spec)?);
        let greeted = if let Some(access) = &spec.access {
            let transport = StreamableHttpClientTransport::with_client(access.client()?, config);
            Self::greet(spec, fleet, transport, mode).await
        } else {
            Self::greet(spec, fleet, StreamableHttpClientTransport::from_config(config), mode).await
        };
        let (service, inbox) = greeted.map_err(|error| match spec.refusal() {
            Some(refusal) => anyhow::anyhow!("{refusal}; {}", refusal.hint(&spec.name)),
            None => error,
        })?;
        Ok(Self::connected(service, inbox, None, Arc::default()))
    }

    async fn greet<T: Transport<RoleClient> + 'static>(
        spec: &ServerSpec,
        fleet: &Fleet,
        transport: T,
        mode: ClientLifecycleMode,
    ) -> anyhow::Result<(RunningService<RoleClient, Relay>, Arc<Inbox>)> {
        let inbox = Inbox::new(&spec.name, fleet.facing().legacy, Arc::clone(fleet.changes()), fleet.client.clone());
        let (mut facing, answers) = (fleet.facing().clone(), fleet.answers_to(spec).cloned());
        if let Some(answers) = &answers {
            facing.capabilities = answers.capabilities();
        }
        let relay = Relay { inbox: Arc::clone(&inbox), facing, answers };
        let transport = Tapped { transport, inbox: Arc::clone(&inbox) };
        let service = timeout(START_MAX, relay.serve_with_lifecycle(transport, mode))
            .await
            .with_context(|| format!("it did not answer within {} s", START_MAX.as_secs()))??;
        Ok((service, inbox))
    }

    fn connected(
        service: RunningService<RoleClient, Relay>,
        inbox: Arc<Inbox>,
        process: Option<tokio::process::Child>,
        stderr: Arc<Mutex<VecDeque<String>>>,
    ) -> Self {
        let group = process.as_ref().and_then(|process| process.id()).and_then(|id| Pid::from_raw(id.cast_signed()));
        Self {
            peer: service.peer().clone(),
            inbox,
            service: AsyncMutex::new(service),
            process: process.map(AsyncMutex::new),
            group,
            tools: OnceCell::new(),
            followed: AtomicBool::new(false),
            stderr,
        }
    }

    /// Whether the connection is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.peer.is_transport_closed()
    }

    /// Returns the end of what the server wrote to stderr.
    pub(crate) fn last_words(&self) -> String {
        last_words(&self.stderr)
    }

    /// Returns what the server can do.
    pub(crate) fn capabilities(&self) -> ServerCapabilities {
        self.peer.peer_info().map(|info| info.capabilities.clone()).unwrap_or_default()
    }

    /// Whether every request stands alone; otherwise there is a session.
    pub(crate) fn is_modern(&self) -> bool {
        self.peer.peer_info().is_some_and(|info| info.protocol_version >= ProtocolVersion::V_2026_07_28)
    }

    /// Lists the server's tools, at most [`TOOLS_MAX`]: one server must not fill the memory, or list for ever.
    pub(crate) async fn tools(&self) -> anyhow::Result<Vec<Tool>> {
        let listing = async {
            let mut tools = Vec::new();
            let mut cursor = None;
            loop {
                let page = self.peer.list_tools(Some(PaginatedRequestParams::default().with_cursor(cursor))).await?;
                tools.extend(page.tools);
                cursor = page.next_cursor;
                if cursor.is_none() || tools.len() > TOOLS_MAX {
                    return Ok::<_, ServiceError>(tools);
                }
            }
        };
        let mut tools = timeout(LIST_MAX, listing)
            .await
            .with_context(|| format!("it did not list its tools within {} s", LIST_MAX.as_secs()))?
            .map_err(|error| anyhow::anyhow!("it did not list its tools: {error}{}", self.last_words()))?;
        if tools.len() > TOOLS_MAX {
            tracing::warn!(listed = tools.len(), TOOLS_MAX, "the server lists too many tools; the rest is left out");
            tools.truncate(TOOLS_MAX);
        }
        tools.retain(|tool| {
            let bytes = super::bytes_of(tool);
            if bytes > TOOL_BYTES_MAX {
                tracing::warn!(tool = %tool.name.chars().take(128).collect::<String>(), bytes, "left out: too large");
            }
            bytes <= TOOL_BYTES_MAX
        });
        Ok(tools)
    }

    /// Returns the tool of this name as the server lists it, asked for once.
    pub(crate) async fn listed(&self, name: &str) -> Option<Tool> {
        let tools = self.tools.get_or_try_init(|| self.tools()).await;
        tools
            .inspect_err(|error| tracing::warn!(%error, "no price list"))
            .ok()?
            .iter()
            .find(|tool| tool.name == name)
            .cloned()
    }

    /// Calls a tool and waits for the answer; where that is a question, `answers` answers it and the tool is called
    /// again.
    pub(super) async fn call(
        &self,
        tool: &str,
        arguments: JsonObject,
        meta: RequestMetaObject,
        limit: Duration,
        answers: Option<&Answers>,
    ) -> Result<CallToolResult, CallError> {
        let first = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let mut params = first.clone();
        for _ in 0..=ROUNDS_MAX {
            let asked = match self.call_once(params, meta.clone(), limit).await? {
                ServerResult::CallToolResult(result) => return Ok(result),
                ServerResult::InputRequiredResult(asked) => asked,
                _ => {
                    let message = "the server answered with something that is not a tool result";
                    return Err(CallError::Protocol(message.into()));
                }
            };
            let Some(answers) = answers else {
                let message = "the tool asks for a person's input, and nobody is here to give it";
                return Err(CallError::Protocol(message.into()));
            };
            params = answers.retry(&self.inbox.server, &first, asked).await.map_err(CallError::Protocol)?;
        }
        Err(CallError::Protocol(format!("the tool asks again after {ROUNDS_MAX} answers")))
    }

    /// Sends one call and waits for what comes back, at most `limit`; then the server is told to stop.
    async fn call_once(
        &self,
        params: CallToolRequestParams,
        meta: RequestMetaObject,
        limit: Duration,
    ) -> Result<ServerResult, CallError> {
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let options = PeerRequestOptions::with_timeout(limit).with_meta(meta);
        let answer = match self.peer.send_request_with_option(request, options).await {
            Ok(pending) => {
                telemetry::mcp::sent(&self.peer, &pending.id);
                // rmcp tells the server to stop when the time is over, and waits until it has read that.
                let answered = timeout(limit.saturating_add(STOP_MAX), pending.await_response()).await;
                answered.unwrap_or(Err(ServiceError::Timeout { timeout: limit }))
            }
            Err(error) => Err(error),
        };
        match &answer {
            Ok(result) => telemetry::mcp::heard(Ok(result)),
            Err(ServiceError::McpError(error)) => telemetry::mcp::heard(Err(error)),
            // The receipt says why.
            Err(_) => {}
        }
        match answer {
            Ok(result) => Ok(result),
            Err(ServiceError::Timeout { .. }) => Err(CallError::TimedOut(limit)),
            Err(ServiceError::McpError(error)) => Err(CallError::Protocol(error.message.into_owned())),
            Err(ServiceError::TransportSend(error)) => match Refusal::of(&error) {
                Some(refusal) => Err(CallError::Refused(refusal)),
                None => Err(CallError::Died(self.end_of_process().await)),
            },
            Err(ServiceError::TransportClosed | ServiceError::Cancelled { .. }) => {
                Err(CallError::Died(self.end_of_process().await))
            }
            Err(error) => Err(CallError::Protocol(error.to_string())),
        }
    }

    /// Closes stdin, waits, asks, waits, kills.
    pub(super) async fn close(&self) {
        let _ = self.service.lock().await.close_with_timeout(END_MAX).await;
        let Some(process) = &self.process else { return };
        let mut process = process.lock().await;
        if timeout(END_MAX, process.wait()).await.is_ok() {
            return;
        }
        self.signal(Signal::TERM);
        if timeout(END_MAX, process.wait()).await.is_ok() {
            return;
        }
        self.signal(Signal::KILL);
        let _ = process.wait().await;
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // Already gone is as good as signalled.
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }

    /// Returns how the process ended, once it did, with its last words.
    pub(crate) async fn end_of_process(&self) -> String {
        let Some(process) = &self.process else { return "the connection was lost".to_owned() };
        let status = timeout(Duration::from_millis(500), async { process.lock().await.wait().await }).await;
        let how = match status {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it closed its stdout".to_owned(),
        };
        format!("{how}{}", self.last_words())
    }
}

/// Returns what is sent to a server over HTTP with every request.
pub(crate) fn headers_of(spec: &ServerSpec) -> anyhow::Result<HashMap<http::HeaderName, http::HeaderValue>> {
    let mut headers = HashMap::new();
    for (name, value) in &spec.headers {
        let name: http::HeaderName = name.parse().with_context(|| format!("headers: `{name}` is not a name"))?;
        let mut value: http::HeaderValue = value
            .parse()
            .with_context(|| format!("headers: the value of `{name}` has characters that none can have"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

async fn log_stderr(server: String, stderr: ChildStderr, kept: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(stderr).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line: String = String::from_utf8_lossy(&line).chars().take(500).collect();
        tracing::info!(server, "{line}");
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(line);
        if kept.len() > LAST_WORDS_LINES {
            kept.pop_front();
        }
    }
}

fn last_words(kept: &Mutex<VecDeque<String>>) -> String {
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.is_empty() {
        String::new()
    } else {
        format!(" (stderr: {})", Vec::from_iter(kept.iter().cloned()).join(" / "))
    }
}
