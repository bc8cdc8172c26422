//! Which files set what checkers demand, and which names are none of theirs.

use super::Change;

/// Names of what is generated or foreign: leaving it out loosens nothing.
const FOREIGN: &[&str] = &[
    "node_modules",
    "dist",
    "build",
    "venv",
    "vendor",
    "third_party",
    "generated",
    "coverage",
    "target",
    "__pycache__",
    ".git",
    ".tox",
    "_pb2",
    ".pb.",
    ".min.",
    "site-packages",
    ".eggs",
    ".cache",
    ".next",
    "out/",
    "migrations",
    "__snapshots__",
    "fixtures",
    "storybook-static",
    "if TYPE_CHECKING",
    "if __name__",
    "raise NotImplementedError",
    "@overload",
    "@abstractmethod",
    "@abc.abstractmethod",
    "pragma: no cover",
    "def __repr__",
    "assert_never",
    "\\.\\.\\.",
];

/// Returns whether `item` names what is generated or foreign.
#[must_use]
pub fn is_foreign(item: &str) -> bool {
    FOREIGN.iter().any(|word| item.contains(word))
}

/// Returns whether `path` sets what a checker demands.
pub(super) fn is_configuration(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    matches!(
        name,
        "pyproject.toml"
            | "setup.cfg"
            | "tox.ini"
            | ".coveragerc"
            | "pytest.ini"
            | ".pytest.ini"
            | "mypy.ini"
            | ".mypy.ini"
            | ".flake8"
            | ".pylintrc"
            | "pylintrc"
            | "ruff.toml"
            | ".ruff.toml"
            | "pyrightconfig.json"
            | "package.json"
            | "biome.json"
            | "biome.jsonc"
            | ".nycrc"
            | ".nycrc.json"
            | ".c8rc.json"
            | ".eslintrc"
            | "Cargo.toml"
            | "clippy.toml"
            | ".clippy.toml"
            | "rustfmt.toml"
            | ".rustfmt.toml"
            | "deny.toml"
            | "codecov.yml"
            | ".codecov.yml"
            | "codecov.yaml"
            | ".rubocop.yml"
            | "phpstan.neon"
            | "phpstan.neon.dist"
            | "sonar-project.properties"
            | ".pre-commit-config.yaml"
            | ".bandit"
            | "bandit.yaml"
            | ".yamllint"
            | ".oxlintrc.json"
            | ".swiftlint.yml"
            | "detekt.yml"
            | ".stylelintrc"
            | ".stylelintrc.json"
            | "deno.json"
            | "deno.jsonc"
            | "nextest.toml"
    ) || [
        ".golangci.",
        "tsconfig",
        ".eslintrc.",
        "eslint.config.",
        "jest.config.",
        "vitest.config.",
        "vite.config.",
        "karma.conf.",
        "playwright.config.",
        "cypress.config.",
        ".mocharc",
    ]
    .iter()
    .any(|start| name.starts_with(start))
        || path.ends_with(".cargo/config.toml")
}

/// Returns whether a new configuration stands beside others of its kind, which it may override.
pub(super) fn has_relative(change: &Change, path: &str) -> bool {
    const PYTHON: &[&str] = &[
        "pyproject.toml",
        "setup.cfg",
        "tox.ini",
        ".coveragerc",
        "pytest.ini",
        "mypy.ini",
        ".flake8",
        ".pylintrc",
        "ruff.toml",
        ".ruff.toml",
    ];
    let name = path.rsplit('/').next().unwrap_or(path);
    let others = |wanted: &dyn Fn(&str) -> bool| {
        change.kept.iter().any(|kept| {
            kept != path
                && wanted(kept.rsplit('/').next().unwrap_or(kept))
                && !change.files.iter().any(|file| file.path == *kept && file.before.is_none())
        })
    };
    if PYTHON.contains(&name) && name != "pyproject.toml" {
        return others(&|other| PYTHON.contains(&other));
    }
    if name.starts_with(".eslintrc") || name.starts_with("eslint.config") {
        return others(&|other| other.starts_with(".eslintrc") || other.starts_with("eslint.config"));
    }
    matches!(name, "clippy.toml" | ".clippy.toml")
}
