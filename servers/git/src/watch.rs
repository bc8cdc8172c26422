//! Calls that end, whatever a repository has in the places that git reads.
//!
//! libgit2 opens some files by their names and cannot be stopped: a pipe called `.gitignore` makes it wait for ever, and
//! patterns without end keep it busy. So each call has a watcher. After a moment it opens the pipes that git could be
//! waiting for, which lets it go on with an empty file; when the time is over the caller gets an answer, and what still
//! runs may change nothing any more.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, openat};
use tollgate_shared::refusal::Refusal;
use tollgate_shared::serve::Call;

/// How long a call takes before somebody looks whether it waits for a pipe: longer than most, and no long wait.
const SUSPECT_AFTER: Duration = Duration::from_millis(700);

/// How long before any pipe in the working tree is suspected, not only those of git's own names: other programs have
/// pipes of their own there.
const SUSPECT_ALL_AFTER: Duration = Duration::from_secs(8);

/// How long a call takes at most: under the 60 s after which hosts give up.
const CALL_MAX: Duration = Duration::from_secs(45);

/// How much longer one takes that has begun to write: half a change is worse than a late answer.
const WRITE_MAX: Duration = Duration::from_secs(300);

/// How often a call is looked at whose time may have changed: unnoticeable beside that time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often pipes are opened again: a repository may have many, and git waits for one after the other.
const RELEASE_EVERY: Duration = Duration::from_millis(10);

/// How many names are looked at in search of pipes, and how many pipes are kept in mind.
const NAMES_MAX: usize = 2_000_000;
const PIPES_MAX: usize = 10_000;

/// How many calls that were given up may still run: each holds a thread.
const STRAYS_MAX: usize = 8;

/// Calls that were given up and still run.
static STRAYS: AtomicUsize = AtomicUsize::new(0);

const READING: u8 = 0;
const WRITING: u8 = 1;
const GIVEN_UP: u8 = 2;

/// What a watcher knows of a call.
#[derive(Default)]
struct Scene {
    /// Working trees and git directories that the call reads.
    folders: Mutex<Vec<PathBuf>>,
    stage: AtomicU8,
    ended: AtomicU8,
    /// Whether the call waits for another program, which has its own time.
    away: AtomicBool,
    /// The time that other programs have, or had, in milliseconds; it is no time of the call's.
    away_millis: AtomicU64,
}

impl Scene {
    fn away_time(&self) -> Duration {
        Duration::from_millis(self.away_millis.load(Ordering::Acquire))
    }
}

thread_local! {
    /// The call that runs on this thread.
    static SCENE: RefCell<Option<Arc<Scene>>> = const { RefCell::new(None) };
}

/// Ends the scene when a call does, also by a panic.
struct Ending(Arc<Scene>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended.store(1, Ordering::Release);
        SCENE.with_borrow_mut(Option::take);
    }
}

/// Says that the call on this thread reads what is in `folders`.
pub fn reads(folders: &[&Path]) {
    SCENE.with_borrow(|scene| {
        if let Some(scene) = scene {
            let mut known = scene.folders.lock().unwrap_or_else(PoisonError::into_inner);
            known.extend(folders.iter().map(|folder| (*folder).to_owned()));
        }
    });
}

/// Says that the call on this thread is about to write.
///
/// # Errors
///
/// `timeout` when the caller was told already that nothing came of it.
pub fn writes() -> Result<(), Refusal> {
    SCENE.with_borrow(|scene| {
        let Some(scene) = scene else { return Ok(()) };
        match scene.stage.compare_exchange(READING, WRITING, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(WRITING) => Ok(()),
            Err(_) => Err(timeout()),
        }
    })
}

/// Runs `work`, which waits for another program for at most `time_max`: what it takes is not counted as the call's time.
pub fn away<T>(time_max: Duration, work: impl FnOnce() -> T) -> T {
    let Some(scene) = SCENE.with_borrow(Option::clone) else { return work() };
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let before = scene.away_millis.load(Ordering::Acquire);
    let started = Instant::now();
    scene.away_millis.store(before.saturating_add(millis(time_max)), Ordering::Release);
    scene.away.store(true, Ordering::Release);
    let result = work();
    scene.away_millis.store(before.saturating_add(millis(started.elapsed())), Ordering::Release);
    scene.away.store(false, Ordering::Release);
    result
}

