//! Sending: in threads and with queues of their own, so that nothing waits for a collector. What cannot be sent is dropped,
//! and said once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_trait::async_trait;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, ResponseBodyTooLarge};
use opentelemetry_otlp::{MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanData, SpanProcessor};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::SCOPE;
use super::config::{Target, Targets, TelemetryConfig};
use crate::config::is_safe_url;

/// Longest that the end of the program waits for a collector: enough for one that lives, and no reason to reach for Ctrl-C.
pub(super) const STOP_MAX: Duration = Duration::from_secs(3);

/// How long one request to a collector may take when OTEL_EXPORTER_OTLP_TIMEOUT does not say.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Largest answer of a collector that is read: it has nothing to say.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What is measured by, and sent.
pub(super) struct Exports {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
    delivery: Arc<Delivery>,
}

/// What became of what was measured.
#[derive(Default)]
struct Delivery {
    ended: AtomicUsize,
    delivered: AtomicUsize,
    is_told: AtomicBool,
}

impl Exports {
    /// Prepares to send; nothing is sent before something is measured.
    pub(super) fn new(config: &TelemetryConfig, targets: &Targets) -> anyhow::Result<Self> {
        let web: Arc<dyn HttpClient> = Arc::new(Web::new(config)?);
        let delivery = Arc::new(Delivery::default());
        let resource = resource(config);
        tell_protocol();
        let traces = targets.traces.as_ref().map(|target| {
            let mut builder = SpanExporter::builder().with_http().with_shared_http_client(Arc::clone(&web));
            builder = builder.with_protocol(Protocol::HttpBinary);
            if let Target::Url(url) = target {
                builder = builder.with_endpoint(url);
            }
            let exporter = builder.build().context("traces")?;
            let sent = SentSpans { exporter, delivery: Arc::clone(&delivery) };
            let counted = Counted { inner: BatchSpanProcessor::builder(sent).build(), delivery: Arc::clone(&delivery) };
            let provider = SdkTracerProvider::builder().with_resource(resource.clone()).with_span_processor(counted);
            anyhow::Ok(provider.build())
        });
        let metrics = targets.metrics.as_ref().map(|target| {
            let mut builder = MetricExporter::builder().with_http().with_shared_http_client(Arc::clone(&web));
            builder = builder.with_protocol(Protocol::HttpBinary);
            if let Target::Url(url) = target {
                builder = builder.with_endpoint(url);
            }
            let exporter = builder.build().context("metrics")?;
            let sent = SentMetrics { exporter, delivery: Arc::clone(&delivery) };
            let reader = PeriodicReader::builder(sent).build();
            anyhow::Ok(SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(reader).build())
        });
        Ok(Self { traces: traces.transpose()?, metrics: metrics.transpose()?, delivery })
    }

    pub(super) fn tracer(&self) -> Option<SdkTracer> {
        self.traces.as_ref().map(|provider| provider.tracer(SCOPE))
    }

    pub(super) fn meter(&self) -> Option<Meter> {
        self.metrics.as_ref().map(|provider| provider.meter(SCOPE))
    }

    /// Sends what is left, for at most [`STOP_MAX`], whatever the collector does.
    pub(super) fn stop(&self) {
        let (done, waiting) = mpsc::channel();
        let mut open = 0;
        // In threads that nobody waits for when the time is over: they end with the process.
        if let Some(traces) = self.traces.clone() {
            let done = done.clone();
            open += 1;
            std::thread::spawn(move || {
                let _ = traces.shutdown_with_timeout(STOP_MAX);
                let _ = done.send(());
            });
        }
        if let Some(metrics) = self.metrics.clone() {
            open += 1;
            std::thread::spawn(move || {
                let _ = metrics.shutdown_with_timeout(STOP_MAX);
                let _ = done.send(());
            });
        }
        let until = Instant::now() + STOP_MAX;
        while open > 0 && waiting.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok() {
            open -= 1;
        }
        let (ended, delivered) =
            (self.delivery.ended.load(Ordering::Relaxed), self.delivery.delivered.load(Ordering::Relaxed));
        if ended > delivered || open > 0 {
            tracing::warn!(spans = ended.saturating_sub(delivered), of = ended, "telemetry was dropped");
        }
    }
}

impl Delivery {
    /// Says that something is dropped, the first time only.
    fn failed(&self, result: &OTelSdkResult) {
        if let Err(error) = result
            && !self.is_told.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "the collector does not take telemetry; what cannot be sent is dropped");
        }
    }
}

