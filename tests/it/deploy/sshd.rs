//! Another host: an SSH server on this machine.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tollgate_tests::world::skipped;

use super::world::World;

/// A server of SSH's own on this machine, with its own configuration and keys.
pub struct Sshd {
    dir: TempDir,
    child: Child,
    port: u16,
}

impl Sshd {
    /// Starts one; `None` with the reason on stderr where that cannot be.
    pub fn start() -> Option<Self> {
        let program = ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let Some(program) = program else {
            skipped("there is no sshd here");
            return None;
        };
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        for key in ["host", "user"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path(key)).status();
            assert!(made.unwrap().success());
        }
        fs::copy(path("user.pub"), path("authorized")).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = fs::read_to_string(path("host.pub")).unwrap();
        fs::write(path("known"), format!("[127.0.0.1]:{port} {host}")).unwrap();
        fs::write(
            path("config"),
            format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized\n\
                 PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n\
                 KbdInteractiveAuthentication no\nMaxStartups 100\n",
                dir.path().display()
            ),
        )
        .unwrap();
        let _ = fs::create_dir_all("/run/sshd");
        let child = Command::new(program)
            .args(["-D", "-e", "-f"])
            .arg(path("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        let mut sshd = Self { dir, child, port };
        for _ in 0..500 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(sshd);
            }
            if sshd.child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        skipped(&format!("sshd does not run here: {}", fs::read_to_string(sshd.dir.path().join("log")).unwrap()));
        None
    }

    /// Returns an environment whose releases go to this server, below `remote` beside the workspace.
    pub fn environment(&self, world: &World, known_hosts: &str, rules: &str) -> String {
        let user = Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8(user.stdout).unwrap();
        let dir = self.dir.path().display();
        format!(
            "[deploy.environments.dev]\ntarget = 'ssh'\npath = 'targets/dev/{{service}}'\n{rules}\n\
             [deploy.environments.dev.ssh]\nhost = '{}@127.0.0.1'\npath = '{}/its own/{{service}}'\nport = {}\n\
             identity = '{dir}/user'\nknown_hosts = '{dir}/{known_hosts}'\n",
            user.trim(),
            world.path("remote").display(),
            self.port
        )
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
