//! Other repositories: what is fetched from them and pushed to them.
//!
//! Those on this machine are opened; what those on [other machines](network) have comes into a repository of its own first.
//! Objects are copied and refs are moved here, under both repositories' locks, instead of by libgit2's own transport:
//! that one overwrites what somebody else pushed meanwhile, and takes refspecs and other names for the remote out of a
//! configuration that an agent may have written. No hook of either side is run.

pub mod network;

use std::io::Write;
use std::path::{Path, PathBuf};

use git2::{BranchType, Oid, PackBuilder, ReferenceType, Repository, RepositoryOpenFlags};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::Call;

use super::confine::GitDirectories;
use super::lock::ChangeLock;
use super::refs::{begin, branch_moved, branch_tip};
use super::{OpenRepository, not_a_repository};
use crate::Git;
use crate::branch_name::{BRANCH_PREFIX, BranchName, quoted};
use crate::git_error::failed;
use crate::protect::WritableBranch;
use crate::remote_url::RemoteUrl;
use crate::roots::Roots;
use crate::watch;
use network::Network;

/// How many branches of a remote are fetched at most.
const BRANCHES_MAX: usize = 5000;

/// A repository that another one knows by a name.
pub struct Remote {
    /// The name.
    pub name: BranchName,
    /// The repository, opened; of one on another machine, what was brought of it.
    pub git: Repository,
    network: Option<Network>,
}

/// A ref of a remote as the repository remembers it, moved.
#[derive(Clone, Debug)]
pub struct Moved {
    /// The branch's name at the remote.
    pub branch: String,
    /// Its commit before; none when it is new.
    pub old: Option<Oid>,
    /// Its commit now; none when the remote has it no more.
    pub new: Option<Oid>,
}

impl Remote {
    /// Opens the remote `name` of `repository`, which the operator must allow; nothing is reached over the network yet.
    ///
    /// # Errors
    ///
    /// `unknown_remote`, `unsupported_remote`, `remote_not_allowed`, `path_outside_root`, `not_a_repository`.
    pub fn open(server: &Git, repository: &OpenRepository, name: &str, call: &Call) -> Result<Self, Refusal> {
        let name = BranchName::parse(name)?;
        let config = repository.git.config().and_then(|mut config| config.snapshot());
        let config = config.map_err(failed("read the configuration"))?;
        let url = config.get_string(&format!("remote.{name}.url")).map_err(|_| {
            Refusal::refused(
                "unknown_remote",
                format!("there is no remote {}", quoted(name.as_str())),
                "have a human add it to the repository's configuration",
            )
        })?;
        match local_path(&url, &repository.worktree) {
            Some(path) => Self::open_folder(name, &path, &server.remote_roots),
            None => Self::open_network(server, repository, name, &url, call),
        }
    }

    fn open_network(
        server: &Git,
        repository: &OpenRepository,
        name: BranchName,
        url: &str,
        call: &Call,
    ) -> Result<Self, Refusal> {
        let url = RemoteUrl::parse(url).map_err(|fault| {
            // The address itself may have a password in it.
            Refusal::refused(
                "unsupported_remote",
                format!("the address of the remote {} cannot be used: {fault}", quoted(name.as_str())),
                "remotes are paths, `file://`, `https://`, `ssh://` or `user@host:path`",
            )
        })?;
        if !server.remotes.allow(&url) {
            return Err(Refusal::refused(
                "remote_not_allowed",
                format!("the remote {} is at {url}, which is none of those that may be used", quoted(name.as_str())),
                "have the operator add it to `git.remotes`",
            ));
        }
        let network = Network::new(&repository.git, url, server.known_hosts.clone(), call)?;
        Ok(Self { name, git: network.open()?, network: Some(network) })
    }

    fn open_folder(name: BranchName, path: &Path, roots: &Roots) -> Result<Self, Refusal> {
        let dot_git = path.join(".git");
        let folder = if std::fs::symlink_metadata(&dot_git).is_ok() { dot_git } else { path.to_owned() };
        let directories = GitDirectories::find_remote(&folder, roots)?;
        watch::reads(&[directories.common()]);
        let none: [&Path; 0] = [];
        let flags = RepositoryOpenFlags::NO_SEARCH | RepositoryOpenFlags::BARE;
        let git = Repository::open_ext(directories.common(), flags, none).map_err(failed("open the remote"))?;
        if std::fs::canonicalize(git.path()).ok().as_deref() != Some(directories.common()) {
            return Err(not_a_repository(name.as_str(), "it was exchanged while it was opened"));
        }
        Ok(Self { name, git, network: None })
    }

    /// Brings what another machine has of `branch`, or of every branch, to this one; does nothing for a folder.
    ///
    /// Takes as long as the network does, so it comes before the repository is locked.
    ///
    /// # Errors
    ///
    /// What [`Network::fetch`] refuses.
    pub fn bring(&mut self, branch: Option<&str>) -> Result<(), Refusal> {
        if let Some(network) = &self.network {
            network.fetch(branch)?;
            self.git = network.open()?;
        }
        Ok(())
    }

