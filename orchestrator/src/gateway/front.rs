//! One client's connection: what it asks for, answered by the servers.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, CancelTaskRequest, ClientRequest, CompleteRequest,
    CompleteRequestParams, CompleteResult, DiscoverResult, ErrorData, GetPromptRequest, GetPromptRequestParams,
    GetPromptResponse, GetTaskParams, GetTaskRequest, GetTaskResult, Implementation, InitializeRequestParams,
    InitializeResult, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, MetaObject,
    PaginatedRequestParams, ReadResourceRequest, ReadResourceRequestParams, ReadResourceResponse, Reference,
    ResourceContents, ResultType, ServerConfig, ServerNotification, ServerResult, SubscriptionFilter, Tool,
    UpdateTaskParams, UpdateTaskRequest,
};
use rmcp::service::{NotificationContext, Peer, RequestContext, RoleServer, SubscriptionContext};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OnceCell, OwnedSemaphorePermit};

use super::Gateway;
use super::backends::Backends;
use super::forward::{Ended, forward, meta_for, target};
use super::search;
use crate::fleet::relay::{Change, Facing};
use crate::telemetry;

/// How long a request other than a call may take.
const REQUEST_MAX: Duration = Duration::from_secs(60);

/// The `_meta` key of `tools/list` that says whose tools are missing, and why.
const UNAVAILABLE_META_KEY: &str = "io.tollgate/unavailable";

/// Between the server and its own name for a task.
const TASK_SEPARATOR: char = '/';

/// One client.
///
/// What it does is boxed: rmcp moves the future of every request several times, which is as large as that of the largest.
pub struct Front {
    gateway: Arc<Gateway>,
    session: OnceCell<Session>,
    /// Whether what carries the answers can write results that are text already.
    takes_text: bool,
}

struct Session {
    backends: Arc<Backends>,
    _place: OwnedSemaphorePermit,
}

