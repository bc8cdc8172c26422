//! Logins at remote servers.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tollgate_tests::authority::{Authority, CLIENT, WRITE, browse, get};
use tollgate_tests::world::orchestrator_in;

/// A workspace with one remote server, with these lines in its table `oauth`.
fn world(authority: &Authority, oauth: &str) -> TempDir {
    let world = tempfile::tempdir().unwrap();
    let table = if oauth.is_empty() { String::new() } else { format!("\n[servers.notes.oauth]\n{oauth}\n") };
    let configuration =
        format!("[orchestrator]\nservers = []\n\n[servers.notes]\nurl = {:?}\n{table}", authority.url());
    fs::write(world.path().join("tollgate.toml"), configuration).unwrap();
    world
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = orchestrator_in(folder);
    command.args(arguments).env("NOTES_SECRET", CLIENT.1).stdin(Stdio::null());
    command.output().unwrap()
}

fn call(folder: &Path, tool: &str) -> Value {
    let output = run(folder, &["call", "notes", tool, r#"{"text": "hi"}"#]);
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    shown["result"].clone()
}

fn code(result: &Value) -> &str {
    result["error"]["code"].as_str().unwrap_or("none")
}

/// A login under way, before the person opened the page.
struct Login {
    process: Child,
    page: String,
    said: String,
}

impl Login {
    fn begin(folder: &Path) -> Self {
        let mut command = orchestrator_in(folder);
        command.args(["--log", "trace", "login", "notes", "--no-browser", "--timeout", "30"]);
        let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = process.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.as_mut().unwrap());
        let mut said = String::new();
        let page = loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap() == 0 {
                break String::new();
            }
            if let Some(page) = line.trim().strip_prefix("http").map(|rest| format!("http{rest}")) {
                break page;
            }
            said.push_str(&line);
        };
        Self { process, page, said }
    }

    /// Waits for the end; whether there is a login, and all that was said.
    fn end(mut self) -> (bool, String) {
        let mut errors = String::new();
        self.process.stdout.as_mut().unwrap().read_to_string(&mut self.said).unwrap();
        self.process.stderr.as_mut().unwrap().read_to_string(&mut errors).unwrap();
        (self.process.wait().unwrap().success(), self.said + &errors)
    }
}

/// Logs in as a person who does what they should.
fn log_in(folder: &Path) -> (bool, String) {
    let login = Login::begin(folder);
    if !login.page.is_empty() {
        browse(&login.page);
    }
    login.end()
}

fn file(folder: &Path) -> PathBuf {
    folder.join(".tollgate/logins/notes.json")
}

