//! One request to a provider, and what came of it.

use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use genai::adapter::AdapterKind;
use genai::chat::{
    ChatOptions, ChatStreamEvent, ContentPart, MessageContent, ReasoningEffort, StopReason, ToolCall, Usage,
};
use genai::resolver::{AuthData, Endpoint};
use genai::{Client, ModelIden, ServiceTarget};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::conversation::{Prepared, tokens_in};
use crate::model::Model;
use crate::model::price::Tokens;

/// Largest answer that is taken, in bytes of text and arguments.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest reason that is told, in characters.
const REASON_CHARS_MAX: usize = 500;

/// Most tool calls of one answer that are kept.
const CALLS_MAX: usize = 256;

/// Words by which providers say that a request is longer than the model's window.
const TOO_LONG: &[&str] = &[
    "prompt is too long",
    "context_length_exceeded",
    "maximum context length",
    "context window",
    "input token count",
    "too many tokens",
];

/// Where a model is asked.
pub(super) struct Provider {
    client: Client,
    target: ServiceTarget,
    options: ChatOptions,
    stream: bool,
    request_timeout: Duration,
    /// What no text may show.
    secret: Option<String>,
}

/// What a model answered.
pub(super) struct Answer {
    pub(super) text: Option<String>,
    pub(super) calls: Vec<ToolCall>,
    /// All of it, as its provider wants it back.
    pub(super) content: MessageContent,
    pub(super) tokens: Tokens,
    /// What its provider says it is, where that is known.
    pub(super) model: Option<String>,
}

/// Why a model did not answer.
pub(super) struct Failure {
    /// The stable code in the receipt.
    pub(super) code: &'static str,
    /// In a sentence, without secrets.
    pub(super) reason: String,
    /// Whether the same request may be answered another time.
    pub(super) may_pass: bool,
    /// When the provider wants to be asked again.
    pub(super) retry_after: Option<Duration>,
    /// Whether the request is longer than the model's window.
    pub(super) too_long: bool,
    /// What it cost all the same.
    pub(super) tokens: Tokens,
}

impl Provider {
    /// Prepares to ask `model`.
    pub(super) async fn new(model: &Model) -> anyhow::Result<Self> {
        // One provider of cryptography for the whole program; whoever comes second finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let web = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            // A key in a header of the provider's own would go along.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("cannot make an HTTP client")?;
        let client = Client::builder().with_reqwest(web).build()?;
        let kind = adapter(model)?;
        let mut target = client.resolve_service_target(ModelIden::new(kind, model.model.as_str())).await?;
        if let Some(url) = &model.base_url {
            target.endpoint = Endpoint::from_owned(url.as_str());
            // The key of the provider is for the provider alone.
            target.auth = AuthData::from_single("none");
        }
        if let Some(name) = &model.api_key_env {
            target.auth = AuthData::from_env(name.as_str());
        }
        if let AuthData::FromEnv(name) = &target.auth {
            let is_set = std::env::var(name).is_ok_and(|key| !key.trim().is_empty());
            anyhow::ensure!(is_set, "{} needs a key: set {name}, or api_key_env of its [models] table", model.id());
        }
        let mut options = ChatOptions::default()
            .with_capture_usage(true)
            .with_capture_content(true)
            .with_capture_tool_calls(true)
            // What it cost stands in an answer that cannot be read otherwise, too.
            .with_capture_raw_body(true)
            // Providers that sign their reasoning want it back.
            .with_capture_reasoning_content(true);
        if let Some(temperature) = model.temperature {
            options = options.with_temperature(temperature);
        }
        if let Some(effort) = &model.reasoning_effort {
            let effort: ReasoningEffort = effort.parse().context("reasoning_effort")?;
            options = options.with_reasoning_effort(effort);
        }
        let secret = target.auth.single_key_value().ok().filter(|secret| secret.len() >= 8);
        let (stream, request_timeout) = (model.stream, model.request_timeout);
        Ok(Self { client, target, options, stream, request_timeout, secret })
    }

    /// Returns where it is asked.
    pub(super) fn url(&self) -> &str {
        self.target.endpoint.base_url()
    }

