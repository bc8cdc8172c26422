//! Reading one message of a server, results of tools first; those that are only passed on, no further than needed.
//!
//! rmcp tries an answer as each of twenty results in turn, on a tree of values made for that. Nearly all that comes is the result of a
//! tool. What is no plain one is left to rmcp, and so is what is wrong with one.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use rmcp::model::{
    CallToolResult, ContentBlock, JsonObject, JsonRpcMessage, JsonRpcVersion2_0, MetaObject, RequestId, ResultType,
    ServerJsonRpcMessage, ServerResult,
};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// By this key in its `_meta`, a result is the end of a subscription.
const SUBSCRIPTION_META_KEY: &str = "io.modelcontextprotocol/subscriptionId";

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What is read of an object alone: a list of the members' values would be read too, and is a message to nobody else.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<R> {
    #[expect(dead_code, reason = "it is only checked")]
    jsonrpc: JsonRpcVersion2_0,
    id: RequestId,
    result: R,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Answer {
    result_type: Option<ResultType>,
    content: Vec<ContentBlock>,
    #[serde(default, deserialize_with = "present")]
    structured_content: Option<Value>,
    is_error: Option<bool>,
    #[serde(rename = "_meta")]
    meta: Option<JsonObject>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Members<'a> {
    result_type: Option<ResultType>,
    #[serde(borrow)]
    content: &'a RawValue,
    #[serde(borrow, default, deserialize_with = "present_text")]
    structured_content: Option<&'a RawValue>,
    is_error: Option<bool>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'a RawValue>,
}

/// Deepest nesting of a message that is passed on; serde_json, which reads it here and at many hosts, takes 128.
const DEPTH_MAX: usize = 120;

/// Longest run of digits that is passed on: a number that is longer may be larger than a double can be.
const DIGITS_MAX: usize = 300;

/// The result of a tool as its server wrote it.
#[derive(Debug)]
pub(crate) struct TextAnswer {
    /// The whole message.
    text: String,
    content: Range<usize>,
    structured: Option<Range<usize>>,
    meta: Option<Range<usize>>,
    is_error: Option<bool>,
}

impl TextAnswer {
    /// Returns the answer in `line` and which request it is to, if that is one of those of which `is_text` says so.
    fn of(line: &[u8], is_text: impl FnOnce(&RequestId) -> bool) -> Option<(RequestId, Self)> {
        // A carriage return is white space to JSON, and the end of a line to some hosts.
        if line.contains(&b'\r') || !is_plain(line) {
            return None;
        }
        let text = std::str::from_utf8(line).ok()?;
        let Object(Envelope { id, result: Object(read), .. }): Object<Envelope<Object<Members<'_>>>> =
            serde_json::from_str(text).ok()?;
        if !is_text(&id)
            || read.result_type.is_some_and(|kind| !kind.is_complete())
            || !read.content.get().starts_with('[')
        {
            return None;
        }
        let place = |part: &RawValue| {
            let begin = part.get().as_ptr() as usize - text.as_ptr() as usize;
            begin..begin + part.get().len()
        };
        let answer = Self {
            content: place(read.content),
            structured: read.structured_content.map(place),
            meta: read.meta.map(place),
            is_error: read.is_error,
            text: text.to_owned(),
        };
        Some((id, answer))
    }

    /// Returns how long it is, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.text.len() as u64
    }

    /// Whether the tool failed.
    pub(crate) fn is_failure(&self) -> bool {
        self.is_error.unwrap_or(false)
    }

    /// Whether all of its content is of a kind that hosts know.
    pub(crate) fn is_known(&self) -> bool {
        serde_json::from_str::<Vec<ContentBlock>>(&self.text[self.content.clone()]).is_ok()
    }

    /// Returns its `_meta`.
    pub(crate) fn meta(&self) -> Option<&str> {
        self.meta.clone().map(|place| &self.text[place])
    }

    /// Returns its members but `resultType` as text, with `meta` for what is there.
    pub(crate) fn members(&self, meta: &str) -> String {
        let mut members = String::with_capacity(self.text.len() + meta.len() + 16);
        members.push_str("\"content\":");
        members.push_str(&self.text[self.content.clone()]);
        if let Some(structured) = self.structured.clone() {
            members.push_str(",\"structuredContent\":");
            members.push_str(&self.text[structured]);
        }
        if let Some(is_error) = self.is_error {
            members.push_str(if is_error { ",\"isError\":true" } else { ",\"isError\":false" });
        }
        members.push_str(",\"_meta\":");
        members.push_str(meta);
        members
    }

    /// Returns it read, which may fail: it was only seen to be JSON.
    pub(crate) fn read(&self) -> serde_json::Result<CallToolResult> {
        serde_json::from_str::<Envelope<CallToolResult>>(&self.text).map(|envelope| envelope.result)
    }
}

