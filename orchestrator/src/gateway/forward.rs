//! One request to one server, with everything that is said on the way in both directions.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rmcp::model::{
    ClientRequest, ErrorData, GetExtensions, ProgressNotification, ProtocolVersion, RequestMetaObject,
    ServerNotification, ServerResult,
};
use rmcp::service::{PeerRequestOptions, RequestContext, RequestHandle, RoleClient, RoleServer, ServiceError};

use crate::config::ServerSpec;
use crate::fleet::child::{Child, STOP_MAX};
use crate::fleet::heard::TextAnswer;
use crate::fleet::pipes::AsText;
use crate::fleet::relay::{HearsProgress, PORT_CAPACITY, Said};
use crate::oauth::Refusal;
use crate::telemetry;

/// What begins the keys that only this house may write.
const OWN_META_PREFIX: &str = "io.tollgate/";

/// What begins the keys by which a request of the newest revision says who sends it.
const PROTOCOL_META_PREFIX: &str = "io.modelcontextprotocol/";

/// What came of a request.
pub(crate) enum Ended {
    Answered(Box<ServerResult>),
    /// The same of a tool, as it was written.
    Text(Box<TextAnswer>),
    /// The server says that the request is wrong.
    Wrong(ErrorData),
    /// The server ended.
    Died(String),
    /// The server wants a login, or one that may do more.
    Refused(Refusal),
    /// The server took too long; it was told to stop.
    TimedOut,
    /// The client took the request back; the server was told to stop.
    Cancelled,
}

/// Sends `request` to the server, passes on what it says until it answers, and stops it when the client or the time says so.
pub(crate) async fn forward(
    spec: &ServerSpec,
    child: &Child,
    request: ClientRequest,
    mut meta: RequestMetaObject,
    context: &RequestContext<RoleServer>,
    limit: Duration,
) -> Ended {
    let Some(span) = telemetry::mcp::client(spec, request.method(), target(&request)) else {
        return exchange(child, request, meta, context, limit).await;
    };
    // Boxed: whoever measures nothing pays for no larger a future.
    span.within(Box::pin(async {
        telemetry::mcp::inject(&mut meta);
        let ended = exchange(child, request, meta, context, limit).await;
        ended.tell();
        ended
    }))
    .await
}

async fn exchange(
    child: &Child,
    mut request: ClientRequest,
    meta: RequestMetaObject,
    context: &RequestContext<RoleServer>,
    limit: Duration,
) -> Ended {
    if context.meta.get_progress_token().is_some() {
        request.extensions_mut().insert(HearsProgress);
    }
    let text = request.extensions().get::<AsText>().cloned();
    let hears_logs = !child.is_modern() || context.meta.log_level().is_some();
    let options = PeerRequestOptions::no_options().with_meta(meta);
    let mut handle = match child.peer.send_request_with_option(request, options).await {
        Ok(handle) => handle,
        Err(error) => return ended(child, error).await,
    };
    telemetry::mcp::sent(&child.peer, &handle.id);
    let mut listening = child.inbox.listen(handle.progress_token.clone(), hears_logs);
    let mut asked = FuturesUnordered::new();
    let mut late = std::pin::pin!(tokio::time::sleep(limit));
    let answer = loop {
        tokio::select! {
            biased;
            () = context.ct.cancelled() => {
                stop(handle, "the client took the request back").await;
                return Ended::Cancelled;
            }
            // Before what the server says, which may have no end.
            () = &mut late => {
                stop(handle, "it took too long").await;
                return Ended::TimedOut;
            }
            Some(said) = listening.said.recv() => {
                if let Said::Asked(request, answer) = said {
                    // In this task, so that the question goes out with the request that it belongs to.
                    asked.push(async move {
                        let answered = context.peer.send_request(*request).await.map_err(asking_failed);
                        let _ = answer.send(answered);
                    });
                } else {
                    pass_on(said, context).await;
                }
            }
            Some(()) = asked.next() => {}
            answer = &mut handle.rx => break answer,
        }
    };
    // Everything that came before the answer is in line already; what comes later is not heard.
    for _ in 0..PORT_CAPACITY {
        let Ok(said) = listening.said.try_recv() else { break };
        pass_on(said, context).await;
    }
    match answer {
        Ok(Ok(result)) => match text.and_then(AsText::taken) {
            Some(text) => Ended::Text(Box::new(text)),
            None => Ended::Answered(Box::new(result)),
        },
        Ok(Err(error)) => ended(child, error).await,
        Err(_) => ended(child, ServiceError::TransportClosed).await,
    }
}

