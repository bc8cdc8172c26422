//! The loop's own tools: the files of the task's working tree, and nothing else.
//!
//! Every name on the way to a file is opened by itself and never through a symbolic link, so nothing that an agent puts
//! there leads out, however fast it is changed.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use serde_json::{Value, json};
use tollgate_shared::content_hash::ContentHash;

use super::tools::{Effect, Route, TaskTool};
use crate::catalogue::BUILT_IN;
use crate::fleet::failure;

/// Largest file that is read or written.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Lines of a file in one answer when nothing is said.
const LINES_DEFAULT: usize = 1_000;

/// Bytes of one answer: what a context window can bear.
const ANSWER_BYTES_MAX: usize = 60 * 1024;

/// Files that are listed or searched at most.
const FILES_MAX: usize = 20_000;

/// Files or lines in one answer.
const LISTED_MAX: usize = 300;

/// Deepest folder that is looked into.
const DEPTH_MAX: usize = 32;

/// One of these tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    Read,
    Write,
    Edit,
    Delete,
    List,
    Search,
}

impl Tool {
    pub(crate) const ALL: [Self; 6] = [Self::Read, Self::Write, Self::Edit, Self::Delete, Self::List, Self::Search];

    fn name(self) -> &'static str {
        match self {
            Self::Read => "read_file",
            Self::Write => "write_file",
            Self::Edit => "edit_file",
            Self::Delete => "delete_file",
            Self::List => "list_files",
            Self::Search => "search_files",
        }
    }

    /// Returns the tool as an agent sees it.
    pub(crate) fn listed(self) -> TaskTool {
        let text = |about: &str| json!({ "type": "string", "description": about });
        let path = || text("Relative to the root of the working tree");
        let (description, properties, required, effect) = match self {
            Self::Read => (
                "Read a file of the working tree, by lines.",
                json!({ "path": path(),
                    "from_line": { "type": "integer", "minimum": 1, "description": "First line, 1 when left out" },
                    "lines": { "type": "integer", "minimum": 1, "description": "How many, 1000 when left out" } }),
                json!(["path"]),
                Effect::Reads,
            ),
            Self::Write => (
                "Write a whole file of the working tree; folders are made. Use edit_file for small changes.",
                json!({ "path": path(), "content": text("All of it") }),
                json!(["path", "content"]),
                Effect::Idempotent,
            ),
            Self::Edit => (
                "Replace one place in a file. `old` must be there exactly once; refuses otherwise.",
                json!({ "path": path(), "old": text("What is there, with enough around it to be unique"),
                    "new": text("What is to be there") }),
                json!(["path", "old", "new"]),
                Effect::Edits,
            ),
            Self::Delete => {
                ("Delete a file of the working tree.", json!({ "path": path() }), json!(["path"]), Effect::Idempotent)
            }
            Self::List => (
                "List the files of the working tree, or of a folder in it.",
                json!({ "folder": text("The root when left out") }),
                json!([]),
                Effect::Reads,
            ),
            Self::Search => (
                "Find the lines of the working tree that contain a text.",
                json!({ "text": text("What to look for, as it is"), "folder": text("The root when left out") }),
                json!(["text"]),
                Effect::Reads,
            ),
        };
        TaskTool {
            name: format!("{BUILT_IN}__{}", self.name()),
            description: description.to_owned(),
            input_schema: json!({ "type": "object", "properties": properties, "required": required,
                "additionalProperties": false }),
            route: Route::File(self),
            effect,
        }
    }

    /// Carries out a call in `worktree`; blocks. The answer, or an error as tools answer it.
    pub(crate) fn call(self, worktree: &Path, arguments: &Value) -> Value {
        self.carry_out(worktree, arguments).unwrap_or_else(|error| error)
    }

    fn carry_out(self, worktree: &Path, arguments: &Value) -> Result<Value, Value> {
        let root = open_root(worktree)?;
        let text = |name: &str| {
            arguments.get(name).and_then(Value::as_str).ok_or_else(|| invalid(&format!("`{name}` is no text")))
        };
        match self {
            Self::Read => {
                let number = |name: &str, default: usize| match arguments.get(name) {
                    None | Some(Value::Null) => Ok(default),
                    Some(value) => value
                        .as_u64()
                        .and_then(|number| usize::try_from(number).ok())
                        .filter(|number| *number > 0)
                        .ok_or_else(|| invalid(&format!("`{name}` is no number above 0"))),
                };
                let content = read(&root, text("path")?)?;
                Ok(page(&content, number("from_line", 1)?, number("lines", LINES_DEFAULT)?))
            }
            Self::Write => {
                let (path, content) = (text("path")?, text("content")?);
                write(&root, path, content)?;
                Ok(json!({ "path": path, "bytes": content.len() }))
            }
            Self::Edit => {
                let (path, content) = (text("path")?, edited(&root, arguments)?);
                write(&root, path, &content)?;
                Ok(json!({ "path": path, "bytes": content.len() }))
            }
            Self::Delete => {
                let path = text("path")?;
                let (folder, name) = open_parent(&root, path, false)?;
                match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
                    Ok(()) => Ok(json!({ "path": path, "deleted": true })),
                    Err(rustix::io::Errno::NOENT) => Ok(json!({ "path": path, "deleted": false })),
                    Err(error) => Err(unusable(path, &error.to_string())),
                }
            }
            Self::List | Self::Search => {
                let folder = arguments.get("folder").and_then(Value::as_str).unwrap_or(".");
                let mut files = Vec::new();
                let start = open_folder(&root, folder)?;
                let prefix = folder.trim_start_matches("./").trim_matches('/');
                walk(&start, if prefix == "." { "" } else { prefix }, 0, &mut files);
                files.sort();
                if self == Self::List {
                    let left_out = files.len().saturating_sub(LISTED_MAX);
                    files.truncate(LISTED_MAX);
                    return Ok(json!({ "files": files, "left_out": left_out }));
                }
                Ok(search(&root, &files, text("text")?))
            }
        }
    }
}

