//! A real service over HTTP: deployed, upgraded, broken and rolled back while a client keeps asking.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tollgate_tests::world::skipped;

use super::world::{World, dist};

/// A supervisor that keeps the socket and starts the release's own program anew for `SIGHUP`: the old one answers what it
/// took and ends. It is the operator's; the release brings `serve.py`.
const SUPERVISOR: &str = r#"
import os, signal, socket, subprocess, sys
current, port, pid = sys.argv[1], int(sys.argv[2]), sys.argv[3]
listening = socket.socket()
listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listening.bind(("127.0.0.1", port))
listening.listen(512)
os.set_inheritable(listening.fileno(), True)
worker = None
def start(*_):
    global worker
    before = worker
    release = os.path.realpath(current)
    ready_read, ready_write = os.pipe()
    os.set_inheritable(ready_write, True)
    worker = subprocess.Popen([sys.executable, release + "/serve.py", str(listening.fileno()), str(ready_write)],
                              pass_fds=[listening.fileno(), ready_write])
    os.close(ready_write)
    os.read(ready_read, 1)
    os.close(ready_read)
    open(pid + ".loaded", "w").write(os.path.basename(release))
    if before:
        before.terminate()
        before.wait()
signal.signal(signal.SIGHUP, start)
open(pid, "w").write(str(os.getpid()))
while True:
    signal.pause()
"#;

const SERVE: &str = r#"
import http.server, os, select, signal, socket, sys
BROKEN, VERSION = @BROKEN@, "@VERSION@"
listening = socket.socket(fileno=int(sys.argv[1]))
listening.setblocking(False)
ends = []
signal.signal(signal.SIGTERM, lambda *_: ends.append(1))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        sick = BROKEN and self.path == "/health"
        body = VERSION.encode()
        self.send_response(500 if sick else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
os.write(int(sys.argv[2]), b"1"); os.close(int(sys.argv[2]))
while not ends:
    if not select.select([listening], [], [], 0.05)[0]: continue
    try: connection, address = listening.accept()
    except BlockingIOError: continue
    connection.setblocking(True)
    Handler(connection, address, None)
    connection.close()
"#;

struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        // The supervisor and its workers are one group.
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

fn get(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: x\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    Ok((status, answer.rsplit("\r\n").next().unwrap_or_default().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn service_is_upgraded_broken_and_rolled_back_without_a_failed_request() {
    if !Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        skipped("there is no python3 here for the service");
        return;
    }
    let world = World::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (pid, supervisor) = (world.path("pid"), world.path("supervisor.py"));
    fs::write(&supervisor, SUPERVISOR).unwrap();
    let reload = world.path("reload");
    // Returns when the new release answers, so that its health is asked and not the old one's.
    fs::write(
        &reload,
        format!(
            "#!/bin/sh\nset -e\nrm -f '{0}.loaded'\nkill -HUP $(cat '{0}')\nuntil [ -s '{0}.loaded' ]; do sleep 0.02; done\n",
            pid.display()
        ),
    )
    .unwrap();
    fs::set_permissions(&reload, fs::Permissions::from_mode(0o755)).unwrap();
    world.configure(&format!(
        "[deploy.environments.dev]\npath = 'targets/dev/{{service}}'\nreload = ['{}']\n\
         health = {{ http = 'http://127.0.0.1:{port}/health', count = 2, interval_ms = 20 }}\n",
        reload.display()
    ));
    let build = |version: &str, broken: bool| {
        world.build("dist", version, "exit 0");
        let serve = SERVE.replace("@VERSION@", version).replace("@BROKEN@", if broken { "True" } else { "False" });
        fs::write(world.work().join("dist/serve.py"), serve).unwrap();
    };
    let started = {
        use std::os::unix::process::CommandExt;
        Command::new("python3")
            .arg(&supervisor)
            .arg(world.target("dev").join("current"))
            .arg(port.to_string())
            .arg(&pid)
            .process_group(0)
            .spawn()
            .unwrap()
    };
    let _supervisor = Stopped(started);
    for _ in 0..1000 {
        if fs::read_to_string(&pid).is_ok_and(|text| !text.is_empty()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let server = world.start();
    build("1.0", false);
    server.ok("deploy", dist("dev", "1.0")).await;
    assert_eq!(get(port, "/").unwrap(), (200, "1.0".to_owned()));

    let (stop, asked, failed) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, asked, failed) = (Arc::clone(&stop), Arc::clone(&asked), Arc::clone(&failed));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    if !get(port, "/").is_ok_and(|(status, _)| status == 200) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    build("2.0", false);
    server.ok("deploy", dist("dev", "2.0")).await;
    assert_eq!(get(port, "/").unwrap(), (200, "2.0".to_owned()));
    build("3.0", true);
    let begun = Instant::now();
    let refused = server.refused("deploy", dist("dev", "3.0")).await;
    let taken = begun.elapsed();
    assert_eq!(refused["code"], "health_check_failed");
    assert_eq!(get(port, "/health").unwrap(), (200, "2.0".to_owned()));
    let begun = Instant::now();
    server.ok("rollback", json!({"environment": "dev", "service": "shop"})).await;
    let back = begun.elapsed();
    assert_eq!(get(port, "/").unwrap(), (200, "1.0".to_owned()));
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    // The history says when each step was reached.
    let history = server.ok("deployment_history", json!({"environment": "dev"})).await;
    let broken = history["deployments"].as_array().unwrap().iter().find(|one| one["version"] == "3.0").unwrap().clone();
    let at = |event: &str| {
        let steps = broken["transitions"].as_array().or_else(|| broken["steps"].as_array()).unwrap();
        let step = steps.iter().find(|step| step["event"] == event).unwrap_or_else(|| panic!("{event} in {broken}"));
        step["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    let (switched, noticed, restored) = (at("switch"), at("give_up"), at("restore"));
    let asked = asked.load(Ordering::Relaxed);
    println!(
        "{asked} requests, {} failed; detected in {} ms, rolled back in {} ms more; the broken deployment took {} ms, \
         the rollback {} ms",
        failed.load(Ordering::Relaxed),
        noticed.duration_since(switched).as_millis(),
        restored.duration_since(noticed).as_millis(),
        taken.as_millis(),
        back.as_millis()
    );
    assert!(asked > 20, "the clients asked too little to show anything: {asked}");
    assert_eq!(failed.load(Ordering::Relaxed), 0);
}
