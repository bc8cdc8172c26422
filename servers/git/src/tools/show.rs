//! `git_show`: a commit and what it changes, or a file or folder as a commit has it.

use std::sync::Arc;

use git2::{Commit, ObjectType, Tree};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Git;
use crate::branch_name::quoted;
use crate::git_error::{failed, unknown_revision};
use crate::patience::Patience;
use crate::repository::OpenRepository;
use crate::repository::difference::{DIFF_BYTES_DEFAULT, DIFF_BYTES_MAX, Difference, Wanted};
use crate::repository::logged::Logged;
use crate::repository::paths::{cut, os_path, shown};
use crate::repository::revision::Revision;
use crate::watch::bounded;
use crate::worktree_file::FILE_BYTES_MAX;
use crate::worktree_path::WorktreePath;

/// How many names of a folder are listed: more than a model reads, few enough for one answer.
const NAMES_MAX: usize = 2000;

/// How much of a file is looked at to tell text from other data, as git does.
const LOOKED_AT_BYTES: usize = 8000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// Branch, tag or commit, or `revision:path`.
    revision: String,
    /// Default 3.
    context_lines: Option<u32>,
    /// Of a commit: only this file or folder.
    path: Option<String>,
    /// Default 50000.
    max_bytes: Option<usize>,
    /// Of diff.
    max_words: Option<usize>,
}

/// What was asked for; which fields there are depends on `kind`.
#[derive(Default, Serialize, JsonSchema)]
struct Shown {
    /// `commit`, `file` or `folder`.
    kind: &'static str,
    /// The commit, with its author and message.
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<Logged>,
    /// What the commit changes against its first parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Difference>,
    /// The content of the file; left out when it is binary or larger than 100 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    /// How many bytes the file has.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<usize>,
    /// The names in the folder; those of folders end with `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<Vec<String>>,
    /// Whether something is cut.
    truncated: bool,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_show",
        "Show",
        "Show a commit with its diff, or a file or folder as `revision:path`.",
        Effect::Reads,
        Price::PerCall("git.read"),
    )
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Shown>, Refusal> {
    let patience = Patience::of(&call);
    let shown = bounded(&call, move || show(&server, &request, &patience)).await?;
    let text = shown.text();
    Ok(Answer::with_text(shown, text))
}

fn show(server: &Git, request: &Request, patience: &Patience) -> Result<Shown, Refusal> {
    let (revision, file) = match request.revision.split_once(':') {
        Some((revision, file)) => (Revision::parse(revision)?, Some(file)),
        None => (Revision::parse(&request.revision)?, None),
    };
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let git = &repository.git;
    let bytes_max = request.max_bytes.unwrap_or(DIFF_BYTES_DEFAULT).min(DIFF_BYTES_MAX);
    let Some(file) = file else {
        let object = revision.object(git)?;
        if let Ok(commit) = object.peel_to_commit() {
            return show_commit(&repository, request, &commit, patience);
        }
        return match (object.as_blob(), object.peel_to_tree()) {
            (Some(blob), _) => Ok(show_file(blob.content(), bytes_max)),
            (None, Ok(tree)) => Ok(show_folder(&tree)),
            (None, Err(_)) => Err(unknown_revision(&request.revision)),
        };
    };
    let path = match file {
        "" => None,
        file => Some(WorktreePath::parse(file, &repository.worktree)?).filter(|path| !path.is_root()),
    };
    let tree = revision.commit(git)?.tree().map_err(failed("read a tree"))?;
    let Some(path) = path else { return Ok(show_folder(&tree)) };
    let missing = || {
        Refusal::refused(
            "path_not_found",
            format!("{} has no {}", quoted(revision.as_str()), quoted(path.as_str())),
            "list the folder with `revision:folder`",
        )
    };
    let entry = tree.get_path(os_path(path.as_str().as_bytes())).map_err(|_| missing())?;
    match entry.kind() {
        Some(ObjectType::Blob) => {
            // libgit2 holds a file in memory as a whole.
            let (size, _) =
                git.odb().and_then(|objects| objects.read_header(entry.id())).map_err(failed("read the file"))?;
            if size as u64 > FILE_BYTES_MAX {
                return Ok(Shown { kind: "file", size: Some(size), truncated: true, ..Shown::default() });
            }
            let blob = git.find_blob(entry.id()).map_err(failed("read the file"))?;
            Ok(show_file(blob.content(), bytes_max))
        }
        Some(ObjectType::Tree) => Ok(show_folder(&git.find_tree(entry.id()).map_err(failed("read the folder"))?)),
        // A submodule is another repository.
        _ => Err(missing()),
    }
}

