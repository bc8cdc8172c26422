//! The hooks that a repository has for commits: run in the sandbox where the operator allows it, or not at all.
//!
//! A hook sees the working tree, the repository and a copy of the index, writes nothing but a scratch folder, reaches no
//! network and ends with the call. Git programs that it runs put new objects into the scratch folder too.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use git2::{Index, Oid, Signature};
use rustix::fs::{CWD, Mode, OFlags, openat};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::sandbox::scratch::Scratch;
use tollgate_shared::sandbox::{Ended, Extras, Job, Limits, Sandbox, SandboxError, Setting, toolchain};
use tollgate_shared::serve::Call;

use super::OpenRepository;
use super::paths::cut;
use crate::Git;
use crate::commit_message::{CommitMessage, MESSAGE_BYTES_MAX};
use crate::git_error::failed;
use crate::watch;

/// What git itself runs before it commits.
const PRE_COMMIT: &str = "pre-commit";
const COMMIT_MSG: &str = "commit-msg";

/// How much of what a hook prints a refusal shows: its last screens.
const OUTPUT_BYTES_MAX: usize = 8 * 1024;

/// What a hook may use; its time is the operator's.
const LIMITS: Limits = Limits {
    wall_ms: 0,
    cpu_s: 10 * 60,
    memory_bytes: 2 << 30,
    file_bytes: 256 << 20,
    disk_bytes: 1 << 30,
    processes: 256,
    output_bytes: OUTPUT_BYTES_MAX,
};

/// Commits whose hooks run at a time in one server: each may use every core and much memory.
const RUNNING_MAX: usize = 2;
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// How long a commit waits for the hooks of others, and how often it looks.
const WAIT_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// Largest index that is copied for hooks.
const INDEX_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What the operator says about hooks.
#[derive(Debug)]
pub struct HookRules {
    /// Whether they are run.
    pub allowed: bool,
    /// Where they are instead of in `.git/hooks`.
    pub folder: Option<PathBuf>,
    /// How long those of one commit may take.
    pub time_max: Duration,
    /// The folder of Tollgate's state, which they do not see.
    pub state: PathBuf,
}

/// The hooks of a repository that a commit has.
#[derive(Debug)]
pub enum Hooks {
    /// None.
    None,
    /// Some that are not run; why, in a word.
    Left(&'static str),
    /// Some that are run, by name and path.
    Run(Vec<(&'static str, PathBuf)>),
}

impl Hooks {
    /// Finds the hooks that a commit in `repository` has.
    ///
    /// # Errors
    ///
    /// `path_outside_root` where hooks that would be run are links to outside.
    pub fn find(server: &Git, repository: &OpenRepository) -> Result<Self, Refusal> {
        let rules = &server.hooks;
        let own = repository.git.commondir().join("hooks");
        let configured = repository.git.config().and_then(|config| config.get_string("core.hookspath")).ok();
        // What git itself would look into; of what is outside, not even whether it is there is told.
        let elsewhere = configured.map(|path| repository.worktree.join(path));
        let has_hooks = |folder: &Path| {
            [PRE_COMMIT, COMMIT_MSG].iter().any(|name| {
                let path = folder.join(name);
                server.roots.contain(&path) && is_program(&path)
            })
        };
        if !rules.allowed {
            let left = has_hooks(elsewhere.as_deref().unwrap_or(&own));
            return Ok(if left { Self::Left("not_allowed") } else { Self::None });
        }
        let folder = rules.folder.as_ref().unwrap_or(&own);
        let mut found = Vec::new();
        for name in [PRE_COMMIT, COMMIT_MSG] {
            let path = folder.join(name);
            let Ok(linked) = fs::symlink_metadata(&path) else { continue };
            if rules.folder.is_none() && !server.roots.contain(&path) {
                let is_link = linked.is_symlink() || fs::symlink_metadata(&own).is_ok_and(|own| own.is_symlink());
                if is_link {
                    return Err(server.roots.outside(&path.display().to_string()));
                }
            }
            if is_program(&path) {
                found.push((name, path));
            }
        }
        if !found.is_empty() {
            return Ok(Self::Run(found));
        }
        // A repository's own word for where programs are does not count.
        let is_ignored = rules.folder.is_none() && elsewhere.is_some_and(|elsewhere| has_hooks(&elsewhere));
        Ok(if is_ignored { Self::Left("hooks_path_ignored") } else { Self::None })
    }

    /// Returns what the answer says of them.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Left(why) => why,
            Self::Run(_) => "ran",
        }
    }

    /// Returns the names of those that are run.
    #[must_use]
    pub fn ran(&self) -> Vec<&'static str> {
        match self {
            Self::Run(found) => found.iter().map(|(name, _)| *name).collect(),
            Self::None | Self::Left(_) => Vec::new(),
        }
    }
}

