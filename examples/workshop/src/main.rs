//! `mcp-workshop`: what an agent host has anyway, an editor and a build, as a plain MCP server.
//!
//! It knows nothing of Tollgate. The demo lists it under `[servers.workshop]` to show that the
//! orchestrator takes any stdio server, prices its calls and records them.

use std::path::{Component, Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::model::{Implementation, ServerCapabilities, ServerConfig};
use rmcp::transport::stdio_pipes;
use rmcp::{ServerHandler, ServiceExt, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

/// Largest file that is written.
const FILE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Clone)]
struct Workshop {
    root: PathBuf,
    tool_router: ToolRouter<Self>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WriteFileRequest {
    /// Path below the working directory
    path: String,
    /// The whole content
    content: String,
}

#[derive(Serialize, JsonSchema)]
struct Written {
    path: String,
    bytes: usize,
}

#[derive(Serialize, JsonSchema)]
struct Built {
    /// What `cargo test` said last.
    tests: String,
    /// The folder that can be released.
    artifact: String,
}

#[tool_router]
impl Workshop {
    fn new(root: PathBuf) -> Self {
        Self { root, tool_router: Self::tool_router() }
    }

    #[tool(description = "Write a file below the working directory, replacing what was there")]
    async fn write_file(&self, Parameters(request): Parameters<WriteFileRequest>) -> Result<Json<Written>, String> {
        if request.content.len() > FILE_BYTES_MAX {
            return Err(format!("more than {FILE_BYTES_MAX} bytes"));
        }
        let path = self.inside(&request.path)?;
        tokio::fs::write(&path, &request.content).await.map_err(|error| format!("{}: {error}", request.path))?;
        Ok(Json(Written { path: request.path, bytes: request.content.len() }))
    }

    #[tool(description = "Run the package's tests, build it and put what can be released into dist/")]
    async fn build(&self) -> Result<Json<Built>, String> {
        let tests = self.cargo(&["test", "--offline", "--quiet", "--tests"]).await?;
        self.cargo(&["build", "--offline", "--quiet"]).await?;
        self.collect().await.map_err(|error| format!("{error:#}"))?;
        let passed = tests.lines().rfind(|line| line.starts_with("test result")).unwrap_or_default().to_owned();
        Ok(Json(Built { tests: passed, artifact: "dist".to_owned() }))
    }
}

impl Workshop {
    /// Returns the path when it stays below the root, links followed.
    fn inside(&self, path: &str) -> Result<PathBuf, String> {
        let outside = || format!("{path} is not below the working directory");
        let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let target = self.root.join(path);
        let folder = target.parent().and_then(|folder| folder.canonicalize().ok()).ok_or_else(outside)?;
        if !plain || !folder.starts_with(&self.root) || target.is_symlink() {
            return Err(outside());
        }
        Ok(target)
    }

    async fn cargo(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("cargo")
            .args(arguments)
            .env("CARGO_TARGET_DIR", self.root.join("target"))
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(|error| format!("cannot run cargo: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(said);
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(format!("cargo {} failed:\n{said}{errors}", arguments.join(" ")))
    }

    async fn collect(&self) -> anyhow::Result<()> {
        let dist = self.root.join("dist");
        tokio::fs::create_dir_all(&dist).await.context("cannot make dist/")?;
        for (from, to) in [("target/debug/bookshop", "bookshop"), ("data/catalogue.csv", "catalogue.csv")] {
            let target = dist.join(to);
            let _ = tokio::fs::remove_file(&target).await;
            tokio::fs::copy(self.root.join(from), target).await.with_context(|| format!("cannot copy {from}"))?;
        }
        Ok(())
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Workshop {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("mcp-workshop", env!("CARGO_PKG_VERSION")))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let root = std::env::current_dir()?.canonicalize()?;
    Workshop::new(root).serve(stdio_pipes()).await?.waiting().await?;
    Ok(())
}
