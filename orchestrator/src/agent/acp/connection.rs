//! The conversation with a running agent: its session, its turns, what it asks for.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::schema::{
    CancelNotification, ClientCapabilities, ContentBlock, FileSystemCapabilities, InitializeRequest, NewSessionRequest,
    PermissionOptionKind, PromptRequest, PromptResponse, ReadTextFileRequest, ReadTextFileResponse,
    RequestPermissionOutcome, RequestPermissionRequest, RequestPermissionResponse, SelectedPermissionOutcome,
    SessionNotification, SessionUpdate, SetSessionModeRequest, TextContent, ToolKind, WriteTextFileRequest,
    WriteTextFileResponse,
};
use agent_client_protocol::{Client, Error, Lines};
use futures::{SinkExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec, LinesCodecError};
use tokio_util::sync::CancellationToken;
use tollgate_shared::money::Money;
use tollgate_shared::sandbox::{Finished, SandboxError};

use super::READY_MAX;
use super::config::{AgentConfig, Permission};
use super::process::{Place, Process, Stop, start};
use super::server::{Calls, Served};
use crate::model::price::Tokens;
use crate::task::TaskCore;
use crate::task::files;

/// Longest message of an agent, in bytes.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How much of what it says in one turn is kept, in bytes.
const TEXT_BYTES_MAX: usize = 100 * 1024;

/// How long it may take to end a turn that was cancelled.
const CANCEL_MAX: Duration = Duration::from_secs(15);

/// How long it is waited for the end of a program that does not talk any more.
const GONE_MAX: Duration = Duration::from_secs(1);

/// Most bytes of a file that it reads through this side.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// An agent under way.
pub(super) struct Connection {
    prompts: mpsc::Sender<Prompt>,
    heard: Arc<Heard>,
    cancel: Arc<Notify>,
    spoke: JoinHandle<Result<(), Error>>,
    /// Nothing once it was waited for.
    ended: Option<JoinHandle<Result<Finished, SandboxError>>>,
    stop: Option<Stop>,
    serving: CancellationToken,
    calls: Calls,
    /// What it cost when the last turn had ended.
    cost_before: Option<Money>,
    tokens_before: Tokens,
    secrets: Vec<String>,
}

/// What came of a turn.
pub(super) struct Turn {
    pub(super) text: String,
    pub(super) stop_reason: String,
    /// What it cost, where the agent says so in US dollars.
    pub(super) cost: Option<Money>,
    /// What it took, where the agent says so.
    pub(super) tokens: Option<Tokens>,
    pub(super) is_over_budget: bool,
}

struct Prompt {
    text: String,
    answer: oneshot::Sender<Result<PromptResponse, Error>>,
}

/// What the agent tells while it works.
struct Heard {
    text: Mutex<String>,
    /// What the session cost so far, in US dollars.
    cost: watch::Sender<Option<Money>>,
}

impl Heard {
    fn update(&self, update: SessionUpdate) {
        match update {
            SessionUpdate::AgentMessageChunk(chunk) => {
                if let ContentBlock::Text(said) = chunk.content {
                    let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
                    if text.len() + said.text.len() <= TEXT_BYTES_MAX {
                        text.push_str(&said.text);
                    }
                }
            }
            SessionUpdate::UsageUpdate(usage) => {
                let cost = usage.cost.filter(|cost| cost.currency == "USD").and_then(|cost| amount(cost.amount));
                if let Some(cost) = cost {
                    self.cost.send_replace(Some(cost));
                }
            }
            _ => {}
        }
    }
}

/// Reads what an agent says that something cost; nonsense is nothing said.
fn amount(dollars: f64) -> Option<Money> {
    if dollars.is_finite() && dollars >= 0.0 { format!("{dollars:.9}").parse().ok() } else { None }
}

