//! Files from their bytes to their verdicts: cache, claims, checks.
//!
//! Files are worked on in groups, each in one go on one thread: read and hashed, looked up with one query, checked
//! where nothing was found, and remembered with one commit. What another process is just checking is left for
//! later and then taken from the cache, so that however many ask, each piece of work is done once.

use std::collections::HashSet;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::mpsc;
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::refusal::Refusal;

use crate::Ralph;
use crate::cache::claims::Claims;
use crate::check::security::Looked;
use crate::check::security::user::UserRules;
use crate::check::syntax::Limits;
use crate::check::trees::Trees;
use crate::check::{Check, CheckResult, FINDINGS_MAX, Finding, Verdict, guardrail, security, syntax};
use crate::client::Client;
use crate::language::{Language, SourceType};
use crate::repository::Repository;
use crate::roots::{Place, Roots, Unread};

/// What every verified file is charged as, beside its checks.
pub const BASE_SKU: &str = "ralph.base";

/// Everything that a file may be charged as.
pub const SKUS: &[&str] = &[
    BASE_SKU,
    syntax::SKU,
    security::SKU,
    guardrail::SKU,
    "ralph.check.formatting",
    "ralph.check.linting",
    "ralph.check.type_checking",
    "ralph.check.tests",
];

/// Files of one group: enough that a look-up or a commit costs nothing beside them, few enough that a single file
/// that somebody else asks for does not wait long for its turn.
const GROUP_FILES: usize = 32;

/// Bytes after which a group takes no further file: what it read is in memory until it is done.
const GROUP_BYTES: usize = 1024 * 1024;

/// First and longest pause between two looks at whether another process is done.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// Time after which claims are given back, with what was found: those who wait should not wait for a whole group.
const CLAIMED_MAX: Duration = Duration::from_millis(50);

/// Most checks of one file, the guardrails with and without a base.
const CHECKS_MAX: u32 = 4;

/// Longest beyond what the checks themselves may take that another process is waited for: one that was stopped,
/// not ended, still holds its claims.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was found out about one file.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FileReport {
    /// The file
    pub path: String,
    /// pass, fail, blocked, skipped or inconclusive; only pass is a pass
    pub verdict: Verdict,
    /// Why it was skipped or is inconclusive
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the file was checked as
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// SHA-256 of the content that the verdict is about
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<ContentHash>,
    /// Whether every check of it was answered from the cache
    pub from_cache: bool,
    /// What each check found
    pub checks: Vec<CheckResult>,
}

/// What is to be verified: a file as it is on disk, or as it is about to be.
#[derive(Debug)]
pub struct Subject {
    /// How the answer names it.
    shown: String,
    /// Where the file is, or would be; nothing for a state of a file that a commit or the index holds.
    place: Option<Place>,
    /// What it is about to hold.
    content: Option<Vec<u8>>,
}

/// A report, and what it took to get it.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The report.
    pub report: FileReport,
    /// Checks that ran.
    pub ran: Vec<Check>,
    /// Checks that were answered from the cache.
    pub reused: Vec<Check>,
}

/// How a number of files is to be verified.
#[derive(Clone)]
pub struct Order {
    /// The checks, in the order in which they run.
    pub checks: Vec<Check>,
    /// Whether no further file is begun after one that fails.
    pub stop_on_failure: bool,
    /// Whether the answer is no longer wanted.
    pub cancelled: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl FileReport {
    fn unchecked(path: &str, verdict: Verdict, reason: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            verdict,
            reason: Some(reason.into()),
            language: None,
            sha256: None,
            from_cache: false,
            checks: Vec::new(),
        }
    }
}

impl Subject {
    /// The file at `place` as it is on disk.
    #[must_use]
    pub fn on_disk(place: Place) -> Self {
        Self { shown: place.shown.clone(), place: Some(place), content: None }
    }

    /// The file at `place` once it holds `content`.
    #[must_use]
    pub fn given(place: Place, content: Vec<u8>) -> Self {
        Self { shown: place.shown.clone(), place: Some(place), content: Some(content) }
    }

    fn text(path: &str, text: &str) -> Self {
        Self { shown: path.to_owned(), place: None, content: Some(text.as_bytes().to_vec()) }
    }
}

