//! `git_diff`: the working tree against a commit, or one commit against another.

use std::sync::Arc;

use git2::{Diff, DiffOptions};
use schemars::JsonSchema;
use serde::Deserialize;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Git;
use crate::git_error::failed;
use crate::patience::Patience;
use crate::repository::OpenRepository;
use crate::repository::difference::{Difference, Wanted, as_if_staged};
use crate::repository::revision::Comparison;
use crate::watch::bounded;
use crate::worktree_path::WorktreePath;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// Branch, tag, commit, `a..b` or `a...b`; default: HEAD.
    target: Option<String>,
    /// At most 100; default 3.
    context_lines: Option<u32>,
    /// File or folder.
    path: Option<String>,
    /// At most 400000; default 50000.
    max_bytes: Option<usize>,
    /// Of diff.
    max_words: Option<usize>,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_diff",
        "Diff",
        "Show what tracked files change against a commit, or one commit against another.",
        Effect::Reads,
        Price::PerCall("git.read"),
    )
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Difference>, Refusal> {
    let patience = Patience::of(&call);
    let difference = bounded(&call, move || difference(&server, &request, &patience)).await?;
    let text = difference.text();
    Ok(Answer::with_text(difference, text))
}

fn difference(server: &Git, request: &Request, patience: &Patience) -> Result<Difference, Refusal> {
    let comparison = Comparison::parse(request.target.as_deref().unwrap_or("HEAD"))?;
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let path = request.path.as_deref().map(|path| WorktreePath::parse(path, &repository.worktree)).transpose()?;
    let wanted = Wanted {
        context_lines: request.context_lines,
        path,
        bytes_max: request.max_bytes,
        words_max: request.max_words,
    };
    let (diff, left_out) = compare(&repository, &comparison, &mut wanted.options(), patience)?;
    Difference::read(&repository, diff, left_out, &wanted, patience)
}

/// Returns what differs, and how many files of the working tree were not looked at any more.
fn compare<'repository>(
    repository: &'repository OpenRepository,
    comparison: &Comparison,
    options: &mut DiffOptions,
    patience: &Patience,
) -> Result<(Diff<'repository>, usize), Refusal> {
    let git = &repository.git;
    let tree = |commit: &git2::Commit<'repository>| commit.tree().map_err(failed("read a tree"));
    let between = |from: &git2::Commit<'repository>, to: &git2::Commit<'repository>, options: &mut DiffOptions| {
        let diff = git.diff_tree_to_tree(Some(&tree(from)?), Some(&tree(to)?), Some(options));
        diff.map(|diff| (diff, 0)).map_err(failed("compare"))
    };
    match comparison {
        Comparison::WorkingTree(target) => {
            // A submodule is another repository, which may be anywhere.
            options.ignore_submodules(true);
            let tree = tree(&target.commit(git)?)?;
            let changed = git.diff_tree_to_workdir_with_index(Some(&tree), Some(options)).map_err(failed("compare"))?;
            let (index, left_out) = as_if_staged(repository, &tree, &changed, patience)?;
            let diff = git.diff_tree_to_index(Some(&tree), Some(&index), Some(options)).map_err(failed("compare"))?;
            Ok((diff, left_out))
        }
        Comparison::Between(from, to) => between(&from.commit(git)?, &to.commit(git)?, options),
        Comparison::SinceParting(from, to) => {
            let (from, to) = (from.commit(git)?, to.commit(git)?);
            let base = git.merge_base(from.id(), to.id()).map_err(|_| {
                Refusal::refused(
                    "no_merge_base",
                    "the two commits have no history in common",
                    "compare them with `a..b`",
                )
            })?;
            between(&git.find_commit(base).map_err(failed("read a commit"))?, &to, options)
        }
    }
}
