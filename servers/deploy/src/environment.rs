//! The environments as the program may rely on them.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use globset::{Glob, GlobBuilder, GlobMatcher};
use indexmap::IndexMap;
use tollgate_shared::content_hash::ContentHash;
use tollgate_shared::refusal::Refusal;
use tollgate_shared::sandbox::Setting;

use crate::config::{ApproveBy, DeployConfig, EnvironmentConfig, HealthConfig};
use crate::effect::command::Commands;
use crate::effect::compose::Compose;
use crate::effect::kubernetes::Kubernetes;
use crate::effect::ssh::Host;
use crate::effect::{self, Effect};
use crate::freeze::Window;
use crate::health::{Health, Probe};
use crate::kept::Rights;
use crate::names::{ServiceName, shown};
use crate::secrets::Secrets;

/// Longest name of an environment.
const NAME_BYTES_MAX: usize = 32;

/// What stands for the service in a path, a command or an address.
pub const SERVICE_PLACEHOLDER: &str = "{service}";

/// How many releases are kept unless the operator says otherwise.
const KEEP_DEFAULT: u32 = 5;

/// How long a program of a target may take unless the operator says otherwise.
const COMMAND_TIMEOUT_MS_DEFAULT: u64 = 300_000;

/// Most people who can be asked to approve one deployment.
const APPROVALS_MAX: u32 = 20;

/// How long a request for approval is good unless the operator says otherwise: a day.
const APPROVAL_MINUTES_DEFAULT: u32 = 1440;

/// Most folders that the releases of a service share.
const SHARED_MAX: usize = 16;

/// Words of a name that mean production, which needs an approval unless the operator says otherwise.
const PRODUCTION: [&str; 2] = ["prod", "production"];

/// Environments whose approval may be given in a form of the host unless the operator says otherwise.
const ASKED_BY_DEFAULT: [&str; 2] = ["dev", "staging"];

/// One environment and its gates.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Its name, as in the configuration, in answers and in skus.
    pub name: String,
    /// Where the releases of a service are.
    pub folder: ServiceFolder,
    /// The environments in which the same files must have been live and healthy.
    pub requires: Vec<String>,
    /// For how long, in minutes.
    pub bake_minutes: u32,
    /// The forms of versions that are taken; empty means all.
    pub versions: Vec<GlobMatcher>,
    /// The branches that an artifact may come from; empty means all.
    pub branches: Vec<GlobMatcher>,
    /// Whether Ralph must have passed the commit.
    pub verified: bool,
    /// When nothing is deployed.
    pub freeze: Vec<Window>,
    /// How many people must approve.
    pub approvals: u32,
    /// The file of those who may.
    pub approvers: Option<PathBuf>,
    /// How they may.
    pub approve_by: Ways,
    /// Whether it is one in which a signature alone counts.
    pub is_production: bool,
    /// How long a request for approval is good.
    pub approval_minutes: u32,
    /// Who may not approve because the requester works in that person's session.
    pub barred_operator: Option<String>,
    /// SHA-256 of the rules as configured.
    pub rules: ContentHash,
    /// What becomes of a release beyond the folder of releases.
    pub effect: Effect,
    /// How a release is found to be healthy.
    pub health: Option<Health>,
    /// The names in a release that lead to folders which all releases share.
    pub shared: Vec<String>,
    /// How many releases are kept.
    pub keep: usize,
    /// What nobody is told.
    pub secrets: Secrets,
}

/// The ways in which people may approve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// Signed with an SSH key.
    pub signature: bool,
    /// In a form of the agent's host.
    pub elicitation: bool,
}

/// The folder of a service: a part in which links are the operator's and are followed, and one in which there are none.
///
/// The second begins below the workspace where the folder lies in it, and otherwise at `{service}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFolder {
    before: PathBuf,
    after: Vec<String>,
}

/// Every environment, in order.
#[derive(Clone, Debug)]
pub struct Environments(IndexMap<String, Environment>);

