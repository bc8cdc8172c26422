//! Database servers of the tests' own: started from what is installed, in a temporary folder, once for a test process,
//! and ended with it.
//!
//! `TOLLGATE_TEST_POSTGRES_URL` and `TOLLGATE_TEST_MYSQL_URL` name a server to use instead, with a role that may make
//! databases. Where there is neither, tests are skipped and say so; with `TOLLGATE_REQUIRE_SERVICES=1` that is a failure.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use tempfile::TempDir;

/// A running server.
pub struct DatabaseServer {
    url: String,
    /// The folder of a server of our own, with what keeps it running; ends when this process does.
    own: Option<(Keeper, TempDir)>,
}

/// The shell that keeps a server running, and does what it is told.
struct Keeper {
    child: Child,
    answers: Mutex<BufReader<ChildStdout>>,
}

impl DatabaseServer {
    /// Returns the URL of `database` for a role that may do everything.
    pub fn url(&self, database: &str) -> String {
        let (start, rest) = self.url.split_once("/DATABASE").unwrap_or((&self.url, ""));
        format!("{start}/{database}{rest}")
    }

    /// Returns the URL of `database` for `role`, which has no password.
    pub fn url_of(&self, role: &str, database: &str) -> String {
        let url = self.url(database);
        let (scheme, rest) = url.split_once("://").expect("a URL has a scheme");
        let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
        format!("{scheme}://{role}@{rest}")
    }

    /// Returns the folder of a server of our own, which its process may write.
    pub fn folder(&self) -> Option<&Path> {
        self.own.as_ref().map(|(_, folder)| folder.path())
    }

    /// Returns the process that keeps a server of our own running.
    pub fn process(&self) -> Option<u32> {
        self.own.as_ref().map(|(keeper, _)| keeper.child.id())
    }
}

impl DatabaseServer {
    /// Ends a server of our own as a crash does: nothing is written, nobody is told.
    pub fn crash(&self) {
        self.tell("crash");
    }

    /// Starts it again after that, with what it had.
    pub fn start_again(&self) {
        self.tell("start");
    }

    fn tell(&self, word: &str) {
        let (keeper, _) = self.own.as_ref().expect("only a server of our own can be told");
        let mut answers = keeper.answers.lock().expect("nobody panicked with it");
        let mut stdin = keeper.child.stdin.as_ref().expect("its input is open");
        writeln!(stdin, "{word}").expect("it listens");
        let mut line = String::new();
        answers.read_line(&mut line).expect("it answers");
        assert_eq!(line.trim(), "ready", "the server did not {word}");
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Starts a PostgreSQL server for one test alone, which may end it; `None` where none is installed.
pub fn own_postgres() -> Option<DatabaseServer> {
    start_postgres(None).or_else(|| {
        skipped("PostgreSQL");
        None
    })
}

/// The same on a port of this machine, for clients that know no sockets.
pub fn own_tcp_postgres() -> Option<DatabaseServer> {
    let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
    start_postgres(Some(port)).or_else(|| {
        skipped("PostgreSQL");
        None
    })
}

/// Starts a MariaDB server for one test alone, which may end it; `None` where none is installed.
pub fn own_mysql() -> Option<DatabaseServer> {
    start_mysql().or_else(|| {
        skipped("MariaDB");
        None
    })
}

/// Returns a PostgreSQL server.
pub fn postgres() -> Option<&'static DatabaseServer> {
    static SERVER: OnceLock<Option<DatabaseServer>> = OnceLock::new();
    SERVER
        .get_or_init(|| named("TOLLGATE_TEST_POSTGRES_URL").or_else(|| start_postgres(None)))
        .as_ref()
        .or_else(|| skipped("PostgreSQL"))
}

/// Returns a MariaDB or MySQL server.
pub fn mysql() -> Option<&'static DatabaseServer> {
    static SERVER: OnceLock<Option<DatabaseServer>> = OnceLock::new();
    SERVER.get_or_init(|| named("TOLLGATE_TEST_MYSQL_URL").or_else(start_mysql)).as_ref().or_else(|| skipped("MariaDB"))
}

fn skipped(server: &str) -> Option<&'static DatabaseServer> {
    let required = std::env::var("TOLLGATE_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
    assert!(!required, "{server} is not installed, and no URL names one");
    eprintln!("skipped: {server} is not installed, and no URL names one");
    None
}

