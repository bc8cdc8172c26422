//! Commands for a whole change: what they say of it, apart from what they said of the base already.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::refusal::Refusal;

use super::copy::Overlay;
use super::group::{Broken, Folder, Group, once};
use super::{Command, Scope, verdict};
use crate::Ralph;
use crate::baseline::{self, FilePair, Trace};
use crate::changes::Collected;
use crate::check::guardrail::change::{Change, Content, FileChange};
use crate::check::{Check, CheckResult, Finding, Verdict};
use crate::client::Client;
use crate::language::SourceType;
use crate::roots::Place;

/// A change, and the folders that commands see of it.
pub struct Question {
    /// The root of the working tree.
    pub worktree: Place,
    /// What changed.
    pub collected: Arc<Collected>,
    /// The copies in which commands run.
    pub copies: Copies,
    /// Whether there is a base at all.
    pub has_base: bool,
}

/// How the copies in which commands run differ from the working tree.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    /// What lies there.
    pub working: Arc<Overlay>,
    /// What a commit would take, where that is something else.
    pub staged: Option<Arc<Overlay>>,
    /// What the base has.
    pub base: Arc<Overlay>,
}

/// What one command says of a change.
pub struct Outcome {
    /// The check that it is a part of.
    pub check: Check,
    /// How it ended; nothing that stood in the base counts.
    pub verdict: Verdict,
    /// What the change adds.
    pub added: Vec<Finding>,
    /// What the base has as well.
    pub existing: Vec<Finding>,
    /// Why it is inconclusive.
    pub reason: Option<String>,
    /// Files that it was about.
    pub files: usize,
    /// Whether all of it was known.
    pub is_cached: bool,
}

/// Runs every command of the checks `wanted` that applies to the change.
///
/// # Errors
///
/// `sandbox_unavailable`, `cancelled` or `internal_error`; a command that fails is inconclusive.
pub async fn compare(
    server: &Arc<Ralph>,
    client: &Client<'_>,
    question: Arc<Question>,
    wanted: &[Check],
) -> Result<Vec<Outcome>, Refusal> {
    let commands: Vec<Arc<Command>> = server.commands.of(wanted).cloned().collect();
    if commands.is_empty() {
        return Ok(Vec::new());
    }
    server.cache.open().await;
    let mut outcomes = Vec::new();
    for (at, command) in commands.iter().enumerate() {
        client.progress(at, commands.len(), || format!("running {}", command.name));
        let states =
            [Some((&question.copies.working, false)), question.copies.staged.as_ref().map(|copy| (copy, true))];
        for (copy, is_staged) in states.into_iter().flatten() {
            let (server, question, command) = (Arc::clone(server), Arc::clone(&question), Arc::clone(command));
            let (copy, cancelled) = (Arc::clone(copy), client.cancelled().clone());
            let outcome = client.blocking(move || {
                let stop = || cancelled.is_cancelled();
                let change =
                    if is_staged { question.collected.staged.as_ref() } else { Some(&question.collected.working) };
                let Some(change) = change.filter(|change| applies(&command, change)) else { return Ok(None) };
                one(&server, &question, change, &copy, &command, &stop).map(Some)
            });
            outcomes.extend(outcome.await?);
        }
    }
    Ok(outcomes)
}

/// Returns whether `command` has anything to say of a project of which `change` changes something.
fn applies(command: &Command, change: &Change) -> bool {
    let is_known = |path: &str, text: &str| {
        SourceType::of(Path::new(path), text.as_bytes())
            .is_some_and(|source| command.languages.contains(&source.language))
    };
    let touches =
        |file: &FileChange| is_known(&file.path, file.after_text()) || is_known(file.before_path(), file.before_text());
    // A test may read any file: every change concerns it.
    !change.files.is_empty()
        && (change.files.iter().any(touches)
            || command.scope == Scope::Project && change.kept.iter().any(|path| is_known(path, "")))
}

