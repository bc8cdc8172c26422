//! The MCP side of a server: what rmcp asks for, answered from the toolbox.

use std::sync::{Arc, OnceLock};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams, CreateTaskResult, ErrorData,
    GetTaskParams, GetTaskResult, Implementation, JsonObject, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult,
    Resource, ResourceContents, ServerCapabilities, ServerConfig, Tool as Listed, UpdateTaskParams,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler};
use serde_json::{Map, Value};

use super::Server;
use super::charge::{Circumstances, House, charged};
use super::drain::Drain;
use super::progress::Progress;
use super::question::Asker;
use super::report;
use super::task::Tasks;
use super::tool::{Defined, Toolbox};
use super::written;

const REPORT_URI: &str = "cost://report";
const PRICES_URI: &str = "cost://prices";

/// A server with its tools, ready to be served.
pub struct ToolServer<S> {
    server: Arc<S>,
    house: Arc<House>,
    toolbox: Arc<Toolbox<S>>,
    tasks: Tasks,
    listed: OnceLock<Vec<Listed>>,
    version: &'static str,
}

impl<S: Server> ToolServer<S> {
    /// Puts `server` together with what prices and records its calls.
    #[must_use]
    pub fn new(server: S, house: House, version: &'static str) -> Self {
        Self {
            server: Arc::new(server),
            house: Arc::new(house),
            toolbox: Arc::new(S::tools().with(report::tool())),
            tasks: Tasks::default(),
            listed: OnceLock::new(),
            version,
        }
    }

    /// Returns what knows the calls in flight.
    #[must_use]
    pub fn drain(&self) -> Arc<Drain> {
        Arc::clone(self.house.drain())
    }

    fn become_task(
        &self,
        name: &'static str,
        arguments: JsonObject,
        meta: JsonObject,
        client: Option<String>,
        form: bool,
    ) -> CreateTaskResult {
        let (house, server, toolbox) = (Arc::clone(&self.house), Arc::clone(&self.server), Arc::clone(&self.toolbox));
        let drain = self.drain();
        self.tasks.spawn(move |task, cancelled| async move {
            let _running = drain.run();
            let asker = if form { Asker::Task(task) } else { Asker::Nobody };
            // The protocol tells of a task's progress in its state, never in notifications.
            let circumstances = Circumstances { meta, client, cancelled, asker, progress: Progress::unasked() };
            match toolbox.find(name) {
                Some(tool) => written::read(charged(house, server, tool, arguments, circumstances).await),
                None => CallToolResult::error(Vec::new()).into(),
            }
        })
    }

    /// Returns the tools as `tools/list` shows them; made once, when first asked for.
    pub fn listed(&self) -> &[Listed] {
        self.listed.get_or_init(|| self.toolbox.iter().map(|tool| tool.listed(&self.house.prices)).collect())
    }
}

/// Whether the request itself says that the client can do nothing: then it need not be decoded for each call.
fn has_no_capabilities(context: &RequestContext<RoleServer>) -> bool {
    let said = context.meta.0.get("io.modelcontextprotocol/clientCapabilities");
    said.and_then(Value::as_object).is_some_and(Map::is_empty)
}

fn client_name(context: &RequestContext<RoleServer>) -> Option<String> {
    let said = context.meta.0.get("io.modelcontextprotocol/clientInfo").and_then(|client| client.get("name")?.as_str());
    said.map(str::to_owned).or_else(|| context.client_info().map(|client| client.name))
}

impl<S: Server> ServerHandler for ToolServer<S> {
    fn get_info(&self) -> ServerConfig {
        let mut capabilities = ServerCapabilities::builder().enable_tools().enable_resources().build();
        if self.toolbox.iter().any(Defined::is_long) {
            capabilities.extensions = ServerCapabilities::builder().enable_tasks().build().extensions;
        }
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new(S::PROGRAM, self.version).with_title(S::TITLE))
            .with_instructions(S::INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.listed().to_vec()))
    }

    fn get_tool(&self, name: &str) -> Option<Listed> {
        self.listed().iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(tool) = self.toolbox.find(&request.name) else {
            let known: Vec<&str> = self.toolbox.iter().map(|tool| tool.name()).collect();
            let name: String = request.name.chars().take(128).collect();
            return Err(ErrorData::invalid_params(
                format!("unknown tool `{name}`; this server has {}", known.join(", ")),
                None,
            ));
        };
        let modern = context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
        let capabilities = if has_no_capabilities(&context) { None } else { context.client_capabilities() };
        // A client that names no form at all means forms.
        let form = capabilities
            .as_ref()
            .and_then(|capabilities| capabilities.elicitation.as_ref())
            .is_some_and(|modes| modes.form.is_some() || modes.url.is_none());
        let long = tool.is_long() && modern && capabilities.is_some_and(|capabilities| capabilities.supports_tasks());
        let arguments = request.arguments.unwrap_or_default();
        let client = client_name(&context);
        let meta = context.meta.0.0.clone();
        if long && self.tasks.admit() {
            return Ok(CallToolResponse::Task(self.become_task(tool.name(), arguments, meta, client, form)));
        }
        let asker = match (form, modern) {
            (false, _) => Asker::Nobody,
            (true, true) => Asker::Rounds { state: request.request_state, responses: request.input_responses },
            (true, false) => Asker::Peer(context.peer.clone()),
        };
        let _running = self.house.drain().run();
        let progress = match context.meta.get_progress_token() {
            Some(token) => Progress::new(context.peer.clone(), token),
            None => Progress::unasked(),
        };
        let circumstances = Circumstances { meta, client, cancelled: context.ct.clone(), asker, progress };
        Ok(charged(Arc::clone(&self.house), Arc::clone(&self.server), tool, arguments, circumstances).await)
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.tasks.get(&request.task_id).map(GetTaskResult::new)
    }

    async fn update_task(&self, request: UpdateTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.tasks.update(&request.task_id, request.input_responses)
    }

    async fn cancel_task(&self, request: CancelTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.tasks.cancel(&request.task_id)
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let resource = |uri: &str, name: &str, description: &str| {
            Resource::new(uri, name).with_description(description).with_mime_type("application/json")
        };
        Ok(ListResourcesResult::with_all_items(vec![
            resource(
                REPORT_URI,
                "Costs of this session",
                "What the calls since the server started cost, by tool and sku",
            ),
            resource(PRICES_URI, "Prices", "The price of everything that this server charges for"),
        ]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let content = match request.uri.as_str() {
            REPORT_URI => serde_json::to_string(&self.house.session()),
            PRICES_URI => {
                let prices: Map<String, Value> = self
                    .house
                    .prices
                    .of_server(S::NAME)
                    .map(|(sku, price)| (sku.to_owned(), Value::String(price.to_string())))
                    .collect();
                serde_json::to_string(&prices)
            }
            _ => {
                return Err(ErrorData::resource_not_found(
                    format!("there is no such resource; this server has {REPORT_URI} and {PRICES_URI}"),
                    None,
                ));
            }
        }
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        let contents = ResourceContents::text(content, request.uri).with_mime_type("application/json");
        Ok(ReadResourceResult::new(vec![contents]).into())
    }
}
