//! Models: which there are, what they cost, how much they take.

pub mod price;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::config::{did_you_mean, nearest};
use tollgate_shared::money::Money;

use price::Prices;

/// The name under which receipts of models stand where those of tools have a server.
pub const SERVER: &str = "model";

/// What the repository knows of models; see the head of the file.
const KNOWN: &str = include_str!("../models.toml");

/// Longest answer that is asked for when nothing is said, in tokens: it is paid for in advance.
const OUTPUT_TOKENS_DEFAULT: u64 = 32_000;

/// The least context window that anything useful fits into, in tokens.
const CONTEXT_TOKENS_MIN: u64 = 4_000;

/// The tables `[models.<name>]`: models under names of the operator's own, used as `--agent model:<name>`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ModelsConfig(pub BTreeMap<String, ModelConfig>);

/// One table `[models.<name>]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Who runs it, or whose wire format its address speaks: `anthropic`, `openai`, `openai_resp`, `gemini`, `ollama`, `vertex`,
    /// `bedrock_api`, `open_router` and others.
    pub provider: String,
    /// Its name there.
    pub model: String,
    /// The address, where it is not the provider's own; with a trailing slash and, for most formats, the version: `https://example.com/v1/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The environment variable that holds the key, read when the model is asked. The provider's own, such as
    /// ANTHROPIC_API_KEY, when left out; none for a `base_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// What it costs; needed for a model that models.toml does not list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Prices>,
    /// Its context window, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u64>,
    /// Longest answer to ask for, in tokens; its price is set aside before each request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens_max: Option<u64>,
    /// Whether answers are streamed.
    #[serde(default = "yes")]
    pub stream: bool,
    /// Sampling temperature, where the model takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// How hard it thinks: `minimal`, `low`, `medium`, `high`, or a number of tokens, where the model takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    /// How often a request is tried again that failed for no fault of its own.
    #[serde(default = "retries_default")]
    pub retries: u32,
    /// How long to wait before the first further try, in milliseconds; doubled each time up to a minute.
    #[serde(default = "retry_delay_default")]
    pub retry_delay_ms: u64,
    /// How long one request may take, in milliseconds.
    #[serde(default = "request_timeout_default")]
    pub request_timeout_ms: u64,
}

fn yes() -> bool {
    true
}

fn retries_default() -> u32 {
    5
}

fn retry_delay_default() -> u64 {
    1_000
}

fn request_timeout_default() -> u64 {
    600_000
}

/// A model that can be used, with everything that is needed for it.
#[derive(Clone, Debug)]
pub struct Model {
    /// Who runs it.
    pub provider: String,
    /// Its name there.
    pub model: String,
    /// What it costs.
    pub prices: Prices,
    /// Its context window, in tokens.
    pub context_tokens: u64,
    /// Longest answer to ask for, in tokens.
    pub output_tokens_max: u64,
    /// The address, where it is not the provider's own.
    pub base_url: Option<String>,
    /// The environment variable that holds the key, where the configuration names one.
    pub api_key_env: Option<String>,
    /// Whether answers are streamed.
    pub stream: bool,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// How hard it thinks.
    pub reasoning_effort: Option<String>,
    /// How often a request is tried again.
    pub retries: u32,
    /// How long to wait before the first further try.
    pub retry_delay: Duration,
    /// How long one request may take.
    pub request_timeout: Duration,
}

/// One model of models.toml.
#[derive(Clone, Debug, Deserialize)]
struct Known {
    provider: String,
    model: String,
    #[serde(flatten)]
    prices: Prices,
    context_tokens: u64,
    output_tokens_max: u64,
    #[allow(dead_code, reason = "for whoever checks the price")]
    source: String,
    #[allow(dead_code, reason = "for whoever checks the price")]
    date: String,
}

impl Model {
    /// Returns the model `name`: a name of the configuration, `provider/model`, or a model that models.toml lists.
    ///
    /// # Errors
    ///
    /// A sentence that says what is missing: a model without a price cannot be kept within a budget.
    pub fn find(name: &str, configured: &ModelsConfig) -> anyhow::Result<Self> {
        if let Some(config) = configured.0.get(name) {
            return Self::configured(config).with_context(|| format!("models.{name}"));
        }
        let found =
            known().iter().find(|known| known.model == name || format!("{}/{}", known.provider, known.model) == name);
        let Some(known) = found else {
            let configured = configured.0.keys().map(String::as_str);
            let names = known().iter().map(|known| known.model.as_str()).chain(configured);
            let hint = did_you_mean(nearest(name, names));
            bail!(
                "nothing is known of a model `{name}`{hint}: describe it as [models.\"{name}\"] with its price, see docs/models.md"
            );
        };
        Self::configured(&ModelConfig {
            provider: known.provider.clone(),
            model: known.model.clone(),
            base_url: None,
            api_key_env: None,
            price: None,
            context_tokens: None,
            output_tokens_max: None,
            stream: true,
            temperature: None,
            reasoning_effort: None,
            retries: retries_default(),
            retry_delay_ms: retry_delay_default(),
            request_timeout_ms: request_timeout_default(),
        })
    }

