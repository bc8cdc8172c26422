//! Roles: what a specialist is told, what it can call and what it may spend, each in a file of its own.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};
use tollgate_shared::config::{did_you_mean, nearest};
use tollgate_shared::money::Money;

/// The role of whoever divides a task and puts it together.
pub const LEAD: &str = "lead";

/// Largest file of a role.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Most roles of one operator.
const ROLES_MAX: usize = 64;

/// The roles of the house, as files of the same form as the operator's own.
const BUILT_IN: &[(&str, &str)] = &[
    ("advisor", include_str!("../../roles/advisor.md")),
    ("bugfix", include_str!("../../roles/bugfix.md")),
    ("codequality", include_str!("../../roles/codequality.md")),
    ("deployment", include_str!("../../roles/deployment.md")),
    ("featurebuilder", include_str!("../../roles/featurebuilder.md")),
    (LEAD, include_str!("../../roles/lead.md")),
    ("migration", include_str!("../../roles/migration.md")),
    ("testwriter", include_str!("../../roles/testwriter.md")),
];

/// A role, as it was when a task began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its name: the file's, without `.md`.
    pub name: String,
    /// What it is for, in a sentence: what a lead chooses by.
    pub description: String,
    /// Whether it changes files. One that does not answers with a report.
    pub writes: bool,
    /// What it can call, as names with `*`; everything that a task can when empty.
    pub tools: Vec<String>,
    /// What it cannot call, whatever `tools` says.
    pub deny: Vec<String>,
    /// Who does it, as after `run --agent`; whoever does the task when left out.
    pub agent: Option<String>,
    /// What one part may cost at most, in US dollars.
    pub budget_usd: Option<Money>,
    /// How often it may say that it is done.
    pub iterations: u32,
    /// How long one part may take, in milliseconds.
    pub timeout_ms: u64,
    /// What it is told.
    pub prompt: String,
}

/// What stands between the two lines of `---` at the head of a role's file, in YAML.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    description: String,
    #[serde(default = "yes")]
    writes: bool,
    #[serde(default)]
    tools: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
    agent: Option<String>,
    budget_usd: Option<String>,
    #[serde(default = "iterations")]
    iterations: u32,
    timeout: Option<String>,
}

fn yes() -> bool {
    true
}

fn iterations() -> u32 {
    6
}

/// How long a part may take when its role does not say.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30 * 60);

/// Every role that there is.
#[derive(Clone, Debug)]
pub struct Roles(Vec<Role>);

impl Roles {
    /// Reads the roles of the house and those in `folder`, which take the place of the house's of the same name.
    ///
    /// # Errors
    ///
    /// A sentence that names the file and what is wrong in it.
    pub fn read(folder: Option<&Path>) -> anyhow::Result<Self> {
        let mut roles: Vec<Role> = BUILT_IN
            .iter()
            .map(|(name, text)| Role::parse(name, text).with_context(|| format!("the role {name} of the house")))
            .collect::<anyhow::Result<_>>()?;
        if let Some(folder) = folder {
            let context = || format!("cannot read the roles in {}", folder.display());
            for entry in std::fs::read_dir(folder).with_context(context)? {
                let path = entry.with_context(context)?.path();
                if path.extension().is_some_and(|extension| extension == "md") {
                    let role = Role::read(&path).with_context(|| format!("the role {}", path.display()))?;
                    roles.retain(|other| other.name != role.name);
                    roles.push(role);
                }
                ensure!(roles.len() <= ROLES_MAX, "there are more than {ROLES_MAX} roles in {}", folder.display());
            }
        }
        roles.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Self(roles))
    }

    /// Returns the role of this name.
    ///
    /// # Errors
    ///
    /// A sentence that names it, and the one that was meant.
    pub fn find(&self, name: &str) -> anyhow::Result<&Role> {
        let known = nearest(name, self.0.iter().map(|role| role.name.as_str()));
        let found = self.0.iter().find(|role| role.name == name);
        found.with_context(|| format!("there is no role `{name}`{}", did_you_mean(known)))
    }

    /// Returns every role that does a part of a task.
    pub fn specialists(&self) -> impl Iterator<Item = &Role> {
        self.0.iter().filter(|role| role.name != LEAD)
    }
}

