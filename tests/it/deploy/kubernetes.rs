//! The target `kubernetes`, by the real `kubectl` against a cluster on this machine.

use std::fs;
use std::process::Command;

use serde_json::{Map, json};
use tollgate_tests::mcp_process::McpProcess;
use tollgate_tests::world::skipped;

use super::cluster::{Cluster, NAMESPACE};
use super::world::{World, dist, history};

/// A Deployment and what it is configured with.
const MANIFESTS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec: {containers: [{name: shop, image: 'shop:VERSION'}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: shop}
data: {version: 'VERSION'}
";

/// A world whose `dev` is the cluster; `None` with the reason on stderr where there is no `kubectl`.
async fn world(kubeconfig: &str, timeout_ms: u32) -> Option<(World, Cluster)> {
    if !Command::new("kubectl").args(["version", "--client"]).output().is_ok_and(|output| output.status.success()) {
        skipped("there is no kubectl here");
        return None;
    }
    let cluster = Cluster::start().await;
    let world = World::configured(&format!(
        "[deploy.environments.dev]\ntarget = 'kubernetes'\npath = 'targets/dev/{{service}}'\n\
         command_timeout_ms = {timeout_ms}\nvariables = {{ KUBECONFIG = '{}' }}\n\
         [deploy.environments.dev.kubernetes]\ncontext = 'here'\nnamespace = '{NAMESPACE}'\n\
         rollout = ['deployment/{{service}}']\n",
        cluster.kubeconfig(kubeconfig).display()
    ));
    Some((world, cluster))
}

fn build(world: &World, version: &str, manifests: &str) {
    world.build("dist", version, "exit 0");
    fs::create_dir(world.work().join("dist/manifests")).unwrap();
    fs::write(world.work().join("dist/manifests/shop.yaml"), manifests.replace("VERSION", version)).unwrap();
}

async fn deploy(world: &World, server: &McpProcess, version: &str, manifests: &str) -> String {
    build(world, version, manifests);
    let called = server.call("deploy", dist("dev", version)).await;
    if called.is_error {
        eprintln!("{version}: {}", called.structured);
    }
    called.structured["error"]["code"].as_str().unwrap_or("live").to_owned()
}

/// What the cluster serves, what its Deployment says, and what its ConfigMap does.
fn there(cluster: &Cluster) -> [Option<String>; 3] {
    let text = |object: &str, at: &str| cluster.object(object)?.pointer(at)?.as_str().map(str::to_owned);
    [
        cluster.serves("shop"),
        text("deployments/shop", "/spec/template/spec/containers/0/image"),
        text("configmaps/shop", "/data/version"),
    ]
}

fn all(version: &str) -> [Option<String>; 3] {
    [Some(format!("shop:{version}")), Some(format!("shop:{version}")), Some(version.to_owned())]
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_brings_a_release_forward_and_back() {
    let Some((world, cluster)) = world("kubeconfig", 60_000).await else { return };
    let server = world.start();
    // The first one is given up: nothing was there before, and nothing is there then.
    assert_eq!(deploy(&world, &server, "0-crashing", MANIFESTS).await, "health_check_failed");
    assert_eq!((there(&cluster), world.current("dev")), ([None, None, None], None));

    assert_eq!(deploy(&world, &server, "1", MANIFESTS).await, "live");
    assert_eq!(there(&cluster), all("1"));
    build(&world, "2-crashing", MANIFESTS);
    let failed = server.call("deploy", dist("dev", "2-crashing")).await;
    assert_eq!(failed.structured["error"]["code"], "health_check_failed", "{}", failed.structured);
    assert!(failed.structured["check"]["output"].as_str().unwrap().contains("progress deadline"), "{failed:?}");
    assert_eq!((there(&cluster), world.current("dev").as_deref()), (all("1"), Some("1")), "the rollout was undone");

    assert_eq!(deploy(&world, &server, "3", MANIFESTS).await, "live");
    assert_eq!(there(&cluster), all("3"));
    server.ok("rollback", json!({"environment": "dev", "service": "shop"})).await;
    assert_eq!((there(&cluster), world.current("dev").as_deref()), (all("1"), Some("1")));
    let states = history(&server, "dev").await;
    assert_eq!(states, ["1 live", "3 rolled_back", "2-crashing rolled_back", "1 superseded", "0-crashing rolled_back"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cluster_would_not_take_is_not_applied() {
    let Some((world, cluster)) = world("kubeconfig", 60_000).await else { return };
    let server = world.start();
    assert_eq!(deploy(&world, &server, "1", MANIFESTS).await, "live");
    cluster.take_asked();
    for (version, what, from, to) in [
        ("2", "labels that its selector does not match", "labels: {app: shop}", "labels: {app: other}"),
        ("3", "a selector that cannot change", "app: shop}", "app: other}"),
        ("4", "a field that is not known", "replicas: 2", "replica: 2"),
        ("5", "no image", ", image: 'shop:VERSION'", ""),
        ("6", "a kind that is not known", "kind: Deployment", "kind: Deploiment"),
        ("7", "another namespace", "{name: shop}", "{name: shop, namespace: other}"),
        ("8", "no manifest", MANIFESTS, "{"),
    ] {
        assert_eq!(deploy(&world, &server, version, &MANIFESTS.replace(from, to)).await, "validation_failed", "{what}");
        let asked = cluster.take_asked();
        assert!(asked.iter().all(|asked| asked.ends_with(" dry") || asked.starts_with("GET")), "{what}: {asked:?}");
        assert_eq!((there(&cluster), world.current("dev").as_deref()), (all("1"), Some("1")), "{what}");
    }
    assert_eq!(deploy(&world, &server, "9", MANIFESTS).await, "live");
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_that_lets_nobody_in_is_told_of() {
    let Some((world, cluster)) = world("of-a-stranger", 60_000).await else { return };
    let server = world.start();
    build(&world, "1", MANIFESTS);
    let failed = server.call("deploy", dist("dev", "1")).await;
    assert_eq!(failed.structured["error"]["code"], "validation_failed", "{}", failed.structured);
    let said = failed.structured["output"].as_str().unwrap().to_lowercase();
    assert!(said.contains("logged in") || said.contains("unauthorized") || said.contains("credentials"), "{said}");
    assert_eq!((there(&cluster), world.current("dev")), ([None, None, None], None));
}

#[tokio::test(flavor = "multi_thread")]
async fn rollout_that_never_gets_ready_is_undone() {
    let Some((world, cluster)) = world("kubeconfig", 4000).await else { return };
    let server = world.start();
    assert_eq!(deploy(&world, &server, "1", MANIFESTS).await, "live");
    cluster.take_asked();
    build(&world, "2-missing", MANIFESTS);
    let (failed, ()) = tokio::join!(server.call("deploy", dist("dev", "2-missing")), async {
        cluster.is_watched().await;
        let [serves, wanted, _] = there(&cluster);
        assert_eq!((serves.as_deref(), wanted.as_deref()), (Some("shop:1"), Some("shop:2-missing")));
    });
    assert_eq!(failed.structured["error"]["code"], "health_check_failed", "{}", failed.structured);
    assert_eq!((there(&cluster), world.current("dev").as_deref()), (all("1"), Some("1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn rollout_of_a_killed_server_is_undone() {
    let Some((world, cluster)) = world("kubeconfig", 60_000).await else { return };
    let mut server = world.start();
    assert_eq!(deploy(&world, &server, "1", MANIFESTS).await, "live");
    cluster.take_asked();
    build(&world, "2-missing", MANIFESTS);
    {
        let deploying = server.try_call("deploy", dist("dev", "2-missing"), Map::new());
        tokio::select! {
            called = deploying => panic!("it ended: {called:?}"),
            () = cluster.is_watched() => {}
        }
    }
    server.kill().await;
    assert_eq!(
        cluster.object("deployments/shop").unwrap()["spec"]["template"]["spec"]["containers"][0]["image"],
        "shop:2-missing"
    );
    let server = world.start();
    // The turn is free once nothing of the killed server's kubectl is left.
    let mut states = history(&server, "dev").await;
    while states[0].ends_with("verifying") {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        states = history(&server, "dev").await;
    }
    assert_eq!(states, ["2-missing rolled_back", "1 live"]);
    assert_eq!((there(&cluster), world.current("dev").as_deref()), (all("1"), Some("1")));
}
