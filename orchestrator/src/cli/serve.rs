//! `orchestrator serve`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rmcp::ServiceExt;
use rmcp::service::ServerInitializeError;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tollgate_shared::serve::stdio::StdioTransport;

use crate::config::House;
use crate::gateway::http::{Endpoint, TOKEN_VARIABLE};
use crate::gateway::policy::Policy;
use crate::gateway::{Front, Gateway};

/// How long calls under way may take when the gateway over HTTP is told to end.
const DRAIN_MAX: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub(super) struct ServeArguments {
    /// Serve Streamable HTTP here instead of stdio: 127.0.0.1:8730; the path is /mcp
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// A further name by which clients reach the gateway over HTTP, as in their `Host` header
    #[arg(long, value_name = "HOST", requires = "http")]
    allow_host: Vec<String>,
    /// A web page's origin that may call the gateway over HTTP; none may otherwise
    #[arg(long, value_name = "ORIGIN", requires = "http")]
    allow_origin: Vec<String>,
    /// The [gateway.profiles.<NAME>] to apply; when left out, the one that TOLLGATE_ROLE names
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

impl ServeArguments {
    /// Whether it serves one client, over stdin and stdout.
    pub(super) fn is_stdio(&self) -> bool {
        self.http.is_none()
    }
}

pub(super) async fn run(house: &House, arguments: ServeArguments) -> anyhow::Result<ExitCode> {
    let role = std::env::var("TOLLGATE_ROLE").ok();
    let policy = Policy::new(&house.gateway, arguments.profile.as_deref(), role.as_deref())?;
    let gateway = Gateway::new(house, policy)?;
    match arguments.http {
        Some(address) => {
            let token = std::env::var(TOKEN_VARIABLE).ok();
            let endpoint = Endpoint::new(address, token.as_deref(), arguments.allow_host, arguments.allow_origin)?;
            over_http(gateway, endpoint).await
        }
        None => over_stdio(gateway).await,
    }
}

async fn over_http(gateway: Arc<Gateway>, endpoint: Endpoint) -> anyhow::Result<ExitCode> {
    let ended = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn({
        let (ended, drain) = (ended.clone(), gateway.drain());
        async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            drain.begin();
            let _ = timeout(DRAIN_MAX, drain.finished()).await;
            ended.cancel();
        }
    });
    // stdout is nobody's protocol here, but whoever started this reads the address from stderr like every other word.
    let ready = |address| eprintln!("orchestrator: serving http://{address}/mcp");
    endpoint.serve(Arc::clone(&gateway), ended, ready).await?;
    gateway.close().await;
    Ok(ExitCode::SUCCESS)
}

async fn over_stdio(gateway: Arc<Gateway>) -> anyhow::Result<ExitCode> {
    let drain = gateway.drain();
    tokio::spawn(tollgate_shared::serve::drain_on_signal(Arc::clone(&drain)));
    let transport = StdioTransport::new(drain)?;
    let front = Arc::new(Front::over_lines(Arc::clone(&gateway)));
    let code = match Arc::clone(&front).serve(transport).await {
        Ok(running) => {
            let ended = running.waiting().await;
            front.close().await;
            if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        // A client that only asks who is there, or goes away at once, is no failure.
        Err(ServerInitializeError::ConnectionClosed(_)) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the connection could not be set up");
            ExitCode::FAILURE
        }
    };
    gateway.close().await;
    Ok(code)
}
