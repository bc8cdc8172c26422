//! What an agent tries, and must not get.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};
use tollgate_tests::mcp_process::McpProcess;

use super::people::last_decision;
use super::world::{World, dist, history};

/// Calls a tool that must be refused with `code`, for nothing and without any effect.
async fn must_refuse(world: &World, server: &McpProcess, tool: &str, arguments: Value, code: &str) {
    let before = world.snapshot();
    let shown: String = arguments.to_string().chars().take(200).collect();
    let called = server.call(tool, arguments).await;
    assert!(called.is_error, "{tool} {shown} was allowed: {}", called.structured);
    assert_eq!(called.structured["error"]["code"], code, "{tool} {shown}: {}", called.structured["error"]);
    assert!(called.structured["error"]["message"].as_str().unwrap().len() < 2000, "{tool} {shown}");
    assert!(called.receipt.amount.is_zero(), "{tool} {shown}");
    assert_eq!(called.receipt.outcome.as_str(), "refused", "{tool} {shown}");
    assert!(world.snapshot() == before, "{tool} {shown} changed something");
    let (action, audited, _) = last_decision(world).await;
    assert_eq!(
        (action.as_str(), audited.as_deref()),
        ("refused", Some(code)),
        "{tool} {shown} is not in the audit trail"
    );
}

fn with(mut arguments: Value, field: &str, value: Value) -> Value {
    arguments[field] = value;
    arguments
}

