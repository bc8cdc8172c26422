//! OpenTelemetry: traces and metrics of tasks, model requests and tool calls, over OTLP. Off until somebody says where to.
//!
//! Names are those of the semantic conventions for GenAI and MCP, release 0.1.0; what is only Tollgate's begins with
//! `tollgate.`. Nothing that was said, asked, answered or written is told: no prompt, no argument, no result, no path, no
//! address but a host's name. While it is off every call of this module looks at [`get`] and returns.

mod config;
mod export;
pub(crate) mod mcp;
mod metrics;
pub(crate) mod model;
mod span;
pub(crate) mod task;

use std::sync::OnceLock;

use opentelemetry_sdk::trace::SdkTracer;

pub use config::TelemetryConfig;
pub(crate) use span::{receipt, within};

use export::Exports;
use metrics::Metrics;

/// What every scope of instrumentation is called.
const SCOPE: &str = "tollgate.orchestrator";

/// Longest value of an attribute that anybody but this program wrote, in characters.
const VALUE_CHARS_MAX: usize = 128;

static TELEMETRY: OnceLock<Telemetry> = OnceLock::new();

/// What is measured with, once it was started.
struct Telemetry {
    tracer: Option<SdkTracer>,
    metrics: Option<Metrics>,
    exports: Exports,
}

/// Begins to measure, where `config` or the environment says where to; once in a process, inside its runtime.
///
/// # Errors
///
/// A sentence that names the key of `[telemetry]` that cannot be used. What is wrong with the environment is only told: it may
/// be meant for other programs.
pub(crate) fn start(config: &TelemetryConfig) -> anyhow::Result<()> {
    config.check()?;
    let targets = config.targets(&|name| std::env::var(name).ok());
    if targets.traces.is_none() && targets.metrics.is_none() {
        return Ok(());
    }
    let exports = match Exports::new(config, &targets) {
        Ok(exports) => exports,
        Err(error) if config.endpoint.is_some() => return Err(error.context("telemetry")),
        // Without the cause, which has the address and whatever is in it.
        Err(_) => {
            tracing::warn!("no telemetry is sent: OTEL_EXPORTER_OTLP_ENDPOINT or one of its kind is no address");
            return Ok(());
        }
    };
    let (tracer, metrics) = (exports.tracer(), exports.meter().map(|meter| Metrics::new(&meter)));
    let _ = TELEMETRY.set(Telemetry { tracer, metrics, exports });
    Ok(())
}

/// Sends what is left, for at most [`export::STOP_MAX`]; blocks, while the runtime carries it.
pub(crate) fn stop() {
    if let Some(telemetry) = get() {
        telemetry.exports.stop();
    }
}

/// Whether anything is measured.
pub(crate) fn is_on() -> bool {
    get().is_some()
}

/// Returns what is measured with; nothing while it is off.
fn get() -> Option<&'static Telemetry> {
    TELEMETRY.get()
}

/// Cuts a value that somebody else wrote.
fn cut(value: &str) -> String {
    value.chars().take(VALUE_CHARS_MAX).collect()
}
