//! `verify_changes`: what the working tree changes against a commit, with the guardrails that need a before and an after.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use git2::Oid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::ledger::verified::{VERIFIED, VerifiedTree};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use super::verify_file::Format;
use crate::Ralph;
use crate::baseline::{self, FilePair, Trace};
use crate::changes::{self, Collected};
use crate::check::guardrail::change::{self, Change, FileChange, Findings};
use crate::check::security::user::UserRules;
use crate::check::syntax::Limits;
use crate::check::{Check, Finding, Verdict};
use crate::client::Client;
use crate::command::change::{Copies, Question, compare};
use crate::repository::{Repository, Unreadable};
use crate::roots::Place;
use crate::sarif;
use crate::verify;

/// Longest that a repository is read: under the patience of hosts, which is 60 s.
const READ_MAX: Duration = Duration::from_secs(40);

/// Findings listed in an answer when nothing is said.
const LISTED_DEFAULT: usize = 50;

/// Most findings listed in one answer.
const LISTED_MAX: usize = 500;

/// Findings from before that are listed; they only tell what is there.
const EXISTING_MAX: usize = 20;

/// What the default branch is called where the remote does not say.
const DEFAULT_BRANCHES: &[&str] = &[
    "refs/remotes/origin/HEAD",
    "refs/remotes/origin/main",
    "refs/remotes/origin/master",
    "refs/heads/main",
    "refs/heads/master",
];

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct VerifyChangesRequest {
    /// A folder of the repository; the first root when left out
    repo_path: Option<String>,
    /// Compare with this commit; where the branch left the default branch when left out
    base: Option<String>,
    /// Which checks, see list_checks; all when left out
    checks: Option<Vec<String>>,
    /// Findings to list, 50 when left out; all count
    #[schemars(range(min = 1, max = 500))]
    limit: Option<usize>,
    /// From next_cursor, to list further findings
    cursor: Option<String>,
    /// What the answer is to be, report when left out
    #[serde(default)]
    format: Format,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct ChangesReport {
    /// The gravest of what the change adds; only pass is a pass
    pub(crate) verdict: Verdict,
    /// Whether the whole change, by every check of ralph, adds nothing that is wrong
    safe_to_merge: bool,
    /// Why it is skipped or inconclusive, or passes and yet is not safe to merge
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The root of the working tree
    repository: String,
    /// What it was compared with, by name
    base: String,
    /// The commit that it was compared with; left out when there is none yet
    #[serde(skip_serializing_if = "Option::is_none")]
    base_commit: Option<String>,
    /// Files that the change touches
    files_changed: usize,
    /// What each check found
    checks: Vec<Counted>,
    /// What the change adds, the gravest first
    findings: Vec<Located>,
    /// Some of what stood there before, which does not count
    existing: Vec<Located>,
    /// Gives the findings that are not listed
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    /// What is listed as SARIF 2.1.0, instead of `findings` and `existing`
    #[serde(skip_serializing_if = "Option::is_none")]
    sarif: Option<Map<String, Value>>,
}

#[derive(Serialize, JsonSchema)]
struct Counted {
    /// Which check
    check: Check,
    /// How it ended
    verdict: Verdict,
    /// Findings that the change adds
    new: usize,
    /// Findings that stood there before
    existing: usize,
}

#[derive(Clone, Serialize, JsonSchema)]
struct Located {
    /// The file
    path: String,
    /// Which check found it
    check: Check,
    /// What is wrong
    finding: Finding,
}

/// A repository as it was read.
struct Read {
    shown: String,
    common: Option<String>,
    base: String,
    base_commit: Option<Oid>,
    base_tree: Option<Oid>,
    /// Whether commits of the branch are left out.
    is_partial: bool,
    collected: Arc<Collected>,
    /// Where it is.
    worktree: Place,
    /// For the operator's commands; or why there are none.
    copies: Result<Copies, String>,
}

/// What the checks found.
#[derive(Default)]
struct Tally {
    added: Vec<Located>,
    existing: Vec<Located>,
    /// How each check ended.
    verdicts: BTreeMap<Check, Vec<Verdict>>,
    reason: Option<String>,
}

pub(crate) fn tool() -> Defined<Ralph> {
    Tool::new(
        "verify_changes",
        "Verify a change",
        "Verify everything that the working tree changes against a commit: staged, unstaged, untracked. Besides checking \
         each file it runs the operator's commands, and compares before and after: deleted, skipped or weakened tests, \
         new suppressions, lowered thresholds, removed CI steps, lockfiles, governance files. Only what the change adds \
         counts. Call it before every commit and merge.",
        Effect::Reads,
        Price::Metered(verify::SKUS),
    )
    .handler(run)
}

async fn run(server: Arc<Ralph>, request: VerifyChangesRequest, call: Call) -> Result<Answer<ChangesReport>, Refusal> {
    let wanted = Check::wanted(request.checks.as_deref())?;
    let limit = request.limit.unwrap_or(LISTED_DEFAULT).clamp(1, LISTED_MAX);
    let skip = request.cursor.as_deref().map_or(Ok(0), |cursor| {
        cursor.parse::<usize>().map_err(|_| {
            Refusal::invalid_arguments("`cursor` is not one that this tool gave", "take it from `next_cursor`")
        })
    })?;
    let place = match &request.repo_path {
        Some(path) => server.roots.place(path)?,
        None => server.roots.first().ok_or_else(|| server.roots.outside("."))?,
    };
    let mut report = verify(&server, &Client::Call(&call), place, request.base, &wanted, skip, limit).await?;
    if request.format == Format::Sarif {
        report.sarif = Some(report.sarif());
        report.findings.clear();
        report.existing.clear();
    }
    Ok(Answer::new(report))
}

/// Verifies what the working tree at `place` changes against `base`, and lists `limit` of the findings after `skip`.
///
/// # Errors
///
/// What cannot be read, or named.
pub(crate) async fn verify(
    server: &Arc<Ralph>,
    client: &Client<'_>,
    place: Place,
    base: Option<String>,
    wanted: &[Check],
    skip: usize,
    limit: usize,
) -> Result<ChangesReport, Refusal> {
    if let Some(base) = &base
        && (base.is_empty() || base.len() > 256 || base.starts_with('-') || base.chars().any(char::is_control))
    {
        return Err(Refusal::invalid_arguments(
            format!("`base` {} is no name of a commit", crate::roots::quoted(base)),
            "name a branch, a tag or a commit, or leave `base` out",
        ));
    }
    let read = Arc::new(read(server, client, place, base).await?);
    let tally = verify_all(server, client, &read, wanted).await?;
    let report = report(server, &read, tally, wanted, skip, limit);
    record(server, client, &read, &report, wanted).await?;
    Ok(report)
}

impl ChangesReport {
    /// Returns what is listed, as SARIF; what could not be told is a notification.
    pub(crate) fn sarif(&self) -> Map<String, Value> {
        let state = |located: &[Located], state: &'static str| -> Vec<(String, Finding, &'static str)> {
            located.iter().map(|located| (located.path.clone(), located.finding.clone(), state)).collect()
        };
        let mut findings = state(&self.findings, "new");
        findings.extend(state(&self.existing, "unchanged"));
        let is_told = matches!(self.verdict, Verdict::Pass | Verdict::Fail | Verdict::Blocked);
        let doubt = self.reason.as_ref().filter(|_| !is_told || self.verdict != Verdict::Pass);
        sarif::of_change(&findings, doubt.map(|reason| (self.verdict, reason.as_str())))
    }

    /// Returns what the change adds, with the file and the check that found it.
    pub(crate) fn added(&self) -> impl Iterator<Item = (&str, &Finding)> {
        self.findings.iter().map(|located| (located.path.as_str(), &located.finding))
    }

    /// Returns why it is no pass, or what it was compared with.
    pub(crate) fn summary(&self) -> String {
        let counts: Vec<String> = self
            .checks
            .iter()
            .map(|check| {
                format!(
                    "{} {} ({} new, {} existing)",
                    check.check.name(),
                    check.verdict.name(),
                    check.new,
                    check.existing
                )
            })
            .collect();
        let reason = self.reason.as_ref().map(|reason| format!("; {reason}")).unwrap_or_default();
        format!("{} files against {}: {}{reason}", self.files_changed, self.base, counts.join(", "))
    }
}

