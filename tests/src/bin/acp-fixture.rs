//! An agent that speaks the Agent Client Protocol and does what the variable ACP_FIXTURE says; with `+stdio` at its end it
//! takes no MCP servers over HTTP.
#![allow(
    clippy::unwrap_used,
    clippy::zombie_processes,
    reason = "test code, where a panic is a failure, and a daemon is to be left"
)]

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// The client, over stdio.
struct Client {
    next: u64,
    session: Option<Session>,
}

/// What the client said about the session.
struct Session {
    cwd: String,
    tools: Tools,
}

/// How the task's tools are reached.
enum Tools {
    Http { url: String, authorization: String },
    Stdio { server: Value, bridge: RefCell<Bridge> },
}

/// The MCP server that the client told to start.
struct Bridge {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    next: u64,
}

fn main() {
    let mode = std::env::var("ACP_FIXTURE").unwrap_or_default();
    let (mode, http) = mode.strip_suffix("+stdio").map_or((mode.as_str(), true), |mode| (mode, false));
    let mut client = Client { next: 0, session: None };
    let mut turns = 0;
    while let Some(message) = receive() {
        let id = message["id"].clone();
        match message["method"].as_str() {
            Some("initialize") => {
                let capabilities = json!({ "mcpCapabilities": { "http": http } });
                answer(&id, &json!({ "protocolVersion": 1, "agentCapabilities": capabilities, "authMethods": [] }));
            }
            Some("session/new") => {
                let server = &message["params"]["mcpServers"][0];
                let cwd = message["params"]["cwd"].as_str().unwrap().to_owned();
                client.session = Some(Session { cwd, tools: Tools::new(server, http) });
                answer(&id, &json!({ "sessionId": "s" }));
            }
            Some("session/prompt") => {
                turns += 1;
                let prompt = message["params"]["prompt"][0]["text"].as_str().unwrap().to_owned();
                let reason = client.turn(mode, turns, &prompt);
                answer(&id, &json!({ "stopReason": reason }));
            }
            _ => {}
        }
    }
}

fn receive() -> Option<Value> {
    let mut line = String::new();
    let count = std::io::stdin().lock().read_line(&mut line).unwrap();
    (count > 0).then(|| serde_json::from_str(&line).unwrap())
}

fn send(message: &Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{message}").unwrap();
    out.flush().unwrap();
}

fn answer(id: &Value, result: &Value) {
    send(&json!({ "jsonrpc": "2.0", "id": id, "result": result }));
}

