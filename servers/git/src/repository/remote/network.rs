//! A repository on another machine, reached by the user's own git and ssh.
//!
//! Git runs in a bare repository made for one call, with a configuration written here: of the agent's repository it gets
//! the objects alone, so that nothing that the repository's configuration names is read or run. Credentials, proxies and
//! certificates are those of the user's and the system's configuration. Ssh checks the host's key and asks nobody.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use git2::{Oid, Repository, RepositoryOpenFlags};
use tempfile::TempDir;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::Call;

use crate::branch_name::{BRANCH_PREFIX, quoted};
use crate::git_error::failed;
use crate::program::{self, Ended, Unfinished};
use crate::protect::WritableBranch;
use crate::remote_url::{RemoteUrl, Scheme, masked};
use crate::repository::paths::cut;
use crate::repository::refs::branch_moved;
use crate::watch;

/// How long one exchange may take: a first fetch of a large repository; a host that gives up earlier cancels the call.
const EXCHANGE_MAX: Duration = Duration::from_secs(300);

/// How much a fetch may bring.
const FETCHED_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// How often what has come so far is measured.
const MEASURED_EVERY: Duration = Duration::from_secs(1);

/// How many refs the other side is told of: enough that it finds what both have.
const KNOWN_REFS_MAX: usize = 2000;

/// Longest list of a shallow clone's edges that is passed on.
const SHALLOW_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Longest text of a program that is passed on.
const WORDS_BYTES_MAX: usize = 400;

/// Settings of every exchange, stronger than those of any file.
const SETTINGS: &[&str] = &[
    // The address was checked; where it leads was not.
    "http.followRedirects=false",
    "protocol.allow=never",
    "core.hooksPath=/dev/null",
    "core.alternateRefsCommand=true",
    "core.askPass=",
    "credential.interactive=false",
    "transfer.fsckObjects=true",
    "transfer.bundleURI=false",
    "fetch.uriProtocols=",
    "fetch.writeCommitGraph=false",
    // What old programs wrote, and real histories have.
    "fetch.fsck.zeroPaddedFilemode=ignore",
    "fetch.fsck.missingSpaceBeforeDate=ignore",
    "fetch.fsck.badTimezone=ignore",
    "gc.auto=0",
    "maintenance.auto=false",
    "push.gpgSign=false",
    "push.followTags=false",
    "push.recurseSubmodules=no",
];

/// A repository on another machine, for one call.
pub struct Network {
    url: RemoteUrl,
    known_hosts: Option<PathBuf>,
    call: Call,
    scratch: TempDir,
}

