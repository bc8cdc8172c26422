//! `bwrap`, where it is installed: a root folder with nothing in it but what the job is given.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{HELPER_ARGUMENT, Job};

/// Where the system installs it; a PATH could lead to something else.
const PROGRAMS: [&str; 2] = ["/usr/bin/bwrap", "/usr/local/bin/bwrap"];

/// Returns the command that starts the inner part within `bwrap`.
pub(super) fn command(job: &Job, network: bool) -> Result<Command, String> {
    let program = PROGRAMS.iter().find(|path| Path::new(path).is_file()).ok_or("bwrap is not installed")?;
    let own = std::env::current_exe().map_err(|error| format!("this program's own path: {error}"))?;
    let mut command = Command::new(program);
    command.args(["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox"]);
    if network {
        command.arg("--share-net");
    }
    // What lies below comes after what it lies in.
    let mut readable: Vec<&PathBuf> = job.readable.iter().collect();
    readable.sort();
    for path in readable.into_iter().chain([&own]) {
        // A link of the system, such as /bin, is made again; binding it would follow it.
        match std::fs::read_link(path) {
            Ok(target) => command.arg("--symlink").arg(target).arg(path),
            Err(_) => command.arg("--ro-bind-try").arg(path).arg(path),
        };
    }
    command.args([
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--ro-bind-try",
        "/sys/devices/system/cpu",
        "/sys/devices/system/cpu",
    ]);
    for hidden in job.hidden.iter().filter(|hidden| hidden.is_dir()) {
        command.arg("--tmpfs").arg(hidden).arg("--remount-ro").arg(hidden);
    }
    for folder in &job.writable {
        command.arg("--bind").arg(folder).arg(folder);
    }
    for file in &job.fixed {
        command.arg("--ro-bind").arg(file).arg(file);
    }
    command.arg("--").arg(own).args([HELPER_ARGUMENT, "inside"]);
    Ok(command)
}