impl Client {
    fn turn(&mut self, mode: &str, number: u32, prompt: &str) -> &'static str {
        let session = self.session.take().unwrap();
        let reason = self.turn_in(&session, mode, number, prompt);
        self.session = Some(session);
        reason
    }

    fn turn_in(&mut self, session: &Session, mode: &str, number: u32, prompt: &str) -> &'static str {
        let file = |name: &str| format!("{}/{name}", session.cwd);
        match (mode, number) {
            ("good", 1) => {
                assert!(prompt.contains("Make add work"), "{prompt}");
                let read = self.ask("fs/read_text_file", &json!({ "sessionId": "s", "path": file("calc.py") }));
                self.say(&format!("calc.py was {}. ", read["result"]["content"]));
                let outside = self.ask("fs/read_text_file", &json!({ "sessionId": "s", "path": "/etc/hostname" }));
                self.say(&format!("outside: {}. ", outside["error"]["code"]));
                for kind in ["edit", "fetch", "switch_mode"] {
                    let outcome = self.permission(kind);
                    self.say(&format!("{kind}: {outcome}. "));
                }
                let tools = session.tools();
                self.say(&format!("{} tools. ", tools.len()));
                let broken = json!({ "path": "calc.py", "content": "def add(a, b):\n    return a +\n" });
                let written = session.call("tollgate__write_file", &broken);
                assert_eq!(written["isError"], false, "{written}");
                let push = session.call("git__git_push", &json!({}));
                self.say(&format!("push: {}. ", push["structuredContent"]["error"]["code"]));
                self.cost(0.01);
            }
            ("good", _) => {
                assert!(prompt.contains("This is not done"), "{prompt}");
                fs::write(file("calc.py"), "def add(a, b):\n    return a + b\n").unwrap();
                self.cost(0.03);
            }
            ("escape", _) => {
                let done = escapes(session);
                self.say(&format!("succeeded: {done:?}"));
                fs::write(file("calc.py"), "def add(a, b):\n    return a + b\n").unwrap();
            }
            ("greedy", _) => {
                self.cost(5.0);
                while let Some(message) = receive() {
                    if message["method"] == "session/cancel" {
                        return "cancelled";
                    }
                }
            }
            ("dies", _) => {
                eprintln!("I die of {}", std::env::var("FAKE_KEY").unwrap());
                std::process::exit(3);
            }
            ("endless", _) if prompt.contains("Files that you changed") => {
                fs::write(file("calc.py"), "def add(a, b):\n    return a + b\n").unwrap();
            }
            ("endless", _) => {
                let call = json!({ "path": "calc.py", "content": "def add(a, b):\n    return b + a\n" });
                session.call("tollgate__write_file", &call);
                // One that leaves its tree and its session.
                let daemon = format!("touch {0}; while true; do sleep 0.05; touch {0}; done", file("alive"));
                Command::new("setsid").args(["sh", "-c", &daemon]).stdin(Stdio::null()).spawn().unwrap();
                std::thread::sleep(Duration::from_secs(600));
            }
            ("bridges", _) => {
                for found in bridges(session) {
                    self.say(&format!("{found}. "));
                }
            }
            ("script", _) => {
                script(session);
                self.cost(0.01);
            }
            _ => self.say("I do nothing."),
        }
        "end_turn"
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let id = self.next;
        send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = receive().unwrap();
            if message["id"] == id && message.get("method").is_none() {
                return message;
            }
        }
    }

    fn permission(&mut self, kind: &str) -> Value {
        let options = json!([
            { "optionId": "always", "name": "No", "kind": "allow_always" },
            { "optionId": "no", "name": "Yes", "kind": "reject_once" },
            { "optionId": "yes", "name": "Maybe", "kind": "allow_once" },
        ]);
        let call = json!({ "toolCallId": kind, "kind": kind, "title": "something" });
        let answer =
            self.ask("session/request_permission", &json!({ "sessionId": "s", "toolCall": call, "options": options }));
        answer["result"]["outcome"]["optionId"].clone()
    }

    fn update(&self, update: &Value) {
        send(
            &json!({ "jsonrpc": "2.0", "method": "session/update", "params": { "sessionId": "s", "update": update } }),
        );
    }

    fn say(&self, text: &str) {
        self.update(&json!({ "sessionUpdate": "agent_message_chunk", "content": { "type": "text", "text": text } }));
    }

    fn cost(&self, dollars: f64) {
        let cost = json!({ "amount": dollars, "currency": "USD" });
        self.update(&json!({ "sessionUpdate": "usage_update", "used": 10, "size": 100, "cost": cost }));
    }
}

/// Returns what succeeded of everything that must not.
fn escapes(session: &Session) -> Vec<&'static str> {
    let worktree = Path::new(&session.cwd);
    let state = worktree.parent().unwrap().parent().unwrap();
    let workspace = state.parent().unwrap();
    let mut done = Vec::new();
    let mut attempt = |name: &'static str, succeeded: bool| {
        if succeeded {
            done.push(name);
        }
    };
    attempt("write the user's checkout", fs::write(workspace.join("calc.py"), "gone").is_ok());
    attempt("read the user's checkout", fs::read(workspace.join("calc.py")).is_ok());
    attempt("read the configuration", fs::read(workspace.join("tollgate.toml")).is_ok());
    for name in ["ledger.db", "sessions.db", "budget.db"] {
        attempt("read the records", fs::read(state.join(name)).is_ok());
    }
    attempt("write the history", fs::write(workspace.join(".git/HEAD"), "gone").is_ok());
    attempt("list the state folder", fs::read_dir(state).is_ok_and(|entries| entries.count() > 1));
    let link = worktree.join(".git");
    attempt("change what the tree belongs to", fs::write(&link, "gitdir: elsewhere").is_ok());
    attempt("take it away", fs::remove_file(&link).is_ok() || fs::rename(&link, worktree.join("was-git")).is_ok());
    fs::write(worktree.join("new-git"), "gitdir: elsewhere").unwrap();
    attempt("put another in its place", fs::rename(worktree.join("new-git"), &link).is_ok());
    let _ = fs::remove_file(worktree.join("new-git"));
    attempt("write elsewhere", fs::write("/var/tmp/acp-fixture-was-here", "x").is_ok());
    let home = std::env::var("HOME").unwrap();
    attempt("see the user's home", Path::new(&home).join(".cargo").exists() || home == "/root");
    attempt("see a variable", std::env::var("NOT_PASSED").is_ok());
    attempt(
        "see other processes",
        fs::read_dir("/proc").is_ok_and(|entries| {
            let numbers = entries
                .flatten()
                .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
            numbers
                .filter(|entry| {
                    fs::read_to_string(entry.path().join("cmdline"))
                        .is_ok_and(|line| line.contains("orchestrator") && !line.contains("\0bridge\0"))
                })
                .count()
                > 0
        }),
    );
    if let Tools::Http { url, .. } = &session.tools {
        let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
        attempt("call without the token", !request(url, &list, "Bearer wrong-wrong-wrong-wrong").contains("401"));
    }
    for (tool, arguments) in [
        ("tollgate__read_file", json!({ "path": "../../ledger.db" })),
        ("git__git_commit", json!({ "repo_path": workspace, "message": "x" })),
        ("deploy__deploy", json!({})),
    ] {
        attempt("use a tool outside", session.call(tool, &arguments)["isError"] == false);
    }
    done
}

