//! A task as it happens.

use std::io::Write;

use owo_colors::{OwoColorize, Stream};
use serde_json::{Value, json};
use tollgate_shared::money::Money;
use tollgate_shared::receipt::Outcome;

use super::table::{printable, shorten};
use crate::session::{Accepted, Ending, History};
use crate::task::{Event, Watch};

/// One line for each thing that happens.
pub struct Lines<W> {
    out: W,
    budget: Money,
    calls: usize,
}

impl<W: Write> Lines<W> {
    /// Writes to `out` what happens from now on.
    pub fn new(history: &History, mut out: W) -> Self {
        let session = &history.session;
        let task = shorten(session.task.lines().next().unwrap_or_default(), 100);
        let _ = writeln!(out, "{} ({}): {task}", session.id, session.agent.label());
        if !history.messages.is_empty() {
            let _ = writeln!(out, "  goes on in iteration {}", session.iteration);
        }
        Self { out, budget: session.budget_usd, calls: history.calls.len() }
    }
}

impl<W: Write + Send> Watch for Lines<W> {
    fn event(&mut self, event: &Event<'_>) {
        let out = &mut self.out;
        let _ = match event {
            Event::Prepared { worktree, branch } => writeln!(out, "  on {branch} in {}", worktree.display()),
            Event::Iteration(number) => writeln!(out, "iteration {number}"),
            Event::Said(text) => {
                let said = format!("“{}”", shorten(text.trim(), 400));
                writeln!(out, "  {}", said.if_supports_color(Stream::Stdout, |text| text.italic()))
            }
            // A line that is begun here would be torn apart by others in a log.
            Event::Calling { .. } => Ok(()),
            Event::Called { call, cost } => {
                self.calls += 1;
                let answer = call.answer.as_ref();
                let outcome = answer.map_or("unknown", |answer| answer.outcome.as_str());
                let mark = match answer.map(|answer| answer.outcome) {
                    Some(Outcome::Ok) => "✓".if_supports_color(Stream::Stdout, |text| text.green()).to_string(),
                    Some(Outcome::Refused) => "✋".if_supports_color(Stream::Stdout, |text| text.yellow()).to_string(),
                    _ => "✗".if_supports_color(Stream::Stdout, |text| text.red()).to_string(),
                };
                let recovered = answer.is_some_and(|answer| answer.recovered);
                let note = if recovered { " (from before the interruption)" } else { "" };
                let error = answer.and_then(|answer| answer.structured["error"]["message"].as_str());
                let error = error.map(|error| format!(": {}", shorten(error, 150))).unwrap_or_default();
                let spent = format!("${} of ${}", cost.normalized(), self.budget.normalized());
                let spent = spent.if_supports_color(Stream::Stdout, |text| text.dimmed()).to_string();
                writeln!(out, "  {mark} {} {outcome}{note}{error}  {spent}", call.tool)
            }
            Event::Judged(verdict) => {
                let failed = verdict.acceptance.iter().filter(|accepted| !accepted.passed).count();
                let commands = verdict.acceptance.len();
                let _ = writeln!(
                    out,
                    "  verdict {}, {} of {commands} acceptance commands passed: {}",
                    verdict.verdict,
                    commands - failed,
                    verdict.decision
                );
                for finding in &verdict.findings {
                    let _ = writeln!(out, "    - {}", shorten(finding, 200));
                }
                Ok(())
            }
            Event::Planned { members, default_reason } => {
                let reason = default_reason.map(|reason| format!(" ({})", shorten(reason, 300))).unwrap_or_default();
                let _ = writeln!(out, "{} parts{reason}", members.len());
                for member in *members {
                    let on: Vec<&str> = member.depends_on.iter().map(|on| members[*on].id.as_str()).collect();
                    let on = if on.is_empty() { String::new() } else { format!(", after {}", on.join(", ")) };
                    let task = shorten(member.task.lines().next().unwrap_or_default(), 80);
                    let _ = writeln!(out, "  {} by {}{on}: {task}", member.id, member.role.name);
                }
                Ok(())
            }
            Event::Member { name, event } => match event {
                Event::Iteration(number) => writeln!(out, "  [{name}] iteration {number}"),
                Event::Judged(verdict) => writeln!(out, "  [{name}] verdict {}: {}", verdict.verdict, verdict.decision),
                Event::Ended { ending, reason, cost, .. } => {
                    let reason = shorten(reason, 300);
                    writeln!(out, "  [{name}] {}: {reason}  ${}", ending.as_str(), cost.normalized())
                }
                // What they do step by step stands in their own sessions.
                _ => Ok(()),
            },
            Event::Merged { name, conflicts: [] } => writeln!(out, "  [{name}] merged"),
            Event::Merged { name, conflicts } => {
                writeln!(out, "  [{name}] conflicts in {}: given back", shorten(&conflicts.join(", "), 300))
            }
            Event::FellBack { reason } => writeln!(out, "one agent does it after all: {}", shorten(reason, 300)),
            Event::Ended { ending, reason, session, cost } => {
                let word = ending.as_str();
                let word = if *ending == Ending::Done {
                    word.if_supports_color(Stream::Stdout, |text| text.green()).to_string()
                } else {
                    word.if_supports_color(Stream::Stdout, |text| text.red()).to_string()
                };
                let commit = session.commit.as_deref().map(|commit| format!("\n  {commit}")).unwrap_or_default();
                let reason = shorten(reason, 1_000);
                writeln!(out, "{word}: {reason}{commit}\n  ${} in {} calls", cost.normalized(), self.calls)
            }
        };
        let _ = out.flush();
    }
}

