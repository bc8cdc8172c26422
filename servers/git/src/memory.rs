//! How much memory the process may take.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How much: libgit2 holds a file, an index, a ref as a whole, however large somebody made it. What it cannot get is an
/// error of one call, and no other process has to die for it. Packs are mapped, which does not count.
const BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// Limits the memory of this process, unless it is limited further already.
pub fn bound() {
    let limits = getrlimit(Resource::Data);
    let current = limits.current.unwrap_or(u64::MAX).min(BYTES_MAX);
    // Where the system has no such limit, things are as they are elsewhere.
    let _ = setrlimit(Resource::Data, Rlimit { current: Some(current), maximum: limits.maximum });
}
