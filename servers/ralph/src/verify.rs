//! One file from its bytes to its verdict: cache, checks, cost.

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::Call;

use crate::Ralph;
use crate::check::syntax::Limits;
use crate::check::{Check, CheckResult, Finding, Verdict, guardrail, security, syntax};
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

/// A file's bytes, and what follows from them alone.
struct Loaded {
    content: Vec<u8>,
    hash: ContentHash,
    source: Option<SourceType>,
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

/// Verifies the file at `place` as it is on disk.
///
/// # Errors
///
/// `internal_error` alone; a file that cannot be read is `inconclusive`.
pub async fn verify_on_disk(
    server: &Arc<Ralph>,
    call: &Call,
    place: Place,
    wanted: &[Check],
) -> Result<FileReport, Refusal> {
    let (roots, bytes_max) = (Arc::clone(&server.roots), server.limits.bytes_max);
    let (place, loaded) = call
        .blocking(move || {
            let content = roots.read(&place, bytes_max);
            let loaded = content.map(|content| load(&place.shown, content));
            Ok((place, loaded))
        })
        .await?;
    match loaded {
        Ok(loaded) => verify(server, call, &place, loaded, wanted).await,
        Err(unread) => Ok(FileReport::unchecked(&place.shown, Verdict::Inconclusive, reason(&unread, bytes_max))),
    }
}

/// Verifies `content` as what the file at `place` is about to be.
///
/// # Errors
///
/// `internal_error` alone.
pub async fn verify_given(
    server: &Arc<Ralph>,
    call: &Call,
    place: Place,
    content: String,
    wanted: &[Check],
) -> Result<FileReport, Refusal> {
    let bytes_max = server.limits.bytes_max;
    if content.len() > bytes_max {
        let reason = reason(&Unread::TooLarge, bytes_max);
        return Ok(FileReport::unchecked(&place.shown, Verdict::Inconclusive, reason));
    }
    let shown = place.shown.clone();
    let loaded = call.blocking(move || Ok(load(&shown, content.into_bytes()))).await?;
    verify(server, call, &place, loaded, wanted).await
}

fn load(path: &str, content: Vec<u8>) -> Loaded {
    let hash = ContentHash::of(&content);
    let source = SourceType::of(Path::new(path), &content);
    Loaded { content, hash, source }
}

async fn verify(
    server: &Arc<Ralph>,
    call: &Call,
    place: &Place,
    loaded: Loaded,
    wanted: &[Check],
) -> Result<FileReport, Refusal> {
    let path = place.shown.as_str();
    let source = loaded.source;
    // Secrets and suppressions are looked for in any text; the other checks must know the language.
    let is_text = source.is_some() || std::str::from_utf8(&loaded.content).is_ok_and(|text| !text.contains('\0'));
    // Commands come afterwards, for many files at once.
    let applies = |check: &Check| {
        !check.is_command() && (source.is_some() || matches!(check, Check::Security | Check::Guardrail) && is_text)
    };
    if !wanted.iter().any(applies) {
        let is_known = source.is_some() && wanted.iter().any(|check| check.is_command());
        let reason = if is_known { "no command is configured for it" } else { "no check knows this kind of file" };
        let report = FileReport::unchecked(path, Verdict::Skipped, reason);
        let language = source.map(|source| source.language);
        return Ok(FileReport { sha256: Some(loaded.hash), language, ..report });
    }
    let content = Arc::new(loaded.content);
    let mut checks = Vec::with_capacity(wanted.len());
    let mut from_cache = true;
    for check in wanted.iter().filter(|check| applies(check)) {
        let (result, cached) = match check {
            Check::Guardrail => guarded(server, call, place, source, &loaded.hash, &content).await?,
            _ => checked(server, call, *check, source, check.key(&loaded.hash, source), None, path, &content).await?,
        };
        if cached {
            call.save(check.sku(), 1);
        } else {
            call.charge(check.sku(), 1);
        }
        from_cache &= cached;
        checks.push(result);
    }
    if from_cache {
        call.save(BASE_SKU, 1);
    } else {
        call.charge(BASE_SKU, 1);
    }
    Ok(FileReport {
        path: path.to_owned(),
        verdict: Verdict::all(checks.iter().map(|result| result.verdict)),
        reason: checks.iter().find_map(|result| result.reason.clone()),
        language: source.map(|source| source.language),
        sha256: Some(loaded.hash),
        from_cache,
        checks,
    })
}

/// Runs one check of one content, or finds what it found before; says which.
#[expect(clippy::too_many_arguments, reason = "each is one part of what a result depends on")]
async fn checked(
    server: &Arc<Ralph>,
    call: &Call,
    check: Check,
    source: Option<SourceType>,
    key: ContentHash,
    base: Option<Arc<Vec<u8>>>,
    path: &str,
    content: &Arc<Vec<u8>>,
) -> Result<(CheckResult, bool), Refusal> {
    if let Some(result) = server.cache.get(&key).await {
        return Ok((result, true));
    }
    let (content, limits, cancelled) = (Arc::clone(content), server.limits, call.cancelled().clone());
    let path = path.to_owned();
    let done = server.workers.run(move || {
        let stop = || cancelled.is_cancelled();
        match check {
            Check::Syntax => match source {
                Some(source) => syntax::check(source, &content, limits, &stop),
                None => CheckResult::inconclusive(check, "no parser knows this kind of file"),
            },
            Check::Security => security::check(source.map(|source| source.language), &content, limits, &stop),
            Check::Guardrail => guardrail::check(&path, &content, base.as_deref().map(Vec::as_slice), limits, &stop),
            Check::Formatting | Check::Linting | Check::TypeChecking | Check::Tests => {
                CheckResult::inconclusive(check, "it is made of commands")
            }
        }
    })?;
    // A parser that panics has not verified anything.
    let result = done
        .await
        .unwrap_or_else(|_| CheckResult::inconclusive(check, "the check stopped unexpectedly; report this as a bug"));
    server.cache.put(&key, &result).await;
    Ok((result, false))
}

/// Runs one check of the text `content` of the file `path`; nothing where the check does not know such files. Says
/// whether it was answered from the cache.
pub(crate) async fn one_check(
    server: &Arc<Ralph>,
    call: &Call,
    path: &str,
    content: &str,
    check: Check,
) -> Result<Option<(CheckResult, bool)>, Refusal> {
    let loaded = load(path, content.as_bytes().to_vec());
    if loaded.source.is_none() && check != Check::Security {
        return Ok(None);
    }
    let key = check.key(&loaded.hash, loaded.source);
    checked(server, call, check, loaded.source, key, None, path, &Arc::new(loaded.content)).await.map(Some)
}

/// Returns all that a check finds in the text of the file `path`, however much it is.
pub(crate) fn all_findings(
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
    match (check, source) {
        (Check::Syntax, Some(source)) => {
            syntax::check_up_to(source, text.as_bytes(), limits, stop, usize::MAX).findings
        }
        (Check::Security, source) => {
            let language = source.map(|source| source.language);
            security::check_up_to(language, text.as_bytes(), limits, stop, usize::MAX).findings
        }
        _ => Vec::new(),
    }
}

/// Runs the guardrails of one file: most files have nothing that one is about; the others are compared with what the
/// last commit has.
async fn guarded(
    server: &Arc<Ralph>,
    call: &Call,
    place: &Place,
    source: Option<SourceType>,
    hash: &ContentHash,
    content: &Arc<Vec<u8>>,
) -> Result<(CheckResult, bool), Refusal> {
    let facts = guardrail::path_facts(&place.shown);
    let key = |base: &[u8]| {
        let plain = Check::Guardrail.key(hash, source);
        ContentHash::builder("ralph.guardrail").field(plain.as_bytes()).field(facts.as_bytes()).field(base).finish()
    };
    let path = place.shown.as_str();
    let (alone, cached) = checked(server, call, Check::Guardrail, source, key(b""), None, path, content).await?;
    if matches!(alone.verdict, Verdict::Pass | Verdict::Inconclusive) {
        return Ok((alone, cached));
    }
    let (roots, at, bytes_max) = (Arc::clone(&server.roots), place.clone(), server.limits.bytes_max);
    let base = call.blocking(move || Ok(committed(&roots, &at, bytes_max))).await?;
    match base {
        Some(base) => {
            let key = key(ContentHash::of(&base).as_bytes());
            let base = Some(Arc::new(base));
            let (result, known) = checked(server, call, Check::Guardrail, source, key, base, path, content).await?;
            Ok((result, cached && known))
        }
        None => Ok((alone, cached)),
    }
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
