//! Rust's macros: their arguments are tokens, not a tree.

use std::borrow::Cow;

use tree_sitter::Node;

use super::Lower;
use crate::check::security::ir::{Id, Kind};

impl<'s> Lower<'s> {
    pub(super) fn macro_call(&mut self, node: Node<'_>) -> Id {
        let name = node.child_by_field_name("macro");
        let callee = match name {
            Some(name) => {
                let text = self.text(name);
                let last = text.rsplit("::").next().unwrap_or(text);
                // `format!` and a function of that name are two things.
                let end = name.end_byte();
                let with_mark = self.source.get(name.end_byte() - last.len()..end + 1).unwrap_or(last);
                self.push_at(name.start_byte(), end, Kind::Name(with_mark))
            }
            None => return self.nothing(node),
        };
        let mut cursor = node.walk();
        let tree = node.named_children(&mut cursor).find(|child| child.kind() == "token_tree");
        let arguments = tree.map(|tree| self.token_arguments(tree)).unwrap_or_default();
        self.push(node, Kind::Call { callee, arguments })
    }

    /// Cuts a tree of tokens at its commas.
    fn token_arguments(&mut self, tree: Node<'_>) -> Vec<Id> {
        if self.depth >= self.depth_max {
            self.too_deep = true;
            return Vec::new();
        }
        self.depth += 1;
        let mut cursor = tree.walk();
        let tokens: Vec<Node<'_>> = tree.children(&mut cursor).collect();
        let inner = tokens.get(1..tokens.len().saturating_sub(1)).unwrap_or_default();
        let mut ids = Vec::new();
        for part in inner.split(|token| token.kind() == "," || token.kind() == ";") {
            ids.extend(self.tokens(part));
        }
        self.depth -= 1;
        ids
    }

    /// Makes one expression of `tokens`: names, members, calls, texts; the rest keeps its parts.
    fn tokens(&mut self, tokens: &[Node<'_>]) -> Option<Id> {
        let mut parts: Vec<Id> = Vec::new();
        let mut named: Option<&'s str> = None;
        let mut current: Option<Id> = None;
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let next = tokens.get(at + 1);
            match (token.kind(), current) {
                ("=", Some(id)) if parts.is_empty() => {
                    if let Kind::Name(name) = self.ir.kind(id) {
                        named = Some(name);
                        current = None;
                    }
                }
                ("&" | "*" | "?" | "mut", _) => {}
                ("." | "::", Some(object)) if next.is_some_and(|next| self.is_word(*next)) => {
                    let name = next.map_or("", |next| self.text(*next));
                    let start = self.ir.nodes[object].start;
                    let end = next.map_or(0, Node::end_byte);
                    current = Some(self.push_at(start, end, Kind::Member(object, Cow::Borrowed(name))));
                    at += 1;
                }
                ("!", Some(_)) if next.is_some_and(|next| next.kind() == "token_tree") => {
                    let callee = self.push_at(tokens[at - 1].start_byte(), token.end_byte(), {
                        Kind::Name(self.source.get(tokens[at - 1].start_byte()..token.end_byte()).unwrap_or_default())
                    });
                    current = Some(callee);
                }
                ("token_tree", Some(callee)) => {
                    let arguments = self.token_arguments(*token);
                    let start = self.ir.nodes[callee].start;
                    let is_index = self.text(*token).starts_with('[')
                        && !matches!(self.ir.kind(callee), Kind::Name(name) if name.ends_with('!'));
                    let kind = match arguments[..] {
                        [key] if is_index => Kind::Index(callee, key),
                        _ => Kind::Call { callee, arguments },
                    };
                    current = Some(self.push_at(start, token.end_byte(), kind));
                }
                ("token_tree", None) => {
                    let inner = self.token_arguments(*token);
                    current = Some(match inner[..] {
                        [only] => only,
                        _ => self.push(*token, Kind::List(inner)),
                    });
                }
                (_, _) if token.is_named() => {
                    parts.extend(current.take());
                    current = Some(self.node(*token));
                }
                _ => parts.extend(current.take()),
            }
            at += 1;
        }
        parts.extend(current);
        let first = tokens.first()?;
        let id = match parts[..] {
            [] => return None,
            [only] => only,
            _ => self.push_at(first.start_byte(), tokens.last().unwrap_or(first).end_byte(), Kind::Block(parts)),
        };
        Some(match named {
            Some(name) => self.push(*first, Kind::Pair(Cow::Borrowed(name), id)),
            None => id,
        })
    }

    fn is_word(&self, node: Node<'_>) -> bool {
        let text = self.text(node);
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    }
}
