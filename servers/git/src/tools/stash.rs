//! `git_stash`: local changes, put away and brought back.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Git;
use crate::repository::OpenRepository;
use crate::repository::lock::ChangeLock;
use crate::repository::stash::{self, Stash};
use crate::watch::bounded;

/// How many stashes an answer lists.
const LISTED_MAX: usize = 100;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// `push`, `list`, `apply`, `pop` or `drop`.
    action: Action,
    /// Of push: what it is, in a line.
    message: Option<String>,
    /// Of push: new files too.
    include_untracked: Option<bool>,
    /// Its id; default: your newest of this worktree.
    stash: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Action {
    Push,
    List,
    Apply,
    Pop,
    Drop,
}

#[derive(Serialize, JsonSchema)]
struct Stashed {
    /// The root of the working tree.
    repository: String,
    /// `pushed`, `listed`, `applied`, `popped` or `dropped`.
    result: &'static str,
    /// The stash; left out of a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    stash: Option<Stash>,
    /// How many files it changes; left out of a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    files_changed: Option<usize>,
    /// All of the repository, the newest first; of a list only.
    #[serde(skip_serializing_if = "Option::is_none")]
    stashes: Option<Vec<Stash>>,
    /// How many there are; more than `stashes` when that is cut.
    stashes_total: usize,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_stash",
        "Stash",
        "Put local changes away and bring them back. Each agent pops and drops its own stashes only.",
        Effect::Replaces,
        Price::PerCall("git.stage"),
    )
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Stashed>, Refusal> {
    let working = call.clone();
    let stashed = bounded(&call, move || serve(&server, &request, &working)).await?;
    if let Some(stash) = &stashed.stash {
        let (old, new) = match stashed.result {
            "pushed" => (None, Some(&stash.id)),
            "applied" => (Some(&stash.id), Some(&stash.id)),
            _ => (Some(&stash.id), None),
        };
        call.decide(
            &format!("stash_{}", stashed.result),
            format!("{}: {}", stash.id, stash.message),
            json!({
                "repository": stashed.repository,
                "ref": stash.ref_name(),
                "old": old,
                "new": new,
                "base": stash.base,
                "owner": stash.agent,
            }),
        );
    }
    Ok(Answer::new(stashed))
}

fn serve(server: &Git, request: &Request, call: &Call) -> Result<Stashed, Refusal> {
    let pushes = request.action == Action::Push;
    let named = request.stash.is_some();
    if (!pushes && (request.message.is_some() || request.include_untracked.is_some()))
        || (named && matches!(request.action, Action::Push | Action::List))
    {
        return Err(Refusal::invalid_arguments(
            "`message` and `include_untracked` are of `push`; `stash` is of `apply`, `pop` and `drop`",
            "leave the others out",
        ));
    }
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let git = &repository.git;
    let identity = call.identity();
    if request.action == Action::List {
        let mut stashes = stash::all(git, identity)?;
        let stashes_total = stashes.len();
        stashes.truncate(LISTED_MAX);
        return Ok(Stashed {
            repository: repository.shown(),
            result: "listed",
            stash: None,
            files_changed: None,
            stashes: Some(stashes),
            stashes_total,
        });
    }
    let lock = ChangeLock::acquire(git)?;
    let (result, stash) = match request.action {
        Action::Push | Action::List => {
            let untracked = request.include_untracked == Some(true);
            let who = (identity, call.receipt_id());
            ("pushed", stash::push(server, &repository, request.message.as_deref(), untracked, who, &lock)?)
        }
        Action::Apply => {
            let stash = stash::find(git, request.stash.as_deref(), identity)?;
            stash::apply(&repository, &stash, &lock)?;
            ("applied", stash)
        }
        Action::Pop => {
            let stash = stash::find(git, request.stash.as_deref(), identity)?;
            stash::refuse_foreign(&stash)?;
            stash::apply(&repository, &stash, &lock)?;
            stash::remove(git, &stash, &lock)?;
            ("popped", stash)
        }
        Action::Drop => {
            let stash = stash::find(git, request.stash.as_deref(), identity)?;
            stash::remove(git, &stash, &lock)?;
            ("dropped", stash)
        }
    };
    Ok(Stashed {
        repository: repository.shown(),
        result,
        files_changed: Some(stash::files_changed(git, &stash)),
        stash: Some(stash),
        stashes: None,
        stashes_total: stash::all(git, identity)?.len(),
    })
}
