//! An endpoint's other form, for programs that know MCP over stdio alone: a connection that an HTTP request upgraded to
//! lines of JSON-RPC, and the program that carries them between its own stdin and stdout and such a connection.
//!
//! The program understands nothing of what it carries, so nothing can be lost in it, in either direction.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rmcp::service::ServerInitializeError;
use rmcp::{ServerHandler, ServiceExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tollgate_shared::serve::stdio::StdioTransport;

use super::http::Body;

/// The environment variable that tells the program where the endpoint is.
pub const ADDRESS_VARIABLE: &str = "TOLLGATE_BRIDGE_ADDRESS";

/// The environment variable with the endpoint's bearer token; a command line is shown to every process.
pub const TOKEN_VARIABLE: &str = "TOLLGATE_BRIDGE_TOKEN";

/// What a request asks to be upgraded to.
const PROTOCOL: &str = "mcp-stdio";

/// How long an endpoint may take to let the program in; it makes whoever guesses a token wait.
const ADMISSION_MAX: Duration = Duration::from_secs(30);

/// Longest head of the endpoint's answer, in bytes.
const HEAD_BYTES_MAX: u64 = 4 * 1024;

/// All that is held of what is carried, in each direction: who reads slowly is written to slowly.
const CARRIED_BYTES: usize = 64 * 1024;

/// Why lines cannot be carried.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Nobody is there.
    #[error("cannot reach the task's tools at {0}")]
    Unreachable(SocketAddr, #[source] io::Error),
    /// The token is not that of whoever is there.
    #[error("the task's tools at {0} do not take this token")]
    WrongToken(SocketAddr),
    /// Somebody else is there.
    #[error("what listens at {0} is not the task's tools")]
    NotTools(SocketAddr),
    /// Too many are connected.
    #[error("as many programs as may be are connected to the task's tools at {0}")]
    Crowded(SocketAddr),
    /// It went away.
    #[error("the task's tools are not served any more")]
    Ended,
    /// Nobody reads the answers.
    #[error("cannot write an answer")]
    Output(#[source] io::Error),
}

impl RelayError {
    /// Returns the stable word for it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(..) => "tools_unreachable",
            Self::WrongToken(_) => "wrong_token",
            Self::NotTools(_) => "not_the_tools",
            Self::Crowded(_) => "too_many_connections",
            Self::Ended => "run_ended",
            Self::Output(_) => "output_closed",
        }
    }

    /// Returns what to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Output(_) => "whoever started this closed its stdout",
            Self::Crowded(_) => "end another of the agent's programs that has the tools, then start this again",
            _ => "address and token are of one run alone: start this with the variables that the agent was given",
        }
    }
}

/// Whether `request` asks for lines.
pub(super) fn are_wanted(request: &Request<Incoming>) -> bool {
    let wanted = request.headers().get(UPGRADE).map(HeaderValue::as_bytes);
    request.method() == Method::GET && wanted.is_some_and(|wanted| wanted.eq_ignore_ascii_case(PROTOCOL.as_bytes()))
}

/// Serves `handler` over the connection of `request` until it or the endpoint ends; `places` are its places among all
/// connections and among those of lines.
pub(super) fn upgrade<H: ServerHandler>(
    request: Request<Incoming>,
    handler: H,
    ended: CancellationToken,
    places: (Arc<OwnedSemaphorePermit>, OwnedSemaphorePermit),
) -> Response<Body> {
    let upgrading = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let _places = places;
        if let Err(error) = serve(upgrading, handler, ended).await {
            tracing::debug!(%error, "a connection of lines ended");
        }
    });
    let mut response = Response::new(Empty::new().boxed());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    response
}

