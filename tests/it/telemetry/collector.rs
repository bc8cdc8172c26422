//! A collector on this machine: it takes what the protocol's own types can read, and remembers every byte.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric, number_data_point};
use prost::Message;
use serde_json::{Value, json};
use tollgate_shared::money::Money;

/// How long it is waited for something that arrives later.
const ARRIVAL_MAX: Duration = Duration::from_secs(30);

/// What it does with a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Takes,
    /// Answers with this status.
    Says(u16),
    /// Takes the connection, and never answers.
    Hangs,
}

/// The collector; it ends with the process.
pub struct Collector {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    connections: usize,
    requests: Vec<Received>,
}

struct Received {
    path: String,
    headers: Vec<String>,
    body: Vec<u8>,
}

/// A span as it arrived.
#[derive(Clone, Debug)]
pub struct Span {
    pub name: String,
    pub kind: i32,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub state: String,
    pub attributes: BTreeMap<String, Value>,
    pub is_error: bool,
}

/// One line of a metric.
#[derive(Clone, Debug)]
pub struct Point {
    pub labels: BTreeMap<String, Value>,
    pub sum: f64,
    pub count: u64,
    pub bounds: Vec<f64>,
}

impl Span {
    pub fn text(&self, key: &str) -> &str {
        self.attributes.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

impl Collector {
    pub fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                shared.lock().unwrap().connections += 1;
                let state = Arc::clone(&shared);
                std::thread::spawn(move || while serve(&stream, mood, &state).is_some() {});
            }
        });
        Self { address, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often somebody connected.
    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// Whether a text is anywhere in what arrived, but for the heads of the requests.
    pub fn has_seen(&self, text: &str) -> bool {
        let seen = |body: &[u8]| body.windows(text.len()).any(|window| window == text.as_bytes());
        self.state.lock().unwrap().requests.iter().any(|request| seen(&request.body))
    }

    /// The value of a header, of every request.
    pub fn header(&self, name: &str) -> Vec<String> {
        let prefix = format!("{name}: ");
        let of = |request: &Received| {
            let line = request.headers.iter().find(|line| line.to_lowercase().starts_with(&prefix)).cloned();
            line.map(|line| line[prefix.len()..].to_owned()).unwrap_or_default()
        };
        self.state.lock().unwrap().requests.iter().map(of).collect()
    }

    /// Every span, in the order in which they ended.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for body in self.bodies("/v1/traces") {
            let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
            for span in request.resource_spans.into_iter().flat_map(|of| of.scope_spans).flat_map(|of| of.spans) {
                spans.push(Span {
                    name: span.name,
                    kind: span.kind,
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    state: span.trace_state,
                    attributes: attributes(span.attributes),
                    is_error: span.status.is_some_and(|status| status.code == 2),
                });
            }
        }
        spans
    }

    /// The attributes of whoever sent traces.
    pub fn resource(&self) -> BTreeMap<String, Value> {
        let body = self.bodies("/v1/traces").into_iter().next().unwrap();
        let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        attributes(request.resource_spans.into_iter().next().unwrap().resource.unwrap().attributes)
    }

    /// The one span that is wanted, as soon as it is there.
    pub fn span(&self, is_wanted: impl Fn(&Span) -> bool) -> Span {
        let begun = Instant::now();
        loop {
            let spans = self.spans();
            let mut found: Vec<Span> = spans.iter().filter(|span| is_wanted(span)).cloned().collect();
            if found.len() == 1 {
                return found.remove(0);
            }
            assert!(begun.elapsed() < ARRIVAL_MAX && found.is_empty(), "{} of {spans:#?}", found.len());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What all spans of `is_wanted` cost.
    pub fn cost(&self, is_wanted: impl Fn(&Span) -> bool) -> Money {
        let spans = self.spans();
        let costs =
            spans.iter().filter(|span| is_wanted(span)).filter_map(|span| span.attributes.get("tollgate.cost.usd"));
        costs.map(|cost| cost.as_str().unwrap().parse::<Money>().unwrap()).sum()
    }

    /// The lines of a metric as they were sent last, with its unit.
    pub fn metric(&self, name: &str) -> (String, Vec<Point>) {
        let mut last = (String::new(), Vec::new());
        for body in self.bodies("/v1/metrics") {
            let request = ExportMetricsServiceRequest::decode(&body[..]).unwrap();
            let metrics =
                request.resource_metrics.into_iter().flat_map(|of| of.scope_metrics).flat_map(|of| of.metrics);
            for metric in metrics.filter(|metric| metric.name == name) {
                last = (metric.unit.clone(), points(metric));
            }
        }
        last
    }

    fn bodies(&self, path: &str) -> Vec<Vec<u8>> {
        let state = self.state.lock().unwrap();
        let of = state.requests.iter().filter(|request| request.path == path);
        of.map(|request| request.body.clone()).collect()
    }
}

fn points(metric: Metric) -> Vec<Point> {
    match metric.data {
        Some(metric::Data::Histogram(histogram)) => {
            let points = histogram.data_points.into_iter().map(|point| Point {
                labels: attributes(point.attributes),
                sum: point.sum.unwrap_or_default(),
                count: point.count,
                bounds: point.explicit_bounds,
            });
            points.collect()
        }
        Some(metric::Data::Sum(sum)) => {
            let value = |value: number_data_point::Value| match value {
                number_data_point::Value::AsDouble(value) => value,
                #[expect(clippy::cast_precision_loss, reason = "tests count to a few thousand")]
                number_data_point::Value::AsInt(value) => value as f64,
            };
            let points = sum.data_points.into_iter().map(|point| Point {
                labels: attributes(point.attributes),
                sum: point.value.map(value).unwrap_or_default(),
                count: 0,
                bounds: Vec::new(),
            });
            points.collect()
        }
        other => panic!("{} is {other:?}", metric.name),
    }
}

fn attributes(attributes: Vec<KeyValue>) -> BTreeMap<String, Value> {
    let read = |attribute: KeyValue| (attribute.key, attribute.value.map_or(Value::Null, |value| value_of(&value)));
    attributes.into_iter().map(read).collect()
}

fn value_of(value: &AnyValue) -> Value {
    match &value.value {
        Some(any_value::Value::StringValue(text)) => json!(text),
        Some(any_value::Value::BoolValue(value)) => json!(value),
        Some(any_value::Value::IntValue(value)) => json!(value),
        Some(any_value::Value::DoubleValue(value)) => json!(value),
        other => panic!("no attribute here is {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn serve(mut stream: &TcpStream, mood: Mood, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        headers.push(line.trim().to_owned());
    }
    let length =
        headers.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    state.lock().unwrap().requests.push(Received { path, headers, body });
    let status = match mood {
        Mood::Takes => 200,
        Mood::Says(status) => status,
        Mood::Hangs => {
            std::thread::sleep(Duration::from_secs(600));
            return None;
        }
    };
    let head = format!("HTTP/1.1 {status} Status\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()
}
