//! One call of a task, carried out exactly once: written down before, and after; what was interrupted between is found out.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tollgate_shared::ids::EntryId;
use tollgate_shared::receipt::{Outcome, Receipt};

use super::tools::{Effect, Route, TaskTool, scoped, take_plan};
use super::{Event, TaskCore, TaskError, Watch, files, tree};
use crate::agent::{REQUESTS_MAX, cost_report};
use crate::fleet::account::receipt_of_work;
use crate::fleet::failure;
use crate::session::store::Change;
use crate::session::{CallAnswer, CallRecord, History, Session};
use crate::team::plan;
use crate::telemetry;

/// How often a call is made whose server dies: one that dies of the call itself would die for ever.
const ATTEMPTS_MAX: u32 = 4;

/// How the slots of the loop's own calls begin that are not made again by whoever resumes.
pub(super) const OF_LOOP: [&str; 3] = ["verify.", "stage.", "commit."];

/// How the slots of calls begin that an agent makes itself.
pub(crate) const OF_AGENT: &str = "agent.";

/// Nobody hears of it while it happens.
struct Unwatched;

impl Watch for Unwatched {
    fn event(&mut self, _: &Event<'_>) {}
}

/// A call that is to be carried out.
pub(super) struct Due {
    pub(super) slot: String,
    pub(super) name: String,
    pub(super) route: Route,
    pub(super) effect: Effect,
    pub(super) arguments: Value,
}

/// What is known of a call that was interrupted.
enum Known {
    /// Nothing of it happened, or doing it again changes nothing more.
    CanRun,
    /// It was carried out.
    Done(Option<Box<Receipt>>),
    /// Nobody knows.
    Nothing,
}

impl Due {
    /// Makes a call of the loop's own.
    pub(super) fn own(slot: &str, server: &str, tool: &str, effect: Effect, arguments: Value) -> Self {
        let route = Route::Server {
            server: server.to_owned(),
            tool: tool.to_owned(),
            takes_repository: false,
            takes_path: false,
        };
        Self { slot: slot.to_owned(), name: format!("{server}__{tool}"), route, effect, arguments }
    }

    /// Makes a call that the agent wants; one of a tool that it has not is answered.
    pub(super) fn wanted(slot: String, name: &str, arguments: &Value, tool: Option<&TaskTool>) -> Option<Self> {
        let tool = tool?;
        Some(Self {
            slot,
            name: name.to_owned(),
            route: tool.route.clone(),
            effect: tool.effect,
            arguments: arguments.clone(),
        })
    }
}

impl TaskCore {
    /// Carries out `due`, unless that was done already; the answer is saved when this returns.
    pub(super) async fn carry_out(
        &self,
        history: &History,
        due: Due,
        watch: &mut dyn Watch,
    ) -> Result<CallAnswer, TaskError> {
        let before = history.call(&due.slot);
        if let Some(answer) = before.and_then(|call| call.answer.clone()) {
            return Ok(answer);
        }
        let session = &history.session;
        watch.event(&Event::Calling { tool: &due.name });
        let mut interrupted = before.cloned();
        for attempt in 1.. {
            let mut lost = Vec::new();
            if let Some(interrupted) = interrupted.take() {
                lost.clone_from(&interrupted.lost);
                let receipt = self.receipt_of(&interrupted).await?;
                match self.find_out(session, &interrupted, &due, receipt.clone()).await {
                    Known::CanRun => {
                        let is_new = |receipt: &Receipt| lost.iter().all(|known: &Receipt| known.id != receipt.id);
                        let new = receipt.filter(is_new);
                        lost.extend(new);
                    }
                    Known::Done(receipt) => {
                        return self
                            .ended(history, interrupted, recovered(true, receipt.map(|receipt| *receipt)), watch)
                            .await;
                    }
                    Known::Nothing => {
                        return self.ended(history, interrupted, recovered(false, receipt), watch).await;
                    }
                }
            }
            let call = CallRecord {
                slot: due.slot.clone(),
                call_id: EntryId::generate().to_string(),
                tool: due.name.clone(),
                arguments: due.arguments.clone(),
                before: self.trace(session, &due).await,
                begun_at: Timestamp::now(),
                answer: None,
                lost,
            };
            // From here on a crash leaves a call of which it is found out whether it was carried out.
            self.store.save(&self.id, vec![Change::Call(Box::new(call.clone()))]).await?;
            let answer = self.make(session, &due, &call).await?;
            // A server that died is started again, and what became of the call is found out as after a crash of our own.
            let died = answer.structured["error"]["code"].as_str().is_some_and(is_unheard);
            // What did not fit the budget is still to be done, when there is more.
            if is_out_of_money(&answer) {
                let lost = call.lost.iter().cloned().chain(answer.receipt.clone()).collect();
                let open = CallRecord { lost, ..call };
                self.store.save(&self.id, vec![Change::Call(Box::new(open))]).await?;
                return Ok(answer);
            }
            if !died || attempt >= ATTEMPTS_MAX {
                return self.ended(history, call, answer, watch).await;
            }
            interrupted = Some(call);
        }
        unreachable!("the last attempt returns")
    }

