//! Where telemetry goes, if anywhere: the table `[telemetry]`, and the environment variables that every OpenTelemetry SDK
//! reads.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::is_safe_url;

/// The table `[telemetry]`: traces and metrics over OTLP, as protobuf over HTTP. Nothing is sent when it is left out and the
/// environment names no collector.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Whether anything is sent. When left out, it is where `endpoint` or OTEL_EXPORTER_OTLP_ENDPOINT names a collector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The collector: `http://127.0.0.1:4318`; `/v1/traces` and `/v1/metrics` are put behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Headers of every request to it, such as `Authorization`; secrets as `${NAME}`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What it is called there, `tollgate` when left out; OTEL_SERVICE_NAME goes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// Whether traces are sent.
    pub traces: bool,
    /// Whether metrics are sent.
    pub metrics: bool,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            enabled: None,
            endpoint: None,
            headers: BTreeMap::new(),
            service_name: None,
            traces: true,
            metrics: true,
        }
    }
}

/// Where one signal goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To this address.
    Url(String),
    /// Where the environment says, else where every collector listens.
    Environment,
}

/// Where each signal goes; nothing where it is not sent.
pub(super) struct Targets {
    pub(super) traces: Option<Target>,
    pub(super) metrics: Option<Target>,
}

impl TelemetryConfig {
    /// Returns where to, with what `variables` of the environment say.
    pub(super) fn targets(&self, variables: &dyn Fn(&str) -> Option<String>) -> Targets {
        let is_off = self.enabled == Some(false) || is_true(variables("OTEL_SDK_DISABLED"));
        let target = |wanted: bool, signal: &str, path: &str| {
            let exporter = variables(&format!("OTEL_{signal}_EXPORTER"));
            if is_off || !wanted || exporter.is_some_and(|name| name == "none") {
                return None;
            }
            if let Some(base) = &self.endpoint {
                return Some(Target::Url(format!("{}{path}", base.trim_end_matches('/'))));
            }
            let names = ["OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")];
            let is_named = names.iter().any(|name| variables(name).is_some_and(|value| !value.is_empty()));
            (is_named || self.enabled == Some(true)).then_some(Target::Environment)
        };
        Targets {
            traces: target(self.traces, "TRACES", "/v1/traces"),
            metrics: target(self.metrics, "METRICS", "/v1/metrics"),
        }
    }

    /// Returns the headers of every request; nobody who prints them sees their values.
    pub(super) fn headers(&self) -> anyhow::Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let key: HeaderName =
                name.parse().ok().with_context(|| format!("telemetry.headers: `{name}` is not a name"))?;
            let mut value: HeaderValue = value.parse().ok().with_context(|| {
                format!("telemetry.headers: the value of `{name}` has characters that none can have")
            })?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        Ok(headers)
    }

    /// Checks what can be wrong before anything is sent.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let Some(endpoint) = &self.endpoint else { return Ok(()) };
        ensure!(
            endpoint.parse::<http::Uri>().is_ok() && is_safe_url(endpoint, !self.headers.is_empty()),
            "telemetry.endpoint is not http:// or https://, or `headers` would go unencrypted to another machine"
        );
        Ok(())
    }
}

fn is_true(value: Option<String>) -> bool {
    value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(config: &TelemetryConfig, variables: &[(&str, &str)]) -> (bool, bool) {
        let find =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let targets = config.targets(&find);
        (targets.traces.is_some(), targets.metrics.is_some())
    }

    fn config(toml: &str) -> TelemetryConfig {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn nothing_is_sent_until_somebody_says_where_to() {
        let none = config("");
        let named = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")];
        assert_eq!(targets(&none, &[]), (false, false));
        assert_eq!(targets(&none, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), (false, false));
        assert_eq!(targets(&none, &named), (true, true));
        assert_eq!(targets(&none, &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c")]), (true, false));
        assert_eq!(targets(&config("enabled = true"), &[]), (true, true));
        assert_eq!(targets(&config("endpoint = 'http://c:4318'\nmetrics = false"), &[]), (true, false));
        assert_eq!(targets(&config("enabled = false"), &named), (false, false));
        assert_eq!(targets(&none, &[named[0], ("OTEL_SDK_DISABLED", "TRUE")]), (false, false));
        assert_eq!(targets(&none, &[named[0], ("OTEL_TRACES_EXPORTER", "none")]), (false, true));
    }

    #[test]
    fn signals_have_their_paths_behind_the_endpoint() {
        for endpoint in ["http://c:4318", "http://c:4318/"] {
            let targets = config(&format!("endpoint = '{endpoint}'")).targets(&|_| None);
            assert_eq!(targets.traces, Some(Target::Url("http://c:4318/v1/traces".to_owned())));
            assert_eq!(targets.metrics, Some(Target::Url("http://c:4318/v1/metrics".to_owned())));
        }
    }

    #[test]
    fn secrets_go_over_tls_or_stay_here() {
        let with = |endpoint: &str| config(&format!("endpoint = '{endpoint}'\nheaders = {{ Authorization = 'x' }}"));
        for endpoint in ["https://example.com", "http://127.0.0.1:4318", "http://localhost:4318"] {
            assert!(with(endpoint).check().is_ok(), "{endpoint}");
        }
        for endpoint in [
            "http://example.com:4318",
            "example.com",
            "ftp://localhost",
            "http://127.0.0.1@example.com",
            "http://example.com\\@127.0.0.1",
            "",
        ] {
            assert!(with(endpoint).check().is_err(), "{endpoint}");
        }
        assert!(config("endpoint = 'http://collector:4318'").check().is_ok());
        let headers = with("https://example.com").headers().unwrap();
        assert!(!format!("{headers:?}").contains("\"x\""), "{headers:?}");
        assert!(config("headers = { 'a b' = 'x' }").headers().is_err());
    }
}
