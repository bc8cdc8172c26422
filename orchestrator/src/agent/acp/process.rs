//! The agent's program, in the sandbox: the working tree and a home of its own to write, the network, nothing else of the host.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tollgate_shared::sandbox::scratch::Scratch;
use tollgate_shared::sandbox::{Extras, Finished, Job, Limits, Sandbox, SandboxError, Setting, toolchain};

use super::config::AgentConfig;

/// How much of the end of its stderr is kept, to say why it ended.
const STDERR_BYTES: usize = 4 * 1024;

/// Longest that it runs: longer than any task may.
const WALL_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// Processor time of each of its processes, in seconds.
const CPU_S: u64 = 24 * 60 * 60;

/// A running program and the pipes to it.
pub(super) struct Process {
    pub(super) input: pipe::Sender,
    pub(super) output: pipe::Receiver,
    pub(super) ended: JoinHandle<Result<Finished, SandboxError>>,
    pub(super) stop: Stop,
}

/// Ends the program when it is dropped.
pub(super) struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What is started where, and on what terms.
pub(super) struct Place<'a> {
    pub(super) workspace: &'a Path,
    pub(super) worktree: &'a Path,
    pub(super) repository: &'a Path,
    pub(super) state: &'a Path,
    pub(super) setting: Setting,
    /// Locked by every process of this run: the agent's too, which ends after the orchestrator.
    pub(super) owner_file: Option<&'a Path>,
}

/// Starts the agent.
pub(super) async fn start(config: &AgentConfig, place: &Place<'_>) -> Result<Process, String> {
    let describe = |error: io::Error| error.to_string();
    let (their_input, our_input) = io::pipe().map_err(describe)?;
    let (our_output, their_output) = io::pipe().map_err(describe)?;
    let input = pipe::Sender::from_owned_fd(OwnedFd::from(our_input)).map_err(describe)?;
    let output = pipe::Receiver::from_owned_fd(OwnedFd::from(our_output)).map_err(describe)?;
    let scratch = Scratch::new().map_err(describe)?;
    let job = job(config, place, &scratch)?;
    let held = place.owner_file.map(held).transpose().map_err(describe)?;
    let extras = Extras {
        stdin: Some(OwnedFd::from(their_input)),
        stdout: Some(OwnedFd::from(their_output)),
        held,
        network: true,
        keeps_end: true,
    };
    let is_stopped = Arc::new(AtomicBool::new(false));
    let (setting, seen) = (place.setting, Arc::clone(&is_stopped));
    let ended = tokio::task::spawn_blocking(move || {
        let sandbox = Sandbox::detect(setting)?;
        let finished = sandbox.run_with(&job, extras, &|| seen.load(Ordering::Relaxed));
        drop(scratch);
        finished
    });
    Ok(Process { input, output, ended, stop: Stop(is_stopped) })
}

/// Opens the file again and locks it: the lock lasts until the last process that has it open is gone.
fn held(path: &Path) -> io::Result<OwnedFd> {
    let file = File::open(path)?;
    file.lock_shared()?;
    Ok(OwnedFd::from(file))
}

fn job(config: &AgentConfig, place: &Place<'_>, scratch: &Scratch) -> Result<Job, String> {
    let untrusted = [place.workspace, place.worktree, place.repository].map(Path::to_owned);
    let search_path = toolchain::search_path(&untrusted);
    let program = toolchain::find_program(&config.command, &search_path)
        .ok_or_else(|| format!("there is no program `{}`: install it, or write where it is", config.command))?;
    let mut readable = toolchain::system();
    readable.extend(toolchain::installed());
    readable.extend(toolchain::of_program(&program));
    // What it starts for the task's tools when it takes no servers over HTTP.
    readable.extend(std::env::current_exe());
    readable.extend(config.readable.iter().map(|path| place.workspace.join(path)));
    let mut writable = vec![scratch.path().to_owned(), place.worktree.to_owned()];
    writable.extend(config.writable.iter().map(|path| place.workspace.join(path)));
    let mut environment = toolchain::environment(scratch, &search_path);
    for name in &config.env_pass {
        if let Ok(value) = std::env::var(name) {
            environment.insert(name.clone(), value);
        }
    }
    environment.extend(config.env.clone());
    // Whatever of ours it runs knows that no person does.
    environment.insert("TOLLGATE_AGENT".to_owned(), config.command.clone());
    Ok(Job {
        program,
        arguments: config.args.clone(),
        folder: place.worktree.to_owned(),
        environment,
        readable,
        writable,
        // What makes this a working tree of that repository, and of no other.
        fixed: vec![place.worktree.join(".git")],
        hidden: records(place.state),
        limits: Limits {
            wall_ms: WALL_MS,
            cpu_s: CPU_S,
            memory_bytes: config.memory_mib.saturating_mul(1024 * 1024),
            disk_bytes: u64::MAX,
            processes: 2048,
            output_bytes: STDERR_BYTES,
            ..Limits::default()
        },
    })
}

/// Returns what lies in the state folder beside the working trees: no agent may see it, wherever the folder is.
fn records(state: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name() != "worktrees").map(|entry| entry.path()).collect()
}
