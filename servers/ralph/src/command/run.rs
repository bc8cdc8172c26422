//! Running the operator's commands, confined.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::sandbox::scratch::Scratch;
use tollgate_shared::sandbox::{Ended, Finished, Job, Limits, Sandbox, SandboxError, Setting, toolchain};

use super::Command;
use super::settings::WORKSPACE_PLACE;
use crate::check::Check;

/// Commands that run at a time: each may use every core.
const RUNNING_MAX: usize = 2;

/// Pause between two looks at whether a command may start.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Longest that a tool may take to say its version.
const VERSION_MS: u64 = 60_000;

/// The operator's commands, and what they need.
pub struct Commands {
    all: Vec<Arc<Command>>,
    setting: Setting,
    readable: Vec<PathBuf>,
    /// Folders that agents write: no program is taken from them because of a PATH.
    untrusted: Vec<PathBuf>,
    state: PathBuf,
    running: Arc<Semaphore>,
    /// What tools said they are, by their file and its times, which no agent can set.
    versions: Mutex<BTreeMap<(PathBuf, [i64; 5]), String>>,
}

impl Commands {
    /// Takes the commands as configured.
    #[must_use]
    pub fn new(
        all: Vec<Command>,
        setting: Setting,
        readable: Vec<PathBuf>,
        untrusted: Vec<PathBuf>,
        state: PathBuf,
    ) -> Self {
        Self {
            all: all.into_iter().map(Arc::new).collect(),
            setting,
            readable,
            untrusted,
            state,
            running: Arc::new(Semaphore::new(RUNNING_MAX)),
            versions: Mutex::default(),
        }
    }

    /// Returns every command.
    pub fn iter(&self) -> impl Iterator<Item = &Command> {
        self.all.iter().map(AsRef::as_ref)
    }

    /// Returns the folder that no command may see.
    #[must_use]
    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    /// Returns every command of one of the checks `wanted`.
    pub(super) fn of<'c>(&'c self, wanted: &'c [Check]) -> impl Iterator<Item = &'c Arc<Command>> {
        self.all.iter().filter(|command| wanted.contains(&command.check))
    }

    /// Waits, in a thread that may, until another command may run; nothing when `stop` says so.
    pub(super) fn permit(&self, stop: &dyn Fn() -> bool) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
                return Some(permit);
            }
            if stop() {
                return None;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Returns what tells these commands and their tools from others.
    ///
    /// # Errors
    ///
    /// That there is no sandbox.
    pub fn digest(&self, stop: &dyn Fn() -> bool) -> Result<ContentHash, SandboxError> {
        let mut hash = ContentHash::builder("ralph.commands");
        for command in &self.all {
            let identity = match self.identity(command, stop) {
                Ok(identity) => identity.unwrap_or_else(|| "of the workspace".to_owned()),
                Err(error @ SandboxError::Unavailable(_)) => return Err(error),
                Err(_) => "not there".to_owned(),
            };
            hash = hash.field(command.digest(&identity).as_bytes());
        }
        Ok(hash.finish())
    }

    /// Runs a program confined in `folder`, which it may write.
    pub(super) fn confined(
        &self,
        command: &Command,
        scratch: &Scratch,
        folder: &Path,
        arguments: Vec<String>,
        linked: &[PathBuf],
        stop: &dyn Fn() -> bool,
    ) -> Result<Finished, SandboxError> {
        let sandbox = Sandbox::detect(self.setting)?;
        let search_path = toolchain::search_path(&self.untrusted);
        let program = program(command, folder, &search_path)?;
        let mut readable = toolchain::system();
        readable.extend(toolchain::installed());
        readable.extend(toolchain::of_program(&program));
        readable.extend(self.readable.iter().filter_map(|path| path.canonicalize().ok()));
        readable.extend(linked.iter().cloned());
        let mut environment = toolchain::environment(scratch, &search_path);
        environment.extend(command.environment.clone());
        let job = Job {
            program,
            arguments,
            folder: folder.to_owned(),
            environment,
            readable,
            writable: vec![scratch.path().to_owned()],
            fixed: Vec::new(),
            hidden: vec![self.state.clone()],
            limits: Limits { wall_ms: command.timeout_ms, memory_bytes: command.memory_bytes, ..Limits::default() },
        };
        sandbox.run(&job, stop)
    }

    /// Returns what the command's tool says it is; `None` when its results cannot be relied on later.
    pub(super) fn identity(&self, command: &Command, stop: &dyn Fn() -> bool) -> Result<Option<String>, SandboxError> {
        // An agent can change such a tool without changing anything that is hashed.
        if command.is_of_workspace() {
            return Ok(None);
        }
        let program = program(command, Path::new("/"), &toolchain::search_path(&self.untrusted))?;
        let Ok(metadata) = program.metadata() else { return Ok(None) };
        let times = [
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
            metadata.size().cast_signed(),
        ];
        let key = (program, times);
        let lock = || self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&key).cloned() {
            return Ok(Some(known));
        }
        let scratch = Scratch::new().map_err(|error| SandboxError::Broken(error.to_string()))?;
        // A subcommand such as `cargo clippy` is a tool of its own.
        let mut arguments: Vec<String> = command.run.iter().skip(1).take(1).cloned().collect();
        arguments
            .retain(|word| matches!(word.as_str(), "clippy" | "fmt") || command.run[0] == "go" && word == "version");
        arguments.push(if command.run[0] == "go" { "version" } else { "--version" }.to_owned());
        let asked = Command { timeout_ms: VERSION_MS.min(command.timeout_ms), ..command.clone() };
        let finished = self.confined(&asked, &scratch, scratch.path(), arguments, &[], stop)?;
        // A tool that does not say it, such as gofmt, is known by its file.
        let said = String::from_utf8_lossy(&finished.stdout).trim().to_owned();
        let identity = format!("{said} {times:?}");
        if finished.ended != Ended::Cancelled {
            lock().insert(key, identity.clone());
        }
        Ok(Some(identity))
    }
}

/// Finds the command's program; one of the workspace lies in its copy.
fn program(command: &Command, folder: &Path, search_path: &[PathBuf]) -> Result<PathBuf, SandboxError> {
    let written = command.run.first().map_or("", String::as_str);
    let name = written.replace(WORKSPACE_PLACE, &folder.to_string_lossy());
    let name = if command.is_of_workspace() && !name.starts_with('/') {
        folder.join(&name).to_string_lossy().into_owned()
    } else {
        name
    };
    toolchain::find_program(&name, search_path).ok_or_else(|| SandboxError::NotStarted {
        program: written.into(),
        reason: "there is no such program".to_owned(),
    })
}