/// One JSON object a line for each thing that happens.
pub struct JsonEvents;

impl JsonEvents {
    /// Writes to stdout what happens from now on.
    #[must_use]
    pub fn new(history: &History) -> Self {
        let session = &history.session;
        line(&json!({ "event": "session", "id": session.id, "branch": session.branch, "phase": session.phase.as_str(),
            "iteration": session.iteration, "budget_usd": session.budget_usd }));
        Self
    }
}

impl Watch for JsonEvents {
    fn event(&mut self, event: &Event<'_>) {
        line(&json_of(event));
    }
}

fn json_of(event: &Event<'_>) -> Value {
    match event {
        Event::Prepared { worktree, branch } => {
            json!({ "event": "prepared", "worktree": worktree, "branch": branch })
        }
        Event::Iteration(number) => json!({ "event": "iteration", "number": number }),
        Event::Said(text) => json!({ "event": "said", "text": text }),
        Event::Calling { tool } => json!({ "event": "calling", "tool": tool }),
        Event::Called { call, cost } => json!({ "event": "called", "call": call, "cost_usd": cost }),
        Event::Judged(verdict) => json!({ "event": "verdict", "verdict": verdict }),
        Event::Ended { ending, reason, session, cost } => {
            json!({ "event": "end", "ending": ending, "reason": reason,
                "commit": session.commit, "branch": session.branch, "cost_usd": cost })
        }
        Event::Planned { members, default_reason } => {
            let parts: Vec<Value> = members
                .iter()
                .map(|member| {
                    let on: Vec<&str> = member.depends_on.iter().map(|on| members[*on].id.as_str()).collect();
                    json!({ "id": member.id, "role": member.role.name, "task": member.task, "depends_on": on,
                            "session": member.session })
                })
                .collect();
            json!({ "event": "planned", "parts": parts, "default_reason": default_reason })
        }
        Event::Member { name, event } => json!({ "event": "member", "member": name, "of": json_of(event) }),
        Event::Merged { name, conflicts } => json!({ "event": "merged", "member": name, "conflicts": conflicts }),
        Event::FellBack { reason } => json!({ "event": "fallback", "reason": reason }),
    }
}

fn line(value: &Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{value}");
    let _ = out.flush();
}

/// Returns how the acceptance commands ended, a line each.
pub(super) fn acceptance(accepted: &[Accepted]) -> String {
    let mark = |passed| if passed { "✓" } else { "✗" };
    let lines = accepted.iter().map(|one| {
        format!("  {} `{}` {} after {} ms\n", mark(one.passed), printable(&one.command), one.ended, one.duration_ms)
    });
    lines.collect()
}
