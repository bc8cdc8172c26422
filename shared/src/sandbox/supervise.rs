//! The side of the sandbox that is in the calling program: starts the keeper, takes the output, says when to stop.

use std::io::{self, IoSlice, IoSliceMut, PipeReader, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::{Confinement, Ended, Extras, Finished, HELPER_ARGUMENT, Job, SandboxError};

/// How often cancellation is looked at: unnoticeable for a person, cheap beside a process.
const TICK: Duration = Duration::from_millis(20);

/// How long the keeper gets to end everything after it was told to; then it is killed itself.
const END_MAX: Duration = Duration::from_secs(10);

/// More than every path, argument and variable that a kernel takes.
const LINE_BYTES_MAX: usize = 8 << 20;

/// A keeper that is gone is an error, not a signal that ends this program. Elsewhere than on Linux nothing is run.
#[cfg(target_os = "linux")]
const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;
#[cfg(not(target_os = "linux"))]
const SEND_FLAGS: SendFlags = SendFlags::empty();

/// Files that come along are not passed on to what is started.
#[cfg(target_os = "linux")]
const RECEIVE_FLAGS: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(not(target_os = "linux"))]
const RECEIVE_FLAGS: RecvFlags = RecvFlags::empty();

/// How much of an output is taken at a time: more than a pipe holds.
const TAKEN_BYTES_MAX: usize = 1 << 20;

/// What the parts of the sandbox are told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub confinement: Confinement,
    pub job: Job,
    /// Whether the job has the network of the host.
    pub network: bool,
    /// Whether the first file that comes along is the job's stdin.
    pub has_stdin: bool,
}

/// Files that come along with an order: the job's stdin where it has one, and what is only kept open.
const FILES_MAX: usize = 2;

/// What the parts of the sandbox answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The program ran, and nothing of it is left.
    Ended(Ended),
    /// The program itself could not be started.
    NotStarted(String),
    /// The confinement could not be set up; nothing was run.
    Unconfined(String),
}

/// Sends one line.
pub(super) fn send(mut stream: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Sends an order and the files that belong to it. A file is open from then on until its receiver closes it or dies,
/// also while nobody has received it yet.
pub(super) fn send_order(mut stream: &UnixStream, order: &Order, files: &[&OwnedFd]) -> io::Result<()> {
    let mut line = serde_json::to_vec(order)?;
    line.push(b'\n');
    let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = sendmsg(stream, &[IoSlice::new(&line)], &mut ancillary, SEND_FLAGS)?;
    stream.write_all(&line[sent..])
}

/// Receives an order and the files that belong to it; `None` at the end of the stream.
pub(super) fn receive_order(stream: &UnixStream) -> io::Result<Option<(Order, Vec<OwnedFd>)>> {
    let mut line = Vec::new();
    let mut files = Vec::new();
    let mut buffer = [0; 4096];
    while line.last() != Some(&b'\n') {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        match recvmsg(stream, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, RECEIVE_FLAGS) {
            Ok(received) if received.bytes == 0 => return Ok(None),
            Ok(received) => line.extend_from_slice(&buffer[..received.bytes]),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                files.extend(received);
            }
        }
        if line.len() > LINE_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(Some((serde_json::from_slice(&line)?, files)))
}

/// Receives one line; `None` at the end of the stream.
pub(super) fn receive<T: serde::de::DeserializeOwned>(mut stream: &UnixStream) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    while line.last() != Some(&b'\n') {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(count) => line.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if line.len() > LINE_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

/// Runs `job` confined by `confinement`.
pub(super) fn run(
    confinement: Confinement,
    job: &Job,
    extras: Extras,
    cancelled: &dyn Fn() -> bool,
) -> Result<Finished, SandboxError> {
    if !cfg!(target_os = "linux") {
        return Err(SandboxError::Unavailable("programs are run on Linux only".to_owned()));
    }
    let begun = Instant::now();
    let broken = |error: io::Error| SandboxError::Broken(error.to_string());
    let Extras { stdin, stdout: talks_to, held, network, keeps_end } = extras;
    let (mut stdout, stdout_writer) = Output::new(job.limits.output_bytes, keeps_end).map_err(broken)?;
    let (mut stderr, mut stderr_writer) = Output::new(job.limits.output_bytes, keeps_end).map_err(broken)?;
    let stdout_writer = match talks_to {
        Some(file) => {
            stdout.is_closed = true;
            Stdio::from(file)
        }
        None => {
            if keeps_end {
                stderr_writer = stdout_writer.try_clone().map_err(broken)?;
                stderr.is_closed = true;
            }
            Stdio::from(stdout_writer)
        }
    };
    let (control, far_end) = UnixStream::pair().map_err(broken)?;
    let child = Command::new("/proc/self/exe")
        .args([HELPER_ARGUMENT, "keeper"])
        // Nothing of this program's own environment, which has the operator's secrets, reaches the keeper.
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(far_end)))
        .stdout(stdout_writer)
        .stderr(stderr_writer)
        .spawn()
        .map_err(broken)?;
    let mut keeper = Keeper { child, control };
    let order = Order { confinement, job: job.clone(), network, has_stdin: stdin.is_some() };
    let files: Vec<&OwnedFd> = stdin.iter().chain(&held).collect();
    send_order(&keeper.control, &order, &files).map_err(broken)?;
    let mut outputs = [stdout, stderr];
    let (report, reason) = attend(&mut keeper, &mut outputs, job, begun, cancelled).map_err(broken)?;
    let [stdout, stderr] = outputs.map(|output| output.bytes);
    match report {
        Some(Report::Ended(ended)) => {
            Ok(Finished { ended: reason.unwrap_or(ended), stdout, stderr, duration: begun.elapsed() })
        }
        Some(Report::NotStarted(reason)) => Err(SandboxError::NotStarted { program: job.program.clone(), reason }),
        Some(Report::Unconfined(reason)) => Err(SandboxError::Unavailable(reason)),
        None => {
            let said = String::from_utf8_lossy(&stderr[..stderr.len().min(400)]).trim().to_owned();
            Err(SandboxError::Broken(format!("the keeper ended without a report {said}")))
        }
    }
}

