//! Reading one message, tool calls first.
//!
//! rmcp tries a message as each of twenty requests in turn, on a tree of values made for that. Nearly all that comes is a tool call,
//! which needs none of it. What is no plain tool call is left to rmcp, and so is what is wrong with one.

use std::borrow::Cow;

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientJsonRpcMessage, ClientRequest, JsonObject, JsonRpcMessage,
    JsonRpcRequest, JsonRpcVersion2_0, MetaObject, RequestId, RequestMetaObject,
};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[expect(dead_code, reason = "it is only checked")]
    jsonrpc: JsonRpcVersion2_0,
    id: RequestId,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(rename = "_meta")]
    meta: Option<JsonObject>,
    name: String,
    arguments: Option<JsonObject>,
}

/// Reads the message in `line`.
///
/// # Errors
///
/// Why it is no message of MCP, as rmcp says.
pub(super) fn message(line: &[u8]) -> serde_json::Result<ClientJsonRpcMessage> {
    tool_call(line).map_or_else(|| serde_json::from_slice(line), Ok)
}

fn tool_call(line: &[u8]) -> Option<ClientJsonRpcMessage> {
    // A list of the members' values would be read too, and is a message to nobody else.
    let is_object = |json: &[u8]| json.trim_ascii_start().first() == Some(&b'{');
    if !is_object(line) {
        return None;
    }
    let envelope: Envelope<'_> = serde_json::from_slice(line).ok()?;
    if envelope.method != "tools/call" || !is_object(envelope.params.get().as_bytes()) {
        return None;
    }
    let read: Params = serde_json::from_str(envelope.params.get()).ok()?;
    let mut params = CallToolRequestParams::new(read.name);
    params.arguments = read.arguments;
    let mut request = CallToolRequest::new(params);
    if let Some(meta) = read.meta {
        request.extensions.insert(RequestMetaObject(MetaObject(meta)));
    }
    Some(JsonRpcMessage::Request(JsonRpcRequest {
        jsonrpc: JsonRpcVersion2_0,
        id: envelope.id,
        request: ClientRequest::CallToolRequest(request),
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rmcp::model::GetMeta;
    use serde_json::{Value, json};

    use super::*;

    /// What is compared: the message, and what is kept beside it, which it does not show.
    fn seen(message: &ClientJsonRpcMessage) -> String {
        let meta = match message {
            JsonRpcMessage::Request(request) => format!("{:?}", request.request.get_meta()),
            _ => String::new(),
        };
        format!("{message:?} {meta}")
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((".{0,6}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn members() -> impl Strategy<Value = Vec<(String, Value)>> {
        let id = prop_oneof![any::<i64>().prop_map(Value::from), ".{0,6}".prop_map(Value::from), value()];
        let method = prop_oneof![4 => Just(json!("tools/call")), 1 => Just(json!("tools/list")), 1 => value()];
        let object = || {
            prop::collection::vec((".{0,6}", value()), 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect()))
        };
        let params = (
            prop::option::weighted(0.9, prop_oneof![3 => ".{0,8}".prop_map(Value::from), 1 => value()]),
            prop::option::of(prop_oneof![4 => object(), 1 => value()]),
            prop::option::of(prop_oneof![4 => object(), 1 => value()]),
            prop::option::weighted(0.1, ("(requestState|inputResponses|task|[a-z]{1,4})", value())),
        )
            .prop_map(|(name, arguments, meta, more)| {
                let known = [("name", name), ("arguments", arguments), ("_meta", meta)];
                let known = known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
                Value::Object(known.chain(more).collect())
            });
        let params = prop_oneof![8 => params, 1 => value()];
        let more = prop::option::weighted(0.1, ("(result|error|[a-z]{1,4})", value()));
        (id, method, params, more, any::<bool>()).prop_map(|(id, method, params, more, versioned)| {
            let version = if versioned { json!("2.0") } else { json!("1.0") };
            let known = [("jsonrpc", version), ("id", id), ("method", method), ("params", params)];
            known.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(more).collect()
        })
    }

    proptest! {
        #[test]
        fn tool_call_is_what_rmcp_reads(members in members().prop_shuffle()) {
            let line = serde_json::to_vec(&Value::Object(members.into_iter().collect())).unwrap();
            if let Some(read) = tool_call(&line) {
                let theirs: ClientJsonRpcMessage = serde_json::from_slice(&line).expect("rmcp reads it too");
                prop_assert_eq!(seen(&read), seen(&theirs));
            }
        }
    }

    #[test]
    fn plain_calls_are_read_here_and_nothing_else_is() {
        let plain = [
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a"}}),
            json!({"params": {"arguments": {"b": [1, 2.5]}, "name": "a", "_meta": {"progressToken": 7}},
                   "method": "tools/call", "id": "x", "jsonrpc": "2.0"}),
        ];
        for message in plain {
            assert!(tool_call(message.to_string().as_bytes()).is_some(), "{message}");
        }
        let others = [
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"name": "a"}}),
            json!({"jsonrpc": "1.0", "id": 1, "method": "tools/call", "params": {"name": "a"}}),
            json!({"jsonrpc": "2.0", "id": null, "method": "tools/call", "params": {"name": "a"}}),
            json!({"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "a"}}),
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a"}, "result": {}}),
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a", "requestState": "s"}}),
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": 5}}),
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a", "arguments": []}}),
            json!(["2.0", 1, "tools/call", {"name": "a", "arguments": {}}]),
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": [null, "a", {}]}),
            json!(["2.0", 1, "tools/call", [null, "a", {}]]),
        ];
        for message in others {
            assert!(tool_call(message.to_string().as_bytes()).is_none(), "{message}");
        }
        let twice = br#"{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/call","params":{"name":"a"}}"#;
        assert!(tool_call(twice).is_none());
    }
}
