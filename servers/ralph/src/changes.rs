//! What a working tree changes against a commit, read without git, its filters or its idea of what changed.
//!
//! Every kept file is read and hashed: neither times, nor flags in the index, nor attributes say what is unchanged. What
//! is staged is a change of its own where it differs from what lies in the working tree.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use git2::{ObjectType, Oid};
use ignore::WalkBuilder;
use tollgate_shared::content_hash::ContentHash;

use crate::check::guardrail::change::{Change, Content, FileChange};
use crate::command::change::Copies;
use crate::command::copy::{Given, GivenKind, Overlay};
use crate::repository::{
    Entry, MODE_FOLDER, MODE_LINK, MODE_SUBMODULE, Repository, Staged, TREE_DEPTH_MAX, Unreadable,
};
use crate::roots::{Kind, Place, Roots, Unread};

/// Files that a commit may have.
const FILES_MAX: usize = 200_000;

/// Files and folders looked at for what git does not keep yet.
const ENTRIES_MAX: usize = 250_000;

/// Files that a change may have; nobody reviews more.
const CHANGED_MAX: usize = 3_000;

/// Bytes of one change that are held in memory, both states together.
const BYTES_MAX: usize = 256 * 1024 * 1024;

/// Largest file that is read to tell whether it changed; of a larger one its size tells.
const READ_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Pairs of files that are compared to find renames.
const RENAME_PAIRS_MAX: usize = 40_000;

/// Lines of a file that are compared to find renames.
const RENAME_LINES_MAX: usize = 5_000;

/// What the beginning of a file of git-lfs says.
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/v1";

/// What was found out about a working tree.
#[derive(Debug, Default)]
pub struct Collected {
    /// What lies in the working tree.
    pub working: Change,
    /// What is staged, where a commit would take something else than what lies there.
    pub staged: Option<Change>,
    /// Why it is not all.
    pub incomplete: Option<String>,
    /// The tree of what is staged, where exactly that is what was read from the working tree and nothing else lies there.
    pub tree: Option<Oid>,
    /// Every file that lies in the working tree, with the name that git has for what it holds; none of what is too large.
    pub present: BTreeMap<Vec<u8>, Option<Oid>>,
    /// What the base and the index have where one of the three states differs from another.
    pub touched: BTreeMap<Vec<u8>, (Option<Entry>, Option<Entry>)>,
}

/// One state of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    id: Option<Oid>,
    /// Of the bytes as they lie there, whatever git would make of them.
    raw: Option<Oid>,
    content: Content,
}

struct Collector<'r> {
    roots: &'r Arc<Roots>,
    repository: &'r Repository,
    file_bytes_max: usize,
    bytes: usize,
    incomplete: Option<String>,
}

