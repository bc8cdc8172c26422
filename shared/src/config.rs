//! `tollgate.toml`: one file for all binaries, each reading its own table.
//!
//! What the operator wrote is turned once, at start, into what the program may rely on: unknown keys
//! are found against the table's JSON Schema and answered with the nearest known name, `${NAME}` is
//! replaced from the environment, and the result is deserialised into the table's type.

pub mod schema;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::content_hash::ContentHash;
use crate::price::{InvalidPrice, PriceList};

/// The name of the file.
pub const CONFIG_FILE_NAME: &str = "tollgate.toml";

/// Every table that the file may have.
pub const TABLES: &[&str] = &[
    "prices",
    "ralph",
    "git",
    "database",
    "deploy",
    "orchestrator",
    "servers",
    "budget",
    "gateway",
    "models",
    "agents",
    "queue",
    "router",
    "team",
    "telemetry",
];

/// A configuration is a few kilobytes; a file of megabytes is a mistake.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The configuration of one binary, ready to rely on.
#[derive(Clone, Debug)]
pub struct Settings<C> {
    /// The binary's own table, or its defaults.
    pub own: C,
    /// The prices in force.
    pub prices: PriceList,
    /// The file that was read; `None` means defaults.
    pub file: Option<PathBuf>,
    /// The folder that relative paths start from: that of the file, else of the git repository, else the working directory.
    pub workspace: PathBuf,
    /// The digest of the table `[ralph]` as written, secrets not put in, and of this release: what verdicts depend on.
    pub ralph_rules: ContentHash,
    /// The values that `${NAME}` stood for in the binary's own table: what nobody should be told.
    pub secrets: Vec<String>,
    /// What is in force, with everything taken from the environment put back as `${NAME}`.
    masked: Table,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No such file, or not readable.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Larger than any configuration.
    #[error("{} is larger than 1 MiB", .0.display())]
    TooLarge(PathBuf),
    /// Not TOML.
    #[error("{} is not valid TOML", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A key that means nothing.
    #[error("{}:{line}: unknown key `{key}`{}", .path.display(), did_you_mean(.nearest.as_deref()))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The whole key, dotted.
        key: String,
        /// The nearest known key.
        nearest: Option<String>,
    },
    /// A value of the wrong type or form.
    #[error("{}: `{key}`: {reason}", .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The whole key, dotted.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A price that cannot be taken.
    #[error("{}: [prices]", .path.display())]
    Price {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: InvalidPrice,
    },
    /// No working directory to start from.
    #[error("cannot tell the working directory")]
    WorkingDirectory(#[source] std::io::Error),
}

impl<C: DeserializeOwned + Serialize + JsonSchema + Default> Settings<C> {
    /// Reads the table `table` of the file chosen by `--config` or `TOLLGATE_CONFIG`, else of the nearest
    /// `tollgate.toml` from the working directory upward, else takes the defaults.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the file and the key.
    pub fn load(table: &str, chosen: Option<&Path>) -> Result<Self, ConfigError> {
        let directory = std::env::current_dir().map_err(ConfigError::WorkingDirectory)?;
        let file = match chosen {
            Some(path) => Some(directory.join(path)),
            None => directory.ancestors().map(|folder| folder.join(CONFIG_FILE_NAME)).find(|path| path.is_file()),
        };
        match file {
            Some(path) => {
                let text = read(&path)?;
                let workspace = path.parent().unwrap_or(&directory).to_owned();
                let variables = |name: &str| std::env::var(name).ok();
                Self::parse(table, &text, &path, workspace, &variables)
            }
            None => {
                let workspace =
                    directory.ancestors().find(|folder| folder.join(".git").exists()).unwrap_or(&directory).to_owned();
                Ok(Self {
                    masked: effective(table, &C::default(), &Table::new()),
                    own: C::default(),
                    prices: PriceList::default(),
                    file: None,
                    workspace,
                    ralph_rules: ralph_rules(&Table::new()),
                    secrets: Vec::new(),
                })
            }
        }
    }