/// A server that somebody named; the database in its URL is replaced.
fn named(variable: &str) -> Option<DatabaseServer> {
    let url = std::env::var(variable).ok()?;
    let (scheme, rest) = url.split_once("://").expect("a URL has a scheme");
    let (host, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let options = rest.split_once('?').map(|(_, options)| format!("?{options}")).unwrap_or_default();
    Some(DatabaseServer { url: format!("{scheme}://{host}/DATABASE{options}"), own: None })
}

fn start_postgres(tcp: Option<u16>) -> Option<DatabaseServer> {
    let binaries = binaries("initdb", "/usr/lib/postgresql")?;
    let folder = folder("postgres");
    let path = folder.path().display().to_string();
    let bin = binaries.display();
    let (port, address) = tcp.map_or((5432, ""), |port| (port, "127.0.0.1"));
    let script = format!(
        "cd {path} && {bin}/initdb -D data -A trust -U owner -E UTF8 --locale=C.UTF-8 --no-sync >initdb.log 2>&1 || exit 1
         start() {{
            {bin}/pg_ctl -D data -w -l log start -o \"-k {path} -p {port} -c listen_addresses='{address}' -c fsync=off -c max_connections=60\" >/dev/null && echo ready
         }}
         crash() {{ {bin}/pg_ctl -D data -m immediate stop >/dev/null 2>&1; }}
         {KEEP}
         cd /; rm -rf {path}"
    );
    let keeper = keep("postgres", &script)?;
    let url = match tcp {
        Some(port) => format!("postgres://owner@127.0.0.1:{port}/DATABASE"),
        None => format!("postgres://owner@localhost:5432/DATABASE?host={path}"),
    };
    Some(DatabaseServer { url, own: Some((keeper, folder)) })
}

fn start_mysql() -> Option<DatabaseServer> {
    let install = which("mariadb-install-db")?;
    let server =
        which("mariadbd").or_else(|| Some(PathBuf::from("/usr/sbin/mariadbd")).filter(|path| path.is_file()))?;
    let folder = folder("mysql");
    let path = folder.path().display();
    let script = format!(
        "cd {path} && {} --no-defaults --datadir={path}/data --auth-root-authentication-method=normal --skip-test-db >install.log 2>&1;
         start() {{
            {} --no-defaults --datadir={path}/data --socket={path}/socket --skip-networking --pid-file={path}/pid \
                --secure-file-priv= --innodb-flush-log-at-trx-commit=0 --max-connections=60 --innodb-buffer-pool-size=32M >log 2>&1 &
            server=$!
            for try in $(seq 300); do [ -S socket ] && echo ready && break; sleep 0.1; done
         }}
         crash() {{ kill -9 $server; wait $server; rm -f socket; }}
         {KEEP}
         cd /; rm -rf {path}",
        install.display(),
        server.display()
    );
    let keeper = keep("mysql", &script)?;
    let url = format!("mysql://root@localhost/DATABASE?socket={}/socket", folder.path().display());
    Some(DatabaseServer { url, own: Some((keeper, folder)) })
}

/// Starts a server, does what it is told line by line, and ends with its input.
const KEEP: &str = "start; while read word; do case $word in crash) crash >/dev/null 2>&1; echo ready;; start) start;; esac; done; crash >/dev/null 2>&1";

/// Runs `script` as a user who may run servers; it gets the end of its input when this process ends.
fn keep(user: &str, script: &str) -> Option<Keeper> {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "sh", "-c", script]);
        command
    } else {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    };
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let mut answers = BufReader::new(child.stdout.take()?);
    let mut line = String::new();
    answers.read_line(&mut line).ok()?;
    if line.trim() != "ready" {
        let _ = child.kill();
        return None;
    }
    Some(Keeper { child, answers: Mutex::new(answers) })
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

/// A folder with a short name, since a socket's path is at most 107 bytes, that the server's user may write.
fn folder(owner: &str) -> TempDir {
    let folder = tempfile::Builder::new().prefix("tollgate-").tempdir_in("/tmp").expect("a temporary folder");
    if is_root() {
        let status = Command::new("chown").arg(owner).arg(folder.path()).status();
        assert!(status.is_ok_and(|status| status.success()), "chown {owner}");
    }
    folder
}

fn binaries(name: &str, versions: &str) -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(versions).into_iter().flatten().flatten().map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders
        .into_iter()
        .rev()
        .find(|folder| folder.join(name).is_file())
        .or_else(|| Some(which(name)?.parent()?.to_owned()))
}

fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}
