//! Namespaces of its own for one job: users, processes, network, mounts, IPC and the host's name.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change, mount_remount,
};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, netlink};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
};

use super::{Confinement, Job};

/// Memory that files in `/dev/shm` may use: semaphores and small arrays of test runners.
const SHM_OPTIONS: &std::ffi::CStr = c"size=128m,mode=1777";

/// Capabilities that [`arrange`] needs within the new namespaces: mounts, the loopback, giving the others up.
const NEEDED: [CapabilitySet; 3] = [CapabilitySet::SYS_ADMIN, CapabilitySet::NET_ADMIN, CapabilitySet::SETPCAP];

/// Lowest limit of process numbers that the kernel takes.
const PID_MAX_LEAST: u64 = 512;

/// Enters new namespaces; the next process that is started is the first of its PID namespace.
pub(super) fn enter(network: bool) -> Result<(), String> {
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mut flags = UnshareFlags::NEWUSER | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    flags.set(UnshareFlags::NEWNET, !network);
    #[expect(deprecated, reason = "its danger are shared file tables of threads, and this process has one thread")]
    rustix::thread::unshare(flags).map_err(|error| format!("namespaces are not allowed: {error}"))?;
    let write = |path: &str, text: String| fs::write(path, text).map_err(|error| format!("{path}: {error}"));
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    // An exec takes the capabilities of everybody but root, unless they are ambient.
    let had = capabilities(None).map_err(|error| format!("capabilities: {error}"))?;
    let needed = NEEDED.into_iter().fold(CapabilitySet::empty(), |all, one| all | one);
    let sets = CapabilitySets { inheritable: had.inheritable | needed, ..had };
    set_capabilities(None, sets).map_err(|error| format!("capabilities: {error}"))?;
    for capability in NEEDED {
        configure_capability_in_ambient_set(capability, true).map_err(|error| format!("capabilities: {error}"))?;
    }
    Ok(())
}

/// Makes the mounts of the job: everything read-only but what it may write, its own `/proc`, nothing where it is hidden.
pub(super) fn arrange(job: &Job) -> Result<(), String> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: Errno| format!("{what}: {error}")
    };
    #[expect(deprecated, reason = "its danger are shared file tables of threads, and this process has one thread")]
    rustix::thread::unshare(UnshareFlags::NEWNS).map_err(failed("mount namespace"))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).map_err(failed("private mounts"))?;
    for folder in &job.writable {
        mount_bind_recursive(folder, folder).map_err(failed("bind"))?;
    }
    for file in &job.fixed {
        mount_bind(file, file).map_err(failed("bind a file"))?;
    }
    make_read_only(job)?;
    for hidden in job.hidden.iter().filter(|hidden| hidden.is_dir()) {
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("none", hidden, "tmpfs", flags, c"size=4k,mode=0").map_err(failed("hiding a folder"))?;
    }
    if Path::new("/dev/shm").is_dir() {
        mount("none", "/dev/shm", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, SHM_OPTIONS)
            .map_err(failed("/dev/shm"))?;
    }
    // Where parts of `/proc` are covered, as in many containers, a fresh one is not allowed; Landlock then gives none.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let has_proc = mount("proc", "/proc", "proc", flags, None).is_ok();
    if rustix::process::getuid().is_root() {
        limit_process_numbers(job, has_proc)?;
    }
    let _ = raise_loopback();
    Ok(())
}

/// Limits the processes of root, which is above every limit of a user's processes.
///
/// Counting them from outside is no limit: a fork bomb is faster than whoever counts.
fn limit_process_numbers(job: &Job, has_proc: bool) -> Result<(), String> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    // Before Linux 6.14 the same file is the limit of the whole machine.
    if !has_proc || version(&release) < Some((6, 14)) {
        return Err("root's processes cannot be limited here; run as another user".to_owned());
    }
    let limit = job.limits.processes.max(PID_MAX_LEAST);
    fs::write("/proc/sys/kernel/pid_max", limit.to_string()).map_err(|error| format!("pid_max: {error}"))
}

/// Reads a kernel's major and minor version.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Returns whether `/proc` is the PID namespace's own.
pub(super) fn has_own_proc() -> bool {
    let number = rustix::process::getpid().to_string();
    fs::read_link("/proc/self").is_ok_and(|own| own == Path::new(&number))
}

