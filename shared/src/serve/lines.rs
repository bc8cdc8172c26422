//! Lines of JSON: cut out of what is read, and written without another task where that goes without waiting.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::net::{UnixStream, tcp};

/// Longest line that is read: an answer's limit twice over, so a file of 8 MiB with every byte escaped still fits.
pub const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One read: large enough for most messages, small enough to keep around.
const READ_BYTES: usize = 64 * 1024;

/// What is read, line by line.
pub struct Input<R> {
    reader: R,
    /// What one read fills; kept, since making it anew for each costs more than a small message.
    buffer: Box<[u8]>,
    lines: Lines,
}

impl<R: AsyncRead + Unpin> Input<R> {
    /// Reads from `reader`.
    pub fn new(reader: R) -> Self {
        Self { reader, buffer: vec![0; READ_BYTES].into_boxed_slice(), lines: Lines::default() }
    }

    /// Takes what was read already.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.lines.push(bytes);
    }

    /// Whether the next line is there without waiting.
    pub(super) fn has_line(&self) -> bool {
        !self.lines.ready.is_empty()
    }

    /// Returns the next line; nothing is lost when the future is dropped.
    pub async fn next_line(&mut self) -> Line {
        loop {
            if let Some(line) = self.lines.next() {
                return line;
            }
            // Reading is the only await, and what it read is kept at once.
            match self.reader.read(&mut self.buffer).await {
                Ok(0) => return Line::End,
                Ok(count) => self.lines.push(&self.buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot read the input");
                    return Line::End;
                }
            }
        }
    }
}

/// Cuts what was read into lines, never holding more than [`LINE_BYTES_MAX`] of one.
#[derive(Default)]
struct Lines {
    unfinished: Vec<u8>,
    ready: VecDeque<Line>,
    discarding: bool,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line that is not blank, without its end.
    Whole(Vec<u8>),
    /// A line that was longer than [`LINE_BYTES_MAX`]; it is dropped.
    TooLong,
    /// Nothing: there is no more.
    End,
}

impl Lines {
    fn push(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end]);
            let line = std::mem::take(&mut self.unfinished);
            if !std::mem::take(&mut self.discarding) {
                let text = line.strip_suffix(b"\r").unwrap_or(&line);
                if !text.iter().all(u8::is_ascii_whitespace) {
                    let length = text.len();
                    let mut line = line;
                    line.truncate(length);
                    self.ready.push_back(Line::Whole(line));
                }
            }
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes);
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.discarding {
            return;
        }
        if self.unfinished.len() + bytes.len() > LINE_BYTES_MAX {
            self.discarding = true;
            self.unfinished = Vec::new();
            self.ready.push_back(Line::TooLong);
        } else {
            self.unfinished.extend_from_slice(bytes);
        }
    }

    fn next(&mut self) -> Option<Line> {
        self.ready.pop_front()
    }
}

/// What is to be written, in order, and where to.
pub struct Output {
    sink: Sink,
    unwritten: Mutex<VecDeque<u8>>,
    /// Whether the pipe has been made to hold more, as far as the system lets it.
    is_wide: AtomicBool,
}

/// How much a pipe holds once it was full: an answer with all rows that it may have, twice, as text and as structured content. What
/// fits is written at once; of the system's 64 KiB at a time, each has to be read first.
const PIPE_BYTES: usize = 256 * 1024;

/// Where to.
pub enum Sink {
    /// A pipe.
    Pipe(pipe::Sender),
    /// A socket, as hosts on Node connect.
    Socket(UnixStream),
    /// Half of a connection.
    Tcp(tcp::OwnedWriteHalf),
    /// A file or a terminal: written through a blocking thread.
    Other(tokio::sync::Mutex<tokio::io::Stdout>),
}

/// Whether everything was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// It was.
    Yes,
    /// The rest waits for [`Output::flush`].
    No,
}

impl Output {
    /// Writes to `sink`.
    #[must_use]
    pub fn new(sink: Sink) -> Self {
        Self { sink, unwritten: Mutex::default(), is_wide: AtomicBool::new(false) }
    }

    /// Queues one line, which has no end yet, and writes as much as goes without waiting.
    ///
    /// # Errors
    ///
    /// What writing fails with; then nobody reads any more.
    pub fn push(&self, mut line: Vec<u8>) -> io::Result<Flushed> {
        line.push(b'\n');
        let mut unwritten = self.lock();
        if !unwritten.is_empty() {
            unwritten.extend(line);
            return self.write_some(&mut unwritten);
        }
        // Most of the time nothing waits, and nothing has to be kept.
        let written = self.write(&line)?;
        unwritten.extend(line.get(written..).unwrap_or_default());
        Ok(if unwritten.is_empty() { Flushed::Yes } else { Flushed::No })
    }

