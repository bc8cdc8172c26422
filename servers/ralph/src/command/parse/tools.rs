//! The forms of known tools.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Format, Level, Parsed, Reported, json, level, number_of, text_of};

/// Reads `text` as the output of a tool with this form.
pub(super) fn read(format: Format, text: &str) -> Result<Parsed, String> {
    match format {
        Format::Sarif => sarif(text),
        Format::Regex => Err("a regular expression has no form".to_owned()),
        Format::Github => Ok(found(text.lines().filter_map(annotation).collect())),
        Format::Ruff => ruff(text),
        Format::Mypy => mypy(text),
        Format::Pyright => pyright(text),
        Format::Pytest => pytest(text),
        Format::Eslint => eslint(text),
        Format::Jest => jest(text),
        Format::Cargo => cargo(text),
        Format::CargoTest => cargo_test(text),
        Format::GoTest => go_test(text),
        Format::Shellcheck => shellcheck(text),
    }
}

fn found(findings: Vec<Reported>) -> Parsed {
    Parsed { findings, ..Parsed::default() }
}

fn list<'value>(value: &'value Value, what: &str) -> Result<&'value Vec<Value>, String> {
    value.as_array().ok_or_else(|| format!("no list of {what}"))
}

fn sarif(text: &str) -> Result<Parsed, String> {
    let log = json(text)?;
    let runs = list(&log["runs"], "runs")?;
    let results = runs.iter().flat_map(|run| run["results"].as_array().into_iter().flatten());
    let findings = results.filter(|result| result["kind"].as_str().is_none_or(|kind| kind == "fail")).map(|result| {
        let place = &result["locations"][0]["physicalLocation"];
        let uri = place["artifactLocation"]["uri"].as_str();
        Reported {
            path: uri.map(|uri| uri.strip_prefix("file://").unwrap_or(uri).to_owned()),
            line: number_of(&place["region"], "startLine"),
            column: number_of(&place["region"], "startColumn"),
            rule: text_of(result, "ruleId"),
            message: text_of(&result["message"], "text"),
            level: level(result["level"].as_str().unwrap_or("warning")),
        }
    });
    Ok(found(findings.collect()))
}

fn annotation(line: &str) -> Option<Reported> {
    let (head, message) = line.strip_prefix("::")?.split_once("::")?;
    let (kind, properties) = head.split_once(' ').unwrap_or((head, ""));
    let property = |name: &str| {
        properties
            .split(',')
            .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
            .map(|(_, value)| value)
    };
    let number = |name: &str| property(name).and_then(|value| value.parse().ok()).unwrap_or(0);
    matches!(kind, "error" | "warning" | "notice").then(|| Reported {
        path: property("file").map(str::to_owned),
        line: number("line"),
        column: number("col"),
        rule: property("title").unwrap_or_default().to_owned(),
        message: message.replace("%0A", "\n").replace("%25", "%"),
        level: if kind == "error" { Level::Error } else { Level::Warning },
    })
}

fn ruff(text: &str) -> Result<Parsed, String> {
    let diagnostics = json(text)?;
    let findings = list(&diagnostics, "diagnostics")?.iter().map(|diagnostic| Reported {
        path: diagnostic["filename"].as_str().map(str::to_owned),
        line: number_of(&diagnostic["location"], "row"),
        column: number_of(&diagnostic["location"], "column"),
        rule: diagnostic["code"].as_str().unwrap_or("syntax").to_owned(),
        message: text_of(diagnostic, "message"),
        level: Level::Error,
    });
    Ok(found(findings.collect()))
}

fn mypy(text: &str) -> Result<Parsed, String> {
    let mut findings = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let diagnostic = json(line)?;
        findings.push(Reported {
            path: diagnostic["file"].as_str().map(str::to_owned),
            line: number_of(&diagnostic, "line"),
            // Counted from 0 there.
            column: diagnostic["column"].as_i64().and_then(|column| usize::try_from(column + 1).ok()).unwrap_or(0),
            rule: text_of(&diagnostic, "code"),
            message: text_of(&diagnostic, "message"),
            level: level(diagnostic["severity"].as_str().unwrap_or("error")),
        });
    }
    Ok(found(findings))
}

