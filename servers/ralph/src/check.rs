//! What a check is, and what checks find.

pub mod guardrail;
pub mod security;
pub mod syntax;
pub mod trees;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::refusal::Refusal;

use crate::language::SourceType;

/// Findings kept of one check of one file; an agent that fixes these sees the others next time.
pub const FINDINGS_MAX: usize = 20;

/// A check that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Whether the file can be parsed.
    Syntax,
    /// Whether it has secrets, or structures that must not be in code.
    Security,
    /// Whether it tells checkers to look away, or leaves tests out.
    Guardrail,
    /// Whether it has the form that the operator's formatter gives it.
    Formatting,
    /// What the operator's linters report.
    Linting,
    /// What the operator's type checkers report.
    TypeChecking,
    /// Whether the operator's tests pass.
    Tests,
}

/// What verification ends with; later ones outweigh earlier ones, except that `skipped` beside a `pass` is a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No check applies; not a pass.
    Skipped,
    /// Verified.
    Pass,
    /// A check could not run; not a pass.
    Inconclusive,
    /// Fixable: fix it and verify again.
    Fail,
    /// A guardrail or security rule: stop, a human decides.
    Blocked,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Stable name of the rule, such as syntax.missing
    pub rule: String,
    /// The file, where it is another than the one that was verified
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What is wrong
    pub message: String,
    /// Counted from 1; 0 when the whole file is meant
    pub line: usize,
    /// In characters, counted from 1; 0 when the whole file is meant
    pub column: usize,
    /// The line, shortened around the column
    pub excerpt: String,
    /// What to do
    pub hint: String,
    /// error blocks, warning fails, note does neither
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// Number in the Common Weakness Enumeration
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwe: Option<String>,
    /// Of a secret: the first 12 digits of its SHA-256
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

/// What one check of one file ended with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckResult {
    /// Which check
    pub check: Check,
    /// How it ended
    pub verdict: Verdict,
    /// At most 20
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Findings beyond those listed
    #[serde(default, skip_serializing_if = "is_zero")]
    pub findings_omitted: usize,
    /// Findings that stood there before and do not count
    #[serde(default, skip_serializing_if = "is_zero")]
    pub existing: usize,
    /// Why it is inconclusive
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Check {
    /// Every check, in the order in which they run.
    pub const ALL: [Self; 7] = [
        Self::Syntax,
        Self::Security,
        Self::Guardrail,
        Self::Formatting,
        Self::Linting,
        Self::TypeChecking,
        Self::Tests,
    ];

    /// Returns the name as in arguments and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Security => "security",
            Self::Guardrail => "guardrail",
            Self::Formatting => "formatting",
            Self::Linting => "linting",
            Self::TypeChecking => "type_checking",
            Self::Tests => "tests",
        }
    }

    /// Returns whether it is made of the operator's commands.
    #[must_use]
    pub fn is_command(self) -> bool {
        matches!(self, Self::Formatting | Self::Linting | Self::TypeChecking | Self::Tests)
    }

    /// Returns what one run of it is charged as.
    #[must_use]
    pub fn sku(self) -> &'static str {
        match self {
            Self::Syntax => syntax::SKU,
            Self::Security => security::SKU,
            Self::Guardrail => guardrail::SKU,
            Self::Formatting => "ralph.check.formatting",
            Self::Linting => "ralph.check.linting",
            Self::TypeChecking => "ralph.check.type_checking",
            Self::Tests => "ralph.check.tests",
        }
    }

    /// Reads which checks are wanted; all of them when nothing is said.
    ///
    /// # Errors
    ///
    /// `unknown_check` for a name that is none, `invalid_arguments` for an empty list, which would verify nothing.
    pub fn wanted(names: Option<&[String]>) -> Result<Vec<Self>, Refusal> {
        let Some(names) = names else { return Ok(Self::ALL.to_vec()) };
        if names.is_empty() {
            return Err(Refusal::invalid_arguments("`checks` is empty", "name checks, or leave `checks` out for all"));
        }
        let mut wanted = Vec::new();
        for name in names {
            let check = Self::ALL.into_iter().find(|check| check.name() == name).ok_or_else(|| {
                Refusal::refused(
                    "unknown_check",
                    format!("there is no check {}", crate::roots::quoted(name)),
                    format!("choose from {}", Self::ALL.map(Self::name).join(", ")),
                )
            })?;
            if !wanted.contains(&check) {
                wanted.push(check);
            }
        }
        wanted.sort_unstable();
        Ok(wanted)
    }

    /// Returns the hash of everything that the result of this check of `content` depends on.
    #[must_use]
    pub fn key(self, content: &ContentHash, source: Option<SourceType>) -> ContentHash {
        let (rules, tool) = match self {
            Self::Syntax => (syntax::RULES_VERSION, source.map_or("", |source| syntax::tool(source.language))),
            Self::Security => (security::RULES_VERSION, security::TOOL),
            // Its grammars are those of `syntax`, beside the file's name, which tells whether it holds tests.
            Self::Guardrail => (guardrail::RULES_VERSION, source.map_or("", |source| syntax::tool(source.language))),
            // Commands have keys of their own, which also depend on other files.
            Self::Formatting | Self::Linting | Self::TypeChecking | Self::Tests => (0, ""),
        };
        ContentHash::builder("ralph.result")
            .field(content.as_bytes())
            .field(source.map_or("", |source| source.language.name()).as_bytes())
            .field(source.map_or("", |source| source.module.name()).as_bytes())
            .field(self.name().as_bytes())
            .field(&rules.to_be_bytes())
            .field(tool.as_bytes())
            .finish()
    }
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 5] = [Self::Pass, Self::Fail, Self::Blocked, Self::Skipped, Self::Inconclusive];

    /// Returns the name as in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Pass => "pass",
            Self::Inconclusive => "inconclusive",
            Self::Fail => "fail",
            Self::Blocked => "blocked",
        }
    }

    /// Puts several verdicts together: the gravest counts, and none at all is `skipped`.
    pub fn all(verdicts: impl IntoIterator<Item = Self>) -> Self {
        verdicts.into_iter().max().unwrap_or(Self::Skipped)
    }
}

