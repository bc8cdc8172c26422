//! A run as it happens, and what it did in the end.

use std::io::Write;

use owo_colors::{OwoColorize, Stream};
use serde_json::Value;
use tollgate_shared::money::Money;
use tollgate_shared::receipt::Outcome;

use super::table::{shorten, table};
use crate::agent::{Progress, Turn, TurnResult};

/// Shows turns on a terminal as they happen.
pub struct LiveProgress<W> {
    out: W,
    turns: usize,
}

impl<W: Write> LiveProgress<W> {
    /// Writes to `out`; `turns` is how many there will be, as far as known.
    pub fn new(out: W, turns: usize) -> Self {
        Self { out, turns }
    }
}

impl<W: Write> Progress for LiveProgress<W> {
    fn begins(&mut self, number: usize, turn: &Turn) {
        if let Some(say) = &turn.say {
            let say = format!("“{}”", say.trim());
            let _ = writeln!(self.out, "\n  {}", say.if_supports_color(Stream::Stdout, |text| text.italic()));
        }
        let count = format!("{number:>2}/{}", self.turns);
        let _ = write!(self.out, "  {} {}", count.if_supports_color(Stream::Stdout, |text| text.dimmed()), turn.tool);
        let _ = self.out.flush();
    }

    fn ended(&mut self, _: usize, result: &TurnResult) {
        let (mark, word) = match result.outcome() {
            Outcome::Ok => ("✓", "ok"),
            Outcome::Refused => ("✋", "refused"),
            Outcome::Failed => ("✗", "failed"),
            Outcome::Cancelled => ("✗", "cancelled"),
        };
        let label = format!("{mark} {word}");
        let label = match result.outcome() {
            Outcome::Ok => label.if_supports_color(Stream::Stdout, |text| text.green()).to_string(),
            Outcome::Refused => label.if_supports_color(Stream::Stdout, |text| text.yellow()).to_string(),
            Outcome::Failed | Outcome::Cancelled => {
                label.if_supports_color(Stream::Stdout, |text| text.red()).to_string()
            }
        };
        let cost = result.receipt.as_ref().map(cost_label).unwrap_or_default();
        let cost = format!("  {cost}");
        let _ = writeln!(self.out, "  {label}{}", cost.if_supports_color(Stream::Stdout, |text| text.dimmed()));
        let said = summary(&result.answer);
        if !said.is_empty() {
            let _ = writeln!(self.out, "        {}", shorten(&said, 150));
        }
        if let Some(surprise) = &result.surprise {
            let surprise = format!("not as expected: {surprise}");
            let _ = writeln!(self.out, "        {}", surprise.if_supports_color(Stream::Stdout, |text| text.red()));
        }
    }
}

/// Returns a table of what each turn did and cost.
#[must_use]
pub fn run_table(turns: &[TurnResult]) -> String {
    let mut rows: Vec<Vec<String>> = turns
        .iter()
        .enumerate()
        .map(|(index, turn)| {
            let receipt = turn.receipt.as_ref();
            let code = turn.answer["error"]["code"].as_str().map_or_else(String::new, |code| format!(" {code}"));
            vec![
                (index + 1).to_string(),
                turn.tool.clone(),
                format!("{}{code}", turn.outcome().as_str()),
                receipt.map_or_else(String::new, |receipt| format!("{} ms", receipt.duration_ms)),
                receipt.map_or_else(String::new, |receipt| if receipt.cached { "cached" } else { "" }.to_owned()),
                receipt.map_or_else(String::new, |receipt| format!("${}", receipt.amount.normalized())),
            ]
        })
        .collect();
    let total: Money = turns.iter().filter_map(|turn| turn.receipt.as_ref()).map(|receipt| receipt.amount).sum();
    let totals = ["", "total", "", "", "", &format!("${}", total.normalized())].map(str::to_owned);
    rows.push(totals.to_vec());
    table(&["#", "tool", "outcome", "took", "", "cost"], &[0, 3, 5], &rows)
}

fn cost_label(receipt: &tollgate_shared::receipt::Receipt) -> String {
    let cost = if receipt.cached {
        format!("cached, ${} saved", receipt.saved.normalized())
    } else {
        format!("${}", receipt.amount.normalized())
    };
    format!("{cost}  {} ms", receipt.duration_ms)
}

/// Returns the gist of an answer: its error, or its first few plain fields.
fn summary(answer: &Value) -> String {
    if let Some(error) = answer.get("error") {
        return error["message"].as_str().unwrap_or_default().to_owned();
    }
    let Some(fields) = answer.as_object() else { return answer.to_string() };
    // What it cost stands beside it, and where it happened is the same in every line.
    let plain = fields.iter().filter(|(name, _)| !matches!(name.as_str(), "cost_usd" | "cached" | "repository" | "id"));
    let mut parts: Vec<String> = plain
        .filter_map(|(name, value)| match value {
            Value::String(text) if text.is_empty() => None,
            Value::String(text) if is_hash(text) => Some(format!("{name} {}", &text[..12])),
            Value::String(text) => Some(format!("{name} {}", shorten(text, 60))),
            Value::Number(_) | Value::Bool(true) => Some(format!("{name} {value}")),
            Value::Array(items) if !items.is_empty() => match name.as_str() {
                "rows" => Some(format!("rows {}", shorten(&value.to_string(), 90))),
                _ => Some(format!("{name} ×{}", items.len())),
            },
            _ => None,
        })
        .take(6)
        .collect();
    parts.extend(first_finding(answer));
    parts.join(" · ")
}

fn is_hash(text: &str) -> bool {
    text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns the first thing in `value` that has a place and a message: what an agent would look at first.
fn first_finding(value: &Value) -> Option<String> {
    match value {
        Value::Array(items) => items.iter().find_map(first_finding),
        Value::Object(fields) => match (fields.get("line"), fields.get("column"), fields.get("message")) {
            (Some(line), Some(column), Some(Value::String(message))) => Some(format!("{line}:{column} {message}")),
            _ => fields.values().find_map(first_finding),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn gist_has_the_finding_and_short_hashes() {
        let answer = json!({
            "repository": "/w", "verdict": "fail", "sha256": "ab".repeat(32), "cost_usd": "0.1", "cached": false,
            "checks": [{"findings": [{"line": 3, "column": 7, "message": "`}` is missing"}]}],
        });
        assert_eq!(summary(&answer), "verdict fail · sha256 abababababab · checks ×1 · 3:7 `}` is missing");
    }
}
