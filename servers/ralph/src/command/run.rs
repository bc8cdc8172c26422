//! Running the operator's commands for files that were verified otherwise already, and adding what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::sandbox::scratch::Scratch;
use tollgate_shared::sandbox::{Ended, Finished, Job, Limits, Sandbox, SandboxError, Setting, toolchain};
use tollgate_shared::serve::Call;

use super::copy::{Copied, Original};
use super::settings::WORKSPACE_PLACE;
use super::{Command, Inputs, Scope, verdict};
use crate::Ralph;
use crate::check::{Check, CheckResult, Verdict};
use crate::roots::{Place, Roots};
use crate::verify::{BASE_SKU, FileReport};

/// Commands that run at a time: each may use every core.
const RUNNING_MAX: usize = 2;

/// Files that one run of a tool gets; what fits any limit of arguments.
const FILES_PER_RUN: usize = 500;

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

/// One file that was verified, and what its content was.
pub struct Judged {
    /// Where it is.
    pub place: Place,
    /// Its content, when that is not what is on disk.
    pub given: Option<Arc<Vec<u8>>>,
    /// What was found so far.
    pub report: FileReport,
}

/// The files of one root that one command is about.
#[derive(Clone)]
struct Group {
    roots: Arc<Roots>,
    root: Place,
    command: Arc<Command>,
    files: BTreeMap<PathBuf, ContentHash>,
    given: BTreeMap<PathBuf, Arc<Vec<u8>>>,
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

    /// Runs a program confined in `folder`, which it may write.
    fn confined(
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
            hidden: vec![self.state.clone()],
            limits: Limits { wall_ms: command.timeout_ms, memory_bytes: command.memory_bytes, ..Limits::default() },
        };
        sandbox.run(&job, stop)
    }

    /// Returns what the command's tool says it is; `None` when its results cannot be relied on later.
    fn identity(&self, command: &Command, stop: &dyn Fn() -> bool) -> Result<Option<String>, SandboxError> {
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

/// Runs every command that applies to `subjects` and adds what it found to their reports.
///
/// A command that looks at the whole project runs only when `is_named` says that its check was asked for.
///
/// # Errors
///
/// `sandbox_unavailable`, `cancelled` or `internal_error`; a command that fails is inconclusive.
pub async fn complete(
    server: &Arc<Ralph>,
    call: &Call,
    subjects: &mut [Judged],
    wanted: &[Check],
    is_named: bool,
) -> Result<(), Refusal> {
    let mut results: BTreeMap<(usize, Check), Vec<(CheckResult, bool)>> = BTreeMap::new();
    let commands = server.commands.all.iter().filter(|command| wanted.contains(&command.check));
    for command in commands.filter(|command| is_named || command.scope == Scope::File) {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, subject) in subjects.iter().enumerate() {
            let applies = subject.report.language.is_some_and(|language| command.languages.contains(&language));
            if applies && subject.report.sha256.is_some() {
                groups.entry(subject.place.root()).or_default().push(index);
            }
        }
        for indices in groups.into_values() {
            let found = group(server, call, command, subjects, &indices).await?;
            for (index, result) in indices.into_iter().zip(found) {
                results.entry((index, command.check)).or_default().push(result);
            }
        }
    }
    for ((index, check), found) in results {
        let is_cached = found.iter().all(|(_, cached)| *cached);
        let report = &mut subjects[index].report;
        // A file that no other check looked at has not been paid for.
        let base = report.checks.is_empty();
        for sku in [base.then_some(BASE_SKU), Some(check.sku())].into_iter().flatten() {
            if is_cached { call.save(sku, 1) } else { call.charge(sku, 1) }
        }
        report.from_cache = is_cached && (base || report.from_cache);
        report.checks.extend(verdict::merged(found.into_iter().map(|(result, _)| result).collect()));
        report.verdict = Verdict::all(report.checks.iter().map(|result| result.verdict));
        report.reason = report.checks.iter().find_map(|result| result.reason.clone());
    }
    Ok(())
}

/// Returns what `command` says of each of `indices`, and whether that was known.
async fn group(
    server: &Arc<Ralph>,
    call: &Call,
    command: &Arc<Command>,
    subjects: &[Judged],
    indices: &[usize],
) -> Result<Vec<(CheckResult, bool)>, Refusal> {
    let members: Vec<&Judged> = indices.iter().map(|index| &subjects[*index]).collect();
    let path = |subject: &Judged| subject.place.below_root().to_owned();
    let group = Group {
        roots: Arc::clone(&server.roots),
        root: members[0].place.clone(),
        command: Arc::clone(command),
        files: members.iter().filter_map(|subject| Some((path(subject), subject.report.sha256?))).collect(),
        given: members.iter().filter_map(|subject| Some((path(subject), subject.given.clone()?))).collect(),
    };
    let (looked, identity) = look(server, call, &group).await?;
    let inconclusive = |reason: String| {
        let result = CheckResult::inconclusive(command.check, format!("{}: {reason}", command.name));
        members.iter().map(|_| (result.clone(), false)).collect::<Vec<_>>()
    };
    let digest = match looked {
        Ok(copied) => copied.digest,
        Err(reason) => return Ok(inconclusive(reason)),
    };
    let mut results: BTreeMap<PathBuf, (CheckResult, bool)> = BTreeMap::new();
    if let Some(identity) = &identity {
        for (path, hash) in &group.files {
            if let Some(result) = server.cache.get(&[key(command, identity, &digest, path, hash)]).pop().flatten() {
                results.insert(path.clone(), (result, true));
            }
        }
    }
    let missing: BTreeSet<PathBuf> = group.files.keys().filter(|path| !results.contains_key(*path)).cloned().collect();
    if !missing.is_empty() {
        match execute(server, call, group.clone(), missing.into_iter().collect()).await? {
            Ok((digest, found)) => {
                for (path, result) in found {
                    if let Some(identity) = &identity {
                        server.cache.put(&[(key(command, identity, &digest, &path, &group.files[&path]), &result)]);
                    }
                    results.insert(path, (result, false));
                }
            }
            Err(reason) => return Ok(inconclusive(reason)),
        }
    }
    let missed = || CheckResult::inconclusive(command.check, "nothing was said about this file");
    Ok(members
        .iter()
        .map(|subject| results.get(subject.place.below_root()).cloned().unwrap_or((missed(), false)))
        .collect())
}

