//! People approve, and nobody else.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};
use tollgate_tests::mcp_process::McpProcess;
use tollgate_tests::world::program;

use super::people::{PRODUCTION, People, approved, decisions, desk, last_decision, request, terms};
use super::world::{World, dist, history};
use crate::terminal::Terminal;

async fn tamper(world: &World, sql: &'static str) {
    let file = world.work().join(".tollgate/deploy.db");
    let mut connection = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn code(server: &McpProcess, arguments: Value) -> String {
    server.refused("deploy", arguments).await["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn approved_deployment_goes_live_once() {
    let world = World::configured(PRODUCTION);
    let people = People::new(&["alice"]);
    people.let_approve(&world, &[("alice@example.com", "alice")]);
    let server = world.start();
    let id = request(&server, "1.0").await;
    let listed = desk(&world, &["approvals"], b"");
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains(&id) && listed.contains("0 of 1 approvals"), "{listed}");

    people.approve(&world, &id, "alice");
    let status = server.ok("deployment_status", json!({"id": id})).await;
    assert_eq!(status["deployments"][0]["state"], "approved");
    assert!(!world.target("prod").exists(), "an approval alone does nothing");

    let deployed = server.call("deploy", dist("prod", "1.0")).await;
    assert_eq!(deployed.structured["state"], "live", "{}", deployed.structured);
    assert_eq!(deployed.structured["id"], id.as_str(), "what was asked for is what is live");
    assert_eq!(deployed.receipt.amount.to_string(), "0.025");
    assert_eq!(world.current("prod").as_deref(), Some("1.0"));
    let all = decisions(&world).await;
    let actions: Vec<&str> = all.iter().map(|one| one.action.as_str()).collect();
    assert_eq!(actions, ["refused", "approved", "approval_used", "deployed"]);
    assert_eq!(all[1].agent.name, "alice@example.com");
    assert_eq!(all[2].detail["approvers"][0]["person"], "alice@example.com");

    // The next release needs the next approval, and the one after going back too.
    world.build("dist", "2.0", "exit 0");
    let next = request(&server, "2.0").await;
    assert_ne!(next, id);
    people.approve(&world, &next, "alice");
    server.ok("deploy", dist("prod", "2.0")).await;
    world.build("dist", "1.0", "exit 0");
    assert_ne!(request(&server, "1.0").await, id, "an approval is used once");
    assert_eq!(world.current("prod").as_deref(), Some("2.0"));
}

#[tokio::test]
async fn signature_is_one_that_ssh_keygen_verifies() {
    let world = World::configured(PRODUCTION);
    let people = People::new(&["alice"]);
    people.make_key("bob", &["-t", "ecdsa", "-b", "256"]);
    people.let_approve(&world, &[("alice", "alice"), ("bob", "bob")]);
    let server = world.start();
    for (version, person) in [("1.0", "alice"), ("2.0", "bob")] {
        world.build("dist", version, "exit 0");
        let id = request(&server, version).await;
        let text = terms(&world, &id);
        people.approve(&world, &id, person);
        let (action, _, detail) = last_decision(&world).await;
        assert_eq!(action, "approved");
        assert_eq!(detail["terms"].as_str().unwrap().as_bytes(), text);
        let signature = world.path("signature");
        fs::write(&signature, detail["signature"].as_str().unwrap()).unwrap();
        let verify = |namespace: &str, text: &[u8]| {
            let mut child = Command::new("ssh-keygen")
                .args(["-Y", "verify", "-n", namespace, "-I", person, "-f"])
                .arg(world.work().join("approvers"))
                .arg("-s")
                .arg(&signature)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(text).unwrap();
            child.wait().unwrap().success()
        };
        assert!(verify("tollgate-deploy", &text));
        assert!(!verify("git", &text));
        assert!(!verify("tollgate-deploy", &[&text[..], b" "].concat()));
        server.ok("deploy", dist("prod", version)).await;
    }
}

#[tokio::test]
async fn person_approves_in_a_terminal_with_a_key_of_an_agent() {
    let world = World::configured(PRODUCTION);
    let people = People::new(&["alice", "stranger"]);
    people.let_approve(&world, &[("alice", "alice")]);
    let server = world.start();
    let id = request(&server, "1.0").await;
    // An agent with two keys, of which one may approve; everything in it ends with the script.
    let script = format!(
        "ssh-add -q {} {} && {} approve {id}",
        people.key("stranger").display(),
        people.key("alice").display(),
        program("mcp-deploy").display()
    );
    let terminal = Terminal::open();
    let mut child = Command::new("timeout")
        .args(["60", "ssh-agent", "sh", "-c", &script])
        .current_dir(world.work())
        .env_remove("TOLLGATE_CONFIG")
        .env_remove("TOLLGATE_STATE_DIR")
        .stdin(terminal.side())
        .stdout(terminal.side())
        .stderr(terminal.side())
        .spawn()
        .unwrap();
    terminal.type_line("1.0");
    let status = child.wait().unwrap();
    let said = terminal.shown();
    assert!(status.success(), "{said}");
    for expected in ["deploy shop 1.0 to prod", "+ content", "+ data/deep/file", "steps", "alice approved", "once"] {
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
    server.ok("deploy", dist("prod", "1.0")).await;
    assert_eq!(world.current("prod").as_deref(), Some("1.0"));
}

#[tokio::test]
async fn person_may_deny() {
    let (world, _people, server, id) = approved().await;
    assert!(desk(&world, &["deny", &id, "--reason", "not \x1b[2J on Fridays"], b"").status.success());
    let status = server.ok("deployment_status", json!({"id": id})).await;
    assert_eq!(status["deployments"][0]["state"], "cancelled");
    let reason = status["deployments"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("on Fridays") && !reason.contains('\x1b'), "{reason}");
    assert_eq!(last_decision(&world).await.0, "denied");
    assert_ne!(request(&server, "1.0").await, id, "what was denied is not approved by having been signed before");
    let late = desk(&world, &["deny", &id], b"");
    assert_eq!(late.status.code(), Some(1), "it ended already");
}

#[tokio::test]
async fn signatures_that_are_attacks_are_refused() {
    let world = World::configured(PRODUCTION);
    let people = People::new(&["alice", "mallory", "tester", "old"]);
    fs::write(
        world.work().join("approvers"),
        format!(
            "alice {}\ntester {}\nold valid-before=\"20200101Z\" {}\n",
            people.public("alice"),
            people.public("tester"),
            people.public("old")
        ),
    )
    .unwrap();
    let server = world.start();
    let earlier = request(&server, "0.9").await;
    let earlier = people.sign("alice", "tollgate-deploy", &terms(&world, &earlier));
    let id = request(&server, "1.0").await;
    let text = terms(&world, &id);
    let sign = |key: &str, text: &[u8]| people.sign(key, "tollgate-deploy", text);
    let replaced = |from: &str, to: &str| {
        let changed = String::from_utf8(text.clone()).unwrap().replacen(from, to, 1);
        assert_ne!(changed.as_bytes(), text);
        sign("alice", changed.as_bytes())
    };
    let good = String::from_utf8(sign("alice", &text)).unwrap();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", Vec::new(), "signature_invalid"),
        ("a word", b"approved".to_vec(), "signature_invalid"),
        ("bytes", vec![0xff; 200], "signature_invalid"),
        ("too much", vec![b'a'; 1_000_000], "signature_invalid"),
        ("half", good.as_bytes()[..good.len() / 2].to_vec(), "signature_invalid"),
        ("another armour", good.replace("SSH SIGNATURE", "PGP SIGNATURE").into_bytes(), "signature_invalid"),
        ("a replay", earlier, "signature_invalid"),
        ("of a commit", people.sign("alice", "git", &text), "signature_invalid"),
        ("of a file", people.sign("alice", "file", &text), "signature_invalid"),
        ("almost the namespace", people.sign("alice", "Tollgate-deploy", &text), "signature_invalid"),
        ("one byte more", sign("alice", &[&text[..], b"\n"].concat()), "signature_invalid"),
        ("one byte less", sign("alice", &text[..text.len() - 1]), "signature_invalid"),
        ("another version", replaced("version: 1.0", "version: 1.1"), "signature_invalid"),
        ("another environment", replaced("environment: prod", "environment: dev"), "signature_invalid"),
        ("another service", replaced("service: shop", "service: shop2"), "signature_invalid"),
        ("another requester", replaced("\"tester\"", "\"other\""), "signature_invalid"),
        ("no previous", replaced("previous: none", "previous: 0.9-000000000000"), "signature_invalid"),
        ("a longer life", replaced("expires: 2", "expires: 3"), "signature_invalid"),
        ("another format", replaced("approval 2", "approval 1"), "signature_invalid"),
        ("a stranger's", sign("mallory", &text), "not_an_approver"),
        ("an old key's", sign("old", &text), "not_an_approver"),
        ("the requester's own", sign("tester", &text), "self_approval"),
    ];
    let before = world.snapshot();
    for (what, signature, expected) in cases {
        let said = people.submit(&world, &id, &signature);
        assert_eq!(said.status.code(), Some(1), "{what} was taken");
        let error = String::from_utf8_lossy(&said.stderr);
        assert!(error.contains(expected), "{what}: {error}");
        let (action, code, _) = last_decision(&world).await;
        assert_eq!((action.as_str(), code.as_deref()), ("refused", Some(expected)), "{what}");
        assert_eq!(code_of(&server, "1.0").await, "approval_required", "{what}");
    }
    for id in ["", "x", "%", "' OR 1=1", "01980000-0000-7000-8000-000000000000"] {
        let said = desk(&world, &["approve", id, "--signature", "-"], good.as_bytes());
        assert_eq!(said.status.code(), Some(1), "{id}");
        assert!(String::from_utf8_lossy(&said.stderr).contains("unknown_deployment"), "{id}");
    }
    // Without a terminal nobody is asked and nothing is signed.
    let said = desk(&world, &["approve", &id, "--key", people.key("alice").to_str().unwrap()], b"1.0\n");
    assert!(!said.status.success() && String::from_utf8_lossy(&said.stderr).contains("terminal"));
    assert!(world.snapshot() == before);
    // And the true one is taken, whoever carries it.
    assert!(people.submit(&world, &id, good.as_bytes()).status.success());
    server.ok("deploy", dist("prod", "1.0")).await;
}

async fn code_of(server: &McpProcess, version: &str) -> String {
    code(server, dist("prod", version)).await
}

#[tokio::test]
async fn whatever_changes_after_the_approval_voids_it() {
    let changes: [(&str, &dyn Fn(&World, &People)); 7] = [
        ("the artifact", &|world, _| world.build("dist", "1.O", "exit 0")),
        ("a mode", &|world, _| {
            fs::set_permissions(world.work().join("dist/content"), fs::Permissions::from_mode(0o755)).unwrap();
        }),
        ("one more file", &|world, _| fs::write(world.work().join("dist/more"), "").unwrap()),
        ("the health check", &|world, _| world.configure(&PRODUCTION.replace("5000", "5001"))),
        ("how many must approve", &|world, _| {
            world.configure(&PRODUCTION.replace("approvals = 1", "approvals = 2"));
        }),
        ("where it goes", &|world, _| world.configure(&PRODUCTION.replace("targets/prod", "targets/prod2"))),
        ("who may approve", &|world, people| people.let_approve(world, &[("alice", "alice"), ("bob", "bob")])),
    ];
    for (what, change) in changes {
        let world = World::configured(PRODUCTION);
        let people = People::new(&["alice", "bob"]);
        people.let_approve(&world, &[("alice", "alice")]);
        let mut server = world.start();
        let id = request(&server, "1.0").await;
        people.approve(&world, &id, "alice");
        change(&world, &people);
        server.close().await;
        let server = world.start();
        let before = world.snapshot();
        assert_ne!(request(&server, "1.0").await, id, "{what}");
        assert!(world.snapshot() == before, "{what}");
        let voided: Vec<String> = decisions(&world).await.into_iter().map(|one| one.action).collect();
        let artifact = ["the artifact", "a mode", "one more file"].contains(&what);
        assert_eq!(voided.contains(&"approval_voided".to_owned()), !artifact, "{what}: {voided:?}");
    }
}

#[tokio::test]
async fn approval_is_for_what_is_current_then() {
    let world = World::configured(PRODUCTION);
    let people = People::new(&["alice"]);
    people.let_approve(&world, &[("alice", "alice")]);
    let server = world.start();
    world.build("other", "0.9", "exit 0");
    let id = request(&server, "1.0").await;
    people.approve(&world, &id, "alice");
    let other = json!({"environment": "prod", "service": "shop", "version": "0.9", "artifact": "other"});
    let refused = server.call("deploy", other.clone()).await;
    people.approve(&world, refused.structured["id"].as_str().unwrap(), "alice");
    server.ok("deploy", other).await;
    assert_ne!(request(&server, "1.0").await, id, "it was approved as the first release");
    assert_eq!(world.current("prod").as_deref(), Some("0.9"));
    let late = desk(&world, &["approve", &id, "--print"], b"");
    assert!(!late.status.success());
}

#[tokio::test]
async fn approval_is_for_who_asked() {
    let (world, _people, server, id) = approved().await;
    for variables in [
        &[("TOLLGATE_AGENT", "mallory")][..],
        &[("TOLLGATE_AGENT", "tester"), ("TOLLGATE_TASK", "TASK-9")],
        &[("TOLLGATE_AGENT", "Tester")],
    ] {
        let other = McpProcess::start("mcp-deploy", &world.work(), &[], variables);
        assert_ne!(request(&other, "1.0").await, id, "{variables:?}");
    }
    server.ok("deploy", dist("prod", "1.0")).await;
}

#[tokio::test]
async fn history_that_was_written_by_hand_approves_nothing() {
    let forgeries = [
        "UPDATE deployment SET state = 'approved' WHERE state = 'awaiting_approval'",
        "UPDATE deployment SET state = 'approved' WHERE state = 'awaiting_approval';
         INSERT INTO approval_vote SELECT id, 'alice', 'SHA256:x', 'signed', '2026-01-01T00:00:00Z' FROM deployment",
        "DROP TRIGGER approval_request_is_not_changed;
         UPDATE approval_request SET expires_at = '2099-01-01T00:00:00Z'",
        "DROP TRIGGER approval_request_is_not_changed; UPDATE approval_request SET terms = 'anything'",
        "DROP TRIGGER approval_request_is_not_changed; UPDATE approval_request SET nonce = 'chosen'",
        "UPDATE deployment SET agent = 'alice'",
    ];
    for forgery in forgeries {
        let world = World::configured(PRODUCTION);
        let people = People::new(&["alice"]);
        people.let_approve(&world, &[("alice", "alice")]);
        let server = world.start();
        request(&server, "1.0").await;
        drop(server);
        tamper(&world, forgery).await;
        let server = world.start();
        assert_eq!(code_of(&server, "1.0").await, "approval_required", "{forgery}");
        assert!(!world.target("prod").exists(), "{forgery}");
    }
    // A used approval that is made to look unused belongs to a deployment that has ended.
    let (world, _people, server, id) = approved().await;
    server.ok("deploy", dist("prod", "1.0")).await;
    drop(server);
    tamper(
        &world,
        "DROP TRIGGER approval_request_is_not_changed; UPDATE approval_request SET used_at = NULL;
         UPDATE deployment SET state = 'approved'",
    )
    .await;
    let server = world.start();
    let again = server.call("deploy", dist("prod", "1.0")).await;
    assert_eq!(again.structured["error"]["code"], "approval_required", "{}", again.structured);
    assert_ne!(again.structured["id"], id.as_str(), "what was current then is not what is current now");
}

#[tokio::test]
async fn expired_approvals_count_for_nothing_also_when_the_clock_goes_back() {
    let (world, people, server, id) = approved().await;
    let text = terms(&world, &id);
    // The history has seen the day after tomorrow; the machine's clock says today.
    tamper(
        &world,
        "INSERT INTO deployment (id, kind, environment, service, version, digest, release, folder, state, agent, requested_at, updated_at)
         SELECT 'x', kind, environment, 'other', version, digest, release, folder, 'failed', agent, requested_at,
             strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '+2 days') FROM deployment LIMIT 1",
    )
    .await;
    let said = people.submit(&world, &id, &people.sign("alice", "tollgate-deploy", &text));
    assert!(String::from_utf8_lossy(&said.stderr).contains("approval_void"), "{said:?}");
    assert_ne!(request(&server, "1.0").await, id);
    let status = server.ok("deployment_status", json!({"id": id})).await;
    assert_eq!(status["deployments"][0]["state"], "expired");
    assert!(decisions(&world).await.iter().any(|one| one.action == "approval_expired"));
    assert!(!world.target("prod").exists());
}

