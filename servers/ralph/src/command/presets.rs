//! Tools that need only a name: how each is run, and how its output is read.

use anyhow::bail;

use super::parse::Format;
use super::{Inputs, Scope};
use crate::check::Check;
use crate::language::Language;

/// A known tool.
#[derive(Debug)]
pub struct Preset {
    /// As the operator writes it.
    pub name: &'static str,
    pub(super) check: Check,
    pub(super) languages: &'static [Language],
    pub(super) run: &'static [&'static str],
    pub(super) format: Format,
    /// With [`Format::Regex`].
    pub(super) pattern: Option<&'static str>,
    pub(super) scope: Scope,
    pub(super) inputs: Inputs,
    pub(super) exits_zero_on_findings: bool,
}

const PYTHON: &[Language] = &[Language::Python];
const RUST: &[Language] = &[Language::Rust];
const GO: &[Language] = &[Language::Go];
const SCRIPT: &[Language] = &[Language::JavaScript, Language::TypeScript, Language::Tsx];
const WEB: &[Language] = &[
    Language::JavaScript,
    Language::TypeScript,
    Language::Tsx,
    Language::Json,
    Language::Css,
    Language::Html,
    Language::Yaml,
];
const TYPESCRIPT: &[Language] = &[Language::TypeScript, Language::Tsx];

/// Lines that are nothing but a path.
const PATHS: &str = r"^(?P<path>\S.*)$";

/// `path:line:column: message`, and without a column.
const LINES: &str = r"^(?:vet: )?(?P<path>[^\s:#][^:]*):(?P<line>\d+):(?:(?P<column>\d+):)? (?P<message>.+)$";

const LINT: Preset = Preset {
    name: "",
    check: Check::Linting,
    languages: &[],
    run: &[],
    format: Format::Regex,
    pattern: None,
    scope: Scope::File,
    inputs: Inputs::Project,
    exits_zero_on_findings: false,
};

/// Every preset.
pub const ALL: &[Preset] = &[
    Preset {
        name: "ruff",
        languages: PYTHON,
        run: &["ruff", "check", "--no-cache", "--no-fix", "--no-force-exclude", "--output-format=json", "--", "{path}"],
        format: Format::Ruff,
        inputs: Inputs::Named(&["pyproject.toml", "ruff.toml", ".ruff.toml", "__init__.py"]),
        ..LINT
    },
    Preset {
        name: "black",
        check: Check::Formatting,
        languages: PYTHON,
        run: &["black", "--check", "--no-color", "--no-cache", "--force-exclude=$^", "--", "{path}"],
        pattern: Some(r"^would reformat (?P<path>.+)$"),
        inputs: Inputs::Named(&["pyproject.toml"]),
        ..LINT
    },
    Preset {
        name: "mypy",
        check: Check::TypeChecking,
        languages: PYTHON,
        run: &["mypy", "--output=json", "--no-error-summary", "--cache-dir=/dev/null", "--", "{path}"],
        format: Format::Mypy,
        ..LINT
    },
    Preset {
        name: "pyright",
        check: Check::TypeChecking,
        languages: PYTHON,
        run: &["pyright", "--outputjson", "{path}"],
        format: Format::Pyright,
        ..LINT
    },
    Preset {
        name: "pytest",
        check: Check::Tests,
        languages: PYTHON,
        run: &["pytest", "-rfE", "--tb=line", "--color=no", "-p", "no:cacheprovider"],
        format: Format::Pytest,
        scope: Scope::Project,
        ..LINT
    },
    Preset {
        name: "eslint",
        languages: SCRIPT,
        run: &["eslint", "--format=json", "--no-color", "--no-warn-ignored", "--", "{path}"],
        format: Format::Eslint,
        ..LINT
    },
    Preset {
        name: "prettier",
        check: Check::Formatting,
        languages: WEB,
        run: &["prettier", "--list-different", "--no-color", "--ignore-path=/dev/null", "--", "{path}"],
        pattern: Some(PATHS),
        ..LINT
    },
    Preset {
        name: "biome",
        languages: SCRIPT,
        run: &["biome", "check", "--reporter=github", "--colors=off", "--max-diagnostics=none", "{path}"],
        format: Format::Github,
        ..LINT
    },
    Preset {
        name: "tsc",
        check: Check::TypeChecking,
        languages: TYPESCRIPT,
        run: &["tsc", "--noEmit", "--pretty", "false", "--incremental", "false"],
        pattern: Some(
            r"^(?P<path>[^\s(][^(]*)\((?P<line>\d+),(?P<column>\d+)\): (?P<severity>error|warning) (?P<rule>TS\d+): (?P<message>.+)$",
        ),
        scope: Scope::Project,
        ..LINT
    },
    Preset {
        name: "vitest",
        check: Check::Tests,
        languages: SCRIPT,
        run: &["vitest", "run", "--reporter=json", "--no-color", "--passWithNoTests=false"],
        format: Format::Jest,
        scope: Scope::Project,
        ..LINT
    },
    Preset {
        name: "jest",
        check: Check::Tests,
        languages: SCRIPT,
        run: &["jest", "--json", "--ci", "--no-cache"],
        format: Format::Jest,
        scope: Scope::Project,
        ..LINT
    },
    Preset {
        name: "clippy",
        languages: RUST,
        run: &[
            "cargo",
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--message-format=json",
            "--",
            "-D",
            "warnings",
        ],
        format: Format::Cargo,
        scope: Scope::Project,
        ..LINT
    },
    Preset {
        name: "rustfmt",
        check: Check::Formatting,
        languages: RUST,
        run: &["cargo", "fmt", "--all", "--", "--check", "-l"],
        pattern: Some(PATHS),
        scope: Scope::Project,
        ..LINT
    },
    Preset {
        name: "cargo-test",
        check: Check::Tests,
        languages: RUST,
        run: &["cargo", "test", "--workspace", "--no-fail-fast", "--message-format=json"],
        format: Format::CargoTest,
        scope: Scope::Project,
        ..LINT
    },
    Preset {
        name: "gofmt",
        check: Check::Formatting,
        languages: GO,
        run: &["gofmt", "-l", "{path}"],
        pattern: Some(PATHS),
        inputs: Inputs::Named(&["go.mod"]),
        exits_zero_on_findings: true,
        ..LINT
    },
    Preset {
        name: "go-vet",
        languages: GO,
        run: &["go", "vet", "./..."],
        pattern: Some(LINES),
        scope: Scope::Project,
        ..LINT
    },
    Preset {
        name: "go-test",
        check: Check::Tests,
        languages: GO,
        run: &["go", "test", "-json", "-count=1", "./..."],
        format: Format::GoTest,
        scope: Scope::Project,
        ..LINT
    },
    Preset {
        name: "shellcheck",
        languages: &[Language::Bash],
        run: &["shellcheck", "--norc", "--color=never", "--format=json1", "--", "{path}"],
        format: Format::Shellcheck,
        inputs: Inputs::Named(&[]),
        ..LINT
    },
];

/// Finds a preset by its name.
pub(super) fn find(name: &str) -> anyhow::Result<&'static Preset> {
    if let Some(preset) = ALL.iter().find(|preset| preset.name == name) {
        return Ok(preset);
    }
    let nearest = tollgate_shared::config::nearest(name, ALL.iter().map(|preset| preset.name));
    bail!("there is no preset `{name}`{}", tollgate_shared::config::did_you_mean(nearest));
}
