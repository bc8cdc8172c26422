//! `mcp-conformance`: what the official conformance suite expects of a server, over stdio, to be put behind the gateway.
#![expect(deprecated, reason = "the suite tests what is deprecated too")]

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ClientCapabilities, CompleteRequestParams, CompleteResult, ErrorData,
    GetPromptRequestParams, GetPromptResponse, Implementation, JsonObject, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, LoggingMessageNotification,
    PaginatedRequestParams, ProgressNotificationParam, PromptListChangedNotification, ProtocolVersion,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, ServerCapabilities, ServerConfig,
    ServerNotification, ServerRequest, SubscriptionFilter, ToolListChangedNotification,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::transport::stdio;
use rmcp::{RoleServer, ServerHandler, ServiceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tollgate_shared::ids::EntryId;

/// A red pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8/5+hHgAHggJ/PchI7wAAAABJRU5ErkJggg==";

/// Silence.
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA=";

/// Between two messages of one call, as the suite wants it.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone)]
struct Conformance {
    /// States that were given out and not come back.
    states: Arc<Mutex<HashSet<String>>>,
    changes: broadcast::Sender<bool>,
}

/// Reads a type of the protocol from what the suite's documentation shows.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn text(text: impl Into<String>) -> Value {
    json!({ "type": "text", "text": text.into() })
}

fn said(words: impl Into<String>) -> Value {
    json!({ "content": [text(words)] })
}

fn form(message: &str, properties: Value, required: &[&str]) -> Value {
    let mut schema = json!({ "type": "object", "required": required });
    schema["properties"] = properties;
    json!({ "method": "elicitation/create", "params": { "mode": "form", "message": message, "requestedSchema": schema } })
}

fn name_form(message: &str) -> Value {
    form(message, json!({ "name": { "type": "string" } }), &["name"])
}

fn sampling(prompt: &str, tokens: u32) -> Value {
    let messages = json!([{ "role": "user", "content": text(prompt) }]);
    json!({ "method": "sampling/createMessage", "params": { "messages": messages, "maxTokens": tokens } })
}

fn roots() -> Value {
    json!({ "method": "roots/list", "params": {} })
}

fn tools() -> Value {
    let plain = json!({ "type": "object", "properties": {} });
    let with =
        |name: &str| json!({ "type": "object", "properties": { name: { "type": "string" } }, "required": [name] });
    let names = [
        "test_simple_text",
        "test_image_content",
        "test_audio_content",
        "test_embedded_resource",
        "test_multiple_content_types",
        "test_tool_with_logging",
        "test_tool_with_progress",
        "test_error_handling",
        "test_elicitation_sep1034_defaults",
        "test_elicitation_sep1330_enums",
        "test_reconnection",
        "test_missing_capability",
        "test_streaming_elicitation",
        "test_logging_tool",
        "test_trigger_tool_change",
        "test_trigger_prompt_change",
        "test_input_required_result_elicitation",
        "test_input_required_result_sampling",
        "test_input_required_result_list_roots",
        "test_input_required_result_request_state",
        "test_input_required_result_multiple_inputs",
        "test_input_required_result_multi_round",
        "test_input_required_result_tampered_state",
        "test_input_required_result_capabilities",
    ];
    let mut tools: Vec<Value> = names
        .iter()
        .map(|name| json!({ "name": name, "description": "For the conformance suite", "inputSchema": plain }))
        .collect();
    tools.push(
        json!({ "name": "test_sampling", "description": "Asks the client's model", "inputSchema": with("prompt") }),
    );
    tools.push(json!({ "name": "test_elicitation", "description": "Asks the user", "inputSchema": with("message") }));
    tools.push(json!({ "name": "json_schema_2020_12_tool", "description": "Tool with JSON Schema 2020-12 features",
        "inputSchema": schema_2020_12() }));
    Value::Array(tools)
}