fn one(
    server: &Ralph,
    question: &Question,
    change: &Change,
    copy: &Arc<Overlay>,
    command: &Arc<Command>,
    stop: &dyn Fn() -> bool,
) -> Result<Outcome, Refusal> {
    let mut outcome = Outcome {
        check: command.check,
        verdict: Verdict::Pass,
        added: Vec::new(),
        existing: Vec::new(),
        reason: None,
        files: change.files.len(),
        is_cached: true,
    };
    let state = |copy: &Arc<Overlay>, files: BTreeMap<PathBuf, Option<ContentHash>>| Group {
        roots: Arc::clone(&server.roots),
        folder: Folder::At(question.worktree.clone()),
        command: Arc::clone(command),
        files,
        overlay: Arc::clone(copy),
    };
    let after = match files(command, change, |file| (&file.path, file.after.as_ref())) {
        Ok(files) if files.is_empty() && command.scope == Scope::File => {
            return Ok(Outcome { verdict: Verdict::Skipped, ..outcome });
        }
        Ok(files) => files,
        Err(path) => {
            let reason = Some(format!("{}: {path} is larger than is looked at", command.name));
            return Ok(Outcome { verdict: Verdict::Inconclusive, reason, is_cached: false, ..outcome });
        }
    };
    let (now, is_cached) = result(server, &state(copy, after), stop)?;
    outcome.is_cached &= is_cached;
    if now.findings.is_empty() || now.verdict == Verdict::Inconclusive {
        return Ok(Outcome { verdict: now.verdict, reason: now.reason, ..outcome });
    }
    let before = files(command, change, |file| (file.before_path(), file.before.as_ref())).unwrap_or_default();
    let mut old = Vec::new();
    if question.has_base && !(before.is_empty() && command.scope == Scope::File) {
        let (base, is_cached) = result(server, &state(&question.copies.base, before), stop)?;
        outcome.is_cached &= is_cached;
        // What cannot be said of the base excuses nothing.
        old = base.findings;
    }
    (outcome.added, outcome.existing) = told_apart(change, command.check, old, now.findings);
    let fails = |finding: &Finding| finding.severity.as_deref() != Some("note");
    outcome.verdict = if outcome.added.iter().any(fails) { Verdict::Fail } else { Verdict::Pass };
    Ok(outcome)
}

/// Returns the files that `command` is given in the state that `of` takes from a change; or one that is too large.
fn files<'c>(
    command: &Command,
    change: &'c Change,
    of: impl Fn(&'c FileChange) -> (&'c str, Option<&'c Content>),
) -> Result<BTreeMap<PathBuf, Option<ContentHash>>, &'c str> {
    let mut files = BTreeMap::new();
    if command.scope == Scope::Project {
        return Ok(files);
    }
    for file in &change.files {
        let (path, content) = of(file);
        let text = match content {
            Some(Content::Text(text)) => text.as_str(),
            Some(Content::TooLarge(_)) => "",
            _ => continue,
        };
        let source = SourceType::of(Path::new(path), text.as_bytes());
        if source.is_some_and(|source| command.languages.contains(&source.language)) {
            if matches!(content, Some(Content::TooLarge(_))) {
                return Err(path);
            }
            files.insert(PathBuf::from(path), None);
        }
    }
    Ok(files)
}

/// Returns what the command says of `group`, and whether that was known; an inconclusive result says why.
fn result(server: &Ralph, group: &Group, stop: &dyn Fn() -> bool) -> Result<(CheckResult, bool), Refusal> {
    result_or_broken(server, group, stop).or_else(|broken| {
        let reason = format!("{}: {}", group.command.name, broken.reason()?);
        Ok((CheckResult::inconclusive(group.command.check, reason), false))
    })
}

fn result_or_broken(server: &Ralph, group: &Group, stop: &dyn Fn() -> bool) -> Result<(CheckResult, bool), Broken> {
    let identity = server.commands.identity(&group.command, stop)?;
    let Some(command) = identity.map(|identity| group.command.digest(&identity)) else {
        return Ok((executed(server, group, None, stop)?, false));
    };
    let key = key(&command, &group.look(server.commands.state(), stop)?, group);
    let known = || server.cache.get(&[key]).pop().flatten().map(|result| Ok((result, true)));
    if let Some(known) = known() {
        return known;
    }
    once(server, &group.command, &key, stop, known, || Ok((executed(server, group, Some(&command), stop)?, false)))
}

fn executed(
    server: &Ralph,
    group: &Group,
    command: Option<&ContentHash>,
    stop: &dyn Fn() -> bool,
) -> Result<CheckResult, Broken> {
    let paths: Vec<PathBuf> = group.files.keys().cloned().collect();
    let mut results = Vec::new();
    let digest = group.run(server, &paths, stop, |ran| results.push(verdict::judge_change(&group.command, ran)))?;
    let all = results.into_iter().reduce(|mut all, next| {
        all.verdict = all.verdict.max(next.verdict);
        all.findings.extend(next.findings);
        all.reason = all.reason.or(next.reason);
        all
    });
    let result = all.ok_or_else(|| Broken::Reason("it was not run".to_owned()))?;
    if let Some(command) = command {
        server.cache.put(&[(key(command, &digest, group), &result)]);
    }
    Ok(result)
}

fn key(command: &ContentHash, digest: &ContentHash, group: &Group) -> ContentHash {
    let mut builder = ContentHash::builder("ralph.command.change").field(command.as_bytes()).field(digest.as_bytes());
    for path in group.files.keys() {
        builder = builder.field(path.to_string_lossy().as_bytes());
    }
    builder.finish()
}

