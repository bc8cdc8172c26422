//! The gates beside people, what can be known before, and archives.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tollgate_tests::mcp_process::McpProcess;

use super::people::{approved, request};
use super::world::{World, dist, history};

async fn code(server: &McpProcess, tool: &str, arguments: Value) -> String {
    server.refused(tool, arguments).await["code"].as_str().unwrap().to_owned()
}

/// One environment `dev` with these rules.
fn with_rules(rules: &str) -> World {
    World::configured(&format!("[deploy.environments.dev]\npath = 'targets/dev/{{service}}'\n{rules}\n"))
}

#[tokio::test]
async fn plan_and_validation_say_what_deploy_would_and_do_nothing() {
    let world = World::new();
    let server = world.start();
    server.ok("deploy", dist("dev", "1.0")).await;
    world.build("dist", "2.0", "exit 0");
    let before = world.snapshot();
    let valid = server.ok("validate_deployment", dist("dev", "2.0")).await;
    assert_eq!((&valid["needs_approval"], &valid["files"]), (&json!(false), &json!(3)));
    for (arguments, expected) in [
        (dist("dev", "1.0"), "version_taken"),
        (dist("staging", "2.0"), "requires_not_met"),
        (dist("prod", "2.0"), "requires_not_met"),
        (dist("dev", "../2.0"), "invalid_version"),
        (dist("Dev", "2.0"), "unknown_environment"),
        (json!({"environment": "dev", "service": "shop", "version": "2.0", "artifact": "/etc"}), "path_outside_root"),
    ] {
        assert_eq!(code(&server, "validate_deployment", arguments).await, expected);
    }
    let plan = server.ok("plan_deployment", dist("dev", "2.0")).await;
    assert!(plan["gates"].as_array().unwrap().iter().all(|gate| gate["open"] == true), "{plan}");
    assert_eq!(plan["changes"]["changed"], json!(["content", "data/deep/file"]));
    assert!(plan["previous"].as_str().unwrap().starts_with("1.0-"));
    assert_eq!(plan["price_usd"], "0.001");
    let closed = server.ok("plan_deployment", dist("prod", "2.0")).await;
    assert_eq!(closed["approvals"], 1);
    let requires = &closed["gates"].as_array().unwrap().iter().find(|gate| gate["gate"] == "requires").unwrap().clone();
    assert_eq!((&requires["open"], &requires["code"]), (&json!(false), &json!("requires_not_met")));
    assert!(world.snapshot() == before);
    assert_eq!(history(&server, "dev").await, ["1.0 live"]);
    assert_eq!(history(&server, "prod").await, Vec::<String>::new(), "a plan asks nobody");
}

#[tokio::test]
async fn history_is_read_page_by_page() {
    let world = World::new();
    let server = world.start();
    for version in ["1", "2", "3", "4", "5"] {
        world.build("dist", version, "exit 0");
        server.ok("deploy", dist("dev", version)).await;
    }
    let (mut versions, mut cursor) = (Vec::new(), None::<String>);
    for pages in 1.. {
        let page = server.ok("deployment_history", json!({"service": "shop", "limit": 2, "cursor": cursor})).await;
        for one in page["deployments"].as_array().unwrap() {
            versions.push(one["version"].as_str().unwrap().to_owned());
            let events: Vec<_> = one["transitions"].as_array().unwrap().iter().map(|step| &step["event"]).collect();
            assert_eq!(events[..6], ["request", "validate", "approve", "start", "switch", "pass"]);
        }
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            assert_eq!(pages, 3);
            break;
        }
    }
    assert_eq!(versions, ["5", "4", "3", "2", "1"]);
    for cursor in ["", "3", "before-", "before--1", "before-x", "before-9999999999999999999999", "' OR 1=1 --"] {
        assert_eq!(code(&server, "deployment_history", json!({"cursor": cursor})).await, "invalid_cursor", "{cursor}");
    }
    for limit in [0, 51] {
        assert_eq!(code(&server, "deployment_history", json!({"limit": limit})).await, "invalid_arguments");
    }
}

