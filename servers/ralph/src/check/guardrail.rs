//! `guardrail`: what makes a file look better than it is: suppressions, tests left out, hooks gone around.
//!
//! [`marks`] finds them in one text, by the comments, attributes and calls of its language, never by letters within a
//! string. Whether one is new only a state from before can tell: [`compare`] takes one, and without it nothing blocks.
//! What needs both states of many files is in [`change`].

mod attributes;
mod bypass;
pub mod change;
mod conflicts;
mod directives;
mod names;
mod skips;
mod source;

use std::ops::Range;
use std::sync::LazyLock;
use std::time::Instant;

use aho_corasick::AhoCorasick;

use super::syntax::Limits;
use super::trees::Trees;
use super::{Check, CheckResult, FINDINGS_MAX, Finding, Verdict};
use crate::baseline::{self, FilePair, Trace};
use crate::secrets;
use source::Source;

/// What one run is charged as.
pub const SKU: &str = "ralph.check.guardrail";

/// Raised whenever the same content may get another result than before.
pub const RULES_VERSION: u32 = 1;

/// Marks of one file that are looked at; a file with more is generated.
const MARKS_MAX: usize = 5_000;

/// Bytes of a line that are shown around a finding.
const EXCERPT_BYTES: usize = 160;

/// What a guardrail is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A tool is told to look away.
    Suppression,
    /// Code is left out of the coverage.
    CoverageExcluded,
    /// A test is not run, or may fail.
    TestSkipped,
    /// A test is not run under a condition.
    TestSkippedSometimes,
    /// All other tests are not run.
    TestFocused,
    /// A test ends the whole run as if it had passed.
    TestRunEnded,
    /// Code is compiled under no condition.
    CodeSwitchedOff,
    /// Hooks are gone around.
    HooksBypassed,
    /// A merge was not finished.
    ConflictMarker,
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Blocks.
    Error,
    /// Fails.
    Warning,
}

/// One place where a rule is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The rule.
    pub rule: Rule,
    /// Where.
    pub range: Range<usize>,
    /// The line of its beginning, counted from 1.
    pub line: usize,
    /// What it is called.
    pub subject: String,
    /// What it is limited to.
    pub codes: Vec<String>,
    /// The code that it is about; empty when that is the whole file.
    pub context: String,
}

impl Rule {
    /// Returns the id as in findings.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Suppression => "guardrail.suppression",
            Self::CoverageExcluded => "guardrail.coverage_excluded",
            Self::TestSkipped => "guardrail.test_skipped",
            Self::TestSkippedSometimes => "guardrail.test_skipped_conditionally",
            Self::TestFocused => "guardrail.test_focused",
            Self::TestRunEnded => "guardrail.test_run_ended",
            Self::CodeSwitchedOff => "guardrail.code_switched_off",
            Self::HooksBypassed => "guardrail.hooks_bypassed",
            Self::ConflictMarker => "guardrail.conflict_marker",
        }
    }

    /// Returns how much it weighs where it is new.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::TestSkippedSometimes | Self::ConflictMarker => Severity::Warning,
            _ => Severity::Error,
        }
    }

    fn message(self, subject: &str) -> String {
        match self {
            Self::Suppression => format!("`{subject}` tells a checker to look away"),
            Self::CoverageExcluded => format!("`{subject}` leaves code out of the coverage"),
            Self::TestSkipped => format!("`{subject}` leaves a test out, or lets it fail"),
            Self::TestSkippedSometimes => format!("`{subject}` leaves a test out under a condition"),
            Self::TestFocused => format!("`{subject}` leaves all other tests out"),
            Self::TestRunEnded => format!("`{subject}` ends the run as if all tests had passed"),
            Self::CodeSwitchedOff => format!("`{subject}` compiles this under no condition"),
            Self::HooksBypassed => format!("`{subject}` goes around the hooks of the repository"),
            Self::ConflictMarker => "a mark of a merge that was not finished".to_owned(),
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::Suppression => "correct what the checker reports, and remove this",
            Self::CoverageExcluded => "test it, and remove this",
            Self::TestSkipped | Self::TestSkippedSometimes | Self::CodeSwitchedOff => {
                "make the test pass, and remove this"
            }
            Self::TestFocused | Self::TestRunEnded => "remove this",
            Self::HooksBypassed => "let the hooks run, and correct what they report",
            Self::ConflictMarker => "resolve the conflict",
        }
    }
}

impl Severity {
    /// Returns the name as in findings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl Mark {
    fn new(source: &Source<'_>, rule: Rule, range: Range<usize>, subject: &str) -> Self {
        let line = source.line(range.start);
        let context = source.context(range.clone());
        Self { rule, range, line, subject: subject.to_owned(), codes: Vec::new(), context }
    }

    fn limited_to(mut self, codes: Vec<String>) -> Self {
        self.codes = codes;
        self
    }