/// Returns the hashes of a file before and after an edit, which tell later whether it was carried out; nothing where the
/// edit would be refused.
pub(crate) fn edit_trace(worktree: &Path, arguments: &Value) -> Option<Value> {
    let root = open_root(worktree).ok()?;
    let before = read(&root, arguments["path"].as_str()?).ok()?;
    let after = edited(&root, arguments).ok()?;
    let hash = |text: &str| ContentHash::of(text.as_bytes()).to_string();
    Some(json!({ "old": hash(&before), "new": hash(&after) }))
}

/// Whether a file is as an edit with this trace leaves it.
pub(crate) fn was_edited(worktree: &Path, arguments: &Value, trace: &Value) -> bool {
    let content = open_root(worktree).and_then(|root| read(&root, arguments["path"].as_str().unwrap_or_default()));
    content.is_ok_and(|content| trace["new"] == ContentHash::of(content.as_bytes()).to_string())
}

fn edited(root: &OwnedFd, arguments: &Value) -> Result<String, Value> {
    let text = |name: &str| arguments[name].as_str().ok_or_else(|| invalid(&format!("`{name}` is no text")));
    let (path, old, new) = (text("path")?, text("old")?, text("new")?);
    let content = read(root, path)?;
    let found = if old.is_empty() { 0 } else { content.matches(old).count() };
    if found != 1 {
        let message = format!("`old` is there {found} times in {path}");
        return Err(failure("no_unique_place", &message, "read the file, and give `old` with enough around it"));
    }
    Ok(content.replacen(old, new, 1))
}

fn invalid(message: &str) -> Value {
    failure("invalid_arguments", message, "see the tool's input schema")
}

fn unusable(path: &str, reason: &str) -> Value {
    let shown: String = path.chars().take(200).collect();
    failure("file_unusable", &format!("{shown}: {reason}"), "tollgate__list_files shows what is there")
}

