//! JSON Schemas: of the configuration, and flat ones for tools.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::{TABLES, nearest};

/// A key that the schema does not have.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownKey {
    /// The whole key, dotted.
    pub key: String,
    /// Where it stands in the text, in bytes.
    pub offset: usize,
    /// The nearest key that the schema has at this place.
    pub nearest: Option<String>,
}

/// Returns the JSON Schema of `T`, with every definition in its place.
#[must_use]
pub fn inlined<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Returns the first key of `document` that is not a table of the file or, below `table`, not in the schema of `C`.
pub fn first_unknown_key<C: JsonSchema>(table: &str, document: &DeTable<'_>) -> Option<UnknownKey> {
    for (key, value) in document {
        let name = key.get_ref().as_ref();
        if !TABLES.contains(&name) {
            return Some(UnknownKey {
                key: name.to_owned(),
                offset: key.span().start,
                nearest: nearest(name, TABLES.iter().copied()).map(str::to_owned),
            });
        }
        if name == table
            && let Some(unknown) = walk(table, value.get_ref(), &inlined::<C>())
        {
            return Some(unknown);
        }
    }
    None
}

fn walk(path: &str, value: &DeValue<'_>, schema: &Value) -> Option<UnknownKey> {
    match value {
        DeValue::Table(table) => {
            let properties = properties(schema);
            let others =
                variants(schema).find_map(|schema| schema.get("additionalProperties").filter(|s| s.is_object()));
            if properties.is_empty() && others.is_none() {
                return None;
            }
            for (key, value) in table {
                let name = key.get_ref().as_ref();
                let below = properties.iter().find(|(known, _)| *known == name).map(|(_, schema)| *schema).or(others);
                let key_path = format!("{path}.{name}");
                match below {
                    Some(schema) => {
                        if let Some(unknown) = walk(&key_path, value.get_ref(), schema) {
                            return Some(unknown);
                        }
                    }
                    None => {
                        let known: BTreeSet<&str> = properties.iter().map(|(known, _)| *known).collect();
                        return Some(UnknownKey {
                            key: key_path,
                            offset: key.span().start,
                            nearest: nearest(name, known.into_iter()).map(str::to_owned),
                        });
                    }
                }
            }
            None
        }
        DeValue::Array(items) => {
            let schema = variants(schema).find_map(|schema| schema.get("items"))?;
            items.iter().enumerate().find_map(|(index, item)| walk(&format!("{path}[{index}]"), item.get_ref(), schema))
        }
        _ => None,
    }
}

/// Returns the schema itself and the alternatives it offers.
fn variants(schema: &Value) -> impl Iterator<Item = &Value> {
    let alternatives =
        ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|keyword| schema.get(keyword)?.as_array()).flatten();
    std::iter::once(schema).chain(alternatives)
}

fn properties(schema: &Value) -> Vec<(&str, &Value)> {
    variants(schema)
        .filter_map(|schema| schema.get("properties")?.as_object())
        .flatten()
        .map(|(name, schema)| (name.as_str(), schema))
        .collect()
}

/// Returns the JSON Schema of `T` as every model provider takes it: no references, no null in types, no
/// alternatives at the root, nothing that costs tokens without telling the model anything.
#[must_use]
pub fn flat<T: JsonSchema>() -> Map<String, Value> {
    simplified(inlined::<T>())
}

/// Returns the same of what is written as `T`: a field that may be left out when it is written is not required.
#[must_use]
pub fn flat_answer<T: JsonSchema>() -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| settings.inline_subschemas = true);
    simplified(settings.into_generator().into_root_schema_for::<T>().to_value())
}

fn simplified(mut schema: Value) -> Map<String, Value> {
    simplify(&mut schema);
    match schema {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn simplify(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            for keyword in ["$schema", "title", "format", "default"] {
                // A property may have one of these names; then its value is a schema, or the keyword stands in `properties`.
                if object.get(keyword).is_some_and(|value| keyword == "default" || value.is_string()) {
                    object.remove(keyword);
                }
            }
            collapse_null(object);
            collapse_constants(object);
            for (keyword, value) in object.iter_mut() {
                match (keyword.as_str(), value) {
                    ("properties", Value::Object(properties)) => properties.values_mut().for_each(simplify),
                    ("enum" | "const" | "required" | "examples", _) => {}
                    (_, value) => simplify(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(simplify),
        _ => {}
    }
}

/// Turns `type: [x, null]` and `anyOf: [x, null]` into `x`: an absent field says the same.
fn collapse_null(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(alternatives)) = object.get_mut("anyOf") {
        alternatives.retain(|schema| schema.get("type").is_none_or(|name| name != "null"));
        if let [Value::Object(only)] = alternatives.as_slice() {
            let only = only.clone();
            object.remove("anyOf");
            for (keyword, value) in only {
                object.entry(keyword).or_insert(value);
            }
        }
    }
}

/// Turns `oneOf` of documented constants into one `enum`.
fn collapse_constants(object: &mut Map<String, Value>) {
    let Some(Value::Array(alternatives)) = object.get("oneOf") else { return };
    let mut names = Vec::new();
    for alternative in alternatives {
        match (alternative.get("const"), alternative.get("enum")) {
            (Some(constant), _) => names.push(constant.clone()),
            (None, Some(Value::Array(constants))) => names.extend(constants.iter().cloned()),
            _ => return,
        }
    }
    object.remove("oneOf");
    object.insert("type".to_owned(), Value::String("string".to_owned()));
    object.insert("enum".to_owned(), Value::Array(names));
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde_json::json;

    use super::*;

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Request {
        /// Where.
        path: String,
        title: Option<String>,
        limit: Option<u32>,
        kind: Option<Kind>,
    }

    #[derive(JsonSchema)]
    #[serde(rename_all = "snake_case")]
    #[expect(dead_code, reason = "only its schema is looked at")]
    enum Kind {
        /// One.
        First,
        /// Two.
        Second,
    }

    #[test]
    fn schemas_are_flat() {
        let schema = Value::Object(flat::<Request>());
        assert_eq!(
            schema,
            json!({
                "type": "object",
                "properties": {
                    "path": {"description": "Where.", "type": "string"},
                    "title": {"type": "string"},
                    "limit": {"type": "integer", "minimum": 0},
                    "kind": {"type": "string", "enum": ["first", "second"]},
                },
                "required": ["path"],
            })
        );
    }
}
