//! Tests that are gone, are no longer run, or demand less than before.

use std::collections::BTreeSet;

use super::assertion::{Assertion, EQUAL, Fault, PART};
use super::tests_of::{self, TestCase};
use super::{Change, ChangeRule, FileChange, Findings, rule};
use crate::check::guardrail::Severity::{Error, Warning};
use crate::check::guardrail::is_test_path;
use crate::check::guardrail::source::Source;

const DELETED: ChangeRule = rule("test_deleted", Error, "bring the test back, and make it pass");
const UNCOLLECTED: ChangeRule = rule("test_uncollected", Error, "give it back what the test runner finds it by");
const EMPTIED: ChangeRule = rule("test_emptied", Error, "bring its body back, and make it pass");
const RETURNS: ChangeRule = rule("test_returns_early", Error, "remove what ends the test before its assertions");
const UNREACHED: ChangeRule = rule("test_unreachable", Error, "let its assertions be reached");
const SWALLOWED: ChangeRule = rule("test_failure_swallowed", Error, "let a failure through");
const CONSTANT: ChangeRule =
    rule("assertion_constant", Error, "assert what the code gives back, not what always holds");
const REMOVED: ChangeRule = rule("assertion_removed", Error, "bring the assertion back, and make it hold");
const WEAKENED: ChangeRule = rule("assertion_weakened", Error, "demand as much as before");
const TOLERANCE: ChangeRule = rule("tolerance_enlarged", Error, "keep the tolerance, and correct the code");
const EXPECTS_FAILURE: ChangeRule = rule("test_expects_failure", Error, "correct the code instead");
const REPLACED: ChangeRule =
    rule("subject_mocked", Error, "test the real one; put something else only in the place of what it uses");
const SNAPSHOT: ChangeRule =
    rule("snapshot_rewritten", Error, "bring the snapshot back; it changes only together with the code");
const PARAMETERS: ChangeRule = rule("test_cases_removed", Warning, "bring the cases back");
const NO_ASSERTION: ChangeRule =
    rule("assertion_constant", Warning, "assert what the code gives back, or leave the test out");

/// The tests of one file in one state.
struct File<'c> {
    change: &'c FileChange,
    before: Vec<TestCase>,
    after: Vec<TestCase>,
}

/// Looks for tests that are weaker than they were.
pub fn check(change: &Change, in_time: &dyn Fn() -> bool, findings: &mut Findings) {
    let mut gone: BTreeSet<String> = BTreeSet::new();
    let mut there: BTreeSet<String> = BTreeSet::new();
    let mut files = Vec::new();
    for file in &change.files {
        let sources = [(file.before_path(), file.before_text()), (file.path.as_str(), file.after_text())]
            .map(|(path, text)| Source::parse(path, text, in_time));
        let [Some(before), Some(after)] = sources else {
            findings.unknown.push((file.path.clone(), "looking took too long".to_owned()));
            continue;
        };
        if !is_test_path(file.before_path()) {
            gone.extend(tests_of::definitions(&before));
            there.extend(tests_of::definitions(&after));
        }
        let (before, after) = (tests_of::of(&before), tests_of::of(&after));
        if !before.is_empty() || !after.is_empty() {
            files.push(File { change: file, before, after });
        }
    }
    // What is defined elsewhere now was moved.
    gone.retain(|name| !there.contains(name));
    let all: Vec<&TestCase> = files.iter().flat_map(|file| &file.after).filter(|case| case.collected).collect();
    // A test that is as it was cannot stand for another one as well.
    let is_as_before = |file: &File<'_>, case: &TestCase| {
        file.before.iter().any(|old| old.name == case.name && old.body == case.body && old.literals == case.literals)
    };
    let fresh: Vec<&TestCase> = files
        .iter()
        .flat_map(|file| file.after.iter().filter(|case| case.collected && !is_as_before(file, case)))
        .collect();
    for file in &files {
        let mut used: BTreeSet<usize> = BTreeSet::new();
        for case in file.before.iter().filter(|case| case.collected) {
            if !in_time() {
                return;
            }
            let named = |collected: bool| {
                let fits = |now: &TestCase| now.name == case.name && now.collected == collected;
                file.after.iter().enumerate().position(|(at, now)| fits(now) && !used.contains(&at))
            };
            let same = named(true).or_else(|| named(false));
            match same {
                Some(at) if file.after[at].collected => {
                    used.insert(at);
                    compare(file.change, case, &file.after[at], &fresh, &gone, findings);
                }
                _ => missing(file, case, &all, &fresh, &gone, findings),
            }
        }
        added(file, findings);
    }
    snapshots(change, findings);
    orphaned(change, in_time, findings);
}

