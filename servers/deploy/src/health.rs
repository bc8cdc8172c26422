//! How a release is found to be healthy.

pub mod command;
pub mod http;
pub mod tcp;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use ureq::http::Uri;

use crate::environment::SERVICE_PLACEHOLDER;
use crate::names::ServiceName;

/// What stands for the release's folder in a command.
const RELEASE_PLACEHOLDER: &str = "{release}";

/// The check of one environment.
#[derive(Clone, Debug)]
pub struct Health {
    probe: Probe,
    timeout: Duration,
    count: u32,
    interval: Duration,
    before: bool,
}

/// What one check does.
#[derive(Clone, Debug)]
pub enum Probe {
    /// Runs a program.
    Command(Vec<String>),
    /// Asks for a page.
    Http {
        /// Where.
        address: String,
        /// What the answer must contain.
        body: Option<String>,
    },
    /// Opens a connection.
    Tcp(String),
}

/// What one check, or a row of them, found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the release is healthy.
    pub healthy: bool,
    /// What was found, one sentence.
    pub reason: String,
    /// The end of what the check printed.
    pub output: String,
}

impl Probe {
    /// Checks with a command.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn command(command: Vec<String>) -> anyhow::Result<Self> {
        ensure!(command.first().is_some_and(|program| !program.is_empty()), "`command` names no program");
        for part in &command {
            ensure!(!part.contains('\0'), "`command` has a NUL");
            if let Some(unknown) =
                placeholders(part).find(|name| !matches!(*name, SERVICE_PLACEHOLDER | RELEASE_PLACEHOLDER))
            {
                anyhow::bail!(
                    "`command` has the unknown placeholder `{unknown}`; known are `{{release}}`, `{{service}}`"
                );
            }
        }
        Ok(Self::Command(command))
    }

    /// Checks over HTTP.
    ///
    /// # Errors
    ///
    /// What is wrong with the address or the text.
    pub fn http(address: String, body: Option<String>) -> anyhow::Result<Self> {
        let uri: Uri = address.replace(SERVICE_PLACEHOLDER, "service").parse().context("`http` is not an address")?;
        ensure!(uri.scheme_str() == Some("http"), "`http` must begin with `http://`");
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        ensure!(!authority.is_empty() && !authority.contains('@'), "`http` must have a host and no user name");
        ensure!(body.as_deref() != Some(""), "`body` is empty: every answer contains it");
        Ok(Self::Http { address, body })
    }

    /// Checks by a connection.
    ///
    /// # Errors
    ///
    /// What is wrong with the address.
    pub fn tcp(address: String) -> anyhow::Result<Self> {
        let (host, port) = address.rsplit_once(':').context("`tcp` must be a host and a port")?;
        ensure!(!host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0), "`tcp` must be a host and a port");
        Ok(Self::Tcp(address))
    }
}

impl Health {
    /// Checks with `probe`: `count` times in a row, `interval` apart, for up to `timeout` each; with `before` also what
    /// is current before a new release takes its place.
    #[must_use]
    pub fn new(probe: Probe, timeout: Duration, count: u32, interval: Duration, before: bool) -> Self {
        Self { probe, timeout, count, interval, before }
    }

    /// Whether what is current must be healthy before a new release takes its place.
    #[must_use]
    pub fn is_asked_before(&self) -> bool {
        self.before
    }

    /// Returns how it checks: `command`, `http` or `tcp`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.probe {
            Probe::Command(_) => "command",
            Probe::Http { .. } => "http",
            Probe::Tcp(_) => "tcp",
        }
    }

    /// Checks the release in `folder` of `service` until one check fails or enough have passed; blocks.
    #[must_use]
    pub fn check(&self, service: &ServiceName, folder: &Path) -> Finding {
        let mut finding = self.check_once(service, folder);
        for _ in 1..self.count {
            if !finding.healthy {
                break;
            }
            std::thread::sleep(self.interval);
            finding = self.check_once(service, folder);
        }
        finding
    }

    /// Returns the check in words, with everything that decides about it.
    #[must_use]
    pub fn describe(&self) -> String {
        let probe = match &self.probe {
            Probe::Command(command) => format!("by the command {command:?}"),
            Probe::Http { address, body: None } => format!("at {address}"),
            Probe::Http { address, body: Some(body) } => format!("at {address}, whose answer contains {body:?}"),
            Probe::Tcp(address) => format!("by a connection to {address}"),
        };
        let (timeout, interval) = (self.timeout.as_millis(), self.interval.as_millis());
        format!("{probe} ({} in a row, {timeout} ms each, {interval} ms apart)", self.count)
    }

    fn check_once(&self, service: &ServiceName, folder: &Path) -> Finding {
        match &self.probe {
            Probe::Command(command) => {
                let release = folder.to_string_lossy();
                let command: Vec<String> = command
                    .iter()
                    // The service first: its name has no braces, the folder's path may have any.
                    .map(|part| {
                        part.replace(SERVICE_PLACEHOLDER, service.as_str()).replace(RELEASE_PLACEHOLDER, &release)
                    })
                    .collect();
                command::run(&command, folder, self.timeout)
            }
            Probe::Http { address, body } => {
                http::get(&address.replace(SERVICE_PLACEHOLDER, service.as_str()), body.as_deref(), self.timeout)
            }
            Probe::Tcp(address) => tcp::connect(&address.replace(SERVICE_PLACEHOLDER, service.as_str()), self.timeout),
        }
    }
}

/// Returns every `{word}` of `text`.
pub(crate) fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices('{').filter_map(move |(start, _)| {
        let end = start + text[start..].find('}')?;
        let name = &text[start + 1..end];
        let is_word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        is_word.then(|| &text[start..=end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_words_in_braces() {
        let all: Vec<_> = placeholders("{release}/a{b}{}{ c}{\"d\": 1}{E}{{f}").collect();
        assert_eq!(all, ["{release}", "{b}", "{f}"]);
    }
}
