//! `verify_changes`: what the working tree changes against a commit, with the guardrails that need a before and an after.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use git2::Oid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::ledger::verified::{VERIFIED, VerifiedTree};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Ralph;
use crate::baseline::{self, FilePair, Trace};
use crate::changes::{self, Collected};
use crate::check::guardrail::change::{self, Change, FileChange, Findings};
use crate::check::syntax::Limits;
use crate::check::{Check, Finding, Verdict};
use crate::repository::{Repository, Unreadable};
use crate::roots::{Place, Roots};
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
}

#[derive(Serialize, JsonSchema)]
struct ChangesReport {
    /// The gravest of what the change adds; only pass is a pass
    verdict: Verdict,
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
    collected: Collected,
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
         each file it compares before and after: deleted, skipped or weakened tests, new suppressions, lowered \
         thresholds, removed CI steps, lockfiles, governance files. Only what the change adds counts. Call it before \
         every commit and merge.",
        Effect::Reads,
        Price::Metered(verify::SKUS),
    )
    .handler(run)
}

async fn run(server: Arc<Ralph>, request: VerifyChangesRequest, call: Call) -> Result<Answer<ChangesReport>, Refusal> {
    let wanted = Check::wanted(request.checks.as_deref())?;
    if let Some(check) = wanted.iter().find(|check| request.checks.is_some() && check.is_command()) {
        return Err(Refusal::refused(
            "unknown_check",
            format!("verify_changes does not run commands, and {} is made of them", check.name()),
            "name it in `checks` of verify_batch, with the changed files",
        ));
    }
    let limit = request.limit.unwrap_or(LISTED_DEFAULT).clamp(1, LISTED_MAX);
    let skip = request.cursor.as_deref().map_or(Ok(0), |cursor| {
        cursor.parse::<usize>().map_err(|_| {
            Refusal::invalid_arguments("`cursor` is not one that this tool gave", "take it from `next_cursor`")
        })
    })?;
    if let Some(base) = &request.base
        && (base.is_empty() || base.len() > 256 || base.starts_with('-') || base.chars().any(char::is_control))
    {
        return Err(Refusal::invalid_arguments(
            format!("`base` {} is no name of a commit", crate::roots::quoted(base)),
            "name a branch, a tag or a commit, or leave `base` out",
        ));
    }
    let place = match &request.repo_path {
        Some(path) => server.roots.place(path)?,
        None => server.roots.first().ok_or_else(|| server.roots.outside("."))?,
    };
    let read = Arc::new(read(&server, &call, place, request.base).await?);
    let tally = verify_all(&server, &call, &read, &wanted).await?;
    let report = report(&read, tally, &wanted, skip, limit);
    record(&server, &call, &read, &report, &wanted);
    Ok(Answer::new(report))
}