/// Reads the repository in a thread of its own: one that waits for ever, for a file system or a pipe that was put in
/// the place of a file meanwhile, holds up nobody but itself.
async fn read(server: &Arc<Ralph>, client: &Client<'_>, place: Place, base: Option<String>) -> Result<Read, Refusal> {
    let (shared, cancelled) = (Arc::clone(server), client.cancelled().clone());
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let started = std::thread::Builder::new().name("repository".to_owned()).spawn(move || {
        let until = Instant::now() + READ_MAX;
        let in_time = || Instant::now() < until && !cancelled.is_cancelled();
        drop(sender.send(read_now(&shared, &place, base.as_deref(), &in_time)));
    });
    started.map_err(|error| {
        Refusal::failed("internal_error", format!("no thread can be started: {error}"), "free memory, then call again")
    })?;
    let slow = || {
        Refusal::failed(
            "repository_unreadable",
            "the repository could not be read in time",
            "look at its files; call again",
        )
    };
    tokio::select! {
        read = tokio::time::timeout(READ_MAX + Duration::from_secs(5), receiver) => {
            read.map_err(|_| slow())?.map_err(|_| slow())?
        }
        () = client.cancelled().cancelled() => Err(Refusal::cancelled()),
    }
}

fn read_now(server: &Ralph, place: &Place, base: Option<&str>, in_time: &dyn Fn() -> bool) -> Result<Read, Refusal> {
    let (roots, bytes_max) = (&server.roots, server.limits.bytes_max);
    let repository = Repository::find(roots, place)?.ok_or_else(|| {
        Refusal::refused(
            "not_a_repository",
            format!(
                "{} is in no git repository of the folders that this server may read",
                crate::roots::quoted(&place.shown)
            ),
            "name a folder of a repository, or verify files with verify_batch",
        )
    })?;
    let unreadable = |error: Unreadable| {
        Refusal::failed(
            "repository_unreadable",
            format!("the repository cannot be read: {error}"),
            "have a person look at it; nothing was verified",
        )
    };
    let head = repository.head().map_err(unreadable)?;
    let usual = match &server.base {
        Some(name) => Some(configured_base(&repository, head, name)?),
        None => usual_base(&repository, head).map_err(unreadable)?,
    };
    let (name, commit, is_partial) = match (base, head) {
        (None, _) => usual.map_or_else(|| ("nothing".to_owned(), None, false), |(name, id)| (name, Some(id), false)),
        (Some(name), _) => {
            let id = repository.revision(name).map_err(unreadable)?.ok_or_else(|| {
                Refusal::refused(
                    "unknown_revision",
                    format!("there is no commit {}", crate::roots::quoted(name)),
                    "name a branch, a tag or a commit, or leave `base` out",
                )
            })?;
            // A base behind the usual one leaves commits of the branch out.
            let is_partial = match &usual {
                Some((_, usual)) => repository.merge_base(id, *usual).map_err(unreadable)? != Some(id),
                None => false,
            };
            (name.to_owned(), Some(id), is_partial)
        }
    };
    let base_tree = commit.map(|id| repository.commit(id)).transpose().map_err(unreadable)?.map(|commit| commit.tree);
    let collected = changes::collect(roots, &repository, base_tree, bytes_max, in_time).map_err(unreadable)?;
    let copies = if server.commands.iter().next().is_some() {
        changes::copies(&collected, &repository)
    } else {
        Ok(Copies::default())
    };
    Ok(Read {
        shown: repository.worktree.shown.clone(),
        common: repository.common_directory(),
        base: name,
        base_commit: commit,
        base_tree,
        is_partial,
        collected: Arc::new(collected),
        worktree: repository.worktree,
        copies,
    })
}

