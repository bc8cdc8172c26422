//! `syntax`: whether a file can be parsed; by the exact parser of its language where there is one, else by tree-sitter.

mod data;
mod javascript;
mod nesting;
mod python;
mod rust;
mod sql;
mod tree;

pub(crate) use nesting::is_deep;
pub(crate) use tree::grammar;

use std::time::{Duration, Instant};

use super::trees::Trees;
use super::{Check, CheckResult, FINDINGS_MAX, Finding, Verdict};
use crate::language::{Language, SourceType};

/// What one run is charged as.
pub const SKU: &str = "ralph.check.syntax";

/// Raised whenever the same content may get another result than before.
pub const RULES_VERSION: u32 = 3;

/// Bytes of a line that are shown around a finding.
const EXCERPT_BYTES: usize = 160;

/// What one check may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest content, in bytes.
    pub bytes_max: usize,
    /// Longest parse.
    pub duration_max: Duration,
}

/// What a parser says is wrong, at a byte of the text.
struct Fault {
    rule: &'static str,
    message: String,
    hint: &'static str,
    at: usize,
}

/// What a parser says of a text.
enum Parsed {
    /// These are all its faults; none means that it can be parsed.
    Faults(Vec<Fault>),
    /// It could not tell, and why.
    Unknown(String),
}

/// Parses what `trees` is about and reports where it cannot be parsed.
///
/// `stop` is asked every now and then whether the answer is still wanted.
pub fn check(source: SourceType, trees: &Trees<'_>, limits: Limits, stop: &dyn Fn() -> bool) -> CheckResult {
    check_up_to(source, trees, limits, stop, FINDINGS_MAX)
}

/// As [`check`], with at most `findings_max` findings listed.
pub fn check_up_to(
    source: SourceType,
    trees: &Trees<'_>,
    limits: Limits,
    stop: &dyn Fn() -> bool,
    findings_max: usize,
) -> CheckResult {
    let text = match trees.text() {
        Ok(text) => text,
        Err(reason) => return CheckResult::inconclusive(Check::Syntax, reason),
    };
    // Parsers take a NUL for the end: whatever stood behind it would pass unseen.
    if let Some(at) = text.find('\0') {
        let message = "a NUL character: compilers stop or fail at it".to_owned();
        return failed(text, vec![Fault { rule: "syntax.nul", message, hint: "remove it", at }], findings_max);
    }
    let started = Instant::now();
    let in_time = || started.elapsed() <= limits.duration_max && !stop();
    match parse(source, trees, text, &in_time) {
        Parsed::Faults(faults) if faults.is_empty() => CheckResult {
            check: Check::Syntax,
            verdict: Verdict::Pass,
            findings: vec![],
            findings_omitted: 0,
            existing: 0,
            reason: None,
        },
        Parsed::Faults(faults) => failed(text, faults, findings_max),
        Parsed::Unknown(reason) => CheckResult::inconclusive(Check::Syntax, reason),
    }
}

fn parse(source: SourceType, trees: &Trees<'_>, text: &str, in_time: &dyn Fn() -> bool) -> Parsed {
    // The exact parsers recurse; a text that would take their stack goes to tree-sitter, which does not.
    let deep = || trees.is_deep(source.language);
    match source.language {
        Language::Python if !deep() => python::parse(trees),
        Language::JavaScript | Language::TypeScript | Language::Tsx if !deep() => javascript::parse(source, trees),
        Language::Rust if !deep() => rust::parse(text),
        Language::Json => data::json(text),
        Language::Yaml => data::yaml(text),
        Language::Toml => data::toml(text),
        Language::Sql => sql::parse(text),
        language => tree::parse(language, trees, text, in_time),
    }
}

