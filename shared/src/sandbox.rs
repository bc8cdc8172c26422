//! Running one external program confined: nothing but what it is given, and nothing left of it afterwards.
//!
//! The calling program starts itself again as a [keeper], a process with one thread that outlives nothing: it makes
//! the namespaces, watches time, memory, processes and disk, and kills whatever is left. Below it the program starts
//! itself once more as the [inside], which takes every right from itself and then starts the command. So no code
//! runs between a fork and an exec in a process with many threads.
//!
//! A program that uses this calls [`divert`] first thing in `main`.

#[cfg(target_os = "linux")]
mod bwrap;
#[cfg(target_os = "linux")]
mod inside;
#[cfg(target_os = "linux")]
mod keeper;
#[cfg(target_os = "linux")]
mod landlock;
#[cfg(target_os = "linux")]
mod namespaces;
#[cfg(target_os = "linux")]
mod rlimit;
pub mod scratch;
#[cfg(target_os = "linux")]
mod seccomp;
mod supervise;
pub mod toolchain;
#[cfg(target_os = "linux")]
mod tree;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// First argument of a program that is started as a part of the sandbox.
pub(crate) const HELPER_ARGUMENT: &str = "__tollgate-sandbox";

/// What the operator says about confinement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Setting {
    /// Confined by whatever works here, and refused where nothing does.
    #[default]
    Auto,
    /// Not confined: only limits of time, memory, files and output.
    None,
}

/// How a program is confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confinement {
    /// Namespaces of its own, Landlock and seccomp.
    Namespaces,
    /// `bwrap`, and seccomp, and Landlock where the kernel has it.
    Bubblewrap,
    /// Landlock with scopes and seccomp, where namespaces are not allowed.
    Landlock,
    /// Nothing, as the operator said.
    None,
}

/// One program to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The program, by its absolute path.
    pub program: PathBuf,
    /// Its arguments; no shell sees them.
    pub arguments: Vec<String>,
    /// The folder it starts in.
    pub folder: PathBuf,
    /// Every variable it sees.
    pub environment: BTreeMap<String, String>,
    /// Files and folders that it may read and execute.
    pub readable: Vec<PathBuf>,
    /// Folders that it may write as well; the operator's own, made for this run.
    pub writable: Vec<PathBuf>,
    /// Files in writable folders that it may read and neither change nor replace. It is not run where only Landlock
    /// confines, which cannot keep this.
    pub fixed: Vec<PathBuf>,
    /// Files and folders below readable ones that it may not read after all.
    pub hidden: Vec<PathBuf>,
    /// How much it may use.
    pub limits: Limits,
}

/// What a job has beyond files and limits; nothing of it unless it is said.
#[derive(Debug, Default)]
pub struct Extras {
    /// What it reads from its stdin.
    pub stdin: Option<OwnedFd>,
    /// Where its stdout goes, for a program that is talked with; [`Finished::stdout`] is empty then, and nothing limits it.
    pub stdout: Option<OwnedFd>,
    /// Kept open until nothing of the job is left, also when the calling program dies: a lock on it lasts as long.
    pub held: Option<OwnedFd>,
    /// The network of the host.
    pub network: bool,
    /// Both outputs as one, in [`Finished::stdout`], of which the last [`Limits::output_bytes`] are kept; without it, the
    /// job is ended when one is full.
    pub keeps_end: bool,
}

/// How much a program and all that it starts may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Wall-clock time, in milliseconds.
    pub wall_ms: u64,
    /// Processor time of each process, in seconds.
    pub cpu_s: u64,
    /// Memory of all processes together, and of each.
    pub memory_bytes: u64,
    /// Size of one file that is written.
    pub file_bytes: u64,
    /// Size of all files below the writable folders; `u64::MAX` is no limit.
    pub disk_bytes: u64,
    /// Processes and threads at a time.
    pub processes: u64,
    /// Size of each of the two outputs.
    pub output_bytes: usize,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// With this exit code.
    Exited(i32),
    /// By this signal, not sent by the sandbox.
    Signalled(i32),
    /// Killed: its time was over.
    TimedOut,
    /// Killed: too much memory.
    MemoryLimit,
    /// Killed: too many processes.
    ProcessLimit,
    /// Killed: too much written.
    DiskLimit,
    /// Killed: too much printed.
    OutputLimit,
    /// Killed: nobody wants it any more.
    Cancelled,
}

/// What came of running a program.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub ended: Ended,
    /// What it wrote to stdout, up to [`Limits::output_bytes`].
    pub stdout: Vec<u8>,
    /// What it wrote to stderr, up to [`Limits::output_bytes`].
    pub stderr: Vec<u8>,
    /// How long it took.
    pub duration: Duration,
}

/// Why a program was not run.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SandboxError {
    /// No way to confine it works here.
    #[error("no sandbox works here: {0}")]
    Unavailable(String),
    /// The program itself could not be started.
    #[error("cannot start {}: {reason}", .program.display())]
    NotStarted {
        /// Which.
        program: PathBuf,
        /// Why.
        reason: String,
    },
    /// The sandbox broke.
    #[error("the sandbox failed: {0}")]
    Broken(String),
}

