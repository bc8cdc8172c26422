//! `git_add`: files into the index.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use git2::{Index, Repository, Status, StatusOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Defined;
use tollgate_shared::serve::{Answer, Call, Effect, Price, Tool};

use crate::Git;
use crate::branch_name::quoted;
use crate::git_error::{failed, index_locked};
use crate::modules_file;
use crate::repository::OpenRepository;
use crate::repository::lock::ChangeLock;
use crate::repository::paths::shown;
use crate::watch::bounded;
use crate::worktree_file::{self, Kind, Unreadable};
use crate::worktree_path::{WorktreePath, is_git_directory};

/// How many paths one call names at most: more than that is a folder.
const PATHS_MAX: usize = 1000;

/// How many changed files one call stages at most: more is usually a folder that should be ignored.
const FILES_MAX: usize = 10_000;

/// How many files an answer lists; further ones are only counted.
const LISTED_MAX: usize = 200;

/// How often staging starts again because another git program wrote the index meanwhile.
const TRIES_MAX: u32 = 3;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Repository.
    repo_path: Option<String>,
    /// Files or folders, `.` for all; no patterns.
    files: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct Added {
    /// The root of the working tree.
    repository: String,
    /// What was staged; empty when the index had it all already.
    staged: Vec<StagedFile>,
    /// How many files were staged; more than `staged` lists when that is cut.
    staged_total: usize,
    /// What was found in a folder and left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<SkippedFile>,
}

#[derive(Serialize, JsonSchema)]
struct StagedFile {
    /// Relative to the root; bytes that are not UTF-8 are written `\xNN`.
    path: String,
    /// `added`, `modified` or `deleted`.
    status: &'static str,
}

#[derive(Serialize, JsonSchema)]
struct SkippedFile {
    /// Relative to the root.
    path: String,
    /// Why.
    reason: String,
}

pub(super) fn tool() -> Defined<Git> {
    Tool::new(
        "git_add",
        "Stage files",
        "Stage new, changed and deleted files. Refuses ignored files and paths outside the repository or in `.git`.",
        Effect::Adds,
        Price::PerCall("git.stage"),
    )
    .idempotent()
    .handler(run)
}

async fn run(server: Arc<Git>, request: Request, call: Call) -> Result<Answer<Added>, Refusal> {
    let added = bounded(&call, move || add(&server, &request)).await?;
    call.decide(
        "staged",
        format!("{} files", added.staged_total),
        json!({ "repository": added.repository, "files": added.staged_total }),
    );
    Ok(Answer::new(added))
}

fn add(server: &Git, request: &Request) -> Result<Added, Refusal> {
    if request.files.is_empty() || request.files.len() > PATHS_MAX {
        return Err(Refusal::invalid_arguments(
            format!("`files` has {} paths; one to {PATHS_MAX} are taken", request.files.len()),
            "name files or folders; `.` stages everything",
        ));
    }
    let repository = OpenRepository::open(&server.roots, request.repo_path.as_deref())?;
    let paths = request
        .files
        .iter()
        .map(|path| WorktreePath::parse(path, &repository.worktree))
        .collect::<Result<Vec<_>, _>>()?;
    let lock = ChangeLock::acquire(&repository.git)?;
    let mut index = repository.git.index().map_err(failed("read the index"))?;
    for _ in 0..TRIES_MAX {
        let before = fingerprint(&index);
        index.read(true).map_err(failed("read the index"))?;
        for path in &paths {
            check(&repository, &index, path)?;
        }
        let mut added =
            Added { repository: repository.shown(), staged: Vec::new(), staged_total: 0, skipped: Vec::new() };
        stage(&repository, &mut index, &paths, &mut added)?;
        // libgit2 would write over what another git program staged since the index was read.
        if fingerprint(&index) == before {
            if added.staged_total > 0 {
                let _announced = lock.announce(&repository.git, &["index"])?;
                index.write().map_err(failed("write the index"))?;
            }
            return Ok(added);
        }
    }
    Err(index_locked())
}

