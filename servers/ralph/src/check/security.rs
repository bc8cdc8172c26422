//! `security`: what must not be in code, by its structure; and secrets, in any text.
//!
//! A file is parsed once and [lowered](lower) to a form that is the same for every language; one [walk](engine)
//! over it follows imports, names and texts that are put together, and asks the [rules] at each call and each
//! setting. Comments that other tools take for permission have no effect here.

pub mod dialect;
pub mod engine;
pub mod ir;
pub mod lower;
mod prefilter;
pub mod rules;
mod shell;
mod text;
pub mod user;
mod value;

use std::time::Instant;

use tree_sitter::Tree;

use super::syntax::Limits;
use super::trees::Trees;
use super::{Check, CheckResult, FINDINGS_MAX, Finding, Verdict};
use crate::language::SourceType;
use crate::secrets::{self, Secret};
use dialect::Dialect;
use engine::{Engine, Hit};
use rules::Severity;
use user::UserRules;

/// What one run is charged as.
pub const SKU: &str = "ralph.check.security";

/// Raised whenever the same content may get another result than before.
pub const RULES_VERSION: u32 = 3;

/// Bytes of a line that are shown around a finding.
const EXCERPT_BYTES: usize = 160;

/// The stack of the thread that looks at a file which nests deep.
const DEEP_STACK_BYTES: usize = 256 * 1024 * 1024;

/// Names the grammars with their versions; part of the cache key.
pub const TOOL: &str = "tree-sitter 0.27.1, bash 0.25.1, c 0.24.2, go 0.25.0, java 0.23.5, javascript 0.25.0, oxc_parser 0.139.0, \
    php 0.25.1, python 0.25.0, ruff_python_parser 0.0.4, ruby 0.23.1, rust 0.24.2, typescript 0.23.2";

/// Looks for what must not be in what `trees` is about.
///
/// Findings of severity error block; warnings fail. `stop` is asked every now and then whether the answer is
/// still wanted.
pub fn check(source: Option<SourceType>, trees: &Trees<'_>, limits: Limits, stop: &dyn Fn() -> bool) -> CheckResult {
    let rules = UserRules::default();
    check_up_to(&Looked { rules: &rules, path: "", source, trees }, limits, stop, FINDINGS_MAX)
}

/// What is looked at, and with which rules beside those that are built in.
#[derive(Clone, Copy)]
pub struct Looked<'l> {
    /// The operator's rules.
    pub rules: &'l UserRules,
    /// Which of those are about it.
    pub path: &'l str,
    /// What it is written in, and how it is loaded.
    pub source: Option<SourceType>,
    /// What it holds.
    pub trees: &'l Trees<'l>,
}

/// As [`check`], with the operator's rules and at most `findings_max` findings listed.
pub fn check_up_to(looked: &Looked<'_>, limits: Limits, stop: &dyn Fn() -> bool, findings_max: usize) -> CheckResult {
    let Looked { source, trees, .. } = *looked;
    let language = source.map(|source| source.language);
    let content = trees.content();
    let started = Instant::now();
    let in_time = || started.elapsed() <= limits.duration_max && !stop();
    // What is no text is no code either; secrets are looked for in its bytes all the same.
    let found_secrets = secrets::scan(content);
    let lines = Lines::new(content);
    let mut findings: Vec<(usize, Finding)> =
        found_secrets.iter().map(|secret| (secret.start, of_secret(secret, &lines, &found_secrets))).collect();
    let mut reason = None;
    if let Some(source) = source
        && let Some(dialect) = Dialect::of(source.language)
    {
        match trees.text().and_then(|text| hits(dialect, source, trees, text, &in_time)) {
            Ok(hits) => {
                findings.extend(hits.iter().map(|hit| (hit.start, of_hit(dialect, *hit, &lines, &found_secrets))));
            }
            Err(why) => reason = Some(why),
        }
    }
    if let (Some(language), Ok(text)) = (language, trees.text()) {
        match looked.rules.find(language, looked.path, trees, text, &in_time) {
            Ok(hits) => findings.extend(hits.iter().map(|hit| {
                let (line, column, excerpt) = lines.place(hit.start, &found_secrets);
                (hit.start, hit.finding(line, column, excerpt))
            })),
            Err(why) => reason = Some(why),
        }
    }
    findings.sort_by(|left, right| (left.0, &left.1.rule).cmp(&(right.0, &right.1.rule)));
    // One finding of a rule on a line says enough.
    findings.dedup_by(|left, right| {
        left.1.rule == right.1.rule && left.1.line == right.1.line && left.1.fingerprint == right.1.fingerprint
    });
    let is_note = |(_, finding): &(usize, Finding)| finding.severity.as_deref() == Some("note");
    let blocks = findings.iter().any(|(_, finding)| finding.severity.as_deref() == Some("error"));
    let verdict = match (findings.iter().all(is_note), blocks, &reason) {
        (_, true, _) => Verdict::Blocked,
        (false, false, _) => Verdict::Fail,
        (true, _, Some(_)) => Verdict::Inconclusive,
        (true, _, None) => Verdict::Pass,
    };
    let findings_omitted = findings.len().saturating_sub(findings_max);
    // Those that block come first when not all are shown.
    if findings_omitted > 0 {
        findings.sort_by_key(|(_, finding)| finding.severity.as_deref() != Some("error"));
    }
    let findings = findings.into_iter().take(findings_max).map(|(_, finding)| finding).collect();
    CheckResult { check: Check::Security, verdict, findings, findings_omitted, existing: 0, reason }
}