    /// Makes one request for an answer of at most `output_tokens`.
    pub(super) async fn ask(
        &self,
        prepared: &Prepared,
        output_tokens: u64,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let options = self.options.clone().with_max_tokens(u32::try_from(output_tokens).unwrap_or(u32::MAX));
        let mut received = 0;
        let deadline = deadline.min(Instant::now() + self.request_timeout);
        let exchange = async {
            if self.stream {
                self.stream(prepared, &options, &mut received).await
            } else {
                self.whole(prepared, &options).await
            }
        };
        let unreported = |received: usize| Tokens {
            input_unreported: prepared.input_tokens,
            output_unreported: tokens_in(received),
            ..Tokens::default()
        };
        match timeout_at(deadline, exchange).await {
            Ok(Ok(mut answer)) => {
                if answer.tokens == Tokens::default() {
                    answer.tokens = unreported(answer.content.size());
                }
                Ok(answer)
            }
            Ok(Err(Broken { mut failure, reached })) => {
                if reached {
                    failure.tokens = unreported(received);
                }
                Err(failure)
            }
            Err(_) => Err(Failure {
                tokens: unreported(received),
                ..self.failure("model_timeout", "no whole answer in time", true)
            }),
        }
    }

    async fn stream(&self, prepared: &Prepared, options: &ChatOptions, received: &mut usize) -> Result<Answer, Broken> {
        let asked = self.client.exec_chat_stream(self.target.clone(), prepared.chat.clone(), Some(options)).await;
        let mut stream = asked.map_err(|error| self.broken(&error))?.stream;
        let mut of_calls = 0;
        while let Some(event) = stream.next().await {
            match event.map_err(|error| self.broken(&error))? {
                ChatStreamEvent::Chunk(chunk) | ChatStreamEvent::ReasoningChunk(chunk) => {
                    *received += chunk.content.len();
                }
                // The arguments so far, not what is new of them.
                ChatStreamEvent::ToolCallChunk(chunk) => {
                    of_calls = of_calls.max(chunk.tool_call.size());
                }
                ChatStreamEvent::End(end) => {
                    let content = end.captured_content.unwrap_or_default();
                    return self.answer(content, end.captured_usage, end.captured_stop_reason.as_ref());
                }
                ChatStreamEvent::Start | ChatStreamEvent::ThoughtSignatureChunk(_) | ChatStreamEvent::Heartbeat => {}
            }
            if received.saturating_add(of_calls) > ANSWER_BYTES_MAX {
                return Err(Broken {
                    failure: self.failure("model_answer_too_large", "the answer has more than 8 MiB", false),
                    reached: true,
                });
            }
        }
        Err(Broken { failure: self.failure("model_answer_broken", "the answer broke off", true), reached: true })
    }

    async fn whole(&self, prepared: &Prepared, options: &ChatOptions) -> Result<Answer, Broken> {
        let asked = self.client.exec_chat(self.target.clone(), prepared.chat.clone(), Some(options)).await;
        let response = asked.map_err(|error| self.broken(&error))?;
        let model = Some(response.provider_model_iden.model_name.to_string());
        let answer = self.answer(response.content, Some(response.usage), response.stop_reason.as_ref())?;
        Ok(Answer { model, ..answer })
    }

    fn answer(
        &self,
        content: MessageContent,
        usage: Option<Usage>,
        stop_reason: Option<&StopReason>,
    ) -> Result<Answer, Broken> {
        let tokens = usage.map(|usage| tokens_of(&usage)).unwrap_or_default();
        if let Some(StopReason::ContentFilter(word)) = stop_reason {
            let reason = format!("the provider withheld the answer ({word})");
            return Err(Broken {
                failure: Failure { tokens, ..self.failure("model_refused", &reason, false) },
                reached: tokens == Tokens::default(),
            });
        }
        let (content, calls) = with_clean_calls(content);
        let text = content.joined_texts().filter(|text| !text.trim().is_empty());
        Ok(Answer { text, calls, content, tokens, model: None })
    }