    /// Returns what it is recognised by in another state.
    #[must_use]
    pub fn trace(&self) -> Trace {
        Trace {
            rule: self.rule.id().to_owned(),
            subject: self.subject.clone(),
            codes: self.codes.clone(),
            context: self.context.clone(),
            line: self.line,
        }
    }

    /// Returns it as a finding; `proven` says that it is known to be new.
    #[must_use]
    pub fn finding(&self, text: &str, proven: bool) -> Finding {
        let severity = if proven { self.rule.severity() } else { Severity::Warning };
        let (column, excerpt) = excerpt(text, self.range.start);
        Finding {
            rule: self.rule.id().to_owned(),
            message: self.rule.message(&self.subject),
            line: self.line,
            column,
            excerpt,
            hint: self.rule.hint().to_owned(),
            severity: Some(severity.name().to_owned()),
            cwe: None,
            fingerprint: None,
            path: None,
        }
    }
}

/// Returns what the file `path` with the content `text` has of what guardrails are about, in order.
///
/// # Errors
///
/// Why it could not be looked at.
pub fn marks(path: &str, text: &str, in_time: &dyn Fn() -> bool) -> Result<Vec<Mark>, String> {
    marks_of(path, &Trees::new(text.as_bytes()), in_time)
}

/// As [`marks`], of a text whose trees other checks may have made.
fn marks_of(path: &str, trees: &Trees<'_>, in_time: &dyn Fn() -> bool) -> Result<Vec<Mark>, String> {
    let text = trees.text()?;
    let hints = Hints::in_text(text);
    if !hints.any() {
        return Ok(Vec::new());
    }
    let out_of_time = || "looking took too long".to_owned();
    let source = Source::of_trees(path, trees, in_time).ok_or_else(out_of_time)?;
    let mut marks = Vec::new();
    let comments = if hints.has(Group::Comments) { source.comments() } else { Vec::new() };
    for comment in comments {
        let shown = text.get(comment.range.clone()).unwrap_or_default();
        for found in directives::find(shown, comment.own_line) {
            let start = comment.range.start + found.offset;
            let mut mark = Mark::new(&source, found.rule, comment.range.clone(), found.word).limited_to(found.codes);
            mark.line = source.line(start);
            mark.range.start = start;
            if found.whole_file {
                mark.context.clear();
            }
            marks.push(mark);
        }
    }
    if hints.has(Group::Code) {
        attributes::find(&source, &mut marks);
        skips::find(&source, &mut marks);
        bypass::find(&source, &mut marks);
    }
    if hints.has(Group::Conflicts) {
        conflicts::find(&source, &mut marks);
    }
    if !in_time() {
        return Err(out_of_time());
    }
    if marks.len() > MARKS_MAX {
        return Err(format!("more than {MARKS_MAX} suppressions in one file"));
    }
    marks.sort_by(|left, right| {
        (left.range.start, left.rule, &left.codes).cmp(&(right.range.start, right.rule, &right.codes))
    });
    marks.dedup_by(|left, right| {
        left.rule == right.rule && left.range.start == right.range.start && left.codes == right.codes
    });
    Ok(marks)
}

/// Looks for what must not be added in what `trees` is about.
///
/// With `base`, the file's content before, what stood there counts as existing; without one, nothing is known to be
/// new: then findings fail and do not block.
#[must_use]
pub fn check(
    path: &str,
    trees: &Trees<'_>,
    base: Option<&[u8]>,
    limits: Limits,
    stop: &dyn Fn() -> bool,
) -> CheckResult {
    let started = Instant::now();
    let in_time = || started.elapsed() <= limits.duration_max && !stop();
    let text = match trees.text() {
        Ok(text) => text,
        Err(reason) => return CheckResult::inconclusive(Check::Guardrail, reason),
    };
    let now = match marks_of(path, trees, &in_time) {
        Ok(marks) => marks,
        Err(reason) => return CheckResult::inconclusive(Check::Guardrail, reason),
    };
    let before_text = base.map(String::from_utf8_lossy);
    let before = match before_text.as_deref().filter(|_| !now.is_empty()).map(|text| marks(path, text, &in_time)) {
        Some(Err(reason)) => return CheckResult::inconclusive(Check::Guardrail, reason),
        Some(Ok(marks)) => marks,
        None => Vec::new(),
    };
    compare(before_text.as_deref(), &before, text, &now)
}

/// Puts the marks of a file before and now together; without a text from before, nothing is known to be new.
#[must_use]
pub fn compare(before_text: Option<&str>, before: &[Mark], text: &str, now: &[Mark]) -> CheckResult {
    let pair = FilePair {
        before_text: before_text.unwrap_or_default(),
        after_text: text,
        before: before.iter().map(Mark::trace).collect(),
        after: now.iter().map(Mark::trace).collect(),
    };
    let known = baseline::existed(&[pair]).pop().unwrap_or_default();
    let (mut added, mut existing) = (Vec::new(), 0);
    for (mark, known) in now.iter().zip(known) {
        if known {
            existing += 1;
        } else {
            added.push(mark.finding(text, before_text.is_some()));
        }
    }
    result(added, existing)
}

