//! What a target does with a release once it is in the folder of releases: nothing, or bring it into the world by
//! programs of the operator's.
//!
//! Every target keeps its releases in a folder of releases with a link to the current one, so that one state machine,
//! one recovery and one rollback serve them all. The link is switched first and then [`Effect::apply`] is called; back
//! again it is the same with the release before. Each of these can be repeated, since a process may die in any of them.

pub mod command;
pub mod compose;
pub mod kubernetes;
pub mod ssh;

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::sandbox::{Ended, SandboxError};

use crate::health::placeholders;
use crate::kept::{Kept, Rights};
use crate::names::{ReleaseName, ServiceName};
use crate::secrets::Secrets;
use crate::target::release_directory::LockedDirectory;
use crate::tree::{Stop, Tree};

/// What stands for something else in the operator's commands.
const PLACEHOLDERS: [&str; 5] = ["{service}", "{environment}", "{version}", "{release}", "{current}"];

/// What becomes of a release beyond the folder of releases.
#[derive(Clone, Debug)]
pub struct Effect {
    kind: Kind,
    /// Run before anything changes, in the release's folder; each must succeed.
    before: Vec<Vec<String>>,
    variables: Vec<(String, OsString)>,
    timeout: Duration,
    /// What confined programs may reach: those that are run before anything changes, and the target `command`'s.
    rights: Rights,
    /// What is not told of what programs print.
    secrets: Secrets,
}

/// The kinds of targets.
#[derive(Clone, Debug)]
pub enum Kind {
    /// The link is all; what serves it may have to be told.
    ReleaseDirectory {
        /// How it is told.
        reload: Option<Vec<String>>,
    },
    /// Programs of the operator's.
    Command(command::Commands),
    /// A folder of releases on another host.
    Ssh(ssh::Host),
    /// Docker Compose.
    Compose(compose::Compose),
    /// Kubernetes.
    Kubernetes(kubernetes::Kubernetes),
}

/// What an effect is about.
#[derive(Clone, Debug)]
pub struct Occasion {
    /// The deployment.
    pub id: String,
    /// Of what.
    pub service: ServiceName,
    /// Where.
    pub environment: String,
    /// The service's folder.
    pub folder: PathBuf,
    /// Its lock, which every program keeps until nothing of it is left.
    pub turn: Arc<LockedDirectory>,
    /// Larger than that of everything that the target was told before.
    pub number: i64,
    /// What should run.
    pub release: Option<ReleaseName>,
    /// What ran before it.
    pub previous: Option<ReleaseName>,
    /// Whether what should run was live before.
    pub is_return: bool,
}

/// An effect that did not come to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct EffectError {
    /// What went wrong, one sentence.
    pub what: String,
    /// The end of what the program printed.
    pub output: String,
}

impl Effect {
    /// Puts together an effect.
    ///
    /// # Errors
    ///
    /// What is wrong with the commands.
    pub fn new(
        kind: Kind,
        before: Vec<Vec<String>>,
        variables: Vec<(String, String)>,
        timeout: Duration,
        rights: Rights,
    ) -> anyhow::Result<Self> {
        for command in &before {
            check_command("before", command)?;
        }
        for (name, value) in &variables {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            ensure!(
                !name.is_empty() && name.bytes().all(plain) && !name.starts_with("TOLLGATE_") && !value.contains('\0'),
                "`variables` has the impossible or reserved name `{name}`"
            );
        }
        if let Kind::ReleaseDirectory { reload: Some(reload) } = &kind {
            check_command("reload", reload)?;
        }
        let variables = variables.into_iter().map(|(name, value)| (name, OsString::from(value))).collect();
        Ok(Self { kind, before, variables, timeout, rights, secrets: Secrets::default() })
    }

    /// Tells nobody of `secrets` from now on.
    pub fn keep(&mut self, secrets: &Secrets) {
        self.secrets = secrets.clone();
    }

