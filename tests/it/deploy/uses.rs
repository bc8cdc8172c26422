//! What mcp-deploy is for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use tollgate_tests::world::repository_root;

use super::world::{World, dist, history};

#[tokio::test]
async fn release_goes_through_the_environments() {
    let world = World::new();
    let server = world.start();
    let listed = server.ok("list_environments", json!({})).await;
    let names: Vec<_> = listed["environments"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["dev", "staging", "prod"]);
    assert_eq!(listed["environments"][2]["approvals"], 1);

    let deployed = server.call("deploy", dist("dev", "1.0")).await;
    assert_eq!(deployed.structured["state"], "live", "{}", deployed.structured);
    assert_eq!(deployed.structured["unchanged"], false);
    assert_eq!(deployed.receipt.amount.to_string(), "0.001");
    assert_eq!(world.current("dev").as_deref(), Some("1.0"));
    let staged = server.call("deploy", dist("staging", "1.0")).await;
    assert_eq!(staged.structured["state"], "live", "{}", staged.structured);
    assert_eq!(staged.receipt.amount.to_string(), "0.005");

    let refused = server.call("deploy", dist("prod", "1.0")).await;
    assert_eq!(refused.structured["error"]["code"], "approval_required", "{}", refused.structured);
    assert_eq!(refused.structured["state"], "awaiting_approval");
    assert!(refused.receipt.amount.is_zero());
    let again = server.call("deploy", dist("prod", "1.0")).await;
    assert_eq!(again.structured["id"], refused.structured["id"], "one request is recorded once");
    assert_eq!(history(&server, "prod").await, ["1.0 awaiting_approval"]);
    assert!(!world.target("prod").exists());

    let status = server.ok("deployment_status", json!({"service": "shop"})).await;
    assert_eq!(status["live"].as_array().unwrap().len(), 2);
    let id = deployed.structured["id"].clone();
    let one = server.ok("deployment_status", json!({"id": id})).await;
    assert_eq!(one["deployments"][0]["agent"], "tester");
    assert_eq!(one["deployments"].as_array().unwrap().len(), 1);
    assert_eq!(one["live"][0]["deployment"], id);
}

#[tokio::test]
async fn repeated_deployment_changes_nothing_and_costs_nothing() {
    let world = World::new();
    let server = world.start();
    server.ok("deploy", dist("dev", "1.0")).await;
    let before = world.snapshot();
    let again = server.call("deploy", dist("dev", "1.0")).await;
    assert_eq!(again.structured["state"], "live");
    assert_eq!(again.structured["unchanged"], true);
    assert!(again.receipt.amount.is_zero());
    assert_eq!(world.snapshot(), before);
    assert_eq!(history(&server, "dev").await, ["1.0 live"]);
}

#[tokio::test]
async fn unhealthy_release_is_rolled_back_by_itself() {
    let world = World::new();
    let server = world.start();
    server.ok("deploy", dist("dev", "1.0")).await;
    world.build("dist", "2.0", "echo it is broken >&2; exit 7");
    let failed = server.call("deploy", dist("dev", "2.0")).await;
    assert!(failed.is_error);
    assert_eq!(failed.structured["error"]["code"], "health_check_failed");
    assert_eq!(failed.structured["state"], "rolled_back");
    assert!(failed.structured["restored"].as_str().unwrap().starts_with("1.0-"));
    assert!(failed.structured["check"]["output"].as_str().unwrap().contains("it is broken"));
    assert_eq!(failed.receipt.amount.to_string(), "0.001", "the work was done");
    assert_eq!(world.current("dev").as_deref(), Some("1.0"));
    assert_eq!(history(&server, "dev").await, ["2.0 rolled_back", "1.0 live"]);
    // What was not healthy in dev does not reach staging.
    assert_eq!(server.refused("deploy", dist("staging", "2.0")).await["code"], "requires_not_met");
}