impl Verified {
    /// Counts what was used.
    pub fn charge(&self, client: &Client<'_>) {
        for check in &self.reused {
            client.count(check.sku(), 1, true);
        }
        for check in &self.ran {
            client.count(check.sku(), 1, false);
        }
        if !(self.ran.is_empty() && self.reused.is_empty()) {
            client.count(BASE_SKU, 1, self.ran.is_empty());
        }
    }

    fn unchecked(report: FileReport) -> Self {
        Self { report, ran: Vec::new(), reused: Vec::new() }
    }
}

impl Order {
    /// The `checks` that `client` asks for, as long as it wants the answer.
    #[must_use]
    pub fn of(client: &Client<'_>, checks: &[Check]) -> Self {
        let token = client.cancelled().clone();
        Self { checks: checks.to_vec(), stop_on_failure: false, cancelled: Arc::new(move || token.is_cancelled()) }
    }
}

/// Verifies the file at `place` as it is on disk.
///
/// # Errors
///
/// `internal_error` alone; a file that cannot be read is `inconclusive`.
pub async fn verify_on_disk(
    server: &Arc<Ralph>,
    client: &Client<'_>,
    place: Place,
    wanted: &[Check],
) -> Result<FileReport, Refusal> {
    verify_one(server, client, Subject::on_disk(place), wanted).await
}

/// Verifies `content` as what the file at `place` is about to be.
///
/// # Errors
///
/// `internal_error` alone.
pub async fn verify_given(
    server: &Arc<Ralph>,
    client: &Client<'_>,
    place: Place,
    content: String,
    wanted: &[Check],
) -> Result<FileReport, Refusal> {
    verify_one(server, client, Subject::given(place, content.into_bytes()), wanted).await
}

async fn verify_one(
    server: &Arc<Ralph>,
    client: &Client<'_>,
    subject: Subject,
    wanted: &[Check],
) -> Result<FileReport, Refusal> {
    let mut found = None;
    verify_each(server, Order::of(client, wanted), vec![subject], |verified| {
        verified.charge(client);
        found = Some(verified.report);
    })
    .await?;
    found.ok_or_else(Refusal::cancelled)
}

/// Runs one check of the text `content` of the file `path`; nothing where the check does not know such files. Says
/// whether it was answered from the cache.
pub(crate) async fn one_check(
    server: &Arc<Ralph>,
    client: &Client<'_>,
    path: &str,
    content: &str,
    check: Check,
) -> Result<Option<(CheckResult, bool)>, Refusal> {
    let mut found = None;
    verify_each(server, Order::of(client, &[check]), vec![Subject::text(path, content)], |verified| {
        found = Some(verified);
    })
    .await?;
    let Verified { mut report, ran, .. } = found.ok_or_else(Refusal::cancelled)?;
    Ok(match (report.checks.pop(), report.reason) {
        (Some(result), _) => Some((result, ran.is_empty())),
        (None, Some(reason)) if report.verdict == Verdict::Inconclusive => {
            Some((CheckResult::inconclusive(check, reason), false))
        }
        (None, _) => None,
    })
}

/// Returns all that a check finds in the text of the file `path`, however much it is.
pub(crate) fn all_findings(
    rules: &UserRules,
    check: Check,
    path: &str,
    text: &str,
    limits: Limits,
    stop: &dyn Fn() -> bool,
) -> Vec<Finding> {
    if text.is_empty() {
        return Vec::new();
    }
    let source = SourceType::of(Path::new(path), text.as_bytes());
    let trees = &Trees::new(text.as_bytes());
    match (check, source) {
        (Check::Syntax, Some(source)) => syntax::check_up_to(source, trees, limits, stop, usize::MAX).findings,
        (Check::Security, source) => {
            let looked = Looked { rules, path, source, trees };
            security::check_up_to(&looked, limits, stop, usize::MAX).findings
        }
        _ => Vec::new(),
    }
}

