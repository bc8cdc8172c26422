//! What goes wrong around a deployment: clear outcomes, nothing half done.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tollgate_tests::mcp_process::McpProcess;

use super::world::{World, dist, history};

async fn code(server: &McpProcess, tool: &str, arguments: Value) -> String {
    server.refused(tool, arguments).await["code"].as_str().unwrap().to_owned()
}

/// A small file system of its own, where this account may mount one.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, megabytes: u32) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            other => {
                eprintln!("skipped: no file system can be mounted here: {other:?}");
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn full_disk_leaves_the_old_release() {
    let world = World::new();
    let Some(_small) = Small::mount(&world.work().join("targets"), 4) else { return };
    let server = world.start();
    server.ok("deploy", dist("dev", "1.0")).await;
    world.build("dist", "2.0", "exit 0");
    fs::write(world.work().join("dist/large"), vec![7; 8 * 1024 * 1024]).unwrap();
    assert_eq!(code(&server, "deploy", dist("dev", "2.0")).await, "target_failed");
    assert_eq!(world.current("dev").as_deref(), Some("1.0"));
    assert_eq!(world.releases("dev").len(), 1, "half a copy is left: {:?}", world.releases("dev"));
    assert_eq!(history(&server, "dev").await, ["2.0 failed", "1.0 live"]);
    world.build("dist", "3.0", "exit 0");
    server.ok("deploy", dist("dev", "3.0")).await;
}

#[tokio::test]
async fn full_state_folder_refuses_before_anything_changes() {
    let world = World::new();
    let Some(_small) = Small::mount(&world.work().join(".tollgate"), 2) else { return };
    let server = world.start();
    server.ok("deploy", dist("dev", "1.0")).await;
    let filler = world.work().join(".tollgate/filler");
    let mut bytes = 4 << 20;
    while bytes > 0 {
        // Until not one byte more fits.
        let mut file = fs::OpenOptions::new().append(true).create(true).open(&filler).unwrap();
        if std::io::Write::write_all(&mut file, &vec![1; bytes]).is_err() {
            bytes /= 2;
        }
    }
    world.build("dist", "2.0", "exit 0");
    let answer = server.request("tools/call", json!({"name": "deploy", "arguments": dist("dev", "2.0")})).await;
    let code = answer["result"]["structuredContent"]["error"]["code"].as_str().unwrap_or("none").to_owned();
    assert!(["ledger_unavailable", "history_unavailable"].contains(&code.as_str()), "{answer}");
    assert!(["1.0", "2.0"].contains(&world.current("dev").unwrap().as_str()), "whatever it is, it is whole");
    fs::remove_file(&filler).unwrap();
    drop(server);
    let server = world.start();
    let status = server.ok("deployment_status", json!({"environment": "dev"})).await;
    assert_eq!(status["live"][0]["version"].as_str(), world.current("dev").as_deref(), "{status}");
    assert_eq!(status["live"][0].get("current"), None, "{status}");
    server.ok("deploy", dist("dev", "2.0")).await;
}