impl Environments {
    /// Takes the environments as configured; relative folders start from `workspace`, default ones are in `state_dir`.
    ///
    /// # Errors
    ///
    /// What cannot be relied on, with its key.
    pub fn new(config: &DeployConfig, workspace: &Path, state_dir: &Path) -> anyhow::Result<Self> {
        let mut environments: IndexMap<String, Environment> = IndexMap::new();
        for (name, written) in &config.environments {
            let environment = environment(name, written, config.operator.as_deref(), workspace, state_dir)
                .with_context(|| format!("`deploy.environments.{name}`"))?;
            for required in &environment.requires {
                ensure!(
                    environments.contains_key(required),
                    "`deploy.environments.{name}.requires`: {} is not an environment listed before it",
                    shown(required)
                );
            }
            for other in environments.values() {
                ensure!(
                    !environment.folder.may_overlap(&other.folder),
                    "`deploy.environments.{name}.path`: a service there could lie in a folder of `{}`",
                    other.name
                );
            }
            environments.insert(name.clone(), environment);
        }
        ensure!(!environments.is_empty(), "`deploy.environments` is empty: there is nothing to deploy to");
        Ok(Self(environments))
    }

    /// Returns them so that they tell nobody of `secrets`.
    #[must_use]
    pub fn keeping(mut self, secrets: &Secrets) -> Self {
        for environment in self.0.values_mut() {
            environment.secrets = secrets.clone();
            environment.effect.keep(secrets);
        }
        self
    }

    /// Returns the environment that a caller named.
    ///
    /// # Errors
    ///
    /// `unknown_environment`.
    pub fn find(&self, name: &str) -> Result<&Environment, Refusal> {
        self.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
            Refusal::refused(
                "unknown_environment",
                format!("{} is not an environment", shown(name)),
                format!("use one of {}", names.join(", ")),
            )
        })
    }

    /// Returns the environment of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Environment> {
        self.0.get(name)
    }

    /// Returns every environment, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Environment> {
        self.0.values()
    }
}

impl ServiceFolder {
    /// Splits `path` after `workspace` where it lies in it, as agents may put links there, and else at `{service}`.
    ///
    /// # Errors
    ///
    /// Why it is not the folder of a service.
    pub fn parse(path: &Path, workspace: &Path) -> anyhow::Result<Self> {
        let mut seen = false;
        for component in path.components() {
            ensure!(!seen || component != Component::ParentDir, "`path` has `..` after `{SERVICE_PLACEHOLDER}`");
            seen |= component.as_os_str() == SERVICE_PLACEHOLDER;
        }
        let path = normal(path);
        ensure!(path.is_absolute(), "`path` has no absolute beginning");
        let workspace = normal(workspace);
        let names = path.strip_prefix(&workspace).unwrap_or(&path);
        let marked: Vec<&str> = names
            .components()
            .filter_map(|name| name.as_os_str().to_str())
            .filter(|name| name.contains(['{', '}']))
            .collect();
        ensure!(
            marked == [SERVICE_PLACEHOLDER],
            "`path` must have `{SERVICE_PLACEHOLDER}` as exactly one of its names: services must not share a folder"
        );
        let mut before = PathBuf::new();
        let mut after = Vec::new();
        for component in path.components() {
            if after.is_empty() && component.as_os_str() != SERVICE_PLACEHOLDER && before != workspace {
                before.push(component);
            } else {
                after.push(component.as_os_str().to_str().context("`path` is not UTF-8")?.to_owned());
            }
        }
        Ok(Self { before, after })
    }

    /// Returns the part that is the operator's alone.
    #[must_use]
    pub fn before(&self) -> &Path {
        &self.before
    }

    /// Returns the names below that part for `service`.
    pub fn names<'a>(&'a self, service: &'a ServiceName) -> impl Iterator<Item = &'a str> {
        self.after.iter().map(move |name| if name == SERVICE_PLACEHOLDER { service.as_str() } else { name })
    }

    /// Returns the whole path for `service`.
    #[must_use]
    pub fn path(&self, service: &ServiceName) -> PathBuf {
        let mut path = self.before.clone();
        path.extend(self.names(service));
        path
    }

    /// Returns the whole path as configured, with its placeholder.
    fn path_text(&self) -> String {
        let mut path = self.before.clone();
        path.extend(&self.after);
        path.to_string_lossy().into_owned()
    }

    /// Whether some service's folder here could be, contain or lie in some service's folder there.
    fn may_overlap(&self, other: &Self) -> bool {
        let names = |folder: &Self| -> Vec<String> {
            let before = normal(&folder.before);
            before
                .components()
                .map(|component| component.as_os_str().to_string_lossy().into_owned())
                .chain(folder.after.iter().cloned())
                .collect()
        };
        let any = SERVICE_PLACEHOLDER;
        names(self).iter().zip(&names(other)).all(|(left, right)| left == right || left == any || right == any)
    }
}

