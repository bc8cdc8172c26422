//! The gateway over Streamable HTTP: on loopback, for who knows the token, and for no web page.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use rmcp::ServerHandler;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{Front, Gateway, lines};

/// The environment variable with the bearer token.
pub const TOKEN_VARIABLE: &str = "TOLLGATE_GATEWAY_TOKEN";

/// The path that clients post to.
pub(super) const PATH: &str = "/mcp";

/// Shorter ones can be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// Most connections at a time.
const CONNECTIONS_MAX: usize = 256;

/// Most connections of lines at a time: each may hold as much as a body unread, and as much again unwritten.
const LINES_MAX: usize = 8;

/// Longest that a client may take to send the head of a request.
const HEAD_MAX: Duration = Duration::from_secs(10);

/// Largest body: as much as a line on stdin.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long a client that guessed wrong waits for its answer.
const WRONG_TOKEN_PAUSE: Duration = Duration::from_millis(500);

/// Where and for whom to serve.
#[derive(Clone)]
pub struct Endpoint {
    address: SocketAddr,
    token: Option<Token>,
    hosts: Vec<String>,
    origins: Vec<String>,
    takes_lines: bool,
}

/// The digest of the token; comparing digests takes the same time whatever was guessed.
#[derive(Clone)]
struct Token([u8; 32]);

/// The body of an answer.
pub(super) type Body = BoxBody<Bytes, Infallible>;

/// What every request is answered from.
struct Door<H: ServerHandler, F> {
    service: StreamableHttpService<H, LocalSessionManager>,
    handler: Arc<F>,
    token: Option<Token>,
    /// Places for connections of lines, where they are taken.
    lines: Option<Arc<Semaphore>>,
    ended: CancellationToken,
}

impl Endpoint {
    /// Checks that nobody but the operator's own programs can reach `address`, or that they have to know `token`.
    ///
    /// `hosts` are further names in `Host`, `origins` web pages that may call; none may otherwise.
    ///
    /// # Errors
    ///
    /// A sentence that says what is missing.
    pub fn new(
        address: SocketAddr,
        token: Option<&str>,
        hosts: Vec<String>,
        origins: Vec<String>,
    ) -> anyhow::Result<Self> {
        let token = token.filter(|token| !token.is_empty());
        ensure!(
            address.ip().is_loopback() || token.is_some(),
            "{address} can be reached from other machines: set {TOKEN_VARIABLE} to a long random text, or serve on 127.0.0.1"
        );
        if let Some(token) = token {
            ensure!(token.len() >= TOKEN_BYTES_MIN, "{TOKEN_VARIABLE} is shorter than {TOKEN_BYTES_MIN} characters");
        }
        Ok(Self { address, token: token.map(Token::of), hosts, origins, takes_lines: false })
    }

    /// Takes connections too that are [upgraded](lines) to lines, from who knows the token.
    #[must_use]
    pub(crate) fn with_lines(mut self) -> Self {
        self.takes_lines = self.token.is_some();
        self
    }

    /// Serves until `ended`, after `ready` was told the address.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on.
    pub async fn serve(
        self,
        gateway: Arc<Gateway>,
        ended: CancellationToken,
        ready: impl FnOnce(SocketAddr),
    ) -> anyhow::Result<()> {
        self.serve_with(move || Front::new(Arc::clone(&gateway)), ended, ready).await
    }

