//! Approvals through the host, in every way that the protocol has, and what they do not open.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use tollgate_tests::mcp_process::McpProcess;
use tollgate_tests::world::program;

use super::people::{People, decisions};
use super::world::{World, dist, history};

const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

const STAGING: &str = r#"
[deploy.environments.staging]
path = "targets/staging/{service}"
approvals = 1
"#;

const PROD: &str = r#"
[deploy.environments.prod]
path = "targets/prod/{service}"
approvals = 1
approve_by = ["signature", "elicitation"]
approvers = "approvers"
"#;

async fn call(server: &McpProcess, arguments: Value, more: Value) -> Value {
    let mut params =
        json!({"name": "deploy", "arguments": arguments, "_meta": {CAPABILITIES: {"elicitation": {"form": {}}}}});
    for (name, value) in more.as_object().unwrap() {
        params[name] = value.clone();
    }
    server.request("tools/call", params).await["result"].clone()
}

fn reply(asked: &Value, action: &str, approve: &Value) -> Value {
    json!({
        "requestState": asked["requestState"],
        "inputResponses": {"question": {"action": action, "content": {"approve": approve}}},
    })
}

fn code(result: &Value) -> &str {
    result["structuredContent"]["error"]["code"].as_str().unwrap_or("none")
}

#[tokio::test]
async fn newer_host_approves_staging_once() {
    let world = World::configured(STAGING);
    let server = world.start();
    let asked = call(&server, dist("staging", "1.0"), json!({})).await;
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let message = asked["inputRequests"]["question"]["params"]["message"].as_str().unwrap();
    assert!(message.starts_with("Deploy shop 1.0 to staging?") && message.contains("\"tester\""), "{message}");
    assert!(!world.target("staging").exists(), "a question has no effect");

    let done = call(&server, dist("staging", "1.0"), reply(&asked, "accept", &json!(true))).await;
    assert_eq!(done["structuredContent"]["state"], "live", "{done}");
    assert_eq!(world.current("staging").as_deref(), Some("1.0"));
    let actions: Vec<String> = decisions(&world).await.into_iter().map(|entry| entry.action).collect();
    assert_eq!(actions, ["asked", "host_accepted", "approval_used", "deployed"]);

    // The same answer approves nothing else, and nothing twice.
    world.build("dist", "2.0", "exit 0");
    let replayed = call(&server, dist("staging", "2.0"), reply(&asked, "accept", &json!(true))).await;
    assert_eq!(code(&replayed), "input_invalid");
    let next = call(&server, dist("staging", "2.0"), json!({})).await;
    let once = call(&server, dist("staging", "2.0"), reply(&next, "accept", &json!(true))).await;
    assert_eq!(once["structuredContent"]["state"], "live");
    server.ok("rollback", json!({"environment": "staging", "service": "shop"})).await;
    let again = call(&server, dist("staging", "2.0"), reply(&next, "accept", &json!(true))).await;
    assert_eq!(code(&again), "input_invalid", "an approval is used once: {again}");
    assert_eq!(world.current("staging").as_deref(), Some("1.0"));
}

#[tokio::test]
async fn answers_that_are_no_agreement_deploy_nothing() {
    let world = World::configured(STAGING);
    let server = world.start();
    for (version, action, approve, expected) in [
        ("1", "decline", json!(true), "approval_denied"),
        ("2", "accept", json!(false), "approval_denied"),
        ("3", "cancel", json!(true), "approval_required"),
        ("4", "accept", json!("true"), "approval_required"),
        ("5", "accept", json!(1), "approval_required"),
        ("6", "accept", Value::Null, "approval_required"),
        ("7", "yes", json!(true), "approval_required"),
    ] {
        world.build("dist", version, "exit 0");
        let asked = call(&server, dist("staging", version), json!({})).await;
        let refused = call(&server, dist("staging", version), reply(&asked, action, &approve)).await;
        assert_eq!(code(&refused), expected, "{action} {approve}: {refused}");
    }
    // What was changed on the way, or is another's, is no answer at all.
    world.build("dist", "8", "exit 0");
    let asked = call(&server, dist("staging", "8"), json!({})).await;
    let mut forged = reply(&asked, "accept", &json!(true));
    forged["requestState"] = json!(format!("{}0", asked["requestState"].as_str().unwrap()));
    assert_eq!(code(&call(&server, dist("staging", "8"), forged).await), "input_invalid");
    let answers = json!({"inputResponses": reply(&asked, "accept", &json!(true))["inputResponses"]});
    let alone = call(&server, dist("staging", "8"), answers).await;
    assert_eq!(alone["resultType"], "input_required", "an answer without its question approves nothing");
    let stranger = McpProcess::start("mcp-deploy", &world.work(), &[], &[("TOLLGATE_AGENT", "other")]);
    let refused = call(&stranger, dist("staging", "8"), reply(&asked, "accept", &json!(true))).await;
    assert_eq!(code(&refused), "input_invalid");
    let restarted = world.start();
    let refused = call(&restarted, dist("staging", "8"), reply(&asked, "accept", &json!(true))).await;
    assert_eq!(code(&refused), "input_invalid", "an answer dies with the process that asked");
    assert_eq!(world.current("staging"), None);
    assert!(history(&server, "staging").await.iter().all(|line| !line.ends_with(" live")));
}