impl CheckResult {
    /// A check that could not run.
    #[must_use]
    pub fn inconclusive(check: Check, reason: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Inconclusive,
            findings: Vec::new(),
            findings_omitted: 0,
            existing: 0,
            reason: Some(reason.into()),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::{Language, ModuleKind};

    #[test]
    fn gravest_verdict_counts() {
        use Verdict::*;
        assert_eq!(Verdict::all([]), Skipped);
        assert_eq!(Verdict::all([Skipped, Skipped]), Skipped);
        assert_eq!(Verdict::all([Skipped, Pass]), Pass);
        assert_eq!(Verdict::all([Pass, Inconclusive]), Inconclusive);
        assert_eq!(Verdict::all([Inconclusive, Fail, Pass]), Fail);
        assert_eq!(Verdict::all([Blocked, Fail]), Blocked);
    }

    #[test]
    fn no_check_is_not_all_checks() {
        assert_eq!(Check::wanted(Some(&[])).unwrap_err().code, "invalid_arguments");
        assert_eq!(Check::wanted(Some(&["syntax".into(), "lint".into()])).unwrap_err().code, "unknown_check");
        assert_eq!(Check::wanted(Some(&["syntax".into(), "syntax".into()])).unwrap(), [Check::Syntax]);
        assert_eq!(Check::wanted(None).unwrap(), Check::ALL);
    }

    #[test]
    fn key_depends_on_content_and_language() {
        let content = ContentHash::of(b"let x");
        let source = SourceType::from(Language::JavaScript);
        let key = Check::Syntax.key(&content, Some(source));
        assert_ne!(key, Check::Syntax.key(&content, Some(SourceType::from(Language::TypeScript))));
        assert_ne!(key, Check::Syntax.key(&content, Some(SourceType { module: ModuleKind::Script, ..source })));
        assert_ne!(key, Check::Syntax.key(&ContentHash::of(b"let y"), Some(source)));
    }
}
