//! The tool that every server has: what its calls cost.

use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::charge::Call;
use super::tool::{Answer, Defined, Effect, Price, Tool};
use crate::costs::CostReport;
use crate::error_chain::Chain;
use crate::refusal::Refusal;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CostReportRequest {
    /// Count every call of this server in the ledger from this instant on (RFC 3339, UTC); default: this session only
    since: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct CostReported {
    #[serde(flatten)]
    report: CostReport,
    /// The instant from which calls were counted; absent for this session.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}

/// Returns the tool `cost_report` of any server.
pub(super) fn tool<S: Send + Sync + 'static>() -> Defined<S> {
    Tool::new(
        "cost_report",
        "Cost report",
        "What this server's calls cost: totals by tool and by sku, calls, cache hits, average duration.",
        Effect::Reads,
        Price::Free,
    )
    .handler(run)
}

async fn run<S>(_: Arc<S>, request: CostReportRequest, call: Call) -> Result<Answer<CostReported>, Refusal> {
    let Some(since) = request.since else {
        return Ok(Answer::new(CostReported { report: call.house().session(), since: None }));
    };
    let instant: Timestamp = since.parse().map_err(|error| {
        Refusal::invalid_arguments(format!("`since`: {error}"), "write an instant such as 2026-11-21T08:00:00Z")
    })?;
    let failed = |error| Refusal::failed("ledger_unavailable", Chain(&error).to_string(), "try again");
    let mut report = CostReport::default();
    if let Some(mut reader) = call.house().ledger.reader().await.map_err(failed)? {
        let mut receipts = pin!(reader.receipts(Some(instant)));
        while let Some(receipt) = receipts.next().await {
            let receipt = receipt.map_err(failed)?;
            if receipt.server == call.house().server {
                report.add(&receipt);
            }
        }
    }
    Ok(Answer::new(CostReported { report, since: Some(since) }))
}