    /// Reads the table `table` of `text`; `path` is for messages, `variables` is the environment.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the key.
    pub fn parse(
        table: &str,
        text: &str,
        path: &Path,
        workspace: PathBuf,
        variables: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let syntax = |source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) };
        let spanned = toml::de::DeTable::parse(text).map_err(syntax)?;
        if let Some(unknown) = schema::first_unknown_key::<C>(table, spanned.get_ref()) {
            let line = text[..unknown.offset.min(text.len())].matches('\n').count() + 1;
            return Err(ConfigError::UnknownKey {
                path: path.to_owned(),
                line,
                key: unknown.key,
                nearest: unknown.nearest,
            });
        }
        let written: Table = toml::from_str(text).map_err(syntax)?;

        let mut own = written.get(table).cloned().unwrap_or_else(|| Value::Table(Table::new()));
        let secrets = RefCell::new(Vec::new());
        let remembering = |name: &str| {
            let value = variables(name)?;
            secrets.borrow_mut().push(value.clone());
            Some(value)
        };
        expand(&mut own, table, &remembering).map_err(|(key, reason)| ConfigError::Value {
            path: path.to_owned(),
            key,
            reason,
        })?;
        let own: C = serde_path_to_error::deserialize(own).map_err(|error| {
            let inner = error.path().to_string();
            let key = if inner == "." { table.to_owned() } else { format!("{table}.{inner}") };
            ConfigError::Value { path: path.to_owned(), key, reason: first_line(error.inner().message()) }
        })?;

        let prices: BTreeMap<String, String> = match written.get("prices") {
            Some(prices) => serde_path_to_error::deserialize(flatten_prices(prices)).map_err(|error| {
                let key = format!("prices.{}", error.path());
                ConfigError::Value {
                    path: path.to_owned(),
                    key,
                    reason: "a price is a string such as \"0.0015\"".into(),
                }
            })?,
            None => BTreeMap::new(),
        };
        let prices = PriceList::with_overrides(&prices)
            .map_err(|source| ConfigError::Price { path: path.to_owned(), source })?;

        Ok(Self {
            masked: effective(table, &own, &written),
            own,
            prices,
            file: Some(path.to_owned()),
            workspace,
            ralph_rules: ralph_rules(&written),
            secrets: secrets.into_inner(),
        })
    }

    /// Returns what is in force as TOML, secrets masked.
    #[must_use]
    pub fn describe(&self) -> String {
        let source = self.file.as_ref().map_or_else(
            || "no tollgate.toml: these are the defaults".to_owned(),
            |path| format!("from {}", path.display()),
        );
        let text = toml::to_string(&self.masked).unwrap_or_default();
        format!("# {source}\n# workspace {}\n{text}", self.workspace.display())
    }
}

/// Returns the known name that `written` most likely stands for.
#[must_use]
pub fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (strsim::jaro_winkler(written, name), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, name)| name)
}

/// Returns the end of a sentence that names the nearest known name.
#[must_use]
pub fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// Returns what tells one set of Ralph's rules from another, as far as the configuration says.
fn ralph_rules(written: &Table) -> ContentHash {
    let table = written.get("ralph").and_then(Value::as_table).filter(|table| !table.is_empty());
    let text = table.and_then(|table| serde_json::to_string(table).ok()).unwrap_or_default();
    ContentHash::builder("tollgate ralph rules 1")
        .field(env!("CARGO_PKG_VERSION").as_bytes())
        .field(text.as_bytes())
        .finish()
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge(path.to_owned()));
    }
    fs::read_to_string(path).map_err(failed)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// Turns `git.commit = "1"` under `[prices]`, which TOML reads as nested tables, back into dotted names.
fn flatten_prices(prices: &Value) -> Value {
    fn walk(prefix: &str, value: &Value, flat: &mut Table) {
        match value {
            Value::Table(table) => {
                for (key, value) in table {
                    let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    walk(&name, value, flat);
                }
            }
            other => {
                flat.insert(prefix.to_owned(), other.clone());
            }
        }
    }
    let mut flat = Table::new();
    walk("", prices, &mut flat);
    Value::Table(flat)
}