/// Counts what is to be sent.
#[derive(Debug)]
struct Counted {
    inner: BatchSpanProcessor,
    delivery: Arc<Delivery>,
}

impl SpanProcessor for Counted {
    fn on_start(&self, span: &mut opentelemetry_sdk::trace::Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        self.delivery.ended.fetch_add(1, Ordering::Relaxed);
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Sends spans, and sees whether they arrive.
#[derive(Debug)]
struct SentSpans {
    exporter: SpanExporter,
    delivery: Arc<Delivery>,
}

impl opentelemetry_sdk::trace::SpanExporter for SentSpans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = self.exporter.export(batch).await;
        self.delivery.failed(&result);
        if result.is_ok() {
            self.delivery.delivered.fetch_add(count, Ordering::Relaxed);
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Sends metrics, and sees whether they arrive.
struct SentMetrics {
    exporter: MetricExporter,
    delivery: Arc<Delivery>,
}

impl PushMetricExporter for SentMetrics {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let result = self.exporter.export(metrics).await;
        self.delivery.failed(&result);
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Delivery")
    }
}

/// The web, for the SDK's threads, which have no runtime of their own.
struct Web {
    client: reqwest::Client,
    /// For this machine, which no proxy stands before.
    direct: reqwest::Client,
    has_secrets: bool,
    runtime: Handle,
}

impl Web {
    fn new(config: &TelemetryConfig) -> anyhow::Result<Self> {
        // One provider of cryptography for the whole program; whoever comes second finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let timeout = std::env::var("OTEL_EXPORTER_OTLP_TIMEOUT").ok().and_then(|text| text.trim().parse().ok());
        let headers = config.headers()?;
        let has_secrets = !headers.is_empty();
        let client = || {
            reqwest::Client::builder()
                .timeout(timeout.map_or(REQUEST_MAX, Duration::from_millis))
                // Its headers are for the collector alone.
                .redirect(reqwest::redirect::Policy::none())
                .default_headers(headers.clone())
        };
        let unmade = "cannot make an HTTP client";
        let (direct, client) = (client().no_proxy().build().context(unmade)?, client().build().context(unmade)?);
        Ok(Self { client, direct, has_secrets, runtime: Handle::current() })
    }
}

#[async_trait]
impl HttpClient for Web {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let url = request.uri().to_string();
        let stays_here = request.uri().scheme_str() == Some("http") && is_safe_url(&url, true);
        // The address may be the environment's, which nobody has checked.
        if self.has_secrets && !is_safe_url(&url, true) {
            return Err("`telemetry.headers` would go unencrypted to another machine".into());
        }
        let client = if stays_here { &self.direct } else { &self.client };
        self.runtime.spawn(exchange(client.clone(), request)).await?
    }
}

async fn exchange(client: reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let mut answer = client.execute(request.try_into()?).await?;
    let mut whole = Response::new(Bytes::new());
    *whole.status_mut() = answer.status();
    *whole.headers_mut() = std::mem::take(answer.headers_mut());
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Box::new(ResponseBodyTooLarge::new()));
        }
        body.extend_from_slice(&chunk);
    }
    *whole.body_mut() = body.into();
    Ok(whole)
}

impl fmt::Debug for Web {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Web")
    }
}

/// Returns who measures: this program, and which of its processes.
fn resource(config: &TelemetryConfig) -> Resource {
    let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let has_name = named("OTEL_SERVICE_NAME").is_some()
        || named("OTEL_RESOURCE_ATTRIBUTES")
            .is_some_and(|all| all.split(',').any(|one| one.trim().starts_with("service.name=")));
    let mut attributes = vec![
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        // Counters of two processes are two counters.
        KeyValue::new("service.instance.id", Uuid::now_v7().to_string()),
    ];
    if !has_name {
        let name = config.service_name.clone().unwrap_or_else(|| "tollgate".to_owned());
        attributes.push(KeyValue::new("service.name", name));
    }
    Resource::builder().with_attributes(attributes).build()
}

/// Says what is not spoken, where the environment wants it.
fn tell_protocol() {
    for name in
        ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"]
    {
        if let Ok(wanted) = std::env::var(name)
            && !["", "http/protobuf"].contains(&wanted.trim())
        {
            tracing::warn!(variable = name, "telemetry is sent as http/protobuf, which is all that is spoken here");
        }
    }
}
