//! Whether a task is well-formed: each field against what it may be, all faults at once.

use jiff::Timestamp;
use serde_json::{Map, Value};
use tollgate_shared::config::{did_you_mean, nearest};

use super::task::{Category, Complexity, Dollars, Kind, Priority, Status};

/// Longest description: what a session takes.
const DESCRIPTION_BYTES_MAX: usize = 100 * 1024;

/// Longest of the other texts.
const TEXT_BYTES_MAX: usize = 4 * 1024;

/// Most entries of a list.
const ENTRIES_MAX: usize = 256;

/// Most attempts that a file can say there were.
const ATTEMPTS_MAX: u64 = 1_000_000;

/// What a field may be.
enum Rule {
    Id,
    Text(usize),
    Word(&'static [&'static str]),
    Money,
    Truth,
    Count,
    Texts,
    Instant,
    Acceptance,
}

/// Every field that is known: its name, whether it must be there, what it may be.
const FIELDS: &[(&str, bool, Rule)] = &[
    ("id", true, Rule::Id),
    ("description", true, Rule::Text(DESCRIPTION_BYTES_MAX)),
    ("status", true, Rule::Word(Status::WORDS)),
    ("priority", true, Rule::Word(Priority::WORDS)),
    ("type", true, Rule::Word(Kind::WORDS)),
    ("title", false, Rule::Text(TEXT_BYTES_MAX)),
    ("project", false, Rule::Text(TEXT_BYTES_MAX)),
    ("complexity_category", false, Rule::Word(Complexity::WORDS)),
    ("estimated_value_usd", false, Rule::Money),
    ("preferred_agents", false, Rule::Texts),
    ("agent_type_override", false, Rule::Text(TEXT_BYTES_MAX)),
    ("use_multi_agent", false, Rule::Truth),
    ("routing_reason", false, Rule::Text(TEXT_BYTES_MAX)),
    ("category", false, Rule::Word(Category::WORDS)),
    ("acceptance", false, Rule::Acceptance),
    ("depends_on", false, Rule::Texts),
    ("budget_usd", false, Rule::Money),
    ("attempts", false, Rule::Count),
    ("passes", false, Rule::Truth),
    ("branch", false, Rule::Text(TEXT_BYTES_MAX)),
    ("created_at", false, Rule::Instant),
];

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field; of a field within a field both, with a dot between.
    pub field: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

/// Returns everything that is wrong with `body`. A field that is `null` is not there; unknown fields are nobody's business.
#[must_use]
pub fn faults(body: &Map<String, Value>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, required, rule) in FIELDS {
        match body.get(*name).filter(|value| !value.is_null()) {
            None if *required => {
                let hint =
                    misspelled(body, name).map(|written| format!("; `{written}` stands there")).unwrap_or_default();
                let message = format!("is missing{}{hint}", allowed(rule));
                faults.push(Fault { field: (*name).to_owned(), message });
            }
            None => {}
            Some(value) => faults.extend(fault(name, rule, value)),
        }
    }
    faults
}

/// An unknown field that is most likely `name`, misspelled.
fn misspelled<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    let unknown = body.keys().map(String::as_str).filter(|key| FIELDS.iter().all(|(known, ..)| known != key));
    nearest(name, unknown)
}

fn fault(name: &str, rule: &Rule, value: &Value) -> Option<Fault> {
    let wrong = |message: String| Some(Fault { field: name.to_owned(), message });
    let is_not = || wrong(format!("{} is not allowed{}", brief(value), allowed(rule)));
    match (rule, value) {
        (Rule::Id, Value::String(text)) if is_id(text) => None,
        (Rule::Text(most), Value::String(text)) => {
            if text.trim().is_empty() {
                wrong("is empty".to_owned())
            } else if text.len() > *most {
                wrong(format!("has {} bytes; allowed are {most}", text.len()))
            } else {
                None
            }
        }
        (Rule::Word(words), Value::String(text)) if words.contains(&text.as_str()) => None,
        (Rule::Word(words), Value::String(text)) => {
            let near = nearest(text, words.iter().copied());
            wrong(format!("{} is not allowed{}{}", brief(value), allowed(rule), did_you_mean(near)))
        }
        (Rule::Money, value) if Dollars::read(value).is_some() => None,
        (Rule::Truth, Value::Bool(_)) => None,
        (Rule::Count, value) if value.as_u64().is_some_and(|count| count <= ATTEMPTS_MAX) => None,
        (Rule::Instant, Value::String(text)) if text.parse::<Timestamp>().is_ok() => None,
        (Rule::Texts, Value::Array(entries)) => texts(name, entries),
        (Rule::Acceptance, Value::Object(fields)) => acceptance(fields),
        _ => is_not(),
    }
}

fn texts(name: &str, entries: &[Value]) -> Option<Fault> {
    let wrong = |message: String| Some(Fault { field: name.to_owned(), message });
    if entries.len() > ENTRIES_MAX {
        return wrong(format!("has {} entries; allowed are {ENTRIES_MAX}", entries.len()));
    }
    let bad = entries
        .iter()
        .find(|entry| !entry.as_str().is_some_and(|text| !text.trim().is_empty() && text.len() <= TEXT_BYTES_MAX))?;
    wrong(format!("{} is not allowed; allowed is a list of texts of at most {TEXT_BYTES_MAX} bytes", brief(bad)))
}

