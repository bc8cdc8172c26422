//! The next step of a task, by its phase.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use tollgate_shared::ids::EntryId;
use tollgate_shared::receipt::Outcome;

use super::call::{Due, OF_AGENT, is_out_of_money};
use super::tools::Effect;
use super::verdict::{Decision, Part, Situation, feedback, judge};
use super::{Event, TaskError, TaskRun, Watch, tree};
use crate::agent::{Agent, Conversation};
use crate::session::store::Change;
use crate::session::{
    CallAnswer, CallRecord, Ending, History, Message, Phase, Reply, Said, Session, VerdictRecord, slot,
};

/// Most messages of one task: an agent that needs more is going in circles.
const MESSAGES_MAX: usize = 2_000;

/// Most calls in one reply that run at a time.
const PARALLEL_MAX: usize = 8;

/// How much longer than the task may take an agent is waited for that watches the time itself.
const ASKING_GRACE: Duration = Duration::from_secs(5);

/// Most calls in one reply; further ones are answered without being carried out.
const CALLS_MAX: usize = 64;

impl TaskRun {
    /// Does the next step and saves what came of it; whether there is a further one.
    ///
    /// When the process dies at any point of it, the next process does it again or goes on behind it, and nothing that was
    /// carried out is carried out again.
    ///
    /// # Errors
    ///
    /// [`TaskError`], which says nothing about the task: the step can be tried again.
    pub async fn advance(&mut self, watch: &mut dyn Watch) -> Result<bool, TaskError> {
        let began = Instant::now();
        let history = self.history().await?;
        let phase = history.session.phase.clone();
        if let Phase::Ended { .. } = phase {
            return Ok(false);
        }
        if history.session.worked_ms >= history.session.timeout_ms && phase != Phase::Committing {
            let reason = format!("not done within {} s", history.session.timeout_ms / 1000);
            self.end(&history, Ending::Timeout, reason, watch).await?;
            return Ok(false);
        }
        self.limit_lead(&history);
        match phase {
            Phase::Preparing => self.prepare(&history, watch).await?,
            Phase::Analysing => self.analyse(&history, watch).await?,
            Phase::Delegating => self.delegate(&history, watch).await?,
            Phase::Merging => self.merge_next(&history, watch).await?,
            Phase::Working => self.work(&history, watch).await?,
            Phase::Verifying => self.verify(&history, watch).await?,
            Phase::Committing => self.commit(&history, watch).await?,
            Phase::Ended { .. } => {}
        }
        // Read again: the step saved its own changes.
        let mut session = self.history().await?.session;
        session.worked_ms += u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let goes_on = !matches!(session.phase, Phase::Ended { .. });
        self.store.save(&self.id, vec![Change::Session(Box::new(session))]).await?;
        Ok(goes_on)
    }

