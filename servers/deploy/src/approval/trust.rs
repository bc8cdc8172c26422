//! Whether the account that the server runs as could go around the people who approve.
//!
//! An agent that has a shell under the same account can do what the account can. This finds the plain cases; it cannot
//! find every one, so what it does not find is not safe for that.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::geteuid;
use ssh_key::PublicKey;
use tollgate_shared::config::CONFIG_FILE_NAME;

use super::agent;
use super::signers::Signers;
use crate::environment::Environment;

/// Most files of an SSH folder that are looked at.
const KEYS_MAX: usize = 200;

/// Where what decides lies.
#[derive(Clone, Debug)]
pub struct Place {
    /// The folder of the configuration.
    pub workspace: PathBuf,
    /// The folder of the history.
    pub state_dir: PathBuf,
}

/// Returns what in the setup lets the server's account decide instead of the people, one sentence each.
#[must_use]
pub fn weaknesses(environment: &Environment, place: &Place) -> Vec<String> {
    let mut found = Vec::new();
    let chosen = env::var_os("TOLLGATE_CONFIG").map(PathBuf::from);
    for (what, path) in [
        ("the configuration", Some(place.workspace.join(CONFIG_FILE_NAME))),
        ("the configuration", chosen),
        ("the approvers' file", environment.approvers.clone()),
    ] {
        let Some(path) = path else { continue };
        if let Some(changeable) = changeable(&path) {
            found.push(format!("this account could change {what}, because it may write {}", changeable.display()));
        }
    }
    match fs::metadata(&place.state_dir) {
        Ok(metadata) if metadata.mode() & 0o022 != 0 => {
            found.push("other accounts could write the state folder".to_owned());
        }
        Ok(metadata) if metadata.uid() != geteuid().as_raw() => {
            found.push("another account owns the state folder".to_owned());
        }
        _ => {}
    }
    let Some(path) = &environment.approvers else { return found };
    let Ok(signers) = super::read_bounded(path).and_then(|text| Ok(Signers::parse(&text)?)) else { return found };
    if let Some(socket) = env::var_os("SSH_AUTH_SOCK")
        && let Ok(keys) = agent::identities(Path::new(&socket))
        && let Some(person) = keys.iter().find_map(|key| signers.find(key.key_data()))
    {
        found.push(format!("this account can reach an SSH agent that holds a key of {}", person.person));
    }
    for (public, private) in own_keys() {
        if let Some(signer) = signers.find(public.key_data())
            && access(&private, Access::READ_OK).is_ok()
        {
            found.push(format!("this account can read a key of {}", signer.person));
        }
    }
    found
}

/// Returns what this account may write, so that it could change or replace `path`.
fn changeable(path: &Path) -> Option<PathBuf> {
    // Where it really is; what leads there through a link counts too.
    let real = fs::canonicalize(path).ok();
    let mut seen = [Some(path.to_owned()), real];
    seen.iter_mut().flatten().find_map(|path| {
        path.ancestors().enumerate().find_map(|(above, part)| {
            let metadata = fs::symlink_metadata(part).ok()?;
            let own = metadata.uid() == geteuid().as_raw();
            // In a folder such as /tmp only an entry's owner may replace it, and that the entry has another is seen below.
            let sticky = above > 0 && metadata.mode() & 0o1000 != 0;
            let writable = !metadata.is_symlink() && access(part, Access::WRITE_OK).is_ok() && !sticky;
            (own || writable).then(|| part.to_owned())
        })
    })
}

/// Returns the pairs of public and private keys in this account's SSH folder.
#[must_use]
pub fn own_keys() -> Vec<(PublicKey, PathBuf)> {
    let Some(home) = env::var_os("HOME") else { return Vec::new() };
    let Ok(listed) = fs::read_dir(Path::new(&home).join(".ssh")) else { return Vec::new() };
    listed
        .flatten()
        .take(KEYS_MAX)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pub"))
        .filter_map(|path| {
            let text = super::read_bounded(&path).ok()?;
            Some((PublicKey::from_openssh(text.trim()).ok()?, path.with_extension("")))
        })
        .collect()
}
