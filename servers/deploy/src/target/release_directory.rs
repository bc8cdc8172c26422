//! A folder of releases on this machine: `releases/<version>-<digest>`, and `current`, a link to one of them.
//!
//! A release is put together under another name and renamed when it is complete and on disk; `current` is replaced by
//! a rename too. So there is no instant at which `current` leads to half a release.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, fchmod, fsync, mkdirat, openat, readlinkat, renameat, statat, symlinkat,
};
use rustix::io::Errno;
use tollgate_shared::content_hash::ContentHash;

use crate::environment::ServiceFolder;
use crate::names::{ReleaseName, ServiceName};
use crate::tree::{self, FOLDER, Modes, Stop, Tree, TreeError};

const RELEASES: &str = "releases";
const SHARED: &str = "shared";
const CURRENT: &str = "current";

/// Beginnings of the names of what is not, or not any more, a release.
const INCOMING: &str = ".incoming-";
const DISCARDED: &str = ".discarded-";
const NEXT: &str = ".current-";

/// What folders on the way are made with: as readable as releases are.
const FOLDER_MODE: Mode = Mode::RWXU.union(Mode::RGRP).union(Mode::XGRP).union(Mode::ROTH).union(Mode::XOTH);

/// How often a waiting call looks at the lock again.
const POLL: Duration = Duration::from_millis(10);

/// Most bytes of a link that is looked at: a release's name has far fewer.
const LINK_BYTES_MAX: usize = 4096;

/// The folder of one service in one environment.
#[derive(Debug)]
pub struct ReleaseDirectory {
    path: PathBuf,
    folder: OwnedFd,
}

/// Proof that no other process works on the folder; released when dropped, and by the system on a crash.
#[derive(Debug)]
pub struct LockedDirectory {
    path: PathBuf,
    /// The folder itself is locked: nothing has to be made for it.
    folder: File,
    releases: OwnedFd,
}

/// Where `current` leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Current {
    /// Nowhere: there is no such name.
    Nothing,
    /// To a release.
    Release(ReleaseName),
    /// It is something that was not made here.
    Foreign,
}

/// What a release on disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// What it was when it was written.
    Intact,
    /// Not there.
    Missing,
    /// Something else.
    Damaged(String),
}

/// A target that cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Another process has it.
    #[error("another deployment is working on {}", .0.display())]
    Busy(PathBuf),
    /// The tree of the artifact or the release.
    #[error(transparent)]
    Tree(TreeError),
    /// What was copied is not what was read.
    #[error("the copy has the digest {0}")]
    Changed(ContentHash),
    /// The artifact has what the environment shares.
    #[error("the artifact has {0:?}, which the environment shares between releases")]
    Taken(String),
    /// The system says no.
    #[error("cannot {what} in {}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl ReleaseDirectory {
    /// Opens the folder of `service`; `None` where there is none yet.
    ///
    /// # Errors
    ///
    /// [`TargetError::Io`].
    pub fn open(folder: &ServiceFolder, service: &ServiceName) -> Result<Option<Self>, TargetError> {
        let path = folder.path(service);
        match descend(folder, service, false) {
            Ok(folder) => Ok(Some(Self { path, folder })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(io_error("open the folder", &path)(error.into())),
        }
    }

    /// Opens the folder of `service`, made where it is missing.
    ///
    /// # Errors
    ///
    /// [`TargetError::Io`].
    pub fn create(folder: &ServiceFolder, service: &ServiceName) -> Result<Self, TargetError> {
        let path = folder.path(service);
        fs::create_dir_all(folder.before()).map_err(io_error("make the folder", folder.before()))?;
        let opened =
            descend(folder, service, true).map_err(|error| io_error("make the folder", &path)(error.into()))?;
        Ok(Self { path, folder: opened })
    }

    /// Returns where `current` leads.
    ///
    /// # Errors
    ///
    /// [`TargetError::Io`].
    pub fn current(&self) -> Result<Current, TargetError> {
        current(&self.folder, &self.path)
    }

    /// Whether there is a folder of this release.
    #[must_use]
    pub fn has(&self, release: &ReleaseName) -> bool {
        openat(&self.folder, RELEASES, FOLDER, Mode::empty()).is_ok_and(|releases| has(&releases, release))
    }

    /// Reads the files of a release; `None` where it is not there.
    ///
    /// # Errors
    ///
    /// [`TargetError::Tree`], [`TargetError::Io`].
    pub fn tree(&self, release: &ReleaseName) -> Result<Option<Tree>, TargetError> {
        match openat(&self.folder, RELEASES, FOLDER, Mode::empty()) {
            Ok(releases) => tree_of(&releases, &self.path, release),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(io_error("open a release", &self.path)(error.into())),
        }
    }

    /// Waits up to `patience` until no other process works on the folder.
    ///
    /// # Errors
    ///
    /// [`TargetError::Busy`], or [`TargetError::Io`].
    pub fn lock(self, patience: Duration) -> Result<LockedDirectory, TargetError> {
        let path = self.path;
        let failed = |what| io_error(what, &path);
        let folder = File::from(self.folder);
        let begun = Instant::now();
        loop {
            match folder.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(failed("lock the folder")(error)),
                Err(TryLockError::WouldBlock) if begun.elapsed() >= patience => {
                    return Err(TargetError::Busy(path));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(POLL),
            }
        }
        // Whoever put another folder in its place meanwhile may hold the lock of that one.
        let id = |folder: BorrowedFd<'_>| tree::folder_id(folder).map_err(failed("look at the folder"));
        let there =
            openat(CWD, &path, FOLDER, Mode::empty()).map_err(|error| failed("open the folder")(error.into()))?;
        if id(there.as_fd())? != id(folder.as_fd())? {
            return Err(TargetError::Busy(path));
        }
        make_folder(&folder, RELEASES).map_err(|error| failed("make the releases")(error.into()))?;
        let releases = openat(&folder, RELEASES, FOLDER, Mode::empty())
            .map_err(|error| failed("open the releases")(error.into()))?;
        fsync(&folder).map_err(|error| failed("write the folder")(error.into()))?;
        Ok(LockedDirectory { path, folder, releases })
    }
}

