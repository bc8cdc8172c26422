//! Whether enough people agreed: signatures over the terms, verified anew each time they are counted.

use jiff::Timestamp;
use ssh_key::public::KeyData;
use ssh_key::{HashAlg, SshSig};

use super::NAMESPACE;
use super::signers::Signers;

/// Largest signature: those that are taken have under 1 KiB.
pub const SIGNATURE_BYTES_MAX: usize = 8 * 1024;

/// Set in a hardware key's signature when somebody touched it.
const USER_PRESENT: u8 = 0x01;

/// A person who agreed, and with which key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approver {
    /// As the approvers' file names the person.
    pub person: String,
    /// Of the key: `SHA256:…`.
    pub fingerprint: String,
}

/// Whose agreement does not count.
#[derive(Clone, Debug, Default)]
pub struct Barred {
    /// Who asked.
    pub requester: String,
    /// The person whose session the requester works in, where that person may not approve.
    pub operator: Option<String>,
}

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVote {
    /// Not an SSH signature.
    #[error("it is not an SSH signature")]
    Malformed,
    /// Made for another purpose.
    #[error("it was made for another namespace than `tollgate-deploy`")]
    Namespace,
    /// By nobody who may approve.
    #[error("its key is no approver's")]
    UnknownKey,
    /// Too early or too late.
    #[error("its key is not valid at this time")]
    KeyNotValid,
    /// Not of these bytes.
    #[error("it does not fit what is asked for")]
    Mismatch,
    /// A hardware key that nobody touched.
    #[error("it was made by a hardware key that nobody touched")]
    NotTouched,
    /// By who asked.
    #[error("who asks cannot approve")]
    SelfApproval,
}

impl InvalidVote {
    /// Returns the code of the refusal.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed | Self::Namespace | Self::Mismatch | Self::NotTouched => "signature_invalid",
            Self::UnknownKey | Self::KeyNotValid => "not_an_approver",
            Self::SelfApproval => "self_approval",
        }
    }
}

/// Returns who signed `terms` with `signature`.
///
/// # Errors
///
/// [`InvalidVote`] says why it does not count.
pub fn verify(
    signers: &Signers,
    barred: &Barred,
    terms: &str,
    signature: &str,
    now: Timestamp,
) -> Result<Approver, InvalidVote> {
    if signature.len() > SIGNATURE_BYTES_MAX {
        return Err(InvalidVote::Malformed);
    }
    let signature = SshSig::from_pem(signature.trim()).map_err(|_| InvalidVote::Malformed)?;
    if signature.version() != SshSig::VERSION || !signature.reserved().is_empty() {
        return Err(InvalidVote::Malformed);
    }
    if signature.namespace() != NAMESPACE {
        return Err(InvalidVote::Namespace);
    }
    let signer = signers.find(signature.public_key()).ok_or(InvalidVote::UnknownKey)?;
    signer.key.verify(NAMESPACE, terms.as_bytes(), &signature).map_err(|_| InvalidVote::Mismatch)?;
    if matches!(signature.public_key(), KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_)) {
        // The signature ends with one byte of flags and four of a counter.
        let bytes = signature.signature_bytes();
        let flags = bytes.len().checked_sub(5).and_then(|at| bytes.get(at)).copied().unwrap_or_default();
        if flags & USER_PRESENT == 0 {
            return Err(InvalidVote::NotTouched);
        }
    }
    if !signer.is_valid_at(now) {
        return Err(InvalidVote::KeyNotValid);
    }
    let is_barred = |name: &str| signer.person.eq_ignore_ascii_case(name.trim());
    if is_barred(&barred.requester) || barred.operator.as_deref().is_some_and(is_barred) {
        return Err(InvalidVote::SelfApproval);
    }
    Ok(Approver { person: signer.person.clone(), fingerprint: signer.key.fingerprint(HashAlg::Sha256).to_string() })
}

/// Returns who agreed to `terms`, each person once, and why the other signatures do not count.
pub fn tally<'a>(
    signers: &Signers,
    barred: &Barred,
    terms: &str,
    signatures: impl Iterator<Item = &'a str>,
    now: Timestamp,
) -> (Vec<Approver>, Vec<InvalidVote>) {
    let (mut approvers, mut invalid) = (Vec::<Approver>::new(), Vec::new());
    for signature in signatures {
        match verify(signers, barred, terms, signature, now) {
            Ok(approver) if approvers.iter().any(|known| known.person == approver.person) => {}
            Ok(approver) => approvers.push(approver),
            Err(reason) => invalid.push(reason),
        }
    }
    (approvers, invalid)
}

#[cfg(test)]
mod tests {
    use ssh_key::private::{Ed25519Keypair, KeypairData};
    use ssh_key::{LineEnding, PrivateKey};

