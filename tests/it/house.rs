//! The wrapper around every call: whatever a tool does, there is one answer with one receipt, and it is in the ledger.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::time::sleep;
use tollgate_shared::audit::AuditEntry;
use tollgate_shared::identity::{Agent, Identity, RunSecret};
use tollgate_shared::ledger::Ledger;
use tollgate_shared::receipt::{Outcome, Receipt};
use tollgate_shared::state_dir::StateDir;
use tollgate_tests::mcp_process::McpProcess;

fn start(variables: &[(&str, &str)]) -> (TempDir, McpProcess) {
    let folder = tempfile::tempdir().unwrap();
    let server = McpProcess::start("mcp-house", folder.path(), &[], variables);
    (folder, server)
}

async fn recorded(folder: &Path) -> (Vec<Receipt>, Vec<AuditEntry>) {
    let ledger = Ledger::new(StateDir::choose(None, folder));
    let mut reader = ledger.reader().await.unwrap().unwrap();
    let receipts = std::pin::pin!(reader.receipts(None)).try_collect().await.unwrap();
    let mut reader = ledger.reader().await.unwrap().unwrap();
    let decisions = std::pin::pin!(reader.decisions(None)).try_collect().await.unwrap();
    (receipts, decisions)
}

#[tokio::test(flavor = "multi_thread")]
async fn tool_that_panics_answers_and_the_server_goes_on() {
    let (folder, mut server) = start(&[]);
    for blocking in [false, true] {
        let called = server.call("panic", json!({"blocking": blocking})).await;
        assert_eq!(called.structured["error"]["code"], "internal_error");
        assert_eq!(called.receipt.outcome, Outcome::Failed);
    }
    server.ok("echo", json!({"text": "still here"})).await;
    assert!(server.close().await.success());
    assert_eq!(server.pollution(), Vec::<String>::new());
    assert_eq!(recorded(folder.path()).await.0.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_flight_are_finished_when_a_signal_or_the_end_of_stdin_comes() {
    for by_signal in [true, false] {
        let (folder, mut server) = start(&[]);
        server.ok("echo", json!({"text": "ready"})).await;
        let path = folder.path().join("written.txt");
        let begun = Instant::now();
        let server_ref = &server;
        let (written, slept, ()) = tokio::join!(
            server_ref.call("write", json!({"ms": 700, "path": path})),
            server_ref.call("sleep", json!({"ms": 700})),
            async {
                sleep(Duration::from_millis(200)).await;
                if by_signal {
                    let pid =
                        rustix::process::Pid::from_raw(i32::try_from(server_ref.pid().unwrap()).unwrap()).unwrap();
                    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
                } else {
                    server_ref.close_stdin().await;
                }
            }
        );
        assert!(!written.is_error && !slept.is_error, "{} {}", written.structured, slept.structured);
        assert!(begun.elapsed() >= Duration::from_millis(700));
        assert!(server.exit().await.success());
        assert_eq!(fs::read_to_string(path).unwrap(), "written");
        let (receipts, decisions) = recorded(folder.path()).await;
        assert_eq!((receipts.len(), decisions.len()), (3, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_call_stops_reading_and_finishes_writing() {
    let (folder, server) = start(&[]);
    let path = folder.path().join("written.txt");
    let call = |id: u64, tool: &str, arguments: Value| {
        let params = json!({"name": tool, "arguments": arguments, "_meta": {
            "io.modelcontextprotocol/protocolVersion": tollgate_tests::mcp_process::MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"}}});
        format!("{}\n", json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}))
    };
    server.ok("echo", json!({"text": "ready"})).await;
    server.write(call(901, "sleep", json!({"ms": 60_000})).as_bytes()).await.unwrap();
    server.write(call(902, "write", json!({"ms": 500, "path": path})).as_bytes()).await.unwrap();
    sleep(Duration::from_millis(200)).await;
    for id in [901, 902] {
        let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
        server.write(format!("{cancel}\n").as_bytes()).await.unwrap();
    }
    for _ in 0..300 {
        if recorded(folder.path()).await.0.len() == 3 {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    let (receipts, decisions) = recorded(folder.path()).await;
    let of = |tool: &str| receipts.iter().find(|receipt| receipt.tool == tool).unwrap();
    assert_eq!(of("sleep").outcome, Outcome::Cancelled);
    assert!(of("sleep").amount.is_zero());
    assert_eq!(of("write").outcome, Outcome::Ok, "what has an effect runs on to a safe end");
    assert_eq!(fs::read_to_string(path).unwrap(), "written");
    assert_eq!(decisions.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_comes_from_the_operators_side_alone() {
    let secret = RunSecret::generate().unwrap();
    let hex = secret.to_hex();
    let from_env = [("TOLLGATE_AGENT", "fixer"), ("TOLLGATE_ROLE", "bugfix"), ("TOLLGATE_TASK", "T-1")];
    let (_folder, server) = start(&from_env);
    let receipt = server.call("echo", json!({"text": "x"})).await.receipt;
    assert_eq!(
        (receipt.agent.name.as_str(), receipt.agent.role.as_deref(), receipt.task_id.as_deref()),
        ("fixer", Some("bugfix"), Some("T-1"))
    );
    assert_eq!(server.refused("echo", json!({"text": "x", "agent": "boss"})).await["code"], "invalid_arguments");

    let identity =
        Identity { agent: Agent { name: "boss".into(), role: None }, task_id: Some("T-9".into()), call_id: None };
    let forged: [Value; 3] =
        [json!({"agent": {"name": "boss"}}), json!(RunSecret::generate().unwrap().sign(&identity)), {
            let mut changed = json!(secret.sign(&identity));
            changed["agent"] = json!("bigger boss");
            changed
        }];
    let (folder, server) = start(&[("TOLLGATE_RUN_SECRET", &hex), ("TOLLGATE_AGENT", "fixer")]);
    for forged in forged {
        let meta = Map::from_iter([("io.tollgate/identity".to_owned(), forged)]);
        let called = server.try_call("write", json!({"ms": 0, "path": folder.path().join("x")}), meta).await.unwrap();
        assert_eq!(called.structured["error"]["code"], "identity_unproven", "{}", called.structured);
        assert_ne!(called.receipt.agent.name, "boss");
    }
    assert!(!folder.path().join("x").exists());
    let proven = Map::from_iter([("io.tollgate/identity".to_owned(), json!(secret.sign(&identity)))]);
    let called = server.try_call("echo", json!({"text": "x"}), proven).await.unwrap();
    assert_eq!((called.receipt.agent.name.as_str(), called.receipt.task_id.as_deref()), ("boss", Some("T-9")));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_that_cannot_be_recorded() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".tollgate"), "a file where the state folder should be").unwrap();
    let server = McpProcess::start("mcp-house", folder.path(), &[], &[]);
    let path = folder.path().join("written.txt");
    let answer = server.request("tools/call", json!({"name": "write", "arguments": {"ms": 0, "path": path}})).await;
    assert_eq!(answer["result"]["structuredContent"]["error"]["code"], "ledger_unavailable");
    assert!(!path.exists());
    fs::remove_file(folder.path().join(".tollgate")).unwrap();
    server.ok("write", json!({"ms": 0, "path": path})).await;
    assert!(path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_that_no_client_could_take_is_refused() {
    let (_folder, server) = start(&[]);
    server.ok("large", json!({"bytes": 3 << 20})).await;
    assert_eq!(server.refused("large", json!({"bytes": 8 << 20})).await["code"], "answer_too_large");
    server.ok("echo", json!({"text": "next"})).await;
}
