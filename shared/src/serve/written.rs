//! Structured content and receipts that are JSON text already, on their way from the call to the transport.
//!
//! An answer of a thousand rows as a tree of values costs more than the query that it answers: it is built, copied, written
//! as text content, written again and taken apart. So it is written once, and carried as a string where rmcp has a
//! value; so is the receipt, which the ledger has as text. No receipt is a string otherwise, so that nothing is mistaken for
//! what was carried. Text content that says the same is left out until then.
//!
//! A gateway has whole results as text, of which it changes nothing but their `_meta`: they are carried too.

use rmcp::model::{
    CallToolResponse, CallToolResult, ContentBlock, JsonRpcMessage, JsonRpcResponse, MetaObject, RequestId, ResultType,
    ServerJsonRpcMessage, ServerResult,
};
use serde_json::{Map, Value};

use crate::receipt::RECEIPT_META_KEY;

/// Has `result` carry `structured` and `receipt`, each the text of a JSON object. Without content of its own, it has
/// `structured` as text content.
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
        if result.content.is_empty() {
            result.content.push(ContentBlock::text(carried.structured));
        }
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
    let JsonRpcMessage::Response(response) = &mut message else { return serde_json::to_vec(&message) };
    if let Some(line) = whole(response)? {
        return Ok(line);
    }
    let ServerResult::CallToolResult(result) = &mut response.result else { return serde_json::to_vec(&message) };
    let Some(Carried { structured, receipt }) = carried(result) else { return serde_json::to_vec(&message) };
    let mut line = Vec::with_capacity(structured.len() * 5 / 2 + receipt.len() + 512);
    head(&mut line, &response.id, result.result_type.as_ref())?;
    line.extend_from_slice(b"\"content\":");
    if result.content.is_empty() {
        line.extend_from_slice(b"[{\"type\":\"text\",\"text\":\"");
        escape(&mut line, &structured)?;
        line.extend_from_slice(b"\"}]");
    } else {
        serde_json::to_writer(&mut line, &result.content)?;
    }
    let is_error = match result.is_error {
        Some(true) => ",\"isError\":true",
        Some(false) => ",\"isError\":false",
        None => "",
    };
    let meta = ["_meta\":{\"", RECEIPT_META_KEY].concat();
    for part in [is_error, ",\"structuredContent\":", &structured, ",\"", &meta, "\":", &receipt, "}}}"] {
        line.extend_from_slice(part.as_bytes());
    }
    Ok(line)
}

/// Appends the beginning of a response, up to where its result has members.
fn head(line: &mut Vec<u8>, id: &RequestId, kind: Option<&ResultType>) -> serde_json::Result<()> {
    line.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    serde_json::to_writer(&mut *line, id)?;
    line.extend_from_slice(b",\"result\":{");
    if let Some(kind) = kind {
        line.extend_from_slice(b"\"resultType\":");
        serde_json::to_writer(&mut *line, ResultType::as_str(kind))?;
        line.push(b',');
    }
    Ok(())
}

/// Which bytes have a backslash before them in a JSON string, of those that JSON has without white space.
const ESCAPED: [bool; 256] = {
    let mut escaped = [false; 256];
    escaped[b'"' as usize] = true;
    escaped[b'\\' as usize] = true;
    escaped
};

/// Appends `json`, which is the text of a JSON value, as what a JSON string has between its quotes. So many of its bytes are quotes that to
/// copy what is between them costs more than to write every byte.
fn escape(line: &mut Vec<u8>, json: &str) -> serde_json::Result<()> {
    let bytes = json.as_bytes();
    if bytes.iter().fold(u8::MAX, |least, byte| least.min(*byte)) < b' ' {
        // White space between the values, which nothing here writes.
        let whole = serde_json::to_string(json)?;
        line.extend_from_slice(&whole.as_bytes()[1..whole.len() - 1]);
        return Ok(());
    }
    let start = line.len();
    line.resize(start + 2 * bytes.len(), b'\\');
    let mut length = start;
    if let Some(room) = line.get_mut(start..) {
        let mut at = 0;
        for byte in bytes {
            at += usize::from(ESCAPED[usize::from(*byte)]);
            if let Some(place) = room.get_mut(at) {
                *place = *byte;
            }
            at += 1;
        }
        length += at;
    }
    line.truncate(length);
    Ok(())
}

/// Returns the line of a response whose result was made by [`of_members`].
fn whole(response: &JsonRpcResponse<ServerResult>) -> serde_json::Result<Option<Vec<u8>>> {
    let ServerResult::CallToolResult(result) = &response.result else { return Ok(None) };
    let mark = result.meta.as_ref().and_then(|meta| meta.0.get(RECEIPT_META_KEY));
    let (Some(Value::Bool(true)), Some(Value::String(members))) = (mark, &result.structured_content) else {
        return Ok(None);
    };
    let mut line = Vec::with_capacity(members.len() + 128);
    head(&mut line, &response.id, result.result_type.as_ref())?;
    line.extend_from_slice(members.as_bytes());
    line.extend_from_slice(b"}}");
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
    use proptest::prelude::*;
    use rmcp::model::NumberOrString;
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
    fn what_has_no_content_has_what_is_carried_as_text() {
        let text = r#"{"rows":[[1,"a\"b\\"]],"null":null}"#;
        let with = JsonRpcMessage::response(ServerResult::CallToolResult(result(text)), NumberOrString::Number(7));
        for failed in [None, Some(false), Some(true)] {
            let mut without = result(text);
            without.content.clear();
            without.is_error = failed;
            let carried =
                JsonRpcMessage::response(ServerResult::CallToolResult(without.clone()), NumberOrString::Number(7));
            let mut line: Value = serde_json::from_slice(&message(carried).unwrap()).unwrap();
            let mut expected: Value = serde_json::from_slice(&message(with.clone()).unwrap()).unwrap();
            assert_eq!(line["result"].as_object_mut().unwrap().remove("isError"), failed.map(Value::from));
            expected["result"].as_object_mut().unwrap().remove("isError");
            assert_eq!(line, expected);
            let CallToolResponse::Complete(read) = read(CallToolResponse::Complete(without)) else { panic!() };
            assert_eq!(read.content, vec![ContentBlock::text(text)]);
        }
    }

    proptest! {
        /// Of any text, as serde_json has it, wherever a block ends.
        #[test]
        fn escaping_is_json_s(text in prop_oneof!["[\"\\\\a-cé名\n\u{1}]{0,200}", "[\"\\\\a-cé名]{0,200}", any::<String>()]) {
            let mut line = b"before".to_vec();
            escape(&mut line, &text).unwrap();
            prop_assert_eq!(format!("\"{}\"", String::from_utf8_lossy(&line[6..])), serde_json::to_string(&text).unwrap());
        }
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
