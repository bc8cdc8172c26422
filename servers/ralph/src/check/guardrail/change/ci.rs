//! What continuous integration, build targets and hooks run, and whether it can still fail.

use serde_json::Value;

use super::values;
use super::{Change, ChangeRule, FileChange, Findings, rule};
use crate::check::guardrail::Severity::Error;

const REMOVED: ChangeRule = rule("ci_step_removed", Error, "bring the step back, and make it pass");
const SOFTENED: ChangeRule = rule("ci_failure_ignored", Error, "let the step fail, and correct what it reports");
const NARROWED: ChangeRule = rule("ci_narrowed", Error, "let it run on all that it ran on");

/// Begins the reason that only a part is looked at.
const LOOKS_AT: &str = "it looks at ";

/// Deepest value of a workflow that is looked into.
const DEPTH_MAX: usize = 40;

/// Programs that check something, and the words of those that only sometimes do.
const CHECKERS: &[&str] = &[
    "pytest",
    "tox",
    "nox",
    "ruff",
    "flake8",
    "mypy",
    "pyright",
    "basedpyright",
    "pylint",
    "bandit",
    "coverage",
    "unittest",
    "jest",
    "vitest",
    "mocha",
    "eslint",
    "tsc",
    "biome",
    "oxlint",
    "playwright",
    "cypress",
    "golangci-lint",
    "staticcheck",
    "rspec",
    "rubocop",
    "phpunit",
    "phpstan",
    "psalm",
    "ctest",
    "shellcheck",
    "semgrep",
    "trivy",
    "gitleaks",
    "codecov",
    "pre-commit",
    "actionlint",
    "yamllint",
    "hadolint",
    "clippy",
    "nextest",
    "deny",
    "sonar-scanner",
    "detekt",
    "ktlint",
    "swiftlint",
    "markdownlint",
    "stylelint",
    "codeql",
    "zizmor",
    "interrogate",
    "vulture",
    "pip-audit",
    "govulncheck",
    "gosec",
    "trufflehog",
    "safety",
    "ava",
    "tap",
    "deno",
    "bats",
    "ty",
    "pyrefly",
    "cargo-audit",
    "miri",
    "mutmut",
    "stryker",
];

const CHECKING_WORDS: &[&str] = &[
    "test",
    "tests",
    "lint",
    "check",
    "checks",
    "typecheck",
    "type-check",
    "verify",
    "audit",
    "vet",
    "coverage",
    "validate",
    "fmt",
    "scan",
    "e2e",
    "spec",
];

/// One command, and where it runs.
#[derive(Clone, Debug, PartialEq)]
struct Command {
    text: String,
    /// Names of jobs and steps around it, for messages.
    place: String,
    /// Why its failure does not count.
    ignored: Option<&'static str>,
}

/// What one file runs.
#[derive(Clone, Debug, Default)]
struct Run {
    commands: Vec<Command>,
    /// On what it runs: `on.push`, `on.pull_request`.
    triggers: Vec<String>,
    /// What it does not run on.
    exceptions: Vec<String>,
    /// Whether a failure before a pipe counts: GitHub's `shell: bash` sees to it, its usual shell does not.
    keeps_failures: bool,
}

