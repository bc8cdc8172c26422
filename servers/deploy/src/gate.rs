//! Whether a deployment or a rollback may go on: decisions over facts, without any effect.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::ledger::Ledger;
use tollgate_shared::ledger::verified::TreeVerdict;
use tollgate_shared::refusal::Refusal;

use crate::Deploy;
use crate::approval::terms::Seal;
use crate::approval::{Approved, Standing};
use crate::blocking::blocking;
use crate::deployment::DeploymentState;
use crate::environment::Environment;
use crate::names::{Version, shown};
use crate::source::Source;
use crate::store::{Kind, NewDeployment, Record};

/// How many versions a refusal names.
const VERSIONS_SHOWN_MAX: usize = 10;

/// Proof that the gates let a deployment through; only this module makes one.
#[derive(Clone, Debug)]
pub struct Permitted {
    deployment: NewDeployment,
    approved: Option<Approved>,
}

/// What the gates of a deployment look at.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The digest of another content that was current under the version.
    pub taken_by: Option<String>,
    /// The required environments in which the content is not proven.
    pub unproven: Vec<String>,
    /// The required environments in which it has not been live for long enough.
    pub baking: Vec<Baking>,
    /// Where the artifact comes from, where the environment's rules are about it.
    pub provenance: Provenance,
    /// Why what is current is not healthy, where the environment asks for that.
    pub unhealthy: Option<String>,
    /// When the gates are asked.
    pub now: Timestamp,
}

/// Where an artifact comes from, as far as an environment's rules are about it.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// The commit; `None` also where there is none.
    pub commit: Option<String>,
    /// The entry of the ledger that says that Ralph passed it.
    pub verified: Option<String>,
    /// Why it is not let through.
    pub refusal: Option<Refusal>,
}

/// Finds out where `artifact`, a path relative to the workspace, comes from.
///
/// # Errors
///
/// `internal_error`.
pub async fn provenance(server: &Deploy, environment: &Environment, artifact: &str) -> Result<Provenance, Refusal> {
    if environment.branches.is_empty() && !environment.verified {
        return Ok(Provenance::default());
    }
    let (environment, rules) = (environment.clone(), server.ralph_rules);
    let (workspace, path) = (server.place.workspace.clone(), server.place.workspace.join(artifact));
    let ledger = Ledger::new(server.store.state_dir().clone()).path();
    blocking(move || Ok(trace(&environment, &workspace, &path, &ledger, rules))).await
}

fn trace(environment: &Environment, workspace: &Path, path: &Path, ledger: &Path, rules: ContentHash) -> Provenance {
    let refused = |code, reason: String, hint: &str| Provenance {
        refusal: Some(Refusal::refused(code, reason, hint)),
        ..Provenance::default()
    };
    let source = match Source::of(path, workspace) {
        Ok(Some(source)) => source,
        Ok(None) => {
            return refused(
                "no_commit",
                format!("the artifact is in no repository, and {} takes only what has a commit", environment.name),
                "deploy from the repository that it was built in",
            );
        }
        Err(error) => {
            return refused("no_commit", format!("its repository cannot be read: {}", error.message()), "repair it");
        }
    };
    if let Some(path) = &source.uncommitted {
        return refused(
            "not_committed",
            format!("{} is not as the commit {} has it", shown(path), source.commit),
            "commit it, or remove it, and build again",
        );
    }
    let branch = source.branch.as_deref();
    if !environment.branches.is_empty()
        && !branch.is_some_and(|branch| environment.branches.iter().any(|pattern| pattern.is_match(branch)))
    {
        let patterns: Vec<&str> = environment.branches.iter().map(|pattern| pattern.glob().glob()).collect();
        return refused(
            "branch_not_allowed",
            format!("{} takes nothing from {}", environment.name, branch.map_or("no branch".to_owned(), shown)),
            &format!("deploy from a branch of the form {}", patterns.join(" or ")),
        );
    }
    let mut traced = Provenance { commit: Some(source.commit.clone()), ..Provenance::default() };
    if environment.verified {
        match source.verdict(ledger, rules, &|| false) {
            Ok(TreeVerdict::Pass(entry)) => traced.verified = Some(entry.to_string()),
            Ok(verdict) => {
                let why = match verdict {
                    TreeVerdict::NotPass(verdict) => format!("Ralph's verdict on it is {verdict}"),
                    TreeVerdict::Outdated => "it passed under rules that are no longer in force".to_owned(),
                    TreeVerdict::Broken(_) => "the ledger was tampered with".to_owned(),
                    _ => "Ralph has not verified it".to_owned(),
                };
                traced.refusal = Some(Refusal::refused(
                    "not_verified",
                    format!("{} takes only commits that passed, and of {} {why}", environment.name, source.commit),
                    "let Ralph's verify_changes pass for exactly this commit first",
                ));
            }
            Err(reason) => traced.refusal = Some(Refusal::refused("not_verified", reason, "have the ledger repaired")),
        }
    }
    traced
}