#[tokio::test]
async fn two_approvals_are_two_people() {
    let world = World::configured(&PRODUCTION.replace("approvals = 1", "approvals = 2"));
    let people = People::new(&["alice", "alice-laptop", "bob"]);
    people.let_approve(&world, &[("alice", "alice"), ("alice", "alice-laptop"), ("bob", "bob")]);
    let server = world.start();
    let id = request(&server, "1.0").await;
    people.approve(&world, &id, "alice");
    let again = people.submit(&world, &id, &people.sign("alice-laptop", "tollgate-deploy", &terms(&world, &id)));
    assert!(!again.status.success(), "one person has one vote");
    let refused = server.call("deploy", dist("prod", "1.0")).await;
    assert_eq!(refused.structured["error"]["code"], "approval_required");
    assert_eq!(refused.structured["approved_by"], json!(["alice"]));
    people.approve(&world, &id, "bob");
    server.ok("deploy", dist("prod", "1.0")).await;
}

#[tokio::test]
async fn operator_cannot_approve_what_is_asked_for_in_the_own_session() {
    let forbidden = format!("[deploy]\noperator = 'alice'\n{PRODUCTION}forbid_self_approval = true\n");
    let world = World::configured(&forbidden);
    let people = People::new(&["alice", "bob"]);
    people.let_approve(&world, &[("alice", "alice"), ("bob", "bob")]);
    let server = world.start();
    let id = request(&server, "1.0").await;
    let said = people.submit(&world, &id, &people.sign("alice", "tollgate-deploy", &terms(&world, &id)));
    assert!(String::from_utf8_lossy(&said.stderr).contains("self_approval"), "{said:?}");
    people.approve(&world, &id, "bob");
    server.ok("deploy", dist("prod", "1.0")).await;
}

