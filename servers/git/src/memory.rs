//! How much memory the process may take, and those that it starts.

use std::sync::OnceLock;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// How much: libgit2 holds a file, an index, a ref as a whole, however large somebody made it. What it cannot get is an
/// error of one call, and no other process has to die for it. Packs are mapped, which does not count.
const BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// How much it was before; `None` is no limit.
static BEFORE: OnceLock<Option<u64>> = OnceLock::new();

/// Limits the memory of this process, unless it is limited further already.
pub fn bound() {
    let limits = getrlimit(Resource::Data);
    let before = BEFORE.get_or_init(|| limits.current);
    let current = before.unwrap_or(u64::MAX).min(BYTES_MAX);
    // Where the system has no such limit, things are as they are elsewhere.
    let _ = setrlimit(Resource::Data, Rlimit { current: Some(current), maximum: limits.maximum });
}

/// Gives a program that this one has just started the limit that this one had: what the user's git may use to pack and
/// to index is the user's own affair.
pub fn unbind(child: u32) {
    let (Some(before), Some(child)) = (BEFORE.get(), i32::try_from(child).ok().and_then(Pid::from_raw)) else { return };
    let maximum = getrlimit(Resource::Data).maximum;
    let _ = prlimit(Some(child), Resource::Data, Rlimit { current: *before, maximum });
}
