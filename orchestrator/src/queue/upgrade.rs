//! Queues as they were written before tasks had a complexity and a value: what those say is inferred.

use serde_json::{Map, Value};

use super::task::{Complexity, Kind, Priority};

/// The fields that old queues did not have.
const NEW_FIELDS: &[&str] = &["complexity_category", "estimated_value_usd"];

/// Whether tasks of these bodies come from before: none of them has any of the new fields.
pub(super) fn is_old<'a>(mut bodies: impl Iterator<Item = &'a Map<String, Value>>) -> bool {
    bodies.all(|body| NEW_FIELDS.iter().all(|field| !body.contains_key(*field)))
}

/// Adds what can be inferred to a well-formed task.
pub(super) fn upgrade(body: &mut Map<String, Value>) {
    let word = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    let (Some(kind), Some(priority)) = (Kind::parse(word("type")), Priority::parse(word("priority"))) else { return };
    body.insert("complexity_category".to_owned(), complexity(kind, priority).as_str().into());
    body.insert("estimated_value_usd".to_owned(), value(kind, priority).into());
}

/// Returns how hard a task most likely is.
#[must_use]
pub fn complexity(kind: Kind, priority: Priority) -> Complexity {
    match (kind, priority) {
        (Kind::Deploy | Kind::Migration | Kind::Rollback, Priority::P0) => Complexity::Critical,
        (Kind::Deploy | Kind::Migration | Kind::Rollback, _) | (Kind::Security, Priority::P0 | Priority::P1) => {
            Complexity::High
        }
        (Kind::Feature, Priority::P0) => Complexity::High,
        (Kind::Docs | Kind::Chore | Kind::Test, _) | (Kind::Bug, Priority::P2 | Priority::P3) => Complexity::Low,
        _ => Complexity::Medium,
    }
}

/// Returns what a task is most likely worth, in US dollars: 200, 100, 50, 25 by priority; documentation and chores half.
#[must_use]
pub fn value(kind: Kind, priority: Priority) -> &'static str {
    let is_half = matches!(kind, Kind::Docs | Kind::Chore);
    match (priority, is_half) {
        (Priority::P0, false) => "200",
        (Priority::P0, true) | (Priority::P1, false) => "100",
        (Priority::P1, true) | (Priority::P2, false) => "50",
        (Priority::P2, true) | (Priority::P3, false) => "25",
        (Priority::P3, true) => "12.50",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_follows_priority_and_type() {
        let of = |kind| ["P0", "P1", "P2", "P3"].map(|priority| value(kind, Priority::parse(priority).unwrap()));
        for kind in [Kind::Bug, Kind::Feature, Kind::Refactor, Kind::Test, Kind::Deploy, Kind::Migration] {
            assert_eq!(of(kind), ["200", "100", "50", "25"], "{kind}");
        }
        assert_eq!(of(Kind::Docs), ["100", "50", "25", "12.50"]);
    }

    #[test]
    fn complexity_follows_type_and_priority() {
        for (kind, expected) in [
            (Kind::Bug, "medium medium low low"),
            (Kind::Feature, "high medium medium medium"),
            (Kind::Refactor, "medium medium medium medium"),
            (Kind::Docs, "low low low low"),
            (Kind::Migration, "critical high high high"),
        ] {
            let of =
                ["P0", "P1", "P2", "P3"].map(|priority| complexity(kind, Priority::parse(priority).unwrap()).as_str());
            assert_eq!(of.join(" "), expected, "{kind}");
        }
    }
}
