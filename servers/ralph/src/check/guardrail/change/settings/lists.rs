//! Files whose every line leaves something out.

use super::files::is_foreign;
use super::{BASELINE, EXCLUDED, FileChange, Findings};

/// Files whose every line leaves something out.
pub(super) fn lists(file: &FileChange, findings: &mut Findings) {
    let name = file.name();
    let ignores = matches!(
        name,
        ".eslintignore"
            | ".prettierignore"
            | ".stylelintignore"
            | ".semgrepignore"
            | ".ruffignore"
            | ".trivyignore"
            | ".gitleaksignore"
            | ".bandit-ignore"
            | ".nycignore"
            | ".coverageignore"
            | ".hadolintignore"
            | ".markdownlintignore"
            | ".snyk"
            | ".trivyignore.yaml"
    );
    let records = matches!(
        name,
        ".secrets.baseline"
            | "eslint-suppressions.json"
            | ".rubocop_todo.yml"
            | "phpstan-baseline.neon"
            | "psalm-baseline.xml"
            | "detekt-baseline.xml"
            | "lint-baseline.xml"
            | ".mypy-baseline.txt"
            | "mypy-baseline.txt"
            | ".basedpyright/baseline.json"
            | ".betterer.results"
            | ".flake8-baseline"
            | "gosec-baseline.json"
    ) || file.path.ends_with(".basedpyright/baseline.json");
    if !ignores && !records {
        return;
    }
    let meant = |text: &str| -> Vec<String> {
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with(['#', ';']) && !line.starts_with("//"))
            .map(str::to_owned)
            .collect()
    };
    let (old, new) = (meant(file.before_text()), meant(file.after_text()));
    if records {
        if new.len() > old.len() {
            findings.add(
                &BASELINE,
                &file.path,
                file.after_text(),
                0,
                format!("{} lines of known findings are now {}", old.len(), new.len()),
            );
        }
        return;
    }
    for line in new.iter().filter(|line| !old.contains(line) && !is_foreign(line) && !line.starts_with('!')) {
        let at = file.after_text().lines().position(|text| text.trim() == line).map_or(0, |at| at + 1);
        findings.add(&EXCLUDED, &file.path, file.after_text(), at, format!("{name} now leaves out {line}"));
    }
}