/// What hooks look at: a copy of the index, whatever becomes of the index meanwhile.
#[derive(Debug)]
pub struct Snapshot {
    scratch: Scratch,
}

impl Snapshot {
    /// Copies the index of `repository`, which has exactly what `tree` has.
    ///
    /// # Errors
    ///
    /// `staged_changed` where it has not, any more.
    pub fn take(repository: &OpenRepository, tree: Oid) -> Result<Self, Refusal> {
        let git = &repository.git;
        let broken = |error: std::io::Error| cannot_prepare(&error.to_string());
        let snapshot = Self { scratch: Scratch::new().map_err(broken)? };
        fs::create_dir(snapshot.objects()).map_err(broken)?;
        let source = git.path().join("index");
        if fs::metadata(&source).is_ok_and(|found| found.len() > INDEX_BYTES_MAX) {
            return Err(cannot_prepare("the index is too large"));
        }
        match fs::copy(source, snapshot.index()) {
            Ok(_) => {}
            // An empty first commit has none.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(snapshot),
            Err(error) => return Err(broken(error)),
        }
        let copied = Index::open(&snapshot.index()).and_then(|mut index| index.write_tree_to(git));
        if copied.map_err(failed("copy the index"))? == tree { Ok(snapshot) } else { Err(staged_changed()) }
    }

    fn index(&self) -> PathBuf {
        self.scratch.path().join("index")
    }

    fn objects(&self) -> PathBuf {
        self.scratch.path().join("objects")
    }

    fn message(&self) -> PathBuf {
        self.scratch.path().join("COMMIT_EDITMSG")
    }

