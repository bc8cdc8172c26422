//! `deployment_history`: every deployment with every state it went through, page by page.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Deploy;
use crate::names::{ServiceName, shown};
use crate::store::{Filter, Transition};
use crate::view::{DeploymentView, cut};

/// How many deployments are shown unless asked otherwise.
const LIMIT_DEFAULT: u32 = 10;

/// Most deployments of one page: each has up to ten transitions.
const LIMIT_MAX: u32 = 50;

/// What a cursor begins with, so that no number is taken for one.
const CURSOR: &str = "before-";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Only this environment.
    environment: Option<String>,
    /// Only this service.
    service: Option<String>,
    /// At most so many, newest first; default 10.
    #[schemars(range(min = 1, max = 50))]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct History {
    /// Newest first.
    deployments: Vec<Past>,
    /// For the next page, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Past {
    #[serde(flatten)]
    deployment: DeploymentView,
    /// Every state it reached, in order.
    transitions: Vec<TransitionView>,
}

#[derive(Serialize, JsonSchema)]
struct TransitionView {
    /// What happened.
    event: String,
    /// The state that it led to.
    state: String,
    /// When.
    at: String,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

pub(super) fn tool() -> Defined<Deploy> {
    Tool::new(
        "deployment_history",
        "Deployment history",
        "Past deployments and rollbacks with every state they went through, newest first, page by page.",
        Effect::Reads,
        Price::Free,
    )
    .handler(run)
}

async fn run(server: Arc<Deploy>, request: Request, _: Call) -> Result<Answer<History>, Refusal> {
    let limit = request.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Refusal::invalid_arguments(
            format!("`limit` {limit} is not 1 to {LIMIT_MAX}"),
            "use the cursor for more",
        ));
    }
    let environment = request.environment.as_deref().map(|name| server.environments.find(name)).transpose()?;
    let service = request.service.as_deref().map(ServiceName::parse).transpose()?;
    let before = request.cursor.as_deref().map(parse_cursor).transpose()?;
    let filter = Filter {
        environment: environment.map(|environment| environment.name.clone()),
        service: service.map(|service| service.to_string()),
        ..Filter::default()
    };
    // One more than is shown tells whether there is another page.
    let mut page = server.store.history(&filter, before, limit + 1).await?;
    let has_more = page.len() > limit as usize;
    page.truncate(limit as usize);
    let next_cursor = page.last().filter(|_| has_more).map(|(record, _)| format!("{CURSOR}{}", record.number));
    let deployments = page
        .into_iter()
        .map(|(record, transitions)| Past {
            deployment: DeploymentView::of(&record),
            transitions: transitions.into_iter().map(view).collect(),
        })
        .collect();
    Ok(Answer::new(History { deployments, next_cursor }))
}

fn view(transition: Transition) -> TransitionView {
    let Transition { event, state, at, detail } = transition;
    TransitionView { event, state, at, detail: detail.map(cut) }
}

fn parse_cursor(cursor: &str) -> Result<i64, Refusal> {
    cursor
        .strip_prefix(CURSOR)
        .filter(|digits| digits.len() <= 18 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| {
            Refusal::refused(
                "invalid_cursor",
                format!("{} is not a cursor of deployment_history", shown(cursor)),
                "use `next_cursor` of the page before, or none for the first page",
            )
        })
}