#[tokio::test]
async fn artifact_that_changes_under_the_question_is_not_approved() {
    let world = World::configured(STAGING);
    let server = world.start();
    let asked = call(&server, dist("staging", "1.0"), json!({})).await;
    world.build("dist", "evil", "exit 0");
    let refused = call(&server, dist("staging", "1.0"), reply(&asked, "accept", &json!(true))).await;
    assert_eq!(code(&refused), "input_invalid", "{refused}");
    assert_eq!(world.current("staging"), None);
}

#[tokio::test]
async fn person_is_not_worn_down() {
    let world = World::configured(STAGING);
    let server = world.start();
    for round in 0..5 {
        let asked = call(&server, dist("staging", "1.0"), json!({})).await;
        if round < 3 {
            assert_eq!(asked["resultType"], "input_required", "{round}");
        } else {
            assert_eq!(code(&asked), "approval_required", "{round}");
        }
    }
}

#[tokio::test]
async fn older_host_is_asked_in_the_middle_of_the_call() {
    let world = World::configured(STAGING);
    let server = world.start();
    server.initialize(json!({"elicitation": {}})).await;
    let calling = server.try_raw_request("tools/call", json!({"name": "deploy", "arguments": dist("staging", "1.0")}));
    let answering = async {
        let asked = server.asked("elicitation/create").await;
        assert_eq!(asked["params"]["requestedSchema"].get("title"), None);
        // Whoever waits for a person holds nobody up.
        sleep(Duration::from_millis(50)).await;
        server.answer(&asked, json!({"action": "accept", "content": {"approve": true}})).await;
    };
    let (called, ()) = tokio::join!(calling, answering);
    assert_eq!(called.unwrap()["result"]["structuredContent"]["state"], "live");
}

#[tokio::test]
async fn host_that_cannot_ask_is_refused_with_the_request() {
    let world = World::configured(STAGING);
    let server = world.start();
    let refused = server.refused("deploy", dist("staging", "1.0")).await;
    assert_eq!(refused["code"], "approval_required");
}

#[tokio::test]
async fn accepted_form_does_not_open_production() {
    let world = World::configured(PROD);
    let people = People::new(&["alice"]);
    people.let_approve(&world, &[("alice", "alice")]);
    let server = world.start();
    let asked = call(&server, dist("prod", "1.0"), json!({})).await;
    let refused = call(&server, dist("prod", "1.0"), reply(&asked, "accept", &json!(true))).await;
    assert_eq!(code(&refused), "approval_required", "{refused}");
    assert_eq!(world.current("prod"), None);
    let id = refused["structuredContent"]["id"].as_str().unwrap();
    people.approve(&world, id, "alice");
    server.ok("deploy", dist("prod", "1.0")).await;
    assert_eq!(world.current("prod").as_deref(), Some("1.0"));
}

