//! What a server says beside its answers: progress, logging, requests of its own, changes of its lists.
//!
//! It is taken off the transport in the order in which it came, before the answer that follows it, and handed to the
//! call that it belongs to.
#![expect(deprecated, reason = "logging is passed through as long as servers have it")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::model::{
    ClientCapabilities, ClientConfig, ClientResult, EmptyResult, ErrorData, GetExtensions, GetMeta, Implementation,
    JsonRpcMessage, LoggingMessageNotification, ProgressNotificationParam, ProgressToken, ServerNotification,
    ServerRequest,
};
use rmcp::service::{
    NotificationContext, Peer, RequestContext, RoleClient, RoleServer, RxJsonRpcMessage, Service, TxJsonRpcMessage,
};
use rmcp::transport::Transport;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::answer::Answers;

/// Most that waits for one call to take it; a server that says more before anybody listens is not heard.
pub(crate) const PORT_CAPACITY: usize = 1_024;

/// Which side a fleet shows to its servers.
#[derive(Clone, Debug)]
pub(crate) struct Facing {
    /// Whether the client speaks a revision with sessions: then the servers are greeted with what it can do.
    pub(crate) legacy: bool,
    /// What the client can do, in a session.
    pub(crate) capabilities: ClientCapabilities,
    /// Who the client is.
    pub(crate) client: Implementation,
}

/// Something that all clients of a fleet may want to know.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A server's tools are others, or a server came or went.
    Tools,
    /// A server's prompts are others.
    Prompts,
    /// A server's resources are others.
    Resources,
    /// A resource that somebody subscribed to is another.
    Updated { server: String, uri: String },
    /// A server logs outside of any call; only a session, which has one client, hears it.
    Log(Box<LoggingMessageNotification>),
}

/// Tells everybody who listens what changed, after what was known of it is out of date.
pub(crate) struct Changes {
    sender: broadcast::Sender<Change>,
    generations: [AtomicU64; 3],
}

impl Changes {
    /// Makes a place to tell changes, with room for `capacity` that nobody has heard yet.
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { sender: broadcast::Sender::new(capacity), generations: Default::default() })
    }

    pub(crate) fn tell(&self, change: Change) {
        if let Some(list) = change.list() {
            self.generations[list as usize].fetch_add(1, Ordering::SeqCst);
        }
        // Nobody listens where there is no client.
        let _ = self.sender.send(change);
    }

    pub(crate) fn hear(&self) -> broadcast::Receiver<Change> {
        self.sender.subscribe()
    }

    /// Returns a number that is another one after each change of `list`.
    pub(crate) fn generation(&self, list: List) -> u64 {
        self.generations[list as usize].load(Ordering::SeqCst)
    }
}

/// What a server lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    Tools,
    Prompts,
    Resources,
}

impl Change {
    fn list(&self) -> Option<List> {
        match self {
            Self::Tools => Some(List::Tools),
            Self::Prompts => Some(List::Prompts),
            Self::Resources => Some(List::Resources),
            Self::Updated { .. } | Self::Log(_) => None,
        }
    }
}

/// Something that belongs to one call.
pub(crate) enum Said {
    Progress(Box<ProgressNotificationParam>),
    Log(Box<LoggingMessageNotification>),
    /// The server asks the client; the answer goes back.
    Asked(Box<ServerRequest>, oneshot::Sender<Result<ClientResult, ErrorData>>),
}

/// The calls under way on one connection.
pub(crate) struct Inbox {
    pub(super) server: String,
    legacy: bool,
    ports: Mutex<Vec<Port>>,
    changes: Arc<Changes>,
    /// The one client of a session.
    client: Option<Peer<RoleServer>>,
}

struct Port {
    token: ProgressToken,
    hears_logs: bool,
    sender: mpsc::Sender<Said>,
}

/// A call's place in the inbox; given up when dropped.
pub(crate) struct Listening {
    inbox: Arc<Inbox>,
    token: ProgressToken,
    pub(crate) said: mpsc::Receiver<Said>,
}

/// The client side of one connection.
pub(crate) struct Relay {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) facing: Facing,
    /// Who answers on the command line.
    pub(crate) answers: Option<Answers>,
}

/// Says of a request, among its extensions, that somebody hears how far it is.
#[derive(Clone)]
pub(crate) struct HearsProgress;

/// A transport whose notifications are heard in order.
pub(crate) struct Tapped<T> {
    pub(crate) transport: T,
    pub(crate) inbox: Arc<Inbox>,
}

impl Default for Facing {
    /// The orchestrator itself: nobody is there to be asked.
    fn default() -> Self {
        Self {
            legacy: false,
            capabilities: ClientCapabilities::default(),
            client: Implementation::new("tollgate-orchestrator", env!("CARGO_PKG_VERSION")),
        }
    }
}

