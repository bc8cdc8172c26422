//! Carrying a deployment out, and completing or undoing one whose process died.
//!
//! Every step is in the history before its effect, and every effect can be tried again. What has to be done after a
//! crash follows from the recorded state and from where `current` leads; see [`recover`].

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use tollgate_shared::receipt::Outcome;
use tollgate_shared::refusal::Refusal;

use crate::artifact::Artifact;
use crate::deployment::{DeploymentEvent as Event, DeploymentState as State};
use crate::effect::{Effect, EffectError, Occasion};
use crate::gate::{self, Permitted};
use crate::health::Finding;
use crate::names::ReleaseName;
use crate::store::{Filter, Kind, NewDeployment, Record, Store, StoreError};
use crate::target::release_directory::{Current, Integrity, LockedDirectory, TargetError};
use crate::turn::{Turn, refused};

/// What a rollout needs of the call that asked for it.
pub trait Caller: Send + Sync {
    /// Whether the call was taken back.
    fn is_cancelled(&self) -> bool;
    /// Tells whoever asked that the step `step` of [`STEPS`] begins.
    fn progress(&self, step: usize, what: &str);
    /// Counts one of `sku` as used.
    fn charge(&self, sku: String);
    /// Records a decision or an effect in the audit trail.
    fn decide(&self, action: &str, reason: &str, detail: serde_json::Value);
}

/// The steps of a rollout of which is told.
pub const STEPS: usize = 4;

/// A rollout that ended well.
#[derive(Clone, Debug)]
pub struct RolledOut {
    /// The deployment, live.
    pub record: Record,
    /// What the health check found; `None` where none is configured.
    pub finding: Option<Finding>,
    /// The old releases that were removed.
    pub discarded: Vec<ReleaseName>,
}

/// What undoing a switch came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Undone {
    /// `current` leads where it led before.
    Restored,
    /// It led there before already, so there is nothing else to lead to.
    WasCurrentBefore,
    /// What it led to before is gone; it leads to nothing now.
    PreviousGone,
    /// Somebody made it lead elsewhere; it was left alone.
    Foreign,
    /// It leads where it led before, and the target could not be brought back.
    OutOfStep(String),
}

/// Carries out what is permitted: copies the artifact (a rollback has none), switches, checks, and undoes the switch
/// where the check fails.
///
/// # Errors
///
/// `target_not_ours`, `artifact_changed`, `target_failed`, `health_check_failed`, `history_unavailable`,
/// `deployment_in_progress`, `cancelled`.
pub async fn roll_out(
    store: &Store,
    turn: &Turn,
    caller: &Arc<dyn Caller>,
    permitted: &Permitted,
    artifact: Option<Artifact>,
) -> Result<RolledOut, Refusal> {
    let begun = start(store, turn, caller.as_ref(), permitted).await?;
    carry_out(store, turn, caller, begun, artifact).await
}

/// Records that what is permitted begins; nothing has an effect yet.
///
/// # Errors
///
/// `target_not_ours`, `target_failed`, `history_unavailable`, `deployment_in_progress`, `approval_void`.
pub async fn start(store: &Store, turn: &Turn, caller: &dyn Caller, permitted: &Permitted) -> Result<Record, Refusal> {
    let previous = match turn.blocking(|directory| directory.current().map_err(|error| refused(&error))).await? {
        Current::Nothing => None,
        Current::Release(release) => Some(release),
        Current::Foreign => return Err(gate::not_ours(turn.directory.path())),
    };
    begin(store, turn, caller, permitted, previous).await
}