impl LockedDirectory {
    /// Returns the lock itself: as long as this, or a copy of it in another process, is open, nobody else gets the turn.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn lock(&self) -> io::Result<OwnedFd> {
        self.folder.try_clone().map(OwnedFd::from)
    }

    /// Returns the path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of a release.
    #[must_use]
    pub fn release_path(&self, release: &ReleaseName) -> PathBuf {
        self.path.join(RELEASES).join(release.as_str())
    }

    /// Returns where `current` leads.
    ///
    /// # Errors
    ///
    /// [`TargetError::Io`].
    pub fn current(&self) -> Result<Current, TargetError> {
        current(&self.folder, &self.path)
    }

    /// Returns whether the release is there and has the digest.
    ///
    /// # Errors
    ///
    /// [`TargetError::Io`].
    pub fn integrity(
        &self,
        release: &ReleaseName,
        digest: &ContentHash,
        stop: Stop<'_>,
    ) -> Result<Integrity, TargetError> {
        integrity(&self.releases, release, digest, stop)
    }

    /// Reads the files of a release; `None` where it is not there.
    ///
    /// # Errors
    ///
    /// [`TargetError::Tree`], [`TargetError::Io`].
    pub fn tree(&self, release: &ReleaseName) -> Result<Option<Tree>, TargetError> {
        tree_of(&self.releases, &self.path, release)
    }

    /// Whether there is a folder of this name.
    #[must_use]
    pub fn has(&self, release: &ReleaseName) -> bool {
        has(&self.releases, release)
    }

    /// Copies `tree` from `artifact` to the release `release`, complete and on disk; `id` is nobody else's.
    ///
    /// # Errors
    ///
    /// [`TargetError::Changed`] when the copy is not what was read; then, as after every other error, nothing is left.
    pub fn add(
        &self,
        tree: &Tree,
        artifact: impl AsFd,
        release: &ReleaseName,
        id: &str,
        stop: Stop<'_>,
    ) -> Result<(), TargetError> {
        let incoming = format!("{INCOMING}{id}");
        let added = self.add_as(&incoming, tree, artifact, release, id, stop);
        if added.is_err() {
            let _ = tree::remove(&self.releases, &incoming);
        }
        added
    }

    fn add_as(
        &self,
        incoming: &str,
        tree: &Tree,
        artifact: impl AsFd,
        release: &ReleaseName,
        id: &str,
        stop: Stop<'_>,
    ) -> Result<(), TargetError> {
        let failed = |what| move |error: Errno| io_error(what, &self.path)(error.into());
        mkdirat(&self.releases, incoming, Mode::RWXU).map_err(failed("make a folder"))?;
        let folder = openat(&self.releases, incoming, FOLDER, Mode::empty()).map_err(failed("open a folder"))?;
        tree::copy(tree, artifact, &folder, stop).map_err(TargetError::Tree)?;
        fchmod(&folder, FOLDER_MODE).map_err(failed("set the mode of a folder"))?;
        fsync(&folder).map_err(failed("write a folder"))?;
        let copied = tree::read(&folder, Modes::Release, &[], stop).map_err(TargetError::Tree)?;
        if copied.digest != tree.digest {
            return Err(TargetError::Changed(copied.digest));
        }
        // What has the name already is not this content, or it would not be copied again.
        let discarded = format!("{DISCARDED}{id}");
        match renameat(&self.releases, release.as_str(), &self.releases, &discarded) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(failed("set aside a damaged release")(error)),
        }
        renameat(&self.releases, incoming, &self.releases, release.as_str()).map_err(failed("name the release"))?;
        fsync(&self.releases).map_err(failed("write the releases"))?;
        if let Err(error) = tree::remove(&self.releases, &discarded) {
            tracing::warn!(folder = %self.path.display(), %error, "a damaged release could not be removed");
        }
        Ok(())
    }

    /// Makes each of `names` in the release `release` lead to the folder of that name which all releases share.
    ///
    /// # Errors
    ///
    /// [`TargetError::Taken`] where the release has something else of that name, or [`TargetError::Io`].
    pub fn share(&self, release: &ReleaseName, names: &[String]) -> Result<(), TargetError> {
        if names.is_empty() {
            return Ok(());
        }
        let failed = |error: Errno| io_error("share a folder", &self.path)(error.into());
        make_folder(&self.folder, SHARED).map_err(failed)?;
        let shared = openat(&self.folder, SHARED, FOLDER, Mode::empty()).map_err(failed)?;
        let folder = openat(&self.releases, release.as_str(), FOLDER, Mode::empty()).map_err(failed)?;
        for name in names {
            make_folder(&shared, name).map_err(failed)?;
            // No link, so that nothing outside is shared.
            openat(&shared, name.as_str(), FOLDER, Mode::empty()).map_err(failed)?;
            match symlinkat(tree::shared_link(name), &folder, name.as_str()) {
                Ok(()) => {}
                Err(Errno::EXIST) if tree::is_shared_link(&folder, name) => {}
                Err(Errno::EXIST) => return Err(TargetError::Taken(name.clone())),
                Err(error) => return Err(failed(error)),
            }
        }
        for folder in [&shared, &folder] {
            fsync(folder).map_err(failed)?;
        }
        fsync(&self.folder).map_err(failed)
    }

    /// Makes `current` lead to `release`, or to nothing, in one step and on disk; `id` is nobody else's.
    ///
    /// # Errors
    ///
    /// [`TargetError::Io`]; then `current` leads where it led before, or where it should.
    pub fn switch(&self, release: Option<&ReleaseName>, id: &str) -> Result<(), TargetError> {
        let failed = |error: Errno| io_error("switch the current release", &self.path)(error.into());
        match release {
            Some(release) => {
                let next = format!("{NEXT}{id}");
                tree::remove(&self.folder, &next).map_err(io_error("switch the current release", &self.path))?;
                symlinkat(format!("{RELEASES}/{release}"), &self.folder, &next).map_err(failed)?;
                renameat(&self.folder, &next, &self.folder, CURRENT).map_err(failed)?;
            }
            None => match rustix::fs::unlinkat(&self.folder, CURRENT, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(failed(error)),
            },
        }
        fsync(&self.folder).map_err(failed)
    }

    /// Removes what processes that died left behind.
    ///
    /// # Errors
    ///
    /// [`TargetError::Io`].
    pub fn clear_leftovers(&self) -> Result<(), TargetError> {
        let failed = || io_error("remove what was left behind", &self.path);
        for (folder, beginnings) in
            [(self.folder.as_fd(), &[NEXT][..]), (self.releases.as_fd(), &[INCOMING, DISCARDED][..])]
        {
            for name in names(folder).map_err(failed())? {
                if beginnings.iter().any(|beginning| name.starts_with(beginning)) {
                    tree::remove(folder, &name).map_err(failed())?;
                }
            }
        }
        Ok(())
    }

    /// Removes each of `unwanted` that is there, never what `current` leads to; returns what was removed.
    ///
    /// # Errors
    ///
    /// [`TargetError::Io`].
    pub fn discard(&self, unwanted: &BTreeSet<ReleaseName>, id: &str) -> Result<Vec<ReleaseName>, TargetError> {
        let failed = || io_error("remove an old release", &self.path);
        let current = self.current()?;
        let mut removed = Vec::new();
        for release in unwanted {
            if current == Current::Release(release.clone()) || !self.has(release) {
                continue;
            }
            // Renamed first, so that no half of a release ever has a release's name.
            let discarded = format!("{DISCARDED}{id}");
            renameat(&self.releases, release.as_str(), &self.releases, &discarded)
                .map_err(|error| failed()(error.into()))?;
            tree::remove(&self.releases, &discarded).map_err(failed())?;
            removed.push(release.clone());
        }
        Ok(removed)
    }
}

