//! The task's tools as an MCP server, for an agent that calls them itself.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_client_protocol::v1::schema::{EnvVariable, HttpHeader, McpServer, McpServerHttp, McpServerStdio};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, Implementation, ListToolsResult, PaginatedRequestParams,
    ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fleet::failure;
use crate::gateway::http::Endpoint;
use crate::gateway::lines::{ADDRESS_VARIABLE, TOKEN_VARIABLE};
use crate::task::TaskCore;

/// The name under which agents know it.
const NAME: &str = "tollgate";

/// Most calls of one agent at a time: their arguments are in memory, and those with effects wait for each other.
const CALLS_MAX: usize = 64;

/// How long a call may take to end whose agent is gone.
const ENDING_MAX: Duration = Duration::from_secs(10);

/// Where the tools are served, and for whom.
pub(super) struct Served {
    address: SocketAddr,
    token: String,
    calls: Calls,
}

/// The places of calls, one for each that is under way, and whether the agent has its turn.
#[derive(Clone)]
pub(super) struct Calls {
    places: Arc<Semaphore>,
    may_begin: Arc<AtomicBool>,
}

impl Calls {
    fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(CALLS_MAX)), may_begin: Arc::default() }
    }

    /// Lets calls begin: the agent has its turn.
    pub(super) fn open(&self) {
        self.may_begin.store(true, Ordering::Release);
    }

    /// Whether the agent has its turn.
    pub(super) fn may_begin(&self) -> bool {
        self.may_begin.load(Ordering::Acquire)
    }

    /// Lets no more call begin, those neither that wait for others, and waits until none is under way, as long as a call may take to end.
    ///
    /// What an agent began and did not wait for is in the record before the record is gone on with.
    pub(super) async fn ended(&self) {
        self.may_begin.store(false, Ordering::Release);
        let all = u32::try_from(CALLS_MAX).unwrap_or(u32::MAX);
        if timeout(ENDING_MAX, self.places.acquire_many(all)).await.is_err() {
            tracing::warn!(limit_s = ENDING_MAX.as_secs(), "a call of the agent's did not end");
        }
    }
}

impl Served {
    /// Serves the task's tools on this machine until `ended`, for whoever knows the token.
    ///
    /// # Errors
    ///
    /// A sentence that says why they cannot be served.
    pub(super) async fn start(core: Arc<TaskCore>, ended: CancellationToken) -> Result<Self, String> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
        let token = hex::encode(bytes);
        let any = ([127, 0, 0, 1], 0).into();
        let endpoint = Endpoint::new(any, Some(&token), Vec::new(), Vec::new());
        let endpoint = endpoint.map_err(|error| format!("{error:#}"))?.with_lines();
        let (ready, is_ready) = oneshot::channel();
        let calls = Calls::new();
        let theirs = calls.clone();
        tokio::spawn(async move {
            let told = endpoint.serve_with(
                move || TaskServer { core: Arc::clone(&core), calls: theirs.clone() },
                ended,
                |address| {
                    let _ = ready.send(address);
                },
            );
            if let Err(error) = told.await {
                tracing::error!(error = %format!("{error:#}"), "the task's tools are not served");
            }
        });
        let address = is_ready.await.map_err(|_| "the task's tools cannot be served".to_owned())?;
        Ok(Self { address, token, calls })
    }

    /// Returns the places of its calls.
    pub(super) fn calls(&self) -> Calls {
        self.calls.clone()
    }

    /// Returns what an agent is told of it: the address, or the program that every agent can start, `orchestrator bridge`.
    ///
    /// # Errors
    ///
    /// A sentence that says why the program cannot be told.
    pub(super) fn entry(self, takes_http: bool) -> Result<McpServer, String> {
        let Self { address, token, .. } = self;
        if takes_http {
            let headers = vec![HttpHeader::new("Authorization", format!("Bearer {token}"))];
            return Ok(McpServer::Http(McpServerHttp::new(NAME, format!("http://{address}/mcp")).headers(headers)));
        }
        let program = std::env::current_exe().map_err(|error| format!("this program's own path: {error}"))?;
        let variables =
            vec![EnvVariable::new(ADDRESS_VARIABLE, address.to_string()), EnvVariable::new(TOKEN_VARIABLE, token)];
        let server = McpServerStdio::new(NAME, program).args(vec!["bridge".to_owned()]).env(variables);
        Ok(McpServer::Stdio(server))
    }
}

/// One client's view of the tools.
struct TaskServer {
    core: Arc<TaskCore>,
    calls: Calls,
}

impl TaskServer {
    async fn called(&self, name: &str, arguments: Value) -> CallToolResult {
        let Ok(_place) = self.calls.places.try_acquire() else {
            let message = format!("{CALLS_MAX} calls are under way");
            return CallToolResult::structured_error(failure("too_many_calls", &message, "wait for their answers"));
        };
        match self.core.call_of_agent(name, arguments, &|| self.calls.may_begin()).await {
            Ok(None) => {
                let hint = "call tools in a turn, and wait for their answers before it ends";
                CallToolResult::structured_error(failure("turn_over", "the turn is over; nothing was done", hint))
            }
            Ok(Some(answer)) if answer.structured.get("error").is_some() => {
                CallToolResult::structured_error(answer.structured)
            }
            Ok(Some(answer)) => CallToolResult::structured(answer.structured),
            Err(error) => {
                let hint = "nobody can say whether it was carried out; the task stops here";
                CallToolResult::structured_error(failure("internal_error", &error.to_string(), hint))
            }
        }
    }
}

impl ServerHandler for TaskServer {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new(NAME, env!("CARGO_PKG_VERSION")).with_title("Tollgate"))
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        // All that it can call at any time: what it cannot call now is answered so.
        let tools = self.core.all_tools.iter().map(|tool| {
            let schema = tool.input_schema.as_object().cloned().unwrap_or_default();
            Tool::new(Cow::Owned(tool.name.clone()), Cow::Owned(tool.description.clone()), Arc::new(schema))
        });
        Ok(ListToolsResult::with_all_items(tools.collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.map_or(Value::Null, Value::Object);
        Ok(self.called(&request.name, arguments).await.into())
    }
}
