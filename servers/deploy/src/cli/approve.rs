//! `mcp-deploy approve` and `mcp-deploy deny`: a person decides.

use std::fs::File;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde_json::json;
use ssh_key::PublicKey;
use tempfile::NamedTempFile;
use tollgate_shared::ids::EntryId;
use tollgate_shared::refusal::Refusal;

use super::{Desk, plain, print, show};
use crate::approval::tally::{Barred, InvalidVote, SIGNATURE_BYTES_MAX, verify};
use crate::approval::{self, Electorate, NAMESPACE, Standing, agent};
use crate::deployment::DeploymentEvent;
use crate::environment::Environment;
use crate::names::shown;
use crate::store::approvals::{Request, Vote};

/// Longest line that is read from a person.
const LINE_BYTES_MAX: u64 = 1000;

#[derive(clap::Args)]
pub(super) struct ApproveArguments {
    /// The request, as `mcp-deploy approvals` lists it
    id: String,
    /// Your private key, or the public key of one that an SSH agent holds [default: a key of the agent, then of ~/.ssh, that is in the approvers' file]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Only print the bytes to sign, to sign them elsewhere with `ssh-keygen -Y sign -n tollgate-deploy`
    #[arg(long, conflicts_with_all = ["key", "signature"])]
    print: bool,
    /// A signature that was made elsewhere; `-` reads it from stdin
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    signature: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(super) struct DenyArguments {
    /// The request, as `mcp-deploy approvals` lists it
    id: String,
    /// Why, for whoever asked
    #[arg(long, default_value = "")]
    reason: String,
}

/// Shows a request, has it signed, verifies the signature and records it.
///
/// # Errors
///
/// A [`Refusal`], recorded in the audit trail, or what went wrong.
pub(super) async fn approve(desk: &Desk, arguments: &ApproveArguments) -> anyhow::Result<()> {
    let (request, environment) = find(desk, &arguments.id).await?;
    let (electorate, standing) = approval::assess(&desk.server, &environment, &request).await?;
    if arguments.print {
        print(&standing.terms);
        return Ok(());
    }
    desk.open_ledger().await?;
    match decide(desk, arguments, &environment, &electorate, &request, &standing).await {
        Ok(()) => Ok(()),
        Err(error) => {
            if let Some(refusal) = error.downcast_ref::<Refusal>() {
                let about = json!({ "id": request.record.id });
                desk.decide("approve", "refused", Some(refusal.code), &account(), refusal.message.clone(), about)
                    .await?;
            }
            Err(error)
        }
    }
}

async fn decide(
    desk: &Desk,
    arguments: &ApproveArguments,
    environment: &Environment,
    electorate: &Electorate,
    request: &Request,
    standing: &Standing,
) -> anyhow::Result<()> {
    let id = &request.record.id;
    ensure_open(standing)?;
    let barred = approval::barred(environment, request);
    let description = show::describe(desk, environment, electorate, request, standing)?;
    let signature = match &arguments.signature {
        Some(path) => read_signature(path)?,
        None => {
            ensure!(
                std::io::stdin().is_terminal(),
                "approving needs a terminal; or sign what `--print` prints and give it with `--signature`"
            );
            print(&format!("{description}\n"));
            confirm(&request.record.version.to_string())?;
            sign(arguments.key.as_deref(), electorate, &barred, &standing.terms)?
        }
    };
    let now = desk.server.store.now().await?;
    let approver = verify(&electorate.signers, &barred, &standing.terms, &signature, now).map_err(invalid)?;

    let mut people: Vec<&str> = standing.approvers.iter().map(|approver| approver.person.as_str()).collect();
    if people.contains(&approver.person.as_str()) {
        bail!("{} approved this already", approver.person);
    }
    people.push(&approver.person);
    let enough = people.len() >= environment.approvals as usize;
    let reason = format!("approved by {}", people.join(", "));
    let vote = Vote {
        person: approver.person.clone(),
        fingerprint: approver.fingerprint.clone(),
        signature: signature.clone(),
    };
    desk.server.store.vote(request, &vote, enough.then_some(reason.as_str())).await.map_err(Refusal::from)?;
    let about = json!({
        "id": id,
        "environment": environment.name,
        "service": request.record.service,
        "release": request.record.release,
        "key": approver.fingerprint,
        "terms": standing.terms,
        "signature": signature,
    });
    desk.decide("approve", "approved", None, &approver.person, format!("{} approved {id}", approver.person), about)
        .await?;
    print(&format!(
        "{} approved {id}: {} of {}{}\n",
        approver.person,
        people.len(),
        environment.approvals,
        if enough { "; it may be deployed now, once" } else { "" }
    ));
    Ok(())
}

/// Ends a request.
///
/// # Errors
///
/// What went wrong.
pub(super) async fn deny(desk: &Desk, arguments: &DenyArguments) -> anyhow::Result<()> {
    ensure!(arguments.reason.len() <= 500, "`--reason` is longer than 500 bytes");
    desk.open_ledger().await?;
    let id = parse_id(&arguments.id)?;
    let person = account();
    let why = plain(&arguments.reason);
    let reason = if why.is_empty() { format!("denied by {person}") } else { format!("denied by {person}: {why}") };
    desk.server.store.end_unbegun(&id, DeploymentEvent::Cancel, &reason).await.map_err(Refusal::from)?;
    desk.decide("deny", "denied", None, &person, reason, json!({ "id": id })).await?;
    print(&format!("{id} is denied\n"));
    Ok(())
}

async fn find(desk: &Desk, id: &str) -> anyhow::Result<(Request, Environment)> {
    let id = parse_id(id)?;
    let request = desk.server.store.open_request(&id).await?.ok_or_else(|| unknown(&id))?;
    let environment = desk.server.environments.find(&request.record.environment)?.clone();
    Ok((request, environment))
}

fn parse_id(id: &str) -> Result<String, Refusal> {
    id.parse::<EntryId>().map(|id| id.to_string()).map_err(|_| unknown(id))
}

fn unknown(id: &str) -> Refusal {
    Refusal::refused(
        "unknown_deployment",
        format!("no request {} waits for approval", shown(id)),
        "see `mcp-deploy approvals`",
    )
}

/// Refuses what an approval would not help any more.
fn ensure_open(standing: &Standing) -> Result<(), Refusal> {
    if standing.expired {
        return Err(Refusal::refused("approval_void", "its time is over", "have it asked for again"));
    }
    if standing.changed.is_empty() {
        return Ok(());
    }
    Err(Refusal::refused(
        "approval_void",
        format!("what was asked for changed since: {}", standing.changed.join(", ")),
        "have it asked for again",
    ))
}

fn invalid(reason: InvalidVote) -> Refusal {
    Refusal::refused(
        reason.code(),
        format!("the signature does not count: {reason}"),
        "sign with a key of yours that is in the approvers' file, and for exactly this request",
    )
}

fn confirm(version: &str) -> anyhow::Result<()> {
    print(&format!("Type the version ({version}) to sign this: "));
    std::io::stdout().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().take(LINE_BYTES_MAX).read_line(&mut line)?;
    if line.trim() == version { Ok(()) } else { bail!("nothing was signed") }
}

/// Signs as git does, through `ssh-keygen`: it asks for passphrases and knows agents and hardware keys.
fn sign(chosen: Option<&Path>, electorate: &Electorate, barred: &Barred, terms: &str) -> anyhow::Result<String> {
    let from_agent;
    let key = match chosen {
        Some(path) => path.to_owned(),
        None => match choose_of_agent(electorate, barred)? {
            Some(file) => {
                from_agent = file;
                from_agent.path().to_owned()
            }
            None => choose_of_home(electorate, barred).ok_or_else(|| {
                Refusal::refused(
                    "not_an_approver",
                    "neither an SSH agent nor ~/.ssh has a key that may approve this",
                    "name your key with `--key`",
                )
            })?,
        },
    };
    let mut child = Command::new("ssh-keygen")
        .args(["-Y", "sign", "-n", NAMESPACE, "-f"])
        .arg(&key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run ssh-keygen")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(terms.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "ssh-keygen did not sign: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn may_sign(key: &PublicKey, electorate: &Electorate, barred: &Barred) -> bool {
    electorate.signers.find(key.key_data()).is_some_and(|signer| {
        let is = |name: &str| signer.person.eq_ignore_ascii_case(name.trim());
        signer.is_valid_at(jiff::Timestamp::now())
            && !is(&barred.requester)
            && !barred.operator.as_deref().is_some_and(is)
    })
}

/// Writes the public key of the agent's first key that may sign into a file, as `ssh-keygen` wants it.
fn choose_of_agent(electorate: &Electorate, barred: &Barred) -> anyhow::Result<Option<NamedTempFile>> {
    let Some(socket) = std::env::var_os("SSH_AUTH_SOCK") else { return Ok(None) };
    let Ok(keys) = agent::identities(Path::new(&socket)) else { return Ok(None) };
    let Some(key) = keys.into_iter().find(|key| may_sign(key, electorate, barred)) else { return Ok(None) };
    let mut file = tempfile::Builder::new().prefix("tollgate-").suffix(".pub").tempfile()?;
    writeln!(file, "{}", key.to_openssh()?)?;
    file.flush()?;
    Ok(Some(file))
}

fn choose_of_home(electorate: &Electorate, barred: &Barred) -> Option<PathBuf> {
    approval::trust::own_keys().into_iter().find(|(key, _)| may_sign(key, electorate, barred)).map(|(_, path)| path)
}

fn read_signature(path: &Path) -> anyhow::Result<String> {
    let limit = SIGNATURE_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        File::open(path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .take(limit)
            .read_to_end(&mut bytes)?;
    }
    // What is no text is no signature, and refused as one.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the name of the account, for the record of what needs no proof.
fn account() -> String {
    let name = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "unknown".to_owned());
    plain(&name.chars().take(100).collect::<String>())
}
