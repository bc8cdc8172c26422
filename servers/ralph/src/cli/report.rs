//! What was found, for people and for programs.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::json;

use crate::check::{Finding, Verdict};
use crate::sarif;
use crate::tools::verify_changes::ChangesReport;
use crate::verify::FileReport;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people, and for agents that read stderr
    Text,
    /// One object
    Json,
    /// SARIF 2.1.0
    Sarif,
}

/// The results of one run; of the files that pass, only their number.
pub struct Summary {
    format: Format,
    counts: BTreeMap<Verdict, usize>,
    files: Vec<FileReport>,
}

impl Summary {
    /// Begins a summary.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format, counts: BTreeMap::new(), files: Vec::new() }
    }

    /// Adds what was found out about one file.
    pub fn add(&mut self, report: FileReport) {
        *self.counts.entry(report.verdict).or_default() += 1;
        if !matches!(report.verdict, Verdict::Pass | Verdict::Skipped) {
            self.files.push(report);
        }
    }

    /// Returns the gravest verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        Verdict::all(self.counts.keys().copied())
    }

    /// Writes everything to stdout, where a reader that went away is no error.
    ///
    /// # Errors
    ///
    /// Why it could not be written.
    pub fn print(&mut self) -> io::Result<()> {
        self.files.sort_by(|left, right| left.path.cmp(&right.path));
        to_stdout(|out| match self.format {
            Format::Text => self.text(out),
            Format::Json => {
                let counts: BTreeMap<&str, usize> =
                    self.counts.iter().map(|(verdict, count)| (verdict.name(), *count)).collect();
                writeln!(out, "{}", json!({ "verdict": self.verdict(), "counts": counts, "files": self.files }))
            }
            Format::Sarif => writeln!(out, "{}", json!(sarif::log(&self.files))),
        })
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for file in &self.files {
            let path = plain(&file.path);
            if let Some(reason) = &file.reason {
                writeln!(out, "{path}: {}: {}", file.verdict.name(), plain(reason))?;
            }
            for check in &file.checks {
                for finding in &check.findings {
                    write_finding(out, finding.path.as_deref().unwrap_or(&file.path), finding)?;
                }
                if check.findings_omitted > 0 {
                    writeln!(out, "{path}: {} more findings of {}", check.findings_omitted, check.check.name())?;
                }
            }
        }
        let counts: Vec<String> =
            self.counts.iter().map(|(verdict, count)| format!("{count} {}", verdict.name())).collect();
        let counts = if counts.is_empty() { "no file".to_owned() } else { counts.join(", ") };
        writeln!(out, "{}: {counts}", self.verdict().name())
    }
}

/// Writes what was found of a change to stdout, where a reader that went away is no error.
///
/// # Errors
///
/// Why it could not be written.
pub fn print_change(report: &ChangesReport, format: Format) -> io::Result<()> {
    to_stdout(|out| match format {
        Format::Text => {
            for (path, finding) in report.added() {
                write_finding(out, path, finding)?;
            }
            writeln!(out, "{}: {}", report.verdict.name(), plain(&report.summary()))
        }
        Format::Json => writeln!(out, "{}", json!(report)),
        Format::Sarif => writeln!(out, "{}", json!(report.sarif())),
    })
}

fn write_finding(out: &mut dyn Write, path: &str, finding: &Finding) -> io::Result<()> {
    writeln!(
        out,
        "{}:{}:{}: {} [{}]\n    {}\n    {}",
        plain(path),
        finding.line,
        finding.column,
        plain(&finding.message),
        finding.rule,
        plain(&finding.excerpt),
        plain(&finding.hint),
    )
}

fn to_stdout(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Returns `text` without anything that a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}
