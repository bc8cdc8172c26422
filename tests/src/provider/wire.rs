//! The three wire formats.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Counted;

/// In which format a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Anthropic's Messages.
    Anthropic,
    /// OpenAI's Chat Completions.
    Chat,
    /// OpenAI's Responses.
    Responses,
}

impl Format {
    pub(super) fn of(path: &str) -> Option<Self> {
        match path.split('?').next()? {
            "/v1/messages" => Some(Self::Anthropic),
            "/v1/chat/completions" => Some(Self::Chat),
            "/v1/responses" => Some(Self::Responses),
            _ => None,
        }
    }

    /// Returns what the real provider would refuse: a call without its answer, or an answer without its call.
    pub(super) fn complaint(self, body: &Value) -> Option<String> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut asked = BTreeSet::new();
        let mut open = BTreeSet::new();
        let mut wrong = Vec::new();
        let mut call = |id: String, open: &mut BTreeSet<String>| {
            if !asked.insert(id.clone()) {
                wrong.push(format!("two calls are called {id}"));
            }
            open.insert(id);
        };
        let mut unanswered = Vec::new();
        match self {
            Self::Anthropic => {
                for message in list(&body["messages"]) {
                    let parts = list(&message["content"]);
                    for part in parts.iter().filter(|part| part["type"] == "tool_result") {
                        if !open.remove(&text(&part["tool_use_id"])) {
                            unanswered.push(format!("{} answers no call", part["tool_use_id"]));
                        }
                    }
                    unanswered.extend(open.iter().map(|id| format!("{id} has no answer")));
                    open.clear();
                    for part in parts.iter().filter(|part| part["type"] == "tool_use") {
                        if !part["input"].is_object() {
                            unanswered.push(format!("the input of {} is no object", part["id"]));
                        }
                        call(text(&part["id"]), &mut open);
                    }
                    if message["content"].as_str().is_some_and(str::is_empty) || message["content"] == json!([]) {
                        unanswered.push("a message is empty".to_owned());
                    }
                }
                if body["max_tokens"].as_u64().unwrap_or(0) == 0 {
                    unanswered.push("no max_tokens".to_owned());
                }
            }
            Self::Chat => {
                for message in list(&body["messages"]) {
                    if message["role"] == "tool" {
                        if !open.remove(&text(&message["tool_call_id"])) {
                            unanswered.push(format!("{} answers no call", message["tool_call_id"]));
                        }
                        continue;
                    }
                    unanswered.extend(open.iter().map(|id| format!("{id} has no answer")));
                    open.clear();
                    for part in list(&message["tool_calls"]) {
                        call(text(&part["id"]), &mut open);
                    }
                }
            }
            Self::Responses => {
                for item in list(&body["input"]) {
                    match item["type"].as_str() {
                        Some("function_call") => call(text(&item["call_id"]), &mut open),
                        Some("function_call_output") if !open.remove(&text(&item["call_id"])) => {
                            unanswered.push(format!("{} answers no call", item["call_id"]));
                        }
                        _ => {}
                    }
                }
            }
        }
        wrong.extend(unanswered);
        wrong.extend(open.iter().map(|id| format!("{id} has no answer")));
        (!wrong.is_empty()).then(|| format!("{wrong:?}"))
    }

    pub(super) fn error(self, status: u16, message: &str) -> Value {
        match self {
            Self::Anthropic => {
                let kind = match status {
                    429 => "rate_limit_error",
                    529 => "overloaded_error",
                    400 => "invalid_request_error",
                    _ => "api_error",
                };
                json!({ "type": "error", "error": { "type": kind, "message": message } })
            }
            Self::Chat | Self::Responses => {
                json!({ "error": { "message": message, "type": "server_error", "code": null } })
            }
        }
    }

    /// Returns an answer over a stream that says it is overloaded.
    pub(super) fn overloaded(self) -> String {
        match self {
            Self::Anthropic => event("error", &self.error(529, "Overloaded")),
            Self::Chat => format!(
                "data: {}\n\n",
                json!({ "error": { "message": "overloaded", "type": "server_error", "code": 503 } })
            ),
            Self::Responses => {
                event("error", &json!({ "type": "error", "code": "server_error", "message": "overloaded" }))
            }
        }
    }

    /// Returns an answer: words, then calls with their arguments as text.
    pub(super) fn answer(
        self,
        streams: bool,
        number: u64,
        text: &str,
        calls: &[(&str, String)],
        usage: &Counted,
    ) -> String {
        match (self, streams) {
            (Self::Anthropic, false) => anthropic(number, text, calls, usage).to_string(),
            (Self::Anthropic, true) => anthropic_stream(number, text, calls, usage),
            (Self::Chat, false) => chat(number, text, calls, usage).to_string(),
            (Self::Chat, true) => chat_stream(number, text, calls, usage),
            (Self::Responses, false) => responses(number, text, calls, usage).to_string(),
            (Self::Responses, true) => responses_stream(number, text, calls, usage),
        }
    }
}

fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

fn id(number: u64, index: usize) -> String {
    format!("call_{number}_{index}")
}

/// Splits a text where a network would: in the middle.
fn halves(text: &str) -> [&str; 2] {
    let middle = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    [&text[..middle], &text[middle..]]
}

fn anthropic_usage(usage: &Counted) -> Value {
    json!({ "input_tokens": usage.input, "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read, "output_tokens": usage.output })
}

fn anthropic(number: u64, text: &str, calls: &[(&str, String)], usage: &Counted) -> Value {
    let mut content = Vec::new();
    if !text.is_empty() {
        content.push(json!({ "type": "text", "text": text }));
    }
    for (index, (name, arguments)) in calls.iter().enumerate() {
        // Over this format there is no other way to send arguments that are no JSON.
        let input: Value = serde_json::from_str(arguments).unwrap_or_else(|_| json!(arguments));
        content.push(json!({ "type": "tool_use", "id": id(number, index), "name": name, "input": input }));
    }
    let stop = if calls.is_empty() { "end_turn" } else { "tool_use" };
    json!({ "id": format!("msg_{number}"), "type": "message", "role": "assistant", "model": "fake", "content": content,
        "stop_reason": stop, "stop_sequence": null, "usage": anthropic_usage(usage) })
}

fn anthropic_stream(number: u64, text: &str, calls: &[(&str, String)], usage: &Counted) -> String {
    let mut begun = anthropic_usage(usage);
    begun["output_tokens"] = json!(1);
    let mut out = event(
        "message_start",
        &json!({ "type": "message_start", "message": { "id": format!("msg_{number}"), "type": "message", "role": "assistant",
            "model": "fake", "content": [], "stop_reason": null, "usage": begun } }),
    );
    out.push_str(&event("ping", &json!({ "type": "ping" })));
    let mut block = |index: usize, start: Value, deltas: Vec<Value>| {
        out.push_str(&event(
            "content_block_start",
            &json!({ "type": "content_block_start", "index": index, "content_block": start }),
        ));
        for delta in deltas {
            out.push_str(&event(
                "content_block_delta",
                &json!({ "type": "content_block_delta", "index": index, "delta": delta }),
            ));
        }
        out.push_str(&event("content_block_stop", &json!({ "type": "content_block_stop", "index": index })));
    };
    let mut index = 0;
    if !text.is_empty() {
        let deltas = halves(text).map(|part| json!({ "type": "text_delta", "text": part }));
        block(index, json!({ "type": "text", "text": "" }), deltas.to_vec());
        index += 1;
    }
    for (position, (name, arguments)) in calls.iter().enumerate() {
        let deltas = halves(arguments).map(|part| json!({ "type": "input_json_delta", "partial_json": part }));
        let start = json!({ "type": "tool_use", "id": id(number, position), "name": name, "input": {} });
        block(index, start, deltas.to_vec());
        index += 1;
    }
    let stop = if calls.is_empty() { "end_turn" } else { "tool_use" };
    out.push_str(&event(
        "message_delta",
        &json!({ "type": "message_delta", "delta": { "stop_reason": stop, "stop_sequence": null }, "usage": { "output_tokens": usage.output } }),
    ));
    out.push_str(&event("message_stop", &json!({ "type": "message_stop" })));
    out
}

fn chat_usage(usage: &Counted) -> Value {
    json!({ "prompt_tokens": usage.input + usage.cache_read, "completion_tokens": usage.output + usage.reasoning,
        "total_tokens": usage.input + usage.cache_read + usage.output + usage.reasoning,
        "prompt_tokens_details": { "cached_tokens": usage.cache_read },
        "completion_tokens_details": { "reasoning_tokens": usage.reasoning } })
}

fn chat_calls(number: u64, calls: &[(&str, String)]) -> Vec<Value> {
    let call = |(index, (name, arguments)): (usize, &(&str, String))| json!({ "index": index, "id": id(number, index), "type": "function", "function": { "name": name, "arguments": arguments } });
    calls.iter().enumerate().map(call).collect()
}

fn chat(number: u64, text: &str, calls: &[(&str, String)], usage: &Counted) -> Value {
    let mut message = json!({ "role": "assistant", "content": text });
    if !calls.is_empty() {
        message["tool_calls"] = json!(chat_calls(number, calls));
    }
    let finish = if calls.is_empty() { "stop" } else { "tool_calls" };
    json!({ "id": format!("chatcmpl-{number}"), "object": "chat.completion", "created": 1, "model": "fake",
        "choices": [{ "index": 0, "message": message, "finish_reason": finish }], "usage": chat_usage(usage) })
}

fn chat_stream(number: u64, text: &str, calls: &[(&str, String)], usage: &Counted) -> String {
    let chunk = |choices: Value, usage: Value| {
        let data = json!({ "id": format!("chatcmpl-{number}"), "object": "chat.completion.chunk", "created": 1, "model": "fake",
            "choices": choices, "usage": usage });
        format!("data: {data}\n\n")
    };
    let delta = |delta: Value| chunk(json!([{ "index": 0, "delta": delta, "finish_reason": null }]), Value::Null);
    let mut out = delta(json!({ "role": "assistant", "content": "" }));
    for part in halves(text) {
        out.push_str(&delta(json!({ "content": part })));
    }
    for (index, (name, arguments)) in calls.iter().enumerate() {
        let start = json!({ "index": index, "id": id(number, index), "type": "function", "function": { "name": name, "arguments": "" } });
        out.push_str(&delta(json!({ "tool_calls": [start] })));
        for part in halves(arguments) {
            out.push_str(&delta(json!({ "tool_calls": [{ "index": index, "function": { "arguments": part } }] })));
        }
    }
    let finish = if calls.is_empty() { "stop" } else { "tool_calls" };
    out.push_str(&chunk(json!([{ "index": 0, "delta": {}, "finish_reason": finish }]), Value::Null));
    // What it cost comes when everything else has been said.
    out.push_str(&chunk(json!([]), chat_usage(usage)));
    out.push_str("data: [DONE]\n\n");
    out
}

fn responses(number: u64, text: &str, calls: &[(&str, String)], usage: &Counted) -> Value {
    let mut output = Vec::new();
    if !text.is_empty() {
        output
            .push(json!({ "type": "message", "id": format!("m_{number}"), "status": "completed", "role": "assistant",
            "content": [{ "type": "output_text", "text": text, "annotations": [] }] }));
    }
    for (index, (name, arguments)) in calls.iter().enumerate() {
        let mut call = json!({ "type": "function_call", "id": format!("fc_{number}_{index}"), "call_id": id(number, index),
            "status": "completed", "name": name, "arguments": arguments });
        // Tools of one server may be in a namespace.
        if let Some((namespace, name)) = name.split_once('/') {
            call["namespace"] = json!(namespace);
            call["name"] = json!(name);
        }
        output.push(call);
    }
    json!({ "id": format!("resp_{number}"), "object": "response", "created_at": 1, "status": "completed", "model": "fake",
        "output": output, "usage": { "input_tokens": usage.input + usage.cache_read,
            "input_tokens_details": { "cached_tokens": usage.cache_read },
            "output_tokens": usage.output + usage.reasoning,
            "output_tokens_details": { "reasoning_tokens": usage.reasoning },
            "total_tokens": usage.input + usage.cache_read + usage.output + usage.reasoning } })
}

fn responses_stream(number: u64, text: &str, calls: &[(&str, String)], usage: &Counted) -> String {
    let whole = responses(number, text, calls, usage);
    let mut begun = whole.clone();
    begun["status"] = json!("in_progress");
    begun["output"] = json!([]);
    begun["usage"] = Value::Null;
    let mut out = event("response.created", &json!({ "type": "response.created", "response": begun }));
    for (index, item) in whole["output"].as_array().into_iter().flatten().enumerate() {
        let mut open = item.clone();
        open["status"] = json!("in_progress");
        let (kind, text) = if item["type"] == "message" {
            open["content"] = json!([]);
            ("response.output_text.delta", item["content"][0]["text"].as_str())
        } else {
            open["arguments"] = json!("");
            ("response.function_call_arguments.delta", item["arguments"].as_str())
        };
        out.push_str(&event(
            "response.output_item.added",
            &json!({ "type": "response.output_item.added", "output_index": index, "item": open }),
        ));
        for part in halves(text.unwrap_or_default()) {
            out.push_str(&event(kind, &json!({ "type": kind, "output_index": index, "content_index": 0, "item_id": item["id"], "delta": part })));
        }
        out.push_str(&event(
            "response.output_item.done",
            &json!({ "type": "response.output_item.done", "output_index": index, "item": item }),
        ));
    }
    out.push_str(&event("response.completed", &json!({ "type": "response.completed", "response": whole })));
    out
}