/// A content that has to stay live for longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Baking {
    /// Where.
    pub environment: String,
    /// For how long it has been.
    pub minutes: i64,
    /// For how long it has to be.
    pub needed: i64,
}

/// What the gates say of a deployment.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It may go on.
    Permitted(Permitted),
    /// People must approve it first.
    NeedsApproval(NewDeployment),
}

impl Permitted {
    /// Returns what is permitted.
    #[must_use]
    pub fn deployment(&self) -> &NewDeployment {
        &self.deployment
    }

    /// Returns the agreement of people that it needed.
    #[must_use]
    pub fn approved(&self) -> Option<&Approved> {
        self.approved.as_ref()
    }
}

/// One gate of an environment, and whether it lets a deployment through.
#[derive(Debug)]
pub struct Checked {
    /// Its name.
    pub gate: &'static str,
    /// The refusal where it does not.
    pub result: Result<(), Refusal>,
}

/// Asks every gate but people about the deployment `wanted` to `environment`, in their order.
#[must_use]
pub fn check(environment: &Environment, wanted: &NewDeployment, facts: &Facts) -> Vec<Checked> {
    vec![
        Checked { gate: "version", result: version_is_free(environment, wanted, facts) },
        Checked { gate: "versions", result: version_is_allowed(environment, wanted) },
        Checked { gate: "source", result: facts.provenance.refusal.clone().map_or(Ok(()), Err) },
        Checked { gate: "requires", result: is_proven(wanted, facts) },
        Checked { gate: "freeze", result: is_not_frozen(environment, facts) },
        Checked { gate: "health", result: what_is_current_is_healthy(environment, facts) },
    ]
}

/// Decides about the deployment `wanted` to `environment`.
///
/// # Errors
///
/// `version_taken`, `version_not_allowed`, `no_commit`, `not_committed`, `branch_not_allowed`, `not_verified`, `requires_not_met`, `bake_not_over`, `frozen`,
/// `current_unhealthy`.
pub fn judge(environment: &Environment, wanted: NewDeployment, facts: &Facts) -> Result<Verdict, Refusal> {
    for checked in check(environment, &wanted, facts) {
        checked.result?;
    }
    if environment.approvals > 0 {
        return Ok(Verdict::NeedsApproval(wanted));
    }
    Ok(Verdict::Permitted(Permitted { deployment: wanted, approved: None }))
}

fn version_is_free(environment: &Environment, wanted: &NewDeployment, facts: &Facts) -> Result<(), Refusal> {
    let Some(digest) = &facts.taken_by else { return Ok(()) };
    let short = digest.parse().map_or_else(|_| String::new(), |digest: ContentHash| digest.short());
    Err(Refusal::refused(
        "version_taken",
        format!(
            "version {} of {} was released to {} with other content ({short}, not {})",
            wanted.version,
            wanted.service,
            environment.name,
            wanted.digest.short()
        ),
        "give the new content a new version",
    ))
}

fn version_is_allowed(environment: &Environment, wanted: &NewDeployment) -> Result<(), Refusal> {
    if environment.versions.is_empty()
        || environment.versions.iter().any(|pattern| pattern.is_match(wanted.version.as_str()))
    {
        return Ok(());
    }
    let patterns: Vec<&str> = environment.versions.iter().map(|pattern| pattern.glob().glob()).collect();
    Err(Refusal::refused(
        "version_not_allowed",
        format!("{} does not take version {}", environment.name, wanted.version),
        format!("use a version of the form {}", patterns.join(" or ")),
    ))
}

