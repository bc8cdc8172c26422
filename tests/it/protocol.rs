//! What each server does with input that is not a well-formed request.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;
use tollgate_tests::mcp_process::{MODERN, McpProcess};

const SERVERS: [&str; 4] = ["mcp-ralph", "mcp-git", "mcp-database", "mcp-deploy"];

fn start(name: &str) -> (TempDir, McpProcess) {
    let folder = tempfile::tempdir().unwrap();
    let server = McpProcess::start(name, folder.path(), &[], &[]);
    (folder, server)
}

/// Sends `bytes` as one line and returns the error that answers it.
async fn answer_to(server: &McpProcess, bytes: &[u8]) -> Value {
    server.take_unclaimed();
    server.write(bytes).await.unwrap();
    server.write(b"\n").await.unwrap();
    error_from(server, bytes).await
}

/// Waits for an error that answers no request of the driver's, such as one to `bytes`.
async fn error_from(server: &McpProcess, bytes: &[u8]) -> Value {
    for _ in 0..6000 {
        if let Some(answer) = server.take_unclaimed().into_iter().next() {
            return answer;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("no answer to {:?}: {}", String::from_utf8_lossy(&bytes[..bytes.len().min(80)]), server.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_lines_are_answered_and_the_server_goes_on() {
    for name in SERVERS {
        let (_folder, mut server) = start(name);
        let before_anything = answer_to(&server, b"{").await;
        assert_eq!(before_anything["error"]["code"], -32700, "{name}");
        assert_eq!(before_anything["id"], Value::Null, "{name}");
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for (line, code) in [
            (&b"not json"[..], -32700),
            (b"{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"tools/list\"", -32700),
            (b"\xff\xfe\x00", -32700),
            (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}", -32700),
            (b"\"\xc3\x28\"", -32700),
            (deep.as_bytes(), -32700),
            (b"[]", -32600),
            (b"null", -32600),
            (b"42", -32600),
            (b"{}", -32600),
            (b"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"tools/list\"}", -32600),
            (b"{\"id\":1,\"method\":\"tools/list\"}", -32600),
            (b"{\"jsonrpc\":\"2.0\",\"method\":\"\"}", -32600),
            (b"{\"jsonrpc\":\"2.0\",\"method\":\"../../../etc/passwd\"}", -32600),
            (b"{\"jsonrpc\":\"2.0\",\"method\":\"tools/list\",\"params\":\"not_an_object\"}", -32600),
            (b"{\"jsonrpc\":\"2.0\",\"method\":\"tools/list\",\"id\":null}", -32600),
        ] {
            let answer = answer_to(&server, line).await;
            assert_eq!(
                answer["error"]["code"],
                code,
                "{name}: {:?}",
                String::from_utf8_lossy(&line[..line.len().min(60)])
            );
        }
        assert!(!server.tools().await.is_empty(), "{name}");
        assert!(server.close().await.success(), "{name}");
        assert_eq!(server.pollution(), Vec::<String>::new(), "{name}");
        assert!(!server.stderr().contains("panicked"), "{name}: {}", server.stderr());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn line_of_64_mb_is_refused_without_being_kept() {
    let megabyte = vec![b'x'; 1024 * 1024];
    for name in SERVERS {
        let (_folder, mut server) = start(name);
        server.write(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"").await.unwrap();
        for _ in 0..64 {
            server.write(&megabyte).await.unwrap();
        }
        server.write(b"\n").await.unwrap();
        // It may have come as soon as the line was too long.
        let answer = error_from(&server, &megabyte).await;
        assert_eq!(answer["error"]["code"], -32600, "{name}");
        assert!(!server.tools().await.is_empty(), "{name}");
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid().unwrap())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(peak_kib < 120 * 1024, "{name} kept the line: peak {peak_kib} KiB");
        assert!(server.close().await.success(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_mean_nothing_get_the_protocol_error() {
    for name in SERVERS {
        let (_folder, mut server) = start(name);
        let unknown_method = server.request("tools/nope", json!({})).await;
        assert_eq!(unknown_method["error"]["code"], -32601, "{name}: {unknown_method}");
        let unknown_tool = server.request("tools/call", json!({"name": "nope", "arguments": {}})).await;
        assert_eq!(unknown_tool["error"]["code"], -32602, "{name}: {unknown_tool}");
        let unknown_resource = server.request("resources/read", json!({"uri": "cost://nope"})).await;
        assert_eq!(unknown_resource["error"]["code"], -32602, "{name}: {unknown_resource}");
        assert!(server.close().await.success(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_are_refused_with_a_receipt() {
    for name in SERVERS {
        let (_folder, mut server) = start(name);
        for arguments in
            [json!({"since": 7}), json!({"nope": 1}), json!({"since": "yesterday"}), json!({"since": null, "x": {}})]
        {
            let called = server.call("cost_report", arguments.clone()).await;
            assert!(called.is_error, "{name} {arguments}");
            assert_eq!(called.structured["error"]["code"], "invalid_arguments", "{name} {arguments}");
            assert!(called.receipt.amount.is_zero());
            assert_eq!(
                serde_json::from_str::<Value>(&called.text).unwrap(),
                called.structured,
                "text carries the same facts"
            );
        }
        let not_an_object = server.request("tools/call", json!({"name": "cost_report", "arguments": [1]})).await;
        assert!(not_an_object["error"]["code"].is_i64(), "{name}: {not_an_object}");
        assert!(server.close().await.success(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_before_initialisation_does_not_end_the_connection() {
    for name in SERVERS {
        let (_folder, mut server) = start(name);
        // A notification and a response before anything else, which rmcp alone takes for the end.
        for line in [
            json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}),
            json!({"jsonrpc": "2.0", "id": 1, "result": {}}),
        ] {
            server.write(format!("{line}\n").as_bytes()).await.unwrap();
        }
        let early = server.try_raw_request("tools/list", json!({})).await.unwrap();
        assert_eq!(early["error"]["code"], -32602, "{name}: {early}");
        let legacy =
            json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let greeted = server.try_raw_request("initialize", legacy).await.unwrap();
        assert_eq!(greeted["result"]["protocolVersion"], "2025-06-18", "{name}");
        assert_eq!(greeted["result"]["serverInfo"]["name"], name);
        let listed = server.try_raw_request("tools/list", json!({})).await.unwrap();
        assert!(listed["result"]["tools"].is_array(), "{name}: {listed}");
        assert!(server.close().await.success(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_revision_is_spoken() {
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let (_folder, mut server) = start("mcp-ralph");
        let params =
            json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let greeted = server.try_raw_request("initialize", params).await.unwrap();
        assert_eq!(greeted["result"]["protocolVersion"], version);
        let called =
            server.try_raw_request("tools/call", json!({"name": "list_checks", "arguments": {}})).await.unwrap();
        assert_eq!(called["result"]["isError"], false, "{called}");
        assert!(called["result"]["_meta"]["io.tollgate/receipt"]["id"].is_string());
        assert!(server.close().await.success());
    }
    let (_folder, mut server) = start("mcp-ralph");
    let discovered = server.request("server/discover", json!({})).await;
    assert!(discovered["result"]["supportedVersions"].as_array().unwrap().contains(&json!(MODERN)), "{discovered}");
    assert!(server.close().await.success(), "a client that only asks who is there is no failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_stdin_ends_the_server_cleanly() {
    for name in SERVERS {
        let (_folder, mut server) = start(name);
        assert!(server.close().await.success(), "{name} at once");
        let (_folder, mut server) = start(name);
        server.tools().await;
        server.write(b"{\"jsonrpc\":\"2.0\",\"id\":").await.unwrap();
        assert!(server.close().await.success(), "{name} in the middle of a line");
        assert_eq!(server.pollution(), Vec::<String>::new(), "{name}");
    }
}

/// A client may use an id again as soon as it has the answer.
#[tokio::test(flavor = "multi_thread")]
async fn id_is_free_as_soon_as_its_answer_is_read() {
    let (_folder, mut server) = start("mcp-ralph");
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    });
    let params = json!({"name": "list_checks", "arguments": {}, "_meta": meta});
    let line = format!("{}\n", json!({"jsonrpc": "2.0", "id": "again", "method": "tools/call", "params": params}));
    for round in 0..500 {
        server.write(line.as_bytes()).await.unwrap();
        let mut answer = server.take_unclaimed();
        while answer.is_empty() {
            tokio::task::yield_now().await;
            answer = server.take_unclaimed();
        }
        assert!(answer[0].get("result").is_some(), "round {round}: {}", answer[0]);
    }
    assert!(server.close().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_request_id_in_flight_is_refused() {
    let (_folder, server) = start("mcp-ralph");
    server.tools().await;
    let meta =
        json!({"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}});
    let request =
        json!({"jsonrpc": "2.0", "id": "twice", "method": "tools/list", "params": {"_meta": meta}}).to_string();
    server.write(format!("{request}\n{request}\n").as_bytes()).await.unwrap();
    let mut answers = Vec::new();
    while answers.len() < 2 {
        answers.extend(server.take_unclaimed());
        sleep(Duration::from_millis(5)).await;
    }
    // Either both were answered one after the other, or the second came too early and was told so.
    let errors = answers.iter().filter(|answer| answer["error"]["code"] == -32600).count();
    let results = answers.iter().filter(|answer| answer["result"]["tools"].is_array()).count();
    assert_eq!(errors + results, 2, "{answers:?}");
    assert!(results >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_command_lines_and_configurations_are_explained() {
    for name in SERVERS {
        let folder = tempfile::tempdir().unwrap();
        let table = name.trim_start_matches("mcp-");
        std::fs::write(folder.path().join("tollgate.toml"), format!("[{table}]\nnope_nope = 1\n")).unwrap();
        let mut server = McpProcess::start(name, folder.path(), &[], &[]);
        assert_eq!(server.exit().await.code(), Some(2), "{name}");
        sleep(Duration::from_millis(50)).await;
        assert!(server.stderr().contains(&format!("unknown key `{table}.nope_nope`")), "{name}: {}", server.stderr());
        assert!(server.stderr().contains("tollgate.toml:2"), "{name}: {}", server.stderr());
        assert_eq!(server.pollution(), Vec::<String>::new());
        let mut server = McpProcess::start(name, folder.path(), &["--nope"], &[]);
        assert_eq!(server.exit().await.code(), Some(2), "{name}");
    }
}
