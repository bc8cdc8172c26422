//! Every target over the same machine: forward, unhealthy, back, and what its programs do wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tollgate_tests::mcp_process::McpProcess;

use super::sshd::Sshd;
use super::world::{World, dist, history};

/// A program of the operator's that does what it is told to the file `effects/world` beside the workspace.
const OPERATOR: &str = r#"#!/bin/sh
# usage: operator WHAT FILE
set -e
content() { if [ -n "$TOLLGATE_RELEASE" ]; then cat "$TOLLGATE_RELEASE/content"; else echo nothing; fi; }
echo "$1 $(content)" >> "$2.log"
case "$1" in
validate) ! grep -q invalid "$TOLLGATE_RELEASE/content" ;;
deploy) grep -q broken "$TOLLGATE_RELEASE/content" && { echo half > "$2"; exit 7; }; content > "$2" ;;
rollback) content > "$2" ;;
verify) [ "$(cat "$2")" = "$(content)" ] && ! grep -q sick "$TOLLGATE_RELEASE/content" ;;
esac
"#;

fn script(world: &World, name: &str, text: &str) -> String {
    let path = world.path(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn command_target(world: &World) -> String {
    fs::create_dir(world.path("effects")).unwrap();
    let (program, file) = (script(world, "operator", OPERATOR), world.path("effects/world").display().to_string());
    let command = |what: &str| format!("{what} = ['{program}', '{what}', '{file}']");
    format!(
        "[deploy.environments.dev]\ntarget = 'command'\npath = 'targets/dev/{{service}}'\nwritable = ['{}']\n\
         [deploy.environments.dev.commands]\n{}\n{}\n{}\n{}\n",
        world.path("effects").display(),
        command("validate"),
        command("deploy"),
        command("verify"),
        command("rollback")
    )
}

async fn deploy(world: &World, server: &McpProcess, content: &str) -> String {
    world.build("dist", content, "exit 0");
    let called = server.call("deploy", dist("dev", content)).await;
    called.structured["error"]["code"].as_str().unwrap_or("live").to_owned()
}

#[tokio::test]
async fn command_target_is_brought_forward_and_back() {
    let world = World::new();
    world.configure(&command_target(&world));
    let server = world.start();
    let there = || fs::read_to_string(world.path("effects/world")).unwrap_or_default().trim().to_owned();
    assert_eq!(deploy(&world, &server, "1-sick").await, "health_check_failed");
    assert_eq!((there(), world.current("dev")), ("nothing".into(), None), "there was nothing before");
    assert_eq!(deploy(&world, &server, "2").await, "live");
    assert_eq!(there(), "2");
    assert_eq!(deploy(&world, &server, "3-invalid").await, "validation_failed");
    assert_eq!(deploy(&world, &server, "4-broken").await, "target_failed");
    assert_eq!((there(), world.current("dev").as_deref()), ("2".into(), Some("2")), "half a deployment was undone");
    assert_eq!(deploy(&world, &server, "5-sick").await, "health_check_failed");
    assert_eq!((there(), world.current("dev").as_deref()), ("2".into(), Some("2")));
    assert_eq!(deploy(&world, &server, "6").await, "live");
    server.ok("rollback", json!({"environment": "dev", "service": "shop"})).await;
    assert_eq!((there(), world.current("dev").as_deref()), ("2".into(), Some("2")));
    let states = history(&server, "dev").await;
    assert_eq!(
        states,
        [
            "2 live",
            "6 rolled_back",
            "5-sick rolled_back",
            "4-broken failed",
            "3-invalid failed",
            "2 superseded",
            "1-sick rolled_back"
        ]
    );
    let log = fs::read_to_string(world.path("effects/world.log")).unwrap();
    assert!(!log.contains("deploy 3-invalid"), "what is not valid is not deployed: {log}");
}

#[tokio::test]
async fn commands_are_killed_when_they_hang_and_so_are_their_daemons() {
    let world = World::new();
    let hang = script(
        &world,
        "hang",
        "#!/bin/sh\ngrep -q hang $TOLLGATE_RELEASE/content && { sleep 60 & sleep 60; }\nexit 0\n",
    );
    // It leaves the group and keeps the output open, as a service does that was started badly.
    let daemon = script(&world, "daemon", "#!/bin/sh\nsetsid sleep 20.0625 &\necho started\n");
    world.configure(&format!(
        "[deploy.environments.dev]\npath = 'targets/dev/{{service}}'\nreload = ['{hang}']\ncommand_timeout_ms = 500\n\
         [deploy.environments.staging]\npath = 'targets/staging/{{service}}'\nreload = ['{daemon}']\n"
    ));
    let server = world.start();
    assert_eq!(deploy(&world, &server, "1").await, "live");
    let begun = Instant::now();
    assert_eq!(deploy(&world, &server, "2-hang").await, "target_failed");
    assert_eq!(world.current("dev").as_deref(), Some("1"));
    world.build("dist", "3", "exit 0");
    server.ok("deploy", dist("staging", "3")).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "a daemon was waited for");
    let left = Command::new("pgrep").args(["-f", "^sleep 20.0625"]).output().unwrap();
    assert!(left.stdout.is_empty(), "a daemon outlives the program that started it");
}

#[tokio::test]
async fn commands_before_the_switch_change_nothing() {
    let world = World::new();
    let script = script(
        &world,
        "before",
        "#!/bin/sh\necho out\ngrep -q refuse content && exit 3\ngrep -q meddle content && echo evil > content\nexit 0\n",
    );
    let rules = format!("[deploy.environments.dev]\npath = 'targets/dev/{{service}}'\nbefore = [['{script}']]\n");
    world.configure(&rules);
    let server = world.start();
    assert_eq!(deploy(&world, &server, "1").await, "live");
    assert_eq!(deploy(&world, &server, "2-refuse").await, "pre_deploy_failed");
    assert_eq!(deploy(&world, &server, "3-meddle").await, "live", "nothing can be written there");
    assert_eq!(world.current("dev").as_deref(), Some("3-meddle"));
    drop(server);

    world.configure(&format!("{rules}sandbox = 'none'\n"));
    let server = world.start();
    assert_eq!(deploy(&world, &server, "4-meddle").await, "release_damaged");
    assert_eq!(world.current("dev").as_deref(), Some("3-meddle"));
}

#[tokio::test]
async fn commands_in_the_sandbox_reach_what_they_are_given_and_nothing_else() {
    let world = World::new();
    for folder in ["effects", "given", "secret"] {
        fs::create_dir(world.path(folder)).unwrap();
    }
    fs::write(world.path("given/data"), "given").unwrap();
    fs::write(world.path("secret/key"), "secret").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Each try that succeeds is a line; what is to work comes last.
    let text = format!(
        r#"#!/bin/bash
cd "$(dirname "$TOLLGATE_CURRENT")"
tried() {{ echo "$TOLLGATE_VERSION $1" >> '{effects}/log'; }}
cat '{secret}/key' >/dev/null 2>&1 && tried secret
cat '{state}/'*.db >/dev/null 2>&1 && tried state
cat "$HOME/.ssh/"* >/dev/null 2>&1 && tried home
echo evil 2>/dev/null > '{secret}/new' && tried write
echo evil 2>/dev/null > "$TOLLGATE_RELEASE/content" && tried release
ln -sfn /tmp current 2>/dev/null && tried current
(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && tried network
kill -0 {pid} 2>/dev/null && tried process
[ "$(cat '{given}/data')" = given ] && [ -n "$(cat "$TOLLGATE_RELEASE/content")" ] && echo x > "$TMPDIR/x" && tried done
exit 0
"#,
        effects = world.path("effects").display(),
        secret = world.path("secret").display(),
        given = world.path("given").display(),
        state = world.path("work/.tollgate").display(),
        pid = std::process::id(),
    );
    let (program, effects) = (script(&world, "operator", &text), world.path("effects").display().to_string());
    let rules = |more: &str| {
        format!(
            "[deploy.environments.dev]\ntarget = 'command'\npath = 'targets/dev/{{service}}'\n{more}\
             before = [['{program}']]\n[deploy.environments.dev.commands]\ndeploy = ['{program}']\n"
        )
    };
    let given = format!("readable = ['{}']\nwritable = ['{effects}']\n", world.path("given").display());
    let log = || fs::read_to_string(world.path("effects/log")).unwrap_or_default();
    for (version, more, expected) in [
        ("1", given.clone(), "1 done\n1 done\n"),
        ("2", format!("{given}network = true\n"), "2 network\n2 done\n2 network\n2 done\n"),
    ] {
        fs::write(world.path("effects/log"), "").unwrap();
        world.configure(&rules(&more));
        assert_eq!(deploy(&world, &world.start(), version).await, "live");
        assert_eq!(log(), expected);
    }
    // Without the sandbox every try that the account allows succeeds: the tries are real.
    fs::write(world.path("effects/log"), "").unwrap();
    world.configure(&rules("sandbox = 'none'\n"));
    assert_eq!(deploy(&world, &world.start(), "3").await, "release_damaged");
    for word in ["secret", "state", "write", "release", "current", "network", "process", "done"] {
        assert!(log().contains(&format!("3 {word}\n")), "{word} was not tried: {}", log());
    }
}

#[tokio::test]
async fn compose_gets_the_commands_that_docker_has() {
    // Beside `compose.rs`, where Docker runs: what the program is called with, in which order.
    let world = World::new();
    let log = world.path("log").display().to_string();
    let docker = script(
        &world,
        "docker",
        &format!(
            "#!/bin/sh\necho \"$@\" | sed 's#[^ ]*/releases/##g' >> '{log}'\ncase \"$*\" in *' up '*broken*|*broken*' up '*) exit 1;; esac\nexit 0\n"
        ),
    );
    world.configure(&format!(
        "[deploy.environments.dev]\ntarget = 'docker-compose'\npath = 'targets/dev/{{service}}'\n\
         compose = {{ program = ['{docker}', 'compose'] }}\n"
    ));
    let server = world.start();
    assert_eq!(deploy(&world, &server, "0-broken").await, "target_failed");
    assert_eq!(deploy(&world, &server, "1").await, "live");
    assert_eq!(deploy(&world, &server, "2-broken").await, "target_failed");
    assert_eq!(world.current("dev").as_deref(), Some("1"));
    let said = fs::read_to_string(&log).unwrap();
    let verbs: Vec<String> = said
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(&words[..3], ["compose", "--project-name", "shop-dev"], "{line}");
            let verb = words.iter().find(|word| ["config", "up", "down"].contains(word)).unwrap();
            let release = words.iter().find_map(|word| word.rsplit_once('-').map(|(version, _)| version)).unwrap_or("");
            let version =
                if *verb == "down" { "" } else { words[4].rsplit_once('-').map_or(release, |(version, _)| version) };
            format!("{verb} {version}")
        })
        .collect();
    assert_eq!(
        verbs,
        ["config 0-broken", "up 0-broken", "down ", "config 1", "up 1", "config 2-broken", "up 2-broken", "up 1"],
        "{said}"
    );
}