/// Reads the repository in a thread of its own: one that waits for ever, for a file system or a pipe that was put in
/// the place of a file meanwhile, holds up nobody but itself.
async fn read(server: &Arc<Ralph>, call: &Call, place: Place, base: Option<String>) -> Result<Read, Refusal> {
    let (roots, bytes_max, cancelled) = (Arc::clone(&server.roots), server.limits.bytes_max, call.cancelled().clone());
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let started = std::thread::Builder::new().name("repository".to_owned()).spawn(move || {
        let until = Instant::now() + READ_MAX;
        let in_time = || Instant::now() < until && !cancelled.is_cancelled();
        drop(sender.send(read_now(&roots, &place, base.as_deref(), bytes_max, &in_time)));
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
        () = call.cancelled().cancelled() => Err(Refusal::cancelled()),
    }
}

fn read_now(
    roots: &Arc<Roots>,
    place: &Place,
    base: Option<&str>,
    bytes_max: usize,
    in_time: &dyn Fn() -> bool,
) -> Result<Read, Refusal> {
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
    let usual = usual_base(&repository, head).map_err(unreadable)?;
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
    Ok(Read {
        shown: repository.worktree.shown.clone(),
        common: repository.common_directory(),
        base: name,
        base_commit: commit,
        base_tree,
        is_partial,
        collected,
    })
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

async fn verify_all(server: &Arc<Ralph>, call: &Call, read: &Arc<Read>, wanted: &[Check]) -> Result<Tally, Refusal> {
    let mut tally = Tally::default();
    if wanted.contains(&Check::Guardrail) && !read.collected.working.files.is_empty()
        || read.collected.staged.is_some() && wanted.contains(&Check::Guardrail)
    {
        guardrail(server, call, read, &mut tally).await?;
    }
    for check in wanted.iter().filter(|check| **check != Check::Guardrail) {
        for staged in [false, true] {
            each(server, call, read, staged, *check, &mut tally).await?;
        }
    }
    let files = read.collected.working.files.len();
    call.charge(verify::BASE_SKU, files as u64);
    Ok(tally)
}

fn states(collected: &Collected) -> impl Iterator<Item = &Change> {
    std::iter::once(&collected.working).chain(&collected.staged)
}

async fn guardrail(server: &Arc<Ralph>, call: &Call, read: &Arc<Read>, tally: &mut Tally) -> Result<(), Refusal> {
    let (shared, cancelled, limits) = (Arc::clone(read), call.cancelled().clone(), server.limits);
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
    call.charge(crate::check::guardrail::SKU, read.collected.working.files.len().max(1) as u64);
    let located = |found: change::Found| Located { path: found.path, check: Check::Guardrail, finding: found.finding };
    for findings in found {
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

/// Runs one check over each file of the change, and, where there is anything to tell apart, over what was before.
async fn each(
    server: &Arc<Ralph>,
    call: &Call,
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
        let Some((result, cached)) = verify::one_check(server, call, &file.path, text, check).await? else { continue };
        if cached {
            call.save(check.sku(), 1);
        } else {
            call.charge(check.sku(), 1);
        }
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
    let (shared, limits, cancelled) = (Arc::clone(read), server.limits, call.cancelled().clone());
    let done = server.workers.run(move || {
        let files = state(&shared.collected, staged).map(|change| change.files.as_slice()).unwrap_or_default();
        told_apart(files, &with_findings, check, limits, &|| cancelled.is_cancelled())
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
            if wanted { verify::all_findings(check, &file.path, file.after_text(), limits, stop) } else { Vec::new() }
        })
        .collect();
    let pairs: Vec<FilePair<'_>> = files
        .iter()
        .zip(&now)
        .map(|(file, now)| FilePair {
            before_text: file.before_text(),
            after_text: file.after_text(),
            before: verify::all_findings(check, file.before_path(), file.before_text(), limits, stop)
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
    Verdict::all(
        findings
            .map(|finding| if finding.severity.as_deref() == Some("error") { Verdict::Blocked } else { Verdict::Fail }),
    )
    .max(Verdict::Pass)
}

fn report(read: &Read, mut tally: Tally, wanted: &[Check], skip: usize, limit: usize) -> ChangesReport {
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
    let all = [Check::Syntax, Check::Security, Check::Guardrail].iter().all(|check| wanted.contains(check));
    let safe_to_merge = verdict == Verdict::Pass && tally.added.is_empty() && all && !read.is_partial;
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
    }
}

/// Records what was found of a tree that somebody may merge: only of a whole one, by every check.
fn record(server: &Ralph, call: &Call, read: &Read, report: &ChangesReport, wanted: &[Check]) {
    let (Some(tree), Some(repository)) = (read.collected.tree, &read.common) else { return };
    if wanted != Check::ALL || report.files_changed == 0 {
        return;
    }
    // What the operator's commands would say is not a part of this.
    let done = wanted.iter().filter(|check| !check.is_command());
    let mut checks: Vec<String> = done.map(|check| check.name().to_owned()).collect();
    checks.sort();
    let verified = VerifiedTree {
        repository: repository.clone(),
        tree: tree.to_string(),
        base: read.base_tree.map(|tree| tree.to_string()),
        verdict: report.verdict.name().to_owned(),
        checks,
        rules: rules(),
        configuration: server.rules,
    };
    call.decide(VERIFIED, report.verdict.name(), verified.detail());
}

/// Returns what tells one set of rules from another.
fn rules() -> ContentHash {
    let nothing = ContentHash::of(b"");
    let mut hash = ContentHash::builder("ralph.rules").field(env!("CARGO_PKG_VERSION").as_bytes());
    for check in Check::ALL {
        for language in crate::language::Language::ALL {
            hash = hash.field(check.key(&nothing, Some(language.into())).as_bytes());
        }
    }
    hash.finish()
}
