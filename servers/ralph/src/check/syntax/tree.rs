//! Every other language, and what is nested too deep for an exact parser, by tree-sitter.

use tree_sitter::{Node, Tree};

use super::{CORRECT_IT, Fault, Parsed};
use crate::check::FINDINGS_MAX;
use crate::check::trees::Trees;
use crate::language::Language;

/// Bytes of what cannot be parsed that are looked at for the message.
const UNEXPECTED_BYTES: usize = 120;

/// Children of a node that are looked at for a bracket that is not closed.
const CHILDREN_MAX: usize = 10_000;

/// Faults counted in one file; the first twenty are shown.
const FAULTS_MAX: usize = 10_000;

pub(super) fn parse(language: Language, trees: &Trees<'_>, text: &str, in_time: &dyn Fn() -> bool) -> Parsed {
    match trees.grammar(language, in_time) {
        Ok(tree) if !tree.root_node().has_error() => Parsed::Faults(Vec::new()),
        Ok(tree) => {
            let mut faults = faults(&tree, text, in_time);
            // An error that no node stands for, or none that was found in time.
            if faults.is_empty() {
                faults.push(describe(tree.root_node(), text));
            }
            Parsed::Faults(faults)
        }
        Err(reason) => Parsed::Unknown(reason),
    }
}

/// Returns the grammar of `language`; nothing where none is built in.
pub(crate) fn grammar(language: Language) -> Option<tree_sitter::Language> {
    let grammar = match language {
        Language::Python => tree_sitter_python::LANGUAGE,
        Language::JavaScript => tree_sitter_javascript::LANGUAGE,
        Language::TypeScript => tree_sitter_typescript::LANGUAGE_TYPESCRIPT,
        Language::Tsx => tree_sitter_typescript::LANGUAGE_TSX,
        Language::Rust => tree_sitter_rust::LANGUAGE,
        Language::Go => tree_sitter_go::LANGUAGE,
        Language::Java => tree_sitter_java::LANGUAGE,
        Language::Bash => tree_sitter_bash::LANGUAGE,
        Language::C => tree_sitter_c::LANGUAGE,
        Language::Cpp => tree_sitter_cpp::LANGUAGE,
        Language::CSharp => tree_sitter_c_sharp::LANGUAGE,
        Language::Ruby => tree_sitter_ruby::LANGUAGE,
        Language::Php => tree_sitter_php::LANGUAGE_PHP,
        Language::Kotlin => tree_sitter_kotlin_ng::LANGUAGE,
        Language::Swift => tree_sitter_swift::LANGUAGE,
        Language::Html => tree_sitter_html::LANGUAGE,
        Language::Css => tree_sitter_css::LANGUAGE,
        Language::Json | Language::Yaml | Language::Toml | Language::Sql => return None,
    };
    Some(grammar.into())
}

/// Collects what is wrong in `tree`, innermost first where errors lie within each other.
fn faults(tree: &Tree, text: &str, in_time: &dyn Fn() -> bool) -> Vec<Fault> {
    let mut cursor = tree.walk();
    let mut faults = Vec::new();
    while in_time() && faults.len() < FAULTS_MAX {
        let node = cursor.node();
        if is_fault(node) {
            // Only those that are shown are put into words: a file of one long line may have thousands.
            faults.push(if faults.len() < FINDINGS_MAX {
                describe(node, text)
            } else {
                Fault { rule: "syntax.unexpected", message: String::new(), hint: CORRECT_IT, at: node.start_byte() }
            });
        }
        if node.has_error() && cursor.goto_first_child() {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return faults;
            }
        }
    }
    faults
}

/// Returns whether `node` itself is wrong, not something in it, which says more precisely where it begins.
fn is_fault(node: Node<'_>) -> bool {
    node.is_missing() || node.is_error() && !node.children(&mut node.walk()).any(|child| child.has_error())
}

/// Says what is wrong with `node`.
fn describe(node: Node<'_>, text: &str) -> Fault {
    let at = node.start_byte();
    if node.is_missing() {
        return Fault { rule: "syntax.missing", message: format!("{} is missing", kind(node)), hint: "add it", at };
    }
    if let Some(open) = unclosed(node) {
        let message = format!("{} is not closed", kind(open));
        return Fault { rule: "syntax.unclosed", message, hint: "close it", at: open.start_byte() };
    }
    let range = node.byte_range();
    let shown = text.get(range.start..text.floor_char_boundary(range.end.min(range.start + UNEXPECTED_BYTES)));
    let unexpected: Vec<&str> = shown.unwrap_or_default().split_whitespace().take(6).collect();
    let message = if unexpected.is_empty() {
        "the end of the file is unexpected here".to_owned()
    } else {
        format!("cannot be parsed: {}", crate::roots::quoted(&unexpected.join(" ")))
    };
    Fault { rule: "syntax.unexpected", message, hint: CORRECT_IT, at }
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