/// Does the calls of the file ACP_SCRIPT, going on where the working tree and the history say that it was.
fn script(session: &Session) {
    let script = fs::read_to_string(std::env::var("ACP_SCRIPT").unwrap()).unwrap();
    let turns: Value = serde_json::from_str(&script).unwrap();
    let turns = turns["turns"].as_array().unwrap();
    let log = session.call("git__git_log", &json!({ "max_count": 50 }));
    assert_eq!(log["isError"], false, "{log}");
    let history = log["structuredContent"].to_string();
    let content = fs::read_to_string(format!("{}/log.py", session.cwd)).unwrap_or_default();
    let is_done = |turn: &Value| {
        let text = |key: &str| turn["arguments"][key].as_str().unwrap().to_owned();
        match turn["tool"].as_str().unwrap() {
            "tollgate__write_file" => !content.is_empty(),
            "tollgate__edit_file" => content.contains(text("new").lines().next().unwrap()),
            "git__git_commit" => history.contains(&text("message")),
            _ => false,
        }
    };
    let next = turns.iter().rposition(is_done).map_or(0, |last| last + 1);
    for turn in &turns[next..] {
        let arguments = turn.get("arguments").cloned().unwrap_or_else(|| json!({}));
        let answer = session.call(turn["tool"].as_str().unwrap(), &arguments);
        assert_eq!(answer["isError"], false, "{turn}: {answer}");
    }
}

/// Tells what comes of bridges that are started otherwise than they are meant to be, and of what is sent to them.
fn bridges(session: &Session) -> Vec<String> {
    let Tools::Stdio { server, bridge } = &session.tools else { return vec!["there is no bridge".to_owned()] };
    let token = server["env"].as_array().unwrap().iter().find(|entry| entry["name"] == "TOLLGATE_BRIDGE_TOKEN");
    let token = token.unwrap()["value"].as_str().unwrap();
    let mut found = Vec::new();
    let command_line = fs::read(format!("/proc/{}/cmdline", bridge.borrow().child.id())).unwrap();
    let is_shown = String::from_utf8_lossy(&command_line).contains(token);
    found.push(format!("token on the command line: {is_shown}"));
    let other = format!("{}{}", &token[1..], &token[..1]);
    for (what, variable, value) in [
        ("no token", "TOLLGATE_BRIDGE_TOKEN", ""),
        ("another token", "TOLLGATE_BRIDGE_TOKEN", other.as_str()),
        ("a header for a token", "TOLLGATE_BRIDGE_TOKEN", "x\r\nauthorization: y"),
        ("no address", "TOLLGATE_BRIDGE_ADDRESS", ""),
        ("nobody there", "TOLLGATE_BRIDGE_ADDRESS", "127.0.0.1:1"),
    ] {
        let mut command = start(server);
        let output = command.env(variable, value).output().unwrap();
        assert!(output.stdout.is_empty());
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        found.push(format!("{what}: {:?}: {said}", output.status.code()));
    }
    // Longer than any line may be: neither held nor passed on, and the lines after it are answered.
    let mut long = Bridge::start(server);
    long.send_line(&vec![b'x'; 20 * 1024 * 1024]);
    let refused = long.receive();
    found.push(format!("20 MB: {}: {}", refused["error"]["code"], refused["error"]["message"]));
    found.push(format!("after it: {}", long.ask("tools/list", &json!({}))["tools"].as_array().unwrap().len() > 10));
    let more_kib = long.peak_kib().saturating_sub(bridge.borrow().peak_kib());
    found.push(format!("it held less than 4 MB more than another: {}", more_kib < 4 * 1024));
    found.push(format!("its end: {:?}", long.end().code()));
    // Who closes stdin still has its answer.
    let mut hasty = Bridge::start(server);
    let read = json!({ "name": "tollgate__read_file", "arguments": { "path": "calc.py" } });
    hasty.send(&json!({ "jsonrpc": "2.0", "id": "last", "method": "tools/call", "params": read }));
    hasty.input = None;
    found.push(format!("the last answer: {}", hasty.receive()["id"]));
    found.push(format!("its end: {:?}", hasty.end().code()));
    found
}