#[tokio::test]
async fn kubernetes_gets_the_commands_that_kubectl_has() {
    // Beside `kubernetes.rs`, where kubectl runs: what the program is called with, in which order.
    let world = World::new();
    let log = world.path("log").display().to_string();
    let kubectl = script(
        &world,
        "kubectl",
        &format!(
            "#!/bin/sh\necho \"$@\" | sed 's#[^ ]*/releases/##g' >> '{log}'\n\
             case \"$*\" in *dry-run*invalid*) exit 1;; esac\n\
             case \"$*\" in *'rollout status'*) case \"$TOLLGATE_VERSION\" in *stuck*) exit 1;; esac;; esac\nexit 0\n"
        ),
    );
    world.configure(&format!(
        "[deploy.environments.dev]\ntarget = 'kubernetes'\npath = 'targets/dev/{{service}}'\n\
         [deploy.environments.dev.kubernetes]\nprogram = ['{kubectl}']\ncontext = 'c'\nnamespace = 'n'\n\
         rollout = ['deployment/{{service}}']\n"
    ));
    let server = world.start();
    assert_eq!(deploy(&world, &server, "0-stuck").await, "health_check_failed");
    assert_eq!(world.current("dev"), None);
    assert_eq!(deploy(&world, &server, "1").await, "live");
    assert_eq!(deploy(&world, &server, "2-invalid").await, "validation_failed");
    assert_eq!(deploy(&world, &server, "3-stuck").await, "health_check_failed");
    assert_eq!(world.current("dev").as_deref(), Some("1"));
    let said = fs::read_to_string(&log).unwrap();
    let calls: Vec<String> = said
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(&words[..2], ["--context=c", "--namespace=n"], "{line}");
            let tries = if words.contains(&"--dry-run=server") { "try " } else { "" };
            assert_eq!(words[2] == "apply", words.contains(&"--server-side"), "{line}");
            let release = words[words.len() - 1].split('-').next().unwrap();
            match words[2] {
                "rollout" => format!("{} {}", words[3], words[4]),
                verb => format!("{tries}{verb} {release}"),
            }
        })
        .collect();
    let expected = [
        ["try apply 0", "apply 0", "status deployment/shop", "delete 0"].as_slice(),
        &["try apply 1", "apply 1", "status deployment/shop"],
        &["try apply 2"],
        &["try apply 3", "apply 3", "status deployment/shop", "apply 1"],
    ];
    assert_eq!(calls, expected.concat(), "{said}");
}

