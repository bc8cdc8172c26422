//! Configuration files as plain values, whatever they are written in.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tree_sitter::Node;

use crate::check::guardrail::source::Source;

/// Deepest value that is looked into.
const DEPTH_MAX: usize = 40;

/// Values of one file that are looked at.
const VALUES_MAX: usize = 50_000;

/// The settings of a file: each value by its path, and each list by its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Values that are no lists.
    pub scalars: BTreeMap<String, String>,
    /// Lists of values.
    pub lists: BTreeMap<String, Vec<String>>,
}

/// Reads `text` as what the name `path` says it is; nothing where it cannot be read.
#[must_use]
pub fn read(path: &str, text: &str) -> Option<Value> {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension {
        "toml" => toml(text),
        "yml" | "yaml" | "neon" | "clang-tidy" => yaml(text),
        "json" | "jsonc" | "json5" | "js" | "cjs" | "mjs" | "ts" | "cts" | "mts" => script(text),
        "ini" | "cfg" | "flake8" | "coveragerc" | "pylintrc" | "properties" | "conf" => Some(ini(text)),
        _ if name == "pylintrc" => Some(ini(text)),
        // `.eslintrc`, `.babelrc`: JSON or YAML.
        _ if name.starts_with('.') && name.ends_with("rc") => script(text).or_else(|| yaml(text)),
        _ => None,
    }
}

/// Reads YAML; an alias that stands for too much is not read.
#[must_use]
pub fn yaml(text: &str) -> Option<Value> {
    if text.trim().is_empty() {
        return Some(Value::Object(Map::new()));
    }
    serde_saphyr::from_str::<Value>(text).ok()
}

fn toml(text: &str) -> Option<Value> {
    toml::from_str::<toml::Value>(text).ok().and_then(|value| serde_json::to_value(value).ok())
}

/// Reads sections of `key = value`, where a value goes on in lines that are indented.
fn ini(text: &str) -> Value {
    let mut root = Map::new();
    let (mut section, mut key) = (String::new(), String::new());
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
            key.clear();
            continue;
        }
        let values = root.entry(section.clone()).or_insert_with(|| Value::Object(Map::new()));
        let Some(values) = values.as_object_mut() else { continue };
        if line.starts_with([' ', '\t']) && !key.is_empty() {
            if let Some(Value::String(value)) = values.get_mut(&key) {
                value.push('\n');
                value.push_str(trimmed);
            }
            continue;
        }
        let (name, value) = trimmed.split_once(['=', ':']).unwrap_or((trimmed, ""));
        name.trim().clone_into(&mut key);
        values.insert(key.clone(), Value::String(value.trim().to_owned()));
    }
    Value::Object(root)
}

/// Reads the objects that a file of JavaScript, or JSON with comments, is made of.
fn script(text: &str) -> Option<Value> {
    let is_json =
        text.trim_start().starts_with(['{', '[', '/']) && !text.contains("export ") && !text.contains("module.");
    // An object alone would be taken for a block.
    let wrapped = if is_json { format!("x = {text}") } else { text.to_owned() };
    let source = Source::parse("settings.ts", &wrapped, &|| true)?;
    let tree = source.tree.as_ref()?;
    if is_json && tree.root_node().has_error() {
        return None;
    }
    let mut root = Map::new();
    let mut count = 0;
    source.walk(|node| {
        if node.kind() == "object" {
            // All objects of a file together: `defineConfig({…})`, `[{…}, {…}]`, `module.exports = {…}`.
            if let Value::Object(object) = value(&source, node, 0) {
                for (key, value) in object {
                    let key = if root.contains_key(&key) {
                        count += 1;
                        format!("{count}.{key}")
                    } else {
                        key
                    };
                    root.insert(key, value);
                }
            }
            return false;
        }
        true
    });
    Some(Value::Object(root))
}

fn value(source: &Source<'_>, node: Node<'_>, depth: usize) -> Value {
    let text = source.of(node);
    if depth > DEPTH_MAX {
        return Value::String(text.to_owned());
    }
    match node.kind() {
        "object" => {
            let mut object = Map::new();
            for pair in node.named_children(&mut node.walk()) {
                match pair.kind() {
                    "pair" => {
                        if let (Some(key), Some(inner)) =
                            (pair.child_by_field_name("key"), pair.child_by_field_name("value"))
                        {
                            object.insert(
                                source.of(key).trim_matches(['"', '\'']).to_owned(),
                                value(source, inner, depth + 1),
                            );
                        }
                    }
                    "spread_element" => {
                        object.insert(source.of(pair).to_owned(), Value::Bool(true));
                    }
                    _ => {}
                }
            }
            Value::Object(object)
        }
        "array" => Value::Array(
            node.named_children(&mut node.walk())
                .filter(|item| !item.kind().contains("comment"))
                .map(|item| value(source, item, depth + 1))
                .collect(),
        ),
        "string" | "template_string" => Value::String(text.trim_matches(['"', '\'', '`']).to_owned()),
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" | "undefined" => Value::Null,
        "parenthesized_expression" | "as_expression" | "satisfies_expression" => {
            node.named_child(0).map_or(Value::Null, |inner| value(source, inner, depth + 1))
        }
        _ => Value::String(text.to_owned()),
    }
}

impl Settings {
    /// Takes the settings of a value apart.
    #[must_use]
    pub fn of(value: &Value) -> Self {
        let mut settings = Self::default();
        settings.add("", value, 0);
        settings
    }

    fn add(&mut self, path: &str, value: &Value, depth: usize) {
        if depth > DEPTH_MAX || self.scalars.len() + self.lists.len() > VALUES_MAX {
            return;
        }
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    self.add(&below(key), value, depth + 1);
                }
            }
            Value::Array(items) => {
                let plain: Vec<String> = items.iter().filter_map(scalar).collect();
                // `["error", {…}]` is a level with options.
                if let Some(first) = plain.first().filter(|_| plain.len() == 1 && items.len() > 1) {
                    self.scalars.insert(path.to_owned(), first.clone());
                }
                self.lists.entry(path.to_owned()).or_default().extend(plain);
                for (number, item) in items.iter().enumerate().filter(|(_, item)| item.is_object() || item.is_array()) {
                    let named = ["name", "module", "id", "repo", "path", "files"]
                        .iter()
                        .find_map(|key| item.get(key))
                        .and_then(scalar);
                    self.add(&below(&named.unwrap_or_else(|| number.to_string())), item, depth + 1);
                }
            }
            other => {
                self.scalars.insert(path.to_owned(), scalar(other).unwrap_or_default());
            }
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("null".to_owned()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}