/// A way to run programs that was seen to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    confinement: Confinement,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall_ms: 5 * 60 * 1000,
            cpu_s: 20 * 60,
            memory_bytes: 2 << 30,
            file_bytes: 1 << 30,
            disk_bytes: 8 << 30,
            processes: 512,
            output_bytes: 8 << 20,
        }
    }
}

impl Sandbox {
    /// Finds the strongest confinement that works here, by trying; the answer is kept for the life of the process.
    ///
    /// Blocks for some milliseconds.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Unavailable`] with what each way failed with.
    pub fn detect(setting: Setting) -> Result<Self, SandboxError> {
        static DETECTED: Mutex<Option<Sandbox>> = Mutex::new(None);
        if setting == Setting::None {
            return Ok(Self { confinement: Confinement::None });
        }
        let mut detected = DETECTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(sandbox) = *detected {
            return Ok(sandbox);
        }
        let mut reasons = Vec::new();
        for confinement in [Confinement::Namespaces, Confinement::Bubblewrap, Confinement::Landlock] {
            match Self::try_out(confinement) {
                Ok(sandbox) => return Ok(*detected.insert(sandbox)),
                Err(reason) => reasons.push(format!("{}: {reason}", confinement.name())),
            }
        }
        Err(SandboxError::Unavailable(reasons.join("; ")))
    }

    /// Returns this one way to confine, when it works here.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub fn try_out(confinement: Confinement) -> Result<Self, String> {
        let sandbox = Self { confinement };
        let job = Job {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), "exit 0".into()],
            folder: "/".into(),
            environment: BTreeMap::new(),
            readable: toolchain::system(),
            writable: Vec::new(),
            fixed: Vec::new(),
            hidden: Vec::new(),
            limits: Limits { wall_ms: 10_000, ..Limits::default() },
        };
        match sandbox.run(&job, &|| false) {
            Ok(Finished { ended: Ended::Exited(0), .. }) => Ok(sandbox),
            Ok(finished) => Err(format!("a trial ended with {:?}", finished.ended)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Returns how programs are confined.
    #[must_use]
    pub fn confinement(self) -> Confinement {
        self.confinement
    }

    /// Runs `job` until it ends, is killed for a limit, or `cancelled` says that nobody wants it any more.
    ///
    /// Blocks. When it returns, no process of the job is alive.
    ///
    /// # Errors
    ///
    /// [`SandboxError`] when the program did not run; it is never run with less confinement than this sandbox has.
    pub fn run(self, job: &Job, cancelled: &dyn Fn() -> bool) -> Result<Finished, SandboxError> {
        self.run_with(job, Extras::default(), cancelled)
    }

    /// Runs `job` as [`run`](Self::run) does, with `extras`.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_with(self, job: &Job, extras: Extras, cancelled: &dyn Fn() -> bool) -> Result<Finished, SandboxError> {
        supervise::run(self.confinement, job, extras, cancelled)
    }
}

impl Confinement {
    /// Returns the name as in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Bubblewrap => "bubblewrap",
            Self::Landlock => "landlock",
            Self::None => "none",
        }
    }
}

impl Ended {
    /// Says how a program that did not exit by itself ended, for a message.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Exited(code) => format!("ended with exit code {code}"),
            Self::Signalled(signal) => format!("was ended by signal {signal}"),
            Self::TimedOut => "did not end in time and was killed".to_owned(),
            Self::MemoryLimit => "used too much memory and was killed".to_owned(),
            Self::ProcessLimit => "started too many processes and was killed".to_owned(),
            Self::DiskLimit => "wrote too much and was killed".to_owned(),
            Self::OutputLimit => "printed too much and was killed".to_owned(),
            Self::Cancelled => "was cancelled and killed".to_owned(),
        }
    }
}

impl SandboxError {
    /// Returns the answer to a call that would have needed the program to run.
    ///
    /// Not a `From`: with a second one the compiler can no longer tell which error `?` makes a refusal of.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Unavailable(_) => Refusal::refused(
                "sandbox_unavailable",
                self.to_string(),
                "use Linux 6.12 or newer, allow user namespaces with Linux 6.2, or install bubblewrap; or have the \
                 operator set `sandbox = \"none\"`",
            ),
            Self::NotStarted { .. } | Self::Broken(_) => Refusal::failed(
                "command_failed",
                self.to_string(),
                "have the operator check the command in `tollgate.toml` and that its program is installed",
            ),
        }
    }
}

/// Becomes a part of the sandbox when the program was started as one; to be called first thing in `main`.
#[must_use]
pub fn divert() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != HELPER_ARGUMENT {
        return None;
    }
    #[cfg(target_os = "linux")]
    {
        let part = arguments.next()?;
        Some(match part.to_str() {
            Some("keeper") => keeper::main(),
            Some("inside") => inside::main(),
            _ => ExitCode::FAILURE,
        })
    }
    #[cfg(not(target_os = "linux"))]
    Some(ExitCode::FAILURE)
}
