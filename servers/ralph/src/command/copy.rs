//! A copy of the workspace for a command: what git does not ignore, with what was given in its place, and its digest.
//!
//! Installed dependencies, which git ignores, are not copied but linked, and readable.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use cap_std::fs::{Dir, OpenOptionsExt as _, PermissionsExt};
use git2::{ObjectType, Oid};
use ignore::WalkBuilder;
use tollgate_shared::content_hash::ContentHash;

/// Most files and folders of one project.
const ENTRIES_MAX: usize = 50_000;

/// Most bytes of one project.
const BYTES_MAX: u64 = 1 << 30;

/// Folders of installed dependencies, each with the files that say what is installed.
const DEPENDENCIES: [(&str, &[&str]); 3] = [
    ("node_modules", &[".package-lock.json", ".modules.yaml", ".yarn-integrity", ".yarn-state.yml"]),
    (".venv", &["pyvenv.cfg"]),
    ("venv", &["pyvenv.cfg"]),
];

/// What to copy, and from where.
pub struct Original<'a> {
    /// The project's folder, opened.
    pub folder: &'a Dir,
    /// Its path, without links.
    pub path: &'a Path,
    /// A folder that is never copied: the server's own state.
    pub state: &'a Path,
    /// Names of the files that are copied beside `files`; everything when it says nothing.
    pub names: Option<&'static [&'static str]>,
    /// Files that are copied in any case, with what their content must be where that is known.
    pub files: &'a BTreeMap<PathBuf, Option<ContentHash>>,
    /// How the copy differs from what lies there.
    pub overlay: &'a Overlay,
}

/// How a copy differs from what lies in the folder.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    /// What is in the place of files, or what will be.
    pub given: BTreeMap<PathBuf, Given>,
    /// Files that are not in the copy.
    pub absent: BTreeSet<PathBuf>,
    /// Files that are copied although something says to ignore them: git keeps them.
    pub kept: Vec<PathBuf>,
    /// What every file was when it was read before, as git names contents: nothing else may come into the copy. No
    /// content is asked of a file that nobody could read.
    pub expected: Option<BTreeMap<PathBuf, Option<Oid>>>,
}

/// What takes the place of a file.
#[derive(Clone, Debug)]
pub struct Given {
    /// Its content; of a link, where it leads.
    pub content: Arc<Vec<u8>>,
    /// What it is.
    pub kind: GivenKind,
}

/// What takes the place of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenKind {
    /// A file.
    File,
    /// A file that can be run.
    Program,
    /// A symbolic link.
    Link,
}

impl Overlay {
    /// Puts `content` in the place of the file `path`.
    pub fn give(&mut self, path: PathBuf, content: Arc<Vec<u8>>) {
        self.given.insert(path, Given { content, kind: GivenKind::File });
    }
}

/// What was copied, or looked at.
#[derive(Debug, PartialEq, Eq)]
pub struct Copied {
    /// Of every path and every content, without the `files` themselves where only named ones are copied.
    pub digest: ContentHash,
    /// Folders outside the copy that it links to.
    pub linked: Vec<PathBuf>,
    /// What was copied.
    pub paths: Vec<PathBuf>,
}

