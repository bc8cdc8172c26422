//! mcp-git: git for agents, under protected-branch rules.
//!
//! Every call opens its repository anew, inside the configured [`roots`]; what writes a branch needs a
//! [`protect::WritableBranch`], which only the rules make. Everything in a repository goes through libgit2: no
//! external filter, diff driver or file-system monitor is ever run, whatever a repository's configuration says. The
//! [programs](program) that are run are the user's own: git and ssh to reach other machines, ssh-keygen or gpg to sign.
//! [Hooks](repository::hooks) run in a sandbox, and only where the operator says so.

pub mod branch_name;
pub mod commit_message;
pub mod config;
pub mod fold;
pub mod git_error;
pub mod memory;
pub mod modules_file;
pub mod moment;
pub mod patience;
pub mod program;
pub mod protect;
pub mod remote_url;
pub mod repository;
pub mod roots;
pub mod tools;
pub mod watch;
pub mod worktree_file;
pub mod worktree_path;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use git2::{ErrorCode, Repository, Signature};
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::tool::Toolbox;
use tollgate_shared::serve::{Server, Startup};

use config::{AuthorConfig, GitConfig};
use git_error::failed;
use protect::{NoRefs, ProtectedBranches, WritableBranch};
use remote_url::{AllowedRemotes, RemoteUrl};
use repository::head::Head;
use repository::hooks::HookRules;
use roots::Roots;

/// Longest time for the hooks of a commit: nobody waits longer for an answer.
const HOOKS_MS_MAX: u64 = 600_000;

/// The git server: where repositories may be, which branches are protected, whose name stands on commits.
#[derive(Debug)]
pub struct Git {
    /// The folders that repositories may be in.
    pub roots: Roots,
    /// The folders that remotes may be in: those, and what the operator adds.
    pub remote_roots: Roots,
    /// The remotes over the network that may be used.
    pub remotes: AllowedRemotes,
    /// A file of host keys besides the user's own.
    pub known_hosts: Option<PathBuf>,
    /// The branches that no tool writes.
    pub protected: ProtectedBranches,
    /// Whether and which hooks are run.
    pub hooks: HookRules,
    /// What the verdicts of Ralph that count here depend on.
    pub ralph_rules: ContentHash,
    author: Option<AuthorConfig>,
}

impl Git {
    /// Returns whose name stands on a commit made now in `repository`.
    ///
    /// # Errors
    ///
    /// `identity_missing` when neither the operator nor git's configuration says.
    pub fn signature(&self, repository: &Repository) -> Result<Signature<'static>, Refusal> {
        let signature = match &self.author {
            Some(author) => Signature::now(&author.name, &author.email),
            None => repository.signature(),
        };
        signature.map_err(|error| match error.code() {
            ErrorCode::NotFound => Refusal::refused(
                "identity_missing",
                "nothing says whose name stands on commits",
                "have the operator set `git.author` in tollgate.toml, or `user.name` and `user.email` in git's configuration",
            ),
            _ => failed("tell whose name stands on commits")(error),
        })
    }

    /// Permits the branch that `head` leads to.
    ///
    /// # Errors
    ///
    /// `protected_branch`, `detached_head`.
    pub fn permit_head(&self, repository: &Repository, head: &Head) -> Result<WritableBranch, Refusal> {
        let Head::Branch { branch, tip, .. } = head else {
            return Err(Refusal::refused(
                "detached_head",
                "HEAD is detached: a commit would be on no branch",
                "create a branch with git_create_branch and switch to it with git_checkout",
            ));
        };
        if tip.is_none()
            && let Some(no_refs) = NoRefs::check(repository).map_err(failed("list the refs"))?
        {
            return Ok(self.protected.permit_first(branch.clone(), &no_refs));
        }
        Ok(self.protected.permit(branch.clone())?)
    }
}

impl Server for Git {
    const NAME: &'static str = "git";
    const PROGRAM: &'static str = "mcp-git";
    const TITLE: &'static str = "Tollgate git";
    const INSTRUCTIONS: &'static str = "Git under protected-branch rules. Work on a branch of your own: git_create_branch, \
        git_checkout, git_add, git_commit. Commits to protected branches (main, release/*, …) are refused. Who made a \
        commit is added to its message; do not write such lines yourself.";

    type Config = GitConfig;