/// Decides on a test that is no longer where it was.
fn missing(
    file: &File<'_>,
    case: &TestCase,
    all: &[&TestCase],
    fresh: &[&TestCase],
    gone: &BTreeSet<String>,
    findings: &mut Findings,
) {
    let path = &file.change.path;
    let text = file.change.after_text();
    // It was moved to another file or class, or got another name.
    if let Some(moved) = all
        .iter()
        .find(|now| now.bare == case.bare && fresh.iter().any(|fresh| std::ptr::eq(*fresh, **now)))
        .or_else(|| {
            all.iter().find(|now| {
                now.body == case.body
                    && !case.empty
                    && now.bare != case.bare
                    && fresh.iter().any(|fresh| std::ptr::eq(*fresh, **now))
            })
        })
    {
        if moved.bare == case.bare {
            compare(file.change, case, moved, fresh, gone, findings);
        }
        return;
    }
    let hidden = file.after.iter().find(|now| {
        !now.collected
            && (now.bare == case.bare
                || now.body == case.body && !case.empty
                || bare_name(&now.bare) == bare_name(&case.bare))
    });
    if let Some(hidden) = hidden {
        // A test that is skipped is already found by its mark.
        findings.add(
            &UNCOLLECTED,
            path,
            text,
            hidden.line,
            format!("{} is a test that no runner finds any more", case.name),
        );
        return;
    }
    if case.live().next().is_none() || absorbed(case, fresh) || is_about(case, gone) {
        return;
    }
    findings.add(&DELETED, path, text, 0, format!("the test {} is gone", case.name));
}

/// Returns whether what `case` tests is gone as well.
fn is_about(case: &TestCase, gone: &BTreeSet<String>) -> bool {
    case.words.iter().any(|word| gone.contains(word))
        || gone.iter().any(|name| name.len() > 3 && case.literals.contains(name))
}

/// Returns whether another test, which was not there before, tests the same.
fn absorbed(case: &TestCase, fresh: &[&TestCase]) -> bool {
    let own: Vec<&Assertion> = case.live().collect();
    let wanted: BTreeSet<&String> = case.literals.iter().filter(|literal| !literal.is_empty()).collect();
    let called = callees(&own);
    // One test, or the several that it was split into.
    let enough = |literals: &BTreeSet<&String>, count: usize, words: &BTreeSet<&String>| {
        let found = wanted.iter().filter(|literal| literals.contains(**literal)).count();
        count > 0 && found * 10 >= wanted.len() * 7 && called.iter().all(|name| words.contains(name))
    };
    let single = fresh.iter().any(|now| {
        let count = now.live().count();
        let weight = if now.with_parameters { usize::MAX } else { count };
        enough(&now.literals.iter().collect(), count, &now.words.iter().collect()) && weight >= own.len().div_ceil(2)
    });
    let related: Vec<&&TestCase> =
        fresh.iter().filter(|now| called.iter().any(|name| now.words.contains(name))).collect();
    let literals = related.iter().flat_map(|now| &now.literals).collect();
    let words = related.iter().flat_map(|now| &now.words).collect();
    let count: usize = related.iter().map(|now| now.live().count()).sum();
    single || count >= own.len() && !wanted.is_empty() && enough(&literals, count, &words)
}

/// Returns the names of what is called in what `assertions` are about.
fn callees(assertions: &[&Assertion]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for assertion in assertions {
        for part in assertion.subject.split('(').rev().skip(1) {
            let name: String = part.chars().rev().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let name: String = name.chars().rev().collect();
            if !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) {
                names.insert(name);
            }
        }
    }
    names
}

fn bare_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let mut bare = lower.trim_matches('_');
    for word in ["disabled", "skip", "x", "no", "off", "old", "todo", "broken", "hidden", "tests", "test"] {
        bare = bare.strip_prefix(word).unwrap_or(bare).trim_matches('_');
        bare = bare.strip_suffix(word).unwrap_or(bare).trim_matches('_');
    }
    bare.to_owned()
}

