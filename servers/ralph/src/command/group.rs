//! What one command is run on, once for all who ask at the same time.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cap_std::fs::Dir;
use git2::{ObjectType, Oid};
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::sandbox::scratch::Scratch;
use tollgate_shared::sandbox::{Finished, SandboxError};

use super::copy::{Copied, Original, Overlay};
use super::{Command, Inputs, Scope};
use crate::Ralph;
use crate::roots::{Place, Roots};
use crate::secrets;

/// Files that one run of a tool gets; what fits any limit of arguments.
const FILES_PER_RUN: usize = 500;

/// Pause between two looks at what another process is at work on.
const PAUSE: Duration = Duration::from_millis(50);

/// Longest beyond what a command may take that another process is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Largest file that lines are shown of, in bytes.
const SHOWN_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Files that lines are shown of.
const SHOWN_FILES_MAX: usize = 200;

/// Bytes of a line that are shown around a finding.
const EXCERPT_BYTES: usize = 160;

/// The files of one folder that one command is about.
#[derive(Clone)]
pub(super) struct Group {
    pub roots: Arc<Roots>,
    /// The folder that it runs in; or anything in a root, when that is the folder.
    pub folder: Folder,
    pub command: Arc<Command>,
    /// The files that are asked about, with the content that they must have, where that is known.
    pub files: BTreeMap<PathBuf, Option<ContentHash>>,
    pub overlay: Arc<Overlay>,
}

/// Where a command runs.
#[derive(Clone)]
pub(super) enum Folder {
    /// In the root of this place.
    RootOf(Place),
    /// In the folder at this place.
    At(Place),
}

/// Why there is no result.
pub(super) enum Broken {
    /// Nothing can be confined here.
    Unavailable(SandboxError),
    /// Why the command says nothing about this.
    Reason(String),
}

/// One run of a command.
pub(super) struct Ran<'r> {
    pub finished: Finished,
    /// The files that it was given.
    pub names: Vec<String>,
    /// Where it ran.
    pub work: PathBuf,
    /// Where the folder is in truth.
    pub root: PathBuf,
    pub lines: &'r Lines<'r>,
}

/// The lines of what was copied, as it was before a command could change its copy.
pub(super) struct Lines<'g> {
    group: &'g Group,
    folder: Dir,
    paths: Vec<PathBuf>,
    read: RefCell<HashMap<PathBuf, Option<String>>>,
}

impl From<SandboxError> for Broken {
    fn from(error: SandboxError) -> Self {
        match error {
            SandboxError::Unavailable(_) => Self::Unavailable(error),
            other => Self::Reason(other.to_string()),
        }
    }
}

impl Broken {
    /// Tells a reason, which is a result, from what refuses the call.
    pub fn reason(self) -> Result<String, Refusal> {
        match self {
            Self::Unavailable(error) => Err(error.refusal()),
            Self::Reason(reason) => Ok(reason),
        }
    }
}

impl Group {
    /// Returns the digest of everything that the results depend on, beside the command.
    pub fn look(&self, state: &Path, stop: &dyn Fn() -> bool) -> Result<ContentHash, Broken> {
        Ok(self.copy(state, None, stop)?.digest)
    }