/// Returns the command that the client said starts its MCP server.
fn start(server: &Value) -> Command {
    let texts = |key: &str| server[key].as_array().unwrap().clone();
    let mut command = Command::new(server["command"].as_str().unwrap());
    command.args(texts("args").iter().map(|argument| argument.as_str().unwrap()));
    for variable in texts("env") {
        command.env(variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap());
    }
    command.stdin(Stdio::null());
    command
}

impl Bridge {
    fn start(server: &Value) -> Self {
        let mut child = start(server).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut bridge = Self { child, input, output, next: 0 };
        let hello = json!({
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "fixture", "version": "1" },
        });
        assert_eq!(bridge.ask("initialize", &hello)["serverInfo"]["name"], "tollgate");
        bridge.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        bridge
    }

    fn send_line(&mut self, line: &[u8]) {
        let input = self.input.as_mut().unwrap();
        input.write_all(&[line, b"\n"].concat()).unwrap();
    }

    fn send(&mut self, message: &Value) {
        self.send_line(message.to_string().as_bytes());
    }

    fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        self.send(&json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params }));
        loop {
            let message = self.receive();
            if message["id"] == self.next {
                return message["result"].clone();
            }
        }
    }

    /// Returns the most memory that it ever had, its program included.
    fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn end(&mut self) -> ExitStatus {
        self.input = None;
        self.child.wait().unwrap()
    }
}

impl Tools {
    fn new(server: &Value, http: bool) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        if http {
            return Self::Http { url: text(&server["url"]), authorization: text(&server["headers"][0]["value"]) };
        }
        Self::Stdio { server: server.clone(), bridge: RefCell::new(Bridge::start(server)) }
    }
}

/// Posts one message and returns the whole response, head and all.
fn request(url: &str, message: &Value, authorization: &str) -> String {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let body = message.to_string();
    let head = format!(
        "POST /{path} HTTP/1.1\r\nhost: {host}\r\nauthorization: {authorization}\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\ncontent-length: {}\r\nconnection: close\r\n{}\r\n",
        body.len(),
        headers(message)
    );
    let mut stream = TcpStream::connect(host).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

/// A request of the stateless revision says in its head what it is.
fn headers(message: &Value) -> String {
    let method = message["method"].as_str().unwrap();
    let name = message["params"]["name"].as_str().map(|name| format!("mcp-name: {name}\r\n")).unwrap_or_default();
    format!("mcp-protocol-version: 2026-07-28\r\nmcp-method: {method}\r\n{name}")
}

impl Session {
    fn ask(&self, method: &str, mut params: Value) -> Value {
        let (url, authorization) = match &self.tools {
            Tools::Http { url, authorization } => (url, authorization),
            Tools::Stdio { bridge, .. } => return bridge.borrow_mut().ask(method, &params),
        };
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "fixture", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let response = request(url, &message, authorization);
        let mut json = response.lines().filter_map(|line| {
            let line = line.strip_prefix("data:").unwrap_or(line).trim();
            serde_json::from_str::<Value>(line).ok().filter(|value| value.get("result").is_some())
        });
        json.next_back().unwrap_or_else(|| panic!("{response}"))["result"].clone()
    }

    fn tools(&self) -> Vec<Value> {
        self.ask("tools/list", json!({}))["tools"].as_array().unwrap().clone()
    }

    fn call(&self, name: &str, arguments: &Value) -> Value {
        self.ask("tools/call", json!({ "name": name, "arguments": arguments }))
    }
}
