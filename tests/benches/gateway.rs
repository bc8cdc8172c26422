//! What the gateway adds to a call: the same echo asked directly and through `orchestrator serve`, with one and with
//! sixteen calls in flight, taken in turn in one run.
//!
//! `cargo bench -p tollgate-tests --bench gateway`; the figures of record are in docs/benchmarks.md. Other proxies are
//! measured beside it when `TOLLGATE_BENCH_PROXIES` names them: `name=command with arguments`, separated by `;`, each
//! a command that puts `mcp-fixture` behind itself over stdio, `{fixture}` standing for its path.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::float_arithmetic, reason = "a benchmark prints ratios")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::world::{orchestrator, program};

/// Calls per server, round and number in flight.
const CALLS: usize = 2_000;
/// Rounds, taken in turn by all, so that a busy moment of the machine hits all alike.
const ROUNDS: usize = 5;
/// Calls before anything is measured.
const WARM_UP: usize = 200;

struct Server {
    name: String,
    tool: &'static str,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    next: u64,
}

impl Server {
    fn start(name: &str, tool: &'static str, mut command: Command, folder: &Path) -> Self {
        let mut child = command
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut server = Self { name: name.to_owned(), tool, child, stdin, stdout, next: 1 };
        // The older greeting: every proxy knows it.
        server.send(&json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}}));
        server.answer_to(0);
        server.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        server
    }

    fn send(&mut self, message: &Value) {
        self.stdin.write_all(format!("{message}\n").as_bytes()).unwrap();
    }

    fn answer_to(&mut self, id: u64) -> Value {
        loop {
            let answer = self.answer();
            if answer["id"] == id {
                return answer;
            }
        }
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "{} ended", self.name);
        serde_json::from_str(&line).unwrap()
    }

    /// Makes `count` calls with `flight` at a time, and returns how long each took.
    fn calls(&mut self, count: usize, flight: usize) -> Vec<Duration> {
        let mut begun = HashMap::new();
        let mut took = Vec::with_capacity(count);
        let mut sent = 0;
        while took.len() < count {
            while begun.len() < flight && sent < count {
                let id = self.next;
                self.next += 1;
                let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
                    "params": {"name": self.tool, "arguments": {"text": "hello"}}});
                begun.insert(id, Instant::now());
                self.send(&call);
                sent += 1;
            }
            let answer = self.answer();
            let Some(at) = answer["id"].as_u64().and_then(|id| begun.remove(&id)) else { continue };
            took.push(at.elapsed());
            assert!(answer["result"].get("content").is_some(), "{}: {answer}", self.name);
        }
        took
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_secs_f64() * 1e6
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = program("mcp-fixture");
    let config = |name: &str, budget: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        let text = format!(
            "[orchestrator]\nservers = []\n\n{budget}[servers.fixture]\ncommand = {fixture:?}\nplain_names = true\n"
        );
        std::fs::write(path.join("tollgate.toml"), text).unwrap();
        path
    };
    let serve = || {
        let mut command = Command::new(orchestrator());
        command.arg("serve");
        command
    };
    let mut servers = vec![
        Server::start("direct", "echo", Command::new(&fixture), folder.path()),
        Server::start("gateway", "echo", serve(), &config("plain", "")),
        Server::start(
            "gateway, with a budget",
            "echo",
            serve(),
            &config("budget", "[budget]\nper_day_usd = \"1000\"\n\n[prices]\n\"fixture.echo\" = \"0.00001\"\n\n"),
        ),
    ];
    for proxy in
        std::env::var("TOLLGATE_BENCH_PROXIES").unwrap_or_default().split(';').filter(|proxy| !proxy.is_empty())
    {
        let (name, line) = proxy.split_once('=').expect("name=command");
        let mut words = line.split_whitespace().map(|word| word.replace("{fixture}", fixture.to_str().unwrap()));
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        servers.push(Server::start(name, "echo", command, folder.path()));
    }
    for server in &mut servers {
        server.calls(WARM_UP, 1);
    }
    for flight in [1, 16] {
        let mut took: Vec<Vec<Duration>> = vec![Vec::new(); servers.len()];
        for _ in 0..ROUNDS {
            for (server, took) in servers.iter_mut().zip(&mut took) {
                took.extend(server.calls(CALLS / if flight == 1 { 2 } else { 1 }, flight));
            }
        }
        took.iter_mut().for_each(|took| took.sort_unstable());
        println!("\n{flight} in flight | p50 | p99 | against direct, p50 | added, p50");
        let direct = percentile(&took[0], 50);
        for (server, took) in servers.iter().zip(&took) {
            let (half, most) = (percentile(took, 50), percentile(took, 99));
            println!("{} | {half:.0} µs | {most:.0} µs | {:.2}× | {:.0} µs", server.name, half / direct, half - direct);
        }
    }
}