impl Connection {
    /// Starts the agent and a session with it in `worktree`.
    pub(super) async fn start(
        config: &AgentConfig,
        workspace: &Path,
        worktree: PathBuf,
        core: &Arc<TaskCore>,
    ) -> Result<Self, String> {
        let secrets = config.env_pass.iter().filter_map(|name| std::env::var(name).ok());
        let secrets = secrets.filter(|secret| secret.len() >= 8).collect();
        let history = core.history().await.map_err(|error| error.to_string())?;
        let serving = CancellationToken::new();
        let server = Served::start(Arc::clone(core), serving.clone()).await?;
        let calls = server.calls();
        let place = Place {
            workspace,
            worktree: &worktree,
            repository: &history.session.repository,
            state: &core.state,
            setting: core.sandbox,
            owner_file: core.owner_file.as_deref(),
        };
        let Process { input, output, ended, stop } = start(config, &place).await?;
        let heard = Arc::new(Heard { text: Mutex::default(), cost: watch::Sender::new(None) });
        let (prompts, waiting) = mpsc::channel(1);
        let cancel = Arc::new(Notify::new());
        let (ready, is_ready) = oneshot::channel();
        let talk = Talk {
            heard: Arc::clone(&heard),
            cancel: Arc::clone(&cancel),
            allow: config.allow.clone(),
            mode: config.mode.clone(),
            worktree,
            core: Arc::clone(core),
            server,
        };
        let spoke = tokio::spawn(talk.run(input, output, waiting, ready));
        let tokens_before = Tokens::default();
        let mut connection = Self {
            prompts,
            heard,
            cancel,
            spoke,
            ended: Some(ended),
            stop: Some(stop),
            serving,
            calls,
            cost_before: None,
            tokens_before,
            secrets,
        };
        match timeout(READY_MAX, is_ready).await {
            Ok(Ok(())) => Ok(connection),
            Ok(Err(_)) => Err(connection.why_gone().await),
            Err(_) => {
                connection.close().await;
                Err(format!("it was not ready within {} s", READY_MAX.as_secs()))
            }
        }
    }

