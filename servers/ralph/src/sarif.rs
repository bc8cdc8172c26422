//! Findings as SARIF 2.1.0, the form that code hosts and editors read.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::check::{Finding, Verdict};
use crate::verify::FileReport;

/// Where the schema of the form is.
const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// Returns one run with the findings of `files`.
///
/// A file that no check could tell about is a notification, so that nobody takes its silence for a pass; then
/// `executionSuccessful` is false.
#[must_use]
pub fn log(files: &[FileReport]) -> Map<String, Value> {
    let found: Vec<(&str, &Finding, Option<&str>)> = files
        .iter()
        .flat_map(|file| file.checks.iter().flat_map(|check| &check.findings).map(move |finding| (file, finding)))
        .map(|(file, finding)| (finding.path.as_deref().unwrap_or(&file.path), finding, None))
        .collect();
    run(&found, &files.iter().filter_map(notification).collect::<Vec<_>>())
}

/// Returns one run with the findings of a change: each with its file, and `new` or `unchanged`; `doubt` is why it is
/// no pass, beside what was found.
#[must_use]
pub fn of_change(findings: &[(String, Finding, &str)], doubt: Option<(Verdict, &str)>) -> Map<String, Value> {
    let found: Vec<(&str, &Finding, Option<&str>)> =
        findings.iter().map(|(path, finding, state)| (path.as_str(), finding, Some(*state))).collect();
    let notification = doubt.map(|(verdict, reason)| {
        let level = if verdict == Verdict::Skipped { "note" } else { "error" };
        json!({ "level": level, "message": { "text": format!("{}: {reason}", verdict.name()) } })
    });
    run(&found, notification.as_slice())
}

fn run(found: &[(&str, &Finding, Option<&str>)], notifications: &[Value]) -> Map<String, Value> {
    let mut rules: BTreeMap<&str, &Finding> = BTreeMap::new();
    for (_, finding, _) in found {
        rules.entry(&finding.rule).or_insert(finding);
    }
    let places: BTreeMap<&str, usize> = rules.keys().enumerate().map(|(place, rule)| (*rule, place)).collect();
    let results: Vec<Value> = found
        .iter()
        .map(|(path, finding, state)| {
            let mut result = result(path, finding, &places);
            if let Some(state) = state {
                result["baselineState"] = json!(state);
            }
            result
        })
        .collect();
    let run = json!({
        "tool": { "driver": {
            "name": "mcp-ralph",
            "semanticVersion": env!("CARGO_PKG_VERSION"),
            "rules": rules.values().map(|finding| rule(finding)).collect::<Vec<_>>(),
        }},
        "columnKind": "unicodeCodePoints",
        "invocations": [{
            "executionSuccessful": notifications.is_empty(),
            "toolExecutionNotifications": notifications,
        }],
        "results": results,
    });
    Map::from_iter([
        ("$schema".to_owned(), json!(SCHEMA)),
        ("version".to_owned(), json!("2.1.0")),
        ("runs".to_owned(), json!([run])),
    ])
}

fn rule(finding: &Finding) -> Value {
    let mut properties = Map::new();
    if let Some(cwe) = &finding.cwe {
        properties.insert("tags".to_owned(), json!([format!("external/cwe/{}", cwe.to_ascii_lowercase())]));
    }
    // Of a secret the message says which one; the rule is about all of them.
    let what = finding.message.split(':').next().unwrap_or_default();
    json!({
        "id": finding.rule,
        "shortDescription": { "text": if finding.fingerprint.is_some() { what } else { &finding.message } },
        "help": { "text": finding.hint },
        "defaultConfiguration": { "level": level(finding) },
        "properties": properties,
    })
}

fn result(path: &str, finding: &Finding, places: &BTreeMap<&str, usize>) -> Value {
    let mut result = json!({
        "ruleId": finding.rule,
        "ruleIndex": places.get(finding.rule.as_str()),
        "level": level(finding),
        "message": { "text": format!("{}; {}", finding.message, finding.hint) },
    });
    let mut physical = json!({ "artifactLocation": { "uri": uri(path) } });
    // Line 0 means the whole file.
    if finding.line > 0 {
        physical["region"] = json!({
            "startLine": finding.line,
            "startColumn": finding.column.max(1),
            "snippet": { "text": finding.excerpt },
        });
    }
    // What is in no file has no place.
    if !path.is_empty() {
        result["locations"] = json!([{ "physicalLocation": physical }]);
    }
    if let Some(fingerprint) = &finding.fingerprint {
        result["fingerprints"] = json!({ "secretSha256/v1": fingerprint });
    }
    result
}

fn notification(file: &FileReport) -> Option<Value> {
    let level = match file.verdict {
        Verdict::Inconclusive => "error",
        Verdict::Skipped => "note",
        Verdict::Fail | Verdict::Blocked if file.reason.is_some() => "error",
        _ => return None,
    };
    let reason = file.reason.as_deref().unwrap_or("not verified");
    Some(json!({
        "level": level,
        "message": { "text": format!("{}: {reason}", file.verdict.name()) },
        "locations": [{ "physicalLocation": { "artifactLocation": { "uri": uri(&file.path) } } }],
    }))
}

fn level(finding: &Finding) -> &'static str {
    match finding.severity.as_deref() {
        Some("warning") => "warning",
        Some("note") => "note",
        _ => "error",
    }
}

/// Returns `path` as a reference of a URI.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    // A colon in the first part would be taken for a scheme.
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~+@=,".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_a_reference_of_a_uri() {
        assert_eq!(uri("src/a b%.py"), "src/a%20b%25.py");
        assert_eq!(uri("c:/é"), "c%3A/%C3%A9");
    }
}
