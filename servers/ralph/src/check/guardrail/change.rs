//! A whole change, before and after: what only both states together show.
//!
//! Pure: files with their texts in, findings out. Each part of it asks one question: are the [tests] as strong as they
//! were, do [settings] demand as much, does [CI](ci) still run, can the change be [seen](files)?

mod assertion;
mod ci;
mod files;
mod settings;
mod tests_of;
mod values;
mod weakened;

use super::{Mark, Severity, marks};
use crate::baseline::{self, FilePair};
use crate::check::Finding;
use crate::secrets;

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Text.
    Text(String),
    /// Something else, with its size.
    Binary(usize),
    /// More than is looked at, with its size.
    TooLarge(usize),
    /// A link, with where it leads.
    Link(String),
    /// A commit of another repository.
    Submodule(String),
}

/// One file that a change touches.
#[derive(Clone, Debug)]
pub struct FileChange {
    /// Where it is now, or was.
    pub path: String,
    /// Where it was before, when it was renamed.
    pub old_path: Option<String>,
    /// What it held; nothing when it is new.
    pub before: Option<Content>,
    /// What it holds; nothing when it is gone.
    pub after: Option<Content>,
}

/// A change.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// What it touches, by path.
    pub files: Vec<FileChange>,
    /// Every file that git keeps, as the change leaves it.
    pub kept: Vec<String>,
    /// Changed files that git is told not to look at.
    pub hidden: Vec<String>,
}

/// A finding, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The file.
    pub path: String,
    /// What is wrong.
    pub finding: Finding,
}

/// What guardrails find in a change.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// What it adds.
    pub added: Vec<Found>,
    /// What stood there before.
    pub existing: Vec<Found>,
    /// What could not be looked at, and why.
    pub unknown: Vec<(String, String)>,
}

/// A rule that needs both states.
#[derive(Clone, Copy, Debug)]
struct ChangeRule {
    id: &'static str,
    severity: Severity,
    hint: &'static str,
}

const fn rule(id: &'static str, severity: Severity, hint: &'static str) -> ChangeRule {
    ChangeRule { id, severity, hint }
}

impl FileChange {
    /// Returns its text before; empty when it had none.
    #[must_use]
    pub fn before_text(&self) -> &str {
        text(self.before.as_ref())
    }

    /// Returns its text now; empty when it has none.
    #[must_use]
    pub fn after_text(&self) -> &str {
        text(self.after.as_ref())
    }

    /// Returns where it was before.
    #[must_use]
    pub fn before_path(&self) -> &str {
        self.old_path.as_deref().unwrap_or(&self.path)
    }

    /// Returns the last part of its path.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

fn text(content: Option<&Content>) -> &str {
    match content {
        Some(Content::Text(text)) => text,
        _ => "",
    }
}

/// Looks for what `change` adds.
#[must_use]
pub fn check(change: &Change, in_time: &dyn Fn() -> bool) -> Findings {
    let mut findings = Findings::default();
    suppressed(change, in_time, &mut findings);
    weakened::check(change, in_time, &mut findings);
    settings::check(change, &mut findings);
    ci::check(change, &mut findings);
    files::check(change, &mut findings);
    if !in_time() {
        findings.unknown.push((String::new(), "looking took too long".to_owned()));
    }
    let order = |left: &Found, right: &Found| {
        let key = |found: &Found| {
            (
                found.finding.severity.as_deref() != Some("error"),
                found.path.clone(),
                found.finding.line,
                found.finding.rule.clone(),
            )
        };
        key(left).cmp(&key(right))
    };
    for list in [&mut findings.added, &mut findings.existing] {
        list.sort_by(order);
        list.dedup();
    }
    findings
}

/// Returns the finding of a change to the operator's own rules, which only the operator can name.
#[must_use]
pub fn rules_changed(path: &str) -> Option<Found> {
    files::rules_changed(path).added.pop()
}

/// Looks for suppressions, skipped tests and the like, wherever they were before.
fn suppressed(change: &Change, in_time: &dyn Fn() -> bool, findings: &mut Findings) {
    let mut read: Vec<(&FileChange, Vec<Mark>, Vec<Mark>)> = Vec::new();
    for file in &change.files {
        let before = marks(file.before_path(), file.before_text(), in_time);
        match (before, marks(&file.path, file.after_text(), in_time)) {
            (Ok(before), Ok(after)) => read.push((file, before, after)),
            (Err(why), _) | (_, Err(why)) => findings.unknown.push((file.path.clone(), why)),
        }
    }
    let pairs: Vec<FilePair<'_>> = read
        .iter()
        .map(|(file, before, after)| FilePair {
            before_text: file.before_text(),
            after_text: file.after_text(),
            before: before.iter().map(Mark::trace).collect(),
            after: after.iter().map(Mark::trace).collect(),
        })
        .collect();
    for ((file, _, after), known) in read.iter().zip(baseline::existed(&pairs)) {
        for (mark, known) in after.iter().zip(known) {
            let found = Found { path: file.path.clone(), finding: mark.finding(file.after_text(), true) };
            if known { findings.existing.push(found) } else { findings.added.push(found) }
        }
    }
}

impl Findings {
    /// Adds what breaks `rule` in the line `line` of `text`; 0 means the whole file.
    fn add(&mut self, rule: &ChangeRule, path: &str, text: &str, line: usize, message: impl AsRef<str>) {
        let shown = if line == 0 { "" } else { text.lines().nth(line - 1).unwrap_or_default() };
        let excerpt = secrets::mask(&shown[..shown.floor_char_boundary(160)]);
        let indent = shown.chars().take_while(|c| c.is_whitespace()).count();
        self.added.push(Found {
            path: path.to_owned(),
            finding: Finding {
                rule: format!("guardrail.{}", rule.id),
                message: secrets::mask(message.as_ref()),
                line,
                column: if line == 0 { 0 } else { indent + 1 },
                excerpt,
                hint: rule.hint.to_owned(),
                severity: Some(rule.severity.name().to_owned()),
                cwe: None,
                fingerprint: None,
                path: None,
            },
        });
    }
}

#[cfg(test)]
mod tests;