    /// Makes the working tree and says what the task is.
    async fn prepare(&self, history: &History, watch: &mut dyn Watch) -> Result<(), TaskError> {
        let mut session = history.session.clone();
        let state = tollgate_shared::state_dir::StateDir::choose(None, &session.repository);
        let folder = state.path().join("worktrees");
        let made = tokio::task::spawn_blocking(move || {
            state.create().map_err(|error| error.to_string())?;
            std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
            folder.canonicalize().map_err(|error| error.to_string())
        });
        let worktree = match made.await.map_err(|error| error.to_string()).and_then(|made| made) {
            Ok(folder) => folder.join(&session.id),
            Err(reason) => return self.end(history, Ending::Failed, reason, watch).await,
        };
        let mut arguments = json!({ "repo_path": session.repository, "path": worktree, "branch_name": session.branch });
        if let Some(member) = &session.member {
            // What is merged so far is what it builds on.
            arguments["base_branch"] = json!(format!("tollgate/{}", member.team));
        }
        let due = Due::own("prepare", "git", "git_worktree_add", Effect::Idempotent, arguments);
        let answer = self.carry_out(history, due, watch).await?;
        // After a crash it may be there already, under the names that nobody else uses.
        let at = (worktree.clone(), session.branch.clone());
        let tip = tokio::task::spawn_blocking(move || tree::tip(&at.0, &at.1)).await.ok().flatten();
        let commit = answer.structured["commit"].as_str().map(str::to_owned).or(tip);
        let Some(commit) = commit else {
            return self.end_with(history, "the working tree cannot be made", &answer, watch).await;
        };
        watch.event(&Event::Prepared { worktree: &worktree, branch: &session.branch });
        session.base_commit = Some(commit);
        session.worktree = Some(worktree);
        let said = if let Some(team) = session.active_team() {
            let text = super::team::ask_for_parts(&session.task, team);
            session.phase = Phase::Analysing;
            Said::Team { text }
        } else {
            session.phase = Phase::Working;
            session.iteration = 1;
            watch.event(&Event::Iteration(1));
            Said::Task { text: session.task.clone() }
        };
        let task = message(history, &session, said);
        self.store
            .save(&self.id, vec![Change::Message(Box::new(task)), Change::Session(Box::new(session))])
            .await
            .map_err(TaskError::from)
    }

    /// Carries out what the agent wants, or asks it what it wants next.
    async fn work(&mut self, history: &History, watch: &mut dyn Watch) -> Result<(), TaskError> {
        if let Some((message, reply)) = history.last_reply() {
            if reply.calls.is_empty() {
                let session = Session { phase: Phase::Verifying, ..history.session.clone() };
                return Ok(self.store.save(&self.id, vec![Change::Session(Box::new(session))]).await?);
            }
            let number = message.number;
            if let Some(next) = next_open(history, number, reply) {
                return self.carry_out_next(history, number, reply, next, watch).await;
            }
        }
        if history.messages.len() >= MESSAGES_MAX {
            let reason = format!("the agent did not finish within {MESSAGES_MAX} messages");
            return self.end(history, Ending::Iterations, reason, watch).await;
        }
        match self.ask(history, watch).await? {
            Some((ending, reason)) => self.end(history, ending, reason, watch).await,
            None => Ok(()),
        }
    }

    /// Carries out the call `next` of message `number`; with it those behind it that only read, all at once.
    pub(super) async fn carry_out_next(
        &self,
        history: &History,
        number: u32,
        reply: &Reply,
        next: usize,
        watch: &mut dyn Watch,
    ) -> Result<(), TaskError> {
        let tool = |index: usize| self.tools_in(&history.session).find(|tool| tool.name == reply.calls[index].tool);
        let reads = |index: &usize| {
            is_open(history, number, *index) && tool(*index).is_some_and(|tool| tool.effect == Effect::Reads)
        };
        let together: Vec<usize> =
            (next..reply.calls.len()).take_while(|index| reads(index)).take(PARALLEL_MAX).collect();
        if next >= CALLS_MAX {
            let wanted = &reply.calls[next];
            let slot = slot(number, next);
            return self.answer_unknown(history, slot, &wanted.tool, &wanted.arguments, watch).await.map(drop);
        }
        let due = |index: usize| {
            let wanted = &reply.calls[index];
            Due::wanted(slot(number, index), &wanted.tool, &wanted.arguments, tool(index))
        };
        if together.len() > 1 {
            let mut heard: Vec<Heard> = together.iter().map(|_| Heard::default()).collect();
            let running = together.iter().zip(&mut heard).filter_map(|(index, heard)| {
                let due = due(*index)?;
                Some(async move { self.carry_out(history, due, heard).await })
            });
            let answers = try_join_all(running).await?;
            for heard in heard {
                heard.tell(history, watch);
            }
            return match answers.iter().find(|answer| is_out_of_money(answer)) {
                Some(answer) => self.end_with(history, "a call does not fit the budget", answer, watch).await,
                None => Ok(()),
            };
        }
        let Some(due) = due(next) else {
            let wanted = &reply.calls[next];
            let slot = slot(number, next);
            return self.answer_unknown(history, slot, &wanted.tool, &wanted.arguments, watch).await.map(drop);
        };
        let answer = self.carry_out(history, due, watch).await?;
        if is_out_of_money(&answer) {
            return self.end_with(history, "a call does not fit the budget", &answer, watch).await;
        }
        Ok(())
    }

