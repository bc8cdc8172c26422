//! What checkers are set to demand: thresholds, strictness, what they look at.

use std::collections::BTreeSet;

use super::ci;
use super::values::{self, Settings};
use super::{Change, ChangeRule, FileChange, Findings, rule};
use crate::check::guardrail::Severity::{Error, Warning};

const LOWERED: ChangeRule = rule("threshold_lowered", Error, "keep the threshold, and test more");
const LOOSENED: ChangeRule =
    rule("configuration_loosened", Error, "keep the setting, and correct what the checker reports");
const EXCLUDED: ChangeRule = rule("checks_narrowed", Error, "let the checker look at all that it looked at");
const UNSURE: ChangeRule = rule("configuration_unreadable", Warning, "write it so that it can be read");
const BASELINE: ChangeRule = rule("baseline_grown", Error, "correct what the checker reports instead of recording it");

/// Which way a setting gets looser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loosens {
    /// When it gets smaller, or is left out.
    Down,
    /// When it gets larger.
    Up,
    /// When it is no longer true.
    Off,
    /// When it becomes true.
    On,
    /// When it gets more items.
    Longer,
    /// When it loses items.
    Shorter,
    /// When its level falls.
    Level,
    /// When its words leave something out.
    Words,
}

use Loosens::{Down, Level, Longer, Off, On, Shorter, Up, Words};

/// By the last part of the path; `*` stands for the rest of a word.
const KEYS: &[(&str, Loosens)] = &[
    ("fail_under", Down),
    ("fail-under", Down),
    ("fail_under_*", Down),
    ("minimum_coverage", Down),
    ("min_coverage", Down),
    ("minimum", Down),
    ("statements", Down),
    ("branches", Down),
    ("functions", Down),
    ("lines", Down),
    ("target", Down),
    ("minmsi", Down),
    ("mincoveredmsi", Down),
    ("level", Down),
    ("max-complexity", Up),
    ("max_complexity", Up),
    ("max-args", Up),
    ("max-branches", Up),
    ("max-statements", Up),
    ("max-locals", Up),
    ("max-returns", Up),
    ("max-warnings", Up),
    ("cognitive-complexity-threshold", Up),
    ("too-many-arguments-threshold", Up),
    ("too-many-lines-threshold", Up),
    ("type-complexity-threshold", Up),
    ("max-nested-blocks", Up),
    ("max-lines-per-function", Up),
    ("min-complexity", Up),
    ("threshold", Up),
    ("strict", Off),
    ("warn_*", Off),
    ("disallow_*", Off),
    ("check_untyped_defs", Off),
    ("no_implicit_*", Off),
    ("strict_*", Off),
    ("extra_checks", Off),
    ("noimplicit*", Off),
    ("strict*", Off),
    ("nounused*", Off),
    ("nofallthrough*", Off),
    ("nounchecked*", Off),
    ("nopropertyaccess*", Off),
    ("exactoptional*", Off),
    ("useunknownincatchvariables", Off),
    ("alwaysstrict", Off),
    ("branch", Off),
    ("xfail_strict", Off),
    ("noemitonerror", Off),
    ("forceconsistentcasinginfilenames", Off),
    ("fail_ci_if_error", Off),
    ("failonviolation", Off),
    ("failonerror", Off),
    ("check-coverage", Off),
    ("forbidonly", Off),
    ("reportunuseddisabledirectives", Off),
    ("require_ci_to_pass", Off),
    ("enabled", Off),
    ("doctest", Off),
    ("autotests", Off),
    ("harness", Off),
    ("test", Off),
    ("ignore_errors", On),
    ("ignore_missing_imports", On),
    ("allow_untyped*", On),
    ("allow_redefinition", On),
    ("allow_any*", On),
    ("allow_subclassing_any", On),
    ("implicit_reexport", On),
    ("implicit_optional", On),
    ("skiplibcheck", On),
    ("allowunreachablecode", On),
    ("allowunusedlabels", On),
    ("suppress*errors", On),
    ("passwithnotests", On),
    ("informational", On),
    ("ignorefailures", On),
    ("testfailureignore", On),
    ("skiptests", On),
    ("disable_all_formatting", On),
    ("disable-all", On),
    ("disableall", On),
    ("ignore_outcome", On),
    ("allow-unwrap-in-tests", On),
    ("exit-zero", On),
    ("exit_zero", On),
    ("noinlineconfig", Off),
    ("preview_off", On),
    ("omit", Longer),
    ("exclude", Longer),
    ("exclude_lines", Longer),
    ("exclude_also", Longer),
    ("partial_branches", Longer),
    ("ignore", Longer),
    ("extend-ignore", Longer),
    ("extend_ignore", Longer),
    ("per-file-ignores", Longer),
    ("per_file_ignores", Longer),
    ("extend-exclude", Longer),
    ("extend_exclude", Longer),
    ("extend-per-file-ignores", Longer),
    ("disable", Longer),
    ("disable_error_code", Longer),
    ("disabled", Longer),
    ("disabled_checks", Longer),
    ("ignorepatterns", Longer),
    ("ignores", Longer),
    ("coveragepathignorepatterns", Longer),
    ("testpathignorepatterns", Longer),
    ("testignore", Longer),
    ("norecursedirs", Longer),
    ("skips", Longer),
    ("exclude_dirs", Longer),
    ("ignoreerrors", Longer),
    ("skip-dirs", Longer),
    ("skip-files", Longer),
    ("exclude-dirs", Longer),
    ("exclude-files", Longer),
    ("exclude-rules", Longer),
    ("excludes", Longer),
    ("ignored-modules", Longer),
    ("ignore-paths", Longer),
    ("ignore-patterns", Longer),
    ("sonar.exclusions", Longer),
    ("sonar.coverage.exclusions", Longer),
    ("sonar.test.exclusions", Longer),
    ("collect_ignore", Longer),
    ("allowlist", Longer),
    ("excludepaths", Longer),
    ("ignore_patterns", Longer),
    ("exclusions", Longer),
    ("paths-ignore", Longer),
    ("select", Shorter),
    ("extend-select", Shorter),
    ("extend_select", Shorter),
    ("enable", Shorter),
    ("enable_error_code", Shorter),
    ("testpaths", Shorter),
    ("python_files", Shorter),
    ("python_functions", Shorter),
    ("python_classes", Shorter),
    ("testmatch", Shorter),
    ("collectcoveragefrom", Shorter),
    ("source", Shorter),
    ("include", Shorter),
    ("typecheckingmode", Level),
    ("follow_imports", Level),
    ("addopts", Words),
    ("rustflags", Words),
    ("filterwarnings", Words),
    ("disable_checks", Longer),
];