#[tokio::test]
async fn folder_that_is_gone_or_cannot_be_written() {
    let world = World::new();
    let server = world.start();
    server.ok("deploy", dist("dev", "1.0")).await;
    // Everything was removed by hand: the next deployment begins anew, and going back says that nothing is there.
    fs::remove_dir_all(world.work().join("targets")).unwrap();
    let status = server.ok("deployment_status", json!({"environment": "dev"})).await;
    assert_eq!(status["live"][0]["current"], "nothing", "{status}");
    world.build("dist", "2.0", "exit 0");
    server.ok("deploy", dist("dev", "2.0")).await;
    assert_eq!(code(&server, "rollback", json!({"environment": "dev", "service": "shop"})).await, "unknown_release");
    assert_eq!(world.current("dev").as_deref(), Some("2.0"));
    // A plain file is in the way.
    fs::remove_dir_all(world.work().join("targets")).unwrap();
    fs::write(world.work().join("targets"), "").unwrap();
    world.build("dist", "3.0", "exit 0");
    assert_eq!(code(&server, "deploy", dist("dev", "3.0")).await, "target_failed");
    fs::remove_file(world.work().join("targets")).unwrap();
    if rustix::process::geteuid().is_root() {
        // Modes keep nobody from writing who is root; a read-only file system does.
        let Some(small) = Small::mount(&world.work().join("targets"), 4) else { return };
        let read_only = Command::new("mount").args(["-o", "remount,ro"]).arg(&small.0).status().unwrap();
        assert!(read_only.success());
        assert_eq!(code(&server, "deploy", dist("dev", "3.0")).await, "target_failed");
        return;
    }
    fs::create_dir(world.work().join("targets")).unwrap();
    fs::set_permissions(world.work().join("targets"), fs::Permissions::from_mode(0o555)).unwrap();
    assert_eq!(code(&server, "deploy", dist("dev", "3.0")).await, "target_failed");
    fs::set_permissions(world.work().join("targets"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn release_that_was_deleted_by_hand_is_not_gone_back_to() {
    let world = World::new();
    let server = world.start();
    server.ok("deploy", dist("dev", "1.0")).await;
    world.build("dist", "2.0", "exit 0");
    server.ok("deploy", dist("dev", "2.0")).await;
    let first = world.releases("dev").remove(0);
    fs::remove_dir_all(world.target("dev").join("releases").join(first)).unwrap();
    assert_eq!(code(&server, "rollback", json!({"environment": "dev", "service": "shop"})).await, "unknown_release");
    assert_eq!(world.current("dev").as_deref(), Some("2.0"));
    // The current one deleted: status says so, an unhealthy next one leaves nothing current and says that too.
    let current = fs::read_link(world.target("dev").join("current")).unwrap();
    fs::remove_dir_all(world.target("dev").join(current)).unwrap();
    let status = server.ok("deployment_status", json!({"environment": "dev"})).await;
    assert_eq!(status["live"][0]["current"], "a release that is gone");
    world.build("dist", "3.0", "exit 1");
    let refused = server.refused("deploy", dist("dev", "3.0")).await;
    assert!(refused["message"].as_str().unwrap().contains("is gone: nothing is current"), "{refused}");
    assert!(!world.target("dev").join("current").exists());
}

#[tokio::test]
async fn configuration_goes_with_the_release_and_back() {
    let world = World::new();
    let server = world.start();
    let with = |version: &str, configuration: Value| {
        let mut arguments = dist("dev", version);
        arguments["configuration"] = configuration;
        arguments
    };
    let there = || fs::read_to_string(world.target("dev").join("current/tollgate-configuration.json")).unwrap();
    server.ok("deploy", with("1.0", json!({"LOG_LEVEL": "info"}))).await;
    assert!(there().contains("\"LOG_LEVEL\": \"info\""));
    assert_eq!(code(&server, "deploy", with("1.0", json!({"LOG_LEVEL": "debug"}))).await, "version_taken");
    server.ok("deploy", with("1.1", json!({"LOG_LEVEL": "debug"}))).await;
    assert!(there().contains("debug"));
    // The same artifact goes on, whatever its configuration.
    server.ok("deploy", dist("staging", "1.1")).await;
    server.ok("rollback", json!({"environment": "dev", "service": "shop"})).await;
    assert!(there().contains("info"));
    for wrong in
        [json!({}), json!({"A B": "x"}), json!({"../x": "x"}), json!({"A": "x\u{0}"}), json!({"A": "x".repeat(70_000)})]
    {
        assert_eq!(code(&server, "deploy", with("2.0", wrong)).await, "invalid_configuration");
    }
    assert_eq!(code(&server, "deploy", with("2.0", json!({"A": 1}))).await, "invalid_arguments");
    fs::write(world.work().join("dist/tollgate-configuration.json"), "{}").unwrap();
    assert_eq!(code(&server, "deploy", with("2.0", json!({"A": "x"}))).await, "invalid_configuration");
}

fn git(world: &World, arguments: &[&str]) {
    let done = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
        .args(arguments)
        .current_dir(world.work())
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[tokio::test]
async fn branch_and_commit_are_what_the_environment_takes() {
    let world = World::configured(
        "[deploy.environments.dev]\npath = '../targets/{service}'\nbranches = ['main', 'release/*']\n\
         [deploy.environments.staging]\npath = '../staging/{service}'\nverified = true\n",
    );
    let server = world.start();
    assert_eq!(code(&server, "deploy", dist("dev", "1")).await, "no_commit");
    git(&world, &["init", "-q", "-b", "main"]);
    assert_eq!(code(&server, "deploy", dist("dev", "1")).await, "no_commit");
    git(&world, &["add", "-A"]);
    git(&world, &["commit", "-q", "-m", "first"]);
    server.ok("deploy", dist("dev", "1")).await;
    fs::write(world.work().join("dist/content"), "2").unwrap();
    assert_eq!(code(&server, "deploy", dist("dev", "2")).await, "not_committed");
    git(&world, &["checkout", "-q", "-b", "release/a/b"]);
    git(&world, &["commit", "-q", "-a", "-m", "second"]);
    assert_eq!(code(&server, "deploy", dist("dev", "2")).await, "branch_not_allowed");
    git(&world, &["branch", "-q", "-m", "release/1"]);
    server.ok("deploy", dist("dev", "2")).await;
    git(&world, &["checkout", "-q", "--detach"]);
    fs::write(world.work().join("dist/content"), "3").unwrap();
    git(&world, &["commit", "-q", "-a", "-m", "third"]);
    assert_eq!(code(&server, "deploy", dist("dev", "3")).await, "branch_not_allowed");
    let plan = server.ok("plan_deployment", dist("dev", "3")).await;
    let gate = plan["gates"].as_array().unwrap().iter().find(|gate| gate["gate"] == "source").unwrap().clone();
    assert_eq!(gate["code"], "branch_not_allowed");
    assert_eq!(code(&server, "deploy", dist("staging", "3")).await, "not_verified");
}