/// Rules of an environment on another host, whose service reads its release anew.
const RELOADED: &str = "keep = 2\nreload = ['cp', '{current}/content', '{current}/../../loaded by ssh']\n\
                        health = { command = ['{release}/check'] }";

#[tokio::test]
async fn release_goes_to_another_host_and_back() {
    let Some(sshd) = Sshd::start() else { return };
    let world = World::new();
    world.configure(&sshd.environment(&world, "known", RELOADED));
    let server = world.start();
    let remote = world.path("remote/its own/shop");
    let there = || fs::read_to_string(remote.join("current/content")).unwrap_or_default();
    let loaded = || fs::read_to_string(remote.join("loaded by ssh")).unwrap_or_default();
    assert_eq!(deploy(&world, &server, "1").await, "live");
    assert_eq!((there(), loaded()), ("1".into(), "1".into()));
    assert_eq!(fs::metadata(remote.join("current/check")).unwrap().permissions().mode() & 0o777, 0o755);
    world.build("dist", "2", "exit 1");
    assert_eq!(server.refused("deploy", dist("dev", "2")).await["code"], "health_check_failed");
    assert_eq!((there(), loaded()), ("1".into(), "1".into()), "the other host went back too");
    assert_eq!(deploy(&world, &server, "3").await, "live");
    server.ok("rollback", json!({"environment": "dev", "service": "shop"})).await;
    assert_eq!((there(), world.current("dev").as_deref()), ("1".into(), Some("1")));
    // What somebody changed over there is put right before it is current.
    fs::write(remote.join("current/content"), "evil").unwrap();
    for version in ["4", "5", "6"] {
        assert_eq!(deploy(&world, &server, version).await, "live");
    }
    assert_eq!(there(), "6");
    let kept = fs::read_dir(remote.join("releases")).unwrap().count();
    assert!(kept <= 4, "{kept} releases are kept over there");
}