/// Replaces `${NAME}` in every text below `value`; fails with the key and the reason.
fn expand(value: &mut Value, key: &str, variables: &dyn Fn(&str) -> Option<String>) -> Result<(), (String, String)> {
    match value {
        Value::String(text) => {
            *text = expand_text(text, variables).map_err(|reason| (key.to_owned(), reason))?;
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                expand(item, &format!("{key}[{index}]"), variables)?;
            }
        }
        Value::Table(table) => {
            for (name, item) in table.iter_mut() {
                expand(item, &format!("{key}.{name}"), variables)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn expand_text(text: &str, variables: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        // `$${` stands for a literal `${`.
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = &reference[2..];
            continue;
        }
        expanded.push_str(before);
        let end = reference.find('}').ok_or_else(|| "`${` without `}`".to_owned())?;
        let name = &reference[2..end];
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(format!("`${{{name}}}` is not the name of an environment variable"));
        }
        expanded.push_str(&variables(name).ok_or_else(|| format!("the environment variable {name} is not set"))?);
        rest = &reference[end + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Returns `own` as a table, with every text that took something from the environment as it was written.
fn effective<C: Serialize>(table: &str, own: &C, written: &Table) -> Table {
    fn mask(value: &mut Value, written: &Value) {
        match (value, written) {
            (value, Value::String(text)) if text.contains("${") => *value = Value::String(text.clone()),
            (Value::Table(table), Value::Table(written)) => {
                for (key, value) in table.iter_mut() {
                    if let Some(written) = written.get(key) {
                        mask(value, written);
                    }
                }
            }
            (Value::Array(items), Value::Array(written)) => {
                items.iter_mut().zip(written).for_each(|(value, written)| mask(value, written));
            }
            _ => {}
        }
    }
    let mut value = Value::try_from(own).unwrap_or_else(|_| Value::Table(Table::new()));
    if let Some(written) = written.get(table) {
        mask(&mut value, written);
    }
    let mut effective = Table::new();
    effective.insert(table.to_owned(), value);
    if let Some(prices) = written.get("prices") {
        effective.insert("prices".to_owned(), prices.clone());
    }
    effective
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Shop {
        url: String,
        protected_branches: Vec<String>,
        connections: BTreeMap<String, Connection>,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Connection {
        url: String,
        max_rows: u32,
    }

    fn parse(text: &str) -> Result<Settings<Shop>, ConfigError> {
        let variables = |name: &str| (name == "SHOP_URL").then(|| "postgres://u:hunter2@h/d".to_owned());
        Settings::parse("git", text, Path::new("tollgate.toml"), PathBuf::from("."), &variables)
    }

    fn error(text: &str) -> String {
        let error = parse(text).unwrap_err();
        crate::error_chain::Chain(&error).to_string()
    }

    #[test]
    fn secrets_come_from_the_environment_and_are_masked() {
        let settings = parse("[git]\nurl = '${SHOP_URL}?x=1'\n[git.connections.shop]\nurl = 'a${SHOP_URL}'\n").unwrap();
        assert_eq!(settings.own.url, "postgres://u:hunter2@h/d?x=1");
        assert_eq!(settings.secrets, ["postgres://u:hunter2@h/d", "postgres://u:hunter2@h/d"]);
        let shown = settings.describe();
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("${SHOP_URL}?x=1"), "{shown}");
    }

    #[test]
    fn literal_dollars_are_kept() {
        assert_eq!(parse("[git]\nurl = 'a$b$${c}'").unwrap().own.url, "a$b${c}");
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        assert_eq!(
            error("[git]\nprotected_branch = []"),
            "tollgate.toml:2: unknown key `git.protected_branch`; did you mean `protected_branches`?"
        );
        assert_eq!(error("\n[gitt]\n"), "tollgate.toml:2: unknown key `gitt`; did you mean `git`?");
        assert_eq!(
            error("[git.connections.shop]\nurl = ''\nmax_row = 1"),
            "tollgate.toml:3: unknown key `git.connections.shop.max_row`; did you mean `max_rows`?"
        );
    }

    #[test]
    fn wrong_values_name_their_key() {
        assert!(error("[git]\nurl = 3").contains("`git.url`"));
        assert!(error("[git.connections.a]\nmax_rows = -1").contains("`git.connections.a.max_rows`"));
        assert!(error("[git]\nurl = '${NOPE}'").contains("the environment variable NOPE is not set"));
        assert!(error("[git]\nurl = '${'").contains("`git.url`"));
        assert!(error("[git").contains("not valid TOML"));
        assert!(error("[prices]\n\"git.comit\" = '1'").contains("did you mean `git.commit`"));
        assert!(error("[prices]\ngit.commit = 0.5").contains("prices.git.commit"));
    }

    #[test]
    fn other_tables_are_left_to_their_owners() {
        parse("[ralph]\nwhatever = 1\n[servers.x]\ncommand = 'x'").unwrap();
    }

    #[test]
    fn prices_may_be_written_dotted_or_quoted() {
        for text in ["[prices]\ngit.commit = '7'", "[prices]\n\"git.commit\" = '7'"] {
            assert_eq!(parse(text).unwrap().prices.price(&crate::price::Sku::new("git.commit")).to_string(), "7");
        }
    }
}