/// Returns what the rules find in `text`, or why they could not look.
fn hits(
    dialect: Dialect,
    source: SourceType,
    trees: &Trees<'_>,
    text: &str,
    in_time: &dyn Fn() -> bool,
) -> Result<Vec<Hit>, String> {
    let out_of_time = || "looking took too long".to_owned();
    if !prefilter::is_worth_a_look(dialect, text) {
        return Ok(Vec::new());
    }
    // The exact parsers recurse; what nests too deep for them, or has an error, is left to the grammar.
    let exact = match dialect {
        Dialect::Python if !trees.is_deep(source.language) => {
            lower::python::lower(trees.python(), text, lower::DEPTH_USUAL).ok().flatten()
        }
        _ if dialect.is_script() && !trees.is_deep(source.language) => {
            let lowered = lower::script::lower(&trees.script(source), text, lower::DEPTH_USUAL).ok().flatten();
            trees.forget_script();
            lowered
        }
        _ => None,
    };
    if let Some((ir, root)) = exact {
        let (hits, gave_up) = Engine::new(dialect, &ir, text, in_time).run(root);
        return if gave_up && hits.is_empty() { Err(out_of_time()) } else { Ok(hits) };
    }
    let tree = trees.grammar(source.language, in_time).map_err(|_| out_of_time())?;
    if dialect == Dialect::Bash {
        let (hits, gave_up) = shell::check(&tree, text, in_time);
        return if gave_up && hits.is_empty() { Err(out_of_time()) } else { Ok(hits) };
    }
    let (hits, gave_up) = match lower::lower(dialect, &tree, text, lower::DEPTH_USUAL) {
        Ok((ir, root)) => Engine::new(dialect, &ir, text, in_time).run(root),
        // Nested deeper than this thread's stack may hold.
        Err(lower::TooDeep) => deep(dialect, &tree, text)?,
    };
    if gave_up && hits.is_empty() { Err(out_of_time()) } else { Ok(hits) }
}

fn deep(dialect: Dialect, tree: &Tree, text: &str) -> Result<(Vec<Hit>, bool), String> {
    let too_deep = || "nested too deep".to_owned();
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().stack_size(DEEP_STACK_BYTES).spawn_scoped(scope, move || {
            let (ir, root) = lower::lower(dialect, tree, text, lower::DEPTH_MAX).ok()?;
            Some(Engine::new(dialect, &ir, text, &|| true).run(root))
        });
        worker.ok().and_then(|worker| worker.join().ok()).flatten().ok_or_else(too_deep)
    })
}

/// Returns the ids of everything that is found, each with its line; for tests and benchmarks.
#[must_use]
pub fn rule_id(dialect: Dialect, hit: Hit) -> String {
    let language = if dialect.is_script() { "javascript" } else { dialect.name() };
    format!("{language}.{}", hit.category.name())
}

fn of_hit(dialect: Dialect, hit: Hit, lines: &Lines<'_>, secrets: &[Secret]) -> Finding {
    let (line, column, excerpt) = lines.place(hit.start, secrets);
    let severity = match hit.category.severity() {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    Finding {
        rule: rule_id(dialect, hit),
        message: hit.category.message().to_owned(),
        line,
        column,
        excerpt,
        hint: hit.category.hint().to_owned(),
        severity: Some(severity.to_owned()),
        cwe: Some(format!("CWE-{}", hit.category.cwe())),
        fingerprint: None,
        path: None,
    }
}

fn of_secret(secret: &Secret, lines: &Lines<'_>, secrets: &[Secret]) -> Finding {
    let (line, column, excerpt) = lines.place(secret.start, secrets);
    Finding {
        rule: format!("secret.{}", secret.rule),
        message: format!("{}: {}", secret.what, secret.masked),
        line,
        column,
        excerpt,
        hint: "take it from the environment, and revoke this one: it has been written down".to_owned(),
        severity: Some("error".to_owned()),
        cwe: Some("CWE-798".to_owned()),
        fingerprint: Some(secret.fingerprint.clone()),
        path: None,
    }
}

/// Where lines begin.
struct Lines<'c> {
    content: &'c [u8],
}

impl<'c> Lines<'c> {
    fn new(content: &'c [u8]) -> Self {
        Self { content }
    }

    /// Returns line and column of `at`, counted from 1, and the line with every secret in it masked.
    fn place(&self, at: usize, found: &[Secret]) -> (usize, usize, String) {
        let at = at.min(self.content.len());
        let before = &self.content[..at];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let end = self.content[at..]
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(self.content.len(), |newline| at + newline);
        let column = String::from_utf8_lossy(&self.content[start..at]).chars().count() + 1;
        // A line may be megabytes long.
        let from = start.max(at.saturating_sub(EXCERPT_BYTES / 2));
        let to = end.min(from + EXCERPT_BYTES);
        let mut shown = String::new();
        if from > start {
            shown.push('…');
        }
        let mut position = from;
        for secret in found {
            if secret.end <= position || secret.start >= to {
                continue;
            }
            if secret.start > position {
                shown.push_str(&String::from_utf8_lossy(&self.content[position..secret.start]));
            }
            shown.push_str("****");
            position = secret.end.min(to).max(position);
        }
        if position < to {
            shown.push_str(&String::from_utf8_lossy(&self.content[position..to]));
        }
        if to < end {
            shown.push('…');
        }
        // Those beyond the bound on secrets are masked here.
        (line, column, secrets::mask(shown.trim_end_matches('\r')))
    }
}

#[cfg(test)]
mod tests;
