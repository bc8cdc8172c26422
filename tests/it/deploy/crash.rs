//! `kill -9` at any instant leaves one whole release current, and a history that agrees.

use std::time::Duration;

use serde_json::{Map, json};
use tokio::time::sleep;

use super::world::{World, dist, history};

const ROUNDS: u64 = 30;

#[tokio::test(flavor = "multi_thread")]
async fn killed_deployments_are_completed_or_undone() {
    let world = World::new();
    // Seeded, so that a failure can be seen again; the spread covers start, copy, switch, check and after.
    let mut seed: u64 = 0x7011_6a7e;
    let mut live: Option<String> = None;
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    for round in 0..ROUNDS {
        let version = format!("{round}.0");
        world.build("dist", &version, if round % 3 == 2 { "sleep 0.1; exit 1" } else { "sleep 0.1" });
        let mut server = world.start();
        server.tools().await;
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let delay = Duration::from_micros((seed >> 33) % 260_000);
        {
            let deploying = server.try_call("deploy", dist("dev", &version), Map::new());
            tokio::select! {
                _ = deploying => {}
                () = sleep(delay) => {}
            }
        }
        server.kill().await;

        // Whoever asks next, by whatever tool, finds it settled.
        let server = world.start();
        let states = history(&server, "dev").await;
        let of_version = states.iter().filter(|line| line.starts_with(&format!("{version} "))).collect::<Vec<_>>();
        assert!(of_version.len() <= 1, "round {round}: deployed twice: {states:?}");
        let state = of_version.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("nothing").to_owned();
        assert!(["nothing", "live", "failed", "rolled_back"].contains(&state.as_str()), "round {round}: {states:?}");
        if state == "live" {
            assert_ne!(round % 3, 2, "an unhealthy release is live");
            live = Some(version.clone());
        }
        *seen.entry(state).or_default() += 1;
        assert_eq!(world.current("dev"), live, "round {round}: {states:?}");
        assert_eq!(states.iter().filter(|line| line.ends_with(" live")).count(), usize::from(live.is_some()));
        let status = server.ok("deployment_status", json!({"environment": "dev"})).await;
        if let Some(live) = &live {
            assert_eq!(status["live"][0]["version"], live.as_str());
            assert_eq!(status["live"][0].get("current"), None, "round {round}: {status}");
        }
    }
    assert!(seen.len() >= 3, "the kills all hit the same instant: {seen:?}");
    // No lock is stuck, and nothing is left behind.
    world.build("dist", "last", "exit 0");
    let server = world.start();
    server.ok("deploy", dist("dev", "last")).await;
    assert_eq!(world.current("dev").as_deref(), Some("last"));
    assert!(world.releases("dev").iter().all(|name| !name.starts_with('.')), "{:?}", world.releases("dev"));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_rollbacks_are_completed_or_undone() {
    let world = World::new();
    let server = world.start();
    for version in ["1.0", "2.0"] {
        world.build("dist", version, "sleep 0.05");
        server.ok("deploy", dist("dev", version)).await;
    }
    drop(server);
    let mut live = "2.0".to_owned();
    for round in 0..10_u64 {
        let other = if live == "2.0" { "1.0" } else { "2.0" };
        let mut server = world.start();
        server.tools().await;
        {
            let arguments = json!({"environment": "dev", "service": "shop", "to": other});
            let rolling_back = server.try_call("rollback", arguments, Map::new());
            tokio::select! {
                _ = rolling_back => {}
                () = sleep(Duration::from_millis(round * 12)) => {}
            }
        }
        server.kill().await;
        let server = world.start();
        let status = server.ok("deployment_status", json!({"environment": "dev"})).await;
        live = status["live"][0]["version"].as_str().unwrap().to_owned();
        assert_eq!(world.current("dev").as_deref(), Some(live.as_str()), "round {round}: {status}");
        assert_eq!(status["live"].as_array().unwrap().len(), 1);
    }
}