/// Carries out what was begun, to its end.
///
/// # Errors
///
/// As [`roll_out`].
pub async fn carry_out(
    store: &Store,
    turn: &Turn,
    caller: &Arc<dyn Caller>,
    begun: Record,
    artifact: Option<Artifact>,
) -> Result<RolledOut, Refusal> {
    caller.progress(0, &format!("preparing {}", begun.release));
    if let Err(refusal) = prepare(turn, caller, &begun, artifact).await {
        let event = if refusal.outcome == Outcome::Cancelled { Event::Cancel } else { Event::Fail };
        let ended = store.step(turn.fence, &begun, event, Some(&refusal.message)).await?;
        discard_old(store, turn, &ended).await;
        return Err(described(refusal, &ended));
    }
    caller.progress(1, &format!("switching {} to {}", begun.environment, begun.release));
    if let Err(refusal) = switch(turn, &begun).await {
        let undone = undo_switch(turn, &begun).await?;
        let reason = match &undone {
            Undone::OutOfStep(reason) => format!("{}; and {reason}", refusal.message),
            _ => refusal.message.clone(),
        };
        let ended = store.step(turn.fence, &begun, Event::Fail, Some(&reason)).await?;
        tracing::warn!(deployment.id = %ended.id, ?undone, "a switch failed");
        if matches!(undone, Undone::OutOfStep(_)) {
            caller.decide("rollback_failed", &reason, detail(&ended));
        }
        return Err(described(Refusal { message: reason, ..refusal }, &ended));
    }
    // From here on there is work to be paid for, however it ends.
    caller.charge(match begun.kind {
        Kind::Deploy => format!("deploy.{}", begun.environment),
        Kind::Rollback => format!("deploy.rollback.{}", begun.environment),
    });
    let verifying = store.step(turn.fence, &begun, Event::Switch, None).await?;

    caller.progress(2, "checking its health");
    let finding = check(turn, &verifying).await;
    if let Some(finding) = finding.as_ref().filter(|finding| !finding.healthy) {
        return Err(give_up(store, turn, caller, &verifying, finding).await?);
    }
    let reason = finding.as_ref().map_or("no health check is configured", |finding| finding.reason.as_str());
    let live = store.step(turn.fence, &verifying, Event::Pass, Some(reason)).await?;
    let action = match live.kind {
        Kind::Deploy => "deployed",
        Kind::Rollback => "rolled_back",
    };
    caller.decide(action, &format!("{} is live in {}: {reason}", live.release, live.environment), detail(&live));
    caller.progress(3, "removing old releases");
    let discarded = discard_old(store, turn, &live).await;
    Ok(RolledOut { record: live, finding, discarded })
}

/// Records the beginning; what people agreed to is used up in the same step.
async fn begin(
    store: &Store,
    turn: &Turn,
    caller: &dyn Caller,
    permitted: &Permitted,
    previous: Option<ReleaseName>,
) -> Result<Record, Refusal> {
    let Some(approved) = permitted.approved() else {
        let new = NewDeployment { previous, ..permitted.deployment().clone() };
        return Ok(store.begin(turn.fence, &new, "let through by every gate").await?);
    };
    if previous != permitted.deployment().previous {
        return Err(StoreError::ApprovalGone(approved.id().to_owned()).into());
    }
    let begun = store
        .begin_approved(turn.fence, approved.id(), approved.terms(), previous.as_ref(), &approved.reason())
        .await?;
    let people: Vec<_> = approved
        .approvers()
        .iter()
        .map(|approver| json!({ "person": approver.person, "key": approver.fingerprint }))
        .collect();
    let mut about = detail(&begun);
    about["approvers"] = json!(people);
    caller.decide("approval_used", &approved.reason(), about);
    Ok(begun)
}

/// Completes or undoes what a process that died left of this turn's service in this turn's environment.
///
/// | recorded | `current` leads to | what is done |
/// |---|---|---|
/// | deploying | the new release | it is led back; failed |
/// | deploying | the previous one | failed |
/// | verifying | the new release | without a health check it is live; otherwise it is led back and rolled back |
/// | rolling back | either | it is led back; rolled back |
/// | any | something else | it is left alone; failed |
///
/// Dying in the middle of this is the same again: each row leads to itself or to one below it.
///
/// # Errors
///
/// `target_moved`, `target_failed`, `history_unavailable`, `deployment_in_progress`.
pub async fn recover(store: &Store, turn: &Turn, caller: &dyn Caller) -> Result<(), Refusal> {
    let filter = Filter {
        environment: Some(turn.environment.name.clone()),
        service: Some(turn.service.to_string()),
        ..Filter::default()
    };
    for record in store.under_way(&filter).await? {
        let settled = settle(store, turn, record).await?;
        let reason = settled.reason.clone().unwrap_or_default();
        tracing::warn!(deployment.id = %settled.id, deployment.state = %settled.state, %reason, "recovered");
        caller.decide(
            "recovered",
            &format!("{} in {}: {reason}", settled.release, settled.environment),
            detail(&settled),
        );
    }
    turn.blocking(|directory| directory.clear_leftovers().map_err(|error| refused(&error))).await
}

