//! Spans: what is under way, what it is counted as when it ends, and whose work is part of whose.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use opentelemetry::trace::{SpanKind, SpanRef, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use pin_project_lite::pin_project;
use tollgate_shared::receipt::{Outcome, Receipt};

use super::{Telemetry, cut, get};

/// Codes that this program gives to calls. Others come from the server, and of a foreign one nobody knows what they say.
const HOUSE_CODES: &[&str] = &[
    "answer_lost",
    "answer_too_large",
    "budget_exceeded",
    "budget_unavailable",
    "cancelled",
    "identity_unproven",
    "input_required",
    "protocol_error",
    "server_died",
    "server_unavailable",
    "timeout",
    "unknown_server",
];

/// What `error.type` says of a tool that answers with an error.
pub(super) const TOOL_ERROR: &str = "tool_error";

/// Which metrics a piece of work is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A request to a model.
    Chat,
    /// A request to a server.
    Client,
    /// A request of a host.
    Server,
    /// A tool of the loop's own.
    Tool,
    /// An agent at its task.
    Agent,
    /// None.
    Plain,
}

impl Kind {
    fn on_the_wire(self) -> SpanKind {
        match self {
            Self::Chat | Self::Client => SpanKind::Client,
            Self::Server => SpanKind::Server,
            Self::Tool | Self::Agent | Self::Plain => SpanKind::Internal,
        }
    }
}

/// A piece of work under way; it ends when this is dropped.
pub(crate) struct Span {
    context: Context,
    work: Arc<Work>,
    telemetry: &'static Telemetry,
}

/// What a piece of work is counted as; whoever works on it finds it in the context.
pub(super) struct Work {
    pub(super) kind: Kind,
    /// Whether the codes of its receipt may be anybody's words.
    is_strange: AtomicBool,
    began: Instant,
    /// What its duration is told with.
    labels: Mutex<Vec<KeyValue>>,
    /// What its cost is told with.
    goods: Mutex<Vec<KeyValue>>,
    error: OnceLock<String>,
    sent: OnceLock<Instant>,
    took: OnceLock<Duration>,
}

/// What a span begins with.
pub(super) struct Beginning {
    pub(super) kind: Kind,
    /// In place of what follows from `kind`.
    pub(super) span_kind: Option<SpanKind>,
    pub(super) name: Cow<'static, str>,
    pub(super) is_own: bool,
    /// Attributes that metrics have too: of few values, all of the catalogue or the configuration.
    pub(super) labels: Vec<KeyValue>,
    pub(super) goods: Vec<KeyValue>,
    /// Further attributes.
    pub(super) attributes: Vec<KeyValue>,
    /// What it is part of, where that is not what is under way here.
    pub(super) parent: Option<Context>,
}

impl Beginning {
    pub(super) fn new(kind: Kind, name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            span_kind: None,
            name: name.into(),
            is_own: true,
            labels: Vec::new(),
            goods: Vec::new(),
            attributes: Vec::new(),
            parent: None,
        }
    }
}

impl Span {
    /// Begins a span as part of what is under way here.
    pub(super) fn begin(telemetry: &'static Telemetry, beginning: Beginning) -> Self {
        let Beginning { kind, span_kind, name, is_own, labels, goods, mut attributes, parent } = beginning;
        let parent = parent.unwrap_or_else(Context::current);
        attributes.extend(labels.iter().chain(&goods).cloned());
        let work = Arc::new(Work {
            kind,
            is_strange: AtomicBool::new(!is_own),
            began: Instant::now(),
            labels: Mutex::new(labels),
            goods: Mutex::new(goods),
            error: OnceLock::new(),
            sent: OnceLock::new(),
            took: OnceLock::new(),
        });
        let context = match &telemetry.tracer {
            Some(tracer) => {
                let builder = tracer.span_builder(name).with_kind(span_kind.unwrap_or(kind.on_the_wire()));
                let span = builder.with_attributes(attributes).start_with_context(tracer, &parent);
                parent.with_span(span)
            }
            None => parent,
        };
        Self { context: context.with_value(Arc::clone(&work)), work, telemetry }
    }

    /// Returns the context of what is part of this.
    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// Does `future` as part of this.
    pub(crate) fn within<F: Future>(&self, future: F) -> Within<F> {
        attached(Some(&self.context), future)
    }

    pub(super) fn set(&self, attribute: KeyValue) {
        self.context.span().set_attribute(attribute);
    }

    /// Says that it goes wrong; what was said first stands.
    pub(crate) fn fail(&self, error: &str) {
        self.work.fail(error);
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let span = self.context.span();
        if let Some(error) = self.work.error.get() {
            span.set_attribute(KeyValue::new("error.type", error.clone()));
            // In words it may say anything.
            span.set_status(Status::error(""));
        }
        if let Some(metrics) = &self.telemetry.metrics {
            metrics.ended(&self.work);
        }
        span.end();
    }
}

impl Work {
    pub(super) fn fail(&self, error: &str) {
        let _ = self.error.set(cut(error));
    }

