//! A server whose answers are timed: nothing between a benchmark and the pipe that could take time of its own.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A server over stdio, killed when it is dropped.
pub struct Measured {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    line: String,
}

impl Measured {
    /// Starts `command` in `folder`, without the caller's own configuration.
    pub fn start(command: &mut Command, folder: &Path) -> Self {
        let mut child = command
            .current_dir(folder)
            .env_remove("TOLLGATE_CONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout, line: String::new() }
    }

    /// Writes `line`, which ends with its line feed.
    pub fn write(&mut self, line: &str) {
        self.stdin.write_all(line.as_bytes()).unwrap();
    }

    /// Writes the request `line`, which ends with its line feed, and returns the next line that comes.
    pub fn send(&mut self, line: &str) -> &str {
        self.write(line);
        self.read()
    }

    /// Returns the next line that comes.
    pub fn read(&mut self) -> &str {
        self.line.clear();
        assert!(self.stdout.read_line(&mut self.line).unwrap() > 0, "the server is gone");
        &self.line
    }

    /// Returns how much memory of it is resident, in MiB.
    #[expect(clippy::float_arithmetic, reason = "for people to read")]
    pub fn resident_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