    /// Asks the agent what it wants next; returns why it does not answer.
    pub(super) async fn ask(
        &mut self,
        history: &History,
        watch: &mut dyn Watch,
    ) -> Result<Option<(Ending, String)>, TaskError> {
        let session = &history.session;
        let number = history.messages.len();
        let asking = if self.agent.is_paid() { Some(self.write_down_asking(history, number).await?) } else { None };
        let call_id = asking.as_ref().and_then(|asking| asking.call_id.parse().ok());
        let time_left = Duration::from_millis(session.timeout_ms.saturating_sub(session.worked_ms).max(1));
        let identity = self.identity(session);
        self.settle(history, &[OF_AGENT]).await?;
        let core = Arc::clone(&self.core);
        let conversation = Conversation {
            history,
            identity: &identity,
            request_id: call_id.unwrap_or_else(EntryId::generate),
            time_left,
            core: &core,
        };
        // Who watches the time itself records what was spent until then.
        let reply = match tokio::time::timeout(time_left + ASKING_GRACE, self.agent.reply(conversation)).await {
            Ok(reply) => reply,
            Err(_) => {
                let reason = format!("the agent did not answer within the {} s of the task", session.timeout_ms / 1000);
                return Ok(Some((Ending::Timeout, reason)));
            }
        };
        let mut changes = Vec::new();
        match reply {
            Ok(said) => {
                let message = message(history, session, said);
                if let Said::Agent(Reply { text: Some(text), .. }) = &message.said {
                    watch.event(&Event::Said(text));
                }
                self.tell_calls_of_agent(history, watch).await?;
                // What it cost stands in the message.
                changes.extend(asking.map(|asking| answered_asking(asking, number)));
                changes.push(Change::Message(Box::new(message)));
                self.store.save(&self.id, changes).await?;
                Ok(None)
            }
            Err(error) => {
                if let Some(mut asking) = asking {
                    asking.lost.extend(error.receipts);
                    self.store.save(&self.id, vec![Change::Call(Box::new(asking))]).await?;
                }
                let ending = if error.is_budget { Ending::Budget } else { Ending::Failed };
                Ok(Some((ending, error.reason)))
            }
        }
    }

    /// Tells of the calls that the agent made while it was asked.
    async fn tell_calls_of_agent(&self, before: &History, watch: &mut dyn Watch) -> Result<(), TaskError> {
        if !self.agent.calls_itself() {
            return Ok(());
        }
        let now = self.history().await?;
        for call in now.calls.iter().filter(|call| call.slot.starts_with(OF_AGENT) && before.call(&call.slot).is_none())
        {
            watch.event(&Event::Calling { tool: &call.tool });
            watch.event(&Event::Called { call, cost: now.cost() });
        }
        Ok(())
    }

