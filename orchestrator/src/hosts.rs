//! Other programs' configurations: which file each host reads, what is added to it, and how that is undone.

pub mod edit;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use similar::TextDiff;
use tollgate_shared::state_dir::StateDir;

use edit::{Entry, Format};

/// Largest configuration that is read; one host keeps its whole history in it.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The folder, in the state folder, of what is needed to undo.
const UNDO_FOLDER: &str = "hosts";

/// A program that uses MCP servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Host {
    /// Claude Code: .mcp.json of the workspace
    Claude,
    /// Claude Code, in every folder: ~/.claude.json
    ClaudeUser,
    /// Claude Desktop
    ClaudeDesktop,
    /// Codex: ~/.codex/config.toml
    Codex,
    /// Cursor: .cursor/mcp.json of the workspace
    Cursor,
    /// VS Code: .vscode/mcp.json of the workspace
    Vscode,
    /// Goose: ~/.config/goose/config.yaml
    Goose,
    /// Gemini CLI: .gemini/settings.json of the workspace
    Gemini,
    /// Qwen Code: .qwen/settings.json of the workspace
    Qwen,
    /// opencode: opencode.json of the workspace
    Opencode,
    /// Windsurf: ~/.codeium/windsurf/mcp_config.json
    Windsurf,
    /// Zed: .zed/settings.json of the workspace
    Zed,
}

/// A change of one file, not made yet.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The file, links followed.
    pub path: PathBuf,
    before: Option<String>,
    after: String,
    undo: PathBuf,
}

/// What is kept to undo a change.
#[derive(Serialize, Deserialize)]
struct Undo {
    path: PathBuf,
    before: Option<String>,
    after: String,
}

impl Host {
    fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn format(self) -> Format {
        match self {
            Self::Codex => Format::Codex,
            Self::Goose => Format::Goose,
            Self::Vscode => Format::VsCode,
            Self::Opencode => Format::OpenCode,
            Self::Zed => Format::Zed,
            _ => Format::McpServers,
        }
    }

    /// Returns the file that the host reads.
    fn file(self, workspace: &Path, home: &Path) -> PathBuf {
        let settings = std::env::var_os("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from);
        match self {
            Self::Claude => workspace.join(".mcp.json"),
            Self::ClaudeUser => home.join(".claude.json"),
            Self::ClaudeDesktop if cfg!(target_os = "macos") => {
                home.join("Library/Application Support/Claude/claude_desktop_config.json")
            }
            Self::ClaudeDesktop => settings.join("Claude/claude_desktop_config.json"),
            Self::Codex => {
                std::env::var_os("CODEX_HOME").map_or_else(|| home.join(".codex"), PathBuf::from).join("config.toml")
            }
            Self::Cursor => workspace.join(".cursor/mcp.json"),
            Self::Vscode => workspace.join(".vscode/mcp.json"),
            Self::Goose => settings.join("goose/config.yaml"),
            Self::Gemini => workspace.join(".gemini/settings.json"),
            Self::Qwen => workspace.join(".qwen/settings.json"),
            Self::Opencode => workspace.join("opencode.json"),
            Self::Windsurf => home.join(".codeium/windsurf/mcp_config.json"),
            Self::Zed => workspace.join(".zed/settings.json"),
        }
    }

    /// Plans to add `entries` to the host's file, or to `file`.
    ///
    /// # Errors
    ///
    /// A sentence that names the file and says why nothing can be added.
    pub fn plan(
        self,
        file: Option<&Path>,
        workspace: &Path,
        state_dir: &StateDir,
        entries: &[Entry],
    ) -> anyhow::Result<Plan> {
        let home = std::env::var_os("HOME").map(PathBuf::from).context("HOME is not set")?;
        let path = file.map_or_else(|| self.file(workspace, &home), Path::to_owned);
        // A link to a file under version control stays a link.
        let path = fs::canonicalize(&path).unwrap_or(path);
        let context = || path.display().to_string();
        let before = read(&path).with_context(context)?;
        let after = self.format().add(before.as_deref().unwrap_or_default(), entries).with_context(context)?;
        let undo = undo_file(state_dir, self);
        Ok(Plan { path, before, after, undo })
    }

    /// Takes the last change of the host's file back.
    ///
    /// # Errors
    ///
    /// When there is none, or the file was changed since: then it is for a person to look at.
    pub fn undo(self, state_dir: &StateDir) -> anyhow::Result<PathBuf> {
        let kept = undo_file(state_dir, self);
        let text = fs::read_to_string(&kept).with_context(|| format!("nothing was installed for {}", self.name()))?;
        let Undo { path, before, after } = serde_json::from_str(&text).with_context(|| kept.display().to_string())?;
        ensure!(
            read(&path)?.as_deref() == Some(after.as_str()),
            "{} was changed since; remove the servers from it by hand",
            path.display()
        );
        match before {
            Some(before) => write(&path, &before)?,
            None => fs::remove_file(&path).with_context(|| path.display().to_string())?,
        }
        fs::remove_file(&kept)?;
        Ok(path)
    }
}

impl Plan {
    /// Whether the file says it all already.
    #[must_use]
    pub fn changes_nothing(&self) -> bool {
        self.before.as_deref() == Some(self.after.as_str())
    }

    /// Returns the change as a unified diff.
    #[must_use]
    pub fn diff(&self) -> String {
        let path = self.path.display().to_string();
        let from = if self.before.is_some() { path.as_str() } else { "/dev/null" };
        TextDiff::from_lines(self.before.as_deref().unwrap_or_default(), &self.after)
            .unified_diff()
            .header(from, &path)
            .to_string()
    }

    /// Makes the change, after what is needed to undo it is on disk.
    ///
    /// # Errors
    ///
    /// When a file cannot be written, or was changed since the change was planned.
    pub fn apply(&self, state_dir: &StateDir) -> anyhow::Result<()> {
        ensure!(read(&self.path)? == self.before, "{} was changed meanwhile", self.path.display());
        let folder = state_dir.create()?.join(UNDO_FOLDER);
        fs::create_dir_all(&folder)?;
        // Several changes in a row are undone together, as long as nobody else made one between.
        let earlier = fs::read_to_string(&self.undo).ok().and_then(|text| serde_json::from_str::<Undo>(&text).ok());
        let before = match earlier {
            Some(earlier) if earlier.path == self.path && Some(&earlier.after) == self.before.as_ref() => {
                earlier.before
            }
            _ => self.before.clone(),
        };
        let undo = Undo { path: self.path.clone(), before, after: self.after.clone() };
        write(&self.undo, &serde_json::to_string(&undo)?)?;
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        }
        write(&self.path, &self.after)
    }
}

fn undo_file(state_dir: &StateDir, host: Host) -> PathBuf {
    state_dir.path().join(UNDO_FOLDER).join(format!("{}.json", host.name()))
}

fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => bail!("{} is larger than 64 MiB", path.display()),
        Ok(_) => Ok(Some(fs::read_to_string(path).with_context(|| path.display().to_string())?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Writes a whole file or none, with the rights that it had, and else for its owner alone: it may hold secrets.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let context = || format!("cannot write {}", path.display());
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".tollgate-{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&beside).with_context(context)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| {
        if let Ok(metadata) = fs::metadata(path) {
            fs::set_permissions(&beside, metadata.permissions())?;
        }
        fs::rename(&beside, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.with_context(context)
}
