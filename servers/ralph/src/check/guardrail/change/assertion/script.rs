//! What JavaScript's and TypeScript's tests demand: `expect` and its matchers, `assert`, `should`.

use tree_sitter::Node;

use super::{EQUAL, NOTHING, PART, Reader, TRUTH, constant_truth};
use crate::check::guardrail::source::Source;

impl Reader<'_, '_> {
    pub(super) fn script(&self, node: Node<'_>) -> Option<(String, u8, bool)> {
        if node.kind() != "call_expression" {
            return None;
        }
        let function = node.child_by_field_name("function")?;
        let text = self.source.of(function);
        if matches!(text, "expect" | "expect.soft" | "chai.expect") && is_left_alone(self.source, node) {
            let arguments = node.child_by_field_name("arguments");
            let subject = arguments.and_then(|arguments| arguments.named_child(0)).map(|first| self.source.of(first));
            return Some((subject.unwrap_or_default().to_owned(), NOTHING, true));
        }
        let Some(inner) = expected(self.source, node) else {
            let path = self.names.path(self.source, function)?;
            let mut words = path.split('.');
            let (first, last) = (words.next()?, path.rsplit('.').next()?);
            if matches!(first, "assert" | "t" | "chai") || path.contains("assert") {
                return self.named(last, node, 0);
            }
            if text.contains(".should.") {
                return Some((text.split(".should.").next()?.to_owned(), EQUAL, false));
            }
            return self.call(node);
        };
        let subject = inner
            .child_by_field_name("arguments")
            .and_then(|arguments| arguments.named_child(0))
            .map(|first| self.source.of(first))
            .unwrap_or_default();
        let matcher = text.rsplit('.').next().unwrap_or_default();
        let negated = text.contains(".not.");
        let arguments = node.child_by_field_name("arguments");
        let first = arguments
            .and_then(|arguments| arguments.named_child(0))
            .map(|first| self.source.of(first))
            .unwrap_or_default();
        let loose = ["expect.anything", "expect.any(", "objectContaining", "arrayContaining", "stringContaining"]
            .iter()
            .any(|word| first.contains(word));
        let same = !negated
            && matches!(matcher, "toBe" | "toEqual" | "toStrictEqual" | "equal" | "eql" | "equals")
            && self.same(subject, first);
        let truthy = matches!(matcher, "toBeTruthy" | "toBeDefined")
            && (constant_truth(subject) == Some(true) || subject.starts_with(['"', '\'']));
        let strength = match matcher {
            _ if same || truthy => NOTHING,
            _ if negated => {
                if matches!(matcher, "toBeNull" | "toBeUndefined" | "toThrow") {
                    TRUTH
                } else {
                    PART
                }
            }
            "toBe"
            | "toEqual"
            | "toStrictEqual"
            | "equal"
            | "eql"
            | "equals"
            | "toHaveBeenCalledWith"
            | "toHaveBeenLastCalledWith"
            | "toHaveBeenNthCalledWith"
            | "toBeCloseTo"
            | "toMatchSnapshot"
            | "toMatchInlineSnapshot"
            | "toBeNull"
            | "toBeUndefined"
            | "toBeNaN" => {
                if loose {
                    PART
                } else {
                    EQUAL
                }
            }
            "toThrow" | "toThrowError" | "rejects" | "throw" => {
                if first.is_empty() || first == "Error" {
                    PART
                } else {
                    EQUAL
                }
            }
            "toBeTruthy" | "toBeFalsy" | "toBeDefined" | "toBeInstanceOf" | "toHaveBeenCalled" | "ok" | "exist" => {
                TRUTH
            }
            "toContain"
            | "toMatch"
            | "toMatchObject"
            | "toContainEqual"
            | "toHaveProperty"
            | "toHaveLength"
            | "toBeGreaterThan"
            | "toBeLessThan"
            | "toBeGreaterThanOrEqual"
            | "toBeLessThanOrEqual"
            | "include"
            | "contain"
            | "toHaveBeenCalledTimes" => PART,
            _ => EQUAL,
        };
        Some((subject.to_owned(), strength, same || truthy))
    }
}

/// Returns whether nothing is demanded of what the call `node` of `expect` is about: no matcher is called on it.
fn is_left_alone(source: &Source<'_>, node: Node<'_>) -> bool {
    let (mut current, mut last) = (node, "");
    while let Some(outer) = current.parent() {
        match outer.kind() {
            "member_expression"
                if outer.child_by_field_name("object").is_some_and(|object| object.id() == current.id()) =>
            {
                last = outer.child_by_field_name("property").map_or("", |property| source.of(property));
            }
            "call_expression"
                if outer.child_by_field_name("function").is_some_and(|called| called.id() == current.id()) =>
            {
                return false;
            }
            _ => break,
        }
        current = outer;
    }
    // Chai has matchers that are no calls, such as `.to.be.true`.
    let is_matcher = last.strip_prefix("to").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()));
    is_matcher || matches!(last, "" | "not" | "resolves" | "rejects" | "to" | "be" | "have" | "deep")
}

/// Returns the call of `expect` that a chain of matchers begins with.
fn expected<'t>(source: &Source<'_>, node: Node<'t>) -> Option<Node<'t>> {
    let mut current = node.child_by_field_name("function")?;
    for _ in 0..12 {
        match current.kind() {
            "member_expression" => current = current.child_by_field_name("object")?,
            "call_expression" => {
                let function = current.child_by_field_name("function")?;
                if matches!(source.of(function), "expect" | "expect.soft" | "chai.expect" | "expectTypeOf") {
                    return Some(current);
                }
                current = function;
            }
            _ => return None,
        }
    }
    None
}
