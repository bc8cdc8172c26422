//! mcp-deploy: gated deployments for agents.
//!
//! A call goes through [`artifact`] (what is it?), [`gate`] (may it?), [`turn`] (one at a time), [`rollout`] (copy,
//! switch, check, and back where the check fails). [`store`] has the history, in which every step stands before its
//! effect; [`deployment`] says which step may follow which; [`rollout::recover`] completes or undoes what a process that
//! died left behind. There is no tool that approves.

pub mod approval;
pub mod artifact;
pub mod blocking;
pub mod cli;
pub mod config;
pub mod configuration;
pub mod deployment;
pub mod diff;
pub mod effect;
pub mod environment;
pub mod freeze;
pub mod gate;
pub mod health;
pub mod kept;
pub mod names;
pub mod plan;
pub mod program;
pub mod rollout;
pub mod running;
pub mod secrets;
pub mod source;
pub mod store;
pub mod target;
pub mod tools;
pub mod tree;
pub mod turn;
pub mod view;

use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Toolbox;
use tollgate_shared::serve::{Call, Server, Startup};
use tollgate_shared::state_dir::StateDir;

use approval::host::Heard;
use approval::trust::{self, Place};
use artifact::ArtifactRoots;
use config::DeployConfig;
use environment::{Environment, Environments};
use names::ServiceName;
use rollout::Caller;
use running::Running;
use secrets::Secrets;
use store::{Filter, Store};
use turn::Turn;

/// The deploy server: where artifacts may lie, the environments with their gates, and the history.
#[derive(Debug)]
pub struct Deploy {
    /// The environments, in order.
    pub environments: Environments,
    /// The folders in which an artifact may lie.
    pub artifacts: ArtifactRoots,
    /// The history of deployments.
    pub store: Store,
    /// The person whose session the agents work in.
    pub operator: Option<String>,
    /// Whether what people must approve is refused while the server's account could go around them.
    pub strict: bool,
    /// Where what decides lies.
    pub place: Place,
    /// What people agreed to through the host.
    pub heard: Heard,
    /// The rollouts under way here.
    pub running: Running,
    /// The rules of Ralph in force.
    pub ralph_rules: ContentHash,
}

impl Deploy {
    /// Says in the log what lets this account go around the people who approve; on a thread, as an agent may be slow.
    fn warn(&self) {
        let place = self.place.clone();
        let environments: Vec<Environment> =
            self.environments.iter().filter(|environment| environment.approvers.is_some()).cloned().collect();
        std::thread::spawn(move || {
            for environment in environments {
                for weakness in trust::weaknesses(&environment, &place) {
                    tracing::warn!(environment = %environment.name, "approvals can be gone around: {weakness}");
                }
            }
        });
    }

    /// Completes or undoes what a process that died left of `service` in `environment`; does nothing while a process
    /// is at work on it.
    ///
    /// # Errors
    ///
    /// `target_moved`, `target_failed`, `history_unavailable`.
    pub async fn recover(
        &self,
        environment: &Environment,
        service: &ServiceName,
        caller: &dyn Caller,
    ) -> Result<(), Refusal> {
        let filter = Filter {
            environment: Some(environment.name.clone()),
            service: Some(service.to_string()),
            ..Filter::default()
        };
        if self.store.under_way(&filter).await?.is_empty() {
            return Ok(());
        }
        match Turn::take_if_free(&self.store, environment, service).await? {
            Some(turn) => rollout::recover(&self.store, &turn, caller).await,
            None => Ok(()),
        }
    }
}

impl Caller for Call {
    fn is_cancelled(&self) -> bool {
        self.cancelled().is_cancelled()
    }

    fn progress(&self, step: usize, what: &str) {
        Self::progress(self, step, rollout::STEPS, || what.to_owned());
    }

    fn charge(&self, sku: String) {
        Self::charge(self, sku, 1);
    }

    fn decide(&self, action: &str, reason: &str, detail: serde_json::Value) {
        Self::decide(self, action, reason, detail);
    }
}

impl Server for Deploy {
    const NAME: &'static str = "deploy";
    const PROGRAM: &'static str = "mcp-deploy";
    const TITLE: &'static str = "Tollgate deploy";
    const INSTRUCTIONS: &'static str = "Gated deployments. list_environments shows the environments in order and their \
        gates; deploy the same artifact to each in turn. A release that is not healthy is rolled back by itself. Where a \
        person must approve, deploy records the request and is refused with approval_required: tell the operator, do \
        not try another way, and call deploy again with the same arguments when it is approved.";

    type Config = DeployConfig;

    fn new(config: DeployConfig, startup: &Startup) -> anyhow::Result<Self> {
        anyhow::ensure!(!config.artifacts.is_empty(), "`deploy.artifacts` is empty: there is nothing to deploy");
        for root in &config.artifacts {
            anyhow::ensure!(
                !root.is_empty() && !root.contains('\0'),
                "`deploy.artifacts` has an empty or impossible path"
            );
        }
        let state_dir: StateDir = startup.state_dir.clone();
        let place = Place { workspace: startup.workspace.clone(), state_dir: state_dir.path().to_owned() };
        let server = Self {
            environments: Environments::new(&config, &startup.workspace, state_dir.path())?
                .keeping(&Secrets::new(&startup.secrets)),
            artifacts: ArtifactRoots::new(&startup.workspace, &config.artifacts),
            store: Store::new(state_dir),
            operator: config.operator,
            strict: config.strict,
            place,
            heard: Heard::default(),
            running: Running::default(),
            ralph_rules: startup.ralph_rules,
        };
        server.warn();
        Ok(server)
    }

    fn tools() -> Toolbox<Self> {
        tools::toolbox()
    }
}