impl Network {
    /// Makes the repository in which git runs, with the objects of `local`; nothing is reached yet.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn new(local: &Repository, url: RemoteUrl, known_hosts: Option<PathBuf>, call: &Call) -> Result<Self, Refusal> {
        let failure = |error: std::io::Error| {
            Refusal::failed("git_failed", format!("cannot prepare the exchange: {error}"), "free disk space")
        };
        let scratch = TempDir::with_prefix("tollgate-remote-").map_err(failure)?;
        let objects = fs::canonicalize(local.commondir().join("objects")).map_err(failure)?;
        if objects.as_os_str().as_bytes().contains(&b'\n') {
            return Err(failure(std::io::Error::other("the path of the repository has a line break")));
        }
        let at = |name: &str| scratch.path().join(name);
        for folder in ["objects/info", "objects/pack", "refs/heads"] {
            fs::create_dir_all(at(folder)).map_err(failure)?;
        }
        fs::write(at("HEAD"), "ref: refs/heads/tollgate-none\n").map_err(failure)?;
        fs::write(at("config"), "[core]\n\trepositoryformatversion = 0\n\tbare = true\n").map_err(failure)?;
        fs::write(at("objects/info/alternates"), [objects.as_os_str().as_bytes(), b"\n"].concat()).map_err(failure)?;
        let shallow = local.commondir().join("shallow");
        if fs::symlink_metadata(&shallow)
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() <= SHALLOW_BYTES_MAX)
        {
            fs::copy(&shallow, at("shallow")).map_err(failure)?;
        }
        let mut packed = fs::File::create(at("packed-refs")).map_err(failure)?;
        writeln!(packed, "# pack-refs with: peeled fully-peeled sorted ").map_err(failure)?;
        for (number, commit) in known_commits(local)?.iter().enumerate() {
            writeln!(packed, "{commit} refs/known/{number:06}").map_err(failure)?;
        }
        Ok(Self { url, known_hosts, call: call.clone(), scratch })
    }

    /// Returns the repository in which git runs: after [`fetch`](Self::fetch), with the branches of the remote.
    ///
    /// # Errors
    ///
    /// When libgit2 cannot open it.
    pub fn open(&self) -> Result<Repository, Refusal> {
        let none: [&Path; 0] = [];
        let flags = RepositoryOpenFlags::NO_SEARCH | RepositoryOpenFlags::BARE;
        Repository::open_ext(self.scratch.path(), flags, none).map_err(failed("open what was fetched"))
    }

    /// Fetches `branch`, or every branch, into the repository in which git runs.
    ///
    /// # Errors
    ///
    /// `unknown_branch`, `authentication_failed`, `host_key_unverified`, `remote_failed`.
    pub fn fetch(&self, branch: Option<&str>) -> Result<(), Refusal> {
        let refspec = match branch {
            Some(branch) => format!("+{BRANCH_PREFIX}{branch}:{BRANCH_PREFIX}{branch}"),
            None => format!("+{BRANCH_PREFIX}*:{BRANCH_PREFIX}*"),
        };
        let options =
            ["--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules"];
        let mut command = self.command("fetch");
        command.args(options).arg("--").arg(self.url.for_git()).arg(refspec);
        let ended = self.run(command)?;
        if ended.status.success() {
            return Ok(());
        }
        if let Some(branch) = branch.filter(|_| ended.stderr.contains("couldn't find remote ref")) {
            return Err(no_branch(branch));
        }
        Err(self.refusal(&ended))
    }

    /// Returns the commit of the remote's `branch`; `None` when it has none of this name.
    ///
    /// # Errors
    ///
    /// `symbolic_branch` when it is another name for one; and as [`fetch`](Self::fetch).
    pub fn tip(&self, branch: &str) -> Result<Option<Oid>, Refusal> {
        let full = format!("{BRANCH_PREFIX}{branch}");
        let mut command = self.command("ls-remote");
        command.args(["--quiet", "--symref", "--"]).arg(self.url.for_git()).arg(&full);
        let ended = self.run(command)?;
        if !ended.status.success() {
            return Err(self.refusal(&ended));
        }
        let text = String::from_utf8_lossy(&ended.stdout).into_owned();
        let mut tip = None;
        for line in text.lines() {
            let Some((value, name)) = line.split_once('\t') else { continue };
            // A pattern also finds what ends like it.
            if name != full {
                continue;
            }
            if value.starts_with("ref:") {
                return Err(symbolic(branch));
            }
            tip = value.parse().ok();
        }
        Ok(tip)
    }

    /// Moves the remote's `branch` from `expected` to `new`; the remote compares what it has with `expected`.
    ///
    /// # Errors
    ///
    /// `branch_moved`, `push_rejected`; and as [`fetch`](Self::fetch).
    pub fn push(&self, branch: &WritableBranch, expected: Option<Oid>, new: Oid) -> Result<(), Refusal> {
        watch::writes()?;
        let full = branch.branch().full();
        let expected = expected.map_or_else(String::new, |id| id.to_string());
        let mut command = self.command("push");
        command
            .args(["--porcelain", "--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no"])
            .arg(format!("--force-with-lease={full}:{expected}"))
            .arg("--")
            .arg(self.url.for_git())
            .arg(format!("{new}:{full}"));
        let ended = self.run(command)?;
        let text = String::from_utf8_lossy(&ended.stdout).into_owned();
        let line =
            text.lines().find(|line| line.split('\t').nth(1).is_some_and(|refs| refs.ends_with(&format!(":{full}"))));
        match line {
            Some(line) if ended.status.success() && !line.starts_with('!') => Ok(()),
            Some(line) if line.contains("stale info") || line.contains("fetch first") => {
                Err(branch_moved(branch.branch().name()))
            }
            Some(line) if line.starts_with('!') => Err(Refusal::failed(
                "push_rejected",
                format!("the remote does not take the branch: {}", words(line.rsplit('\t').next().unwrap_or_default())),
                "see what the remote asks for; its rules are its owner's",
            )),
            _ => Err(self.refusal(&ended)),
        }
    }

    fn command(&self, name: &str) -> Command {
        let mut command = program::command("git");
        let scheme = self.url.scheme();
        for setting in SETTINGS {
            command.arg("-c").arg(setting);
        }
        // What the user's own configuration makes of the address may be ssh.
        for allowed in ["https", "ssh", scheme.name()] {
            command.arg("-c").arg(format!("protocol.{allowed}.allow=always"));
        }
        let schemes = if scheme == Scheme::Http { "https:ssh:http" } else { "https:ssh" };
        command.env("GIT_ALLOW_PROTOCOL", schemes);
        command.env("GIT_SSH_COMMAND", self.ssh()).env("GIT_SSH_VARIANT", "ssh");
        command.arg("--git-dir").arg(self.scratch.path()).arg(name);
        command.current_dir(self.scratch.path());
        command
    }

    fn ssh(&self) -> String {
        let mut ssh = "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes -oVerifyHostKeyDNS=no -oUpdateHostKeys=no \
                       -oControlMaster=no -oPermitLocalCommand=no -oClearAllForwardings=yes -oForwardAgent=no \
                       -oForwardX11=no -oConnectTimeout=20"
            .to_owned();
        if let Some(path) = &self.known_hosts {
            // The configuration takes no path that a shell or ssh would take apart.
            ssh.push_str(&format!(" -oUserKnownHostsFile='{}'", path.display()));
        }
        ssh
    }

    fn run(&self, command: Command) -> Result<Ended, Refusal> {
        let measured = std::cell::Cell::new(Instant::now());
        let too_large = std::cell::Cell::new(false);
        let stop = || {
            if measured.get().elapsed() > MEASURED_EVERY {
                measured.set(Instant::now());
                too_large.set(bytes_below(&self.scratch.path().join("objects")) > FETCHED_BYTES_MAX);
            }
            too_large.get() || self.call.cancelled().is_cancelled()
        };
        program::run(command, b"", EXCHANGE_MAX, &stop).map_err(|unfinished| match unfinished {
            Unfinished::Stopped if too_large.get() => {
                Refusal::failed("remote_failed", "the remote sent more than 4 GiB", "have a human fetch it")
            }
            Unfinished::Stopped => Refusal::cancelled(),
            Unfinished::NotRun(error) => Refusal::failed(
                "git_missing",
                format!("remotes over the network need the program git, which cannot be run: {error}"),
                "have a human install git where this server runs",
            ),
            Unfinished::TooLong(seconds) => Refusal::failed(
                "remote_failed",
                format!("the remote took longer than {seconds} s"),
                "fetch one `branch`, or have a human fetch",
            ),
        })
    }

    fn refusal(&self, ended: &Ended) -> Refusal {
        let text = &ended.stderr;
        let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
        if has(&["Host key verification failed", "REMOTE HOST IDENTIFICATION", "No matching host key"]) {
            return Refusal::failed(
                "host_key_unverified",
                format!("the host key of {} is not known, or not the known one", self.url),
                "have a human check it and add it to known_hosts, or to the file that `git.known_hosts` names",
            );
        }
        if has(&[
            "Authentication failed",
            "could not read Username",
            "could not read Password",
            "Permission denied",
            "returned error: 401",
            "returned error: 403",
            "terminal prompts disabled",
            "unable to get password",
        ]) {
            return Refusal::failed(
                "authentication_failed",
                format!("{} does not let this user in", self.url),
                "have a human set up a credential helper in the user's git configuration, or a key in the ssh agent",
            );
        }
        let line = text.lines().find(|line| line.starts_with("fatal:") || line.starts_with("error:"));
        let line =
            line.or_else(|| text.lines().rfind(|line| !line.trim().is_empty())).unwrap_or("git says nothing of why");
        Refusal::failed(
            "remote_failed",
            format!("{} cannot be used: {}", self.url, words(line)),
            "check that the remote is there and that its address is right; redirects are not followed",
        )
    }
}

/// Returns what a program or the other side said, fit to be repeated.
fn words(text: &str) -> String {
    let text: String = masked(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    cut(text.trim(), WORDS_BYTES_MAX).to_owned()
}

/// Returns the commits that the refs of `local` lead to.
fn known_commits(local: &Repository) -> Result<Vec<Oid>, Refusal> {
    let mut commits = Vec::new();
    for reference in local.references().map_err(failed("list the refs"))?.take(KNOWN_REFS_MAX) {
        let Ok(commit) = reference.map_err(failed("list the refs"))?.peel_to_commit() else { continue };
        if !commits.contains(&commit.id()) {
            commits.push(commit.id());
        }
    }
    Ok(commits)
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// The remote has no such branch.
fn no_branch(branch: &str) -> Refusal {
    Refusal::refused(
        "unknown_branch",
        format!("the remote has no branch {}", quoted(branch)),
        "git_fetch without `branch` fetches all that there are",
    )
}

/// What is named is another name for a branch of the remote.
pub fn symbolic(branch: &str) -> Refusal {
    Refusal::refused(
        "symbolic_branch",
        format!("{} of the remote is another name for a branch", quoted(branch)),
        "name the branch itself",
    )
}