#[tokio::test]
async fn first_release_that_is_unhealthy_leaves_nothing_current() {
    let world = World::new();
    let server = world.start();
    world.build("dist", "1.0", "exit 1");
    let failed = server.call("deploy", dist("dev", "1.0")).await;
    assert_eq!(failed.structured["error"]["code"], "health_check_failed");
    assert_eq!(failed.structured["restored"], Value::Null);
    assert_eq!(world.current("dev"), None);
    assert_eq!(
        server.refused("rollback", json!({"environment": "dev", "service": "shop"})).await["code"],
        "nothing_to_roll_back"
    );
}

#[tokio::test]
async fn hung_check_is_killed_and_the_release_rolled_back() {
    let world = World::configured(
        "[deploy.environments.dev]\npath = 'targets/dev/{service}'\n\
         health = { command = ['{release}/check'], timeout_ms = 300 }\n",
    );
    let server = world.start();
    world.build("dist", "1.0", "sleep 30");
    let failed = server.call("deploy", dist("dev", "1.0")).await;
    assert_eq!(failed.structured["error"]["code"], "health_check_failed");
    assert!(failed.receipt.duration_ms < 5000);
    assert_eq!(world.current("dev"), None);
}

#[tokio::test]
async fn rollback_goes_one_back_and_then_another() {
    let world = World::new();
    let server = world.start();
    for version in ["1.0", "2.0", "3.0"] {
        world.build("dist", version, "exit 0");
        server.ok("deploy", dist("dev", version)).await;
    }
    let back = server.call("rollback", json!({"environment": "dev", "service": "shop"})).await;
    assert_eq!(back.structured["state"], "live", "{}", back.structured);
    assert_eq!(back.structured["kind"], "rollback");
    assert_eq!(back.receipt.amount.to_string(), "0.001");
    assert_eq!(world.current("dev").as_deref(), Some("2.0"));
    server.ok("rollback", json!({"environment": "dev", "service": "shop"})).await;
    assert_eq!(world.current("dev").as_deref(), Some("1.0"));
    let error = server.refused("rollback", json!({"environment": "dev", "service": "shop"})).await;
    assert_eq!(error["code"], "nothing_to_roll_back");
    server.ok("rollback", json!({"environment": "dev", "service": "shop", "to": "3.0"})).await;
    assert_eq!(world.current("dev").as_deref(), Some("3.0"));
    assert_eq!(
        history(&server, "dev").await,
        ["3.0 live", "1.0 rolled_back", "2.0 rolled_back", "3.0 rolled_back", "2.0 superseded", "1.0 superseded"]
    );
}

