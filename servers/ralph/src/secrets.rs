//! Secrets in text: those of known providers by their form, others by what they are assigned to and how random they are.
//!
//! The secret itself is never part of a result: only its first characters, and a fingerprint that tells two apart.

mod patterns;

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::bytes::{Regex, RegexBuilder};
use tollgate_shared::content_hash::ContentHash;

use patterns::{PATTERNS, Pattern, Proof};

/// Secrets of one file that are reported; a file with more is a list of them.
const SECRETS_MAX: usize = 200;

/// Bytes behind a literal within which the rest of a secret must be.
const REACH: usize = 400;

/// A secret, without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The first byte.
    pub start: usize,
    /// The byte behind the last.
    pub end: usize,
    /// Whose it is, as in the id of the rule.
    pub rule: &'static str,
    /// Whose it is, in words.
    pub what: &'static str,
    /// Its first characters.
    pub masked: String,
    /// The first twelve digits of its SHA-256.
    pub fingerprint: String,
}

struct Compiled {
    literals: AhoCorasick,
    /// Which pattern a literal belongs to.
    owners: Vec<usize>,
    regexes: Vec<Option<Regex>>,
}

static COMPILED: LazyLock<Option<Compiled>> = LazyLock::new(|| {
    let mut words = Vec::new();
    let mut owners = Vec::new();
    for (place, pattern) in PATTERNS.iter().enumerate() {
        for word in pattern.words {
            words.push(*word);
            owners.push(place);
        }
    }
    let literals =
        AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA)).ascii_case_insensitive(true).build(words).ok()?;
    // Without Unicode: a hundred times faster to compile.
    let compile = |pattern: &Pattern| RegexBuilder::new(pattern.regex).unicode(false).build().ok();
    Some(Compiled { literals, owners, regexes: PATTERNS.iter().map(compile).collect() })
});

/// Finds the secrets in `content`, in order.
#[must_use]
pub fn scan(content: &[u8]) -> Vec<Secret> {
    let Some(compiled) = COMPILED.as_ref() else { return Vec::new() };
    let mut found: Vec<Secret> = Vec::new();
    // The place up to which each pattern has been tried.
    let mut tried = vec![0_usize; PATTERNS.len()];
    for literal in compiled.literals.find_overlapping_iter(content) {
        if found.len() >= SECRETS_MAX {
            break;
        }
        let Some(place) = compiled.owners.get(literal.pattern().as_usize()) else { continue };
        let (Some(pattern), Some(Some(regex))) = (PATTERNS.get(*place), compiled.regexes.get(*place)) else { continue };
        let begin = line_start(content, literal.start(), REACH / 2);
        let from = begin.max(tried[*place]);
        let to = (literal.end() + pattern.reach.unwrap_or(REACH)).min(content.len());
        if from >= to || tried[*place] > literal.start() {
            continue;
        }
        // From where the line begins, so that what stands before the secret is seen.
        for captures in regex.captures_iter(&content[from..to]) {
            let Some(whole) = captures.get(1).or_else(|| captures.get(0)) else { continue };
            let (start, end) = (from + whole.start(), from + whole.end());
            tried[*place] = tried[*place].max(end);
            if pattern.is_secret(&content[start..end], content, start) {
                found.push(secret(pattern, &content[start..end], start, end));
            }
        }
        // A match that the end of the window cut off is looked for again from the next literal.
        tried[*place] = tried[*place].max(literal.end());
    }
    found.sort_by_key(|secret| (secret.start, std::cmp::Reverse(secret.end)));
    // What a provider's pattern knows is not also a generic one.
    let mut kept: Vec<Secret> = Vec::new();
    for secret in found {
        match kept.last_mut() {
            Some(last) if secret.start < last.end => {
                if last.rule == "generic" && secret.rule != "generic" {
                    *last = secret;
                }
            }
            _ => kept.push(secret),
        }
    }
    kept.truncate(SECRETS_MAX);
    kept
}

/// Returns `text` with every secret in it masked.
#[must_use]
pub fn mask(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut at = 0;
    for secret in scan(text.as_bytes()) {
        result.push_str(text.get(at..secret.start).unwrap_or_default());
        result.push_str("****");
        at = secret.end.max(at);
    }
    result.push_str(text.get(at..).unwrap_or_default());
    result
}