/// Returns `path` without `.` and `..`, as far as its text tells.
#[must_use]
pub fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

fn environment(
    name: &str,
    written: &EnvironmentConfig,
    operator: Option<&str>,
    workspace: &Path,
    state_dir: &Path,
) -> anyhow::Result<Environment> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    ensure!(
        name.len() <= NAME_BYTES_MAX
            && name.bytes().next().is_some_and(plain)
            && name.bytes().all(|byte| plain(byte) || byte == b'-')
            // Prices know it as the word before an environment.
            && name != "rollback",
        "its name must be 1 to {NAME_BYTES_MAX} lower-case letters, digits and `-`, and not `rollback`"
    );
    let folder = match &written.path {
        Some(path) => {
            ensure!(!path.is_empty() && !path.contains('\0'), "`path` is empty or impossible");
            ServiceFolder::parse(&workspace.join(path), workspace)?
        }
        None => ServiceFolder::parse(&state_dir.join("environments").join(name).join(SERVICE_PLACEHOLDER), state_dir)?,
    };
    let keep = written.keep.unwrap_or(KEEP_DEFAULT);
    ensure!((2..=1000).contains(&keep), "`keep` must be 2 to 1000: the current release and the one before it stay");
    ensure!(
        written.bake_minutes == 0 || !written.requires.is_empty(),
        "`bake_minutes` has no meaning without `requires`"
    );
    ensure!(written.bake_minutes <= 525_600, "`bake_minutes` must be up to 525600");
    let is_production = is_production(name);
    let by_default = u32::from(is_production);
    let approvals = written.approvals.unwrap_or(by_default);
    ensure!(approvals <= APPROVALS_MAX, "`approvals` must be up to {APPROVALS_MAX}");
    let approvers = written.approvers.as_deref();
    ensure!(
        approvers.is_none_or(|path| !path.is_empty() && !path.contains('\0')),
        "`approvers` is empty or impossible"
    );
    ensure!(approvers.is_none() || approvals > 0, "`approvers` has no meaning while `approvals` is 0");
    let approval_minutes = written.approval_minutes.unwrap_or(APPROVAL_MINUTES_DEFAULT);
    ensure!((1..=43_200).contains(&approval_minutes), "`approval_minutes` must be 1 to 43200");
    ensure!(
        !written.forbid_self_approval || operator.is_some(),
        "`forbid_self_approval` needs `deploy.operator`, to know whose session it is"
    );
    let approve_by = ways(name, written, approvals, operator)?;
    let rules = ContentHash::builder("tollgate.rules.1")
        .field(name.as_bytes())
        .field(folder.path_text().as_bytes())
        .field(&approvals.to_be_bytes())
        .field(&serde_json::to_vec(written).context("cannot be written down")?)
        .finish();
    Ok(Environment {
        name: name.to_owned(),
        folder,
        requires: written.requires.clone(),
        bake_minutes: written.bake_minutes,
        versions: written
            .versions
            .iter()
            .map(|pattern| Ok(Glob::new(pattern)?.compile_matcher()))
            .collect::<anyhow::Result<_>>()
            .context("`versions`")?,
        branches: written
            .branches
            .iter()
            .map(|pattern| Ok(GlobBuilder::new(pattern).literal_separator(true).build()?.compile_matcher()))
            .collect::<anyhow::Result<_>>()
            .context("`branches`")?,
        verified: written.verified,
        freeze: written.freeze.iter().map(Window::new).collect::<anyhow::Result<_>>().context("`freeze`")?,
        approvals,
        approvers: approvers.map(|path| workspace.join(path)),
        approve_by,
        is_production,
        approval_minutes,
        barred_operator: operator.filter(|_| written.forbid_self_approval).map(str::to_owned),
        rules,
        effect: effect(written, workspace)?,
        shared: shared(written)?,
        health: written.health.as_ref().map(health).transpose().context("`health`")?,
        keep: usize::try_from(keep).unwrap_or(usize::MAX),
        secrets: Secrets::default(),
    })
}