fn pyright(text: &str) -> Result<Parsed, String> {
    let report = json(text)?;
    let findings = list(&report["generalDiagnostics"], "diagnostics")?.iter().map(|diagnostic| {
        let start = &diagnostic["range"]["start"];
        Reported {
            path: diagnostic["file"].as_str().or(diagnostic["uri"].as_str()).map(str::to_owned),
            line: start["line"].as_u64().map_or(0, |line| usize::try_from(line + 1).unwrap_or(0)),
            column: start["character"].as_u64().map_or(0, |column| usize::try_from(column + 1).unwrap_or(0)),
            rule: text_of(diagnostic, "rule"),
            message: text_of(diagnostic, "message"),
            level: level(diagnostic["severity"].as_str().unwrap_or("error")),
        }
    });
    Ok(found(findings.collect()))
}

fn eslint(text: &str) -> Result<Parsed, String> {
    let report = json(text)?;
    let files = list(&report, "files")?;
    let mut parsed = Parsed::default();
    for file in files {
        let path = text_of(file, "filePath");
        for message in list(&file["messages"], "messages")? {
            parsed.findings.push(Reported {
                path: Some(path.clone()),
                line: number_of(message, "line"),
                column: number_of(message, "column"),
                rule: message["ruleId"].as_str().unwrap_or("fatal").to_owned(),
                message: text_of(message, "message"),
                level: if message["severity"] == 1 { Level::Warning } else { Level::Error },
            });
        }
        parsed.covered.get_or_insert_with(BTreeSet::new).insert(path);
    }
    parsed.covered.get_or_insert_with(BTreeSet::new);
    Ok(parsed)
}

fn shellcheck(text: &str) -> Result<Parsed, String> {
    let report = json(text)?;
    let findings = list(&report["comments"], "comments")?.iter().map(|comment| Reported {
        path: comment["file"].as_str().map(str::to_owned),
        line: number_of(comment, "line"),
        column: number_of(comment, "column"),
        rule: format!("SC{}", number_of(comment, "code")),
        message: text_of(comment, "message"),
        level: level(comment["level"].as_str().unwrap_or("error")),
    });
    Ok(found(findings.collect()))
}

/// Reads one line of cargo's as a compiler's message.
fn compiler_message(line: &str) -> Option<Reported> {
    let record: Value =
        serde_json::from_str(line).ok().filter(|record: &Value| record["reason"] == "compiler-message")?;
    let message = &record["message"];
    let spans = message["spans"].as_array().map(Vec::as_slice).unwrap_or_default();
    let span = spans.iter().find(|span| span["is_primary"] == true).or(spans.first());
    // A summary such as "3 warnings emitted" is about nothing in particular.
    span?;
    Some(Reported {
        path: span.and_then(|span| span["file_name"].as_str()).map(str::to_owned),
        line: span.map_or(0, |span| number_of(span, "line_start")),
        column: span.map_or(0, |span| number_of(span, "column_start")),
        rule: message["code"]["code"].as_str().unwrap_or("rustc").to_owned(),
        message: text_of(message, "message"),
        level: level(message["level"].as_str().unwrap_or("error")),
    })
}

fn cargo(text: &str) -> Result<Parsed, String> {
    // Without the record of its end the build broke off, and what was not compiled was not checked.
    let finished =
        |line: &str| serde_json::from_str::<Value>(line).is_ok_and(|record| record["reason"] == "build-finished");
    if !text.lines().any(finished) {
        return Err("cargo did not say that the build is finished".to_owned());
    }
    let mut findings: Vec<Reported> = text.lines().filter_map(compiler_message).collect();
    // The same file is compiled for the library and for its tests.
    let mut seen = BTreeSet::new();
    findings
        .retain(|finding| seen.insert((finding.path.clone(), finding.line, finding.column, finding.message.clone())));
    Ok(found(findings))
}