/// Checks a path that the caller named; a folder's contents are looked at one by one later.
fn check(repository: &OpenRepository, index: &Index, path: &WorktreePath) -> Result<(), Refusal> {
    if path.is_root() {
        return Ok(());
    }
    let known = is_known(index, path.as_str().as_bytes());
    let kind = worktree_file::kind(&repository.worktree, path.as_str().as_bytes());
    match &kind {
        Err(Unreadable::Missing) if known => return Ok(()),
        Err(error) => return Err(unreadable(path.as_str(), error)),
        Ok(_) => {}
    }
    if let Some(nested) = nested_repository(&repository.worktree, path, kind.is_ok_and(|kind| kind == Kind::Folder)) {
        return Err(Refusal::refused(
            "nested_repository",
            format!("{} is in another repository, {}", quoted(path.as_str()), quoted(&nested)),
            "name that one with `repo_path`",
        ));
    }
    let ignored = repository.git.is_path_ignored(Path::new(path.as_str())).map_err(failed("read what is ignored"))?;
    if ignored && !known {
        return Err(Refusal::refused(
            "ignored_path",
            format!("{} is ignored by git", quoted(path.as_str())),
            "leave it out, or change .gitignore",
        ));
    }
    Ok(())
}

/// Brings the changes below `paths` into `index`, in memory.
fn stage(
    repository: &OpenRepository,
    index: &mut Index,
    paths: &[WorktreePath],
    added: &mut Added,
) -> Result<(), Refusal> {
    let git = &repository.git;
    let mut options = StatusOptions::new();
    options
        .include_untracked(true)
        .recurse_untracked_dirs(true)
        .exclude_submodules(true)
        // Names are names: no pattern, no `:(exclude)`.
        .disable_pathspec_match(true);
    if paths.iter().all(|path| !path.is_root()) {
        for path in paths {
            options.pathspec(path.as_str());
        }
    }
    let statuses = git.statuses(Some(&mut options)).map_err(failed("compare the working tree"))?;
    if statuses.len() > FILES_MAX {
        return Err(Refusal::refused(
            "too_many_files",
            format!("{} files have changed; one call stages at most {FILES_MAX}", statuses.len()),
            "name fewer files or folders, or add to .gitignore what is not to be committed",
        ));
    }
    for entry in statuses.iter() {
        let status = entry.status();
        if !status.intersects(
            Status::WT_NEW | Status::WT_MODIFIED | Status::WT_DELETED | Status::WT_TYPECHANGE | Status::CONFLICTED,
        ) {
            continue;
        }
        let path = entry.path_bytes();
        let named = paths.iter().any(|named| named.as_str().as_bytes() == path);
        match stage_file(repository, index, path)? {
            Ok(status) => {
                added.staged_total += 1;
                if added.staged.len() < LISTED_MAX {
                    added.staged.push(StagedFile { path: shown(path), status });
                }
            }
            Err(Skip(reason)) if named => {
                return Err(Refusal::refused(
                    "cannot_stage",
                    format!("{} {reason}", quoted(&shown(path))),
                    "leave it out",
                ));
            }
            Err(Skip(reason)) => {
                if added.skipped.len() < LISTED_MAX {
                    added.skipped.push(SkippedFile { path: shown(path), reason });
                }
            }
        }
    }
    Ok(())
}

/// Why a file is left out of what is staged.
pub(crate) struct Skip(pub(crate) String);