    /// Returns the target's name, as the configuration has it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::ReleaseDirectory { .. } => "release-directory",
            Kind::Command(_) => "command",
            Kind::Ssh(_) => "ssh",
            Kind::Compose(_) => "docker-compose",
            Kind::Kubernetes(_) => "kubernetes",
        }
    }

    /// Whether the link is all there is: then nothing has to be done anew after a crash.
    #[must_use]
    pub fn is_link_only(&self) -> bool {
        matches!(self.kind, Kind::ReleaseDirectory { reload: None })
    }

    /// Whether [`verify`](Self::verify) finds anything out.
    #[must_use]
    pub fn verifies(&self) -> bool {
        match &self.kind {
            Kind::Command(commands) => commands.verify.is_some(),
            Kind::Kubernetes(kubernetes) => !kubernetes.rollout.is_empty(),
            _ => false,
        }
    }

    /// Returns what is done before the switch, and after it, one sentence each.
    #[must_use]
    pub fn describe(&self) -> (Vec<String>, Vec<String>) {
        let mut before: Vec<String> =
            self.before.iter().map(|command| format!("run {command:?} in the release's folder")).collect();
        let mut after = Vec::new();
        match &self.kind {
            Kind::ReleaseDirectory { reload } => after.extend(reload.iter().map(|reload| format!("run {reload:?}"))),
            Kind::Command(commands) => commands.describe(&mut before, &mut after),
            Kind::Ssh(host) => host.describe(&mut after),
            Kind::Compose(compose) => compose.describe(&mut before, &mut after),
            Kind::Kubernetes(kubernetes) => kubernetes.describe(&mut before, &mut after),
        }
        (before, after)
    }

    /// Finds out whether the target would take the release, before anything changes; blocks.
    ///
    /// # Errors
    ///
    /// `pre_deploy_failed`, `validation_failed`, `cancelled`.
    pub fn check(&self, occasion: &Occasion, stop: Stop<'_>) -> Result<(), Refusal> {
        let refused = |code, error: EffectError| {
            if stop() {
                return Refusal::cancelled();
            }
            Refusal::failed(code, error.what, "see `output`; nothing was changed").with_detail("output", error.output)
        };
        let folder = occasion.release_folder();
        for command in &self.before {
            self.run_confined("the pre-deploy command", command, occasion, &folder, stop)
                .map_err(|error| refused("pre_deploy_failed", error))?;
        }
        match &self.kind {
            Kind::ReleaseDirectory { .. } | Kind::Ssh(_) => Ok(()),
            Kind::Command(commands) => commands.validate(self, occasion, stop),
            Kind::Compose(compose) => compose.check(self, occasion, stop),
            Kind::Kubernetes(kubernetes) => kubernetes.check(self, occasion, stop),
        }
        .map_err(|error| refused("validation_failed", error))
    }

    /// Whether [`check`](Self::check) runs anything.
    #[must_use]
    pub fn checks(&self) -> bool {
        !self.before.is_empty() || !matches!(self.kind, Kind::ReleaseDirectory { .. } | Kind::Ssh(_))
    }

    /// Makes the world be as the release says, or as if there were none; blocks.
    ///
    /// # Errors
    ///
    /// [`EffectError`]; then it may be anything between.
    pub fn apply(&self, occasion: &Occasion, tree: Option<&Tree>) -> Result<(), EffectError> {
        match &self.kind {
            Kind::ReleaseDirectory { reload: None } => Ok(()),
            Kind::ReleaseDirectory { reload: Some(reload) } => {
                self.run("the reload command", reload, occasion, &occasion.folder, &|| false)
            }
            Kind::Command(commands) => commands.apply(self, occasion),
            Kind::Ssh(host) => host.apply(self, occasion, tree),
            Kind::Compose(compose) => compose.apply(self, occasion),
            Kind::Kubernetes(kubernetes) => kubernetes.apply(self, occasion),
        }
    }

    /// Finds out whether the release runs, by what the target itself knows; blocks.
    ///
    /// # Errors
    ///
    /// [`EffectError`] says why not.
    pub fn verify(&self, occasion: &Occasion) -> Result<(), EffectError> {
        match &self.kind {
            Kind::Command(commands) => commands.verify(self, occasion),
            Kind::Kubernetes(kubernetes) => kubernetes.verify(self, occasion),
            _ => Ok(()),
        }
    }

    /// Removes releases that are not kept any more where the target has copies of its own.
    ///
    /// # Errors
    ///
    /// [`EffectError`].
    pub fn discard(&self, occasion: &Occasion, unwanted: &[ReleaseName]) -> Result<(), EffectError> {
        match &self.kind {
            Kind::Ssh(host) if !unwanted.is_empty() => host.discard(self, occasion, unwanted),
            _ => Ok(()),
        }
    }

    /// Runs a program that may do whatever the server may.
    fn run(
        &self,
        what: &str,
        command: &[String],
        occasion: &Occasion,
        folder: &Path,
        stop: Stop<'_>,
    ) -> Result<(), EffectError> {
        self.run_with(None, what, command, occasion, folder, stop)
    }

    /// Runs a program that works on what an agent wrote.
    fn run_confined(
        &self,
        what: &str,
        command: &[String],
        occasion: &Occasion,
        folder: &Path,
        stop: Stop<'_>,
    ) -> Result<(), EffectError> {
        self.run_with(Some(&self.rights), what, command, occasion, folder, stop)
    }

    fn run_with(
        &self,
        rights: Option<&Rights>,
        what: &str,
        command: &[String],
        occasion: &Occasion,
        folder: &Path,
        stop: Stop<'_>,
    ) -> Result<(), EffectError> {
        let command: Vec<String> = command.iter().map(|part| occasion.fill(part)).collect();
        let mut variables = self.variables.clone();
        variables.extend(occasion.variables());
        let program = Supervised { command: &command, folder, variables: &variables, stdin: None, rights };
        self.supervised(what, program, occasion, stop)
    }

    fn supervised(
        &self,
        what: &str,
        program: Supervised<'_>,
        occasion: &Occasion,
        stop: Stop<'_>,
    ) -> Result<(), EffectError> {
        let failed = |what: String, output: String| EffectError {
            what: self.secrets.hide(what),
            output: self.secrets.hide(output),
        };
        let not_run = |reason: String| failed(format!("{what} cannot be run: {reason}"), String::new());
        let Supervised { command, folder, variables, stdin, rights } = program;
        let kept = Kept {
            command,
            folder,
            service: &occasion.folder,
            variables,
            stdin,
            timeout: self.timeout,
            rights,
            turn: occasion.turn.lock().map_err(|error| not_run(error.to_string()))?,
        };
        match kept.run(stop) {
            Ok((Ended::Exited(0), _)) => Ok(()),
            Ok((Ended::TimedOut, output)) => {
                let timeout_ms = self.timeout.as_millis();
                Err(failed(format!("{what} did not end within {timeout_ms} ms and was killed"), output))
            }
            Ok((Ended::Cancelled, output)) => Err(failed(format!("{what} was stopped"), output)),
            Ok((ended, output)) => Err(failed(format!("{what} {}", ended.describe()), output)),
            Err(error @ SandboxError::Unavailable(_)) => {
                Err(not_run(format!("{error}; the operator can say `sandbox = \"none\"`")))
            }
            Err(error) => Err(not_run(error.to_string())),
        }
    }
}

