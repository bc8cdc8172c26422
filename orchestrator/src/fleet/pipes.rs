//! The client's end of a server's pipes.
//!
//! Stands in for rmcp's own because that one hands every message to another task before it is written, and tries every answer as
//! each of twenty results.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use rmcp::model::{
    CallToolResult, ClientJsonRpcMessage, ErrorData, GetExtensions, JsonRpcError, JsonRpcMessage, JsonRpcResponse,
    RequestId, ServerJsonRpcMessage, ServerResult,
};
use rmcp::service::RoleClient;
use rmcp::transport::Transport;
use serde_json::Value;
use serde_json::error::Category;
use tokio::net::unix::pipe;
use tokio::process::{ChildStdin, ChildStdout};
use tollgate_shared::serve::lines::{Flushed, Input, LINE_BYTES_MAX, Line, Output, Sink};

use super::heard::{self, Heard, TextAnswer};

/// From this many calls under way on, each new one has those forgotten that nobody waits for any more.
const AWAITED_MIN: usize = 64;

/// Says of a call, among its extensions, where its answer goes as text; the answer that rmcp gets is empty then. Only what
/// is a plain result goes there, and only from a server over [`Pipes`].
#[derive(Clone, Default)]
pub(crate) struct AsText(Arc<OnceLock<TextAnswer>>);

impl AsText {
    /// Returns the answer, if it came as text.
    pub(crate) fn taken(self) -> Option<TextAnswer> {
        Arc::into_inner(self.0)?.into_inner()
    }
}

/// A server's stdout and stdin.
pub(super) struct Pipes {
    awaited: HashMap<RequestId, AsText>,
    input: Input<pipe::Receiver>,
    /// Given up when the connection is closed: the server sees the end of its stdin.
    output: Option<Arc<Output>>,
}

impl Pipes {
    /// Takes over the two ends.
    pub(super) fn new(stdout: ChildStdout, stdin: ChildStdin) -> io::Result<Self> {
        Self::over(stdout.into_owned_fd()?, stdin.into_owned_fd()?)
    }

    fn over(stdout: OwnedFd, stdin: OwnedFd) -> io::Result<Self> {
        let (input, output) = (pipe::Receiver::from_owned_fd(stdout)?, pipe::Sender::from_owned_fd(stdin)?);
        let output = Some(Arc::new(Output::new(Sink::Pipe(output))));
        Ok(Self { awaited: HashMap::new(), input: Input::new(input), output })
    }

    /// Returns the message in `line`; what is none is not heard, and a server that means one is told.
    fn take(&mut self, line: &[u8]) -> Option<ServerJsonRpcMessage> {
        let error = match heard::message(line, |id| self.awaited.contains_key(id)) {
            Ok(Heard::Message(message)) => {
                if let JsonRpcMessage::Response(JsonRpcResponse { id, .. })
                | JsonRpcMessage::Error(JsonRpcError { id: Some(id), .. }) = message.as_ref()
                {
                    self.awaited.remove(id);
                }
                return Some(*message);
            }
            Ok(Heard::Text(id, text)) => {
                if let Some(AsText(place)) = self.awaited.remove(&id) {
                    // Filled once, since it is here no more.
                    let _ = place.set(text);
                }
                let empty = ServerResult::CallToolResult(CallToolResult::default());
                return Some(JsonRpcMessage::response(empty, id));
            }
            Err(error) => error,
        };
        tracing::debug!(%error, "not a message of MCP");
        // To answer what is no JSON could go on for ever with a server that echoes; a notification has no answer, and a server that
        // does not read what it was told gets no more.
        let is_behind = self.output.as_ref().is_none_or(|output| output.is_behind());
        if matches!(error.classify(), Category::Data) && !is_behind && !is_notification(line) {
            let answer = ClientJsonRpcMessage::error(ErrorData::invalid_request("Invalid request", None), None);
            let pushed = serde_json::to_vec(&answer).map_err(io::Error::from).and_then(|line| self.push(line));
            match pushed {
                Ok((Flushed::Yes, _)) => {}
                Ok((Flushed::No, output)) => drop(tokio::spawn(async move { output.flush().await })),
                Err(error) => tracing::debug!(%error, "cannot answer a malformed message"),
            }
        }
        None
    }

    fn push(&self, line: Vec<u8>) -> io::Result<(Flushed, Arc<Output>)> {
        let output = self.output.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        Ok((output.push(line)?, Arc::clone(output)))
    }
}

fn is_notification(line: &[u8]) -> bool {
    serde_json::from_slice::<Value>(line)
        .is_ok_and(|message| message.get("method").is_some_and(Value::is_string) && message.get("id").is_none())
}

impl Transport<RoleClient> for Pipes {
    type Error = io::Error;

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        if let JsonRpcMessage::Request(request) = &message
            && let Some(place) = request.request.extensions().get::<AsText>()
        {
            if self.awaited.len() >= AWAITED_MIN {
                self.awaited.retain(|_, place| Arc::strong_count(&place.0) > 1);
            }
            self.awaited.insert(request.id.clone(), place.clone());
        }
        let pushed = serde_json::to_vec(&message).map_err(io::Error::from).and_then(|line| self.push(line));
        async move {
            match pushed? {
                (Flushed::Yes, _) => Ok(()),
                (Flushed::No, output) => output.flush().await,
            }
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            match self.input.next_line().await {
                Line::Whole(line) => {
                    if let Some(message) = self.take(&line) {
                        return Some(message);
                    }
                }
                Line::TooLong => tracing::error!(LINE_BYTES_MAX, "a message is longer than that; it is not heard"),
                Line::End => return None,
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.output = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[tokio::test]
    async fn malformed_messages_of_who_reads_nothing_have_no_answers() {
        let ((our_input, mut their_output), (mut their_input, our_output)) = (io::pipe().unwrap(), io::pipe().unwrap());
        let mut pipes = Pipes::over(our_input.into(), our_output.into()).unwrap();
        let writing = std::thread::spawn(move || {
            for _ in 0..100 {
                their_output.write_all("{}\n".repeat(1_000).as_bytes()).unwrap();
            }
        });
        assert!(pipes.receive().await.is_none());
        writing.join().unwrap();
        pipes.close().await.unwrap();
        let reading = tokio::task::spawn_blocking(move || {
            let mut heard = String::new();
            their_input.read_to_string(&mut heard).unwrap();
            heard
        });
        let heard = reading.await.unwrap();
        // As much as a pipe holds, and the one that did not fit.
        assert!((1..270_000).contains(&heard.len()), "{}", heard.len());
        assert!(heard.ends_with('\n') && heard.lines().all(|line| line.contains("-32600")), "{heard:.200}");
    }
}