fn is_proven(wanted: &NewDeployment, facts: &Facts) -> Result<(), Refusal> {
    if !facts.unproven.is_empty() {
        return Err(Refusal::refused(
            "requires_not_met",
            format!(
                "exactly this content ({}) of {} has not been live and healthy in {}",
                wanted.digest.short(),
                wanted.service,
                facts.unproven.join(", ")
            ),
            format!("deploy the same artifact to {} first", facts.unproven.join(", then to ")),
        )
        .with_detail("unmet", &facts.unproven));
    }
    let Some(bake) = facts.baking.first() else { return Ok(()) };
    Err(Refusal::refused(
        "bake_not_over",
        format!("this content has been live in {} for {} of {} minutes", bake.environment, bake.minutes, bake.needed),
        format!("leave it live there and call again in {} minutes", bake.needed - bake.minutes),
    )
    .with_detail("baking", &facts.baking))
}

fn is_not_frozen(environment: &Environment, facts: &Facts) -> Result<(), Refusal> {
    let Some(window) = environment.freeze.iter().find(|window| window.contains(facts.now)) else { return Ok(()) };
    Err(Refusal::refused(
        "frozen",
        format!("{} takes no deployments now: {window}", environment.name),
        "wait until the window is over; going back one step is still possible",
    ))
}

fn what_is_current_is_healthy(environment: &Environment, facts: &Facts) -> Result<(), Refusal> {
    let Some(reason) = &facts.unhealthy else { return Ok(()) };
    Err(Refusal::refused(
        "current_unhealthy",
        format!("what is current in {} is not healthy: {reason}", environment.name),
        "find out why first, or go back with rollback, which does not ask",
    ))
}

/// Lets through what needed the agreement of people and has it.
#[must_use]
pub fn permit_approved(wanted: NewDeployment, approved: Approved) -> Permitted {
    Permitted { deployment: wanted, approved: Some(approved) }
}

/// The refusal of a deployment that waits for people.
#[must_use]
pub fn approval_required(environment: &Environment, waiting: &Record, seal: &Seal, standing: &Standing) -> Refusal {
    let people =
        if environment.approvals == 1 { "a person".to_owned() } else { format!("{} people", environment.approvals) };
    let approvers: Vec<&str> = standing.approvers.iter().map(|approver| approver.person.as_str()).collect();
    let invalid: Vec<String> = standing.invalid.iter().map(ToString::to_string).collect();
    let hint = if environment.approvers.is_some() {
        format!("ask the operator to run `mcp-deploy approve {}` and call again then; no tool can approve", waiting.id)
    } else {
        "ask the operator, who has to name `approvers` for this environment first; no tool can approve".to_owned()
    };
    Refusal::refused(
        "approval_required",
        format!("{} needs the approval of {people}; the request is recorded and nothing was done", environment.name),
        hint,
    )
    .with_detail("id", &waiting.id)
    .with_detail("state", waiting.state)
    .with_detail("release", &waiting.release)
    .with_detail("digest", waiting.digest)
    .with_detail("expires_at", seal.expires_at.to_string())
    .with_detail("approved_by", approvers)
    .with_detail("invalid_signatures", invalid)
}

/// The refusal where `current` was not made here.
#[must_use]
pub fn not_ours(folder: &Path) -> Refusal {
    Refusal::refused(
        "target_not_ours",
        format!("`current` in {} is not a link to a release, so it was not made here", folder.display()),
        "have the operator move it away or point it at a release",
    )
}

/// What a rollback goes to, and whether people must approve that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Return {
    /// Which of the candidates.
    pub index: usize,
    /// Whether people must approve it.
    pub needs_approval: bool,
}

