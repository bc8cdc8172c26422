//! Values as PostgreSQL itself writes them, into JSON without loss.

use serde_json::{Number, Value};
use sqlx::TypeInfo;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgTypeInfo, PgTypeKind};

use crate::rows::{Cell, EXACT_MAX, Encoding};

/// `box`, the one type of PostgreSQL's own whose arrays are not parted by commas, which its values have in them.
pub(super) const BOX: Oid = Oid(603);

/// The first of the types that are not PostgreSQL's own.
const OWN_TYPES_END: u32 = 16_384;

/// How deep arrays may be; PostgreSQL's own limit.
const DIMENSIONS_MAX: usize = 6;

/// What matters of a type for its form in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// `smallint`, `integer`, `bigint`.
    Integer,
    /// `real`, `double precision`.
    Real,
    /// `boolean`.
    Boolean,
    /// `numeric`.
    Decimal,
    /// `bytea`.
    Bytes,
    /// `json`, `jsonb`.
    Json,
    /// `text`, `varchar`.
    Text,
    /// Whatever else; its text says all.
    Other,
    /// An array of these.
    Array(Box<Type>),
}

/// A value on its way into an answer.
pub(super) enum Made<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Real(f64),
    Text(&'a [u8]),
    Encoded(&'a [u8], Encoding),
    Bytes(Vec<u8>),
    Value(Value, Option<Encoding>),
}

impl Type {
    /// Reads a type; the arrays of `odd` ones are not parted by commas, so their text is left as it is.
    pub(super) fn of(info: &PgTypeInfo, odd: &[Oid]) -> Self {
        if let PgTypeKind::Array(element) = info.kind() {
            return match element.oid() {
                Some(oid) if !odd.contains(&oid) => Self::Array(Box::new(Self::of(element, odd))),
                _ => Self::Other,
            };
        }
        match info.name() {
            "INT2" | "INT4" | "INT8" | "OID" => Self::Integer,
            "FLOAT4" | "FLOAT8" => Self::Real,
            "BOOL" => Self::Boolean,
            "NUMERIC" => Self::Decimal,
            "BYTEA" => Self::Bytes,
            "JSON" | "JSONB" => Self::Json,
            "TEXT" | "VARCHAR" => Self::Text,
            _ => Self::Other,
        }
    }
}

impl Made<'_> {
    pub(super) fn cell(&self) -> Cell<'_> {
        match self {
            Self::Null => Cell::Null,
            Self::Boolean(value) => Cell::Boolean(*value),
            Self::Integer(integer) => Cell::Integer(*integer),
            Self::Real(real) => Cell::Real(*real),
            Self::Text(text) => Cell::Text(text),
            Self::Encoded(text, encoding) => Cell::Encoded(text, *encoding),
            Self::Bytes(bytes) => Cell::Blob(bytes),
            Self::Value(value, encoding) => Cell::Value(value, *encoding),
        }
    }
}

/// Whether only the catalogue knows by what the elements of this type's values are parted.
pub(super) fn may_be_odd(info: &PgTypeInfo) -> bool {
    let PgTypeKind::Array(element) = info.kind() else { return false };
    matches!(element.kind(), PgTypeKind::Simple | PgTypeKind::Domain(_))
        && element.oid().is_none_or(|oid| oid.0 >= OWN_TYPES_END)
}

/// Returns the value that `text` is, of which the server has shown `characters` at most.
pub(super) fn cell<'a>(text: Option<&'a str>, r#type: &Type, characters: usize) -> Made<'a> {
    let Some(text) = text else { return Made::Null };
    let whole = text.len() < characters;
    let made = match r#type {
        Type::Integer => text.parse().ok().map(Made::Integer),
        Type::Real => text.parse().ok().map(Made::Real),
        Type::Boolean => boolean(text).map(|value| Made::Value(Value::Bool(value), None)),
        // A digit may be missing at the end.
        Type::Bytes => text.strip_prefix("\\x").map(|digits| Made::Bytes(unhex(digits))),
        Type::Decimal => Some(Made::Encoded(text.as_bytes(), Encoding::Decimal)),
        Type::Json => Some(Made::Encoded(text.as_bytes(), Encoding::Json)),
        Type::Array(element) if whole => array(text, element).map(|value| {
            let encoding = encoding(element, &value);
            Made::Value(value, encoding)
        }),
        Type::Array(_) | Type::Text | Type::Other => None,
    };
    made.unwrap_or(Made::Text(text.as_bytes()))
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "t" | "true" => Some(true),
        "f" | "false" => Some(false),
        _ => None,
    }
}

