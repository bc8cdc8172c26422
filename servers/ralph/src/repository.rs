//! A git repository as data: HEAD, refs, commits, trees, blobs and the index; nothing in it is run or believed.
//!
//! The repository is not opened by libgit2: its configuration, attributes, hooks and filters are never read. Every file
//! of it is read beneath the roots' own handles, and libgit2's object database alone reads packs, once every folder that
//! it would look into is known to be inside.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use git2::{Index, ObjectType, Odb, Oid};
use tollgate_shared::refusal::Refusal;

use crate::roots::{Kind, Place, Roots, Unread};

/// Longest HEAD, `.git` file or loose ref.
const POINTER_BYTES_MAX: usize = 8 * 1024;

/// Longest `packed-refs`: hundreds of thousands of refs.
const PACKED_REFS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Longest index.
const INDEX_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Refs that refer to one another.
const REFS_DEEP_MAX: usize = 5;

/// Object folders that refer to one another.
const OBJECT_FOLDERS_MAX: usize = 16;

/// Files in one folder of packs.
const PACK_NAMES_MAX: usize = 20_000;

/// Commits looked at for a common ancestor.
const COMMITS_MAX: usize = 200_000;

/// Largest commit or tag that is read.
const COMMIT_BYTES_MAX: usize = 1024 * 1024;

/// Largest tree that is read.
const TREE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Deepest folder of a tree.
pub const TREE_DEPTH_MAX: usize = 64;

/// A repository with a working tree; all of it is inside the roots.
pub struct Repository {
    roots: Arc<Roots>,
    /// The root of the working tree.
    pub worktree: Place,
    /// What this worktree has for itself: HEAD, index.
    own: Place,
    /// What all worktrees share: refs.
    common: Place,
    objects: Vec<Place>,
    odb: Odb<'static>,
}

/// A commit, as far as it matters here.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The files.
    pub tree: Oid,
    /// What it is based on.
    pub parents: Vec<Oid>,
    /// When it was made, in seconds.
    pub time: i64,
}

/// A file in a tree or in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its content.
    pub id: Oid,
    /// As git counts: `0o100644`, `0o100755`, `0o120000` for a link, `0o160000` for a submodule.
    pub mode: u32,
}

/// A file in the index.
#[derive(Clone, Debug)]
pub struct Staged {
    /// Its content and kind.
    pub entry: Entry,
    /// Whether git is told not to look whether it changed.
    pub assumed_unchanged: bool,
    /// Whether git is told that it need not be in the working tree.
    pub skips_worktree: bool,
    /// Whether it is one side of a conflict.
    pub conflicted: bool,
}

/// Why something of a repository could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// There is none.
    #[error("{0} is not there")]
    Missing(String),
    /// More than is looked at.
    #[error("{0} is larger than is looked at")]
    TooLarge(String),
    /// Not what git writes.
    #[error("{0} cannot be read")]
    Damaged(String),
}

/// Names the entry of a folder.
pub const MODE_FOLDER: u32 = 0o040_000;

/// Names the entry of a submodule.
pub const MODE_SUBMODULE: u32 = 0o160_000;

/// Names the entry of a symbolic link.
pub const MODE_LINK: u32 = 0o120_000;

impl Repository {
    /// Opens the repository that `place`, a file or a folder, is in; nothing where there is none in its root.
    ///
    /// # Errors
    ///
    /// `path_outside_root` when a part of it is outside, `not_a_repository` when it is not one that can be read.
    pub fn find(roots: &Arc<Roots>, place: &Place) -> Result<Option<Self>, Refusal> {
        let mut folder = Some(place.clone());
        while let Some(candidate) = folder {
            if matches!(roots.kind(&candidate, true), Ok(Kind::Folder)) {
                match roots.kind(&candidate.join(".git"), false) {
                    Ok(_) => return Self::open(roots, candidate).map(Some),
                    Err(Unread::Missing) => {}
                    Err(unread) => return Err(unusable(&candidate, &format!("{unread:?}"))),
                }
            }
            folder = candidate.parent();
        }
        Ok(None)
    }

