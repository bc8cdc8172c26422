//! What a deployment would do, step by step; people approve its digest.

use tollgate_shared::content_hash::ContentHash;

use crate::environment::Environment;
use crate::names::ReleaseName;
use crate::store::{Kind, NewDeployment};

/// The steps of one deployment, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// One sentence each.
    pub steps: Vec<String>,
}

impl Plan {
    /// Plans `wanted` in `environment`, where `wanted.previous` is current.
    #[must_use]
    pub fn new(environment: &Environment, wanted: &NewDeployment) -> Self {
        let release = ReleaseName::new(&wanted.version, &wanted.digest);
        let folder = &wanted.folder;
        let first = match wanted.kind {
            Kind::Deploy => format!("copy the artifact to {folder}/releases/{release} and verify the copy's digest"),
            Kind::Rollback => format!("verify the digest of {folder}/releases/{release}"),
        };
        let before = wanted.previous.as_ref().map_or("nothing", ReleaseName::as_str);
        let (checks, effects) = environment.effect.describe();
        let mut steps = Vec::new();
        if let (Some(health), Kind::Deploy, Some(current)) = (&environment.health, wanted.kind, &wanted.previous)
            && health.is_asked_before()
        {
            steps.push(format!("check that {current}, which is current, is healthy {}", health.describe()));
        }
        steps.push(first);
        steps.extend(checks);
        steps.push(format!("switch `current` from {before} to {release} in one step"));
        steps.extend(effects);
        match &environment.health {
            Some(health) => {
                steps.push(format!("check its health {}", health.describe()));
                steps.push(format!("where it is not healthy, switch `current` back to {before}"));
            }
            None if environment.effect.verifies() => {}
            None => steps.push("take it for healthy: no health check is configured".to_owned()),
        }
        steps.push(format!("remove releases beyond the {} that are kept", environment.keep));
        let steps = steps.into_iter().map(|step| environment.secrets.hide(step)).collect();
        Self { steps }
    }

    /// Returns the identity of the plan.
    #[must_use]
    pub fn digest(&self) -> ContentHash {
        let builder = ContentHash::builder("tollgate.plan.1");
        self.steps.iter().fold(builder, |builder, step| builder.field(step.as_bytes())).finish()
    }
}
