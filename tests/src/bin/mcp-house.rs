//! `mcp-house`: a server of the house whose tools do what the tests of the wrapper around every call need.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Question, Reply, Server, Startup, Tool, Toolbox};

struct House;

#[derive(Default, Serialize, Deserialize, JsonSchema)]
struct HouseConfig {}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EchoRequest {
    /// What to answer
    text: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SleepRequest {
    /// How long
    ms: u64,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WriteRequest {
    /// How long before
    ms: u64,
    /// Which file
    path: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PanicRequest {
    /// On a blocking thread
    blocking: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LargeRequest {
    /// How many bytes
    bytes: usize,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AskRequest {
    /// What to ask
    text: String,
    /// For how long the reply counts
    patience_ms: u64,
}

#[derive(Serialize, JsonSchema)]
struct Text {
    text: String,
}

impl Server for House {
    const NAME: &'static str = "house";
    const PROGRAM: &'static str = "mcp-house";
    const TITLE: &'static str = "Fixture of the house";
    const INSTRUCTIONS: &'static str = "For tests.";

    type Config = HouseConfig;

    fn new(_: HouseConfig, _: &Startup) -> anyhow::Result<Self> {
        Ok(Self)
    }

    fn tools() -> Toolbox<Self> {
        Toolbox::new(vec![
            Tool::new("echo", "Echo", "Answer with the same text", Effect::Reads, Price::PerCall("house.echo"))
                .handler(async |_: Arc<Self>, request: EchoRequest, _: Call| {
                    Ok(Answer::new(Text { text: request.text }))
                }),
            Tool::new("sleep", "Sleep", "Answer after a while", Effect::Reads, Price::PerCall("house.sleep")).handler(
                async |_: Arc<Self>, request: SleepRequest, _: Call| {
                    tokio::time::sleep(Duration::from_millis(request.ms)).await;
                    text("awake")
                },
            ),
            Tool::new("write", "Write", "Write a file after a while", Effect::Adds, Price::PerCall("house.write"))
                .handler(async |_: Arc<Self>, request: WriteRequest, call: Call| {
                    tokio::time::sleep(Duration::from_millis(request.ms)).await;
                    call.blocking(move || {
                        std::fs::write(&request.path, "written")
                            .map_err(|error| Refusal::failed("not_written", error.to_string(), "choose another file"))
                    })
                    .await?;
                    call.decide("written", "asked for", json!({}));
                    text("written")
                }),
            Tool::new("panic", "Panic", "Panic in the middle", Effect::Adds, Price::PerCall("house.panic")).handler(
                async |_: Arc<Self>, request: PanicRequest, call: Call| {
                    if request.blocking {
                        call.blocking(|| -> Result<(), Refusal> { panic!("as asked, on a blocking thread") }).await?;
                    } else {
                        panic!("as asked");
                    }
                    text("not reached")
                },
            ),
            Tool::new("large", "Large", "Answer with much", Effect::Reads, Price::PerCall("house.large")).handler(
                async |_: Arc<Self>, request: LargeRequest, _: Call| text(&"x".repeat(request.bytes.min(64 << 20))),
            ),
            Tool::new("ask", "Ask", "Ask somebody", Effect::Adds, Price::PerCall("house.ask"))
                .handler(async |_: Arc<Self>, request: AskRequest, call: Call| ask(request, call).await),
            Tool::new("ask_long", "Ask long", "Ask somebody, as a task", Effect::Adds, Price::PerCall("house.ask"))
                .long()
                .handler(async |_: Arc<Self>, request: AskRequest, call: Call| ask(request, call).await),
            Tool::new("long", "Long", "Work for long, until cancelled", Effect::Adds, Price::PerCall("house.long"))
                .long()
                .handler(async |_: Arc<Self>, request: SleepRequest, call: Call| {
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_millis(request.ms)) => text("done"),
                        () = call.cancelled().cancelled() => Err(Refusal::cancelled()),
                    }
                }),
        ])
    }
}

async fn ask(request: AskRequest, call: Call) -> Result<Answer<Text>, Refusal> {
    if !call.can_ask() {
        return text("nobody to ask");
    }
    let replied = match call.replied()? {
        Some(replied) => replied,
        None => {
            let fields = json!({ "approve": { "type": "boolean" } });
            let question = Question {
                message: request.text,
                fields: fields.as_object().cloned().unwrap_or_default(),
                subject: "subject".to_owned(),
                patience: Duration::from_millis(request.patience_ms),
            };
            call.ask(question).await?
        }
    };
    match replied.reply {
        Reply::Accepted(form) => text(&format!("{} accepted {}", replied.subject, serde_json::Value::Object(form))),
        Reply::Declined => text("declined"),
        Reply::Dismissed => text("dismissed"),
    }
}

fn text(text: &str) -> Result<Answer<Text>, Refusal> {
    Ok(Answer::new(Text { text: text.to_owned() }))
}

fn main() -> ExitCode {
    tollgate_shared::serve::run::<House>("1")
}