/// Compares the working tree of `repository` with the tree `base`; without one, with nothing.
///
/// # Errors
///
/// [`Unreadable`] when the base cannot be read: then nothing is known to be new or old.
pub fn collect(
    roots: &Arc<Roots>,
    repository: &Repository,
    base: Option<Oid>,
    file_bytes_max: usize,
    in_time: &dyn Fn() -> bool,
) -> Result<Collected, Unreadable> {
    let before = match base {
        Some(tree) => repository.files(tree, FILES_MAX)?,
        None => BTreeMap::new(),
    };
    let index = repository.index()?;
    let mut collector = Collector { roots, repository, file_bytes_max, bytes: 0, incomplete: None };
    let mut paths: BTreeSet<&[u8]> = before.keys().chain(index.keys()).map(Vec::as_slice).collect();
    let untracked = collector.untracked(&index, in_time);
    paths.extend(untracked.iter().map(Vec::as_slice));
    let (mut working, mut staged, mut differs) = (Vec::new(), Vec::new(), false);
    let mut is_clean = !index.is_empty() && untracked.is_empty();
    let mut hidden = Vec::new();
    let (mut present, mut touched) = (BTreeMap::new(), BTreeMap::new());
    for path in paths {
        if !in_time() {
            collector.stop("reading the working tree took too long");
        }
        if collector.incomplete.is_some() {
            break;
        }
        let old = before.get(path);
        let entry = index.get(path);
        let now = collector.working(path, old, entry);
        let is_absent_by_choice = now.is_none() && entry.is_some_and(|entry| entry.skips_worktree);
        let unchanged = match (&now, old) {
            (Some(now), Some(old)) => now.is(old),
            (None, None) => true,
            (None, Some(_)) => is_absent_by_choice,
            (Some(_), None) => false,
        };
        // Only what was read here and now may be recorded as verified.
        is_clean &= match (&now, entry) {
            (Some(now), Some(staged)) => now.is(&staged.entry) && !staged.skips_worktree && !staged.conflicted,
            (None, None) => true,
            _ => false,
        };
        let shown = shown(path);
        if let Some(now) = now.as_ref().filter(|now| !matches!(now.content, Content::Submodule(_))) {
            present.insert(path.to_vec(), now.raw);
        }
        if !unchanged || entry.map(|entry| entry.entry) != old.copied() {
            touched.insert(path.to_vec(), (old.copied(), entry.map(|entry| entry.entry)));
        }
        if !unchanged {
            let before = old.and_then(|old| collector.committed(*old));
            if entry.is_some_and(|entry| entry.assumed_unchanged || entry.skips_worktree) {
                hidden.push(shown.clone());
            }
            working.push((shown.clone(), before, now.clone()));
        }
        // Without an index nothing is staged.
        if index.is_empty() {
            continue;
        }
        let staged_entry = entry.map(|entry| entry.entry);
        let kind = |entry: Entry| (entry.id, matches!(entry.mode, MODE_LINK | MODE_SUBMODULE).then_some(entry.mode));
        if staged_entry.map(kind) != old.copied().map(kind) {
            let before = old.and_then(|old| collector.committed(*old));
            let after = staged_entry.and_then(|entry| collector.committed(entry));
            let same = match (&after, &now) {
                (Some(after), Some(now)) => after.content == now.content,
                (None, None) => true,
                _ => false,
            };
            differs |= !same;
            staged.push((shown, before, after));
        }
        if working.len() + staged.len() > CHANGED_MAX * 2 || working.len() > CHANGED_MAX {
            collector.stop(&format!("more than {CHANGED_MAX} files changed"));
        }
    }
    let gone: BTreeSet<String> =
        working.iter().filter(|(_, _, now)| now.is_none()).map(|(path, _, _)| path.clone()).collect();
    let kept: Vec<String> = index
        .keys()
        .map(|path| shown(path))
        .chain(working.iter().filter(|(_, _, now)| now.is_some()).map(|(path, _, _)| path.clone()))
        .filter(|path| !gone.contains(path))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let staged = differs.then(|| Change { files: renamed(&staged), kept: kept.clone(), hidden: Vec::new() });
    Ok(Collected {
        working: Change { files: renamed(&working), kept, hidden },
        staged,
        tree: (is_clean && collector.incomplete.is_none()).then(|| tree(&index)).flatten(),
        incomplete: collector.incomplete,
        present,
        touched,
    })
}

/// Returns how copies of the three states differ from what lies in the working tree.
///
/// # Errors
///
/// Why the content of a file cannot be had.
pub fn copies(collected: &Collected, repository: &Repository) -> Result<Copies, String> {
    let path = |path: &[u8]| PathBuf::from(OsStr::from_bytes(path));
    let working = Overlay {
        kept: collected.present.keys().map(|name| path(name)).collect(),
        expected: Some(collected.present.iter().map(|(name, id)| (path(name), *id)).collect()),
        ..Overlay::default()
    };
    let mut bytes = 0;
    let mut given = |entry: &Entry| -> Result<Given, String> {
        let content = repository.blob(entry.id, READ_BYTES_MAX).map_err(|error| error.to_string())?;
        bytes += content.len();
        if bytes > BYTES_MAX {
            return Err("the change is too large".to_owned());
        }
        let kind = match entry.mode {
            MODE_LINK => GivenKind::Link,
            mode if mode & 0o100 == 0 => GivenKind::File,
            _ => GivenKind::Program,
        };
        Ok(Given { content: Arc::new(content), kind })
    };
    let mut state = |of: fn(&(Option<Entry>, Option<Entry>)) -> Option<Entry>| -> Result<Arc<Overlay>, String> {
        let mut overlay = working.clone();
        for (name, entries) in &collected.touched {
            match of(entries) {
                // What another repository holds is the same in every state.
                Some(entry) if entry.mode == MODE_SUBMODULE => {}
                Some(entry) => drop(overlay.given.insert(path(name), given(&entry)?)),
                None => drop(overlay.absent.insert(path(name))),
            }
        }
        Ok(Arc::new(overlay))
    };
    let base = state(|(base, _)| *base)?;
    let staged = collected.staged.as_ref().map(|_| state(|(_, index)| *index)).transpose()?;
    Ok(Copies { working: Arc::new(working), staged, base })
}