/// Looks for checks that no longer run, or can no longer fail.
pub fn check(change: &Change, findings: &mut Findings) {
    let runs: Vec<(&FileChange, Run, Run)> = change
        .files
        .iter()
        .filter(|file| is_ci(file.before_path()) || is_ci(&file.path))
        .filter_map(|file| {
            let before = read(file.before_path(), file.before_text())?;
            match read(&file.path, file.after_text()) {
                Some(after) => Some((file, before, after)),
                None => {
                    findings.unknown.push((file.path.clone(), "this cannot be read any more".to_owned()));
                    None
                }
            }
        })
        .collect();
    let all: Vec<&Command> = runs.iter().flat_map(|(_, _, after)| &after.commands).collect();
    let old: Vec<&Command> = runs.iter().flat_map(|(_, before, _)| &before.commands).collect();
    // Tests that were split over several steps are still all run.
    let count_of = |list: &[&Command], name: &str| list.iter().filter(|other| tool(&other.text) == name).count();
    let is_split = |command: &Command| count_of(&all, &tool(&command.text)) > count_of(&old, &tool(&command.text));
    let less = |command: &Command, now: &Command| {
        narrower(&command.text, &now.text).filter(|why| !why.starts_with(LOOKS_AT) || !is_split(command))
    };
    for (file, before, after) in &runs {
        let text = file.after_text();
        let line_of = |wanted: &str| {
            text.lines().position(|line| !wanted.is_empty() && line.contains(wanted)).map_or(0, |at| at + 1)
        };
        for command in before.commands.iter().filter(|command| is_check(&command.text) && ignored(command).is_none()) {
            let core = core(&command.text);
            let same: Vec<&&Command> = all.iter().filter(|now| self::core(&now.text) == core).collect();
            if let Some(now) = same.iter().find(|now| ignored(now).is_none()) {
                if let Some(why) = less(command, now) {
                    findings.add(&NARROWED, &file.path, text, line_of(&now.text), why);
                }
                continue;
            }
            if let Some(now) = same.first() {
                let why = ignored(now).unwrap_or("its failure does not count");
                findings.add(
                    &SOFTENED,
                    &file.path,
                    text,
                    line_of(now.text.lines().next().unwrap_or_default()),
                    format!("`{}`: {why}", shortened(&now.text)),
                );
                continue;
            }
            // Written otherwise, it is still run by the same program.
            let tool = tool(&command.text);
            let count = |list: &[&Command]| {
                list.iter().filter(|other| self::tool(&other.text) == tool && ignored(other).is_none()).count()
            };
            let related =
                all.iter().find(|now| self::tool(&now.text) == tool && !old.iter().any(|old| old.text == now.text));
            match related {
                Some(now) if ignored(now).is_none() => {
                    if let Some(why) = less(command, now) {
                        findings.add(&NARROWED, &file.path, text, line_of(&now.text), why);
                    }
                }
                Some(now) => {
                    let why = ignored(now).unwrap_or("its failure does not count");
                    findings.add(
                        &SOFTENED,
                        &file.path,
                        text,
                        line_of(&now.text),
                        format!("`{}`: {why}", shortened(&now.text)),
                    );
                }
                None if count(&all) >= count(&old) && count(&all) > 0 => {}
                None => {
                    findings.add(
                        &REMOVED,
                        &file.path,
                        text,
                        0,
                        format!("{} no longer runs `{}`", command.place, shortened(&command.text)),
                    );
                }
            }
        }
        if after.commands.is_empty() && file.after.is_none() {
            continue;
        }
        for trigger in before.triggers.iter().filter(|trigger| !after.triggers.contains(trigger)) {
            findings.add(&NARROWED, &file.path, text, 0, format!("it no longer runs on {trigger}"));
        }
        for exception in after.exceptions.iter().filter(|exception| !before.exceptions.contains(exception)) {
            // Documents need no tests.
            let is_prose = [".md", "docs/", ".rst", "LICENSE", ".txt"].iter().any(|word| exception.contains(word));
            if !is_prose && file.before.is_some() && before.commands.iter().any(|command| is_check(&command.text)) {
                findings.add(
                    &NARROWED,
                    &file.path,
                    text,
                    line_of(exception.rsplit(' ').next().unwrap_or_default()),
                    format!("it no longer runs on all changes: {exception}"),
                );
            }
        }
    }
}

