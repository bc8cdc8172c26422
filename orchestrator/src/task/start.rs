//! Beginning a task, and going on with one whose process is gone.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use tokio::sync::Mutex;
use tollgate_shared::money::Money;
use tollgate_shared::sandbox::Setting;

use super::call::OF_LOOP;
use super::drive::Stop;
use super::{TaskCore, TaskRun, tools};
use crate::agent::{AgentSpec, AnyAgent};
use crate::catalogue::Catalogue;
use crate::config::{House, OWN_SERVERS};
use crate::fleet::Fleet;
use crate::gateway::policy::Policy;
use crate::session::store::{Change, Store};
use crate::session::{Phase, Session};
use crate::team::role::LEAD;
use crate::team::{Membership, Team};
use crate::telemetry::task::Turn;

/// Longest that a resumed task waits for the servers of the run before it: they finish the call that they are at.
const PREDECESSOR_MAX: Duration = Duration::from_secs(60);

/// The servers of the house that no task can do without.
const NEEDED: [&str; 2] = ["git", "ralph"];

/// How often a server is started that does not live long enough to list its tools.
const LIST_TRIES: u32 = 3;

/// Longest task, as text.
const TASK_BYTES_MAX: usize = 100 * 1024;

/// Most acceptance commands.
const ACCEPT_MAX: usize = 32;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Order {
    /// What its session is called, where that was written down elsewhere before; a new name when left out.
    pub id: Option<String>,
    /// In words.
    pub task: String,
    /// Who does it.
    pub agent: AgentSpec,
    /// In which repository.
    pub repository: PathBuf,
    /// Commands that must succeed, each as it would be typed.
    pub accept: Vec<String>,
    /// What it may cost.
    pub budget_usd: Money,
    /// How often the agent may say that it is done.
    pub iterations: u32,
    /// How long it may take.
    pub timeout: Duration,
    /// The roles of those who do it when the lead does not say, where a team does it.
    pub team: Option<Vec<String>>,
    /// What it is a part of, where it is one.
    pub member: Option<Membership>,
}

/// What a resumed task may have more of than it had.
#[derive(Clone, Copy, Debug, Default)]
pub struct More {
    /// What it may cost altogether.
    pub budget_usd: Option<Money>,
    /// How often the agent may say that it is done, altogether.
    pub iterations: Option<u32>,
    /// How long it may take altogether.
    pub timeout: Option<Duration>,
}

impl TaskRun {
    /// Writes down a new task; nothing of it is done yet.
    ///
    /// # Errors
    ///
    /// A sentence that names what is wrong.
    pub async fn begin(house: &House, sandbox: Setting, order: Order) -> anyhow::Result<Self> {
        ensure!(!order.task.trim().is_empty(), "the task is empty");
        ensure!(order.task.len() <= TASK_BYTES_MAX, "the task is longer than 100 KiB");
        ensure!(order.accept.len() <= ACCEPT_MAX, "there are more than {ACCEPT_MAX} acceptance commands");
        let accept = order.accept.iter().map(|command| words(command)).collect::<anyhow::Result<Vec<_>>>()?;
        // What it needs and has not is said before anything is made.
        AnyAgent::new(&order.agent, house).await?;
        let repository = order.repository.canonicalize();
        let repository = repository.with_context(|| format!("cannot use {}", order.repository.display()))?;
        let store = Store::open(&house.state_dir).await?;
        let team = match &order.team {
            Some(roles) => Some(Box::new(Team::new(&house.team, &house.workspace, roles)?)),
            None => None,
        };
        let mut agent_name = order.agent.name();
        if let Some(member) = &order.member {
            agent_name.role = Some(member.role.name.clone());
        } else if team.is_some() {
            agent_name.role = Some(LEAD.to_owned());
        }
        let mut session = Session {
            id: String::new(),
            task: order.task,
            agent_name,
            agent: order.agent,
            repository,
            accept,
            budget_usd: order.budget_usd,
            iterations_max: order.iterations.max(1),
            timeout_ms: u64::try_from(order.timeout.as_millis()).unwrap_or(u64::MAX).max(1),
            worked_ms: 0,
            phase: Phase::Preparing,
            iteration: 0,
            worktree: None,
            branch: String::new(),
            base_commit: None,
            commit: None,
            owner: None,
            created_at: Timestamp::now(),
            updated_at: Timestamp::now(),
            archived: false,
            team,
            member: order.member.map(Box::new),
        };
        loop {
            session.id = order.id.clone().map_or_else(new_id, Ok)?;
            session.branch = format!("tollgate/{}", session.id);
            let lock = lock(house.state_dir.path(), &session.id)?;
            if store.create(session.clone()).await? {
                return Self::open(house, sandbox, store, session, lock).await;
            }
            ensure!(order.id.is_none(), "there is a session {} already", session.id);
        }
    }

