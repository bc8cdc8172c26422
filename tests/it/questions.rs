//! Questions to the person at the host, and calls that become tasks.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;
use tollgate_shared::receipt::RECEIPT_META_KEY;
use tollgate_tests::mcp_process::McpProcess;

const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

fn start() -> (TempDir, McpProcess) {
    let folder = tempfile::tempdir().unwrap();
    let server = McpProcess::start("mcp-house", folder.path(), &[], &[("TOLLGATE_AGENT", "tester")]);
    (folder, server)
}

/// Calls a tool as a client of the newest revision with these capabilities.
async fn call(server: &McpProcess, tool: &str, arguments: Value, capabilities: Value, more: Value) -> Value {
    let mut params = json!({"name": tool, "arguments": arguments, "_meta": {CAPABILITIES: capabilities}});
    for (name, value) in more.as_object().unwrap() {
        params[name] = value.clone();
    }
    server.request("tools/call", params).await["result"].clone()
}

fn question(patience_ms: u64) -> Value {
    json!({"text": "really?", "patience_ms": patience_ms})
}

fn accept() -> Value {
    json!({"question": {"action": "accept", "content": {"approve": true}}})
}

#[tokio::test]
async fn older_client_is_asked_while_it_waits() {
    let (_folder, server) = start();
    server.initialize(json!({"elicitation": {}})).await;
    for (reply, text) in [
        (json!({"action": "accept", "content": {"approve": true}}), "subject accepted {\"approve\":true}"),
        (json!({"action": "decline"}), "declined"),
        (json!({"action": "cancel"}), "dismissed"),
    ] {
        let calling = server.try_raw_request("tools/call", json!({"name": "ask", "arguments": question(60_000)}));
        let answering = async {
            let asked = server.asked("elicitation/create").await;
            assert_eq!(asked["params"]["message"], "really?");
            assert_eq!(asked["params"]["requestedSchema"].get("title"), None);
            server.answer(&asked, reply).await;
        };
        let (called, ()) = tokio::join!(calling, answering);
        assert_eq!(called.unwrap()["result"]["structuredContent"]["text"], text);
    }
    // A person who does not answer is not waited for beyond the patience.
    let called = server.try_raw_request("tools/call", json!({"name": "ask", "arguments": question(50)})).await;
    assert_eq!(called.unwrap()["result"]["structuredContent"]["text"], "dismissed");
}

#[tokio::test]
async fn client_that_declares_no_form_is_not_asked() {
    for capabilities in [json!({}), json!({"elicitation": {"url": {}}}), json!({"roots": {}})] {
        let (_folder, server) = start();
        server.initialize(capabilities.clone()).await;
        let called = server.try_raw_request("tools/call", json!({"name": "ask", "arguments": question(60_000)})).await;
        assert_eq!(called.unwrap()["result"]["structuredContent"]["text"], "nobody to ask", "{capabilities}");
        assert!(server.take_unclaimed().is_empty());
        let (_folder, server) = start();
        let called = call(&server, "ask", question(60_000), capabilities, json!({})).await;
        assert_eq!(called["structuredContent"]["text"], "nobody to ask");
    }
}

