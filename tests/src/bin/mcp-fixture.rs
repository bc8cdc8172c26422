//! `mcp-fixture`: a bare rmcp server for the tests and benchmarks, with tools that misbehave on request.

use std::time::Duration;

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{Implementation, ServerCapabilities, ServerConfig};
use rmcp::transport::{stdio, stdio_pipes};
use rmcp::{ServerHandler, ServiceExt, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone)]
struct Fixture {
    tool_router: ToolRouter<Self>,
}

#[derive(Deserialize, JsonSchema)]
struct EchoRequest {
    text: String,
}

#[derive(Deserialize, JsonSchema)]
struct SleepRequest {
    ms: u64,
}

#[tool_router]
impl Fixture {
    fn new() -> Self {
        Self { tool_router: Self::tool_router() }
    }

    #[tool(description = "Answer with the same text")]
    async fn echo(&self, Parameters(request): Parameters<EchoRequest>) -> String {
        request.text
    }

    #[tool(description = "Answer after a while")]
    async fn sleep(&self, Parameters(request): Parameters<SleepRequest>) -> String {
        tokio::time::sleep(Duration::from_millis(request.ms)).await;
        "awake".to_owned()
    }

    #[tool(description = "End the process at once")]
    async fn crash(&self) -> String {
        eprintln!("crashing as asked");
        std::process::exit(7)
    }

    #[tool(description = "Answer with an environment variable")]
    async fn variable(&self, Parameters(request): Parameters<EchoRequest>) -> String {
        std::env::var(request.text).unwrap_or_else(|_| "(not set)".to_owned())
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Fixture {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("mcp-fixture", "1"))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A plain server as most are written, or one on the faster transport, for a fair comparison.
    if std::env::args().any(|argument| argument == "--pipes") {
        Fixture::new().serve(stdio_pipes()).await?.waiting().await?;
    } else {
        Fixture::new().serve(stdio()).await?.waiting().await?;
    }
    Ok(())
}