/// Whether everybody can read `json`, if it is JSON: it is not nested deeper than they may take, and has no half of a character and no
/// number that few can hold. What has one is read here, and refused where that fails, before a host fails to hear any answer.
fn is_plain(json: &[u8]) -> bool {
    let (mut depth, mut digits, mut in_string, mut escaped) = (0_usize, 0_usize, false, false);
    for (at, byte) in json.iter().enumerate() {
        if in_string {
            match byte {
                _ if escaped => {
                    if *byte == b'u' && json.get(at + 1).is_some_and(|next| next.eq_ignore_ascii_case(&b'd')) {
                        return false;
                    }
                    escaped = false;
                }
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            // An exponent; other words with this letter have none behind a digit.
            b'e' | b'E' if digits > 0 => return false,
            _ => {}
        }
        digits = if byte.is_ascii_digit() { digits + 1 } else { 0 };
        if depth > DEPTH_MAX || digits > DIGITS_MAX {
            return false;
        }
    }
    true
}

/// Null is something too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn present_text<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// A message, or an answer that is left as it is.
pub(super) enum Heard {
    Message(Box<ServerJsonRpcMessage>),
    /// The answer to this request.
    Text(RequestId, TextAnswer),
}

/// Reads the message in `line`; results of tools that answer a request of which `is_text` says so are left as they are.
///
/// # Errors
///
/// Why it is no message of MCP, as rmcp says.
pub(super) fn message(line: &[u8], is_text: impl FnOnce(&RequestId) -> bool) -> serde_json::Result<Heard> {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    if let Some((id, answer)) = TextAnswer::of(line, is_text) {
        return Ok(Heard::Text(id, answer));
    }
    let message = tool_result(line).map_or_else(|| serde_json::from_slice(line), Ok)?;
    Ok(Heard::Message(Box::new(message)))
}

fn tool_result(line: &[u8]) -> Option<ServerJsonRpcMessage> {
    let Object(Envelope { id, result: Object(read), .. }): Object<Envelope<Object<Answer>>> =
        serde_json::from_slice(line).ok()?;
    if read.result_type.as_ref().is_some_and(|kind| !kind.is_complete())
        || read.meta.as_ref().is_some_and(|meta| meta.contains_key(SUBSCRIPTION_META_KEY))
    {
        return None;
    }
    let mut result = CallToolResult::default();
    result.result_type = read.result_type;
    result.content = read.content;
    result.structured_content = read.structured_content;
    result.is_error = read.is_error;
    result.meta = read.meta.map(MetaObject);
    Some(JsonRpcMessage::response(ServerResult::CallToolResult(result), id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

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

    fn block() -> impl Strategy<Value = Value> {
        let image = json!({"type": "image", "data": "AA==", "mimeType": "image/png"});
        let link = json!({"type": "resource_link", "uri": "file:///a", "name": "a"});
        let embedded = json!({"type": "resource", "resource": {"uri": "file:///a", "text": "a"}});
        prop_oneof![
            4 => ".{0,12}".prop_map(|text| json!({"type": "text", "text": text})),
            1 => Just(json!({"type": "text", "text": "a", "annotations": {"priority": 0.5}, "_meta": {"a": 1}})),
            1 => Just(image),
            1 => Just(link),
            1 => Just(embedded),
            1 => Just(json!({"type": "tool_use", "id": "a", "name": "b", "input": {}})),
            1 => value(),
        ]
    }

    fn members() -> impl Strategy<Value = Vec<(String, Value)>> {
        let id = prop_oneof![any::<i64>().prop_map(Value::from), ".{0,6}".prop_map(Value::from), value()];
        let kind = prop_oneof![4 => Just(json!("complete")), 1 => Just(json!("input_required")), 1 => value()];
        let flag = prop_oneof![4 => any::<bool>().prop_map(Value::from), 1 => value()];
        let meta = prop_oneof![
            4 => prop::collection::vec((".{0,6}", value()), 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
            1 => value().prop_map(|of| json!({SUBSCRIPTION_META_KEY: of})),
            1 => Just(json!({SUBSCRIPTION_META_KEY: 7})),
            1 => value(),
        ];
        // Some members of every other result.
        let others = "(action|tools|resources|prompts|messages|contents|completion|taskId|status|inputRequests|requestState|\
                      supportedVersions|protocolVersion|capabilities|nextCursor|ttlMs|[a-z]{1,4})";
        let result = (
            prop::option::weighted(0.9, prop::collection::vec(block(), 0..3).prop_map(Value::from)),
            prop::option::of(value()),
            prop::option::of(kind),
            prop::option::of(flag),
            prop::option::of(meta),
            prop::option::weighted(0.1, (others, value())),
        )
            .prop_map(|(content, structured, kind, flag, meta, more)| {
                let known = [
                    ("content", content),
                    ("structuredContent", structured),
                    ("resultType", kind),
                    ("isError", flag),
                    ("_meta", meta),
                ];
                let known = known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
                Value::Object(known.chain(more).collect())
            });
        let result = prop_oneof![8 => result, 1 => value()];
        let more = prop::option::weighted(0.1, ("(method|params|error|[a-z]{1,4})", value()));
        (id, result, more, any::<bool>()).prop_map(|(id, result, more, versioned)| {
            let version = if versioned { json!("2.0") } else { json!("1.0") };
            let known = [("jsonrpc", version), ("id", id), ("result", result)];
            known.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(more).collect()
        })
    }

    proptest! {
        #[test]
        fn tool_result_is_what_rmcp_reads(members in members().prop_shuffle()) {
            let line = serde_json::to_vec(&Value::Object(members.into_iter().collect())).unwrap();
            if let Some(read) = tool_result(&line) {
                let theirs: ServerJsonRpcMessage = serde_json::from_slice(&line).expect("rmcp reads it too");
                prop_assert_eq!(format!("{read:?}"), format!("{theirs:?}"));
            }
        }
    }

    proptest! {
        #[test]
        fn text_that_is_passed_on_reads_as_what_was_sent(members in members().prop_shuffle()) {
            let line = serde_json::to_vec(&Value::Object(members.into_iter().collect())).unwrap();
            let Ok(Heard::Text(id, text)) = message(&line, |_| true) else { return Ok(()) };
            let passed = format!("{{{}}}", text.members(text.meta().unwrap_or("null")));
            let sent: Value = serde_json::from_slice(&line).unwrap();
            let mut expected = sent["result"].as_object().unwrap().clone();
            expected.remove("resultType");
            expected.entry("_meta").or_insert(Value::Null);
            // Here null is the same as nothing.
            expected.retain(|name, value| name != "isError" || !value.is_null());
            prop_assert_eq!(serde_json::from_str::<Value>(&passed).unwrap(), Value::Object(expected));
            prop_assert_eq!(id.into_json_value(), sent["id"].clone());
        }
    }

    #[test]
    fn only_what_a_host_can_take_is_passed_on_as_text() {
        let is_text = |result: &str| {
            let line = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
            matches!(message(line.as_bytes(), |_| true), Ok(Heard::Text(..)))
        };
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_text(r#"{"content":[]}"#) && is_text(r#"{ "content": [ ], "isError":true, "_meta":{"a":[]} }"#));
        assert!(is_text(&format!(r#"{{"content":[],"structuredContent":{}}}"#, nested(100))));
        // Brackets and digits in strings are none.
        assert!(is_text(&format!(r#"{{"content":[],"structuredContent":"{}e5"}}"#, "9".repeat(400))));
        assert!(is_text(
            r#"{"content":[{"type":"text","text":"\\ud800 \u00e9 é"}],"structuredContent":[1.5,true,false,null]}"#
        ));
        assert!(is_text(&format!(r#"{{"content":[{{"type":"text","text":"\"\\{}"}}]}}"#, "[".repeat(1_000))));
        for other in [
            &format!(r#"{{"content":[],"structuredContent":{}}}"#, nested(200)),
            "{\"content\":\r[]}",
            r#"{"content":{}}"#,
            r#"{"content":[],"resultType":"input_required"}"#,
            r#"{"content":[],"content":[]}"#,
            r#"{"content":[],"action":"accept"}"#,
            r#"{"structuredContent":{}}"#,
            r#"["complete",[],{},false,{}]"#,
            r#"{"content":[{"type":"text","text":"\ud800"}]}"#,
            r#"{"content":[{"type":"text","text":"\uD83D\uDE00"}]}"#,
            r#"{"content":[],"structuredContent":1e999}"#,
            &format!(r#"{{"content":[],"structuredContent":{}}}"#, "9".repeat(400)),
        ] {
            assert!(!is_text(other), "{other}");
        }
        let line = br#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
        assert!(!matches!(message(line, |_| false), Ok(Heard::Text(..))), "nobody asked for text");
    }

    #[test]
    fn plain_results_are_read_here_and_nothing_else_is() {
        let text = json!([{"type": "text", "text": "a"}]);
        let of = |result: Value| json!({"jsonrpc": "2.0", "id": 1, "result": result});
        let plain = [
            of(json!({"content": text})),
            of(json!({"content": [], "structuredContent": null, "isError": true, "resultType": "complete"})),
            of(json!({"_meta": {"a": {"b": 1.5}}, "structuredContent": [1], "content": text})),
        ];
        for message in plain {
            assert!(tool_result(message.to_string().as_bytes()).is_some(), "{message}");
        }
        let others = [
            of(json!({})),
            of(json!({"structuredContent": {}})),
            of(json!({"content": text, "action": "accept"})),
            of(json!({"content": text, "resultType": "input_required"})),
            of(json!({"content": text, "resultType": "complete", "_meta": {SUBSCRIPTION_META_KEY: 1}})),
            of(json!({"content": "a"})),
            of(json!({"content": [{"type": "unheard of"}]})),
            of(json!([null, []])),
            json!({"jsonrpc": "2.0", "id": null, "result": {"content": text}}),
            json!({"jsonrpc": "2.0", "id": 1, "result": {"content": text}, "error": {"code": 1, "message": "a"}}),
            json!({"jsonrpc": "2.0", "id": 1, "result": {"content": text}, "method": "ping"}),
            json!(["2.0", 1, {"content": text}]),
        ];
        for message in others {
            assert!(tool_result(message.to_string().as_bytes()).is_none(), "{message}");
        }
    }
}
