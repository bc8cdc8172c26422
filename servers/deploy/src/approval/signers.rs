//! Who may approve: a file of people and their public keys, as `ssh-keygen` knows it (`allowed_signers`).
//!
//! Only what is certain is taken: one person a line, no patterns, no certificate authorities. A line that is not
//! understood refuses the whole file, because half of a list of approvers is another list.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ssh_key::PublicKey;
use ssh_key::public::{EcdsaPublicKey, KeyData};

use super::NAMESPACE;

/// Largest file that is read.
pub const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Most keys: more people than approve anywhere.
const KEYS_MAX: usize = 1000;

/// Longest name of a person.
const PERSON_BYTES_MAX: usize = 100;

/// The people who may approve, with their keys.
#[derive(Clone, Debug, Default)]
pub struct Signers(Vec<Signer>);

/// One key of one person.
#[derive(Clone, Debug)]
pub struct Signer {
    /// Whose it is.
    pub person: String,
    /// The key.
    pub key: PublicKey,
    /// From when on it counts.
    pub valid_after: Option<Timestamp>,
    /// From when on it does not count any more.
    pub valid_before: Option<Timestamp>,
}

/// A file that cannot be relied on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct InvalidSigners {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: &'static str,
}

impl Signers {
    /// Reads the text of an `allowed_signers` file.
    ///
    /// # Errors
    ///
    /// [`InvalidSigners`] names the first line that cannot be relied on.
    pub fn parse(text: &str) -> Result<Self, InvalidSigners> {
        let mut signers: Vec<Signer> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let failed = |reason| InvalidSigners { line: index + 1, reason };
            let line = line.trim_matches([' ', '\t', '\r']);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some(signer) = parse_line(line).map_err(failed)? else { continue };
            if let Some(known) = signers.iter().find(|known| known.key.key_data() == signer.key.key_data())
                && known.person != signer.person
            {
                return Err(failed("the key is another person's already"));
            }
            signers.push(signer);
            if signers.len() > KEYS_MAX {
                return Err(failed("more than 1000 keys"));
            }
        }
        Ok(Self(signers))
    }

    /// Returns every key.
    pub fn iter(&self) -> impl Iterator<Item = &Signer> {
        self.0.iter()
    }

    /// Returns the person's entry that has `key`.
    #[must_use]
    pub fn find(&self, key: &KeyData) -> Option<&Signer> {
        self.0.iter().find(|signer| signer.key.key_data() == key)
    }

    /// Returns how many different people there are.
    #[must_use]
    pub fn people(&self) -> usize {
        self.0.iter().map(|signer| signer.person.as_str()).collect::<std::collections::BTreeSet<_>>().len()
    }
}

impl Signer {
    /// Whether the key counts at `now`.
    #[must_use]
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.valid_after.is_none_or(|from| now >= from) && self.valid_before.is_none_or(|to| now < to)
    }
}

/// Reads one line; `None` for a key that is for other purposes than this.
fn parse_line(line: &str) -> Result<Option<Signer>, &'static str> {
    let (person, rest) = line.split_once([' ', '\t']).ok_or("no key")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'@' | b'.' | b'_' | b'+' | b'-');
    if person.len() > PERSON_BYTES_MAX || !person.bytes().all(plain) {
        return Err("the principal must be one person: letters, digits and `@`, `.`, `_`, `+`, `-`, without patterns");
    }
    let mut rest = rest.trim_start_matches([' ', '\t']);
    let (mut valid_after, mut valid_before, mut is_ours) = (None, None, true);
    if !is_key_type(rest.split([' ', '\t']).next().unwrap_or_default()) {
        let (options, after) = split_options(rest)?;
        for option in options {
            let (name, value) = option.split_once('=').ok_or("an option that is not known here")?;
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            match name.to_ascii_lowercase().as_str() {
                "namespaces" => {
                    if value.contains(['*', '?', '!', '"']) {
                        return Err("`namespaces` must not have patterns");
                    }
                    is_ours = value.split(',').any(|namespace| namespace == NAMESPACE);
                }
                "valid-after" => valid_after = Some(instant(value).ok_or("`valid-after` is not a time")?),
                "valid-before" => valid_before = Some(instant(value).ok_or("`valid-before` is not a time")?),
                _ => return Err("an option that is not known here"),
            }
        }
        rest = after;
    }
    let mut words = rest.split_ascii_whitespace();
    let (Some(kind), Some(data)) = (words.next(), words.next()) else { return Err("no key") };
    let key = PublicKey::from_openssh(&format!("{kind} {data}")).map_err(|_| "not a public key")?;
    match key.key_data() {
        KeyData::Ed25519(_) | KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => {}
        KeyData::Ecdsa(EcdsaPublicKey::NistP256(_)) => {}
        _ => {
            return Err("a kind of key that is not taken: use ed25519, ecdsa-sha2-nistp256 or a hardware key of these");
        }
    }
    Ok(is_ours.then(|| Signer { person: person.to_owned(), key, valid_after, valid_before }))
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-"].iter().any(|beginning| word.starts_with(beginning)) && !word.contains(['=', ','])
}