/// Compares one test before and now.
fn compare(
    file: &FileChange,
    old: &TestCase,
    now: &TestCase,
    fresh: &[&TestCase],
    gone: &BTreeSet<String>,
    findings: &mut Findings,
) {
    let text = file.after_text();
    let mut say = |rule: &ChangeRule, line: usize, message: String| findings.add(rule, &file.path, text, line, message);
    if now.expects_failure && !old.expects_failure {
        say(&EXPECTS_FAILURE, now.line, format!("{} now passes by failing", now.name));
    }
    if let Some(subject) = now.replaced.iter().find(|name| {
        !old.replaced.contains(*name) && now.live().any(|assertion| assertion.subject.contains(&format!("{name}(")))
    }) {
        say(
            &REPLACED,
            now.line,
            format!("{} asserts on {subject}, which it puts something else in the place of", now.name),
        );
    }
    // What a test calls may assert less although the test is as it was.
    let texts = |case: &TestCase| -> Vec<String> { case.live().map(|assertion| assertion.text.clone()).collect() };
    if old.body == now.body && texts(old) == texts(now) {
        if old.with_parameters && old.literals.len() > now.literals.len() && !is_about(old, gone) {
            let lost = old.literals.iter().filter(|literal| !now.literals.contains(*literal)).count();
            let new = now.literals.iter().filter(|literal| !old.literals.contains(*literal)).count();
            if lost > new {
                say(&PARAMETERS, now.line, format!("{} is run with fewer values", now.name));
            }
        }
        return;
    }
    let mut removed: Vec<&Assertion> = old.live().collect();
    let mut new: Vec<&Assertion> = now.live().collect();
    removed.retain(|before| match new.iter().position(|after| after.text == before.text) {
        Some(at) => {
            new.remove(at);
            false
        }
        None => true,
    });
    // A function that the test calls was moved to another file, and does there what it does there.
    removed.retain(|before| before.through.as_ref().is_none_or(|name| gone.contains(name) || defines(text, name)));
    if removed.is_empty() {
        return;
    }
    if now.empty {
        say(&EMPTIED, now.line, format!("{} has nothing in it any more", now.name));
        return;
    }
    // What was made not to count.
    let faulty: Vec<&Assertion> = now.assertions.iter().filter(|assertion| assertion.fault.is_some()).collect();
    let old_faulty = |assertion: &Assertion| {
        old.assertions.iter().any(|before| before.fault == assertion.fault && before.text == assertion.text)
    };
    let mut spent = 0;
    for assertion in faulty.iter().filter(|assertion| !old_faulty(assertion)) {
        if spent >= removed.len() {
            break;
        }
        spent += 1;
        let (rule, message) = match assertion.fault {
            Some(Fault::BehindReturn) => (&RETURNS, "ends before this assertion"),
            Some(Fault::NeverReached) => (&UNREACHED, "never reaches this assertion"),
            Some(Fault::Swallowed) => (&SWALLOWED, "drops the failure of this assertion"),
            _ => (&CONSTANT, "asserts what always holds"),
        };
        say(rule, assertion.line, format!("{} {message}", now.name));
    }
    if spent > 0 {
        return;
    }
    // About the same, else calling the same.
    let mut judge = |before: &Assertion, after: &Assertion| {
        if after.strength < before.strength {
            say(&WEAKENED, after.line, format!("{} demands less than before: {}", now.name, shortened(&before.text)));
        } else if let (Some(was), Some(is)) = (before.tolerance, after.tolerance)
            && is > was
        {
            let message = format!("{} allows for more than before: {}", now.name, shortened(&before.text));
            say(&TOLERANCE, after.line, message);
        }
    };
    let is_same = |before: &Assertion, after: &Assertion| after.subject == before.subject && !before.subject.is_empty();
    let mut lost = removed;
    for alike in [&is_same as &dyn Fn(&Assertion, &Assertion) -> bool, &shares_call] {
        lost.retain(|before| match new.iter().position(|after| alike(before, after)) {
            Some(at) => {
                judge(before, new.remove(at));
                false
            }
            None => true,
        });
    }
    for before in lost {
        // Another one takes its place, if it demands as much.
        if let Some(at) = new.iter().position(|after| after.strength >= before.strength) {
            new.remove(at);
            continue;
        }
        let elsewhere = fresh.iter().any(|case| {
            case.name != now.name
                && case.assertions.iter().any(|after| {
                    after.fault.is_none()
                        && (after.text == before.text
                            || after.subject == before.subject && after.strength >= before.strength)
                })
        });
        let with_subject = gone.iter().any(|name| mentions(&before.text, name));
        // Only what shows that the value is what it is was left out, where a stronger one demands it already.
        let implied = before.strength < PART
            && now.live().any(|after| {
                after.strength >= EQUAL
                    && !after.subject.is_empty()
                    && (after.subject == before.subject || after.subject.starts_with(&before.subject))
            });
        if elsewhere || with_subject || implied || now.with_parameters && !old.with_parameters {
            continue;
        }
        findings.add(
            &REMOVED,
            &file.path,
            text,
            now.line,
            format!("{} no longer asserts {}", now.name, shortened(&before.text)),
        );
    }
}