impl Front {
    /// Waits for a client.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway, session: OnceCell::new(), takes_text: false }
    }

    /// Waits for a client over a [`StdioTransport`](tollgate_shared::serve::stdio::StdioTransport).
    #[must_use]
    pub fn over_lines(gateway: Arc<Gateway>) -> Self {
        Self { takes_text: true, ..Self::new(gateway) }
    }

    pub(super) fn takes_text(&self) -> bool {
        self.takes_text
    }

    pub(super) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    pub(super) async fn backends(&self) -> Arc<Backends> {
        match self.session.get() {
            Some(session) => Arc::clone(&session.backends),
            None => self.gateway.shared().await,
        }
    }

    /// Ends the servers of the client's session, if it has one.
    pub async fn close(&self) {
        if let Some(session) = self.session.get() {
            session.backends.fleet.close().await;
        }
    }

    async fn learn_capabilities(&self, backends: &Backends) -> ServerConfig {
        let capabilities = backends.capabilities().await;
        *self.gateway.capabilities.write().unwrap_or_else(PoisonError::into_inner) = capabilities;
        let mut info = self.get_info();
        let mut instructions = vec![
            "All servers of this workspace as one: a tool's name begins with its server's. Every call is priced and \
             recorded; a refusal says what to do instead."
                .to_owned(),
        ];
        for down in &backends.tools().await.unavailable {
            instructions.push(format!("The tools of {} are not there now: {}.", down.server, down.reason));
        }
        info.instructions = Some(instructions.join(" "));
        info
    }

    /// Sends a request about something that one server has, and returns what it answers.
    async fn ask(
        &self,
        backends: &Backends,
        member: usize,
        request: ClientRequest,
        context: &RequestContext<RoleServer>,
    ) -> Result<ServerResult, ErrorData> {
        let Some(span) = telemetry::mcp::server(context, request.method(), target(&request)) else {
            return Box::pin(self.ask_here(backends, member, request, context)).await;
        };
        let answer = span.within(Box::pin(self.ask_here(backends, member, request, context))).await;
        span.answered(&answer);
        answer
    }

    async fn ask_here(
        &self,
        backends: &Backends,
        member: usize,
        request: ClientRequest,
        context: &RequestContext<RoleServer>,
    ) -> Result<ServerResult, ErrorData> {
        let child = backends.child(member).await.map_err(|reason| ErrorData::internal_error(reason, None))?;
        let meta = meta_for(&child, context);
        match forward(&backends.fleet.members()[member].spec, &child, request, meta, context, REQUEST_MAX).await {
            Ended::Answered(result) => Ok(*result),
            Ended::Text(_) => Err(unexpected()),
            Ended::Wrong(error) => Err(error),
            Ended::Died(reason) => {
                backends.fleet.members()[member].died(&child).await;
                Err(ErrorData::internal_error(format!("the server ended: {reason}"), None))
            }
            Ended::Refused(refusal) => Err(ErrorData::internal_error(refusal.to_string(), None)),
            Ended::TimedOut => Err(ErrorData::internal_error("the server did not answer in time", None)),
            Ended::Cancelled => Err(ErrorData::internal_error("the request was taken back", None)),
        }
    }

    /// Tells a subscriber what changed, until it or the gateway ends.
    async fn tell_changes(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        let backends = self.backends().await;
        let mut changes = backends.fleet.changes().hear();
        let sink = subscription.sink().clone();
        // Updates of single resources are asked for at the servers that have them.
        let mut following = tokio::task::JoinSet::new();
        for uri in subscription.accepted().resource_subscriptions.clone().unwrap_or_default() {
            let Some((member, own_uri)) = backends.find_resource(&uri).await else { continue };
            let Ok(child) = backends.child(member).await else { continue };
            let (peer, sink) = (child.peer.clone(), sink.clone());
            let filter = SubscriptionFilter::builder().resource_subscriptions([own_uri]).build();
            following.spawn(async move {
                let Ok(mut updates) = peer.listen(filter).await else { return };
                while let Ok(Some(ServerNotification::ResourceUpdatedNotification(_))) = updates.next().await {
                    if sink.notify_resource_updated(uri.clone()).await.is_err() {
                        return;
                    }
                }
            });
        }
        loop {
            let change = tokio::select! {
                () = subscription.cancelled() => return Ok(()),
                // Whoever is told to end does not wait for a request that has no end.
                () = self.gateway.drain.begun() => return Ok(()),
                change = changes.recv() => change,
            };
            // Whoever was not told because the filter does not have it is not gone.
            let _ = match change {
                Ok(Change::Tools) => sink.notify_tool_list_changed().await,
                Ok(Change::Prompts) => sink.notify_prompt_list_changed().await,
                Ok(Change::Resources) => sink.notify_resource_list_changed().await,
                Ok(Change::Updated { .. } | Change::Log(_)) => Ok(()),
                Err(RecvError::Lagged(_)) => sink.notify_tool_list_changed().await,
                Err(RecvError::Closed) => return Ok(()),
            };
        }
    }

    async fn task_owner(&self, backends: &Backends, task_id: &str) -> Result<(usize, String), ErrorData> {
        let found = task_id.split_once(TASK_SEPARATOR).and_then(|(server, id)| {
            let member = backends.fleet.members().iter().position(|member| member.spec.name == server)?;
            Some((member, id.to_owned()))
        });
        found.ok_or_else(|| ErrorData::invalid_params("there is no such task", None))
    }
}

/// Returns the name by which the host knows a server's task.
pub(super) fn task_name(server: &str, task_id: &str) -> String {
    format!("{server}{TASK_SEPARATOR}{task_id}")
}

