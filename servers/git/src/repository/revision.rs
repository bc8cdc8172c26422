//! What a caller may name a commit by.

use git2::{Commit, Object, Repository};
use tollgate_shared::refusal::Refusal;

use crate::branch_name::BRANCH_PREFIX;
use crate::fold::is_invisible;
use crate::git_error::unknown_revision;

/// Longest text that is looked up: a long branch name with a few `~1`.
const TEXT_BYTES_MAX: usize = 300;

/// Furthest that `~` and `^` go back: beyond, the id of the commit is the better name.
const STEPS_MAX: u32 = 100_000;

/// The name of one commit: a branch, a tag, an id, with `~n` and `^n` after it.
///
/// Never an option (`-…`), a file (`a:b`), a search through history (`:/x`, `^{/x}`) or something out of a log (`@{-1}`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision(String);

/// What `git_diff` compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The working tree with one commit.
    WorkingTree(Revision),
    /// `a..b`: one commit with another.
    Between(Revision, Revision),
    /// `a...b`: where the two parted, with the second.
    SinceParting(Revision, Revision),
}

impl Revision {
    /// Reads the name of a commit.
    ///
    /// # Errors
    ///
    /// `invalid_revision` says what is wrong.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let fault = if text.is_empty() {
            "it is empty"
        } else if text.len() > TEXT_BYTES_MAX {
            "it is longer than 300 bytes"
        } else if text.starts_with('-') {
            "it starts with `-`, which programs take for an option"
        } else if text.chars().any(|c| c.is_control() || c.is_whitespace() || is_invisible(c)) {
            "it has a control, invisible or white-space character"
        } else if text.contains("..") {
            "a range is not one commit"
        } else if text.starts_with('^') || text.contains([':', '\\', '?', '*', '[']) {
            "it has a character that no name of a commit has"
        } else if text.contains('{') || text.contains('}') {
            "forms with braces are not taken"
        } else if !steps_are_few(text) {
            "it goes back too far"
        } else {
            return Ok(Self(text.to_owned()));
        };
        // The text itself is not repeated: whatever it is, it is none of ours.
        Err(Refusal::refused(
            "invalid_revision",
            format!("what is given as a revision does not name a commit: {fault}"),
            "use a branch, a tag or the id of a commit, with `~n` or `^n` after it",
        ))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Finds the commit.
    ///
    /// # Errors
    ///
    /// `unknown_revision`.
    pub fn commit<'repository>(&self, repository: &'repository Repository) -> Result<Commit<'repository>, Refusal> {
        self.object(repository)?.peel_to_commit().map_err(|_| unknown_revision(&self.0))
    }

    /// Finds the object, which may be a file or a folder when the text is an id.
    ///
    /// # Errors
    ///
    /// `unknown_revision`.
    pub fn object<'repository>(&self, repository: &'repository Repository) -> Result<Object<'repository>, Refusal> {
        // A branch comes before a tag of the same name: nobody who pushes a tag `main` is to change what `main` means.
        // Nor is a branch `HEAD`, or one that reads as an id, to change what those mean.
        let fixed = matches!(self.0.as_str(), "HEAD" | "@")
            || (matches!(self.0.len(), 40 | 64) && self.0.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if !fixed
            && let Ok(branch) = repository.find_reference(&format!("{BRANCH_PREFIX}{}", self.0))
            && let Ok(commit) = branch.peel_to_commit()
        {
            return Ok(commit.into_object());
        }
        repository.revparse_single(&self.0).map_err(|_| unknown_revision(&self.0))
    }
}

impl Comparison {
    /// Reads `a`, `a..b` or `a...b`; an end that is left out is HEAD.
    ///
    /// # Errors
    ///
    /// `invalid_revision`.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let end = |text: &str| Revision::parse(if text.is_empty() { "HEAD" } else { text });
        match (text.split_once("..."), text.split_once("..")) {
            (Some((from, to)), _) if text.len() > 3 => Ok(Self::SinceParting(end(from)?, end(to)?)),
            (None, Some((from, to))) if text.len() > 2 => Ok(Self::Between(end(from)?, end(to)?)),
            _ => Ok(Self::WorkingTree(Revision::parse(text)?)),
        }
    }
}

/// libgit2 takes each step by itself, so `~4000000000` and a thousand `^` are an attack on time.
fn steps_are_few(text: &str) -> bool {
    let mut steps = 0_u32;
    for (index, _) in text.match_indices(['~', '^']) {
        let digits: String = text[index + 1..].chars().take_while(char::is_ascii_digit).collect();
        let count = if digits.is_empty() { Ok(1) } else { digits.parse::<u32>() };
        match count {
            Ok(count) => steps = steps.saturating_add(count),
            Err(_) => return false,
        }
    }
    steps <= STEPS_MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_that_are_no_commit_are_refused() {
        let long = "x".repeat(301);
        let texts = [
            "",
            "-p",
            "--output=/tmp/x",
            "-",
            ":/fix",
            "main:secret.txt",
            ":0:file",
            "HEAD^{/fix}",
            "@{-1}",
            "@{u}",
            "main@{yesterday}",
            "^main",
            "a b",
            "a\nb",
            "a\0b",
            "a\u{202e}b",
            "*",
            "a?b",
            "a[b",
            "a\\b",
            "a..b",
            "HEAD~4294967295",
            "HEAD~99999999999999999999",
            "HEAD~60000~60000",
            &long,
        ];
        for text in texts {
            assert_eq!(Revision::parse(text).unwrap_err().code, "invalid_revision", "{text:?}");
        }
    }

    #[test]
    fn names_of_commits_are_taken() {
        for text in
            ["HEAD", "main", "origin/main", "refs/heads/main", "v1.2", "HEAD~3", "main^2~1", "abc1234", "@", "ä"]
        {
            assert_eq!(Revision::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn ranges_are_told_from_commits() {
        let revision = |text: &str| Revision::parse(text).unwrap();
        assert_eq!(Comparison::parse("a").unwrap(), Comparison::WorkingTree(revision("a")));
        assert_eq!(Comparison::parse("a..b").unwrap(), Comparison::Between(revision("a"), revision("b")));
        assert_eq!(Comparison::parse("a...b").unwrap(), Comparison::SinceParting(revision("a"), revision("b")));
        assert_eq!(Comparison::parse("a..").unwrap(), Comparison::Between(revision("a"), revision("HEAD")));
        for text in ["..", "...", "a..b..c", "a...b..c", "a..-b", "-a..b", "", "a.. b"] {
            assert_eq!(Comparison::parse(text).unwrap_err().code, "invalid_revision", "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_cannot_be_an_option_or_a_file(text in "\\PC{0,30}|[-a-z0-9~^:@{}./]{0,30}") {
            if Revision::parse(&text).is_ok() {
                let harmless = !text.starts_with('-') && !text.contains([':', '{']) && !text.contains("..");
                prop_assert!(harmless);
            }
            let _ = Comparison::parse(&text);
        }
    }
}
