//! `validate_deployment` and `plan_deployment`: what `deploy` would say and do, without any effect.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::price::Sku;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use super::deploy::{facts, read_artifact};
use crate::Deploy;
use crate::approval::Electorate;
use crate::artifact::Artifact;
use crate::blocking::blocking;
use crate::configuration::Configuration;
use crate::diff::Diff;
use crate::environment::Environment;
use crate::gate::{self, Checked};
use crate::names::{ReleaseName, ServiceName, Version};
use crate::plan::Plan;
use crate::store::{Kind, NewDeployment};
use crate::target::release_directory::{Current, ReleaseDirectory};
use crate::turn::refused;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// As for deploy.
    environment: String,
    /// As for deploy.
    service: String,
    /// As for deploy.
    version: String,
    /// As for deploy.
    artifact: String,
    /// As for deploy.
    configuration: Option<BTreeMap<String, String>>,
}

#[derive(Serialize, JsonSchema)]
struct Validated {
    /// What the release would be called.
    release: String,
    /// SHA-256 over the files.
    digest: String,
    /// How many files the artifact has.
    files: u64,
    /// How many bytes they have.
    bytes: u64,
    /// Whether people have to approve it.
    needs_approval: bool,
}

#[derive(Serialize, JsonSchema)]
struct Planned {
    /// What the release would be called.
    release: String,
    /// SHA-256 over the files.
    digest: String,
    /// What is current.
    previous: Option<String>,
    /// The gates, in the order in which they are asked.
    gates: Vec<GateView>,
    /// How many people must approve.
    approvals: u32,
    /// Who may.
    approvers: Vec<String>,
    /// What would be done.
    steps: Vec<String>,
    /// SHA-256 over the steps; people approve it.
    plan_digest: String,
    /// Files that differ from what is current.
    changes: Diff,
    /// What deploying costs, in US dollars.
    price_usd: String,
}

#[derive(Serialize, JsonSchema)]
struct GateView {
    /// Its name.
    gate: &'static str,
    /// Whether it lets the deployment through.
    open: bool,
    /// The code that deploy would be refused with.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

pub(super) fn validate_tool() -> Defined<Deploy> {
    Tool::new(
        "validate_deployment",
        "Validate a deployment",
        "Check artifact, names and every gate but people, and refuse as deploy would. Changes nothing.",
        Effect::Reads,
        Price::Free,
    )
    .handler(validate)
}

pub(super) fn plan_tool() -> Defined<Deploy> {
    Tool::new(
        "plan_deployment",
        "Plan a deployment",
        "Dry run of deploy: its gates and whether they are open, who must approve, the steps, the files that change, \
         the price. Changes nothing.",
        Effect::Reads,
        Price::Free,
    )
    .handler(plan)
}

struct Prepared {
    environment: Environment,
    wanted: NewDeployment,
    artifact: Artifact,
    gates: Vec<Checked>,
}

async fn prepare(server: &Arc<Deploy>, request: Request, call: &Call) -> Result<Prepared, Refusal> {
    let environment = server.environments.find(&request.environment)?.clone();
    let service = ServiceName::parse(&request.service)?;
    let version = Version::parse(&request.version)?;
    let configuration = request.configuration.as_ref().map(Configuration::new).transpose()?;
    let path = request.artifact;
    let mut artifact = read_artifact(server, &environment, &service, path.clone(), call).await?;
    let artifact_digest = artifact.tree.digest;
    if let Some(configuration) = &configuration {
        configuration.add_to(&mut artifact)?;
    }
    let wanted = NewDeployment {
        kind: Kind::Deploy,
        environment: environment.name.clone(),
        version,
        digest: artifact.tree.digest,
        artifact_digest,
        configuration: configuration.as_ref().map(Configuration::digest),
        folder: environment.folder.path(&service).display().to_string(),
        service,
        previous: None,
        agent: call.identity().agent.name.clone(),
        task_id: call.identity().task_id.clone(),
    };
    let facts = facts(server, &environment, &wanted, &path).await?;
    let gates = gate::check(&environment, &wanted, &facts);
    Ok(Prepared { environment, wanted, artifact, gates })
}

async fn validate(server: Arc<Deploy>, request: Request, call: Call) -> Result<Answer<Validated>, Refusal> {
    let prepared = prepare(&server, request, &call).await?;
    for checked in prepared.gates {
        checked.result?;
    }
    Ok(Answer::new(Validated {
        release: ReleaseName::new(&prepared.wanted.version, &prepared.wanted.digest).to_string(),
        digest: prepared.wanted.digest.to_string(),
        files: prepared.artifact.tree.files,
        bytes: prepared.artifact.tree.bytes,
        needs_approval: prepared.environment.approvals > 0,
    }))
}

async fn plan(server: Arc<Deploy>, request: Request, call: Call) -> Result<Answer<Planned>, Refusal> {
    let Prepared { environment, mut wanted, artifact, gates } = prepare(&server, request, &call).await?;
    let (looked_at, service, after) = (environment.clone(), wanted.service.clone(), artifact.tree);
    let (previous, changes, approvers) = blocking(move || {
        let electorate = Electorate::read(&looked_at)?;
        let directory = ReleaseDirectory::open(&looked_at.folder, &service).map_err(|error| refused(&error))?;
        let current = directory.as_ref().map(ReleaseDirectory::current).transpose().map_err(|error| refused(&error))?;
        let previous = match current {
            Some(Current::Release(release)) => Some(release),
            Some(Current::Nothing) | None => None,
            Some(Current::Foreign) => return Err(gate::not_ours(&looked_at.folder.path(&service))),
        };
        let before = match (&directory, &previous) {
            (Some(directory), Some(release)) => directory.tree(release).map_err(|error| refused(&error))?,
            _ => None,
        };
        let mut people: Vec<String> = electorate.signers.iter().map(|signer| signer.person.clone()).collect();
        people.dedup();
        people.truncate(50);
        Ok((previous, Diff::new(before.as_ref(), &after), people))
    })
    .await?;
    wanted.previous.clone_from(&previous);
    let plan = Plan::new(&environment, &wanted);
    let price = call.house().prices.price(&Sku::from(format!("deploy.{}", environment.name)));
    Ok(Answer::new(Planned {
        release: ReleaseName::new(&wanted.version, &wanted.digest).to_string(),
        digest: wanted.digest.to_string(),
        previous: previous.map(|release| release.to_string()),
        gates: gates
            .into_iter()
            .map(|Checked { gate, result }| {
                let refusal = result.err();
                GateView {
                    gate,
                    open: refusal.is_none(),
                    code: refusal.as_ref().map(|refusal| refusal.code),
                    reason: refusal.map(|refusal| refusal.message),
                }
            })
            .collect(),
        approvals: environment.approvals,
        approvers,
        plan_digest: plan.digest().to_string(),
        steps: plan.steps,
        changes,
        price_usd: price.to_string(),
    }))
}