/// Returns where the branch left what the operator names.
///
/// A base that cannot be had is refused: without it, everything could be called old.
fn configured_base(repository: &Repository, head: Option<Oid>, name: &str) -> Result<(String, Oid), Refusal> {
    let unusable = |why: &str| {
        Refusal::refused(
            "base_unavailable",
            format!("`ralph.base` is {}, and {why}", crate::roots::quoted(name)),
            "have the operator fetch it or correct `ralph.base`",
        )
    };
    let id = repository.revision(name).map_err(|error| unusable(&error.to_string()))?;
    let id = id.ok_or_else(|| unusable("there is no such commit"))?;
    let head = head.ok_or_else(|| unusable("there is no commit here yet"))?;
    let base = repository.merge_base(head, id).map_err(|error| unusable(&error.to_string()))?;
    let base = base.ok_or_else(|| unusable("this branch has nothing in common with it"))?;
    Ok((if base == head { "HEAD".to_owned() } else { format!("merge base with {name}") }, base))
}

/// Returns where the branch left the default branch, as the remote has it where there is one; HEAD where there is no
/// default branch.
fn usual_base(repository: &Repository, head: Option<Oid>) -> Result<Option<(String, Oid)>, Unreadable> {
    let Some(head) = head else { return Ok(None) };
    for name in DEFAULT_BRANCHES {
        let Some(id) = repository.reference(name)? else { continue };
        if let Some(base) = repository.merge_base(head, id)? {
            let short = name.trim_start_matches("refs/remotes/").trim_start_matches("refs/heads/");
            return Ok(Some((if base == head { "HEAD".to_owned() } else { format!("merge base with {short}") }, base)));
        }
    }
    Ok(Some(("HEAD".to_owned(), head)))
}

