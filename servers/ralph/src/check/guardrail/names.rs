//! What names in a file stand for: imports under other names, and names given to what was imported.

use std::collections::HashMap;

use tree_sitter::Node;

use super::source::Source;
use crate::language::Language;

/// Names followed one to another: `a = b`, `b = c`.
const STEPS_MAX: usize = 5;

/// The names of one file, each with the dotted path that it stands for.
#[derive(Debug, Default)]
pub struct Names(HashMap<String, String>);

impl Names {
    /// Collects the names of `source`.
    #[must_use]
    pub fn of(source: &Source<'_>) -> Self {
        let mut names = Self::default();
        let is_script = is_script(source.language);
        source.walk(|node| {
            match node.kind() {
                "import_statement" | "import_from_statement" if source.language == Some(Language::Python) => {
                    names.python_import(source, node);
                    return false;
                }
                "import_statement" if is_script => {
                    names.script_import(source, node);
                    return false;
                }
                "assignment" => {
                    names.assigned(source, node.child_by_field_name("left"), node.child_by_field_name("right"));
                }
                "variable_declarator" if is_script => {
                    names.assigned(source, node.child_by_field_name("name"), node.child_by_field_name("value"));
                }
                _ => {}
            }
            true
        });
        names
    }

    /// Returns the dotted path that the expression `node` stands for: names, attributes, constant subscripts, `getattr`.
    #[must_use]
    pub fn path(&self, source: &Source<'_>, node: Node<'_>) -> Option<String> {
        let path = dotted(source, node)?;
        Some(self.resolve(&path))
    }

    /// Returns `path` with the name that it begins with replaced by what that stands for.
    #[must_use]
    pub fn resolve(&self, path: &str) -> String {
        let mut path = path.to_owned();
        for _ in 0..STEPS_MAX {
            let (first, rest) = path.split_once('.').map_or((path.as_str(), None), |(first, rest)| (first, Some(rest)));
            let Some(known) = self.0.get(first).filter(|known| known.as_str() != first) else { break };
            // `import pytest` stands for itself.
            if known.split('.').next() == Some(first) && rest.is_none() && !known.contains('.') {
                break;
            }
            let next = rest.map_or_else(|| known.clone(), |rest| format!("{known}.{rest}"));
            if next == path {
                break;
            }
            path = next;
        }
        path
    }

    fn python_import(&mut self, source: &Source<'_>, node: Node<'_>) {
        let module = node.child_by_field_name("module_name").map(|module| source.of(module));
        for name in node.children_by_field_name("name", &mut node.walk()) {
            let full = source.of(name.child_by_field_name("name").unwrap_or(name));
            let alias = name.child_by_field_name("alias").map(|alias| source.of(alias));
            match (module, alias) {
                (Some(module), alias) => self.put(alias.unwrap_or(full), format!("{module}.{full}")),
                (None, Some(alias)) => self.put(alias, full.to_owned()),
                (None, None) => {}
            }
        }
    }

    fn script_import(&mut self, source: &Source<'_>, node: Node<'_>) {
        let Some(module) = node.child_by_field_name("source").map(|module| module_name(source.of(module))) else {
            return;
        };
        let mut found = Vec::new();
        super::source::walk(node, &mut |part| {
            match part.kind() {
                "import_specifier" => {
                    let name = part.child_by_field_name("name").map(|name| source.of(name)).unwrap_or_default();
                    let local = part.child_by_field_name("alias").map_or(name, |alias| source.of(alias));
                    found.push((local, format!("{module}.{name}")));
                    return false;
                }
                "namespace_import" => {
                    found.extend(part.named_child(0).map(|name| (source.of(name), module.clone())));
                    return false;
                }
                "identifier" => found.push((source.of(part), format!("{module}.default"))),
                _ => {}
            }
            true
        });
        for (name, path) in found {
            self.put(name, path);
        }
    }

