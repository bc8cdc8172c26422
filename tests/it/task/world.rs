//! A repository to do tasks in.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;
use tollgate_tests::world::orchestrator_in;

pub struct World {
    dir: TempDir,
}

impl World {
    pub fn new() -> Self {
        let world = Self { dir: TempDir::new().unwrap() };
        let path = world.path();
        fs::create_dir(path.join("tests")).unwrap();
        fs::write(path.join("calc.py"), "def add(a, b):\n    return 0\n").unwrap();
        fs::write(
            path.join("tests/test_calc.py"),
            "from calc import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n",
        )
        .unwrap();
        fs::write(path.join(".gitignore"), "script.json\nsecret\ntollgate.toml\n").unwrap();
        fs::write(path.join("tollgate.toml"), "[orchestrator]\nservers = [\"git\", \"ralph\"]\n").unwrap();
        world.git(&["init", "--quiet", "--initial-branch", "main"]);
        world.git(&["config", "user.name", "Other"]);
        world.git(&["config", "user.email", "other@example.com"]);
        world.git(&["add", "."]);
        world.git(&["commit", "--quiet", "--message", "first"]);
        world
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn script(&self, script: &Value) {
        fs::write(self.path().join("script.json"), script.to_string()).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = orchestrator_in(self.path());
        command.args(arguments);
        command
    }

    /// Runs a task by the script and returns its events and exit code.
    pub fn run(&self, arguments: &[&str]) -> (Vec<Value>, i32) {
        self.events(&[&["run", "--agent", "scripted:script.json", "--format", "json"], arguments].concat())
    }

    pub fn resume(&self, id: &str, arguments: &[&str]) -> (Vec<Value>, i32) {
        self.events(&[&["run", "--resume", id, "--format", "json"], arguments].concat())
    }

    fn events(&self, arguments: &[&str]) -> (Vec<Value>, i32) {
        self.events_of(&mut self.command(arguments))
    }

    pub fn events_of(&self, command: &mut Command) -> (Vec<Value>, i32) {
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(!events.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        (events, output.status.code().unwrap())
    }

    pub fn text(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.text(arguments)).unwrap()
    }

    pub fn sessions(&self) -> Vec<Value> {
        self.json(&["sessions", "list", "--json"]).as_array().unwrap().clone()
    }

    /// Makes the session `id`, which ended, one that nobody works on any more in the middle of `phase`.
    pub fn leave_in_phase(&self, id: &str, phase: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let options = SqliteConnectOptions::new().filename(self.path().join(".tollgate/sessions.db"));
            let mut connection = options.connect().await.unwrap();
            sqlx::query("UPDATE session SET body = json_set(body, '$.phase', json_object('phase', ?)) WHERE id = ?")
                .bind(phase)
                .bind(id)
                .execute(&mut connection)
                .await
                .unwrap();
            connection.close().await.unwrap();
        });
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git").args(arguments).current_dir(self.path()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Everything of the user's own checkout that a task must not change.
    pub fn checkout(&self) -> String {
        let status = self.git(&["status", "--porcelain", "--untracked-files=all"]);
        [self.git(&["rev-parse", "HEAD"]), self.git(&["symbolic-ref", "HEAD"]), status].concat()
    }
}
