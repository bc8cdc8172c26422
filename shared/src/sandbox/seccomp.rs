//! What may be asked of the kernel, by seccomp: everything that building and testing needs, and nothing that reaches
//! other processes, the network, mounts, keys or the kernel's rarely used parts.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter, sock_filter,
};

use super::Confinement;

/// The newest call that was judged (`mseal`); later ones, and those of x32, do not exist for a job.
const NEWEST_CALL: u32 = 462;

/// Calls that are refused as not permitted.
const REFUSED: &[c_long] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    // Keys, which namespaces do not keep apart.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // Memory that nobody counts.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_msgget,
    libc::SYS_mq_open,
    libc::SYS_memfd_secret,
    // The kernel itself.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_vhangup,
];

/// Calls that only this architecture has.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[c_long] =
    &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_kexec_file_load, libc::SYS_uselib];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[c_long] = &[];

/// Calls that programs do without when the kernel does not have them.
const ABSENT: &[c_long] = &[
    // Its flags are in memory, where a filter cannot see them; libraries then use `clone`, which is looked at.
    libc::SYS_clone3,
    // It does every other call without asking a filter.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Memory that nobody counts.
    libc::SYS_memfd_create,
];

/// Calls that change what Landlock does not keep; without read-only mounts they seem to work and do nothing.
#[cfg(target_arch = "x86_64")]
const PRETENDED: &[c_long] = &[
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    SYS_FCHMODAT2,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];
#[cfg(not(target_arch = "x86_64"))]
const PRETENDED: &[c_long] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    SYS_FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];

/// Of Linux 6.6, the same number everywhere.
const SYS_FCHMODAT2: c_long = 452;

/// `ioctl`s that type into a terminal.
const TERMINAL: [u64; 2] = [0x5412, 0x541c];

/// Filters what this process, and all that it starts, may ask of the kernel.
pub(super) fn apply(confinement: Confinement, network: bool) -> Result<(), String> {
    let has_loopback = matches!(confinement, Confinement::Namespaces | Confinement::Bubblewrap);
    install(&refused(has_loopback || network)?, libc::EPERM)?;
    install(&unconditional(ABSENT), libc::ENOSYS)?;
    if confinement == Confinement::Landlock {
        install(&unconditional(PRETENDED), 0)?;
    }
    Ok(())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn refused(has_network: bool) -> Result<Rules, String> {
    let mut rules = unconditional(REFUSED);
    rules.extend(unconditional(REFUSED_HERE));
    // A namespace of one's own is a way to more of the kernel than an ordinary program sees.
    let namespaces = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ];
    let flags = namespaces.iter().map(|flag| u64::from(flag.cast_unsigned()));
    rules.insert(
        libc::SYS_clone,
        flags.map(|flag| rule(&[argument(0, SeccompCmpOp::MaskedEq(flag), flag)?])).collect::<Result<_, _>>()?,
    );
    rules.insert(
        libc::SYS_ioctl,
        TERMINAL
            .into_iter()
            .map(|request| rule(&[argument(1, SeccompCmpOp::Eq, request)?]))
            .collect::<Result<_, _>>()?,
    );
    // No socket of any kind: those of the host are files that a namespace of the network does not keep away, and a
    // connected pair, which worker processes talk over, needs no `socket`. On a network of one's own there is
    // nobody to talk to but oneself; the host's is given only by the operator.
    let sockets = if has_network {
        let (four, six) = (libc::AF_INET.cast_unsigned(), libc::AF_INET6.cast_unsigned());
        let conditions =
            [argument(0, SeccompCmpOp::Ne, u64::from(four))?, argument(0, SeccompCmpOp::Ne, u64::from(six))?];
        vec![rule(&conditions)?]
    } else {
        Vec::new()
    };
    rules.insert(libc::SYS_socket, sockets);
    Ok(rules)
}

fn unconditional(calls: &[c_long]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

fn rule(conditions: &[SeccompCondition]) -> Result<SeccompRule, String> {
    SeccompRule::new(conditions.to_vec()).map_err(|error| format!("seccomp: {error}"))
}

fn argument(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, String> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value).map_err(|error| format!("seccomp: {error}"))
}

/// Makes `rules` answer with `errno` from now on; 0 is a success that did nothing.
fn install(rules: &Rules, errno: i32) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("seccomp: {error}");
    let architecture = std::env::consts::ARCH.try_into().map_err(|error: seccompiler::BackendError| failed(&error))?;
    let filter = SeccompFilter::new(
        rules.clone(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.cast_unsigned()),
        architecture,
    );
    let compiled: BpfProgram =
        filter.and_then(TryInto::try_into).map_err(|error: seccompiler::BackendError| failed(&error))?;
    apply_filter(&bounded(compiled)).map_err(|error| failed(&error))
}

/// Puts before `program` that calls beyond [`NEWEST_CALL`] do not exist.
fn bounded(program: BpfProgram) -> BpfProgram {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_GREATER: u16 = 0x25;
    const RETURN: u16 = 0x06;
    const ERRNO: u32 = 0x0005_0000;
    let absent = ERRNO | libc::ENOSYS.cast_unsigned();
    let mut bounded = vec![
        // The number of the call is the first word of what a filter sees.
        sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: 0 },
        sock_filter { code: JUMP_IF_GREATER, jt: 0, jf: 1, k: NEWEST_CALL },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: absent },
    ];
    bounded.extend(program);
    bounded
}
