//! The agent that needs no model: it does what a script says.

use anyhow::Context;
use serde_json::Value;
use tollgate_shared::error_chain::Chain;

use super::reference::resolve;
use super::script::{Script, ScriptedTurn};
use super::{Agent, AgentError, Conversation, Turn, TurnResult};
use crate::session::{History, Reply, Said, Wanted, slot};

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

    /// Returns the next turn of a script that is no task; `None` at its end.
    ///
    /// # Errors
    ///
    /// A sentence that names the turn whose reference cannot be followed.
    pub fn next_turn(&self, history: &[TurnResult]) -> anyhow::Result<Option<Turn>> {
        let Some(turn) = self.script.turns.get(history.len()) else { return Ok(None) };
        resolved(turn, history.len(), history).map(Some)
    }

    /// Returns the turns of an iteration; none when the script has nothing more to say.
    fn turns(&self, iteration: u32) -> &[ScriptedTurn] {
        match iteration as usize {
            0 => &self.script.analysis,
            1 => &self.script.turns,
            later => self.script.then.get(later - 2).map_or(&[], Vec::as_slice),
        }
    }
}

impl Agent for ScriptedAgent {
    async fn reply(&mut self, conversation: Conversation<'_>) -> Result<Said, AgentError> {
        let history = conversation.history;
        let iteration = history.session.iteration;
        let turns = self.turns(iteration);
        let results = self.results(history)?;
        let done = replies(history).filter(|(_, of, reply)| *of == iteration && !reply.calls.is_empty()).count();
        let Some(turn) = turns.get(done) else { return Ok(Said::Agent(Reply::default())) };
        let turn =
            resolved(turn, done, &results).map_err(|error| AgentError::failed(Chain(error.as_ref()).to_string()))?;
        let wanted = Wanted { id: format!("{iteration}.{done}"), tool: turn.tool, arguments: turn.arguments };
        Ok(Said::Agent(Reply { text: turn.say, calls: vec![wanted], ..Reply::default() }))
    }
}

impl ScriptedAgent {
    /// Returns what came of every turn so far.
    fn results(&self, history: &History) -> Result<Vec<TurnResult>, AgentError> {
        let mut results = Vec::new();
        let mut last: Option<(u32, usize)> = None;
        for (number, iteration, _) in replies(history).filter(|(_, _, reply)| !reply.calls.is_empty()) {
            let place = match last {
                Some((of, turn)) if of == iteration => (iteration, turn + 1),
                _ => (iteration, 0),
            };
            last = Some(place);
            let scripted = self.turns(iteration).get(place.1);
            let answer = history.call(&slot(number, 0)).and_then(|call| call.answer.as_ref());
            let (Some(scripted), Some(answer)) = (scripted, answer) else { continue };
            let cached = answer.receipt.as_ref().map(|receipt| receipt.cached);
            // Of an answer that was lost in a crash, only how it ended is known.
            let expected = if answer.recovered {
                super::script::Expectation { outcome: scripted.expect.outcome, ..Default::default() }
            } else {
                scripted.expect.clone()
            };
            if let Some(surprise) = expected.surprise(&answer.structured, answer.outcome, cached) {
                let turn = format!("turns[{}] of iteration {iteration} ({})", place.1, scripted.tool);
                return Err(AgentError::failed(format!("{turn} is not as expected: {surprise}")));
            }
            results.push(TurnResult {
                id: scripted.id.clone(),
                tool: scripted.tool.clone(),
                arguments: Value::Null,
                answer: answer.structured.clone(),
                receipt: answer.receipt.clone(),
                surprise: None,
            });
        }
        Ok(results)
    }
}

fn replies(history: &History) -> impl Iterator<Item = (u32, u32, &Reply)> {
    history.messages.iter().filter_map(|message| match &message.said {
        Said::Agent(reply) => Some((message.number, message.iteration, reply)),
        _ => None,
    })
}

fn resolved(turn: &ScriptedTurn, index: usize, results: &[TurnResult]) -> anyhow::Result<Turn> {
    let arguments = resolve(&Value::Object(turn.arguments.clone()), results)
        .with_context(|| format!("turns[{index}] ({})", turn.tool))?;
    Ok(turn.with_arguments(arguments))
}