/// Returns whether `text` defines the function `name`.
fn defines(text: &str, name: &str) -> bool {
    ["def ", "function ", "fn ", "func ", "const ", "let ", "var "].iter().any(|word| {
        text.match_indices(&format!("{word}{name}"))
            .any(|(at, found)| !text[at + found.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

fn shares_call(before: &Assertion, after: &Assertion) -> bool {
    let (left, right) = (callees(&[before]), callees(&[after]));
    left.iter().any(|name| right.contains(name))
}

fn mentions(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !is_word(text[..at].chars().next_back()) && !is_word(text[at + name.len()..].chars().next())
    })
}

fn shortened(text: &str) -> String {
    let cut = text.floor_char_boundary(100);
    if cut < text.len() { format!("{}…", &text[..cut]) } else { text.to_owned() }
}

/// Looks at tests that are new: one that can only pass is none.
fn added(file: &File<'_>, findings: &mut Findings) {
    for case in file
        .after
        .iter()
        .filter(|case| case.collected && !file.before.iter().any(|old| old.name == case.name || old.body == case.body))
    {
        let constant = case.assertions.iter().find(|assertion| assertion.fault == Some(Fault::Constant));
        if let Some(constant) =
            constant.filter(|_| case.live().next().is_none() && case.assertions.iter().all(|one| is_literal(&one.text)))
        {
            findings.add(
                &NO_ASSERTION,
                &file.change.path,
                file.change.after_text(),
                constant.line,
                format!("{} asserts only what always holds", case.name),
            );
        }
    }
}

/// Returns whether an assertion is one of a constant, not of two equal calls.
fn is_literal(text: &str) -> bool {
    !text.split_once('(').map_or(text, |(_, rest)| rest).contains('(')
        || ["True", "true"].iter().any(|word| text.contains(word))
}

/// Looks for modules of tests of Rust that are still there and no longer part of the program.
fn orphaned(change: &Change, in_time: &dyn Fn() -> bool, findings: &mut Findings) {
    let rust = || change.files.iter().filter(|file| file.path.ends_with(".rs"));
    let modules = |path: &str, text: &str| {
        Source::parse(path, text, in_time).map(|source| tests_of::modules(&source)).unwrap_or_default()
    };
    let now: Vec<(&FileChange, BTreeSet<String>)> =
        rust().map(|file| (file, modules(&file.path, file.after_text()))).collect();
    for (file, after) in now.iter().filter(|(file, _)| file.after.is_some()) {
        let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let folder = match name {
            "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
            _ => file.path.trim_end_matches(".rs").to_owned(),
        };
        for module in modules(file.before_path(), file.before_text()).difference(after) {
            let base = format!("{folder}/{module}");
            let base = base.trim_start_matches('/');
            let is_left =
                change.kept.iter().any(|kept| *kept == format!("{base}.rs") || *kept == format!("{base}/mod.rs"));
            if is_left && !now.iter().any(|(_, other)| other.contains(module)) {
                let message = format!("the module {module} is there, and no longer part of the program");
                findings.add(&UNCOLLECTED, &file.path, file.after_text(), 0, message);
            }
        }
    }
}

/// Looks for snapshots that were written anew though nothing else was.
fn snapshots(change: &Change, findings: &mut Findings) {
    let is_code = |file: &FileChange| {
        let path = file.path.as_str();
        !is_snapshot(path) && !crate::check::guardrail::source::is_prose(path) && !is_test_path(path)
    };
    // Code that tests are in too, as in Rust, counts as code; so do data and dependencies.
    if change.files.iter().any(|file| is_code(file) && file.before != file.after) {
        return;
    }
    let test_changed = change.files.iter().any(|file| is_test_path(&file.path) && !is_snapshot(&file.path));
    for file in
        change.files.iter().filter(|file| is_snapshot(&file.path) && file.before.is_some() && file.after.is_some())
    {
        // With the test that it belongs to, entries come and go; those that stay must be as they were.
        let kept = file
            .before_text()
            .lines()
            .filter(|line| !line.trim().is_empty())
            .all(|line| file.after_text().lines().any(|now| now == line));
        if file.before == file.after || test_changed && kept {
            continue;
        }
        findings.add(
            &SNAPSHOT,
            &file.path,
            file.after_text(),
            0,
            "a snapshot was rewritten, though no code was changed",
        );
    }
}

fn is_snapshot(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let name = lower.rsplit('/').next().unwrap_or(&lower);
    lower.contains("__snapshots__/")
        || lower.contains("/snapshots/") && is_test_path(path)
        || [
            ".snap",
            ".ambr",
            ".golden",
            ".approved.txt",
            ".approved.json",
            ".verified.txt",
            ".verified.json",
            ".snapshot",
        ]
        .iter()
        .any(|end| name.ends_with(end))
        || lower.contains("testdata/") && (name.contains("golden") || name.contains("expected"))
        || lower.contains("/golden/") && is_test_path(path)
}
