//! Files of tasks, through the program.

use std::fs;
use std::process::Output;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tollgate_tests::world::orchestrator_in;

use super::engines::{postgres_url, task};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> Value {
        serde_json::from_str(&fs::read_to_string(self.0.path().join(name)).unwrap()).unwrap()
    }

    fn queue(&self, arguments: &[&str]) -> Output {
        orchestrator_in(self.0.path()).arg("queue").args(arguments).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.queue(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.queue(arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    fn exported(&self) -> Value {
        serde_json::from_str(&self.ok(&["export"])).unwrap()
    }
}

#[test]
fn old_queue_is_upgraded_backed_up_and_rolled_back() {
    let folder = Folder::new();
    let old =
        json!([task("a", json!({"priority": "P0", "vendor": {"x": 1}})), task("b", json!({"type": "migration"}))]);
    folder.write("old.json", &old.to_string());
    let told = folder.ok(&["import", "old.json", "--dry-run"]);
    assert!(
        told.contains("2 new") && told.contains("2 of an old queue") && told.contains("nothing was done"),
        "{told}"
    );
    assert_eq!(folder.exported()["tasks"], json!([]));
    let told = folder.ok(&["import", "old.json"]);
    let import = told.lines().nth(1).unwrap().split(';').next().unwrap().to_owned();
    let tasks = folder.exported()["tasks"].clone();
    assert_eq!(tasks[0]["estimated_value_usd"], "200");
    assert_eq!(tasks[0]["vendor"], json!({"x": 1}));
    assert_eq!((&tasks[1]["complexity_category"], &tasks[1]["estimated_value_usd"]), (&json!("high"), &json!("50")));
    let backup = folder.0.path().join(".tollgate/imports").join(&import).join("0-old.json");
    assert_eq!(fs::read_to_string(backup).unwrap(), old.to_string());
    // Once more is no more.
    assert!(folder.ok(&["import", "old.json"]).contains("0 new, 0 changed, 2 as they were"));
    assert!(folder.ok(&["rollback-import"]).contains(&import));
    assert_eq!(folder.exported()["tasks"], json!([]));
    assert_eq!(folder.read("old.json"), old);
}

#[test]
fn corrupt_files_change_nothing_and_name_line_and_field() {
    let folder = Folder::new();
    folder.write("good.json", &json!([task("good", json!({}))]).to_string());
    folder.ok(&["import", "good.json"]);
    let before = folder.exported();
    let pretty = |tasks: Value| serde_json::to_string_pretty(&tasks).unwrap();
    let cut = pretty(json!([task("a", json!({})), task("b", json!({}))]));
    let circle =
        json!([task("a", json!({"depends_on": ["b"]})), task("b", json!({"depends_on": ["a"]})), task("c", json!({}))]);
    let mut nameless = task("x", json!({}));
    nameless.as_object_mut().unwrap().shift_remove("id");
    for (text, parts) in [
        (cut[..cut.len() - 20].to_owned(), vec!["bad.json:14: ", "is not JSON"]),
        (String::new(), vec!["bad.json:1: ", "is not JSON"]),
        ("7".to_owned(), vec!["bad.json:1: a file is a list"]),
        (pretty(json!({"tasks": {}})), vec!["bad.json:2: `tasks` is no list"]),
        (pretty(json!({"schema_version": 9, "tasks": []})), vec!["bad.json:2: `schema_version` 9", "allowed are 1, 2"]),
        (pretty(json!({"features": [{"name": "f"}]})), vec!["bad.json:3: a feature has a list `tasks`"]),
        (pretty(json!([task("a", json!({})), 7])), vec!["bad.json:9: task 2: is no task but 7"]),
        (
            pretty(json!([task("a", json!({})), task("b", json!({"priority": "P7"}))])),
            vec!["bad.json:13: task `b`: `priority` \"P7\" is not allowed; allowed are P0, P1, P2, P3"],
        ),
        (pretty(json!([nameless])), vec!["bad.json:2: task 1: `id` is missing; allowed are"]),
        (
            pretty(json!({"features": [{"name": "f", "tasks": [task("a", json!({"acceptance": {"command": "x"}}))]}]})),
            vec!["task `a`: `acceptance.command` is not allowed; allowed are commands, criteria", "bad.json:13:"],
        ),
        (
            pretty(json!([task("a", json!({})), task("a", json!({}))])),
            vec!["bad.json:10: task `a`: `id` is there twice"],
        ),
        (
            pretty(json!([task("a", json!({"depends_on": ["nope"]}))])),
            vec!["bad.json:8: task `a`: `depends_on` names `nope`"],
        ),
        (pretty(circle), vec!["bad.json:8: task `a`: `depends_on` leads back", "bad.json:18: task `b`"]),
        (
            pretty(json!([task("new", json!({})), task("good", json!({"title": "other"}))])),
            vec!["good", "other content"],
        ),
    ] {
        folder.write("bad.json", &text);
        let error = folder.refused(&["import", "bad.json"]);
        for part in parts {
            assert!(error.contains(part), "{part} is not in {error}\n{text}");
        }
        assert_eq!(folder.exported(), before, "{error}");
    }
    // Of a folder with one bad file nothing is taken either.
    fs::create_dir(folder.0.path().join("in")).unwrap();
    folder.write("in/1.json", &json!([task("n1", json!({}))]).to_string());
    folder.write("in/2.json", &json!([task("n2", json!({"type": "x"}))]).to_string());
    assert!(folder.refused(&["import", "in"]).contains("2.json:1: task `n2`: `type`"));
    assert_eq!(folder.exported(), before);
    folder.write("in/2.json", &json!([task("n2", json!({"depends_on": ["n1", "good"]}))]).to_string());
    assert!(folder.ok(&["import", "in"]).contains("2 new"));
    assert!(
        fs::read_dir(folder.0.path().join(".tollgate/imports")).unwrap().count() == 2,
        "only what was taken is kept"
    );
}

#[test]
fn sync_changes_what_waits_and_writes_back_where_tasks_are() {
    let folder = Folder::new();
    let grouped = |title: &str| {
        let tasks =
            json!([task("a", json!({"title": title, "estimated_value_usd": 10, "own": null})), task("b", json!({}))]);
        json!({"schema_version": 2, "owner": "me", "features": [{"name": "login", "colour": "red", "tasks": tasks}]})
    };
    folder.write("q.json", &grouped("one").to_string());
    assert!(folder.ok(&["sync", "q.json", "--dry-run"]).contains("2 new"));
    folder.ok(&["sync", "q.json"]);
    assert_eq!(folder.read("q.json"), grouped("one"), "nothing is to be said that it does not say");
    let written: Value = serde_json::from_str(&folder.ok(&["export", "--grouped"])).unwrap();
    assert_eq!(written["features"], grouped("one")["features"]);

    folder.write("q.json", &grouped("two").to_string());
    folder.ok(&["block", "b", "--reason", "later"]);
    assert!(folder.ok(&["sync", "q.json"]).contains("0 new, 1 changed, 1 as they were"));
    let now = folder.read("q.json");
    assert_eq!(now["features"][0]["tasks"][1]["status"], "blocked");
    assert_eq!((&now["owner"], &now["features"][0]["colour"]), (&json!("me"), &json!("red")));
    let listed: Value = serde_json::from_str(&folder.ok(&["list", "--json"])).unwrap();
    assert_eq!((&listed[0]["task"]["title"], &listed[1]["reason"]), (&json!("two"), &json!("later")));
}

#[test]
fn tasks_are_added_shown_and_changed_one_by_one() {
    let folder = Folder::new();
    let id = folder.ok(&["add", "Make it add", "--template", "simple-bug", "--accept", "true", "--priority", "P0"]);
    let id = id.trim();
    folder.ok(&["add", "Then this", "--id", "next", "--depends-on", id, "--budget", "1.5", "--value", "49.99"]);
    let list = folder.ok(&["list"]);
    assert!(list.contains("waits for 1") && list.contains("2 pending"), "{list}");
    let shown: Value = serde_json::from_str(&folder.ok(&["show", id, "--json"])).unwrap();
    assert_eq!(shown["task"]["acceptance"]["commands"], json!(["true"]));
    assert_eq!((&shown["task"]["complexity_category"], &shown["task"]["priority"]), (&json!("low"), &json!("P0")));
    folder.ok(&["cancel", "next"]);
    assert!(!folder.ok(&["list"]).contains("Then this"));
    assert!(folder.ok(&["show", "next"]).contains("nobody wants it any more"));
    folder.ok(&["retry", "next"]);
    for (arguments, part) in [
        (vec!["add", "x", "--id", id], "already"),
        (vec!["add", "x", "--id", "a b"], "`id`"),
        (vec!["add", "x", "--depends-on", "nope"], "not in the queue"),
        (vec!["add", " "], "`description` is empty"),
        (vec!["add", "x", "--type", "bugs"], "none of bug, feature"),
        (vec!["add", "x", "--accept", "a 'b"], "quotation mark"),
        (vec!["show", "nope"], "no task nope"),
        (vec!["retry", "next"], "is pending"),
        (vec!["export", "--status", "done"], "none of pending"),
    ] {
        let error = folder.refused(&arguments);
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
    let template: Value = serde_json::from_str(&folder.ok(&["template", "deployment"])).unwrap();
    assert_eq!(template["type"], "deploy");
}

/// Any value that a field nobody knows may have.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no others", |number| number.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,6}", inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A task with any of the fields that there are, in any order, and some that there are not.
fn any_task() -> impl Strategy<Value = Vec<(String, Value)>> {
    let word = |words: &'static [&'static str]| prop::sample::select(words).prop_map(Value::from).boxed();
    let text = || "x\\PC{0,20}[a-z\"\\\\\n]".prop_map(Value::from).boxed();
    let money = || {
        prop_oneof![(0_u32..10_000).prop_map(|n| json!(n)), (0_u32..10_000).prop_map(|n| json!(format!("{n}.99")))]
            .boxed()
    };
    let optional = [
        ("title", text()),
        ("project", text()),
        ("complexity_category", word(&["low", "medium", "high", "critical"])),
        ("estimated_value_usd", money()),
        ("preferred_agents", prop::collection::vec("[a-z]{1,5}", 0..3).prop_map(|names| json!(names)).boxed()),
        ("agent_type_override", text()),
        ("use_multi_agent", any::<bool>().prop_map(Value::from).boxed()),
        ("routing_reason", text()),
        ("category", word(&["DISPATCH", "PREP", "YOURS"])),
        ("acceptance", text().prop_map(|text| json!({"criteria": [text], "commands": ["true"]})).boxed()),
        ("budget_usd", money()),
        ("attempts", (0_u32..9).prop_map(Value::from).boxed()),
        ("passes", any::<bool>().prop_map(Value::from).boxed()),
        ("branch", text()),
        ("created_at", (0_i64..2_000_000_000).prop_map(|s| json!(jiff::Timestamp::from_second(s).unwrap())).boxed()),
        ("x_vendor", anything().boxed()),
        ("labels", anything().boxed()),
    ];
    let optional = optional.map(|(name, value)| {
        prop::option::weighted(0.4, value.prop_map(move |value| (name.to_owned(), value))).boxed()
    });
    let required = (
        text(),
        word(&["pending", "in_progress", "needs_person", "blocked", "completed", "cancelled", "archived"]),
        word(&["P0", "P1", "P2", "P3"]),
        word(&["bug", "feature", "refactor", "test", "docs", "deploy", "migration", "rollback"]),
    );
    (required, optional.to_vec()).prop_flat_map(|((description, status, priority, kind), optional)| {
        let mut fields = vec![
            ("description".to_owned(), description),
            ("status".to_owned(), status),
            ("priority".to_owned(), priority),
            ("type".to_owned(), kind),
        ];
        fields.extend(optional.into_iter().flatten());
        Just(fields).prop_shuffle()
    })
}

#[tokio::test]
async fn ten_thousand_tasks_come_out_as_they_went_in() {
    const TASKS: usize = 10_000;
    let config = Config { rng_seed: RngSeed::Fixed(8), ..Config::default() };
    let mut runner = TestRunner::new(config);
    let strategy = any_task();
    let mut tasks: Vec<Value> = Vec::new();
    for number in 0..TASKS {
        let fields = strategy.new_tree(&mut runner).unwrap().current();
        let mut body: Map<String, Value> = fields.into_iter().collect();
        body.insert("id".to_owned(), json!(format!("t-{number}")));
        if number > 0 && number % 3 == 0 {
            body.insert("depends_on".to_owned(), json!([format!("t-{}", number / 2), format!("t-{}", number - 1)]));
        }
        tasks.push(Value::Object(body));
    }
    let halves = tasks.split_at(TASKS / 2);
    let feature = |name: &str, tasks: &[Value]| json!({"name": name, "owner": {"team": [1, null]}, "tasks": tasks});
    let whole = json!({"schema_version": 2, "features": [feature("one", halves.0), feature("two", halves.1)]});
    for url in [None, postgres_url().await] {
        let folder = Folder::new();
        folder.write("tollgate.toml", &url.map(|url| format!("[queue]\nurl = \"{url}\"\n")).unwrap_or_default());
        folder.write("in.json", &whole.to_string());
        let told = folder.ok(&["import", "in.json"]);
        assert!(told.contains("10000 new"), "{told}");
        folder.ok(&["export", "--grouped", "--out", "out.json"]);
        // Text against text: order of fields, forms of numbers, everything.
        let (out, within) = (folder.read("out.json").to_string(), whole.to_string());
        assert!(out == within, "something was lost or changed");
        folder.ok(&["rollback-import"]);
        assert_eq!(folder.exported()["tasks"], json!([]));
    }
}
