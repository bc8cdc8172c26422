//! Where the next page of an answer begins, in the hands of the caller.
//!
//! Nothing is kept for it here: a cursor is the position, sealed for one principal, one connection, one statement and its
//! values. The statement is run again and the rows before the position are left out, so each page sees the data of its own
//! time; pages fit together when the order of the rows is total and the data stays the same.

use std::path::Path;
use std::sync::OnceLock;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::refusal::Refusal;

use crate::base64;

/// Furthest position: the rows before it are computed again for every page.
pub const POSITION_MAX: u64 = 1_000_000;

const KEY_BYTES: usize = 32;
const SEAL_BYTES: usize = 16;
const FILE: &str = "database-cursors.key";

/// What cursors are sealed with.
#[derive(Debug, Default)]
pub struct Seal(OnceLock<[u8; KEY_BYTES]>);

impl Seal {
    /// Returns the cursor of `position` in what `of` is the digest of, for `principal`.
    ///
    /// # Errors
    ///
    /// When there is no randomness for a key.
    pub fn cursor(&self, state: &Path, principal: &str, of: &ContentHash, position: u64) -> Result<String, Refusal> {
        let mut bytes = position.to_le_bytes().to_vec();
        bytes.extend(&self.seal(state, principal, of, position)?[..SEAL_BYTES]);
        Ok(base64::hex(&bytes))
    }

    /// Returns the position of `cursor`.
    ///
    /// # Errors
    ///
    /// `invalid_cursor` when it is not one that was given to `principal` for the same.
    pub fn position(&self, state: &Path, principal: &str, of: &ContentHash, cursor: &str) -> Result<u64, Refusal> {
        let bytes = unhex(cursor).ok_or_else(invalid)?;
        let (position, seal) = bytes.split_first_chunk::<8>().ok_or_else(invalid)?;
        let position = u64::from_le_bytes(*position);
        let expected = self.seal(state, principal, of, position)?;
        let same = seal.len() == SEAL_BYTES
            && seal.iter().zip(&expected).fold(0, |differences, (left, right)| differences | (left ^ right)) == 0;
        if same && position <= POSITION_MAX { Ok(position) } else { Err(invalid()) }
    }

    fn seal(&self, state: &Path, principal: &str, of: &ContentHash, position: u64) -> Result<[u8; 32], Refusal> {
        let key = match self.0.get() {
            Some(key) => key,
            None => {
                let key = load(state).map_err(|error| {
                    tracing::error!(%error, "no key for cursors");
                    Refusal::failed("internal_error", "there is no key for cursors", "page with LIMIT and OFFSET")
                })?;
                self.0.get_or_init(|| key)
            }
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&Default::default()));
        mac.update(b"tollgate database cursor 1\0");
        mac.update(&u64::try_from(principal.len()).unwrap_or(u64::MAX).to_le_bytes());
        mac.update(principal.as_bytes());
        mac.update(of.as_bytes());
        mac.update(&position.to_le_bytes());
        Ok(mac.finalize().into_bytes().into())
    }
}

/// Reads the key that the processes of a state folder share, or makes it.
fn load(state: &Path) -> std::io::Result<[u8; KEY_BYTES]> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = state.join(FILE);
    let read = || std::fs::read(&path).ok().and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
    if let Some(key) = read() {
        return Ok(key);
    }
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| std::io::Error::other(error.to_string()))?;
    // Written whole under another name first: another process may read it at any time.
    let own = state.join(format!("{FILE}.{}", std::process::id()));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&own)
        .and_then(|mut file| file.write_all(&key))
        .and_then(|()| std::fs::hard_link(&own, &path));
    let _ = std::fs::remove_file(&own);
    match (written, read()) {
        (_, Some(key)) => Ok(key),
        // A folder that cannot be written: cursors last as long as this process.
        (_, None) => Ok(key),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 2 * (8 + SEAL_BYTES) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

fn invalid() -> Refusal {
    Refusal::refused(
        "invalid_cursor",
        "this is no cursor that query gave for this statement, these values and this caller",
        "pass `cursor` as the previous answer had it, with the same other arguments, or begin without one",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_good_for_what_they_were_given_for() {
        let folder = tempfile::TempDir::new().unwrap();
        let state = folder.path();
        let seal = Seal::default();
        let of = ContentHash::of(b"SELECT 1");
        let cursor = seal.cursor(state, "agent", &of, 70).unwrap();
        assert_eq!(seal.position(state, "agent", &of, &cursor).unwrap(), 70);
        // Another process of the same folder.
        assert_eq!(Seal::default().position(state, "agent", &of, &cursor).unwrap(), 70);
        let position = |principal: &str, of: &ContentHash, cursor: &str| {
            seal.position(state, principal, of, cursor).map_err(|refusal| refusal.code)
        };
        assert_eq!(position("other", &of, &cursor), Err("invalid_cursor"));
        assert_eq!(position("agent", &ContentHash::of(b"SELECT 2"), &cursor), Err("invalid_cursor"));
        for at in 0..cursor.len() {
            let mut forged = cursor.clone().into_bytes();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(position("agent", &of, std::str::from_utf8(&forged).unwrap()), Err("invalid_cursor"));
        }
        for wrong in ["", "é", "00", &"0".repeat(48), &"x".repeat(48), &"é".repeat(24)] {
            assert_eq!(position("agent", &of, wrong), Err("invalid_cursor"), "{wrong}");
        }
        let far = seal.cursor(state, "agent", &of, POSITION_MAX + 1).unwrap();
        assert_eq!(position("agent", &of, &far), Err("invalid_cursor"));
    }
}