fn cargo_test(text: &str) -> Result<Parsed, String> {
    let mut parsed = cargo(text)?;
    // Warnings are clippy's business.
    parsed.findings.retain(|finding| finding.level == Level::Error);
    let mut run = 0;
    for line in text.lines() {
        if let Some(failed) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            parsed.findings.push(failed_test(failed, None, "the test failed"));
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            let count = |name: &str| {
                let part = counts.split([';', '.']).map(str::trim).find_map(|part| part.strip_suffix(name));
                part.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
            };
            run += count("passed") + count("failed");
        }
    }
    parsed.tests_run = Some(run);
    Ok(parsed)
}

fn failed_test(name: &str, path: Option<String>, message: &str) -> Reported {
    let message = if name.is_empty() { message.to_owned() } else { format!("{name}: {message}") };
    Reported { path, line: 0, column: 0, rule: "failed".to_owned(), message, level: Level::Error }
}

fn pytest(text: &str) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    for line in text.lines() {
        let failed = line.strip_prefix("FAILED ").or_else(|| line.strip_prefix("ERROR "));
        if let Some((place, reason)) = failed.map(|rest| rest.split_once(" - ").unwrap_or((rest, "the test failed"))) {
            let (path, name) = place.split_once("::").unwrap_or((place, ""));
            parsed.findings.push(failed_test(name, Some(path.to_owned()), reason));
        }
    }
    // "=== 1 failed, 2 passed, 1 skipped in 0.12s ===", with or without the frame.
    let summary = text.lines().rev().find_map(|line| {
        let line = line.trim_matches(|character: char| character == '=' || character.is_whitespace());
        line.rsplit_once(" in ").filter(|(_, time)| time.contains('s')).map(|(counts, _)| counts.to_owned())
    });
    let counts = summary.ok_or("pytest did not print its summary")?;
    let count = |name: &str| {
        let part = counts.split(',').find_map(|part| part.trim().strip_suffix(name));
        part.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    parsed.tests_run = Some(["passed", "failed", "xfailed", "xpassed"].into_iter().map(count).sum());
    Ok(parsed)
}

fn jest(text: &str) -> Result<Parsed, String> {
    // Tests print to stdout as well.
    let start = text.lines().position(|line| line.starts_with('{')).ok_or("no report")?;
    let report = json(&text.lines().skip(start).collect::<Vec<_>>().join("\n"))?;
    let mut parsed = Parsed::default();
    for file in list(&report["testResults"], "testResults")? {
        let path = Some(text_of(file, "name"));
        let assertions = list(&file["assertionResults"], "assertionResults")?;
        let failed = assertions.iter().filter(|assertion| assertion["status"] == "failed");
        let before = parsed.findings.len();
        parsed.findings.extend(failed.map(|assertion| {
            let message = assertion["failureMessages"][0].as_str().unwrap_or("the test failed");
            let first = message.lines().next().unwrap_or_default();
            Reported {
                line: number_of(&assertion["location"], "line"),
                ..failed_test(&text_of(assertion, "fullName"), path.clone(), first)
            }
        }));
        if file["status"] == "failed" && parsed.findings.len() == before {
            let message = text_of(file, "message");
            parsed.findings.push(failed_test("", path, message.lines().next().unwrap_or("the file cannot be run")));
        }
    }
    let count = |name: &str| report[name].as_u64().ok_or_else(|| format!("no {name}"));
    parsed.tests_run = Some(count("numPassedTests")? + count("numFailedTests")?);
    Ok(parsed)
}

fn go_test(text: &str) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut run = 0;
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let event = json(line)?;
        let (action, test) = (text_of(&event, "Action"), text_of(&event, "Test"));
        match action.as_str() {
            "pass" if !test.is_empty() => run += 1,
            "fail" if !test.is_empty() => {
                run += 1;
                parsed.findings.push(failed_test(&test, None, "the test failed"));
            }
            "build-fail" => {
                parsed.findings.push(failed_test(&text_of(&event, "ImportPath"), None, "it does not build"));
            }
            _ => {}
        }
    }
    parsed.tests_run = Some(run);
    Ok(parsed)
}
