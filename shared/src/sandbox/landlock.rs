//! What may be read and written, by Landlock: nothing but what a rule gives.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::fs::{Mode, OFlags};

use super::{Confinement, Job, namespaces};

/// The newest version that this was tried with.
const NEWEST: ABI = ABI::V7;

/// The first version that also keeps files from being emptied; without it, and without `bwrap`, nothing is run.
const LEAST: ABI = ABI::V3;

/// Devices that do nothing but their one thing.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// What programs look up about the machine.
const MACHINE: [&str; 4] =
    ["/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage"];

/// What programs look up about the machine in a `/proc` that shows the processes of others.
const SHARED_PROC: [&str; 6] = [
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/filesystems",
    "/proc/version",
    "/proc/sys/vm/overcommit_memory",
];

/// Deepest folder between a readable one and a hidden one.
const DEPTH_MAX: usize = 64;

/// Restricts this process, and all that it starts, to the files of `job`.
pub(super) fn apply(job: &Job, confinement: Confinement, network: bool) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("landlock: {error}");
    if confinement == Confinement::Landlock && !job.fixed.is_empty() {
        return Err("landlock alone cannot keep a file in a writable folder from being replaced".to_owned());
    }
    // Below `bwrap`, which shows nothing else, this is a second lock.
    let level = match confinement {
        Confinement::Bubblewrap => CompatLevel::BestEffort,
        _ => CompatLevel::HardRequirement,
    };
    let mut ruleset = landlock::Ruleset::default()
        .set_compatibility(level)
        .handle_access(AccessFs::from_all(LEAST))
        .map_err(|error| failed(&error))?;
    // Without namespaces only a scope keeps signals from the processes of others.
    let level = match confinement {
        Confinement::Landlock => CompatLevel::HardRequirement,
        _ => CompatLevel::BestEffort,
    };
    ruleset = ruleset.set_compatibility(level).scope(Scope::from_all(NEWEST)).map_err(|error| failed(&error))?;
    ruleset = ruleset
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .map_err(|error| failed(&error))?;
    if confinement == Confinement::Landlock && !network {
        ruleset = ruleset.handle_access(AccessNet::from_all(NEWEST)).map_err(|error| failed(&error))?;
    }
    let created = ruleset.create().map_err(|error| failed(&error))?;
    let mut rules = Rules { created: Some(created), hidden: hidden(&job.hidden) };
    rules.grant_all(job, confinement).map_err(|error| failed(&error))?;
    let Some(created) = rules.created else { return Err("landlock: no rules".to_owned()) };
    let status = created.restrict_self().map_err(|error| failed(&error))?;
    if confinement != Confinement::Bubblewrap && status.ruleset == RulesetStatus::NotEnforced {
        return Err("landlock is not enforced".to_owned());
    }
    Ok(())
}

/// A rule set that is being filled.
struct Rules {
    created: Option<RulesetCreated>,
    /// Device and inode of what must not be read.
    hidden: Vec<(PathBuf, u64, u64)>,
}

impl Rules {
    fn grant_all(&mut self, job: &Job, confinement: Confinement) -> Result<(), landlock::RulesetError> {
        let read = AccessFs::from_read(NEWEST);
        for path in &job.readable {
            self.grant_readable(path, read, 0)?;
        }
        let write = AccessFs::from_all(NEWEST) & !(AccessFs::MakeChar | AccessFs::MakeBlock);
        for path in &job.writable {
            self.grant(path, write)?;
        }
        let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
        for path in DEVICES {
            self.grant(Path::new(path), device)?;
        }
        for path in MACHINE {
            self.grant(Path::new(path), AccessFs::ReadFile | AccessFs::ReadDir)?;
        }
        if confinement != Confinement::Landlock && namespaces::has_own_proc() {
            self.grant(Path::new("/proc"), AccessFs::ReadFile | AccessFs::ReadDir)?;
            self.grant(Path::new("/dev/shm"), write)?;
        } else {
            for path in SHARED_PROC {
                self.grant(Path::new(path), AccessFs::ReadFile.into())?;
            }
        }
        Ok(())
    }

    /// Gives `path`, but nothing that is hidden below it: a rule holds for a whole folder, so one that has something
    /// hidden is given entry by entry.
    fn grant_readable(
        &mut self,
        path: &Path,
        access: BitFlags<AccessFs>,
        depth: usize,
    ) -> Result<(), landlock::RulesetError> {
        let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
        let identity = (metadata.dev(), metadata.ino());
        if self.hidden.iter().any(|(_, device, inode)| (*device, *inode) == identity) {
            return Ok(());
        }
        let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if !self.hidden.iter().any(|(hidden, ..)| hidden.starts_with(&resolved)) {
            return self.grant(path, access);
        }
        // Its names may be seen, its content is given one by one.
        self.grant(path, AccessFs::ReadDir.into())?;
        let Ok(entries) = fs::read_dir(path) else { return Ok(()) };
        for entry in entries.flatten().filter(|_| depth < DEPTH_MAX) {
            // A link leads elsewhere; what it leads to is given by its own rule or not at all.
            if entry.file_type().is_ok_and(|kind| !kind.is_symlink()) {
                self.grant_readable(&entry.path(), access, depth + 1)?;
            }
        }
        Ok(())
    }

    /// Gives `path` itself, never what a link of this name leads to.
    fn grant(&mut self, path: &Path, access: BitFlags<AccessFs>) -> Result<(), landlock::RulesetError> {
        let Some((opened, is_folder)) = open(path) else { return Ok(()) };
        let access = if is_folder { access } else { access & AccessFs::from_file(NEWEST) };
        if let Some(created) = self.created.take() {
            self.created = Some(created.add_rule(PathBeneath::new(opened, access))?);
        }
        Ok(())
    }
}

/// Opens what is at `path` without following a link at its end; what is not there needs no rule.
fn open(path: &Path) -> Option<(OwnedFd, bool)> {
    let opened = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let metadata = rustix::fs::fstat(&opened).ok()?;
    let kind = rustix::fs::FileType::from_raw_mode(metadata.st_mode);
    (!kind.is_symlink()).then(|| (opened, kind.is_dir()))
}

fn hidden(paths: &[PathBuf]) -> Vec<(PathBuf, u64, u64)> {
    let known = paths.iter().filter_map(|path| {
        let resolved = path.canonicalize().ok()?;
        let metadata = fs::metadata(&resolved).ok()?;
        Some((resolved, metadata.dev(), metadata.ino()))
    });
    known.collect()
}
