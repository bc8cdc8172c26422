//! What is to be deployed: a folder or a `.tar.gz` inside the roots.

pub mod archive;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use tollgate_shared::error_chain::Chain;
use tollgate_shared::refusal::Refusal;

use archive::{ArchiveError, Unpacked};
use tollgate_shared::state_dir::StateDir;

use crate::environment::normal;
use crate::names::shown;
use crate::tree::{self, FOLDER, FolderId, Modes, Stop, Tree, TreeError};

/// Longest path that is looked at: what Linux takes.
const PATH_BYTES_MAX: usize = 4096;

/// The folders in which an artifact may lie.
#[derive(Debug)]
pub struct ArtifactRoots {
    workspace: PathBuf,
    configured: Vec<PathBuf>,
    /// Resolved once: a root that somebody replaces with a symbolic link afterwards leads nowhere new.
    resolved: Vec<OnceLock<PathBuf>>,
}

/// An artifact, open, as it was read.
#[derive(Debug)]
pub struct Artifact {
    /// Its folder.
    pub folder: OwnedFd,
    /// Its files.
    pub tree: Tree,
    /// Where an archive was unpacked; removed when this is dropped.
    pub unpacked: Option<Unpacked>,
}

impl ArtifactRoots {
    /// Takes the roots as configured, relative to `workspace`; looks at none of them yet.
    #[must_use]
    pub fn new(workspace: &Path, configured: &[String]) -> Self {
        let configured: Vec<PathBuf> = configured.iter().map(|root| normal(&workspace.join(root))).collect();
        let resolved = configured.iter().map(|_| OnceLock::new()).collect();
        Self { workspace: workspace.to_owned(), configured, resolved }
    }

    /// Opens and reads the artifact that a caller named, relative to the workspace; `forbidden` may not be in or
    /// around it.
    ///
    /// # Errors
    ///
    /// `invalid_path`, `path_outside_root`, `artifact_not_found`, `artifact_not_plain`, `artifact_too_large`,
    /// `artifact_unreadable`.
    pub fn read(
        &self,
        written: &str,
        forbidden: &[FolderId],
        state_dir: &StateDir,
        stop: Stop<'_>,
    ) -> Result<Artifact, Refusal> {
        if written.is_empty() || written.len() > PATH_BYTES_MAX || written.contains('\0') {
            return Err(Refusal::refused(
                "invalid_path",
                format!("`artifact` {} is not a path", shown(written)),
                "give the path of a folder or a `.tar.gz`, relative to the workspace",
            ));
        }
        if archive::is_archive(written) {
            return self.unpack(written, forbidden, state_dir, stop);
        }
        let folder = self.open(written, forbidden)?;
        let tree = tree::read(&folder, Modes::Artifact, forbidden, stop).map_err(|error| refused(&error))?;
        if tree.files == 0 {
            return Err(not_plain(format!("the artifact {} has no files", shown(written))));
        }
        Ok(Artifact { folder, tree, unpacked: None })
    }

    fn unpack(
        &self,
        written: &str,
        forbidden: &[FolderId],
        state_dir: &StateDir,
        stop: Stop<'_>,
    ) -> Result<Artifact, Refusal> {
        let (parent, name) = match written.rsplit_once('/') {
            Some(("", name)) => ("/", name),
            Some((parent, name)) => (parent, name),
            None => (".", written),
        };
        let parent = self.open(parent, forbidden)?;
        let file = archive::open(&parent, name).map_err(|error| match error {
            Errno::NOENT => cannot_open(written, error),
            // Not followed: it is a link, a folder or a device.
            Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::INVAL => {
                not_plain(format!("{} is not a plain file", shown(written)))
            }
            _ => cannot_open(written, error),
        })?;
        let unpacked = Unpacked::new(state_dir, file, stop).map_err(|error| archive_refused(&error))?;
        let tree = tree::read(unpacked.folder(), Modes::Artifact, forbidden, stop).map_err(|error| refused(&error))?;
        if tree.files == 0 {
            return Err(not_plain(format!("the artifact {} has no files", shown(written))));
        }
        let folder =
            openat(unpacked.folder(), ".", FOLDER, Mode::empty()).map_err(|error| cannot_open(written, error))?;
        Ok(Artifact { folder, tree, unpacked: Some(unpacked) })
    }

