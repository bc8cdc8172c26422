//! Which agent does a task.

use std::path::Path;

use anyhow::bail;
use serde::{Deserialize, Serialize};
use tollgate_shared::identity::Agent as AgentName;

use super::acp::AcpAgent;
use super::model::ModelAgent;
use super::script::Script;
use super::scripted::ScriptedAgent;
use super::{Agent, AgentError, Conversation};
use crate::config::House;
use crate::model::Model;
use crate::session::Said;

/// Which agent does a task, with everything that it is made of, secrets left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum AgentSpec {
    /// Does what a script says; the script as it was when the task began.
    Scripted {
        /// The script.
        script: Box<Script>,
    },
    /// A model, asked for each step.
    Model {
        /// A name that [`Model::find`] knows, looked up again whenever the task goes on: prices and keys change.
        name: String,
    },
    /// An agent that speaks the Agent Client Protocol.
    Acp {
        /// Its table `[agents.<name>]`, read again whenever the task goes on.
        name: String,
    },
}

impl AgentSpec {
    /// Reads what was written after `--agent`: `scripted:FILE`, `model:NAME` or `acp:NAME`.
    ///
    /// # Errors
    ///
    /// A sentence that names what is wrong.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        match text.split_once(':') {
            Some(("scripted", file)) => Ok(Self::Scripted { script: Box::new(Script::read(Path::new(file))?) }),
            Some(("model", name)) if !name.is_empty() => Ok(Self::Model { name: name.to_owned() }),
            Some(("acp", name)) if !name.is_empty() => Ok(Self::Acp { name: name.to_owned() }),
            _ => bail!("`{text}` is no agent: write scripted:FILE, model:NAME or acp:NAME"),
        }
    }

    /// Reads the same where relative files start from the workspace, as they do in the configuration.
    ///
    /// # Errors
    ///
    /// See [`parse`](Self::parse).
    pub fn from_workspace(text: &str, workspace: &Path) -> anyhow::Result<Self> {
        match text.strip_prefix("scripted:") {
            Some(file) => Self::parse(&format!("scripted:{}", workspace.join(file).display())),
            None => Self::parse(text),
        }
    }

    /// Returns on whose behalf its calls are made.
    #[must_use]
    pub fn name(&self) -> AgentName {
        match self {
            Self::Scripted { script } => script.agent.clone(),
            Self::Model { name } | Self::Acp { name } => AgentName { name: name.clone(), role: None },
        }
    }

    /// Returns what people call it.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Scripted { .. } => "scripted".to_owned(),
            Self::Model { name } => format!("model:{name}"),
            Self::Acp { name } => format!("acp:{name}"),
        }
    }
}

/// One of the agents there are.
pub enum AnyAgent {
    /// See [`ScriptedAgent`].
    Scripted(ScriptedAgent),
    /// See [`ModelAgent`].
    Model(Box<ModelAgent>),
    /// See [`AcpAgent`].
    Acp(Box<AcpAgent>),
}

impl AnyAgent {
    /// Makes the agent that `spec` names, with the models and agents of `house`.
    ///
    /// # Errors
    ///
    /// A sentence that says what is missing: a price, a key.
    pub async fn new(spec: &AgentSpec, house: &House) -> anyhow::Result<Self> {
        Ok(match spec {
            AgentSpec::Scripted { script } => Self::Scripted(ScriptedAgent::new((**script).clone())),
            AgentSpec::Acp { name } => Self::Acp(Box::new(AcpAgent::new(name, house)?)),
            AgentSpec::Model { name } => {
                Self::Model(Box::new(ModelAgent::new(Model::find(name, &house.models)?).await?))
            }
        })
    }

    /// Whether asking it costs something.
    #[must_use]
    pub fn is_paid(&self) -> bool {
        matches!(self, Self::Model(_) | Self::Acp(_))
    }

    /// Whether it makes its calls itself while it is asked.
    #[must_use]
    pub fn calls_itself(&self) -> bool {
        matches!(self, Self::Acp(_))
    }

    /// Ends what runs of it.
    pub async fn close(&mut self) {
        if let Self::Acp(agent) = self {
            agent.close().await;
        }
    }
}

impl Agent for AnyAgent {
    async fn reply(&mut self, conversation: Conversation<'_>) -> Result<Said, AgentError> {
        match self {
            Self::Scripted(agent) => agent.reply(conversation).await,
            Self::Model(agent) => agent.reply(conversation).await,
            Self::Acp(agent) => agent.reply(conversation).await,
        }
    }
}
