//! The names that a branch may be given.

use std::fmt;

use git2::Branch;
use tollgate_shared::refusal::Refusal;

use crate::fold::{folded, is_invisible};

/// The prefix of every branch's full name.
pub const BRANCH_PREFIX: &str = "refs/heads/";

/// Longest name: leaves room in a file name of 255 bytes for git's own `.lock` suffix.
const NAME_BYTES_MAX: usize = 200;

/// The name of a branch without `refs/heads/`, of a form that means one thing to every git command.
///
/// Says nothing about whether the branch exists or may be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchName(String);

impl BranchName {
    /// Reads a name that a caller gave.
    ///
    /// # Errors
    ///
    /// `invalid_branch_name` says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        match fault(text) {
            None => Ok(Self(text.to_owned())),
            Some(fault) => Err(Refusal::refused(
                "invalid_branch_name",
                format!("{} is not a branch name: {fault}", quoted(text)),
                "use the plain name of a branch, such as `feature/search`",
            )),
        }
    }

    /// Returns the name without `refs/heads/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name with `refs/heads/`.
    #[must_use]
    pub fn full(&self) -> String {
        format!("{BRANCH_PREFIX}{}", self.0)
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Returns `text` in backticks, cut and escaped so that it can stand in a message.
#[must_use]
pub fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 100;
    let shown: String = text
        .chars()
        .take(CHARS_MAX)
        .flat_map(|c| {
            let escape = c.is_control() || is_invisible(c);
            let escaped = escape.then(|| c.escape_unicode());
            escaped.into_iter().flatten().chain((!escape).then_some(c))
        })
        .collect();
    let rest = if text.chars().nth(CHARS_MAX).is_some() { "…" } else { "" };
    format!("`{shown}{rest}`")
}

fn fault(text: &str) -> Option<&'static str> {
    /// Parts of the ref name space: `heads/main` as a branch would make the short name `main` ambiguous.
    const NAMESPACES: &[&str] = &["refs", "heads", "tags", "remotes"];

    // Folded, as the rules compare names: `ＨＥＡＤ` is no name either. Not more than can be a name: folding ten megabytes
    // takes long.
    let plain = if text.len() > NAME_BYTES_MAX { String::new() } else { folded(text) };
    let first = plain.split('/').next().unwrap_or_default();
    if text.is_empty() {
        Some("it is empty")
    } else if text.len() > NAME_BYTES_MAX {
        Some("it is longer than 200 bytes")
    } else if text.starts_with('-') {
        Some("it starts with `-`, which programs take for an option")
    } else if text.chars().any(|c| c.is_control() || is_invisible(c) || c.is_whitespace()) {
        Some("it has a control, invisible or white-space character")
    } else if matches!(plain.as_str(), "head" | "@") || plain.ends_with("_head") {
        Some("git uses this name itself")
    } else if NAMESPACES.contains(&first) {
        Some("it starts with a part of git's own name space; leave `refs/heads/` out")
    } else if matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Some("it reads as the id of an object")
    } else if !Branch::name_is_valid(text).unwrap_or(false) {
        Some("git does not allow this form")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_mean_something_else_are_refused() {
        let long = "x".repeat(201);
        let names = [
            "",
            "-f",
            "--force",
            "-",
            "HEAD",
            "head",
            "ＨＥＡＤ",
            "ＲＥＦＳ/heads/x",
            "ORIG_HEAD",
            "FETCH_HEAD",
            "refs/heads/main",
            "Refs/heads/x",
            "heads/main",
            "tags/v1",
            "remotes/origin/main",
            "a..b",
            "a...b",
            "@{-1}",
            "@",
            "a@{1}",
            "a~1",
            "a^",
            "a:b",
            "a?b",
            "a*b",
            "a[b",
            "a\\b",
            "a b",
            "a\u{a0}b",
            "a\tb",
            "a\nb",
            "a\0b",
            "/a",
            "a/",
            "a//b",
            "a/.b",
            ".a",
            "a.",
            "a.lock",
            "a/b.lock/c",
            "ma\u{200b}in",
            "a\u{202e}b",
            "0123456789012345678901234567890123456789",
            &long,
        ];
        for name in names {
            let refusal = BranchName::parse(name).unwrap_err();
            assert_eq!(refusal.code, "invalid_branch_name", "{name:?}");
        }
    }

    #[test]
    fn ordinary_names_are_taken() {
        let names = [
            "main",
            "feature/search",
            "fix-123",
            "release/1.2",
            "user.name/topic",
            "agent/TASK-7",
            "a@b",
            "größe",
            "feature/#42",
            "v1.2",
            "deadbeef",
            "x/y/z",
            "feature/head",
            "UPPER",
            "日本語",
            "a+b",
            "a,b",
            "refsx/a",
        ];
        for name in names {
            assert_eq!(BranchName::parse(name).unwrap().full(), format!("refs/heads/{name}"));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_one_valid_ref_below_heads(name in "\\PC{0,40}|[-a-zA-Z0-9/._@{}~^:]{0,40}") {
            if let Ok(branch) = BranchName::parse(&name) {
                prop_assert!(git2::Reference::is_valid_name(&branch.full()));
                prop_assert!(!name.starts_with('-') && !name.contains("..") && !name.contains('\0'));
            }
        }
    }
}
