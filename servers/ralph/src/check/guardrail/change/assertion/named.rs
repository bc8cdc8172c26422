//! What a call demands whose name says that it asserts.

use tree_sitter::Node;

use super::{EQUAL, NOTHING, PART, Reader, TRUTH, constant_truth};
use crate::language::Language;

impl Reader<'_, '_> {
    /// Reads a call whose name says that it asserts.
    pub(super) fn call(&self, node: Node<'_>) -> Option<(String, u8, bool)> {
        let function = match node.kind() {
            "call" | "call_expression" => node
                .child_by_field_name("function")
                .or_else(|| node.child_by_field_name("method"))
                .or_else(|| node.named_child(0)),
            "method_invocation" | "member_call_expression" | "scoped_call_expression" | "function_call_expression" => {
                node.child_by_field_name("name").or_else(|| node.child_by_field_name("function"))
            }
            "invocation_expression" => node.child_by_field_name("function"),
            _ => None,
        }?;
        let name = self.source.of(function).rsplit(['.', ':', '>']).next().unwrap_or_default();
        // RSpec: `expect(x).to eq(1)`.
        let whole = self.source.of(node);
        if matches!(name, "to" | "not_to" | "to_not") && whole.starts_with("expect") {
            let subject =
                whole.split_once('(').map(|(_, rest)| rest.split(").").next().unwrap_or(rest)).unwrap_or_default();
            let matcher = whole.rsplit(".to ").next().unwrap_or_default();
            let strength = if name != "to" || matcher.starts_with("include") || matcher.starts_with("match") {
                PART
            } else if matcher.starts_with("be_truthy")
                || matcher.starts_with("be_present")
                || matcher.starts_with("be_a")
                || matcher.starts_with("be(")
            {
                TRUTH
            } else {
                EQUAL
            };
            return Some((subject.to_owned(), strength, false));
        }
        self.named(name, node, 0)
    }

    /// Reads a call of the assertion `name`; the first `skip` arguments are no values.
    pub(super) fn named(&self, name: &str, node: Node<'_>, skip: usize) -> Option<(String, u8, bool)> {
        let lower = name.to_ascii_lowercase().replace('_', "");
        let is_plain =
            ["assert", "expect", "verify", "check", "ensure", "fail", "require", "must", "should", "validate"]
                .iter()
                .any(|word| lower.starts_with(word));
        let in_library = skip > 0 || self.source.of(node).to_ascii_lowercase().contains("assert");
        if !is_plain && !in_library {
            return None;
        }
        let arguments = node
            .child_by_field_name("arguments")
            .or_else(|| node.named_children(&mut node.walk()).find(|child| child.kind().contains("argument")));
        let values: Vec<&str> = arguments
            .map(|arguments| {
                arguments.named_children(&mut arguments.walk()).skip(skip).map(|value| self.source.of(value)).collect()
            })
            .unwrap_or_default();
        let (first, second) = (values.first().copied().unwrap_or_default(), values.get(1).copied().unwrap_or_default());
        let bare = lower.trim_start_matches("assert").trim_start_matches("that");
        let negated = bare.starts_with("not")
            && !bare.starts_with("notnull")
            && !bare.starts_with("notnil")
            && !bare.starts_with("notempty");
        let strength = if negated
            || [
                "in",
                "contains",
                "match",
                "regex",
                "greater",
                "less",
                "subset",
                "count",
                "len",
                "startswith",
                "stringcontains",
            ]
            .iter()
            .any(|word| bare.starts_with(word))
                && !bare.starts_with("instance")
                && !bare.starts_with("indelta")
        {
            PART
        } else if [
            "true",
            "false",
            "isnotnone",
            "isnone",
            "notnull",
            "notnil",
            "nil",
            "null",
            "isinstance",
            "instanceof",
            "ok",
            "exists",
            "notempty",
            "empty",
        ]
        .iter()
        .any(|word| bare.starts_with(word))
            || bare.is_empty() && values.len() <= 2 && lower == "assert"
        {
            TRUTH
        } else if bare.starts_with("raises") || bare.starts_with("throws") {
            let broad = matches!(
                first.trim_end_matches(".class").trim_end_matches("::class").rsplit('.').next(),
                Some("Exception" | "BaseException" | "Throwable" | "RuntimeException")
            );
            return Some(("raises".to_owned(), if broad { TRUTH } else { EQUAL - 1 }, false));
        } else {
            EQUAL
        };
        let equal = strength == EQUAL && (bare.contains("eq") || bare.contains("same") || matches!(bare, "is"));
        let same = equal && !second.is_empty() && self.same(first, second);
        let constant = same
            || (bare.starts_with("true") || bare.is_empty() || bare == "ok") && constant_truth(first) == Some(true)
            || bare.starts_with("false") && constant_truth(first) == Some(false);
        // JUnit and testify put what is expected first.
        let expected_first = matches!(
            self.source.language,
            Some(Language::Java | Language::Kotlin | Language::CSharp | Language::Php | Language::Go | Language::Ruby)
        ) && values.len() > 1;
        let subject = if expected_first && strength >= PART { second } else { first };
        // `assertTrue(a == b)` demands what it compares.
        let (subject, strength) = match subject.split_once("==") {
            Some((left, _)) if strength == TRUTH => (left.trim(), EQUAL),
            _ => (subject, strength),
        };
        Some((subject.to_owned(), if constant { NOTHING } else { strength }, constant))
    }
}
