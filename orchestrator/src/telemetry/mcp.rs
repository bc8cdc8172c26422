//! Requests between hosts, this program and servers, and the trace that they are part of: W3C trace context in `_meta`.

use std::borrow::Cow;

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use rmcp::RoleClient;
use rmcp::model::{
    CallToolResponse, ErrorData, JsonObject, ProtocolVersion, RequestId, RequestMetaObject, ServerResult,
};
use rmcp::service::{Peer, RequestContext, RoleServer};
use serde_json::Value;

use super::span::{Beginning, Kind, Span, TOOL_ERROR, here};
use super::{cut, get};
use crate::config::ServerSpec;

/// The method that calls a tool.
pub(crate) const CALL: &str = "tools/call";

/// The longest trace context that is taken from a request: more than any that follows the standard.
const CONTEXT_BYTES_MAX: usize = 1024;

/// What hosts do wrong by themselves: parse error, invalid request, no such method, invalid parameters, no such resource.
const FAULTS_OF_HOSTS: [i32; 5] = [-32700, -32600, -32601, -32602, -32002];

/// Begins a request to the server `spec`; `target` is a tool or a prompt that the server lists.
pub(crate) fn client(spec: &ServerSpec, method: &str, target: Option<&str>) -> Option<Span> {
    let telemetry = get()?;
    let is_call = method == CALL;
    let mut beginning = Beginning::new(Kind::Client, name(method, target));
    beginning.is_own = spec.own;
    beginning.labels = vec![
        KeyValue::new("mcp.method.name", method.to_owned()),
        KeyValue::new("network.transport", if spec.url.is_some() { "tcp" } else { "pipe" }),
    ];
    beginning.labels.extend(is_call.then(|| KeyValue::new("gen_ai.operation.name", "execute_tool")));
    beginning.labels.extend(target.map(|target| target_of(method, target)));
    beginning.labels.extend(spec.url.as_deref().map(address).unwrap_or_default());
    beginning.goods = goods(spec, target.filter(|_| is_call));
    Some(Span::begin(telemetry, beginning))
}

/// Begins a request that a host makes, as part of the host's trace.
pub(crate) fn server(context: &RequestContext<RoleServer>, method: &str, target: Option<&str>) -> Option<Span> {
    let telemetry = get()?;
    let http = context.extensions.get::<http::request::Parts>();
    let mut beginning = Beginning::new(Kind::Server, name(method, target));
    beginning.labels = vec![
        KeyValue::new("mcp.method.name", method.to_owned()),
        KeyValue::new("network.transport", if http.is_some() { "tcp" } else { "pipe" }),
    ];
    beginning.labels.extend((method == CALL).then(|| KeyValue::new("gen_ai.operation.name", "execute_tool")));
    beginning.labels.extend(target.map(|target| target_of(method, target)));
    beginning.labels.extend(context.protocol_version().and_then(|version| known(&version)));
    beginning.attributes = vec![KeyValue::new("jsonrpc.request.id", cut(&context.id.to_string()))];
    let session = http.and_then(|parts| parts.headers.get("mcp-session-id")).and_then(|id| id.to_str().ok());
    beginning.attributes.extend(session.map(|id| KeyValue::new("mcp.session.id", cut(id))));
    beginning.parent = Some(parent(&context.meta.0.0));
    Some(Span::begin(telemetry, beginning))
}

/// Says which tool the request under way here is about: `shown` to the host, `tool` to the server, both listed.
pub(crate) fn resolved(spec: &ServerSpec, shown: &str, tool: &str) {
    here(|work, span| {
        span.update_name(name(CALL, Some(shown)));
        let label = target_of(CALL, shown);
        span.set_attribute(label.clone());
        work.label(label);
        span.set_attribute(KeyValue::new("tollgate.server", spec.name.clone()));
        work.sells(goods(spec, Some(tool)));
        work.strange(!spec.own);
    });
}

/// Says to a server what its work is part of.
pub(crate) fn inject(meta: &mut RequestMetaObject) {
    if get().is_some() {
        let mut carrier = Written(&mut meta.0.0);
        Context::map_current(|context| TraceContextPropagator::new().inject_context(context, &mut carrier));
    }
}

/// Says that the request under way here was sent.
pub(crate) fn sent(peer: &Peer<RoleClient>, id: &RequestId) {
    here(|work, span| {
        work.sent();
        span.set_attribute(KeyValue::new("jsonrpc.request.id", id.to_string()));
        if let Some(version) = peer.peer_info().and_then(|info| known(&info.protocol_version)) {
            span.set_attribute(version.clone());
            work.label(version);
        }
    });
}

/// Says that the request under way here was answered.
pub(crate) fn heard(answer: Result<&ServerResult, &ErrorData>) {
    here(|work, span| {
        work.heard();
        match answer {
            Ok(ServerResult::CallToolResult(result)) if result.is_error == Some(true) => work.fail(TOOL_ERROR),
            Ok(_) => {}
            Err(error) => {
                work.fail(&told(error));
                span.set_attribute(status(error));
            }
        }
    });
}