async fn settle(store: &Store, turn: &Turn, mut record: Record) -> Result<Record, Refusal> {
    let folder = turn.directory.path().display().to_string();
    if record.folder != folder {
        return Err(Refusal::failed(
            "target_moved",
            format!(
                "deployment {} is unfinished in {}, and the configuration now says {folder}",
                record.id, record.folder
            ),
            "have the operator put the environment's `path` back until the deployment is settled",
        ));
    }
    let is_checked = turn.environment.health.is_some() || turn.environment.effect.verifies();
    if record.state == State::Verifying && !is_checked {
        let release = record.release.clone();
        let there = turn
            .blocking(move |directory| {
                let current = directory.current().map_err(|error| refused(&error))?;
                Ok(current == Current::Release(release.clone()) && directory.has(&release))
            })
            .await?;
        if there {
            let reason = "its process died when it was current; no health check is configured";
            return Ok(store.step(turn.fence, &record, Event::Pass, Some(reason)).await?);
        }
    }
    if record.state == State::Verifying {
        let reason = "its process died before its health was known";
        record = store.step(turn.fence, &record, Event::GiveUp, Some(reason)).await?;
    }
    let undone = undo_switch(turn, &record).await?;
    let before = record.previous.as_ref().map_or("nothing", ReleaseName::as_str);
    let (event, reason) = match (record.state, undone) {
        (_, Undone::Foreign) => (Event::Fail, "its process died, and somebody changed `current` since".to_owned()),
        (_, Undone::PreviousGone) => (
            Event::Fail,
            format!("its process died, and {before}, which was current before, is gone: nothing is current"),
        ),
        (_, Undone::OutOfStep(reason)) => (Event::Fail, format!("its process died, and {reason}")),
        (State::RollingBack, Undone::Restored) => {
            (Event::Restore, format!("its process died; {before} is current again"))
        }
        (_, Undone::WasCurrentBefore) => {
            (Event::Fail, "its process died; it was current before and still is".to_owned())
        }
        (_, Undone::Restored) => (Event::Fail, format!("its process died before it was live; {before} is current")),
    };
    Ok(store.step(turn.fence, &record, event, Some(&reason)).await?)
}

/// Brings the release's folder into being, complete and on disk.
async fn prepare(
    turn: &Turn,
    caller: &Arc<dyn Caller>,
    begun: &Record,
    artifact: Option<Artifact>,
) -> Result<(), Refusal> {
    let (release, digest, id, caller) = (begun.release.clone(), begun.digest, begun.id.clone(), Arc::clone(caller));
    let (environment, occasion) = (turn.environment.clone(), forward(turn, begun));
    turn.blocking(move |directory| {
        let stop = || caller.is_cancelled();
        if let Some(artifact) = artifact
            && directory.integrity(&release, &digest, &stop).map_err(|error| refused(&error))? != Integrity::Intact
        {
            directory.add(&artifact.tree, &artifact.folder, &release, &id, &stop).map_err(|error| refused(&error))?;
        }
        directory.share(&release, &environment.shared).map_err(|error| refused(&error))?;
        let mut effect_checked = false;
        if environment.effect.checks() {
            environment.effect.check(&occasion, &stop)?;
            effect_checked = true;
        }
        // What these programs did to the files was not agreed to.
        if effect_checked
            && directory.integrity(&release, &digest, &stop).map_err(|error| refused(&error))? != Integrity::Intact
        {
            return Err(Refusal::failed(
                "release_damaged",
                "a command that was run before the switch changed the files of the release",
                "have the operator make the environment's `before` and validation commands only read",
            ));
        }
        // The last instant at which a call that nobody waits for any more can end without effect.
        if stop() { Err(Refusal::cancelled()) } else { Ok(()) }
    })
    .await
}

async fn switch(turn: &Turn, begun: &Record) -> Result<(), Refusal> {
    let (release, id) = (begun.release.clone(), begun.id.clone());
    let (effect, occasion) = (turn.environment.effect.clone(), forward(turn, begun));
    turn.blocking(move |directory| {
        directory.switch(Some(&release), &id).map_err(|error| refused(&error))?;
        apply(directory, &effect, &occasion).map_err(|error| {
            Refusal::failed("target_failed", error.what, "see `output`; what was current before is current again")
                .with_detail("output", error.output)
        })
    })
    .await
}

/// What the target is told on the way forward.
fn forward(turn: &Turn, record: &Record) -> Occasion {
    Occasion {
        id: record.id.clone(),
        service: record.service.clone(),
        environment: record.environment.clone(),
        folder: turn.directory.path().to_owned(),
        turn: Arc::clone(&turn.directory),
        number: turn.next_number(),
        release: Some(record.release.clone()),
        previous: record.previous.clone(),
        is_return: record.kind == Kind::Rollback,
    }
}

