//! One server as a child process.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, ClientRequest,
    Implementation, JsonObject, ProtocolVersion, RequestMetaObject, ServerResult, Tool,
};
use rmcp::service::{
    ClientLifecycleMode, ClientServiceExt, PeerRequestOptions, RoleClient, RunningService, ServiceError,
};
use rmcp::transport::async_rw::AsyncRwTransport;
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStderr, Command};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout;
use tollgate_shared::identity::{RUN_SECRET_VARIABLE, RunSecret};

use crate::config::ServerSpec;

/// Longest that a server may take from its start to its first answer; interpreters with many imports take seconds.
const START_MAX: Duration = Duration::from_secs(30);

/// Longest that a server may take to list its tools.
const LIST_MAX: Duration = Duration::from_secs(30);

/// Longest wait for a server to end by itself, and again after it was asked to.
const END_MAX: Duration = Duration::from_secs(3);

/// Lines of stderr kept to explain a death.
const LAST_WORDS_LINES: usize = 5;

/// What a foreign server sees of the environment; the rest is nobody's business until the operator says so.
const FOREIGN_VARIABLES: &[&str] = &["PATH", "HOME", "LANG", "LOGNAME", "SHELL", "TERM", "TMPDIR", "USER"];

/// A server that runs and is connected.
pub(super) struct Child {
    service: AsyncMutex<RunningService<RoleClient, ClientConfig>>,
    peer: rmcp::Peer<RoleClient>,
    process: AsyncMutex<tokio::process::Child>,
    group: Option<Pid>,
    stderr: Arc<Mutex<VecDeque<String>>>,
}

/// Why a call has no answer.
pub(super) enum CallError {
    /// The server ended.
    Died(String),
    /// The server took too long; it was told to stop.
    TimedOut(Duration),
    /// The server answered with a protocol error, or with something that is no answer.
    Protocol(String),
}

impl Child {
    /// Starts the server and connects to it, in the newest revision of the protocol that it speaks.
    pub(super) async fn start(spec: &ServerSpec, secret: &RunSecret) -> anyhow::Result<Self> {
        let newest = ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: Some(ProtocolVersion::V_2025_11_25),
        };
        match Self::connect(spec, secret, newest).await {
            Ok(child) => Ok(child),
            // Servers built on older SDKs end when they are asked who they are; they get the old greeting.
            Err(error) if !spec.own => {
                tracing::debug!(server = spec.name, %error, "trying the legacy handshake");
                Self::connect(spec, secret, ClientLifecycleMode::Initialize)
                    .await
                    .map_err(|legacy| legacy.context(error))
            }
            Err(error) => Err(error),
        }
    }

    async fn connect(spec: &ServerSpec, secret: &RunSecret, mode: ClientLifecycleMode) -> anyhow::Result<Self> {
        let mut command = Command::new(&spec.program);
        command.args(&spec.arguments).current_dir(&spec.folder);
        if spec.own {
            command.env(RUN_SECRET_VARIABLE, secret.to_hex());
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
        let group = process.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let (Some(stdin), Some(stdout), Some(errors)) =
            (process.stdin.take(), process.stdout.take(), process.stderr.take())
        else {
            anyhow::bail!("the pipes to {} are missing", spec.program.display());
        };
        let stderr = Arc::default();
        tokio::spawn(log_stderr(spec.name.clone(), errors, Arc::clone(&stderr)));
        let client = ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("tollgate-orchestrator", env!("CARGO_PKG_VERSION")),
        );
        let connected =
            timeout(START_MAX, client.serve_with_lifecycle(AsyncRwTransport::new_client(stdout, stdin), mode));
        let service = match connected.await {
            Ok(Ok(service)) => service,
            Ok(Err(error)) => {
                // Give its last words a moment to arrive.
                let _ = timeout(Duration::from_millis(200), process.wait()).await;
                let words = last_words(&stderr);
                return Err(anyhow::Error::new(error).context(format!("it does not speak MCP{words}")));
            }
            Err(_) => anyhow::bail!("it did not answer within {} s{}", START_MAX.as_secs(), last_words(&stderr)),
        };
        Ok(Self {
            peer: service.peer().clone(),
            service: AsyncMutex::new(service),
            process: AsyncMutex::new(process),
            group,
            stderr,
        })
    }

    /// Whether the connection is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.peer.is_transport_closed()
    }

    /// Returns the end of what the server wrote to stderr.
    pub(super) fn last_words(&self) -> String {
        last_words(&self.stderr)
    }

    /// Lists the server's tools.
    pub(super) async fn tools(&self) -> anyhow::Result<Vec<Tool>> {
        timeout(LIST_MAX, self.peer.list_all_tools())
            .await
            .with_context(|| format!("it did not list its tools within {} s", LIST_MAX.as_secs()))?
            .map_err(|error| anyhow::anyhow!("it did not list its tools: {error}{}", self.last_words()))
    }

    /// Calls a tool and waits for the answer, at most `limit`; then the server is told to stop.
    pub(super) async fn call(
        &self,
        tool: &str,
        arguments: JsonObject,
        meta: RequestMetaObject,
        limit: Duration,
    ) -> Result<CallToolResult, CallError> {
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let options = PeerRequestOptions::with_timeout(limit).with_meta(meta);
        let answer = match self.peer.send_request_with_option(request, options).await {
            Ok(pending) => pending.await_response().await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(ServerResult::CallToolResult(result)) => Ok(result),
            Ok(ServerResult::InputRequiredResult(_)) => {
                Err(CallError::Protocol("the tool asks for a person's input, and nobody is here to give it".into()))
            }
            Ok(_) => Err(CallError::Protocol("the server answered with something that is not a tool result".into())),
            Err(ServiceError::Timeout { .. }) => Err(CallError::TimedOut(limit)),
            Err(ServiceError::McpError(error)) => Err(CallError::Protocol(error.message.into_owned())),
            Err(ServiceError::TransportClosed | ServiceError::TransportSend(_) | ServiceError::Cancelled { .. }) => {
                Err(CallError::Died(self.end_of_process().await))
            }
            Err(error) => Err(CallError::Protocol(error.to_string())),
        }
    }

    /// Closes stdin, waits, asks, waits, kills.
    pub(super) async fn close(&self) {
        let _ = self.service.lock().await.close_with_timeout(END_MAX).await;
        let mut process = self.process.lock().await;
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
    async fn end_of_process(&self) -> String {
        let status = timeout(Duration::from_millis(500), async { self.process.lock().await.wait().await }).await;
        let how = match status {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it closed its stdout".to_owned(),
        };
        format!("{how}{}", self.last_words())
    }
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
