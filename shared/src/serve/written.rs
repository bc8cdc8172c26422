//! Structured content and receipts that are JSON text already, on their way from the call to the transport.
//!
//! An answer of a thousand rows as a tree of values costs more than the query that it answers: it is built, copied, written
//! as text content, written again and taken apart. So it is written once, and carried as a string where rmcp has a
//! value; so is the receipt, which the ledger has as text. No receipt is a string otherwise, so that nothing is mistaken for
//! what was carried.
//!
//! A gateway has whole results as text, of which it changes nothing but their `_meta`: they are carried too.

use std::io::Write;

use rmcp::model::{
    CallToolResponse, CallToolResult, JsonRpcMessage, JsonRpcResponse, MetaObject, ResultType, ServerJsonRpcMessage,
    ServerResult,
};
use serde_json::{Map, Value};

use crate::receipt::RECEIPT_META_KEY;

/// Has `result` carry `structured` and `receipt`, each the text of a JSON object.
pub(super) fn put(result: &mut CallToolResult, structured: String, receipt: String) {
    result.structured_content = Some(Value::String(structured));
    result.meta = Some(MetaObject(Map::from_iter([(RECEIPT_META_KEY.to_owned(), Value::String(receipt))])));
}

/// Returns a result that is written as `members`: the text of all members of a JSON object but `resultType`, without line breaks. Only for
/// a [`StdioTransport`](super::stdio::StdioTransport), which alone knows how to write it.
#[must_use]
pub fn of_members(members: String) -> CallToolResult {
    let mut result = CallToolResult::success(Vec::new());
    result.structured_content = Some(Value::String(members));
    // No receipt is a boolean.
    result.meta = Some(MetaObject(Map::from_iter([(RECEIPT_META_KEY.to_owned(), Value::Bool(true))])));
    result
}

/// Returns `response` with what it carries as a value, for whoever does not write it at once.
pub(super) fn read(response: CallToolResponse) -> CallToolResponse {
    let CallToolResponse::Complete(mut result) = response else { return response };
    if let Some(carried) = carried(&mut result) {
        result.structured_content = serde_json::from_str(&carried.structured).ok();
        let receipt = serde_json::from_str(&carried.receipt).unwrap_or_default();
        result.meta = Some(MetaObject(Map::from_iter([(RECEIPT_META_KEY.to_owned(), receipt)])));
    }
    CallToolResponse::Complete(result)
}

/// Returns `message` as one line of JSON, without its line feed.
///
/// # Errors
///
/// What cannot be written as JSON.
pub(super) fn message(mut message: ServerJsonRpcMessage) -> serde_json::Result<Vec<u8>> {
    let carried = match &mut message {
        JsonRpcMessage::Response(response) => {
            if let Some(line) = whole(response)? {
                return Ok(line);
            }
            match &mut response.result {
                ServerResult::CallToolResult(result) => carried(result),
                _ => None,
            }
        }
        _ => None,
    };
    let Some(Carried { structured, receipt }) = carried else { return serde_json::to_vec(&message) };
    // The text content is mostly the same, with its quotes escaped.
    let mut line = Vec::with_capacity(structured.len() * 5 / 2 + receipt.len() + 512);
    serde_json::to_writer(&mut line, &message)?;
    // The result is the last thing in its message, and never empty: its content is always there.
    debug_assert!(line.ends_with(b"}}"), "a result is the last thing in its message");
    line.truncate(line.len() - 2);
    for part in [",\"structuredContent\":", &structured, ",\"_meta\":{\"", RECEIPT_META_KEY, "\":", &receipt, "}}}"] {
        line.extend_from_slice(part.as_bytes());
    }
    Ok(line)
}

/// Returns the line of a response whose result was made by [`of_members`].
fn whole(response: &JsonRpcResponse<ServerResult>) -> serde_json::Result<Option<Vec<u8>>> {
    let ServerResult::CallToolResult(result) = &response.result else { return Ok(None) };
    let mark = result.meta.as_ref().and_then(|meta| meta.0.get(RECEIPT_META_KEY));
    let (Some(Value::Bool(true)), Some(Value::String(members))) = (mark, &result.structured_content) else {
        return Ok(None);
    };
    let mut line = Vec::with_capacity(members.len() + 128);
    line.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    serde_json::to_writer(&mut line, &response.id)?;
    let kind = match &result.result_type {
        Some(kind) => format!("\"resultType\":{},", serde_json::to_string(ResultType::as_str(kind))?),
        None => String::new(),
    };
    write!(line, ",\"result\":{{{kind}{members}}}}}").map_err(serde_json::Error::io)?;
    Ok(Some(line))
}