/// Returns the tree that a commit of `index` would have, as git computes it.
fn tree(index: &BTreeMap<Vec<u8>, Staged>) -> Option<Oid> {
    let entries: Vec<(&[u8], Entry)> = index.iter().map(|(path, staged)| (path.as_slice(), staged.entry)).collect();
    tree_of(&entries, 0)
}

fn tree_of(entries: &[(&[u8], Entry)], depth: usize) -> Option<Oid> {
    if depth > TREE_DEPTH_MAX {
        return None;
    }
    let mut named: Vec<(Vec<u8>, Entry)> = Vec::new();
    let mut rest = entries;
    while let Some((path, entry)) = rest.first() {
        match path.iter().position(|byte| *byte == b'/') {
            Some(slash) => {
                let prefix = &path[..=slash];
                let count = rest.iter().take_while(|(path, _)| path.starts_with(prefix)).count();
                let below: Vec<(&[u8], Entry)> =
                    rest[..count].iter().map(|(path, entry)| (&path[slash + 1..], *entry)).collect();
                // Git orders a folder as if its name ended with the slash.
                named.push((prefix.to_vec(), Entry { id: tree_of(&below, depth + 1)?, mode: MODE_FOLDER }));
                rest = &rest[count..];
            }
            None => {
                named.push((path.to_vec(), *entry));
                rest = &rest[1..];
            }
        }
    }
    named.sort_by(|left, right| left.0.cmp(&right.0));
    let mut bytes = Vec::new();
    for (name, entry) in named {
        let name = name.strip_suffix(b"/").unwrap_or(&name);
        bytes.extend_from_slice(format!("{:o} ", entry.mode).as_bytes());
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend_from_slice(entry.id.as_bytes());
    }
    Oid::hash_object(ObjectType::Tree, &bytes).ok()
}

impl State {
    /// Returns whether this is what `entry` has.
    fn is(&self, entry: &Entry) -> bool {
        // A file may hold what a link would.
        let kind = match self.content {
            Content::Link(_) => entry.mode == MODE_LINK,
            Content::Submodule(_) => entry.mode == MODE_SUBMODULE,
            _ => !matches!(entry.mode, MODE_LINK | MODE_SUBMODULE),
        };
        kind && self.id == Some(entry.id)
    }
}