    fn assigned(&mut self, source: &Source<'_>, name: Option<Node<'_>>, value: Option<Node<'_>>) {
        let (Some(name), Some(value)) = (name, value) else { return };
        if name.kind() == "object_pattern" {
            // `const { it: check } = require('vitest')`
            let Some(module) = required(source, value).or_else(|| dotted(source, value)) else { return };
            for part in name.named_children(&mut name.walk()) {
                match part.kind() {
                    "shorthand_property_identifier_pattern" => {
                        self.put(source.of(part), format!("{module}.{}", source.of(part)));
                    }
                    "pair_pattern" => {
                        if let (Some(key), Some(local)) =
                            (part.child_by_field_name("key"), part.child_by_field_name("value"))
                        {
                            self.put(source.of(local), format!("{module}.{}", source.of(key)));
                        }
                    }
                    _ => {}
                }
            }
            return;
        }
        if name.kind() != "identifier" {
            return;
        }
        let path = required(source, value).or_else(|| dotted(source, value));
        if let Some(path) = path.filter(|path| path != source.of(name)) {
            self.put(source.of(name), path);
        }
    }

    fn put(&mut self, name: &str, path: String) {
        // The first meaning counts: what is assigned later may be meant for another place.
        self.0.entry(name.to_owned()).or_insert(path);
    }
}

/// Returns whether `language` is JavaScript with or without types.
#[must_use]
pub fn is_script(language: Option<Language>) -> bool {
    matches!(language, Some(Language::JavaScript | Language::TypeScript | Language::Tsx))
}

/// Returns the text of a constant string without its quotes.
#[must_use]
pub fn constant<'s>(source: &Source<'s>, node: Node<'_>) -> Option<&'s str> {
    if !matches!(
        node.kind(),
        "string"
            | "string_literal"
            | "interpreted_string_literal"
            | "raw_string_literal"
            | "encapsed_string"
            | "template_string"
            | "raw_string"
            | "word"
    ) {
        return None;
    }
    let text = source.of(node);
    if text.contains("${") {
        return None;
    }
    let text = text.trim_start_matches(['r', 'b', 'u', 'f', 'R', 'B', 'U', 'F']);
    Some(if node.kind() == "word" { source.of(node) } else { text.trim_matches(['"', '\'', '`']) })
}

/// Returns the name of a module as paths here begin with it.
fn module_name(written: &str) -> String {
    let module = written.trim_matches(['"', '\'', '`']);
    module.strip_prefix("node:").unwrap_or(module).replace('.', "_")
}

fn required(source: &Source<'_>, node: Node<'_>) -> Option<String> {
    if node.kind() == "await_expression" {
        return required(source, node.named_child(0)?);
    }
    if node.kind() != "call_expression" {
        return None;
    }
    let function = node.child_by_field_name("function")?;
    if !matches!(source.of(function), "require" | "import") {
        return None;
    }
    let argument = node.child_by_field_name("arguments")?.named_child(0)?;
    constant(source, argument).map(module_name)
}

/// Returns the dotted path of an expression of names and constant attributes alone.
fn dotted(source: &Source<'_>, node: Node<'_>) -> Option<String> {
    match node.kind() {
        "identifier" | "property_identifier" | "simple_identifier" | "constant" | "field_identifier" => {
            Some(source.of(node).to_owned())
        }
        "this" | "self" => Some(source.of(node).to_owned()),
        "attribute" => {
            let object = dotted(source, node.child_by_field_name("object")?)?;
            Some(format!("{object}.{}", source.of(node.child_by_field_name("attribute")?)))
        }
        "member_expression" => {
            let object = dotted(source, node.child_by_field_name("object")?)?;
            Some(format!("{object}.{}", source.of(node.child_by_field_name("property")?)))
        }
        "subscript_expression" => {
            let object = dotted(source, node.child_by_field_name("object")?)?;
            let index = constant(source, node.child_by_field_name("index")?)?;
            Some(format!("{object}.{index}"))
        }
        "selector_expression" => {
            let object = dotted(source, node.child_by_field_name("operand")?)?;
            Some(format!("{object}.{}", source.of(node.child_by_field_name("field")?)))
        }
        "parenthesized_expression" | "non_null_expression" | "as_expression" | "satisfies_expression" => {
            dotted(source, node.named_child(0)?)
        }
        // `getattr(pytest.mark, "skip")`
        "call" => {
            let function = node.child_by_field_name("function")?;
            if source.of(function) != "getattr" {
                return None;
            }
            let arguments = node.child_by_field_name("arguments")?;
            let object = dotted(source, arguments.named_child(0)?)?;
            Some(format!("{object}.{}", constant(source, arguments.named_child(1)?)?))
        }
        _ => None,
    }
}