/// Verifies `subjects` and hands each result to `seen` as it comes, in no certain order.
///
/// With `stop_on_failure`, and when the answer is no longer wanted, `seen` does not get all of them.
///
/// # Errors
///
/// `internal_error` when no thread can be started.
pub async fn verify_each(
    server: &Arc<Ralph>,
    order: Order,
    subjects: Vec<Subject>,
    mut seen: impl FnMut(Verified),
) -> Result<(), Refusal> {
    server.cache.open().await;
    let (total, mut told) = (subjects.len(), 0);
    let threads = server.workers.threads()?.min(total);
    let (results, mut received) = mpsc::unbounded_channel();
    let batch = Arc::new(Batch {
        server: Arc::clone(server),
        order,
        next: AtomicUsize::new(0),
        contended: Mutex::default(),
        stopped: AtomicBool::new(false),
        subjects: subjects.into_iter().map(|subject| Mutex::new(Some(subject))).collect(),
    });
    for _ in 0..threads {
        go_on(&batch, results.clone());
    }
    drop(results);
    while let Some(verified) = received.recv().await {
        told += 1;
        seen(verified);
    }
    // A file that is missing from the answer must not look like one that is well.
    if told < total && !batch.is_over() {
        return Err(Refusal::failed(
            "internal_error",
            "some files were not verified because a thread stopped",
            "report this as a bug",
        ));
    }
    Ok(())
}

/// The files of one call, while they are worked on.
struct Batch {
    server: Arc<Ralph>,
    order: Order,
    subjects: Vec<Mutex<Option<Subject>>>,
    /// The next one that nobody has begun.
    next: AtomicUsize,
    /// Those that another process was at work on.
    contended: Mutex<Vec<Subject>>,
    stopped: AtomicBool,
}

/// A file whose bytes are in memory, and what follows from them alone.
struct Loaded {
    subject: Subject,
    content: Vec<u8>,
    hash: ContentHash,
    source: Option<SourceType>,
    /// Whether the content was given, not read.
    is_given: bool,
    /// Those that apply, each with the key of its result.
    checks: Vec<(Check, ContentHash)>,
    found: Vec<Option<CheckResult>>,
    against: Against,
    /// What keeps other processes from the same work.
    claim: ContentHash,
}

/// What the guardrails of a file were held against.
///
/// Most files have nothing that a guardrail is about; the others are compared with what the last commit has, and what
/// they were found to have on their own is a result of its own.
enum Against {
    /// Nothing yet.
    Nothing,
    /// What the last commit has there, if that can be told.
    Committed { base: Option<Vec<u8>>, alone: Option<(ContentHash, CheckResult)> },
}

/// Works on one group, then gets in line again behind what others asked for meanwhile.
fn go_on(batch: &Arc<Batch>, results: mpsc::UnboundedSender<Verified>) {
    let next = Arc::clone(batch);
    let work = move || {
        if batch_step(&next, &results) {
            go_on(&next, results);
        }
    };
    batch.server.workers.spawn(work);
}

/// Works on one group; returns whether there is more to do.
fn batch_step(batch: &Batch, results: &mpsc::UnboundedSender<Verified>) -> bool {
    // Nobody waits any more for a call that was taken back.
    if results.is_closed() || batch.is_over() {
        return false;
    }
    let group = batch.begin();
    if !group.is_empty() {
        batch.work_on(group, false, results);
        return true;
    }
    let contended = mem::take(&mut *lock(&batch.contended));
    if !contended.is_empty() {
        batch.work_on(contended, true, results);
    }
    false
}

