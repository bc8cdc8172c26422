//! `deploy`: an artifact to an environment, through its gates.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::error_chain::Chain;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Deploy;
use crate::approval;
use crate::artifact::{Artifact, folder_id_at};
use crate::blocking::blocking;
use crate::configuration::Configuration;
use crate::environment::Environment;
use crate::gate::{self, Baking, Facts, Verdict};
use crate::health::Health;
use crate::names::{ReleaseName, ServiceName, Version};
use crate::rollout::{self, Caller};
use crate::running::Asked;
use crate::store::{Kind, NewDeployment, Record};
use crate::target::release_directory::{Current, Integrity, ReleaseDirectory};
use crate::turn::{Turn, refused};
use crate::view::DeploymentView;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// As list_environments names it.
    environment: String,
    /// Lower-case letters, digits and `-`.
    service: String,
    /// Such as `1.2.0`; new content needs a new version.
    version: String,
    /// The folder or `.tar.gz` to release, relative to the workspace; plain files only.
    artifact: String,
    /// Names and texts to release with it, as tollgate-configuration.json.
    configuration: Option<BTreeMap<String, String>>,
    /// `false`: answer as soon as it has begun; deployment_status tells how it ends.
    wait: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
struct Deployed {
    #[serde(flatten)]
    deployment: DeploymentView,
    /// Whether it was live already, so that nothing was done.
    unchanged: bool,
    /// What the health check printed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    check_output: Option<String>,
    /// Old releases that were removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    discarded: Vec<String>,
}

pub(super) fn tool() -> Defined<Deploy> {
    Tool::new(
        "deploy",
        "Deploy",
        "Release a folder to an environment: copy it, make it current, check its health, and go back to the previous \
         release when it is unhealthy (health_check_failed). Refuses what an environment's gates forbid: content not yet \
         proven in the required environments, a version used for other content, and what a person must approve \
         (approval_required; the request is recorded). Repeating it is safe.",
        Effect::Replaces,
        Price::Metered(&["deploy.dev", "deploy.staging", "deploy.prod", "deploy.*"]),
    )
    .idempotent()
    .long()
    .handler(run)
}

async fn run(server: Arc<Deploy>, request: Request, call: Call) -> Result<Answer<Deployed>, Refusal> {
    let environment = server.environments.find(&request.environment)?.clone();
    let service = ServiceName::parse(&request.service)?;
    let version = Version::parse(&request.version)?;
    let path = request.artifact;
    let configuration = request.configuration.as_ref().map(Configuration::new).transpose()?;
    let mut artifact = read_artifact(&server, &environment, &service, path.clone(), &call).await?;
    let artifact_digest = artifact.tree.digest;
    if let Some(configuration) = &configuration {
        configuration.add_to(&mut artifact)?;
    }
    let asked = configuration.as_ref().map(Configuration::text);
    let wanted = NewDeployment {
        kind: Kind::Deploy,
        environment: environment.name.clone(),
        service: service.clone(),
        version,
        digest: artifact.tree.digest,
        artifact_digest,
        configuration: configuration.as_ref().map(Configuration::digest),
        folder: environment.folder.path(&service).display().to_string(),
        previous: None,
        agent: call.identity().agent.name.clone(),
        task_id: call.identity().task_id.clone(),
    };

    server.recover(&environment, &service, &call).await?;
    // What is refused has no effect, not even a folder; so the gates are asked before the turn is taken, and again then.
    if is_live(&server, &environment, &wanted).await?.is_none_or(|live| live.release != release_of(&wanted)) {
        permit(&server, &environment, wanted.clone(), (&path, asked), true, &call).await?;
    }
    let turn = Turn::take(&server.store, &environment, &service).await?;
    rollout::recover(&server.store, &turn, &call).await?;
    if let Some(live) = live_already(&server, &turn, &wanted, &call).await? {
        return Ok(Answer::new(Deployed {
            deployment: DeploymentView::of(&live),
            unchanged: true,
            check_output: None,
            discarded: Vec::new(),
        }));
    }
    let permitted = permit(&server, &environment, wanted, (&path, asked), false, &call).await?;
    let begun = rollout::start(&server.store, &turn, &call, &permitted).await?;
    let carried = server.running.carry(&begun.id);
    if request.wait == Some(false) {
        // Its end has no receipt of its own.
        call.charge(format!("deploy.{}", environment.name), 1);
        let answer = Deployed {
            deployment: DeploymentView::of(&begun),
            unchanged: false,
            check_output: None,
            discarded: Vec::new(),
        };
        let asked: Arc<dyn Caller> = Arc::new(Asked::new(call.clone(), carried, true));
        let recorder = call.clone();
        call.go_on(async move {
            if let Err(refusal) = rollout::carry_out(&server.store, &turn, &asked, begun, Some(artifact)).await {
                tracing::info!(code = refusal.code, "a deployment that nobody waits for ended: {}", refusal.message);
            }
            if let Err(error) = recorder.record_decisions().await {
                tracing::error!(error = %Chain(&error), "the end of a deployment cannot be recorded");
            }
        });
        return Ok(Answer::new(answer));
    }
    let caller: Arc<dyn Caller> = Arc::new(Asked::new(call, carried, false));
    let done = rollout::carry_out(&server.store, &turn, &caller, begun, Some(artifact)).await?;
    Ok(Answer::new(Deployed {
        deployment: DeploymentView::of(&done.record),
        unchanged: false,
        check_output: done.finding.map(|finding| finding.output).filter(|output| !output.is_empty()),
        discarded: done.discarded.iter().map(ToString::to_string).collect(),
    }))
}

