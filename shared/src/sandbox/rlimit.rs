//! Limits that the kernel keeps for each process.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};

use super::{Confinement, Limits};

/// Files that a process may have open: test runners and compilers open hundreds.
const FILES_MAX: u64 = 4096;

/// How much the job gives way to what people do on the same machine.
const NICENESS: i32 = 5;

/// Counts the processes and threads of this user, as the kernel does.
fn tasks_of_this_user() -> u64 {
    let user = rustix::process::getuid().as_raw();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = processes.filter(|process| process.metadata().is_ok_and(|metadata| metadata.uid() == user));
    own.map(|process| fs::read_dir(process.path().join("task")).map_or(0, Iterator::count) as u64).sum()
}

/// Limits this process and all that it starts.
pub(super) fn apply(limits: &Limits, confinement: Confinement) -> Result<(), String> {
    let mut all = vec![
        (Resource::Core, 0),
        (Resource::Fsize, limits.file_bytes),
        (Resource::Cpu, limits.cpu_s.max(1)),
        (Resource::Nofile, FILES_MAX),
        (Resource::Msgqueue, 0),
        (Resource::Rtprio, 0),
        // What can be written, not what is reserved: V8, Go and Java reserve far more than they use.
        (Resource::Data, limits.memory_bytes),
    ];
    match confinement {
        // Root has no such limit; its namespace has one, see there.
        Confinement::Namespaces => all.push((Resource::Nproc, limits.processes)),
        // Nothing but this keeps a fork bomb from the machine: whoever counts from outside is too slow.
        Confinement::Bubblewrap | Confinement::Landlock if rustix::process::getuid().is_root() => {
            return Err("root's processes cannot be limited here; run as another user".to_owned());
        }
        // `bwrap` made a namespace of users, in which nobody else's processes count.
        Confinement::Bubblewrap => all.push((Resource::Nproc, limits.processes)),
        // The kernel counts every process of the user, so those that are there already come on top.
        Confinement::Landlock => all.push((Resource::Nproc, limits.processes + tasks_of_this_user())),
        Confinement::None => {}
    }
    for (resource, wanted) in all {
        let limit = getrlimit(resource).maximum.map_or(wanted, |maximum| maximum.min(wanted));
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
            .map_err(|error| format!("limits: {resource:?}: {error}"))?;
    }
    let _ = setpriority_process(None, NICENESS);
    Ok(())
}