impl Batch {
    fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || (self.order.cancelled)()
    }

    /// Takes the next files that nobody has begun.
    fn begin(&self) -> Vec<Subject> {
        // Spread over the threads; one by one where each decides whether there is a next.
        let files = if self.order.stop_on_failure { 1 } else { GROUP_FILES.min(self.subjects.len() / 4).max(1) };
        let first = self.next.fetch_add(files, Ordering::Relaxed);
        self.subjects.iter().skip(first).take(files).filter_map(|slot| lock(slot).take()).collect()
    }

    /// Verifies `group`; with `waits`, also what another process is at work on.
    fn work_on(&self, group: Vec<Subject>, waits: bool, results: &mpsc::UnboundedSender<Verified>) {
        let mut group = group.into_iter();
        loop {
            let (mut loaded, mut bytes) = (Vec::new(), 0);
            while bytes < GROUP_BYTES
                && let Some(subject) = group.next()
            {
                match self.load(subject) {
                    Ok(file) => {
                        bytes += file.content.len();
                        loaded.push(file);
                    }
                    Err(report) => self.tell(Verified::unchecked(report), results),
                }
            }
            if loaded.is_empty() && group.len() == 0 || self.is_over() {
                return;
            }
            self.look_up(&mut loaded);
            let (known, missing): (Vec<_>, Vec<_>) = loaded.into_iter().partition(Loaded::is_complete);
            for file in known {
                self.tell(file.finish(Vec::new()), results);
            }
            if !missing.is_empty() {
                self.check_all(missing, waits, results);
            }
        }
    }

    /// Checks what nobody else is at work on; with `waits`, then the rest.
    fn check_all(&self, missing: Vec<Loaded>, waits: bool, results: &mpsc::UnboundedSender<Verified>) {
        let claims = self.server.cache.claims();
        let (mut here, mut theirs) = (HashSet::new(), Vec::new());
        let (mut done, mut since) = (Vec::new(), Instant::now());
        for file in missing {
            if self.is_over() {
                break;
            }
            // Two files of one content are one piece of work.
            if let Some(claims) = &claims
                && !(here.insert(file.claim) && claims.take(&file.claim))
            {
                theirs.push(file);
                continue;
            }
            done.push(self.check(file));
            if since.elapsed() >= CLAIMED_MAX {
                self.settle(mem::take(&mut done), claims.as_ref(), results);
                since = Instant::now();
            }
        }
        self.settle(done, claims.as_ref(), results);
        match claims {
            Some(claims) if waits => theirs.into_iter().for_each(|file| self.wait_for(file, &claims, results)),
            _ => lock(&self.contended).extend(theirs.into_iter().map(Loaded::unload)),
        }
    }

    /// Takes what another process finds in `file`, or checks it once that process has ended without.
    fn wait_for(&self, mut file: Loaded, claims: &Claims, results: &mpsc::UnboundedSender<Verified>) {
        let patience = self.server.limits.duration_max.saturating_mul(CHECKS_MAX) + PATIENCE;
        let (since, mut pause) = (Instant::now(), PAUSES.0);
        while !self.is_over() {
            let is_ours = claims.take(&file.claim);
            self.look_up(std::slice::from_mut(&mut file));
            let is_late = since.elapsed() > patience;
            if is_ours || is_late || file.is_complete() {
                if is_late && !is_ours {
                    tracing::warn!("another process does not finish; its work is done again");
                }
                let done = vec![self.check(file)];
                // Whoever else waits can take it from the cache then.
                return self.settle(done, is_ours.then_some(claims), results);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Runs what was not found of `file`, unless somebody found it since; returns the checks that ran.
    fn check(&self, mut file: Loaded) -> (Loaded, Vec<Check>) {
        self.look_up(std::slice::from_mut(&mut file));
        let mut ran = Vec::new();
        let content = mem::take(&mut file.content);
        let trees = Trees::new(&content);
        // Once more for guardrails that turn out to need what was before.
        while !file.is_complete() {
            for at in 0..file.checks.len() {
                let check = file.checks[at].0;
                if file.found[at].is_none() {
                    file.found[at] = Some(self.run(check, &file, &trees));
                    // A file's guardrails are one piece of work, however often they had to look.
                    if !ran.contains(&check) {
                        ran.push(check);
                    }
                }
            }
            if self.compare(&mut file, true) {
                self.look_up(std::slice::from_mut(&mut file));
            }
        }
        (file, ran)
    }

    /// Remembers what ran, gives the claims back, and tells.
    fn settle(
        &self,
        done: Vec<(Loaded, Vec<Check>)>,
        claims: Option<&Claims>,
        results: &mpsc::UnboundedSender<Verified>,
    ) {
        let fresh = done.iter().flat_map(|(file, ran)| {
            let results = file.checks.iter().zip(&file.found).filter(|((check, _), _)| ran.contains(check));
            let results = results.filter_map(|((_, key), found)| Some((*key, found.as_ref()?)));
            results.chain(file.against.alone())
        });
        self.server.cache.put(&fresh.collect::<Vec<_>>());
        for (file, ran) in done {
            if let Some(claims) = claims {
                claims.give_back(&file.claim);
            }
            self.tell(file.finish(ran), results);
        }
    }

    fn run(&self, check: Check, file: &Loaded, trees: &Trees<'_>) -> CheckResult {
        let (source, limits) = (file.source, self.server.limits);
        let stop = || (self.order.cancelled)();
        let work = AssertUnwindSafe(|| match check {
            Check::Syntax => match source {
                Some(source) => syntax::check(source, trees, limits, &stop),
                None => CheckResult::inconclusive(check, "no parser knows this kind of file"),
            },
            Check::Security => {
                let rules = &self.server.user_rules;
                let looked = Looked { rules, path: &file.subject.shown, source, trees };
                security::check_up_to(&looked, limits, &stop, FINDINGS_MAX)
            }
            Check::Guardrail => guardrail::check(&file.subject.shown, trees, file.against.base(), limits, &stop),
            Check::Formatting | Check::Linting | Check::TypeChecking | Check::Tests => {
                CheckResult::inconclusive(check, "it is made of commands")
            }
        });
        // A parser that panics has not verified anything.
        catch_unwind(work).unwrap_or_else(|_| {
            tracing::error!(check = check.name(), "a check panicked");
            CheckResult::inconclusive(check, "the check stopped unexpectedly; report this as a bug")
        })
    }

    /// Reads what is to be verified, or reports why it is not.
    fn load(&self, mut subject: Subject) -> Result<Loaded, FileReport> {
        let bytes_max = self.server.limits.bytes_max;
        let given = subject.content.take();
        let is_given = given.is_some();
        let content = match (given, &subject.place) {
            (Some(content), _) if content.len() > bytes_max => Err(Unread::TooLarge),
            (Some(content), _) => Ok(content),
            (None, Some(place)) => self.server.roots.read(place, bytes_max),
            (None, None) => Err(Unread::Missing),
        };
        let path = &subject.shown;
        let content =
            content.map_err(|unread| FileReport::unchecked(path, Verdict::Inconclusive, reason(&unread, bytes_max)))?;
        let hash = ContentHash::of(&content);
        let source = SourceType::of(Path::new(path), &content);
        // Secrets and suppressions are looked for in any text; the other checks must know the language.
        let is_text = source.is_some() || std::str::from_utf8(&content).is_ok_and(|text| !text.contains('\0'));
        // Commands come afterwards, for many files at once.
        let applies = |check: &Check| {
            !check.is_command() && (source.is_some() || matches!(check, Check::Security | Check::Guardrail) && is_text)
        };
        let key = |check: Check| match check {
            Check::Guardrail => guardrail_key(path, &hash, source, b""),
            Check::Security => {
                let plain = check.key(&hash, source);
                let rules = self.server.user_rules.key(source.map(|source| source.language), path);
                rules.map_or(plain, |rules| {
                    ContentHash::builder("ralph.security").field(plain.as_bytes()).field(rules.as_bytes()).finish()
                })
            }
            _ => check.key(&hash, source),
        };
        let checks: Vec<(Check, ContentHash)> =
            self.order.checks.iter().copied().filter(applies).map(|check| (check, key(check))).collect();
        if checks.is_empty() {
            let is_known = source.is_some() && self.order.checks.iter().any(|check| check.is_command());
            let reason = if is_known { "no command is configured for it" } else { "no check knows this kind of file" };
            let report = FileReport::unchecked(path, Verdict::Skipped, reason);
            let language = source.map(|source| source.language);
            return Err(FileReport { sha256: Some(hash), language, ..report });
        }
        let claim = ContentHash::builder("ralph.claim")
            .field(hash.as_bytes())
            .field(source.map_or("", |source| source.language.name()).as_bytes())
            .field(source.map_or("", |source| source.module.name()).as_bytes())
            .finish();
        let found = vec![None; checks.len()];
        Ok(Loaded { subject, content, is_given, hash, source, checks, found, against: Against::Nothing, claim })
    }

    /// Looks up what is not known yet of `files`.
    fn look_up(&self, files: &mut [Loaded]) {
        self.look_up_once(files);
        let mut is_compared = false;
        for file in files.iter_mut() {
            is_compared |= self.compare(file, false);
        }
        if is_compared {
            self.look_up_once(files);
        }
    }

    fn look_up_once(&self, files: &mut [Loaded]) {
        let missing = |file: &Loaded| {
            let slots = file.checks.iter().zip(&file.found).filter(|(_, found)| found.is_none());
            slots.map(|((_, key), _)| *key).collect::<Vec<_>>()
        };
        let keys: Vec<ContentHash> = files.iter().flat_map(missing).collect();
        if keys.is_empty() {
            return;
        }
        let mut results = self.server.cache.get(&keys).into_iter();
        for slot in files.iter_mut().flat_map(|file| &mut file.found).filter(|slot| slot.is_none()) {
            *slot = results.next().flatten();
        }
    }

    /// Asks for guardrails held against the last commit where `file` on its own has something that one is about;
    /// returns whether they are to be found out now. A result that is `fresh` is kept to be remembered.
    fn compare(&self, file: &mut Loaded, fresh: bool) -> bool {
        let Some(at) = file.checks.iter().position(|(check, _)| *check == Check::Guardrail) else { return false };
        let is_settled = |result: &CheckResult| matches!(result.verdict, Verdict::Pass | Verdict::Inconclusive);
        if !matches!(file.against, Against::Nothing) || file.found[at].as_ref().is_none_or(is_settled) {
            return false;
        }
        let bytes_max = self.server.limits.bytes_max;
        let base = file.subject.place.as_ref().and_then(|place| committed(&self.server.roots, place, bytes_max));
        let mut alone = None;
        if let Some(base) = &base {
            let key = guardrail_key(&file.subject.shown, &file.hash, file.source, ContentHash::of(base).as_bytes());
            let before = mem::replace(&mut file.checks[at].1, key);
            alone = file.found[at].take().filter(|_| fresh).map(|result| (before, result));
        }
        let is_compared = base.is_some();
        file.against = Against::Committed { base, alone };
        is_compared
    }

    fn tell(&self, verified: Verified, results: &mpsc::UnboundedSender<Verified>) {
        if self.order.stop_on_failure && verified.report.verdict >= Verdict::Fail {
            self.stopped.store(true, Ordering::Relaxed);
        }
        // Whoever asked may be gone.
        let _ = results.send(verified);
    }
}

impl Loaded {
    fn is_complete(&self) -> bool {
        self.found.iter().all(Option::is_some)
    }

    fn unload(mut self) -> Subject {
        self.subject.content = self.is_given.then_some(self.content);
        self.subject
    }

    /// Puts the results together; `ran` are the checks that were not answered from the cache.
    fn finish(self, ran: Vec<Check>) -> Verified {
        let checks: Vec<CheckResult> = self.found.into_iter().flatten().collect();
        let reused = checks.iter().map(|result| result.check).filter(|check| !ran.contains(check)).collect();
        let report = FileReport {
            path: self.subject.shown,
            verdict: Verdict::all(checks.iter().map(|result| result.verdict)),
            reason: checks.iter().find_map(|result| result.reason.clone()),
            language: self.source.map(|source| source.language),
            sha256: Some(self.hash),
            from_cache: ran.is_empty(),
            checks,
        };
        Verified { report, ran, reused }
    }
}

impl Against {
    fn base(&self) -> Option<&[u8]> {
        match self {
            Self::Nothing => None,
            Self::Committed { base, .. } => base.as_deref(),
        }
    }

    fn alone(&self) -> Option<(ContentHash, &CheckResult)> {
        match self {
            Self::Committed { alone: Some((key, result)), .. } => Some((*key, result)),
            _ => None,
        }
    }
}

/// Returns the key of the guardrails of a file, held against what has the hash `base`.
fn guardrail_key(path: &str, hash: &ContentHash, source: Option<SourceType>, base: &[u8]) -> ContentHash {
    let plain = Check::Guardrail.key(hash, source);
    let facts = guardrail::path_facts(path);
    ContentHash::builder("ralph.guardrail").field(plain.as_bytes()).field(facts.as_bytes()).field(base).finish()
}

/// Returns what the last commit has at `place`; nothing where that cannot be told.
fn committed(roots: &Arc<Roots>, place: &Place, bytes_max: usize) -> Option<Vec<u8>> {
    let repository = Repository::find(roots, place).ok()??;
    let head = repository.head().ok()??;
    let path = place.beneath(&repository.worktree)?;
    let entry = repository.file(repository.commit(head).ok()?.tree, path).ok()??;
    repository.blob(entry.id, bytes_max).ok()
}

/// Says why a file was not read.
#[must_use]
pub fn reason(unread: &Unread, bytes_max: usize) -> String {
    match unread {
        Unread::Missing => "there is no such file".to_owned(),
        Unread::NotAFile => "not a regular file".to_owned(),
        Unread::TooLarge => format!("larger than {bytes_max} bytes"),
        Unread::Outside => "a link leads out of the folders that this server may read".to_owned(),
        Unread::Failed(error) => format!("cannot be read: {error}"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
