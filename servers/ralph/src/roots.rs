//! The folders that files may be in, and the only way to read a file.
//!
//! A path is resolved by `cap-std` beneath the root's open handle, so that neither `..`, nor a symbolic link, nor
//! a folder that is swapped for one while it is walked leads out of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use ignore::WalkBuilder;
use tollgate_shared::refusal::Refusal;

/// Longest path that is looked at: what Linux takes.
const PATH_BYTES_MAX: usize = 4096;

/// Longest glob that is looked at.
const GLOB_BYTES_MAX: usize = 1024;

/// Most files and folders that one walk looks at: a repository of this size takes about a second.
const WALK_ENTRIES_MAX: usize = 250_000;

/// Deepest folder that a walk enters.
const WALK_DEPTH_MAX: usize = 64;

/// The folders that the operator opened to agents.
#[derive(Debug)]
pub struct Roots {
    workspace: PathBuf,
    roots: Vec<Root>,
}

#[derive(Debug)]
struct Root {
    /// As configured, made absolute.
    path: PathBuf,
    /// Opened once: a root that somebody replaces afterwards leads nowhere new.
    opened: OnceLock<Opened>,
}

#[derive(Debug)]
struct Opened {
    folder: Dir,
    /// Without symbolic links.
    resolved: PathBuf,
}

/// Where a file is: a root, and a path beneath it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    root: usize,
    beneath: PathBuf,
    /// Whether a listing said that a file is there.
    is_listed: bool,
    /// How the answer names it: relative to the workspace where it is inside.
    pub shown: String,
}

/// What is at a place, links not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A pipe, a device, a socket.
    Special,
}

/// Why a file was not read.
#[derive(Debug)]
pub enum Unread {
    /// There is no such file.
    Missing,
    /// Not a regular file.
    NotAFile,
    /// More bytes than allowed.
    TooLarge,
    /// The path leads out of the root.
    Outside,
    /// The file system said no.
    Failed(io::Error),
}

