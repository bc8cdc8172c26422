//! `syntax`: whether a file can be parsed, by tree-sitter.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tree_sitter::{Node, ParseOptions, ParseState, Parser, Point, Tree};

use super::{Check, CheckResult, FINDINGS_MAX, Finding, Verdict};
use crate::language::Language;

/// What one run is charged as.
pub const SKU: &str = "ralph.check.syntax";

/// Raised whenever the same content may get another result than before.
pub const RULES_VERSION: u32 = 1;

/// Bytes of a line that are shown around a finding.
const EXCERPT_BYTES: usize = 160;

/// Bytes of what cannot be parsed that are looked at for the message.
const UNEXPECTED_BYTES: usize = 120;

/// Children of a node that are looked at for a bracket that is not closed.
const CHILDREN_MAX: usize = 10_000;

/// What one parse may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest content, in bytes.
    pub bytes_max: usize,
    /// Longest parse.
    pub duration_max: Duration,
}

thread_local! {
    // Making a parser costs more than parsing a small file.
    static PARSER: RefCell<Parser> = RefCell::new(Parser::new());
}

/// Parses `content` and reports where it cannot be parsed.
///
/// `stop` is asked every now and then whether the answer is still wanted.
pub fn check(language: Language, content: &[u8], limits: Limits, stop: &dyn Fn() -> bool) -> CheckResult {
    let text = match std::str::from_utf8(content) {
        Ok(text) => text,
        Err(error) => {
            let reason = format!("not UTF-8: byte {} is no character", error.valid_up_to());
            return CheckResult::inconclusive(Check::Syntax, reason);
        }
    };
    // Tree-sitter takes a NUL for the end: whatever stood behind it would pass unseen.
    if let Some(at) = text.find('\0') {
        let message = "a NUL character: compilers stop or fail at it";
        return failed(vec![finding("syntax.nul", message.into(), "remove it", text, point_at(text, at))], 0);
    }
    let started = Instant::now();
    let in_time = || started.elapsed() <= limits.duration_max && !stop();
    let parsed = PARSER.with_borrow_mut(|parser| parse(parser, language, text, &in_time));
    match parsed {
        Ok(tree) if !tree.root_node().has_error() => CheckResult {
            check: Check::Syntax,
            verdict: Verdict::Pass,
            findings: vec![],
            findings_omitted: 0,
            reason: None,
        },
        Ok(tree) => {
            let (mut findings, omitted) = findings(&tree, text, in_time);
            // An error that no node stands for, or none that was found in time.
            if findings.is_empty() {
                findings.push(describe(tree.root_node(), text));
            }
            failed(findings, omitted)
        }
        Err(error) => {
            let reason =
                error.unwrap_or_else(|| format!("parsing took longer than {} ms", limits.duration_max.as_millis()));
            CheckResult::inconclusive(Check::Syntax, reason)
        }
    }
}

/// Names the parser of `language` with its version; part of the cache key.
#[must_use]
pub fn tool(language: Language) -> &'static str {
    match language {
        Language::Python => "tree-sitter 0.27.1 tree-sitter-python 0.25.0",
        Language::JavaScript => "tree-sitter 0.27.1 tree-sitter-javascript 0.25.0",
        Language::TypeScript | Language::Tsx => "tree-sitter 0.27.1 tree-sitter-typescript 0.23.2",
        Language::Rust => "tree-sitter 0.27.1 tree-sitter-rust 0.24.2",
        Language::Go => "tree-sitter 0.27.1 tree-sitter-go 0.25.0",
        Language::Java => "tree-sitter 0.27.1 tree-sitter-java 0.23.5",
        Language::Bash => "tree-sitter 0.27.1 tree-sitter-bash 0.25.1",
    }
}

/// Parses, or says why there is no tree; `Err(None)` when the time was up.
fn parse(
    parser: &mut Parser,
    language: Language,
    text: &str,
    in_time: &dyn Fn() -> bool,
) -> Result<Tree, Option<String>> {
    let grammar = match language {
        Language::Python => tree_sitter_python::LANGUAGE,
        Language::JavaScript => tree_sitter_javascript::LANGUAGE,
        Language::TypeScript => tree_sitter_typescript::LANGUAGE_TYPESCRIPT,
        Language::Tsx => tree_sitter_typescript::LANGUAGE_TSX,
        Language::Rust => tree_sitter_rust::LANGUAGE,
        Language::Go => tree_sitter_go::LANGUAGE,
        Language::Java => tree_sitter_java::LANGUAGE,
        Language::Bash => tree_sitter_bash::LANGUAGE,
    };
    parser.set_language(&grammar.into()).map_err(|error| Some(format!("the grammar does not fit: {error}")))?;
    let mut in_time = |_: &ParseState| if in_time() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
    let bytes = text.as_bytes();
    let mut rest = |offset: usize, _: Point| bytes.get(offset..).unwrap_or_default();
    let options = ParseOptions::new().progress_callback(&mut in_time);
    let tree = parser.parse_with_options(&mut rest, None, Some(options));
    // A parse that was stopped would go on where it was with the next file.
    parser.reset();
    tree.ok_or(None)
}