    /// Serves what `handler` makes, one of it for each session, until `ended`.
    pub(crate) async fn serve_with<H: ServerHandler>(
        self,
        handler: impl Fn() -> H + Send + Sync + 'static,
        ended: CancellationToken,
        ready: impl FnOnce(SocketAddr),
    ) -> anyhow::Result<()> {
        let listener =
            TcpListener::bind(self.address).await.with_context(|| format!("cannot listen on {}", self.address))?;
        let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        if !self.address.ip().is_loopback() && !self.address.ip().is_unspecified() {
            hosts.push(self.address.ip().to_string());
        }
        hosts.extend(self.hosts.iter().cloned());
        // No page is served from here, so only what means to be let in says that it comes from here.
        let port = listener.local_addr()?.port();
        let mut origins: Vec<String> =
            ["localhost", "127.0.0.1", "[::1]"].iter().map(|host| format!("http://{host}:{port}")).collect();
        origins.extend(self.origins.iter().cloned());
        let config = StreamableHttpServerConfig::default()
            .with_allowed_hosts(hosts)
            .with_allowed_origins(origins)
            .with_cancellation_token(ended.clone())
            .with_max_request_body_bytes(BODY_BYTES_MAX);
        let handler = Arc::new(handler);
        let made = Arc::clone(&handler);
        let service = StreamableHttpService::new(move || Ok(made()), Arc::new(LocalSessionManager::default()), config);
        let lines = self.takes_lines.then(|| Arc::new(Semaphore::new(LINES_MAX)));
        let door = Arc::new(Door { service, handler, token: self.token, lines, ended: ended.clone() });
        ready(listener.local_addr()?);
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                () = ended.cancelled() => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Out of descriptors: those that are open have to end first.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            // An answer is written in parts, of which the second would wait until the client acknowledges the first: 40 ms.
            let _ = stream.set_nodelay(true);
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let (door, ended, place) = (Arc::clone(&door), ended.clone(), Arc::new(place));
            tokio::spawn(async move {
                let answer = |request| answer(Arc::clone(&door), Arc::clone(&place), request);
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_MAX)
                    .serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer))
                    .with_upgrades();
                tokio::select! {
                    result = connection => if let Err(error) = result { tracing::debug!(%error, "a connection ended") },
                    () = ended.cancelled() => {}
                }
            });
        }
    }
}

impl Token {
    fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    fn is_in(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer =
            given.and_then(|text| text.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        bearer.is_some_and(|(_, token)| Self::of(token.trim()).0 == self.0)
    }
}

async fn answer<H: ServerHandler, F: Fn() -> H>(
    door: Arc<Door<H, F>>,
    place: Arc<OwnedSemaphorePermit>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if let Some(token) = &door.token
        && !token.is_in(request.headers())
    {
        tokio::time::sleep(WRONG_TOKEN_PAUSE).await;
        let mut refused = plain(StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong\n");
        refused.headers_mut().insert(WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
        return Ok(refused);
    }
    if request.uri().path() != PATH {
        return Ok(plain(StatusCode::NOT_FOUND, "the endpoint is /mcp\n"));
    }
    if let Some(places) = door.lines.as_ref().filter(|_| lines::are_wanted(&request)) {
        let Ok(of_lines) = Arc::clone(places).try_acquire_owned() else {
            return Ok(plain(StatusCode::SERVICE_UNAVAILABLE, "there are as many connections of lines as may be\n"));
        };
        return Ok(lines::upgrade(request, (door.handler)(), door.ended.clone(), (place, of_lines)));
    }
    Ok(door.service.handle(request).await)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())).boxed());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str, token: Option<&str>) -> anyhow::Result<Endpoint> {
        Endpoint::new(address.parse().unwrap(), token, Vec::new(), Vec::new())
    }

    #[test]
    fn an_address_that_others_reach_needs_a_token_that_nobody_guesses() {
        for address in ["0.0.0.0:0", "192.168.1.2:80", "[::]:0"] {
            assert!(endpoint(address, None).is_err(), "{address}");
            assert!(endpoint(address, Some("")).is_err(), "{address}");
            assert!(endpoint(address, Some("0123456789abcdef")).is_ok(), "{address}");
        }
        assert!(endpoint("127.0.0.1:0", Some("short")).is_err());
        assert!(endpoint("127.0.0.1:0", None).is_ok() && endpoint("[::1]:0", None).is_ok());
    }

    #[test]
    fn only_the_token_itself_is_the_token() {
        let token = Token::of("0123456789abcdef");
        let with = |value: &str| HeaderMap::from_iter([(AUTHORIZATION, http::HeaderValue::from_str(value).unwrap())]);
        assert!(token.is_in(&with("Bearer 0123456789abcdef")) && token.is_in(&with("bearer 0123456789abcdef")));
        for wrong in [
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdeF",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
            "Bearer",
            "",
        ] {
            assert!(!token.is_in(&with(wrong)), "{wrong}");
        }
        assert!(!token.is_in(&HeaderMap::new()));
    }
}
