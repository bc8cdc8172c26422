//! Which state folder this is: the one that has the sessions and working trees of the tasks begun here.

use std::io;
use std::path::Path;

use anyhow::Context;
use tollgate_shared::state_dir::StateDir;

/// Returns the name of the state folder, which it keeps from the first time on.
pub(super) fn of(state_dir: &StateDir) -> anyhow::Result<String> {
    let path = state_dir.create()?.join("place");
    named(&path).with_context(|| format!("cannot use {}", path.display()))
}

fn named(path: &Path) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    let name = uuid::Uuid::now_v7().to_string();
    let new = path.with_extension(&name);
    std::fs::write(&new, &name)?;
    // Whoever comes first names it; nobody ever sees half a name.
    let linked = std::fs::hard_link(&new, path);
    std::fs::remove_file(&new)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => std::fs::read_to_string(path),
    }
}
