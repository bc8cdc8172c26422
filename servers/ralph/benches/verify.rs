//! How fast files are verified, beside the tools that people would use instead; `cargo bench -p mcp-ralph --bench verify`.
//!
//! Everything runs on the same copy of the same tree in one run, and what counts is the ratio. `ruff` and `ast-grep` are
//! taken from the path, or from the folders in `TOLLGATE_BENCH_PATH`; a tool that is not there is left out.
//! `TOLLGATE_BENCH_TREES` names further trees, such as an installed JavaScript package, separated by colons. Arguments
//! name the trees that are wanted instead, or `file` for what one file takes: a machine may be free only for minutes.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]
#![expect(clippy::float_arithmetic, reason = "ratios")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run stops")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tollgate_shared::content_hash::ContentHash;

/// Each is measured this often, and the best counts: the machine has other work.
const RUNS: usize = 3;

/// What the other tools are held against: they have no guardrails.
const BOTH: &[&str] = &["--check", "syntax", "--check", "security"];

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/ast-grep");

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for one in &wanted {
        if one == "file" { one_file() } else { compare(Path::new(one)) }
    }
    if !wanted.is_empty() {
        return;
    }
    let python = Command::new("python3").args(["-c", "import os; print(os.path.dirname(os.__file__))"]).output();
    let mut trees: Vec<PathBuf> =
        python.iter().map(|found| String::from_utf8_lossy(&found.stdout).trim().into()).collect();
    trees.extend(std::env::var_os("TOLLGATE_BENCH_TREES").iter().flat_map(std::env::split_paths));
    for tree in &trees {
        compare(tree);
    }
    one_file();
}

/// Prints what every tool takes for `tree`.
fn compare(tree: &Path) {
    let workspace = tempfile::tempdir().unwrap();
    let (files, bytes) = copy(tree, &workspace.path().join("tree"));
    println!("\n{}: {files} files, {:.1} MB", tree.display(), bytes as f64 / 1e6);
    let hashing = best(|| walk_and_hash(workspace.path()));
    let line = |name: &str, taken: Option<(Duration, u64)>| match taken {
        Some((time, memory)) => println!(
            "{name:<42} {:>8.0} ms  {:>6.2} x hashing  {:>5} MB peak",
            time.as_secs_f64() * 1e3,
            time.as_secs_f64() / hashing.as_secs_f64(),
            memory / 1024,
        ),
        None => println!("{name:<42} not installed"),
    };
    println!("{:<42} {:>8.0} ms", "walk + SHA-256, same threads", hashing.as_secs_f64() * 1e3);
    let ralph = |state: &Path, checks: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-ralph"));
        command.arg("verify").arg("--state-dir").arg(state).args(checks).current_dir(workspace.path());
        command
    };
    let mut states = Vec::new();
    for (name, checks) in [
        ("syntax", &["--check", "syntax"][..]),
        ("security", &["--check", "security"]),
        ("syntax+security", BOTH),
        ("all", &[]),
    ] {
        // Removed at the end: where thousands of files were just removed, ext4 makes new ones slowly.
        let mut taken = || {
            states.push(tempfile::tempdir().unwrap());
            timed(&mut ralph(states.last()?.path(), checks))
        };
        line(&format!("mcp-ralph verify, cold, {name}"), measured(&mut taken));
    }
    let state = tempfile::tempdir().unwrap();
    timed(&mut ralph(state.path(), BOTH));
    line("mcp-ralph verify, warm, syntax+security", measured(|| timed(&mut ralph(state.path(), BOTH))));
    let mut ruff = tool("ruff");
    ruff.args(["check", "--select", "S", "--no-cache", "--isolated", "--quiet", "tree"]).current_dir(workspace.path());
    line("ruff check --select S --no-cache", measured(|| timed(&mut ruff)));
    let mut ast_grep = tool("ast-grep");
    ast_grep.args(["scan", "--no-ignore", "hidden", "--config"]).arg(format!("{RULES}/sgconfig.yml"));
    ast_grep.arg("tree").current_dir(workspace.path());
    line("ast-grep scan", measured(|| timed(&mut ast_grep)));
}

