//! A check by a command, which runs what an agent wrote: no shell, a process group of its own that does not outlive
//! the check, a cleaned environment, bounded time and output.

use std::io::{self, PipeReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::{Finding, OUTPUT_BYTES_MAX, printable_end};

/// The variables that a check sees; the rest may be secrets of the operator's.
const VARIABLES: [&str; 5] = ["PATH", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// How often a quiet check is looked at: unnoticeable beside starting a program.
const POLL: Duration = Duration::from_millis(10);

/// How much is read after the program has ended: more than a pipe holds.
const LEFT_BYTES_MAX: usize = 1024 * 1024;

/// Runs `command` in `folder` and says whether it ended with success in time.
pub(super) fn run(command: &[String], folder: &Path, timeout: Duration) -> Finding {
    let unhealthy = |reason: String, output: &Tail| Finding { healthy: false, reason, output: output.text() };
    let mut output = Tail::default();
    match supervise(command, folder, timeout, &mut output) {
        Ok(Some(status)) if status.success() => {
            Finding { healthy: true, reason: "the health check passed".to_owned(), output: output.text() }
        }
        Ok(Some(status)) => unhealthy(format!("the health check ended with {status}"), &output),
        Ok(None) => {
            unhealthy(format!("the health check did not end within {} ms and was killed", timeout.as_millis()), &output)
        }
        Err(error) => unhealthy(format!("the health check cannot be run: {error}"), &output),
    }
}

/// Returns how the program ended; `None` when it had to be killed.
fn supervise(
    command: &[String],
    folder: &Path,
    timeout: Duration,
    output: &mut Tail,
) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + timeout;
    let (mut reader, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let leader = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    let mut running = Group { leader, ended: None };
    loop {
        if running.has_ended()? {
            // Nothing that it left behind keeps running, and nothing that left the group is waited for.
            let status = running.end()?;
            output.drain(&mut reader, LEFT_BYTES_MAX);
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            running.end()?;
            output.drain(&mut reader, LEFT_BYTES_MAX);
            return Ok(None);
        }
        if !output.is_closed {
            let quiet = Timespec { tv_sec: 0, tv_nsec: i64::from(POLL.subsec_nanos()) };
            let _ = poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&quiet));
            output.drain(&mut reader, LEFT_BYTES_MAX);
        } else {
            std::thread::sleep(POLL);
        }
    }
}

/// A child that leads a process group; the whole group is killed when this is dropped.
struct Group {
    leader: Child,
    ended: Option<ExitStatus>,
}

impl Group {
    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.leader.id()).ok()?)
    }

    /// Whether the leader has ended; it stays a zombie, so that its group's number cannot become another's.
    fn has_ended(&self) -> io::Result<bool> {
        let Some(pid) = self.pid() else { return Ok(true) };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(pid), options)?.is_some())
    }

    /// Kills what is left of the group and returns how its leader ended.
    fn end(&mut self) -> io::Result<ExitStatus> {
        // Once waited for, its number may be another group's.
        if let Some(status) = self.ended {
            return Ok(status);
        }
        if let Some(pid) = self.pid() {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let status = self.leader.wait()?;
        self.ended = Some(status);
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// The end of what a program prints.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    is_closed: bool,
}

impl Tail {
    fn drain(&mut self, reader: &mut PipeReader, bytes_max: usize) {
        let mut buffer = [0; 16 * 1024];
        let mut total = 0;
        while total < bytes_max && !self.is_closed {
            match reader.read(&mut buffer) {
                Ok(0) => self.is_closed = true,
                Ok(count) => {
                    total += count;
                    self.bytes.extend_from_slice(&buffer[..count]);
                    let excess = self.bytes.len().saturating_sub(OUTPUT_BYTES_MAX * 2);
                    self.bytes.drain(..excess);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    }

    fn text(&self) -> String {
        printable_end(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn shell(script: &str, timeout_ms: u64) -> (TempDir, Finding) {
        let folder = TempDir::new().unwrap();
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        let finding = run(&command, folder.path(), Duration::from_millis(timeout_ms));
        (folder, finding)
    }

    #[test]
    fn success_is_healthy_and_failure_is_not() {
        let (_folder, finding) = shell("echo fine; exit 0", 10_000);
        assert!(finding.healthy);
        assert_eq!(finding.output, "fine");
        let (_folder, finding) = shell("echo broken >&2; exit 3", 10_000);
        assert!(!finding.healthy);
        assert_eq!(finding.output, "broken");
        assert!(finding.reason.contains('3'), "{}", finding.reason);
    }

    #[test]
    fn program_that_is_not_there_is_unhealthy() {
        let finding = run(&["/nonexistent/check".to_owned()], Path::new("/"), Duration::from_secs(1));
        assert!(!finding.healthy);
    }

    #[test]
    fn hung_check_is_killed_with_its_children() {
        let begun = Instant::now();
        let script = "(sleep 2; echo late > child) & sleep 60; echo later > parent";
        let (folder, finding) = shell(script, 300);
        assert!(!finding.healthy && begun.elapsed() < Duration::from_secs(2));
        std::thread::sleep(Duration::from_millis(2300));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a child went on");
    }

    #[test]
    fn children_of_a_passed_check_do_not_stay() {
        let begun = Instant::now();
        let (folder, finding) = shell("(sleep 1; echo late > child) & echo up", 30_000);
        assert!(finding.healthy && begun.elapsed() < Duration::from_secs(1), "{finding:?}");
        std::thread::sleep(Duration::from_millis(1300));
        assert!(!folder.path().join("child").exists());
    }

    #[test]
    fn endless_output_is_bounded() {
        let (_folder, finding) = shell("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done", 500);
        assert!(!finding.healthy && finding.output.len() <= OUTPUT_BYTES_MAX + 3);
    }

    #[test]
    fn closed_output_does_not_end_the_wait() {
        let (_folder, finding) = shell("exec >&- 2>&-; sleep 0.3; exit 0", 10_000);
        assert!(finding.healthy, "{finding:?}");
    }

    #[test]
    fn environment_is_cleaned() {
        // Cargo sets this one for every test.
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some());
        let (_folder, finding) = shell("env; test -z \"$CARGO_PKG_NAME\" && test -z \"$HOME\"", 10_000);
        assert!(finding.healthy, "{finding:?}");
    }
}
