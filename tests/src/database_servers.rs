//! Database servers of the tests' own: started from what is installed, in a temporary folder, once for a test process,
//! and ended with it.
//!
//! `TOLLGATE_TEST_POSTGRES_URL` and `TOLLGATE_TEST_MYSQL_URL` name a server to use instead, with a role that may make
//! databases. Where there is neither, tests are skipped and say so; with `TOLLGATE_REQUIRE_SERVICES=1` that is a failure.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// A running server.
pub struct DatabaseServer {
    url: String,
    /// The folder of a server of our own, with its process; ends when this process does.
    own: Option<(TempDir, Child)>,
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
        self.own.as_ref().map(|(folder, _)| folder.path())
    }

    /// Returns the process that keeps a server of our own running.
    pub fn process(&self) -> Option<u32> {
        self.own.as_ref().map(|(_, child)| child.id())
    }
}

/// Returns a PostgreSQL server.
pub fn postgres() -> Option<&'static DatabaseServer> {
    static SERVER: OnceLock<Option<DatabaseServer>> = OnceLock::new();
    SERVER
        .get_or_init(|| named("TOLLGATE_TEST_POSTGRES_URL").or_else(start_postgres))
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

fn start_postgres() -> Option<DatabaseServer> {
    let binaries = binaries("initdb", "/usr/lib/postgresql")?;
    let folder = folder("postgres");
    let path = folder.path().display();
    let bin = binaries.display();
    let script = format!(
        "cd {path} && {bin}/initdb -D data -A trust -U owner -E UTF8 --locale=C.UTF-8 --no-sync >initdb.log 2>&1 &&
         {bin}/pg_ctl -D data -w -l log start -o \"-k {path} -p 5432 -c listen_addresses='' -c fsync=off -c max_connections=60\" >/dev/null &&
         echo ready; read line; {bin}/pg_ctl -D data -m immediate stop >/dev/null 2>&1; cd /; rm -rf {path}"
    );
    let child = keep("postgres", &script)?;
    let url = format!("postgres://owner@localhost:5432/DATABASE?host={}", folder.path().display());
    Some(DatabaseServer { url, own: Some((folder, child)) })
}

fn start_mysql() -> Option<DatabaseServer> {
    let install = which("mariadb-install-db")?;
    let server =
        which("mariadbd").or_else(|| Some(PathBuf::from("/usr/sbin/mariadbd")).filter(|path| path.is_file()))?;
    let folder = folder("mysql");
    let path = folder.path().display();
    let script = format!(
        "cd {path} && {} --no-defaults --datadir={path}/data --auth-root-authentication-method=normal --skip-test-db >install.log 2>&1;
         {} --no-defaults --datadir={path}/data --socket={path}/socket --skip-networking --pid-file={path}/pid \
            --secure-file-priv= --innodb-flush-log-at-trx-commit=0 --max-connections=60 --innodb-buffer-pool-size=32M >log 2>&1 &
         server=$!
         for try in $(seq 300); do [ -S socket ] && echo ready && break; sleep 0.1; done
         read line; kill -9 $server; wait $server; cd /; rm -rf {path}",
        install.display(),
        server.display()
    );
    let child = keep("mysql", &script)?;
    let url = format!("mysql://root@localhost/DATABASE?socket={}/socket", folder.path().display());
    Some(DatabaseServer { url, own: Some((folder, child)) })
}

/// Runs `script` as a user who may run servers; it gets the end of its input when this process ends.
fn keep(user: &str, script: &str) -> Option<Child> {
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
    let mut line = String::new();
    BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
    if line.trim() != "ready" {
        let _ = child.kill();
        return None;
    }
    Some(child)
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