/// Parts of a path below which each value is a level of a rule.
const LEVELS_BELOW: &[&str] = &["rules", "lints", "linter.rules", "clippy", "rust", "rustdoc", "severity"];

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

/// Looks for settings that demand less than before.
pub fn check(change: &Change, findings: &mut Findings) {
    let configurations: Vec<&FileChange> = change
        .files
        .iter()
        .filter(|file| is_configuration(file.before_path()) || is_configuration(&file.path))
        .collect();
    // What was moved to another file is still set.
    let now: Vec<Settings> = configurations
        .iter()
        .filter_map(|file| Some(Settings::of(&values::read(&file.path, file.after_text())?)))
        .collect();
    for file in &configurations {
        one(change, file, &now, findings);
    }
    for file in &change.files {
        lists(file, findings);
        markup(file, findings);
    }
}

fn one(change: &Change, file: &FileChange, now: &[Settings], findings: &mut Findings) {
    if file.before.is_none() && !has_relative(change, &file.path) {
        return;
    }
    let (before, after) =
        (values::read(file.before_path(), file.before_text()), values::read(&file.path, file.after_text()));
    let before = match (before, file.before.is_some()) {
        (Some(value), _) => Settings::of(&value),
        // What could not be read before has nothing to compare with.
        (None, true) => return,
        (None, false) => Settings::default(),
    };
    let after = match (after, file.after.is_some()) {
        (Some(value), _) => Settings::of(&value),
        (None, true) => {
            findings.add(&UNSURE, &file.path, file.after_text(), 0, "this configuration cannot be read any more");
            return;
        }
        (None, false) => Settings::default(),
    };
    let text = file.after_text();
    let mut say = |rule: &ChangeRule, key: &str, message: String| {
        let last = key.rsplit('.').next().unwrap_or(key);
        let line = text.lines().position(|line| line.contains(last)).map_or(0, |at| at + 1);
        findings.add(rule, &file.path, text, line, message);
    };
    let keys: BTreeSet<&String> =
        [&before, &after].iter().flat_map(|settings| settings.scalars.keys().chain(settings.lists.keys())).collect();
    for key in keys {
        let Some(loosens) = direction(&file.path, key) else { continue };
        let (was, is) = (before.scalars.get(key.as_str()), after.scalars.get(key.as_str()));
        match loosens {
            Down | Up | Off | On | Level => {
                if was == is || elsewhere(now, key, was, is, loosens) {
                    continue;
                }
                if let Some(message) = loosened(key, was, is, loosens) {
                    say(if matches!(loosens, Down | Up) { &LOWERED } else { &LOOSENED }, key, message);
                }
            }
            Longer | Shorter => {
                let (old, new) = (items(&before, key), items(&after, key));
                let moved = |item: &String| {
                    now.iter().any(|settings| {
                        settings.lists.iter().any(|(other, list)| last(other) == last(key) && list.contains(item))
                            || settings
                                .scalars
                                .iter()
                                .any(|(other, value)| last(other) == last(key) && value.contains(item.as_str()))
                    })
                };
                if loosens == Longer {
                    for item in new.iter().filter(|item| !old.contains(*item) && !is_foreign(item)) {
                        // A shorter list of what is left out may be written in other words.
                        if old.iter().any(|old| item.starts_with(old.as_str()) && old.len() > 2) {
                            continue;
                        }
                        say(&EXCLUDED, key, format!("{key} now has {item}"));
                    }
                } else if !new.is_empty() || is_gone(key, &after) {
                    let covers = |item: &String| {
                        new.iter().any(|new| {
                            new == "ALL"
                                || !new.is_empty() && item.starts_with(new.as_str())
                                || matches!(new.as_str(), "." | "**/*" | "*")
                        })
                    };
                    for item in old.iter().filter(|item| !new.contains(*item) && !covers(item) && !moved(item)) {
                        say(&EXCLUDED, key, format!("{key} no longer has {item}"));
                    }
                }
            }
            Words => {
                let (old, new) = (items_of_words(&before, key), items_of_words(&after, key));
                if let Some(why) = ci::narrower(&old, &new) {
                    say(&EXCLUDED, key, format!("{key}: {why}"));
                }
            }
        }
    }
    hooks(&file.path, &before, &after, now, &mut say);
}