    fn configured(config: &ModelConfig) -> anyhow::Result<Self> {
        // Two wire formats of one provider, at one price.
        let provider = config.provider.trim_end_matches("_resp");
        let known = known().iter().find(|known| known.provider == provider && known.model == config.model);
        let prices = config.price.clone().or_else(|| known.map(|known| known.prices.clone()));
        let prices = prices.with_context(|| {
            format!(
                "the price of {}/{} is not known; without one it cannot be kept within a budget: give `price`",
                config.provider, config.model
            )
        })?;
        ensure!(prices.can_be_written(), "a price for a million tokens has at most six decimals");
        let context_tokens = config.context_tokens.or(known.map(|known| known.context_tokens));
        let context_tokens = context_tokens.context("give `context_tokens`")?;
        ensure!(context_tokens >= CONTEXT_TOKENS_MIN, "context_tokens is less than {CONTEXT_TOKENS_MIN}");
        let most = known.map_or(context_tokens / 4, |known| known.output_tokens_max);
        let output_tokens_max = config.output_tokens_max.unwrap_or(OUTPUT_TOKENS_DEFAULT.min(most)).max(1);
        ensure!(output_tokens_max <= context_tokens / 2, "output_tokens_max is more than half of context_tokens");
        if let Some(url) = &config.base_url {
            let is_safe = crate::config::is_safe_url(url, config.api_key_env.is_some());
            ensure!(is_safe, "`base_url` is not http:// or https://, or sends a key unencrypted to another machine");
        }
        Ok(Self {
            provider: config.provider.clone(),
            model: config.model.clone(),
            prices,
            context_tokens,
            output_tokens_max,
            base_url: config.base_url.clone(),
            api_key_env: config.api_key_env.clone(),
            stream: config.stream,
            temperature: config.temperature,
            reasoning_effort: config.reasoning_effort.clone(),
            retries: config.retries.min(20),
            retry_delay: Duration::from_millis(config.retry_delay_ms.clamp(1, 60_000)),
            request_timeout: Duration::from_millis(config.request_timeout_ms.max(1)),
        })
    }

    /// Returns the name under which its costs are kept: `provider/model`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.provider, self.model)
    }

    /// Returns the most that a request with so many input tokens and the longest answer can cost, and the least that is
    /// worth beginning with: an answer of `output_min` tokens.
    #[must_use]
    pub fn most(&self, input_tokens: u64, output_min: u64) -> (Money, Money) {
        let rates = self.prices.of(input_tokens);
        let input = rates.dearest_input().times(input_tokens);
        let answer = |tokens: u64| rates.output.times(tokens.min(self.output_tokens_max));
        (input + answer(output_min), input + answer(self.output_tokens_max))
    }
}

fn known() -> &'static [Known] {
    #[derive(Deserialize)]
    struct File {
        models: Vec<Known>,
    }
    static MODELS: OnceLock<Vec<Known>> = OnceLock::new();
    // What does not parse is found by the test below, not by users.
    MODELS.get_or_init(|| toml::from_str::<File>(KNOWN).map(|file| file.models).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(provider: &str, model: &str) -> ModelConfig {
        let text = format!("provider = {provider:?}\nmodel = {model:?}");
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn every_model_of_the_file_can_be_used_and_says_where_its_price_is_from() {
        let file: toml::Table = KNOWN.parse().unwrap();
        assert_eq!(known().len(), file["models"].as_array().unwrap().len(), "a model of models.toml does not parse");
        for known in known() {
            let model = Model::find(&known.model, &ModelsConfig::default()).unwrap();
            assert_eq!(model.id(), format!("{}/{}", known.provider, known.model));
            assert!(model.output_tokens_max <= known.output_tokens_max, "{}", known.model);
            assert!(known.source.starts_with("https://"), "{}", known.model);
            assert!(known.date.parse::<jiff::civil::Date>().is_ok(), "{}", known.model);
            assert!(Model::find(&model.id(), &ModelsConfig::default()).is_ok());
        }
    }

    #[test]
    fn model_without_a_price_is_refused() {
        let error = |name: &str, models: &ModelsConfig| format!("{:#}", Model::find(name, models).unwrap_err());
        let none = ModelsConfig::default();
        let unknown = error("claude-sonet-5-5", &none);
        assert!(unknown.contains("did you mean `claude-sonnet-5-5`"), "{unknown}");
        let mut models = ModelsConfig::default();
        models.0.insert("mine".into(), config("openai", "some-model"));
        assert!(error("mine", &models).contains("models.mine: the price of openai/some-model is not known"));
        let priced = ModelConfig {
            price: Some(toml::from_str("input = '1'\noutput = '2'").unwrap()),
            context_tokens: Some(32_000),
            ..config("openai", "some-model")
        };
        models.0.insert("mine".into(), priced.clone());
        assert_eq!(Model::find("mine", &models).unwrap().output_tokens_max, 8_000);
        models.0.insert("mine".into(), ModelConfig { context_tokens: Some(100), ..priced });
        assert!(error("mine", &models).contains("context_tokens is less than"));
    }

    #[test]
    fn key_never_travels_in_the_clear() {
        let with_url = |url: &str, key: Option<&str>| {
            let config = ModelConfig {
                base_url: Some(url.into()),
                api_key_env: key.map(str::to_owned),
                ..config("anthropic", "claude-opus-5-5")
            };
            Model::configured(&config).is_ok()
        };
        assert!(with_url("http://127.0.0.1:1/", Some("k")) && with_url("https://example.com/", Some("k")));
        assert!(with_url("http://10.0.0.1/v1/", None) && !with_url("http://10.0.0.1/v1/", Some("k")));
        assert!(!with_url("file:///etc", None));
    }
}