/// Decides what a rollback in `environment` goes to.
///
/// `candidates` has the last healthy life of every release, newest first. Without `to` it is the newest that is not live
/// and was not itself taken back. Where deployments need approval, only the step back from what was last deployed goes
/// without: otherwise an agent could walk back, step by step, to any old release, or forward to one that was taken back.
///
/// # Errors
///
/// `nothing_to_roll_back`, `unknown_release`.
pub fn choose_return(
    environment: &Environment,
    live: Option<&Record>,
    candidates: &[Record],
    to: Option<&str>,
) -> Result<Return, Refusal> {
    let Some(live) = live else {
        return Err(nothing(format!("nothing is live in {}", environment.name)));
    };
    let others = || candidates.iter().enumerate().filter(|(_, candidate)| candidate.release != live.release);
    let usual = others()
        .find(|(_, candidate)| candidate.state == DeploymentState::Superseded && candidate.number < live.number)
        .map(|(index, _)| index);
    let index = match to {
        None => usual.ok_or_else(|| {
            nothing(format!(
                "{} is the first release in {} or all before it were taken back",
                live.release, environment.name
            ))
        })?,
        Some(to) if to == live.version.as_str() || to == live.release.as_str() => {
            return Err(nothing(format!("{} is live already", live.release)));
        }
        Some(to) => others()
            .find(|(_, candidate)| candidate.version.as_str() == to || candidate.release.as_str() == to)
            .map(|(index, _)| index)
            .ok_or_else(|| {
                let mut versions: Vec<&Version> = others().map(|(_, candidate)| &candidate.version).collect();
                versions.truncate(VERSIONS_SHOWN_MAX);
                let known = if versions.is_empty() {
                    "nothing else was".to_owned()
                } else {
                    versions.iter().map(|version| version.as_str()).collect::<Vec<_>>().join(", ")
                };
                Refusal::refused(
                    "unknown_release",
                    format!("{} was never live and healthy in {}", shown(to), environment.name),
                    format!("name a version that was: {known}"),
                )
            })?,
    };
    let one_step = usual == Some(index) && live.kind == Kind::Deploy;
    Ok(Return { index, needs_approval: environment.approvals > 0 && !one_step })
}

/// Lets a rollback through that needs no approval.
#[must_use]
pub fn permit_return(chosen: &Return, wanted: NewDeployment) -> Verdict {
    if chosen.needs_approval {
        Verdict::NeedsApproval(wanted)
    } else {
        Verdict::Permitted(Permitted { deployment: wanted, approved: None })
    }
}