/// Returns what the target does, with nothing configured that it would not use.
fn effect(written: &EnvironmentConfig, workspace: &Path) -> anyhow::Result<Effect> {
    use crate::config::TargetKind as Target;
    let target = written.target;
    for (key, given, of) in [
        ("commands", written.commands.is_some(), Target::Command),
        ("ssh", written.ssh.is_some(), Target::Ssh),
        ("compose", written.compose.is_some(), Target::DockerCompose),
        ("kubernetes", written.kubernetes.is_some(), Target::Kubernetes),
    ] {
        ensure!(given || target != of || of == Target::DockerCompose, "`{key}` is missing, which its target needs");
        ensure!(!given || target == of, "`{key}` has no meaning for another target");
    }
    let reload = written.reload.clone();
    ensure!(
        reload.is_none() || matches!(target, Target::ReleaseDirectory | Target::Ssh),
        "`reload` has a meaning only for `release-directory` and `ssh`"
    );
    let kind = match target {
        Target::ReleaseDirectory => effect::Kind::ReleaseDirectory { reload },
        Target::Command => effect::Kind::Command(Commands::new(written.commands.as_ref().context("`commands`")?)?),
        Target::Ssh => effect::Kind::Ssh(Host::new(written.ssh.as_ref().context("`ssh`")?, reload, workspace)?),
        Target::DockerCompose => effect::Kind::Compose(Compose::new(&written.compose.clone().unwrap_or_default())?),
        Target::Kubernetes => {
            effect::Kind::Kubernetes(Kubernetes::new(written.kubernetes.as_ref().context("`kubernetes`")?)?)
        }
    };
    let timeout_ms = written.command_timeout_ms.unwrap_or(COMMAND_TIMEOUT_MS_DEFAULT);
    ensure!((1..=3_600_000).contains(&timeout_ms), "`command_timeout_ms` must be 1 to 3600000");
    let variables = written.variables.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    Effect::new(kind, written.before.clone(), variables, Duration::from_millis(timeout_ms), rights(written, workspace)?)
}

/// Returns the names that lead to shared folders.
fn shared(written: &EnvironmentConfig) -> anyhow::Result<Vec<String>> {
    use crate::config::TargetKind as Target;
    let names = &written.shared;
    ensure!(
        names.is_empty() || matches!(written.target, Target::ReleaseDirectory | Target::Command),
        "`shared` has a meaning only for `release-directory` and `command`"
    );
    ensure!(names.len() <= SHARED_MAX, "`shared` has more than {SHARED_MAX} names");
    for name in names {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        ensure!(
            (1..=64).contains(&name.len()) && name.chars().all(plain) && !name.starts_with(['.', '-']),
            "`shared` has {}, which is not a plain name of a folder",
            shown(name)
        );
    }
    Ok(names.clone())
}

/// Returns what confined programs may reach.
fn rights(written: &EnvironmentConfig, workspace: &Path) -> anyhow::Result<Rights> {
    let sandbox = written.sandbox.unwrap_or_default();
    ensure!(
        sandbox == Setting::Auto || !(written.network || !written.readable.is_empty() || !written.writable.is_empty()),
        "`readable`, `writable` and `network` have no meaning with `sandbox = \"none\"`"
    );
    let paths = |key: &str, paths: &[String]| {
        let plain = |path: &String| !path.is_empty() && !path.contains('\0');
        ensure!(paths.iter().all(plain), "`{key}` has a path that is empty or impossible");
        Ok(paths.iter().map(|path| workspace.join(path)).collect::<Vec<_>>())
    };
    Ok(Rights {
        sandbox,
        readable: paths("readable", &written.readable)?,
        writable: paths("writable", &written.writable)?,
        network: written.network,
    })
}

/// Whether a name is one of production: forgetting a line must not open it.
fn is_production(name: &str) -> bool {
    name.split('-').any(|word| PRODUCTION.contains(&word))
}

/// Returns how people may approve in the environment `name`.
fn ways(name: &str, written: &EnvironmentConfig, approvals: u32, operator: Option<&str>) -> anyhow::Result<Ways> {
    let Some(listed) = &written.approve_by else {
        // A form is a convenience where little is at stake, and only where it can count.
        let elicitation = ASKED_BY_DEFAULT.contains(&name)
            && approvals > 0
            && !written.forbid_self_approval
            && (approvals == 1 || operator.is_some());
        return Ok(Ways { signature: true, elicitation });
    };
    let ways = Ways {
        signature: listed.contains(&ApproveBy::Signature),
        elicitation: listed.contains(&ApproveBy::Elicitation),
    };
    ensure!(approvals > 0, "`approve_by` has no meaning while `approvals` is 0");
    ensure!(ways.signature || ways.elicitation, "`approve_by` is empty: nobody could approve");
    ensure!(
        ways.signature || !is_production(name),
        "`approve_by` must have `signature` in production: a host can accept a form without any person"
    );
    ensure!(
        ways.signature || written.approvers.is_none(),
        "`approvers` has no meaning without `signature` in `approve_by`"
    );
    ensure!(
        !ways.elicitation || !written.forbid_self_approval,
        "`elicitation` asks the person whose session it is, whom `forbid_self_approval` bars"
    );
    ensure!(
        !ways.elicitation || approvals == 1 || operator.is_some(),
        "`elicitation` with several `approvals` needs `deploy.operator`, so that nobody counts twice"
    );
    ensure!(ways.signature || approvals == 1, "one person is at the host; several `approvals` need `signature`");
    Ok(ways)
}