/// Looks for hooks of `pre-commit` that are gone.
fn hooks(
    path: &str,
    before: &Settings,
    after: &Settings,
    now: &[Settings],
    say: &mut dyn FnMut(&ChangeRule, &str, String),
) {
    if !path.ends_with(".pre-commit-config.yaml") && !path.ends_with(".pre-commit-hooks.yaml") {
        return;
    }
    let ids = |settings: &Settings| -> BTreeSet<String> {
        settings.scalars.iter().filter(|(key, _)| key.ends_with(".id")).map(|(_, id)| id.clone()).collect()
    };
    let kept: BTreeSet<String> = now.iter().flat_map(ids).chain(ids(after)).collect();
    for id in ids(before).difference(&kept) {
        say(&EXCLUDED, id, format!("the hook {id} is gone"));
    }
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

fn is_gone(key: &str, after: &Settings) -> bool {
    // Without a list of its own a checker falls back to what it does by itself, which for these is less.
    matches!(
        last(key).to_ascii_lowercase().as_str(),
        "extend-select" | "extend_select" | "enable" | "enable_error_code" | "select"
    ) && !after.lists.contains_key(key)
}

fn direction(path: &str, key: &str) -> Option<Loosens> {
    let lower = key.to_ascii_lowercase();
    let name = path.rsplit('/').next().unwrap_or(path);
    let parts: Vec<&str> = lower.split('.').collect();
    let last = *parts.last()?;
    let above = parts[..parts.len() - 1].join(".");
    // In `Cargo.toml` it says whether a target is tested; elsewhere it names something.
    if last == "test" && !(name == "Cargo.toml" && matches!(parts.first(), Some(&("lib" | "bin" | "test" | "bench")))) {
        return None;
    }
    // Files to be built or published are no files to be checked.
    if matches!(
        last,
        "include"
            | "exclude"
            | "source"
            | "target"
            | "level"
            | "enable"
            | "ignore"
            | "lines"
            | "functions"
            | "branches"
            | "statements"
            | "threshold"
            | "minimum"
            | "enabled"
            | "branch"
            | "disable"
            | "disabled"
            | "strict"
            | "harness"
            | "doctest"
            | "exclusions"
            | "excludes"
            | "ignores"
            | "select"
    ) && !is_about_checks(name, &above, last)
    {
        return None;
    }
    if LEVELS_BELOW
        .iter()
        .any(|below| above == *below || above.ends_with(&format!(".{below}")) || above.contains(&format!("{below}.")))
        && !matches!(last, "exclude" | "ignore" | "priority" | "check-cfg")
        || parts.len() > 1 && last.starts_with("report") && (name.contains("pyright") || above.contains("pyright"))
        || name.contains("pyright") && last.starts_with("report")
    {
        return Some(if matches!(last, "priority") { return None } else { Level });
    }
    // The files of a rule: `per-file-ignores."tests/*" = […]`.
    if above.ends_with("per-file-ignores") || above.ends_with("per_file_ignores") {
        return Some(Longer);
    }
    KEYS.iter()
        .find(|(pattern, _)| match pattern.split_once('*') {
            Some((start, end)) => {
                last.starts_with(start) && last.ends_with(end) && last.len() >= start.len() + end.len()
            }
            None => last == *pattern || pattern.contains('.') && lower.ends_with(pattern),
        })
        .map(|(_, loosens)| *loosens)
}

/// Returns whether a setting with a name of many meanings is one of a checker.
fn is_about_checks(name: &str, above: &str, last: &str) -> bool {
    let tools = [
        "coverage",
        "report",
        "run",
        "ruff",
        "lint",
        "mypy",
        "pylint",
        "flake8",
        "bandit",
        "black",
        "pyright",
        "pytest",
        "jest",
        "vitest",
        "nyc",
        "c8",
        "threshold",
        "codecov",
        "phpstan",
        "parameters",
        "issues",
        "linters",
        "messages",
        "interrogate",
        "isort",
        "semgrep",
        "sonar",
        "rules",
        "advisories",
        "bans",
        "licenses",
        "xo",
        "biome",
        "linter",
        "test",
        "project",
        "patch",
        "status",
        "allcops",
        "formatter",
        "eslint",
    ];
    let files = [
        ".coveragerc",
        ".flake8",
        "ruff.toml",
        ".ruff.toml",
        "mypy.ini",
        ".golangci",
        "phpstan",
        "codecov",
        ".codecov",
        ".nycrc",
        ".c8rc",
        "jest.config",
        "vitest.config",
        "vite.config",
        "biome.json",
        "pyrightconfig.json",
        ".pylintrc",
        "pylintrc",
        "tsconfig",
        ".eslintrc",
        "eslint.config",
        "deny.toml",
        "sonar-project",
        ".bandit",
        ".rubocop",
        ".markdownlint",
        ".yamllint",
        "karma.conf",
        ".swiftlint",
        "detekt",
        "clippy.toml",
    ];
    if name.starts_with("tsconfig") {
        // What is compiled is what is checked, but emitting is another matter.
        return matches!(last, "strict" | "exclude" | "include");
    }
    if name == "Cargo.toml" {
        return above.contains("lints") || matches!(last, "harness" | "doctest");
    }
    files.iter().any(|file| name.starts_with(file))
        || tools.iter().any(|tool| above.split('.').any(|part| part.contains(tool)))
}

fn loosened(key: &str, was: Option<&String>, is: Option<&String>, loosens: Loosens) -> Option<String> {
    let shown = |value: Option<&String>| value.map_or("nothing", String::as_str).to_owned();
    let message = format!("{key} went from {} to {}", shown(was), shown(is));
    let number = |value: &String| value.trim().trim_end_matches('%').parse::<f64>().ok();
    let truth = |value: &String| match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" | "null" | "none" => Some(false),
        _ => None,
    };
    let looser = match loosens {
        Down => match (was.and_then(number), is.map(number)) {
            (Some(was), Some(Some(is))) => is < was,
            (Some(was), None) => was > 0.0,
            (Some(_), Some(None)) => !is.is_some_and(|is| matches!(is.as_str(), "auto" | "max")),
            (None, _) => false,
        },
        Up => match (was.and_then(number), is.map(number)) {
            (Some(was), Some(Some(is))) => is > was,
            (Some(_), None) => true,
            _ => false,
        },
        Off => {
            was.and_then(truth) == Some(true) && is.and_then(truth) != Some(true)
                || was.is_none() && is.and_then(truth) == Some(false) && last(key) != "branch" && last(key) != "strict"
        }
        On => was.and_then(truth) != Some(true) && is.and_then(truth) == Some(true),
        Level => {
            let (before, after) = (was.and_then(|was| level(was)), is.and_then(|is| level(is)));
            match (before, after) {
                (Some(before), Some(after)) => after < before,
                // A rule that is no longer mentioned is as the defaults have it.
                (Some(before), None) => before >= 2 && is.is_none(),
                (None, Some(after)) => was.is_none() && after == 0,
                (None, None) => false,
            }
        }
        Longer | Shorter | Words => false,
    };
    looser.then_some(message)
}

