//! The steps of a task that a team does: dividing it, having its parts done, merging them. A part is a session as any
//! other, done by the same loop; what is special here is who begins it and what becomes of its branch.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use serde_json::{Value, json};
use tollgate_shared::error_chain::Chain;

use super::call::Due;
use super::drive::{Stop, Stopped, drive};
use super::start::{Busy, More, Order};
use super::step::{message, next_open};
use super::tools::Effect;
use super::{Event, TaskError, TaskRun, Watch, tree};
use crate::catalogue::BUILT_IN;
use crate::session::store::{Change, Store, StoreError};
use crate::session::{Ending, History, Phase, Said, Session};
use crate::team::plan::{self, PLAN_TEAM, Part};
use crate::team::{CONFLICTS_MAX, Member, MemberState, Membership, Team};

const ANALYSIS: &str = include_str!("../../prompts/team/analysis.md");
const REPAIR: &str = include_str!("../../prompts/team/repair.md");
const SYNTHESIS: &str = include_str!("../../prompts/team/synthesis.md");
const FALLBACK: &str = include_str!("../../prompts/team/fallback.md");
const CONFLICT: &str = include_str!("../../prompts/team/conflict.md");

/// How often a lead writes down a division that cannot be used before the usual one is taken.
const PLANS_MAX: usize = 2;

/// Most messages of dividing a task: whoever needs more does not divide it.
const ANALYSIS_MESSAGES_MAX: usize = 60;

/// Longest report of one member that the lead is told, in characters.
const REPORT_CHARS_MAX: usize = 6_000;

/// How many further iterations a member gets to resolve a conflict.
const CONFLICT_ITERATIONS: u32 = 3;

/// How a member's session ended.
enum MemberEnd {
    /// It did: how, and everything about it.
    Ended(Box<History>),
    /// Somebody wanted it to stop before.
    Stopped(Box<History>),
    /// It cannot be begun, for a reason that a further try would find again.
    Impossible(String),
}

impl TaskRun {
    /// Keeps a lead from spending what its members may.
    pub(super) fn limit_lead(&self, history: &History) {
        let session = &history.session;
        let Some(team) = &session.team else { return };
        let most = session.budget_usd.min(self.house.budget.per_task_usd.unwrap_or(session.budget_usd));
        let own = if session.phase == Phase::Analysing {
            most.times(u64::from(team.lead_percent)).average_over(100)
        } else {
            most.left_after(team.committed())
        };
        self.fleet.account().budgets().limit_task(own);
    }

    /// Has the lead divide the task; where it does not, the usual parts are taken.
    pub(super) async fn analyse(&mut self, history: &History, watch: &mut dyn Watch) -> Result<(), TaskError> {
        let Some(team) = history.session.active_team() else {
            return self.fall_back(history, "there is no team".to_owned(), watch).await;
        };
        if let Some(parts) = planned(history, team) {
            return self.staff(history, parts, None, watch).await;
        }
        let refused = history.calls.iter().filter(|call| call.tool == tool_name() && call.answer.is_some()).count();
        if refused >= PLANS_MAX {
            let reason = "the lead's division of the task cannot be used".to_owned();
            return self.staff_as_usual(history, reason, watch).await;
        }
        if let Some((message_of_lead, reply)) = history.last_reply() {
            if let Some(next) = next_open(history, message_of_lead.number, reply) {
                return self.carry_out_next(history, message_of_lead.number, reply, next, watch).await;
            }
            if reply.calls.is_empty() {
                if count_of_team_messages(history) > 1 {
                    let reason = "the lead did not divide the task".to_owned();
                    return self.staff_as_usual(history, reason, watch).await;
                }
                let repair = message(history, &history.session, Said::Team { text: REPAIR.trim_end().to_owned() });
                return Ok(self.store.save(&self.id, vec![Change::Message(Box::new(repair))]).await?);
            }
        }
        if history.messages.len() >= ANALYSIS_MESSAGES_MAX {
            let reason = "the lead looked at the task for too long without dividing it".to_owned();
            return self.staff_as_usual(history, reason, watch).await;
        }
        match self.ask(history, watch).await? {
            None => Ok(()),
            Some((_, reason)) => {
                // What it cost to find out is in the store by now.
                let history = self.history().await?;
                self.staff_as_usual(&history, format!("the lead cannot divide the task: {reason}"), watch).await
            }
        }
    }

