//! `verify_file`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Ralph;
use crate::check::Check;
use crate::client::Client;
use crate::command::files::{self, Judged};
use crate::roots::{Place, Unread, quoted};
use crate::sarif;
use crate::verify::{self, FileReport};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct VerifyFileRequest {
    /// The file, relative to the workspace
    path: String,
    /// Verify this as the file's content instead of what is on disk
    content: Option<String>,
    /// Which checks, see list_checks; when left out, all but those of the whole project
    checks: Option<Vec<String>>,
    /// What the answer is to be, report when left out
    #[serde(default)]
    format: Format,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    #[default]
    Report,
    Sarif,
}

#[derive(Serialize, JsonSchema)]
struct FileAnswer {
    #[serde(flatten)]
    report: FileReport,
    /// The findings as SARIF 2.1.0, instead of `checks`
    #[serde(skip_serializing_if = "Option::is_none")]
    sarif: Option<Map<String, Value>>,
}

pub(crate) fn tool() -> Defined<Ralph> {
    Tool::new(
        "verify_file",
        "Verify a file",
        "Verify one file, or with `content` what is about to be written to it. pass: go on; fail: fix the findings and \
         verify again; blocked: stop, a human decides; skipped, inconclusive: not verified, not a pass. Unchanged \
         content is answered from the cache, free.",
        Effect::Reads,
        Price::Metered(verify::SKUS),
    )
    .handler(handle)
}

async fn handle(server: Arc<Ralph>, request: VerifyFileRequest, call: Call) -> Result<Answer<FileAnswer>, Refusal> {
    let wanted = Check::wanted(request.checks.as_deref())?;
    let place = probe(&server, &call, request.path, request.content.is_some()).await?;
    let given = request.content.as_ref().map(|content| Arc::new(content.clone().into_bytes()));
    let client = Client::Call(&call);
    let report = match request.content {
        Some(content) => verify::verify_given(&server, &client, place.clone(), content, &wanted).await?,
        None => verify::verify_on_disk(&server, &client, place.clone(), &wanted).await?,
    };
    let mut judged = [Judged { place, given, report }];
    files::complete(&server, &client, &mut judged, &wanted, request.checks.is_some()).await?;
    let [Judged { mut report, .. }] = judged;
    let sarif = (request.format == Format::Sarif).then(|| sarif::log(std::slice::from_ref(&report)));
    if sarif.is_some() {
        report.checks.clear();
    }
    Ok(Answer::new(FileAnswer { report, sarif }))
}

/// Finds the file that a caller named, or with `may_be_missing` where it would be.
pub(crate) async fn probe(
    server: &Arc<Ralph>,
    call: &Call,
    path: String,
    may_be_missing: bool,
) -> Result<Place, Refusal> {
    let roots = Arc::clone(&server.roots);
    call.blocking(move || {
        let place = roots.place(&path)?;
        match roots.probe(&place) {
            Ok(true) => Ok(place),
            Ok(false) if may_be_missing => Ok(place),
            Ok(false) => Err(Refusal::refused(
                "not_found",
                format!("there is no file {}", quoted(&path)),
                "name a file that exists, or give its future `content`",
            )),
            Err(Unread::Outside) => Err(roots.outside(&path)),
            Err(unread) => Err(Refusal::refused(
                "not_readable",
                format!("{}: {}", quoted(&path), verify::reason(&unread, 0)),
                "name a regular file that this user may read",
            )),
        }
    })
    .await
}
