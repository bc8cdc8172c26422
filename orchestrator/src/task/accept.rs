//! The task's acceptance commands: run confined, on a copy of the working tree.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tollgate_shared::sandbox::scratch::Scratch;
use tollgate_shared::sandbox::{Ended, Extras, Finished, Job, Limits, Sandbox, SandboxError, toolchain};

use super::TaskRun;
use crate::session::{Accepted, Session};

/// Longest that one command may take: a test suite, not a service.
const WALL_MS: u64 = 15 * 60 * 1000;

/// How much of the end of its output is kept: enough for the failures of a test run, little enough for a context window.
const OUTPUT_BYTES: usize = 6 * 1024;

/// Tells a thread that nobody waits any more.
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl TaskRun {
    /// Runs every acceptance command, in order; all of them, so that the agent hears of everything at once.
    ///
    /// # Errors
    ///
    /// A sentence that says why a command could not be run at all.
    pub(super) async fn accept(&self, session: &Session) -> Result<Vec<Accepted>, String> {
        let mut accepted = Vec::new();
        for words in &session.accept {
            let worktree = session.worktree.clone().unwrap_or_default();
            let (state, setting, words) = (self.state.clone(), self.sandbox, words.clone());
            let untrusted = vec![self.workspace.clone(), worktree.clone(), session.repository.clone()];
            let abandoned = Arc::new(AtomicBool::new(false));
            let _abandon = Abandon(Arc::clone(&abandoned));
            let ran = tokio::task::spawn_blocking(move || {
                let sandbox = Sandbox::detect(setting).map_err(|error| error.to_string())?;
                let stop = || abandoned.load(Ordering::Relaxed);
                match run(sandbox, &words, &worktree, &state, &untrusted, &stop) {
                    Ok(finished) => Ok(Accepted {
                        command: words.join(" "),
                        passed: finished.ended == Ended::Exited(0),
                        ended: finished.ended.describe(),
                        output: String::from_utf8_lossy(&finished.stdout).into_owned(),
                        duration_ms: u64::try_from(finished.duration.as_millis()).unwrap_or(u64::MAX),
                    }),
                    Err(error) => Err(format!("`{}` cannot be run: {error}", words.join(" "))),
                }
            });
            accepted.push(ran.await.map_err(|error| error.to_string())??);
        }
        Ok(accepted)
    }
}

fn run(
    sandbox: Sandbox,
    words: &[String],
    worktree: &Path,
    state: &Path,
    untrusted: &[std::path::PathBuf],
    stop: &dyn Fn() -> bool,
) -> Result<Finished, SandboxError> {
    let broken = |error: std::io::Error| SandboxError::Broken(error.to_string());
    let scratch = Scratch::new().map_err(broken)?;
    let folder = scratch.path().join("tree");
    super::tree::copy(worktree, &folder).map_err(broken)?;
    let written = words.first().map_or("", String::as_str);
    let search_path = toolchain::search_path(untrusted);
    // A program of the working tree is run from the copy, confined like every other.
    let program = if written.contains('/') && !written.starts_with('/') {
        let path = folder.join(written);
        path.is_file().then_some(path)
    } else {
        toolchain::find_program(written, &search_path)
    };
    let program = program.ok_or_else(|| SandboxError::NotStarted {
        program: written.into(),
        reason: "there is no such program".into(),
    })?;
    let mut readable = toolchain::system();
    readable.extend(toolchain::installed());
    readable.extend(toolchain::of_program(&program));
    let job = Job {
        program,
        arguments: words[1..].to_vec(),
        folder,
        environment: toolchain::environment(&scratch, &search_path),
        readable,
        writable: vec![scratch.path().to_owned()],
        fixed: Vec::new(),
        hidden: vec![state.to_owned()],
        limits: Limits { wall_ms: WALL_MS, output_bytes: OUTPUT_BYTES, ..Limits::default() },
    };
    sandbox.run_with(&job, Extras { keeps_end: true, ..Extras::default() }, stop)
}
