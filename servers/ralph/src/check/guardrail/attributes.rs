//! Attributes, annotations, decorators and pragmas that tell a tool to look away.

use super::names::Names;
use super::source::Source;
use super::{Mark, Rule};
use crate::language::Language;

/// Words without which there is none.
pub const HINTS: &[&str] = &[
    "allow",
    "expect(",
    "rustfmt::skip",
    "coverage",
    "tarpaulin",
    "Suppress",
    "pragma",
    "diagnostic",
    "no_type_check",
    "ExcludeFromCodeCoverage",
    "nullable",
    "CodeCoverageIgnore",
    "clippy::",
    "automatically_derived",
];

/// Adds the suppressions of `source` that are no comments.
pub fn find(source: &Source<'_>, marks: &mut Vec<Mark>) {
    match source.language {
        Some(Language::Rust) => rust(source, marks),
        Some(Language::Python) => python(source, marks),
        Some(Language::Java | Language::Kotlin | Language::CSharp | Language::Php) => annotated(source, marks),
        Some(Language::C | Language::Cpp) => preprocessor(source, marks),
        _ => {}
    }
}

fn rust(source: &Source<'_>, marks: &mut Vec<Mark>) {
    source.walk(|node| {
        if !matches!(node.kind(), "attribute_item" | "inner_attribute_item") {
            return true;
        }
        let text: String = source.of(node).chars().filter(|c| !c.is_whitespace()).collect();
        let whole_file = node.kind() == "inner_attribute_item";
        let inner = text.trim_start_matches(['#', '!']).trim_start_matches('[');
        let mut add = |rule, subject: &str, codes: Vec<String>| {
            let mut mark = Mark::new(source, rule, node.byte_range(), subject).limited_to(codes);
            if whole_file {
                mark.context.clear();
            }
            marks.push(mark);
        };
        for word in ["allow", "expect"] {
            // `#[allow(…)]`, and within `cfg_attr(…, allow(…))`.
            for (at, _) in inner.match_indices(&format!("{word}(")) {
                let is_apart = at == 0 || inner[..at].ends_with([',', '(']);
                let list = inner[at + word.len() + 1..].split(')').next().unwrap_or_default();
                if !is_apart || list.is_empty() {
                    continue;
                }
                let mut codes: Vec<String> = list
                    .split(',')
                    .filter(|code| !code.is_empty() && !code.starts_with("reason="))
                    .take_while(|code| code.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | ':')))
                    .map(str::to_owned)
                    .collect();
                codes.sort();
                if !codes.is_empty() {
                    add(Rule::Suppression, word, codes);
                }
            }
        }
        if inner.starts_with("rustfmt::skip") || inner.starts_with("rustfmt_skip") || inner.contains(",rustfmt::skip") {
            add(Rule::Suppression, "rustfmt::skip", Vec::new());
        }
        if inner.contains("coverage(off)")
            || inner.contains("tarpaulin_include")
            || inner.contains("not(tarpaulin)")
            || inner.contains("no_coverage")
            || inner.contains("tarpaulin::skip")
        {
            add(Rule::CoverageExcluded, "coverage(off)", Vec::new());
        }
        false
    });
}

fn python(source: &Source<'_>, marks: &mut Vec<Mark>) {
    let names = Names::of(source);
    source.walk(|node| {
        if node.kind() == "decorator" {
            let expression = node.named_child(0).and_then(|child| names.path(source, child));
            if expression.as_deref().is_some_and(|path| {
                matches!(path, "typing.no_type_check" | "typing_extensions.no_type_check" | "no_type_check")
            }) {
                marks.push(Mark::new(source, Rule::Suppression, node.byte_range(), "no_type_check"));
            }
            return false;
        }
        true
    });
}

fn annotated(source: &Source<'_>, marks: &mut Vec<Mark>) {
    source.walk(|node| {
        match node.kind() {
            "marker_annotation" | "annotation" | "attribute" | "file_annotation" => {
                let text: String = source.of(node).chars().filter(|c| !c.is_whitespace()).collect();
                let bare = text.trim_start_matches(['@', '[', '#']).trim_start_matches("file:");
                let name = bare.split(['(', ']']).next().unwrap_or_default();
                let name = name.rsplit(['.', ':', '\\']).next().unwrap_or_default();
                let rule = match name {
                    "SuppressWarnings"
                    | "SuppressFBWarnings"
                    | "Suppress"
                    | "SuppressMessage"
                    | "UnconditionalSuppressMessage"
                    | "SuppressLint" => Rule::Suppression,
                    "ExcludeFromCodeCoverage" | "CodeCoverageIgnore" | "ExcludeFromJacocoGeneratedReport" => {
                        Rule::CoverageExcluded
                    }
                    _ => return false,
                };
                // Codes stand in quotes.
                let mut codes: Vec<String> = bare.split('"').skip(1).step_by(2).map(str::to_owned).collect();
                codes.sort();
                let mut mark = Mark::new(source, rule, node.byte_range(), name).limited_to(codes);
                if node.kind() == "file_annotation" {
                    mark.context.clear();
                }
                marks.push(mark);
                return false;
            }
            "preproc_pragma" | "pragma_directive" | "preproc_nullable" | "nullable_directive" => {
                let text = source.of(node).split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
                let text = text.replace("# ", "#");
                if let Some(codes) = text.strip_prefix("#pragma warning disable") {
                    let codes = codes.split([',', ' ']).filter(|code| !code.is_empty()).map(str::to_owned).collect();
                    marks.push(
                        Mark::new(source, Rule::Suppression, node.byte_range(), "pragma warning disable")
                            .limited_to(codes),
                    );
                } else if text.starts_with("#nullable disable") {
                    marks.push(Mark::new(source, Rule::Suppression, node.byte_range(), "nullable disable"));
                }
                return false;
            }
            _ => {}
        }
        true
    });
}

fn preprocessor(source: &Source<'_>, marks: &mut Vec<Mark>) {
    source.walk(|node| {
        let is_pragma = node.kind().starts_with("preproc_call")
            || node.kind() == "call_expression" && source.of(node).starts_with("_Pragma");
        if !is_pragma {
            return true;
        }
        let text = source
            .of(node)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .replace("# pragma", "#pragma")
            .replace('\\', "");
        let text = text.to_lowercase();
        let ignored = text.contains("diagnostic ignored")
            || text.contains("#pragma warning(disable")
            || text.contains("#pragma warning( disable")
            || text.contains("#pragma warning (disable");
        if ignored {
            let mut codes: Vec<String> =
                text.split('"').filter(|part| part.starts_with("-w")).map(str::to_owned).collect();
            codes.sort();
            marks.push(Mark::new(source, Rule::Suppression, node.byte_range(), "pragma diagnostic").limited_to(codes));
        }
        false
    });
}
