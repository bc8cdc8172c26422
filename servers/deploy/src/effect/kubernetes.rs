//! Kubernetes: a release is a folder with manifests, applied by the server itself.

use anyhow::ensure;

use super::compose::below_release;
use super::{Effect, EffectError, Occasion, check_command};
use crate::config::KubernetesConfig;
use crate::tree::Stop;

/// The name under which fields are owned.
const FIELD_MANAGER: &str = "--field-manager=tollgate";

/// The cluster of one environment.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    program: Vec<String>,
    context: String,
    namespace: String,
    manifests: String,
    /// What has to be rolled out: `deployment/shop`.
    pub rollout: Vec<String>,
}

impl Kubernetes {
    /// Takes the cluster as configured.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn new(written: &KubernetesConfig) -> anyhow::Result<Self> {
        let program = written.program.clone().unwrap_or_else(|| vec!["kubectl".to_owned()]);
        check_command("kubernetes.program", &program)?;
        let manifests = written.manifests.clone().unwrap_or_else(|| "manifests".to_owned());
        below_release("kubernetes.manifests", &manifests)?;
        // Whatever is chosen by the way elsewhere must not decide where a release goes.
        ensure!(!written.context.is_empty(), "`kubernetes.context` is missing");
        ensure!(!written.namespace.is_empty(), "`kubernetes.namespace` is missing");
        for (key, text) in [("kubernetes.context", &written.context), ("kubernetes.namespace", &written.namespace)] {
            check_command(key, std::slice::from_ref(text))?;
        }
        for resource in &written.rollout {
            ensure!(
                resource.contains('/') && !resource.starts_with('-'),
                "`kubernetes.rollout` has `{resource}`, which is not of the form `deployment/name`"
            );
            check_command("kubernetes.rollout", std::slice::from_ref(resource))?;
        }
        Ok(Self {
            program,
            context: written.context.clone(),
            namespace: written.namespace.clone(),
            manifests,
            rollout: written.rollout.clone(),
        })
    }

    fn command(&self, arguments: &[&str]) -> Vec<String> {
        let mut command = self.program.clone();
        command.push(format!("--context={}", self.context));
        command.push(format!("--namespace={}", self.namespace));
        command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        command
    }

    fn of_release(&self, arguments: &[&str]) -> Vec<String> {
        let manifests = format!("{{release}}/{}", self.manifests);
        let mut all = arguments.to_vec();
        all.extend(["--recursive", "--filename", &manifests]);
        self.command(&all)
    }

    pub(super) fn describe(&self, before: &mut Vec<String>, after: &mut Vec<String>) {
        let Self { manifests, context, namespace, .. } = self;
        before.push(format!(
            "let the cluster {context} try {manifests} of the release in {namespace} (server-side dry run)"
        ));
        after.push(format!("apply {manifests} of the release in {namespace} of {context}, by the server"));
        after.extend(self.rollout.iter().map(|resource| format!("wait until {resource} is rolled out")));
        after.push("where that fails, apply the release before, or delete what was applied".to_owned());
    }

    pub(super) fn check(&self, effect: &Effect, occasion: &Occasion, stop: Stop<'_>) -> Result<(), EffectError> {
        let command =
            self.of_release(&["apply", "--server-side", "--force-conflicts", FIELD_MANAGER, "--dry-run=server"]);
        effect.run("the server-side dry run", &command, occasion, &occasion.release_folder(), stop)
    }

    pub(super) fn apply(&self, effect: &Effect, occasion: &Occasion) -> Result<(), EffectError> {
        if occasion.release.is_some() {
            let command = self.of_release(&["apply", "--server-side", "--force-conflicts", FIELD_MANAGER]);
            return effect.run("`kubectl apply`", &command, occasion, &occasion.release_folder(), &|| false);
        }
        // What was applied is in the folder of the release that is taken back.
        let Some(taken_back) = &occasion.previous else { return Ok(()) };
        let there = Occasion { release: Some(taken_back.clone()), ..occasion.clone() };
        let command = self.of_release(&["delete", "--ignore-not-found", "--wait=false"]);
        effect.run("`kubectl delete`", &command, &there, &there.release_folder(), &|| false)
    }

    pub(super) fn verify(&self, effect: &Effect, occasion: &Occasion) -> Result<(), EffectError> {
        let timeout = format!("--timeout={}s", effect.timeout.as_secs().max(1));
        for resource in &self.rollout {
            let command = self.command(&["rollout", "status", resource, &timeout]);
            effect.run("`kubectl rollout status`", &command, occasion, &occasion.release_folder(), &|| false)?;
        }
        Ok(())
    }
}