/// Brings the file at `path` as it is now into `index`, in memory, or says why not.
///
/// # Errors
///
/// When the index cannot be changed.
pub(crate) fn stage_file(
    repository: &OpenRepository,
    index: &mut Index,
    path: &[u8],
) -> Result<Result<&'static str, Skip>, Refusal> {
    use std::os::unix::ffi::OsStrExt;
    let os_path = Path::new(std::ffi::OsStr::from_bytes(path));
    if path.ends_with(b"/") {
        return Ok(Err(Skip("is another repository".to_owned())));
    }
    if path.split(|byte| *byte == b'/').any(|part| is_git_directory(&String::from_utf8_lossy(part))) {
        return Ok(Err(Skip("has a name that some file systems take for `.git`".to_owned())));
    }
    if let Some(filter) = required_filter(&repository.git, os_path) {
        return Ok(Err(Skip(format!("needs the filter `{filter}`, and no external program is run"))));
    }
    let known = index.get_path(os_path, 0);
    let left_out = known.as_ref().is_some_and(worktree_file::is_left_out);
    match worktree_file::store(&repository.git, &repository.worktree, path, known.as_ref().map(|entry| entry.mode)) {
        Ok(entry) => {
            if path == b".gitmodules"
                && let Ok(content) = repository.git.find_blob(entry.id)
                && let Some(fault) = modules_file::fault(content.content())
            {
                return Ok(Err(Skip(format!("is refused by git: {fault}"))));
            }
            // Also takes the sides of a conflict out.
            index.remove_path(os_path).map_err(failed("change the index"))?;
            if let Err(error) = index.add(&entry) {
                return Ok(Err(Skip(format!("cannot be in the index: {}", error.message()))));
            }
            Ok(Ok(if known.is_some() { "modified" } else { "added" }))
        }
        Err(Unreadable::Missing | Unreadable::BeyondLink) if !is_known(index, path) => {
            Ok(Err(Skip("has gone meanwhile".to_owned())))
        }
        Err(Unreadable::Missing) if left_out => Ok(Err(Skip("is left out by the sparse checkout".to_owned()))),
        Err(Unreadable::Missing | Unreadable::BeyondLink) => {
            index.remove_path(os_path).map_err(failed("change the index"))?;
            Ok(Ok("deleted"))
        }
        Err(error) => Ok(Err(Skip(error.to_string()))),
    }
}

/// Returns the filter without which the content of `path` must not be committed: git-lfs, git-crypt and their like.
fn required_filter(git: &Repository, path: &Path) -> Option<String> {
    let filter = git.get_attr(path, "filter", git2::AttrCheckFlags::default()).ok().flatten()?.to_owned();
    let required = git.config().ok()?.get_bool(&format!("filter.{filter}.required")).unwrap_or(false);
    (required || filter == "lfs").then_some(filter)
}

/// Returns whether the index has `path`, or something below it.
fn is_known(index: &Index, path: &[u8]) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let file = Path::new(std::ffi::OsStr::from_bytes(path));
    (0..=3).any(|stage| index.get_path(file, stage).is_some()) || index.find_prefix([path, b"/"].concat()).is_ok()
}

/// Returns the folder on the way to `path`, or `path` itself, that is a repository of its own.
fn nested_repository(worktree: &Path, path: &WorktreePath, is_folder: bool) -> Option<String> {
    let path = path.as_str();
    let above = path.match_indices('/').map(|(end, _)| &path[..end]);
    above
        .chain(is_folder.then_some(path))
        .find(|folder| fs::symlink_metadata(worktree.join(folder).join(".git")).is_ok())
        .map(str::to_owned)
}

fn unreadable(path: &str, error: &Unreadable) -> Refusal {
    let (code, hint) = match error {
        Unreadable::Missing => ("path_not_found", "git_status shows what has changed"),
        Unreadable::BeyondLink => ("beyond_symlink", "name the file where it really is, or the link itself"),
        Unreadable::Special | Unreadable::TooLarge | Unreadable::Failed(_) => ("cannot_stage", "leave it out"),
    };
    Refusal::refused(code, format!("{} {error}", quoted(path)), hint)
}

/// Returns what tells one state of the index file from another.
pub(crate) fn fingerprint(index: &Index) -> Option<(u64, i64, i64, u64)> {
    let metadata = fs::symlink_metadata(index.path()?).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len()))
}