impl Inbox {
    pub(crate) fn new(
        server: &str,
        legacy: bool,
        changes: Arc<Changes>,
        client: Option<Peer<RoleServer>>,
    ) -> Arc<Self> {
        Arc::new(Self { server: server.to_owned(), legacy, ports: Mutex::default(), changes, client })
    }

    /// Opens a place for what belongs to the call with this progress token.
    pub(crate) fn listen(self: &Arc<Self>, token: ProgressToken, hears_logs: bool) -> Listening {
        let (sender, said) = mpsc::channel(PORT_CAPACITY);
        self.ports().push(Port { token: token.clone(), hears_logs, sender });
        Listening { inbox: Arc::clone(self), token, said }
    }

    fn ports(&self) -> std::sync::MutexGuard<'_, Vec<Port>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what belongs to a call; what does not goes on to rmcp.
    fn take(&self, notification: ServerNotification) -> Option<ServerNotification> {
        match notification {
            ServerNotification::ProgressNotification(progress) => {
                let ports = self.ports();
                if let Some(port) = ports.iter().find(|port| port.token == progress.params.progress_token) {
                    let _ = port.sender.try_send(Said::Progress(Box::new(progress.params)));
                }
                None
            }
            ServerNotification::LoggingMessageNotification(log) => {
                let ports = self.ports();
                let mut hearing = ports.iter().filter(|port| port.hears_logs);
                match (hearing.next(), hearing.next()) {
                    (Some(port), None) => drop(port.sender.try_send(Said::Log(Box::new(log)))),
                    // Nothing says which of several calls it belongs to. In a session they are one client's.
                    _ if self.legacy => self.changes.tell(Change::Log(Box::new(log))),
                    _ => tracing::debug!(
                        server = self.server,
                        "a log message that belongs to no one call is not passed on"
                    ),
                }
                None
            }
            other => Some(other),
        }
    }

    pub(crate) fn changed(&self, notification: &ServerNotification) {
        let change = match notification {
            ServerNotification::ToolListChangedNotification(_) => Change::Tools,
            ServerNotification::PromptListChangedNotification(_) => Change::Prompts,
            ServerNotification::ResourceListChangedNotification(_) => Change::Resources,
            ServerNotification::ResourceUpdatedNotification(updated) => {
                Change::Updated { server: self.server.clone(), uri: updated.params.uri.clone() }
            }
            _ => return,
        };
        self.changes.tell(change);
    }

    async fn ask(&self, request: ServerRequest) -> Result<ClientResult, ErrorData> {
        let nobody = || ErrorData::invalid_request("nobody is there to be asked", None);
        // In a session all calls are one client's; the newest is the likeliest.
        let port = self.ports().last().map(|port| port.sender.clone());
        match (port, &self.client) {
            _ if !self.legacy => Err(nobody()),
            (Some(port), _) => {
                let (answer, answered) = oneshot::channel();
                port.send(Said::Asked(Box::new(request), answer)).await.map_err(|_| nobody())?;
                answered.await.unwrap_or_else(|_| Err(nobody()))
            }
            (None, Some(client)) => {
                client.send_request(request).await.map_err(|error| ErrorData::internal_error(error.to_string(), None))
            }
            (None, None) => Err(nobody()),
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.inbox.ports().retain(|port| port.token != self.token);
    }
}

impl Service<RoleClient> for Relay {
    async fn handle_request(
        &self,
        request: ServerRequest,
        _: RequestContext<RoleClient>,
    ) -> Result<ClientResult, ErrorData> {
        match (request, &self.answers) {
            (ServerRequest::PingRequest(_), _) => Ok(ClientResult::EmptyResult(EmptyResult {})),
            (ServerRequest::ElicitRequest(question), Some(answers)) => {
                Ok(ClientResult::ElicitResult(answers.answer(&self.inbox.server, question.params).await))
            }
            (request, _) => self.inbox.ask(request).await,
        }
    }

    async fn handle_notification(
        &self,
        notification: ServerNotification,
        _: NotificationContext<RoleClient>,
    ) -> Result<(), ErrorData> {
        self.inbox.changed(&notification);
        Ok(())
    }

    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(self.facing.capabilities.clone(), self.facing.client.clone())
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Tapped<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        mut message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        // rmcp asks for progress with every request; a server need not tell what nobody hears.
        if let JsonRpcMessage::Request(request) = &mut message
            && request.request.extensions().get::<HearsProgress>().is_none()
            && request.request.get_meta().get_progress_token().is_some()
        {
            request.request.get_meta_mut().0.0.remove("progressToken");
        }
        self.transport.send(message)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            match self.transport.receive().await? {
                JsonRpcMessage::Notification(mut message) => {
                    if let Some(notification) = self.inbox.take(message.notification) {
                        message.notification = notification;
                        return Some(JsonRpcMessage::Notification(message));
                    }
                }
                other => return Some(other),
            }
        }
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.transport.close()
    }
}
