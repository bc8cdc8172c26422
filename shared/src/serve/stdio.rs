//! JSON-RPC in lines: over the process's own stdin and stdout, or over a connection that carries another program's.
//!
//! Stands in for rmcp's own stdio transport because that one leaves malformed lines without an answer,
//! ends when a notification comes before the first request, hands every response to another task before
//! it is written, and takes only pipes to the fast path where Node-based hosts connect sockets.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rmcp::RoleServer;
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, GetMeta, JsonRpcMessage, ProtocolVersion,
    ServerJsonRpcMessage,
};
use rmcp::transport::Transport;
use rustix::fs::{FileType, Mode, OFlags};
use serde_json::{Value, json};
use tokio::io::AsyncRead;
use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixStream};

use super::drain::Drain;
use super::lines::{Flushed, Input, LINE_BYTES_MAX, Line, Output, Sink};
use super::{received, written};

/// Reading pauses while this much waits to be written, so that a client that does not read cannot fill the memory.
const UNWRITTEN_BYTES_MAX: usize = 32 * 1024 * 1024;

const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;

/// The server's end of the lines.
pub struct StdioTransport {
    input: Input<Box<dyn AsyncRead + Send + Unpin>>,
    output: Arc<Output>,
    drain: Arc<Drain>,
    /// Whether rmcp has chosen a lifecycle; before that a stray notification would end the connection.
    opened: bool,
    ended: bool,
}

impl StdioTransport {
    /// Takes over stdin and stdout, without blocking where they are pipes or sockets.
    ///
    /// # Errors
    ///
    /// What duplicating or registering the descriptors fails with.
    pub fn new(drain: Arc<Drain>) -> io::Result<Self> {
        Ok(Self::with(open_input()?, open_output()?, drain))
    }

    /// Takes over a connection, of which `head` was read already.
    #[must_use]
    pub fn over(connection: TcpStream, head: &[u8], drain: Arc<Drain>) -> Self {
        let (input, output) = connection.into_split();
        let mut transport = Self::with(Box::new(input), Sink::Tcp(output), drain);
        transport.input.push(head);
        transport
    }

    fn with(input: Box<dyn AsyncRead + Send + Unpin>, sink: Sink, drain: Arc<Drain>) -> Self {
        Self { input: Input::new(input), output: Arc::new(Output::new(sink)), drain, opened: false, ended: false }
    }

    async fn next_line(&mut self) -> Line {
        if !self.input.has_line() {
            self.output.below(UNWRITTEN_BYTES_MAX).await;
        }
        self.input.next_line().await
    }

    /// Returns the message in `line` when rmcp should see it; answers everything else.
    fn take(&mut self, line: &[u8]) -> Option<ClientJsonRpcMessage> {
        let message = match received::message(line) {
            Ok(message) => message,
            Err(error) => {
                let value = serde_json::from_slice::<Value>(line);
                let (code, id) = match &value {
                    Ok(value) => (INVALID_REQUEST, value.get("id").filter(|id| id.is_string() || id.is_number())),
                    Err(_) => (PARSE_ERROR, None),
                };
                let reason = value
                    .as_ref()
                    .err()
                    .map_or_else(|| "not a JSON-RPC 2.0 message of MCP".to_owned(), ToString::to_string);
                tracing::debug!(%error, code, "malformed line");
                push_error(&self.output, code, &reason, id);
                return None;
            }
        };
        match &message {
            JsonRpcMessage::Request(request) => {
                if !self.drain.received(&request.id) {
                    push_error(
                        &self.output,
                        INVALID_REQUEST,
                        "a request with this id is still being answered",
                        Some(&request.id.clone().into_json_value()),
                    );
                    return None;
                }
                self.opened |= opens_lifecycle(&request.request);
            }
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CustomNotification(custom) = &notification.notification
                    && !custom.method.starts_with("notifications/")
                {
                    let reason = "a message without an id is a notification, whose method starts with `notifications/`";
                    push_error(&self.output, INVALID_REQUEST, reason, None);
                    return None;
                }
                if !self.opened {
                    tracing::debug!("notification before the first request");
                    return None;
                }
                if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.drain.answered(id);
                }
            }
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {
                if !self.opened {
                    tracing::debug!("response before the first request");
                    return None;
                }
            }
        }
        Some(message)
    }
}

