//! Signing commits, as the user's own git configuration says.
//!
//! `commit.gpgsign`, `gpg.format`, `user.signingkey` and the program's name are read from the user's and the system's
//! configuration alone: what a repository names as its signing program is never run, and what it names as a key never read.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::{Repository, Signature};
use tempfile::NamedTempFile;
use tollgate_shared::refusal::Refusal;

use super::user_settings::{is_on, of_user};
use crate::program::{self, Ended};

/// How long a signature may take: an agent may ask its user, and hosts give up after 60 s.
const SIGNING_MAX: Duration = Duration::from_secs(30);

/// Longest signature that is taken; real ones have some hundred bytes.
const SIGNATURE_BYTES_MAX: usize = 64 * 1024;

/// What signs the user's commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningKey {
    /// `gpg.format = ssh`.
    Ssh {
        /// The program that signs.
        program: String,
        /// The key.
        key: SshKey,
    },
    /// `gpg.format = openpgp`, the default.
    OpenPgp {
        /// The program that signs.
        program: String,
        /// What names the key.
        key: String,
    },
}

/// A key of ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SshKey {
    /// A file: the private key, or the public one of a key that the agent has.
    File(PathBuf),
    /// The public key itself; the agent has the private one.
    Literal(String),
}

impl SigningKey {
    /// Returns what signs the user's commits; `None` when they are not to be signed.
    ///
    /// # Errors
    ///
    /// `signing_failed` when they are, and nothing usable says with what.
    pub fn of_user(git: &Repository, committer: &Signature<'_>) -> Result<Option<Self>, Refusal> {
        if !is_on(git, "commit.gpgsign")? {
            return Ok(None);
        }
        let key = of_user(git, "user.signingkey")?;
        let format = of_user(git, "gpg.format")?.unwrap_or_else(|| "openpgp".to_owned());
        match &*format {
            "ssh" => {
                let program = of_user(git, "gpg.ssh.program")?.unwrap_or_else(|| "ssh-keygen".to_owned());
                let key =
                    key.ok_or_else(|| unsigned("`user.signingkey` of the user's git configuration is not set"))?;
                Ok(Some(Self::Ssh { program, key: SshKey::parse(&key)? }))
            }
            "openpgp" => {
                let program = match of_user(git, "gpg.openpgp.program")? {
                    Some(program) => program,
                    None => of_user(git, "gpg.program")?.unwrap_or_else(|| "gpg".to_owned()),
                };
                let named = || {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    format!("{} <{}>", text(committer.name_bytes()), text(committer.email_bytes()))
                };
                Ok(Some(Self::OpenPgp { program, key: key.unwrap_or_else(named) }))
            }
            _ => Err(unsigned("`gpg.format` of the user's git configuration is neither `ssh` nor `openpgp`")),
        }
    }

    /// Signs `content` and returns the signature in its armour.
    ///
    /// # Errors
    ///
    /// `signing_failed`.
    pub fn sign(&self, content: &[u8]) -> Result<String, Refusal> {
        let (ended, begins) = match self {
            Self::OpenPgp { program, key } => {
                let mut command = program::command(program);
                command.args(["--status-fd=2", "-bsau", key]);
                (program::run(command, content, SIGNING_MAX, &|| false), "-----BEGIN PGP")
            }
            Self::Ssh { program, key } => {
                let mut command = program::command(program);
                command.args(["-Y", "sign", "-n", "git", "-f"]);
                let literal = match key {
                    SshKey::File(path) => {
                        command.arg(path);
                        None
                    }
                    SshKey::Literal(key) => {
                        let mut file = NamedTempFile::new().map_err(|error| unsigned(&error.to_string()))?;
                        writeln!(file, "{key}").map_err(|error| unsigned(&error.to_string()))?;
                        command.arg(file.path()).arg("-U");
                        Some(file)
                    }
                };
                let ended = program::run(command, content, SIGNING_MAX, &|| false);
                drop(literal);
                (ended, "-----BEGIN SSH SIGNATURE-----")
            }
        };
        let Ended { status, stdout, stderr } = ended.map_err(|error| unsigned(&error.to_string()))?;
        if !status.success() {
            let last = stderr.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.starts_with("[GNUPG:]"));
            return Err(unsigned(last.unwrap_or("the program that signs says nothing of why")));
        }
        String::from_utf8(stdout)
            .ok()
            .filter(|text| text.starts_with(begins) && text.len() <= SIGNATURE_BYTES_MAX)
            .map(|text| text.trim_end().to_owned())
            .ok_or_else(|| unsigned("the program that signs wrote no signature"))
    }
}

impl SshKey {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let literal = text.strip_prefix("key::").or_else(|| text.starts_with("ssh-").then_some(text));
        if let Some(key) = literal {
            return if key.contains(['\n', '\r']) {
                Err(unsigned("`user.signingkey` has more than one line"))
            } else {
                Ok(Self::Literal(key.trim().to_owned()))
            };
        }
        let path = match text.strip_prefix("~/") {
            Some(rest) => Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(rest),
            None => PathBuf::from(text),
        };
        // Below the working directory it would be a file that an agent can write.
        if !path.is_absolute() {
            return Err(unsigned("`user.signingkey` is neither a key nor an absolute path"));
        }
        if !fs::metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            return Err(unsigned("the file that `user.signingkey` names is not there"));
        }
        Ok(Self::File(path))
    }
}

fn unsigned(why: &str) -> Refusal {
    let why: String = why.chars().filter(|c| !c.is_control()).take(300).collect();
    Refusal::failed(
        "signing_failed",
        format!("the user's git configuration asks for signed commits, and this one cannot be signed: {why}"),
        "have a human unlock the key or correct `user.signingkey`, `gpg.format` or `commit.gpgsign`; nothing was committed",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_files_that_are_named_in_full_or_the_key_itself() {
        let file = NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(SshKey::parse(path).unwrap(), SshKey::File(file.path().to_owned()));
        for literal in ["ssh-ed25519 AAAA x", "key::ssh-ed25519 AAAA x"] {
            assert_eq!(SshKey::parse(literal).unwrap(), SshKey::Literal("ssh-ed25519 AAAA x".into()));
        }
        for bad in ["id_ed25519", "./key", "-f", "/nonexistent/key", "key::a\nb", ""] {
            assert_eq!(SshKey::parse(bad).unwrap_err().code, "signing_failed", "{bad}");
        }
    }
}