fn open_root(worktree: &Path) -> Result<OwnedFd, Value> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(worktree, flags, Mode::empty()).map_err(|error| unusable(".", &error.to_string()))
}

/// Returns the names in `path`, none of which leads up or into what is git's or Tollgate's own.
fn names(path: &str) -> Result<Vec<&str>, Value> {
    let outside = |why: &str| {
        let shown: String = path.chars().take(200).collect();
        let hint = "give a path relative to the root of the working tree, without `..` or `.git`";
        failure("outside_worktree", &format!("`{shown}` {why}"), hint)
    };
    if path.starts_with('/') || path.len() > 4096 || path.contains('\0') {
        return Err(outside("is not a relative path"));
    }
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    for name in &names {
        // Some file systems drop what is invisible, and trailing dots and spaces: what then says `.git` is none of an agent's.
        let plain: String = name.chars().filter(char::is_ascii_graphic).collect::<String>().to_ascii_lowercase();
        let plain = plain.trim_end_matches('.');
        if *name == ".." || plain.starts_with(".git~") || plain == "git~1" || plain.split(':').next() == Some(".git") {
            return Err(outside("leads out of the working tree, or into git's own folder"));
        }
    }
    Ok(names)
}

fn open_folder(root: &OwnedFd, path: &str) -> Result<OwnedFd, Value> {
    let names = names(path)?;
    step_into(root, &names, path, false)
}

fn open_parent<'p>(root: &OwnedFd, path: &'p str, make: bool) -> Result<(OwnedFd, &'p str), Value> {
    let mut names = names(path)?;
    let name = names.pop().ok_or_else(|| invalid("`path` names no file"))?;
    Ok((step_into(root, &names, path, make)?, name))
}

fn step_into(root: &OwnedFd, names: &[&str], path: &str, make: bool) -> Result<OwnedFd, Value> {
    let failed = |error: rustix::io::Errno| unusable(path, &error.to_string());
    let mut folder = root.try_clone().map_err(|error| unusable(path, &error.to_string()))?;
    for name in names {
        if make {
            match rustix::fs::mkdirat(&folder, *name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        folder = rustix::fs::openat(&folder, *name, flags, Mode::empty()).map_err(failed)?;
    }
    Ok(folder)
}

fn read(root: &OwnedFd, path: &str) -> Result<String, Value> {
    let (folder, name) = open_parent(root, path, false)?;
    // Without waiting: a pipe has no content.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(&folder, name, flags, Mode::empty());
    let file = File::from(opened.map_err(|error| unusable(path, &error.to_string()))?);
    let metadata = file.metadata().map_err(|error| unusable(path, &error.to_string()))?;
    if !metadata.is_file() {
        return Err(unusable(path, "it is no plain file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unusable(path, &error.to_string()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unusable(path, "it is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| unusable(path, "it is no text in UTF-8"))
}

/// Writes a file beside the old one, then puts it in its place, so that a crash leaves one of the two.
fn write(root: &OwnedFd, path: &str, content: &str) -> Result<(), Value> {
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(invalid("`content` is larger than 1 MiB"));
    }
    let (folder, name) = open_parent(root, path, true)?;
    let failed = |error: rustix::io::Errno| unusable(path, &error.to_string());
    let mode = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile => {
            Mode::from_raw_mode(stat.st_mode & 0o777)
        }
        Ok(_) => return Err(unusable(path, "it is no plain file")),
        Err(rustix::io::Errno::NOENT) => Mode::from_raw_mode(0o666),
        Err(error) => return Err(failed(error)),
    };
    // Always the same name: a call that was interrupted is carried out again, and takes what was left with it. Never into
    // what stands there: a link to a file elsewhere, or a pipe that nobody reads.
    let beside = ".tollgate-writing~";
    match rustix::fs::unlinkat(&folder, beside, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(failed(error)),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(&folder, beside, flags, mode).map_err(failed)?);
    let written = file.write_all(content.as_bytes()).and_then(|()| file.sync_data());
    if let Err(error) = written {
        let _ = rustix::fs::unlinkat(&folder, beside, AtFlags::empty());
        return Err(unusable(path, &error.to_string()));
    }
    if mode.bits() & 0o111 != 0 {
        rustix::fs::fchmod(&file, mode).map_err(failed)?;
    }
    rustix::fs::renameat(&folder, beside, &folder, name).map_err(failed)
}

fn page(content: &str, from_line: usize, lines: usize) -> Value {
    let total = content.lines().count();
    let mut text = String::new();
    let mut shown = 0;
    for line in content.lines().skip(from_line - 1).take(lines) {
        if text.len() + line.len() > ANSWER_BYTES_MAX {
            break;
        }
        text.push_str(line);
        text.push('\n');
        shown += 1;
    }
    let last = from_line - 1 + shown;
    json!({ "content": text, "from_line": from_line, "last_line": last, "lines_total": total, "is_all": shown == total })
}

fn walk(folder: &OwnedFd, prefix: &str, depth: usize, files: &mut Vec<String>) {
    let Ok(entries) = rustix::fs::Dir::read_from(folder) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().to_str() else { continue };
        if matches!(name, "." | ".." | ".git" | ".tollgate") || files.len() >= FILES_MAX {
            continue;
        }
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Ok(below) if depth < DEPTH_MAX => walk(&below, &path, depth + 1, files),
            Ok(_) => {}
            Err(_) => files.push(path),
        }
    }
}