/// What the target is told on the way back.
fn backward(turn: &Turn, record: &Record) -> Occasion {
    Occasion {
        release: record.previous.clone(),
        previous: Some(record.release.clone()),
        is_return: true,
        ..forward(turn, record)
    }
}

fn apply(directory: &LockedDirectory, effect: &Effect, occasion: &Occasion) -> Result<(), EffectError> {
    let unreadable = |error: TargetError| EffectError { what: error.to_string(), output: String::new() };
    let tree = match &occasion.release {
        Some(release) if !effect.is_link_only() => directory.tree(release).map_err(unreadable)?,
        _ => None,
    };
    effect.apply(occasion, tree.as_ref())
}

/// Returns what the health check finds; `None` where none is configured.
async fn check(turn: &Turn, verifying: &Record) -> Option<Finding> {
    let (effect, health, occasion) =
        (turn.environment.effect.clone(), turn.environment.health.clone(), forward(turn, verifying));
    if health.is_none() && !effect.verifies() {
        return None;
    }
    let (service, release) = (turn.service.clone(), verifying.release.clone());
    let checked = turn
        .blocking(move |directory| {
            if let Err(error) = effect.verify(&occasion) {
                return Ok(Finding { healthy: false, reason: error.what, output: error.output });
            }
            let verified =
                || Finding { healthy: true, reason: "the target says that it runs".to_owned(), output: String::new() };
            Ok(health.map_or_else(verified, |health| health.check(&service, &directory.release_path(&release))))
        })
        .await;
    let finding =
        checked.unwrap_or_else(|refusal| Finding { healthy: false, reason: refusal.message, output: String::new() });
    let hide = |text| turn.environment.secrets.hide(text);
    Some(Finding { reason: hide(finding.reason), output: hide(finding.output), ..finding })
}

/// Undoes the switch to an unhealthy release and returns the answer.
async fn give_up(
    store: &Store,
    turn: &Turn,
    caller: &Arc<dyn Caller>,
    verifying: &Record,
    finding: &Finding,
) -> Result<Refusal, Refusal> {
    let found = if finding.output.is_empty() {
        finding.reason.clone()
    } else {
        format!("{}\n{}", finding.reason, finding.output)
    };
    let giving_up = store.step(turn.fence, verifying, Event::GiveUp, Some(&found)).await?;
    let undone = undo_switch(turn, &giving_up).await?;
    let before = giving_up.previous.as_ref().map_or("nothing", ReleaseName::as_str);
    let (event, sequel) = match undone {
        Undone::Restored => (Event::Restore, format!("{before} is current again")),
        Undone::WasCurrentBefore => (Event::Fail, "it was current before and still is".to_owned()),
        Undone::PreviousGone => {
            (Event::Fail, format!("{before}, which was current before, is gone: nothing is current"))
        }
        Undone::OutOfStep(ref reason) => (Event::Fail, format!("and {reason}")),
        Undone::Foreign => (Event::Fail, "somebody changed `current` meanwhile, and it was left alone".to_owned()),
    };
    let ended = store.step(turn.fence, &giving_up, event, Some(&format!("{sequel}; {found}"))).await?;
    let reason = format!("{} was not healthy in {}: {}; {sequel}", ended.release, ended.environment, finding.reason);
    let action = if matches!(undone, Undone::OutOfStep(_)) { "rollback_failed" } else { "rolled_back" };
    caller.decide(action, &reason, detail(&ended));
    discard_old(store, turn, &ended).await;
    let restored = ended.previous.as_ref().filter(|_| undone == Undone::Restored);
    Ok(described(
        Refusal::failed("health_check_failed", reason, "see `check`, fix it, and deploy it as a new version"),
        &ended,
    )
    .with_detail("restored", restored)
    .with_detail("check", json!({ "reason": finding.reason, "output": finding.output })))
}

