//! Asking an SSH agent which keys it holds. It signs through `ssh-keygen`, which knows every kind of key.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use ssh_key::PublicKey;

/// How long an agent is waited for: it answers from memory.
const PATIENCE: Duration = Duration::from_secs(2);

/// Largest answer that is taken, as OpenSSH's own programs do.
const ANSWER_BYTES_MAX: u32 = 256 * 1024;

const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;

/// Returns the public keys that the agent at `socket` holds; those of kinds that are not known here are left out.
///
/// # Errors
///
/// What connecting or reading fails with.
pub fn identities(socket: &Path) -> std::io::Result<Vec<PublicKey>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&[0, 0, 0, 1, REQUEST_IDENTITIES])?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > ANSWER_BYTES_MAX {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer)?;
    parse(&answer).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

fn parse(answer: &[u8]) -> Option<Vec<PublicKey>> {
    let mut rest = answer.strip_prefix(&[IDENTITIES_ANSWER])?;
    let count = number(&mut rest)?;
    let mut keys = Vec::new();
    for _ in 0..count {
        let blob = field(&mut rest)?;
        field(&mut rest)?;
        keys.extend(PublicKey::from_bytes(blob));
    }
    Some(keys)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_be_bytes(*bytes))
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(number(rest)?).ok()?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_are_read_to_the_end_or_not_at_all() {
        let key =
            PublicKey::from_openssh("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ")
                .unwrap();
        let blob = key.to_bytes().unwrap();
        let mut answer = vec![IDENTITIES_ANSWER, 0, 0, 0, 1];
        answer.extend((blob.len() as u32).to_be_bytes());
        answer.extend(&blob);
        answer.extend([0, 0, 0, 1, b'c']);
        assert_eq!(parse(&answer).unwrap(), [key]);
        for end in 0..answer.len() {
            assert!(parse(&answer[..end]).is_none(), "{end}");
        }
        assert_eq!(parse(&[IDENTITIES_ANSWER, 0, 0, 0, 0]).unwrap(), []);
        assert!(parse(&[IDENTITIES_ANSWER, 0xff, 0xff, 0xff, 0xff]).is_none());
        assert!(parse(&[5]).is_none());
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
