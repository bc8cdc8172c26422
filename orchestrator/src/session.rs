//! What is remembered of a task while an agent works on it, and afterwards: enough to go on at any point.

pub mod store;

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tollgate_shared::identity::Agent as AgentName;
use tollgate_shared::money::Money;
use tollgate_shared::receipt::{Outcome, Receipt};

use crate::agent::AgentSpec;
use crate::team::role::Role;
use crate::team::{Membership, Team};

/// One task, and how far it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// Names the session, and the task in receipts, trailers and budgets.
    pub id: String,
    /// What is to be done, in the words of whoever wants it.
    pub task: String,
    /// Who does it.
    pub agent: AgentSpec,
    /// On whose behalf calls are made.
    pub agent_name: AgentName,
    /// The repository that it is done in.
    pub repository: PathBuf,
    /// Commands that must succeed, as words.
    pub accept: Vec<Vec<String>>,
    /// What it may cost, in US dollars.
    pub budget_usd: Money,
    /// How often the agent may say that it is done.
    pub iterations_max: u32,
    /// How long it may take, in milliseconds; time in which nobody worked on it does not count.
    pub timeout_ms: u64,
    /// How long it took so far, in milliseconds.
    pub worked_ms: u64,
    /// What comes next.
    pub phase: Phase,
    /// The iteration under way, from 1.
    pub iteration: u32,
    /// The working tree made for it.
    pub worktree: Option<PathBuf>,
    /// The branch made for it.
    pub branch: String,
    /// Where the branch starts.
    pub base_commit: Option<String>,
    /// What came of it.
    pub commit: Option<String>,
    /// The name of the file that the processes of the last run hold locked while they live.
    pub owner: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When something was last saved.
    pub updated_at: Timestamp,
    /// Whether lists leave it out.
    pub archived: bool,
    /// Who else works on it, where it is a team's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<Box<Team>>,
    /// What it is a part of, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Box<Membership>>,
}

/// What comes next in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    /// A working tree is to be made.
    Preparing,
    /// The lead of a team divides the task.
    Analysing,
    /// The members of a team do their parts.
    Delegating,
    /// What members made is to be merged.
    Merging,
    /// It is the agent's turn, or its calls are to be carried out.
    Working,
    /// The agent says that it is done; that is to be looked at.
    Verifying,
    /// It is done; a commit is to be made.
    Committing,
    /// Nothing, unless somebody resumes it.
    Ended {
        /// How it ended.
        ending: Ending,
        /// Why, in a sentence.
        reason: String,
    },
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Verified, accepted and committed.
    Done,
    /// A guardrail or a security check says that a person decides.
    Blocked,
    /// The next step does not fit the budget.
    Budget,
    /// The same findings three times.
    Stuck,
    /// Not done after so many iterations.
    Iterations,
    /// Not done in time.
    Timeout,
    /// The agent, a server or the verification does not work.
    Failed,
}

impl Ending {
    /// Returns the word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Blocked => "blocked",
            Self::Budget => "budget",
            Self::Stuck => "stuck",
            Self::Iterations => "iterations",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
        }
    }
}

impl Phase {
    /// Returns the word for lists.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Analysing => "analysing",
            Self::Delegating => "delegating",
            Self::Merging => "merging",
            Self::Working => "working",
            Self::Verifying => "verifying",
            Self::Committing => "committing",
            Self::Ended { ending, .. } => ending.as_str(),
        }
    }
}

impl Session {
    /// Returns the phase in which it goes on when somebody resumes it; `None` when it is done.
    #[must_use]
    pub fn resumed(&self) -> Option<Phase> {
        match &self.phase {
            Phase::Ended { ending: Ending::Done, .. } => None,
            Phase::Ended { .. } if self.worktree.is_none() => Some(Phase::Preparing),
            // What ended it is looked at again: the verdict, the budget, the clock.
            Phase::Ended { .. } => Some(match self.active_team() {
                Some(team) if team.members.is_empty() => Phase::Analysing,
                Some(team) if !team.is_whole() => Phase::Delegating,
                _ => Phase::Working,
            }),
            // Nobody knows what became of the files since they were verified.
            Phase::Committing => Some(Phase::Verifying),
            other => Some(other.clone()),
        }
    }

    /// Returns the team that works on it: none where one agent does it after all.
    #[must_use]
    pub fn active_team(&self) -> Option<&Team> {
        self.team.as_deref().filter(|team| team.fallback.is_none())
    }

    /// Returns the role that whoever is asked has.
    #[must_use]
    pub fn role(&self) -> Option<&Role> {
        let of_lead = self.active_team().map(|team| &team.lead);
        self.member.as_ref().map(|member| &member.role).or(of_lead)
    }
}

/// Something that was said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    /// Its number in the session, from 0.
    pub number: u32,
    /// In which iteration.
    pub iteration: u32,
    /// When.
    pub at: Timestamp,
    /// By whom, and what.
    #[serde(flatten)]
    pub said: Said,
}