/// Collects what is wrong in `tree`, innermost first where errors lie within each other.
fn findings(tree: &Tree, text: &str, in_time: impl Fn() -> bool) -> (Vec<Finding>, usize) {
    let mut cursor = tree.walk();
    let mut findings = Vec::new();
    let mut omitted = 0;
    while in_time() {
        let node = cursor.node();
        if is_finding(node) {
            // Only those that are shown are put into words: a file of one long line may have thousands.
            if findings.len() < FINDINGS_MAX { findings.push(describe(node, text)) } else { omitted += 1 }
        }
        if node.has_error() && cursor.goto_first_child() {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return (findings, omitted);
            }
        }
    }
    (findings, omitted)
}

/// Returns whether `node` itself is wrong, not something in it, which says more precisely where it begins.
fn is_finding(node: Node<'_>) -> bool {
    node.is_missing() || node.is_error() && !node.children(&mut node.walk()).any(|child| child.has_error())
}

/// Says what is wrong with `node`.
fn describe(node: Node<'_>, text: &str) -> Finding {
    if node.is_missing() {
        let missing = format!("{} is missing", kind(node));
        return finding("syntax.missing", missing, "add it", text, node.start_position());
    }
    if let Some(open) = unclosed(node) {
        let message = format!("{} is not closed", kind(open));
        return finding("syntax.unclosed", message, "close it", text, open.start_position());
    }
    let range = node.byte_range();
    let shown = text.get(range.start..text.floor_char_boundary(range.end.min(range.start + UNEXPECTED_BYTES)));
    let unexpected: Vec<&str> = shown.unwrap_or_default().split_whitespace().take(6).collect();
    let message = if unexpected.is_empty() {
        "the end of the file is unexpected here".to_owned()
    } else {
        format!("cannot be parsed: {}", crate::roots::quoted(&unexpected.join(" ")))
    };
    let hint = "correct it; the cause may stand shortly before";
    finding("syntax.unexpected", message, hint, text, node.start_position())
}

/// Returns the last bracket among the direct children of `node` that nothing there closes.
fn unclosed<'tree>(node: Node<'tree>) -> Option<Node<'tree>> {
    let mut open: Vec<Node<'tree>> = Vec::new();
    for child in node.children(&mut node.walk()).take(CHILDREN_MAX) {
        let opener = match child.kind() {
            "(" | "[" | "{" | "${" | "$(" => {
                open.push(child);
                continue;
            }
            ")" => ["(", "$("],
            "]" => ["[", "["],
            "}" => ["{", "${"],
            _ => continue,
        };
        if open.last().is_some_and(|last| opener.contains(&last.kind())) {
            open.pop();
        }
    }
    open.pop()
}

fn kind(node: Node<'_>) -> String {
    let kind = node.kind();
    if node.is_named() { kind.replace('_', " ") } else { format!("`{kind}`") }
}

fn finding(rule: &str, message: String, hint: &str, text: &str, at: Point) -> Finding {
    let line = text.split('\n').nth(at.row).unwrap_or_default().trim_end_matches('\r');
    let column = line.floor_char_boundary(at.column);
    // A line may be megabytes long.
    let from = line.floor_char_boundary(column.saturating_sub(EXCERPT_BYTES / 2));
    let to = line.floor_char_boundary(from + EXCERPT_BYTES);
    let [before, after] = [from > 0, to < line.len()].map(|cut| if cut { "…" } else { "" });
    Finding {
        rule: rule.to_owned(),
        message,
        line: at.row + 1,
        column: line[..column].chars().count() + 1,
        excerpt: format!("{before}{}{after}", &line[from..to]),
        hint: hint.to_owned(),
    }
}

fn point_at(text: &str, byte: usize) -> Point {
    let before = text.get(..byte).unwrap_or_default();
    let row = before.matches('\n').count();
    Point { row, column: byte - before.rfind('\n').map_or(0, |newline| newline + 1) }
}

fn failed(findings: Vec<Finding>, findings_omitted: usize) -> CheckResult {
    CheckResult { check: Check::Syntax, verdict: Verdict::Fail, findings, findings_omitted, reason: None }
}

#[cfg(test)]
mod tests;
