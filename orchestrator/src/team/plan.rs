//! How a lead divides a task: a tool call whose arguments are the parts.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::role::Role;
use crate::catalogue::BUILT_IN;
use crate::fleet::failure;
use crate::task::tools::{Effect, Route, TaskTool};

/// The name of the tool.
pub(crate) const PLAN_TEAM: &str = "plan_team";

/// Longest description of one part, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 20_000;

/// Most acceptance commands of one part.
const ACCEPTANCE_MAX: usize = 16;

/// Longest acceptance command, in bytes; it goes into the part's description, and into every report.
const COMMAND_BYTES_MAX: usize = 2_000;

/// A part of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Names it.
    pub id: String,
    /// Who does it.
    pub role: String,
    /// What is to be done, in words.
    pub description: String,
    /// Commands that must succeed.
    pub acceptance: Vec<String>,
    /// Parts whose result it needs, by their place; all of them stand before it.
    pub depends_on: Vec<usize>,
}

/// Returns the tool as a lead sees it.
pub(crate) fn tool(roles: &[Role], members_max: usize) -> TaskTool {
    let names: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
    let part = json!({ "type": "object", "additionalProperties": false, "required": ["id", "role", "description"],
        "properties": {
            "id": { "type": "string", "description": "Names the part: 1 to 40 of a-z 0-9 -" },
            "role": { "type": "string", "enum": names, "description": "Who does it" },
            "description": { "type": "string", "description": "What is wanted, where, and how one sees that it is done; all that its specialist is told" },
            "acceptance": { "type": "array", "items": { "type": "string" },
                "description": "Commands that must succeed in the working tree when the part is done" },
            "depends_on": { "type": "array", "items": { "type": "string" },
                "description": "Ids of the parts whose result this one needs; it begins when they are merged" } } });
    TaskTool {
        name: format!("{BUILT_IN}__{PLAN_TEAM}"),
        description: "Divides the task among specialists, who begin at once. Call it once, with every part.".to_owned(),
        input_schema: json!({ "type": "object", "additionalProperties": false, "required": ["parts"],
            "properties": { "parts": { "type": "array", "minItems": 1, "maxItems": members_max, "items": part } } }),
        route: Route::PlanTeam,
        effect: Effect::Idempotent,
    }
}

/// Answers a call of the tool; the call itself is what is kept.
pub(crate) fn answer(arguments: &Value, roles: &[Role], members_max: usize) -> Value {
    match read(arguments, roles, members_max) {
        Ok(parts) => json!({ "parts": parts.iter().map(|part| &part.id).collect::<Vec<_>>() }),
        Err(reason) => failure("invalid_plan", &reason, "correct this and call the tool again, with every part"),
    }
}

/// Reads what a lead wrote into parts, in an order in which they can be merged.
///
/// # Errors
///
/// A sentence that names the part, the field and what is allowed.
pub(crate) fn read(arguments: &Value, roles: &[Role], members_max: usize) -> Result<Vec<Part>, String> {
    let written = arguments["parts"].as_array().ok_or("`parts` is no list")?;
    if written.is_empty() || written.len() > members_max {
        return Err(format!("`parts` has {} parts; from 1 to {members_max} are taken", written.len()));
    }
    let mut ids: Vec<&str> = Vec::new();
    for (place, part) in written.iter().enumerate() {
        let id = part["id"].as_str().unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=40).contains(&id.len()) || !id.bytes().all(plain) {
            return Err(format!("parts[{place}].id: write 1 to 40 of a-z 0-9 -"));
        }
        if ids.contains(&id) {
            return Err(format!("parts[{place}].id: `{id}` is the id of an earlier part"));
        }
        ids.push(id);
    }
    let mut parts = Vec::new();
    for (place, part) in written.iter().enumerate() {
        let allowed = ["id", "role", "description", "acceptance", "depends_on"];
        let known = |name: &&String| allowed.contains(&name.as_str());
        if let Some(name) = part.as_object().and_then(|part| part.keys().find(|name| !known(name))) {
            let name: String = name.chars().take(40).collect();
            return Err(format!("parts[{place}] has a field `{name}`; there are {}", allowed.join(", ")));
        }
        let role = part["role"].as_str().unwrap_or_default();
        if !roles.iter().any(|known| known.name == role) {
            let names: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
            let role: String = role.chars().take(40).collect();
            return Err(format!("parts[{place}].role: `{role}` is none of {}", names.join(", ")));
        }
        let description = part["description"].as_str().unwrap_or_default().trim();
        if description.is_empty() || description.len() > DESCRIPTION_BYTES_MAX {
            return Err(format!("parts[{place}].description: write from 1 to {DESCRIPTION_BYTES_MAX} bytes"));
        }
        let acceptance =
            texts(part, "acceptance").ok_or(format!("parts[{place}].acceptance: write a list of texts"))?;
        let broken = |command: &&String| {
            command.len() > COMMAND_BYTES_MAX || shlex::split(command).is_none_or(|words| words.is_empty())
        };
        if acceptance.len() > ACCEPTANCE_MAX || acceptance.iter().any(|command| broken(&command)) {
            return Err(format!(
                "parts[{place}].acceptance: write at most {ACCEPTANCE_MAX} commands of at most {COMMAND_BYTES_MAX} bytes, quoted as for a shell"
            ));
        }
        let on = texts(part, "depends_on").ok_or(format!("parts[{place}].depends_on: write a list of ids"))?;
        let mut depends_on = Vec::new();
        for id in on {
            let at = ids.iter().position(|known| *known == id);
            let at = at.ok_or(format!("parts[{place}].depends_on: there is no part `{}`", cut(&id)))?;
            depends_on.push(at);
        }
        parts.push(Part {
            id: ids[place].to_owned(),
            role: role.to_owned(),
            description: description.to_owned(),
            acceptance,
            depends_on,
        });
    }
    in_order(parts)
}

