//! What a tool is.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use rmcp::model::{JsonObject, MetaObject, Tool as Listed, ToolAnnotations};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::charge::Call;
use crate::config::schema;
use crate::money::Currency;
use crate::price::{PRICE_META_KEY, PriceList, Sku};
use crate::refusal::Refusal;

/// What a tool does to the world, for the host's own rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Changes nothing. A cancelled call is dropped where it stands.
    Reads,
    /// Changes something, and takes nothing away. A cancelled call runs on to a safe end.
    Adds,
    /// May replace or remove what was there. A cancelled call runs on to a safe end.
    Replaces,
}

/// How a call of a tool is charged.
#[derive(Clone, Copy, Debug)]
pub enum Price {
    /// Nothing.
    Free,
    /// One of this for every call that succeeds.
    PerCall(&'static str),
    /// Any of these, counted by the tool while it works.
    Metered(&'static [&'static str]),
}

/// What a tool answers.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    pub(super) value: T,
    pub(super) text: Option<String>,
}

impl<T> Answer<T> {
    /// Answers with `value`; hosts that show the model only text see it as compact JSON.
    pub fn new(value: T) -> Self {
        Self { value, text: None }
    }

    /// Answers with `value`, and with `text` for hosts that show the model only text.
    ///
    /// `text` must carry the same facts: a diff or a log that is a field of `value`.
    #[must_use]
    pub fn with_text(value: T, text: String) -> Self {
        Self { value, text: Some(text) }
    }
}

/// An answer after its type is forgotten.
pub(super) struct RawAnswer {
    /// A JSON object as text: what a tree of it would cost, large answers would pay three times over.
    pub(super) structured: String,
    pub(super) text: Option<String>,
}

type Handler<S> = Box<
    dyn Fn(Arc<S>, JsonObject, Call) -> Pin<Box<dyn Future<Output = Result<RawAnswer, Refusal>> + Send>> + Send + Sync,
>;

/// A tool of the server `S`, under construction; [`handler`](Self::handler) finishes it.
pub struct Tool<S> {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    effect: Effect,
    idempotent: bool,
    open_world: bool,
    long: bool,
    price: Price,
    server: PhantomData<fn() -> S>,
}

/// A finished tool of the server `S`.
pub struct Defined<S> {
    tool: Tool<S>,
    schemas: fn() -> (JsonObject, JsonObject),
    pub(super) handler: Handler<S>,
}

impl<S: 'static> Tool<S> {
    /// Names a tool. `description` is what an agent chooses by: what it does, when to use it, what it refuses.
    #[must_use]
    pub fn new(
        name: &'static str,
        title: &'static str,
        description: &'static str,
        effect: Effect,
        price: Price,
    ) -> Self {
        Self {
            name,
            title,
            description,
            effect,
            idempotent: effect == Effect::Reads,
            open_world: false,
            long: false,
            price,
            server: PhantomData,
        }
    }

    /// Calling it again with the same arguments changes nothing more.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// It reaches things outside this machine's workspace.
    #[must_use]
    pub fn open_world(mut self) -> Self {
        self.open_world = true;
        self
    }

    /// It may take longer than a client waits: a client that knows tasks gets one.
    #[must_use]
    pub fn long(mut self) -> Self {
        self.long = true;
        self
    }

    /// Finishes the tool with the function that does its work.
    #[must_use]
    pub fn handler<Request, Response, F, Work>(self, run: F) -> Defined<S>
    where
        Request: DeserializeOwned + JsonSchema + Send + 'static,
        Response: Serialize + JsonSchema + Send + 'static,
        F: Fn(Arc<S>, Request, Call) -> Work + Send + Sync + 'static,
        Work: Future<Output = Result<Answer<Response>, Refusal>> + Send + 'static,
        S: Send + Sync,
    {
        let run = Arc::new(run);
        Defined {
            tool: self,
            schemas: || (schema::flat::<Request>(), output_schema::<Response>()),
            handler: Box::new(move |server, arguments, call| {
                let run = Arc::clone(&run);
                Box::pin(async move {
                    let request = parse::<Request>(arguments)?;
                    let answer = run(server, request, call).await?;
                    let structured = match serde_json::to_string(&answer.value) {
                        Ok(object) if object.starts_with('{') => object,
                        Ok(other) => format!("{{\"result\":{other}}}"),
                        Err(error) => {
                            return Err(Refusal::failed(
                                "internal_error",
                                format!("the answer cannot be written as JSON: {error}"),
                                "report this as a bug",
                            ));
                        }
                    };
                    Ok(RawAnswer { structured, text: answer.text })
                })
            }),
        }
    }
}