/// Tells the server to stop; one that does not read is not waited for.
async fn stop(handle: RequestHandle<RoleClient>, why: &str) {
    let _ = tokio::time::timeout(STOP_MAX, handle.cancel(Some(why.to_owned()))).await;
}

/// Returns what a request is about, by the name that its server lists.
pub(super) fn target(request: &ClientRequest) -> Option<&str> {
    match request {
        ClientRequest::CallToolRequest(call) => Some(&call.params.name),
        ClientRequest::GetPromptRequest(prompt) => Some(&prompt.params.name),
        _ => None,
    }
}

impl Ended {
    /// Tells how the request ended.
    fn tell(&self) {
        match self {
            Self::Answered(result) => telemetry::mcp::heard(Ok(result)),
            // Whoever measures has every answer read.
            Self::Text(_) => {}
            Self::Wrong(error) => telemetry::mcp::heard(Err(error)),
            Self::Died(_) => telemetry::mcp::unheard("server_died"),
            Self::Refused(refusal) => telemetry::mcp::unheard(refusal.code()),
            Self::TimedOut => telemetry::mcp::unheard("timeout"),
            Self::Cancelled => telemetry::mcp::unheard("cancelled"),
        }
    }
}

/// Returns what a server is told beside its request: what the client said, less what only this house may say, and less
/// what a server in a session does not expect.
pub(crate) fn meta_for(child: &Child, context: &RequestContext<RoleServer>) -> RequestMetaObject {
    let mut meta = context.meta.clone();
    let speaks_the_same =
        child.is_modern() && meta.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
    meta.0.0.retain(|key, _| {
        key != "progressToken"
            && !key.starts_with(OWN_META_PREFIX)
            && (speaks_the_same || !key.starts_with(PROTOCOL_META_PREFIX))
    });
    meta
}

async fn pass_on(said: Said, context: &RequestContext<RoleServer>) {
    let sent = match said {
        Said::Progress(mut progress) => {
            let Some(token) = context.meta.get_progress_token() else { return };
            progress.progress_token = token;
            context.peer.send_notification(ServerNotification::from(ProgressNotification::new(*progress))).await
        }
        Said::Log(log) => context.peer.send_notification(ServerNotification::LoggingMessageNotification(*log)).await,
        Said::Asked(_, answer) => {
            let _ = answer.send(Err(ErrorData::invalid_request("the call has ended", None)));
            return;
        }
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "the client does not hear");
    }
}

fn asking_failed(error: ServiceError) -> ErrorData {
    match error {
        ServiceError::McpError(error) => error,
        error => ErrorData::internal_error(error.to_string(), None),
    }
}

async fn ended(child: &Child, error: ServiceError) -> Ended {
    match error {
        ServiceError::McpError(error) => Ended::Wrong(error),
        ServiceError::TransportSend(error) => match Refusal::of(&error) {
            Some(refusal) => Ended::Refused(refusal),
            None => Ended::Died(child.end_of_process().await),
        },
        ServiceError::TransportClosed | ServiceError::Cancelled { .. } => Ended::Died(child.end_of_process().await),
        error => Ended::Wrong(ErrorData::internal_error(error.to_string(), None)),
    }
}
