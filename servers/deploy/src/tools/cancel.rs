//! `cancel_deployment`: taking back what waits for people.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use super::status::{deployment_id, unknown};
use crate::Deploy;
use crate::deployment::{DeploymentEvent, DeploymentState};
use crate::store::Filter;
use crate::view::DeploymentView;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// The deployment.
    id: String,
}

#[derive(Serialize, JsonSchema)]
struct Cancelled {
    #[serde(flatten)]
    deployment: DeploymentView,
    /// Whether it was under way and is being stopped; deployment_status tells how it ends.
    stopping: bool,
}

pub(super) fn tool() -> Defined<Deploy> {
    Tool::new(
        "cancel_deployment",
        "Cancel a deployment",
        "Take back a deployment of your own that waits for approval, was approved and has not begun, or is not current \
         yet. Later it ends by itself.",
        Effect::Replaces,
        Price::Free,
    )
    .handler(run)
}

async fn run(server: Arc<Deploy>, request: Request, call: Call) -> Result<Answer<Cancelled>, Refusal> {
    let id = deployment_id(&request.id)?;
    let filter = Filter { id: Some(id.clone()), ..Filter::default() };
    let (found, _) = server.store.list(&filter, 1).await?;
    let record = found.first().ok_or_else(|| unknown(&id))?;
    let agent = &call.identity().agent.name;
    if record.agent != *agent {
        return Err(Refusal::refused(
            "not_requester",
            format!("deployment {id} was asked for by another agent"),
            "leave it to that agent or to the operator, who has `mcp-deploy deny`",
        ));
    }
    // Before the switch it can be stopped; it ends by itself then, and says so in its own answer or in the history.
    if record.state == DeploymentState::Deploying && server.running.stop(&id) {
        call.decide(
            "cancel_requested",
            format!("{agent} takes it back"),
            json!({ "id": id, "release": record.release }),
        );
        return Ok(Answer::new(Cancelled { deployment: DeploymentView::of(record), stopping: true }));
    }
    if server.store.open_request(&id).await?.is_none() {
        return Err(Refusal::refused(
            "not_cancellable",
            format!("deployment {id} is {} and does not wait", record.state),
            "use rollback to go back from what is live",
        ));
    }
    let reason = format!("cancelled by {agent}");
    let record = server.store.end_unbegun(&id, DeploymentEvent::Cancel, &reason).await?;
    call.decide("cancelled", reason, json!({ "id": id, "release": record.release }));
    Ok(Answer::new(Cancelled { deployment: DeploymentView::of(&record), stopping: false }))
}