impl<S> Defined<S> {
    /// Returns the tool's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.tool.name
    }

    /// Returns what the tool does to the world.
    #[must_use]
    pub fn effect(&self) -> Effect {
        self.tool.effect
    }

    /// Whether it may take longer than a client waits.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.tool.long
    }

    /// Returns what every successful call is charged.
    #[must_use]
    pub fn per_call(&self) -> Option<Sku> {
        match self.tool.price {
            Price::PerCall(sku) => Some(Sku::new(sku)),
            Price::Free | Price::Metered(_) => None,
        }
    }

    /// Returns the tool as `tools/list` shows it, at the prices of `prices`.
    #[must_use]
    pub fn listed(&self, prices: &PriceList) -> Listed {
        let (input, output) = (self.schemas)();
        let annotations = ToolAnnotations::new()
            .read_only(self.tool.effect == Effect::Reads)
            .destructive(self.tool.effect == Effect::Replaces)
            .idempotent(self.tool.idempotent)
            .open_world(self.tool.open_world);
        Listed::new(self.tool.name, self.tool.description, Arc::new(input))
            .with_title(self.tool.title)
            .with_raw_output_schema(Arc::new(output))
            .with_annotations(annotations)
            .with_meta(MetaObject(Map::from_iter([(PRICE_META_KEY.to_owned(), self.price(prices))])))
    }

    fn price(&self, prices: &PriceList) -> Value {
        let list = |skus: &[&'static str]| -> Map<String, Value> {
            skus.iter().map(|sku| ((*sku).to_owned(), json!(prices.price(&Sku::new(sku))))).collect()
        };
        match self.tool.price {
            Price::Free => json!({ "currency": Currency::Usd, "per_call": {} }),
            Price::PerCall(sku) => json!({ "currency": Currency::Usd, "per_call": list(&[sku]) }),
            Price::Metered(skus) => json!({ "currency": Currency::Usd, "metered": list(skus) }),
        }
    }
}

fn parse<Request: DeserializeOwned>(arguments: JsonObject) -> Result<Request, Refusal> {
    serde_path_to_error::deserialize(Value::Object(arguments)).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.inner().to_string();
        let message = if path == "." { reason } else { format!("`{path}`: {reason}") };
        Refusal::invalid_arguments(message, "see the tool's input schema for its arguments and their types")
    })
}

/// Returns the schema of an answer, which also admits the form of a refusal and what every answer carries.
fn output_schema<Response: JsonSchema>() -> JsonObject {
    let mut schema = schema::flat_answer::<Response>();
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        schema = Map::from_iter([
            ("type".to_owned(), json!("object")),
            ("properties".to_owned(), json!({ "result": Value::Object(schema) })),
        ]);
    }
    // A refusal has none of the answer's own fields.
    schema.remove("required");
    schema.remove("additionalProperties");
    schema.remove("description");
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        properties.insert("cost_usd".to_owned(), json!({ "type": "string" }));
        properties.insert("cached".to_owned(), json!({ "type": "boolean" }));
        properties.insert(
            "error".to_owned(),
            json!({
                "type": "object",
                "properties": {
                    "code": { "type": "string" },
                    "message": { "type": "string" },
                    "hint": { "type": "string" },
                },
                "required": ["code", "message", "hint"],
            }),
        );
    }
    schema.insert("required".to_owned(), json!(["cost_usd", "cached"]));
    schema
}

/// The tools of one server, in the order in which they are listed.
pub struct Toolbox<S>(Vec<Defined<S>>);

impl<S> Toolbox<S> {
    /// Collects tools.
    #[must_use]
    pub fn new(tools: Vec<Defined<S>>) -> Self {
        Self(tools)
    }

    /// Adds a tool at the end.
    #[must_use]
    pub fn with(mut self, tool: Defined<S>) -> Self {
        self.0.push(tool);
        self
    }

    /// Returns the tool of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Defined<S>> {
        self.0.iter().find(|tool| tool.name() == name)
    }

    /// Returns the tools in order.
    pub fn iter(&self) -> impl Iterator<Item = &Defined<S>> {
        self.0.iter()
    }
}
