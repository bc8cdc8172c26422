//! The part that is confined: it takes every right from itself, starts the program, and reports how it ended.
//!
//! It is the first process of its PID namespace: when it ends, the kernel ends everything else in there.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, setsid, wait};

use super::supervise::{Order, Report, receive_order, send};
use super::{Confinement, Ended, Job, landlock, namespaces, rlimit, seccomp};

/// Confines itself, runs one program and ends.
pub(super) fn main() -> ExitCode {
    let Ok(channel) = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else {
        return ExitCode::FAILURE;
    };
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // A keeper that died before the line above sends nothing.
    let Ok(Some((order, files))) = receive_order(&channel) else { return ExitCode::FAILURE };
    let report = match confine(&order) {
        Ok(()) => run(&order.job, files.into_iter().next()),
        Err(reason) => Report::Unconfined(reason),
    };
    match send(&channel, &report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Takes every right that the job is not given; in this order, since each step needs what the next one takes.
fn confine(order: &Order) -> Result<(), String> {
    let (job, confinement) = (&order.job, order.confinement);
    let _ = setsid();
    if confinement == Confinement::Namespaces {
        namespaces::arrange(job)?;
    }
    rlimit::apply(&job.limits, confinement)?;
    if confinement == Confinement::None {
        return Ok(());
    }
    namespaces::drop_capabilities(confinement)?;
    landlock::apply(job, confinement, order.network)?;
    seccomp::apply(confinement, order.network)
}

fn run(job: &Job, stdin: Option<OwnedFd>) -> Report {
    let spawned = Command::new(&job.program)
        .args(&job.arguments)
        .current_dir(&job.folder)
        .env_clear()
        .envs(&job.environment)
        .process_group(0)
        .stdin(stdin.map_or_else(Stdio::null, Stdio::from))
        .spawn();
    let child = match spawned {
        Ok(child) => child,
        Err(error) => return Report::NotStarted(error.to_string()),
    };
    // Nothing here writes any more: the program's end must be the end of its outputs.
    close_outputs();
    let own = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if Some(pid) == own => {
                let signal = status.terminating_signal();
                let ended = signal.map_or_else(|| Ended::Exited(status.exit_status().unwrap_or(-1)), Ended::Signalled);
                return Report::Ended(ended);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Report::NotStarted(format!("cannot wait: {error}")),
        }
    }
}

fn close_outputs() {
    let Ok(null) = std::fs::File::options().write(true).open("/dev/null") else { return };
    let null = OwnedFd::from(null);
    let _ = rustix::stdio::dup2_stdout(&null);
    let _ = rustix::stdio::dup2_stderr(&null);
}
