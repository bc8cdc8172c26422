//! The crash matrix: `kill -9` at seeded instants and inside every program of a target, for each target that runs here.
//!
//! A program that the server is killed in would go on a second later and change the target then: what is seen is that
//! it does not outlive the server.
//!
//! `TOLLGATE_CRASH_ROUNDS` sets the rounds per target, `TOLLGATE_CRASH_SEED` the seed. Much of a round is waiting for what goes
//! on a second later, so `TOLLGATE_CRASH_WORLDS` shares the rounds among that many worlds at once, each with a seed, a
//! workspace and, for another host, an SSH server of its own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Map, json};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tollgate_tests::mcp_process::McpProcess;

use super::sshd::Sshd;
use super::world::{World, dist, history};

/// Says when it is at the place in the file `kill`, before or after its effect, and goes on a second later.
const OPERATOR: &str = r#"#!/bin/sh
release=${TOLLGATE_RELEASE:-$3}
content() { if [ -n "$release" ]; then cat "$release/content"; else echo nothing; fi; }
pause() { if [ "$(cat "$2.kill" 2>/dev/null)" = "$1" ]; then rm -f "$2.kill"; touch "$2.here"; sleep 1; fi; }
pause "before-$1" "$2"
case "$1" in
deploy|rollback|reload) content > "$2" ;;
verify) [ "$(cat "$2")" = "$(content)" ] || exit 1; case "$(content)" in *sick*) exit 1;; esac ;;
esac
pause "after-$1" "$2"
exit 0
"#;

/// The states in which nothing is under way.
const ENDED: [&str; 5] = ["live", "superseded", "failed", "rolled_back", "cancelled"];

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn world(target: &str, sshd: Option<&Sshd>) -> World {
    let world = World::new();
    fs::create_dir(world.path("effects")).unwrap();
    let program = world.path("operator");
    fs::write(&program, OPERATOR).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let (program, file) = (program.display().to_string(), file(&world).display().to_string());
    let command = |what: &str| format!("['{program}', '{what}', '{file}']");
    let rules = match target {
        "command" => format!(
            "target = 'command'\nwritable = ['{}']\n[deploy.environments.dev.commands]\nvalidate = {}\ndeploy = {}\nverify = {}\nrollback = {}\n",
            world.path("effects").display(),
            command("validate"),
            command("deploy"),
            command("verify"),
            command("rollback")
        ),
        "ssh" => format!(
            "reload = ['{program}', 'reload', '{file}', '{{release}}']\nhealth = {{ command = ['{{release}}/check'] }}\n"
        ),
        _ => format!("reload = {}\nhealth = {{ command = ['{{release}}/check'] }}\n", command("reload")),
    };
    world.configure(&match sshd {
        Some(sshd) => sshd.environment(&world, "known", &rules),
        None => format!("[deploy.environments.dev]\npath = 'targets/dev/{{service}}'\n{rules}"),
    });
    world
}

/// What the target's programs change.
fn file(world: &World) -> PathBuf {
    world.path("effects/world")
}

/// Waits until a program of the target is where the server is to be killed.
async fn paused(world: &World) {
    while fs::remove_file(world.path("effects/world.here")).is_err() {
        sleep(Duration::from_millis(2)).await;
    }
}

