//! Requests to models, and turns of agents that are programs of their own.

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;

use super::mcp::address;
use super::span::{Beginning, Kind, Span, here};
use super::{cut, get};
use crate::model::Model;
use crate::model::price::Tokens;

/// Begins a request to `model` at `url`, as part of the task `task_id`.
pub(crate) fn chat(model: &Model, url: &str, task_id: Option<&str>) -> Option<Span> {
    let telemetry = get()?;
    let named = [
        KeyValue::new("gen_ai.provider.name", provider(&model.provider).to_owned()),
        KeyValue::new("gen_ai.request.model", model.model.clone()),
    ];
    let mut beginning = Beginning::new(Kind::Chat, format!("chat {}", cut(&model.model)));
    beginning.labels = [vec![KeyValue::new("gen_ai.operation.name", "chat")], named.to_vec(), address(url)].concat();
    beginning.goods = [vec![KeyValue::new("tollgate.server", crate::model::SERVER)], named.to_vec()].concat();
    beginning.attributes.extend(model.stream.then(|| KeyValue::new("gen_ai.request.stream", true)));
    beginning.attributes.extend(task_id.map(|id| KeyValue::new("gen_ai.conversation.id", cut(id))));
    Some(Span::begin(telemetry, beginning))
}

/// Begins a turn of the agent `[agents.<name>]`.
pub(crate) fn agent_turn(name: &str, task_id: &str) -> Option<Span> {
    let telemetry = get()?;
    let mut beginning = Beginning::new(Kind::Plain, format!("invoke_agent {}", cut(name)));
    beginning.span_kind = Some(SpanKind::Client);
    beginning.goods = vec![
        KeyValue::new("tollgate.server", crate::model::SERVER),
        KeyValue::new("gen_ai.provider.name", "acp"),
        KeyValue::new("gen_ai.agent.name", name.to_owned()),
    ];
    beginning.attributes = vec![
        KeyValue::new("gen_ai.operation.name", "invoke_agent"),
        KeyValue::new("gen_ai.conversation.id", cut(task_id)),
    ];
    Some(Span::begin(telemetry, beginning))
}

/// Says that the request under way here is sent, for an answer of at most `output_tokens`.
pub(crate) fn asked(output_tokens: u64) {
    here(|work, span| {
        work.sent();
        span.set_attribute(KeyValue::new("gen_ai.request.max_tokens", number(output_tokens)));
    });
}

/// Says that the request under way here was answered, by which model where its provider says so.
pub(crate) fn answered(tokens: &Tokens, model: Option<&str>) {
    here(|work, span| {
        work.heard();
        span.set_attributes(model.map(|model| KeyValue::new("gen_ai.response.model", cut(model))));
        // What this side guesses is paid for, and is no count of the provider's.
        if tokens.input_unreported > 0 || tokens.output_unreported > 0 || *tokens == Tokens::default() {
            return;
        }
        span.set_attributes([
            KeyValue::new("gen_ai.usage.input_tokens", number(tokens.sent())),
            KeyValue::new("gen_ai.usage.output_tokens", number(tokens.output.saturating_add(tokens.reasoning))),
            KeyValue::new("gen_ai.usage.cache_read.input_tokens", number(tokens.cache_read)),
            KeyValue::new("gen_ai.usage.cache_write.input_tokens", number(tokens.cache_write)),
            KeyValue::new("gen_ai.usage.reasoning.output_tokens", number(tokens.reasoning)),
        ]);
        if let Some(metrics) = get().and_then(|telemetry| telemetry.metrics.as_ref())
            && work.kind == Kind::Chat
        {
            metrics.used(tokens, work);
        }
    });
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Returns what the conventions call a provider; others by the name that the configuration has.
fn provider(name: &str) -> &str {
    match name {
        "openai_resp" => "openai",
        "gemini" => "gcp.gemini",
        "vertex" => "gcp.vertex_ai",
        "bedrock_api" | "bedrock_sigv4" => "aws.bedrock",
        "xai" => "x_ai",
        "mistral" => "mistral_ai",
        "moonshot" => "moonshot_ai",
        other => other,
    }
}