/// Whether rmcp takes `request` as the beginning of a connection, legacy or stateless.
fn opens_lifecycle(request: &ClientRequest) -> bool {
    match request {
        ClientRequest::InitializeRequest(_) => true,
        ClientRequest::PingRequest(_) | ClientRequest::DiscoverRequest(_) => false,
        other => {
            let meta = other.get_meta();
            meta.missing_required_keys(&ProtocolVersion::V_2026_07_28).is_empty()
                && meta.protocol_version().is_some_and(|version| ProtocolVersion::KNOWN_VERSIONS.contains(&version))
        }
    }
}

impl Transport<RoleServer> for StdioTransport {
    type Error = io::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let answered = match &message {
            JsonRpcMessage::Response(response) => Some(response.id.clone()),
            JsonRpcMessage::Error(error) => error.id.clone(),
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
        };
        let written = written::message(message).map_err(io::Error::from);
        // Before a byte leaves: a client may use the id again as soon as it has the answer.
        if let Some(id) = answered {
            self.drain.answered(&id);
        }
        let pushed = written.and_then(|bytes| self.output.push(bytes));
        let output = Arc::clone(&self.output);
        let drain = Arc::clone(&self.drain);
        async move {
            let result = match pushed {
                Ok(Flushed::Yes) => Ok(()),
                Ok(Flushed::No) => output.flush().await,
                Err(error) => Err(error),
            };
            if result.is_err() {
                // Nobody reads any more.
                drain.begin();
            }
            result
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        let drain = Arc::clone(&self.drain);
        while !self.ended {
            let line = tokio::select! {
                biased;
                () = drain.begun() => {
                    drain.finished().await;
                    self.ended = true;
                    break;
                }
                line = self.next_line() => line,
            };
            match line {
                Line::Whole(line) => {
                    if let Some(message) = self.take(&line) {
                        return Some(message);
                    }
                }
                Line::TooLong => {
                    let reason = format!("the line is longer than {LINE_BYTES_MAX} bytes");
                    push_error(&self.output, INVALID_REQUEST, &reason, None);
                }
                Line::End => drain.begin(),
            }
        }
        None
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.ended = true;
        self.output.flush().await
    }
}

fn push_error(output: &Output, code: i32, message: &str, id: Option<&Value>) {
    let error = json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } });
    if let Err(error) = output.push(error.to_string().into_bytes()) {
        tracing::debug!(%error, "cannot answer a malformed line");
    }
}

/// Opens a pipe anew, so that being non-blocking stays ours: whoever shares the inherited one is not disturbed.
fn reopen(descriptor: impl AsFd, flags: OFlags) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd());
    Ok(rustix::fs::open(path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?)
}

fn file_type(descriptor: impl AsFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(descriptor)?.st_mode))
}

fn socket(descriptor: impl AsFd) -> io::Result<UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(descriptor.as_fd().try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

fn open_input() -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
    let stdin = io::stdin();
    match file_type(&stdin)? {
        FileType::Fifo => {
            if let Ok(pipe) = reopen(&stdin, OFlags::RDONLY).and_then(pipe::Receiver::from_owned_fd) {
                return Ok(Box::new(pipe));
            }
        }
        FileType::Socket => {
            if let Ok(socket) = socket(&stdin) {
                return Ok(Box::new(socket));
            }
        }
        _ => {}
    }
    Ok(Box::new(tokio::io::stdin()))
}

fn open_output() -> io::Result<Sink> {
    let stdout = io::stdout();
    match file_type(&stdout)? {
        FileType::Fifo => {
            if let Ok(pipe) = reopen(&stdout, OFlags::WRONLY).and_then(pipe::Sender::from_owned_fd) {
                return Ok(Sink::Pipe(pipe));
            }
        }
        FileType::Socket => {
            if let Ok(socket) = socket(&stdout) {
                return Ok(Sink::Socket(socket));
            }
        }
        _ => {}
    }
    Ok(Sink::Other(tokio::sync::Mutex::new(tokio::io::stdout())))
}