    /// Looks at what the agent made: its word for it counts for nothing.
    async fn verify(&self, history: &History, watch: &mut dyn Watch) -> Result<(), TaskError> {
        let session = &history.session;
        self.settle(history, &[OF_AGENT]).await?;
        // Each process verifies for itself: the files may have changed since another one did.
        let verify = format!("verify.{}.{}", history.verdicts.len(), session.owner.as_deref().unwrap_or_default());
        let arguments = json!({ "repo_path": session.worktree, "base": session.base_commit });
        let due = Due::own(&verify, "ralph", "verify_changes", Effect::Reads, arguments);
        let answer = self.carry_out(history, due, watch).await?;
        if answer.structured.get("error").is_some() {
            return self.end_with(history, "the change cannot be verified", &answer, watch).await;
        }
        let accepted = match self.accept(session).await {
            Ok(accepted) => accepted,
            Err(reason) => return self.end(history, Ending::Failed, reason, watch).await,
        };
        let place = (session.worktree.clone().unwrap_or_default(), session.branch.clone());
        let tip = tokio::task::spawn_blocking(move || tree::tip(&place.0, &place.1)).await.ok().flatten();
        let has_commits = tip.is_some() && tip != session.base_commit;
        let ralph = &answer.structured;
        let part = session
            .member
            .as_ref()
            .map(|member| Part { writes: member.role.writes, has_report: history.last_words().is_some() });
        let situation = Situation {
            has_commits,
            earlier: &history.verdicts,
            iteration: session.iteration,
            iterations_max: session.iterations_max,
            part,
        };
        let (findings, decision) = judge(ralph, &accepted, &situation);
        let verdict = VerdictRecord {
            iteration: session.iteration,
            at: Timestamp::now(),
            verdict: ralph["verdict"].as_str().unwrap_or("inconclusive").to_owned(),
            acceptance: accepted,
            findings,
            decision: match &decision {
                Decision::Done => "done".to_owned(),
                Decision::Again => "again".to_owned(),
                Decision::Stop(ending, _) => ending.as_str().to_owned(),
            },
        };
        watch.event(&Event::Judged(&verdict));
        let mut next = session.clone();
        let mut changes = vec![Change::Verdict(Box::new(verdict.clone()))];
        match decision {
            Decision::Done => next.phase = Phase::Committing,
            Decision::Again => {
                next.phase = Phase::Working;
                next.iteration += 1;
                let text = feedback(&verdict.findings);
                changes.push(Change::Message(Box::new(message(history, &next, Said::Findings { text }))));
                watch.event(&Event::Iteration(next.iteration));
            }
            Decision::Stop(ending, reason) => {
                self.store.save(&self.id, changes).await?;
                return self.end(history, ending, reason, watch).await;
            }
        }
        changes.push(Change::Session(Box::new(next)));
        Ok(self.store.save(&self.id, changes).await?)
    }

    /// Makes the commit: of what was verified, on the task's own branch.
    async fn commit(&self, history: &History, watch: &mut dyn Watch) -> Result<(), TaskError> {
        let session = &history.session;
        let count = history.verdicts.len();
        let arguments = json!({ "repo_path": session.worktree, "files": ["."] });
        let due = Due::own(&format!("stage.{count}"), "git", "git_add", Effect::Idempotent, arguments);
        let staged = self.carry_out(history, due, watch).await?;
        if staged.structured.get("error").is_some() {
            return self.end_with(history, "the change cannot be staged", &staged, watch).await;
        }
        let arguments = json!({ "repo_path": session.worktree, "message": commit_message(history) });
        let due = Due::own(&format!("commit.{count}"), "git", "git_commit", Effect::MovesTip, arguments);
        let committed = self.carry_out(history, due, watch).await?;
        let place = (session.worktree.clone().unwrap_or_default(), session.branch.clone());
        let tip = tokio::task::spawn_blocking(move || tree::tip(&place.0, &place.1)).await.ok().flatten();
        // The agent may have committed everything itself, with the same trailers.
        // Of a part there may be nothing to do.
        let is_clean = committed.structured["error"]["code"] == "nothing_to_commit";
        let is_at_base = tip == session.base_commit;
        let nothing_left = is_clean && (!is_at_base || session.member.is_some());
        if committed.structured.get("error").is_some() && !nothing_left {
            return self.end_with(history, "the change cannot be committed", &committed, watch).await;
        }
        let mut history = history.clone();
        history.session.commit = tip.filter(|_| !is_at_base);
        let reason = match &history.session.commit {
            Some(_) => format!("verified and committed on {}", history.session.branch),
            None => "verified, and nothing was to be changed".to_owned(),
        };
        self.end(&history, Ending::Done, reason, watch).await
    }