/// What [`put`] had a result carry.
struct Carried {
    structured: String,
    receipt: String,
}

fn carried(result: &mut CallToolResult) -> Option<Carried> {
    // A foreign server's answer, which a gateway passes on, may be a string; a receipt that is one is made by `put` alone.
    if !matches!(result.meta.as_ref()?.0.get(RECEIPT_META_KEY), Some(Value::String(_))) {
        return None;
    }
    let Some(Value::String(receipt)) = result.meta.take()?.0.remove(RECEIPT_META_KEY) else { return None };
    let Some(Value::String(structured)) = result.structured_content.take() else { return None };
    Some(Carried { structured, receipt })
}

#[cfg(test)]
mod tests {
    use rmcp::model::{ContentBlock, NumberOrString};
    use serde_json::json;

    use super::*;

    const RECEIPT: &str = r#"{"id":"x","amount":"0.10"}"#;

    fn result(structured: &str) -> CallToolResult {
        let mut result = CallToolResult::success(vec![ContentBlock::text(structured)]);
        put(&mut result, structured.to_owned(), RECEIPT.to_owned());
        result
    }

    fn receipt() -> Value {
        json!({ RECEIPT_META_KEY: serde_json::from_str::<Value>(RECEIPT).unwrap() })
    }

    #[test]
    fn what_is_carried_is_written_as_it_is() {
        let text = r#"{"rows":[[1,"a\"b"]],"big":12345678901234567890}"#;
        let response = JsonRpcMessage::response(ServerResult::CallToolResult(result(text)), NumberOrString::Number(7));
        let line = message(response).unwrap();
        let read: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(read["result"]["structuredContent"], serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(read["result"]["_meta"], receipt());
        assert_eq!(read["result"]["content"], json!([{ "type": "text", "text": text }]));
        assert_eq!((&read["id"], &read["result"]["isError"]), (&json!(7), &json!(false)));
    }

    #[test]
    fn members_are_written_as_they_are() {
        let members = r#""content":[{"type":"text","text":"a"}],"isError":false,"_meta":{"x":1.50}"#;
        let mut response = JsonRpcMessage::response(
            ServerResult::CallToolResult(of_members(members.to_owned())),
            NumberOrString::String("a\"b".into()),
        );
        let line = String::from_utf8(message(response.clone()).unwrap()).unwrap();
        let head = r#"{"jsonrpc":"2.0","id":"a\"b","result":{"#;
        assert_eq!(line, format!(r#"{head}"resultType":"complete",{members}}}}}"#));
        // As rmcp does for clients of older revisions.
        let JsonRpcMessage::Response(of) = &mut response else { panic!() };
        of.result.strip_result_type_for_legacy_peer();
        assert_eq!(message(response).unwrap(), format!("{head}{members}}}}}").into_bytes());
    }

    #[test]
    fn other_messages_are_left_alone() {
        let mut plain = CallToolResult::success(Vec::new());
        let meta = MetaObject(receipt().as_object().unwrap().clone());
        let hostile = json!("0}}\n{\"jsonrpc\":\"2.0\"}");
        for (structured, meta) in
            [(None, None), (Some(json!({ "a": 1 })), None), (Some(hostile.clone()), None), (Some(hostile), Some(meta))]
        {
            plain.structured_content = structured;
            plain.meta = meta;
            let response =
                JsonRpcMessage::response(ServerResult::CallToolResult(plain.clone()), NumberOrString::Number(1));
            assert_eq!(message(response.clone()).unwrap(), serde_json::to_vec(&response).unwrap());
        }
    }

    #[test]
    fn what_is_not_written_at_once_gets_its_value() {
        let CallToolResponse::Complete(read) = read(CallToolResponse::Complete(result(r#"{"a":1}"#))) else { panic!() };
        assert_eq!(read.structured_content, Some(json!({ "a": 1 })));
        assert_eq!(json!(read.meta), receipt());
    }
}