/// Puts findings into the result of a check: those that are new decide.
#[must_use]
pub fn result(added: Vec<Finding>, existing: usize) -> CheckResult {
    let verdict = if added.iter().any(|finding| finding.severity.as_deref() == Some("error")) {
        Verdict::Blocked
    } else if added.is_empty() {
        Verdict::Pass
    } else {
        Verdict::Fail
    };
    let findings_omitted = added.len().saturating_sub(FINDINGS_MAX);
    let mut findings = added;
    if findings_omitted > 0 {
        findings.sort_by_key(|finding| finding.severity.as_deref() != Some("error"));
    }
    findings.truncate(FINDINGS_MAX);
    CheckResult { check: Check::Guardrail, verdict, findings, findings_omitted, existing, reason: None }
}

/// What is looked for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Comments,
    Code,
    Conflicts,
}

/// The groups of which a text has some word without which none of its rules can find anything.
#[derive(Clone, Copy, Debug, Default)]
struct Hints([bool; 3]);

impl Hints {
    fn in_text(text: &str) -> Self {
        static WORDS: LazyLock<Option<(AhoCorasick, Vec<Group>)>> = LazyLock::new(|| {
            let fixed: [(Group, &[&str]); 4] = [
                (Group::Code, attributes::HINTS),
                (Group::Code, skips::HINTS),
                (Group::Code, bypass::HINTS),
                (Group::Conflicts, &["<<<<<<<", ">>>>>>>", "|||||||"]),
            ];
            let fixed = fixed.iter().flat_map(|(group, words)| words.iter().map(|word| (*group, *word)));
            let all: Vec<(Group, &str)> =
                directives::hints().map(|word| (Group::Comments, word)).chain(fixed).collect();
            let words = all.iter().map(|(_, word)| word);
            let automaton = AhoCorasick::builder().ascii_case_insensitive(true).build(words).ok()?;
            Some((automaton, all.iter().map(|(group, _)| *group).collect()))
        });
        let Some((automaton, groups)) = &*WORDS else { return Self([true; 3]) };
        let mut hints = Self::default();
        for found in automaton.find_overlapping_iter(text) {
            hints.0[groups[found.pattern().as_usize()] as usize] = true;
            if hints.0.iter().all(|has| *has) {
                break;
            }
        }
        hints
    }

    fn any(self) -> bool {
        self.0.contains(&true)
    }

    fn has(self, group: Group) -> bool {
        self.0[group as usize]
    }
}

/// Returns the column, counted from 1, and the line around `at`, without secrets.
fn excerpt(text: &str, at: usize) -> (usize, String) {
    let at = text.floor_char_boundary(at);
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    let column = text[start..at].chars().count() + 1;
    // A line may be megabytes long.
    let from = text.ceil_char_boundary(start.max(at.saturating_sub(EXCERPT_BYTES / 2)));
    let to = text.floor_char_boundary(end.min(from + EXCERPT_BYTES));
    let [before, after] = [from > start, to < end].map(|cut| if cut { "…" } else { "" });
    let shown = text.get(from..to).unwrap_or_default().trim_end_matches('\r');
    (column, secrets::mask(&format!("{before}{shown}{after}")))
}

/// Returns all that the result of a file depends on of its name; part of the cache key.
#[must_use]
pub fn path_facts(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let extension = name.rsplit_once('.').map_or(name.as_str(), |(_, extension)| extension);
    format!("{} {} {extension}", is_test_path(path), name.ends_with("_test.go"))
}

/// Returns whether the file `path` holds tests, by what test frameworks go by.
#[must_use]
pub fn is_test_path(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let mut parts: Vec<&str> = lower.split('/').collect();
    let name = parts.pop().unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    let original = path.rsplit('/').next().unwrap_or(path);
    parts.iter().any(|part| {
        matches!(
            *part,
            "test"
                | "tests"
                | "testing"
                | "__tests__"
                | "spec"
                | "specs"
                | "e2e"
                | "cypress"
                | "androidtest"
                | "testdata"
        )
    }) || stem.starts_with("test_")
        || stem.ends_with("_test")
        || stem.ends_with("_spec")
        || stem == "conftest"
        || stem == "test"
        || stem == "tests"
        || [".test.", ".spec.", ".test-d.", ".e2e.", ".cy."].iter().any(|infix| name.contains(infix))
        || original.split('.').next().is_some_and(|stem| {
            ["Test", "Tests", "IT", "Spec", "TestCase"].iter().any(|end| stem.ends_with(end) && stem.len() > end.len())
        })
}

#[cfg(test)]
mod tests;
