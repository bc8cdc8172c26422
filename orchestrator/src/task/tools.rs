//! What an agent can call while it works on a task: what stays in its own working tree, or only looks.

use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value, json};

use super::files;
use crate::catalogue::{BUILT_IN, COST_REPORT, Catalogue};
use crate::fleet::failure;
use crate::gateway::policy::Policy;
use crate::session::Session;
use crate::team::plan;

/// The tools of the house that keep to one working tree and its branch. Pushing, merging and other branches are for whoever
/// takes the result; deploying is never part of a task.
const OWN: &[&str] = &[
    "git__git_add",
    "git__git_blame",
    "git__git_commit",
    "git__git_diff",
    "git__git_diff_staged",
    "git__git_diff_unstaged",
    "git__git_log",
    "git__git_reset",
    "git__git_revert",
    "git__git_show",
    "git__git_status",
    "ralph__list_checks",
    "ralph__verify_changes",
    "ralph__verify_file",
];

/// Writes down what the agent is going to do, which outlives the shortening of a conversation.
pub(crate) const UPDATE_PLAN: &str = "tollgate__update_plan";

/// Longest plan, in bytes.
const PLAN_BYTES_MAX: usize = 8_000;

/// A tool that an agent can call.
#[derive(Clone, Debug)]
pub struct TaskTool {
    /// Its name in the catalogue.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// The JSON Schema of its arguments.
    pub input_schema: Value,
    /// Who does it.
    pub(crate) route: Route,
    /// What is known about carrying it out twice.
    pub(crate) effect: Effect,
}

/// Who carries out a call.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    /// The loop itself, in the working tree.
    File(files::Tool),
    /// The loop itself: it is enough that the call is written down.
    Plan,
    /// The loop itself: how a task is divided is read from the call.
    PlanTeam,
    /// The loop itself, from the ledger.
    CostReport,
    /// A server, under the tool's name there.
    Server {
        server: String,
        tool: String,
        /// Whether its working tree is the task's, whatever the agent says.
        takes_repository: bool,
        /// Whether `path` is a file of the working tree.
        takes_path: bool,
    },
}

/// What is known about carrying a call out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It changes nothing: several run at a time, and one whose answer was lost runs again.
    Reads,
    /// Again changes nothing more.
    Idempotent,
    /// It moves the tip of the task's branch, which tells whether it was carried out.
    MovesTip,
    /// A file has another content afterwards, which tells whether it was carried out.
    Edits,
    /// Nothing: when its answer was lost, only the ledger may tell.
    Unknown,
}

/// Returns what the agent of `session` can call, of everything in the catalogue that `policy` and its role permit.
///
/// # Errors
///
/// A sentence that names the pattern of its role which is none.
pub fn of_task(
    catalogue: &Catalogue,
    own_servers: &[String],
    policy: &Policy,
    session: &Session,
) -> anyhow::Result<Vec<TaskTool>> {
    let mut tools = of_any_task(catalogue, own_servers, policy);
    if let Some(member) = &session.member {
        let profile = member.role.profile()?;
        tools.retain(|tool| profile.permits(&tool.name));
    }
    if let Some(team) = &session.team {
        let profile = team.lead.profile()?;
        tools.retain(|tool| profile.permits(&tool.name));
        tools.push(plan::tool(&team.roles, team.members_max));
    }
    Ok(tools)
}

fn of_any_task(catalogue: &Catalogue, own_servers: &[String], policy: &Policy) -> Vec<TaskTool> {
    let mut tools: Vec<TaskTool> = files::Tool::ALL.iter().map(|tool| tool.listed()).collect();
    tools.push(plan_tool());
    for tool in &catalogue.tools {
        let is_own = own_servers.contains(&tool.server);
        let stays = match tool.server.as_str() {
            "git" | "ralph" if is_own => OWN.contains(&tool.name.as_str()),
            _ if is_own => tool.read_only,
            _ => true,
        };
        if !stays || !policy.permits(&tool.name) {
            continue;
        }
        let is_cost_report = tool.server == BUILT_IN && tool.tool == COST_REPORT;
        let has = |name: &str| tool.input_schema["properties"].get(name).is_some();
        let effect = match (tool.name.as_str(), tool.read_only, tool.idempotent) {
            ("git__git_commit" | "git__git_revert", ..) if is_own => Effect::MovesTip,
            (_, true, _) => Effect::Reads,
            // A foreign server's word that it is idempotent is not proof enough to do something twice.
            (_, _, true) if is_own => Effect::Idempotent,
            _ => Effect::Unknown,
        };
        let route = if is_cost_report {
            Route::CostReport
        } else {
            Route::Server {
                server: tool.server.clone(),
                tool: tool.tool.clone(),
                takes_repository: is_own && has("repo_path"),
                takes_path: is_own && tool.server == "ralph" && has("path"),
            }
        };
        let mut input_schema = tool.input_schema.clone();
        if is_own && let Some(properties) = input_schema["properties"].as_object_mut() {
            properties.remove("repo_path");
        }
        let description = tool.description.clone();
        tools.push(TaskTool { name: tool.name.clone(), description, input_schema, route, effect });
    }
    tools
}

