//! Which tools a host sees, and when it has to search for them.

use std::collections::BTreeMap;

use anyhow::Context;
use globset::{Glob, GlobSet, GlobSetBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::config::{did_you_mean, nearest};

/// The table `[gateway]`: what `orchestrator serve` shows to its host.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// Tools that are shown, as names with `*`: `git__*`; all when left out.
    pub allow: Vec<String>,
    /// Tools that are not shown and cannot be called, whatever `allow` says.
    pub deny: Vec<String>,
    /// With more tokens of definitions than this, the host gets two small tools that search and call instead of all.
    pub search_above_tokens: usize,
    /// Further limits by role: `--profile`, else the profile named by `TOLLGATE_ROLE`, applies on top.
    pub profiles: BTreeMap<String, Profile>,
}

/// One table `[gateway.profiles.<role>]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// Tools that are shown, of those that `gateway.allow` shows; all of them when left out.
    pub allow: Vec<String>,
    /// Tools that are not shown and cannot be called.
    pub deny: Vec<String>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self { allow: Vec::new(), deny: Vec::new(), search_above_tokens: 25_000, profiles: BTreeMap::new() }
    }
}

/// Which tools may be seen and called.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Vec<(Option<GlobSet>, GlobSet)>,
    /// See [`GatewayConfig::search_above_tokens`].
    pub search_above_tokens: usize,
}

impl Policy {
    /// Puts together what applies to a host in the role `role`; `chosen` names a profile that must exist.
    ///
    /// # Errors
    ///
    /// A sentence that names the pattern or the profile.
    pub fn new(config: &GatewayConfig, chosen: Option<&str>, role: Option<&str>) -> anyhow::Result<Self> {
        let mut rules = vec![rule(&config.allow, &config.deny)?];
        let profile = match chosen {
            Some(name) => {
                let known = nearest(name, config.profiles.keys().map(String::as_str));
                let profile = config.profiles.get(name);
                Some(profile.with_context(|| format!("there is no [gateway.profiles.{name}]{}", did_you_mean(known)))?)
            }
            None => role.and_then(|role| config.profiles.get(role)),
        };
        if let Some(profile) = profile {
            rules.push(rule(&profile.allow, &profile.deny)?);
        }
        Ok(Self { rules, search_above_tokens: config.search_above_tokens })
    }

    /// Whether the tool of this name in the catalogue may be seen and called.
    #[must_use]
    pub fn permits(&self, name: &str) -> bool {
        self.rules
            .iter()
            .all(|(allow, deny)| allow.as_ref().is_none_or(|allow| allow.is_match(name)) && !deny.is_match(name))
    }
}

fn rule(allow: &[String], deny: &[String]) -> anyhow::Result<(Option<GlobSet>, GlobSet)> {
    Ok((if allow.is_empty() { None } else { Some(set(allow)?) }, set(deny)?))
}

fn set(patterns: &[String]) -> anyhow::Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).with_context(|| format!("gateway: `{pattern}` is not a pattern"))?);
    }
    set.build().context("gateway: the patterns are too large")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> GatewayConfig {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        GatewayConfig {
            allow: texts(&["git__*", "ralph__*"]),
            deny: texts(&["git__git_push"]),
            profiles: BTreeMap::from([(
                "reviewer".to_owned(),
                Profile { allow: texts(&["*__git_log", "deploy__*", "git__git_push"]), deny: texts(&["ralph__*"]) },
            )]),
            ..GatewayConfig::default()
        }
    }

    #[test]
    fn deny_is_louder_than_allow_and_a_profile_only_takes_away() {
        let all = Policy::new(&config(), None, Some("bugfix")).unwrap();
        assert!(all.permits("git__git_log") && all.permits("ralph__verify_file"));
        assert!(!all.permits("git__git_push") && !all.permits("deploy__deploy"));
        for (chosen, role) in [(Some("reviewer"), None), (None, Some("reviewer"))] {
            let reviewer = Policy::new(&config(), chosen, role).unwrap();
            assert!(reviewer.permits("git__git_log"));
            for name in ["git__git_push", "deploy__deploy", "ralph__verify_file", "git__git_commit"] {
                assert!(!reviewer.permits(name), "{name}");
            }
        }
        let error = Policy::new(&config(), Some("reviewr"), None).unwrap_err().to_string();
        assert!(error.contains("reviewer"), "{error}");
        assert!(Policy::new(&GatewayConfig { deny: vec!["[".into()], ..config() }, None, None).is_err());
    }
}