    fn write_some(&self, unwritten: &mut VecDeque<u8>) -> io::Result<Flushed> {
        while !unwritten.is_empty() {
            let (front, _) = unwritten.as_slices();
            match self.write(front) {
                Ok(0) => return Ok(Flushed::No),
                Ok(count) => drop(unwritten.drain(..count)),
                Err(error) => {
                    unwritten.clear();
                    return Err(error);
                }
            }
        }
        Ok(Flushed::Yes)
    }

    /// Writes as much as goes without waiting, and returns how much that was.
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut count = 0;
        while let Some(rest) = bytes.get(count..).filter(|rest| !rest.is_empty()) {
            let written = match &self.sink {
                Sink::Pipe(pipe) => pipe.try_write(rest),
                Sink::Socket(socket) => socket.try_write(rest),
                Sink::Tcp(connection) => connection.try_write(rest),
                Sink::Other(_) => break,
            };
            match written {
                Ok(0) => break,
                Ok(written) => count += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if count > 0 {
                        self.widen();
                    }
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// Has a pipe that is full hold more, once; as far as the system lets it.
    fn widen(&self) {
        if let Sink::Pipe(pipe) = &self.sink
            && !self.is_wide.swap(true, Ordering::Relaxed)
            && fcntl_getpipe_size(pipe).is_ok_and(|size| size < PIPE_BYTES)
            && let Err(error) = fcntl_setpipe_size(pipe, PIPE_BYTES)
        {
            tracing::debug!(%error, "the pipe stays as it is");
        }
    }

    /// Whether something waits to be written.
    pub fn is_behind(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Waits until everything queued so far is written.
    ///
    /// # Errors
    ///
    /// What writing fails with; then nobody reads any more.
    pub async fn flush(&self) -> io::Result<()> {
        loop {
            match &self.sink {
                Sink::Pipe(pipe) => pipe.writable().await?,
                Sink::Socket(socket) => socket.writable().await?,
                Sink::Tcp(connection) => connection.writable().await?,
                Sink::Other(stdout) => {
                    let mut stdout = stdout.lock().await;
                    let bytes: Vec<u8> = std::mem::take(&mut *self.lock()).into();
                    stdout.write_all(&bytes).await?;
                    return stdout.flush().await;
                }
            }
            if matches!(self.write_some(&mut self.lock())?, Flushed::Yes) {
                return Ok(());
            }
        }
    }

    /// Waits until at most `bytes` are unwritten, or cannot be written any more.
    pub(super) async fn below(&self, bytes: usize) {
        while self.lock().len() > bytes {
            if self.flush().await.is_err() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<Line> {
        let mut lines = Lines::default();
        chunks.iter().for_each(|chunk| lines.push(chunk));
        std::iter::from_fn(|| lines.next()).collect()
    }

    #[test]
    fn lines_are_cut_wherever_reads_end() {
        let whole = |text: &str| Line::Whole(text.as_bytes().to_vec());
        assert_eq!(lines(&[b"a\nb\r\n\n  \nc"]), [whole("a"), whole("b")]);
        assert_eq!(lines(&[b"a", b"b\nc", b"\n"]), [whole("ab"), whole("c")]);
    }

    #[tokio::test]
    async fn full_pipe_is_made_wider_once() {
        let (reader, writer) = io::pipe().unwrap();
        fcntl_setpipe_size(&writer, 4096).unwrap();
        let output = Output::new(Sink::Pipe(pipe::Sender::from_owned_fd(writer.into()).unwrap()));
        output.push(b"short".to_vec()).unwrap();
        output.flush().await.unwrap();
        assert_eq!(fcntl_getpipe_size(&reader).unwrap(), 4096);
        output.push(vec![b'x'; 100_000]).unwrap();
        assert_eq!(fcntl_getpipe_size(&reader).unwrap(), PIPE_BYTES);
        // Though nobody reads.
        output.flush().await.unwrap();
        // It does not grow for ever.
        assert_eq!(output.push(vec![b'x'; 2 * PIPE_BYTES]).unwrap(), Flushed::No);
        assert_eq!(fcntl_getpipe_size(&reader).unwrap(), PIPE_BYTES);
        assert!(output.is_behind());
    }

    #[test]
    fn long_line_is_dropped_and_the_next_one_read() {
        let long = vec![b'x'; LINE_BYTES_MAX];
        assert_eq!(lines(&[&long, b"x", b"xx\nok\n"]), [Line::TooLong, Line::Whole(b"ok".to_vec())]);
    }
}
