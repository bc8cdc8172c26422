//! Programs of a target's: whatever they start ends with them, and with the server, before anybody else has the turn.
//!
//! Each runs below the sandbox's keeper, which ends everything when this server is gone and keeps the lock on the
//! service's folder until then. So no program of a server that was killed changes what the next one recovers.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tollgate_shared::sandbox::scratch::Scratch;
use tollgate_shared::sandbox::{Ended, Extras, Job, Limits, Sandbox, SandboxError, Setting, toolchain};

use crate::program::{OUTPUT_BYTES_MAX, VARIABLES, printable_end};
use crate::tree::Stop;

/// What names are looked up in: the system's own, which the sandbox leaves out where there is no network.
const RESOLVER: &str = "/etc/resolv.conf";

/// What a confined program of a target may reach.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    /// Whether it is confined at all.
    pub sandbox: Setting,
    /// What it may read beside the service's folder.
    pub readable: Vec<PathBuf>,
    /// Folders that it may write.
    pub writable: Vec<PathBuf>,
    /// Whether it has the network.
    pub network: bool,
}

/// A program of a target's, ready to be run.
pub struct Kept<'a> {
    /// The program and its arguments.
    pub command: &'a [String],
    /// Where it is run.
    pub folder: &'a Path,
    /// The service's folder, which it may read.
    pub service: &'a Path,
    /// What it sees beside the variables that every program sees.
    pub variables: &'a [(String, OsString)],
    /// What it reads; nothing where there is none.
    pub stdin: Option<File>,
    /// How long it may take.
    pub timeout: Duration,
    /// What it may reach; `None` is everything that the server may.
    pub rights: Option<&'a Rights>,
    /// The lock that makes it this server's turn.
    pub turn: OwnedFd,
}

impl Kept<'_> {
    /// Runs it to its end and returns how it ended and the end of what it printed; blocks.
    ///
    /// # Errors
    ///
    /// [`SandboxError`] when it was not run.
    pub fn run(self, stop: Stop<'_>) -> Result<(Ended, String), SandboxError> {
        let setting = self.rights.map_or(Setting::None, |rights| rights.sandbox);
        let sandbox = Sandbox::detect(setting)?;
        let scratch = Scratch::new().map_err(|error| SandboxError::Broken(error.to_string()))?;
        let search_path = toolchain::search_path(&[]);
        let mut job = self.job(&scratch, &search_path)?;
        if setting == Setting::None {
            job.environment.retain(|name, _| self.variables.iter().any(|(known, _)| known == name));
            job.environment.extend(
                VARIABLES
                    .iter()
                    .filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?.into_string().ok()?))),
            );
            // Without one, kubectl keeps its cache where it is run, which is the release's folder.
            job.environment.entry("HOME".to_owned()).or_insert_with(|| scratch.home().to_string_lossy().into_owned());
            job.limits = Limits {
                cpu_s: u64::MAX,
                memory_bytes: u64::MAX,
                file_bytes: u64::MAX,
                processes: u64::MAX,
                ..job.limits
            };
        }
        let extras = Extras {
            stdin: self.stdin.map(OwnedFd::from),
            held: Some(self.turn),
            network: self.rights.is_some_and(|rights| rights.network),
            keeps_end: true,
            ..Extras::default()
        };
        let finished = sandbox.run_with(&job, extras, stop)?;
        Ok((finished.ended, printable_end(&finished.stdout)))
    }

    fn job(&self, scratch: &Scratch, search_path: &[PathBuf]) -> Result<Job, SandboxError> {
        let (written, arguments) =
            self.command.split_first().ok_or_else(|| SandboxError::Broken("no program is named".to_owned()))?;
        // As the system does it: one with a slash starts from the folder, others are looked for.
        let name = if written.contains('/') { self.folder.join(written) } else { written.into() };
        let program = toolchain::find_program(&name.to_string_lossy(), search_path).ok_or_else(|| {
            SandboxError::NotStarted { program: written.into(), reason: "there is no such program".to_owned() }
        })?;
        let mut readable = toolchain::system();
        readable.extend(toolchain::installed());
        readable.extend(toolchain::of_program(&program));
        readable.push(self.service.to_owned());
        let mut writable = vec![scratch.path().to_owned()];
        if let Some(rights) = self.rights {
            readable.extend(rights.readable.iter().filter_map(|path| path.canonicalize().ok()));
            writable.extend(rights.writable.iter().filter_map(|path| path.canonicalize().ok()));
            if rights.network {
                readable.push(RESOLVER.into());
                readable.extend(Path::new(RESOLVER).canonicalize());
            }
        }
        let mut environment = toolchain::environment(scratch, search_path);
        for (name, value) in self.variables {
            let value = value.to_str().ok_or_else(|| SandboxError::Broken(format!("`{name}` is not UTF-8")))?;
            environment.insert(name.clone(), value.to_owned());
        }
        let limits = Limits {
            wall_ms: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
            // The operator's folders may hold anything before.
            disk_bytes: u64::MAX,
            output_bytes: OUTPUT_BYTES_MAX * 2,
            ..Limits::default()
        };
        let folder = self.folder.to_owned();
        let (arguments, hidden) = (arguments.to_vec(), Vec::new());
        Ok(Job { program, arguments, folder, environment, readable, writable, fixed: Vec::new(), hidden, limits })
    }
}