async fn verify_all(
    server: &Arc<Ralph>,
    client: &Client<'_>,
    read: &Arc<Read>,
    wanted: &[Check],
) -> Result<Tally, Refusal> {
    let mut tally = Tally::default();
    if wanted.contains(&Check::Guardrail) && !read.collected.working.files.is_empty()
        || read.collected.staged.is_some() && wanted.contains(&Check::Guardrail)
    {
        guardrail(server, client, read, &mut tally).await?;
    }
    for check in wanted.iter().filter(|check| **check != Check::Guardrail && !check.is_command()) {
        for staged in [false, true] {
            each(server, client, read, staged, *check, &mut tally).await?;
        }
    }
    commands(server, client, read, wanted, &mut tally).await?;
    let files = read.collected.working.files.len();
    client.count(verify::BASE_SKU, files as u64, false);
    Ok(tally)
}

/// Runs the operator's commands.
async fn commands(
    server: &Arc<Ralph>,
    client: &Client<'_>,
    read: &Arc<Read>,
    wanted: &[Check],
    tally: &mut Tally,
) -> Result<(), Refusal> {
    let named: Vec<Check> = wanted.iter().copied().filter(|check| check.is_command()).collect();
    let configured: Vec<Check> = server.commands.iter().map(|command| command.check).collect();
    let named: Vec<Check> = named.into_iter().filter(|check| configured.contains(check)).collect();
    // What was not read completely is no state that a command could be run on.
    if named.is_empty() || read.collected.incomplete.is_some() {
        return Ok(());
    }
    let copies = match &read.copies {
        Ok(copies) => copies.clone(),
        Err(why) => {
            named.iter().for_each(|check| tally.doubt(*check, why.clone()));
            return Ok(());
        }
    };
    let question = Question {
        worktree: read.worktree.clone(),
        collected: Arc::clone(&read.collected),
        copies,
        has_base: read.base_tree.is_some(),
    };
    for outcome in compare(server, client, Arc::new(question), &named).await? {
        let check = outcome.check;
        client.count(check.sku(), outcome.files as u64, outcome.is_cached);
        match outcome.reason {
            Some(why) if outcome.verdict == Verdict::Inconclusive => tally.doubt(check, why),
            _ => tally.verdicts.entry(check).or_default().push(outcome.verdict),
        }
        let located = |mut finding: Finding| Located { path: finding.path.take().unwrap_or_default(), check, finding };
        tally.added.extend(outcome.added.into_iter().map(located));
        tally.existing.extend(outcome.existing.into_iter().map(located));
    }
    Ok(())
}