    fn broken(&self, error: &genai::Error) -> Broken {
        // Over a stream, an answer with a status that is no success comes wrapped.
        if let genai::Error::WebStream { error: inner, .. } = error
            && let Some(inner) = inner.downcast_ref::<genai::Error>()
        {
            return self.broken(inner);
        }
        let text = error.to_string();
        let lower = text.to_lowercase();
        if let Some(status) = error.status() {
            let may_pass = matches!(status.as_u16(), 408 | 409 | 425 | 429 | 500..=599);
            let too_long = matches!(status.as_u16(), 400 | 413) && TOO_LONG.iter().any(|words| lower.contains(words));
            let code = match status.as_u16() {
                401 | 403 => "model_unauthorized",
                429 => "model_rate_limited",
                500..=599 => "model_overloaded",
                _ => "model_request_refused",
            };
            let retry_after = error.headers().and_then(retry_after);
            let failure = Failure { too_long, retry_after, ..self.failure(code, &text, may_pass) };
            return Broken { failure, reached: false };
        }
        match error {
            genai::Error::WebModelCall { webc_error: genai::webc::Error::Reqwest(error), .. } if error.is_connect() => {
                let failure = self.failure("model_unreachable", &text, true);
                Broken { failure, reached: false }
            }
            // An error within a stream that began well.
            genai::Error::ChatResponse { .. } => {
                let may_pass = ["overloaded", "rate_limit", "api_error", "server_error", "timeout"]
                    .iter()
                    .any(|word| lower.contains(word));
                Broken { failure: self.failure("model_overloaded", &text, may_pass), reached: true }
            }
            genai::Error::WebStream { error: inner, .. } => {
                let unreachable = inner.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect);
                let code = if unreachable { "model_unreachable" } else { "model_answer_broken" };
                Broken { failure: self.failure(code, &text, true), reached: !unreachable }
            }
            genai::Error::ChatResponseGeneration { response_body, cause, .. } => {
                let tokens = counted_in(response_body);
                let failure = Failure { tokens, ..self.failure("model_answer_malformed", cause, true) };
                Broken { failure, reached: tokens == Tokens::default() }
            }
            genai::Error::WebModelCall { .. }
            | genai::Error::StreamParse { .. }
            | genai::Error::NoChatResponse { .. }
            | genai::Error::InvalidJsonResponseElement { .. }
            | genai::Error::JsonValueExt(_)
            | genai::Error::SerdeJson(_) => {
                Broken { failure: self.failure("model_answer_malformed", &text, true), reached: true }
            }
            _ => Broken { failure: self.failure("model_request_refused", &text, false), reached: false },
        }
    }

    fn failure(&self, code: &'static str, reason: &str, may_pass: bool) -> Failure {
        let mut reason: String =
            reason.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(REASON_CHARS_MAX).collect();
        if let Some(secret) = &self.secret {
            reason = reason.replace(secret.as_str(), "***");
        }
        Failure { code, reason, may_pass, retry_after: None, too_long: false, tokens: Tokens::default() }
    }
}

/// A request that failed.
struct Broken {
    failure: Failure,
    /// Whether the model may have worked on it, which is paid for.
    reached: bool,
}

/// Returns the wire format of a model.
fn adapter(model: &Model) -> anyhow::Result<AdapterKind> {
    let kind = AdapterKind::from_lower_str(&model.provider);
    let kind = kind.with_context(|| format!("`{}` is no provider; see docs/models.md", model.provider))?;
    // The provider's newer models are asked in its newer format; other addresses under its name speak the older.
    let newer = kind == AdapterKind::OpenAI
        && model.base_url.is_none()
        && AdapterKind::from_model(&model.model).is_ok_and(|kind| kind == AdapterKind::OpenAIResp);
    Ok(if newer { AdapterKind::OpenAIResp } else { kind })
}

/// Reads what a provider counted; parts of a whole are never more than the whole.
fn tokens_of(usage: &Usage) -> Tokens {
    let count = |tokens: Option<i32>| u64::try_from(tokens.unwrap_or(0)).unwrap_or(0);
    let sent = count(usage.prompt_tokens);
    let details = usage.prompt_tokens_details.as_ref();
    let cache_read = count(details.and_then(|details| details.cached_tokens)).min(sent);
    let cache_write = count(details.and_then(|details| details.cache_creation_tokens)).min(sent - cache_read);
    let answered = count(usage.completion_tokens);
    let reasoning =
        count(usage.completion_tokens_details.as_ref().and_then(|details| details.reasoning_tokens)).min(answered);
    Tokens {
        input: sent - cache_read - cache_write,
        cache_read,
        cache_write,
        output: answered - reasoning,
        reasoning,
        ..Tokens::default()
    }
}

/// Reads what a provider counted out of an answer in a format of OpenAI's that is no use otherwise.
fn counted_in(body: &Value) -> Tokens {
    let usage = &body["usage"];
    let either = |chat: &str, responses: &str| usage.get(chat).or_else(|| usage.get(responses)).cloned();
    let same = json!({
        "prompt_tokens": either("prompt_tokens", "input_tokens"),
        "prompt_tokens_details": either("prompt_tokens_details", "input_tokens_details"),
        "completion_tokens": either("completion_tokens", "output_tokens"),
        "completion_tokens_details": either("completion_tokens_details", "output_tokens_details"),
    });
    serde_json::from_value::<Usage>(same).map(|usage| tokens_of(&usage)).unwrap_or_default()
}

