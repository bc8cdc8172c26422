//! A team does a task: divided by its lead, done in parts, merged, and looked at as a whole.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_shared::money::Money;

use super::world::World;
use super::{RIGHT, write};

const TEST: &str = "from calc import add\n\n\ndef test_add_twice():\n    assert add(2, 2) == 4\n";

fn plan(parts: &Value) -> Value {
    json!({"tool": "tollgate__plan_team", "arguments": { "parts": parts }})
}

fn part(id: &str, role: &str, on: &[&str]) -> Value {
    json!({"id": id, "role": role, "description": format!("Do {id}."), "depends_on": on})
}

fn edit(path: &str, old: &str, new: &str) -> Value {
    json!({"tool": "tollgate__edit_file", "arguments": {"path": path, "old": old, "new": new}})
}

fn say(text: &str) -> Value {
    json!({"tool": "git__git_status", "say": text})
}

impl World {
    fn run_team(&self, arguments: &[&str]) -> (Vec<Value>, i32) {
        self.run(&[&["--task", "Make add work\n\nAnd test it.", "--team"], arguments].concat())
    }

    /// The session of the whole, exported.
    fn whole(&self) -> Value {
        let sessions = self.sessions();
        let whole = sessions.iter().find(|session| session["id"].as_str().unwrap().matches('-').count() == 1).unwrap();
        self.json(&["sessions", "export", whole["id"].as_str().unwrap()])
    }

    /// What everything cost, by the ledger, of the sessions whose names begin with the whole's.
    fn cost_of(&self, id: &str) -> Money {
        let costs = self.json(&["costs", "--by", "task", "--format", "json"]);
        let of = costs["groups"].as_object().unwrap().iter().filter(|(task, _)| task.starts_with(id));
        of.map(|(_, group)| group["amount"].as_str().unwrap().parse::<Money>().unwrap()).sum()
    }
}

fn of<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

