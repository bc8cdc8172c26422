//! The agent that needs no model: it does what a script says.

use anyhow::Context;
use serde_json::Value;

use super::reference::resolve;
use super::script::Script;
use super::{Agent, Turn, TurnResult};

/// Follows a script, turn by turn.
pub struct ScriptedAgent {
    script: Script,
}

impl ScriptedAgent {
    /// Makes an agent that follows `script`.
    #[must_use]
    pub fn new(script: Script) -> Self {
        Self { script }
    }
}

impl Agent for ScriptedAgent {
    async fn next_turn(&mut self, history: &[TurnResult]) -> anyhow::Result<Option<Turn>> {
        let Some(turn) = self.script.turns.get(history.len()) else { return Ok(None) };
        let arguments = resolve(&Value::Object(turn.arguments.clone()), history)
            .with_context(|| format!("turns[{}] ({})", history.len(), turn.tool))?;
        Ok(Some(turn.with_arguments(arguments)))
    }
}
