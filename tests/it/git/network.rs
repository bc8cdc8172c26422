//! Remotes on other machines: git's own HTTP backend and an ssh daemon, each on a port of this one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use git2::Repository;
use serde_json::{Value, json};
use tollgate_tests::mcp_process::McpProcess;

use super::git_servers::{HttpServer, Manner, SshServer, certificate};
use super::world::{World, commit_file};

/// `Basic agent:hunter2`.
const AUTHORIZATION: &str = "Basic YWdlbnQ6aHVudGVyMg==";
const SECRET: &str = "hunter2";

/// A bare clone of the world's repository, below a folder to be served.
fn served(world: &World) -> (PathBuf, Repository) {
    let root = world.path("served");
    fs::create_dir_all(&root).unwrap();
    let origin = root.join("org/repo.git");
    world.git(&["clone", "-q", "--bare", ".", origin.to_str().unwrap()]);
    fs::write(world.work().join(".git/info/exclude"), "tollgate.toml\n.tollgate\n").unwrap();
    fs::create_dir_all(world.path("home")).unwrap();
    let repository = Repository::open_bare(origin).unwrap();
    (root, repository)
}

fn allow(world: &World, remotes: &[&str], more: &str) {
    world.file("tollgate.toml", &format!("[git]\nremotes = {}\n{more}", json!(remotes)));
}

/// A credential helper of the user's, in the user's own configuration.
fn user_helper(world: &World) {
    let helper = world.path("home/helper");
    fs::write(
        &helper,
        format!("#!/bin/sh\n[ \"$1\" = get ] && printf 'username=agent\\npassword={SECRET}\\n'\nexit 0\n"),
    )
    .unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(world.path("home/.gitconfig"), format!("[credential]\n\thelper = {}\n", helper.display())).unwrap();
}

fn tip(remote: &Repository, branch: &str) -> Option<String> {
    remote.refname_to_id(&format!("refs/heads/{branch}")).ok().map(|id| id.to_string())
}

/// Somebody else's commit on a branch of the remote.
fn theirs(remote: &Repository, branch: &str, message: &str) -> String {
    let full = format!("refs/heads/{branch}");
    let parent = remote.find_reference(&full).unwrap().peel_to_commit().unwrap();
    let signature = git2::Signature::now("o", "o@example.com").unwrap();
    remote
        .commit(Some(&full), &signature, &signature, message, &parent.tree().unwrap(), &[&parent])
        .unwrap()
        .to_string()
}

