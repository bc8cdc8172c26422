//! Approvals: what people agree to, who may, and whether enough did.
//!
//! [`terms`] has the bytes that are signed, [`signers`] the file of those who may, [`tally`] the verification. Whether a
//! deployment may begin is decided here each time anew, from the facts of the moment: what the history says of approvals
//! is only where the signatures are kept.

pub mod agent;
pub mod host;
pub mod signers;
pub mod tally;
pub mod terms;
pub mod trust;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::json;
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::Call;

use crate::Deploy;
use crate::blocking::blocking;
use crate::deployment::DeploymentEvent;
use crate::environment::Environment;
use crate::gate::{self, Provenance};
use crate::names::ReleaseName;
use crate::plan::Plan;
use crate::store::approvals::{NewRequest, Request};
use crate::store::{Filter, NewDeployment, in_progress};
use crate::target::release_directory::{Current, ReleaseDirectory};
use crate::turn::refused;

use signers::Signers;
use tally::{Approver, Barred, InvalidVote, tally};
use terms::{Seal, Terms, differences};

/// What a signature is made for: one made for anything else does not count here, nor one of these elsewhere.
pub const NAMESPACE: &str = "tollgate-deploy";

/// Proof that enough people agreed to exactly this; only [`seek`] makes one.
#[derive(Clone, Debug)]
pub struct Approved {
    id: String,
    terms: String,
    approvers: Vec<Approver>,
}

/// How a request stands against the facts of the moment.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The bytes to be signed, from the facts of the moment.
    pub terms: String,
    /// What differs from what was asked for; then the request is void.
    pub changed: Vec<String>,
    /// Whether its time is over.
    pub expired: bool,
    /// Who agreed, verified.
    pub approvers: Vec<Approver>,
    /// Why other recorded agreements do not count.
    pub invalid: Vec<InvalidVote>,
}

/// Who may approve in one environment, at present.
#[derive(Clone, Debug)]
pub struct Electorate {
    /// The people and their keys.
    pub signers: Signers,
    /// SHA-256 of the file.
    digest: ContentHash,
}

impl Approved {
    /// Returns the deployment that was asked for.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the bytes that were signed.
    #[must_use]
    pub fn terms(&self) -> &str {
        &self.terms
    }

    /// Returns who agreed.
    #[must_use]
    pub fn approvers(&self) -> &[Approver] {
        &self.approvers
    }

    /// Returns who agreed, as a sentence.
    #[must_use]
    pub fn reason(&self) -> String {
        let people: Vec<&str> = self.approvers.iter().map(|approver| approver.person.as_str()).collect();
        format!("approved by {}", people.join(", "))
    }
}

impl Electorate {
    /// Reads the approvers' file of `environment`; without one there is nobody.
    ///
    /// # Errors
    ///
    /// `approvers_unavailable`.
    pub fn read(environment: &Environment) -> Result<Self, Refusal> {
        let Some(path) = &environment.approvers else {
            return Ok(Self { signers: Signers::default(), digest: ContentHash::ZERO });
        };
        let unavailable = |reason: String| {
            Refusal::refused(
                "approvers_unavailable",
                format!("the approvers' file of {} cannot be relied on: {reason}", environment.name),
                "have the operator repair it; until then nothing can be approved",
            )
        };
        let text = read_bounded(path).map_err(|error| unavailable(error.to_string()))?;
        let signers = Signers::parse(&text).map_err(|error| unavailable(error.to_string()))?;
        Ok(Self { signers, digest: ContentHash::of(text.as_bytes()) })
    }

    /// Returns the identity of the rules and the approvers together.
    #[must_use]
    pub fn policy(&self, environment: &Environment) -> ContentHash {
        ContentHash::builder("tollgate.policy.1")
            .field(environment.rules.as_bytes())
            .field(self.digest.as_bytes())
            .finish()
    }
}

