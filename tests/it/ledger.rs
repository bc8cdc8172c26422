//! What callers got, what the ledger has and what reports say is one sum, whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use orchestrator::config::House;
use orchestrator::fleet::{Called, Fleet};
use serde_json::{Map, Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tollgate_shared::identity::{Agent, Identity};
use tollgate_shared::ledger::Ledger;
use tollgate_shared::money::Money;
use tollgate_shared::receipt::Outcome;
use tollgate_shared::serve::CommonArguments;
use tollgate_shared::state_dir::StateDir;
use tollgate_tests::world::{orchestrator, program};

const CLIENTS: usize = 8;
const CALLS: usize = 500;

/// A repository on main, a database, an artifact and a configuration.
async fn workspace(folder: &Path) {
    let repository =
        git2::Repository::init_opts(folder, git2::RepositoryInitOptions::new().initial_head("main")).unwrap();
    let mut config = repository.config().unwrap();
    config.set_str("user.name", "Tests").unwrap();
    config.set_str("user.email", "tests@example.com").unwrap();
    fs::write(folder.join("a.py"), "x = 1\n").unwrap();
    fs::create_dir(folder.join("dist")).unwrap();
    fs::write(folder.join("dist/app"), "binary").unwrap();
    let mut index = repository.index().unwrap();
    index.add_path(Path::new("a.py")).unwrap();
    index.write().unwrap();
    let tree = repository.find_tree(index.write_tree().unwrap()).unwrap();
    let signature = repository.signature().unwrap();
    repository.commit(Some("HEAD"), &signature, &signature, "first", &tree, &[]).unwrap();
    let mut database =
        SqliteConnectOptions::new().filename(folder.join("shop.db")).create_if_missing(true).connect().await.unwrap();
    sqlx::raw_sql("CREATE TABLE book (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO book (title) VALUES ('Emma');")
        .execute(&mut database)
        .await
        .unwrap();
    let configuration = "[database.connections.shop]\nurl = \"sqlite:shop.db\"\n";
    fs::write(folder.join("tollgate.toml"), configuration).unwrap();
}

fn house(folder: &Path) -> House {
    let arguments = CommonArguments {
        config: Some(folder.join("tollgate.toml")),
        state_dir: Some(folder.join("state")),
        check_config: false,
        log: String::new(),
    };
    let mut house = House::load(&arguments, &[]).unwrap();
    for server in &mut house.servers {
        server.program = program(&format!("mcp-{}", server.name));
    }
    house
}

/// The call `number` of a client: a mix of answers, refusals and cache hits over all four servers.
fn call(client: usize, number: usize) -> (&'static str, &'static str, Value) {
    match number % 20 {
        0 => ("ralph", "verify_file", json!({"path": "a.py"})),
        1 => ("git", "git_status", json!({})),
        2 => ("database", "query", json!({"sql": "SELECT title FROM book WHERE id = ?", "params": [1]})),
        3 => ("deploy", "list_environments", json!({})),
        4 => ("ralph", "verify_file", json!({"path": "new.py", "content": format!("x = {number}\n")})),
        5 => ("git", "git_commit", json!({"message": "straight onto main"})),
        6 => ("database", "query", json!({"sql": "DROP TABLE book"})),
        7 => (
            "deploy",
            "deploy",
            json!({"environment": "prod", "service": "app", "version": "1.0.0", "artifact": "dist"}),
        ),
        8 => ("ralph", "verify_file", json!({"path": "bad.py", "content": format!("x = ({client}\n")})),
        9 => ("git", "git_log", json!({})),
        10 => ("database", "list_tables", json!({})),
        11 => ("deploy", "deployment_status", json!({})),
        12 => ("ralph", "verify_file", json!({"path": "../outside.py"})),
        13 => ("git", "git_create_branch", json!({"branch_name": format!("c{client}-{number}")})),
        14 => ("database", "validate_query", json!({"sql": "SELECT 1"})),
        15 => (
            "deploy",
            "deploy",
            json!({"environment": "dev", "service": format!("app{client}"), "version": format!("1.0.{number}"), "artifact": "dist"}),
        ),
        16 => ("ralph", "verify_batch", json!({"globs": ["*.py"]})),
        17 => ("git", "git_status", json!({"repo_path": "/"})),
        18 => ("database", "query", json!({"sql": "SELECT nothing FROM nowhere"})),
        _ => ("ralph", "list_checks", json!({})),
    }
}

/// Returns the process ids of this process's children that run `program` for `folder`; other tests have some too.
fn children(program: &str, folder: &Path) -> Vec<i32> {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes
        .filter(|pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let Some((head, tail)) = stat.rsplit_once(") ") else { return false };
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            head.ends_with(&format!("({program}"))
                && tail.split(' ').nth(1) == Some(own.as_str())
                && String::from_utf8_lossy(&arguments).contains(folder.to_str().unwrap())
        })
        .collect()
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

fn run_orchestrator(folder: &Path, state: &str, arguments: &[&str]) -> Output {
    Command::new(orchestrator())
        .args(["--config", "tollgate.toml", "--state-dir", state])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn costs(folder: &Path, by: &str) -> Value {
    let output = run_orchestrator(folder, "state", &["costs", "--by", by, "--format", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn money(value: &Value) -> Money {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_ledger_and_reports_are_one_sum_after_a_kill() {
    let world = tempfile::tempdir().unwrap();
    let folder = world.path();
    workspace(folder).await;
    let fleet = Arc::new(Fleet::new(&house(folder)).unwrap());
    let done = Arc::new(AtomicUsize::new(0));

    // Every server is killed once, each in the middle of what the clients make of it.
    let killer = tokio::spawn({
        let (done, folder) = (Arc::clone(&done), folder.to_owned());
        async move {
            for (quarter, name) in ["mcp-git", "mcp-ralph", "mcp-database", "mcp-deploy"].iter().enumerate() {
                while done.load(Ordering::Relaxed) < CLIENTS * CALLS * (quarter + 1) / 5 {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                let victims = children(name, &folder);
                assert!(!victims.is_empty(), "{name} is not running");
                victims.into_iter().for_each(kill);
            }
        }
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (fleet, done) = (Arc::clone(&fleet), Arc::clone(&done));
            tokio::spawn(async move {
                let agent = Agent { name: format!("client-{client}"), role: Some("tester".to_owned()) };
                let identity = Identity { agent, task_id: Some(format!("TASK-{}", client % 3)), call_id: None };
                let mut answers: Vec<Called> = Vec::new();
                for number in 0..CALLS {
                    let (server, tool, arguments) = call(client, number);
                    let arguments: Map<String, Value> = serde_json::from_value(arguments).unwrap();
                    answers.push(fleet.call(server, tool, arguments, &identity).await.unwrap());
                    done.fetch_add(1, Ordering::Relaxed);
                }
                answers
            })
        })
        .collect();
    let mut answers = Vec::new();
    for client in clients {
        answers.extend(client.await.unwrap());
    }
    killer.await.unwrap();
    fleet.close().await;

    // Each call has exactly one receipt, and they are of every kind.
    let ids: BTreeSet<_> = answers.iter().map(|called| called.receipt.id).collect();
    assert_eq!(ids.len(), CLIENTS * CALLS);
    let count = |wanted: &dyn Fn(&Called) -> bool| answers.iter().filter(|called| wanted(called)).count();
    assert!(count(&|called| called.receipt.outcome == Outcome::Refused) > CALLS);
    assert!(count(&|called| called.receipt.cached) > CALLS / 2);
    let codes: BTreeMap<&str, usize> =
        answers.iter().filter_map(|called| called.receipt.code.as_deref()).fold(BTreeMap::new(), |mut codes, code| {
            *codes.entry(code).or_default() += 1;
            codes
        });
    for code in ["protected_branch", "not_read_only", "requires_not_met", "path_outside_root"] {
        assert!(codes.contains_key(code), "{codes:?}");
    }
    for called in &answers {
        let lines: Money = called.receipt.lines.iter().map(|line| line.amount).sum();
        assert_eq!(lines, called.receipt.amount);
        // What a killed server left unanswered is answered by the orchestrator.
        if let Some(cost) = called.structured.get("cost_usd") {
            assert_eq!(money(cost).to_string(), called.receipt.amount.to_string());
        } else {
            let code = called.structured["error"]["code"].as_str().unwrap();
            assert!(matches!(code, "server_died" | "answer_lost" | "server_unavailable"), "{code}");
        }
    }

    // The same sum in the answers, in the ledger and in every report.
    let answered: Money = answers.iter().map(|called| called.receipt.amount).sum();
    assert!(!answered.is_zero());
    let ledger = Ledger::new(StateDir::choose(Some(&folder.join("state")), folder));
    let mut recorded = BTreeMap::new();
    {
        use futures::TryStreamExt;
        let mut reader = ledger.reader().await.unwrap().unwrap();
        let mut receipts = std::pin::pin!(reader.receipts(None));
        while let Some(receipt) = receipts.try_next().await.unwrap() {
            recorded.insert(receipt.id, receipt);
        }
    }
    for called in &answers {
        assert_eq!(recorded.get(&called.receipt.id), Some(&called.receipt));
    }
    assert_eq!(recorded.len(), answers.len());
    assert_eq!(recorded.values().map(|receipt| receipt.amount).sum::<Money>(), answered);
    for by in ["tool", "server", "sku", "agent", "task", "day"] {
        let report = costs(folder, by);
        assert_eq!(money(&report["total"]["amount"]), answered, "{by}");
        assert_eq!(report["total"]["calls"], CLIENTS * CALLS, "{by}");
        let groups: Money = report["groups"].as_object().unwrap().values().map(|group| money(&group["amount"])).sum();
        assert_eq!(groups, answered, "{by}");
    }

    let verified = run_orchestrator(folder, "state", &["audit", "verify"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    tampering_is_found(folder).await;
}

/// Changes a byte here and there, drops and swaps entries of the filled ledger, each on a fresh copy.
async fn tampering_is_found(folder: &Path) {
    let mut open = SqliteConnectOptions::new().filename(folder.join("state/ledger.db")).connect().await.unwrap();
    let byte = |column: &str, seq: usize| {
        format!("UPDATE entry SET {column} = substr({column}, 1, 9) || 'x' || substr({column}, 11) WHERE seq = {seq}")
    };
    let changes = [
        byte("body", 1),
        byte("body", 2500),
        byte("id", 3000),
        "UPDATE entry SET kind = 'audit' WHERE seq = 4 AND kind = 'receipt' OR seq = 5 AND kind = 'receipt'".to_owned(),
        "UPDATE entry SET body = replace(body, '\"0.001', '\"0.000') WHERE body LIKE '%\"0.001%' AND seq < 100"
            .to_owned(),
        "UPDATE entry SET hash = prev WHERE seq = 17".to_owned(),
        "DELETE FROM entry WHERE seq = 1".to_owned(),
        "DELETE FROM entry WHERE seq = 1234".to_owned(),
        "DELETE FROM entry WHERE seq = (SELECT max(seq) FROM entry)".to_owned(),
        "UPDATE entry SET seq = -1 WHERE seq = 20; UPDATE entry SET seq = 20 WHERE seq = 21; \
         UPDATE entry SET seq = 21 WHERE seq = -1"
            .to_owned(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let state = format!("tampered-{number}");
        let copy = folder.join(&state).join("ledger.db");
        fs::create_dir(folder.join(&state)).unwrap();
        sqlx::query("VACUUM INTO ?").bind(copy.to_str()).execute(&mut open).await.unwrap();
        let untouched = run_orchestrator(folder, &state, &["audit", "verify"]);
        assert!(untouched.status.success(), "{untouched:?}");
        let mut connection = SqliteConnectOptions::new().filename(copy).connect().await.unwrap();
        let unlocked = "DROP TRIGGER entry_is_not_changed; DROP TRIGGER entry_is_not_dropped;
                        PRAGMA ignore_check_constraints = ON;";
        sqlx::raw_sql(unlocked).execute(&mut connection).await.unwrap();
        let changed = sqlx::raw_sql(AssertSqlSafe(change.clone())).execute(&mut connection).await.unwrap();
        assert!(changed.rows_affected() > 0, "{change}");
        connection.close().await.unwrap();
        let verified = run_orchestrator(folder, &state, &["audit", "verify"]);
        assert_eq!(verified.status.code(), Some(1), "{change}: {}", String::from_utf8_lossy(&verified.stdout));
    }
}
