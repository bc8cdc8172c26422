//! One attempt at a task: begun or gone on with, driven to its end, and read into what becomes of the task.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tokio::sync::mpsc;
use tollgate_shared::error_chain::Chain;
use tollgate_shared::money::Money;

use super::{LATER_MS, Note, Worker};
use crate::agent::AgentSpec;
use crate::queue::config::QueueConfig;
use crate::queue::lease::{Lease, Settlement};
use crate::queue::task::Task;
use crate::router::{Decision, Routing, route};
use crate::session::store::Store;
use crate::session::{Ending, History, Phase};
use crate::task::drive::{Stop, Stopped, drive};
use crate::task::start::{Busy, More, Order, new_id};
use crate::task::{Event, TaskRun, Watch};
use crate::telemetry;

/// What an attempt needs.
pub(super) struct Attempt<'a> {
    pub(super) worker: &'a Worker,
    pub(super) lease: &'a Lease,
    pub(super) stop: &'a Stop,
    pub(super) notes: mpsc::Sender<Note>,
    pub(super) tell: &'a (dyn Fn(&str) + Sync),
}

/// What came of an attempt.
pub(super) struct Attempted {
    pub(super) settlement: Settlement,
    /// What the attempt cost, once it is over.
    pub(super) cost: Money,
    pub(super) fallback: bool,
}

impl From<Settlement> for Attempted {
    fn from(settlement: Settlement) -> Self {
        Self { settlement, cost: Money::ZERO, fallback: false }
    }
}