    async fn staff_as_usual(&self, history: &History, reason: String, watch: &mut dyn Watch) -> Result<(), TaskError> {
        let parts = history.session.team.as_ref().map(|team| team.default_parts(&history.session.task));
        self.staff(history, parts.unwrap_or_default(), Some(reason), watch).await
    }

    /// Writes down who does which part.
    async fn staff(
        &self,
        history: &History,
        parts: Vec<Part>,
        default_reason: Option<String>,
        watch: &mut dyn Watch,
    ) -> Result<(), TaskError> {
        let mut session = history.session.clone();
        let Some(team) = &mut session.team else {
            return self.fall_back(history, "there is no team".to_owned(), watch).await;
        };
        if let Some(reason) = &default_reason {
            tracing::warn!(session = self.id, reason, "the usual parts are taken");
        }
        team.default_reason = default_reason;
        if let Err(error) = team.staff(parts, &session.id, &session.agent, &self.house.workspace) {
            let reason = Chain(error.as_ref()).to_string();
            return self.fall_back(history, reason, watch).await;
        }
        watch.event(&Event::Planned { members: &team.members, default_reason: team.default_reason.as_deref() });
        session.phase = Phase::Delegating;
        Ok(self.store.save(&self.id, vec![Change::Session(Box::new(session))]).await?)
    }

    /// Has every part done that can be done now, several at a time.
    pub(super) async fn delegate(&mut self, history: &History, watch: &mut dyn Watch) -> Result<(), TaskError> {
        let mut session = history.session.clone();
        let budget = session.budget_usd.min(self.house.budget.per_task_usd.unwrap_or(session.budget_usd));
        let Some(team) = session.team.as_mut().filter(|team| team.fallback.is_none()) else {
            return self.fall_back(history, "there is no team".to_owned(), watch).await;
        };
        let due = team.due();
        if due.is_empty() {
            session.phase = Phase::Merging;
            return Ok(self.store.save(&self.id, vec![Change::Session(Box::new(session))]).await?);
        }
        team.share_out(&due, budget, history.cost());
        let parallel = team.parallel;
        let members: Vec<(usize, Member)> = due.iter().map(|place| (*place, team.members[*place].clone())).collect();
        // From here on whoever resumes goes on with these sessions.
        self.store.save(&self.id, vec![Change::Session(Box::new(session.clone()))]).await?;
        let left = Duration::from_millis(session.timeout_ms.saturating_sub(session.worked_ms).max(1));
        let ends: Vec<(usize, Result<MemberEnd, TaskError>)> = {
            let told: &mut dyn Watch = &mut *watch;
            let shared = Mutex::new(told);
            let running = members.iter().map(|(place, member)| {
                let work = self.member(&session, member, left, &shared);
                async move { (*place, work.await) }
            });
            // Boxed: how long each borrows what it is told of is more than the compiler finds out by itself.
            let running: Vec<Pin<Box<dyn Future<Output = _> + Send + '_>>> =
                running.map(|work| Box::pin(work) as Pin<Box<_>>).collect();
            stream::iter(running).buffer_unordered(parallel).collect().await
        };
        let mut stopped = false;
        let mut blocked = None;
        for (place, end) in ends {
            let Some(member) = session.team.as_mut().and_then(|team| team.members.get_mut(place)) else { continue };
            match end? {
                MemberEnd::Impossible(reason) => {
                    (member.state, member.report) = (MemberState::Failed, reason);
                }
                MemberEnd::Stopped(part) => {
                    stopped = true;
                    (member.cost_usd, member.iterations) = (part.cost(), part.session.iteration);
                }
                MemberEnd::Ended(part) => {
                    (member.cost_usd, member.iterations) = (part.cost(), part.session.iteration);
                    let Phase::Ended { ending, reason } = &part.session.phase else { continue };
                    member.report = part.last_words().unwrap_or_default().to_owned();
                    match ending {
                        Ending::Done if part.session.commit.is_some() => member.state = MemberState::Done,
                        Ending::Done => member.state = MemberState::Merged,
                        Ending::Blocked => blocked = Some(format!("{} ({}): {reason}", member.id, member.role.name)),
                        other => {
                            member.report = format!("{}: {reason}", other.as_str());
                            member.state = MemberState::Failed;
                        }
                    }
                }
            }
        }
        if let Some(reason) = blocked {
            // What a person has to decide no other agent may go around.
            let history = History { session, ..history.clone() };
            return self.end(&history, Ending::Blocked, reason, watch).await;
        }
        if !stopped {
            session.phase = Phase::Merging;
        }
        Ok(self.store.save(&self.id, vec![Change::Session(Box::new(session))]).await?)
    }

