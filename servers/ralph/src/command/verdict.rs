//! What a command's end and output mean for each file: a pass only when both say so.

use std::path::Path;

use tollgate_shared::sandbox::{Ended, Finished};

use super::group::Ran;
use super::parse::{Level, Parsed, Reported};
use super::{Command, Scope};
use crate::check::{Check, CheckResult, FINDINGS_MAX, Finding, Verdict};

/// Most findings of a whole change that are told apart.
const CHANGE_FINDINGS_MAX: usize = 2_000;

/// Judges one run of `command` for each file that it was given.
#[must_use]
pub(super) fn judge(command: &Command, ran: &Ran<'_>) -> Vec<CheckResult> {
    let place = Places {
        work: &ran.work,
        root: &ran.root,
        excerpt: &|path, line, column| ran.lines.excerpt(path, line, column),
    };
    each(command, &ran.finished, &ran.names, &place)
}

/// Judges one run of `command` for all files at once; every finding names its file.
#[must_use]
pub(super) fn judge_change(command: &Command, ran: &Ran<'_>) -> CheckResult {
    let place = Places {
        work: &ran.work,
        root: &ran.root,
        excerpt: &|path, line, column| ran.lines.excerpt(path, line, column),
    };
    all(command, &ran.finished, &ran.names, &place)
}

/// Where a command ran, and where that is in truth.
struct Places<'p> {
    work: &'p Path,
    root: &'p Path,
    excerpt: &'p dyn Fn(&str, usize, usize) -> String,
}

fn each(command: &Command, finished: &Finished, paths: &[String], places: &Places<'_>) -> Vec<CheckResult> {
    match trusted(command, finished) {
        Ok((parsed, code)) => paths.iter().map(|path| of_file(command, &parsed, code, path, places)).collect(),
        Err(reason) => {
            let reason = format!("{}: {reason}", command.name);
            paths.iter().map(|_| CheckResult::inconclusive(command.check, reason.clone())).collect()
        }
    }
}

fn all(command: &Command, finished: &Finished, paths: &[String], places: &Places<'_>) -> CheckResult {
    let inconclusive = |reason: String| CheckResult::inconclusive(command.check, format!("{}: {reason}", command.name));
    let (parsed, code) = match trusted(command, finished) {
        Ok(trusted) => trusted,
        Err(reason) => return inconclusive(reason),
    };
    if let (Some(covered), Scope::File) = (&parsed.covered, command.scope) {
        let covered: Vec<String> = covered.iter().map(|path| beneath(path, places.work, places.root)).collect();
        if let Some(path) = paths.iter().find(|path| !covered.contains(path)) {
            return inconclusive(format!("it left {path} out"));
        }
    }
    if parsed.findings.len() > CHANGE_FINDINGS_MAX {
        return inconclusive(format!("it reported more than {CHANGE_FINDINGS_MAX} findings"));
    }
    let fails = |reported: &Reported| reported.level == Level::Error || code != 0;
    let findings = parsed.findings.iter().map(|reported| {
        let path = reported.path.as_deref().map(|named| beneath(named, places.work, places.root));
        finding(command, reported, fails(reported), path.as_deref(), places)
    });
    CheckResult {
        check: command.check,
        verdict: if parsed.findings.iter().any(fails) { Verdict::Fail } else { Verdict::Pass },
        findings: findings.collect(),
        findings_omitted: 0,
        existing: 0,
        reason: None,
    }
}

fn finding(command: &Command, reported: &Reported, fails: bool, path: Option<&str>, places: &Places<'_>) -> Finding {
    const CHARS_MAX: usize = 500;
    let excerpt = path.map_or_else(String::new, |path| (places.excerpt)(path, reported.line, reported.column));
    Finding {
        rule: rule(command, reported),
        path: path.map(str::to_owned),
        message: crate::secrets::mask(&reported.message.chars().take(CHARS_MAX).collect::<String>()),
        line: reported.line,
        column: reported.column,
        excerpt,
        hint: "fix what it reports, and verify again".to_owned(),
        severity: Some(if fails { "warning" } else { "note" }.to_owned()),
        cwe: None,
        fingerprint: None,
    }
}

