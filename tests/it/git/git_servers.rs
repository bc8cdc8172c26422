//! Real remotes on other ports of this machine: git's own HTTP backend and an ssh daemon.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

/// What an HTTP server does besides answering.
#[derive(Clone, Default)]
pub struct Manner {
    /// The `Authorization` header without which it lets nobody in.
    pub authorization: Option<String>,
    /// Where it sends everybody instead.
    pub redirect: Option<String>,
    /// The folder with its certificate and key (see [`certificate`]): it speaks TLS.
    pub tls: Option<PathBuf>,
}

/// Makes a certificate for `name` in `folder`, signed by an authority of its own that nobody knows yet; returns the
/// authority's certificate.
pub fn certificate(folder: &Path, name: &str) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let at = |name: &str| folder.join(name).display().to_string();
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    ran(Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-days",
            "2",
            "-subj",
            "/CN=Test authority",
            "-keyout",
            &at("ca.key"),
            "-out",
            &at("ca.pem"),
        ])
        .args(key));
    ran(Command::new("openssl")
        .args(["req", "-subj", "/CN=test", "-keyout", &at("key.pem"), "-out", &at("request.pem")])
        .args(key));
    fs::write(folder.join("extensions"), format!("subjectAltName=IP:{name}\n")).unwrap();
    ran(Command::new("openssl")
        .args([
            "x509",
            "-req",
            "-days",
            "2",
            "-CAcreateserial",
            "-in",
            &at("request.pem"),
            "-out",
            &at("certificate.pem"),
        ])
        .args(["-CA", &at("ca.pem"), "-CAkey", &at("ca.key"), "-extfile", &at("extensions")]));
    folder.join("ca.pem")
}

fn tls_configuration(folder: &Path) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(folder.join("certificate.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    Arc::new(builder.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap())
}

/// `git http-backend` behind a small HTTP server.
pub struct HttpServer {
    pub port: u16,
    /// The first line of every request.
    pub requests: Arc<Mutex<Vec<String>>>,
    scheme: &'static str,
}

impl HttpServer {
    /// Serves the repositories below `root`.
    pub fn start(root: &Path, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (root, seen) = (root.to_owned(), Arc::clone(&requests));
        let scheme = if manner.tls.is_some() { "https" } else { "http" };
        let tls = manner.tls.as_deref().map(tls_configuration);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (root, manner, seen, tls) = (root.clone(), manner.clone(), Arc::clone(&seen), tls.clone());
                thread::spawn(move || match tls {
                    None => answer(&mut stream, &root, &manner, &seen),
                    Some(tls) => {
                        let mut stream = StreamOwned::new(ServerConnection::new(tls).ok()?, stream);
                        let answered = answer(&mut stream, &root, &manner, &seen);
                        stream.conn.send_close_notify();
                        stream.flush().ok()?;
                        answered
                    }
                });
            }
        });
        Self { port, requests, scheme }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}/{path}", self.scheme, self.port)
    }
}

fn answer(stream: &mut (impl Read + Write), root: &Path, manner: &Manner, seen: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    // Whoever does not trust the certificate says nothing.
    if line.is_empty() {
        return None;
    }
    seen.lock().unwrap().push(line.trim().to_owned());
    let mut parts = line.split_whitespace();
    let (method, target) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let refuse = |status: &str, header: &str| {
        format!("HTTP/1.1 {status}\r\n{header}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    };
    if let Some(to) = &manner.redirect {
        reader.get_mut().write_all(refuse("302 Found", &format!("Location: {to}{target}")).as_bytes()).ok()?;
        return None;
    }
    if manner.authorization.is_some() && headers.get("authorization") != manner.authorization.as_ref() {
        reader
            .get_mut()
            .write_all(refuse("401 Unauthorized", "WWW-Authenticate: Basic realm=\"git\"").as_bytes())
            .ok()?;
        return None;
    }
    if headers.contains_key("expect") {
        reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let body = body(&mut reader, &headers)?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "tester")
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("REQUEST_METHOD", &method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdin = backend.stdin.take()?;
    let writing = thread::spawn(move || stdin.write_all(&body));
    let mut output = Vec::new();
    backend.stdout.take()?.read_to_end(&mut output).ok()?;
    let _ = writing.join();
    let _ = backend.wait();
    let end = output.windows(4).position(|part| part == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
    let kept: Vec<&str> = head.lines().filter(|line| !line.starts_with("Status: ")).collect();
    let length = output.len() - end - 4;
    let head =
        format!("HTTP/1.1 {status}\r\n{}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n", kept.join("\r\n"));
    reader.get_mut().write_all(head.as_bytes()).ok()?;
    reader.get_mut().write_all(&output[end + 4..]).ok()
}

fn body(reader: &mut impl BufRead, headers: &BTreeMap<String, String>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            if size == 0 {
                return Some(body);
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    body.resize(length, 0);
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

/// An ssh daemon that lets the user of this test in with one key, and an agent that has the key.
pub struct SshServer {
    pub port: u16,
    pub user: String,
    pub agent_socket: PathBuf,
    pub known_hosts: PathBuf,
    folder: TempDir,
    daemon: Child,
    agent: Child,
}

impl SshServer {
    /// Starts both; `None`, with the reason on stderr, where the machine has no ssh daemon.
    pub fn start() -> Option<Self> {
        let Some(sshd) =
            ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].map(Path::new).into_iter().find(|path| path.exists())
        else {
            assert!(std::env::var_os("TOLLGATE_REQUIRE_SERVICES").is_none(), "openssh-server is not installed");
            eprintln!("skipped: openssh-server is not installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        for key in ["host", "other", "user"] {
            ran(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]));
        }
        fs::copy(at("user.pub"), at("authorized_keys")).unwrap();
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().to_owned();
        if user == "root" {
            // Where it gives its rights up; a package's service makes it at boot.
            let _ = fs::create_dir_all("/run/sshd");
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let configuration = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             PermitUserEnvironment no\nAcceptEnv GIT_PROTOCOL\n",
            at("host"),
            at("authorized_keys")
        );
        fs::write(at("config"), configuration).unwrap();
        let log = fs::File::create(at("log")).unwrap();
        let daemon = Command::new(sshd)
            .args(["-D", "-e", "-f", &at("config")])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let agent_socket = folder.path().join("agent");
        let agent =
            Command::new("ssh-agent").arg("-D").arg("-a").arg(&agent_socket).stdout(Stdio::null()).spawn().unwrap();
        let host = fs::read_to_string(at("host.pub")).unwrap();
        let known_hosts = folder.path().join("known_hosts");
        fs::write(&known_hosts, format!("[127.0.0.1]:{port} {host}")).unwrap();
        let server = Self { port, user, agent_socket, known_hosts, folder, daemon, agent };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() || !server.agent_socket.exists() {
            let log = fs::read_to_string(server.folder.path().join("log")).unwrap_or_default();
            assert!(started.elapsed() < Duration::from_secs(30), "sshd does not start: {log}");
            thread::sleep(Duration::from_millis(50));
        }
        ran(Command::new("ssh-add")
            .arg("-q")
            .arg(server.folder.path().join("user"))
            .env("SSH_AUTH_SOCK", &server.agent_socket));
        Some(server)
    }

    /// A file of host keys that has another key for this host.
    pub fn wrong_known_hosts(&self) -> PathBuf {
        let other = fs::read_to_string(self.folder.path().join("other.pub")).unwrap();
        let path = self.folder.path().join("wrong_known_hosts");
        fs::write(&path, format!("[127.0.0.1]:{} {other}", self.port)).unwrap();
        path
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        for child in [&mut self.daemon, &mut self.agent] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn ran(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