    /// Begins a member's session or goes on with it, until it ends.
    async fn member(
        &self,
        session: &Session,
        member: &Member,
        left: Duration,
        watch: &Mutex<&mut dyn Watch>,
    ) -> Result<MemberEnd, TaskError> {
        let before = self.store.load(&member.session).await?;
        if let Some(history) = before.as_ref().filter(|history| matches!(history.session.phase, Phase::Ended { .. })) {
            // Its process died after it ended, and before anybody heard.
            return Ok(MemberEnd::Ended(Box::new(history.clone())));
        }
        let begun = if before.is_some() {
            TaskRun::resume(&self.house, self.sandbox, &member.session, More::default()).await
        } else {
            TaskRun::begin(&self.house, self.sandbox, order(session, member, left)).await
        };
        let mut run = match begun {
            Ok(run) => run,
            Err(error) if error.is::<Busy>() => return Err(TaskError::Busy(error.to_string())),
            Err(error) => return Ok(MemberEnd::Impossible(Chain(error.as_ref()).to_string())),
        };
        let mut watch = MemberWatch { name: &member.id, to: watch };
        let stopped = driven(&mut run, &self.stop, &mut watch).await;
        if !matches!(stopped, Ok(Stopped::Now)) {
            run.close().await;
        }
        let history = run.history().await?;
        Ok(match stopped? {
            Stopped::Ended => MemberEnd::Ended(Box::new(history)),
            Stopped::Between | Stopped::Now => MemberEnd::Stopped(Box::new(history)),
        })
    }

    /// Merges the work of the next member that is done, or says what comes after the last one.
    pub(super) async fn merge_next(&mut self, history: &History, watch: &mut dyn Watch) -> Result<(), TaskError> {
        let mut session = history.session.clone();
        let Some(team) = session.active_team() else {
            return self.fall_back(history, "there is no team".to_owned(), watch).await;
        };
        let Some(place) = team.to_merge() else {
            if !team.due().is_empty() {
                session.phase = Phase::Delegating;
                return Ok(self.store.save(&self.id, vec![Change::Session(Box::new(session))]).await?);
            }
            if !team.is_whole() {
                let failed =
                    team.failed().map(|member| format!("{} ({}): {}", member.id, member.role.name, member.report));
                let reason = failed.unwrap_or_else(|| "its parts cannot be done in any order".to_owned());
                return self.fall_back(history, reason, watch).await;
            }
            let text = filled(SYNTHESIS, &[("members", &members(team)), ("task", &session.task)]);
            return self.go_to_work(history, session, text, watch).await;
        };
        let member = team.members[place].clone();
        let branch = format!("tollgate/{}", member.session);
        let arguments = json!({ "repo_path": session.worktree, "source": branch, "mode": "auto",
            "message": format!("Merge {} ({})\n\nTollgate-Session: {}", member.id, member.role.name, self.id) });
        let due =
            Due::own(&format!("merge.{place}.{}", member.conflicts), "git", "git_merge", Effect::Idempotent, arguments);
        let answer = self.carry_out(history, due, watch).await?;
        let code = answer.structured["error"]["code"].as_str();
        let Some(team) = &mut session.team else { return Ok(()) };
        match code {
            None => {
                team.members[place].state = MemberState::Merged;
                watch.event(&Event::Merged { name: &member.id, conflicts: &[] });
            }
            Some("merge_conflicts") if member.conflicts < CONFLICTS_MAX => {
                let files = conflicting(&answer.structured);
                watch.event(&Event::Merged { name: &member.id, conflicts: &files });
                return self.give_back(history, session, place, &files, watch).await;
            }
            Some("merge_conflicts") => {
                team.members[place].state = MemberState::Failed;
                team.members[place].report =
                    format!("its work still conflicts with the others' after {CONFLICTS_MAX} tries");
            }
            Some(crate::budget::BUDGET_EXCEEDED) => {
                return self.end_with(history, "a merge does not fit the budget", &answer, watch).await;
            }
            Some(_) => {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let error = &answer.structured["error"];
                team.members[place].state = MemberState::Failed;
                team.members[place].report =
                    format!("it cannot be merged: {}; {}", text(&error["message"]), text(&error["hint"]));
            }
        }
        Ok(self.store.save(&self.id, vec![Change::Session(Box::new(session))]).await?)
    }