#[tokio::test]
async fn arguments_that_are_attacks_are_refused() {
    let world = World::new();
    let server = world.start();
    server.ok("deploy", dist("dev", "1.0")).await;
    world.build("dist", "next", "exit 0");
    symlink("dist", world.work().join("link")).unwrap();
    symlink("../outside", world.work().join("out")).unwrap();
    fs::create_dir(world.work().join("empty")).unwrap();
    let good = || dist("dev", "2.0");
    let outside = world.path("outside/dist").display().to_string();
    let long = "x".repeat(10_000_000);
    let cases: Vec<(Value, &str)> = vec![
        (with(good(), "environment", json!("Dev")), "unknown_environment"),
        (with(good(), "environment", json!("dev ")), "unknown_environment"),
        (with(good(), "environment", json!("dev\0")), "unknown_environment"),
        (with(good(), "environment", json!("dеv")), "unknown_environment"),
        (with(good(), "environment", json!("../dev")), "unknown_environment"),
        (with(good(), "environment", json!("")), "unknown_environment"),
        (with(good(), "environment", json!(long)), "unknown_environment"),
        (with(good(), "environment", json!(["dev"])), "invalid_arguments"),
        (with(good(), "environment", Value::Null), "invalid_arguments"),
        (with(good(), "service", json!("../../etc")), "invalid_service"),
        (with(good(), "service", json!("..")), "invalid_service"),
        (with(good(), "service", json!("/etc")), "invalid_service"),
        (with(good(), "service", json!("shop/../x")), "invalid_service"),
        (with(good(), "service", json!("shop\0")), "invalid_service"),
        (with(good(), "service", json!("Shop")), "invalid_service"),
        (with(good(), "service", json!("shоp")), "invalid_service"),
        (with(good(), "service", json!("{release}")), "invalid_service"),
        (with(good(), "service", json!("$(id)")), "invalid_service"),
        (with(good(), "service", json!(long)), "invalid_service"),
        (with(good(), "version", json!("../../../../tmp/x")), "invalid_version"),
        (with(good(), "version", json!("1.0/../../x")), "invalid_version"),
        (with(good(), "version", json!("..")), "invalid_version"),
        (with(good(), "version", json!(".incoming-1")), "invalid_version"),
        (with(good(), "version", json!("1\n0")), "invalid_version"),
        (with(good(), "version", json!("1.0\0")), "invalid_version"),
        (with(good(), "version", json!("１.０")), "invalid_version"),
        (with(good(), "version", json!("1.0\u{202e}")), "invalid_version"),
        (with(good(), "version", json!("")), "invalid_version"),
        (with(good(), "version", json!(long)), "invalid_version"),
        (with(good(), "version", json!(2.0)), "invalid_arguments"),
        (with(good(), "artifact", json!("")), "invalid_path"),
        (with(good(), "artifact", json!("dist\0")), "invalid_path"),
        (with(good(), "artifact", json!(long)), "invalid_path"),
        (with(good(), "artifact", json!("..")), "path_outside_root"),
        (with(good(), "artifact", json!("../outside/dist")), "path_outside_root"),
        (with(good(), "artifact", json!("dist/../../outside/dist")), "path_outside_root"),
        (with(good(), "artifact", json!(outside)), "path_outside_root"),
        (with(good(), "artifact", json!("/")), "path_outside_root"),
        (with(good(), "artifact", json!("/etc")), "path_outside_root"),
        (with(good(), "artifact", json!("/proc/self")), "path_outside_root"),
        (with(good(), "artifact", json!(".tollgate")), "path_outside_root"),
        (with(good(), "artifact", json!("targets/dev/shop")), "path_outside_root"),
        (with(good(), "artifact", json!("targets/dev/shop/releases")), "path_outside_root"),
        (with(good(), "artifact", json!("link")), "artifact_not_plain"),
        (with(good(), "artifact", json!("out/dist")), "artifact_not_plain"),
        (with(good(), "artifact", json!(".")), "artifact_not_plain"),
        (with(good(), "artifact", json!("targets")), "artifact_not_plain"),
        (with(good(), "artifact", json!("dist/content")), "artifact_not_plain"),
        (with(good(), "artifact", json!("empty")), "artifact_not_plain"),
        (with(good(), "artifact", json!("nothing")), "artifact_not_found"),
        (with(good(), "approve", json!(true)), "invalid_arguments"),
        (with(good(), "approvals", json!(0)), "invalid_arguments"),
        (with(good(), "agent", json!("operator")), "invalid_arguments"),
        (with(good(), "force", json!(true)), "invalid_arguments"),
        (json!({}), "invalid_arguments"),
        // A version is one content for ever.
        (with(good(), "version", json!("1.0")), "version_taken"),
        // Not proven where it has to be, and no way around staging.
        (with(good(), "environment", json!("staging")), "requires_not_met"),
        (with(good(), "environment", json!("prod")), "requires_not_met"),
    ];
    assert!(cases.len() > 50);
    for (arguments, code) in cases {
        must_refuse(&world, &server, "deploy", arguments, code).await;
    }
    assert_eq!(history(&server, "dev").await, ["1.0 live"], "what is refused leaves no trace in the history");
    server.ok("deploy", good()).await;
    assert_eq!(world.current("dev").as_deref(), Some("next"));
}

#[tokio::test]
async fn artifacts_that_are_attacks_are_refused() {
    let spoil: [(&str, &dyn Fn(&Path)); 7] = [
        ("a link to a file", &|dist| symlink("/etc/passwd", dist.join("passwd")).unwrap()),
        ("a link to a folder", &|dist| symlink("/", dist.join("data/root")).unwrap()),
        ("a link inside", &|dist| symlink("content", dist.join("same")).unwrap()),
        ("a socket", &|dist| drop(std::os::unix::net::UnixListener::bind(dist.join("socket")).unwrap())),
        ("setuid", &|dist| fs::set_permissions(dist.join("check"), fs::Permissions::from_mode(0o4755)).unwrap()),
        ("a line end in a name", &|dist| fs::write(dist.join("a\nb"), "").unwrap()),
        ("folders without end", &|dist| fs::create_dir_all(dist.join("d/".repeat(80))).unwrap()),
    ];
    let world = World::new();
    let server = world.start();
    for (what, spoil) in spoil {
        world.build("dist", what, "exit 0");
        spoil(&world.work().join("dist"));
        let code = if what == "folders without end" { "artifact_too_large" } else { "artifact_not_plain" };
        must_refuse(&world, &server, "deploy", dist("dev", "1.0"), code).await;
    }
    assert!(!world.target("dev").exists(), "not even a folder is made");
    world.build("dist", "fine", "exit 0");
    server.ok("deploy", dist("dev", "1.0")).await;
}

