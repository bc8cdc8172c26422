//! Programs that only look: no shell, a process group of its own that does not outlive the program, a cleaned
//! environment, bounded time and output. Those that change something are `kept`.

use std::io::{self, PipeReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// How much of what a program printed is kept: the end, where programs say what is wrong.
pub const OUTPUT_BYTES_MAX: usize = 2000;

/// The variables of the server's own environment that a program sees; the rest may be secrets of the operator's.
pub const VARIABLES: [&str; 5] = ["PATH", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// How often a quiet program is looked at: unnoticeable beside starting one.
const POLL: Duration = Duration::from_millis(10);

/// How much is read after the program has ended: more than a pipe holds.
const LEFT_BYTES_MAX: usize = 1024 * 1024;

/// A program, ready to be run.
pub struct Program<'a> {
    /// The program and its arguments.
    pub command: &'a [String],
    /// Where it is run.
    pub folder: &'a Path,
    /// How long it may take.
    pub timeout: Duration,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Exited(ExitStatus),
    /// It took too long and was killed.
    TimedOut,
}

/// What became of a program.
#[derive(Clone, Debug)]
pub struct Ran {
    /// How it ended.
    pub end: End,
    /// The end of what it printed.
    pub output: String,
}

impl Ran {
    /// Whether it ended by itself and with success.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        matches!(self.end, End::Exited(status) if status.success())
    }
}

impl Program<'_> {
    /// Runs it to its end, and kills what is left of its process group then; blocks.
    ///
    /// # Errors
    ///
    /// Why it cannot be started.
    pub fn run(self) -> io::Result<Ran> {
        let mut output = Tail::default();
        let end = self.supervise(&mut output)?;
        Ok(Ran { end, output: output.text() })
    }

    fn supervise(self, output: &mut Tail) -> io::Result<End> {
        let deadline = Instant::now() + self.timeout;
        let (mut reader, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        let (program, arguments) = self.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let leader = Command::new(program)
            .args(arguments)
            .current_dir(self.folder)
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
                return Ok(End::Exited(status));
            }
            if Instant::now() >= deadline {
                running.end()?;
                output.drain(&mut reader, LEFT_BYTES_MAX);
                return Ok(End::TimedOut);
            }
            if output.is_closed {
                std::thread::sleep(POLL);
            } else {
                let quiet = Timespec { tv_sec: 0, tv_nsec: i64::from(POLL.subsec_nanos()) };
                let _ = poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&quiet));
                output.drain(&mut reader, LEFT_BYTES_MAX);
            }
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

/// Returns the end of `bytes` as text in which only line ends and tabs are left of what is not printed.
#[must_use]
pub fn printable_end(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text: String =
        text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect();
    let text = text.trim_end();
    let mut start = text.len().saturating_sub(OUTPUT_BYTES_MAX);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    if start == 0 { text.to_owned() } else { format!("…{}", &text[start..]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_bounded_and_printable() {
        assert_eq!(printable_end(b"a\x1b[31mb\r\nc\n"), "a\u{fffd}[31mb\u{fffd}\nc");
        assert_eq!(printable_end(b"\xff"), "\u{fffd}");
        let long = "ä".repeat(OUTPUT_BYTES_MAX);
        let end = printable_end(long.as_bytes());
        assert!(end.len() <= OUTPUT_BYTES_MAX + 3 && end.starts_with('…') && end.ends_with('ä'));
    }
}
