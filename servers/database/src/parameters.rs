//! The values that a statement is given apart from its text.

use serde_json::Value;
use tollgate_shared::refusal::Refusal;

use crate::base64;

/// How many values a statement takes: more than people write, fewer than SQLite's own limit.
pub const PARAMETERS_MAX: usize = 1000;

/// Longest text or blob that is bound.
pub const PARAMETER_BYTES_MAX: usize = 1_000_000;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// `null`.
    Null,
    /// `true` or `false`; 1 or 0 to SQLite and MySQL.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Real(f64),
    /// A text.
    Text(String),
    /// `{"base64": "…"}`.
    Blob(Vec<u8>),
}

/// Reads the values of a call.
///
/// # Errors
///
/// `invalid_arguments` names the first value that cannot be bound as it is.
pub fn parse(values: Vec<Value>) -> Result<Vec<Parameter>, Refusal> {
    if values.len() > PARAMETERS_MAX {
        return Err(invalid(format!("there are more than {PARAMETERS_MAX} `params`")));
    }
    values.into_iter().enumerate().map(|(index, value)| parameter(index, value)).collect()
}

fn parameter(index: usize, value: Value) -> Result<Parameter, Refusal> {
    let parameter = match value {
        Value::Null => Parameter::Null,
        Value::Bool(value) => Parameter::Boolean(value),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(integer), _, _) => Parameter::Integer(integer),
            // A float would be another number.
            (None, Some(_), _) => {
                return Err(invalid(format!("`params[{index}]` does not fit in 64 bits with a sign")));
            }
            (None, None, Some(real)) if real.is_finite() => Parameter::Real(real),
            _ => return Err(invalid(format!("`params[{index}]` is no number that can be bound"))),
        },
        Value::String(text) => Parameter::Text(text),
        Value::Object(object) => {
            let text = match object.get("base64") {
                Some(Value::String(text)) if object.len() == 1 => text,
                _ => return Err(invalid(format!("`params[{index}]` is an object other than {{\"base64\": \"…\"}}"))),
            };
            let bytes = base64::decode(text);
            Parameter::Blob(bytes.ok_or_else(|| invalid(format!("`params[{index}]` is not base64 with padding")))?)
        }
        Value::Array(_) => return Err(invalid(format!("`params[{index}]` is an array"))),
    };
    let length = match &parameter {
        Parameter::Text(text) => text.len(),
        Parameter::Blob(bytes) => bytes.len(),
        _ => 0,
    };
    if length > PARAMETER_BYTES_MAX {
        return Err(invalid(format!("`params[{index}]` is longer than {PARAMETER_BYTES_MAX} bytes")));
    }
    Ok(parameter)
}

fn invalid(message: String) -> Refusal {
    Refusal::invalid_arguments(
        message,
        "pass null, booleans, numbers, strings and {\"base64\": \"…\"}; for IN, one parameter and one value each",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_keep_their_type() {
        let values = json!([null, true, -9_223_372_036_854_775_808_i64, 1.5, 10.0, "x", {"base64": "AP8="}]);
        let Value::Array(values) = values else { unreachable!() };
        let expected = [
            Parameter::Null,
            Parameter::Boolean(true),
            Parameter::Integer(i64::MIN),
            Parameter::Real(1.5),
            Parameter::Real(10.0),
            Parameter::Text("x".to_owned()),
            Parameter::Blob(vec![0, 255]),
        ];
        assert_eq!(parse(values).unwrap(), expected);
    }

    #[test]
    fn what_would_be_changed_is_refused() {
        let long = "x".repeat(PARAMETER_BYTES_MAX + 1);
        for value in [
            json!(9_223_372_036_854_775_808_u64),
            json!([1]),
            json!({}),
            json!({"base64": 1}),
            json!({"base64": "x"}),
            json!({"base64": "", "x": 1}),
            json!(long),
        ] {
            assert_eq!(parse(vec![value]).unwrap_err().code, "invalid_arguments");
        }
        assert!(parse(vec![Value::Null; PARAMETERS_MAX + 1]).is_err());
    }
}
