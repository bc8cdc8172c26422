//! What is left of a conversation that grows longer than the model's window: the task, the plan, what is open, what was done.

use genai::chat::{ChatMessage, ChatRequest};
use serde_json::Value;

use super::conversation::{Prepared, since_summary, task, tokens_in};
use crate::model::Model;
use crate::session::{CallRecord, History, Said, slot};
use crate::task::OF_AGENT;
use crate::task::tools::UPDATE_PLAN;

/// How many of the last calls are told one by one.
const LAST_CALLS: usize = 20;

/// Longest notes of the model's own that are kept, in characters.
const NOTES_CHARS_MAX: usize = 12_000;

/// What a model is asked before its conversation is shortened.
const ASK_FOR_NOTES: &str = include_str!("../../../prompts/notes.md");

/// Whether there is anything to leave out: something the agent said since the last summary.
pub(super) fn is_possible(history: &History) -> bool {
    since_summary(history).iter().any(|message| matches!(message.said, Said::Agent(_)))
}

/// Returns the request for the model's own notes: of as much of the record as fits into half of its window.
pub(super) fn notes_request(model: &Model, history: &History) -> Prepared {
    let room = usize::try_from(model.context_tokens).unwrap_or(usize::MAX);
    let lines = record(history);
    // The newest first, until it is full: half of the window at about two and a half bytes a token.
    let mut size = 0;
    let kept = lines.iter().rev().take_while(|line| {
        size += line.len() + 1;
        size <= room
    });
    let mut kept: Vec<&str> = kept.map(String::as_str).collect();
    kept.reverse();
    let text = format!("{}\n\n{}", ASK_FOR_NOTES.trim_end(), kept.join("\n"));
    let input_tokens = tokens_in(text.len());
    Prepared { chat: ChatRequest::from_messages(vec![ChatMessage::user(text)]), input_tokens }
}

/// Returns what takes the place of everything said before.
pub(in crate::agent) fn summary(history: &History, notes: Option<&str>) -> String {
    let mut text = String::from(
        "The conversation so far was shortened to this. The working tree is as you left it.\n\n# The task\n\n",
    );
    text.push_str(&task(history, &history.session.task));
    let mut add = |title: &str, body: &str| {
        if !body.trim().is_empty() {
            text.push_str(&format!("\n\n# {title}\n\n{}", body.trim()));
        }
    };
    add("What comes next in the team", of_team(history).unwrap_or_default());
    add("Your plan", &plan(history).unwrap_or_default());
    add("Open findings", open_findings(history).unwrap_or_default());
    add("Files that you changed", &changed(history).join("\n"));
    let notes: String = notes.or(earlier_notes(history)).unwrap_or_default().chars().take(NOTES_CHARS_MAX).collect();
    add(NOTES, &notes);
    let calls: Vec<String> = agent_calls(history).map(line).collect();
    add("Your last calls", &calls[calls.len().saturating_sub(LAST_CALLS)..].join("\n"));
    text
}

const NOTES: &str = "Your notes";

/// Returns the notes of the last summary, which are all there is when no new ones can be had.
fn earlier_notes(history: &History) -> Option<&str> {
    let Said::Summary { text, .. } = &since_summary(history).first()?.said else { return None };
    let (_, notes) = text.split_once(&format!("# {NOTES}\n\n"))?;
    Some(notes.split("\n\n# ").next().unwrap_or(notes))
}

/// Returns what the last call of the planning tool said.
fn plan(history: &History) -> Option<String> {
    let last = agent_calls(history).filter(|call| call.tool == UPDATE_PLAN).last()?;
    last.arguments["plan"].as_str().map(str::to_owned)
}

/// Returns what the last verification found; there is none that found nothing, or the task would be done.
fn open_findings(history: &History) -> Option<&str> {
    history.messages.iter().rev().find_map(|message| match &message.said {
        Said::Findings { text } => Some(text.as_str()),
        _ => None,
    })
}

/// Returns what the lead of a team was told last.
fn of_team(history: &History) -> Option<&str> {
    history.messages.iter().rev().find_map(|message| match &message.said {
        Said::Team { text } => Some(text.as_str()),
        _ => None,
    })
}

fn changed(history: &History) -> Vec<String> {
    let mut paths: Vec<String> = agent_calls(history)
        .filter(|call| {
            ["tollgate__write_file", "tollgate__edit_file", "tollgate__delete_file"].contains(&call.tool.as_str())
        })
        .filter(|call| call.answer.as_ref().is_some_and(|answer| answer.structured.get("error").is_none()))
        .filter_map(|call| call.arguments["path"].as_str().map(|path| format!("- {path}")))
        .collect();
    paths.sort();
    paths.dedup();
    paths.truncate(500);
    paths
}

/// Returns the agent's own calls, in the order of their beginning: those it asked for, and those it made itself.
fn agent_calls(history: &History) -> impl Iterator<Item = &CallRecord> {
    let asked_for = |call: &&CallRecord| call.slot.starts_with(|first: char| first.is_ascii_digit());
    history.calls.iter().filter(move |call| asked_for(call) || call.slot.starts_with(OF_AGENT))
}

/// Returns everything since the last summary, an entry each, none of them long.
fn record(history: &History) -> Vec<String> {
    let mut lines = vec![format!("task: {}", cut(&history.session.task, 4_000))];
    for message in since_summary(history) {
        match &message.said {
            Said::Task { .. } => {}
            Said::Team { text } => lines.push(format!("team: {}", cut(text, 12_000))),
            Said::Findings { text } => lines.push(format!("verification: {}", cut(text, 4_000))),
            Said::Summary { text, .. } => lines.push(format!("earlier: {}", cut(text, 12_000))),
            Said::Agent(reply) => {
                lines.extend(reply.text.as_deref().map(|text| format!("you: {}", cut(text, 2_000))));
                for index in 0..reply.calls.len() {
                    if let Some(call) = history.call(&slot(message.number, index)) {
                        let answer = call.answer.as_ref().map(|answer| answer.structured.to_string());
                        let answer = answer.unwrap_or_default();
                        lines.push(format!(
                            "call: {} {}\nanswer: {}",
                            call.tool,
                            cut(&call.arguments.to_string(), 1_000),
                            cut(&answer, 1_500)
                        ));
                    }
                }
            }
        }
    }
    lines
}

fn line(call: &CallRecord) -> String {
    let outcome = match &call.answer {
        None => "no answer".to_owned(),
        Some(answer) => match &answer.structured["error"]["code"] {
            Value::String(code) => format!("{}: {code}", answer.outcome.as_str()),
            _ => answer.outcome.as_str().to_owned(),
        },
    };
    format!("- {} {} → {outcome}", call.tool, cut(&call.arguments.to_string(), 160))
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let half = most / 2;
    let start: String = text.chars().take(half).collect();
    let end: Vec<char> = text.chars().rev().take(half).collect();
    format!("{start} … {}", end.into_iter().rev().collect::<String>())
}
