//! What an agent tries beside its arguments: while a call is under way, in the name of others, and with what is told.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value, json};
use tollgate_shared::identity::{Agent, IDENTITY_META_KEY, Identity, RunSecret};
use tollgate_tests::mcp_process::McpProcess;

use super::people::{approved, decisions, last_decision};
use super::world::{World, dist, history};

/// Does something again and again until it is dropped.
struct Meanwhile {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Meanwhile {
    fn start(mut work: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                work();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn artifact_that_changes_while_it_is_copied_is_one_content_or_none() {
    let world = World::new();
    let server = world.start();
    world.build("dist", "base", "exit 0");
    server.ok("deploy", dist("dev", "base")).await;
    // Two files that belong together, always written in this order: a release with a newer second one is a mixture.
    let (one, two) = (world.work().join("dist/content"), world.work().join("dist/data/deep/file"));
    let mut number = 0_u32;
    let _meanwhile = Meanwhile::start(move || {
        number += 1;
        let text = format!("{number:08}");
        fs::write(&one, &text).unwrap();
        fs::write(&two, text.repeat(1000)).unwrap();
        // Long enough for some calls to see one content.
        std::thread::sleep(std::time::Duration::from_millis(u64::from(number % 4) * 150));
    });
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    for round in 0..20 {
        let called = server.call("deploy", dist("dev", &format!("{round}.0"))).await;
        let code = called.structured["error"]["code"].as_str().unwrap_or("live").to_owned();
        assert!(["live", "artifact_changed"].contains(&code.as_str()), "{}", called.structured);
        *seen.entry(code).or_default() += 1;
    }
    drop(_meanwhile);
    eprintln!("while it changed all the time: {seen:?}");
    // Whatever was released is what its digest says: going back verifies every file.
    for _ in 0..seen.get("live").copied().unwrap_or_default().min(3) {
        let back = server.call("rollback", json!({"environment": "dev", "service": "shop"})).await;
        assert!(!back.is_error, "{}", back.structured);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn folder_that_becomes_a_link_meanwhile_leads_nowhere() {
    let world = World::new();
    let server = world.start();
    server.ok("deploy", dist("dev", "1.0")).await;
    fs::create_dir_all(world.path("outside/releases")).unwrap();
    let outside = || world.snapshot_of("outside");
    let before = outside();
    let (target, aside, victim) = (world.target("dev"), world.work().join("aside"), world.path("outside"));
    let meanwhile = Meanwhile::start(move || {
        // The server may have made a folder in the meantime wherever there is none; then it goes on with that one.
        if fs::rename(&target, &aside).is_ok() {
            if symlink(&victim, &target).is_ok() {
                std::thread::yield_now();
                fs::remove_file(&target).unwrap();
            }
            if fs::rename(&aside, &target).is_err() {
                fs::remove_dir_all(&aside).unwrap();
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    });
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    for round in 0..30 {
        world.build("dist", &format!("2.{round}"), "exit 0");
        let called = server.call("deploy", dist("dev", &format!("2.{round}"))).await;
        let code = called.structured["error"]["code"].as_str().unwrap_or("live").to_owned();
        *seen.entry(code).or_default() += 1;
        assert!(outside() == before, "something outside was written: {}", called.structured);
    }
    drop(meanwhile);
    eprintln!("while the folder came and went: {seen:?}");
    assert!(outside() == before);
}

#[tokio::test]
async fn nobody_asks_in_another_s_name() {
    let (world, _people, _server, id) = approved().await;
    let before = world.snapshot();
    let (own, foreign) = (RunSecret::generate().unwrap(), RunSecret::generate().unwrap());
    let tester = Identity { agent: Agent { name: "tester".into(), role: None }, ..Identity::default() };
    let operator =
        Identity { agent: Agent { name: "alice".into(), role: Some("operator".into()) }, ..Identity::default() };
    let signed = |secret: &RunSecret, identity: &Identity| serde_json::to_value(secret.sign(identity)).unwrap();
    let changed = |mut value: Value, field: &str, to: Value| {
        value[field] = to;
        value
    };
    let mallory = [("TOLLGATE_AGENT", "mallory"), ("TOLLGATE_RUN_SECRET", &own.to_hex())];
    let mallory = McpProcess::start("mcp-deploy", &world.work(), &[], &mallory);
    let claims = [
        json!("tester"),
        json!({"agent": "tester"}),
        json!({"agent": "tester", "proof": ""}),
        json!({"agent": "tester", "proof": "00".repeat(32)}),
        signed(&foreign, &tester),
        signed(&foreign, &operator),
        changed(signed(&own, &operator), "agent", json!("tester")),
        changed(signed(&own, &tester), "role", json!("operator")),
        changed(signed(&own, &tester), "task_id", json!("TASK-1")),
        changed(signed(&own, &tester), "approved", json!(true)),
    ];
    for claim in claims {
        let meta = Map::from_iter([(IDENTITY_META_KEY.to_owned(), claim.clone())]);
        let called = mallory.try_call("deploy", dist("prod", "1.0"), meta).await.unwrap();
        assert_eq!(called.structured["error"]["code"], "identity_unproven", "{claim}: {}", called.structured);
        assert_eq!(called.receipt.agent.name, "mallory", "{claim}");
        let (action, code, _) = last_decision(&world).await;
        assert_eq!((action.as_str(), code.as_deref()), ("refused", Some("identity_unproven")), "{claim}");
        assert!(world.snapshot() == before, "{claim}");
    }
    // Who holds the run's secret speaks for whom it names.
    let meta = Map::from_iter([(IDENTITY_META_KEY.to_owned(), signed(&own, &tester))]);
    let called = mallory.try_call("deploy", dist("prod", "1.0"), meta).await.unwrap();
    assert_eq!(called.structured["id"], id.as_str(), "{}", called.structured);
    assert_eq!(world.current("prod").as_deref(), Some("1.0"));
}

#[tokio::test]
async fn refusals_of_every_gate_are_in_the_audit_trail() {
    let world = World::configured(
        "[deploy.environments.dev]\npath = 'targets/dev/{service}'\nversions = ['[0-9]*.[0-9]*']\n\
         health = { command = ['{release}/check'], before = true }\n\
         [deploy.environments.staging]\npath = 'targets/staging/{service}'\nrequires = ['dev']\nbake_minutes = 9\n\
         [deploy.environments.frozen]\npath = 'targets/frozen/{service}'\nfreeze = [{ from = '2020-01-01', to = '2099-01-01' }]\n\
         [deploy.environments.sourced]\npath = 'targets/sourced/{service}'\nbranches = ['main']\n\
         [deploy.environments.prod]\npath = 'targets/prod/{service}'\nrequires = ['staging']\n",
    );
    let server = world.start();
    let sick = world.path("outside/sick");
    world.build("dist", "1.0", &format!("[ ! -e {} ]", sick.display()));
    server.ok("deploy", dist("dev", "1.0")).await;
    world.build("other", "2.0", "exit 0");
    fs::write(&sick, "").unwrap();
    let other =
        |version: &str| json!({"environment": "dev", "service": "shop", "version": version, "artifact": "other"});
    for (arguments, expected) in [
        (other("1.0"), "version_taken"),
        (other("latest"), "version_not_allowed"),
        (other("2.0"), "current_unhealthy"),
        (dist("staging", "1.0"), "bake_not_over"),
        (dist("frozen", "1.0"), "frozen"),
        (dist("sourced", "1.0"), "no_commit"),
        (dist("prod", "1.0"), "requires_not_met"),
    ] {
        let before = world.snapshot();
        let called = server.call("deploy", arguments.clone()).await;
        assert_eq!(called.structured["error"]["code"], expected, "{arguments}: {}", called.structured);
        assert!(called.receipt.amount.is_zero());
        let (action, code, _) = last_decision(&world).await;
        assert_eq!((action.as_str(), code.as_deref()), ("refused", Some(expected)));
        assert!(world.snapshot() == before, "{arguments}");
    }
    assert_eq!(history(&server, "dev").await, ["1.0 live"]);
}

#[tokio::test]
async fn secrets_of_the_configuration_stay_in_it() {
    const SECRET: &str = "hunter2-correct-horse";
    let world = World::new();
    let program = world.path("operator");
    // It fails, and tells everything that it knows on the way.
    fs::write(
        &program,
        "#!/bin/sh\nenv\necho \"token=$SHOP_TOKEN\" >&2\ncase $TOLLGATE_VERSION in bad*) exit 1;; esac\n",
    )
    .unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    world.configure(&format!(
        "[deploy.environments.dev]\npath = 'targets/dev/{{service}}'\nreload = ['{}']\n\
         variables = {{ SHOP_TOKEN = '${{SHOP_SECRET}}', SHOP_URL = 'https://u:${{SHOP_SECRET}}@shop' }}\n",
        program.display()
    ));
    let variables = [("SHOP_SECRET", SECRET), ("TOLLGATE_AGENT", "tester")];
    let server = McpProcess::start("mcp-deploy", &world.work(), &[], &variables);
    let mut told = String::new();
    for version in ["1.0", "bad-1", "2.0", "bad-2"] {
        world.build("dist", version, "exit 0");
        let called = server.call("deploy", dist("dev", version)).await;
        if version.starts_with("bad") {
            assert_eq!(called.structured["error"]["code"], "target_failed", "{}", called.structured);
            assert!(called.structured.to_string().contains("token="), "the output is told: {}", called.structured);
        }
        told += &called.structured.to_string();
        told += &called.text;
    }
    for (tool, arguments) in [
        ("plan_deployment", dist("dev", "3.0")),
        ("deployment_status", json!({})),
        ("deployment_history", json!({})),
        ("list_environments", json!({})),
        ("rollback", json!({"environment": "dev", "service": "shop"})),
    ] {
        told += &server.call(tool, arguments).await.structured.to_string();
    }
    told += &server.stderr();
    told += &serde_json::to_string(&decisions(&world).await).unwrap();
    drop(server);
    assert!(!told.contains(SECRET), "{told}");
    let state = world.work().join(".tollgate");
    for entry in fs::read_dir(&state).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap_or_default();
        assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()), "it is in {}", path.display());
    }
}
