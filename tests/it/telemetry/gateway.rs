//! Calls of hosts: part of the host's trace, and what servers do is part of them.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tollgate_tests::mcp_process::McpProcess;
use tollgate_tests::world::{orchestrator, program};

use super::collector::{Collector, Mood};
use crate::gateway::OverHttp;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const HOST: &str = "b7ad6b7169203331";

const SERVER: i32 = 2;
const CLIENT: i32 = 3;

pub fn world(more: &str) -> TempDir {
    let world = tempfile::tempdir().unwrap();
    fs::write(world.path().join("a.py"), "x = 1\n").unwrap();
    let config = format!(
        "[orchestrator]\nservers = [\"ralph\"]\n\n[prices]\n\"fixture.echo\" = \"0.25\"\n\n\
         [servers.fixture]\ncommand = {:?}\ncall_timeout_ms = 5000\n\n{more}",
        program("mcp-fixture"),
    );
    fs::write(world.path().join("tollgate.toml"), config).unwrap();
    world
}

pub fn serve(world: &Path, variables: &[(&str, &str)]) -> McpProcess {
    let mut command = tokio::process::Command::new(orchestrator());
    command.arg("serve").current_dir(world).envs(variables.iter().copied());
    McpProcess::spawn(command)
}

fn of_host() -> Map<String, Value> {
    let Value::Object(meta) = json!({
        "traceparent": format!("00-{TRACE}-{HOST}-01"),
        "tracestate": "vendor=opaque",
        "baggage": "kept=1",
    }) else {
        unreachable!()
    };
    meta
}

