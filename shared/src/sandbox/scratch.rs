//! Folders that a job may write, made for one run and gone after it.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::ids::EntryId;

/// Files and folders that a job may make; far above what a build makes.
const ENTRIES_MAX: usize = 500_000;

/// Deepest folder that a job may make; deeper ones are made to break whoever deletes them.
const DEPTH_MAX: usize = 128;

/// What a process that was killed left behind is deleted after this time.
const LEFT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder with a place for a program's home and for its temporary files.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a new folder below the system's folder for temporary files, for this user only.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn new() -> io::Result<Self> {
        let user = rustix::process::geteuid().as_raw();
        let all = std::env::temp_dir().canonicalize()?.join(format!("tollgate-scratch-{user}"));
        let private = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path);
        match private(&all) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Somebody else may have made it first.
                let metadata = fs::symlink_metadata(&all)?;
                if !metadata.is_dir() || metadata.uid() != user || metadata.mode() & 0o077 != 0 {
                    return Err(io::Error::other(format!("{} is not this user's own folder", all.display())));
                }
                sweep(&all);
            }
            made => made?,
        }
        let scratch = Self { path: all.join(EntryId::generate().to_string()) };
        private(&scratch.path)?;
        for folder in ["home", "tmp"] {
            private(&scratch.path.join(folder))?;
        }
        Ok(scratch)
    }

    /// Returns the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the program's home.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.path.join("home")
    }

    /// Returns the place for temporary files.
    #[must_use]
    pub fn temporary(&self) -> PathBuf {
        self.path.join("tmp")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Returns whether the files below `folder` use more than `bytes_max`, or are too many or too deep to tell.
#[must_use]
pub fn exceeds(folder: &Path, bytes_max: u64) -> bool {
    let (mut bytes, mut entries) = (0_u64, 0);
    let mut rest = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = rest.pop() {
        if depth > DEPTH_MAX {
            return true;
        }
        // What vanishes meanwhile uses nothing.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            entries += 1;
            let Ok(metadata) = entry.metadata() else { continue };
            bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                rest.push((entry.path(), depth + 1));
            }
            if bytes > bytes_max || entries > ENTRIES_MAX {
                return true;
            }
        }
    }
    false
}

/// Deletes a folder whose content a job made, as far as that is possible.
fn remove(path: &Path) {
    if fs::remove_dir_all(path).is_ok() {
        return;
    }
    // Folders that their maker closed are opened first.
    let mut rest = vec![(path.to_owned(), 0)];
    while let Some((folder, depth)) = rest.pop() {
        let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o700));
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if depth <= DEPTH_MAX && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                rest.push((entry.path(), depth + 1));
            }
        }
    }
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!(path = %path.display(), %error, "a scratch folder cannot be deleted");
    }
}

fn sweep(all: &Path) {
    let now = SystemTime::now();
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|modified| now.duration_since(modified).ok());
        if age.is_some_and(|age| age > LEFT_MAX) {
            remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_is_private_and_goes_away() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        fs::create_dir_all(scratch.temporary().join("closed/inner")).unwrap();
        fs::set_permissions(scratch.temporary().join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn too_much_too_many_and_too_deep_are_seen() {
        let scratch = Scratch::new().unwrap();
        assert!(!exceeds(scratch.path(), 1 << 20));
        fs::write(scratch.home().join("large"), vec![1; 2 << 20]).unwrap();
        assert!(exceeds(scratch.path(), 1 << 20));
        assert!(!exceeds(scratch.path(), 4 << 20));
        let deep: PathBuf = std::iter::repeat_n("d", DEPTH_MAX + 2).collect();
        fs::create_dir_all(scratch.path().join(deep)).unwrap();
        assert!(exceeds(scratch.path(), 4 << 20));
    }
}