/// Returns why the command `new` looks at less than `old`.
#[must_use]
pub fn narrower(old: &str, new: &str) -> Option<String> {
    let words = |text: &str| -> Vec<String> {
        text.replace('=', " ").split_whitespace().map(|word| word.trim_matches(['"', '\'', '`']).to_owned()).collect()
    };
    let (before, after) = (words(old), words(new));
    for (at, word) in after.iter().enumerate() {
        let next = after.get(at + 1).map(String::as_str).unwrap_or_default();
        let follows = |list: &[String]| list.windows(2).any(|pair| pair[0] == *word && pair[1] == next);
        let leaves_out = match word.as_str() {
            "--deselect"
            | "--ignore"
            | "--ignore-glob"
            | "--testPathIgnorePatterns"
            | "--exclude"
            | "--skip"
            | "--ignore-pattern"
            | "--extend-ignore" => !follows(&before),
            "-k" | "-m" => next.starts_with("not") && !follows(&before),
            "--no-cov" | "--exit-zero" | "--passWithNoTests" | "--lib" | "--no-run" | "--cap-lints" | "--no-doc"
            | "--onlyChanged" | "--quiet-failures" | "--allow-warnings" => !before.contains(word),
            "-p" => next.starts_with("no:") && !follows(&before),
            "ignore" | "-Awarnings" | "-A" => !before.contains(word) && !old.is_empty() && old.contains("error"),
            _ => false,
        };
        if leaves_out && !super::settings::is_foreign(next) {
            return Some(format!("`{word} {next}` leaves something out"));
        }
    }
    for path in before.iter().filter(|word| is_path(word) && !after.contains(word)) {
        let below = format!("{}/", path.trim_end_matches('/'));
        if let Some(part) = after.iter().find(|word| word.starts_with(&below) && !before.contains(word)) {
            return Some(format!("{LOOKS_AT}{part} and no longer at all of {path}"));
        }
    }
    for (at, word) in before.iter().enumerate() {
        let next = before.get(at + 1).map(String::as_str).unwrap_or_default();
        let demanded = matches!(
            word.as_str(),
            "--strict"
                | "--strict-markers"
                | "--strict-config"
                | "--cov-fail-under"
                | "--doctest-modules"
                | "-Werror"
                | "--check"
                | "--all-targets"
                | "--workspace"
                | "--deny-warnings"
                | "--error-for-skips"
                | "--fail-under"
                | "-Dwarnings"
        ) || matches!(word.as_str(), "-W" | "-D") && matches!(next, "error" | "warnings");
        let is_replaced = word == "--all-targets" && after.iter().any(|word| word == "--tests");
        if demanded && !is_replaced && !new.is_empty() && !after.contains(word) {
            return Some(format!("`{word}` is no longer demanded"));
        }
        if matches!(word.as_str(), "--cov-fail-under" | "--fail-under")
            && let Some(now) = after.iter().position(|other| other == word).and_then(|at| after.get(at + 1))
            && let (Ok(was), Ok(is)) = (next.parse::<f64>(), now.parse::<f64>())
            && is < was
        {
            return Some(format!("{word} went from {was} to {is}"));
        }
        if word == "--max-warnings"
            && let Some(now) = after.iter().position(|other| other == word).and_then(|at| after.get(at + 1))
            && let (Ok(was), Ok(is)) = (next.parse::<i64>(), now.parse::<i64>())
            && (is > was && was >= 0 || is < 0)
        {
            return Some(format!("--max-warnings went from {was} to {is}"));
        }
    }
    None
}

fn is_path(word: &str) -> bool {
    !word.starts_with('-') && (word.contains('/') || matches!(word, "test" | "tests" | "src" | "spec"))
}

fn is_ci(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.contains(".github/workflows/") && (name.ends_with(".yml") || name.ends_with(".yaml"))
        || path.contains(".github/actions/")
        || path.starts_with(".husky/")
        || path.contains(".githooks/")
        || path.starts_with(".ci/")
        || path.starts_with("ci/")
        || path.starts_with(".circleci/")
        || path.starts_with(".buildkite/")
        || matches!(
            name,
            ".gitlab-ci.yml"
                | "azure-pipelines.yml"
                | ".travis.yml"
                | "bitbucket-pipelines.yml"
                | ".drone.yml"
                | "Makefile"
                | "makefile"
                | "GNUmakefile"
                | "justfile"
                | "Justfile"
                | "Taskfile.yml"
                | "Taskfile.yaml"
                | "package.json"
                | "lefthook.yml"
                | "tox.ini"
                | "Jenkinsfile"
                | "noxfile.py"
                | "appveyor.yml"
                | "cloudbuild.yaml"
                | ".cirrus.yml"
                | "composer.json"
                | "Rakefile"
                | "turbo.json"
        )
        || (path.starts_with("scripts/") || path.starts_with("bin/") || path.starts_with("script/"))
            && name.ends_with(".sh")
            && CHECKING_WORDS.iter().any(|word| name.contains(word))
}

