//! `rollback`: back to an earlier release that was live and healthy.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Deploy;
use crate::approval;
use crate::environment::Environment;
use crate::gate::{self, Permitted, Return, Verdict};
use crate::names::ServiceName;
use crate::rollout::{self, Caller};
use crate::running::Asked;
use crate::store::{Kind, NewDeployment, Record};
use crate::target::release_directory::Integrity;
use crate::turn::{Turn, refused};
use crate::view::DeploymentView;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// As list_environments names it.
    environment: String,
    /// The service.
    service: String,
    /// Version or release to go back to; default: the one that was live before.
    to: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Returned {
    #[serde(flatten)]
    deployment: DeploymentView,
    /// What the health check printed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    check_output: Option<String>,
}

pub(super) fn tool() -> Defined<Deploy> {
    Tool::new(
        "rollback",
        "Roll back",
        "Make a release current again that was live and healthy before, and check its health. Where people approve \
         deployments, only one step back from what was last deployed goes without them. Refuses a release whose files \
         were changed (release_damaged).",
        Effect::Replaces,
        Price::Metered(&[
            "deploy.rollback.dev",
            "deploy.rollback.staging",
            "deploy.rollback.prod",
            "deploy.rollback.*",
        ]),
    )
    .long()
    .handler(run)
}

async fn run(server: Arc<Deploy>, request: Request, call: Call) -> Result<Answer<Returned>, Refusal> {
    let environment = server.environments.find(&request.environment)?.clone();
    let service = ServiceName::parse(&request.service)?;
    let to = request.to.as_deref();

    server.recover(&environment, &service, &call).await?;
    // What is refused has no effect, not even a folder; so it is chosen before the turn is taken, and again then.
    let (chosen, target) = choose(&server, &environment, &service, to).await?;
    permit(&server, &environment, &chosen, &target, true, &call).await?;
    let turn = Turn::take(&server.store, &environment, &service).await?;
    rollout::recover(&server.store, &turn, &call).await?;
    let (chosen, target) = choose(&server, &environment, &service, to).await?;
    let permitted = permit(&server, &environment, &chosen, &target, false, &call).await?;
    verify(&turn, &target, &call).await?;
    let begun = rollout::start(&server.store, &turn, &call, &permitted).await?;
    let carried = server.running.carry(&begun.id);
    let caller: Arc<dyn Caller> = Arc::new(Asked::new(call, carried, false));
    let done = rollout::carry_out(&server.store, &turn, &caller, begun, None).await?;
    Ok(Answer::new(Returned {
        deployment: DeploymentView::of(&done.record),
        check_output: done.finding.map(|finding| finding.output).filter(|output| !output.is_empty()),
    }))
}

/// Asks the gates; nobody is asked while the turn is held.
async fn permit(
    server: &Deploy,
    environment: &Environment,
    chosen: &Return,
    target: &Record,
    ask: bool,
    call: &Call,
) -> Result<Permitted, Refusal> {
    let wanted = NewDeployment {
        kind: Kind::Rollback,
        environment: environment.name.clone(),
        service: target.service.clone(),
        version: target.version.clone(),
        digest: target.digest,
        artifact_digest: target.artifact_digest,
        configuration: None,
        folder: environment.folder.path(&target.service).display().to_string(),
        previous: None,
        agent: call.identity().agent.name.clone(),
        task_id: call.identity().task_id.clone(),
    };
    match gate::permit_return(chosen, wanted) {
        Verdict::Permitted(permitted) => Ok(permitted),
        Verdict::NeedsApproval(wanted) => {
            let (wanted, approved) = approval::seek(server, environment, wanted, None, None, ask, call).await?;
            Ok(gate::permit_approved(wanted, approved))
        }
    }
}

async fn choose(
    server: &Deploy,
    environment: &Environment,
    service: &ServiceName,
    to: Option<&str>,
) -> Result<(Return, Record), Refusal> {
    let live = server.store.live(&environment.name, service).await?;
    let mut candidates = server.store.once_live(&environment.name, service).await?;
    let chosen = gate::choose_return(environment, live.as_ref(), &candidates, to)?;
    let target = candidates.swap_remove(chosen.index);
    Ok((chosen, target))
}

/// Lets only a release through whose files are those that were released.
async fn verify(turn: &Turn, target: &Record, call: &Call) -> Result<(), Refusal> {
    let (release, digest, call) = (target.release.clone(), target.digest, call.clone());
    let integrity = turn
        .blocking(move |directory| {
            directory.integrity(&release, &digest, &|| call.is_cancelled()).map_err(|error| refused(&error))
        })
        .await?;
    match integrity {
        Integrity::Intact => Ok(()),
        Integrity::Missing => Err(Refusal::refused(
            "unknown_release",
            format!("{} is not kept any more in {}", target.release, turn.environment.name),
            "name another version with `to`, or deploy its artifact again",
        )),
        Integrity::Damaged(reason) => Err(Refusal::refused(
            "release_damaged",
            format!("the files of {} were changed since it was released: {reason}", target.release),
            "name another version with `to`, or deploy its artifact again",
        )),
    }
}