fn line_start(content: &[u8], at: usize, back_max: usize) -> usize {
    let floor = at.saturating_sub(back_max);
    content[floor..at].iter().rposition(|byte| *byte == b'\n').map_or(floor, |newline| floor + newline + 1)
}

fn secret(pattern: &'static Pattern, bytes: &[u8], start: usize, end: usize) -> Secret {
    let text = String::from_utf8_lossy(bytes);
    // Enough to recognise the kind, too little to use; nothing at all of a short one.
    let shown: String = match text.chars().count() {
        0..16 => String::new(),
        _ => text.chars().take(4).filter(|c| !c.is_control()).collect(),
    };
    Secret {
        start,
        end,
        rule: pattern.id,
        what: pattern.what,
        masked: format!("{shown}****"),
        fingerprint: ContentHash::of(bytes).to_string().chars().take(12).collect(),
    }
}

impl Pattern {
    /// Returns whether what the pattern matched is a secret, not an example of one.
    fn is_secret(&self, bytes: &[u8], content: &[u8], start: usize) -> bool {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        // The middle of something longer.
        if self.proof != Proof::Key
            && self.proof != Proof::Password
            && start > 0
            && content[start - 1].is_ascii_alphanumeric()
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        {
            return false;
        }
        if is_example(text) {
            return false;
        }
        match self.proof {
            Proof::Form => true,
            Proof::Random(bits) => entropy_tenths(bytes) >= bits && has_variety(text),
            Proof::Key => !is_example_key(bytes),
            Proof::Jwt => is_jwt(text),
            Proof::Password => is_password(text),
            Proof::Generic => is_generic(text, content, start),
        }
    }
}

/// Words that only examples have.
const EXAMPLES: &[&str] = &[
    "example",
    "sample",
    "dummy",
    "placeholder",
    "changeme",
    "change_me",
    "change-me",
    "your_",
    "your-",
    "yourkey",
    "xxxx",
    "****",
    "redacted",
    "insert_",
    "replace",
    "todo",
    "fake",
    "notreal",
    "not-a-real",
    "not_a_real",
    "foobar",
    "abcdefgh",
    "1234567890",
    "0123456789",
    "deadbeef",
    "00000000",
    "11111111",
    "aaaaaaaa",
    "test_test",
    "testtest",
    "<",
    "${",
    "{{",
    "$(",
    "my-secret",
    "my_secret",
    "mysecret",
    "secret_here",
    "secret-here",
    "secrethere",
    "token_here",
    "key_here",
    "goes_here",
    "-here",
    "_here",
    "undefined",
    "lorem",
];

/// Secrets that documentation shows to everybody.
const PUBLIC: &[&str] = &[
    "AKIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "sk_test_4eC39HqLyjWDarjtT1zdp7dc",
    "sk_test_BQokikJOvBiI2HlWgH4olfQ2",
    "pk_test_TYooMQauvdEDq54NiTphI7jx",
    "SG.xxxx",
    "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY",
    "AIzaSyDummy",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==",
];

fn is_example(text: &str) -> bool {
    if PUBLIC.iter().any(|public| text.contains(public)) {
        return true;
    }
    let lower = text.to_ascii_lowercase();
    EXAMPLES.iter().any(|word| lower.contains(word))
}

/// A private key whose body is cut short, or left out, is one of the documentation.
fn is_example_key(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let body: usize = text
        .split("-----")
        .nth(2)
        .unwrap_or_default()
        .replace("\\n", "")
        .bytes()
        .filter(u8::is_ascii_alphanumeric)
        .count();
    body < 60 || text.contains("...")
}

/// A token of three parts whose first two are JSON.
fn is_jwt(text: &str) -> bool {
    let mut parts = text.split('.');
    let (Some(header), Some(claims), Some(signature)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    header.starts_with("eyJ") && claims.starts_with("eyJ") && signature.len() >= 20
}

/// Returns the entropy of `bytes` in tenths of a bit per byte.
fn entropy_tenths(bytes: &[u8]) -> u32 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let total = u32::try_from(bytes.len()).unwrap_or(u32::MAX).max(1);
    // Sum of count * log2(total / count), in hundredths, by whole numbers.
    let sum: u64 = counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| u64::from(*count) * u64::from(log2_hundredths(total, *count)))
        .sum();
    u32::try_from(sum / u64::from(total) / 10).unwrap_or(u32::MAX)
}