impl Roots {
    /// Takes the roots as configured, relative to `workspace`; looks at none of them yet.
    ///
    /// # Errors
    ///
    /// A root that cannot be a path, or none at all.
    pub fn new(workspace: &Path, configured: &[String]) -> anyhow::Result<Self> {
        anyhow::ensure!(!configured.is_empty(), "`ralph.roots` is empty: there is nothing to verify");
        let roots = configured
            .iter()
            .map(|root| {
                anyhow::ensure!(
                    !root.is_empty() && !root.contains('\0'),
                    "`ralph.roots` has an empty or impossible path"
                );
                Ok(Root { path: workspace.join(root), opened: OnceLock::new() })
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { workspace: workspace.to_owned(), roots })
    }

    /// Finds the root that `written` is beneath, by its text alone; reading it decides what is really there.
    ///
    /// # Errors
    ///
    /// `path_outside_root` when it is beneath none, `invalid_arguments` when it is no path.
    pub fn place(&self, written: &str) -> Result<Place, Refusal> {
        if written.is_empty() || written.len() > PATH_BYTES_MAX || written.contains('\0') {
            return Err(Refusal::invalid_arguments(
                format!("{} is not a path", quoted(written)),
                "give the path of a file, relative to the workspace or absolute",
            ));
        }
        // `..` stays: what it leads to is known only once the links before it are followed.
        let path: PathBuf = self.workspace.join(written).components().collect();
        let found = self.roots.iter().enumerate().find_map(|(root, candidate)| {
            let candidates = [Some(candidate.path.as_path()), candidate.resolved()];
            let beneath = candidates.into_iter().flatten().find_map(|base| path.strip_prefix(normal(base)).ok())?;
            // A path that steps above its root right away is another root's business, or nobody's.
            stays_inside(beneath).then(|| (root, beneath.to_owned()))
        });
        match found {
            Some((root, beneath)) => Ok(Place { root, beneath, shown: self.shown(&path), is_listed: false }),
            None => Err(self.outside(written)),
        }
    }

    /// The refusal of a path outside every root.
    #[must_use]
    pub fn outside(&self, written: &str) -> Refusal {
        let roots: Vec<String> = self.roots.iter().map(|root| root.path.display().to_string()).collect();
        Refusal::refused(
            "path_outside_root",
            format!("{} is outside the folders that this server may read", quoted(written)),
            format!("name a file below {}, or have the operator extend `ralph.roots`", roots.join(", ")),
        )
    }

    /// Reads the file at `place`, at most `bytes_max` bytes of it.
    ///
    /// # Errors
    ///
    /// [`Unread`] says why not.
    pub fn read(&self, place: &Place, bytes_max: usize) -> Result<Vec<u8>, Unread> {
        // Opening a named pipe or a device must neither wait nor have an effect.
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(rustix_flags());
        let folder = self.folder(place.root).map_err(Unread::Failed)?;
        // Who lists thousands of files has just seen that they are files.
        if !place.is_listed && !folder.metadata(&place.beneath).map_err(Unread::from)?.is_file() {
            return Err(Unread::NotAFile);
        }
        let file = folder.open_with(&place.beneath, &options).map_err(Unread::from)?;
        // Asked again of the open file: the name may have got another meaning since.
        let metadata = file.metadata().map_err(Unread::from)?;
        if !metadata.is_file() {
            return Err(Unread::NotAFile);
        }
        if metadata.len() > bytes_max as u64 {
            return Err(Unread::TooLarge);
        }
        // One byte more than it has: what fills less is all there is, so most files are read at once.
        let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
        loop {
            let room = content.capacity() - content.len();
            let count = match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut content)) {
                Err(rustix::io::Errno::INTR) => continue,
                read => read.map_err(|error| Unread::from(io::Error::from(error)))?,
            };
            if content.len() > bytes_max {
                return Err(Unread::TooLarge);
            }
            if count == 0 || (count < room && content.len() as u64 >= metadata.len()) {
                return Ok(content);
            }
            // It grew since.
            content.reserve(content.len().max(1));
        }
    }

    /// Returns whether a file is at `place`, and makes sure that no link leads out of its root on the way there.
    ///
    /// # Errors
    ///
    /// [`Unread`] says why it could not be read or written there.
    pub fn probe(&self, place: &Place) -> Result<bool, Unread> {
        let folder = self.folder(place.root).map_err(Unread::Failed)?;
        for path in place.beneath.ancestors().filter(|path| !path.as_os_str().is_empty()) {
            // A link that leads nowhere may lead there tomorrow.
            let found = match folder.symlink_metadata(path) {
                Ok(found) if found.is_symlink() => folder.metadata(path),
                found => found,
            };
            match found.map_err(Unread::from) {
                Err(Unread::Missing) => {}
                Err(other) => return Err(other),
                Ok(found) if path == place.beneath => {
                    return if found.is_file() { Ok(true) } else { Err(Unread::NotAFile) };
                }
                Ok(_) => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Returns the root itself as a place, for the first root.
    #[must_use]
    pub fn first(&self) -> Option<Place> {
        let root = self.roots.first()?;
        Some(Place { root: 0, beneath: PathBuf::new(), shown: self.shown(&normal(&root.path)), is_listed: false })
    }

    /// Returns what is at `place`; with `follow`, what a link there leads to within its root.
    ///
    /// # Errors
    ///
    /// [`Unread`], also when there is nothing.
    pub fn kind(&self, place: &Place, follow: bool) -> Result<Kind, Unread> {
        let folder = self.folder(place.root).map_err(Unread::Failed)?;
        if place.beneath.as_os_str().is_empty() {
            return Ok(Kind::Folder);
        }
        let found = if follow { folder.metadata(&place.beneath) } else { folder.symlink_metadata(&place.beneath) };
        let found = found.map_err(Unread::from)?;
        Ok(if found.is_symlink() {
            Kind::Link
        } else if found.is_file() {
            Kind::File
        } else if found.is_dir() {
            Kind::Folder
        } else {
            Kind::Special
        })
    }

    /// Returns the absolute path of what is at `place`, without links; nothing outside the root is touched.
    ///
    /// # Errors
    ///
    /// [`Unread`], also when there is nothing.
    pub fn real(&self, place: &Place) -> Result<PathBuf, Unread> {
        let root = self.roots.get(place.root).ok_or(Unread::Missing)?;
        let opened = root.open().map_err(Unread::Failed)?;
        if place.beneath.as_os_str().is_empty() {
            return Ok(opened.resolved.clone());
        }
        Ok(opened.resolved.join(opened.folder.canonicalize(&place.beneath).map_err(Unread::from)?))
    }

    /// Returns the names in the folder at `place` with what each is, at most `names_max` of them.
    ///
    /// # Errors
    ///
    /// [`Unread`], `TooLarge` when there are more.
    pub fn names(&self, place: &Place, names_max: usize) -> Result<Vec<(OsString, Kind)>, Unread> {
        let folder = self.folder(place.root).map_err(Unread::Failed)?;
        let beneath = if place.beneath.as_os_str().is_empty() { Path::new(".") } else { &place.beneath };
        let mut names = Vec::new();
        for entry in folder.read_dir(beneath).map_err(Unread::from)? {
            let entry = entry.map_err(Unread::from)?;
            let kind = entry.file_type().map_err(Unread::from)?;
            let kind = if kind.is_symlink() {
                Kind::Link
            } else if kind.is_file() {
                Kind::File
            } else if kind.is_dir() {
                Kind::Folder
            } else {
                Kind::Special
            };
            names.push((entry.file_name(), kind));
            if names.len() > names_max {
                return Err(Unread::TooLarge);
            }
        }
        Ok(names)
    }

    /// Returns where the link at `place` says it leads.
    ///
    /// # Errors
    ///
    /// [`Unread`].
    pub fn link_target(&self, place: &Place) -> Result<PathBuf, Unread> {
        let folder = self.folder(place.root).map_err(Unread::Failed)?;
        folder.read_link_contents(&place.beneath).map_err(Unread::from)
    }

    /// Reads where a file of git says that another folder is, relative to the folder at `place`.
    ///
    /// # Errors
    ///
    /// `path_outside_root`.
    pub fn referred(&self, place: &Place, written: &Path) -> Result<Place, Refusal> {
        let base = self.roots.get(place.root).map(|root| normal(&root.path)).unwrap_or_default();
        self.place(&base.join(&place.beneath).join(written).to_string_lossy())
    }

    /// Finds the files that `globs` match, without those that git ignores, in order of their paths.
    ///
    /// # Errors
    ///
    /// `too_many_files` when more than `files_max` match or the walk gets too long, `cancelled` when `stop` says so.
    pub fn find(&self, globs: &GlobSet, files_max: usize, stop: impl Fn() -> bool) -> Result<Vec<Place>, Refusal> {
        // By what the answer names them: roots may overlap.
        let mut found: BTreeMap<String, Place> = BTreeMap::new();
        let mut entries = 0;
        for (number, root) in self.roots.iter().enumerate() {
            let opened = root.open().map_err(|error| self.unusable(&error))?;
            let base = normal(&root.path);
            let walk = WalkBuilder::new(&opened.resolved)
                .hidden(false)
                .require_git(false)
                .git_global(false)
                .follow_links(false)
                .max_depth(Some(WALK_DEPTH_MAX))
                .filter_entry(|entry| !matches!(entry.file_name().to_str(), Some(".git" | ".tollgate")))
                .build();
            for entry in walk {
                if stop() {
                    return Err(Refusal::cancelled());
                }
                entries += 1;
                if entries > WALK_ENTRIES_MAX {
                    return Err(too_many(format!(
                        "there are more than {WALK_ENTRIES_MAX} files and folders to look at"
                    )));
                }
                // What cannot be read while walking is not there for this user.
                let Ok(entry) = entry else { continue };
                if !entry.file_type().is_some_and(|kind| kind.is_file()) {
                    continue;
                }
                let Ok(beneath) = entry.path().strip_prefix(&opened.resolved) else { continue };
                let shown = self.shown(&base.join(beneath));
                if globs.is_match(&shown) {
                    let place =
                        Place { root: number, beneath: beneath.to_owned(), shown: shown.clone(), is_listed: true };
                    found.entry(shown).or_insert(place);
                }
                if found.len() > files_max {
                    return Err(too_many(format!("more than {files_max} files match")));
                }
            }
        }
        Ok(found.into_values().collect())
    }

    /// Returns the root that `place` is beneath, opened.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn opened(&self, place: &Place) -> io::Result<&Dir> {
        self.folder(place.root)
    }

    /// Returns the path of the root that `place` is beneath, without links.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn resolved(&self, place: &Place) -> io::Result<PathBuf> {
        let root = self.roots.get(place.root).ok_or(io::ErrorKind::NotFound)?;
        Ok(root.open()?.resolved.clone())
    }

    fn folder(&self, root: usize) -> io::Result<&Dir> {
        let root = self.roots.get(root).ok_or(io::ErrorKind::NotFound)?;
        Ok(&root.open()?.folder)
    }

    fn unusable(&self, error: &io::Error) -> Refusal {
        Refusal::failed(
            "root_unavailable",
            format!("a folder of `ralph.roots` cannot be opened: {error}"),
            "have the operator make the folder or correct `ralph.roots`",
        )
    }

    /// Names a path the way that a caller would: relative to the workspace where it is inside.
    fn shown(&self, path: &Path) -> String {
        let relative = path.strip_prefix(normal(&self.workspace)).unwrap_or(path);
        relative.to_string_lossy().into_owned()
    }
}