async fn round_trip(world: &World, server: &McpProcess, origin: &Repository) {
    commit_file(&world.repository(), "new.txt", &"new\n".repeat(1000), "new");
    let pushed = server.ok("git_push", json!({})).await;
    assert_eq!((&pushed["branch"], &pushed["forced"]), (&json!("feature"), &json!(false)));
    assert_eq!(tip(origin, "feature").unwrap(), world.tip("feature"));
    assert_eq!(server.ok("git_push", json!({})).await["old"], json!(world.tip("feature")));
    server.ok("git_create_branch", json!({"branch_name": "topic/one"})).await;
    let pushed = server.ok("git_push", json!({"branch": "topic/one"})).await;
    assert_eq!(pushed["old"], Value::Null, "it is new there");
    assert_eq!(tip(origin, "topic/one").unwrap(), world.tip("topic/one"));
    let theirs_now = theirs(origin, "feature", "theirs");
    let fetched = server.ok("git_fetch", json!({"prune": true})).await;
    assert!(fetched.to_string().contains(&theirs_now), "{fetched}");
    assert_eq!(server.ok("git_fetch", json!({"branch": "feature"})).await["updated_total"], 0);
    let pulled = server.ok("git_pull", json!({})).await;
    assert_eq!((&pulled["result"], &pulled["commit"]), (&json!("fast_forward"), &json!(theirs_now)));
    let status = server.ok("git_status", json!({})).await;
    assert_eq!(status["clean"], true, "{status}");
    assert_eq!(server.refused("git_fetch", json!({"branch": "nothing"})).await["code"], "unknown_branch");
    assert_eq!(server.refused("git_pull", json!({"branch": "nothing"})).await["code"], "unknown_branch");
    world.fsck();
    let checked = Command::new("git").args(["fsck", "--strict"]).current_dir(origin.path()).output().unwrap();
    assert!(checked.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn branch_goes_out_and_comes_back_over_http() {
    let world = World::new();
    let (root, origin) = served(&world);
    let http = HttpServer::start(&root, Manner { authorization: Some(AUTHORIZATION.into()), ..Manner::default() });
    world.git(&["remote", "add", "origin", &http.url("org/repo.git")]);
    allow(&world, &[&http.url("org")], "");
    user_helper(&world);
    let server = world.start();
    round_trip(&world, &server, &origin).await;
    // The secret went to the remote and nowhere else.
    let trail = server.ok("git_audit_trail", json!({})).await;
    let ledger = fs::read(world.work().join(".tollgate/ledger.db")).unwrap();
    let wal = fs::read(world.work().join(".tollgate/ledger.db-wal")).unwrap_or_default();
    for bytes in [ledger, wal, trail.to_string().into_bytes(), server.stderr().into_bytes()] {
        assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn push_replaces_only_what_was_seen() {
    let world = World::new();
    let (root, origin) = served(&world);
    let http = HttpServer::start(&root, Manner::default());
    world.git(&["remote", "add", "origin", &http.url("org/repo.git")]);
    allow(&world, &[&http.url("org")], "");
    let server = world.start();
    server.ok("git_fetch", json!({})).await;
    commit_file(&world.repository(), "ours", "ours\n", "ours");
    let theirs = theirs(&origin, "feature", "theirs");
    for arguments in [json!({}), json!({"force_with_lease": true})] {
        assert_eq!(server.refused("git_push", arguments).await["code"], "not_fast_forward");
    }
    assert_eq!(tip(&origin, "feature").unwrap(), theirs);
    assert_eq!(server.refused("git_pull", json!({"ff_only": true})).await["code"], "not_fast_forward");
    let pushed = server.ok("git_push", json!({"force_with_lease": true})).await;
    assert_eq!((&pushed["forced"], &pushed["old"]), (&json!(true), &json!(theirs)));
    // What the remote's owner does not want is not forced on it.
    let hook = origin.path().join("hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\necho not on a Friday >&2\nexit 1\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    commit_file(&world.repository(), "ours", "more\n", "more");
    let error = server.refused("git_push", json!({})).await;
    assert_eq!(error["code"], "push_rejected", "{error}");
    world.fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_push_over_the_network_writes_a_protected_branch() {
    let world = World::new();
    let (root, origin) = served(&world);
    let http = HttpServer::start(&root, Manner::default());
    world.git(&["remote", "add", "origin", &http.url("org/repo.git")]);
    allow(&world, &[&http.url("org")], "");
    commit_file(&world.repository(), "ours", "ours\n", "ours");
    world.git(&["branch", "-f", "main", "feature"]);
    world.git(&["branch", "sly", "feature"]);
    origin.reference_symbolic("refs/heads/sly", "refs/heads/main", false, "").unwrap();
    for (name, value) in [
        ("remote.origin.push", "refs/heads/feature:refs/heads/main"),
        ("remote.origin.pushurl", "/nonexistent"),
        ("branch.feature.merge", "refs/heads/main"),
        ("push.default", "upstream"),
        ("remote.origin.mirror", "true"),
        ("remote.origin.receivepack", "touch pwned;"),
        ("url./nonexistent.insteadOf", "http://"),
    ] {
        world.git(&["config", name, value]);
    }
    let server = world.start();
    let before = super::world::refs(&origin);
    for (arguments, code) in [
        (json!({"branch": "main"}), "protected_branch"),
        (json!({"branch": "MAIN", "force_with_lease": true}), "protected_branch"),
        (json!({"branch": "sly"}), "symbolic_branch"),
        (json!({"branch": "sly", "force_with_lease": true}), "symbolic_branch"),
        (json!({"branch": "feature:main"}), "invalid_branch_name"),
        (json!({"branch": "--mirror"}), "invalid_branch_name"),
    ] {
        let error = server.refused("git_push", arguments.clone()).await;
        assert_eq!(error["code"], code, "{arguments}: {error}");
    }
    assert_eq!(super::world::refs(&origin), before);
    server.ok("git_push", json!({})).await;
    assert_eq!(tip(&origin, "feature").unwrap(), world.tip("feature"));
    assert_eq!(json!(tip(&origin, "main")), json!(before["refs/heads/main"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_allowed_remotes_are_reached_and_nothing_of_the_repository_runs() {
    let world = World::new();
    let (root, _origin) = served(&world);
    let http = HttpServer::start(&root, Manner { authorization: Some(AUTHORIZATION.into()), ..Manner::default() });
    let elsewhere = HttpServer::start(&root, Manner::default());
    let redirecting = HttpServer::start(
        &root,
        Manner {
            authorization: None,
            redirect: Some(format!("http://127.0.0.1:{}", elsewhere.port)),
            ..Manner::default()
        },
    );
    allow(&world, &[&http.url("org"), &redirecting.url("")], "");
    let runs = world.path("runs");
    fs::create_dir(&runs).unwrap();
    let program = world.path("program");
    let script = format!(
        "#!/bin/sh\nmktemp {}/XXXXXX >/dev/null\nprintf 'username=agent\\npassword={SECRET}\\n'\n",
        runs.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let program = program.display().to_string();
    for (name, value) in [
        ("credential.helper", &*program),
        ("core.askPass", &program),
        ("core.sshCommand", &program),
        ("core.gitProxy", &program),
        ("core.hooksPath", &world.path("").display().to_string()),
        ("core.alternateRefsCommand", &program),
        ("core.fsmonitor", &program),
        ("http.proxy", "http://127.0.0.1:1"),
        ("http.extraHeader", &format!("Authorization: {AUTHORIZATION}")),
        ("http.followRedirects", "true"),
        ("http.sslVerify", "false"),
        ("protocol.allow", "always"),
    ] {
        world.git(&["config", name, value]);
    }
    fs::create_dir_all(world.work().join(".git/hooks")).unwrap();
    for hook in ["pre-push", "reference-transaction", "post-checkout"] {
        fs::copy(world.path("program"), world.work().join(".git/hooks").join(hook)).unwrap();
    }
    let server = world.start();
    let address = format!("127.0.0.1:{}", http.port);
    for (url, code) in [
        (http.url("org/repo.git"), "authentication_failed"),
        (format!("http://agent:{SECRET}@{address}/org/repo.git"), "unsupported_remote"),
        (format!("http://agent@{address}/other/repo.git"), "remote_not_allowed"),
        (http.url("org/../other/repo.git"), "unsupported_remote"),
        (http.url("organisation/repo.git"), "remote_not_allowed"),
        (elsewhere.url("org/repo.git"), "remote_not_allowed"),
        (redirecting.url("org/repo.git"), "remote_failed"),
        (format!("https://{address}/org/repo.git"), "remote_not_allowed"),
        (format!("ext::{program}"), "unsupported_remote"),
        (format!("http::{}", http.url("org/repo.git")), "unsupported_remote"),
        ("ssh://-oProxyCommand=x/org".to_owned(), "unsupported_remote"),
        ("git@localhost:org/repo.git".to_owned(), "remote_not_allowed"),
        (format!("git://{address}/org/repo.git"), "unsupported_remote"),
    ] {
        world.git(&["config", "remote.origin.url", &url]);
        for tool in ["git_fetch", "git_pull", "git_push"] {
            let error = server.refused(tool, json!({})).await;
            assert_eq!(error["code"], code, "{tool} {url}: {error}");
            assert!(!error.to_string().contains(SECRET), "{error}");
        }
    }
    assert_eq!(fs::read_dir(&runs).unwrap().count(), 0);
    assert!(elsewhere.requests.lock().unwrap().is_empty(), "a redirect was followed");
    assert!(redirecting.requests.lock().unwrap().iter().any(|line| line.contains("org/repo.git")));
    assert!(!server.stderr().contains(SECRET));
    world.fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_in_an_address_of_the_users_own_is_never_shown() {
    let world = World::new();
    let (root, origin) = served(&world);
    let http = HttpServer::start(&root, Manner { authorization: Some(AUTHORIZATION.into()), ..Manner::default() });
    world.git(&["remote", "add", "origin", &http.url("org/repo.git")]);
    world.git(&["remote", "add", "missing", &http.url("org/missing.git")]);
    allow(&world, &[&http.url("org")], "");
    // As build machines do it.
    let rewritten =
        format!("[url \"http://agent:{SECRET}@127.0.0.1:{0}/\"]\n\tinsteadOf = http://127.0.0.1:{0}/\n", http.port);
    fs::write(world.path("home/.gitconfig"), rewritten).unwrap();
    let server = world.start();
    server.ok("git_fetch", json!({})).await;
    commit_file(&world.repository(), "ours", "ours\n", "ours");
    server.ok("git_push", json!({})).await;
    assert_eq!(tip(&origin, "feature").unwrap(), world.tip("feature"));
    let error = server.refused("git_fetch", json!({"remote": "missing"})).await;
    assert_eq!(error["code"], "remote_failed", "{error}");
    assert!(!error.to_string().contains(SECRET) && !server.stderr().contains(SECRET), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shallow_clone_pulls() {
    let world = World::new();
    for number in 0..5 {
        commit_file(&world.repository(), "count.txt", &number.to_string(), "count");
    }
    let (root, origin) = served(&world);
    let http = HttpServer::start(&root, Manner::default());
    let clone = world.work().join("shallow");
    world.git(&["clone", "-q", "--depth", "2", "-b", "feature", &http.url("org/repo.git"), clone.to_str().unwrap()]);
    allow(&world, &[&http.url("org")], "");
    let theirs = theirs(&origin, "feature", "theirs");
    let server = world.start();
    let pulled = server.ok("git_pull", json!({"repo_path": "shallow"})).await;
    assert_eq!(pulled["commit"], json!(theirs));
    assert!(clone.join(".git/shallow").exists());
}

fn ssh_url(ssh: &SshServer, path: &Path) -> String {
    format!("ssh://{}@127.0.0.1:{}{}", ssh.user, ssh.port, path.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn branch_goes_out_and_comes_back_over_ssh() {
    let Some(ssh) = SshServer::start() else { return };
    let world = World::new();
    let (root, origin) = served(&world);
    world.git(&["remote", "add", "origin", &ssh_url(&ssh, &root.join("org/repo.git"))]);
    allow(&world, &[&ssh_url(&ssh, &root)], &format!("known_hosts = \"{}\"\n", ssh.known_hosts.display()));
    let socket = ssh.agent_socket.display().to_string();
    let server = world.start_as(&[("SSH_AUTH_SOCK", &socket)]);
    round_trip(&world, &server, &origin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_checks_the_host_and_asks_nobody() {
    let Some(ssh) = SshServer::start() else { return };
    let world = World::new();
    let (root, origin) = served(&world);
    let url = ssh_url(&ssh, &root.join("org/repo.git"));
    world.git(&["remote", "add", "origin", &url]);
    commit_file(&world.repository(), "ours", "ours\n", "ours");
    let before = super::world::refs(&origin);
    let socket = ssh.agent_socket.display().to_string();
    let none = world.path("no_known_hosts");
    fs::write(&none, "").unwrap();
    let (good, wrong) = (ssh.known_hosts.clone(), ssh.wrong_known_hosts());
    for (known_hosts, agent, code) in [
        (&none, &*socket, "host_key_unverified"),
        (&wrong, &socket, "host_key_unverified"),
        (&good, "/nonexistent", "authentication_failed"),
    ] {
        allow(&world, &[&ssh_url(&ssh, &root)], &format!("known_hosts = \"{}\"\n", known_hosts.display()));
        // What the repository would have ssh do.
        world.git(&["config", "core.sshCommand", "ssh -oStrictHostKeyChecking=no"]);
        world.git(&["config", "ssh.variant", "simple"]);
        let server = world.start_as(&[("SSH_AUTH_SOCK", agent), ("GIT_SSH_COMMAND", "ssh -oStrictHostKeyChecking=no")]);
        for tool in ["git_fetch", "git_push"] {
            let error = server.refused(tool, json!({})).await;
            assert_eq!(error["code"], code, "{tool} {}: {error}", known_hosts.display());
        }
    }
    assert_eq!(super::world::refs(&origin), before);
    assert_eq!(fs::read_to_string(&none).unwrap(), "", "no key was taken on trust");
}

#[tokio::test(flavor = "multi_thread")]
async fn branch_goes_out_and_comes_back_over_https() {
    let world = World::new();
    let (root, origin) = served(&world);
    let authority = certificate(&world.path("tls"), "127.0.0.1");
    let manner =
        Manner { authorization: Some(AUTHORIZATION.into()), tls: Some(world.path("tls")), ..Manner::default() };
    let https = HttpServer::start(&root, manner);
    world.git(&["remote", "add", "origin", &https.url("org/repo.git")]);
    allow(&world, &[&https.url("org")], "");
    user_helper(&world);
    let server = world.start_as(&[("GIT_SSL_CAINFO", authority.to_str().unwrap())]);
    round_trip(&world, &server, &origin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_is_checked_whatever_the_repository_says() {
    let world = World::new();
    let (root, origin) = served(&world);
    let authority = certificate(&world.path("tls"), "127.0.0.1");
    let elsewhere = certificate(&world.path("other-tls"), "192.0.2.1");
    let unknown = HttpServer::start(&root, Manner { tls: Some(world.path("tls")), ..Manner::default() });
    let misnamed = HttpServer::start(&root, Manner { tls: Some(world.path("other-tls")), ..Manner::default() });
    commit_file(&world.repository(), "ours", "ours\n", "ours");
    let before = super::world::refs(&origin);
    // What the repository would have git take on trust, and with which authority.
    for (name, value) in [("http.sslVerify", "false"), ("http.sslCAInfo", authority.to_str().unwrap())] {
        world.git(&["config", name, value]);
    }
    for (case, https, trusted) in [("unknown", &unknown, &elsewhere), ("misnamed", &misnamed, &elsewhere)] {
        let _ = world.repository().remote_delete("origin");
        world.git(&["remote", "add", "origin", &https.url("org/repo.git")]);
        allow(&world, &[&https.url("org")], "");
        let trusted = trusted.to_str().unwrap();
        let server = world.start_as(&[("GIT_SSL_CAINFO", trusted), ("GIT_SSL_NO_VERIFY", "1")]);
        for tool in ["git_fetch", "git_push", "git_pull"] {
            let error = server.refused(tool, json!({})).await;
            assert_eq!(error["code"], "remote_failed", "{case} {tool}: {error}");
            assert!(
                error["message"].as_str().unwrap().to_lowercase().contains("certificate"),
                "{case} {tool}: {error}"
            );
        }
        assert!(https.requests.lock().unwrap().is_empty(), "{case}: a request went out");
    }
    assert_eq!(super::world::refs(&origin), before);
}