fn schema_2020_12() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": { "address": { "$anchor": "addressDef", "type": "object", "properties": {
            "street": { "type": "string" }, "city": { "type": "string" } } } },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": { "type": "string" },
            "email": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": { "properties": { "contactMethod": { "const": "phone" } }, "required": ["contactMethod"] },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false,
    })
}

fn enums() -> Value {
    let titled = |words: [&str; 3]| -> Vec<Value> {
        let of = |(number, title): (usize, &&str)| json!({ "const": format!("value{}", number + 1), "title": title });
        words.iter().enumerate().map(of).collect()
    };
    json!({
        "untitledSingle": { "type": "string", "enum": ["option1", "option2", "option3"] },
        "titledSingle": { "type": "string", "oneOf": titled(["First Option", "Second Option", "Third Option"]) },
        "legacyEnum": { "type": "string", "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"] },
        "untitledMulti": { "type": "array", "items": { "type": "string", "enum": ["option1", "option2", "option3"] } },
        "titledMulti": { "type": "array", "items": { "anyOf": titled(["First Choice", "Second Choice", "Third Choice"]) } },
    })
}

fn defaults() -> Value {
    json!({
        "name": { "type": "string", "default": "John Doe" },
        "age": { "type": "integer", "default": 30 },
        "score": { "type": "number", "default": 95.5 },
        "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
        "verified": { "type": "boolean", "default": true },
    })
}

impl Conformance {
    fn new_state(&self) -> String {
        let state = EntryId::generate().to_string();
        self.states.lock().expect("nobody panics with it").insert(state.clone());
        state
    }

    fn take_state(&self, state: Option<&str>) -> Result<(), ErrorData> {
        let known = state.is_some_and(|state| self.states.lock().expect("nobody panics with it").remove(state));
        if known { Ok(()) } else { Err(ErrorData::invalid_params("the state is not one that was given out", None)) }
    }

    /// Answers a call that needs nothing of the client.
    fn content(name: &str) -> Option<Value> {
        let image = json!({ "type": "image", "data": PNG, "mimeType": "image/png" });
        let resource = |uri: &str, kind: &str, text: &str| json!({ "type": "resource", "resource": { "uri": uri, "mimeType": kind, "text": text } });
        Some(match name {
            "test_simple_text" => said("This is a simple text response for testing."),
            "test_image_content" => json!({ "content": [image] }),
            "test_audio_content" => json!({ "content": [{ "type": "audio", "data": WAV, "mimeType": "audio/wav" }] }),
            "test_embedded_resource" => {
                let words = "This is an embedded resource content.";
                json!({ "content": [resource("test://embedded-resource", "text/plain", words)] })
            }
            "test_multiple_content_types" => {
                let data =
                    resource("test://mixed-content-resource", "application/json", r#"{"test":"data","value":123}"#);
                json!({ "content": [text("Multiple content types test:"), image, data] })
            }
            "test_error_handling" => {
                json!({ "isError": true, "content": [text("This tool intentionally returns an error for testing")] })
            }
            "json_schema_2020_12_tool" | "test_reconnection" | "test_logging_tool" => said("done"),
            _ => return None,
        })
    }

    /// Asks the client of a session in the middle of a call.
    async fn ask(context: &RequestContext<RoleServer>, question: Value) -> Result<Value, ErrorData> {
        let request: ServerRequest = typed(question)?;
        let answer = context.peer.send_request(request).await;
        let answer = answer.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        serde_json::to_value(answer).map_err(|error| ErrorData::internal_error(error.to_string(), None))
    }

    async fn ask_in_session(
        name: &str,
        arguments: &JsonObject,
        context: &RequestContext<RoleServer>,
    ) -> Result<Option<Value>, ErrorData> {
        let argument = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Some(match name {
            "test_sampling" => {
                let answer = Self::ask(context, sampling(&argument("prompt"), 100)).await?;
                let words = answer["content"]["text"].as_str().or(answer["content"][0]["text"].as_str());
                said(format!("LLM response: {}", words.unwrap_or_default()))
            }
            "test_elicitation" => {
                let field = |description: &str| json!({ "type": "string", "description": description });
                let fields = json!({ "username": field("User's response"), "email": field("User's email address") });
                let answer = Self::ask(context, form(&argument("message"), fields, &["username", "email"])).await?;
                said(format!("User response: action={}, content={}", answer["action"], answer["content"]))
            }
            "test_elicitation_sep1034_defaults" => {
                let answer = Self::ask(context, form("Please review", defaults(), &[])).await?;
                said(format!("Elicitation completed: action={}, content={}", answer["action"], answer["content"]))
            }
            "test_elicitation_sep1330_enums" => {
                let answer = Self::ask(context, form("Please choose", enums(), &[])).await?;
                said(format!("Elicitation completed: action={}, content={}", answer["action"], answer["content"]))
            }
            _ => return Ok(None),
        }))
    }

