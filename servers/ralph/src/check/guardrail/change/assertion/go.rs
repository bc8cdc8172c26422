//! What Go's tests demand: a failure under a condition, or a call of a library.

use tree_sitter::Node;

use super::{EQUAL, NOTHING, PART, Reader};

impl Reader<'_, '_> {
    pub(super) fn go(&self, node: Node<'_>) -> Option<(String, u8, bool)> {
        if node.kind() != "call_expression" {
            return None;
        }
        let function =
            node.child_by_field_name("function").filter(|function| function.kind() == "selector_expression")?;
        let operand = self.source.of(function.child_by_field_name("operand")?);
        let field = self.source.of(function.child_by_field_name("field")?);
        if matches!(field, "Error" | "Errorf" | "Fatal" | "Fatalf" | "Fail" | "FailNow")
            && !matches!(operand, "fmt" | "errors" | "log" | "status")
            && operand.len() <= 4
        {
            // What it is about stands in the condition around it.
            let mut above = node.parent();
            while let Some(outer) = above {
                if outer.kind() == "if_statement" {
                    let condition = outer
                        .child_by_field_name("condition")
                        .map(|condition| self.source.of(condition))
                        .unwrap_or_default();
                    let constant = condition.split_once("!=").is_some_and(|(left, right)| self.same(left, right));
                    let strength = if constant {
                        NOTHING
                    } else if condition.contains("!=") && !condition.contains("nil")
                        || condition.contains("DeepEqual")
                        || condition.contains("cmp.")
                    {
                        EQUAL
                    } else {
                        PART
                    };
                    let subject = condition.split("!=").next().unwrap_or(condition);
                    return Some((subject.to_owned(), strength, constant));
                }
                above = outer.parent();
            }
            return Some((field.to_owned(), EQUAL, false));
        }
        if matches!(operand, "assert" | "require" | "is" | "qt" | "c" | "suite" | "s") {
            return self.named(field, node, 1);
        }
        None
    }
}