impl Attempt<'_> {
    /// Does the task, as far as it can be done.
    pub(super) async fn carry_out(self) -> Attempted {
        match self.try_out().await {
            Ok(attempted) => attempted,
            Err(error) if error.is::<Busy>() => Settlement::Deferred(LATER_MS, error.to_string()).into(),
            // Nothing about the task is to blame: a file, a database, a lock.
            Err(error) => {
                let reason = Chain(error.as_ref()).to_string();
                tracing::warn!(task = self.lease.entry.task.id, error = reason, "cannot go on now");
                Settlement::Deferred(LATER_MS, reason).into()
            }
        }
    }

    async fn try_out(&self) -> anyhow::Result<Attempted> {
        let (worker, entry) = (self.worker, &self.lease.entry);
        let store = Store::open(&worker.house.state_dir).await?;
        if entry.session.is_empty() {
            return self.begin(&store).await;
        }
        let begun = store.load(&entry.session).await?;
        if let Some(history) = &begun
            && let Phase::Ended { ending, reason } = &history.session.phase
        {
            // Whoever did it died before the queue heard.
            return Ok(self.ended(history, *ending, reason, entry.attempts));
        }
        if entry.lost > i64::from(worker.house.queue.resumes_max) {
            let reason = format!("its worker was gone {} times in one attempt", entry.lost);
            let cost = begun.as_ref().map_or(Money::ZERO, History::total_cost);
            return Ok(Attempted { settlement: Settlement::Blocked(reason), cost, fallback: false });
        }
        let run = match begun {
            Some(_) => TaskRun::resume(&worker.house, worker.sandbox, &entry.session, More::default()).await?,
            // The queue was told its name, and then the worker died.
            None => self.make(entry.session.clone(), self.order(self.team_of())?).await?,
        };
        self.drive(run, entry.attempts).await
    }

    /// Begins a new attempt, unless it is not one agent's to make.
    async fn begin(&self, store: &Store) -> anyhow::Result<Attempted> {
        let (worker, entry) = (self.worker, &self.lease.entry);
        let teams_off = worker.queue.teams_off().await?;
        let routing = route(&entry.task, &worker.house.router, teams_off.as_deref());
        let waits = routing.decision == Decision::Human && !entry.released;
        worker.queue.route(self.lease, &json!(routing)).await?;
        if waits {
            return Ok(Settlement::NeedsPerson(routing.reason).into());
        }
        let fallback = routing.fallback;
        let most = worker.house.queue.attempts_max;
        if entry.attempts >= i64::from(most) {
            let reason = format!("its {most} attempts are used up; {}", entry.reason);
            return Ok(Settlement::Blocked(reason).into());
        }
        let team = (routing.decision == Decision::Team).then(|| routing.specialists.clone());
        let order = match self.order(team) {
            Ok(order) => order,
            // Another attempt would find the same.
            Err(error) => return Ok(Settlement::Blocked(Chain(error.as_ref()).to_string()).into()),
        };
        let session = new_id()?;
        // Before the session is made: there is never one that the queue does not know.
        worker.queue.attach(self.lease, &session, &worker.place).await?;
        let attempts = entry.attempts + 1;
        let attempted = match self.make(session.clone(), order).await {
            Ok(run) => self.drive(run, attempts).await?,
            Err(error) if !error.is::<Busy>() && store.load(&session).await?.is_none() => {
                let reason = Chain(error.as_ref()).to_string();
                self.again(Ending::Failed, &reason, attempts, Money::ZERO)
            }
            Err(error) => return Err(error),
        };
        Ok(Attempted { fallback: fallback || attempted.fallback, ..attempted })
    }

    async fn make(&self, session: String, order: Order) -> anyhow::Result<TaskRun> {
        let order = Order { id: Some(session), ..order };
        TaskRun::begin(&self.worker.house, self.worker.sandbox, order).await
    }

    async fn drive(&self, mut run: TaskRun, attempts: i64) -> anyhow::Result<Attempted> {
        // Whoever goes on hears no more of what is over.
        let before = run.history().await?;
        let team = before.session.team.as_ref();
        let members = team.map(|team| team.members.iter().map(|member| (member.id.clone(), member.cost_usd)).collect());
        let mut watch = Notes {
            to: self.notes.clone(),
            id: self.lease.entry.task.id.clone(),
            tell: self.tell,
            own: before.cost(),
            members: members.unwrap_or_default(),
        };
        let span = telemetry::task::attempt(&self.lease.entry.task.id, attempts);
        let stopped = telemetry::within(span.as_ref(), drive(&mut run, self.stop, &mut watch)).await;
        drop(span);
        if matches!(stopped, Ok(Stopped::Now)) {
            return Ok(Settlement::Released.into());
        }
        let history = run.history().await;
        run.close().await;
        stopped?;
        let history = history?;
        if let Some(reason) = history.session.team.as_ref().and_then(|team| team.fallback.as_ref()) {
            self.note_fallback(reason).await?;
        }
        Ok(match &history.session.phase {
            Phase::Ended { ending, reason } => self.ended(&history, *ending, reason, attempts),
            _ => Settlement::Released.into(),
        })
    }

    /// Returns what is wanted.
    fn order(&self, team: Option<Vec<String>>) -> anyhow::Result<Order> {
        let (house, entry) = (&self.worker.house, &self.lease.entry);
        let (config, task) = (&house.queue, &entry.task);
        let budget = task.budget_usd.map_or(config.budget_usd, |budget| budget.0);
        let left = budget.left_after(entry.spent_usd);
        anyhow::ensure!(!left.is_zero(), "its budget of ${} is used up", budget.normalized());
        Ok(Order {
            id: None,
            task: words(task),
            agent: agent(task, config, &house.workspace)?,
            repository: repository(task, config, &house.workspace)?,
            accept: task.acceptance.commands.clone(),
            budget_usd: left,
            iterations: config.iterations,
            timeout: Duration::from_millis(config.timeout_ms),
            team,
            member: None,
        })
    }

    /// Writes down that one agent did what a team was to do.
    async fn note_fallback(&self, reason: &str) -> anyhow::Result<()> {
        let written = match self.worker.queue.find(&self.lease.entry.task.id).await? {
            Some(entry) => entry.routing,
            None => None,
        };
        let Some(mut routing) = written.and_then(|routing| serde_json::from_value::<Routing>(routing).ok()) else {
            return Ok(());
        };
        if !routing.fallback {
            routing.fallback = true;
            routing.reason.push_str(&format!("; one agent did it: {reason}"));
            self.worker.queue.route(self.lease, &json!(routing)).await?;
        }
        Ok(())
    }

    /// Returns the team that the router chose for this attempt, where it chose one.
    fn team_of(&self) -> Option<Vec<String>> {
        let routing = self.lease.entry.routing.clone()?;
        let routing: Routing = serde_json::from_value(routing).ok()?;
        (routing.decision == Decision::Team).then_some(routing.specialists)
    }

    /// Reads the end of a session into what becomes of the task.
    fn ended(&self, history: &History, ending: Ending, reason: &str, attempts: i64) -> Attempted {
        let (session, cost) = (&history.session, history.total_cost());
        let fallback = session.team.as_ref().is_some_and(|team| team.fallback.is_some());
        let attempted = match ending {
            Ending::Done => {
                let commit = session.commit.clone().unwrap_or_default();
                let settlement = Settlement::Completed { branch: session.branch.clone(), commit };
                Attempted { settlement, cost, fallback: false }
            }
            // A person decides, or gives more: another attempt would end the same.
            Ending::Blocked | Ending::Budget => {
                let settlement = Settlement::Blocked(format!("{}: {reason}", ending.as_str()));
                Attempted { settlement, cost, fallback: false }
            }
            Ending::Stuck | Ending::Iterations | Ending::Timeout | Ending::Failed => {
                self.again(ending, reason, attempts, cost)
            }
        };
        Attempted { fallback, ..attempted }
    }

    fn again(&self, ending: Ending, reason: &str, attempts: i64, cost: Money) -> Attempted {
        let most = i64::from(self.worker.house.queue.attempts_max);
        let settlement = if attempts < most {
            Settlement::Again(format!("attempt {attempts} of {most} {}: {reason}", ending.as_str()))
        } else {
            Settlement::Blocked(format!("not done in {attempts} attempts; the last one {}: {reason}", ending.as_str()))
        };
        Attempted { settlement, cost, fallback: false }
    }
}