fn acceptance(fields: &Map<String, Value>) -> Option<Fault> {
    for (name, value) in fields {
        let field = format!("acceptance.{name}");
        match (name.as_str(), value) {
            ("commands" | "criteria", Value::Array(entries)) => {
                if let Some(fault) = texts(&field, entries) {
                    return Some(fault);
                }
                if name == "commands"
                    && let Some(bad) =
                        entries.iter().filter_map(Value::as_str).find(|text| shlex::split(text).is_none())
                {
                    let message = format!("`{bad}` has a quotation mark without its other");
                    return Some(Fault { field, message });
                }
            }
            ("commands" | "criteria", _) => {
                return Some(Fault {
                    field,
                    message: format!("{} is not allowed; allowed is a list of texts", brief(value)),
                });
            }
            _ => return Some(Fault { field, message: "is not allowed; allowed are commands, criteria".to_owned() }),
        }
    }
    None
}

/// Whether `text` can name a task, in a branch's trailer, a file's name and a terminal.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() <= 100
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:/#".contains(&byte))
}

fn allowed(rule: &Rule) -> String {
    match rule {
        Rule::Id => "; allowed are at most 100 of A-Z a-z 0-9 . _ - : / #, the first a letter or a digit".to_owned(),
        Rule::Text(most) => format!("; allowed is a text of at most {most} bytes"),
        Rule::Word(words) => format!("; allowed are {}", words.join(", ")),
        Rule::Money => "; allowed is an amount of US dollars such as \"49.99\"".to_owned(),
        Rule::Truth => "; allowed are true, false".to_owned(),
        Rule::Count => format!("; allowed is a whole number from 0 to {ATTEMPTS_MAX}"),
        Rule::Texts => "; allowed is a list of texts".to_owned(),
        Rule::Instant => "; allowed is an instant such as \"2026-11-29T02:00:00Z\"".to_owned(),
        Rule::Acceptance => "; allowed is {\"commands\": […], \"criteria\": […]}".to_owned(),
    }
}

fn brief(value: &Value) -> String {
    crate::report::table::shorten(&value.to_string(), 60)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(changes: Value) -> Vec<Fault> {
        let mut body = json!({"id": "t-1", "description": "d", "status": "pending", "priority": "P2", "type": "bug"});
        let Value::Object(changes) = changes else { panic!("{changes} is no object") };
        for (name, value) in changes {
            body[name] = value;
        }
        faults(body.as_object().unwrap())
    }

    #[test]
    fn what_files_say_is_taken() {
        for changes in [
            json!({}),
            json!({"id": "team/a#7:x.y_z"}),
            json!({"estimated_value_usd": 49.99, "budget_usd": "0.5", "attempts": 3, "passes": false, "title": null}),
            json!({"acceptance": {"commands": ["sh -c 'exit 0'"], "criteria": ["it adds"]}, "depends_on": ["a", "b"]}),
            json!({"created_at": "2026-11-29T02:00:00Z", "category": "YOURS", "use_multi_agent": true, "unknown": [1, {}]}),
        ] {
            assert_eq!(of(changes.clone()), [], "{changes}");
        }
    }

    #[test]
    fn every_fault_names_its_field_and_what_is_allowed() {
        for (changes, field, part) in [
            (json!({"id": ""}), "id", "A-Z a-z"),
            (json!({"id": "-x"}), "id", "A-Z a-z"),
            (json!({"id": 7}), "id", "A-Z a-z"),
            (json!({"id": "a\nb"}), "id", "A-Z a-z"),
            (json!({"description": "  "}), "description", "empty"),
            (json!({"description": "x".repeat(200_000)}), "description", "102400"),
            (json!({"status": "done"}), "status", "pending, in_progress"),
            (json!({"priority": "P4"}), "priority", "P0, P1, P2, P3"),
            (json!({"priority": null}), "priority", "is missing; allowed are P0"),
            (json!({"type": "bugg"}), "type", "did you mean `bug`"),
            (json!({"complexity_category": 3}), "complexity_category", "low, medium, high, critical"),
            (json!({"estimated_value_usd": -1}), "estimated_value_usd", "49.99"),
            (json!({"budget_usd": "1e3"}), "budget_usd", "49.99"),
            (json!({"attempts": -1}), "attempts", "whole number"),
            (json!({"attempts": 1.5}), "attempts", "whole number"),
            (json!({"passes": "yes"}), "passes", "true, false"),
            (json!({"category": "yours"}), "category", "DISPATCH, PREP, YOURS"),
            (json!({"depends_on": "a"}), "depends_on", "list of texts"),
            (json!({"depends_on": [1]}), "depends_on", "list of texts"),
            (json!({"acceptance": ["true"]}), "acceptance", "commands"),
            (json!({"acceptance": {"command": []}}), "acceptance.command", "commands, criteria"),
            (json!({"acceptance": {"commands": ["a 'b"]}}), "acceptance.commands", "quotation mark"),
            (json!({"created_at": "yesterday"}), "created_at", "2026-"),
        ] {
            let faults = of(changes.clone());
            assert_eq!(faults.len(), 1, "{changes}: {faults:?}");
            assert_eq!(faults[0].field, field, "{changes}");
            assert!(faults[0].message.contains(part), "{changes}: {}", faults[0].message);
        }
    }
}
