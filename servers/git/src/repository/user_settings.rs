//! What the user's own git configuration says.
//!
//! The user's and the system's files are the operator's; the repository's own can be written by an agent, and what
//! names a program, a key or an account is never taken from there.

use git2::{ConfigLevel, Repository};
use tollgate_shared::refusal::Refusal;

use crate::git_error::failed;

/// Returns the value of `name` (lower case, such as `gpg.format`) in the user's or the system's configuration.
///
/// # Errors
///
/// When the configuration cannot be read.
pub fn of_user(git: &Repository, name: &str) -> Result<Option<String>, Refusal> {
    let unreadable = || failed("read git's configuration");
    let config = git.config().map_err(unreadable())?;
    let mut entries = config.entries(None).map_err(unreadable())?;
    let mut found: Option<(u8, String)> = None;
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(unreadable())?;
        if entry.name().ok() != Some(name) {
            continue;
        }
        // Of one file the last value counts, of several files the user's own.
        if let Some(rank) = rank(entry.level())
            && found.as_ref().is_none_or(|(before, _)| rank >= *before)
        {
            // A name without a value says yes.
            let value = if entry.has_value() { entry.value().unwrap_or_default() } else { "true" };
            found = Some((rank, value.to_owned()));
        }
    }
    Ok(found.map(|(_, value)| value))
}

/// Returns whether `name` is set to yes in the user's or the system's configuration.
///
/// # Errors
///
/// As [`of_user`].
pub fn is_on(git: &Repository, name: &str) -> Result<bool, Refusal> {
    let value = of_user(git, name)?;
    Ok(value.is_some_and(|value| matches!(&*value.to_ascii_lowercase(), "true" | "yes" | "on" | "1")))
}

/// Orders the levels that are not the repository's; `None` for one that is.
fn rank(level: ConfigLevel) -> Option<u8> {
    match level {
        ConfigLevel::ProgramData => Some(0),
        ConfigLevel::System => Some(1),
        ConfigLevel::XDG => Some(2),
        ConfigLevel::Global => Some(3),
        _ => None,
    }
}