impl Collector<'_> {
    fn stop(&mut self, why: &str) {
        self.incomplete.get_or_insert_with(|| why.to_owned());
    }

    fn place(&self, path: &[u8]) -> Place {
        self.repository.worktree.join(Path::new(OsStr::from_bytes(path)))
    }

    /// Returns what lies at `path`; nothing where nothing does.
    fn working(&mut self, path: &[u8], old: Option<&Entry>, entry: Option<&Staged>) -> Option<State> {
        let place = self.place(path);
        let kind = match self.roots.kind(&place, false) {
            Ok(kind) => kind,
            Err(Unread::Missing | Unread::Outside) => return None,
            Err(unread) => {
                self.stop(&format!("{}: {}", shown(path), crate::verify::reason(&unread, READ_BYTES_MAX)));
                return None;
            }
        };
        match kind {
            Kind::Link => {
                let target = self.roots.link_target(&place).ok()?;
                let bytes = target.as_os_str().as_bytes();
                let id = Oid::hash_object(ObjectType::Blob, bytes).ok();
                Some(State { id, raw: id, content: Content::Link(target.display().to_string()) })
            }
            Kind::Folder => {
                // A submodule: what it holds is another repository's business.
                let known =
                    old.copied().or(entry.map(|entry| entry.entry)).filter(|entry| entry.mode == MODE_SUBMODULE)?;
                let id = entry.map_or(known.id, |entry| entry.entry.id);
                Some(State { id: Some(id), raw: None, content: Content::Submodule(id.to_string()) })
            }
            Kind::Special => {
                self.stop(&format!("{} is neither a file nor a folder", shown(path)));
                None
            }
            Kind::File => match self.roots.read(&place, READ_BYTES_MAX) {
                Ok(bytes) => Some(self.file(bytes, old)),
                Err(Unread::TooLarge) => {
                    Some(State { id: None, raw: None, content: Content::TooLarge(READ_BYTES_MAX) })
                }
                Err(Unread::Missing) => None,
                Err(unread) => {
                    self.stop(&format!("{}: {}", shown(path), crate::verify::reason(&unread, READ_BYTES_MAX)));
                    None
                }
            },
        }
    }

    /// Tells whether `bytes` are what `old` has, as git would check it out.
    fn file(&mut self, bytes: Vec<u8>, old: Option<&Entry>) -> State {
        let id = Oid::hash_object(ObjectType::Blob, &bytes).ok();
        if let Some(old) = old.filter(|old| id != Some(old.id) && old.mode != MODE_LINK) {
            let plain = without_carriage_returns(&bytes);
            let same_lines =
                plain.as_ref().is_some_and(|plain| Oid::hash_object(ObjectType::Blob, plain).ok() == Some(old.id));
            if same_lines || self.is_stored_elsewhere(old, &bytes) {
                return State { id: Some(old.id), raw: id, content: Content::Binary(bytes.len()) };
            }
        }
        if old.is_some_and(|old| id == Some(old.id)) {
            return State { id, raw: id, content: Content::Binary(bytes.len()) };
        }
        State { id, raw: id, content: self.content(bytes) }
    }

    /// Returns whether `old` is the pointer of git-lfs for `bytes`.
    fn is_stored_elsewhere(&self, old: &Entry, bytes: &[u8]) -> bool {
        let Ok(pointer) = self.repository.blob(old.id, 1024) else { return false };
        pointer.starts_with(LFS)
            && !bytes.starts_with(LFS)
            && String::from_utf8_lossy(&pointer).lines().any(|line| {
                line.strip_prefix("oid sha256:").is_some_and(|digest| digest == ContentHash::of(bytes).to_string())
            })
    }

    /// Returns what a commit or the index has.
    fn committed(&mut self, entry: Entry) -> Option<State> {
        if entry.mode == MODE_SUBMODULE {
            return Some(State { id: Some(entry.id), raw: None, content: Content::Submodule(entry.id.to_string()) });
        }
        match self.repository.blob(entry.id, READ_BYTES_MAX) {
            Ok(bytes) if entry.mode == MODE_LINK => {
                let content = Content::Link(String::from_utf8_lossy(&bytes).into_owned());
                Some(State { id: Some(entry.id), raw: None, content })
            }
            Ok(bytes) => Some(State { id: Some(entry.id), raw: None, content: self.content(bytes) }),
            Err(Unreadable::TooLarge(_)) => {
                Some(State { id: Some(entry.id), raw: None, content: Content::TooLarge(READ_BYTES_MAX) })
            }
            Err(error) => {
                self.stop(&error.to_string());
                None
            }
        }
    }

    fn content(&mut self, bytes: Vec<u8>) -> Content {
        let size = bytes.len();
        if size > self.file_bytes_max {
            return Content::TooLarge(size);
        }
        self.bytes += size;
        if self.bytes > BYTES_MAX {
            self.stop("the change is too large");
        }
        if bytes.contains(&0) {
            return Content::Binary(size);
        }
        match String::from_utf8(bytes) {
            Ok(text) => Content::Text(text),
            // Text of another encoding is looked at as far as it can be read.
            Err(error) => Content::Text(String::from_utf8_lossy(error.as_bytes()).into_owned()),
        }
    }

    /// Finds the files that git does not keep and its `.gitignore` files do not leave out.
    ///
    /// `.git/info/exclude` and the user's own list are not asked: whoever can write them could hide files with them.
    fn untracked(&mut self, index: &BTreeMap<Vec<u8>, Staged>, in_time: &dyn Fn() -> bool) -> Vec<Vec<u8>> {
        let Ok(root) = self.roots.real(&self.repository.worktree) else { return Vec::new() };
        let walk = WalkBuilder::new(&root)
            .hidden(false)
            .require_git(false)
            .git_global(false)
            .git_exclude(false)
            .ignore(false)
            .parents(false)
            .follow_links(false)
            .max_depth(Some(64))
            .filter_entry(|entry| !matches!(entry.file_name().to_str(), Some(".git" | ".tollgate")))
            .build();
        let mut found = Vec::new();
        for (looked_at, entry) in walk.enumerate() {
            if looked_at > ENTRIES_MAX || !in_time() {
                self.stop("there is too much to look at in the working tree");
                break;
            }
            let Ok(entry) = entry else { continue };
            let Some(kind) = entry.file_type().filter(|kind| !kind.is_dir()) else { continue };
            let Ok(beneath) = entry.path().strip_prefix(&root) else { continue };
            let path = beneath.as_os_str().as_bytes();
            // A pipe or a socket that nobody keeps is no file of the change.
            if index.contains_key(path) || !(kind.is_file() || kind.is_symlink()) {
                continue;
            }
            found.push(path.to_vec());
        }
        found
    }
}

