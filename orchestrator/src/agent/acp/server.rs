//! The task's tools as an MCP server, for an agent that calls them itself.

use std::borrow::Cow;
use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, Implementation, ListToolsResult, PaginatedRequestParams,
    ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::Value;

use crate::fleet::failure;
use crate::task::TaskCore;

/// The name under which agents know it.
pub(super) const NAME: &str = "tollgate";

/// One client's view of the tools.
pub(super) struct TaskServer {
    core: Arc<TaskCore>,
}

impl TaskServer {
    pub(super) fn new(core: Arc<TaskCore>) -> Self {
        Self { core }
    }

    async fn called(&self, name: &str, arguments: Value) -> CallToolResult {
        match self.core.call_of_agent(name, arguments).await {
            Ok(answer) if answer.structured.get("error").is_some() => {
                CallToolResult::structured_error(answer.structured)
            }
            Ok(answer) => CallToolResult::structured(answer.structured),
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
