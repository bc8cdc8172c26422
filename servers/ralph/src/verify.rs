//! One file from its bytes to its verdict: cache, checks, cost.

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::Call;

use crate::Ralph;
use crate::check::{Check, CheckResult, Verdict, security, syntax};
use crate::language::{Language, SourceType};
use crate::roots::{Place, Unread};

/// What every verified file is charged as, beside its checks.
pub const BASE_SKU: &str = "ralph.base";

/// Everything that a file may be charged as.
pub const SKUS: &[&str] = &[BASE_SKU, syntax::SKU, security::SKU];

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
        Ok(loaded) => verify(server, call, &place.shown, loaded, wanted).await,
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
    verify(server, call, &place.shown, loaded, wanted).await
}

fn load(path: &str, content: Vec<u8>) -> Loaded {
    let hash = ContentHash::of(&content);
    let source = SourceType::of(Path::new(path), &content);
    Loaded { content, hash, source }
}

async fn verify(
    server: &Arc<Ralph>,
    call: &Call,
    path: &str,
    loaded: Loaded,
    wanted: &[Check],
) -> Result<FileReport, Refusal> {
    let source = loaded.source;
    // Secrets are looked for in any text; the other checks must know the language.
    let is_text = source.is_some() || std::str::from_utf8(&loaded.content).is_ok_and(|text| !text.contains('\0'));
    let applies = |check: &Check| source.is_some() || *check == Check::Security && is_text;
    if !wanted.iter().any(applies) {
        let reason = "no check knows this kind of file";
        let report = FileReport::unchecked(path, Verdict::Skipped, reason);
        return Ok(FileReport { sha256: Some(loaded.hash), ..report });
    }
    let content = Arc::new(loaded.content);
    let mut checks = Vec::with_capacity(wanted.len());
    let mut from_cache = true;
    for check in wanted.iter().filter(|check| applies(check)) {
        let key = check.key(&loaded.hash, source);
        if let Some(result) = server.cache.get(&key).await {
            call.save(check.sku(), 1);
            checks.push(result);
            continue;
        }
        from_cache = false;
        let result = run(server, call, *check, source, &content).await?;
        call.charge(check.sku(), 1);
        server.cache.put(&key, &result).await;
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

async fn run(
    server: &Arc<Ralph>,
    call: &Call,
    check: Check,
    source: Option<SourceType>,
    content: &Arc<Vec<u8>>,
) -> Result<CheckResult, Refusal> {
    let (content, limits, cancelled) = (Arc::clone(content), server.limits, call.cancelled().clone());
    let done = server.workers.run(move || {
        let stop = || cancelled.is_cancelled();
        match check {
            Check::Syntax => match source {
                Some(source) => syntax::check(source, &content, limits, &stop),
                None => CheckResult::inconclusive(check, "no parser knows this kind of file"),
            },
            Check::Security => security::check(source.map(|source| source.language), &content, limits, &stop),
        }
    })?;
    // A parser that panics has not verified anything.
    Ok(done
        .await
        .unwrap_or_else(|_| CheckResult::inconclusive(check, "the check stopped unexpectedly; report this as a bug")))
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