/// Prints what one file takes in a server that runs.
fn one_file() {
    let workspace = tempfile::tempdir().unwrap();
    let mut server = Server::start(&workspace);
    let function = |number: usize, seed: usize| {
        format!("def f{number}(path, x={seed}):\n    return subprocess.run(['ls', path], check=True)\n\n")
    };
    let content =
        |seed| format!("import subprocess\n\n{}", (0..230).map(|number| function(number, seed)).collect::<String>());
    println!("\none file of {} bytes, over stdio, medians", content(100).len());
    let call = |server: &mut Server, seed: usize| {
        fs::write(workspace.path().join("one.py"), content(seed)).unwrap();
        let started = Instant::now();
        let answer = server.call(seed);
        (started.elapsed(), answer)
    };
    call(&mut server, 99);
    let mut fresh: Vec<Duration> = (100..150).map(|seed| call(&mut server, seed).0).collect();
    let mut cached: Vec<Duration> = (100..150).map(|seed| call(&mut server, seed).0).collect();
    fresh.sort_unstable();
    cached.sort_unstable();
    for (name, times) in [("fresh", fresh), ("cached", cached)] {
        println!("{name:<42} {:>8.2} ms", times[times.len() / 2].as_secs_f64() * 1e3);
    }
    server.child.kill().unwrap();
    server.child.wait().unwrap();
}

struct Server {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    fn start(workspace: &TempDir) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mcp-ralph"))
            .current_dir(workspace.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout }
    }

    fn call(&mut self, id: usize) -> String {
        let request = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"verify_file","arguments":{{"path":"one.py"}},"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
        );
        self.stdin.write_all(format!("{request}\n").as_bytes()).unwrap();
        self.stdin.flush().unwrap();
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).unwrap();
        assert!(answer.contains(r#""verdict":"#), "{answer}");
        answer
    }
}

/// Copies the source files of `from`, without what a package manager put there.
fn copy(from: &Path, to: &Path) -> (usize, u64) {
    let (mut files, mut bytes) = (0, 0);
    let walk = ignore::WalkBuilder::new(from)
        .standard_filters(false)
        .filter_entry(|entry| !matches!(entry.file_name().to_str(), Some("site-packages" | "__pycache__")))
        .build();
    for entry in walk.filter_map(Result::ok).filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file())) {
        let is_source = entry.path().extension().and_then(|end| end.to_str());
        if !matches!(is_source, Some("py" | "js" | "mjs" | "cjs" | "ts" | "tsx")) {
            continue;
        }
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        bytes += fs::copy(entry.path(), &target).unwrap();
        files += 1;
    }
    (files, bytes)
}

/// Walks the tree and hashes every file, on as many threads as checks run on.
fn walk_and_hash(tree: &Path) -> Duration {
    let started = Instant::now();
    let walk = ignore::WalkBuilder::new(tree).hidden(false).build();
    let files: Vec<PathBuf> = walk
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()))
        .map(ignore::DirEntry::into_path)
        .collect();
    let (files, threads) = (Mutex::new(files), std::thread::available_parallelism().map_or(1, usize::from));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let file = files.lock().unwrap().pop();
                    let Some(file) = file else { return };
                    std::hint::black_box(ContentHash::of(&fs::read(file).unwrap_or_default()));
                }
            });
        }
    });
    started.elapsed()
}

fn tool(name: &str) -> Command {
    let folders: Vec<PathBuf> = ["TOLLGATE_BENCH_PATH", "PATH"]
        .iter()
        .filter_map(std::env::var_os)
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
        .collect();
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    Command::new(found.unwrap_or_else(|| name.into()))
}

fn best(mut run: impl FnMut() -> Duration) -> Duration {
    (0..RUNS).map(|_| run()).min().unwrap()
}

fn measured(mut run: impl FnMut() -> Option<(Duration, u64)>) -> Option<(Duration, u64)> {
    let runs: Vec<(Duration, u64)> = (0..RUNS).filter_map(|_| run()).collect();
    Some((runs.iter().map(|run| run.0).min()?, runs.iter().map(|run| run.1).max()?))
}

/// Runs `command` and returns how long it took and its peak of memory in KB; nothing when it is not there.
fn timed(command: &mut Command) -> Option<(Duration, u64)> {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn().ok()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        if let Some(kilobytes) = fs::read_to_string(&status).ok().and_then(|text| high_water(&text)) {
            peak = peak.max(kilobytes);
        }
        if child.try_wait().unwrap().is_some() {
            return Some((started.elapsed(), peak));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