impl ServerHandler for Front {
    fn get_info(&self) -> ServerConfig {
        let capabilities = self.gateway.capabilities.read().unwrap_or_else(PoisonError::into_inner).clone();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("tollgate", env!("CARGO_PKG_VERSION")).with_title("Tollgate"))
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        let negotiated = self.negotiate_initialize(&request)?;
        context.peer.set_peer_info(request.clone());
        let place = Arc::clone(&self.gateway.sessions)
            .try_acquire_owned()
            .map_err(|_| ErrorData::internal_error("there are too many sessions; end one of them", None))?;
        let facing = Facing { legacy: true, capabilities: request.capabilities, client: request.client_info };
        let fleet = self.gateway.fleet.for_session(facing, context.peer.clone());
        let backends = Backends::new(fleet, Arc::clone(&self.gateway.policy));
        if self.session.set(Session { backends: Arc::clone(&backends), _place: place }).is_err() {
            return Err(ErrorData::invalid_request("the session has begun already", None));
        }
        let mut info = Box::pin(self.learn_capabilities(&backends)).await;
        info.protocol_version = negotiated.protocol_version;
        Ok(info)
    }

    async fn discover(&self, _: RequestContext<RoleServer>) -> Result<DiscoverResult, ErrorData> {
        let backends = self.backends().await;
        let info = Box::pin(self.learn_capabilities(&backends)).await;
        Ok(DiscoverResult::from_server_info(self.supported_protocol_versions().into_owned(), info))
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        if let Some(session) = self.session.get() {
            // Ends with the session's servers, whose changes it hears.
            let changes = session.backends.fleet.changes().hear();
            tokio::spawn(tell_session(changes, Arc::downgrade(&session.backends), context.peer));
        }
    }

    async fn on_roots_list_changed(&self, _: NotificationContext<RoleServer>) {
        if let Some(session) = self.session.get() {
            for (_, child) in session.backends.running().await {
                let _ = child.peer.notify_roots_list_changed().await;
            }
        }
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.backends().await.tools().await;
        let mut listed = if tools.tokens > self.gateway.policy.search_above_tokens {
            search::definitions(tools.listed.len())
        } else {
            tools.listed.clone()
        };
        let report = super::report_tool();
        if self.gateway.policy.permits(&report.name) {
            listed.push(report);
        }
        let mut result = ListToolsResult::with_all_items(listed);
        if !tools.unavailable.is_empty() {
            let meta = result.meta.get_or_insert_with(MetaObject::new);
            meta.0.insert(UNAVAILABLE_META_KEY.to_owned(), json!(tools.unavailable));
        }
        Ok(result)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let backends = match self.session.get() {
            Some(session) => &session.backends,
            None => self.gateway.shared.get()?,
        };
        backends.known_tool(name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(span) = telemetry::mcp::server(&context, telemetry::mcp::CALL, None) else {
            return Box::pin(self.call_here(request, &context)).await;
        };
        let answer = span.within(Box::pin(self.call_here(request, &context))).await;
        span.answered(&answer);
        answer
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(self.backends().await.prompts().await.listed.clone()))
    }

    async fn get_prompt(
        &self,
        mut request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let backends = self.backends().await;
        let (member, name) = backends
            .prompts()
            .await
            .routes
            .get(&request.name)
            .cloned()
            .ok_or_else(|| ErrorData::invalid_params("there is no such prompt", None))?;
        (request.name, request.meta) = (name, None);
        let request = ClientRequest::GetPromptRequest(GetPromptRequest::new(request));
        match self.ask(&backends, member, request, &context).await? {
            ServerResult::GetPromptResult(mut result) => {
                result.result_type.get_or_insert(ResultType::COMPLETE);
                Ok(GetPromptResponse::Complete(result))
            }
            ServerResult::InputRequiredResult(question) => Ok(GetPromptResponse::InputRequired(question)),
            _ => Err(unexpected()),
        }
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(self.backends().await.resources().await.listed.clone()))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(self.backends().await.resources().await.templates.clone()))
    }

    async fn read_resource(
        &self,
        mut request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let backends = self.backends().await;
        let shown = request.uri.clone();
        let (member, uri) = backends.find_resource(&shown).await.ok_or_else(|| no_resource(&shown))?;
        (request.uri, request.meta) = (uri.clone(), None);
        let request = ClientRequest::ReadResourceRequest(ReadResourceRequest::new(request));
        match self.ask(&backends, member, request, &context).await? {
            ServerResult::ReadResourceResult(mut result) => {
                result.result_type.get_or_insert(ResultType::COMPLETE);
                for contents in &mut result.contents {
                    if let ResourceContents::TextResourceContents { uri: of, .. }
                    | ResourceContents::BlobResourceContents { uri: of, .. } = contents
                        && *of == uri
                    {
                        of.clone_from(&shown);
                    }
                }
                Ok(ReadResourceResponse::Complete(result))
            }
            ServerResult::InputRequiredResult(question) => Ok(ReadResourceResponse::InputRequired(question)),
            _ => Err(unexpected()),
        }
    }

    async fn complete(
        &self,
        mut request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let backends = self.backends().await;
        let member = match &mut request.r#ref {
            Reference::Prompt(prompt) => {
                let found = backends.prompts().await.routes.get(&prompt.name).cloned();
                let (member, name) = found.ok_or_else(|| ErrorData::invalid_params("there is no such prompt", None))?;
                prompt.name = name;
                member
            }
            Reference::Resource(resource) => {
                let (member, uri) =
                    backends.find_resource(&resource.uri).await.ok_or_else(|| no_resource(&resource.uri))?;
                resource.uri = uri;
                member
            }
            _ => return Err(ErrorData::invalid_params("there is nothing of this kind to complete", None)),
        };
        request.meta = None;
        let request = ClientRequest::CompleteRequest(CompleteRequest::new(request));
        match self.ask(&backends, member, request, &context).await? {
            ServerResult::CompleteResult(mut result) => {
                result.result_type.get_or_insert(ResultType::COMPLETE);
                Ok(result)
            }
            _ => Err(unexpected()),
        }
    }

    #[expect(deprecated, reason = "passed through as long as servers have it")]
    async fn set_level(
        &self,
        request: rmcp::model::SetLevelRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let backends = self.backends().await;
        for (member, child) in backends.running().await {
            if child.capabilities().logging.is_some() {
                let mut request = request.clone();
                request.meta = None;
                let request = ClientRequest::SetLevelRequest(rmcp::model::SetLevelRequest::new(request));
                self.ask(&backends, member, request, &context).await?;
            }
        }
        Ok(())
    }

    #[expect(deprecated, reason = "for clients in a session")]
    async fn subscribe(
        &self,
        mut request: rmcp::model::SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let backends = self.backends().await;
        let (member, uri) = backends.find_resource(&request.uri).await.ok_or_else(|| no_resource(&request.uri))?;
        (request.uri, request.meta) = (uri, None);
        let request = ClientRequest::SubscribeRequest(rmcp::model::SubscribeRequest::new(request));
        self.ask(&backends, member, request, &context).await.map(drop)
    }

    #[expect(deprecated, reason = "for clients in a session")]
    async fn unsubscribe(
        &self,
        mut request: rmcp::model::UnsubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let backends = self.backends().await;
        let (member, uri) = backends.find_resource(&request.uri).await.ok_or_else(|| no_resource(&request.uri))?;
        (request.uri, request.meta) = (uri, None);
        let request = ClientRequest::UnsubscribeRequest(rmcp::model::UnsubscribeRequest::new(request));
        self.ask(&backends, member, request, &context).await.map(drop)
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        Box::pin(self.tell_changes(subscription)).await
    }

    async fn get_task(
        &self,
        mut request: GetTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        let backends = self.backends().await;
        let (member, id) = self.task_owner(&backends, &request.task_id).await?;
        let shown = std::mem::replace(&mut request.task_id, id);
        request.meta = None;
        match self.ask(&backends, member, ClientRequest::GetTaskRequest(GetTaskRequest::new(request)), &context).await?
        {
            ServerResult::GetTaskResult(mut result) => {
                result.task.task.task_id = shown;
                Ok(result)
            }
            _ => Err(unexpected()),
        }
    }

    async fn update_task(
        &self,
        mut request: UpdateTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let backends = self.backends().await;
        let (member, id) = self.task_owner(&backends, &request.task_id).await?;
        (request.task_id, request.meta) = (id, None);
        let request = ClientRequest::UpdateTaskRequest(UpdateTaskRequest::new(request));
        self.ask(&backends, member, request, &context).await.map(drop)
    }

    async fn cancel_task(
        &self,
        mut request: CancelTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let backends = self.backends().await;
        let (member, id) = self.task_owner(&backends, &request.task_id).await?;
        (request.task_id, request.meta) = (id, None);
        let request = ClientRequest::CancelTaskRequest(CancelTaskRequest::new(request));
        self.ask(&backends, member, request, &context).await.map(drop)
    }
}

