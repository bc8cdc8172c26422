//! `orchestrator serve`: the whole bundle as one server, as a host sees it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_shared::identity::IDENTITY_META_KEY;
use tollgate_shared::price::ALLOWANCE_META_KEY;
use tollgate_tests::mcp_process::{MODERN, McpProcess};
use tollgate_tests::world::{orchestrator, program};

/// A workspace with ralph and a foreign server, and `more` of configuration.
fn world(more: &str) -> TempDir {
    let world = tempfile::tempdir().unwrap();
    fs::write(world.path().join("a.py"), "x = 1\n").unwrap();
    let config = format!(
        "[orchestrator]\nservers = [\"ralph\"]\n\n[prices]\n\"fixture.echo\" = \"0.25\"\n\n\
         [servers.fixture]\ncommand = {:?}\ncall_timeout_ms = 5000\nenv = {{ NOTE_FILE = {:?} }}\n\n{more}",
        program("mcp-fixture"),
        world.path().join("notes"),
    );
    fs::write(world.path().join("tollgate.toml"), config).unwrap();
    world
}

fn serve(world: &Path, arguments: &[&str]) -> McpProcess {
    let mut command = tokio::process::Command::new(orchestrator());
    command.arg("serve").args(arguments).current_dir(world);
    McpProcess::spawn(command)
}