/// Takes output until the keeper reports; returns the report, and why it was told to stop, when it was.
fn attend(
    keeper: &mut Keeper,
    outputs: &mut [Output; 2],
    job: &Job,
    begun: Instant,
    cancelled: &dyn Fn() -> bool,
) -> io::Result<(Option<Report>, Option<Ended>)> {
    // The keeper watches the time itself; this is for a keeper that does not answer.
    let wall = begun + Duration::from_millis(job.limits.wall_ms) + END_MAX;
    let mut stopped: Option<(Ended, Instant)> = None;
    loop {
        let quiet = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
        let mut waited = vec![PollFd::new(&keeper.control, PollFlags::IN)];
        waited.extend(
            outputs.iter().filter(|output| !output.is_closed).map(|output| PollFd::new(&output.reader, PollFlags::IN)),
        );
        let _ = poll(&mut waited, Some(&quiet));
        let reported = !waited[0].revents().is_empty();
        drop(waited);
        outputs.iter_mut().for_each(Output::take);
        if reported {
            let report = receive(&keeper.control)?;
            // Nothing is alive any more that could write; what is in the pipes is all there is.
            outputs.iter_mut().for_each(Output::take);
            let full = outputs.iter().any(|output| output.is_full);
            return Ok((report, stopped.map(|(ended, _)| ended).or(full.then_some(Ended::OutputLimit))));
        }
        let now = Instant::now();
        let full = outputs.iter().any(|output| output.is_full);
        match &stopped {
            None if cancelled() => stopped = Some((Ended::Cancelled, keeper.stop(now))),
            None if full => stopped = Some((Ended::OutputLimit, keeper.stop(now))),
            None if now >= wall => stopped = Some((Ended::TimedOut, keeper.stop(now))),
            Some((_, deadline)) if now >= *deadline => return Ok((None, None)),
            _ => {}
        }
    }
}

/// The keeper's process; killed, and with it all that it keeps, when this is dropped.
struct Keeper {
    child: Child,
    control: UnixStream,
}

impl Keeper {
    /// Tells it to end everything, and returns until when it has to.
    fn stop(&self, now: Instant) -> Instant {
        // The end of the stream is the order: it also arrives when this program dies.
        let _ = self.control.shutdown(std::net::Shutdown::Write);
        now + END_MAX
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.control.shutdown(std::net::Shutdown::Write);
        let begun = Instant::now();
        while begun.elapsed() < END_MAX {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program prints, up to a limit.
struct Output {
    reader: PipeReader,
    bytes: Vec<u8>,
    bytes_max: usize,
    /// Whether the beginning makes room for the end.
    keeps_end: bool,
    is_closed: bool,
    is_full: bool,
}

impl Output {
    fn new(bytes_max: usize, keeps_end: bool) -> io::Result<(Self, io::PipeWriter)> {
        let (reader, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        Ok((Self { reader, bytes: Vec::new(), bytes_max, keeps_end, is_closed: false, is_full: false }, writer))
    }

    /// Takes what is there without waiting.
    fn take(&mut self) {
        let mut buffer = [0; 64 * 1024];
        let mut taken = 0;
        while !self.is_closed && !self.is_full {
            match self.reader.read(&mut buffer) {
                Ok(0) => self.is_closed = true,
                Ok(count) if self.keeps_end => {
                    self.bytes.extend_from_slice(&buffer[..count]);
                    let excess = self.bytes.len().saturating_sub(self.bytes_max);
                    self.bytes.drain(..excess);
                    // An endless output must not keep this from looking at the time.
                    taken += count;
                    if taken >= TAKEN_BYTES_MAX {
                        break;
                    }
                }
                Ok(count) => {
                    let room = self.bytes_max - self.bytes.len();
                    self.is_full = count > room;
                    self.bytes.extend_from_slice(&buffer[..count.min(room)]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    }
}
