//! A remote server that wants a login, and the authorization server that gives it, on this machine: a real MCP server
//! behind bearer tokens, and OAuth 2.1 with PKCE, rotation of refresh tokens, registration and revocation.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HOST, LOCATION, WWW_AUTHENTICATE};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{Implementation, ServerCapabilities, ServerConfig};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ServerHandler, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What a program that logs in by itself has.
pub const CLIENT: (&str, &str) = ("the-program", "its-client-s3cr3t");

/// The scope that the tool `write` takes besides.
pub const WRITE: &str = "notes:write";

/// The server and the authorization server, at one address.
pub struct Authority {
    address: SocketAddr,
    state: Arc<State>,
}

/// How it behaves.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// How long a token is good for, as it says.
    pub lifetime: Duration,
    /// What its metadata says that it is called, instead of its address.
    pub issuer: Option<String>,
    /// What it says in the browser's answer that it is called.
    pub answers_as: Option<String>,
    /// Where its metadata says that tokens are given, instead of here.
    pub token_endpoint: Option<String>,
    /// Where it sends requests for the server on to.
    pub moved_to: Option<String>,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Where to.
    pub path: String,
    /// The header `Authorization`.
    pub authorization: Option<String>,
    /// What its query or its form says.
    pub form: HashMap<String, String>,
}

#[derive(Default)]
struct State {
    behaviour: Mutex<Behaviour>,
    codes: Mutex<HashMap<String, HashMap<String, String>>>,
    /// Access tokens: what they may do, and until when.
    tokens: Mutex<HashMap<String, (String, Instant)>>,
    refresh: Mutex<HashMap<String, String>>,
    seen: Mutex<Vec<Seen>>,
    count: Mutex<u64>,
}

type Body = BoxBody<Bytes, Infallible>;
type Mcp = StreamableHttpService<Notes, LocalSessionManager>;

/// The server that wants the login.
#[derive(Clone)]
struct Notes {
    tool_router: ToolRouter<Self>,
}

#[derive(Deserialize, JsonSchema)]
struct Text {
    text: String,
}

#[tool_router]
impl Notes {
    fn new() -> Self {
        Self { tool_router: Self::tool_router() }
    }

    #[tool(description = "Answer with the same text")]
    async fn echo(&self, Parameters(request): Parameters<Text>) -> String {
        request.text
    }

    #[tool(description = "Take a note")]
    async fn write(&self, Parameters(request): Parameters<Text>) -> String {
        format!("noted {}", request.text)
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Notes {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("notes", "1"))
    }
}

impl Default for Behaviour {
    fn default() -> Self {
        let lifetime = Duration::from_secs(3600);
        Self { lifetime, issuer: None, answers_as: None, token_endpoint: None, moved_to: None }
    }
}

impl Authority {
    /// Starts it; it ends with the process.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let state = Arc::new(State::default());
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { serve(tokio::net::TcpListener::from_std(listener).unwrap(), serving).await });
        });
        Self { address, state }
    }

    /// The address of the server.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// What it is called.
    pub fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes how it behaves from now on.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut locked(&self.state.behaviour));
    }

    /// Takes back every access token, without a word; `refresh` too.
    pub fn forget(&self, refresh: bool) {
        locked(&self.state.tokens).clear();
        if refresh {
            locked(&self.state.refresh).clear();
        }
    }

    /// The requests to this path so far.
    pub fn seen(&self, path: &str) -> Vec<Seen> {
        locked(&self.state.seen).iter().filter(|seen| seen.path == path).cloned().collect()
    }

    /// Every secret that it ever gave out or was sent.
    pub fn secrets(&self) -> Vec<String> {
        let mut secrets: Vec<String> = locked(&self.state.tokens).keys().cloned().collect();
        secrets.extend(locked(&self.state.refresh).keys().cloned());
        for seen in locked(&self.state.seen).iter() {
            for name in ["code", "code_verifier", "refresh_token", "client_secret", "token"] {
                secrets.extend(seen.form.get(name).cloned());
            }
            let bearer = seen.authorization.as_ref().and_then(|it| it.strip_prefix("Bearer "));
            secrets.extend(bearer.map(str::to_owned));
        }
        secrets
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: tokio::net::TcpListener, state: Arc<State>) {
    let address = listener.local_addr().unwrap();
    let service = StreamableHttpService::new(
        || Ok(Notes::new()),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (service, state) = (service.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let answer = |request| answer(service.clone(), Arc::clone(&state), address, request);
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer))
                .await;
        });
    }
}