#[tokio::test]
async fn trace_of_a_host_goes_on_and_through_to_the_server() {
    let collector = Collector::start(Mood::Takes);
    let world = world(&super::to(&collector));
    let mut gateway = serve(world.path(), &[]);
    let told = gateway.try_call("fixture__told", json!({}), of_host()).await.unwrap();
    let own = gateway.try_call("ralph__verify_file", json!({"path": "a.py"}), of_host()).await.unwrap();
    assert!(!own.is_error, "{}", own.structured);
    let failed = gateway.call("fixture__crash", json!({})).await;
    assert_eq!(failed.structured["error"]["code"], "server_died");
    let prices = gateway.request("resources/read", json!({"uri": "ralph+cost://prices"})).await;
    assert!(prices["error"].is_null(), "{prices}");
    // Of what a host writes nothing becomes a name.
    for name in ["nobody__hunter2", "fixture__hunter2"] {
        let answer = gateway.request("tools/call", json!({"name": name, "arguments": {"text": "hunter2"}})).await;
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
    assert!(gateway.close().await.success(), "{}", gateway.stderr());

    let server = collector.span(|span| span.kind == SERVER && span.text("gen_ai.tool.name") == "fixture__told");
    assert_eq!((server.trace.as_str(), server.parent.as_str(), server.state.as_str()), (TRACE, HOST, "vendor=opaque"));
    assert_eq!(server.name, "tools/call fixture__told");
    for (key, value) in [
        ("mcp.method.name", json!("tools/call")),
        ("gen_ai.operation.name", json!("execute_tool")),
        ("mcp.protocol.version", json!("2026-07-28")),
        ("network.transport", json!("pipe")),
        ("jsonrpc.request.id", json!("1")),
        ("tollgate.server", json!("fixture")),
        ("tollgate.agent.name", json!("tollgate-tests")),
    ] {
        assert_eq!(server.attributes.get(key), Some(&value), "{key} of {server:#?}");
    }
    let client = collector.span(|span| span.kind == CLIENT && span.name == "tools/call told");
    assert_eq!((client.trace.as_str(), client.parent.as_str()), (TRACE, server.id.as_str()));
    let told: Value = serde_json::from_str(&told.text).unwrap();
    assert_eq!(told["traceparent"], format!("00-{TRACE}-{}-01", client.id), "{told}");
    assert_eq!((&told["tracestate"], &told["baggage"]), (&json!("vendor=opaque"), &json!("kept=1")), "{told}");

    let crashed = collector.span(|span| span.kind == SERVER && span.text("gen_ai.tool.name") == "fixture__crash");
    assert_eq!((crashed.text("error.type"), crashed.text("tollgate.code")), ("server_died", "server_died"));
    assert!(crashed.is_error && crashed.parent.is_empty() && crashed.trace != TRACE);
    let unknown: Vec<_> = collector.spans().into_iter().filter(|span| span.name == "tools/call").collect();
    assert_eq!(unknown.len(), 2, "{unknown:#?}");
    // What the host did wrong is no error of this server's.
    assert!(unknown.iter().all(|span| span.text("rpc.response.status_code") == "-32602" && !span.is_error));
    let read = collector.span(|span| span.kind == SERVER && span.name == "resources/read");
    collector.span(|span| span.kind == CLIENT && span.parent == read.id);
    assert!(!collector.has_seen("hunter2") && !collector.has_seen("a.py") && !collector.has_seen("cost://"));

    let (unit, served) = collector.metric("mcp.server.operation.duration");
    assert_eq!((unit.as_str(), served[0].bounds.last()), ("s", Some(&300.0)));
    let calls = served.iter().filter(|point| point.labels["mcp.method.name"] == "tools/call");
    assert_eq!(calls.map(|point| point.count).sum::<u64>(), 5);
    let (_, asked) = collector.metric("mcp.client.operation.duration");
    assert!(asked.iter().any(|point| point.labels.get("error.type") == Some(&json!("server_died"))), "{asked:#?}");
}

#[tokio::test]
async fn refusals_are_counted_by_code_and_foreign_words_are_not_told() {
    let collector = Collector::start(Mood::Takes);
    let world = world(&format!("[budget]\nper_call_usd = \"0.1\"\n\n{}", super::to(&collector)));
    let mut gateway = serve(world.path(), &[]);
    let refused = gateway.call("fixture__echo", json!({"text": "too dear"})).await;
    assert_eq!(refused.structured["error"]["code"], "budget_exceeded", "{}", refused.structured);
    let failed = gateway.call("fixture__fails", json!({"text": "hunter2_code"})).await;
    assert_eq!(failed.structured["error"]["code"], "hunter2_code", "{}", failed.structured);
    assert!(gateway.close().await.success());
    let (unit, refusals) = collector.metric("tollgate.refusals");
    assert_eq!((unit.as_str(), refusals.len()), ("{call}", 1), "{refusals:?}");
    let labels = &refusals[0].labels;
    assert_eq!((&labels["tollgate.code"], &labels["tollgate.server"]), (&json!("budget_exceeded"), &json!("fixture")));
    assert_eq!(labels["gen_ai.tool.name"], "echo");
    // Nothing was asked of the server for it.
    let spans = collector.spans();
    assert!(!spans.iter().any(|span| span.kind == CLIENT && span.name == "tools/call echo"), "{spans:#?}");
    let failed = collector.span(|span| span.text("gen_ai.tool.name") == "fixture__fails");
    assert_eq!((failed.text("error.type"), failed.text("tollgate.code")), ("tool_error", "tool_error"));
    assert!(!collector.has_seen("hunter2"));
}

#[test]
fn trace_goes_on_from_process_to_process_over_http() {
    let collector = Collector::start(Mood::Takes);
    let (near, far) = (tempfile::tempdir().unwrap(), world(&super::to(&collector)));
    let gateway = OverHttp::start(far.path(), None);
    let config = format!(
        "[orchestrator]\nservers = []\n\n[servers.remote]\nurl = \"http://{}/mcp?secret=hunter2\"\n\n{}",
        gateway.1,
        super::to(&collector)
    );
    fs::write(near.path().join("tollgate.toml"), config).unwrap();
    let call = |tool: &str| {
        let mut command = Command::new(orchestrator());
        let output =
            command.args(["call", "remote", tool, "{\"text\": \"hi\"}"]).current_dir(near.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(call("fixture__echo").contains("\"hi\""));
    // A name that nobody lists is told by nobody.
    assert!(call("hunter2").contains("error"));
    let asks = collector.span(|span| span.kind == CLIENT && span.text("tollgate.server") == "remote" && !span.is_error);
    let serves = collector.span(|span| span.kind == SERVER && !span.text("gen_ai.tool.name").is_empty());
    let passes = collector.span(|span| span.kind == CLIENT && span.text("tollgate.server") == "fixture");
    assert_eq!((asks.name.as_str(), passes.name.as_str()), ("tools/call fixture__echo", "tools/call echo"));
    assert_eq!((asks.id.as_str(), serves.id.as_str()), (serves.parent.as_str(), passes.parent.as_str()));
    assert!(asks.trace == serves.trace && serves.trace == passes.trace && asks.parent.is_empty());
    let port = json!(gateway.1.port());
    assert_eq!((asks.text("server.address"), &asks.attributes["server.port"]), ("127.0.0.1", &port));
    assert_eq!([&asks, &serves, &passes].map(|span| span.text("network.transport")), ["tcp", "tcp", "pipe"]);
    collector.span(|span| span.kind == SERVER && span.name == "tools/call");
    assert!(!collector.has_seen("hunter2"));
}

#[tokio::test]
async fn host_that_does_not_sample_has_no_spans_and_is_counted() {
    for sampler in [None, Some("always_on")] {
        let collector = Collector::start(Mood::Takes);
        let world = world(&super::to(&collector));
        let variables: Vec<(&str, &str)> = sampler.map(|name| ("OTEL_TRACES_SAMPLER", name)).into_iter().collect();
        let mut gateway = serve(world.path(), &variables);
        let Value::Object(meta) = json!({"traceparent": format!("00-{TRACE}-{HOST}-00")}) else { unreachable!() };
        let told = gateway.try_call("fixture__told", json!({}), meta).await.unwrap();
        assert!(gateway.close().await.success());
        let flag = if sampler.is_some() { "01" } else { "00" };
        let told: Value = serde_json::from_str(&told.text).unwrap();
        let passed = told["traceparent"].as_str().unwrap();
        assert!(passed.starts_with(&format!("00-{TRACE}-")) && passed.ends_with(&format!("-{flag}")), "{passed}");
        assert_eq!(collector.spans().is_empty(), sampler.is_none(), "{sampler:?}");
        let (_, served) = collector.metric("mcp.server.operation.duration");
        assert_eq!(served.iter().map(|point| point.count).sum::<u64>(), 1);
    }
}

#[test]
fn session_over_http_is_on_its_spans() {
    let collector = Collector::start(Mood::Takes);
    let world = world(&super::to(&collector));
    let gateway = OverHttp::start(world.path(), None);
    let post = |session: &str, message: &Value| {
        let body = message.to_string();
        let mut stream = TcpStream::connect(gateway.1).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream\r\n{session}\
             Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let params =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "host", "version": "1"}});
    let greeting = post("", &json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}));
    let line = greeting.lines().find(|line| line.to_lowercase().starts_with("mcp-session-id:"));
    let id = line.unwrap_or_else(|| panic!("{greeting}")).split_once(':').unwrap().1.trim().to_owned();
    let session = format!("Mcp-Session-Id: {id}\r\nMCP-Protocol-Version: 2025-11-25\r\n");
    post(&session, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    let params = json!({"name": "fixture__echo", "arguments": {"text": "hi"}});
    let answer = post(&session, &json!({"jsonrpc": "2.0", "id": "my-2", "method": "tools/call", "params": params}));
    assert!(answer.contains("\"hi\""), "{answer}");
    let span = collector.span(|span| span.kind == SERVER && span.text("gen_ai.tool.name") == "fixture__echo");
    assert_eq!((span.text("mcp.session.id"), span.text("mcp.protocol.version")), (id.as_str(), "2025-11-25"));
    assert_eq!((span.text("jsonrpc.request.id"), span.text("network.transport")), ("my-2", "tcp"));
}
