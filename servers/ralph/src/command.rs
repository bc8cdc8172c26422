//! The operator's own commands: formatters, linters, type checkers, tests; run confined, on a copy.
//!
//! What runs is what was hashed: a command sees a [copy](copy) of the workspace that is made for it, so that nothing
//! can change between the look and the verdict. What it prints is [read](parse) into findings; what cannot be read, or
//! contradicts the exit code, is inconclusive.

pub mod change;
pub mod copy;
pub mod files;
mod group;
pub mod parse;
pub mod presets;
pub mod run;
pub mod settings;
pub mod verdict;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_shared::content_hash::ContentHash;

use crate::check::Check;
use crate::language::Language;
use parse::Parser;

/// What a command looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The files it is given; run by every verification of one.
    File,
    /// The whole project; run when its check is named.
    Project,
}

/// What the result for one file depends on, beside the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// Files of these names, anywhere in the project.
    Named(&'static [&'static str]),
    /// Any file of the project.
    Project,
}

/// One command, as it may be relied on.
#[derive(Clone, Debug)]
pub struct Command {
    /// Its name in the configuration.
    pub name: String,
    /// The check that it is a part of.
    pub check: Check,
    /// Languages whose files it applies to.
    pub languages: Vec<Language>,
    /// Program and arguments, with places for paths.
    pub run: Vec<String>,
    /// How its output is read.
    pub parser: Parser,
    /// What it looks at.
    pub scope: Scope,
    /// What its results depend on.
    pub inputs: Inputs,
    /// Whether it ends with 0 although it found something.
    pub exits_zero_on_findings: bool,
    /// Longest that it may run, in milliseconds.
    pub timeout_ms: u64,
    /// Most memory that it may use.
    pub memory_bytes: u64,
    /// Further variables.
    pub environment: BTreeMap<String, String>,
}

impl Command {
    /// Returns whether the program lies in the workspace, where an agent can change it.
    #[must_use]
    pub fn is_of_workspace(&self) -> bool {
        self.run.first().is_some_and(|program| {
            program.contains("{workspace}") || !program.starts_with('/') && program.contains('/')
        })
    }

    /// Returns the arguments with `paths` and `workspace` in their places.
    #[must_use]
    pub fn arguments(&self, paths: &[String], workspace: &str) -> Vec<String> {
        let rest = self.run.iter().skip(1);
        rest.flat_map(|argument| {
            if argument == settings::PATH_PLACE {
                // A path that begins like an option is none.
                paths.iter().map(|path| format!("./{path}")).collect()
            } else {
                vec![argument.replace(settings::WORKSPACE_PLACE, workspace)]
            }
        })
        .collect()
    }

    /// Returns the hash of everything about the command that its results depend on, with the tool's own `identity`.
    #[must_use]
    pub fn digest(&self, identity: &str) -> ContentHash {
        let mut builder = ContentHash::builder("ralph.command")
            .field(identity.as_bytes())
            .field(self.name.as_bytes())
            .field(self.check.name().as_bytes())
            .field(self.parser.identity().as_bytes())
            .field(format!("{:?} {}", self.scope, self.exits_zero_on_findings).as_bytes())
            .field(&(self.run.len() as u64).to_be_bytes());
        for argument in &self.run {
            builder = builder.field(argument.as_bytes());
        }
        for (name, value) in &self.environment {
            builder = builder.field(name.as_bytes()).field(value.as_bytes());
        }
        builder.finish()
    }
}
