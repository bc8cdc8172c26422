//! Repositories to try things on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use git2::{Oid, Repository, RepositoryInitOptions, Signature};
use tempfile::TempDir;
use tollgate_tests::mcp_process::McpProcess;

/// A folder `work` with a repository that has the branches `main`, `feature`, `production` and `release/1.2`, at
/// `feature`; beside it a folder `outside` with a repository that is nobody's business.
pub struct World {
    dir: TempDir,
}

impl World {
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let world = Self { dir };
        let repository = init(&world.work());
        let first = commit_file(&repository, "README.md", "hello\n", "first");
        let commit = repository.find_commit(first).unwrap();
        for branch in ["feature", "production", "release/1.2"] {
            repository.branch(branch, &commit, false).unwrap();
        }
        repository.set_head("refs/heads/feature").unwrap();
        let outside = init(&world.path("outside"));
        commit_file(&outside, "secret.txt", "secret\n", "secret");
        world
    }

    /// The folder with a repository and nothing else.
    pub fn empty() -> Self {
        let world = Self { dir: TempDir::new().unwrap() };
        init(&world.work());
        world
    }

    pub fn path(&self, below: &str) -> PathBuf {
        fs::canonicalize(self.dir.path()).unwrap().join(below)
    }

    pub fn work(&self) -> PathBuf {
        self.path("work")
    }

    pub fn file(&self, name: &str, content: &str) {
        let path = self.work().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.work().join(name)).unwrap()
    }

    pub fn repository(&self) -> Repository {
        Repository::open(self.work()).unwrap()
    }

    /// Starts the server in `work`.
    pub fn start(&self) -> McpProcess {
        self.start_as(&[])
    }

    pub fn start_as(&self, variables: &[(&str, &str)]) -> McpProcess {
        let home = self.path("home").display().to_string();
        let mut all = vec![("HOME", home.as_str()), ("XDG_CONFIG_HOME", home.as_str())];
        all.extend(variables);
        McpProcess::start("mcp-git", &self.work(), &[], &all)
    }

    /// Runs git in `work` and returns what it printed.
    pub fn git(&self, arguments: &[&str]) -> String {
        let identity = ["-c", "user.name=Other", "-c", "user.email=other@example.com"];
        let output = Command::new("git").args(identity).args(arguments).current_dir(self.work()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Checks that the repository is whole.
    pub fn fsck(&self) {
        let output = Command::new("git").args(["fsck", "--strict"]).current_dir(self.work()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !text.contains("error"), "{text}");
    }

    /// Every ref and what it is at, HEAD too.
    pub fn refs(&self) -> BTreeMap<String, String> {
        refs(&self.repository())
    }

    pub fn tip(&self, branch: &str) -> String {
        self.repository().refname_to_id(&format!("refs/heads/{branch}")).unwrap().to_string()
    }

    pub fn head(&self) -> String {
        self.repository().find_reference("HEAD").unwrap().symbolic_target().unwrap().unwrap().to_owned()
    }
}

pub fn init(path: &Path) -> Repository {
    let mut options = RepositoryInitOptions::new();
    options.initial_head("main").mkpath(true);
    let repository = Repository::init_opts(path, &options).unwrap();
    let mut config = repository.config().unwrap();
    config.set_str("user.name", "Test").unwrap();
    config.set_str("user.email", "test@example.com").unwrap();
    repository
}

pub fn refs(repository: &Repository) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = repository
        .references()
        .unwrap()
        .map(|reference| {
            let reference = reference.unwrap();
            let target = reference.symbolic_target().ok().flatten().map(str::to_owned);
            let target = target.unwrap_or_else(|| reference.target().unwrap().to_string());
            (reference.name().unwrap().to_owned(), target)
        })
        .collect();
    let head = fs::read_to_string(repository.path().join("HEAD")).unwrap();
    all.insert("HEAD".to_owned(), head);
    all
}

/// Commits a file on HEAD behind the server's back.
pub fn commit_file(repository: &Repository, name: &str, content: &str, message: &str) -> Oid {
    let path = repository.workdir().unwrap().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    let mut index = repository.index().unwrap();
    index.read(true).unwrap();
    index.add_path(Path::new(name)).unwrap();
    index.write().unwrap();
    let tree = repository.find_tree(index.write_tree().unwrap()).unwrap();
    let signature = Signature::now("Test", "test@example.com").unwrap();
    let parent = repository.head().ok().map(|head| head.peel_to_commit().unwrap());
    let parents: Vec<_> = parent.iter().collect();
    repository.commit(Some("HEAD"), &signature, &signature, message, &tree, &parents).unwrap()
}