    fn open(roots: &Arc<Roots>, worktree: Place) -> Result<Self, Refusal> {
        let dot_git = worktree.join(".git");
        let refuse = |unread: Unread| match unread {
            Unread::Outside => roots.outside(&dot_git.shown),
            other => unusable(&worktree, &crate::verify::reason(&other, POINTER_BYTES_MAX)),
        };
        let own = match roots.kind(&dot_git, true).map_err(refuse)? {
            Kind::Folder => dot_git.clone(),
            Kind::File => {
                let text = roots.read(&dot_git, POINTER_BYTES_MAX).map_err(refuse)?;
                let target = text.strip_prefix(b"gitdir:").map(<[u8]>::trim_ascii).filter(|target| !target.is_empty());
                let target = target.ok_or_else(|| unusable(&worktree, "its `.git` names no folder"))?;
                roots.referred(&worktree, Path::new(OsStr::from_bytes(target)))?
            }
            _ => return Err(unusable(&worktree, "its `.git` is no folder")),
        };
        let common = match roots.read(&own.join("commondir"), POINTER_BYTES_MAX) {
            Ok(text) => roots.referred(&own, Path::new(OsStr::from_bytes(text.trim_ascii())))?,
            Err(Unread::Missing) => own.clone(),
            Err(unread) => return Err(refuse(unread)),
        };
        let objects = object_folders(roots, &worktree, &common.join("objects"))?;
        let failed = |error: git2::Error| unusable(&worktree, error.message());
        let odb = Odb::new().map_err(failed)?;
        let first = roots.real(&objects[0]).map_err(refuse)?;
        let first = first.to_str().ok_or_else(|| unusable(&worktree, "its path is not UTF-8"))?;
        odb.add_disk_alternate(first).map_err(failed)?;
        Ok(Self { roots: Arc::clone(roots), worktree, own, common, objects, odb })
    }

    /// Returns the git directory that all worktrees share, without links; nothing where its path is not UTF-8.
    #[must_use]
    pub fn common_directory(&self) -> Option<String> {
        self.roots.real(&self.common).ok()?.to_str().map(str::to_owned)
    }

    /// Returns the commit that HEAD leads to; nothing before the first one.
    ///
    /// # Errors
    ///
    /// [`Unreadable`].
    pub fn head(&self) -> Result<Option<Oid>, Unreadable> {
        let text = self.small(&self.own.join("HEAD"))?.ok_or_else(|| Unreadable::Missing("HEAD".to_owned()))?;
        match text.strip_prefix("ref:") {
            Some(name) => self.reference(name.trim()),
            None => Oid::from_str(text.trim()).map(Some).map_err(|_| Unreadable::Damaged("HEAD".to_owned())),
        }
    }

    /// Returns the commit that the ref `name`, in full, leads to.
    ///
    /// # Errors
    ///
    /// [`Unreadable`].
    pub fn reference(&self, name: &str) -> Result<Option<Oid>, Unreadable> {
        let mut name = name.to_owned();
        for _ in 0..REFS_DEEP_MAX {
            if !is_ref_name(&name) {
                return Ok(None);
            }
            let Some(text) = self.small(&self.common.join(&name))? else { return self.packed(&name) };
            match text.strip_prefix("ref:") {
                Some(next) => name = next.trim().to_owned(),
                None => return Oid::from_str(text.trim()).map(Some).map_err(|_| Unreadable::Damaged(name)),
            }
        }
        Err(Unreadable::Damaged(name))
    }

    fn packed(&self, name: &str) -> Result<Option<Oid>, Unreadable> {
        let damaged = || Unreadable::Damaged("packed-refs".to_owned());
        let text = match self.roots.read(&self.common.join("packed-refs"), PACKED_REFS_BYTES_MAX) {
            Ok(text) => text,
            Err(Unread::Missing) => return Ok(None),
            Err(_) => return Err(damaged()),
        };
        for line in text.split(|byte| *byte == b'\n') {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            if let Some((id, found)) = line.trim_end().split_once(' ')
                && found == name
            {
                return Oid::from_str(id).map(Some).map_err(|_| damaged());
            }
        }
        Ok(None)
    }

    /// Returns the commit that a caller means by `written`: a name, an id or the beginning of one, with `~n` and `^`.
    ///
    /// # Errors
    ///
    /// [`Unreadable`].
    pub fn revision(&self, written: &str) -> Result<Option<Oid>, Unreadable> {
        let end = written.find(['~', '^']).unwrap_or(written.len());
        let (name, steps) = written.split_at(end);
        let Some(mut id) = self.named(name)? else { return Ok(None) };
        id = self.peeled(id)?;
        let mut rest = steps;
        while let Some(sign) = rest.chars().next() {
            rest = &rest[1..];
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let number: usize = if digits == 0 { 1 } else { rest[..digits].parse().unwrap_or(usize::MAX) };
            rest = &rest[digits..];
            let (times, parent) = match sign {
                '~' => (number, 0),
                '^' if number > 0 => (1, number - 1),
                _ => return Ok(None),
            };
            for _ in 0..times.min(COMMITS_MAX) {
                match self.commit(id)?.parents.get(parent) {
                    Some(next) => id = *next,
                    None => return Ok(None),
                }
            }
        }
        Ok(Some(id))
    }

