//! `verify_batch`.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use super::verify_file::{Format, probe};
use crate::Ralph;
use crate::check::{Check, Verdict};
use crate::client::Client;
use crate::command::files::{self, Judged};
use crate::roots::{self, Place};
use crate::sarif;
use crate::verify::{self, FileReport, Order, Subject};

/// Most files of one call: at a few milliseconds each, well within the patience of a host.
const FILES_MAX: usize = 5_000;

/// Most globs of one call.
const GLOBS_MAX: usize = 50;

/// Files listed in an answer when nothing is said; with their findings these fit a context window.
const LISTED_DEFAULT: usize = 50;

/// Most files listed in one answer.
const LISTED_MAX: usize = 500;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct VerifyBatchRequest {
    /// Files, relative to the workspace
    #[serde(default)]
    paths: Vec<String>,
    /// Globs such as src/**/*.py; files that git ignores do not count
    #[serde(default)]
    globs: Vec<String>,
    /// Which checks, see list_checks; when left out, all but those of the whole project
    checks: Option<Vec<String>>,
    /// Begin no further file after one that fails
    #[serde(default)]
    stop_on_failure: bool,
    /// Files to list, 50 when left out; all are verified
    #[schemars(range(min = 1, max = 500))]
    limit: Option<usize>,
    /// From next_cursor, to list further files
    cursor: Option<String>,
    /// What the answer is to be, report when left out
    #[serde(default)]
    format: Format,
}

#[derive(Serialize, JsonSchema)]
struct BatchReport {
    /// The gravest of all files, listed or not; skipped when there is no file
    verdict: Verdict,
    /// How many files ended how
    counts: BTreeMap<&'static str, usize>,
    /// The gravest first
    files: Vec<FileReport>,
    /// Gives the files that are not listed
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    /// The findings of the files that are listed as SARIF 2.1.0, instead of `files`
    #[serde(skip_serializing_if = "Option::is_none")]
    sarif: Option<Map<String, Value>>,
}

pub(crate) fn tool() -> Defined<Ralph> {
    Tool::new(
        "verify_batch",
        "Verify files",
        "Verify many files at once, by paths or globs. The verdict covers all of them: pass only when every file that a \
         check applies to passes. Refuses more than 5000 files.",
        Effect::Reads,
        Price::Metered(verify::SKUS),
    )
    .handler(handle)
}

async fn handle(server: Arc<Ralph>, request: VerifyBatchRequest, call: Call) -> Result<Answer<BatchReport>, Refusal> {
    let wanted = Check::wanted(request.checks.as_deref())?;
    let limit = request.limit.unwrap_or(LISTED_DEFAULT).clamp(1, LISTED_MAX);
    let skip = request.cursor.as_deref().map_or(Ok(0), |cursor| {
        cursor.parse::<usize>().map_err(|_| {
            Refusal::invalid_arguments("`cursor` is not one that this tool gave", "take it from `next_cursor`")
        })
    })?;
    let places = places(&server, &call, request.paths, request.globs).await?;
    let client = Client::Call(&call);
    let (mut judged, not_run) = verify_all(&server, &client, places, &wanted, request.stop_on_failure).await?;
    // What is known to fail already is not run any further either.
    if !(request.stop_on_failure && not_run > 0) {
        files::complete(&server, &client, &mut judged, &wanted, request.checks.is_some()).await?;
    }
    let files = judged.into_iter().map(|judged| judged.report).collect();
    let mut report = report(files, not_run, skip, limit);
    if request.format == Format::Sarif {
        report.sarif = Some(sarif::log(&std::mem::take(&mut report.files)));
    }
    Ok(Answer::new(report))
}

/// Finds every file that is meant, each once; one that may not be read refuses the whole batch before it begins.
async fn places(
    server: &Arc<Ralph>,
    call: &Call,
    paths: Vec<String>,
    globs: Vec<String>,
) -> Result<Vec<Place>, Refusal> {
    if paths.is_empty() && globs.is_empty() {
        return Err(Refusal::invalid_arguments("neither `paths` nor `globs` names a file", "give one of them"));
    }
    if paths.len() > FILES_MAX || globs.len() > GLOBS_MAX {
        return Err(Refusal::refused(
            "too_many_files",
            format!("at most {FILES_MAX} paths and {GLOBS_MAX} globs can be given"),
            "verify in several calls, or use wider globs",
        ));
    }
    let mut places = BTreeMap::new();
    for path in paths {
        let place = probe(server, call, path, false).await?;
        places.insert(place.shown.clone(), place);
    }
    if !globs.is_empty() {
        let (roots, cancelled) = (Arc::clone(&server.roots), call.cancelled().clone());
        let found =
            call.blocking(move || roots.find(&roots::globs(&globs)?, FILES_MAX, || cancelled.is_cancelled())).await?;
        places.extend(found.into_iter().map(|place| (place.shown.clone(), place)));
    }
    Ok(places.into_values().collect())
}

/// Verifies `places` and returns the reports, and how many files were not begun.
async fn verify_all(
    server: &Arc<Ralph>,
    client: &Client<'_>,
    places: Vec<Place>,
    wanted: &[Check],
    stop_on_failure: bool,
) -> Result<(Vec<Judged>, usize), Refusal> {
    let total = places.len();
    let mut files = Vec::with_capacity(total);
    let order = Order { stop_on_failure, ..Order::of(client, wanted) };
    let mut by_name: BTreeMap<String, Place> =
        places.iter().map(|place| (place.shown.clone(), place.clone())).collect();
    let subjects = places.into_iter().map(Subject::on_disk).collect();
    // A file that was begun is finished and reported: it is paid for.
    verify::verify_each(server, order, subjects, |verified| {
        verified.charge(client);
        let report = verified.report;
        let Some(place) = by_name.remove(&report.path) else { return };
        client.progress(files.len() + 1, total, || format!("{}: {}", report.path, report.verdict.name()));
        files.push(Judged { place, given: None, report });
    })
    .await?;
    let not_run = total - files.len();
    Ok((files, not_run))
}

fn report(mut files: Vec<FileReport>, not_run: usize, skip: usize, limit: usize) -> BatchReport {
    let verdict = Verdict::all(files.iter().map(|file| file.verdict));
    let mut counts = BTreeMap::new();
    for file in &files {
        *counts.entry(file.verdict.name()).or_default() += 1;
    }
    if not_run > 0 {
        counts.insert("not_run", not_run);
    }
    files.sort_by(|left, right| (Reverse(left.verdict), &left.path).cmp(&(Reverse(right.verdict), &right.path)));
    let rest = files.len().saturating_sub(skip);
    let next_cursor = (rest > limit).then(|| (skip + limit).to_string());
    let files = files.into_iter().skip(skip).take(limit).collect();
    BatchReport { verdict, counts, files, next_cursor, sarif: None }
}