fn health(written: &HealthConfig) -> anyhow::Result<Health> {
    let timeout = written.timeout_ms.unwrap_or(10_000);
    let count = written.count.unwrap_or(1);
    let interval = written.interval_ms.unwrap_or(1_000);
    ensure!((1..=300_000).contains(&timeout), "`timeout_ms` must be 1 to 300000");
    ensure!((1..=100).contains(&count), "`count` must be 1 to 100");
    ensure!(interval <= 60_000, "`interval_ms` must be up to 60000");
    let (timeout, interval) = (Duration::from_millis(timeout), Duration::from_millis(interval));
    ensure!(written.body.is_none() || written.http.is_some(), "`body` has no meaning without `http`");
    let probe = match (&written.command, &written.http, &written.tcp) {
        (Some(command), None, None) => Probe::command(command.clone()),
        (None, Some(address), None) => Probe::http(address.clone(), written.body.clone()),
        (None, None, Some(address)) => Probe::tcp(address.clone()),
        _ => bail!("give one of `command`, `http` and `tcp`"),
    }?;
    Ok(Health::new(probe, timeout, count, interval, written.before))
}

#[cfg(test)]
mod tests {
    use tollgate_shared::config::Settings;

    use super::*;

    fn parse(text: &str) -> anyhow::Result<Environments> {
        let text = format!("[deploy.environments]\n{text}");
        let variables = |_: &str| None;
        let settings =
            Settings::<DeployConfig>::parse("deploy", &text, Path::new("tollgate.toml"), "/work".into(), &variables)?;
        Environments::new(&settings.own, Path::new("/work"), Path::new("/work/.tollgate"))
    }

    #[test]
    fn without_configuration_production_needs_a_person() {
        let environments =
            Environments::new(&DeployConfig::default(), Path::new("/work"), Path::new("/work/.tollgate")).unwrap();
        let facts: Vec<_> =
            environments.iter().map(|e| (e.name.as_str(), e.requires.join(" "), e.approvals, e.keep)).collect();
        assert_eq!(
            facts,
            [("dev", String::new(), 0, 5), ("staging", "dev".into(), 0, 5), ("prod", "staging".into(), 1, 5)]
        );
        let service = ServiceName::parse("bookshop").unwrap();
        assert_eq!(
            environments.find("dev").unwrap().folder.path(&service),
            Path::new("/work/.tollgate/environments/dev/bookshop")
        );
    }

    #[test]
    fn environments_keep_the_order_of_the_file() {
        let environments = parse("zeta = {}\nalpha = { requires = ['zeta'] }\nprod = {}").unwrap();
        assert_eq!(environments.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["zeta", "alpha", "prod"]);
        assert_eq!(environments.find("prod").unwrap().approvals, 1, "forgetting the line does not open production");
        assert_eq!(parse("prod = { approvals = 0 }").unwrap().find("prod").unwrap().approvals, 0);
    }

    #[test]
    fn only_the_operator_s_part_of_a_path_may_have_links() {
        for (path, before) in [
            ("/srv/a/{service}/prod", "/srv/a"),
            ("/srv/../opt/{service}", "/opt"),
            ("out/dev/{service}", "/work"),
            ("/work/out/{service}", "/work"),
            ("./{service}", "/work"),
            ("../{service}", "/"),
            ("/workshop/{service}", "/workshop"),
        ] {
            let folder = ServiceFolder::parse(&Path::new("/work").join(path), Path::new("/work")).unwrap();
            assert_eq!(folder.before(), Path::new(before), "{path}");
        }
    }

