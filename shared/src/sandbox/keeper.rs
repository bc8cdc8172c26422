//! The part that keeps watch: one thread, outside the confinement, above everything that runs in it.
//!
//! It ends the job when its time, memory, processes or disk are used up, and when the program that wants the job tells
//! it to or is gone; then it sees to it that nothing is left.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, setsid, wait};

use super::supervise::{Order, Report, receive, receive_order, send, send_order};
use super::tree::Tree;
use super::{Confinement, Ended, HELPER_ARGUMENT, Job, bwrap, namespaces, scratch};

/// How often the limits are looked at; a fork bomb of an account without a process limit gets this far.
const TICK: Duration = Duration::from_millis(20);

/// How often the disk is looked at, which takes a walk.
const DISK_EVERY: Duration = Duration::from_secs(1);

/// How long everything gets to be gone once it was killed.
const GONE_MAX: Duration = Duration::from_secs(5);

/// Keeps one job and ends.
pub(super) fn main() -> ExitCode {
    let Ok(control) = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else {
        return ExitCode::FAILURE;
    };
    // The files stay open until this process ends, and whoever has a lock on one keeps it until nothing is left.
    let Ok(Some((order, files))) = receive_order(&control) else { return ExitCode::FAILURE };
    let stdin = files.first().filter(|_| order.has_stdin);
    let report = keep(&control, &order, stdin).unwrap_or_else(Report::Unconfined);
    match send(&control, &report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn keep(control: &UnixStream, order: &Order, stdin: Option<&OwnedFd>) -> Result<Report, String> {
    close_strangers();
    // No terminal: nothing can be typed into it, and no signal comes from it.
    let _ = setsid();
    set_child_subreaper(Some(rustix::process::getpid())).map_err(|error| format!("no subreaper: {error}"))?;
    if order.confinement == Confinement::Namespaces {
        namespaces::enter(order.network)?;
    }
    let (channel, far_end) = UnixStream::pair().map_err(|error| error.to_string())?;
    let inside = start(order, far_end)?;
    let mut kept = Kept { inside, channel, is_gone: false };
    // Nobody reads this when the inside is gone already; that shows below.
    let _ = send_order(&kept.channel, order, stdin.as_slice());
    let report = watch(control, &mut kept, &order.job);
    let reported = kept.end();
    Ok(match report {
        Some(ended) => Report::Ended(ended),
        None => reported.unwrap_or(Report::Ended(Ended::Signalled(9))),
    })
}

fn start(order: &Order, channel: UnixStream) -> Result<Child, String> {
    let mut command = match order.confinement {
        Confinement::Bubblewrap => bwrap::command(&order.job, order.network)?,
        _ => {
            let mut command = Command::new("/proc/self/exe");
            command.args([HELPER_ARGUMENT, "inside"]);
            command
        }
    };
    command
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(channel)))
        .process_group(0)
        .spawn()
        .map_err(|error| format!("the inner part cannot be started: {error}"))
}

/// Waits until the job is over by itself, which is `None`, or has to be ended.
fn watch(control: &UnixStream, kept: &mut Kept, job: &Job) -> Option<Ended> {
    let deadline = Instant::now() + Duration::from_millis(job.limits.wall_ms);
    let mut disk_at = Instant::now() + DISK_EVERY;
    loop {
        let quiet = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
        let mut waited = [PollFd::new(control, PollFlags::IN), PollFd::new(&kept.channel, PollFlags::IN)];
        let _ = poll(&mut waited, Some(&quiet));
        // Nothing more is ever sent here: what comes is the end of the stream.
        if !waited[0].revents().is_empty() {
            return Some(Ended::Cancelled);
        }
        if !waited[1].revents().is_empty() {
            return None;
        }
        kept.reap();
        let now = Instant::now();
        if now >= deadline {
            return Some(Ended::TimedOut);
        }
        let tree = Tree::below(rustix::process::getpid());
        if tree.tasks > job.limits.processes {
            return Some(Ended::ProcessLimit);
        }
        if tree.memory_exceeds(job.limits.memory_bytes) {
            return Some(Ended::MemoryLimit);
        }
        if now >= disk_at {
            disk_at = now + DISK_EVERY;
            if job.limits.disk_bytes != u64::MAX
                && job.writable.iter().any(|folder| scratch::exceeds(folder, job.limits.disk_bytes))
            {
                return Some(Ended::DiskLimit);
            }
        }
    }
}

/// What runs inside, and the way to hear from it.
struct Kept {
    inside: Child,
    channel: UnixStream,
    is_gone: bool,
}

impl Kept {
    /// Kills whatever is left and returns what the inside reported before.
    fn end(&mut self) -> Option<Report> {
        // Read first: what comes after the kill could be written by what is confined.
        let _ = self.channel.set_nonblocking(true);
        let reported = match receive::<Report>(&self.channel) {
            Ok(report) => report,
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(_) => None,
        };
        let begun = Instant::now();
        while begun.elapsed() < GONE_MAX {
            // The first process of a PID namespace takes all others with it, those that left the tree as well.
            if !self.is_gone {
                let _ = self.inside.kill();
            }
            let tree = Tree::below(rustix::process::getpid());
            // Stopped first, so that nothing is started while the others are killed.
            for pid in &tree.pids {
                let _ = kill_process(*pid, Signal::STOP);
            }
            for pid in &tree.pids {
                let _ = kill_process(*pid, Signal::KILL);
            }
            self.reap();
            if Tree::below(rustix::process::getpid()).pids.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        reported
    }

    /// Takes note of everything that ended: what the job left behind ends up here.
    fn reap(&mut self) {
        let own = Pid::from_raw(i32::try_from(self.inside.id()).unwrap_or(0));
        while let Ok(Some((pid, _))) = wait(WaitOptions::NOHANG) {
            self.is_gone |= Some(pid) == own;
        }
    }
}

/// Keeps every file that the calling program had open, and did not mean to pass on, from what is started.
fn close_strangers() {
    let Ok(entries) = Path::new("/proc/self/fd").read_dir() else { return };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for number in numbers.filter(|number| *number > 2).collect::<Vec<_>>() {
        #[expect(unsafe_code, reason = "the only way to name a file that this program did not open itself")]
        // SAFETY: the number was open a moment ago in a process with one thread; one that is not any more makes the
        // call below fail, and the flag alone changes nothing for this process.
        let stranger = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = rustix::io::fcntl_setfd(stranger, rustix::io::FdFlags::CLOEXEC);
    }
}