    async fn tell(name: &str, context: &RequestContext<RoleServer>) -> Result<Option<Value>, ErrorData> {
        match name {
            "test_tool_with_logging" => {
                for words in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
                    let log =
                        json!({ "method": "notifications/message", "params": { "level": "info", "data": words } });
                    let log = ServerNotification::LoggingMessageNotification(typed::<LoggingMessageNotification>(log)?);
                    let _ = context.peer.send_notification(log).await;
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(Some(said("Logging completed")))
            }
            "test_tool_with_progress" => {
                for done in [0.0, 50.0, 100.0] {
                    if let Some(token) = context.meta.get_progress_token() {
                        let progress = ProgressNotificationParam::new(token, done).with_total(100.0);
                        let _ = context.peer.notify_progress(progress).await;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(Some(said("Progress completed")))
            }
            _ => Ok(None),
        }
    }

    /// Answers a call, or a prompt, that asks by returning a question.
    fn rounds(
        &self,
        name: &str,
        answers: &Value,
        state: Option<&str>,
        capabilities: &ClientCapabilities,
    ) -> Result<Option<Value>, ErrorData> {
        let question = |requests: Value| json!({ "resultType": "input_required", "inputRequests": requests });
        let with_state = |requests: Value| json!({ "resultType": "input_required", "inputRequests": requests, "requestState": self.new_state() });
        let confirm = || form("Please confirm", json!({ "ok": { "type": "boolean" } }), &["ok"]);
        let kind = name.strip_prefix("test_input_required_result_").unwrap_or_default();
        Ok(Some(match kind {
            "elicitation" => match answers["user_name"]["content"]["name"].as_str() {
                Some(name) => said(format!("Hello, {name}!")),
                None => question(json!({ "user_name": name_form("What is your name?") })),
            },
            "sampling" => match answers.get("capital_question") {
                Some(answer) => said(answer["content"]["text"].as_str().unwrap_or("Paris")),
                None => question(json!({ "capital_question": sampling("What is the capital of France?", 100) })),
            },
            "list_roots" => match answers.get("client_roots") {
                Some(answer) => said(format!("Roots: {}", answer["roots"])),
                None => question(json!({ "client_roots": roots() })),
            },
            "request_state" | "tampered_state" => match state {
                Some(state) => {
                    self.take_state(Some(state))?;
                    said("state-ok")
                }
                None => with_state(json!({ "confirm": confirm() })),
            },
            "multiple_inputs" => match state {
                Some(state) => {
                    self.take_state(Some(state))?;
                    said("all inputs received")
                }
                None => with_state(json!({
                    "user_name": name_form("What is your name?"),
                    "greeting": sampling("Generate a greeting", 50),
                    "client_roots": roots(),
                })),
            },
            "multi_round" if answers.get("step2").is_some() => {
                self.take_state(state)?;
                said("both steps done")
            }
            "multi_round" if answers.get("step1").is_some() => {
                self.take_state(state)?;
                let color = json!({ "color": { "type": "string" } });
                with_state(json!({ "step2": form("Step 2: What is your favorite color?", color, &["color"]) }))
            }
            "multi_round" => with_state(json!({ "step1": name_form("Step 1: What is your name?") })),
            "capabilities" => {
                let mut requests = JsonObject::new();
                if capabilities.elicitation.is_some() {
                    requests.insert("user_name".to_owned(), name_form("What is your name?"));
                }
                if capabilities.sampling.is_some() {
                    requests.insert("greeting".to_owned(), sampling("Generate a greeting", 50));
                }
                if requests.is_empty() { said("nothing to ask with") } else { question(Value::Object(requests)) }
            }
            "prompt" => match answers["user_context"]["content"]["context"].as_str() {
                Some(context) => json!({ "messages": [{ "role": "user", "content": text(format!("In {context}")) }] }),
                None => {
                    let field = json!({ "context": { "type": "string" } });
                    question(
                        json!({ "user_context": form("What context should the prompt use?", field, &["context"]) }),
                    )
                }
            },
            _ => return Ok(None),
        }))
    }
}

impl ServerHandler for Conformance {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_completions()
            .enable_logging()
            .build();
        ServerConfig::new(capabilities).with_server_info(Implementation::new("mcp-conformance", "1"))
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(typed(tools())?))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = request.name.as_ref();
        let arguments = request.arguments.unwrap_or_default();
        let modern = context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
        let capabilities = context.client_capabilities().unwrap_or_default();
        let finished = |answer: Value| -> Result<CallToolResponse, ErrorData> {
            if answer["resultType"] == "input_required" {
                Ok(CallToolResponse::InputRequired(typed(answer)?))
            } else {
                Ok(CallToolResponse::Complete(typed(answer)?))
            }
        };
        if let Some(answer) = Self::content(name) {
            return finished(answer);
        }
        match name {
            "test_trigger_tool_change" | "test_trigger_prompt_change" => {
                let tools = name == "test_trigger_tool_change";
                let _ = self.changes.send(tools);
                if !modern {
                    let _ = if tools {
                        context.peer.send_notification(ToolListChangedNotification::default().into()).await
                    } else {
                        context.peer.send_notification(PromptListChangedNotification::default().into()).await
                    };
                }
                return finished(said("changed"));
            }
            "test_missing_capability" => {
                let declared = capabilities.sampling.is_some();
                if !declared {
                    let required = typed(json!({ "sampling": {} }))?;
                    return Err(ErrorData::missing_required_client_capability(required));
                }
                return finished(said("declared"));
            }
            "test_streaming_elicitation" if capabilities.elicitation.is_some() => {
                let requests = json!({ "user_name": name_form("What is your name?") });
                return finished(json!({ "resultType": "input_required", "inputRequests": requests }));
            }
            "test_streaming_elicitation" => return finished(said("nobody to ask")),
            _ => {}
        }
        // A log message is for a session, or for who asked for it.
        if name == "test_tool_with_logging" && modern && context.meta.log_level().is_none() {
            return finished(said("nobody listens"));
        }
        if let Some(answer) = Self::tell(name, &context).await? {
            return finished(answer);
        }
        let answers = request.input_responses.map(|answers| json!(answers)).unwrap_or_default();
        if let Some(answer) = self.rounds(name, &answers, request.request_state.as_deref(), &capabilities)? {
            return finished(answer);
        }
        match Self::ask_in_session(name, &arguments, &context).await? {
            Some(answer) => finished(answer),
            None => Err(ErrorData::invalid_params(format!("unknown tool {name}"), None)),
        }
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(typed(json!([
            { "uri": "test://static-text", "name": "Static text", "mimeType": "text/plain" },
            { "uri": "test://static-binary", "name": "Static binary", "mimeType": "image/png" },
            { "uri": "test://watched-resource", "name": "Watched resource", "mimeType": "text/plain" },
        ]))?))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let template =
            json!([{ "uriTemplate": "test://template/{id}/data", "name": "Template", "mimeType": "application/json" }]);
        Ok(ListResourceTemplatesResult::with_all_items(typed(template)?))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri.as_str();
        let id = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
        let contents = match (uri, id) {
            ("test://static-text", _) => {
                json!({ "uri": uri, "mimeType": "text/plain", "text": "This is the content of the static text resource." })
            }
            ("test://static-binary", _) => json!({ "uri": uri, "mimeType": "image/png", "blob": PNG }),
            ("test://watched-resource", _) => json!({ "uri": uri, "mimeType": "text/plain", "text": "Watched." }),
            (_, Some(id)) => {
                let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
                json!({ "uri": uri, "mimeType": "application/json", "text": data.to_string() })
            }
            _ => return Err(ErrorData::resource_not_found("there is no such resource", Some(json!({ "uri": uri })))),
        };
        Ok(ReadResourceResponse::Complete(ReadResourceResult::new(typed(json!([contents]))?)))
    }

    async fn subscribe(
        &self,
        _: rmcp::model::SubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(
        &self,
        _: rmcp::model::UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn set_level(
        &self,
        _: rmcp::model::SetLevelRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let argument = |name: &str| json!({ "name": name, "description": "A test argument", "required": true });
        Ok(ListPromptsResult::with_all_items(typed(json!([
            { "name": "test_simple_prompt", "description": "A simple prompt" },
            { "name": "test_prompt_with_arguments", "description": "A prompt with arguments",
              "arguments": [argument("arg1"), argument("arg2")] },
            { "name": "test_prompt_with_embedded_resource", "description": "A prompt with a resource",
              "arguments": [argument("resourceUri")] },
            { "name": "test_prompt_with_image", "description": "A prompt with an image" },
            { "name": "test_input_required_result_prompt", "description": "A prompt that asks" },
        ]))?))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let argument = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default();
        let user = |content: Value| json!({ "role": "user", "content": content });
        let messages = match request.name.as_str() {
            "test_simple_prompt" => vec![user(text("This is a simple prompt for testing."))],
            "test_prompt_with_arguments" => {
                let words = format!("Prompt with arguments: arg1='{}', arg2='{}'", argument("arg1"), argument("arg2"));
                vec![user(text(words))]
            }
            "test_prompt_with_embedded_resource" => {
                let words = "Embedded resource content for testing.";
                let resource = json!({ "uri": argument("resourceUri"), "mimeType": "text/plain", "text": words });
                let embedded = json!({ "type": "resource", "resource": resource });
                vec![user(embedded), user(text("Please process the embedded resource above."))]
            }
            "test_prompt_with_image" => {
                let image = json!({ "type": "image", "data": PNG, "mimeType": "image/png" });
                vec![user(image), user(text("Please analyze the image above."))]
            }
            name => {
                let answers = request.input_responses.map(|answers| json!(answers)).unwrap_or_default();
                let capabilities = context.client_capabilities().unwrap_or_default();
                let answer = self.rounds(name, &answers, request.request_state.as_deref(), &capabilities)?;
                let answer = answer.ok_or_else(|| ErrorData::invalid_params("there is no such prompt", None))?;
                return Ok(if answer["resultType"] == "input_required" {
                    GetPromptResponse::InputRequired(typed(answer)?)
                } else {
                    GetPromptResponse::Complete(typed(answer)?)
                });
            }
        };
        Ok(GetPromptResponse::Complete(typed(json!({ "messages": messages }))?))
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let values = [format!("{}-completed", request.argument.value)];
        typed(json!({ "completion": { "values": values, "total": 1, "hasMore": false } }))
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.changes.subscribe();
        loop {
            tokio::select! {
                () = subscription.cancelled() => return Ok(()),
                change = changes.recv() => {
                    let sink = subscription.sink();
                    // What the filter does not have is not sent.
                    let _ = match change {
                        Ok(true) => sink.notify_tool_list_changed().await,
                        Ok(false) => sink.notify_prompt_list_changed().await,
                        Err(_) => return Ok(()),
                    };
                }
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Conformance { states: Arc::default(), changes: broadcast::Sender::new(64) };
    server.serve(stdio()).await?.waiting().await?;
    Ok(())
}
