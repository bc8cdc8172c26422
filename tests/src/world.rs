//! The programs under test and temporary places for them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Returns the path of a program of the workspace, built once for the whole test run.
///
/// `cargo test` builds a program only for its own package's tests, and this package has none of them.
pub fn program(name: &str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    BUILT.lock().unwrap().entry(name.to_owned()).or_insert_with(|| build(name)).clone()
}

/// Returns the path of the orchestrator, with the servers that it finds beside itself.
pub fn orchestrator() -> PathBuf {
    for server in ["mcp-ralph", "mcp-git", "mcp-database", "mcp-deploy"] {
        program(server);
    }
    program("orchestrator")
}

/// Returns the orchestrator's command line in `folder`, with nothing of the caller's own configuration or identity.
pub fn orchestrator_in(folder: &Path) -> Command {
    let mut command = Command::new(orchestrator());
    command.current_dir(folder);
    for variable in ["TOLLGATE_CONFIG", "TOLLGATE_STATE_DIR", "TOLLGATE_AGENT", "TOLLGATE_ROLE", "TOLLGATE_TASK"] {
        command.env_remove(variable);
    }
    command
}

/// Says that a test is skipped and why; a failure where `TOLLGATE_REQUIRE_SERVICES=1` says that nothing may be missing.
///
/// # Panics
///
/// When nothing may be missing.
pub fn skipped(why: &str) {
    let required = std::env::var("TOLLGATE_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
    assert!(!required, "skipped: {why}");
    eprintln!("skipped: {why}");
}

/// Returns the root of the repository.
pub fn repository_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository")
}

/// Returns what builds programs of the workspace with all that was compiled for whoever asks.
#[must_use]
pub fn cargo_build() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--workspace"]).current_dir(repository_root());
    // What Cargo says of a package to what it runs of it is not for another Cargo: build scripts that look at it would run
    // again, and with them half of what was built before.
    for (name, _) in std::env::vars_os() {
        let of_this_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_CFG_"];
        if name.to_str().is_some_and(|name| of_this_package.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    command
}

fn build(name: &str) -> PathBuf {
    let executable = std::env::current_exe().expect("a test has an executable");
    // target/<profile>/deps/<test> → target/<profile>
    let folder = executable.ancestors().nth(2).expect("the executable is two folders down").to_owned();
    let release = folder.file_name().is_some_and(|name| name == "release");
    let mut command = cargo_build();
    command.args(["--quiet", "--bin", name]);
    if release {
        command.arg("--release");
    }
    let status = command.status().expect("cargo runs");
    assert!(status.success(), "{name} does not build");
    folder.join(name)
}