#[tokio::test]
async fn only_who_asked_takes_back_what_waits() {
    let (world, people, server, id) = approved().await;
    let other = McpProcess::start("mcp-deploy", &world.work(), &[], &[("TOLLGATE_AGENT", "mallory")]);
    assert_eq!(code(&other, "cancel_deployment", json!({"id": id})).await, "not_requester");
    for wrong in ["", "x", "01980000-0000-7000-8000-000000000000"] {
        assert_eq!(code(&server, "cancel_deployment", json!({"id": wrong})).await, "unknown_deployment");
    }
    assert_eq!(server.ok("cancel_deployment", json!({"id": id})).await["state"], "cancelled");
    assert_eq!(code(&server, "cancel_deployment", json!({"id": id})).await, "not_cancellable");
    let next = request(&server, "1.0").await;
    assert_ne!(next, id, "the approval went with it");
    people.approve(&world, &next, "alice");
    server.ok("deploy", dist("prod", "1.0")).await;
    assert_eq!(code(&server, "cancel_deployment", json!({"id": next})).await, "not_cancellable");
    assert_eq!(world.current("prod").as_deref(), Some("1.0"));
}

#[tokio::test]
async fn frozen_environment_takes_nothing_but_a_step_back() {
    let world = with_rules("");
    let mut server = world.start();
    for version in ["1.0", "2.0"] {
        world.build("dist", version, "exit 0");
        server.ok("deploy", dist("dev", version)).await;
    }
    server.close().await;
    for freeze in [
        "{ cron = '* * * * *' }",
        "{ cron = '0 0 * * *', minutes = 1440, zone = 'Asia/Kathmandu' }",
        "{ from = '2020-01-01', to = '2099-01-01', zone = 'Europe/Berlin' }",
    ] {
        world.configure(&format!(
            "[deploy.environments.dev]\npath = 'targets/dev/{{service}}'\nfreeze = [{{ from = '2020-01-01', to = '2020-01-02' }}, {freeze}]\n"
        ));
        let server = world.start();
        world.build("dist", "3.0", "exit 0");
        let before = world.snapshot();
        assert_eq!(code(&server, "deploy", dist("dev", "3.0")).await, "frozen", "{freeze}");
        assert_eq!(code(&server, "validate_deployment", dist("dev", "3.0")).await, "frozen");
        assert!(world.snapshot() == before);
    }
    let server = world.start();
    server.ok("rollback", json!({"environment": "dev", "service": "shop"})).await;
    assert_eq!(world.current("dev").as_deref(), Some("1.0"));
}

#[tokio::test]
async fn what_is_current_must_be_healthy_where_that_is_asked() {
    let rules = |before: &str| format!("health = {{ command = ['{{release}}/check']{before} }}");
    let world = with_rules(&rules(", before = true"));
    let build = |version: &str| {
        let sick = world.path(&format!("outside/sick-{version}"));
        world.build("dist", version, &format!("[ ! -e {} ]", sick.display()));
    };
    let sicken = |version: &str| fs::write(world.path(&format!("outside/sick-{version}")), "").unwrap();
    let mut server = world.start();
    for version in ["1.0", "2.0"] {
        build(version);
        server.ok("deploy", dist("dev", version)).await;
    }
    build("3.0");
    let plan = server.ok("plan_deployment", dist("dev", "3.0")).await;
    let gate = |plan: &Value| plan["gates"].as_array().unwrap().iter().find(|gate| gate["gate"] == "health").cloned();
    assert_eq!(gate(&plan).unwrap()["open"], true);
    let first = plan["steps"][0].as_str().unwrap();
    assert!(first.starts_with("check that 2.0-") && first.contains("is healthy by the command"), "{first}");

    sicken("2.0");
    let before = world.snapshot();
    for tool in ["deploy", "validate_deployment"] {
        assert_eq!(code(&server, tool, dist("dev", "3.0")).await, "current_unhealthy", "{tool}");
    }
    let plan = server.ok("plan_deployment", dist("dev", "3.0")).await;
    assert_eq!(gate(&plan).unwrap()["code"], "current_unhealthy");
    assert!(world.snapshot() == before);
    // Going back does not ask, and from what is healthy again it goes on.
    server.ok("rollback", json!({"environment": "dev", "service": "shop"})).await;
    assert_eq!(world.current("dev").as_deref(), Some("1.0"));
    server.ok("deploy", dist("dev", "3.0")).await;
    // Of what is gone nothing can be told.
    fs::remove_dir_all(world.target("dev").join("releases")).unwrap();
    build("4.0");
    server.ok("deploy", dist("dev", "4.0")).await;
    sicken("4.0");
    build("5.0");
    assert_eq!(code(&server, "deploy", dist("dev", "5.0")).await, "current_unhealthy");
    server.close().await;

    // Where it is not asked, a new release may be the cure.
    world.configure(&format!("[deploy.environments.dev]\npath = 'targets/dev/{{service}}'\n{}\n", rules("")));
    let server = world.start();
    server.ok("deploy", dist("dev", "5.0")).await;
    assert_eq!(world.current("dev").as_deref(), Some("5.0"));
}

