//! What is done for a task: functions over its stored state, each of which does one step and saves what came of it.
//!
//! [`TaskRun::advance`] does the next step, whoever calls it and however often the process before it died; [`drive`] calls
//! it until the task ends or somebody wants it to stop.

mod accept;
mod call;
pub(crate) use call::OF_AGENT;
pub mod drive;
pub(crate) mod files;
pub mod start;
mod step;
mod team;
pub mod tools;
mod tree;
mod verdict;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Mutex;
use tollgate_shared::identity::Identity;
use tollgate_shared::ledger::LedgerError;
use tollgate_shared::money::Money;
use tollgate_shared::sandbox::Setting;

use crate::agent::AnyAgent;
use crate::config::House;
use crate::fleet::Fleet;
use crate::session::store::{Store, StoreError};
use crate::session::{Ending, History, Phase, Session, VerdictRecord};
use crate::team::Member;
use crate::telemetry::task::Turn;
use drive::Stop;
use tools::{Effect, Route, TaskTool};

/// One task under way in this process: its agent, and everything that calls are made with.
pub struct TaskRun {
    pub(crate) core: Arc<TaskCore>,
    pub(crate) agent: AnyAgent,
    /// What members of its team are begun with.
    pub(crate) house: House,
    /// What stops it stops everybody in its team.
    pub(crate) stop: Stop,
}

/// What calls of a task are made with, also by an agent that calls while it is asked.
pub struct TaskCore {
    pub(crate) store: Store,
    pub(crate) fleet: Fleet,
    /// Every tool that its agent can call at one time or another.
    pub(crate) all_tools: Vec<TaskTool>,
    pub(crate) id: String,
    /// Where relative paths of the configuration start.
    pub(crate) workspace: PathBuf,
    /// The folder that nothing confined may see.
    pub(crate) state: PathBuf,
    /// How acceptance commands are confined.
    pub(crate) sandbox: Setting,
    /// Held while this process works on the task.
    pub(crate) _lock: std::fs::File,
    /// The file that every process of this run holds locked while it may do something.
    pub(crate) owner_file: Option<PathBuf>,
    /// Held by a call of an agent's own that has an effect.
    pub(crate) effects: Mutex<()>,
    /// What such calls are part of in a trace.
    pub(crate) turn: Turn,
}

impl Deref for TaskRun {
    type Target = TaskCore;

    fn deref(&self) -> &TaskCore {
        &self.core
    }
}

/// A step cannot be done, and nothing about the task is to blame.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The session cannot be read or saved.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger cannot be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The session is gone.
    #[error("there is no session {0} any more")]
    Gone(String),
    /// A part of it cannot be gone on with yet.
    #[error("{0}")]
    Busy(String),
}

/// Something that happened, for whoever watches.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The working tree was made.
    Prepared {
        /// Where.
        worktree: &'a Path,
        /// On which branch.
        branch: &'a str,
    },
    /// An iteration begins.
    Iteration(u32),
    /// The agent said something.
    Said(&'a str),
    /// A call begins.
    Calling {
        /// The tool's name in the catalogue.
        tool: &'a str,
    },
    /// A call ended.
    Called {
        /// The call.
        call: &'a crate::session::CallRecord,
        /// What the task cost so far.
        cost: Money,
    },
    /// What the agent made was looked at.
    Judged(&'a VerdictRecord),
    /// A team's task is divided.
    Planned {
        /// Who does what.
        members: &'a [Member],
        /// Why it is not the lead's own division, where it is not.
        default_reason: Option<&'a str>,
    },
    /// Something happened to a member of a team.
    Member {
        /// The name of its part.
        name: &'a str,
        /// What.
        event: &'a Event<'a>,
    },
    /// The work of a member was merged, or given back to it.
    Merged {
        /// The name of its part.
        name: &'a str,
        /// Files in which it conflicts with what was merged before; none when it is merged.
        conflicts: &'a [String],
    },
    /// One agent does what a team was to do.
    FellBack {
        /// Why.
        reason: &'a str,
    },
    /// The task ended.
    Ended {
        /// How.
        ending: Ending,
        /// Why.
        reason: &'a str,
        /// The task, as it is now.
        session: &'a Session,
        /// What it cost.
        cost: Money,
    },
}

/// Hears of everything that happens.
pub trait Watch: Send {
    /// Something happened.
    fn event(&mut self, event: &Event<'_>);
}

impl TaskRun {
    /// Ends the agent and the servers.
    pub async fn close(&mut self) {
        self.agent.close().await;
        self.core.fleet.close().await;
    }
}

impl TaskCore {
    /// Returns everything about the task.
    pub(crate) async fn history(&self) -> Result<History, TaskError> {
        self.store.load(&self.id).await?.ok_or_else(|| TaskError::Gone(self.id.clone()))
    }

    /// Returns what its agent can call now: whoever divides a task only looks, and whoever does one divides nothing.
    pub(crate) fn tools_in(&self, session: &Session) -> impl Iterator<Item = &TaskTool> {
        let divides = session.phase == Phase::Analysing;
        self.all_tools.iter().filter(move |tool| match tool.route {
            Route::PlanTeam => divides,
            Route::Plan => true,
            _ => !divides || tool.effect == Effect::Reads,
        })
    }

    pub(crate) fn identity(&self, session: &Session) -> Identity {
        Identity { agent: session.agent_name.clone(), task_id: Some(session.id.clone()), call_id: None }
    }
}