fn unhex(digits: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or_default();
    digits.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) * 16 + digit(pair[1])).collect()
}

/// How the elements of an array are written where JSON has no form of its own for them.
fn encoding(element: &Type, value: &Value) -> Option<Encoding> {
    match element {
        Type::Decimal => Some(Encoding::Decimal),
        Type::Json => Some(Encoding::Json),
        Type::Integer => has_text(value).then_some(Encoding::Integer),
        Type::Real => has_text(value).then_some(Encoding::Real),
        _ => None,
    }
}

fn has_text(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_text),
        value => value.is_string(),
    }
}

fn element(text: &str, r#type: &Type) -> Value {
    let text_value = || Value::String(text.to_owned());
    match r#type {
        Type::Integer => match text.parse::<i64>() {
            Ok(integer) if (-EXACT_MAX..=EXACT_MAX).contains(&integer) => Value::from(integer),
            _ => text_value(),
        },
        Type::Real => text.parse().ok().and_then(Number::from_f64).map_or_else(text_value, Value::Number),
        Type::Boolean => boolean(text).map_or_else(text_value, Value::Bool),
        _ => text_value(),
    }
}

/// Reads `{1,NULL,"a b"}`; `None` when it is not of this form, such as with bounds of its own.
fn array(text: &str, r#type: &Type) -> Option<Value> {
    let mut rest = text;
    let value = nested(&mut rest, r#type, DIMENSIONS_MAX)?;
    rest.is_empty().then_some(value)
}

fn nested(rest: &mut &str, r#type: &Type, depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    *rest = rest.strip_prefix('{')?;
    let mut items = Vec::new();
    if let Some(after) = rest.strip_prefix('}') {
        *rest = after;
        return Some(Value::Array(items));
    }
    loop {
        let item = if rest.starts_with('{') {
            nested(rest, r#type, depth)?
        } else if rest.starts_with('"') {
            element(&quoted(rest)?, r#type)
        } else {
            let end = rest.find([',', '}'])?;
            let item = match &rest[..end] {
                "NULL" => Value::Null,
                bare if bare.contains(['\\', '"', '{']) => return None,
                bare => element(bare, r#type),
            };
            *rest = &rest[end..];
            item
        };
        items.push(item);
        match rest.as_bytes().first() {
            Some(b',') => *rest = &rest[1..],
            Some(b'}') => {
                *rest = &rest[1..];
                return Some(Value::Array(items));
            }
            _ => return None,
        }
    }
}

fn quoted(rest: &mut &str) -> Option<String> {
    let mut content = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                *rest = &rest[at + 1..];
                return Some(content);
            }
            '\\' => content.push(characters.next()?.1),
            other => content.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn arrays_become_arrays() {
        let read = |text, element| array(text, &element);
        assert_eq!(read("{}", Type::Integer), Some(json!([])));
        assert_eq!(read("{1,NULL,9007199254740993}", Type::Integer), Some(json!([1, null, "9007199254740993"])));
        assert_eq!(read("{{1,2},{3,4}}", Type::Integer), Some(json!([[1, 2], [3, 4]])));
        assert_eq!(read("{t,f}", Type::Boolean), Some(json!([true, false])));
        assert_eq!(read("{1.50,NaN}", Type::Decimal), Some(json!(["1.50", "NaN"])));
        assert_eq!(read("{0.1,Infinity}", Type::Real), Some(json!([0.1, "Infinity"])));
        assert_eq!(
            read(r#"{a,"b c","d\"\\,}","NULL",""}"#, Type::Text),
            Some(json!(["a", "b c", "d\"\\,}", "NULL", ""]))
        );
        assert_eq!(read("{a;b,c}", Type::Text), Some(json!(["a;b", "c"])));
        for text in ["", "{", "{1", "{1,", "[0:1]={1,2}", "{1}}", r#"{"a}"#, &"{".repeat(100_000)] {
            assert_eq!(read(text, Type::Integer), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arrays_never_panic(text in "[{}\",\\\\a1é ]{0,30}") {
            let _ = array(&text, &Type::Text);
        }
    }
}