fn plan_tool() -> TaskTool {
    TaskTool {
        name: UPDATE_PLAN.to_owned(),
        description: "Writes down your plan: steps, which are done, what you know. Replaces the one before. Kept when the conversation is shortened.".to_owned(),
        input_schema: json!({ "type": "object", "additionalProperties": false, "required": ["plan"],
            "properties": { "plan": { "type": "string", "description": "the whole plan, at most 8000 bytes" } } }),
        route: Route::Plan,
        effect: Effect::Idempotent,
    }
}

/// Answers a call of [`UPDATE_PLAN`]; the call itself is what is kept.
pub(crate) fn take_plan(arguments: &Value) -> Value {
    match arguments.get("plan").and_then(Value::as_str) {
        Some(plan) if plan.len() <= PLAN_BYTES_MAX => json!({ "bytes": plan.len() }),
        Some(_) => failure("too_long", "the plan has more than 8000 bytes", "write it shorter"),
        None => failure("invalid_arguments", "`plan` is no text", "write {\"plan\": \"1. …\"}"),
    }
}

/// Returns `arguments` so that a tool of the house works in `worktree` and nowhere else; or the answer to the call.
pub(crate) fn scoped(
    takes_repository: bool,
    takes_path: bool,
    arguments: &Value,
    worktree: &Path,
) -> Result<Map<String, Value>, Value> {
    let mut arguments = match arguments {
        Value::Object(arguments) => arguments.clone(),
        Value::Null => Map::new(),
        _ => {
            let message = "the arguments of a tool are an object";
            return Err(failure("invalid_arguments", message, "write {\"name\": value}"));
        }
    };
    if takes_repository {
        let written = arguments.get("repo_path").map(|path| path.as_str().unwrap_or("/"));
        if !written.is_none_or(|path| path == "." || Path::new(path) == worktree) {
            let message = "`repo_path` is not the working tree of this task";
            return Err(failure("outside_worktree", message, "leave `repo_path` out"));
        }
        arguments.insert("repo_path".to_owned(), json!(worktree));
    }
    if takes_path && let Some(written) = arguments.get("path").and_then(Value::as_str) {
        let path = below(worktree, written)?;
        arguments.insert("path".to_owned(), json!(path));
    }
    Ok(arguments)
}

/// Returns the path below `worktree` that an agent wrote; or the answer to the call.
fn below(worktree: &Path, written: &str) -> Result<PathBuf, Value> {
    let path = Path::new(written);
    let path = path.strip_prefix(worktree).unwrap_or(path);
    if path.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        let message = format!("`{}` leads out of the working tree", written.chars().take(200).collect::<String>());
        return Err(failure("outside_worktree", &message, "give paths relative to the root of the working tree"));
    }
    Ok(worktree.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_of_the_house_work_in_the_worktree_and_nowhere_else() {
        let worktree = Path::new("/w/.tollgate/worktrees/t");
        for given in [json!({}), json!({"repo_path": "."}), json!({"repo_path": worktree}), Value::Null] {
            assert_eq!(scoped(true, false, &given, worktree).unwrap()["repo_path"], json!(worktree), "{given}");
        }
        for given in [json!({"repo_path": "/w"}), json!({"repo_path": ".."}), json!({"repo_path": 7}), json!([])] {
            assert!(scoped(true, false, &given, worktree).is_err(), "{given}");
        }
        let path = |written: &str| scoped(false, true, &json!({ "path": written }), worktree);
        assert_eq!(path("src/a.py").unwrap()["path"], json!(worktree.join("src/a.py")));
        assert_eq!(path("/w/.tollgate/worktrees/t/a.py").unwrap()["path"], json!(worktree.join("a.py")));
        for written in ["../x", "/etc/passwd", "a/../../x"] {
            assert_eq!(path(written).unwrap_err()["error"]["code"], "outside_worktree", "{written}");
        }
    }
}