#[tokio::test]
async fn versions_have_the_form_that_the_environment_takes() {
    let world = with_rules("versions = ['[0-9]*.[0-9]*.[0-9]*', 'v[0-9]*']");
    let server = world.start();
    for version in ["1.0", "latest", "1.0-rc", "x1.0.0"] {
        assert_eq!(code(&server, "deploy", dist("dev", version)).await, "version_not_allowed", "{version}");
    }
    assert!(!world.target("dev").exists());
    server.ok("deploy", dist("dev", "1.0.0")).await;
}

#[tokio::test]
async fn content_bakes_before_it_goes_on() {
    let world = World::configured(
        "[deploy.environments.dev]\npath = 'targets/dev/{service}'\n\
         [deploy.environments.staging]\npath = 'targets/staging/{service}'\nrequires = ['dev']\nbake_minutes = 10\n",
    );
    let server = world.start();
    assert_eq!(code(&server, "deploy", dist("staging", "1.0")).await, "requires_not_met");
    server.ok("deploy", dist("dev", "1.0")).await;
    let refused = server.call("deploy", dist("staging", "1.0")).await;
    assert_eq!(refused.structured["error"]["code"], "bake_not_over", "{}", refused.structured);
    assert_eq!(refused.structured["baking"][0]["needed"], 10);
    assert!(!world.target("staging").exists());
}

fn tar(world: &World, archive: &str, arguments: &[&str]) {
    let status =
        Command::new("tar").arg("-czf").arg(archive).args(arguments).current_dir(world.work()).status().unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn archive_is_the_same_artifact_as_its_folder() {
    let world = World::new();
    let server = world.start();
    tar(&world, "dist.tar.gz", &["-C", "dist", "."]);
    let archive = |environment: &str, version: &str| json!({"environment": environment, "service": "shop", "version": version, "artifact": "dist.tar.gz"});
    let deployed = server.ok("deploy", archive("dev", "1.0")).await;
    assert_eq!(deployed["state"], "live", "{deployed}");
    assert_eq!(world.current("dev").as_deref(), Some("1.0"));
    let staged = server.ok("deploy", dist("staging", "1.0")).await;
    assert_eq!(staged["digest"], deployed["digest"], "the folder has the archive's digest");
    assert_eq!(fs::read_dir(world.work().join(".tollgate/unpacked")).unwrap().count(), 0, "nothing is left");
}

#[tokio::test]
async fn archives_that_are_attacks_are_refused() {
    let world = World::new();
    let server = world.start();
    let work = world.work();
    std::os::unix::fs::symlink("/etc/passwd", work.join("dist/link")).unwrap();
    tar(&world, "link.tar.gz", &["dist"]);
    fs::remove_file(work.join("dist/link")).unwrap();
    tar(&world, "outside.tar.gz", &["-P", "dist/../../outside/dist"]);
    tar(&world, "root.tar.gz", &["-P", work.join("dist").to_str().unwrap()]);
    fs::write(work.join("text.tar.gz"), "hello").unwrap();
    fs::create_dir(work.join("folder.tar.gz")).unwrap();
    std::os::unix::fs::symlink("text.tar.gz", work.join("alias.tar.gz")).unwrap();
    fs::write(world.path("outside/x.tar.gz"), "x").unwrap();
    let before = world.snapshot();
    for (artifact, expected) in [
        ("link.tar.gz", "artifact_not_plain"),
        ("outside.tar.gz", "artifact_not_plain"),
        ("root.tar.gz", "artifact_not_plain"),
        ("text.tar.gz", "artifact_not_plain"),
        ("folder.tar.gz", "artifact_not_plain"),
        ("alias.tar.gz", "artifact_not_plain"),
        ("nothing.tar.gz", "artifact_not_found"),
        ("../outside/x.tar.gz", "path_outside_root"),
        ("/etc/x.tar.gz", "path_outside_root"),
        (".tollgate/x.tar.gz", "path_outside_root"),
        ("a\0.tar.gz", "invalid_path"),
    ] {
        let arguments = json!({"environment": "dev", "service": "shop", "version": "1.0", "artifact": artifact});
        assert_eq!(code(&server, "deploy", arguments).await, expected, "{artifact}");
        assert!(world.snapshot() == before, "{artifact}");
    }
    assert!(!world.target("dev").exists());
    let unpacked = world.work().join(".tollgate/unpacked");
    assert_eq!(fs::read_dir(unpacked).unwrap().count(), 0, "nothing is left");
}