fn states(collected: &Collected) -> impl Iterator<Item = &Change> {
    std::iter::once(&collected.working).chain(&collected.staged)
}

async fn guardrail(
    server: &Arc<Ralph>,
    client: &Client<'_>,
    read: &Arc<Read>,
    tally: &mut Tally,
) -> Result<(), Refusal> {
    let (shared, cancelled, limits) = (Arc::clone(read), client.cancelled().clone(), server.limits);
    let done = server.workers.run(move || {
        let started = Instant::now();
        // As long as each file alone would be given, up to what hosts wait for.
        let longest = limits.duration_max.saturating_mul(4);
        let in_time = || started.elapsed() <= longest && !cancelled.is_cancelled();
        states(&shared.collected).map(|change| change::check(change, &in_time)).collect::<Vec<Findings>>()
    })?;
    let verdicts = tally.verdicts.entry(Check::Guardrail).or_default();
    let Ok(found) = done.await else {
        verdicts.push(Verdict::Inconclusive);
        tally.reason = Some("the check stopped unexpectedly; report this as a bug".to_owned());
        return Ok(());
    };
    client.count(crate::check::guardrail::SKU, read.collected.working.files.len().max(1) as u64, false);
    let located = |found: change::Found| Located { path: found.path, check: Check::Guardrail, finding: found.finding };
    for mut findings in found {
        findings.added.extend(changed_rules(server, read));
        verdicts.push(of_findings(findings.added.iter().map(|found| &found.finding)));
        tally.added.extend(findings.added.into_iter().map(located));
        tally.existing.extend(findings.existing.into_iter().map(located));
        if let Some((path, why)) = findings.unknown.first() {
            verdicts.push(Verdict::Inconclusive);
            tally.reason.get_or_insert_with(|| if path.is_empty() { why.clone() } else { format!("{path}: {why}") });
        }
    }
    Ok(())
}

/// Finds the files of the operator's rules that the change touches: who may change them changes what is found.
fn changed_rules(server: &Ralph, read: &Read) -> Vec<change::Found> {
    let Ok(root) = server.roots.real(&read.worktree) else { return Vec::new() };
    let touched = states(&read.collected).flat_map(|change| &change.files);
    let paths: std::collections::BTreeSet<&str> =
        touched.flat_map(|file| [file.path.as_str(), file.before_path()]).collect();
    let changed = paths.into_iter().filter(|path| server.user_rules.is_file_of_rules(&root.join(path)));
    changed.filter_map(change::rules_changed).collect()
}

/// Runs one check over each file of the change, and, where there is anything to tell apart, over what was before.
async fn each(
    server: &Arc<Ralph>,
    client: &Client<'_>,
    read: &Arc<Read>,
    staged: bool,
    check: Check,
    tally: &mut Tally,
) -> Result<(), Refusal> {
    let Some(change) = state(&read.collected, staged) else { return Ok(()) };
    let mut with_findings = Vec::new();
    for (at, file) in change.files.iter().enumerate() {
        let text = match &file.after {
            Some(change::Content::Text(text)) => text,
            // Binary files are searched for nothing; what is too large to read was not verified.
            Some(change::Content::TooLarge(_)) => {
                tally.doubt(check, format!("{}: larger than {} bytes", file.path, server.limits.bytes_max));
                continue;
            }
            _ => continue,
        };
        let Some((result, cached)) = verify::one_check(server, client, &file.path, text, check).await? else {
            continue;
        };
        client.count(check.sku(), 1, cached);
        if let Some(why) = result.reason {
            tally.doubt(check, format!("{}: {why}", file.path));
        } else if result.findings.is_empty() {
            tally.verdicts.entry(check).or_default().push(result.verdict);
        }
        if !result.findings.is_empty() {
            with_findings.push(at);
        }
    }
    if with_findings.is_empty() {
        return Ok(());
    }
    let (shared, limits, cancelled) = (Arc::clone(read), server.limits, client.cancelled().clone());
    let rules = Arc::clone(&server.user_rules);
    let done = server.workers.run(move || {
        let files = state(&shared.collected, staged).map(|change| change.files.as_slice()).unwrap_or_default();
        told_apart(&rules, files, &with_findings, check, limits, &|| cancelled.is_cancelled())
    })?;
    let Ok((added, existing)) = done.await else {
        tally.doubt(check, "the check stopped unexpectedly; report this as a bug".to_owned());
        return Ok(());
    };
    tally.verdicts.entry(check).or_default().push(of_findings(added.iter().map(|located| &located.finding)));
    tally.added.extend(added);
    tally.existing.extend(existing);
    Ok(())
}

