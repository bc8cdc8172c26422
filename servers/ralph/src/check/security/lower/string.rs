//! Texts: what is constant in them, and what is put in.

use std::borrow::Cow;

use tree_sitter::Node;

use super::Lower;
use crate::check::security::ir::{Id, Kind};

impl<'s> Lower<'s> {
    /// Lowers a text to [`Kind::Text`], or with expressions in it to [`Kind::Template`].
    pub(super) fn string(&mut self, node: Node<'_>) -> Id {
        let mut holes = Vec::new();
        self.holes(node, &mut holes);
        if holes.is_empty() {
            let (start, end) = content(self.source, node.start_byte(), node.end_byte(), node.kind() == "heredoc");
            let raw = self.source.get(start..end).unwrap_or_default();
            let kind = Kind::Text(unescaped(raw));
            return self.push(node, kind);
        }
        let (mut at, end) = content(self.source, node.start_byte(), node.end_byte(), node.kind() == "heredoc");
        let mut parts = Vec::new();
        for (start, stop, id) in holes {
            if let Some(text) = self.source.get(at..start).filter(|text| !text.is_empty()) {
                let kind = Kind::Text(unescaped(text));
                parts.push(self.push_at(at, start, kind));
            }
            parts.push(id);
            at = stop;
        }
        if let Some(text) = self.source.get(at..end).filter(|text| !text.is_empty()) {
            let kind = Kind::Text(unescaped(text));
            parts.push(self.push_at(at, end, kind));
        }
        self.push(node, Kind::Template(parts))
    }

    /// Finds the expressions within a text.
    fn holes(&mut self, node: Node<'_>, holes: &mut Vec<(usize, usize, Id)>) {
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        for child in children {
            match child.kind() {
                "interpolation" | "template_substitution" => {
                    let inner = child.child_by_field_name("expression").or_else(|| child.named_child(0));
                    let id = match inner {
                        Some(inner) => self.node(inner),
                        None => self.nothing(child),
                    };
                    holes.push((child.start_byte(), child.end_byte(), id));
                }
                "string_content"
                | "string_fragment"
                | "escape_sequence"
                | "string_start"
                | "string_end"
                | "heredoc_start"
                | "heredoc_end"
                | "interpreted_string_literal_content"
                | "raw_string_literal_content"
                | "nowdoc_string"
                | "text_block"
                | "multiline_string_fragment"
                | "format_specifier"
                | "comment"
                | "escape_interpolation"
                | "nowdoc_body" => {
                    // Python keeps escapes, and an interpolated text its parts, below the content.
                    if child.named_child_count() > 0 {
                        self.holes(child, holes);
                    }
                }
                "heredoc_body" => self.holes(child, holes),
                _ => {
                    let id = self.node(child);
                    holes.push((child.start_byte(), child.end_byte(), id));
                }
            }
        }
    }
}

/// Returns where the content of the literal at `start..end` is, without prefix and quotes.
pub(super) fn content(source: &str, start: usize, end: usize, is_heredoc: bool) -> (usize, usize) {
    let text = source.get(start..end).unwrap_or_default();
    if is_heredoc {
        let from = text.find('\n').map_or(0, |at| at + 1);
        return (start + from, end);
    }
    let trimmed = text.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '@' | '$' | '%'));
    // C keeps a macro's whole value as one text; what is no literal is taken as it is.
    let Some(quote) = trimmed.chars().next().filter(|c| matches!(c, '"' | '\'' | '`' | '#' | '(' | '[' | '{')) else {
        return (start, end);
    };
    let prefix = text.len() - trimmed.len();
    if quote == '#' {
        let hashes = trimmed.len() - trimmed.trim_start_matches('#').len();
        let from = (prefix + hashes + 1).min(text.len());
        return (start + from, end.saturating_sub(hashes + 1).max(start + from));
    }
    let tripled = trimmed.len() >= 6 && trimmed.bytes().take(3).all(|byte| char::from(byte) == quote);
    let quotes = if tripled { 3 } else { 1 };
    let from = start + prefix + quotes;
    (from.min(end), end.saturating_sub(quotes).max(from.min(end)))
}

/// Resolves the escapes that may hide a letter; the others stay.
pub(super) fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let digits = match rest.as_bytes().first() {
            Some(b'x') => 2,
            Some(b'u') => 4,
            Some(b'n') => {
                result.push('\n');
                rest = &rest[1..];
                continue;
            }
            _ => {
                let next = rest.chars().next();
                result.extend(next);
                rest = &rest[next.map_or(0, char::len_utf8)..];
                continue;
            }
        };
        match rest.get(1..=digits).and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32) {
            Some(character) => {
                result.push(character);
                rest = &rest[digits + 1..];
            }
            None => result.push('\\'),
        }
    }
    result.push_str(rest);
    Cow::Owned(result)
}
