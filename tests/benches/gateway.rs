//! What the gateway adds to a call: the same call made directly and through `orchestrator serve`, with one and with
//! sixteen in flight, taken in turn in one run. An echo, which does nothing, shows what is added; tools of the house show how much
//! that is of a call that does something.
//!
//! `cargo bench -p tollgate-tests --bench gateway`; the figures of record are in docs/benchmarks.md. Other proxies are
//! measured beside it when `TOLLGATE_BENCH_PROXIES` names them: `name=command with arguments`, separated by `;`, each
//! a command that puts `mcp-fixture` behind itself over stdio, `{fixture}` standing for its path. Those that serve over Streamable
//! HTTP are named by `TOLLGATE_BENCH_HTTP_PROXIES`, `{port}` standing for the port of 127.0.0.1 that they serve `/mcp` on.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::float_arithmetic, reason = "a benchmark prints ratios")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::world::{orchestrator, program};

/// Calls per server, round and number in flight.
const CALLS: usize = 2_000;
/// Rounds, taken in turn by all, so that a busy moment of the machine hits all alike.
const ROUNDS: usize = 5;
struct Server {
    name: String,
    tool: String,
    arguments: Value,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    next: u64,
}

impl Server {
    fn start(name: &str, tool: &str, arguments: Value, mut command: Command, folder: &Path) -> Self {
        let mut child = command
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let (name, tool) = (name.to_owned(), tool.to_owned());
        let mut server = Self { name, tool, arguments, child, stdin, stdout, next: 1 };
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
                    "params": {"name": self.tool, "arguments": self.arguments}});
                begun.insert(id, Instant::now());
                self.send(&call);
                sent += 1;
            }
            let answer = self.answer();
            let Some(at) = answer["id"].as_u64().and_then(|id| begun.remove(&id)) else { continue };
            took.push(at.elapsed());
            let result = &answer["result"];
            assert!(result.get("content").is_some() && result["isError"] != true, "{}: {answer}", self.name);
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

/// Measures `servers` in turns and prints each beside the first.
fn compare(title: &str, servers: &mut [Server], calls: usize) {
    for server in servers.iter_mut() {
        server.calls(calls / 10, 1);
    }
    for flight in [1, 16] {
        let mut took: Vec<Vec<Duration>> = vec![Vec::new(); servers.len()];
        for _ in 0..ROUNDS {
            for (server, took) in servers.iter_mut().zip(&mut took) {
                took.extend(server.calls(calls / if flight == 1 { 2 } else { 1 }, flight));
            }
        }
        took.iter_mut().for_each(|took| took.sort_unstable());
        println!("\n{title}, {flight} in flight | p50 | p99 | against direct, p50 | added, p50");
        let direct = percentile(&took[0], 50);
        for (server, took) in servers.iter().zip(&took) {
            let (half, most) = (percentile(took, 50), percentile(took, 99));
            println!("{} | {half:.0} µs | {most:.0} µs | {:.2}× | {:.0} µs", server.name, half / direct, half - direct);
        }
    }
}

/// A server over Streamable HTTP.
struct Remote {
    name: String,
    child: Child,
    agent: ureq::Agent,
    url: String,
    session: Option<String>,
}