#[tokio::test]
async fn two_servers_use_one_approval_once() {
    let world = World::configured(PRODUCTION);
    let people = People::new(&["alice"]);
    people.let_approve(&world, &[("alice", "alice")]);
    world.build("dist", "1.0", "sleep 0.3");
    let (left, right) = (world.start(), world.start());
    let id = request(&left, "1.0").await;
    people.approve(&world, &id, "alice");
    let (one, two) = tokio::join!(left.call("deploy", dist("prod", "1.0")), right.call("deploy", dist("prod", "1.0")));
    // The second finds it under way, or live already.
    let done = [&one, &two].into_iter().filter(|called| called.structured["unchanged"] == false).count();
    assert_eq!(done, 1, "{} {}", one.structured, two.structured);
    let lives = history(&left, "prod").await.into_iter().filter(|line| line == "1.0 live").count();
    assert_eq!(lives, 1);
    let used = decisions(&world).await.iter().filter(|entry| entry.action == "approval_used").count();
    assert_eq!(used, 1);
}

#[tokio::test]
async fn approvers_file_that_cannot_be_relied_on_refuses() {
    let world = World::configured(PRODUCTION);
    let people = People::new(&["alice"]);
    let server = world.start();
    let file = world.work().join("approvers");
    for text in [
        None,
        Some("alice".to_owned()),
        Some(format!("* {}", people.public("alice"))),
        Some(format!("alice cert-authority {}", people.public("alice"))),
        Some(format!("alice {}\nbob {}", people.public("alice"), people.public("alice"))),
        Some("#".repeat(300_000)),
    ] {
        match &text {
            Some(text) => fs::write(&file, text).unwrap(),
            None => assert!(!file.exists()),
        }
        assert_eq!(code_of(&server, "1.0").await, "approvers_unavailable", "{text:?}");
    }
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(code_of(&server, "1.0").await, "approvers_unavailable");
    assert_eq!(history(&server, "prod").await, Vec::<String>::new());
}