fn show_commit(
    repository: &OpenRepository,
    request: &Request,
    commit: &Commit<'_>,
    patience: &Patience,
) -> Result<Shown, Refusal> {
    let path = request.path.as_deref().map(|path| WorktreePath::parse(path, &repository.worktree)).transpose()?;
    let wanted = Wanted {
        context_lines: request.context_lines,
        path,
        bytes_max: request.max_bytes,
        words_max: request.max_words,
    };
    let tree = commit.tree().map_err(failed("read a tree"))?;
    // The parent of a commit at the edge of a shallow clone is not there.
    let before = commit.parent(0).ok().map(|parent| parent.tree()).transpose().map_err(failed("read a tree"))?;
    let diff = repository
        .git
        .diff_tree_to_tree(before.as_ref(), Some(&tree), Some(&mut wanted.options()))
        .map_err(failed("compare"))?;
    let changes = Difference::read(repository, diff, 0, &wanted, patience)?;
    Ok(Shown {
        kind: "commit",
        commit: Some(Logged::new(commit)),
        truncated: changes.truncated(),
        changes: Some(changes),
        ..Shown::default()
    })
}

fn show_file(content: &[u8], bytes_max: usize) -> Shown {
    let binary = content.iter().take(LOOKED_AT_BYTES).any(|byte| *byte == 0);
    // A character in the middle of which the text is cut is left out.
    let read = &content[..content.len().min(bytes_max.saturating_add(4))];
    let text = String::from_utf8_lossy(read);
    Shown {
        kind: "file",
        content: (!binary).then(|| cut(&text, bytes_max).to_owned()),
        size: Some(content.len()),
        truncated: !binary && content.len() > bytes_max,
        ..Shown::default()
    }
}

fn show_folder(tree: &Tree<'_>) -> Shown {
    let names = tree.iter().take(NAMES_MAX).map(|entry| {
        let name = shown(entry.name_bytes());
        if entry.kind() == Some(ObjectType::Tree) { format!("{name}/") } else { name }
    });
    Shown { kind: "folder", entries: Some(names.collect()), truncated: tree.len() > NAMES_MAX, ..Shown::default() }
}

impl Shown {
    /// Returns what the reference server answers with: the commit as `git show` writes it, the file, the names.
    fn text(&self) -> String {
        let mut text = String::new();
        if let Some(commit) = &self.commit {
            text.push_str(&commit.text());
        }
        if let Some(changes) = &self.changes {
            text.push('\n');
            text.push_str(&changes.text());
            return text;
        }
        if let Some(entries) = &self.entries {
            text.push_str(&entries.join("\n"));
        }
        match (&self.content, self.size) {
            (Some(content), _) => text.push_str(content),
            (None, Some(size)) => text.push_str(&format!("[a file of {size} bytes that is not shown]\n")),
            (None, None) => {}
        }
        if self.truncated {
            text.push_str("\n[cut: ask for more `max_bytes`]\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_cut_at_a_character_and_binary_ones_named() {
        let shown = show_file("aäb".as_bytes(), 2);
        assert_eq!((shown.content.as_deref(), shown.size, shown.truncated), (Some("a"), Some(4), true));
        let shown = show_file(b"a\0b", 100);
        assert_eq!((shown.content, shown.size, shown.truncated), (None, Some(3), false));
        assert_eq!(show_file(b"a\xffb", 100).content.as_deref(), Some("a\u{fffd}b"));
        assert_eq!(show_file(b"", 100).content.as_deref(), Some(""));
    }
}