impl Original<'_> {
    /// Copies into `destination`, or only looks when there is none.
    ///
    /// # Errors
    ///
    /// Why there can be no copy that a verdict could rest on.
    pub fn copy(&self, destination: Option<&Path>, stop: &dyn Fn() -> bool) -> Result<Copied, String> {
        let (paths, dependencies) = self.list(stop)?;
        let mut builder = ContentHash::builder("ralph.project");
        let mut bytes = 0;
        for path in &paths {
            if stop() {
                return Err("cancelled".to_owned());
            }
            let (kind, hash) = self.entry(path, destination, &mut bytes)?;
            let must_be = self.files.get(path).copied().flatten();
            if must_be.is_some_and(|must_be| must_be != hash) {
                return Err(changed(path));
            }
            if !(must_be.is_some() && self.names.is_some()) {
                builder = builder.field(path.as_os_str().as_bytes()).field(&[kind]).field(hash.as_bytes());
            }
        }
        if let Some(expected) = self.overlay.expected.as_ref().filter(|_| self.names.is_none()) {
            let absent = |path: &PathBuf| self.overlay.absent.contains(path) || paths.binary_search(path).is_ok();
            let beneath = |path: &PathBuf| dependencies.iter().any(|(folder, _)| path.starts_with(folder));
            if let Some(path) = expected.keys().find(|path| !absent(path) && !beneath(path)) {
                return Err(changed(path));
            }
        }
        let mut linked = Vec::new();
        for (path, markers) in &dependencies {
            let original = self.path.join(path);
            for marker in *markers {
                let content = fs::read(original.join(marker)).unwrap_or_default();
                builder = builder.field(path.as_os_str().as_bytes()).field(ContentHash::of(&content).as_bytes());
            }
            if let Some(destination) = destination {
                let link = destination.join(path);
                symlink(&original, prepare(&link)?).map_err(|error| format!("{}: {error}", path.display()))?;
            }
            linked.push(original);
        }
        Ok(Copied { digest: builder.finish(), linked, paths })
    }

    /// Lists what is copied, and the dependencies that are linked.
    fn list(&self, stop: &dyn Fn() -> bool) -> Result<(Vec<PathBuf>, Vec<(PathBuf, &'static [&'static str])>), String> {
        let is_named = |path: &Path| self.names.is_none_or(|names| names.iter().any(|name| path.ends_with(name)));
        let given = self.overlay.given.keys().filter(|path| is_named(path));
        let mut paths: Vec<PathBuf> = self.files.keys().chain(given).cloned().collect();
        paths.extend(self.overlay.kept.iter().filter(|path| is_named(path) && self.is_there(path)).cloned());
        let mut dependencies = Vec::new();
        let walk = WalkBuilder::new(self.path)
            .hidden(false)
            .require_git(false)
            .git_global(false)
            // Agents write these, and people do not look at them.
            .git_exclude(false)
            .ignore(false)
            .parents(self.overlay.expected.is_none())
            .follow_links(false)
            .filter_entry(|entry| !matches!(entry.file_name().to_str(), Some(".git" | ".tollgate")))
            .build();
        for entry in walk.flatten() {
            if stop() {
                return Err("cancelled".to_owned());
            }
            let Ok(beneath) = entry.path().strip_prefix(self.path) else { continue };
            let Some(kind) = entry.file_type().filter(|_| !entry.path().starts_with(self.state)) else { continue };
            if kind.is_dir() {
                // Ignored, so never an entry of its own; and no link, which would lead anywhere.
                let known = DEPENDENCIES.iter().map(|(name, markers)| (beneath.join(name), *markers));
                dependencies.extend(known.filter(|(path, _)| {
                    fs::symlink_metadata(self.path.join(path)).is_ok_and(|metadata| metadata.is_dir())
                }));
            } else if is_named(beneath) {
                paths.push(beneath.to_owned());
            }
            if paths.len() > ENTRIES_MAX {
                return Err(format!("the project has more than {ENTRIES_MAX} files"));
            }
        }
        dependencies.sort();
        // Below a folder that is linked nothing else is linked or copied.
        let folders: Vec<PathBuf> = dependencies.iter().map(|(path, _)| path.clone()).collect();
        dependencies.retain(|(path, _)| !folders.iter().any(|folder| folder != path && path.starts_with(folder)));
        paths.retain(|path| !folders.iter().any(|folder| path.starts_with(folder)));
        paths.retain(|path| !self.overlay.absent.contains(path));
        paths.sort();
        paths.dedup();
        Ok((paths, dependencies))
    }

    /// Reads one entry, copies it, and returns its kind and the hash of its content.
    fn entry(&self, path: &Path, destination: Option<&Path>, bytes: &mut u64) -> Result<(u8, ContentHash), String> {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        if let Some(given) = self.overlay.given.get(path) {
            return given.put(path, destination);
        }
        let metadata = self.folder.symlink_metadata(path).map_err(failed)?;
        if metadata.is_symlink() {
            let target = self.folder.read_link_contents(path).map_err(failed)?;
            self.compare(path, target.as_os_str().as_bytes())?;
            if let Some(destination) = destination.filter(|_| stays_inside(path, &target)) {
                symlink(&target, prepare(&destination.join(path))?).map_err(failed)?;
            }
            return Ok((b'l', ContentHash::of(target.as_os_str().as_bytes())));
        }
        if !metadata.is_file() {
            return Ok((b'o', ContentHash::ZERO));
        }
        let mut options = cap_std::fs::OpenOptions::new();
        // A pipe that took the file's place must not be waited for.
        options.read(true).custom_flags(libc_nonblock());
        let file = self.folder.open_with(path, &options).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        let mut content = Vec::new();
        file.take(BYTES_MAX + 1 - *bytes).read_to_end(&mut content).map_err(failed)?;
        *bytes += content.len() as u64;
        if *bytes > BYTES_MAX {
            return Err(format!("the project has more than {BYTES_MAX} bytes"));
        }
        self.compare(path, &content)?;
        if let Some(destination) = destination {
            write(&destination.join(path), &content, if mode & 0o100 == 0 { 0o644 } else { 0o755 })?;
        }
        let kind = if mode & 0o100 == 0 { b'f' } else { b'x' };
        Ok((kind, ContentHash::of(&content)))
    }

    fn is_there(&self, path: &Path) -> bool {
        self.folder.symlink_metadata(path).is_ok_and(|metadata| !metadata.is_dir())
    }

    /// Makes sure that what lies at `path` is what was read there before.
    fn compare(&self, path: &Path, content: &[u8]) -> Result<(), String> {
        let Some(expected) = &self.overlay.expected else { return Ok(()) };
        match expected.get(path) {
            Some(None) => Ok(()),
            Some(Some(id)) if Oid::hash_object(ObjectType::Blob, content).is_ok_and(|now| now == *id) => Ok(()),
            _ => Err(changed(path)),
        }
    }
}

