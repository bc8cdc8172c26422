//! The names that become parts of paths: checked once, when they come in.

use std::fmt;

use serde::Serialize;
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::refusal::Refusal;

/// Longest name of a service: that of a host name's label, which it often becomes.
const SERVICE_BYTES_MAX: usize = 63;

/// Longest version: fits a file name together with the digest, and every scheme in use.
const VERSION_BYTES_MAX: usize = 64;

/// As many hexadecimal digits of the digest as a release's name ends with.
const SHORT_DIGEST_DIGITS: usize = 12;

/// How much of a wrong name an answer repeats.
const SHOWN_CHARS_MAX: usize = 80;

/// The name of a service: `[a-z0-9][a-z0-9-]{0,62}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct ServiceName(String);

/// A version: `[A-Za-z0-9][A-Za-z0-9._+-]{0,63}` without `..`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Version(String);

/// The name of a release's folder: `<version>-<first twelve digits of the digest>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ReleaseName(String);

impl ServiceName {
    /// Takes `name` when it can be part of a path and of a host name.
    ///
    /// # Errors
    ///
    /// `invalid_service`.
    pub fn parse(name: &str) -> Result<Self, Refusal> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let mut bytes = name.bytes();
        let valid = name.len() <= SERVICE_BYTES_MAX
            && bytes.next().is_some_and(plain)
            && bytes.all(|byte| plain(byte) || byte == b'-');
        if valid {
            return Ok(Self(name.to_owned()));
        }
        Err(Refusal::refused(
            "invalid_service",
            format!("`service` {} is not the name of a service", shown(name)),
            "use 1 to 63 lower-case letters, digits and `-`, beginning with a letter or digit",
        ))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Version {
    /// Takes `version` when it can be part of a file name.
    ///
    /// # Errors
    ///
    /// `invalid_version`.
    pub fn parse(version: &str) -> Result<Self, Refusal> {
        if is_version(version) {
            return Ok(Self(version.to_owned()));
        }
        Err(Refusal::refused(
            "invalid_version",
            format!("`version` {} is not a version", shown(version)),
            "use 1 to 64 letters, digits and `.`, `_`, `+`, `-`, beginning with a letter or digit, without `..`",
        ))
    }

    /// Returns the version as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ReleaseName {
    /// Names the release of `version` with the content `digest`.
    #[must_use]
    pub fn new(version: &Version, digest: &ContentHash) -> Self {
        Self(format!("{}-{}", version.0, digest.short()))
    }

    /// Returns `name` when it has the form of a release's name; `None` for anything else.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (version, digest) = name.rsplit_once('-')?;
        let is_digest = digest.len() == SHORT_DIGEST_DIGITS
            && digest.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
        (is_digest && is_version(version)).then(|| Self(name.to_owned()))
    }

    /// Returns the version in it.
    #[must_use]
    pub fn version(&self) -> &str {
        self.0.rsplit_once('-').map_or(&self.0, |(version, _)| version)
    }

    /// Whether content with this digest may bear this name.
    #[must_use]
    pub fn fits(&self, digest: &ContentHash) -> bool {
        self.0.rsplit_once('-').is_some_and(|(_, short)| short == digest.short())
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_version(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= VERSION_BYTES_MAX
        && bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'+' | b'-'))
        && !text.contains("..")
}

/// Returns `text` quoted and escaped, and cut where it is long.
#[must_use]
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for ReleaseName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn services_and_their_imitations() {
        for name in ["bookshop", "a", "0", "book-shop-2", &"a".repeat(63)] {
            assert!(ServiceName::parse(name).is_ok(), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "../etc",
            "a/b",
            "/a",
            "a\\b",
            "a\0",
            "\0",
            "-a",
            "A",
            "Bookshop",
            "a_b",
            "a b",
            "a\n",
            " a",
            "bоokshop",
            "book\u{200b}shop",
            "ａ",
            "a.b",
            "a{b}",
            "$(id)",
            "a;b",
            &"a".repeat(64),
        ] {
            assert_eq!(ServiceName::parse(name).unwrap_err().code, "invalid_service", "{name:?}");
        }
    }

    #[test]
    fn versions_and_their_imitations() {
        for version in ["1", "1.0.0", "1.0.0-rc.1+build.5", "v2", "2026-01-01", "A_b", &"1".repeat(64)] {
            assert!(Version::parse(version).is_ok(), "{version}");
        }
        for version in [
            "",
            ".",
            "..",
            "1..0",
            "1.0/..",
            "../1",
            ".hidden",
            "-1",
            "+1",
            "_1",
            "1/2",
            "1\\2",
            "1\0",
            "1.0\n",
            "1 0",
            "１.０",
            "1.0\u{202e}",
            "1:2",
            "1;2",
            "~1",
            "*",
            &"1".repeat(65),
            &"1".repeat(10_000_000),
        ] {
            let error = Version::parse(version).unwrap_err();
            assert_eq!(error.code, "invalid_version");
            assert!(error.message.len() < 1000);
        }
    }

    #[test]
    fn release_names_are_parsed_from_the_right() {
        let digest = ContentHash::of(b"x");
        let name = ReleaseName::new(&Version::parse("1.0-abcdefabcdef").unwrap(), &digest);
        assert_eq!(ReleaseName::parse(name.as_str()), Some(name.clone()));
        assert!(name.fits(&digest));
        assert!(!name.fits(&ContentHash::of(b"y")));
        for name in [
            ".incoming-0198",
            "1.0",
            "1.0-",
            "-abcdefabcdef",
            "1.0-ABCDEFABCDEF",
            "../1-abcdefabcdef",
            "1.0-abcdefabcde",
        ] {
            assert_eq!(ReleaseName::parse(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_one_plain_path_component(text in "\\PC{0,20}|[a-z0-9.+_/-]{0,20}") {
            let is_component = |text: &str| {
                let components: Vec<_> = std::path::Path::new(text).components().collect();
                matches!(components.as_slice(), [std::path::Component::Normal(name)] if *name == text)
            };
            if ServiceName::parse(&text).is_ok() || Version::parse(&text).is_ok() {
                prop_assert!(is_component(&text));
                prop_assert!(text.is_ascii());
            }
        }
    }
}