    use super::*;
    use crate::approval::terms::tests::sample;

    const NOW: &str = "2026-11-21T09:00:00Z";

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap()
    }

    fn sign(key: &PrivateKey, namespace: &str, text: &str) -> String {
        key.sign(namespace, HashAlg::Sha512, text.as_bytes()).unwrap().to_pem(LineEnding::LF).unwrap()
    }

    fn signers(lines: &[(&str, &str, u8)]) -> Signers {
        let text: String = lines
            .iter()
            .map(|(person, options, seed)| {
                format!("{person} {options} {}\n", key(*seed).public_key().to_openssh().unwrap())
            })
            .collect();
        Signers::parse(&text).unwrap()
    }

    fn outcome(signers: &Signers, barred: &Barred, terms: &str, signature: &str) -> Result<String, InvalidVote> {
        verify(signers, barred, terms, signature, NOW.parse().unwrap()).map(|approver| approver.person)
    }

    #[test]
    fn signatures_and_their_imitations() {
        let (terms, seal) = sample();
        let text = terms.to_text(&seal);
        let known = signers(&[("alice", "", 1), ("old", "valid-before=\"20260101Z\"", 2), ("bugfix-1", "", 3)]);
        let nobody = Barred::default();
        let good = sign(&key(1), NAMESPACE, &text);
        assert_eq!(outcome(&known, &nobody, &text, &good), Ok("alice".into()));
        for (what, signature, expected) in [
            ("nothing", String::new(), InvalidVote::Malformed),
            ("text", "approved by alice".to_owned(), InvalidVote::Malformed),
            ("cut", good[..good.len() / 2].to_owned(), InvalidVote::Malformed),
            ("long", format!("{good}{}", "\n".repeat(10_000)), InvalidVote::Malformed),
            ("of git", sign(&key(1), "git", &text), InvalidVote::Namespace),
            ("of a file", sign(&key(1), "file", &text), InvalidVote::Namespace),
            ("a prefix", sign(&key(1), "tollgate-deploy2", &text), InvalidVote::Namespace),
            ("a stranger's", sign(&key(9), NAMESPACE, &text), InvalidVote::UnknownKey),
            ("an old key's", sign(&key(2), NAMESPACE, &text), InvalidVote::KeyNotValid),
            ("of more", sign(&key(1), NAMESPACE, &format!("{text}\n")), InvalidVote::Mismatch),
            ("of less", sign(&key(1), NAMESPACE, text.trim_end()), InvalidVote::Mismatch),
        ] {
            assert_eq!(outcome(&known, &nobody, &text, &signature), Err(expected), "{what}");
        }
        let requester = Barred { requester: "Bugfix-1".into(), operator: None };
        let own = sign(&key(3), NAMESPACE, &text);
        assert_eq!(outcome(&known, &requester, &text, &own), Err(InvalidVote::SelfApproval));
        let operator = Barred { requester: "x".into(), operator: Some("alice".into()) };
        assert_eq!(outcome(&known, &operator, &text, &good), Err(InvalidVote::SelfApproval));
    }

    #[test]
    fn one_changed_byte_is_refused() {
        let (terms, seal) = sample();
        let text = terms.to_text(&seal);
        let known = signers(&[("alice", "", 1)]);
        let good = sign(&key(1), NAMESPACE, &text);
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(outcome(&known, &Barred::default(), &changed, &good), Err(InvalidVote::Mismatch), "byte {at}");
        }
        let body: Vec<usize> =
            good.char_indices().filter(|(_, c)| c.is_ascii_alphanumeric()).map(|(at, _)| at).collect();
        for at in body {
            let mut changed = good.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // The last digits of base64 may have bits that mean nothing; what is taken is then the same signature.
            if let Ok(person) = outcome(&known, &Barred::default(), &text, &changed) {
                let same = SshSig::from_pem(&changed).unwrap() == SshSig::from_pem(&good).unwrap();
                assert!(same && person == "alice", "byte {at}");
            }
        }
    }

    #[test]
    fn each_person_has_one_vote() {
        let (terms, seal) = sample();
        let text = terms.to_text(&seal);
        let known = signers(&[("alice", "", 1), ("alice", "", 2), ("bob", "", 3)]);
        let signatures: Vec<String> = [1, 2, 1, 3, 9].map(|seed| sign(&key(seed), NAMESPACE, &text)).into();
        let now = NOW.parse().unwrap();
        let (approvers, invalid) = tally(&known, &Barred::default(), &text, signatures.iter().map(String::as_str), now);
        let people: Vec<&str> = approvers.iter().map(|approver| approver.person.as_str()).collect();
        assert_eq!(people, ["alice", "bob"]);
        assert_eq!(invalid, [InvalidVote::UnknownKey]);
    }
}