fn read(path: &str, text: &str) -> Option<Run> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let mut run = Run::default();
    // A workflow under another name is none.
    if text.is_empty() || !is_ci(path) {
        return Some(run);
    }
    if name.ends_with(".yml") || name.ends_with(".yaml") {
        let value = values::yaml(text)?;
        run.keeps_failures = text.contains("shell: bash") && !text.contains("shell: bash {0}");
        triggers(&value, &mut run);
        yaml(&value, "", None, &mut run, 0);
    } else if matches!(name, "package.json" | "composer.json") {
        let value = values::read(path, text)?;
        if let Some(scripts) = value.get("scripts").and_then(Value::as_object) {
            for (key, script) in scripts {
                for part in script.as_str().unwrap_or_default().split("&&") {
                    push(&mut run, part, key, None);
                }
                // A script that says nothing any more is a check that is gone.
                if CHECKING_WORDS.iter().any(|word| key.contains(word)) {
                    run.commands.push(Command { text: format!("script {key}"), place: key.clone(), ignored: None });
                }
            }
        }
    } else {
        lines(name, text, &mut run);
    }
    Some(run)
}

/// Reads recipes of make and scripts, line by line.
fn lines(name: &str, text: &str, run: &mut Run) {
    let lower = name.to_ascii_lowercase();
    let is_make = lower.contains("makefile") || lower == "justfile";
    let (mut place, mut soft) = (name.to_owned(), false);
    // How deep in conditions and loops a line stands, and whether the script ended before it.
    let (mut depth, mut ended) = (0_usize, false);
    let keeps_failures = run.keeps_failures || text.contains("pipefail");
    let mut joined = String::new();
    for line in text.lines() {
        if let Some(head) = line.trim_end().strip_suffix('\\') {
            joined.push_str(head);
            joined.push(' ');
            continue;
        }
        let whole = format!("{joined}{line}");
        joined.clear();
        let trimmed = whole.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if is_make && !whole.starts_with(['\t', ' ']) {
            place = trimmed.split(':').next().unwrap_or_default().to_owned();
            continue;
        }
        match trimmed.split([' ', ';']).next().unwrap_or_default() {
            "if" | "for" | "while" | "until" | "case" if !trimmed.ends_with("fi") && !trimmed.ends_with("done") => {
                depth += 1;
            }
            "fi" | "done" | "esac" | "}" => depth = depth.saturating_sub(1),
            _ if trimmed.ends_with('{') => depth += 1,
            _ => {}
        }
        match trimmed {
            "exit" | "exit 0" if depth == 0 && !is_make => ended = true,
            "set +e" | "set +o errexit" => soft = true,
            "set -e" | "set -o errexit" => soft = false,
            _ => {}
        }
        let bare = trimmed.trim_start_matches('@');
        let ignored = if is_make && bare.starts_with('-') || name == "tox.ini" && bare.starts_with("- ") {
            Some("a failure is ignored because of the leading `-`")
        } else if soft {
            Some("`set +e` lets the script go on")
        } else if ended {
            Some("the script ends before it")
        } else if !keeps_failures && is_piped(bare) {
            Some("a pipe drops its failure")
        } else {
            None
        };
        let bare = bare.trim_start_matches(['-', '@']).trim();
        let bare = if name == "tox.ini" {
            bare.strip_prefix("commands").map_or(bare, |rest| rest.trim_start_matches([' ', '=']))
        } else {
            bare
        };
        for part in bare.split("&&") {
            push(run, part, &place, ignored);
        }
    }
}

/// Returns whether the failure of a command goes lost in one that only passes text on.
fn is_piped(text: &str) -> bool {
    let Some((_, next)) = text.rsplit_once(" | ") else { return false };
    matches!(
        next.split_whitespace().next(),
        Some("tee" | "cat" | "head" | "tail" | "sed" | "awk" | "less" | "sort" | "ts")
    )
}

fn push(run: &mut Run, text: &str, place: &str, ignored: Option<&'static str>) {
    let text = text.trim();
    if !text.is_empty() {
        run.commands.push(Command {
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
            place: place.to_owned(),
            ignored,
        });
    }
}

fn triggers(value: &Value, run: &mut Run) {
    let Some(on) = value.get("on").or_else(|| value.get("true")) else { return };
    let counts =
        |name: &str| matches!(name, "push" | "pull_request" | "pull_request_target" | "merge_group" | "workflow_call");
    match on {
        Value::String(name) => run.triggers.push(name.clone()),
        Value::Array(names) => run
            .triggers
            .extend(names.iter().filter_map(|name| name.as_str()).filter(|name| counts(name)).map(str::to_owned)),
        Value::Object(names) => {
            for (name, how) in names.iter().filter(|(name, _)| counts(name)) {
                run.triggers.push(name.clone());
                for key in ["branches-ignore", "paths-ignore", "paths"] {
                    for item in how.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
                        // Paths that are added to a list widen it.
                        if key != "paths" {
                            run.exceptions.push(format!("{name} {key} {item}"));
                        }
                    }
                    if key == "paths" && how.get(key).is_some() {
                        run.exceptions.push(format!("{name} {key}"));
                    }
                }
            }
        }
        _ => {}
    }
}