/// Follows the operator's part of the path, then opens name by name without following links.
fn descend(folder: &ServiceFolder, service: &ServiceName, create: bool) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut opened = openat(CWD, folder.before(), flags, Mode::empty())?;
    for name in folder.names(service) {
        if create {
            make_folder(&opened, name)?;
        }
        let below = openat(&opened, name, FOLDER, Mode::empty())?;
        if create {
            fsync(&opened)?;
        }
        opened = below;
    }
    Ok(opened)
}

fn make_folder(parent: impl AsFd, name: &str) -> Result<(), Errno> {
    match mkdirat(parent, name, FOLDER_MODE) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

fn has(releases: impl AsFd, release: &ReleaseName) -> bool {
    statat(releases, release.as_str(), AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn tree_of(releases: impl AsFd, path: &Path, release: &ReleaseName) -> Result<Option<Tree>, TargetError> {
    match openat(&releases, release.as_str(), FOLDER, Mode::empty()) {
        Ok(folder) => tree::read(&folder, Modes::Release, &[], &|| false).map(Some).map_err(TargetError::Tree),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(io_error("open a release", path)(error.into())),
    }
}

fn current(folder: impl AsFd, path: &Path) -> Result<Current, TargetError> {
    match readlinkat(folder, CURRENT, Vec::with_capacity(LINK_BYTES_MAX)) {
        Ok(link) => Ok(link
            .to_str()
            .ok()
            .and_then(|link| ReleaseName::parse(link.strip_prefix(RELEASES)?.strip_prefix('/')?))
            .map_or(Current::Foreign, Current::Release)),
        Err(Errno::NOENT) => Ok(Current::Nothing),
        // Not a link.
        Err(Errno::INVAL) => Ok(Current::Foreign),
        Err(error) => Err(io_error("look at the current release", path)(error.into())),
    }
}

fn integrity(
    releases: impl AsFd,
    release: &ReleaseName,
    digest: &ContentHash,
    stop: Stop<'_>,
) -> Result<Integrity, TargetError> {
    let folder = match openat(releases, release.as_str(), FOLDER, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(Integrity::Missing),
        Err(error) => return Ok(Integrity::Damaged(format!("it is not a folder: {}", io::Error::from(error)))),
    };
    match tree::read(&folder, Modes::Release, &[], stop) {
        Ok(tree) if tree.digest == *digest => Ok(Integrity::Intact),
        Ok(_) => Ok(Integrity::Damaged("its files are not those that were released".to_owned())),
        Err(TreeError::Stopped) => Err(TargetError::Tree(TreeError::Stopped)),
        Err(error) => Ok(Integrity::Damaged(error.to_string())),
    }
}

fn names(folder: impl AsFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for listed in Dir::read_from(folder)? {
        // What has another kind of name is nothing of ours.
        if let Ok(name) = listed?.file_name().to_str() {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TargetError {
    let path = path.to_owned();
    move |source| TargetError::Io { what, path, source }
}