#[tokio::test]
async fn rollbacks_that_are_attacks_are_refused() {
    let world = World::new();
    let server = world.start();
    let back = |to: &str| json!({"environment": "dev", "service": "shop", "to": to});
    must_refuse(&world, &server, "rollback", json!({"environment": "dev", "service": "shop"}), "nothing_to_roll_back")
        .await;
    must_refuse(&world, &server, "rollback", json!({"environment": "nope", "service": "shop"}), "unknown_environment")
        .await;
    must_refuse(&world, &server, "rollback", json!({"environment": "dev", "service": "../x"}), "invalid_service").await;
    for version in ["1.0", "2.0"] {
        world.build("dist", version, "exit 0");
        server.ok("deploy", dist("dev", version)).await;
    }
    world.build("dist", "3.0", "exit 1");
    server.refused("deploy", dist("dev", "3.0")).await;
    let long = "1".repeat(10_000_000);
    for to in ["3.0", "0.9", "", "../2.0", "..", "/etc", "1.0\0", " 1.0", "1.0-000000000000", "１.０", &long] {
        must_refuse(&world, &server, "rollback", back(to), "unknown_release").await;
    }
    must_refuse(&world, &server, "rollback", back("2.0"), "nothing_to_roll_back").await;
    must_refuse(&world, &server, "rollback", with(back("1.0"), "force", json!(true)), "invalid_arguments").await;

    // What was changed since it was released is not gone back to, whatever was changed.
    let old = world.target("dev").join("releases").join(world.releases("dev").remove(0));
    let changes: [&dyn Fn(); 4] = [
        &|| fs::write(old.join("content"), "1.O").unwrap(),
        &|| fs::write(old.join("more"), "").unwrap(),
        &|| fs::set_permissions(old.join("content"), fs::Permissions::from_mode(0o777)).unwrap(),
        &|| {
            fs::remove_file(old.join("content")).unwrap();
            symlink("/etc/passwd", old.join("content")).unwrap();
        },
    ];
    for change in changes {
        change();
        must_refuse(&world, &server, "rollback", back("1.0"), "release_damaged").await;
        let _ = fs::remove_file(old.join("content"));
        let _ = fs::remove_file(old.join("more"));
        fs::write(old.join("content"), "1.0").unwrap();
        fs::set_permissions(old.join("content"), fs::Permissions::from_mode(0o644)).unwrap();
    }
    server.ok("rollback", back("1.0")).await;
    assert_eq!(world.current("dev").as_deref(), Some("1.0"));
}

#[tokio::test]
async fn production_cannot_be_walked_back_without_a_person() {
    let open = "[deploy.environments.prod]\npath = 'targets/prod/{service}'\napprovals = ";
    let world = World::configured(&format!("{open}0\n"));
    let mut server = world.start();
    for version in ["1.0", "2.0", "3.0"] {
        world.build("dist", version, "exit 0");
        server.ok("deploy", dist("prod", version)).await;
    }
    server.close().await;
    world.configure(&format!("{open}1\n"));
    let server = world.start();
    let back = json!({"environment": "prod", "service": "shop"});
    let far = with(back.clone(), "to", json!("1.0"));
    must_refuse(&world, &server, "rollback", far.clone(), "approval_required").await;
    server.ok("rollback", back.clone()).await;
    assert_eq!(world.current("prod").as_deref(), Some("2.0"));
    must_refuse(&world, &server, "rollback", back, "approval_required").await;
    must_refuse(&world, &server, "rollback", with(far, "to", json!("3.0")), "approval_required").await;
    world.build("dist", "3.0", "exit 0");
    must_refuse(&world, &server, "deploy", dist("prod", "3.0"), "approval_required").await;
}

