//! What follows from what was found: done, again, or stop. Decisions over data, without any effect.

use serde_json::Value;

use crate::session::{Accepted, Ending, VerdictRecord};

/// How often the same findings in a row are enough: a further try would find them again.
const SAME_MAX: usize = 3;

/// Longest that findings together are told to the agent.
const FINDINGS_MAX: usize = 60;

/// What the loop does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is done.
    Done,
    /// The agent hears of the findings.
    Again,
    /// Somebody else has to do something.
    Stop(Ending, String),
}

/// What an agent hears that changed nothing.
const NOTHING_CHANGED: &str = "nothing was changed: the working tree is as it was when the task began";

/// What is known beside what was found.
#[derive(Clone, Copy)]
pub(super) struct Situation<'a> {
    /// Whether there are commits on the task's branch.
    pub(super) has_commits: bool,
    /// What was found before.
    pub(super) earlier: &'a [VerdictRecord],
    /// Which iteration this is.
    pub(super) iteration: u32,
    /// How many there may be.
    pub(super) iterations_max: u32,
    /// What kind of part of a team's task it is, where it is one.
    pub(super) part: Option<Part>,
}

/// A part of a team's task.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// Whether its role changes files.
    pub(super) writes: bool,
    /// Whether the agent said anything.
    pub(super) has_report: bool,
}

/// Reads the answer of `verify_changes` and the acceptance commands into findings and what follows from them.
pub(super) fn judge(ralph: &Value, acceptance: &[Accepted], situation: &Situation<'_>) -> (Vec<String>, Decision) {
    let Situation { has_commits, earlier, iteration, iterations_max, part } = *situation;
    let verdict = ralph["verdict"].as_str().unwrap_or("inconclusive");
    let reason = ralph["reason"].as_str();
    // A note is no fault, and what stands beside a pass is none either.
    let listed = ralph["findings"].as_array().filter(|_| verdict != "pass").into_iter().flatten();
    let mut findings: Vec<String> =
        listed.filter(|located| located["finding"]["severity"] != "note").map(located).collect();
    let nothing_changed = ralph["files_changed"] == 0 && !has_commits;
    let said_before = || earlier.last().is_some_and(|verdict| verdict.findings == [NOTHING_CHANGED]);
    match part {
        Some(Part { writes: false, has_report }) => {
            if !nothing_changed {
                findings.push("files were changed, and this role changes none: put them back as they were".to_owned());
            } else if !has_report {
                findings.push("there is no report: say what you found".to_owned());
            }
        }
        // Of a part there may be nothing to do; whoever still says so when asked once more is believed, as the whole is
        // looked at again.
        Some(_) if nothing_changed && said_before() => {}
        _ if nothing_changed => findings.push(NOTHING_CHANGED.to_owned()),
        _ => {}
    }
    let all_accepted = !acceptance.is_empty() && acceptance.iter().all(|accepted| accepted.passed);
    match verdict {
        "pass" => {}
        // No check of Ralph's knows these files. Then the task's own commands decide, and without any nobody can.
        "skipped" if all_accepted || nothing_changed => {}
        "skipped" => findings.push(format!(
            "no check applies to what was changed, and the task has no acceptance command that could tell{}",
            reason.map(|reason| format!(" ({reason})")).unwrap_or_default()
        )),
        "fail" | "blocked" if !findings.is_empty() => {}
        other => findings.push(format!("verification is {other}: {}", reason.unwrap_or("no reason was given"))),
    }
    for failed in acceptance.iter().filter(|accepted| !accepted.passed) {
        findings.push(format!("`{}` {}:\n{}", failed.command, failed.ended, failed.output.trim_end()));
    }
    findings.truncate(FINDINGS_MAX);
    let decision = if verdict == "blocked" {
        let first = findings.first().cloned().unwrap_or_default();
        Decision::Stop(Ending::Blocked, format!("a person has to decide: {first}"))
    } else if findings.is_empty() {
        Decision::Done
    } else if is_stuck(&findings, earlier) {
        Decision::Stop(Ending::Stuck, format!("the same {} findings {SAME_MAX} times in a row", findings.len()))
    } else if iteration >= iterations_max {
        Decision::Stop(Ending::Iterations, format!("not done after {iteration} iterations"))
    } else {
        Decision::Again
    };
    (findings, decision)
}

/// Returns what the agent hears.
pub(super) fn feedback(findings: &[String]) -> String {
    let list: Vec<String> = findings.iter().map(|finding| format!("- {finding}")).collect();
    format!(
        "This is not done. Verification found:\n{}\n\nCorrect this without weakening tests or checks, then say that you are done.",
        list.join("\n")
    )
}

fn is_stuck(findings: &[String], earlier: &[VerdictRecord]) -> bool {
    let plain = |findings: &[String]| findings.iter().map(|finding| without_numbers(finding)).collect::<Vec<_>>();
    let now = plain(findings);
    earlier.len() + 1 >= SAME_MAX
        && earlier.iter().rev().take(SAME_MAX - 1).all(|verdict| plain(&verdict.findings) == now)
}