/// Returns what was found and the exit code, when they can both be true.
fn trusted(command: &Command, finished: &Finished) -> Result<(Parsed, i32), String> {
    let Ended::Exited(code) = finished.ended else { return Err(finished.ended.describe()) };
    let parsed = command.parser.read(&finished.stdout, &finished.stderr).map_err(|reason| {
        format!("its output cannot be read ({reason}); it ended with {code} {}", end_of(&finished.stderr))
    })?;
    let errors = parsed.findings.iter().filter(|finding| finding.level == Level::Error).count();
    if code != 0 && parsed.findings.is_empty() {
        return Err(format!("it ended with {code} and reported nothing {}", end_of(&finished.stderr)));
    }
    if code == 0 && errors > 0 && !command.exits_zero_on_findings {
        return Err(format!("it ended with 0 although it reported {errors} errors"));
    }
    if command.check == Check::Tests && errors == 0 && parsed.tests_run.unwrap_or(0) == 0 {
        return Err("no test was run".to_owned());
    }
    Ok((parsed, code))
}

fn of_file(command: &Command, parsed: &Parsed, code: i32, path: &str, places: &Places<'_>) -> CheckResult {
    let beneath = |named: &str| beneath(named, places.work, places.root);
    let named = |reported: &Reported| reported.path.as_deref().map(beneath);
    if let Some(covered) = &parsed.covered
        && command.scope == Scope::File
        && !covered.iter().any(|other| beneath(other) == path)
    {
        let reason = format!("{}: it left this file out", command.name);
        return CheckResult::inconclusive(command.check, reason);
    }
    // A test that fails may do so because of any file; what is in no file is in all.
    let concerns =
        |reported: &&Reported| command.check == Check::Tests || named(reported).is_none_or(|named| named == path);
    let own: Vec<&Reported> = parsed.findings.iter().filter(concerns).collect();
    let fails = |reported: &Reported| reported.level == Level::Error || code != 0;
    let failed = own.iter().filter(|reported| fails(reported)).count();
    let elsewhere = parsed.findings.len() - own.len();
    let findings = own.iter().take(FINDINGS_MAX).map(|reported| {
        let other = named(reported);
        let found = finding(command, reported, fails(reported), other.as_deref(), places);
        Finding { path: other.filter(|other| other != path), ..found }
    });
    CheckResult {
        check: command.check,
        verdict: if failed > 0 { Verdict::Fail } else { Verdict::Pass },
        findings: findings.collect(),
        findings_omitted: own.len().saturating_sub(FINDINGS_MAX),
        existing: 0,
        reason: (elsewhere > 0).then(|| format!("{}: {elsewhere} findings are in other files", command.name)),
    }
}

fn rule(command: &Command, reported: &Reported) -> String {
    if reported.rule.is_empty() { command.name.clone() } else { format!("{}.{}", command.name, reported.rule) }
}

/// Returns the path as beneath the project, as far as it is.
fn beneath(named: &str, work: &Path, root: &Path) -> String {
    let path = Path::new(named);
    let inside = path.strip_prefix(work).or_else(|_| path.strip_prefix(root)).unwrap_or(path);
    let plain: std::path::PathBuf = inside.components().filter(|part| *part != std::path::Component::CurDir).collect();
    plain.to_string_lossy().into_owned()
}

fn end_of(output: &[u8]) -> String {
    const CHARS_MAX: usize = 400;
    let text = String::from_utf8_lossy(output);
    let text: Vec<char> =
        text.trim().chars().filter(|character| !character.is_control() || *character == '\n').collect();
    let end: String = text[text.len().saturating_sub(CHARS_MAX)..].iter().collect();
    if end.is_empty() { end } else { format!("({end})") }
}