    fn named(&self, name: &str) -> Result<Option<Oid>, Unreadable> {
        if matches!(name, "HEAD" | "@") {
            return self.head();
        }
        for form in ["", "refs/", "refs/tags/", "refs/heads/", "refs/remotes/"] {
            let full = format!("{form}{name}");
            if full.starts_with("refs/")
                && let Some(id) = self.reference(&full)?
            {
                return Ok(Some(id));
            }
        }
        if let Some(id) = self.reference(&format!("refs/remotes/{name}/HEAD"))? {
            return Ok(Some(id));
        }
        if (7..=40).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            // The short form asks every pack; the full one is read where it is used.
            let id = Oid::from_str(name).map_err(|_| Unreadable::Damaged(name.to_owned()))?;
            return Ok(if name.len() == 40 { Some(id) } else { self.odb.exists_prefix(id, name.len()).ok() });
        }
        Ok(None)
    }

    fn peeled(&self, id: Oid) -> Result<Oid, Unreadable> {
        let mut id = id;
        for _ in 0..REFS_DEEP_MAX {
            let (kind, data) = self.object(id, COMMIT_BYTES_MAX)?;
            if kind != ObjectType::Tag {
                return Ok(id);
            }
            let line = data.split(|byte| *byte == b'\n').next().unwrap_or_default();
            id = line
                .strip_prefix(b"object ")
                .and_then(|hex| Oid::from_str(std::str::from_utf8(hex).ok()?).ok())
                .ok_or_else(|| Unreadable::Damaged(id.to_string()))?;
        }
        Err(Unreadable::Damaged(id.to_string()))
    }

    /// Reads a commit.
    ///
    /// # Errors
    ///
    /// [`Unreadable`].
    pub fn commit(&self, id: Oid) -> Result<Commit, Unreadable> {
        let damaged = || Unreadable::Damaged(format!("commit {id}"));
        let (kind, data) = self.object(id, COMMIT_BYTES_MAX)?;
        if kind != ObjectType::Commit {
            return Err(damaged());
        }
        let text = String::from_utf8_lossy(&data);
        let (mut tree, mut parents, mut time) = (None, Vec::new(), 0);
        for line in text.lines().take_while(|line| !line.is_empty()) {
            if let Some(hex) = line.strip_prefix("tree ") {
                tree = Oid::from_str(hex).ok();
            } else if let Some(hex) = line.strip_prefix("parent ") {
                parents.push(Oid::from_str(hex).map_err(|_| damaged())?);
            } else if let Some(committer) = line.strip_prefix("committer ") {
                time = committer.rsplit(' ').nth(1).and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
            }
        }
        Ok(Commit { tree: tree.ok_or_else(damaged)?, parents, time })
    }

    /// Returns the newest commit that `left` and `right` are both based on.
    ///
    /// # Errors
    ///
    /// [`Unreadable`].
    pub fn merge_base(&self, left: Oid, right: Oid) -> Result<Option<Oid>, Unreadable> {
        let mut sides: HashMap<Oid, u8> = HashMap::new();
        let mut queue: BinaryHeap<Waiting> = BinaryHeap::new();
        let mut add = |queue: &mut BinaryHeap<Waiting>, id: Oid, side: u8| -> Result<(), Unreadable> {
            let known = sides.entry(id).or_default();
            if *known & side != side {
                *known |= side;
                let commit = self.commit(id)?;
                queue.push(Waiting { time: commit.time, id, sides: *known, parents: commit.parents });
            }
            Ok(())
        };
        add(&mut queue, left, 1)?;
        add(&mut queue, right, 2)?;
        let mut looked_at = 0;
        while let Some(next) = queue.pop() {
            if next.sides == 3 {
                return Ok(Some(next.id));
            }
            looked_at += 1;
            if looked_at > COMMITS_MAX {
                return Err(Unreadable::TooLarge("the history".to_owned()));
            }
            for parent in next.parents {
                match add(&mut queue, parent, next.sides) {
                    Ok(()) => {}
                    // A shallow clone ends somewhere.
                    Err(Unreadable::Missing(_)) => {}
                    Err(other) => return Err(other),
                }
            }
        }
        Ok(None)
    }

    /// Returns every file of the tree `id`, by its path.
    ///
    /// # Errors
    ///
    /// [`Unreadable`], `TooLarge` when there are more than `files_max`.
    pub fn files(&self, id: Oid, files_max: usize) -> Result<BTreeMap<Vec<u8>, Entry>, Unreadable> {
        let mut files = BTreeMap::new();
        let mut folders = vec![(Vec::new(), id, 0)];
        while let Some((prefix, id, depth)) = folders.pop() {
            if depth > TREE_DEPTH_MAX {
                return Err(Unreadable::TooLarge("a folder".to_owned()));
            }
            for (name, entry) in self.tree(id)? {
                let mut path = prefix.clone();
                path.extend_from_slice(&name);
                if entry.mode == MODE_FOLDER {
                    path.push(b'/');
                    folders.push((path, entry.id, depth + 1));
                } else {
                    files.insert(path, entry);
                }
            }
            if files.len() + folders.len() > files_max {
                return Err(Unreadable::TooLarge(format!("a tree of more than {files_max} files")));
            }
        }
        Ok(files)
    }

    /// Returns the file `path` in the tree `id`.
    ///
    /// # Errors
    ///
    /// [`Unreadable`].
    pub fn file(&self, id: Oid, path: &Path) -> Result<Option<Entry>, Unreadable> {
        let mut entry = Entry { id, mode: MODE_FOLDER };
        for part in path.iter() {
            if entry.mode != MODE_FOLDER {
                return Ok(None);
            }
            let found = self.tree(entry.id)?.into_iter().find(|(name, _)| name == part.as_bytes());
            match found {
                Some((_, found)) => entry = found,
                None => return Ok(None),
            }
        }
        Ok((entry.mode != MODE_FOLDER).then_some(entry))
    }

    fn tree(&self, id: Oid) -> Result<Vec<(Vec<u8>, Entry)>, Unreadable> {
        let damaged = || Unreadable::Damaged(format!("tree {id}"));
        let (kind, data) = self.object(id, TREE_BYTES_MAX)?;
        if kind != ObjectType::Tree {
            return Err(damaged());
        }
        let mut entries = Vec::new();
        let mut rest = data.as_slice();
        while !rest.is_empty() {
            let blank = rest.iter().position(|byte| *byte == b' ').ok_or_else(damaged)?;
            let mode = std::str::from_utf8(&rest[..blank]).ok().and_then(|mode| u32::from_str_radix(mode, 8).ok());
            rest = &rest[blank + 1..];
            let end = rest.iter().position(|byte| *byte == 0).ok_or_else(damaged)?;
            let (name, tail) = rest.split_at(end);
            let id = tail.get(1..21).and_then(|bytes| Oid::from_bytes(bytes).ok()).ok_or_else(damaged)?;
            // A name that is no name would be a path.
            if name.is_empty() || name.contains(&b'/') || name == b"." || name == b".." {
                return Err(damaged());
            }
            entries.push((name.to_vec(), Entry { id, mode: mode.ok_or_else(damaged)? }));
            rest = &tail[21..];
        }
        Ok(entries)
    }

    /// Returns the content of a file.
    ///
    /// # Errors
    ///
    /// [`Unreadable`].
    pub fn blob(&self, id: Oid, bytes_max: usize) -> Result<Vec<u8>, Unreadable> {
        match self.object(id, bytes_max)? {
            (ObjectType::Blob, data) => Ok(data),
            _ => Err(Unreadable::Damaged(format!("blob {id}"))),
        }
    }

    /// Returns the index, by path; nothing where there is none.
    ///
    /// # Errors
    ///
    /// [`Unreadable`].
    pub fn index(&self) -> Result<BTreeMap<Vec<u8>, Staged>, Unreadable> {
        let damaged = || Unreadable::Damaged("the index".to_owned());
        let place = self.own.join("index");
        match self.roots.kind(&place, true) {
            Ok(Kind::File) => {}
            Err(Unread::Missing) => return Ok(BTreeMap::new()),
            _ => return Err(damaged()),
        }
        // Read here first: bounded, and never a pipe. What libgit2 opens is the same file by its real path.
        self.roots.read(&place, INDEX_BYTES_MAX).map_err(|_| damaged())?;
        let path = self.roots.real(&place).map_err(|_| damaged())?;
        let index =
            Index::open(&path).map_err(|error| Unreadable::Damaged(format!("the index: {}", error.message())))?;
        let mut entries = BTreeMap::new();
        for entry in index.iter() {
            let staged = Staged {
                entry: Entry { id: entry.id, mode: entry.mode },
                assumed_unchanged: entry.flags & 0x8000 != 0,
                skips_worktree: entry.flags_extended & (1 << 14) != 0,
                conflicted: entry.flags & 0x3000 != 0,
            };
            // Of the sides of a conflict, ours.
            let replaces = !staged.conflicted || entry.flags & 0x3000 == 0x2000;
            if replaces || !entries.contains_key(&entry.path) {
                entries.insert(entry.path, staged);
            }
        }
        Ok(entries)
    }

    fn object(&self, id: Oid, bytes_max: usize) -> Result<(ObjectType, Vec<u8>), Unreadable> {
        let hex = id.to_string();
        for objects in &self.objects {
            // libgit2 would wait for what a pipe in the place of an object says.
            match self.roots.kind(&objects.join(&hex[..2]).join(&hex[2..]), true) {
                Ok(Kind::File) | Err(Unread::Missing) => {}
                _ => return Err(Unreadable::Damaged(format!("object {id}"))),
            }
        }
        let wrong = |error: git2::Error| match error.code() {
            git2::ErrorCode::NotFound => Unreadable::Missing(format!("object {id}")),
            _ => Unreadable::Damaged(format!("object {id}: {}", error.message())),
        };
        let (size, _) = self.odb.read_header(id).map_err(wrong)?;
        if size > bytes_max {
            return Err(Unreadable::TooLarge(format!("object {id}")));
        }
        let object = self.odb.read(id).map_err(wrong)?;
        Ok((object.kind(), object.data().to_vec()))
    }

    fn small(&self, place: &Place) -> Result<Option<String>, Unreadable> {
        match self.roots.read(place, POINTER_BYTES_MAX) {
            Ok(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
            // `refs/heads/a` is a folder where there is a branch `a/b`.
            Err(Unread::Missing) => Ok(None),
            Err(Unread::NotAFile) if matches!(self.roots.kind(place, true), Ok(Kind::Folder)) => Ok(None),
            Err(_) => Err(Unreadable::Damaged(place.shown.clone())),
        }
    }
}

