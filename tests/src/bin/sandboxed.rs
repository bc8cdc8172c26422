//! Runs one job in the sandbox, as the servers do; and, inside it, what an attacker would try.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "this package is test code, where a panic is a failure")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use serde_json::json;
use tollgate_shared::sandbox::{self, Confinement, Job, Sandbox, SandboxError};

fn main() -> ExitCode {
    if let Some(code) = sandbox::divert() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["run", confinement, cancel_ms] => run(confinement, cancel_ms.parse().unwrap()),
        ["attack", attack @ ..] => match attempt(attack) {
            Ok(what) => println!("escaped: {what}"),
            Err(error) => println!("refused: {error}"),
        },
        other => panic!("{other:?} is nothing that this program does"),
    }
    ExitCode::SUCCESS
}

/// Runs the job on stdin and prints what came of it; cancels it after `cancel_ms`, when that is not 0.
fn run(confinement: &str, cancel_ms: u64) {
    let confinement: Confinement = serde_json::from_value(json!(confinement)).unwrap();
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).unwrap();
    let job: Job = serde_json::from_str(&text).unwrap();
    let begun = std::time::Instant::now();
    let cancelled = || cancel_ms > 0 && begun.elapsed() > Duration::from_millis(cancel_ms);
    let outcome = Sandbox::try_out(confinement)
        .map_err(SandboxError::Unavailable)
        .and_then(|sandbox| sandbox.run(&job, &cancelled));
    let answer = match outcome {
        Ok(finished) => json!({
            "ended": finished.ended,
            "stdout": String::from_utf8_lossy(&finished.stdout),
            "stderr": String::from_utf8_lossy(&finished.stderr),
        }),
        Err(SandboxError::Unavailable(reason)) => json!({ "unavailable": reason }),
        Err(error) => json!({ "error": error.to_string() }),
    };
    println!("{answer}");
}

