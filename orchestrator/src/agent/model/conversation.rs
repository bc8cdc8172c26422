//! A session as a model's provider takes it.

use genai::chat::{CacheControl, ChatMessage, ChatRequest, MessageContent, Tool, ToolCall, ToolResponse};
use serde_json::Value;

use super::Conversation;
use crate::model::Model;
use crate::session::{History, Message, Reply, Said, slot};
use crate::team::role::Role;

/// What the model is told before anything else.
const INSTRUCTIONS: &str = include_str!("../../../prompts/agent.md");

/// Longest answer of a tool that is told whole, in bytes; less where the model's window is small.
const RESULT_BYTES_MAX: u64 = 60_000;

/// A request, and about how many tokens it has.
pub(super) struct Prepared {
    pub(super) chat: ChatRequest,
    pub(super) input_tokens: u64,
}

/// Returns what to ask the model, of everything that was said since the last summary.
pub(super) fn prepare(model: &Model, conversation: &Conversation<'_>) -> Prepared {
    let history = conversation.history;
    let tools: Vec<Tool> = conversation
        .core
        .tools_in(&history.session)
        .map(|tool| {
            Tool::new(tool.name.as_str()).with_description(&tool.description).with_schema(tool.input_schema.clone())
        })
        .collect();
    let instructions = instructions(history.session.role());
    let mut size: usize = instructions.len() + tools.iter().map(Tool::size).sum::<usize>();
    let mut counted = 0;
    let mut messages = Vec::new();
    for message in since_summary(history) {
        if let Said::Agent(Reply { input_tokens: Some(tokens), .. }) = &message.said {
            // Everything before it is counted by the provider.
            (counted, size) = (*tokens, 0);
        }
        for told in told(model, history, message) {
            size += told.size();
            messages.push(told);
        }
    }
    if model.provider == "anthropic"
        && let Some(last) = messages.pop()
    {
        // Its provider keeps what is marked, and everything before it.
        messages.push(last.with_options(CacheControl::Ephemeral));
    }
    let chat = ChatRequest::from_messages(messages).with_system(instructions).with_tools(tools);
    Prepared { chat, input_tokens: counted.saturating_add(tokens_in(size)) }
}

/// Returns what a model is told of how tasks are done, and of its role in a team where it has one.
fn instructions(role: Option<&Role>) -> String {
    let mut text = INSTRUCTIONS.to_owned();
    if let Some(role) = role {
        text.push_str(&format!("\n\nYour role is {}. {}", role.name, role.prompt));
    }
    text
}

/// Returns about how many tokens so many bytes are, rather too many than too few.
pub(super) fn tokens_in(bytes: usize) -> u64 {
    (bytes as u64).saturating_mul(2).div_ceil(5)
}

pub(super) fn since_summary(history: &History) -> &[Message] {
    let start = history.messages.iter().rposition(|message| matches!(message.said, Said::Summary { .. }));
    &history.messages[start.unwrap_or(0)..]
}

fn told(model: &Model, history: &History, message: &Message) -> Vec<ChatMessage> {
    match &message.said {
        Said::Task { text } | Said::Team { text } => vec![ChatMessage::user(task(history, text))],
        Said::Findings { text } | Said::Summary { text, .. } => vec![ChatMessage::user(text.as_str())],
        Said::Agent(reply) => {
            let content = replayed(model, reply).unwrap_or_else(|| rebuilt(reply));
            if content.is_empty() {
                return Vec::new();
            }
            let mut told = vec![ChatMessage::assistant(content)];
            if !reply.calls.is_empty() {
                let answers = reply.calls.iter().enumerate().map(|(index, wanted)| {
                    let answer = history.call(&slot(message.number, index)).and_then(|call| call.answer.as_ref());
                    let text = answer.map_or_else(|| "{}".to_owned(), |answer| result(model, &answer.structured));
                    ToolResponse::new(&wanted.id, text).with_fn_name(&wanted.tool)
                });
                told.push(ChatMessage::tool(MessageContent::from_tool_responses(answers.collect())));
            }
            told
        }
    }
}

/// Returns the first message: what is to be done, and what it is judged by.
pub(super) fn task(history: &History, text: &str) -> String {
    let commands: Vec<String> = history
        .session
        .accept
        .iter()
        .map(|words| {
            format!("- `{}`", shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" ")))
        })
        .collect();
    if commands.is_empty() {
        return text.to_owned();
    }
    format!("{text}\n\nIt is done when these commands succeed in the working tree:\n{}", commands.join("\n"))
}

/// Returns what the provider sent, where it is of the model that is asked now: only that understands all of it.
fn replayed(model: &Model, reply: &Reply) -> Option<MessageContent> {
    let opaque = reply.opaque.as_ref().filter(|opaque| opaque["model"] == model.id())?;
    serde_json::from_value(opaque["content"].clone()).ok()
}

fn rebuilt(reply: &Reply) -> MessageContent {
    let text = reply.text.as_deref().filter(|text| !text.is_empty());
    let mut content = text.map(MessageContent::from_text).unwrap_or_default();
    for wanted in &reply.calls {
        content.push(ToolCall {
            call_id: wanted.id.clone(),
            fn_name: wanted.tool.clone(),
            fn_arguments: super::provider::arguments_as_sent(&wanted.arguments),
            thought_signatures: None,
        });
    }
    content
}

/// Returns a tool's answer as text, cut where it is too long for the model's window.
fn result(model: &Model, structured: &Value) -> String {
    let text = structured.to_string();
    // A tenth of the window for one answer, in bytes.
    let most = usize::try_from((model.context_tokens * 3 / 10).min(RESULT_BYTES_MAX)).unwrap_or(usize::MAX);
    if text.len() <= most {
        return text;
    }
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}\n… {} of {} bytes left out: ask for less", &text[..end], text.len() - end, text.len())
}