    pub(super) fn error(&self) -> Option<&str> {
        self.error.get().map(String::as_str)
    }

    /// Says whether the codes of its receipt may be anybody's words.
    pub(super) fn strange(&self, is_strange: bool) {
        self.is_strange.store(is_strange, Ordering::Relaxed);
    }

    /// Says that its request is on its way.
    pub(super) fn sent(&self) {
        let _ = self.sent.set(Instant::now());
    }

    /// Says that its request is answered.
    pub(super) fn heard(&self) {
        if let Some(sent) = self.sent.get() {
            let _ = self.took.set(sent.elapsed());
        }
    }

    /// Returns how long its request took, or all of it where it is no request; nothing where none was made.
    pub(super) fn duration(&self) -> Option<Duration> {
        match self.kind {
            Kind::Chat | Kind::Client => self.took.get().copied().or_else(|| Some(self.sent.get()?.elapsed())),
            Kind::Server | Kind::Tool | Kind::Agent | Kind::Plain => Some(self.began.elapsed()),
        }
    }

    pub(super) fn label(&self, label: KeyValue) {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner).push(label);
    }

    pub(super) fn labels(&self) -> Vec<KeyValue> {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says what its cost is told with.
    pub(super) fn sells(&self, goods: Vec<KeyValue>) {
        *self.goods.lock().unwrap_or_else(PoisonError::into_inner) = goods;
    }

    pub(super) fn goods(&self) -> Vec<KeyValue> {
        self.goods.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Does `future` as part of `span`, where there is one.
pub(crate) fn within<F: Future>(span: Option<&Span>, future: F) -> Within<F> {
    attached(span.map(|span| &span.context), future)
}

/// Does `future` in `context`, where there is one.
pub(super) fn attached<F: Future>(context: Option<&Context>, future: F) -> Within<F> {
    Within { context: context.cloned(), future }
}

pin_project! {
    /// Work that is part of something. No async function: it would have its argument twice.
    pub(crate) struct Within<F> {
        context: Option<Context>,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut std::task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _here = this.context.clone().map(Context::attach);
        this.future.poll(task)
    }
}

/// Looks at what is under way here.
pub(super) fn here<R>(look: impl FnOnce(&Work, &SpanRef<'_>) -> R) -> Option<R> {
    get()?;
    Context::map_current(|context| Some(look(context.get::<Arc<Work>>()?, &context.span())))
}

/// Tells what the call under way here cost; once for each receipt that this process has or writes.
pub(crate) fn receipt(receipt: &Receipt) {
    let Some(telemetry) = get() else { return };
    here(|work, span| {
        let code = receipt.code.as_deref().map(|code| told(code, !work.is_strange.load(Ordering::Relaxed)));
        let text = |key: &'static str, value: &str| KeyValue::new(key, cut(value));
        let mut attributes = vec![
            KeyValue::new("tollgate.receipt.id", receipt.id.to_string()),
            KeyValue::new("tollgate.cost.usd", receipt.amount.normalized().to_string()),
            KeyValue::new("tollgate.outcome", receipt.outcome.as_str()),
            KeyValue::new("tollgate.cached", receipt.cached),
            text("tollgate.agent.name", &receipt.agent.name),
        ];
        attributes.extend(receipt.agent.role.as_deref().map(|role| text("tollgate.agent.role", role)));
        attributes.extend(receipt.task_id.as_deref().map(|task| text("tollgate.task.id", task)));
        attributes.extend(code.map(|code| text("tollgate.code", code)));
        span.set_attributes(attributes);
        if let Some(error) = error_type(work, receipt.outcome, code) {
            work.fail(error);
        }
        if let Some(metrics) = &telemetry.metrics {
            metrics.paid(receipt, code, work);
        }
    });
}

/// Returns the code as it may be told: a word of the house, not of a stranger.
fn told(code: &str, is_own: bool) -> &str {
    let is_word =
        code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'0'..=b'9'));
    if HOUSE_CODES.contains(&code) || is_own && is_word { code } else { TOOL_ERROR }
}

fn error_type<'a>(work: &Work, outcome: Outcome, code: Option<&'a str>) -> Option<&'a str> {
    if outcome == Outcome::Ok || code == Some("input_required") {
        return None;
    }
    match (work.kind, code) {
        // What the host did wrong is told with the answer to it.
        (Kind::Server, Some("protocol_error")) => None,
        (Kind::Chat | Kind::Agent | Kind::Plain, Some(code)) => Some(code),
        (_, Some(code)) if HOUSE_CODES.contains(&code) => Some(code),
        _ => Some(TOOL_ERROR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_strangers_are_not_told() {
        for (code, is_own, shown) in [
            ("protected_branch", true, "protected_branch"),
            ("budget_exceeded", false, "budget_exceeded"),
            ("hunter2", false, TOOL_ERROR),
            ("Not a word", true, TOOL_ERROR),
            (&"x".repeat(65), true, TOOL_ERROR),
        ] {
            assert_eq!(told(code, is_own), shown, "{code}");
        }
    }
}