impl Role {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.file_stem().and_then(|name| name.to_str()).context("its name is not text")?;
        ensure!(std::fs::metadata(path)?.len() <= FILE_BYTES_MAX, "it is larger than 64 KiB");
        Self::parse(name, &std::fs::read_to_string(path)?)
    }

    /// Reads a role: YAML between two lines of `---`, then what it is told.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong.
    pub fn parse(name: &str, text: &str) -> anyhow::Result<Self> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        let is_named = (1..=40).contains(&name.len()) && name.bytes().all(plain);
        ensure!(is_named, "`{name}` is no name of a role: 1 to 40 of a-z 0-9 - _");
        let text = text.replace("\r\n", "\n");
        let parts = text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n"));
        let (head, prompt) = parts.context("it does not begin with a head between two lines of `---`")?;
        let head: Head = serde_saphyr::from_str(head).context("its head")?;
        let prompt = prompt.trim().to_owned();
        ensure!(!prompt.is_empty(), "there is nothing to tell it behind its head");
        ensure!((1..=1000).contains(&head.iterations), "iterations: {} is not from 1 to 1000", head.iterations);
        let budget_usd = head.budget_usd.map(|text| text.parse::<Money>()).transpose().context("budget_usd")?;
        let timeout = head.timeout.map(|text| time(&text)).transpose().context("timeout")?.unwrap_or(TIMEOUT_DEFAULT);
        let role = Self {
            name: name.to_owned(),
            description: head.description,
            writes: head.writes,
            tools: head.tools,
            deny: head.deny,
            agent: head.agent,
            budget_usd,
            iterations: head.iterations,
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            prompt,
        };
        role.profile()?;
        Ok(role)
    }

    /// Returns what the role can call.
    ///
    /// # Errors
    ///
    /// A sentence that names the pattern which is none.
    pub fn profile(&self) -> anyhow::Result<ToolProfile> {
        let allow = if self.tools.is_empty() { None } else { Some(set(&self.tools)?) };
        Ok(ToolProfile { allow, deny: set(&self.deny)? })
    }
}

/// Which of a task's tools a role can call.
#[derive(Clone, Debug)]
pub struct ToolProfile {
    allow: Option<GlobSet>,
    deny: GlobSet,
}

impl ToolProfile {
    /// Whether the tool of this name in the catalogue can be called.
    #[must_use]
    pub fn permits(&self, name: &str) -> bool {
        self.allow.as_ref().is_none_or(|allow| allow.is_match(name)) && !self.deny.is_match(name)
    }
}

fn set(patterns: &[String]) -> anyhow::Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).with_context(|| format!("`{pattern}` is no pattern of names"))?);
    }
    set.build().context("its patterns are too large")
}

fn time(text: &str) -> anyhow::Result<Duration> {
    let span: jiff::SignedDuration =
        text.parse().with_context(|| format!("`{text}` is no time such as 90s, 30m or 2h"))?;
    let time = Duration::try_from(span).with_context(|| format!("`{text}` is negative"))?;
    ensure!(!time.is_zero(), "no time at all");
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "---\ndescription: Reads.\nwrites: false\ntools: [\"git__*\", \"tollgate__read_file\"]\ndeny: [git__git_commit]\nbudget_usd: \"0.50\"\ntimeout: 5m\n---\nRead.\n";

    #[test]
    fn roles_of_the_house_can_be_read_and_an_advisor_changes_nothing() {
        let roles = Roles::read(None).unwrap();
        assert_eq!(roles.specialists().count(), BUILT_IN.len() - 1);
        let advisor = roles.find("advisor").unwrap();
        let profile = advisor.profile().unwrap();
        assert!(!advisor.writes && profile.permits("tollgate__read_file") && profile.permits("git__git_log"));
        for tool in ["git__git_commit", "git__git_add", "tollgate__write_file", "tollgate__edit_file", "other__tool"] {
            assert!(!profile.permits(tool), "{tool}");
        }
        assert!(roles.find("advisr").unwrap_err().to_string().contains("advisor"));
    }

    #[test]
    fn the_operators_role_takes_the_place_of_the_houses() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("advisor.md"), FILE).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "no role").unwrap();
        let roles = Roles::read(Some(folder.path())).unwrap();
        let role = roles.find("advisor").unwrap();
        assert_eq!((role.prompt.as_str(), role.timeout_ms, role.iterations), ("Read.", 300_000, 6));
        assert_eq!(role.budget_usd, Some("0.5".parse().unwrap()));
        assert_eq!(roles.specialists().count(), BUILT_IN.len() - 1);
    }

    #[test]
    fn mistakes_are_named() {
        for (from, to, part) in [
            ("description: Reads.", "descripton: Reads.", "descripton"),
            ("---\nRead.\n", "---\n \n", "nothing to tell"),
            ("---\nd", "d", "head between"),
            ("\"0.50\"", "\"a lot\"", "budget_usd"),
            ("5m", "-5m", "timeout"),
            ("\"git__*\"", "\"git__[\"", "pattern"),
        ] {
            let text = FILE.replacen(from, to, 1);
            let error = format!("{:#}", Role::parse("advisor", &text).unwrap_err());
            assert!(error.contains(part), "{part} is not in {error}");
        }
        assert!(Role::parse("Ad/visor", FILE).is_err());
    }
}