/// A commit that is still to be looked at, the newest first.
struct Waiting {
    time: i64,
    id: Oid,
    sides: u8,
    parents: Vec<Oid>,
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.time, self.sides, self.id).cmp(&(other.time, other.sides, other.id))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiting {}

/// Returns the object folder and those that it refers to, each known to be inside the roots and to hold only files.
fn object_folders(roots: &Roots, worktree: &Place, objects: &Place) -> Result<Vec<Place>, Refusal> {
    let mut folders = vec![objects.clone()];
    let mut done = 0;
    while let Some(folder) = folders.get(done).cloned() {
        done += 1;
        let refuse = |unread: Unread| match unread {
            Unread::Outside => roots.outside(&folder.shown),
            other => unusable(worktree, &format!("its objects: {}", crate::verify::reason(&other, 0))),
        };
        if roots.kind(&folder, true).map_err(refuse)? != Kind::Folder {
            return Err(unusable(worktree, "its objects are in no folder"));
        }
        for below in ["pack", "info"] {
            let place = folder.join(below);
            let names = match roots.names(&place, PACK_NAMES_MAX) {
                Ok(names) => names,
                Err(Unread::Missing) => continue,
                Err(unread) => return Err(refuse(unread)),
            };
            for (name, kind) in names {
                // A link is followed within its root alone.
                let kind =
                    if kind == Kind::Link { roots.kind(&place.join(&name), true).map_err(refuse)? } else { kind };
                if kind == Kind::Special {
                    return Err(unusable(worktree, "among its packs is what is no file"));
                }
            }
        }
        let text = match roots.read(&folder.join("info/alternates"), POINTER_BYTES_MAX * 8) {
            Ok(text) => text,
            Err(Unread::Missing) => continue,
            Err(unread) => return Err(refuse(unread)),
        };
        for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            // libgit2 reads one without a leading dot from where the server happens to be.
            if !line.starts_with(b"/") && !line.starts_with(b".") {
                return Err(unusable(worktree, "its objects refer to an unclear place"));
            }
            let further = roots.referred(&folder, Path::new(OsStr::from_bytes(line)))?;
            if !folders.contains(&further) {
                folders.push(further);
            }
            if folders.len() > OBJECT_FOLDERS_MAX {
                return Err(unusable(worktree, "its objects refer to too many other places"));
            }
        }
    }
    Ok(folders)
}

fn is_ref_name(name: &str) -> bool {
    name.starts_with("refs/")
        && name.len() < 1024
        && name.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && !part.ends_with(".lock"))
        && !name.bytes().any(|byte| byte < 0x20 || byte == 0x7f)
}

fn unusable(worktree: &Place, why: &str) -> Refusal {
    let shown = if worktree.shown.is_empty() { "." } else { &worktree.shown };
    Refusal::refused(
        "not_a_repository",
        format!("{} is not a git repository that can be read: {why}", crate::roots::quoted(shown)),
        "name a folder with a git repository that is whole",
    )
}