/// Tells the findings of `files`, those with the numbers `with_findings`, apart: new ones, and those that existed in
/// any file of the change.
fn told_apart(
    rules: &UserRules,
    files: &[FileChange],
    with_findings: &[usize],
    check: Check,
    limits: Limits,
    stop: &dyn Fn() -> bool,
) -> (Vec<Located>, Vec<Located>) {
    let now: Vec<Vec<Finding>> = files
        .iter()
        .enumerate()
        .map(|(at, file)| {
            let wanted = with_findings.contains(&at);
            if wanted {
                verify::all_findings(rules, check, &file.path, file.after_text(), limits, stop)
            } else {
                Vec::new()
            }
        })
        .collect();
    let pairs: Vec<FilePair<'_>> = files
        .iter()
        .zip(&now)
        .map(|(file, now)| FilePair {
            before_text: file.before_text(),
            after_text: file.after_text(),
            before: verify::all_findings(rules, check, file.before_path(), file.before_text(), limits, stop)
                .iter()
                .map(Trace::of)
                .collect(),
            after: now.iter().map(Trace::of).collect(),
        })
        .collect();
    let (mut added, mut existing) = (Vec::new(), Vec::new());
    for ((file, now), known) in files.iter().zip(&now).zip(baseline::existed(&pairs)) {
        for (finding, known) in now.iter().zip(known) {
            let located = Located { path: file.path.clone(), check, finding: finding.clone() };
            if known { existing.push(located) } else { added.push(located) }
        }
    }
    (added, existing)
}

fn state(collected: &Collected, staged: bool) -> Option<&Change> {
    if staged { collected.staged.as_ref() } else { Some(&collected.working) }
}

impl Tally {
    /// Notes that a check could not tell, and why.
    fn doubt(&mut self, check: Check, why: String) {
        self.verdicts.entry(check).or_default().push(Verdict::Inconclusive);
        self.reason.get_or_insert(why);
    }
}

fn of_findings<'f>(findings: impl Iterator<Item = &'f Finding>) -> Verdict {
    Verdict::all(findings.map(|finding| match finding.severity.as_deref() {
        Some("error") => Verdict::Blocked,
        Some("note") => Verdict::Pass,
        _ => Verdict::Fail,
    }))
    .max(Verdict::Pass)
}