    /// Puts what was merged before into the working tree of a member whose work conflicts with it, and has it go on.
    async fn give_back(
        &self,
        history: &History,
        mut session: Session,
        place: usize,
        files: &[String],
        watch: &mut dyn Watch,
    ) -> Result<(), TaskError> {
        let Some(team) = &mut session.team else { return Ok(()) };
        let member = &mut team.members[place];
        let Some(part) = self.store.load(&member.session).await? else {
            return Err(TaskError::Gone(member.session.clone()));
        };
        let arguments = json!({ "repo_path": part.session.worktree, "source": session.branch, "keep_conflicts": true });
        let slot = format!("conflict.{place}.{}", member.conflicts);
        let due = Due::own(&slot, "git", "git_merge", Effect::Idempotent, arguments);
        let answer = self.carry_out(history, due, watch).await?;
        // A process that died after it began the merge left it begun.
        let is_begun = answer.structured["error"]["code"] == "operation_in_progress";
        if answer.structured.get("error").is_some() && !is_begun {
            return self.end_with(history, "the conflicting work cannot be given back", &answer, watch).await;
        }
        let at = (session.worktree.clone().unwrap_or_default(), session.branch.clone());
        let tip = tokio::task::spawn_blocking(move || tree::tip(&at.0, &at.1)).await.ok().flatten();
        member.conflicts += 1;
        member.state = MemberState::Working;
        let mut next = part.session.clone();
        next.iterations_max = next.iterations_max.max(next.iteration + CONFLICT_ITERATIONS);
        next.iteration += 1;
        next.phase = Phase::Working;
        next.commit = None;
        // What others did is not its change.
        next.base_commit = tip;
        let text = filled(CONFLICT, &[("files", &files.join(", "))]);
        let told = message(&part, &next, Said::Findings { text });
        session.phase = Phase::Delegating;
        // Both or neither: a member that was told and is not waited for would be lost.
        let of_member = vec![Change::Message(Box::new(told)), Change::Session(Box::new(next.clone()))];
        let of_team = vec![Change::Session(Box::new(session))];
        Ok(self.store.save_all(vec![(next.id, of_member), (self.id.clone(), of_team)]).await?)
    }

    /// Has one agent do what the team does not.
    async fn fall_back(&self, history: &History, reason: String, watch: &mut dyn Watch) -> Result<(), TaskError> {
        tracing::warn!(session = self.id, reason, "one agent does what the team does not");
        watch.event(&Event::FellBack { reason: &reason });
        let mut session = history.session.clone();
        let told = session.team.as_ref().map(|team| members(team)).unwrap_or_default();
        let text = filled(FALLBACK, &[("reason", &reason), ("members", &told), ("task", &session.task)]);
        if let Some(team) = &mut session.team {
            team.fallback = Some(reason);
        }
        self.go_to_work(history, session, text, watch).await
    }

    /// Asks the lead, or who takes its place, for the whole.
    async fn go_to_work(
        &self,
        history: &History,
        mut session: Session,
        text: String,
        watch: &mut dyn Watch,
    ) -> Result<(), TaskError> {
        session.phase = Phase::Working;
        session.iteration = 1;
        watch.event(&Event::Iteration(1));
        let told = message(history, &session, Said::Team { text });
        Ok(self.store.save(&self.id, vec![Change::Message(Box::new(told)), Change::Session(Box::new(session))]).await?)
    }
}

/// Has members go on whose sessions ended without being done, as somebody resumes the whole.
pub(super) async fn revive(store: &Store, session: &mut Session) -> Result<(), StoreError> {
    let Some(team) = session.team.as_mut().filter(|team| team.fallback.is_none()) else { return Ok(()) };
    for member in team.members.iter_mut().filter(|member| member.state == MemberState::Working) {
        let Some(history) = store.load(&member.session).await? else { continue };
        if matches!(history.session.phase, Phase::Ended { .. })
            && let Some(phase) = history.session.resumed()
        {
            let part = Session { phase, ..history.session };
            store.save(&member.session, vec![Change::Session(Box::new(part))]).await?;
        }
    }
    Ok(())
}