    /// Returns the full name under which the repository remembers `branch`.
    #[must_use]
    pub fn tracking(&self, branch: &str) -> String {
        format!("refs/remotes/{}/{branch}", self.name)
    }

    /// Returns the commit that the remote's branch is at now; `None` when it has none of this name.
    ///
    /// # Errors
    ///
    /// `symbolic_branch` when it is another name for one.
    pub fn tip(&self, branch: &str) -> Result<Option<Oid>, Refusal> {
        match &self.network {
            Some(network) => network.tip(branch),
            None => self.tip_here(branch),
        }
    }

    fn tip_here(&self, branch: &str) -> Result<Option<Oid>, Refusal> {
        let full = format!("{BRANCH_PREFIX}{branch}");
        if let Ok(reference) = self.git.find_reference(&full)
            && reference.kind() == Some(ReferenceType::Symbolic)
        {
            return Err(network::symbolic(branch));
        }
        branch_tip(&self.git, &full)
    }

    /// Copies what `local` lacks of `branch`, or of every branch, and moves the refs that remember them.
    ///
    /// # Errors
    ///
    /// `unknown_branch`, `too_many_branches`, `reference_locked`.
    pub fn fetch(
        &self,
        local: &Repository,
        branch: Option<&str>,
        prune: bool,
        lock: &ChangeLock,
    ) -> Result<Vec<Moved>, Refusal> {
        let tips = match branch {
            Some(branch) => {
                let tip = self.tip_here(branch)?.ok_or_else(|| unknown_branch(&self.name, branch))?;
                vec![(branch.to_owned(), tip)]
            }
            None => self.tips()?,
        };
        let wanted: Vec<Oid> = tips.iter().map(|(_, tip)| *tip).collect();
        copy(&self.git, local, &wanted)?;
        let mut moved = Vec::new();
        for (branch, tip) in &tips {
            let full = self.tracking(branch);
            let old = branch_tip(local, &full)?;
            if old != Some(*tip) {
                point(local, &full, old, Some(*tip), &format!("fetch {}", self.name), lock)?;
                moved.push(Moved { branch: branch.clone(), old, new: Some(*tip) });
            }
        }
        if prune {
            for (branch, old) in self.gone(local, &tips)? {
                point(local, &self.tracking(&branch), Some(old), None, "fetch: pruned", lock)?;
                moved.push(Moved { branch, old: Some(old), new: None });
            }
        }
        Ok(moved)
    }

    fn tips(&self) -> Result<Vec<(String, Oid)>, Refusal> {
        let mut tips = Vec::new();
        for branch in self.git.branches(Some(BranchType::Local)).map_err(failed("list the remote's branches"))? {
            let (branch, _) = branch.map_err(failed("list the remote's branches"))?;
            // Names that are not text, and other names for a branch, are left out.
            let (Ok(name), Some(tip)) = (branch.get().shorthand(), branch.get().target()) else { continue };
            if BranchName::parse(name).is_ok() && self.git.find_commit(tip).is_ok() {
                tips.push((name.to_owned(), tip));
            }
            if tips.len() > BRANCHES_MAX {
                return Err(Refusal::refused(
                    "too_many_branches",
                    format!("the remote has more than {BRANCHES_MAX} branches"),
                    "name one with `branch`",
                ));
            }
        }
        Ok(tips)
    }

    /// Returns the branches that `local` remembers and the remote has no more.
    fn gone(&self, local: &Repository, tips: &[(String, Oid)]) -> Result<Vec<(String, Oid)>, Refusal> {
        let prefix = self.tracking("");
        let mut gone = Vec::new();
        for reference in local.references().map_err(failed("list the refs"))? {
            let reference = reference.map_err(failed("list the refs"))?;
            let (Ok(name), Some(old)) = (reference.name(), reference.target()) else { continue };
            let Some(branch) = name.strip_prefix(&prefix) else { continue };
            if !tips.iter().any(|(tip, _)| tip == branch) {
                gone.push((branch.to_owned(), old));
            }
        }
        Ok(gone)
    }

    /// Moves the remote's `branch` from `expected` to `new`, which `local` has.
    ///
    /// # Errors
    ///
    /// `branch_moved`, `branch_checked_out`, `reference_locked`.
    pub fn push(
        &self,
        local: &Repository,
        branch: &WritableBranch,
        expected: Option<Oid>,
        new: Oid,
        log: &str,
    ) -> Result<(), Refusal> {
        if let Some(network) = &self.network {
            return network.push(branch, expected, new);
        }
        let name = branch.branch().name();
        let lock = ChangeLock::acquire(&self.git)?;
        // Its files would no longer be those of its branch.
        let head = std::fs::read_to_string(self.git.path().join("HEAD")).unwrap_or_default();
        let bare = self.git.config().and_then(|config| config.get_bool("core.bare")).unwrap_or(false);
        if !bare && head.trim_end() == format!("ref: {}", branch.branch().full()) {
            return Err(Refusal::refused(
                "branch_checked_out",
                format!("{} is checked out at the remote", quoted(name)),
                "push another branch, or have a human switch it there",
            ));
        }
        copy(local, &self.git, &[new])?;
        // Under the lock: no other name for a branch, and where it was.
        let full = branch.branch().full();
        let mut locked = begin(&self.git, &[full], &[], &lock)?;
        if self.tip_here(name)? != expected {
            return Err(branch_moved(name));
        }
        locked.transaction.set_target(full, new, None, log).map_err(failed("move the remote's branch"))?;
        locked.transaction.commit().map_err(failed("move the remote's branch"))
    }
}