    #[test]
    fn names_are_exact() {
        let environments = parse("dev = {}").unwrap();
        let long = "dev".repeat(1_000_000);
        for name in ["Dev", "DEV", "dev ", " dev", "dev\0", "dеv", "", ".", "dev/..", &long] {
            let refusal = environments.find(name).unwrap_err();
            assert_eq!(refusal.code, "unknown_environment");
            assert!(refusal.message.len() < 1000);
        }
    }

    #[test]
    fn configurations_that_cannot_be_relied_on_are_errors() {
        for text in [
            "Dev = {}",
            "'a/b' = {}",
            "'' = {}",
            "rollback = {}",
            "dev = { path = '/srv/shop' }",
            "dev = { path = '/srv/{service}/{service}' }",
            "dev = { path = '/srv/x{service}' }",
            "dev = { path = '/srv/{service}/../x' }",
            "dev = { path = '/srv/{servce}' }",
            "dev = { path = '' }",
            "dev = { path = '/srv/{service}' }\nprod = { path = '/srv/{service}' }",
            "dev = { path = '/srv/{service}' }\nprod = { path = '/srv/x/../{service}' }",
            "dev = { path = '/srv/{service}' }\nprod = { path = '/srv/prod/{service}' }",
            "dev = { path = '/srv/{service}' }\nprod = { path = '/srv/{service}/releases' }",
            "dev = { requires = ['dev'] }",
            "dev = { requires = ['prod'] }\nprod = {}",
            "dev = { keep = 1 }",
            "dev = { approvers = 'people' }",
            "prod = { approvers = '' }",
            "prod = { approvals = 21 }",
            "prod = { approval_minutes = 0 }",
            "prod = { approval_minutes = 43201 }",
            "prod = { forbid_self_approval = true }",
            "dev = { keep = 1001 }",
            "dev = { target = 'ftp' }",
            "dev = { bake_minutes = 5 }",
            "dev = { versions = ['[1'] }",
            "dev = { freeze = [{}] }",
            "dev = { freeze = [{ from = '2026-12-20' }] }",
            "dev = { freeze = [{ from = '2026-12-20', to = '2026-12-19' }] }",
            "dev = { freeze = [{ from = '2026-02-30', to = '2026-12-19' }] }",
            "dev = { freeze = [{ from = '2026-12-20', to = '2026-12-21', cron = '* * * * *' }] }",
            "dev = { freeze = [{ cron = '* * * *' }] }",
            "dev = { freeze = [{ cron = '60 * * * *' }] }",
            "dev = { freeze = [{ cron = '0 0 31 2 *', minutes = 0 }] }",
            "dev = { freeze = [{ cron = '* * * * *', zone = 'Europe/Atlantis' }] }",
            "dev = { health = {} }",
            "dev = { health = { command = [] } }",
            "dev = { health = { command = [''] } }",
            "dev = { health = { command = ['{relase}/x'] } }",
            "dev = { health = { command = ['x'], http = 'http://127.0.0.1/' } }",
            "dev = { health = { http = 'https://127.0.0.1/' } }",
            "dev = { health = { http = 'file:///etc/passwd' } }",
            "dev = { health = { http = 'http://user:secret@127.0.0.1/' } }",
            "dev = { health = { http = 'http://' } }",
            "dev = { health = { command = ['x'], timeout_ms = 0 } }",
            "dev = { health = { command = ['x'], count = 0 } }",
            "dev = { health = { command = ['x'], interval_ms = 60001 } }",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in [
            "dev = { path = '/srv/{service}/dev' }\nprod = { path = '/srv/{service}/prod' }",
            "dev = { path = 'out/{service}' }",
            "dev = { health = { command = ['{release}/x', '--for={service}', '{}', '{\"a\": 1}'] } }",
            "dev = { health = { http = 'http://127.0.0.1:8080/{service}/health', count = 3 } }",
            "dev = { target = 'release-directory' }",
            "dev = {}\nprod = { requires = ['dev'], bake_minutes = 30, versions = ['[0-9]*.[0-9]*'] }",
            "dev = { freeze = [{ cron = '0 16 * * 5', minutes = 3840, zone = 'Europe/Berlin' }] }",
            "dev = { freeze = [{ from = '2026-12-20', to = '2027-01-06T08:00' }] }",
            "prod = { approvals = 2, approvers = 'people', approval_minutes = 60 }",
        ] {
            parse(text).unwrap_or_else(|error| panic!("{text}: {error:#}"));
        }
    }
}