/// Puts parts behind those that they need; of those that could come next, the first as it was written.
fn in_order(mut parts: Vec<Part>) -> Result<Vec<Part>, String> {
    let mut order: Vec<usize> = Vec::new();
    while order.len() < parts.len() {
        let ready =
            |place: &usize| !order.contains(place) && parts[*place].depends_on.iter().all(|on| order.contains(on));
        let Some(next) = (0..parts.len()).find(ready) else {
            let rest: Vec<&str> =
                (0..parts.len()).filter(|place| !order.contains(place)).map(|place| parts[place].id.as_str()).collect();
            return Err(format!("these parts wait for each other: {}", rest.join(", ")));
        };
        order.push(next);
    }
    let places: BTreeMap<usize, usize> = order.iter().enumerate().map(|(new, old)| (*old, new)).collect();
    for part in &mut parts {
        part.depends_on = part.depends_on.iter().filter_map(|on| places.get(on).copied()).collect();
        part.depends_on.sort_unstable();
        part.depends_on.dedup();
    }
    let mut sorted: Vec<Option<Part>> = parts.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|old| sorted[old].take()).collect())
}

fn texts(part: &Value, name: &str) -> Option<Vec<String>> {
    match part.get(name) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(all)) => all.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
        Some(_) => None,
    }
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::role::Roles;
    use super::*;

    fn roles() -> Vec<Role> {
        Roles::read(None).unwrap().specialists().cloned().collect()
    }

    fn part(id: &str, on: &[&str]) -> Value {
        json!({"id": id, "role": "bugfix", "description": "d", "depends_on": on})
    }

    #[test]
    fn parts_come_in_an_order_in_which_they_can_be_merged() {
        let written = json!({"parts": [part("c", &["b", "a"]), part("a", &[]), part("b", &["a"])]});
        let parts = read(&written, &roles(), 6).unwrap();
        let order: Vec<_> = parts.iter().map(|part| (part.id.as_str(), part.depends_on.clone())).collect();
        assert_eq!(order, [("a", vec![]), ("b", vec![0]), ("c", vec![0, 1])]);
    }

    #[test]
    fn mistakes_name_the_part_and_the_field() {
        let one = |change: Value| {
            let mut part = part("a", &[]);
            part.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            json!({ "parts": [part] })
        };
        for (written, expected) in [
            (json!({}), "`parts` is no list"),
            (json!({"parts": []}), "from 1 to 2"),
            (json!({"parts": [part("a", &[]), part("b", &[]), part("c", &[])]}), "from 1 to 2"),
            (json!({"parts": [part("a", &[]), part("a", &[])]}), "parts[1].id"),
            (json!({"parts": [part("a", &["b"]), part("b", &["a"])]}), "wait for each other: a, b"),
            (one(json!({"id": "A b"})), "parts[0].id"),
            (one(json!({"role": "boss"})), "`boss` is none of advisor"),
            (one(json!({"role": "lead"})), "`lead` is none of"),
            (one(json!({"description": " "})), "parts[0].description"),
            (one(json!({"acceptance": "true"})), "parts[0].acceptance"),
            (one(json!({"acceptance": ["a 'b"]})), "parts[0].acceptance"),
            (one(json!({"acceptance": ["a".repeat(10_000_000)]})), "at most 2000 bytes"),
            (one(json!({"description": "a".repeat(10_000_000)})), "parts[0].description"),
            (one(json!({"depends_on": ["z"]})), "no part `z`"),
            (one(json!({"depends_on": ["a"]})), "wait for each other: a"),
            (one(json!({"depend_on": []})), "`depend_on`"),
        ] {
            let reason = read(&written, &roles(), 2).unwrap_err();
            assert!(reason.contains(expected), "{expected} is not in {reason}");
            assert_eq!(answer(&written, &roles(), 2)["error"]["code"], "invalid_plan");
        }
    }

    proptest! {
        /// Whatever a lead writes, what is taken of it can be done in its order.
        #[test]
        fn what_is_taken_can_be_done(edges in proptest::collection::vec((0_usize..5, 0_usize..5), 0..12)) {
            let on = |place: usize| -> Vec<String> {
                edges.iter().filter(|(from, _)| *from == place).map(|(_, to)| format!("p{to}")).collect()
            };
            let parts: Vec<Value> = (0..5)
                .map(|place| json!({"id": format!("p{place}"), "role": "bugfix", "description": "d", "depends_on": on(place)}))
                .collect();
            if let Ok(parts) = read(&json!({ "parts": parts }), &roles(), 5) {
                for (place, part) in parts.iter().enumerate() {
                    prop_assert!(part.depends_on.iter().all(|before| *before < place));
                }
            }
        }
    }
}