/// Splits options at commas outside quotes, up to the first blank outside quotes.
fn split_options(text: &str) -> Result<(Vec<&str>, &str), &'static str> {
    let (mut options, mut start, mut quoted) = (Vec::new(), 0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\\' => return Err("options must not have backslashes"),
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                options.push(&text[start..at]);
                start = at + 1;
            }
            b' ' | b'\t' if !quoted => {
                options.push(&text[start..at]);
                return Ok((options, text[at..].trim_start_matches([' ', '\t'])));
            }
            _ => {}
        }
    }
    Err("no key")
}

/// Reads `YYYYMMDD[HHMM[SS]][Z]`; without `Z` it is the machine's local time, as for `ssh-keygen`.
fn instant(text: &str) -> Option<Timestamp> {
    let (digits, zone) = match text.strip_suffix(['Z', 'z']) {
        Some(digits) => (digits, TimeZone::UTC),
        None => (text, TimeZone::system()),
    };
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let padded = format!("{digits:0<14}");
    let number = |from: usize, to: usize| padded[from..to].parse::<i8>().ok();
    let year = padded[..4].parse().ok()?;
    let civil =
        DateTime::new(year, number(4, 6)?, number(6, 8)?, number(8, 10)?, number(10, 12)?, number(12, 14)?, 0).ok()?;
    Some(civil.to_zoned(zone).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALICE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const BOB: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn people(text: &str) -> Result<Vec<String>, &'static str> {
        Signers::parse(text)
            .map(|signers| signers.iter().map(|signer| signer.person.clone()).collect())
            .map_err(|error| error.reason)
    }

    #[test]
    fn files_as_people_write_them() {
        let text = format!(
            "# approvers\n\nalice@example.com {ALICE} laptop\r\n\
             bob namespaces=\"git,tollgate-deploy\",valid-before=\"20300101Z\" {BOB}\n"
        );
        assert_eq!(people(&text).unwrap(), ["alice@example.com", "bob"]);
        assert_eq!(people(&format!("bob namespaces=\"git\" {BOB}")).unwrap(), Vec::<String>::new());
        assert_eq!(people("").unwrap(), Vec::<String>::new());
        assert_eq!(Signers::parse(&format!("a {ALICE}\na {BOB}\n")).unwrap().people(), 1, "two keys, one person");
    }

    #[test]
    fn keys_count_in_their_time() {
        let text = format!("a valid-after=\"20260101Z\",valid-before=\"202701011200Z\" {ALICE}");
        let signers = Signers::parse(&text).unwrap();
        let signer = signers.iter().next().unwrap();
        for (at, expected) in [
            ("2025-12-31T23:59:59Z", false),
            ("2026-01-01T00:00:00Z", true),
            ("2027-01-01T11:59:59Z", true),
            ("2027-01-01T12:00:00Z", false),
        ] {
            assert_eq!(signer.is_valid_at(at.parse().unwrap()), expected, "{at}");
        }
    }

    #[test]
    fn what_is_not_certain_refuses_the_whole_file() {
        for line in [
            "alice".to_owned(),
            "alice ssh-ed25519".to_owned(),
            "alice ssh-ed25519 AAAA".to_owned(),
            format!("* {ALICE}"),
            format!("*@example.com {ALICE}"),
            format!("alice,bob {ALICE}"),
            format!("!alice {ALICE}"),
            format!("\"alice\" {ALICE}"),
            format!("аlice {ALICE}"),
            format!("{} {ALICE}", "a".repeat(101)),
            format!("alice cert-authority {ALICE}"),
            format!("alice namespaces=\"*\" {ALICE}"),
            format!("alice namespaces=\"!tollgate-deploy\" {ALICE}"),
            format!("alice namespaces=\"a\\\"b\" {ALICE}"),
            format!("alice valid-before=\"tomorrow\" {ALICE}"),
            format!("alice valid-before=\"20261301Z\" {ALICE}"),
            format!("alice no-touch-required {ALICE}"),
            format!("alice restrict=\"x\" {ALICE}"),
            format!("alice namespaces=\"x {ALICE}"),
            format!("bob {ALICE}"),
        ] {
            let text = format!("alice {ALICE}\n{line}\n");
            let error = Signers::parse(&text).expect_err(&line);
            assert_eq!(error.line, 2, "{line}");
        }
        let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDH";
        assert!(people(&format!("alice {rsa}")).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics_and_nobody_is_invented(text in "[ -~\\n\\t]{0,200}") {
            if let Ok(signers) = Signers::parse(&text) {
                prop_assert!(signers.iter().all(|signer| text.contains(&signer.person)));
            }
        }
    }
}