impl Given {
    fn put(&self, path: &Path, destination: Option<&Path>) -> Result<(u8, ContentHash), String> {
        let (kind, mode) = match self.kind {
            GivenKind::File => (b'f', 0o644),
            GivenKind::Program => (b'x', 0o755),
            GivenKind::Link => {
                let target = Path::new(OsStr::from_bytes(&self.content));
                if let Some(destination) = destination.filter(|_| stays_inside(path, target)) {
                    symlink(target, prepare(&destination.join(path))?)
                        .map_err(|error| format!("{}: {error}", path.display()))?;
                }
                return Ok((b'l', ContentHash::of(&self.content)));
            }
        };
        if let Some(destination) = destination {
            write(&destination.join(path), &self.content, mode)?;
        }
        Ok((kind, ContentHash::of(&self.content)))
    }
}

fn changed(path: &Path) -> String {
    format!("{} changed while it was verified", path.display())
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), String> {
    use std::io::Write;
    let path = prepare(path)?;
    // The copy is new, so nothing is in the way, least of all a link.
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(content)).map_err(|error| format!("{}: {error}", path.display()))
}

fn prepare(path: &Path) -> Result<&Path, String> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    Ok(path)
}

/// Returns whether a link at `path` to `target` leads to something below the same folder, by its text.
fn stays_inside(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    target.components().all(|component| match component {
        Component::Normal(_) => {
            depth += 1;
            true
        }
        Component::ParentDir => {
            let inside = depth > 0;
            depth = depth.saturating_sub(1);
            inside
        }
        Component::CurDir => true,
        Component::RootDir | Component::Prefix(_) => false,
    })
}