/// Returns the calls of an answer, each with an identifier of its own, and the answer so that its provider takes it back.
fn with_clean_calls(content: MessageContent) -> (MessageContent, Vec<ToolCall>) {
    let mut calls: Vec<ToolCall> = Vec::new();
    let mut parts = Vec::new();
    for part in content.into_parts() {
        let ContentPart::ToolCall(mut call) = part else {
            parts.push(part);
            continue;
        };
        if calls.len() >= CALLS_MAX || call.fn_name.is_empty() {
            continue;
        }
        if call.call_id.is_empty() || calls.iter().any(|other| other.call_id == call.call_id) {
            call.call_id = format!("call_{}_{}", calls.len(), call.call_id);
        }
        if call.fn_arguments.is_null() {
            call.fn_arguments = json!({});
        }
        calls.push(call.clone());
        call.fn_arguments = arguments_as_sent(&call.fn_arguments);
        parts.push(ContentPart::ToolCall(call));
    }
    (MessageContent::from_parts(parts), calls)
}

/// Returns arguments as they are sent back: what was no object is told as text in one.
pub(super) fn arguments_as_sent(arguments: &Value) -> Value {
    if arguments.is_object() { arguments.clone() } else { json!({ "malformed_arguments": arguments }) }
}

/// Reads when a provider wants to be asked again.
fn retry_after(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let seconds = |number: f64| Duration::try_from_secs_f64(number).ok();
    match number("retry-after-ms") {
        Some(ms) => Some(seconds(ms)? / 1000),
        None => seconds(number("retry-after")?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_what_was_counted_never_add_up_to_more() {
        let usage = |text: Value| serde_json::from_value::<Usage>(text).unwrap();
        let all = usage(json!({ "prompt_tokens": 100, "completion_tokens": 50,
            "prompt_tokens_details": { "cached_tokens": 60, "cache_creation_tokens": 30 },
            "completion_tokens_details": { "reasoning_tokens": 20 } }));
        let tokens = tokens_of(&all);
        assert_eq!((tokens.input, tokens.cache_read, tokens.cache_write), (10, 60, 30));
        assert_eq!((tokens.output, tokens.reasoning), (30, 20));
        let lie = usage(json!({ "prompt_tokens": 10, "completion_tokens": -5,
            "prompt_tokens_details": { "cached_tokens": 60, "cache_creation_tokens": 30 },
            "completion_tokens_details": { "reasoning_tokens": 20 } }));
        let tokens = tokens_of(&lie);
        assert_eq!((tokens.sent(), tokens.cache_read, tokens.output, tokens.reasoning), (10, 10, 0, 0));
    }

    #[test]
    fn calls_have_identifiers_of_their_own_and_arguments_that_can_be_sent_back() {
        let call = |id: &str, name: &str, arguments: Value| {
            ContentPart::ToolCall(ToolCall {
                call_id: id.into(),
                fn_name: name.into(),
                fn_arguments: arguments,
                thought_signatures: None,
            })
        };
        let content = MessageContent::from_parts(vec![
            ContentPart::from_text("so"),
            call("a", "x", json!({"p": 1})),
            call("a", "y", Value::Null),
            call("", "z", json!("{\"p\": ")),
            call("b", "", json!({})),
        ]);
        let (content, calls) = with_clean_calls(content);
        let ids: std::collections::BTreeSet<&str> = calls.iter().map(|call| call.call_id.as_str()).collect();
        assert_eq!((calls.len(), ids.len()), (3, 3));
        assert_eq!(calls[2].fn_arguments, json!("{\"p\": "), "what was malformed is refused as such");
        assert!(content.tool_calls().iter().all(|call| call.fn_arguments.is_object()));
        assert_eq!(content.joined_texts().as_deref(), Some("so"));
    }

    #[test]
    fn provider_says_when_to_come_back() {
        let header = |name: &'static str, value: &str| {
            let mut headers = reqwest::header::HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(header("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(header("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        for nonsense in ["-1", "NaN", "1e300", "soon"] {
            assert_eq!(header("retry-after", nonsense), None, "{nonsense}");
        }
    }
}