    /// Saves what came of a call.
    async fn ended(
        &self,
        history: &History,
        mut call: CallRecord,
        answer: CallAnswer,
        watch: &mut dyn Watch,
    ) -> Result<CallAnswer, TaskError> {
        call.answer = Some(answer.clone());
        self.store.save(&self.id, vec![Change::Call(Box::new(call.clone()))]).await?;
        let others = history.receipts().map(|receipt| receipt.amount).sum::<tollgate_shared::money::Money>();
        let cost = others + answer.receipt.as_ref().map(|receipt| receipt.amount).unwrap_or_default();
        watch.event(&Event::Called { call: &call, cost });
        Ok(answer)
    }

    async fn make(&self, session: &Session, due: &Due, call: &CallRecord) -> Result<CallAnswer, TaskError> {
        let worktree = session.worktree.clone().unwrap_or_default();
        // A server's tool has a span where it is called.
        let is_local = !matches!(due.route, Route::Server { .. });
        let span = if is_local { telemetry::task::tool(&due.name) } else { None };
        let structured = match &due.route {
            Route::Plan => take_plan(&due.arguments),
            Route::PlanTeam => match &session.team {
                Some(team) => plan::answer(&due.arguments, &team.roles, team.members_max),
                None => failure("unknown_tool", "there is no team here", "do the task"),
            },
            Route::CostReport => cost_report(&self.fleet, &due.arguments).await,
            Route::File(tool) => {
                let (tool, arguments) = (*tool, due.arguments.clone());
                let done = tokio::task::spawn_blocking(move || tool.call(&worktree, &arguments)).await;
                done.unwrap_or_else(|error| failure("internal_error", &error.to_string(), "try another way"))
            }
            Route::Server { server, tool, takes_repository, takes_path } => {
                let arguments = match scoped(*takes_repository, *takes_path, &due.arguments, &worktree) {
                    Ok(arguments) => arguments,
                    Err(answer) => return Ok(answered(answer, Outcome::Refused, None)),
                };
                if let Some(answer) = self.strange_tree(session).await {
                    return Ok(answered(answer, Outcome::Refused, None));
                }
                let identity = self.identity(session);
                let id = call.call_id.parse().unwrap_or_else(|_| EntryId::generate());
                let called = self.fleet.call_as(id, server, tool, arguments, &identity).await?;
                return Ok(answered(called.structured, called.receipt.outcome, Some(called.receipt)));
            }
        };
        let outcome = if structured.get("error").is_some() { Outcome::Failed } else { Outcome::Ok };
        if let (Some(span), Some(code)) = (&span, structured["error"]["code"].as_str()) {
            span.fail(code);
        }
        Ok(answered(structured, outcome, None))
    }

    /// Returns the answer to a call that would work in a tree which is not the task's any more.
    async fn strange_tree(&self, session: &Session) -> Option<Value> {
        let (worktree, repository) = (session.worktree.clone()?, session.repository.clone());
        let checked = tokio::task::spawn_blocking(move || tree::check(&worktree, &repository)).await;
        let reason = checked.map_err(|error| error.to_string()).and_then(|checked| checked).err()?;
        let hint = "a person looks at what happened; nothing more is done in this working tree";
        Some(failure("worktree_changed", &format!("this is not the task's working tree: {reason}"), hint))
    }