/// Loses the connection of one switch, which the file `late` asks for, and keeps what was sent with it.
const LATE: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
for part; do last=$part; done
case $last in *"ln -s"*) if rm late 2>/dev/null; then printf '%s\0' "$@" >sent; exit 255; fi ;; esac
exec ssh "$@"
"#;

/// What a connection that was lost had sent may begin on the other host at any time after that.
#[tokio::test]
async fn what_was_sent_earlier_changes_nothing_on_another_host_later() {
    let Some(sshd) = Sshd::start() else { return };
    let world = World::new();
    let late = script(&world, "late-ssh", LATE);
    let environment = sshd.environment(&world, "known", RELOADED);
    world.configure(&environment.replace("\nhost = ", &format!("\nprogram = ['{late}']\nhost = ")));
    let server = world.start();
    let there = || fs::read_to_string(world.path("remote/its own/shop/current/content")).unwrap_or_default();
    assert_eq!(deploy(&world, &server, "1").await, "live");
    fs::write(world.path("late"), "").unwrap();
    assert_eq!(deploy(&world, &server, "2").await, "target_failed");
    assert_eq!((there(), world.current("dev").as_deref()), ("1".into(), Some("1")));
    let sent = fs::File::open(world.path("sent")).unwrap();
    let replayed = Command::new("xargs").args(["-0", "ssh"]).stdin(sent).output().unwrap();
    let said = String::from_utf8_lossy(&replayed.stdout);
    assert!(!replayed.status.success() && said.contains("something later"), "{replayed:?}");
    assert_eq!(there(), "1");
    assert_eq!(deploy(&world, &server, "3").await, "live");
    assert_eq!(there(), "3");
}

#[tokio::test]
async fn host_that_is_not_known_gets_nothing() {
    let Some(sshd) = Sshd::start() else { return };
    let world = World::new();
    world.configure(&sshd.environment(&world, "nothing-known", RELOADED));
    let server = world.start();
    assert_eq!(deploy(&world, &server, "1").await, "target_failed");
    assert!(!world.path("remote").exists());
    assert_eq!(world.current("dev"), None);
}