#[tokio::test]
async fn requests_for_approval_do_not_bury_a_person() {
    let world = World::configured("[deploy.environments.prod]\npath = 'targets/prod/{service}'\n");
    let server = world.start();
    for number in 0..100 {
        let error = server.refused("deploy", dist("prod", &format!("1.{number}"))).await;
        assert_eq!(error["code"], "approval_required", "also where the operator forgot to say so");
    }
    must_refuse(&world, &server, "deploy", dist("prod", "2.0"), "too_many_requests").await;
    must_refuse(&world, &server, "deploy", dist("prod", "1.7"), "approval_required").await;
    let status = server.ok("deployment_status", json!({})).await;
    assert_eq!(status["deployments"].as_array().unwrap().len(), 20);
    assert_eq!(status["deployments_left_out"], 80);
}

#[tokio::test]
async fn questions_that_are_attacks_are_refused() {
    let world = World::new();
    let server = world.start();
    server.ok("deploy", dist("dev", "1.0")).await;
    let long = "x".repeat(10_000_000);
    for (arguments, code) in [
        (json!({"environment": "Dev"}), "unknown_environment"),
        (json!({"environment": "dev' OR 1=1 --"}), "unknown_environment"),
        (json!({"service": "%"}), "invalid_service"),
        (json!({"service": "shop' OR '1'='1"}), "invalid_service"),
        (json!({"id": "' OR 1=1 --"}), "unknown_deployment"),
        (json!({"id": "%"}), "unknown_deployment"),
        (json!({"id": ""}), "unknown_deployment"),
        (json!({"id": long}), "unknown_deployment"),
        (json!({"id": "01980000-0000-7000-8000-000000000000"}), "unknown_deployment"),
        (json!({"limit": 0}), "invalid_arguments"),
        (json!({"limit": -1}), "invalid_arguments"),
        (json!({"limit": 101}), "invalid_arguments"),
        (json!({"limit": u64::MAX}), "invalid_arguments"),
        (json!({"limit": 1.5}), "invalid_arguments"),
        (json!({"state": "live"}), "invalid_arguments"),
    ] {
        must_refuse(&world, &server, "deployment_status", arguments, code).await;
    }
    must_refuse(&world, &server, "list_environments", json!({"x": 1}), "invalid_arguments").await;
}

#[tokio::test]
async fn targets_that_were_tampered_with_are_refused() {
    let world = World::new();
    let server = world.start();
    server.ok("deploy", dist("dev", "1.0")).await;
    let target = world.target("dev");

    // The running files were changed: nobody may say that 1.0 is live.
    let release = target.join("releases").join(world.releases("dev").remove(0));
    fs::write(release.join("content"), "evil").unwrap();
    must_refuse(&world, &server, "deploy", dist("dev", "1.0"), "release_damaged").await;
    fs::write(release.join("content"), "1.0").unwrap();
    server.ok("deploy", dist("dev", "1.0")).await;

    // `current` leads elsewhere: the status says so.
    fs::remove_file(target.join("current")).unwrap();
    symlink(world.path("outside/dist"), target.join("current")).unwrap();
    let status = server.ok("deployment_status", json!({"environment": "dev"})).await;
    assert!(status["live"][0]["current"].is_string(), "{status}");
    must_refuse(&world, &server, "deploy", dist("dev", "1.0"), "target_not_ours").await;
    fs::remove_file(target.join("current")).unwrap();
    assert_eq!(server.ok("deploy", dist("dev", "1.0")).await["unchanged"], false);
    assert_eq!(world.current("dev").as_deref(), Some("1.0"));

    // The folder is a link to outside: nothing is written there.
    let aside = world.work().join("aside");
    world.build("dist", "2.0", "exit 0");
    for victim in
        [world.work().join("targets"), world.work().join("targets/dev"), target.clone(), target.join("releases")]
    {
        fs::rename(&victim, &aside).unwrap();
        symlink(world.path("outside"), &victim).unwrap();
        let before = world.snapshot();
        let called = server.call("deploy", dist("dev", "2.0")).await;
        assert_eq!(called.structured["error"]["code"], "target_failed", "{}", called.structured);
        assert!(called.receipt.amount.is_zero());
        assert!(world.snapshot() == before);
        fs::remove_file(&victim).unwrap();
        fs::rename(&aside, &victim).unwrap();
    }
    server.ok("deploy", dist("dev", "2.0")).await;

    // Everything was deleted by hand: the status says so, and it can be released again.
    fs::remove_dir_all(target.join("releases")).unwrap();
    let status = server.ok("deployment_status", json!({"environment": "dev"})).await;
    assert_eq!(status["live"][0]["current"], "a release that is gone");
    let back = json!({"environment": "dev", "service": "shop", "to": "1.0"});
    assert_eq!(server.refused("rollback", back).await["code"], "unknown_release");
    server.ok("deploy", dist("dev", "2.0")).await;
    assert_eq!(world.current("dev").as_deref(), Some("2.0"));
}