/// Lets `wanted` through when enough people agreed to exactly it, and otherwise asks them; with `ask` also whoever is
/// at the host.
///
/// # Errors
///
/// `input_required` with a question for the host, `approval_denied`, `input_invalid`, `approval_required` with the request, `strict_setup`, `approvers_unavailable`, `deployment_in_progress`,
/// `too_many_requests`, `history_unavailable`.
pub async fn seek(
    server: &Deploy,
    environment: &Environment,
    wanted: NewDeployment,
    artifact: Option<&str>,
    configuration: Option<&str>,
    ask: bool,
    call: &Call,
) -> Result<(NewDeployment, Approved), Refusal> {
    let role = call.identity().agent.role.as_deref();
    if server.strict {
        let (looked_at, place) = (environment.clone(), server.place.clone());
        let found = blocking(move || Ok(trust::weaknesses(&looked_at, &place))).await?;
        if let Some(first) = found.first() {
            return Err(Refusal::refused(
                "strict_setup",
                format!("{} is refused because `deploy.strict` is set and {first}", environment.name),
                "have the operator run this server as an account of its own; see docs/deploy.md",
            )
            .with_detail("weaknesses", &found));
        }
    }
    let filter = Filter {
        environment: Some(environment.name.clone()),
        service: Some(wanted.service.to_string()),
        ..Filter::default()
    };
    // What is current while another deployment is under way is not what will be.
    if !server.store.under_way(&filter).await?.is_empty() {
        return Err(in_progress(&"one is recorded as under way"));
    }
    let (electorate, previous, provenance) = facts(server, environment, &wanted, artifact).await?;
    let wanted = NewDeployment { previous, ..wanted };
    let now = server.store.now().await?;
    for request in server.store.requests_for(&wanted).await? {
        let standing = stand(server, environment, &electorate, &provenance, &request, &wanted, role, now);
        let end = if standing.expired {
            Some((DeploymentEvent::Expire, "approval_expired", "nobody agreed in time, or too long ago".to_owned()))
        } else if standing.changed.is_empty() {
            None
        } else {
            let reason = format!("what was asked for changed: {}", standing.changed.join(", "));
            Some((DeploymentEvent::Cancel, "approval_voided", reason))
        };
        if let Some((event, action, reason)) = end {
            server.store.end_unbegun(&request.record.id, event, &reason).await?;
            let changed = &standing.changed;
            call.decide(action, reason, json!({ "id": request.record.id, "changed": changed }));
            continue;
        }
        let approved = decide(server, environment, &request, standing, ask, call).await?;
        return Ok((wanted, approved));
    }
    let seal = Seal::new(now, environment.approval_minutes).map_err(|error| {
        Refusal::failed("internal_error", format!("cannot make a request: {error}"), "report this as a bug")
    })?;
    let terms = terms_of(server, environment, &electorate, &provenance, &wanted, role).to_text(&seal);
    let request = NewRequest { deployment: &wanted, seal: &seal, terms: &terms, artifact, role, configuration };
    let record = server.store.ask(&request, "waits for a person").await?;
    let standing = Standing {
        terms: terms.clone(),
        changed: Vec::new(),
        expired: false,
        approvers: Vec::new(),
        invalid: Vec::new(),
    };
    let request = Request {
        record,
        seal,
        terms,
        artifact: artifact.map(str::to_owned),
        role: role.map(str::to_owned),
        configuration: configuration.map(str::to_owned),
        votes: Vec::new(),
    };
    let approved = decide(server, environment, &request, standing, ask, call).await?;
    Ok((wanted, approved))
}

/// Lets a request through that stands and that enough people agreed to; one more may be at the host.
async fn decide(
    server: &Deploy,
    environment: &Environment,
    request: &Request,
    mut standing: Standing,
    ask: bool,
    call: &Call,
) -> Result<Approved, Refusal> {
    if !environment.approve_by.signature {
        standing.approvers.clear();
    }
    let needed = environment.approvals as usize;
    if ask && standing.approvers.len() < needed {
        host::consult(server, environment, request, &standing, call).await?;
    }
    standing.approvers.extend(host::agreement(server, environment, request, &standing));
    if standing.approvers.len() < needed {
        return Err(gate::approval_required(environment, &request.record, &request.seal, &standing));
    }
    Ok(Approved { id: request.record.id.clone(), terms: standing.terms, approvers: standing.approvers })
}

