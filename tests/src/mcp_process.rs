//! A server under test, driven over its stdin and stdout as a host would.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::time::timeout;
use tollgate_shared::receipt::{RECEIPT_META_KEY, Receipt};

use crate::world::program;

/// Longest that a test waits for one answer before it fails.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// The newest revision of the protocol, in which every request stands alone.
pub const MODERN: &str = "2026-07-28";

/// One running server.
pub struct McpProcess {
    child: Child,
    stdin: Arc<AsyncMutex<Option<ChildStdin>>>,
    waiting: Arc<Mutex<HashMap<i64, oneshot::Sender<Value>>>>,
    unclaimed: Arc<Mutex<Vec<Value>>>,
    pollution: Arc<Mutex<Vec<String>>>,
    stderr: Arc<Mutex<String>>,
    next_id: AtomicI64,
}

/// What a `tools/call` was answered with.
#[derive(Clone, Debug)]
pub struct Called {
    /// Whether the answer is a refusal or a failure.
    pub is_error: bool,
    /// The structured content.
    pub structured: Value,
    /// The text content.
    pub text: String,
    /// The receipt.
    pub receipt: Receipt,
}

impl McpProcess {
    /// Starts `name` (`mcp-git`) in `folder` with `arguments` and extra environment variables.
    ///
    /// The state folder is `folder`'s own, unless the arguments or variables say otherwise.
    pub fn start(name: &str, folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program(name));
        command.args(arguments).current_dir(folder).envs(variables.iter().copied());
        Self::spawn(command)
    }

    /// Starts any command.
    pub fn spawn(mut command: Command) -> Self {
        for variable in ["TOLLGATE_CONFIG", "TOLLGATE_STATE_DIR", "TOLLGATE_AGENT", "TOLLGATE_ROLE", "TOLLGATE_TASK"] {
            if !command.as_std().get_envs().any(|(name, _)| name == variable) {
                command.env_remove(variable);
            }
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the server starts");
        let waiting: Arc<Mutex<HashMap<i64, oneshot::Sender<Value>>>> = Arc::default();
        let unclaimed: Arc<Mutex<Vec<Value>>> = Arc::default();
        let pollution: Arc<Mutex<Vec<String>>> = Arc::default();
        let stderr: Arc<Mutex<String>> = Arc::default();
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        tokio::spawn({
            let (waiting, unclaimed, pollution) =
                (Arc::clone(&waiting), Arc::clone(&unclaimed), Arc::clone(&pollution));
            async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    match serde_json::from_str::<Value>(&line) {
                        Ok(message) if message["jsonrpc"] == "2.0" => {
                            let waiter = message["id"]
                                .as_i64()
                                .filter(|_| message.get("method").is_none())
                                .and_then(|id| waiting.lock().unwrap().remove(&id));
                            match waiter {
                                Some(waiter) => drop(waiter.send(message)),
                                None => unclaimed.lock().unwrap().push(message),
                            }
                        }
                        _ => pollution.lock().unwrap().push(line),
                    }
                }
                // Whoever still waits learns that the server is gone.
                waiting.lock().unwrap().clear();
            }
        });
        let mut errors = child.stderr.take().expect("stderr is piped");
        tokio::spawn({
            let stderr = Arc::clone(&stderr);
            async move {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = errors.read(&mut buffer).await {
                    stderr.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
                }
            }
        });
        Self {
            stdin: Arc::new(AsyncMutex::new(child.stdin.take())),
            child,
            waiting,
            unclaimed,
            pollution,
            stderr,
            next_id: AtomicI64::new(1),
        }
    }

    /// Writes `bytes` to the server's stdin as they are.
    pub async fn write(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut stdin = self.stdin.lock().await;
        let stdin = stdin.as_mut().ok_or(std::io::ErrorKind::BrokenPipe)?;
        stdin.write_all(bytes).await?;
        stdin.flush().await
    }

    /// Sends a request of the newest revision and returns the whole answer; `None` when the server is gone.
    pub async fn try_request(&self, method: &str, params: Value) -> Option<Value> {
        let mut params = params;
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "tollgate-tests", "version": "1"},
        });
        let given = params.as_object_mut().expect("params are an object").entry("_meta").or_insert_with(|| json!({}));
        for (key, value) in meta.as_object().expect("an object") {
            given.as_object_mut().expect("_meta is an object").entry(key.clone()).or_insert(value.clone());
        }
        self.try_raw_request(method, params).await
    }

    /// Sends a request with `params` as they are, as a client of an older revision does.
    pub async fn try_raw_request(&self, method: &str, params: Value) -> Option<Value> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap().insert(id, sender);
        let line = format!("{}\n", json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        self.write(line.as_bytes()).await.ok()?;
        timeout(ANSWER_MAX, receiver).await.unwrap_or_else(|_| panic!("no answer to {method}: {}", self.stderr())).ok()
    }

    /// Sends a request of the newest revision and returns the whole answer.
    pub async fn request(&self, method: &str, params: Value) -> Value {
        self.try_request(method, params).await.unwrap_or_else(|| panic!("the server is gone: {}", self.stderr()))
    }

    /// Calls a tool and returns its answer, whatever it is; `None` when the server is gone.
    pub async fn try_call(&self, tool: &str, arguments: Value, meta: Map<String, Value>) -> Option<Called> {
        let answer =
            self.try_request("tools/call", json!({"name": tool, "arguments": arguments, "_meta": meta})).await?;
        let result = answer.get("result").unwrap_or_else(|| panic!("{tool} was answered with {answer}"));
        Some(Called {
            is_error: result["isError"] == true,
            structured: result["structuredContent"].clone(),
            text: result["content"][0]["text"].as_str().unwrap_or_default().to_owned(),
            receipt: serde_json::from_value(result["_meta"][RECEIPT_META_KEY].clone())
                .unwrap_or_else(|error| panic!("{tool} has no receipt ({error}): {answer}")),
        })
    }

    /// Calls a tool and returns its answer, whatever it is.
    pub async fn call(&self, tool: &str, arguments: Value) -> Called {
        self.try_call(tool, arguments, Map::new())
            .await
            .unwrap_or_else(|| panic!("the server is gone: {}", self.stderr()))
    }

    /// Calls a tool that must succeed and returns the structured answer.
    pub async fn ok(&self, tool: &str, arguments: Value) -> Value {
        let called = self.call(tool, arguments.clone()).await;
        assert!(!called.is_error, "{tool} {arguments} was refused: {}", called.structured);
        called.structured
    }

    /// Calls a tool that must be refused or fail and returns the error.
    pub async fn refused(&self, tool: &str, arguments: Value) -> Value {
        let called = self.call(tool, arguments.clone()).await;
        assert!(called.is_error, "{tool} {arguments} was allowed: {}", called.structured);
        called.structured["error"].clone()
    }

    /// Returns the tools as listed.
    pub async fn tools(&self) -> Vec<Value> {
        let answer = self.request("tools/list", json!({})).await;
        answer["result"]["tools"].as_array().unwrap_or_else(|| panic!("no tools in {answer}")).clone()
    }

    /// Waits for the server's own request of `method` and returns it.
    pub async fn asked(&self, method: &str) -> Value {
        let begun = std::time::Instant::now();
        while begun.elapsed() < ANSWER_MAX {
            {
                let mut unclaimed = self.unclaimed.lock().unwrap();
                if let Some(at) = unclaimed.iter().position(|message| message["method"] == method) {
                    return unclaimed.remove(at);
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the server did not ask with {method}: {}", self.stderr());
    }

    /// Answers the server's own request `request`.
    pub async fn answer(&self, request: &Value, result: Value) {
        let line = format!("{}\n", json!({"jsonrpc": "2.0", "id": request["id"], "result": result}));
        self.write(line.as_bytes()).await.expect("the server reads");
    }

    /// Greets the server as a client of 2025-11-25 with these capabilities does.
    pub async fn initialize(&self, capabilities: Value) -> Value {
        let params = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities,
            "clientInfo": {"name": "tollgate-tests", "version": "1"},
        });
        let answer = self.try_raw_request("initialize", params).await.expect("the server answers");
        self.write(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n").await.expect("it reads");
        answer
    }

    /// Closes stdin.
    pub async fn close_stdin(&self) {
        self.stdin.lock().await.take();
    }

    /// Closes stdin and returns the exit status.
    pub async fn close(&mut self) -> std::process::ExitStatus {
        self.stdin.lock().await.take();
        self.exit().await
    }

    /// Waits for the end of the process.
    pub async fn exit(&mut self) -> std::process::ExitStatus {
        timeout(ANSWER_MAX, self.child.wait()).await.expect("the server ends").expect("its status is known")
    }

    /// Kills the process as `kill -9` does and waits until it is gone.
    pub async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }

    /// Returns the process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Takes the messages that answer none of this driver's requests: notifications, and errors without an id.
    pub fn take_unclaimed(&self) -> Vec<Value> {
        std::mem::take(&mut self.unclaimed.lock().unwrap())
    }

    /// Returns every line of stdout that was not JSON-RPC.
    pub fn pollution(&self) -> Vec<String> {
        self.pollution.lock().unwrap().clone()
    }

    /// Returns what the server wrote to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }
}