/// Looks at everything that the results depend on.
async fn look(
    server: &Arc<Ralph>,
    call: &Call,
    group: &Group,
) -> Result<(Result<Copied, String>, Option<String>), Refusal> {
    let (server, group, cancelled) = (Arc::clone(server), group.clone(), call.cancelled().clone());
    call.blocking(move || {
        let stop = || cancelled.is_cancelled();
        let identity = match server.commands.identity(&group.command, &stop) {
            Ok(identity) => identity,
            Err(error @ SandboxError::Unavailable(_)) => return Err(error.refusal()),
            Err(error) => return Ok((Err(error.to_string()), None)),
        };
        Ok((group.copy(&server.commands.state, None, &stop), identity))
    })
    .await
}

/// What a run found out: the digest of what it ran on, and a result for each file; or why it could not.
type Executed = Result<(ContentHash, Vec<(PathBuf, CheckResult)>), String>;

async fn execute(server: &Arc<Ralph>, call: &Call, group: Group, paths: Vec<PathBuf>) -> Result<Executed, Refusal> {
    let running = Arc::clone(&server.commands.running);
    let permit = running.acquire_owned().await.map_err(|_| Refusal::cancelled())?;
    let (server, cancelled) = (Arc::clone(server), call.cancelled().clone());
    call.blocking(move || {
        // Held until the command has ended, also when nobody waits for it any more.
        let _permit = permit;
        let stop = || cancelled.is_cancelled();
        match run_on_copy(&server.commands, &group, &paths, &stop) {
            Err(Broken::Unavailable(error)) => Err(error.refusal()),
            Err(Broken::Reason(reason)) => Ok(Err(reason)),
            Ok(executed) => Ok(Ok(executed)),
        }
    })
    .await
}

enum Broken {
    Unavailable(SandboxError),
    Reason(String),
}

fn run_on_copy(
    commands: &Commands,
    group: &Group,
    paths: &[PathBuf],
    stop: &dyn Fn() -> bool,
) -> Result<(ContentHash, Vec<(PathBuf, CheckResult)>), Broken> {
    let command = &group.command;
    let root = group.roots.resolved(&group.root).map_err(|error| Broken::Reason(error.to_string()))?;
    let mut found = Vec::new();
    let mut digest = ContentHash::ZERO;
    // A project's command sees everything in one run, whatever the files are.
    let size = if command.scope == Scope::Project { paths.len() } else { FILES_PER_RUN };
    for chunk in paths.chunks(size.max(1)) {
        // What a run writes into its copy must not be there for the next.
        let scratch = Scratch::new().map_err(|error| Broken::Reason(error.to_string()))?;
        let work = scratch.path().join("work");
        std::fs::create_dir(&work).map_err(|error| Broken::Reason(error.to_string()))?;
        let copied = group.copy(&commands.state, Some(&work), stop).map_err(Broken::Reason)?;
        let names: Vec<String> = chunk.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        let arguments = command.arguments(&names, &work.to_string_lossy());
        let finished = commands.confined(command, &scratch, &work, arguments, &copied.linked, stop).map_err(
            |error| match error {
                SandboxError::Unavailable(_) => Broken::Unavailable(error),
                other => Broken::Reason(other.to_string()),
            },
        )?;
        digest = copied.digest;
        found.extend(chunk.iter().cloned().zip(verdict::judge(command, &finished, &names, &work, &root)));
    }
    Ok((digest, found))
}

impl Group {
    fn copy(&self, state: &Path, destination: Option<&Path>, stop: &dyn Fn() -> bool) -> Result<Copied, String> {
        let folder = self.roots.opened(&self.root).map_err(|error| error.to_string())?;
        let path = self.roots.resolved(&self.root).map_err(|error| error.to_string())?;
        let names = match self.command.inputs {
            Inputs::Named(names) => Some(names),
            Inputs::Project => None,
        };
        let state = state.canonicalize().unwrap_or_else(|_| state.to_owned());
        let original = Original { folder, path: &path, state: &state, names, files: &self.files, given: &self.given };
        original.copy(destination, stop)
    }
}

/// Returns the hash of everything that the result for one file depends on.
fn key(command: &Command, identity: &str, digest: &ContentHash, path: &Path, hash: &ContentHash) -> ContentHash {
    let mut builder = ContentHash::builder("ralph.command")
        .field(hash.as_bytes())
        .field(path.to_string_lossy().as_bytes())
        .field(digest.as_bytes())
        .field(identity.as_bytes())
        .field(command.name.as_bytes())
        .field(command.check.name().as_bytes())
        .field(command.parser.identity().as_bytes())
        .field(format!("{:?} {}", command.scope, command.exits_zero_on_findings).as_bytes());
    for argument in &command.run {
        builder = builder.field(argument.as_bytes());
    }
    for (name, value) in &command.environment {
        builder = builder.field(name.as_bytes()).field(value.as_bytes());
    }
    builder.finish()
}
