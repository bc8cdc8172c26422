//! Tasks to begin from: what a simple bug, a feature, a complex task and a deployment usually say.

use serde_json::{Map, Value, json};

/// What there is to begin from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Template {
    /// Something small that is wrong
    SimpleBug,
    /// Something new
    Feature,
    /// Several parts that have to fit
    Complex,
    /// Something is brought to where people use it
    Deployment,
}

impl Template {
    /// Returns the fields that a task of this sort begins with; its id and its description are for somebody to say.
    #[must_use]
    pub fn fields(self) -> Map<String, Value> {
        let fields = match self {
            Self::SimpleBug => json!({ "type": "bug", "priority": "P2", "complexity_category": "low",
                "estimated_value_usd": "25", "category": "DISPATCH", "budget_usd": "2",
                "acceptance": { "criteria": ["a test fails without the correction and passes with it"] } }),
            Self::Feature => json!({ "type": "feature", "priority": "P2", "complexity_category": "medium",
                "estimated_value_usd": "50", "category": "DISPATCH", "budget_usd": "10",
                "acceptance": { "criteria": ["what is new has tests", "what people read about it says so"] } }),
            Self::Complex => json!({ "type": "feature", "priority": "P1", "complexity_category": "high",
                "estimated_value_usd": "200", "use_multi_agent": true, "budget_usd": "40",
                "acceptance": { "criteria": ["every part has tests", "the parts work together", "nothing else behaves otherwise"] } }),
            Self::Deployment => json!({ "type": "deploy", "priority": "P1", "complexity_category": "high",
                "estimated_value_usd": "100", "category": "PREP", "budget_usd": "10",
                "acceptance": { "criteria": ["it can be rolled back", "its health is checked afterwards"] } }),
        };
        match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::queue::check::faults;

    #[test]
    fn templates_are_well_formed_tasks_but_for_what_somebody_has_to_say() {
        for template in Template::value_variants() {
            let mut fields = template.fields();
            let missing: Vec<String> = faults(&fields).into_iter().map(|fault| fault.field).collect();
            assert_eq!(missing, ["id", "description", "status"], "{template:?}");
            for (name, value) in [("id", "x"), ("description", "d"), ("status", "pending")] {
                fields.insert(name.to_owned(), value.into());
            }
            assert_eq!(faults(&fields), []);
        }
    }
}