/// Tries one way out; succeeds when it was one.
fn attempt(attack: &[&str]) -> std::io::Result<String> {
    let patience = Duration::from_secs(5);
    match attack {
        ["tcp", address] => {
            let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), patience)?;
            stream.write_all(b"secret")?;
            Ok("connected".to_owned())
        }
        ["udp", address] => {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            socket.send_to(b"secret", address)?;
            let mut answer = [0; 16];
            socket.recv(&mut answer)?;
            Ok("sent and answered".to_owned())
        }
        ["dns", name] => (*name, 80).to_socket_addrs().map(|mut found| format!("{:?}", found.next())),
        ["unix", path] => UnixStream::connect(path).map(|_| "connected".to_owned()),
        ["unix-listen", path] => UnixListener::bind(path).map(|_| "listening".to_owned()),
        ["abstract", name] => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            UnixStream::connect_addr(&address).map(|_| "connected".to_owned())
        }
        ["loopback"] => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            let server = std::thread::spawn(move || listener.accept().map(|_| ()));
            TcpStream::connect_timeout(&address, patience)?;
            server.join().unwrap()?;
            Ok("talked to itself".to_owned())
        }
        ["read", path] => fs::read(path).map(|content| String::from_utf8_lossy(&content).into_owned()),
        ["list", path] => fs::read_dir(path).map(|entries| format!("{} entries", entries.count())),
        ["write", path] => fs::write(path, "written").map(|()| "written".to_owned()),
        ["append", path] => {
            fs::File::options().append(true).open(path)?.write_all(b"more").map(|()| "appended".to_owned())
        }
        ["truncate", path] => {
            let path = std::ffi::CString::new(*path).unwrap();
            // The call that needs no open file.
            let file = fs::File::options().write(true).truncate(true).open(path.to_str().unwrap())?;
            file.sync_all().map(|()| "emptied".to_owned())
        }
        ["chmod", path] => {
            let before = fs::metadata(path)?.permissions().mode();
            fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
            let after = fs::metadata(path)?.permissions().mode();
            if before == after { Err(std::io::Error::other("nothing changed")) } else { Ok("changed".to_owned()) }
        }
        ["delete", path] => fs::remove_file(path).map(|()| "deleted".to_owned()),
        ["rename", from, to] => fs::rename(from, to).map(|()| "moved".to_owned()),
        ["hardlink", from, to] => {
            fs::hard_link(from, to)?;
            fs::write(to, "written through a link").map(|()| "written".to_owned())
        }
        ["through-link", target, link] => {
            symlink(target, link)?;
            fs::read_to_string(link)
        }
        ["write-through-link", target, link] => {
            symlink(target, link)?;
            fs::write(link, "written").map(|()| "written".to_owned())
        }
        ["signal", pid] => {
            let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
            Ok("killed".to_owned())
        }
        ["environment-of", pid] => {
            fs::read(format!("/proc/{pid}/environ")).map(|found| String::from_utf8_lossy(&found).into_owned())
        }
        ["mount"] => {
            rustix::mount::mount_bind("/", "/mnt")?;
            Ok("mounted".to_owned())
        }
        ["namespace"] => {
            let status = Command::new("unshare").args(["--user", "--map-root-user", "true"]).status()?;
            if status.success() { Ok("made".to_owned()) } else { Err(std::io::Error::other("unshare failed")) }
        }
        ["big-file", path] => {
            let mut file = fs::File::create(path)?;
            let block = vec![b'x'; 1 << 20];
            for _ in 0..100 * 1024 {
                file.write_all(&block)?;
            }
            Ok("wrote 100 GB".to_owned())
        }
        ["sparse-file", path] => {
            fs::File::create(path)?.set_len(100 << 30)?;
            Ok("made 100 GB".to_owned())
        }
        ["many-files", folder] => {
            let block = vec![b'x'; 8 << 20];
            for number in 0.. {
                fs::write(Path::new(folder).join(number.to_string()), &block)?;
            }
            Ok("filled the disk".to_owned())
        }
        ["memory"] => {
            let mut hoard = Vec::new();
            for number in 0..64_u8 {
                hoard.push(vec![number | 1; 128 << 20]);
            }
            Ok(format!("{} blocks of 128 MB", hoard.len()))
        }
        ["memory-together"] => {
            let own = std::env::current_exe()?;
            let spawn = |_| Command::new(&own).args(["attack", "memory-share"]).spawn();
            let mut children = (0..8).map(spawn).collect::<Result<Vec<_>, _>>()?;
            for child in &mut children {
                child.wait()?;
            }
            Ok("8 times 512 MB".to_owned())
        }
        ["memory-share"] => {
            let share = vec![1_u8; 512 << 20];
            std::thread::sleep(Duration::from_secs(20));
            Ok(share.len().to_string())
        }
        ["fork-bomb"] => {
            let own = std::env::current_exe()?;
            loop {
                // What it starts does the same; refusals do not stop it.
                let _ = Command::new(&own).args(["attack", "fork-bomb"]).stdout(Stdio::null()).spawn();
            }
        }
        ["threads"] => {
            for number in 0..100_000 {
                let sleeper = || std::thread::sleep(Duration::from_secs(60));
                std::thread::Builder::new()
                    .stack_size(16 * 1024)
                    .spawn(sleeper)
                    .map_err(|error| std::io::Error::other(format!("after {number}: {error}")))?;
            }
            Ok("100,000 threads".to_owned())
        }
        ["daemon", heartbeat] => {
            // Twice away from its parent, in a session of its own, its outputs closed.
            let script =
                format!("setsid sh -c '(while :; do date +%N > {heartbeat}; sleep 0.05; done) >/dev/null 2>&1 &' &");
            Command::new("/bin/sh").args(["-c", &script]).status()?;
            while !Path::new(heartbeat).exists() {
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok("a daemon is running".to_owned())
        }
        ["stubborn", heartbeat] => {
            let script = format!("trap '' TERM INT HUP QUIT; while :; do date +%N > {heartbeat}; sleep 0.05; done");
            Command::new("/bin/sh").args(["-c", &script]).status()?;
            Ok("ended".to_owned())
        }
        ["environment"] => Ok(std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect()),
        ["sleep", ms] => {
            std::thread::sleep(Duration::from_millis(ms.parse().unwrap()));
            Ok("slept".to_owned())
        }
        ["print", bytes] => {
            let mut left: usize = bytes.parse().unwrap();
            let block = [b'x'; 64 * 1024];
            while left > 0 {
                let count = left.min(block.len());
                std::io::stdout().write_all(&block[..count])?;
                left -= count;
            }
            Ok(String::new())
        }
        other => panic!("{other:?} is no attack"),
    }
}
