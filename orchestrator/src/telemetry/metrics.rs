//! What is counted: durations, tokens, money, refusals. Every label has few values, of the catalogue or the configuration.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};
use tollgate_shared::receipt::{Outcome, Receipt};

use super::span::{Kind, Work};
use crate::model::price::Tokens;

/// The conventions' bucket boundaries for requests to models and for tools, in seconds.
const REQUEST_BUCKETS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/// The conventions' bucket boundaries for MCP, in seconds.
const MCP_BUCKETS: [f64; 14] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// The conventions' bucket boundaries for agents, in seconds.
const AGENT_BUCKETS: [f64; 13] = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6];

/// The conventions' bucket boundaries for tokens.
const TOKEN_BUCKETS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// The instruments.
pub(super) struct Metrics {
    /// The same by its name in release 0.1.0 and by the one before, which most collectors know.
    chat: [Histogram<f64>; 2],
    client: Histogram<f64>,
    server: Histogram<f64>,
    tool: Histogram<f64>,
    agent: Histogram<f64>,
    input: Histogram<u64>,
    output: Histogram<u64>,
    /// Both, by the name that they had before release 0.1.0.
    tokens: Histogram<u64>,
    used: Used,
    cost: Counter<f64>,
    refusals: Counter<u64>,
}

/// Tokens used altogether, by kind.
struct Used {
    input: Counter<u64>,
    output: Counter<u64>,
    cache_read: Counter<u64>,
    cache_write: Counter<u64>,
    reasoning: Counter<u64>,
}

impl Metrics {
    pub(super) fn new(meter: &Meter) -> Self {
        let seconds = |name: &'static str, buckets: &[f64], description: &'static str| {
            let builder = meter.f64_histogram(name).with_unit("s").with_description(description);
            builder.with_boundaries(buckets.to_vec()).build()
        };
        let tokens = |name: &'static str, description: &'static str| {
            let builder = meter.u64_histogram(name).with_unit("{token}").with_description(description);
            builder.with_boundaries(TOKEN_BUCKETS.to_vec()).build()
        };
        let used = |name: &'static str| meter.u64_counter(name).with_unit("{token}").build();
        let of_chat = "Duration of requests to models.";
        Self {
            chat: [
                seconds("gen_ai.client.inference.duration", &REQUEST_BUCKETS, of_chat),
                seconds("gen_ai.client.operation.duration", &REQUEST_BUCKETS, of_chat),
            ],
            client: seconds("mcp.client.operation.duration", &MCP_BUCKETS, "Duration of requests to MCP servers."),
            server: seconds("mcp.server.operation.duration", &MCP_BUCKETS, "Duration of requests of MCP hosts."),
            tool: seconds("gen_ai.execute_tool.duration", &REQUEST_BUCKETS, "Duration of the loop's own tools."),
            agent: seconds("gen_ai.invoke_agent.duration", &AGENT_BUCKETS, "Duration of tasks."),
            input: tokens("gen_ai.client.inference.operation.input_tokens", "Tokens sent per request."),
            output: tokens("gen_ai.client.inference.operation.output_tokens", "Tokens answered per request."),
            tokens: tokens("gen_ai.client.token.usage", "Tokens per request."),
            used: Used {
                input: used("gen_ai.client.inference.usage.input_tokens"),
                output: used("gen_ai.client.inference.usage.output_tokens"),
                cache_read: used("gen_ai.client.inference.usage.cache_read.input_tokens"),
                cache_write: used("gen_ai.client.inference.usage.cache_write.input_tokens"),
                reasoning: used("gen_ai.client.inference.usage.reasoning.output_tokens"),
            },
            cost: meter
                .f64_counter("tollgate.cost")
                .with_unit("{USD}")
                .with_description("What calls cost; the ledger has it exactly.")
                .build(),
            refusals: meter
                .u64_counter("tollgate.refusals")
                .with_unit("{call}")
                .with_description("Calls that a rule refused, by its code.")
                .build(),
        }
    }

    /// Counts how long a piece of work took.
    pub(super) fn ended(&self, work: &Work) {
        let Some(duration) = work.duration().map(|duration| duration.as_secs_f64()) else { return };
        let mut labels = work.labels();
        labels.extend(work.error().map(|error| KeyValue::new("error.type", error.to_owned())));
        match work.kind {
            Kind::Chat => self.chat.iter().for_each(|histogram| histogram.record(duration, &labels)),
            Kind::Client => self.client.record(duration, &labels),
            Kind::Server => self.server.record(duration, &labels),
            Kind::Tool => self.tool.record(duration, &labels),
            Kind::Agent => self.agent.record(duration, &labels),
            Kind::Plain => {}
        }
    }

    /// Counts what a request to a model used, as its provider reports it.
    pub(super) fn used(&self, tokens: &Tokens, work: &Work) {
        let labels = work.labels();
        let with = |key: &'static str, value: &'static str| [labels.clone(), vec![KeyValue::new(key, value)]].concat();
        let (input, output) = (tokens.sent(), tokens.output.saturating_add(tokens.reasoning));
        self.input.record(input, &labels);
        self.output.record(output, &labels);
        self.tokens.record(input, &with("gen_ai.token.type", "input"));
        self.tokens.record(output, &with("gen_ai.token.type", "output"));
        let text = with("gen_ai.token.modality", "text");
        self.used.input.add(input, &text);
        self.used.output.add(output, &text);
        self.used.cache_read.add(tokens.cache_read, &text);
        self.used.cache_write.add(tokens.cache_write, &text);
        self.used.reasoning.add(tokens.reasoning, &text);
    }

    /// Counts what a call cost, or that it was refused.
    pub(super) fn paid(&self, receipt: &Receipt, code: Option<&str>, work: &Work) {
        let mut labels = work.goods();
        if !receipt.amount.is_zero() {
            // The one place where money is no decimal: a counter of OTLP cannot be one.
            self.cost.add(receipt.amount.to_string().parse().unwrap_or_default(), &labels);
        }
        if receipt.outcome == Outcome::Refused {
            labels.extend(code.map(|code| KeyValue::new("tollgate.code", code.to_owned())));
            self.refusals.add(1, &labels);
        }
    }
}
