//! The merged catalogue: every tool of every server under one name that every model provider takes.

use std::collections::BTreeSet;

use rmcp::model::Tool;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::price::{PRICE_META_KEY, PriceList, Sku};

use crate::config::ServerSpec;
use crate::fleet::Listing;

/// The name under which the orchestrator's own tools stand.
pub const BUILT_IN: &str = "tollgate";

/// The one tool that takes the place of every server's own `cost_report`.
pub const COST_REPORT: &str = "cost_report";

/// Longest name that every provider takes.
const NAME_BYTES_MAX: usize = 64;

/// Bytes of JSON schema and prose that make one token, for an estimate that does not depend on a model.
pub(crate) const BYTES_PER_TOKEN: usize = 4;

/// Every tool that an agent can call.
#[derive(Clone, Debug, Serialize)]
pub struct Catalogue {
    /// In the order of the servers.
    pub tools: Vec<CatalogueTool>,
    /// Servers whose tools are missing, and why.
    pub unavailable: Vec<Unavailable>,
}

/// One tool of the catalogue.
#[derive(Clone, Debug, Serialize)]
pub struct CatalogueTool {
    /// `<server>__<tool>`.
    pub name: String,
    /// The server.
    pub server: String,
    /// The tool's name as its server knows it.
    pub tool: String,
    /// What it does, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it does, for the model.
    pub description: String,
    /// The JSON Schema of its arguments.
    pub input_schema: Value,
    /// What a call costs.
    pub price: Value,
    /// Whether it changes nothing, as far as its server says.
    pub read_only: bool,
    /// Whether calling it again changes nothing more, as far as its server says.
    pub idempotent: bool,
    /// Bytes of name, description and input schema, which every request to a model carries.
    pub bytes: usize,
    /// [`bytes`](Self::bytes) as tokens, estimated.
    pub tokens: usize,
}

/// A server without tools.
#[derive(Clone, Debug, Serialize)]
pub struct Unavailable {
    /// Which.
    pub server: String,
    /// Why.
    pub reason: String,
}

/// How `orchestrator tools` writes the catalogue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CatalogueFormat {
    /// For people.
    #[default]
    Table,
    /// Everything that is known.
    Json,
    /// The `tools` of a request to an OpenAI-compatible model.
    Openai,
    /// The `tools` of a request to an Anthropic model.
    Anthropic,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
#[serde(deny_unknown_fields)]
struct CostReportArguments {
    /// Count calls from this instant on (RFC 3339, UTC); default: everything in the ledger
    since: Option<String>,
}

impl Catalogue {
    /// Merges what the servers listed.
    #[must_use]
    pub fn merge(listings: Vec<Listing>, prices: &PriceList) -> Self {
        let mut tools = Vec::new();
        let mut unavailable = Vec::new();
        let mut taken = BTreeSet::new();
        for (spec, listed) in listings {
            match listed {
                Ok(listed) => {
                    for tool in listed.iter().filter(|tool| !(spec.own && tool.name == COST_REPORT)) {
                        let name = unique_name(&spec.name, &tool.name, &mut taken);
                        tools.push(CatalogueTool::new(name, &spec, tool, prices));
                    }
                }
                Err(reason) => unavailable.push(Unavailable { server: spec.name, reason }),
            }
        }
        tools.push(CatalogueTool::cost_report());
        Self { tools, unavailable }
    }

    /// Returns the tool of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&CatalogueTool> {
        self.tools.iter().find(|tool| tool.name == name)
    }

    /// Returns the catalogue as JSON, for a program or a model provider.
    #[must_use]
    pub fn to_json(&self, format: CatalogueFormat) -> Value {
        let each = |tool: &dyn Fn(&CatalogueTool) -> Value| Value::Array(self.tools.iter().map(tool).collect());
        match format {
            CatalogueFormat::Table | CatalogueFormat::Json => json!(self),
            CatalogueFormat::Openai => each(&|tool| {
                json!({ "type": "function", "function": {
                    "name": tool.name, "description": tool.description, "parameters": tool.input_schema } })
            }),
            CatalogueFormat::Anthropic => each(
                &|tool| json!({ "name": tool.name, "description": tool.description, "input_schema": tool.input_schema }),
            ),
        }
    }
}