/// Tells the client of a session what changed, until it is gone.
async fn tell_session(mut changes: Receiver<Change>, backends: std::sync::Weak<Backends>, peer: Peer<RoleServer>) {
    loop {
        let change = match changes.recv().await {
            Ok(change) => change,
            Err(RecvError::Lagged(_)) => Change::Tools,
            Err(RecvError::Closed) => return,
        };
        let told = match change {
            Change::Tools => peer.notify_tool_list_changed().await,
            Change::Prompts => peer.notify_prompt_list_changed().await,
            Change::Resources => peer.notify_resource_list_changed().await,
            Change::Updated { server, uri } => {
                let Some(backends) = backends.upgrade() else { return };
                let shown = backends.shown_uri(&server, &uri).await;
                peer.notify_resource_updated(rmcp::model::ResourceUpdatedNotificationParam::new(shown)).await
            }
            Change::Log(log) => peer.send_notification(ServerNotification::LoggingMessageNotification(*log)).await,
        };
        if told.is_err() {
            return;
        }
    }
}

fn no_resource(uri: &str) -> ErrorData {
    ErrorData::resource_not_found("there is no such resource", Some(json!({ "uri": uri })))
}

fn unexpected() -> ErrorData {
    ErrorData::internal_error("the server answered with something else", None)
}