/// Tells what the change adds from what the base had.
fn told_apart(
    change: &Change,
    check: Check,
    before: Vec<Finding>,
    after: Vec<Finding>,
) -> (Vec<Finding>, Vec<Finding>) {
    let path = |finding: &Finding| finding.path.clone().unwrap_or_default();
    // By where a file is now: what was renamed takes its findings along.
    let now_at: BTreeMap<&str, &str> =
        change.files.iter().map(|file| (file.before_path(), file.path.as_str())).collect();
    let mut pairs: BTreeMap<String, (Vec<Finding>, Vec<Finding>)> = BTreeMap::new();
    for finding in before {
        let old = path(&finding);
        let now = now_at.get(old.as_str()).map_or(old.as_str(), |now| now).to_owned();
        pairs.entry(now).or_default().0.push(finding);
    }
    for finding in after {
        pairs.entry(path(&finding)).or_default().1.push(finding);
    }
    let texts: BTreeMap<&str, &FileChange> = change.files.iter().map(|file| (file.path.as_str(), file)).collect();
    let traces = |findings: &[Finding]| findings.iter().map(|finding| trace(check, finding)).collect();
    let compared: Vec<FilePair<'_>> = pairs
        .iter()
        .map(|(path, (before, after))| {
            let file = texts.get(path.as_str());
            FilePair {
                before_text: file.map_or("", |file| file.before_text()),
                after_text: file.map_or("", |file| file.after_text()),
                before: traces(before),
                after: traces(after),
            }
        })
        .collect();
    let known = baseline::existed(&compared);
    let (mut added, mut existing) = (Vec::new(), Vec::new());
    for ((_, after), known) in pairs.into_values().zip(known) {
        for (finding, known) in after.into_iter().zip(known) {
            if known { existing.push(finding) } else { added.push(finding) }
        }
    }
    (added, existing)
}

/// Returns what a finding is recognised by; a test by its name alone.
fn trace(check: Check, finding: &Finding) -> Trace {
    let trace = Trace::of(finding);
    match finding.message.split_once(": ") {
        Some((name, _)) if check == Check::Tests => {
            Trace { subject: name.to_owned(), context: String::new(), line: 0, ..trace }
        }
        _ => trace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(path: &str, message: &str, line: usize, excerpt: &str) -> Finding {
        Finding {
            rule: "tool.x".into(),
            path: Some(path.into()),
            message: message.into(),
            line,
            column: 1,
            excerpt: excerpt.into(),
            hint: String::new(),
            severity: Some("warning".into()),
            cwe: None,
            fingerprint: None,
        }
    }

    fn change(path: &str, old: Option<&str>, before: &str, after: &str) -> Change {
        let file = FileChange {
            path: path.into(),
            old_path: old.map(str::to_owned),
            before: Some(Content::Text(before.into())),
            after: Some(Content::Text(after.into())),
        };
        Change { files: vec![file], ..Change::default() }
    }

    #[test]
    fn finding_of_the_base_is_told_apart_wherever_it_went() {
        let moved = change("b.py", Some("a.py"), "bad\n", "\n\nbad\nbad\n");
        let before = vec![finding("a.py", "bad", 1, "bad"), finding("other.py", "worse", 9, "w")];
        let after = vec![
            finding("b.py", "bad", 3, "bad"),
            finding("b.py", "bad", 4, "bad"),
            finding("other.py", "worse", 9, "w"),
            finding("third.py", "worse", 9, "elsewhere"),
        ];
        let (added, existing) = told_apart(&moved, Check::Linting, before, after);
        let places = |findings: &[Finding]| {
            findings.iter().map(|found| (found.path.clone().unwrap(), found.line)).collect::<Vec<_>>()
        };
        assert_eq!(places(&existing), [("b.py".into(), 3), ("other.py".into(), 9)]);
        assert_eq!(places(&added), [("b.py".into(), 4), ("third.py".into(), 9)]);
    }

    #[test]
    fn test_that_fails_for_another_reason_failed_before_and_another_test_did_not() {
        let none = change("a.py", None, "", "");
        let before = vec![finding("t.py", "test_1: assert 1 == 2", 0, "")];
        let after =
            vec![finding("t.py", "test_1: assert 1 == 3", 0, ""), finding("t.py", "test_2: assert 1 == 2", 0, "")];
        let (added, existing) = told_apart(&none, Check::Tests, before, after);
        assert_eq!((added.len(), existing.len()), (1, 1));
        assert!(added[0].message.starts_with("test_2"));
    }
}