/// Says how `request` stands now.
///
/// # Errors
///
/// `approvers_unavailable`, `target_failed`, `history_unavailable`.
pub async fn assess(
    server: &Deploy,
    environment: &Environment,
    request: &Request,
) -> Result<(Electorate, Standing), Refusal> {
    let record = &request.record;
    let asked = NewDeployment {
        kind: record.kind,
        environment: record.environment.clone(),
        service: record.service.clone(),
        version: record.version.clone(),
        digest: record.digest,
        artifact_digest: record.artifact_digest,
        configuration: request.configuration.as_ref().map(|text| ContentHash::of(text.as_bytes())),
        folder: environment.folder.path(&record.service).display().to_string(),
        previous: None,
        agent: record.agent.clone(),
        task_id: record.task_id.clone(),
    };
    let artifact = request.artifact.as_deref();
    let (electorate, previous, provenance) = facts(server, environment, &asked, artifact).await?;
    let asked = NewDeployment { previous, ..asked };
    let now = server.store.now().await?;
    let standing = stand(server, environment, &electorate, &provenance, request, &asked, request.role.as_deref(), now);
    Ok((electorate, standing))
}

/// Whose agreement to `request` does not count.
#[must_use]
pub fn barred(environment: &Environment, request: &Request) -> Barred {
    Barred { requester: request.record.agent.clone(), operator: environment.barred_operator.clone() }
}

#[expect(clippy::too_many_arguments, reason = "each is a fact of its own that the terms depend on")]
fn stand(
    server: &Deploy,
    environment: &Environment,
    electorate: &Electorate,
    provenance: &Provenance,
    request: &Request,
    wanted: &NewDeployment,
    role: Option<&str>,
    now: jiff::Timestamp,
) -> Standing {
    let terms = terms_of(server, environment, electorate, provenance, wanted, role).to_text(&request.seal);
    let signatures = request.votes.iter().map(|vote| vote.signature.as_str());
    let (approvers, invalid) = tally(&electorate.signers, &barred(environment, request), &terms, signatures, now);
    Standing {
        changed: differences(&request.terms, &terms),
        // Also when the recorded time says otherwise than the operator now does.
        expired: now >= request.seal.expires_at
            || now.duration_since(request.seal.requested_at)
                >= jiff::SignedDuration::from_mins(i64::from(environment.approval_minutes)),
        terms,
        approvers,
        invalid,
    }
}

fn terms_of(
    server: &Deploy,
    environment: &Environment,
    electorate: &Electorate,
    provenance: &Provenance,
    wanted: &NewDeployment,
    role: Option<&str>,
) -> Terms {
    Terms {
        deployment: wanted.clone(),
        role: role.map(str::to_owned),
        operator: server.operator.clone(),
        commit: provenance.commit.clone(),
        verified: provenance.verified.clone(),
        plan: Plan::new(environment, wanted).digest(),
        policy: electorate.policy(environment),
    }
}

/// Returns who may approve, what is current, and where the artifact comes from.
async fn facts(
    server: &Deploy,
    environment: &Environment,
    wanted: &NewDeployment,
    artifact: Option<&str>,
) -> Result<(Electorate, Option<ReleaseName>, Provenance), Refusal> {
    let provenance = match artifact {
        Some(artifact) => gate::provenance(server, environment, artifact).await?,
        None => Provenance::default(),
    };
    let (environment, service) = (environment.clone(), wanted.service.clone());
    blocking(move || {
        let electorate = Electorate::read(&environment)?;
        let directory = ReleaseDirectory::open(&environment.folder, &service).map_err(|error| refused(&error))?;
        let current = directory.map(|directory| directory.current()).transpose().map_err(|error| refused(&error))?;
        match current {
            Some(Current::Release(release)) => Ok((electorate, Some(release), provenance)),
            Some(Current::Nothing) | None => Ok((electorate, None, provenance)),
            Some(Current::Foreign) => Err(gate::not_ours(&environment.folder.path(&service))),
        }
    })
    .await
}

fn read_bounded(path: &Path) -> anyhow::Result<String> {
    let file = File::open(path)?;
    anyhow::ensure!(file.metadata()?.is_file(), "it is not a file");
    let mut text = String::new();
    file.take(signers::FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    anyhow::ensure!(text.len() as u64 <= signers::FILE_BYTES_MAX, "it is larger than 256 KiB");
    Ok(text)
}
