//! What mcp-git costs beside libgit2 itself: status, the last ten commits, and the diff of two revisions, on one
//! repository of some thousand files and some ten thousand commits, all in one run.
//!
//! `cargo bench -p tollgate-tests --bench git`; the figures of record are in docs/benchmarks.md. With the reference
//! server installed (`TOLLGATE_PEER_GIT` names its program, or `target/peers/venv/bin/mcp-server-git` is there) the ratio to
//! it is printed too.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::float_arithmetic, reason = "a benchmark prints ratios")]

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use git2::{DiffFindOptions, DiffOptions, Patch, Repository, Sort, StatusOptions};
use serde_json::{Value, json};
use tollgate_tests::mcp_process::MODERN;
use tollgate_tests::measured::Measured;
use tollgate_tests::world::{program, repository_root};

/// Files and commits of the repository.
const FILES: usize = 3_000;
const COMMITS: usize = 20_000;
/// How often each is measured, in turns, so that a busy moment of the machine hits all alike.
const ROUNDS: usize = 60;
/// How far apart the two revisions of the diff are: a day's work.
const COMMITS_APART: usize = 100;

/// Calls a tool of a server of ours and returns how long that took.
fn call(server: &mut Measured, tool: &str, arguments: &Value) -> Duration {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
    });
    timed(server, tool, &json!({"name": tool, "arguments": arguments, "_meta": meta}))
}

fn timed(server: &mut Measured, tool: &str, params: &Value) -> Duration {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let request = format!("{request}\n");
    let begun = Instant::now();
    let answer = server.send(&request);
    let took = begun.elapsed();
    assert!(answer.contains("\"result\"") && !answer.contains("\"isError\":true"), "{tool}: {answer}");
    took
}

/// The same numbers on every machine.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, max: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % max
    }
}

fn path(number: usize) -> String {
    format!("src/area{}/part{}/file{number}.txt", number % 12, number % 120)
}

fn content(number: usize, edits: usize) -> String {
    (0..40).fold(String::new(), |mut text, line| {
        let version = if line == edits % 40 { edits } else { 0 };
        writeln!(text, "line {line} of file {number}, version {version}").unwrap();
        text
    })
}

fn git(folder: &Path, arguments: &[&str]) {
    let status = Command::new("git").args(arguments).current_dir(folder).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{arguments:?}");
}

/// Makes the repository: one commit with all files, then one to three files changed by each.
fn make(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    git(folder, &["init", "-q", "-b", "work"]);
    let mut import =
        Command::new("git").args(["fast-import", "--quiet"]).current_dir(folder).stdin(Stdio::piped()).spawn().unwrap();
    let mut stream = std::io::BufWriter::new(import.stdin.take().unwrap());
    let mut numbers = Numbers(7);
    let mut edits = vec![0; FILES];
    for commit in 0..COMMITS {
        let message = format!("Change number {commit}\n\nWhat it does and why, in a sentence or two.\n");
        let at = 1_700_000_000 + commit * 600;
        writeln!(stream, "commit refs/heads/work\nmark :{}", commit + 1).unwrap();
        writeln!(stream, "committer Somebody <somebody@example.com> {at} +0000").unwrap();
        writeln!(stream, "data {}\n{message}", message.len()).unwrap();
        if commit > 0 {
            writeln!(stream, "from :{commit}").unwrap();
        }
        let changed: Vec<usize> = if commit == 0 {
            (0..FILES).collect()
        } else {
            (0..=numbers.below(3)).map(|_| numbers.below(FILES)).collect()
        };
        for number in changed {
            edits[number] += 1;
            let text = content(number, edits[number]);
            writeln!(stream, "M 100644 inline {}\ndata {}\n{text}", path(number), text.len()).unwrap();
        }
    }
    stream.flush().unwrap();
    drop(stream);
    assert!(import.wait().unwrap().success());
    git(folder, &["reset", "-q", "--hard"]);
    git(folder, &["config", "user.name", "Somebody"]);
    git(folder, &["config", "user.email", "somebody@example.com"]);
    for number in [5, 500, 1500] {
        std::fs::write(folder.join(path(number)), "changed\n").unwrap();
        std::fs::write(folder.join(format!("untracked{number}.txt")), "new\n").unwrap();
    }
    // Files that are as old as the index would be read anew by every status.
    std::thread::sleep(Duration::from_millis(1100));
    git(folder, &["status", "--porcelain"]);
}

fn libgit2_status(folder: &Path) -> usize {
    let repository = Repository::open(folder).unwrap();
    let mut options = StatusOptions::new();
    options.include_untracked(true).exclude_submodules(true);
    let statuses = repository.statuses(Some(&mut options)).unwrap();
    statuses.iter().map(|entry| entry.path_bytes().len()).sum()
}

fn libgit2_log(folder: &Path) -> usize {
    let repository = Repository::open(folder).unwrap();
    let mut walk = repository.revwalk().unwrap();
    // Any sorting has libgit2 read the whole history first; without one it takes the newest commit that it has met.
    walk.set_sorting(Sort::NONE).unwrap();
    walk.push_head().unwrap();
    let ids = walk.take(10);
    ids.map(|id| repository.find_commit(id.unwrap()).unwrap().message().unwrap().len()).sum()
}