impl Remote {
    fn start(name: &str, port: u16, mut command: Command, folder: &Path) -> Self {
        let child = command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = child.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{name} does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        let url = format!("http://127.0.0.1:{port}/mcp");
        let mut remote =
            Self { name: name.to_owned(), child, agent: ureq::Agent::new_with_defaults(), url, session: None };
        remote.post(&json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}}));
        remote.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        remote
    }

    fn post(&mut self, message: &Value) -> String {
        let mut request = self
            .agent
            .post(&self.url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-06-18");
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        let mut response = request.send(message.to_string()).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        if let Some(session) = response.headers().get("mcp-session-id") {
            self.session = Some(session.to_str().unwrap().to_owned());
        }
        response.body_mut().read_to_string().unwrap()
    }

    fn calls(&mut self, count: usize) -> Vec<Duration> {
        let calls = (1..=count).map(|id| {
            let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
                "params": {"name": "echo", "arguments": {"text": "hello"}}});
            let begun = Instant::now();
            let answer = self.post(&call);
            let took = begun.elapsed();
            assert!(answer.contains("\"content\""), "{}: {answer}", self.name);
            took
        });
        calls.collect()
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Splits `name=command with arguments; …`, with `places` put into the commands.
fn commands(variable: &str, places: &[(&str, &str)]) -> Vec<(String, Command)> {
    let text = std::env::var(variable).unwrap_or_default();
    let command = |line: &str| {
        let (name, line) = line.split_once('=').expect("name=command");
        let put = |word: &str| places.iter().fold(word.to_owned(), |word, (place, value)| word.replace(place, value));
        let mut words = line.split_whitespace().map(put);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        (name.trim().to_owned(), command)
    };
    text.split(';').filter(|line| !line.trim().is_empty()).map(command).collect()
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Measures the gateway over HTTP beside others that serve the same echo over HTTP.
fn compare_remotes(folder: &Path, fixture: &str) {
    let port = free_port();
    let mut gateway = serve();
    gateway.args(["--http", &format!("127.0.0.1:{port}")]);
    let mut remotes = vec![Remote::start("gateway", port, gateway, folder)];
    let count = commands("TOLLGATE_BENCH_HTTP_PROXIES", &[]).len();
    for index in 0..count {
        let port = free_port();
        let places = [("{fixture}", fixture), ("{port}", &port.to_string())];
        let (name, command) = commands("TOLLGATE_BENCH_HTTP_PROXIES", &places).remove(index);
        remotes.push(Remote::start(&name, port, command, folder));
    }
    let mut took: Vec<Vec<Duration>> = vec![Vec::new(); remotes.len()];
    for round in 0..=ROUNDS {
        for (remote, took) in remotes.iter_mut().zip(&mut took) {
            let calls = remote.calls(CALLS / 10);
            // The first round warms up.
            if round > 0 {
                took.extend(calls);
            }
        }
    }
    println!("\necho over HTTP, 1 in flight | p50 | p99");
    for (remote, took) in remotes.iter().zip(&mut took) {
        took.sort_unstable();
        println!("{} | {:.0} µs | {:.0} µs", remote.name, percentile(took, 50), percentile(took, 99));
    }
}

fn serve() -> Command {
    let mut command = Command::new(orchestrator());
    command.arg("serve");
    command
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
    let echo = |name: &str, command: Command, folder: &Path| {
        Server::start(name, "echo", json!({"text": "hello"}), command, folder)
    };
    let mut servers = vec![
        echo("direct", Command::new(&fixture), folder.path()),
        echo("gateway", serve(), &config("plain", "")),
        echo(
            "gateway, with a budget",
            serve(),
            &config("budget", "[budget]\nper_day_usd = \"1000\"\n\n[prices]\n\"fixture.echo\" = \"0.00001\"\n\n"),
        ),
    ];
    for (name, command) in commands("TOLLGATE_BENCH_PROXIES", &[("{fixture}", fixture.to_str().unwrap())]) {
        servers.push(echo(&name, command, folder.path()));
    }
    compare("echo", &mut servers, CALLS);
    drop(servers);
    compare_remotes(&config("remote", ""), fixture.to_str().unwrap());

    let workspace = folder.path().join("workspace");
    make(&workspace);
    for (server, tool, arguments) in [
        ("git", "git_status", json!({})),
        ("git", "git_log", json!({"max_count": 10})),
        ("ralph", "verify_file", json!({"path": "source0.py"})),
        ("database", "query", json!({"sql": "SELECT name, amount FROM orders WHERE id = 7"})),
    ] {
        let direct = Command::new(program(&format!("mcp-{server}")));
        let mut servers = [
            Server::start("direct", tool, arguments.clone(), direct, &workspace),
            Server::start("gateway", &format!("{server}__{tool}"), arguments, serve(), &workspace),
        ];
        compare(&format!("{server} {tool}"), &mut servers, CALLS / 10);
    }
}

/// Makes a small repository with sources and a database.
fn make(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for number in 0..50 {
        let text = format!("def work{number}(value):\n    return value + {number}\n").repeat(20);
        std::fs::write(folder.join(format!("source{number}.py")), text).unwrap();
    }
    let database = rusqlite::Connection::open(folder.join("shop.db")).unwrap();
    let rows = "CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT, amount TEXT);
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
        INSERT INTO orders SELECT i, 'order ' || i, i || '.50' FROM n;";
    database.execute_batch(rows).unwrap();
    let text = "[database.connections.shop]\nurl = \"sqlite:shop.db\"\ncache_ms = 0\n";
    std::fs::write(folder.join("tollgate.toml"), text).unwrap();
    for arguments in [
        &["init", "-q", "-b", "work"][..],
        &["add", "."],
        &["-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-q", "-m", "Begin"],
    ] {
        assert!(Command::new("git").args(arguments).current_dir(folder).status().unwrap().success());
    }
}