/// Runs `work`, which is about repositories, where blocking is allowed, and ends when it does or its time is over.
///
/// # Errors
///
/// What `work` returns, `internal_error` when it panics, `timeout`, `too_many_stuck_calls`.
pub async fn bounded<T, F>(call: &Call, work: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Refusal> + Send + 'static,
{
    within(call, CALL_MAX, work).await
}

async fn within<T, F>(call: &Call, call_max: Duration, work: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Refusal> + Send + 'static,
{
    if STRAYS.load(Ordering::Acquire) >= STRAYS_MAX {
        return Err(Refusal::failed(
            "too_many_stuck_calls",
            format!("{STRAYS_MAX} calls that took too long are not at their end yet"),
            "have a human look at the repository, and start the server again",
        ));
    }
    let scene = Arc::new(Scene::default());
    let mut running = Box::pin({
        let (call, scene) = (call.clone(), Arc::clone(&scene));
        async move {
            let work = move || {
                SCENE.set(Some(Arc::clone(&scene)));
                let _ending = Ending(scene);
                work()
            };
            call.blocking(work).await
        }
    });
    let started = Instant::now();
    if let Ok(result) = tokio::time::timeout(SUSPECT_AFTER, &mut running).await {
        return result;
    }
    thread::spawn({
        let scene = Arc::clone(&scene);
        move || release_pipes(&scene, started)
    });
    loop {
        let left = (call_max + scene.away_time()).saturating_sub(started.elapsed());
        if left.is_zero() {
            break;
        }
        if let Ok(result) = tokio::time::timeout(left.min(LOOK_EVERY), &mut running).await {
            return result;
        }
    }
    let unwritten = scene.stage.compare_exchange(READING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok();
    if !unwritten && let Ok(result) = tokio::time::timeout(WRITE_MAX, &mut running).await {
        return result;
    }
    STRAYS.fetch_add(1, Ordering::AcqRel);
    tokio::spawn(async move {
        let _ = running.await;
        STRAYS.fetch_sub(1, Ordering::AcqRel);
    });
    Err(if unwritten { timeout() } else { timeout_while_writing() })
}

fn timeout() -> Refusal {
    Refusal::failed(
        "timeout",
        "the call took too long and was given up; it changed nothing",
        "ask for less, such as one path, or have a human look at what makes the repository slow",
    )
}

fn timeout_while_writing() -> Refusal {
    Refusal::failed(
        "timeout",
        "the call took too long and was given up while it was writing",
        "see git_status and git_log for what came of it",
    )
}

/// Opens the pipes that the call may be waiting for until it ends.
fn release_pipes(scene: &Scene, started: Instant) {
    let mut pipes = Vec::new();
    let mut looked_at = HashSet::new();
    let mut all = false;
    while scene.ended.load(Ordering::Acquire) == 0 && started.elapsed() < CALL_MAX + WRITE_MAX + scene.away_time() {
        // Another program reads nothing of the repository's.
        if scene.away.load(Ordering::Acquire) {
            thread::sleep(RELEASE_EVERY);
            continue;
        }
        if !all && started.elapsed() >= SUSPECT_ALL_AFTER + scene.away_time() {
            all = true;
            looked_at.clear();
        }
        let folders = scene.folders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for folder in folders {
            if looked_at.insert(folder.clone()) {
                find_pipes(folder, all, scene, &mut pipes);
            }
        }
        for pipe in &pipes {
            // For reading and writing: whoever waits for the other end, whichever it is, has it for a moment.
            let _ = openat(CWD, pipe, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        }
        thread::sleep(RELEASE_EVERY);
    }
}

/// Adds the pipes below `folder` that git reads, or all of them, to `pipes`.
fn find_pipes(folder: PathBuf, all: bool, scene: &Scene, pipes: &mut Vec<PathBuf>) {
    let mut names = 0;
    let is_git = folder.join("HEAD").exists() && folder.join("objects").exists();
    let mut folders = vec![(folder, is_git || all)];
    while let Some((folder, every)) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            names += 1;
            if names > NAMES_MAX || pipes.len() >= PIPES_MAX || scene.ended.load(Ordering::Acquire) != 0 {
                return;
            }
            let Ok(kind) = entry.file_type() else { continue };
            let own = entry.file_name().as_bytes().starts_with(b".git");
            if kind.is_dir() {
                folders.push((entry.path(), every || entry.file_name() == ".git"));
                continue;
            }
            let suspect = every || own;
            let leads_to_pipe = || fs::metadata(entry.path()).is_ok_and(|metadata| metadata.file_type().is_fifo());
            if suspect && (kind.is_fifo() || (kind.is_symlink() && leads_to_pipe())) {
                pipes.push(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::fs::{FileType, mknodat};

    use super::*;

    #[test]
    fn pipes_that_git_reads_are_released_and_others_are_not() {
        let dir = tempfile::TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("a/b/.git/refs")).unwrap();
        let pipe = |name: &str| {
            mknodat(CWD, dir.path().join(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
            dir.path().join(name)
        };
        let waited_for = [pipe("a/.gitignore"), pipe("a/b/.git/refs/x")];
        let other = pipe("a/jobs");
        let scene = Arc::new(Scene::default());
        scene.folders.lock().unwrap().push(dir.path().to_owned());
        let started = Instant::now();
        let watcher = thread::spawn({
            let scene = Arc::clone(&scene);
            move || release_pipes(&scene, started)
        });
        for path in &waited_for {
            let mut content = String::new();
            fs::File::open(path).unwrap().read_to_string(&mut content).unwrap();
            assert_eq!(content, "");
        }
        let mut pipes = Vec::new();
        find_pipes(dir.path().to_owned(), false, &scene, &mut pipes);
        assert!(!pipes.contains(&other) && pipes.len() == 2, "{pipes:?}");
        find_pipes(dir.path().to_owned(), true, &scene, &mut pipes);
        assert!(pipes.contains(&other));
        drop(Ending(scene));
        watcher.join().unwrap();
    }

    #[test]
    fn call_that_was_given_up_does_not_begin_to_write() {
        let scene = Arc::new(Scene::default());
        SCENE.set(Some(Arc::clone(&scene)));
        writes().unwrap();
        writes().unwrap();
        scene.stage.store(GIVEN_UP, Ordering::Release);
        assert_eq!(writes().unwrap_err().code, "timeout");
        drop(Ending(scene));
        writes().unwrap();
    }

    #[test]
    fn time_of_another_program_is_not_the_calls() {
        let scene = Arc::new(Scene::default());
        SCENE.set(Some(Arc::clone(&scene)));
        let minute = Duration::from_secs(60);
        away(minute, || assert!(scene.away_time() == minute && scene.away.load(Ordering::Acquire)));
        assert!(scene.away_time() < minute && !scene.away.load(Ordering::Acquire));
        let before = scene.away_time();
        away(minute, || assert_eq!(scene.away_time(), before + minute));
        drop(Ending(scene));
        assert_eq!(away(minute, || 7), 7);
    }
}
