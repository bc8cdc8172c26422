//! A target that is programs of the operator's: validate, deploy, verify, roll back.

use super::{Effect, EffectError, Occasion, check_command};
use crate::config::CommandsConfig;
use crate::tree::Stop;

/// The programs of one environment.
#[derive(Clone, Debug)]
pub struct Commands {
    /// Whether the release would be taken; changes nothing.
    pub validate: Option<Vec<String>>,
    /// Makes the release run; may be repeated.
    pub deploy: Vec<String>,
    /// Whether it runs.
    pub verify: Option<Vec<String>>,
    /// Makes a release run that ran before, or nothing where `TOLLGATE_RELEASE` is empty; `deploy` where there is none.
    pub rollback: Option<Vec<String>>,
}

impl Commands {
    /// Takes the programs as configured.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn new(written: &CommandsConfig) -> anyhow::Result<Self> {
        check_command("commands.deploy", &written.deploy)?;
        for (key, command) in [
            ("commands.validate", &written.validate),
            ("commands.verify", &written.verify),
            ("commands.rollback", &written.rollback),
        ] {
            if let Some(command) = command {
                check_command(key, command)?;
            }
        }
        Ok(Self {
            validate: written.validate.clone(),
            deploy: written.deploy.clone(),
            verify: written.verify.clone(),
            rollback: written.rollback.clone(),
        })
    }

    pub(super) fn describe(&self, before: &mut Vec<String>, after: &mut Vec<String>) {
        before.extend(self.validate.iter().map(|command| format!("run {command:?}, which has to succeed")));
        after.push(format!("run {:?}", self.deploy));
        after.extend(self.verify.iter().map(|command| format!("run {command:?} to see that it runs")));
        let back = self.rollback.as_ref().unwrap_or(&self.deploy);
        after.push(format!("where that fails, run {back:?} for the release before"));
    }

    pub(super) fn validate(&self, effect: &Effect, occasion: &Occasion, stop: Stop<'_>) -> Result<(), EffectError> {
        let Some(command) = &self.validate else { return Ok(()) };
        effect.run_confined("the validate command", command, occasion, &occasion.release_folder(), stop)
    }

    pub(super) fn apply(&self, effect: &Effect, occasion: &Occasion) -> Result<(), EffectError> {
        let back = self.rollback.as_ref().filter(|_| occasion.is_return || occasion.release.is_none());
        let (what, command) = match back {
            Some(command) => ("the rollback command", command),
            // Where nothing should run, there is nothing that could be deployed.
            None if occasion.release.is_none() => return Ok(()),
            None => ("the deploy command", &self.deploy),
        };
        effect.run_confined(what, command, occasion, &occasion.release_folder(), &|| false)
    }

    pub(super) fn verify(&self, effect: &Effect, occasion: &Occasion) -> Result<(), EffectError> {
        let Some(command) = &self.verify else { return Ok(()) };
        effect.run_confined("the verify command", command, occasion, &occasion.release_folder(), &|| false)
    }
}