/// Returns the task in words, with what must be so when it is done.
fn words(task: &Task) -> String {
    let mut text = String::new();
    if let Some(title) = &task.title {
        text.push_str(&format!("{title}\n\n"));
    }
    text.push_str(&task.description);
    if !task.acceptance.criteria.is_empty() {
        text.push_str("\n\nWhen it is done:\n");
        text.extend(task.acceptance.criteria.iter().map(|criterion| format!("- {criterion}\n")));
    }
    text
}

/// Returns who does the task.
fn agent(task: &Task, config: &QueueConfig, workspace: &Path) -> anyhow::Result<AgentSpec> {
    let written = match &task.agent_type_override {
        Some(name) => {
            let named = config.agents.get(name);
            named.with_context(|| format!("agent_type_override names `{name}`, which is not in [queue.agents]"))?
        }
        None => {
            let preferred = task.preferred_agents.iter().find_map(|name| config.agents.get(name));
            let any = preferred.or(config.agent.as_ref());
            any.context("none of its preferred_agents is in [queue.agents], and [queue] has no `agent`")?
        }
    };
    AgentSpec::from_workspace(written, workspace)
}

/// Returns where the task is done.
fn repository(task: &Task, config: &QueueConfig, workspace: &Path) -> anyhow::Result<PathBuf> {
    match &task.project {
        Some(project) if !config.projects.is_empty() => {
            let known = config.projects.get(project);
            let known = known.with_context(|| format!("its project `{project}` is not in [queue.projects]"))?;
            Ok(workspace.join(known))
        }
        _ => Ok(workspace.to_owned()),
    }
}

/// Hands what happens on to whoever writes it into the queue, and to people.
struct Notes<'a> {
    to: mpsc::Sender<Note>,
    id: String,
    tell: &'a (dyn Fn(&str) + Sync),
    /// What the task's own session cost so far.
    own: Money,
    /// What those of its team's members cost so far.
    members: BTreeMap<String, Money>,
}

impl Notes<'_> {
    fn tell_cost(&self) {
        let _ = self.to.try_send(Note::Cost(self.own + self.members.values().copied().sum()));
    }
}

impl Watch for Notes<'_> {
    fn event(&mut self, event: &Event<'_>) {
        let (what, note) = match event {
            Event::Prepared { branch, .. } => ("prepared", (*branch).to_owned()),
            Event::Iteration(number) => ("iteration", number.to_string()),
            Event::Judged(verdict) => ("verdict", format!("{}: {}", verdict.verdict, verdict.decision)),
            Event::Ended { ending, reason, .. } => ("ended", format!("{}: {reason}", ending.as_str())),
            Event::Planned { members, default_reason } => {
                let reason = default_reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
                let parts: Vec<String> =
                    members.iter().map(|member| format!("{} by {}", member.id, member.role.name)).collect();
                ("planned", format!("{}{reason}", parts.join(", ")))
            }
            Event::Member { name, event: Event::Called { cost, .. } } => {
                self.members.insert((*name).to_owned(), *cost);
                return self.tell_cost();
            }
            Event::Member { name, event } => match event {
                Event::Judged(verdict) => {
                    ("specialist", format!("{name}: verdict {}: {}", verdict.verdict, verdict.decision))
                }
                Event::Ended { ending, reason, .. } => ("specialist", format!("{name}: {}: {reason}", ending.as_str())),
                _ => return,
            },
            Event::Merged { name, conflicts: [] } => ("merged", (*name).to_owned()),
            Event::Merged { name, conflicts } => ("conflict", format!("{name}: {}", conflicts.join(", "))),
            // An event of its own kind comes with what is written down about the router's decision.
            Event::FellBack { reason } => ("alone", (*reason).to_owned()),
            Event::Called { cost, .. } => {
                self.own = *cost;
                return self.tell_cost();
            }
            Event::Said(_) | Event::Calling { .. } => return,
        };
        (self.tell)(&format!("{}: {what} {note}", self.id));
        // When the queue does not keep up, its history has a gap; the session has everything.
        let member = match event {
            Event::Member { name, .. } | Event::Merged { name, .. } => (*name).to_owned(),
            _ => String::new(),
        };
        let _ = self.to.try_send(Note::Happened { member, what: what.to_owned(), note });
    }
}
