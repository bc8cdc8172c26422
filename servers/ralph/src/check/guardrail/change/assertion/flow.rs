//! Whether what stands at a place is ever done, and whether its failure is seen.

use tree_sitter::Node;

use crate::check::guardrail::names::is_script;
use crate::check::guardrail::source::{self, Source};
use crate::language::Language;

/// Returns whether the condition `text` always or never holds.
#[must_use]
pub fn constant_truth(text: &str) -> Option<bool> {
    let bare: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let bare = bare.trim_start_matches('(').trim_end_matches(')');
    match bare {
        "True" | "true" | "1" | "notFalse" | "!false" | "1==1" | "!0" => Some(true),
        "False" | "false" | "0" | "None" | "null" | "nil" | "notTrue" | "!true" | "1==0" | "0==1" | "1==2" | "!1"
        | "\"\"" | "''" | "[]" => Some(false),
        _ if bare.starts_with("False and")
            || bare.starts_with("Falseand")
            || bare.starts_with("false&&")
            || bare.ends_with("andFalse")
            || bare.ends_with("&&false") =>
        {
            Some(false)
        }
        _ if bare.ends_with("orTrue") || bare.ends_with("||true") => Some(true),
        _ => None,
    }
}

/// Returns whether the function with `body` is a generator.
pub(super) fn yields(body: Node<'_>) -> bool {
    let mut found = false;
    source::walk(body, &mut |node| {
        found |= node.kind() == "yield";
        !found && !matches!(node.kind(), "function_definition" | "lambda" | "class_definition")
    });
    found
}

/// Returns whether nothing behind `node` in the same block is done.
pub(super) fn leaves(source: &Source<'_>, node: Node<'_>) -> bool {
    match node.kind() {
        "return_statement" | "raise_statement" | "throw_statement" | "continue_statement" | "break_statement"
        | "return" => true,
        // The value of a block in Rust is no return.
        "return_expression" => true,
        "expression_statement" => node.named_child(0).is_some_and(|inner| match inner.kind() {
            "return_expression" | "return" => true,
            "call" | "call_expression" => {
                let function =
                    inner.child_by_field_name("function").map(|function| source.of(function)).unwrap_or_default();
                matches!(function, "sys.exit" | "os._exit" | "process.exit" | "pytest.exit" | "exit" | "quit")
            }
            _ => false,
        }),
        "if_statement" | "if_expression" => {
            let condition =
                node.child_by_field_name("condition").map(|condition| source.of(condition)).unwrap_or_default();
            let consequence = node.child_by_field_name("consequence");
            constant_truth(condition) == Some(true)
                && consequence.is_some_and(|block| {
                    block.named_children(&mut block.walk()).any(|statement| leaves(source, statement))
                })
        }
        _ => false,
    }
}

/// Returns whether a failure in a `try` is caught and dropped.
pub(super) fn swallows(source: &Source<'_>, node: Node<'_>) -> bool {
    node.named_children(&mut node.walk())
        .filter(|child| matches!(child.kind(), "except_clause" | "catch_clause" | "rescue"))
        .any(|clause| {
            let text = source.of(clause);
            let head = text.split(['\n', '{']).next().unwrap_or_default();
            let body = clause
                .child_by_field_name("body")
                .or_else(|| {
                    clause
                        .named_children(&mut clause.walk())
                        .find(|child| matches!(child.kind(), "block" | "statement_block" | "then"))
                })
                .map_or(text, |body| source.of(body));
            let broad = match source.language {
                Some(Language::Python) => {
                    let kind = head.trim_start_matches("except").trim().trim_end_matches(':');
                    kind.is_empty() || kind.contains("Exception") || kind.contains("AssertionError")
                }
                // JavaScript catches everything.
                language if is_script(language) => true,
                _ => {
                    head.contains("Exception")
                        || head.contains("Throwable")
                        || head.contains("AssertionError")
                        || head.contains("Error")
                }
            };
            let passes_on = ["raise", "throw", "fail", "assert", "expect", "reject", "return", "done("]
                .iter()
                .any(|word| body.contains(word));
            broad && !passes_on
        })
}