async fn serve<H: ServerHandler>(
    upgrading: OnUpgrade,
    handler: H,
    ended: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // The connection itself, since one behind hyper can only be written to by waiting.
    let parts = upgrading.await?.downcast::<TokioIo<tokio::net::TcpStream>>().map_err(|_| "not a TCP connection")?;
    let connection = parts.io.into_inner();
    connection.set_nodelay(true)?;
    let transport = StdioTransport::over(connection, &parts.read_buf, Arc::default());
    // A token of its own: a connection that ends cancels the one it has.
    match handler.serve_with_ct(transport, ended.child_token()).await {
        Ok(running) => drop(running.waiting().await?),
        // A client that goes away at once is no failure.
        Err(ServerInitializeError::ConnectionClosed(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Carries lines between `input` and `output` and the endpoint at `address`, until `input` ends and everything is
/// answered.
///
/// # Errors
///
/// [`RelayError`]: [`Ended`](RelayError::Ended) when the endpoint goes away before `input` ends.
pub fn relay(
    address: SocketAddr,
    token: &str,
    mut input: impl Read + Send + 'static,
    mut output: impl Write,
) -> Result<(), RelayError> {
    let unreachable = |error| RelayError::Unreachable(address, error);
    let mut sending = TcpStream::connect_timeout(&address, ADMISSION_MAX).map_err(unreachable)?;
    let mut received = BufReader::with_capacity(CARRIED_BYTES, sending.try_clone().map_err(unreachable)?);
    sending.set_nodelay(true).map_err(unreachable)?;
    admit(address, token, &mut sending, &mut received)?;
    let is_over = Arc::new(AtomicBool::new(false));
    // Nobody waits for it: reading stdin ends when the process does.
    thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            // An input that cannot be read has ended, and a connection that is gone is noticed by who reads from it.
            let _ = carry(&mut input, &mut sending);
            is_over.store(true, Ordering::SeqCst);
            let _ = sending.shutdown(Shutdown::Write);
        }
    });
    match carry(&mut received, &mut output) {
        Err(Broken::Output(error)) => Err(RelayError::Output(error)),
        _ if is_over.load(Ordering::SeqCst) => Ok(()),
        _ => Err(RelayError::Ended),
    }
}

/// Has the endpoint upgrade the connection.
fn admit(
    address: SocketAddr,
    token: &str,
    sending: &mut TcpStream,
    received: &mut impl BufRead,
) -> Result<(), RelayError> {
    // Whatever else a header could be made of is no token.
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(RelayError::WrongToken(address));
    }
    let unreachable = |error| RelayError::Unreachable(address, error);
    sending.set_read_timeout(Some(ADMISSION_MAX)).map_err(unreachable)?;
    let head = format!(
        "GET {} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: upgrade\r\nupgrade: {PROTOCOL}\r\n\r\n",
        super::http::PATH
    );
    sending.write_all(head.as_bytes()).map_err(unreachable)?;
    let mut head = received.take(HEAD_BYTES_MAX);
    let mut status = Vec::new();
    head.read_until(b'\n', &mut status).map_err(unreachable)?;
    match status.strip_prefix(b"HTTP/1.1 ").and_then(|status| status.get(..3)) {
        Some(b"101") => {}
        Some(b"401") => return Err(RelayError::WrongToken(address)),
        Some(b"503") => return Err(RelayError::Crowded(address)),
        _ => return Err(RelayError::NotTools(address)),
    }
    let mut line = Vec::new();
    while line != b"\r\n" {
        line.clear();
        if head.read_until(b'\n', &mut line).map_err(unreachable)? == 0 {
            return Err(RelayError::NotTools(address));
        }
    }
    sending.set_read_timeout(None).map_err(unreachable)
}

/// Which side of what is carried is gone.
enum Broken {
    Input,
    Output(io::Error),
}