    fn open(&self, written: &str, forbidden: &[FolderId]) -> Result<OwnedFd, Refusal> {
        let wanted = self.workspace.join(written);
        if wanted.components().any(|component| component == Component::ParentDir) {
            return Err(self.outside(written));
        }
        // The nearest root wins where one lies in another.
        let (root, rest) = self
            .roots()
            .filter_map(|(known_as, root)| Some((root, wanted.strip_prefix(known_as).ok()?)))
            .min_by_key(|(_, rest)| rest.components().count())
            .ok_or_else(|| self.outside(written))?;
        let mut folder = openat(CWD, root, FOLDER, Mode::empty()).map_err(|error| cannot_open(written, error))?;
        let known = |folder: &OwnedFd| tree::folder_id(folder).is_ok_and(|id| forbidden.contains(&id));
        for component in rest.components() {
            let Component::Normal(name) = component else { continue };
            if known(&folder) {
                return Err(self.outside(written));
            }
            folder = match openat(&folder, name, FOLDER, Mode::empty()) {
                Ok(below) => below,
                Err(error) => {
                    let kind = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)
                        .map(|stat| FileType::from_raw_mode(stat.st_mode));
                    return Err(match kind {
                        Ok(FileType::Symlink) => {
                            not_plain(format!("{} is or is behind a symbolic link", shown(written)))
                        }
                        Ok(FileType::Directory) | Err(_) => cannot_open(written, error),
                        Ok(_) => not_plain(format!("{} is not a folder", shown(written))),
                    });
                }
            };
        }
        if known(&folder) {
            return Err(self.outside(written));
        }
        Ok(folder)
    }

    /// Returns every root that is there, under the names by which a path may lead to it.
    fn roots(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.configured.iter().zip(&self.resolved).flat_map(|(configured, resolved)| {
            let root = match resolved.get() {
                Some(path) => Some(path.as_path()),
                None => fs::canonicalize(configured).ok().map(|path| resolved.get_or_init(|| path).as_path()),
            };
            [(configured.as_path(), root), (root.unwrap_or(configured), root)]
                .into_iter()
                .filter_map(|(known_as, root)| Some((known_as, root?)))
        })
    }

    fn outside(&self, written: &str) -> Refusal {
        let roots: Vec<String> = self.configured.iter().map(|root| root.display().to_string()).collect();
        Refusal::refused(
            "path_outside_root",
            format!("{} is outside the folders that artifacts may lie in", shown(written)),
            format!("use a folder below {}, without `..`, and not Tollgate's own state", roots.join(", ")),
        )
    }
}

/// Returns what identifies the folder at `path`; `None` where there is none.
#[must_use]
pub fn folder_id_at(path: &Path) -> Option<FolderId> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    tree::folder_id(openat(CWD, path, flags, Mode::empty()).ok()?).ok()
}

/// The refusal of an artifact that cannot be read.
#[must_use]
pub fn refused(error: &TreeError) -> Refusal {
    match error {
        TreeError::NotPlain { .. } => not_plain(format!("in the artifact, {error}")),
        TreeError::TooLarge(what) => Refusal::refused(
            "artifact_too_large",
            format!("the artifact has {what}"),
            "release only what the service needs to run",
        ),
        TreeError::Changed { .. } => changed(error),
        TreeError::Io { .. } => Refusal::refused(
            "artifact_unreadable",
            format!("the artifact cannot be read: {}", Chain(error)),
            "make its files and folders readable",
        ),
        TreeError::Stopped => Refusal::cancelled(),
    }
}

/// The failure of a deployment whose artifact is not any more what the gates looked at.
#[must_use]
pub fn changed(reason: &dyn std::fmt::Display) -> Refusal {
    Refusal::failed(
        "artifact_changed",
        format!("the artifact changed while it was deployed ({reason}); nothing of it was released"),
        "let the build finish, then deploy again",
    )
}

