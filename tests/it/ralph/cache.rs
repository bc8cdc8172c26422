//! The cache between processes: each piece of work is done once, whoever dies meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_shared::money::Money;
use tollgate_tests::mcp_process::{Called, McpProcess};

const CLIENTS: usize = 8;
const FILES: usize = 60;

/// A workspace with files that take a while to check; two of them have the same content.
fn world() -> TempDir {
    let world = tempfile::tempdir().unwrap();
    for number in 0..FILES {
        let content = content(if number == 1 { 0 } else { number }, 50);
        fs::write(world.path().join(format!("m{number:03}.py")), content).unwrap();
    }
    world
}

/// Python in which the rules have something to look at.
fn content(seed: usize, functions: usize) -> String {
    let function = |number| format!("def f{number}(x):\n    return subprocess.run(['ls', x, {seed}], shell=False)\n\n");
    format!("import subprocess\n\n{}", (0..functions).map(function).collect::<String>())
}

/// A server whose checks are not cut short by a busy machine.
fn start(world: &Path) -> McpProcess {
    fs::write(world.join("tollgate.toml"), "[ralph]\nparse_timeout_ms = 60000\n").unwrap();
    McpProcess::start("mcp-ralph", world, &[], &[])
}

fn quantities(calls: &[Called]) -> BTreeMap<String, u64> {
    let mut quantities = BTreeMap::new();
    for line in calls.iter().flat_map(|call| &call.receipt.lines) {
        *quantities.entry(line.sku.as_str().to_owned()).or_default() += line.quantity;
    }
    quantities
}

#[tokio::test]
async fn eight_clients_do_each_piece_of_work_once_and_the_receipts_add_up() {
    let world = world();
    let clients: Vec<McpProcess> = (0..CLIENTS).map(|_| start(world.path())).collect();
    let batch = || json!({"globs": ["*.py"], "checks": ["syntax", "security"], "limit": 1});
    let calls = join_all(clients.iter().map(|client| client.call("verify_batch", batch()))).await;
    for call in &calls {
        assert_eq!(call.structured["verdict"], "pass", "{}", call.structured);
        assert_eq!(call.structured["counts"], json!({ "pass": FILES }));
    }
    // Two files are one piece of work.
    let once = FILES as u64 - 1;
    let expected = [("ralph.base", once), ("ralph.check.security", once), ("ralph.check.syntax", once)];
    assert_eq!(quantities(&calls), expected.map(|(sku, count)| (sku.to_owned(), count)).into());
    // What one paid, the others saved: eight times everything, seven times of it and a twin free.
    let paid: Money = calls.iter().map(|call| call.receipt.amount).sum();
    let saved: Money = calls.iter().map(|call| call.receipt.saved).sum();
    let per_file: Money = "0.0018".parse().unwrap();
    let times = |count: usize| (0..count).map(|_| per_file).sum::<Money>();
    assert_eq!((paid, saved), (times(FILES - 1), times(CLIENTS * FILES - (FILES - 1))));
    // And the ledger says the same.
    let since = json!({"since": "2020-01-01T00:00:00Z"});
    let report = clients[0].ok("cost_report", since).await;
    assert_eq!(report["total"]["amount"], json!(paid), "{report}");
}

#[tokio::test]
async fn one_file_asked_for_by_eight_at_once_is_checked_once() {
    let world = tempfile::tempdir().unwrap();
    fs::write(world.path().join("long.py"), content(7, 500)).unwrap();
    let clients: Vec<McpProcess> = (0..CLIENTS).map(|_| start(world.path())).collect();
    let calls = join_all(clients.iter().map(|client| client.call("verify_file", json!({"path": "long.py"})))).await;
    assert!(calls.iter().all(|call| call.structured["verdict"] == "pass"), "{:?}", calls[0]);
    assert_eq!(calls.iter().filter(|call| !call.receipt.cached).count(), 1);
}

#[tokio::test]
async fn claim_of_a_killed_process_holds_nobody_up() {
    let world = tempfile::tempdir().unwrap();
    for number in 0..FILES {
        fs::write(world.path().join(format!("m{number:03}.py")), content(number, 100)).unwrap();
    }
    let batch = || json!({"globs": ["*.py"], "limit": 1});
    let mut doomed = start(world.path());
    let request = json!({"jsonrpc": "2.0", "id": 900, "method": "tools/call", "params": {
    "name": "verify_batch", "arguments": batch(), "_meta": {
        "io.modelcontextprotocol/protocolVersion": tollgate_tests::mcp_process::MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }}});
    doomed.write(format!("{request}\n").as_bytes()).await.unwrap();
    // In the middle of its work: the folder of claims is there from the first one on.
    let claims = world.path().join(".tollgate/ralph-claims");
    while !claims.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let waiting = start(world.path());
    let (call, ()) = tokio::join!(waiting.call("verify_batch", batch()), async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        doomed.kill().await;
    });
    assert_eq!(call.structured["counts"], json!({ "pass": FILES }), "{}", call.structured);
    let again: Value = waiting.call("verify_batch", batch()).await.structured;
    assert_eq!((&again["verdict"], &again["cached"]), (&json!("pass"), &json!(true)));
}

#[tokio::test]
async fn batch_tells_how_far_it_is_when_it_is_asked_to() {
    let world = world();
    let ralph = start(world.path());
    let batch = json!({"globs": ["*.py"], "limit": 1});
    ralph.call("verify_batch", batch.clone()).await;
    assert_eq!(ralph.take_unclaimed(), Vec::<Value>::new(), "nobody asked");
    let meta = json!({"progressToken": "p1"});
    ralph.try_call("verify_batch", batch, meta.as_object().unwrap().clone()).await.unwrap();
    let told = ralph.take_unclaimed();
    let done: Vec<f64> = told.iter().filter_map(|message| message["params"]["progress"].as_f64()).collect();
    assert!(done.is_sorted_by(|left, right| left < right) && done.last() == Some(&(FILES as f64)), "{told:?}");
    for message in &told {
        assert_eq!(message["method"], "notifications/progress");
        let params = &message["params"];
        assert_eq!((&params["progressToken"], params["total"].as_f64()), (&json!("p1"), Some(FILES as f64)));
        assert!(params["message"].as_str().unwrap().ends_with(".py: pass"), "{params}");
    }
}
