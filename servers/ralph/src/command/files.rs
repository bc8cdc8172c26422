//! Commands for files that were verified otherwise already: what they say is added to the files' reports.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::refusal::Refusal;

use super::copy::Overlay;
use super::group::{Broken, Folder, Group, once};
use super::{Command, Scope, verdict};
use crate::Ralph;
use crate::check::{Check, CheckResult, Verdict};
use crate::client::Client;
use crate::roots::Place;
use crate::verify::{BASE_SKU, FileReport};

/// One file that was verified, and what its content was.
pub struct Judged {
    /// Where it is.
    pub place: Place,
    /// Its content, when that is not what is on disk.
    pub given: Option<Arc<Vec<u8>>>,
    /// What was found so far.
    pub report: FileReport,
}

/// A result for each file, and whether it was known.
type Results = BTreeMap<PathBuf, (CheckResult, bool)>;

/// Runs every command that applies to `subjects` and adds what it found to their reports.
///
/// A command that looks at the whole project runs only when `is_named` says that its check was asked for.
///
/// # Errors
///
/// `sandbox_unavailable`, `cancelled` or `internal_error`; a command that fails is inconclusive.
pub async fn complete(
    server: &Arc<Ralph>,
    client: &Client<'_>,
    subjects: &mut [Judged],
    wanted: &[Check],
    is_named: bool,
) -> Result<(), Refusal> {
    let mut results: BTreeMap<(usize, Check), Vec<(CheckResult, bool)>> = BTreeMap::new();
    for command in server.commands.of(wanted).filter(|command| is_named || command.scope == Scope::File) {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, subject) in subjects.iter().enumerate() {
            let applies = subject.report.language.is_some_and(|language| command.languages.contains(&language));
            if applies && subject.report.sha256.is_some() {
                groups.entry(subject.place.root()).or_default().push(index);
            }
        }
        for indices in groups.into_values() {
            let found = group(server, client, command, subjects, &indices).await?;
            for (index, result) in indices.into_iter().zip(found) {
                results.entry((index, command.check)).or_default().push(result);
            }
        }
    }
    for ((index, check), found) in results {
        let is_cached = found.iter().all(|(_, cached)| *cached);
        let report = &mut subjects[index].report;
        // A file that no other check looked at has not been paid for.
        let base = report.checks.is_empty();
        for sku in [base.then_some(BASE_SKU), Some(check.sku())].into_iter().flatten() {
            client.count(sku, 1, is_cached);
        }
        report.from_cache = is_cached && (base || report.from_cache);
        report.checks.extend(verdict::merged(found.into_iter().map(|(result, _)| result).collect()));
        report.verdict = Verdict::all(report.checks.iter().map(|result| result.verdict));
        report.reason = report.checks.iter().find_map(|result| result.reason.clone());
    }
    Ok(())
}

/// Returns what `command` says of each of `indices`, and whether that was known.
async fn group(
    server: &Arc<Ralph>,
    client: &Client<'_>,
    command: &Arc<Command>,
    subjects: &[Judged],
    indices: &[usize],
) -> Result<Vec<(CheckResult, bool)>, Refusal> {
    let members: Vec<&Judged> = indices.iter().map(|index| &subjects[*index]).collect();
    let path = |subject: &Judged| subject.place.below_root().to_owned();
    let mut overlay = Overlay::default();
    for subject in &members {
        if let Some(given) = &subject.given {
            overlay.give(path(subject), Arc::clone(given));
        }
    }
    let group = Group {
        roots: Arc::clone(&server.roots),
        folder: Folder::RootOf(members[0].place.clone()),
        command: Arc::clone(command),
        files: members.iter().map(|subject| (path(subject), subject.report.sha256)).collect(),
        overlay: Arc::new(overlay),
    };
    server.cache.open().await;
    let (shared, cancelled) = (Arc::clone(server), client.cancelled().clone());
    // Everything else is work for a thread that may wait: for files, for SQLite, for other processes, for the command.
    let results = client
        .blocking(move || match results(&shared, &group, &|| cancelled.is_cancelled()) {
            Ok(results) => Ok(Ok(results)),
            Err(broken) => Ok(Err(broken.reason()?)),
        })
        .await?;
    let result = |subject: &&Judged| match &results {
        Ok(results) => results
            .get(subject.place.below_root())
            .cloned()
            .unwrap_or_else(|| (CheckResult::inconclusive(command.check, "nothing was said about this file"), false)),
        Err(reason) => (CheckResult::inconclusive(command.check, format!("{}: {reason}", command.name)), false),
    };
    Ok(members.iter().map(result).collect())
}

fn results(server: &Ralph, group: &Group, stop: &dyn Fn() -> bool) -> Result<Results, Broken> {
    let identity = server.commands.identity(&group.command, stop)?;
    let Some(command) = identity.map(|identity| group.command.digest(&identity)) else {
        // Not to be relied on later, nor by anybody else.
        return executed(server, group, None, &group.files.keys().cloned().collect::<Vec<_>>(), stop);
    };
    let digest = group.look(server.commands.state(), stop)?;
    let key = |path: &Path| key(&command, &digest, path, group.files[path].as_ref());
    let known = || -> Results {
        let keys: Vec<ContentHash> = group.files.keys().map(|path| key(path)).collect();
        let found = group.files.keys().zip(server.cache.get(&keys));
        found.filter_map(|(path, result)| Some((path.clone(), (result?, true)))).collect()
    };
    let missing = |known: &Results| -> Vec<PathBuf> {
        let known: BTreeSet<&PathBuf> = known.keys().collect();
        group.files.keys().filter(|path| !known.contains(path)).cloned().collect()
    };
    let first = known();
    if missing(&first).is_empty() {
        return Ok(first);
    }
    let mut claim = ContentHash::builder("ralph.command.claim");
    for path in missing(&first) {
        claim = claim.field(key(&path).as_bytes());
    }
    let complete = || Some(known()).filter(|known| missing(known).is_empty()).map(Ok);
    once(server, &group.command, &claim.finish(), stop, complete, || {
        let mut all = first.clone();
        all.extend(executed(server, group, Some(&command), &missing(&first), stop)?);
        Ok(all)
    })
}

/// Runs the command over `paths`; with its digest `command`, what it says is remembered.
fn executed(
    server: &Ralph,
    group: &Group,
    command: Option<&ContentHash>,
    paths: &[PathBuf],
    stop: &dyn Fn() -> bool,
) -> Result<Results, Broken> {
    let mut found: Vec<(PathBuf, CheckResult)> = Vec::new();
    let digest = group.run(server, paths, stop, |ran| {
        let judged = verdict::judge(&group.command, ran);
        found.extend(ran.names.iter().map(PathBuf::from).zip(judged));
    })?;
    if let Some(command) = command {
        let entries: Vec<(ContentHash, &CheckResult)> = found
            .iter()
            .filter_map(|(path, result)| Some((key(command, &digest, path, group.files.get(path)?.as_ref()), result)))
            .collect();
        server.cache.put(&entries);
    }
    Ok(found.into_iter().map(|(path, result)| (path, (result, false))).collect())
}

/// Returns the hash of everything that the result for one file depends on.
fn key(command: &ContentHash, digest: &ContentHash, path: &Path, hash: Option<&ContentHash>) -> ContentHash {
    ContentHash::builder("ralph.command.file")
        .field(command.as_bytes())
        .field(digest.as_bytes())
        .field(path.to_string_lossy().as_bytes())
        .field(hash.map_or(&[][..], |hash| hash.as_bytes()))
        .finish()
}