impl Place {
    /// Returns the place of `path` in the folder at this place.
    #[must_use]
    pub fn join(&self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let shown = match self.shown.as_str() {
            "" | "." => path.to_string_lossy().into_owned(),
            shown => format!("{shown}/{}", path.display()),
        };
        Self { root: self.root, beneath: self.beneath.join(path), is_listed: false, shown }
    }

    /// Returns the place of the folder above, within the same root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let beneath = self.beneath.parent()?.to_owned();
        let shown = Path::new(&self.shown).parent().map(|shown| shown.to_string_lossy().into_owned());
        Some(Self { root: self.root, beneath, is_listed: false, shown: shown.unwrap_or_default() })
    }

    /// Returns the path beneath `folder`, where this is in it.
    #[must_use]
    pub fn beneath(&self, folder: &Self) -> Option<&Path> {
        (self.root == folder.root).then(|| self.beneath.strip_prefix(&folder.beneath).ok()).flatten()
    }

    /// Returns the number of the root that it is beneath.
    #[must_use]
    pub fn root(&self) -> usize {
        self.root
    }

    /// Returns the path beneath the root.
    #[must_use]
    pub fn below_root(&self) -> &Path {
        &self.beneath
    }
}

impl Root {
    fn open(&self) -> io::Result<&Opened> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let resolved = self.path.canonicalize()?;
        let folder = Dir::open_ambient_dir(&resolved, ambient_authority())?;
        Ok(self.opened.get_or_init(|| Opened { folder, resolved }))
    }

    fn resolved(&self) -> Option<&Path> {
        self.open().ok().map(|opened| opened.resolved.as_path())
    }
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing,
            // An error without a number is `cap-std`'s own: the path led out of the root.
            io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => Self::Outside,
            _ => Self::Failed(error),
        }
    }
}