    /// Ends the task because of what a call was answered with.
    pub(super) async fn end_with(
        &self,
        history: &History,
        what: &str,
        answer: &CallAnswer,
        watch: &mut dyn Watch,
    ) -> Result<(), TaskError> {
        let error = &answer.structured["error"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let reason = format!("{what}: {}; {}", text(&error["message"]), text(&error["hint"]));
        let is_budget = error["code"] == crate::budget::BUDGET_EXCEEDED;
        let ending = if is_budget { Ending::Budget } else { Ending::Failed };
        self.end(history, ending, reason, watch).await
    }

    pub(super) async fn end(
        &self,
        history: &History,
        ending: Ending,
        reason: String,
        watch: &mut dyn Watch,
    ) -> Result<(), TaskError> {
        let phase = Phase::Ended { ending, reason: reason.clone() };
        let session = Session { phase, ..history.session.clone() };
        self.store.save(&self.id, vec![Change::Session(Box::new(session))]).await?;
        let now = self.history().await?;
        watch.event(&Event::Ended { ending, reason: &reason, session: &now.session, cost: now.total_cost() });
        Ok(())
    }
}

/// Events of calls that run at once, told when all have ended.
#[derive(Default)]
struct Heard(Vec<CallRecord>);

impl Watch for Heard {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Called { call, .. } = event {
            self.0.push((*call).clone());
        }
    }
}

impl Heard {
    fn tell(self, history: &History, watch: &mut dyn Watch) {
        for call in &self.0 {
            watch.event(&Event::Calling { tool: &call.tool });
            watch.event(&Event::Called { call, cost: history.cost() });
        }
    }
}

fn is_open(history: &History, number: u32, index: usize) -> bool {
    history.call(&slot(number, index)).is_none_or(|call| call.answer.is_none())
}

/// Returns the first call of a message that is not carried out.
pub(super) fn next_open(history: &History, number: u32, reply: &Reply) -> Option<usize> {
    (0..reply.calls.len()).find(|index| is_open(history, number, *index))
}

pub(super) fn message(history: &History, session: &Session, said: Said) -> Message {
    let number = u32::try_from(history.messages.len()).unwrap_or(u32::MAX);
    Message { number, iteration: session.iteration, at: Timestamp::now(), said }
}

/// Says that the agent was asked and answered with message `number`.
fn answered_asking(asking: CallRecord, number: usize) -> Change {
    let structured = json!({ "message": number });
    let (at, outcome) = (Timestamp::now(), Outcome::Ok);
    let answer = Some(CallAnswer { at, outcome, structured, receipt: None, recovered: false });
    Change::Call(Box::new(CallRecord { answer, ..asking }))
}

/// Returns the message of the commit: the task's first line, the rest, and how it came about.
fn commit_message(history: &History) -> String {
    let session = &history.session;
    // Lines that look like trailers, or end a message for git, are words of the task and none of ours.
    let plain = |line: &str| match line.split_once(':') {
        Some((key, rest)) if !key.contains(' ') => format!("  {key} -{rest}"),
        _ if line.starts_with("---") => format!("  {}", line.trim_end()),
        _ => line.trim_end().to_owned(),
    };
    let mut lines = session.task.trim().lines();
    let first = lines.next().unwrap_or("Task");
    let subject: String = first.trim_start_matches('-').trim().chars().take(100).collect();
    let mut body: Vec<String> = Vec::new();
    if subject.len() < first.len() {
        body.push(plain(first));
    }
    body.extend(lines.map(plain));
    let body = body.join("\n");
    let body = body.trim();
    let cut: String = body.chars().take(8_000).collect();
    let separator = if cut.is_empty() { "" } else { "\n\n" };
    format!(
        "{subject}{separator}{cut}\n\nTollgate-Session: {}\nTollgate-Iterations: {}\nTollgate-Agent: {}",
        session.id,
        session.iteration,
        session.agent.label(),
    )
}