fn yaml(value: &Value, place: &str, ignored: Option<&'static str>, run: &mut Run, depth: usize) {
    if depth > DEPTH_MAX {
        return;
    }
    match value {
        Value::Array(items) => {
            for item in items {
                yaml(item, place, ignored, run, depth + 1);
            }
        }
        Value::Object(object) => {
            let ignored = ignored.or_else(|| softened(value));
            let name = object.get("name").and_then(Value::as_str);
            let place = name.map_or_else(|| place.to_owned(), str::to_owned);
            for (key, inner) in object {
                match key.as_str() {
                    "run" | "script" | "before_script" | "after_script" | "commands" | "command" | "entry" | "cmd"
                    | "cmds" | "bash" | "pwsh" | "install" => commands(inner, &place, ignored, run),
                    "uses" => {
                        if let Some(action) = inner.as_str() {
                            let action = action.split('@').next().unwrap_or(action);
                            run.commands.push(Command {
                                text: format!("uses {action}"),
                                place: place.clone(),
                                ignored,
                            });
                        }
                    }
                    _ => yaml(inner, if place.is_empty() || depth < 3 { key } else { &place }, ignored, run, depth + 1),
                }
            }
        }
        _ => {}
    }
}

/// Returns why what stands in a job or a step cannot fail.
fn softened(value: &Value) -> Option<&'static str> {
    let text = |key: &str| {
        value.get(key).map(|value| match value {
            Value::String(text) => text.trim().to_owned(),
            other => other.to_string(),
        })
    };
    let holds = |text: &str| text != "false" && text != "null";
    if text("continue-on-error").is_some_and(|text| holds(&text))
        || text("continueOnError").is_some_and(|text| holds(&text))
    {
        return Some("`continue-on-error` lets the job go on");
    }
    if value.get("allow_failure").is_some_and(|value| *value != Value::Bool(false)) {
        return Some("`allow_failure` lets the pipeline go on");
    }
    let never = |text: String| {
        matches!(text.replace([' ', '$', '{', '}'], "").as_str(), "false" | "0" | "never()" | "!true" | "1==0" | "''")
    };
    if text("if").is_some_and(never)
        || text("enabled").is_some_and(|text| text == "false")
        || text("condition").is_some_and(|text| text == "false")
    {
        return Some("its condition never holds");
    }
    if text("when").is_some_and(|text| matches!(text.as_str(), "manual" | "never")) {
        return Some("it runs only by hand");
    }
    if text("shell").is_some_and(|shell| shell == "bash {0}" || shell.contains("+e")) {
        return Some("its shell goes on after a failure");
    }
    None
}

fn commands(value: &Value, place: &str, ignored: Option<&'static str>, run: &mut Run) {
    match value {
        Value::String(text) => {
            let mut inner = Run { keeps_failures: run.keeps_failures, ..Run::default() };
            lines(place, text, &mut inner);
            run.commands.extend(inner.commands.into_iter().map(|command| Command {
                ignored: command.ignored.or(ignored),
                place: place.to_owned(),
                ..command
            }));
        }
        Value::Array(items) => items.iter().for_each(|item| commands(item, place, ignored, run)),
        Value::Object(_) => yaml(value, place, ignored, run, 1),
        _ => {}
    }
}

