//! Running a program of the user's: git, ssh-keygen, gpg.
//!
//! Its name comes from the operator's PATH or the user's own configuration, its arguments from here, and what an agent
//! wrote reaches it on stdin alone. It runs in a process group of its own, for a bounded time, with bounded output.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{memory, watch};

/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(10);

/// How long what a program wrote is waited for once it has ended: a process that it left behind may hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How much of each output is kept.
const OUTPUT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Variables of git's that are the operator's, and say nothing about where a repository is.
const GIT_VARIABLES: &[&str] = &[
    "GIT_ASKPASS",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_EXEC_PATH",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_SSL_CERT",
    "GIT_SSL_KEY",
    "GIT_HTTP_PROXY_AUTHMETHOD",
    "GIT_PROXY_SSL_CAINFO",
];

/// What a program left.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// Why a program did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Unfinished {
    /// There is no such program, or it cannot be run.
    #[error("it cannot be run: {0}")]
    NotRun(std::io::Error),
    /// It took too long.
    #[error("it took longer than {0} s")]
    TooLong(u64),
    /// The call was taken back, or what the program made grew too large.
    #[error("it was stopped")]
    Stopped,
}

/// Returns the command for `program`, without what the environment says about repositories.
#[must_use]
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let injected = text.starts_with("GIT_CONFIG_KEY_") || text.starts_with("GIT_CONFIG_VALUE_");
        let kept = injected || text == "GIT_CONFIG_COUNT" || GIT_VARIABLES.contains(&&*text);
        if text.starts_with("TOLLGATE_") || (text.starts_with("GIT_") && !kept) {
            command.env_remove(&name);
        }
    }
    // Nobody is there to be asked.
    command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C").env("SSH_ASKPASS_REQUIRE", "never");
    command.env_remove("SSH_ASKPASS").current_dir("/");
    command
}

/// Runs `command` with `input`, for at most `time_max`, until `stop` says otherwise.
///
/// # Errors
///
/// [`Unfinished`]; then nothing of its process group is left running.
pub fn run(command: Command, input: &[u8], time_max: Duration, stop: &dyn Fn() -> bool) -> Result<Ended, Unfinished> {
    watch::away(time_max, || watched(command, input, time_max, stop))
}

fn watched(
    mut command: Command,
    input: &[u8],
    time_max: Duration,
    stop: &dyn Fn() -> bool,
) -> Result<Ended, Unfinished> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(Unfinished::NotRun)?;
    memory::unbind(child.id());
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A program that reads nothing must not hold up the call.
        thread::spawn(move || stdin.write_all(&input));
    }
    let stdout = gathered(child.stdout.take());
    let stderr = gathered(child.stderr.take());
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                let (stdout, stderr) = (last_words(&stdout), last_words(&stderr));
                return Ok(Ended { status, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() });
            }
            Ok(None) if started.elapsed() > time_max => {
                kill(&mut child);
                return Err(Unfinished::TooLong(time_max.as_secs()));
            }
            Ok(None) if stop() => {
                kill(&mut child);
                return Err(Unfinished::Stopped);
            }
            Ok(None) => thread::sleep(POLL),
            Err(error) => {
                kill(&mut child);
                return Err(Unfinished::NotRun(error));
            }
        }
    }
}

/// What a program writes, while it does.
struct Gathered {
    bytes: Arc<Mutex<Vec<u8>>>,
    ended: Receiver<()>,
}

fn gathered(source: Option<impl Read + Send + 'static>) -> Gathered {
    let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
    let (sender, ended) = channel();
    let written = Arc::clone(&bytes);
    thread::spawn(move || {
        let Some(mut source) = source else { return };
        let mut part = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = source.read(&mut part) {
            let mut bytes = written.lock().unwrap_or_else(PoisonError::into_inner);
            // What nobody keeps is taken all the same, or the program would wait.
            let room = OUTPUT_BYTES_MAX.saturating_sub(bytes.len());
            bytes.extend_from_slice(&part[..count.min(room)]);
        }
        let _ = sender.send(());
    });
    Gathered { bytes, ended }
}

fn last_words(gathered: &Gathered) -> Vec<u8> {
    let _ = gathered.ended.recv_timeout(LAST_WORDS);
    std::mem::take(&mut *gathered.bytes.lock().unwrap_or_else(PoisonError::into_inner))
}

fn kill(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, input: &[u8], time_max: Duration, stop: bool) -> Result<Ended, Unfinished> {
        let mut shell = command("sh");
        shell.args(["-c", script]);
        run(shell, input, time_max, &|| stop)
    }

    #[test]
    fn output_and_status_come_back() {
        let minute = Duration::from_secs(60);
        let ended = shell("cat; echo bad >&2; exit 3", b"input", minute, false).unwrap();
        assert_eq!((&*ended.stdout, &*ended.stderr, ended.status.code()), (&b"input"[..], "bad\n", Some(3)));
        let large = vec![b'x'; 1024 * 1024];
        assert_eq!(shell("cat", &large, minute, false).unwrap().stdout, large);
        assert!(shell("exit 0", &large, minute, false).unwrap().status.success());
    }

    #[test]
    fn program_that_does_not_end_is_ended_with_its_children() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("alive");
        let script = format!("(sleep 2; touch {}) & sleep 600", file.display());
        assert!(matches!(shell(&script, b"", Duration::from_millis(100), false), Err(Unfinished::TooLong(0))));
        assert!(matches!(shell("sleep 600", b"", Duration::from_secs(600), true), Err(Unfinished::Stopped)));
        thread::sleep(Duration::from_millis(2500));
        assert!(!file.exists());
    }

    #[test]
    fn child_that_holds_the_pipe_holds_up_nothing() {
        let started = Instant::now();
        let ended = shell("echo done; sleep 30 & exit 0", b"", Duration::from_secs(60), false).unwrap();
        assert_eq!(ended.stdout, b"done\n");
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn program_that_is_not_there_says_so() {
        let missing = run(command("/nonexistent/program"), b"", Duration::from_secs(1), &|| false);
        assert!(matches!(missing, Err(Unfinished::NotRun(_))));
    }
}
