//! What the house itself costs: cold start, idle memory, and a trivial call with its receipt and ledger
//! entry beside a bare rmcp server, all in one run.
//!
//! `cargo bench -p tollgate-tests --bench house`; the figures of record are in docs/benchmarks.md.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::float_arithmetic, reason = "a benchmark prints ratios")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::mcp_process::MODERN;
use tollgate_tests::measured::Measured;
use tollgate_tests::world::program;

/// Starts per server.
const STARTS: usize = 60;
/// Calls per server and round.
const CALLS: usize = 3_000;
/// Rounds, taken in turn by all servers, so that a busy moment of the machine hits all alike.
const ROUNDS: usize = 5;

fn start(name: &str, folder: &Path, arguments: &[&str]) -> Measured {
    Measured::start(Command::new(program(name)).args(arguments), folder)
}

fn call(tool: &str, arguments: &Value) -> String {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
    });
    let params = json!({"name": tool, "arguments": arguments, "_meta": meta});
    format!("{}\n", json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}))
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn main() {
    // Criterion's arguments (`--bench`) come with `cargo bench` and mean nothing here.
    let folder = tempfile::tempdir().unwrap();
    let echo = call("echo", &json!({"text": "hello"}));
    let report = call("cost_report", &json!({}));
    let checks = call("list_checks", &json!({}));
    let environments = call("list_environments", &json!({}));
    let databases = call("list_databases", &json!({}));
    let servers: [(&str, &str, &[&str], &str); 7] = [
        ("bare rmcp echo, stdio()", "mcp-fixture", &[], &echo),
        ("bare rmcp echo, stdio_pipes()", "mcp-fixture", &["--pipes"], &echo),
        ("the same echo in the house", "mcp-house", &[], &echo),
        ("mcp-ralph list_checks", "mcp-ralph", &[], &checks),
        ("mcp-git cost_report", "mcp-git", &[], &report),
        ("mcp-database list_databases", "mcp-database", &[], &databases),
        ("mcp-deploy list_environments", "mcp-deploy", &[], &environments),
    ];

    println!("\ncold start to the first answered call, {STARTS} starts");
    for (label, name, arguments, request) in &servers {
        let mut times: Vec<Duration> = (0..STARTS)
            .map(|_| {
                let begun = Instant::now();
                let mut server = start(name, folder.path(), arguments);
                assert!(server.send(request).contains("\"result\""), "{label}");
                begun.elapsed()
            })
            .collect();
        times.sort();
        println!(
            "  {label:<32} p50 {:>6.2} ms   p99 {:>6.2} ms",
            percentile(&times, 50).as_secs_f64() * 1e3,
            percentile(&times, 99).as_secs_f64() * 1e3
        );
    }

    println!("\nidle memory after the first call");
    let mut running: Vec<Measured> = Vec::new();
    for (label, name, arguments, request) in &servers {
        let mut server = start(name, folder.path(), arguments);
        assert!(server.send(request).contains("\"result\""));
        std::thread::sleep(Duration::from_millis(100));
        println!("  {label:<32} {:>6.1} MiB", server.resident_mib());
        running.push(server);
    }

    println!("\none trivial call, {} sequential calls a server", CALLS * ROUNDS);
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); servers.len()];
    for _ in 0..ROUNDS {
        for (index, server) in running.iter_mut().enumerate() {
            let request = servers[index].3;
            for _ in 0..CALLS {
                let begun = Instant::now();
                let answer = server.send(request);
                let answered = answer.contains("\"result\"");
                times[index].push(begun.elapsed());
                assert!(answered, "{}: {answer}", servers[index].0);
            }
        }
    }
    times.iter_mut().for_each(|times| times.sort());
    let bare = [percentile(&times[0], 50), percentile(&times[1], 50)];
    for ((label, ..), times) in servers.iter().zip(&times) {
        let p50 = percentile(times, 50);
        println!(
            "  {label:<32} p50 {:>6.1} µs   p99 {:>7.1} µs   {:.2}× bare stdio(), {:.2}× bare stdio_pipes()",
            p50.as_secs_f64() * 1e6,
            percentile(times, 99).as_secs_f64() * 1e6,
            p50.as_secs_f64() / bare[0].as_secs_f64(),
            p50.as_secs_f64() / bare[1].as_secs_f64(),
        );
    }
}
