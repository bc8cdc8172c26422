//! A workspace to deploy from, and everything that must not change when a call is refused.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_tests::mcp_process::McpProcess;

/// The environments of most tests; a release is healthy when its own `check` says so.
const CONFIGURATION: &str = r#"
[deploy]
artifacts = ["."]

[deploy.environments.dev]
path = "targets/dev/{service}"
health = { command = ["{release}/check", "{service}"], timeout_ms = 5000 }

[deploy.environments.staging]
path = "targets/staging/{service}"
requires = ["dev"]
health = { command = ["{release}/check", "{service}"], timeout_ms = 5000 }

[deploy.environments.prod]
path = "targets/prod/{service}"
requires = ["staging"]
approvals = 1
"#;

/// A folder `work` with a configuration and an artifact `dist`; beside it a folder `outside`.
pub struct World {
    dir: TempDir,
}

impl World {
    pub fn new() -> Self {
        Self::configured(CONFIGURATION)
    }

    pub fn configured(configuration: &str) -> Self {
        let world = Self { dir: TempDir::new().unwrap() };
        fs::create_dir_all(world.work()).unwrap();
        fs::create_dir_all(world.path("outside/dist")).unwrap();
        fs::write(world.path("outside/dist/secret"), "secret").unwrap();
        world.configure(configuration);
        world.build("dist", "1.0", "exit 0");
        world
    }

    pub fn configure(&self, configuration: &str) {
        fs::write(self.work().join("tollgate.toml"), configuration).unwrap();
    }

    pub fn path(&self, below: &str) -> PathBuf {
        fs::canonicalize(self.dir.path()).unwrap().join(below)
    }

    pub fn work(&self) -> PathBuf {
        self.path("work")
    }

    /// Makes an artifact: what it says it is, and a check.
    pub fn build(&self, name: &str, content: &str, check: &str) {
        let folder = self.work().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("data/deep")).unwrap();
        fs::write(folder.join("content"), content).unwrap();
        fs::write(folder.join("data/deep/file"), content.repeat(1000)).unwrap();
        fs::write(folder.join("check"), format!("#!/bin/sh\n{check}\n")).unwrap();
        fs::set_permissions(folder.join("check"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn start(&self) -> McpProcess {
        McpProcess::start("mcp-deploy", &self.work(), &[], &[("TOLLGATE_AGENT", "tester")])
    }

    pub fn target(&self, environment: &str) -> PathBuf {
        self.work().join("targets").join(environment).join("shop")
    }

    /// What is current in an environment; it must be a whole release.
    pub fn current(&self, environment: &str) -> Option<String> {
        let target = self.target(environment);
        let link = fs::read_link(target.join("current")).ok()?;
        let release = target.join(&link);
        assert!(link.starts_with("releases") && release.is_dir(), "current leads to {}", link.display());
        let content = fs::read_to_string(release.join("content")).unwrap();
        assert_eq!(fs::read_to_string(release.join("data/deep/file")).unwrap(), content.repeat(1000));
        Some(content)
    }

    pub fn releases(&self, environment: &str) -> Vec<String> {
        let Ok(listed) = fs::read_dir(self.target(environment).join("releases")) else { return Vec::new() };
        let mut names: Vec<String> = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Everything on disk but Tollgate's own state: kinds, modes, contents, where links lead.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, String> {
        self.snapshot_of("")
    }

    /// The same of one folder.
    pub fn snapshot_of(&self, below: &str) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        walk(&self.path(below), &mut all);
        all
    }
}

fn walk(folder: &Path, all: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name == ".tollgate") {
            continue;
        }
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else if metadata.is_dir() {
            walk(&path, all);
            String::new()
        } else if metadata.is_file() {
            format!("{:?}", fs::read(&path).unwrap())
        } else {
            "special".to_owned()
        };
        all.insert(path, format!("{:o} {content}", metadata.permissions().mode()));
    }
}

/// Arguments to deploy `dist` of the service `shop`.
pub fn dist(environment: &str, version: &str) -> Value {
    json!({"environment": environment, "service": "shop", "version": version, "artifact": "dist"})
}

/// The history, newest first, as `version state`.
pub async fn history(server: &McpProcess, environment: &str) -> Vec<String> {
    let status = server.ok("deployment_status", json!({"environment": environment, "limit": 100})).await;
    status["deployments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {}", one["version"].as_str().unwrap(), one["state"].as_str().unwrap()))
        .collect()
}