fn search(root: &OwnedFd, files: &[String], wanted: &str) -> Value {
    if wanted.is_empty() {
        return invalid("`text` is empty");
    }
    let mut found = Vec::new();
    let mut left_out = 0;
    for path in files {
        // What is no text has no lines to find.
        let Ok(content) = read(root, path) else { continue };
        for (index, line) in content.lines().enumerate().filter(|(_, line)| line.contains(wanted)) {
            if found.len() >= LISTED_MAX {
                left_out += 1;
                continue;
            }
            let line: String = line.chars().take(200).collect();
            found.push(json!({ "path": path, "line": index + 1, "text": line }));
        }
    }
    json!({ "found": found, "left_out": left_out })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn world() -> tempfile::TempDir {
        let world = tempfile::tempdir().unwrap();
        fs::create_dir_all(world.path().join("tree/src")).unwrap();
        fs::create_dir_all(world.path().join("tree/.git")).unwrap();
        fs::write(world.path().join("tree/src/a.py"), "x = 1\ny = 2\n").unwrap();
        fs::write(world.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink(world.path(), world.path().join("tree/up")).unwrap();
        std::os::unix::fs::symlink(world.path().join("secret"), world.path().join("tree/link")).unwrap();
        world
    }

    #[test]
    fn files_are_read_written_edited_found_and_deleted() {
        let world = world();
        let tree = world.path().join("tree");
        let call = |tool: Tool, arguments: Value| tool.call(&tree, &arguments);
        assert_eq!(call(Tool::Read, json!({"path": "src/a.py", "from_line": 2}))["content"], "y = 2\n");
        assert_eq!(call(Tool::Write, json!({"path": "new/b.py", "content": "z = 3\n"}))["bytes"], 6);
        let edit = json!({"path": "src/a.py", "old": "x = 1", "new": "x = 7"});
        let trace = edit_trace(&tree, &edit).unwrap();
        assert!(!was_edited(&tree, &edit, &trace));
        assert_eq!(call(Tool::Edit, edit.clone())["bytes"], 12);
        assert!(was_edited(&tree, &edit, &trace));
        assert_eq!(call(Tool::Edit, edit)["error"]["code"], "no_unique_place");
        assert_eq!(call(Tool::Search, json!({"text": "= 7"}))["found"][0]["path"], "src/a.py");
        assert_eq!(call(Tool::List, json!({}))["files"], json!(["link", "new/b.py", "src/a.py", "up"]));
        assert_eq!(call(Tool::Delete, json!({"path": "new/b.py"}))["deleted"], true);
        assert_eq!(call(Tool::Delete, json!({"path": "new/b.py"}))["deleted"], false);
        assert!(!tree.join("new/b.py").exists());
    }

    #[test]
    fn nothing_leads_out_of_the_tree_or_into_git() {
        let world = world();
        let tree = world.path().join("tree");
        let out = [
            "../secret",
            "up/secret",
            "link",
            "/etc/passwd",
            ".git/config",
            ".GIT/x",
            "src/../../secret",
            ".git./x",
            "",
        ];
        for path in out {
            for tool in [Tool::Read, Tool::Write, Tool::Edit] {
                let answer = tool.call(&tree, &json!({"path": path, "content": "x", "old": "s", "new": "t"}));
                assert!(answer.get("error").is_some(), "{tool:?} {path}: {answer}");
            }
        }
        // What is deleted is a link itself, never what it leads to.
        assert!(Tool::Delete.call(&tree, &json!({"path": "up/secret"})).get("error").is_some());
        assert_eq!(Tool::Delete.call(&tree, &json!({"path": "link"}))["deleted"], true);
        assert_eq!(fs::read_to_string(world.path().join("secret")).unwrap(), "secret");
        assert_eq!(fs::read_dir(tree.join(".git")).unwrap().count(), 0);
    }

    #[test]
    fn what_stands_in_the_way_is_neither_written_into_nor_waited_for() {
        let world = world();
        let (tree, secret) = (world.path().join("tree"), world.path().join("secret"));
        let beside = tree.join("src/.tollgate-writing~");
        let write = || Tool::Write.call(&tree, &json!({"path": "src/a.py", "content": "x\n"}));
        fs::hard_link(&secret, &beside).unwrap();
        assert_eq!(write()["bytes"], 2);
        std::os::unix::fs::symlink(&secret, &beside).unwrap();
        assert_eq!(write()["bytes"], 2);
        assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
        let pipe = |path: &Path| {
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
                .unwrap();
        };
        pipe(&beside);
        assert_eq!(write()["bytes"], 2);
        assert_eq!(fs::read_to_string(tree.join("src/a.py")).unwrap(), "x\n");
        pipe(&tree.join("pipe"));
        for tool in [Tool::Read, Tool::Write, Tool::Edit] {
            let answer = tool.call(&tree, &json!({"path": "pipe", "content": "x", "old": "s", "new": "t"}));
            assert_eq!(answer["error"]["code"], "file_unusable", "{tool:?}");
        }
    }

    #[test]
    fn what_is_too_large_changes_nothing() {
        let world = world();
        let tree = world.path().join("tree");
        let large = "x".repeat(10 * 1024 * 1024);
        let answer = Tool::Write.call(&tree, &json!({"path": "src/a.py", "content": large}));
        assert_eq!(answer["error"]["code"], "invalid_arguments");
        let answer = Tool::Edit.call(&tree, &json!({"path": "src/a.py", "old": "x = 1", "new": large}));
        assert_eq!(answer["error"]["code"], "invalid_arguments");
        let answer = Tool::Read.call(&tree, &json!({"path": large}));
        assert_eq!(answer["error"]["code"], "outside_worktree");
        assert_eq!(fs::read_to_string(tree.join("src/a.py")).unwrap(), "x = 1\ny = 2\n");
        fs::write(tree.join("large"), &large).unwrap();
        assert_eq!(Tool::Read.call(&tree, &json!({"path": "large"}))["error"]["code"], "file_unusable");
    }

    #[test]
    fn a_programs_file_stays_one() {
        use std::os::unix::fs::PermissionsExt;
        let world = world();
        let tree = world.path().join("tree");
        fs::set_permissions(tree.join("src/a.py"), fs::Permissions::from_mode(0o755)).unwrap();
        Tool::Write.call(&tree, &json!({"path": "src/a.py", "content": "x\n"}));
        assert_eq!(fs::metadata(tree.join("src/a.py")).unwrap().permissions().mode() & 0o777, 0o755);
    }
}
