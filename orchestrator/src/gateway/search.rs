//! Two small tools instead of many definitions: one that finds tools, one that calls them.

use std::cmp::Reverse;
use std::sync::Arc;

use rmcp::model::{CallToolRequestParams, JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tollgate_shared::config::schema::flat;

use super::backends::Tools;
use crate::catalogue::BUILT_IN;

/// Tools in one answer when nothing is said: their definitions together are some hundred tokens.
const FOUND_DEFAULT: usize = 5;
const FOUND_MAX: usize = 20;

/// Longest query that is looked at.
const QUERY_WORDS_MAX: usize = 32;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SearchRequest {
    /// What is to be done, in a few words; empty lists the servers
    query: String,
    /// Most tools to return, 5 when left out
    #[schemars(range(min = 1, max = 20))]
    limit: Option<usize>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct CallRequest {
    /// The tool's name, from search_tools
    name: String,
    /// Its arguments, as its input schema says
    arguments: JsonObject,
}

pub(super) fn search_name() -> String {
    format!("{BUILT_IN}__search_tools")
}

pub(super) fn call_name() -> String {
    format!("{BUILT_IN}__call_tool")
}

/// Returns the two tools.
pub(super) fn definitions(count: usize) -> Vec<Tool> {
    let search = Tool::new(
        search_name(),
        format!("Find tools for a task among {count}, with their arguments. Call them with call_tool."),
        Arc::new(flat::<SearchRequest>()),
    );
    let call = Tool::new(
        call_name(),
        "Call a tool that search_tools found, by its name. Its own rules and price apply.",
        Arc::new(call_schema()),
    );
    vec![search.with_annotations(ToolAnnotations::new().read_only(true)), call]
}

/// Any object is taken as the arguments.
fn call_schema() -> JsonObject {
    let mut schema = flat::<CallRequest>();
    if let Some(arguments) = schema.get_mut("properties").and_then(|properties| properties.get_mut("arguments")) {
        *arguments = json!({ "type": "object", "description": "Its arguments, as its input schema says" });
    }
    schema
}

/// Answers a search.
pub(super) fn search(tools: &Tools, arguments: JsonObject) -> Result<Value, String> {
    let request: SearchRequest = serde_json::from_value(Value::Object(arguments)).map_err(|error| error.to_string())?;
    let words: Vec<String> = request
        .query
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .take(QUERY_WORDS_MAX)
        .map(str::to_lowercase)
        .collect();
    let mut scored: Vec<(usize, &Tool)> = tools
        .listed
        .iter()
        .map(|tool| (score(tool, &words), tool))
        .filter(|(score, _)| *score > 0 || words.is_empty())
        .collect();
    scored.sort_by_key(|(score, tool)| (Reverse(*score), tool.name.len()));
    let limit = request.limit.unwrap_or(FOUND_DEFAULT).clamp(1, FOUND_MAX);
    let found: Vec<Value> = scored
        .iter()
        .take(limit)
        .map(|(_, tool)| {
            let mut found = json!({
                "name": tool.name, "description": tool.description, "input_schema": tool.input_schema.as_ref() });
            if let Some(price) = tool.meta.as_ref().and_then(|meta| meta.0.get("io.tollgate/price")) {
                found["price"] = price.clone();
            }
            found
        })
        .collect();
    Ok(json!({ "tools": found, "matching": scored.len(), "of": tools.listed.len(), "unavailable": tools.unavailable }))
}

/// A word in the name says most, then in the title, then in the description.
fn score(tool: &Tool, words: &[String]) -> usize {
    let name = tool.name.to_lowercase();
    let title = tool.title.as_deref().unwrap_or_default().to_lowercase();
    let description = tool.description.as_deref().unwrap_or_default().to_lowercase();
    words
        .iter()
        .map(|word| {
            let within = |text: &str, weight| if text.contains(word.as_str()) { weight } else { 0 };
            within(&name, 8) + within(&title, 4) + within(&description, 2)
        })
        .sum()
}

/// Returns the call that `call_tool` stands for.
pub(super) fn unwrap(mut request: CallToolRequestParams) -> Result<CallToolRequestParams, String> {
    let mut arguments = request.arguments.take().unwrap_or_default();
    let Some(Value::String(name)) = arguments.remove("name") else { return Err("`name` is not a text".to_owned()) };
    request.arguments = match arguments.remove("arguments") {
        Some(Value::Object(arguments)) => Some(arguments),
        None | Some(Value::Null) => None,
        Some(_) => return Err("`arguments` is not an object".to_owned()),
    };
    if let Some(unknown) = arguments.keys().next() {
        return Err(format!("unknown field `{}`", unknown.chars().take(64).collect::<String>()));
    }
    request.name = name.into();
    Ok(request)
}