#[tokio::test]
async fn newer_client_gets_the_question_as_the_answer() {
    let (_folder, server) = start();
    let form = || json!({"elicitation": {"form": {}}});
    let asked = call(&server, "ask", question(60_000), form(), json!({})).await;
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let request = &asked["inputRequests"]["question"];
    assert_eq!(request["method"], "elicitation/create");
    assert_eq!(request["params"]["requestedSchema"]["required"], json!(["approve"]));
    assert_eq!(asked["_meta"][RECEIPT_META_KEY]["amount"], "0", "asking has a receipt and costs nothing");
    let state = asked["requestState"].as_str().unwrap();
    let again = |state: &str| json!({"inputResponses": accept(), "requestState": state});
    let replied = call(&server, "ask", question(60_000), form(), again(state)).await;
    assert_eq!(replied["structuredContent"]["text"], "subject accepted {\"approve\":true}");
    let nothing = call(&server, "ask", question(60_000), form(), json!({"requestState": state})).await;
    assert_eq!(nothing["structuredContent"]["text"], "dismissed");

    // Responses alone are no reply to anything.
    let alone = call(&server, "ask", question(60_000), form(), json!({"inputResponses": accept()})).await;
    assert_eq!(alone["resultType"], "input_required");
    for (arguments, state, code) in [
        (question(60_001), state.to_owned(), "input_invalid"),
        (question(60_000), state.replace('.', "00."), "input_invalid"),
        (question(60_000), "made up".to_owned(), "input_invalid"),
        (question(60_000), String::new(), "input_invalid"),
    ] {
        let refused = call(&server, "ask", arguments, form(), again(&state)).await;
        assert_eq!(refused["structuredContent"]["error"]["code"], code, "{refused}");
    }
    let short = call(&server, "ask", question(1), form(), json!({})).await;
    sleep(Duration::from_millis(20)).await;
    let late = call(&server, "ask", question(1), form(), again(short["requestState"].as_str().unwrap())).await;
    assert_eq!(late["structuredContent"]["error"]["code"], "input_expired");
    // What another process gave out counts for nothing.
    let (_folder, other) = start();
    let refused = call(&other, "ask", question(60_000), form(), again(state)).await;
    assert_eq!(refused["structuredContent"]["error"]["code"], "input_invalid");
}

async fn task(server: &McpProcess, method: &str, id: &Value, more: Value) -> Value {
    let mut params = json!({"taskId": id, "_meta": {CAPABILITIES: tasks()}});
    for (name, value) in more.as_object().unwrap() {
        params[name] = value.clone();
    }
    server.request(method, params).await["result"].clone()
}

fn tasks() -> Value {
    json!({"elicitation": {}, "extensions": {"io.modelcontextprotocol/tasks": {}}})
}

/// Asks for the task until it has this status.
async fn until(server: &McpProcess, id: &Value, status: &str) -> Value {
    for _ in 0..6000 {
        let now = task(server, "tasks/get", id, json!({})).await;
        if now["status"] == status {
            return now;
        }
        assert!(["working", "input_required"].contains(&now["status"].as_str().unwrap()), "{now}");
        sleep(Duration::from_millis(10)).await;
    }
    panic!("the task never was {status}");
}

#[tokio::test]
async fn long_call_of_a_client_that_knows_tasks_is_one() {
    let (_folder, server) = start();
    let made = call(&server, "long", json!({"ms": 100}), tasks(), json!({})).await;
    assert_eq!(made["resultType"], "task", "{made}");
    let ended = until(&server, &made["taskId"], "completed").await;
    assert_eq!(ended["result"]["structuredContent"]["text"], "done");
    assert_eq!(ended["result"]["_meta"][RECEIPT_META_KEY]["outcome"], "ok", "a task has one receipt");

    let made = call(&server, "long", json!({"ms": 600_000}), tasks(), json!({})).await;
    task(&server, "tasks/cancel", &made["taskId"], json!({})).await;
    until(&server, &made["taskId"], "cancelled").await;

    let made = call(&server, "ask_long", question(60_000), tasks(), json!({})).await;
    let asking = until(&server, &made["taskId"], "input_required").await;
    let key = asking["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    let reply = json!({key: {"action": "accept", "content": {"approve": true}}});
    task(&server, "tasks/update", &made["taskId"], json!({"inputResponses": reply})).await;
    let ended = until(&server, &made["taskId"], "completed").await;
    assert_eq!(ended["result"]["structuredContent"]["text"], "subject accepted {\"approve\":true}");

    // Without the extension the answer is awaited.
    let awaited = call(&server, "long", json!({"ms": 1}), json!({}), json!({})).await;
    assert_eq!(awaited["structuredContent"]["text"], "done");
}
