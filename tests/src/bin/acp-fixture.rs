//! An agent that speaks the Agent Client Protocol and does what the variable ACP_FIXTURE says.
#![allow(
    clippy::unwrap_used,
    clippy::zombie_processes,
    reason = "test code, where a panic is a failure, and a daemon is to be left"
)]

use std::fs;
use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// The client, over stdio.
struct Client {
    next: u64,
    session: Option<Session>,
}

/// What the client said about the session.
#[derive(Clone)]
struct Session {
    cwd: String,
    url: String,
    authorization: String,
}

fn main() {
    let mode = std::env::var("ACP_FIXTURE").unwrap_or_default();
    let mut client = Client { next: 0, session: None };
    let mut turns = 0;
    while let Some(message) = receive() {
        let id = message["id"].clone();
        match message["method"].as_str() {
            Some("initialize") => {
                let http = mode != "no-http";
                let capabilities = json!({ "mcpCapabilities": { "http": http } });
                answer(&id, &json!({ "protocolVersion": 1, "agentCapabilities": capabilities, "authMethods": [] }));
            }
            Some("session/new") => {
                let server = &message["params"]["mcpServers"][0];
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                client.session = Some(Session {
                    cwd: text(&message["params"]["cwd"]),
                    url: text(&server["url"]),
                    authorization: text(&server["headers"][0]["value"]),
                });
                answer(&id, &json!({ "sessionId": "s" }));
            }
            Some("session/prompt") => {
                turns += 1;
                let prompt = message["params"]["prompt"][0]["text"].as_str().unwrap().to_owned();
                let reason = client.turn(&mode, turns, &prompt);
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
        let session = self.session.clone().unwrap();
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
                let done = escapes(&session);
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
                    fs::read_to_string(entry.path().join("cmdline")).is_ok_and(|line| line.contains("orchestrator"))
                })
                .count()
                > 0
        }),
    );
    let no_token = session
        .request(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }), "Bearer wrong-wrong-wrong-wrong");
    attempt("call without the token", !no_token.contains("401"));
    for (tool, arguments) in [
        ("tollgate__read_file", json!({ "path": "../../ledger.db" })),
        ("git__git_commit", json!({ "repo_path": workspace, "message": "x" })),
        ("deploy__deploy", json!({})),
    ] {
        attempt("use a tool outside", session.call(tool, &arguments)["isError"] == false);
    }
    done
}

impl Session {
    /// Posts one message and returns the whole response, head and all.
    fn request(&self, message: &Value, authorization: &str) -> String {
        let (host, path) = self.url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let body = message.to_string();
        let head = format!(
            "POST /{path} HTTP/1.1\r\nhost: {host}\r\nauthorization: {authorization}\r\ncontent-type: application/json\r\n\
             accept: application/json, text/event-stream\r\ncontent-length: {}\r\nconnection: close\r\n{}\r\n",
            body.len(),
            self.headers(message)
        );
        let mut stream = TcpStream::connect(host).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    /// A request of the stateless revision says in its head what it is.
    fn headers(&self, message: &Value) -> String {
        let method = message["method"].as_str().unwrap();
        let name = message["params"]["name"].as_str().map(|name| format!("mcp-name: {name}\r\n")).unwrap_or_default();
        format!("mcp-protocol-version: 2026-07-28\r\nmcp-method: {method}\r\n{name}")
    }

    fn ask(&self, method: &str, mut params: Value) -> Value {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "fixture", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let response = self.request(&message, &self.authorization);
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