    /// Returns what would show later whether the call was carried out.
    async fn trace(&self, session: &Session, due: &Due) -> Option<Value> {
        let worktree = session.worktree.clone()?;
        let (effect, arguments, branch) = (due.effect, due.arguments.clone(), session.branch.clone());
        let traced = tokio::task::spawn_blocking(move || match effect {
            Effect::MovesTip => Some(json!({ "tip": tree::tip(&worktree, &branch) })),
            Effect::Edits => files::edit_trace(&worktree, &arguments),
            Effect::Reads | Effect::Idempotent | Effect::Unknown => None,
        });
        traced.await.ok().flatten()
    }

    /// Finds out whether a call was carried out of which only its beginning is known. Nobody works on it any more.
    async fn find_out(&self, session: &Session, call: &CallRecord, due: &Due, receipt: Option<Receipt>) -> Known {
        if matches!(due.effect, Effect::Reads | Effect::Idempotent) {
            return Known::CanRun;
        }
        // Not what a server said of the call, but what somebody wrote who heard nothing of it any more.
        let heard = receipt.filter(|receipt| !receipt.code.as_deref().is_some_and(is_unheard));
        match heard {
            Some(receipt) if receipt.outcome == Outcome::Ok => return Known::Done(Some(Box::new(receipt))),
            // What a server refused or gave up had no effect, as far as nothing shows otherwise.
            Some(_) if due.effect == Effect::Unknown => return Known::CanRun,
            _ => {}
        }
        let Some(worktree) = session.worktree.clone() else { return Known::CanRun };
        let (branch, arguments) = (session.branch.clone(), due.arguments.clone());
        let (effect, trace) = (due.effect, call.before.clone());
        let looked = tokio::task::spawn_blocking(move || match (effect, trace) {
            (Effect::MovesTip, Some(trace)) if trace["tip"] == json!(tree::tip(&worktree, &branch)) => Known::CanRun,
            (Effect::MovesTip, Some(_)) => Known::Done(None),
            (Effect::Edits, Some(trace)) if files::was_edited(&worktree, &arguments, &trace) => Known::Done(None),
            // Either it was not carried out, or it is refused again.
            (Effect::Edits, _) => Known::CanRun,
            _ => Known::Nothing,
        });
        looked.await.unwrap_or(Known::Nothing)
    }

    /// Returns the receipt that was written for a call whose answer was lost.
    async fn receipt_of(&self, call: &CallRecord) -> Result<Option<Receipt>, TaskError> {
        self.receipt(&call.call_id, call.begun_at).await
    }

    async fn receipt(&self, call_id: &str, begun_at: Timestamp) -> Result<Option<Receipt>, TaskError> {
        let Some(mut reader) = self.fleet.ledger().reader().await? else { return Ok(None) };
        // Ids are a little older than what they name.
        let since = begun_at - jiff::SignedDuration::from_secs(60);
        Ok(receipt_of_work(reader.receipts_of_call(call_id, since).await?))
    }

    /// Writes down that the agent is about to be asked for message `number`, with what was paid for asking before and
    /// whose answer was lost.
    pub(super) async fn write_down_asking(&self, history: &History, number: usize) -> Result<CallRecord, TaskError> {
        let slot = format!("ask.{number}");
        let mut lost = Vec::new();
        if let Some(before) = history.call(&slot) {
            lost.clone_from(&before.lost);
            // One request after the other, each with a receipt before the next: the first without one is the last.
            for attempt in
                (0..REQUESTS_MAX).filter_map(|attempt| Some(before.call_id.parse::<EntryId>().ok()?.attempt(attempt)))
            {
                let Some(receipt) = self.receipt(&attempt.to_string(), before.begun_at).await? else { break };
                if lost.iter().all(|known| known.id != receipt.id) {
                    lost.push(receipt);
                }
            }
        }
        let record = CallRecord {
            slot,
            call_id: EntryId::generate().to_string(),
            tool: "agent".to_owned(),
            arguments: Value::Null,
            before: None,
            begun_at: Timestamp::now(),
            answer: None,
            lost,
        };
        self.store.save(&self.id, vec![Change::Call(Box::new(record.clone()))]).await?;
        Ok(record)
    }

