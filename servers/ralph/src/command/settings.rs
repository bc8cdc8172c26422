//! `[ralph.commands.*]`: what the operator writes, and what follows from it.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parse::{Format, Parser};
use super::presets::{self, Preset};
use super::{Command, Inputs, Scope};
use crate::check::Check;
use crate::language::Language;

/// Where the paths of files go.
pub const PATH_PLACE: &str = "{path}";

/// Where the path of the workspace's copy goes.
pub const WORKSPACE_PLACE: &str = "{workspace}";

/// One command as the operator writes it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CommandSettings {
    /// A known tool, which fills in everything below that is left out
    pub preset: Option<String>,
    /// formatting, linting, type_checking or tests
    pub check: Option<Check>,
    /// Languages whose files it applies to
    pub languages: Vec<Language>,
    /// Program and arguments, without a shell; `{path}` stands for the files, `{workspace}` for the folder
    pub run: Vec<String>,
    /// Arguments that are added to those of the preset, before the files
    pub arguments: Vec<String>,
    /// The form of its output
    pub parse: Option<Format>,
    /// With `parse = "regex"`: groups path, line, column, rule, message, severity
    pub pattern: Option<String>,
    /// file, or project for a command that looks at everything
    pub scope: Option<Scope>,
    /// The command ends with 0 although it found something
    pub exits_zero_on_findings: bool,
    /// Longest that it may run, in milliseconds [default: 300000]
    #[schemars(range(min = 1, max = 3_600_000))]
    pub timeout_ms: Option<u64>,
    /// Most memory that it may use, in MiB [default: 2048]
    #[schemars(range(min = 16, max = 1_048_576))]
    pub memory_mb: Option<u64>,
    /// Further environment variables
    pub environment: BTreeMap<String, String>,
}

impl CommandSettings {
    /// Turns what was written into a command.
    ///
    /// # Errors
    ///
    /// What is missing or contradicts itself.
    pub fn resolve(&self, name: &str) -> anyhow::Result<Command> {
        self.command(name).with_context(|| format!("`ralph.commands.{name}`"))
    }

    fn command(&self, name: &str) -> anyhow::Result<Command> {
        let preset = self.preset.as_deref().map(presets::find).transpose()?;
        let check = self.check.or(preset.map(|preset| preset.check)).context("`check` is missing")?;
        ensure!(check.is_command(), "`check` must be formatting, linting, type_checking or tests");
        let run = self.run(preset)?;
        let scope = self.scope.or(preset.map(|preset| preset.scope)).unwrap_or(Scope::File);
        let places = run.iter().filter(|argument| *argument == PATH_PLACE).count();
        match scope {
            Scope::File => ensure!(places == 1, "`run` must have one argument `{PATH_PLACE}`, for the files"),
            Scope::Project => ensure!(places == 0, "`run` of a project's command must not have `{PATH_PLACE}`"),
        }
        let inside = |argument: &&String| argument.contains(PATH_PLACE) && *argument != PATH_PLACE;
        if let Some(argument) = run.iter().find(inside) {
            bail!("`{argument}`: `{PATH_PLACE}` must be an argument of its own");
        }
        let languages = match (&self.languages[..], preset) {
            ([], Some(preset)) => preset.languages.to_vec(),
            ([], None) => bail!("`languages` is missing"),
            (languages, _) => languages.to_vec(),
        };
        Ok(Command {
            name: name.to_owned(),
            check,
            languages,
            run,
            parser: self.parser(preset)?,
            scope,
            inputs: preset.map_or(Inputs::Project, |preset| preset.inputs),
            exits_zero_on_findings: self.exits_zero_on_findings
                || preset.is_some_and(|preset| preset.exits_zero_on_findings),
            timeout_ms: self.timeout_ms.unwrap_or(5 * 60 * 1000),
            memory_bytes: self.memory_mb.unwrap_or(2048) << 20,
            environment: self.environment.clone(),
        })
    }

    fn run(&self, preset: Option<&Preset>) -> anyhow::Result<Vec<String>> {
        let mut run = match (&self.run[..], preset) {
            ([], Some(preset)) => preset.run.iter().map(|argument| (*argument).to_owned()).collect(),
            ([], None) => bail!("neither `run` nor `preset` says what to run"),
            (run, _) => run.to_vec(),
        };
        ensure!(run.iter().all(|argument| !argument.contains('\0')), "`run` has an impossible argument");
        if !self.arguments.is_empty() {
            // Before whatever ends the options.
            let end = run.iter().position(|argument| argument == "--" || argument == PATH_PLACE).unwrap_or(run.len());
            run.splice(end..end, self.arguments.iter().cloned());
        }
        Ok(run)
    }

    fn parser(&self, preset: Option<&Preset>) -> anyhow::Result<Parser> {
        match (self.parse, &self.pattern, preset) {
            (Some(Format::Regex) | None, Some(pattern), _) => Parser::regex(pattern),
            (Some(Format::Regex), None, _) => bail!("`parse = \"regex\"` needs a `pattern`"),
            (Some(_), Some(_), _) => bail!("`pattern` goes with `parse = \"regex\"` only"),
            (Some(format), None, _) => Ok(Parser::of(format)),
            (None, None, Some(preset)) => match preset.pattern {
                Some(pattern) => Parser::regex(pattern),
                None => Ok(Parser::of(preset.format)),
            },
            (None, None, None) => bail!("`parse` is missing: how is the output to be read?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<Command, String> {
        let settings: CommandSettings = toml::from_str(text).map_err(|error| error.to_string())?;
        settings.resolve("x").map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn preset_needs_only_its_name() {
        for preset in presets::ALL {
            let command = resolve(&format!("preset = \"{}\"", preset.name)).unwrap();
            assert_eq!((command.check, command.scope), (preset.check, preset.scope), "{}", preset.name);
        }
        assert!(resolve("preset = \"rufff\"").unwrap_err().contains("did you mean `ruff`"));
    }

    #[test]
    fn contradictions_are_refused() {
        for (text, reason) in [
            ("", "`check` is missing"),
            ("check = \"syntax\"\nrun = [\"x\", \"{path}\"]", "must be formatting"),
            ("check = \"linting\"\nlanguages = [\"python\"]\nparse = \"sarif\"", "what to run"),
            ("check = \"linting\"\nlanguages = [\"python\"]\nparse = \"sarif\"\nrun = [\"x\"]", "one argument"),
            ("check = \"linting\"\nrun = [\"x\", \"{path}\"]\nparse = \"sarif\"", "`languages` is missing"),
            ("check = \"linting\"\nlanguages = [\"python\"]\nrun = [\"x\", \"{path}\"]", "`parse` is missing"),
            ("preset = \"ruff\"\nrun = [\"ruff\", \"--file={path}\", \"{path}\"]", "argument of its own"),
            ("preset = \"ruff\"\nparse = \"regex\"", "needs a `pattern`"),
            ("preset = \"ruff\"\npattern = \"(\"", "pattern"),
            ("preset = \"cargo-test\"\nscope = \"file\"", "one argument"),
        ] {
            let error = resolve(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn arguments_come_before_the_files_and_files_are_no_options() {
        let command = resolve("preset = \"ruff\"\narguments = [\"--isolated\"]").unwrap();
        let arguments = command.arguments(&["--config=evil.py".to_owned(), "-".to_owned()], "/w");
        let end = arguments.iter().position(|argument| argument == "--").unwrap();
        assert_eq!(&arguments[end + 1..], ["./--config=evil.py", "./-"]);
        assert!(arguments[..end].contains(&"--isolated".to_owned()));
    }
}