impl CatalogueTool {
    fn new(name: String, spec: &ServerSpec, tool: &Tool, prices: &PriceList) -> Self {
        let own_price = tool.meta.as_ref().filter(|_| spec.own).and_then(|meta| meta.get(PRICE_META_KEY).cloned());
        let price = own_price.unwrap_or_else(|| {
            let sku = format!("{}.{}", spec.name, tool.name);
            let price = prices.price(&Sku::from(sku.clone()));
            let per_call = if price.is_zero() { json!({}) } else { json!({ sku: price }) };
            json!({ "currency": "USD", "per_call": per_call })
        });
        let read_only = tool.annotations.as_ref().and_then(|hints| hints.read_only_hint).unwrap_or(false);
        Self {
            title: tool.title.clone(),
            description: tool.description.as_deref().unwrap_or_default().to_owned(),
            input_schema: Value::Object(tool.input_schema.as_ref().clone()),
            server: spec.name.clone(),
            tool: tool.name.to_string(),
            price,
            read_only,
            idempotent: tool.annotations.as_ref().and_then(|hints| hints.idempotent_hint).unwrap_or(false),
            bytes: 0,
            tokens: 0,
            name,
        }
        .measured()
    }

    pub(crate) fn cost_report() -> Self {
        Self {
            name: format!("{BUILT_IN}__{COST_REPORT}"),
            server: BUILT_IN.to_owned(),
            tool: COST_REPORT.to_owned(),
            title: Some("Cost report".to_owned()),
            description: "What all calls on all servers cost: totals by tool and by sku, calls, cache hits.".to_owned(),
            input_schema: Value::Object(tollgate_shared::config::schema::flat::<CostReportArguments>()),
            price: json!({ "currency": "USD", "per_call": {} }),
            read_only: true,
            idempotent: true,
            bytes: 0,
            tokens: 0,
        }
        .measured()
    }

    fn measured(mut self) -> Self {
        self.bytes = self.name.len() + self.description.len() + self.input_schema.to_string().len();
        self.tokens = self.bytes.div_ceil(BYTES_PER_TOKEN);
        self
    }

    /// Returns the price in a few words: `$0.0005`, `metered from $0.0001`, `free`.
    #[must_use]
    pub fn price_label(&self) -> String {
        let amounts = |value: &Value| -> Vec<String> {
            let prices = value.as_object().into_iter().flat_map(Map::values);
            prices.filter_map(|price| price.as_str().map(str::to_owned)).collect()
        };
        let per_call = amounts(&self.price["per_call"]);
        let metered = amounts(&self.price["metered"]);
        match (per_call.first(), metered.len()) {
            (Some(price), _) => format!("${price}"),
            (None, 0) => "free".to_owned(),
            (None, 1) => format!("${} each", metered[0]),
            (None, _) => "metered".to_owned(),
        }
    }
}

/// Returns `<server>__<tool>` in the characters and the length that every provider takes, different from all in `taken`.
pub(crate) fn unique_name(server: &str, tool: &str, taken: &mut BTreeSet<String>) -> String {
    let plain: String =
        tool.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' }).collect();
    let mut name = format!("{server}__{plain}");
    if name.len() > NAME_BYTES_MAX || plain != tool || taken.contains(&name) {
        // What was cut off or replaced told it apart; a digest of the whole name does so again.
        let digest = ContentHash::of(format!("{server}\0{tool}").as_bytes()).short();
        name.truncate(NAME_BYTES_MAX - 9);
        name = format!("{name}_{}", &digest[..8]);
    }
    taken.insert(name.clone());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_every_provider_takes() {
        let mut taken = BTreeSet::new();
        assert_eq!(unique_name("git", "git_status", &mut taken), "git__git_status");
        let mut names = vec!["git__git_status".to_owned()];
        for tool in ["a.b", "a_b", "a/b", "ü", &"x".repeat(128), &format!("{}y", "x".repeat(127))] {
            names.push(unique_name("some-server", tool, &mut taken));
        }
        let distinct: BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
        for name in names {
            assert!(name.len() <= 64, "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'), "{name}");
        }
    }
}