/// Returns what a lead is asked first.
pub(super) fn ask_for_parts(task: &str, team: &Team) -> String {
    let roles: Vec<String> = team.roles.iter().map(|role| format!("- {}: {}", role.name, role.description)).collect();
    filled(ANALYSIS, &[("task", task), ("members_max", &team.members_max.to_string()), ("roles", &roles.join("\n"))])
}

/// Returns the parts that the lead wrote down, where they can be used.
fn planned(history: &History, team: &Team) -> Option<Vec<Part>> {
    let is_good = |call: &&crate::session::CallRecord| {
        call.tool == tool_name() && call.answer.as_ref().is_some_and(|answer| answer.structured.get("error").is_none())
    };
    let call = history.calls.iter().rev().find(is_good)?;
    plan::read(&call.arguments, &team.roles, team.members_max).ok()
}

fn tool_name() -> String {
    format!("{BUILT_IN}__{PLAN_TEAM}")
}

fn count_of_team_messages(history: &History) -> usize {
    history.messages.iter().filter(|message| matches!(message.said, Said::Team { .. })).count()
}

fn order(session: &Session, member: &Member, left: Duration) -> Order {
    Order {
        id: Some(member.session.clone()),
        task: member.task.clone(),
        agent: member.agent.clone(),
        repository: session.repository.clone(),
        accept: member.accept.clone(),
        budget_usd: member.budget_usd,
        iterations: member.role.iterations,
        timeout: Duration::from_millis(member.role.timeout_ms).min(left),
        team: None,
        member: Some(Membership { team: session.id.clone(), member: member.id.clone(), role: member.role.clone() }),
    }
}

/// Returns who did what, for the lead.
fn members(team: &Team) -> String {
    if team.members.is_empty() {
        return "(nothing yet)".to_owned();
    }
    let told = team.members.iter().map(|member| {
        let state = match member.state {
            MemberState::Merged => "merged",
            MemberState::Failed => "not done",
            MemberState::Waiting | MemberState::Working | MemberState::Done => "not merged",
        };
        let report: String = member.report.trim().chars().take(REPORT_CHARS_MAX).collect();
        let task = member.task.lines().next().unwrap_or_default();
        let report = if report.is_empty() { "no report".to_owned() } else { report };
        format!("## {} by {}, {state}\n{task}\n\nReport: {report}", member.id, member.role.name)
    });
    told.collect::<Vec<_>>().join("\n\n")
}

/// Puts values into the places of a prompt; what stands in a value stays as it is.
fn filled(prompt: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::new();
    let mut rest = prompt.trim_end();
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let known = after.split_once('}').and_then(|(name, after)| {
            let (_, value) = values.iter().find(|(known, _)| *known == name)?;
            Some((*value, after))
        });
        match known {
            Some((value, after)) => {
                text.push_str(value);
                rest = after;
            }
            None => {
                text.push('{');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

fn conflicting(answer: &Value) -> Vec<String> {
    let error = &answer["error"];
    let listed = [&error["conflicts"], &error["details"]["conflicts"], &answer["conflicts"]];
    let listed = listed.into_iter().find_map(Value::as_array);
    let path = |conflict: &Value| conflict["path"].as_str().map(str::to_owned);
    listed.map(|all| all.iter().filter_map(path).collect()).unwrap_or_default()
}

/// As [`drive`], as a type that does not contain itself: a team's task drives its members' tasks.
fn driven<'a>(
    run: &'a mut TaskRun,
    stop: &'a Stop,
    watch: &'a mut dyn Watch,
) -> Pin<Box<dyn Future<Output = Result<Stopped, TaskError>> + Send + 'a>> {
    Box::pin(drive(run, stop, watch))
}

/// Hands on what happens to a member.
struct MemberWatch<'a, 'b> {
    name: &'a str,
    to: &'a Mutex<&'b mut dyn Watch>,
}

impl Watch for MemberWatch<'_, '_> {
    fn event(&mut self, event: &Event<'_>) {
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        to.event(&Event::Member { name: self.name, event });
    }
}