fn libgit2_diff(folder: &Path, from: &str, to: &str) -> usize {
    let repository = Repository::open(folder).unwrap();
    let tree = |name: &str| repository.revparse_single(name).unwrap().peel_to_tree().unwrap();
    let mut options = DiffOptions::new();
    options.context_lines(3).include_typechange(true);
    let mut diff = repository.diff_tree_to_tree(Some(&tree(from)), Some(&tree(to)), Some(&mut options)).unwrap();
    diff.find_similar(Some(DiffFindOptions::new().renames(true))).unwrap();
    let mut text = Vec::new();
    for index in 0..diff.deltas().len() {
        let Some(mut patch) = Patch::from_diff(&diff, index).unwrap() else { continue };
        patch.line_stats().unwrap();
        text.extend_from_slice(&patch.to_buf().unwrap());
    }
    text.len()
}

fn peer() -> Option<PathBuf> {
    let named = std::env::var_os("TOLLGATE_PEER_GIT").map(PathBuf::from);
    named.or_else(|| Some(repository_root().join("target/peers/venv/bin/mcp-server-git"))).filter(|path| path.is_file())
}

fn start_peer(program: &Path, folder: &Path) -> (Measured, Duration) {
    let begun = Instant::now();
    let mut server = Measured::start(&mut Command::new(program), folder);
    let client = json!({"name": "bench", "version": "1"});
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client});
    server.send(&format!("{}\n", json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})));
    server.write(&format!("{}\n", json!({"jsonrpc": "2.0", "method": "notifications/initialized"})));
    let started = begun.elapsed();
    (server, started)
}

fn peer_call(server: &mut Measured, tool: &str, arguments: &Value) -> Duration {
    timed(server, tool, &json!({"name": tool, "arguments": arguments}))
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("work");
    let begun = Instant::now();
    make(&folder);
    println!("\n{FILES} files, {COMMITS} commits, made in {:.1} s", begun.elapsed().as_secs_f64());

    let from = format!("work~{COMMITS_APART}");
    let state = dir.path().join("state");
    let begun = Instant::now();
    let mut command = Command::new(program("mcp-git"));
    command.arg("--state-dir").arg(&state);
    let mut ours = Measured::start(&mut command, &folder);
    call(&mut ours, "git_log", &json!({}));
    let our_start = begun.elapsed();
    let mut echo = Measured::start(&mut Command::new(program("mcp-fixture")), &folder);
    let repo_path = folder.display().to_string();
    let mut peer = peer().map(|program| start_peer(&program, &folder));

    type Baseline<'a> = Box<dyn Fn() -> usize + 'a>;
    let target = format!("{from}..work");
    let cases: [(&str, &str, Value, Value, Baseline<'_>); 3] = [
        ("status", "git_status", json!({}), json!({"repo_path": repo_path}), Box::new(|| libgit2_status(&folder))),
        (
            "log 10",
            "git_log",
            json!({"max_count": 10}),
            json!({"repo_path": repo_path, "max_count": 10}),
            Box::new(|| libgit2_log(&folder)),
        ),
        (
            "diff of two revisions",
            "git_diff",
            json!({"target": target, "max_bytes": 400_000}),
            json!({"repo_path": repo_path, "target": from}),
            Box::new(|| libgit2_diff(&folder, &from, "work")),
        ),
    ];
    println!(
        "\n{:<24}{:>10}{:>12}{:>10}{:>10}{:>12}",
        "p50, ms", "libgit2", "round trip", "mcp-git", "ratio", "reference"
    );
    for (label, tool, arguments, peer_arguments, baseline) in &cases {
        let [mut libgit2, mut trips, mut ours_took, mut peer_took] = [const { Vec::new() }; 4];
        for round in 0..ROUNDS {
            let begun = Instant::now();
            assert!(baseline() > 0);
            libgit2.push(begun.elapsed());
            trips.push(call(&mut echo, "echo", &json!({"text": "hello"})));
            ours_took.push(call(&mut ours, tool, arguments));
            if let Some((peer, _)) = &mut peer
                && round < ROUNDS / 3
            {
                peer_took.push(peer_call(peer, tool, peer_arguments));
            }
        }
        let (libgit2, trip, ours_took) = (median(&mut libgit2), median(&mut trips), median(&mut ours_took));
        let reference = if peer_took.is_empty() {
            "not installed".to_owned()
        } else {
            let took = median(&mut peer_took);
            format!("{took:.2} ({:.1}×)", took / ours_took)
        };
        let ratio = ours_took / (libgit2 + trip);
        println!("{label:<24}{libgit2:>10.3}{trip:>12.3}{ours_took:>10.3}{ratio:>9.2}×  {reference}");
    }
    println!(
        "\nstart to the first answer: mcp-git {:.1} ms, {:.1} MiB",
        our_start.as_secs_f64() * 1e3,
        ours.resident_mib()
    );
    if let Some((server, started)) = &peer {
        println!(
            "start to `initialize`: mcp-server-git {:.0} ms, {:.1} MiB",
            started.as_secs_f64() * 1e3,
            server.resident_mib()
        );
    }
}
