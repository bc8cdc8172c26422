//! `deployment_status`: what is live, and how deployments went.

use std::sync::Arc;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::ids::EntryId;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Deploy;
use crate::blocking::blocking;
use crate::names::{ServiceName, shown};
use crate::store::{Filter, Record};
use crate::target::release_directory::{Current, ReleaseDirectory};
use crate::turn::refused;
use crate::view::DeploymentView;

/// How many deployments are shown unless asked otherwise.
const LIMIT_DEFAULT: u32 = 20;

/// Most deployments that are shown: well under what an answer may have.
const LIMIT_MAX: u32 = 100;

/// Longest wait: under what hosts wait for an answer.
const WAIT_MS_MAX: u64 = 55_000;

/// How often a wait looks at the history.
const WAIT_POLL: Duration = Duration::from_millis(50);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Only this deployment.
    id: Option<String>,
    /// Only this environment.
    environment: Option<String>,
    /// Only this service.
    service: Option<String>,
    /// With `id`: wait up to so many milliseconds, at most 55000, until it is no longer under way.
    #[schemars(range(max = 55000))]
    wait_ms: Option<u64>,
    /// At most so many, newest first; default 20.
    #[schemars(range(min = 1, max = 100))]
    limit: Option<u32>,
}

#[derive(Serialize, JsonSchema)]
struct Status {
    /// Newest first.
    deployments: Vec<DeploymentView>,
    /// How many older ones there are.
    deployments_left_out: u64,
    /// What is live, one for each service and environment.
    live: Vec<Live>,
    /// How many more there are.
    live_left_out: u64,
}

#[derive(Serialize, JsonSchema)]
struct Live {
    /// Where.
    environment: String,
    /// What.
    service: String,
    /// As which version.
    version: String,
    /// The folder in `releases/`.
    release: String,
    /// SHA-256 over the released files.
    digest: String,
    /// The deployment that made it live.
    deployment: String,
    /// Since when.
    since: String,
    /// Where `current` really leads, when not to this release.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
}

pub(super) fn tool() -> Defined<Deploy> {
    Tool::new(
        "deployment_status",
        "Deployment status",
        "What is live where, and how deployments went or stand, newest first. Also settles what a server that died \
         left unfinished.",
        Effect::Reads,
        Price::Free,
    )
    .handler(run)
}

async fn run(server: Arc<Deploy>, request: Request, call: Call) -> Result<Answer<Status>, Refusal> {
    let limit = request.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Refusal::invalid_arguments(
            format!("`limit` {limit} is not 1 to {LIMIT_MAX}"),
            "narrow it down by environment and service",
        ));
    }
    if request.wait_ms.is_some_and(|wait_ms| wait_ms > WAIT_MS_MAX || request.id.is_none()) {
        return Err(Refusal::invalid_arguments(
            format!("`wait_ms` is for one `id` and up to {WAIT_MS_MAX}"),
            "ask for one deployment, and again when it is still under way then",
        ));
    }
    let environment = request.environment.as_deref().map(|name| server.environments.find(name)).transpose()?;
    let service = request.service.as_deref().map(ServiceName::parse).transpose()?;
    let filter = Filter {
        id: request.id.as_deref().map(deployment_id).transpose()?,
        environment: environment.map(|environment| environment.name.clone()),
        service: service.map(|service| service.to_string()),
    };
    // A call that reads is dropped when it is cancelled; what was begun here has to end.
    let settling = tokio::spawn(settle(Arc::clone(&server), filter.clone(), call));
    let _ = settling.await;

    if let Some(wait_ms) = request.wait_ms {
        wait(&server, &filter, wait_ms).await?;
    }
    let (deployments, count) = server.store.list(&filter, limit).await?;
    if let (Some(id), true) = (&filter.id, deployments.is_empty()) {
        return Err(unknown(id));
    }
    let live_filter = match (&filter.id, deployments.first()) {
        (Some(_), Some(only)) => {
            Filter { id: None, environment: Some(only.environment.clone()), service: Some(only.service.to_string()) }
        }
        _ => filter.clone(),
    };
    let (live, live_count) = server.store.list_live(&live_filter, limit).await?;
    let live: Vec<Live> = blocking(move || live.iter().map(|record| shown_live(&server, record)).collect()).await?;
    let view = if filter.id.is_some() { DeploymentView::whole } else { DeploymentView::of };
    Ok(Answer::new(Status {
        deployments_left_out: count.saturating_sub(deployments.len() as u64),
        deployments: deployments.iter().map(view).collect(),
        live_left_out: live_count.saturating_sub(live.len() as u64),
        live,
    }))
}

/// Waits until what is asked for is not under way any more, or the time is over.
async fn wait(server: &Deploy, filter: &Filter, wait_ms: u64) -> Result<(), Refusal> {
    let deadline = Instant::now() + Duration::from_millis(wait_ms.min(WAIT_MS_MAX));
    // The history is where every process that could be at work on it says how it went.
    while !server.store.under_way(filter).await?.is_empty() && Instant::now() < deadline {
        tokio::time::sleep(WAIT_POLL).await;
    }
    Ok(())
}

/// Completes or undoes what processes that died left behind; what cannot be settled is shown as it stands.
async fn settle(server: Arc<Deploy>, filter: Filter, call: Call) {
    let Ok(under_way) = server.store.under_way(&filter).await else { return };
    for record in under_way {
        if let Some(environment) = server.environments.get(&record.environment)
            && let Err(refusal) = server.recover(environment, &record.service, &call).await
        {
            tracing::warn!(deployment.id = %record.id, reason = %refusal.message, "cannot be settled");
        }
    }
}

fn shown_live(server: &Deploy, record: &Record) -> Result<Live, Refusal> {
    let directory = match server.environments.get(&record.environment) {
        Some(environment) => {
            ReleaseDirectory::open(&environment.folder, &record.service).map_err(|error| refused(&error))?
        }
        None => None,
    };
    let is_there = directory.as_ref().is_some_and(|directory| directory.has(&record.release));
    let current = match directory.map(|directory| directory.current().map_err(|error| refused(&error))).transpose()? {
        Some(Current::Release(release)) if release == record.release && is_there => None,
        Some(Current::Release(release)) if release == record.release => Some("a release that is gone".to_owned()),
        Some(Current::Release(release)) => Some(release.to_string()),
        Some(Current::Nothing) | None => Some("nothing".to_owned()),
        Some(Current::Foreign) => Some("something that is not a release".to_owned()),
    };
    Ok(Live {
        environment: record.environment.clone(),
        service: record.service.to_string(),
        version: record.version.to_string(),
        release: record.release.to_string(),
        digest: record.digest.to_string(),
        deployment: record.id.clone(),
        since: record.updated_at.clone(),
        current,
    })
}

pub(super) fn deployment_id(text: &str) -> Result<String, Refusal> {
    text.parse::<EntryId>().map(|id| id.to_string()).map_err(|_| unknown(text))
}

pub(super) fn unknown(id: &str) -> Refusal {
    Refusal::refused(
        "unknown_deployment",
        format!("there is no deployment {} of that environment and service", shown(id)),
        "leave `id` out to see which there are",
    )
}