#[tokio::test]
async fn no_tool_approves() {
    let world = World::configured(PRODUCTION);
    let server = world.start();
    for name in ["approve", "approve_deployment", "deploy_approve", "deny"] {
        let answer = server.request("tools/call", json!({"name": name, "arguments": {}})).await;
        assert!(answer.get("error").is_some(), "{answer}");
    }
    let names: Vec<String> =
        server.tools().await.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect();
    assert!(names.iter().all(|name| !name.contains("approv")), "{names:?}");
}

#[tokio::test]
async fn strict_refuses_while_the_account_could_decide_itself() {
    let world = World::configured(&format!("[deploy]\nstrict = true\n{PRODUCTION}"));
    let people = People::new(&["alice"]);
    people.let_approve(&world, &[("alice", "alice")]);
    let server = world.start();
    // This account may write the configuration and the approvers' file: so may an agent under it.
    assert_eq!(code_of(&server, "1.0").await, "strict_setup");
    assert_eq!(history(&server, "prod").await, Vec::<String>::new());
    drop(server);
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // Another account, with a state folder of its own and nothing else to write.
    let state = world.path("state");
    fs::create_dir(&state).unwrap();
    std::os::unix::fs::chown(&state, Some(65534), Some(65534)).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    for folder in [world.path(""), world.work()] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    // Where that account can run it.
    let program_copy = world.path("mcp-deploy");
    fs::copy(program("mcp-deploy"), &program_copy).unwrap();
    let start = || {
        let mut command = Command::new(&program_copy);
        command
            .current_dir(world.work())
            .env("TOLLGATE_STATE_DIR", &state)
            .env("TOLLGATE_AGENT", "tester")
            .env_remove("SSH_AUTH_SOCK")
            .env("HOME", world.path("home"))
            .uid(65534)
            .gid(65534);
        McpProcess::spawn(command.into())
    };
    let server = start();
    assert_eq!(code_of(&server, "1.0").await, "approval_required");
    drop(server);
    for (path, mode) in [("work/approvers", 0o666), ("work/tollgate.toml", 0o666), ("work", 0o777)] {
        let path = world.path(path);
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let server = start();
        assert_eq!(code_of(&server, "1.0").await, "strict_setup", "{}", path.display());
        fs::set_permissions(&path, before).unwrap();
    }
    // A key of an approver that the account can read.
    let ssh = world.path("home/.ssh");
    fs::create_dir_all(&ssh).unwrap();
    for (from, to) in [("alice", "id_ed25519"), ("alice.pub", "id_ed25519.pub")] {
        fs::copy(people.key(from), ssh.join(to)).unwrap();
        fs::set_permissions(ssh.join(to), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let server = start();
    assert_eq!(code_of(&server, "1.0").await, "strict_setup");
    fs::set_permissions(ssh.join("id_ed25519"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(code_of(&server, "1.0").await, "approval_required", "a key of root's is out of reach");
}