/// Returns `bytes` with the line endings that git stores; nothing when they have no others.
fn without_carriage_returns(bytes: &[u8]) -> Option<Vec<u8>> {
    bytes.windows(2).any(|pair| pair == b"\r\n").then(|| {
        let mut plain = Vec::with_capacity(bytes.len());
        for (at, byte) in bytes.iter().enumerate() {
            if *byte != b'\r' || bytes.get(at + 1) != Some(&b'\n') {
                plain.push(*byte);
            }
        }
        plain
    })
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Puts files that are gone and files that came together where one was renamed into the other.
fn renamed(files: &[(String, Option<State>, Option<State>)]) -> Vec<FileChange> {
    let gone: Vec<usize> = (0..files.len()).filter(|at| files[*at].1.is_some() && files[*at].2.is_none()).collect();
    let came: Vec<usize> = (0..files.len()).filter(|at| files[*at].1.is_none() && files[*at].2.is_some()).collect();
    let mut pairs: Vec<(usize, usize, usize)> = Vec::new();
    if gone.len() * came.len() <= RENAME_PAIRS_MAX {
        for from in &gone {
            for to in &came {
                let likeness = likeness(&files[*from], &files[*to]);
                if likeness >= 50 {
                    pairs.push((likeness, *from, *to));
                }
            }
        }
    }
    pairs.sort_by(|left, right| right.cmp(left));
    let mut from_of: BTreeMap<usize, usize> = BTreeMap::new();
    let mut used: BTreeSet<usize> = BTreeSet::new();
    for (_, from, to) in pairs {
        if !used.contains(&from) && !from_of.contains_key(&to) {
            used.insert(from);
            from_of.insert(to, from);
        }
    }
    let mut changes = Vec::new();
    for (at, (path, before, after)) in files.iter().enumerate() {
        if used.contains(&at) {
            continue;
        }
        let from = from_of.get(&at).map(|from| &files[*from]);
        changes.push(FileChange {
            path: path.clone(),
            old_path: from.map(|from| from.0.clone()),
            before: from.map_or(before.as_ref(), |from| from.1.as_ref()).map(|state| state.content.clone()),
            after: after.as_ref().map(|state| state.content.clone()),
        });
    }
    changes
}

/// Returns how many of a hundred lines two files share; the same name counts for a little.
fn likeness(from: &(String, Option<State>, Option<State>), to: &(String, Option<State>, Option<State>)) -> usize {
    let (
        Some(State { content: Content::Text(old), id: old_id, .. }),
        Some(State { content: Content::Text(new), id, .. }),
    ) = (&from.1, &to.2)
    else {
        return 0;
    };
    let same_name = from.0.rsplit('/').next() == to.0.rsplit('/').next();
    if id == old_id {
        return 101 + usize::from(same_name);
    }
    let lines = |text: &str| -> BTreeMap<String, usize> {
        let mut lines = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|line| line.len() > 2).take(RENAME_LINES_MAX) {
            *lines.entry(line.to_owned()).or_default() += 1;
        }
        lines
    };
    let (old, new) = (lines(old), lines(new));
    let shared: usize = old.iter().map(|(line, count)| (*count).min(new.get(line).copied().unwrap_or(0))).sum();
    let all = old.values().sum::<usize>().max(new.values().sum());
    (shared * 100).checked_div(all).unwrap_or(0)
}