fn nothing(reason: String) -> Refusal {
    Refusal::refused("nothing_to_roll_back", reason, "deployment_status shows what was live; deploy a release instead")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::DeployConfig;
    use crate::environment::Environments;
    use crate::names::{ReleaseName, ServiceName};

    fn environment(name: &str) -> Environment {
        let all = Environments::new(&DeployConfig::default(), Path::new("/w"), Path::new("/w/.tollgate")).unwrap();
        all.find(name).unwrap().clone()
    }

    fn wanted() -> NewDeployment {
        NewDeployment {
            kind: Kind::Deploy,
            environment: "dev".into(),
            service: ServiceName::parse("shop").unwrap(),
            version: Version::parse("1.0").unwrap(),
            digest: ContentHash::of(b"1.0"),
            artifact_digest: ContentHash::of(b"1.0"),
            configuration: None,
            folder: "/w".into(),
            previous: None,
            agent: "a".into(),
            task_id: None,
        }
    }

    fn record(number: i64, version: &str, kind: Kind, state: DeploymentState) -> Record {
        let (new, digest) = (wanted(), ContentHash::of(version.as_bytes()));
        let version = Version::parse(version).unwrap();
        Record {
            number,
            id: number.to_string(),
            kind,
            environment: new.environment,
            service: new.service,
            release: ReleaseName::new(&version, &digest),
            version,
            digest,
            artifact_digest: digest,
            folder: new.folder,
            previous: None,
            state,
            agent: new.agent,
            task_id: None,
            requested_at: String::new(),
            updated_at: String::new(),
            reason: None,
        }
    }

    #[test]
    fn gates_in_their_order() {
        let taken = Facts {
            taken_by: Some(ContentHash::of(b"x").to_string()),
            unproven: vec!["dev".into()],
            ..Facts::default()
        };
        let unproven = Facts { unproven: vec!["dev".into()], ..Facts::default() };
        let code = |name: &str, facts: &Facts| match judge(&environment(name), wanted(), facts) {
            Ok(Verdict::Permitted(_)) => "permitted",
            Ok(Verdict::NeedsApproval(_)) => "needs approval",
            Err(refusal) => refusal.code,
        };
        assert_eq!(code("staging", &taken), "version_taken");
        assert_eq!(code("staging", &unproven), "requires_not_met");
        assert_eq!(code("staging", &Facts::default()), "permitted");
        assert_eq!(code("prod", &taken), "version_taken");
        assert_eq!(code("prod", &unproven), "requires_not_met", "a person is not asked about what may not be");
        assert_eq!(code("prod", &Facts::default()), "needs approval");
    }

    /// Candidates are given newest first as `(number, version, state)`; the first is live.
    fn chosen(
        name: &str,
        kind: Kind,
        lives: &[(i64, &str, DeploymentState)],
        to: Option<&str>,
    ) -> Result<(String, bool), &'static str> {
        let candidates: Vec<Record> =
            lives.iter().map(|(number, version, state)| record(*number, version, kind, *state)).collect();
        let live = candidates.iter().find(|candidate| candidate.state == DeploymentState::Live);
        choose_return(&environment(name), live, &candidates, to)
            .map(|chosen| (candidates[chosen.index].version.to_string(), chosen.needs_approval))
            .map_err(|refusal| refusal.code)
    }

    #[test]
    fn rollback_goes_to_the_last_that_was_not_taken_back() {
        use DeploymentState::{Live, RolledBack, Superseded};
        let three = [(3, "3", Live), (2, "2", Superseded), (1, "1", Superseded)];
        assert_eq!(chosen("dev", Kind::Deploy, &three, None), Ok(("2".into(), false)));
        assert_eq!(chosen("dev", Kind::Deploy, &three, Some("1")), Ok(("1".into(), false)));
        let release = ReleaseName::new(&Version::parse("1").unwrap(), &ContentHash::of(b"1")).to_string();
        assert_eq!(chosen("dev", Kind::Deploy, &three, Some(&release)), Ok(("1".into(), false)));
        for to in ["3", "0", "", "../1", "2\0", " 2"] {
            assert!(chosen("dev", Kind::Deploy, &three, Some(to)).is_err(), "{to:?}");
        }
        let taken_back = [(4, "2", Live), (3, "3", RolledBack), (1, "1", Superseded)];
        assert_eq!(chosen("dev", Kind::Rollback, &taken_back, None), Ok(("1".into(), false)));
        let back_at_first = [(5, "1", Live), (4, "2", RolledBack), (3, "3", RolledBack)];
        assert_eq!(chosen("dev", Kind::Rollback, &back_at_first, None), Err("nothing_to_roll_back"));
        assert_eq!(chosen("dev", Kind::Deploy, &[(1, "1", Live)], None), Err("nothing_to_roll_back"));
        assert_eq!(chosen("dev", Kind::Deploy, &[], None), Err("nothing_to_roll_back"));
        assert_eq!(chosen("dev", Kind::Deploy, &[(1, "1", Superseded)], None), Err("nothing_to_roll_back"));
    }

    #[test]
    fn where_people_approve_only_one_step_back_goes_without() {
        use DeploymentState::{Live, RolledBack, Superseded};
        let three = [(3, "3", Live), (2, "2", Superseded), (1, "1", Superseded)];
        assert_eq!(chosen("prod", Kind::Deploy, &three, None), Ok(("2".into(), false)));
        assert_eq!(chosen("prod", Kind::Deploy, &three, Some("2")), Ok(("2".into(), false)));
        assert_eq!(chosen("prod", Kind::Deploy, &three, Some("1")), Ok(("1".into(), true)));
        let after_rollback = [(4, "2", Live), (3, "3", RolledBack), (1, "1", Superseded)];
        assert_eq!(chosen("prod", Kind::Rollback, &after_rollback, None), Ok(("1".into(), true)));
        assert_eq!(chosen("prod", Kind::Rollback, &after_rollback, Some("3")), Ok(("3".into(), true)));
    }
}