    /// Has the agent take a turn; it is cancelled at `deadline`, and once it costs more than `allowance`.
    pub(super) async fn prompt(
        &mut self,
        text: String,
        allowance: Option<Money>,
        deadline: Instant,
    ) -> Result<Turn, String> {
        self.heard.text.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.calls.open();
        let (answer, mut answered) = oneshot::channel();
        if self.prompts.send(Prompt { text, answer }).await.is_err() {
            return Err(self.why_gone().await);
        }
        let mut cost = self.heard.cost.subscribe();
        let before = self.cost_before.unwrap_or_default();
        let spent = |cost: &watch::Receiver<Option<Money>>| cost.borrow().map(|cost| cost.left_after(before));
        let is_over = |cost: &watch::Receiver<Option<Money>>| matches!((spent(cost), allowance), (Some(spent), Some(most)) if spent > most);
        let (mut is_over_budget, mut is_late) = (false, false);
        let response = loop {
            let until = if is_over_budget || is_late { Instant::now() + CANCEL_MAX } else { deadline };
            tokio::select! {
                response = &mut answered => break response,
                () = sleep_until(until) => {
                    if is_over_budget || is_late {
                        return Err("it did not end a turn that was cancelled".to_owned());
                    }
                    is_late = true;
                    self.cancel.notify_one();
                }
                Ok(()) = cost.changed(), if !is_over_budget && !is_late => {
                    if is_over(&cost) {
                        is_over_budget = true;
                        self.cancel.notify_one();
                    }
                }
            }
        };
        let response = match response {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                // Of a program that is gone, how it went says more.
                let until = Instant::now() + GONE_MAX;
                while !self.has_ended() && Instant::now() < until {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                let reason = error.to_string();
                return Err(if self.has_ended() { self.why_gone().await } else { self.without_secrets(&reason) });
            }
            Err(_) => return Err(self.why_gone().await),
        };
        self.calls.ended().await;
        // It may have said so with its last words.
        is_over_budget |= is_over(&cost);
        let turn_cost = spent(&cost);
        self.cost_before = cost.borrow().or(self.cost_before);
        let all = response.usage.map(|usage| Tokens {
            input: usage.input_tokens,
            output: usage.output_tokens,
            cache_read: usage.cached_read_tokens.unwrap_or(0),
            cache_write: usage.cached_write_tokens.unwrap_or(0),
            reasoning: usage.thought_tokens.unwrap_or(0),
            ..Tokens::default()
        });
        let tokens = all.map(|all| all.since(&self.tokens_before));
        self.tokens_before = all.unwrap_or(self.tokens_before);
        if is_late {
            return Err("it did not end its turn in the time of the task".to_owned());
        }
        let stop_reason = json!(response.stop_reason).as_str().unwrap_or("other").to_owned();
        if stop_reason == "refusal" {
            return Err("it refuses the task".to_owned());
        }
        let text = self.heard.text.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Turn { text, stop_reason, cost: turn_cost, tokens, is_over_budget })
    }

    /// Ends the agent and waits until nothing of it is left.
    pub(super) async fn close(mut self) {
        self.end().await;
    }

    fn has_ended(&self) -> bool {
        self.ended.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends everything and says how the program ended.
    async fn end(&mut self) -> String {
        self.serving.cancel();
        self.spoke.abort();
        self.stop = None;
        let Some(ended) = self.ended.take() else { return String::new() };
        let ended = ended.await;
        self.calls.ended().await;
        match ended {
            Ok(Ok(finished)) => {
                let said = String::from_utf8_lossy(&finished.stderr).trim().to_owned();
                let said = if said.is_empty() { String::new() } else { format!(": {said}") };
                format!("it {}{said}", finished.ended.describe())
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Says why nothing comes from it any more, and sees to it that nothing of it is left.
    async fn why_gone(&mut self) -> String {
        let said = match timeout(GONE_MAX, &mut self.spoke).await {
            Ok(Ok(Err(error))) => format!("{error}; "),
            _ => String::new(),
        };
        let ended = self.end().await;
        self.without_secrets(&format!("{said}{ended}"))
    }

    fn without_secrets(&self, text: &str) -> String {
        let mut text: String = text.chars().take(1_000).collect();
        for secret in &self.secrets {
            text = text.replace(secret.as_str(), "***");
        }
        text
    }
}

/// Everything that one conversation needs.
struct Talk {
    heard: Arc<Heard>,
    cancel: Arc<Notify>,
    allow: Vec<Permission>,
    mode: Option<String>,
    worktree: PathBuf,
    core: Arc<TaskCore>,
    server: Served,
}

impl Talk {
    async fn run(
        self,
        input: tokio::net::unix::pipe::Sender,
        output: tokio::net::unix::pipe::Receiver,
        mut prompts: mpsc::Receiver<Prompt>,
        ready: oneshot::Sender<()>,
    ) -> Result<(), Error> {
        let codec = || LinesCodec::new_with_max_length(LINE_BYTES_MAX);
        let plain = |error: LinesCodecError| io::Error::other(error.to_string());
        let transport = Lines::new(
            SinkExt::<String>::sink_map_err(FramedWrite::new(input, codec()), plain),
            FramedRead::new(output, codec()).map_err(plain),
        );
        let Self { heard, cancel, allow, mode, worktree, core, server } = self;
        let (readable, writable, root) = (worktree.clone(), worktree.clone(), worktree);
        let calls = server.calls();
        Client
            .v1()
            .name("tollgate")
            .on_receive_notification(
                async move |notification: SessionNotification, _connection| {
                    heard.update(notification.update);
                    Ok(())
                },
                agent_client_protocol::on_receive_notification!(),
            )
            .on_receive_request(
                async move |request: RequestPermissionRequest, responder, _connection| {
                    responder.respond(RequestPermissionResponse::new(decide(&request, &allow)))
                },
                agent_client_protocol::on_receive_request!(),
            )
            .on_receive_request(
                async move |request: ReadTextFileRequest, responder, _connection| {
                    let worktree = readable.clone();
                    let read = tokio::task::spawn_blocking(move || read_file(&worktree, &request)).await;
                    match read.unwrap_or_else(|error| Err(error.to_string())) {
                        Ok(content) => responder.respond(ReadTextFileResponse::new(content)),
                        Err(reason) => responder.respond_with_error(Error::invalid_params().data(json!(reason))),
                    }
                },
                agent_client_protocol::on_receive_request!(),
            )
            .on_receive_request(
                async move |request: WriteTextFileRequest, responder, _connection| match write_file(
                    &core, &calls, &writable, request,
                )
                .await
                {
                    Ok(()) => responder.respond(WriteTextFileResponse::new()),
                    Err(reason) => responder.respond_with_error(Error::invalid_params().data(json!(reason))),
                },
                agent_client_protocol::on_receive_request!(),
            )
            .connect_with(transport, async move |connection| {
                let files = FileSystemCapabilities::new().read_text_file(true).write_text_file(true);
                let capabilities = ClientCapabilities::new().fs(files);
                let hello = InitializeRequest::new(ProtocolVersion::V1).client_capabilities(capabilities);
                let agent = connection.send_request(hello).block_task().await?;
                let server = server.entry(agent.agent_capabilities.mcp_capabilities.http);
                let server = server.map_err(|reason| Error::internal_error().data(json!(reason)))?;
                let request = NewSessionRequest::new(root).mcp_servers(vec![server]);
                let session = connection.send_request(request).block_task().await?.session_id;
                if let Some(mode) = mode {
                    let request = SetSessionModeRequest::new(session.clone(), mode);
                    connection.send_request(request).block_task().await?;
                }
                let _ = ready.send(());
                while let Some(Prompt { text, answer }) = prompts.recv().await {
                    let text = vec![ContentBlock::Text(TextContent::new(text))];
                    let mut turn =
                        std::pin::pin!(connection.send_request(PromptRequest::new(session.clone(), text)).block_task());
                    let response = loop {
                        tokio::select! {
                            response = &mut turn => break response,
                            () = cancel.notified() => {
                                connection.send_notification(CancelNotification::new(session.clone()))?;
                            }
                        }
                    };
                    let _ = answer.send(response);
                }
                Ok(())
            })
            .await
    }
}

/// Answers what the agent asks permission for, once at a time, by what the operator allows.
fn decide(request: &RequestPermissionRequest, allow: &[Permission]) -> RequestPermissionOutcome {
    let kind = request.tool_call.fields.kind.unwrap_or_default();
    let asked = match kind {
        ToolKind::Read => Permission::Read,
        ToolKind::Edit => Permission::Edit,
        ToolKind::Delete => Permission::Delete,
        ToolKind::Move => Permission::Move,
        ToolKind::Search => Permission::Search,
        ToolKind::Execute => Permission::Execute,
        ToolKind::Think => Permission::Think,
        ToolKind::Fetch => Permission::Fetch,
        ToolKind::SwitchMode => Permission::SwitchMode,
        _ => Permission::Other,
    };
    let wanted =
        if allow.contains(&asked) { PermissionOptionKind::AllowOnce } else { PermissionOptionKind::RejectOnce };
    // By what an option is, never by its place or its words.
    let option = request.options.iter().find(|option| option.kind == wanted);
    option.map_or(RequestPermissionOutcome::Cancelled, |option| {
        RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(option.option_id.clone()))
    })
}

/// Returns a path of the agent's relative to the working tree.
fn relative<'a>(worktree: &Path, path: &'a Path) -> Result<&'a str, String> {
    let path = path.strip_prefix(worktree).unwrap_or(path);
    path.to_str().ok_or_else(|| "the path is not UTF-8".to_owned())
}