/// Says that the request under way here will not be answered, and why.
pub(crate) fn unheard(code: &str) {
    here(|work, _| {
        work.heard();
        work.fail(code);
    });
}

impl Span {
    /// Says what the host was answered.
    pub(crate) fn answered<R: Answer>(&self, answer: &Result<R, ErrorData>) {
        match answer {
            Ok(result) if result.is_failure() => self.fail(TOOL_ERROR),
            Ok(_) => {}
            Err(error) => {
                self.set(status(error));
                if !FAULTS_OF_HOSTS.contains(&error.code.0) {
                    self.fail(&told(error));
                }
            }
        }
    }
}

/// What a host can be answered with.
pub(crate) trait Answer {
    /// Whether it says that a tool failed.
    fn is_failure(&self) -> bool;
}

impl Answer for CallToolResponse {
    fn is_failure(&self) -> bool {
        matches!(self, Self::Complete(result) if result.is_error == Some(true))
    }
}

impl Answer for ServerResult {
    fn is_failure(&self) -> bool {
        false
    }
}

fn name(method: &str, target: Option<&str>) -> Cow<'static, str> {
    target.map_or_else(|| method.to_owned(), |target| format!("{method} {}", cut(target))).into()
}

fn target_of(method: &str, target: &str) -> KeyValue {
    KeyValue::new(if method == CALL { "gen_ai.tool.name" } else { "gen_ai.prompt.name" }, cut(target))
}

fn goods(spec: &ServerSpec, tool: Option<&str>) -> Vec<KeyValue> {
    let server = KeyValue::new("tollgate.server", spec.name.clone());
    std::iter::once(server).chain(tool.map(|tool| target_of(CALL, tool))).collect()
}

/// Returns the host and the port of `url`, and nothing else of it.
pub(super) fn address(url: &str) -> Vec<KeyValue> {
    let Ok(url) = reqwest::Url::parse(url) else { return Vec::new() };
    let host = url.host_str().map(|host| KeyValue::new("server.address", host.to_owned()));
    let port = url.port_or_known_default().map(|port| KeyValue::new("server.port", i64::from(port)));
    host.into_iter().chain(port).collect()
}

/// Returns a revision of the protocol, if there is such a one: a host may write what it likes.
fn known(version: &ProtocolVersion) -> Option<KeyValue> {
    let is_known = ProtocolVersion::KNOWN_VERSIONS.contains(version);
    is_known.then(|| KeyValue::new("mcp.protocol.version", version.to_string()))
}

fn status(error: &ErrorData) -> KeyValue {
    KeyValue::new("rpc.response.status_code", told(error))
}

/// Returns the code of an error, if it is one that the protocols have: each other number of a server's own would be one more series.
fn told(error: &ErrorData) -> String {
    let code = error.code.0;
    let is_known = matches!(code, -32700 | -32603..=-32600 | -32022..=-32020 | -32002);
    if is_known { code.to_string() } else { "jsonrpc_error".to_owned() }
}

fn parent(meta: &JsonObject) -> Context {
    // Nothing is under way here that a host's request could be part of.
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Read(meta))
}

struct Read<'a>(&'a JsonObject);

impl Extractor for Read<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str).filter(|value| value.len() <= CONTEXT_BYTES_MAX)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

struct Written<'a>(&'a mut JsonObject);

impl Injector for Written<'_> {
    fn set(&mut self, key: &str, value: String) {
        if value.is_empty() {
            self.0.remove(key);
        } else {
            self.0.insert(key.to_owned(), value.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TraceContextExt;
    use serde_json::json;

    use super::*;

    fn trace_id(meta: Value) -> Option<String> {
        let Value::Object(meta) = meta else { unreachable!() };
        let context = parent(&meta);
        let span = context.span().span_context().clone();
        span.is_valid().then(|| span.trace_id().to_string())
    }

    #[test]
    fn only_a_trace_context_is_taken_for_one() {
        let right = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(trace_id(json!({"traceparent": right})).as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
        let long = format!("{right}-{}", "x".repeat(10_000));
        for wrong in
            [json!({}), json!({"traceparent": 7}), json!({"traceparent": "00-zz-zz-01"}), json!({"traceparent": long})]
        {
            assert_eq!(trace_id(wrong.clone()), None, "{wrong}");
        }
        let state = json!({"traceparent": right, "tracestate": "no state at all"});
        assert!(trace_id(state).is_some());
    }

    #[test]
    fn of_an_address_only_host_and_port_are_told() {
        let told = format!("{:?}", address("https://me:hunter2@models.example.com/v1/?key=hunter2#hunter2"));
        assert!(told.contains("models.example.com") && told.contains("443") && !told.contains("hunter2"), "{told}");
        assert_eq!(address("no address"), []);
    }
}