async fn answer(
    service: Mcp,
    state: Arc<State>,
    address: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let authorization = request.headers().get(AUTHORIZATION).and_then(|it| it.to_str().ok()).map(str::to_owned);
    let mut query = form(request.uri().query().unwrap_or_default());
    let behaviour = locked(&state.behaviour).clone();
    if path == "/mcp" {
        locked(&state.seen).push(Seen { path, authorization: authorization.clone(), form: query });
        if let Some(other) = behaviour.moved_to {
            return Ok(response(307, &[(LOCATION.as_str(), &other)], json!({})));
        }
        return Ok(guarded(service, &state, address, authorization.as_deref(), request).await);
    }
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let text = String::from_utf8_lossy(&body).into_owned();
    if path == "/token" || path == "/revoke" {
        query.extend(form(&text));
    }
    locked(&state.seen).push(Seen { path: path.clone(), authorization: authorization.clone(), form: query.clone() });
    let base = format!("http://{address}");
    Ok(match path.as_str() {
        "/.well-known/oauth-protected-resource/mcp" => response(
            200,
            &[],
            json!({ "resource": format!("{base}/mcp"), "authorization_servers": [base], "scopes_supported": ["notes:read"] }),
        ),
        "/.well-known/oauth-authorization-server" => response(
            200,
            &[],
            json!({
                "issuer": behaviour.issuer.unwrap_or_else(|| base.clone()),
                "authorization_endpoint": format!("{base}/authorize"),
                "token_endpoint": behaviour.token_endpoint.unwrap_or_else(|| format!("{base}/token")),
                "registration_endpoint": format!("{base}/register"),
                "revocation_endpoint": format!("{base}/revoke"),
                "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"],
                "scopes_supported": ["notes:read", WRITE, "offline_access"],
                "token_endpoint_auth_methods_supported": ["none", "client_secret_post"],
                "authorization_response_iss_parameter_supported": true,
            }),
        ),
        "/register" => {
            let wanted: Value = serde_json::from_str(&text).unwrap_or_default();
            response(201, &[], json!({ "client_id": "registered", "redirect_uris": wanted["redirect_uris"] }))
        }
        "/authorize" => {
            let code = state.fresh("code");
            let issuer = behaviour.answers_as.unwrap_or(base);
            let back = format!("{}?code={code}&state={}&iss={issuer}", query["redirect_uri"], query["state"]);
            locked(&state.codes).insert(code, query);
            response(302, &[(LOCATION.as_str(), &back)], json!({}))
        }
        "/token" => state.token(&query, behaviour.lifetime),
        "/revoke" => {
            locked(&state.refresh).remove(&query["token"]);
            response(200, &[], json!({}))
        }
        _ => response(404, &[], json!({})),
    })
}