fn libc_nonblock() -> i32 {
    use rustix::fs::OFlags;
    i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC).bits()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original<R>(work: impl FnOnce(&Path, &dyn Fn(&Overlay, Option<&Path>) -> Result<Copied, String>) -> R) -> R {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let opened = Dir::open_ambient_dir(&root, cap_std::ambient_authority()).unwrap();
        for (name, text) in [
            (".gitignore", "target\nnode_modules\n"),
            ("a.py", "a"),
            ("target/x", "x"),
            ("node_modules/m/index.js", "m"),
            (".tollgate/ledger.db", "secret"),
        ] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), text).unwrap();
        }
        symlink("/etc/passwd", root.join("outside")).unwrap();
        symlink("a.py", root.join("inside")).unwrap();
        let copy = |overlay: &Overlay, destination: Option<&Path>| {
            let original = Original {
                folder: &opened,
                path: &root,
                state: &root.join(".tollgate"),
                names: None,
                files: &BTreeMap::new(),
                overlay,
            };
            original.copy(destination, &|| false)
        };
        work(&root, &copy)
    }

    #[test]
    fn copy_has_what_git_does_not_ignore_and_what_was_given() {
        original(|root, copy| {
            let target = tempfile::tempdir().unwrap();
            let mut overlay = Overlay::default();
            overlay.give("new/b.py".into(), Arc::new(b"b".to_vec()));
            let copied = copy(&overlay, Some(target.path())).unwrap();
            assert_eq!(fs::read_to_string(target.path().join("a.py")).unwrap(), "a");
            assert_eq!(fs::read_to_string(target.path().join("inside")).unwrap(), "a");
            assert_eq!(fs::read_to_string(target.path().join("new/b.py")).unwrap(), "b");
            for absent in ["target", ".tollgate", "outside"] {
                assert!(fs::symlink_metadata(target.path().join(absent)).is_err(), "{absent}");
            }
            assert_eq!(copied.linked, [root.join("node_modules")]);
            assert_eq!(copied, copy(&overlay, None).unwrap());
        });
    }

    #[test]
    fn digest_changes_with_every_content_and_name() {
        original(|root, copy| {
            let none = Overlay::default();
            let before = copy(&none, None).unwrap().digest;
            fs::write(root.join("target/x"), "ignored").unwrap();
            assert_eq!(before, copy(&none, None).unwrap().digest);
            fs::write(root.join("a.py"), "b").unwrap();
            assert_ne!(before, copy(&none, None).unwrap().digest);
            fs::write(root.join("a.py"), "a").unwrap();
            assert_eq!(before, copy(&none, None).unwrap().digest);
            fs::write(root.join("pyproject.toml"), "").unwrap();
            assert_ne!(before, copy(&none, None).unwrap().digest);
        });
    }

    #[test]
    fn overlay_takes_files_away_and_brings_ignored_ones() {
        original(|_, copy| {
            let target = tempfile::tempdir().unwrap();
            let overlay = Overlay {
                absent: BTreeSet::from(["a.py".into()]),
                kept: vec!["target/x".into(), "gone".into()],
                ..Overlay::default()
            };
            copy(&overlay, Some(target.path())).unwrap();
            assert!(!target.path().join("a.py").exists());
            assert!(target.path().join("target/x").exists());
        });
    }

    #[test]
    fn nothing_else_than_was_read_before_comes_into_the_copy() {
        original(|root, copy| {
            let id = |text: &[u8]| Oid::hash_object(ObjectType::Blob, text).ok();
            let all = |a: &[u8]| {
                BTreeMap::from([
                    (PathBuf::from(".gitignore"), id(b"target\nnode_modules\n")),
                    ("a.py".into(), id(a)),
                    ("inside".into(), id(b"a.py")),
                    ("outside".into(), id(b"/etc/passwd")),
                ])
            };
            let overlay = |expected| Overlay { expected: Some(expected), ..Overlay::default() };
            copy(&overlay(all(b"a")), None).unwrap();
            assert!(copy(&overlay(all(b"b")), None).unwrap_err().contains("a.py changed"));
            let mut more = all(b"a");
            more.insert("gone.py".into(), id(b"x"));
            assert!(copy(&overlay(more), None).unwrap_err().contains("gone.py changed"));
            fs::write(root.join("new.py"), "x").unwrap();
            assert!(copy(&overlay(all(b"a")), None).unwrap_err().contains("new.py changed"));
        });
    }
}
