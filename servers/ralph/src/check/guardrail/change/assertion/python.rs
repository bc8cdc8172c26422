//! What Python demands: `assert`, and `raises` as a call or around a block.

use tree_sitter::Node;

use super::{EQUAL, NOTHING, PART, Reader, TRUTH, constant_truth};
use crate::check::guardrail::source::{self, Source};

impl Reader<'_, '_> {
    pub(super) fn python(&self, node: Node<'_>) -> Option<(String, u8, bool)> {
        match node.kind() {
            "assert_statement" => {
                let condition = node.named_child(0)?;
                // `assert (x == 1, "message")` is a tuple, which is true.
                if condition.kind() == "tuple" {
                    return Some((self.source.of(condition).to_owned(), NOTHING, true));
                }
                Some(self.condition(condition))
            }
            "call" => {
                let function = node.child_by_field_name("function")?;
                let name = self.source.of(function).rsplit('.').next().unwrap_or_default();
                if matches!(name, "raises" | "assertRaises" | "assertRaisesRegex" | "warns" | "assertWarns") {
                    return Some(self.raises(node));
                }
                self.call(node)
            }
            "with_statement" => {
                let mut found = None;
                let body = node.child_by_field_name("body").map_or(node.end_byte(), |body| body.start_byte());
                source::walk(node, &mut |inner| {
                    if inner.start_byte() >= body || found.is_some() {
                        return false;
                    }
                    if inner.kind() == "call" {
                        let function = inner
                            .child_by_field_name("function")
                            .map(|function| self.source.of(function))
                            .unwrap_or_default();
                        if matches!(
                            function.rsplit('.').next(),
                            Some("raises" | "assertRaises" | "assertRaisesRegex" | "warns" | "assertWarns")
                        ) {
                            found = Some(self.raises(inner));
                        }
                    }
                    true
                });
                found
            }
            _ => None,
        }
    }

    fn raises(&self, call: Node<'_>) -> (String, u8, bool) {
        let arguments = call.child_by_field_name("arguments");
        let first = arguments
            .and_then(|arguments| arguments.named_child(0))
            .map(|first| self.source.of(first))
            .unwrap_or_default();
        let text = arguments.map(|arguments| self.source.of(arguments)).unwrap_or_default();
        let broad = matches!(first.rsplit('.').next(), Some("Exception" | "BaseException" | "Error" | "Throwable"));
        let exact = text.contains("match=") || self.source.of(call).contains("Regex");
        ("raises".to_owned(), if broad { TRUTH } else { EQUAL - u8::from(!exact) }, false)
    }

    /// Reads a condition: what it is about, how much it demands, whether it always holds.
    fn condition(&self, node: Node<'_>) -> (String, u8, bool) {
        let text = self.source.of(node);
        match node.kind() {
            "parenthesized_expression" => match node.named_child(0) {
                Some(inner) => self.condition(inner),
                None => (text.to_owned(), TRUTH, false),
            },
            "boolean_operator" | "binary_expression" if is_or(self.source, node) => {
                let parts: Vec<_> = node.named_children(&mut node.walk()).map(|part| self.condition(part)).collect();
                let constant = parts.iter().any(|part| part.2);
                let subject = parts.into_iter().next().map(|part| part.0).unwrap_or_default();
                (subject, if constant { NOTHING } else { TRUTH }, constant)
            }
            "boolean_operator" => {
                let parts: Vec<_> = node.named_children(&mut node.walk()).map(|part| self.condition(part)).collect();
                let constant = parts.iter().all(|part| part.2);
                parts
                    .into_iter()
                    .max_by_key(|part| part.1)
                    .map_or((text.to_owned(), TRUTH, false), |best| (best.0, best.1, constant))
            }
            "comparison_operator" | "binary_expression" => self.comparison(node),
            "not_operator" | "unary_expression" => {
                let never = constant_truth(text) == Some(true);
                (
                    node.named_child(0).map(|inner| self.source.of(inner)).unwrap_or_default().to_owned(),
                    if never { NOTHING } else { TRUTH },
                    never,
                )
            }
            "true" | "integer" | "string" | "float" | "boolean_literal" | "list" | "dictionary" => {
                (text.to_owned(), NOTHING, constant_truth(text) != Some(false))
            }
            "call" | "call_expression" => {
                let arguments = node.child_by_field_name("arguments");
                let first = arguments.and_then(|arguments| arguments.named_child(0)).map(|first| self.source.of(first));
                let function =
                    node.child_by_field_name("function").map(|function| self.source.of(function)).unwrap_or_default();
                if matches!(function, "isinstance" | "hasattr" | "callable" | "len" | "bool") {
                    let always = function == "isinstance" && text.replace(' ', "").ends_with(",object)");
                    return (first.unwrap_or(text).to_owned(), if always { NOTHING } else { TRUTH }, always);
                }
                let strength =
                    if matches!(function.rsplit('.').next(), Some("startswith" | "endswith" | "issubset" | "contains"))
                    {
                        PART
                    } else {
                        TRUTH
                    };
                let object =
                    node.child_by_field_name("function").and_then(|function| function.child_by_field_name("object"));
                let about = if strength == PART { object.map(|object| self.source.of(object)) } else { None };
                (about.unwrap_or(text).to_owned(), strength, false)
            }
            _ => (
                text.to_owned(),
                TRUTH,
                constant_truth(self.values.get(text).map_or(text, String::as_str)) == Some(true),
            ),
        }
    }

    fn comparison(&self, node: Node<'_>) -> (String, u8, bool) {
        let text = self.source.of(node);
        let parts: Vec<Node<'_>> = node.named_children(&mut node.walk()).collect();
        let (Some(left), Some(right)) = (parts.first(), parts.last()) else { return (text.to_owned(), TRUTH, false) };
        let operator = self
            .source
            .text
            .get(left.end_byte()..right.start_byte())
            .unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let (left, right) = (self.source.of(*left), self.source.of(*right));
        let wraps = |text: &str| {
            ["len(", "type(", "bool(", "str("]
                .iter()
                .find_map(|word| text.strip_prefix(word))
                .map(|rest| rest.trim_end_matches(')').to_owned())
        };
        match operator.as_str() {
            "==" | "===" | "is" => {
                let same = self.same(left, right);
                let any = right.contains("mock.ANY") || right == "ANY";
                let strength = if same {
                    NOTHING
                } else if any {
                    PART
                } else {
                    EQUAL
                };
                match wraps(left) {
                    Some(inner) => (inner, strength.min(PART), same),
                    None => (left.to_owned(), strength, same),
                }
            }
            "is not" | "!=" | "!==" => {
                let nothing = matches!(right, "None" | "null" | "undefined" | "nil");
                (left.to_owned(), if nothing { TRUTH } else { PART }, false)
            }
            ">=" | ">" | "<" | "<=" => {
                let always = operator == ">=" && right.trim() == "0" && left.starts_with("len(");
                (wraps(left).unwrap_or_else(|| left.to_owned()), if always { NOTHING } else { PART }, always)
            }
            // `x in y`: what is looked for, or what is looked in, may be what it was about.
            "in" => (left.to_owned(), PART, false),
            "not in" => (right.to_owned(), PART, false),
            _ => (left.to_owned(), TRUTH, false),
        }
    }
}

fn is_or(source: &Source<'_>, node: Node<'_>) -> bool {
    node.child_by_field_name("operator").is_some_and(|operator| matches!(source.of(operator), "or" | "||"))
}