    /// Runs `hooks` in turn; returns the message as the last one left it.
    ///
    /// # Errors
    ///
    /// `hook_failed`, `sandbox_unavailable`, `repository_busy`, `cancelled`.
    pub fn run(
        &self,
        server: &Git,
        repository: &OpenRepository,
        hooks: &[(&'static str, PathBuf)],
        message: CommitMessage,
        call: &Call,
    ) -> Result<CommitMessage, Refusal> {
        let time_max = server.hooks.time_max;
        watch::away(time_max + WAIT_MAX, || {
            let _turn = Turn::wait(call)?;
            let sandbox = Sandbox::detect(Setting::Auto).map_err(|error| not_run("a hook", &error))?;
            let signature = server.signature(&repository.git)?;
            let until = Instant::now() + time_max;
            let mut message = message;
            for (name, path) in hooks {
                let is_about_message = *name == COMMIT_MSG;
                if is_about_message {
                    fs::write(self.message(), format!("{}\n", message.as_str()))
                        .map_err(|error| cannot_prepare(&error.to_string()))?;
                }
                let mut job = self.job(server, repository, path, &signature);
                if is_about_message {
                    job.arguments.push(self.message().to_string_lossy().into_owned());
                }
                let left = until.saturating_duration_since(Instant::now());
                job.limits.wall_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
                let extras = Extras { keeps_end: true, ..Extras::default() };
                let finished = sandbox
                    .run_with(&job, extras, &|| call.cancelled().is_cancelled())
                    .map_err(|error| not_run(name, &error))?;
                match finished.ended {
                    Ended::Exited(0) => {}
                    Ended::Cancelled => return Err(Refusal::cancelled()),
                    ended => return Err(hook_failed(name, &ended.describe(), &finished.stdout)),
                }
                if is_about_message {
                    message = self.read_message()?;
                }
            }
            Ok(message)
        })
    }

    fn job(&self, server: &Git, repository: &OpenRepository, hook: &Path, signature: &Signature<'_>) -> Job {
        let git = &repository.git;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let untrusted = server.roots.folders();
        let search_path = toolchain::search_path(&untrusted);
        let mut environment = toolchain::environment(&self.scratch, &search_path);
        let name = String::from_utf8_lossy(signature.name_bytes()).into_owned();
        let email = String::from_utf8_lossy(signature.email_bytes()).into_owned();
        environment.extend(
            [
                ("GIT_DIR", text(git.path())),
                ("GIT_WORK_TREE", text(&repository.worktree)),
                ("GIT_INDEX_FILE", text(&self.index())),
                ("GIT_OBJECT_DIRECTORY", text(&self.objects())),
                ("GIT_ALTERNATE_OBJECT_DIRECTORIES", text(&git.commondir().join("objects"))),
                ("GIT_OPTIONAL_LOCKS", "0".to_owned()),
                ("GIT_TERMINAL_PROMPT", "0".to_owned()),
                ("GIT_EDITOR", ":".to_owned()),
                ("GIT_AUTHOR_NAME", name.clone()),
                ("GIT_AUTHOR_EMAIL", email.clone()),
                ("GIT_COMMITTER_NAME", name),
                ("GIT_COMMITTER_EMAIL", email),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let mut readable = toolchain::system();
        readable.extend(toolchain::installed());
        readable.extend([repository.worktree.clone(), git.path().to_owned(), git.commondir().to_owned()]);
        readable.extend(server.hooks.folder.iter().cloned());
        // A hook is often a link to a file of the main working tree.
        readable.extend(fs::canonicalize(hook));
        // As git does: a hook that does not say what runs it is a shell's.
        let says_so = || {
            let mut start = [0; 4];
            let opened = openat(CWD, hook, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
            let read = opened.map(File::from).ok().and_then(|mut file| file.read(&mut start).ok()).unwrap_or(0);
            start[..read].starts_with(b"#!") || &start[..read] == b"\x7fELF"
        };
        let (program, arguments) =
            if says_so() { (hook.to_owned(), Vec::new()) } else { (PathBuf::from("/bin/sh"), vec![text(hook)]) };
        Job {
            program,
            arguments,
            folder: repository.worktree.clone(),
            environment,
            readable,
            writable: vec![self.scratch.path().to_owned()],
            // Where it is for a process that starts elsewhere.
            fixed: Vec::new(),
            hidden: vec![fs::canonicalize(&server.hooks.state).unwrap_or_else(|_| server.hooks.state.clone())],
            limits: LIMITS,
        }
    }

    /// Reads what a commit-msg hook left; nothing of the hook is alive any more.
    fn read_message(&self) -> Result<CommitMessage, Refusal> {
        let unusable = |why: &str| hook_failed(COMMIT_MSG, &format!("left a message that cannot be taken: {why}"), b"");
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(CWD, self.message(), flags, Mode::empty())
            .map(File::from)
            .map_err(|_| unusable("it is not there, or a link"))?;
        if !file.metadata().is_ok_and(|found| found.is_file()) {
            return Err(unusable("it is no file"));
        }
        let mut text = String::new();
        file.take(MESSAGE_BYTES_MAX as u64 + 1)
            .read_to_string(&mut text)
            .map_err(|_| unusable("it is not UTF-8, or too long"))?;
        CommitMessage::parse(&text).map_err(|refusal| unusable(&refusal.message))
    }
}

/// A turn to run hooks, given back when it is dropped.
struct Turn;

impl Turn {
    fn wait(call: &Call) -> Result<Self, Refusal> {
        let started = Instant::now();
        loop {
            let taken = RUNNING.fetch_update(Ordering::AcqRel, Ordering::Acquire, |running| {
                (running < RUNNING_MAX).then_some(running + 1)
            });
            if taken.is_ok() {
                return Ok(Self);
            }
            if call.cancelled().is_cancelled() {
                return Err(Refusal::cancelled());
            }
            if started.elapsed() > WAIT_MAX {
                return Err(Refusal::failed(
                    "repository_busy",
                    "the hooks of other commits are still running",
                    "call again in a moment",
                ));
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What is staged is not what it was when the call looked.
#[must_use]
pub fn staged_changed() -> Refusal {
    Refusal::failed(
        "staged_changed",
        "what is staged was changed by somebody else while the hooks ran, and they have not seen it",
        "look at git_status, then call again",
    )
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn hook_failed(name: &str, how: &str, output: &[u8]) -> Refusal {
    let text: String = String::from_utf8_lossy(output)
        .chars()
        .map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { ' ' } else { c })
        .collect();
    Refusal::refused(
        "hook_failed",
        format!("the repository's {name} hook {how}; nothing was committed"),
        "do what its output asks for, stage that with git_add, and commit again",
    )
    .with_detail("hook", name)
    .with_detail("output", cut(text.trim(), OUTPUT_BYTES_MAX))
}

fn not_run(name: &str, error: &SandboxError) -> Refusal {
    match error {
        SandboxError::Unavailable(_) => Refusal::refused(
            "sandbox_unavailable",
            format!("{name} may run confined only: {error}"),
            "use Linux 6.12 or newer, allow user namespaces with Linux 6.2, or install bubblewrap; or have the operator \
             take `git.hooks` back",
        ),
        SandboxError::NotStarted { .. } | SandboxError::Broken(_) => {
            hook_failed(name, &format!("did not run: {error}"), b"")
        }
    }
}

fn cannot_prepare(why: &str) -> Refusal {
    Refusal::failed(
        "hook_failed",
        format!("the hooks cannot be run: {why}; nothing was committed"),
        "have a human look at the folder for temporary files",
    )
}
