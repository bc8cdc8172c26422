//! Which settings checkers have, and which way each gets looser.

use Loosens::{Down, Level, Longer, Off, On, Shorter, Up, Words};

/// Which way a setting gets looser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loosens {
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

pub(super) fn direction(path: &str, key: &str) -> Option<Loosens> {
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