#[test]
fn parts_are_done_merged_and_verified_as_a_whole() {
    let world = World::new();
    world.script(&json!({
        "agent": {"name": "ann"},
        "analysis": [
            {"tool": "git__git_log"},
            {"tool": "tollgate__write_file", "arguments": {"path": "a.py", "content": ""}, "expect": {"outcome": "refused", "code": "unknown_tool"}},
            plan(&json!([part("test", "testwriter", &["mend"]), part("mend", "bugfix", &[]), part("note", "featurebuilder", &[]), part("risks", "advisor", &["mend"])])),
        ],
        "turns": [say("It fits \u{1b}[2Jtogether.")],
        "members": {
            "mend": {"agent": {"name": "bob"}, "turns": [write("calc.py", RIGHT)]},
            "test": {"turns": [write("tests/test_twice.py", TEST)]},
            "note": {"turns": [write("notes.py", "NOTE = 1\n"), {"tool": "tollgate__plan_team", "arguments": {}, "expect": {"outcome": "refused", "code": "unknown_tool"}}]},
            "advisor": {"turns": [
                {"tool": "tollgate__write_file", "arguments": {"path": "a.py", "content": ""}, "expect": {"outcome": "refused", "code": "unknown_tool"}},
                {"tool": "git__git_commit", "arguments": {"message": "x"}, "expect": {"outcome": "refused", "code": "unknown_tool"}},
                {"tool": "tollgate__read_file", "arguments": {"path": "calc.py"}, "say": "calc.py:1: nothing is risky."},
            ]},
        },
    }));
    let before = world.checkout();
    let (events, code) = world.run_team(&["--accept", "grep -q 'a + b' calc.py"]);
    assert_eq!(code, 0, "{events:#?}");
    let planned: Vec<&str> = of(&events, "planned")[0]["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["id"].as_str().unwrap())
        .collect();
    assert_eq!(planned, ["mend", "test", "note", "risks"], "in an order in which they can be merged");
    let merged: Vec<&str> = of(&events, "merged").iter().map(|event| event["member"].as_str().unwrap()).collect();
    assert_eq!(merged, ["mend", "note", "test"]);

    let whole = world.whole();
    let (id, branch) = (whole["session"]["id"].as_str().unwrap(), whole["session"]["branch"].as_str().unwrap());
    for (path, content) in [("calc.py", RIGHT), ("tests/test_twice.py", TEST), ("notes.py", "NOTE = 1\n")] {
        assert_eq!(world.git(&["show", &format!("{branch}:{path}")]), content);
    }
    // Who did what stands in the series of commits.
    let trailers = world.git(&[
        "log",
        "--format=%(trailers:key=Agent,valueonly,separator=%x2C)/%(trailers:key=Agent-Role,valueonly,separator=%x2C)",
        branch,
    ]);
    for who in ["bob/bugfix", "scripted/testwriter", "scripted/featurebuilder"] {
        assert!(trailers.lines().any(|line| line == who), "{who} is not in {trailers}");
    }
    // The test was written on top of what was mended.
    let parent = world.git(&["log", "-1", "--format=%H", "--grep", "Do mend.", branch]);
    let test = world.git(&["log", "-1", "--format=%H", "--grep", "Do test.", branch]);
    world.git(&["merge-base", "--is-ancestor", parent.trim(), test.trim()]);
    // What the advisor said is told to the lead.
    let told = whole["messages"].to_string();
    assert!(told.contains("calc.py:1: nothing is risky."), "{told}");
    assert_eq!(world.checkout(), before);
    // Every cent is somebody's.
    let end = events.last().unwrap();
    assert_eq!(end["cost_usd"].as_str().unwrap().parse::<Money>().unwrap(), world.cost_of(id));
    let shown = world.text(&["sessions", "show", id]);
    for part in ["mend", "bugfix", "analysis", "synthesis"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    assert!(shown.contains("together.") && !shown.contains('\u{1b}'), "what an agent says moves no cursor: {shown:?}");
    world.text(&["sessions", "archive", id]);
    assert!(world.sessions().is_empty(), "with those of its team");
    world.text(&["sessions", "archive", id, "--undo"]);
    assert_eq!(world.sessions().len(), 5);
}

#[test]
fn conflicting_work_goes_back_to_whose_came_second() {
    let world = World::new();
    let line = "    return 0\n";
    world.script(&json!({
        "analysis": [plan(&json!([part("one", "bugfix", &[]), part("two", "featurebuilder", &[])]))],
        "turns": [],
        "members": {
            "one": {"turns": [edit("calc.py", line, "    return a + b\n")]},
            "two": {
                "turns": [edit("calc.py", line, "    return int(a) + int(b)\n")],
                "then": [[
                    {"id": "file", "tool": "tollgate__read_file", "arguments": {"path": "calc.py"}},
                    write("calc.py", "def add(a, b):\n    return int(a + b)\n"),
                ]],
            },
        },
    }));
    let (events, code) = world.run_team(&[]);
    assert_eq!(code, 0, "{events:#?}");
    let merged: Vec<(&str, usize)> = of(&events, "merged")
        .iter()
        .map(|event| (event["member"].as_str().unwrap(), event["conflicts"].as_array().unwrap().len()))
        .collect();
    assert_eq!(merged, [("one", 0), ("two", 1), ("two", 0)]);
    let whole = world.whole();
    let branch = whole["session"]["branch"].as_str().unwrap();
    assert_eq!(world.git(&["show", &format!("{branch}:calc.py")]), "def add(a, b):\n    return int(a + b)\n");
    let second =
        world.json(&["sessions", "export", whole["session"]["team"]["members"][1]["session"].as_str().unwrap()]);
    let seen = second["calls"].as_array().unwrap().iter().find(|call| call["tool"] == "tollgate__read_file").unwrap();
    let seen = seen["answer"]["structured"].to_string();
    assert!(seen.contains("<<<<<<<") && seen.contains("return a + b"), "{seen}");
    assert!(second["messages"].to_string().contains("calc.py"), "it is told which files");

    // Markers that are left are found, and a member that cannot resolve its conflict is not the end of the task.
    let world = World::new();
    world.script(&json!({
        "analysis": [plan(&json!([part("one", "bugfix", &[]), part("two", "featurebuilder", &[])]))],
        "turns": [write("calc.py", RIGHT)],
        "members": {
            "one": {"turns": [edit("calc.py", line, "    return a + b\n")]},
            "two": {"turns": [edit("calc.py", line, "    return int(a) + int(b)\n")]},
        },
    }));
    let (events, code) = world.run_team(&[]);
    let fallback = of(&events, "fallback");
    assert_eq!(fallback.len(), 1, "{events:#?}");
    assert!(fallback[0]["reason"].as_str().unwrap().contains("two (featurebuilder)"), "{fallback:?}");
    assert_eq!(code, 0, "{events:#?}");
}

#[test]
fn division_that_cannot_be_used_is_corrected_once_and_then_the_usual_parts_are_taken() {
    let wrong = |refused: bool| {
        let mut turn = plan(&json!([part("x", "boss", &[])]));
        if refused {
            turn["expect"] = json!({"outcome": "failed", "code": "invalid_plan"});
        }
        turn
    };
    let members = json!({
        "mend": {"turns": [write("calc.py", RIGHT)]},
        "bugfix": {"turns": [write("calc.py", RIGHT)]},
        // There is nothing to do for it, as it says twice.
        "testwriter": {"turns": [say("Nothing to test.")], "then": [[say("Really nothing.")]]},
    });
    for (analysis, expected) in [
        (json!([wrong(true), plan(&json!([part("mend", "bugfix", &[])]))]), vec!["mend"]),
        (json!([wrong(true), wrong(true)]), vec!["bugfix-1", "testwriter-2"]),
        (json!([say("I had rather not.")]), vec!["bugfix-1", "testwriter-2"]),
    ] {
        let world = World::new();
        world.script(&json!({"analysis": analysis, "turns": [say("fine")], "members": members}));
        let (events, code) = world.run(&["--task", "Mend add", "--team", "bugfix,testwriter"]);
        assert_eq!(code, 0, "{events:#?}");
        let planned = of(&events, "planned")[0];
        let ids: Vec<&str> =
            planned["parts"].as_array().unwrap().iter().map(|part| part["id"].as_str().unwrap()).collect();
        assert_eq!(ids, expected);
        assert_eq!(planned["default_reason"].is_null(), expected == ["mend"], "{planned}");
    }
}

#[test]
fn part_that_a_person_has_to_decide_stops_the_whole_and_goes_on_from_there() {
    let world = World::new();
    let weakened = "from calc import add\n\n\ndef test_add():\n    pass\n";
    let script = json!({
        "analysis": [plan(&json!([part("mend", "bugfix", &[]), part("test", "testwriter", &[])]))],
        "turns": [say("fine")],
        "members": {
            "mend": {"turns": [write("calc.py", RIGHT)]},
            "test": {"turns": [write("tests/test_calc.py", weakened)]},
        },
    });
    world.script(&script);
    let (events, code) = world.run_team(&[]);
    assert_eq!(code, 1, "{events:#?}");
    let end = events.last().unwrap();
    assert_eq!(end["ending"], "blocked", "{end}");
    assert!(end["reason"].as_str().unwrap().starts_with("test (testwriter)"), "{end}");
    assert!(of(&events, "fallback").is_empty(), "nobody goes around it");

    // A person puts the test back and lets it go on: what was done is not done again.
    let whole = world.whole();
    let member = &whole["session"]["team"]["members"][1];
    let session = world.json(&["sessions", "export", member["session"].as_str().unwrap()]);
    let worktree = session["session"]["worktree"].as_str().unwrap();
    fs::write(
        format!("{worktree}/tests/test_calc.py"),
        format!("{TEST}\n{}", "\ndef test_add():\n    assert add(1, 2) == 3\n"),
    )
    .unwrap();
    let (events, code) = world.resume(whole["session"]["id"].as_str().unwrap(), &[]);
    assert_eq!(code, 0, "{events:#?}");
    let again: Vec<&str> = of(&events, "member").iter().filter_map(|event| event["member"].as_str()).collect();
    assert!(again.iter().all(|name| *name == "test"), "{again:?}");
}

#[test]
fn member_that_fails_leaves_the_rest_to_one_agent_with_what_is_merged() {
    let world = World::new();
    world.script(&json!({
        "analysis": [plan(&json!([part("mend", "bugfix", &[]), part("test", "testwriter", &[]), part("after", "codequality", &["test"])]))],
        "turns": [{"tool": "tollgate__read_file", "arguments": {"path": "calc.py"}, "expect": {"answer": {"lines_total": 2}}}, write("tests/test_twice.py", TEST)],
        "members": {
            "mend": {"turns": [write("calc.py", RIGHT)]},
            "test": {"turns": [write("tests/test_twice.py", "def test_x(:\n")]},
            "after": {"turns": [write("never.py", "A = 1\n")]},
        },
    }));
    let (events, code) = world.run_team(&["--accept", "grep -q 'a + b' calc.py"]);
    assert_eq!(code, 0, "{events:#?}");
    let fallback = of(&events, "fallback")[0]["reason"].as_str().unwrap().to_owned();
    assert!(fallback.starts_with("test (testwriter): stuck"), "{fallback}");
    let whole = world.whole();
    let branch = whole["session"]["branch"].as_str().unwrap();
    assert_eq!(world.git(&["show", &format!("{branch}:tests/test_twice.py")]), TEST);
    assert_eq!(world.git(&["show", &format!("{branch}:calc.py")]), RIGHT, "what was done stays");
    assert!(!world.git(&["ls-tree", "-r", "--name-only", branch]).contains("never.py"), "it needed what failed");
    assert_eq!(whole["session"]["team"]["fallback"], fallback);
    let end = events.last().unwrap();
    assert_eq!(
        end["cost_usd"].as_str().unwrap().parse::<Money>().unwrap(),
        world.cost_of(whole["session"]["id"].as_str().unwrap())
    );
}

#[test]
fn members_spend_no_more_than_their_shares_and_the_whole_no_more_than_its_budget() {
    let world = World::new();
    let verify = json!({"tool": "ralph__verify_file", "arguments": {"path": "calc.py"}});
    let many: Vec<Value> =
        (0..40).flat_map(|number| [write("calc.py", &format!("{RIGHT}\n\nN = {number}\n")), verify.clone()]).collect();
    world.script(&json!({
        "analysis": [plan(&json!([part("one", "bugfix", &[]), part("two", "featurebuilder", &[])]))],
        "turns": [write("calc.py", RIGHT)],
        "members": {"one": {"turns": many}, "two": {"turns": [write("notes.py", "NOTE = 1\n")]}},
    }));
    let (events, _) = world.run_team(&["--budget", "0.008"]);
    let ended =
        of(&events, "member").into_iter().find(|event| event["member"] == "one" && event["of"]["event"] == "end");
    assert_eq!(ended.unwrap()["of"]["ending"], "budget", "{events:#?}");
    let whole = world.whole();
    let members = whole["session"]["team"]["members"].as_array().unwrap();
    for member in members {
        let usd = |field: &str| member[field].as_str().unwrap().parse::<Money>().unwrap();
        assert!(usd("cost_usd") <= usd("budget_usd"), "{member}");
    }
    let spent = world.cost_of(whole["session"]["id"].as_str().unwrap());
    assert!(spent <= "0.008".parse().unwrap(), "{spent}");
    assert!(spent > "0.003".parse().unwrap(), "{spent}");
}

#[test]
fn killed_in_the_middle_of_three_members_only_the_unfinished_go_on() {
    let world = World::new();
    let slow = |name: &str| {
        let mut turns = vec![write(&format!("{name}.py"), "LOG = [\n]\n")];
        for number in 0..6 {
            // A line is added: once more would add it twice.
            turns.push(edit(&format!("{name}.py"), "]\n", &format!("    {number},\n]\n")));
            turns.push(json!({"tool": "git__git_add", "arguments": {"files": [format!("{name}.py")]}}));
            turns.push(json!({"tool": "git__git_commit", "arguments": {"message": format!("{name} {number}")}}));
        }
        json!({ "turns": turns })
    };
    world.script(&json!({
        "analysis": [plan(&json!([part("a", "bugfix", &[]), part("b", "featurebuilder", &[]), part("c", "testwriter", &[])]))],
        "turns": [say("fine")],
        "members": {"a": {"turns": [write("a.py", "A = 1\n")]}, "b": slow("b"), "c": slow("c")},
    }));
    let began = ["run", "--task", "x", "--agent", "scripted:script.json", "--team"];
    let mut kills = 0;
    let mut id = String::new();
    for round in 0_u64.. {
        let arguments = if round == 0 { began.to_vec() } else { vec!["run", "--resume", &id] };
        let mut running = world.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Until the first member has ended, then at other points.
        let began = std::time::Instant::now();
        let ended = loop {
            if running.try_wait().unwrap().is_some() {
                break true;
            }
            let first = world
                .sessions()
                .iter()
                .any(|session| session["id"].as_str().unwrap().ends_with("-1") && session["phase"] == "done");
            if kills < 4 && first && began.elapsed() > Duration::from_millis(700 * round) {
                running.kill().unwrap();
                running.wait().unwrap();
                kills += 1;
                break false;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        id = world.whole()["session"]["id"].as_str().unwrap().to_owned();
        if ended {
            break;
        }
    }
    assert!(kills >= 2, "{kills}");
    let whole = world.whole();
    assert_eq!(whole["session"]["phase"]["ending"], "done", "{whole:#}");
    let branch = whole["session"]["branch"].as_str().unwrap();
    let lines: Vec<String> = (0..6).map(|number| format!("    {number},\n")).collect();
    for name in ["b", "c"] {
        assert_eq!(world.git(&["show", &format!("{branch}:{name}.py")]), format!("LOG = [\n{}]\n", lines.concat()));
    }
    let subjects = world.git(&["log", "--format=%s", branch]);
    for name in ["b", "c"] {
        for number in 0..6 {
            let subject = format!("{name} {number}");
            assert_eq!(subjects.lines().filter(|line| *line == subject).count(), 1, "{subjects}");
        }
    }
    // Who had ended was not begun again.
    let first = world.json(&["sessions", "export", &format!("{id}-1")]);
    assert_eq!(first["messages"].as_array().unwrap().len(), 3, "{first:#}");
    let members: Money = (1..=3)
        .map(|place| {
            world
                .json(&["sessions", "list", "--json"])
                .as_array()
                .unwrap()
                .iter()
                .find(|session| session["id"] == format!("{id}-{place}"))
                .unwrap()["cost_usd"]
                .as_str()
                .unwrap()
                .parse::<Money>()
                .unwrap()
        })
        .sum();
    let own = world.json(&["costs", "--by", "task", "--format", "json"])["groups"][&id]["amount"]
        .as_str()
        .unwrap()
        .parse::<Money>()
        .unwrap();
    assert_eq!(world.cost_of(&id), members + own);
}

#[test]
fn roles_of_the_operator_are_told_what_their_file_says_and_mistakes_in_it_are_named() {
    let world = World::new();
    let config = world.path().join("tollgate.toml");
    let house = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{house}\n[team]\nroles = \"secret\"\n")).unwrap();
    fs::create_dir(world.path().join("secret")).unwrap();
    let role =
        "---\ndescription: Writes calc.py alone.\ntools: [\"tollgate__write_file\"]\niterations: 2\n---\nYou write.\n";
    fs::write(world.path().join("secret/scribe.md"), role).unwrap();
    world.script(&json!({"turns": [say("fine")], "members": {"scribe": {"turns": [
        {"tool": "git__git_status", "expect": {"outcome": "refused", "code": "unknown_tool"}},
        write("calc.py", RIGHT),
    ]}}}));
    let (events, code) = world.run(&["--task", "Mend add", "--team", "scribe"]);
    assert_eq!(code, 0, "{events:#?}");
    assert_eq!(of(&events, "merged").len(), 1);

    fs::write(world.path().join("secret/scribe.md"), role.replace("iterations", "iteration")).unwrap();
    for (roles, part) in [("scribe", "scribe.md"), ("nobody", "scribe.md")] {
        let output = world
            .command(&["run", "--task", "x", "--agent", "scripted:script.json", "--team", roles])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(part), "{said}");
    }
}