/// Gives up every capability for good.
pub(super) fn drop_capabilities(confinement: Confinement) -> Result<(), String> {
    let failed = |error: Errno| format!("capabilities: {error}");
    let had = capabilities(None).map_err(failed)?;
    if had.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().iter() {
            // A kernel does not know the newest ones.
            let _ = remove_capability_from_bounding_set(capability);
        }
    }
    // `bwrap` gave them up before.
    if confinement != Confinement::Bubblewrap {
        clear_ambient_capability_set().map_err(failed)?;
    }
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, sets).map_err(failed)?;
    rustix::thread::set_no_new_privs(true).map_err(failed)
}

/// Makes every mount read-only but those below writable folders: Landlock does not keep modes, owners and times.
fn make_read_only(job: &Job) -> Result<(), String> {
    let is_writable =
        |target: &PathBuf| job.writable.iter().any(|folder| target.starts_with(folder)) && !job.fixed.contains(target);
    let listed = fs::read_to_string("/proc/self/mountinfo").map_err(|error| format!("mountinfo: {error}"))?;
    let mut done = BTreeSet::new();
    for (target, flags) in listed.lines().filter_map(mount_point) {
        if is_writable(&target) || !done.insert(target.clone()) {
            continue;
        }
        match mount_remount(&target, MountFlags::BIND | MountFlags::RDONLY | flags, c"") {
            Ok(()) => {}
            // Covered by another mount, deleted, or out of this user's reach: then out of the job's reach as well.
            Err(Errno::INVAL | Errno::NOENT | Errno::ACCESS | Errno::NOTDIR) => {}
            Err(error) => return Err(format!("{} cannot be made read-only: {error}", target.display())),
        }
    }
    // What counts is what came of it.
    if let Some(file) = job.fixed.iter().find(|file| rustix::fs::access(*file, Access::WRITE_OK).is_ok()) {
        return Err(format!("{} is still writable", file.display()));
    }
    let is_writable = rustix::fs::access("/", Access::WRITE_OK) != Err(Errno::ROFS);
    if is_writable && rustix::process::getuid().is_root() {
        return Err("the root folder is still writable".to_owned());
    }
    Ok(())
}

/// Reads one line of mountinfo: where the mount is, and the flags that must be kept.
fn mount_point(line: &str) -> Option<(PathBuf, MountFlags)> {
    let mut fields = line.split(' ').skip(4);
    let (target, options) = (fields.next()?, fields.next()?);
    let flags = options.split(',').fold(MountFlags::empty(), |flags, option| {
        flags
            | match option {
                "nosuid" => MountFlags::NOSUID,
                "nodev" => MountFlags::NODEV,
                "noexec" => MountFlags::NOEXEC,
                "noatime" => MountFlags::NOATIME,
                "nodiratime" => MountFlags::NODIRATIME,
                "relatime" => MountFlags::RELATIME,
                _ => MountFlags::empty(),
            }
    });
    Some((PathBuf::from(std::ffi::OsString::from_vec(unescaped(target.as_bytes()))), flags))
}

/// Undoes the octal escapes of mountinfo.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let digits =
            tail.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        let code = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(code) => {
                plain.push(code);
                rest = &tail[3..];
            }
            None => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

/// Raises the namespace's own loopback, so that a test may talk to its own server.
fn raise_loopback() -> Result<(), Errno> {
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_AND_ACKNOWLEDGE: u16 = 5;
    const INTERFACE_UP: u32 = 1;
    /// The first interface of a network namespace.
    const LOOPBACK: i32 = 1;
    let mut message = Vec::with_capacity(32);
    message.extend(32_u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_AND_ACKNOWLEDGE.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend([0; 4]);
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend(INTERFACE_UP.to_ne_bytes());
    message.extend(INTERFACE_UP.to_ne_bytes());
    // The protocol that nothing names is the routes'.
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    rustix::net::sendto(&socket, &message, SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 256];
    rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_keep_their_flags() {
        let line = r"36 35 98:0 / /mnt/a\040b rw,nosuid,nodev,relatime shared:1 - ext4 /dev/root rw";
        let (target, flags) = mount_point(line).unwrap();
        assert_eq!(target, Path::new("/mnt/a b"));
        assert_eq!(flags, MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RELATIME);
        assert_eq!(mount_point("36 35"), None);
        assert_eq!(version("6.18.44-fc-v595"), Some((6, 18)));
        assert!(version("5.10") < Some((6, 14)) && version("x") < Some((6, 14)));
        assert_eq!(unescaped(br"\1a\\134x\134"), br"\1a\\x\");
    }
}