/// Writes everything of `from` to `to`, each part as soon as it is there.
fn carry(from: &mut impl Read, to: &mut impl Write) -> Result<(), Broken> {
    let mut carried = vec![0; CARRIED_BYTES];
    loop {
        let count = match from.read(&mut carried) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(Broken::Input),
        };
        to.write_all(&carried[..count]).and_then(|()| to.flush()).map_err(Broken::Output)?;
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, ProgressNotificationParam,
        ServerCapabilities, ServerConfig,
    };
    use rmcp::service::RequestContext;
    use rmcp::{Peer, RoleServer};
    use serde_json::{Value, json};
    use tokio::sync::{Notify, oneshot};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::gateway::http::Endpoint;

    const TOKEN: &str = "0123456789abcdef";

    /// Says something before it answers, asks the client, and hears when a call is taken back.
    struct Talkative(Arc<Notify>);

    impl ServerHandler for Talkative {
        fn get_info(&self) -> ServerConfig {
            ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
        }

        #[expect(deprecated, reason = "what hosts still answer is carried too")]
        async fn call_tool(
            &self,
            request: CallToolRequestParams,
            context: RequestContext<RoleServer>,
        ) -> Result<CallToolResponse, ErrorData> {
            let peer: &Peer<RoleServer> = &context.peer;
            if request.name == "wait" {
                context.ct.cancelled().await;
                self.0.notify_one();
                return Ok(CallToolResult::success(Vec::new()).into());
            }
            let token = context.meta.get_progress_token().unwrap();
            peer.notify_progress(ProgressNotificationParam::new(token, 0.5)).await.unwrap();
            let roots = peer.list_roots().await.unwrap().roots;
            Ok(CallToolResult::success(vec![ContentBlock::text(roots[0].uri.clone())]).into())
        }
    }

    /// A client of a relay to a served [`Talkative`].
    struct Client {
        address: SocketAddr,
        input: io::PipeWriter,
        output: BufReader<io::PipeReader>,
        relayed: JoinHandle<Result<(), RelayError>>,
        ended: CancellationToken,
        cancelled: Arc<Notify>,
    }

    impl Client {
        async fn new() -> Self {
            let (ended, cancelled) = (CancellationToken::new(), Arc::new(Notify::new()));
            let endpoint = Endpoint::new(([127, 0, 0, 1], 0).into(), Some(TOKEN), Vec::new(), Vec::new()).unwrap();
            let (ready, is_ready) = oneshot::channel();
            let (hears, until) = (Arc::clone(&cancelled), ended.clone());
            tokio::spawn(endpoint.with_lines().serve_with(
                move || Talkative(Arc::clone(&hears)),
                until,
                |address| ready.send(address).unwrap(),
            ));
            let address = is_ready.await.unwrap();
            let ((their_input, input), (output, their_output)) = (io::pipe().unwrap(), io::pipe().unwrap());
            let relayed = tokio::task::spawn_blocking(move || relay(address, TOKEN, their_input, their_output));
            let mut client = Self { address, input, output: BufReader::new(output), relayed, ended, cancelled };
            let hello = json!({
                "protocolVersion": "2025-06-18", "capabilities": { "roots": {} },
                "clientInfo": { "name": "test", "version": "1" },
            });
            client.send(&json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello }));
            assert_eq!(client.receive()["id"], 0);
            client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
            client
        }

        fn send(&mut self, message: &Value) {
            writeln!(self.input, "{message}").unwrap();
        }

        fn receive(&mut self) -> Value {
            let mut line = String::new();
            self.output.read_line(&mut line).unwrap();
            serde_json::from_str(&line).unwrap()
        }

        fn call(&mut self, id: &str, name: &str) {
            let params = json!({ "name": name, "_meta": { "progressToken": "p" } });
            self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn everything_is_carried_in_both_directions() {
        let mut client = Client::new().await;
        client.call("a", "wait");
        client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": "a" } }));
        client.cancelled.notified().await;
        client.call("b", "ask");
        let mut answered = Vec::new();
        while answered.last() != Some(&json!("b")) {
            let message = client.receive();
            match message["method"].as_str() {
                Some("roots/list") => {
                    let roots = json!({ "roots": [{ "uri": format!("file:///{}", message["id"]) }] });
                    client.send(&json!({ "jsonrpc": "2.0", "id": message["id"], "result": roots }));
                    answered.push(json!("roots"));
                }
                Some("notifications/progress") => answered.push(message["params"]["progress"].clone()),
                _ => answered.push(message["id"].clone()),
            }
        }
        // What was taken back has no answer.
        assert_eq!(answered, [json!(0.5), json!("roots"), json!("b")]);
        let Client { input, relayed, .. } = client;
        drop(input);
        relayed.await.unwrap().unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn end_of_the_endpoint_ends_the_relay() {
        let client = Client::new().await;
        client.ended.cancel();
        let error = client.relayed.await.unwrap().unwrap_err();
        assert_eq!(error.code(), "run_ended");
        drop(client.input);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn places_for_lines_are_few_and_given_back() {
        let client = Client::new().await;
        let relayed = |input| {
            let address = client.address;
            tokio::task::spawn_blocking(move || relay(address, TOKEN, input, io::sink()))
        };
        let mut others = Vec::new();
        let crowded = loop {
            let (theirs, ours) = io::pipe().unwrap();
            let mut other = relayed(theirs);
            match tokio::time::timeout(Duration::from_millis(500), &mut other).await {
                Ok(ended) => break ended.unwrap().unwrap_err(),
                Err(_) => others.push((other, ours)),
            }
            assert!(others.len() < 50, "there is no end of places");
        };
        assert_eq!((crowded.code(), others.len()), ("too_many_connections", 7));
        let (first, input) = others.remove(0);
        drop(input);
        first.await.unwrap().unwrap();
        // Given back when the server noticed the end.
        for attempt in 0.. {
            let (theirs, _ours) = io::pipe().unwrap();
            if tokio::time::timeout(Duration::from_millis(500), relayed(theirs)).await.is_err() {
                break;
            }
            assert!(attempt < 20, "the place is not given back");
        }
        client.ended.cancel();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_else_is_taken_for_the_tools() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for answer in ["HTTP/1.1 200 OK\r\n\r\n", "", "HTTP/1.1 101\r\nno end: of it\r\n", &"x".repeat(100_000)] {
            let relayed = tokio::task::spawn_blocking(move || relay(address, TOKEN, io::empty(), io::sink()));
            let (mut stranger, _) = listener.accept().unwrap();
            stranger.read_exact(&mut [0; 64]).unwrap();
            let _ = stranger.write_all(answer.as_bytes());
            drop(stranger);
            let error = relayed.await.unwrap().unwrap_err();
            assert!(["not_the_tools", "tools_unreachable"].contains(&error.code()), "{answer:.20}: {error}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_endpoint_takes_lines_only_where_it_is_told_to() {
        let endpoint = Endpoint::new(([127, 0, 0, 1], 0).into(), Some(TOKEN), Vec::new(), Vec::new()).unwrap();
        let (ready, is_ready) = oneshot::channel();
        tokio::spawn(endpoint.serve_with(
            || Talkative(Arc::default()),
            CancellationToken::new(),
            |address| ready.send(address).unwrap(),
        ));
        let address = is_ready.await.unwrap();
        let relayed = tokio::task::spawn_blocking(move || relay(address, TOKEN, io::empty(), io::sink()));
        assert_eq!(relayed.await.unwrap().unwrap_err().code(), "not_the_tools");
    }
}
