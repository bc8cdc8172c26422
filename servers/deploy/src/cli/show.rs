//! Requests, for the eyes of a person.

use super::{Desk, plain, print};
use crate::approval::{self, Electorate, Standing};
use crate::artifact::folder_id_at;
use crate::configuration::Configuration;
use crate::diff::Diff;
use crate::environment::Environment;
use crate::names::ReleaseName;
use crate::plan::Plan;
use crate::store::approvals::Request;
use crate::store::{Kind, NewDeployment};
use crate::target::release_directory::ReleaseDirectory;
use crate::tree::Tree;

/// Most requests that are listed.
const LISTED_MAX: u32 = 100;

/// Lists what waits.
///
/// # Errors
///
/// What cannot be read.
pub(super) async fn list(desk: &Desk) -> anyhow::Result<()> {
    let requests = desk.server.store.open_requests(LISTED_MAX).await?;
    if requests.is_empty() {
        print("nothing waits for approval\n");
    }
    for request in requests {
        let record = &request.record;
        let stands = match desk.server.environments.get(&record.environment) {
            None => "its environment is not configured any more".to_owned(),
            Some(environment) => match approval::assess(&desk.server, environment, &request).await {
                Err(refusal) => plain(&refusal.message),
                Ok((_, standing)) => stands(environment, &standing),
            },
        };
        print(&format!(
            "{}  {} {} {} to {}  by {}  until {}\n    {stands}\n",
            record.id,
            record.kind.as_str(),
            record.service,
            record.version,
            record.environment,
            plain(&record.agent),
            request.seal.expires_at.strftime("%Y-%m-%d %H:%M UTC"),
        ));
    }
    Ok(())
}

fn stands(environment: &Environment, standing: &Standing) -> String {
    if standing.expired {
        return "expired".to_owned();
    }
    if !standing.changed.is_empty() {
        return format!("void, because it changed: {}", standing.changed.join(", "));
    }
    let people: Vec<&str> = standing.approvers.iter().map(|approver| approver.person.as_str()).collect();
    let agreed = if people.is_empty() { String::new() } else { format!(": {}", people.join(", ")) };
    format!("{} of {} approvals{agreed}", people.len(), environment.approvals)
}

/// Returns everything that a person has to see before agreeing, from the facts of the moment.
///
/// # Errors
///
/// What cannot be read; an artifact that is not what was asked for.
pub(super) fn describe(
    desk: &Desk,
    environment: &Environment,
    electorate: &Electorate,
    request: &Request,
    standing: &Standing,
) -> anyhow::Result<String> {
    let record = &request.record;
    let directory = ReleaseDirectory::open(&environment.folder, &record.service)?;
    let previous = standing.terms.lines().find_map(|line| line.strip_prefix("previous: ")).and_then(ReleaseName::parse);
    let read = |release: &ReleaseName| -> anyhow::Result<Option<Tree>> {
        Ok(directory.as_ref().map(|directory| directory.tree(release)).transpose()?.flatten())
    };
    let before = previous.as_ref().map(&read).transpose()?.flatten();
    let after = match (&request.artifact, record.kind) {
        (Some(path), Kind::Deploy) => {
            let target = environment.folder.path(&record.service);
            let forbidden: Vec<_> =
                [desk.server.store.state_dir().path(), &target].into_iter().filter_map(folder_id_at).collect();
            let mut artifact =
                desk.server.artifacts.read(path, &forbidden, desk.server.store.state_dir(), &|| false)?;
            if let Some(text) = &request.configuration {
                Configuration::recorded(text.clone()).add_to(&mut artifact)?;
            }
            artifact.tree
        }
        _ => {
            read(&record.release)?.ok_or_else(|| anyhow::anyhow!("release {} is not kept any more", record.release))?
        }
    };
    anyhow::ensure!(
        after.digest == record.digest,
        "what would be released is not what was asked for any more: it has the digest {}, not {}",
        after.digest,
        record.digest
    );
    let planned = NewDeployment {
        kind: record.kind,
        environment: record.environment.clone(),
        service: record.service.clone(),
        version: record.version.clone(),
        digest: record.digest,
        artifact_digest: record.artifact_digest,
        configuration: None,
        folder: environment.folder.path(&record.service).display().to_string(),
        previous: previous.clone(),
        agent: record.agent.clone(),
        task_id: record.task_id.clone(),
    };
    let diff = Diff::new(before.as_ref(), &after);
    let mut text =
        format!("{} {} {} to {}\n\n", record.kind.as_str(), record.service, record.version, record.environment);
    let mut line = |name: &str, value: &str| text.push_str(&format!("  {name:<12} {value}\n"));
    line("asked by", &plain(&record.agent));
    line("role", &request.role.as_deref().map_or("none".to_owned(), plain));
    line("task", &record.task_id.as_deref().map_or("none".to_owned(), plain));
    line("until", &request.seal.expires_at.to_string());
    line("before", previous.as_ref().map_or("nothing", ReleaseName::as_str));
    line("release", record.release.as_str());
    line("digest", &record.digest.to_string());
    line("artifact", &request.artifact.as_deref().map_or("a kept release".to_owned(), plain));
    for (name, key) in [("commit", "commit: "), ("verified", "verified: ")] {
        let stated = standing.terms.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("none");
        line(name, &plain(stated));
    }
    line("size", &format!("{} files, {} bytes", after.files, after.bytes));
    line("approvals", &stands(environment, standing));
    line("approvers", &format!("{} people in the file", electorate.signers.people()));
    text.push_str("\nchanges against what is current\n");
    for (sign, names) in [('+', &diff.added), ('~', &diff.changed), ('-', &diff.removed)] {
        for name in names {
            text.push_str(&format!("  {sign} {}\n", plain(name)));
        }
    }
    if diff.left_out > 0 {
        text.push_str(&format!("  and {} more\n", diff.left_out));
    }
    if let Some(configuration) = &request.configuration {
        text.push_str("\nconfiguration\n");
        for stated in configuration.lines() {
            text.push_str(&format!("  {}\n", plain(stated)));
        }
    }
    text.push_str("\nsteps\n");
    for (index, step) in Plan::new(environment, &planned).steps.iter().enumerate() {
        text.push_str(&format!("  {}. {}\n", index + 1, plain(step)));
    }
    Ok(text)
}