/// Points `full_name` from `old` to `new`, if it is still at `old`.
///
/// # Errors
///
/// `branch_moved`, `reference_locked`.
pub fn point(
    git: &Repository,
    full_name: &str,
    old: Option<Oid>,
    new: Option<Oid>,
    log: &str,
    lock: &ChangeLock,
) -> Result<(), Refusal> {
    let mut locked = begin(git, &[full_name], &["packed-refs"], lock)?;
    if branch_tip(git, full_name)? != old {
        return Err(branch_moved(full_name));
    }
    match new {
        Some(new) => locked.transaction.set_target(full_name, new, None, log),
        None => locked.transaction.remove(full_name),
    }
    .and_then(|()| locked.transaction.commit())
    .map_err(failed("move a ref"))
}

/// Copies the commits `wanted`, and all that they need, that `to` lacks.
fn copy(from: &Repository, to: &Repository, wanted: &[Oid]) -> Result<(), Refusal> {
    let doing = "copy commits";
    let has = |git: &Repository, id: Oid| git.find_commit(id).is_ok();
    let wanted: Vec<Oid> = wanted.iter().copied().filter(|id| !is_whole(to, *id)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut walk = from.revwalk().map_err(failed(doing))?;
    for id in wanted {
        walk.push(id).map_err(failed(doing))?;
    }
    // What the other side leads to by a ref is there with all that it needs.
    for reference in to.references().map_err(failed(doing))? {
        let Ok(commit) = reference.map_err(failed(doing))?.peel_to_commit() else { continue };
        if has(from, commit.id()) {
            walk.hide(commit.id()).map_err(failed(doing))?;
        }
    }
    let mut pack: PackBuilder<'_> = from.packbuilder().map_err(failed(doing))?;
    pack.insert_walk(&mut walk).map_err(failed(doing))?;
    if pack.object_count() == 0 {
        return Ok(());
    }
    let objects = to.odb().map_err(failed(doing))?;
    let mut writer = objects.packwriter().map_err(failed(doing))?;
    let mut broken = None;
    let written = pack.foreach(|bytes| match writer.write_all(bytes) {
        Ok(()) => true,
        Err(error) => {
            broken = Some(error);
            false
        }
    });
    if let Some(error) = broken {
        return Err(Refusal::failed("git_failed", format!("cannot {doing}: {error}"), "free disk space"));
    }
    written.map_err(failed(doing))?;
    writer.commit().map(drop).map_err(failed(doing))
}

/// Returns whether a ref of `git` leads to `commit`, so that nothing that it needs is missing.
fn is_whole(git: &Repository, commit: Oid) -> bool {
    git.find_commit(commit).is_ok()
        && git.references().is_ok_and(|references| {
            references.flatten().filter_map(|reference| reference.target()).any(|target| target == commit)
        })
}

/// Returns the folder that `url` names, when it names one: no `host:path`, `ext::…` or other scheme.
fn local_path(url: &str, worktree: &Path) -> Option<PathBuf> {
    let path = match url.strip_prefix("file://") {
        // Escapes and hosts are not read.
        Some(path) if path.starts_with('/') && !path.contains('%') => path,
        Some(_) => return None,
        None if url.starts_with('/') || url.starts_with("./") || url.starts_with("../") => url,
        None => return None,
    };
    (!path.contains('\0')).then(|| worktree.join(path))
}

/// The remote has no such branch.
pub fn unknown_branch(remote: &BranchName, branch: &str) -> Refusal {
    Refusal::refused(
        "unknown_branch",
        format!("the remote {} has no branch {}", quoted(remote.as_str()), quoted(branch)),
        "git_fetch without `branch` fetches all that there are",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_are_remotes() {
        let worktree = Path::new("/work/tree");
        for (url, expected) in [
            ("/srv/a.git", "/srv/a.git"),
            ("file:///srv/a.git", "/srv/a.git"),
            ("../a.git", "/work/tree/../a.git"),
            ("./a", "/work/tree/./a"),
        ] {
            assert_eq!(local_path(url, worktree).as_deref(), Some(Path::new(expected)), "{url}");
        }
        for url in [
            "ext::sh -c touch% pwned",
            "git://host/a",
            "https://user:secret@host/a",
            "ssh://host/a",
            "host:a.git",
            "file://host/a",
            "file:///a%2f..%2fb",
            "fd::7",
            "-oProxyCommand=x",
            "",
            "a.git",
            "/a\0b",
        ] {
            assert_eq!(local_path(url, worktree), None, "{url}");
        }
    }
}