#[tokio::test]
async fn forms_are_off_where_nobody_turned_them_on() {
    let world = World::configured("[deploy.environments.prod]\npath = 'targets/prod/{service}'\napprovals = 1\n");
    let server = world.start();
    assert_eq!(code(&call(&server, dist("prod", "1.0"), json!({})).await), "approval_required");
    let check = |rules: &str| {
        world.configure(rules);
        let output = std::process::Command::new(program("mcp-deploy"))
            .arg("--check-config")
            .current_dir(world.work())
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (rules, said) in [
        ("[deploy.environments.prod]\napprove_by = ['elicitation']\n", "must have `signature`"),
        ("[deploy.environments.eu-prod-1]\napprove_by = ['elicitation']\n", "must have `signature`"),
        ("[deploy.environments.prod]\napprove_by = []\n", "is empty"),
        ("[deploy.environments.dev]\napprove_by = ['signature']\n", "no meaning"),
        ("[deploy.environments.dev]\napprovals = 2\napprove_by = ['elicitation', 'signature']\n", "deploy.operator"),
        ("[deploy.environments.dev]\napprovals = 1\napprove_by = ['prompt']\n", "prompt"),
        (
            "[deploy]\noperator = 'a'\n[deploy.environments.dev]\napprovals = 1\nforbid_self_approval = true\n\
             approve_by = ['elicitation']\n",
            "forbid_self_approval",
        ),
    ] {
        let (accepted, stderr) = check(rules);
        assert!(!accepted && stderr.contains(said), "{rules}: {stderr}");
    }
    assert!(check(PROD).0);
}

/// A client of the newest revision that knows tasks.
async fn with_tasks(server: &McpProcess, method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({CAPABILITIES: {"elicitation": {}, "extensions": {"io.modelcontextprotocol/tasks": {}}}});
    server.request(method, params).await["result"].clone()
}

#[tokio::test]
async fn deployment_is_a_task_that_asks_reports_and_can_be_cancelled() {
    let world = World::configured(STAGING);
    let server = world.start();
    let made = with_tasks(&server, "tools/call", json!({"name": "deploy", "arguments": dist("staging", "1.0")})).await;
    assert_eq!(made["resultType"], "task", "{made}");
    let id = made["taskId"].clone();
    let asking = until(&server, &id, "input_required").await;
    let key = asking["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    let answer = json!({key: {"action": "accept", "content": {"approve": true}}});
    with_tasks(&server, "tasks/update", json!({"taskId": id, "inputResponses": answer})).await;
    let ended = until(&server, &id, "completed").await;
    assert_eq!(ended["result"]["structuredContent"]["state"], "live", "{ended}");
    assert_eq!(world.current("staging").as_deref(), Some("1.0"));

    world.build("dist", "2.0", "exit 0");
    let made = with_tasks(&server, "tools/call", json!({"name": "deploy", "arguments": dist("staging", "2.0")})).await;
    until(&server, &made["taskId"], "input_required").await;
    with_tasks(&server, "tasks/cancel", json!({"taskId": made["taskId"]})).await;
    until(&server, &made["taskId"], "cancelled").await;
    assert_eq!(world.current("staging").as_deref(), Some("1.0"));
}

async fn until(server: &McpProcess, id: &Value, status: &str) -> Value {
    for _ in 0..6000 {
        let now = with_tasks(server, "tasks/get", json!({"taskId": id})).await;
        if now["status"] == status {
            return now;
        }
        assert!(["working", "input_required"].contains(&now["status"].as_str().unwrap()), "{now}");
        sleep(Duration::from_millis(10)).await;
    }
    panic!("the task never was {status}");
}

#[tokio::test]
async fn nobody_has_to_wait_for_a_deployment() {
    let world = World::new();
    let server = world.start();
    world.build("dist", "1.0", "sleep 0.3");
    let mut arguments = dist("dev", "1.0");
    arguments["wait"] = json!(false);
    let begun = server.call("deploy", arguments.clone()).await;
    assert_eq!(begun.structured["state"], "deploying", "{}", begun.structured);
    assert_eq!(begun.receipt.amount.to_string(), "0.001");
    let id = begun.structured["id"].clone();
    let status = server.ok("deployment_status", json!({"id": id, "wait_ms": 50_000})).await;
    assert_eq!(status["deployments"][0]["state"], "live", "{status}");
    assert_eq!(world.current("dev").as_deref(), Some("1.0"));

    // One that fails is rolled back all the same, and the audit trail has it.
    world.build("dist", "2.0", "sleep 0.2; exit 1");
    arguments["version"] = json!("2.0");
    let begun = server.ok("deploy", arguments).await;
    let status = server.ok("deployment_status", json!({"id": begun["id"], "wait_ms": 50_000})).await;
    assert_eq!(status["deployments"][0]["state"], "rolled_back");
    for _ in 0..500 {
        if decisions(&world).await.iter().any(|entry| entry.action == "rolled_back") {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    let actions: Vec<String> = decisions(&world).await.into_iter().map(|entry| entry.action).collect();
    assert_eq!(actions, ["deployed", "rolled_back"]);
    for wrong in [json!({"wait_ms": 1}), json!({"id": begun["id"], "wait_ms": 55_001})] {
        assert_eq!(server.refused("deployment_status", wrong).await["code"], "invalid_arguments");
    }
}

#[tokio::test]
async fn deployment_under_way_is_taken_back_before_it_is_current() {
    let world = World::configured(
        "[deploy.environments.dev]\npath = 'targets/dev/{service}'\nbefore = [['/bin/sleep', '30']]\n",
    );
    let server = world.start();
    let mut arguments = dist("dev", "1.0");
    arguments["wait"] = json!(false);
    let begun = server.ok("deploy", arguments).await;
    let other = McpProcess::start("mcp-deploy", &world.work(), &[], &[("TOLLGATE_AGENT", "other")]);
    assert_eq!(other.refused("cancel_deployment", json!({"id": begun["id"]})).await["code"], "not_requester");
    let stopping = server.ok("cancel_deployment", json!({"id": begun["id"]})).await;
    assert_eq!(stopping["stopping"], true);
    let status = server.ok("deployment_status", json!({"id": begun["id"], "wait_ms": 20_000})).await;
    assert_eq!(status["deployments"][0]["state"], "cancelled", "{status}");
    assert_eq!(world.current("dev"), None);
}
