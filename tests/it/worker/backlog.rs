//! The backlog of `cargo xtask demo-queue`.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_shared::money::Money;
use tollgate_tests::world::{orchestrator_in, repository_root};

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The service that the backlog is about, with its history and the configuration of its workers.
pub(super) struct Shop(TempDir);

impl Shop {
    pub(super) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let examples = repository_root().join("examples");
        let examples = examples.display();
        let script = format!(
            "set -e; cp -r {examples}/bookshop .; cp -r {examples}/backlog/agents bookshop/.agents; \
             cp {examples}/backlog/tollgate.toml bookshop; cd bookshop; rm -rf target; git init -q -b main; \
             git config user.name Shop; git config user.email shop@example.com; \
             printf '/.agents\\n/*.json\\n' >>.git/info/exclude; git add .; git commit -q -m first"
        );
        succeed(Command::new("sh").args(["-c", &script]).current_dir(folder.path()));
        Self(folder)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.0.path().join("bookshop")
    }
}

#[test]
fn backlog_of_the_demo_ends_as_its_table_says() {
    let shop = Shop::new();
    let examples = repository_root().join("examples");
    let examples = examples.display();
    let run = |arguments: &[&str]| succeed(orchestrator_in(&shop.path()).args(arguments));
    run(&["queue", "import", &format!("{examples}/backlog/backlog.json")]);
    let workers: Vec<_> = (0..3)
        .map(|_| {
            orchestrator_in(&shop.path())
                .args(["worker", "--once"])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut worker in workers {
        assert!(matches!(worker.wait().unwrap().code(), Some(0 | 1)));
    }
    let report: Vec<Value> = serde_json::from_str(&run(&["queue", "report", "--json"])).unwrap();
    let expected = [
        ("TYPO-1", "single", "otherwise", "completed", 0, 0),
        ("BUG-2", "single", "otherwise", "completed", 0, 0),
        ("FEATURE-3", "team", "value", "completed", 0, 0),
        ("FEATURE-4", "team", "complexity", "completed", 0, 1),
        ("AUDIT-5", "team", "special", "completed", 0, 0),
        ("DEPLOY-6", "human", "category", "needs_person", 0, 0),
        ("BUG-7", "single", "otherwise", "blocked", 1, 0),
        ("CHORE-8", "single", "otherwise", "blocked", 0, 0),
    ];

    for ((id, decision, rule, status, retries, conflicts), row) in expected.into_iter().zip(&report) {
        let found = json!([row["id"], row["decision"], row["rule"], row["status"], row["retries"], row["conflicts"]]);
        assert_eq!(found, json!([id, decision, rule, status, retries, conflicts]), "{row:#}");
    }
    let readme = std::fs::read_to_string(repository_root().join("README.md")).unwrap();
    for (id, decision, rule, status, ..) in expected {
        let told = readme.lines().find(|line| line.trim_start().starts_with(&format!("{id} "))).unwrap_or_default();
        let words: Vec<&str> = told.split_whitespace().collect();
        assert_eq!(
            words.get(1..4).map(|words| words.join(" ")),
            Some(format!("{decision} ({rule}) {status}")),
            "{told}"
        );
    }
    assert_eq!(report[1]["verdicts"], json!(["fail: again", "pass"]));
    let usd = |name: &str| report[1][name].as_str().unwrap().parse::<Money>().unwrap();
    assert_eq!(usd("cost_per_iteration_usd"), usd("cost_usd").average_over(2));
    assert_eq!(report[5]["cost_per_iteration_usd"], "0");
    assert!(report[7]["reason"].as_str().unwrap().starts_with("budget: "), "{}", report[7]);
    // Everything that happened is told to whoever asks, by the task and by who of its team.
    let told = run(&["watch", "--once", "--json", "--since", "2026-01-01T00:00:00Z"]);
    let events: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count =
        |task: &str, kind: &str| events.iter().filter(|event| event["task"] == task && event["kind"] == kind).count();
    assert_eq!((count("BUG-2", "verdict"), count("BUG-2", "cost_summary")), (2, 1), "{told}");
    assert_eq!((count("DEPLOY-6", "escalation"), count("CHORE-8", "escalation")), (1, 1), "{told}");
    let members: std::collections::BTreeSet<&str> = events
        .iter()
        .filter(|event| event["task"] == "FEATURE-3" && event["kind"] == "specialist")
        .map(|event| event["member"].as_str().unwrap())
        .collect();
    assert_eq!(members, std::collections::BTreeSet::from(["build", "say", "test"]), "{told}");
    // What the table says everything cost is what the ledger says.
    let table = run(&["queue", "report"]);
    let costs: Value = serde_json::from_str(&run(&["costs", "--by", "task", "--format", "json"])).unwrap();
    let total = costs["total"]["amount"].as_str().unwrap().trim_end_matches('0').to_owned();
    assert!(
        table.contains(&format!("5 of 8 completed, worth $134.99; everything cost ${total}, $"))
            && table.trim_end().ends_with("times that"),
        "{table}\n{costs:#}"
    );
    // All of it was one repository's, also as compared with the time before, when there was nothing.
    let by_project: Value =
        serde_json::from_str(&run(&["costs", "--by", "project", "--trend", "--format", "json"])).unwrap();
    assert_eq!(by_project["groups"]["bookshop"]["amount"], costs["total"]["amount"], "{by_project:#}");
    assert_eq!(by_project["trend"]["bookshop"], json!({"share_permille": 1000, "change_percent": null}));
    assert_eq!(by_project["before"]["total"]["calls"], 0);
    let trend = run(&["costs", "--by", "project", "--trend"]);
    assert!(trend.contains("share") && trend.contains("100.0 %") && trend.contains("new"), "{trend}");
    let calls = run(&["costs", "--since", "1h", "--trend", "--format", "csv"]);
    assert!(calls.lines().all(|line| line.split(',').count() == 11), "{calls}");
    // What a bug will cost, by the two there were.
    let forecast: Value = serde_json::from_str(&run(&["costs", "--forecast", "bug", "--format", "json"])).unwrap();
    let bugs: Vec<&Value> =
        report.iter().filter(|row| ["BUG-2", "BUG-7"].contains(&row["id"].as_str().unwrap())).collect();
    let cost = |row: &Value| row["cost_usd"].as_str().unwrap().parse::<Money>().unwrap();
    let sum: Money = bugs.iter().map(|row| cost(row)).sum();
    let of = |name: &str| forecast["types"].as_array().unwrap().iter().map(|one| one[name].clone()).collect::<Vec<_>>();
    assert!(of("type").iter().all(|kind| kind == "bug"), "{forecast:#}");
    let tasks: u64 = of("tasks").iter().map(|tasks| tasks.as_u64().unwrap()).sum();
    assert!(tasks >= 2 && sum > Money::ZERO, "{forecast:#}");
    let most = of("max_usd").iter().map(|most| most.as_str().unwrap().parse::<Money>().unwrap()).max();
    assert_eq!(most, bugs.iter().map(|row| cost(row)).max(), "{forecast:#}");
    assert!(run(&["costs", "--forecast"]).lines().count() > 4);
    let unknown = orchestrator_in(&shop.path()).args(["costs", "--forecast", "bugs"]).output().unwrap();
    assert!(!unknown.status.success() && String::from_utf8_lossy(&unknown.stderr).contains("is none of"));
}