fn archive_refused(error: &ArchiveError) -> Refusal {
    match error {
        ArchiveError::Stopped => Refusal::cancelled(),
        ArchiveError::TooLarge(what) => Refusal::refused(
            "artifact_too_large",
            format!("the archive has {what}"),
            "release only what the service needs to run",
        ),
        ArchiveError::NotPlain { .. } | ArchiveError::Broken(_) => Refusal::refused(
            "artifact_not_plain",
            Chain(error).to_string(),
            "pack plain files and folders with `tar -czf`, without links",
        ),
        ArchiveError::Io(_) => Refusal::failed(
            "target_failed",
            Chain(error).to_string(),
            "have the operator look at the state folder: it must be writable and have free space",
        ),
    }
}

fn not_plain(message: String) -> Refusal {
    Refusal::refused(
        "artifact_not_plain",
        message,
        "deploy a folder with only plain files and folders, without symbolic links",
    )
}

fn cannot_open(written: &str, error: Errno) -> Refusal {
    if error == Errno::NOENT {
        return Refusal::refused(
            "artifact_not_found",
            format!("{} does not exist", shown(written)),
            "build it first, and give its path relative to the workspace",
        );
    }
    Refusal::refused(
        "artifact_unreadable",
        format!("{} cannot be opened: {}", shown(written), std::io::Error::from(error)),
        "make it a folder that can be read",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn world() -> (TempDir, ArtifactRoots) {
        let dir = TempDir::new().unwrap();
        for folder in ["work/dist/bin", "work/empty", "work/.tollgate/x", "outside/dist"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        for file in ["work/dist/bin/shop", "work/.tollgate/x/y", "outside/dist/secret", "work/file"] {
            fs::write(dir.path().join(file), file).unwrap();
        }
        symlink("../outside", dir.path().join("work/link")).unwrap();
        symlink("dist", dir.path().join("work/inner")).unwrap();
        let roots = ArtifactRoots::new(&dir.path().join("work"), &[".".to_owned()]);
        (dir, roots)
    }

    fn code(dir: &TempDir, roots: &ArtifactRoots, path: &str) -> &'static str {
        let state = folder_id_at(&dir.path().join("work/.tollgate")).unwrap();
        let state_dir = StateDir::choose(Some(&dir.path().join("work/.tollgate")), dir.path());
        roots.read(path, &[state], &state_dir, &|| false).map_or_else(|refusal| refusal.code, |_| "ok")
    }

    #[test]
    fn artifacts_and_their_imitations() {
        let (dir, roots) = world();
        let inside = dir.path().join("work/dist").display().to_string();
        let outside = dir.path().join("outside/dist").display().to_string();
        let long = "x/".repeat(5_000_000);
        for (path, expected) in [
            ("dist", "ok"),
            ("./dist/", "ok"),
            ("dist/bin", "ok"),
            (&*inside, "ok"),
            ("", "invalid_path"),
            ("a\0b", "invalid_path"),
            (&*long, "invalid_path"),
            ("..", "path_outside_root"),
            ("../outside/dist", "path_outside_root"),
            ("dist/../dist", "path_outside_root"),
            ("dist/../../outside/dist", "path_outside_root"),
            ("/etc", "path_outside_root"),
            ("/", "path_outside_root"),
            (&*outside, "path_outside_root"),
            (".tollgate", "path_outside_root"),
            (".tollgate/x", "path_outside_root"),
            ("link", "artifact_not_plain"),
            ("link/dist", "artifact_not_plain"),
            ("inner", "artifact_not_plain"),
            ("inner/bin", "artifact_not_plain"),
            ("file", "artifact_not_plain"),
            ("empty", "artifact_not_plain"),
            (".", "artifact_not_plain"),
            ("nothing", "artifact_not_found"),
            ("dist/bin/nothing", "artifact_not_found"),
        ] {
            assert_eq!(code(&dir, &roots, path), expected, "{}", shown(path));
        }
    }

    #[test]
    fn root_replaced_by_a_link_leads_nowhere_new() {
        let (dir, _) = world();
        let roots = ArtifactRoots::new(&dir.path().join("work"), &["dist".to_owned()]);
        assert_eq!(code(&dir, &roots, "dist"), "ok");
        assert_eq!(code(&dir, &roots, "empty"), "path_outside_root");
        fs::rename(dir.path().join("work/dist"), dir.path().join("work/moved")).unwrap();
        symlink("../outside/dist", dir.path().join("work/dist")).unwrap();
        assert_ne!(code(&dir, &roots, "dist"), "ok");
    }
}