/// Returns why the failure of a command does not count.
fn ignored(command: &Command) -> Option<&'static str> {
    if command.ignored.is_some() {
        return command.ignored;
    }
    let text = command.text.trim();
    let flat = text.replace("  ", " ");
    for (word, why) in [
        ("|| true", "`|| true` drops its failure"),
        ("||true", "`|| true` drops its failure"),
        ("|| :", "`|| :` drops its failure"),
        ("|| exit 0", "`|| exit 0` drops its failure"),
        ("|| echo", "`|| echo` drops its failure"),
        ("|| printf", "`|| printf` drops its failure"),
        ("; true", "`; true` drops its failure"),
        ("; exit 0", "`; exit 0` drops its failure"),
        ("|| /bin/true", "`|| true` drops its failure"),
        ("--exit-zero", "`--exit-zero` drops what it finds"),
        ("--issues-exit-code=0", "it exits with 0 whatever it finds"),
        ("-DskipTests", "`-DskipTests` leaves the tests out"),
        ("-Dmaven.test.skip", "the tests are left out"),
        ("--fail-never", "`--fail-never` drops its failure"),
        ("-Dmaven.test.failure.ignore", "a failure of the tests is ignored"),
        ("--passWithNoTests", "it passes without a test"),
        ("--if-present", "it passes where the script is not there"),
        ("--no-error-on", "what it cannot find does not count"),
        (" -x test", "`-x test` leaves the tests out"),
        ("|| (", "its failure is dropped"),
        ("--no-fail", "its failure is dropped"),
        ("--exit-code 0", "it exits with 0 whatever it finds"),
    ] {
        if flat.contains(word) && !flat.contains("exit 1") {
            return Some(why);
        }
    }
    let first = text.split_whitespace().next().unwrap_or_default();
    if matches!(first, "echo" | "printf" | ":" | "true") {
        return Some("it is only printed");
    }
    if text.ends_with('&') && !text.ends_with("&&") {
        return Some("nobody waits for it");
    }
    None
}

/// Returns a command without what makes its failure not count.
fn core(text: &str) -> String {
    let mut text = text.trim();
    for mark in ["||", "; true", "; exit 0", " &", " | tee", " | cat", " | head", " | tail", " | sed"] {
        text = text.split(mark).next().unwrap_or(text).trim();
    }
    let text = text.strip_prefix("echo ").unwrap_or(text).trim_matches(['"', '\'']);
    text.split_whitespace()
        .filter(|word| {
            !matches!(
                *word,
                "--exit-zero"
                    | "--passWithNoTests"
                    | "--if-present"
                    | "-DskipTests"
                    | "--issues-exit-code=0"
                    | "--no-fail"
                    | "--fail-never"
            ) && !word.starts_with("-Dmaven.test.")
        })
        .collect::<Vec<_>>()
        .join(" ")
        .trim_end_matches(" -x test")
        .to_owned()
}

/// Returns the program that a command runs, with what it is asked to do.
fn tool(text: &str) -> String {
    let words: Vec<&str> = text
        .split_whitespace()
        .filter(|word| !word.contains('=') && !word.starts_with('-') && !word.starts_with('$'))
        .collect();
    let is_checker = |word: &&str| CHECKERS.contains(&word.rsplit('/').next().unwrap_or(word));
    if let Some(found) = words.iter().copied().find(is_checker) {
        return found.rsplit('/').next().unwrap_or(found).to_owned();
    }
    let checking = words.iter().copied().find(|word| {
        CHECKING_WORDS.iter().any(|check| word.split([':', '-', '_', '/', '.']).any(|part| part == *check))
    });
    checking.map_or_else(
        || words.iter().take(2).copied().collect::<Vec<_>>().join(" "),
        |word| word.split([':']).next().unwrap_or(word).to_owned(),
    )
}

fn is_check(text: &str) -> bool {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || matches!(c, ';' | '(' | ')'))
        .filter(|word| !word.is_empty())
        .collect();
    // What is installed, or printed, is not run.
    if words.first().is_some_and(|first| {
        matches!(
            *first,
            "echo"
                | "printf"
                | "cd"
                | "mkdir"
                | "export"
                | "rm"
                | "cp"
                | "cat"
                | "apt-get"
                | "brew"
                | "curl"
                | "if"
                | "fi"
                | "else"
                | "then"
                | "for"
                | "done"
        )
    }) || words.iter().any(|word| matches!(*word, "install" | "add" | "sync")) && !words.contains(&"&&")
    {
        return false;
    }
    words.iter().any(|word| {
        let name = word.rsplit('/').next().unwrap_or(word);
        CHECKERS.contains(&name)
            || CHECKING_WORDS.iter().any(|check| name.split([':', '-', '_', '.']).any(|part| part == *check))
            || word.contains("codecov")
            || word.contains("codeql")
            || word.contains("semgrep")
            || word.contains("gitleaks")
            || word.contains("golangci")
    })
}

fn shortened(text: &str) -> String {
    let cut = text.floor_char_boundary(100);
    if cut < text.len() { format!("{}…", &text[..cut]) } else { text.to_owned() }
}