    /// Runs the command over `paths` and returns what it was run on, handing each run to `judge`.
    pub fn run(
        &self,
        server: &Ralph,
        paths: &[PathBuf],
        stop: &dyn Fn() -> bool,
        mut judge: impl FnMut(&Ran<'_>),
    ) -> Result<ContentHash, Broken> {
        let failed = |error: std::io::Error| Broken::Reason(error.to_string());
        let _permit = server.commands.permit(stop).ok_or_else(|| Broken::Reason("cancelled".to_owned()))?;
        let command = &self.command;
        let (_, root) = self.opened()?;
        let mut digest = ContentHash::ZERO;
        // A project's command sees everything in one run, whatever the files are.
        let chunks: Vec<&[PathBuf]> =
            if command.scope == Scope::Project { vec![paths] } else { paths.chunks(FILES_PER_RUN).collect() };
        for chunk in chunks {
            // What a run writes into its copy must not be there for the next.
            let scratch = Scratch::new().map_err(failed)?;
            let work = scratch.path().join("work");
            std::fs::create_dir(&work).map_err(failed)?;
            let copied = self.copy(server.commands.state(), Some(&work), stop)?;
            let names: Vec<String> = chunk.iter().map(|path| path.to_string_lossy().into_owned()).collect();
            let arguments = command.arguments(&names, &work.to_string_lossy());
            let finished = server.commands.confined(command, &scratch, &work, arguments, &copied.linked, stop)?;
            digest = copied.digest;
            let lines = Lines { group: self, folder: self.opened()?.0, paths: copied.paths, read: RefCell::default() };
            judge(&Ran { finished, names, work, root: root.clone(), lines: &lines });
        }
        Ok(digest)
    }

    fn copy(&self, state: &Path, destination: Option<&Path>, stop: &dyn Fn() -> bool) -> Result<Copied, Broken> {
        let (folder, path) = self.opened()?;
        let names = match self.command.inputs {
            Inputs::Named(names) => Some(names),
            Inputs::Project => None,
        };
        let state = state.canonicalize().unwrap_or_else(|_| state.to_owned());
        let original =
            Original { folder: &folder, path: &path, state: &state, names, files: &self.files, overlay: &self.overlay };
        original.copy(destination, stop).map_err(Broken::Reason)
    }

    /// Opens the folder and returns it with its path, without links.
    fn opened(&self) -> Result<(Dir, PathBuf), Broken> {
        let failed = |error: std::io::Error| Broken::Reason(error.to_string());
        match &self.folder {
            Folder::RootOf(place) => {
                let folder = self.roots.opened(place).and_then(Dir::try_clone).map_err(failed)?;
                Ok((folder, self.roots.resolved(place).map_err(failed)?))
            }
            Folder::At(place) => {
                let path = self.roots.real(place).map_err(|unread| Broken::Reason(format!("{unread:?}")))?;
                let root = self.roots.opened(place).map_err(failed)?;
                let below = place.below_root();
                let folder = if below.as_os_str().is_empty() { root.try_clone() } else { root.open_dir(below) };
                Ok((folder.map_err(failed)?, path))
            }
        }
    }
}

impl Lines<'_> {
    /// Returns the line `line`, counted from 1, of the file `path`, shortened around `column`; empty when there is none.
    pub fn excerpt(&self, path: &str, line: usize, column: usize) -> String {
        let mut read = self.read.borrow_mut();
        let path = PathBuf::from(path);
        if line == 0 || !read.contains_key(&path) && read.len() >= SHOWN_FILES_MAX {
            return String::new();
        }
        let text = read.entry(path.clone()).or_insert_with(|| self.text(&path));
        let shown = text.as_deref().and_then(|text| text.lines().nth(line - 1)).unwrap_or_default();
        let middle = shown.char_indices().nth(column.saturating_sub(1)).map_or(shown.len(), |(at, _)| at);
        let from = if shown.len() <= EXCERPT_BYTES { 0 } else { middle.saturating_sub(EXCERPT_BYTES / 2) };
        let from = shown.floor_char_boundary(from);
        let to = shown.floor_char_boundary(from + EXCERPT_BYTES);
        let [before, after] = [from > 0, to < shown.len()].map(|cut| if cut { "…" } else { "" });
        secrets::mask(&format!("{before}{}{after}", &shown[from..to]))
    }

    fn text(&self, path: &Path) -> Option<String> {
        use std::io::Read;
        // What was not copied was not seen by the command either.
        self.paths.binary_search(&path.to_owned()).ok()?;
        if let Some(given) = self.group.overlay.given.get(path) {
            return Some(String::from_utf8_lossy(&given.content).into_owned());
        }
        let mut content = Vec::new();
        let file =
            self.folder.open(path).ok().filter(|file| file.metadata().is_ok_and(|metadata| metadata.is_file()))?;
        file.take(SHOWN_BYTES_MAX).read_to_end(&mut content).ok()?;
        let expected = self.group.overlay.expected.as_ref().and_then(|expected| expected.get(path).copied().flatten());
        let must_be = self.group.files.get(path).copied().flatten();
        let is_other = expected
            .is_some_and(|id| !Oid::hash_object(ObjectType::Blob, &content).is_ok_and(|now| now == id))
            || must_be.is_some_and(|hash| ContentHash::of(&content) != hash);
        (!is_other).then(|| String::from_utf8_lossy(&content).into_owned())
    }
}

/// Does the work `claim` unless another process does it and leaves it where `known` finds it; blocks.
pub(super) fn once<T>(
    server: &Ralph,
    command: &Command,
    claim: &ContentHash,
    stop: &dyn Fn() -> bool,
    known: impl Fn() -> Option<T>,
    work: impl FnOnce() -> T,
) -> T {
    let Some(claims) = server.cache.claims() else { return work() };
    let patience = Duration::from_millis(command.timeout_ms).saturating_add(PATIENCE);
    let since = Instant::now();
    while !claims.take(claim) {
        if stop() || since.elapsed() > patience {
            return known().unwrap_or_else(work);
        }
        std::thread::sleep(PAUSE);
    }
    let done = known().unwrap_or_else(work);
    claims.give_back(claim);
    done
}