/// A program of a target's, with its own part of what every one has.
struct Supervised<'a> {
    command: &'a [String],
    folder: &'a Path,
    variables: &'a [(String, OsString)],
    stdin: Option<File>,
    rights: Option<&'a Rights>,
}

impl Occasion {
    /// Returns the folder of the release that should run; the service's where none should.
    #[must_use]
    pub fn release_folder(&self) -> PathBuf {
        self.release.as_ref().map_or_else(|| self.folder.clone(), |release| self.folder_of(release))
    }

    fn folder_of(&self, release: &ReleaseName) -> PathBuf {
        self.folder.join("releases").join(release.as_str())
    }

    fn version(&self) -> &str {
        self.release.as_ref().map_or("", ReleaseName::version)
    }

    /// Puts what they stand for in the place of placeholders.
    fn fill(&self, part: &str) -> String {
        // Names first: they have no braces, while the folder's path may have any.
        part.replace("{service}", self.service.as_str())
            .replace("{environment}", &self.environment)
            .replace("{version}", self.version())
            .replace("{current}", &self.folder.join("current").to_string_lossy())
            .replace("{release}", &self.release_folder().to_string_lossy())
    }

    fn variables(&self) -> Vec<(String, OsString)> {
        let folder = |release: &Option<ReleaseName>| {
            release.as_ref().map_or_else(OsString::new, |release| self.folder_of(release).into_os_string())
        };
        let name = |release: &Option<ReleaseName>| {
            release.as_ref().map_or_else(OsString::new, |release| OsString::from(release.as_str()))
        };
        [
            ("TOLLGATE_DEPLOYMENT", OsString::from(&self.id)),
            ("TOLLGATE_SERVICE", OsString::from(self.service.as_str())),
            ("TOLLGATE_ENVIRONMENT", OsString::from(&self.environment)),
            ("TOLLGATE_VERSION", OsString::from(self.version())),
            ("TOLLGATE_RELEASE", folder(&self.release)),
            ("TOLLGATE_RELEASE_NAME", name(&self.release)),
            ("TOLLGATE_PREVIOUS", folder(&self.previous)),
            ("TOLLGATE_CURRENT", self.folder.join("current").into_os_string()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}

/// Refuses a command that cannot be one.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_command(key: &str, command: &[String]) -> anyhow::Result<()> {
    ensure!(command.first().is_some_and(|program| !program.is_empty()), "`{key}` names no program");
    for part in command {
        ensure!(!part.contains('\0'), "`{key}` has a NUL");
        if let Some(unknown) = placeholders(part).find(|name| !PLACEHOLDERS.contains(name)) {
            anyhow::bail!("`{key}` has the unknown placeholder `{unknown}`; known are {}", PLACEHOLDERS.join(", "));
        }
    }
    Ok(())
}
