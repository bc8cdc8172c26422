//! The processes below one: how many there are and how much memory they use.

use std::fs;

use rustix::process::Pid;

/// Most processes that are looked at; beyond, the process limit has long been passed.
const PROCESSES_MAX: usize = 10_000;

/// The processes below one.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// All of them.
    pub pids: Vec<Pid>,
    /// Their threads, which count as processes do.
    pub tasks: u64,
}

impl Tree {
    /// Finds every process below `root`, without itself.
    pub(super) fn below(root: Pid) -> Self {
        let mut found = Self::default();
        let mut rest = children(root).unwrap_or_default();
        while let Some(pid) = rest.pop() {
            found.pids.push(pid);
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_or(1, Iterator::count);
            found.tasks += tasks as u64;
            if found.pids.len() >= PROCESSES_MAX {
                break;
            }
            rest.extend(children(pid).unwrap_or_default());
        }
        found
    }

    /// Returns whether they use more than `bytes_max` of memory together.
    pub(super) fn memory_exceeds(&self, bytes_max: u64) -> bool {
        // Pages that several share count for each here, so this is never too low.
        let rough: u64 = self.pids.iter().filter_map(|pid| private_kb(*pid)).sum();
        if rough.saturating_mul(1024) <= bytes_max {
            return false;
        }
        // The exact sum takes the kernel a walk over every page table.
        let exact: u64 = self.pids.iter().filter_map(|pid| proportional_kb(*pid)).sum();
        exact.saturating_mul(1024) > bytes_max
    }
}

/// Returns the children of every thread of `pid`.
fn children(pid: Pid) -> Option<Vec<Pid>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let listed = fs::read_to_string(task.path().join("children")).ok();
        let numbers = listed.as_deref().unwrap_or_default().split_ascii_whitespace();
        found.extend(numbers.filter_map(|number| Pid::from_raw(number.parse().ok()?)));
    }
    Some(found)
}

/// Returns what `pid` has in memory and in swap and shares with no file.
fn private_kb(pid: Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(sum_of(&status, &["RssAnon:", "RssShmem:", "VmSwap:"]))
}

/// Returns the same with shared pages divided by those that share them.
fn proportional_kb(pid: Pid) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    let exact = rollup.map(|rollup| sum_of(&rollup, &["Pss_Anon:", "Pss_Shmem:", "SwapPss:"]));
    exact.filter(|kb| *kb > 0).or_else(|| private_kb(pid))
}

fn sum_of(text: &str, names: &[&str]) -> u64 {
    let values = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(char::is_whitespace)?;
        names.contains(&name).then(|| value.trim().trim_end_matches("kB").trim().parse::<u64>().ok())?
    });
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_added_by_name() {
        let status = "Name:\tx\nRssAnon:\t     120 kB\nRssFile:\t 7 kB\nRssShmem:\t      30 kB\nVmSwap:\t 0 kB\n";
        assert_eq!(sum_of(status, &["RssAnon:", "RssShmem:", "VmSwap:"]), 150);
    }

    #[test]
    fn child_is_found_below_its_parent() {
        let mut child = std::process::Command::new("/bin/sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let begun = std::time::Instant::now();
        while Tree::below(rustix::process::getpid()).pids.len() < 2 && begun.elapsed().as_secs() < 20 {
            std::thread::yield_now();
        }
        let tree = Tree::below(rustix::process::getpid());
        assert!(tree.pids.contains(&pid) && tree.tasks >= 2, "{tree:?}");
        for pid in Tree::below(pid).pids {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
