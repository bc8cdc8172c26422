//! The folder that holds everything Tollgate remembers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The name of the folder inside a workspace.
pub const STATE_DIR_NAME: &str = ".tollgate";

/// The environment variable through which a server learns which file its caller holds locked.
pub const OWNER_FILE_VARIABLE: &str = "TOLLGATE_OWNER_FILE";

/// Keeps the file of [`OWNER_FILE_VARIABLE`] locked until this process ends, so that whoever finds it unlocked knows
/// that nobody of the run can write a receipt any more. Without the variable there is nothing to keep.
pub fn hold_owner_file() {
    static HELD: OnceLock<fs::File> = OnceLock::new();
    let Some(path) = std::env::var_os(OWNER_FILE_VARIABLE) else { return };
    if let Ok(file) = fs::File::options().append(true).open(path)
        && file.lock_shared().is_ok()
    {
        let _ = HELD.set(file);
    }
}

/// The folder that holds the ledger, the caches and the deployments of one workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir(PathBuf);

/// The state folder cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the state folder {}", .path.display())]
pub struct StateDirError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl StateDir {
    /// Chooses the folder: `chosen` (from `--state-dir` or `TOLLGATE_STATE_DIR`), else `.tollgate` in `workspace`.
    #[must_use]
    pub fn choose(chosen: Option<&Path>, workspace: &Path) -> Self {
        Self(chosen.map_or_else(|| workspace.join(STATE_DIR_NAME), |path| workspace.join(path)))
    }

    /// Makes the folder where it is missing, readable by its owner only and ignored by git.
    ///
    /// # Errors
    ///
    /// [`StateDirError`] with the path that cannot be made.
    pub fn create(&self) -> Result<&Path, StateDirError> {
        let failed = |source| StateDirError { path: self.0.clone(), source };
        if !self.0.is_dir() {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true);
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(&self.0).map_err(failed)?;
        }
        let ignore = self.0.join(".gitignore");
        if !ignore.exists() {
            fs::write(&ignore, "*\n").map_err(failed)?;
        }
        Ok(&self.0)
    }

    /// Returns the path of the folder, which need not exist yet.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path of the ledger.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.0.join("ledger.db")
    }
}
