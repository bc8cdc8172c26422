//! Tasks: who is at work on one, in which iteration, and what came of it.

use std::sync::{Mutex, PoisonError};

use opentelemetry::{Context, KeyValue};
use tollgate_shared::identity::Identity;
use tollgate_shared::money::Money;

use super::span::{Beginning, Kind, Span, Within, attached};
use super::{cut, get};
use crate::session::{Ending, Phase, Session, VerdictRecord};
use crate::task::{Event, TaskError, TaskRun, Watch};

/// Hands on what happens to a task, and begins and ends spans with it.
pub(crate) struct Traced<'a> {
    to: &'a mut dyn Watch,
    spans: Option<Spans>,
}

struct Spans {
    // Dropped in this order: the iteration ends before its task does.
    iteration: Option<Span>,
    task: Span,
}

impl<'a> Traced<'a> {
    /// Begins to hear of what happens to `run`.
    pub(crate) async fn new(run: &TaskRun, to: &'a mut dyn Watch) -> Result<Self, TaskError> {
        if get().is_none() {
            return Ok(Self { to, spans: None });
        }
        let session = run.history().await?.session;
        let spans = task(&session).map(|task| Spans { iteration: None, task });
        let mut traced = Self { to, spans };
        // Whoever resumes goes on in the middle of one.
        if matches!(session.phase, Phase::Working | Phase::Verifying | Phase::Committing) {
            traced.iteration(session.iteration);
        }
        Ok(traced)
    }

    /// Returns what the next step is part of.
    pub(crate) fn here(&self) -> Here {
        let of = |spans: &Spans| spans.iteration.as_ref().unwrap_or(&spans.task).context().clone();
        Here(self.spans.as_ref().map(of))
    }

    fn iteration(&mut self, number: u32) {
        let Some(spans) = &mut self.spans else { return };
        spans.iteration = None;
        let Some(telemetry) = get() else { return };
        let mut beginning = Beginning::new(Kind::Plain, "iteration");
        beginning.attributes = vec![KeyValue::new("tollgate.iteration", i64::from(number))];
        beginning.parent = Some(spans.task.context().clone());
        spans.iteration = Some(Span::begin(telemetry, beginning));
    }

    fn judged(&self, verdict: &VerdictRecord) {
        let Some(iteration) = self.spans.as_ref().and_then(|spans| spans.iteration.as_ref()) else { return };
        iteration.set(KeyValue::new("tollgate.verdict", cut(&verdict.verdict)));
        iteration.set(KeyValue::new("tollgate.decision", cut(&verdict.decision)));
    }

    fn ended(&mut self, ending: Ending, session: &Session, cost: Money) {
        let Some(spans) = &mut self.spans else { return };
        spans.iteration = None;
        spans.task.set(KeyValue::new("tollgate.ending", ending.as_str()));
        spans.task.set(KeyValue::new("tollgate.iterations", i64::from(session.iteration)));
        // Of all its calls together, each of which has its own.
        spans.task.set(KeyValue::new("tollgate.task.cost.usd", cost.normalized().to_string()));
        if ending != Ending::Done {
            spans.task.fail(ending.as_str());
        }
    }
}

impl Watch for Traced<'_> {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Iteration(number) => self.iteration(*number),
            Event::Judged(verdict) => self.judged(verdict),
            Event::Ended { ending, session, cost, .. } => self.ended(*ending, session, *cost),
            _ => {}
        }
        self.to.event(event);
    }
}

/// What work is part of, where it is traced.
#[derive(Clone, Default)]
pub(crate) struct Here(Option<Context>);

impl Here {
    /// Does `future` as part of it.
    pub(crate) fn within<F: Future>(&self, future: F) -> Within<F> {
        attached(self.0.as_ref(), future)
    }
}

/// What calls are part of that an agent makes from a process of its own.
#[derive(Default)]
pub(crate) struct Turn(Mutex<Here>);

impl Turn {
    /// Says that a turn begins.
    pub(crate) fn begins(&self, span: Option<&Span>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Here(span.map(|span| span.context().clone()));
    }

    /// Returns what a call is part of now.
    pub(crate) fn here(&self) -> Here {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Begins a script that is no task, done by `identity`.
pub(crate) fn script(identity: &Identity) -> Option<Span> {
    agent(&identity.agent.name, identity.agent.role.as_deref(), identity.task_id.as_deref())
}

/// Begins the attempt `number` of the queue's task `id`.
pub(crate) fn attempt(id: &str, number: i64) -> Option<Span> {
    let telemetry = get()?;
    let mut beginning = Beginning::new(Kind::Plain, "attempt");
    beginning.attributes =
        vec![KeyValue::new("tollgate.queue.task.id", cut(id)), KeyValue::new("tollgate.attempt", number)];
    Some(Span::begin(telemetry, beginning))
}

/// Begins a call of the loop's own tool `name`.
pub(crate) fn tool(name: &str) -> Option<Span> {
    let telemetry = get()?;
    let mut beginning = Beginning::new(Kind::Tool, format!("execute_tool {}", cut(name)));
    beginning.labels =
        vec![KeyValue::new("gen_ai.tool.name", cut(name)), KeyValue::new("gen_ai.tool.type", "function")];
    beginning.attributes = vec![KeyValue::new("gen_ai.operation.name", "execute_tool")];
    Some(Span::begin(telemetry, beginning))
}

fn task(session: &Session) -> Option<Span> {
    let span = agent(&session.agent_name.name, session.agent_name.role.as_deref(), Some(&session.id))?;
    if let Some(member) = &session.member {
        span.set(KeyValue::new("tollgate.team.task.id", cut(&member.team)));
    }
    Some(span)
}

fn agent(name: &str, role: Option<&str>, task_id: Option<&str>) -> Option<Span> {
    let telemetry = get()?;
    let text = |key: &'static str, value: &str| KeyValue::new(key, cut(value));
    let mut beginning = Beginning::new(Kind::Agent, format!("invoke_agent {}", cut(name)));
    beginning.attributes =
        vec![KeyValue::new("gen_ai.operation.name", "invoke_agent"), text("gen_ai.agent.name", name)];
    beginning.attributes.extend(role.map(|role| text("tollgate.agent.role", role)));
    let ids = task_id.into_iter().flat_map(|id| [text("gen_ai.conversation.id", id), text("tollgate.task.id", id)]);
    beginning.attributes.extend(ids);
    Some(Span::begin(telemetry, beginning))
}
