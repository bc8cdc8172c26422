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

/// Says what is wrong when `worktree` is not the working tree that was made of `repository`: an agent may have put another
/// repository's link there, whose branches and programs are not the task's.
pub(super) fn check(worktree: &Path, repository: &Path) -> Result<(), String> {
    let changed = || "its .git is not as it was made: it may lead to another repository".to_owned();
    let link = worktree.join(".git");
    let is_file = fs::symlink_metadata(&link).is_ok_and(|metadata| metadata.is_file());
    let text = fs::read_to_string(&link).ok().filter(|_| is_file).ok_or_else(changed)?;
    let admin = PathBuf::from(text.strip_prefix("gitdir:").ok_or_else(changed)?.trim());
    let admin = worktree.join(admin).canonicalize().map_err(|_| changed())?;
    // What lies in the working tree may be the agent's own; what lies in the repository is not.
    let back = fs::read_to_string(admin.join("gitdir")).map_err(|_| changed())?;
    let is_mutual = Path::new(back.trim()).canonicalize().ok() == link.canonicalize().ok();
    let common = common_dir(repository).ok_or_else(|| format!("{} is no repository", repository.display()))?;
    if is_mutual && admin.parent() == Some(&common.join("worktrees")) { Ok(()) } else { Err(changed()) }
}

/// Returns the folder of the repository that `folder` is a working tree of, or lies in.
fn common_dir(folder: &Path) -> Option<PathBuf> {
    let git = folder.ancestors().map(|folder| folder.join(".git")).find(|git| git.symlink_metadata().is_ok())?;
    if git.is_dir() {
        return git.canonicalize().ok();
    }
    let link = fs::read_to_string(&git).ok()?;
    let admin = git.parent()?.join(link.strip_prefix("gitdir:")?.trim());
    let common =
        fs::read_to_string(admin.join("commondir")).map_or_else(|_| admin.clone(), |common| admin.join(common.trim()));
    common.canonicalize().ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_repositorys_link_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (repository, worktree) = (root.join("repository"), root.join("repository/.tollgate/worktrees/t"));
        let make = |repository: &Path| {
            let admin = repository.join(".git/worktrees/t");
            fs::create_dir_all(&admin).unwrap();
            fs::write(admin.join("commondir"), "../..\n").unwrap();
            fs::write(admin.join("gitdir"), format!("{}\n", worktree.join(".git").display())).unwrap();
            format!("gitdir: {}\n", admin.display())
        };
        fs::create_dir_all(&worktree).unwrap();
        let link = worktree.join(".git");
        let own = make(&repository);
        fs::write(&link, &own).unwrap();
        assert_eq!(check(&worktree, &repository), Ok(()));
        assert_eq!(check(&worktree, &worktree), Ok(()), "a task in a linked working tree");
        fs::create_dir_all(repository.join("folder")).unwrap();
        assert_eq!(check(&worktree, &repository.join("folder")), Ok(()));

        let of_another = make(&root.join("another"));
        let in_itself = make(&worktree.join("sub"));
        for strange in
            [of_another, in_itself, format!("gitdir: {}\n", repository.join(".git").display()), String::new()]
        {
            fs::write(&link, &strange).unwrap();
            assert!(check(&worktree, &repository).is_err(), "{strange}");
        }
        fs::remove_file(&link).unwrap();
        fs::write(root.join("link"), &own).unwrap();
        std::os::unix::fs::symlink(root.join("link"), &link).unwrap();
        assert!(check(&worktree, &repository).is_err(), "a symbolic link");
        fs::remove_file(&link).unwrap();
        fs::create_dir(&link).unwrap();
        assert!(check(&worktree, &repository).is_err(), "a repository of its own");
    }
}
