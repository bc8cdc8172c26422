//! The target `docker-compose`, by the real Docker Compose and a Docker daemon.

use std::fs;

use serde_json::json;
use tollgate_tests::mcp_process::McpProcess;

use super::docker::{Docker, IMAGE};
use super::world::{World, dist, history};

/// A service that says which version runs, and that is healthy unless its version says otherwise.
const COMPOSE: &str = "
services:
  shop:
    image: IMAGE
    pull_policy: never
    network_mode: none
    stop_signal: SIGKILL
    command: ['/bin/sh', '-c', 'echo VERSION > /out/running; exec /bin/sleep 600']
    volumes: ['OUT:/out']
    healthcheck:
      test: ['CMD', '/bin/sh', '-c', 'case VERSION in *sick) exit 1;; esac']
      interval: 300ms
      retries: 2
";

fn build(world: &World, version: &str, compose: &str) {
    world.build("dist", version, "exit 0");
    let out = world.path("out").display().to_string();
    let text = compose.replace("IMAGE", IMAGE).replace("OUT", &out).replace("VERSION", version);
    fs::write(world.work().join("dist/compose.yaml"), text).unwrap();
}

async fn deploy(world: &World, server: &McpProcess, version: &str, compose: &str) -> String {
    build(world, version, compose);
    let called = server.call("deploy", dist("dev", version)).await;
    called.structured["error"]["code"].as_str().unwrap_or("live").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_brings_a_release_forward_and_back() {
    let Some(docker) = Docker::start() else { return };
    let world = World::configured(&format!(
        "[deploy.environments.dev]\ntarget = 'docker-compose'\npath = 'targets/dev/{{service}}'\n\
         compose = {{ program = ['{}'] }}\nvariables = {{ DOCKER_HOST = '{}' }}\n",
        docker.compose().display(),
        docker.host()
    ));
    fs::create_dir(world.path("out")).unwrap();
    let server = world.start();
    let runs = || fs::read_to_string(world.path("out/running")).unwrap_or_default().trim().to_owned();
    let healthy = || {
        let containers = docker.containers("shop-dev");
        containers.len() == 1 && containers[0].starts_with("shop ") && containers[0].ends_with(" healthy")
    };

    assert_eq!(deploy(&world, &server, "0-sick", COMPOSE).await, "target_failed");
    assert_eq!((docker.containers("shop-dev"), world.current("dev")), (vec![], None), "nothing was there before");
    assert_eq!(deploy(&world, &server, "1", COMPOSE).await, "live");
    assert_eq!((runs().as_str(), healthy()), ("1", true));
    let before = docker.containers("shop-dev");
    for (version, what, compose) in [
        ("2", "no YAML", "services: [".to_owned()),
        ("3", "a key that is not known", COMPOSE.replace("command:", "commands:")),
        ("4", "neither image nor build", COMPOSE.replace("image: IMAGE", "tty: false")),
    ] {
        assert_eq!(deploy(&world, &server, version, &compose).await, "validation_failed", "{what}");
        assert_eq!(docker.containers("shop-dev"), before, "{what}");
    }
    build(&world, "5-sick", COMPOSE);
    let failed = server.call("deploy", dist("dev", "5-sick")).await;
    assert_eq!(failed.structured["error"]["code"], "target_failed", "{}", failed.structured);
    assert!(failed.structured["output"].as_str().unwrap().contains("unhealthy"), "{}", failed.structured);
    assert_eq!((runs().as_str(), healthy(), world.current("dev").as_deref()), ("1", true, Some("1")));
    assert_eq!(deploy(&world, &server, "6", &COMPOSE.replace("IMAGE", "none:1")).await, "target_failed");
    assert_eq!((runs().as_str(), healthy(), world.current("dev").as_deref()), ("1", true, Some("1")), "no such image");

    assert_eq!(deploy(&world, &server, "7", COMPOSE).await, "live");
    assert_eq!((runs().as_str(), healthy()), ("7", true));
    server.ok("rollback", json!({"environment": "dev", "service": "shop"})).await;
    assert_eq!((runs().as_str(), healthy(), world.current("dev").as_deref()), ("1", true, Some("1")));
    let states = history(&server, "dev").await;
    assert_eq!(
        states,
        [
            "1 live",
            "7 rolled_back",
            "6 failed",
            "5-sick failed",
            "4 failed",
            "3 failed",
            "2 failed",
            "1 superseded",
            "0-sick failed"
        ]
    );
}
