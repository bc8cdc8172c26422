//! A Docker daemon of one test's own, and Docker Compose.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tollgate_tests::world::skipped;

/// What the image is made of: programs of this machine with their libraries, since no registry is asked for one.
const PROGRAMS: [&str; 3] = ["/bin/sh", "/bin/sleep", "/bin/cat"];

/// The name of the only image that there is.
pub const IMAGE: &str = "tollgate-tests:1";

/// A daemon in namespaces of its own, so that nothing of it stays.
pub struct Docker {
    dir: TempDir,
    daemon: Child,
    compose: PathBuf,
}

impl Docker {
    /// Starts one; `None` with the reason on stderr where that cannot be.
    pub fn start() -> Option<Self> {
        let on_path = |name: &str| folders().iter().map(|folder| folder.join(name)).find(|path| path.is_file());
        // `--wait` is Docker Compose 2's, a plugin beside the folders of programs.
        let compose = folders()
            .iter()
            .filter_map(|folder| Some(folder.parent()?.join("libexec/docker/cli-plugins/docker-compose")))
            .find(|path| path.is_file());
        let (Some(compose), Some(dockerd), Some(_), Some(_), Some(docker)) =
            (compose, on_path("dockerd"), on_path("containerd"), on_path("runc"), on_path("docker"))
        else {
            skipped("dockerd, containerd, runc, docker and Docker Compose 2 are not all here");
            return None;
        };
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: a Docker daemon needs root");
            return None;
        }
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        let search_path = env::join_paths(folders()).unwrap();
        let daemon = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(dockerd)
            .args(["--storage-driver=vfs", "--iptables=false", "--ip6tables=false", "--bridge=none", "--data-root"])
            .args([&at("data"), Path::new("--exec-root"), &at("exec"), Path::new("--pidfile"), &at("pid")])
            .arg("--host")
            .arg(format!("unix://{}", at("socket").display()))
            .env("PATH", &search_path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(at("log")).unwrap())
            .spawn()
            .unwrap();
        let mut started = Self { dir, daemon, compose };
        for _ in 0..3000 {
            if started.docker(&docker, &["version"], b"").is_some() {
                started.docker(&docker, &["import", "-", IMAGE], &image()).expect("the image is taken");
                return Some(started);
            }
            if started.daemon.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // What the kernel does not let it do here is nothing that could be installed.
        let log = fs::read_to_string(started.dir.path().join("log")).unwrap_or_default();
        eprintln!("skipped: a Docker daemon does not run here: {}", log.lines().last().unwrap_or_default());
        None
    }

    /// Where the daemon is reached, as `DOCKER_HOST` has it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("socket").display())
    }

    /// The program of Docker Compose.
    pub fn compose(&self) -> &Path {
        &self.compose
    }

    /// Returns what Compose says of a project: `name id health` of each container.
    pub fn containers(&self, project: &str) -> Vec<String> {
        let output = Command::new(&self.compose)
            .args(["--project-name", project, "ps", "--all", "--format", "{{.Service}} {{.ID}} {{.Health}}"])
            .env("DOCKER_HOST", self.host())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn docker(&self, docker: &Path, arguments: &[&str], stdin: &[u8]) -> Option<()> {
        let mut child = Command::new(docker)
            .arg("--host")
            .arg(self.host())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // One that fails at once reads nothing.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        child.wait().unwrap().success().then_some(())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // The daemon is the first process of its namespace: with it, all of its containers end.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect()
}

/// An archive with [`PROGRAMS`] and what they are linked with.
fn image() -> Vec<u8> {
    let linked = Command::new("ldd").args(PROGRAMS).output().expect("ldd is there");
    let linked = String::from_utf8(linked.stdout).unwrap();
    let libraries = linked.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
    let mut files: Vec<&str> = libraries.chain(PROGRAMS).collect();
    files.sort_unstable();
    files.dedup();
    let archive = Command::new("tar").args(["--create", "--dereference", "--absolute-names"]).args(files).output();
    archive.expect("tar is there").stdout
}