fn report(server: &Ralph, read: &Read, mut tally: Tally, wanted: &[Check], skip: usize, limit: usize) -> ChangesReport {
    let order = |located: &Located| {
        let finding = &located.finding;
        (
            finding.severity.as_deref() != Some("error"),
            located.path.clone(),
            finding.line,
            finding.rule.clone(),
            finding.message.clone(),
        )
    };
    for list in [&mut tally.added, &mut tally.existing] {
        list.sort_by_key(order);
        // The same in the working tree and in the index.
        list.dedup_by(|left, right| left.path == right.path && left.finding == right.finding);
    }
    let files_changed =
        read.collected.working.files.len().max(read.collected.staged.as_ref().map_or(0, |change| change.files.len()));
    let mut verdict = Verdict::all(tally.verdicts.values().flatten().copied());
    let mut reason = tally.reason;
    if let Some(why) = &read.collected.incomplete {
        verdict = verdict.max(Verdict::Inconclusive);
        reason = Some(why.clone());
    }
    if files_changed == 0 && read.collected.incomplete.is_none() {
        reason = Some("nothing differs from the base".to_owned());
    }
    let all = in_force(server).iter().all(|check| wanted.contains(check));
    let is_bad = |located: &Located| located.finding.severity.as_deref() != Some("note");
    let safe_to_merge = verdict == Verdict::Pass && !tally.added.iter().any(is_bad) && all && !read.is_partial;
    if verdict == Verdict::Pass && !safe_to_merge {
        reason = Some(if read.is_partial {
            "commits of the branch before `base` were not looked at; leave `base` out".to_owned()
        } else {
            "not every check was asked for".to_owned()
        });
    }
    let counted = |list: &[Located], check: Check| list.iter().filter(|located| located.check == check).count();
    let checks = tally
        .verdicts
        .iter()
        .map(|(check, verdicts)| Counted {
            check: *check,
            verdict: Verdict::all(verdicts.iter().copied()),
            new: counted(&tally.added, *check),
            existing: counted(&tally.existing, *check),
        })
        .collect();
    let rest = tally.added.len().saturating_sub(skip);
    let next_cursor = (rest > limit).then(|| (skip + limit).to_string());
    tally.existing.truncate(EXISTING_MAX);
    ChangesReport {
        verdict,
        safe_to_merge,
        reason,
        repository: if read.shown.is_empty() { ".".to_owned() } else { read.shown.clone() },
        base: read.base.clone(),
        base_commit: read.base_commit.map(|id| id.to_string()),
        files_changed,
        checks,
        findings: tally.added.into_iter().skip(skip).take(limit).collect(),
        existing: tally.existing,
        next_cursor,
        sarif: None,
    }
}

/// Returns the checks that there are here: of those made of commands, the ones that have any.
fn in_force(server: &Ralph) -> Vec<Check> {
    let configured: Vec<Check> = server.commands.iter().map(|command| command.check).collect();
    Check::ALL.into_iter().filter(|check| !check.is_command() || configured.contains(check)).collect()
}

/// Records what was found of a tree that somebody may merge: only of a whole one, by every check.
async fn record(
    server: &Arc<Ralph>,
    client: &Client<'_>,
    read: &Read,
    report: &ChangesReport,
    wanted: &[Check],
) -> Result<(), Refusal> {
    let (Some(tree), Some(repository)) = (read.collected.tree, &read.common) else { return Ok(()) };
    if wanted != Check::ALL || report.files_changed == 0 {
        return Ok(());
    }
    let mut checks: Vec<String> = in_force(server).iter().map(|check| check.name().to_owned()).collect();
    checks.sort();
    let verified = VerifiedTree {
        repository: repository.clone(),
        tree: tree.to_string(),
        base: read.base_tree.map(|tree| tree.to_string()),
        verdict: report.verdict.name().to_owned(),
        checks,
        rules: rules(server, client).await?,
        configuration: server.rules,
    };
    client.decide(VERIFIED, report.verdict.name(), verified.detail());
    Ok(())
}

/// Returns what tells one set of rules, with the tools behind the operator's commands, from another.
async fn rules(server: &Arc<Ralph>, client: &Client<'_>) -> Result<ContentHash, Refusal> {
    let nothing = ContentHash::of(b"");
    let mut hash = ContentHash::builder("ralph.rules").field(env!("CARGO_PKG_VERSION").as_bytes());
    for check in Check::ALL {
        for language in crate::language::Language::ALL {
            hash = hash.field(check.key(&nothing, Some(language.into())).as_bytes());
        }
    }
    if let Some(digest) = server.user_rules.digest() {
        hash = hash.field(digest.as_bytes());
    }
    if server.commands.iter().next().is_some() {
        let (shared, cancelled) = (Arc::clone(server), client.cancelled().clone());
        let digest = client
            .blocking(move || shared.commands.digest(&|| cancelled.is_cancelled()).map_err(|error| error.refusal()));
        hash = hash.field(digest.await?.as_bytes());
    }
    Ok(hash.finish())
}