async fn names(gateway: &McpProcess) -> Vec<String> {
    gateway.tools().await.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

fn costs(world: &Path) -> Value {
    let output = Command::new(orchestrator())
        .args(["costs", "--by", "agent", "--format", "json"])
        .current_dir(world)
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn servers_are_one_server_whose_calls_are_priced_and_recorded() {
    let world = world("");
    let mut gateway = serve(world.path(), &[]);
    let names = names(&gateway).await;
    for name in ["ralph__verify_file", "fixture__echo", "tollgate__cost_report"] {
        assert!(names.iter().any(|known| known == name), "{name} is not in {names:?}");
    }
    assert!(!names.iter().any(|name| name == "ralph__cost_report"), "{names:?}");

    let own = gateway.call("ralph__verify_file", json!({"path": "a.py"})).await;
    assert_eq!((own.structured["verdict"].as_str(), own.receipt.agent.name.as_str()), (Some("pass"), "tollgate-tests"));
    let foreign = gateway.call("fixture__echo", json!({"text": "hi"})).await;
    assert_eq!((foreign.text.as_str(), foreign.receipt.amount.to_string().as_str()), ("hi", "0.25"));
    assert_eq!((foreign.receipt.server.as_str(), foreign.receipt.tool.as_str()), ("fixture", "echo"));
    let report = gateway.request("tools/call", json!({"name": "tollgate__cost_report", "arguments": {}})).await;
    assert_eq!(report["result"]["structuredContent"]["total"]["amount"], "0.2519", "{report}");
    let prices = gateway.request("resources/read", json!({"uri": "ralph+cost://prices"})).await;
    assert_eq!(prices["result"]["contents"][0]["uri"], "ralph+cost://prices", "{prices}");
    assert!(gateway.close().await.success());
    assert_eq!(gateway.pollution(), [""; 0]);
    assert_eq!(costs(world.path())["groups"]["tollgate-tests"]["amount"], "0.2519");
}

#[tokio::test]
async fn a_client_in_a_session_gets_the_same() {
    let world = world("");
    let mut gateway = serve(world.path(), &[]);
    let greeting = gateway.initialize(json!({})).await;
    assert_eq!(greeting["result"]["serverInfo"]["name"], "tollgate", "{greeting}");
    let listed = gateway.try_raw_request("tools/list", json!({})).await.unwrap();
    assert!(listed.to_string().contains("ralph__verify_file"), "{listed}");
    assert!(listed["result"].get("resultType").is_none(), "{listed}");
    let call = json!({"name": "fixture__echo", "arguments": {"text": "hi"}});
    let answer = gateway.try_raw_request("tools/call", call).await.unwrap();
    assert_eq!(answer["result"]["content"][0]["text"], "hi", "{answer}");
    assert_eq!(answer["result"]["_meta"]["io.tollgate/receipt"]["amount"], "0.25");
    assert!(gateway.close().await.success());
}

/// A server's results as it wrote them, and what the host gets of each.
#[test]
fn results_pass_through_as_they_are_but_for_what_is_ours() {
    let world = tempfile::tempdir().unwrap();
    let config = format!(
        "[orchestrator]\nservers = []\n\n[prices]\n\"odd.say\" = \"0.25\"\n\n\
         [servers.odd]\ncommand = {:?}\nargs = [\"--verbatim\"]\ncall_timeout_ms = 1000\nanswer_bytes_max = 3000\n",
        program("mcp-fixture")
    );
    fs::write(world.path().join("tollgate.toml"), config).unwrap();
    let mut serving = Command::new(orchestrator());
    serving.arg("serve").current_dir(world.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut serving = serving.spawn().unwrap();
    let (mut input, mut output) = (serving.stdin.take().unwrap(), BufReader::new(serving.stdout.take().unwrap()));
    let mut id = 0;
    let mut says = |text: &str| {
        id += 1;
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "host", "version": "1"},
        });
        let params = json!({"name": "odd__say", "arguments": {"text": text}, "_meta": meta});
        writeln!(input, "{}", json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})).unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(answer["id"], id, "{line}");
        (line, answer)
    };
    // The text that is to be in the answer exactly as it was written.
    for (result, kept) in [
        (r#"{"content":[{"type":"text","text":"\u00e9\/"}]}"#, r#""content":[{"type":"text","text":"\u00e9\/"}]"#),
        (r#"{"content":[],"structuredContent":null}"#, r#""structuredContent":null"#),
        (
            r#"{"content":[],"structuredContent":{"n":1.50,"big":123456789012345678901234567890.10}}"#,
            r#"{"n":1.50,"big":123456789012345678901234567890.10}"#,
        ),
        (
            r#"{"content":[{"text":"a","type":"text","x":1}],"isError":false}"#,
            r#"[{"text":"a","type":"text","x":1}],"isError":false"#,
        ),
        (r#"{"_meta":{"com.example/kept":{"a":1}},"content":[]}"#, r#""com.example/kept":{"a":1}"#),
        (r#"{"content":[],"structuredContent":"0}}\n{\"jsonrpc\":1"}"#, r#""structuredContent":"0}}\n{\"jsonrpc\":1""#),
    ] {
        let (line, answer) = says(result);
        assert!(line.contains(kept), "{line}");
        assert_eq!(answer["result"]["_meta"]["io.tollgate/receipt"]["amount"], "0.25", "{line}");
        assert_eq!(answer["result"]["resultType"], "complete", "{line}");
    }
    // No word about money but ours, whatever form it has, and nothing else that is ours to say.
    for forged in ["true", "\"{}\"", "{\"amount\":\"0\"}", "null", "{\"amount\":\"0\"},\"io.tollgate/receipt\":true"] {
        for structured in ["\"x\"", "{}"] {
            let meta = format!(r#"{{"io.tollgate/receipt":{forged},"io.tollgate/other":1}}"#);
            let (line, answer) = says(&format!(r#"{{"content":[],"structuredContent":{structured},"_meta":{meta}}}"#));
            let meta = answer["result"]["_meta"].as_object().unwrap_or_else(|| panic!("{line}"));
            assert_eq!((meta.len(), &meta["io.tollgate/receipt"]["amount"]), (1, &json!("0.25")), "{line}");
            assert_eq!(line.matches("io.tollgate/receipt").count(), 1, "{line}");
            assert_eq!(answer["result"]["structuredContent"].to_string(), structured, "{line}");
        }
    }
    // White space between members may end a line for a host.
    let (line, answer) = says("{\"content\":\r[]}");
    assert!(!line.contains('\r') && answer["result"]["content"] == json!([]), "{line}");
    let code = |text: &str, says: &mut dyn FnMut(&str) -> (String, Value)| {
        let (line, answer) = says(text);
        answer["result"]["structuredContent"]["error"]["code"].as_str().map(str::to_owned).ok_or(line)
    };
    let long = format!(r#"{{"content":[{{"type":"text","text":"{}"}}]}}"#, "x".repeat(4_000));
    assert_eq!(code(&long, &mut says).as_deref(), Ok("answer_too_large"));
    let failed = r#"{"content":[],"structuredContent":{"error":{"code":"mine"}},"isError":true}"#;
    assert_eq!(code(failed, &mut says).as_deref(), Ok("mine"));
    // What hosts cannot read is no answer, and the call ends all the same.
    let deep = format!(r#"{{"content":[],"structuredContent":{}1{}}}"#, "[".repeat(1_000), "]".repeat(1_000));
    let half = r#"{"content":[{"type":"text","text":"\ud83d"}]}"#;
    for unreadable in [&deep, half, r#"{"content":[],"structuredContent":1e999}"#] {
        assert_eq!(code(unreadable, &mut says).as_deref(), Ok("timeout"));
    }
    // Two halves are a character, and an exponent is a number.
    let (line, answer) = says(r#"{"content":[{"type":"text","text":"\ud83d\ude00"}],"structuredContent":1e2}"#);
    assert_eq!(answer["result"]["content"][0]["text"], "\u{1f600}", "{line}");
    assert_eq!(answer["result"]["structuredContent"], 100.0, "{line}");
    // Nobody pays for what no host knows.
    let (line, answer) = says(r#"{"content":[{"type":"unheard of"}]}"#);
    assert_eq!(answer["error"]["code"], -32603, "{line}");
    drop(input);
    assert!(serving.wait().unwrap().success());
    let recorded = &costs(world.path())["groups"]["host"];
    assert_eq!(recorded["calls"], 6 + 10 + 1 + 2 + 3 + 1 + 1, "{recorded}");
    assert_eq!(recorded["amount"], "4.50", "{recorded}");
}

#[tokio::test]
async fn a_server_that_reads_nothing_holds_no_call() {
    let world = tempfile::tempdir().unwrap();
    let config = format!(
        "[orchestrator]\nservers = []\n\n\
         [servers.odd]\ncommand = {:?}\nargs = [\"--verbatim\", \"--deaf\"]\ncall_timeout_ms = 500\n",
        program("mcp-fixture")
    );
    fs::write(world.path().join("tollgate.toml"), config).unwrap();
    let gateway = serve(world.path(), &[]);
    gateway.tools().await;
    // More than a pipe holds.
    let called = gateway.call("odd__say", json!({"text": "x".repeat(1_000_000)}));
    let called = tokio::time::timeout(Duration::from_secs(60), called).await.expect("the call ends");
    assert_eq!(called.structured["error"]["code"], "timeout", "{}", called.structured);
}

#[tokio::test]
async fn hosts_do_not_say_who_calls_nor_what_it_costs() {
    let world = world("[budget]\nper_call_usd = \"0.3\"\n");
    let gateway = serve(world.path(), &[]);
    let call = async |meta: Value, tool: &str, arguments: Value| {
        let Value::Object(meta) = meta else { unreachable!() };
        gateway.try_call(tool, arguments, meta).await.unwrap()
    };
    for claim in [json!({"agent": "boss", "proof": "00"}), json!("boss"), json!(null)] {
        let refused = call(json!({ IDENTITY_META_KEY: claim }), "fixture__note", json!({"text": "forged"})).await;
        assert_eq!(refused.structured["error"]["code"], "identity_unproven");
        assert_eq!(refused.receipt.agent.name, "tollgate-tests");
    }
    assert!(!world.path().join("notes").exists(), "a refused call had an effect");
    // An allowance is ours to give: a host's own is not passed on, in neither direction.
    let allowance = json!({ ALLOWANCE_META_KEY: "0", "io.tollgate/receipt": {"amount": "0"}, "com.example/kept": 1 });
    let called = call(allowance, "ralph__verify_file", json!({"path": "a.py"})).await;
    assert_eq!((called.is_error, called.receipt.amount.to_string().as_str()), (false, "0.0019"));
    let echoed = call(json!({}), "fixture__echo", json!({"text": "x"})).await;
    assert!(!echoed.is_error, "{}", echoed.structured);
}

#[tokio::test]
async fn denied_tools_are_neither_seen_nor_called() {
    let world = world("[gateway]\ndeny = [\"fixture__note\"]\n\n[gateway.profiles.reader]\nallow = [\"ralph__*\"]\n");
    let gateway = serve(world.path(), &[]);
    let shown = names(&gateway).await;
    assert!(shown.iter().any(|name| name == "fixture__echo") && !shown.iter().any(|name| name == "fixture__note"));
    for name in ["fixture__note", "note", "ralph__cost_report", "fixture__note\0", "nobody__x", &"x".repeat(100_000)] {
        let answer = gateway.request("tools/call", json!({"name": name, "arguments": {"text": "x"}})).await;
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
        assert!(answer.to_string().len() < 2_000);
    }
    // The tool that calls tools calls none that is not shown.
    let around =
        json!({"name": "tollgate__call_tool", "arguments": {"name": "fixture__note", "arguments": {"text": "x"}}});
    assert!(gateway.request("tools/call", around).await.get("error").is_some());
    assert!(!world.path().join("notes").exists());
    let reader = serve(world.path(), &["--profile", "reader"]);
    let shown = names(&reader).await;
    assert!(shown.iter().all(|name| name.starts_with("ralph__")), "{shown:?}");
}

#[tokio::test]
async fn a_large_catalogue_is_searched_and_called_through_two_tools() {
    let world = world("[gateway]\nsearch_above_tokens = 100\ndeny = [\"fixture__crash\"]\n");
    let gateway = serve(world.path(), &[]);
    assert_eq!(names(&gateway).await, ["tollgate__search_tools", "tollgate__call_tool", "tollgate__cost_report"]);
    let search = async |query: &str| {
        let call = json!({"name": "tollgate__search_tools", "arguments": {"query": query}});
        let answer = gateway.request("tools/call", call).await["result"]["structuredContent"].clone();
        answer["tools"].as_array().unwrap_or_else(|| panic!("{answer}")).clone()
    };
    let found = search("verify one file").await;
    assert_eq!(found[0]["name"], "ralph__verify_file", "{found:?}");
    assert!(found[0]["input_schema"]["properties"].get("path").is_some());
    assert!(!search("crash end process").await.iter().any(|tool| tool["name"] == "fixture__crash"));
    let call = json!({"name": "fixture__echo", "arguments": {"text": "through"}});
    let called = gateway.call("tollgate__call_tool", call).await;
    assert_eq!((called.text.as_str(), called.receipt.tool.as_str()), ("through", "echo"));
}

#[tokio::test]
async fn a_server_that_dies_is_started_again_and_the_rest_work() {
    let world = world("[servers.broken]\ncommand = \"/no/such/program\"\n");
    let gateway = serve(world.path(), &[]);
    let listed = gateway.request("tools/list", json!({})).await;
    let missing = &listed["result"]["_meta"]["io.tollgate/unavailable"][0];
    assert_eq!(missing["server"], "broken", "{listed}");
    let answer = gateway.request("tools/call", json!({"name": "broken__x", "arguments": {}})).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("not there now"), "{answer}");
    let died = gateway.call("fixture__crash", json!({})).await;
    assert_eq!(died.structured["error"]["code"], "server_died");
    let alive = gateway.call("ralph__verify_file", json!({"path": "a.py"})).await;
    assert!(!alive.is_error);
    let begun = Instant::now();
    let again = gateway.call("fixture__echo", json!({"text": "again"})).await;
    assert_eq!(again.text, "again", "{}", again.structured);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn taken_back_and_late_calls_are_stopped_and_have_their_receipts() {
    let world = world("");
    let gateway = serve(world.path(), &[]);
    let late = gateway.call("fixture__sleep", json!({"ms": 60_000})).await;
    assert_eq!(late.structured["error"]["code"], "timeout");
    let line = |message: Value| format!("{message}\n").into_bytes();
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "tollgate-tests", "version": "1"},
    });
    let params = json!({"name": "fixture__sleep", "arguments": {"ms": 60_000}, "_meta": meta});
    gateway
        .write(&line(json!({"jsonrpc": "2.0", "id": "mine", "method": "tools/call", "params": params})))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let cancelled = json!({"requestId": "mine"});
    gateway
        .write(&line(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled})))
        .await
        .unwrap();
    let begun = Instant::now();
    loop {
        let costs = costs(world.path());
        if costs["total"]["failed"] == 2 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{costs}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (one, two) = tokio::join!(
        gateway.call("fixture__echo", json!({"text": "1"})),
        gateway.call("fixture__echo", json!({"text": "2"}))
    );
    assert_eq!((one.text.as_str(), two.text.as_str()), ("1", "2"));
}

#[tokio::test]
async fn a_refused_call_through_the_gateway_had_no_effect() {
    let world = world("[budget]\nper_task_usd = \"1\"\nper_day_usd = \"0.5\"\n");
    let config = fs::read_to_string(world.path().join("tollgate.toml")).unwrap();
    fs::write(world.path().join("tollgate.toml"), config.replace("fixture.echo", "fixture.note")).unwrap();
    let gateway = serve(world.path(), &[]);
    let calls = (0..16).map(|number| gateway.call("fixture__note", json!({"text": number.to_string()})));
    let answers = futures::future::join_all(calls).await;
    let refused = answers.iter().filter(|answer| answer.structured["error"]["code"] == "budget_exceeded").count();
    assert_eq!(refused, 14);
    assert_eq!(fs::read_to_string(world.path().join("notes")).unwrap().lines().count(), 2);
}

#[tokio::test]
async fn a_hostile_server_cannot_crowd_out_nor_pass_for_the_others() {
    let world = world("");
    let config = fs::read_to_string(world.path().join("tollgate.toml")).unwrap();
    let hostile = format!("[servers.hostile]\ncommand = {:?}\nargs = [\"--hostile\"]\n", program("mcp-fixture"));
    fs::write(
        world.path().join("tollgate.toml"),
        format!("{config}\n[gateway]\nsearch_above_tokens = 100000000\n\n{hostile}"),
    )
    .unwrap();
    let gateway = serve(world.path(), &[]);
    let shown = names(&gateway).await;
    let of_hostile = shown.iter().filter(|name| name.starts_with("hostile__")).count();
    assert!((1..=2_000).contains(&of_hostile), "{of_hostile}");
    let distinct: std::collections::BTreeSet<&String> = shown.iter().collect();
    assert_eq!(distinct.len(), shown.len());
    assert!(
        shown
            .iter()
            .all(|name| name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'))
    );
    // What calls itself by another's name is still its own, and its word about money is not taken.
    let called = gateway.call("ralph__verify_file", json!({"path": "a.py"})).await;
    assert_eq!((called.receipt.server.as_str(), called.structured["verdict"].as_str()), ("ralph", Some("pass")));
    let liar = shown.iter().find(|name| name.starts_with("hostile__ralph__verify_file")).unwrap();
    let called = gateway.call(liar, json!({})).await;
    assert_eq!((called.receipt.server.as_str(), called.receipt.amount.to_string().as_str()), ("hostile", "0"));
}

/// The gateway over HTTP, ended when dropped.
pub(crate) struct OverHttp(std::process::Child, pub(crate) std::net::SocketAddr);

impl OverHttp {
    pub(crate) fn start(world: &Path, token: Option<&str>) -> Self {
        let mut command = Command::new(orchestrator());
        command.args(["serve", "--http", "127.0.0.1:0"]).current_dir(world).stderr(Stdio::piped());
        command.env_remove("TOLLGATE_GATEWAY_TOKEN").envs(token.map(|token| ("TOLLGATE_GATEWAY_TOKEN", token)));
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        while !said.contains("/mcp") {
            assert_ne!(BufRead::read_line(&mut stderr, &mut said).unwrap(), 0, "{said}");
        }
        let address = said.split("http://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Self(child, address)
    }

    /// Posts one request of the newest revision with `headers`, and returns status and body.
    fn post(&self, method: &str, mut params: Value, headers: &[(&str, &str)]) -> (u16, String) {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "over-http", "version": "1"},
        });
        let name = params["name"].as_str().map(|name| format!("Mcp-Name: {name}\r\n")).unwrap_or_default();
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let mut all = vec![("Host", "localhost"), ("Accept", "application/json, text/event-stream")];
        all.retain(|(name, _)| !headers.iter().any(|(given, _)| given == name));
        all.extend(headers);
        let lines: String = all.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "POST /mcp HTTP/1.1\r\n{lines}{name}Mcp-Method: {method}\r\nMCP-Protocol-Version: {}\r\n\
             Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            MODERN,
            body.len()
        );
        let mut stream = TcpStream::connect(self.1).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, answer)
    }
}

impl Drop for OverHttp {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn over_http_only_who_knows_the_token_and_no_web_page() {
    let world = world("");
    let token = "correct horse battery staple";
    let bearer = format!("Bearer {token}");
    let gateway = OverHttp::start(world.path(), Some(token));
    let call = json!({"name": "fixture__echo", "arguments": {"text": "over http"}});
    let (status, answer) = gateway.post("tools/call", call.clone(), &[("Authorization", &bearer)]);
    assert!(status == 200 && answer.contains("over http") && answer.contains("io.tollgate/receipt"), "{answer}");
    for wrong in
        ["Bearer correct horse battery stapl", "Bearer ", "Basic correct horse battery staple", &bearer.to_uppercase()]
    {
        let (status, answer) = gateway.post("tools/call", call.clone(), &[("Authorization", wrong)]);
        assert_eq!(status, 401, "{wrong}: {answer}");
    }
    assert_eq!(gateway.post("tools/call", call.clone(), &[]).0, 401);
    // A name that an attacker's DNS points here, and a page that a browser shows.
    for (name, value) in [
        ("Host", "evil.example"),
        ("Host", "evil.example:80"),
        ("Origin", "http://evil.example"),
        ("Origin", "null"),
        ("Origin", "http://127.0.0.1:1"),
        ("Origin", "http://localhost.evil.example"),
    ] {
        let (status, answer) = gateway.post("tools/call", call.clone(), &[("Authorization", &bearer), (name, value)]);
        assert_eq!(status, 403, "{name}: {value}: {answer}");
    }
    assert_eq!(costs(world.path())["groups"]["over-http"]["calls"], 1);
    assert_eq!(
        gateway.post("tools/call", call, &[("Authorization", &bearer), ("Origin", &format!("http://{}", gateway.1))]).0,
        200
    );
}

#[test]
fn an_address_that_others_reach_is_refused_without_a_token() {
    let world = world("");
    let output = Command::new(orchestrator())
        .args(["serve", "--http", "0.0.0.0:0"])
        .env_remove("TOLLGATE_GATEWAY_TOKEN")
        .current_dir(world.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("TOLLGATE_GATEWAY_TOKEN"), "{said}");
}

#[tokio::test]
async fn a_server_over_http_is_one_like_the_others() {
    let behind = world("");
    let token = "0123456789abcdef0123";
    let remote = OverHttp::start(behind.path(), Some(token));
    let world = world("");
    let config = fs::read_to_string(world.path().join("tollgate.toml")).unwrap();
    let url = format!(
        "[servers.remote]\nurl = \"http://{}/mcp\"\nheaders = {{ Authorization = \"Bearer ${{REMOTE_TOKEN}}\" }}\n",
        remote.1
    );
    fs::write(world.path().join("tollgate.toml"), format!("{config}{url}")).unwrap();
    let mut command = tokio::process::Command::new(orchestrator());
    command.arg("serve").current_dir(world.path()).env("REMOTE_TOKEN", token);
    let gateway = McpProcess::spawn(command);
    let called = gateway.call("remote__fixture__echo", json!({"text": "far"})).await;
    assert_eq!((called.text.as_str(), called.receipt.server.as_str()), ("far", "remote"));
    assert_eq!(costs(behind.path())["total"]["calls"], 1);
}