/// Names the parser of `language` with its version; part of the cache key.
#[must_use]
pub fn tool(language: Language) -> &'static str {
    match language {
        Language::Python => "ruff_python_parser 0.0.4 tree-sitter 0.27.1 tree-sitter-python 0.25.0",
        Language::JavaScript => {
            "oxc_parser 0.139.0 oxc_semantic 0.139.0 tree-sitter 0.27.1 tree-sitter-javascript 0.25.0"
        }
        Language::TypeScript | Language::Tsx => {
            "oxc_parser 0.139.0 oxc_semantic 0.139.0 tree-sitter 0.27.1 tree-sitter-typescript 0.23.2"
        }
        Language::Rust => "syn 3.0.9 tree-sitter 0.27.1 tree-sitter-rust 0.24.2",
        Language::Go => "tree-sitter 0.27.1 tree-sitter-go 0.25.0",
        Language::Java => "tree-sitter 0.27.1 tree-sitter-java 0.23.5",
        Language::Bash => "tree-sitter 0.27.1 tree-sitter-bash 0.25.1",
        Language::C => "tree-sitter 0.27.1 tree-sitter-c 0.24.2",
        Language::Cpp => "tree-sitter 0.27.1 tree-sitter-cpp 0.23.4",
        Language::CSharp => "tree-sitter 0.27.1 tree-sitter-c-sharp 0.23.5",
        Language::Ruby => "tree-sitter 0.27.1 tree-sitter-ruby 0.23.1",
        Language::Php => "tree-sitter 0.27.1 tree-sitter-php 0.25.1",
        Language::Kotlin => "tree-sitter 0.27.1 tree-sitter-kotlin-ng 1.1.0",
        Language::Swift => "tree-sitter 0.27.1 tree-sitter-swift 0.7.4",
        Language::Html => "tree-sitter 0.27.1 tree-sitter-html 0.23.2",
        Language::Css => "tree-sitter 0.27.1 tree-sitter-css 0.25.0",
        Language::Json => "serde_json 1.0.154",
        Language::Yaml => "saphyr-parser 0.3.3",
        Language::Toml => "toml 1.2.1+spec-1.1.0",
        Language::Sql => "sqlparser 0.63.0",
    }
}

fn failed(text: &str, faults: Vec<Fault>, findings_max: usize) -> CheckResult {
    let findings_omitted = faults.len().saturating_sub(findings_max);
    let findings = faults.into_iter().take(findings_max).map(|fault| finding(text, &fault)).collect();
    CheckResult { check: Check::Syntax, verdict: Verdict::Fail, findings, findings_omitted, existing: 0, reason: None }
}

fn finding(text: &str, fault: &Fault) -> Finding {
    let at = text.floor_char_boundary(fault.at);
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    let line = text[start..end].trim_end_matches('\r');
    let column = line.floor_char_boundary(at - start);
    // A line may be megabytes long.
    let from = line.floor_char_boundary(column.saturating_sub(EXCERPT_BYTES / 2));
    let to = line.floor_char_boundary(from + EXCERPT_BYTES);
    let [before, after] = [from > 0, to < line.len()].map(|cut| if cut { "…" } else { "" });
    Finding {
        rule: fault.rule.to_owned(),
        message: crate::secrets::mask(&fault.message),
        line: text[..at].matches('\n').count() + 1,
        column: line[..column].chars().count() + 1,
        // What cannot be parsed may stand beside a secret.
        excerpt: crate::secrets::mask(&format!("{before}{}{after}", &line[from..to])),
        hint: fault.hint.to_owned(),
        severity: None,
        cwe: None,
        fingerprint: None,
        path: None,
    }
}

/// Returns where a line (from 1) and a column (from 0, in characters) are in `text`, in bytes.
fn byte_of(text: &str, line: usize, column: usize) -> usize {
    let start = if line <= 1 {
        0
    } else {
        text.match_indices('\n').nth(line - 2).map_or(text.len(), |(newline, _)| newline + 1)
    };
    text[start..].char_indices().nth(column).map_or(text.len(), |(offset, _)| start + offset)
}

const CORRECT_IT: &str = "correct it; the cause may stand shortly before";

#[cfg(test)]
mod tests;
