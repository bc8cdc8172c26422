//! The task's working tree, as it lies on disk.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Files and folders that are copied for acceptance commands at most.
const ENTRIES_MAX: usize = 200_000;

/// Bytes that are copied at most.
const BYTES_MAX: u64 = 2 << 30;

/// Returns the commit that the branch of the linked working tree `worktree` is at, read from git's own files.
///
/// Nothing is left of it where it cannot be read: two such looks are the same.
pub(super) fn tip(worktree: &Path, branch: &str) -> Option<String> {
    let link = fs::read_to_string(worktree.join(".git")).ok()?;
    let admin = PathBuf::from(link.strip_prefix("gitdir:")?.trim());
    let common = fs::read_to_string(admin.join("commondir")).ok()?;
    let common = admin.join(common.trim());
    let name = format!("refs/heads/{branch}");
    if let Ok(tip) = fs::read_to_string(common.join(&name)) {
        return Some(tip.trim().to_owned());
    }
    let packed = fs::read_to_string(common.join("packed-refs")).ok()?;
    packed.lines().find_map(|line| line.split_once(' ').filter(|(_, of)| *of == name).map(|(tip, _)| tip.to_owned()))
}

/// Copies what is in `from`, except git's own, to the new folder `to`; symbolic links stay links.
///
/// # Errors
///
/// What the file system says, or that there is too much.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let (mut entries, mut bytes) = (0, 0);
    let mut rest = vec![PathBuf::new()];
    while let Some(folder) = rest.pop() {
        fs::create_dir(to.join(&folder))?;
        for entry in fs::read_dir(from.join(&folder))? {
            let entry = entry?;
            let name = entry.file_name();
            if name == ".git" {
                continue;
            }
            entries += 1;
            let path = folder.join(&name);
            let metadata = fs::symlink_metadata(entry.path())?;
            if metadata.is_dir() {
                rest.push(path);
            } else if metadata.is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(entry.path())?, to.join(path))?;
            } else if metadata.is_file() {
                bytes += metadata.len();
                if entries > ENTRIES_MAX || bytes > BYTES_MAX {
                    return Err(io::Error::other("the working tree has more than 200000 files or 2 GiB"));
                }
                fs::copy(entry.path(), to.join(&path))?;
                // What may not be written here may be there.
                let mode = metadata.permissions().mode() | 0o200;
                fs::set_permissions(to.join(path), fs::Permissions::from_mode(mode))?;
            }
        }
    }
    Ok(())
}