/// Drops digits: a duration, a line further down or a new address does not make it another finding.
fn without_numbers(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

fn located(located: &Value) -> String {
    let finding = &located["finding"];
    // Counted from 1; 0 means the whole file.
    let place = finding["line"].as_u64().filter(|line| *line > 0).map(|line| format!(":{line}")).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let hint = finding["hint"].as_str().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{}{place}: {}: {}{hint}", text(&located["path"]), text(&located["check"]), text(&finding["message"]))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn accepted(passed: bool) -> Accepted {
        let ended = if passed { "ended with exit code 0" } else { "ended with exit code 1" };
        Accepted { command: "test".into(), passed, ended: ended.into(), output: "took 1 s\n".into(), duration_ms: 1 }
    }

    fn record(findings: &[String]) -> VerdictRecord {
        VerdictRecord {
            iteration: 1,
            at: Timestamp::UNIX_EPOCH,
            verdict: "fail".into(),
            acceptance: Vec::new(),
            findings: findings.to_vec(),
            decision: "again".into(),
        }
    }

    fn situation(earlier: &[VerdictRecord], iteration: u32, iterations_max: u32) -> Situation<'_> {
        Situation { has_commits: false, earlier, iteration, iterations_max, part: None }
    }

    fn decide(ralph: &Value, acceptance: &[Accepted]) -> Decision {
        judge(ralph, acceptance, &situation(&[], 1, 5)).1
    }

    #[test]
    fn only_a_pass_with_every_command_is_done() {
        let pass = json!({"verdict": "pass", "files_changed": 1, "findings": []});
        assert_eq!(decide(&pass, &[]), Decision::Done);
        assert_eq!(decide(&pass, &[accepted(true)]), Decision::Done);
        assert_eq!(decide(&pass, &[accepted(true), accepted(false)]), Decision::Again);
        for verdict in ["fail", "inconclusive", "unheard_of"] {
            let ralph = json!({"verdict": verdict, "files_changed": 1, "findings": [], "reason": "r"});
            assert_eq!(decide(&ralph, &[accepted(true)]), Decision::Again, "{verdict}");
        }
        assert_eq!(decide(&json!({}), &[accepted(true)]), Decision::Again);
        let skipped = json!({"verdict": "skipped", "files_changed": 1, "findings": []});
        assert_eq!(decide(&skipped, &[]), Decision::Again);
        assert_eq!(decide(&skipped, &[accepted(true)]), Decision::Done);
    }

    #[test]
    fn nothing_changed_is_not_done_whatever_passes() {
        for verdict in ["pass", "skipped"] {
            let ralph = json!({"verdict": verdict, "files_changed": 0, "findings": []});
            let (findings, decision) = judge(&ralph, &[accepted(true)], &situation(&[], 1, 5));
            assert_eq!((findings.len(), decision), (1, Decision::Again));
        }
    }

    #[test]
    fn parts_may_have_nothing_to_do_and_advisors_only_report() {
        let unchanged = json!({"verdict": "skipped", "files_changed": 0, "findings": []});
        let changed = json!({"verdict": "pass", "files_changed": 1, "findings": []});
        let decide = |ralph: &Value, earlier: &[VerdictRecord], writes, has_report| {
            let part = Some(Part { writes, has_report });
            judge(ralph, &[], &Situation { part, ..situation(earlier, 2, 5) }).1
        };
        let before = record(&[NOTHING_CHANGED.to_owned()]);
        assert_eq!(decide(&unchanged, &[], true, true), Decision::Again, "asked once more");
        assert_eq!(decide(&unchanged, &[before], true, true), Decision::Done);
        assert_eq!(decide(&unchanged, &[record(&["other".to_owned()])], true, true), Decision::Again);
        assert_eq!(decide(&changed, &[], true, false), Decision::Done);
        assert_eq!(decide(&unchanged, &[], false, true), Decision::Done);
        assert_eq!(decide(&unchanged, &[], false, false), Decision::Again);
        assert_eq!(decide(&changed, &[], false, true), Decision::Again);
    }

    #[test]
    fn a_guardrail_stops_and_is_not_argued_with() {
        let ralph = json!({"verdict": "blocked", "files_changed": 1,
            "findings": [{"path": "tests/a.py", "check": "guardrail", "finding": {"line": 3, "message": "a test is gone"}}]});
        let Decision::Stop(Ending::Blocked, reason) = decide(&ralph, &[]) else { panic!() };
        assert!(reason.contains("tests/a.py:3: guardrail: a test is gone"), "{reason}");
    }

    #[test]
    fn same_findings_three_times_are_stuck_and_others_are_not() {
        let pass = json!({"verdict": "pass", "files_changed": 1, "findings": []});
        let failed = |output: &str| Accepted { output: output.into(), ..accepted(false) };
        let findings = judge(&pass, &[failed("took 1 s")], &situation(&[], 1, 9)).0;
        let twice = [record(&findings), record(&findings)];
        let again = judge(&pass, &[failed("took 27 s")], &situation(&twice, 3, 9)).1;
        assert!(matches!(again, Decision::Stop(Ending::Stuck, _)), "{again:?}");
        let others = [record(&findings), record(&["other".to_owned()])];
        assert_eq!(judge(&pass, &[failed("took 1 s")], &situation(&others, 3, 9)).1, Decision::Again);
        let last = judge(&pass, &[failed("took 1 s")], &situation(&others, 3, 3)).1;
        assert!(matches!(last, Decision::Stop(Ending::Iterations, _)), "{last:?}");
    }
}