fn read_file(worktree: &Path, request: &ReadTextFileRequest) -> Result<String, String> {
    let path = relative(worktree, &request.path)?;
    let mut from = request.line.unwrap_or(1).max(1) as usize;
    let mut left = request.limit.map_or(usize::MAX, |limit| limit as usize);
    let mut content = String::new();
    while left > 0 && content.len() < FILE_BYTES_MAX {
        let lines = left.min(1_000);
        let page = files::Tool::Read.call(worktree, &json!({ "path": path, "from_line": from, "lines": lines }));
        if let Some(error) = page.get("error") {
            return Err(error["message"].as_str().unwrap_or_default().to_owned());
        }
        content.push_str(page["content"].as_str().unwrap_or_default());
        let last = usize::try_from(page["last_line"].as_u64().unwrap_or(0)).unwrap_or(usize::MAX);
        if last < from || page["lines_total"] == json!(last) {
            break;
        }
        left = left.saturating_sub(last + 1 - from);
        from = last + 1;
    }
    Ok(content)
}

async fn write_file(
    core: &TaskCore,
    calls: &Calls,
    worktree: &Path,
    request: WriteTextFileRequest,
) -> Result<(), String> {
    let path = relative(worktree, &request.path)?;
    let arguments: Value = json!({ "path": path, "content": request.content });
    let answer = core.call_of_agent("tollgate__write_file", arguments, &|| calls.may_begin()).await;
    let answer = answer.map_err(|error| error.to_string())?.ok_or("the turn is over; nothing was written")?;
    match answer.structured.get("error") {
        Some(error) => Err(error["message"].as_str().unwrap_or_default().to_owned()),
        None => Ok(()),
    }
}