/// Returns the history once nobody has the turn any more: what the killed server ran may take a moment to end.
async fn settled(server: &McpProcess) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let states = history(server, "dev").await;
        let is_under_way = states.iter().any(|line| !ENDED.iter().any(|ended| line.ends_with(ended)));
        if !is_under_way || begun.elapsed() > Duration::from_secs(20) {
            return states;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// How the deployments of the rounds ended, by their states.
type Seen = BTreeMap<String, u32>;

/// Goes through the rounds in as many worlds as are wanted.
async fn matrix(target: &'static str, kills: &'static [&'static str]) {
    let (rounds, worlds) = (number("TOLLGATE_CRASH_ROUNDS", 16), number("TOLLGATE_CRASH_WORLDS", 1).max(1));
    let seed = number("TOLLGATE_CRASH_SEED", 0x7011_6a7e);
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for world in 0..worlds {
        let sshd = if target == "ssh" {
            let Some(sshd) = Sshd::start() else { return };
            Some(sshd)
        } else {
            None
        };
        let mine = rounds / worlds + u64::from(world < rounds % worlds);
        let random = Random(seed ^ world.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        running.spawn(async move { survived(target, kills, sshd.as_ref(), random, mine).await });
    }
    let mut all = Seen::new();
    while let Some(ended) = running.join_next().await {
        for (state, count) in ended.unwrap() {
            *all.entry(state).or_default() += count;
        }
    }
    eprintln!("{target}: {rounds} rounds in {worlds} worlds, seed {seed:#x}, {:?}: {all:?}", begun.elapsed());
}

/// Goes through `rounds` rounds in one world.
async fn survived(target: &str, kills: &[&str], sshd: Option<&Sshd>, mut random: Random, rounds: u64) -> Seen {
    let world = world(target, sshd);
    let mut seen = Seen::new();
    // How long a whole one takes, here and now: the kills are spread over that, and a little longer.
    world.build("dist", "first", "exit 0");
    let server = world.start();
    server.tools().await;
    let begun = Instant::now();
    server.ok("deploy", dist("dev", "first")).await;
    let mut whole = begun.elapsed();
    let mut live = Some("first".to_owned());
    drop(server);
    for round in 0..rounds {
        if round > 0 && round % 25 == 0 {
            eprintln!("{target}: {round} of {rounds} rounds in one world: {seen:?}");
        }
        let sick = random.below(3) == 0;
        let version = format!("{round}{}", if sick { "-sick" } else { "" });
        world.build("dist", &version, if sick { "exit 1" } else { "exit 0" });
        // Every other round dies in a program of the target, the others at any instant.
        let kill = (round % 2 == 0).then(|| kills[usize::try_from(round / 2).unwrap() % kills.len()]);
        let marker = world.path("effects/world.kill");
        match kill {
            Some(kill) => fs::write(&marker, kill).unwrap(),
            None => drop(fs::remove_file(&marker)),
        }
        let mut server = world.start();
        server.tools().await;
        let longest = Duration::from_micros(if kill.is_some() {
            20_000_000
        } else {
            random.below(u64::try_from(whole.as_micros()).unwrap() * 3 / 2)
        });
        let (begun, mut has_ended) = (Instant::now(), false);
        {
            let deploying = server.try_call("deploy", dist("dev", &version), Map::new());
            tokio::select! {
                _ = deploying => has_ended = true,
                () = sleep(longest) => {}
                () = paused(&world) => {}
            }
        }
        if has_ended && !sick {
            whole = begun.elapsed();
        } else if !has_ended && kill.is_none() && longest > whole {
            // It takes longer by now.
            whole = whole * 5 / 4;
        }
        server.kill().await;
        let _ = fs::remove_file(&marker);

        let server = world.start();
        let states = settled(&server).await;
        let about = format!("{target} round {round} ({kill:?}): {states:?}");
        let mine: Vec<&String> = states.iter().filter(|line| line.starts_with(&format!("{version} "))).collect();
        assert!(mine.len() <= 1, "deployed twice: {about}");
        let state = mine.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("nothing").to_owned();
        assert!(["nothing", "live", "failed", "rolled_back"].contains(&state.as_str()), "{about}");
        if state == "live" {
            assert!(!sick, "an unhealthy release is live: {about}");
            live = Some(version);
        }
        *seen.entry(state).or_default() += 1;
        assert_eq!(world.current("dev"), live, "{about}");
        // The history may be longer than an answer; what is live is always told.
        let status = server.ok("deployment_status", json!({"environment": "dev"})).await;
        let lives: Vec<_> = status["live"].as_array().unwrap().iter().map(|one| one["version"].as_str()).collect();
        assert_eq!(lives, live.iter().map(|version| Some(version.as_str())).collect::<Vec<_>>(), "{about}");
        // What the target was brought to is what the history says.
        let there = fs::read_to_string(file(&world)).unwrap_or_default();
        let expected = live.as_deref().unwrap_or("nothing");
        if sshd.is_some() {
            let remote = fs::read_to_string(world.path("remote/its own/shop/current/content")).ok();
            assert_eq!(remote, live, "the other host: {about}");
            // Where nothing is current there, nothing is told of it.
            if live.is_none() {
                continue;
            }
        }
        assert!(there.trim() == expected || (there.is_empty() && live.is_none()), "{there:?} runs: {about}");
    }
    world.build("dist", "last", "exit 0");
    let server = world.start();
    server.ok("deploy", dist("dev", "last")).await;
    assert!(world.releases("dev").iter().all(|name| !name.starts_with('.')), "{:?}", world.releases("dev"));
    let status = server.ok("deployment_status", json!({"environment": "dev"})).await;
    assert_eq!(status["live"][0].get("current"), None);
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn release_directory_with_reload_survives_every_kill() {
    matrix("release-directory", &["before-reload", "after-reload"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn command_target_survives_every_kill() {
    const KILLS: [&str; 8] = [
        "before-validate",
        "after-validate",
        "before-deploy",
        "after-deploy",
        "before-verify",
        "after-verify",
        "before-rollback",
        "after-rollback",
    ];
    matrix("command", &KILLS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_host_survives_every_kill() {
    matrix("ssh", &["before-reload", "after-reload"]).await;
}