/// Who said what.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum Said {
    /// The task, to the agent.
    Task {
        /// In words.
        text: String,
    },
    /// What verification found, to the agent.
    Findings {
        /// In words.
        text: String,
    },
    /// What comes next in the work of a team, to its lead.
    Team {
        /// In words.
        text: String,
    },
    /// By the agent.
    Agent(Reply),
    /// What is left of everything before it, where that did not fit the model's window any more.
    Summary {
        /// In words.
        text: String,
        /// What it cost to write it, where a model did.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        receipts: Vec<Receipt>,
    },
}

/// What an agent said.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reply {
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What it wants done, in order; nothing when it says that it is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Wanted>,
    /// What a model's provider wants back with the next request, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opaque: Option<Value>,
    /// What its requests cost, failed ones too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receipts: Vec<Receipt>,
    /// How many tokens its last request had, as the provider counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
}

/// A tool call that an agent wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wanted {
    /// The agent's own identifier of it.
    pub id: String,
    /// The tool's name in the catalogue.
    pub tool: String,
    /// Its arguments.
    pub arguments: Value,
}

/// A tool call of a session: the agent's own, or one of the loop's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CallRecord {
    /// Its place in the session, `3.0` for the first call of message 3, or what the loop does with it: `verify.2`; `ask.3` for asking
    /// the agent for message 3.
    pub slot: String,
    /// Its name in the ledger: the idempotency key. A second attempt has another.
    pub call_id: String,
    /// The tool's name in the catalogue.
    pub tool: String,
    /// Its arguments, as they are sent.
    pub arguments: Value,
    /// What would show that it was carried out, as it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// When it began.
    pub begun_at: Timestamp,
    /// What came of it; nothing while nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<CallAnswer>,
    /// What attempts cost whose answers were lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Receipt>,
}

/// What came of a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CallAnswer {
    /// When.
    pub at: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// The structured answer.
    pub structured: Value,
    /// The receipt; absent for what needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
    /// Whether it was found out after a crash that it had been carried out; its answer is lost.
    #[serde(default)]
    pub recovered: bool,
}

/// What was found when the agent said that it is done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VerdictRecord {
    /// In which iteration.
    pub iteration: u32,
    /// When.
    pub at: Timestamp,
    /// Ralph's verdict, by name.
    pub verdict: String,
    /// How each acceptance command ended.
    pub acceptance: Vec<Accepted>,
    /// What is to be done about it, one entry each; empty when it is done.
    pub findings: Vec<String>,
    /// What the loop does next.
    pub decision: String,
}

/// How an acceptance command ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// The command.
    pub command: String,
    /// Whether it succeeded.
    pub passed: bool,
    /// How it ended, in words.
    pub ended: String,
    /// The end of what it printed.
    pub output: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// Everything about one session.
#[derive(Clone, Debug, Serialize)]
pub struct History {
    /// The task, and how far it is.
    pub session: Session,
    /// In order.
    pub messages: Vec<Message>,
    /// In the order of their beginning.
    pub calls: Vec<CallRecord>,
    /// In order.
    pub verdicts: Vec<VerdictRecord>,
}

impl History {
    /// Returns the call in `slot`.
    #[must_use]
    pub fn call(&self, slot: &str) -> Option<&CallRecord> {
        self.calls.iter().find(|call| call.slot == slot)
    }

    /// Returns the calls of tools: not what was noted of asking the agent.
    pub fn tool_calls(&self) -> impl Iterator<Item = &CallRecord> {
        self.calls.iter().filter(|call| !call.slot.starts_with("ask."))
    }

    /// Returns every receipt of the session: of tools and of models, of answers that were lost too.
    pub fn receipts(&self) -> impl Iterator<Item = &Receipt> {
        let of_calls = self.calls.iter().flat_map(|call| {
            let answered = call.answer.as_ref().and_then(|answer| answer.receipt.as_ref());
            call.lost.iter().chain(answered)
        });
        let of_messages = self.messages.iter().flat_map(|message| match &message.said {
            Said::Agent(reply) => reply.receipts.iter(),
            Said::Summary { receipts, .. } => receipts.iter(),
            Said::Task { .. } | Said::Findings { .. } | Said::Team { .. } => [].iter(),
        });
        of_calls.chain(of_messages)
    }

    /// Returns what the session itself cost so far.
    #[must_use]
    pub fn cost(&self) -> Money {
        self.receipts().map(|receipt| receipt.amount).sum()
    }

    /// Returns what the task cost so far: with the sessions of everybody in its team.
    #[must_use]
    pub fn total_cost(&self) -> Money {
        self.cost() + self.session.team.as_ref().map(|team| team.cost()).unwrap_or_default()
    }

    /// Returns the last thing that the agent said in words.
    #[must_use]
    pub fn last_words(&self) -> Option<&str> {
        self.messages.iter().rev().find_map(|message| match &message.said {
            Said::Agent(reply) => reply.text.as_deref().filter(|text| !text.trim().is_empty()),
            _ => None,
        })
    }

    /// Returns the last message, and the reply in it where the agent said it.
    #[must_use]
    pub fn last_reply(&self) -> Option<(&Message, &Reply)> {
        self.messages.last().and_then(|message| match &message.said {
            Said::Agent(reply) => Some((message, reply)),
            _ => None,
        })
    }
}

/// Returns the slot of the call `index` of message `number`.
#[must_use]
pub fn slot(number: u32, index: usize) -> String {
    format!("{number}.{index}")
}