#[test]
fn person_logs_in_once_and_every_call_has_it() {
    let authority = Authority::start();
    let world = world(&authority, "");
    let before = call(world.path(), "echo");
    assert_eq!(code(&before), "login_required", "{before}");
    assert!(before["error"]["hint"].as_str().unwrap().contains("`orchestrator login notes`"), "{before}");
    let tools = String::from_utf8(run(world.path(), &["tools"]).stdout).unwrap();
    assert!(tools.contains("orchestrator login notes"), "{tools}");

    let (logged_in, mut said) = log_in(world.path());
    assert!(logged_in && said.contains("Logged in at notes, for notes:read offline_access."), "{said}");
    let page = &authority.seen("/authorize")[0].form;
    assert_eq!(page["code_challenge_method"], "S256");
    assert!(page["redirect_uri"].starts_with("http://127.0.0.1:"), "{page:?}");
    for path in ["/authorize", "/token"] {
        assert_eq!(authority.seen(path)[0].form["resource"], authority.url(), "{path}");
    }

    for arguments in [
        &["--log", "trace", "call", "notes", "echo", r#"{"text": "hi"}"#][..],
        &["--log", "trace", "tools", "--format", "json"],
        &["costs", "--format", "json"],
        &["audit", "list"],
        &["--check-config", "tools"],
    ] {
        let output = run(world.path(), arguments);
        said.push_str(&String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    }
    assert!(said.contains("\"text\": \"hi\"") && said.contains("notes__echo"), "{said}");
    let ledger: Vec<u8> = fs::read_dir(world.path().join(".tollgate"))
        .unwrap()
        .filter_map(|entry| fs::read(entry.unwrap().path()).ok())
        .flatten()
        .collect();
    let kept = format!("{said}{}", String::from_utf8_lossy(&ledger));
    let secrets = authority.secrets();
    assert!(secrets.len() >= 4, "{secrets:?}");
    for secret in secrets {
        assert!(!kept.contains(&secret), "{secret} was written down");
    }
    assert_eq!(fs::metadata(file(world.path())).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(file(world.path()).parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);

    assert!(run(world.path(), &["logout", "notes"]).status.success());
    assert!(!file(world.path()).exists());
    assert_eq!(authority.seen("/revoke").len(), 1, "the authorization server was told");
    assert_eq!(code(&call(world.path(), "echo")), "login_required");
}

#[test]
fn login_that_ends_is_renewed_until_it_is_taken_back() {
    let authority = Authority::start();
    let world = world(&authority, "");
    authority.behave(|it| it.lifetime = Duration::from_secs(1));
    assert!(log_in(world.path()).0);
    authority.behave(|it| it.lifetime = Duration::from_secs(3600));
    assert_eq!(call(world.path(), "echo")["text"], "hi");
    let renewals = |authority: &Authority| {
        let tokens = authority.seen("/token");
        tokens.iter().filter(|it| it.form["grant_type"] == "refresh_token").cloned().collect::<Vec<_>>()
    };
    assert_eq!(renewals(&authority).len(), 1);
    assert_eq!(renewals(&authority)[0].form["resource"], authority.url());
    assert_eq!(call(world.path(), "echo")["text"], "hi");
    assert_eq!(renewals(&authority).len(), 1, "a login that lasts is not renewed");

    // Taken back before its time: the server says so, and it is renewed.
    authority.forget(false);
    assert_eq!(call(world.path(), "echo")["text"], "hi");
    assert_eq!(renewals(&authority).len(), 2);
    // For good: a person has to log in again.
    authority.forget(true);
    assert_eq!(code(&call(world.path(), "echo")), "login_required");
    assert!(log_in(world.path()).0);
    assert_eq!(call(world.path(), "echo")["text"], "hi");
}

#[test]
fn another_page_s_answer_is_turned_away() {
    let authority = Authority::start();
    let world = world(&authority, "");
    let login = Login::begin(world.path());
    let (_, head, _) = get(&login.page, None);
    let back = head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap().to_owned();
    let state = authority.seen("/authorize")[0].form["state"].clone();
    let forged = back.replace(&state, "forged");
    let callback = back.split_once('?').unwrap().0;
    for wrong in [forged.as_str(), callback, &format!("{back}&state={state}"), &format!("{callback}?state={state}")] {
        assert_eq!(get(wrong, None).0, 400, "{wrong}");
    }
    assert_eq!(get(&back, Some("attacker.example")).0, 400, "a name that was made to mean 127.0.0.1");
    assert!(authority.seen("/token").is_empty());
    assert_eq!(get(&back, None).0, 200);
    let (logged_in, said) = login.end();
    assert!(logged_in, "{said}");
}

#[test]
fn authorization_server_that_is_another_one_gets_nothing() {
    let other = Authority::start();
    let elsewhere = format!("{}/token", other.issuer());
    for (change, expected) in [
        (Box::new(|it: &mut _| set_issuer(it)) as Box<dyn Fn(&mut tollgate_tests::authority::Behaviour)>, "issuer"),
        (Box::new(|it| it.answers_as = Some("https://other.example".to_owned())), "issuer mismatch"),
        (Box::new(|it| it.token_endpoint = Some("http://other.example/token".to_owned())), "others could listen in"),
    ] {
        let authority = Authority::start();
        let world = world(&authority, "");
        authority.behave(change);
        let (logged_in, said) = log_in(world.path());
        assert!(!logged_in && said.contains(expected), "{expected}: {said}");
        assert!(authority.seen("/token").is_empty(), "{expected}");
        assert!(!file(world.path()).exists(), "{expected}");
    }
    // A server whose authorization server changed gets another login, and the other none of this one's tokens.
    let authority = Authority::start();
    let world = world(&authority, "");
    assert!(log_in(world.path()).0);
    authority.behave(|it| it.token_endpoint = Some(elsewhere.clone()));
    authority.forget(false);
    assert_eq!(code(&call(world.path(), "echo")), "login_required");
    assert!(other.seen("/token").is_empty());
}

fn set_issuer(behaviour: &mut tollgate_tests::authority::Behaviour) {
    behaviour.issuer = Some("https://other.example".to_owned());
}

#[test]
fn redirect_does_not_take_the_login_along() {
    let (authority, other) = (Authority::start(), Authority::start());
    let world = world(&authority, "");
    assert!(log_in(world.path()).0);
    assert_eq!(call(world.path(), "echo")["text"], "hi");
    authority.behave(|it| it.moved_to = Some(other.url()));
    assert_ne!(code(&call(world.path(), "echo")), "none");
    authority.behave(|it| it.moved_to = Some(authority.url() + "?again"));
    assert_ne!(code(&call(world.path(), "echo")), "none", "nor anywhere else");
    assert!(other.seen("/mcp").is_empty());
}

#[test]
fn login_of_one_address_is_not_sent_to_another() {
    let (authority, other) = (Authority::start(), Authority::start());
    let world = world(&authority, "");
    assert!(log_in(world.path()).0);
    let path = world.path().join("tollgate.toml");
    let moved = fs::read_to_string(&path).unwrap().replace(&authority.url(), &other.url());
    fs::write(path, moved).unwrap();
    assert_eq!(code(&call(world.path(), "echo")), "login_required");
    assert!(!other.seen("/mcp").is_empty() && other.seen("/mcp").iter().all(|seen| seen.authorization.is_none()));
}

#[test]
fn next_login_asks_for_what_was_refused() {
    let authority = Authority::start();
    let world = world(&authority, "");
    assert!(log_in(world.path()).0);
    let refused = call(world.path(), "write");
    assert_eq!(code(&refused), "insufficient_scope", "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains(WRITE), "{refused}");
    assert_eq!(call(world.path(), "echo")["text"], "hi", "the login goes on");
    assert!(log_in(world.path()).0);
    assert_eq!(authority.seen("/authorize")[1].form["scope"], "notes:read offline_access notes:write");
    assert_eq!(call(world.path(), "write")["text"], "noted hi");
}

#[test]
fn program_logs_in_by_itself() {
    let authority = Authority::start();
    let oauth = format!(
        "grant = \"client_credentials\"\nclient_id = {:?}\nclient_secret = \"${{NOTES_SECRET}}\"\nscopes = [\"notes:read\"]",
        CLIENT.0
    );
    let world = world(&authority, &oauth);
    assert_eq!(call(world.path(), "echo")["text"], "hi");
    assert_eq!(call(world.path(), "echo")["text"], "hi");
    assert_eq!(authority.seen("/token").len(), 1, "a token that lasts is kept");
    let refused = call(world.path(), "write");
    assert_eq!(code(&refused), "insufficient_scope", "no server gets more than the operator wrote down: {refused}");
    authority.forget(true);
    assert_eq!(call(world.path(), "echo")["text"], "hi");
    assert_eq!(authority.seen("/token").len(), 2);
    assert!(authority.seen("/token").iter().all(|seen| seen.form["resource"] == authority.url()));
    let output = run(world.path(), &["--check-config", "tools"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("${NOTES_SECRET}") && !shown.contains(CLIENT.1), "{shown}");
    assert!(!fs::read_to_string(file(world.path())).unwrap().contains(CLIENT.1), "the secret stays where it was");
}