#[tokio::test]
async fn deployment_in_flight_ends_before_the_server_does() {
    let world = World::new();
    let mut server = world.start();
    server.tools().await;
    world.build("dist", "1.0", "sleep 1");
    let request = json!({"jsonrpc": "2.0", "id": "last", "method": "tools/call", "params": {
        "name": "deploy", "arguments": dist("dev", "1.0"), "_meta": {
            "io.modelcontextprotocol/protocolVersion": tollgate_tests::mcp_process::MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    }});
    server.write(format!("{request}\n").as_bytes()).await.unwrap();
    sleep(Duration::from_millis(300)).await;
    assert!(server.close().await.success());
    let server = world.start();
    assert_eq!(history(&server, "dev").await, ["1.0 live"]);
    assert_eq!(world.current("dev").as_deref(), Some("1.0"));
}

#[tokio::test]
async fn demo_goes_as_it_is_written() {
    let configuration = fs::read_to_string(repository_root().join("examples/demo/tollgate.toml")).unwrap();
    let world = World::configured(&configuration);
    let bookshop = |catalogue: &str| {
        let dist = world.work().join("dist");
        let _ = fs::remove_dir_all(&dist);
        fs::create_dir(&dist).unwrap();
        fs::write(dist.join("catalogue.csv"), catalogue).unwrap();
        let script = "#!/bin/sh\ntest \"$1\" = --self-check && grep -q 900 \"${0%/*}/catalogue.csv\"\n";
        fs::write(dist.join("bookshop"), script).unwrap();
        fs::set_permissions(dist.join("bookshop"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    let arguments = |environment: &str, version: &str| json!({"environment": environment, "service": "bookshop", "version": version, "artifact": "dist"});
    let server = world.start();
    bookshop("Emma,900");
    assert_eq!(server.ok("deploy", arguments("dev", "1.1.0")).await["state"], "live");
    assert_eq!(server.ok("deploy", arguments("staging", "1.1.0")).await["state"], "live");
    assert_eq!(server.refused("deploy", arguments("prod", "1.1.0")).await["code"], "approval_required");
    bookshop("Emma,9 dollars");
    let failed = server.call("deploy", arguments("dev", "1.2.0")).await;
    assert_eq!(failed.structured["error"]["code"], "health_check_failed");
    assert_eq!(failed.receipt.outcome.as_str(), "failed");
    let status = server.ok("deployment_status", json!({"environment": "dev", "service": "bookshop"})).await;
    assert_eq!(status["live"][0]["version"], "1.1.0");
    assert_eq!(status["live"][0].get("current"), None, "the link leads to what the history says");
}

#[tokio::test]
async fn schemas_are_flat_and_short() {
    let world = World::new();
    let server = world.start();
    let mut bytes = 0;
    for tool in server.tools().await {
        let shown = format!("{}{}{}", tool["name"], tool["description"], tool["inputSchema"]);
        assert!(!tool.to_string().contains("$ref"), "{tool}");
        assert_eq!(tool["outputSchema"]["type"], "object");
        bytes += shown.len();
    }
    assert!(bytes < 10_000, "{bytes} bytes of schemas cost every agent tokens on every turn");
}

#[tokio::test]
async fn shared_folders_outlive_releases() {
    let world = World::new();
    world.configure("[deploy.environments.dev]\npath = 'targets/dev/{service}'\nshared = ['uploads', 'log']\n");
    let server = world.start();
    let target = world.target("dev");
    for version in ["1", "2", "3"] {
        world.build("dist", version, "exit 0");
        server.ok("deploy", dist("dev", version)).await;
        fs::write(target.join("current/uploads").join(version), version).unwrap();
    }
    server.ok("rollback", json!({"environment": "dev", "service": "shop"})).await;
    assert_eq!(world.current("dev").as_deref(), Some("2"));
    for version in ["1", "2", "3"] {
        assert_eq!(fs::read_to_string(target.join("current/uploads").join(version)).unwrap(), version);
    }
    // What an artifact brings under such a name would hide what is shared.
    world.build("dist", "4", "exit 0");
    fs::create_dir(world.work().join("dist/log")).unwrap();
    assert_eq!(server.refused("deploy", dist("dev", "4")).await["code"], "artifact_not_plain");
    fs::remove_dir(world.work().join("dist/log")).unwrap();
    // A link in its place would share something else.
    fs::rename(target.join("shared/log"), target.join("shared/before")).unwrap();
    std::os::unix::fs::symlink(world.path("outside"), target.join("shared/log")).unwrap();
    assert_eq!(server.refused("deploy", dist("dev", "4")).await["code"], "target_failed");
    assert_eq!(world.current("dev").as_deref(), Some("2"));
    // Only the one link is no part of a release; any other damages it.
    fs::remove_file(target.join("shared/log")).unwrap();
    fs::rename(target.join("shared/before"), target.join("shared/log")).unwrap();
    let releases = world.releases("dev");
    let release = target.join("releases").join(releases.iter().find(|name| name.starts_with("3-")).unwrap());
    fs::remove_file(release.join("log")).unwrap();
    std::os::unix::fs::symlink("../../shared/uploads", release.join("log")).unwrap();
    let back = json!({"environment": "dev", "service": "shop", "to": "3"});
    let refused = server.refused("rollback", back).await;
    assert!(refused["code"].is_string(), "{refused}");
    assert_eq!(world.current("dev").as_deref(), Some("2"));
}
