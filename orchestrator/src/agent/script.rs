//! A script: the turns of an agent, written down.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tollgate_shared::identity::Agent as AgentName;
use tollgate_shared::receipt::Outcome;

use super::{TURNS_MAX, Turn};

/// Largest script that is read.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The turns of an agent on one task, in YAML or JSON.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// What it does, one line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The task that its calls are charged to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// On whose behalf its calls are made.
    #[serde(default = "scripted")]
    pub agent: AgentName,
    /// What it does, in order. For the lead of a team: when its members' work is merged.
    pub turns: Vec<ScriptedTurn>,
    /// For the lead of a team: how it divides the task, with `tollgate__plan_team`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub analysis: Vec<ScriptedTurn>,
    /// For a team: what its members do, by the name of their part or of their role.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<String, Script>,
    /// In a task (`run --task`): what it does when it said that it is done and verification found otherwise, for each further
    /// iteration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<Vec<ScriptedTurn>>,
}

/// One tool call and what should come of it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScriptedTurn {
    /// The name under which later turns refer to the answer: `{{id.field.0.field}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What the agent says about it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub say: Option<String>,
    /// The tool's name in the catalogue: `git__git_commit`.
    pub tool: String,
    /// Its arguments. A text that is one reference becomes the value referred to; a reference inside a text becomes text.
    #[serde(default)]
    pub arguments: serde_json::Map<String, Value>,
    /// What should come of it; a run stops at the first turn that comes out otherwise.
    #[serde(default)]
    pub expect: Expectation,
}

/// What should come of a turn.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Expectation {
    /// How the call should end.
    pub outcome: Outcome,
    /// The stable code of a call that should not succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Whether the answer should come from a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached: Option<bool>,
    /// Fields that the structured answer should have; it may have others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Value>,
}

impl Default for Expectation {
    fn default() -> Self {
        Self { outcome: Outcome::Ok, code: None, cached: None, answer: None }
    }
}

fn scripted() -> AgentName {
    AgentName { name: "scripted".to_owned(), role: None }
}

impl Script {
    /// Reads a script; `.json` is JSON, everything else YAML.
    ///
    /// # Errors
    ///
    /// A sentence that names the file and the place in it.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("cannot read the script {}", path.display());
        ensure!(
            std::fs::metadata(path).with_context(context)?.len() <= FILE_BYTES_MAX,
            "the script {} is larger than 4 MiB",
            path.display()
        );
        let text = std::fs::read_to_string(path).with_context(context)?;
        let json = path.extension().is_some_and(|extension| extension == "json");
        Self::parse(&text, json).with_context(context)
    }

    /// Reads the text of a script.
    ///
    /// # Errors
    ///
    /// A sentence that names the place.
    pub fn parse(text: &str, json: bool) -> anyhow::Result<Self> {
        let script: Self = if json {
            let mut deserializer = serde_json::Deserializer::from_str(text);
            serde_path_to_error::deserialize(&mut deserializer)?
        } else {
            serde_saphyr::from_str(text)?
        };
        ensure!(!script.turns.is_empty() || !script.members.is_empty(), "it has no turns");
        for (name, member) in &script.members {
            ensure!(member.members.is_empty() && member.analysis.is_empty(), "members.{name}: a member has no team");
        }
        let all = || script.analysis.iter().chain(&script.turns).chain(script.then.iter().flatten());
        ensure!(all().count() <= TURNS_MAX, "it has more than {TURNS_MAX} turns");
        let mut ids = std::collections::BTreeSet::new();
        for (index, turn) in all().enumerate() {
            if let Some(id) = &turn.id {
                let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                ensure!(plain, "turns[{index}].id: `{id}` has other characters than A-Z a-z 0-9 _");
                ensure!(ids.insert(id), "turns[{index}].id: `{id}` is the id of an earlier turn");
            }
        }
        Ok(script)
    }
}

impl ScriptedTurn {
    /// Returns the turn with `arguments` in the place of the written ones.
    #[must_use]
    pub fn with_arguments(&self, arguments: Value) -> Turn {
        Turn {
            id: self.id.clone(),
            say: self.say.clone(),
            tool: self.tool.clone(),
            arguments,
            expect: self.expect.clone(),
        }
    }
}

impl Expectation {
    /// Returns what is not as expected in a call that ended like this; `cached` is absent where nothing is cached.
    #[must_use]
    pub fn surprise(&self, answer: &Value, outcome: Outcome, cached: Option<bool>) -> Option<String> {
        let error = || {
            answer
                .get("error")
                .map_or_else(String::new, |error| format!(" ({}: {})", text(&error["code"]), text(&error["message"])))
        };
        if outcome != self.outcome {
            return Some(format!("expected {}, got {}{}", self.outcome.as_str(), outcome.as_str(), error()));
        }
        if let Some(code) = &self.code
            && answer["error"]["code"] != code.as_str()
        {
            return Some(format!("expected the code {code}{}", error()));
        }
        if let Some(expected) = self.cached
            && cached.unwrap_or(false) != expected
        {
            return Some(format!("expected cached to be {expected}"));
        }
        self.answer.as_ref().and_then(|expected| difference("answer", expected, answer))
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Returns the first place at which `actual` does not have what `expected` has.
fn difference(path: &str, expected: &Value, actual: &Value) -> Option<String> {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => expected.iter().find_map(|(name, expected)| {
            difference(&format!("{path}.{name}"), expected, actual.get(name).unwrap_or(&Value::Null))
        }),
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => expected
            .iter()
            .zip(actual)
            .enumerate()
            .find_map(|(index, (expected, actual))| difference(&format!("{path}.{index}"), expected, actual)),
        _ if expected == actual => None,
        _ => {
            let actual: String = actual.to_string().chars().take(200).collect();
            Some(format!("expected {path} to be {expected}, got {actual}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scripts_are_yaml_or_json() {
        let yaml =
            "turns:\n- tool: git__git_status\n  arguments: {repo_path: .}\n  expect: {outcome: refused, code: x}\n";
        let script = Script::parse(yaml, false).unwrap();
        assert_eq!(script.turns[0].expect.outcome, Outcome::Refused);
        let again = Script::parse(&serde_json::to_string(&script).unwrap(), true).unwrap();
        assert_eq!(again.turns[0].arguments, script.turns[0].arguments);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("turns: []", "no turns"),
            ("turns:\n- tol: x\n", "tol"),
            ("turns:\n- {tool: x, id: a}\n- {tool: y, id: a}\n", "turns[1].id"),
            ("turns:\n- {tool: x, id: a.b}\n", "turns[0].id"),
            ("turns:\n- {tool: x, expect: {outcome: fine}}\n", "fine"),
        ] {
            let error = format!("{:#}", Script::parse(text, false).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn differences_name_their_place() {
        let actual = json!({"a": [{"b": 1}, 2], "c": 3});
        assert_eq!(difference("answer", &json!({"a": [{"b": 1}, 2]}), &actual), None);
        assert_eq!(
            difference("answer", &json!({"a": [{"b": 7}, 2]}), &actual).unwrap(),
            "expected answer.a.0.b to be 7, got 1"
        );
        assert!(difference("answer", &json!({"a": []}), &actual).is_some());
        assert!(difference("answer", &json!({"d": 1}), &actual).is_some());
    }
}