/// Makes `current` lead where it led before `record`, when it leads to `record`'s release.
async fn undo_switch(turn: &Turn, record: &Record) -> Result<Undone, Refusal> {
    let (release, previous, id) = (record.release.clone(), record.previous.clone(), record.id.clone());
    let (effect, occasion) = (turn.environment.effect.clone(), backward(turn, record));
    turn.blocking(move |directory| {
        let undone = undo(directory, &release, previous.as_ref(), &id).map_err(|error| refused(&error))?;
        if effect.is_link_only() || !matches!(undone, Undone::Restored | Undone::PreviousGone) {
            return Ok(undone);
        }
        // Also where the link leads back already: whoever died may have come no further.
        let occasion = match undone {
            Undone::PreviousGone => Occasion { release: None, ..occasion },
            _ => occasion,
        };
        Ok(match apply(directory, &effect, &occasion) {
            Ok(()) => undone,
            Err(error) => {
                tracing::error!(deployment.id = %occasion.id, output = %error.output, "{error}");
                let before = occasion.release.as_ref().map_or("nothing", ReleaseName::as_str);
                Undone::OutOfStep(format!("{before} is current again, but the target does not follow: {error}"))
            }
        })
    })
    .await
}

fn undo(
    directory: &LockedDirectory,
    release: &ReleaseName,
    previous: Option<&ReleaseName>,
    id: &str,
) -> Result<Undone, TargetError> {
    let current = match directory.current()? {
        Current::Foreign => return Ok(Undone::Foreign),
        Current::Nothing => None,
        Current::Release(current) => Some(current),
    };
    if previous == Some(release) && current.as_ref() == previous {
        return Ok(Undone::WasCurrentBefore);
    }
    let gone = previous.is_some_and(|previous| !directory.has(previous));
    if current.as_ref() == Some(release) {
        directory.switch(previous.filter(|_| !gone), id)?;
        return Ok(if gone { Undone::PreviousGone } else { Undone::Restored });
    }
    Ok(match current {
        current if current.as_ref() == previous => Undone::Restored,
        None if gone => Undone::PreviousGone,
        _ => Undone::Foreign,
    })
}

/// Removes the releases that are beyond those that are kept; that it fails changes nothing about the deployment.
async fn discard_old(store: &Store, turn: &Turn, ended: &Record) -> Vec<ReleaseName> {
    let work = async {
        let (environment, service) = (&turn.environment.name, &turn.service);
        let healthy = store.once_live(environment, service).await?;
        let known = store.releases(environment, service).await?;
        let unwanted = beyond_kept(ended, &healthy, &known, turn.environment.keep);
        let id = ended.id.clone();
        let (effect, occasion) = (turn.environment.effect.clone(), forward(turn, ended));
        turn.blocking(move |directory| {
            let discarded = directory.discard(&unwanted, &id).map_err(|error| refused(&error))?;
            if let Err(error) = effect.discard(&occasion, &discarded) {
                tracing::warn!(output = %error.output, "{error}");
            }
            Ok(discarded)
        })
        .await
    };
    work.await.unwrap_or_else(|refusal: Refusal| {
        tracing::warn!(reason = %refusal.message, "old releases could not be removed");
        Vec::new()
    })
}

/// Returns which of `known` are not kept: what is live, what was before, and then the newest that were healthy before
/// the newest that were not.
fn beyond_kept(ended: &Record, healthy: &[Record], known: &[ReleaseName], keep: usize) -> BTreeSet<ReleaseName> {
    let live = healthy.iter().find(|record| record.state == State::Live);
    let before = healthy.iter().find(|record| record.state == State::Superseded);
    let ranked = live
        .into_iter()
        .chain(before)
        .map(|record| &record.release)
        .chain(ended.previous.as_ref())
        .chain(healthy.iter().map(|record| &record.release))
        .chain(known);
    let mut kept = Vec::new();
    for release in ranked {
        let is_needed = live.is_some_and(|live| live.release == *release)
            || before.is_some_and(|before| before.release == *release)
            || ended.previous.as_ref() == Some(release);
        if !kept.contains(&release) && (is_needed || kept.len() < keep) {
            kept.push(release);
        }
    }
    known.iter().filter(|release| !kept.contains(release)).cloned().collect()
}

fn described(refusal: Refusal, ended: &Record) -> Refusal {
    refusal
        .with_detail("id", &ended.id)
        .with_detail("state", ended.state)
        .with_detail("version", &ended.version)
        .with_detail("release", &ended.release)
}

fn detail(record: &Record) -> serde_json::Value {
    json!({
        "id": record.id,
        "kind": record.kind.as_str(),
        "environment": record.environment,
        "service": record.service,
        "version": record.version,
        "release": record.release,
        "digest": record.digest,
        "previous": record.previous,
        "state": record.state,
    })
}

#[cfg(test)]
mod tests;
