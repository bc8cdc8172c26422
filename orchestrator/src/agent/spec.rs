//! Which agent does a task.

use std::path::Path;

use anyhow::bail;
use serde::{Deserialize, Serialize};
use tollgate_shared::identity::Agent as AgentName;

use super::script::Script;
use super::scripted::ScriptedAgent;
use super::{Agent, AgentError, Conversation};
use crate::session::Reply;

/// Which agent does a task, with everything that it is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum AgentSpec {
    /// Does what a script says; the script as it was when the task began.
    Scripted {
        /// The script.
        script: Box<Script>,
    },
}

impl AgentSpec {
    /// Reads what was written after `--agent`: `scripted:FILE`.
    ///
    /// # Errors
    ///
    /// A sentence that names what is wrong.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        match text.split_once(':') {
            Some(("scripted", file)) => Ok(Self::Scripted { script: Box::new(Script::read(Path::new(file))?) }),
            _ => bail!("`{text}` is no agent: write scripted:FILE"),
        }
    }

    /// Returns on whose behalf its calls are made.
    #[must_use]
    pub fn name(&self) -> AgentName {
        match self {
            Self::Scripted { script } => script.agent.clone(),
        }
    }

    /// Returns what people call it.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Scripted { .. } => "scripted".to_owned(),
        }
    }
}

/// One of the agents there are.
pub enum AnyAgent {
    /// See [`ScriptedAgent`].
    Scripted(ScriptedAgent),
}

impl AnyAgent {
    /// Makes the agent that `spec` names.
    #[must_use]
    pub fn new(spec: &AgentSpec) -> Self {
        match spec {
            AgentSpec::Scripted { script } => Self::Scripted(ScriptedAgent::new((**script).clone())),
        }
    }
}

impl Agent for AnyAgent {
    async fn reply(&mut self, conversation: Conversation<'_>) -> Result<Reply, AgentError> {
        match self {
            Self::Scripted(agent) => agent.reply(conversation).await,
        }
    }
}
