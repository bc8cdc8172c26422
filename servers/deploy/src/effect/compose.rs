//! Docker Compose: a release is a folder with a compose file, and one project is one service in one environment.

use anyhow::ensure;

use super::{Effect, EffectError, Occasion, check_command};
use crate::config::ComposeConfig;
use crate::tree::Stop;

/// How long Docker itself waits for containers to be healthy, unless the whole command may take less.
const WAIT_SECONDS: u64 = 240;

/// The project of one environment.
#[derive(Clone, Debug)]
pub struct Compose {
    program: Vec<String>,
    file: String,
    project: String,
}

impl Compose {
    /// Takes the project as configured.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn new(written: &ComposeConfig) -> anyhow::Result<Self> {
        let program = written.program.clone().unwrap_or_else(|| vec!["docker".to_owned(), "compose".to_owned()]);
        check_command("compose.program", &program)?;
        let file = written.file.clone().unwrap_or_else(|| "compose.yaml".to_owned());
        below_release("compose.file", &file)?;
        let project = written.project.clone().unwrap_or_else(|| "{service}-{environment}".to_owned());
        check_command("compose.project", std::slice::from_ref(&project))?;
        ensure!(
            project.contains("{service}"),
            "`compose.project` must have `{{service}}`: services must not share one"
        );
        Ok(Self { program, file, project })
    }

    fn command(&self, arguments: &[&str]) -> Vec<String> {
        let mut command = self.program.clone();
        command.extend(["--project-name".to_owned(), self.project.clone()]);
        command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        command
    }

    fn of_release(&self, arguments: &[&str]) -> Vec<String> {
        let file = format!("{{release}}/{}", self.file);
        let mut all = vec!["--project-directory", "{release}", "--file", &file];
        all.extend(arguments);
        self.command(&all)
    }

    pub(super) fn describe(&self, before: &mut Vec<String>, after: &mut Vec<String>) {
        before.push(format!("let Docker Compose read {} of the release", self.file));
        after.push(format!("bring up the Docker Compose project {} and wait until it is healthy", self.project));
        after.push("where that fails, bring up the release before, or take everything down".to_owned());
    }

    pub(super) fn check(&self, effect: &Effect, occasion: &Occasion, stop: Stop<'_>) -> Result<(), EffectError> {
        let command = self.of_release(&["config", "--quiet"]);
        effect.run("`docker compose config`", &command, occasion, &occasion.release_folder(), stop)
    }

    pub(super) fn apply(&self, effect: &Effect, occasion: &Occasion) -> Result<(), EffectError> {
        if occasion.release.is_none() {
            let command = self.command(&["down", "--remove-orphans"]);
            return effect.run("`docker compose down`", &command, occasion, &occasion.folder, &|| false);
        }
        let wait = effect.timeout.as_secs().clamp(1, WAIT_SECONDS).to_string();
        let command = self.of_release(&["up", "--detach", "--remove-orphans", "--wait", "--wait-timeout", &wait]);
        effect.run("`docker compose up`", &command, occasion, &occasion.release_folder(), &|| false)
    }
}

/// Refuses a path that leads out of a release.
///
/// # Errors
///
/// That it does.
pub(super) fn below_release(key: &str, path: &str) -> anyhow::Result<()> {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['{', '}', '\0']);
    ensure!(path.split('/').all(plain), "`{key}` must be a path inside a release");
    Ok(())
}