pub(super) async fn read_artifact(
    server: &Arc<Deploy>,
    environment: &Environment,
    service: &ServiceName,
    path: String,
    call: &Call,
) -> Result<Artifact, Refusal> {
    let (server, call) = (Arc::clone(server), call.clone());
    let target = environment.folder.path(service);
    blocking(move || {
        // What is there already cannot be released again, and the state is nobody's to read.
        let forbidden: Vec<_> =
            [server.store.state_dir().path(), &target].into_iter().filter_map(folder_id_at).collect();
        server.artifacts.read(&path, &forbidden, server.store.state_dir(), &|| call.is_cancelled())
    })
    .await
}

/// Returns what the gates look at.
pub(super) async fn facts(
    server: &Deploy,
    environment: &Environment,
    wanted: &NewDeployment,
    artifact: &str,
) -> Result<Facts, Refusal> {
    let store = &server.store;
    let now = store.now().await?;
    let mut facts = Facts {
        taken_by: store.taken_by(&environment.name, &wanted.service, &wanted.version, &wanted.digest).await?,
        now,
        provenance: gate::provenance(server, environment, artifact).await?,
        ..Facts::default()
    };
    let needed = i64::from(environment.bake_minutes);
    for required in &environment.requires {
        if !store.is_proven(required, &wanted.service, &wanted.artifact_digest).await? {
            facts.unproven.push(required.clone());
        } else if needed > 0 {
            let minutes = store.longest_life(required, &wanted.service, &wanted.artifact_digest, now).await?.as_mins();
            if minutes < needed {
                facts.baking.push(Baking { environment: required.clone(), minutes, needed });
            }
        }
    }
    // A check may take its time, so what is refused anyway does without.
    if gate::check(environment, wanted, &facts).iter().all(|checked| checked.result.is_ok()) {
        facts.unhealthy = unhealthy(environment, &wanted.service).await?;
    }
    Ok(facts)
}

/// Returns why what is current is not healthy, where that is asked and there is anything.
async fn unhealthy(environment: &Environment, service: &ServiceName) -> Result<Option<String>, Refusal> {
    let Some(health) = environment.health.clone().filter(Health::is_asked_before) else { return Ok(None) };
    let (folder, service, secrets) = (environment.folder.clone(), service.clone(), environment.secrets.clone());
    blocking(move || {
        let Some(directory) = ReleaseDirectory::open(&folder, &service).map_err(|error| refused(&error))? else {
            return Ok(None);
        };
        let Current::Release(release) = directory.current().map_err(|error| refused(&error))? else { return Ok(None) };
        // Of a release that is gone nothing can be told, and a new one is what it needs.
        if !directory.has(&release) {
            return Ok(None);
        }
        let finding = health.check(&service, &folder.path(&service).join("releases").join(release.as_str()));
        Ok((!finding.healthy).then(|| secrets.hide(finding.reason)))
    })
    .await
}

/// Asks the gates; nobody is asked while the turn is held.
async fn permit(
    server: &Deploy,
    environment: &Environment,
    wanted: NewDeployment,
    (artifact, configuration): (&str, Option<&str>),
    ask: bool,
    call: &Call,
) -> Result<gate::Permitted, Refusal> {
    let facts = facts(server, environment, &wanted, artifact).await?;
    match gate::judge(environment, wanted, &facts)? {
        Verdict::Permitted(permitted) => Ok(permitted),
        Verdict::NeedsApproval(wanted) => {
            let (wanted, approved) =
                approval::seek(server, environment, wanted, Some(artifact), configuration, ask, call).await?;
            Ok(gate::permit_approved(wanted, approved))
        }
    }
}

async fn is_live(
    server: &Deploy,
    environment: &Environment,
    wanted: &NewDeployment,
) -> Result<Option<Record>, Refusal> {
    Ok(server.store.live(&environment.name, &wanted.service).await?)
}

/// Returns the live deployment when it is what is wanted, in the history and on disk.
async fn live_already(
    server: &Deploy,
    turn: &Turn,
    wanted: &NewDeployment,
    call: &Call,
) -> Result<Option<Record>, Refusal> {
    let (release, digest, call) = (release_of(wanted), wanted.digest, call.clone());
    let named = release.clone();
    let (current, integrity) = turn
        .blocking(move |directory| {
            let current = directory.current().map_err(|error| refused(&error))?;
            let integrity = if current == Current::Release(release.clone()) {
                directory.integrity(&release, &digest, &|| call.is_cancelled()).map_err(|error| refused(&error))?
            } else {
                Integrity::Missing
            };
            Ok((current, integrity))
        })
        .await?;
    if current != Current::Release(named.clone()) {
        return Ok(None);
    }
    if let Integrity::Damaged(reason) = integrity {
        return Err(Refusal::refused(
            "release_damaged",
            format!("{named} is current, and its files were changed since it was released: {reason}"),
            "deploy the content as a new version; what runs from changed files is not known",
        ));
    }
    let live = is_live(server, &turn.environment, wanted).await?;
    Ok(live.filter(|live| live.release == named && live.digest == digest && integrity == Integrity::Intact))
}

fn release_of(wanted: &NewDeployment) -> ReleaseName {
    ReleaseName::new(&wanted.version, &wanted.digest)
}