    /// Takes up the task `id`, after every process of the run before it is gone.
    ///
    /// # Errors
    ///
    /// A sentence that says why it cannot go on.
    pub async fn resume(house: &House, sandbox: Setting, id: &str, more: More) -> anyhow::Result<Self> {
        let store = Store::open(&house.state_dir).await?;
        let history = store.load(id).await?;
        let history = history.with_context(|| format!("there is no session {id}; see `orchestrator sessions list`"))?;
        let lock = lock(house.state_dir.path(), id)?;
        let mut session = history.session;
        if let Some(owner) = session.owner.take() {
            wait_for(&house.state_dir.path().join("owners").join(owner)).await?;
        }
        // The one before may have gone on meanwhile.
        if let Some(now) = store.load(id).await? {
            (session.phase, session.team) = (now.session.phase, now.session.team);
        }
        let was_ended = matches!(session.phase, Phase::Ended { .. });
        let Some(phase) = session.resumed() else {
            let commit = session.commit.unwrap_or_default();
            bail!("{id} is done: {commit} on {}", session.branch);
        };
        session.phase = phase;
        session.budget_usd = more.budget_usd.unwrap_or(session.budget_usd);
        session.iterations_max = more.iterations.unwrap_or(session.iterations_max);
        session.timeout_ms =
            more.timeout.map_or(session.timeout_ms, |timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        if was_ended {
            super::team::revive(&store, &mut session).await?;
        }
        let run = Self::open(house, sandbox, store, session, lock).await?;
        let history = run.history().await?;
        run.settle(&history, &OF_LOOP).await?;
        Ok(run)
    }

    async fn open(
        house: &House,
        sandbox: Setting,
        store: Store,
        mut session: Session,
        lock: File,
    ) -> anyhow::Result<Self> {
        let original = house.clone();
        let mut house = house.clone();
        let limit = house.budget.per_task_usd.map_or(session.budget_usd, |limit| limit.min(session.budget_usd));
        house.budget.per_task_usd = Some(limit);
        for needed in NEEDED {
            let there = house.servers.iter().any(|server| server.own && server.name == needed);
            ensure!(there, "a task needs the server `{needed}`; add it to orchestrator.servers");
        }
        let fleet = Fleet::new(&house)?;
        // Written down before anything is started: who resumes waits for what this process leaves behind.
        let owner = fleet.account().budgets().owner_file(fleet.ledger()).await?;
        session.owner = owner.as_ref().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        store.save(&session.id, vec![Change::Session(Box::new(session.clone()))]).await?;
        // The agent is told of these tools once, so a server that died just now is worth a second try.
        let catalogue = Catalogue::merge(fleet.list_trying(LIST_TRIES).await, &house.prices);
        for unavailable in &catalogue.unavailable {
            tracing::warn!(server = unavailable.server, reason = unavailable.reason, "has no tools");
            if NEEDED.contains(&unavailable.server.as_str()) {
                fleet.close().await;
                bail!("a task needs the server `{}`: {}", unavailable.server, unavailable.reason);
            }
        }
        let policy = Policy::new(&house.gateway, None, session.agent_name.role.as_deref())?;
        let own: Vec<String> = OWN_SERVERS.iter().map(|name| (*name).to_owned()).collect();
        let agent = AnyAgent::new(&session.agent, &house).await?;
        let core = TaskCore {
            all_tools: tools::of_task(&catalogue, &own, &policy, &session)?,
            store,
            fleet,
            id: session.id,
            workspace: house.workspace.clone(),
            state: house.state_dir.path().to_owned(),
            sandbox,
            _lock: lock,
            owner_file: owner,
            effects: Mutex::default(),
            turn: Turn::default(),
        };
        Ok(Self { core: Arc::new(core), agent, house: original, stop: Stop::default() })
    }

    /// Returns the id of the task.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// The session cannot be gone on with yet: somebody still works on it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Busy(String);

/// Makes a name for a session.
///
/// # Errors
///
/// When the system has no random numbers.
pub fn new_id() -> anyhow::Result<String> {
    let mut bytes = [0; 5];
    getrandom::fill(&mut bytes)?;
    Ok(format!("task-{}", hex::encode(bytes)))
}

/// Keeps others from working on the session until this process ends.
fn lock(state: &Path, id: &str) -> anyhow::Result<File> {
    let folder = state.join("sessions");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(format!("{id}.lock"));
    let file = File::options().create(true).append(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Busy(format!("another process works on {id}")).into()),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Waits until nobody holds the file locked any more: whoever could still do something, or write a receipt, is gone.
async fn wait_for(owner: &Path) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        match File::options().append(true).open(owner) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("cannot open {}", owner.display())),
            Ok(file) => match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::Error(error)) => return Err(error).context("cannot tell whether servers still run"),
                Err(TryLockError::WouldBlock) => {}
            },
        }
        ensure!(
            began.elapsed() < PREDECESSOR_MAX,
            Busy(
                "servers of the run before still work on their last call; resume again when they have ended".to_owned()
            )
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Splits a command into words as a shell does, without anything else that a shell does.
fn words(command: &str) -> anyhow::Result<Vec<String>> {
    let words = shlex::split(command);
    let words = words.with_context(|| format!("the command `{command}` has a quotation mark without its other"))?;
    ensure!(!words.is_empty(), "an acceptance command is empty");
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_as_a_shell_splits_them() {
        for (command, expected) in [
            ("cargo test", vec!["cargo", "test"]),
            ("sh -c 'exit 1; x'", vec!["sh", "-c", "exit 1; x"]),
            (r#"a "b \"c\" d" '' e\ f"#, vec!["a", r#"b "c" d"#, "", "e f"]),
        ] {
            assert_eq!(words(command).unwrap(), expected);
        }
        assert!(words("a 'b").is_err() && words("  ").is_err());
    }
}