/// Compiles globs that are relative to the workspace; `*` does not cross a `/`.
///
/// # Errors
///
/// `invalid_arguments` names the one that is no glob.
pub fn globs(patterns: &[String]) -> Result<GlobSet, Refusal> {
    let invalid = |pattern: &str, reason: String| {
        Refusal::invalid_arguments(
            format!("{} is not a glob: {reason}", quoted(pattern)),
            "write globs like `src/**/*.py`, relative to the workspace",
        )
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        if pattern.len() > GLOB_BYTES_MAX {
            return Err(invalid(pattern, format!("longer than {GLOB_BYTES_MAX} bytes")));
        }
        let trimmed = pattern.strip_prefix("./").unwrap_or(pattern);
        let glob = GlobBuilder::new(trimmed).literal_separator(true).build();
        set.add(glob.map_err(|error| invalid(pattern, error.kind().to_string()))?);
    }
    set.build().map_err(|error| invalid("the set", error.kind().to_string()))
}

fn too_many(message: String) -> Refusal {
    Refusal::refused("too_many_files", message, "narrow the globs, for instance to one folder")
}

/// Returns whether `path` never steps above where it starts, links aside.
fn stays_inside(path: &Path) -> bool {
    let mut depth = 0_usize;
    path.components().all(|component| match component {
        Component::Normal(_) => {
            depth += 1;
            true
        }
        Component::ParentDir => {
            let inside = depth > 0;
            depth = depth.saturating_sub(1);
            inside
        }
        Component::CurDir => true,
        Component::RootDir | Component::Prefix(_) => false,
    })
}

fn normal(path: &Path) -> PathBuf {
    path.components().filter(|component| *component != Component::CurDir).collect()
}

/// Quotes what a caller wrote, shortened, for a message.
pub(crate) fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 120;
    let short: String = text.chars().take(CHARS_MAX).collect();
    if short.len() < text.len() { format!("{short:?}…") } else { format!("{short:?}") }
}

fn rustix_flags() -> i32 {
    use rustix::fs::OFlags;
    i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC).bits()).unwrap_or(0)
}