#[tokio::test]
async fn two_servers_deploy_one_after_the_other_or_not_at_all() {
    let world = World::new();
    world.build("dist", "first", "exec sleep 2");
    world.build("other", "second", "exec sleep 2");
    let (left, right) = (world.start(), world.start());
    let other = with(dist("dev", "2.0"), "artifact", json!("other"));
    let (one, two) = tokio::join!(left.call("deploy", dist("dev", "1.0")), right.call("deploy", other));
    let refused = [&one, &two].into_iter().filter(|called| called.is_error).collect::<Vec<_>>();
    assert_eq!(refused.len(), 1, "{} {}", one.structured, two.structured);
    assert_eq!(refused[0].structured["error"]["code"], "deployment_in_progress");
    assert!(refused[0].receipt.amount.is_zero());
    let winner = if one.is_error { "second" } else { "first" };
    assert_eq!(world.current("dev").as_deref(), Some(winner));
    assert_eq!(history(&left, "dev").await.len(), 1);
    // While one is at work, asking does not disturb it.
    world.build("dist", "third", "sleep 1");
    let (deployed, ()) = tokio::join!(left.call("deploy", dist("dev", "3.0")), async {
        for _ in 0..20 {
            right.ok("deployment_status", json!({})).await;
            tokio::time::sleep(std::time::Duration::from_millis(40)).await;
        }
    });
    assert!(!deployed.is_error, "{}", deployed.structured);
    assert_eq!(world.current("dev").as_deref(), Some("third"));
}

#[tokio::test]
async fn secrets_do_not_reach_a_release_s_check() {
    let world = World::new();
    world.build("dist", "1.0", "env; ls -l /proc/self/fd; exit 1");
    let server = McpServer::with_secret(&world);
    let failed = server.call("deploy", dist("dev", "1.0")).await;
    let shown = failed.structured.to_string();
    assert_eq!(failed.structured["error"]["code"], "health_check_failed");
    assert!(shown.contains("PATH="), "{shown}");
    assert!(!shown.contains("hunter2") && !shown.contains("TOLLGATE"), "{shown}");
    assert!(!shown.contains("deploy.db") && !shown.contains("ledger.db"), "an open file was inherited: {shown}");
}

/// A server whose environment has something to hide.
struct McpServer;

impl McpServer {
    fn with_secret(world: &World) -> McpProcess {
        let variables = [("SHOP_DATABASE_URL", "postgres://u:hunter2@h/d"), ("TOLLGATE_AGENT", "tester")];
        McpProcess::start("mcp-deploy", &world.work(), &[], &variables)
    }
}
