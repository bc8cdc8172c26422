//! Ways out of the sandbox, each tried for real in every confinement that works on this machine, beside ordinary uses.

mod attacks;
mod limits;
mod uses;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_shared::sandbox::{Job, Limits, toolchain};
use tollgate_tests::world::program;

/// A workspace that a job may read, a scratch folder that it may write, and beside both what it must not touch.
pub struct World {
    /// All of it.
    pub folder: TempDir,
}

impl World {
    /// Makes the folders and what attackers look for.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["workspace/src", "workspace/.tollgate", "workspace/nested/state", "scratch", "outside/.ssh"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("workspace/src/code.py", "print('code')\n");
        write("workspace/.tollgate/ledger.db", "LEDGER");
        write("workspace/nested/state/key", "KEY");
        write("workspace/nested/other", "OTHER");
        write("outside/.ssh/id", "PRIVATE");
        write("outside/victim", "VICTIM");
        Self { folder }
    }

    /// Returns a path of this world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    /// Returns a path of this world as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Returns a job that runs `command`.
    pub fn job(&self, command: &[&str]) -> Job {
        let own = program("sandboxed");
        let mut readable = toolchain::system();
        readable.extend(toolchain::of_program(&own));
        readable.push(self.path("workspace"));
        let (program, arguments) =
            if command[0] == "attack" { (own, command) } else { (PathBuf::from(command[0]), &command[1..]) };
        Job {
            program,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            folder: self.path("workspace"),
            environment: BTreeMap::from([
                ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
                ("TMPDIR".to_owned(), self.text("scratch")),
            ]),
            readable,
            writable: vec![self.path("scratch")],
            fixed: Vec::new(),
            hidden: vec![self.path("workspace/.tollgate"), self.path("workspace/nested/state")],
            limits: Limits { wall_ms: 60_000, ..Limits::default() },
        }
    }
}

/// Returns the confinements that work here; one that does not is named on stderr.
pub fn confinements() -> Vec<&'static str> {
    let world = World::new();
    let works = |confinement: &&str| {
        let answer = run(confinement, &world.job(&["/bin/sh", "-c", "exit 0"]), 0);
        if answer["ended"] != json!({ "exited": 0 }) {
            eprintln!("{confinement} does not work here: {answer}");
        }
        answer["ended"] == json!({ "exited": 0 })
    };
    let found: Vec<_> = ["namespaces", "bubblewrap", "landlock"].into_iter().filter(works).collect();
    assert!(!found.is_empty(), "no sandbox works here, so nothing is tested");
    found
}

/// Runs `job` and returns what came of it.
pub fn run(confinement: &str, job: &Job, cancel_ms: u64) -> Value {
    let child = begin(confinement, job, cancel_ms);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the runner failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Starts `job` in a program that stands for a server.
pub fn begin(confinement: &str, job: &Job, cancel_ms: u64) -> Child {
    let mut child = Command::new(program("sandboxed"))
        .args(["run", confinement, &cancel_ms.to_string()])
        .env("OPERATOR_SECRET", "HUNTER2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(job).unwrap()).unwrap();
    child
}

/// Returns whether `heartbeat` still changes.
pub fn beats(heartbeat: &Path) -> bool {
    let before = fs::read_to_string(heartbeat).unwrap_or_default();
    std::thread::sleep(std::time::Duration::from_millis(600));
    before != fs::read_to_string(heartbeat).unwrap_or_default()
}