fn level(value: &str) -> Option<u8> {
    Some(match value.to_ascii_lowercase().as_str() {
        "off" | "0" | "allow" | "none" | "false" | "ignore" | "skip" | "silent" | "disable" => 0,
        "warn" | "warning" | "1" | "info" | "information" | "basic" | "expect" => 1,
        "error" | "2" | "deny" | "true" | "standard" | "normal" | "on" => 2,
        "forbid" | "strict" | "all" => 3,
        _ => return None,
    })
}

/// Returns whether another file of the change has the setting, and demands as much.
fn elsewhere(now: &[Settings], key: &str, was: Option<&String>, is: Option<&String>, loosens: Loosens) -> bool {
    is.is_none()
        && now.iter().any(|settings| {
            settings
                .scalars
                .iter()
                .any(|(other, value)| last(other) == last(key) && loosened(key, was, Some(value), loosens).is_none())
        })
}

fn items(settings: &Settings, key: &str) -> Vec<String> {
    let mut items: Vec<String> = settings.lists.get(key).cloned().unwrap_or_default();
    if items.is_empty()
        && let Some(text) = settings.scalars.get(key)
    {
        items = text
            .split(['\n', ','])
            .flat_map(|line| {
                line.split_once(" #")
                    .map_or(line, |(line, _)| line)
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
                    .split(';')
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .map(|item| item.trim().to_owned())
            .filter(|item| !item.is_empty() && item != "null")
            .collect();
    }
    items
}

fn items_of_words(settings: &Settings, key: &str) -> String {
    settings
        .lists
        .get(key)
        .map(|list| list.join(" "))
        .filter(|text| !text.is_empty())
        .or_else(|| settings.scalars.get(key).cloned())
        .unwrap_or_default()
}

/// Returns whether `item` names what is generated or foreign.
#[must_use]
pub fn is_foreign(item: &str) -> bool {
    FOREIGN.iter().any(|word| item.contains(word))
}

/// Returns whether `path` sets what a checker demands.
fn is_configuration(path: &str) -> bool {
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
fn has_relative(change: &Change, path: &str) -> bool {
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

/// Files whose every line leaves something out.
fn lists(file: &FileChange, findings: &mut Findings) {
    let name = file.name();
    let ignores = matches!(
        name,
        ".eslintignore"
            | ".prettierignore"
            | ".stylelintignore"
            | ".semgrepignore"
            | ".ruffignore"
            | ".trivyignore"
            | ".gitleaksignore"
            | ".bandit-ignore"
            | ".nycignore"
            | ".coverageignore"
            | ".hadolintignore"
            | ".markdownlintignore"
            | ".snyk"
            | ".trivyignore.yaml"
    );
    let records = matches!(
        name,
        ".secrets.baseline"
            | "eslint-suppressions.json"
            | ".rubocop_todo.yml"
            | "phpstan-baseline.neon"
            | "psalm-baseline.xml"
            | "detekt-baseline.xml"
            | "lint-baseline.xml"
            | ".mypy-baseline.txt"
            | "mypy-baseline.txt"
            | ".basedpyright/baseline.json"
            | ".betterer.results"
            | ".flake8-baseline"
            | "gosec-baseline.json"
    ) || file.path.ends_with(".basedpyright/baseline.json");
    if !ignores && !records {
        return;
    }
    let meant = |text: &str| -> Vec<String> {
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with(['#', ';']) && !line.starts_with("//"))
            .map(str::to_owned)
            .collect()
    };
    let (old, new) = (meant(file.before_text()), meant(file.after_text()));
    if records {
        if new.len() > old.len() {
            findings.add(
                &BASELINE,
                &file.path,
                file.after_text(),
                0,
                format!("{} lines of known findings are now {}", old.len(), new.len()),
            );
        }
        return;
    }
    for line in new.iter().filter(|line| !old.contains(line) && !is_foreign(line) && !line.starts_with('!')) {
        let at = file.after_text().lines().position(|text| text.trim() == line).map_or(0, |at| at + 1);
        findings.add(&EXCLUDED, &file.path, file.after_text(), at, format!("{name} now leaves out {line}"));
    }
}

/// Thresholds and switches in files of Maven, Gradle and MSBuild.
fn markup(file: &FileChange, findings: &mut Findings) {
    let name = file.name();
    if !(name == "pom.xml"
        || name.ends_with(".gradle")
        || name.ends_with(".gradle.kts")
        || name.ends_with(".csproj")
        || name.ends_with(".props"))
    {
        return;
    }
    let read = |text: &str| -> Vec<(String, String)> {
        text.lines()
            .filter_map(|line| {
                let line = line.trim();
                let (key, value) = match line.strip_prefix('<') {
                    Some(rest) => {
                        let (key, rest) = rest.split_once('>')?;
                        (key, rest.split('<').next()?)
                    }
                    None => line.split_once('=').map(|(key, value)| (key.trim(), value.trim()))?,
                };
                let key = key.rsplit(['.', ' ']).next()?.to_ascii_lowercase();
                let value = value
                    .trim_matches(['"', '\'', ' ', ';'])
                    .trim_end_matches(".toBigDecimal()")
                    .trim_matches('"')
                    .to_owned();
                matches!(
                    key.as_str(),
                    "minimum"
                        | "treatwarningsaserrors"
                        | "testfailureignore"
                        | "skiptests"
                        | "ignorefailures"
                        | "failonviolation"
                        | "failonerror"
                        | "nowarn"
                        | "threshold"
                        | "isignorefailures"
                        | "enabled"
                        | "allwarningsaserrors"
                )
                .then_some((key, value))
            })
            .collect()
    };
    let (old, new) = (read(file.before_text()), read(file.after_text()));
    let say = |key: &str, message: String, findings: &mut Findings| {
        let line =
            file.after_text().lines().position(|line| line.to_ascii_lowercase().contains(key)).map_or(0, |at| at + 1);
        findings.add(&LOOSENED, &file.path, file.after_text(), line, message);
    };
    for key in [
        "minimum",
        "threshold",
        "treatwarningsaserrors",
        "allwarningsaserrors",
        "failonviolation",
        "failonerror",
        "testfailureignore",
        "skiptests",
        "ignorefailures",
        "isignorefailures",
        "nowarn",
    ] {
        let values = |list: &[(String, String)]| -> Vec<String> {
            list.iter().filter(|(name, _)| name == key).map(|(_, value)| value.clone()).collect()
        };
        let (was, is) = (values(&old), values(&new));
        if was == is || key == "threshold" && name.ends_with(".props") {
            continue;
        }
        let loosens = match key {
            "minimum" => Down,
            "treatwarningsaserrors" | "allwarningsaserrors" | "failonviolation" | "failonerror" => Off,
            "nowarn" => Longer,
            "threshold" => continue,
            _ => On,
        };
        for at in 0..was.len().max(is.len()) {
            let (before, after) = (was.get(at), is.get(at));
            let message = if loosens == Longer {
                let codes = |value: Option<&String>| -> BTreeSet<String> {
                    value
                        .map(|value| {
                            value
                                .split([';', ','])
                                .map(|code| code.trim().to_owned())
                                .filter(|code| !code.is_empty() && !code.starts_with("$("))
                                .collect()
                        })
                        .unwrap_or_default()
                };
                codes(after).difference(&codes(before)).next().map(|code| format!("{key} now has {code}"))
            } else {
                loosened(key, before, after, loosens)
            };
            if let Some(message) = message {
                say(key, message, findings);
            }
        }
    }
}
