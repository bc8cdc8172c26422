//! What a command printed, read into findings; what does not have its form is no result.

mod tools;

use std::collections::BTreeSet;

use anyhow::Context;
use regex::bytes::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most findings that are read of one output; an agent that fixes these sees the others next time.
const FINDINGS_MAX: usize = 5_000;

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// SARIF 2.1.0
    Sarif,
    /// Lines that a regular expression with named groups matches
    Regex,
    /// `::error file=…,line=…::message`, as for GitHub's annotations
    Github,
    /// `ruff check --output-format=json`
    Ruff,
    /// `mypy --output=json`
    Mypy,
    /// `pyright --outputjson`
    Pyright,
    /// `pytest -rfE`
    Pytest,
    /// `eslint --format=json`
    Eslint,
    /// `jest --json`, `vitest --reporter=json`
    Jest,
    /// `cargo … --message-format=json`
    Cargo,
    /// `cargo test --message-format=json`
    CargoTest,
    /// `go test -json`
    GoTest,
    /// `shellcheck --format=json1`
    Shellcheck,
}

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Reported, and no failure when the command itself takes it for none.
    Warning,
    /// A failure.
    Error,
}

/// One finding as the tool reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// The file, when it is in one.
    pub path: Option<String>,
    /// Counted from 1; 0 when unknown.
    pub line: usize,
    /// Counted from 1; 0 when unknown.
    pub column: usize,
    /// The tool's name for the rule; may be empty.
    pub rule: String,
    /// What is wrong.
    pub message: String,
    /// How grave.
    pub level: Level,
}

/// What was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// In the order of the output.
    pub findings: Vec<Reported>,
    /// Of a test runner: how many tests were run.
    pub tests_run: Option<u64>,
    /// Of a tool that lists every file that it looked at: which.
    pub covered: Option<BTreeSet<String>>,
}

/// How an output is read.
#[derive(Clone, Debug)]
pub enum Parser {
    /// By its form.
    Format(Format),
    /// Line by line.
    Regex(Regex),
}

impl Parser {
    /// Returns the parser of `format`, which is not [`Format::Regex`].
    #[must_use]
    pub fn of(format: Format) -> Self {
        Self::Format(format)
    }

    /// Compiles the operator's pattern.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn regex(pattern: &str) -> anyhow::Result<Self> {
        let regex = RegexBuilder::new(pattern)
            .unicode(false)
            .size_limit(1 << 20)
            .build()
            .context("`pattern` is no regular expression")?;
        anyhow::ensure!(
            regex.capture_names().flatten().any(|name| name == "message" || name == "path"),
            "`pattern` has neither a group `path` nor a group `message`"
        );
        Ok(Self::Regex(regex))
    }

    /// Names the parser and what it does, for the key of a cached result.
    #[must_use]
    pub fn identity(&self) -> String {
        /// Changes with whatever changes what is read.
        const VERSION: u32 = 1;
        match self {
            Self::Format(format) => format!("{VERSION} {format:?}"),
            Self::Regex(regex) => format!("{VERSION} {}", regex.as_str()),
        }
    }

    /// Reads what a command printed.
    ///
    /// # Errors
    ///
    /// Why it is not of the form.
    pub fn read(&self, stdout: &[u8], stderr: &[u8]) -> Result<Parsed, String> {
        let mut parsed = match self {
            Self::Regex(regex) => {
                // Formatters and Go's tools write their findings to stderr.
                let lines = [stdout, stderr].into_iter().flat_map(|output| output.split(|byte| *byte == b'\n'));
                Parsed { findings: matches(regex, lines), ..Parsed::default() }
            }
            Self::Format(format) => tools::read(*format, &String::from_utf8_lossy(stdout))?,
        };
        parsed.findings.truncate(FINDINGS_MAX);
        Ok(parsed)
    }
}

fn matches<'text>(regex: &Regex, lines: impl Iterator<Item = &'text [u8]>) -> Vec<Reported> {
    let read = |line: &[u8]| {
        let captures = regex.captures(line.strip_suffix(b"\r").unwrap_or(line))?;
        let text =
            |name: &str| captures.name(name).map(|found| String::from_utf8_lossy(found.as_bytes()).trim().to_owned());
        let number = |name: &str| text(name).and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
        Some(Reported {
            path: text("path"),
            line: number("line"),
            column: number("column"),
            rule: text("rule").unwrap_or_default(),
            message: text("message").unwrap_or_else(|| "not as the tool would have it".to_owned()),
            level: level(text("severity").as_deref().unwrap_or("error")),
        })
    };
    lines.filter_map(read).collect()
}

/// Reads a severity by the names that tools have for it; an unknown one is grave.
fn level(name: &str) -> Level {
    match name.to_ascii_lowercase().as_str() {
        "warning" | "warn" | "note" | "information" | "info" | "style" | "hint" | "none" => Level::Warning,
        _ => Level::Error,
    }
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text.trim()).map_err(|error| format!("not JSON: {error}"))
}

fn text_of(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

fn number_of(value: &Value, name: &str) -> usize {
    value[name].as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
