//! References to earlier answers: `{{id.field.0.field}}`.

use serde_json::Value;

use super::TurnResult;

/// A reference that cannot be followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenReference {
    /// `{{` without `}}`.
    #[error("`{0}` has `{{{{` without `}}}}`")]
    Unfinished(String),
    /// No earlier turn has this id.
    #[error("`{reference}`: no earlier turn has the id `{id}`")]
    UnknownTurn {
        /// What was written.
        reference: String,
        /// The id.
        id: String,
    },
    /// The answer has no such field.
    #[error("`{reference}`: the answer has no `{field}` there")]
    UnknownField {
        /// What was written.
        reference: String,
        /// The first field that is not there.
        field: String,
    },
}

/// Returns `value` with every reference replaced by what it refers to in `history`.
///
/// # Errors
///
/// [`BrokenReference`] names the reference.
pub fn resolve(value: &Value, history: &[TurnResult]) -> Result<Value, BrokenReference> {
    Ok(match value {
        Value::String(text) => resolve_text(text, history)?,
        Value::Array(items) => Value::Array(items.iter().map(|item| resolve(item, history)).collect::<Result<_, _>>()?),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| Ok((name.clone(), resolve(value, history)?)))
                .collect::<Result<_, BrokenReference>>()?,
        ),
        other => other.clone(),
    })
}

fn resolve_text(text: &str, history: &[TurnResult]) -> Result<Value, BrokenReference> {
    let whole = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).filter(|inner| !inner.contains("{{"));
    if let Some(reference) = whole {
        return follow(reference.trim(), history).cloned();
    }
    let mut resolved = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        resolved.push_str(before);
        let (reference, after) =
            after.split_once("}}").ok_or_else(|| BrokenReference::Unfinished(text.chars().take(80).collect()))?;
        match follow(reference.trim(), history)? {
            Value::String(text) => resolved.push_str(text),
            other => resolved.push_str(&other.to_string()),
        }
        rest = after;
    }
    resolved.push_str(rest);
    Ok(Value::String(resolved))
}

fn follow<'a>(reference: &str, history: &'a [TurnResult]) -> Result<&'a Value, BrokenReference> {
    let mut fields = reference.split('.');
    let id = fields.next().unwrap_or_default();
    let turn = history
        .iter()
        .rev()
        .find(|turn| turn.id.as_deref() == Some(id))
        .ok_or_else(|| BrokenReference::UnknownTurn { reference: reference.to_owned(), id: id.to_owned() })?;
    fields.try_fold(&turn.answer, |value, field| {
        let found = match value {
            Value::Array(items) => field.parse::<usize>().ok().and_then(|index| items.get(index)),
            other => other.get(field),
        };
        found.ok_or_else(|| BrokenReference::UnknownField { reference: reference.to_owned(), field: field.to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn history() -> Vec<TurnResult> {
        vec![TurnResult {
            id: Some("orders".into()),
            tool: "t".into(),
            arguments: json!({}),
            answer: json!({"rows": [[1, "a"], [2, null]], "branch": "fix"}),
            receipt: None,
            surprise: None,
        }]
    }

    #[test]
    fn whole_references_keep_their_type_and_inner_ones_become_text() {
        let value = json!({"a": "{{orders.rows.0}}", "b": ["on {{ orders.branch }}: {{orders.rows.1.0}}"], "c": 3});
        assert_eq!(resolve(&value, &history()).unwrap(), json!({"a": [1, "a"], "b": ["on fix: 2"], "c": 3}));
    }

    #[test]
    fn text_without_references_stays() {
        for text in ["", "a } b", "{", "}}", "{a}"] {
            assert_eq!(resolve(&json!(text), &history()).unwrap(), json!(text));
        }
    }

    #[test]
    fn broken_references_are_named() {
        let error = |text: &str| resolve(&json!(text), &history()).unwrap_err();
        assert!(matches!(error("{{nope.x}}"), BrokenReference::UnknownTurn { id, .. } if id == "nope"));
        assert!(matches!(error("{{orders.rows.7.0}}"), BrokenReference::UnknownField { field, .. } if field == "7"));
        assert!(matches!(error("x {{orders.nope}}"), BrokenReference::UnknownField { field, .. } if field == "nope"));
        assert!(matches!(error("x {{orders"), BrokenReference::Unfinished(_)));
    }
}