/// Hands a request to the server, if it has a token that may do what it asks for.
async fn guarded(
    service: Mcp,
    state: &State,
    address: SocketAddr,
    authorization: Option<&str>,
    request: Request<Incoming>,
) -> Response<Body> {
    let token = authorization.and_then(|it| it.strip_prefix("Bearer "));
    let known = token.and_then(|token| locked(&state.tokens).get(token).cloned());
    let metadata = format!("resource_metadata=\"http://{address}/.well-known/oauth-protected-resource/mcp\"");
    let Some((scope, _)) = known.filter(|(_, until)| *until > Instant::now()) else {
        let challenge = format!("Bearer {metadata}");
        return response(401, &[(WWW_AUTHENTICATE.as_str(), &challenge)], json!({}));
    };
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let call: Value = serde_json::from_slice(&body).unwrap_or_default();
    if call["method"] == "tools/call" && call["params"]["name"] == "write" && !scope.split(' ').any(|it| it == WRITE) {
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{WRITE}\", {metadata}");
        return response(403, &[(WWW_AUTHENTICATE.as_str(), &challenge)], json!({}));
    }
    service.handle(Request::from_parts(head, Full::new(body))).await
}

impl State {
    fn fresh(&self, what: &str) -> String {
        let mut count = locked(&self.count);
        *count += 1;
        let digest = Sha256::digest(format!("{what} {count} {:?}", Instant::now()));
        format!("{what}-{}", BASE64_URL_SAFE_NO_PAD.encode(digest))
    }

    fn token(&self, form: &HashMap<String, String>, lifetime: Duration) -> Response<Body> {
        let given = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let refused = |error: &str| response(400, &[], json!({ "error": error }));
        if !given("resource").ends_with("/mcp") {
            return refused("invalid_target");
        }
        let (scope, renewable) = match given("grant_type") {
            "authorization_code" => {
                let Some(asked) = locked(&self.codes).remove(given("code")) else { return refused("invalid_grant") };
                let proof = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(given("code_verifier")));
                let same = |name: &str| asked.get(name).map(String::as_str) == Some(given(name));
                if asked.get("code_challenge") != Some(&proof) || !same("redirect_uri") || !same("resource") {
                    return refused("invalid_grant");
                }
                (asked.get("scope").cloned().unwrap_or_default(), true)
            }
            "refresh_token" => match locked(&self.refresh).remove(given("refresh_token")) {
                Some(scope) => (scope, true),
                None => return refused("invalid_grant"),
            },
            "client_credentials" if (given("client_id"), given("client_secret")) == CLIENT => {
                (given("scope").to_owned(), false)
            }
            _ => return refused("invalid_client"),
        };
        let access = self.fresh("access");
        locked(&self.tokens).insert(access.clone(), (scope.clone(), Instant::now() + lifetime));
        let mut answer = json!({ "access_token": access, "token_type": "Bearer", "expires_in": lifetime.as_secs() });
        answer["scope"] = json!(scope);
        if renewable {
            let refresh = self.fresh("refresh");
            answer["refresh_token"] = json!(refresh);
            locked(&self.refresh).insert(refresh, scope);
        }
        response(200, &[], answer)
    }
}

fn response(status: u16, headers: &[(&str, &str)], body: impl std::fmt::Display) -> Response<Body> {
    let mut response = Response::builder().status(status).header("content-type", "application/json");
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Full::new(Bytes::from(body.to_string())).boxed()).unwrap()
}

/// Reads a query or form.
fn form(text: &str) -> HashMap<String, String> {
    let parts = text.split('&').filter_map(|part| part.split_once('='));
    parts.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let text = text.replace('+', " ");
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// Gets a page as a browser does, going where it is sent; returns the last page's status and text, and where it was.
pub fn browse(page: &str) -> (u16, String, String) {
    let mut page = page.to_owned();
    loop {
        let (status, head, body) = get(&page, None);
        let next = head.lines().find(|line| line.to_ascii_lowercase().starts_with("location:"));
        match next {
            Some(line) => page = line["location:".len()..].trim().to_owned(),
            None => return (status, body, page),
        }
    }
}

/// Gets one page; returns its status, head and body.
pub fn get(page: &str, host: Option<&str>) -> (u16, String, String) {
    let (authority, path) = page.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let host = host.unwrap_or(authority);
    write!(stream, "GET /{path} HTTP/1.1\r\n{HOST}: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}
