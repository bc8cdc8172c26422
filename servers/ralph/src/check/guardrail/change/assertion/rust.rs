//! What Rust's macros demand.

use tree_sitter::Node;

use super::tolerance::split;
use super::{EQUAL, NOTHING, PART, Reader, TRUTH, constant_truth};

impl Reader<'_, '_> {
    pub(super) fn rust(&self, node: Node<'_>) -> Option<(String, u8, bool)> {
        if node.kind() != "macro_invocation" {
            return None;
        }
        let name = self.source.of(node.child_by_field_name("macro")?).rsplit("::").next().unwrap_or_default();
        let tokens = node.named_children(&mut node.walk()).find(|child| child.kind() == "token_tree")?;
        // One bracket on each side: the last argument may end with others.
        let whole = self.source.of(tokens);
        let inner = whole.get(1..whole.len().saturating_sub(1)).unwrap_or_default();
        let arguments = split(inner);
        let first = arguments.first().copied().unwrap_or_default();
        let second = arguments.get(1).copied().unwrap_or_default();
        let bare = name.trim_start_matches("debug_").trim_start_matches("prop_");
        match bare {
            "assert_eq" => {
                let same = self.same(first, second);
                Some((first.to_owned(), if same { NOTHING } else { EQUAL }, same))
            }
            "assert_ne" => Some((first.to_owned(), PART, false)),
            "assert" => {
                let (left, right) =
                    first.split_once("==").map_or((first, ""), |(left, right)| (left.trim(), right.trim()));
                let constant = constant_truth(first) == Some(true) || !right.is_empty() && self.same(left, right);
                let object = ["is_ok()", "is_some()", "is_err()", "is_none()", "is_empty()"]
                    .iter()
                    .find_map(|end| left.strip_suffix(end))
                    .map(|object| object.trim_end_matches('.'));
                let strength = if constant {
                    NOTHING
                } else if !right.is_empty() {
                    EQUAL
                } else if first.contains("matches!")
                    || first.contains(".contains(")
                    || first.contains("starts_with(")
                    || first.contains("!=")
                {
                    PART
                } else {
                    TRUTH
                };
                let about = first
                    .split(".contains(")
                    .next()
                    .filter(|_| first.contains(".contains("))
                    .or(object)
                    .unwrap_or(left);
                Some((about.trim_start_matches('!').to_owned(), strength, constant))
            }
            "panic" | "unreachable" => Some(("panic".to_owned(), EQUAL, false)),
            _ if bare.starts_with("assert") => Some((first.to_owned(), EQUAL, false)),
            _ => None,
        }
    }
}