    /// Carries out a call that an agent makes itself while it is asked; written down like every other. Returns nothing where
    /// `may_begin` says that it may not, when its time has come.
    pub(crate) async fn call_of_agent(
        &self,
        name: &str,
        arguments: Value,
        may_begin: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<CallAnswer>, TaskError> {
        self.turn.here().within(self.call_in_turn(name, arguments, may_begin)).await
    }

    async fn call_in_turn(
        &self,
        name: &str,
        arguments: Value,
        may_begin: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<CallAnswer>, TaskError> {
        let slot = format!("{OF_AGENT}{}", EntryId::generate());
        let session = self.history().await?.session;
        let tool = self.tools_in(&session).find(|tool| tool.name == name);
        // One effect after the other: what tells later whether one happened is how things were before it.
        let _turn = match tool {
            Some(TaskTool { effect: Effect::Reads, .. }) => None,
            _ => Some(self.effects.lock().await),
        };
        if !may_begin() {
            return Ok(None);
        }
        let history = self.history().await?;
        let answer = match Due::wanted(slot.clone(), name, &arguments, tool) {
            Some(due) => self.carry_out(&history, due, &mut Unwatched).await,
            None => self.answer_unknown(&history, slot, name, &arguments, &mut Unwatched).await,
        };
        answer.map(Some)
    }

    /// Finds out what became of calls that nobody waits for any more, and nobody makes again: what they cost counts.
    ///
    /// Of the loop's own these are what a run before this one verified, staged and committed: whoever resumes begins again
    /// with verifying, in slots of its own.
    pub(super) async fn settle(&self, history: &History, slots: &[&str]) -> Result<(), TaskError> {
        let is_meant = |call: &&CallRecord| slots.iter().any(|prefix| call.slot.starts_with(prefix));
        for call in history.calls.iter().filter(|call| call.answer.is_none()).filter(is_meant) {
            let receipt = self.receipt_of(call).await?;
            let done = receipt.as_ref().is_some_and(|receipt| receipt.outcome == Outcome::Ok);
            self.ended(history, call.clone(), recovered(done, receipt), &mut Unwatched).await?;
        }
        Ok(())
    }

    /// Answers a call of a tool that the agent has not.
    pub(super) async fn answer_unknown(
        &self,
        history: &History,
        slot: String,
        name: &str,
        arguments: &Value,
        watch: &mut dyn Watch,
    ) -> Result<CallAnswer, TaskError> {
        if let Some(answer) = history.call(&slot).and_then(|call| call.answer.clone()) {
            return Ok(answer);
        }
        let shown: String = name.chars().take(100).collect();
        let nearest =
            tollgate_shared::config::nearest(&shown, self.tools_in(&history.session).map(|tool| tool.name.as_str()));
        let message = format!("no tool `{shown}` here{}", tollgate_shared::config::did_you_mean(nearest));
        let hint = "use the tools that are listed; branches, pushes and deployments are not part of a task";
        let call = CallRecord {
            slot,
            call_id: EntryId::generate().to_string(),
            tool: shown,
            arguments: arguments.clone(),
            before: None,
            begun_at: Timestamp::now(),
            answer: None,
            lost: Vec::new(),
        };
        let answer = answered(failure("unknown_tool", &message, hint), Outcome::Refused, None);
        self.ended(history, call, answer, watch).await
    }
}

fn answered(structured: Value, outcome: Outcome, receipt: Option<Receipt>) -> CallAnswer {
    CallAnswer { at: Timestamp::now(), outcome, structured, receipt, recovered: false }
}

/// Answers a call whose own answer was lost in a crash.
fn recovered(done: bool, receipt: Option<Receipt>) -> CallAnswer {
    let structured = if done {
        let note = "this was carried out; its answer was lost when the run was interrupted. Look at the present state.";
        Value::Object(Map::from_iter([("recovered".to_owned(), json!(true)), ("note".to_owned(), json!(note))]))
    } else {
        let message = "the run was interrupted during this call, and nothing tells whether it was carried out";
        failure("outcome_unknown", message, "look at the present state; call again only if it was not carried out")
    };
    let outcome = if done { Outcome::Ok } else { Outcome::Failed };
    CallAnswer { at: Timestamp::now(), outcome, structured, receipt, recovered: true }
}

/// Returns whether an answer says that the money is not there, in a limit that the next call meets as well.
pub(super) fn is_out_of_money(answer: &CallAnswer) -> bool {
    answer.structured["error"]["code"] == crate::budget::BUDGET_EXCEEDED
        && answer.structured["budget"]["scope"] != "call"
}

/// Whether a code says that nobody heard how a call ended.
fn is_unheard(code: &str) -> bool {
    matches!(code, "answer_lost" | "caller_died" | "server_died")
}