    fn new(config: GitConfig, startup: &Startup) -> anyhow::Result<Self> {
        anyhow::ensure!(!config.repositories.is_empty(), "`git.repositories` is empty: there is nothing to serve");
        let (addresses, folders): (Vec<&String>, Vec<&String>) =
            config.remotes.iter().partition(|remote| RemoteUrl::is_meant(remote));
        let allowed = AllowedRemotes::new(addresses.into_iter())
            .map_err(|fault| anyhow::anyhow!("`git.remotes` has an address that cannot be used: {fault}"))?;
        let known_hosts = config.known_hosts.as_ref().map(|path| startup.workspace.join(path));
        let plain =
            |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '\'' | '"' | '\\' | '%' | '$' | '~');
        if let Some(path) = &known_hosts {
            anyhow::ensure!(
                path.to_str().is_some_and(|path| path.chars().all(plain)),
                "`git.known_hosts` has a blank, a quote or another character in its path that ssh takes apart"
            );
        }
        let remotes: Vec<String> = config.repositories.iter().chain(folders).cloned().collect();
        for root in &remotes {
            anyhow::ensure!(
                !root.is_empty() && !root.contains('\0'),
                "`git.repositories` or `git.remotes` has an empty or impossible path"
            );
        }
        let protected =
            ProtectedBranches::new(&config.protected_branches).context("`git.protected_branches` has a wrong glob")?;
        let protected = protected.except(&config.branches).context("`git.branches` has a wrong glob")?;
        if let Some(author) = &config.author {
            let usable = |text: &str| {
                !text.trim().is_empty() && !text.contains(['<', '>']) && !text.chars().any(char::is_control)
            };
            anyhow::ensure!(usable(&author.name), "`git.author.name` is empty or has `<`, `>` or a control character");
            anyhow::ensure!(
                usable(&author.email),
                "`git.author.email` is empty or has `<`, `>` or a control character"
            );
        }
        anyhow::ensure!(
            (1..=HOOKS_MS_MAX).contains(&config.hooks_timeout_ms),
            "`git.hooks_timeout_ms` is not between 1 and {HOOKS_MS_MAX}"
        );
        anyhow::ensure!(
            config.hooks || config.hooks_folder.is_none(),
            "`git.hooks_folder` is set and `git.hooks` is not: say `hooks = true` as well"
        );
        let hooks_folder = config.hooks_folder.as_ref().map(|path| {
            let folder = startup.workspace.join(path);
            folder.canonicalize().with_context(|| format!("`git.hooks_folder` {} cannot be used", folder.display()))
        });
        let hooks = HookRules {
            allowed: config.hooks,
            folder: hooks_folder.transpose()?,
            time_max: Duration::from_millis(config.hooks_timeout_ms),
            state: startup.state_dir.path().to_owned(),
        };
        Ok(Self {
            roots: Roots::new(startup.workspace.clone(), &config.repositories),
            remote_roots: Roots::new(startup.workspace.clone(), &remotes),
            remotes: allowed,
            known_hosts,
            protected,
            hooks,
            ralph_rules: startup.ralph_rules,
            author: config.author,
        })
    }

    fn tools() -> Toolbox<Self> {
        tools::toolbox()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tollgate_shared::state_dir::StateDir;

    use super::*;
    use crate::config::BranchConfig;

    fn start(config: GitConfig) -> anyhow::Result<Git> {
        let workspace = Path::new("/work").to_owned();
        let state_dir = StateDir::choose(None, &workspace);
        let ralph_rules = ContentHash::ZERO;
        Git::new(config, &Startup { workspace, state_dir, ralph_rules, secrets: Vec::new() })
    }

    #[test]
    fn configuration_that_cannot_be_relied_on_is_an_error() {
        let author = |name: &str, email: &str| Some(AuthorConfig { name: name.into(), email: email.into() });
        let wrong = [
            GitConfig { repositories: vec![], ..GitConfig::default() },
            GitConfig { repositories: vec![String::new()], ..GitConfig::default() },
            GitConfig { protected_branches: vec!["release/[".into()], ..GitConfig::default() },
            GitConfig { branches: [("release/[".into(), BranchConfig::default())].into(), ..GitConfig::default() },
            GitConfig { remotes: vec!["https://me:secret@example.com/a".into()], ..GitConfig::default() },
            GitConfig { remotes: vec!["ext::sh -c x".into()], ..GitConfig::default() },
            GitConfig { known_hosts: Some("a b".into()), ..GitConfig::default() },
            GitConfig { hooks_folder: Some("/".into()), ..GitConfig::default() },
            GitConfig { hooks: true, hooks_folder: Some("/no/such/folder".into()), ..GitConfig::default() },
            GitConfig { hooks_timeout_ms: 0, ..GitConfig::default() },
            GitConfig { author: author("", "a@example.com"), ..GitConfig::default() },
            GitConfig { author: author("a <b>", "a@example.com"), ..GitConfig::default() },
            GitConfig { author: author("a", "a\nb"), ..GitConfig::default() },
        ];
        for config in wrong {
            assert!(start(config.clone()).is_err(), "{config:?}");
        }
        start(GitConfig::default()).unwrap();
        let remotes = ["../origin.git", "https://example.com/org", "git@example.com:org"].map(str::to_owned).to_vec();
        start(GitConfig { remotes, known_hosts: Some("known_hosts".into()), ..GitConfig::default() }).unwrap();
        start(GitConfig { author: author("Agent", "agent@example.com"), ..GitConfig::default() }).unwrap();
    }
}