/// Returns a hundred times the logarithm of `above / below` to base 2.
fn log2_hundredths(above: u32, below: u32) -> u32 {
    // Squaring a hundred times finds a hundred steps of the logarithm; eight bits of fraction are enough.
    let mut ratio = (u64::from(above) << 16) / u64::from(below.max(1));
    let mut whole = 0_u32;
    while ratio >= 2 << 16 {
        ratio >>= 1;
        whole += 1;
    }
    let mut fraction = 0_u32;
    for bit in 0..8 {
        ratio = (ratio * ratio) >> 16;
        if ratio >= 2 << 16 {
            ratio >>= 1;
            fraction |= 1 << (7 - bit);
        }
    }
    whole * 100 + fraction * 100 / 256
}

fn has_variety(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let letters = text.bytes().filter(u8::is_ascii_alphabetic).count();
    digits > 0 && letters > 0
}

/// Returns whether the password of a connection is one, not a name for one.
fn is_password(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    text.len() >= 4
        && !text.starts_with(['$', '{', '%', '<', '[', '*'])
        && !text.contains("${")
        && !matches!(
            lower.as_str(),
            "password"
                | "passwd"
                | "pass"
                | "secret"
                | "postgres"
                | "root"
                | "user"
                | "guest"
                | "test"
                | "admin"
                | "mysql"
                | "redis"
                | "mongo"
                | "rabbitmq"
                | "pwd"
                | "pw"
                | "xxx"
                | "none"
                | "null"
                | "username"
                | "hunter2"
                | "letmein"
                | "mypassword"
                | "dbpassword"
                | "db_password"
                | "password123"
                | "pass123"
                | "token"
                | "port"
                | "host"
                | "tiger"
                | "toor"
                | "development"
                | "docker"
                | "localhost"
                | "default"
                | "example"
                | "s3cr3t"
                | "passw0rd"
                | "testing"
                | "testpass"
                | "testpassword"
                | "test123"
        )
        && !(lower.starts_with('%') || lower.contains("%s") || lower.ends_with("password") && lower.len() < 14)
}

/// Returns whether a value assigned to something that is called a secret is random enough to be one.
fn is_generic(text: &str, content: &[u8], start: usize) -> bool {
    let length = text.len();
    if !(12..=200).contains(&length) || !has_variety(text) {
        return false;
    }
    // Names, paths, sentences and references are no secrets.
    if text.contains([' ', '(', ')', '<', '>', '[', ']', '{', '}', ';', ','])
        || text.contains("://")
        || text.starts_with(['/', '.', '$', '@', '#', '%'])
    {
        return false;
    }
    let words = text.split(['_', '-', '.', '/', ':']).filter(|word| !word.is_empty());
    let (mut plain, mut all) = (0_usize, 0_usize);
    for word in words {
        all += 1;
        plain += usize::from(
            word.bytes().all(|byte| byte.is_ascii_alphabetic()) || word.bytes().all(|byte| byte.is_ascii_digit()),
        );
    }
    if all > 2 && plain * 3 >= all * 2 || all == plain {
        return false;
    }
    // An UUID is an identifier more often than a secret; a digest too, when it is called one.
    let dashes = text.bytes().filter(|byte| *byte == b'-').count();
    if length == 36 && dashes == 4 {
        return false;
    }
    let before = &content[start.saturating_sub(60)..start];
    let before = String::from_utf8_lossy(before).to_ascii_lowercase();
    let line = before.rsplit('\n').next().unwrap_or_default();
    if [
        "sha256",
        "sha512",
        "sha1",
        "md5",
        "checksum",
        "digest",
        "integrity",
        "hash",
        "fingerprint",
        "public",
        "commit",
        "revision",
        "etag",
        "key_id",
        "keyid",
        "key_name",
        "csrf",
        "_uri",
        "_url",
        "_path",
        "_file",
        "regex",
        "pattern",
    ]
    .iter()
    .any(|word| line.contains(word))
    {
        return false;
    }
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bits = entropy_tenths(text.as_bytes());
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if is_hex { length >= 16 && bits >= 28 } else { bits >= if length >= 20 { 34 } else { 31 } && digits >= 2 }
}

#[cfg(test)]
mod tests;