/// Puts what several commands found for one check into one result.
#[must_use]
pub fn merged(results: Vec<CheckResult>) -> Option<CheckResult> {
    results.into_iter().reduce(|mut all, next| {
        all.verdict = all.verdict.max(next.verdict);
        all.findings.extend(next.findings);
        all.findings_omitted += next.findings_omitted + all.findings.len().saturating_sub(FINDINGS_MAX);
        all.findings.truncate(FINDINGS_MAX);
        all.reason = match (all.reason, next.reason) {
            (Some(one), Some(other)) => Some(format!("{one}; {other}")),
            (one, other) => one.or(other),
        };
        all
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::command::settings::CommandSettings;

    fn judged(preset: &str, ended: Ended, stdout: &str, stderr: &str, path: &str) -> CheckResult {
        let settings = CommandSettings { preset: Some(preset.to_owned()), ..CommandSettings::default() };
        let command = settings.resolve(preset).unwrap();
        let finished =
            Finished { ended, stdout: stdout.into(), stderr: stderr.into(), duration: Duration::from_millis(1) };
        let places = Places {
            work: Path::new("/s/work"),
            root: Path::new("/w"),
            excerpt: &|path, line, _| format!("line {line} of {path}"),
        };
        each(&command, &finished, &[path.to_owned()], &places).remove(0)
    }

    const RUFF: &str =
        r#"[{"code":"F401","filename":"/s/work/a.py","location":{"row":1,"column":8},"message":"unused"}]"#;

    #[test]
    fn pass_needs_exit_code_and_output() {
        use Verdict::{Fail, Inconclusive, Pass};
        for (preset, ended, stdout, stderr, verdict) in [
            ("ruff", Ended::Exited(0), "[]", "", Pass),
            ("ruff", Ended::Exited(1), RUFF, "", Fail),
            ("ruff", Ended::Exited(0), RUFF, "", Inconclusive),
            ("ruff", Ended::Exited(1), "[]", "", Inconclusive),
            ("ruff", Ended::Exited(2), "", "error: bad config", Inconclusive),
            ("ruff", Ended::Exited(0), "", "", Inconclusive),
            ("ruff", Ended::Signalled(11), "[]", "", Inconclusive),
            ("ruff", Ended::TimedOut, "[]", "", Inconclusive),
            ("ruff", Ended::MemoryLimit, RUFF, "", Inconclusive),
            ("black", Ended::Exited(0), "", "All done!", Pass),
            ("black", Ended::Exited(1), "", "would reformat a.py", Fail),
            ("black", Ended::Exited(123), "", "error: cannot format", Inconclusive),
            ("gofmt", Ended::Exited(0), "a.py\n", "", Fail),
            ("pytest", Ended::Exited(0), "2 passed in 0.01s", "", Pass),
            ("pytest", Ended::Exited(5), "no tests ran in 0.01s", "", Inconclusive),
            ("pytest", Ended::Exited(0), "no tests ran in 0.01s", "", Inconclusive),
            ("pytest", Ended::Exited(0), "2 skipped in 0.01s", "", Inconclusive),
            ("pytest", Ended::Exited(0), "", "", Inconclusive),
            ("pytest", Ended::Exited(1), "FAILED a.py::x - boom\n1 failed in 0.01s", "", Fail),
            ("eslint", Ended::Exited(0), r#"[{"filePath":"/s/work/a.py","messages":[]}]"#, "", Pass),
            ("eslint", Ended::Exited(0), "[]", "", Inconclusive),
        ] {
            let result = judged(preset, ended.clone(), stdout, stderr, "a.py");
            assert_eq!(result.verdict, verdict, "{preset} {ended:?} {stdout}: {result:?}");
            assert_eq!(result.reason.is_some(), verdict == Inconclusive, "{preset} {stdout}");
        }
    }

    #[test]
    fn finding_shows_its_line() {
        let found = judged("ruff", Ended::Exited(1), RUFF, "", "a.py").findings.remove(0);
        assert_eq!((found.excerpt.as_str(), found.path), ("line 1 of a.py", None));
        let tests = judged("pytest", Ended::Exited(1), "FAILED b.py::x - boom\n1 failed in 0.01s", "", "a.py");
        assert_eq!(tests.findings[0].path.as_deref(), Some("b.py"));
    }

    #[test]
    fn finding_of_another_file_is_named_and_does_not_fail_this_one() {
        let result = judged("ruff", Ended::Exited(1), RUFF, "", "b.py");
        assert_eq!(result.verdict, Verdict::Pass);
        assert!(result.reason.unwrap().contains("1 findings are in other files"));
    }

    #[test]
    fn gravest_of_several_commands_counts() {
        let results = vec![
            judged("ruff", Ended::Exited(0), "[]", "", "a.py"),
            judged("ruff", Ended::Exited(1), RUFF, "", "a.py"),
            judged("ruff", Ended::TimedOut, "", "", "a.py"),
        ];
        let merged = merged(results).unwrap();
        assert_eq!((merged.verdict, merged.findings.len(), merged.reason.is_some()), (Verdict::Fail, 1, true));
    }
}
